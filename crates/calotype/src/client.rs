//! A client of the region's API: signs requests with the administrator's key, reads answers,
//! waits for work requests. Everything the command does to a region goes through here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use calotype_api::images::Image;
use calotype_api::instances::Instance;
use calotype_api::ocid::Ocid;
use calotype_api::sign::{self, PrivateKey};
use calotype_api::work_requests::{
    WorkRequest, WorkRequestError, WorkRequestLogEntry, WorkRequestStatus,
};
use calotype_server::config::{Config, Paths};
use calotype_server::init::API_KEY;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Certificate, Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

mod objects;

pub use objects::{BUCKET, Objects};

/// How long between two looks at something that is awaited.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long the region may be away while somebody waits for it.
const AWAY_MAX: Duration = Duration::from_mins(2);
/// Longest wait for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A client of one region.
pub struct Client {
    http: reqwest::Client,
    host: String,
    objects_host: String,
    key: PrivateKey,
    key_id: String,
    /// The region's settings.
    pub config: Config,
}

/// An answer: the body, and the headers that matter.
pub struct Answer<T> {
    /// The body.
    pub body: T,
    /// The work request to wait for, if there is one.
    pub work_request: Option<Ocid>,
    /// Where the next page begins.
    pub next_page: Option<String>,
    /// The version of what was read.
    pub etag: Option<String>,
}

/// The region's refusal, as the API words it.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({status} {code})")]
pub struct Refused {
    /// HTTP status.
    pub status: StatusCode,
    /// Code of the error table.
    pub code: String,
    /// What is wrong.
    pub message: String,
}

/// Nobody could say how a work request ended.
#[derive(Debug, thiserror::Error)]
#[error(
    "the region could not be asked any more; work request {work_request} may go on there: ask for it with \
     `oci work-requests work-request get --work-request-id {work_request}`"
)]
pub struct LostSight {
    work_request: Ocid,
}

/// Whether nobody can say if what was asked for is being done.
pub fn is_open(error: &anyhow::Error) -> bool {
    error.downcast_ref::<LostSight>().is_some() || error.downcast_ref::<reqwest::Error>().is_some()
}

