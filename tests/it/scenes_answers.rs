//! People's answers are never lost (RULE-43), with a strict fake of Plane.

use crate::support::http::Fault;
use crate::support::plane::{PROJECT, WORKSPACE};
use crate::support::scene::{scene, scene_with};

fn writes() -> String {
    format!("PATCH /api/v1/workspaces/{WORKSPACE}/projects/{PROJECT}/work-items/")
}

#[test]
fn rule_43_a_question_whose_message_was_refused_and_superseded_is_answered_all_the_same() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    // The indication of the work and the question are refused once each; the next pass posts the indication again,
    // which supersedes the first message.
    s.board.fault(&writes(), Fault::status(500), 2);
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    for _ in 0..3 {
        s.house.reconcile();
    }
    s.deliver_all();
    assert_eq!(s.board.state(n), "In Review");
    s.board.set(n, "Approved");
    s.drive("ORCH-1", "goes on", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    assert!(s.house.events("intent_dismissed").is_empty(), "{:?}", s.house.events("intent_dismissed"));
    assert!(!s.house.events("asked").is_empty());
}

#[test]
fn rule_43_the_question_counts_whoever_put_it_on_the_item_and_an_early_answer_is_dismissed_once() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    s.board.fault(&writes(), Fault::status(500), 1000);
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    // Answered before anybody asked: `orch` can't write, so the board never asked.
    s.board.set(n, "Approved");
    s.house.reconcile();
    s.house.reconcile();
    let dismissed = s.house.events("intent_dismissed");
    assert_eq!(dismissed.len(), 1, "{dismissed:?}");
    assert!(dismissed[0]["why"].as_str().unwrap().contains("before the board asked"), "{dismissed:?}");
    // One person sets the question's status, another one answers.
    s.board.set(n, "In Review");
    s.house.reconcile();
    s.board.set(n, "Approved");
    s.drive("ORCH-1", "goes on", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    assert_eq!(s.house.events("intent_dismissed").len(), 1);
}

#[test]
fn rule_44_a_failed_label_list_silences_nothing_else_and_is_named() {
    let s = scene_with("", &["auto_label: {enabled: true, repos: '*'}"]);
    let labels = format!("GET /api/v1/workspaces/{WORKSPACE}/projects/{PROJECT}/labels/");
    s.board.fault(&labels, Fault::status(500), 1000);
    let n = s.board.item("Greet", "To Analyse");
    s.board.item("Another", "Backlog");
    let mut named = false;
    for _ in 0..200 {
        let ran = s.house.reconcile();
        named |= ran.json["errors"].to_string().contains("autoApprove");
        s.house.tick();
        if named && s.board.state(n) == "In Review" {
            break;
        }
    }
    assert!(named, "what failed is an error of the step");
    assert_eq!(s.board.state(n), "In Review", "the indication is set all the same");
}

#[test]
fn rule_44_an_undecodable_row_holds_its_own_task_and_names_it() {
    let s = scene();
    s.board.item("Broken", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.house.table("tasks").with("key", "ORCH-1").put("findings", "nonsense");
    s.board.item("Fine", "To Analyse");
    let ran = s.house.reconcile();
    assert_eq!(ran.code, 3, "{}", ran.json);
    assert!(s.house.task("ORCH-2").is_some(), "another item becomes a task: {}", ran.json);
    let ran = s.house.tick();
    let errors = ran.json["errors"].to_string();
    assert!(errors.contains("ORCH-1") && errors.contains("findings"), "{errors}");
    assert!(!errors.contains("can't be reached"), "{errors}");
    // A view that has to leave it out says so, and a view of the task itself names the task and what to do.
    let (code, shown, deliver_all) = s.house.text(&["status"]);
    assert!(
        code == 0 && shown.contains("ORCH-2") && deliver_all.contains("of ORCH-1 can't be read"),
        "{shown}{deliver_all}"
    );
    let (code, _, deliver_all) = s.house.text(&["show", "ORCH-1"]);
    assert!(code == 3 && deliver_all.contains("restore the row from a backup"), "{deliver_all}");
}
