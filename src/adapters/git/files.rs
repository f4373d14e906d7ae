//! Files of repositories that `orch` makes, and the deletion of folders that others filled.

use super::cmd::{GitError, Result};
use super::{Person, gone};
use std::path::{Path, PathBuf};

impl Person {
    fn parts(&self) -> (String, String) {
        let line = self.line();
        let (name, rest) = line.split_once(" <").unwrap_or((line.as_str(), ""));
        (name.to_owned(), rest.trim_end_matches('>').to_owned())
    }
}

/// The configuration of a repository that we make.
pub(super) fn own_config(author: Option<&Person>) -> String {
    let mut text = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogAllRefUpdates = true\n[gc]\n\tauto = 0\n".to_owned();
    if let Some(author) = author {
        let (name, email) = author.parts();
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        text.push_str(&format!("[user]\n\tname = \"{}\"\n\temail = \"{}\"\n", quoted(&name), quoted(&email)));
    }
    text
}

/// Writes a file in place of whatever is there, never through a link.
pub(super) fn fresh_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Removes a file, link or folder. A missing one is no error; folders without permissions get them first.
pub fn remove(path: &Path) -> Result<()> {
    let missing = |result: std::io::Result<()>| match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let result = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => gone::folder(path).map_err(Into::into),
        Ok(_) => missing(std::fs::remove_file(path)),
        Err(e) => missing(Err(e)),
    };
    result.map_err(GitError::io(format!("removing {}", path.display())))
}

/// The same with a deadline; returns whether everything is gone by then.
pub fn remove_until(path: &Path, until: std::time::Instant) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => gone::folder_until(path, Some(until))
            .map_err(Into::into)
            .map_err(GitError::io(format!("removing {}", path.display()))),
        Ok(_) | Err(_) => remove(path).map(|()| true),
    }
}

/// Inode and change time of files that a run must not touch: they show if one was written, replaced or given other
/// permissions (BND-5). No program can set a change time.
#[derive(Debug)]
pub struct Seals(Vec<(PathBuf, Option<Seal>)>);

type Seal = (u64, u64, i64, i64);

fn seal(path: &Path) -> Option<Seal> {
    use std::os::unix::fs::MetadataExt;
    path.symlink_metadata().ok().map(|m| (m.dev(), m.ino(), m.ctime(), m.ctime_nsec()))
}

impl Seals {
    /// Taken right before the run, after everything that `orch` itself does to the files.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let now = |path: PathBuf| {
            let seal = seal(&path);
            (path, seal)
        };
        Self(paths.into_iter().map(now).collect())
    }

    /// The files that have changed.
    pub fn broken(&self) -> Vec<&Path> {
        self.0.iter().filter(|(path, was)| seal(path) != *was).map(|(path, _)| path.as_path()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_was_written_replaced_or_deleted_breaks_its_seal() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let names = ["same", "written", "replaced", "gone", "mode"];
        names.iter().for_each(|name| std::fs::write(path(name), "x").unwrap());
        let seals = Seals::of(names.iter().chain(&["never", "new"]).map(|name| path(name)));
        assert!(seals.broken().is_empty());
        std::fs::write(path("replaced.new"), "x").unwrap();
        std::fs::rename(path("replaced.new"), path("replaced")).unwrap();
        std::fs::write(path("new"), "x").unwrap();
        std::fs::remove_file(path("gone")).unwrap();
        // File timestamps are coarse, so it writes until the change shows.
        let touched = |name: &str, act: &dyn Fn(&Path)| {
            while !seals.broken().contains(&path(name).as_path()) {
                act(&path(name));
            }
        };
        touched("written", &|p| std::fs::write(p, "x").unwrap());
        touched("mode", &|p| std::fs::set_permissions(p, Permissions::from_mode(0o755)).unwrap());
        let broken: Vec<_> = seals.broken().iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(broken, ["written", "replaced", "gone", "mode", "new"]);
        assert_eq!(std::fs::read_to_string(path("same")).unwrap(), "x");
    }
}
