//! The region's settings and where its files lie.
//!
//! `region.toml` is written by `calotype init` and read by `calotype serve`; an unknown key is
//! refused, so a misspelt setting never goes unnoticed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use calotype_store::{Location, S3Credentials};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Everything that can be set; the defaults are those of a region on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Region identifier, as in host names and OCIDs: `home-1`.
    pub region: String,
    /// Three-letter region key, as in policies: `HOM`.
    pub region_key: String,
    /// Realm key, the third part of every OCID.
    pub realm: String,
    /// Second-level domain of the service host names, without port.
    pub domain: String,
    /// Port of all services, on loopback.
    pub port: u16,
    /// OCID of the tenancy.
    pub tenancy: String,
    /// OCID of the administrator.
    pub administrator: String,
    /// Four letters before the availability domain's name, as in `Iocq:HOME-1-AD-1`.
    pub domain_prefix: String,
    /// How guests are run.
    #[serde(default)]
    pub guests: GuestConfig,
    /// How images are captured.
    #[serde(default)]
    pub capture: CaptureConfig,
    /// Which images may be there, and how they come and go.
    #[serde(default)]
    pub images: ImageConfig,
    /// Where images are kept.
    #[serde(default)]
    pub store: StoreConfig,
    /// Where instances' consoles are reached.
    #[serde(default)]
    pub console: ConsoleConfig,
}

/// Where instances' consoles are reached, as clients are told it. The service itself answers SSH at the
/// port of all services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleConfig {
    /// Name of the host; empty = `instance-console.REGION.DOMAIN`, or `localhost` where the domain lies
    /// below that: not every resolver knows such names.
    pub host: String,
    /// Its port; 0 = that of all services.
    pub port: u16,
}

/// How guests are run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestConfig {
    /// `auto`, `kvm` or `tcg`.
    pub accelerator: String,
    /// Memory that all running guests together may have; 0 = three quarters of the host's.
    pub memory_limit_mib: u64,
    /// Processors of the host that one OCPU takes. OCI gives a core with two threads, 2.0; less promises
    /// the same processor to several guests, which share it when they are all busy.
    pub cpus_per_ocpu: f64,
    /// The account QEMU runs as when the service is root.
    pub user: String,
    /// How long SOFTSTOP and SOFTRESET wait for the guest before they use force.
    pub soft_stop_seconds: u64,
    /// Command line of the process that guards a guest whose filesystems are frozen; empty = the
    /// command that serves the region, which has a hidden one for it.
    pub freeze_guard: Vec<String>,
}

impl Default for GuestConfig {
    fn default() -> Self {
        Self {
            accelerator: "auto".into(),
            memory_limit_mib: 0,
            cpus_per_ocpu: 0.125,
            user: "nobody".into(),
            soft_stop_seconds: 15 * 60,
            freeze_guard: Vec::new(),
        }
    }
}

/// How images are captured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureConfig {
    /// How long a running instance may take to shut down before its power is cut.
    pub shutdown_seconds: u64,
    /// After this long a capture fails and is undone. OCI's figure is 20 minutes.
    pub timeout_seconds: u64,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self { shutdown_seconds: 90, timeout_seconds: 20 * 60 }
    }
}

/// Which images may be there, and how they come and go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// The service limit `custom-image-count`; 0 = none.
    pub custom_image_count: u64,
    /// The largest file, and the largest disk, that is imported. OCI's figure is 400.
    pub import_size_in_gbs_max: u64,
    /// The largest disk that is exported. OCI's figure is 400.
    pub export_size_in_gbs_max: u64,
    /// How long a deleted image can be restored; until then it takes its space. 0 = it cannot.
    pub recycle_hours: u32,
    /// Other hosts from whose URLs images are imported, with a port if it is not 443; `*` stands for one label. So
    /// images come from another region, or another tenancy, by pre-authenticated request.
    pub import_hosts: Vec<String>,
    /// PEM file of certificate authorities that those hosts may be certified by, besides the well-known ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_authorities: Option<PathBuf>,
    /// Command line of the process that reads a foreign file; empty = the command that serves the region,
    /// which has a hidden one for it.
    pub disk_reader: Vec<String>,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            custom_image_count: 0,
            import_size_in_gbs_max: 400,
            export_size_in_gbs_max: 400,
            recycle_hours: 0,
            import_hosts: vec!["objectstorage.*.oraclecloud.com".into()],
            import_authorities: None,
            disk_reader: Vec::new(),
        }
    }
}

