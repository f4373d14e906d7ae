//! bubblewrap's command line: only what is named exists inside (BND-2).

use super::paths::{self, Part};
use super::{EXEC, INSIDE, Run, room};
use crate::model::confine::Network;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// How much a run may keep in `/dev/shm`, memory that is attributed to none of its processes.
const SHARED: &str = "1073741824";

/// Where a run sees its own temporary folder.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// The whole command line. `passwd`: replaces `/etc/passwd`. Fails if `/etc` can't be read, or if the run left
/// something in its temporary folder that is in the way of a mount below `/tmp` and can't be deleted.
pub(super) fn argv(run: &Run, program: &Path, modern: bool, passwd: Option<&Path>) -> io::Result<Vec<OsString>> {
    let mut line = Line { words: vec![program.into()], named: Vec::new(), mounts: Vec::new() };
    line.say(&["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
    // Started from a thread that waits for the run's end: the run dies with that thread.
    line.say(&["--die-with-parent", "--new-session", "--chdir", "/", "--cap-drop", "ALL"]);
    if run.policy.network != Network::Open {
        line.say(&["--unshare-net"]);
    }
    if run.probe.root {
        // For `confine-exec`, which switches to the run's account and drops them.
        line.say(&["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]);
    } else {
        line.say(&["--unshare-user"]);
        if modern && !run.own_sandbox {
            line.say(&["--disable-userns"]);
        }
    }
    line.system(passwd, modern)?;
    for at in TEMPORARY {
        line.way(Path::new(at));
        line.bind("--bind", &run.tmp, Path::new(at));
    }
    for path in run.read.iter().chain(&run.policy.read) {
        line.further("--ro-bind", path)?;
    }
    for path in &run.policy.write {
        line.further("--bind", path)?;
    }
    let masked = line.mask(&run.hidden);
    for path in [&run.checkout, &run.home, &run.tmp] {
        line.way(path);
        line.bind("--bind", path, path);
    }
    for path in run.frozen.iter().filter(|path| room::plain(&run.checkout, path)) {
        line.bind("--ro-bind", path, path);
    }
    line.way(Path::new(INSIDE));
    line.bind("--ro-bind", &run.probe.program, Path::new(INSIDE));
    for path in masked.iter().map(PathBuf::as_path).chain([Path::new("/")]) {
        line.words.extend(["--remount-ro".into(), path.into()]);
    }
    line.say(&["--", INSIDE, EXEC]);
    for (at, folder) in &line.mounts {
        for below in TEMPORARY.iter().filter_map(|tmp| at.strip_prefix(tmp).ok()) {
            room::make(&run.tmp, below, *folder)?;
        }
    }
    Ok(line.words)
}

struct Line {
    words: Vec<OsString>,
    /// What is visible inside, apart from the run's own folders.
    named: Vec<PathBuf>,
    /// What is mounted where, and whether it is a folder.
    mounts: Vec<(PathBuf, bool)>,
}

impl Line {
    fn say(&mut self, words: &[&str]) {
        self.words.extend(words.iter().map(OsString::from));
    }

    fn bind(&mut self, how: &str, from: &Path, at: &Path) {
        self.words.extend([OsStr::new(how), from.as_os_str(), at.as_os_str()].map(OsStr::to_owned));
        self.mounts.push((at.to_owned(), from.is_dir()));
    }

    /// Makes the missing folders above `at`: those that bubblewrap makes would be closed to another account.
    fn way(&mut self, at: &Path) {
        let mut above: Vec<&Path> = at.ancestors().skip(1).filter(|path| path.parent().is_some()).collect();
        above.reverse();
        for path in above {
            self.say(&["--perms", "0755", "--dir"]);
            self.words.push(path.into());
        }
    }

    fn system(&mut self, passwd: Option<&Path>, modern: bool) -> io::Result<()> {
        for part in paths::system() {
            match part {
                Part::Folder(at) => {
                    self.bind("--ro-bind", &at, &at);
                    self.named.push(at);
                }
                Part::Link { at, to } => self.words.extend(["--symlink".into(), to.into(), at.into()]),
            }
        }
        let etc = Path::new("/etc");
        self.bind("--ro-bind", etc, etc);
        self.named.push(etc.to_owned());
        let masked = self.mask(&paths::not_for_everybody(etc)?);
        if let Some(passwd) = passwd {
            self.bind("--ro-bind", passwd, Path::new("/etc/passwd"));
        }
        if let Some(target) = paths::resolver() {
            self.way(&target);
            self.bind("--ro-bind", &target, &target);
        }
        self.say(&["--proc", "/proc", "--dev", "/dev", "--perms", "1777"]);
        if modern {
            self.say(&["--size", SHARED]);
        }
        self.say(&["--tmpfs", "/dev/shm", "--remount-ro", "/dev"]);
        for path in masked {
            self.words.extend(["--remount-ro".into(), path.into()]);
        }
        Ok(())
    }

    /// A path of the operator's choice, and its target. A missing one is skipped.
    fn further(&mut self, how: &str, path: &Path) -> io::Result<()> {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(io::Error::other(format!("{}: {e}", path.display()))),
        };
        // Part of something that is already mounted whole.
        if self.named.contains(&real) {
            return Ok(());
        }
        self.way(&real);
        self.bind(how, &real, &real);
        if path != real {
            self.way(path);
            self.bind(how, &real, path);
            self.named.push(path.to_owned());
        }
        self.named.push(real);
        Ok(())
    }

    /// Covers each visible path of `hidden` with something empty; returns the folders, to be closed once everything is
    /// in place.
    fn mask(&mut self, hidden: &[PathBuf]) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for path in hidden {
            let (real, seen) = (paths::real(path), path);
            for path in if real == *seen { vec![real] } else { vec![real, seen.clone()] } {
                if !self.named.iter().any(|named| path.starts_with(named)) {
                    continue;
                }
                match std::fs::symlink_metadata(&path) {
                    Ok(data) if data.is_dir() => {
                        self.say(&["--perms", "0555", "--tmpfs"]);
                        self.words.push(path.clone().into());
                        folders.push(path);
                    }
                    Ok(data) if !data.is_symlink() => self.bind("--ro-bind", Path::new("/dev/null"), &path),
                    // A link shows only the name of its target.
                    Ok(_) | Err(_) => {}
                }
            }
        }
        folders
    }
}
