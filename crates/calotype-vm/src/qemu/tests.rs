//! Command lines word by word, and what is refused before there is one.

use std::path::PathBuf;

use super::*;
use crate::spec::BootDisk;

fn spec() -> MachineSpec {
    MachineSpec {
        name: "i-1".into(),
        system_uuid: "6f1c5c1e-8f0a-4a53-9d5e-2d9f3b8a7c10".into(),
        directory: "/var/lib/calotype/i-1".into(),
        vcpus: 2,
        memory_mib: 1024,
        firmware: Firmware::Bios,
        boot_disk: BootDisk {
            bus: DiskBus::Virtio,
            layers: vec!["/var/lib/calotype/i-1/b.qcow2".into(), "/layers/a.qcow2".into()],
            base: NbdTarget { socket: "/run/nbd.sock".into(), export: "m-1".into() },
            size_bytes: 1 << 30,
        },
        nics: vec![Nic {
            model: NicModel::Virtio,
            mac: "02:00:17:00:00:01".into(),
            mtu: Some(9000),
        }],
        chassis_asset_tag: "OracleCloud.com".into(),
    }
}

fn tcg() -> Accelerator {
    Accelerator::Tcg { reason: String::new() }
}

/// JSON with its keys in alphabetical order, whatever features serde_json is built with.
fn words(spec: &MachineSpec) -> Vec<String> {
    validate(spec).unwrap();
    let sorted = |word: String| match serde_json::from_str::<Value>(&word) {
        Ok(mut value @ Value::Object(_)) => {
            value.sort_all_objects();
            value.to_string()
        }
        _ => word,
    };
    let words = command_line(spec, &tcg(), Some(Path::new("/ovmf/CODE.fd"))).unwrap();
    words.into_iter().map(sorted).collect()
}

/// The lines are options with their value.
fn check(spec: &MachineSpec, expected: &str) {
    let mut shown = String::new();
    for word in words(spec) {
        let separator = if word.starts_with('-') { "\n" } else { " " };
        shown.extend([separator, &word]);
    }
    assert_eq!(shown.trim(), expected.trim());
}

#[test]
fn a_bios_machine_on_virtio() {
    check(
        &spec(),
        r#"
-name i-1
-pidfile /var/lib/calotype/i-1/run/qemu.pid
-S
-no-user-config
-nodefaults
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-accel tcg,thread=multi
-cpu max
-smp cpus=2,sockets=1,cores=2,threads=1
-m size=1024M
-rtc base=utc
-machine q35,sata=off
-uuid 6f1c5c1e-8f0a-4a53-9d5e-2d9f3b8a7c10
-smbios type=3,asset=OracleCloud.com
-chardev socket,id=qmp,path=/var/lib/calotype/i-1/run/qmp.sock,server=on,wait=off
-chardev socket,id=serial,path=/var/lib/calotype/i-1/run/serial.sock,server=on,wait=off
-chardev socket,id=agent,path=/var/lib/calotype/i-1/run/agent.sock,server=on,wait=off
-mon chardev=qmp,mode=control
-serial chardev:serial
-blockdev {"driver":"nbd","export":"m-1","node-name":"base-3273bee219e8c263","open-timeout":10,"read-only":true,"reconnect-delay":86400,"server":{"path":"/run/nbd.sock","type":"unix"}}
-blockdev {"driver":"file","filename":"/layers/a.qcow2","node-name":"layer-eb9cf456c068ef3e-file","read-only":true}
-blockdev {"backing":"base-3273bee219e8c263","driver":"qcow2","file":"layer-eb9cf456c068ef3e-file","node-name":"layer-eb9cf456c068ef3e","read-only":true}
-blockdev {"discard":"unmap","driver":"file","filename":"/var/lib/calotype/i-1/b.qcow2","node-name":"layer-2164a7c71d22cb80-file","read-only":false}
-blockdev {"backing":"layer-eb9cf456c068ef3e","detect-zeroes":"unmap","discard":"unmap","driver":"qcow2","file":"layer-2164a7c71d22cb80-file","node-name":"layer-2164a7c71d22cb80","read-only":false}
-device {"bootindex":0,"drive":"layer-2164a7c71d22cb80","driver":"virtio-blk-pci","id":"boot-disk"}
-netdev {"addr":{"path":"/var/lib/calotype/i-1/run/nic0.sock","type":"unix"},"id":"net0","server":true,"type":"stream"}
-device {"driver":"virtio-net-pci","host_mtu":9000,"id":"nic0","mac":"02:00:17:00:00:01","netdev":"net0","romfile":""}
-object rng-builtin,id=entropy
-device {"driver":"virtio-rng-pci","rng":"entropy"}
-device {"driver":"virtio-serial-pci","id":"channels"}
-device {"chardev":"agent","driver":"virtserialport","name":"org.qemu.guest_agent.0"}
-display none
-vga std
-vnc unix:/var/lib/calotype/i-1/run/vnc.sock"#,
    );
}

