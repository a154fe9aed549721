//! What each step of the demo cost: time, bytes that guests read from the store, bytes stored.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::client::Client;
use crate::render;

/// Counters of the region's store.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    /// Compressed bytes in the store.
    stored_bytes: u64,
    /// Bytes that guests have read from it since the service started.
    read_bytes: u64,
}

/// The table that the demo ends with.
pub struct Ledger<'client> {
    client: &'client Client,
    rows: Vec<Row>,
}

struct Row {
    step: String,
    time: Duration,
    used: Option<(u64, u64)>,
}

impl<'client> Ledger<'client> {
    /// An empty ledger of the region behind `client`.
    pub fn new(client: &'client Client) -> Self {
        Self { client, rows: Vec::new() }
    }

    /// Does a step and writes down what it cost.
    pub async fn step<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        println!("… {name}");
        let before = self.usage().await?;
        let begin = Instant::now();
        let done = work.await?;
        let time = begin.elapsed();
        let after = self.usage().await?;
        let read = after.read_bytes.saturating_sub(before.read_bytes);
        let stored = after.stored_bytes.saturating_sub(before.stored_bytes);
        self.rows.push(Row { step: name.to_owned(), time, used: Some((read, stored)) });
        Ok(done)
    }

    /// Writes down a time that is no step of its own.
    pub fn note(&mut self, name: &str, time: Duration) {
        self.rows.push(Row { step: format!("  {name}"), time, used: None });
    }

    async fn usage(&self) -> anyhow::Result<Usage> {
        Ok(self.client.get("/calotype/store").await?.body)
    }
}

impl fmt::Display for Ledger<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = render::table(&["STEP", "TIME", "READ BY GUESTS", "STORED"]);
        for row in &self.rows {
            let time = format!("{:.1} s", row.time.as_secs_f64());
            let (read, stored) = row.used.map_or_else(Default::default, |(read, stored)| {
                (render::bytes(read), render::bytes(stored))
            });
            table.add_row([&row.step, &time, &read, &stored]);
        }
        write!(formatter, "{table}")
    }
}
