//! A running region: its catalog, store, guests and workflows in one place.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use calotype_api::ocid::Ocid;
use calotype_disk::Disk;
use calotype_net::VirtualNetwork;
use calotype_store::{BootDisks, ManifestId, Store};
use calotype_vm::{AcceleratorChoice, BlockServer, Hypervisor, HypervisorConfig, ResolveDisk};

use crate::app::metadata::CatalogMetadata;
use crate::app::objects::receive::Turns;
use crate::config::{Config, GuestConfig, Paths};
use crate::console::Consoles;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::guests::Guests;
use crate::init::new_ocid;
use crate::jobs::{Engine, Settings, workflows};
use crate::retention::{self, Litter};
use crate::{recovery, scrubbing};

/// How long running steps may go on when the service is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A running region.
pub struct Region {
    /// Its settings.
    pub config: Config,
    /// Where its files lie.
    pub paths: Paths,
    /// OCID of the tenancy, its root compartment.
    pub tenancy: Ocid,
    /// The catalog.
    pub db: Db,
    /// Chunks and manifests.
    pub store: Store,
    /// The store's disks as guests boot from them.
    pub boots: Arc<BootDisks>,
    /// The guests that run.
    pub guests: Guests,
    /// Lets people at their consoles.
    pub consoles: Consoles,
    /// Serves the store's disks to guests as long as the region is.
    pub blocks: BlockServer,
    /// Runs workflows.
    pub jobs: Engine<Arc<Region>>,
    /// Turns in which uploads are received.
    pub uploads: Turns,
    /// Whether there is space to be given back.
    pub litter: Litter,
}

impl Region {
    /// Opens the region in a directory: takes over the guests that run, then goes on with every
    /// workflow that was not finished.
    pub async fn open(paths: Paths, config: Config) -> Result<Arc<Self>> {
        let region = Self::open_idle(paths, config).await?;
        let resumed = region.jobs.resume_all(Arc::clone(&region)).await?;
        if resumed > 0 {
            tracing::info!(resumed, "going on with workflows that were not finished");
        }
        recovery::restore_guests(&region).await?;
        tokio::spawn(retention::run(Arc::downgrade(&region)));
        tokio::spawn(scrubbing::run(Arc::downgrade(&region)));
        Ok(region)
    }

    /// As [`Self::open`], but no workflow runs yet.
    pub async fn open_idle(paths: Paths, config: Config) -> Result<Arc<Self>> {
        let db = Db::open(&paths.catalog()).await?;
        let (state, location) = (paths.store(), config.store.location(&paths)?);
        let options = config.store.options();
        let boot_orders = paths.boot_orders();
        let open = move || {
            let store = Store::open_at(&location, &state, &options)?;
            let boots = BootDisks::open(&store, &boot_orders);
            Ok::<_, calotype_store::Error>((store, Arc::new(boots)))
        };
        let (store, boots) = tokio::task::spawn_blocking(open)
            .await
            .map_err(|source| Error::io("open the store in", &paths.store(), source.into()))??;
        let hypervisor = Hypervisor::detect(hypervisor_config(&config.guests)?).await?;
        let metadata = CatalogMetadata { db: db.clone(), config: config.clone() };
        let network = VirtualNetwork::new(Arc::new(metadata));
        let blocks = hypervisor.serve_blocks(&paths.block_socket(), exports(&boots))?;
        let tenancy = config.tenancy.parse().map_err(|source| Error::Credentials {
            action: "read the tenancy's OCID",
            source: Box::new(source),
        })?;
        let region = Arc::new(Self {
            guests: Guests::new(hypervisor, network, &config),
            consoles: Consoles::open(&paths)?,
            jobs: Engine::new(db.clone(), workflows(), Settings::default()),
            config,
            paths,
            tenancy,
            db,
            store,
            boots,
            blocks,
            uploads: Turns::default(),
            litter: Litter::default(),
        });
        recovery::adopt_guests(&region).await?;
        Ok(region)
    }

    /// Stops the region's work between steps. Guests run on.
    pub async fn close(&self) {
        self.jobs.stop(STOP_GRACE).await;
        self.db.close().await;
    }

    /// A new OCID of a resource of this region.
    pub fn new_id(&self, kind: &str) -> Ocid {
        self.id_in(kind, Some(&self.config.region))
    }

    /// A new OCID without a region, as platform images have.
    pub fn new_global_id(&self, kind: &str) -> Ocid {
        self.id_in(kind, None)
    }

    fn id_in(&self, kind: &str, region: Option<&str>) -> Ocid {
        // Random numbers of the operating system do not run out, and the parts are our own.
        new_ocid(kind, &self.config.realm, region).expect("an OCID can be made")
    }
}

/// Finds the disk behind an export's name.
fn exports(boots: &Arc<BootDisks>) -> Arc<ResolveDisk> {
    let boots = Arc::clone(boots);
    Arc::new(move |name| {
        let manifest: ManifestId = name.parse().ok()?;
        match boots.disk(manifest) {
            Ok(disk) => Some(disk as Arc<dyn Disk>),
            Err(error) => {
                tracing::error!(%error, export = name, "a guest asked for a disk that is not there");
                None
            }
        }
    })
}

/// How guests are run with these settings, by the account that runs this process.
pub fn hypervisor_config(guests: &GuestConfig) -> Result<HypervisorConfig> {
    let accelerator = match guests.accelerator.as_str() {
        "auto" => AcceleratorChoice::Auto,
        "kvm" => AcceleratorChoice::Kvm,
        "tcg" => AcceleratorChoice::Tcg,
        other => {
            return Err(Error::Setting {
                name: "guests.accelerator",
                value: other.to_owned(),
                allowed: "auto, kvm or tcg",
            });
        }
    };
    let unprivileged_user = if rustix::process::geteuid().is_root() {
        let (user, group) = account(&guests.user)?;
        Some((user, kvm_group().unwrap_or(group)))
    } else {
        None
    };
    let freeze_guard = (!guests.freeze_guard.is_empty())
        .then(|| guests.freeze_guard.iter().map(Into::into).collect());
    Ok(HypervisorConfig {
        accelerator,
        unprivileged_user,
        freeze_guard,
        ..HypervisorConfig::default()
    })
}

/// The group that may use `/dev/kvm`, where that is left to a group: guests' processes must be in it.
fn kvm_group() -> Option<u32> {
    const GROUP_MAY_USE: u32 = 0o060;
    let metadata = std::fs::metadata("/dev/kvm").ok()?;
    (metadata.gid() != 0 && metadata.mode() & GROUP_MAY_USE == GROUP_MAY_USE)
        .then(|| metadata.gid())
}

/// User and group id of an account of this machine.
fn account(name: &str) -> Result<(u32, u32)> {
    let file = Path::new("/etc/passwd");
    let text = std::fs::read_to_string(file).map_err(|source| Error::io("read", file, source))?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    found.ok_or_else(|| Error::Setting {
        name: "guests.user",
        value: name.to_owned(),
        allowed: "an account of this machine",
    })
}
