//! A batch is written whole or not at all, and only if every precondition in it holds.

use std::collections::BTreeSet;

use sqlx::AnyConnection;

use super::contents::Contents;
use super::document::{Document, Versioned, first_version};
use super::error::{Error, ErrorKind};

const INSERT: &str = "INSERT INTO document (kind, id, parent_id, compartment_id, state, name, \
     time_created_us, version, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
     ON CONFLICT (kind, id) DO NOTHING";
const REPLACE: &str = "UPDATE document SET parent_id = $1, compartment_id = $2, state = $3, \
     name = $4, time_created_us = $5, version = version + 1, body = $6 \
     WHERE kind = $7 AND id = $8 AND version = $9";
const DELETE: &str = "DELETE FROM document WHERE kind = $1 AND id = $2 AND version = $3";
// A write, not a read: on an engine that checks versions at commit it also takes the row's lock.
const REQUIRE: &str =
    "UPDATE document SET version = version WHERE kind = $1 AND id = $2 AND version = $3";
const REQUIRE_STATE: &str =
    "UPDATE document SET version = version WHERE kind = $1 AND id = $2 AND state = $3";
const CHILD: &str = "SELECT id FROM document WHERE kind = $1 AND parent_id = $2 LIMIT 1";

/// Every statement a batch can run, for the test that prepares them all.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 6] = [INSERT, REPLACE, DELETE, REQUIRE, REQUIRE_STATE, CHILD];

/// A list of writes for [`Db::apply`](super::Db::apply), in order.
#[derive(Debug, Default)]
#[must_use = "a batch does nothing until it is applied"]
pub struct Batch {
    writes: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    kind: &'static str,
    id: String,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Insert(Row, i64),
    Replace(Row, i64),
    Delete(i64),
    Require(i64),
    RequireState(&'static str),
    RequireNone,
    RequireEmpty(Contents),
    /// Found out when the batch was put together, told when it is applied.
    Unwritable(serde_json::Error),
}

#[derive(Debug)]
struct Row {
    parent_id: String,
    compartment_id: String,
    state: String,
    name: String,
    time_created_us: i64,
    body: String,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Kinds and ids of the documents that it makes.
    pub fn made(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let made = self.writes.iter().filter(|write| matches!(write.change, Change::Insert(..)));
        made.map(|write| (write.kind, write.id.as_str()))
    }

