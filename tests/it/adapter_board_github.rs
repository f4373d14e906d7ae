//! GitHub issues as a board: what every board must do, and what is specific to labels, events and states (GH-2).

use crate::support::github::{FakeGithub, TOKEN};
use crate::support::http::{Fault, Reply};
use orch::adapters::board::github::{Issues, Place};
use orch::adapters::board::{Board, BoardError, Cut, Move, Moved, NewItem, Scope};
use orch::adapters::github::{Account, Api, Login, Pace};
use orch::adapters::http::{Limits, Token};
use orch::model::board::{Deed, Group, Intent, ItemRef, Logical, Priority, Resolved, resolve};
use orch::model::ids::Key;
use std::collections::BTreeMap;

const R: &str = "/repos/team/app";

struct Scene {
    fake: FakeGithub,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// A repository with every label.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scene = Self { fake: FakeGithub::start(folder.path()), _folder: folder };
        let board = scene.board(None);
        assert_eq!(board.prepare().unwrap().len(), Logical::ALL.len());
        assert!(board.prepare().unwrap().is_empty(), "made once");
        scene.fake.clear_log();
        scene
    }

    fn board(&self, seen: Option<String>) -> Box<dyn Board> {
        let account = Account {
            api_base: &self.fake.url(),
            login: Login::Token(Token::new(TOKEN)),
            pace: Pace::default(),
            reserve: 100,
            limits: Limits::default(),
        };
        let place = Place {
            owner: "team",
            name: "app",
            key: "SHOP",
            prefix: "orch: ",
            priority: "priority: ",
            statuses: &BTreeMap::new(),
            project: None,
            seen,
        };
        Box::new(Issues::new(place, Api::new(account).unwrap()))
    }
}

fn resolved(board: &dyn Board) -> Resolved {
    resolve(&board.statuses().unwrap(), &BTreeMap::new())
}

fn key(n: i64) -> Key {
    Key::parse(&format!("SHOP-{n}")).unwrap()
}

fn moved(
    board: &dyn Board,
    statuses: &Resolved,
    n: i64,
    to: Logical,
    expect: Option<&str>,
) -> Result<Moved, BoardError> {
    let item = board.get(statuses.statuses(), &key(n))?.unwrap();
    let change = Move { to: statuses.status_for(to).unwrap(), expect, now_ms: 0 };
    board.set_status(statuses.statuses(), &item, &change)
}

#[test]
fn gh_2_every_intent_steers_and_what_is_missing_falls_back_as_on_every_board() {
    let scene = Scene::new();
    let all = resolved(scene.board(None).as_ref());
    assert!(all.off().is_empty() && all.notes().is_empty(), "{:?} {:?}", all.off(), all.notes());
    assert_eq!(all.status_for(Logical::Done).unwrap().id, "orch: Done");
    scene
        .fake
        .data()
        .labels
        .retain(|l| !["orch: Done", "orch: STOP", "orch: Testing", "orch: In Progress"].contains(&l.as_str()));
    let some = resolved(scene.board(None).as_ref());
    assert_eq!(some.off().iter().map(|o| o.intent).collect::<Vec<_>>(), [Intent::Stop]);
    assert_eq!(some.status_for(Logical::Done).unwrap().group, Some(Group::Completed));
    // An intent is never a fallback.
    let shown = some.status_for(Logical::Testing).unwrap();
    assert!(some.intent_of(&shown.id).is_none() && shown.group == Some(Group::Started), "{shown:?}");
}

