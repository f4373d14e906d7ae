//! The database of a world, for what no command shows. This is the only file of the tests that holds SQL: a table is read
//! as rows, which a test filters, and changed as time, a thief or a defect would change it.

use rusqlite::types::{Value as Cell, ValueRef};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The database in a state directory.
#[derive(Clone)]
pub struct Db(PathBuf);

/// Rows of one table, in the order of its key.
#[derive(Clone)]
pub struct Rows {
    db: Db,
    table: String,
    /// The columns of the table, and which of them are its key.
    columns: Vec<String>,
    key: Vec<usize>,
    rows: Vec<Vec<Cell>>,
}

/// A task as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: i64,
    pub key: String,
    pub stage: String,
    pub attempt: i64,
    pub waiting: Option<String>,
    pub blocked: Option<String>,
    pub withdrawn: Option<String>,
    pub critical: Option<String>,
    pub branch: Option<String>,
    pub head: Option<String>,
    pub landed: Option<String>,
    pub stop_requested: bool,
    pub live_job: bool,
}

impl Db {
    pub fn of(state: &Path) -> Self {
        Self(state.join("orch.db"))
    }

    pub fn is_there(&self) -> bool {
        self.0.exists()
    }

    fn reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.0, flags)?;
        conn.busy_timeout(Duration::from_secs(20))?;
        Ok(conn)
    }

    fn writer(&self) -> Connection {
        let conn = Connection::open(&self.0).unwrap();
        conn.busy_timeout(Duration::from_secs(20)).unwrap();
        conn
    }

    /// Every row of a table; none before the first step.
    #[track_caller]
    pub fn table(&self, table: &str) -> Rows {
        self.read(table).unwrap_or_else(|e| match self.is_there() && !e.to_string().contains("no such table") {
            true => panic!("{table}: {e}"),
            false => Rows { db: self.clone(), table: table.to_owned(), columns: vec![], key: vec![], rows: vec![] },
        })
    }

    /// The same while steps that make the database are running. Fails while it can't be read.
    pub fn read(&self, table: &str) -> rusqlite::Result<Rows> {
        let conn = self.reader()?;
        let mut about = conn.prepare(&format!("SELECT name, pk FROM pragma_table_info('{table}')"))?;
        let about: Vec<(String, i64)> =
            about.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
        let key = about.iter().enumerate().filter(|(_, (_, pk))| *pk > 0).map(|(n, _)| n).collect();
        let mut all = conn.prepare(&format!("SELECT * FROM {table}"))?;
        let rows = all.query_map([], |r| (0..about.len()).map(|n| r.get(n)).collect())?;
        let rows = rows.collect::<Result<_, _>>()?;
        Ok(Rows {
            db: self.clone(),
            table: table.to_owned(),
            columns: about.into_iter().map(|a| a.0).collect(),
            key,
            rows,
        })
    }

    /// Every task as it is stored, oldest first.
    pub fn tasks(&self) -> rusqlite::Result<Vec<Row>> {
        let (tasks, jobs) = (self.read("tasks")?, self.read("jobs")?.among("status", &["queued", "running"]));
        let row = |n: usize| {
            let number = |column: &str| tasks.text(n, column).parse().unwrap();
            let some = |column: &str| Some(tasks.text(n, column)).filter(|t| !t.is_empty());
            Row {
                id: number("id"),
                key: tasks.text(n, "key"),
                stage: tasks.text(n, "stage"),
                attempt: number("attempt"),
                waiting: some("waiting_for"),
                blocked: some("blocked_reason"),
                withdrawn: some("withdrawn"),
                critical: some("critical"),
                branch: some("branch"),
                head: some("head_sha"),
                landed: some("landed_sha"),
                stop_requested: some("stop_requested_at").is_some(),
                live_job: !jobs.clone().with("task_id", tasks.text(n, "id")).is_empty(),
            }
        };
        Ok((0..tasks.len()).map(row).collect())
    }

    /// Everything in the queue is due.
    pub fn hurry(&self) {
        self.writer().execute("UPDATE jobs SET available_at = 0 WHERE status = 'queued'", []).unwrap();
    }

    /// Whether SQLite finds the file in order.
    pub fn is_whole(&self) -> bool {
        self.reader().unwrap().query_row("PRAGMA integrity_check", [], |r| r.get::<_, String>(0)).unwrap() == "ok"
    }

    /// Sets a number in the file's head, such as the version of the schema; returns the one before.
    pub fn set_head(&self, name: &str, to: i64) -> i64 {
        let conn = self.writer();
        let was = conn.pragma_query_value(None, name, |r| r.get(0)).unwrap();
        conn.pragma_update(None, name, to).unwrap();
        was
    }

    /// Nobody else can write until it is dropped.
    pub fn locked(&self) -> impl Drop + use<> {
        struct Locked(Connection);
        impl Drop for Locked {
            fn drop(&mut self) {
                self.0.execute_batch("ROLLBACK").unwrap();
            }
        }
        let conn = self.writer();
        conn.execute_batch("BEGIN EXCLUSIVE").unwrap();
        Locked(conn)
    }

    /// No job of an agent can be written for a stage, until [`Self::accept`].
    pub fn refuse(&self, stage: &str) {
        let when = format!("NEW.kind = 'agent' AND NEW.stage = '{stage}'");
        let sql = format!(
            "CREATE TRIGGER refused BEFORE INSERT ON jobs WHEN {when} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        );
        self.writer().execute_batch(&sql).unwrap();
    }

    pub fn accept(&self) {
        self.writer().execute_batch("DROP TRIGGER refused").unwrap();
    }

    /// The numbers of a table begin anew, as in an emptied one.
    pub fn forget_numbers(&self, table: &str) {
        self.writer().execute("DELETE FROM sqlite_sequence WHERE name = ?1", [table]).unwrap();
    }

    /// A row of a table, by column.
    pub fn insert(&self, table: &str, row: &[(&str, &str)]) {
        let names: Vec<&str> = row.iter().map(|(name, _)| *name).collect();
        let marks: Vec<String> = (1..=row.len()).map(|n| format!("?{n}")).collect();
        let sql = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), marks.join(", "));
        self.writer().execute(&sql, rusqlite::params_from_iter(row.iter().map(|(_, value)| value))).unwrap();
    }

    /// The row `from` of a table `n` times more, with further columns set to expressions, in which `n` counts from 1.
    /// Returns the number of the last one.
    pub fn copies(&self, table: &str, from: i64, n: i64, set: &[(&str, &str)]) -> i64 {
        let conn = self.writer();
        let mut names = conn.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
        let names: Vec<String> = names.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
        let values: Vec<&str> = names
            .iter()
            .map(|name| set.iter().find(|(of, _)| of == name).map_or(name.as_str(), |(_, sql)| *sql))
            .collect();
        let (names, values) = (names.join(", "), values.join(", "));
        conn.execute_batch(&format!(
            "PRAGMA foreign_keys = OFF; WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < {n})
             INSERT INTO {table} ({names}) SELECT {values} FROM more, {table} WHERE {table}.id = {from};",
        ))
        .unwrap();
        conn.last_insert_rowid()
    }

    /// What is stored, for a failed test.
    pub fn story(&self) -> String {
        let mut text = String::new();
        for (table, columns) in [
            ("tasks", "id key stage attempt epoch waiting_for blocked_reason withdrawn critical stop_requested_at"),
            ("jobs", "id task_id stage kind status spent available_at reason"),
            ("runs", "id job_id task_id stage kind state result result_why dead_seen supervisor finalizer"),
            ("deploys", "id state result"),
            ("leases", "repo fence task_id"),
            ("freezes", "repo reason"),
            ("journal", "key intent outcome"),
            ("outbox", "key state last_error"),
            ("audit", "seq task_id event detail"),
        ] {
            let _ = writeln!(text, "== {table}");
            let Ok(rows) = self.read(table) else { continue };
            for n in rows.len().saturating_sub(80)..rows.len() {
                let cells: Vec<String> = columns.split(' ').map(|c| rows.text(n, c)).collect();
                let line: String = cells.join("|").chars().take(400).collect();
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }
}

/// A database of a project's own: a table `t` with this many rows.
pub fn foreign(path: &Path, rows: usize) -> Db {
    let db = Db(path.to_owned());
    db.writer().execute_batch("CREATE TABLE t (a)").unwrap();
    (0..rows).for_each(|_| db.insert("t", &[("a", "1")]));
    db
}

impl Rows {
    /// A cell as text, empty for NULL. `column/field/…`: a field of the JSON in it.
    pub fn text(&self, n: usize, column: &str) -> String {
        let (column, field) = column.split_once('/').unwrap_or((column, ""));
        let at =
            self.columns.iter().position(|c| c == column).unwrap_or_else(|| panic!("{} has no {column}", self.table));
        let text = match ValueRef::from(&self.rows[n][at]) {
            ValueRef::Null => String::new(),
            ValueRef::Integer(n) => n.to_string(),
            ValueRef::Real(n) => n.to_string(),
            ValueRef::Text(t) | ValueRef::Blob(t) => String::from_utf8_lossy(t).into_owned(),
        };
        if field.is_empty() {
            return text;
        }
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        match json.pointer(&format!("/{field}")) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    fn those(mut self, column: &str, so: impl Fn(&str) -> bool) -> Self {
        let kept: Vec<bool> = (0..self.len()).map(|n| so(&self.text(n, column))).collect();
        let mut kept = kept.into_iter();
        self.rows.retain(|_| kept.next().unwrap());
        self
    }

    pub fn with(self, column: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        self.those(column, |text| text == value)
    }

    pub fn without(self, column: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        self.those(column, |text| text != value)
    }

    pub fn among(self, column: &str, values: &[&str]) -> Self {
        self.those(column, |text| values.contains(&text))
    }

    pub fn like(self, column: &str, part: impl AsRef<str>) -> Self {
        self.those(column, |text| text.contains(part.as_ref()))
    }

    pub fn set(self, column: &str) -> Self {
        self.those(column, |text| !text.is_empty())
    }

    pub fn above(self, column: &str, number: i64) -> Self {
        self.those(column, |text| text.parse::<i64>().is_ok_and(|n| n > number))
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A column of every row.
    pub fn texts(&self, column: &str) -> Vec<String> {
        (0..self.len()).map(|n| self.text(n, column)).collect()
    }

    /// Several columns of every row, separated by spaces.
    pub fn lines(&self, columns: &[&str]) -> Vec<String> {
        let line = |n| columns.iter().map(|c| self.text(n, c)).collect::<Vec<_>>().join(" ");
        (0..self.len()).map(line).collect()
    }

    /// A column of the first row; empty: there is none.
    pub fn one(&self, column: &str) -> String {
        if self.is_empty() { String::new() } else { self.text(0, column) }
    }

    /// A column of the last row; empty: there is none.
    pub fn last(&self, column: &str) -> String {
        if self.is_empty() { String::new() } else { self.text(self.len() - 1, column) }
    }

    /// Sets a column, or a field of the JSON in it, of each of these rows.
    pub fn put(&self, column: &str, value: impl Into<Value>) {
        self.put_all(&[(column, value.into())]);
    }

    /// Sets several columns at once, as the checks of a table may demand.
    pub fn put_all(&self, set: &[(&str, Value)]) {
        let what: Vec<String> =
            set.iter().enumerate().map(|(n, (column, _))| assignment(column, &format!("?{}", n + 1))).collect();
        let cell = |value: &Value| match value {
            Value::Null => Cell::Null,
            Value::Number(n) => Cell::Integer(n.as_i64().unwrap()),
            Value::String(text) => Cell::Text(text.clone()),
            other => panic!("{other}"),
        };
        let verb = format!("UPDATE {} SET {}", self.table, what.join(", "));
        self.change(&verb, set.iter().map(|(_, value)| cell(value)).collect());
    }

    /// Moves a number by so much.
    pub fn shift(&self, column: &str, by: i64) {
        let was = match column.split_once('/') {
            Some((column, field)) => format!("json_extract({column}, '$.{field}')"),
            None => column.to_owned(),
        };
        let what = assignment(column, &format!("{was} + ?1"));
        self.change(&format!("UPDATE {} SET {what}", self.table), vec![Cell::Integer(by)]);
    }

    pub fn delete(&self) {
        self.change(&format!("DELETE FROM {}", self.table), Vec::new());
    }

    /// Does it to each row, all or none.
    fn change(&self, verb: &str, values: Vec<Cell>) {
        let conn = self.db.writer();
        let key: Vec<String> = (self.key.iter().enumerate())
            .map(|(n, at)| format!("{} = ?{}", self.columns[*at], n + 1 + values.len()))
            .collect();
        let sql = format!("{verb} WHERE {}", key.join(" AND "));
        conn.execute_batch("PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE").unwrap();
        for row in &self.rows {
            let key = self.key.iter().map(|at| row[*at].clone());
            conn.execute(&sql, rusqlite::params_from_iter(values.iter().cloned().chain(key))).unwrap();
        }
        conn.execute_batch("COMMIT").unwrap();
    }
}

/// `column = value`, or the JSON in it with a field changed.
fn assignment(column: &str, value: &str) -> String {
    match column.split_once('/') {
        Some((column, field)) => format!("{column} = json_set({column}, '$.{}', {value})", field.replace('/', ".")),
        None => format!("{column} = {value}"),
    }
}
