//! The recipe of Tiny Linux: Debian's kernel, busybox and dropbear, up in seconds without KVM.
//!
//! A real system for real use of images: it takes its SSH keys and user data from the metadata
//! service, gives every copy its own identity, and shuts down when the power button is pressed.

use std::path::{Path, PathBuf};

use crate::apt::{self, Apt, Package};
use crate::boot_disk::{self, BootDisk};
use crate::cache::{self, Workshop};
use crate::digest::Digest;
use crate::modules::Modules;
use crate::tools::{Need, Tool};
use crate::tree::Tree;
use crate::{Built, Description, Error, ErrorKind, Firmware, Recipe, Result};
use crate::{dates, ext4, newc};

/// Raised when the code that builds changes what it builds.
const REVISION: &str = "tiny 4";

/// Size of the disk: small enough to copy, with about 150 MiB free for its users.
const SIZE_BYTES: u64 = 256 * 1024 * 1024;
const JOURNAL_MIB: u32 = 4;

/// Number of the user `opc`, and of its group.
const USER: u32 = 1000;

/// Meta packages of the kernels, and what their files in `/boot` are called. The boot loader takes
/// the first, which is fast; the second drives the emulated devices that the first leaves out.
const KERNELS: &[(&str, &str)] = &[("linux-image-cloud-amd64", ""), ("linux-image-amd64", "-all")];
const SHELL: &str = "busybox-static";

const LIBRARIES: &[&str] = &["lib/x86_64-linux-gnu/lib", "usr/lib/x86_64-linux-gnu/lib"];

/// Programs and libraries: package, and which of its files to take, by the start of their path.
const PACKAGES: &[(&str, &[&str])] = &[
    (SHELL, &["bin/"]),
    ("bash", &["bin/bash"]),
    ("libtinfo6", LIBRARIES),
    ("dropbear-bin", &["usr/sbin/", "usr/bin/"]),
    ("openssh-sftp-server", &["usr/lib/openssh/sftp-server", "usr/lib/sftp-server"]),
    ("openssh-client", &["usr/bin/scp"]),
    ("sudo", &["usr/bin/sudo", "usr/libexec/sudo/libsudo", "usr/libexec/sudo/sudoers.so"]),
    ("passwd", &["usr/sbin/user", "usr/sbin/group", "usr/sbin/chpasswd", "usr/bin/passwd"]),
    ("libpam-modules", &["lib/x86_64-linux-gnu/security/pam_unix.so", PAM_PERMIT]),
    ("libc6", &["lib/x86_64-linux-gnu/lib", "lib/x86_64-linux-gnu/ld-", "lib64/"]),
    ("libcrypt1", LIBRARIES),
    ("libtomcrypt1", LIBRARIES),
    ("libtommath1", LIBRARIES),
    ("libgmp10", LIBRARIES),
    ("zlib1g", LIBRARIES),
    ("libaudit1", LIBRARIES),
    ("libcap-ng0", LIBRARIES),
    ("libpam0g", LIBRARIES),
    ("libselinux1", LIBRARIES),
    ("libpcre2-8-0", LIBRARIES),
    ("libsemanage2", LIBRARIES),
    ("libsepol2", LIBRARIES),
    ("libbz2-1.0", LIBRARIES),
    ("qemu-guest-agent", &["usr/sbin/qemu-ga"]),
    ("libglib2.0-0", GLIB),
    ("libudev1", LIBRARIES),
    ("liburing2", LIBRARIES),
    ("libnuma1", LIBRARIES),
];
const GLIB: &[&str] = &[
    "lib/x86_64-linux-gnu/libglib",
    "usr/lib/x86_64-linux-gnu/libglib",
    "lib/x86_64-linux-gnu/libgmodule",
    "usr/lib/x86_64-linux-gnu/libgmodule",
];
const PAM_PERMIT: &str = "lib/x86_64-linux-gnu/security/pam_permit.so";

/// Drivers of every disk and network device that a virtual machine may have, and what the scripts
/// use. Those that a kernel has built in, or lacks, are skipped.
const DRIVERS: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
    "virtio_console",
    "sd_mod",
    "ata_piix",
    "ata_generic",
    "ahci",
    "nvme",
    "sym53c8xx",
    "mptspi",
    "mptsas",
    "vmw_pvscsi",
    "e1000",
    "e1000e",
    "vmxnet3",
    "ext4",
    "crc32c_intel",
    "crc32c_generic",
    "button",
    "evdev",
];