impl ImageConfig {
    /// How long a deleted image is kept in the bin, if at all.
    pub fn recycle_time(&self) -> Option<SignedDuration> {
        (self.recycle_hours > 0).then(|| SignedDuration::from_hours(self.recycle_hours.into()))
    }

    /// In bytes.
    pub fn import_size_bytes_max(&self) -> u64 {
        self.import_size_in_gbs_max.saturating_mul(1 << 30)
    }

    /// In bytes.
    pub fn export_size_bytes_max(&self) -> u64 {
        self.export_size_in_gbs_max.saturating_mul(1 << 30)
    }

    /// The command line of the process that reads a foreign file.
    pub fn disk_reader(&self) -> Vec<OsString> {
        if !self.disk_reader.is_empty() {
            return self.disk_reader.iter().map(Into::into).collect();
        }
        // The very program that runs, also if another was installed in its place.
        vec!["/proc/self/exe".into(), "disk-reader".into()]
    }
}

/// Where images are kept: see `docs/object-storage.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// A directory, or `s3://bucket/prefix`; empty = `store` in the region's directory.
    pub location: String,
    /// URL of an S3-compatible server; empty = Amazon's own.
    pub endpoint: String,
    /// The server's region; empty = `us-east-1`.
    pub region: String,
    /// Whether the bucket is named in the path of a URL, not in its host; unset = if there is an
    /// endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// A file with `access_key_id` and `secret_access_key` that only its owner may read; empty = the
    /// environment has `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    pub credentials_file: String,
    /// Room on the local disk for pieces of images that are kept remotely; 0 = none.
    pub cache_mib: u64,
    /// All of it is read again and compared with its digests so often; 0 = only when asked for.
    pub scrub_interval_hours: u64,
    /// How much of it is read per second then, so that guests do not notice; 0 = without a bound.
    pub scrub_rate_mib_per_second: u64,
    /// Not a setting: `calotype serve --take-over`.
    #[serde(skip)]
    pub take_over: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            location: String::new(),
            endpoint: String::new(),
            region: String::new(),
            path_style: None,
            credentials_file: String::new(),
            cache_mib: calotype_store::Options::default().cache_disk_bytes >> 20,
            scrub_interval_hours: 7 * 24,
            scrub_rate_mib_per_second: 32,
            take_over: false,
        }
    }
}

impl StoreConfig {
    /// Where the files of the store are, with the credentials that are needed for it.
    pub fn location(&self, paths: &Paths) -> Result<Location> {
        if self.location.is_empty() {
            return Ok(Location::Directory(paths.store()));
        }
        let mut location = self.location.parse()?;
        let set = |text: &String| (!text.is_empty()).then(|| text.clone());
        match &mut location {
            // As all other paths of the settings.
            Location::Directory(directory) => *directory = paths.root().join(&*directory),
            Location::S3(s3) => {
                s3.endpoint = set(&self.endpoint);
                s3.region = set(&self.region);
                s3.path_style = self.path_style;
                if let Some(file) = set(&self.credentials_file) {
                    s3.credentials = Some(S3Credentials::from_file(&paths.root().join(file))?);
                }
            }
        }
        Ok(location)
    }

    /// How the store is opened.
    pub fn options(&self) -> calotype_store::Options {
        calotype_store::Options {
            cache_disk_bytes: self.cache_mib << 20,
            take_over: self.take_over,
            ..calotype_store::Options::default()
        }
    }
}

impl Config {
    /// Reads `region.toml` of a region directory.
    pub fn load(paths: &Paths) -> Result<Self> {
        let file = paths.config();
        let text = std::fs::read_to_string(&file).map_err(|source| {
            if source.kind() == std::io::ErrorKind::NotFound {
                Error::NoRegion { directory: paths.root().to_owned() }
            } else {
                Error::io("read the settings", &file, source)
            }
        })?;
        toml::from_str(&text).map_err(|source| Error::Config { file, source: Box::new(source) })
    }

    /// The domain as clients are told it: with the port.
    pub fn domain_with_port(&self) -> String {
        format!("{}:{}", self.domain, self.port)
    }

