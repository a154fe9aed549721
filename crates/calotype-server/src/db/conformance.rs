//! What every engine beneath the catalog must do. Another engine runs the same function.

use std::collections::BTreeSet;
use std::ops::Bound;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Batch, Contents, Db, Document, ErrorKind, PageToken, Query, Sort, SortKey, SortOrder, Versioned,
};

/// A document with everything a document can have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Card {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) compartment: Option<String>,
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) time_us: i64,
    pub(crate) count: u64,
}

impl Card {
    pub(crate) fn new(id: &str, time_us: i64) -> Self {
        Self {
            id: id.to_owned(),
            parent: Some("box".to_owned()),
            compartment: Some("room".to_owned()),
            state: "AVAILABLE".to_owned(),
            name: format!("card {id}"),
            time_us,
            count: 0,
        }
    }
}

impl Document for Card {
    const KIND: &'static str = "card";

    fn id(&self) -> String {
        self.id.clone()
    }

    fn parent_id(&self) -> Option<String> {
        self.parent.clone()
    }

    fn compartment_id(&self) -> Option<String> {
        self.compartment.clone()
    }

    fn state(&self) -> Option<String> {
        Some(self.state.clone())
    }

    fn name(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn time_created(&self) -> Timestamp {
        Timestamp::from_microsecond(self.time_us).unwrap()
    }
}

/// Runs the whole suite on an empty catalog.
pub(super) async fn conformance(db: &Db) {
    keeps_what_was_written(db).await;
    writes_a_batch_whole_or_not_at_all(db).await;
    knows_what_lies_in_a_compartment(db).await;
    never_gives_a_version_twice(db).await;
    filters_by_every_column(db).await;
    sorts_both_ways_by_both_columns(db).await;
    pages_stay_put_while_documents_come_and_go(db).await;
    takes_any_text(db).await;
    loses_no_update_of_many_writers(db).await;
}

async fn read(db: &Db, id: &str) -> Versioned<Card> {
    db.get::<Card>(id).await.unwrap().unwrap()
}

async fn clear(db: &Db) {
    let mut batch = Batch::new();
    for card in db.list_all::<Card>(Query::new()).await.unwrap() {
        batch = batch.delete(&card);
    }
    db.apply(batch).await.unwrap();
}

fn conflict(result: Result<(), super::Error>) -> String {
    match result.unwrap_err().kind {
        ErrorKind::Conflict { kind, id } => format!("{kind}/{id}"),
        other => panic!("expected a conflict, got {other:?}"),
    }
}

async fn keeps_what_was_written(db: &Db) {
    assert_eq!(db.get::<Card>("a").await.unwrap(), None);
    let card = Versioned::first(Card::new("a", 1));
    db.apply(Batch::new().create(&card)).await.unwrap();
    let mut first = read(db, "a").await;
    assert_eq!(first, card);
    first.count = 7;
    db.apply(Batch::new().replace(&first)).await.unwrap();
    let second = read(db, "a").await;
    assert_eq!(second.etag(), first.next_etag());
    assert_eq!(second.value, first.value);
    assert_ne!(second.etag(), first.etag());
    assert_eq!(second.etag().len(), 64);
    db.apply(Batch::new().delete(&second)).await.unwrap();
    assert_eq!(db.get::<Card>("a").await.unwrap(), None);
}

async fn writes_a_batch_whole_or_not_at_all(db: &Db) {
    db.apply(Batch::new().insert(&Card::new("a", 1)).insert(&Card::new("b", 2))).await.unwrap();
    let (stale, other) = (read(db, "a").await, read(db, "b").await);
    db.apply(Batch::new().replace(&stale)).await.unwrap();
    let new = Card::new("c", 3);
    let failing = [
        (Batch::new().insert(&new).insert(&Card::new("b", 9)), "card/b"),
        (Batch::new().insert(&new).replace(&stale), "card/a"),
        (Batch::new().insert(&new).delete(&stale), "card/a"),
        (Batch::new().insert(&new).delete(&other).require(&stale), "card/a"),
    ];
    for (batch, expected) in failing {
        assert_eq!(conflict(db.apply(batch).await), expected);
        assert_eq!(db.get::<Card>("c").await.unwrap(), None);
        assert_eq!(read(db, "b").await, other);
    }
    db.apply(Batch::new().require(&other).and(Batch::new().insert(&new))).await.unwrap();
    assert_eq!(read(db, "b").await.version, other.version);
    let childless = Batch::new().delete(&other).require_none::<Card>("box");
    assert_eq!(conflict(db.apply(childless).await), "card/box");
    db.apply(Batch::new().require_none::<Card>("other box").delete(&other)).await.unwrap();
    clear(db).await;
}

/// All but what is gone, and letters.
pub(super) const CONTENTS: Contents =
    Contents { but_states: &["GONE", "LOST"], but_kinds: &["letter"] };

async fn knows_what_lies_in_a_compartment(db: &Db) {
    let room = Card { compartment: None, ..Card::new("room", 1) };
    let gone = Card { state: "GONE".to_owned(), ..Card::new("a", 2) };
    let outside = Card { compartment: Some("hall".to_owned()), ..Card::new("b", 3) };
    db.apply(Batch::new().insert(&room).insert(&gone).insert(&outside)).await.unwrap();
    let empty = || Batch::new().require_empty(&room, CONTENTS);
    assert_eq!(db.inside("room", CONTENTS).await.unwrap(), None);
    db.apply(empty()).await.unwrap();
    let batch = Batch::new().insert(&Card::new("c", 4)).replace(&read(db, "b").await);
    assert_eq!(batch.compartments(), BTreeSet::from(["hall".to_owned(), "room".to_owned()]));
    db.apply(batch).await.unwrap();
    let inside = db.inside("room", CONTENTS).await.unwrap();
    assert_eq!(inside, Some(("card".to_owned(), "c".to_owned())));
    assert_eq!(conflict(db.apply(empty()).await), "card/room");
    let in_state = |state| Batch::new().require_state::<Card>("a".to_owned(), state);
    db.apply(in_state("GONE")).await.unwrap();
    assert_eq!(conflict(db.apply(in_state("AVAILABLE")).await), "card/a");
    clear(db).await;
}

async fn never_gives_a_version_twice(db: &Db) {
    db.apply(Batch::new().insert(&Card::new("a", 1))).await.unwrap();
    let first = read(db, "a").await;
    db.apply(Batch::new().delete(&first)).await.unwrap();
    db.apply(Batch::new().insert(&Card::new("a", 2))).await.unwrap();
    assert_eq!(conflict(db.apply(Batch::new().delete(&first)).await), "card/a");
    clear(db).await;
}

async fn ids(db: &Db, query: Query) -> String {
    let page = db.list::<Card>(query).await.unwrap();
    page.items.iter().map(|card| card.id.as_str()).collect()
}

async fn filters_by_every_column(db: &Db) {
    let mut batch = Batch::new();
    for (id, parent, compartment, state, name, time) in [
        ("a", Some("p"), Some("x"), "UP", "one", 1),
        ("b", Some("p"), Some("y"), "DOWN", "one", 2),
        ("c", None, Some("x"), "UP", "two", 3),
        ("d", None, None, "GONE", "two", 4),
    ] {
        batch = batch.insert(&Card {
            parent: parent.map(str::to_owned),
            compartment: compartment.map(str::to_owned),
            state: state.to_owned(),
            name: name.to_owned(),
            ..Card::new(id, time)
        });
    }
    db.apply(batch).await.unwrap();
    assert_eq!(ids(db, Query::new()).await, "dcba");
    assert_eq!(ids(db, Query::new().parent("p")).await, "ba");
    assert_eq!(ids(db, Query::new().compartment("x")).await, "ca");
    assert_eq!(ids(db, Query::new().in_no_compartment()).await, "d");
    assert_eq!(ids(db, Query::new().state("UP")).await, "ca");
    assert_eq!(ids(db, Query::new().state("UP").state("GONE")).await, "dca");
    assert_eq!(ids(db, Query::new().name("two")).await, "dc");
    assert_eq!(ids(db, Query::new().name("TWO")).await, "");
    assert_eq!(ids(db, Query::new().compartment("x").name("one").state("UP")).await, "a");
    assert_eq!(ids(db, Query::new().limit(2)).await, "dc");
    let from = |from: Bound<&str>, below: Option<&str>| {
        Query::new().names(from.map(str::to_owned), below.map(str::to_owned))
    };
    assert_eq!(ids(db, from(Bound::Included("one"), Some("two"))).await, "ba");
    assert_eq!(ids(db, from(Bound::Excluded("one"), None)).await, "dc");
    assert_eq!(ids(db, from(Bound::Unbounded, Some("one"))).await, "");
    assert_eq!(ids(db, from(Bound::Included("One"), Some("onf")).parent("p")).await, "ba");
    clear(db).await;
}

async fn sorts_both_ways_by_both_columns(db: &Db) {
    let mut batch = Batch::new();
    for (id, name, time) in [("a", "b", 3), ("b", "B", 3), ("c", "a", 1), ("d", "b", 2)] {
        batch = batch.insert(&Card { name: name.to_owned(), ..Card::new(id, time) });
    }
    db.apply(batch).await.unwrap();
    for (key, order, expected) in [
        (SortKey::TimeCreated, SortOrder::Ascending, "cdab"),
        (SortKey::TimeCreated, SortOrder::Descending, "badc"),
        (SortKey::Name, SortOrder::Ascending, "bcda"),
        (SortKey::Name, SortOrder::Descending, "adcb"),
    ] {
        let query = Query::new().sort(Sort { key, order });
        assert_eq!(ids(db, query.clone()).await, expected);
        let mut paged = String::new();
        let mut after = None;
        loop {
            let page = db.list::<Card>(query.clone().limit(1).after(after)).await.unwrap();
            paged.extend(page.items.iter().map(|card| card.id.as_str()));
            let Some(next) = page.next else { break };
            after = Some(PageToken::parse(&next.to_string()).unwrap());
        }
        assert_eq!(paged, expected);
    }
    clear(db).await;
}

async fn pages_stay_put_while_documents_come_and_go(db: &Db) {
    let mut batch = Batch::new();
    for time in 0..20_i64 {
        batch = batch.insert(&Card::new(&format!("{time:02}"), time));
    }
    db.apply(batch).await.unwrap();
    let query = Query::new().compartment("room").limit(5);
    let mut seen = BTreeSet::new();
    let mut after = None;
    for round in 0.. {
        let page = db.list::<Card>(query.clone().after(after)).await.unwrap();
        for card in &page.items {
            assert!(seen.insert(card.id.clone()), "{} was shown twice", card.id);
        }
        // The last document shown goes, and a newer and an older one come.
        let last = page.items.last().unwrap();
        let newer = Card::new(&format!("new {round}"), 100 + round);
        let older = Card::new(&format!("old {round}"), -1 - round);
        db.apply(Batch::new().delete(last).insert(&newer).insert(&older)).await.unwrap();
        after = page.next;
        if after.is_none() || round > 20 {
            break;
        }
        if round > 3 {
            break;
        }
    }
    for time in 0..20 {
        assert!(seen.contains(&format!("{time:02}")), "{time} was skipped");
    }
    assert!(!seen.iter().any(|id| id.starts_with("new")));
    clear(db).await;
}

async fn takes_any_text(db: &Db) {
    for text in ["", " ", "'; DROP TABLE document; --", "$1", "%_", "äöü \u{1F4F7}", "\"\\\n"] {
        let card = Card { name: text.to_owned(), ..Card::new(text, i64::from(i32::MAX)) };
        db.apply(Batch::new().insert(&card)).await.unwrap();
        assert_eq!(read(db, text).await.value, card);
        assert_eq!(db.list_all::<Card>(Query::new().name(text)).await.unwrap().len(), 1);
    }
    clear(db).await;
}

async fn loses_no_update_of_many_writers(db: &Db) {
    const WRITERS: u64 = 200;
    db.apply(Batch::new().insert(&Card::new("counter", 1))).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                loop {
                    let mut card = read(&db, "counter").await;
                    card.count += 1;
                    match db.apply(Batch::new().replace(&card)).await {
                        Ok(()) => return,
                        Err(error) => assert!(error.is_conflict(), "{error:?}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(read(db, "counter").await.count, WRITERS);
    clear(db).await;
}
