//! The OCI API as types: what travels on the wire, and nothing that happens because of it.
//!
//! * [`images`], [`instances`], … hold the wire types, one file per resource. Requests refuse what they do not
//!   know; responses write `null` for what is absent, and read back equal to what was written, so that they can be
//!   stored.
//! * [`body`] reads a request's JSON and names the field that is wrong.
//! * [`error`] is the only table of error codes and statuses.
//! * [`ocid`] is the only place that knows the form of an identifier.
//! * [`object_head`], [`object_list`], [`object_url`], [`range`] and [`upload_parts`] read what requests about objects
//!   say outside of a JSON body.
//! * [`sign`] signs requests and verifies signatures.
//!
//! This crate does no I/O, reads no clock and runs no task: whoever needs the time passes it in.

pub mod app_catalog;
pub mod body;
pub mod boot_volumes;
pub mod buckets;
pub mod capability_schemas;
pub mod console_connections;
pub mod console_histories;
pub mod error;
pub mod identity;
pub mod images;
pub mod instance_actions;
pub mod instances;
pub mod networks;
pub mod object_head;
pub mod object_list;
pub mod object_url;
pub mod objects;
pub mod ocid;
pub mod percent;
pub mod platform_config;
pub mod preauthenticated_requests;
pub mod range;
pub mod shape_compatibility;
pub mod shapes;
pub mod sign;
pub mod sources;
pub mod tag_definitions;
pub mod tags;
pub mod text;
pub mod time;
pub mod upload_parts;
pub mod vcn_parts;
pub mod wire_enum;
pub mod work_requests;

pub use error::{ApiError, ErrorCode};
pub use ocid::Ocid;
pub use time::Time;
