//! Signatures: what the official Python SDK signed is accepted, and nothing that differs from it in any part.

use calotype_api::sign::{
    Authorization, KeyId, PrivateKey, PublicKey, SKEW_SECONDS_MAX, Signature, SignatureError, sign,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;

/// Requests as the SDK's transport was handed them, recorded without sending; signed by the key of `public_key.pem`.
#[derive(Deserialize)]
struct Recording {
    fingerprint: String,
    requests: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    name: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

struct Request {
    name: String,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn signature(&self) -> Result<Signature, SignatureError> {
        Signature::parse(&self.headers)
    }

    /// The time the request was signed at.
    fn now(&self) -> i64 {
        self.signature().unwrap().unix_seconds(&self.headers).unwrap()
    }

    fn verify(&self, key: &PublicKey, now: i64) -> Result<(), SignatureError> {
        let body = (self.name != "put_object").then_some(self.body.as_slice());
        self.signature()?.verify(&self.method, &self.target, &self.headers, body, key, now)
    }
}

fn recorded() -> (PublicKey, Vec<Request>) {
    let recording: Recording =
        serde_json::from_str(include_str!("../data/python_sdk_requests.json")).unwrap();
    let key = PublicKey::from_pem(include_str!("../data/public_key.pem")).unwrap();
    assert_eq!(key.fingerprint().to_string(), recording.fingerprint);
    let requests = recording.requests.into_iter().map(|request| Request {
        name: request.name,
        method: request.method.parse().unwrap(),
        target: request.target,
        headers: request
            .headers
            .into_iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
            })
            .collect(),
        body: request.body.into_bytes(),
    });
    (key, requests.collect())
}

#[test]
fn accepts_every_request_of_the_python_sdk() {
    let (key, requests) = recorded();
    assert_eq!(requests.len(), 7);
    for request in &requests {
        let now = request.now();
        assert_eq!(request.verify(&key, now), Ok(()), "{}", request.name);
        let key_id: KeyId = request.signature().unwrap().key_id().parse().unwrap();
        assert_eq!(key_id.fingerprint, key.fingerprint());
    }
}

#[test]
fn an_unsigned_body_is_accepted_only_where_the_operation_allows_it() {
    let (key, requests) = recorded();
    let upload = requests.iter().find(|request| request.name == "put_object").unwrap();
    let result = upload.signature().unwrap().verify(
        &upload.method,
        &upload.target,
        &upload.headers,
        Some(&upload.body),
        &key,
        upload.now(),
    );
    assert_eq!(result, Err(SignatureError::NotCovered { header: "content-length".into() }));
}

#[test]
fn refuses_a_request_of_which_any_signed_part_was_changed() {
    let (key, requests) = recorded();
    for mut request in requests {
        let now = request.now();
        let name = request.name.clone();
        let method = std::mem::replace(&mut request.method, Method::PATCH);
        assert!(request.verify(&key, now).is_err(), "{name}: method");
        request.method = method;
        let target = request.target.clone();
        for changed in [format!("{target}/"), format!("{target}&a=b"), target.to_uppercase()] {
            request.target = changed;
            assert_eq!(request.verify(&key, now), Err(SignatureError::Mismatch), "{name}: target");
        }
        request.target = target;
        let authorization = request.headers["authorization"].to_str().unwrap();
        let signed = authorization.parse::<Authorization>().unwrap().signed_headers;
        for header in signed.iter().filter(|name| *name != "(request-target)") {
            let header = header.parse::<HeaderName>().unwrap();
            let kept = request.headers.insert(&header, HeaderValue::from_static("1")).unwrap();
            assert!(request.verify(&key, now).is_err(), "{name}: {header} changed");
            request.headers.remove(&header);
            assert!(request.verify(&key, now).is_err(), "{name}: {header} removed");
            request.headers.insert(&header, kept.clone());
            request.headers.append(&header, kept.clone());
            assert_eq!(
                request.verify(&key, now),
                Err(SignatureError::HeaderRepeated { header: header.to_string() }),
                "{name}: {header} repeated"
            );
            request.headers.insert(&header, kept);
        }
        assert_eq!(request.verify(&key, now), Ok(()), "{name}: restored");
        if name != "put_object" {
            request.body.push(b' ');
            assert!(request.verify(&key, now).is_err(), "{name}: body");
        }
    }
}

#[test]
fn refuses_another_body_of_the_same_length() {
    let (key, requests) = recorded();
    let mut request = requests.into_iter().find(|request| request.name == "create_image").unwrap();
    request.body[0] ^= 1;
    assert_eq!(request.verify(&key, request.now()), Err(SignatureError::WrongHash));
}

