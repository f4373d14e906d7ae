//! The one SQLite file: the queue and the record. Used only by `engine`.
//!
//! A write transaction is `BEGIN IMMEDIATE` and short, and never spans a network call. Rows in and out are `model`
//! types; what may happen is decided elsewhere.

mod audit;
mod board;
mod chat;
mod evidence;
mod jobs;
mod journal;
mod leases;
mod outbox;
mod runs;
mod site;
mod tasks;
mod views;
mod waits;

pub use crate::model::evidence::NewEvidence;
pub use audit::{AuditEvent, Broken as AuditBroken, TAIL_WRITTEN, Tail};
pub use board::{IntentRow, IntentState, ItemRow, NewIntent};
pub use chat::{NewAsk, WaitEnd};
pub use journal::JournalRow;
pub use outbox::{NewOutbox, OutboxRow, Sink};
pub use runs::{RunExit, RunSums};
pub use site::EndedTask;
pub use tasks::NewTask;
pub use views::{CostSum, ParkedMessage};

use crate::failpoint::point;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `PRAGMA application_id`: "orch" in ASCII.
const APPLICATION_ID: i64 = 0x6f72_6368;

/// The schema steps, forward only; `user_version` counts them.
const MIGRATIONS: &[&str] = &[include_str!("schema/0001_init.sql")];

/// The schema version this program writes.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// The oldest schema whose programs may still use what this one writes (RULE-36). A migration that only adds leaves the
/// number unchanged.
const OLDEST: i64 = 1;
/// Where the database states it, together with the schema version that the statement is about; a version without a
/// statement is refused.
const STATED: &str = "schema";

/// What a database says about its schema.
#[derive(serde::Serialize, serde::Deserialize)]
struct Stated {
    version: i64,
    oldest: i64,
}

/// Whether a database with this newer schema says that this program may still use it.
fn may_use(conn: &Connection, found: i64) -> bool {
    let text = conn.query_row("SELECT value FROM meta WHERE key = ?1", [STATED], |r| r.get::<_, String>(0));
    let stated = text.ok().and_then(|t| from_json::<Stated>(&t));
    stated.is_some_and(|s| s.version == found && s.oldest <= SCHEMA_VERSION)
}

fn migrate_within(tx: &rusqlite::Transaction<'_>, found: i64) -> Result<()> {
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        tx.execute_batch(step)?;
    }
    if found < SCHEMA_VERSION {
        tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        Tx::set(tx, STATED, &to_json(&Stated { version: SCHEMA_VERSION, oldest: OLDEST }))?;
    }
    Ok(())
}

/// Why the database can't be used. All of these are exit 3.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database {path} was written by a newer orch (schema {found}, this program knows {known})")]
    Newer { path: String, found: i64, known: i64 },
    #[error(
        "the database {path} is of an older schema ({found}, this program needs {known}); the next `orch tick` or `orch reap` migrates it"
    )]
    Older { path: String, found: i64, known: i64 },
    #[error("there is no database at {0} yet; the first `orch tick` creates it")]
    Missing(String),
    #[error("{path} is not orch's database (application id {found:#x})")]
    Foreign { path: String, found: i64 },
    #[error("the database {path} is broken: {why}")]
    Broken { path: String, why: String },
    #[error("the database {0} stayed locked for {BUSY_S} s")]
    Locked(String),
    #[error(
        "the database {0} can't be opened for writing: it, its folder or its file system is read-only, or closed to this user"
    )]
    ReadOnly(String),
    #[error("the disk that holds the database {0} is full")]
    Full(String),
    #[error("the row changed meanwhile")]
    Lost,
    /// A change that the task's row does not allow; nothing of the transaction is kept.
    #[error(transparent)]
    Illegal(#[from] crate::model::change::Illegal),
    /// Decisions that lead to each other; nothing of the transaction is kept.
    #[error(
        "{key}: the decisions form a cycle; this is a fault of orch, and nothing was changed. The last decision: {last}"
    )]
    Cycle { key: String, last: String },
    /// A row of one task: that task is held, the others continue (RULE-44).
    #[error("a row of the database can't be read: {0}")]
    Undecodable(String),
    #[error("database: {0}")]
    Sql(#[source] rusqlite::Error),
}

