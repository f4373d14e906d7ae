//! What every forge must do, and the outcome of each answer of Gitea to a merge.

use crate::support::git::{Snapshot, World, head, raw, rev};
use crate::support::gitea::{Effect, FakeGitea, Rule, Script, TOKEN, commit_on};
use crate::support::github::FakeGithub;
use crate::support::http::{Fault, Reply};
use orch::adapters::forge::{
    self, CommentOutcome, Forge, ForgeError, Gitea, Github, Landing, LocalForge, MergeOutcome, MergeVia, Place,
    Product, PullState, StatusState,
};
use orch::adapters::git::{Git, MergeMethod, Mirror};
use orch::adapters::github::{Account, Api, Login, Pace};
use orch::adapters::http::{Auth, Client, Limits, Method, Request, Token};
use orch::model::ids::Sha;
use orch::model::refusal::Refusal;
use serde_json::{Value, json};
use std::sync::OnceLock;

const METHODS: [MergeMethod; 3] = [MergeMethod::Merge, MergeMethod::Rebase, MergeMethod::Squash];
const MESSAGE: &str = "ORCH-7 Say hello\n\nWith a reason.";

pub fn gitea(fake: &FakeGitea, method: MergeMethod, via: MergeVia) -> Box<dyn Forge> {
    gitea_at(&fake.url(), TOKEN, method, via)
}

pub fn github(fake: &FakeGithub, method: MergeMethod, via: MergeVia) -> Box<dyn Forge> {
    let login = Login::Token(Token::new(crate::support::github::TOKEN));
    Box::new(github_as(&fake.url(), login, method, via, Limits::default()))
}

pub fn github_as(url: &str, login: Login, method: MergeMethod, via: MergeVia, limits: Limits) -> Github {
    let api = Api::new(Account { api_base: url, login, pace: Pace::default(), reserve: 100, limits }).unwrap();
    let place = forge::github::Place {
        owner: "team",
        name: "app",
        id: Some(77),
        base: Some("main"),
        method,
        via,
        draft: false,
        reviewers: &[],
        team_reviewers: &[],
    };
    Github::new(&place, api).unwrap()
}

fn gitea_at(url: &str, token: &str, method: MergeMethod, via: MergeVia) -> Box<dyn Forge> {
    let place = Place { url, owner: "team", name: "app", method, via };
    Box::new(Gitea::new(&place, Token::new(token), Limits::default()).unwrap())
}

/// A branch with one commit on the default branch's tip, as the merge gate leaves it.
pub struct Scene {
    pub world: World,
    pub fake: FakeGitea,
    pub hub: FakeGithub,
    pub mirror: Mirror,
    pub base: Sha,
    pub head: Sha,
}

impl Scene {
    /// A copy of a scene that is made once: copying needs no git.
    pub fn new() -> Self {
        static FIRST: OnceLock<(Git, Snapshot, Sha, Sha)> = OnceLock::new();
        let (git, snapshot, base, head) = FIRST.get_or_init(Self::first);
        let world = World { folder: tempfile::tempdir().unwrap(), git: git.clone() };
        snapshot.restore(world.folder.path());
        let fake = FakeGitea::start(&world.path("remote.git"));
        let hub = FakeGithub::start(&world.path("remote.git"));
        // The mirror's path to the repository can be cut without cutting the server's.
        let link = world.path("origin.git");
        let mirror = Mirror::open(&world.git, &world.path("r.git"), link.to_str().unwrap(), None).unwrap();
        let scene = Self { world, fake, hub, mirror, base: base.clone(), head: head.clone() };
        scene.link();
        scene
    }

