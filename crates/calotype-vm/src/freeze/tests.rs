//! Freezes with a real guard process and an agent made here, which behaves as badly as wanted.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::agent::Agent;

/// Generous: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// The process that [`command`] starts; no test.
#[tokio::test]
#[ignore = "run by other tests, as a process of its own"]
async fn guard_process() {
    // Somebody who runs all ignored tests gives no order.
    let _ = crate::run_freeze_guard().await;
}

fn command() -> GuardCommand {
    let test = ["--exact", "freeze::tests::guard_process", "--include-ignored", "--nocapture"];
    let program = std::env::current_exe().unwrap().into_os_string();
    GuardCommand(std::iter::once(program).chain(test.map(Into::into)).collect())
}

/// What the agent does.
#[derive(Default)]
struct Guest {
    asked: Vec<String>,
    frozen: bool,
    refuse_to_freeze: bool,
    /// How often it still refuses to thaw.
    thaws_refused: u32,
    /// Comes before its first answer.
    stale: Vec<u8>,
}

impl Guest {
    fn answer(&mut self, request: &Value) -> Value {
        let name = request["execute"].as_str().unwrap_or_default();
        self.asked.push(name.to_owned());
        let refused =
            json!({ "error": { "class": "GenericError", "desc": "the disk is on fire" } });
        match name {
            "guest-sync-delimited" => json!({ "return": request["arguments"]["id"] }),
            "guest-fsfreeze-status" => {
                json!({ "return": if self.frozen { "frozen" } else { "thawed" } })
            }
            "guest-fsfreeze-freeze" if self.refuse_to_freeze => refused,
            "guest-fsfreeze-freeze" => {
                self.frozen = true;
                json!({ "return": 2 })
            }
            "guest-fsfreeze-thaw" if self.thaws_refused > 0 => {
                self.thaws_refused -= 1;
                refused
            }
            "guest-fsfreeze-thaw" => {
                self.frozen = false;
                json!({ "return": 2 })
            }
            _ => refused,
        }
    }
}

struct Machine {
    _directory: tempfile::TempDir,
    layout: Layout,
    guest: Arc<Mutex<Guest>>,
}

impl Machine {
    fn new(guest: Guest) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        std::fs::create_dir(layout.run()).unwrap();
        let listener = UnixListener::bind(layout.agent_socket()).unwrap();
        let guest = Arc::new(Mutex::new(guest));
        tokio::spawn(serve(listener, Arc::clone(&guest)));
        Self { _directory: directory, layout, guest }
    }

    fn order(&self, frozen_max: Duration) -> Order {
        Order {
            socket: self.layout.agent_socket(),
            mark: self.layout.freeze_mark(),
            frozen_max_ms: u64::try_from(frozen_max.as_millis()).unwrap(),
        }
    }

    fn is_frozen(&self) -> bool {
        self.guest.lock().unwrap().frozen
    }

    fn is_marked(&self) -> bool {
        Mark::is_set(&self.layout.freeze_mark())
    }

    async fn is_thawed_and_unmarked(&self) {
        until(|| !self.is_frozen() && !self.is_marked()).await;
    }
}

/// One client at a time, as QEMU.
async fn serve(listener: UnixListener, guest: Arc<Mutex<Guest>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
            let delimited = line.contains(&0xff);
            let request = line.rsplit(|byte| *byte == 0xff).next().unwrap();
            let request = serde_json::from_slice(request).unwrap_or_default();
            let (mut answer, text) = {
                let mut guest = guest.lock().unwrap();
                (std::mem::take(&mut guest.stale), guest.answer(&request).to_string())
            };
            if delimited {
                answer.push(0xff);
            }
            answer.extend_from_slice(text.as_bytes());
            answer.push(b'\n');
            if writer.write_all(&answer).await.is_err() {
                break;
            }
            line.clear();
        }
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain");
}

#[tokio::test]
async fn a_guest_is_frozen_until_the_word_comes() {
    let stale = b"{\"return\": \"of another\"}\nhalf an ans\xff{\"return\": 1}\n".to_vec();
    let machine = Machine::new(Guest { stale, ..Guest::default() });
    let frozen = Frozen::begin(&command(), &machine.layout).await.unwrap();
    assert!(machine.is_frozen() && machine.is_marked());
    frozen.thaw().await.unwrap();
    assert!(!machine.is_frozen() && !machine.is_marked());
    let asked = machine.guest.lock().unwrap().asked.clone();
    assert_eq!(
        asked,
        [
            "guest-sync-delimited",
            "guest-fsfreeze-status",
            "guest-fsfreeze-freeze",
            "guest-sync-delimited",
            "guest-fsfreeze-thaw",
            "guest-fsfreeze-status",
        ]
    );
}

