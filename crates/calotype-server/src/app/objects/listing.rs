//! Lists of objects: by name, from any name on, with what lies below a delimiter folded into its beginning.
//!
//! A page costs what it shows, however many objects the bucket has and however many lie below a beginning: the
//! list jumps over those.

use std::ops::Bound;

use calotype_api::error::ApiError;
use calotype_api::object_list::{ObjectList, behind};
use calotype_api::objects::{ListObjects, ObjectSummary, StorageTier};

use super::record::ObjectRecord;
use crate::app::Context;
use crate::db::{Db, Error, Query, Sort, SortKey, SortOrder, Versioned};
use crate::http::{Reply, Request};

/// Objects that are read to see whether they lie below the beginning that was last seen, at least.
const BATCH_MIN: usize = 8;
/// A page.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Objects, by name.
    pub objects: Vec<Versioned<ObjectRecord>>,
    /// Beginnings of folded names, each once.
    pub prefixes: Vec<String>,
    /// Name of the first object that is not in the page.
    pub next: Option<String>,
}

/// A page of the bucket's objects.
pub(super) async fn list(db: &Db, bucket: &str, wanted: &ObjectList) -> Result<Listed, Error> {
    let sort = Sort { key: SortKey::Name, order: SortOrder::Ascending };
    let query = Query::new().parent(bucket).sort(sort);
    let (mut from, below) = wanted.bounds();
    let mut listed = Listed::default();
    let mut batch = wanted.entries_max.saturating_add(1);
    loop {
        let names = query.clone().names(from.clone(), below.clone()).limit(batch);
        let page = db.list::<ObjectRecord>(names).await?;
        let is_last = page.next.is_none();
        let mut folded = 0;
        for object in page.items {
            let beginning = wanted.beginning(&object.name);
            if beginning.is_some() && beginning == listed.prefixes.last().map(String::as_str) {
                folded += 1;
                from = behind(beginning.unwrap_or_default());
                continue;
            }
            if listed.objects.len() + listed.prefixes.len() == wanted.entries_max {
                listed.next = Some(object.value.name);
                return Ok(listed);
            }
            if let Some(beginning) = beginning {
                from = behind(beginning);
                listed.prefixes.push(beginning.to_owned());
            } else {
                from = Bound::Excluded(object.name.clone());
                listed.objects.push(object);
            }
        }
        if is_last || matches!(from, Bound::Unbounded) {
            return Ok(listed);
        }
        // Where much is folded little is read at a time, so that little is read for nothing.
        batch = if folded > batch / 2 { BATCH_MIN } else { batch.saturating_mul(2) };
        batch = batch.min(wanted.entries_max.saturating_add(1)).max(BATCH_MIN);
    }
}

/// Answers `ListObjects` for a bucket, of which the request may see what begins with `visible`.
pub(super) async fn answer(
    context: &Context,
    request: &Request,
    bucket: &str,
    visible: &str,
) -> Result<Reply, ApiError> {
    let parameter = |name| request.query.get(name).map(String::as_str);
    let wanted = ObjectList::read(parameter, visible)?;
    let listed = list(&context.region.db, bucket, &wanted).await?;
    Reply::ok(&ListObjects {
        next_start_with: listed.next,
        objects: listed.objects.iter().map(|object| summary(object, &wanted.fields)).collect(),
        prefixes: Some(listed.prefixes),
    })
}

