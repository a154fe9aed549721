//! Networks on a catalog of their own.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use calotype_api::ErrorCode;
use calotype_api::boot_volumes::AttachmentState;
use calotype_api::instances::CreateVnicDetails;
use calotype_api::vcn_parts::{Gateway, Group, NewPart, Routes};
use serde_json::json;
use tempfile::TempDir;

use super::addresses::{private_ip, public_ip};
use super::outbound::OUTBOUND_TAG;
use super::plug::plan;
use super::records::sibling;
use super::vnics::attachment;
use super::*;
use crate::app::claims::Claim;
use crate::db::{Db, ErrorKind, Query, Versioned};

const COMPARTMENT: &str = "ocid1.compartment.oc99..c";
const DOMAIN: &str = "Calo:HOME-1-AD-1";

fn new_id(kind: &str) -> Ocid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("ocid1.{kind}.oc99.home-1.u{next}").parse().unwrap()
}

fn vcn_details(fields: &serde_json::Value) -> CreateVcnDetails {
    let mut details = json!({"compartmentId": COMPARTMENT});
    details.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(details).unwrap()
}

fn new_vcn(fields: &serde_json::Value) -> Result<VcnRecord, ApiError> {
    vcns::new(new_id("vcn"), vcn_details(fields), Timestamp::UNIX_EPOCH)
}

fn new_subnet(vcn: &mut VcnRecord, fields: &serde_json::Value) -> Result<SubnetRecord, ApiError> {
    let mut details = json!({"compartmentId": COMPARTMENT, "vcnId": vcn.resource.id});
    details.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let details = serde_json::from_value(details).unwrap();
    subnets::new(new_id("subnet"), vcn, details, Timestamp::UNIX_EPOCH)
}

/// A catalog with one subnet.
struct Site {
    db: Db,
    vcn: VcnRecord,
    subnet: SubnetRecord,
    _directory: TempDir,
}

impl Site {
    async fn new(fields: &serde_json::Value) -> Self {
        let directory = TempDir::new().unwrap();
        let db = Db::open(&directory.path().join("db")).await.unwrap();
        let mut vcn = new_vcn(&json!({"cidrBlock": "10.0.0.0/16", "dnsLabel": "net"})).unwrap();
        let subnet = new_subnet(&mut vcn, fields).unwrap();
        let batch = Batch::new().insert(&vcn).insert(&subnet);
        let defaults = parts::defaults(&vcn.resource, Timestamp::UNIX_EPOCH);
        db.apply(defaults.insert(batch)).await.unwrap();
        Self { db, subnet, vcn, _directory: directory }
    }

    /// Gives the VCN's own table a gateway to lead to.
    async fn lead_out(&self, is_enabled: bool) {
        let gateway = self.part(Gateway { is_enabled, route_table_id: None });
        let table = &self.subnet.resource.route_table_id;
        let table = self.db.get::<parts::PartRecord<Routes>>(table.as_str()).await.unwrap();
        let mut table = table.unwrap();
        let rule = json!({"cidrBlock": "0.0.0.0/0", "networkEntityId": gateway.resource.id});
        let content = &mut table.resource.content;
        content.route_rules = vec![serde_json::from_value(rule).unwrap()];
        parts::Content::complete(content).unwrap();
        self.db.apply(Batch::new().insert(&gateway).replace(&table)).await.unwrap();
    }

    fn part<C: parts::Content>(&self, content: C) -> parts::PartRecord<C> {
        let frame = NewPart {
            compartment_id: COMPARTMENT.parse().unwrap(),
            defined_tags: None,
            display_name: None,
            freeform_tags: None,
            vcn_id: self.vcn.resource.id.clone(),
        };
        parts::new(new_id(C::KIND), frame, content, Timestamp::UNIX_EPOCH)
    }

    async fn group(&self) -> Versioned<parts::PartRecord<Group>> {
        let group = Versioned::first(self.part(Group {}));
        self.db.apply(Batch::new().create(&group)).await.unwrap();
        group
    }

