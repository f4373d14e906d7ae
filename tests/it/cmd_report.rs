//! `orch report`, `metrics`, `prune` on the binary (CLI-3, CLI-4).

use crate::support::seeded::{ONE, Seeded, change, task};
use orch::adapters::store::RunExit;
use orch::model::ids::{RunId, TaskId};
use orch::model::outcome::{Kind, Outcome};
use orch::model::run_end::{RunEnd, RunResult};
use orch::model::stage::{Agent, JobKind, JobStatus, Stage};
use orch::model::task::NewJob;
use orch::model::time::{Stamp, parse_rfc3339};
use serde_json::json;

fn stamp(at: &str) -> Stamp {
    Stamp { wall_ms: parse_rfc3339(at).unwrap(), mono_ms: 10, boot_id: "b".into() }
}

const TITLE: &str = "<script>alert(1)</script> & more";

/// ORCH-1 was done long ago with two runs of the developer, ORCH-2 is in progress.
fn world() -> Seeded {
    let world = Seeded::new(ONE);
    world.write(|tx| {
        let at = stamp("2026-01-01T10:00:00Z");
        for (key, open) in [("ORCH-1", false), ("ORCH-2", true)] {
            let t = task(tx, key, TITLE, at.wall_ms);
            let t = change(tx, &t, |t| t.stage = Stage::Development);
            for (n, cost) in [(1, Some(250_000)), (2, Some(1_000_000))] {
                if open && n == 2 {
                    continue;
                }
                let job = NewJob { agent: Some(Agent::Developer), ..NewJob::now(JobKind::Agent) };
                let id = tx.enqueue(&t, &job, 1).unwrap();
                let token = format!("{key}-{n}");
                assert!(tx.claim_job(id, &token).unwrap());
                let run = tx.insert_run(&tx.job(id).unwrap(), &token, Some("claude"), 0, &at).unwrap();
                if open {
                    continue;
                }
                let exit = RunExit {
                    cost_micros: cost,
                    model: Some("m".into()),
                    ..RunExit::of(Outcome::bare(Kind::Ended, ""))
                };
                tx.record_exit(run, &exit, &at).unwrap();
                let (word, status) = if n == 1 {
                    (RunEnd::new(RunResult::Failed, "x"), JobStatus::Failed)
                } else {
                    (RunEnd::new(RunResult::Done, ""), JobStatus::Done)
                };
                tx.settle_run(run, &word, at.wall_ms + 60_000).unwrap();
                tx.settle_job(id, &token, status, None, true, 2).unwrap();
            }
            if !open {
                change(tx, &t, |t| {
                    t.stage = Stage::Done;
                    t.finished_at = Some(at.wall_ms + 3_600_000);
                });
            }
        }
    });
    world
}

#[test]
fn the_report_sums_and_its_page_holds_itself() {
    let world = world();
    let (code, printed) = world.json(&["report"]);
    assert_eq!(code, 0);
    let total = &printed["total"];
    assert_eq!((&total["runs"], &total["retries"], &total["failed"]), (&json!(3), &json!(1), &json!(1)), "{printed}");
    assert_eq!(total["cost_usd"], json!(1.25));
    assert_eq!(printed["outcomes"], json!({"done": 1, "open": 1}));
    assert_eq!((&printed["tasks"][0]["lead_s"], &printed["agents"][0]["name"]), (&json!(3600.0), &json!("developer")));
    let (_, printed) = world.json(&["report", "--since", "2026-01-02"]);
    assert_eq!(printed["total"]["runs"], 0);
    let (code, text, _) = world.orch(&["report", "--html", "r.html"]);
    assert!(code == 0 && text.contains("3 runs of 2 tasks"), "{text}");
    let page = std::fs::read_to_string(world.path().join("r.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("&lt;script&gt;") && page.contains("2026-01-01"), "{page}");
    for outside in ["<script", "http://", "https://", " src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let (_, text, _) = world.orch(&["report"]);
    assert!(text.contains("3 (1 failed, 0 stopped, 1 retried)") && text.contains("LEAD TIME"), "{text}");
    assert_eq!(world.orch(&["report", "--since", "yesterday"]).0, 2);
}

#[test]
fn metrics_are_written_whole_and_parse() {
    let world = world();
    assert_eq!(world.orch(&["freeze", "demo", "--reason", "x"]).0, 0);
    let (code, _, err) = world.orch(&["metrics", "--output", "orch.prom"]);
    assert_eq!(code, 0, "{err}");
    let text = std::fs::read_to_string(world.path().join("orch.prom")).unwrap();
    let value = |name: &str| {
        let line =
            text.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(value("orch_tasks{stage=\"done\"}"), 1.0);
    assert_eq!(value("orch_jobs{status=\"running\"}"), 1.0);
    assert_eq!(value("orch_repo_frozen{repo=\"demo\"}"), 1.0);
    assert_eq!(value("orch_cost_usd_total"), 1.25);
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("orch_") && value.parse::<f64>().is_ok(), "{line}");
    }
    let left: Vec<String> = std::fs::read_dir(world.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.contains("metrics"))
        .collect();
    assert_eq!(left, [""; 0]);
    // There is something to collect without a database, too.
    let (code, text, _) = Seeded::new(ONE).orch(&["metrics"]);
    assert!(code == 0 && text.contains("orch_tasks{stage=\"created\"} 0\n"), "{text}");
}

#[test]
fn prune_takes_what_ended_long_ago_and_nothing_else() {
    let world = world();
    let (done, open) = (1_i64, 2_i64);
    let state = world.path().join("state");
    let runs: Vec<(RunId, TaskId)> = world.write(|tx| {
        tx.audit(1, Some(TaskId(done)), "task_created", &json!({})).unwrap();
        [done, open].iter().flat_map(|t| tx.runs_of(TaskId(*t)).unwrap()).map(|r| (r.id, r.task_id)).collect()
    });
    let mut old = Vec::new();
    let mut kept = Vec::new();
    for (run, task) in &runs {
        if task.0 == done { &mut old } else { &mut kept }.push(state.join(format!("runs/{run}")));
    }
    old.extend([state.join("homes/1"), world.path().join("state-area/demo/ORCH-1"), state.join("archive/ORCH-1")]);
    kept.extend([
        state.join("homes/2"),
        world.path().join("state-area/demo/ORCH-2"),
        state.join("evidence/1"),
        state.join("runs/x"),
    ]);
    for dir in old.iter().chain(&kept) {
        std::fs::create_dir_all(dir.join("deep")).unwrap();
        std::fs::write(dir.join("deep/file"), "x").unwrap();
    }
    let (code, printed) = world.json(&["prune", "--dry-run"]);
    assert_eq!((code, printed["removed"].as_array().unwrap().len()), (0, old.len()), "{printed}");
    assert!(old.iter().all(|d| d.exists()));
    let (_, printed) = world.json(&["prune", "--older-than", "40000"]);
    assert_eq!(printed["removed"], json!([]));
    let (code, text, _) = world.orch(&["prune"]);
    assert!(code == 0 && text.contains("audit rows stay"), "{text}");
    assert!(old.iter().all(|d| !d.exists()), "{text}");
    assert!(kept.iter().all(|d| d.exists()), "{text}");
    let (code, text, err) = world.orch(&["audit", "verify"]);
    assert_eq!(code, 0, "{text}{err}");
    let (code, _, err) = world.orch(&["logs", "ORCH-1"]);
    assert!(code == 3 && err.contains("pruned"), "{err}");
}
