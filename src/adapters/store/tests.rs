use super::*;
use crate::model::board::Intent;
use crate::model::change::{Change, Move};
use crate::model::deploy::DeployEnd;
use crate::model::evidence::EvidenceVerdict;
use crate::model::gate::Gate;
use crate::model::ids::Key;
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::stage::{Agent, JobKind, JobStatus, Stage};
use crate::model::task::{Actor, DeployState, NewJob, Rework, RunState, Waiting};
use crate::model::time::Stamp;
use crate::model::watch::Watch;

fn stamp() -> Stamp {
    Stamp { wall_ms: 1000, mono_ms: 10, boot_id: "b".into() }
}

fn actor(pid: i32) -> Actor {
    Actor { boot_id: "b".into(), pid, start_ticks: 7 }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("orch.db"), Mode::Migrate).unwrap();
    (dir, store)
}

fn add(tx: &Tx<'_>, key: &str) -> Option<crate::model::task::Task> {
    let key = Key::parse(key).unwrap();
    tx.insert_task(
        &NewTask {
            key: &key,
            project: "ORCH",
            repo: "r",
            item_id: key.as_str(),
            title: "t",
            body: "",
            priority: 4,
            blocked_by: &[],
        },
        1,
    )
    .unwrap()
}

fn job() -> NewJob {
    NewJob { kind: JobKind::Agent, agent: Some(Agent::Analyst), subject: None, available_at: 0, reason: None }
}

#[test]
fn check_lists_of_the_schema_are_the_words_of_the_model() {
    fn listed(sql: &str, table: &str, column: &str) -> Vec<String> {
        let body = sql.split(&format!("CREATE TABLE {table} (")).nth(1).unwrap().split(") STRICT").next().unwrap();
        let list = body.split(&format!("CHECK ({column} IN (")).nth(1).unwrap().split("))").next().unwrap();
        list.split(',').map(|w| w.trim().trim_matches('\'').to_owned()).collect()
    }
    let sql = MIGRATIONS[0];
    let words = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let all = |w: Vec<&'static str>| words(&w);
    assert_eq!(listed(sql, "tasks", "stage"), all(Stage::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "tasks", "waiting_for"), all(Waiting::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "jobs", "kind"), all(JobKind::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "jobs", "agent"), all(Agent::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "jobs", "status"), all(JobStatus::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "runs", "state"), all(RunState::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "runs", "result"), all(RunResult::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "tasks", "rework"), all(Rework::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "tasks", "watch"), all(Watch::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "deploys", "result"), all(DeployEnd::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "evidence", "verdict"), all(EvidenceVerdict::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "outbox", "sink"), all(Sink::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "deploys", "state"), all(DeployState::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "intents", "kind"), all(Intent::ALL.iter().map(|s| s.as_str()).collect()));
    assert_eq!(listed(sql, "intents", "state"), all(IntentState::ALL.iter().map(|s| s.as_str()).collect()));
}

#[test]
fn pragmas_are_what_durability_needs() {
    let (_dir, store) = store();
    let ask = |name: &str| store.conn.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0)).unwrap();
    assert_eq!(ask("synchronous"), 2);
    assert_eq!(ask("foreign_keys"), 1);
    assert_eq!(ask("mmap_size"), 0);
    let journal: String = store.conn.query_row("PRAGMA journal_mode", [], |r| r.get(0)).unwrap();
    assert_eq!(journal, "wal");
    let version = rusqlite::version_number();
    assert!(version >= 3_051_003, "the bundled SQLite {version} has the WAL-reset corruption");
}

