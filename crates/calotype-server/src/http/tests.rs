//! The wire, driven over real TLS connections with requests that are signed as clients sign them.

use std::sync::Arc;

use calotype_api::sign::{KeyId, PrivateKey, PublicKey, http_date};
use calotype_api::{ApiError, Ocid};
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{Dispatch, Principal, Reply, Request};
use crate::operations::{Body, Operation, Parameter, Service};

mod client;
mod streams;

use client::{Answer, Client, Region};

const TENANCY: &str = "ocid1.tenancy.oc99..aaaa";
const USER: &str = "ocid1.user.oc99..bbbb";
const SECRET: &str = "secret";

const fn row(
    name: &'static str,
    method: Method,
    path: &'static str,
    query: &'static [Parameter],
) -> Operation {
    Operation {
        name,
        service: Service::Compute,
        method,
        path,
        query,
        body: Body::OptionalJson,
        permissions: &[],
        handler: |_, _| Box::pin(async { Err(ApiError::internal()) }),
    }
}

static LIST_QUERY: &[Parameter] = &[
    Parameter { name: "compartmentId", required: true, values: &[] },
    Parameter { name: "displayName", required: false, values: &[] },
    Parameter { name: "page", required: false, values: &[] },
    Parameter { name: "sortOrder", required: false, values: &["ASC", "DESC"] },
];

static ANOTHER_QUERY: &[Parameter] = &[
    Parameter { name: "compartmentId", required: true, values: &[] },
    Parameter { name: "thing", required: false, values: &[] },
];

static OPERATIONS: [Operation; 11] = [
    row("ListThings", Method::GET, "/20160918/things", LIST_QUERY),
    row("CreateThing", Method::POST, "/20160918/things", &[]),
    row("GetThing", Method::GET, "/20160918/things/{thingId}", &[]),
    row("DeleteThing", Method::DELETE, "/20160918/things/{thingId}", &[]),
    row("GetContent", Method::GET, "/20160918/things/{thingId}/data", &[]),
    row("BreakThing", Method::POST, "/20160918/things/{thingId}/actions/break", &[]),
    row("HoldThing", Method::POST, "/20160918/things/{thingId}/actions/hold", &[]),
    stream(Service::ObjectStorage, "/o/{objectName}"),
    stream(Service::Preauthenticated, "/p/{token}/o/{objectName}"),
    row("GetObject", Method::GET, "/o/{objectName}", &[]),
    row("HeadObject", Method::HEAD, "/o/{objectName}", &[]),
];

const fn stream(service: Service, path: &'static str) -> Operation {
    Operation {
        name: "PutObject",
        service,
        method: Method::PUT,
        path,
        query: &[],
        body: Body::Stream,
        permissions: &[],
        handler: |_, _| Box::pin(async { Err(ApiError::internal()) }),
    }
}

/// Answers with what it was asked.
struct Echo {
    key: PublicKey,
    held: Notify,
    release: Notify,
    finished: Notify,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateThingDetails {
    compartment_id: Ocid,
}

impl Dispatch for Echo {
    fn operations(&self) -> Vec<&'static Operation> {
        OPERATIONS.iter().collect()
    }

    async fn key(&self, key_id: &KeyId) -> Result<Option<(PublicKey, Principal)>, ApiError> {
        let known = key_id.user.as_str() == USER && key_id.fingerprint == self.key.fingerprint();
        let principal = Principal { user: key_id.user.clone(), tenancy: key_id.tenancy.clone() };
        Ok(known.then(|| (self.key.clone(), principal)))
    }

    async fn bearer(&self, token: &str) -> Result<Principal, ApiError> {
        if token != SECRET {
            return Err(ApiError::not_authorized_or_not_found());
        }
        let parse = |id: &str| id.parse().map_err(|_| ApiError::internal());
        Ok(Principal { user: parse(USER)?, tenancy: parse(TENANCY)? })
    }

