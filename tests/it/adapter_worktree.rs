//! An agent's clone, against real git and hostile agents.

use crate::support::git::{World, commit_in, head, person_git, raw, write};
use orch::adapters::git::{GitError, Mirror, Plan, Worktree, worktree};
use orch::model::ids::{RunId, Sha};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

struct Task {
    world: World,
    mirror: Mirror,
    base: Sha,
    clone: Worktree,
}

impl Task {
    fn new() -> Self {
        let world = World::new();
        let base = world.commit(&[(".gitignore", "target/\n")], "ignore");
        world.push("main");
        let mirror = world.mirror();
        let clone = Worktree::new(&world.git, &world.path("state/worktrees/r/ORCH-7"), &World::author());
        let task = Self { world, mirror, base, clone };
        assert!(task.prepare(None).created);
        task
    }

    fn prepare(&self, leftovers: Option<&Path>) -> worktree::Prepared {
        let exclude = [".env".to_owned()];
        let plan = Plan {
            sha: &self.base,
            branch: "feature/ORCH-7",
            default_branch: "main",
            default_sha: &self.base,
            exclude: &exclude,
        };
        self.clone.prepare(&self.mirror, &plan, leftovers).unwrap()
    }

    fn dir(&self) -> &Path {
        self.clone.path()
    }

    fn put(&self, name: &str, text: &str) {
        write(self.dir(), name.as_bytes(), text);
    }

    fn has(&self, name: &str) -> bool {
        self.dir().join(name).symlink_metadata().is_ok()
    }
}

#[test]
fn the_clone_has_no_remote_and_borrows_its_objects() {
    let task = Task::new();
    assert_eq!(raw(task.dir(), &["remote"]), "");
    assert_eq!(raw(task.dir(), &["symbolic-ref", "--short", "HEAD"]), "feature/ORCH-7");
    assert_eq!(raw(task.dir(), &["rev-parse", "origin/main"]), task.base.to_string());
    assert_eq!(raw(task.dir(), &["count-objects"]), "0 objects, 0 kilobytes");
    assert_eq!(raw(task.dir(), &["config", "--file", ".git/config", "user.name"]), "Orch");
}

#[test]
fn rule_22_a_run_starts_clean_and_what_was_left_is_kept() {
    let task = Task::new();
    let before = task.dir().join("src/a").metadata().unwrap();
    commit_in(task.dir(), &[("committed", "c\n")], "not pushed");
    task.put("README", "changed\n");
    task.put("untracked/new\nline", "u\n");
    task.put("target/cache", "kept");
    task.put(".env", "SECRET=1");
    let left = task.world.path("state/runs/1/left.patch");
    let prepared = task.prepare(Some(&left));
    assert!(prepared.left && !prepared.created);
    let patch = std::fs::read_to_string(&left).unwrap();
    for text in ["committed", "+changed", "untracked/new", "+u"] {
        assert!(patch.contains(text), "{text} is not in {patch}");
    }
    assert!(!patch.contains("SECRET"));
    assert_eq!(left.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!task.has("committed") && !task.has("untracked") && task.has("target/cache") && task.has(".env"));
    assert_eq!(head(task.dir()), task.base);
    let after = task.dir().join("src/a").metadata().unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()), "an equal file was rewritten");
    assert!(!task.prepare(Some(&left)).left);
}

#[test]
fn rule_22_copied_files_are_never_committed() {
    let task = Task::new();
    task.put(".env", "SECRET=1");
    task.put("work", "x");
    // The agent edits the list; the next preparation writes it anew, a commit before that is the engine's to refuse.
    let done = task.clone.commit_all("ORCH-7: development (attempt 1)").unwrap();
    assert!(done.committed);
    assert_eq!(
        raw(task.dir(), &["show", "--format=%an %s", "--name-only"]),
        "Orch ORCH-7: development (attempt 1)\n\nwork"
    );
    assert!(!task.clone.commit_all("again").unwrap().committed);
    // An agent that insists is found out, whatever the branch's own list says.
    std::fs::write(task.dir().join(".git/info/exclude"), "").unwrap();
    task.put(".gitignore", "!.env\n.env.local\n");
    task.put("local/deep/x", "x");
    let insisted = task.clone.commit_all("m").unwrap();
    let paths = task
        .mirror
        .import(task.dir(), &insisted.head, RunId(9))
        .and_then(|()| task.mirror.new_paths(&task.base, &task.base, &insisted.head));
    let paths = paths.unwrap();
    let patterns = [".env".to_owned(), "/local/".to_owned()];
    let found = task.clone.excluded_among(&patterns, paths.iter().map(String::as_str)).unwrap();
    assert_eq!(found, [".env", "local/deep/x"]);
    assert!(task.clone.excluded_among(&patterns, ["work", ":(top)x", ":!y", "-z", "new\nline"]).unwrap().is_empty());
    assert!(task.clone.excluded_among(&patterns, []).unwrap().is_empty());
}

