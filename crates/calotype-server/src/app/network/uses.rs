//! What is used is not deleted: a use is a claim of the user's within what is used, and what has claims in it stays.

use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::vcn_parts::{DhcpSettings, Gateway, Group, Routes, SecurityRules};
use jiff::Timestamp;

use super::parts::{Content, PartRecord};
use super::records::VcnRecord;
use crate::app::claims::Claim;
use crate::db::{Batch, Db, Document, Error, ErrorKind, Query};

const CLAIM: &str = <Claim as Document>::KIND;

/// Makes `user` use `after` in place of `before`, all of them parts of the VCN. What the VCN came with needs no
/// claim: it does not go before its users do.
pub(super) async fn change(
    db: &Db,
    vcn: &VcnRecord,
    user: &Ocid,
    before: &[Ocid],
    after: &[Ocid],
    now: Timestamp,
) -> Result<Batch, ApiError> {
    let ended: Vec<_> = before.iter().filter(|id| !after.contains(id)).cloned().collect();
    let mut batch = given_up(db, user, &ended).await?;
    for target in after.iter().filter(|id| !before.contains(id)) {
        batch = batch.and(existing(db, vcn, target).await?);
        if !is_default(vcn, target) {
            batch = batch.insert(&claim(target, user, now));
        }
    }
    Ok(batch)
}

/// Ends the uses of `target` by `user`.
pub(super) async fn given_up(db: &Db, user: &Ocid, target: &[Ocid]) -> Result<Batch, Error> {
    let mut batch = Batch::new();
    for target in target {
        if let Some(claim) = db.get::<Claim>(&name(target, user)).await? {
            batch = batch.delete(&claim);
        }
    }
    Ok(batch)
}

/// The claim of `user` to `target`.
pub(super) fn claim(target: &Ocid, user: &Ocid, now: Timestamp) -> Claim {
    Claim {
        what: name(target, user),
        scope: Some(target.to_string()),
        owner: user.to_string(),
        time_created: now,
    }
}

/// The name of the claim.
pub(super) fn name(target: &Ocid, user: &Ocid) -> String {
    format!("use/{target}/{user}")
}

fn is_default(vcn: &VcnRecord, id: &Ocid) -> bool {
    let network = &vcn.resource;
    [
        &network.default_route_table_id,
        &network.default_security_list_id,
        &network.default_dhcp_options_id,
    ]
    .into_iter()
    .any(|default| default.as_ref() == Some(id))
}

/// Refuses an id of anything but such a part, in words of a part that is not there.
pub(super) fn must_be<C: Content>(id: &Ocid) -> Result<(), ApiError> {
    if id.resource_type() == C::KIND {
        return Ok(());
    }
    Err(ApiError::related_resource_not_found(C::NAME, id))
}

/// Requires that the part is there when the batch is written.
async fn existing(db: &Db, vcn: &VcnRecord, id: &Ocid) -> Result<Batch, ApiError> {
    match id.resource_type() {
        _ if is_default(vcn, id) => Ok(Batch::new()),
        Routes::KIND => part::<Routes>(db, vcn, id).await,
        SecurityRules::KIND => part::<SecurityRules>(db, vcn, id).await,
        DhcpSettings::KIND => part::<DhcpSettings>(db, vcn, id).await,
        Group::KIND => part::<Group>(db, vcn, id).await,
        Gateway::KIND => part::<Gateway>(db, vcn, id).await,
        kind => Err(ApiError::related_resource_not_found(kind, id)),
    }
}

async fn part<C: Content>(db: &Db, vcn: &VcnRecord, id: &Ocid) -> Result<Batch, ApiError> {
    let part = db.get::<PartRecord<C>>(id.as_str()).await?;
    match part.filter(|part| part.resource.vcn_id == vcn.resource.id) {
        Some(part) => Ok(Batch::new().require(&part)),
        None => Err(ApiError::related_resource_not_found(C::NAME, id)),
    }
}

/// `batch`, refused if something uses what has this id.
pub(super) fn refuse_users(batch: Batch, id: &Ocid) -> Batch {
    batch.require_none::<Claim>(id.as_str())
}

/// Whether a batch failed because something is used.
pub(super) fn is_use(error: &Error) -> bool {
    matches!(&error.kind, ErrorKind::Conflict { kind, .. } if kind == CLAIM)
}

/// Why something cannot be deleted: in OCI's words, if it is because it is used.
pub(super) async fn explain(db: &Db, error: Error, kind: &str, id: &Ocid) -> ApiError {
    if !is_use(&error) {
        return error.into();
    }
    let query = Query::new().parent(id.as_str()).limit(1);
    let owner = match db.list::<Claim>(query).await {
        Ok(page) => page.items.into_iter().next().map(|claim| claim.value.owner),
        Err(error) => return error.into(),
    };
    referenced(kind, id, owner.as_deref().unwrap_or("of a request that was faster"))
}

/// What is deleted must not be referenced.
pub(super) fn referenced(kind: &str, id: &Ocid, by: &str) -> ApiError {
    let of = match by.split('.').nth(1) {
        Some("vnic") => "VNIC",
        Some("subnet") => "Subnet",
        Some(Routes::KIND) => Routes::NAME,
        Some(SecurityRules::KIND) => SecurityRules::NAME,
        Some(DhcpSettings::KIND) => DhcpSettings::NAME,
        Some(Group::KIND) => Group::NAME,
        Some(Gateway::KIND) => Gateway::NAME,
        _ => "resource",
    };
    ApiError::conflict(format!(
        "The {kind} {id} references the {of} {by}. You must remove the reference to proceed with this operation."
    ))
}
