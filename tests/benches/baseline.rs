//! What `orch` is measured against (`scripts/bench`): minimal programs that do the same database work and nothing else,
//! and the queue's claim and settle next to a bare loop.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may fail loudly and prints its figures")]

use orch::adapters::child::{self, Control, Spec};
use orch::adapters::confine::{self, Boundary, Bounds, Engine, Probe, Run};
use orch::adapters::store::{Mode, NewTask, Store, StoreError, Tx};
use orch::engine::record;
use orch::model::change::{Change, Move};
use orch::model::confine::{Choice, Policy};
use orch::model::ids::{JobId, Key, RunId};
use orch::model::run_end::{RunEnd, RunResult};
use orch::model::stage::{Agent, JobKind, JobStatus, Stage};
use orch::model::task::{NewJob, Task};
use orch::model::time::Stamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The limit that each claim looks at: jobs claimed at once.
const LIMIT: i64 = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["exit"] => {}
        ["read", db] => read(Path::new(db)),
        ["look", folder] => look(Path::new(folder)),
        ["state", db, tasks, jobs] => state(Path::new(db), tasks.parse().unwrap(), jobs.parse().unwrap()),
        ["queue", queue, n, loops, way] => {
            println!("{:.0}", rate(queue, n.parse().unwrap(), loops.parse().unwrap(), way))
        }
        ["work", queue, db] => {
            let mut queue = Queue::open(queue, Path::new(db));
            while queue.claim_and_settle() {}
        }
        ["confined", program, rounds] => confined(Path::new(program), rounds.parse().unwrap()),
        ["once", queue, db] => assert!(Queue::open(queue, Path::new(db)).claim_and_settle()),
        other => println!(
            "baseline exit | read DB | look FOLDER | state DB TASKS JOBS | queue orch|bare N LOOPS one|each | confined ORCH ROUNDS (got {other:?})"
        ),
    }
}

/// Opens the database as `orch` does and reads one row.
fn read(db: &Path) {
    let conn = Connection::open(db).unwrap();
    conn.execute_batch("PRAGMA mmap_size = 0; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;").unwrap();
    let n: i64 = conn.query_row("SELECT id FROM tasks ORDER BY id DESC LIMIT 1", [], |r| r.get(0)).unwrap();
    assert!(n > 0);
}

/// Asks for the state of each file of a folder, by as many threads as `orch` has: how else would a change show?
fn look(folder: &Path) {
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let threads = std::thread::available_parallelism().unwrap().get().min(4);
    std::thread::scope(|scope| {
        for share in names.chunks(names.len().div_ceil(threads)) {
            scope.spawn(|| assert!(share.iter().all(|path| path.symlink_metadata().is_ok())));
        }
    });
}

/// Adds so many finished tasks, and so many finished jobs in equal shares, as `orch` itself writes them: each move is one
/// that its state machine allows, and the audit chain holds.
fn state(db: &Path, tasks: i64, jobs: i64) {
    let mut store = Store::open(db, Mode::Migrate).unwrap();
    // The keys are numbered as the rows are.
    let last: i64 =
        Connection::open(db).unwrap().query_row("SELECT COALESCE(MAX(id), 0) FROM tasks", [], |r| r.get(0)).unwrap();
    let first = last + 1;
    let numbers: Vec<i64> = (first..first + tasks).collect();
    for (n, part) in numbers.chunks(500).enumerate() {
        let done = i64::try_from(n * 500).unwrap();
        store
            .write(|tx| {
                for (i, number) in part.iter().enumerate() {
                    let i = done + i64::try_from(i).unwrap();
                    // The remainder goes to the first ones.
                    finished(tx, *number, jobs / tasks + i64::from(i < jobs % tasks))?;
                }
                Ok::<_, StoreError>(())
            })
            .unwrap();
    }
}

