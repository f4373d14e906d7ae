//! `orch status` on the binary (CLI-3).

use crate::support::seeded::{ONE, Seeded, change, read_until, task};
use orch::adapters::process;
use orch::adapters::store::NewEvidence;
use orch::cli::clock;
use orch::engine::{Ctx, record};
use orch::model::change::{Change, Move};
use orch::model::evidence::EvidenceDetail;
use orch::model::evidence::EvidenceVerdict;
use orch::model::gate::Gate;
use orch::model::ids::Sha;
use orch::model::stage::{Agent, JobKind, Stage};
use orch::model::task::{NewJob, Waiting};
use orch::model::time::Stamp;
use serde_json::{Value, json};

const BLOCKS: [&str; 15] = [
    "tasks",
    "queue",
    "stop",
    "reaper",
    "serial_gate",
    "auto_labels",
    "reconcile",
    "services_down",
    "base",
    "merge_lease",
    "confinement",
    "security",
    "post_deploy",
    "outbox",
    "limits",
];
const FIELDS: [&str; 18] = [
    "id",
    "key",
    "title",
    "project",
    "stage",
    "attempt",
    "branch",
    "waiting_for",
    "blocked_reason",
    "held_by",
    "cancel_requested_at",
    "running_job",
    "cost_usd",
    "unconfined",
    "pr",
    "created_at",
    "updated_at",
    "finished_at",
];

fn names(v: &Value) -> Vec<&str> {
    v.as_object().unwrap().keys().map(String::as_str).collect()
}

fn agent_job() -> NewJob {
    NewJob { agent: Some(Agent::Analyst), ..NewJob::now(JobKind::Agent) }
}

fn stamp() -> Stamp {
    Stamp { wall_ms: 1000, mono_ms: 10, boot_id: "b".into() }
}

#[test]
fn without_a_database_every_block_is_there_and_nothing_is_made() {
    let world = Seeded::new(ONE);
    let (code, printed) = world.json(&["status"]);
    assert_eq!((code, names(&printed)), (0, BLOCKS.to_vec()));
    assert_eq!(printed["tasks"], json!([]));
    assert_eq!(printed["queue"], json!({"queued": 0, "running": 0, "done": 0, "failed": 0, "cancelled": 0}));
    assert!(!world.path().join("state").exists());
    let (code, text, _) = world.orch(&["status"]);
    assert_eq!(code, 0);
    assert!(text.contains("orch new"), "{text}");
}

