//! The client against a QEMU of the tests' own that says what it is told to.

use tempfile::TempDir;
use tokio::io::Lines as TextLines;
use tokio::net::UnixListener;

use super::*;

const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;

struct Peer {
    directory: TempDir,
    listener: UnixListener,
}

struct Connection {
    lines: TextLines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Peer {
    fn new() -> (Self, Qmp) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("qmp.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let process = Process::open(std::process::id()).unwrap().unwrap();
        (Self { directory, listener }, Qmp::new(socket, Arc::new(process)))
    }

    async fn accept(&self) -> Connection {
        let (reader, writer) = self.listener.accept().await.unwrap().0.into_split();
        Connection { lines: BufReader::new(reader).lines(), writer }
    }

    async fn greet(&self) -> Connection {
        let mut connection = self.accept().await;
        connection.say(GREETING).await;
        assert_eq!(connection.hear().await["execute"], "qmp_capabilities");
        connection.say(r#"{"return": {}}"#).await;
        connection
    }
}

impl Connection {
    async fn say(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }
}

#[tokio::test]
async fn answers_find_their_commands_and_events_their_subscribers() {
    let (peer, qmp) = Peer::new();
    let mut events = qmp.events();
    let answers =
        async { tokio::join!(qmp.execute("one", json!({"a": 1})), qmp.execute("two", json!({}))) };
    let script = async {
        let mut connection = peer.greet().await;
        let (first, second) = (connection.hear().await, connection.hear().await);
        assert_eq!((&first["execute"], &first["arguments"]), (&json!("one"), &json!({"a": 1})));
        connection.say(r#"{"event": "RESET", "data": {"guest": true}, "timestamp": {}}"#).await;
        let refused = json!({"id": second["id"], "error": {"class": "GenericError", "desc": "no"}});
        connection.say(&refused.to_string()).await;
        connection.say(&json!({"id": first["id"], "return": {"b": 2}}).to_string()).await;
        connection
    };
    let ((one, two), _connection) = tokio::join!(answers, script);
    assert_eq!(one.unwrap(), json!({"b": 2}));
    let two = two.unwrap_err();
    assert_eq!((two.kind(), two.to_string()), (ErrorKind::Refused, "QEMU refused two: no".into()));
    let event = events.recv().await.unwrap();
    assert_eq!(event, Event { name: "RESET".into(), data: json!({"guest": true}) });
}

#[tokio::test]
async fn a_broken_connection_fails_its_commands_and_is_made_again() {
    for nonsense in ["not JSON", &"x".repeat(QMP_LINE_BYTES_MAX + 1), "[1, 2"] {
        let (peer, qmp) = Peer::new();
        let script = async {
            let mut connection = peer.greet().await;
            connection.hear().await;
            let _ = connection.writer.write_all(format!("{nonsense}\n").as_bytes()).await;
            let mut connection = peer.greet().await;
            let id = connection.hear().await["id"].take();
            connection.say(&json!({"id": id, "return": "well"}).to_string()).await;
            connection
        };
        let commands = async {
            let first = qmp.execute("first", json!({})).await;
            (first, qmp.execute("second", json!({})).await)
        };
        let ((first, second), _connection) = tokio::join!(commands, script);
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(second.unwrap(), "well");
    }
}

#[tokio::test]
async fn a_peer_that_is_no_qemu_is_not_talked_to() {
    let (peer, qmp) = Peer::new();
    let script = async {
        let mut stranger = peer.accept().await;
        stranger.say(r#"{"hello": "world"}"#).await;
        assert!(stranger.lines.next_line().await.unwrap().is_none());
        let mut connection = peer.greet().await;
        let id = connection.hear().await["id"].take();
        connection.say(&json!({"id": id, "return": {}}).to_string()).await;
        connection
    };
    let (answer, _connection) = tokio::join!(qmp.execute("query-status", json!({})), script);
    assert_eq!(answer.unwrap(), json!({}));
}

#[tokio::test]
async fn a_command_given_up_is_not_carried_out_later() {
    let (peer, qmp) = Peer::new();
    let soon = Duration::from_millis(1);
    let late = qmp.execute_within(soon, "system_reset", json!({})).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    let script = async {
        let mut connection = peer.greet().await;
        let heard = connection.hear().await;
        assert_eq!(heard["execute"], "query-status");
        connection.say(&json!({"id": heard["id"], "return": {}}).to_string()).await;
        connection
    };
    let (answer, _connection) = tokio::join!(qmp.execute("query-status", json!({})), script);
    answer.unwrap();
    assert!(peer.directory.path().exists());
}
