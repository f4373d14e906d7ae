//! `orch doctor` on the binary, for external services: Plane, Gitea, Telegram and the agent's program. Each answer that
//! is not ok says how to fix it, and none repeats a credential.

use crate::support::git::raw;
use crate::support::gitea::{FakeGitea, Rule};
use crate::support::house::{House, Plan};
use crate::support::plane::{FakePlane, KEY, WORKSPACE};
use crate::support::telegram::{CHAT, Closed, TOKEN as BOT, Telegram};
use serde_json::Value;

/// The output of `orch doctor`.
struct Chart {
    code: i32,
    checks: Vec<Value>,
    all: String,
}

fn examined(house: &House) -> Chart {
    let ran = house.orch(&["doctor"]);
    let checks = ran.json["checks"].as_array().unwrap_or_else(|| panic!("{} {}", ran.json, ran.stderr)).clone();
    let chart = Chart { code: ran.code, all: format!("{} {}", ran.json, ran.stderr), checks };
    for secret in [KEY, crate::support::gitea::TOKEN, BOT] {
        assert!(!chart.all.contains(secret), "{}", chart.all);
    }
    chart
}

impl Chart {
    /// The one check of this name and level whose text contains this part; unless it is ok, it says how to fix it.
    #[track_caller]
    fn says(&self, name: &str, level: &str, part: &str) -> &Value {
        let text = |c: &Value, n: &str| c[n].as_str().unwrap().to_owned();
        let fits = |c: &&Value| c["name"] == name && c["level"] == level && text(c, "message").contains(part);
        let found = self.checks.iter().find(fits);
        let found = found.unwrap_or_else(|| panic!("no {level} {name} says {part:?}: {:#?}", self.checks));
        assert!(level == "ok" || !text(found, "fix").is_empty(), "{found}");
        found
    }

    fn levels(&self, name: &str) -> Vec<String> {
        let of = self.checks.iter().filter(|c| c["name"] == name);
        of.map(|c| c["level"].as_str().unwrap().to_owned()).collect()
    }
}

fn on_plane(fake: &FakePlane, further: &str) -> House {
    let plan = Plan::short().project(format!(
        "board: {{kind: plane, url: \"{}\", workspace: {WORKSPACE}, project: orch, api_key: {{env: PLANE}}{further}}}",
        fake.url()
    ));
    let mut house = House::new(&plan);
    house.env.push(("PLANE".into(), KEY.into()));
    house
}

#[test]
fn plane_account_role_intents_and_fallbacks_are_reported() {
    let fake = FakePlane::start();
    let mut house = on_plane(&fake, "");
    let well = examined(&house);
    assert_eq!(well.code, 0, "{}", well.all);
    well.says("board", "ok", "as orch, role 15");
    let shown = well.says("board", "ok", "shown by another status");
    for part in ["Architecture as In Progress", "Testing as In Progress", "Monitoring after Deploy as Done"] {
        assert!(shown["message"].as_str().unwrap().contains(part), "{shown}");
    }
    assert!(fake.server.lines().iter().all(|l| l.starts_with("GET ")), "a doctor writes nothing");
    // It does not report from what the steps cache.
    house.reconcile().fine();
    fake.data().role = 5;
    let guest = examined(&house);
    assert_eq!(guest.code, 3);
    guest.says("board", "failed", "guest");
    fake.data().role = 15;
    // A person deleted statuses: an intent fails closed, the first one is required.
    fake.data().states.retain(|s| s.name != "Approved");
    let warned = examined(&house);
    assert_eq!(warned.code, 0, "{}", warned.all);
    warned.says("board", "warning", "`approved` is off");
    fake.data().states.retain(|s| s.name != "To Analyse");
    let broken = examined(&house);
    assert_eq!(broken.code, 3);
    broken.says("board", "failed", "`to_analyse` is off");
    house.env = vec![("PLANE".into(), "plane_api_wrong_0123456789".into())];
    let wrong = examined(&house);
    assert_eq!(wrong.code, 3);
    wrong.says("board", "failed", "Given API token is not valid");
    assert_eq!(wrong.levels("board"), ["failed"], "and nothing that it did not see");
    assert!(!wrong.all.contains("plane_api_wrong"), "{}", wrong.all);
}

#[test]
fn plane_an_intent_on_a_shared_status_is_off_and_says_with_which() {
    let fake = FakePlane::start();
    let house = on_plane(&fake, ", statuses: {approved: Done}");
    let chart = examined(&house);
    chart.says("board", "warning", "`approved` is off");
    assert_eq!(chart.code, 0);
}