#[test]
fn gh_2_orch_leaves_exactly_one_status_by_one_label_a_call_and_the_state_follows() {
    let scene = Scene::new();
    let board = scene.board(None);
    let all = resolved(board.as_ref());
    let n = scene.fake.data().open_issue("Greet", "Say hello.");
    for label in ["bug", "orch: To Analyse", "priority: high"] {
        scene.fake.data().label(n, label, "ann");
    }
    let item = board.get(all.statuses(), &key(n)).unwrap().unwrap();
    assert_eq!(
        (item.status_id.as_str(), item.priority, item.body.as_deref()),
        ("orch: To Analyse", Priority::High, Some("Say hello."))
    );
    assert!(matches!(moved(board.as_ref(), &all, n, Logical::Analysis, Some("open")), Ok(Moved::Held(_))));
    assert!(scene.fake.writes().is_empty());
    let Ok(Moved::Set(now)) = moved(board.as_ref(), &all, n, Logical::Analysis, Some("orch: To Analyse")) else {
        panic!()
    };
    assert_eq!(now.status_id, "orch: Analysis");
    assert_eq!(scene.fake.data().labels_of(n), ["bug", "priority: high", "orch: Analysis"]);
    assert_eq!(
        scene.fake.writes(),
        [format!("POST {R}/issues/{n}/labels"), format!("DELETE {R}/issues/{n}/labels/orch%3A%20To%20Analyse"),]
    );
    assert!(matches!(moved(board.as_ref(), &all, n, Logical::Analysis, None), Ok(Moved::Already(_))));
    // Killed between the two calls: the next call leaves one label.
    scene.fake.data().label(n, "orch: Testing", "orch");
    assert_eq!(board.get(all.statuses(), &key(n)).unwrap().unwrap().status_id, "several");
    assert!(matches!(moved(board.as_ref(), &all, n, Logical::Testing, None), Ok(Moved::Set(_))));
    assert_eq!(scene.fake.data().labels_of(n), ["bug", "priority: high", "orch: Testing"]);
    let closed = || scene.fake.data().issues[0].closed.clone();
    moved(board.as_ref(), &all, n, Logical::Done, None).unwrap();
    assert_eq!(closed().as_deref(), Some("completed"));
    let item = board.get(all.statuses(), &key(n)).unwrap().unwrap();
    assert_eq!((item.status_id.as_str(), item.group), ("orch: Done", Some(Group::Completed)));
    // An issue that orch or a landing closed is reopened, and To Analyse on a closed one is a person's intent.
    scene.fake.data().label(n, "orch: To Analyse", "ann");
    assert_eq!(board.get(all.statuses(), &key(n)).unwrap().unwrap().status_id, "orch: To Analyse");
    moved(board.as_ref(), &all, n, Logical::Analysis, None).unwrap();
    assert_eq!(closed(), None);
    moved(board.as_ref(), &all, n, Logical::Cancelled, None).unwrap();
    assert_eq!(closed().as_deref(), Some("not_planned"));
}

#[test]
fn gh_2_what_a_person_closed_stays_closed_and_a_landing_is_no_person() {
    let scene = Scene::new();
    let board = scene.board(None);
    let all = resolved(board.as_ref());
    let n = scene.fake.data().open_issue("Greet", "");
    scene.fake.data().label(n, "orch: Development", "orch");
    let status = || board.get(all.statuses(), &key(n)).unwrap().unwrap().status_id;
    for (reason, by, want) in [
        ("completed", "ann", "closed:completed"),
        ("duplicate", "ann", "closed:not_planned"),
        ("completed", "orch", "orch: Development"),
        ("completed", "merge[bot]", "orch: Development"),
    ] {
        scene.fake.data().close_issue(n, reason, by);
        assert_eq!(status(), want, "{reason} by {by}");
        // A list may leave out who it was.
        scene.fake.data().terse = true;
        let listed = board.list(all.statuses(), &Scope::All { cursor: None }, &|| true).unwrap();
        assert_eq!(listed.items[0].status_id, want, "listed: {reason} by {by}");
    }
    scene.fake.data().close_issue(n, "completed", "ann");
    moved(board.as_ref(), &all, n, Logical::Testing, None).unwrap();
    assert_eq!(scene.fake.data().issues[0].closed.as_deref(), Some("completed"), "orch never opens it against them");
    assert_eq!(scene.fake.data().labels_of(n), ["orch: Testing"]);
}

#[test]
fn gh_2_transferred_deleted_and_gone_are_withdrawn_and_a_hidden_repository_is_not() {
    let scene = Scene::new();
    let board = scene.board(None);
    let all = resolved(board.as_ref());
    let n = scene.fake.data().open_issue("Greet", "");
    scene.fake.data().add_pull("feature/x", "main", "no work item", "");
    let get = |n| board.get(all.statuses(), &key(n));
    for status in [301, 410, 404] {
        scene.fake.data().issues[0].gone = Some(status);
        assert_eq!(get(n).unwrap(), None, "{status}");
    }
    assert_eq!(get(2).unwrap(), None, "a pull request");
    assert_eq!(get(99).unwrap(), None);
    scene.fake.data().hidden = true;
    assert!(matches!(get(n), Err(BoardError::Auth(_))));
    scene.fake.data().hidden = false;
    scene.fake.data().moved = true;
    assert!(matches!(get(n), Err(BoardError::Auth(_))), "a repository that moved stops its project");
}

