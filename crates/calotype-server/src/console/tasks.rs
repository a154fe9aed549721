//! What is done for a client beside the conversation with it.

use tokio::task::JoinSet;

/// Tasks that end with their owner, wherever they wait.
#[derive(Default)]
pub(super) struct Tasks(JoinSet<()>);

impl Tasks {
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        // Those that are over need not be remembered.
        while self.0.try_join_next().is_some() {}
        self.0.spawn(task);
    }
}
