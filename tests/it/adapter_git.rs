//! The mirror, histories, updates and pushes against real git.

use crate::support::git::{World, head, person_git, raw, write};
use orch::adapters::forge::MergeOutcome;
use orch::adapters::forge::{Landing, LocalForge};
use orch::adapters::git::{DeleteOutcome, Git, GitError, MergeMethod, Mirror, PushOutcome, UpdateMode};
use orch::model::ids::{Key, Sha};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

fn key() -> Key {
    Key::parse("ORCH-7").unwrap()
}

fn script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_missing_or_old_git_is_named_with_the_way_out() {
    assert!(matches!(Git::new("/no/such/git"), Err(GitError::Missing { .. })));
    let world = World::new();
    let old = world.path("old-git");
    script(&old, "#!/bin/sh\necho git version 2.30.2\n");
    let error = Git::new(&old).unwrap_err().to_string();
    assert!(error.contains("2.30 is too old") && error.contains("2.38"), "{error}");
}

#[test]
fn a_git_that_hangs_is_ended_with_its_children() {
    let world = World::new();
    let slow = world.path("slow-git");
    let pid = world.path("pid");
    script(
        &slow,
        &format!(
            "#!/bin/sh\ncase \"$*\" in *version) echo git version 2.47.3; exit;; esac\nsleep 600 &\necho $! > {}\nwait\n",
            pid.display()
        ),
    );
    let git = Git::new(&slow).unwrap().with_limits(Duration::from_secs(1), Duration::from_secs(1));
    let begun = Instant::now();
    let error = git.cmd(world.folder.path()).args(["status"]).run().unwrap_err();
    assert!(matches!(error, GitError::Timeout { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let child: i32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    // It was asked to end; the kernel says when it has.
    let child = rustix::process::Pid::from_raw(child).unwrap();
    if let Ok(fd) = rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()) {
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let bound = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut fds, Some(&bound)).unwrap(), 1, "the child outlived its git");
    }
}

