//! What every board must do (BRD-1), tested on each: a folder, Plane, GitHub, and one that only these tests know.

use crate::support::github::{self, FakeGithub};
use crate::support::json_board::JsonBoard;
use crate::support::plane::{self, FakePlane};
use orch::adapters::board::{self, Board, Listing, Move, Moved, NewItem, Scope};
use orch::model::board::{Group, Logical, Priority, Resolved, WorkItem, resolve};
use orch::model::examined::Level;
use orch::model::ids::Key;
use orch::model::secret::SecretRef;
use orch::model::sides::{
    Board as Address, BoardComments, BoardLabels, GithubBoard, GithubLogin, GithubRepo, LocalBoard, Opening, PlaneBoard,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Opens a board from what was kept of it.
type Opened<'a> = dyn Fn(&Kept) -> Box<dyn Board> + 'a;
type Kept = BTreeMap<String, String>;

/// A board as it is opened, and what is kept of it between two openings.
struct Place<'a> {
    name: &'a str,
    key: &'a str,
    open: &'a Opened<'a>,
    /// A person withdraws a work item.
    withdraw: &'a dyn Fn(&Key),
}

impl Place<'_> {
    fn board(&self) -> Box<dyn Board> {
        (self.open)(&BTreeMap::new())
    }
}

fn opened(
    address: &Address,
    key: &str,
    secret: &str,
    known: &BTreeMap<String, String>,
    shared: &Path,
) -> Box<dyn Board> {
    let with = Opening {
        key,
        secret: Some(secret),
        known,
        seen: None,
        contact: true,
        shared,
        write_gap: Duration::ZERO,
        reserve: 0,
        patience: None,
    };
    board::open(address, &with).unwrap()
}