impl Client {
    /// A client with the credentials that `calotype init` left in the region's directory.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let paths = Paths::new(directory);
        let config = Config::load(&paths)?;
        let file = paths.client().join(API_KEY);
        let pem = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read the key {}", file.display()))?;
        let key = PrivateKey::from_pem(&pem).context("the administrator's key is not valid")?;
        let authority = paths.tls().join("ca.pem");
        let certificate = std::fs::read(&authority)
            .with_context(|| format!("cannot read the CA {}", authority.display()))?;
        let name = format!("iaas.{}.{}", config.region, config.domain);
        let objects = format!("objectstorage.{}.{}", config.region, config.domain);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
        // The names are resolved here, so that the command works on machines whose resolver does
        // not know names below `localhost`.
        let http = reqwest::Client::builder()
            .tls_certs_only([Certificate::from_pem(&certificate)?])
            .resolve(&name, address)
            .resolve(&objects, address)
            .no_proxy()
            .connect_timeout(REQUEST_TIMEOUT)
            // Between two pieces of an answer, which may be a whole disk.
            .read_timeout(REQUEST_TIMEOUT)
            .build()?;
        let fingerprint = key.public_key().fingerprint();
        Ok(Self {
            http,
            host: format!("{name}:{}", config.port),
            objects_host: format!("{objects}:{}", config.port),
            key_id: format!("{}/{}/{fingerprint}", config.tenancy, config.administrator),
            key,
            config,
        })
    }

    /// Whether the region answers.
    pub async fn is_up(&self) -> bool {
        let url = format!("https://{}/", self.host);
        self.http.head(url).send().await.is_ok()
    }

    /// Reads a resource or a list.
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> anyhow::Result<Answer<T>> {
        self.send(Method::GET, target, &[], None).await
    }

    /// Reads all pages of a list. `target` has its query already.
    pub async fn list<T: DeserializeOwned>(&self, target: &str) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut page = String::new();
        loop {
            let answer = self.get::<Vec<T>>(&format!("{target}{page}")).await?;
            items.extend(answer.body);
            match answer.next_page {
                Some(next) => page = format!("&page={next}"),
                None => return Ok(items),
            }
        }
    }

    /// Creates something or acts on it.
    pub async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &Value,
    ) -> anyhow::Result<Answer<T>> {
        self.send(Method::POST, target, body.to_string().as_bytes(), None).await
    }

    /// Changes something, if it is still of this version.
    pub async fn put<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &Value,
        etag: Option<&str>,
    ) -> anyhow::Result<Answer<T>> {
        self.send(Method::PUT, target, body.to_string().as_bytes(), etag).await
    }

    /// Deletes something.
    pub async fn delete(&self, target: &str) -> anyhow::Result<Answer<Value>> {
        self.send(Method::DELETE, target, &[], None).await
    }

    /// A request with an id of its own: equal ones within a second have equal signatures, and are told apart by it.
    fn request(&self, method: Method, url: String, signed: HeaderMap) -> RequestBuilder {
        let id = Uuid::new_v4().simple().to_string();
        self.http.request(method, url).headers(signed).header("opc-request-id", id)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: &[u8],
        if_match: Option<&str>,
    ) -> anyhow::Result<Answer<T>> {
        let now = Timestamp::now().as_second();
        let headers = sign::sign(&self.key, &self.key_id, &method, target, &self.host, body, now)?;
        let url = format!("https://{}{target}", self.host);
        let request = self.request(method, url, headers).body(body.to_vec());
        let mut request = request.timeout(REQUEST_TIMEOUT);
        if let Some(etag) = if_match {
            request = request.header("if-match", etag);
        }
        let response = request.send().await.with_context(|| {
            format!("the region at {} does not answer: is `calotype serve` running?", self.host)
        })?;
        let status = response.status();
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(ToOwned::to_owned)
        };
        let work_request = header("opc-work-request-id").and_then(|id| id.parse().ok());
        let (next_page, etag) = (header("opc-next-page"), header("etag"));
        let bytes = response.bytes().await?;
        if !status.is_success() {
            return Err(refused(status, &bytes).into());
        }
        let bytes = if bytes.is_empty() { &b"null"[..] } else { &bytes[..] };
        let body =
            serde_json::from_slice(bytes).context("the region's answer is not understood")?;
        Ok(Answer { body, work_request, next_page, etag })
    }

    /// Waits until a work request is over, telling its percentage; its failure is an error. A region that is away
    /// for a while, because it is started anew, is waited for, too.
    ///
    /// # Errors
    /// [`LostSight`] when it cannot be told how the work request ends.
    pub async fn wait(&self, id: &Ocid, mut progress: impl FnMut(f64)) -> anyhow::Result<()> {
        let target = format!("/20160918/workRequests/{id}");
        let mut seen = Instant::now();
        loop {
            let request = match self.get::<WorkRequest>(&target).await {
                Ok(answer) => answer.body,
                Err(error) if may_pass(&error) && seen.elapsed() < AWAY_MAX => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                    continue;
                }
                Err(error) => return Err(error.context(LostSight { work_request: id.clone() })),
            };
            seen = Instant::now();
            progress(request.percent_complete);
            match request.status {
                WorkRequestStatus::Succeeded => return Ok(()),
                WorkRequestStatus::Failed | WorkRequestStatus::Canceled => {
                    let errors =
                        self.get::<Vec<WorkRequestError>>(&format!("{target}/errors")).await?;
                    let why = errors.body.iter().map(|error| error.message.as_str());
                    bail!(
                        "{} failed: {}",
                        request.operation_type,
                        why.collect::<Vec<_>>().join("; ")
                    );
                }
                _ => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// What a work request has logged, oldest first.
    pub async fn logs(&self, id: &Ocid) -> anyhow::Result<Vec<WorkRequestLogEntry>> {
        Ok(self.get(&format!("/20160918/workRequests/{id}/logs")).await?.body)
    }

    /// The root compartment.
    pub fn tenancy(&self) -> &str {
        &self.config.tenancy
    }

    /// Images of the root compartment, platform images first.
    pub async fn images(&self) -> anyhow::Result<Vec<Image>> {
        self.list(&format!("/20160918/images?compartmentId={}", self.tenancy())).await
    }

    /// Instances of the root compartment.
    pub async fn instances(&self) -> anyhow::Result<Vec<Instance>> {
        self.list(&format!("/20160918/instances?compartmentId={}", self.tenancy())).await
    }
}

/// Whether a request may succeed when it is made again.
fn may_pass(error: &anyhow::Error) -> bool {
    let is_away = error.downcast_ref::<reqwest::Error>().is_some();
    let is_busy = error.downcast_ref::<Refused>().is_some_and(|refused| {
        refused.status.is_server_error() || refused.status == StatusCode::TOO_MANY_REQUESTS
    });
    is_away || is_busy
}

fn refused(status: StatusCode, body: &[u8]) -> Refused {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    Refused { status, code: text("code"), message: text("message") }
}
