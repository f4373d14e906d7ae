//! Runs the declared staging checks (SHIP-3), one after another, in declared order.

use super::{ProbeCtx, command, http};
use crate::adapters::git::files::Seals;
use crate::model::probe::{CheckKind, CheckSpec, CommandSpec};
use crate::model::staging::{CheckClass, CheckOutcome, CheckResult, one_line};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A check's outcome, and what was seen.
type Seen = (CheckOutcome, String);

/// Runs every check. `infra` are the ids of the allow-list: their class is SANDBOX_INFRA, that of all others REAL.
/// `more` is asked before each check; once it says no, the rest is NOT_RUN. `each` gets every result immediately.
pub fn run(
    checks: &[CheckSpec],
    infra: &[String],
    ctx: &ProbeCtx,
    more: &dyn Fn() -> bool,
    each: &mut dyn FnMut(&CheckResult),
) -> Vec<CheckResult> {
    let mut results = Vec::with_capacity(checks.len());
    let seals = Seals::of(ctx.sealed.iter().cloned());
    for check in checks {
        let class = if infra.contains(&check.id) { CheckClass::SandboxInfra } else { CheckClass::Real };
        let result = if more() {
            let start = Instant::now();
            let (outcome, detail) = sealed(run_one(check, ctx), check, &seals, ctx);
            let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            CheckResult::new(&check.id, class, outcome, &detail, ms)
        } else {
            CheckResult::new(&check.id, class, CheckOutcome::NotRun, "interrupted before it", 0)
        };
        let result = result.named(check.name.as_deref());
        each(&result);
        results.push(result);
    }
    results
}

/// A command check counts only if the protected scripts are unchanged: one check overwrote the running script of
/// another, and the shell exited 0 (BND-5).
fn sealed(run_one: Seen, check: &CheckSpec, seals: &Seals, ctx: &ProbeCtx) -> Seen {
    let broken = match check.kind {
        CheckKind::Command(_) => seals.broken(),
        CheckKind::Http { .. } | CheckKind::Tcp { .. } | CheckKind::Sql { .. } => return run_one,
    };
    match broken.first() {
        None => run_one,
        Some(path) => {
            let name = path.strip_prefix(&ctx.checkout).unwrap_or(path).display();
            (CheckOutcome::Fail, format!("the protected script {name} was changed while it ran"))
        }
    }
}

fn run_one(check: &CheckSpec, ctx: &ProbeCtx) -> Seen {
    let limit = check.timeout_ms.max(1);
    match &check.kind {
        CheckKind::Http { url, expect_status, expect_body, retries } => {
            let mut last = ask(url, *expect_status, expect_body, limit);
            // Each attempt is bounded. Only declared retries give a slow service time to start.
            for _ in 0..(*retries).min(100) {
                if last.0 != CheckOutcome::Fail {
                    break;
                }
                std::thread::sleep(RETRY_PAUSE);
                last = ask(url, *expect_status, expect_body, limit);
            }
            if last.0 == CheckOutcome::Fail && *retries > 0 {
                last.1.push_str(&format!(" ({} tries)", u64::from(*retries).min(100) + 1));
            }
            last
        }
        CheckKind::Command(spec) => run_command(spec, limit, ctx),
        CheckKind::Tcp { address } => connect(address, Duration::from_millis(limit)),
        CheckKind::Sql { database, query, expect } => sql(database, query, expect.as_deref(), limit),
    }
}

/// Between two attempts of one check.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

fn ask(url: &str, want: u16, body: &str, limit: u64) -> Seen {
    match http::get(url, &[], limit) {
        Err(no) if no.outcome == crate::model::watch::HealthOutcome::NotMade => {
            (CheckOutcome::Error, format!("{url}: {}", no.detail))
        }
        Err(no) => (CheckOutcome::Fail, format!("{url}: {}: {}", no.outcome, no.detail)),
        Ok(r) if r.status != want => (CheckOutcome::Fail, format!("{url}: status {}, expected {want}", r.status)),
        Ok(r) if !body.is_empty() && !r.text().contains(body) => {
            (CheckOutcome::Fail, format!("{url}: status {want}, but the body does not contain {body:?}"))
        }
        Ok(r) => (CheckOutcome::Pass, format!("status {} in {} ms", r.status, r.elapsed_ms)),
    }
}

