//! Staging and image freshness end to end (SHIP-3, SHIP-4, RULE-8, RULE-23), and a deploy that replaces orch itself.

use crate::support::pipe::{Pipe, Setup};
use crate::support::rows::foreign;
use crate::support::web::{Turn, Web};

fn staged(staging: &str, files: Vec<(&'static str, String)>) -> Pipe {
    Pipe::new(Setup {
        project: format!("stages: [development, deploy-staging, deploy]\nstaging: {{{staging}}}"),
        files,
        ..Setup::default()
    })
}

#[test]
fn declared_checks_of_every_kind_move_a_task_and_a_waived_one_is_on_the_card() {
    let web = Web::always(Turn::Say(200, "ok"));
    let nobody = Web::nobody();
    let pipe = staged(
        &format!(
            "checks: [{{id: S1, kind: http, url: \"{}\"}}, {{id: S2, kind: command, command: [./smoke.sh]}}, {{id: S3, kind: tcp, address: \"{nobody}\", timeout_s: 1}}, {{id: S4, kind: sql, database: ./staging.db, query: \"select 1\", expect: \"1\"}}], sandbox_infra: [{{id: S3, signature: refused, owner: ann, expires: 2099-01-01}}]",
            web.url("/")
        ),
        vec![(
            "smoke.sh",
            "#!/bin/sh\n[ -e app.txt ] && [ \"$ORCH_STAGE\" = deploy-staging ] && [ -n \"$ORCH_REVISION\" ]\n".into(),
        )],
    );
    foreign(&pipe.at("staging.db"), 0);
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    let log = pipe.evidence("15-staging-log.md");
    assert!(log.contains("staging_status: SUCCESS") && log.contains("| S3 | SANDBOX_INFRA | FAIL (waived)"), "{log}");
    pipe.until("the waived check on the card", |p| p.read(&format!("state/cards/{key}.txt")).contains("waived: S3"));
    // Run manually, the same checks on the same head; --strict waives nothing.
    let said = pipe.orch(&["staging-check", "--task", &key, "--report", "r.md", "--junit", "j.xml"]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(said.out.contains("INFRA-WAIVED S3") && said.out.trim_end().ends_with("VERDICT SUCCESS"), "{}", said.all());
    // A commit that YAML would read as a number is in quotes.
    let report = pipe.read("r.md").replace('"', "");
    assert!(report.contains(&format!("head: {}", pipe.of(&key, "head_sha"))), "{report}");
    let strict = pipe.orch(&["staging-check", "--strict", "--project", "demo", "--json"]);
    assert_eq!((strict.code, strict.json()["verdict"].as_str()), (1, Some("FAILED")), "{}", strict.all());
    let mut off = pipe.command(&["staging-check"]);
    assert_eq!(off.env("ORCH_STAGING_ENABLED", "false").output().unwrap().status.code(), Some(4));
}

#[test]
fn a_real_failure_rolls_back_with_the_log() {
    let pipe = staged(
        "checks: [{id: S1, kind: command, command: [./smoke.sh]}]",
        vec![(
            "smoke.sh",
            "#!/bin/sh\n! grep -q 'round 1' ORCH-1.txt || { echo 'round 1 is not good enough' >&2; exit 1; }\n".into(),
        )],
    );
    pipe.agent("development", "#!/bin/sh\necho \"round $ORCH_ATTEMPT\" > \"$ORCH_TASK.txt\"\n");
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.of(&key, "attempt"), "2");
    assert!(pipe.events("stage_rolled_back")[0].contains("round 1 is not good enough"));
    assert!(pipe.read(&format!("prompts/{key}-development-2.md")).contains("round 1 is not good enough"));
}

#[test]
fn rule_23_a_branch_may_not_bring_its_own_check() {
    let pipe = staged(
        "checks: [{id: S1, kind: command, command: [./smoke.sh]}]",
        vec![("smoke.sh", "#!/bin/sh\nexit 0\n".into())],
    );
    pipe.agent(
        "development",
        "#!/bin/sh\necho \"round $ORCH_ATTEMPT\" >> app.txt\n[ -e HERE/once ] || { touch HERE/once; printf '#!/bin/sh\\nexit 1\\n' > smoke.sh; }\n"
            .replace("HERE", pipe.dir.path().to_str().unwrap())
            .as_str(),
    );
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    let ended = pipe.table("runs").with("kind", "agent").lines(&["result", "result_why"]);
    assert!(ended[0].contains("may not change smoke.sh"), "{ended:?}");
    assert_eq!(pipe.of(&key, "attempt"), "1");
}

const REVISION: &str = "revision: {command: [./revision.sh], timeout_s: 2}, build: {command: [./build.sh], timeout_s: 20, env: {TARGET: PROD}}";

fn fresh(build: &str) -> Pipe {
    Pipe::new(Setup {
        project: format!("staging: {{{REVISION}}}"),
        files: vec![
            ("revision.sh", "#!/bin/sh\ncat PROD/staged 2>/dev/null || echo none\n".into()),
            ("build.sh", build.to_owned()),
        ],
        ..Setup::default()
    })
}

/// The scripts name the world's folder, which is known only now.
fn place(pipe: &Pipe) {
    let prod = pipe.at("prod");
    let text = std::fs::read_to_string(pipe.at("person/revision.sh")).unwrap().replace("PROD", prod.to_str().unwrap());
    pipe.person_changes(&[("revision.sh", &text)], "place the scripts");
}

#[test]
fn a_stale_image_is_built_once_and_then_is_the_head() {
    let pipe = fresh("#!/bin/sh\necho \"$ORCH_REVISION\" > \"$TARGET/staged\"; echo built >> \"$TARGET/builds\"\n");
    place(&pipe);
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.read("prod/staged").trim(), pipe.of(&key, "head_sha"));
    assert_eq!(pipe.read("prod/builds").lines().count(), 1);
}

