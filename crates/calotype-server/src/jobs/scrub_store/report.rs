//! What the last scrub found, as the catalog keeps it and clients read it: in words of images and boot
//! volumes, not of chunks alone.

use std::collections::{BTreeMap, BTreeSet};

use calotype_api::ocid::Ocid;
use calotype_store::{Damage, ManifestId, Origin, Scrubbed};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::app::buckets::BucketRecord;
use crate::app::multipart::{PartRecord, UploadRecord};
use crate::app::objects::{ContentRecord, ObjectRecord, Segment};
use crate::db::{Db, Document, Error, Query};
use crate::records::{BootVolumeRecord, ImageRecord};

/// Most damaged chunks that a report names one by one.
const DAMAGES_MAX: usize = 200;
/// Most parts of disks that it names for each.
const PARTS_MAX: usize = 16;

/// What a scrub found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrubReport {
    /// When it began.
    pub time_started: Timestamp,
    /// When it ended.
    pub time_finished: Timestamp,
    /// Whether everything that any image or volume needs can be read, after repair.
    pub is_whole: bool,
    /// Pack files that were read.
    pub packs: u64,
    /// Chunks that were read and hashed.
    pub chunks: u64,
    /// Bytes of all files that were read.
    pub bytes: u64,
    /// Packs of which any byte was not as it was written.
    pub packs_damaged: u64,
    /// Packs that were not there.
    pub packs_missing: u64,
    /// Chunks that were needed and could not be read.
    pub chunks_damaged: u64,
    /// Of those, the ones that were stored anew from a copy.
    pub chunks_repaired: u64,
    /// The chunks, the first of them if they are many.
    pub damages: Vec<DamagedChunk>,
    /// The disks whose own file was damaged.
    pub manifests_damaged: Vec<DamagedManifest>,
    /// Who has a disk of which anything was damaged.
    pub affected: Vec<AffectedResource>,
    /// Why not all was repaired of which there was a copy.
    pub repair_error: Option<String>,
}

/// A damaged chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DamagedChunk {
    /// Its digest.
    pub chunk: String,
    /// The pack where it was to be.
    pub pack: Option<String>,
    /// The place in the pack.
    pub offset: Option<u64>,
    /// From where it was stored anew, if it was.
    pub repaired_from: Option<String>,
    /// What of which disks it holds.
    pub parts: Vec<DiskPart>,
    /// Parts beside those.
    pub parts_more: u64,
}

/// A part of a disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskPart {
    /// Digest of the whole disk.
    pub manifest: ManifestId,
    /// Its first byte.
    pub begin: u64,
    /// The byte after its last.
    pub end: u64,
}

/// A disk whose own file was damaged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DamagedManifest {
    /// Digest of the whole disk.
    pub manifest: ManifestId,
    /// Whether it was put there again from a copy.
    pub is_repaired: bool,
}

/// An image or a volume that has an affected disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AffectedResource {
    /// Digest of the disk.
    pub manifest: ManifestId,
    /// Who has it.
    #[serde(flatten)]
    pub holder: Holder,
    /// Whether all of the disk can be read now.
    pub is_repaired: bool,
}

/// Who has a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// `image`, `bootVolume`, `object` or `multipartUpload`.
    pub entity_type: String,
    /// Its id; of an object or upload that of its bucket.
    pub identifier: Ocid,
    /// Its name.
    pub display_name: String,
}

/// Everybody who has a disk.
pub async fn holders(db: &Db) -> Result<BTreeMap<ManifestId, Vec<Holder>>, Error> {
    let mut holders: BTreeMap<ManifestId, Vec<Holder>> = BTreeMap::new();
    let images = db.list_all::<ImageRecord>(Query::new()).await?;
    for image in images.iter().filter(|image| image.needs_disk()) {
        let Some(manifest) = image.manifest else { continue };
        let holder = holder("image", &image.resource.id, &image.resource.display_name);
        holders.entry(manifest).or_default().push(holder);
    }
    let volumes = db.list_all::<BootVolumeRecord>(Query::new()).await?;
    for volume in volumes.iter().filter(|volume| volume.is_alive()) {
        let bases: BTreeSet<_> =
            [Some(volume.base), volume.next_base].into_iter().flatten().collect();
        for base in bases {
            let holder = holder("bootVolume", &volume.resource.id, &volume.resource.display_name);
            holders.entry(base).or_default().push(holder);
        }
    }
    add_objects(db, &mut holders).await?;
    Ok(holders)
}

