//! What differs between two commits, by the objects on each side.

use super::cmd::Result;
use super::history::{EntryKind, unexpected};
use super::mirror::Mirror;
use crate::model::ids::Sha;

/// One side of a changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub kind: EntryKind,
    pub id: Sha,
    /// Bytes; `None` for a submodule, whose commit is elsewhere.
    pub size: Option<u64>,
}

/// A path that differs between two commits; a rename is two paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedPath {
    pub path: String,
    pub before: Option<Object>,
    pub after: Option<Object>,
}

impl Mirror {
    /// Every path that differs between two commits' trees, with both objects and their sizes.
    pub fn changes(&self, from: &Sha, to: &Sha) -> Result<Vec<ChangedPath>> {
        let args = ["diff-tree", "-r", "--raw", "-z", "--no-renames", "--no-ext-diff", "--no-abbrev"];
        let out = self.cmd().args(args).args([from.as_str(), to.as_str()]).ok()?;
        let mut parts = out.split(|b| *b == 0).filter(|part| !part.is_empty());
        let mut found = Vec::new();
        while let Some(head) = parts.next() {
            let path = parts.next().ok_or_else(|| unexpected("diff-tree"))?;
            let (before, after) = sides(head).ok_or_else(|| unexpected("diff-tree"))?;
            found.push(ChangedPath { path: String::from_utf8_lossy(path).into_owned(), before, after });
        }
        self.sized(&mut found)?;
        Ok(found)
    }

    fn sized(&self, found: &mut [ChangedPath]) -> Result<()> {
        let objects = found.iter_mut().flat_map(|c| c.before.iter_mut().chain(c.after.iter_mut()));
        for object in objects.filter(|o| o.kind != EntryKind::Submodule) {
            object.size = self.info(object.id.as_str())?.map(|found| found.size as u64);
        }
        Ok(())
    }
}

/// `:100644 100755 <id> <id> M`; a missing side has a mode of zeros.
fn sides(head: &[u8]) -> Option<(Option<Object>, Option<Object>)> {
    let text = std::str::from_utf8(head).ok()?.strip_prefix(':')?;
    let parts: Vec<&str> = text.split(' ').collect();
    let [was, now, from, to, _] = parts.as_slice() else { return None };
    let object = |mode: &str, id: &str| -> Option<Option<Object>> {
        let kind = match mode {
            "000000" => return Some(None),
            "100755" => EntryKind::Executable,
            "120000" => EntryKind::Symlink,
            "160000" => EntryKind::Submodule,
            _ => EntryKind::File,
        };
        Some(Some(Object { kind, id: Sha::parse(id).ok()?, size: None }))
    };
    Some((object(was, from)?, object(now, to)?))
}

/// See `fuzzing`.
pub(super) fn fuzz(bytes: &[u8]) {
    sides(bytes);
}