    fn first() -> (Git, Snapshot, Sha, Sha) {
        let world = World::new();
        raw(&world.person(), &["remote", "set-url", "origin", "../remote.git"]);
        let base = head(&world.person());
        world.switch("feature/x", base.as_str());
        let head = world.commit(&[("src/a", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n"), ("new", "x\n")], "change");
        world.push("feature/x");
        Mirror::open(&world.git, &world.path("r.git"), &world.remote(), None).unwrap().fetch().unwrap();
        (world.git.clone(), Snapshot::take(world.folder.path()), base, head)
    }

    pub fn link(&self) {
        std::os::unix::fs::symlink(self.world.path("remote.git"), self.world.path("origin.git")).unwrap();
    }

    pub fn landing(&self) -> Landing<'_> {
        Landing { default_branch: "main", head: &self.head, expected_base: &self.base, message: MESSAGE }
    }

    pub fn tip(&self) -> Sha {
        rev(&self.world.path("remote.git"), "refs/heads/main")
    }

    pub fn tree(&self, of: &Sha) -> String {
        raw(&self.world.path("remote.git"), &["rev-parse", &format!("{of}^{{tree}}")])
    }

    /// An opened pull request whose check has run.
    pub fn opened(&self, forge: &dyn Forge) -> i64 {
        self.fake.data().checking = 0;
        self.hub.data().checking = 0;
        forge.open_pull("feature/x", "main", "Say hello", "why").unwrap().number
    }

    pub fn merges(&self) -> usize {
        self.fake.writes().iter().chain(&self.hub.writes()).filter(|l| l.ends_with("/merge")).count()
    }
}

/// Runs a test on every forge and every merge method.
fn on_every_forge(test: impl Fn(&Scene, &dyn Forge, &str)) {
    for method in METHODS {
        let local = LocalForge { method, identity: World::author() };
        test(&Scene::new(), &local, &format!("local {method:?}"));
        for via in [MergeVia::Forge, MergeVia::Push] {
            let scene = Scene::new();
            let forge = gitea(&scene.fake, method, via);
            test(&scene, forge.as_ref(), &format!("gitea {method:?} {via:?}"));
            let scene = Scene::new();
            let forge = github(&scene.hub, method, via);
            test(&scene, forge.as_ref(), &format!("github {method:?} {via:?}"));
        }
    }
}

#[test]
fn contract_a_pull_request_is_opened_once_and_lands_once() {
    on_every_forge(|scene, forge, name| {
        let number = scene.opened(forge);
        let again = forge.open_pull("feature/x", "main", "another title", "").unwrap();
        assert_eq!((again.number, again.state), (number, PullState::Open), "{name}");
        assert_eq!((again.head.as_str(), again.base.as_str()), ("feature/x", "main"), "{name}");
        assert!(!forge.pull(number).unwrap().unwrap().merged, "{name}");
        let MergeOutcome::Merged { commit, pull_open: _ } =
            forge.merge(&scene.mirror, number, &scene.landing()).unwrap()
        else {
            panic!("{name}")
        };
        assert_eq!(scene.tip(), commit, "{name}");
        assert_eq!(scene.tree(&commit), scene.tree(&scene.head), "{name}");
        let tip = scene.tip();
        for _ in 0..2 {
            let repeated = forge.merge(&scene.mirror, number, &scene.landing()).unwrap();
            assert!(
                matches!(&repeated, MergeOutcome::Merged { commit: c, .. } if *c == commit),
                "{name}: {repeated:?}"
            );
        }
        assert_eq!(scene.tip(), tip, "{name}");
        assert!(scene.merges() <= 1, "{name}");
        forge.close_pull(number).unwrap();
        forge.close_pull(number).unwrap();
        assert_eq!(forge.find_pull("feature/x", "main").unwrap(), None, "{name}");
    });
}

#[test]
fn contract_what_a_person_landed_is_found_and_what_moved_is_reported() {
    on_every_forge(|scene, forge, name| {
        let number = scene.opened(forge);
        raw(&scene.world.person(), &["push", "-q", "origin", "feature/x:main"]);
        let outcome = forge.merge(&scene.mirror, number, &scene.landing()).unwrap();
        assert!(
            matches!(&outcome, MergeOutcome::Merged { commit, .. } if *commit == scene.head),
            "{name}: {outcome:?}"
        );
        assert_eq!(scene.merges(), 0, "{name}");
    });
    on_every_forge(|scene, forge, name| {
        let number = scene.opened(forge);
        let moved = commit_on(&scene.world.path("remote.git"), "main", "other");
        assert_eq!(forge.merge(&scene.mirror, number, &scene.landing()).unwrap(), MergeOutcome::BaseMoved, "{name}");
        assert_eq!((scene.tip().as_str(), scene.merges()), (moved.as_str(), 0), "{name}");
    });
}

#[test]
fn contract_words_around_a_pull_request_are_said_once() {
    on_every_forge(|scene, forge, name| {
        let number = scene.opened(forge);
        let remote = forge.is_remote();
        let first = forge.comment_once(number, "17/review", "Looks good <!-- orch:17/deploy -->").unwrap();
        let wanted = if remote { CommentOutcome::Posted } else { CommentOutcome::NoForge };
        assert_eq!(first, wanted, "{name}");
        let second = forge.comment_once(number, "17/review", "Looks good").unwrap();
        assert_eq!(second == CommentOutcome::Present, remote, "{name}");
        // A marker inside another comment's text does not count.
        assert_eq!(forge.comment_once(number, "17/deploy", "Deployed").unwrap(), wanted, "{name}");
        let comments = scene.fake.data().comments.len() + scene.hub.data().comments.len();
        assert_eq!(comments, if remote { 2 } else { 0 }, "{name}");
        assert!(forge.statuses(&scene.head).unwrap().is_empty(), "{name}");
        let post = |state, text: &str| forge.post_status(&scene.head, "orch/review", state, text).unwrap();
        assert_eq!(post(StatusState::Pending, "runs"), remote, "{name}");
        assert!(!post(StatusState::Pending, "runs"), "{name}");
        assert_eq!(post(StatusState::Success, "done"), remote, "{name}");
        assert_eq!(post(StatusState::Pending, "runs"), remote, "{name}: an older equal one does not count");
        // All of them, or the newest of each context.
        let all = forge.statuses(&scene.head).unwrap();
        let newest = all.iter().max_by_key(|s| s.id).map(|s| s.state);
        assert_eq!(newest, remote.then_some(StatusState::Pending), "{name}: {all:?}");
        assert!(forge.protection("main").is_ok_and(|p| !p.protected && p.required_contexts.is_empty()), "{name}");
        assert_eq!(forge.user().unwrap().login, if remote { "orch" } else { "" }, "{name}");
        assert!(forge.version().unwrap().guards_head, "{name}");
        assert_eq!(forge.repository().unwrap().method_enabled, Some(true), "{name}");
    });
}

#[test]
fn a_pull_request_is_found_by_listing_whatever_the_pages_are() {
    let scene = Scene::new();
    let forge = gitea(&scene.fake, MergeMethod::Merge, MergeVia::Forge);
    for (max_page, total_header) in [(50, true), (50, false), (3, true), (3, false)] {
        {
            let mut data = scene.fake.data();
            (data.max_page, data.total_header, data.checking) = (max_page, total_header, 0);
            data.pulls.clear();
            // From a fork, into another base, closed, or of a branch with the same prefix.
            let fork = data.add_pull("feature/x", "main", "fork", "");
            data.pull_mut(fork).head_repo = "somebody/app".into();
            let gone = data.add_pull("feature/x", "main", "fork that is gone", "");
            data.pull_mut(gone).head_repo = String::new();
            let closed = data.add_pull("feature/x", "main", "closed", "");
            data.pull_mut(closed).open = false;
            raw(&scene.world.path("remote.git"), &["branch", "-f", "next", "main"]);
            data.add_pull("feature/x", "next", "another base", "");
            raw(&scene.world.path("remote.git"), &["branch", "-f", "feature/x2", "feature/x"]);
            data.add_pull("feature/x2", "main", "alike", "");
        }
        assert_eq!(forge.find_pull("feature/x", "main").unwrap(), None);
        let number = forge.open_pull("feature/x", "main", "mine", "").unwrap().number;
        assert_eq!(number, 6);
        {
            let mut data = scene.fake.data();
            for n in 0..7 {
                data.add_pull("feature/x2", "next", &format!("later {n}"), "");
            }
        }
        assert_eq!(forge.find_pull("feature/x", "main").unwrap().unwrap().number, number);
        assert_eq!(forge.open_pull("feature/x", "main", "mine", "").unwrap().number, number);
    }
    assert!(scene.fake.log().iter().all(|s| s.query("head").is_none()));
    assert!(matches!(forge.open_pull("absent", "main", "t", ""), Err(ForgeError::NotFound(_))));
    raw(&scene.world.path("remote.git"), &["branch", "-f", "same", "main"]);
    // A pull request without a difference can be opened (recorded); the engine has nothing to land then, and doesn't
    // ask.
    assert_eq!(forge.open_pull("same", "main", "t", "").unwrap().head, "same");
    assert!(matches!(forge.open_pull("main", "main", "t", ""), Err(ForgeError::Invalid(_))));
}

#[test]
fn a_hidden_repository_is_not_a_pull_request_that_is_gone() {
    let scene = Scene::new();
    let forge = gitea(&scene.fake, MergeMethod::Merge, MergeVia::Forge);
    assert_eq!(forge.pull(9).unwrap(), None);
    scene.fake.data().hidden = true;
    assert!(matches!(forge.pull(9), Err(ForgeError::Refused { refusal: Refusal::Gone, .. })));
    assert!(matches!(forge.close_pull(9), Err(ForgeError::Refused { refusal: Refusal::Gone, .. })));
    // A revoked token sees just as little, but is distinguished.
    scene.fake.data().withdrawn = true;
    assert!(matches!(forge.pull(9), Err(ForgeError::Refused { refusal: Refusal::BadCredential, .. })));
    assert!(matches!(forge.statuses(&scene.head), Err(ForgeError::Refused { refusal: Refusal::BadCredential, .. })));
    assert!(matches!(
        forge.comment_once(1, "1/x", "x"),
        Err(ForgeError::Refused { refusal: Refusal::BadCredential, .. })
    ));
}

#[test]
fn statuses_are_read_whole_and_the_newest_is_the_roll_ups_business() {
    let scene = Scene::new();
    let forge = gitea(&scene.fake, MergeMethod::Merge, MergeVia::Forge);
    let sha = scene.head.as_str();
    for n in 0..120 {
        scene.fake.set_status(sha, &format!("ci/{}", n % 40), if n < 80 { "failure" } else { "success" });
    }
    scene.fake.set_status(sha, "ci/odd", "on-fire");
    scene.fake.set_status("other", "ci/1", "failure");
    for max_page in [50, 7] {
        scene.fake.data().max_page = max_page;
        let all = forge.statuses(&scene.head).unwrap();
        assert_eq!(all.len(), 121);
        assert_eq!(all.iter().find(|s| s.context == "ci/odd").unwrap().state, StatusState::Unknown);
        use orch::decide::gates::ci::roll_up;
        use orch::model::ci::CiAnswer;
        assert_eq!(roll_up(&all, &["ci/0".into(), "ci/39".into()], true, &[]), CiAnswer::Green);
    }
    assert!(scene.fake.log().iter().all(|s| !s.path.ends_with("/status")));
    let bad = forge.post_status(&scene.head, "c", StatusState::Skipped, "");
    assert!(matches!(bad, Err(ForgeError::Invalid(_))));
    assert!(scene.fake.writes().is_empty());
    let absent = Sha::parse(&"0".repeat(40)).unwrap();
    assert!(matches!(forge.post_status(&absent, "c", StatusState::Success, ""), Err(ForgeError::NotFound(_))));
}

/// A scripted merge, the expected outcome, and whether the work must be on the base afterwards.
struct Row {
    name: &'static str,
    set: Box<dyn Fn(&Scene)>,
    outcome: &'static str,
    lands: bool,
}

fn row(name: &'static str, outcome: &'static str, lands: bool, set: impl Fn(&Scene) + 'static) -> Row {
    Row { name, set: Box::new(set), outcome, lands }
}

fn says(status: u16, message: &str) -> Option<Reply> {
    Some(Reply::json(status, &json!({"message": message, "url": "x"})))
}

/// The first word of an outcome, or `Err` and the class.
pub fn word<T: std::fmt::Debug>(result: &Result<T, ForgeError>) -> String {
    let text = match result {
        Ok(outcome) => format!("{outcome:?}"),
        Err(e) => format!("Err:{e:?}"),
    };
    text.split(['(', ' ', '{']).next().unwrap_or("").to_owned()
}

fn merge_table() -> Vec<Row> {
    let script = |effect, reply: Option<Reply>| move |s: &Scene| s.fake.script(Script::new(effect, reply.clone()));
    vec![
        row("merged", "Merged", true, |_| {}),
        row("200 and left open", "Merged", true, script(Effect::LandLeftOpen, None)),
        row("200 and nothing", "NotYet", false, script(Effect::Nothing, Some(Reply::json(200, &Value::Null)))),
        row("201", "Refused", false, script(Effect::Nothing, Some(Reply::json(201, &Value::Null)))),
        row("cut after the merge", "Merged", true, |s| s.fake.fault(MERGE, Fault::CutAfterEffect, 1)),
        row("cut before the merge", "Err:UnknownOutcome", false, |s| s.fake.fault(MERGE, Fault::Reset, 1)),
        row("500 after the merge", "Merged", true, script(Effect::Real, says(500, ""))),
        row("403 after the merge", "Merged", true, script(Effect::Real, says(403, "branch deletion failed"))),
        row("404 after the merge", "Merged", true, script(Effect::Real, says(404, "Not Found"))),
        row("HTML 504 after the merge", "Merged", true, script(Effect::Real, Some(Reply::html(504, "<html>late")))),
        row("500 and nothing", "Err:Transient", false, script(Effect::Nothing, says(500, ""))),
        row("403 and nothing", "Err:Refused", false, script(Effect::Nothing, says(403, "no scope"))),
        row("401", "Err:Refused", false, script(Effect::Nothing, says(401, "token is required"))),
        row("429", "Err:Throttled", false, |s| s.fake.fault(MERGE, Fault::throttled(7), 1)),
        row("422", "Err:Invalid", false, script(Effect::Nothing, says(422, "In"))),
        row("423", "Err:Refused", false, |s| s.fake.data().archived = true),
        row("404 and open", "Refused", false, script(Effect::Nothing, says(404, "Not Found"))),
        row("405 still computing", "NotYet", false, |s| s.fake.data().pull_mut(1).set_checking(9)),
        row("405 without words", "NotYet", false, script(Effect::Nothing, says(405, ""))),
        row("405 already merged", "Merged", true, |s| {
            s.fake.before_merge(|repo, data| data.land_as_person(repo, 1));
        }),
        row("405 not allowed", "Awaits", false, script(Effect::Nothing, says(405, "User not allowed to merge PR"))),
        row("405 other words", "Refused", false, script(Effect::Nothing, says(405, "come back on Monday"))),
        row(
            "405 behind",
            "NotYet",
            false,
            script(Effect::Nothing, says(405, "The head branch is behind the base branch")),
        ),
        row("405 draft", "Awaits", false, |s| s.fake.data().pull_mut(1).title = "WIP: x".into()),
        row("405 checks", "Awaits", false, |s| {
            let rule = Rule { contexts: vec!["ci/test".into()], ..Rule::default() };
            s.fake.data().rules.push(("main".into(), rule));
        }),
        row("405 style", "Refused", false, |s| s.fake.data().methods = vec!["rebase-merge"]),
        row("409 head moved", "HeadMoved", false, |s| {
            s.fake.before_merge(|repo, _| drop(commit_on(repo, "feature/x", "theirs")));
        }),
        row(
            "409 head moved, in words only",
            "HeadMoved",
            false,
            script(Effect::Nothing, says(409, "head out of date")),
        ),
        row("head ignored by an old server", "Untested", false, |s| {
            s.fake.data().version = "1.15.11".into();
            s.fake.before_merge(|repo, _| drop(commit_on(repo, "feature/x", "theirs")));
        }),
        row("base moved, merged all the same", "Untested", false, |s| {
            s.fake.before_merge(|repo, _| drop(commit_on(repo, "main", "theirs")));
        }),
        row("409 base moved meanwhile", "BaseMoved", false, |s| {
            let script = Script::new(Effect::Nothing, says(409, "merge push out of date"));
            s.fake.script(script.before(|repo, _| drop(commit_on(repo, "main", "theirs"))));
        }),
        row(
            "409 base moved, in words only",
            "NotYet",
            false,
            script(Effect::Nothing, says(409, "merge push out of date")),
        ),
        row("409 conflict object", "Conflict", false, |s| {
            let body =
                json!({"Style": "merge", "StdOut": "CONFLICT (content)", "StdErr": "", "CommitSHA": "", "Err": {}});
            s.fake.script(Script::new(Effect::Nothing, Some(Reply::json(409, &body))));
        }),
        row(
            "409 hook",
            "Refused",
            false,
            script(Effect::Nothing, Some(Reply::json(409, &json!("sha does not match our database: conflict")))),
        ),
        row("409 scheduled", "Refused", false, |s| {
            let said = "pull request is already scheduled to auto merge when checks succeed";
            s.fake.script(Script::new(Effect::Nothing, says(409, said)));
        }),
        row("closed meanwhile", "Withdrawn", false, |s| s.fake.before_merge(|_, data| data.pull_mut(1).open = false)),
        row("closed before", "Withdrawn", false, |s| s.fake.close(1)),
        row("branch deleted", "Withdrawn", false, |s| {
            drop(raw(&s.world.path("remote.git"), &["branch", "-D", "feature/x"]));
        }),
        row("another base", "Withdrawn", false, |s| {
            raw(&s.world.path("remote.git"), &["branch", "next", "main"]);
            s.fake.data().pull_mut(1).base = "next".into();
        }),
        row("gone", "Withdrawn", false, |s| s.fake.data().pulls.clear()),
        row("head moved before", "HeadMoved", false, |s| {
            drop(commit_on(&s.world.path("remote.git"), "feature/x", "theirs"));
        }),
        row("merged by hand", "Merged", true, |s| s.fake.merge_as_person(1)),
        row("read back fails", "Err:UnknownOutcome", true, |s| {
            let link = s.world.path("origin.git");
            s.fake.script(Script::new(Effect::Real, None).after(move |_, _| std::fs::remove_file(link).unwrap()));
        }),
    ]
}

const MERGE: &str = "POST /api/v1/repos/team/app/pulls/1/merge";

#[test]
fn every_row_of_the_merge_table() {
    for Row { name, set, outcome, lands } in merge_table() {
        let scene = Scene::new();
        let forge = gitea(&scene.fake, MergeMethod::Squash, MergeVia::Forge);
        assert_eq!(scene.opened(forge.as_ref()), 1);
        set(&scene);
        let result = forge.merge(&scene.mirror, 1, &scene.landing());
        assert_eq!(word(&result), outcome, "{name}: {result:?}");
        if name == "read back fails" {
            scene.link();
        }
        let landed = scene.tree(&scene.tip()) == scene.tree(&scene.head);
        assert_eq!(landed, lands, "{name}");
        match &result {
            Ok(MergeOutcome::Merged { commit, pull_open }) => {
                assert_eq!(*commit, scene.tip(), "{name}");
                assert_eq!(*pull_open, name == "200 and left open", "{name}");
            }
            Ok(MergeOutcome::Refused { reason } | MergeOutcome::NotYet { reason }) => {
                assert!(!reason.is_empty() && !reason.contains(TOKEN), "{name}: {reason}");
            }
            Ok(MergeOutcome::Awaits { said, .. }) => {
                assert!(!said.is_empty() && !said.contains(TOKEN), "{name}: {said}")
            }
            _ => {}
        }
        // Whatever was answered, a repeat lands nothing twice.
        let before = scene.tip();
        let repeated = forge.merge(&scene.mirror, 1, &scene.landing());
        if lands {
            assert_eq!(word(&repeated), "Merged", "{name}: {repeated:?}");
            assert_eq!(scene.tip(), before, "{name}");
            assert!(scene.merges() <= 1, "{name}");
            forge.close_pull(1).unwrap();
            assert!(!scene.fake.data().pull_mut(1).open, "{name}");
        }
        if matches!(word(&repeated).as_str(), "Untested" | "Withdrawn" | "HeadMoved" | "BaseMoved") {
            assert_eq!(scene.tip(), before, "{name}");
        }
    }
}

#[test]
fn a_merge_request_names_what_it_needs_and_nothing_more() {
    let scene = Scene::new();
    let forge = gitea(&scene.fake, MergeMethod::Rebase, MergeVia::Forge);
    let number = scene.opened(forge.as_ref());
    forge.merge(&scene.mirror, number, &scene.landing()).unwrap();
    let log = scene.fake.log();
    let sent = log.iter().find(|s| s.line() == MERGE).unwrap().json();
    let wanted = json!({
        "Do": "rebase", "head_commit_id": scene.head.as_str(), "MergeTitleField": "ORCH-7 Say hello",
        "MergeMessageField": "With a reason.", "delete_branch_after_merge": false,
    });
    assert_eq!(sent, wanted);
    // Read right before and right after.
    let at = log.iter().position(|s| s.line() == MERGE).unwrap();
    for near in [&log[at - 1], &log[at + 1]] {
        assert_eq!(near.line(), "GET /api/v1/repos/team/app/pulls/1");
    }
}

#[test]
fn rule_30_a_branch_with_a_merge_is_not_asked_to_be_rebased() {
    let scene = Scene::new();
    let forge = gitea(&scene.fake, MergeMethod::Rebase, MergeVia::Forge);
    let person = scene.world.person();
    raw(&person, &["checkout", "-q", "-b", "side", scene.base.as_str()]);
    scene.world.commit(&[("side", "s\n")], "side");
    raw(&person, &["checkout", "-q", "feature/x"]);
    raw(&person, &["merge", "-q", "--no-ff", "-m", "with a resolution", "side"]);
    scene.world.push("feature/x");
    scene.mirror.fetch().unwrap();
    let tip = head(&person);
    let number = scene.opened(forge.as_ref());
    let outcome = forge.merge(&scene.mirror, number, &Landing { head: &tip, ..scene.landing() });
    assert_eq!(word(&outcome), "Merged", "{outcome:?}");
    let log = scene.fake.log();
    assert_eq!(log.iter().find(|s| s.line() == MERGE).unwrap().json()["Do"], "merge");
    assert_eq!(scene.tree(&scene.tip()), scene.tree(&tip));
}

#[test]
fn a_conflict_is_decided_by_git() {
    let scene = Scene::new();
    scene.world.switch("main", scene.base.as_str());
    let base = scene.world.commit(&[("src/a", "1\n2\n3\n4\nFIVE\n6\n7\n8\n9\n")], "the same line");
    scene.world.push("main");
    scene.mirror.fetch().unwrap();
    let landing = Landing { expected_base: &base, ..scene.landing() };
    for forge in [
        Box::new(LocalForge { method: MergeMethod::Merge, identity: World::author() }) as Box<dyn Forge>,
        gitea(&scene.fake, MergeMethod::Merge, MergeVia::Forge),
    ] {
        let number = scene.opened(forge.as_ref());
        let outcome = forge.merge(&scene.mirror, number, &landing).unwrap();
        assert_eq!(outcome, MergeOutcome::Conflict { paths: vec!["src/a".into()] });
        assert_eq!(scene.tip(), base);
    }
}

#[test]
fn rule_31_a_push_lands_the_tested_commit_or_nothing() {
    let scene = Scene::new();
    let forge = gitea(&scene.fake, MergeMethod::Squash, MergeVia::Push);
    let number = scene.opened(forge.as_ref());
    let outcome = forge.merge(&scene.mirror, number, &scene.landing()).unwrap();
    assert_eq!(outcome, MergeOutcome::Merged { commit: scene.head.clone(), pull_open: true });
    assert_eq!(scene.merges(), 0);
    let scene = Scene::new();
    let forge = gitea(&scene.fake, MergeMethod::Squash, MergeVia::Push);
    let number = scene.opened(forge.as_ref());
    let hook = scene.world.path("remote.git/hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho Not allowed to push to protected branch main >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let outcome = forge.merge(&scene.mirror, number, &scene.landing());
    // git's own summary names no cause, but the server's words do.
    let said = format!("{outcome:?}");
    assert!(word(&outcome) == "Refused" && said.contains("Not allowed to push to protected branch main"), "{said}");
}

#[test]
fn protection_is_read_and_an_exempt_token_is_reported() {
    let scene = Scene::new();
    let forge = gitea(&scene.fake, MergeMethod::Merge, MergeVia::Forge);
    let cases = [
        // admin, on the push list, the rule binds administrators; exempt
        (false, false, false, Some(false)),
        (false, true, false, Some(true)),
        (true, false, false, Some(true)),
        (true, false, true, Some(false)),
        (true, true, true, Some(true)),
    ];
    for (admin, may_push, binds_admins, exempt) in cases {
        let rule = Rule {
            contexts: vec!["ci/*".into()],
            required_approvals: 2,
            approvals: 0,
            may_push,
            binds_admins,
            ..Rule::default()
        };
        let mut data = scene.fake.data();
        (data.admin, data.rules) = (admin, vec![("main".into(), rule)]);
        drop(data);
        let found = forge.protection("main").unwrap();
        assert_eq!(found.our_token_exempt, exempt, "{admin} {may_push} {binds_admins}");
        assert_eq!((found.protected, found.required_approvals, found.may_merge), (true, 2, Some(true)));
        assert_eq!(found.required_contexts, ["ci/*"]);
    }
    assert!(!forge.protection("feature/x").unwrap().protected);
    assert!(matches!(forge.protection("absent/ä?"), Err(ForgeError::NotFound(_))));
    assert!(scene.fake.writes().is_empty());
}

#[test]
fn the_kind_of_server_and_its_guard_are_reported() {
    let scene = Scene::new();
    scene.fake.data().prefix = "/git".into();
    let forge = gitea(&scene.fake, MergeMethod::Squash, MergeVia::Forge);
    let detected = |version: &str, forgejo: Option<&str>| {
        let mut data = scene.fake.data();
        (data.version, data.forgejo) = (version.to_owned(), forgejo.map(str::to_owned));
        drop(data);
        let v = forge.version().unwrap();
        (v.product, v.guards_head)
    };
    assert_eq!(detected("1.22.3", None), (Product::Gitea, true));
    assert_eq!(detected("1.15.11", None), (Product::Gitea, false));
    assert_eq!(detected("7.0.5+gitea-1.22.0", Some("7.0.5+gitea-1.22.0")), (Product::Forgejo, true));
    scene.fake.data().methods = vec!["merge"];
    assert_eq!(forge.repository().unwrap().method_enabled, Some(false));
    for wrong in ["", "bad"] {
        let forge = gitea_at(&scene.fake.url(), wrong, MergeMethod::Merge, MergeVia::Forge);
        assert!(matches!(forge.user(), Err(ForgeError::Refused { refusal: Refusal::BadCredential, .. })));
    }
    scene.fake.data().renamed = Some("team/new".into());
    let error = forge.repository().unwrap_err().to_string();
    assert!(error.contains("team/new") && error.contains("correct the address"), "{error}");
}

#[test]
fn the_fake_refuses_what_the_real_one_refuses() {
    let scene = Scene::new();
    let forge = gitea(&scene.fake, MergeMethod::Merge, MergeVia::Forge);
    let number = forge.open_pull("feature/x", "main", "t", "").unwrap().number;
    let auth = Auth::Header { name: "authorization", scheme: "Bearer ", value: Token::new(TOKEN) };
    let client = Client::new(&scene.fake.url(), auth, Limits::default()).unwrap();
    let send = |method, path: &str, body: Value| {
        let path = format!("/api/v1/repos/team/app/{path}");
        let reply = client.exchange(&Request::new(method, &path).json(&body)).unwrap();
        (reply.status, reply.json().unwrap_or(Value::Null))
    };
    let get = |path: &str, query: &[(&str, &str)]| {
        let path = format!("/api/v1/repos/team/app/{path}");
        client.send(&Request::new(Method::Get, &path).query(query)).unwrap().json().unwrap()
    };
    // No filter by head; 500 is clamped; `mergeable` only after the check, which a list does not start.
    scene.fake.data().max_page = 1;
    scene.fake.data().add_pull("other", "main", "u", "");
    raw(&scene.world.path("remote.git"), &["branch", "other", "feature/x"]);
    let pulls = get("pulls", &[("head", "nobody:nothing"), ("limit", "500")]);
    assert_eq!((pulls.as_array().unwrap().len(), &pulls[0]["number"]), (1, &json!(2)));
    let mergeable = |n: i64| get(&format!("pulls/{n}"), &[])["mergeable"].clone();
    assert_eq!([mergeable(number), mergeable(number), mergeable(number)], [false, false, true]);
    assert_eq!(send(Method::Patch, "pulls/2", json!({"state": "closed"})).0, 201);
    assert_eq!(send(Method::Post, "pulls/1/merge", json!({"Do": "nope"})).0, 422);
    let wrong = json!({"Do": "merge", "head_commit_id": "0".repeat(40)});
    assert_eq!(send(Method::Post, "pulls/1/merge", wrong).0, 409);
    scene.fake.set_status(scene.head.as_str(), "c", "success");
    let listed = get(&format!("commits/{}/statuses", scene.head), &[]);
    assert_eq!((&listed[0]["status"], &listed[0]["state"]), (&json!("success"), &Value::Null));
    scene.fake.merge_as_person(number);
    assert_eq!(send(Method::Patch, "pulls/1", json!({"state": "open"})).0, 412);
    assert_eq!(send(Method::Post, "pulls/1/merge", json!({"Do": "merge"})).0, 405);
    raw(&scene.world.path("remote.git"), &["branch", "-D", "feature/x"]);
    let gone = &get("pulls/1", &[])["head"];
    assert_eq!((&gone["ref"], &gone["label"]), (&json!("refs/pull/1/head"), &json!("feature/x")));
    assert!(scene.fake.forgive().is_empty());
    for (method, path, body) in [
        (Method::Get, "commits/main/status", Value::Null),
        (Method::Post, "pulls/1/merge", json!({"Do": "merge", "force_merge": true})),
        (Method::Post, "pulls/1/merge", json!({"Do": "merge", "merge_when_checks_succeed": true})),
        (Method::Delete, "branches/main", Value::Null),
    ] {
        send(method, path, body);
        assert_eq!(scene.fake.forgive().len(), 1, "{path}");
    }
}
