//! Handshakes byte by byte, well-formed and not.

use calotype_disk::{Extent, ExtentKind};
use proptest::prelude::*;

use super::*;

const SIZE_BYTES: u64 = 0x0123_4567_8900;
/// Greeting: two magic numbers and the flags.
const GREETING_BYTES: usize = 18;

struct Zeros;

impl Disk for Zeros {
    fn size_bytes(&self) -> u64 {
        SIZE_BYTES
    }

    fn read_at(&self, _offset: u64, buf: &mut [u8]) -> calotype_disk::Result<()> {
        buf.fill(0);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> calotype_disk::Result<Extent> {
        Ok(Extent { length_bytes: SIZE_BYTES - offset, kind: ExtentKind::Zero })
    }
}

fn resolve(name: &str) -> Option<Arc<dyn Disk>> {
    (name == "disk" || name.is_empty()).then(|| Arc::new(Zeros) as Arc<dyn Disk>)
}

/// What a client sends.
struct Client(Vec<u8>);

impl Client {
    fn new() -> Self {
        Self(3_u32.to_be_bytes().to_vec())
    }

    fn option(mut self, number: u32, data: &[u8]) -> Self {
        self.0.extend(OPTION_MAGIC.to_be_bytes());
        self.0.extend(number.to_be_bytes());
        self.0.extend((data.len() as u32).to_be_bytes());
        self.0.extend(data);
        self
    }

    /// The outcome, and what the server sent after its greeting.
    fn negotiate(&self) -> (io::Result<Option<Chosen>>, Vec<u8>) {
        let mut sent = Vec::new();
        let outcome = negotiate(&mut self.0.as_slice(), &mut sent, &resolve);
        assert_eq!(sent[..16], *b"NBDMAGICIHAVEOPT");
        assert_eq!(sent[16..GREETING_BYTES], [0, 3]);
        (outcome, sent.split_off(GREETING_BYTES))
    }