#[test]
fn what_holds_a_task_is_what_tick_says_holds_it() {
    let world = Seeded::new(&ONE.replace("projects:", "serial_gate: {repos: ['*']}\nprojects:"));
    let keys: Vec<String> = (1..=6).map(|n| world.item(&format!("item {n}"))).collect();
    world.write(|tx| {
        // In progress, waits for a person; holds the others of its repository.
        let first = task(tx, &keys[0], "first", 1);
        let first = change(tx, &first, |t| {
            t.stage = Stage::Analysis;
            t.waiting_for = Some(Waiting::Approval);
            t.waiting_since = Some(1);
            t.started_at = Some(1);
            t.in_serial = true;
        });
        let complete = NewEvidence {
            subject: Gate::AnalysisComplete.into(),
            run_id: None,
            sha: Sha::parse(&"a".repeat(40)).unwrap(),
            code_tree: "tree".into(),
            verdict: EvidenceVerdict::Pass,
            why: "four files".into(),
            detail: EvidenceDetail::Plain,
        };
        tx.add_evidence(&first, &complete, 1).unwrap();
        let second = task(tx, &keys[1], "second", 2);
        tx.enqueue(&second, &agent_job(), 2).unwrap();
        let third = task(tx, &keys[2], "third", 3);
        tx.enqueue(&third, &NewJob { available_at: i64::MAX / 4, reason: Some("not yet".into()), ..agent_job() }, 3)
            .unwrap();
        let fourth = task(tx, &keys[3], "fourth", 4);
        change(tx, &fourth, |t| {
            t.stage = Stage::Review;
            t.blocked_reason = Some("the reviewer failed".into());
        });
        let fifth = task(tx, &keys[4], "fifth", 5);
        change(tx, &fifth, |t| {
            t.stage = Stage::Development;
            t.withdrawn = Some(orch::model::withdrawal::Withdrawal::PullClosed { number: 3 });
        });
    });
    let compare = |rules: &[&str]| {
        let (code, printed) = world.json(&["status"]);
        assert_eq!(code, 0, "{printed}");
        let (_, tick) = world.json(&["tick", "--dry-run"]);
        let mut seen = Vec::new();
        for row in printed["tasks"].as_array().unwrap() {
            assert_eq!(names(row), FIELDS);
            let held = &row["held_by"];
            let said = tick["skipped"].as_array().unwrap().iter().find(|h| h["task"] == row["key"]);
            let said = said.unwrap_or_else(|| panic!("{row} is not in {tick}"));
            assert_eq!((&held["rule"], &held["why"], &held["until"]), (&said["rule"], &said["why"], &said["until"]));
            let (_, explained) = world.json(&["explain", row["key"].as_str().unwrap()]);
            assert_eq!(explained["held_by"], *held, "{explained}");
            seen.push(held["rule"].as_str().unwrap().to_owned());
        }
        assert_eq!(seen, rules);
    };
    compare(&["approval", "serial_gate", "backoff", "blocked", "withdrawn"]);
    assert_eq!(world.orch(&["halt", "--reason", "the database moves"]).0, 0);
    compare(&["approval", "halt", "backoff", "blocked", "withdrawn"]);
    let (_, printed) = world.json(&["status"]);
    assert_eq!(printed["stop"]["halted"], true);
    let (_, text, _) = world.orch(&["status"]);
    assert!(text.contains("HALTED: the database moves"), "{text}");
    assert_eq!(world.orch(&["resume"]).0, 0);
    assert_eq!(world.orch(&["freeze", "demo", "--reason", "production is sick"]).0, 0);
    compare(&["approval", "freeze", "backoff", "blocked", "withdrawn"]);
    let (_, printed) = world.json(&["status"]);
    assert_eq!(printed["serial_gate"]["frozen"][0]["repo"], "demo");
    assert_eq!(printed["serial_gate"]["repos"], json!(["demo"]));
}