#[test]
fn rule_9_a_work_item_starts_again_after_its_tombstone_as_another_task() {
    let (_dir, mut store) = store();
    store
        .write(|tx| {
            let mut first = add(tx, "ORCH-1").unwrap();
            assert!(add(tx, "ORCH-1").is_none());
            first.apply(Change::Move(Move::Cancel { at: 2 })).unwrap();
            tx.save_task(&mut first, 2)?;
            tx.tombstone(first.id)?;
            let second = add(tx, "ORCH-1").unwrap();
            assert_eq!(second.round, 2);
            assert_eq!(second.folder(), "ORCH-1-2");
            assert_eq!(tx.task_by_key(&second.key)?.unwrap().id, second.id);
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

#[test]
fn rule_7_a_stale_revision_moves_nothing() {
    let (_dir, mut store) = store();
    store
        .write(|tx| {
            let mut mine = add(tx, "ORCH-1").unwrap();
            let mut stale = mine.clone();
            mine.attempt = 2;
            tx.save_task(&mut mine, 2)?;
            stale.stage = Stage::Review;
            assert!(matches!(tx.save_task(&mut stale, 3), Err(StoreError::Lost)));
            assert_eq!(tx.task(mine.id)?.stage, Stage::Created);
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

#[test]
fn the_schema_allows_one_live_job_per_task() {
    let (_dir, mut store) = store();
    store
        .write(|tx| {
            let task = add(tx, "ORCH-1").unwrap();
            tx.enqueue(&task, &job(), 1)?;
            assert!(matches!(tx.enqueue(&task, &job(), 1), Err(StoreError::Lost)));
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

#[test]
fn rule_19_a_late_supervisor_of_a_requeued_claim_adopts_nothing() {
    let (_dir, mut store) = store();
    store
        .write(|tx| {
            let task = add(tx, "ORCH-1").unwrap();
            let id = tx.enqueue(&task, &job(), 1)?;
            assert!(tx.claim_job(id, "t1")?);
            assert!(!tx.claim_job(id, "t2")?);
            let late = tx.insert_run(&tx.job(id)?, "t1", None, 0, &stamp())?;
            tx.requeue_job(id, "t1", 0, "again")?;
            assert!(tx.claim_job(id, "t2")?);
            let run = tx.insert_run(&tx.job(id)?, "t2", None, 0, &stamp())?;
            assert!(matches!(tx.adopt_run(late, &actor(1)), Err(StoreError::Lost)));
            tx.adopt_run(run, &actor(2))?;
            assert!(matches!(tx.adopt_run(run, &actor(3)), Err(StoreError::Lost)));
            assert!(matches!(tx.settle_job(id, "t1", JobStatus::Done, None, false, 2), Err(StoreError::Lost)));
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

#[test]
fn rule_21_the_finalizer_has_one_owner_and_an_old_fence_settles_nothing() {
    let (_dir, mut store) = store();
    store
        .write(|tx| {
            let mut task = add(tx, "ORCH-1").unwrap();
            let id = tx.enqueue(&task, &job(), 1)?;
            assert!(tx.claim_job(id, "t")?);
            let run = tx.insert_run(&tx.job(id)?, "t", None, 0, &stamp())?;
            tx.adopt_run(run, &actor(2))?;
            let fence = tx.run(run)?.fence;
            tx.check_fence(run, fence, false)?;
            // Only from the owner that was seen dead, and only once.
            assert!(matches!(tx.take_finalizer(run, Some(&actor(9)), fence, &actor(4)), Err(StoreError::Lost)));
            let taken = tx.take_finalizer(run, Some(&actor(2)), fence, &actor(4))?;
            assert!(matches!(tx.take_finalizer(run, Some(&actor(2)), fence, &actor(5)), Err(StoreError::Lost)));
            assert!(matches!(tx.check_fence(run, fence, false), Err(StoreError::Lost)));
            tx.check_fence(run, taken, false)?;
            // With a recorded stop, only work that observes may settle (RULE-17).
            task.stop_requested_at = Some(1);
            tx.save_task(&mut task, 2)?;
            assert!(matches!(tx.check_fence(run, taken, false), Err(StoreError::Lost)));
            tx.check_fence(run, taken, true)?;
            tx.settle_run(run, &RunEnd::new(RunResult::Done, ""), 3)?;
            assert!(matches!(tx.check_fence(run, taken, true), Err(StoreError::Lost)));
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

/// A newer program's additive migration keeps the number of the oldest program that may use the file.
#[test]
fn rule_36_the_database_states_the_oldest_program_that_may_use_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orch.db");
    drop(Store::open(&path, Mode::Migrate).unwrap());
    let migrated = |version: i64, stated: i64, oldest: i64| {
        let conn = Connection::open(&path).unwrap();
        let value = to_json(&Stated { version: stated, oldest });
        conn.execute("UPDATE meta SET value = ?1 WHERE key = 'schema'", [value]).unwrap();
        conn.pragma_update(None, "user_version", version).unwrap();
    };
    let next = SCHEMA_VERSION + 1;
    for (stated, oldest, may) in
        [(next, SCHEMA_VERSION, true), (next, next, false), (SCHEMA_VERSION, SCHEMA_VERSION, false)]
    {
        // A process that already has it open notices at its next write.
        migrated(SCHEMA_VERSION, SCHEMA_VERSION, SCHEMA_VERSION);
        let mut open = Store::open(&path, Mode::Use).unwrap();
        migrated(next, stated, oldest);
        let wrote = open.write(|tx| tx.set_meta("x", "y"));
        assert_eq!(wrote.is_ok(), may, "{stated} {oldest}: {wrote:?}");
        assert!(may || matches!(wrote, Err(StoreError::Newer { .. })));
        for mode in [Mode::Migrate, Mode::Use, Mode::ReadOnly] {
            assert_eq!(Store::open(&path, mode).is_ok(), may, "{stated} {oldest} {mode:?}");
        }
        assert_eq!(Store::copy_of(&path).is_ok(), may);
        assert_eq!(open.version().unwrap(), next, "nothing goes back");
    }
    // An older one is migrated only by a step that may migrate.
    migrated(-1, -1, -1);
    assert!(matches!(Store::open(&path, Mode::Use), Err(StoreError::Older { .. })));
}

#[test]
fn rule_34_a_lease_has_one_holder_and_a_growing_fence() {
    let (_dir, mut store) = store();
    store
        .write(|tx| {
            let a = add(tx, "ORCH-1").unwrap().id;
            let b = add(tx, "ORCH-2").unwrap().id;
            let first = tx.take_lease("r", a, &actor(1), 0, &stamp())?.unwrap();
            assert!(tx.take_lease("r", b, &actor(2), 0, &stamp())?.is_none());
            assert_eq!(tx.take_lease("r", a, &actor(3), 0, &stamp())?.unwrap().fence, first.fence);
            assert!(tx.free_lease("r", first.fence)?);
            assert!(!tx.free_lease("r", first.fence)?);
            assert!(tx.take_lease("r", b, &actor(2), 40, &stamp())?.unwrap().fence > 40);
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

#[test]
fn rule_41_only_the_oldest_open_message_of_a_task_and_sink_is_deliverable() {
    let (_dir, mut store) = store();
    store
        .write(|tx| {
            let t = add(tx, "ORCH-1").unwrap().id;
            let message =
                |key: &str, sink| NewOutbox { key: key.into(), task_id: Some(t), sink, payload: serde_json::json!({}) };
            assert!(tx.post(&message("a", Sink::Alert), 1)?);
            assert!(!tx.post(&message("a", Sink::Alert), 1)?);
            tx.post(&message("b", Sink::Alert), 1)?;
            tx.post(&message("c1", Sink::Card), 1)?;
            tx.post(&message("c2", Sink::Card), 1)?;
            let keys: Vec<String> = tx.deliverable(5, 10)?.into_iter().map(|r| r.key).collect();
            assert_eq!(keys, ["a", "c2"]);
            let first = tx.deliverable(5, 10)?[0].id;
            assert!(tx.take_message(first, &actor(1), 50, 100)?);
            assert!(!tx.take_message(first, &actor(2), 60, 120)?);
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

#[test]
fn the_audit_chain_shows_a_changed_a_missing_and_a_cut_event() {
    let fresh = || {
        let (dir, mut store) = store();
        let seen = store.write(|tx| {
            for n in 0..4 {
                tx.audit(n, None, "event", &serde_json::json!({"n": n}))?;
            }
            tx.audit_tail()
        });
        let (seq, hash) = seen.unwrap();
        (dir, store, Tail::Is { seq, hash })
    };
    let (_dir, mut whole, tail) = fresh();
    assert_eq!(whole.audit_verify(&tail).unwrap(), Ok(4));
    assert_eq!(whole.audit_verify(&Tail::Absent).unwrap(), Ok(4), "never written yet");
    assert_eq!(whole.audit_verify(&Tail::Unreadable).unwrap().unwrap_err().seq, 4);
    let other = Tail::Is { seq: 2, hash: "0".repeat(64) };
    assert_eq!(whole.audit_verify(&other).unwrap().unwrap_err().seq, 2, "a chain made again");
    whole.write(|tx| tx.set_meta(TAIL_WRITTEN, "1")).unwrap();
    assert!(whole.audit_verify(&Tail::Absent).unwrap().unwrap_err().why.contains("is gone"));
    let table = [
        ("UPDATE audit SET detail = '{}' WHERE seq = 2", 2, "does not match"),
        ("UPDATE audit SET at = 9 WHERE seq = 4", 4, "does not match"),
        ("DELETE FROM audit WHERE seq = 2", 3, "events are missing"),
        ("DELETE FROM audit WHERE seq > 2", 2, "event 4"),
        ("DELETE FROM audit", 0, "event 4"),
    ];
    for (sql, seq, why) in table {
        let (_dir, mut store, tail) = fresh();
        store.conn.execute(sql, []).unwrap();
        let broken = store.audit_verify(&tail).unwrap().unwrap_err();
        assert!(broken.seq == seq && broken.why.contains(why), "{sql}: {broken:?}");
        // Nor without the file next to the database.
        assert!(store.audit_verify(&Tail::Absent).unwrap().is_err(), "{sql}");
    }
}

#[test]
fn an_evidence_row_is_bound_by_its_event() {
    let changes = [
        ("UPDATE evidence SET verdict = 'pass' WHERE id = 1", "row 1 was changed"),
        ("UPDATE evidence SET sha = replace(sha, 'a', 'b') WHERE id = 1", "row 1 was changed"),
        ("UPDATE evidence SET detail = '{}', why = 'fine' WHERE id = 2", "row 2 was changed"),
        ("UPDATE evidence SET epoch = epoch + 1 WHERE id = 2", "row 2 was changed"),
        ("DELETE FROM evidence WHERE id = 2", "row 2 is missing"),
        (
            "INSERT INTO evidence (task_id, gate, attempt, epoch, sha, code_tree, verdict, why, at)
             SELECT task_id, gate, attempt, epoch, sha, code_tree, 'pass', 'x', at FROM evidence WHERE id = 1",
            "no event binds evidence row 3",
        ),
    ];
    for (sql, why) in changes {
        let (_dir, mut store) = store();
        store
            .write(|tx| {
                let task = add(tx, "ORCH-1").unwrap();
                for gate in [Gate::CiGreen, Gate::ReviewVerdict] {
                    let new = NewEvidence {
                        subject: gate.into(),
                        run_id: None,
                        sha: crate::model::ids::Sha::parse(&"a".repeat(40)).unwrap(),
                        code_tree: "t".to_owned(),
                        verdict: EvidenceVerdict::Fail,
                        why: "red".to_owned(),
                        detail: crate::model::evidence::EvidenceDetail::Again,
                    };
                    tx.add_evidence(&task, &new, 5)?;
                }
                Ok::<_, StoreError>(())
            })
            .unwrap();
        assert_eq!(store.audit_verify(&Tail::Absent).unwrap(), Ok(2));
        store.conn.execute(sql, []).unwrap();
        let broken = store.audit_verify(&Tail::Absent).unwrap().unwrap_err();
        assert!(broken.why.contains(why), "{sql}: {broken:?}");
    }
}

#[test]
fn newer_foreign_and_broken_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orch.db");
    Store::open(&path, Mode::Migrate).unwrap().conn.execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(matches!(Store::open(&path, Mode::Use), Err(StoreError::Newer { found: 99, .. })));
    let other = dir.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE x (a); PRAGMA user_version = 1").unwrap();
    assert!(matches!(Store::open(&other, Mode::Use), Err(StoreError::Foreign { .. })));
    let broken = dir.path().join("broken.db");
    std::fs::write(&broken, "this is no database, but long enough to be read as one".repeat(40)).unwrap();
    assert!(matches!(Store::open(&broken, Mode::Migrate), Err(StoreError::Broken { .. })));
    assert!(matches!(Store::open(&dir.path().join("none.db"), Mode::ReadOnly), Err(StoreError::Missing(_))));
    assert!(!dir.path().join("none.db").exists());
}

#[test]
fn eight_threads_migrate_a_fresh_file_once() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orch.db");
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| Store::open(&path, Mode::Migrate).unwrap());
            }
        });
        assert_eq!(Store::open(&path, Mode::ReadOnly).unwrap().version().unwrap(), SCHEMA_VERSION);
    }
}

#[test]
fn what_an_idle_step_asks_reads_no_history() {
    let (_dir, store) = store();
    let runs = format!("SELECT * FROM runs WHERE {}", runs::OPEN);
    for sql in [tasks::IDLE, outbox::DELIVERABLE, &runs] {
        let mut plan = store.conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let given = vec![0_i64; plan.parameter_count()];
        let lines = plan.query_map(rusqlite::params_from_iter(given), |r| r.get::<_, String>(3)).unwrap();
        let lines: Vec<String> = lines.map(|l| l.unwrap()).collect();
        assert!(!lines.iter().any(|l| l.starts_with("SCAN") && !l.contains("USING")), "{sql}: {lines:?}");
    }
}
