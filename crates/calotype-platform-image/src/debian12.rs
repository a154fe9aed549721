//! The recipe of Debian 12: systemd, OpenSSH and cloud-init as Debian ships them.
//!
//! `mmdebstrap` installs the packages into a tar archive, which becomes the disk with a few files
//! changed: what must differ in every instance is left empty for its first boot.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::apt::{self, Apt, Package};
use crate::boot_disk::{self, BootDisk};
use crate::cache::{self, Workshop};
use crate::digest::{self, Digest};
use crate::tools::{Need, Tool};
use crate::tree::{Node, Tree};
use crate::{Built, Description, Error, ErrorKind, Firmware, Recipe, Result};
use crate::{archive, dates, ext4, sources};

/// Raised when the code that builds changes what it builds.
const REVISION: &str = "debian-12 2";

/// Size of the disk: room to install packages.
const SIZE_BYTES: u64 = 3 * 1024 * 1024 * 1024;
const JOURNAL_MIB: u32 = 32;

/// Packages, or apt's patterns for them; what these need comes with them.
const PACKAGES: &[&str] = &[
    "?essential",
    "?priority(required)",
    "apt",
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "zstd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "udev",
    "kmod",
    "openssh-server",
    "cloud-init",
    "cloud-guest-utils",
    "e2fsprogs",
    "fdisk",
    "grub-pc-bin",
    "grub2-common",
    "ifupdown",
    "isc-dhcp-client",
    "iproute2",
    "iputils-ping",
    "sudo",
    "ca-certificates",
    "curl",
    "less",
    "vim-tiny",
];

/// Files that the image changes: path, content.
const FILES: &[(&str, &str)] = &[
    ("etc/default/grub", include_str!("debian12/default-grub")),
    ("etc/cloud/cloud.cfg.d/90_image.cfg", include_str!("debian12/cloud.cfg")),
    ("etc/default/locale", "LANG=C.UTF-8\n"),
    ("etc/hostname", "debian\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"),
    ("etc/resolv.conf", ""),
    // Empty: systemd makes one at the first boot.
    ("etc/machine-id", ""),
];
/// Where the guest's own apt installs from.
const SOURCES: &str = "etc/apt/sources.list";
const GRUB_CFG: &str = include_str!("debian12/grub.cfg");

/// Everything that this recipe runs.
pub(crate) const NEEDS: &[&[Need]] =
    &[apt::NEEDS, ext4::NEEDS, boot_disk::NEEDS, &[("mmdebstrap", "mmdebstrap")]];

/// What it needs besides when an ordinary user runs it: other user numbers to own files with.
pub(crate) const NEEDS_WITHOUT_ROOT: &[Need] = &[("newuidmap", "uidmap")];

pub(crate) fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|metadata| metadata.uid() == 0)
}

pub(crate) fn build(cache: &Path, progress: &mut dyn FnMut(&str, f64)) -> Result<Built> {
    progress("look up packages", 0.0);
    apt::with_lists(cache, progress, |apt, progress| {
        let packages = resolve(apt)?;
        let sources = sources::of_this_machine("")?;
        let digest = digest(&packages, &sources);
        if let Some(built) = cache::find(cache, Recipe::Debian12, &digest) {
            progress("done", 1.0);
            return Ok(built);
        }
        progress("fetch packages", 0.05);
        let files = apt.fetch(&packages)?;
        build_from(cache, &packages, &files, &sources, digest, progress)
    })
}

fn resolve(apt: &Apt) -> Result<Vec<Package>> {
    let names = apt.closure(PACKAGES)?;
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    apt.resolve(&names)
}

fn digest(packages: &[Package], sources: &str) -> String {
    let mut digest = Digest::new(REVISION);
    for package in packages {
        digest.add(&package.name, package.sha256.as_bytes());
    }
    for (path, content) in FILES {
        digest.add(path, content.as_bytes());
    }
    digest.add(SOURCES, sources.as_bytes());
    digest.add("grub.cfg", GRUB_CFG.as_bytes());
    digest.add("packages", PACKAGES.join("\n").as_bytes());
    digest.finish()
}

