//! How fast bytes move through a published port. Reports, asserts nothing about time:
//! `cargo test -p calotype-net throughput -- --ignored --nocapture`.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::testing::{Guest, TestHost, boot, network, public, vnic};

const PORT: u16 = 18_081;
const SIZE: usize = 1024 * 1024 * 1024;
const PIECE: usize = 256 * 1024;

/// Runs a guest on a thread of its own, as QEMU would.
fn run_apart(guest: Guest, step: impl FnMut(&mut Guest) + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { guest.adopt().serve(step).await });
    });
}

async fn measure(mtu: u16, last: u8) {
    let network = network(&TestHost::default());
    let mut vnic = vnic(5);
    vnic.subnet.mtu = mtu;
    vnic.public = Some(public(last, vec![PORT]));
    let (mut guest, attachment) = boot(&network, vnic).await;
    let address = attachment.public_ports()[1].address;
    let sink = guest.listen(PORT);
    let piece = vec![7; PIECE];
    let mut received = 0;
    run_apart(guest, move |guest| {
        let socket = guest.socket(sink);
        while let Ok(size) = socket.recv(|data| (data.len(), data.len())) {
            received += size;
            if size == 0 {
                break;
            }
        }
        // Everything has come in: the other direction begins, without end.
        if received == SIZE && socket.can_send() {
            socket.send_slice(&piece).unwrap();
        }
    });
    let mut host = TcpStream::connect(address).await.unwrap();
    let mut piece = vec![7; PIECE];
    let started = Instant::now();
    for _ in 0..SIZE / PIECE {
        host.write_all(&piece).await.unwrap();
    }
    host.read_exact(&mut piece).await.unwrap();
    let into = started.elapsed();
    let started = Instant::now();
    for _ in 0..SIZE / PIECE {
        host.read_exact(&mut piece).await.unwrap();
    }
    let out = started.elapsed();
    let rate = |elapsed: std::time::Duration| SIZE as f64 / 1e6 / elapsed.as_secs_f64();
    println!("MTU {mtu}: {:.0} MB/s into the guest, {:.0} MB/s out", rate(into), rate(out));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, asserts nothing"]
async fn throughput_of_a_published_port() {
    measure(9_000, 21).await;
    measure(1_500, 22).await;
}
