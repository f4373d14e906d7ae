//! Real repositories for tests: a bare remote, a person's clone of it, and a mirror.

use orch::adapters::git::{Git, Mirror, Person};
use orch::model::ids::Sha;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A temporary folder with `remote.git` (bare, branch `main`, one commit) and a person's clone `person`.
pub struct World {
    pub folder: tempfile::TempDir,
    pub git: Git,
}

impl World {
    pub fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap(), git: Git::new("git").unwrap() };
        raw(world.folder.path(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        raw(world.folder.path(), &["clone", "-q", "remote.git", "person"]);
        raw(&world.person(), &["symbolic-ref", "HEAD", "refs/heads/main"]);
        world.commit(&[("README", "one\n"), ("src/a", "1\n2\n3\n4\n5\n6\n7\n8\n9\n")], "first");
        raw(&world.person(), &["push", "-q", "origin", "main"]);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn person(&self) -> PathBuf {
        self.path("person")
    }

    pub fn remote(&self) -> String {
        self.path("remote.git").to_str().unwrap().to_owned()
    }

    /// A mirror that has fetched.
    pub fn mirror(&self) -> Mirror {
        let mirror = Mirror::open(&self.git, &self.path("state/repos/r.git"), &self.remote(), None).unwrap();
        mirror.fetch().unwrap();
        mirror
    }

    /// Writes files in the person's clone and commits all.
    pub fn commit(&self, files: &[(&str, &str)], message: &str) -> Sha {
        commit_in(&self.person(), files, message)
    }

    /// Puts the person's clone on a branch at a commit, creating the branch if needed.
    pub fn switch(&self, branch: &str, at: &str) {
        raw(&self.person(), &["checkout", "-q", "-B", branch, at]);
    }

    /// Pushes the person's HEAD as a branch.
    pub fn push(&self, branch: &str) {
        raw(&self.person(), &["push", "-q", "-f", "origin", &format!("HEAD:refs/heads/{branch}")]);
    }

    pub fn author() -> Person {
        Person::new("Orch", "orch@example.org")
    }
}

/// Writes files below a clone (bytes of the name as given) and commits everything.
pub fn commit_in(clone: &Path, files: &[(&str, &str)], message: &str) -> Sha {
    for (name, text) in files {
        write(clone, name.as_bytes(), text);
    }
    raw(clone, &["add", "-A"]);
    raw(clone, &["commit", "-q", "--allow-empty", "-m", message]);
    head(clone)
}

pub fn write(clone: &Path, name: &[u8], text: &str) {
    let path = clone.join(OsStr::from_bytes(name));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

pub fn head(clone: &Path) -> Sha {
    rev(clone, "HEAD")
}

pub fn rev(clone: &Path, name: &str) -> Sha {
    Sha::parse(&raw(clone, &["rev-parse", "--verify", name])).unwrap()
}

/// A person's git; must succeed.
pub fn raw(dir: &Path, args: &[&str]) -> String {
    let out = person_git(dir, args);
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A person's git, whatever its code.
pub fn person_git(dir: &Path, args: &[&str]) -> Output {
    Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=Pat", "-c", "user.email=pat@example.org", "-c", "commit.gpgsign=false"])
        .args(["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_EDITOR", "true")
        .env("LC_ALL", "C")
        .output()
        .unwrap()
}

/// A folder with all its files in memory, to make many copies of one scene without running git each time.
pub struct Snapshot(Vec<(PathBuf, Option<Content>)>);

type Content = (Vec<u8>, Permissions);

impl Snapshot {
    pub fn take(folder: &Path) -> Self {
        let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(folder).unwrap().to_owned();
                let about = path.symlink_metadata().unwrap();
                if about.is_dir() {
                    found.push((name, None));
                    open.push(path);
                } else {
                    found.push((name, Some((std::fs::read(path).unwrap(), about.permissions()))));
                }
            }
        }
        Self(found)
    }

    pub fn restore(&self, folder: &Path) {
        for (name, file) in &self.0 {
            let path = folder.join(name);
            match file {
                None => std::fs::create_dir_all(path).unwrap(),
                Some((bytes, permissions)) => {
                    std::fs::write(&path, bytes).unwrap();
                    std::fs::set_permissions(path, permissions.clone()).unwrap();
                }
            }
        }
    }
}
