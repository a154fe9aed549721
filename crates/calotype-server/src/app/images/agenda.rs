//! What is to be done with images later: one document each, found by its time.

use calotype_api::error::ApiError;
use calotype_api::images::ImageState;
use calotype_api::ocid::Ocid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::db::{Batch, Db, Document, Error, Query, Sort, SortKey, SortOrder, Versioned};
use crate::records::ImageRecord;

/// Entries that are looked at at once.
const ENTRIES_MAX: usize = 100;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Nothing is launched from the image any more.
    Disable,
    /// The image leaves the bin, and its disk with it.
    Purge,
    /// A deleted image is not answered any more.
    Forget,
}

/// That something is to be done with an image at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgendaRecord {
    image_id: Ocid,
    what: What,
    at: Timestamp,
}

impl Document for AgendaRecord {
    const KIND: &'static str = "image_agenda";

    fn id(&self) -> String {
        id(&self.image_id, self.what)
    }

    /// What it is found by: the time at which it is due.
    fn time_created(&self) -> Timestamp {
        self.at
    }
}

fn id(image: &Ocid, what: What) -> String {
    format!("{image}/{what:?}")
}

/// Adds to `batch` that this is to be done at that time, or not at all, whatever was said before.
pub async fn set(
    db: &Db,
    batch: Batch,
    image: &ImageRecord,
    what: What,
    at: Option<Timestamp>,
) -> Result<Batch, ApiError> {
    let image_id = &image.resource.id;
    let was = db.get::<AgendaRecord>(&id(image_id, what)).await?;
    let is = at.map(|at| AgendaRecord { image_id: image_id.clone(), what, at });
    Ok(match (was, is) {
        (None, None) => batch,
        (Some(was), None) => batch.delete(&was),
        (None, Some(is)) => batch.insert(&is),
        (Some(was), Some(is)) => batch.replace(&Versioned { value: is, ..was }),
    })
}

/// Does what is due at `now`; answers whether there is space to be given back.
pub async fn run(db: &Db, now: Timestamp) -> Result<bool, Error> {
    let mut purged = false;
    let oldest = Sort { key: SortKey::TimeCreated, order: SortOrder::Ascending };
    loop {
        let query = Query::new().sort(oldest).limit(ENTRIES_MAX);
        let due = db.list::<AgendaRecord>(query).await?.items;
        let due: Vec<_> = due.into_iter().take_while(|entry| entry.at <= now).collect();
        let mut done = 0;
        for entry in &due {
            match act(db, entry).await {
                Ok(false) => {}
                Ok(true) => {
                    done += 1;
                    purged |= entry.what == What::Purge;
                }
                // Somebody changed the image meanwhile: it is still on the agenda, or it is not.
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        if due.len() < ENTRIES_MAX || done == 0 {
            return Ok(purged);
        }
    }
}

/// Whether it was done, and not put off.
async fn act(db: &Db, entry: &Versioned<AgendaRecord>) -> Result<bool, Error> {
    let batch = Batch::new().delete(entry);
    let Some(mut image) = db.get::<ImageRecord>(entry.image_id.as_str()).await? else {
        return db.apply(batch).await.map(|()| true);
    };
    let is_deleted = image.resource.lifecycle_state == ImageState::Deleted;
    let batch = match entry.what {
        What::Disable => match image.resource.lifecycle_state {
            ImageState::Available => {
                image.value.resource.lifecycle_state = ImageState::Disabled;
                batch.replace(&image)
            }
            // Until it is: it is looked at again.
            ImageState::Provisioning | ImageState::Importing | ImageState::Exporting => {
                return Ok(false);
            }
            ImageState::Disabled | ImageState::Deleted => batch,
        },
        What::Purge => {
            image.value.lifecycle.time_purged = None;
            batch.replace(&image)
        }
        What::Forget if is_deleted => batch.delete(&image),
        What::Forget => batch,
    };
    db.apply(batch).await.map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_due_is_done_once_and_nothing_sooner() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&directory.path().join("catalog")).await.unwrap();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let image_id: Ocid = "ocid1.image.oc1..aaaa".parse().unwrap();
        let entry = |what, at| AgendaRecord { image_id: image_id.clone(), what, at };
        let purge = entry(What::Purge, at(10));
        let batch = Batch::new().insert(&purge).insert(&entry(What::Forget, at(20)));
        db.apply(batch).await.unwrap();
        assert!(!run(&db, at(9)).await.unwrap());
        assert!(run(&db, at(10)).await.unwrap());
        assert!(!run(&db, at(15)).await.unwrap());
        let left = db.list_all::<AgendaRecord>(Query::new()).await.unwrap();
        assert_eq!(left.iter().map(|entry| entry.what).collect::<Vec<_>>(), [What::Forget]);
        run(&db, at(20)).await.unwrap();
        assert!(db.list_all::<AgendaRecord>(Query::new()).await.unwrap().is_empty());
    }
}
