//! The rules of the region, one file per resource.
//!
//! Handlers take a [`Context`] and a [`Request`] whose parameters were checked against the
//! operation's row and whose caller was authenticated and authorised; they decide, write the
//! catalog in one atomic batch, and answer. A long action is submitted as a workflow in that same
//! batch, so that what was acknowledged is durable.

use std::sync::Arc;

use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::text::Text;
use jiff::Timestamp;
use serde::Serialize;

use crate::db::{
    Batch, Document, PAGE_DOCUMENTS_MAX, PageToken, Query, Sort, SortKey, SortOrder, Versioned,
};
use crate::http::{Principal, Reply, Request};
use crate::jobs::{Seed, Seeded, WorkRequestRecord};
use crate::region::Region;

pub mod app_catalog;
pub mod boot_volumes;
pub mod buckets;
pub mod capabilities;
mod claims;
pub mod console_connections;
pub mod console_histories;
pub mod hardware;
pub mod identity;
pub mod images;
pub mod instances;
pub mod metadata;
pub mod multipart;
pub mod network;
pub mod objects;
pub mod platform_images;
pub mod preauthenticated_requests;
pub mod retry_tokens;
pub mod shapes;
pub mod store;
pub mod tags;
pub mod work_requests;

/// Items in a page when the client does not say.
const PAGE_LIMIT_DEFAULT: usize = 100;
/// Most items in a page.
const PAGE_LIMIT_MAX: usize = 1000;
/// Documents that are looked at for one page. If few of them are wanted the page is short, and names the next.
const LOOKED_AT_MAX: usize = 20_000;

/// Who calls, when, and in which region.
#[derive(Clone)]
pub struct Context {
    /// The region.
    pub region: Arc<Region>,
    /// Who calls.
    pub principal: Principal,
    /// When the request came.
    pub now: Timestamp,
    /// Its id, for the log.
    pub request_id: String,
    /// The retry token under which the answer is remembered.
    pub retry: Option<retry_tokens::RetryToken>,
}

impl Context {
    /// Writes `batch` as [`Self::prepare`] makes it.
    pub async fn commit(&self, batch: Batch, reply: Reply) -> Result<Reply, ApiError> {
        self.region.db.apply(self.prepare(batch, &reply)).await?;
        Ok(reply)
    }

    /// `batch` as a request writes it: into ACTIVE compartments only, and with the answer under the request's retry token.
    pub fn prepare(&self, batch: Batch, reply: &Reply) -> Batch {
        let batch = identity::only_into_active(batch);
        match &self.retry {
            Some(token) => {
                let record = token.remember(&batch, reply, self.now);
                batch.insert(&record)
            }
            None => batch,
        }
    }
}

/// The document of that id; who may not see it learns not even that it exists.
pub async fn load<T: Document>(context: &Context, id: &Ocid) -> Result<Versioned<T>, ApiError> {
    let found = context.region.db.get::<T>(id.as_str()).await?;
    found.ok_or_else(ApiError::not_authorized_or_not_found)
}

/// Submits a workflow with the documents it needs, all in one batch, and answers. For operations
/// whose answer names no work request; the job is listed all the same.
pub async fn submit<W: Seeded>(
    context: &Context,
    job: W,
    batch: Batch,
    reply: Reply,
) -> Result<Reply, ApiError> {
    let seed = job.seed(&context.region);
    submit_as(context, job, seed, batch, reply).await
}

/// As [`submit`], for operations whose answer names the work request.
pub async fn submit_visible<W: Seeded>(
    context: &Context,
    job: W,
    batch: Batch,
    reply: Reply,
) -> Result<Reply, ApiError> {
    let seed = job.seed(&context.region);
    let reply = reply.work_request(&seed.id);
    submit_as(context, job, seed, batch, reply).await
}

/// Writes what is done at once, with a work request that says so, for operations whose answer names one.
pub async fn done_visible(
    context: &Context,
    seed: Seed,
    batch: Batch,
    reply: Reply,
) -> Result<Reply, ApiError> {
    let request = WorkRequestRecord::done(seed, context.now);
    let reply = reply.work_request(&request.resource.id);
    context.commit(batch.insert(&request), reply).await
}

async fn submit_as<W: Seeded>(
    context: &Context,
    job: W,
    seed: Seed,
    batch: Batch,
    reply: Reply,
) -> Result<Reply, ApiError> {
    let batch = context.prepare(batch, &reply);
    context.region.jobs.submit(job, seed, batch).await?;
    Ok(reply)
}

/// Writes a changed document and answers with it and its new etag.
pub async fn replace<T: Document>(
    context: &Context,
    document: Versioned<T>,
    answer: impl FnOnce(&T) -> Result<Reply, ApiError>,
) -> Result<Reply, ApiError> {
    let batch = Batch::new().replace(&document);
    let etag = document.next_etag();
    let reply = answer(&document.value)?.etag(etag);
    context.commit(batch, reply).await
}

/// How many items a page has, and in what order.
fn page_limit(request: &Request) -> Result<usize, ApiError> {
    let limit = request.query::<usize>("limit")?.unwrap_or(PAGE_LIMIT_DEFAULT);
    if (1..=PAGE_LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::invalid_parameter("limit", format!("must be between 1 and {PAGE_LIMIT_MAX}")))
}

