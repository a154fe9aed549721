//! The boot disk: layers over a served base, while the server and the chain change below the guest.

use std::sync::atomic::Ordering;

use calotype_vm::{ErrorKind, GuestStatus};

use crate::guest::{Bench, MemoryDisk, Running, shows, until};

#[tokio::test]
async fn a_guest_sees_the_base_through_its_layers() {
    let bench = Bench::new().await;
    let first = bench.started(MemoryDisk::guest("text")).await;
    shows(&first, 0, "boot A\ntext 0\n").await;
    first.kill().await.unwrap();
    // What the first wrote is read through a new layer, and the old one is not written any more.
    let sealed = bench.path("top.qcow2");
    let before = std::fs::read(&sealed).unwrap();
    let spec = bench.spec(vec![bench.layer("second.qcow2"), sealed.clone()], "base");
    let second = Running::new(bench.hypervisor.start(&spec).await.unwrap());
    let seen = shows(&second, 0, "boot B\ntext 0\n").await;
    second.reset().await.unwrap();
    shows(&second, seen, "boot C").await;
    second.kill().await.unwrap();
    assert_eq!(std::fs::read(&sealed).unwrap(), before);
    let served = bench.server().statistics()["base"];
    assert!(served.read_bytes > 512 && served.failed == 0, "{served:?}");
}

#[tokio::test]
async fn a_guest_waits_for_a_server_that_restarts() {
    let mut bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    shows(&machine, 0, "text 7").await;
    bench.stop_serving();
    // Once the guest waits, its console is silent; it must be waiting and not have failed.
    let waiting = bench.path("nbd.sock");
    assert!(!waiting.exists());
    let seen = shows(&machine, 0, "text 7").await;
    bench.serve();
    until("the guest's disk is back", || {
        bench.server().statistics().get("base").is_some_and(|base| base.reads > 8)
    })
    .await;
    shows(&machine, seen, "text 7").await;
    let log = crate::guest::read_log(&machine.console_log());
    assert!(!log.contains("disk error"), "{log}");
}

#[tokio::test]
async fn a_damaged_base_is_an_error_for_the_guest_and_no_more() {
    let bench = Bench::new().await;
    let disk = bench.export("base", MemoryDisk::guest("text"));
    let spec = bench.spec(vec![bench.layer("top.qcow2")], "base");
    let machine = Running::new(bench.hypervisor.start(&spec).await.unwrap());
    shows(&machine, 0, "text 0").await;
    disk.broken.store(true, Ordering::SeqCst);
    shows(&machine, 0, "disk error").await;
    disk.broken.store(false, Ordering::SeqCst);
    let seen = shows(&machine, 0, "disk error").await;
    shows(&machine, seen, "text 0").await;
    assert_eq!(machine.guest_status().await.unwrap(), GuestStatus::Running);
    assert!(machine.disk_statistics().await.unwrap().failed > 0);
    assert!(bench.server().statistics()["base"].failed > 0);
}

#[tokio::test]
async fn a_running_guests_chain_is_made_short() {
    let bench = Bench::new().await;
    bench.export("base", MemoryDisk::guest("old"));
    // Not the same content as is promised, so that the test sees from where it is read.
    bench.export("captured", MemoryDisk::guest("new"));
    let layers = ["top.qcow2", "second.qcow2", "third.qcow2"].map(|name| bench.layer(name));
    let machine =
        Running::new(bench.hypervisor.start(&bench.spec(layers.to_vec(), "base")).await.unwrap());
    let seen = shows(&machine, 0, "old 7").await;
    for _ in 0..2 {
        machine.rebase(1, bench.target("captured")).await.unwrap();
    }
    shows(&machine, seen, "new 7").await;
    assert_eq!(machine.spec().boot_disk.layers, [layers[0].clone()]);
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", machine.pid()))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(open.contains(&layers[0]), "{open:?}");
    assert!(!open.contains(&layers[1]) && !open.contains(&layers[2]), "{open:?}");
    until("the old base is left", || bench.server().statistics()["base"].connections == 0).await;

    // It is remembered, and goes on from where it is.
    let spec = machine.spec();
    machine.forget();
    let adopted = bench.hypervisor.adopt(&bench.path("machine")).await.unwrap().unwrap();
    let adopted = Running::new(adopted);
    assert_eq!(adopted.spec(), spec);
    adopted.rebase(1, bench.target("base")).await.unwrap();
    let seen = shows(&adopted, 0, "new 7").await;
    shows(&adopted, seen, "old 7").await;
}

#[tokio::test]
async fn a_rebase_that_cannot_be_done_changes_nothing() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    let (spec, seen) = (machine.spec(), shows(&machine, 0, "text 0").await);
    for kept in [0, 2] {
        let error = machine.rebase(kept, bench.target("base")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
    }
    let error = machine.rebase(1, bench.target("nowhere")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(machine.spec(), spec);
    shows(&machine, seen, "text 0").await;
}
