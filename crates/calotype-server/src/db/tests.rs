//! The suite on SQLite, and what is particular to it.

use std::ops::Bound;
use std::path::PathBuf;

use proptest::prelude::*;
use sqlx::{Executor as _, Row as _};
use tempfile::TempDir;

use super::conformance::{CONTENTS, Card, conformance};
use super::query::{Argument, Key};
use super::{Batch, Db, Document as _, ErrorKind, PageToken, Query, Sort, SortKey, SortOrder};

async fn open() -> (Db, TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("region ?#% ä.db");
    (Db::open(&path).await.unwrap(), directory, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_conformance_suite() {
    let (db, _directory, _) = open().await;
    conformance(&db).await;
}

#[tokio::test]
async fn keeps_everything_when_reopened_without_being_closed() {
    let (db, _directory, path) = open().await;
    for time in 0..10 {
        db.apply(Batch::new().insert(&Card::new(&time.to_string(), time))).await.unwrap();
    }
    // Neither closed nor dropped, as after kill -9.
    let again = Db::open(&path).await.unwrap();
    assert_eq!(again.list_all::<Card>(Query::new()).await.unwrap().len(), 10);
    drop(db);
}

#[tokio::test]
async fn is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (db, _directory, path) = open().await;
    db.apply(Batch::new().insert(&Card::new("a", 1))).await.unwrap();
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn syncs_every_commit_and_keeps_a_write_ahead_log() {
    let (db, _directory, _) = open().await;
    let value = async |pragma: &'static str| {
        let row = db.writer.fetch_one(pragma).await.unwrap();
        row.try_get::<String, _>(0).or_else(|_| row.try_get::<i32, _>(0).map(|n| n.to_string()))
    };
    assert_eq!(value("PRAGMA journal_mode").await.unwrap(), "wal");
    assert_eq!(value("PRAGMA synchronous").await.unwrap(), "2");
    assert!(sqlx::query("DELETE FROM document").execute(&db.readers).await.is_err());
}

#[tokio::test]
async fn names_the_document_it_cannot_read() {
    let (db, _directory, _) = open().await;
    db.apply(Batch::new().insert(&Card::new("a", 1))).await.unwrap();
    sqlx::query("UPDATE document SET body = '{'").execute(&db.writer).await.unwrap();
    let corrupt = ErrorKind::Corrupt { kind: "card".to_owned(), id: "a".to_owned() };
    assert_eq!(db.get::<Card>("a").await.unwrap_err().kind, corrupt);
    assert_eq!(db.list::<Card>(Query::new()).await.unwrap_err().kind, corrupt);
}

/// Every shape of list the interface can ask for.
fn queries() -> Vec<Query> {
    let position = Key { time_created_us: 5, id: "x".to_owned(), name: "y".to_owned() };
    let mut queries = Vec::new();
    for shape in 0..=u8::MAX {
        let mut query = Query::new();
        if shape & 1 != 0 {
            query = query.parent("p");
        }
        if shape & 2 != 0 {
            query = query.compartment("c");
        }
        if shape & 4 != 0 {
            query = query.name("n");
        }
        if shape & 8 != 0 {
            query = query.state("A").state("B");
        }
        let order = if shape & 16 == 0 { SortOrder::Ascending } else { SortOrder::Descending };
        let key = if shape & 32 == 0 { SortKey::TimeCreated } else { SortKey::Name };
        // Ranges of names are read in the order of names.
        let names = |from| query.clone().names(from, Some("z".to_owned()));
        let query = match (shape >> 6, key) {
            (1, SortKey::Name) => names(Bound::Included("m".to_owned())),
            (2, SortKey::Name) => names(Bound::Excluded("m".to_owned())),
            (3, SortKey::Name) => names(Bound::Unbounded),
            _ => query,
        };
        let query = query.sort(Sort { key, order });
        let token = query.token(Card::KIND, &position);
        queries.push(query.clone());
        queries.push(query.after(Some(token)));
    }
    queries
}

#[tokio::test]
async fn every_list_is_read_in_order_from_an_index() {
    let (db, _directory, _) = open().await;
    for query in queries() {
        let (sql, arguments) = query.statement(Card::KIND).unwrap();
        let mut plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        for argument in arguments {
            plan = match argument {
                Argument::Text(text) => plan.bind(text),
                Argument::Integer(integer) => plan.bind(integer),
            };
        }
        for row in plan.fetch_all(&db.writer).await.unwrap() {
            let detail: String = row.try_get("detail").unwrap();
            assert!(!detail.contains("SCAN") && !detail.contains("TEMP B-TREE"), "{sql}: {detail}");
        }
    }
}

#[tokio::test]
async fn what_lies_in_a_compartment_is_found_by_an_index() {
    let (db, _directory, _) = open().await;
    let sql = format!("EXPLAIN QUERY PLAN {}", CONTENTS.statement());
    let mut plan = sqlx::query(sqlx::AssertSqlSafe(sql)).bind("room");
    for word in CONTENTS.but_states.iter().chain(CONTENTS.but_kinds) {
        plan = plan.bind(*word);
    }
    for row in plan.fetch_all(&db.writer).await.unwrap() {
        let detail: String = row.try_get("detail").unwrap();
        assert!(detail.contains("SEARCH"), "{detail}");
    }
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let (db, _directory, _) = open().await;
    let mut connection = db.writer.acquire().await.unwrap();
    for sql in super::batch::STATEMENTS.into_iter().chain([super::GET, super::STATE]) {
        connection.prepare(sqlx::SqlStr::from_static(sql)).await.unwrap();
    }
    let contents = sqlx::SqlSafeStr::into_sql_str(sqlx::AssertSqlSafe(CONTENTS.statement()));
    connection.prepare(contents).await.unwrap();
    for query in queries() {
        let (sql, _) = query.statement(Card::KIND).unwrap();
        let sql = sqlx::SqlSafeStr::into_sql_str(sqlx::AssertSqlSafe(sql));
        connection.prepare(sql).await.unwrap();
    }
}

#[tokio::test]
async fn refuses_the_token_of_another_list() {
    let (db, _directory, _) = open().await;
    let insert = Batch::new().insert(&Card::new("a", 1)).insert(&Card::new("b", 2));
    db.apply(insert).await.unwrap();
    let token = db.list::<Card>(Query::new().limit(1)).await.unwrap().next;
    assert_eq!(db.list::<Card>(Query::new().after(token.clone())).await.unwrap().items.len(), 1);
    for other in [
        Query::new().compartment("room"),
        Query::new().parent("box"),
        Query::new().state("AVAILABLE"),
        Query::new().sort(Sort { key: SortKey::Name, order: SortOrder::Descending }),
        Query::new().sort(Sort { key: SortKey::TimeCreated, order: SortOrder::Ascending }),
    ] {
        let error = db.list::<Card>(other.after(token.clone())).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidPageToken);
    }
}

proptest! {
    #[test]
    fn takes_no_token_that_is_not_its_own(text in ".{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for text in [text, data_encoding::BASE64URL_NOPAD.encode(&bytes)] {
            if let Ok(token) = PageToken::parse(&text) {
                prop_assert!(Query::new().after(Some(token)).statement("card").is_err());
            }
        }
    }

    #[test]
    fn a_token_survives_any_damage_without_a_panic(at in 0_usize..60, to in any::<u8>(), cut in 0_usize..60) {
        let query = Query::new().sort(Sort { key: SortKey::Name, order: SortOrder::Ascending });
        let key = Key { time_created_us: -5, id: "ocid1.card".to_owned(), name: "näme".to_owned() };
        let token = query.token("card", &key).to_string();
        let mut bytes = data_encoding::BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        if let Ok(token) = PageToken::parse(&data_encoding::BASE64URL_NOPAD.encode(&bytes)) {
            let _ = query.after(Some(token)).statement("card");
        }
    }
}

#[test]
fn refuses_a_token_longer_than_any_of_its_own() {
    assert!(PageToken::parse(&"A".repeat(super::PAGE_TOKEN_BYTES_MAX + 1)).is_err());
    assert!(PageToken::parse("").is_err());
}
