//! Deploys end to end (SHIP-5, RULE-5, RULE-16, RULE-18, RULE-28, RULE-35).

use crate::support::pipe::{Pipe, Setup};

const PLAIN: &str = "echo \"$ORCH_REVISION\" >> \"$TARGET/deploys\"";

fn with(script: &str, deploy: &str) -> Pipe {
    let deploy = if deploy.contains("confirm") { deploy.to_owned() } else { format!("confirm: false, {deploy}") };
    Pipe::new(Setup {
        project: format!("deploy: {{{deploy}command: [./deploy.sh], env: {{TARGET: PROD}}}}"),
        files: vec![("deploy.sh", format!("#!/bin/sh\n{script}\n"))],
        ..Setup::default()
    })
}

fn deploys(pipe: &Pipe) -> Vec<String> {
    pipe.read("prod/deploys").lines().map(str::to_owned).collect()
}

#[test]
fn exit_0_deploys_the_landed_commit_once_and_says_so() {
    let pipe = with(PLAIN, "");
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    let landed = pipe.of(&key, "landed_sha");
    assert_eq!(deploys(&pipe), [landed.as_str()]);
    assert_eq!(pipe.remote(&["rev-parse", "main"]), landed);
    let head = pipe.of(&key, "head_sha");
    let tree = |c: &str| pipe.remote(&["rev-parse", &format!("{c}^{{tree}}")]);
    assert_eq!(tree(&landed), tree(&head), "what landed is what was tested");
    let log = pipe.evidence("14-deploy-log.md");
    assert!(log.contains("deploy_status: SUCCESS") && log.contains(&landed), "{log}");
    assert!(!pipe.at("state/sentinels/demo/merge-lease.json").exists(), "the lease is free");
    // Nothing more to do, whichever step runs.
    for step in [&["tick"][..], &["reap"], &["reconcile"], &["advance"]] {
        assert_eq!(pipe.orch(step).code, 0);
    }
    assert_eq!(pipe.read(&format!("state/issues/{key}.md")).matches("14-deploy-log.md:").count(), 1);
    assert_eq!(deploys(&pipe).len(), 1);
}

#[test]
fn rule_28_exit_1_is_reworked_on_a_new_branch_from_the_merged_default_while_others_wait() {
    let pipe = with(
        "[ -e \"$TARGET/ok\" ] || { touch \"$TARGET/failed\"; echo 'the migration failed' >&2; exit 1; }\necho \"$ORCH_REVISION\" >> \"$TARGET/deploys\"",
        "",
    );
    // The rework waits for the test's signal file, so that another task reaches the gate meanwhile.
    pipe.agent(
        "development",
        "#!/bin/sh\nif [ \"$ORCH_ATTEMPT\" = 2 ]; then while [ ! -e \"HERE/go\" ]; do sleep 0.05; done; fi\necho \"$ORCH_TASK $ORCH_ATTEMPT\" >> \"$ORCH_TASK.txt\"\n"
            .replace("HERE", pipe.dir.path().to_str().unwrap())
            .as_str(),
    );
    let config = pipe.at("orch.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("min_free_mb: 1\n", "min_free_mb: 1\nlimits: {max_concurrency: 2}\n"))
        .unwrap();
    let first = pipe.item("First");
    pipe.until("the rollback", |p| p.of(&first, "attempt") == "2");
    let (old, landed) =
        (pipe.table("journal").with("kind", "branch_created").one("intent/branch"), pipe.of(&first, "landed_sha"));
    assert!(pipe.of(&first, "findings").contains("the migration failed"), "{}", pipe.of(&first, "findings"));
    assert_eq!(pipe.remote(&["rev-parse", "main"]), landed, "exit 1 takes nothing back");
    let second = pipe.item("Second");
    pipe.until("the second at the gate", |p| {
        !p.table("evidence").with("task_id", p.of(&second, "id")).with("gate", "ci_green").is_empty()
    });
    let said = pipe.orch(&["tick", "--json"]).json();
    let held = said["skipped"].as_array().unwrap();
    assert!(held.iter().any(|h| h["task"] == second.as_str() && h["rule"] == "landed_not_deployed"), "{said}");
    std::fs::write(pipe.at("prod/ok"), "").unwrap();
    std::fs::write(pipe.at("go"), "").unwrap();
    pipe.until_stage(&first, "done");
    let branch = pipe.of(&first, "branch");
    assert_ne!(branch, old);
    assert!(branch.contains("rework-2"), "{branch}");
    assert_eq!(
        pipe.table("journal").with("kind", "branch_created").with("intent/branch", branch).one("intent/base"),
        landed
    );
    assert_eq!(pipe.table("journal").with("kind", "pr_opened").with("task_id", 1).len(), 2);
    pipe.until_stage(&second, "done");
    let merged = pipe.events("pr_merged");
    assert_eq!(merged.len(), 3, "{merged:?}");
    // The sentinels of the first attempt were archived when the second deploy was opened.
    let archived = crate::support::pipe::files(&pipe.at(&format!("state/archive/{first}")));
    let names: Vec<_> = archived.iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|n| n.starts_with("deploy.1-1-") && n.ends_with("result.json")), "{names:?}");
}