fn on_gitea(further: &[&str]) -> (House, FakeGitea) {
    let base = Plan::short();
    let mut house = House::new(&base);
    house.env.push(("FORGE".into(), crate::support::gitea::TOKEN.into()));
    let forge = FakeGitea::start(&house.remote());
    let mut plan = Plan::short().project(format!(
        "forge: {{kind: gitea, url: \"{}\", owner: team, name: app, token: {{env: FORGE}}}}",
        forge.url()
    ));
    for line in further {
        plan = plan.project(*line);
    }
    house.configure(&plan);
    (house, forge)
}

/// BND-1: a branch is pushed before orch judges it, and runs there with whatever the default branch's workflows give it.
#[test]
fn bnd_1_what_a_forges_own_ci_gives_a_task_branch_is_reported() {
    let (house, forge) = on_gitea(&["ci: {required: false}"]);
    let person = house.path("person");
    crate::support::git::commit_in(
        &person,
        &[
            (
                ".gitea/workflows/ci.yml",
                "on: [push]\npermissions: {contents: read}\njobs: {a: {runs-on: x, steps: [{run: 'echo ${{ secrets.DEPLOY_KEY }}'}]}}\n",
            ),
            (
                ".github/workflows/release.yaml",
                "on: {push: {branches: [main]}}\njobs: {a: {steps: [{run: 'echo ${{ secrets.OTHER }}'}]}}\n",
            ),
            (".github/workflows/odd.yml", "on: [\n"),
        ],
        "workflows",
    );
    raw(&person, &["push", "-q", "origin", "HEAD:main"]);
    house.orch(&["new", "One"]).fine();
    house.orch(&["tick"]);
    let report = examined(&house);
    let ci = report.says("forge's CI", "warning", ".gitea/workflows/ci.yml runs a task's branch before orch judges it");
    assert!(ci["message"].as_str().unwrap().contains("DEPLOY_KEY"), "{ci}");
    report.says("forge's CI", "ok", ".github/workflows/release.yaml does not run for a task's branch");
    report.says("forge's CI", "warning", ".github/workflows/odd.yml can't be read");
    assert!(!report.levels("forge's CI").contains(&"failed".to_owned()));
    // A runner under this account, found by its name.
    let runner = house.path("act_runner");
    std::fs::copy("/bin/sleep", &runner).unwrap();
    let mut runs = std::process::Command::new(&runner).arg("600").spawn().unwrap();
    let report = examined(&house);
    runs.kill().unwrap();
    runs.wait().unwrap();
    report.says("forge's CI", "failed", "act_runner runs here under this account");
    drop(forge);
}

#[test]
fn gitea_account_protection_and_statuses_are_reported() {
    let (mut house, forge) = on_gitea(&["ci: {contexts: [ci/test]}"]);
    let head = raw(&house.remote(), &["rev-parse", "main"]);
    let bare = examined(&house);
    assert_eq!(bare.code, 0, "{}", bare.all);
    bare.says("forge", "ok", "bound to the tested head");
    bare.says("forge account", "ok", "orch");
    bare.says("repository", "ok", "team/app, merge is enabled");
    bare.says("protection", "warning", "not protected");
    bare.says("ci", "warning", "has no status ci/test");
    // As the page on connecting requires.
    let rule = Rule { contexts: vec!["ci/test".into()], binds_admins: true, ..Rule::default() };
    forge.data().rules = vec![("main".into(), rule)];
    forge.set_status(&head, "ci/test", "success");
    let well = examined(&house);
    well.says("protection", "ok", "main is protected");
    well.says("ci", "ok", "required and seen: ci/test");
    assert!(
        !["forge", "forge account", "repository", "protection", "ci"]
            .iter()
            .any(|n| well.levels(n).iter().any(|l| l != "ok"))
    );
    let probe = "PATCH /api/v1/repos/team/app/issues/comments/999999999";
    assert!(forge.writes().iter().all(|w| w == probe), "a doctor writes nothing: {:?}", forge.writes());
    // Whoever may bypass the rule by a push is exempt from it.
    {
        let mut data = forge.data();
        let rule = &mut data.rules[0].1;
        (rule.may_push, rule.required_approvals) = (true, 2);
        rule.contexts.push("lint".into());
    }
    let warned = examined(&house);
    warned.says("protection", "warning", "can bypass the protection");
    warned.says("protection", "warning", "requires 2 approvals");
    warned.says("protection", "warning", "lint");
    assert!(warned.levels("protection").iter().all(|l| l != "failed"), "{}", warned.all);
    // What would be refused at the very end is reported before anything begins.
    {
        let mut data = forge.data();
        let rule = &mut data.rules[0].1;
        (rule.may_push, rule.no_merge, rule.required_approvals) = (false, true, 1);
    }
    let shut = examined(&house);
    assert_eq!(shut.code, 3);
    shut.says("protection", "failed", "may not merge into main");
    shut.says("protection", "warning", "requires 1 approval,");
    assert!(!shut.all.contains("may not push to main"), "nothing is pushed there: {}", shut.all);
    // An administrator, unless the rule binds them.
    {
        let mut data = forge.data();
        let rule = Rule { contexts: vec!["ci/test".into()], ..Rule::default() };
        (data.admin, data.rules) = (true, vec![("main".into(), rule)]);
    }
    let admin = examined(&house);
    admin.says("forge account", "warning", "administrator");
    admin.says("protection", "warning", "can bypass");
    forge.data().rules[0].1.binds_admins = true;
    examined(&house).says("protection", "ok", "main is protected");
    {
        let mut data = forge.data();
        (data.admin, data.version, data.methods) = (false, "1.15.11".into(), vec!["squash"]);
    }
    let old = examined(&house);
    assert_eq!(old.code, 3);
    old.says("forge", "warning", "does not bind a merge to the tested head");
    old.says("repository", "failed", "does not allow merge.method: merge");
    forge.data().archived = true;
    examined(&house).says("repository", "failed", "archived");
    forge.data().withdrawn = true;
    let wrong = examined(&house);
    assert_eq!(wrong.code, 3);
    wrong.says("forge account", "failed", "401");
    forge.data().down = true;
    examined(&house).says("forge", "failed", "502");
    house.env.clear();
    assert_eq!(examined(&house).code, 3);
}

