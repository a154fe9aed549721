//! A region on a port of its own, and a client that sees every byte.

use std::io;
use std::path::Path;
use std::sync::Arc;

use calotype_api::sign::{PrivateKey, PublicKey, sign, sign_upload};
use http::Method;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::http::{Dispatch, serve, tls};

/// A region that serves on a port of its own until it is dropped.
pub(super) struct Region<D> {
    pub(super) key: PrivateKey,
    pub(super) dispatch: Arc<D>,
    port: u16,
    tls: TlsConnector,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl<D: Dispatch> Region<D> {
    pub(super) async fn start(dispatch: impl FnOnce(PublicKey) -> D) -> Self {
        let directory = tempfile::tempdir().unwrap();
        tls::create(directory.path(), "home-1", "x.localhost").unwrap();
        let config = tls::server_config(directory.path(), "home-1", "x.localhost").unwrap();
        let key = PrivateKey::generate().unwrap();
        let dispatch = Arc::new(dispatch(key.public_key().clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, config, Arc::clone(&dispatch), async {
            let _ = stopped.await;
        }));
        Self {
            key,
            dispatch,
            port,
            tls: connector(directory.path()),
            stop: Some(stop),
            serving: Some(serving),
            _directory: directory,
        }
    }

    /// Tells the region to stop; the handle ends when it has.
    pub(super) fn stop(&mut self) -> JoinHandle<()> {
        drop(self.stop.take());
        self.serving.take().unwrap()
    }

    pub(super) async fn connect(&self, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        self.tls.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
    }

    pub(super) async fn client(&self) -> Client {
        Client::new(self.connect("localhost").await.unwrap())
    }

    pub(super) fn get(&self, target: &str) -> Sent {
        self.signed(Method::GET, target, "")
    }

    pub(super) fn post(&self, target: &str, body: &str) -> Sent {
        self.signed(Method::POST, target, body)
    }

    pub(super) fn signed(&self, method: Method, target: &str, body: &str) -> Sent {
        self.signed_by(&self.key, method, target, body, 0)
    }

    /// A request signed with `key` when the clock of the client is `skew_seconds` ahead.
    pub(super) fn signed_by(
        &self,
        key: &PrivateKey,
        method: Method,
        target: &str,
        body: &str,
        skew_seconds: i64,
    ) -> Sent {
        let now = Timestamp::now().as_second() + skew_seconds;
        let mut sent = self.unsigned(method, target);
        let key_id = super::key_id(key.public_key());
        let host = sent.headers[0].1.clone();
        let signed = sign(key, &key_id, &sent.method, target, &host, body.as_bytes(), now).unwrap();
        for (name, value) in &signed {
            sent = sent.header(name.as_str(), value.to_str().unwrap());
        }
        body.clone_into(&mut sent.body);
        sent
    }

    /// A PUT that is signed as uploads are, without its body.
    pub(super) fn upload(&self, target: &str, body: &str) -> Sent {
        let mut sent = self.unsigned(Method::PUT, target);
        let (key_id, host) = (super::key_id(self.key.public_key()), sent.headers[0].1.clone());
        let now = Timestamp::now().as_second();
        let signed = sign_upload(&self.key, &key_id, &sent.method, target, &host, now).unwrap();
        for (name, value) in &signed {
            sent = sent.header(name.as_str(), value.to_str().unwrap());
        }
        body.clone_into(&mut sent.body);
        sent.header("content-length", &body.len().to_string())
    }

    pub(super) fn unsigned(&self, method: Method, target: &str) -> Sent {
        Sent {
            method,
            target: target.to_owned(),
            headers: vec![("host".to_owned(), format!("localhost:{}", self.port))],
            body: String::new(),
        }
    }
}

fn connector(directory: &Path) -> TlsConnector {
    let authority = CertificateDer::from_pem_file(directory.join(tls::CA_CERTIFICATE)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A request as it is sent.
#[derive(Clone)]
pub(super) struct Sent {
    method: Method,
    pub(super) target: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Sent {
    /// With a header, in place of any of that name.
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    pub(super) fn head(&self) -> String {
        let start = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let line = |head: String, (name, value): &(String, String)| {
            head + name.as_str() + ": " + value + "\r\n"
        };
        self.headers.iter().fold(start, line) + "\r\n"
    }
}

/// An answer as it was received.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One connection.
pub(super) struct Client {
    stream: BufReader<TlsStream<TcpStream>>,
    head: bool,
}

impl Client {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: BufReader::new(stream), head: false }
    }

    pub(super) async fn send(&mut self, request: Sent) -> Answer {
        self.head = request.method == Method::HEAD;
        self.write(&(request.head() + &request.body)).await;
        self.read().await.expect("the connection ended without an answer")
    }

    /// Writes what the service takes: it may answer and close before all is written.
    pub(super) async fn write(&mut self, text: &str) {
        if self.stream.write_all(text.as_bytes()).await.is_ok() {
            let _ = self.stream.flush().await;
        }
    }

    /// The next answer, or `None` if the connection has ended.
    pub(super) async fn read(&mut self) -> Option<Answer> {
        let status = self.line().await?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let mut answer = Answer { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line().await.unwrap();
            let Some((name, value)) = line.split_once(": ") else { break };
            answer.headers.push((name.to_owned(), value.to_owned()));
        }
        if !self.head {
            let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
            answer.body = vec![0; length];
            self.stream.read_exact(&mut answer.body).await.unwrap();
        }
        Some(answer)
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        // A connection that is cut off has ended too.
        self.stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        Some(line.trim_end().to_owned())
    }
}