    fn chosen(&self) -> Chosen {
        self.negotiate().0.unwrap().unwrap()
    }
}

/// Option, type and data of each reply.
fn replies(mut sent: &[u8]) -> Vec<(u32, u32, Vec<u8>)> {
    let mut replies = Vec::new();
    while !sent.is_empty() {
        assert_eq!(read_u64(&mut sent).unwrap(), OPTION_REPLY_MAGIC);
        let (number, kind) = (read_u32(&mut sent).unwrap(), read_u32(&mut sent).unwrap());
        let mut data = vec![0; read_u32(&mut sent).unwrap() as usize];
        sent.read_exact(&mut data).unwrap();
        replies.push((number, kind, data));
    }
    replies
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

fn information(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut data = text(name);
    data.extend((wanted.len() as u16).to_be_bytes());
    data.extend(wanted.iter().flat_map(|kind| kind.to_be_bytes()));
    data
}

fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = text(name);
    data.extend((queries.len() as u32).to_be_bytes());
    data.extend(queries.iter().flat_map(|query| text(query)));
    data
}

#[test]
fn go_tells_size_flags_and_block_sizes() {
    let client = Client::new().option(option::GO, &information("disk", &[info::BLOCK_SIZE]));
    let (outcome, sent) = client.negotiate();
    let chosen = outcome.unwrap().unwrap();
    assert_eq!(chosen.name, "disk");
    assert_eq!(chosen.features, Features::default());
    let size = [&[0, 0][..], &SIZE_BYTES.to_be_bytes(), &[0b101, 0b11]].concat();
    let sizes = [&[0, 3][..], &[0, 0, 0, 1], &[0, 1, 0, 0], &[2, 0, 0, 0]].concat();
    let expected = [
        (option::GO, answer::INFO, size),
        (option::GO, answer::INFO, sizes),
        (option::GO, answer::ACK, Vec::new()),
    ];
    assert_eq!(replies(&sent), expected);
}

#[test]
fn info_tells_the_same_and_goes_on() {
    let client =
        Client::new().option(option::INFO, &information("disk", &[])).option(option::ABORT, &[]);
    let (outcome, sent) = client.negotiate();
    assert!(outcome.unwrap().is_none());
    let kinds: Vec<u32> = replies(&sent).into_iter().map(|(_, kind, _)| kind).collect();
    assert_eq!(kinds, [answer::INFO, answer::ACK, answer::ACK]);
}

#[test]
fn export_name_chooses_without_ceremony() {
    let client = Client::new().option(option::EXPORT_NAME, b"disk");
    let (outcome, sent) = client.negotiate();
    assert_eq!(outcome.unwrap().unwrap().name, "disk");
    assert_eq!(sent, [&SIZE_BYTES.to_be_bytes()[..], &[0b101, 0b11]].concat());

    let mut old = Client::new().option(option::EXPORT_NAME, b"disk");
    old.0[3] = 1;
    assert_eq!(old.negotiate().1.len(), 10 + 124);

    let unknown = Client::new().option(option::EXPORT_NAME, b"other");
    assert!(unknown.negotiate().0.is_err());
}

#[test]
fn structured_replies_and_contexts_are_agreed_on() {
    let client = Client::new()
        .option(option::STRUCTURED_REPLY, &[])
        .option(option::SET_META_CONTEXT, &contexts("disk", &["base:allocation", "x:y"]))
        .option(option::GO, &information("disk", &[]));
    let (outcome, sent) = client.negotiate();
    let features = outcome.unwrap().unwrap().features;
    assert_eq!(features, Features { structured: true, allocation: true });
    let context = [&ALLOCATION_ID.to_be_bytes()[..], b"base:allocation"].concat();
    let replies = replies(&sent);
    assert_eq!(replies[1], (option::SET_META_CONTEXT, answer::META_CONTEXT, context));
    assert_eq!(replies[2].1, answer::ACK);
    assert_eq!(replies[3].2[10..], [0b101, 0b1000_0011], "with the don't-fragment flag");
}

#[test]
fn a_context_holds_for_its_export_only() {
    let client = Client::new()
        .option(option::STRUCTURED_REPLY, &[])
        .option(option::SET_META_CONTEXT, &contexts("", &["base:allocation"]))
        .option(option::GO, &information("disk", &[]));
    assert!(!client.chosen().features.allocation);
}

#[test]
fn setting_no_context_takes_it_back() {
    let client = Client::new()
        .option(option::STRUCTURED_REPLY, &[])
        .option(option::SET_META_CONTEXT, &contexts("disk", &["base:allocation"]))
        .option(option::SET_META_CONTEXT, &contexts("disk", &["base:"]))
        .option(option::GO, &information("disk", &[]));
    assert!(!client.chosen().features.allocation);
}

#[test]
fn contexts_need_structured_replies() {
    let client = Client::new()
        .option(option::SET_META_CONTEXT, &contexts("disk", &["base:allocation"]))
        .option(option::GO, &information("disk", &[]));
    let (outcome, sent) = client.negotiate();
    assert!(!outcome.unwrap().unwrap().features.allocation);
    assert_eq!(replies(&sent)[0].1, answer::INVALID);
}

#[test]
fn contexts_are_listed() {
    for (queries, listed) in
        [(&[][..], true), (&["base:"], true), (&["base:allocation"], true), (&["qemu:"], false)]
    {
        let client = Client::new()
            .option(option::STRUCTURED_REPLY, &[])
            .option(option::LIST_META_CONTEXT, &contexts("disk", queries))
            .option(option::GO, &information("disk", &[]));
        let (outcome, sent) = client.negotiate();
        assert_eq!(replies(&sent)[1].1 == answer::META_CONTEXT, listed, "{queries:?}");
        assert!(!outcome.unwrap().unwrap().features.allocation, "listing sets nothing");
    }
}

#[test]
fn exports_are_not_listed() {
    let client = Client::new().option(option::LIST, &[]).option(option::ABORT, &[]);
    let sent = client.negotiate().1;
    assert_eq!(replies(&sent)[0], (option::LIST, answer::ACK, Vec::new()));
}

#[test]
fn a_refused_option_is_not_the_end() {
    let cases: [(u32, Vec<u8>, u32); 8] = [
        (5, Vec::new(), answer::UNSUPPORTED),
        (11, Vec::new(), answer::UNSUPPORTED),
        (0x7777, vec![1; 100], answer::UNSUPPORTED),
        (option::LIST, vec![0], answer::INVALID),
        (option::STRUCTURED_REPLY, vec![0], answer::INVALID),
        (option::GO, information("other", &[]), answer::UNKNOWN),
        (option::GO, [information("disk", &[]), vec![0]].concat(), answer::INVALID),
        (option::INFO, information(&"x".repeat(4097), &[]), answer::INVALID),
    ];
    for (number, data, expected) in cases {
        let client =
            Client::new().option(number, &data).option(option::GO, &information("disk", &[]));
        let (outcome, sent) = client.negotiate();
        assert_eq!(replies(&sent)[0].1, expected, "option {number}");
        assert!(!outcome.unwrap().unwrap().features.structured);
    }
}

#[test]
fn lengths_that_lie_are_malformed() {
    let name_past_the_end = [&u32::MAX.to_be_bytes()[..], b"disk", &[0, 0]].concat();
    let count_past_the_end = [&text("disk")[..], &[0xff, 0xff]].concat();
    let not_text = [&[0, 0, 0, 1][..], &[0xff], &[0, 0]].concat();
    for data in [name_past_the_end, count_past_the_end, not_text, Vec::new()] {
        let client = Client::new().option(option::GO, &data).option(option::ABORT, &[]);
        assert_eq!(replies(&client.negotiate().1)[0].1, answer::INVALID, "{data:?}");
    }
    let queries_past_the_end = [&text("disk")[..], &u32::MAX.to_be_bytes()].concat();
    let client = Client::new()
        .option(option::STRUCTURED_REPLY, &[])
        .option(option::SET_META_CONTEXT, &queries_past_the_end)
        .option(option::ABORT, &[]);
    assert_eq!(replies(&client.negotiate().1)[1].1, answer::INVALID);
}

#[test]
fn what_leaves_no_common_ground_ends_the_connection() {
    let endings = [
        // Flags that nobody defined, and those of a client too old.
        Client(vec![0, 0, 0, 7]),
        Client(vec![0, 0, 0, 2]),
        // No magic; nothing at all.
        Client([&[0, 0, 0, 3][..], b"IHAVEOPX", &[0; 8]].concat()),
        Client(Vec::new()),
        // Data that never comes.
        Client(Client::new().option(option::GO, &[0; 64]).0[..30].to_vec()),
    ];
    for client in endings {
        assert!(client.negotiate().0.is_err());
    }
}

#[test]
fn an_option_that_is_too_long_is_not_read() {
    let mut client = Client::new();
    client.0.extend(OPTION_MAGIC.to_be_bytes());
    client.0.extend(option::GO.to_be_bytes());
    client.0.extend(u32::MAX.to_be_bytes());
    let (outcome, sent) = client.negotiate();
    assert!(outcome.is_err());
    assert_eq!(replies(&sent), [(option::GO, answer::TOO_BIG, Vec::new())]);
}

#[test]
fn a_client_cannot_negotiate_for_ever() {
    let client =
        (0..=NBD_OPTIONS_MAX).fold(Client::new(), |client, _| client.option(option::LIST, &[]));
    assert!(client.negotiate().0.is_err());
}

proptest! {
    #[test]
    fn any_options_are_survived(
        options in prop::collection::vec(
            (0_u32..14, prop::collection::vec(any::<u8>(), 0..40)),
            0..8,
        ),
        cut in 0_usize..100,
    ) {
        let mut client = options
            .iter()
            .fold(Client::new(), |client, (number, data)| client.option(*number, data));
        client.0.truncate(client.0.len().saturating_sub(cut));
        let (_, sent) = client.negotiate();
        prop_assert!(sent.len() <= 200 * (options.len() + 1));
    }
}
