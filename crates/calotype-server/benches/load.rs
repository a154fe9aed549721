//! How fast the API answers with 100,000 images in one compartment: pages of `ListImages`, and signed `GetImage`.
//!
//! The client is a process of its own on the same machine, so the two share its processors. Requests are signed
//! before the clock starts (a client's signature takes twenty times as long as its verification here) and each is
//! verified as every request is.
//!
//! `cargo bench -p calotype-server --bench load [-- --images 100000 --seconds 10]`

#![expect(clippy::print_stdout, reason = "a benchmark reports")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use calotype_api::images::Firmware;
use calotype_api::sign::{PrivateKey, sign};
use calotype_server::Server;
use calotype_server::app::platform_images::{RegisterPlatformImageDetails, new_record};
use calotype_server::config::{Config, Paths};
use calotype_server::db::Batch;
use calotype_server::init::{self, API_KEY, Options};
use calotype_server::region::Region;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Documents of one batch.
const BATCH: usize = 1000;
/// Images that are asked for, again and again.
const ASKED_FOR: usize = 1000;
/// Connections that ask for them.
const CONNECTIONS: usize = 32;
/// Pages that are asked for, one after the other.
const PAGES: usize = 400;

struct Arguments {
    images: usize,
    seconds: u64,
    /// Directory of the region that the client process asks.
    client: Option<PathBuf>,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        let mut read = Self { images: 100_000, seconds: 10, client: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--images" => read.images = value()?.parse()?,
                "--seconds" => read.seconds = value()?.parse()?,
                "--client" => read.client = Some(value()?.into()),
                // Cargo's own.
                "--bench" => {}
                other => anyhow::bail!("{other} is not known"),
            }
        }
        Ok(read)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let runtime = tokio::runtime::Runtime::new()?;
    match &arguments.client {
        Some(directory) => runtime.block_on(ask(directory, arguments.seconds)),
        None => runtime.block_on(serve(&arguments)),
    }
}

/// The region, with its images; then the client.
async fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let paths = Paths::new(directory.path());
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = init::init(&paths, Options::new("load-1", "load.localhost", port)).await?;
    let server = Server::start_with(paths, config).await?;
    let begun = Instant::now();
    fill(server.region(), arguments.images).await?;
    println!("{} images were written in {:.1} s", arguments.images, begun.elapsed().as_secs_f64());
    let (program, seconds) = (std::env::current_exe()?, arguments.seconds.to_string());
    let directory = directory.path().to_owned();
    let client = tokio::task::spawn_blocking(move || {
        let mut client = Command::new(program);
        client.arg("--seconds").arg(seconds).arg("--client").arg(directory).status()
    });
    ensure!(client.await??.success(), "the client failed");
    server.stop().await;
    Ok(())
}

async fn fill(region: &Arc<Region>, images: usize) -> anyhow::Result<()> {
    let mut batch = Batch::new();
    for number in 0..images {
        let details = RegisterPlatformImageDetails {
            file: "none".into(),
            display_name: format!("image-{number:06}"),
            operating_system: "Oracle Linux".into(),
            operating_system_version: "9".into(),
            firmware: Firmware::Uefi64,
        };
        let created = Timestamp::now() - SignedDuration::from_secs(i64::try_from(number)?);
        let mut image = new_record(region, details, 50 << 30, created)?;
        image.resource.id = region.new_id("image");
        image.resource.compartment_id = Some(region.tenancy.clone());
        image.resource.lifecycle_state = calotype_api::images::ImageState::Available;
        image.resource.freeform_tags = [("team".to_owned(), format!("t{}", number % 50))].into();
        batch = batch.insert(&image);
        if number % BATCH == BATCH - 1 {
            region.db.apply(std::mem::take(&mut batch)).await?;
        }
    }
    region.db.apply(batch).await?;
    Ok(())
}

/// A client of the region.
struct Client {
    config: Config,
    key: PrivateKey,
    tls: TlsConnector,
}

/// An answer.
struct Answer {
    next_page: Option<String>,
    body: Vec<u8>,
}

type Connection = TlsStream<TcpStream>;

