//! Nights (issue 12): tasks in two repositories while board, forge, remote, chat and disk fail in turn, processes are
//! killed and the machine restarts. Every task that can finish must finish, only a kill may waste an agent's run, and
//! people hear of a cause once. The seed fixes the draws, not how processes interleave.
//!
//! `ORCH_NIGHT_S` (real seconds of disturbance; without it none is played), `ORCH_NIGHT_SEED`, `ORCH_NIGHT_TASKS` (per
//! repository), `ORCH_NIGHT_RATE` (how much faster time runs), `ORCH_NIGHT_KILL_MS` (between two kills): see
//! `scripts/night`.
#![cfg(feature = "failpoints")]

use crate::support::night::people::People;
use crate::support::night::trouble::{Outage, Part};
use crate::support::night::{Night, Role, role};
use crate::support::rows::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long everything left may take once the disturbances are over.
const REST: Duration = Duration::from_secs(600);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn a_night_of_outages_kills_and_reboots_loses_no_task_and_wastes_no_run() {
    if std::env::var_os("ORCH_NIGHT_S").is_none() {
        println!("NOT TESTED: a night, which takes minutes; scripts/night plays one");
        return;
    }
    let (seed, each) = (setting("ORCH_NIGHT_SEED", 1), usize::try_from(setting("ORCH_NIGHT_TASKS", 1)).unwrap());
    let length = Duration::from_secs(setting("ORCH_NIGHT_S", 600));
    let night = Night::new(length, i64::try_from(setting("ORCH_NIGHT_RATE", 30)).unwrap(), each < 3);
    let outages = night.outages(seed);
    let people = play(&night, seed, each, &outages);
    let faults = judge(&night, each, &outages, &people);
    print_summary(&night, seed, each, &people);
    assert!(faults.is_empty(), "{} faults\n{}\n{}", faults.len(), faults.join("\n"), night.world.story());
}

fn play(night: &Night, seed: u64, each: usize, outages: &[Outage]) -> People {
    let every = Duration::from_millis(setting("ORCH_NIGHT_KILL_MS", 3000));
    std::thread::scope(|scope| {
        scope.spawn(|| night.timers());
        scope.spawn(|| night.play(outages));
        scope.spawn(|| night.kills(seed, every));
        scope.spawn(|| night.items(each));
        scope.spawn(|| night.ci());
        let people = scope.spawn(|| night.people());
        let end = Instant::now() + night.length + REST;
        while Instant::now() < end && !(night.part() >= 1.0 && night.quiet(2 * each)) {
            std::thread::park_timeout(Duration::from_millis(500));
        }
        night.note("all is quiet");
        night.over.store(true, Ordering::SeqCst);
        people.join().unwrap()
    })
}

/// Every agent's run: `(task, stage, attempt)`, its run, how it ended (`end`, `fail`, `limit`; `None`: it did not).
type Runs = BTreeMap<(String, String, i64), Vec<(i64, Option<String>)>>;

fn runs(night: &Night) -> Runs {
    let mut all = Runs::new();
    for line in night.world.lines("agents.log") {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, task, stage, attempt, run] = words[..] else { panic!("{line}") };
        let of = all.entry((task.to_owned(), stage.to_owned(), attempt.parse().unwrap())).or_default();
        // `ORCH_RUN` begins with the installation.
        let run: i64 = run.rsplit('-').next().unwrap().parse().unwrap();
        match of.iter_mut().find(|(r, _)| *r == run) {
            None => of.push((run, None)),
            Some(known) => known.1 = Some(what.to_owned()),
        }
    }
    all
}

/// Everything that is wrong with the outcome of the night.
fn judge(night: &Night, each: usize, outages: &[Outage], people: &People) -> Vec<String> {
    let mut faults = night.wrong.lock().unwrap().clone();
    let tasks = night.world.tasks();
    if tasks.len() != 2 * each {
        faults.push(format!("{} tasks of {} work items", tasks.len(), 2 * each));
    }
    for task in &tasks {
        faults.extend(ended(night, task, people));
    }
    faults.extend(wasted(night));
    faults.extend(alert_faults(night, outages));
    faults.extend(left(night, &tasks));
    for (key, why) in &people.retries {
        // What a kill explains: a supervisor that was killed three times in one stage, a deploy between start and
        // result.
        if !why.contains("vanished") && !why.contains("unknown") {
            faults.push(format!("{key} was blocked: {why}"));
        }
    }
    faults
}