    async fn plan(&self, fields: &serde_json::Value) -> Result<PlannedVnic, ApiError> {
        let mut details = json!({"subnetId": self.subnet.resource.id});
        details.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let details: CreateVnicDetails = serde_json::from_value(details).unwrap();
        let owner = VnicOwner {
            instance_id: new_id("instance"),
            compartment_id: COMPARTMENT.parse().unwrap(),
            display_name: "My Web_Server #1".to_owned(),
            availability_domain: DOMAIN.to_owned(),
            is_primary: true,
            attachment_name: None,
        };
        plan(&self.db, new_id("vnic"), &owner, &details, Timestamp::now()).await
    }

    async fn plug(&self, fields: &serde_json::Value) -> Result<VnicRecord, ApiError> {
        let planned = self.plan(fields).await?;
        self.db.apply(planned.batch).await?;
        Ok(self.vnic(&planned.vnic_id).await)
    }

    async fn vnic(&self, id: &Ocid) -> VnicRecord {
        self.db.get::<VnicRecord>(id.as_str()).await.unwrap().unwrap().value
    }

    async fn claims(&self) -> usize {
        self.db.list_all::<Claim>(Query::new()).await.unwrap().len()
    }

    async fn delete_subnet(&self) -> Result<(), crate::db::Error> {
        let id = self.subnet.resource.id.as_str();
        let subnet: Versioned<SubnetRecord> = self.db.get(id).await.unwrap().unwrap();
        let batch = subnets::deletion(&self.db, &subnet).await.unwrap();
        self.db.apply(batch).await
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, field: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidParameter, "{error}");
    assert!(error.message.starts_with(field), "{error} should name {field}");
}

#[test]
fn a_vcn_has_what_clients_dereference() {
    let vcn = new_vcn(&json!({"cidrBlocks": ["10.0.0.0/16", "10.1.0.0/16"], "dnsLabel": "net"}));
    let vcn = vcn.unwrap().resource;
    assert_eq!(vcn.cidr_block, "10.0.0.0/16");
    assert_eq!(vcn.display_name, "vcn19700101000000");
    assert_eq!(vcn.vcn_domain_name.as_deref(), Some("net.oraclevcn.com"));
    for (id, kind) in [
        (&vcn.default_dhcp_options_id, "dhcpoptions"),
        (&vcn.default_route_table_id, "routetable"),
        (&vcn.default_security_list_id, "securitylist"),
    ] {
        assert_eq!(id.as_ref().unwrap().resource_type(), kind);
    }
}

#[test]
fn a_vcn_is_refused_by_the_field_that_is_wrong() {
    let six: Vec<_> = (0..6).map(|second| format!("10.{second}.0.0/16")).collect();
    for (fields, field) in [
        (json!({"cidrBlock": "10.0.0.1/16"}), "cidrBlock"),
        (json!({"cidrBlock": "169.254.0.0/16"}), "cidrBlock"),
        (json!({"cidrBlocks": ["10.0.0.0/16", "10.0.1.0/24"]}), "cidrBlocks"),
        (json!({"cidrBlocks": six}), "cidrBlocks"),
        (json!({"cidrBlock": "10.0.0.0/16", "cidrBlocks": ["10.0.0.0/16"]}), "cidrBlock"),
        (json!({"cidrBlock": "10.0.0.0/16", "dnsLabel": "1st"}), "dnsLabel"),
        (json!({"cidrBlock": "10.0.0.0/16", "isIpv6Enabled": true}), "isIpv6Enabled"),
    ] {
        refused(new_vcn(&fields), field);
    }
    assert_eq!(new_vcn(&json!({})).unwrap_err().code, ErrorCode::MissingParameter);
}

