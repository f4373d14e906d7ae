//! Housekeeping (ORD-6): what ended tasks leave is deleted in time and in small shares, merged branches are deleted on
//! the remote, and documents land only where they should.

use crate::support::git::raw;
use crate::support::pipe::{Pipe, Setup};
use orch::adapters::process;
use orch::adapters::store::{Mode, Store};
use orch::cli::clock;
use orch::engine::{Ctx, prune};
use orch::model::time::Stamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const HOUR: i64 = 3_600_000;

fn branches(pipe: &Pipe) -> Vec<String> {
    let all = pipe.remote(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
    all.lines().map(str::to_owned).filter(|b| b != "main").collect()
}

#[test]
fn ord_6_a_merged_branch_is_deleted_and_one_that_somebody_moved_is_kept_and_named() {
    let pipe = Pipe::new(Setup::default());
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    pipe.until("the branch is gone", |p| branches(p).is_empty());
    let (id, head) = (pipe.of(&key, "id"), pipe.of(&key, "head_sha"));
    let mirror = pipe.at("state/repos/demo.git");
    assert_eq!(raw(&mirror, &["rev-parse", &format!("refs/orch/done/{id}")]), head);
    let diff = pipe.orch(&["diff", &key]);
    assert!(diff.code == 0 && diff.out.contains("ORCH-1 round 1"), "{}", diff.all());

    // While the second task is being deployed, somebody pushes to its branch.
    let moving = format!(
        "#!/bin/sh\ncd {} && for b in $(git for-each-ref --format='%(refname)' refs/heads/feature); do git update-ref $b refs/heads/main; done\n",
        pipe.remote_dir().display()
    );
    pipe.person_changes(&[("deploy.sh", &moving)], "a deploy that moves branches");
    let second = pipe.item("Two");
    pipe.until_stage(&second, "done");
    pipe.until("what became of the branch", |p| p.events("branch_deleted").len() == 2);
    assert!(pipe.events("branch_deleted")[1].contains("\"deleted\":false"), "{:?}", pipe.events("branch_deleted"));
    assert_eq!(branches(&pipe).len(), 1, "it is kept");
    pipe.until("it is named", |p| p.read(&format!("state/issues/{second}.md")).contains("is kept: it is at"));
    // Off: no row, no request; the branch stays.
    let text =
        pipe.read("orch.yaml").replace("    repo: demo\n", "    repo: demo\n    merge: {delete_branch: false}\n");
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    let third = pipe.item("Three");
    pipe.until_stage(&third, "done");
    pipe.orch(&["tick"]);
    assert_eq!(branches(&pipe).len(), 2);
    assert_eq!(pipe.table("journal").with("kind", "merged_branch").len().to_string(), "2");
}

static PASSED: AtomicI64 = AtomicI64::new(0);

/// The clock of the simulated month.
fn later() -> Stamp {
    let now = clock::now();
    Stamp { wall_ms: now.wall_ms + PASSED.load(Ordering::SeqCst), ..now }
}

/// A tick's share on a machine that is fast enough for all of it: a busy one deletes less at a time.
fn tick(ctx: &mut Ctx) -> anyhow::Result<()> {
    prune::auto_within(ctx, Duration::from_secs(600))
}

/// What a month left, counted: checkouts, runs, transcripts.
fn left(pipe: &Pipe) -> [usize; 3] {
    let count = |dir: PathBuf| std::fs::read_dir(dir).map_or(0, |list| list.count());
    [count(pipe.at("state-area/demo")), count(pipe.at("state/runs")), count(pipe.at("state/homes"))]
}

/// One more task like the first, ended now, with the folders that its runs leave. Returns its number.
fn another(pipe: &Pipe, stage: &str) -> i64 {
    let next = |table: &str| pipe.table(table).last("id").parse::<i64>().unwrap() + 1;
    let at = later().wall_ms.to_string();
    let n = next("tasks").to_string();
    let (key, of) = (format!("'ORCH-{n}'"), format!("'{stage}'"));
    let finished = if stage == "done" { at.as_str() } else { "NULL" };
    let set = [("id", n.as_str()), ("key", &key), ("natural_key", &key), ("item_id", &key), ("stage", &of)];
    let task = pipe.db().copies("tasks", 1, 1, &[&set[..], &[("finished_at", finished)]].concat());
    let first = pipe.table("runs").one("id").parse().unwrap();
    let fill = |dir: PathBuf| {
        std::fs::create_dir_all(dir.join("deep/er")).unwrap();
        std::fs::write(dir.join("deep/er/file"), "x").unwrap();
    };
    for _ in 0..2 {
        let id = next("runs").to_string();
        let run = pipe.db().copies("runs", first, 1, &[("id", &id), ("task_id", &n), ("ended_at", &at)]);
        fill(pipe.at(&format!("state/runs/{run}")));
    }
    fill(pipe.at(&format!("state/homes/{task}")));
    fill(pipe.at(&format!("state-area/demo/ORCH-{task}/agent/checkout")));
    task
}

#[test]
fn ord_6_a_month_of_work_stays_within_bounds_and_takes_nothing_that_is_needed() {
    let pipe = Pipe::new(Setup::default());
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    pipe.until("the branch is gone", |p| branches(p).is_empty());
    let env = BTreeMap::from([("HOME".to_owned(), pipe.at("").display().to_string())]);
    let config = orch::config::load(Some(Path::new("orch.yaml")), None, &env, pipe.dir.path()).unwrap();
    let store = Store::open(&config.state_dir.join("orch.db"), Mode::Use).unwrap();
    let mut ctx = Ctx::new(config, store, process::me().unwrap(), later, "tick");
    // In progress for the whole month, and blocked.
    let live = another(&pipe, "development");
    pipe.table("tasks").with("id", live).put("blocked_reason", "a person is away");
    let watched = another(&pipe, "done");
    pipe.table("tasks").with("id", watched).put("watch", "armed");
    let needed = [
        pipe.at(&format!("state/homes/{live}")),
        pipe.at(&format!("state-area/demo/ORCH-{live}")),
        pipe.at(&format!("state-area/demo/ORCH-{watched}")),
        pipe.at("state/evidence"),
    ];
    let mut most = [0; 3];
    // Forty days, a task every twelve hours.
    for _ in 0..40 * 2 {
        another(&pipe, "done");
        for _ in 0..2 {
            PASSED.fetch_add(6 * HOUR, Ordering::SeqCst);
            tick(&mut ctx).unwrap();
        }
        let now = left(&pipe);
        for (most, now) in most.iter_mut().zip(now) {
            *most = (*most).max(now);
        }
    }
    let [checkouts, runs, homes] = most;
    assert!(checkouts <= 3 * 2 + 5, "three days of checkouts: {checkouts}");
    assert!(runs <= 2 * (30 * 2 + 5) + 8 && homes <= 30 * 2 + 5, "thirty days of runs: {runs}, {homes}");
    assert!(runs >= 2 * 29 * 2, "and not less: {runs}");
    assert!(needed.iter().all(|p| p.exists()), "{needed:?}");
    assert!(ctx.report.errors.is_empty(), "{:?}", ctx.report.errors);

    // Nobody ticked for two months: each tick deletes its share, and the next one continues.
    PASSED.fetch_add(60 * 24 * HOUR, Ordering::SeqCst);
    let mut before: usize = left(&pipe).iter().sum();
    let start = before;
    let mut shares = 0;
    // The pass in progress ends first.
    for _ in 0..20 {
        tick(&mut ctx).unwrap();
        let now: usize = left(&pipe).iter().sum();
        assert!(before - now <= 50, "one tick deleted {}", before - now);
        shares += usize::from(now < before);
        before = now;
        PASSED.fetch_add(HOUR / 4, Ordering::SeqCst);
    }
    assert!(start > 150 && shares > 3 && before < 20, "{start} folders, {shares} shares, {before} left");
    assert!(needed.iter().all(|p| p.exists()), "{needed:?}");
    assert_eq!(pipe.table("tasks").len(), 40 * 2 + 3, "rows stay");
    // Not due again within the hour, and never if it is off.
    another(&pipe, "done");
    pipe.table("tasks").with("stage", "done").put("finished_at", 1);
    let now = left(&pipe);
    tick(&mut ctx).unwrap();
    assert_eq!(left(&pipe), now);
    PASSED.fetch_add(2 * HOUR, Ordering::SeqCst);
    ctx.config.prune.auto = false;
    tick(&mut ctx).unwrap();
    assert_eq!(left(&pipe), now);
    ctx.config.prune.auto = true;
    // Without time nothing is deleted, and the next tick continues there.
    prune::auto_within(&mut ctx, Duration::ZERO).unwrap();
    assert_eq!(left(&pipe), now);
    tick(&mut ctx).unwrap();
    assert!(left(&pipe) < now);
}

#[test]
fn ord_6_with_none_no_document_lands_and_nobody_works_again_for_it() {
    let project = "stages: [development, review, deploy]\ndeploy: {confirm: false, command: [./deploy.sh], env: {TARGET: PROD}, artefacts_after_merge: none}";
    let pipe = Pipe::new(Setup { project: project.into(), ..Setup::default() });
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    let tree = pipe.remote(&["ls-tree", "-r", "--name-only", "main"]);
    assert!(tree.contains("ORCH-1.txt") && !tree.contains("work-items"), "{tree}");
    let (id, head) = (pipe.of(&key, "id"), pipe.of(&key, "head_sha"));
    let green = pipe.table("evidence").with("gate", "ci_green").with("sha", &head).texts("verdict");
    assert!(green.contains(&"pass".to_owned()), "CI is green on the very head that landed");
    assert!(pipe.events("branch_rebased")[0].contains("\"equal_patches\":true"));
    let reviews = pipe.table("runs").with("agent", "reviewer").len();
    assert_eq!(reviews, 1, "leaving the documents out is no change of the branch's work");
    let before = raw(&pipe.at("state/repos/demo.git"), &["rev-parse", &format!("{head}^")]);
    assert!(pipe.read(&format!("state/evidence/{id}/{before}/12-review.md")).contains("APPROVED"));
    let shown = pipe.orch(&["show", &key, "12"]);
    assert!(shown.code == 0 && shown.out.contains("APPROVED"), "{}", shown.all());
}
