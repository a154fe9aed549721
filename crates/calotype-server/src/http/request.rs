//! A request as a handler gets it: signed, routed, its query checked against what the operation declares.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use calotype_api::percent::decode;
use calotype_api::{ApiError, body};
use http::HeaderMap;
use serde::de::DeserializeOwned;

use super::{Principal, Upload};
use crate::operations::{Operation, Parameter};

/// Parameters that the path gives, by name, decoded.
pub type PathParameters = BTreeMap<&'static str, String>;

/// Parameters that the query gives, by name, decoded. None of them is empty.
pub type QueryParameters = BTreeMap<&'static str, String>;

/// A request whose signature and query were checked.
#[derive(Clone)]
pub struct Request {
    /// The row of the operation.
    pub operation: &'static Operation,
    /// What the path gives.
    pub path: PathParameters,
    /// What the query gives: only parameters that the row declares.
    pub query: QueryParameters,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body; empty where it is taken as it arrives.
    pub body: Bytes,
    /// The body of an operation that takes it as it arrives.
    pub upload: Option<Upload>,
    /// The version that the resource must have.
    pub if_match: Option<String>,
    /// What makes a repetition of this request known as one. Not measured yet.
    pub retry_token: Option<String>,
    /// Who signed.
    pub principal: Principal,
    /// The `opc-request-id` of the answer.
    pub request_id: String,
}

impl Request {
    /// A parameter of the path.
    pub fn path<T: FromStr<Err: Display>>(&self, name: &'static str) -> Result<T, ApiError> {
        parse(name, self.path.get(name).ok_or_else(|| ApiError::missing_parameter(name))?)
    }

    /// The secret of the pre-authenticated request whose URL this came to, in place of a signature.
    pub fn token(&self) -> Option<&str> {
        self.path.get("token").map(String::as_str)
    }

    /// A parameter of the query, if it was given and not empty.
    pub fn query<T: FromStr<Err: Display>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, ApiError> {
        self.query.get(name).map(|value| parse(name, value)).transpose()
    }

    /// A parameter of the query that must have been given.
    pub fn required_query<T: FromStr<Err: Display>>(
        &self,
        name: &'static str,
    ) -> Result<T, ApiError> {
        self.query(name)?.ok_or_else(|| ApiError::missing_parameter(name))
    }

    /// A header that is a parameter of the operation, if it was given. `name` is in lower case.
    pub fn header(&self, name: &'static str) -> Result<Option<String>, ApiError> {
        text(&self.headers, name)
    }

    /// All headers whose names begin with `prefix`, without it.
    pub fn header_family(&self, prefix: &str) -> Result<BTreeMap<String, String>, ApiError> {
        let names = self.headers.keys().filter_map(|name| name.as_str().strip_prefix(prefix));
        names
            .map(|name| {
                let value = text(&self.headers, &format!("{prefix}{name}"))?;
                Ok((name.to_owned(), value.unwrap_or_default()))
            })
            .collect()
    }

    /// The body of an upload.
    pub fn upload(&self) -> Result<&Upload, ApiError> {
        self.upload.as_ref().ok_or_else(|| {
            tracing::error!(operation = self.operation.name, "its row says nothing of an upload");
            ApiError::internal()
        })
    }

    /// The body. What is wrong with it is answered with the name of the field.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        body::from_json(&self.body)
    }

    /// Refuses the request if it is meant for another version of the resource than `etag`.
    pub fn check_etag(&self, etag: &str) -> Result<(), ApiError> {
        match self.if_match.as_deref() {
            None | Some("*") => Ok(()),
            Some(wanted) if wanted.trim_matches('"') == etag => Ok(()),
            Some(_) => Err(ApiError::no_etag_match()),
        }
    }
}

/// A header as text, if it is there.
pub(super) fn text(headers: &HeaderMap, name: &str) -> Result<Option<String>, ApiError> {
    let text = headers.get(name).map(|value| value.to_str()).transpose();
    let text = text.map_err(|_| {
        ApiError::invalid_parameter(name, "may have only printable ASCII characters")
    })?;
    Ok(text.map(ToOwned::to_owned))
}

fn parse<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T, ApiError> {
    value
        .parse()
        .map_err(|error| ApiError::invalid_parameter(name, format_args!("is not valid: {error}")))
}

/// Reads a raw query as the operation declares it.
///
/// An empty value counts as absent: some clients send `page=`. Filters by state ignore case.
pub(super) fn check_query(
    raw: Option<&str>,
    declared: &'static [Parameter],
) -> Result<QueryParameters, ApiError> {
    let mut query = QueryParameters::new();
    for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name, true).ok_or_else(|| undecodable("the query"))?;
        let Some(parameter) = declared.iter().find(|parameter| parameter.name == name) else {
            return Err(ApiError::invalid_parameter(&name, "is not a parameter of this operation"));
        };
        let value = decode(value, true).ok_or_else(|| undecodable(parameter.name))?;
        if value.is_empty() {
            continue;
        }
        if query.insert(parameter.name, allowed(parameter, value)?).is_some() {
            return Err(ApiError::invalid_parameter(parameter.name, "occurs more than once"));
        }
    }
    match declared.iter().find(|known| known.required && !query.contains_key(known.name)) {
        Some(parameter) => Err(ApiError::missing_parameter(parameter.name)),
        None => Ok(query),
    }
}

