//! The fake Gitea compared with the real one: recorded requests are sent to the fake, which must answer with the same
//! status, the same words, and no field that the real answer lacks or has of another type. Where they differ, the fake
//! is wrong.

use crate::adapter_forge::Scene;
use crate::support::git::{Snapshot, raw};
use crate::support::gitea::{Comment, Data, FakeGitea, Rule, TOKEN, commit_on};
use orch::adapters::http::{Auth, Client, Limits, Method, Request, Token};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Setup = fn(&mut Data, &Path);

const RECORDED: &str = include_str!("../fixtures/gitea-1.26/recorded.jsonl");

fn rule(set: impl Fn(&mut Rule)) -> Rule {
    let mut rule = Rule::default();
    set(&mut rule);
    rule
}

fn guarded(data: &mut Data, set: impl Fn(&mut Rule)) {
    data.rules = vec![("main".into(), rule(set))];
}

fn nothing(_: &mut Data, _: &Path) {}

/// The recorded pull request had another number.
fn numbered(data: &mut Data, number: i64) {
    data.pull_mut(1).number = number;
}

/// Both sides have a file of one name, with different contents.
fn conflicting(data: &mut Data, repo: &Path) {
    numbered(data, 4);
    commit_on(repo, "main", "same");
    raw(repo, &["symbolic-ref", "HEAD", "refs/heads/conflict"]);
    commit_on(repo, "feature/t1", "same");
}

/// The head was deleted, which closed the request.
fn headless(data: &mut Data, repo: &Path) {
    numbered(data, 12);
    raw(repo, &["branch", "-D", "feature/t1"]);
}

