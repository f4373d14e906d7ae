//! A board on Plane in the whole binary (BRD-1 to BRD-5, RULE-12 to RULE-15, RULE-27), against a strict fake.

use crate::support::house::{House, Plan};
use crate::support::http::Fault;
use crate::support::plane::{FakePlane, KEY, PROJECT, WORKSPACE, state_id};
use orch::model::task::Task;

struct Scene {
    house: House,
    board: FakePlane,
}

fn scene() -> Scene {
    scene_with("", &[])
}

/// `board`: further keys of the board; `top`: further lines at the top.
fn scene_with(board: &str, top: &[&str]) -> Scene {
    let fake = FakePlane::start();
    let mut plan = Plan::with_analysis().project(format!(
        "board: {{kind: plane, url: \"{}\", workspace: {WORKSPACE}, project: orch, api_key: {{env: PLANE}}{board}}}",
        fake.url()
    ));
    for line in top {
        plan = plan.top(*line);
    }
    let mut house = House::new(&plan);
    house.env.push(("PLANE".into(), KEY.into()));
    Scene { house, board: fake }
}

impl Scene {
    /// Reconciles and ticks until the task is so and nothing of it runs.
    #[track_caller]
    fn drive(&self, key: &str, what: &str, so: impl Fn(&Task) -> bool) -> Task {
        self.house.until(&format!("{key} {what}"), || {
            let quiet = self.house.store().is_some()
                && self.house.query("SELECT id FROM runs WHERE state <> 'settled'").is_empty();
            if let Some(task) = self.house.task(key).filter(|t| quiet && so(t)) {
                return Some(task);
            }
            self.house.reconcile();
            self.house.tick();
            None
        })
    }

    /// Every message is delivered.
    fn told(&self) {
        self.house.until("all is told", || {
            self.house.tick();
            self.house.query("SELECT id FROM outbox WHERE state = 'open'").is_empty().then_some(())
        });
    }

    fn count(&self, key: &str) -> i64 {
        self.house.meta(key).map_or(0, |t| t.parse().unwrap())
    }
}

fn lists(log: &[String]) -> usize {
    log.iter().filter(|l| l.as_str() == "GET work-items/").count()
}