#[test]
fn an_image_that_stays_stale_blocks_without_an_attempt_and_is_asked_again_after_a_retry() {
    let pipe = fresh("#!/bin/sh\necho built >> \"$TARGET/builds\"\n");
    place(&pipe);
    let key = pipe.item("One");
    let why = pipe.hurried_to_a_block(&key);
    assert!(why.contains("staging runs \"none\"") && why.contains("still after 2 s"), "{why}");
    assert_eq!((pipe.of(&key, "attempt"), pipe.read("prod/builds").lines().count()), ("1".into(), 1));
    std::fs::write(pipe.at("prod/staged"), pipe.of(&key, "head_sha")).unwrap();
    assert_eq!(pipe.orch(&["retry", &key]).code, 0);
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.table("runs").with("kind", "agent").len(), 1);
}

#[test]
fn a_self_hosting_project_has_its_own_suite_and_parks_whatever_is_configured() {
    let pipe = Pipe::new(Setup {
        project: "self_hosting: true\nstages: [development, deploy-staging, deploy]\npost_deploy: {health: []}".into(),
        ..Setup::default()
    });
    let said = pipe.orch(&["staging-check"]);
    assert_eq!(said.code, 0, "{}", said.all());
    let lines: Vec<&str> = said.out.lines().collect();
    for (n, id) in ["A1", "A2", "A3", "A4", "B1", "B2", "B3", "B4", "B5", "B6", "C9a", "C9b"].iter().enumerate() {
        assert!(lines[n].starts_with(id), "{}", said.all());
    }
    // No sandbox is declared: the two built-in allowances, and only they, are waived.
    assert!(said.out.contains("INFRA-WAIVED C9a") && said.out.contains("INFRA-WAIVED C9b"), "{}", said.all());
    assert_eq!(pipe.orch(&["staging-check", "--strict"]).code, 1);
    let key = pipe.item("One");
    pipe.until("the parking", |p| p.of(&key, "waiting_for") == "confirm_deploy");
}

