//! Rows that other benchmarks wrote: what the export serves, and what guests see of it.

use std::path::Path;

use serde_json::Value;

use crate::table::{Figure, Goal, Peer, Row, Table};

/// Adds what `file` holds: rows as [`crate::table`] writes them, or another benchmark's own.
pub(crate) fn add(table: &mut Table, file: &Path) {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return eprintln!("{}: {error}", file.display()),
    };
    let value: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{} is no benchmark's result: {error}", file.display()));
    let rows = value["rows"].as_array().cloned().unwrap_or_default();
    match value["benchmark"].as_str() {
        Some("export") => return export(table, &rows),
        Some("boot") => return boot(table, &rows),
        _ => {}
    }
    if let Some(measures) = value["measures"].as_array() {
        return live_capture(table, measures);
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
        let mut row = Row::more(8, &work, figure(ours), peer, goal);
        for other in others {
            let iops = other["iops"].as_f64().unwrap_or_default();
            row = row.note(format!("{}: {:.1} kIOPS", text(other, "server"), iops / 1e3));
        }
        let used = |row: &Value| row["server_cpu_us_per_read"].as_f64().unwrap_or_default();
        table.push(row.note(format!("{:.1} us cpu of our server for each read", used(ours))));
    }
}

/// Figures that begin with the number of their target, and mostly are their own scores.
fn boot(table: &mut Table, rows: &[Value]) {
    for row in rows {
        let what = row["what"].as_str().unwrap_or_default();
        let (Some((target, work)), Some(value)) = (what.split_once("  "), row["value"].as_f64())
        else {
            continue;
        };
        let bound = row["target"].as_str().and_then(|target| target.split_once(' '));
        let goal = bound.and_then(|(sign, bound)| {
            let bound = bound.parse().ok()?;
            Some(if sign == ">=" { Goal::AtLeast(bound) } else { Goal::AtMost(bound) })
        });
        let unit = row["unit"].as_str().unwrap_or_default();
        let figure = Figure::values(vec![value], unit);
        table.push(Row::alone(target.parse().unwrap_or_default(), work, figure, goal));
    }
}

/// What a guest that writes notices of a capture. It has no number in the list of targets, so it comes last.
fn live_capture(table: &mut Table, measures: &[Value]) {
    let goals = [("crash-consistent", 50.0), ("quiesced", 300.0)];
    for (way, goal) in goals {
        let found = measures.iter().find(|measure| {
            let what = measure["what"].as_str().unwrap_or_default();
            what.contains(way) && what.contains("longest pause")
        });
        let Some(measure) = found else { continue };
        let figure = |times: &Value| {
            let all: Vec<f64> = serde_json::from_value(times["allMs"].clone()).unwrap_or_default();
            (!all.is_empty()).then(|| Figure::values(all, "ms"))
        };
        let Some(pauses) = figure(&measure["calotype"]) else { continue };
        let work = format!("guest's longest pause, {way}");
        let mut row = Row::alone(12, &work, pauses, Some(Goal::AtMost(goal)));
        if let Some(quiet) = figure(&measure["peers"][0]["times"]) {
            row.peer = Some(Peer::new("without a capture", quiet));
        }
        table.push(row);
    }
}
