//! Internet gateways: the only way out of a VCN that there is here.

use calotype_api::error::ApiError;
use calotype_api::vcn_parts::{
    CreateInternetGatewayDetails, Gateway, UpdateInternetGatewayDetails,
};

use super::{Changeable, Content};
use crate::app::refuse_given;

impl Content for Gateway {
    const KIND: &'static str = "internetgateway";
    const NAME: &'static str = "Internet Gateway";
    const PARAMETER: &'static str = "igId";
    const ROUTES: bool = true;
    type Create = CreateInternetGatewayDetails;

    fn complete(&mut self) -> Result<(), ApiError> {
        // Packets come in by published ports only, which no table routes.
        refuse_given(&[("routeTableId", self.route_table_id.is_some())])
    }
}

impl Changeable for Gateway {
    type Update = UpdateInternetGatewayDetails;
}
