//! `orch show` and `orch diff` on the binary (ORD-5): what the person who decides reads.

use crate::support::house::{House, Plan};
use orch::model::task::Waiting;

/// An analyst whose brief would control a terminal, and a developer whose attributes would hide the diff from a reader.
fn plan() -> Plan {
    let mut plan = Plan::with_analysis();
    plan.agent = plan.agent.replace(
        "development)",
        r"development) printf '* -diff binary\n' > .gitattributes; printf 'plain \033[2J text\n' > new.txt;",
    );
    plan.agent = plan.agent.replace(r"\n\nText.\n'", r"\n\nGreet \342\200\256 people.\n'");
    plan.project("deploy: {confirm: true, command: ['true']}")
}

#[test]
fn ord_5_the_documents_and_the_change_are_shown_before_each_answer() {
    let house = House::new(&plan());
    let key = house.item("Greet people").to_string();
    let (code, _, err) = house.text(&["show", &key]);
    assert_eq!((code, err.contains("has no task")), (2, true), "{err}");
    house.tick().fine();
    house.until_task_after_ticks(&key, |t| t.waiting_for == Some(Waiting::Approval));

    let (code, page, _) = house.text(&["show", &key]);
    assert_eq!(code, 0);
    for part in [
        format!("{key}  Greet people  (analysis, waiting for approval of the analysis)"),
        "branch: ".to_owned(),
        "01-brief.md".to_owned(),
        "    > Greet <U+202E> people.".to_owned(),
        format!("approve: orch advance {key} --approve"),
    ] {
        assert!(page.contains(&part), "{part}\n{page}");
    }
    let json = house.orch(&["show", &key]).fine().json;
    assert_eq!(json["wait"], "approval");
    let names: Vec<&str> = json["documents"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["01-brief.md", "02-requirements.md", "03-acceptance-criteria.md", "04-test-plan.md"]);
    assert_eq!(json["documents"][0]["heading"], "01-brief");
    let (code, brief, _) = house.text(&["show", &key.to_lowercase(), "1"]);
    assert!(code == 0 && brief.starts_with("---\nwork_item: "), "{brief}");
    assert_eq!(house.orch(&["show", &key, "04-test-plan"]).fine().json["documents"].as_array().unwrap().len(), 1);
    let (code, _, err) = house.text(&["show", &key, "12"]);
    assert!(code == 2 && err.contains("its documents: 01-brief.md"), "{code} {err}");

    house.orch(&["advance", &key, "--approve"]).fine();
    house.until_task_after_ticks(&key, |t| t.waiting_for == Some(Waiting::ConfirmDeploy));
    let (_, page, _) = house.text(&["show", &key]);
    for part in ["files changed, +", "deploy command: true", &format!("read:    orch diff {key}")] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let shown_and_still_there = || {
        let (code, diff, _) = house.text(&["diff", &key]);
        // The branch declares everything binary: it is shown as text anyway, and can't control the terminal.
        assert!(code == 0 && diff.contains("+plain <U+001B>[2J text"), "{diff}");
        let (code, stat, _) = house.text(&["diff", &key, "--stat"]);
        assert!(code == 0 && stat.contains("new.txt") && !stat.contains("Bin"), "{stat}");
        let size = house.orch(&["diff", &key]).fine().json["diff"].clone();
        assert!(size["files"].as_u64().unwrap() >= 6 && size["insertions"].as_u64().unwrap() > 20, "{size}");
    };
    shown_and_still_there();
    house.orch(&["advance", &key, "--confirm-deploy"]).fine();
    house.until_task_after_ticks(&key, |t| t.stage.is_terminal());
    shown_and_still_there();
}
