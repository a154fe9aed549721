//! A machine's directory: what lies where, who may touch it, and how it becomes durable.
//!
//! When this process is root, QEMU's user owns only `run/`, the layers and the firmware variables.
//! The directory itself stays ours, so that a QEMU gone bad cannot swap a file that we open.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind as IoErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::spec::MachineSpec;

/// User and group id that own QEMU's files.
pub(crate) type Owner = (u32, u32);

/// Name of the console log in a machine's directory; it is there after the machine has ended, too.
pub const CONSOLE_LOG: &str = "console.log";

/// The paths within a machine's directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) directory: PathBuf,
}

impl Layout {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.directory.join("machine.json")
    }

    pub(crate) fn console_log(&self) -> PathBuf {
        self.directory.join(CONSOLE_LOG)
    }

    pub(crate) fn firmware_variables(&self) -> PathBuf {
        self.directory.join("firmware-vars.fd")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.directory.join("run")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.run().join("qemu.pid")
    }

    pub(crate) fn qmp_socket(&self) -> PathBuf {
        self.run().join("qmp.sock")
    }

    pub(crate) fn serial_socket(&self) -> PathBuf {
        self.run().join("serial.sock")
    }

    /// Where the guest's screen is shown by VNC.
    pub(crate) fn vnc_socket(&self) -> PathBuf {
        self.run().join("vnc.sock")
    }

    /// The channel to the agent in the guest.
    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.run().join("agent.sock")
    }

    /// Says whether the guest's filesystems may be frozen; see [`crate::freeze`].
    pub(crate) fn freeze_mark(&self) -> PathBuf {
        self.directory.join("freeze")
    }

    pub(crate) fn nic_socket(&self, index: usize) -> PathBuf {
        self.run().join(format!("nic{index}.sock"))
    }
}

/// Makes the directory ready for a start: an empty `run/`, the firmware variables (copied once, kept
/// for the machine's life), QEMU's ownership of what it opens, and the spec on disk.
pub(crate) fn prepare(
    layout: &Layout,
    spec: &MachineSpec,
    variables: Option<&Path>,
    owner: Option<Owner>,
) -> Result<()> {
    // Other users pass through to `run/` and the layers, and see nothing else.
    let mode = if owner.is_some() { 0o711 } else { 0o700 };
    let directory = &layout.directory;
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)
        .map_err(Error::io("create", directory))?;
    std::fs::set_permissions(directory, Permissions::from_mode(mode))
        .map_err(Error::io("set the mode of", directory))?;
    prepare_run(layout, owner)?;
    // No guest begins its life frozen.
    remove_if_there(&layout.freeze_mark())?;
    if let Some(template) = variables {
        let copy = layout.firmware_variables();
        if !copy.try_exists().map_err(Error::io("look at", &copy))? {
            let bytes = std::fs::read(template).map_err(Error::io("read", template))?;
            write_durably(&copy, &bytes)?;
        }
        give(&copy, owner)?;
    }
    for layer in &spec.boot_disk.layers {
        give(layer, owner)?;
    }
    save_spec(layout, spec)
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != IoErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn prepare_run(layout: &Layout, owner: Option<Owner>) -> Result<()> {
    let run = layout.run();
    match std::fs::remove_dir_all(&run) {
        Err(error) if error.kind() != IoErrorKind::NotFound => {
            return Err(Error::io("empty", &run)(error));
        }
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&run).map_err(Error::io("create", &run))?;
    give(&run, owner)
}

/// Gives a file or directory to QEMU's user. A symbolic link is refused: nobody put one there
/// rightly, and its target would change hands.
pub(crate) fn give(path: &Path, owner: Option<Owner>) -> Result<()> {
    let Some((user, group)) = owner else { return Ok(()) };
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(Error::io("open", path))?;
    fchown(&file, Some(user), Some(group)).map_err(Error::io("change the owner of", path))
}

pub(crate) fn save_spec(layout: &Layout, spec: &MachineSpec) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(spec).map_err(|error| {
        Error::because(ErrorKind::InvalidSpec, "the machine's description has no JSON form", error)
    })?;
    text.push(b'\n');
    write_durably(&layout.spec(), &text)
}

/// `None` when the directory holds no machine.
pub(crate) fn load_spec(layout: &Layout) -> Result<Option<MachineSpec>> {
    let path = layout.spec();
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("read", &path))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        Error::because(
            ErrorKind::InvalidSpec,
            format!("{} describes no machine", path.display()),
            error,
        )
    })
}

/// Replaces a file so that a crash leaves the old or the new one.
fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(Error::io("create", &fresh))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", &fresh))?;
    std::fs::rename(&fresh, path).map_err(Error::io("replace", path))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("make durable", directory))
}
