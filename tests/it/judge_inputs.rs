//! Verdict inputs (BND-5): changes to what decides the meaning of CI are named first to judges and to whoever releases.

use super::support::world::{Plan, World};

const MAKES: &str =
    "develop; printf 'test:\\n\\ttrue\\n' > Makefile; mkdir -p .cargo; echo '[build]' > .cargo/config.toml; cost 0.01";

fn alert(w: &World, kind: &str) -> String {
    w.table("outbox").with("sink", "alert").with("payload/kind", kind).one("payload/detail")
}

#[test]
fn a_changed_build_definition_is_named_first_everywhere_and_a_person_releases_the_deploy() {
    let w = Plan::new().auto().build();
    w.plan("development", MAKES);
    let key = w.auto("Build it");
    let t = w.rest(&key);
    // The label released the analysis, but does not release the deploy.
    assert_eq!((t.stage.as_str(), t.waiting.as_deref()), ("deploy", Some("confirm_deploy")), "{}", w.dump());
    let prompt = w.prompt(&key, "review", 1);
    let (notice, run) = (prompt.find("`Makefile`: build definition").unwrap(), prompt.find("# This run").unwrap());
    assert!(notice < run && prompt.contains("`.cargo/config.toml`"), "{prompt}");
    assert!(!w.prompt(&key, "testing", 1).contains("build definition"));
    let detail = alert(&w, "confirm_deploy_wanted");
    assert!(detail.contains("Makefile (build definition)") && detail.contains("label does not count"), "{detail}");
    for command in ["status", "show", "explain"] {
        let said = w.say(&[command, &key]).code(0).out;
        assert!(said.contains("Makefile") && said.contains(".cargo/config.toml"), "{command}: {said}");
        assert!(!said.contains(&format!("src/{key}.txt (")), "{command}: {said}");
    }
    let shown = w.run(&["show", &key]).code(0).json;
    assert_eq!(shown["inputs"][1]["path"], "Makefile", "{shown}");
    w.run(&["advance", &key, "--confirm-deploy"]).code(0);
    w.reach(&key, "done");
    // The card still shows it.
    assert!(w.say(&["status", &key]).out.contains("Makefile"));
    w.run(&["audit", "verify"]).code(0);
}

#[test]
fn ordinary_work_needs_no_person_and_an_operator_who_asks_for_none_is_not_asked() {
    let w = Plan::new().auto().build();
    let key = w.auto("Plain");
    w.reach(&key, "done");
    assert!(!w.prompt(&key, "review", 1).contains("# Changed by this branch"));
    let w = Plan::new().auto().project("deploy: {command: [./deploy.sh], confirm: false, env: {LOG: /dev}}").build();
    w.plan("development", MAKES);
    let key = w.new_item("Told", &["--label", "autoApprove"]);
    w.drive("it is deployed or blocked", |w| {
        w.find(&key).is_some_and(|t| t.stage == "done" || t.blocked.is_some() || t.waiting.is_some())
    });
    assert_eq!(w.task(&key).waiting, None, "nobody is asked");
    assert!(w.say(&["status", &key]).out.contains("Makefile (build definition)"));
}

#[test]
fn a_dry_run_reads_the_inputs_and_says_what_the_next_step_does() {
    let w = Plan::new().auto().build();
    w.plan("development", MAKES);
    let key = w.auto("Dry");
    w.rest(&key);
    // As if the step had been killed before it could check.
    w.table("tasks").put("waiting_for", serde_json::Value::Null);
    w.table("evidence").with("gate", "verdict_inputs").put("gate", "deploy_status");
    let rows = || w.table("evidence").with("gate", "verdict_inputs").len();
    w.run(&["advance", &key, "--dry-run"]);
    assert_eq!((rows(), w.task(&key).waiting), (0, None));
    w.run(&["tick"]);
    assert_eq!((rows(), w.task(&key).waiting.as_deref()), (1, Some("confirm_deploy")));
}
