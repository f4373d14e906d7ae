//! `orch explain` on the binary (CLI-3): tasks are compared with `tick` in `cmd_status`; here evidence and items
//! without a task.

use crate::support::seeded::{ONE, Seeded, change, task};
use orch::adapters::store::NewEvidence;
use orch::model::board::Intent;
use orch::model::evidence::EvidenceDetail;
use orch::model::evidence::EvidenceVerdict;
use orch::model::finding::{Finding, Origin};
use orch::model::gate::Gate;
use orch::model::ids::Sha;
use orch::model::stage::Stage;

#[test]
fn the_gates_of_the_stage_are_shown_with_their_evidence() {
    let world = Seeded::new(ONE);
    world.write(|tx| {
        let t = task(tx, "ORCH-1", "one", 1);
        let head = Sha::parse(&"a".repeat(40)).unwrap();
        let t = change(tx, &t, |t| {
            t.stage = Stage::Review;
            t.epoch = 3;
            t.head_sha = Some(head.clone());
            t.head_tree = Some("tree".into());
            t.blocked_reason = Some("the same findings came back".into());
        });
        let row = NewEvidence {
            subject: Gate::ReviewVerdict.into(),
            run_id: None,
            sha: head,
            code_tree: "tree".into(),
            verdict: EvidenceVerdict::Fail,
            why: "REQUEST_CHANGES".into(),
            detail: EvidenceDetail::code(vec![Finding { source: Origin::Review, text: "no test".into() }], false),
        };
        tx.add_evidence(&t, &row, 5).unwrap();
    });
    let (code, explained) = world.json(&["explain", "orch-1"]);
    assert_eq!(code, 0);
    assert_eq!((explained["held_by"]["rule"].as_str(), explained["stage"].as_str()), (Some("blocked"), Some("review")));
    let gate = &explained["gates"][0];
    assert_eq!((gate["gate"].as_str(), gate["answer"].as_str()), (Some("review_verdict"), Some("fail")));
    assert_eq!(
        (gate["evidence"][0]["verdict"].as_str(), gate["evidence"][0]["present"].as_bool()),
        (Some("fail"), Some(true))
    );
    assert!(explained["moves"][0].as_str().unwrap().contains("orch retry ORCH-1"));
    let (_, text, _) = world.orch(&["explain", "ORCH-1"]);
    assert_eq!(text.lines().last(), Some("orch retry ORCH-1"), "{text}");
    assert!(text.contains("held by blocked") && text.contains("evidence 1: fail on aaaaaaaaaa"), "{text}");
}

#[test]
fn a_work_item_without_a_task_is_explained() {
    let world = Seeded::new(ONE);
    let draft = world.item("later");
    let (code, explained) = world.json(&["explain", &draft]);
    assert_eq!((code, explained["task"].is_null()), (0, true));
    assert!(explained["next"].as_str().unwrap().contains("Backlog"), "{explained}");
    assert!(explained["moves"][0].as_str().unwrap().contains("To Analyse"), "{explained}");
    assert!(explained["command"].as_str().unwrap().ends_with(&format!("/issues/{draft}.md")), "{explained}");

    let (_, new) = world.json(&["new", "now"]);
    let (_, explained) = world.json(&["explain", new["key"].as_str().unwrap()]);
    assert!(explained["moves"][0].as_str().unwrap().contains("orch tick"), "{explained}");

    let file = world.path().join(format!("state/issues/{draft}.md"));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("status: Backlog", "status: Whenever")).unwrap();
    let (_, explained) = world.json(&["explain", &draft]);
    assert!(explained["next"].as_str().unwrap().contains("whenever"), "{explained}");
    std::fs::write(&file, "not front matter").unwrap();
    let (code, explained) = world.json(&["explain", &draft]);
    assert!(code == 0 && explained["next"].as_str().unwrap().contains("can't be read"), "{explained}");
    let (code, explained) = world.json(&["explain", "ORCH-999"]);
    assert_eq!((code, explained["errors"][0]["code"].as_i64()), (2, Some(2)));
}

#[test]
fn a_dismissed_intent_is_reported_with_its_reason() {
    use orch::adapters::store::{IntentState, ItemRow, NewIntent};
    let world = Seeded::new(ONE);
    let (_, new) = world.json(&["new", "now"]);
    let key = new["key"].as_str().unwrap().to_owned();
    world.write(|tx| {
        let item = ItemRow {
            body_hash: String::new(),
            project: "ORCH".into(),
            item_id: key.clone(),
            key: key.clone(),
            status_id: "to analyse".into(),
            updated_ms: 1,
            written_ms: 0,
            priority: 4,
            title: "now".into(),
            group: None,
            seen_other_since_end: true,
        };
        tx.put_item(&item).unwrap();
        let intent = NewIntent {
            project: "ORCH",
            item_id: &key,
            kind: Intent::ToAnalyse,
            answers: None,
            created_order: "",
            user: None,
        };
        let id = tx.add_intent(&intent, 1).unwrap();
        tx.settle_intent(id, IntentState::Dismissed, "the moon was full", 2).unwrap();
    });
    let (_, explained) = world.json(&["explain", &key]);
    assert!(explained["next"].as_str().unwrap().contains("the moon was full"), "{explained}");
    assert_eq!(explained["item"]["intents"][0]["state"], "dismissed");
}
