//! Files of repositories that `orch` itself makes, and the end of folders that others filled.

use super::Person;
use super::cmd::{GitError, Result};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

impl Person {
    fn parts(&self) -> (String, String) {
        let line = self.line();
        let (name, rest) = line.split_once(" <").unwrap_or((line.as_str(), ""));
        (name.to_owned(), rest.trim_end_matches('>').to_owned())
    }
}

/// The configuration of a repository of our own making.
pub(super) fn own_config(author: Option<&Person>) -> String {
    let mut text = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogAllRefUpdates = true\n[gc]\n\tauto = 0\n".to_owned();
    if let Some(author) = author {
        let (name, email) = author.parts();
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        text.push_str(&format!("[user]\n\tname = \"{}\"\n\temail = \"{}\"\n", quoted(&name), quoted(&email)));
    }
    text
}

/// Writes a file in place of whatever stands there, never through a link.
pub(super) fn fresh_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Removes a file, link or folder; what is gone is no error, folders without rights are given them.
pub fn remove(path: &Path) -> Result<()> {
    let gone = |result: std::io::Result<()>| match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let result = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => gone(std::fs::remove_dir_all(path)).or_else(|_| {
            make_writable(path);
            gone(std::fs::remove_dir_all(path))
        }),
        Ok(_) => gone(std::fs::remove_file(path)),
        Err(e) => gone(Err(e)),
    };
    result.map_err(GitError::io(format!("removing {}", path.display())))
}

/// Gives the owner all rights on every folder below; links are not followed.
fn make_writable(path: &Path) {
    let mut open = vec![path.to_owned()];
    while let Some(folder) = open.pop() {
        let _ = std::fs::set_permissions(&folder, Permissions::from_mode(0o700));
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                open.push(entry.path());
            }
        }
    }
}