fn summary(object: &Versioned<ObjectRecord>, fields: &[&str]) -> ObjectSummary {
    let has = |field: &str| fields.contains(&field);
    ObjectSummary {
        archival_state: None,
        etag: has("etag").then(|| object.etag()),
        md5: object.md5.clone().filter(|_| has("md5")),
        name: object.name.clone(),
        size: has("size").then_some(object.size_bytes),
        storage_tier: has("storageTier").then_some(StorageTier::Standard),
        time_created: has("timeCreated").then(|| object.time_created.into()),
        time_modified: has("timeModified").then(|| object.time_created.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::app::objects::attributes::Attributes;
    use crate::app::objects::record::NewObject;
    use crate::db::Batch;

    async fn catalog(names: &BTreeSet<String>) -> (Db, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&directory.path().join("catalog")).await.unwrap();
        let mut batch = Batch::new();
        for (bucket, names) in [("b", names), ("a", &["x".to_owned()].into())] {
            for name in names {
                let new = NewObject {
                    bucket: bucket.to_owned(),
                    name: name.clone(),
                    segments: Vec::new(),
                    md5: None,
                    attributes: Attributes::default(),
                };
                batch = batch.insert(&new.records(jiff::Timestamp::UNIX_EPOCH).0);
            }
        }
        db.apply(batch).await.unwrap();
        (db, directory)
    }

    /// The whole list at once, in its order: objects, and beginnings with their delimiter.
    fn model(names: &BTreeSet<String>, wanted: &ObjectList) -> Vec<String> {
        let mut entries: Vec<String> = Vec::new();
        for name in names {
            let started = match &wanted.from {
                Bound::Unbounded => true,
                Bound::Included(from) => name >= from,
                Bound::Excluded(from) => name > from,
            };
            let ended = wanted.below.as_ref().is_some_and(|below| name >= below);
            if !started || ended || !name.starts_with(&wanted.prefix) {
                continue;
            }
            let rest = &name[wanted.prefix.len()..];
            let folded = wanted.delimiter.as_ref().and_then(|delimiter| {
                let (head, _) = rest.split_once(delimiter.as_str())?;
                Some(format!("{}{head}{delimiter}", wanted.prefix))
            });
            let entry = folded.unwrap_or_else(|| name.clone());
            if entries.last() != Some(&entry) {
                entries.push(entry);
            }
        }
        entries
    }

    async fn pages(db: &Db, wanted: &ObjectList) -> Vec<String> {
        let mut wanted = wanted.clone();
        let mut entries: Vec<String> = Vec::new();
        loop {
            let listed = list(db, "b", &wanted).await.unwrap();
            let names = listed.objects.iter().map(|object| object.name.clone());
            let mut page: Vec<_> = names.chain(listed.prefixes).collect();
            assert!(page.len() <= wanted.entries_max);
            page.sort();
            entries.extend(page);
            let Some(next) = listed.next else { return entries };
            wanted.from = Bound::Included(next);
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop::sample::select(vec![
                "a",
                "b",
                "/",
                "//",
                "z",
                "ä",
                "\u{d7ff}",
                "\u{10ffff}",
                "%",
            ]),
            1..6,
        )
        .prop_map(|parts| parts.concat())
    }

    fn bound() -> impl Strategy<Value = Bound<String>> {
        prop_oneof![
            Just(Bound::Unbounded),
            name().prop_map(Bound::Included),
            name().prop_map(Bound::Excluded)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn pages_are_the_whole_list_cut_up(
            names in prop::collection::btree_set(name(), 0..60),
            lists in prop::collection::vec((
                prop_oneof![Just(String::new()), name()],
                bound(),
                prop::option::of(name()),
                prop::option::of(prop_oneof![3 => Just("/".to_owned()), 1 => name()]),
                1_usize..12,
            ), 16),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (db, _directory) = catalog(&names).await;
                for (prefix, from, below, delimiter, entries_max) in lists {
                    let fields = Vec::new();
                    let wanted = ObjectList { prefix, from, below, delimiter, entries_max, fields };
                    assert_eq!(pages(&db, &wanted).await, model(&names, &wanted), "{wanted:?}");
                }
            });
        }
    }

    #[tokio::test]
    async fn a_beginning_is_shown_once_however_much_lies_below_it() {
        let names = (0..3000).map(|n| format!("{}/{n:04}", n / 1000)).collect();
        let (db, _directory) = catalog(&names).await;
        let wanted = ObjectList {
            prefix: String::new(),
            from: Bound::Unbounded,
            below: None,
            delimiter: Some("/".to_owned()),
            entries_max: 10,
            fields: Vec::new(),
        };
        let listed = list(&db, "b", &wanted).await.unwrap();
        assert_eq!(listed.prefixes, ["0/", "1/", "2/"]);
        assert_eq!(listed.next, None);
    }
}
