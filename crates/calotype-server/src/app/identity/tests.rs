//! Compartments on a catalog of their own.

use calotype_api::ErrorCode;
use calotype_api::identity::CreateCompartmentDetails;
use tempfile::TempDir;

use super::compartments::plan_compartment;
use super::removal::plan_deletion;
use super::tree::{DEPTH_MAX, plan_move};
use super::*;
use crate::db::Db;

const TENANCY: &str = "ocid1.tenancy.oc99..root";

async fn catalog() -> (Db, TempDir) {
    let directory = TempDir::new().unwrap();
    let db = Db::open(&directory.path().join("db")).await.unwrap();
    let root = CompartmentRecord { resource: compartment(TENANCY, None, "root") };
    db.apply(Batch::new().insert(&root)).await.unwrap();
    (db, directory)
}

fn ocid(text: &str) -> Ocid {
    text.parse().unwrap()
}

fn compartment(id: &str, parent: Option<&str>, name: &str) -> Compartment {
    Compartment {
        id: ocid(id),
        compartment_id: parent.map(ocid),
        defined_tags: DefinedTags::new(),
        description: name.to_owned(),
        freeform_tags: FreeformTags::new(),
        inactive_status: None,
        is_accessible: true,
        lifecycle_state: CompartmentState::Active,
        name: name.to_owned(),
        time_created: Timestamp::UNIX_EPOCH.into(),
    }
}

async fn create(db: &Db, id: &str, parent: &str, name: &str) -> Result<Compartment, ApiError> {
    let details = CreateCompartmentDetails {
        compartment_id: ocid(parent),
        defined_tags: None,
        description: "for a test".to_owned(),
        freeform_tags: None,
        name: name.to_owned(),
    };
    let now = Timestamp::UNIX_EPOCH;
    let (record, batch) = plan_compartment(db, ocid(id), details, now).await?;
    db.apply(batch).await?;
    Ok(record.value.resource)
}

#[tokio::test]
async fn a_name_is_unique_in_its_parent_only() {
    let (db, _directory) = catalog().await;
    let first = create(&db, "ocid1.compartment.oc99..a", TENANCY, "team").await.unwrap();
    assert_eq!(first.lifecycle_state, CompartmentState::Active);
    let again = create(&db, "ocid1.compartment.oc99..b", TENANCY, "team").await.unwrap_err();
    assert_eq!(again.code, ErrorCode::Conflict);
    assert_eq!(again.message, "Compartment 'team' already exists");
    create(&db, "ocid1.compartment.oc99..c", first.id.as_str(), "team").await.unwrap();
}

#[tokio::test]
async fn refuses_a_parent_that_is_not_there_and_names_beyond_the_rules() {
    let (db, _directory) = catalog().await;
    let id = "ocid1.compartment.oc99..a";
    let missing = create(&db, id, "ocid1.compartment.oc99..none", "x").await.unwrap_err();
    assert_eq!(missing, ApiError::not_authorized_or_not_found());
    for name in ["", "a b", "a/b", "ä", &"x".repeat(101)] {
        let error = create(&db, id, TENANCY, name).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidParameter);
        assert!(error.message.starts_with("name "), "{error}");
    }
}

#[tokio::test]
async fn nests_six_deep_and_no_deeper() {
    let (db, _directory) = catalog().await;
    let mut parent = TENANCY.to_owned();
    for depth in 1..=DEPTH_MAX {
        let id = format!("ocid1.compartment.oc99..d{depth}");
        create(&db, &id, &parent, "deeper").await.unwrap();
        parent = id;
    }
    let error = create(&db, "ocid1.compartment.oc99..d7", &parent, "deeper").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::LimitExceeded);
}

async fn record(db: &Db, id: &str) -> Versioned<CompartmentRecord> {
    db.get(id).await.unwrap().unwrap()
}

/// A chain of so many compartments below the root, the last of which is returned.
async fn chain(db: &Db, name: &str, levels: usize) -> String {
    let mut parent = TENANCY.to_owned();
    for level in 1..=levels {
        let id = format!("ocid1.compartment.oc99..{name}{level}");
        create(db, &id, &parent, name).await.unwrap();
        parent = id;
    }
    parent
}

async fn moved(db: &Db, id: &str, target: &str) -> Result<(), ApiError> {
    let mut compartment = record(db, id).await;
    let now = Timestamp::UNIX_EPOCH;
    let batch = plan_move(db, &mut compartment, &ocid(target), now).await?;
    Ok(db.apply(batch).await?)
}

async fn delete(db: &Db, id: &str) -> Result<(), ApiError> {
    let batch = plan_deletion(db, &mut record(db, id).await).await?;
    db.apply(batch).await?;
    Ok(db.apply(removed(db, &ocid(id), "abcdefgh").await?).await?)
}

