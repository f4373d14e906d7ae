//! What a person sees and is asked (BRD-5, RULE-14, RULE-44): by which label, with which status, and which entries of a
//! board's folder were skipped.

use crate::support::house::{House, Plan};

fn house(board: &str, top: &[&str]) -> House {
    let plan = Plan::with_analysis().project(format!("board: {{kind: local{board}}}"));
    House::new(&top.iter().fold(plan, |plan, line| plan.top(*line)))
}

fn parked(house: &House) {
    house.item("Greet");
    house.until("the question", || {
        house.tick();
        house.task("ORCH-1").filter(|t| t.waiting_for.is_some())
    });
    house.until("all is told", || {
        house.tick();
        house.table("outbox").with("state", "open").is_empty().then_some(())
    });
}

fn card(house: &House) -> String {
    std::fs::read_to_string(house.path("state/cards/ORCH-1.txt")).unwrap()
}

#[test]
fn a_label_that_answers_is_named_with_what_follows_in_comment_card_alert_and_timeline() {
    let house = house("", &["auto_label: {enabled: true, repos: '*', approve_label: go-on, deploy_label: ship-it}"]);
    let made = house.orch(&["new", "Greet", "--label", "go-on", "--label", "ship-it"]).fine();
    assert_eq!(made.json["key"], "ORCH-1");
    house.until("done", || {
        house.tick();
        house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
    house.until("all is told", || {
        house.tick();
        house.table("outbox").with("state", "open").is_empty().then_some(())
    });
    let item = std::fs::read_to_string(house.path("state/issues/ORCH-1.md")).unwrap();
    let (_, timeline, _) = house.text(&["timeline", "ORCH-1"]);
    let alerts = house.table("outbox").with("sink", "alert").texts("payload").join("\n");
    for (label, consequence) in [("go-on", "approved"), ("ship-it", "the deploy begins")] {
        for (place, text) in [("comment", &item), ("card", &card(&house)), ("timeline", &timeline), ("alert", &alerts)]
        {
            let said = text.lines().any(|l| l.contains(label) && l.contains(consequence));
            assert!(said, "{place} names {label} and that {consequence}:\n{text}");
        }
    }
}

#[test]
fn a_question_asks_for_the_boards_own_status_and_for_none_where_it_has_none() {
    for (statuses, named) in [
        ("", Some("set Approved on the board")),
        (", statuses: {approved: Freigegeben}", Some("set Freigegeben on the board")),
        // One status for an intent and an indication: the intent is off (RULE-14).
        (", statuses: {approved: In Review}", None),
    ] {
        let house = house(statuses, &[]);
        parked(&house);
        let explained = house.orch(&["explain", "ORCH-1"]).json;
        let moves = explained["moves"].to_string();
        let why = explained["held_by"]["why"].as_str().unwrap().to_owned();
        assert!(moves.contains("orch advance ORCH-1 --approve"), "{moves}");
        assert!(card(&house).contains("orch advance ORCH-1 --approve"), "{}", card(&house));
        assert!(!why.contains("on the board"), "{why}");
        match named {
            Some(text) => {
                assert!(card(&house).contains(text), "{}", card(&house));
                let status = text.trim_start_matches("set ");
                assert!(moves.contains(status), "{moves}");
            }
            None => {
                assert!(!card(&house).contains("on the board,"), "{}", card(&house));
                assert!(!moves.contains("on the board"), "{moves}");
            }
        }
    }
}

#[test]
fn an_unknown_status_is_named_with_the_nearest_and_steers_nothing() {
    let house = house("", &[]);
    parked(&house);
    let file = house.path("state/issues/ORCH-1.md");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("status: In Review", "status: Aproved")).unwrap();
    let ran = house.tick();
    assert_eq!(ran.code, 0, "{}", ran.json);
    let notices = ran.json["notices"].to_string();
    assert!(notices.contains("ORCH-1") && notices.contains("aproved") && notices.contains("Approved"), "{notices}");
    let note = house.orch(&["explain", "ORCH-1"]).json["item"]["note"].as_str().unwrap().to_owned();
    assert!(note.contains("aproved") && note.contains("did you mean \"Approved\"?"), "{note}");
    let (_, chart, _) = house.text(&["doctor"]);
    assert!(chart.contains("aproved"), "{chart}");
    assert!(house.task("ORCH-1").unwrap().waiting_for.is_some());
}

#[test]
fn a_file_in_a_boards_folder_that_is_no_item_is_skipped_with_a_notice() {
    let house = house("", &[]);
    house.item("Greet");
    let dir = house.path("state/issues");
    std::fs::write(dir.join("README.md"), "# Our work items\n").unwrap();
    std::fs::write(dir.join("notes.txt"), "x").unwrap();
    std::fs::write(dir.join("orch-7.md"), "---\nstatus: To Analyse\n---\n").unwrap();
    std::fs::create_dir(dir.join("archive.md")).unwrap();
    std::os::unix::fs::symlink("README.md", dir.join("LINK.md")).unwrap();
    for step in ["tick", "reconcile", "tick"] {
        let ran = house.orch(&[step]);
        assert_eq!(ran.code, 0, "{step}: {}", ran.json);
        let notices = ran.json["notices"].to_string();
        for name in ["README.md", "orch-7.md", "archive.md", "LINK.md"] {
            assert!(notices.contains(name), "{step}: {notices}");
        }
        assert!(!notices.contains("notes.txt"), "{notices}");
    }
    assert!(house.task("ORCH-1").is_some());
    let (code, chart, _) = house.text(&["doctor"]);
    assert!(chart.contains("README.md is skipped"), "exit {code}: {chart}");
}

/// An entry in place of a work item that is not one holds that item alone, makes no step wait, and is no failure of the
/// board (RULE-44, RULE-40).
#[test]
fn rule_44_a_thing_in_an_items_place_that_is_no_file_of_one_is_reported_and_holds_nothing_else() {
    let house = house("", &[]);
    parked(&house);
    let dir = house.path("state/issues");
    let kept = std::fs::read(dir.join("ORCH-1.md")).unwrap();
    std::fs::create_dir(dir.join("ORCH-20.md")).unwrap();
    raw_fifo(&dir.join("ORCH-21.md"));
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("ORCH-22.md")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.join("ORCH-23.md")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("ORCH-24.md")).unwrap();
    std::fs::write(dir.join("ORCH-25.md"), [0xff, 0xfe, 0]).unwrap();
    std::fs::write(dir.join("ORCH-26.md"), "no front matter").unwrap();
    let names: Vec<String> = (20..=26).map(|n| format!("ORCH-{n}")).collect();
    let names_all = |ran: &crate::support::house::Ran, names: &[String]| {
        let errors = ran.json["errors"].as_array().cloned().unwrap_or_default();
        names.iter().all(|n| errors.iter().any(|e| e["task"] == n.as_str() && e["code"] == 0))
    };
    for step in ["tick", "reconcile", "tick"] {
        let ran = house.orch(&[step]);
        assert!(ran.code == 0 && names_all(&ran, &names), "{step}: {}", ran.json);
    }
    // Live work in the same place is neither gone nor read; an item that is gone is noticed as usual.
    std::fs::remove_file(dir.join("ORCH-1.md")).unwrap();
    raw_fifo(&dir.join("ORCH-1.md"));
    assert!(names_all(&house.orch(&["tick"]).fine(), &["ORCH-1".to_owned()]));
    assert_eq!(house.task("ORCH-1").unwrap().withdrawn, None);
    std::fs::remove_file(dir.join("ORCH-1.md")).unwrap();
    house.tick().fine();
    assert!(house.task("ORCH-1").unwrap().withdrawn.is_some(), "its file is gone");
    std::fs::write(dir.join("ORCH-1.md"), kept).unwrap();
    house.item("Another");
    house.tick().fine();
    assert_eq!(house.task("ORCH-1").unwrap().withdrawn, None);
    assert!(house.task("ORCH-27").is_some(), "a new item becomes a task");
    let (_, chart, _) = house.text(&["doctor"]);
    assert!(names.iter().all(|n| chart.contains(&format!("{n}.md"))), "{chart}");
}

