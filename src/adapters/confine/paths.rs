//! The named paths (BND-2): only those of the system that every program needs and everybody may read.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Most entries of `/etc` that are checked.
const MOST: usize = 100_000;

/// One entry in the root of the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Folder(PathBuf),
    /// `/bin` → `usr/bin`.
    Link {
        at: PathBuf,
        to: PathBuf,
    },
}

/// Those of `/usr`, `/bin`, `/sbin`, `/lib*`, `/opt`, `/nix` and `/sys` that exist; `/etc` has its own rules.
pub(super) fn system() -> Vec<Part> {
    let named = |name: &str| matches!(name, "usr" | "bin" | "sbin" | "opt" | "nix" | "sys") || name.starts_with("lib");
    let mut all: Vec<Part> = std::fs::read_dir("/")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().filter(|e| e.file_name().to_str().is_some_and(named)))
        .filter_map(|entry| {
            let at = entry.path();
            let kind = entry.file_type().ok()?;
            if kind.is_symlink() {
                let to = std::fs::read_link(&at).ok()?;
                return Some(Part::Link { at, to });
            }
            kind.is_dir().then_some(Part::Folder(at))
        })
        .collect();
    all.sort_by_key(|part| match part {
        Part::Folder(at) | Part::Link { at, .. } => at.clone(),
    });
    all
}

/// The topmost paths in `folder` that not everybody may read. Links are not followed.
///
/// # Errors
/// Too many entries, or a folder that disappears while it is read.
pub(super) fn not_for_everybody(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut open, mut seen) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            seen += 1;
            if seen > MOST {
                return Err(io::Error::other(format!("{} contains more than {MOST} entries", folder.display())));
            }
            // Something deleted meanwhile has nothing to hide.
            let Ok(data) = std::fs::symlink_metadata(&path) else { continue };
            match shown(&data) {
                Shown::All => {}
                Shown::Folder => open.push(path),
                Shown::No => found.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}

enum Shown {
    All,
    /// A folder still to be scanned.
    Folder,
    No,
}

fn shown(data: &Metadata) -> Shown {
    let mode = data.permissions().mode();
    if data.is_dir() {
        return if mode & 0o5 == 0o5 { Shown::Folder } else { Shown::No };
    }
    let open = data.is_symlink() || (data.is_file() && mode & 0o4 != 0);
    if open { Shown::All } else { Shown::No }
}

/// The parts of `base` that contain none of `hidden`: `base` itself if it contains none.
pub(super) fn without(base: &Path, hidden: &[PathBuf]) -> Vec<PathBuf> {
    let (mut kept, mut open) = (Vec::new(), vec![base.to_owned()]);
    while let Some(path) = open.pop() {
        if hidden.iter().any(|h| path.starts_with(h)) {
            continue;
        }
        if !hidden.iter().any(|h| h.starts_with(&path)) {
            kept.push(path);
            continue;
        }
        let entries = std::fs::read_dir(&path).into_iter().flatten();
        // The target of a link is named at its own path, or not at all.
        open.extend(
            entries.filter_map(|e| e.ok().filter(|e| !e.file_type().is_ok_and(|t| t.is_symlink())).map(|e| e.path())),
        );
    }
    kept.sort();
    kept
}

/// The target of `/etc/resolv.conf`, if it is outside `/etc`.
pub(super) fn resolver() -> Option<PathBuf> {
    std::fs::canonicalize("/etc/resolv.conf").ok().filter(|path| !path.starts_with("/etc"))
}

/// The path as the kernel sees it, so that hidden and named ones can be compared. A missing path is unchanged.
pub(super) fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