/// Runs a test on every kind of board, each empty.
fn on_every_board(test: impl Fn(&Place<'_>)) {
    let folder = tempfile::tempdir().unwrap();
    let (dir, file) = (folder.path().join("issues"), folder.path().join("board.json"));
    let secret = SecretRef::Env("UNUSED".into());
    let local = Address::Local(LocalBoard { dir: dir.clone(), statuses: BTreeMap::new(), deciders: vec![] });
    test(&Place {
        name: "local",
        key: "SHOP",
        open: &|known| opened(&local, "SHOP", "", known, folder.path()),
        withdraw: &|key| std::fs::remove_file(dir.join(format!("{key}.md"))).unwrap(),
    });
    let fake = FakePlane::start();
    let server = Address::Plane(PlaneBoard {
        url: fake.url(),
        workspace: plane::WORKSPACE.into(),
        project: plane::PROJECT.into(),
        api_key: secret.clone(),
        statuses: BTreeMap::new(),
        full_scan_every_s: 60,
        deciders: vec![],
    });
    test(&Place {
        name: "plane",
        key: "ORCH",
        open: &|known| opened(&server, "ORCH", plane::KEY, known, folder.path()),
        withdraw: &|key| fake.data().item_mut(key.number()).archived = true,
    });
    let hub = FakeGithub::start(folder.path());
    let issues = Address::Github(GithubBoard {
        comments: BoardComments::default(),
        project: None,
        repo: GithubRepo {
            api_base: hub.url(),
            owner: "team".into(),
            name: "app".into(),
            login: GithubLogin::Token(secret),
        },
        labels: BoardLabels { prefix: "orch: ".into(), priority: "priority: ".into() },
        statuses: BTreeMap::new(),
        deciders: vec![],
        full_scan_every_s: 60,
    });
    test(&Place {
        name: "github",
        key: "SHOP",
        open: &|known| opened(&issues, "SHOP", github::TOKEN, known, folder.path()),
        withdraw: &|key| {
            hub.data().issues.iter_mut().find(|i| i.number == key.number() as i64).unwrap().gone = Some(410)
        },
    });
    test(&Place {
        name: "json",
        key: "SHOP",
        open: &|_| Box::new(JsonBoard { file: file.clone(), key: "SHOP".into(), statuses: BTreeMap::new() }),
        withdraw: &|_| std::fs::remove_file(&file).unwrap(),
    });
}

fn resolved(board: &dyn Board) -> Resolved {
    resolve(&board.statuses().unwrap(), &BTreeMap::new())
}

fn make(board: &dyn Board, all: &Resolved, title: &str) -> Key {
    let new = NewItem {
        title,
        body: "Say hello.",
        labels: &[],
        priority: Priority::None,
        blocked_by: &[],
        status: all.status_for(Logical::ToAnalyse).unwrap(),
        marker: None,
        now_ms: 1_000,
    };
    board.create(&new).unwrap()
}

fn read(board: &dyn Board, all: &Resolved, key: &Key) -> Option<WorkItem> {
    board.get(all.statuses(), key).unwrap()
}

fn whole(board: &dyn Board, all: &Resolved) -> Listing {
    board.list(all.statuses(), &Scope::All { cursor: None }, &|| true).unwrap()
}

#[test]
fn contract_every_status_that_steers_is_there_once_it_is_prepared() {
    on_every_board(|place| {
        let (board, name) = (place.board(), place.name);
        board.prepare().unwrap();
        assert!(board.prepare().unwrap().is_empty(), "{name}: made once");
        let all = resolved(board.as_ref());
        assert!(all.off().is_empty(), "{name}: {:?}", all.off());
        for (logical, group) in [(Logical::Done, Group::Completed), (Logical::Cancelled, Group::Cancelled)] {
            assert_eq!(all.status_for(logical).unwrap().group, Some(group), "{name} {logical}");
        }
        let said = board.examine();
        assert!(said.iter().all(|s| s.level == Level::Ok), "{name}: {said:?}");
        assert!(board.labels().is_ok(), "{name}");
    });
}

#[test]
fn contract_a_work_item_is_made_listed_read_and_moved_only_from_where_it_was_seen() {
    on_every_board(|place| {
        let (board, name) = (place.board(), place.name);
        board.prepare().unwrap();
        let all = resolved(board.as_ref());
        let keys = [make(board.as_ref(), &all, "Greet people"), make(board.as_ref(), &all, "Greet cats")];
        assert_ne!(keys[0], keys[1], "{name}");
        assert!(keys.iter().all(|k| k.prefix() == place.key), "{name}");
        let listing = whole(board.as_ref(), &all);
        assert!(listing.unfinished.is_none() && listing.problems.is_empty(), "{name}: {listing:?}");
        let mut seen: Vec<&Key> = listing.items.iter().map(|i| &i.key).collect();
        seen.sort_by_key(|k| k.number());
        assert_eq!(seen, keys.iter().collect::<Vec<_>>(), "{name}");
        let item = read(board.as_ref(), &all, &keys[0]).unwrap();
        assert_eq!(item.title, "Greet people", "{name}");
        assert!(item.body.is_some(), "{name}: one that is read has its body");
        let [asked, next] = [Logical::ToAnalyse, Logical::Analysis].map(|l| all.status_for(l).unwrap());
        assert_eq!(item.status_id, asked.id, "{name}");
        assert_eq!(board.blocked_by(&item).unwrap(), [], "{name}");
        let moved = |to, expect| board.set_status(all.statuses(), &item, &Move { to, expect, now_ms: 2_000 }).unwrap();
        let Moved::Held(held) = moved(next, Some("elsewhere")) else { panic!("{name}: it was not there") };
        assert_eq!(held.status_id, asked.id, "{name}");
        let Moved::Set(set) = moved(next, Some(&asked.id)) else { panic!("{name}") };
        assert_eq!(set.status_id, next.id, "{name}");
        assert!(matches!(moved(next, None), Moved::Already(_)), "{name}");
        let done = all.status_for(Logical::Done).unwrap();
        assert!(matches!(moved(done, None), Moved::Set(_)), "{name}");
        let ended = read(board.as_ref(), &all, &keys[0]).unwrap();
        assert_eq!((ended.status_id, ended.group), (done.id.clone(), Some(Group::Completed)), "{name}");
        let other = read(board.as_ref(), &all, &keys[1]).unwrap();
        assert_eq!(other.status_id, asked.id, "{name}: no other item moves");
    });
}

#[test]
fn contract_a_comment_is_said_once_per_marker() {
    on_every_board(|place| {
        let (board, name) = (place.board(), place.name);
        board.prepare().unwrap();
        let all = resolved(board.as_ref());
        let item = read(board.as_ref(), &all, &make(board.as_ref(), &all, "Greet")).unwrap();
        for (marker, is_new) in [("orch:1/a", true), ("orch:1/a", false), ("orch:1/b", true)] {
            // A marker inside a text does not count.
            let said = board.comment(&item, marker, "Done <!-- orch:1/b -->", 3_000).unwrap();
            assert_eq!(said, is_new, "{name} {marker}");
        }
    });
}

#[test]
fn contract_an_item_that_a_person_deletes_is_gone_and_is_not_written() {
    on_every_board(|place| {
        let (board, name) = (place.board(), place.name);
        board.prepare().unwrap();
        let all = resolved(board.as_ref());
        let absent = Key::parse(&format!("{}-999", place.key)).unwrap();
        assert_eq!(read(board.as_ref(), &all, &absent), None, "{name}");
        let key = make(board.as_ref(), &all, "Greet");
        let item = read(board.as_ref(), &all, &key).unwrap();
        (place.withdraw)(&key);
        assert_eq!(read(board.as_ref(), &all, &key), None, "{name}");
        let change = Move { to: all.status_for(Logical::Analysis).unwrap(), expect: None, now_ms: 2_000 };
        assert_eq!(board.set_status(all.statuses(), &item, &change).unwrap(), Moved::Withdrawn, "{name}");
    });
}

/// What a board keeps makes the next opening the same board, without asking again.
#[test]
fn contract_a_board_is_known_again_by_what_was_kept_of_it() {
    on_every_board(|place| {
        let (board, name) = (place.board(), place.name);
        board.prepare().unwrap();
        board.confirm().unwrap();
        let all = resolved(board.as_ref());
        let key = make(board.as_ref(), &all, "Greet");
        let kept = board.kept();
        let again = (place.open)(&kept.iter().cloned().collect());
        again.confirm().unwrap();
        assert_eq!(again.kept(), kept, "{name}");
        assert_eq!(read(again.as_ref(), &all, &key).unwrap().title, "Greet", "{name}");
    });
}
