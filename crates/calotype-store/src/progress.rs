//! How a long action tells where it is, and learns that it is no longer wanted.

/// Told about a commit while it runs.
pub trait Progress: Sync {
    /// `done_bytes` of the `total_bytes` that must be read are done. Never goes back, and ends
    /// with both equal. What need not be read (holes, what the base has) does not count.
    fn advance(&self, done_bytes: u64, total_bytes: u64);

    /// Asked about once per MiB; after `true` the action ends with
    /// [`crate::ErrorKind::Cancelled`] and leaves nothing behind.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Progress for () {
    fn advance(&self, _done_bytes: u64, _total_bytes: u64) {}
}