impl Client {
    fn open(directory: &Path) -> anyhow::Result<Self> {
        let paths = Paths::new(directory);
        let pem = std::fs::read_to_string(paths.client().join(API_KEY))?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(paths.tls().join("ca.pem"))?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(tls));
        Ok(Self { config: Config::load(&paths)?, key: PrivateKey::from_pem(&pem)?, tls })
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", self.config.port)).await?;
        stream.set_nodelay(true)?;
        Ok(self.tls.connect(ServerName::try_from("localhost")?, stream).await?)
    }

    /// A signed request, ready to be sent as often as wanted while its time is good.
    fn signed(&self, target: &str) -> anyhow::Result<Vec<u8>> {
        let Config { tenancy, administrator, port, .. } = &self.config;
        let key_id = format!("{tenancy}/{administrator}/{}", self.key.public_key().fingerprint());
        let (host, now) = (format!("localhost:{port}"), Timestamp::now().as_second());
        let headers = sign(&self.key, &key_id, &Method::GET, target, &host, b"", now)?;
        let mut request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
        for (name, value) in &headers {
            request.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        request.extend(b"\r\n");
        Ok(request)
    }

    fn images(&self, more: &str) -> String {
        format!("/20160918/images?compartmentId={}{more}", self.config.tenancy)
    }
}

async fn exchange(connection: &mut Connection, request: &[u8]) -> anyhow::Result<Answer> {
    connection.write_all(request).await?;
    let mut bytes = Vec::with_capacity(16 << 10);
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        ensure!(connection.read_buf(&mut bytes).await? > 0, "the connection ended");
    };
    let head = std::str::from_utf8(&bytes[..head_end])?.to_owned();
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length").context("no length")?.parse()?;
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        ensure!(connection.read_buf(&mut body).await? > 0, "the connection ended");
    }
    Ok(Answer { next_page: header("opc-next-page"), body })
}

async fn ask(directory: &Path, seconds: u64) -> anyhow::Result<()> {
    let client = Arc::new(Client::open(directory)?);
    let mut connection = client.connect().await?;
    for (what, query) in [
        ("newest first", String::new()),
        ("by name", "&sortBy=DISPLAYNAME".to_owned()),
        ("of 1000", "&limit=1000".to_owned()),
    ] {
        let mut times = pages(&client, &mut connection, &query).await?;
        times.sort();
        println!(
            "ListImages, pages {what}: median {:.2} ms, p99 {:.2} ms of {}",
            milliseconds(times[times.len() / 2]),
            milliseconds(times[times.len() * 99 / 100]),
            times.len()
        );
    }
    let first = exchange(&mut connection, &client.signed(&client.images("&limit=1000"))?).await?;
    let images: Vec<serde_json::Value> = serde_json::from_slice(&first.body)?;
    let requests: Result<Vec<_>, _> = images
        .iter()
        .take(ASKED_FOR)
        .filter_map(|image| image["id"].as_str())
        .map(|id| client.signed(&format!("/20160918/images/{id}")))
        .collect();
    rate(&client, Arc::new(requests?), Duration::from_secs(seconds)).await
}

/// How long each page took, following one another through the list.
async fn pages(
    client: &Client,
    connection: &mut Connection,
    query: &str,
) -> anyhow::Result<Vec<Duration>> {
    let (mut times, mut page) = (Vec::new(), String::new());
    while times.len() < PAGES {
        let request = client.signed(&client.images(&format!("{query}{page}")))?;
        let begun = Instant::now();
        let answer = exchange(connection, &request).await?;
        times.push(begun.elapsed());
        page = answer.next_page.map_or_else(String::new, |next| format!("&page={next}"));
    }
    Ok(times)
}

async fn rate(
    client: &Arc<Client>,
    requests: Arc<Vec<Vec<u8>>>,
    time: Duration,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let workers = (0..CONNECTIONS).map(|number| {
        let (client, requests) = (Arc::clone(client), Arc::clone(&requests));
        tokio::spawn(async move {
            let mut connection = client.connect().await?;
            let mut times = Vec::new();
            while begun.elapsed() < time {
                let request = &requests[(number * 31 + times.len()) % requests.len()];
                let sent = Instant::now();
                exchange(&mut connection, request).await?;
                times.push(sent.elapsed());
            }
            anyhow::Ok(times)
        })
    });
    let mut times = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        times.extend(worker.await??);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    times.sort();
    println!(
        "GetImage, signed, {CONNECTIONS} connections: {:.0} a second, median {:.2} ms, p99 {:.2} ms",
        times.len() as f64 / elapsed,
        milliseconds(times[times.len() / 2]),
        milliseconds(times[times.len() * 99 / 100]),
    );
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
