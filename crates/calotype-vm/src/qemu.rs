//! QEMU's command line: what a [`MachineSpec`] becomes. Pure, so that tests compare it word by word.
//!
//! Confinement is part of it: no configuration file, no default device, every block node named
//! explicitly (what an image's header says of other files is never followed), and a system call
//! filter. `-daemonize` is not used because the filter must forbid starting processes, which is how
//! QEMU would daemonize; [`crate::launcher`] starts it through `setsid` instead.

use std::path::Path;

use serde_json::{Value, json};

use crate::accelerator::Accelerator;
use crate::error::{Error, ErrorKind, Result};
use crate::files::Layout;
use crate::limits::{
    LAYERS_MAX, NBD_NAME_BYTES_MAX, NBD_OPEN_SECONDS, NBD_RECONNECT_SECONDS, NICS_MAX,
    SOCKET_PATH_BYTES_MAX,
};
use crate::spec::{DiskBus, Firmware, MachineSpec, NbdTarget, Nic, NicModel};

/// The device that the boot disk is, by which its statistics are found.
pub(crate) const BOOT_DISK: &str = "boot-disk";

/// The port on which QEMU's guest agent listens, by the name that it looks for.
const AGENT_PORT: &str = "org.qemu.guest_agent.0";

const NAME_BYTES_MAX: usize = 64;
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Refuses what QEMU could not run, or would understand differently than it was meant.
pub(crate) fn validate(spec: &MachineSpec) -> Result<()> {
    let disk = &spec.boot_disk;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name_is_plain = spec.name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && spec.name.chars().all(plain)
        && spec.name.len() <= NAME_BYTES_MAX;
    require(name_is_plain, || format!("{:?} is no machine name", spec.name))?;
    require(is_uuid(&spec.system_uuid), || format!("{:?} is no UUID", spec.system_uuid))?;
    require(spec.vcpus > 0 && spec.memory_mib > 0, || "no processor or no memory".into())?;
    require(!spec.chassis_asset_tag.chars().any(char::is_control), || {
        "the chassis asset tag holds a control character".into()
    })?;
    require((1..=LAYERS_MAX).contains(&disk.layers.len()), || {
        format!("{} layers; 1 to {LAYERS_MAX} are possible", disk.layers.len())
    })?;
    require(spec.nics.len() <= NICS_MAX, || {
        format!("{} network interfaces; at most {NICS_MAX} are possible", spec.nics.len())
    })?;
    for nic in &spec.nics {
        require(is_unicast_mac(&nic.mac), || format!("{:?} is no MAC of a device", nic.mac))?;
    }
    for layer in &disk.layers {
        path_text(layer)?;
    }
    validate_target(&disk.base)?;
    // The longest of the directory's sockets.
    let serial = Layout::new(&spec.directory).serial_socket();
    socket_text(&serial).map(drop)
}

pub(crate) fn validate_target(target: &NbdTarget) -> Result<()> {
    require(target.export.len() <= NBD_NAME_BYTES_MAX, || "the export's name is too long".into())?;
    socket_text(&target.socket).map(drop)
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::InvalidSpec, otherwise())) }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_unicast_mac(text: &str) -> bool {
    let shaped = text.len() == 17
        && text.bytes().enumerate().all(|(index, byte)| match index % 3 {
            2 => byte == b':',
            _ => byte.is_ascii_hexdigit(),
        });
    // The lowest bit of the first octet marks a group of receivers.
    shaped && u8::from_str_radix(&text[..2], 16).is_ok_and(|first| first & 1 == 0)
}

/// Paths travel as JSON and as command line words, hence as UTF-8; and QEMU's working directory is
/// not ours.
fn path_text(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) if path.is_absolute() => Ok(text),
        _ => Err(Error::new(
            ErrorKind::InvalidSpec,
            format!("{} is not an absolute path in UTF-8", path.display()),
        )),
    }
}

fn socket_text(path: &Path) -> Result<&str> {
    let text = path_text(path)?;
    require(text.len() <= SOCKET_PATH_BYTES_MAX, || {
        let length = text.len();
        format!(
            "a socket's path is {length} bytes, and Linux allows {SOCKET_PATH_BYTES_MAX}: {text}"
        )
    })?;
    Ok(text)
}

/// In QEMU's `key=value,…` options a comma within a value is written twice.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