#[tokio::test]
async fn is_moved_with_its_name_and_all_below_it() {
    let (db, _directory) = catalog().await;
    let (left, right) = (chain(&db, "left", 1).await, chain(&db, "right", 1).await);
    create(&db, "ocid1.compartment.oc99..a", &left, "team").await.unwrap();
    create(&db, "ocid1.compartment.oc99..b", &right, "team").await.unwrap();
    let taken = moved(&db, "ocid1.compartment.oc99..a", &right).await.unwrap_err();
    assert_eq!(taken.message, "Compartment 'team' already exists");
    moved(&db, "ocid1.compartment.oc99..a", TENANCY).await.unwrap();
    let line = ancestry(&db, &ocid("ocid1.compartment.oc99..a")).await.unwrap();
    assert_eq!(line, [ocid("ocid1.compartment.oc99..a"), ocid(TENANCY)]);
    // Where it was its name is free, where it is it is not.
    create(&db, "ocid1.compartment.oc99..c", &left, "team").await.unwrap();
    assert!(create(&db, "ocid1.compartment.oc99..d", TENANCY, "team").await.is_err());
}

#[tokio::test]
async fn is_moved_neither_below_itself_nor_deeper_than_six() {
    let (db, _directory) = catalog().await;
    let deep = chain(&db, "deep", 4).await;
    let top = "ocid1.compartment.oc99..deep1";
    for target in [top, &deep] {
        let error = moved(&db, top, target).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidParameter);
        assert!(error.message.contains("lies below it"), "{error}");
    }
    let other = chain(&db, "other", 3).await;
    let error = moved(&db, top, &other).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::LimitExceeded);
    moved(&db, top, "ocid1.compartment.oc99..other2").await.unwrap();
    assert_eq!(ancestry(&db, &ocid(&deep)).await.unwrap().len(), 7);
}

#[tokio::test]
async fn two_that_are_moved_below_each_other_at_once_make_no_circle() {
    let (db, _directory) = catalog().await;
    let (left, right) = (chain(&db, "left", 1).await, chain(&db, "right", 1).await);
    let now = Timestamp::UNIX_EPOCH;
    let first = plan_move(&db, &mut record(&db, &left).await, &ocid(&right), now).await.unwrap();
    let second = plan_move(&db, &mut record(&db, &right).await, &ocid(&left), now).await.unwrap();
    db.apply(first).await.unwrap();
    assert!(db.apply(second).await.unwrap_err().is_conflict());
}

#[tokio::test]
async fn is_deleted_only_if_it_is_empty_and_leaves_its_name() {
    let (db, _directory) = catalog().await;
    let child = chain(&db, "team", 2).await;
    let team = "ocid1.compartment.oc99..team1";
    let error = delete(&db, team).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.message.contains(&format!("such as the compartment {child}")), "{error}");
    delete(&db, &child).await.unwrap();
    delete(&db, team).await.unwrap();
    let deleted = record(&db, team).await;
    assert_eq!(deleted.resource.lifecycle_state, CompartmentState::Deleted);
    assert_eq!(deleted.resource.name, "team.abcdefgh");
    create(&db, "ocid1.compartment.oc99..new", TENANCY, "team").await.unwrap();
}

#[tokio::test]
async fn the_name_of_a_deleted_one_is_cut_to_the_limit() {
    let (db, _directory) = catalog().await;
    let id = "ocid1.compartment.oc99..a";
    create(&db, id, TENANCY, &"x".repeat(100)).await.unwrap();
    delete(&db, id).await.unwrap();
    let name = record(&db, id).await.resource.name.clone();
    assert_eq!(name, format!("{}.abcdefgh", "x".repeat(91)));
}

#[tokio::test]
async fn nothing_comes_into_one_that_is_deleted_at_the_same_moment() {
    let (db, _directory) = catalog().await;
    let team = chain(&db, "team", 1).await;
    let inside = || {
        let child = CompartmentRecord {
            resource: compartment("ocid1.compartment.oc99..in", Some(&team), "in"),
        };
        only_into_active(Batch::new().insert(&child))
    };
    // Whoever is first: a deletion that was planned before something came, and something that comes after it.
    let deletion = plan_deletion(&db, &mut record(&db, &team).await).await.unwrap();
    db.apply(inside()).await.unwrap();
    assert!(db.apply(deletion).await.unwrap_err().is_conflict());
    delete(&db, "ocid1.compartment.oc99..in").await.unwrap();
    let deletion = plan_deletion(&db, &mut record(&db, &team).await).await.unwrap();
    db.apply(deletion).await.unwrap();
    assert!(db.apply(inside()).await.unwrap_err().is_conflict());
    db.apply(kept(&db, &ocid(&team)).await.unwrap()).await.unwrap();
    let again = CompartmentRecord {
        resource: compartment("ocid1.compartment.oc99..again", Some(&team), "again"),
    };
    db.apply(only_into_active(Batch::new().insert(&again))).await.unwrap();
}

#[test]
fn the_fault_domain_is_one_of_three() {
    assert!(FAULT_DOMAINS.contains(&fault_domain(None).unwrap().as_str()));
    assert_eq!(fault_domain(Some("FAULT-DOMAIN-2")).unwrap(), "FAULT-DOMAIN-2");
    let error = fault_domain(Some("FAULT-DOMAIN-4")).unwrap_err();
    assert!(error.message.contains("FAULT-DOMAIN-1, FAULT-DOMAIN-2, FAULT-DOMAIN-3"));
}
