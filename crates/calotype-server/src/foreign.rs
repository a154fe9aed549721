//! Objects that lie elsewhere, such as in another region or tenancy: read by URL, in ranges.
//!
//! Only hosts that the administrator has named are asked, by HTTPS and without following redirects: whoever may
//! import must not be able to have the region look into its own network.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use calotype_api::error::ApiError;
use calotype_disk::Source;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, RANGE};
use reqwest::{Certificate, Client, Response, Url};
use tokio::runtime::Handle;

use crate::config::ImageConfig;

/// What is asked for at once.
const PIECE_BYTES: u64 = 256 << 10;
/// Pieces that are in memory, or on their way.
const PIECES_KEPT: usize = 16;
/// Pieces that are asked for ahead of who reads in order.
const PIECES_AHEAD: u64 = 8;
/// How long a host may take to be connected to, and for one answer.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);
/// How often a piece is asked for, and the pause after the first time, which doubles.
const ATTEMPTS_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);

/// Why an object that lies elsewhere cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ForeignError {
    /// It may not be asked for.
    #[error("{0}")]
    Refused(String),
    /// It is not there, or the URL is not good for it.
    #[error("the object is not there, or its URL is not good for it (status {0})")]
    NotThere(StatusCode),
    /// It was written anew since it was first looked at.
    #[error("the object was written anew while it was read")]
    Changed,
    /// Its host does not answer as it should. May pass.
    #[error("its host {0}")]
    Host(String),
}

impl ForeignError {
    /// Whether it is worth to try again.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Host(_))
    }
}

/// An object that lies elsewhere. Every byte that it gives is of the same version of it.
pub struct ForeignObject {
    fetcher: Fetcher,
    size_bytes: u64,
    runtime: Handle,
    pieces: Mutex<Pieces>,
}

#[derive(Clone)]
struct Fetcher {
    client: Client,
    url: Url,
    etag: String,
}

type Piece = Shared<BoxFuture<'static, Result<Bytes, ForeignError>>>;

#[derive(Default)]
struct Pieces {
    kept: VecDeque<(u64, Piece)>,
    /// The piece that was read last.
    last: Option<u64>,
}

impl ForeignObject {
    /// Looks at the object of that URL.
    pub async fn open(settings: &ImageConfig, url: &str) -> Result<Self, ForeignError> {
        let url = allowed(settings, url)?;
        let client = client(settings).await?;
        let answer = client.head(url.clone()).send().await.map_err(|error| unreachable(&error))?;
        let answer = expect(answer, StatusCode::OK)?;
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let size_bytes = header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let size_bytes = size_bytes.ok_or_else(|| lacks("does not say how long the object is"))?;
        let etag = header(ETAG).ok_or_else(|| lacks("does not name the object's version"))?;
        let etag = etag.to_owned();
        Ok(Self {
            fetcher: Fetcher { client, url, etag },
            size_bytes,
            runtime: Handle::current(),
            pieces: Mutex::default(),
        })
    }

    /// Names the version that is read.
    pub fn etag(&self) -> &str {
        &self.fetcher.etag
    }

    /// The piece of that number, and those that come next brought on their way if it was read up to here in order.
    fn piece(&self, number: u64) -> Piece {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let in_order = pieces.last.is_some_and(|last| last + 1 == number || last == number);
        pieces.last = Some(number);
        let wanted = self.kept(&mut pieces, number);
        let last = self.size_bytes.div_ceil(PIECE_BYTES);
        if in_order {
            for next in (number + 1..last).take(PIECES_AHEAD as usize) {
                let _on_its_way = self.kept(&mut pieces, next);
            }
        }
        wanted
    }

    fn kept(&self, pieces: &mut Pieces, number: u64) -> Piece {
        if let Some((_, piece)) = pieces.kept.iter().find(|(kept, _)| *kept == number) {
            return piece.clone();
        }
        let start = number * PIECE_BYTES;
        let range = start..(start + PIECE_BYTES).min(self.size_bytes);
        let fetcher = self.fetcher.clone();
        let fetching = self.runtime.spawn(async move { fetcher.fetch(range).await });
        let piece = fetching
            .map(|done| done.unwrap_or_else(|_| Err(ForeignError::Host("was given up".into()))))
            .boxed()
            .shared();
        if pieces.kept.len() >= PIECES_KEPT {
            pieces.kept.pop_front();
        }
        pieces.kept.push_back((number, piece.clone()));
        piece
    }
}

impl Source for ForeignObject {
    fn length_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size_bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !buf.is_empty() {
            let number = offset / PIECE_BYTES;
            let piece = self.runtime.block_on(self.piece(number)).map_err(|error| {
                // So that who reads it again asks again.
                let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
                pieces.kept.retain(|(kept, _)| *kept != number);
                io::Error::other(error)
            })?;
            let from = (offset % PIECE_BYTES) as usize;
            let available = piece.get(from..).unwrap_or_default();
            let length = available.len().min(buf.len());
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (part, after) = buf.split_at_mut(length);
            part.copy_from_slice(&available[..length]);
            offset += length as u64;
            buf = after;
        }
        Ok(())
    }
}

