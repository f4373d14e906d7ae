//! A whole task under each engine, with agents that attack (BND-2, BND-7): what they reach is written into the branch,
//! so that the test reads it from the remote. Each attack succeeds without confinement.

use super::support::attacks::{self, Held};
use super::support::pipe::{Pipe, Said, Setup};
use super::support::procs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Whether this machine has the engine; if not, a failure under `ORCH_TOOLS_REQUIRED`, else a loud message.
fn there(pipe: &Pipe, engine: &str) -> bool {
    let said = pipe.orch(&["doctor", "--json"]);
    let checks = said.json()["checks"].clone();
    let held = checks.as_array().unwrap().iter().any(|c| {
        c["name"] == "confinement"
            && c["level"] != "failed"
            && c["message"].as_str().is_some_and(|w| w.contains(engine))
    });
    assert!(held || std::env::var_os("ORCH_TOOLS_REQUIRED").is_none(), "{engine} is not here: {}", said.all());
    if !held {
        eprintln!("\n*** NOT TESTED: {engine} is not here ***\n");
    }
    held
}

/// What every process of the second row tries; each success is a line of `$1`.
const ATTACKS: &str = r##"
try() { if "$@" >/dev/null 2>&1; then echo "reached: $*" >> "$out"; fi; }
attack() {
  out=$1
  try ls HERE/state
  try cat HERE/state/orch.db
  try grep state_dir HERE/orch.yaml
  try cat HERE/key
  try touch HERE/state/planted
  try sh -c 'echo "# planted" >> HERE/orch.yaml'
  try ls HERE/state-area/demo/ORCH-9-other
  try cat HERE/state-area/demo/ORCH-9-other/agent/checkout/secret
  try touch HERE/planted
  try kill -0 VICTIM
  try cat /proc/VICTIM/environ
}
"##;

struct World {
    pipe: Pipe,
    victim: std::process::Child,
}

impl World {
    /// What a run leaves behind, recognisable among all others.
    fn daemon(&self) -> String {
        format!("600.{}", self.victim.id())
    }

