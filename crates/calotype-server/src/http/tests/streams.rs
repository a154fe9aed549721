//! Bodies that are taken as they arrive, and answers that are sent as they are read.

use std::time::Duration;

use calotype_disk::Source;
use tokio::time::sleep;

use super::*;

/// An object that no buffers between the service and a client have room for.
pub(super) struct Large;

impl Source for Large {
    fn length_bytes(&self) -> u64 {
        64 << 20
    }

    fn read_at(&self, _: u64, buf: &mut [u8]) -> std::io::Result<()> {
        buf.fill(b'x');
        Ok(())
    }
}

/// What every other object holds.
pub(super) fn content() -> Vec<u8> {
    (0..1_000_000_u32).flat_map(u32::to_le_bytes).take(1_000_001).collect()
}

/// Takes the whole body, unless the object is called `refused`.
pub(super) async fn put(echo: &Echo, request: &Request) -> Result<Reply, ApiError> {
    if request.path["objectName"] == "refused" {
        return Err(ApiError::if_none_match_failed());
    }
    let upload = request.upload()?;
    let length = upload.length_bytes()?;
    let mut body = Vec::new();
    let taken = loop {
        match upload.next().await {
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    echo.finished.notify_one();
    taken?;
    Reply::ok(&json!({
        "name": request.path["objectName"],
        "length": length,
        "body": String::from_utf8(body).unwrap(),
        "user": request.principal.user,
    }))
}

#[tokio::test]
async fn an_upload_is_signed_without_its_body_and_nothing_else_is() {
    let region = region().await;
    let mut client = region.client().await;
    let answer = client.send(region.upload("/o/one", "hello")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["body"], "hello");
    // The same headers where the body must be signed.
    let unsigned = region.upload("/20160918/things", "{}");
    let mut other = region.client().await;
    let head = unsigned.head().replacen("PUT", "POST", 1);
    other.write(&(head + "{}")).await;
    refused(&other.read().await.unwrap(), 401, "NotAuthenticated");
}

#[tokio::test]
async fn an_upload_without_a_length_is_refused() {
    let region = region().await;
    let mut client = region.client().await;
    let upload = region.upload("/o/one", "").without("content-length");
    client.write(&(upload.header("transfer-encoding", "chunked").head() + "0\r\n\r\n")).await;
    refused(&client.read().await.unwrap(), 411, "MissingContentLength");
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_go_on_when_its_body_is_wanted() {
    let region = region().await;
    let mut client = region.client().await;
    let upload = region.upload("/o/one", "hello").header("expect", "100-continue");
    client.write(&upload.head()).await;
    assert_eq!(client.read().await.unwrap().status, 100);
    client.write("hello").await;
    assert_eq!(client.read().await.unwrap().json()["body"], "hello");

    let refused_one = region.upload("/o/refused", "hello").header("expect", "100-continue");
    let mut client = region.client().await;
    client.write(&refused_one.head()).await;
    refused(&client.read().await.unwrap(), 412, "IfNoneMatchFailed");
}

#[tokio::test]
async fn a_client_that_is_still_sending_hears_why_it_is_refused() {
    let region = region().await;
    let mut client = region.client().await;
    let answer = client.send(region.upload("/o/refused", &"x".repeat(2_000_000))).await;
    refused(&answer, 412, "IfNoneMatchFailed");
}

#[tokio::test]
async fn an_upload_that_stalls_times_out() {
    let region = region().await;
    let mut client = region.client().await;
    client.write(&(region.upload("/o/one", "hello").head() + "hel")).await;
    tokio::time::pause();
    refused(&client.read().await.unwrap(), 408, "RequestTimeout");
}

#[tokio::test]
async fn the_end_of_a_client_is_the_end_of_its_upload() {
    let region = region().await;
    let mut client = region.client().await;
    client.write(&(region.upload("/o/one", "hello").head() + "hel")).await;
    drop(client);
    region.dispatch.finished.notified().await;
}

#[tokio::test]
async fn the_name_of_an_object_keeps_its_slashes() {
    let region = region().await;
    let mut client = region.client().await;
    for (target, name) in [
        ("/o/a/b", "a/b"),
        ("/o/a%2Fb", "a/b"),
        ("/o/a//b/", "a//b/"),
        ("/o/a%2F", "a/"),
        ("/o/%2F", "/"),
        ("/o/..%2f..%2fetc", "../../etc"),
        ("/o/%C3%A4%20%3F%23", "\u{e4} ?#"),
    ] {
        let answer = client.send(region.upload(target, "x")).await;
        assert_eq!(answer.json()["name"], name, "{target}");
    }
    for target in ["/o/", "/o", "/o/%ff"] {
        let answer = client.send(region.get(target)).await;
        assert_eq!(answer.status, 404, "{target}");
    }
}

#[tokio::test]
async fn a_secret_in_the_path_stands_for_a_signature_and_no_other_does() {
    let region = region().await;
    let put = |target: &str| {
        let mut sent = region.unsigned(Method::PUT, target).header("content-length", "2");
        sent.body = "hi".to_owned();
        sent
    };
    let answer = region.client().await.send(put("/p/secret/o/a/b")).await;
    assert_eq!(answer.json()["user"], USER);
    assert_eq!(answer.json()["name"], "a/b");
    let answer = region.client().await.send(put("/p/guessed/o/a")).await;
    refused(&answer, 404, "NotAuthorizedOrNotFound");
    for target in ["/o/a", "/p/secret/other", "/p/secret"] {
        refused(&region.client().await.send(put(target)).await, 401, "NotAuthenticated");
    }
}

#[tokio::test]
async fn content_is_sent_whole_or_the_range_that_is_asked_for() {
    let region = region().await;
    let mut client = region.client().await;
    let whole = content();
    let answer = client.send(region.get("/o/one")).await;
    assert_eq!((answer.status, &answer.body), (200, &whole));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    for (range, bytes, place) in [
        ("bytes=0-0", 0..1, "bytes 0-0/1000001"),
        ("bytes=65530-65540", 65530..65541, "bytes 65530-65540/1000001"),
        ("bytes=999999-", 999_999..1_000_001, "bytes 999999-1000000/1000001"),
        ("bytes=-300000", 700_001..1_000_001, "bytes 700001-1000000/1000001"),
    ] {
        let answer = client.send(region.get("/o/one").header("range", range)).await;
        assert_eq!((answer.status, answer.body.as_slice()), (206, &whole[bytes]), "{range}");
        assert_eq!(answer.header("content-range"), Some(place));
    }
    let answer = client.send(region.get("/o/one").header("range", "bytes=1000001-")).await;
    refused(&answer, 416, "InvalidRange");
    assert_eq!(answer.header("content-range"), Some("bytes */1000001"));
    let answer = client.send(region.signed(Method::HEAD, "/o/one", "")).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("1000001")));
    assert_eq!(client.send(region.get("/o/two")).await.status, 200, "the connection was left");
}

#[tokio::test]
async fn a_download_that_is_taken_too_slowly_ends() {
    let region = region().await;
    let mut stream = region.connect("localhost").await.unwrap();
    stream.write_all(region.get("/o/large").head().as_bytes()).await.unwrap();
    tokio::time::pause();
    let (mut piece, mut taken) = (vec![0; 16 << 10], 0);
    while stream.read_exact(&mut piece).await.is_ok() {
        taken += piece.len();
        sleep(Duration::from_secs(5)).await;
    }
    assert!(taken < 32 << 20, "{taken} bytes");
}
