//! Identity.
use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use jiff::Timestamp;

use super::Context;
use crate::config::Config;
use crate::db::Batch;
use crate::http::{Reply, Request};

pub async fn compartment_exists(_: &Context, _: &Ocid) -> Result<(), ApiError> { Ok(()) }
pub async fn availability_domain_exists(_: &Context, _: &str) -> Result<(), ApiError> { Ok(()) }
pub fn fault_domain(_: Option<&str>) -> Result<String, ApiError> { Ok("FAULT-DOMAIN-1".into()) }
pub fn root_documents(_: &Config, _: &Ocid, _: Timestamp) -> Batch { Batch::new() }
pub async fn create_compartment(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn get_compartment(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn get_tenancy(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn list_availability_domains(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn list_compartments(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn list_fault_domains(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn list_region_subscriptions(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn list_regions(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
