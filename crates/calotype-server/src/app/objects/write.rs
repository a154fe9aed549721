//! Writing objects into the catalog: what is there is replaced if the conditions allow it, whoever else writes.

use calotype_api::error::ApiError;
use calotype_api::sign::http_date;
use http::StatusCode;
use jiff::Timestamp;

use super::record::{self, NewObject, ObjectRecord, object_id};
use crate::app::{buckets, preauthenticated_requests};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::region::Region;

/// How often a write is tried that others come before. The last to write wins, so trying again is right.
const ATTEMPTS_MAX: usize = 16;

/// What must hold of the object that is there, for it to be replaced.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// Etag of the object that must be there.
    pub if_match: Option<String>,
    /// `*`: no object may be there.
    pub if_none_match: Option<String>,
    /// The secret of the pre-authenticated request by which it is written, which must still be good then.
    pub token: Option<String>,
}

impl Conditions {
    /// Those of a request's head.
    pub fn of(request: &Request) -> Result<Self, ApiError> {
        let if_none_match = request.header("if-none-match")?;
        let token = request.token().map(ToOwned::to_owned);
        Ok(Self { if_match: request.if_match.clone(), if_none_match, token })
    }

    /// `batch`, which fails if who writes it is no longer permitted to: a body may take longer than a URL is good for.
    pub async fn still_permitted(&self, region: &Region, batch: Batch) -> Result<Batch, ApiError> {
        let Some(token) = &self.token else { return Ok(batch) };
        let request = preauthenticated_requests::found(region, token, Timestamp::now()).await?;
        Ok(batch.require(&request))
    }

    /// Refuses to replace an object of this etag; none is no object.
    pub fn check(&self, etag: Option<&str>) -> Result<(), ApiError> {
        let is = |wanted: &str| {
            etag.is_some_and(|etag| wanted == "*" || wanted.trim_matches('"') == etag)
        };
        if self.if_match.as_deref().is_some_and(|wanted| !is(wanted)) {
            return Err(ApiError::if_match_failed());
        }
        if self.if_none_match.as_deref().is_some_and(is) {
            return Err(ApiError::if_none_match_failed());
        }
        Ok(())
    }
}

/// What is there now of that name.
pub async fn existing(
    region: &Region,
    bucket: &str,
    name: &str,
) -> Result<Option<Versioned<ObjectRecord>>, ApiError> {
    Ok(region.db.get(&object_id(bucket, name)).await?)
}

/// Writes the object, and with it what `also` adds to the batch; answers it as it is then.
///
/// The caller keeps its disks from being collected until this returns.
pub async fn write(
    region: &Region,
    new: &NewObject,
    conditions: &Conditions,
    now: Timestamp,
    also: impl Fn() -> Batch,
) -> Result<Versioned<ObjectRecord>, ApiError> {
    for _ in 0..ATTEMPTS_MAX {
        let (written, batch) = prepare(region, new, conditions, now).await?;
        match region.db.apply(batch.and(also())).await {
            Ok(()) => return Ok(written),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended())
}

/// Everything that writing the object writes, for whoever writes it together with more. The batch meets a
/// conflict if somebody else comes first.
pub async fn prepare(
    region: &Region,
    new: &NewObject,
    conditions: &Conditions,
    now: Timestamp,
) -> Result<(Versioned<ObjectRecord>, Batch), ApiError> {
    let bucket = buckets::find(region, &buckets::namespace(region), &new.bucket).await?;
    let (record, content) = new.records(now);
    // As long as the bucket is there, and not only was.
    let mut batch = conditions.still_permitted(region, Batch::new().require(&bucket)).await?;
    if let Some(content) = &content {
        batch = batch.insert(content);
    }
    let existing = existing(region, &new.bucket, &new.name).await?;
    conditions.check(existing.as_ref().map(Versioned::etag).as_deref())?;
    put_in_place(region, existing, record, batch).await
}

/// Deletes an object if it has the etag that is wanted.
pub async fn delete(
    region: &Region,
    bucket: &str,
    name: &str,
    if_match: Option<&str>,
) -> Result<(), ApiError> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(object) = existing(region, bucket, name).await? else {
            return Err(ApiError::object_not_found(name, bucket));
        };
        let conditions = Conditions { if_match: if_match.map(Into::into), ..Conditions::default() };
        conditions.check(Some(&object.etag()))?;
        let batch = object.drop_content(&region.db, Batch::new().delete(&object)).await?;
        match region.db.apply(batch).await {
            Ok(()) => {
                region.litter.note();
                return Ok(());
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended())
}

/// The object that is to be renamed.
pub struct From {
    /// Its name until now.
    pub name: String,
    /// What must hold of it.
    pub conditions: Conditions,
}

/// Gives an object another name, whose object it replaces if `conditions` allow it.
pub async fn rename(
    region: &Region,
    bucket: &str,
    from: &From,
    to: &str,
    conditions: &Conditions,
) -> Result<Versioned<ObjectRecord>, ApiError> {
    let not_found = || ApiError::object_not_found(&from.name, bucket);
    for _ in 0..ATTEMPTS_MAX {
        let source = existing(region, bucket, &from.name).await?.ok_or_else(not_found)?;
        from.conditions.check(Some(&source.etag()))?;
        let segments = source.segments(&region.db).await?.ok_or_else(not_found)?;
        let kept = record::keep(&region.store, &segments).ok_or_else(not_found)?;
        let target = existing(region, bucket, to).await?;
        conditions.check(target.as_ref().map(Versioned::etag).as_deref())?;
        let record = source.renamed(to, Timestamp::now());
        let batch = Batch::new().delete(&source);
        let (renamed, batch) = put_in_place(region, target, record, batch).await?;
        let applied = region.db.apply(batch).await;
        drop(kept);
        match applied {
            Ok(()) => return Ok(renamed),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended())
}

/// Adds to `batch` that `record` comes in place of what is there; answers it as it is then.
async fn put_in_place(
    region: &Region,
    existing: Option<Versioned<ObjectRecord>>,
    record: ObjectRecord,
    batch: Batch,
) -> Result<(Versioned<ObjectRecord>, Batch), ApiError> {
    let Some(existing) = existing else {
        let written = Versioned::first(record);
        let batch = batch.create(&written);
        return Ok((written, batch));
    };
    region.litter.note();
    let batch = existing.drop_content(&region.db, batch).await?;
    let mut written = Versioned { value: record, version: existing.version };
    let batch = batch.replace(&written);
    written.version = written.version.wrapping_add(1);
    Ok((written, batch))
}

/// That others were faster each time.
pub fn contended() -> ApiError {
    ApiError::conflict("The object is being written by others, try again later")
}

/// The answer to a request that wrote an object.
pub fn written(object: &Versioned<ObjectRecord>) -> Reply {
    let time = object.time_created.as_second();
    Reply::no_content()
        .status(StatusCode::OK)
        .etag(object.etag())
        .header("last-modified", http_date(time))
}