/// The words after `qemu-system-x86_64`. `uefi_code` is needed by UEFI machines.
pub(crate) fn command_line(
    spec: &MachineSpec,
    accelerator: &Accelerator,
    uefi_code: Option<&Path>,
) -> Result<Vec<String>> {
    let layout = Layout::new(&spec.directory);
    let mut line = Words::default();
    line.option("-name", &spec.name);
    line.option("-pidfile", path_text(&layout.pid_file())?);
    line.flag("-S").flag("-no-user-config").flag("-nodefaults");
    line.option("-sandbox", SANDBOX);
    processor(&mut line, accelerator, spec.vcpus, spec.memory_mib);
    firmware(&mut line, spec, &layout, uefi_code)?;
    line.option("-uuid", &spec.system_uuid);
    line.option("-smbios", format!("type=3,asset={}", escaped(&spec.chassis_asset_tag)));
    control(&mut line, &layout)?;
    boot_disk(&mut line, spec)?;
    for (index, nic) in spec.nics.iter().enumerate() {
        interface(&mut line, index, nic, &layout)?;
    }
    // Fed by QEMU itself: one open file less than with /dev/urandom.
    line.option("-object", "rng-builtin,id=entropy");
    line.json("-device", &json!({ "driver": "virtio-rng-pci", "rng": "entropy" }));
    // After all other devices, which keep their places on the bus and so their names in the guest.
    line.json("-device", &json!({ "driver": "virtio-serial-pci", "id": "channels" }));
    let port = json!({ "driver": "virtserialport", "chardev": "agent", "name": AGENT_PORT });
    line.json("-device", &port);
    // Some boot loaders and systems stop where there is no display adapter at all.
    line.option("-display", "none").option("-vga", "std");
    let screen = escaped(socket_text(&layout.vnc_socket())?);
    line.option("-vnc", format!("unix:{screen}"));
    Ok(line.0)
}

/// The words for a guest that is one read-only raw disk and ends QEMU by itself.
pub(crate) fn probe_command_line(accelerator: &Accelerator, disk: &Path) -> Result<Vec<String>> {
    let mut line = Words::default();
    line.flag("-no-user-config").flag("-nodefaults").option("-sandbox", SANDBOX);
    processor(&mut line, accelerator, 1, 64);
    line.option("-machine", "q35").option("-display", "none");
    let file = json!({ "driver": "file", "filename": path_text(disk)?, "read-only": true });
    let node = json!({ "driver": "raw", "node-name": "probe", "read-only": true, "file": file });
    line.json("-blockdev", &node);
    line.json("-device", &json!({ "driver": "virtio-blk-pci", "drive": "probe", "bootindex": 0 }));
    line.option("-device", "isa-debug-exit,iobase=0xf4,iosize=4");
    Ok(line.0)
}

#[derive(Default)]
struct Words(Vec<String>);

impl Words {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn option(&mut self, option: &str, value: impl Into<String>) -> &mut Self {
        self.flag(option).0.push(value.into());
        self
    }

    fn json(&mut self, option: &str, value: &Value) -> &mut Self {
        self.option(option, value.to_string())
    }
}

fn processor(line: &mut Words, accelerator: &Accelerator, vcpus: u16, memory_mib: u32) {
    let (accelerator, model) = match accelerator {
        Accelerator::Kvm { .. } => ("kvm", "host"),
        Accelerator::Tcg { .. } => ("tcg,thread=multi", "max"),
    };
    line.option("-accel", accelerator).option("-cpu", model);
    line.option("-smp", format!("cpus={vcpus},sockets=1,cores={vcpus},threads=1"));
    line.option("-m", format!("size={memory_mib}M"));
    line.option("-rtc", "base=utc");
}

fn firmware(
    line: &mut Words,
    spec: &MachineSpec,
    layout: &Layout,
    uefi_code: Option<&Path>,
) -> Result<()> {
    // Only the i440FX board has a parallel ATA controller. The other goes without its own SATA
    // controller: nothing hangs on it, and a guest would look for a driver.
    let board = if spec.boot_disk.bus == DiskBus::Ide { "pc" } else { "q35,sata=off" };
    match (spec.firmware, uefi_code) {
        (Firmware::Bios, _) => {
            line.option("-machine", board);
        }
        (Firmware::Uefi64, None) => {
            return Err(Error::new(ErrorKind::FirmwareMissing, "UEFI firmware is not installed"));
        }
        (Firmware::Uefi64, Some(code)) => {
            line.option("-machine", format!("{board},pflash0=uefi-code,pflash1=uefi-variables"));
            let variables = layout.firmware_variables();
            for (node, path, read_only) in
                [("uefi-code", code, true), ("uefi-variables", variables.as_path(), false)]
            {
                let file = json!({
                    "driver": "file", "filename": path_text(path)?, "node-name": format!("{node}-file"),
                    "read-only": read_only,
                });
                line.json("-blockdev", &file);
                let raw = json!({
                    "driver": "raw", "file": format!("{node}-file"), "node-name": node,
                    "read-only": read_only,
                });
                line.json("-blockdev", &raw);
            }
        }
    }
    Ok(())
}

fn control(line: &mut Words, layout: &Layout) -> Result<()> {
    let (qmp, serial, agent) = (layout.qmp_socket(), layout.serial_socket(), layout.agent_socket());
    let mut listen = |id: &str, path: &Path| {
        let path = escaped(socket_text(path)?);
        line.option("-chardev", format!("socket,id={id},path={path},server=on,wait=off"));
        Ok(())
    };
    listen("qmp", &qmp)?;
    listen("serial", &serial)?;
    listen("agent", &agent)?;
    line.option("-mon", "chardev=qmp,mode=control").option("-serial", "chardev:serial");
    Ok(())
}

