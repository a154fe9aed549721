//! What was measured, as a table or as JSON: medians, the fastest rounds, and how many times as long the
//! peer's median is.

use std::time::Duration;

use calotype_vm::Hypervisor;
use serde_json::{Value, json};

/// One thing that was measured.
struct Row {
    what: String,
    ours: Vec<Duration>,
    /// What it stands beside, in the same rounds.
    peers: Vec<(String, Vec<Duration>)>,
}

/// Everything that was measured. The table is printed as it grows, JSON at the end.
pub struct Report {
    as_json: bool,
    machine: Value,
    rows: Vec<Row>,
}

impl Report {
    pub fn new(hypervisor: &Hypervisor, as_json: bool) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let accelerator = hypervisor.accelerator();
        let machine = json!({
            "processors": processors,
            "accelerator": accelerator.name(),
            "acceleratorReason": accelerator.reason(),
            "qemu": hypervisor.qemu_version(),
        });
        if !as_json {
            let qemu = hypervisor.qemu_version();
            println!("{processors} processors, QEMU {qemu}, {accelerator}");
            println!("median (fastest) of all rounds, in ms\n");
            println!("{:54} {:>15} {:>15} {:>7}", "", "calotype", "peer", "ratio");
        }
        Self { as_json, machine, rows: Vec::new() }
    }

    /// Says what the next measures are of.
    pub fn heading(&self, text: &str) {
        if !self.as_json {
            println!("{text}");
        }
    }

    /// Adds one measure and what it stands beside.
    pub fn row<const N: usize>(
        &mut self,
        heading: &str,
        what: &str,
        ours: Vec<Duration>,
        peers: [(&str, Vec<Duration>); N],
    ) {
        let peers = peers.map(|(name, times)| (name.to_owned(), times)).into();
        let row = Row { what: format!("{heading}: {what}"), ours, peers };
        if !self.as_json {
            println!("  {what:52} {}", cell(&row.ours));
            for (name, times) in &row.peers {
                let (name, ratio) = (format!("beside {name}"), ratio(&row.ours, times));
                println!("    {name:50} {:15} {} {ratio:>6.1}x", "", cell(times));
            }
        }
        self.rows.push(row);
    }

    /// A remark below a measure.
    pub fn remark(&self, text: &str) {
        if !self.as_json {
            println!("    {text}");
        }
    }

    /// Prints the JSON, if it is wanted. Times are in milliseconds.
    pub fn finish(&self) {
        if self.as_json {
            let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
            println!("{:#}", json!({ "machine": self.machine, "measures": rows }));
        }
    }
}

impl Row {
    fn json(&self) -> Value {
        let peer = |(name, times): &(String, Vec<Duration>)| json!({ "name": name, "times": times_json(times), "ratio": ratio(&self.ours, times) });
        let peers: Vec<_> = self.peers.iter().map(peer).collect();
        json!({ "what": self.what, "calotype": times_json(&self.ours), "peers": peers })
    }
}

fn times_json(times: &[Duration]) -> Value {
    let all: Vec<_> = times.iter().copied().map(ms).collect();
    json!({ "medianMs": ms(median(times)), "allMs": all })
}

fn cell(times: &[Duration]) -> String {
    let fastest = times.iter().min().copied().unwrap_or_default();
    format!("{:>7.1} {:>7}", ms(median(times)), format!("({:.0})", ms(fastest)))
}

/// How many times as long as ours the peer's takes.
fn ratio(ours: &[Duration], theirs: &[Duration]) -> f64 {
    median(theirs).as_secs_f64() / median(ours).as_secs_f64()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
