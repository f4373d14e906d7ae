//! `orch logs`, `timeline`, `gate replay` on the binary (CLI-3).

use crate::support::house;
use crate::support::seeded::{ONE, Seeded, change, task};
use orch::adapters::store::NewEvidence;
use orch::model::evidence::EvidenceDetail;
use orch::model::evidence::EvidenceVerdict;
use orch::model::gate::Subject;
use orch::model::ids::Sha;
use orch::model::run_end::{RunEnd, RunResult};
use orch::model::stage::{Agent, JobKind, JobStatus, Stage};
use orch::model::task::NewJob;
use orch::model::time::Stamp;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn stamp() -> Stamp {
    Stamp { wall_ms: 1000, mono_ms: 10, boot_id: "b".into() }
}

/// A task with one run of each given stage; the last one has not ended.
fn world(stages: &[(Stage, Agent)]) -> Seeded {
    let world = Seeded::new(ONE);
    world.write(|tx| {
        let t = task(tx, "ORCH-1", "one", 1);
        for (n, (stage, agent)) in stages.iter().enumerate() {
            let t = change(tx, &t, |t| t.stage = *stage);
            let job = NewJob { agent: Some(*agent), ..NewJob::now(JobKind::Agent) };
            let id = tx.enqueue(&t, &job, 1).unwrap();
            let token = format!("token{n}");
            assert!(tx.claim_job(id, &token).unwrap());
            let run = tx.insert_run(&tx.job(id).unwrap(), &token, Some("claude"), 0, &stamp()).unwrap();
            if n + 1 < stages.len() {
                tx.settle_job(id, &token, JobStatus::Done, None, false, 2).unwrap();
                tx.settle_run(run, &RunEnd::new(RunResult::Done, ""), 2).unwrap();
            }
            tx.audit(5, Some(t.id), "job_started", &json!({"run": run, "stage": stage})).unwrap();
        }
    });
    world
}

fn put(world: &Seeded, run: i64, file: &str, text: &str) {
    let dir = world.path().join(format!("state/runs/{run}"));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(file), text).unwrap();
}

const SAID: &str =
    "{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"I look at it\"}]}}\n";

#[test]
fn output_and_prompt_of_a_run_are_shown() {
    let world = world(&[(Stage::Analysis, Agent::Analyst), (Stage::Architecture, Agent::Architect)]);
    put(&world, 1, "events.jsonl", SAID);
    put(&world, 1, "prompt.md", "# Analyse\n");
    put(&world, 2, "events.jsonl", &SAID.replace("I look at it", "I draw\\u001b[2J"));
    put(&world, 2, "stderr.log", "a warning\n");
    let (code, text, _) = world.orch(&["logs", "orch-1"]);
    assert_eq!(code, 0);
    assert!(text.contains("I draw") && text.contains("# stderr.log\na warning") && !text.contains('\x1b'), "{text}");
    let (_, text, _) = world.orch(&["logs", "ORCH-1", "--stage", "analysis"]);
    assert!(text.contains("I look at it") && text.contains("analyst in analysis"), "{text}");
    let (_, text, _) = world.orch(&["logs", "ORCH-1", "--run", "1", "--prompt"]);
    assert_eq!(text, "# Analyse\n");
    let (_, printed) = world.json(&["logs", "ORCH-1", "--run", "2"]);
    assert_eq!((printed["stage"].as_str(), printed["state"].as_str()), (Some("architecture"), Some("starting")));
    assert_eq!(world.orch(&["logs", "ORCH-1", "--run", "2", "--prompt"]).0, 3);
    let (code, _, err) = world.orch(&["logs", "ORCH-1", "--run", "9"]);
    assert!(code == 2 && err.contains("1 (analysis), 2 (architecture)"), "{err}");
    assert_eq!(world.orch(&["logs", "ORCH-1", "--stage", "nonsense"]).0, 2);
}

#[test]
fn a_run_that_has_just_begun_has_said_nothing_yet() {
    let world = world(&[(Stage::Analysis, Agent::Analyst), (Stage::Architecture, Agent::Architect)]);
    let (code, text, _) = world.orch(&["logs", "ORCH-1"]);
    assert_eq!((code, text.lines().last()), (0, Some("# no output yet; -f waits for it")), "{text}");
    let (code, printed) = world.json(&["logs", "ORCH-1"]);
    assert_eq!((code, &printed["logs"]), (0, &json!([])));
    // A run that ended should have logs; so should what it was sent.
    for words in [&["--run", "1"][..], &["--prompt"]] {
        assert_eq!(world.orch(&[&["logs", "ORCH-1"], words].concat()).0, 3, "{words:?}");
    }
}

