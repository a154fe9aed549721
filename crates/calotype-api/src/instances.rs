//! Instances: launching, reading and updating them.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::images::{LaunchMode, LaunchOptions, NetworkType, VolumeType};
use crate::ocid::Ocid;
use crate::platform_config::{PlatformConfig, UpdateInstancePlatformConfig};
use crate::shapes::{BaselineOcpuUtilization, ResourceManagement};
use crate::sources::{InstanceSourceDetails, UpdateInstanceSourceDetails};
use crate::tags::{DefinedTags, FreeformTags};
use crate::text::{DisplayName, Text};
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub id: Ocid,
    pub agent_config: InstanceAgentConfig,
    pub availability_config: InstanceAvailabilityConfig,
    pub availability_domain: String,
    pub capacity_reservation_id: Option<String>,
    pub cluster_placement_group_id: Option<Ocid>,
    pub compartment_id: Ocid,
    pub dedicated_vm_host_id: Option<Ocid>,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub display_name: String,
    pub extended_metadata: BTreeMap<String, Value>,
    pub fault_domain: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub image_id: Option<Ocid>,
    pub instance_configuration_id: Option<Ocid>,
    pub instance_options: InstanceOptions,
    pub ipxe_script: Option<String>,
    #[serde(rename = "isAIEnterpriseEnabled")]
    pub is_ai_enterprise_enabled: Option<bool>,
    pub is_cross_numa_node: Option<bool>,
    pub launch_mode: LaunchMode,
    pub launch_options: LaunchOptions,
    pub licensing_configs: Option<Vec<Value>>,
    pub lifecycle_state: InstanceState,
    pub metadata: BTreeMap<String, String>,
    pub placement_constraint_details: Option<Value>,
    pub platform_config: Option<PlatformConfig>,
    pub preemptible_instance_config: Option<Value>,
    pub region: String,
    pub security_attributes: Option<DefinedTags>,
    pub security_attributes_state: Option<SecurityAttributesState>,
    pub shape: String,
    pub shape_config: InstanceShapeConfig,
    pub source_details: InstanceSourceDetails,
    #[serde(default)]
    pub system_tags: DefinedTags,
    pub time_created: Time,
    pub time_maintenance_reboot_due: Option<Time>,
}

/// The size an instance has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceShapeConfig {
    pub baseline_ocpu_utilization: Option<BaselineOcpuUtilization>,
    pub gpu_description: Option<String>,
    pub gpus: Option<u64>,
    pub local_disk_description: Option<String>,
    pub local_disks: Option<u64>,
    #[serde(rename = "localDisksTotalSizeInGBs")]
    pub local_disks_total_size_in_gbs: Option<f64>,
    #[serde(rename = "localVolumeSizeInGBs")]
    pub local_volume_size_in_gbs: Option<u64>,
    pub max_vnic_attachments: Option<u64>,
    #[serde(rename = "memoryInGBs")]
    pub memory_in_gbs: Option<f64>,
    pub networking_bandwidth_in_gbps: Option<f64>,
    pub ocpus: Option<f64>,
    pub processor_description: Option<String>,
    pub resource_management: Option<ResourceManagement>,
    pub vcpus: Option<u64>,
}

/// Options of an instance that are not of its hardware.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceOptions {
    pub are_legacy_imds_endpoints_disabled: Option<bool>,
}

/// What happens to an instance when its host must be maintained.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceAvailabilityConfig {
    pub is_live_migration_preferred: Option<bool>,
    pub recovery_action: Option<RecoveryAction>,
}

/// How the agent inside an instance is configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceAgentConfig {
    pub are_all_plugins_disabled: Option<bool>,
    pub is_management_disabled: Option<bool>,
    pub is_monitoring_disabled: Option<bool>,
    pub plugins_config: Option<Vec<InstanceAgentPluginConfigDetails>>,
}

/// The wanted state of one agent plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceAgentPluginConfigDetails {
    pub desired_state: PluginState,
    pub name: Text<1, 255>,
}