/// Whether a task reached the end that its role has.
fn ended(night: &Night, task: &Row, people: &People) -> Option<String> {
    let part = role(&task.key);
    let (wanted, attempts) = match part {
        Role::Hopeless => (task.blocked.is_some() && task.stage == "development", 1),
        Role::Stopped => (task.stage == "cancelled" || task.stage == "done" && task.stop_requested, 1),
        Role::Rework | Role::Red | Role::Conflict => (task.stage == "done", 2),
        Role::Plain | Role::Late | Role::Limited | Role::Flaky => (task.stage == "done", 1),
    };
    let project = task.key.split('-').next().unwrap();
    let key = task.key.split('~').next().unwrap();
    let (merged, deployed) = (
        night.world.merges(project).get(key).copied().unwrap_or(0),
        night.world.deploys().get(key).copied().unwrap_or(0),
    );
    let done = usize::from(task.stage == "done");
    let again = people.retries.iter().filter(|(k, why)| *k == task.key && why.contains("unknown")).count();
    (!wanted || task.attempt > attempts || merged != done || deployed < done || deployed > done + again).then(|| {
        format!("{part:?} {task:?} merged {merged} times, deployed {deployed} times, {again} new deploys asked for")
    })
}

/// Runs beyond the first of a stage's attempt that neither the plan nor a kill explains.
fn wasted(night: &Night) -> Vec<String> {
    // Whether its end was recorded before each kill.
    let mut killed: BTreeMap<i64, bool> = BTreeMap::new();
    for (run, ended) in night.killed.lock().unwrap().iter().filter_map(|k| Some((k.run?, k.ended))) {
        *killed.entry(run).or_insert(ended) &= ended;
    }
    let mut faults = Vec::new();
    for ((task, stage, attempt), runs) in runs(night) {
        for (run, how) in &runs[..runs.len() - 1] {
            match (how.as_deref(), killed.get(run)) {
                // By the plan, or the agent was ended with its supervisor.
                (Some("fail" | "limit"), _) | (None, Some(_)) | (Some("end"), Some(false)) => {}
                (how, kill) => faults.push(format!(
                    "{task} {stage} attempt {attempt}: run {run} ended as {how:?}, killed after its recorded end: {kill:?}, was played again: {runs:?}"
                )),
            }
        }
    }
    faults
}

/// Alerts by kind and title, and how often each was written.
fn alerts(night: &Night) -> BTreeMap<(String, String), usize> {
    let rows = night.world.table("outbox").with("sink", "alert");
    let mut all = BTreeMap::new();
    for n in 0..rows.len() {
        let about = [rows.text(n, "payload/key"), rows.text(n, "payload/title")].into_iter().find(|t| !t.is_empty());
        *all.entry((rows.text(n, "payload/kind"), about.unwrap_or_default())).or_insert(0) += 1;
    }
    all
}

/// Causes that were reported to people more than once.
fn alert_faults(night: &Night, outages: &[Outage]) -> Vec<String> {
    let mut faults = Vec::new();
    let away = |parts: &[Part]| outages.iter().filter(|o| parts.contains(&o.part)).count();
    let host = |url: String| url.replace("http://", "");
    let (board, forge) = (host(night.board.url()), host(night.forge.url()));
    for ((kind, about), n) in alerts(night) {
        let most = match kind.as_str() {
            "service_down" | "service_back" if about == board => away(&[Part::Board]),
            "service_down" | "service_back" if about == forge => away(&[Part::Forge, Part::Host]),
            "service_down" | "service_back" if about.contains("ORCH") => away(&[Part::Host]),
            "service_down" | "service_back" if about.contains("AA") => away(&[Part::Remote]),
            // One per wait and block, whose number the journal has; see the texts below.
            "approval_wanted" | "confirm_deploy_wanted" | "blocked" => usize::MAX,
            _ => 2,
        };
        if n > most {
            faults.push(format!("{n} alerts {kind} of {about}"));
        }
    }
    let mut texts: BTreeMap<String, usize> = BTreeMap::new();
    for message in night.chat.take().iter().filter(|m| !m.silent) {
        *texts.entry(message.text.clone()).or_insert(0) += 1;
    }
    faults.extend(texts.into_iter().filter(|(_, n)| *n > 1).map(|(text, n)| format!("told {n} times: {text}")));
    faults
}

