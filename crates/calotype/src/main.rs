//! The calotype command: runs a region and talks to one.

#![expect(unreachable_pub, reason = "a binary exports nothing: pub is for its other modules")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the command line")]

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod client;
mod commands;
mod render;

/// A private cloud region for custom images: customise an instance, capture its boot disk, launch
/// any number of instances from it. Speaks the OCI API, so the official clients work unmodified.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    /// The region's directory [default: /var/lib/calotype as root, else ~/.local/share/calotype].
    #[arg(long, short, global = true, env = "CALOTYPE_DIRECTORY", value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// How long threads that block have to end.
const SHUTDOWN_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  calotype init                          make a region
  calotype serve                         run it
  eval \"$(calotype env)\"                 point the oci CLI, SDKs, Terraform and Packer at it
  calotype platform-image build tiny     make an image to launch from
  oci compute image list --compartment-id $CALOTYPE_TENANCY
  calotype demo                          see the whole loop, in a scratch region";

#[derive(Subcommand)]
enum Command {
    /// Make a region: tenancy, administrator with an API key, certificates, client profile.
    Init(commands::init::Arguments),
    /// Run the region until it is told to stop. Guests outlive it.
    Serve(commands::serve::Arguments),
    /// Print what points the official clients at the region, for `eval`.
    Env(commands::env::Arguments),
    /// Say what this machine lacks, and how to get it.
    Doctor(commands::doctor::Arguments),
    /// Make platform images.
    #[command(subcommand, name = "platform-image")]
    PlatformImage(commands::platform_image::Command),
    /// List images, and capture instances.
    #[command(subcommand)]
    Image(commands::image::Command),
    /// List instances and log into them.
    #[command(subcommand)]
    Instance(commands::instance::Command),
    /// Publish images with terms.
    #[command(subcommand)]
    Catalog(commands::catalog::Command),
    /// Look after the image store: how full it is, whether it is sound, what can be given back.
    #[command(subcommand)]
    Store(commands::store::Command),
    /// Show the whole loop: launch, customise, capture, launch three, prove.
    Demo(commands::demo::Arguments),
    /// Guard a guest whose filesystems are frozen; `serve` starts it.
    #[command(name = "freeze-guard", hide = true)]
    FreezeGuard,
    /// Read a foreign disk file for `serve`, which starts it, and be able to do nothing else.
    #[command(name = "disk-reader", hide = true)]
    DiskReader,
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    // Before there is a runtime: its threads would be confined too, and are of no use.
    if matches!(arguments.command, Command::DiskReader) {
        return match calotype_confined::run() {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(_) => std::process::ExitCode::FAILURE,
        };
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run(arguments));
    // What still computes for nobody is not waited for: whatever it had not finished it does again.
    runtime.shutdown_timeout(SHUTDOWN_TIME_MAX);
    match done {
        Ok(code) => code,
        Err(error) => {
            render::error(&error);
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<std::process::ExitCode> {
    if matches!(arguments.command, Command::FreezeGuard) {
        calotype_vm::run_freeze_guard().await?;
        return Ok(std::process::ExitCode::SUCCESS);
    }
    let directory = match arguments.directory {
        Some(directory) => std::path::absolute(directory)?,
        None => commands::default_directory()?,
    };
    match arguments.command {
        Command::Init(arguments) => commands::init::run(&directory, arguments).await?,
        Command::Serve(arguments) => commands::serve::run(&directory, arguments).await?,
        Command::Env(arguments) => commands::env::run(&directory, &arguments)?,
        Command::Doctor(arguments) => return commands::doctor::run(&directory, &arguments).await,
        Command::PlatformImage(command) => {
            commands::platform_image::run(&directory, command).await?;
        }
        Command::Image(command) => commands::image::run(&directory, command).await?,
        Command::Instance(command) => return commands::instance::run(&directory, command).await,
        Command::Catalog(command) => commands::catalog::run(&directory, command).await?,
        Command::Store(command) => return commands::store::run(&directory, command).await,
        Command::Demo(arguments) => commands::demo::run(arguments).await?,
        Command::FreezeGuard | Command::DiskReader => {}
    }
    Ok(std::process::ExitCode::SUCCESS)
}
