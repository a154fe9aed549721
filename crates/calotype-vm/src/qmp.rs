//! QEMU's control protocol: commands, answers and events, one JSON value per line.

/// Something that QEMU reports by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `SHUTDOWN`, `POWERDOWN`, `RESET`, `STOP`, `RESUME`, `BLOCK_IO_ERROR`, ….
    pub name: String,
    /// What comes with it.
    pub data: serde_json::Value,
}
