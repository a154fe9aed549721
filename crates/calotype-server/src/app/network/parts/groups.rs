//! Network security groups: which VNICs are in them. They have no rules here: see `docs/networks.md`.

use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::vcn_parts::{CreateNetworkSecurityGroupDetails, Group, NetworkSecurityGroupVnic};

use super::{Content, PartRecord, list_parts, of_request};
use crate::app::claims::Claim;
use crate::app::network::VnicRecord;
use crate::app::{Context, page_limit, refuse_queries, sort};
use crate::db::{PageToken, Query};
use crate::http::{Reply, Request};

impl Content for Group {
    const KIND: &'static str = "networksecuritygroup";
    const NAME: &'static str = "Network Security Group";
    const PARAMETER: &'static str = "networkSecurityGroupId";
    type Create = CreateNetworkSecurityGroupDetails;
}

/// `ListNetworkSecurityGroups`: those of a compartment, of a VCN, or of both.
pub async fn list_network_security_groups(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    refuse_queries(&request, &["vlanId"])?;
    if request.query.contains_key("compartmentId") {
        return list_parts::<Group>(context, request).await;
    }
    let vcn = request.query::<Ocid>("vcnId")?;
    let vcn = vcn.ok_or_else(|| ApiError::missing_parameter("compartmentId or vcnId"))?;
    let mut query = Query::new().parent(vcn.as_str());
    if let Some(state) = request.query::<String>("lifecycleState")? {
        query = query.state(state);
    }
    let shown = |group: &PartRecord<Group>| Some(group.resource.clone());
    crate::app::list_by(&context, &request, query, shown).await
}

/// `ListNetworkSecurityGroupVnics`: who has claimed to be in it.
pub async fn list_network_security_group_vnics(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    let group = of_request::<Group>(&context, &request).await?;
    let db = &context.region.db;
    let after = request.query::<String>("page")?;
    let after = after.map(|token| PageToken::parse(&token)).transpose()?;
    let query = Query::new().parent(group.resource.id.as_str()).sort(sort(&request)?);
    let page = db.list::<Claim>(query.limit(page_limit(&request)?).after(after)).await?;
    let mut members = Vec::new();
    for claim in &page.items {
        let Some(vnic) = db.get::<VnicRecord>(&claim.owner).await? else { continue };
        members.push(NetworkSecurityGroupVnic {
            resource_id: Some(vnic.instance_id.clone()),
            time_associated: Some(claim.time_created.into()),
            vnic_id: vnic.resource.id.clone(),
        });
    }
    Ok(Reply::ok(&members)?.maybe_next_page(page.next.map(|token| token.to_string())))
}
