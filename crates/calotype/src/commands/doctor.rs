//! `calotype doctor`: what this machine lacks, and how to get it.

use std::net::{Ipv4Addr, TcpListener, ToSocketAddrs as _};
use std::path::Path;
use std::process::ExitCode;

use calotype_platform_image::{RECIPES, missing_tools};
use calotype_server::config::{Config, GuestConfig, Paths};
use calotype_server::region::hypervisor_config;
use calotype_vm::{Accelerator, Hypervisor};

use crate::render;

/// Arguments of `calotype doctor`.
#[derive(clap::Args)]
pub struct Arguments {}

/// A thing looked at.
struct Finding {
    what: String,
    state: State,
    how: String,
}

enum State {
    /// As it should be.
    Good,
    /// Something works less well, or not for everybody.
    Limited,
    /// Something that is needed is missing.
    Missing,
}

/// Looks at everything and prints what was found; fails if something needed is missing.
pub async fn run(directory: &Path, _arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(&Paths::new(directory));
    let guests = config.as_ref().map(|config| config.guests.clone()).unwrap_or_default();
    let mut findings = vec![hypervisor(&guests).await, ssh(), ssh_port()];
    for recipe in RECIPES {
        findings.push(tools(recipe.recipe, recipe.name));
    }
    match config {
        Ok(config) => {
            findings.push(good("region", format!("{} in {}", config.region, directory.display())));
            findings.push(names(&config));
        }
        Err(error) => findings.push(limited("region", error.to_string())),
    }
    let mut table = render::table(&["", "WHAT", "FOUND"]);
    for finding in &findings {
        let mark = match finding.state {
            State::Good => "ok",
            State::Limited => "note",
            State::Missing => "MISSING",
        };
        table.add_row([mark, &finding.what, &finding.how]);
    }
    println!("{table}");
    let failed = findings.iter().any(|finding| matches!(finding.state, State::Missing));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn good(what: &str, how: impl Into<String>) -> Finding {
    Finding { what: what.into(), state: State::Good, how: how.into() }
}

fn limited(what: &str, how: impl Into<String>) -> Finding {
    Finding { what: what.into(), state: State::Limited, how: how.into() }
}

fn missing(what: &str, how: impl Into<String>) -> Finding {
    Finding { what: what.into(), state: State::Missing, how: how.into() }
}

/// Looks with the region's settings, so that it finds what the service would.
async fn hypervisor(guests: &GuestConfig) -> Finding {
    let config = match hypervisor_config(guests) {
        Ok(config) => config,
        Err(error) => return missing("QEMU", error.to_string()),
    };
    match Hypervisor::detect(config).await {
        Ok(hypervisor) => {
            let uefi =
                if hypervisor.has_uefi() { "" } else { "; for UEFI images: apt-get install ovmf" };
            let version = hypervisor.qemu_version();
            let found = format!("{version}, {}{uefi}", hypervisor.accelerator());
            match hypervisor.accelerator() {
                Accelerator::Tcg { .. } => limited("QEMU", found),
                _ => good("QEMU", found),
            }
        }
        Err(error) => missing(
            "QEMU",
            format!("{error}: apt-get install --no-install-recommends qemu-system-x86"),
        ),
    }
}

fn ssh() -> Finding {
    match std::process::Command::new("ssh").arg("-V").output() {
        Ok(_) => good("ssh", "for `calotype instance ssh` and the demo"),
        Err(_) => limited("ssh", "apt-get install openssh-client"),
    }
}

/// Whether instances can have port 22 on their public addresses.
fn ssh_port() -> Finding {
    // An address of loopback that nothing else is likely to use.
    match TcpListener::bind((Ipv4Addr::new(127, 254, 254, 254), 22)) {
        Ok(_) => good("port 22", "instances are reached by `ssh opc@<public-ip>`"),
        Err(_) => limited(
            "port 22",
            "instances get a high port instead, as `calotype instance list` says; for port 22: \
             sysctl -w net.ipv4.ip_unprivileged_port_start=22",
        ),
    }
}

fn tools(recipe: calotype_platform_image::Recipe, name: &str) -> Finding {
    let missing_tools = missing_tools(recipe);
    let what = format!("build {name}");
    if missing_tools.is_empty() {
        return good(&what, "all tools are here");
    }
    let mut packages: Vec<_> =
        missing_tools.iter().map(|tool| tool.debian_package.as_str()).collect();
    packages.sort_unstable();
    packages.dedup();
    limited(&what, format!("apt-get install --no-install-recommends {}", packages.join(" ")))
}

/// Whether the names that the SDKs, Terraform and Packer build lead here.
fn names(config: &Config) -> Finding {
    let names = service_names(config);
    let resolves = |name: &String| {
        (name.as_str(), config.port)
            .to_socket_addrs()
            .is_ok_and(|mut addresses| addresses.any(|address| address.ip().is_loopback()))
    };
    if names.iter().all(resolves) {
        return good("names", "the SDKs, Terraform and Packer find the region");
    }
    limited(
        "names",
        format!(
            "the CLI works; for the SDKs, Terraform and Packer add to /etc/hosts:\n127.0.0.1 {}",
            names.join("\n127.0.0.1 ")
        ),
    )
}

/// Host names of the services, as clients make them from the region's metadata.
fn service_names(config: &Config) -> Vec<String> {
    let Config { region, domain, .. } = config;
    vec![
        format!("iaas.{region}.{domain}"),
        format!("identity.{region}.oci.{domain}"),
        format!("identity.{region}.{domain}"),
        format!("objectstorage.{region}.{domain}"),
    ]
}
