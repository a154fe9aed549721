//! Network interfaces: the sockets that QEMU listens on.

use std::os::unix::net::UnixStream;

use calotype_vm::{Nic, NicModel};

use crate::guest::{Bench, MemoryDisk, Running, shows, until};

#[tokio::test]
async fn a_second_peer_is_served_after_the_first_is_gone() {
    let bench = Bench::new().await;
    bench.export("base", MemoryDisk::guest("text"));
    let mut spec = bench.spec(vec![bench.layer("top.qcow2")], "base");
    spec.nics = [NicModel::Virtio, NicModel::E1000, NicModel::E1000e]
        .into_iter()
        .zip(0..)
        .map(|(model, index)| Nic {
            model,
            mac: format!("02:00:17:00:00:0{index}"),
            mtu: Some(9000),
        })
        .collect();
    let machine = Running::new(bench.hypervisor.start(&spec).await.unwrap());
    shows(&machine, 0, "text 0").await;
    for index in 0..spec.nics.len() {
        for _ in 0..4 {
            let mut connected = None;
            until("QEMU listens", || {
                connected = UnixStream::connect(machine.nic_socket(index)).ok();
                connected.is_some()
            })
            .await;
            drop(connected);
        }
    }
}
