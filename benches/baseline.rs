//! What `orch` is measured against (`scripts/bench`): minimal programs that do the same database work and nothing else,
//! and the queue's claim and settle beside a bare loop.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may fail loudly and prints its figures")]

use orch::adapters::store::{Mode, NewTask, Store, StoreError};
use orch::model::ids::Key;
use orch::model::stage::{JobKind, JobStatus};
use orch::model::task::NewJob;
use orch::model::time::Stamp;
use rusqlite::{Connection, TransactionBehavior, params};
use std::path::Path;
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["exit"] => {}
        ["read", db] => read(Path::new(db)),
        ["queue", n] => queue(n.parse().unwrap()),
        ["bare", n] => bare(n.parse().unwrap()),
        other => println!("baseline exit | read DB | queue N | bare N (got {other:?})"),
    }
}

/// Opens the database as `orch` does and reads one row.
fn read(db: &Path) {
    let conn = Connection::open(db).unwrap();
    conn.execute_batch("PRAGMA mmap_size = 0; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;").unwrap();
    let n: i64 = conn.query_row("SELECT id FROM tasks ORDER BY id DESC LIMIT 1", [], |r| r.get(0)).unwrap();
    assert!(n > 0);
}

fn stamp() -> Stamp {
    Stamp { wall_ms: 1, mono_ms: 1, boot_id: "b".into() }
}

/// Claims and settles `n` jobs one by one through the store, durably, limits looked at in the claim's transaction.
fn queue(n: i64) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&dir.path().join("orch.db"), Mode::Migrate).unwrap();
    store
        .write(|tx| {
            for i in 1..=n {
                let key = Key::parse(&format!("B-{i}")).unwrap();
                let new = NewTask {
                    key: &key,
                    project: "B",
                    repo: "b",
                    item_id: key.as_str(),
                    title: "t",
                    body: "",
                    priority: 4,
                    blocked_by: &[],
                };
                let task = tx.insert_task(&new, 1)?.unwrap();
                tx.enqueue(&task, &NewJob::now(JobKind::Ci), 1)?;
            }
            Ok::<_, StoreError>(())
        })
        .unwrap();
    let start = Instant::now();
    for i in 1..=n {
        let token = format!("{i:032}");
        let run = store
            .write(|tx| {
                let running = tx.running_jobs()?;
                assert!(running.is_empty());
                let id = tx.next_queued()?.unwrap();
                assert!(tx.claim_job(id, &token)?);
                let job = tx.job(id)?;
                Ok::<_, StoreError>((job.id, tx.insert_run(&job, &token, None, 0, &stamp())?))
            })
            .unwrap();
        store
            .write(|tx| {
                tx.settle_job(run.0, &token, JobStatus::Done, None, false, 1)?;
                tx.settle_run(run.1, "done", 1)
            })
            .unwrap();
    }
    println!("{:.0}", n as f64 / start.elapsed().as_secs_f64());
}

/// The same gated claim in a bare loop under WAL and FULL.
fn bare(n: i64) {
    let dir = tempfile::tempdir().unwrap();
    let mut conn = Connection::open(dir.path().join("bare.db")).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE jobs (id INTEGER PRIMARY KEY, status TEXT NOT NULL, token TEXT, priority INTEGER NOT NULL);
         CREATE INDEX queued ON jobs (priority, id) WHERE status = 'queued'; CREATE INDEX by_status ON jobs (status);
         CREATE TABLE runs (id INTEGER PRIMARY KEY, job INTEGER, state TEXT, token TEXT);",
    )
    .unwrap();
    let tx = conn.transaction().unwrap();
    for i in 1..=n {
        tx.execute("INSERT INTO jobs VALUES (?1, 'queued', NULL, 4)", [i]).unwrap();
    }
    tx.commit().unwrap();
    let start = Instant::now();
    for i in 1..=n {
        let token = format!("{i:032}");
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let running: i64 = tx
            .prepare_cached("SELECT COUNT(*) FROM jobs WHERE status = 'running'")
            .unwrap()
            .query_row([], |r| r.get(0))
            .unwrap();
        assert_eq!(running, 0);
        let id: i64 = tx
            .prepare_cached("SELECT id FROM jobs WHERE status = 'queued' ORDER BY priority, id LIMIT 1")
            .unwrap()
            .query_row([], |r| r.get(0))
            .unwrap();
        tx.prepare_cached("UPDATE jobs SET status = 'running', token = ?2 WHERE id = ?1 AND status = 'queued'")
            .unwrap()
            .execute(params![id, token])
            .unwrap();
        tx.prepare_cached("INSERT INTO runs (job, state, token) VALUES (?1, 'starting', ?2)")
            .unwrap()
            .execute(params![id, token])
            .unwrap();
        tx.commit().unwrap();
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        tx.prepare_cached("UPDATE jobs SET status = 'done' WHERE id = ?1 AND token = ?2 AND status = 'running'")
            .unwrap()
            .execute(params![id, token])
            .unwrap();
        tx.prepare_cached("UPDATE runs SET state = 'settled' WHERE job = ?1 AND token = ?2")
            .unwrap()
            .execute(params![id, token])
            .unwrap();
        tx.commit().unwrap();
    }
    println!("{:.0}", n as f64 / start.elapsed().as_secs_f64());
}
