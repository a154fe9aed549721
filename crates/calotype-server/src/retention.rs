//! What is forgotten, and when: answers to repeated requests, work requests that are over, pre-authenticated
//! requests that have expired; and the space of objects that were deleted.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use calotype_api::boot_volumes::BootVolumeState;
use calotype_api::console_connections::ConsoleConnectionState;
use calotype_api::instances::InstanceState;
use calotype_api::networks::VnicState;
use calotype_api::work_requests::WorkRequestStatus;
use jiff::{SignedDuration, Timestamp};

use crate::app::console_connections::ConsoleConnectionRecord;
use crate::app::images::agenda;
use crate::app::network::VnicRecord;
use crate::app::objects::CopyRecord;
use crate::app::preauthenticated_requests::PreauthenticatedRecord;
use crate::app::retry_tokens::{LIFETIME, RetryRecord};
use crate::db::{Batch, Db, Document, Error, Query};
use crate::jobs::{WorkRequestRecord, collect};
use crate::records::{
    BootVolumeRecord, ConsoleContentRecord, ConsoleHistoryRecord, InstanceRecord,
};
use crate::region::Region;

/// How often it is looked for what is to be done with images, of which the due ones are found at once.
const AGENDA_INTERVAL: Duration = Duration::from_mins(1);
/// How often it is looked for what can be forgotten: so many times that.
const FORGET_EVERY: u64 = 60;
/// How long a finished work request is kept, for whoever asks what happened.
const WORK_REQUESTS_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long a pre-authenticated request is listed after it has expired.
const PREAUTHENTICATED_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How long a deleted console connection is answered.
const DELETED_CONNECTIONS_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How long an instance or a boot volume is answered that was terminated.
const TERMINATED_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Documents looked at together.
const SWEPT_AT_ONCE: usize = 256;

/// Whether something was deleted, or half stored, of which the space was not given back at once: to look through the whole store
/// for every object that is deleted would cost more than it gives.
#[derive(Debug)]
pub struct Litter(AtomicBool);

impl Default for Litter {
    /// Nobody knows what was there before the region was opened.
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Litter {
    /// Something was.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Forgets from time to time, as long as the region is there.
pub(crate) async fn run(region: Weak<Region>) {
    let mut interval = tokio::time::interval(AGENDA_INTERVAL);
    for tick in 0_u64.. {
        interval.tick().await;
        let Some(region) = region.upgrade() else { return };
        match agenda::run(&region.db, Timestamp::now()).await {
            Ok(false) => {}
            Ok(true) => collect::now(&region).await,
            Err(error) => tracing::error!(%error, "cannot do what is due with images"),
        }
        if !tick.is_multiple_of(FORGET_EVERY) {
            continue;
        }
        if let Err(error) = forget(&region.db, Timestamp::now()).await {
            tracing::error!(%error, "cannot forget what is over");
        }
        if region.litter.take() {
            collect::now(&region).await;
        }
    }
}

/// Deletes every document whose time is over at `now`.
///
/// # Errors
/// The catalog's. What is left is deleted the next time.
pub async fn forget(db: &Db, now: Timestamp) -> Result<(), Error> {
    let old = |since: Timestamp, kept| now.duration_since(since) > kept;
    sweep::<RetryRecord>(db, Query::new(), |token| old(token.time_created(), LIFETIME)).await?;
    sweep::<PreauthenticatedRecord>(db, Query::new(), |request| {
        old(request.time_expires, PREAUTHENTICATED_KEPT)
    })
    .await?;
    sweep::<CopyRecord>(db, Query::new(), |copy| old(copy.time_created(), WORK_REQUESTS_KEPT))
        .await?;
    let deleted = Query::new().state(ConsoleConnectionState::Deleted.as_str());
    sweep::<ConsoleConnectionRecord>(db, deleted, |connection| {
        connection.time_deleted.is_some_and(|time| old(time, DELETED_CONNECTIONS_KEPT))
    })
    .await?;
    let terminated = Query::new().state(BootVolumeState::Terminated.as_str());
    sweep::<BootVolumeRecord>(db, terminated, |volume| {
        volume.time_terminated.is_none_or(|time| old(time, TERMINATED_KEPT))
    })
    .await?;
    let released = Query::new().state(VnicState::Terminated.as_str());
    sweep::<VnicRecord>(db, released, |vnic| {
        vnic.time_released.is_none_or(|time| old(time, TERMINATED_KEPT))
    })
    .await?;
    forget_instances(db, |instance| {
        instance.time_terminated.is_none_or(|time| old(time, TERMINATED_KEPT))
    })
    .await?;
    let over = Query::new()
        .state(WorkRequestStatus::Succeeded.as_str())
        .state(WorkRequestStatus::Failed.as_str());
    sweep::<WorkRequestRecord>(db, over, |request| {
        let finished = request.resource.time_finished;
        finished.is_some_and(|time| old(time.timestamp(), WORK_REQUESTS_KEPT))
    })
    .await
}

/// Forgets terminated instances with what was theirs alone: console histories.
async fn forget_instances(db: &Db, is_over: impl Fn(&InstanceRecord) -> bool) -> Result<(), Error> {
    let query = Query::new().state(InstanceState::Terminated.as_str()).limit(SWEPT_AT_ONCE);
    let mut after = None;
    loop {
        let page = db.list::<InstanceRecord>(query.clone().after(after)).await?;
        for instance in page.items.iter().filter(|instance| is_over(&instance.value)) {
            let mut batch = Batch::new().delete(instance);
            let histories = Query::new().parent(instance.resource.id.as_str());
            for history in db.list_all::<ConsoleHistoryRecord>(histories).await? {
                let content = db.get::<ConsoleContentRecord>(history.resource.id.as_str()).await?;
                batch = content.iter().fold(batch.delete(&history), Batch::delete);
            }
            unless_changed(db.apply(batch).await)?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn sweep<T: Document>(
    db: &Db,
    query: Query,
    is_over: impl Fn(&T) -> bool,
) -> Result<(), Error> {
    let query = query.limit(SWEPT_AT_ONCE);
    let mut after = None;
    loop {
        let page = db.list::<T>(query.clone().after(after)).await?;
        for document in page.items.iter().filter(|document| is_over(&document.value)) {
            unless_changed(db.apply(Batch::new().delete(document)).await)?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// What was changed meanwhile is looked at again next time.
fn unless_changed(applied: Result<(), Error>) -> Result<(), Error> {
    match applied {
        Err(error) if !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn forgets_answers_after_a_day_and_no_sooner() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&directory.path().join("catalog")).await.unwrap();
        let created = Timestamp::UNIX_EPOCH;
        let record = RetryRecord::for_test("user/LaunchInstance/a", created);
        db.apply(Batch::new().insert(&record)).await.unwrap();
        forget(&db, created + LIFETIME).await.unwrap();
        assert!(db.get::<RetryRecord>(&record.id()).await.unwrap().is_some());
        forget(&db, created + LIFETIME + SignedDuration::from_secs(1)).await.unwrap();
        assert!(db.get::<RetryRecord>(&record.id()).await.unwrap().is_none());
    }
}
