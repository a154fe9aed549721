//! S3 servers for tests: a simple one in this process, and SeaweedFS.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use calotype_store::{Location, S3Credentials, S3Location};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const BUCKET: &str = "images";
const ACCESS_KEY: &str = "AKIATEST";
const SECRET_KEY: &str = "the-secret-of-the-tests";

fn location(address: SocketAddr, prefix: &str) -> S3Location {
    let Ok(Location::S3(mut location)) = format!("s3://{BUCKET}/{prefix}").parse() else {
        panic!("{prefix}");
    };
    location.endpoint = Some(format!("http://{address}"));
    location.credentials = Some(S3Credentials {
        access_key_id: ACCESS_KEY.to_owned(),
        secret_access_key: SECRET_KEY.to_owned(),
        session_token: None,
    });
    location
}

/// An S3 server over a directory, in this process; checks signatures.
pub(super) struct Simple {
    address: SocketAddr,
    directory: TempDir,
    _runtime: Runtime,
}

impl Simple {
    pub(super) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let files = s3s_fs::FileSystem::new(directory.path()).unwrap();
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(async move {
                    // The client hangs up when it likes.
                    http.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        Self { address, directory, _runtime: runtime }
    }

    pub(super) fn location(&self, prefix: &str) -> S3Location {
        location(self.address, prefix)
    }

    /// Where an object lies.
    pub(super) fn file(&self, object: &str) -> PathBuf {
        self.directory.path().join(BUCKET).join(object)
    }
}

/// A server that answers every request the same.
pub(super) struct Parrot {
    address: SocketAddr,
}

impl Parrot {
    /// `status` as `404 Not Found`. It serves until the process ends.
    pub(super) fn start(status: &str, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // What is asked fits in one packet. The client may hang up.
                let mut request = [0; 4096];
                if stream.read(&mut request).is_ok() {
                    stream.write_all(answer.as_bytes()).ok();
                }
            }
        });
        Self { address }
    }

    pub(super) fn location(&self) -> S3Location {
        location(self.address, "a")
    }
}

/// SeaweedFS with all its parts in one process. It is ended with this.
pub(super) struct SeaweedFs {
    address: SocketAddr,
    process: Child,
    /// How the names of the sockets end that it leaves.
    sockets: Vec<String>,
    _directory: TempDir,
}

impl SeaweedFs {
    pub(super) fn start() -> Self {
        // Another process may take one of its ports before it does.
        const ATTEMPTS: usize = 3;
        (0..ATTEMPTS).find_map(|_| Self::try_start()).expect("SeaweedFS ends at once")
    }

    fn try_start() -> Option<Self> {
        let program = seaweedfs_program();
        let directory = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        // All at once, so that none is given twice.
        let listeners: Vec<_> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let settings = directory.path().join("s3.json");
        std::fs::write(&settings, settings_of_s3()).unwrap();
        let mut command = Command::new(&program);
        command.arg("server").arg(format!("-dir={}", directory.path().display()));
        command.arg(format!("-s3.config={}", settings.display()));
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]);
        command.args(["-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.args(["-master.volumeSizeLimitMB=256", "-volume.max=64"]);
        let ports = [
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port.grpc",
            "s3.port",
        ];
        for (port, address) in ports.iter().zip(&addresses) {
            command.arg(format!("-{port}={}", address.port()));
        }
        drop(listeners);
        let process = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let sockets = addresses.iter().map(|address| format!("-{}.sock", address.port())).collect();
        let address = addresses[7];
        let mut server = Self { address, process, sockets, _directory: directory };
        server.serves().then_some(server)
    }

    pub(super) fn location(&self, prefix: &str) -> S3Location {
        location(self.address, prefix)
    }

    /// Waits until there is a bucket; not if it has ended.
    fn serves(&mut self) -> bool {
        const LIMIT: Duration = Duration::from_mins(1);
        let client = object_store::aws::AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", self.address))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name(BUCKET)
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .build()
            .unwrap();
        let runtime = Runtime::new().unwrap();
        let begin = Instant::now();
        loop {
            // A bucket comes with its first object.
            let put = runtime.block_on(object_store::ObjectStoreExt::put(
                &client,
                &"first".into(),
                "object".into(),
            ));
            let Err(error) = put else { return true };
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begin.elapsed() < LIMIT, "SeaweedFS does not serve: {error}");
        }
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        for entry in std::fs::read_dir("/tmp").unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = self.sockets.iter().any(|end| name.ends_with(end));
            if name.starts_with("seaweedfs-") && ours {
                std::fs::remove_file(entry.path()).ok();
            }
        }
    }
}

fn settings_of_s3() -> String {
    serde_json::json!({
        "identities": [{
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }],
    })
    .to_string()
}

fn seaweedfs_program() -> PathBuf {
    if let Some(path) = std::env::var_os("CALOTYPE_SEAWEEDFS") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/weed");
    assert!(
        path.exists(),
        "no SeaweedFS in {}: `scripts/setup --test` installs it; or set CALOTYPE_SEAWEEDFS to a \
         program `weed`",
        path.display()
    );
    path
}
