//! Whether the guests of a subnet reach anything beyond it.
//!
//! As in OCI the subnet's route table decides: they do if it sends `0.0.0.0/0` to an internet gateway that is enabled.
//! The subnet's free-form tag [`OUTBOUND_TAG`] comes before the table: a laboratory is closed, or opened, with one word.
//! What changes is in force at once, for connections that exist, too.

use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::tags::FreeformTags;
use calotype_api::vcn_parts::{Gateway, Routes};

use super::parts::PartRecord;
use super::records::SubnetRecord;
use crate::db::{self, Db, Query};
use crate::region::Region;

/// The free-form tag that switches a subnet's way out off (`off`) or on (`on`).
pub const OUTBOUND_TAG: &str = "calotype.outbound";
/// Everything beyond the VCN.
pub(super) const ANYWHERE: &str = "0.0.0.0/0";

/// What the tag says, if it is there.
pub(super) fn by_tag(tags: &FreeformTags) -> Result<Option<bool>, ApiError> {
    match tags.get(OUTBOUND_TAG).map(String::as_str) {
        None => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(_) => Err(ApiError::invalid_parameter(
            "freeformTags",
            format!("{OUTBOUND_TAG} must be on or off"),
        )),
    }
}

/// Whether guests of the subnet reach anything beyond it.
pub(super) async fn of(db: &Db, subnet: &SubnetRecord) -> Result<bool, db::Error> {
    let resource = &subnet.resource;
    if let Ok(Some(said)) = by_tag(&resource.freeform_tags) {
        return Ok(said);
    }
    let table = db.get::<PartRecord<Routes>>(resource.route_table_id.as_str()).await?;
    let Some(table) = table else { return Ok(false) };
    for rule in &table.resource.content.route_rules {
        if rule.destination.as_deref() == Some(ANYWHERE) {
            let gateway = db.get::<PartRecord<Gateway>>(rule.network_entity_id.as_str()).await?;
            return Ok(gateway.is_some_and(|gateway| gateway.resource.content.is_enabled));
        }
    }
    Ok(false)
}

/// Puts into force what was changed in a VCN.
pub(super) async fn changed(region: &Region, vcn: &Ocid) -> Result<(), db::Error> {
    let _turn = region.guests.outbound_turn().await;
    let query = Query::new().parent(vcn.as_str());
    for subnet in region.db.list_all::<SubnetRecord>(query).await? {
        let outbound = of(&region.db, &subnet).await?;
        region.guests.set_outbound(subnet.resource.id.as_str(), outbound);
    }
    Ok(())
}

/// Puts into force what holds for a subnet now.
pub async fn enforce_outbound(region: &Region, subnet_id: &str) -> Result<(), db::Error> {
    let _turn = region.guests.outbound_turn().await;
    if let Some(subnet) = region.db.get::<SubnetRecord>(subnet_id).await? {
        region.guests.set_outbound(subnet_id, of(&region.db, &subnet).await?);
    }
    Ok(())
}