/// Modules that only the running system may want.
const EXTRAS: &[&str] = &[
    "loop",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    "isofs",
    "sr_mod",
    "fuse",
    "dm_mod",
];

/// Files of the recipe: path, mode, content.
const FILES: &[(&str, u32, &str)] = &[
    ("etc/inittab", 0o644, include_str!("tiny/inittab")),
    ("etc/passwd", 0o644, include_str!("tiny/passwd")),
    ("etc/group", 0o644, include_str!("tiny/group")),
    ("etc/shadow", 0o640, include_str!("tiny/shadow")),
    ("etc/sudoers", 0o440, include_str!("tiny/sudoers")),
    ("etc/login.defs", 0o644, include_str!("tiny/login.defs")),
    ("etc/pam.d/other", 0o644, include_str!("tiny/pam-other")),
    ("etc/os-release", 0o644, include_str!("tiny/os-release")),
    ("etc/hostname", 0o644, "tiny\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 tiny\n"),
    ("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"),
    ("etc/shells", 0o644, "/bin/sh\n/bin/ash\n/bin/bash\n"),
    ("etc/profile", 0o644, "export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\numask 022\n"),
    ("etc/machine-id", 0o444, ""),
    ("etc/fstab", 0o644, ""),
    ("usr/lib/tiny/environment", 0o644, include_str!("tiny/environment.sh")),
    ("usr/lib/tiny/boot", 0o755, include_str!("tiny/boot.sh")),
    ("usr/lib/tiny/dhcp", 0o755, include_str!("tiny/dhcp.sh")),
    ("usr/lib/tiny/identity", 0o755, include_str!("tiny/identity.sh")),
    ("usr/lib/tiny/ready", 0o755, include_str!("tiny/ready.sh")),
    ("usr/lib/tiny/power-button", 0o755, include_str!("tiny/power-button.sh")),
    ("usr/lib/tiny/guest-agent", 0o755, include_str!("tiny/guest-agent.sh")),
    ("usr/lib/tiny/shutdown", 0o755, include_str!("tiny/shutdown.sh")),
    ("usr/sbin/poweroff", 0o755, include_str!("tiny/power.sh")),
    ("usr/sbin/adduser", 0o755, include_str!("tiny/adduser.sh")),
];
const INITRAMFS_INIT: &str = include_str!("tiny/initramfs-init.sh");
const GRUB_CFG: &str = include_str!("tiny/grub.cfg");

/// Everything that this recipe runs.
pub(crate) const NEEDS: &[&[Need]] = &[apt::NEEDS, ext4::NEEDS, boot_disk::NEEDS];

pub(crate) fn build(cache: &Path, progress: &mut dyn FnMut(&str, f64)) -> Result<Built> {
    progress("look up packages", 0.0);
    apt::with_lists(cache, progress, |apt, progress| {
        let packages = resolve(apt)?;
        let digest = digest(&packages);
        if let Some(built) = cache::find(cache, Recipe::Tiny, &digest) {
            progress("done", 1.0);
            return Ok(built);
        }
        progress("fetch packages", 0.1);
        let files = apt.fetch(&packages)?;
        build_from(cache, &files, digest, progress)
    })
}

/// The kernels and the boot loader first, then [`PACKAGES`] in their order.
fn resolve(apt: &Apt) -> Result<Vec<Package>> {
    let names: Vec<_> = KERNELS
        .iter()
        .map(|(name, _)| *name)
        .chain([boot_disk::GRUB_PACKAGE])
        .chain(PACKAGES.iter().map(|(name, _)| *name))
        .collect();
    let mut packages = apt.resolve(&names)?;
    for kernel in &mut packages[..KERNELS.len()] {
        *kernel = apt.resolve_dependency(kernel)?;
    }
    Ok(packages)
}

fn digest(packages: &[Package]) -> String {
    let mut digest = Digest::new(REVISION);
    for package in packages {
        digest.add(&package.name, package.sha256.as_bytes());
    }
    for (path, mode, content) in FILES {
        digest.add(&format!("{path} {mode:o}"), content.as_bytes());
    }
    digest.add("init", INITRAMFS_INIT.as_bytes());
    digest.add("grub.cfg", GRUB_CFG.as_bytes());
    for (name, takes) in PACKAGES {
        digest.add(name, takes.join("\n").as_bytes());
    }
    digest.add("drivers", DRIVERS.join("\n").as_bytes());
    digest.add("extras", EXTRAS.join("\n").as_bytes());
    digest.finish()
}

