//! Who may read what `orch` creates, and where its children search for programs (BND-6).

use rustix::fs::Mode;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError, RwLock};

/// Permission bits of group and others.
const FOREIGN: u32 = 0o077;
/// Readable by everybody although it is in the state directory: authorities are not secret, and runs of another account
/// read them.
const PUBLIC: &str = "authorities.pem";
/// Operator's commands publish from it (`runs/<id>/work/checkout`): its files have the modes of the commit, behind
/// closed folders.
const CHECKOUT: &str = "checkout";

/// From here on, whatever this process creates is private to its account unless it says otherwise. Children of
/// [`spawn_public`] are exempt.
pub fn keep_private() {
    rustix::process::umask(Mode::from(FOREIGN));
}

/// Starts a program with the usual umask, 022: a deploy must not publish files that nobody can read.
pub fn spawn_public(command: &mut Command) -> io::Result<Child> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let own = rustix::process::umask(Mode::from(0o022));
    let child = command.spawn();
    rustix::process::umask(own);
    child
}

/// Removes access for group and others that an older version, another umask or another program granted: on the folder
/// and its direct entries or, if any of these is open or `all` is set, on everything below. Does not follow links and
/// leaves files of other accounts alone. Returns what was open. Fails with the first path that can't be closed.
pub fn close(root: &Path, all: bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    close_one(root, &mut found)?;
    for entry in std::fs::read_dir(root)?.flatten() {
        close_one(&entry.path(), &mut found)?;
    }
    if all || !found.is_empty() {
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            // Something that a concurrent step deletes meanwhile counts as closed.
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_name() == CHECKOUT {
                    continue;
                }
                close_one(&entry.path(), &mut found)?;
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    open.push(entry.path());
                }
            }
        }
    }
    Ok(found)
}

fn close_one(path: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    let public = path.file_name().is_some_and(|n| n == PUBLIC);
    if meta.is_symlink() || meta.mode() & FOREIGN == 0 || !ours || public {
        return Ok(());
    }
    let mode = meta.mode() & 0o7777 & !FOREIGN;
    match std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)) {
        Ok(()) => found.push(path.to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    }
    Ok(())
}

static AREA: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Sets the folder in which runs write: programs are never searched there. Called once the configuration is read.
pub fn configure(area: &Path) {
    *AREA.write().unwrap_or_else(PoisonError::into_inner) = Some(area.to_owned());
}

/// The `PATH` that children get: without entries into which others could put a program. `None`: it is not set.
pub fn search_path() -> Option<OsString> {
    let area = AREA.read().unwrap_or_else(PoisonError::into_inner).clone();
    std::env::var_os("PATH").map(|path| sound(&path, area.as_deref()).0)
}

