//! The catalog: every resource of the region as a versioned document. What was acknowledged is on
//! disk, a batch is written whole or not at all, and nobody's change is overwritten unseen.
//!
//! Its whole interface is [`Db::get`], [`Db::list`] and [`Db::apply`]. Only this module contains
//! SQL, in the subset that SQLite and PostgreSQL share:
//!
//! * no `BOOLEAN` (the driver for any engine cannot read SQLite's), times in microseconds,
//!   documents as text, absent text as `''`;
//! * a change is `UPDATE … WHERE id = … AND version = …`, never a read followed by a write: read
//!   committed would lose updates on PostgreSQL, and a transaction that only later turns into a
//!   writer fails with "database is locked" on SQLite;
//! * what differs is how a writing transaction begins, see [`Dialect`].

mod batch;
#[cfg(test)]
pub(crate) mod conformance;
mod contents;
mod document;
mod error;
mod query;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use sqlx::any::{AnyArguments, AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyPool, AssertSqlSafe, Executor as _, Row as _, Transaction};

pub use self::batch::Batch;
pub use self::contents::Contents;
pub use self::document::{Document, Versioned};
pub use self::error::{Error, ErrorKind};
use self::query::{Argument, Key};
pub use self::query::{
    PAGE_DOCUMENTS_MAX, PAGE_TOKEN_BYTES_MAX, Page, PageToken, Query, Sort, SortKey, SortOrder,
};

/// Connections that only read; more than a few do not make SQLite faster.
const READERS_MAX: u32 = 4;
/// How long a writer waits for its turn before it is told that the catalog fails.
const TURN_WAIT_MAX: Duration = Duration::from_mins(1);

const STATE: &str = "SELECT state FROM document WHERE kind = $1 AND id = $2";
const GET: &str = "SELECT body, version FROM document WHERE kind = $1 AND id = $2";

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("src/db/migrations");

/// The catalog; cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    dialect: Dialect,
    readers: AnyPool,
    /// One connection: writers queue for it here, in order, rather than poll for a lock inside SQLite.
    writer: AnyPool,
}

/// What is not the same text on every engine.
#[derive(Debug, Clone, Copy)]
enum Dialect {
    Sqlite,
}

impl Dialect {
    /// Begins a transaction that will write. (PostgreSQL: `BEGIN ISOLATION LEVEL SERIALIZABLE`.)
    const fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
        }
    }

    /// What a new connection is set to.
    const fn settings(self, role: Role) -> &'static str {
        match (self, role) {
            // FULL: in WAL mode a lower setting may lose the last commits when the power fails.
            (Self::Sqlite, Role::Writer) => {
                "PRAGMA busy_timeout = 30000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"
            }
            (Self::Sqlite, Role::Reader) => "PRAGMA busy_timeout = 30000; PRAGMA query_only = ON",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Reader,
    Writer,
}