#[test]
fn a_subnet_lies_in_its_vcn_and_beside_the_others() {
    let mut vcn = new_vcn(&json!({"cidrBlock": "10.0.0.0/16", "dnsLabel": "net"})).unwrap();
    let first = json!({"cidrBlock": "10.0.1.0/24", "dnsLabel": "sub"});
    let subnet = new_subnet(&mut vcn, &first).unwrap().resource;
    assert_eq!(subnet.virtual_router_ip, Some(Ipv4Addr::new(10, 0, 1, 1)));
    assert!(subnet.virtual_router_mac.starts_with("00:00:17:"));
    assert_eq!(subnet.subnet_domain_name.as_deref(), Some("sub.net.oraclevcn.com"));
    assert_eq!(Some(&subnet.route_table_id), vcn.resource.default_route_table_id.as_ref());
    for (fields, field) in [
        (json!({"cidrBlock": "10.1.0.0/24"}), "cidrBlock"),
        (json!({"cidrBlock": "10.0.1.128/25"}), "cidrBlock"),
        (json!({"cidrBlock": "10.0.0.0/16"}), "cidrBlock"),
        (json!({"ipv4CidrBlocks": ["10.0.1.0/30"]}), "ipv4CidrBlocks"),
        (json!({"cidrBlock": "10.0.2.0/24", "dnsLabel": "sub"}), "dnsLabel"),
        (json!({"cidrBlock": "10.0.2.0/24", "ipv6CidrBlock": "fd00::/64"}), "ipv6CidrBlock"),
    ] {
        refused(new_subnet(&mut vcn, &fields), field);
    }
    assert_eq!(vcn.subnets.len(), 1);
}

#[tokio::test]
async fn a_table_leads_out_and_the_tag_comes_before_it() {
    let plain = json!({"cidrBlock": "10.0.0.0/24"});
    let with =
        |value: &str| json!({"cidrBlock": "10.0.0.0/24", "freeformTags": {OUTBOUND_TAG: value}});
    let mut vcn = new_vcn(&json!({"cidrBlock": "10.0.0.0/16"})).unwrap();
    refused(new_subnet(&mut vcn, &with("false")), "freeformTags");
    for (fields, gateway, leads) in [
        (&plain, None, false),
        (&plain, Some(true), true),
        (&plain, Some(false), false),
        (&with("off"), Some(true), false),
        (&with("on"), None, true),
    ] {
        let site = Site::new(fields).await;
        if let Some(is_enabled) = gateway {
            site.lead_out(is_enabled).await;
        }
        let out = outbound::of(&site.db, &site.subnet).await.unwrap();
        assert_eq!(out, leads, "{fields} and a gateway: {gateway:?}");
    }
}

#[tokio::test]
async fn a_group_has_the_vnics_that_were_launched_into_it_and_stays_for_them() {
    let site = Site::new(&json!({"cidrBlock": "10.0.0.0/24"})).await;
    let group = site.group().await;
    let id = &group.resource.id;
    let vnic = site.plug(&json!({"nsgIds": [id]})).await.unwrap();
    assert_eq!(vnic.resource.nsg_ids, std::slice::from_ref(id));
    let delete = || uses::refuse_users(Batch::new(), id).delete(&group);
    let error = site.db.apply(delete()).await.unwrap_err();
    let told = uses::explain(&site.db, error, "Network Security Group", id).await;
    assert_eq!(told.code, ErrorCode::Conflict);
    let vnic_id = &vnic.resource.id;
    assert_eq!(
        told.message,
        format!(
            "The Network Security Group {id} references the VNIC {vnic_id}. You must remove the \
             reference to proceed with this operation."
        )
    );
    let late = site.plan(&json!({"nsgIds": [id]})).await.unwrap();
    release_vnic(&site.db, vnic_id).await.unwrap();
    site.db.apply(delete()).await.unwrap();
    assert!(site.db.apply(late.batch).await.unwrap_err().is_conflict(), "planned before, too late");
    let error = site.plan(&json!({"nsgIds": [id]})).await.unwrap_err();
    assert_eq!(error, ApiError::related_resource_not_found("Network Security Group", id));
}

#[tokio::test]
async fn a_vnic_has_addresses_of_its_own_and_is_seen_as_four_resources() {
    let site = Site::new(&json!({"cidrBlock": "10.0.0.0/24", "dnsLabel": "sub"})).await;
    let vnic = site.plug(&json!({})).await.unwrap();
    let resource = &vnic.resource;
    let address = resource.private_ip.unwrap();
    assert_eq!(address.octets()[..3], [10, 0, 0]);
    assert!((2..=254).contains(&address.octets()[3]));
    assert_eq!(resource.public_ip.unwrap().octets()[0], 127);
    assert!(resource.mac_address.as_ref().unwrap().starts_with("02:00:17:"));
    assert_eq!(vnic.hostname.as_deref(), Some("my-web-server-1"));
    let (private, public) = (private_ip(&vnic).unwrap(), public_ip(&vnic).unwrap());
    assert_eq!(private.ip_address, address);
    assert_eq!(public.private_ip_id, Some(private.id.clone()));
    assert_eq!(sibling(&private.id, "vnic").unwrap(), resource.id);
    let attachment = attachment(&vnic).unwrap();
    assert_eq!(attachment.vnic_id.as_ref(), Some(&resource.id));
    assert_eq!(attachment.instance_id, vnic.instance_id);
    assert_eq!(attachment.lifecycle_state, AttachmentState::Attached);
}