/// A `PATH` without entries that are relative or empty (they follow the current folder), that everybody may write to
/// (even with the sticky bit, which prevents replacing a program, not adding one), or that are inside the area of runs.
/// Also returns the entries left out, each with the reason.
pub fn sound(path: &OsStr, area: Option<&Path>) -> (OsString, Vec<String>) {
    let area = area.map(|a| std::fs::canonicalize(a).unwrap_or_else(|_| a.to_owned()));
    let mut kept = Vec::new();
    let mut dropped = Vec::new();
    for entry in std::env::split_paths(path) {
        let why = if entry.as_os_str().is_empty() {
            Some("an empty entry is the current folder")
        } else if !entry.is_absolute() {
            Some("it is relative")
        } else if std::fs::metadata(&entry).is_ok_and(|m| m.is_dir() && m.mode() & 0o002 != 0) {
            Some("everybody may write it")
        } else {
            let real = std::fs::canonicalize(&entry).unwrap_or_else(|_| entry.clone());
            let inside = area.as_ref().is_some_and(|a| real.starts_with(a) || entry.starts_with(a));
            inside.then_some("runs may write it")
        };
        match why {
            Some(why) => dropped.push(format!("{:?}: {why}", entry.display().to_string())),
            None => kept.push(entry),
        }
    }
    // Entries split at colons contain none.
    (std::env::join_paths(kept).unwrap_or_default(), dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn bnd_6_what_an_older_version_left_open_is_closed_at_every_depth_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        std::fs::create_dir_all(root.join("runs/1")).unwrap();
        std::fs::create_dir_all(root.join("runs/1/work/checkout")).unwrap();
        set(&root.join("runs/1/work"), 0o700);
        set(&root.join("runs/1/work/checkout"), 0o700);
        for (name, to) in [
            ("runs/1/work/checkout/app", 0o644),
            ("orch.db", 0o644),
            ("runs/1/x.sh", 0o755),
            (PUBLIC, 0o644),
            ("outside", 0o644),
        ] {
            std::fs::write(root.join(name), "x").unwrap();
            set(&root.join(name), to);
        }
        std::fs::rename(root.join("outside"), dir.path().join("outside")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), root.join("runs/link")).unwrap();
        for name in ["", "runs", "runs/1"] {
            set(&root.join(name), 0o755);
        }
        let found = close(&root, false).unwrap();
        assert_eq!(found.len(), 5, "{found:?}");
        let modes = ["", "runs", "runs/1", "orch.db", "runs/1/x.sh", PUBLIC].map(|n| mode(&root.join(n)));
        assert_eq!(modes, [0o700, 0o700, 0o700, 0o600, 0o700, 0o644]);
        assert_eq!(mode(&dir.path().join("outside")), 0o644, "a link is not followed");
        assert_eq!(mode(&root.join("runs/1/work/checkout/app")), 0o644, "a deploy publishes it");
        assert!(close(&root, true).unwrap().is_empty(), "nothing twice");
        // The quick check sees only the first level; a full one has to be asked for.
        set(&root.join("runs/1/x.sh"), 0o604);
        assert!(close(&root, false).unwrap().is_empty());
        assert_eq!(close(&root, true).unwrap(), [root.join("runs/1/x.sh")]);
    }

    #[test]
    fn bnd_6_entries_of_path_that_others_can_fill_are_dropped_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["good", "sticky", "open", "area/x/bin"] {
            std::fs::create_dir_all(at(name)).unwrap();
            set(&at(name), 0o755);
        }
        set(&at("sticky"), 0o1777);
        set(&at("open"), 0o777);
        std::os::unix::fs::symlink(at("area/x/bin"), at("link")).unwrap();
        let all = ["good", "sticky", "open", "area/x/bin", "link", "not-there"].map(at);
        let path = std::env::join_paths(all.into_iter().chain(["".into(), ".".into(), "bin".into()])).unwrap();
        let (kept, dropped) = sound(&path, Some(&at("area")));
        assert_eq!(std::env::split_paths(&kept).collect::<Vec<_>>(), [at("good"), at("not-there")]);
        assert_eq!(dropped.len(), 7, "{dropped:?}");
        for (n, why) in [(0, "everybody"), (1, "everybody"), (2, "runs"), (3, "runs"), (4, "empty"), (5, "relative")] {
            assert!(dropped[n].contains(why), "{dropped:?}");
        }
        assert_eq!(sound(&path, None).1.len(), 5, "without an area");
    }

    #[test]
    fn found_d3_a_child_has_the_usual_umask_whatever_ours_is() {
        // In a process of its own: the umask belongs to the whole process.
        let Ok(file) = std::env::var("ORCH_TEST_UMASK") else {
            let dir = tempfile::tempdir().unwrap();
            let mut own = Command::new(std::env::current_exe().unwrap());
            own.args(["adapters::modes::tests::found_d3", "--nocapture"]).env("ORCH_TEST_UMASK", dir.path());
            assert!(own.status().unwrap().success());
            let of = |name: &str| mode(&dir.path().join(name));
            assert_eq!((of("own"), of("child"), of("after")), (0o600, 0o644, 0o600));
            return;
        };
        let at = |name: &str| Path::new(&file).join(name);
        keep_private();
        std::fs::write(at("own"), "").unwrap();
        let mut child = Command::new("sh");
        child.args(["-c", "echo > \"$0\""]).arg(at("child"));
        assert!(spawn_public(&mut child).unwrap().wait().unwrap().success());
        std::fs::write(at("after"), "").unwrap();
    }
}
