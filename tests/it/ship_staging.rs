//! Staging and image freshness end to end (SHIP-3, SHIP-4, RULE-8, RULE-23), and a deploy that replaces orch itself.

use crate::support::pipe::{Pipe, Setup};

fn staged(staging: &str, files: Vec<(&'static str, String)>) -> Pipe {
    Pipe::new(Setup {
        project: format!("stages: [development, deploy-staging, deploy]\nstaging: {{{staging}}}"),
        files,
        ..Setup::default()
    })
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
    let ended = pipe.rows("SELECT result FROM runs WHERE kind = 'agent' ORDER BY id");
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
    let more =
        "  - {key: SBX, repo: sandbox, git: {remote: ./sandbox.git}, board: {kind: local, dir: sandbox-issues}}\n";
    std::fs::write(&file, format!("{text}{more}")).unwrap();
    let said = pipe.orch(&["staging-check", "--strict", "--project", "ORCH"]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(!said.out.contains("INFRA-WAIVED"), "{}", said.all());
    assert_eq!(pipe.of("SBX-1", "stage"), "cancelled", "what was tried is stopped again");
}
