//! `calotype instance`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use calotype_api::instances::{Instance, InstanceState};
use calotype_api::ocid::Ocid;

use crate::client::Client;
use crate::render;

/// What can be done with instances here; everything else is the `oci` client's.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List instances and where SSH reaches them.
    List,
    /// Log into an instance: finds address, port and user by itself.
    #[command(
        after_help = "Examples:\n  calotype instance ssh builder\n  calotype instance ssh builder -i ~/.ssh/id_ed25519 -- uname -a"
    )]
    Ssh(SshArguments),
    /// Mark an instance as a database system: no image is made of it.
    MarkDatabase {
        /// Display name or OCID.
        name: String,
        /// Take the mark off.
        #[arg(long)]
        off: bool,
    },
}

/// Arguments of `calotype instance ssh`.
#[derive(clap::Args)]
pub struct SshArguments {
    /// Display name or OCID.
    pub name: String,
    /// The account to log into.
    #[arg(long, short, default_value = "opc")]
    pub user: String,
    /// The private key.
    #[arg(long, short, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// A command to run instead of a shell.
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// Runs a command.
pub async fn run(directory: &Path, command: Command) -> anyhow::Result<ExitCode> {
    let client = Client::open(directory)?;
    match command {
        Command::List => list(&client).await.map(|()| ExitCode::SUCCESS),
        Command::Ssh(arguments) => ssh(&client, &arguments).await,
        Command::MarkDatabase { name, off } => {
            mark_database(&client, &name, !off).await.map(|()| ExitCode::SUCCESS)
        }
    }
}

async fn mark_database(client: &Client, name: &str, marked: bool) -> anyhow::Result<()> {
    let instance = find(client, name).await?;
    let target = format!("/calotype/instances/{}/actions/markDatabaseSystem", instance.id);
    let details = serde_json::json!({"isDatabaseSystem": marked});
    client.post::<Instance>(&target, &details).await?;
    Ok(())
}

async fn list(client: &Client) -> anyhow::Result<()> {
    let mut table = render::table(&["NAME", "STATE", "SHAPE", "SSH", "ID"]);
    for instance in client.instances().await? {
        let ssh = ssh_address(&instance).map_or_else(String::new, |address| address.to_string());
        table.add_row([
            instance.display_name,
            instance.lifecycle_state.to_string(),
            instance.shape,
            ssh,
            instance.id.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// Where the host reaches an instance's SSH server.
pub fn ssh_address(instance: &Instance) -> Option<SocketAddr> {
    instance.system_tags.get("calotype")?.get("publicPort22")?.as_str()?.parse().ok()
}

async fn ssh(client: &Client, arguments: &SshArguments) -> anyhow::Result<ExitCode> {
    let instance = find(client, &arguments.name).await?;
    let address = ssh_address(&instance)
        .context("the instance has no public address: launch it with assignPublicIp")?;
    let mut ssh = std::process::Command::new("ssh");
    // Addresses are given again to other instances, so a remembered host key would only frighten;
    // nothing but this host is between here and the guest.
    for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"] {
        ssh.arg("-o").arg(option);
    }
    if let Some(identity) = &arguments.identity {
        ssh.arg("-i").arg(identity);
    }
    ssh.arg("-p").arg(address.port().to_string());
    ssh.arg(format!("{}@{}", arguments.user, address.ip())).args(&arguments.command);
    let status = ssh.status().context("cannot run ssh: install openssh-client")?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The instance with that display name or OCID.
pub async fn find(client: &Client, name: &str) -> anyhow::Result<Instance> {
    if name.parse::<Ocid>().is_ok() {
        return Ok(client.get::<Instance>(&format!("/20160918/instances/{name}")).await?.body);
    }
    let mut found: Vec<Instance> = client
        .instances()
        .await?
        .into_iter()
        .filter(|instance| instance.display_name == name)
        .filter(|instance| instance.lifecycle_state != InstanceState::Terminated)
        .collect();
    match found.len() {
        0 => bail!("no instance is called {name}: see `calotype instance list`"),
        1 => Ok(found.remove(0)),
        count => bail!("{count} instances are called {name}: say the OCID"),
    }
}
