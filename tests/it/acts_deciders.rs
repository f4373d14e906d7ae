//! Whose decisions count on a board (BRD-3).

use super::support::world::{Plan, World};

fn board(deciders: &str) -> String {
    format!("board: {{kind: local, deciders: [{deciders}]}}")
}

/// The account that owns the files of this test.
fn me() -> String {
    let out = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn why(w: &World) -> String {
    w.table("intents").with("state", "dismissed").last("reason")
}

#[test]
fn only_a_listed_user_starts_work_and_a_label_of_anybody_else_is_text() {
    let w = Plan::new().auto().project(&board("ann, bob")).build();
    let key = w.auto("Not mine");
    w.tick();
    assert!(w.find(&key).is_none(), "nothing began");
    let said = why(&w);
    assert!(said.contains(&me()) && said.contains("board.deciders"), "{said}");
    assert!(w.say(&["explain", &key]).out.contains("board.deciders"));

    let w = Plan::new().auto().project(&board(&me())).build();
    let key = w.auto("Mine");
    assert_eq!(w.rest(&key).stage, "done", "{}", w.dump());
    assert_eq!(w.table("audit").with("event", "task_created").one("detail/by/user"), me());
}

#[test]
fn a_later_edit_is_shown_and_reaches_no_prompt() {
    let w = Plan::new().project(&board(&me())).build();
    let key = w.new_item("First words", &[]);
    w.rest(&key);
    assert!(!w.say(&["explain", &key]).out.contains("edited since"));
    let path = w.state("issues").join(format!("{key}.md"));
    let text = std::fs::read_to_string(&path).unwrap().replace("First words", "Other words");
    std::fs::write(&path, text).unwrap();
    w.tick();
    w.drive("the edit was read", |w| w.say(&["explain", &key]).out.contains("edited since it was picked up"));
    // A step's own work is not reported as waiting in the queue.
    let said = w.run(&["advance", &key, "--approve"]).code(0).out.clone();
    assert!(said.contains("\"job_started\"") && !said.contains("\"queued\""), "{said}");
    w.rest(&key);
    let prompt = w.prompt(&key, "development", 1);
    assert!(prompt.contains("First words") && !prompt.contains("Other words"), "{prompt}");
}
