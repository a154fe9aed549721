//! What lies in a compartment, of whatever kind.

use std::fmt::Write as _;

use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::error::Error;

/// What counts as lying in a compartment: everything but these.
#[derive(Debug, Clone, Copy)]
pub struct Contents {
    /// States of what is gone and only still shown.
    pub but_states: &'static [&'static str],
    /// Kinds that only tell what was.
    pub but_kinds: &'static [&'static str],
}

impl Contents {
    /// Kind and id of something that lies in the compartment.
    pub(super) async fn first(
        self,
        connection: &mut AnyConnection,
        compartment: &str,
    ) -> Result<Option<(String, String)>, Error> {
        // Safe: the text is put together from constants only, values are arguments.
        let mut query = sqlx::query(AssertSqlSafe(self.statement())).bind(compartment);
        for word in self.but_states.iter().chain(self.but_kinds) {
            query = query.bind(*word);
        }
        let found = query.fetch_optional(connection).await?;
        Ok(found
            .map(|row| Ok::<_, sqlx::Error>((row.try_get("kind")?, row.try_get("id")?)))
            .transpose()?)
    }

    /// The compartment is the first argument, then come the states and the kinds.
    pub(super) fn statement(&self) -> String {
        let mut sql = "SELECT kind, id FROM document WHERE compartment_id = $1".to_owned();
        for number in 2..2 + self.but_states.len() {
            // Writing to a string does not fail.
            let _ = write!(sql, " AND state <> ${number}");
        }
        for number in 2 + self.but_states.len()..2 + self.but_states.len() + self.but_kinds.len() {
            let _ = write!(sql, " AND kind <> ${number}");
        }
        sql + " LIMIT 1"
    }
}