    /// The compartments that what it makes or replaces will lie in.
    pub fn compartments(&self) -> BTreeSet<String> {
        let rows = self.writes.iter().filter_map(|write| match &write.change {
            Change::Insert(row, _) | Change::Replace(row, _) => Some(row.compartment_id.clone()),
            _ => None,
        });
        rows.filter(|id| !id.is_empty()).collect()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Writes a new document; a conflict if its id exists.
    pub fn insert<T: Document>(self, document: &T) -> Self {
        self.with(document, |row| {
            let version = first_version(row.body.as_bytes());
            Change::Insert(row, version)
        })
    }

    /// Writes a new document that was made with [`Versioned::first`].
    pub fn create<T: Document>(self, document: &Versioned<T>) -> Self {
        self.with(&document.value, |row| Change::Insert(row, document.version))
    }

    /// Writes `document.value` in place of the version that was read; a conflict if that has been
    /// replaced or deleted meanwhile.
    pub fn replace<T: Document>(self, document: &Versioned<T>) -> Self {
        self.with(&document.value, |row| Change::Replace(row, document.version))
    }

    /// Deletes the version that was read; a conflict if that has been replaced or deleted meanwhile.
    pub fn delete<T: Document>(mut self, document: &Versioned<T>) -> Self {
        self.push::<T>(document.value.id(), Change::Delete(document.version));
        self
    }

    /// Writes nothing, but the batch fails if the version that was read is no longer the current.
    pub fn require<T: Document>(mut self, document: &Versioned<T>) -> Self {
        self.push::<T>(document.value.id(), Change::Require(document.version));
        self
    }

    /// Writes nothing, but the batch fails if there is no `T` of this id in this state.
    pub fn require_state<T: Document>(mut self, id: String, state: &'static str) -> Self {
        self.push::<T>(id, Change::RequireState(state));
        self
    }

    /// Writes nothing, but the batch fails if there is something of `contents` in this compartment.
    pub fn require_empty<T: Document>(mut self, compartment: &T, contents: Contents) -> Self {
        self.push::<T>(compartment.id(), Change::RequireEmpty(contents));
        self
    }

    /// Writes nothing, but the batch fails if there is a `T` that belongs to this parent; the
    /// conflict then names `T` and the parent.
    pub fn require_none<T: Document>(mut self, parent_id: &str) -> Self {
        self.push::<T>(parent_id.to_owned(), Change::RequireNone);
        self
    }

    /// Adds all writes of `other` behind these.
    pub fn and(mut self, other: Self) -> Self {
        self.writes.extend(other.writes);
        self
    }

    fn with<T: Document>(mut self, document: &T, change: impl FnOnce(Row) -> Change) -> Self {
        let change = match Row::of(document) {
            Ok(row) => change(row),
            Err(error) => Change::Unwritable(error),
        };
        self.push::<T>(document.id(), change);
        self
    }

    fn push<T: Document>(&mut self, id: String, change: Change) {
        self.writes.push(Write { kind: T::KIND, id, change });
    }

    /// Runs every write inside the transaction of `connection`, up to the first that fails.
    pub(super) async fn run(self, connection: &mut AnyConnection) -> Result<(), Error> {
        for write in self.writes {
            write.run(connection).await?;
        }
        Ok(())
    }
}

impl Write {
    async fn run(self, connection: &mut AnyConnection) -> Result<(), Error> {
        let Self { kind, id, change } = self;
        let query = match change {
            Change::Insert(row, version) => sqlx::query(INSERT)
                .bind(kind)
                .bind(id.clone())
                .bind(row.parent_id)
                .bind(row.compartment_id)
                .bind(row.state)
                .bind(row.name)
                .bind(row.time_created_us)
                .bind(version)
                .bind(row.body),
            Change::Replace(row, version) => sqlx::query(REPLACE)
                .bind(row.parent_id)
                .bind(row.compartment_id)
                .bind(row.state)
                .bind(row.name)
                .bind(row.time_created_us)
                .bind(row.body)
                .bind(kind)
                .bind(id.clone())
                .bind(version),
            Change::Delete(version) => {
                sqlx::query(DELETE).bind(kind).bind(id.clone()).bind(version)
            }
            Change::Require(version) => {
                sqlx::query(REQUIRE).bind(kind).bind(id.clone()).bind(version)
            }
            Change::RequireState(state) => {
                sqlx::query(REQUIRE_STATE).bind(kind).bind(id.clone()).bind(state)
            }
            Change::RequireEmpty(contents) => {
                return match contents.first(connection, &id).await? {
                    None => Ok(()),
                    Some(_) => Err(ErrorKind::Conflict { kind: kind.to_owned(), id }.into()),
                };
            }
            Change::RequireNone => {
                let child = sqlx::query(CHILD).bind(kind).bind(id.clone());
                return match child.fetch_optional(connection).await? {
                    None => Ok(()),
                    Some(_) => Err(ErrorKind::Conflict { kind: kind.to_owned(), id }.into()),
                };
            }
            Change::Unwritable(error) => {
                return Err(Error {
                    kind: ErrorKind::Unwritable { kind: kind.to_owned(), id },
                    source: Some(Box::new(error)),
                });
            }
        };
        if query.execute(connection).await?.rows_affected() == 1 {
            Ok(())
        } else {
            Err(ErrorKind::Conflict { kind: kind.to_owned(), id }.into())
        }
    }
}

impl Row {
    fn of<T: Document>(document: &T) -> Result<Self, serde_json::Error> {
        Ok(Self {
            parent_id: document.parent_id().unwrap_or_default(),
            compartment_id: document.compartment_id().unwrap_or_default(),
            state: document.state().unwrap_or_default(),
            name: document.name().unwrap_or_default(),
            time_created_us: document.time_created().as_microsecond(),
            body: serde_json::to_string(document)?,
        })
    }
}
