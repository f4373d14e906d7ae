//! Which requests a board on Plane gets, and how often (BRD-4, RULE-13, the request budgets), with a strict fake.

use crate::support::house::Ran;
use crate::support::http::Fault;
use crate::support::plane::{KEY, PROJECT, WORKSPACE};
use crate::support::scene::{Scene, plan, scene, scene_with};
use orch::adapters::process;
use orch::adapters::store::{Mode, Store};
use orch::cli::clock;
use orch::engine::{Ctx, reconcile};
use std::sync::mpsc::channel;
use std::time::Duration;

fn lists(log: &[String]) -> usize {
    log.iter().filter(|l| l.as_str() == "GET work-items/").count()
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
    // The next passes wait, in whatever process.
    s.house.reconcile().fine();
    s.house.tick().fine();
    assert_eq!(s.board.take().len(), 0, "{asked:?}");
}

/// A board that does not answer costs a step one wait, however many tasks it shows.
#[test]
fn a_step_asks_for_the_statuses_once_whatever_it_shows_and_whether_or_not_they_are_sent() {
    let s = scene_with("", &["plane: {states_ttl_s: 0}"]);
    for title in ["One", "Two", "Three"] {
        s.board.item(title, "To Analyse");
    }
    s.house.reconcile().fine();
    // No supervisor is left that would ask on its own.
    s.house.until("each task waits for its approval", || {
        s.house.tick();
        let waiting = s.house.table("tasks").with("waiting_for", "approval").len();
        (waiting == 3 && s.house.is_quiet()).then_some(())
    });
    s.deliver_all();
    let asked = |s: &Scene| s.board.take().iter().filter(|l| l.as_str() == "GET states/").count();
    asked(&s);
    s.house.reconcile().fine();
    assert_eq!(asked(&s), 1, "at every step, once");
    // Every task is shown again.
    s.house.table("outbox").with("sink", "board_status").put("state", "open");
    s.house.messages_are_due();
    let base = format!("GET /api/v1/workspaces/{WORKSPACE}/projects/{PROJECT}/states/");
    s.board.fault(&base, Fault::bad_gateway(), 10);
    let pass = s.house.reconcile();
    assert_eq!((pass.code, asked(&s)), (3, 1));
    assert_eq!(pass.json["errors"].as_array().unwrap().len(), 1, "{}", pass.json);
    assert!(s.house.table("outbox").with("state", "open").is_empty(), "by the statuses that are known: {}", pass.json);
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
    // Past the overlap, only changes are listed.
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
    let keys = s.house.table("tasks").texts("key");
    assert_eq!(keys[..2], ["ORCH-1", "ORCH-41"], "oldest work item first");
}

#[test]
fn a_full_scan_past_the_budget_continues_where_it_stopped() {
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
    let seen: usize = s.house.table("items").len();
    assert!((1..450).contains(&seen), "{seen}");
    s.board.data().budget = None;
    s.house.minute_passes();
    s.house.until("the rest", || {
        s.house.reconcile();
        s.house.meta("watermark/ORCH")
    });
    assert_eq!(s.house.table("items").len(), 450);
    assert!(lists(&s.board.take()) < 5 + 5, "pages are not read twice");
}

/// More changes than a minute's budget allows (an import): scans of the changes would be cut off at the same place
/// forever.
#[test]
fn more_changes_than_the_budget_holds_are_read_by_a_full_scan_that_continues() {
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
    assert_eq!(s.house.table("items").with("grp", "started").len(), 3_000);
    s.board.data().budget = None;
    s.board.data().now += 600_000;
    s.board.set(2, "Backlog");
    s.house.reconcile().fine();
    s.board.take();
    s.house.reconcile().fine();
    assert_eq!(s.board.take(), ["GET work-items/"], "and then a look is one request again");
}

#[test]
fn board_switched_off_costs_no_request() {
    let s = scene_with("", &["reconcile: {enabled: false}"]);
    s.board.item("Greet", "To Analyse");
    s.house.reconcile().fine();
    s.house.tick().fine();
    assert_eq!(s.board.take().len(), 0);
}

