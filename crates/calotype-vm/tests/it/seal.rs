//! Sealing the disk of a guest that runs on.

use std::path::Path;

use calotype_disk::{Disk as _, qcow2};
use calotype_vm::{Consistency, ErrorKind};

use crate::guest::{Bench, DISK_BYTES, MemoryDisk, Running, shows, until};

/// Boots as the guest counted them in its third sector, read from a layer as anybody would.
fn boots_in(layer: &Path) -> u8 {
    let bytes = std::fs::read(layer).unwrap();
    let layer = qcow2::Qcow2::open_layer(Box::new(bytes)).unwrap();
    assert_eq!(layer.size_bytes(), DISK_BYTES);
    let mut sector = [0; 512];
    layer.read_at(3 * 512, &mut sector).unwrap();
    sector[0]
}

#[tokio::test]
async fn what_lies_below_is_whole_and_never_changes_again() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    let seen = shows(&machine, 0, "boot A\ntext 0\n").await;
    let sealed = bench.path("top.qcow2");
    let overlay = bench.layer("second.qcow2");
    let report = machine.seal(&overlay, Consistency::Crash).await.unwrap();
    assert!(report.frozen.is_none());

    // All that the guest wrote is in the file, without QEMU's help.
    assert_eq!(boots_in(&sealed), 1);
    let before = std::fs::read(&sealed).unwrap();
    assert_eq!(machine.spec().boot_disk.layers, [overlay.clone(), sealed.clone()]);
    assert_eq!(machine.top_layer().await.unwrap(), overlay);

    // The guest never noticed, and writes elsewhere from now on.
    let seen = shows(&machine, seen, "text 7").await;
    machine.reset().await.unwrap();
    let seen = shows(&machine, seen, "boot B\ntext 0\n").await;
    assert_eq!(std::fs::read(&sealed).unwrap(), before);

    // Again, and then short: only the newest layer is left open.
    let third = bench.layer("third.qcow2");
    machine.seal(&third, Consistency::Crash).await.unwrap();
    assert_eq!(boots_in(&overlay), 2);
    bench.export("captured", MemoryDisk::guest("new"));
    machine.rebase(1, bench.target("captured")).await.unwrap();
    shows(&machine, seen, "new 7").await;
    assert_eq!(machine.spec().boot_disk.layers, [third]);
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", machine.pid()))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(!open.contains(&sealed) && !open.contains(&overlay), "{open:?}");
}

#[tokio::test]
async fn an_adopted_machine_knows_its_layers_whether_or_not_the_seal_came_to_its_end() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    shows(&machine, 0, "text 0").await;
    let (top, overlay) = (bench.path("top.qcow2"), bench.layer("second.qcow2"));
    let description = bench.path("machine/machine.json");

    // Killed when the change was durable and QEMU not told yet.
    let before = std::fs::read_to_string(&description).unwrap();
    let top_text = format!("\"{}\"", top.display());
    let both = format!("\"{}\", {top_text}", overlay.display());
    std::fs::write(&description, before.replacen(&top_text, &both, 1)).unwrap();
    machine.forget();
    let adopted = bench.hypervisor.adopt(&bench.path("machine")).await.unwrap().unwrap();
    let adopted = Running::new(adopted);
    assert_eq!(adopted.spec().boot_disk.layers, std::slice::from_ref(&top));

    // Repeated, and killed when QEMU had been told.
    adopted.seal(&overlay, Consistency::Crash).await.unwrap();
    adopted.forget();
    let adopted = bench.hypervisor.adopt(&bench.path("machine")).await.unwrap().unwrap();
    let adopted = Running::new(adopted);
    assert_eq!(adopted.spec().boot_disk.layers, [overlay.clone(), top]);
    let error = adopted.seal(&overlay, Consistency::Crash).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "it is sealed already");
    assert!(!adopted.withdraw(&overlay).await.unwrap(), "the guest writes to it");
}

#[tokio::test]
async fn a_guest_without_an_agent_is_not_quiesced_and_not_touched() {
    let bench = Bench::new().await;
    let machine = bench.started(MemoryDisk::guest("text")).await;
    let seen = shows(&machine, 0, "text 0").await;
    let (spec, overlay) = (machine.spec(), bench.layer("second.qcow2"));
    for _ in 0..2 {
        let error = machine.seal(&overlay, Consistency::Quiesced).await.unwrap_err();
        // This program is no guard.
        assert_eq!(error.kind(), ErrorKind::NotRunning);
    }
    assert_eq!(machine.spec(), spec);
    assert!(machine.withdraw(&overlay).await.unwrap());
    assert!(machine.withdraw(&overlay).await.unwrap(), "again");
    std::fs::remove_file(&overlay).unwrap();
    shows(&machine, seen, "text 7").await;
    until("the layer's file is closed", || {
        !std::fs::read_dir(format!("/proc/{}/fd", machine.pid()))
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .any(|file| file.to_string_lossy().contains("second.qcow2"))
    })
    .await;
}
