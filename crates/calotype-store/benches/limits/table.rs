//! The table: a row for each thing that a target speaks of, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::measure::{Samples, middle};

/// All rows, in the order of their targets.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

/// One comparison.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Its number in the list of targets.
    pub(crate) target: u8,
    pub(crate) work: String,
    pub(crate) calotype: Option<Figure>,
    pub(crate) peer: Option<Peer>,
    /// What is held against the goal: mostly the ratio of the two.
    pub(crate) score: f64,
    /// Of the score: `x` for a ratio.
    pub(crate) score_unit: String,
    pub(crate) goal: Option<Goal>,
    /// What else was seen.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) figure: Figure,
}

/// A median of several runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    /// As `ms` or `MB`.
    pub(crate) unit: String,
    /// Every round.
    #[serde(default)]
    pub(crate) all: Vec<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peak_mib: Option<f64>,
}

/// What the score must be.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn met(self, score: f64) -> bool {
        match self {
            Self::AtLeast(bound) => score >= bound,
            Self::AtMost(bound) => score <= bound,
        }
    }
}

impl Figure {
    /// Wall times in milliseconds, with processor time and memory.
    pub(crate) fn of(samples: &Samples) -> Self {
        Self {
            cpu_seconds: Some(samples.cpu().as_secs_f64()),
            peak_mib: Some(samples.peak_bytes() as f64 / 1_048_576.0),
            ..Self::times(&samples.walls())
        }
    }

    /// Wall times in milliseconds.
    pub(crate) fn times(times: &[Duration]) -> Self {
        Self::values(times.iter().map(|time| time.as_secs_f64() * 1e3).collect(), "ms")
    }

    pub(crate) fn values(all: Vec<f64>, unit: &str) -> Self {
        let median = middle(all.clone());
        Self { median, unit: unit.to_owned(), all, cpu_seconds: None, peak_mib: None }
    }

    /// Bytes, in millions.
    pub(crate) fn megabytes(all: Vec<f64>) -> Self {
        Self::values(all.into_iter().map(|bytes| bytes / 1e6).collect(), "MB")
    }
}

impl Row {
    /// How many times as much the peer takes as we do.
    pub(crate) fn faster(target: u8, work: &str, ours: Figure, peer: Peer, goal: f64) -> Self {
        let score = ratio(&peer.figure, &ours);
        Self::new(target, work, ours, score).beside(peer).goal(Goal::AtLeast(goal))
    }

    /// How many times as much we do as the peer.
    pub(crate) fn more(target: u8, work: &str, ours: Figure, peer: Peer, goal: f64) -> Self {
        let score = ratio(&ours, &peer.figure);
        Self::new(target, work, ours, score).beside(peer).goal(Goal::AtLeast(goal))
    }

    /// How many times as much we take as the peer does.
    pub(crate) fn at_most(target: u8, work: &str, ours: Figure, peer: Peer, goal: f64) -> Self {
        let score = ratio(&ours, &peer.figure);
        Self::new(target, work, ours, score).beside(peer).goal(Goal::AtMost(goal))
    }

    /// A figure that is its own score, in its own unit.
    pub(crate) fn alone(target: u8, work: &str, ours: Figure, goal: Option<Goal>) -> Self {
        let (score, unit) = (ours.median, ours.unit.clone());
        Self { score_unit: unit, goal, ..Self::new(target, work, ours, score) }
    }

    fn new(target: u8, work: &str, ours: Figure, score: f64) -> Self {
        Self {
            target,
            work: work.to_owned(),
            calotype: Some(ours),
            peer: None,
            score,
            score_unit: "x".to_owned(),
            goal: None,
            notes: Vec::new(),
        }
    }

    fn beside(self, peer: Peer) -> Self {
        Self { peer: Some(peer), ..self }
    }

    fn goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn met(&self) -> Option<bool> {
        Some(self.goal?.met(self.score))
    }
}

impl Peer {
    pub(crate) fn new(name: &str, figure: Figure) -> Self {
        Self { name: name.to_owned(), figure }
    }
}

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        // As it comes, for who waits.
        eprintln!("{}", row.line());
        self.rows.push(row);
    }

    /// Rows by their targets; within one, as they came.
    fn sorted(&self) -> Vec<&Row> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.target);
        rows
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.sorted().into_iter().map(|row| {
            let mut value = serde_json::to_value(row).unwrap();
            value["met"] = row.met().into();
            value
        });
        json!({ "machine": machine(), "rows": rows.collect::<Vec<_>>() })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (name, value) in machine() {
            writeln!(f, "{name}: {value}")?;
        }
        writeln!(f)?;
        let (work, ours, peer) = ("work", "calotype", "peer");
        writeln!(f, "  #  {work:46} {ours:>11} {peer:>30}   {:>8}  {:>8}", "score", "goal")?;
        for row in self.sorted() {
            writeln!(f, "{}", row.line())?;
            for detail in row.details() {
                writeln!(f, "     {detail}")?;
            }
        }
        let judged: Vec<bool> = self.rows.iter().filter_map(Row::met).collect();
        let met = judged.iter().filter(|met| **met).count();
        writeln!(f, "\n{met} of {} met", judged.len())
    }
}

impl Row {
    fn line(&self) -> String {
        let ours = self.calotype.as_ref().map(Figure::text).unwrap_or_default();
        let peer = self.peer.as_ref().map(|peer| format!("{}  {}", peer.name, peer.figure.text()));
        let score = format!("{} {}", number(self.score), self.score_unit);
        let goal = match self.goal {
            Some(Goal::AtLeast(bound)) => format!(">= {}", number(bound)),
            Some(Goal::AtMost(bound)) => format!("<= {}", number(bound)),
            None => String::new(),
        };
        let verdict = match self.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let line = format!(
            "{:3}  {:46} {ours:>11} {:>30}   {score:>8}  {goal:>8}  {verdict}",
            self.target,
            self.work,
            peer.unwrap_or_default(),
        );
        line.trim_end().to_owned()
    }

    fn details(&self) -> Vec<String> {
        let used = |name: &str, figure: &Figure| {
            let (cpu, peak) = (figure.cpu_seconds?, figure.peak_mib?);
            Some(format!("{name} {} s cpu, {peak:.0} MiB", number(cpu)))
        };
        let ours = self.calotype.as_ref().and_then(|figure| used("calotype", figure));
        let peer = self.peer.as_ref().and_then(|peer| used(&peer.name, &peer.figure));
        let both: Vec<_> = ours.into_iter().chain(peer).collect();
        let both = (!both.is_empty()).then(|| both.join("; "));
        both.into_iter().chain(self.notes.iter().cloned()).collect()
    }
}

impl Figure {
    fn text(&self) -> String {
        format!("{} {}", number(self.median), self.unit)
    }
}

/// The median ratio of two that were measured round by round, else that of the medians.
fn ratio(one: &Figure, other: &Figure) -> f64 {
    if one.all.len() != other.all.len() || one.all.is_empty() {
        return one.median / other.median;
    }
    middle(one.all.iter().zip(&other.all).map(|(one, other)| one / other).collect())
}

/// Three figures that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What the figures were seen on.
fn machine() -> BTreeMap<&'static str, String> {
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        value.trim_matches([' ', '\t', ':', '=', '"']).to_owned()
    };
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    BTreeMap::from([
        ("processors", format!("{processors} x {}", first("/proc/cpuinfo", "model name"))),
        ("memory", first("/proc/meminfo", "MemTotal")),
        ("system", first("/etc/os-release", "PRETTY_NAME")),
        ("load at the end", load.split(' ').next().unwrap_or_default().to_owned()),
    ])
}