/// A signal ends a full scan of a slow board after the current page, and the next pass resumes there (CLI-5).
#[test]
fn cli_5_a_signal_ends_a_full_scan_between_two_pages_and_the_next_one_continues() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let s = scene();
        for i in 0..450 {
            s.board.item(&format!("Item {i}"), "Backlog");
        }
        s.board.data().add("Greet", "To Analyse");
        let ((asked, seen), (answer, wait)) = (channel(), channel::<()>());
        s.board.data().after_page = Some(Box::new(move |_| {
            asked.send(()).unwrap();
            let _ = wait.recv();
        }));
        let step = s.house.begin(&["reconcile"]);
        seen.recv().unwrap();
        let pid = rustix::process::Pid::from_raw(step.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        drop(answer);
        let pass = Ran::of(step.wait_with_output().unwrap()).fine();
        assert_eq!(pass.rules(), ["unfinished"], "{}", pass.json);
        assert!(pass.json["skipped"][0]["why"].as_str().unwrap().starts_with("interrupted"), "{}", pass.json);
        assert_eq!(lists(&s.board.take()), 1);
        assert_eq!(s.house.table("items").len(), 100, "what came is kept");
        assert!(s.house.meta("watermark/ORCH").is_none(), "and nothing is concluded");
        s.house.reconcile().fine();
        assert_eq!(lists(&s.board.take()), 4, "the page that was read is not read again");
        assert!(s.house.task("ORCH-451").is_some());
    }
}

/// One pass in this process that allows a board this much time.
fn pass(s: &Scene, longest: Duration) -> Vec<String> {
    let env = s.house.env.iter().cloned().collect();
    let config = orch::config::load(Some("orch.yaml".as_ref()), None, &env, s.house.root()).unwrap();
    let store = Store::open(&config.state_dir.join("orch.db"), Mode::Use).unwrap();
    let mut ctx = Ctx::new(config, store, process::me().unwrap(), clock::now, "reconcile");
    reconcile::run(&mut ctx, None, false, longest).unwrap();
    assert!(ctx.report.errors.is_empty(), "{:?}", ctx.report.errors);
    ctx.report.skipped.iter().map(|h| h.rule.to_string()).collect()
}

/// However slow a board is, each pass reads a page, and many changes at once are not read from the start again.
#[test]
fn a_board_too_slow_for_one_pass_is_read_page_by_page() {
    let s = scene();
    // In this process no variable is set.
    std::fs::write(s.house.path("key"), KEY).unwrap();
    s.house.configure(&plan(&s.board, "{file: ./key}", "", &[]));
    for i in 0..250 {
        s.board.item(&format!("Item {i}"), "Backlog");
    }
    s.house.orch(&["tick"]).fine();
    for page in 1..=2 {
        assert_eq!(pass(&s, Duration::ZERO), ["unfinished"]);
        assert_eq!(s.house.table("items").len(), page * 100);
    }
    assert!(pass(&s, Duration::ZERO).is_empty());
    assert_eq!(lists(&s.board.take()), 3);
    s.board.data().now += 600_000;
    for n in 1..=250 {
        s.board.set(n, "In Progress");
    }
    let passes = (1..9).find(|_| pass(&s, Duration::ZERO).is_empty());
    assert_eq!(s.house.table("items").with("grp", "started").len(), 250);
    assert_eq!(passes, Some(4), "one look at what changed, then three pages");
}

/// A dry run stores nothing, and makes no more requests because of that.
#[test]
fn a_dry_step_asks_for_the_statuses_once_too() {
    let s = scene_with("", &["plane: {states_ttl_s: 0}"]);
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    s.board.set(n, "Blocked");
    s.board.take();
    s.house.orch(&["reconcile", "--dry-run"]).fine();
    let log = s.board.take();
    assert_eq!(log.iter().filter(|l| l.as_str() == "GET states/").count(), 1, "{log:?}");
    assert!(log.iter().all(|l| l.starts_with("GET")), "{log:?}");
}

