//! Shapes: the sizes that instances can have.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire_enum::wire_enum;

/// A shape and its bounds. Amounts of memory are in GiB, whatever the field calls them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shape {
    pub baseline_ocpu_utilizations: Option<Vec<BaselineOcpuUtilization>>,
    pub billing_type: Option<BillingType>,
    pub bs_nvme_attachments_config: Option<Value>,
    pub gpu_description: Option<String>,
    pub gpus: Option<u64>,
    pub is_billed_for_stopped_instance: Option<bool>,
    pub is_flexible: Option<bool>,
    pub is_live_migration_supported: Option<bool>,
    pub is_subcore: Option<bool>,
    pub local_disk_description: Option<String>,
    pub local_disks: Option<u64>,
    #[serde(rename = "localDisksTotalSizeInGBs")]
    pub local_disks_total_size_in_gbs: Option<f64>,
    pub max_vnic_attachment_options: Option<ShapeMaxVnicAttachmentOptions>,
    pub max_vnic_attachments: Option<u64>,
    #[serde(rename = "memoryInGBs")]
    pub memory_in_gbs: Option<f64>,
    pub memory_options: Option<ShapeMemoryOptions>,
    pub min_total_baseline_ocpus_required: Option<f64>,
    pub network_ports: Option<u64>,
    pub networking_bandwidth_in_gbps: Option<f64>,
    pub networking_bandwidth_options: Option<ShapeNetworkingBandwidthOptions>,
    pub ocpu_options: Option<ShapeOcpuOptions>,
    pub ocpus: Option<f64>,
    pub platform_config_options: Option<Value>,
    pub platform_names: Option<Vec<String>>,
    pub processor_description: Option<String>,
    pub quota_names: Option<Vec<String>>,
    pub rdma_bandwidth_in_gbps: Option<u64>,
    pub rdma_ports: Option<u64>,
    pub recommended_alternatives: Option<Vec<ShapeAlternativeObject>>,
    pub resize_compatible_shapes: Option<Vec<String>>,
    pub shape: String,
    pub supported_resource_management: Option<Vec<ResourceManagement>>,
}

/// The bounds of a flexible shape's OCPUs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShapeOcpuOptions {
    pub max: Option<f64>,
    pub max_per_numa_node: Option<f64>,
    pub min: Option<f64>,
}

/// The bounds of a flexible shape's memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShapeMemoryOptions {
    pub default_per_ocpu_in_g_bs: Option<f64>,
    pub max_in_g_bs: Option<f64>,
    #[serde(rename = "maxPerNumaNodeInGBs")]
    pub max_per_numa_node_in_gbs: Option<f64>,
    #[serde(rename = "maxPerOcpuInGBs")]
    pub max_per_ocpu_in_gbs: Option<f64>,
    pub min_in_g_bs: Option<f64>,
    #[serde(rename = "minPerOcpuInGBs")]
    pub min_per_ocpu_in_gbs: Option<f64>,
}

/// The bounds of a flexible shape's bandwidth.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShapeNetworkingBandwidthOptions {
    pub default_per_ocpu_in_gbps: Option<f64>,
    pub max_in_gbps: Option<f64>,
    pub min_in_gbps: Option<f64>,
}

/// The bounds of a flexible shape's network cards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShapeMaxVnicAttachmentOptions {
    pub default_per_ocpu: Option<f64>,
    pub max: Option<f64>,
    pub min: Option<u64>,
}

/// A shape to use in place of an old one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShapeAlternativeObject {
    pub shape_name: String,
}

wire_enum! {
    /// The share of its OCPUs that a burstable instance is sure of.
    BaselineOcpuUtilization {
        Baseline1_8 = "BASELINE_1_8",
        Baseline1_2 = "BASELINE_1_2",
        Baseline1_1 = "BASELINE_1_1",
    }
}

wire_enum! {
    /// How a dense host divides itself.
    ResourceManagement {
        Dynamic = "DYNAMIC",
        Static = "STATIC",
    }
}

wire_enum! {
    /// How a shape is billed.
    BillingType {
        AlwaysFree = "ALWAYS_FREE",
        LimitedFree = "LIMITED_FREE",
        Paid = "PAID",
    }
}