/// Production unknown: blocked, frozen, one alert, nothing automatic; `unfreeze` and `retry` deploy once more under a
/// new id, without a second merge.
fn unknown(script: &str, deploy: &str, said: &str) {
    let pipe = with(script, deploy);
    let key = pipe.item("One");
    pipe.until_blocked(&key);
    let why = pipe.of(&key, "blocked_reason");
    assert!(why.contains("production is unknown") && why.contains(said), "{why}");
    let freeze = pipe.table("freezes").with("repo", "demo").one("reason");
    assert!(freeze.contains("production is unknown"), "{freeze}");
    let alerts = pipe.alerts();
    assert_eq!(alerts.iter().filter(|a| *a == "blocked").count(), 1, "{alerts:?}");
    assert_eq!(alerts.iter().filter(|a| *a == "frozen").count(), 1, "{alerts:?}");
    assert!(pipe.evidence("14-deploy-log.md").contains("deploy_status: FAILED"));
    for step in [&["tick"][..], &["reap"], &["advance"], &["tick"]] {
        pipe.orch(step);
    }
    assert_eq!(pipe.table("runs").with("kind", "deploy").len(), 1, "never again by itself");
    let landed = pipe.of(&key, "landed_sha");
    std::fs::write(pipe.at("prod/ok"), "").unwrap();
    // A retry alone does not lift the freeze.
    assert_eq!(pipe.orch(&["retry", &key]).code, 0);
    pipe.orch(&["tick"]);
    assert_eq!(pipe.table("runs").with("kind", "deploy").len(), 1);
    assert_eq!(pipe.orch(&["unfreeze", "ORCH"]).code, 0);
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.of(&key, "landed_sha"), landed);
    assert_eq!(pipe.events("pr_merged").len(), 1, "one merge");
    let ids = pipe.table("deploys").texts("id");
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert_eq!(deploys(&pipe), [landed.as_str()]);
}

#[test]
fn rule_18_exit_2_is_unknown_until_a_person_deploys_again() {
    unknown(&format!("[ -e \"$TARGET/ok\" ] || exit 2\n{PLAIN}"), "", "exit 2");
}

#[test]
fn a_secret_that_ci_checks_or_deploy_write_reaches_nobody() {
    let key = "{env: DEPLOY_KEY}";
    let mut pipe = Pipe::new(Setup {
        project: format!(
            "stages: [development, deploy-staging, deploy]\nstaging: {{checks: [{{id: S1, kind: command, command: [./smoke.sh], env: {{KEY: {key}}}}}]}}\ndeploy: {{confirm: false, command: [./deploy.sh], env: {{KEY: {key}}}}}"
        ),
        files: vec![
            ("smoke.sh", "#!/bin/sh\necho \"smoke with $KEY\" >&2\n[ \"$ORCH_ATTEMPT\" != 2 ]\n".into()),
            ("deploy.sh", "#!/bin/sh\necho \"deploying with $KEY\"\nexit 2\n".into()),
        ],
        ..Setup::default()
    });
    pipe.person_changes(
        &[("ci.sh", "#!/bin/sh\necho \"testing with $KEY\"\n[ \"$ORCH_ATTEMPT\" != 1 ]\n")],
        "a CI that talks",
    );
    let text = pipe.read("orch.yaml").replace("[./ci.sh]", &format!("[./ci.sh], env: {{KEY: {key}}}"));
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    let secret = ["the", "operators", "own", "word"].join("-");
    pipe.env.push(("DEPLOY_KEY".into(), secret.clone()));
    let key = pipe.item("One");
    pipe.until_blocked(&key);
    assert_eq!(pipe.of(&key, "attempt"), "3", "{}", pipe.story());
    // Each output is reported, without the secret.
    let prompt = |n| pipe.read(&format!("prompts/{key}-development-{n}.md"));
    assert!(prompt(2).contains("testing with [secret: projects.ORCH."), "{}", prompt(2));
    assert!(prompt(3).contains("smoke with [secret: projects.ORCH."), "{}", prompt(3));
    assert!(pipe.evidence("14-deploy-log.md").contains("deploying with [secret: pro"));
    let holding = pipe.holding(&secret);
    assert!(holding.is_empty(), "nor do their own logs keep it: {holding:?}");
}

