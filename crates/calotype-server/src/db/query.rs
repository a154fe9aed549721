//! Lists: filter, order, and pages that stay put while documents come and go.
//!
//! A page begins after the *key* of the last document of the page before (its sort columns and id),
//! not at a count, so that nothing is shown twice or skipped because something else was inserted
//! or deleted between two requests.

use std::fmt;
use std::ops::Bound;

use data_encoding::BASE64URL_NOPAD;

use super::document::Document;
use super::error::{Error, ErrorKind};

/// Most documents in one page, whatever was asked for.
pub const PAGE_DOCUMENTS_MAX: usize = 1000;
/// Longest page token that is looked at, in bytes.
pub const PAGE_TOKEN_BYTES_MAX: usize = 4096;
/// Most states one query may ask for.
const STATES_MAX: usize = 16;

const TOKEN_VERSION: u8 = 1;
const FINGERPRINT_BYTES: usize = 8;

/// What a list is ordered by; documents alike in it are ordered by time, then id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// When they were created.
    TimeCreated,
    /// Their name, by bytes.
    Name,
}

/// Which way a list runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortOrder {
    /// Oldest or smallest first.
    Ascending,
    /// Newest or greatest first.
    Descending,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub key: SortKey,
    /// Which way.
    pub order: SortOrder,
}

impl Sort {
    /// Newest first.
    pub const NEWEST: Self = Self { key: SortKey::TimeCreated, order: SortOrder::Descending };
}

/// What to list: every filter that is set must hold. Newest first unless told otherwise.
#[derive(Debug, Clone)]
#[must_use = "a query does nothing until it is listed"]
pub struct Query {
    parent_id: Option<String>,
    compartment_id: Option<String>,
    states: Vec<String>,
    name: Option<String>,
    names_from: Bound<String>,
    names_below: Option<String>,
    sort: Sort,
    limit: usize,
    after: Option<PageToken>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            parent_id: None,
            compartment_id: None,
            states: Vec::new(),
            name: None,
            names_from: Bound::Unbounded,
            names_below: None,
            sort: Sort::NEWEST,
            limit: PAGE_DOCUMENTS_MAX,
            after: None,
        }
    }
}

impl Query {
    /// Everything of a kind.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only what belongs to this document.
    pub fn parent(mut self, id: impl Into<String>) -> Self {
        self.parent_id = Some(id.into());
        self
    }

    /// Only what lies in this compartment.
    pub fn compartment(mut self, id: impl Into<String>) -> Self {
        self.compartment_id = Some(id.into());
        self
    }

    /// Only what lies in no compartment: what the region itself offers.
    pub fn in_no_compartment(self) -> Self {
        self.compartment("")
    }

    /// Only what is in this state; said twice, in either.
    pub fn state(mut self, state: impl Into<String>) -> Self {
        debug_assert!(
            self.states.len() < STATES_MAX,
            "a query asks for at most {STATES_MAX} states"
        );
        self.states.push(state.into());
        self
    }

    /// Only what has exactly this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only what has a name in this range of names, by bytes. Read from an index if they are the order, too.
    pub fn names(mut self, from: Bound<String>, below: Option<String>) -> Self {
        self.names_from = from;
        self.names_below = below;
        self
    }

    /// The order.
    pub const fn sort(mut self, sort: Sort) -> Self {
        self.sort = sort;
        self
    }

    /// At most this many in a page; between 1 and [`PAGE_DOCUMENTS_MAX`], more is cut to that.
    pub fn limit(mut self, documents: usize) -> Self {
        self.limit = documents.clamp(1, PAGE_DOCUMENTS_MAX);
        self
    }

    /// The page that follows the one which gave this token.
    pub fn after(mut self, token: Option<PageToken>) -> Self {
        self.after = token;
        self
    }

    pub(super) const fn page_limit(&self) -> usize {
        self.limit
    }

