//! Takes a tag from whatever has it, when its key is deleted.

use calotype_api::tags::DefinedTags;
use calotype_api::vcn_parts::{DhcpSettings, Gateway, Group, Routes, SecurityRules};

use super::keys::TagRecord;
use super::namespaces::NamespaceRecord;
use crate::app::buckets::BucketRecord;
use crate::app::capabilities::CapabilitySchemaRecord;
use crate::app::console_connections::ConsoleConnectionRecord;
use crate::app::identity::CompartmentRecord;
use crate::app::network::{PartContent, PartRecord, SubnetRecord, VcnRecord, VnicRecord};
use crate::db::{Batch, Db, Document, Error, Query};
use crate::records::{BootVolumeRecord, ConsoleHistoryRecord, ImageRecord, InstanceRecord};

/// What can be tagged. A new kind of resource stands here and in [`strip`].
trait Tagged: Document {
    fn maps(&mut self) -> Vec<&mut DefinedTags>;
}

macro_rules! tagged {
    ($($record:ty),+ $(,)?) => {
        $(impl Tagged for $record {
            fn maps(&mut self) -> Vec<&mut DefinedTags> {
                vec![&mut self.resource.defined_tags]
            }
        })+
    };
}

tagged!(
    ImageRecord,
    InstanceRecord,
    BootVolumeRecord,
    ConsoleHistoryRecord,
    ConsoleConnectionRecord,
    VcnRecord,
    SubnetRecord,
    CapabilitySchemaRecord,
    CompartmentRecord,
    NamespaceRecord,
    TagRecord,
);

impl<C: PartContent> Tagged for PartRecord<C> {
    fn maps(&mut self) -> Vec<&mut DefinedTags> {
        vec![&mut self.resource.defined_tags]
    }
}

impl Tagged for BucketRecord {
    fn maps(&mut self) -> Vec<&mut DefinedTags> {
        self.resource.defined_tags.as_mut().into_iter().collect()
    }
}

impl Tagged for VnicRecord {
    fn maps(&mut self) -> Vec<&mut DefinedTags> {
        vec![
            &mut self.resource.defined_tags,
            &mut self.private_label.defined_tags,
            &mut self.public_label.defined_tags,
        ]
    }
}

/// Takes the tag from everything, and returns from how many. Done twice, it does nothing more.
pub(crate) async fn strip(db: &Db, namespace: &str, key: &str) -> Result<usize, Error> {
    let mut stripped = strip_kind::<ImageRecord>(db, namespace, key).await?;
    stripped += strip_kind::<InstanceRecord>(db, namespace, key).await?;
    stripped += strip_kind::<BootVolumeRecord>(db, namespace, key).await?;
    stripped += strip_kind::<ConsoleHistoryRecord>(db, namespace, key).await?;
    stripped += strip_kind::<ConsoleConnectionRecord>(db, namespace, key).await?;
    stripped += strip_kind::<VcnRecord>(db, namespace, key).await?;
    stripped += strip_kind::<SubnetRecord>(db, namespace, key).await?;
    stripped += strip_kind::<VnicRecord>(db, namespace, key).await?;
    stripped += strip_kind::<PartRecord<Gateway>>(db, namespace, key).await?;
    stripped += strip_kind::<PartRecord<Routes>>(db, namespace, key).await?;
    stripped += strip_kind::<PartRecord<SecurityRules>>(db, namespace, key).await?;
    stripped += strip_kind::<PartRecord<DhcpSettings>>(db, namespace, key).await?;
    stripped += strip_kind::<PartRecord<Group>>(db, namespace, key).await?;
    stripped += strip_kind::<BucketRecord>(db, namespace, key).await?;
    stripped += strip_kind::<CapabilitySchemaRecord>(db, namespace, key).await?;
    stripped += strip_kind::<CompartmentRecord>(db, namespace, key).await?;
    stripped += strip_kind::<NamespaceRecord>(db, namespace, key).await?;
    Ok(stripped + strip_kind::<TagRecord>(db, namespace, key).await?)
}

async fn strip_kind<T: Tagged>(db: &Db, namespace: &str, key: &str) -> Result<usize, Error> {
    let mut changed = Vec::new();
    let look = |mut document: crate::db::Versioned<T>| {
        let removed: Vec<_> =
            document.value.maps().into_iter().map(|tags| remove(tags, namespace, key)).collect();
        if removed.contains(&true) {
            changed.push(document);
        }
    };
    db.for_each(Query::new(), look).await?;
    let count = changed.len();
    for document in changed {
        // What was changed meanwhile is a conflict: the step is run again and reads it anew.
        db.apply(Batch::new().replace(&document)).await?;
    }
    Ok(count)
}

fn remove(tags: &mut DefinedTags, namespace: &str, key: &str) -> bool {
    let mut removed = false;
    for (_, keys) in tags.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case(namespace)) {
        let before = keys.len();
        keys.retain(|name, _| !name.eq_ignore_ascii_case(key));
        removed |= keys.len() < before;
    }
    tags.retain(|_, keys| !keys.is_empty());
    removed
}