#[test]
fn rule_18_a_command_past_its_time_is_unknown() {
    unknown(&format!("[ -e \"$TARGET/ok\" ] || exec sleep 600\n{PLAIN}"), "timeout_s: 1, ", "its time was up");
}

#[test]
fn rule_18_a_command_ended_by_a_signal_is_unknown() {
    unknown(&format!("[ -e \"$TARGET/ok\" ] || kill -9 $$\n{PLAIN}"), "", "signal 9");
}

#[test]
fn rule_18_half_a_result_is_unknown() {
    unknown(
        &format!(
            "[ -e \"$TARGET/ok\" ] || {{ printf '{{\"schema\":1,\"ta' > \"$ORCH_DEPLOY_RESULT\"; exit 0; }}\n{PLAIN}"
        ),
        "",
        "incomplete",
    );
}

/// Its wrapper decides (BND-6): a file that says otherwise counts neither as success nor as failure.
#[test]
fn a_result_that_says_otherwise_than_the_wrapper_is_unknown() {
    let says = |exit: u8, own: u8| {
        format!(
            "[ -e \"$TARGET/ok\" ] || {{ printf '{{\"schema\":1,\"task\":\"%s\",\"attempt\":%s,\"nonce\":\"%s\",\"exit\":{exit}}}' \"$ORCH_TASK\" \"$ORCH_ATTEMPT\" \"$ORCH_DEPLOY_NONCE\" > \"$ORCH_DEPLOY_RESULT\"; exit {own}; }}\n{PLAIN}"
        )
    };
    unknown(&says(0, 1), "", "its result file says otherwise: exit 0");
    unknown(&says(1, 0), "", "its result file says otherwise: exit 1");
    crate::support::attacks::seen("judges", "forge a deploy's result", crate::support::attacks::Held::Off, false);
}

#[test]
fn rule_35_a_wrapper_killed_with_its_command_leaves_an_unknown_deploy_that_is_never_started_again() {
    let pipe = with(
        &format!(
            "[ -e \"$TARGET/ok\" ] || {{ echo $PPID > \"$TARGET/ppid\"; echo $$ > \"$TARGET/pid\"; exec sleep 600; }}\n{PLAIN}"
        ),
        "",
    );
    let key = pipe.item("One");
    pipe.until("the command", |p| p.at("prod/pid").exists() && !p.read("prod/pid").is_empty());
    for name in ["prod/ppid", "prod/pid"] {
        let pid: i32 = pipe.read(name).trim().parse().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
    }
    pipe.until_blocked(&key);
    assert_eq!(pipe.table("deploys").texts("state"), ["settled"]);
    assert!(pipe.table("freezes").one("reason").contains("unknown"));
    let result = crate::support::pipe::files(&pipe.at("state/sentinels"));
    let result: Vec<_> = result.iter().filter(|p| p.to_string_lossy().ends_with(".result.json")).collect();
    assert!(
        std::fs::read_to_string(result[0]).unwrap().contains("\"unknown\""),
        "the window closes by a result of its own"
    );
    assert_eq!(deploys(&pipe).len(), 0);
}