#[test]
fn following_ends_with_the_run() {
    let world = world(&[(Stage::Analysis, Agent::Analyst)]);
    put(&world, 1, "events.jsonl", SAID);
    let mut command = Command::new(crate::support::ORCH);
    command
        .current_dir(world.path())
        .env("ORCH_CONFIG", "orch.yaml")
        .args(["logs", "ORCH-1", "-f"])
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = |wanted: &str| {
        let found = lines.by_ref().map(Result::unwrap).find(|l| l.contains(wanted));
        assert!(found.is_some(), "{wanted}");
    };
    until("I look at it");
    put(&world, 1, "events.jsonl", &format!("{SAID}{}", SAID.replace("I look at it", "and found it")));
    until("and found it");
    world.write(|tx| tx.settle_run(orch::model::ids::RunId(1), &RunEnd::new(RunResult::Done, ""), 9).unwrap());
    until("# done");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_timeline_is_the_audit_table() {
    let world = world(&[(Stage::Analysis, Agent::Analyst)]);
    let (_, printed) = world.json(&["timeline", "ORCH-1"]);
    assert_eq!(printed["events"][0]["event"], "job_started");
    assert_eq!(printed["events"][0]["at"], "1970-01-01T00:00:00.005Z");
    let (_, text, _) = world.orch(&["timeline", "ORCH-1"]);
    assert!(text.starts_with("1970-01-01 00:00:00  a job starts in analysis, run 1\n"), "{text}");
}

#[test]
fn past_gates_are_decided_again_from_their_rows() {
    let world = Seeded::new(ONE);
    let row = |word, verdict, n: &str| NewEvidence {
        subject: Subject::parse(word).unwrap(),
        run_id: None,
        sha: Sha::parse(&n.repeat(40)).unwrap(),
        code_tree: format!("tree{n}"),
        verdict,
        why: format!("{word} {verdict}"),
        detail: EvidenceDetail::Plain,
    };
    world.write(|tx| {
        let t = task(tx, "ORCH-1", "one", 1);
        let first = change(tx, &t, |t| {
            t.stage = Stage::Review;
            t.epoch = 2;
        });
        tx.add_evidence(&first, &row("review_verdict", EvidenceVerdict::Fail, "a"), 1).unwrap();
        let second = change(tx, &t, |t| {
            t.epoch = 5;
            t.attempt = 2;
        });
        tx.add_evidence(&second, &row("review_verdict", EvidenceVerdict::Missing, "b"), 1).unwrap();
        tx.add_evidence(&second, &row("review_verdict", EvidenceVerdict::Pass, "b"), 1).unwrap();
        tx.add_evidence(&second, &row("carry", EvidenceVerdict::Pass, "b"), 1).unwrap();
        tx.add_evidence(&second, &row("tests_verdict", EvidenceVerdict::Pass, "b"), 1).unwrap();
    });
    let (code, printed) = world.json(&["gate", "replay", "ORCH-1"]);
    let seen: Vec<(&str, &str, &str)> = printed["replayed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["gate"].as_str().unwrap(), r["recorded"].as_str().unwrap(), r["answer"].as_str().unwrap()))
        .collect();
    let review = "review_verdict";
    assert_eq!(
        seen,
        [
            (review, "fail", "fail"),
            (review, "missing", "undecided"),
            (review, "pass", "pass"),
            ("tests_verdict", "pass", "pass")
        ]
    );
    assert_eq!(code, 0);
    let (_, printed) = world.json(&["gate", "replay", "ORCH-1", "--gate", "tests_verdict"]);
    assert_eq!(printed["replayed"].as_array().unwrap().len(), 1);
    assert_eq!(world.orch(&["gate", "replay", "ORCH-1", "--gate", "nonsense"]).0, 2);
}

/// TRUST-4: a secret given to a runtime by reference is in no log, row, prompt or message, whatever the agent prints.
#[test]
fn trust_4_the_key_of_a_runtime_is_stored_nowhere_although_its_agent_prints_it() {
    let mut plan = house::Plan::short().top(
        "runtimes: {scripted: {kind: command, command: [./agent.sh], env: {KEY: {env: RUNTIME_KEY}, PART: {env: RUNTIME_PART}}}}",
    );
    // Once written in two pieces, once in the words of its failure; a number that resembles the other secret is kept.
    plan.agent = "#!/bin/sh\nprintf 'I use %.9s' \"$KEY\"; printf '%s\\n' \"${KEY#?????????}\"\n\
                  echo '{\"cost_usd\":0.8421,\"input_tokens\":1,\"output_tokens\":1}'\n\
                  echo \"refused with $KEY\" >&2; exit 1\n"
        .to_owned();
    let mut house = house::House::new(&plan);
    let secret = ["the", "model", "vendor", "s", "own", "word"].join("-");
    house.env.push(("RUNTIME_KEY".into(), secret.clone()));
    house.env.push(("RUNTIME_PART".into(), "8421".into()));
    let key = house.item("Greet");
    let task = house.until_task_after_ticks(key.as_str(), |t| t.attempt > 1 || t.blocked_reason.is_some());
    assert!(house.until_task(key.as_str(), "is quiet", |_| true).id == task.id);
    assert_eq!(house.runs(key.as_str())[0].cost_micros, Some(842_100), "read first, hidden then");
    let logs = house.orch(&["logs", key.as_str(), "--run", "1"]).fine().json.to_string();
    assert!(
        logs.contains("I use [secret: runtimes.scripted.env.KEY]") && logs.contains("refused with [secret: "),
        "{logs}"
    );
    let holding: Vec<_> = crate::support::pipe::files(&house.path("state"))
        .into_iter()
        .filter(|p| std::fs::read(p).unwrap_or_default().windows(secret.len()).any(|w| w == secret.as_bytes()))
        .collect();
    assert!(holding.is_empty(), "{holding:?}");
}
