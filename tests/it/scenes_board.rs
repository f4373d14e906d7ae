//! What people do on the local board while steps run (BRD-1 to BRD-5, RULE-12, RULE-40).

use super::support::world::{Plan, World, pause};

/// Two complete passes of every step: whatever could happen has happened.
fn passes(w: &World) {
    for _ in 0..2 {
        w.tick();
        w.run(&["reconcile"]).code(0);
    }
}

#[test]
fn each_intent_means_one_thing_at_one_stage_and_nothing_elsewhere() {
    let w = Plan::new().top("limits: {max_concurrency: 4}").build();
    // Approved before anybody asked: it does nothing, and does not count later either.
    let key = w.new_item("Ask first", &[]);
    w.plan(&format!("{key}.analysis"), "hold analysis; good");
    w.tick();
    w.at("analysis");
    w.set_status(&key, "Approved");
    passes(&w);
    w.go("analysis");
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.waiting.as_deref()), ("analysis", Some("approval")));
    w.drive("the board asks", |w| w.status(&key) == "In Review");
    passes(&w);
    assert_eq!(w.task(&key).stage, "analysis", "an Approved of before the question counts for nothing");
    // Confirm Deploy at the wrong stage.
    w.set_status(&key, "Confirm Deploy");
    passes(&w);
    assert_eq!(w.task(&key).stage, "analysis");
    w.drive("the indication is back", |w| w.status(&key) == "In Review");
    // To Analyse in analysis: the analyst works again, on the current text.
    let text = w.item(&key).replacen("\n---\n", "\n---\n\nAlso in green, please.\n", 1);
    w.write_item(&key, &text);
    w.set_status(&key, "To Analyse");
    w.drive("the analyst worked again", |w| w.runs(&key, "analysis") == 2);
    w.rest(&key);
    assert!(w.prompt(&key, "analysis", 2).contains("Also in green, please."));
    w.drive("the board asks", |w| w.status(&key) == "In Review");
    w.set_status(&key, "Approved");
    let t = w.reach(&key, "deploy");
    w.drive("the board asks", |w| w.status(&key) == "Awaiting Deploy");
    // Approved in deploy: it does nothing at all.
    let before = (t.id, t.attempt, w.log("ci").len(), w.table("evidence").len());
    for status in ["Approved", "To Analyse", "Development"] {
        w.set_status(&key, status);
        passes(&w);
        let t = w.task(&key);
        assert_eq!((t.stage.as_str(), t.waiting.as_deref()), ("deploy", Some("confirm_deploy")), "{status}");
        assert_eq!(before, (t.id, t.attempt, w.log("ci").len(), w.table("evidence").len()), "{status}");
        assert_eq!(w.log("deploys").len(), 0);
        w.drive("the indication is back", |w| w.status(&key) == "Awaiting Deploy");
    }
    w.set_status(&key, "Confirm Deploy");
    w.reach(&key, "done");
    w.drive("the board shows it", |w| w.status(&key) == "Done");
    // A finished work item does not start again, and its status is never put back.
    w.set_status(&key, "To Analyse");
    passes(&w);
    assert_eq!(w.table("tasks").len(), 1);
    w.set_status(&key, "Backlog");
    passes(&w);
    assert_eq!(w.status(&key), "Backlog");
    w.run(&["advance", &key, "--reject", "late"]).code(4);
}

