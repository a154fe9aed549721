//! Who has a remote store open.
//!
//! A mark in the store names its owner. It is written when the store is opened and removed when it is closed, and
//! looked at before anything is published or deleted: whoever finds another's mark stops. That
//! *detects* a second process; it keeps none out. Between a look and what follows it, and as long as a look
//! is believed, another can become the owner: whoever takes a store over must know that
//! the other process has ended.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{ABORT_WAIT_MAX, OWNER_CHECK_INTERVAL};

/// Somebody who has a remote store open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Of the state directory, of which only one process has one open: whoever has it may go on where a
    /// process before it died.
    pub state: Uuid,
    /// Of this opening.
    pub session: Uuid,
    /// Name of the machine.
    pub host: String,
    /// When it was opened.
    pub since: Timestamp,
}

impl Owner {
    /// This process now, with the state directory of that name.
    pub fn here(state: Uuid) -> Self {
        let uname = rustix::system::uname();
        Self {
            state,
            session: Uuid::new_v4(),
            host: uname.nodename().to_string_lossy().into_owned(),
            since: Timestamp::now(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} since {:.0}", self.host, self.since)
    }
}

/// A store that is ours, as far as is known.
pub(super) struct Ownership {
    path: Path,
    mark: Vec<u8>,
    looked_at: Mutex<Instant>,
    /// For good: what another did meanwhile is not known here.
    lost: AtomicBool,
}

impl Ownership {
    pub(super) fn claim(place: &Place, owner: &Owner, take_over: bool) -> Result<Self> {
        let path = place.path("owner");
        if let Some(mark) = place.read_mark(&path)? {
            let other = parse(&mark);
            let before = other.as_ref().is_some_and(|other| other.state == owner.state);
            if !before && !take_over {
                return Err(in_use(place, other.as_ref()));
            }
            if !before {
                let other = other.map_or_else(|| "somebody".to_owned(), |other| other.to_string());
                tracing::warn!(place = place.failures.place(), %other, "taking a store over");
            }
        }
        let mark = toml::to_string(owner)
            .map_err(|error| Error::new(ErrorKind::Io, "writing who we are").with_source(error))?
            .into_bytes();
        place.write_mark(&path, mark.clone())?;
        let looked_at = Mutex::new(Instant::now());
        let ownership = Self { path, mark, looked_at, lost: AtomicBool::new(false) };
        // Two that open it at once both see nothing before, and one of them sees the other now.
        ownership.check(place, true)?;
        Ok(ownership)
    }

    /// Whether it is still ours: looked at now if `for_certain`, else if the last look is old.
    pub(super) fn check(&self, place: &Place, for_certain: bool) -> Result<()> {
        if !self.lost.load(Ordering::Relaxed) {
            let looked_at = *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
            if !for_certain && looked_at.elapsed() < OWNER_CHECK_INTERVAL {
                return Ok(());
            }
            let now = Instant::now();
            let mark = place.read_mark(&self.path)?;
            if mark.as_ref() == Some(&self.mark) {
                *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = now;
                return Ok(());
            }
            self.lost.store(true, Ordering::Relaxed);
            return Err(lost(place, mark.as_deref().and_then(parse).as_ref()));
        }
        Err(lost(place, None))
    }

    /// Removes the mark if it is ours.
    pub(super) fn release(&self, place: &Place) {
        let (objects, path) = (place.objects.clone(), self.path.clone());
        let mark = self.mark.clone();
        let releasing = async move {
            if objects.get(&path).await?.bytes().await? == mark {
                objects.delete(&path).await?;
            }
            Ok::<_, object_store::Error>(())
        };
        let released = place.wait(async { tokio::time::timeout(ABORT_WAIT_MAX, releasing).await });
        if !matches!(released, Ok(Ok(Ok(())))) {
            // The same state directory opens it again; another must take it over.
            tracing::warn!(place = place.failures.place(), "the store is still marked as open");
        }
    }
}

fn parse(mark: &[u8]) -> Option<Owner> {
    toml::from_str(str::from_utf8(mark).ok()?).ok()
}

fn in_use(place: &Place, other: Option<&Owner>) -> Error {
    let other = other.map_or_else(|| "somebody".to_owned(), |other| format!("host {other}"));
    Error::new(
        ErrorKind::Locked,
        format!(
            "{} is open on {other}: if that process has ended for good, take the store over \
             (calotype serve --take-over)",
            place.failures.place()
        ),
    )
}

fn lost(place: &Place, other: Option<&Owner>) -> Error {
    let other =
        other.map_or_else(|| "by another process".to_owned(), |other| format!("on host {other}"));
    Error::new(
        ErrorKind::Locked,
        format!(
            "{} was taken over {other}: this process does not change it any more, end one of the two \
             and start the other anew",
            place.failures.place()
        ),
    )
}