/// The export's node is named by what it is, so that a repeated rebase finds what it did before.
pub(crate) fn base_node_name(target: &NbdTarget) -> String {
    let socket = target.socket.as_os_str().as_encoded_bytes();
    let bytes = socket.iter().chain(&[0]).chain(target.export.as_bytes());
    format!("base-{:016x}", fingerprint(bytes))
}

/// FNV-1a: node names hold 31 bytes, and those of a running QEMU must be known to later releases.
fn fingerprint<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Options of the export's node, for `-blockdev` and `blockdev-add`.
pub(crate) fn base_node(target: &NbdTarget) -> Result<Value> {
    Ok(json!({
        "driver": "nbd", "node-name": base_node_name(target), "read-only": true,
        "server": { "type": "unix", "path": socket_text(&target.socket)? },
        "export": target.export,
        "reconnect-delay": NBD_RECONNECT_SECONDS, "open-timeout": NBD_OPEN_SECONDS,
    }))
}

/// A layer's node is named by its file, wherever in the chain it comes to lie.
pub(crate) fn layer_node_name(layer: &Path) -> String {
    format!("layer-{:016x}", fingerprint(layer.as_os_str().as_encoded_bytes().iter()))
}

/// The node of the file that holds a layer.
pub(crate) fn layer_file_node_name(layer: &Path) -> String {
    format!("{}-file", layer_node_name(layer))
}

/// Options of the node of a layer's file, for `-blockdev` and `blockdev-add`.
pub(crate) fn layer_file_node(layer: &Path, is_top: bool) -> Result<Value> {
    let mut file = json!({
        "driver": "file", "filename": path_text(layer)?,
        "node-name": layer_file_node_name(layer), "read-only": !is_top,
    });
    if is_top {
        file["discard"] = "unmap".into();
    }
    Ok(file)
}

/// Options of a layer's node, for `-blockdev`, `blockdev-add` and `blockdev-reopen`, which takes
/// them all again. Without `backing` nothing is below it, whatever its header says.
pub(crate) fn layer_node(layer: &Path, is_top: bool, backing: Option<&str>) -> Value {
    let mut node = json!({
        "driver": "qcow2", "node-name": layer_node_name(layer),
        "file": layer_file_node_name(layer), "backing": backing, "read-only": !is_top,
    });
    if is_top {
        // What the guest trims or zeroes is not captured later.
        node["discard"] = "unmap".into();
        node["detect-zeroes"] = "unmap".into();
    }
    node
}

fn boot_disk(line: &mut Words, spec: &MachineSpec) -> Result<()> {
    let disk = &spec.boot_disk;
    line.json("-blockdev", &base_node(&disk.base)?);
    let mut backing = base_node_name(&disk.base);
    for (index, layer) in disk.layers.iter().enumerate().rev() {
        line.json("-blockdev", &layer_file_node(layer, index == 0)?);
        line.json("-blockdev", &layer_node(layer, index == 0, Some(&backing)));
        backing = layer_node_name(layer);
    }
    let mut device = json!({ "id": BOOT_DISK, "drive": backing, "bootindex": 0 });
    device["driver"] = match disk.bus {
        DiskBus::Virtio => "virtio-blk-pci",
        DiskBus::Scsi => {
            line.json("-device", &json!({ "driver": "virtio-scsi-pci", "id": "scsi" }));
            "scsi-hd"
        }
        DiskBus::Ide => "ide-hd",
        DiskBus::Nvme => {
            // The one device that insists on a serial number.
            device["serial"] = BOOT_DISK.into();
            "nvme"
        }
    }
    .into();
    line.json("-device", &device);
    Ok(())
}

fn interface(line: &mut Words, index: usize, nic: &Nic, layout: &Layout) -> Result<()> {
    let socket = layout.nic_socket(index);
    let netdev = format!("net{index}");
    let backend = json!({
        "type": "stream", "id": netdev, "server": true,
        "addr": { "type": "unix", "path": socket_text(&socket)? },
    });
    line.json("-netdev", &backend);
    let driver = match nic.model {
        NicModel::Virtio => "virtio-net-pci",
        NicModel::E1000 => "e1000",
        NicModel::E1000e => "e1000e",
    };
    // No boot ROM: instances boot from their disk, and the ROM would try the network first.
    let mut device = json!({
        "driver": driver, "id": format!("nic{index}"), "netdev": netdev, "mac": nic.mac,
        "romfile": "",
    });
    if let (NicModel::Virtio, Some(mtu)) = (nic.model, nic.mtu) {
        device["host_mtu"] = mtu.into();
    }
    line.json("-device", &device);
    Ok(())
}

#[cfg(test)]
mod tests;
