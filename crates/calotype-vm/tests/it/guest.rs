//! What the tests have in common: disks in memory, a small guest, and waiting for what it prints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use calotype_disk::{Disk, Error, ErrorKind, Extent, ExtentKind, Result};
use calotype_vm::{
    AcceleratorChoice, BlockServer, BootDisk, DiskBus, Firmware, Hypervisor, HypervisorConfig,
    Machine, MachineSpec, NbdTarget,
};
use tempfile::TempDir;

/// Assembled from `guest.s`, which says what it does.
const SECTOR: &[u8; 512] = include_bytes!("guest.bin");
pub(crate) const DISK_BYTES: u64 = 4 << 20;
/// Where the guest finds its texts, a sector each.
const FIRST_TEXT: usize = 256 * 512;
/// Generous: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Bytes at the beginning of a disk that is zero after them, 64 KiB a run.
pub(crate) struct MemoryDisk {
    bytes: Vec<u8>,
    size_bytes: u64,
    pub(crate) broken: AtomicBool,
}

impl MemoryDisk {
    pub(crate) fn new(bytes: Vec<u8>, size_bytes: u64) -> Self {
        Self { bytes, size_bytes, broken: AtomicBool::new(false) }
    }

    /// The guest's disk, whose eight texts begin with `word`.
    pub(crate) fn guest(word: &str) -> Self {
        let mut bytes = SECTOR.to_vec();
        bytes.resize(FIRST_TEXT + 8 * 512, 0);
        for index in 0..8 {
            let text = format!("{word} {index}");
            bytes[FIRST_TEXT + index * 512..][..text.len()].copy_from_slice(text.as_bytes());
        }
        Self::new(bytes, DISK_BYTES)
    }

    /// The same, but the machine powers itself off after the first text.
    pub(crate) fn guest_that_powers_off() -> Self {
        let mut disk = Self::guest("last");
        disk.bytes[FIRST_TEXT + 511] = b'P';
        disk
    }
}

impl Disk for MemoryDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Io, "broken on purpose"));
        }
        assert!(offset + buf.len() as u64 <= self.size_bytes);
        buf.fill(0);
        let start = usize::try_from(offset).unwrap().min(self.bytes.len());
        let known = &self.bytes[start..self.bytes.len().min(start + buf.len())];
        buf[..known.len()].copy_from_slice(known);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        const RUN_BYTES: u64 = 64 << 10;
        assert!(offset < self.size_bytes);
        let end = ((offset / RUN_BYTES + 1) * RUN_BYTES).min(self.size_bytes);
        let begin = usize::try_from(offset / RUN_BYTES * RUN_BYTES).unwrap();
        let bytes = self.bytes.get(begin..).unwrap_or_default();
        let is_data = bytes.iter().take(64 << 10).any(|byte| *byte != 0);
        let kind = if is_data { ExtentKind::Data } else { ExtentKind::Zero };
        Ok(Extent { length_bytes: end - offset, kind })
    }
}

