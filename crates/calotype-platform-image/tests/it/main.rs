//! Builds disks from real packages and boots them.

mod guest;
mod tiny;