fn lines_of(spec: &MachineSpec, option: &str) -> Vec<String> {
    let words = words(spec);
    words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].clone()).collect()
}

#[test]
fn a_uefi_machine_has_its_own_variables() {
    let spec = MachineSpec { firmware: Firmware::Uefi64, ..spec() };
    assert_eq!(
        lines_of(&spec, "-machine"),
        ["q35,sata=off,pflash0=uefi-code,pflash1=uefi-variables"]
    );
    let expected = [
        r#"{"driver":"file","filename":"/ovmf/CODE.fd","node-name":"uefi-code-file","read-only":true}"#,
        r#"{"driver":"raw","file":"uefi-code-file","node-name":"uefi-code","read-only":true}"#,
        r#"{"driver":"file","filename":"/var/lib/calotype/i-1/firmware-vars.fd","node-name":"uefi-variables-file","read-only":false}"#,
        r#"{"driver":"raw","file":"uefi-variables-file","node-name":"uefi-variables","read-only":false}"#,
    ];
    assert_eq!(lines_of(&spec, "-blockdev")[..4], expected);
    let error = command_line(&spec, &tcg(), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FirmwareMissing);
}

#[test]
fn kvm_gives_the_guest_the_hosts_processor() {
    let kvm = Accelerator::Kvm { reason: String::new() };
    let line = command_line(&spec(), &kvm, None).unwrap().join(" ");
    assert!(line.contains("-accel kvm -cpu host "), "{line}");
}

#[test]
fn each_bus_has_its_devices() {
    let devices = |bus| {
        let mut spec = spec();
        spec.nics.clear();
        spec.boot_disk.bus = bus;
        // Without the channel to the agent, which comes last.
        let mut devices = lines_of(&spec, "-device");
        let channel = devices.split_off(devices.len() - 2);
        assert!(channel[1].contains("org.qemu.guest_agent.0"), "{channel:?}");
        (lines_of(&spec, "-machine").concat(), devices)
    };
    let random = r#"{"driver":"virtio-rng-pci","rng":"entropy"}"#;
    let scsi = [
        r#"{"driver":"virtio-scsi-pci","id":"scsi"}"#,
        r#"{"bootindex":0,"drive":"layer-2164a7c71d22cb80","driver":"scsi-hd","id":"boot-disk"}"#,
        random,
    ];
    assert_eq!(devices(DiskBus::Scsi), ("q35,sata=off".into(), scsi.map(String::from).to_vec()));
    let ide = [
        r#"{"bootindex":0,"drive":"layer-2164a7c71d22cb80","driver":"ide-hd","id":"boot-disk"}"#,
        random,
    ];
    assert_eq!(devices(DiskBus::Ide), ("pc".into(), ide.map(String::from).to_vec()));
    let nvme = [
        r#"{"bootindex":0,"drive":"layer-2164a7c71d22cb80","driver":"nvme","id":"boot-disk","serial":"boot-disk"}"#,
        random,
    ];
    assert_eq!(devices(DiskBus::Nvme), ("q35,sata=off".into(), nvme.map(String::from).to_vec()));
}