#[test]
fn a_server_that_the_deploy_started_outlives_it() {
    let pipe =
        with(&format!("{PLAIN}\n(while :; do sleep 0.1; done) > /dev/null 2>&1 &\necho $! > \"$TARGET/server\""), "");
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    let pid: i32 = pipe.read("prod/server").trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_ok(), "production was ended with its wrapper");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn rule_24_halt_and_freeze_hold_the_opening_of_a_deploy() {
    let pipe = with(PLAIN, "confirm: true, ");
    let key = pipe.item("One");
    assert_eq!(pipe.orch(&["advance", &key, "--confirm-deploy"]).code, 2, "no task yet");
    pipe.until("the parking", |p| p.of(&key, "waiting_for") == "confirm_deploy");
    pipe.orch(&["tick"]);
    assert!(
        pipe.read(&format!("state/cards/{key}.txt")).contains("Confirm Deploy"),
        "{}",
        pipe.read(&format!("state/cards/{key}.txt"))
    );
    assert!(pipe.read(&format!("state/issues/{key}.md")).contains("Awaiting Deploy"));
    assert_eq!(pipe.of(&key, "critical"), "");
    assert_eq!(pipe.orch(&["halt", "--reason", "night"]).code, 0);
    let said = pipe.orch(&["advance", &key, "--confirm-deploy"]);
    assert!(said.code < 2, "{}", said.all());
    pipe.orch(&["tick"]);
    assert_eq!(pipe.events("deploy_initiated").len(), 0);
    pipe.orch(&["freeze", "demo", "--reason", "sick"]);
    let card = || pipe.read(&format!("state/cards/{key}.txt"));
    assert!(card().contains("is frozen: sick"), "{}", card());
    pipe.orch(&["resume"]);
    let said = pipe.orch(&["tick", "--json"]).json();
    assert!(said["skipped"].as_array().unwrap().iter().any(|h| h["rule"] == "freeze"), "{said}");
    assert_eq!(pipe.events("deploy_initiated").len(), 0);
    pipe.orch(&["unfreeze", "demo"]);
    assert!(!card().contains("is frozen"), "{}", card());
    pipe.until_stage(&key, "done");
    assert_eq!(deploys(&pipe).len(), 1);
}

#[test]
fn confirm_deploy_returns_with_the_command_started() {
    let pipe = with(&format!("touch \"$TARGET/begun\"\n{PLAIN}"), "confirm: true, ");
    let key = pipe.item("One");
    pipe.until("the parking", |p| p.of(&key, "waiting_for") == "confirm_deploy");
    let said = pipe.orch(&["advance", &key, "--confirm-deploy"]);
    assert_eq!(said.code, 0, "{}", said.all());
    let states = pipe.table("deploys").texts("state");
    assert!(["started", "settled"].contains(&states[0].as_str()), "{states:?}");
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.orch(&["advance", &key, "--confirm-deploy"]).code, 4);
}

#[test]
fn rule_1_artefacts_go_to_the_branch_after_done_where_it_is_asked_for() {
    let pipe = with(PLAIN, "artefacts_after_merge: branch, ");
    let key = pipe.item("One");
    pipe.until("the artefacts", |p| p.remote(&["log", "--format=%s", "main"]).contains("orch's record"));
    assert_eq!(pipe.of(&key, "stage"), "done");
    let shown = pipe.remote(&["show", &format!("main:docs/work-items/{key}/14-deploy-log.md")]);
    assert!(shown.contains("deploy_status: SUCCESS"), "{shown}");
    let changed = pipe.remote(&["diff", "--name-only", "main~1", "main"]);
    assert!(changed.lines().all(|p| p.starts_with(&format!("docs/work-items/{key}/"))), "{changed}");
    for _ in 0..3 {
        pipe.orch(&["tick"]);
    }
    assert_eq!(pipe.remote(&["log", "--format=%s", "main"]).matches("orch's record").count(), 1);
    assert!(!pipe.at("state/sentinels/demo/merge-lease.json").exists());
}

/// A default branch that refuses orch's record of a deploy needs a person: reported once, no error in each step, and
/// recorded later.
#[test]
fn rule_1_artefacts_that_the_default_branch_refuses_are_alerted_once_and_committed_later() {
    let pipe = with(&format!("touch \"$TARGET/deployed\"\n{PLAIN}"), "artefacts_after_merge: branch, ");
    // The merge is accepted; the record of it, whose only author is orch, is not.
    let hook = pipe.at("remote.git/hooks/pre-receive");
    let deployed = pipe.at("prod/deployed");
    let text =
        format!("#!/bin/sh\n[ ! -e {} ] || {{ echo 'release window closed' >&2; exit 1; }}\n", deployed.display());
    std::fs::write(&hook, text).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let key = pipe.item("One");
    pipe.until("the refusal", |p| !p.events("artefacts_refused").is_empty());
    assert_eq!(pipe.of(&key, "stage"), "done");
    for _ in 0..3 {
        let ran = pipe.orch(&["tick"]);
        assert_eq!(ran.code, 0, "{}", ran.all());
    }
    assert!(pipe.events("artefacts_refused")[0].contains("release window closed"));
    assert_eq!(pipe.table("outbox").like("key", "alert/artefacts_refused/").len(), 1);
    std::fs::remove_file(&hook).unwrap();
    pipe.table("journal").with("kind", "artefact_committed").put("intent/until", 0);
    pipe.until("the artefacts", |p| p.remote(&["log", "--format=%s", "main"]).contains("orch's record"));
}