/// Each recorded request that the product makes too, or whose refusal it can get, and the server's state at that time.
#[rustfmt::skip]
fn cases() -> Vec<(&'static str, Setup)> {
    vec![
        ("001-version", nothing), ("002-version-forgejo", nothing), ("003-user-no-token", nothing),
        ("004-user-bad-token", nothing), ("005-user", nothing),
        ("006-empty-repo-get", |d, _| d.name = "fresh".into()),
        ("007-empty-repo-pulls", |d, _| (d.name, d.fresh) = ("fresh".into(), 9)),
        ("008-empty-repo-branch", |d, repo| { d.name = "fresh".into(); raw(repo, &["update-ref", "-d", "refs/heads/main"]); }),
        ("009-first-push-branch", |d, _| (d.name, d.fresh) = ("fresh".into(), 9)),
        ("010-first-push-pulls", |d, _| (d.name, d.fresh) = ("fresh".into(), 9)),
        ("011-repo-get", nothing), ("012-repo-missing", nothing),
        ("013-repo-private-stranger", |d, _| (d.name, d.hidden) = ("secret".into(), true)),
        ("014-repo-private-no-token", |d, _| d.name = "secret".into()),
        ("015-repo-private-public-only-token", |d, _| { (d.name, d.hidden) = ("secret".into(), true); d.scopes.push("public-only") }),
        ("019-branch-main", nothing), ("020-branch-missing", nothing), ("021-branch-slash", nothing),
        ("024-pulls-empty", |d, _| d.pulls.clear()), ("025-pull-create", |d, _| d.pulls.clear()),
        ("026-pull-get-at-once", |d, _| d.pull_mut(1).set_checking(9)), ("033-pull-create-stranger", |d, _| d.reader = true),
        ("027-pull-create-dup", nothing), ("028-pull-create-no-head", nothing), ("029-pull-create-no-base", nothing),
        ("030-pull-create-same", nothing), ("031-pull-create-no-diff", nothing), ("032-pull-create-no-title", nothing),
        ("034-pull-get", nothing), ("035-pulls-head-filter", nothing), ("038-pull-missing", nothing),
        ("040-merge-wip", |d, _| d.pull_mut(1).title = "WIP: T1".into()), ("042-pull-close", nothing),
        ("043-merge-closed", |d, _| d.pull_mut(1).open = false), ("044-pull-reopen", |d, _| d.pull_mut(1).open = false),
        ("045-status-pending", nothing), ("046-status-success", nothing), ("047-status-skipped", nothing),
        ("048-status-warning", nothing), ("049-status-bad-word", nothing), ("050-status-unknown-sha", nothing),
        ("052-status-stranger", |d, _| d.reader = true),
        ("053-status-list", nothing), ("054-status-list-page-2", nothing), ("056-status-list-unknown-sha", nothing),
        ("058-comment-create", nothing), ("060-comment-empty", nothing), ("061-comment-missing-issue", nothing),
        ("062-comments-list", |d, _| d.comments.push(Comment { id: 1, number: 1, body: "hello".into() })), ("067-protect-list-not-admin", nothing),
        ("068-branch-main-protected", |d, _| guarded(d, |r| r.contexts = vec!["ci/test".into(), "ci/extra*".into()])),
        ("069-merge-status-missing", |d, _| guarded(d, |r| r.contexts = vec!["ci/test".into(), "ci/extra*".into()])),
        ("070-merge-status-failing", |d, _| guarded(d, |r| r.contexts = vec!["ci/odd".into()])),
        ("076-merge-no-approval", |d, _| guarded(d, |r| r.required_approvals = 1)),
        ("079-merge-rejected", |d, _| guarded(d, |r| r.rejected = true)),
        ("081-reviews", |d, _| guarded(d, |r| (r.rejected, r.approvals) = (true, 1))),
        ("082-branch-not-on-merge-list", |d, _| guarded(d, |r| r.no_merge = true)),
        ("083-merge-not-on-list", |d, _| guarded(d, |r| r.no_merge = true)),
        ("085-merge-unsigned", |d, _| guarded(d, |r| r.unsigned = true)),
        ("086-merge-outdated", |d, repo| { commit_on(repo, "main", "theirs"); guarded(d, |r| r.no_outdated = true) }),
        ("088-merge-while-checking", |d, _| d.checking = 9),
        // An unmet rule hides a head that moved.
        ("090-merge-head-moved", |_, repo| { commit_on(repo, "feature/t1", "theirs"); }),
        ("091-merge-bad-style", nothing), ("092-merge-no-style", nothing),
        ("094-merge-hook-refused", |d, _| d.hook = Some("release window closed: come back on Monday".into())),
        ("095-merge", nothing), ("096-merge-again", |d, repo| d.land_as_person(repo, 1)),
        ("098-pull-merged", |d, repo| d.land_as_person(repo, 1)),
        ("099-pull-merged-close", |d, repo| d.land_as_person(repo, 1)),
        ("100-pull-merged-reopen", |d, repo| d.land_as_person(repo, 1)),
        ("105-conflict-get", conflicting), ("106-conflict-merge", conflicting),
        ("108-merge-style-off", |d, _| { d.methods = vec!["merge"]; numbered(d, 5) }),
        ("109-merge-squash", |d, _| numbered(d, 5)), ("111-merge-rebase", |d, _| numbered(d, 6)),
        ("120-merge-stranger", |d, _| { d.reader = true; numbered(d, 11) }),
        ("123-pull-head-gone", headless), ("124-pull-reopen-head-gone", headless),
        ("104-pull-merged-branch-gone", |d, repo| { d.land_as_person(repo, 1); raw(repo, &["branch", "-D", "feature/t1"]); }),
        ("119-merge-read-token", |d, _| { d.scopes = vec!["write:issue", "read:repository", "read:user"]; }),
        ("125-scope-no-issue-comment", |d, _| d.scopes = vec!["write:repository", "read:user"]),
        ("126-scope-no-issue-pull-create", |d, _| d.scopes = vec!["write:repository", "read:user"]),
        ("127-scope-no-user-user", |d, _| d.scopes = vec!["write:issue", "write:repository"]),
        ("128-scope-no-user-pull-create", |d, _| d.scopes = vec!["write:issue", "write:repository"]),
        ("129-scope-no-repo-pulls", |d, _| d.scopes = vec!["write:issue", "read:user"]),
        ("130-scope-read-repo-pull-create", |d, _| d.scopes = vec!["write:issue", "read:repository", "read:user"]),
        ("131-scope-read-issue-comment", |d, _| d.scopes = vec!["read:issue", "write:repository", "read:user"]),
        ("133-pulls-page-past", nothing), ("135-default-renamed-repo", |_, repo| { raw(repo, &["branch", "-M", "main", "trunk"]); }),
        ("136-default-renamed-branch", |_, repo| { raw(repo, &["branch", "-M", "main", "trunk"]); }),
        ("137-default-renamed-pull-create", |_, repo| { raw(repo, &["branch", "-M", "main", "trunk"]); }),
        ("138-renamed-get", |d, _| d.renamed = Some("team/renamed".into())),
        ("139-renamed-post", |d, _| d.renamed = Some("team/renamed".into())),
        ("141-archived-pull-create", |d, _| d.archived = true), ("142-archived-merge", |d, _| d.archived = true),
        ("143-archived-status", |d, _| d.archived = true), ("144-archived-comment", |d, _| d.archived = true),
    ]
}

