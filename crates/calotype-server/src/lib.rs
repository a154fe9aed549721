//! The region: HTTP wire, rules, workflows and catalog.
//!
//! * [`operations`] is the table of everything that can be asked for; [`http`] brings requests to it,
//!   [`app`] decides them.
//! * [`jobs`] carries out what takes long; [`guests`] holds the machines that run.
//! * [`console`] lets people at the guests' consoles, over SSH.
//! * [`db`] is the catalog; only it contains SQL.

pub mod app;
mod authorise;
pub mod config;
pub mod console;
pub mod db;
mod dispatch;
pub mod error;
mod files;
pub mod foreign;
pub mod guests;
pub mod http;
pub mod init;
pub mod jobs;
pub mod operations;
pub mod records;
mod recovery;
pub mod region;
pub mod retention;
mod scrubbing;
mod server;
mod volumes;

pub use error::{Error, Result};
pub use files::write_durably;
pub use server::Server;
