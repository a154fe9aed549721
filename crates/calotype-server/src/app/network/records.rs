//! What the catalog holds of networks. An instance's attachment, private and public address are
//! seen as resources of their own, but each is a part of its VNIC and has the VNIC's id with another
//! type in it: they cannot disagree with it.

use calotype_api::networks::{Subnet, Vcn, Vnic, VnicState};
use calotype_api::ocid::Ocid;
use calotype_api::tags::{DefinedTags, FreeformTags};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cidr::Cidr;
use crate::db::Document;

/// A virtual cloud network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VcnRecord {
    /// The network as clients see it.
    pub resource: Vcn,
    /// Blocks and DNS labels of its subnets: subnets that are made at once see each other here.
    pub subnets: Vec<SubnetPlace>,
}

/// The place of a subnet in its network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubnetPlace {
    /// Which subnet.
    pub id: Ocid,
    /// Its block.
    pub cidr_block: String,
    /// Its DNS label.
    pub dns_label: Option<String>,
}

impl Document for VcnRecord {
    const KIND: &'static str = "vcn";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.to_string())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubnetRecord {
    /// The subnet as clients see it.
    pub resource: Subnet,
}

impl SubnetRecord {
    /// Its block, which was checked when it was made.
    pub(super) fn cidr(&self) -> Option<Cidr> {
        self.resource.cidr_block.parse().ok()
    }

    /// The parts of its VCN that it uses.
    pub(super) fn used(&self) -> Vec<Ocid> {
        let resource = &self.resource;
        let lists = resource.security_list_ids.iter().flatten();
        let others = [Some(&resource.route_table_id), resource.dhcp_options_id.as_ref()];
        lists.chain(others.into_iter().flatten()).cloned().collect()
    }
}

impl Document for SubnetRecord {
    const KIND: &'static str = "subnet";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.resource.vcn_id.to_string())
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.to_string())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// A network card of an instance, with its one private and at most one public address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VnicRecord {
    /// The card as clients see it.
    pub resource: Vnic,
    /// The instance it is in.
    pub instance_id: Ocid,
    /// The name the guest is given.
    pub hostname: Option<String>,
    /// 1 to 4094; nothing here is tagged, but clients read it.
    pub vlan_tag: u16,
    /// The subnet's block when the card was made.
    pub subnet_cidr_block: String,
    /// Ids of what it has claimed.
    pub claims: Vec<String>,
    /// How its private address is labelled.
    #[serde(default)]
    pub private_label: Label,
    /// How its public address is labelled.
    #[serde(default)]
    pub public_label: Label,
    /// The name of its attachment, unless that is the VNIC's.
    #[serde(default)]
    pub attachment_name: Option<String>,
    /// When its addresses were given back; it is forgotten a day later.
    #[serde(default)]
    pub time_released: Option<Timestamp>,
}

/// What people have written on an address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// A name other than the VNIC's.
    pub display_name: Option<String>,
    /// Tags with a schema.
    pub defined_tags: DefinedTags,
    /// Tags without.
    pub freeform_tags: FreeformTags,
}

impl VnicRecord {
    /// Whether it is plugged in and has its addresses.
    pub(super) fn is_alive(&self) -> bool {
        self.resource.lifecycle_state == VnicState::Available
    }
}

impl Document for VnicRecord {
    const KIND: &'static str = "vnic";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.resource.subnet_id.to_string())
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.to_string())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// Type of the id of a VNIC's attachment.
pub(super) const ATTACHMENT: &str = "vnicattachment";
/// Type of the id of a VNIC's private address.
pub(super) const PRIVATE_IP: &str = "privateip";
/// Type of the id of a VNIC's public address.
pub(super) const PUBLIC_IP: &str = "publicip";
/// Type of a VNIC's id.
pub(super) const VNIC: &str = "vnic";

/// The id with another type in it; `None` only if `kind` has characters that no id has.
pub(super) fn sibling(id: &Ocid, kind: &str) -> Option<Ocid> {
    let mut parts: Vec<&str> = id.as_str().split('.').collect();
    *parts.get_mut(1)? = kind;
    parts.join(".").parse().ok()
}
