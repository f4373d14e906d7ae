//! A board on Plane in the whole binary (BRD-1 to BRD-5, RULE-12 to RULE-15, RULE-27), with a strict fake.

use crate::support::http::Fault;
use crate::support::plane::{PROJECT, WORKSPACE, state_id};
use crate::support::scene::{Scene, scene, scene_with};

#[test]
fn a_work_item_is_steered_from_the_board_to_done() {
    let s = scene();
    let n = s.board.item("Greet <people>", "To Analyse");
    s.board.item("Not yet", "Backlog");
    let waiting = s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    assert_eq!(s.board.state(n), "In Review");
    assert_eq!(waiting.title, "Greet <people>");
    let prompts = s.house.path("state/runs/1/prompt.md");
    assert!(std::fs::read_to_string(prompts).unwrap().contains("Body of 1 & more."), "the text was read");
    assert!(s.house.task("ORCH-2").is_none());
    let card = std::fs::read_to_string(s.house.path("state/cards/ORCH-1.txt")).unwrap();
    assert!(card.contains("ORCH-1"));
    s.board.set(n, "Approved");
    s.drive("ORCH-1", "waits for the deploy", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    s.deliver_all();
    assert_eq!(s.board.state(n), "Awaiting Deploy");
    s.board.set(n, "Confirm Deploy");
    s.drive("ORCH-1", "is done", |t| t.stage.as_str() == "done");
    s.deliver_all();
    assert_eq!(s.board.state(n), "Done");
    let comments = s.board.data().comments.clone();
    assert_eq!(comments.iter().filter(|c| c.1.ends_with("/done")).count(), 1, "{comments:?}");
    s.board.take();
    for _ in 0..3 {
        s.house.reconcile().fine();
    }
    assert_eq!(s.board.take(), vec!["GET work-items/"; 3], "an idle pass is one request");
}

#[test]
fn stop_on_the_board_ends_the_task_and_to_analyse_starts_it_again() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    s.board.set(n, "STOP");
    s.drive("ORCH-1", "is cancelled", |t| t.stage.as_str() == "cancelled");
    s.deliver_all();
    assert_eq!(s.board.state(n), "Cancelled");
    s.board.set(n, "To Analyse");
    let again = s.drive("ORCH-1", "waits again", |t| t.stage.as_str() == "analysis" && t.waiting_for.is_some());
    assert_eq!(again.round, 2);
}

#[test]
fn an_unseen_stop_is_never_written_over_by_an_indication() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    s.house.reconcile().fine();
    // Between the read before an indication and its write, a person sets STOP.
    s.board.data().after_get = Some(Box::new(|data| {
        data.tick();
        let (now, stop) = (data.now, data.named("STOP"));
        let item = data.item_mut(1);
        (item.state, item.updated) = (stop, now);
    }));
    s.drive("ORCH-1", "is cancelled", |t| t.stage.as_str() == "cancelled");
    s.deliver_all();
    assert_eq!(s.board.state(n), "Cancelled");
}

#[test]
fn rule_12_an_approval_from_before_the_question_counts_for_nothing() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    s.house.reconcile().fine();
    s.board.set(n, "Approved");
    s.house.reconcile().fine();
    let waiting = s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    assert_eq!(s.board.state(n), "In Review", "the indication is put back");
    for _ in 0..3 {
        s.house.reconcile().fine();
        s.house.tick().fine();
    }
    assert_eq!(s.house.task("ORCH-1").unwrap().epoch, waiting.epoch, "nobody approved");
    let why = s.house.table("intents").with("kind", "approved").texts("reason");
    assert_eq!(why.len(), 1);
    assert!(why[0].contains("does not wait"), "{why:?}");
    // The same status seen again is no new intent: only the change into it counts.
    s.board.set(n, "Approved");
    s.drive("ORCH-1", "goes on", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
}

