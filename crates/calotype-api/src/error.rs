//! The errors of the API: the one table from meaning to code and status.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::wire_enum::wire_enum;

wire_enum! {
    /// The code of an error, which clients decide by.
    ErrorCode {
        CannotParseRequest = "CannotParseRequest",
        InvalidParameter = "InvalidParameter",
        MissingParameter = "MissingParameter",
        LimitExceeded = "LimitExceeded",
        QuotaExceeded = "QuotaExceeded",
        RelatedResourceNotAuthorizedOrNotFound = "RelatedResourceNotAuthorizedOrNotFound",
        NotAuthenticated = "NotAuthenticated",
        NotAllowed = "NotAllowed",
        NotAuthorizedOrNotFound = "NotAuthorizedOrNotFound",
        NotFound = "NotFound",
        MethodNotAllowed = "MethodNotAllowed",
        IncorrectState = "IncorrectState",
        Conflict = "Conflict",
        InvalidatedRetryToken = "InvalidatedRetryToken",
        NotAuthorizedOrResourceAlreadyExists = "NotAuthorizedOrResourceAlreadyExists",
        NoEtagMatch = "NoEtagMatch",
        PayloadTooLarge = "PayloadTooLarge",
        RequestHeaderFieldsTooLarge = "RequestHeaderFieldsTooLarge",
        RequestTimeout = "RequestTimeout",
        TooManyRequests = "TooManyRequests",
        InternalServerError = "InternalServerError",
        InternalError = "InternalError",
        MethodNotImplemented = "MethodNotImplemented",
        ServiceUnavailable = "ServiceUnavailable",
        NamespaceNotFound = "NamespaceNotFound",
        BucketNotFound = "BucketNotFound",
        BucketAlreadyExists = "BucketAlreadyExists",
        BucketNotEmpty = "BucketNotEmpty",
        InvalidBucketName = "InvalidBucketName",
        ObjectNotFound = "ObjectNotFound",
        InvalidObjectName = "InvalidObjectName",
        UploadNotFound = "UploadNotFound",
        InvalidUploadPart = "InvalidUploadPart",
        UnmatchedContentMD5 = "UnmatchedContentMD5",
        MissingContentLength = "MissingContentLength",
        InvalidRange = "InvalidRange",
        IfMatchFailed = "IfMatchFailed",
        IfNoneMatchFailed = "IfNoneMatchFailed",
    }
}

impl ErrorCode {
    /// The HTTP status that the code goes with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::CannotParseRequest
            | Self::InvalidParameter
            | Self::MissingParameter
            | Self::LimitExceeded
            | Self::QuotaExceeded
            | Self::RelatedResourceNotAuthorizedOrNotFound
            | Self::InvalidBucketName
            | Self::InvalidObjectName
            | Self::InvalidUploadPart
            | Self::UnmatchedContentMD5 => StatusCode::BAD_REQUEST,
            Self::NotAuthenticated => StatusCode::UNAUTHORIZED,
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::NotAuthorizedOrNotFound
            | Self::NotFound
            | Self::NamespaceNotFound
            | Self::BucketNotFound
            | Self::ObjectNotFound
            | Self::UploadNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::IncorrectState
            | Self::Conflict
            | Self::InvalidatedRetryToken
            | Self::NotAuthorizedOrResourceAlreadyExists
            | Self::BucketAlreadyExists
            | Self::BucketNotEmpty => StatusCode::CONFLICT,
            Self::MissingContentLength => StatusCode::LENGTH_REQUIRED,
            Self::InvalidRange => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::NoEtagMatch | Self::IfMatchFailed | Self::IfNoneMatchFailed => {
                StatusCode::PRECONDITION_FAILED
            }
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestHeaderFieldsTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::InternalServerError | Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::MethodNotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An error as the caller sees it. It never holds internal detail: that stays in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The code, which also decides the status.
    pub code: ErrorCode,
    /// What happened and what to do, for people.
    pub message: String,
}