fn sort(request: &Request) -> Result<Sort, ApiError> {
    let key = match request.query::<String>("sortBy")?.as_deref() {
        Some("DISPLAYNAME" | "NAME") => SortKey::Name,
        _ => SortKey::TimeCreated,
    };
    let order = match (request.query::<String>("sortOrder")?.as_deref(), key) {
        (Some("ASC"), _) | (None, SortKey::Name) => SortOrder::Ascending,
        _ => SortOrder::Descending,
    };
    Ok(Sort { key, order })
}

/// Answers a list: the documents of one compartment that `accept` lets through, as `accept` shows
/// them, filtered, sorted and paged as the request says.
pub async fn list<T: Document, A: Serialize>(
    context: &Context,
    request: &Request,
    compartment: &Ocid,
    accept: impl Fn(&T) -> Option<A>,
) -> Result<Reply, ApiError> {
    list_partitions(context, request, &[compartment.to_string()], accept).await
}

/// As [`list`], over several compartments one after the other.
pub async fn list_partitions<T: Document, A: Serialize>(
    context: &Context,
    request: &Request,
    compartments: &[String],
    accept: impl Fn(&T) -> Option<A>,
) -> Result<Reply, ApiError> {
    let mut query = Query::new();
    if let Some(state) = request.query::<String>("lifecycleState")? {
        query = query.state(state.to_ascii_uppercase());
    }
    let in_each = compartments.iter().map(|compartment| query.clone().compartment(compartment));
    list_queries(context, request, in_each.collect(), accept).await
}

/// As [`list`], of what a query of the caller's finds.
pub async fn list_by<T: Document, A: Serialize>(
    context: &Context,
    request: &Request,
    query: Query,
    accept: impl Fn(&T) -> Option<A>,
) -> Result<Reply, ApiError> {
    list_queries(context, request, vec![query], accept).await
}

async fn list_queries<T: Document, A: Serialize>(
    context: &Context,
    request: &Request,
    queries: Vec<Query>,
    accept: impl Fn(&T) -> Option<A>,
) -> Result<Reply, ApiError> {
    let (limit, sort) = (page_limit(request)?, sort(request)?);
    let name = request.query::<String>("displayName")?;
    let (mut partition, mut after) = position(request)?;
    let (mut items, mut looked_at) = (Vec::new(), 0);
    // What is asked of the catalog at once: as much as the page has; if little of that is wanted, more.
    let mut at_once = limit;
    'full: while let Some(query) = queries.get(partition).filter(|_| looked_at < LOOKED_AT_MAX) {
        let mut query = query.clone().sort(sort);
        if let Some(name) = &name {
            query = query.name(name);
        }
        let page = context.region.db.list::<T>(query.clone().limit(at_once).after(after)).await?;
        looked_at += page.items.len();
        at_once = PAGE_DOCUMENTS_MAX;
        let (last, more) = (page.items.len().saturating_sub(1), page.next.is_some());
        after = page.next;
        for (number, document) in page.items.iter().enumerate() {
            items.extend(accept(&document.value));
            if items.len() == limit && (number < last || more) {
                after = Some(query.token_after(&document.value));
                break 'full;
            }
        }
        if after.is_none() {
            partition += 1;
        }
        if items.len() == limit {
            break;
        }
    }
    let next = (partition < queries.len()).then(|| {
        format!("{partition}.{}", after.map(|token| token.to_string()).unwrap_or_default())
    });
    Ok(Reply::ok(&items)?.maybe_next_page(next))
}

/// Where the page begins: partition and the token in it.
fn position(request: &Request) -> Result<(usize, Option<PageToken>), ApiError> {
    let Some(page) = request.query::<String>("page")? else { return Ok((0, None)) };
    let invalid = || ApiError::invalid_parameter("page", "is not a page of this list");
    let (partition, token) = page.split_once('.').ok_or_else(invalid)?;
    let partition = partition.parse().map_err(|_| invalid())?;
    let token = match token {
        "" => None,
        token => Some(PageToken::parse(token).map_err(|_| invalid())?),
    };
    Ok((partition, token))
}

/// Answers a list that is at hand, page by page.
pub fn page_of<A: Serialize>(request: &Request, items: &[A]) -> Result<Reply, ApiError> {
    let limit = page_limit(request)?;
    let begin = request.query::<usize>("page")?.unwrap_or(0).min(items.len());
    let end = begin.saturating_add(limit).min(items.len());
    let next = (end < items.len()).then(|| end.to_string());
    Ok(Reply::ok(&items[begin..end])?.maybe_next_page(next))
}

/// A text of 1 to 255 characters.
pub fn measured(field: &str, text: String) -> Result<String, ApiError> {
    Text::<1, 255>::try_from(text)
        .map(String::from)
        .map_err(|wrong| ApiError::invalid_parameter(field, wrong))
}

/// Refuses the first of `fields` that was given: saying no is better than ignoring what was asked.
pub fn refuse_given(fields: &[(&str, bool)]) -> Result<(), ApiError> {
    match fields.iter().find(|(_, given)| *given) {
        Some((field, _)) => {
            Err(ApiError::invalid_parameter(field, "is not supported by this region"))
        }
        None => Ok(()),
    }
}

/// Refuses the first of `names` that the query has: a list that leaves a filter out shows too much.
pub fn refuse_queries(request: &Request, names: &[&'static str]) -> Result<(), ApiError> {
    let given: Vec<_> =
        names.iter().map(|name| (*name, request.query.contains_key(name))).collect();
    refuse_given(&given)
}
