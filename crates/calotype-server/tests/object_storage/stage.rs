//! A region that is served, and a client that sees every byte and can stop in the middle of one.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calotype_api::Ocid;
use calotype_api::sign::{PrivateKey, sign, sign_upload};
use calotype_server::Server;
use calotype_server::config::{Config, Paths};
use calotype_server::init::{self, API_KEY, Options};
use calotype_server::region::Region;
use http::Method;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a region that was dropped may take until its files can be opened again.
const REOPEN_MAX: Duration = Duration::from_secs(20);

/// A region that is served, and its administrator.
pub(crate) struct Stage {
    server: Option<Server>,
    pub(crate) config: Config,
    directory: TempDir,
    key: PrivateKey,
    tls: TlsConnector,
    /// `/n/<namespace>`.
    pub(crate) root: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn etag(&self) -> String {
        self.header("etag").unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self:?} {}", self.json());
        assert_eq!(self.json()["code"], code, "{}", self.json());
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let paths = Paths::new(directory.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = Options::new("test-1", "test.localhost", port);
        let mut config = init::init(&paths, options).await.unwrap();
        config.guests.accelerator = "tcg".into();
        let pem = std::fs::read_to_string(paths.client().join(API_KEY)).unwrap();
        let authority = CertificateDer::from_pem_file(paths.tls().join("ca.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = Server::start_with(paths, config.clone()).await.unwrap();
        let mut stage = Self {
            server: Some(server),
            config,
            directory,
            key: PrivateKey::from_pem(&pem).unwrap(),
            tls: TlsConnector::from(Arc::new(tls)),
            root: String::new(),
        };
        let namespace = stage.get("/n").await.ok().json();
        stage.root = format!("/n/{}", namespace.as_str().unwrap());
        stage
    }

    /// A region with one bucket, `b`.
    pub(crate) async fn with_bucket() -> Self {
        let stage = Self::start().await;
        stage.bucket("b").await;
        stage
    }

    pub(crate) async fn bucket(&self, name: &str) {
        let body = json!({"name": name, "compartmentId": self.config.tenancy});
        self.post(&format!("{}/b", self.root), &body).await.ok();
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        self.server.as_ref().unwrap().region()
    }

    /// File of the authority that certifies the region.
    pub(crate) fn authority(&self) -> std::path::PathBuf {
        Paths::new(self.directory.path()).tls().join("ca.pem")
    }

    pub(crate) fn user(&self) -> Ocid {
        self.config.administrator.parse().unwrap()
    }

    /// Stops serving, and opens the region again when whatever was under way has ended.
    pub(crate) async fn restart(&mut self) {
        self.server.take().unwrap().stop().await;
        let deadline = Instant::now() + REOPEN_MAX;
        loop {
            let paths = Paths::new(self.directory.path());
            match Server::start_with(paths, self.config.clone()).await {
                Ok(server) => return self.server = Some(server),
                Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Gives back what nothing needs; answers how many chunks are left.
    pub(crate) async fn collect(&self) -> u64 {
        let region = Arc::clone(self.region());
        let roots = calotype_server::jobs::collect::roots(&region).await.unwrap();
        let collecting = tokio::task::spawn_blocking(move || {
            region.store.collect(&roots).unwrap();
            region.store.usage().chunks
        });
        collecting.await.unwrap()
    }

    // Requests.

    /// Where an object of the bucket `b` is.
    pub(crate) fn object(&self, name: &str) -> String {
        format!("{}/b/b/o/{name}", self.root)
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask(Method::GET, target, b"").await
    }

    pub(crate) async fn delete(&self, target: &str) -> Answer {
        self.ask(Method::DELETE, target, b"").await
    }

    pub(crate) async fn post(&self, target: &str, body: &Value) -> Answer {
        self.ask(Method::POST, target, body.to_string().as_bytes()).await
    }

    pub(crate) async fn put(&self, target: &str, body: &[u8]) -> Answer {
        self.put_with(target, body, &[]).await
    }

    /// An upload, signed without its body.
    pub(crate) async fn put_with(
        &self,
        target: &str,
        body: &[u8],
        more: &[(&str, &str)],
    ) -> Answer {
        self.send(&self.upload_head(target, body.len(), more), body).await.unwrap()
    }

    pub(crate) async fn ask(&self, method: Method, target: &str, body: &[u8]) -> Answer {
        self.ask_with(method, target, body, &[]).await
    }

    pub(crate) async fn ask_with(
        &self,
        method: Method,
        target: &str,
        body: &[u8],
        more: &[(&str, &str)],
    ) -> Answer {
        let now = Timestamp::now().as_second();
        let (key_id, host) = (self.key_id(), self.host());
        let signed = sign(&self.key, &key_id, &method, target, &host, body, now).unwrap();
        self.send(&head(&method, target, &host, &signed, more), body).await.unwrap()
    }

    /// A request that nobody signed.
    pub(crate) async fn unsigned(
        &self,
        method: Method,
        target: &str,
        body: &[u8],
        more: &[(&str, &str)],
    ) -> Answer {
        let length = body.len().to_string();
        let more: Vec<_> = more.iter().copied().chain([("content-length", &*length)]).collect();
        let head = head(&method, target, &self.host(), &http::HeaderMap::new(), &more);
        self.send(&head, body).await.unwrap()
    }

    pub(crate) fn upload_head(&self, target: &str, length: usize, more: &[(&str, &str)]) -> String {
        let now = Timestamp::now().as_second();
        let (key_id, host) = (self.key_id(), self.host());
        let signed = sign_upload(&self.key, &key_id, &Method::PUT, target, &host, now).unwrap();
        let length = length.to_string();
        let more: Vec<_> = more.iter().copied().chain([("content-length", &*length)]).collect();
        head(&Method::PUT, target, &host, &signed, &more)
    }

    fn key_id(&self) -> String {
        let fingerprint = self.key.public_key().fingerprint();
        format!("{}/{}/{fingerprint}", self.config.tenancy, self.config.administrator)
    }

    fn host(&self) -> String {
        format!("localhost:{}", self.config.port)
    }

    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.config.port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        self.tls.connect(name, stream).await.unwrap()
    }

    async fn send(&self, head: &str, body: &[u8]) -> Option<Answer> {
        let mut stream = self.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        // The service may answer before it has taken all.
        let _ = stream.write_all(body).await;
        let _ = stream.flush().await;
        let mut bytes = Vec::new();
        // A connection that ends without a farewell has ended, too.
        let _ = stream.read_to_end(&mut bytes).await;
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Answer { status, head, body: bytes[end + 4..].to_vec() })
    }
}

fn head(
    method: &Method,
    target: &str,
    host: &str,
    signed: &http::HeaderMap,
    more: &[(&str, &str)],
) -> String {
    // As every client does, so that equal requests within a second are told apart.
    let id = uuid::Uuid::new_v4().simple();
    let first = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    let id = [("opc-client-request-id", id.to_string())];
    let signed = signed.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap().into()));
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let lines = id.into_iter().chain(signed).chain(more);
    lines.fold(first, |head, (name, value)| head + name + ": " + &value + "\r\n") + "\r\n"
}

/// Bytes that do not compress, always the same for a seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