#[test]
fn rule_34_an_initiated_file_that_the_database_does_not_know_stops_the_task() {
    let pipe = with(PLAIN, "confirm: true, ");
    let key = pipe.item("One");
    pipe.until("the parking", |p| p.of(&key, "waiting_for") == "confirm_deploy");
    let dir = pipe.at(&format!("state/sentinels/demo/{key}"));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("deploy.1-1-9.initiated.json"), "{\"schema\":1}").unwrap();
    pipe.orch(&["advance", &key, "--confirm-deploy"]);
    pipe.until_blocked(&key);
    assert!(pipe.of(&key, "blocked_reason").contains("deploy 1-1-9"), "{}", pipe.of(&key, "blocked_reason"));
    assert_eq!(deploys(&pipe).len(), 0);
    assert_eq!(pipe.table("freezes").texts("repo"), ["demo"]);
}

#[test]
fn rule_16_a_stop_during_the_deploy_waits_for_its_result_and_comes_too_late() {
    let pipe =
        with(&format!("touch \"$TARGET/begun\"; while [ ! -e \"$TARGET/go\" ]; do sleep 0.05; done\n{PLAIN}"), "");
    let key = pipe.item("One");
    pipe.until("the command", |p| p.at("prod/begun").exists());
    let said = pipe.orch(&["stop", &key]);
    assert_eq!(said.code, 4, "{}", said.all());
    assert_eq!(pipe.orch(&["stop", &key]).code, 4);
    std::fs::write(pipe.at("prod/go"), "").unwrap();
    pipe.until_stage(&key, "done");
    assert!(pipe.events("stage_advanced").last().unwrap().contains("too late"));
}

#[test]
fn a_deploy_that_failed_under_a_stop_is_shown_on_the_card_of_the_cancelled_task() {
    let pipe =
        with("#!/bin/sh\ntouch \"$TARGET/begun\"; while [ ! -e \"$TARGET/go\" ]; do sleep 0.05; done\nexit 2\n", "");
    let key = pipe.item("One");
    pipe.until("the command", |p| p.at("prod/begun").exists());
    assert_eq!(pipe.orch(&["stop", &key]).code, 4);
    std::fs::write(pipe.at("prod/go"), "").unwrap();
    pipe.until_stage(&key, "cancelled");
    let card = pipe.orch(&["status", &key]).out;
    assert!(card.contains("The deploy failed: production is unknown"), "{card}");
}

/// A command that can't be started never ran: production is unchanged, the reason is reported, nothing is frozen, and
/// the right to start it is still available.
fn never_ran(script: &str, said: &str) {
    let pipe = Pipe::new(Setup {
        project: "deploy: {confirm: false, command: [./deploy.sh], env: {TARGET: PROD}}".into(),
        files: vec![("deploy.sh", script.to_owned())],
        ..Setup::default()
    });
    let key = pipe.item("One");
    let why = pipe.hurried_to_a_block(&key);
    assert!(
        why.contains("could not be started") && why.contains(said) && why.contains("production is unchanged"),
        "{why}"
    );
    assert_eq!(pipe.table("deploys").texts("state"), ["landed"]);
    assert!(pipe.table("freezes").is_empty(), "{}", pipe.story());
    assert!(
        !pipe
            .at(&format!("state/sentinels/demo/{key}"))
            .read_dir()
            .unwrap()
            .flatten()
            .any(|f| { f.file_name().to_string_lossy().ends_with(".started.json") })
    );
    // The script is fixed on the default branch; a person's retry starts it, without a second merge.
    pipe.person_changes(&[("deploy.sh", &format!("#!/bin/sh\n{PLAIN}\n"))], "a deploy that starts");
    assert_eq!(pipe.orch(&["retry", &key]).code, 0);
    pipe.until_stage(&key, "done");
    assert_eq!(deploys(&pipe).len(), 1);
    assert_eq!(pipe.events("pr_merged").len(), 1);
}

#[test]
fn a_deploy_command_whose_interpreter_is_missing_never_ran() {
    never_ran("#!/nowhere/interpreter\n", "can't be started");
}

#[test]
fn a_deploy_command_that_may_not_be_executed_never_ran() {
    never_ran("echo not executable\n", "can't be started");
}