/// A scratch directory with disks that are served, and one machine in it.
pub(crate) struct Bench {
    pub(crate) directory: PathBuf,
    _scratch: Option<TempDir>,
    pub(crate) hypervisor: Hypervisor,
    exports: Arc<Mutex<BTreeMap<String, Arc<MemoryDisk>>>>,
    server: Option<BlockServer>,
    name: String,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(HypervisorConfig::default()).await
    }

    /// Under TCG: what is tested is ours, not the host's processor.
    pub(crate) async fn with(config: HypervisorConfig) -> Self {
        let scratch = tempfile::Builder::new().prefix("cvm-").tempdir().unwrap();
        let bench = Self::at(scratch.path(), config).await;
        Self { _scratch: Some(scratch), ..bench }
    }

    /// In a directory that is another's to remove.
    pub(crate) async fn at(directory: &Path, config: HypervisorConfig) -> Self {
        let config = HypervisorConfig { accelerator: AcceleratorChoice::Tcg, ..config };
        let directory = directory.to_path_buf();
        // Names must be unique among all that run, and tests run beside each other.
        let name = format!("test-{}", directory.file_name().unwrap().to_str().unwrap());
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let hypervisor = Hypervisor::detect(config).await.unwrap();
        let mut bench = Self {
            directory,
            _scratch: None,
            hypervisor,
            exports: Arc::default(),
            server: None,
            name,
        };
        bench.serve();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn export(&self, name: &str, disk: MemoryDisk) -> Arc<MemoryDisk> {
        let disk = Arc::new(disk);
        self.exports.lock().unwrap().insert(name.into(), Arc::clone(&disk));
        disk
    }

    pub(crate) fn target(&self, export: &str) -> NbdTarget {
        NbdTarget { socket: self.path("nbd.sock"), export: export.into() }
    }

    pub(crate) fn serve(&mut self) {
        let exports = Arc::clone(&self.exports);
        let resolve = move |name: &str| {
            exports.lock().unwrap().get(name).map(|disk| Arc::clone(disk) as Arc<dyn Disk>)
        };
        let socket = self.path("nbd.sock");
        self.server = Some(self.hypervisor.serve_blocks(&socket, Arc::new(resolve)).unwrap());
    }

    pub(crate) fn stop_serving(&mut self) {
        self.server = None;
    }

    pub(crate) fn server(&self) -> &BlockServer {
        self.server.as_ref().unwrap()
    }

    /// An empty layer.
    pub(crate) fn layer(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, calotype_disk::qcow2::create_layer(DISK_BYTES).unwrap()).unwrap();
        path
    }

    pub(crate) fn spec(&self, layers: Vec<PathBuf>, export: &str) -> MachineSpec {
        MachineSpec {
            name: self.name.clone(),
            system_uuid: "6f1c5c1e-8f0a-4a53-9d5e-2d9f3b8a7c10".into(),
            directory: self.path("machine"),
            vcpus: 1,
            memory_mib: 64,
            firmware: Firmware::Bios,
            boot_disk: BootDisk {
                bus: DiskBus::Virtio,
                layers,
                base: self.target(export),
                size_bytes: DISK_BYTES,
            },
            nics: Vec::new(),
            chassis_asset_tag: "OracleCloud.com".into(),
        }
    }

    /// The guest over an empty layer.
    pub(crate) async fn started(&self, disk: MemoryDisk) -> Running {
        self.export("base", disk);
        let spec = self.spec(vec![self.layer("top.qcow2")], "base");
        Running::new(self.hypervisor.start(&spec).await.unwrap())
    }
}

/// A machine that does not outlive its test.
pub(crate) struct Running(Option<Machine>);

impl Running {
    pub(crate) fn new(machine: Machine) -> Self {
        Self(Some(machine))
    }

    /// Drops the handle and nothing else.
    pub(crate) fn forget(mut self) {
        self.0 = None;
    }
}

impl std::ops::Deref for Running {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(machine) = &self.0 else { return };
        let pid = i32::try_from(machine.pid()).ok().and_then(rustix::process::Pid::from_raw);
        if process_exists(machine.pid())
            && let Some(pid) = pid
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

pub(crate) fn process_exists(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// What a failure shows of a console.
const CONSOLE_TAIL_BYTES: usize = 300;

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
    assert!(came, "waited in vain: {what}");
}

pub(crate) fn read_log(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}

/// Waits until the console shows `text` at or after byte `from`; returns the log's length then.
pub(crate) async fn shows(machine: &Machine, from: usize, text: &str) -> usize {
    let log = machine.console_log();
    let waiting = async {
        while !read_log(&log).get(from..).is_some_and(|new| new.contains(text)) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        let shown = read_log(&log);
        let start = shown.floor_char_boundary(shown.len().saturating_sub(CONSOLE_TAIL_BYTES));
        panic!("waited in vain for {text:?}; the console ends with {:?}", &shown[start..]);
    }
    read_log(&log).len()
}