    /// Name of the host at which consoles are reached.
    pub fn console_host(&self) -> String {
        let domain = self.domain.as_str();
        match self.console.host.as_str() {
            "" if domain == "localhost" || domain.ends_with(".localhost") => "localhost".into(),
            "" => format!("instance-console.{}.{domain}", self.region),
            host => host.to_owned(),
        }
    }

    /// Its port.
    pub fn console_port(&self) -> u16 {
        if self.console.port == 0 { self.port } else { self.console.port }
    }

    /// Name of the region's one availability domain.
    pub fn availability_domain(&self) -> String {
        format!("{}:{}-AD-1", self.domain_prefix, self.region.to_uppercase())
    }
}

/// Where the files of a region lie.
#[derive(Debug, Clone)]
pub struct Paths(PathBuf);

impl Paths {
    /// The layout below `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The region's directory.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Settings.
    pub fn config(&self) -> PathBuf {
        self.0.join("region.toml")
    }

    /// The catalog's database.
    pub fn catalog(&self) -> PathBuf {
        self.0.join("catalog.sqlite")
    }

    /// Chunks and manifests; if these are kept elsewhere, the store's lock, index and cache.
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// Certificates and their keys.
    pub fn tls(&self) -> PathBuf {
        self.0.join("tls")
    }

    /// The administrator's client profile and key.
    pub fn client(&self) -> PathBuf {
        self.0.join("client")
    }

    /// Disks that wait to be registered as platform images.
    pub fn platform_images(&self) -> PathBuf {
        self.0.join("platform-images")
    }

    /// What guests of each image read first; can be lost without harm.
    pub fn boot_orders(&self) -> PathBuf {
        self.0.join("boot-orders")
    }

    /// The socket on which the store's disks are served to guests.
    pub fn block_socket(&self) -> PathBuf {
        self.0.join("run").join("disks.sock")
    }

    /// Sockets of the service.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// One directory per guest: control sockets, console log. Short, because a socket's path may
    /// have no more than 107 bytes.
    pub fn instances(&self) -> PathBuf {
        self.0.join("instances")
    }

    /// Bytes of the longest path of a socket below the region's directory.
    pub(crate) fn longest_socket_path(&self) -> usize {
        // As `instances/<16 characters>/run/serial.sock`, with room for a longer name.
        const BELOW_INSTANCES: usize = "/0123456789abcdef/run/".len() + 16;
        self.instances().as_os_str().len() + BELOW_INSTANCES
    }

    /// Refuses a directory whose path is too long for the sockets below it.
    pub(crate) fn check_length(&self) -> Result<()> {
        let limit = calotype_vm::SOCKET_PATH_BYTES_MAX;
        let bytes = self.longest_socket_path();
        if bytes <= limit {
            return Ok(());
        }
        let root = self.0.as_os_str().len();
        Err(Error::PathTooLong {
            directory: self.0.clone(),
            limit: limit.saturating_sub(bytes - root),
        })
    }

    /// One directory per boot volume: its overlay files.
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(text: &str) -> StoreConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn images_are_kept_in_the_regions_directory_unless_it_is_said_otherwise() {
        let paths = Paths::new("/region");
        let location = |text: &str| store(text).location(&paths);
        let directory = |path: &str| Location::Directory(path.into());
        assert_eq!(location("").unwrap(), directory("/region/store"));
        assert_eq!(location("location = '/images'").unwrap(), directory("/images"));
        assert_eq!(location("location = 'images'").unwrap(), directory("/region/images"));
        assert!(location("location = 'gs://images'").is_err());
        // The file is missing.
        assert!(location("location = 's3://images/a'\ncredentials_file = 'no'").is_err());

        let text = "location = 's3://images/a'\nendpoint = 'http://s3:8333'\ncache_mib = 0";
        let Location::S3(s3) = location(text).unwrap() else { panic!("{text}") };
        assert_eq!((s3.bucket.as_str(), s3.prefix.as_str()), ("images", "a"));
        assert_eq!(s3.endpoint.as_deref(), Some("http://s3:8333"));
        assert_eq!((s3.region, s3.path_style, s3.credentials), (None, None, None));
        assert_eq!(store(text).options().cache_disk_bytes, 0);
    }

    #[test]
    fn who_takes_over_once_does_not_write_it_down() {
        let config = StoreConfig { take_over: true, ..StoreConfig::default() };
        let text = toml::to_string(&config).unwrap();
        assert_eq!(store(&text), StoreConfig::default());
    }
}