#[test]
fn one_row_a_key_the_hundred_finished_last_and_all_on_demand() {
    let world = Seeded::new(ONE);
    world.write(|tx| {
        for n in 1..=130 {
            let t = task(tx, &format!("ORCH-{n}"), "old", n);
            change(tx, &t, |t| {
                t.stage = if n == 130 { Stage::Cancelled } else { Stage::Done };
                t.stopped_stage = (n == 130).then_some(Stage::Created);
                t.finished_at = Some(1000 + n);
            });
            if n == 130 {
                tx.tombstone(t.id).unwrap();
            }
        }
        let again = task(tx, "ORCH-130", "again", 200);
        let job = tx.enqueue(&again, &agent_job(), 200).unwrap();
        assert!(tx.claim_job(job, "token").unwrap());
        let job = tx.job(job).unwrap();
        tx.insert_run(&job, "token", Some("claude"), 0, &stamp()).unwrap();
    });
    let (_, printed) = world.json(&["status"]);
    let rows = printed["tasks"].as_array().unwrap();
    assert_eq!(rows.len(), 101);
    assert_eq!((rows[0]["key"].as_str(), rows[0]["id"].as_i64()), (Some("ORCH-30"), Some(30)));
    let last = rows.last().unwrap();
    assert_eq!(
        (last["key"].as_str(), last["id"].as_i64(), last["title"].as_str()),
        (Some("ORCH-130"), Some(131), Some("again"))
    );
    assert_eq!((last["running_job"]["agent"].as_str(), last["held_by"].clone()), (Some("analyst"), Value::Null));
    assert_eq!(last["cost_usd"], json!(0.0));
    assert_eq!(printed["queue"]["running"], 1);
    let (_, all) = world.json(&["status", "--all"]);
    let ids: Vec<i64> = all["tasks"].as_array().unwrap().iter().map(|r| r["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=131).collect::<Vec<_>>());
    let (_, one) = world.json(&["status", "orch-130"]);
    assert_eq!((one["tasks"].as_array().unwrap().len(), one["tasks"][0]["id"].as_i64()), (1, Some(131)));
    assert!(one["card"].as_str().unwrap().contains("ORCH-130"));
}

#[test]
fn parked_messages_and_intents_that_are_off_are_shown() {
    let statuses = "board: {kind: local, statuses: {stop: Blocked}}";
    let world = Seeded::new(&format!("{ONE}    {statuses}\n"));
    world.write(|tx| {
        use orch::adapters::store::{NewOutbox, Sink};
        let t = task(tx, "ORCH-1", "one", 1);
        let new = NewOutbox { key: "card/1".into(), task_id: Some(t.id), sink: Sink::Card, payload: json!({}) };
        tx.post(&new, 1).unwrap();
        let row = tx.deliverable(10, 10).unwrap().remove(0);
        tx.park_message(row.id, "chat not found").unwrap();
    });
    let (_, printed) = world.json(&["status"]);
    assert_eq!(printed["outbox"]["parked"], 1);
    assert_eq!(printed["outbox"]["messages"][0]["error"], "chat not found");
    assert_eq!(printed["reconcile"]["intents_off"][0]["intent"], "stop", "{}", printed["reconcile"]);
    let (_, text, _) = world.orch(&["status"]);
    assert!(text.contains("refused: ORCH-1 card: chat not found") && text.contains("`stop` has no effect"), "{text}");
}

#[test]
fn rule_39_changed_guard_settings_are_alerted_once_with_variable_and_caller() {
    let world = Seeded::new(ONE);
    let tick = |env: &[(&str, &str)]| {
        let mut command = std::process::Command::new(crate::support::ORCH);
        command.current_dir(world.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let out = command
            .env("USER", "ann")
            .env("ORCH_CONFIG", "orch.yaml")
            .envs(env.iter().copied())
            .args(["tick", "--json"])
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stdout));
    };
    let off = [("ORCH_SECURITY_GATE_ENABLED", "false")];
    tick(&[]);
    assert_eq!(world.json(&["status"]).1["security"]["guard_change"], Value::Null);
    tick(&off);
    tick(&off);
    let (_, printed) = world.json(&["status"]);
    let change = &printed["security"]["guard_change"]["detail"];
    let first = &change["changed"][0];
    assert_eq!(
        (first["setting"].as_str(), first["was"].as_str(), first["now"].as_str()),
        (Some("projects.ORCH.security.gate_enabled"), Some("true"), Some("false")),
        "{change}"
    );
    assert_eq!(first["source"], "env ORCH_SECURITY_GATE_ENABLED");
    assert!(change["caller"].as_str().unwrap().starts_with("ann"), "{change}");
    let (_, text, _) = world.orch(&["status"]);
    assert!(text.contains("env ORCH_SECURITY_GATE_ENABLED") && text.contains("of ann"), "{text}");
    let rows = || {
        let alerts = world.table("outbox").like("key", "alert/guard_changed/").len();
        (alerts, world.table("audit").with("event", "guard_changed").len())
    };
    assert_eq!(rows(), (1, 1), "the same difference is told once");
    tick(&[]);
    assert_eq!(rows(), (2, 2), "back again is a difference, too");
    assert_eq!(world.orch(&["audit", "verify"]).0, 0);
}

#[test]
fn an_unknown_task_suggests_the_nearest() {
    let world = Seeded::new(ONE);
    world.write(|tx| drop(task(tx, "ORCH-17", "one", 1)));
    let (code, printed) = world.json(&["status", "ORCH-71"]);
    assert_eq!((code, printed["errors"][0]["code"].as_i64()), (2, Some(2)));
    assert!(printed["errors"][0]["hint"].as_str().unwrap().contains("ORCH-17"), "{printed}");
    assert_eq!(world.orch(&["status", "nonsense"]).0, 2);
    assert_eq!(world.orch(&["status", "--watch", "--json"]).0, 2);
}

#[test]
fn colour_obeys_the_flag_then_force_then_no_color_and_json_has_none() {
    let world = Seeded::new(ONE);
    world.write(|tx| drop(task(tx, "ORCH-1", "one", 1)));
    let coloured = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = std::process::Command::new(crate::support::ORCH);
        command.current_dir(world.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("ORCH_CONFIG", "orch.yaml");
        let out = command.env("HOME", world.path()).envs(env.iter().copied()).args(args).output().unwrap();
        out.stdout.contains(&0x1b)
    };
    let (force, no) = (("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1"));
    for args in [&["status"][..], &["status", "--help"]] {
        assert!(!coloured(args, &[]), "{args:?}: a pipe");
        assert!(coloured(args, &[force, no]), "{args:?}");
        assert!(!coloured(args, &[no]), "{args:?}");
        assert!(!coloured(&[args, &["--color", "never"]].concat(), &[force]), "{args:?}");
        assert!(coloured(&[args, &["--color=always"]].concat(), &[no]), "{args:?}");
    }
    assert!(!coloured(&["status", "--json", "--color", "always"], &[force]));
    // COLUMNS sets the width for a pipe, too.
    let line = |columns: &str| {
        let mut command = std::process::Command::new(crate::support::ORCH);
        command.current_dir(world.path()).env("COLUMNS", columns).env("ORCH_CONFIG", "orch.yaml");
        command.args(["explain", "ORCH-1"]);
        command.arg("--json").output().unwrap().stdout
    };
    assert_eq!(line("60"), line("200"), "only text for people has a width");
}

#[test]
fn watch_needs_a_terminal_and_gives_it_back_at_a_signal() {
    let world = Seeded::new(ONE);
    let (code, out, err) = world.orch(&["status", "--watch"]);
    assert!((code, out.as_str()) == (2, "") && err.contains("needs a terminal"), "{code} {out} {err}");
    let mut child = world.terminal(&format!("echo pid $$; exec {} status --watch", crate::support::ORCH));
    let mut out = child.stdout.take().unwrap();
    let first = read_until(&mut out, "\n");
    let pid = first.trim().strip_prefix("pid ").unwrap();
    let seen = read_until(&mut out, "No task yet");
    assert!(seen.starts_with("\x1b[?1049h\x1b[?25l"), "{seen}");
    assert!(std::process::Command::new("kill").args(["-TERM", pid]).status().unwrap().success());
    let rest = std::io::read_to_string(out).unwrap();
    assert!(rest.ends_with("\x1b[?25h\x1b[?1049l"), "{rest}");
    assert!(child.wait().unwrap().success());
}

/// PIPE-1: an edge that is not in the table changes nothing, and one alert for that row reaches a person.
#[test]
fn pipe_1_a_change_that_is_no_edge_is_refused_and_alerted_once() {
    let world = Seeded::new(ONE);
    let t = world.write(|tx| task(tx, "ORCH-1", "one", 1));
    let env = std::collections::BTreeMap::new();
    let config = orch::config::load(Some("orch.yaml".as_ref()), None, &env, world.path()).unwrap();
    let mut ctx = Ctx::new(config, world.store(), process::me().unwrap(), clock::now, "tick");
    for _ in 0..2 {
        let done = ctx.store.write(|tx| {
            let mut row = tx.task(t.id)?;
            tx.audit(1, Some(t.id), "before", &json!({}))?;
            record::change(tx, &mut row, Change::Move(Move::Finish { watch: false, at: 1 }), 1)
        });
        ctx.fault(Some(&t), "advancing the task", &done.unwrap_err().into());
    }
    assert!(
        ctx.report.errors[0].message.contains("advance from created to done is not an edge"),
        "{:?}",
        ctx.report.errors
    );
    assert!(world.table("audit").with("event", "before").is_empty(), "nothing of the transaction is kept");
    assert_eq!(world.table("outbox").with("sink", "alert").like("payload", "is not an edge").len(), 1);
    assert_eq!(ctx.task(t.id).unwrap(), t);
}