#[tokio::test]
async fn tells_the_virtual_network_and_the_guest_the_same() {
    let tags = json!({OUTBOUND_TAG: "off"});
    let fields = json!({"cidrBlock": "10.0.0.0/24", "dnsLabel": "sub", "freeformTags": tags});
    let site = Site::new(&fields).await;
    let vnic = site.plug(&json!({"privateIp": "10.0.0.9", "hostnameLabel": "web"})).await.unwrap();
    let id = &vnic.resource.id;
    let config = vnic_config(&site.db, id, &[80]).await.unwrap().unwrap();
    assert_eq!(config.private_ip, Ipv4Addr::new(10, 0, 0, 9));
    assert_eq!(config.subnet.cidr, (Ipv4Addr::new(10, 0, 0, 0), 24));
    assert_eq!(config.hostname.as_deref(), Some("web"));
    assert_eq!(config.subnet.domain_name.as_deref(), Some("sub.net.oraclevcn.com"));
    assert!(!config.subnet.outbound);
    assert_eq!(config.public.unwrap().tcp_ports, [80]);
    let mac = mac_address(&site.db, id).await.unwrap().unwrap();
    assert_eq!(mac, config.mac.map(|byte| format!("{byte:02x}")).join(":"));
    let document = metadata_of(&site.db, std::iter::once(id)).await.unwrap();
    assert_eq!(document[0]["macAddr"], json!(mac));
    assert_eq!(document[0]["privateIp"], json!("10.0.0.9"));
    assert_eq!(document[0]["virtualRouterIp"], json!("10.0.0.1"));
    assert_eq!(document[0]["subnetCidrBlock"], json!("10.0.0.0/24"));
    assert_eq!(
        document[0].get("nicIndex"),
        None,
        "a guest that sees one believes it is bare metal"
    );
    let owner = owner_of(&site.db, id).await.unwrap().unwrap();
    assert_eq!(owner.instance_id, vnic.instance_id);
}

#[tokio::test]
async fn a_vnic_is_refused_by_the_field_that_is_wrong() {
    let site = Site::new(&json!({"cidrBlock": "10.0.0.0/24"})).await;
    site.plug(&json!({"privateIp": "10.0.0.5", "hostnameLabel": "web"})).await.unwrap();
    for (fields, field) in [
        (json!({"privateIp": "10.0.0.1"}), "createVnicDetails.privateIp"),
        (json!({"privateIp": "10.0.0.255"}), "createVnicDetails.privateIp"),
        (json!({"privateIp": "10.0.1.5"}), "createVnicDetails.privateIp"),
        (json!({"hostnameLabel": "-web"}), "createVnicDetails.hostnameLabel"),
        (json!({"hostnameLabel": "w".repeat(64)}), "createVnicDetails.hostnameLabel"),
        (json!({"nsgIds": [new_id("subnet")]}), "createVnicDetails.nsgIds"),
        (json!({"assignIpv6Ip": true}), "createVnicDetails.assignIpv6Ip"),
    ] {
        refused(site.plan(&fields).await, field);
    }
    for fields in [json!({"privateIp": "10.0.0.5"}), json!({"hostnameLabel": "WEB"})] {
        assert_eq!(site.plan(&fields).await.unwrap_err().code, ErrorCode::Conflict);
    }
    let nowhere = site.plan(&json!({"subnetId": new_id("subnet")})).await.unwrap_err();
    assert_eq!(nowhere.code, ErrorCode::NotAuthorizedOrNotFound);
    assert!(nowhere.message.starts_with("Either Subnet with ID"));
}