#[test]
fn rule_14_a_done_item_with_the_id_of_approved_never_makes_a_notice() {
    let s = scene_with(", statuses: {approved: Done}", &[]);
    s.board.item("Old", "Done");
    s.board.item("Old too", "Done");
    for _ in 0..3 {
        s.house.reconcile().fine();
        s.house.tick().fine();
    }
    s.board.set(1, "Backlog");
    s.house.reconcile().fine();
    s.board.set(1, "Done");
    s.house.reconcile().fine();
    assert!(s.house.table("intents").is_empty(), "the intent is off");
    assert!(s.house.table("outbox").is_empty(), "nothing is told, ever");
    assert!(s.count("reconcile/skipped_terminal_total") >= 2);
    assert!(s.board.data().comments.is_empty());
    let status = s.house.orch(&["status"]).fine().json;
    assert_eq!(status["reconcile"]["intents_off"][0]["intent"], "approved", "{status}");
}

#[test]
fn rule_14_a_status_shared_with_an_indication_steers_nothing_and_the_others_do() {
    let s = scene_with(", statuses: {confirm_deploy: \"In Progress\"}", &[]);
    let n = s.board.item("Greet", "To Analyse");
    s.board.item("Another", "In Progress");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    s.board.set(n, "Approved");
    s.drive("ORCH-1", "waits for the deploy", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    s.board.set(n, "In Progress");
    s.house.reconcile().fine();
    s.deliver_all();
    assert_eq!(s.house.table("intents").with("kind", "confirm_deploy").len(), 0);
    assert!(s.house.task("ORCH-2").is_none());
}

#[test]
fn a_status_renamed_meanwhile_keeps_its_id_and_an_intent_without_its_name_is_off() {
    let s = scene_with("", &["plane: {states_ttl_s: 0}"]);
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    for state in &mut s.board.data().states {
        match state.name.as_str() {
            "Approved" => state.name = "Accepted".into(),
            "Awaiting Deploy" => state.name = "Ready".into(),
            _ => {}
        }
    }
    s.board.set(n, "Accepted");
    s.house.reconcile().fine();
    s.house.tick().fine();
    assert!(s.house.task("ORCH-1").unwrap().waiting_for.is_some(), "fail closed");
    s.house.orch(&["advance", "ORCH-1", "--approve"]).fine();
    s.drive("ORCH-1", "waits for the deploy", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    s.deliver_all();
    assert_eq!(s.board.state(n), "In Review", "falls back inside the project");
}

#[test]
fn a_failed_refresh_serves_the_stale_statuses_and_says_so() {
    let s = scene_with("", &["plane: {states_ttl_s: 0}"]);
    s.board.item("Greet", "Backlog");
    s.house.reconcile().fine();
    let base = format!("GET /api/v1/workspaces/{WORKSPACE}/projects/{PROJECT}/states/");
    s.board.fault(&base, Fault::bad_gateway(), 10);
    s.board.set(1, "To Analyse");
    let pass = s.house.reconcile();
    assert_eq!(pass.code, 3, "{:?}", pass.json);
    assert!(pass.json["errors"][0]["message"].as_str().unwrap().contains("stale"));
    assert!(pass.kinds().contains(&"task_created".to_owned()), "the stale set is served");
    assert!(s.house.meta("reconcile/stale_since").is_some_and(|t| !t.is_empty()));
}

#[test]
fn pages_that_drift_lose_nothing() {
    let s = scene();
    for i in 0..150 {
        s.board.item(&format!("Item {i}"), "Backlog");
    }
    s.house.reconcile().fine();
    s.board.data().now += 600_000;
    for n in 1..=150 {
        s.board.set(n, "In Progress");
    }
    // Between the two pages the oldest changed item moves to the top, and another one slips across the page boundary.
    s.board.data().after_page = Some(Box::new(|data| {
        data.tick();
        let (now, wanted) = (data.now, data.named("To Analyse"));
        let item = data.item_mut(1);
        (item.state, item.updated) = (wanted, now);
    }));
    s.house.reconcile().fine();
    s.house.reconcile().fine();
    assert_eq!(s.house.table("items").with("grp", "started").len(), 149);
    assert!(s.house.task("ORCH-1").is_some(), "the one that moved is seen by the next pass");
}

#[test]
fn a_withdrawn_item_holds_its_task_and_coming_back_frees_it() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    s.board.data().item_mut(n).archived = true;
    s.house.orch(&["reconcile", "--full"]).fine();
    let held = s.house.task("ORCH-1").unwrap();
    assert!(held.withdrawn.unwrap().to_string().contains("withdrawn by a person"));
    let card = || std::fs::read_to_string(s.house.path("state/cards/ORCH-1.txt")).unwrap();
    assert!(card().contains("Withdrawn by a person: its work item is gone"), "{}", card());
    assert!(!card().contains("Approval wanted"), "{}", card());
    assert_ne!(held.stage.as_str(), "cancelled", "never cancelled by guess");
    s.house.orch(&["reconcile", "--full"]).fine();
    assert_eq!(s.house.table("outbox").like("key", "alert/withdrawn/").len(), 1);
    s.board.data().item_mut(n).archived = false;
    s.house.orch(&["reconcile", "--full"]).fine();
    assert!(s.house.task("ORCH-1").unwrap().withdrawn.is_none());
    assert!(card().contains("Approval wanted"), "{}", card());
    // A person moved it to a closed group: held, explained, not put back.
    s.board.set(n, "Done");
    s.house.reconcile().fine();
    s.deliver_all();
    assert_eq!(s.board.state(n), "Done");
    assert!(s.house.task("ORCH-1").unwrap().withdrawn.is_some());
}

/// RULE-44: one item that can't be read says nothing about the next.
#[test]
fn rule_44_an_item_that_can_not_be_read_hides_no_other_that_is_gone() {
    let s = scene();
    let items = [s.board.item("One", "To Analyse"), s.board.item("Two", "To Analyse")];
    s.house.reconcile().fine();
    for n in items {
        s.board.data().item_mut(n).archived = true;
    }
    s.board.fault(&format!("GET /api/v1/workspaces/{WORKSPACE}/work-items/ORCH-1/"), Fault::status(403), 1);
    let gone = || ["ORCH-1", "ORCH-2"].map(|key| s.house.task(key).unwrap().withdrawn.is_some());
    let said = s.house.orch(&["reconcile", "--full"]);
    assert!(said.json["errors"].to_string().contains("searching for its work item"), "{}", said.json);
    assert_eq!(gone(), [false, true]);
    s.house.orch(&["reconcile", "--full"]).fine();
    assert_eq!(gone(), [true, true]);
}

#[test]
fn a_drifted_indication_is_put_back() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    s.board.set(n, "Blocked");
    s.house.reconcile().fine();
    s.deliver_all();
    assert_eq!(s.board.state(n), "In Review");
}