    fn outlives(&self) -> bool {
        let daemon = self.daemon();
        procs::pids().any(|pid| procs::says(pid, &daemon))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

fn world(confine: &str) -> World {
    let victim = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let pipe = Pipe::new(Setup {
        project: "stages: [analysis, development, review, deploy]\nworktree: {setup: {command: [./setup.sh]}}\nboard: {kind: local}"
            .into(),
        ..Setup::default()
    });
    let here = pipe.dir.path().to_str().unwrap().to_owned();
    let attacks = ATTACKS.replace("HERE", &here).replace("VICTIM", &victim.id().to_string());
    let text = pipe.read("orch.yaml").replace("confine: {mode: off}", &confine.replace("HERE", &here));
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    // Landlock's account needs ordinary rights to reach the area.
    mode(pipe.dir.path(), 0o711);
    std::fs::write(pipe.at("key"), "hidden").unwrap();
    mode(&pipe.at("key"), 0o600);
    mode(&pipe.at("prompts"), 0o777);
    let other = pipe.at("state-area/demo/ORCH-9-other/agent/checkout");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("secret"), "another task's").unwrap();
    for dir in other.ancestors().take_while(|d| *d != pipe.dir.path()) {
        mode(dir, if dir == other { 0o700 } else { 0o711 });
    }
    pipe.put_person(
        "setup.sh",
        &format!("#!/bin/sh\n{attacks}\nattack setup-reached.log\nid -u > setup-uid.log\nexit 0\n"),
    );
    pipe.put_person("ci.sh", &format!("#!/bin/sh\n{attacks}\nattack all.log\n# What was planted is in the run's own throw-away /tmp; it is judged from outside.\ngrep -v planted all.log > reached.log 2>/dev/null\ncat reached.log 2>/dev/null\ntest ! -s reached.log || test -n \"$(cat allowed 2>/dev/null)\"\n"));
    pipe.commit("Attack from setup and CI");
    pipe.agent(
        "development",
        &format!(
            "{attacks}\nattack reached.txt\ncat setup-reached.log >> reached.txt 2>/dev/null || true\nid -u > uid.txt\necho \"$HOME\" > home.txt\necho \"$ORCH_TASK round $ORCH_ATTEMPT\" >> \"$ORCH_TASK.txt\"\nchmod -R go-rwx .\nmkdir -p \"$TMPDIR/locked\"; chmod 000 \"$TMPDIR/locked\"\nMORE\n"
        ),
    );
    let w = World { pipe, victim };
    // Without a mark, a terminal and a parent.
    let daemon = format!("\nenv -i setsid -f sleep {} < /dev/null > /dev/null 2>&1\n", w.daemon());
    for file in ["do/development", "person/ci.sh"] {
        let text = w.pipe.read(file);
        let (first, rest) = text.split_once('\n').unwrap();
        std::fs::write(w.pipe.at(file), format!("{first}{daemon}{rest}")).unwrap();
    }
    w.pipe.commit("Leave something behind");
    w
}

fn records(held: Held, done: bool) {
    for attack in ATTACKS.lines().filter_map(|l| l.strip_prefix("  try ")) {
        attacks::seen("from a task's agent, setup and CI", attack, held, done);
    }
    attacks::seen(
        "from a task's agent, setup and CI",
        "outlive the run, with a cleared environment and no parent",
        held,
        false,
    );
}

fn released(pipe: &Pipe, key: &str) {
    pipe.until("the approval is wanted", |p| p.of(key, "waiting_for") == "approval");
    let said: Said = pipe.orch(&["advance", key, "--approve"]);
    assert_eq!(said.code, 0, "{}", said.all());
}

fn delivers_and_reaches_nothing(engine: &str, more: &str) {
    let w = world(&format!("confine: {{engine: {engine}, read: [HERE/do], write: [HERE/prompts]{more}}}"));
    let pipe = &w.pipe;
    pipe.agent("development", &pipe.read("do/development").replace("MORE", ""));
    if !there(pipe, engine) {
        return;
    }
    let key = pipe.item("Deliver all the same");
    released(pipe, &key);
    pipe.until_stage(&key, "done");
    let file = |name: &str| pipe.remote(&["show", &format!("main:{name}")]);
    assert!(file(&format!("{key}.txt")).contains("round 1"), "{}", pipe.story());
    let names = pipe.remote(&["ls-tree", "-r", "--name-only", "main"]);
    let reached = if names.contains("reached.txt") { file("reached.txt") } else { String::new() };
    // Whether anything planted is outside the run's own places is judged below, from outside.
    let reached: Vec<&str> = reached.lines().filter(|l| !l.contains("planted")).collect();
    assert!(reached.is_empty(), "{reached:?}\n{}", pipe.story());
    if rustix::process::geteuid().is_root() {
        assert!(file("uid.txt").trim().parse::<u64>().unwrap() >= 2_000_000_000, "{}", file("uid.txt"));
    }
    assert!(file("home.txt").contains("state-area/demo"), "{}", file("home.txt"));
    assert!(!pipe.at("state/planted").exists() && !pipe.at("planted").exists());
    assert!(!w.outlives(), "something outlived its run");
    records(if engine == "landlock" { Held::Landlock } else { Held::Bubblewrap }, false);
    assert!(!pipe.read("orch.yaml").contains("planted"));
    let prepared = pipe.events("run_prepared");
    assert!(
        !prepared.is_empty() && prepared.iter().all(|p| p.contains(&format!("\"confined\":\"{engine}\""))),
        "{prepared:?}"
    );
    let status = pipe.orch(&["status", "--json"]).json();
    assert_eq!(status["confinement"][0]["held"], engine, "{status}");
    assert_eq!(status["tasks"][0]["unconfined"], false);
    // Folders without permissions are no obstacle.
    let said = pipe.orch(&["prune", "--older-than", "0"]);
    assert_eq!(said.code, 0, "{}", said.all());
}

#[test]
fn bnd_2_a_task_under_bubblewrap_is_delivered_and_reaches_nothing() {
    delivers_and_reaches_nothing("bubblewrap", "");
}

#[test]
fn bnd_2_a_task_under_landlock_is_delivered_and_reaches_nothing() {
    delivers_and_reaches_nothing("landlock", "");
}

#[test]
fn bnd_7_unconfined_every_one_of_these_attacks_succeeds_and_it_is_said_everywhere() {
    let w = world("confine: {mode: off}");
    let pipe = &w.pipe;
    pipe.agent("development", &pipe.read("do/development").replace("MORE", "echo yes > allowed"));
    let key = pipe.item("Reach everything");
    released(pipe, &key);
    let status = pipe.orch(&["status", "--json"]).json();
    assert_eq!(
        (&status["confinement"][0]["held"], &status["tasks"][0]["unconfined"]),
        (&"unconfined".into(), &true.into())
    );
    assert!(pipe.orch(&["status"]).out.contains("unconfined in ORCH"), "{}", pipe.orch(&["status"]).out);
    assert!(pipe.orch(&["status", &key]).out.contains("Unconfined"), "the card");
    pipe.until_stage(&key, "done");
    let reached = pipe.remote(&["show", "main:reached.txt"]);
    let tried = ATTACKS.lines().filter(|l| l.starts_with("  try ")).count();
    let of_agent = reached.lines().filter(|l| l.starts_with("reached: ")).count();
    assert_eq!(of_agent, 2 * tried, "agent and setup, each attack:\n{reached}");
    assert!(!w.outlives(), "something outlived its run");
    records(Held::Off, true);
    assert!(pipe.events("run_prepared").iter().all(|p| p.contains("\"confined\":\"unconfined\"")));
}

/// An engine that answers its probe but fails at each run: the machine is at fault, and the report quotes the engine.
/// Retries wait longer each time; nothing runs with less, and no attempt is spent.
#[test]
fn bnd_2_an_engine_that_only_its_probe_passes_holds_the_task_and_spends_nothing() {
    let Ok(real) = which::which("bwrap") else {
        assert!(std::env::var_os("ORCH_TOOLS_REQUIRED").is_none(), "bubblewrap is not here");
        return;
    };
    let bin = tempfile::tempdir().unwrap();
    let fake = bin.path().join("bwrap");
    let put = |rest: &str| {
        let exec = format!("exec {} \"$@\"", real.display());
        std::fs::write(
            &fake,
            format!("#!/bin/sh\n[ \"$ORCH_RUN\" != probe ] || {exec}\n{rest}\n").replace("EXEC", &exec),
        )
        .unwrap();
        std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    put("echo 'the engine is out of order' >&2; exit 1");
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let pipe = Pipe::new(Setup { path: Some(path.into()), ..Setup::default() });
    let here = pipe.dir.path().to_str().unwrap().to_owned();
    let confine = format!("confine: {{engine: bubblewrap, read: [{here}/do], write: [{here}/prompts]}}");
    let text = pipe.read("orch.yaml").replace("confine: {mode: off}", &confine);
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    std::fs::set_permissions(pipe.at("prompts"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let key = pipe.item("Wait for the engine");
    let runs = |p: &Pipe| p.table("runs").set("ended_at").len();
    pipe.until("the first run", |p| runs(p) >= 1);
    // It retries on its own, not at once, and later each time.
    let waits = |p: &Pipe| {
        let number = |text: String| text.parse::<i64>().unwrap();
        let ended = p.table("runs").set("ended_at").texts("ended_at").into_iter().map(number).max().unwrap();
        number(p.table("jobs").with("status", "queued").one("available_at")) - ended
    };
    let mut seen = Vec::new();
    for n in 2..=4 {
        pipe.until("it is put back", |p| !p.table("jobs").with("status", "queued").is_empty());
        seen.push(waits(&pipe));
        pipe.hurry();
        pipe.until("the next run", |p| runs(p) >= n);
    }
    assert!(seen[0] > 1000 && seen.windows(2).all(|w| w[0] < w[1]), "{seen:?}");
    let held = pipe.orch(&["explain", &key, "--json"]).json()["held_by"].clone();
    assert_eq!(held["rule"], "environment", "{held}");
    assert!(held["why"].as_str().unwrap().contains("the engine is out of order"), "{held}");
    assert_eq!((pipe.of(&key, "attempt"), pipe.of(&key, "blocked_reason")), ("1".into(), String::new()));
    assert_eq!(pipe.table("jobs").with("spent", 1).texts("id"), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(pipe.at("prompts")).unwrap().count(), 0, "the agent ran");
    put("EXEC");
    assert_eq!(pipe.orch(&["retry", &key]).code, 0);
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.of(&key, "attempt"), "1");
}

#[test]
fn bnd_2_without_an_engine_nothing_starts_nothing_is_spent_and_one_alert_says_why() {
    let bare = tempfile::tempdir().unwrap();
    for program in ["git", "sh"] {
        std::os::unix::fs::symlink(which::which(program).unwrap(), bare.path().join(program)).unwrap();
    }
    let mut pipe = Pipe::new(Setup { path: Some(bare.path().to_owned()), ..Setup::default() });
    let text = pipe.read("orch.yaml");
    let demand = |how: &str| std::fs::write(pipe.at("orch.yaml"), text.replace("confine: {mode: off}", how)).unwrap();
    demand("confine: {engine: bubblewrap}");
    let key = pipe.item("Wait for an engine");
    for _ in 0..3 {
        let said = pipe.orch(&["tick", "--json"]);
        let held = said.json()["skipped"].clone();
        assert!(held.as_array().unwrap().iter().any(|h| h["rule"] == "confinement"), "{}", said.all());
    }
    assert_eq!(pipe.table("runs").len().to_string(), "0");
    assert_eq!((pipe.of(&key, "stage"), pipe.of(&key, "attempt")), ("created".into(), "1".into()));
    assert_eq!(pipe.alerts(), ["confinement"], "one for the machine");
    let explained = pipe.orch(&["explain", &key]);
    assert!(explained.out.contains("confinement") && explained.out.contains("bubblewrap"), "{}", explained.all());
    let status = pipe.orch(&["status"]);
    assert!(status.out.contains("NOT STARTED in ORCH") && status.out.contains("install"), "{}", status.out);
    let doctor = pipe.orch(&["doctor"]);
    assert!(doctor.code != 0 && doctor.out.contains("bubblewrap is not installed"), "{}", doctor.all());
    // The fix: the task continues as if nothing had happened.
    demand("confine: {mode: off}");
    pipe.env.push(("PATH".into(), std::env::var("PATH").unwrap()));
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.of(&key, "attempt"), "1");
}
