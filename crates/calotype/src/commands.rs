//! One file per command.

use std::path::PathBuf;

use anyhow::Context as _;

pub mod catalog;
pub mod demo;
pub mod doctor;
pub mod env;
pub mod image;
pub mod init;
pub mod instance;
pub mod platform_image;
pub mod serve;
pub mod store;

/// Where a region lies when nobody says otherwise.
pub fn default_directory() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/calotype".into());
    }
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let data =
        data.or_else(home).context("neither --directory nor HOME says where the region is")?;
    Ok(data.join("calotype"))
}
