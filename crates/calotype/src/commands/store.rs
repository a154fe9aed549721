//! `calotype store`: how full the image store is, whether it is sound, what can be given back.
//!
//! A store is open in one process only: while the region is served, the service does the work and is
//! followed from here; `--offline` and `rebuild-index` open the store themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use calotype_server::app::store::StoreUsage;
use calotype_server::config::{Config, Paths};
use calotype_server::db::Db;
use calotype_server::jobs::scrub_store::report::{Holder, ScrubReport, holders};
use calotype_store::{ChunkSource, ErrorKind, ManifestId, ScrubOptions, Store, StoreCopy};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::Client;
use crate::render;

const BYTES_PER_MIB: u64 = 1 << 20;

/// What can be done with the store.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Say how full the store is, and what the last scrub found.
    #[command(
        after_help = "Examples:\n  calotype store usage\n  calotype store usage --json | jq .storedBytes"
    )]
    Usage {
        /// Print JSON, sizes in bytes.
        #[arg(long)]
        json: bool,
    },
    /// Read everything in the store again, name what is damaged, repair what there is a copy of.
    ///
    /// Fails if something that an image, volume or object needs cannot be read afterwards. Guests and
    /// captures go on beside it. The service does this by itself once a week.
    #[command(after_help = SCRUB_EXAMPLES)]
    Scrub(ScrubArguments),
    /// Give back what no image, volume or object needs any more. Deleting an image does this by itself,
    /// and the service does it within an hour after objects were deleted.
    #[command(after_help = "Examples:\n  calotype store collect")]
    Collect {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Build the index of the store anew from its packs. The region must not be served meanwhile.
    ///
    /// A damaged index is noticed and built anew when the service starts: this is for when something is
    /// wrong that was not noticed.
    #[command(after_help = "Examples:\n  calotype store rebuild-index")]
    RebuildIndex {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

const SCRUB_EXAMPLES: &str = "\
Examples:
  calotype store scrub
  calotype store scrub --rate-mib 50                      leave most of the disk to the guests
  calotype store scrub --repair-from /mnt/backup/store    with the copy of the store in a backup
  calotype store scrub --offline                          while the region is not served";

/// Arguments of `calotype store scrub`.
#[derive(clap::Args)]
pub struct ScrubArguments {
    /// Read at most so many MiB per second.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate_mib: Option<u64>,
    /// Take copies of what is damaged from the store in this directory; nothing there is changed.
    #[arg(long, value_name = "DIR")]
    pub repair_from: Option<PathBuf>,
    /// Unpack every chunk and compare it with its digest, not what is stored with its checksum:
    /// several times as much work.
    #[arg(long)]
    pub deep: bool,
    /// Open the store here instead of asking the service.
    #[arg(long)]
    pub offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs a command.
pub async fn run(directory: &Path, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Usage { json } => usage(directory, json).await,
        Command::Scrub(arguments) => scrub(directory, arguments).await,
        Command::Collect { json } => collect(directory, json).await,
        Command::RebuildIndex { json } => rebuild_index(directory, json).await,
    }
}

async fn usage(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let client = Client::open(directory)?;
    let usage = client.get::<StoreUsage>("/calotype/store").await?.body;
    if json {
        println!("{}", serde_json::to_string_pretty(&usage)?);
        return Ok(ExitCode::SUCCESS);
    }
    print_totals(usage.stored_bytes, usage.packs, usage.chunks, usage.manifests);
    match &usage.last_scrub {
        Some(report) => print_report(report),
        None => println!("not scrubbed yet: `calotype store scrub` does it now"),
    }
    println!("what each image takes: `calotype image usage`");
    Ok(ExitCode::SUCCESS)
}

fn print_totals(stored_bytes: u64, packs: u64, chunks: u64, manifests: u64) {
    println!(
        "{} stored: {manifests} distinct disks, {chunks} distinct chunks in {packs} packs",
        render::bytes(stored_bytes)
    );
}

async fn collect(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let client = Client::open(directory)?;
    let answer = client.post::<Value>("/calotype/store/actions/collect", &json!({})).await?;
    let work_request = answer.work_request.context("the region's answer names no work request")?;
    let bar = render::progress("collecting");
    client.wait(&work_request, |percent| bar.set_position(whole(percent))).await?;
    bar.finish_and_clear();
    for line in client.logs(&work_request).await? {
        if json {
            println!("{}", json!({ "workRequestId": work_request, "message": line.message }));
        } else {
            println!("{}", line.message);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn rebuild_index(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let paths = Paths::new(directory);
    let config = Config::load(&paths)?;
    let usage = tokio::task::spawn_blocking(move || {
        let bar = ProgressBar::new_spinner().with_message("reading the footers of all packs");
        bar.enable_steady_tick(Duration::from_millis(200));
        Store::drop_index(&paths.store()).map_err(locked(STOP))?;
        let usage = open(&paths, &config, STOP)?.usage();
        bar.finish_and_clear();
        anyhow::Ok(usage)
    })
    .await??;
    if json {
        let usage = json!({
            "manifests": usage.manifests,
            "packs": usage.packs,
            "chunks": usage.chunks,
            "storedBytes": usage.stored_bytes,
        });
        println!("{usage}");
    } else {
        print_totals(usage.stored_bytes, usage.packs, usage.chunks, usage.manifests);
    }
    Ok(ExitCode::SUCCESS)
}

/// The region's store, which must not be open in the service.
fn open(paths: &Paths, config: &Config, advice: &'static str) -> anyhow::Result<Store> {
    let location = config.store.location(paths)?;
    Store::open_at(&location, &paths.store(), &config.store.options()).map_err(locked(advice))
}

/// What to do about a store that the service has open.
const STOP: &str = "the region is being served: stop `calotype serve`";
const STOP_OR_ASK: &str =
    "the region is being served: leave out --offline, or stop `calotype serve`";

fn locked(advice: &'static str) -> impl Fn(calotype_store::Error) -> anyhow::Error {
    move |error| {
        let is_locked = error.kind() == ErrorKind::Locked;
        let error = anyhow::Error::from(error);
        if is_locked { error.context(advice) } else { error }
    }
}

async fn scrub(directory: &Path, arguments: ScrubArguments) -> anyhow::Result<ExitCode> {
    let json = arguments.json;
    let report = if arguments.offline {
        scrub_offline(directory, arguments).await?
    } else {
        scrub_online(directory, arguments).await?
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print_report(&report);
    }
    Ok(if report.is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn scrub_online(directory: &Path, arguments: ScrubArguments) -> anyhow::Result<ScrubReport> {
    let client = Client::open(directory)?;
    if !client.is_up().await {
        bail!("the region does not answer: start it with `calotype serve`, or use --offline");
    }
    let mut details = json!({ "isDeep": arguments.deep });
    if let Some(mib) = arguments.rate_mib {
        details["rateBytesPerSecond"] = mib.saturating_mul(BYTES_PER_MIB).into();
    }
    if let Some(copy) = arguments.repair_from {
        let copy = std::path::absolute(copy)?;
        details["repairFrom"] = copy.to_str().context("--repair-from is not UTF-8")?.into();
    }
    let answer = client.post::<Value>("/calotype/store/actions/scrub", &details).await?;
    let work_request = answer.work_request.context("the region's answer names no work request")?;
    let bar = render::progress("scrubbing");
    client.wait(&work_request, |percent| bar.set_position(whole(percent))).await?;
    bar.finish_and_clear();
    let usage = client.get::<StoreUsage>("/calotype/store").await?.body;
    usage.last_scrub.context("the region has no report of the scrub")
}

async fn scrub_offline(directory: &Path, arguments: ScrubArguments) -> anyhow::Result<ScrubReport> {
    let paths = Paths::new(directory);
    let config = Config::load(&paths)?;
    let time_started = Timestamp::now();
    let catalog = paths.catalog();
    let scrubbed = tokio::task::spawn_blocking(move || {
        let store = open(&paths, &config, STOP_OR_ASK)?;
        let copy = arguments.repair_from.as_deref().map(StoreCopy::open).transpose()?;
        let also: Vec<&dyn ChunkSource> = copy.iter().map(|copy| copy as _).collect();
        let rate_bytes_per_second = arguments.rate_mib.map(|mib| mib.saturating_mul(BYTES_PER_MIB));
        let bar = Bar(byte_bar("scrubbing"));
        let options = ScrubOptions { rate_bytes_per_second, deep: arguments.deep, also: &also };
        let scrubbed = store.scrub(&options, &bar)?;
        bar.0.finish_and_clear();
        anyhow::Ok(scrubbed)
    })
    .await??;
    let holders: BTreeMap<ManifestId, Vec<Holder>> = holders(&Db::open(&catalog).await?).await?;
    Ok(ScrubReport::new(&scrubbed, &holders, time_started))
}

/// Shows progress in bytes.
struct Bar(ProgressBar);

impl calotype_store::Progress for Bar {
    fn advance(&self, done_bytes: u64, total_bytes: u64) {
        self.0.set_length(total_bytes);
        self.0.set_position(done_bytes);
    }
}

fn byte_bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template(
        "{prefix} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    );
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_prefix(what.to_owned());
    bar
}

#[expect(clippy::cast_sign_loss, reason = "a percentage")]
fn whole(percent: f64) -> u64 {
    percent as u64
}

fn print_report(report: &ScrubReport) {
    let finished = report.time_finished.strftime("%F %T UTC");
    println!("scrubbed until {finished}: {}", report.summary());
    let mut table = render::table(&["AFFECTED", "NAME", "STATE", "ID"]);
    for affected in &report.affected {
        table.add_row([
            affected.holder.entity_type.as_str(),
            &affected.holder.display_name,
            if affected.is_repaired { "repaired" } else { "DAMAGED" },
            affected.holder.identifier.as_str(),
        ]);
    }
    if !report.affected.is_empty() {
        println!("{table}");
    }
    let mut table = render::table(&["CHUNK", "PACK", "AT", "DISK", "BYTES", "REPAIRED FROM"]);
    for damage in &report.damages {
        let repaired = damage.repaired_from.as_deref().unwrap_or("NOT REPAIRED");
        for (part, first) in damage.parts.iter().zip(std::iter::once(true).chain([false; 255])) {
            let once = |text: &str| if first { text.to_owned() } else { String::new() };
            table.add_row([
                once(&damage.chunk[..damage.chunk.len().min(16)]),
                once(damage.pack.as_deref().unwrap_or("none")),
                once(&damage.offset.map(|offset| offset.to_string()).unwrap_or_default()),
                part.manifest.to_string()[..16].to_owned(),
                format!("{}..{}", part.begin, part.end),
                once(repaired),
            ]);
        }
    }
    if !report.damages.is_empty() {
        println!("{table}");
    }
    let more = report.chunks_damaged.saturating_sub(report.damages.len() as u64);
    if more > 0 {
        println!("and {more} more chunks");
    }
    if let Some(error) = &report.repair_error {
        println!("not all was repaired: {error}");
    }
    if !report.is_whole {
        println!(
            "next: `calotype store scrub --repair-from DIR` with a copy of the store, or bring the same \
             bytes again: register or capture the image anew"
        );
    }
}
