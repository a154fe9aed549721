//! A guest of the demo, reached by SSH as anybody would.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use calotype_api::instances::Instance;
use calotype_api::ocid::Ocid;
use tokio::process::Command;

use super::{Place, launch_details};
use crate::client::Client;
use crate::commands::instance::ssh_address;
use crate::render;

/// How long a guest may take until SSH answers.
const SSH_TIMEOUT: Duration = Duration::from_secs(150);

/// A launched instance.
pub struct Guest {
    /// Display name.
    pub name: String,
    /// OCID.
    pub id: Ocid,
    address: SocketAddr,
    key: PathBuf,
}

/// What makes a guest itself.
pub struct Identity {
    /// Its hostname.
    pub hostname: String,
    /// Instance OCID as its metadata service says.
    pub instance: String,
    host_key: String,
    machine_id: String,
}

impl Identity {
    /// What both have in common but should not.
    pub fn shares(&self, other: &Self) -> Option<&'static str> {
        let pairs = [
            ("hostname", &self.hostname, &other.hostname),
            ("instance OCID", &self.instance, &other.instance),
            ("SSH host key", &self.host_key, &other.host_key),
            ("machine id", &self.machine_id, &other.machine_id),
        ];
        pairs.into_iter().find(|(_, one, two)| one == two || one.is_empty()).map(|(what, ..)| what)
    }
}

/// Makes the key pair that all guests let in; returns the private key's file.
pub fn make_key(scratch: &Path) -> anyhow::Result<PathBuf> {
    let file = scratch.join("demo_key");
    let status = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "calotype-demo", "-f"])
        .arg(&file)
        .status()
        .context("cannot run ssh-keygen: install openssh-client")?;
    if !status.success() {
        bail!("ssh-keygen failed");
    }
    Ok(file)
}

impl Guest {
    /// Launches an instance and waits until SSH answers.
    pub async fn launch(
        client: &Client,
        name: &str,
        image: &Ocid,
        shape: &str,
        key: &Path,
    ) -> anyhow::Result<Self> {
        let place = Place::first(client).await?;
        let public_key = std::fs::read_to_string(key.with_extension("pub"))?;
        let details = launch_details(client, name, image.as_str(), shape, &place, &public_key);
        let answer = client.post::<Instance>("/20160918/instances", &details).await?;
        let work_request = answer.work_request.context("the region named no work request")?;
        client.wait(&work_request, |_| ()).await?;
        let id = answer.body.id;
        let instance = client.get::<Instance>(&format!("/20160918/instances/{id}")).await?.body;
        let address = ssh_address(&instance).context("the instance has no public address")?;
        let guest = Self { name: name.to_owned(), id, address, key: key.to_owned() };
        guest.reachable().await?;
        Ok(guest)
    }

    /// Waits until a command can be run over SSH.
    pub async fn reachable(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            match self.run("true").await {
                Ok(_) => return Ok(()),
                Err(error) if begin.elapsed() > SSH_TIMEOUT => {
                    return Err(error.context(format!("{} is not reached by SSH", self.name)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }

    /// Runs a command and returns what it printed.
    pub async fn run(&self, command: &str) -> anyhow::Result<String> {
        let output = Command::new("ssh")
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-o", "BatchMode=yes"])
            .args(["-i".as_ref(), self.key.as_os_str()])
            .args(["-p", &self.address.port().to_string()])
            .arg(format!("opc@{}", self.address.ip()))
            .arg(command)
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run ssh: install openssh-client")?;
        if !output.status.success() {
            bail!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What the guest is.
    pub async fn identity(&self) -> anyhow::Result<Identity> {
        let text = self
            .run(
                "hostname; wget -q -O - --header 'Authorization: Bearer Oracle' \
                 http://169.254.169.254/opc/v2/instance/id; echo; cat /etc/machine-id; \
                 cat /etc/dropbear/*.pub /etc/ssh/*.pub 2>/dev/null | head -n 1",
            )
            .await?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut next = || lines.next().unwrap_or_default().to_owned();
        let (hostname, instance, machine_id) = (next(), next(), next());
        Ok(Identity { hostname, instance, machine_id, host_key: self.host_key().await? })
    }

    /// The SSH host key as a client sees it.
    async fn host_key(&self) -> anyhow::Result<String> {
        let output = Command::new("ssh-keyscan")
            .args(["-T", "10", "-t", "ed25519", "-p", &self.address.port().to_string()])
            .arg(self.address.ip().to_string())
            .output()
            .await
            .context("cannot run ssh-keyscan: install openssh-client")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let key = text
            .lines()
            .find(|line| !line.starts_with('#'))
            .and_then(|line| line.split(' ').nth(2));
        key.map(ToOwned::to_owned).with_context(|| format!("{} shows no SSH host key", self.name))
    }
}

/// The identities side by side.
pub fn identity_table(identities: &[Identity]) -> comfy_table::Table {
    let mut table = render::table(&["HOSTNAME", "INSTANCE", "MACHINE ID", "SSH HOST KEY"]);
    let tail = |text: &str, count: usize| text[text.len().saturating_sub(count)..].to_owned();
    for identity in identities {
        table.add_row([
            identity.hostname.clone(),
            format!("…{}", tail(&identity.instance, 12)),
            identity.machine_id.clone(),
            format!("…{}", tail(&identity.host_key, 12)),
        ]);
    }
    table
}