#[test]
fn brd_5_labels_release_in_scope_and_cost_nothing_out_of_it() {
    let label = |s: &Scene| {
        s.board.data().labels = vec![("l1".into(), "autoApprove".into()), ("l2".into(), "autoDeploy".into())];
        s.board.data().item_mut(1).labels = vec!["l1".into(), "l2".into(), "deleted".into()];
    };
    for (line, on) in [
        ("auto_label: {enabled: true, repos: demo}", true),
        ("auto_label: {enabled: true, repos: other}", false),
        ("auto_label: {enabled: false, repos: demo}", false),
    ] {
        let s = scene_with("", &[line]);
        s.board.item("Greet", "To Analyse");
        label(&s);
        if on {
            s.drive("ORCH-1", "is done", |t| t.stage.as_str() == "done");
            s.deliver_all();
            let alerts = s.house.table("outbox").with("sink", "alert").texts("key");
            assert!(
                alerts[0].contains("auto_approve") && alerts.iter().any(|a| a.contains("auto_deploy")),
                "{alerts:?}"
            );
            assert!(alerts.iter().all(|a| !a.contains("wanted")), "nobody is asked who need not be: {alerts:?}");
        } else {
            s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
            s.deliver_all();
            let log = s.board.take();
            assert!(log.iter().all(|l| !l.contains("labels")), "{line}: {log:?}");
            for _ in 0..3 {
                s.house.tick().fine();
            }
            assert!(s.board.take().is_empty(), "{line}: off is as if it did not exist");
        }
    }
}

