//! A machine's life: start, power, end, and being found again.

use std::time::Duration;

use calotype_vm::{DiskBus, ErrorKind, Firmware, GuestStatus, HypervisorConfig, MachineSpec};

use crate::guest::{Bench, MemoryDisk, Running, process_exists, read_log, shows, until};

#[tokio::test]
async fn a_guest_runs_prints_and_is_killed() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    shows(&machine, 0, "boot A\ntext 0\ntext 1\n").await;
    assert_eq!(machine.guest_status().await.unwrap(), GuestStatus::Running);
    let pid = machine.pid();
    assert!(process_exists(pid));
    machine.kill().await.unwrap();
    assert!(!process_exists(pid));
    machine.exited().await;
    machine.kill().await.unwrap();
    assert_eq!(machine.guest_status().await.unwrap_err().kind(), ErrorKind::NotRunning);
    assert_eq!(machine.power_button().await.unwrap_err().kind(), ErrorKind::NotRunning);
}

#[tokio::test]
async fn a_reset_boots_again_and_is_reported() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    let mut events = machine.events();
    let seen = shows(&machine, 0, "boot A").await;
    machine.reset().await.unwrap();
    shows(&machine, seen, "boot B").await;
    assert_eq!(next_event(&mut events, "RESET").await.data["guest"], false);
    machine.power_button().await.unwrap();
    next_event(&mut events, "POWERDOWN").await;
}