impl Db {
    /// Opens the catalog in this file, made if it does not exist, and brings it to this version.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let path = std::path::absolute(path).map_err(engine)?;
        create_private(&path).map_err(engine)?;
        sqlx::any::install_default_drivers();
        let options: AnyConnectOptions = sqlite_url(&path).parse()?;
        let dialect = Dialect::Sqlite;
        let writer = connect(dialect, Role::Writer, options.clone()).await?;
        MIGRATIONS.run(&writer).await?;
        let readers = connect(dialect, Role::Reader, options).await?;
        Ok(Self { dialect, readers, writer })
    }

    /// The document of this id, if there is one.
    pub async fn get<T: Document>(&self, id: &str) -> Result<Option<Versioned<T>>, Error> {
        let row = sqlx::query(GET).bind(T::KIND).bind(id).fetch_optional(&self.readers).await?;
        row.map(|row| decode::<T>(id, &row.try_get::<String, _>("body")?, row.try_get("version")?))
            .transpose()
    }

    /// The state of a document of whatever kind, empty if it has none; `None` if there is no such document.
    pub async fn state(&self, kind: &str, id: &str) -> Result<Option<String>, Error> {
        let row = sqlx::query(STATE).bind(kind).bind(id).fetch_optional(&self.readers).await?;
        Ok(row.map(|row| row.try_get("state")).transpose()?)
    }

    /// Kind and id of something that lies in a compartment, if anything of `contents` does.
    pub async fn inside(
        &self,
        compartment: &str,
        contents: Contents,
    ) -> Result<Option<(String, String)>, Error> {
        contents.first(&mut *self.readers.acquire().await?, compartment).await
    }

    /// A page of the documents that match.
    pub async fn list<T: Document>(&self, query: Query) -> Result<Page<Versioned<T>>, Error> {
        let (sql, arguments) = query.statement(T::KIND)?;
        let mut rows = prepared(sql, arguments).fetch_all(&self.readers).await?;
        let more = rows.len() > query.page_limit();
        rows.truncate(query.page_limit());
        let next = match rows.last() {
            Some(last) if more => {
                let key = Key {
                    time_created_us: last.try_get("time_created_us")?,
                    id: last.try_get("id")?,
                    name: last.try_get("name")?,
                };
                Some(query.token(T::KIND, &key))
            }
            _ => None,
        };
        let items = rows.into_iter().map(|row| {
            let id: String = row.try_get("id")?;
            decode::<T>(&id, &row.try_get::<String, _>("body")?, row.try_get("version")?)
        });
        Ok(Page { items: items.collect::<Result<_, Error>>()?, next })
    }

    /// How many documents match.
    pub async fn count<T: Document>(&self, query: &Query) -> Result<u64, Error> {
        let (sql, arguments) = query.count_statement(T::KIND)?;
        let row = prepared(sql, arguments).fetch_one(&self.readers).await?;
        Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
    }

    /// All documents that match, page by page: for what is few by nature. What is inserted or
    /// deleted meanwhile may or may not be among them.
    pub async fn list_all<T: Document>(&self, query: Query) -> Result<Vec<Versioned<T>>, Error> {
        let mut all = Vec::new();
        self.for_each(query, |document| all.push(document)).await?;
        Ok(all)
    }

    /// As [`Self::list_all`], for what may be many: no more than a page of them is in memory.
    pub async fn for_each<T: Document>(
        &self,
        query: Query,
        mut take: impl FnMut(Versioned<T>),
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.list(query.clone().limit(PAGE_DOCUMENTS_MAX).after(after)).await?;
            page.items.into_iter().for_each(&mut take);
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Writes the whole batch, durably, or nothing: [`ErrorKind::Conflict`] names the first document
    /// whose precondition failed.
    pub async fn apply(&self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut transaction = self.write().await?;
        // Dropped without commit, the transaction is rolled back.
        batch.run(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }

    async fn write(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(self.writer.begin_with(self.dialect.begin_write()).await?)
    }

    /// Waits for what is under way and closes the files. Not needed for durability.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn prepared(
    sql: String,
    arguments: Vec<Argument>,
) -> sqlx::query::Query<'static, Any, AnyArguments> {
    // Safe: the text is put together from constants only, values are arguments.
    arguments.into_iter().fold(
        sqlx::query(AssertSqlSafe(sql)),
        |statement, argument| match argument {
            Argument::Text(text) => statement.bind(text),
            Argument::Integer(integer) => statement.bind(integer),
        },
    )
}

async fn connect(
    dialect: Dialect,
    role: Role,
    options: AnyConnectOptions,
) -> Result<AnyPool, Error> {
    let connections = match role {
        Role::Reader => READERS_MAX,
        Role::Writer => 1,
    };
    let pool = AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(TURN_WAIT_MAX)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(dialect.settings(role)).await.map(|_| ()) })
        });
    Ok(pool.connect_with(options).await?)
}

fn decode<T: Document>(id: &str, body: &str, version: i64) -> Result<Versioned<T>, Error> {
    match serde_json::from_str(body) {
        Ok(value) => Ok(Versioned { value, version }),
        Err(error) => Err(Error {
            kind: ErrorKind::Corrupt { kind: T::KIND.to_owned(), id: id.to_owned() },
            source: Some(Box::new(error)),
        }),
    }
}

/// Makes the file so that only its owner can read it: it names keys, people and their machines.
fn create_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.sync_all()?;
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    File::open(directory)?.sync_all()
}

fn sqlite_url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            url.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url + "?mode=rw"
}

fn engine(source: std::io::Error) -> Error {
    Error { kind: ErrorKind::Engine, source: Some(Box::new(source)) }
}