fn finished(tx: &Tx<'_>, number: i64, jobs: i64) -> Result<(), StoreError> {
    let key = Key::parse(&format!("B-{number}")).unwrap();
    let new = NewTask {
        key: &key,
        project: "B",
        repo: "b",
        item_id: key.as_str(),
        title: "a finished task",
        body: "",
        priority: 4,
        blocked_by: &[],
    };
    let mut task = tx.insert_task(&new, 1)?.unwrap();
    tx.audit(1, Some(task.id), "task_created", &serde_json::json!({"title": new.title}))?;
    let step = |task: &mut Task, step: Move| -> Result<(), StoreError> {
        record::change(tx, task, Change::Move(step.clone()), 1)?;
        tx.audit(1, Some(task.id), "stage_advanced", &serde_json::json!({"step": format!("{step:?}")})).map(drop)
    };
    step(&mut task, Move::Start { to: Stage::Development, serial: false, at: 1 })?;
    step(&mut task, Move::Advance { to: Stage::Review })?;
    for n in 0..jobs {
        let token = format!("{number:016x}{n:016x}");
        let id = tx.enqueue(&task, &NewJob { agent: Some(Agent::Reviewer), ..NewJob::now(JobKind::Agent) }, 1)?;
        assert!(tx.claim_job(id, &token)?);
        let run = tx.insert_run(&tx.job(id)?, &token, None, 0, &stamp())?;
        tx.settle_job(id, &token, JobStatus::Done, None, false, 1)?;
        tx.settle_run(run, &RunEnd::new(RunResult::Done, ""), 1)?;
    }
    step(&mut task, Move::Advance { to: Stage::Deploy })?;
    step(&mut task, Move::Finish { watch: false, at: number })
}

/// Medians, in milliseconds, of the whole life of `true` as a run: held by nothing, by bubblewrap, by Landlock, in turn; `-`
/// where an engine does not work here. `program`: `orch` itself.
fn confined(program: &Path, rounds: usize) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let at = |name: &str| dir.path().join(name);
    let probe = Probe { program: program.to_owned(), ..Probe::here(at("state")).unwrap() };
    let uid = probe.root.then_some(2_000_000_009);
    for name in ["checkout", "home", "tmp"] {
        std::fs::create_dir(at(name)).unwrap();
        chown(at(name), uid, uid).unwrap();
    }
    let engine = |choice| confine::engine(&Policy { choice, ..Policy::default() }, &probe).ok();
    let engines = [Some(Engine::None), engine(Choice::Bubblewrap), engine(Choice::Landlock)];
    let spec = |engine: &Engine| Spec {
        argv: vec!["/usr/bin/true".into()],
        cwd: at("checkout"),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        stdin: None,
        stdout: at("out"),
        stderr: at("err"),
        wall: Duration::from_secs(60),
        stall: None,
        grace: Duration::from_secs(1),
        mark: ("ORCH_RUN".to_owned(), format!("bench-{}", std::process::id())),
        cap_bytes: 1 << 16,
        boundary: Boundary::Run(Box::new(Run {
            engine: engine.clone(),
            probe: probe.clone(),
            bounds: Bounds {
                policy: Policy::default(),
                checkout: at("checkout"),
                home: at("home"),
                tmp: at("tmp"),
                read: Vec::new(),
                hidden: vec![at("state")],
                frozen: Vec::new(),
                uid,
                own_sandbox: false,
            },
        })),
    };
    let mut times: Vec<Vec<Duration>> = engines.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (engine, times) in engines.iter().zip(&mut times) {
            let Some(engine) = engine else { continue };
            let start = Instant::now();
            assert_eq!(child::run(&spec(engine), &mut |_| Control::Go).unwrap().code, Some(0));
            times.push(start.elapsed());
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times.get(times.len() / 2).map_or("-".to_owned(), |t| format!("{:.2}", t.as_secs_f64() * 1000.0))
    };
    println!("{}", times.into_iter().map(median).collect::<Vec<_>>().join(" "));
}

fn stamp() -> Stamp {
    Stamp { wall_ms: 1, mono_ms: 1, boot_id: "b".into() }
}

/// Jobs a second over `n` jobs in a fresh database: `loops` processes that claim and settle (`one`), or as many loops
/// that start a process for each claim (`each`). Every job is claimed exactly once, or this panics.
fn rate(queue: &str, n: i64, loops: i64, way: &str) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("queue.db");
    Queue::seed(queue, &db, n);
    let this = std::env::current_exe().unwrap();
    let process = |verb: &str| {
        let status = Command::new(&this).args([verb, queue]).arg(&db).status().unwrap();
        assert!(status.success(), "{verb} {queue} ended with {status}");
    };
    let start = Instant::now();
    if loops == 1 && way == "one" {
        let mut queue = Queue::open(queue, &db);
        while queue.claim_and_settle() {}
    } else {
        std::thread::scope(|scope| {
            for _ in 0..loops {
                scope.spawn(|| match way {
                    "one" => process("work"),
                    _ => (0..n / loops).for_each(|_| process("once")),
                });
            }
        });
    }
    let spent = start.elapsed();
    let conn = Connection::open(&db).unwrap();
    let one = |sql: &str| conn.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
    let claimed = if way == "one" { n } else { n / loops * loops };
    assert_eq!(one("SELECT COUNT(*) FROM runs"), claimed, "runs");
    assert_eq!(one("SELECT COUNT(DISTINCT token) FROM runs"), claimed, "a job was claimed twice");
    claimed as f64 / spent.as_secs_f64()
}