/// What is left of a night but its record.
fn left(night: &Night, tasks: &[Row]) -> Vec<String> {
    let mut faults: Vec<String> = night.world.lines("violations.log");
    let table = |name: &str| night.world.table(name);
    for (what, n) in [
        ("open jobs", table("jobs").among("status", &["queued", "running"]).len()),
        ("open runs", table("runs").without("state", "settled").len()),
        ("leases", table("leases").set("task_id").len()),
        ("messages", table("outbox").among("state", &["open", "parked"]).len()),
        ("actions without an outcome", table("journal").with("outcome", "").len()),
        ("freezes", table("freezes").len()),
        ("watches", table("tasks").with("watch", "armed").len()),
    ] {
        if n > 0 {
            faults.push(format!("{n} {what}"));
        }
    }
    let begun = Instant::now();
    while !night.world.alive().is_empty() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    faults.extend(night.world.alive().iter().map(|pid| format!("process {pid} is left")));
    for project in ["AA", "ORCH"] {
        let kept: BTreeSet<&str> =
            tasks.iter().filter(|t| t.blocked.is_some()).filter_map(|t| t.branch.as_deref()).collect();
        let there = night.world.branches(project);
        faults.extend(
            there.iter().filter(|b| *b != "main" && !kept.contains(b.as_str())).map(|b| format!("branch {b} is left")),
        );
    }
    for task in tasks.iter().filter(|t| t.key.starts_with("ORCH-")) {
        let number = task.key.trim_start_matches("ORCH-").split('~').next().unwrap().parse().unwrap();
        let shown = night.board.state(number);
        if shown.to_lowercase() != task.stage && task.blocked.is_none() {
            faults.push(format!("{} is {} and the board shows {shown}", task.key, task.stage));
        }
    }
    for entry in std::fs::read_dir(night.world.path("state/runs")).unwrap().flatten() {
        let log = std::fs::read_to_string(entry.path().join("supervisor.log")).unwrap_or_default();
        if log.contains("panicked") {
            faults.push(format!("{}: {log}", entry.path().display()));
        }
    }
    if let Some(out) = night.orch(&["audit", "verify"]).filter(|o| !o.status.success()) {
        faults.push(crate::support::crash::said(&out));
    }
    faults
}

/// What happened, for a person.
fn print_summary(night: &Night, seed: u64, each: usize, people: &People) {
    let killed = night.killed.lock().unwrap().clone();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    killed.iter().for_each(|k| *kinds.entry(k.what.clone()).or_insert(0) += 1);
    let all = runs(night);
    let total: usize = all.values().map(Vec::len).sum();
    let more: usize = all.values().map(|r| r.len() - 1).sum();
    println!(
        "night: seed {seed}, {each} tasks in each of two repositories, {:.0} s of trouble, quiet after {:.0} s",
        night.length.as_secs_f64(),
        night.begun.elapsed().as_secs_f64()
    );
    println!(
        "night: disk {}",
        if night.mounted() { "really full" } else { "NOT TESTED: no tmpfs can be mounted here" }
    );
    println!("night: killed {} processes: {kinds:?}", killed.len());
    println!("night: {total} runs of agents, {more} of them second ones of a stage's attempt");
    println!("night: steps by exit code {:?}", night.codes());
    println!(
        "night: answers given more than once {:?}",
        people.answers.iter().filter(|(_, n)| **n > 1).collect::<Vec<_>>()
    );
    println!("night: retried by a person {:?}", people.retries);
    println!("night: alerts {:?}", alerts(night));
    for task in night.world.tasks() {
        println!("night: {} {} attempt {} {}", task.key, task.stage, task.attempt, task.blocked.unwrap_or_default());
    }
    for note in night.notes.lock().unwrap().iter() {
        println!("night: {:7.1} s {}", note.at, note.text);
    }
}