/// A token that lacks one scope is no unavailable forge: each missing right is named with the scope that gives it.
#[test]
fn gitea_a_token_without_a_scope_is_reported_before_the_first_task() {
    let (house, forge) = on_gitea(&["ci: {contexts: [ci/test]}"]);
    forge.data().scopes = vec!["read:user", "write:repository"];
    let mute = examined(&house);
    assert_eq!(mute.code, 3, "{}", mute.all);
    mute.says("forge", "ok", "bound to the tested head");
    mute.says("repository", "ok", "merge is enabled");
    mute.says("forge rights", "failed", "required=[write:issue]");
    assert!(mute.all.contains("create a token with the scope write:issue"), "{}", mute.all);
    forge.data().scopes = vec!["write:repository", "write:issue"];
    let nameless = examined(&house);
    assert_eq!(nameless.code, 0, "{}", nameless.all);
    nameless.says("forge account", "warning", "required=[read:user]");
    nameless.says("forge rights", "ok", "comments");
    nameless.says("push", "ok", "accepts pushes");
    forge.data().renamed = Some("team/renamed".into());
    let moved = examined(&house);
    moved.says("repository", "failed", "301");
    assert!(moved.all.contains("it moved to team/renamed"), "{}", moved.all);
    let mut data = forge.data();
    (data.renamed, data.pull_requests) = (None, false);
    drop(data);
    examined(&house).says("repository", "failed", "has no pull requests");
}

/// RULE-31: the account must be allowed to push to where the tested commit is pushed.
#[test]
fn gitea_a_push_that_the_protection_forbids_is_reported() {
    let (house, forge) = on_gitea(&["ci: {required: false}", "merge: {via: push}"]);
    forge.data().rules = vec![("main".into(), Rule::default())];
    let shut = examined(&house);
    assert_eq!(shut.code, 3);
    shut.says("protection", "failed", "may not push to main");
    forge.data().rules[0].1.may_push = true;
    let well = examined(&house);
    assert_eq!((well.code, well.levels("protection")), (0, vec!["ok".to_owned()]), "{}", well.all);
}

/// RULE-2: the statuses of recent commits are proposed, `orch`'s own never.
#[test]
fn rule_2_doctor_proposes_the_statuses_that_could_be_required() {
    let (house, forge) = on_gitea(&["ci: {required: false}"]);
    let head = raw(&house.remote(), &["rev-parse", "main"]);
    for context in ["ci/test", "lint", "orch/review_verdict"] {
        forge.set_status(&head, context, "success");
    }
    let chart = examined(&house);
    let said = chart.says("ci", "warning", "no status is required");
    assert_eq!(said["fix"], "ci: {contexts: [\"ci/test\", \"lint\"]}");
}