impl ApiError {
    /// An error of the given code. Prefer the constructors named by meaning.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// A parameter or field is wrong: `displayName size must be between 1 and 255`.
    pub fn invalid_parameter(field: &str, what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::InvalidParameter, format!("{field} {what}"))
    }

    /// A required parameter or field is absent.
    pub fn missing_parameter(field: &str) -> Self {
        Self::new(ErrorCode::MissingParameter, format!("{field} may not be empty"))
    }

    /// The body is not the JSON it should be.
    pub fn cannot_parse(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::CannotParseRequest, format!("The request could not be parsed: {what}"))
    }

    /// The request is not signed, or not by a known key, or not now. Does not say which.
    pub fn not_authenticated() -> Self {
        Self::new(
            ErrorCode::NotAuthenticated,
            "The required information to complete authentication was not provided or was incorrect.",
        )
    }

    /// The resource does not exist, or the caller may not know that it does.
    pub fn not_authorized_or_not_found() -> Self {
        Self::new(
            ErrorCode::NotAuthorizedOrNotFound,
            "Authorization failed or requested resource not found",
        )
    }

    /// A resource that the request names does not exist, or the caller may not know that it does.
    pub fn related_resource_not_found(kind: &str, id: &crate::Ocid) -> Self {
        Self::new(
            ErrorCode::NotAuthorizedOrNotFound,
            format!(
                "Either {kind} with ID {id} does not exist or you are not authorized to access it."
            ),
        )
    }

    /// No operation has this path.
    pub fn not_found(operation: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("There is no operation at {operation}"))
    }

    /// The resource is in a state that does not allow this; clients retry.
    pub fn incorrect_state(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::IncorrectState, what.to_string())
    }

    /// Something else is being done with the resource, or the name is taken; clients do not retry.
    pub fn conflict(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::Conflict, what.to_string())
    }

    /// A second image of an instance that is being imaged.
    pub fn image_conflict() -> Self {
        Self::conflict("Conflict with another image operation, try again later")
    }

    /// The instance is busy.
    pub fn instance_busy(id: &crate::Ocid) -> Self {
        Self::conflict(format!("instance {id} is currently being modified, try again later."))
    }

    /// `if-match` names another version than the resource has.
    pub fn no_etag_match() -> Self {
        Self::new(
            ErrorCode::NoEtagMatch,
            "The etag in if-match is not the current etag of the resource. Get the resource and try again.",
        )
    }

    /// No such bucket, or the caller may not know that there is.
    pub fn bucket_not_found(bucket: &str, namespace: &str) -> Self {
        Self::new(
            ErrorCode::BucketNotFound,
            format!(
                "Either the bucket named '{bucket}' does not exist in the namespace '{namespace}' or you are not \
                 authorized to access it"
            ),
        )
    }

    /// No such object in a bucket that the caller may read.
    pub fn object_not_found(object: &str, bucket: &str) -> Self {
        Self::new(
            ErrorCode::ObjectNotFound,
            format!("The object '{object}' was not found in the bucket '{bucket}'"),
        )
    }

    /// `if-match` names another version than the object or bucket has, or there is none.
    pub fn if_match_failed() -> Self {
        Self::new(ErrorCode::IfMatchFailed, "The If-Match header does not match the current etag")
    }

    /// `if-none-match` is met by what is there.
    pub fn if_none_match_failed() -> Self {
        Self::new(
            ErrorCode::IfNoneMatchFailed,
            "The If-None-Match header forbids it: what it names is there",
        )
    }

    /// A limit of the tenancy or the region is reached.
    pub fn limit_exceeded(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::LimitExceeded, what.to_string())
    }

    /// The retry token was used for another request, or its resource has changed since.
    pub fn invalidated_retry_token() -> Self {
        Self::new(
            ErrorCode::InvalidatedRetryToken,
            "The retry token was used for a different request, or the resource it made was changed or deleted since. \
             Use a new token.",
        )
    }

    /// The body is larger than `limit_bytes`.
    pub fn too_large(limit_bytes: u64) -> Self {
        Self::new(
            ErrorCode::PayloadTooLarge,
            format!("The body may have at most {limit_bytes} bytes"),
        )
    }

    /// The request's target or headers are larger than accepted.
    pub fn headers_too_large() -> Self {
        Self::new(
            ErrorCode::RequestHeaderFieldsTooLarge,
            "The request's target or headers are too large",
        )
    }

    /// The request did not arrive in time.
    pub fn request_timeout() -> Self {
        Self::new(ErrorCode::RequestTimeout, "The request did not arrive in time")
    }

    /// The path exists, but not with this method.
    pub fn method_not_allowed(method: &http::Method) -> Self {
        Self::new(ErrorCode::MethodNotAllowed, format!("{method} is not allowed here"))
    }

    /// The public service has this operation; this region does not.
    pub fn method_not_implemented(operation: &str) -> Self {
        Self::new(
            ErrorCode::MethodNotImplemented,
            format!("This region does not implement {operation}"),
        )
    }

    /// No host has room for the instance. The real service answers 500 here, and clients know the message.
    pub fn out_of_host_capacity() -> Self {
        Self::new(ErrorCode::InternalError, "Out of host capacity.")
    }

    /// The service failed. The cause is in its log, under the request's id.
    pub fn internal() -> Self {
        Self::new(
            ErrorCode::InternalServerError,
            "Internal server error. Give the opc-request-id of this answer to whoever runs the region.",
        )
    }

    /// The service is stopping or overloaded; clients retry.
    pub fn unavailable(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::ServiceUnavailable, what.to_string())
    }
}