#[test]
fn a_work_item_is_steered_from_the_board_to_done() {
    let s = scene();
    let n = s.board.item("Greet <people>", "To Analyse");
    s.board.item("Not yet", "Backlog");
    let waiting = s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.told();
    assert_eq!(s.board.state(n), "In Review");
    assert_eq!(waiting.title, "Greet <people>");
    let prompts = s.house.path("state/runs/1/prompt.md");
    assert!(std::fs::read_to_string(prompts).unwrap().contains("Body of 1 & more."), "the text was read");
    assert!(s.house.task("ORCH-2").is_none());
    let card = std::fs::read_to_string(s.house.path("state/cards/ORCH-1.txt")).unwrap();
    assert!(card.contains("ORCH-1"));
    s.board.set(n, "Approved");
    s.drive("ORCH-1", "waits for the deploy", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    s.told();
    assert_eq!(s.board.state(n), "Awaiting Deploy");
    s.board.set(n, "Confirm Deploy");
    s.drive("ORCH-1", "is done", |t| t.stage.as_str() == "done");
    s.told();
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
fn stop_on_the_board_ends_the_task_and_to_analyse_starts_it_anew() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.told();
    s.board.set(n, "STOP");
    s.drive("ORCH-1", "is cancelled", |t| t.stage.as_str() == "cancelled");
    s.told();
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
    // Between the look before an indication and its writing a person sets STOP.
    s.board.data().after_get = Some(Box::new(|data| {
        data.tick();
        let (now, stop) = (data.now, data.named("STOP"));
        let item = data.item_mut(1);
        (item.state, item.updated) = (stop, now);
    }));
    s.drive("ORCH-1", "is cancelled", |t| t.stage.as_str() == "cancelled");
    s.told();
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
    s.told();
    assert_eq!(s.board.state(n), "In Review", "the indication is put back");
    for _ in 0..3 {
        s.house.reconcile().fine();
        s.house.tick().fine();
    }
    assert_eq!(s.house.task("ORCH-1").unwrap().epoch, waiting.epoch, "nobody approved");
    let why = s.house.query("SELECT reason FROM intents WHERE kind = 'approved'");
    assert_eq!(why.len(), 1);
    assert!(why[0].contains("does not wait"), "{why:?}");
    // The same status seen again is no new intent: it acts on the change into it.
    s.board.set(n, "Approved");
    s.drive("ORCH-1", "goes on", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
}

#[test]
fn rule_13_the_watermark_does_not_pass_a_429_in_the_middle_of_a_page() {
    let s = scene();
    for i in 0..250 {
        s.board.item(&format!("Item {i}"), "Backlog");
    }
    s.house.reconcile().fine();
    let mark = s.house.meta("watermark/ORCH").unwrap();
    for n in 1..=250 {
        s.board.set(n, "In Progress");
    }
    s.board.data().budget = Some(1);
    s.board.take();
    let pass = s.house.reconcile().fine();
    assert!(pass.rules().contains(&"throttled".to_owned()), "{:?}", pass.json);
    assert!(pass.json["errors"].as_array().unwrap().is_empty(), "no error noise");
    assert_eq!(s.house.meta("watermark/ORCH").unwrap(), mark, "not moved");
    let asked = s.board.take();
    let status = s.house.orch(&["status"]).fine().json;
    assert_eq!(status["reconcile"]["throttled"][0]["project"], "ORCH", "{status}");
    // The next passes wait, whatever process they are.
    s.house.reconcile().fine();
    s.house.tick().fine();
    assert_eq!(s.board.take().len(), 0, "{asked:?}");
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
    assert!(s.house.query("SELECT kind FROM intents").is_empty(), "the intent is off");
    assert!(s.house.query("SELECT key FROM outbox").is_empty(), "nothing is told, ever");
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
    s.told();
    s.board.set(n, "Approved");
    s.drive("ORCH-1", "waits for the deploy", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    s.board.set(n, "In Progress");
    s.house.reconcile().fine();
    s.told();
    assert_eq!(s.house.query("SELECT kind FROM intents WHERE kind = 'confirm_deploy'").len(), 0);
    assert!(s.house.task("ORCH-2").is_none());
}

#[test]
fn a_status_renamed_meanwhile_keeps_its_id_and_an_intent_without_its_name_is_off() {
    let s = scene_with("", &["plane: {states_ttl_s: 0}"]);
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.told();
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
    s.told();
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

/// A board that is silent costs a step one wait, however many tasks it shows.
#[test]
fn a_step_asks_for_the_statuses_once_whatever_it_shows_and_whether_or_not_they_are_told() {
    let s = scene_with("", &["plane: {states_ttl_s: 0}"]);
    for title in ["One", "Two", "Three"] {
        s.board.item(title, "To Analyse");
    }
    s.house.reconcile().fine();
    s.told();
    let asked = |s: &Scene| s.board.take().iter().filter(|l| l.as_str() == "GET states/").count();
    asked(&s);
    s.house.reconcile().fine();
    assert_eq!(asked(&s), 1, "at every step, once");
    let base = format!("GET /api/v1/workspaces/{WORKSPACE}/projects/{PROJECT}/states/");
    s.board.fault(&base, Fault::bad_gateway(), 10);
    let pass = s.house.reconcile();
    assert_eq!((pass.code, asked(&s)), (3, 1));
    assert_eq!(pass.json["errors"].as_array().unwrap().len(), 1, "{}", pass.json);
}

#[test]
fn statuses_are_read_once_in_their_time_to_live() {
    let s = scene();
    s.board.item("Greet", "Backlog");
    for _ in 0..4 {
        s.house.reconcile().fine();
    }
    let log = s.board.take();
    assert_eq!(log.iter().filter(|l| l.as_str() == "GET states/").count(), 1, "{log:?}");
    assert_eq!(log.iter().filter(|l| l.as_str() == "GET projects/").count(), 1);
    assert_eq!(lists(&log), 4);
}

#[test]
fn ten_thousand_items_cost_one_request_when_nothing_changed_and_few_when_some_did() {
    let s = scene();
    {
        let mut data = s.board.data();
        for i in 0..10_000 {
            data.add(&format!("Item {i}"), if i % 3 == 0 { "Done" } else { "Backlog" });
        }
    }
    s.house.reconcile().fine();
    assert_eq!(lists(&s.board.take()), 100, "the first look is a whole one");
    // Past the overlap nothing stands but what changes.
    s.board.data().now += 600_000;
    s.board.set(1, "Backlog");
    s.house.reconcile().fine();
    s.board.take();
    s.house.reconcile().fine();
    assert_eq!(s.board.take(), ["GET work-items/"]);
    s.board.data().now += 600_000;
    for n in 0..450 {
        s.board.set(n * 20 + 1, if n % 2 == 0 { "To Analyse" } else { "In Progress" });
    }
    let pass = s.house.reconcile().fine();
    let made = pass.kinds().iter().filter(|k| *k == "task_created").count();
    assert_eq!(made, 225);
    let log = s.board.take();
    let reads = log.iter().filter(|l| l.starts_with("GET")).count();
    assert!(reads <= 2 + 450 / 100, "{reads} reads: {log:?}");
    let keys = s.house.query("SELECT key FROM tasks ORDER BY id LIMIT 2");
    assert_eq!(keys, ["ORCH-1", "ORCH-41"], "oldest work item first");
}

#[test]
fn a_whole_look_past_the_budget_goes_on_where_it_ended() {
    let s = scene();
    {
        let mut data = s.board.data();
        for i in 0..450 {
            data.add(&format!("Item {i}"), "Backlog");
        }
        data.budget = Some(4);
        data.retry_after_s = 1;
    }
    s.house.reconcile().fine();
    assert!(s.house.meta("watermark/ORCH").is_none(), "nothing is concluded yet");
    let seen: usize = s.house.query("SELECT item_id FROM items").len();
    assert!((1..450).contains(&seen), "{seen}");
    s.board.data().budget = None;
    s.house.minute_passes();
    s.house.until("the rest", || {
        s.house.reconcile();
        s.house.meta("watermark/ORCH")
    });
    assert_eq!(s.house.query("SELECT item_id FROM items").len(), 450);
    assert!(lists(&s.board.take()) < 5 + 5, "pages are not read twice");
}

/// More changed than a minute's budget holds (an import): the looks at what changed would be cut at the same place for ever.
#[test]
fn more_changes_than_the_budget_holds_are_taken_in_by_a_whole_look_that_goes_on() {
    let s = scene();
    {
        let mut data = s.board.data();
        for i in 0..3_000 {
            data.add(&format!("Item {i}"), "Backlog");
        }
    }
    s.house.reconcile().fine();
    s.board.data().now += 600_000;
    for n in 1..=3_000 {
        s.board.set(n, "In Progress");
    }
    s.board.set(1, "In Progress");
    s.board.take();
    for pass in 1.. {
        assert!(pass <= 4, "never at its end: {} requests", s.board.take().len());
        s.board.data().budget = Some(25);
        s.house.minute_passes();
        if s.house.reconcile().fine().rules().is_empty() {
            break;
        }
    }
    assert_eq!(s.house.query("SELECT item_id FROM items WHERE grp = 'started'").len(), 3_000);
    s.board.data().budget = None;
    s.board.data().now += 600_000;
    s.board.set(2, "Backlog");
    s.house.reconcile().fine();
    s.board.take();
    s.house.reconcile().fine();
    assert_eq!(s.board.take(), ["GET work-items/"], "and then a look is one request again");
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
    // Between the two pages the oldest changed item moves to the top, and another one slips over the border.
    s.board.data().after_page = Some(Box::new(|data| {
        data.tick();
        let (now, wanted) = (data.now, data.named("To Analyse"));
        let item = data.item_mut(1);
        (item.state, item.updated) = (wanted, now);
    }));
    s.house.reconcile().fine();
    s.house.reconcile().fine();
    assert_eq!(s.house.query("SELECT item_id FROM items WHERE grp = 'started'").len(), 149);
    assert!(s.house.task("ORCH-1").is_some(), "the one that moved is seen by the next pass");
}

#[test]
fn a_withdrawn_item_holds_its_task_and_coming_back_frees_it() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.told();
    s.board.data().item_mut(n).archived = true;
    s.house.orch(&["reconcile", "--full"]).fine();
    let held = s.house.task("ORCH-1").unwrap();
    assert!(held.withdrawn.unwrap().contains("withdrawn by a person"));
    assert_ne!(held.stage.as_str(), "cancelled", "never cancelled by guess");
    s.house.orch(&["reconcile", "--full"]).fine();
    assert_eq!(s.house.query("SELECT key FROM outbox WHERE key LIKE 'alert/withdrawn/%'").len(), 1);
    s.board.data().item_mut(n).archived = false;
    s.house.orch(&["reconcile", "--full"]).fine();
    assert!(s.house.task("ORCH-1").unwrap().withdrawn.is_none());
    // Moved to a closed group by a person: held, explained, not put back.
    s.board.set(n, "Done");
    s.house.reconcile().fine();
    s.told();
    assert_eq!(s.board.state(n), "Done");
    assert!(s.house.task("ORCH-1").unwrap().withdrawn.is_some());
}

#[test]
fn a_drifted_indication_is_put_back() {
    let s = scene();
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.told();
    s.board.set(n, "Blocked");
    s.house.reconcile().fine();
    s.told();
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
            s.told();
            let alerts = s.house.query("SELECT key FROM outbox WHERE sink = 'alert' ORDER BY id");
            assert!(
                alerts[0].contains("auto_approve") && alerts.iter().any(|a| a.contains("auto_deploy")),
                "{alerts:?}"
            );
            assert!(alerts.iter().all(|a| !a.contains("wanted")), "nobody is asked who need not be: {alerts:?}");
        } else {
            s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
            s.told();
            let log = s.board.take();
            assert!(log.iter().all(|l| !l.contains("labels")), "{line}: {log:?}");
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
fn rule_27_a_board_that_does_not_tell_what_blocks_holds_the_start() {
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
    s.told();
    // The analyst is sent back to work, slowly, and the approval comes meanwhile.
    s.house.script("agent.sh", "#!/bin/sh\nwhile true; do sleep 0.2; done\n");
    s.house.orch(&["advance", "ORCH-1", "--reject", "think again"]).fine();
    s.house.tick();
    s.told_board_only();
    s.board.set(n, "Approved");
    s.house.reconcile();
    let why = s.house.query("SELECT COALESCE(reason, state) FROM intents WHERE kind = 'approved'");
    assert_eq!(why.len(), 1);
    assert_eq!(s.house.task("ORCH-1").unwrap().stage.as_str(), "analysis");
    assert_eq!(s.house.query("SELECT state FROM intents WHERE kind = 'approved'"), ["dismissed"], "{why:?}");
}

impl Scene {
    fn told_board_only(&self) {
        self.house.until("the board is told", || {
            self.house
                .query("SELECT id FROM outbox WHERE state = 'open' AND sink = 'board_status'")
                .is_empty()
                .then_some(())
        });
    }
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

#[test]
fn board_switched_off_costs_no_request() {
    let s = scene_with("", &["reconcile: {enabled: false}"]);
    s.board.item("Greet", "To Analyse");
    s.house.reconcile().fine();
    s.house.tick().fine();
    assert_eq!(s.board.take().len(), 0);
}