#[test]
fn what_counts_is_head_on_whatever_branch_the_agent_left_it() {
    let task = Task::new();
    raw(task.dir(), &["checkout", "-q", "-b", "elsewhere"]);
    task.put("a", "x");
    let done = task.clone.commit_all("m").unwrap();
    assert_eq!((done.branch.as_deref(), &done.head), (Some("elsewhere"), &head(task.dir())));
    raw(task.dir(), &["checkout", "-q", "--detach"]);
    task.put("b", "x");
    let done = task.clone.commit_all("m").unwrap();
    assert!(done.committed && done.branch.is_none());
    raw(task.dir(), &["checkout", "-q", "--orphan", "nothing"]);
    assert!(matches!(task.clone.commit_all("m"), Err(GitError::NotFound { .. })));
    task.prepare(None);
    assert_eq!(head(task.dir()), task.base);
}

#[test]
fn a_half_done_merge_is_a_conflict_and_not_committed() {
    let task = Task::new();
    let ours = commit_in(task.dir(), &[("README", "ours\n")], "ours");
    raw(task.dir(), &["checkout", "-q", "-b", "t", task.base.as_str()]);
    commit_in(task.dir(), &[("README", "theirs\n")], "theirs");
    person_git(task.dir(), &["merge", ours.as_str()]);
    let Err(GitError::Conflict { paths }) = task.clone.commit_all("m") else { panic!("no conflict") };
    assert_eq!(paths, ["README"]);
    let left = task.world.path("left.patch");
    assert!(task.prepare(Some(&left)).left);
    assert!(std::fs::read_to_string(left).unwrap().contains("<<<<<<<"));
    assert!(!task.has(".git/MERGE_HEAD"));
}

#[test]
fn embedded_repositories_links_and_hostile_names_do_no_harm() {
    let task = Task::new();
    for name in ["sub", "-deep/er"] {
        std::fs::create_dir_all(task.dir().join(name)).unwrap();
        raw(&task.dir().join(name), &["init", "-q"]);
        write(&task.dir().join(name), b"inner", "x");
    }
    commit_in(&task.dir().join("sub"), &[("inner", "y")], "inner");
    symlink("/etc", task.dir().join("link")).unwrap();
    for name in [&b"-rf"[..], b"new\nline", b"\xff\xfe", b":(exclude)x", b"*"] {
        write(task.dir(), name, "x");
    }
    let done = task.clone.commit_all("m").unwrap();
    assert_eq!(done.embedded, ["-deep/er", "sub"]);
    task.mirror.import(task.dir(), &done.head, RunId(1)).unwrap();
    let paths = task.mirror.new_paths(&task.base, &task.base, &done.head).unwrap();
    assert_eq!(paths.len(), 6, "{paths:?}");
    task.prepare(None);
    assert!(!task.has("sub") && !task.has("link") && !task.has("-deep"));
}

