//! Compartments on a catalog of their own.

use calotype_api::ErrorCode;
use tempfile::TempDir;

use super::*;

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

#[test]
fn the_fault_domain_is_one_of_three() {
    assert!(FAULT_DOMAINS.contains(&fault_domain(None).unwrap().as_str()));
    assert_eq!(fault_domain(Some("FAULT-DOMAIN-2")).unwrap(), "FAULT-DOMAIN-2");
    let error = fault_domain(Some("FAULT-DOMAIN-4")).unwrap_err();
    assert!(error.message.contains("FAULT-DOMAIN-1, FAULT-DOMAIN-2, FAULT-DOMAIN-3"));
}
