//! Object storage as the command needs it: a bucket for files on their way, uploads in parts, downloads.

use std::io::SeekFrom;
use std::path::Path;

use anyhow::Context as _;
use calotype_api::sign;
use jiff::Timestamp;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use super::{Client, Refused, refused};

/// Files on their way in and out; whoever looks into the region's buckets sees what it is.
pub const BUCKET: &str = "calotype-transfer";
/// A part of an upload, unless there would be too many of them.
const PART_BYTES: u64 = 16 << 20;
/// Parts that an upload may have.
const PARTS_MAX: u64 = 10_000;

/// Object storage of a region.
pub struct Objects<'a> {
    client: &'a Client,
    namespace: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upload {
    upload_id: String,
}

impl Client {
    /// The region's object storage, with the bucket for files on their way.
    pub async fn objects(&self) -> anyhow::Result<Objects<'_>> {
        let namespace: String = self.object_request(Method::GET, "/n", None).await?.json().await?;
        let details = json!({ "name": BUCKET, "compartmentId": self.tenancy() });
        let target = format!("/n/{namespace}/b");
        match self.object_request(Method::POST, &target, Some(&details)).await {
            Ok(_) => {}
            Err(error) if is(&error, StatusCode::CONFLICT) => {}
            Err(error) => return Err(error),
        }
        Ok(Objects { client: self, namespace })
    }

    async fn object_request(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let now = Timestamp::now().as_second();
        let host = &self.objects_host;
        let body = body.map(ToString::to_string).unwrap_or_default().into_bytes();
        let signed = sign::sign(&self.key, &self.key_id, &method, target, host, &body, now)?;
        let url = format!("https://{host}{target}");
        let request = self.request(method, url, signed).body(body);
        answered(request.send().await.context("the region does not answer")?).await
    }

    async fn put_bytes(&self, target: &str, bytes: Vec<u8>) -> anyhow::Result<Response> {
        let now = Timestamp::now().as_second();
        let host = &self.objects_host;
        let signed = sign::sign_upload(&self.key, &self.key_id, &Method::PUT, target, host, now)?;
        let url = format!("https://{host}{target}");
        let request = self.request(Method::PUT, url, signed).body(bytes);
        answered(request.send().await.context("the region does not answer")?).await
    }
}

fn is(error: &anyhow::Error, status: StatusCode) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == status)
}

async fn answered(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    Err(refused(status, &response.bytes().await?).into())
}

impl Objects<'_> {
    /// Where an object of the bucket is, as imports and exports have it.
    pub fn place(&self, object: &str) -> Value {
        json!({ "namespaceName": self.namespace, "bucketName": BUCKET, "objectName": object })
    }

    fn target(&self, kind: char, object: &str) -> String {
        format!("/n/{}/b/{BUCKET}/{kind}/{object}", self.namespace)
    }

    /// Uploads a file in parts; what was uploaded of one that fails is given up.
    pub async fn upload(
        &self,
        file: &Path,
        object: &str,
        progress: impl Fn(u64),
    ) -> anyhow::Result<()> {
        let details = json!({ "object": object });
        let target = format!("/n/{}/b/{BUCKET}/u", self.namespace);
        let begun = self.client.object_request(Method::POST, &target, Some(&details)).await?;
        let Upload { upload_id } = begun.json().await?;
        let target = format!("{}?uploadId={upload_id}", self.target('u', object));
        let sent = self.upload_parts(file, &target, progress).await;
        if sent.is_err() {
            // It has failed already; what stays is seen in the bucket.
            let _ = self.client.object_request(Method::DELETE, &target, None).await;
        }
        sent
    }

    async fn upload_parts(
        &self,
        file: &Path,
        target: &str,
        progress: impl Fn(u64),
    ) -> anyhow::Result<()> {
        let reading = || format!("cannot read {}", file.display());
        let mut source = File::open(file).await.with_context(reading)?;
        let size_bytes = source.metadata().await.with_context(reading)?.len();
        let part_bytes = PART_BYTES.max(size_bytes.div_ceil(PARTS_MAX).next_multiple_of(1 << 20));
        let (mut sent_bytes, mut parts) = (0, Vec::new());
        for number in 1.. {
            let mut part = Vec::new();
            (&mut source).take(part_bytes).read_to_end(&mut part).await.with_context(reading)?;
            if part.is_empty() && number > 1 {
                break;
            }
            sent_bytes += part.len() as u64;
            let target = format!("{target}&uploadPartNum={number}");
            let answer = self.client.put_bytes(&target, part).await?;
            let etag = answer.headers().get("etag").context("a part without an etag")?.to_str()?;
            parts.push(json!({ "partNum": number, "etag": etag }));
            progress(sent_bytes);
        }
        let commit = json!({ "partsToCommit": parts });
        self.client.object_request(Method::POST, target, Some(&commit)).await.map(drop)
    }

    /// Downloads an object into a new file, with holes where it has zeros.
    pub async fn download(
        &self,
        object: &str,
        target: std::fs::File,
        progress: impl Fn(u64, u64),
    ) -> anyhow::Result<()> {
        let writing = "cannot write the file";
        let mut target = File::from_std(target);
        let mut answer =
            self.client.object_request(Method::GET, &self.target('o', object), None).await?;
        let size_bytes = answer.content_length().context("an object without a length")?;
        let (mut received_bytes, mut written_to) = (0, 0);
        while let Some(bytes) = answer.chunk().await? {
            let begin = received_bytes;
            received_bytes += bytes.len() as u64;
            if bytes.iter().any(|byte| *byte != 0) {
                if begin > written_to {
                    target.seek(SeekFrom::Start(begin)).await.context(writing)?;
                }
                target.write_all(&bytes).await.context(writing)?;
                written_to = received_bytes;
            }
            progress(received_bytes, size_bytes);
        }
        anyhow::ensure!(received_bytes == size_bytes, "the object ended early: try again");
        target.set_len(size_bytes).await.context(writing)?;
        target.sync_all().await.context(writing)
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, object: &str) -> anyhow::Result<()> {
        match self.client.object_request(Method::DELETE, &self.target('o', object), None).await {
            Err(error) if !is(&error, StatusCode::NOT_FOUND) => Err(error),
            _ => Ok(()),
        }
    }
}