#[test]
fn brd_5_an_ambiguous_or_unknown_label_automates_nothing() {
    let s = scene_with("", &["auto_label: {enabled: true, repos: demo}"]);
    s.board.item("Greet", "To Analyse");
    s.board.data().labels = vec![("l1".into(), "autoApprove".into()), ("l2".into(), " AUTOAPPROVE".into())];
    s.board.data().item_mut(1).labels = vec!["l1".into(), "l2".into()];
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    let s = scene_with("", &["auto_label: {enabled: true, repos: demo}"]);
    s.board.item("Greet", "To Analyse");
    let base = format!("GET /api/v1/workspaces/{WORKSPACE}/projects/{PROJECT}/labels/");
    s.board.fault(&base, Fault::status(500), 1000);
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
}

#[test]
fn rule_27_relations_are_read_once_right_before_the_first_claim() {
    let s = scene();
    s.board.item("First", "Backlog");
    s.board.item("Second", "To Analyse");
    let first = s.board.data().items[0].id.clone();
    s.board.data().item_mut(2).blocked_by = vec![first];
    s.house.reconcile().fine();
    let log = s.board.take();
    assert!(log.iter().all(|l| !l.contains("relations")), "not before: {log:?}");
    let held = s.house.tick();
    assert!(held.rules().contains(&"dependencies".to_owned()), "{:?}", held.json);
    for _ in 0..3 {
        s.house.tick();
    }
    let log = s.board.take();
    assert_eq!(log.iter().filter(|l| l.contains("relations")).count(), 1, "{log:?}");
    s.board.set(1, "Done");
    s.drive("ORCH-2", "waits", |t| t.waiting_for.is_some());
    assert!(s.house.task("ORCH-1").is_none());
}

#[test]
fn rule_27_a_board_that_does_not_say_what_blocks_holds_the_start() {
    let s = scene();
    s.board.item("Greet", "To Analyse");
    s.house.reconcile().fine();
    let path = format!("GET /api/v1/workspaces/{WORKSPACE}/projects/{PROJECT}/work-items/");
    s.board.fault(&path, Fault::status(500), 2);
    let held = s.house.tick();
    assert!(!held.kinds().contains(&"job_started".to_owned()), "{:?}", held.json);
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
}

#[test]
fn rule_15_an_approval_with_a_job_under_way_counts_for_nothing() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    // The analyst works again, slowly, and the approval arrives meanwhile.
    s.house.script("agent.sh", "#!/bin/sh\nwhile true; do sleep 0.2; done\n");
    s.house.orch(&["advance", "ORCH-1", "--reject", "think again"]).fine();
    s.house.tick();
    s.deliver_board_only();
    s.board.set(n, "Approved");
    s.house.reconcile();
    let why = s.house.table("intents").with("kind", "approved").lines(&["state", "reason"]);
    assert_eq!(s.house.task("ORCH-1").unwrap().stage.as_str(), "analysis");
    assert_eq!(s.house.table("intents").with("kind", "approved").texts("state"), ["dismissed"], "{why:?}");
}

#[test]
fn an_older_server_with_issues_only_is_found_once() {
    let s = scene();
    s.board.data().work_items = false;
    s.board.item("Greet", "To Analyse");
    s.house.reconcile().fine();
    s.board.take();
    s.house.reconcile().fine();
    assert_eq!(s.board.take(), ["GET issues/"], "remembered");
    assert_eq!(state_id("Done").len(), 36);
}

#[test]
fn a_wrong_key_is_an_error_that_names_the_board_and_not_the_key() {
    let mut s = scene();
    s.house.env = vec![("PLANE".into(), "plane_api_wrong_0123456789".into())];
    let pass = s.house.reconcile();
    assert_eq!(pass.code, 3);
    let text = format!("{} {}", pass.json, pass.stderr);
    assert!(text.contains("board of ORCH") && !text.contains("plane_api_wrong"), "{text}");
}

