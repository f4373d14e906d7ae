//! BND-5, RULE-46: what a run left becomes one commit that `orch` makes. Attacks of an agent on the walk, its git data,
//! attributes, names and links; and ordinary work, which must come out as git itself would commit it.

use crate::support::attacks::{self, Held};
use crate::support::git::{World, head, person_git, raw, write};
use orch::adapters::git::build::{Build, Built, Source};
use orch::adapters::git::walk::{Around, Limits, Root};
use orch::adapters::git::{CheckoutPlan, Mirror};
use orch::model::ids::Sha;
use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A checkout as a run finds it.
pub struct Scene {
    pub world: World,
    pub mirror: Mirror,
    pub start: Sha,
    pub dir: PathBuf,
}

impl Scene {
    /// `files` are what the base has in addition to `README` and `src/a`.
    pub fn new(files: &[(&str, &str)], more: &dyn Fn(&Path)) -> Self {
        let world = World::new();
        more(&world.person());
        let start = world.commit(files, "base");
        world.push("main");
        let (mirror, dir) = (world.mirror(), world.path("area/checkout"));
        let scene = Self { world, mirror, start, dir };
        let plan = CheckoutPlan {
            branch: Some("feature/K-1"),
            default: Some(("main", &scene.start)),
            author: Some(&World::author()),
            ..CheckoutPlan::of(&scene.start)
        };
        scene.mirror.check_out(&scene.dir, &plan).unwrap();
        scene
    }

    fn plain() -> Self {
        Self::new(&[], &|_| ())
    }

    pub fn put(&self, name: &str, text: &str) {
        let _ = std::fs::remove_file(self.dir.join(name));
        write(&self.dir, name.as_bytes(), text);
    }

    pub fn built(&self, left_out: &[&str]) -> Built {
        self.limited(left_out, Limits::default())
    }

    fn limited(&self, left_out: &[&str], limits: Limits) -> Built {
        self.judged(&self.mirror, left_out, limits, &mut |_, _| ())
    }