fn build_from(
    cache: &Path,
    files: &[PathBuf],
    inputs_digest: String,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<Built> {
    let workshop = Workshop::open(cache, Recipe::Tiny)?;
    let scratch = workshop.scratch();
    let mut unpacked = Vec::new();
    for (number, file) in files.iter().enumerate() {
        progress("unpack packages", 0.2 + 0.4 * number as f64 / files.len() as f64);
        let directory = scratch.join(format!("package-{number}"));
        apt::unpack(file, &directory)?;
        unpacked.push(directory);
    }
    progress("put the system together", 0.6);
    let uuid = crate::digest::uuid(&inputs_digest, "root filesystem");
    let mut tree = Tree::default();
    let (kernels, others) = unpacked.split_at(KERNELS.len());
    let (grub, programs) = others.split_at(1);
    let shell = userland(&mut tree, programs)?;
    for (directory, (_, suffix)) in kernels.iter().zip(KERNELS) {
        kernel(&mut tree, directory, suffix, &shell)?;
    }
    tree.file("boot/grub/grub.cfg", 0o644, GRUB_CFG.replace("@UUID@", &uuid));

    progress("write the disk", 0.8);
    let epoch = tree.newest();
    let disk = BootDisk::create(workshop.disk(), SIZE_BYTES)?;
    let identity = ext4::Identity { uuid: &uuid, label: "tiny", epoch, journal_mib: JOURNAL_MIB };
    ext4::make(&disk, &identity, &tree, &scratch)?;
    let signature = crate::digest::number(&inputs_digest, "disk signature");
    disk.install_grub(&grub[0], &scratch, signature)?;

    progress("keep the disk", 0.95);
    let description = Description {
        name: format!("Tiny-Linux-12-{}-0", dates::dotted(epoch)),
        operating_system: "Tiny Linux".to_owned(),
        operating_system_version: "12".to_owned(),
        default_user: "opc".to_owned(),
        firmware: Firmware::Bios,
        size_bytes: SIZE_BYTES,
        inputs_digest,
    };
    let built = workshop.publish(cache, Recipe::Tiny, &description)?;
    progress("done", 1.0);
    Ok(built)
}

/// busybox and the names of the programs in it.
struct Shell {
    busybox: Vec<u8>,
    applets: Vec<String>,
}

/// Programs, libraries, configuration, users.
fn userland(tree: &mut Tree, unpacked: &[PathBuf]) -> Result<Shell> {
    for link in ["bin", "sbin", "lib", "lib64"] {
        tree.symlink(link, &format!("usr/{link}"));
        tree.directory(&format!("usr/{link}"), 0o755);
    }
    for (directory, (_, prefixes)) in unpacked.iter().zip(PACKAGES) {
        tree.take(directory, prefixes, merged_usr)?;
    }
    let shell = shell(&unpacked[0].join("bin/busybox"))?;
    for (path, mode, content) in FILES {
        tree.file(path, *mode, *content);
    }
    for alias in ["reboot", "halt"] {
        tree.symlink(&format!("usr/sbin/{alias}"), "poweroff");
    }
    tree.symlink("usr/sbin/init", "../bin/busybox");
    for applet in &shell.applets {
        let taken =
            ["usr/bin/", "usr/sbin/"].iter().any(|d| tree.contains(&format!("{d}{applet}")));
        if !taken {
            tree.symlink(&format!("usr/bin/{applet}"), "busybox");
        }
    }
    for program in ["usr/bin/sudo", "usr/bin/passwd"] {
        if !tree.set_mode(program, 0o4755) {
            let context = format!("no package has {program}");
            return Err(Error::new(ErrorKind::Content, context));
        }
    }
    directories(tree);
    Ok(shell)
}

fn directories(tree: &mut Tree) {
    for path in ["proc", "sys", "dev", "run", "mnt", "media", "opt", "srv", "var/lib/tiny"] {
        tree.directory(path, 0o755);
    }
    for path in ["var/log", "var/mail", "var/cache", "var/spool", "usr/local/bin", "usr/local/sbin"]
    {
        tree.directory(path, 0o755);
    }
    tree.directory("tmp", 0o1777);
    tree.directory("var/tmp", 0o1777);
    tree.directory("root", 0o700);
    tree.directory("etc/dropbear", 0o700);
    tree.directory("etc/sudoers.d", 0o750);
    tree.directory("etc/skel", 0o755);
    tree.symlink("var/run", "/run");
    tree.symlink("etc/mtab", "/proc/self/mounts");
    tree.owned_directory("home/opc", 0o700, USER);
}

/// Where a file of a package goes: the system has one hierarchy below `/usr`.
fn merged_usr(path: &str) -> String {
    let old = ["bin/", "sbin/", "lib/", "lib64/"].iter().any(|root| path.starts_with(root));
    if old { format!("usr/{path}") } else { path.to_owned() }
}

/// A kernel, its modules and its initial RAM filesystem.
fn kernel(tree: &mut Tree, unpacked: &Path, suffix: &str, shell: &Shell) -> Result<()> {
    let version = only_name(&unpacked.join("lib/modules"))?;
    let image = unpacked.join("boot").join(format!("vmlinuz-{version}"));
    let image = std::fs::read(&image).map_err(Error::io("read", &image))?;
    tree.file(&format!("boot/vmlinuz{suffix}"), 0o644, image);

    let directory = unpacked.join("lib/modules").join(&version);
    let drivers = Modules::pick(&directory, DRIVERS)?;
    let mut initramfs = initramfs(shell);
    put_modules(&mut initramfs, &format!("lib/modules/{version}"), &drivers);
    let mut archive = Vec::new();
    newc::write(&initramfs, &mut archive).map_err(Error::io("pack", Path::new("initrd.img")))?;
    tree.file(&format!("boot/initrd{suffix}.img"), 0o644, archive);

    let all = Modules::pick(&directory, &[DRIVERS, EXTRAS].concat())?;
    put_modules(tree, &format!("usr/lib/modules/{version}"), &all);
    Ok(())
}

fn initramfs(shell: &Shell) -> Tree {
    let mut tree = Tree::default();
    for directory in ["proc", "sys", "dev", "root", "run"] {
        tree.directory(directory, 0o755);
    }
    tree.file("bin/busybox", 0o755, shell.busybox.clone());
    tree.symlink("sbin", "bin");
    for applet in &shell.applets {
        tree.symlink(&format!("bin/{applet}"), "busybox");
    }
    tree.file("init", 0o755, INITRAMFS_INIT);
    tree
}

fn put_modules(tree: &mut Tree, directory: &str, modules: &Modules) {
    for module in modules.by_name.values() {
        tree.file(&format!("{directory}/{}", module.path), 0o644, module.content.clone());
    }
    tree.file(&format!("{directory}/modules.dep"), 0o644, modules.dependency_index());
    tree.file(&format!("{directory}/modules.alias"), 0o644, modules.alias_index());
    tree.file(&format!("{directory}/modules.symbols"), 0o644, "");
}

/// Asks busybox for its programs: it is static and therefore runs on this machine.
fn shell(path: &Path) -> Result<Shell> {
    let list = Tool::new(&path.to_string_lossy()).arg("--list").run()?.text();
    let applets = list.lines().filter(|name| *name != "busybox").map(str::to_owned).collect();
    let busybox = std::fs::read(path).map_err(Error::io("read", path))?;
    Ok(Shell { busybox, applets })
}

fn only_name(directory: &Path) -> Result<String> {
    let mut entries = std::fs::read_dir(directory).map_err(Error::io("list", directory))?;
    let first = entries.next().and_then(std::result::Result::ok).ok_or_else(|| {
        let context = format!("{} is empty", directory.display());
        Error::new(ErrorKind::Content, context)
    })?;
    Ok(first.file_name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_is_one_that_a_shell_can_read() {
        let scripts = FILES.iter().filter(|(_, _, content)| content.starts_with("#!/bin/sh"));
        let scripts = scripts.map(|(path, mode, content)| (*path, *mode, *content));
        let directory = tempfile::tempdir().unwrap();
        let mut checked = 0;
        for (path, mode, content) in scripts.chain([("init", 0o755, INITRAMFS_INIT)]) {
            assert_eq!(mode, 0o755, "{path}");
            let file = directory.path().join("script");
            std::fs::write(&file, content).unwrap();
            Tool::new("sh").arg("-n").arg(&file).run().unwrap();
            checked += 1;
        }
        assert_eq!(checked, 10);
    }

    #[test]
    fn files_of_packages_go_below_usr() {
        assert_eq!(merged_usr("bin/busybox"), "usr/bin/busybox");
        assert_eq!(merged_usr("lib64/ld-linux-x86-64.so.2"), "usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(merged_usr("usr/sbin/dropbear"), "usr/sbin/dropbear");
        assert_eq!(merged_usr("library"), "library");
    }

    #[test]
    fn another_package_is_another_digest() {
        assert_eq!(digest(&[]), digest(&[]));
        assert_ne!(digest(&[]), digest(&[Package::for_test("busybox-static", "aa")]));
    }
}