impl Fetcher {
    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, ForeignError> {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS_MAX {
            match self.try_fetch(&range).await {
                Err(error) if error.may_pass() => {
                    tracing::debug!(%error, ?range, "a piece is asked for again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
        self.try_fetch(&range).await
    }

    async fn try_fetch(&self, range: &Range<u64>) -> Result<Bytes, ForeignError> {
        let wanted = format!("bytes={}-{}", range.start, range.end - 1);
        let request = self.client.get(self.url.clone()).header(RANGE, wanted);
        let answer = request.header(IF_MATCH, &self.etag).send().await;
        let mut answer =
            expect(answer.map_err(|error| unreachable(&error))?, StatusCode::PARTIAL_CONTENT)?;
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        if header(ETAG).is_some_and(|etag| etag != self.etag) {
            return Err(ForeignError::Changed);
        }
        let is = format!("bytes {}-{}/", range.start, range.end - 1);
        if !header(CONTENT_RANGE).is_some_and(|answered| answered.starts_with(&is)) {
            return Err(lacks("answered another range than was asked for"));
        }
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::with_capacity(length);
        while let Some(part) = answer.chunk().await.map_err(|error| unreachable(&error))? {
            if part.len() > length - bytes.len() {
                return Err(lacks("sent more than was asked for"));
            }
            bytes.extend_from_slice(&part);
        }
        if bytes.len() < length {
            return Err(lacks("sent less than was asked for"));
        }
        Ok(bytes.freeze())
    }
}

/// The answer if it has the status, and what it means if not.
fn expect(answer: Response, wanted: StatusCode) -> Result<Response, ForeignError> {
    match answer.status() {
        status if status == wanted => Ok(answer),
        StatusCode::PRECONDITION_FAILED => Err(ForeignError::Changed),
        status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            Err(ForeignError::NotThere(status))
        }
        status => Err(ForeignError::Host(format!("answered with status {status}"))),
    }
}

/// Without the URL, in which there may be a secret.
fn unreachable(error: &reqwest::Error) -> ForeignError {
    let what = match error {
        error if error.is_timeout() => "did not answer in time",
        error if error.is_connect() => "cannot be connected to by HTTPS",
        _ => "did not answer as it should",
    };
    tracing::warn!(status = ?error.status(), source = ?std::error::Error::source(error), "a foreign host {what}");
    ForeignError::Host(what.into())
}

fn lacks(what: &str) -> ForeignError {
    ForeignError::Host(what.into())
}

/// The URL, if its host may be asked.
fn allowed(settings: &ImageConfig, url: &str) -> Result<Url, ForeignError> {
    let refused = |why: String| ForeignError::Refused(why);
    let url: Url = url.parse().map_err(|_| refused("must be a URL".into()))?;
    let plain = url.username().is_empty() && url.password().is_none();
    let (Some(host), "https", true) = (url.host_str(), url.scheme(), plain) else {
        return Err(refused("must be an https URL without a user".into()));
    };
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    if settings.import_hosts.iter().any(|pattern| fits(pattern, &host)) {
        return Ok(url);
    }
    Err(refused(format!(
        "leads to {host}, which is neither this region nor among the hosts that images are imported from: the \
         administrator names them as import_hosts in the section [images] of the region's settings"
    )))
}

/// Whether a host is one of a pattern, in which `*` stands for one label.
fn fits(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
    let (mut wanted, mut labels) = (pattern.split('.'), host.split('.'));
    loop {
        match (wanted.next(), labels.next()) {
            (None, None) => return true,
            (Some("*"), Some(label)) if !label.is_empty() => {}
            (Some(wanted), Some(label)) if wanted == label => {}
            _ => return false,
        }
    }
}

async fn client(settings: &ImageConfig) -> Result<Client, ForeignError> {
    let failed = |what: &str| lacks(&format!("cannot be asked: {what}"));
    let mut client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIME_MAX)
        .timeout(ANSWER_TIME_MAX)
        .https_only(true);
    if let Some(file) = &settings.import_authorities {
        let unreadable = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, file = %file.display(), "import_authorities cannot be read");
            failed("the file import_authorities of the region's settings cannot be read")
        };
        let pem = tokio::fs::read(file).await.map_err(|error| unreadable(&error))?;
        let certificates =
            Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(&error))?;
        client = client.tls_certs_merge(certificates);
    }
    client.build().map_err(|error| {
        tracing::error!(%error, "no client for foreign hosts");
        failed("there is no client")
    })
}

/// What it means to who asks for an import.
pub fn as_answer(field: &str, error: &ForeignError) -> ApiError {
    match error {
        ForeignError::Refused(why) => ApiError::invalid_parameter(field, why),
        error => ApiError::invalid_parameter(field, format!("cannot be imported from: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_only_the_hosts_that_are_named() {
        let hosts = ["objectstorage.*.oraclecloud.com", "localhost:8443"].map(Into::into);
        let settings = ImageConfig { import_hosts: hosts.into(), ..ImageConfig::default() };
        let may = |url: &str| allowed(&settings, url).is_ok();
        assert!(may("https://objectstorage.us-phoenix-1.oraclecloud.com/p/s/n/n/b/b/o/o"));
        assert!(may("https://LOCALHOST:8443/n/n/b/b/o/o"));
        for url in [
            "http://objectstorage.us-phoenix-1.oraclecloud.com/o",
            "https://objectstorage.us.phoenix.oraclecloud.com/o",
            "https://objectstorage.us-phoenix-1.oraclecloud.com:444/o",
            "https://objectstorage..oraclecloud.com/o",
            "https://objectstorage.us-phoenix-1.oraclecloud.com.evil.example/o",
            "https://a@objectstorage.us-phoenix-1.oraclecloud.com/o",
            "https://localhost/o",
            "https://169.254.169.254/opc/v2/",
            "file:///etc/passwd",
            "/n/n/b/b/o/o",
        ] {
            assert!(!may(url), "{url}");
        }
    }
}
