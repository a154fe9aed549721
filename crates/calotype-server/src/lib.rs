//! The region: HTTP wire, rules, workflows and catalog.
pub mod db;
pub mod jobs;
