//! A project on GitHub in the whole binary (GH-1, GH-2): from an issue through pull request and required checks to
//! done, with a strict fake.

use crate::support::github::{FakeGithub, TOKEN};
use crate::support::house::{House, Plan};
use crate::support::http::Fault;
use orch::model::task::Task;

pub struct Scene {
    pub house: House,
    pub hub: FakeGithub,
}

fn scene(board: &str) -> Scene {
    scene_of(scene_with(Plan::with_analysis(), board, &[], "token: {env: GITHUB}"))
}

/// Development and deploy alone, without a person's confirmation.
pub fn short(board: &str, project: &[&str]) -> Scene {
    let mut lines = vec!["deploy: {confirm: false}"];
    if project.iter().any(|line| line.starts_with("deploy:")) {
        lines.clear();
    }
    lines.extend(project);
    scene_of(scene_with(Plan::short(), board, &lines, "token: {env: GITHUB}"))
}

/// `board`: further keys of the board; `project`: further lines of the project; `login`: how board and forge log in.
pub fn scene_with(plan: Plan, board: &str, project: &[&str], login: &str) -> Scene {
    let mut house = House::new(&plan);
    house.env.push(("GITHUB".into(), TOKEN.into()));
    let hub = FakeGithub::start(&house.remote());
    let at = format!("api_base: \"{}\", owner: team, name: app, {login}", hub.url());
    let plan = plan
        .project(format!("board: {{kind: github, {at}{board}}}"))
        .project(format!("forge: {{kind: github, {at}}}"))
        .project("ci: {contexts: [ci/test]}")
        .top("github: {write_gap_ms: 0}");
    let plan = project.iter().fold(plan, |plan, line| plan.project(*line));
    house.configure(&plan);
    let s = Scene { house, hub };
    s.hub.data().checking = 0;
    s
}

/// With the board configured, `orch init` creates the missing labels.
fn scene_of(s: Scene) -> Scene {
    let (code, out, err) = s.init();
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("orch: To Analyse"), "{out}");
    s
}

impl Scene {
    pub fn init(&self) -> (i32, String, String) {
        let config = self.house.path("orch.yaml");
        self.house.text(&["--config", config.to_str().unwrap(), "init"])
    }

    /// An issue, with To Analyse set by a person who may write.
    pub fn begin(&self, title: &str) -> i64 {
        let number = self.hub.data().open_issue(title, "Say hello.");
        self.hub.data().label(number, "orch: To Analyse", "ann");
        number
    }

    /// Reconciles and ticks until the task is as expected and nothing of it runs; CI passes on every head.
    #[track_caller]
    pub fn drive(&self, what: &str, so: impl Fn(&Task) -> bool) -> Task {
        self.house.until(what, || {
            let quiet = self.house.store().is_some() && self.house.is_quiet();
            if let Some(task) = self.house.task("ORCH-1").filter(|t| quiet && so(t)) {
                return Some(task);
            }
            if let Some(head) = self.house.task("ORCH-1").and_then(|t| t.head_sha.filter(|_| t.pr.is_some())) {
                let known = self.hub.data().runs.iter().any(|r| r.sha == head.as_str());
                if !known {
                    self.hub.check(head.as_str(), "ci/test", "success");
                }
            }
            self.house.reconcile();
            self.house.tick();
            None
        })
    }

    pub fn deliver_all(&self) {
        self.house.until("all is told", || {
            self.house.tick();
            self.house.table("outbox").with("state", "open").is_empty().then_some(())
        });
    }

    pub fn labels(&self) -> Vec<String> {
        self.hub.data().labels_of(1)
    }

    /// Every request so far.
    fn passes(&self) -> Vec<String> {
        self.hub.log().iter().map(crate::support::http::Seen::line).collect()
    }
}