/// A queue of jobs: `orch`'s own store, or the same gated claim in bare SQL under WAL and FULL.
enum Queue {
    Orch(Store),
    Bare(Connection),
}

/// What was claimed: job and run.
type Claimed = (i64, i64);

impl Queue {
    fn seed(which: &str, db: &Path, n: i64) {
        if which == "orch" {
            let mut store = Store::open(db, Mode::Migrate).unwrap();
            store.write(|tx| orch_jobs(tx, n)).unwrap();
            return;
        }
        let mut conn = Connection::open(db).unwrap();
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
    }

    fn open(which: &str, db: &Path) -> Self {
        if which == "orch" {
            return Self::Orch(Store::open(db, Mode::Use).unwrap());
        }
        let conn = Connection::open(db).unwrap();
        conn.busy_timeout(Duration::from_secs(30)).unwrap();
        conn.execute_batch("PRAGMA synchronous = FULL;").unwrap();
        Self::Bare(conn)
    }

    fn claim_and_settle(&mut self) -> bool {
        let Some(claimed) = self.claim() else { return false };
        self.settle(claimed);
        true
    }

    /// One durable claim of the next job, the number of running ones looked at in its transaction.
    fn claim(&mut self) -> Option<Claimed> {
        match self {
            Self::Orch(store) => store
                .write(|tx| {
                    assert!(i64::try_from(tx.running_jobs()?.len()).unwrap() < LIMIT);
                    let Some(id) = tx.next_queued()? else { return Ok::<_, StoreError>(None) };
                    let token = format!("{:032}", id.0);
                    assert!(tx.claim_job(id, &token)?);
                    let job = tx.job(id)?;
                    Ok(Some((id.0, tx.insert_run(&job, &token, None, 0, &stamp())?.0)))
                })
                .unwrap(),
            Self::Bare(conn) => {
                let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
                let running: i64 = tx
                    .prepare_cached("SELECT COUNT(*) FROM jobs WHERE status = 'running'")
                    .unwrap()
                    .query_row([], |r| r.get(0))
                    .unwrap();
                assert!(running < LIMIT);
                let id: i64 = tx
                    .prepare_cached("SELECT id FROM jobs WHERE status = 'queued' ORDER BY priority, id LIMIT 1")
                    .unwrap()
                    .query_row([], |r| r.get(0))
                    .optional()
                    .unwrap()?;
                let token = format!("{id:032}");
                tx.prepare_cached("UPDATE jobs SET status = 'running', token = ?2 WHERE id = ?1 AND status = 'queued'")
                    .unwrap()
                    .execute(params![id, token])
                    .unwrap();
                tx.prepare_cached("INSERT INTO runs (job, state, token) VALUES (?1, 'starting', ?2)")
                    .unwrap()
                    .execute(params![id, token])
                    .unwrap();
                let run = tx.last_insert_rowid();
                tx.commit().unwrap();
                Some((id, run))
            }
        }
    }

    fn settle(&mut self, (id, run): Claimed) {
        let token = format!("{id:032}");
        match self {
            Self::Orch(store) => store
                .write(|tx| {
                    tx.settle_job(JobId(id), &token, JobStatus::Done, None, false, 1)?;
                    tx.settle_run(RunId(run), &RunEnd::new(RunResult::Done, ""), 1)
                })
                .unwrap(),
            Self::Bare(conn) => {
                let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
                tx.prepare_cached(
                    "UPDATE jobs SET status = 'done' WHERE id = ?1 AND token = ?2 AND status = 'running'",
                )
                .unwrap()
                .execute(params![id, token])
                .unwrap();
                tx.prepare_cached("UPDATE runs SET state = 'settled' WHERE id = ?1").unwrap().execute([run]).unwrap();
                tx.commit().unwrap();
            }
        }
    }
}

fn orch_jobs(tx: &Tx<'_>, n: i64) -> Result<(), StoreError> {
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
    Ok(())
}
