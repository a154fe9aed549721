//! Route tables. What their rules do is decided in [`outbound`](crate::app::network::outbound).

use std::collections::BTreeSet;

use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::vcn_parts::{
    AddressType, CreateRouteTableDetails, Gateway, RouteRule, RouteType, Routes,
    UpdateRouteTableDetails,
};

use super::security::{check_description, check_destination};
use super::{Changeable, Content};
use crate::app::network::uses;

/// Rules of a table.
const RULES_MAX: usize = 200;

impl Content for Routes {
    const KIND: &'static str = "routetable";
    const NAME: &'static str = "Route Table";
    const PARAMETER: &'static str = "rtId";
    const ROUTES: bool = true;
    type Create = CreateRouteTableDetails;

    fn complete(&mut self) -> Result<(), ApiError> {
        if self.route_rules.len() > RULES_MAX {
            let limit = format!("can be at most {RULES_MAX}");
            return Err(ApiError::invalid_parameter("routeRules", limit));
        }
        let mut seen = BTreeSet::new();
        for (number, rule) in self.route_rules.iter_mut().enumerate() {
            let field = format!("routeRules[{number}]");
            complete(&field, rule)?;
            if let Some(destination) = &rule.destination
                && !seen.insert(destination.clone())
            {
                let twice = format!("{destination} is the destination of another rule");
                return Err(ApiError::invalid_parameter(&format!("{field}.destination"), twice));
            }
        }
        Ok(())
    }

    fn gateways(&self) -> Vec<Ocid> {
        let ids: BTreeSet<_> =
            self.route_rules.iter().map(|rule| &rule.network_entity_id).collect();
        ids.into_iter().cloned().collect()
    }
}

impl Changeable for Routes {
    type Update = UpdateRouteTableDetails;
}

fn complete(field: &str, rule: &mut RouteRule) -> Result<(), ApiError> {
    let kind = *rule.destination_type.get_or_insert(AddressType::CidrBlock);
    rule.route_type.get_or_insert(RouteType::Static);
    if rule.route_type == Some(RouteType::Local) {
        let local = "cannot be LOCAL: routes inside the VCN are there of themselves";
        return Err(ApiError::invalid_parameter(&format!("{field}.routeType"), local));
    }
    let destination = match (&rule.destination, &rule.cidr_block) {
        (Some(one), Some(other)) if one != other => {
            let both = format!("{one} is not {other}, the cidrBlock of the same rule");
            return Err(ApiError::invalid_parameter(&format!("{field}.destination"), both));
        }
        (Some(one), _) | (None, Some(one)) => one.clone(),
        (None, None) => return Err(ApiError::missing_parameter(&format!("{field}.destination"))),
    };
    check_destination(&format!("{field}.destination"), kind, &destination)?;
    uses::must_be::<Gateway>(&rule.network_entity_id)?;
    check_description(field, rule.description.as_deref())?;
    rule.destination = Some(destination);
    Ok(())
}
