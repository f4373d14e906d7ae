//! Answers of people are never lost (RULE-43), against a strict fake of Plane.

use crate::support::http::Fault;
use crate::support::plane::{PROJECT, WORKSPACE};
use crate::support::scene::scene;

fn writes() -> String {
    format!("PATCH /api/v1/workspaces/{WORKSPACE}/projects/{PROJECT}/work-items/")
}

#[test]
fn rule_43_a_question_whose_message_was_refused_and_superseded_is_answered_all_the_same() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    // The indication of the work and the question are refused once each; the next pass posts the indication again, which
    // supersedes the first message.
    s.board.fault(&writes(), Fault::status(500), 2);
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    for _ in 0..3 {
        s.house.reconcile();
    }
    s.told();
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
    // A person puts the question there, another one answers.
    s.board.set(n, "In Review");
    s.house.reconcile();
    s.board.set(n, "Approved");
    s.drive("ORCH-1", "goes on", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    assert_eq!(s.house.events("intent_dismissed").len(), 1);
}