#[test]
fn gh_2_a_list_that_is_as_it_was_costs_one_request_and_gives_nothing() {
    let scene = Scene::new();
    let all = resolved(scene.board(None).as_ref());
    for n in 0..3 {
        scene.fake.data().open_issue(&format!("Item {n}"), "");
    }
    scene.fake.data().add_pull("feature/x", "main", "no work item", "");
    let list = |board: &dyn Board, scope: &Scope<'_>| board.list(all.statuses(), scope, &|| true).unwrap();
    let board = scene.board(None);
    let whole = list(board.as_ref(), &Scope::All { cursor: None });
    assert_eq!((whole.items.len(), whole.requests, board.seen()), (3, 1, None));
    let since = Scope::Since(whole.items[1].updated_ms);
    let first = list(board.as_ref(), &since);
    assert_eq!(first.items.iter().map(|i| i.key.as_str()).collect::<Vec<_>>(), ["SHOP-2", "SHOP-3"]);
    let seen = board.seen();
    assert!(seen.is_some());
    scene.fake.clear_log();
    let left = scene.fake.data().left;
    let next = scene.board(seen.clone());
    let idle = list(next.as_ref(), &since);
    assert_eq!((idle.items.len(), idle.requests), (0, 1));
    assert_eq!((scene.fake.log().len(), scene.fake.data().left), (1, left), "free of quota");
    assert_eq!(next.seen(), seen);
    scene.fake.data().label(1, "bug", "ann");
    assert_eq!(list(scene.board(seen.clone()).as_ref(), &since).items.len(), 3);
    // A list known from another address says nothing.
    assert_eq!(list(scene.board(seen).as_ref(), &Scope::Since(whole.items[0].updated_ms)).items.len(), 3);
}

#[test]
fn gh_2_a_long_list_continues_where_a_limit_cut_it_and_the_reserve_is_kept() {
    let scene = Scene::new();
    let board = scene.board(None);
    let all = resolved(board.as_ref());
    for n in 0..230 {
        scene.fake.data().open_issue(&format!("Item {n}"), "");
    }
    let list = |scope: &Scope<'_>| board.list(all.statuses(), scope, &|| true);
    assert_eq!(list(&Scope::All { cursor: None }).unwrap().items.len(), 230);
    assert_eq!(list(&Scope::Since(0)).unwrap().items.len(), 230);
    scene.fake.data().left = Some(100);
    let part = list(&Scope::All { cursor: None }).unwrap();
    let unfinished = part.unfinished.unwrap();
    assert!(unfinished.why == Cut::Reserve && part.items.len() == 200, "{}", part.items.len());
    assert_eq!(unfinished.cursor.as_deref(), Some("3"));
    // The changed items are read all the same: they may have intents.
    assert_eq!(list(&Scope::Since(0)).unwrap().items.len(), 230);
    scene.fake.data().left = Some(4000);
    drop(scene.board(None));
    let rest = scene.board(None).list(all.statuses(), &Scope::All { cursor: Some("3") }, &|| true).unwrap();
    assert_eq!(rest.items.len(), 30);
    scene.fake.fault(&format!("GET {R}/issues"), Fault::throttled(9), 1);
    assert!(matches!(list(&Scope::Since(0)), Err(BoardError::Throttled { retry_after_s: Some(9), .. })));
}