    /// The statement for `kind` and its arguments, in order. One document more than the page holds
    /// is asked for: whether it exists tells whether there is another page.
    pub(super) fn statement(&self, kind: &str) -> Result<(String, Vec<Argument>), Error> {
        let mut arguments = Arguments::default();
        let conditions = self.conditions(kind, &mut arguments)?;
        let way = match self.sort.order {
            SortOrder::Ascending => "ASC",
            SortOrder::Descending => "DESC",
        };
        let order = match self.sort.key {
            SortKey::TimeCreated => format!("time_created_us {way}, id {way}"),
            SortKey::Name => format!("name {way}, time_created_us {way}, id {way}"),
        };
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX).saturating_add(1);
        let sql = format!(
            "SELECT body, version, id, name, time_created_us FROM document \
             WHERE {conditions} ORDER BY {order} LIMIT {}",
            arguments.integer(limit)
        );
        Ok((sql, arguments.0))
    }

    /// The statement that counts what matches.
    pub(super) fn count_statement(&self, kind: &str) -> Result<(String, Vec<Argument>), Error> {
        let mut arguments = Arguments::default();
        let conditions = self.conditions(kind, &mut arguments)?;
        Ok((format!("SELECT COUNT(*) FROM document WHERE {conditions}"), arguments.0))
    }

    fn conditions(&self, kind: &str, arguments: &mut Arguments) -> Result<String, Error> {
        let mut conditions = vec![format!("kind = {}", arguments.text(kind))];
        for (column, wanted) in [
            ("parent_id", &self.parent_id),
            ("compartment_id", &self.compartment_id),
            ("name", &self.name),
        ] {
            if let Some(wanted) = wanted {
                conditions.push(format!("{column} = {}", arguments.text(wanted)));
            }
        }
        match &self.names_from {
            Bound::Unbounded => {}
            Bound::Included(name) => {
                conditions.push(format!("name >= {}", arguments.text(name)));
            }
            Bound::Excluded(name) => conditions.push(format!("name > {}", arguments.text(name))),
        }
        if let Some(name) = &self.names_below {
            conditions.push(format!("name < {}", arguments.text(name)));
        }
        if !self.states.is_empty() {
            let states: Vec<_> = self.states.iter().map(|state| arguments.text(state)).collect();
            conditions.push(format!("state IN ({})", states.join(", ")));
        }
        if let Some(token) = &self.after {
            conditions.push(self.beyond(&token.key(self.fingerprint(kind))?, arguments));
        }
        Ok(conditions.join(" AND "))
    }

    /// The condition of being behind `key` in the list.
    fn beyond(&self, key: &Key, arguments: &mut Arguments) -> String {
        let beyond = match self.sort.order {
            SortOrder::Ascending => ">",
            SortOrder::Descending => "<",
        };
        let time = arguments.integer(key.time_created_us);
        let id = arguments.text(&key.id);
        match self.sort.key {
            SortKey::TimeCreated => format!("(time_created_us, id) {beyond} ({time}, {id})"),
            SortKey::Name => {
                let name = arguments.text(&key.name);
                format!("(name, time_created_us, id) {beyond} ({name}, {time}, {id})")
            }
        }
    }

    /// Where the page begins that follows this document.
    pub fn token_after<T: Document>(&self, document: &T) -> PageToken {
        let key = Key {
            time_created_us: document.time_created().as_microsecond(),
            id: document.id(),
            name: document.name().unwrap_or_default(),
        };
        self.token(T::KIND, &key)
    }

    pub(super) fn token(&self, kind: &str, key: &Key) -> PageToken {
        let mut bytes = vec![TOKEN_VERSION];
        bytes.extend(self.fingerprint(kind));
        bytes.extend(key.time_created_us.to_be_bytes());
        let id_bytes = u16::try_from(key.id.len()).unwrap_or(u16::MAX);
        bytes.extend(id_bytes.to_be_bytes());
        bytes.extend(key.id.as_bytes());
        if self.sort.key == SortKey::Name {
            bytes.extend(key.name.as_bytes());
        }
        PageToken(BASE64URL_NOPAD.encode(&bytes))
    }

    /// Ties a token to the list that made it: all but limit and position.
    fn fingerprint(&self, kind: &str) -> [u8; FINGERPRINT_BYTES] {
        let list = (kind, &self.parent_id, &self.compartment_id, &self.states, &self.name);
        let names = (&self.names_from, &self.names_below);
        let order = (self.sort.key == SortKey::Name, self.sort.order == SortOrder::Ascending);
        let hash = blake3::hash(format!("{list:?} {names:?} {order:?}").as_bytes());
        let mut fingerprint = [0; FINGERPRINT_BYTES];
        fingerprint.copy_from_slice(&hash.as_bytes()[..FINGERPRINT_BYTES]);
        fingerprint
    }
}

/// An argument of a statement.
#[derive(Debug)]
pub(super) enum Argument {
    Text(String),
    Integer(i64),
}

/// The arguments of a statement so far; adding one gives its placeholder.
#[derive(Debug, Default)]
struct Arguments(Vec<Argument>);

impl Arguments {
    fn text(&mut self, text: &str) -> String {
        self.place(Argument::Text(text.to_owned()))
    }

    fn integer(&mut self, integer: i64) -> String {
        self.place(Argument::Integer(integer))
    }

    fn place(&mut self, argument: Argument) -> String {
        self.0.push(argument);
        format!("${}", self.0.len())
    }
}

/// Where a document stands in a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) time_created_us: i64,
    pub(super) id: String,
    /// Empty unless the list is ordered by name.
    pub(super) name: String,
}

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// The documents, in order.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<PageToken>,
}

/// Where a page begins, for the caller to send back. It hides nothing that the page before did not
/// show and grants nothing: the filters of the list it is sent with apply as always. One that a
/// caller made up is refused or begins elsewhere in that caller's own list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken(String);

impl PageToken {
    /// Takes what a client sent; whether it is a token of the list is seen when it is used.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > PAGE_TOKEN_BYTES_MAX {
            return Err(ErrorKind::InvalidPageToken.into());
        }
        Ok(Self(text.to_owned()))
    }

    fn key(&self, fingerprint: [u8; FINGERPRINT_BYTES]) -> Result<Key, Error> {
        self.decode(fingerprint).ok_or_else(|| ErrorKind::InvalidPageToken.into())
    }

    fn decode(&self, fingerprint: [u8; FINGERPRINT_BYTES]) -> Option<Key> {
        let bytes = BASE64URL_NOPAD.decode(self.0.as_bytes()).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (list, rest) = rest.split_at_checked(FINGERPRINT_BYTES)?;
        if *version != TOKEN_VERSION || list != fingerprint {
            return None;
        }
        let (time, rest) = rest.split_first_chunk()?;
        let (id_bytes, rest) = rest.split_first_chunk()?;
        let (id, name) = rest.split_at_checked(usize::from(u16::from_be_bytes(*id_bytes)))?;
        // PostgreSQL refuses NUL in text: such a token is wrong, not the engine.
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).ok().filter(|text| !text.contains('\0'))
        };
        Some(Key { time_created_us: i64::from_be_bytes(*time), id: text(id)?, name: text(name)? })
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
