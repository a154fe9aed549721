//! The guests that run now: their machines, their place in the network, and who watches them.
//!
//! A guest outlives the service: a machine is found again by its directory, and everything here is
//! rebuilt from the catalog at start. Whoever starts, stops or re-bases a guest, or writes down
//! whether it runs, holds the instance's lock meanwhile. So a command line is never made from a
//! chain that is being changed, and an instance is STOPPED only when no process of it is left.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use calotype_api::error::ApiError;
use calotype_api::instances::{InstanceShapeConfig, InstanceState};
use calotype_api::ocid::Ocid;
use calotype_api::tags::DefinedTags;
use calotype_net::{Attachment, VirtualNetwork};
use calotype_store::ManifestId;
use calotype_vm::{BootDisk, GuestStatus, Hypervisor, Machine, MachineSpec, NbdTarget, Nic};
use serde_json::Value;

use crate::app::shapes::{self, Demand, Host};
use crate::app::{hardware, network};
use crate::config::{Config, Paths};
use crate::db::Batch;
use crate::error::{Error, Result};
use crate::records::{BootVolumeRecord, InstanceRecord};
use crate::region::Region;
use crate::volumes;

/// What cloud-init's Oracle datasource looks for.
const CHASSIS_ASSET_TAG: &str = "OracleCloud.com";

/// MTU of guests' network cards, as in OCI.
const MTU: u16 = 9000;

/// How long between two presses of the power button.
const POWER_BUTTON_INTERVAL: Duration = Duration::from_secs(5);

/// How often a guest is looked at that may wait for space on its disk.
const STALL_INTERVAL: Duration = Duration::from_secs(5);

/// Namespace of the system tags that say how an instance is run here.
const SYSTEM_TAGS: &str = "calotype";

/// The running guests of this process.
pub struct Guests {
    hypervisor: Hypervisor,
    network: VirtualNetwork,
    host: Host,
    state: Mutex<State>,
    locks: Mutex<HashMap<Ocid, Arc<tokio::sync::Mutex<()>>>>,
    outbound_turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    running: HashMap<Ocid, Guest>,
    /// What every guest takes whose process may be there, also while it starts or ends.
    taken: HashMap<Ocid, Demand>,
}

/// How a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerOff {
    /// By itself, before or when its power button was pressed.
    Obeyed,
    /// By force.
    Cut,
}