    /// The result for the checkout in a mirror of it; `before` runs once the tree exists, before its commit is
    /// imported.
    pub fn judged(
        &self,
        mirror: &Mirror,
        left_out: &[&str],
        limits: Limits,
        before: &mut dyn FnMut(&Build<'_>, &Built),
    ) -> Built {
        let base = mirror.base(&self.start).unwrap();
        let root = Root::open(&self.dir).unwrap();
        let left_out: BTreeSet<String> = left_out.iter().map(|p| (*p).to_owned()).collect();
        let owner = rustix::process::geteuid().as_raw();
        let around =
            Around { base: &base, folder: "docs/work-items/K-1", left_out: &left_out, owner, limits, whole: false };
        let found = root.walk(&around).unwrap();
        let build = mirror.build().unwrap();
        let source = Source { base: &base, root: &root, found: &found, limits };
        let built = build.tree(&source).unwrap();
        before(&build, &built);
        if built.broken.is_empty() {
            let commit = build.commit(&built.tree, &self.start, "K-1: work", &World::author(), 1_700_000_000).unwrap();
            mirror.import(&build, &commit).unwrap();
            assert_eq!(mirror.tree_of(&commit).unwrap(), built.tree);
            let again = build.commit(&built.tree, &self.start, "K-1: work", &World::author(), 1_700_000_000).unwrap();
            assert_eq!(commit, again, "a repeated build makes the same commit");
        }
        built
    }

    /// The tree that a person's git would make of the same work tree.
    fn gits_own(&self) -> Sha {
        raw(&self.dir, &["add", "-A"]);
        Sha::parse(&raw(&self.dir, &["write-tree"])).unwrap()
    }

    pub fn text(&self, built: &Built, path: &str) -> String {
        let entry = built.entries.get(path.as_bytes()).unwrap_or_else(|| panic!("{path} is not in the tree"));
        String::from_utf8(self.mirror.contents([&entry.id]).unwrap().remove(0)).unwrap()
    }
}

pub fn changed(built: &Built) -> Vec<&str> {
    built.changed.iter().map(String::as_str).collect()
}

/// (case, the files of the base, what the run does)
type Ordinary = (&'static str, &'static [(&'static str, &'static str)], fn(&Path));

#[test]
fn ordinary_work_comes_through_as_git_itself_would_take_it() {
    let cases: &[Ordinary] = &[
        ("nothing", &[], |_| ()),
        ("an edit, a new file, a deletion", &[("b", "b\n")], |d| {
            std::fs::write(d.join("README"), "two\n").unwrap();
            write(d, b"new/deep/file", "n\n");
            std::fs::remove_file(d.join("b")).unwrap();
        }),
        ("a rename", &[("b", "b\n")], |d| std::fs::rename(d.join("b"), d.join("c")).unwrap()),
        ("a mode", &[("run.sh", "x\n")], |d| {
            std::fs::set_permissions(d.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        }),
        (
            "line ends as the repository declares them",
            &[(".gitattributes", "*.txt text eol=crlf\n*.bin -text\n"), ("a.txt", "1\n2\n")],
            |d| {
                assert_eq!(std::fs::read_to_string(d.join("a.txt")).unwrap(), "1\r\n2\r\n");
                std::fs::write(d.join("a.txt"), "1\r\n2\r\n3\r\n").unwrap();
                std::fs::write(d.join("b.txt"), "x\r\n").unwrap();
                std::fs::write(d.join("c.bin"), "x\r\n").unwrap();
            },
        ),
        ("an encoding", &[(".gitattributes", "*.u16 text working-tree-encoding=UTF-16LE\n")], |d| {
            std::fs::write(d.join("a.u16"), b"h\0i\0\n\0").unwrap();
        }),
        ("an ident", &[(".gitattributes", "*.c ident\n"), ("a.c", "/* $Id$ */\n")], |d| {
            let text = std::fs::read_to_string(d.join("a.c")).unwrap();
            assert!(text.contains("$Id: "));
            std::fs::write(d.join("a.c"), format!("{text}more\n")).unwrap();
        }),
        ("attributes in a folder", &[("sub/.gitattributes", "* text\n")], |d| {
            std::fs::write(d.join("sub/x"), "a\r\n").unwrap()
        }),
        ("ignored files", &[(".gitignore", "target/\n*.log\n!keep.log\n"), ("sub/.gitignore", "/only\n")], |d| {
            for (n, t) in [
                ("target/x", "t"),
                ("a.log", "l"),
                ("keep.log", "k"),
                ("sub/only", "o"),
                ("sub/deep/only", "d"),
                ("sub/b.log", "l"),
            ] {
                write(d, n.as_bytes(), t);
            }
            // As caches of tools do.
            write(d, b".cache/.gitignore", "*\n");
            write(d, b".cache/data", "x");
        }),
        ("a tracked file in an ignored folder", &[("gen/keep", "1\n"), (".gitignore", "other\n")], |d| {
            std::fs::write(d.join(".gitignore"), "gen/\n").unwrap();
            std::fs::write(d.join("gen/keep"), "2\n").unwrap();
            std::fs::write(d.join("gen/new"), "no\n").unwrap();
        }),
        ("a link", &[], |d| symlink("../src/a", d.join("src/l")).unwrap()),
        ("a file in place of a folder, and the other way round", &[("x/y", "1\n"), ("z", "2\n")], |d| {
            std::fs::remove_dir_all(d.join("x")).unwrap();
            std::fs::write(d.join("x"), "file\n").unwrap();
            std::fs::remove_file(d.join("z")).unwrap();
            write(d, b"z/y", "deep\n");
        }),
        ("names of every language", &[], |d| {
            for name in ["ä ö.txt", "日本.md", "-dash", "a'b\"c", "tab?*[x]", "back\\slash"] {
                write(d, name.as_bytes(), name);
            }
        }),
        ("many files", &[], |d| {
            for n in 0..500 {
                write(d, format!("many/{}/{n}", n % 7).as_bytes(), &n.to_string());
            }
        }),
        ("attributes that change apply to the next run", &[(".gitattributes", "*.t text\n")], |d| {
            std::fs::write(d.join(".gitattributes"), "*.t text\n*.u text\n").unwrap();
        }),
    ];
    for (case, files, work) in cases {
        let scene = Scene::new(files, &|_| ());
        work(&scene.dir);
        let built = scene.built(&[]);
        assert_eq!(built.broken, [], "{case}");
        assert_eq!(built.tree, scene.gits_own(), "{case}: {:?}", built.changed);
    }
}

/// (case, what the run does to its own repository)
type Way = (&'static str, fn(&Path));

#[test]
fn rule_46_the_agents_history_is_evidence_of_nothing() {
    let ways: &[Way] = &[
        ("no commit", |_| ()),
        ("commits of its own", |d| drop(raw(d, &["commit", "-qam", "mine"]))),
        ("an amended commit", |d| drop(raw(d, &["commit", "-qa", "--amend", "-m", "amended"]))),
        ("an orphan branch", |d| {
            raw(d, &["checkout", "-q", "--orphan", "x"]);
            raw(d, &["commit", "-qam", "an orphan branch"]);
        }),
        ("a detached HEAD", |d| {
            raw(d, &["checkout", "-q", "--detach"]);
            raw(d, &["commit", "-qam", "a detached HEAD"]);
        }),
        ("rewritten history", |d| {
            raw(d, &["update-ref", "-d", "HEAD"]);
            raw(d, &["commit", "-qam", "root"]);
        }),
        ("a forged object", |d| {
            let id = raw(d, &["rev-parse", "HEAD:README"]);
            let folder = d.join(".git/objects").join(&id[..2]);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(&id[2..]), "junk").unwrap();
        }),
        ("grafts and replaced objects", |d| {
            let (a, b) = (raw(d, &["rev-parse", "HEAD:README"]), raw(d, &["rev-parse", "HEAD:src/a"]));
            raw(d, &["replace", &a, &b]);
            write(d, b".git/info/grafts", &format!("{}\n", head(d)));
            write(d, b".git/shallow", &format!("{}\n", head(d)));
        }),
        ("a commit with additional headers and a signature", |d| {
            let (tree, parent) = (raw(d, &["write-tree"]), raw(d, &["rev-parse", "HEAD"]));
            let who = "x <x@x> 1700000000 +0000";
            let text = format!(
                "tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\nencoding UTF-7\nx-hidden more\ngpgsig none\n\nmine\n"
            );
            write(d, b".git/forged", &text);
            let id = raw(d, &["hash-object", "-t", "commit", "-w", "--literally", ".git/forged"]);
            raw(d, &["update-ref", "HEAD", &id]);
        }),
        ("hidden commits", |d| {
            raw(d, &["commit", "-qam", "hidden"]);
            raw(d, &["update-ref", "refs/hidden/x", "HEAD"]);
            raw(d, &["reset", "-q", "--mixed", "HEAD^"]);
        }),
        ("a false index", |d| {
            raw(d, &["update-index", "--assume-unchanged", "src/a"]);
            raw(d, &["update-index", "--force-remove", "README"]);
            raw(d, &["update-index", "--skip-worktree", "src/a"]);
            write(d, b".git/info/exclude", "*\n");
            write(d, b".git/info/sparse-checkout", "/nothing\n");
            raw(d, &["config", "core.sparseCheckout", "true"]);
        }),
        ("no repository at all", |d| std::fs::remove_dir_all(d.join(".git")).unwrap()),
        ("a repository in another place", |d| {
            std::fs::remove_dir_all(d.join(".git")).unwrap();
            std::fs::write(d.join(".git"), "gitdir: /nonexistent\n").unwrap();
        }),
        ("a link in place of the repository", |d| {
            std::fs::rename(d.join(".git"), d.join("../moved")).unwrap();
            symlink("../moved", d.join(".git")).unwrap();
        }),
    ];
    let mut trees = BTreeSet::new();
    for (case, way) in ways {
        let scene = Scene::plain();
        scene.put("src/a", "work\n");
        scene.put("src/new", "more\n");
        way(&scene.dir);
        let built = scene.built(&[]);
        assert_eq!((built.broken.as_slice(), changed(&built)), (&[][..], vec!["src/a", "src/new"]), "{case}");
        trees.insert(built.tree);
        report(&format!("history and objects: {case}"));
    }
    assert_eq!(trees.len(), 1);
}

#[test]
fn nothing_of_the_agents_is_ever_run() {
    let scene = Scene::new(&[(".gitattributes", "*.x filter=evil diff=evil merge=evil\n"), ("a.x", "1\n")], &|_| ());
    let ran = scene.world.path("ran");
    let touch = format!("touch {}", ran.display());
    let evil = scene.dir.join("evil.sh");
    std::fs::write(&evil, format!("#!/bin/sh\n{touch}\ncat\n")).unwrap();
    std::fs::set_permissions(&evil, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (key, value) in [
        ("filter.evil.clean", evil.to_str().unwrap()),
        ("filter.evil.process", evil.to_str().unwrap()),
        ("filter.evil.required", "true"),
        ("diff.evil.textconv", &touch),
        ("core.fsmonitor", evil.to_str().unwrap()),
        ("core.hooksPath", "hooks"),
        ("core.attributesFile", "/nonexistent"),
        ("core.sshCommand", &touch),
        ("core.worktree", "/"),
        ("core.bare", "true"),
        ("extensions.worktreeConfig", "true"),
        ("include.path", "/etc/passwd"),
    ] {
        person_git(&scene.dir, &["config", key, value]);
    }
    for hook in ["pre-commit", "post-checkout", "reference-transaction", "post-index-change", "pre-push"] {
        for folder in [".git/hooks", "hooks"] {
            write(&scene.dir, format!("{folder}/{hook}").as_bytes(), &format!("#!/bin/sh\n{touch}\n"));
            let path = scene.dir.join(folder).join(hook);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    scene.put("a.x", "2\n");
    scene.put("b.x", "new\n");
    std::fs::write(scene.dir.join(".git/objects/info/alternates"), "/nonexistent\n").unwrap();
    let built = scene.built(&[]);
    assert_eq!(built.broken, []);
    assert!(!ran.exists(), "a program of the agent's ran");
    assert_eq!(scene.text(&built, "a.x"), "2\n");
    for what in RUNS {
        report(&format!("make git run a program: {what}"));
    }
}

/// What the test above plants.
const RUNS: [&str; 6] =
    ["filters", "hooks", "diff drivers", "a file system monitor", "an ssh command", "another work tree"];

/// Records that an attack on git's handling of a checkout had no effect; no engine is involved.
fn report(attack: &str) {
    attacks::seen("through git data", attack, Held::Any, false);
}

/// (case, what the run does, the path that the refusal names, a word of the reason)
type Attack = (&'static str, fn(&Path), &'static str, &'static str);

#[test]
fn what_breaks_a_rule_is_named_with_its_path() {
    let cases: &[Attack] = &[
        ("an absolute link", |d| symlink("/etc/passwd", d.join("l")).unwrap(), "l", "absolute"),
        ("a link that leads out", |d| symlink("../../x", d.join("src/l")).unwrap(), "src/l", "leaves"),
        ("a link into .git", |d| symlink(".git/config", d.join("l")).unwrap(), "l", ".git"),
        (
            "a chain of links",
            |d| {
                symlink("src", d.join("m")).unwrap();
                symlink("m/a", d.join("n")).unwrap();
            },
            "n",
            "through",
        ),
        (
            "a link into the documents",
            |d| symlink("docs/work-items/K-1/x.sh", d.join("app.sh")).unwrap(),
            "app.sh",
            "work item",
        ),
        (
            "a folder that became a link",
            |d| {
                std::fs::remove_dir_all(d.join("src")).unwrap();
                symlink("/etc", d.join("src")).unwrap();
            },
            "src",
            "absolute",
        ),
        ("a FIFO", |d| mkfifo(&d.join("p")), "p", "FIFO"),
        ("a FIFO as attributes", |d| mkfifo(&d.join("src/.gitattributes")), "src/.gitattributes", "FIFO"),
        ("a FIFO as ignore rules", |d| mkfifo(&d.join("src/.gitignore")), "src/.gitignore", "FIFO"),
        ("a socket", |d| drop(std::os::unix::net::UnixListener::bind(d.join("s")).unwrap()), "s", "socket"),
        (
            "a huge sparse file",
            |d| std::fs::File::create(d.join("big")).unwrap().set_len(1 << 40).unwrap(),
            "big",
            "MiB",
        ),
        (
            "a huge file as ignore rules",
            |d| std::fs::File::create(d.join(".gitignore")).unwrap().set_len(1 << 40).unwrap(),
            ".gitignore",
            "1 MiB",
        ),
        (
            "a huge file as attributes",
            |d| std::fs::File::create(d.join(".gitattributes")).unwrap().set_len(1 << 40).unwrap(),
            ".gitattributes",
            "MiB",
        ),
        (
            "two names that differ only in case",
            |d| {
                write(d, b"Src/x", "1");
            },
            "src",
            "same name",
        ),
        ("a name that git reserves", |d| write(d, b"sub/.GIT/config", "[core]"), "sub/.GIT", ".git"),
        ("a short (8.3) name of .git", |d| write(d, b"git~1", "x"), "git~1", ".git"),
        ("an NTFS spelling of .git", |d| write(d, b"sub/.git./x", "x"), "sub/.git.", ".git"),
        ("an HFS spelling of .git", |d| write(d, ".g\u{200c}it/x".as_bytes(), "x"), ".g\u{200c}it", ".git"),
        ("an NTFS stream of .git", |d| write(d, b".git::$INDEX_ALLOCATION/x", "x"), ".git::$INDEX_ALLOCATION", ".git"),
        (
            "two names that HFS treats as one",
            |d| {
                write(d, "sub/\u{e9}".as_bytes(), "1");
                write(d, "sub/e\u{301}".as_bytes(), "2");
            },
            "sub/\u{e9}",
            "same name",
        ),
        ("a name with a line break", |d| write(d, b"a\nb", "x"), "a\nb", "control"),
        ("a name that is not UTF-8", |d| write(d, b"\xff\xfe", "x"), "\u{fffd}\u{fffd}", "UTF-8"),
        (
            "attributes as a folder",
            |d| write(d, b"sub/.gitattributes/x", "x"),
            "sub/.gitattributes/x",
            ".gitattributes",
        ),
        (
            "contents that do not match their encoding",
            |d| std::fs::write(d.join("x.u16"), b"odd").unwrap(),
            "x.u16",
            "gitattributes",
        ),
    ];
    for (case, attack, path, why) in cases {
        let scene =
            Scene::new(&[("sub/y", "y\n"), (".gitattributes", "*.u16 working-tree-encoding=UTF-16 text\n")], &|_| ());
        attack(&scene.dir);
        let begun = Instant::now();
        let built = scene.built(&[]);
        let named = built.broken.iter().any(|b| b.path == *path && b.why.contains(why));
        assert!(named, "{case}: {:?}", built.broken);
        report(&format!("get it committed: {case}"));
        assert!(begun.elapsed() < Duration::from_secs(20), "{case}");
    }
}

fn mkfifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
}

#[test]
fn what_is_ignored_or_unusual_does_not_matter() {
    let scene = Scene::new(&[(".gitignore", "scratch/\n*.sock\n")], &|_| ());
    std::fs::create_dir(scene.dir.join("scratch")).unwrap();
    mkfifo(&scene.dir.join("scratch/p"));
    symlink("/", scene.dir.join("scratch/all")).unwrap();
    std::fs::File::create(scene.dir.join("scratch/big")).unwrap().set_len(1 << 40).unwrap();
    drop(std::os::unix::net::UnixListener::bind(scene.dir.join("a.sock")).unwrap());
    scene.put("src/a", "work\n");
    let built = scene.built(&[]);
    assert_eq!((built.broken.as_slice(), changed(&built)), (&[][..], vec!["src/a"]));
}

#[test]
fn bnd_5_attributes_are_those_the_run_began_with() {
    let scene = Scene::new(&[("ci.sh", "exit 1\n")], &|_| ());
    // If they were the run's own, the stored content would differ from the one that CI ran.
    scene.put(".gitattributes", "ci.sh working-tree-encoding=UTF-7\nx.bin filter=lfs\n*.t text\n");
    scene.put("src/.gitattributes", "* ident text eol=crlf\n");
    scene.put("ci.sh", "exit +ADA-\n");
    scene.put("src/b", "$Id: planted $\r\n");
    scene.put("a.t", "1\r\n");
    let built = scene.built(&[]);
    assert_eq!(built.broken, []);
    assert_eq!(scene.text(&built, "ci.sh"), "exit +ADA-\n");
    assert_eq!(scene.text(&built, "src/b"), "$Id: planted $\r\n");
    assert_eq!(scene.text(&built, "a.t"), "1\r\n");
    report("change attributes and encodings for the same commit");
}

#[test]
fn the_work_items_folder_is_never_ignored_and_no_document_is_lost() {
    for rules in ["docs/\n", "*\n", "docs/work-items/K-1\n", "*.md\n"] {
        let scene = Scene::plain();
        scene.put(".gitignore", rules);
        scene.put("docs/work-items/K-1/01-brief.md", "brief\n");
        scene.put("docs/work-items/K-1/06-adr/ADR-001-a.md", "adr\n");
        scene.put("docs/other.md", "no\n");
        let built = scene.built(&[]);
        assert_eq!(built.broken, []);
        assert!(built.changed.contains("docs/work-items/K-1/01-brief.md"), "{rules}");
        assert!(built.changed.contains("docs/work-items/K-1/06-adr/ADR-001-a.md"), "{rules}");
        if rules != "docs/work-items/K-1\n" {
            assert!(!built.changed.contains("docs/other.md"), "{rules}");
        }
        assert!(built.entries.contains_key(b"README".as_slice()), "what is tracked is never ignored");
    }
}

#[test]
fn a_repository_within_counts_as_files_and_is_named() {
    let scene = Scene::plain();
    scene.put("app/main.rs", "fn main() {}\n");
    raw(&scene.dir.join("app"), &["init", "-q"]);
    raw(&scene.dir.join("app"), &["add", "-A"]);
    raw(&scene.dir.join("app"), &["commit", "-qm", "own"]);
    let base = scene.mirror.base(&scene.start).unwrap();
    let around = Around {
        base: &base,
        folder: "docs/work-items/K-1",
        left_out: &BTreeSet::new(),
        owner: rustix::process::geteuid().as_raw(),
        limits: Limits::default(),
        whole: false,
    };
    assert_eq!(Root::open(&scene.dir).unwrap().walk(&around).unwrap().nested, ["app"]);
    let built = scene.built(&[]);
    assert_eq!((built.broken.as_slice(), changed(&built)), (&[][..], vec!["app/main.rs"]));
    report("hide files in a nested repository");
}

#[test]
fn a_submodule_stays_unless_its_work_tree_is_moved() {
    let library = |person: &Path| {
        let lib = person.join("../lib");
        raw(person, &["init", "-q", "-b", "main", lib.to_str().unwrap()]);
        write(&lib, b"l", "1\n");
        raw(&lib, &["add", "-A"]);
        raw(&lib, &["commit", "-qm", "one"]);
        raw(person, &["submodule", "--quiet", "add", lib.to_str().unwrap(), "lib"]);
    };
    let scene = Scene::new(&[], &library);
    let gitlink = |built: &Built| built.entries[b"lib".as_slice()].id.clone();
    let start = gitlink(&scene.built(&[]));
    // Not populated, gone, populated by a setup: the same commit.
    std::fs::remove_dir(scene.dir.join("lib")).unwrap();
    assert_eq!(changed(&scene.built(&[])), Vec::<&str>::new());
    raw(&scene.dir, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init"]);
    assert_eq!(changed(&scene.built(&[])), Vec::<&str>::new());
    assert_eq!(gitlink(&scene.built(&[])), start);
    // The agent advanced it.
    let moved = crate::support::git::commit_in(&scene.dir.join("lib"), &[("l", "2\n")], "two");
    let built = scene.built(&[]);
    assert_eq!((built.broken.as_slice(), changed(&built), gitlink(&built)), (&[][..], vec!["lib"], moved));
    // Together with its URL: refused.
    scene.put(".gitmodules", "[submodule \"lib\"]\n\tpath = lib\n\turl = https://evil.example/x\n");
    assert!(scene.built(&[]).broken.iter().any(|b| b.path == "lib" && b.why.contains(".gitmodules")));
    report("change a submodule and its URL together");
    // A new one is not a submodule: its files count as files.
    let other = Scene::plain();
    other.put("new/x", "1\n");
    raw(&other.dir.join("new"), &["init", "-q"]);
    assert_eq!(changed(&other.built(&[])), ["new/x"]);
}

#[test]
fn what_orch_or_setup_put_there_is_left_out_as_a_whole() {
    let scene = Scene::new(&[("src/.env", "tracked\n")], &|_| ());
    for name in [".env", "node_modules/a/b", "src/gen.rs"] {
        scene.put(name, "SECRET\n");
    }
    scene.put("src/.env", "changed\n");
    scene.put("src/a", "work\n");
    let built = scene.built(&[".env", "node_modules", "src/gen.rs", "src/.env"]);
    assert_eq!(
        (built.broken.as_slice(), changed(&built)),
        (&[][..], vec!["src/.env", "src/a"]),
        "what is tracked counts"
    );
}

#[test]
fn a_walk_is_bounded_in_number_depth_and_time() {
    let scene = Scene::plain();
    for n in 0..50 {
        scene.put(&format!("many/{n}"), "x");
    }
    let deep = "d/".repeat(40);
    scene.put(&format!("{deep}x"), "x");
    let all = Limits::default();
    for (limits, why) in [
        (Limits { names: 20, ..all }, "names"),
        (Limits { depth: 10, ..all }, "deeper"),
        (Limits { time: Duration::ZERO, ..all }, "walk exceeded"),
        (Limits { file: 0, ..all }, "MiB"),
        (Limits { total: 10, ..all }, "MiB"),
    ] {
        let broken = scene.limited(&[], limits).broken;
        assert!(broken.iter().any(|b| b.why.contains(why)) && broken.len() <= 80, "{why}: {broken:?}");
    }
    assert_eq!(scene.built(&[]).broken, []);
    scene.put("large", &"x".repeat(100));
    let broken = scene.limited(&[], Limits { total: 110, ..all }).broken;
    let [one] = broken.as_slice() else { panic!("one file is to blame: {broken:?}") };
    assert!(one.path == "large" && one.why.contains("is the largest of "), "{one:?}");
}

#[test]
fn the_packs_of_many_runs_become_few_and_a_large_run_is_fetched() {
    let scene = Scene::plain();
    scene.put("src/a", "one\n");
    let first = scene.built(&[]);
    let folder = scene.mirror.path().join("objects/pack");
    let packs = || -> Vec<PathBuf> {
        let all = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.extension().is_some_and(|e| e == "pack")).collect()
    };
    let pack = packs().pop().unwrap();
    for n in 0..60 {
        for ext in ["pack", "idx"] {
            std::fs::copy(pack.with_extension(ext), folder.join(format!("pack-{n:040x}.{ext}"))).unwrap();
        }
    }
    scene.put("src/a", "two\n");
    let second = scene.judged(&scene.mirror, &[], Limits::default(), &mut |build, built| {
        let commit = build.commit(&built.tree, &scene.start, "large", &World::author(), 1).unwrap();
        scene.mirror.import_packed(build, &commit, 1).unwrap();
        assert_eq!(scene.mirror.tree_of(&commit).unwrap(), built.tree);
    });
    assert!(packs().len() < 10, "{:?}", packs());
    assert_eq!((scene.text(&first, "src/a"), scene.text(&second, "src/a")), ("one\n".into(), "two\n".into()));
}

#[test]
fn the_patch_of_a_run_is_the_difference_of_the_trees() {
    let scene = Scene::plain();
    scene.put("src/a", "work\n");
    scene.put("bin", "\u{0}\u{1}");
    mkfifo(&scene.dir.join("p"));
    let base = scene.mirror.base(&scene.start).unwrap();
    let (root, limits) = (Root::open(&scene.dir).unwrap(), Limits::default());
    let owner = rustix::process::geteuid().as_raw();
    let around =
        Around { base: &base, folder: "docs/work-items/K-1", left_out: &BTreeSet::new(), owner, limits, whole: false };
    let found = root.walk(&around).unwrap();
    let build = scene.mirror.build().unwrap();
    let source = Source { base: &base, root: &root, found: &found, limits };
    let built = build.tree(&source).unwrap();
    assert_eq!(built.broken.len(), 1);
    let to = scene.world.path("left.patch");
    assert!(build.patch(&scene.start, &built.tree, &to).unwrap());
    let text = std::fs::read_to_string(&to).unwrap();
    assert!(text.contains("+work") && text.contains("GIT binary patch"), "{text}");
    assert_eq!(to.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let none = scene.mirror.tree_of(&scene.start).unwrap();
    assert!(!build.patch(&scene.start, &none, &scene.world.path("none")).unwrap());
}
