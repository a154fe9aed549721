//! The engine on toy workflows.

mod engine;
mod toy;
