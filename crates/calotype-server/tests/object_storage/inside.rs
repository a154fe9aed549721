//! Objects as imports and exports use them, from inside the region.

use calotype_api::error::ErrorCode;
use calotype_disk::{Body as _, Source as _};
use calotype_server::app::multipart::writer::ObjectWriter;
use calotype_server::app::objects::address::Address;
use calotype_server::app::objects::attributes::Attributes;
use calotype_server::app::objects::write::{self, Conditions};
use calotype_server::app::objects::{self, NewObject, ObjectSource};
use calotype_server::app::preauthenticated_requests::Access;
use calotype_server::config::ImageConfig;
use calotype_server::db::Batch;
use calotype_server::foreign::{ForeignError, ForeignObject};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::by_url::preauthenticated;
use super::stage::{Stage, noise};

#[tokio::test(flavor = "multi_thread")]
async fn a_url_of_this_region_leads_to_its_object_and_no_other_url_does() {
    let stage = Stage::with_bucket().await;
    let bytes = noise(1, 200_000);
    stage.put(&stage.object("a/b%20c"), &bytes).await.ok();
    let (region, now) = (stage.region(), Timestamp::now());
    let host = format!("https://objectstorage.test-1.test.localhost:{}", stage.config.port);
    let parse = |url: &str| Address::parse(&stage.config, "sourceUri", url);
    let secret = json!({"accessType": "ObjectRead", "objectName": "a/b c"});
    let secret = preauthenticated(&stage, secret).await;
    for path in [stage.object("a/b%20c"), stage.object("a%2Fb%20c"), secret.clone()] {
        let address = parse(&format!("{host}{path}")).unwrap();
        let (object, source) = address.open(region, now).await.unwrap();
        assert_eq!((object.name.as_str(), object.size_bytes), ("a/b c", 200_000));
        let mut read = vec![0; 200_000];
        tokio::task::spawn_blocking(move || source.read_at(0, &mut read).map(|()| read))
            .await
            .unwrap()
            .map(|read| assert!(read == bytes))
            .unwrap();
    }
    let write = parse(&format!("{host}{secret}")).unwrap().check(region, Access::Write, now).await;
    assert_eq!(write.unwrap_err().code, ErrorCode::NotAuthorizedOrNotFound);
    let expired = now + SignedDuration::from_hours(2);
    let expired = parse(&format!("{host}{secret}")).unwrap().open(region, expired).await;
    assert_eq!(expired.err().unwrap().code, ErrorCode::NotAuthorizedOrNotFound);
    let path = stage.object("x");
    for url in [
        format!("http://localhost:{}{path}", stage.config.port),
        format!("https://localhost{path}"),
        format!("https://objectstorage.other-1.test.localhost:{}{path}", stage.config.port),
        format!("https://example.com:{}{path}", stage.config.port),
        format!("{host}/n/x/b/y"),
        format!("{host}/n/x/b/y/o/"),
        format!("{host}{path}?versionId=1"),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ] {
        assert!(parse(&url).is_err(), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_writes_parts_in_any_order_and_its_head_last() {
    let stage = Stage::with_bucket().await;
    let region = stage.region();
    let writer = ObjectWriter::begin(region, "b", "image", Attributes::default()).await.unwrap();
    // Longer than two parts, in pieces that fit none of them.
    let body = noise(1, 33 << 20);
    let (parts, whole) = (writer.body(), body.clone());
    let written = tokio::task::spawn_blocking(move || {
        let mut parts = parts;
        for piece in whole.chunks(1_000_003) {
            parts.append(piece.to_vec())?;
        }
        parts.finish(b"head".to_vec())
    });
    written.await.unwrap().unwrap();
    stage.get(&stage.object("image")).await.refused(404, "ObjectNotFound");
    // Found again by its id alone, as after a crash.
    let again = ObjectWriter::resume(region, writer.upload_id());
    again.commit().await.unwrap();
    let got = stage.get(&stage.object("image")).await.ok();
    assert!(got.body == [b"head".as_slice(), &body].concat());
    assert_eq!(again.commit().await.unwrap_err().code, ErrorCode::UploadNotFound);
    again.abort().await.unwrap();

    stage.delete(&stage.object("image")).await.ok();
    let given_up = ObjectWriter::begin(region, "b", "image", Attributes::default()).await.unwrap();
    given_up.put_part(5, body).await.unwrap();
    given_up.abort().await.unwrap();
    given_up.abort().await.unwrap();
    assert_eq!(stage.collect().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_zeros_of_an_export_are_one_part() {
    const GIB: u64 = 1 << 30;
    let stage = Stage::with_bucket().await;
    let region = stage.region();
    let writer = ObjectWriter::begin(region, "b", "image", Attributes::default()).await.unwrap();
    let (first, last) = (noise(1, 1000), noise(2, 1000));
    let (mut body, pieces) = (writer.body(), (first.clone(), last.clone()));
    let written = tokio::task::spawn_blocking(move || {
        body.append(pieces.0)?;
        body.append_zeros(50)?;
        body.append_zeros(300 * GIB + 7)?;
        body.append(pieces.1)?;
        // Longer than a part, and too short for one of their own.
        body.append_zeros(20 << 20)?;
        body.finish(Vec::new())
    });
    written.await.unwrap().unwrap();
    writer.commit().await.unwrap();
    let (object, source) = objects::open(region, "b", "image").await.unwrap();
    let hole_end = 1050 + 300 * GIB + 7;
    assert_eq!(object.size_bytes, hole_end + 1000 + (20 << 20));
    assert_eq!(source.segments().len(), 4);
    for (end, expected) in [
        (2000, [first, vec![0; 1000]].concat()),
        (hole_end + 1000, [vec![0; 1000], last].concat()),
        (object.size_bytes, vec![0; 2000]),
    ] {
        let range = format!("bytes={}-{}", end - 2000, end - 1);
        let range = [("range", &*range)];
        let got = stage.ask_with(Method::GET, &stage.object("image"), b"", &range).await.ok();
        assert!(got.body == expected, "{range:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_of_the_store_becomes_an_object_as_it_is() {
    let stage = Stage::with_bucket().await;
    let region = stage.region();
    stage.put(&stage.object("one"), &noise(1, 500_000)).await.ok();
    let chunks = stage.collect().await;
    let (object, source) = objects::open(region, "b", "one").await.unwrap();
    let mut segments = source.segments();
    // Its first bytes, and then all of it.
    segments.insert(0, objects::Segment { size_bytes: 70_000, ..segments[0] });
    let new = NewObject {
        bucket: "b".into(),
        name: "two".into(),
        segments,
        md5: None,
        attributes: Attributes::default(),
    };
    let now = Timestamp::now();
    let two = write::write(region, &new, &Conditions::default(), now, Batch::new).await.unwrap();
    assert_eq!(two.size_bytes, object.size_bytes + 70_000);
    drop(source);
    stage.delete(&stage.object("one")).await.ok();
    assert_eq!(stage.collect().await, chunks);
    let bytes = noise(1, 500_000);
    let got = stage.get(&stage.object("two")).await.ok();
    assert!(got.body == [&bytes[..70_000], &bytes].concat());
    assert_eq!(got.header("content-md5"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_reads_as_the_bytes_of_its_parts_wherever_one_looks() {
    let stage = Stage::with_bucket().await;
    let writer =
        ObjectWriter::begin(stage.region(), "b", "one", Attributes::default()).await.unwrap();
    let parts: Vec<_> =
        (0..20_u32).map(|seed| noise(seed.into(), 1 + 9_973 * seed as usize)).collect();
    for (number, part) in (1..).zip(&parts) {
        writer.put_part(number, part.clone()).await.unwrap();
    }
    writer.commit().await.unwrap();
    let (_, source) = objects::open(stage.region(), "b", "one").await.unwrap();
    let whole = parts.concat();
    let ahead = source.clone().read_ahead(tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        check(&source, &whole);
        // The same in order, and by somebody else from the middle.
        let mut buf = vec![0; 40_000];
        for start in (0..whole.len() - buf.len()).step_by(buf.len()) {
            ahead.read_at(start as u64, &mut buf).unwrap();
            assert!(buf == whole[start..start + buf.len()], "{start}");
        }
        check_any(&ahead, &whole);
    })
    .await
    .unwrap();
}

fn check(source: &ObjectSource, whole: &[u8]) {
    check_any(source, whole);
    let mut position = 0;
    while position < source.length_bytes() {
        let (length, is_data) = source.extent_at(position).unwrap();
        assert!(length > 0 && is_data);
        position += length;
    }
    assert_eq!(position, source.length_bytes());
}

fn check_any(source: &dyn calotype_disk::Source, whole: &[u8]) {
    assert_eq!(source.length_bytes(), whole.len() as u64);
    let length = whole.len();
    for (start, end) in
        [(0, length), (0, 0), (length, length), (1, 2), (9_970, 30_000), (length - 1, length)]
    {
        let mut buf = vec![0; end - start];
        source.read_at(start as u64, &mut buf).unwrap();
        assert!(buf == whole[start..end], "{start}..{end}");
    }
    for (start, size) in [(length as u64, 1), (u64::MAX, 1), (0, length + 1)] {
        assert!(source.read_at(start, &mut vec![0; size]).is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_region_is_read_as_it_was_found() {
    let stage = Stage::with_bucket().await;
    let bytes = noise(3, 3_000_001);
    stage.put(&stage.object("a"), &bytes).await.ok();
    let host = format!("localhost:{}", stage.config.port);
    let settings = ImageConfig {
        import_hosts: vec![host.clone()],
        import_authorities: Some(stage.authority()),
        ..ImageConfig::default()
    };
    let read = json!({"accessType": "ObjectRead", "objectName": "a"});
    let url = format!("https://{host}{}", preauthenticated(&stage, read).await);
    let object = ForeignObject::open(&settings, &url).await.unwrap();
    assert_eq!(object.length_bytes(), 3_000_001);
    let object = std::sync::Arc::new(object);
    for (offset, length) in [(0, 3_000_001), (2_999_990, 11), (262_140, 300_000)] {
        let (object, expected) = (object.clone(), bytes[offset..offset + length].to_vec());
        let reading = tokio::task::spawn_blocking(move || {
            let mut read = vec![0; length];
            object.read_at(offset as u64, &mut read).map(|()| assert!(read == expected))
        });
        reading.await.unwrap().unwrap();
    }
    let unsigned = format!("https://{host}{}", stage.object("a"));
    let refused = ForeignObject::open(&settings, &unsigned).await.err().unwrap();
    assert!(matches!(refused, ForeignError::NotThere(_)), "{refused}");
    let strangers = ImageConfig { import_authorities: None, ..settings.clone() };
    let refused = ForeignObject::open(&strangers, &url).await.err().unwrap();
    assert!(matches!(refused, ForeignError::Host(_)), "{refused}");

    let again = ForeignObject::open(&settings, &url).await.unwrap();
    stage.put(&stage.object("a"), b"something else, and shorter").await.ok();
    let reading = tokio::task::spawn_blocking(move || again.read_at(0, &mut [0; 16]));
    let error = reading.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("written anew"), "{error}");
}