/// Body of LaunchInstance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaunchInstanceDetails {
    pub agent_config: Option<LaunchInstanceAgentConfigDetails>,
    pub availability_config: Option<LaunchInstanceAvailabilityConfigDetails>,
    pub availability_domain: Text<1, 255>,
    pub capacity_reservation_id: Option<Text<0, 255>>,
    pub cluster_placement_group_id: Option<Ocid>,
    pub compartment_id: Ocid,
    pub compute_cluster_id: Option<Ocid>,
    pub create_vnic_details: Option<CreateVnicDetails>,
    pub dedicated_vm_host_id: Option<Ocid>,
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub extended_metadata: Option<BTreeMap<String, Value>>,
    pub fault_domain: Option<Text<1, 255>>,
    pub freeform_tags: Option<FreeformTags>,
    /// Deprecated: `createVnicDetails.hostnameLabel`.
    pub hostname_label: Option<Text<1, 63>>,
    /// Deprecated: `sourceDetails.imageId`.
    pub image_id: Option<Ocid>,
    pub instance_configuration_id: Option<Ocid>,
    pub instance_options: Option<InstanceOptions>,
    pub ipxe_script: Option<Text<1, 10240>>,
    #[serde(rename = "isAIEnterpriseEnabled")]
    pub is_ai_enterprise_enabled: Option<bool>,
    pub is_pv_encryption_in_transit_enabled: Option<bool>,
    pub launch_options: Option<LaunchOptions>,
    pub launch_volume_attachments: Option<Vec<Value>>,
    pub licensing_configs: Option<Vec<Value>>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub placement_constraint_details: Option<Value>,
    pub platform_config: Option<PlatformConfig>,
    pub preemptible_instance_config: Option<Value>,
    pub security_attributes: Option<DefinedTags>,
    pub shape: Option<String>,
    pub shape_config: Option<LaunchInstanceShapeConfigDetails>,
    pub source_details: Option<InstanceSourceDetails>,
    /// Deprecated: `createVnicDetails.subnetId`.
    pub subnet_id: Option<Ocid>,
}

/// The network card that an instance is launched with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateVnicDetails {
    pub assign_ipv6_ip: Option<bool>,
    pub assign_private_dns_record: Option<bool>,
    pub assign_public_ip: Option<bool>,
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub hostname_label: Option<String>,
    pub ipv6_address_ipv6_subnet_cidr_pair_details: Option<Vec<Value>>,
    pub nsg_ids: Option<Vec<Ocid>>,
    pub private_ip: Option<Ipv4Addr>,
    pub private_ip_id: Option<Ocid>,
    pub security_attributes: Option<DefinedTags>,
    pub skip_source_dest_check: Option<bool>,
    pub subnet_cidr: Option<String>,
    pub subnet_id: Option<Ocid>,
    pub vlan_id: Option<Ocid>,
}

/// The size asked for when launching a flexible shape.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaunchInstanceShapeConfigDetails {
    pub baseline_ocpu_utilization: Option<BaselineOcpuUtilization>,
    #[serde(rename = "localVolumeSizeInGBs")]
    pub local_volume_size_in_gbs: Option<u64>,
    #[serde(rename = "memoryInGBs")]
    pub memory_in_gbs: Option<f64>,
    pub nvmes: Option<u64>,
    pub ocpus: Option<f64>,
    pub resource_management: Option<ResourceManagement>,
    pub vcpus: Option<u64>,
}

/// See `InstanceAvailabilityConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaunchInstanceAvailabilityConfigDetails {
    pub is_live_migration_preferred: Option<bool>,
    pub recovery_action: Option<RecoveryAction>,
}

/// See `InstanceAgentConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaunchInstanceAgentConfigDetails {
    pub are_all_plugins_disabled: Option<bool>,
    pub is_management_disabled: Option<bool>,
    pub is_monitoring_disabled: Option<bool>,
    pub plugins_config: Option<Vec<InstanceAgentPluginConfigDetails>>,
}

/// Chooses an image by its properties instead of by its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceSourceImageFilterDetails {
    pub compartment_id: Ocid,
    pub defined_tags_filter: Option<DefinedTags>,
    pub operating_system: Option<String>,
    pub operating_system_version: Option<String>,
}