#[test]
fn only_virtio_interfaces_tell_their_mtu() {
    let mut spec = spec();
    spec.nics[0].model = NicModel::E1000;
    spec.nics.push(Nic { model: NicModel::E1000e, mac: "02:00:17:00:00:02".into(), mtu: None });
    let expected = [
        r#"{"driver":"e1000","id":"nic0","mac":"02:00:17:00:00:01","netdev":"net0","romfile":""}"#,
        r#"{"driver":"e1000e","id":"nic1","mac":"02:00:17:00:00:02","netdev":"net1","romfile":""}"#,
    ];
    assert_eq!(lines_of(&spec, "-device")[1..3], expected);
}

#[test]
fn commas_do_not_begin_another_option() {
    let spec = MachineSpec {
        directory: "/a,server=off".into(),
        chassis_asset_tag: "tag,type=1".into(),
        ..spec()
    };
    assert_eq!(lines_of(&spec, "-smbios"), ["type=3,asset=tag,,type=1"]);
    let qmp = "socket,id=qmp,path=/a,,server=off/run/qmp.sock,server=on,wait=off";
    assert_eq!(lines_of(&spec, "-chardev")[0], qmp);
}

#[test]
fn what_cannot_be_run_is_refused() {
    type Spoil = fn(&mut MachineSpec);
    let cases: [(&str, Spoil); 18] = [
        ("empty name", |spec| spec.name.clear()),
        ("name of an option", |spec| spec.name = "-S".into()),
        ("name with an option", |spec| spec.name = "a,debug-threads=on".into()),
        ("long name", |spec| spec.name = "a".repeat(65)),
        ("UUID", |spec| spec.system_uuid = "6f1c5c1e8f0a4a539d5e2d9f3b8a7c10".into()),
        ("no processor", |spec| spec.vcpus = 0),
        ("no memory", |spec| spec.memory_mib = 0),
        ("tag with a line end", |spec| spec.chassis_asset_tag = "a\nb".into()),
        ("no layer", |spec| spec.boot_disk.layers.clear()),
        ("many layers", |spec| spec.boot_disk.layers = vec!["/a".into(); LAYERS_MAX + 1]),
        ("relative layer", |spec| spec.boot_disk.layers[0] = "b.qcow2".into()),
        ("relative directory", |spec| spec.directory = "i-1".into()),
        ("deep directory", |spec| spec.directory = PathBuf::from(format!("/{}", "d".repeat(100)))),
        ("deep socket", |spec| spec.boot_disk.base.socket = format!("/{}", "s".repeat(107)).into()),
        ("long export", |spec| spec.boot_disk.base.export = "x".repeat(4097)),
        ("multicast MAC", |spec| spec.nics[0].mac = "01:00:17:00:00:01".into()),
        ("short MAC", |spec| spec.nics[0].mac = "02:00:17:00:01".into()),
        ("MAC with a sign", |spec| spec.nics[0].mac = "02:+0:17:00:00:01".into()),
    ];
    for (what, spoil) in cases {
        let mut spec = spec();
        spoil(&mut spec);
        let error = validate(&spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{what}");
    }
}

#[test]
fn bases_are_told_apart_by_socket_and_export() {
    let target = |socket: &str, export: &str| {
        base_node_name(&NbdTarget { socket: socket.into(), export: export.into() })
    };
    assert_ne!(target("/a", "b"), target("/a", "c"));
    assert_ne!(target("/a", "b"), target("/ab", ""));
    assert!(target("/a", "b").len() <= 31, "QEMU's limit");
}

#[test]
fn layers_are_told_apart_by_their_files() {
    let names = ["/a/overlay-1.qcow2", "/a/overlay-2.qcow2", "/b/overlay-1.qcow2"]
        .map(|layer| layer_file_node_name(Path::new(layer)));
    assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
    assert!(names.iter().all(|name| name.len() <= 31), "QEMU's limit: {names:?}");
}