/// E8: a push to the default branch may get statuses that a pull request does not; the doctor says so until one shows
/// them.
#[test]
fn rule_2_doctor_warns_of_a_status_that_only_a_push_was_seen_to_get() {
    let (house, forge) = on_gitea(&["ci: {contexts: ['CI / test (push)']}"]);
    forge.set_status(&raw(&house.remote(), &["rev-parse", "main"]), "CI / test (push)", "success");
    examined(&house).says("ci", "warning", "seen only on the default branch: CI / test (push)");
    raw(&house.remote(), &["branch", "feature/x", "main"]);
    let tip = crate::support::gitea::commit_on(&house.remote(), "feature/x", "more");
    forge.data().add_pull("feature/x", "main", "x", "");
    forge.set_status(&tip, "CI / test (push)", "success");
    examined(&house).says("ci", "ok", "required and seen");
}

#[test]
fn telegram_bot_and_chat_are_reported() {
    let chat = Telegram::start();
    let plan = Plan::short().top(format!(
        "notify: {{telegram: {{api_base: \"{}\", token: {{env: TG}}, chat_id: \"{CHAT}\"}}}}",
        chat.url()
    ));
    let mut house = House::new(&plan);
    house.env.push(("TG".into(), BOT.into()));
    let well = examined(&house);
    assert_eq!(well.code, 0, "{}", well.all);
    well.says("telegram", "ok", &format!("@orch_bot is administrator of {CHAT}"));
    for closed in [Closed::Kicked, Closed::NotMember] {
        chat.close(Some(closed));
        let out = examined(&house);
        assert_eq!(out.code, 3);
        out.says("telegram", "failed", "can't write there");
    }
    chat.close(Some(Closed::NoChat));
    examined(&house).says("telegram", "failed", "chat not found");
    assert!(chat.methods().iter().all(|m| m.starts_with("get")), "nothing is sent: {:?}", chat.methods());
    house.env = vec![("TG".into(), "4242:AA-another_token".into())];
    let wrong = examined(&house);
    assert_eq!(wrong.code, 3);
    wrong.says("telegram", "failed", "");
    assert!(!wrong.all.contains("another_token"), "{}", wrong.all);
}

/// The CLI's flags change between releases: the doctor finds a missing flag before a run fails.
#[test]
fn claude_version_and_flags_are_reported() {
    let plan = Plan::short()
        .top("agents: {runtime: claude}")
        .top("runtimes: {claude: {kind: claude, program: ./claude.sh, env: {}}}");
    let house = House::new(&plan);
    let all = "--output-format --verbose --permission-mode --tools --allowedTools --setting-sources --settings --model \
        --fallback-model --effort --max-budget-usd --session-id --resume --strict-mcp-config";
    let cli = |flags: &str| {
        house.script(
            "claude.sh",
            &format!("#!/bin/sh\ncase $1 in --version) echo '2.1.330 (Claude Code)';; --help) echo '{flags}';; esac\n"),
        );
        examined(&house)
    };
    let well = cli(all);
    assert_eq!(well.code, 0, "{}", well.all);
    well.says("claude", "ok", "2.1.330");
    well.says("claude", "warning", "not logged in");
    let old = cli(&all.replace("--setting-sources ", "").replace("--tools ", ""));
    assert_eq!(old.code, 3);
    let said = old.says("claude", "failed", "--tools");
    assert!(said["message"].as_str().unwrap().contains("--setting-sources"), "{said}");
    std::fs::remove_file(house.path("claude.sh")).unwrap();
    let gone = examined(&house);
    assert_eq!(gone.code, 3);
    gone.says("claude", "failed", "not found");
}

/// E4: a rule over the task branches that refuses the push, or a rebase's forced push, is reported before the first
/// task.
#[test]
fn a_rule_over_the_task_branches_is_reported() {
    let (house, forge) = on_gitea(&["ci: {required: false}"]);
    forge.data().admin = false;
    examined(&house).says("task branches", "ok", "only an administrator");
    forge.data().admin = true;
    examined(&house).says("task branches", "ok", "no rule blocks feature/ORCH-1-a-title");
    for (name, push, force, level, part) in [
        ("feature/**", true, false, "warning", "refuses the forced push"),
        ("feature/*", false, false, "failed", "allows nobody to push"),
        ("feature/**", true, true, "ok", "no rule blocks"),
        ("release/**", false, false, "ok", "no rule blocks"),
    ] {
        let rule = Rule { may_push: push, may_force: force, ..Rule::default() };
        forge.data().rules = vec![(name.into(), rule)];
        examined(&house).says("task branches", level, part);
    }
}
