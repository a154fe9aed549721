//! Console histories: what an instance's serial console had shown when it was asked.

use calotype_api::console_histories::{
    CaptureConsoleHistoryDetails, ConsoleHistory, ConsoleHistoryState, UpdateConsoleHistoryDetails,
};
use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;
use data_encoding::BASE64;

use super::{Context, identity, instances, tags};
use crate::db::{Batch, Query, Versioned};
use crate::http::{Reply, Request};
use crate::records::{ConsoleContentRecord, ConsoleHistoryRecord};

/// Histories of an instance.
const HISTORIES_MAX: u64 = 64;
/// Fewest bytes that may be asked for at once.
const LENGTH_MIN: usize = 10_240;
/// Most bytes answered at once.
const LENGTH_MAX: usize = 1024 * 1024;

/// `CaptureConsoleHistory`: the log is at hand, so the history succeeds at once.
pub async fn capture(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: CaptureConsoleHistoryDetails = request.json()?;

    let instance = instances::load(&context, &details.instance_id).await?;
    if instance.resource.lifecycle_state == InstanceState::Terminated {
        return Err(ApiError::not_authorized_or_not_found());
    }
    check_count(&context, &details.instance_id).await?;
    let log = context.region.guests.console_log(&context.region, &instance).await?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags);
    let compartment = &instance.resource.compartment_id;
    let defined_tags = tags::on_create(&context, compartment, freeform, defined).await?;
    let captured = ConsoleHistoryRecord {
        resource: ConsoleHistory {
            id: context.region.new_id("consolehistory"),
            availability_domain: instance.resource.availability_domain.clone(),
            compartment_id: instance.resource.compartment_id.clone(),
            defined_tags,
            display_name: details.display_name.map_or_else(
                || format!("consolehistory{}", context.now.strftime("%Y%m%d%H%M%S")),
                String::from,
            ),
            freeform_tags: details.freeform_tags.unwrap_or_default(),
            instance_id: details.instance_id,
            lifecycle_state: ConsoleHistoryState::Succeeded,
            time_created: context.now.into(),
        },
    };
    let shown = ConsoleContentRecord {
        id: captured.resource.id.clone(),
        content_base64: BASE64.encode(&log),
        time_created: context.now,
    };
    let record = Versioned::first(captured);
    let reply = Reply::ok(&record.resource)?.etag(record.etag());
    context.commit(Batch::new().create(&record).insert(&shown), reply).await
}

async fn check_count(context: &Context, instance: &Ocid) -> Result<(), ApiError> {
    let query = Query::new().parent(instance.as_str());
    let there = context.region.db.count::<ConsoleHistoryRecord>(&query).await?;
    if there < HISTORIES_MAX {
        return Ok(());
    }
    Err(ApiError::limit_exceeded(format!(
        "instance {instance} has {there} console histories, which is the limit: delete one"
    )))
}

/// `GetConsoleHistory`.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    let record = load(&context, &request).await?;
    Ok(Reply::ok(&record.resource)?.etag(record.etag()))
}

/// `ListConsoleHistories`.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let instance_id = request.query::<Ocid>("instanceId")?;
    let domain = request.query::<String>("availabilityDomain")?;
    super::list(&context, &request, &compartment, |record: &ConsoleHistoryRecord| {
        let wanted = instance_id.as_ref().is_none_or(|id| *id == record.resource.instance_id)
            && domain.as_ref().is_none_or(|name| *name == record.resource.availability_domain);
        wanted.then(|| record.resource.clone())
    })
    .await
}

/// `UpdateConsoleHistory`: name and tags.
pub async fn update(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateConsoleHistoryDetails = request.json()?;
    let mut record = load(&context, &request).await?;
    request.check_etag(&record.etag())?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(
        &context,
        (&record.resource.freeform_tags, &record.resource.defined_tags),
        freeform,
        defined,
    )
    .await?;
    let resource = &mut record.value.resource;
    if let Some(name) = details.display_name {
        resource.display_name = name.into();
    }
    if let Some(tags) = details.freeform_tags {
        resource.freeform_tags = tags;
    }
    if let Some(tags) = details.defined_tags {
        resource.defined_tags = tags;
    }
    super::replace(&context, record, |record| Reply::ok(&record.resource)).await
}

/// `GetConsoleHistoryContent`: bytes from `offset`, at most `length` of them.
pub async fn content(context: Context, request: Request) -> Result<Reply, ApiError> {
    let offset = request.query::<usize>("offset")?.unwrap_or(0);
    let length = request.query::<usize>("length")?.unwrap_or(LENGTH_MAX);
    if length < LENGTH_MIN {
        return Err(ApiError::invalid_parameter(
            "length",
            format!("must be at least {LENGTH_MIN}"),
        ));
    }
    let record = load(&context, &request).await?;
    let shown = super::load::<ConsoleContentRecord>(&context, &record.resource.id).await?;
    let encoded = shown.content_base64.as_bytes();
    let bytes = BASE64.decode(encoded).map_err(|_| ApiError::internal())?;
    let begin = offset.min(bytes.len());
    let end = begin.saturating_add(length.min(LENGTH_MAX)).min(bytes.len());
    let remaining = (bytes.len() - end).to_string();
    Ok(Reply::bytes("text/plain", bytes[begin..end].to_vec())
        .header("opc-bytes-remaining", &remaining))
}

/// `DeleteConsoleHistory`.
pub async fn delete(context: Context, request: Request) -> Result<Reply, ApiError> {
    let record = load(&context, &request).await?;
    request.check_etag(&record.etag())?;
    let shown = super::load::<ConsoleContentRecord>(&context, &record.resource.id).await?;
    let batch = Batch::new().delete(&record).delete(&shown);
    context.commit(batch, Reply::no_content()).await
}

async fn load(
    context: &Context,
    request: &Request,
) -> Result<Versioned<ConsoleHistoryRecord>, ApiError> {
    super::load(context, &request.path("instanceConsoleHistoryId")?).await
}