/// Body of UpdateInstance: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateInstanceDetails {
    pub agent_config: Option<UpdateInstanceAgentConfigDetails>,
    pub availability_config: Option<UpdateInstanceAvailabilityConfigDetails>,
    pub capacity_reservation_id: Option<String>,
    pub dedicated_vm_host_id: Option<Ocid>,
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub extended_metadata: Option<BTreeMap<String, Value>>,
    pub fault_domain: Option<Text<1, 255>>,
    pub freeform_tags: Option<FreeformTags>,
    pub instance_options: Option<InstanceOptions>,
    #[serde(rename = "isAIEnterpriseEnabled")]
    pub is_ai_enterprise_enabled: Option<bool>,
    pub launch_options: Option<UpdateLaunchOptions>,
    pub licensing_configs: Option<Vec<Value>>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub platform_config: Option<UpdateInstancePlatformConfig>,
    pub security_attributes: Option<DefinedTags>,
    pub shape: Option<String>,
    pub shape_config: Option<UpdateInstanceShapeConfigDetails>,
    pub source_details: Option<UpdateInstanceSourceDetails>,
    pub time_maintenance_reboot_due: Option<Time>,
    pub update_operation_constraint: Option<UpdateOperationConstraint>,
}

/// See `LaunchInstanceShapeConfigDetails`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateInstanceShapeConfigDetails {
    pub baseline_ocpu_utilization: Option<BaselineOcpuUtilization>,
    #[serde(rename = "localVolumeSizeInGBs")]
    pub local_volume_size_in_gbs: Option<u64>,
    #[serde(rename = "memoryInGBs")]
    pub memory_in_gbs: Option<f64>,
    pub nvmes: Option<u64>,
    pub ocpus: Option<f64>,
    pub resource_management: Option<ResourceManagement>,
    pub vcpus: Option<u64>,
}

/// See `InstanceAvailabilityConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateInstanceAvailabilityConfigDetails {
    pub is_live_migration_preferred: Option<bool>,
    pub recovery_action: Option<RecoveryAction>,
}

/// See `InstanceAgentConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateInstanceAgentConfigDetails {
    pub are_all_plugins_disabled: Option<bool>,
    pub is_management_disabled: Option<bool>,
    pub is_monitoring_disabled: Option<bool>,
    pub plugins_config: Option<Vec<InstanceAgentPluginConfigDetails>>,
}

/// The launch options that an existing instance can change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateLaunchOptions {
    pub boot_volume_type: Option<VolumeType>,
    pub is_pv_encryption_in_transit_enabled: Option<bool>,
    pub network_type: Option<NetworkType>,
}

wire_enum! {
    /// The states of an instance.
    InstanceState {
        Moving = "MOVING",
        Provisioning = "PROVISIONING",
        Running = "RUNNING",
        Starting = "STARTING",
        Stopping = "STOPPING",
        Stopped = "STOPPED",
        CreatingImage = "CREATING_IMAGE",
        Terminating = "TERMINATING",
        Terminated = "TERMINATED",
    }
}

wire_enum! {
    /// Whether security attributes are being applied.
    SecurityAttributesState {
        Stable = "STABLE",
        Updating = "UPDATING",
    }
}

wire_enum! {
    /// What becomes of an instance whose host failed.
    RecoveryAction {
        RestoreInstance = "RESTORE_INSTANCE",
        StopInstance = "STOP_INSTANCE",
    }
}

wire_enum! {
    /// Whether an agent plugin shall run.
    PluginState {
        Enabled = "ENABLED",
        Disabled = "DISABLED",
    }
}

wire_enum! {
    /// Whether an update may stop the instance.
    UpdateOperationConstraint {
        AllowDowntime = "ALLOW_DOWNTIME",
        AvoidDowntime = "AVOID_DOWNTIME",
    }
}

impl LaunchInstanceDetails {
    /// A launch with nothing said but where.
    pub fn new(compartment_id: Ocid, availability_domain: Text<1, 255>) -> Self {
        Self {
            agent_config: None,
            availability_config: None,
            availability_domain,
            capacity_reservation_id: None,
            cluster_placement_group_id: None,
            compartment_id,
            compute_cluster_id: None,
            create_vnic_details: None,
            dedicated_vm_host_id: None,
            defined_tags: None,
            display_name: None,
            extended_metadata: None,
            fault_domain: None,
            freeform_tags: None,
            hostname_label: None,
            image_id: None,
            instance_configuration_id: None,
            instance_options: None,
            ipxe_script: None,
            is_ai_enterprise_enabled: None,
            is_pv_encryption_in_transit_enabled: None,
            launch_options: None,
            launch_volume_attachments: None,
            licensing_configs: None,
            metadata: None,
            placement_constraint_details: None,
            platform_config: None,
            preemptible_instance_config: None,
            security_attributes: None,
            shape: None,
            shape_config: None,
            source_details: None,
            subnet_id: None,
        }
    }
}
