//! What an unconfined agent may do with `orch` itself (BND-6): read. And who acted is recorded.

use super::support::attacks::{self, Held};
use super::support::confined::Place;
use super::support::house::{House, Plan};
use serde_json::json;

/// Ways in which an agent may start a program so that nothing of its run seems to be left.
const WAYS: [(&str, &str); 6] = [
    ("directly", "\"$O\" \"$@\" --config \"$C\" --json >> \"$D/said\" 2>&1; echo \"$w $1 $?\" >> \"$D/codes\""),
    ("setsid", "setsid -w \"$O\" \"$@\" --config \"$C\" --json >> \"$D/said\" 2>&1; echo \"$w $1 $?\" >> \"$D/codes\""),
    (
        "empty-environment",
        "env -i \"$O\" \"$@\" --config \"$C\" --json >> \"$D/said\" 2>&1; echo \"$w $1 $?\" >> \"$D/codes\"",
    ),
    (
        "forged-mark",
        "ORCH_RUN=0-0 \"$O\" \"$@\" --config \"$C\" --json >> \"$D/said\" 2>&1; echo \"$w $1 $?\" >> \"$D/codes\"",
    ),
    (
        "daemon",
        "(env -i setsid sh -c 'O=$0; D=$1; C=$2; w=$3; shift 3; (sleep 0.2; \"$O\" \"$@\" --config \"$C\" --json >> \"$D/said\" 2>&1; echo \"$w $1 $?\" >> \"$D/codes\") &' \"$O\" \"$D\" \"$C\" \"$w\" \"$@\"); sleep 0.6",
    ),
    (
        "renamed",
        "cp \"$O\" ./innocent; env -i setsid -w ./innocent \"$@\" --config \"$C\" --json >> \"$D/said\" 2>&1; echo \"$w $1 $?\" >> \"$D/codes\"; rm -f innocent",
    ),
];

#[test]
fn an_agent_changes_nothing_by_calling_orch_whatever_it_does_to_seem_outside() {
    let mut plan = Plan::with_analysis();
    let house = House::new(&plan);
    let mut attack = format!(
        "if [ \"$ORCH_STAGE\" = development ]; then\nO='{}'; D='{}'; C='{}'\n",
        Place::program().display(),
        house.root().display(),
        house.path("orch.yaml").display()
    );
    for (way, command) in WAYS {
        attack.push_str(&format!("w={way}\ntry() {{ {command}; }}\n"));
        let orders: &[&str] = match way {
            "directly" => &[
                "advance ORCH-2 --approve",
                "advance ORCH-2 --reject no",
                "advance",
                "stop ORCH-1",
                "stop ORCH-2",
                "retry ORCH-1",
                "halt",
                "resume",
                "freeze demo --reason x",
                "unfreeze demo",
                "lease break demo --why x",
                "new another",
                "tick",
                "reap",
                "reconcile",
                "prune",
                "post-deploy-probe ORCH-1",
                "staging-check",
                "security-scan ORCH-1",
            ],
            _ => &["advance ORCH-2 --approve", "stop ORCH-2"],
        };
        for order in orders {
            attack.push_str(&format!("try {order}\n"));
        }
    }
    attack.push_str(
        "w=reads\n\"$O\" status --config \"$C\" --json > /dev/null 2>&1; echo \"$w status $?\" >> \"$D/codes\"\n",
    );
    attack.push_str("\"$O\" lease show --config \"$C\" > /dev/null 2>&1; echo \"$w lease $?\" >> \"$D/codes\"\nfi\n");
    plan.agent = plan.agent.replacen("set -e\n", &format!("{attack}set -e\n"), 1);
    house.script("agent.sh", &plan.agent);
    let (first, second) = (house.item("First"), house.item("Second"));
    let waits = |key: &str| house.until_task_after_ticks(key, |t| t.waiting_for.is_some());
    waits(first.as_str());
    house.orch(&["advance", first.as_str(), "--approve"]).fine();
    house.until_task(first.as_str(), "is developed", |t| t.waiting_for.is_some() && t.stage.as_str() == "deploy");
    let codes = std::fs::read_to_string(house.path("codes")).unwrap();
    let said = std::fs::read_to_string(house.path("said")).unwrap();
    let changing = codes.lines().filter(|l| !l.starts_with("reads "));
    let passed: Vec<&str> = changing.clone().filter(|l| !l.ends_with(" 4")).collect();
    assert!(passed.is_empty() && changing.count() == 19 + 5 * 2, "{codes}\n{said}");
    assert!(said.contains("from inside run"), "{said}");
    assert!(codes.contains("reads status 0") && codes.contains("reads lease 0"), "{codes}");
    for (way, _) in WAYS {
        attacks::seen("commands for people only", &format!("call orch from inside a run: {way}"), Held::Any, false);
    }
    assert!(house.events("halted").is_empty() && house.events("stop_requested").is_empty());
    // The same from outside is a person's, and recorded as such.
    let by = &house.events("released")[0]["by"];
    assert_eq!(house.events("released").len(), 1, "{second}");
    assert_eq!(by["via"], "command");
    assert_eq!(by["uid"], json!(rustix::process::getuid().as_raw()));
    assert!(by["host"].is_string() && by["parent"].is_string() && by["tty"].is_null(), "{by}");
}

#[test]
fn each_act_of_a_person_names_who_acted_and_how() {
    let house = House::new(&Plan::with_analysis());
    let key = house.item("Work");
    house.until_task_after_ticks(key.as_str(), |t| t.waiting_for.is_some());
    house.orch(&["halt", "--reason", "x"]).fine();
    house.orch(&["resume"]).fine();
    house.orch(&["freeze", "demo", "--reason", "x"]).fine();
    house.orch(&["unfreeze", "demo"]).fine();
    house.orch(&["stop", key.as_str()]).fine();
    for event in ["halted", "resumed", "repo_frozen", "repo_unfrozen", "stop_requested"] {
        assert_eq!(house.events(event)[0]["by"]["via"], "command", "{event}");
    }
    let file = house.path(&format!("state/issues/{key}.md"));
    let text = std::fs::read_to_string(&file).unwrap();
    let status = text.lines().find(|l| l.starts_with("status:")).unwrap();
    std::fs::write(&file, text.replace(status, "status: Backlog")).unwrap();
    house.tick();
    std::fs::write(&file, text.replace(status, "status: To Analyse")).unwrap();
    house.tick();
    let made = house.events("task_created");
    let owner = orch::adapters::accounts::name(rustix::process::getuid().as_raw());
    assert_eq!(made.last().unwrap()["by"], json!({"via": "board", "user": owner}), "{made:?}");
}