/// A row of a list that can't be decoded. It is left out of the list, and the reader of the list reports it (RULE-44).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub table: &'static str,
    /// Its number in the table.
    pub row: i64,
    /// The key of the task it belongs to.
    pub task: Option<String>,
    pub why: String,
}

type Unread = RefCell<BTreeMap<(&'static str, i64), Unreadable>>;

fn is_undecodable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    matches!(error, E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                Self::Locked("orch.db".to_owned())
            }
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full("orch.db".to_owned()),
            _ if is_undecodable(&error) => Self::Undecodable(error.to_string()),
            _ => Self::Sql(error),
        }
    }
}

impl StoreError {
    /// The same with the file's full name, if it lacks that.
    fn of(self, path: &Path) -> Self {
        let shown = path.display().to_string();
        if matches!(self, Self::Locked(_)) {
            Self::Locked(shown)
        } else if matches!(self, Self::Full(_)) {
            Self::Full(shown)
        } else if matches!(&self, Self::Sql(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen)) {
            Self::ReadOnly(shown)
        } else {
            self
        }
    }
}

/// The store's results.
pub type Result<T> = std::result::Result<T, StoreError>;

const BUSY_S: u64 = 30;
/// Between two attempts at what SQLite refuses at once.
const PAUSE: Duration = Duration::from_millis(5);

/// How a step may use the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Creates or migrates it (`tick`, `reap`; RULE-36).
    Migrate,
    /// Uses it as it is; creates a missing one.
    Use,
    /// Only reads, and changes nothing (`--dry-run`, `status`).
    ReadOnly,
}

/// An open database.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    path: PathBuf,
    unread: Unread,
}

/// A write transaction. It is committed only if [`Store::write`] returns `Ok`.
#[derive(Debug)]
pub struct Tx<'c> {
    pub(crate) tx: Begun<'c>,
    unread: &'c Unread,
}

/// A transaction whose words are prepared once: a step that has nothing to do begins two dozen of them.
#[derive(Debug)]
pub(crate) struct Begun<'c> {
    conn: &'c Connection,
    open: bool,
}

impl<'c> Begun<'c> {
    /// Exclusive: nothing else uses the connection until it ends.
    fn new(conn: &'c mut Connection, word: &str) -> rusqlite::Result<Self> {
        conn.prepare_cached(word)?.execute([])?;
        Ok(Self { conn, open: true })
    }

    fn commit(mut self) -> rusqlite::Result<()> {
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        self.open = false;
        Ok(())
    }
}

impl std::ops::Deref for Begun<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.conn
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // SQLite has already rolled it back if a statement failed badly.
        if self.open && !self.conn.is_autocommit() {
            let ended = self.conn.prepare_cached("ROLLBACK").and_then(|mut s| s.execute([]));
            if let Err(e) = ended {
                tracing::error!("a transaction could not be rolled back: {e}");
            }
        }
    }
}

