//! The store on a file system that crashes, tears, forgets and fails, beside a simple model of what
//! must be in it: random histories, each made by a seed alone.
//!
//! After every crash, everything acknowledged is there, verified and right byte for byte; what is
//! visible is whole; nothing half-written is left; and the store goes on. After single failures the same
//! holds without a restart. Whatever goes wrong, no wrong byte is ever read.
//!
//! `CALOTYPE_SEEDS=from..to` chooses other seeds than those of every test run: `scripts/torture`.

mod content;
mod damage;
mod files;
mod folder;
mod image;
mod interleavings;
mod random;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use world::World;

/// Events of one history.
const EVENTS: u64 = 16;

fn seeds(usual: Range<u64>) -> Range<u64> {
    let Ok(chosen) = std::env::var("CALOTYPE_SEEDS") else { return usual };
    let numbers = chosen.split_once("..").map(|(from, to)| (from.parse(), to.parse()));
    match numbers {
        Some((Ok(from), Ok(to))) => from..to,
        _ => panic!("CALOTYPE_SEEDS is from..to, not {chosen:?}"),
    }
}

/// Runs the history of every seed, on all cores; fails with the first that fails.
fn run(seeds: Range<u64>, history: impl Fn(&mut World) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds.end || !failures.lock().unwrap().is_empty() {
            return;
        }
        let mut world = None;
        let ran = catch_unwind(AssertUnwindSafe(|| history(world.insert(World::new(seed)))));
        if let Err(panic) = ran {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let world = world.map(|world| (world.history.clone(), world.files.log()));
            failures.lock().unwrap().push((seed, text.unwrap_or_default(), world));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    if let Some((seed, text, world)) = failures.into_iter().min_by_key(|(seed, _, _)| *seed) {
        let (history, log) = world.unwrap_or_default();
        panic!(
            "seed {seed} fails: {text}\n{history}\n{}\nreplay: CALOTYPE_SEEDS={seed}..{} \
             cargo test -p calotype-store simulation",
            log.join("\n"),
            seed + 1
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_fails() {
    run(seeds(0..2000), |world| {
        for _ in 0..EVENTS {
            world.happen();
        }
        world.finish();
    });
}
