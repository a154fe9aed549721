//! What an instance may read about itself at 169.254.169.254, from the catalog at each request.
//!
//! Keys and forms are those of OCI's metadata service; cloud-init's Oracle datasource needs
//! `ociAdName`, `id`, `hostname` and `displayName`. `timeCreated` is in milliseconds, `state` in
//! title case, and a virtual machine's VNIC has no `nicIndex`.

use calotype_api::instances::{Instance, InstanceState};
use calotype_api::ocid::Ocid;
use calotype_net::{MetadataDocument, MetadataSource};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::network;
use crate::config::Config;
use crate::db::{Db, Error};
use crate::records::InstanceRecord;

/// Answers the metadata service from the catalog.
pub struct CatalogMetadata {
    /// The catalog.
    pub db: Db,
    /// The region's names.
    pub config: Config,
}

impl MetadataSource for CatalogMetadata {
    fn document(&self, vnic_id: String) -> BoxFuture<'static, Option<MetadataDocument>> {
        let (db, config) = (self.db.clone(), self.config.clone());
        Box::pin(async move {
            match document(&db, &config, &vnic_id).await {
                Ok(document) => document,
                Err(error) => {
                    tracing::error!(%error, vnic = %vnic_id, "cannot answer the metadata service");
                    None
                }
            }
        })
    }
}

async fn document(
    db: &Db,
    config: &Config,
    vnic_id: &str,
) -> Result<Option<MetadataDocument>, Error> {
    let Ok(vnic_id) = vnic_id.parse::<Ocid>() else { return Ok(None) };
    let Some(owner) = network::owner_of(db, &vnic_id).await? else { return Ok(None) };
    let Some(instance) = db.get::<InstanceRecord>(owner.instance_id.as_str()).await? else {
        return Ok(None);
    };
    let hostname = owner.hostname.unwrap_or_else(|| instance.resource.display_name.clone());
    Ok(Some(MetadataDocument {
        instance: instance_document(config, &instance.resource, &hostname),
        vnics: network::metadata_of(db, instance.vnic_ids()).await?,
        volume_attachments: json!([]),
        legacy_endpoints_disabled: instance
            .resource
            .instance_options
            .are_legacy_imds_endpoints_disabled
            .unwrap_or(false),
    }))
}

fn instance_document(config: &Config, instance: &Instance, hostname: &str) -> Value {
    let agent = &instance.agent_config;
    let size = &instance.shape_config;
    let mut document = json!({
        "availabilityDomain": instance.availability_domain,
        "faultDomain": instance.fault_domain,
        "compartmentId": instance.compartment_id,
        "displayName": instance.display_name,
        "hostname": hostname,
        "id": instance.id,
        "image": instance.image_id,
        "region": instance.region,
        "canonicalRegionName": config.region,
        "ociAdName": format!("{}-ad-1", config.region),
        "regionInfo": {
            "realmKey": config.realm,
            "realmDomainComponent": config.domain_with_port(),
            "regionKey": config.region_key.to_uppercase(),
            "regionIdentifier": config.region,
        },
        "shape": instance.shape,
        "shapeConfig": {
            "ocpus": size.ocpus,
            "memoryInGBs": size.memory_in_gbs,
            "networkingBandwidthInGbps": size.networking_bandwidth_in_gbps,
            "maxVnicAttachments": size.max_vnic_attachments,
        },
        "state": state_in_title_case(instance.lifecycle_state),
        "timeCreated": instance.time_created.as_millisecond(),
        "agentConfig": {
            "monitoringDisabled": agent.is_monitoring_disabled.unwrap_or(false),
            "managementDisabled": agent.is_management_disabled.unwrap_or(false),
            "allPluginsDisabled": agent.are_all_plugins_disabled.unwrap_or(false),
            "pluginsConfig": agent.plugins_config.clone().unwrap_or_default(),
        },
        "freeformTags": instance.freeform_tags,
        "definedTags": instance.defined_tags,
    });
    let plain = instance.metadata.iter();
    let plain = plain.map(|(key, value)| (key.clone(), Value::from(value.clone())));
    let mut metadata: Map<String, Value> = instance.extended_metadata.clone().into_iter().collect();
    metadata.extend(plain);
    document["metadata"] = Value::Object(metadata);
    document
}

fn state_in_title_case(state: InstanceState) -> String {
    let word = state.as_str().replace('_', " ").to_lowercase();
    let mut characters = word.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_in_title_case() {
        assert_eq!(state_in_title_case(InstanceState::Running), "Running");
        assert_eq!(state_in_title_case(InstanceState::CreatingImage), "Creating image");
    }
}
