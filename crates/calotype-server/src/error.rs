//! What can go wrong when a region is made, opened or served.
//!
//! Rules of errors: what a client of the API sees is an [`calotype_api::error::ApiError`], made where
//! the cause is known to be the client's; everything else is one of these, and reaches a client
//! only as `500 InternalServerError` with the request id under which the log has it.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the region itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no region in the directory.
    #[error("no region in {}: make one with `calotype init`", directory.display())]
    NoRegion {
        /// Where one was looked for.
        directory: PathBuf,
    },
    /// There is a region in the directory already.
    #[error("{} holds a region already", directory.display())]
    RegionExists {
        /// The directory.
        directory: PathBuf,
    },
    /// The settings cannot be read.
    #[error("the settings in {} are not valid", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// Sockets below the directory could not be made.
    #[error("the path {} is too long: a region's directory may have {limit} bytes", directory.display())]
    PathTooLong {
        /// The region's directory.
        directory: PathBuf,
        /// Most bytes of its path.
        limit: usize,
    },
    /// The port cannot be had.
    #[error("cannot listen on {address}: is another region being served there?")]
    Port {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A setting has a value that means nothing.
    #[error("{name} in the settings is {value:?}: it must be {allowed}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// What the region itself refuses, as it is told to clients.
    #[error("refused")]
    Refused(#[source] calotype_api::error::ApiError),
    /// A guest's process is there, but nobody has a hold of it.
    #[error("the guest of instance {instance} may still run, but cannot be reached")]
    GuestLost {
        /// Whose guest.
        instance: String,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The catalog.
    #[error("the catalog failed")]
    Catalog(#[from] crate::db::Error),
    /// The image store.
    #[error("the image store failed")]
    Store(#[from] calotype_store::Error),
    /// Virtual machines.
    #[error("the hypervisor failed")]
    Hypervisor(#[from] calotype_vm::Error),
    /// The virtual network.
    #[error("the virtual network failed")]
    Network(#[from] calotype_net::Error),
    /// Disk files.
    #[error("a disk could not be read")]
    Disk(#[from] calotype_disk::Error),
    /// A document that another one names is not in the catalog.
    #[error("{kind} {id} is not in the catalog")]
    Missing {
        /// Kind of the document.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// Keys and certificates.
    #[error("cannot {action}")]
    Credentials {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// An I/O error with what was tried on which path.
    pub fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
