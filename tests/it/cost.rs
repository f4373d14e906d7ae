//! What a step costs, counted and not timed (`docs/spec/speed.md`), so that a noisy machine changes nothing.

use crate::support::house::{House, Plan};

/// A git that writes a line for each of its calls, and an agent that writes one as it starts.
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
fn a_hand_off_takes_fifteen_git_processes_and_an_idle_tick_none() {
    let house = counted();
    let key = house.item("measure").to_string();
    house.tick().fine();
    house.until_task(&key, "its end", |t| t.stage.is_terminal());
    let all = calls(&house);
    let at = |stage: &str| all.iter().position(|l| *l == format!("agent {stage}")).unwrap();
    for (from, to) in [("architecture", "development"), ("review", "testing")] {
        let between: Vec<&String> = all[at(from)..at(to)].iter().filter(|l| l.starts_with("git ")).collect();
        // What the remote answers counts for a second: a machine that is slower than that asks again, and for nothing else.
        let asked = between.iter().filter(|l| l.contains(" ls-remote ")).count();
        let counted = between.len() - asked.saturating_sub(1);
        assert!(counted <= 14, "{from} to {to}: {counted}\n{between:#?}");
        assert!(counted > 5 && asked > 0, "the wrapper counts: {between:#?}");
    }
    house.until("the last supervisor's end", || {
        house.query("SELECT 1 FROM runs WHERE state != 'settled'").is_empty().then_some(())
    });
    house.tick().fine();
    let before = calls(&house).len();
    house.tick().fine();
    assert_eq!(calls(&house).len(), before, "an idle tick asks git nothing");
}