/// What an agent can plant so that the next git in its clone runs a program of its choice.
fn arm(task: &Task, mark: &Path) {
    let dot = task.dir().join(".git");
    let touch = format!("touch {}", mark.display());
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = \"{touch};false\"\n\tsshCommand = {touch}\n\thooksPath = hooks\n\
         \tpager = {touch}\n\tgitProxy = {touch}\n\talternateRefsCommand = {touch}\n\
         [filter \"x\"]\n\tclean = {touch}\n\tsmudge = {touch}\n\tprocess = {touch}\n\trequired = true\n\
         [diff \"x\"]\n\ttextconv = {touch}\n\tcommand = {touch}\n[diff]\n\texternal = {touch}\n\
         [uploadpack]\n\tpackObjectsHook = {touch}\n[commit]\n\tgpgsign = true\n[gpg]\n\tprogram = {touch}\n"
    );
    std::fs::write(dot.join("config"), config).unwrap();
    std::fs::create_dir_all(dot.join("hooks")).unwrap();
    for hook in ["pre-commit", "post-commit", "post-checkout", "post-index-change", "reference-transaction"] {
        let path = dot.join("hooks").join(hook);
        std::fs::write(&path, format!("#!/bin/sh\n{touch}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::create_dir_all(dot.join("info")).unwrap();
    std::fs::write(dot.join("info/attributes"), "* filter=x diff=x\n").unwrap();
    std::fs::write(dot.join("index.lock"), "").unwrap();
}

#[test]
fn an_agents_configuration_hooks_and_filters_never_run() {
    let task = Task::new();
    let mark = task.world.path("ran");
    task.put(".gitattributes", "* filter=x diff=x merge=x\n");
    task.put("work", "x");
    arm(&task, &mark);
    let done = task.clone.commit_all("m").unwrap();
    assert!(done.committed);
    arm(&task, &mark);
    task.mirror.import(task.dir(), &done.head, RunId(1)).unwrap();
    arm(&task, &mark);
    task.put("more", "x");
    assert!(task.clone.save_patch(&task.base, &task.world.path("p")).unwrap());
    arm(&task, &mark);
    task.clone.head().unwrap();
    arm(&task, &mark);
    task.prepare(Some(&task.world.path("left.patch")));
    assert!(!mark.exists(), "a program that the agent named was run");
    assert_eq!(raw(task.dir(), &["status", "--porcelain"]), "");
    assert!(!task.has(".git/hooks") && !task.has(".git/index.lock"));
    // The trap itself works: a git that trusts the clone walks into it.
    arm(&task, &mark);
    std::fs::remove_file(task.dir().join(".git/index.lock")).unwrap();
    person_git(task.dir(), &["status"]);
    assert!(mark.exists());
}

#[test]
fn a_repository_that_the_agent_ruined_is_made_anew() {
    let task = Task::new();
    let dot = task.dir().join(".git");
    let left = task.world.path("left.patch");
    // Each in turn: no repository, one elsewhere, broken files, redirected folders.
    std::fs::remove_dir_all(&dot).unwrap();
    assert!(task.prepare(Some(&left)).created);
    std::fs::remove_dir_all(&dot).unwrap();
    std::fs::write(&dot, "gitdir: /elsewhere\n").unwrap();
    assert!(matches!(task.clone.commit_all("m"), Err(GitError::Rejected { .. })));
    assert!(task.mirror.import(task.dir(), &task.base, RunId(3)).is_err());
    assert!(task.prepare(Some(&left)).created);
    std::fs::rename(&dot, task.world.path("moved")).unwrap();
    symlink(task.world.path("moved"), &dot).unwrap();
    assert!(task.prepare(Some(&left)).created);
    assert!(task.world.path("moved/HEAD").exists(), "a link was followed");
    std::fs::write(dot.join("index"), "garbage").unwrap();
    std::fs::write(dot.join("HEAD"), "garbage").unwrap();
    std::fs::write(dot.join("commondir"), "/elsewhere").unwrap();
    assert!(!task.prepare(Some(&left)).created);
    // A file that git would believe unchanged, and a folder nobody may enter.
    task.put("src/a", "forged\n");
    raw(task.dir(), &["update-index", "--assume-unchanged", "src/a"]);
    task.put("closed/in/side", "x");
    std::fs::set_permissions(task.dir().join("closed/in"), std::fs::Permissions::from_mode(0o0)).unwrap();
    // A folder and an ignored one where files belong.
    std::fs::remove_file(task.dir().join("README")).unwrap();
    task.put("README/target/x", "x");
    task.prepare(Some(&left));
    assert_eq!(raw(task.dir(), &["status", "--porcelain"]), "");
    assert_eq!(std::fs::read_to_string(task.dir().join("README")).unwrap(), "one\n");
    assert!(!task.has("closed"));
    task.put("closed/x", "x");
    std::fs::set_permissions(task.dir().join("closed"), std::fs::Permissions::from_mode(0o500)).unwrap();
    task.clone.remove().unwrap();
    task.clone.remove().unwrap();
    assert!(!task.dir().exists());
}

#[test]
fn rule_23_a_forged_object_reaches_neither_the_mirror_nor_the_next_run() {
    let task = Task::new();
    // The clone's own store is looked in first: the agent puts other content under the id of a file of the base.
    let id = raw(task.dir(), &["rev-parse", "HEAD:README"]);
    write(task.dir(), b"evil", "evil\n");
    let evil = raw(task.dir(), &["hash-object", "-w", "evil"]);
    let object = |id: &str| task.dir().join(format!(".git/objects/{}/{}", &id[..2], &id[2..]));
    std::fs::create_dir_all(object(&id).parent().unwrap()).unwrap();
    std::fs::copy(object(&evil), object(&id)).unwrap();
    std::fs::remove_file(task.dir().join("README")).unwrap();
    task.prepare(Some(&task.world.path("left.patch")));
    assert_eq!(std::fs::read_to_string(task.dir().join("README")).unwrap(), "one\n");
    assert_eq!(task.mirror.read_file(&task.base, "README").unwrap().unwrap(), b"one\n");
    // Objects are borrowed by name, not linked: no file of the mirror has a second name.
    let mut open = vec![task.mirror.path().join("objects")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                assert_eq!(entry.metadata().unwrap().nlink(), 1);
            }
        }
    }
}