#[test]
fn rule_9_a_work_item_stopped_and_begun_again_is_another_task_next_to_the_old_one() {
    let w = Plan::new().top("limits: {max_concurrency: 4}").build();
    let key = w.new_item("Twice", &[]);
    w.plan(&format!("{key}.development"), "develop; (setsid sleep 600 &) ; hold dev; good");
    w.rest(&key);
    w.run(&["advance", &key, "--approve"]).code(0);
    w.drive("the developer works", |w| w.path("plan/at.dev").exists());
    let first = w.task(&key);
    w.set_status(&key, "STOP");
    w.drive("it is cancelled", |w| w.task(&key).stage == "cancelled");
    assert_eq!(w.processes(), Vec::<i32>::new(), "its agent's whole tree is gone");
    assert_eq!(w.git("orch", &["branch", "--list", "feature/*"]), "", "its branch is gone");
    assert!(!w.path("state-area/orch").join(&key).exists());
    assert!(w.state("archive").join(&key).exists());
    w.drive("the board shows it", |w| w.status(&key) == "Cancelled");
    passes(&w);
    assert_eq!(w.status(&key), "Cancelled");
    w.run(&["stop", &key]).code(0);
    w.run(&["advance", &key, "--reject", "late"]).code(4);
    // From scratch.
    std::fs::remove_file(w.path("plan").join(format!("{key}.development"))).unwrap();
    w.set_status(&key, "To Analyse");
    w.drive("a second task", |w| w.task(&key).id != first.id);
    w.rest(&key);
    w.run(&["advance", &key, "--approve"]).code(0);
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.attempt), ("deploy", 1));
    assert_eq!(t.branch.as_deref(), Some(format!("feature/{key}-twice-2").as_str()), "{t:?}");
    assert!(w.path("state-area/orch").join(format!("{key}-2")).exists());
    assert!(!w.path("state-area/orch").join(&key).exists());
    w.run(&["advance", &key, "--confirm-deploy"]).code(0);
    w.reach(&key, "done");
    assert!(w.state("sentinels/orch").join(format!("{key}-2")).exists());
    // Data outside the row has the task's id, which is never reused.
    let journal = w.table("journal");
    let (keys, tasks) = (journal.texts("key"), journal.texts("task_id"));
    assert!(keys.iter().zip(&tasks).all(|(key, task)| key.starts_with(&format!("t{task}/"))), "{keys:?}");
    assert!(tasks.contains(&"1".to_owned()) && tasks.contains(&"2".to_owned()), "{tasks:?}");
    w.until("both tasks' comments", |w| {
        ["<!-- orch:orch:t1/", "<!-- orch:orch:t2/"].iter().all(|m| w.item(&key).contains(m))
    });
    let deploy = w.table("deploys").texts("id").concat();
    assert!(deploy.starts_with("2-1-"), "{deploy}");
    let file = w.state(&format!("sentinels/orch/{key}-2/deploy.{deploy}.initiated.json"));
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(file["task"], 2, "{file}");
}

#[test]
fn rule_40_a_person_may_edit_the_folder_at_any_moment() {
    let w = World::new();
    let key = w.new_item("Edited", &[]);
    // Comments, unknown keys, order and CRLF are preserved.
    let text = w.item(&key).replacen("status:", "# mine\nmood: good # really\nstatus:", 1).replace('\n', "\r\n");
    w.write_item(&key, &text);
    w.plan(&format!("{key}.analysis"), "hold a; good");
    w.tick();
    w.at("a");
    w.until("the indication", |w| w.status(&key) == "Analysis");
    let now = w.item(&key);
    assert!(now.contains("# mine\r\nmood: good # really\r\nstatus: Analysis\r\n"), "{now:?}");
    // A file that is just being written: read later, nothing else suffers.
    w.write_item(&key, "");
    let ran = w.run(&["tick"]);
    assert!(ran.json["errors"].to_string().contains(&format!("{key}.md")), "{}", ran.out);
    assert_eq!(w.task(&key).withdrawn, None);
    w.write_item(&key, "---\nkey: ");
    w.run(&["tick"]);
    assert_eq!(w.task(&key).withdrawn, None, "half a file is no withdrawal");
    w.write_item(&key, &now);
    // Unknown status: no intent, and the indication is set again.
    w.set_status(&key, "Whatever I like");
    passes(&w);
    w.until("the indication is back", |w| w.status(&key) == "Analysis");
    // An editor's old buffer: it says To Analyse with an old `updated`: text, not an intent.
    w.go("a");
    w.rest(&key);
    w.drive("the board asks", |w| w.status(&key) == "In Review");
    w.write_item(&key, &text.replace("status: To Analyse", "status: Approved"));
    passes(&w);
    assert_eq!(w.task(&key).stage, "analysis", "a stale buffer approves nothing");
    w.drive("the indication is back", |w| w.status(&key) == "In Review");
    // Files without a key in their name are no items and are reported; others are ignored.
    std::fs::write(w.state("issues/ideas.md"), "---\nstatus: To Analyse\ntitle: x\n---\n").unwrap();
    std::fs::write(w.state("issues/notes.txt"), "x").unwrap();
    let ran = w.run(&["tick"]);
    assert!(ran.out.contains("ideas.md"), "{}", ran.out);
    assert_eq!(w.table("tasks").len(), 1);
    std::fs::remove_file(w.state("issues/ideas.md")).unwrap();
    // An item that a person made with a key works, and its number is never used again.
    std::fs::write(w.state("issues/ORCH-40.md"), "---\nstatus: To Analyse\ntitle: By hand\n---\nDo it.\n").unwrap();
    w.tick();
    assert!(w.find("ORCH-40").is_some());
    assert_eq!(w.new_item("Next", &["--draft"]), "ORCH-41");
    assert_eq!(w.status("ORCH-41"), "Backlog");
    std::fs::remove_file(w.state("issues/ORCH-41.md")).unwrap();
    assert_eq!(w.new_item("Next", &["--draft"]), "ORCH-42");
    // Moved to a closed status by a person: withdrawn, held, not put back; moved back: it continues.
    w.set_status(&key, "Done");
    passes(&w);
    let t = w.task(&key);
    assert!(t.withdrawn.unwrap().contains("\"item_closed\""));
    assert_eq!(w.status(&key), "Done");
    w.set_status(&key, "In Review");
    passes(&w);
    assert_eq!(w.task(&key).withdrawn, None);
    // The file is deleted: held and explained, never cancelled by guess.
    let kept = w.item(&key);
    std::fs::remove_file(w.state("issues").join(format!("{key}.md"))).unwrap();
    passes(&w);
    assert!(w.task(&key).withdrawn.unwrap().contains("\"item_gone\""));
    w.write_item(&key, &kept);
    passes(&w);
    assert_eq!(w.task(&key).withdrawn, None);
}

