//! Rows that other benchmarks wrote: what the export serves, and what guests see of it.

use std::path::Path;

use serde_json::Value;

use crate::table::{Figure, Goal, Peer, Row, Table};

/// Adds what `file` holds: rows as [`crate::table`] writes them, or the export's own.
pub(crate) fn add(table: &mut Table, file: &Path) {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return eprintln!("{}: {error}", file.display()),
    };
    let value: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{} is no benchmark's result: {error}", file.display()));
    let rows = value["rows"].as_array().cloned().unwrap_or_default();
    if value["benchmark"] == "export" {
        return export(table, &rows);
    }
    for row in rows {
        match serde_json::from_value::<Row>(row.clone()) {
            Ok(row) => table.push(row),
            Err(error) => eprintln!("{}: {error}: {row}", file.display()),
        }
    }
}

/// For every work at every depth our server comes first, the peer second, what else was measured after.
fn export(table: &mut Table, rows: &[Value]) {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let figure = |row: &Value| {
        let all = row["all_iops"].as_array().into_iter().flatten().filter_map(Value::as_f64);
        let peak_mib = row["server_peak_mib"].as_f64();
        Figure { peak_mib, ..Figure::values(all.map(|iops| iops / 1e3).collect(), "kIOPS") }
    };
    let same = |one: &&Value, other: &&Value| {
        one["work"] == other["work"] && one["depth"] == other["depth"]
    };
    for group in rows.iter().collect::<Vec<_>>().chunk_by(same) {
        let [ours, peer, others @ ..] = group else { continue };
        let work = format!("4 KiB reads, {}, depth {}", text(ours, "work"), ours["depth"]);
        let goal = ours["target"].as_f64().unwrap_or_default();
        let peer = Peer::new(&text(peer, "server"), figure(peer));
        let mut row = Row::alone(8, &work, figure(ours), Some(Goal::AtLeast(goal)));
        row.score = row.calotype.as_ref().map_or(0.0, |figure| figure.median) / peer.figure.median;
        row.score_unit = "x".to_owned();
        row.peer = Some(peer);
        for other in others {
            let iops = other["iops"].as_f64().unwrap_or_default();
            row = row.note(format!("{}: {:.1} kIOPS", text(other, "server"), iops / 1e3));
        }
        let used = |row: &Value| row["server_cpu_us_per_read"].as_f64().unwrap_or_default();
        table.push(row.note(format!("{:.1} us cpu of our server for each read", used(ours))));
    }
}
