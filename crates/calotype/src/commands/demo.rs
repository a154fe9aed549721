//! `calotype demo`: the whole loop in a scratch region, through the public API only.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use calotype_api::images::Image;
use calotype_platform_image::Recipe;
use calotype_server::config::Paths;
use calotype_server::init::{self, Options};
use serde_json::{Value, json};

use self::guest::Guest;
use self::ledger::Ledger;
use super::platform_image;
use crate::client::Client;

mod guest;
mod ledger;

/// Arguments of `calotype demo`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Leave the region and its guests running.
    #[arg(long)]
    pub keep: bool,
    /// Port of the scratch region.
    #[arg(long, default_value_t = 8543)]
    pub port: u16,
}

/// Guests that are launched from the captured image.
const COPIES: usize = 3;
/// How long the service may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// The shape of all guests of the demo.
const SHAPE: &str = "VM.Standard.E2.1.Micro";

/// What the demo changes in the first guest, and looks for in the others.
const CUSTOMISE: &str = "set -e
echo 'carried by the image' | sudo tee /etc/golden-file >/dev/null
sudo adduser -D -s /bin/sh painter
printf '#!/bin/sh\\necho painted by $(id -un painter)\\n' | sudo tee /usr/local/bin/paint >/dev/null
sudo chmod 755 /usr/local/bin/paint
sync";
/// What must come back from a guest that carries the customisation.
const PROVE: &str = "cat /etc/golden-file && /usr/local/bin/paint";
const PROOF: &str = "carried by the image\npainted by painter";

/// How to go on when the scratch region is gone.
const OWN_REGION: &str = "\
The scratch region is gone again; `calotype demo --keep` leaves it. In one of your own:

  calotype init && calotype serve &
  calotype platform-image build tiny
  eval \"$(calotype env)\"
  oci compute image list --compartment-id $CALOTYPE_TENANCY
  oci compute instance launch --help";

/// Runs the demo.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let scratch = scratch_directory()?;
    let outcome = play(&scratch, arguments.port).await;
    let kept = arguments.keep && outcome.is_ok();
    let (ledger, region) = match outcome {
        Ok(played) => played,
        Err((error, region)) => {
            // Guests outlive the service: those of a demo that failed must not.
            if region.is_some() {
                let client = Client::open(&scratch)?;
                if let Err(error) = terminate_all(&client).await {
                    eprintln!("guests may be left: {error:#}");
                }
            }
            drop(region);
            eprintln!("the scratch region is left for inspection in {}", scratch.display());
            return Err(error);
        }
    };
    println!("\n{ledger}");
    if kept {
        go_on(&scratch, region.leave_running());
    } else {
        let client = Client::open(&scratch)?;
        terminate_all(&client).await?;
        drop(region);
        std::fs::remove_dir_all(&scratch)?;
        println!("{OWN_REGION}");
    }
    Ok(())
}