#[test]
fn rule_40_edits_made_while_steps_write_are_never_lost() {
    let w = World::new();
    let key = w.new_item("Busy", &[]);
    w.tick();
    w.rest(&key);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let path = w.state("issues").join(format!("{key}.md"));
    let lost = std::thread::scope(|s| {
        s.spawn(|| {
            // Somebody moves the card to and fro; every reconcile sets it back and comments.
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                w.run(&["reconcile"]);
            }
        });
        let mut lost = 0;
        for n in 0..40 {
            // An editor that reads, changes and saves by rename, as vim and sed do.
            let text = std::fs::read_to_string(&path).unwrap();
            let new = text.replacen("status: In Review", "status: Development", 1) + &format!("line {n}\n");
            let temp = w.path("edit.tmp");
            std::fs::write(&temp, new).unwrap();
            std::fs::rename(&temp, &path).unwrap();
            pause(25);
            let seen = std::fs::read_to_string(&path).unwrap();
            lost += usize::from(!seen.contains(&format!("line {n}\n")));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        lost
    });
    assert_eq!(lost, 0, "{}", w.item(&key));
    assert_eq!(w.task(&key).stage, "analysis");
}

#[test]
fn labels_replace_the_person_only_in_scope() {
    let w =
        Plan::new().and("SIDE").top("auto_label: {enabled: true, repos: side}\nlimits: {max_concurrency: 2}").build();
    let labels = ["--label", " AutoApprove ", "--label", "autodeploy"];
    let out = w.new_item("Out of scope", &[&labels[..], &["--project", "ORCH"]].concat());
    let inside = w.new_item("In scope", &[&labels[..], &["--project", "SIDE"]].concat());
    let half = w.new_item("Half", &["--label", "autoApprove", "--project", "side"]);
    w.rest(&out);
    w.reach(&inside, "done");
    let t = w.rest(&half);
    assert_eq!((t.stage.as_str(), t.waiting.as_deref()), ("deploy", Some("confirm_deploy")));
    let t = w.task(&out);
    assert_eq!((t.stage.as_str(), t.waiting.as_deref()), ("analysis", Some("approval")));
    let item = w.item(&inside);
    assert!(item.contains("Label \"autoApprove\": ") && item.contains("Label \"autoDeploy\": "), "{item}");
}
