//! A request from anywhere, written as `method target`, headers, an empty line and the body.

use std::sync::LazyLock;

use calotype_api::ApiError;
use calotype_api::sign::{Authorization, KeyId, PublicKey, Signature, SignatureError};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

static KEY: LazyLock<PublicKey> =
    LazyLock::new(|| PublicKey::from_pem(include_str!("../../data/public_key.pem")).unwrap());

struct Request<'a> {
    method: Method,
    target: &'a str,
    headers: HeaderMap,
    body: &'a [u8],
}

pub(crate) fn run(data: &[u8]) {
    let Some(request) = parse(data) else { return };
    match Signature::parse(&request.headers) {
        Ok(signature) => check(&request, &signature),
        Err(error) => drop(ApiError::from(error)),
    }
}

fn parse(data: &[u8]) -> Option<Request<'_>> {
    let end = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let mut lines = head.split(|&byte| byte == b'\n');
    let (method, target) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at(colon);
        headers.append(
            HeaderName::from_bytes(name).ok()?,
            HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?,
        );
    }
    let body = body.get(2..).unwrap_or_default();
    Some(Request { method: method.parse().ok()?, target, headers, body })
}

fn check(request: &Request<'_>, signature: &Signature) {
    let text = request.headers["authorization"].to_str().unwrap();
    let authorization: Authorization = text.parse().unwrap();
    assert_eq!(authorization.to_string().parse::<Authorization>().as_ref(), Ok(&authorization));
    if let Ok(key_id) = signature.key_id().parse::<KeyId>() {
        assert_eq!(key_id.to_string().parse::<KeyId>(), Ok(key_id));
    }
    // Taken for the time of the request, so that skew does not hide what comes after it.
    let now = signature.unix_seconds(&request.headers).unwrap_or_default();
    let verify = |target: &str, body: Option<&[u8]>, now: i64| {
        signature.verify(&request.method, target, &request.headers, body, &KEY, now)
    };
    if let Err(error) = verify(request.target, Some(request.body), now) {
        drop(ApiError::from(error));
        return;
    }
    // Signed by the key, then: nothing that is signed can be changed.
    let other_target = format!("{}/", request.target);
    assert!(verify(&other_target, Some(request.body), now) == Err(SignatureError::Mismatch));
    let other_body = [request.body, b" "].concat();
    assert!(verify(request.target, Some(&other_body), now).is_err());
    assert!(matches!(
        verify(request.target, Some(request.body), now + 301),
        Err(SignatureError::Skewed { .. })
    ));
}