    async fn ssh(&self, mut stream: TcpStream, _: impl Future<Output = ()> + Send) {
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).await.unwrap();
        stream.write_all(&greeting).await.unwrap();
    }

    async fn call(&self, request: Request) -> Result<Reply, ApiError> {
        match request.operation.name {
            "CreateThing" => {
                let details: CreateThingDetails = request.json()?;
                let reply = Reply::ok(&json!({"compartmentId": details.compartment_id}))?;
                Ok(reply.etag("e1").work_request("ocid1.coreservicesworkrequest.oc99..cccc"))
            }
            "DeleteThing" => {
                request.check_etag("e1")?;
                Ok(Reply::no_content())
            }
            "GetContent" => {
                Ok(Reply::bytes("text/plain", "content").header("opc-bytes-remaining", "0"))
            }
            "PutObject" => streams::put(self, &request).await,
            "GetObject" if request.path["objectName"] == "large" => {
                Ok(Reply::content(Arc::new(streams::Large)))
            }
            "GetObject" => Ok(Reply::content(Arc::new(streams::content()))),
            "HeadObject" => Ok(Reply::head(streams::content().len() as u64)),
            "BreakThing" => panic!("a secret of the service"),
            "HoldThing" => {
                self.held.notify_one();
                self.release.notified().await;
                self.finished.notify_one();
                Reply::ok(&json!("held"))
            }
            name => Reply::ok(&json!({
                "operation": name,
                "path": request.path,
                "query": request.query,
                "user": request.principal.user,
                "requestId": request.request_id,
            })),
        }
    }
}

async fn region() -> Region<Echo> {
    Region::start(|key| Echo {
        key,
        held: Notify::new(),
        release: Notify::new(),
        finished: Notify::new(),
    })
    .await
}

fn refused(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json()["code"], code, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("opc-request-id").is_some());
    assert!(answer.header("date").is_some());
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(!message.is_empty());
    message
}

#[tokio::test]
async fn answers_a_signed_request_with_date_and_the_clients_request_id() {
    let region = region().await;
    let mut client = region.client().await;
    let request = region.get("/20160918/things/one").header("opc-request-id", "ABC");
    let answer = client.send(request).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["operation"], "GetThing");
    assert_eq!(body["path"]["thingId"], "one");
    assert_eq!(body["user"], USER);
    let id = answer.header("opc-request-id").unwrap();
    assert!(id.starts_with("ABC/"), "{id}");
    assert_eq!(body["requestId"], id);
    assert!(answer.header("date").unwrap().ends_with(" GMT"));
}

#[tokio::test]
async fn etags_work_requests_bytes_and_extra_headers_reach_the_client() {
    let region = region().await;
    let mut client = region.client().await;
    let body = json!({"compartmentId": TENANCY}).to_string();
    let answer = client.send(region.post("/20160918/things", &body)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("etag"), Some("e1"));
    let work_request = answer.header("opc-work-request-id").unwrap();
    assert!(work_request.starts_with("ocid1.coreservicesworkrequest."));
    let answer = client.send(region.get("/20160918/things/one/data")).await;
    assert_eq!(answer.body, b"content");
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("opc-bytes-remaining"), Some("0"));
}

#[tokio::test]
async fn an_etag_that_does_not_match_refuses_and_one_that_does_deletes() {
    let region = region().await;
    let mut client = region.client().await;
    let delete = || region.signed(Method::DELETE, "/20160918/things/one", "");
    let answer = client.send(delete().header("if-match", "e0")).await;
    refused(&answer, 412, "NoEtagMatch");
    let answer = client.send(delete().header("if-match", "e1").header("opc-request-id", "B")).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
}

#[tokio::test]
async fn refuses_what_is_not_signed_without_telling_which_keys_exist() {
    let region = region().await;
    let mut client = region.client().await;
    let answer = client.send(region.unsigned(Method::GET, "/20160918/things/one")).await;
    refused(&answer, 401, "NotAuthenticated");
    let stranger = PrivateKey::generate().unwrap();
    let unknown = region.signed_by(&stranger, Method::GET, "/20160918/things/one", "", 0);
    let unknown = client.send(unknown).await;
    let mut forged = region.get("/20160918/things/one");
    forged.target = "/20160918/things/two".to_owned();
    let forged = client.send(forged).await;
    let message = refused(&unknown, 401, "NotAuthenticated");
    assert_eq!(refused(&forged, 401, "NotAuthenticated"), message);
}