#[tokio::test]
async fn the_end_of_whoever_wanted_it_thaws() {
    let machine = Machine::new(Guest::default());
    let frozen = Frozen::begin(&command(), &machine.layout).await.unwrap();
    // All that the guard sees of a service that is killed.
    drop(frozen);
    machine.is_thawed_and_unmarked().await;
}

#[tokio::test]
async fn a_signal_thaws_as_well() {
    let machine = Machine::new(Guest::default());
    let frozen = Frozen::begin(&command(), &machine.layout).await.unwrap();
    let pid = i32::try_from(frozen.guard.child.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    machine.is_thawed_and_unmarked().await;
    assert_eq!(frozen.thaw().await.unwrap_err().kind(), ErrorKind::ThawedEarly);
}

#[tokio::test]
async fn the_service_thaws_when_the_guard_is_killed() {
    let machine = Machine::new(Guest::default());
    let mut frozen = Frozen::begin(&command(), &machine.layout).await.unwrap();
    frozen.guard.child.kill().await.unwrap();
    assert!(machine.is_frozen() && machine.is_marked());
    // Nobody had thawed before: what was sealed meanwhile is quiet.
    frozen.thaw().await.unwrap();
    assert!(!machine.is_frozen() && !machine.is_marked());
}

#[tokio::test]
async fn whoever_finds_the_mark_thaws_when_all_are_dead() {
    let machine = Machine::new(Guest { frozen: true, thaws_refused: 2, ..Guest::default() });
    Mark::take(&machine.layout.freeze_mark()).unwrap().unwrap().set().unwrap();
    let process = Arc::new(Process::open(std::process::id()).unwrap().unwrap());
    thaw_adopted(machine.layout.clone(), process);
    machine.is_thawed_and_unmarked().await;
}

#[tokio::test]
async fn nobody_thaws_while_another_guards() {
    let machine = Machine::new(Guest::default());
    let mark = Mark::take(&machine.layout.freeze_mark()).unwrap().unwrap();
    mark.set().unwrap();
    let waiting = tokio::spawn(thaw_what_was_left(machine.layout.clone()));
    let refused = Frozen::begin(&command(), &machine.layout).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFrozen);
    assert!(machine.guest.lock().unwrap().asked.is_empty());
    mark.clear();
    waiting.await.unwrap();
    assert!(machine.guest.lock().unwrap().asked.is_empty());
}

#[tokio::test]
async fn a_guest_that_does_not_freeze_is_thawed() {
    let machine = Machine::new(Guest { refuse_to_freeze: true, ..Guest::default() });
    let error = Frozen::begin(&command(), &machine.layout).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFrozen);
    assert!(error.to_string().contains("the disk is on fire"), "{error}");
    machine.is_thawed_and_unmarked().await;
    let asked = machine.guest.lock().unwrap().asked.clone();
    assert!(asked.contains(&"guest-fsfreeze-thaw".to_owned()), "part of it may be frozen");
}

#[tokio::test]
async fn somebody_elses_freeze_is_left_alone() {
    let machine = Machine::new(Guest { frozen: true, ..Guest::default() });
    let error = Frozen::begin(&command(), &machine.layout).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFrozen);
    assert!(machine.is_frozen() && !machine.is_marked());
}

#[tokio::test]
async fn a_channel_without_an_agent_is_told_from_one_that_refuses() {
    let machine = Machine::new(Guest { stale: vec![b'x'; 1 << 20], ..Guest::default() });
    let error = Frozen::begin(&command(), &machine.layout).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AgentMissing, "a line without an end: {error}");
    std::fs::remove_file(machine.layout.agent_socket()).unwrap();
    let error = Frozen::begin(&command(), &machine.layout).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AgentMissing);
    assert!(!machine.is_marked());
}

#[tokio::test]
async fn the_deadline_thaws_whatever_the_service_does() {
    let machine = Machine::new(Guest { thaws_refused: 3, ..Guest::default() });
    let mut guard = Guard::start(&command()).unwrap();
    let order = machine.order(Duration::from_millis(1));
    guard.tell(&serde_json::to_string(&order).unwrap()).await.unwrap();
    // Whether the freeze was ready in that millisecond or not.
    let mut last = guard.report().await.unwrap();
    if matches!(last, Report::Frozen { .. }) {
        last = guard.report().await.unwrap();
        assert_eq!(last, Report::Thawed { in_time: false });
    }
    machine.is_thawed_and_unmarked().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_a_guest_says_is_an_error_or_an_answer(
        said in proptest::collection::vec(any::<u8>(), 0..200),
        lines in proptest::collection::vec("\\PC{0,40}", 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("agent");
            let listener = UnixListener::bind(&socket).unwrap();
            let mut agent = Agent::connect(&socket).await.unwrap();
            let (mut stream, _): (UnixStream, _) = listener.accept().await.unwrap();
            stream.write_all(&said).await.unwrap();
            stream.write_all(lines.join("\n").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let _ = agent.synchronize().await;
            let _ = agent.is_frozen().await;
        });
    }
}