#[test]
fn eight_at_once_make_and_fetch_one_mirror() {
    let world = World::new();
    let path = world.path("state/repos/r.git");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (world, path) = (&world, &path);
            scope.spawn(move || {
                let mirror = Mirror::open(&world.git, path, &world.remote(), None).unwrap();
                mirror.fetch().unwrap();
                let sha = mirror.tracking("main").unwrap().unwrap();
                mirror.push_new_branch(&format!("b{n}"), &sha).unwrap();
            });
        }
    });
    let mirror = world.mirror();
    for n in 0..8 {
        assert!(mirror.tracking(&format!("b{n}")).unwrap().is_some());
    }
    let names: Vec<_> = std::fs::read_dir(world.path("state/repos")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn an_unreachable_remote_is_not_a_missing_branch() {
    let world = World::new();
    let mirror = world.mirror();
    assert_eq!(mirror.remote_head("absent").unwrap(), None);
    assert!(matches!(mirror.fetch_branch("absent"), Err(GitError::NotFound { .. })));
    assert_eq!(mirror.remote_head("main").unwrap(), Some(head(&world.person())));
    assert_eq!(mirror.default_branch().unwrap(), "main");
    std::fs::rename(world.path("remote.git"), world.path("away.git")).unwrap();
    let sha = head(&world.person());
    for error in [
        mirror.remote_head("main").unwrap_err(),
        mirror.fetch().unwrap_err(),
        mirror.fetch_branch("main").unwrap_err(),
        mirror.default_branch().unwrap_err(),
        mirror.push("main", &sha).unwrap_err(),
    ] {
        assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
    }
    let far = Mirror::open(&world.git, &world.path("far.git"), "http://user:s3cret@127.0.0.1:1/x.git", None).unwrap();
    let error = far.fetch().unwrap_err();
    assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

#[test]
fn a_remote_that_runs_a_program_is_refused() {
    let world = World::new();
    let mark = world.path("ran");
    let remote = format!("ext::touch {}", mark.display());
    let mirror = Mirror::open(&world.git, &world.path("m.git"), &remote, None).unwrap();
    assert!(mirror.fetch().is_err());
    assert!(!mark.exists());
    assert!(Mirror::open(&world.git, &world.path("n.git"), "--upload-pack=x", None).is_err());
}

#[test]
fn rule_11_a_create_only_push_onto_an_equal_branch_is_not_ours() {
    let world = World::new();
    let mirror = world.mirror();
    let base = head(&world.person());
    assert_eq!(mirror.push_new_branch("feature/x", &base).unwrap(), PushOutcome::Created);
    world.push("persons");
    assert_eq!(mirror.push_new_branch("persons", &base).unwrap(), PushOutcome::Same);
    let next = world.commit(&[("n", "n")], "next");
    world.push("ahead");
    mirror.fetch().unwrap();
    assert!(matches!(mirror.push_new_branch("ahead", &base).unwrap(), PushOutcome::Rejected { moved: true, .. }));
    assert_eq!(mirror.remote_head("ahead").unwrap(), Some(next));
}

#[test]
fn rule_11_a_branch_is_deleted_only_at_the_known_commit_and_never_the_default_one() {
    let world = World::new();
    let mirror = world.mirror();
    let base = head(&world.person());
    mirror.push_new_branch("feature/x", &base).unwrap();
    assert!(mirror.delete_branch("main", &base, "main").is_err());
    let moved = world.commit(&[("n", "n")], "a person's commit");
    world.push("feature/x");
    assert!(matches!(mirror.delete_branch("feature/x", &base, "main").unwrap(), DeleteOutcome::Kept { .. }));
    mirror.fetch().unwrap();
    mirror.keep_ref("refs/orch/cancelled/12", &moved).unwrap();
    assert_eq!(mirror.delete_branch("feature/x", &moved, "main").unwrap(), DeleteOutcome::Deleted);
    assert_eq!(mirror.delete_branch("feature/x", &moved, "main").unwrap(), DeleteOutcome::Gone);
    assert_eq!(mirror.resolve("refs/orch/cancelled/12").unwrap(), Some(moved.clone()));
    assert!(mirror.keep_ref("refs/heads/main", &moved).is_err());
    mirror.drop_ref("refs/orch/cancelled/12").unwrap();
    mirror.drop_ref("refs/orch/cancelled/12").unwrap();
}

#[test]
fn a_lease_holds_although_a_fetch_moved_the_tracking_ref() {
    let world = World::new();
    let mirror = world.mirror();
    let base = head(&world.person());
    mirror.push_new_branch("b", &base).unwrap();
    let theirs = world.commit(&[("t", "t")], "theirs");
    world.push("b");
    mirror.fetch().unwrap();
    assert!(matches!(mirror.push_with_lease("b", &base, &base).unwrap(), PushOutcome::Rejected { moved: true, .. }));
    assert!(matches!(mirror.push("b", &base).unwrap(), PushOutcome::Rejected { moved: true, .. }));
    assert_eq!(mirror.remote_head("b").unwrap(), Some(theirs));
}

#[test]
fn rule_31_a_lease_does_not_recreate_a_branch_that_somebody_deleted() {
    let world = World::new();
    let mirror = world.mirror();
    let base = head(&world.person());
    mirror.push_new_branch("b", &base).unwrap();
    world.commit(&[("t", "t")], "more");
    world.push("main");
    mirror.fetch().unwrap();
    let more = mirror.tracking("main").unwrap().unwrap();
    person_git(&world.person(), &["push", "-q", "origin", ":b"]);
    assert_eq!(mirror.glance(&[("b", None)]).unwrap().at, [Some(base.clone())], "what was answered a moment ago");
    assert_eq!(mirror.glance(&[("b", Some(&base))]).unwrap().at, [Some(base.clone())], "and what it confirms");
    // Another process may have pushed the recorded head since.
    assert_eq!(mirror.glance(&[("b", Some(&more))]).unwrap().at, [None], "an older answer contradicts nothing");
    assert!(matches!(mirror.push_with_lease("b", &more, &base).unwrap(), PushOutcome::Rejected { moved: true, .. }));
    assert_eq!(mirror.remote_head("b").unwrap(), None);
}

#[test]
fn a_hook_of_the_server_is_a_refusal_not_a_move() {
    let world = World::new();
    let mirror = world.mirror();
    script(&world.path("remote.git/hooks/pre-receive"), "#!/bin/sh\necho no; exit 1\n");
    let outcome = mirror.push_new_branch("b", &head(&world.person())).unwrap();
    assert!(matches!(outcome, PushOutcome::Rejected { moved: false, .. }), "{outcome:?}");
}

#[test]
fn rule_29_a_killed_fetch_does_not_wedge_the_mirror() {
    let world = World::new();
    let mirror = world.mirror();
    // What a killed git leaves: recreated by name, older than the next holder of the lock.
    for name in [
        "refs/remotes/origin/main.lock",
        "packed-refs.lock",
        "config.lock",
        "HEAD.lock",
        "objects/info/commit-graphs.lock",
    ] {
        let path = mirror.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let next = world.commit(&[("n", "n")], "next");
    world.push("main");
    mirror.fetch().unwrap();
    assert_eq!(mirror.tracking("main").unwrap(), Some(next));
    // A young one may be in use: it stays.
    let young = mirror.path().join("refs/remotes/origin/other.lock");
    let file = std::fs::File::create(&young).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(3600)).unwrap();
    mirror.fetch().unwrap();
    assert!(young.exists());
}

#[test]
fn rule_29_the_lock_outlives_a_killed_orch_as_long_as_its_git_writes() {
    let world = World::new();
    let mirror = world.mirror();
    // A stand-in for an orch that was killed: it is gone, but its git still has the lock as standard input.
    let lock = std::fs::File::open(world.path("state/repos/r.git.lock")).unwrap();
    let taken = lock.try_lock();
    taken.unwrap();
    let mut child = std::process::Command::new("sleep").arg("600").stdin(lock).spawn().unwrap();
    let busy = mirror.clone().with_lock_wait(Duration::from_millis(200)).fetch().unwrap_err();
    assert!(matches!(busy, GitError::Busy { .. }) && busy.is_transient(), "{busy}");
    child.kill().unwrap();
    child.wait().unwrap();
    mirror.fetch().unwrap();
}

#[test]
fn rule_29_pruned_branches_go_and_folders_change_places() {
    let world = World::new();
    world.push("a/b");
    let mirror = world.mirror();
    assert!(mirror.tracking("a/b").unwrap().is_some());
    raw(&world.person(), &["push", "-q", "origin", ":a/b"]);
    world.push("a");
    mirror.fetch().unwrap();
    assert_eq!(mirror.tracking("a/b").unwrap(), None);
    assert!(mirror.tracking("a").unwrap().is_some());
}

#[test]
fn pipe_4_the_code_tree_is_blind_to_the_work_items_artefacts_only() {
    let own = |name: &str| format!("docs/work-items/ORCH-7/{name}");
    let world = World::new();
    let first = world.commit(&[("docs/work-items/ORCH-9/01-brief.md", "x")], "other item");
    let (brief, adr) = (own("01-brief.md"), own("06-adr/ADR-001-a.md"));
    let second = world.commit(&[(&brief, "x"), (&adr, "x")], "artefacts");
    let code = world.commit(&[(&own("app.sh"), "x"), (&own("06-adr/run.sh"), "x")], "code in the folder");
    let more = world.commit(&[(&adr, "y"), (&own("12-review.md"), "x")], "more artefacts");
    let third = world.commit(&[("docs/work-items/ORCH-70/01-brief.md", "x")], "another item");
    let fourth = world.commit(&[("src/a", "y")], "code");
    std::fs::set_permissions(world.person().join(&brief), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let fifth = world.commit(&[], "an artefact that can be run");
    world.push("main");
    let mirror = world.mirror();
    let tree = |sha: &Sha| mirror.code_tree(sha, &key()).unwrap();
    assert_eq!(tree(&first), mirror.tree_of(&first).unwrap());
    assert_eq!(tree(&first), tree(&second));
    // Whatever else is in the folder is code.
    assert_ne!(tree(&second), tree(&code));
    assert_eq!(tree(&code), tree(&more));
    assert_ne!(tree(&more), tree(&third));
    assert_ne!(tree(&third), tree(&fourth));
    assert_ne!(tree(&fourth), tree(&fifth));
    // If an item's folder is all there is under `docs`, no empty folder stays behind.
    world.switch("only", &format!("{first}~1"));
    let bare = head(&world.person());
    let only = world.commit(&[(&brief, "x"), (&adr, "x")], "artefacts alone");
    world.push("only");
    mirror.fetch().unwrap();
    assert_eq!(tree(&bare), tree(&only));
}

#[test]
fn hostile_names_and_kinds_are_read_without_harm() {
    let world = World::new();
    let person = world.person();
    for name in [&b"d/new\nline"[..], b"d/\"quote\"", b"-rf", b"d/\xff\xfe", b"d/:(top)x", b"d/*"] {
        write(&person, name, "text");
    }
    std::os::unix::fs::symlink("/etc/passwd", person.join("link")).unwrap();
    std::os::unix::fs::symlink("src", person.join("folder")).unwrap();
    let base = head(&person);
    let sha = world.commit(&[("big", &"x".repeat((1 << 20) + 1))], "hostile");
    world.push("main");
    let mirror = world.mirror();
    let names: Vec<String> = mirror.list_paths(&sha, &["d".to_owned()]).unwrap().iter().map(|e| e.text()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(names.iter().any(|n| n == "d/new\nline"));
    for path in ["-rf", "d/\"quote\"", "d/new\nline", "d/*", "d/:(top)x"] {
        assert_eq!(mirror.read_file(&sha, path).unwrap().as_deref(), Some(&b"text"[..]), "{path:?}");
    }
    for path in ["link", "folder", "folder/a", "src", "../x", "/etc/passwd", "", "absent", "d/"] {
        assert_eq!(mirror.read_file(&sha, path).unwrap(), None, "{path:?}");
    }
    assert!(matches!(mirror.read_file(&sha, "big"), Err(GitError::Rejected { .. })));
    let changed = mirror.changed_paths(&base, &sha).unwrap();
    assert_eq!(changed.len(), 9, "{changed:?}");
    assert!(changed.iter().any(|p| p.contains('\u{fffd}')));
    assert_eq!(mirror.diff_stat_lines(&base, &sha).unwrap().files, 9);
    assert!(mirror.blob_of(&sha, "-rf").unwrap().is_some());
    assert!(matches!(mirror.tree_of(&Sha::parse(&"0".repeat(40)).unwrap()), Err(GitError::NotFound { .. })));
}

#[test]
fn rule_22_a_path_changed_and_changed_back_is_seen() {
    let world = World::new();
    let start = head(&world.person());
    world.commit(&[("secret.yml", "x")], "in");
    std::fs::remove_file(world.person().join("secret.yml")).unwrap();
    let end = world.commit(&[("ok", "x")], "out");
    world.push("b");
    let mirror = world.mirror();
    let paths = mirror.new_paths(&start, &start, &end).unwrap();
    assert_eq!(paths.into_iter().collect::<Vec<_>>(), ["ok", "secret.yml"]);
    assert_eq!(mirror.changed_paths(&start, &end).unwrap(), ["ok"]);
}

#[test]
fn rule_22_merging_the_default_branch_is_clean_but_an_evil_merge_is_not() {
    let world = World::new();
    let base = head(&world.person());
    let default = world.commit(&[("theirs", "x"), ("deploy.sh", "1")], "on main");
    world.push("main");
    world.switch("b", base.as_str());
    let start = world.commit(&[("mine", "x")], "on the branch");
    raw(&world.person(), &["merge", "-q", "--no-edit", "main"]);
    let clean = head(&world.person());
    world.push("clean");
    world.switch("evil", start.as_str());
    raw(&world.person(), &["merge", "-q", "--no-commit", "main"]);
    let evil = world.commit(&[("deploy.sh", "2")], "evil merge");
    world.push("evil");
    // Keeping one side of everything is a change too: to what the merge would have brought.
    world.switch("ours", start.as_str());
    raw(&world.person(), &["merge", "-q", "-s", "ours", "--no-edit", "main"]);
    let ours = head(&world.person());
    world.push("ours");
    let mirror = world.mirror();
    let new = |head: &Sha| mirror.new_paths(&start, &default, head).unwrap().into_iter().collect::<Vec<_>>();
    assert!(new(&clean).is_empty());
    assert_eq!(new(&evil), ["deploy.sh"]);
    assert_eq!(new(&ours), ["deploy.sh", "theirs"]);
    assert!(mirror.has_merge_commit(&default, &evil).unwrap());
}

#[test]
fn rule_22_an_octopus_hides_nothing() {
    let world = World::new();
    let base = head(&world.person());
    for branch in ["x", "y"] {
        world.switch(branch, base.as_str());
        world.commit(&[(branch, "x")], branch);
    }
    world.switch("o", base.as_str());
    world.commit(&[("o", "x")], "o");
    raw(&world.person(), &["merge", "-q", "--no-edit", "x", "y"]);
    write(&world.person(), b"hidden", "x");
    raw(&world.person(), &["add", "-A"]);
    raw(&world.person(), &["commit", "-q", "--amend", "--no-edit"]);
    let end = head(&world.person());
    world.push("o");
    let mirror = world.mirror();
    assert!(mirror.new_paths(&base, &base, &end).unwrap().contains("hidden"));
}

#[test]
fn rule_30_a_repeated_update_makes_the_same_commits_and_keeps_every_patch() {
    let world = World::new();
    let old = head(&world.person());
    let base = world.commit(&[("src/a", "1\n2\n3\n4\n5\n6\n7\n8\nnine\n")], "base moves");
    world.push("main");
    world.switch("b", old.as_str());
    world.commit(&[("src/a", "one\n2\n3\n4\n5\n6\n7\n8\n9\n")], "first\n\nbody");
    let tip = world.commit(&[("src/b", "x")], "second");
    world.push("b");
    let mirror = world.mirror();
    let who = World::author();
    let new = mirror.update_branch(&base, &tip, UpdateMode::Rebase, &who).unwrap();
    assert_eq!(mirror.update_branch(&base, &tip, UpdateMode::Rebase, &who).unwrap(), new);
    assert_eq!(mirror.update_branch(&base, &new, UpdateMode::Rebase, &who).unwrap(), new);
    assert!(mirror.is_ancestor(&base, &new).unwrap());
    assert_eq!(mirror.commits(&base, &new).unwrap().len(), 2);
    assert_eq!(mirror.patch_ids(&old, &tip).unwrap(), mirror.patch_ids(&base, &new).unwrap());
    assert_eq!(mirror.read_file(&new, "src/a").unwrap().unwrap(), b"one\n2\n3\n4\n5\n6\n7\n8\nnine\n");
    let shown = raw(mirror.path(), &["log", "-1", "--format=%an %ad|%cn %cd", new.as_str()]);
    let (author, committer) = shown.split_once('|').unwrap();
    assert!(author.starts_with("Pat ") && committer.starts_with("Orch "));
    assert_eq!(author.trim_start_matches("Pat"), committer.trim_start_matches("Orch"));
    assert!(matches!(mirror.push_new_branch("b2", &tip).unwrap(), PushOutcome::Created));
    assert_eq!(mirror.push_with_lease("b2", &new, &tip).unwrap(), PushOutcome::Updated);
    // A remote that forbids forced pushes says the same words as for a branch that moved, but it did not move
    // (RULE-45).
    let bare = world.remote();
    raw(std::path::Path::new(&bare), &["config", "receive.denyNonFastForwards", "true"]);
    let PushOutcome::Rejected { reason, moved: false } = mirror.push_with_lease("b2", &tip, &new).unwrap() else {
        panic!("it is refused, and nothing moved");
    };
    assert!(reason.contains("denying non-fast-forward"), "in the remote's words: {reason}");
}

#[test]
fn rule_30_a_branch_with_a_merge_is_updated_by_merge_and_keeps_the_resolution() {
    let world = World::new();
    let old = head(&world.person());
    world.commit(&[("README", "main says\n")], "main's word");
    world.switch("b", old.as_str());
    world.commit(&[("README", "branch says\n")], "the branch's word");
    person_git(&world.person(), &["merge", "-q", "main"]);
    let tip = world.commit(&[("README", "both say\n")], "resolved");
    world.push("b");
    raw(&world.person(), &["checkout", "-q", "main"]);
    let base = world.commit(&[("other", "x")], "main moves on");
    world.push("main");
    let mirror = world.mirror();
    let new = mirror.update_branch(&base, &tip, UpdateMode::Rebase, &World::author()).unwrap();
    assert_eq!(mirror.update_branch(&base, &tip, UpdateMode::Rebase, &World::author()).unwrap(), new);
    assert!(mirror.is_ancestor(&tip, &new).unwrap() && mirror.is_ancestor(&base, &new).unwrap());
    assert_eq!(mirror.read_file(&new, "README").unwrap().unwrap(), b"both say\n");
    assert!(mirror.new_paths(&tip, &base, &new).unwrap().is_empty());
}

#[test]
fn a_conflict_names_its_paths() {
    let world = World::new();
    let old = head(&world.person());
    let base = world.commit(&[("README", "main\n"), ("src/a", "main\n")], "main");
    world.push("main");
    world.switch("b", old.as_str());
    let tip = world.commit(&[("README", "branch\n"), ("src/a", "branch\n")], "branch");
    world.push("b");
    let mirror = world.mirror();
    for mode in [UpdateMode::Rebase, UpdateMode::Merge] {
        let Err(GitError::Conflict { paths }) = mirror.update_branch(&base, &tip, mode, &World::author()) else {
            panic!("{mode:?} did not conflict")
        };
        assert_eq!(paths, ["README", "src/a"]);
    }
}

#[test]
fn run_4_the_rework_after_a_secret_is_one_commit_without_it() {
    let world = World::new();
    let base = head(&world.person());
    world.commit(&[("key", "hunter2-secret")], "oops");
    std::fs::remove_file(world.person().join("key")).unwrap();
    let tip = world.commit(&[("ok", "x")], "rework");
    world.push("b");
    let mirror = world.mirror();
    let one = mirror.squash_onto(&base, &tip, "ORCH-7: development", &World::author()).unwrap();
    assert_eq!(mirror.squash_onto(&base, &tip, "ORCH-7: development", &World::author()).unwrap(), one);
    assert_eq!(mirror.tree_of(&one).unwrap(), mirror.tree_of(&tip).unwrap());
    assert_eq!(mirror.commits(&base, &one).unwrap(), vec![one.clone()]);
    assert_eq!(mirror.new_paths(&base, &base, &one).unwrap().into_iter().collect::<Vec<_>>(), ["ok"]);
}

fn branch_world() -> (World, Mirror, Sha, Sha) {
    let world = World::new();
    let base = head(&world.person());
    world.switch("b", base.as_str());
    world.commit(&[("one", "x")], "one");
    let tip = world.commit(&[("two", "x")], "two");
    world.push("b");
    let mirror = world.mirror();
    (world, mirror, base, tip)
}

#[test]
fn rule_5_a_local_merge_repeated_after_a_crash_finds_what_landed() {
    for method in [MergeMethod::Merge, MergeMethod::Rebase, MergeMethod::Squash] {
        let (world, mirror, base, tip) = branch_world();
        let forge = LocalForge { method, identity: World::author() };
        let landing = Landing { default_branch: "main", head: &tip, expected_base: &base, message: "Land ORCH-7" };
        let MergeOutcome::Merged { commit, .. } = forge.merge(&mirror, &landing).unwrap() else { panic!("{method:?}") };
        assert_eq!(mirror.remote_head("main").unwrap(), Some(commit.clone()));
        assert_eq!(
            forge.merge(&mirror, &landing).unwrap(),
            MergeOutcome::Merged { commit: commit.clone(), pull_open: false }
        );
        // Somebody lands on top: still that commit, not the tip.
        raw(&world.person(), &["fetch", "-q", "origin"]);
        world.switch("main", "origin/main");
        world.commit(&[("later", "x")], "later");
        world.push("main");
        assert_eq!(
            forge.merge(&mirror, &landing).unwrap(),
            MergeOutcome::Merged { commit: commit.clone(), pull_open: false }
        );
        let tree = mirror.tree_of(&tip).unwrap();
        let now = mirror.tracking("main").unwrap().unwrap();
        assert_eq!(mirror.landed(&base, &now, &tree).unwrap(), Some(commit), "{method:?}");
    }
}

#[test]
fn rule_5_a_base_that_moved_lands_nothing() {
    let (world, mirror, base, tip) = branch_world();
    world.switch("main", base.as_str());
    let other = world.commit(&[("other", "x")], "other");
    world.push("main");
    let forge = LocalForge { method: MergeMethod::Merge, identity: World::author() };
    let landing = Landing { default_branch: "main", head: &tip, expected_base: &base, message: "m" };
    assert_eq!(forge.merge(&mirror, &landing).unwrap(), MergeOutcome::BaseMoved);
    assert_eq!(mirror.remote_head("main").unwrap(), Some(other.clone()));
    assert_eq!(mirror.landed(&base, &other, &mirror.tree_of(&tip).unwrap()).unwrap(), None);
    assert!(matches!(mirror.land("main", &tip, &base).unwrap(), PushOutcome::Rejected { moved: true, .. }));
    assert!(matches!(mirror.land("main", &tip, &other), Err(GitError::Rejected { .. })));
}

#[test]
fn rule_5_a_squash_by_somebody_else_is_found_by_its_tree() {
    let (world, mirror, base, tip) = branch_world();
    world.switch("main", base.as_str());
    raw(&world.person(), &["merge", "-q", "--squash", tip.as_str()]);
    let squash = world.commit(&[], "squashed by hand");
    world.commit(&[("later", "x")], "later");
    world.push("main");
    let forge = LocalForge { method: MergeMethod::Merge, identity: World::author() };
    let landing = Landing { default_branch: "main", head: &tip, expected_base: &base, message: "m" };
    assert_eq!(forge.merge(&mirror, &landing).unwrap(), MergeOutcome::Merged { commit: squash, pull_open: false });
}