/// Objects, and parts of what will be some. Of these the identifier is that of their bucket.
async fn add_objects(
    db: &Db,
    holders: &mut BTreeMap<ManifestId, Vec<Holder>>,
) -> Result<(), Error> {
    let mut contents = BTreeMap::new();
    db.for_each::<ContentRecord>(Query::new(), |content| {
        contents.insert(content.id(), content.value.segments);
    })
    .await?;
    for bucket in db.list_all::<BucketRecord>(Query::new()).await? {
        let Some(id) = &bucket.resource.id else { continue };
        let mut add = |kind: &str, name: &str, segments: &[Segment]| {
            let name = format!("{}/{name}", bucket.resource.name);
            let manifests: BTreeSet<_> = segments.iter().map(|segment| segment.manifest).collect();
            for manifest in manifests {
                holders.entry(manifest).or_default().push(holder(kind, id, &name));
            }
        };
        let of_bucket = || Query::new().parent(&bucket.resource.name);
        db.for_each::<ObjectRecord>(of_bucket(), |object| {
            add("object", &object.name, object.inline_segments());
            let content = object.content_id().and_then(|id| contents.get(id));
            add("object", &object.name, content.map_or(&[], Vec::as_slice));
        })
        .await?;
        for upload in db.list_all::<UploadRecord>(of_bucket()).await? {
            let of_upload = Query::new().parent(&upload.upload_id);
            db.for_each::<PartRecord>(of_upload, |part| {
                add("multipartUpload", &upload.object, &[part.segment]);
            })
            .await?;
        }
    }
    Ok(())
}

fn holder(entity_type: &str, id: &Ocid, display_name: &str) -> Holder {
    Holder {
        entity_type: entity_type.to_owned(),
        identifier: id.clone(),
        display_name: display_name.to_owned(),
    }
}

impl ScrubReport {
    /// What `scrubbed` means to the `holders` of its disks.
    pub fn new(
        scrubbed: &Scrubbed,
        holders: &BTreeMap<ManifestId, Vec<Holder>>,
        time_started: Timestamp,
    ) -> Self {
        let is_lost = |damage: &&Damage| damage.repaired.is_none();
        let of_chunks =
            scrubbed.damages.iter().filter(is_lost).flat_map(|damage| &damage.manifests);
        let of_roots = scrubbed.manifests_damaged.iter().filter(|(_, repaired)| !**repaired);
        let lost: BTreeSet<_> = of_chunks.chain(of_roots.map(|(id, _)| id)).copied().collect();
        let affected = scrubbed.affected().into_iter().flat_map(|manifest| {
            let is_repaired = !lost.contains(&manifest);
            let holders = holders.get(&manifest).into_iter().flatten().cloned();
            holders.map(move |holder| AffectedResource { manifest, holder, is_repaired })
        });
        let repaired = scrubbed.damages.iter().filter(|damage| damage.repaired.is_some());
        Self {
            time_started,
            time_finished: Timestamp::now(),
            is_whole: scrubbed.is_whole(),
            packs: scrubbed.packs,
            chunks: scrubbed.chunks,
            bytes: scrubbed.bytes,
            packs_damaged: scrubbed.packs_damaged,
            packs_missing: scrubbed.packs_missing,
            chunks_damaged: scrubbed.damages.len() as u64 + scrubbed.damages_more,
            chunks_repaired: repaired.count() as u64,
            damages: scrubbed.damages.iter().take(DAMAGES_MAX).map(damaged_chunk).collect(),
            manifests_damaged: scrubbed
                .manifests_damaged
                .iter()
                .take(DAMAGES_MAX)
                .map(|(&manifest, &is_repaired)| DamagedManifest { manifest, is_repaired })
                .collect(),
            affected: affected.take(DAMAGES_MAX).collect(),
            repair_error: scrubbed.repair_error.as_ref().map(ToString::to_string),
        }
    }

    /// One line for the work request's log.
    pub fn summary(&self) -> String {
        let read = format!("read {} bytes in {} packs", self.bytes, self.packs);
        let damaged = self.chunks_damaged + self.manifests_damaged.len() as u64;
        if damaged + self.packs_damaged + self.packs_missing == 0 {
            return format!("{read}: all is well");
        }
        let state = if self.is_whole { "all can be read now" } else { "NOT ALL CAN BE READ" };
        format!(
            "{read}: {} packs damaged, {} missing, {} chunks damaged, {} of them repaired: {state}",
            self.packs_damaged, self.packs_missing, self.chunks_damaged, self.chunks_repaired
        )
    }
}

fn damaged_chunk(damage: &Damage) -> DamagedChunk {
    let from = |origin| match origin {
        Origin::Memory => "memory",
        Origin::Cache => "the local cache",
        Origin::OtherPack => "another pack",
        Origin::Elsewhere => "another store",
    };
    let parts = damage.affected.iter().map(|affected| DiskPart {
        manifest: affected.manifest,
        begin: affected.range.start,
        end: affected.range.end,
    });
    let parts: Vec<_> = parts.take(PARTS_MAX).collect();
    DamagedChunk {
        chunk: damage.chunk.to_string(),
        pack: damage.place.map(|(pack, _)| pack.to_string()),
        offset: damage.place.map(|(_, offset)| offset),
        repaired_from: damage.repaired.map(|origin| from(origin).to_owned()),
        parts_more: damage.affected_more + (damage.affected.len() - parts.len()) as u64,
        parts,
    }
}

/// The report of the last scrub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScrubRecord {
    /// What it found.
    pub report: ScrubReport,
}

impl ScrubRecord {
    /// There is one.
    pub const ID: &'static str = "last";
}

impl Document for ScrubRecord {
    const KIND: &'static str = "scrub";

    fn id(&self) -> String {
        Self::ID.to_owned()
    }

    fn time_created(&self) -> Timestamp {
        self.report.time_finished
    }
}
