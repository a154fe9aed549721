//! Builds bootable platform images from Debian packages, as root or as an ordinary user.
//!
//! A recipe names Debian packages and how they become a disk. The same inputs (package files and
//! recipe sources) give the same disk, and a disk is built once: it is kept under the digest of
//! its inputs.

mod apt;
mod archive;
mod boot_disk;
mod cache;
mod dates;
mod debian12;
mod digest;
mod error;
mod ext4;
mod modules;
mod newc;
mod sources;
mod tiny;
mod tools;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use error::{Error, ErrorKind, Result};

/// What can be built. `RECIPES` has one row for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recipe {
    /// A small Linux for tests and demonstrations: Debian's kernel, busybox and dropbear.
    Tiny,
    /// Debian 12 with systemd, OpenSSH and unmodified cloud-init.
    Debian12,
}

/// A row of the table of recipes.
#[derive(Debug)]
pub struct RecipeInfo {
    /// The recipe.
    pub recipe: Recipe,
    /// The name that people type, for example `tiny`.
    pub name: &'static str,
    /// One line for a list.
    pub summary: &'static str,
}

/// All recipes.
pub const RECIPES: &[RecipeInfo] = &[
    RecipeInfo {
        recipe: Recipe::Tiny,
        name: "tiny",
        summary: "Debian 12 kernel, busybox and dropbear: up in seconds even without KVM",
    },
    RecipeInfo {
        recipe: Recipe::Debian12,
        name: "debian-12",
        summary: "Debian 12 with systemd, OpenSSH and cloud-init",
    },
];

impl Recipe {
    fn info(self) -> &'static RecipeInfo {
        let row = RECIPES.iter().find(|row| row.recipe == self);
        row.unwrap_or(&RECIPES[0])
    }
}

impl Recipe {
    fn needs(self) -> Vec<tools::Need> {
        match self {
            Self::Tiny => tiny::NEEDS.concat(),
            Self::Debian12 if debian12::is_root() => debian12::NEEDS.concat(),
            Self::Debian12 => [&debian12::NEEDS.concat(), debian12::NEEDS_WITHOUT_ROOT].concat(),
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

impl FromStr for Recipe {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let row = RECIPES.iter().find(|row| row.name == name);
        row.map(|row| row.recipe).ok_or_else(|| Error::new(ErrorKind::UnknownRecipe, name))
    }
}

/// The firmware that a disk boots with, spelt as in OCI's `LaunchOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Firmware {
    /// MBR and BIOS boot code.
    #[serde(rename = "BIOS")]
    Bios,
    /// An EFI system partition.
    #[serde(rename = "UEFI_64")]
    Uefi64,
}

/// What a region must know of a platform image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Display name in OCI's style, for example `Tiny-Linux-12-2026.11.24-0`.
    pub name: String,
    /// For example `Tiny Linux`.
    pub operating_system: String,
    /// For example `12`.
    pub operating_system_version: String,
    /// The account that takes the SSH keys of the instance's metadata.
    pub default_user: String,
    /// How the disk boots.
    pub firmware: Firmware,
    /// Virtual size of the disk.
    pub size_bytes: u64,
    /// BLAKE3 of all inputs, lower-case hexadecimal.
    pub inputs_digest: String,
}

/// A disk that was built, or was taken from the cache.
#[derive(Clone, Debug)]
pub struct Built {
    /// The raw disk, a sparse file inside the cache: read it, do not change it.
    pub disk: PathBuf,
    /// What is on it.
    pub description: Description,
}

/// A tool that a recipe needs and this machine lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingTool {
    /// The program or file looked for.
    pub tool: String,
    /// The Debian package that brings it.
    pub debian_package: String,
}

/// What this machine lacks to build `recipe`; empty when it can be built.
pub fn missing_tools(recipe: Recipe) -> Vec<MissingTool> {
    tools::missing(&recipe.needs())
}

/// Builds the disk of `recipe`, or takes it from `cache` when it was built from the same inputs.
///
/// `progress` is called with the name of a step and the fraction done, 0 to 1, never decreasing.
/// Blocks for up to minutes. Builds of several processes in one cache do not harm each other.
pub fn build(recipe: Recipe, cache: &Path, progress: &mut dyn FnMut(&str, f64)) -> Result<Built> {
    tools::require(&recipe.needs())?;
    std::fs::create_dir_all(cache).map_err(Error::io("create", cache))?;
    // Programs run in other directories must find the same cache.
    let cache = cache.canonicalize().map_err(Error::io("find", cache))?;
    let mut reached = 0.0_f64;
    let mut progress = |step: &str, fraction: f64| {
        reached = reached.max(fraction);
        progress(step, reached);
    };
    match recipe {
        Recipe::Tiny => tiny::build(&cache, &mut progress),
        Recipe::Debian12 => debian12::build(&cache, &mut progress),
    }
}
