//! Lists of objects: by name, from any name on, with what lies below a delimiter folded into its beginning.
//!
//! A page costs what it shows, however many objects the bucket has and however many lie below a beginning: the
//! list jumps over those.

use std::ops::Bound;

use calotype_api::error::ApiError;
use calotype_api::objects::{ListObjects, ObjectSummary, StorageTier};

use super::record::ObjectRecord;
use crate::app::Context;
use crate::db::{Db, Error, Query, Sort, SortKey, SortOrder, Versioned};
use crate::http::{Reply, Request};

/// Most entries of a page, and how many it has if the client does not say.
const ENTRIES_MAX: usize = 1000;
/// Objects that are read to see whether they lie below the beginning that was last seen, at least.
const BATCH_MIN: usize = 8;
/// Most bytes of a prefix, delimiter or name to begin with.
const TEXT_BYTES_MAX: usize = 1024;

/// Fields of an object that can be asked for.
const FIELDS: &[&str] =
    &["name", "size", "etag", "md5", "timeCreated", "timeModified", "storageTier", "archivalState"];

/// What is listed.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Only names that begin so.
    pub prefix: String,
    /// Where the list begins.
    pub from: Bound<String>,
    /// Only names before this.
    pub below: Option<String>,
    /// Names that have it behind the prefix are folded.
    pub delimiter: Option<String>,
    /// Most entries, objects and beginnings together.
    pub entries_max: usize,
}

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
pub(super) async fn list(db: &Db, bucket: &str, wanted: &Wanted) -> Result<Listed, Error> {
    let sort = Sort { key: SortKey::Name, order: SortOrder::Ascending };
    let query = Query::new().parent(bucket).sort(sort);
    let below = [wanted.below.clone(), behind_all(&wanted.prefix)].into_iter().flatten().min();
    let mut from = later(wanted.from.clone(), wanted.prefix.clone());
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

impl Wanted {
    /// What `name` is folded to, if it is.
    fn beginning<'n>(&self, name: &'n str) -> Option<&'n str> {
        let delimiter = self.delimiter.as_deref()?;
        let rest = name.get(self.prefix.len()..)?;
        let end = self.prefix.len() + rest.find(delimiter)? + delimiter.len();
        name.get(..end)
    }
}

/// The later of two places where a list may begin.
fn later(from: Bound<String>, prefix: String) -> Bound<String> {
    match &from {
        Bound::Included(name) | Bound::Excluded(name) if *name >= prefix => from,
        _ => Bound::Included(prefix),
    }
}

/// From behind every name that begins so; unbounded if no name can be.
fn behind(beginning: &str) -> Bound<String> {
    behind_all(beginning).map_or(Bound::Unbounded, Bound::Included)
}

/// The first text, by bytes, behind all that begin so. The order of UTF-8's bytes is that of characters.
fn behind_all(beginning: &str) -> Option<String> {
    let mut text = beginning.to_owned();
    while let Some(last) = text.pop() {
        // There is a gap in what a character can be.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// Answers `ListObjects` for a bucket, of which the request may see what begins with `visible`.
pub(super) async fn answer(
    context: &Context,
    request: &Request,
    bucket: &str,
    visible: &str,
) -> Result<Reply, ApiError> {
    let text = |name: &'static str| -> Result<Option<String>, ApiError> {
        match request.query::<String>(name)? {
            Some(text) if text.len() > TEXT_BYTES_MAX || text.contains('\0') => {
                let must = format!("must be at most {TEXT_BYTES_MAX} bytes without NUL");
                Err(ApiError::invalid_parameter(name, must))
            }
            text => Ok(text),
        }
    };
    let from = match (text("start")?, text("startAfter")?) {
        (None, None) => Bound::Unbounded,
        (Some(start), None) => Bound::Included(start),
        (None, Some(after)) => Bound::Excluded(after),
        (Some(_), Some(_)) => {
            let must = "must not be given together with start";
            return Err(ApiError::invalid_parameter("startAfter", must));
        }
    };
    let prefix = text("prefix")?.unwrap_or_default();
    if !prefix.starts_with(visible) {
        return Err(ApiError::invalid_parameter("prefix", format!("must begin with {visible:?}")));
    }
    let limit = request.query::<usize>("limit")?.unwrap_or(ENTRIES_MAX);
    if !(1..=ENTRIES_MAX).contains(&limit) {
        let must = format!("must be between 1 and {ENTRIES_MAX}");
        return Err(ApiError::invalid_parameter("limit", must));
    }
    let fields = fields(request.query::<String>("fields")?.as_deref())?;
    let wanted = Wanted {
        prefix,
        from,
        below: text("end")?,
        delimiter: text("delimiter")?,
        entries_max: limit,
    };
    let listed = list(&context.region.db, bucket, &wanted).await?;
    Reply::ok(&ListObjects {
        next_start_with: listed.next,
        objects: listed.objects.iter().map(|object| summary(object, &fields)).collect(),
        prefixes: Some(listed.prefixes),
    })
}

fn fields(asked: Option<&str>) -> Result<Vec<&'static str>, ApiError> {
    let asked = asked.unwrap_or("name").split(',').map(str::trim);
    asked
        .map(|field| {
            let known = FIELDS.iter().copied().find(|known| *known == field);
            known.ok_or_else(|| {
                let must = format!("can have only {}", FIELDS.join(", "));
                ApiError::invalid_parameter("fields", must)
            })
        })
        .collect()
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
    fn model(names: &BTreeSet<String>, wanted: &Wanted) -> Vec<String> {
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

    async fn pages(db: &Db, wanted: &Wanted) -> Vec<String> {
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
                    let wanted = Wanted { prefix, from, below, delimiter, entries_max };
                    assert_eq!(pages(&db, &wanted).await, model(&names, &wanted), "{wanted:?}");
                }
            });
        }

        #[test]
        fn what_is_behind_a_beginning_is_behind_all_that_begin_so(beginning in "\\PC{0,4}", rest in "\\PC{0,4}") {
            if let Some(behind) = behind_all(&beginning) {
                let longer = beginning.clone() + &rest;
                prop_assert!(longer < behind);
                prop_assert!(behind > beginning);
            }
        }
    }

    #[tokio::test]
    async fn a_beginning_is_shown_once_however_much_lies_below_it() {
        let names = (0..3000).map(|n| format!("{}/{n:04}", n / 1000)).collect();
        let (db, _directory) = catalog(&names).await;
        let wanted = Wanted {
            prefix: String::new(),
            from: Bound::Unbounded,
            below: None,
            delimiter: Some("/".to_owned()),
            entries_max: 10,
        };
        let listed = list(&db, "b", &wanted).await.unwrap();
        assert_eq!(listed.prefixes, ["0/", "1/", "2/"]);
        assert_eq!(listed.next, None);
    }
}
