//! A guest under QEMU without KVM, its serial console read line by line.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Ends QEMU when dropped.
pub(crate) struct Guest {
    qemu: Child,
    qmp: UnixStream,
    lines: Receiver<String>,
    /// All that the console said so far.
    pub(crate) console: String,
    _directory: tempfile::TempDir,
}

impl Guest {
    /// Boots `disk` with BIOS and virtio devices; nothing is written to it.
    pub(crate) fn boot(disk: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("qmp");
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-display", "none"])
            .args(["-serial", "stdio", "-device", "virtio-blk-pci,drive=boot"])
            .arg("-drive")
            .arg(format!("file={},format=raw,if=none,id=boot,snapshot=on", disk.display()))
            .args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86_64 runs (Debian package qemu-system-x86)");
        let output = BufReader::new(qemu.stdout.take().expect("a piped output"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        // QEMU listens a moment after its start.
        let deadline = Instant::now() + Duration::from_secs(30);
        let qmp = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "no QMP: {error}"),
            }
            std::thread::yield_now();
        };
        let mut guest = Self { qemu, qmp, lines, console: String::new(), _directory: directory };
        guest.command("qmp_capabilities");
        guest
    }

    pub(crate) fn command(&mut self, name: &str) {
        writeln!(self.qmp, "{{\"execute\":\"{name}\"}}").expect("QEMU listens");
    }

    /// The first line from here on that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.console.push_str(&line);
                    self.console.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?} in time:\n{}", self.console),
                Err(RecvTimeoutError::Disconnected) => panic!("QEMU ended:\n{}", self.console),
            }
        }
    }

    /// Waits until QEMU ends by itself, as it does when its guest powers off.
    pub(crate) fn wait_for_exit(&mut self, limit: Duration) {
        self.qmp.set_read_timeout(Some(limit)).expect("a limit above zero");
        // The socket closes with the process.
        let mut rest = Vec::new();
        self.qmp.read_to_end(&mut rest).expect("QEMU ends in time");
        assert!(self.qemu.wait().is_ok_and(|status| status.success()));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