/// A connection that only reads. If nobody writes to the database, it makes no file next to it.
fn untouched(path: &Path) -> rusqlite::Result<Connection> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    // Nobody is writing: then reading must not even create the log's index file.
    let quiet = if std::fs::metadata(log).is_ok_and(|m| m.len() > 0) { "" } else { "?immutable=1" };
    let encoded: String = path
        .to_string_lossy()
        .bytes()
        .map(|b| match b {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{encoded}{quiet}"), flags)
}

impl Store {
    /// Opens `path`. Fails on a newer or foreign file, and on an older one unless `mode` is [`Mode::Migrate`].
    pub fn open(path: &Path, mode: Mode) -> Result<Self> {
        let shown = path.display().to_string();
        let flags = match mode {
            Mode::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Mode::Migrate | Mode::Use => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        } | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if mode == Mode::ReadOnly && !path.exists() {
            return Err(StoreError::Missing(shown));
        }
        let mut conn = Connection::open_with_flags(path, flags).map_err(|e| StoreError::from(e).of(path))?;
        conn.busy_handler(Some(|tries| {
            // Short sleeps in place of the built-in back-off, which starves under load; bounded by BUSY_S.
            std::thread::park_timeout(Duration::from_millis(2 + u64::try_from(tries % 7).unwrap_or(0)));
            u64::try_from(tries).unwrap_or(u64::MAX) < BUSY_S * 200
        }))?;
        let mut store = Self { conn, path: path.to_owned(), unread: Unread::default() };
        store.prepare(mode).map_err(|e| {
            let named = e.of(path);
            if let StoreError::Sql(e) = named { StoreError::Broken { path: shown, why: e.to_string() } } else { named }
        })?;
        Ok(store)
    }

    fn prepare(&mut self, mode: Mode) -> Result<()> {
        self.conn.set_prepared_statement_cache_capacity(128);
        if mode == Mode::ReadOnly {
            self.conn.execute_batch("PRAGMA query_only = ON; PRAGMA mmap_size = 0;")?;
            return self.check_version(self.version()?, false);
        }
        self.conn.execute_batch("PRAGMA mmap_size = 0; PRAGMA foreign_keys = ON;")?;
        let found = self.version()?;
        if found == 0 || (found < SCHEMA_VERSION && mode == Mode::Migrate) {
            let journal = self.write_ahead()?;
            if journal != "wal" {
                return Err(StoreError::Broken {
                    path: self.path.display().to_string(),
                    why: format!("journal mode is {journal}, not WAL (a network file system?)"),
                });
            }
            self.conn.execute_batch("PRAGMA synchronous = FULL;")?;
            self.migrate()?;
        }
        self.conn.execute_batch("PRAGMA synchronous = FULL;")?;
        self.check_version(self.version()?, true)
    }

    /// Switches to the write-ahead log and returns the resulting journal mode. If two processes do this on a new file
    /// at once, each holds a read lock and wants the write lock: SQLite then refuses one of them without calling the
    /// busy handler.
    fn write_ahead(&self) -> Result<String> {
        let until = Instant::now() + Duration::from_secs(BUSY_S);
        loop {
            match self.conn.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0)).map_err(StoreError::from) {
                Err(StoreError::Locked(_)) if Instant::now() < until => std::thread::park_timeout(PAUSE),
                other => return other,
            }
        }
    }

    fn version(&self) -> Result<i64> {
        Ok(self.conn.query_row("PRAGMA user_version", [], |r| r.get(0))?)
    }

    fn check_version(&self, found: i64, _write: bool) -> Result<()> {
        let path = self.path.display().to_string();
        if found > SCHEMA_VERSION && !may_use(&self.conn, found) {
            return Err(StoreError::Newer { path, found, known: SCHEMA_VERSION });
        }
        if found == 0 {
            return Err(StoreError::Missing(path));
        }
        if found < SCHEMA_VERSION {
            return Err(StoreError::Older { path, found, known: SCHEMA_VERSION });
        }
        let app: i64 = self.conn.query_row("PRAGMA application_id", [], |r| r.get(0))?;
        if app != APPLICATION_ID {
            return Err(StoreError::Foreign { path, found: app });
        }
        Ok(())
    }

    /// Runs the missing steps. The version is read inside `BEGIN IMMEDIATE`, so that processes that start together run
    /// no step twice. An existing database is first backed up next to itself.
    fn migrate(&mut self) -> Result<()> {
        let before = self.version()?;
        if before > 0 {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".v{before}.bak"));
            self.backup(Path::new(&name))?;
        }
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = tx.query_row("PRAGMA user_version", [], |r| r.get(0))?;
        migrate_within(&tx, found)?;
        point("migration");
        tx.commit()?;
        point("migrated");
        Ok(())
    }

    /// The database at `path`, for a quick read in place that does not change anything.
    pub fn glance(path: &Path) -> Result<Self> {
        let store = Self { conn: untouched(path)?, path: path.to_owned(), unread: Unread::default() };
        store.check_version(store.version()?, true)?;
        Ok(store)
    }

    /// An in-memory copy of the database at `path`, which is not changed in any way; a missing one is an empty one.
    pub fn copy_of(path: &Path) -> Result<Self> {
        let mut store = Self { conn: Connection::open_in_memory()?, path: path.to_owned(), unread: Unread::default() };
        store.conn.set_prepared_statement_cache_capacity(128);
        if path.exists() {
            let shown = path.display().to_string();
            let copied = untouched(path).and_then(|from| {
                let copy = rusqlite::backup::Backup::new(&from, &mut store.conn)?;
                copy.run_to_completion(4096, Duration::from_millis(1), None)
            });
            if let Err(e) = copied {
                return Err(StoreError::Broken { path: shown, why: e.to_string() });
            }
        }
        store.conn.execute_batch("PRAGMA foreign_keys = ON;")?;
        let found =
            store.version().map_err(|e| StoreError::Broken { path: path.display().to_string(), why: e.to_string() })?;
        if found < SCHEMA_VERSION {
            let tx = store.conn.transaction()?;
            migrate_within(&tx, found)?;
            tx.commit()?;
        }
        store.check_version(store.version()?, true)?;
        Ok(store)
    }

    /// A consistent copy while others use the database (SQLite's backup API, RULE-36).
    pub fn backup(&self, to: &Path) -> Result<()> {
        let mut target = Connection::open(to)?;
        let copy = rusqlite::backup::Backup::new(&self.conn, &mut target)?;
        copy.run_to_completion(256, Duration::from_millis(1), None)?;
        Ok(())
    }

    /// One short write transaction (`BEGIN IMMEDIATE`). Kept only if `work` and the commit succeed; refused if another
    /// program has migrated the file meanwhile (RULE-36).
    pub fn write<T, E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let path = &self.path;
        let named = |e| StoreError::from(e).of(path);
        let tx = Begun::new(&mut self.conn, "BEGIN IMMEDIATE").map_err(named)?;
        if tx.is_readonly("main").map_err(named)? {
            return Err(StoreError::ReadOnly(path.display().to_string()).into());
        }
        let found: i64 =
            tx.prepare_cached("PRAGMA user_version").and_then(|mut s| s.query_row([], |r| r.get(0))).map_err(named)?;
        if found < SCHEMA_VERSION || (found > SCHEMA_VERSION && !may_use(&tx, found)) {
            let (path, known) = (path.display().to_string(), SCHEMA_VERSION);
            return Err(if found < known {
                StoreError::Older { path, found, known }
            } else {
                StoreError::Newer { path, found, known }
            }
            .into());
        }
        let tx = Tx { tx, unread: &self.unread };
        let value = work(&tx)?;
        point("commit");
        tx.tx.commit().map_err(named)?;
        point("committed");
        Ok(value)
    }

    /// One read transaction: everything `work` reads is from the same snapshot.
    pub fn read<T, E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let tx = Begun::new(&mut self.conn, "BEGIN DEFERRED").map_err(StoreError::from)?;
        let tx = Tx { tx, unread: &self.unread };
        work(&tx)
    }

    /// The undecodable rows that lists have left out so far.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.unread.borrow().values().cloned().collect()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Tx<'_> {
    /// Rows of a list over tasks. One that can't be decoded is left out and recorded (RULE-44). Code that decides about
    /// a single task reads its rows strictly instead.
    fn list<T>(
        &self,
        table: &'static str,
        sql: &str,
        values: impl rusqlite::Params,
        read: fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.tx.prepare_cached(sql)?;
        let mut rows = statement.query(values)?;
        let mut list = Vec::new();
        while let Some(row) = rows.next()? {
            match read(row) {
                Ok(value) => list.push(value),
                Err(e) if is_undecodable(&e) => {
                    let id: i64 = row.get("id").unwrap_or(-1);
                    let task = if table == "tasks" { Some(id) } else { row.get("task_id").unwrap_or(None) };
                    let task = task.map(|id| self.key_text(crate::model::ids::TaskId(id))).transpose()?.flatten();
                    let unreadable = Unreadable { table, row: id, task, why: e.to_string() };
                    self.unread.borrow_mut().insert((table, id), unreadable);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(list)
    }

    /// Whether no row is there, `what` being a table and its condition. Asked before a list of whole rows, whose statement
    /// takes ten times as long to prepare: most steps find none.
    fn none(&self, what: &str) -> Result<bool> {
        Ok(!self.tx.prepare_cached(&format!("SELECT 1 FROM {what} LIMIT 1"))?.exists([])?)
    }

    /// A task's key from its row, whatever else the row contains.
    pub fn key_text(&self, id: crate::model::ids::TaskId) -> Result<Option<String>> {
        Ok(self.tx.prepare_cached("SELECT key FROM tasks WHERE id = ?1")?.query_row([id.0], |r| r.get(0)).optional()?)
    }

    /// Runs a part of a transaction. If it fails at a row that can't be decoded, only that part is rolled back.
    pub fn part<T>(&self, work: impl FnOnce(&Self) -> Result<T>) -> Result<std::result::Result<T, String>> {
        self.tx.execute_batch("SAVEPOINT part")?;
        match work(self) {
            Ok(value) => {
                self.tx.execute_batch("RELEASE part")?;
                Ok(Ok(value))
            }
            Err(StoreError::Undecodable(why)) => {
                self.tx.execute_batch("ROLLBACK TO part; RELEASE part")?;
                Ok(Err(why))
            }
            Err(e) => Err(e),
        }
    }

    /// A value of the `meta` table.
    pub fn meta(&self, key: &str) -> Result<Option<String>> {
        Ok(self
            .tx
            .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
            .query_row([key], |r| r.get(0))
            .optional()?)
    }

    pub fn set_meta(&self, key: &str, value: &str) -> Result<()> {
        Self::set(&self.tx, key, value)
    }

    fn set(conn: &Connection, key: &str, value: &str) -> Result<()> {
        conn.prepare_cached(
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )?
        .execute([key, value])?;
        Ok(())
    }

    /// The values whose keys start with this prefix, by key.
    pub fn metas(&self, prefix: &str) -> Result<Vec<(String, String)>> {
        let mut statement = self
            .tx
            .prepare_cached("SELECT key, value FROM meta WHERE key >= ?1 AND key < ?1 || x'f48fbfbf' ORDER BY key")?;
        let rows = statement.query_map([prefix], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Deletes a value.
    pub fn drop_meta(&self, key: &str) -> Result<()> {
        self.tx.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key])?;
        Ok(())
    }

    /// Adds to a counter shared by all processes and returns its new value.
    pub fn count_up(&self, key: &str, by: i64) -> Result<i64> {
        let now = self.meta(key)?.and_then(|v| v.parse::<i64>().ok()).unwrap_or(0).saturating_add(by);
        self.set_meta(key, &now.to_string())?;
        Ok(now)
    }
}

/// Reads a column with a word, an id or JSON; a value outside its list is an error that names the column.
pub(crate) fn parsed<T>(
    row: &rusqlite::Row<'_>,
    column: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| bad_column(column, &text))
}

/// As [`parsed`], `NULL` being `None`.
pub(crate) fn parsed_opt<T>(
    row: &rusqlite::Row<'_>,
    column: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|t| parse(&t).ok_or_else(|| bad_column(column, &t))).transpose()
}

fn bad_column(column: &str, text: &str) -> rusqlite::Error {
    let text: String = text.chars().take(60).collect();
    rusqlite::Error::FromSqlConversionFailure(
        0,
        rusqlite::types::Type::Text,
        format!("column {column} holds {text:?}").into(),
    )
}

pub(crate) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

#[cfg(test)]
mod tests;