/// A short path, because sockets lie below it; its name must not be guessable in a shared directory.
fn scratch_directory() -> anyhow::Result<PathBuf> {
    let output = Command::new("mktemp").args(["-d", "-t", "calotype-XXXXXX"]).output()?;
    if !output.status.success() {
        bail!(
            "cannot make a scratch directory: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

type Played = (String, Service);

/// The loop itself. On failure the service, if it had started, is handed back to be ended.
async fn play(scratch: &Path, port: u16) -> Result<Played, (anyhow::Error, Option<Service>)> {
    let service = match start(scratch, port).await {
        Ok(service) => service,
        Err(error) => return Err((error, None)),
    };
    match act(scratch).await {
        Ok(ledger) => Ok((ledger, service)),
        Err(error) => Err((error, Some(service))),
    }
}

async fn act(scratch: &Path) -> anyhow::Result<String> {
    let client = Client::open(scratch)?;
    let mut ledger = Ledger::new(&client);
    let key = guest::make_key(scratch)?;

    let platform = ledger
        .step(
            "prepare the tiny platform image",
            platform_image::build(scratch, &client, Recipe::Tiny),
        )
        .await?;
    let builder = Guest::launch(&client, "builder", &platform.id, SHAPE, &key);
    let builder = ledger.step("launch an instance, to SSH", builder).await?;
    ledger
        .step("customise it over SSH: a file, a user, an executable", builder.run(CUSTOMISE))
        .await?;
    let down = Instant::now();
    let image = ledger.step("create a custom image of it", capture(&client, &builder)).await?;
    ledger.step("the instance is back, by SSH", builder.reachable()).await?;
    ledger.note("downtime seen by its user", down.elapsed());

    let mut copies = Vec::new();
    let launched = ledger.step("launch three instances from the image, to SSH", async {
        let launches = (1..=COPIES).map(|number| {
            let name = format!("copy-{number}");
            let (client, id, key) = (&client, &image.id, &key);
            async move { Guest::launch(client, &name, id, SHAPE, key).await }
        });
        futures_util::future::try_join_all(launches).await
    });
    copies.extend(launched.await?);
    ledger.step("prove customisation and own identity", prove(&builder, &copies)).await?;
    Ok(ledger.to_string())
}

async fn capture(client: &Client, builder: &Guest) -> anyhow::Result<Image> {
    let details = json!({
        "compartmentId": client.tenancy(),
        "instanceId": builder.id,
        "displayName": "golden",
    });
    let answer = client.post::<Image>("/20160918/images", &details).await?;
    let work_request = answer.work_request.context("the region named no work request")?;
    client.wait(&work_request, |_| ()).await?;
    let id = &answer.body.id;
    Ok(client.get::<Image>(&format!("/20160918/images/{id}")).await?.body)
}

/// Each copy carries the change, and is itself: no two guests share hostname, instance OCID, SSH host
/// key or machine id.
async fn prove(builder: &Guest, copies: &[Guest]) -> anyhow::Result<()> {
    let mut identities = vec![builder.identity().await?];
    for copy in copies {
        let proof = copy.run(PROVE).await?;
        if proof.trim() != PROOF {
            bail!("{} does not carry the customisation: {proof:?}", copy.name);
        }
        let identity = copy.identity().await?;
        if identity.instance != copy.id.as_str() {
            bail!("{} believes that it is {}", copy.name, identity.instance);
        }
        for other in &identities {
            if let Some(what) = identity.shares(other) {
                bail!("{} shares its {what} with {}", copy.name, other.hostname);
            }
        }
        identities.push(identity);
    }
    println!("\n{}", guest::identity_table(&identities));
    Ok(())
}

async fn terminate_all(client: &Client) -> anyhow::Result<()> {
    let mut waiting = Vec::new();
    for instance in client.instances().await? {
        if instance.lifecycle_state == calotype_api::instances::InstanceState::Terminated {
            continue;
        }
        let answer = client.delete(&format!("/20160918/instances/{}", instance.id)).await?;
        waiting.extend(answer.work_request);
    }
    for work_request in waiting {
        client.wait(&work_request, |_| ()).await?;
    }
    Ok(())
}

/// A running `calotype serve`; ended when dropped, unless it is left running.
struct Service(Option<Child>);

impl Service {
    /// Leaves the service to itself; returns its process id.
    fn leave_running(mut self) -> Option<u32> {
        self.0.take().map(|child| child.id())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended already; there is nothing more to be done then.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn start(scratch: &Path, port: u16) -> anyhow::Result<Service> {
    let paths = Paths::new(scratch);
    let options = Options::new("demo-1", "calotype.localhost", port);
    init::init(&paths, options).await?;
    let log = std::fs::File::create(scratch.join("serve.log"))?;
    let child = Command::new(std::env::current_exe()?)
        .args(["--directory".as_ref(), scratch.as_os_str(), "serve".as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot start `calotype serve`")?;
    let mut service = Service(Some(child));
    let client = Client::open(scratch)?;
    let begin = Instant::now();
    while !client.is_up().await {
        let ended = service.0.as_mut().map(Child::try_wait).transpose()?.flatten();
        if ended.is_some() || begin.elapsed() > START_TIMEOUT {
            let log = std::fs::read_to_string(scratch.join("serve.log")).unwrap_or_default();
            bail!("the region did not start:\n{}", log.trim());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(service)
}

fn go_on(scratch: &Path, service: Option<u32>) {
    let directory = scratch.display();
    println!("The region goes on running. By hand:\n");
    println!("  eval \"$(calotype --directory {directory} env)\"");
    println!(
        "  oci compute image list --compartment-id $CALOTYPE_TENANCY --query 'data[].\"display-name\"'"
    );
    println!("  calotype instance list");
    println!("  calotype instance ssh copy-1 -i {directory}/demo_key");
    let pid = service.map_or_else(String::new, |pid| format!(" (kill {pid})"));
    println!("\nTo end it: terminate the instances, stop the service{pid}, remove {directory}");
}

/// A JSON body for a launch.
fn launch_details(
    client: &Client,
    name: &str,
    image: &str,
    shape: &str,
    place: &Place,
    key: &str,
) -> Value {
    json!({
        "compartmentId": client.tenancy(),
        "availabilityDomain": place.availability_domain,
        "displayName": name,
        "shape": shape,
        "sourceDetails": {"sourceType": "image", "imageId": image},
        "createVnicDetails": {"subnetId": place.subnet, "assignPublicIp": true, "hostnameLabel": name},
        "metadata": {"ssh_authorized_keys": key},
    })
}

/// Where the demo's instances go: the first domain and subnet.
struct Place {
    availability_domain: String,
    subnet: String,
}

impl Place {
    async fn first(client: &Client) -> anyhow::Result<Self> {
        let first = async |target: &str, field: &str| {
            let list = client.get::<Value>(target).await?.body;
            list[0][field].as_str().map(ToOwned::to_owned).with_context(|| format!("no {field}"))
        };
        let tenancy = client.tenancy();
        let domains = format!("/20160918/availabilityDomains?compartmentId={tenancy}");
        let subnets = format!("/20160918/subnets?compartmentId={tenancy}");
        Ok(Self {
            availability_domain: first(&domains, "name").await?,
            subnet: first(&subnets, "id").await?,
        })
    }
}
