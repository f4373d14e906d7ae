//! The cost of a step, counted and not timed (`docs/spec/speed.md`), so that a noisy machine changes nothing.

use crate::support::house::{House, Plan};
use crate::support::tools::tool;
use std::ffi::OsStr;

/// A git that logs each of its calls, and an agent that logs each start.
fn counted() -> House {
    let mut plan = Plan::short();
    plan.project[0] = "stages: [architecture, development, review, testing, deploy]".to_owned();
    plan.project.push("deploy: {confirm: false}".to_owned());
    let mut house = House::new(&plan);
    let real = which::which("git").unwrap();
    let log = house.path("calls");
    let agent = format!("set -e\necho \"agent $ORCH_STAGE\" >> '{}'\n", log.display());
    house.script("agent.sh", &plan.agent.replace("set -e\n", &agent));
    std::fs::create_dir(house.path("bin")).unwrap();
    let wrapper = format!("#!/bin/sh\necho \"git $*\" >> '{}'\nexec '{}' \"$@\"\n", log.display(), real.display());
    house.script("bin/git", &wrapper);
    let path = std::env::var("PATH").unwrap();
    house.env.push(("PATH".to_owned(), format!("{}:{path}", house.path("bin").display())));
    house
}

fn calls(house: &House) -> Vec<String> {
    std::fs::read_to_string(house.path("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn a_hand_off_takes_seven_git_processes_and_an_idle_tick_none() {
    let house = counted();
    let key = house.item("measure").to_string();
    house.tick().fine();
    house.until_task(&key, "its end", |t| t.stage.is_terminal());
    let all = calls(&house);
    let at = |stage: &str| all.iter().position(|l| *l == format!("agent {stage}")).unwrap();
    for (from, to) in [("architecture", "development"), ("review", "testing")] {
        let between: Vec<&String> = all[at(from)..at(to)].iter().filter(|l| l.starts_with("git ")).collect();
        // The remote's answer is valid for a second: only a slower machine may ask again.
        let asked = between.iter().filter(|l| l.contains(" ls-remote ")).count();
        let counted = between.len() - asked.saturating_sub(1);
        assert!(counted <= 7, "{from} to {to}: {counted}\n{between:#?}");
        assert!(counted > 5 && asked > 0, "the wrapper counts: {between:#?}");
    }
    house.until("the last supervisor's end", || house.is_quiet().then_some(()));
    house.tick().fine();
    let before = calls(&house).len();
    house.tick().fine();
    assert_eq!(calls(&house).len(), before, "an idle tick asks git nothing");
}

/// The system calls of one tick, as strace prints them; `None` without strace.
fn traced(house: &House) -> Option<Vec<String>> {
    let strace = tool("strace")?;
    let log = house.path("trace");
    let words: [&OsStr; 5] = [strace.as_os_str(), "-f".as_ref(), "-qq".as_ref(), "-o".as_ref(), log.as_os_str()];
    house.under(&words, &["tick"]).fine();
    let text = std::fs::read(&log).unwrap();
    let lines = String::from_utf8_lossy(&text).into_owned();
    // Each line begins with the number of its process.
    Some(lines.lines().filter_map(|l| l.split_once(' ')).map(|(_, call)| call.trim_start().to_owned()).collect())
}

/// The calls of these names.
fn named<'c>(calls: &'c [String], names: &[&str]) -> Vec<&'c String> {
    calls.iter().filter(|c| names.iter().any(|n| c.strip_prefix(n).is_some_and(|rest| rest.starts_with('(')))).collect()
}

fn items_opened(calls: &[String]) -> Vec<&String> {
    named(calls, &["openat", "open"]).into_iter().filter(|c| c.contains(".md\"")).collect()
}

/// A house with work items that need nothing, scanned until none of their files is opened any more.
fn with_items() -> Option<(House, Vec<String>)> {
    let house = House::new(&Plan::short());
    let folder = house.path("state/issues");
    house.tick().fine();
    std::fs::create_dir_all(&folder).unwrap();
    for n in 1..=12 {
        std::fs::write(folder.join(format!("ORCH-{n}.md")), item(n, "Backlog")).unwrap();
    }
    house.tick().fine();
    assert_eq!(house.table("items").len(), 12);
    tool("strace")?;
    // A file just written may change again within the same grain of the clock, and is read again.
    let calls = house.until("a tick that opens no work item", || traced(&house).filter(|c| items_opened(c).is_empty()));
    Some((house, calls))
}

fn item(n: usize, status: &str) -> String {
    format!(
        "---\nkey: ORCH-{n}\ntitle: a draft\nstatus: {status}\nlabels: []\npriority: none\nblocked_by: []\n---\n\ntext\n"
    )
}

#[test]
fn an_idle_tick_starts_asks_and_writes_nothing_and_opens_little() {
    let Some((house, calls)) = with_items() else { return };
    assert_eq!(named(&calls, &["execve"]).len(), 1, "no process but itself");
    let other =
        ["fork", "vfork", "connect", "fsync", "fdatasync", "rename", "renameat", "renameat2", "mkdir", "mkdirat"];
    assert!(named(&calls, &other).is_empty(), "{:#?}", named(&calls, &other));
    let opened = named(&calls, &["openat", "open"]);
    // The number of its ancestors varies.
    let opened: Vec<_> = opened.into_iter().filter(|c| !c.contains("\"/proc/") && !c.contains("\"/sys/")).collect();
    assert!(opened.len() <= 20, "{} opened: {opened:#?}", opened.len());
    let database = house.path("state/orch.db").to_string_lossy().into_owned();
    let written: Vec<_> = opened.iter().filter(|c| c.contains("O_WRONLY") || c.contains("O_RDWR")).collect();
    assert!(written.iter().all(|c| c.contains(&database)), "{written:#?}");
    // Its database accesses, in locks taken and released, and in pages read: 123 and 26 at rest, some more where another
    // process still has the database open.
    let (locks, pages) = (named(&calls, &["fcntl"]).len(), named(&calls, &["pread64"]).len());
    assert!(locks <= 140 && pages <= 34, "{locks} locks, {pages} pages");
}

#[test]
fn of_a_local_board_what_has_changed_is_opened_at_once_and_nothing_else() {
    let Some((house, _)) = with_items() else { return };
    // In place: the folder does not change.
    std::fs::write(house.path("state/issues/ORCH-7.md"), item(7, "Done")).unwrap();
    let calls = traced(&house).unwrap();
    let opened = items_opened(&calls);
    assert!(!opened.is_empty() && opened.iter().all(|c| c.contains("ORCH-7.md")), "{opened:#?}");
    assert_eq!(house.table("items").with("status_id", "done").texts("key"), ["ORCH-7"]);
    // A new one, and a deleted one.
    std::fs::write(house.path("state/issues/ORCH-13.md"), item(13, "Done")).unwrap();
    std::fs::remove_file(house.path("state/issues/ORCH-2.md")).unwrap();
    let calls = traced(&house).unwrap();
    let others = items_opened(&calls).into_iter().filter(|c| !c.contains("ORCH-7.md") && !c.contains("ORCH-13.md"));
    assert_eq!(others.count(), 0);
    assert_eq!(house.table("items").with("status_id", "done").texts("key"), ["ORCH-13", "ORCH-7"]);
    // A database without that knowledge reads everything.
    for file in ["orch.db", "sentinels/audit-tail.json"] {
        std::fs::remove_file(house.path("state").join(file)).unwrap();
    }
    house.tick().fine();
    assert_eq!(house.table("items").len(), 12);
}
