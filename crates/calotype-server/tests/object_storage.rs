//! Object storage as its clients see it, over real connections; and as imports and exports use it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use calotype_api::images::ImageState;
use calotype_server::app::images::agenda;
use calotype_server::app::platform_images::{self, RegisterPlatformImageDetails};
use calotype_server::db::{Batch, Versioned};
use calotype_server::records::ImageRecord;
use calotype_server::region::Region;
use data_encoding::BASE64;
use http::Method;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

mod object_storage {
    mod by_url;
    mod inside;
    pub(crate) mod stage;
}

use object_storage::stage::{Stage, noise};

fn md5(bytes: &[u8]) -> String {
    BASE64.encode(&Md5::digest(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_made_changed_and_deleted() {
    let stage = Stage::start().await;
    let buckets = format!("{}/b", stage.root);
    let details = json!({"name": "B_1.x-y", "compartmentId": stage.config.tenancy,
        "freeformTags": {"a": "1"}, "metadata": {"Colour": "red"}});
    let made = stage.post(&buckets, &details).await.ok();
    assert_eq!(made.json()["etag"], made.etag());
    assert_eq!(made.json()["createdBy"], stage.user().as_str());
    assert_eq!(made.json()["metadata"], json!({"colour": "red"}));
    assert_eq!(made.json()["publicAccessType"], "NoPublicAccess");
    stage.post(&buckets, &details).await.refused(409, "BucketAlreadyExists");

    let bucket = format!("{buckets}/B_1.x-y");
    assert_eq!(stage.get(&bucket).await.ok().json(), made.json());
    let head = stage.ask(Method::HEAD, &bucket, b"").await.ok();
    assert_eq!(head.etag(), made.etag());
    let known = [("if-none-match", &*made.etag())];
    assert_eq!(stage.ask_with(Method::GET, &bucket, b"", &known).await.status, 304);

    let change = json!({"metadata": {"colour": "", "size": "big"}, "freeformTags": {}});
    let outdated = [("if-match", "0")];
    let body = change.to_string();
    let refused = stage.ask_with(Method::POST, &bucket, body.as_bytes(), &outdated).await;
    refused.refused(412, "IfMatchFailed");
    let changed = stage.post(&bucket, &change).await.ok();
    assert_eq!(changed.json()["metadata"], json!({"size": "big"}));
    assert_eq!(changed.json()["freeformTags"], json!({}));
    assert_ne!(changed.etag(), made.etag());

    stage.bucket("a").await;
    let list = format!("{buckets}?compartmentId={}", stage.config.tenancy);
    let listed = stage.get(&list).await.ok();
    let names = |listed: &Value| -> Vec<String> {
        listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().into()).collect()
    };
    assert_eq!(names(&listed.json()), ["B_1.x-y", "a"]);
    let first = stage.get(&format!("{list}&limit=1")).await.ok();
    let next = format!("{list}&limit=1&page={}", first.header("opc-next-page").unwrap());
    let second = stage.get(&next).await.ok();
    assert_eq!((names(&second.json()), second.header("opc-next-page")), (vec!["a".into()], None));
    stage.delete(&bucket).await.ok();
    stage.get(&bucket).await.refused(404, "BucketNotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bucket_cannot_be_is_refused() {
    let stage = Stage::start().await;
    let buckets = format!("{}/b", stage.root);
    let details = |field: &str, value: Value| {
        let mut details = json!({"name": "b", "compartmentId": stage.config.tenancy});
        details[field] = value;
        details
    };
    for name in ["", "a b", "a/b", "ä", &"x".repeat(257)] {
        let refused = stage.post(&buckets, &details("name", name.into())).await;
        refused.refused(400, "InvalidBucketName");
    }
    for (field, value) in [
        ("publicAccessType", "ObjectRead"),
        ("storageTier", "Archive"),
        ("versioning", "Enabled"),
        ("autoTiering", "InfrequentAccess"),
        ("kmsKeyId", "ocid1.key.oc99..aaaa"),
    ] {
        let refused = stage.post(&buckets, &details(field, value.into())).await;
        let message = refused.refused(400, "InvalidParameter");
        assert!(message.starts_with(field), "{message}");
    }
    let elsewhere = details("compartmentId", "ocid1.compartment.oc99..nobody".into());
    stage.post(&buckets, &elsewhere).await.refused(404, "NotAuthorizedOrNotFound");
    let other = stage.post("/n/other/b", &details("name", "b".into())).await;
    other.refused(404, "NamespaceNotFound");
    for target in ["/b/none", "/b/none/o", "/b/none/o/x", "/b/none/u", "/b/none/p"] {
        let refused = stage.get(&format!("{}{target}", stage.root)).await;
        refused.refused(404, "BucketNotFound");
    }
    stage.put(&format!("{}/b/none/o/x", stage.root), b"x").await.refused(404, "BucketNotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_any_size_come_back_as_they_were_put() {
    let stage = Stage::with_bucket().await;
    for size in [0, 1, 65_535, 65_536, 65_537, 3_000_001] {
        let bytes = noise(size as u64, size);
        let target = stage.object(&format!("size/{size}"));
        let put = stage.put(&target, &bytes).await.ok();
        assert_eq!(put.header("opc-content-md5"), Some(&*md5(&bytes)));
        let got = stage.get(&target).await.ok();
        assert!(got.body == bytes, "{size}");
        assert_eq!(got.etag(), put.etag());
        assert_eq!(got.header("content-md5"), Some(&*md5(&bytes)));
        assert_eq!(got.header("content-type"), Some("application/octet-stream"));
        assert!(got.header("last-modified").unwrap().ends_with(" GMT"));
        let head = stage.ask(Method::HEAD, &target, b"").await.ok();
        assert_eq!(head.header("content-length"), Some(&*size.to_string()));
    }
    let target = stage.object("size/3000001");
    let bytes = noise(3_000_001, 3_000_001);
    let range = [("range", "bytes=1000000-2999999")];
    let got = stage.ask_with(Method::GET, &target, b"", &range).await;
    assert_eq!(
        (got.status, got.header("content-range")),
        (206, Some("bytes 1000000-2999999/3000001"))
    );
    assert!(got.body == bytes[1_000_000..3_000_000]);
    let behind = [("range", "bytes=3000001-")];
    stage.ask_with(Method::GET, &target, b"", &behind).await.refused(416, "InvalidRange");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_object_says_about_itself_is_told_to_who_gets_it() {
    let stage = Stage::with_bucket().await;
    let says = [
        ("content-type", "text/plain"),
        ("content-language", "de"),
        ("content-encoding", "identity"),
        ("content-disposition", "inline"),
        ("cache-control", "no-store"),
        ("opc-meta-Colour", "dark red"),
    ];
    let target = stage.object("one");
    stage.put_with(&target, b"x", &says).await.ok();
    for method in [Method::GET, Method::HEAD] {
        let told = stage.ask(method, &target, b"").await.ok();
        for (name, value) in says {
            assert_eq!(told.header(&name.to_lowercase()), Some(value));
        }
    }
    let other = "?httpResponseContentType=a%2Fb&httpResponseContentDisposition=attachment";
    let told = stage.get(&format!("{target}{other}")).await.ok();
    assert_eq!(told.header("content-type"), Some("a/b"));
    assert_eq!(told.header("content-disposition"), Some("attachment"));
    let forged = stage.get(&format!("{target}?httpResponseContentType=a%0d%0ab:c")).await;
    forged.refused(400, "InvalidParameter");
    for unusable in [("opc-sse-customer-algorithm", "AES256"), ("storage-tier", "Archive")] {
        let refused = stage.put_with(&target, b"x", &[unusable]).await;
        refused.refused(400, "InvalidParameter");
    }
    let much = "x".repeat(4001);
    let refused = stage.put_with(&target, b"x", &[("opc-meta-a", &much)]).await;
    assert!(refused.refused(400, "InvalidParameter").contains("the limit is 4000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_decide_what_is_replaced_and_what_is_sent() {
    let stage = Stage::with_bucket().await;
    let target = stage.object("one");
    let absent = [("if-none-match", "*")];
    let first = stage.put_with(&target, b"1", &absent).await.ok().etag();
    stage.put_with(&target, b"2", &absent).await.refused(412, "IfNoneMatchFailed");
    let second = stage.put_with(&target, b"2", &[("if-match", &first)]).await.ok().etag();
    let outdated = [("if-match", &*first)];
    stage.put_with(&target, b"3", &outdated).await.refused(412, "IfMatchFailed");
    stage.put_with(&stage.object("two"), b"3", &outdated).await.refused(412, "IfMatchFailed");
    stage.ask_with(Method::GET, &target, b"", &outdated).await.refused(412, "IfMatchFailed");
    let known = [("if-none-match", &*second)];
    let same = stage.ask_with(Method::GET, &target, b"", &known).await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    stage.ask_with(Method::DELETE, &target, b"", &outdated).await.refused(412, "IfMatchFailed");
    assert_eq!(stage.get(&target).await.ok().body, b"2");
    stage.ask_with(Method::DELETE, &target, b"", &[("if-match", &second)]).await.ok();
    stage.get(&target).await.refused(404, "ObjectNotFound");
    stage.delete(&target).await.refused(404, "ObjectNotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_what_its_digest_says_leaves_nothing() {
    let stage = Stage::with_bucket().await;
    let (target, bytes) = (stage.object("one"), noise(1, 200_000));
    let wrong = [("content-md5", &*md5(b"other"))];
    let message = stage.put_with(&target, &bytes, &wrong).await.refused(400, "UnmatchedContentMD5");
    assert!(message.contains(&md5(&bytes)), "{message}");
    let no_md5 = [("content-md5", "AAAA")];
    stage.put_with(&target, &bytes, &no_md5).await.refused(400, "InvalidParameter");
    stage.get(&target).await.refused(404, "ObjectNotFound");
    assert_eq!(stage.collect().await, 0);
    stage.put_with(&target, &bytes, &[("content-md5", &md5(&bytes))]).await.ok();
    assert!(stage.collect().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_cut_short_leaves_no_object_and_its_space_is_given_back() {
    let mut stage = Stage::with_bucket().await;
    let (target, bytes) = (stage.object("one"), noise(1, 2 << 20));
    stage.put(&target, b"before").await.ok();
    // Enough that something of it is stored, and less than was promised.
    let mut stream = stage.connect().await;
    let head = stage.upload_head(&target, 64 << 20, &[]);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    drop(stream);
    // Whatever goes on has ended when the region can be opened again.
    stage.restart().await;
    assert_eq!(stage.get(&target).await.ok().body, b"before");
    stage.collect().await;
    assert_eq!(stage.region().store.usage().manifests, 1);
    assert_eq!(stage.region().store.usage().chunks, 1);
    assert_eq!(
        stage.put(&target, &bytes).await.ok().header("opc-content-md5"),
        Some(&*md5(&bytes))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_sizes_have_limits() {
    let stage = Stage::with_bucket().await;
    for name in ["%00", "a%0Ab", "a%0D", &"x".repeat(1025)] {
        stage.put(&stage.object(name), b"x").await.refused(400, "InvalidObjectName");
    }
    for name in ["..", "a//b", "%2F", "a%20%3F%23%25", "%F0%9F%93%B7", &"x".repeat(1024)] {
        stage.put(&stage.object(name), name.as_bytes()).await.ok();
        assert_eq!(stage.get(&stage.object(name)).await.ok().body, name.as_bytes());
    }
    let mut stream = stage.connect().await;
    let head = stage.upload_head(&stage.object("large"), (50 << 30) + 1, &[]);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_what_was_asked_for_page_by_page() {
    let stage = Stage::with_bucket().await;
    for name in ["a/1", "a/2", "b", "c/1", "d"] {
        stage.put(&stage.object(name), name.as_bytes()).await.ok();
    }
    let list = format!("{}/b/b/o", stage.root);
    let page = stage.get(&format!("{list}?delimiter=%2F&limit=3")).await.ok().json();
    assert_eq!(page["prefixes"], json!(["a/", "c/"]));
    assert_eq!(page["objects"][0]["name"], "b");
    assert_eq!(page["objects"][0]["size"], Value::Null);
    assert_eq!(page["nextStartWith"], "d");
    let page = stage.get(&format!("{list}?start=d&fields=name,size,md5,etag,timeCreated")).await;
    let page = page.ok().json();
    assert_eq!(page["objects"][0]["size"], 1);
    assert_eq!(page["objects"][0]["md5"], md5(b"d"));
    assert_eq!(page["nextStartWith"], Value::Null);
    let page = stage.get(&format!("{list}?prefix=a%2F&startAfter=a%2F1&end=a%2F3")).await.ok();
    assert_eq!(page.json()["objects"].as_array().unwrap().len(), 1);
    let counted = format!("{}/b/b?fields=approximateCount,approximateSize", stage.root);
    let counted = stage.get(&counted).await.ok().json();
    assert_eq!(
        (&counted["approximateCount"], &counted["approximateSize"]),
        (&json!(5), &json!(11))
    );
    for wrong in ["limit=0", "limit=1001", "fields=colour", "start=a&startAfter=b", "prefix=%00"] {
        stage.get(&format!("{list}?{wrong}")).await.refused(400, "InvalidParameter");
    }
    let refused = stage.delete(&format!("{}/b/b", stage.root)).await.refused(409, "BucketNotEmpty");
    assert!(refused.contains("objects"), "{refused}");
}

async fn begin_upload(stage: &Stage, object: &str) -> (String, String) {
    let details = json!({"object": object, "metadata": {"opc-meta-colour": "red"}});
    let begun = stage.post(&format!("{}/b/b/u", stage.root), &details).await.ok().json();
    let id = begun["uploadId"].as_str().unwrap().to_owned();
    (format!("{}/b/b/u/{object}?uploadId={id}", stage.root), id)
}

fn part(number: u32, etag: &str) -> Value {
    json!({"partNum": number, "etag": etag})
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_in_any_order_become_an_object_without_a_copy() {
    let stage = Stage::with_bucket().await;
    let (upload, id) = begin_upload(&stage, "one").await;
    let parts = [noise(1, 300_001), noise(2, 65_536), noise(3, 7)];
    let mut etags = Vec::new();
    for (number, part) in [(7, &parts[1]), (9, &parts[2]), (3, &parts[2]), (3, &parts[0])] {
        let put = stage.put(&format!("{upload}&uploadPartNum={number}"), part).await.ok();
        assert_eq!(put.header("opc-content-md5"), Some(&*md5(part)));
        etags.push(put.etag());
    }
    let listed = stage.get(&upload).await.ok().json();
    let numbers: Vec<_> = listed.as_array().unwrap().iter().map(|one| &one["partNumber"]).collect();
    assert_eq!(numbers, [3, 7, 9]);
    let uploads = stage.get(&format!("{}/b/b/u", stage.root)).await.ok().json();
    assert_eq!(uploads[0]["uploadId"], id);
    stage.get(&stage.object("one")).await.refused(404, "ObjectNotFound");
    let refused = stage.delete(&format!("{}/b/b", stage.root)).await.refused(409, "BucketNotEmpty");
    assert!(refused.contains("multipart"), "{refused}");
    // What is not an object yet is not collected.
    let chunks = stage.collect().await;

    for wrong in [
        json!([part(3, &etags[2])]),
        json!([part(4, &etags[3])]),
        json!([part(3, &etags[3]), part(3, &etags[3])]),
    ] {
        let refused = stage.post(&upload, &json!({"partsToCommit": wrong})).await;
        refused.refused(400, "InvalidUploadPart");
    }
    let none = stage.post(&upload, &json!({"partsToCommit": []})).await;
    none.refused(400, "InvalidParameter");
    let wanted =
        json!({"partsToCommit": [part(9, &etags[1]), part(3, &etags[3]), part(7, &etags[0])]});
    let committed = stage.post(&upload, &wanted).await.ok();
    let digests: Vec<u8> = parts.iter().flat_map(|part| Md5::digest(part).to_vec()).collect();
    let digest = format!("{}-3", md5(&digests));
    assert_eq!(committed.header("opc-multipart-md5"), Some(&*digest));
    let got = stage.get(&stage.object("one")).await.ok();
    assert!(got.body == parts.concat());
    assert_eq!(got.header("opc-multipart-md5"), Some(&*digest));
    assert_eq!(got.header("opc-meta-colour"), Some("red"));
    let range = [("range", "bytes=300000-365540")];
    let got = stage.ask_with(Method::GET, &stage.object("one"), b"", &range).await;
    assert!(got.body == parts.concat()[300_000..365_541]);
    assert_eq!(stage.collect().await, chunks, "no byte was copied");
    stage.post(&upload, &wanted).await.refused(404, "UploadNotFound");
    stage.put(&format!("{upload}&uploadPartNum=1"), b"x").await.refused(404, "UploadNotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_aborted_leaves_nothing() {
    let stage = Stage::with_bucket().await;
    let (upload, _) = begin_upload(&stage, "one").await;
    for number in ["0", "10001", "-1", "x"] {
        let refused = stage.put(&format!("{upload}&uploadPartNum={number}"), b"x").await;
        refused.refused(400, "InvalidParameter");
    }
    stage.put(&format!("{upload}&uploadPartNum=10000"), &noise(1, 100_000)).await.ok();
    let other = upload.replace("/u/one?", "/u/two?");
    stage.get(&other).await.refused(404, "UploadNotFound");
    stage.delete(&upload).await.ok();
    stage.delete(&upload).await.refused(404, "UploadNotFound");
    assert_eq!(stage.collect().await, 0);
    stage.delete(&format!("{}/b/b", stage.root)).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_many_parts_is_copied_renamed_and_deleted_whole() {
    let stage = Stage::with_bucket().await;
    let (upload, _) = begin_upload(&stage, "many").await;
    let parts: Vec<_> = (0..12).map(|seed| noise(seed, 10_000)).collect();
    let mut wanted = Vec::new();
    for (number, bytes) in (1..).zip(&parts) {
        let put = stage.put(&format!("{upload}&uploadPartNum={number}"), bytes).await.ok();
        wanted.push(part(number, &put.etag()));
    }
    stage.post(&upload, &json!({"partsToCommit": wanted})).await.ok();
    let chunks = stage.collect().await;

    stage.bucket("other").await;
    let details = json!({
        "sourceObjectName": "many", "destinationRegion": "test-1",
        "destinationNamespace": stage.root.trim_start_matches("/n/"), "destinationBucket": "other",
        "destinationObjectName": "copy", "destinationObjectMetadata": {"a": "b"},
    });
    let copied = stage.post(&format!("{}/b/b/actions/copyObject", stage.root), &details).await.ok();
    assert_eq!(copied.status, 202);
    let work = copied.header("opc-work-request-id").unwrap();
    let work = stage.get(&format!("/workRequests/{work}")).await.ok().json();
    assert_eq!(
        (&work["status"], &work["operationType"]),
        (&json!("COMPLETED"), &json!("COPY_OBJECT"))
    );
    stage.delete(&stage.object("many")).await.ok();
    assert_eq!(stage.collect().await, chunks);
    let copy = format!("{}/b/other/o", stage.root);
    let got = stage.get(&format!("{copy}/copy")).await.ok();
    assert!(got.body == parts.concat());
    assert_eq!(got.header("opc-meta-a"), Some("b"));

    stage.put(&format!("{copy}/target"), b"in the way").await.ok();
    let rename = format!("{}/b/other/actions/renameObject", stage.root);
    let details = json!({"sourceName": "copy", "newName": "target", "newObjIfNoneMatchETag": "*"});
    stage.post(&rename, &details).await.refused(412, "IfNoneMatchFailed");
    let details = json!({"sourceName": "copy", "newName": "target"});
    stage.post(&rename, &details).await.ok();
    stage.post(&rename, &details).await.refused(404, "ObjectNotFound");
    assert!(stage.get(&format!("{copy}/target")).await.ok().body == parts.concat());
    assert_eq!(stage.collect().await, chunks);
    stage.delete(&format!("{copy}/target")).await.ok();
    assert_eq!(stage.collect().await, 0);
    let elsewhere = json!({
        "sourceObjectName": "many", "destinationRegion": "far-away", "destinationBucket": "b",
        "destinationNamespace": "n", "destinationObjectName": "x",
    });
    let refused = stage.post(&format!("{}/b/b/actions/copyObject", stage.root), &elsewhere).await;
    refused.refused(400, "InvalidParameter");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_one_name_leave_one_whole_object() {
    let stage = Arc::new(Stage::with_bucket().await);
    let writers = (0..8_u64).map(|seed| {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move {
            stage.put(&stage.object("one"), &noise(seed, 150_000)).await.ok();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let got = stage.get(&stage.object("one")).await.ok().body;
    assert!((0..8).any(|seed| got == noise(seed, 150_000)));
    stage.collect().await;
    assert_eq!(stage.region().store.usage().manifests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_token_is_good_for_as_long_as_what_it_made_is_there() {
    let stage = Stage::start().await;
    let (buckets, token) = (format!("{}/b", stage.root), [("opc-retry-token", "once")]);
    let details = json!({"name": "b", "compartmentId": stage.config.tenancy}).to_string();
    let create = || stage.ask_with(Method::POST, &buckets, details.as_bytes(), &token);
    let first = create().await.ok();
    assert_eq!(create().await.ok().json(), first.json());
    stage.delete(&format!("{buckets}/b")).await.ok();
    create().await.refused(409, "InvalidatedRetryToken");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_has_the_digest_that_its_head_says() {
    let stage = Stage::with_bucket().await;
    let sha256 =
        BASE64.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"abc").as_ref());
    let digest = [("x-content-sha256", sha256.as_str())];
    stage.put_with(&stage.object("a"), b"abc", &digest).await.ok();
    let refused = stage.put_with(&stage.object("a"), b"abd", &digest).await;
    assert!(refused.refused(400, "InvalidParameter").starts_with("x-content-sha256"));
    assert_eq!(stage.get(&stage.object("a")).await.ok().body, b"abc");
    let refused = stage.put_with(&stage.object("a"), b"abc", &[("x-content-sha256", "abc")]).await;
    refused.refused(400, "InvalidParameter");
}

/// A custom image of no instance.
fn image(region: &Region) -> ImageRecord {
    let details = RegisterPlatformImageDetails {
        file: "disk".into(),
        display_name: "disk".into(),
        operating_system: "None".into(),
        operating_system_version: "0".into(),
        firmware: calotype_api::images::Firmware::Bios,
    };
    let now = jiff::Timestamp::now();
    let mut image = platform_images::new_record(region, details, 512, now).unwrap();
    image.resource.compartment_id = Some(region.tenancy.clone());
    image
}

/// Writes the image in this state, whatever it was before.
async fn set_state(region: &Region, image: &ImageRecord, state: ImageState) {
    let there = region.db.get::<ImageRecord>(image.resource.id.as_str()).await.unwrap();
    let mut value = there.as_ref().map_or_else(|| image.clone(), |there| there.value.clone());
    value.resource.lifecycle_state = state;
    let batch = match there {
        None => Batch::new().insert(&value),
        Some(there) => Batch::new().replace(&Versioned { value, ..there }),
    };
    region.db.apply(batch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_being_exported_is_not_deleted() {
    let stage = Stage::start().await;
    let image = image(stage.region());
    let delete = format!("/20160918/images/{}", image.resource.id);
    for (state, status) in [(ImageState::Exporting, 409), (ImageState::Available, 204)] {
        set_state(stage.region(), &image, state).await;
        let answer = stage.delete(&delete).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_due_while_it_is_made_is_disabled_when_it_is_made() {
    let stage = Stage::start().await;
    let region = stage.region();
    let image = image(region);
    set_state(region, &image, ImageState::Provisioning).await;
    let now = jiff::Timestamp::now();
    let due = json!({"timeDisabled": now}).to_string();
    let lifecycle = format!("/calotype/images/{}/lifecycle", image.resource.id);
    stage.ask(Method::PUT, &lifecycle, due.as_bytes()).await.ok();
    let after_its_time = async || {
        agenda::run(&region.db, now + jiff::SignedDuration::from_mins(1)).await.unwrap();
        let found = region.db.get::<ImageRecord>(image.resource.id.as_str()).await.unwrap();
        found.unwrap().resource.lifecycle_state
    };
    assert_eq!(after_its_time().await, ImageState::Provisioning);
    set_state(region, &image, ImageState::Available).await;
    assert_eq!(after_its_time().await, ImageState::Disabled);
}