fn build_from(
    cache: &Path,
    packages: &[Package],
    files: &[PathBuf],
    sources: &str,
    inputs_digest: String,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<Built> {
    let workshop = Workshop::open(cache, Recipe::Debian12)?;
    let scratch = workshop.scratch();
    let epoch = apt::newest(files)?;
    progress("install packages", 0.15);
    let installed = install(&scratch, packages, files, epoch)?;

    progress("put the system together", 0.65);
    let uuid = digest::uuid(&inputs_digest, "root filesystem");
    let mut tree = archive::read(&installed)?;
    adapt(&mut tree, &uuid, sources)?;
    let grub = packages.iter().position(|package| package.name == boot_disk::GRUB_PACKAGE);
    let grub = grub.and_then(|index| files.get(index)).ok_or_else(|| {
        Error::new(ErrorKind::Content, format!("{} is not installed", boot_disk::GRUB_PACKAGE))
    })?;
    let grub_files = scratch.join("grub");
    apt::unpack(grub, &grub_files)?;

    progress("write the disk", 0.7);
    let disk = BootDisk::create(workshop.disk(), SIZE_BYTES)?;
    let identity = ext4::Identity { uuid: &uuid, label: "root", epoch, journal_mib: JOURNAL_MIB };
    ext4::make(&disk, &identity, &tree, &scratch)?;
    disk.install_grub(&grub_files, &scratch, digest::number(&inputs_digest, "disk signature"))?;

    progress("keep the disk", 0.95);
    let description = Description {
        name: format!("Debian-12-{}-0", dates::dotted(epoch)),
        operating_system: "Debian".to_owned(),
        operating_system_version: "12".to_owned(),
        default_user: "opc".to_owned(),
        firmware: Firmware::Bios,
        size_bytes: SIZE_BYTES,
        inputs_digest,
    };
    let built = workshop.publish(cache, Recipe::Debian12, &description)?;
    progress("done", 1.0);
    Ok(built)
}

/// Installs exactly `packages` into a tar archive in `scratch`.
fn install(scratch: &Path, packages: &[Package], files: &[PathBuf], epoch: u64) -> Result<PathBuf> {
    let repository = scratch.join("repository");
    apt::repository(&repository, packages, files)?;
    let archive = scratch.join("root.tar");
    let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
    let mode = if is_root() { "root" } else { "unshare" };
    Tool::new("mmdebstrap")
        .arg(format!("--mode={mode}"))
        .args(["--variant=minbase", "--format=tar", "--architectures=amd64"])
        .arg(format!("--include={}", names.join(",")))
        .arg(apt::RELEASE)
        .arg(&archive)
        .arg(format!("deb [trusted=yes] copy:{} ./", repository.display()))
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .run()?;
    Ok(archive)
}

/// Turns what the packages installed into an image: its boot files, and nothing that every
/// instance must have for itself.
fn adapt(tree: &mut Tree, uuid: &str, sources: &str) -> Result<()> {
    let host_key = |path: &str| path.starts_with("etc/ssh/ssh_host_");
    let from_the_build = |path: &str| {
        let lists = path.starts_with("etc/apt/sources.list.d/");
        lists || path.starts_with("dev/") || path == "var/lib/dbus/machine-id"
    };
    tree.remove(|path| host_key(path) || from_the_build(path));
    for (path, content) in FILES {
        tree.file(path, 0o644, *content);
    }
    tree.file(SOURCES, 0o644, sources);
    tree.file("etc/fstab", 0o644, format!("UUID={uuid} / ext4 errors=remount-ro 0 1\n"));
    tree.file("boot/grub/grub.cfg", 0o644, GRUB_CFG.replace("@UUID@", uuid));
    // A configuration by update-grub loads modules from here.
    let prefix = format!("{}/", boot_disk::GRUB_DIRECTORY);
    let modules: Vec<_> = tree
        .iter()
        .filter(|(path, entry)| path.starts_with(&prefix) && matches!(entry.node, Node::File(_)))
        .map(|(path, entry)| (path[prefix.len()..].to_owned(), entry.clone()))
        .collect();
    for (name, entry) in modules {
        tree.put(&format!("boot/grub/i386-pc/{name}"), entry);
    }
    // Looks for snapshots of logical volumes, for a quarter of a minute when there is no KVM.
    tree.symlink("etc/systemd/system/e2scrub_reap.service", "/dev/null");
    for link in ["vmlinuz", "initrd.img"] {
        if !tree.contains(link) {
            let context = format!("the installed system has no /{link}");
            return Err(Error::new(ErrorKind::Content, context));
        }
    }
    Ok(())
}