#[test]
fn refuses_another_key() {
    let (_, requests) = recorded();
    let other = PrivateKey::generate().unwrap();
    for request in requests {
        let result = request.verify(other.public_key(), request.now());
        assert_eq!(result, Err(SignatureError::Mismatch), "{}", request.name);
    }
}

#[test]
fn accepts_five_minutes_of_skew_and_not_a_second_more() {
    let (key, requests) = recorded();
    let skew = i64::try_from(SKEW_SECONDS_MAX).unwrap();
    for request in requests {
        let now = request.now();
        assert_eq!(request.verify(&key, now + skew), Ok(()));
        assert_eq!(request.verify(&key, now - skew), Ok(()));
        for skewed in [now + skew + 1, now - skew - 1, i64::MAX, i64::MIN] {
            let result = request.verify(&key, skewed);
            assert!(matches!(result, Err(SignatureError::Skewed { .. })), "{result:?}");
        }
    }
}

#[test]
fn an_unsigned_x_date_cannot_refresh_an_old_request() {
    let (key, requests) = recorded();
    for mut request in requests {
        let later = request.now() + 3600;
        let fresh = calotype_api::sign::http_date(later);
        request.headers.insert("x-date", fresh.parse().unwrap());
        let result = request.verify(&key, later);
        assert_eq!(result, Err(SignatureError::NotCovered { header: "x-date".into() }));
    }
}

/// A request signed the way of clients that send `x-date`, mixed-case names and another order of parameters.
fn signed_with_x_date(key: &PrivateKey, now: i64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let date = calotype_api::sign::http_date(now);
    headers.insert("x-date", date.parse().unwrap());
    headers.insert("host", HeaderValue::from_static("iaas.home-1.example"));
    let message = format!(
        "x-date: {date}\n(request-target): get /20160918/images\nhost: iaas.home-1.example"
    );
    let signature = key.sign(message.as_bytes()).unwrap();
    let authorization = format!(
        "Signature version=\"1\",keyId=\"k\",algorithm=\"rsa-sha256\",headers=\"X-Date \
         (request-target) Host\",signature=\"{signature}\""
    );
    headers.insert("authorization", authorization.parse().unwrap());
    headers
}

#[test]
fn x_date_wins_over_date_and_names_are_compared_in_any_case() {
    let key = PrivateKey::generate().unwrap();
    let now = 1_700_000_000;
    let mut headers = signed_with_x_date(&key, now);
    headers.insert("date", HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
    let signature = Signature::parse(&headers).unwrap();
    let target = "/20160918/images";
    let result = signature.verify(&Method::GET, target, &headers, Some(b""), key.public_key(), now);
    assert_eq!(result, Ok(()));
}

#[test]
fn a_body_on_a_method_without_one_must_be_signed_too() {
    let key = PrivateKey::generate().unwrap();
    let now = 1_700_000_000;
    let headers = signed_with_x_date(&key, now);
    let signature = Signature::parse(&headers).unwrap();
    let target = "/20160918/images";
    let result =
        signature.verify(&Method::GET, target, &headers, Some(b"{}"), key.public_key(), now);
    assert_eq!(result, Err(SignatureError::NotCovered { header: "content-length".into() }));
}

#[test]
fn an_unsigned_request_says_so() {
    assert_eq!(Signature::parse(&HeaderMap::new()), Err(SignatureError::Absent));
}

#[test]
fn accepts_what_it_signs_with_and_without_a_body() {
    let key = PrivateKey::generate().unwrap();
    let now = 1_700_000_000;
    for (method, body) in [
        (Method::GET, ""),
        (Method::DELETE, ""),
        (Method::POST, ""),
        (Method::POST, r#"{"a":1}"#),
        (Method::PUT, "ä"),
        (Method::DELETE, "{}"),
    ] {
        let (target, host) = ("/20160918/images/?page=", "localhost:8443");
        let mut headers = sign(&key, "k", &method, target, host, body.as_bytes(), now).unwrap();
        headers.insert("host", host.parse().unwrap());
        let signature = Signature::parse(&headers).unwrap();
        assert_eq!(signature.key_id(), "k");
        let body = Some(body.as_bytes());
        let result = signature.verify(&method, target, &headers, body, key.public_key(), now);
        assert_eq!(result, Ok(()), "{method} {body:?}");
    }
}

#[test]
fn signs_an_empty_body_as_the_public_service_documents() {
    let key = PrivateKey::generate().unwrap();
    let headers = sign(&key, "k", &Method::POST, "/", "localhost", b"", 0).unwrap();
    assert_eq!(headers["x-content-sha256"], "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert_eq!(headers["content-length"], "0");
    assert_eq!(headers["date"], "Thu, 01 Jan 1970 00:00:00 GMT");
}