#[test]
fn gh_2_an_issue_is_steered_from_its_labels_by_required_checks_to_done() {
    let s = scene("");
    s.hub.data().open_issue("Greet <people>", "Say hello to them.");
    s.house.reconcile().fine();
    assert!(s.house.task("ORCH-1").is_none());
    s.hub.data().label(1, "orch: To Analyse", "ann");
    let waiting = s.drive("waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    assert_eq!((waiting.title.as_str(), s.labels()), ("Greet <people>", vec!["orch: In Review".to_owned()]));
    let prompt = std::fs::read_to_string(s.house.path("state/runs/1/prompt.md")).unwrap();
    assert!(prompt.contains("Say hello to them."), "the text was read");
    s.hub.data().label(1, "orch: Approved", "ann");
    let parked = s.drive("waits for the deploy", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    s.deliver_all();
    assert_eq!(s.labels(), ["orch: Awaiting Deploy"]);
    let pull = s.hub.pull(parked.pr.unwrap().number);
    assert!(pull.title.starts_with("ORCH-1: ") && pull.body.ends_with("<!-- orch:t1 -->"), "{pull:?}");
    // The answer of the merge is lost: git shows what happened.
    s.hub.fault(&format!("PUT /repos/team/app/pulls/{}/merge", pull.number), Fault::CutAfterEffect, 1);
    s.hub.data().label(1, "orch: Confirm Deploy", "ann");
    let done = s.drive("is done", |t| t.stage.as_str() == "done");
    s.deliver_all();
    assert_eq!(s.hub.writes().iter().filter(|l| l.ends_with("/merge")).count(), 1, "merged once");
    let main = crate::support::git::raw(&s.house.remote(), &["rev-parse", "main"]);
    assert_eq!(done.landed_sha.unwrap().as_str(), main);
    assert_eq!(s.labels(), ["orch: Done"]);
    assert_eq!(s.hub.data().issues[0].closed.as_deref(), Some("completed"));
    // One moves the watermark, the next one's answer is the state from then on.
    for _ in 0..2 {
        s.house.reconcile().fine();
    }
    s.hub.clear_log();
    let left = s.hub.data().left;
    for _ in 0..3 {
        s.house.reconcile().fine();
    }
    assert_eq!(s.passes(), vec!["GET /repos/team/app/issues"; 3], "an idle pass is one request");
    assert_eq!(s.hub.data().left, left, "and free of quota");
}

#[test]
fn gh_2_only_who_may_write_or_is_named_steers_and_others_get_one_comment() {
    let s = scene(", deciders: [\"release[bot]\"]");
    s.hub.data().rights.push(("triager".into(), "read".into()));
    s.hub.data().open_issue("Greet", "");
    for (who, said) in
        [("triager", "set by triager,"), ("dep[bot]", "set by dep[bot] through an App,"), ("eve", "set by eve,")]
    {
        s.hub.data().label(1, "orch: To Analyse", who);
        for _ in 0..2 {
            s.house.reconcile().fine();
        }
        assert!(s.house.task("ORCH-1").is_none(), "{who}");
        assert!(s.labels().is_empty(), "{who}: the label is taken off");
        let deliver_all = s.hub.data().comments.iter().filter(|c| c.body.contains(said)).count();
        assert_eq!(deliver_all, 1, "{who}: {:?}", s.hub.data().comments);
    }
    s.hub.data().label(1, "orch: To Analyse", "release[bot]");
    s.drive("waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    // The text is what the decider saw.
    s.hub.data().issue_mut(1).title = "Drop all tables".into();
    s.hub.data().label(1, "orch: Approved", "eve");
    s.house.reconcile().fine();
    s.deliver_all();
    let still = s.house.task("ORCH-1").unwrap();
    assert!(still.waiting_for.is_some() && still.title == "Greet", "{still:?}");
    assert_eq!(s.labels(), ["orch: In Review"], "and the question stands there again");
    // Closed by a person: held; reopened, it continues.
    s.hub.data().close_issue(1, "not_planned", "ann");
    s.house.reconcile().fine();
    let held = s.house.task("ORCH-1").unwrap().withdrawn.map(|w| w.to_string()).unwrap_or_default();
    assert!(held.contains("withdrawn by a person"), "{held}");
    s.hub.data().issue_mut(1).closed = None;
    s.house.reconcile().fine();
    assert!(s.house.task("ORCH-1").unwrap().withdrawn.is_none());
    // Added again, by somebody whose event is not visible yet: the older event says nothing about it.
    s.hub.data().label(1, "orch: Approved", "ann");
    s.hub.data().lag = 1;
    s.house.reconcile().fine();
    s.house.tick().fine();
    assert!(s.house.task("ORCH-1").unwrap().waiting_for.is_some());
    assert!(s.labels().contains(&"orch: Approved".to_owned()), "{:?}", s.labels());
    s.hub.data().lag = 0;
    s.drive("waits for the deploy", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    s.deliver_all();
    // Another repository of that name stops the project.
    s.hub.data().id = 78;
    let other = s.house.orch(&["reconcile", "--full"]);
    assert!(other.code == 3 && other.json["errors"].to_string().contains("took its name"), "{:?}", other.json);
    s.hub.data().id = 77;
    s.hub.data().issues[0].gone = Some(410);
    s.house.orch(&["reconcile", "--full"]).fine();
    assert!(s.house.task("ORCH-1").unwrap().withdrawn.is_some(), "deleted");
}

#[test]
fn gh_2_a_limit_ends_the_pass_without_error_for_board_and_forge() {
    let s = scene("");
    s.hub.data().open_issue("Greet", "");
    let limit =
        crate::support::github::error(403, "You have exceeded a secondary rate limit").header("Retry-After", 600);
    s.house.reconcile().fine();
    s.hub.fault("GET /repos/team/app/issues", Fault::Answer(limit), 1);
    s.hub.data().label(1, "orch: To Analyse", "ann");
    let pass = s.house.reconcile().fine();
    assert!(pass.rules().contains(&"throttled".to_owned()), "{:?}", pass.json);
    s.hub.clear_log();
    s.house.reconcile().fine();
    s.house.tick().fine();
    assert!(s.hub.log().is_empty(), "every process obeys");
    let rows = s.house.table("meta").like("key", "throttle/").texts("key");
    assert!(rows.len() == 1 && rows[0].ends_with("/core"), "{rows:?}");
}

#[test]
fn gh_1_doctor_asks_for_each_right_and_names_what_the_rules_refuse() {
    let s = scene("");
    let examined = || {
        let said = s.house.orch(&["doctor"]).json.to_string();
        assert!(!said.contains(TOKEN), "{said}");
        said
    };
    let well = examined();
    for part in ["Checks: read", "Issues: read", "every status has its label", "require branches to be up to date"] {
        assert!(well.contains(part), "{part}: {well}");
    }
    {
        let mut data = s.hub.data();
        data.no_checks = true;
        data.labels.retain(|l| l != "orch: STOP");
        data.rules.push(serde_json::json!({"type": "pull_request", "ruleset_id": 1, "parameters": {
            "required_approving_review_count": 2, "dismiss_stale_reviews_on_push": false,
            "require_code_owner_review": true, "require_last_push_approval": false,
            "required_review_thread_resolution": false}}));
    }
    let warned = examined();
    for part in [
        "Checks: read is missing, jobs of Actions are read instead",
        "main requires 2 approvals, which orch never gives",
        "main requires a review by its code owners",
        "no label orch: STOP",
        "the intent `stop` is off",
    ] {
        assert!(warned.contains(part), "{part}: {warned}");
    }
    assert!(
        s.hub
            .writes()
            .iter()
            .all(|w| w.starts_with("POST /repos/team/app/labels") || w.contains("/99999") || w.contains("/00000"))
    );
}
