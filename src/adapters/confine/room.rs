//! Clears the paths where bubblewrap mounts below folders that an earlier command of the run could write to. bubblewrap
//! follows links there while it still acts as the operator, outside the sandbox it builds: a link in the run's `/tmp`
//! made it create folders and files anywhere, and a link in place of a protected script mounted the link's target
//! (BND-2). No process of the run is alive meanwhile.

use crate::adapters::git::files::remove;
use std::io;
use std::path::{Component, Path};

/// Deletes what is in the way of a mount at `below` in `root`: anything on the path that is not a real folder and, at
/// its end, anything of another kind than the mount. bubblewrap makes what is missing.
///
/// # Errors
/// What can't be deleted, with its path.
pub(super) fn make(root: &Path, below: &Path, folder: bool) -> io::Result<()> {
    let mut at = root.to_owned();
    let mut parts = below.components().peekable();
    while let Some(part) = parts.next() {
        at.push(part);
        let Ok(data) = at.symlink_metadata() else { return Ok(()) };
        let fits = if parts.peek().is_some() || folder { data.is_dir() } else { data.is_file() };
        if !fits {
            return remove(&at).map_err(io::Error::other);
        }
    }
    Ok(())
}

/// Whether `path` is a regular file below `root`, reached without a link.
pub(super) fn plain(root: &Path, path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(root) else { return false };
    let mut at = root.to_owned();
    let mut last = false;
    for part in below.components() {
        let Component::Normal(name) = part else { return false };
        at.push(name);
        match at.symlink_metadata() {
            Ok(data) if data.is_symlink() => return false,
            Ok(data) => last = data.is_file(),
            Err(_) => return false,
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn bnd_2_only_what_blocks_of_a_mount_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("tmp"), dir.path().join("outside"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(root.join("a/b/kept"), "x").unwrap();
        make(&root, Path::new("a/b/c"), true).unwrap();
        make(&root, Path::new("a/b/kept"), false).unwrap();
        assert!(root.join("a/b/kept").is_file());
        // A link on the path, a folder where a file belongs, a link at the end.
        symlink(&outside, root.join("link")).unwrap();
        fs::create_dir_all(root.join("folder/deep")).unwrap();
        fs::write(outside.join("file"), "x").unwrap();
        symlink(outside.join("file"), root.join("end")).unwrap();
        make(&root, Path::new("link/x"), true).unwrap();
        make(&root, Path::new("folder"), false).unwrap();
        make(&root, Path::new("end"), false).unwrap();
        for gone in ["link", "folder", "end"] {
            assert!(root.join(gone).symlink_metadata().is_err(), "{gone}");
        }
        assert!(outside.join("file").is_file());
    }

    #[test]
    fn bnd_5_a_protected_script_behind_a_link_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("checkout");
        fs::create_dir_all(root.join("real")).unwrap();
        fs::write(root.join("real/ci.sh"), "x").unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink("real/ci.sh", root.join("ci.sh")).unwrap();
        assert!(plain(&root, &root.join("real/ci.sh")));
        for bad in ["link/ci.sh", "ci.sh", "real", "none", "../checkout/real/ci.sh"] {
            assert!(!plain(&root, &root.join(bad)), "{bad}");
        }
        assert!(!plain(&root, dir.path()));
    }
}