/// BRD-3: on Plane the activity's actor decides, and the activity arrives a while after the status.
#[test]
fn brd_3_only_a_listed_actor_starts_work() {
    let s = scene_with(", deciders: [ann]", &[]);
    s.board.item("First", "To Analyse");
    s.board.item("Second", "To Analyse");
    let id = |n: usize| s.board.data().items[n].id.clone();
    let (first, second) = (id(0), id(1));
    let did = |item: &str, actor: &str| {
        let row = serde_json::json!({"field": "state", "new_identifier": state_id("To Analyse"), "actor": actor});
        s.board.data().activities.push((item.to_owned(), row));
    };
    let states = || s.house.table("intents").lines(&["state", "reason"]);
    s.house.reconcile().fine();
    s.house.tick().fine();
    assert_eq!(states(), ["pending ", "pending "], "nobody is known to have set it");
    did(&first, "eve");
    did(&second, "ann");
    s.house.reconcile().fine();
    let deliver_all = states();
    assert!(deliver_all[0].starts_with("dismissed") && deliver_all[0].contains("eve"), "{deliver_all:?}");
    s.drive("ORCH-2", "waits", |t| t.waiting_for.is_some());
    assert!(s.house.task("ORCH-1").is_none());
}

/// An item that can't be read holds its task by one rule, which tick, explain and status all name.
#[test]
fn rule_27_one_rule_is_shown_by_tick_explain_and_status_where_the_item_can_not_be_read() {
    let s = scene();
    s.board.item("Greet", "To Analyse");
    let by_key = format!("GET /api/v1/workspaces/{WORKSPACE}/work-items/");
    s.board.fault(&by_key, Fault::status(403), 1);
    s.house.reconcile();
    let ran = s.house.until("the hold", || {
        let ran = s.house.tick();
        ran.rules().contains(&"dependencies".to_owned()).then_some(ran)
    });
    let deliver_all = ran.json["skipped"][0]["why"].as_str().unwrap().to_owned();
    let explained = s.house.orch(&["explain", "ORCH-1"]).json;
    assert_eq!(explained["held_by"]["rule"], "dependencies", "{explained}");
    assert_eq!(explained["held_by"]["why"].as_str(), Some(deliver_all.as_str()));
    let status = s.house.orch(&["status"]).json;
    assert_eq!(status["tasks"][0]["held_by"]["rule"], "dependencies", "{status}");
    s.drive("ORCH-1", "begins", |t| t.stage.as_str() != "created");
}

/// C9a and C9b create a work item of the sandbox project on whichever board it has.
#[test]
fn a_sandbox_on_a_server_goes_through_the_self_hosting_suite() {
    let s = scene_with("", &["dependencies: {enabled: false}"]);
    let file = s.house.path("orch.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let own = "  - {key: OWN, repo: own, self_hosting: true, git: {remote: ./own.git}, board: {kind: local, dir: own-issues}, staging: {sandbox: {project: ORCH}}}\n";
    crate::support::git::raw(s.house.root(), &["clone", "-q", "--bare", "remote.git", "own.git"]);
    std::fs::write(&file, text.replacen("projects:\n", &format!("projects:\n{own}"), 1)).unwrap();
    let (code, out, err) = s.house.text(&["staging-check", "--project", "OWN"]);
    let of = |id: &str| out.lines().find(|l| l.contains(id)).unwrap_or_else(|| panic!("{id}: {out}{err}")).to_owned();
    for id in ["C9a", "C9b"] {
        assert!(of(id).contains("PASS"), "exit {code}: {out}{err}");
    }
    assert_eq!(s.board.data().items.len(), 1);
    s.house.until("the end", || {
        s.house.tick();
        s.house.task("ORCH-1").filter(|t| t.stage.as_str() == "cancelled")
    });
}