#[test]
fn gh_2_who_may_decide_is_asked_by_event_and_right() {
    let scene = Scene::new();
    let board = scene.board(None);
    let n = scene.fake.data().open_issue("Greet", "");
    {
        let mut data = scene.fake.data();
        for (login, right) in [("writer", "write"), ("triager", "read"), ("guest", "none")] {
            data.rights.push((login.into(), right.into()));
        }
    }
    let deed = Deed::Status("orch: Approved");
    let who = || board.who(&key(n), &n.to_string(), &deed).unwrap();
    assert_eq!(who(), None, "its event is not there yet");
    let mut last = None;
    for (login, may) in [
        ("triager", false),
        ("guest", false),
        ("stranger", false),
        ("dep[bot]", false),
        ("writer", true),
        ("ann", true),
    ] {
        scene.fake.data().label(n, "orch: Approved", login);
        let doer = who().unwrap();
        assert_eq!(doer.name, login);
        assert_eq!(board.may_decide(&doer).unwrap(), may, "{login}");
        assert_ne!(doer.event, last, "each has an identity of its own");
        last = doer.event;
    }
    scene.fake.data().events.last_mut().unwrap().through_app = true;
    assert!(!board.may_decide(&who().unwrap()).unwrap(), "through an App");
    scene.fake.fault(&format!("GET {R}/collaborators"), Fault::status(500), 1);
    scene.fake.data().label(n, "orch: Approved", "ann");
    assert!(matches!(board.may_decide(&who().unwrap()), Err(BoardError::Transient(_))), "unreadable: later");
}

#[test]
fn gh_2_of_several_intents_stop_counts_else_the_later() {
    let scene = Scene::new();
    let board = scene.board(None);
    let all = resolved(board.as_ref());
    let n = scene.fake.data().open_issue("Greet", "");
    let status = || board.get(all.statuses(), &key(n)).unwrap().unwrap().status_id;
    scene.fake.data().label(n, "orch: Confirm Deploy", "ann");
    scene.fake.data().label(n, "orch: Approved", "ann");
    assert_eq!(status(), "orch: Approved");
    scene.fake.data().label(n, "orch: Confirm Deploy", "ann");
    assert_eq!(status(), "orch: Confirm Deploy");
    scene.fake.data().label(n, "orch: STOP", "ann");
    scene.fake.data().label(n, "orch: Approved", "ann");
    assert_eq!(status(), "orch: STOP");
}

#[test]
fn contract_words_and_items_are_made_once_and_what_blocks_is_reported() {
    let scene = Scene::new();
    let board = scene.board(None);
    let all = resolved(board.as_ref());
    let status = all.status_for(Logical::ToAnalyse).unwrap();
    let new = |marker| NewItem {
        title: "Greet",
        body: "Say hello.",
        labels: &[],
        priority: Priority::Low,
        blocked_by: &[],
        status,
        marker,
        now_ms: 0,
    };
    let first = board.create(&new(Some("staging/1"))).unwrap();
    assert_eq!(board.create(&new(Some("staging/1"))).unwrap(), first);
    let item = board.get(all.statuses(), &first).unwrap().unwrap();
    assert_eq!((item.status_id.as_str(), item.priority), ("orch: To Analyse", Priority::Low));
    scene.fake.fault(&format!("POST {R}/issues/1/comments"), Fault::CutAfterEffect, 1);
    assert!(board.comment(&item, "orch:1/done", "Done", 0).unwrap());
    assert!(!board.comment(&item, "orch:1/done", "Done", 0).unwrap());
    assert_eq!(scene.fake.data().comments.len(), 1);
    scene.fake.data().issues[0].locked = true;
    assert!(!board.comment(&item, "orch:1/more", "More", 0).unwrap(), "what a locked issue refuses is dropped");
    // Held until the other is closed as completed.
    let other = board.create(&new(None)).unwrap();
    assert!(board.blocked_by(&item).unwrap().is_empty());
    scene.fake.data().issues[0].blocked_by = vec![2];
    assert_eq!(board.blocked_by(&item).unwrap(), [ItemRef::Key(other)]);
    scene.fake.data().close_issue(2, "not_planned", "ann");
    assert_eq!(board.blocked_by(&item).unwrap().len(), 1);
    scene.fake.data().close_issue(2, "completed", "ann");
    assert!(board.blocked_by(&item).unwrap().is_empty());
    scene.fake.data().close_issue(2, "not_planned", "ann");
    scene.fake.fault(&format!("GET {R}/issues/1/dependencies"), Fault::Answer(Reply::html(502, "<html>")), 1);
    assert!(board.blocked_by(&item).is_err(), "unreadable: held");
}