#[test]
fn a_sandbox_work_item_goes_through_the_self_hosting_suite() {
    let pipe = Pipe::new(Setup {
        project: "self_hosting: true\nstaging: {sandbox: {project: SBX}}".into(),
        ..Setup::default()
    });
    crate::support::git::raw(pipe.dir.path(), &["clone", "-q", "--bare", "remote.git", "sandbox.git"]);
    let file = pipe.at("orch.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    // Whichever agent comes first there.
    for (key, stages) in [("SBX-1", ""), ("SBX-2", ", stages: [development, deploy]")] {
        let more = format!(
            "  - {{key: SBX, repo: sandbox, git: {{remote: ./sandbox.git}}, board: {{kind: local, dir: sandbox-issues}}{stages}}}\n"
        );
        std::fs::write(&file, format!("{text}{more}")).unwrap();
        let said = pipe.orch(&["staging-check", "--strict", "--project", "ORCH"]);
        assert_eq!(said.code, 0, "{}", said.all());
        assert!(!said.out.contains("INFRA-WAIVED"), "{}", said.all());
        assert_eq!(pipe.of(key, "stage"), "cancelled", "what was tried is stopped again");
    }
}

/// The command writes its own result and outlives its wrapper; what runs afterwards is another version under the same
/// name.
#[test]
fn a_self_hosting_deploy_replaces_the_binary_that_started_it() {
    let old = crate::support::ORCH;
    let mut pipe = Pipe::new(Setup {
        project: "self_hosting: true\ndeploy: {command: [./deploy.sh], env: {TARGET: PROD}}".into(),
        files: vec![(
            "deploy.sh",
            "#!/bin/sh\nsetsid sh -c '\necho $$ > \"$TARGET/begun.new\"; mv \"$TARGET/begun.new\" \"$TARGET/begun\"\nwhile [ ! -e \"$TARGET/go\" ]; do sleep 0.05; done\ncp \"$TARGET/next\" \"$TARGET/orch.new\" && mv \"$TARGET/orch.new\" \"$TARGET/orch\"\nprintf \"{\\\"schema\\\":1,\\\"task\\\":\\\"%s\\\",\\\"attempt\\\":%s,\\\"nonce\\\":\\\"%s\\\",\\\"exit\\\":0}\" \"$ORCH_TASK\" \"$ORCH_ATTEMPT\" \"$ORCH_DEPLOY_NONCE\" > \"$ORCH_DEPLOY_RESULT.tmp\"\nmv \"$ORCH_DEPLOY_RESULT.tmp\" \"$ORCH_DEPLOY_RESULT\"' > /dev/null 2>&1 &\nwait\n".into(),
        )],
        ..Setup::default()
    });
    std::fs::copy(old, pipe.at("prod/orch")).unwrap();
    // The next version: the same program under another number.
    let (now, next) = (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_VERSION").replace('0', "9"));
    let mut bytes = std::fs::read(old).unwrap();
    let places: Vec<usize> =
        bytes.windows(now.len()).enumerate().filter(|(_, w)| *w == now.as_bytes()).map(|(at, _)| at).collect();
    for at in places {
        bytes[at..at + next.len()].copy_from_slice(next.as_bytes());
    }
    std::fs::write(pipe.at("prod/next"), &bytes).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(pipe.at("prod/next"), mode).unwrap();
    pipe.program = Some(pipe.at("prod/orch"));
    assert!(pipe.orch(&["--version"]).out.contains(now));
    let key = pipe.item("One");
    pipe.until("the parking", |p| p.of(&key, "waiting_for") == "confirm_deploy");
    let said = pipe.orch(&["advance", &key, "--confirm-deploy"]);
    assert_eq!(said.code, 0, "{}", said.all());
    // Its wrapper is killed, as by a restart of its unit: the command continues on its own.
    pipe.until("the command", |p| p.at("prod/begun").exists());
    let wrapper = pipe.table("runs").with("kind", "deploy").one("supervisor/pid");
    let pid = rustix::process::Pid::from_raw(wrapper.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    std::fs::write(pipe.at("prod/go"), "").unwrap();
    pipe.until_stage(&key, "done");
    let said = pipe.orch(&["--version"]).out;
    assert!(said.contains(&next), "the next version runs now: {said}");
    assert_eq!(pipe.orch(&["status"]).code, 0);
    assert_eq!(pipe.table("runs").with("kind", "deploy").len(), 1);
    assert!(pipe.evidence("14-deploy-log.md").contains("deploy_status: SUCCESS"));
}