/// The value as the operation's declaration spells it.
fn allowed(parameter: &Parameter, value: String) -> Result<String, ApiError> {
    if parameter.values.is_empty() {
        return Ok(value);
    }
    let any_case = parameter.name == "lifecycleState";
    let known = |asked: &str| {
        let same = |word: &&&str| **word == asked || any_case && word.eq_ignore_ascii_case(asked);
        parameter.values.iter().find(same).copied()
    };
    // Clients send several as one value.
    let words: Option<Vec<_>> = match parameter.name {
        "fields" => value.split(',').map(known).collect(),
        _ => known(&value).map(|word| vec![word]),
    };
    words.map(|words| words.join(",")).ok_or_else(|| {
        let must = format!("must be one of {}", parameter.values.join(", "));
        ApiError::invalid_parameter(parameter.name, must)
    })
}

fn undecodable(name: &str) -> ApiError {
    ApiError::invalid_parameter(name, "is not percent-encoded UTF-8")
}

#[cfg(test)]
mod tests {
    use calotype_api::ErrorCode;
    use proptest::prelude::*;

    use super::*;

    static DECLARED: &[Parameter] = &[
        Parameter { name: "compartmentId", required: true, values: &[] },
        Parameter { name: "displayName", required: false, values: &[] },
        Parameter { name: "page", required: false, values: &[] },
        Parameter { name: "sortOrder", required: false, values: &["ASC", "DESC"] },
        Parameter { name: "lifecycleState", required: false, values: &["AVAILABLE", "DELETED"] },
        Parameter { name: "fields", required: false, values: &["size", "count"] },
    ];

    fn refuses(raw: &str, code: ErrorCode, message: &str) {
        let error = check_query(Some(raw), DECLARED).unwrap_err();
        assert_eq!(error, ApiError::new(code, message), "{raw}");
    }

    #[test]
    fn decodes_as_every_client_encodes() {
        for raw in [
            "compartmentId=a&displayName=a+b%2Fc%C3%BC",
            "displayName=a%20b/c%c3%bc&compartmentId=a",
        ] {
            let query = check_query(Some(raw), DECLARED).unwrap();
            assert_eq!(query["displayName"], "a b/cü");
        }
    }

    #[test]
    fn an_empty_page_is_no_page() {
        let query = check_query(Some("compartmentId=a&page=&displayName&"), DECLARED).unwrap();
        assert_eq!(query.into_iter().collect::<Vec<_>>(), [("compartmentId", "a".to_owned())]);
    }

    #[test]
    fn states_are_compared_without_case_and_handed_on_as_declared() {
        let query =
            check_query(Some("compartmentId=a&lifecycleState=available"), DECLARED).unwrap();
        assert_eq!(query["lifecycleState"], "AVAILABLE");
        refuses(
            "compartmentId=a&sortOrder=asc",
            ErrorCode::InvalidParameter,
            "sortOrder must be one of ASC, DESC",
        );
    }

    #[test]
    fn several_fields_come_as_one_value_and_each_must_be_known() {
        let raw = "compartmentId=a&fields=count%2Csize";
        assert_eq!(check_query(Some(raw), DECLARED).unwrap()["fields"], "count,size");
        let unknown = "compartmentId=a&fields=count,colour";
        let message = "fields must be one of size, count";
        refuses(unknown, ErrorCode::InvalidParameter, message);
    }

    #[test]
    fn names_what_is_absent_unknown_repeated_or_undecodable() {
        refuses("", ErrorCode::MissingParameter, "compartmentId may not be empty");
        refuses("compartmentId=", ErrorCode::MissingParameter, "compartmentId may not be empty");
        let invalid = ErrorCode::InvalidParameter;
        refuses(
            "compartmentId=a&colour=red",
            invalid,
            "colour is not a parameter of this operation",
        );
        refuses("compartmentId=a&compartmentId=b", invalid, "compartmentId occurs more than once");
        for raw in ["compartmentId=%", "compartmentId=%4", "compartmentId=%zz", "compartmentId=%ff"]
        {
            refuses(raw, invalid, "compartmentId is not percent-encoded UTF-8");
        }
        refuses("%ff=a", invalid, "the query is not percent-encoded UTF-8");
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(raw in "[ -~]{0,80}") {
            if let Ok(query) = check_query(Some(&raw), DECLARED) {
                prop_assert!(query.values().all(|value| !value.is_empty()));
            }
        }
    }
}