/// While a person is awaited, an item without the label is not read again until it changes (BRD-5).
#[test]
fn brd_5_a_waiting_task_costs_an_idle_step_nothing_and_a_label_that_comes_is_seen() {
    let s = scene_with("", &["auto_label: {enabled: true, repos: demo}"]);
    s.board.data().labels = vec![("l1".into(), "autoApprove".into()), ("l2".into(), "autoDeploy".into())];
    let n = s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    s.house.reconcile().fine();
    s.house.tick().fine();
    s.board.take();
    for _ in 0..3 {
        s.house.tick().fine();
        s.house.reconcile().fine();
    }
    assert_eq!(s.board.take(), vec!["GET work-items/"; 3], "one list a pass, nothing a tick");
    {
        let mut data = s.board.data();
        data.tick();
        let now = data.now;
        let item = data.item_mut(n);
        (item.labels, item.updated) = (vec!["l1".into()], now);
    }
    s.drive("ORCH-1", "goes on", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
}

/// One wait per step for a board that does not answer, however many tasks need it (BRD-4).
#[test]
fn a_silent_board_is_asked_once_a_step() {
    let s =
        scene_with("", &["auto_label: {enabled: true, repos: demo, states_ttl_s: 0}", "serial_gate: {enabled: false}"]);
    s.board.data().labels = vec![("l1".into(), "autoApprove".into())];
    for title in ["One", "Two", "Three"] {
        s.board.item(title, "To Analyse");
    }
    for key in ["ORCH-1", "ORCH-2", "ORCH-3"] {
        s.drive(key, "waits", |t| t.waiting_for.is_some());
    }
    s.deliver_all();
    s.board.take();
    s.board.fault("GET ", Fault::bad_gateway(), 100);
    let ran = s.house.tick();
    assert_eq!((ran.code, s.board.take().len()), (3, 1), "{}", ran.json);
}

/// With a waiting task: a tick, a reap and a status make no request, a pass one list, a full scan its pages.
#[test]
fn steps_with_nothing_to_do_ask_as_much_as_their_budget_says() {
    let s = scene();
    s.board.item("Greet", "To Analyse");
    s.drive("ORCH-1", "waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    {
        let mut data = s.board.data();
        for i in 0..1_000 {
            data.add(&format!("Item {i}"), "Backlog");
        }
        data.now += 600_000;
    }
    s.house.orch(&["reconcile", "--full"]).fine();
    s.board.set(1_000, "Backlog");
    s.house.reconcile().fine();
    s.board.take();
    for step in ["tick", "reap", "status", "report", "metrics"] {
        s.house.orch(&[step]).fine();
        assert_eq!(s.board.take(), [""; 0], "{step}");
    }
    s.house.orch(&["explain", "ORCH-1"]).fine();
    assert_eq!(s.board.take(), [""; 0]);
    s.house.reconcile().fine();
    assert_eq!(s.board.take(), ["GET work-items/"]);
    s.house.orch(&["reconcile", "--full"]).fine();
    assert_eq!(s.board.take(), ["GET work-items/"; 11], "1,001 items, a hundred a page, and nothing for each task");
}

/// A server that fails in the middle of a full scan: what arrived is kept, and the next pass resumes there.
#[test]
fn a_full_scan_that_breaks_off_continues_where_it_stopped_and_starts_over_where_that_is_refused() {
    let s = scene();
    for i in 0..450 {
        s.board.item(&format!("Item {i}"), if i % 10 == 0 { "Done" } else { "Backlog" });
    }
    s.board.data().after_page = Some(Box::new(|data| data.down = true));
    let pass = s.house.reconcile();
    assert_eq!((pass.code, pass.rules().len()), (3, 0), "{}", pass.json);
    assert!(pass.json["errors"][0]["message"].as_str().unwrap().contains("502"), "{}", pass.json);
    assert_eq!(s.house.table("items").len(), 100);
    s.board.data().down = false;
    s.board.take();
    s.house.reconcile().fine();
    assert_eq!(lists(&s.board.take()), 4);
    assert_eq!(s.house.table("items").len(), 450);
    assert_eq!(s.count("reconcile/skipped_terminal_total"), 45, "each once, of all parts");
    // A cursor that the server no longer knows.
    let scan = r#"{"cursor":"nowhere","newest_ms":0,"began_at":0}"#;
    s.house.db().insert("meta", &[("key", "scan/ORCH"), ("value", scan)]);
    assert_eq!(s.house.reconcile().code, 3);
    s.house.orch(&["reconcile", "--full"]).fine();
    assert!(s.house.meta("scan/ORCH").is_none());
}
