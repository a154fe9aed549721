//! Pre-authenticated requests: what their URLs are good for, and for how long.

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::stage::{Stage, noise};

/// Makes a pre-authenticated request for the bucket `b`; answers the path of its URL.
pub(crate) async fn preauthenticated(stage: &Stage, details: Value) -> String {
    let mut details = details;
    details["name"] = "mine".into();
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    details["timeExpires"] = later.to_string().into();
    let made = stage.post(&format!("{}/b/b/p", stage.root), &details).await.ok().json();
    let uri = made["accessUri"].as_str().unwrap().to_owned();
    let host = format!("https://objectstorage.test-1.test.localhost:{}", stage.config.port);
    assert_eq!(made["fullPath"], format!("{host}{uri}"));
    uri
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pre_authenticated_request_is_good_for_what_it_says_and_nothing_else() {
    let stage = Stage::with_bucket().await;
    for name in ["in/a", "in/b", "out"] {
        stage.put(&stage.object(name), name.as_bytes()).await.ok();
    }
    // Type and object; then whether `in/a`, `in/b` and `out` may be read, and the same for writing.
    for (access, object, reads, writes) in [
        ("ObjectRead", Some("in/a"), [true, false, false], [false; 3]),
        ("ObjectWrite", Some("in/a"), [false; 3], [true, false, false]),
        ("ObjectReadWrite", Some("in/a"), [true, false, false], [true, false, false]),
        ("AnyObjectRead", None, [true; 3], [false; 3]),
        ("AnyObjectWrite", None, [false; 3], [true; 3]),
        ("AnyObjectReadWrite", None, [true; 3], [true; 3]),
        ("AnyObjectReadWrite", Some("in/"), [true, true, false], [true, true, false]),
    ] {
        let uri =
            preauthenticated(&stage, json!({"accessType": access, "objectName": object})).await;
        let (secret, _) = uri.split_once("/o/").unwrap();
        for (at, name) in ["in/a", "in/b", "out"].into_iter().enumerate() {
            let target = format!("{secret}/o/{name}");
            for method in [Method::GET, Method::HEAD] {
                let got = stage.unsigned(method, &target, b"", &[]).await;
                assert_eq!(
                    got.status,
                    if reads[at] { 200 } else { 404 },
                    "{access} {object:?} {name}"
                );
            }
            let put = stage.unsigned(Method::PUT, &target, name.as_bytes(), &[]).await;
            assert_eq!(
                put.status,
                if writes[at] { 200 } else { 404 },
                "{access} {object:?} {name}"
            );
        }
        let delete = stage.unsigned(Method::DELETE, &uri, b"", &[]).await;
        assert!([405, 401, 404].contains(&delete.status), "{}", delete.status);
        let list = stage.unsigned(Method::GET, &format!("{secret}/o"), b"", &[]).await;
        list.refused(404, "NotAuthorizedOrNotFound");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pre_authenticated_requests_are_listed_without_their_secret_and_end() {
    let stage = Stage::with_bucket().await;
    stage.put(&stage.object("in/a%20b"), b"a").await.ok();
    let requests = format!("{}/b/b/p", stage.root);
    let read = json!({"accessType": "ObjectRead", "objectName": "in/a b"});
    let uri = preauthenticated(&stage, read.clone()).await;
    assert!(uri.ends_with("/o/in/a%20b"), "{uri}");
    assert_eq!(stage.unsigned(Method::GET, &uri, b"", &[]).await.ok().body, b"a");
    let secret = uri.split('/').nth(2).unwrap().to_owned();
    let listed = stage.get(&format!("{requests}?objectNamePrefix=in")).await.ok();
    assert!(!String::from_utf8_lossy(&listed.body).contains(&secret));
    let id = listed.json()[0]["id"].as_str().unwrap().to_owned();
    let one = stage.get(&format!("{requests}/{id}")).await.ok().json();
    assert_eq!(one["objectName"], "in/a b");
    let forged = uri.replace(&secret, &id);
    let refused = stage.unsigned(Method::GET, &forged, b"", &[]).await;
    refused.refused(404, "NotAuthorizedOrNotFound");
    let elsewhere = uri.replace("/b/b/", "/b/c/");
    stage.unsigned(Method::GET, &elsewhere, b"", &[]).await.refused(404, "NotAuthorizedOrNotFound");
    stage.delete(&format!("{requests}/{id}")).await.ok();
    stage.unsigned(Method::GET, &uri, b"", &[]).await.refused(404, "NotAuthorizedOrNotFound");

    let any = json!({"accessType": "AnyObjectRead", "objectName": "in/", "bucketListingAction": "ListObjects"});
    let uri = preauthenticated(&stage, any).await;
    let shown = stage.unsigned(Method::GET, &format!("{uri}?prefix=in/"), b"", &[]).await.ok();
    assert_eq!(shown.json()["objects"][0]["name"], "in/a b");
    stage.unsigned(Method::GET, &uri, b"", &[]).await.refused(400, "InvalidParameter");
    stage.delete(&stage.object("in/a%20b")).await.ok();
    let refused = stage.delete(&format!("{}/b/b", stage.root)).await.refused(409, "BucketNotEmpty");
    assert!(refused.contains("pre-authenticated"), "{refused}");

    for (field, value) in [
        ("timeExpires", json!("2020-01-01T00:00:00Z")),
        ("objectName", json!(null)),
        ("bucketListingAction", json!("ListObjects")),
        ("accessType", json!("ObjectDelete")),
    ] {
        let mut details = read.clone();
        details["name"] = "x".into();
        details["timeExpires"] = "2099-01-01T00:00:00Z".into();
        details[field] = value;
        let refused = stage.post(&requests, &details).await;
        assert!(refused.json()["message"].as_str().unwrap().starts_with(field), "{refused:?}");
        assert_eq!(refused.status, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_uploaded_in_parts_by_a_pre_authenticated_request() {
    let stage = Stage::with_bucket().await;
    let uri = preauthenticated(&stage, json!({"accessType": "AnyObjectWrite"})).await;
    let target = format!("{uri}deep/one");
    let in_parts = [("opc-multipart", "true"), ("opc-meta-colour", "red")];
    let begun = stage.unsigned(Method::PUT, &target, b"", &in_parts).await.ok().json();
    let parts = begun["accessUri"].as_str().unwrap().to_owned();
    assert!(parts.contains("/u/deep/one/id/") && parts.ends_with('/'), "{parts}");
    let bytes = [noise(1, 100_000), noise(2, 5)];
    for (number, part) in [(2, &bytes[1]), (1, &bytes[0])] {
        stage.unsigned(Method::PUT, &format!("{parts}{number}"), part, &[]).await.ok();
    }
    let committed = stage.unsigned(Method::POST, &parts, b"", &[]).await.ok();
    assert!(committed.header("opc-multipart-md5").unwrap().ends_with("-2"));
    let got = stage.get(&stage.object("deep/one")).await.ok();
    assert!(got.body == bytes.concat());
    assert_eq!(got.header("opc-meta-colour"), Some("red"));

    let begun = stage.unsigned(Method::PUT, &target, b"", &in_parts).await.ok().json();
    let parts = begun["accessUri"].as_str().unwrap();
    stage.unsigned(Method::DELETE, parts, b"", &[]).await.ok();
    let gone = stage.unsigned(Method::PUT, &format!("{parts}1"), b"x", &[]).await;
    gone.refused(404, "UploadNotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_during_an_upload_is_good_for_nothing_at_its_end() {
    let stage = Stage::with_bucket().await;
    let uri = preauthenticated(&stage, json!({"accessType": "AnyObjectWrite"})).await;
    let host = format!("localhost:{}", stage.config.port);
    let head = format!(
        "PUT {uri}slow HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 4\r\n\r\n"
    );
    let mut upload = stage.connect().await;
    upload.write_all(format!("{head}ab").as_bytes()).await.unwrap();
    upload.flush().await.unwrap();
    let requests = format!("{}/b/b/p", stage.root);
    let id = stage.get(&requests).await.ok().json()[0]["id"].as_str().unwrap().to_owned();
    stage.delete(&format!("{requests}/{id}")).await.ok();
    let _ = upload.write_all(b"cd").await;
    let mut answer = Vec::new();
    let _ = upload.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
    stage.get(&stage.object("slow")).await.refused(404, "ObjectNotFound");
}
