//! The region's settings and where its files lie.
//!
//! `region.toml` is written by `calotype init` and read by `calotype serve`; an unknown key is
//! refused, so a misspelt setting never goes unnoticed.

use std::path::{Path, PathBuf};

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
}

/// How guests are run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestConfig {
    /// `auto`, `kvm` or `tcg`.
    pub accelerator: String,
    /// Memory that all running guests together may have; 0 = three quarters of the host's.
    pub memory_limit_mib: u64,
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

    /// Chunks and manifests.
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
