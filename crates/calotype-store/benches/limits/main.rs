//! The store beside its peers and beside its limits, in the same run on the same disks, round by round.
//! Prints one table, and writes it as JSON; asserts nothing about time.
//!
//! `scripts/bench` is the command that people call: it installs the peers, makes the disks, and adds the
//! figures of the benchmarks with guests. By hand:
//!
//! ```sh
//! scripts/bench-corpus && cargo bench -p calotype-store --bench limits -- --corpus target/bench
//! ```
//!
//! `--quick` runs fewer rounds, `--only 1,9` some targets, `--json FILE` writes the table, `--merge FILE`
//! adds rows that another benchmark wrote.
//!
//! Both sides run as processes of their own, so that processor time and memory are their own too.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]

mod capture;
mod child;
mod collection;
mod disks;
mod ingest;
mod launch;
mod measure;
mod merge;
mod peers;
mod scrub;
mod synthetic;
mod table;

use std::path::{Path, PathBuf};

use self::table::Table;

/// Measures something and adds what it found.
type Part = fn(&Bench, &mut Table);

/// What was asked for.
struct Bench {
    /// Removed at the end; beside the build's other files, so on the same kind of disk as a store.
    directory: tempfile::TempDir,
    corpus: PathBuf,
    only: Vec<u8>,
    quick: bool,
    json: Option<PathBuf>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--child") {
        println!("{}", child::run(&arguments[at + 1..]));
        return;
    }
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        Some(arguments.get(at + 1).unwrap_or_else(|| panic!("{flag} VALUE")).as_str())
    };
    let only = value("--only").unwrap_or_default().split(',').filter(|part| !part.is_empty());
    // Cargo runs a benchmark in the crate's folder.
    let corpus = value("--corpus").map_or_else(default_corpus, PathBuf::from);
    let bench = Bench {
        directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        corpus,
        only: only.map(|part| part.parse().unwrap()).collect(),
        quick: arguments.iter().any(|argument| argument == "--quick"),
        json: value("--json").map(PathBuf::from),
    };
    let mut table = Table::default();
    for (at, _) in arguments.iter().enumerate().filter(|(_, argument)| *argument == "--merge") {
        merge::add(&mut table, Path::new(&arguments[at + 1]));
    }
    bench.run(&mut table);
    print!("{table}");
}

fn default_corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench")
}

impl Bench {
    fn run(&self, table: &mut Table) {
        let parts: [(&[u8], Part); 6] = [
            (&[1, 2, 9], ingest::run),
            (&[3], capture::run),
            (&[4], launch::run),
            (&[10], scrub::run),
            (&[11], collection::run),
            (&[11], synthetic::run),
        ];
        for (targets, part) in parts {
            if targets.iter().any(|&target| self.wants(target)) {
                part(self, table);
            }
            // What there is is kept if the next part fails.
            if let Some(file) = &self.json {
                std::fs::write(file, format!("{:#}\n", table.json())).unwrap();
            }
        }
    }

    fn wants(&self, target: u8) -> bool {
        self.only.is_empty() || self.only.contains(&target)
    }

    /// A name in the benchmark's own folder.
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A disk of the corpus, in the page cache afterwards; none if it was not made.
    fn corpus_disk(&self, name: &str) -> Option<PathBuf> {
        let path = self.corpus.join(name);
        if !path.exists() {
            eprintln!("{} is missing: `scripts/bench-corpus` makes it", path.display());
            return None;
        }
        disks::warm(&path);
        Some(path)
    }
}
