//! What an object says about itself beside its bytes: the headers it is handed out with, and its metadata.

use std::collections::BTreeMap;

use calotype_api::error::ApiError;
use calotype_api::object_head::{METADATA_PREFIX, measured, metadata};
use calotype_api::objects::{CreateMultipartUploadDetails, StorageTier};
use serde::{Deserialize, Serialize};

use crate::http::{Reply, Request};

/// The content type of an object of which nobody said one.
const CONTENT_TYPE_DEFAULT: &str = "application/octet-stream";

/// Headers by which a client asks for what is not done here, so that it does not believe it was.
const NOT_SUPPORTED: &[&str] = &[
    "opc-sse-customer-algorithm",
    "opc-sse-customer-key",
    "opc-sse-customer-key-sha256",
    "opc-source-sse-customer-algorithm",
    "opc-sse-kms-key-id",
    "opc-checksum-algorithm",
    "opc-content-crc32c",
    "opc-content-sha256",
    "opc-content-sha384",
];

/// What an object says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `opc-meta-*`, without the prefix.
    pub metadata: BTreeMap<String, String>,
}

impl Attributes {
    /// Those that the request of an upload has in its head.
    pub fn of(request: &Request) -> Result<Self, ApiError> {
        refuse_not_supported(request)?;
        let tier = request.header("storage-tier")?;
        if tier.is_some_and(|tier| tier != StorageTier::Standard.as_str()) {
            return Err(only_standard("storage-tier"));
        }
        Ok(Self {
            content_type: measured("content-type", request.header("content-type")?)?,
            content_language: measured("content-language", request.header("content-language")?)?,
            content_encoding: measured("content-encoding", request.header("content-encoding")?)?,
            content_disposition: measured(
                "content-disposition",
                request.header("content-disposition")?,
            )?,
            cache_control: measured("cache-control", request.header("cache-control")?)?,
            metadata: metadata(request.header_family(METADATA_PREFIX)?)?,
        })
    }

    /// Those that an upload in parts begins with.
    pub fn of_upload(details: CreateMultipartUploadDetails) -> Result<Self, ApiError> {
        check_tier("storageTier", details.storage_tier)?;
        Ok(Self {
            content_type: measured("contentType", details.content_type)?,
            content_language: measured("contentLanguage", details.content_language)?,
            content_encoding: measured("contentEncoding", details.content_encoding)?,
            content_disposition: measured("contentDisposition", details.content_disposition)?,
            cache_control: measured("cacheControl", details.cache_control)?,
            metadata: metadata(details.metadata.unwrap_or_default())?,
        })
    }

    /// `reply` with the headers of an object that has these.
    pub fn tell(&self, reply: Reply) -> Reply {
        let content_type = self.content_type.as_deref().unwrap_or(CONTENT_TYPE_DEFAULT);
        let mut reply = reply.header("content-type", content_type);
        for (name, value) in [
            ("content-language", &self.content_language),
            ("content-encoding", &self.content_encoding),
            ("content-disposition", &self.content_disposition),
            ("cache-control", &self.cache_control),
        ] {
            if let Some(value) = value {
                reply = reply.header(name, value);
            }
        }
        self.metadata.iter().fold(reply, |reply, (name, value)| {
            reply.header(format!("{METADATA_PREFIX}{name}"), value)
        })
    }
}

/// Refuses a request for what is not done here: encryption with keys of one's own, other checksums than MD5.
pub fn refuse_not_supported(request: &Request) -> Result<(), ApiError> {
    for name in NOT_SUPPORTED {
        super::super::refuse_given(&[(*name, request.header(name)?.is_some())])?;
    }
    Ok(())
}

/// Refuses another tier than the one there is.
pub fn check_tier(field: &str, tier: Option<StorageTier>) -> Result<(), ApiError> {
    match tier {
        None | Some(StorageTier::Standard) => Ok(()),
        Some(_) => Err(only_standard(field)),
    }
}

fn only_standard(field: &str) -> ApiError {
    ApiError::invalid_parameter(field, "can only be Standard in this region")
}