struct Guest {
    machine: Machine,
    /// Its cards in their networks. Only a guest that was taken over may lack them, until they can be had.
    attachments: Option<Vec<Attachment>>,
    watcher: tokio::task::JoinHandle<()>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Guests {
    /// No guests yet.
    pub fn new(hypervisor: Hypervisor, network: VirtualNetwork, config: &Config) -> Self {
        Self {
            hypervisor,
            network,
            host: Host::detect(&config.guests),
            state: Mutex::default(),
            locks: Mutex::default(),
            outbound_turn: tokio::sync::Mutex::default(),
        }
    }

    /// The hypervisor that runs them.
    pub fn hypervisor(&self) -> &Hypervisor {
        &self.hypervisor
    }

    /// Holds everybody else off the machine of one instance.
    pub async fn lock(&self, id: &Ocid) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(id.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// Refuses a guest of that shape and size while the host has no room for it. What a guest takes that
    /// is `resized` is given back before.
    pub fn check_capacity(
        &self,
        shape: &str,
        size: &InstanceShapeConfig,
        resized: Option<&Ocid>,
    ) -> Result<(), ApiError> {
        self.with(|state| self.fits(state, shape, size, resized).map(drop))
    }

    /// What the guest takes, if the host has it beside what all others take.
    fn fits(
        &self,
        state: &State,
        shape: &str,
        size: &InstanceShapeConfig,
        except: Option<&Ocid>,
    ) -> Result<Demand, ApiError> {
        let demand = self.host.demand(shape, size);
        let others = state.taken.iter().filter(|(id, _)| Some(*id) != except);
        let taken: Demand = others.map(|(_, demand)| *demand).sum();
        if self.host.has_room(taken + demand) {
            return Ok(demand);
        }
        tracing::warn!(?taken, ?demand, host = ?self.host, "no room for a guest");
        Err(ApiError::out_of_host_capacity())
    }

    /// System tags of a new instance: how guests are run here.
    pub fn system_tags(&self) -> DefinedTags {
        let accelerator = self.hypervisor.accelerator();
        let tags = [
            ("accelerator".to_owned(), Value::from(accelerator.name())),
            ("acceleratorReason".to_owned(), Value::from(accelerator.reason())),
        ];
        DefinedTags::from([(SYSTEM_TAGS.to_owned(), tags.into_iter().collect())])
    }

    /// Starts the guest of an instance, or finds it running, and plugs it into its network. Unless
    /// it succeeds no process of the guest is left. The caller holds the instance's lock.
    pub async fn start(&self, region: &Arc<Region>, id: &Ocid) -> Result<()> {
        if self.machine(id).is_some() {
            return Ok(());
        }
        let Some(instance) = region.db.get::<InstanceRecord>(id.as_str()).await? else {
            return Err(Error::Missing { kind: "instance", id: id.to_string() });
        };
        if self.adopt(region, &instance).await? {
            return Ok(());
        }
        let resource = &instance.resource;
        self.with(|state| {
            let demand = self.fits(state, &resource.shape, &resource.shape_config, Some(id))?;
            state.taken.insert(id.clone(), demand);
            Ok::<_, ApiError>(())
        })
        .map_err(Error::Refused)?;
        let started = async {
            let machine = self.hypervisor.start(&spec(region, &instance).await?).await?;
            match self.plug(region, &instance, &machine).await {
                Ok(attachments) => {
                    self.hold(region, id, machine, Some(attachments));
                    Ok(())
                }
                Err(error) => {
                    machine.kill().await?;
                    Err(error)
                }
            }
        };
        let started = started.await;
        if started.is_err() {
            self.with(|state| state.taken.remove(id));
        }
        started
    }

    /// Takes over the machine of an instance if it still runs. One that cannot be plugged in runs on: that is
    /// tried again.
    pub async fn adopt(&self, region: &Arc<Region>, instance: &InstanceRecord) -> Result<bool> {
        let directory = machine_directory(&region.paths, instance);
        if !directory.exists() {
            return Ok(false);
        }
        let Some(machine) = self.hypervisor.adopt(&directory).await? else { return Ok(false) };
        let resource = &instance.resource;
        let demand = self.host.demand(&resource.shape, &resource.shape_config);
        self.with(|state| state.taken.insert(resource.id.clone(), demand));
        let attachments = self.plug(region, instance, &machine).await;
        let attachments = attachments.inspect_err(|error| {
            tracing::error!(%error, instance = %resource.id, "a guest is without its network: trying again");
        });
        self.hold(region, &resource.id, machine, attachments.ok());
        Ok(true)
    }

    /// Lets the guests of a subnet out, or no longer, at once. The caller has the turn.
    pub fn set_outbound(&self, subnet: &str, outbound: bool) {
        self.network.set_outbound(subnet, outbound);
    }

    /// The turn to read what holds for subnets and to put it into force: one after the other, so that what was
    /// read first is never in force last.
    pub async fn outbound_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.outbound_turn.lock().await
    }

    /// Plugs a machine's cards into their networks.
    async fn plug(
        &self,
        region: &Region,
        instance: &InstanceRecord,
        machine: &Machine,
    ) -> Result<Vec<Attachment>> {
        let ports = published_ports(instance);
        let mut attachments = Vec::new();
        for (index, id) in instance.vnic_ids().enumerate() {
            let vnic = network::vnic_config(&region.db, id, &ports).await?;
            let missing = || Error::Missing { kind: "vnic", id: id.to_string() };
            let vnic = vnic.ok_or_else(missing)?;
            let subnet = vnic.subnet.id.clone();
            attachments.push(self.network.attach(vnic, machine.nic_socket(index)).await?);
            // The way out may have been closed since it was looked up.
            network::enforce_outbound(region, &subnet).await?;
        }
        Ok(attachments)
    }

    /// Watches a machine from now on.
    fn hold(
        &self,
        region: &Arc<Region>,
        id: &Ocid,
        machine: Machine,
        attachments: Option<Vec<Attachment>>,
    ) {
        let watcher = tokio::spawn(watch(Arc::downgrade(region), id.clone(), machine.clone()));
        let guest = Guest { machine, attachments, watcher };
        self.with(|state| state.running.insert(id.clone(), guest));
    }

    /// Plugs a guest in that was taken over without its network.
    async fn plug_again(&self, region: &Region, id: &Ocid, machine: &Machine) -> Result<()> {
        let is_unplugged =
            |guest: &Guest| guest.machine.pid() == machine.pid() && guest.attachments.is_none();
        let is_wanted = || self.with(|state| state.running.get(id).is_some_and(is_unplugged));
        if !is_wanted() {
            return Ok(());
        }
        let _lock = self.lock(id).await;
        if !is_wanted() {
            return Ok(());
        }
        let Some(instance) = region.db.get::<InstanceRecord>(id.as_str()).await? else {
            return Ok(());
        };
        let attachments = self.plug(region, &instance, machine).await?;
        self.with(|state| {
            if let Some(guest) = state.running.get_mut(id).filter(|guest| is_unplugged(guest)) {
                guest.attachments = Some(attachments);
            }
        });
        tracing::info!(instance = %id, "the guest has its network again");
        self.settle(region, id, &[InstanceState::Running]).await
    }

    /// Ends the guest of an instance: by its power button, and by force when `grace` is over (at
    /// once without one). Returns when its process is gone, and how it went. The caller holds the instance's lock.
    pub async fn stop(
        &self,
        region: &Arc<Region>,
        instance: &InstanceRecord,
        grace: Option<Duration>,
    ) -> Result<PowerOff> {
        let id = &instance.resource.id;
        // Out of the map first: from here on its end is no surprise to the watcher. Held until it
        // has ended: a guest that shuts down still has its network.
        let running = self.with(|state| state.running.remove(id));
        let machine = if let Some(guest) = &running {
            guest.machine.clone()
        } else {
            let directory = machine_directory(&region.paths, instance);
            let Some(machine) = self.hypervisor.adopt(&directory).await? else {
                self.with(|state| state.taken.remove(id));
                return Ok(PowerOff::Obeyed);
            };
            machine
        };
        let end = power_off(id, &machine, grace).await?;
        self.with(|state| state.taken.remove(id));
        Ok(end)
    }

    /// The machine of a running guest.
    pub fn machine(&self, id: &Ocid) -> Option<Machine> {
        self.with(|state| state.running.get(id).map(|guest| guest.machine.clone()))
    }

    /// Writes down whether the guest of an instance runs, and where its ports are reached, if the
    /// instance is in one of the states `from`. The caller holds the instance's lock. Fails rather than take a
    /// guest for ended whose process might be there.
    pub async fn settle(&self, region: &Region, id: &Ocid, from: &[InstanceState]) -> Result<()> {
        loop {
            let Some(mut instance) = region.db.get::<InstanceRecord>(id.as_str()).await? else {
                return Ok(());
            };
            if !from.contains(&instance.resource.lifecycle_state) {
                return Ok(());
            }
            let runs = self.machine(id).is_some();
            if !runs {
                self.is_gone(region, &instance)?;
            }
            let before = instance.value.clone();
            instance.value.resource.lifecycle_state =
                if runs { InstanceState::Running } else { InstanceState::Stopped };
            self.describe(&mut instance.value);
            if instance.value == before {
                return Ok(());
            }
            match region.db.apply(Batch::new().replace(&instance)).await {
                Err(error) if error.is_conflict() => {}
                other => return Ok(other?),
            }
        }
    }

    /// Refuses to take a guest for ended that nobody has a hold of and whose process is there.
    fn is_gone(&self, region: &Region, instance: &InstanceRecord) -> Result<()> {
        let directory = machine_directory(&region.paths, instance);
        if self.hypervisor.is_running(&instance.directory, &directory)? {
            return Err(Error::GuestLost { instance: instance.resource.id.to_string() });
        }
        Ok(())
    }

    /// Writes into the instance's system tags where its ports are reached.
    fn describe(&self, instance: &mut InstanceRecord) {
        let ports = self.with(|state| {
            let guest = state.running.get(&instance.resource.id);
            let primary = guest.and_then(|guest| guest.attachments.as_ref()?.first());
            primary.map_or_else(Vec::new, Attachment::public_ports)
        });
        let tags = instance.resource.system_tags.entry(SYSTEM_TAGS.to_owned()).or_default();
        tags.retain(|key, _| !key.starts_with("publicPort"));
        for port in ports {
            tags.insert(format!("publicPort{}", port.guest_port), port.address.to_string().into());
        }
    }

    /// The last of what the instance's serial console has shown.
    pub async fn console_log(
        &self,
        region: &Region,
        instance: &InstanceRecord,
    ) -> Result<Vec<u8>, ApiError> {
        let log = machine_directory(&region.paths, instance).join(calotype_vm::CONSOLE_LOG);
        match tokio::fs::read(&log).await {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => {
                let instance = &instance.resource.id;
                tracing::error!(%error, %instance, "cannot read the console log");
                Err(ApiError::internal())
            }
        }
    }

    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn power_off(id: &Ocid, machine: &Machine, grace: Option<Duration>) -> Result<PowerOff> {
    if let Some(grace) = grace {
        if shut_down(machine, grace).await {
            return Ok(PowerOff::Obeyed);
        }
        tracing::warn!(instance = %id, "the guest did not shut down in time: power cut");
    }
    machine.kill().await?;
    Ok(PowerOff::Cut)
}

/// Presses a machine's power button until it is off, for at most `grace`; whether it is off then.
/// Again and again, because a guest that is still booting does not notice.
async fn shut_down(machine: &Machine, grace: Duration) -> bool {
    let pressing = async {
        loop {
            // A machine that is gone cannot be asked, and need not be.
            let _ = machine.power_button().await;
            tokio::time::sleep(POWER_BUTTON_INTERVAL).await;
        }
    };
    tokio::select! {
        () = machine.exited() => true,
        _ = tokio::time::timeout(grace, pressing) => false,
    }
}

/// Ports besides 22 that the guest's metadata asks for.
fn published_ports(instance: &InstanceRecord) -> Vec<u16> {
    use crate::app::instances::{PUBLIC_TCP_PORTS, public_tcp_ports};

    let asked = instance.resource.metadata.get(PUBLIC_TCP_PORTS);
    asked.and_then(|text| public_tcp_ports(text).ok()).unwrap_or_default()
}

/// The directory of an instance's machine.
pub fn machine_directory(paths: &Paths, instance: &InstanceRecord) -> PathBuf {
    paths.instances().join(&instance.directory)
}

/// A disk of the store as QEMU reaches it.
pub fn export_of(paths: &Paths, manifest: ManifestId) -> NbdTarget {
    NbdTarget { socket: paths.block_socket(), export: manifest.to_string() }
}

async fn spec(region: &Region, instance: &InstanceRecord) -> Result<MachineSpec> {
    let volume = region.db.get::<BootVolumeRecord>(instance.boot_volume_id.as_str()).await?;
    let Some(mut volume) = volume else {
        return Err(Error::Missing {
            kind: "boot_volume",
            id: instance.boot_volume_id.to_string(),
        });
    };
    if volume.next_base.is_some() {
        // No guest runs, so none reads from it.
        volume.value.next_base = None;
        region.db.apply(Batch::new().replace(&volume)).await?;
    }
    let options = &instance.resource.launch_options;
    let mut nics = Vec::new();
    for id in instance.vnic_ids() {
        let Some(mac) = network::mac_address(&region.db, id).await? else {
            return Err(Error::Missing { kind: "vnic", id: id.to_string() });
        };
        nics.push(Nic { model: hardware::nic_model(options), mac, mtu: Some(MTU) });
    }
    let (vcpus, memory_mib) = shapes::host_size(&instance.resource.shape_config);
    let directory = machine_directory(&region.paths, instance);
    tokio::fs::create_dir_all(&directory)
        .await
        .map_err(|source| Error::io("make the directory", &directory, source))?;
    Ok(MachineSpec {
        name: instance.directory.clone(),
        system_uuid: instance.system_uuid.clone(),
        directory,
        vcpus,
        memory_mib,
        firmware: hardware::firmware(options),
        boot_disk: BootDisk {
            bus: hardware::disk_bus(options),
            layers: volumes::layers(&region.paths, &volume),
            base: export_of(&region.paths, volume.base),
            size_bytes: volume.size_bytes,
        },
        nics,
        chassis_asset_tag: CHASSIS_ASSET_TAG.into(),
    })
}

/// Watches over a machine: when its disk was full it goes on as soon as there is space again; when it
/// ends though nobody asked it to, the guest powered itself off or QEMU died, the instance is STOPPED.
async fn watch(region: Weak<Region>, id: Ocid, machine: Machine) {
    let mut looks = tokio::time::interval(STALL_INTERVAL);
    loop {
        tokio::select! {
            () = machine.exited() => break,
            _ = looks.tick() => {
                // A status that cannot be had is asked for again; the end of QEMU is seen above.
                if matches!(machine.guest_status().await, Ok(GuestStatus::IoError)) {
                    tracing::warn!(instance = %id, "the guest waits for its disk: trying again");
                    let _ = machine.resume().await;
                }
                if let Some(region) = region.upgrade()
                    && let Err(error) = region.guests.plug_again(&region, &id, &machine).await
                {
                    tracing::debug!(%error, instance = %id, "the guest is still without its network");
                }
            }
        }
    }
    let Some(region) = region.upgrade() else { return };
    let _lock = region.guests.lock(&id).await;
    let ended = region.guests.with(|state| {
        let same = |guest: &Guest| guest.machine.pid() == machine.pid();
        if !state.running.get(&id).is_some_and(same) {
            return None;
        }
        state.taken.remove(&id);
        state.running.remove(&id)
    });
    let Some(ended) = ended else { return };
    tracing::info!(instance = %id, "the guest powered itself off");
    // In any other state a workflow is at work and decides.
    let settled = region.guests.settle(&region, &id, &[InstanceState::Running]).await;
    if let Err(error) = settled {
        tracing::error!(%error, instance = %id, "cannot mark the instance stopped");
    }
    // Last, because dropping it aborts this very task.
    drop(ended);
}