fn raw_fifo(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// An unreadable message is parked; the messages behind it are sent.
#[test]
fn rule_44_a_broken_message_blocks_nothing_and_doctor_names_what_is_unreadable() {
    let house = house("", &[]);
    house.item("Greet");
    house.until("the task", || {
        house.tick();
        house.task("ORCH-1")
    });
    let frozen = r#"{"kind":"frozen","key":"","title":"demo","detail":"x"}"#;
    for (key, payload, at) in [("broken/1", "nonsense", "1"), ("behind/1", frozen, "2")] {
        let row = [("key", key), ("sink", "alert"), ("payload", payload), ("state", "open"), ("created_at", at)];
        house.db().insert("outbox", &row);
    }
    let chart = house.orch(&["doctor"]).json.to_string();
    assert!(chart.contains("of outbox") && chart.contains("can't be read"), "{chart}");
    house.until("the one behind it", || {
        house.tick();
        (house.table("outbox").with("key", "behind/1").texts("state") == ["sent"]).then_some(())
    });
    assert_eq!(house.table("outbox").with("key", "broken/1").texts("state"), ["parked"]);
    let ran = house.tick();
    assert_eq!(ran.code, 0, "it is told once, and then stands in status: {}", ran.json);
}

#[test]
fn rule_37_doctor_says_that_the_directory_is_another_machines() {
    let house = house("", &[]);
    house.tick();
    std::fs::write(house.path("state/machine"), "0123456789abcdef0123456789abcdef\n").unwrap();
    assert_eq!(house.tick().code, 3);
    let ran = house.orch(&["doctor"]);
    let chart = ran.json.to_string();
    assert!(ran.code != 0 && chart.contains("belongs to the machine 0123456789abcdef"), "{chart}");
}
