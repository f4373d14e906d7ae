//! Other people act on a forge and a board at the worst moment, in several ways: whatever a service says, the actual
//! state decides (RULE-5, RULE-31, RULE-44).

use crate::outside_gitea::{Scene, scene, scene_with};
use crate::support::git::raw;
use crate::support::gitea::{Data, Effect, Script, commit_on};
use crate::support::http::{Fault, Reply};
use crate::support::plane::{PROJECT, WORKSPACE};
use serde_json::json;

/// E5: somebody pushes to the default branch between the last check and the merge, and nothing of ours lands.
#[test]
fn rule_5_a_push_at_the_moment_of_the_merge_goes_back_to_the_gate_whatever_the_forge_says() {
    let said = |status, text: &str| Some(Reply::json(status, &json!({"message": text})));
    let answers = [
        said(405, "The head of this PR is outdated"),
        said(404, "not found"),
        Some(Reply::html(200, "<html>please sign in</html>")),
    ];
    for (n, reply) in answers.into_iter().enumerate() {
        let s = scene("");
        let task = s.until_pull();
        s.forge.script(Script::new(Effect::Nothing, reply).before(|repo, _| {
            commit_on(repo, "main", "other.txt");
        }));
        s.green(&task);
        let moved = s.drive("the new head", |t| t.head_sha != task.head_sha || t.blocked_reason.is_some());
        assert_eq!((moved.blocked_reason.clone(), moved.attempt), (None, 1), "answer {n}");
        assert!(s.house.table("freezes").is_empty(), "answer {n}");
        s.green(&moved);
        let done = s.drive("done", |t| t.stage.as_str() == "done" || t.blocked_reason.is_some());
        assert_eq!((done.stage.as_str(), done.block_no), ("done", 0), "answer {n}: {:?}", done.blocked_reason);
        let tree = raw(&s.house.remote(), &["ls-tree", "--name-only", "main"]);
        assert!(tree.contains("other.txt") && tree.contains("app.txt"), "answer {n}: {tree}");
    }
}

/// A way to withdraw a task, and its undoing.
type Hand = (&'static str, fn(&Scene), fn(&Scene));

fn branch_of(s: &Scene) -> String {
    s.house.task("ORCH-1").unwrap().branch.unwrap()
}

const HANDS: [Hand; 4] = [
    ("closed, and opened again", |s| s.forge.close(1), |s| s.forge.data().pull_mut(1).open = true),
    (
        "sent to another base",
        |s| s.forge.data().pull_mut(1).base = "trunk".to_owned(),
        |s| s.forge.data().pull_mut(1).base = "main".to_owned(),
    ),
    (
        "its branch deleted, and made again",
        |s| drop(raw(&s.house.remote(), &["update-ref", "-d", &format!("refs/heads/{}", branch_of(s))])),
        |s| {
            let head = s.house.task("ORCH-1").unwrap().head_sha.unwrap();
            raw(&s.house.remote(), &["update-ref", &format!("refs/heads/{}", branch_of(s)), head.as_str()]);
            s.forge.data().pull_mut(1).open = true;
        },
    ),
    ("a draft, which is no withdrawal", |s| title(&mut s.forge.data(), "WIP: x"), |s| title(&mut s.forge.data(), "x")),
];

fn title(data: &mut Data, text: &str) {
    text.clone_into(&mut data.pull_mut(1).title);
}

/// E3: also while a person is awaited; and whoever withdraws it can restore it.
#[test]
fn rule_31_a_withdrawal_while_a_person_is_awaited_holds_at_once_and_ends_when_undone() {
    for (what, take, give) in HANDS {
        let s = scene_with("", &["deploy: {confirm: true}"]);
        let task = s.until_pull();
        s.green(&task);
        s.drive("the parking", |t| t.waiting_for.is_some());
        let runs = s.house.runs("ORCH-1").len();
        take(&s);
        let withdrawal = !what.contains("no withdrawal");
        if withdrawal {
            s.house.until(what, || {
                s.house.reconcile();
                s.house.task("ORCH-1").filter(|t| t.withdrawn.is_some())
            });
        }
        for _ in 0..3 {
            s.house.tick().fine();
        }
        assert!(s.house.table("freezes").is_empty(), "{what}");
        assert_eq!((s.merges(), s.house.runs("ORCH-1").len()), (0, runs), "{what}: nothing starts");
        give(&s);
        if withdrawal {
            s.house.orch(&["retry", "ORCH-1"]).fine();
        }
        s.house.until("it is free again", || {
            s.house.reconcile();
            s.house.task("ORCH-1").filter(|t| t.withdrawn.is_none() && t.waiting_for.is_some())
        });
        assert!(s.house.orch(&["advance", "ORCH-1", "--confirm-deploy"]).code <= 1, "{what}");
        let done = s.drive("done", |t| t.stage.as_str() == "done" || t.blocked_reason.is_some());
        assert_eq!((done.stage.as_str(), done.attempt), ("done", 1), "{what}: {:?}", done.blocked_reason);
    }
}

/// A2: whatever one kind of board call answers, the other kinds continue.
#[test]
fn rule_44_one_kind_of_call_that_fails_silences_no_other_kind_however_it_fails() {
    let faults: [fn() -> Fault; 2] =
        [|| Fault::status(403), || Fault::Answer(Reply::html(200, "<html>please sign in</html>"))];
    let project = format!("/api/v1/workspaces/{WORKSPACE}/projects/{PROJECT}");
    for (n, fault) in faults.into_iter().enumerate() {
        let s = crate::support::scene::scene_with("", &["auto_label: {enabled: true, repos: '*'}"]);
        s.board.fault(&format!("GET {project}/labels/"), fault(), 10_000);
        let item = s.board.item("Greet", "To Analyse");
        s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
        s.house.until("the board asks", || {
            s.house.reconcile();
            s.house.tick();
            (s.board.state(item) == "In Review").then_some(())
        });
        s.board.set(item, "Approved");
        s.drive("ORCH-1", &format!("hears the answer under fault {n}"), |t| t.stage.as_str() != "analysis");
        s.board.item("Another", "To Analyse");
        s.drive("ORCH-2", &format!("begins under fault {n}"), |t| t.stage.as_str() != "created");
    }
}