#[tokio::test]
async fn refuses_another_body_than_the_signed_one() {
    let region = region().await;
    let mut client = region.client().await;
    let mut request = region.post("/20160918/things", r#"{"compartmentId":"a"}"#);
    request.body = r#"{"compartmentId":"b"}"#.to_owned();
    let message = refused(&client.send(request).await, 401, "NotAuthenticated");
    assert!(message.contains("x-content-sha256"), "{message}");
}

#[tokio::test]
async fn refuses_a_skewed_request_and_tells_the_time() {
    let region = region().await;
    let mut client = region.client().await;
    for skew in [-310, 310] {
        let request = region.signed_by(&region.key, Method::GET, "/20160918/things/one", "", skew);
        let message = refused(&client.send(request).await, 401, "NotAuthenticated");
        let year = http_date(Timestamp::now().as_second());
        assert!(message.contains("300 seconds from") && message.contains(&year[12..16]));
    }
    let request = region.signed_by(&region.key, Method::GET, "/20160918/things/one", "", -290);
    assert_eq!(client.send(request).await.status, 200);
}

#[tokio::test]
async fn refuses_a_changing_request_that_is_sent_again() {
    let region = region().await;
    let mut client = region.client().await;
    let body = json!({"compartmentId": TENANCY}).to_string();
    let create = region.post("/20160918/things", &body).header("opc-request-id", "A");
    assert_eq!(client.send(create.clone()).await.status, 200);
    let message = refused(&client.send(create.clone()).await, 401, "NotAuthenticated");
    assert!(message.contains("received before"), "{message}");
    let twin = create.header("opc-request-id", "B");
    assert_eq!(client.send(twin).await.status, 200);
    let get = region.get("/20160918/things/one");
    assert_eq!(client.send(get.clone()).await.status, 200);
    assert_eq!(client.send(get).await.status, 200);
}

#[tokio::test]
async fn tells_unknown_paths_methods_and_unimplemented_operations_apart() {
    let region = region().await;
    let mut client = region.client().await;
    refused(&client.send(region.get("/20160918/nothing")).await, 404, "NotFound");
    refused(&client.send(region.get("/20160918/things//data")).await, 404, "NotFound");
    let answer = client.send(region.signed(Method::PATCH, "/20160918/things/one", "")).await;
    refused(&answer, 405, "MethodNotAllowed");
    assert_eq!(answer.header("allow"), Some("GET, DELETE"));
    let answer = client.send(region.post("/20160918/images/i/actions/export", "{}")).await;
    let message = refused(&answer, 501, "MethodNotImplemented");
    assert!(message.contains("ExportImage"), "{message}");
}

#[tokio::test]
async fn trailing_and_encoded_slashes_are_signed_as_they_are_sent() {
    let region = region().await;
    let mut client = region.client().await;
    let answer = client.send(region.get("/20160918/things/?compartmentId=a&page=")).await;
    assert_eq!(answer.json()["query"], json!({"compartmentId": "a"}));
    let answer = client.send(region.get("/20160918/things/a%2Fb+c%20d/")).await;
    assert_eq!(answer.json()["path"]["thingId"], "a/b+c d");
}

#[tokio::test]
async fn greets_without_a_signature_so_that_clients_can_compare_clocks() {
    let region = region().await;
    let mut client = region.client().await;
    let answer = client.send(region.unsigned(Method::HEAD, "/")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("date").is_some() && answer.header("opc-request-id").is_some());
}

#[tokio::test]
async fn names_the_parameter_or_field_that_is_wrong() {
    let region = region().await;
    let mut client = region.client().await;
    let answer = client.send(region.get("/20160918/things")).await;
    assert_eq!(refused(&answer, 400, "MissingParameter"), "compartmentId may not be empty");
    let answer = client.send(region.get("/20160918/things?compartmentId=a&sortOrder=UP")).await;
    assert_eq!(refused(&answer, 400, "InvalidParameter"), "sortOrder must be one of ASC, DESC");
    let answer = client.send(region.post("/20160918/things", "{")).await;
    refused(&answer, 400, "CannotParseRequest");
    let answer = client.send(region.post("/20160918/things", r#"{"compartmentId":"x"}"#)).await;
    let message = refused(&answer, 400, "InvalidParameter");
    assert!(message.starts_with("compartmentId must be an OCID"), "{message}");
    let retry = region.get("/20160918/things/one").header("opc-retry-token", "\u{e4}");
    let message = refused(&client.send(retry).await, 400, "InvalidParameter");
    assert!(message.starts_with("opc-retry-token "), "{message}");
}

#[tokio::test]
async fn a_panic_is_an_internal_error_without_detail_and_ends_nothing_else() {
    let region = region().await;
    let mut client = region.client().await;
    let answer = client.send(region.post("/20160918/things/one/actions/break", "")).await;
    let message = refused(&answer, 500, "InternalServerError");
    assert!(!message.contains("secret"), "{message}");
    assert_eq!(client.send(region.get("/20160918/things/one")).await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let region = region().await;
    let mut client = region.client().await;
    let body = " ".repeat(super::limits::BODY_BYTES_MAX + 1);
    let mut request = region.post("/20160918/things", &body);
    request.body.clear();
    refused(&client.send(request).await, 413, "PayloadTooLarge");
}

#[tokio::test]
async fn the_largest_body_is_accepted() {
    let region = region().await;
    let mut client = region.client().await;
    let body = json!({"compartmentId": TENANCY}).to_string();
    let body = " ".repeat(super::limits::BODY_BYTES_MAX - body.len()) + &body;
    assert_eq!(client.send(region.post("/20160918/things", &body)).await.status, 200);
}

#[tokio::test]
async fn targets_and_headers_that_are_too_large_are_refused() {
    let region = region().await;
    let long = "a".repeat(super::limits::TARGET_BYTES_MAX);
    let mut client = region.client().await;
    let answer = client.send(region.get(&format!("/20160918/things/{long}"))).await;
    refused(&answer, 431, "RequestHeaderFieldsTooLarge");
    let mut client = region.client().await;
    let value = "a".repeat(super::limits::HEADERS_BYTES_MAX);
    let answer = client.send(region.get("/20160918/things/one").header("x-large", &value)).await;
    refused(&answer, 431, "RequestHeaderFieldsTooLarge");
    let mut client = region.client().await;
    let value = "a".repeat(super::limits::PARSER_BYTES_MAX);
    let answer = client.send(region.get("/20160918/things/one").header("x-large", &value)).await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_continue() {
    let region = region().await;
    let mut client = region.client().await;
    let body = json!({"compartmentId": TENANCY}).to_string();
    let request = region.post("/20160918/things", &body).header("expect", "100-continue");
    client.write(&request.head()).await;
    let interim = client.read().await.unwrap();
    assert_eq!((interim.status, interim.body.len()), (100, 0));
    client.write(&body).await;
    assert_eq!(client.read().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_client_that_is_not_known_is_not_told_to_continue() {
    let region = region().await;
    let mut client = region.client().await;
    let request = region.unsigned(Method::POST, "/20160918/things");
    let request = request.header("expect", "100-continue").header("content-length", "2");
    client.write(&request.head()).await;
    refused(&client.read().await.unwrap(), 401, "NotAuthenticated");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_times_out() {
    let region = region().await;
    let mut client = region.client().await;
    let request = region.post("/20160918/things", "{}");
    client.write(&request.head()).await;
    client.write("{").await;
    // From here on waiting takes no time: the clock jumps whenever there is nothing else to do.
    tokio::time::pause();
    refused(&client.read().await.unwrap(), 408, "RequestTimeout");
}

#[tokio::test]
async fn headers_that_do_not_arrive_end_the_connection() {
    let region = region().await;
    let mut client = region.client().await;
    assert_eq!(client.send(region.get("/20160918/things/one")).await.status, 200);
    client.write("GET / HTTP/1.1\r\nhost: ").await;
    tokio::time::pause();
    let end = client.read().await;
    assert!(end.is_none_or(|answer| answer.status == 408), "neither closed nor timed out");
}

#[tokio::test]
async fn an_operation_goes_on_when_its_client_goes_away() {
    let region = region().await;
    let mut client = region.client().await;
    let hold = region.post("/20160918/things/one/actions/hold", "");
    client.write(&hold.head()).await;
    region.dispatch.held.notified().await;
    drop(client);
    // The service has noticed the end of that connection once it has served another one to its end.
    assert_eq!(region.client().await.send(region.get("/20160918/things/one")).await.status, 200);
    region.dispatch.release.notify_one();
    region.dispatch.finished.notified().await;
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_takes_no_more() {
    let mut region = region().await;
    let mut client = region.client().await;
    let hold = region.post("/20160918/things/one/actions/hold", "");
    client.write(&hold.head()).await;
    region.dispatch.held.notified().await;
    let stopped = region.stop();
    region.dispatch.release.notify_one();
    assert_eq!(client.read().await.unwrap().json(), "held");
    assert!(client.read().await.is_none(), "the connection stayed open");
    stopped.await.unwrap();
    assert!(region.connect("localhost").await.is_err());
}

#[tokio::test]
async fn the_certificate_is_valid_for_the_patterns_of_names_and_no_other() {
    let region = region().await;
    for name in [
        "iaas.home-1.x.localhost",
        "identity.home-1.oci.x.localhost",
        "objectstorage.home-1.x.localhost",
        // For clients that can be told no domain.
        "iaas.home-1.oraclecloud.com",
        "identity.home-1.oci.oraclecloud.com",
        "localhost",
        "127.0.0.1",
    ] {
        let mut client = Client::new(region.connect(name).await.unwrap());
        let answer = client.send(region.unsigned(Method::HEAD, "/")).await;
        assert_eq!(answer.status, 200, "{name}");
    }
    for name in [
        "x.localhost",
        "iaas.home-2.x.localhost",
        "a.b.home-1.x.localhost",
        "iaas.eu-frankfurt-1.oraclecloud.com",
        "127.0.0.2",
    ] {
        assert!(region.connect(name).await.is_err(), "{name}");
    }
}

/// The table must not have rows that hide one another.
#[test]
fn the_fake_table_is_routed_by_its_own_paths() {
    let router = super::router::Router::new(OPERATIONS.iter().collect());
    for row in &OPERATIONS {
        let path = row.path.replace("{thingId}", "x").replace("{objectName}", "x/y");
        match router.route(&row.method, &path, None) {
            super::router::Route::Found(found, _) => assert_eq!(found.name, row.name),
            _ => panic!("{} is not routed", row.name),
        }
    }
}

#[test]
fn a_parameter_tells_which_of_two_services_is_meant() {
    static ROWS: [Operation; 2] = [
        row("OfOne", Method::GET, "/20160918/works", LIST_QUERY),
        row("OfAnother", Method::GET, "/20160918/works", ANOTHER_QUERY),
    ];
    let router = super::router::Router::new(ROWS.iter().collect());
    for (query, name) in [
        (None, "OfOne"),
        (Some("compartmentId=x"), "OfOne"),
        (Some("compartmentId=x&thing=y"), "OfAnother"),
        (Some("thing=y&displayName=z"), "OfOne"),
    ] {
        match router.route(&Method::GET, "/20160918/works", query) {
            super::router::Route::Found(found, _) => assert_eq!(found.name, name, "{query:?}"),
            _ => panic!("{query:?} is not routed"),
        }
    }
}

fn key_id(key: &PublicKey) -> String {
    format!("{TENANCY}/{USER}/{}", key.fingerprint())
}