async fn next_event(
    events: &mut tokio::sync::broadcast::Receiver<calotype_vm::Event>,
    name: &str,
) -> calotype_vm::Event {
    let find = async {
        loop {
            let event = events.recv().await.unwrap();
            if event.name == name {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), find).await.unwrap()
}

#[tokio::test]
async fn a_guest_that_powers_off_ends_its_machine_with_its_last_words_logged() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest_that_powers_off()).await;
    machine.exited().await;
    assert!(read_log(&machine.console_log()).ends_with("boot A\nlast 0\n"));
    assert!(bench.hypervisor.adopt(&bench.path("machine")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_machine_is_adopted_after_its_handle_is_gone() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    let seen = shows(&machine, 0, "text 0").await;
    let (pid, spec) = (machine.pid(), machine.spec());
    machine.forget();
    let adopted = bench.hypervisor.adopt(&bench.path("machine")).await.unwrap().unwrap();
    let adopted = Running::new(adopted);
    assert_eq!((adopted.pid(), adopted.spec()), (pid, spec));
    shows(&adopted, seen, "text 0").await;
    assert_eq!(adopted.guest_status().await.unwrap(), GuestStatus::Running);
    adopted.kill().await.unwrap();
    assert!(bench.hypervisor.adopt(&bench.path("machine")).await.unwrap().is_none());
}

const SERVICE_DIRECTORY: &str = "CALOTYPE_VM_TEST_SERVICE";

/// No test but the service that the next test kills: starts a machine, and waits for its death.
#[tokio::test]
#[ignore = "run by another test, as a process of its own"]
async fn service() {
    let Some(directory) = std::env::var_os(SERVICE_DIRECTORY) else { return };
    let bench = Bench::at(directory.as_ref(), HypervisorConfig::default()).await;
    let _machine = bench.started(MemoryDisk::guest("text")).await;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_guest_outlives_a_service_that_is_killed() {
    let mut bench = Bench::new().await;
    bench.stop_serving();
    let mut service = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::service", "--include-ignored"])
        .env(SERVICE_DIRECTORY, &bench.directory)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let log = bench.path("machine/console.log");
    until("the guest runs", || read_log(&log).contains("text 7")).await;
    service.kill().unwrap();
    service.wait().unwrap();

    let seen = read_log(&log).len();
    bench.export("base", MemoryDisk::guest("text"));
    bench.serve();
    let adopted = bench.hypervisor.adopt(&bench.path("machine")).await.unwrap().unwrap();
    let adopted = Running::new(adopted);
    shows(&adopted, seen, "text 7").await;
    let log = read_log(&log);
    assert!(log.matches("boot").count() == 1 && !log.contains("disk error"), "{log}");
    let session = rustix::process::Pid::from_raw(i32::try_from(adopted.pid()).unwrap());
    assert_eq!(rustix::process::getsid(session).ok(), session, "its own session");
}

#[tokio::test]
async fn a_machine_without_its_pid_file_is_adopted_all_the_same() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    std::fs::remove_file(bench.path("machine/run/qemu.pid")).unwrap();
    let pid = machine.pid();
    machine.forget();
    let adopted = bench.hypervisor.adopt(&bench.path("machine")).await.unwrap().unwrap();
    assert_eq!(Running::new(adopted).pid(), pid);
}

#[tokio::test]
async fn a_directory_without_a_machine_has_nothing_to_adopt() {
    let bench = Bench::new().await;
    assert!(bench.hypervisor.adopt(&bench.path("machine")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_machine_starts_only_once() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    let error = bench.hypervisor.start(&machine.spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyRunning);
    assert_eq!(machine.guest_status().await.unwrap(), GuestStatus::Running);
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_leaves_no_process() {
    let bench = Bench::new().await;
    bench.export("base", MemoryDisk::guest("text"));
    let damaged = bench.layer("damaged.qcow2");
    std::fs::write(&damaged, "no qcow2 at all").unwrap();
    let error = bench.hypervisor.start(&bench.spec(vec![damaged], "base")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StartFailed);
    assert!(error.to_string().contains("not in qcow2 format"), "{error}");

    let missing = bench.spec(vec![bench.layer("top.qcow2")], "no such export");
    let error = bench.hypervisor.start(&missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StartFailed);
    assert!(bench.hypervisor.adopt(&missing.directory).await.unwrap().is_none());
}

#[tokio::test]
async fn a_start_given_up_leaves_no_process() {
    let mut bench = Bench::new().await;
    bench.export("base", MemoryDisk::guest("text"));
    // QEMU waits for a server that accepts and says nothing.
    bench.stop_serving();
    let _silent = std::os::unix::net::UnixListener::bind(bench.path("nbd.sock")).unwrap();
    let spec = bench.spec(vec![bench.layer("top.qcow2")], "base");
    let hypervisor = bench.hypervisor.clone();
    let started = spec.clone();
    let starting = tokio::spawn(async move { hypervisor.start(&started).await.map(drop) });
    let found = || bench.hypervisor.adopt(&spec.directory);
    let pid_file = spec.directory.join("run/qmp.sock");
    until("QEMU is starting", || pid_file.exists()).await;
    starting.abort();
    assert!(starting.await.unwrap_err().is_cancelled());
    while found().await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_bus_boots() {
    for bus in [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Ide, DiskBus::Nvme] {
        let bench = Bench::new().await;
        bench.export("base", MemoryDisk::guest("text"));
        let mut spec = bench.spec(vec![bench.layer("top.qcow2")], "base");
        spec.boot_disk.bus = bus;
        let machine = Running::new(bench.hypervisor.start(&spec).await.unwrap());
        shows(&machine, 0, "boot A\ntext 0\n").await;
        let statistics = machine.disk_statistics().await.unwrap();
        assert!(
            statistics.reads >= 3 && statistics.read_bytes >= 3 * 512,
            "{bus:?} {statistics:?}"
        );
        assert!(statistics.written_bytes >= 512 && statistics.writes >= 1, "{bus:?}");
        assert_eq!(statistics.failed, 0);
        machine.kill().await.unwrap();
    }
}

#[tokio::test]
async fn uefi_firmware_keeps_its_variables_in_the_directory() {
    let bench = Bench::new().await;
    if !bench.hypervisor.has_uefi() {
        eprintln!("skipped: no OVMF");
        return;
    }
    bench.export("base", MemoryDisk::guest("text"));
    let mut spec = bench.spec(vec![bench.layer("top.qcow2")], "base");
    spec.firmware = Firmware::Uefi64;
    spec.memory_mib = 128;
    let machine = Running::new(bench.hypervisor.start(&spec).await.unwrap());
    // OVMF's own boot manager, since the disk holds nothing for UEFI.
    shows(&machine, 0, "Boot").await;
    let variables = std::fs::metadata(bench.path("machine/firmware-vars.fd")).unwrap();
    assert!(variables.len() > 0);
    machine.kill().await.unwrap();
}

#[tokio::test]
async fn root_runs_qemu_as_somebody_else() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let config =
        HypervisorConfig { unprivileged_user: Some((NOBODY, NOBODY)), ..Default::default() };
    let bench = Bench::with(config).await;
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(&bench.directory, open).unwrap();
    let machine = bench.started(MemoryDisk::guest("text")).await;
    shows(&machine, 0, "text 0").await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
    for line in ["Uid:", "Gid:"] {
        let line = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        assert!(line.split_whitespace().all(|id| id == "65534"), "{line}");
    }
    assert!(status.lines().any(|line| line.trim_end() == "Groups:"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let owner = |name: &str| std::fs::metadata(bench.path(name)).unwrap().uid();
    assert_eq!(owner("machine/run"), NOBODY);
    assert_eq!(owner("top.qcow2"), NOBODY);
    assert_eq!(owner("machine"), 0);
    assert_eq!(owner("machine/console.log"), 0);
    machine.forget();
    let adopted = bench.hypervisor.adopt(&bench.path("machine")).await.unwrap().unwrap();
    Running::new(adopted).kill().await.unwrap();
}

#[tokio::test]
async fn the_environment_of_the_service_does_not_reach_qemu() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    let environment = std::fs::read(format!("/proc/{}/environ", machine.pid())).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains("CARGO_MANIFEST_DIR"), "{environment}");
}

#[tokio::test]
async fn a_directory_too_deep_for_sockets_is_refused_with_the_limit() {
    let bench = Bench::new().await;
    let deep = MachineSpec {
        directory: bench.path(&"deep/".repeat(30)),
        ..bench.spec(vec![bench.layer("top.qcow2")], "base")
    };
    let error = bench.hypervisor.start(&deep).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
    assert!(error.to_string().contains("107"), "{error}");
}