#[tokio::test]
async fn a_private_subnet_gives_no_public_address() {
    let fields = json!({"cidrBlock": "10.0.0.0/24", "prohibitPublicIpOnVnic": true});
    let site = Site::new(&fields).await;
    assert!(site.subnet.resource.prohibit_internet_ingress);
    let vnic = site.plug(&json!({})).await.unwrap();
    assert_eq!(vnic.resource.public_ip, None);
    assert!(public_ip(&vnic).is_none());
    let asked = site.plan(&json!({"assignPublicIp": true})).await;
    refused(asked, "createVnicDetails.assignPublicIp");
}

#[tokio::test]
async fn a_full_subnet_says_so_and_a_released_address_is_given_again() {
    let site = Site::new(&json!({"cidrBlock": "10.0.0.0/29"})).await;
    let mut vnics = Vec::new();
    for _ in 0..5 {
        vnics.push(site.plug(&json!({})).await.unwrap());
    }
    let addresses: BTreeSet<_> = vnics.iter().map(|vnic| vnic.resource.private_ip).collect();
    assert_eq!(addresses.len(), 5);
    let error = site.plan(&json!({})).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::LimitExceeded);
    let released = vnics[2].resource.id.clone();
    for _ in 0..2 {
        release_vnic(&site.db, &released).await.unwrap();
        assert!(vnic_config(&site.db, &released, &[]).await.unwrap().is_none());
    }
    let vnic = site.plug(&json!({})).await.unwrap();
    assert_eq!(vnic.resource.private_ip, vnics[2].resource.private_ip);
    // Releasing the old one again takes nothing from the new.
    release_vnic(&site.db, &released).await.unwrap();
    assert!(vnic_config(&site.db, &vnic.resource.id, &[]).await.unwrap().is_some());
    let detached = attachment(&site.vnic(&released).await).unwrap();
    assert_eq!(detached.lifecycle_state, AttachmentState::Detached);
}

#[tokio::test]
async fn of_two_plans_for_one_address_only_one_is_written() {
    let site = Site::new(&json!({"cidrBlock": "10.0.0.0/30"})).await;
    let (first, second) =
        (site.plan(&json!({})).await.unwrap(), site.plan(&json!({})).await.unwrap());
    site.db.apply(first.batch).await.unwrap();
    assert!(site.db.apply(second.batch).await.unwrap_err().is_conflict());
}

#[tokio::test]
async fn a_subnet_goes_only_when_nothing_is_in_it() {
    let site = Site::new(&json!({"cidrBlock": "10.0.0.0/24"})).await;
    let vnic = site.plug(&json!({"hostnameLabel": "web"})).await.unwrap();
    let late = site.plan(&json!({})).await.unwrap();
    let error = site.delete_subnet().await.unwrap_err();
    let of = site.subnet.resource.id.to_string();
    assert_eq!(error.kind, ErrorKind::Conflict { kind: "claim".to_owned(), id: of });
    release_vnic(&site.db, &vnic.resource.id).await.unwrap();
    assert_eq!(site.claims().await, 0);
    site.delete_subnet().await.unwrap();
    assert!(site.db.apply(late.batch).await.unwrap_err().is_conflict(), "planned before, too late");
    let vcns = site.db.list_all::<VcnRecord>(Query::new()).await.unwrap();
    assert!(vcns[0].subnets.is_empty());
}

#[test]
fn a_new_region_has_a_network_to_launch_into() {
    let config = Config {
        region: "home-1".to_owned(),
        region_key: "HOM".to_owned(),
        realm: "oc99".to_owned(),
        domain: "calotype.localhost".to_owned(),
        port: 8443,
        tenancy: "ocid1.tenancy.oc99..t".to_owned(),
        administrator: "ocid1.user.oc99..u".to_owned(),
        domain_prefix: "Calo".to_owned(),
        guests: crate::config::GuestConfig::default(),
        capture: crate::config::CaptureConfig::default(),
        console: crate::config::ConsoleConfig::default(),
        images: crate::config::ImageConfig::default(),
        store: crate::config::StoreConfig::default(),
    };
    let compartment: Ocid = COMPARTMENT.parse().unwrap();
    let batch = default_network(&config, &compartment, Timestamp::UNIX_EPOCH).unwrap();
    assert!(!batch.is_empty());
}
