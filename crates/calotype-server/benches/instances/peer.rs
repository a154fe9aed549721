//! The peer: `qemu-img`, `qemu-io` and a plain QEMU, used as a person would without a region.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use calotype_vm::{Accelerator, Machine};

/// Longest wait for what a guest or QEMU does in a moment, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The tools that must be there, each with the package that brings it.
const TOOLS: [(&str, &str); 3] = [
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("qemu-system-x86_64", "qemu-system-x86"),
];

/// Names what is not installed, and how to get it.
pub fn check_tools() -> Result<(), String> {
    for (tool, package) in TOOLS {
        let found = Command::new(tool).arg("--version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(format!(
                "{tool} does not run: `apt-get install --no-install-recommends {package}`"
            ));
        }
    }
    Ok(())
}

/// Runs one of the tools to its end.
pub fn run(tool: &str, arguments: &[&str]) {
    let status = Command::new(tool).args(arguments).status().unwrap();
    assert!(status.success(), "{tool} {arguments:?}");
}

/// A new empty qcow2 over a disk.
pub fn create_overlay(overlay: &Path, below: &Path, format: &str) {
    let arguments = ["create", "-q", "-f", "qcow2", "-F", format, "-b"];
    run("qemu-img", &[&arguments[..], &[text(below), text(overlay)]].concat());
}

/// An overlay that names no backing file, over a raw disk, as an option of QEMU's tools.
pub fn chain(overlay: &Path, disk: &Path) -> String {
    format!(
        "driver=qcow2,file.driver=file,file.filename={},\
         backing.driver=raw,backing.file.driver=file,backing.file.filename={}",
        text(overlay),
        text(disk)
    )
}

/// The whole of a chain as one new qcow2 file.
pub fn convert(chain: &str, target: &Path) {
    run("qemu-img", &["convert", "-O", "qcow2", "--image-opts", chain, text(target)]);
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// How plain guests are run: as the region's are, without confinement, network or served disks.
pub struct Plain {
    pub directory: PathBuf,
    accelerator: [&'static str; 2],
    processors: u16,
    memory_mib: u32,
}

impl Plain {
    /// With the accelerator, processors and memory of a guest of the region.
    pub fn like(machine: &Machine, accelerator: &Accelerator, directory: PathBuf) -> Self {
        let accelerator = match accelerator {
            Accelerator::Kvm { .. } => ["kvm", "host"],
            _ => ["tcg,thread=multi", "max"],
        };
        let spec = machine.spec();
        Self { directory, accelerator, processors: spec.vcpus, memory_mib: spec.memory_mib }
    }

    /// What the guests' serial console has shown, one after the other.
    pub fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// Starts a guest; returns when QEMU says that it runs.
    pub fn start(&self, overlay: &Path) -> PlainGuest {
        let [accelerator, model] = self.accelerator;
        let socket = self.directory.join("qmp.sock");
        let _ = std::fs::remove_file(&socket);
        let process = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"])
            .args(["-accel", accelerator, "-cpu", model])
            .args(["-smp", &self.processors.to_string(), "-m", &self.memory_mib.to_string()])
            .args(["-drive", &format!("file={},format=qcow2,if=virtio", text(overlay))])
            .args(["-chardev", &format!("file,id=s,append=on,path={}", text(&self.console()))])
            .args(["-serial", "chardev:s"])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", text(&socket))])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Killed(process);
        let stream = until("QEMU's control socket", || {
            assert!(process.0.try_wait().unwrap().is_none(), "QEMU ended at its start");
            match UnixStream::connect(&socket) {
                Ok(stream) => Some(stream),
                Err(error) => {
                    let kinds = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
                    assert!(kinds.contains(&error.kind()), "{error}");
                    None
                }
            }
        });
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut guest = PlainGuest { process, qmp: BufReader::new(stream) };
        guest.line();
        guest.execute("qmp_capabilities");
        let status = guest.execute("query-status");
        assert!(status.contains("\"running\""), "{status}");
        guest
    }
}

pub struct PlainGuest {
    process: Killed,
    qmp: BufReader<UnixStream>,
}

impl PlainGuest {
    /// Presses the power button and waits until QEMU is gone.
    pub fn power_off(mut self) {
        self.execute("system_powerdown");
        self.process.0.wait().unwrap();
    }

    fn execute(&mut self, command: &str) -> String {
        let line = format!("{{\"execute\": \"{command}\"}}\n");
        self.qmp.get_mut().write_all(line.as_bytes()).unwrap();
        loop {
            let answer = self.line();
            assert!(!answer.contains("\"error\""), "{command}: {answer}");
            if answer.contains("\"return\"") {
                return answer;
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.qmp.read_line(&mut line).unwrap() > 0, "QEMU has closed its control socket");
        line
    }
}

/// A process that ends with its handle, also in a panic.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks every millisecond until there is something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(LOOK_AGAIN);
    }
    panic!("waited in vain: {what}");
}