/// The fake's field must be in the real answer, with the same type.
fn fits(fake: &Value, real: &Value, at: &str) {
    match (fake, real) {
        (Value::Object(fake), Value::Object(real)) => {
            for (name, value) in fake {
                let Some(other) = real.get(name) else { panic!("{at}: the real answer has no {name}") };
                fits(value, other, &format!("{at}.{name}"));
            }
        }
        (Value::Array(fake), Value::Array(real)) => {
            assert!(fake.is_empty() || !real.is_empty(), "{at}");
            for value in fake {
                real.first().into_iter().for_each(|other| fits(value, other, &format!("{at}[]")));
            }
        }
        (Value::Null, _) | (_, Value::Null) | (Value::Bool(_), Value::Bool(_)) => {}
        (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_)) => {}
        (fake, real) => panic!("{at}: {fake} where the real server has {real}"),
    }
}

/// A repository as it was at the recording, in the relevant parts: made once, copied for each request.
struct Place {
    _folder: tempfile::TempDir,
    repo: PathBuf,
    fake: FakeGitea,
}

fn recorded_repository() -> (Snapshot, String) {
    let scene = Scene::new();
    let repo = scene.world.path("remote.git");
    raw(&repo, &["branch", "feature/t1", "feature/x"]);
    raw(&repo, &["branch", "feature/nodiff", "main"]);
    raw(&repo, &["branch", "conflict", "feature/x"]);
    raw(&repo, &["branch", "-D", "feature/x"]);
    (Snapshot::take(&repo), scene.head.to_string())
}

fn place(snapshot: &Snapshot, head: &str) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let repo = folder.path().join("remote.git");
    std::fs::create_dir(&repo).unwrap();
    snapshot.restore(&repo);
    let fake = FakeGitea::start(&repo);
    let mut data = fake.data();
    data.checking = 0;
    data.add_pull("feature/t1", "main", "T1", "Refs ORCH-1");
    for (context, state) in
        [("ci/test", "pending"), ("ci/test", "success"), ("ci/skip", "skipped"), ("ci/odd", "green")]
    {
        data.add_status(head, context, state, "");
    }
    drop(data);
    Place { _folder: folder, repo, fake }
}

#[test]
fn the_fake_answers_each_recorded_request_as_the_real_server_did() {
    let recorded: BTreeMap<String, Value> = RECORDED
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|entry| (entry["name"].as_str().unwrap().to_owned(), entry))
        .collect();
    let (snapshot, head) = recorded_repository();
    for (name, setup) in cases() {
        let entry = &recorded[name];
        let scene = place(&snapshot, &head);
        setup(&mut scene.fake.data(), &scene.repo);
        // Only unknown commits keep their name.
        let own = |text: &str| {
            let mut out = text.to_owned();
            for word in text.split(|c: char| !c.is_ascii_hexdigit()) {
                if word.len() == 40 && !word.starts_with("1111111111") {
                    out = out.replace(word, &head);
                }
            }
            out
        };
        let target = own(entry["path"].as_str().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target.as_str(), ""));
        let query: Vec<(&str, &str)> = query.split('&').filter_map(|p| p.split_once('=')).collect();
        let sent: Value = serde_json::from_str(&own(&entry["sent"].to_string())).unwrap();
        let token = if name.contains("bad-token") { "nobody's" } else { TOKEN };
        let auth = match entry["authorized"].as_bool().unwrap() {
            true => Auth::Header { name: "authorization", scheme: "token ", value: Token::new(token) },
            false => Auth::None,
        };
        let client = Client::new(&scene.fake.url(), auth, Limits::default()).unwrap();
        let method = match entry["method"].as_str().unwrap() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "PATCH" => Method::Patch,
            other => panic!("{other}"),
        };
        let request = Request::new(method, path).query(&query);
        let request = if sent.is_null() { request } else { request.json(&sent) };
        let reply = client.exchange(&request).unwrap();
        assert!(scene.fake.forgive().is_empty(), "{name} is unexpected");
        assert_eq!(u64::from(reply.status), entry["status"].as_u64().unwrap(), "{name}: {}", reply.text());
        let real = &entry["body"];
        let json = entry["headers"]["content-type"].as_str().unwrap_or("").contains("json");
        let fake = if json { reply.json().unwrap() } else { json!(reply.text()) };
        match (json, reply.status) {
            (true, 200..=299) => fits(&fake, real, name),
            (true, _) => {
                // Ids differ.
                let words = |v: &Value| v["message"].as_str().unwrap().split(" [").next().unwrap().to_owned();
                assert_eq!(words(&fake), words(real), "{name}");
            }
            (false, _) => assert_eq!(&fake, real, "{name}"),
        }
        for header in ["location", "x-total-count"] {
            assert_eq!(
                reply.header(header).is_some(),
                entry["headers"].get(header).is_some(),
                "{name}: {header} {:?}",
                reply.headers
            );
        }
        assert_eq!(reply.header("location"), entry["headers"]["location"].as_str(), "{name}");
    }
}