fn run_command(spec: &CommandSpec, limit: u64, ctx: &ProbeCtx) -> Seen {
    match command::check(spec, limit, ctx) {
        Err(command::CommandError::NotStarted(why)) => (CheckOutcome::Error, why),
        Err(late @ (command::CommandError::Timeout(_) | command::CommandError::Limit(_))) => {
            (CheckOutcome::Fail, late.to_string())
        }
        Ok(ended) if ended.code == Some(0) => (CheckOutcome::Pass, "exit 0".into()),
        Ok(ended) => {
            let code = ended.code.map_or_else(|| "ended by a signal".to_owned(), |_| ended.ending());
            let tail: String = {
                let line = one_line(&ended.said(), usize::MAX);
                let skip = line.chars().count().saturating_sub(300);
                line.chars().skip(skip).collect()
            };
            (CheckOutcome::Fail, if tail.is_empty() { code } else { format!("{code}: {tail}") })
        }
    }
}

fn connect(address: &str, limit: Duration) -> Seen {
    let resolved = match address.to_socket_addrs() {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => {
            return (CheckOutcome::Error, format!("{address:?} is not host:port ({e})"));
        }
        Err(e) => return (CheckOutcome::Fail, format!("{address}: {e}")),
    };
    let mut last = format!("{address}: the name has no address");
    for target in resolved {
        match TcpStream::connect_timeout(&target, limit) {
            Ok(_) => return (CheckOutcome::Pass, format!("{target} takes connections")),
            Err(e) => last = format!("{target}: {e}"),
        }
    }
    (CheckOutcome::Fail, last)
}

/// Runs one read-only query on a SQLite file, interrupted at the limit.
fn sql(database: &Path, query: &str, expect: Option<&str>, limit: u64) -> Seen {
    let name = database.display();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match Connection::open_with_flags(database, flags) {
        Ok(db) => db,
        Err(e) => return (CheckOutcome::Fail, format!("{name} can't be opened: {e}")),
    };
    let _ = db.busy_timeout(Duration::from_millis(limit));
    let interrupt = db.get_interrupt_handle();
    let (done, over) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if over.recv_timeout(Duration::from_millis(limit)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let answer = first_value(&db, query);
        drop(done);
        match (answer, expect) {
            (Err(SqlError::Writes), _) => (CheckOutcome::Error, "the query does not only read".into()),
            (Err(SqlError::Db(e)), _) => (CheckOutcome::Fail, format!("{name}: {e}")),
            (Ok(None), _) => (CheckOutcome::Fail, format!("{name}: no row")),
            (Ok(Some(got)), Some(want)) if got.trim() != want.trim() => {
                (CheckOutcome::Fail, format!("{name}: got {:?}, expected {want:?}", one_line(&got, 120)))
            }
            (Ok(Some(got)), _) => (CheckOutcome::Pass, format!("got {:?}", one_line(&got, 120))),
        }
    })
}

enum SqlError {
    Writes,
    Db(rusqlite::Error),
}

fn first_value(db: &Connection, query: &str) -> Result<Option<String>, SqlError> {
    let mut statement = db.prepare(query).map_err(SqlError::Db)?;
    if !statement.readonly() {
        return Err(SqlError::Writes);
    }
    let mut rows = statement.query([]).map_err(SqlError::Db)?;
    let Some(row) = rows.next().map_err(SqlError::Db)? else { return Ok(None) };
    Ok(Some(match row.get_ref(0).map_err(SqlError::Db)? {
        ValueRef::Null => String::new(),
        ValueRef::Integer(n) => n.to_string(),
        ValueRef::Real(n) => n.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_5_a_check_during_which_a_protected_script_changed_has_failed_and_so_have_later_ones() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("smoke.sh");
        std::fs::write(&script, "exit 1\n").unwrap();
        let ctx = ProbeCtx {
            checkout: dir.path().to_owned(),
            home: dir.path().to_owned(),
            env: Vec::new(),
            own: None,
            confined: None,
            sealed: vec![script],
        };
        let check = |id: &str, script: &str| CheckSpec {
            id: id.to_owned(),
            name: None,
            timeout_ms: 10_000,
            kind: CheckKind::Command(CommandSpec {
                argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
                cwd: None,
                here: false,
                env: Vec::new(),
            }),
        };
        let checks =
            [check("S1", "true"), check("S2", "echo exit 0 > new; mv new smoke.sh"), check("S3", "sh smoke.sh")];
        let results = run(&checks, &[], &ctx, &|| true, &mut |_| {});
        let said: Vec<CheckOutcome> = results.iter().map(|r| r.result).collect();
        assert_eq!(said, [CheckOutcome::Pass, CheckOutcome::Fail, CheckOutcome::Fail]);
        assert!(results[1].detail.contains("protected script smoke.sh was changed"), "{results:?}");
    }
}
