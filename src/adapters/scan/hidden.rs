//! Which findings of the second pass a path allow-list covers: each one is checked again under its real path.

use super::blobs::{Hit, Origin, Pass};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Most folders to check, since contents of the same path can't share one. A finding that is not checked stays.
const MOST_ROUNDS: usize = 32;

/// The findings that are not reported when the content is at its real path.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    /// Because of the scanner's own path allow-list.
    pub built_in: BTreeSet<usize>,
    /// Because of the project's configuration.
    pub project: BTreeSet<usize>,
}

impl Hidden {
    /// Checks every finding in a file; findings are named by number.
    pub fn ask(pass: &Pass<'_>, hits: &[Hit<'_>]) -> Result<Self> {
        let mut hidden = Self::default();
        let mut waiting: Vec<(usize, &str)> = hits
            .iter()
            .enumerate()
            .filter_map(|(n, hit)| match &hit.origin {
                Origin::File { path, .. } => Some((n, path.as_str())),
                Origin::Base | Origin::Commit { .. } | Origin::Tag { .. } | Origin::Paths => None,
            })
            .collect();
        for round in 0..MOST_ROUNDS {
            if waiting.is_empty() {
                break;
            }
            let dir = pass.repo.path(&format!("work/real{round}"));
            std::fs::create_dir_all(&dir)?;
            let (placed, later) = place(pass, hits, waiting, &dir);
            for (built_in, config) in [(true, None), (false, pass.config)] {
                if !built_in && config.is_none() {
                    continue;
                }
                let leaks =
                    pass.gitleaks.run(&["dir"], Path::new("."), Some(&dir), config, "json", pass.report)?.leaks()?;
                let made: BTreeSet<(&str, &str)> =
                    leaks.iter().map(|l| (l.file.strip_prefix("./").unwrap_or(&l.file), l.secret.as_str())).collect();
                for (path, there) in &placed {
                    for n in &there.hits {
                        let Some(hit) = hits.get(*n) else { continue };
                        if !made.contains(&(*path, hit.leak.secret.as_str())) {
                            let set = if built_in { &mut hidden.built_in } else { &mut hidden.project };
                            set.insert(*n);
                        }
                    }
                }
            }
            waiting = later;
        }
        Ok(hidden)
    }
}

/// What is at a path in one round, and the findings it decides.
struct Placed<'h> {
    name: &'h str,
    hits: Vec<usize>,
}

/// Puts pieces at their real paths; returns those that need another folder. A path that can't be created here is not
/// checked: its finding stays.
fn place<'h>(
    pass: &Pass<'_>,
    hits: &'h [Hit<'_>],
    waiting: Vec<(usize, &'h str)>,
    dir: &Path,
) -> (BTreeMap<&'h str, Placed<'h>>, Vec<(usize, &'h str)>) {
    let mut placed: BTreeMap<&str, Placed<'_>> = BTreeMap::new();
    let mut later = Vec::new();
    for (n, path) in waiting {
        let Some(hit) = hits.get(n) else { continue };
        match placed.get_mut(path) {
            Some(there) if there.name == hit.name => there.hits.push(n),
            Some(_) => later.push((n, path)),
            None => {
                let to = if controls(path) { None } else { inside(dir, path) };
                let done = to.is_some_and(|to| {
                    to.parent().is_some_and(|p| std::fs::create_dir_all(p).is_ok())
                        && std::fs::copy(pass.root().join(&hit.name), &to).is_ok()
                });
                if done {
                    placed.insert(path, Placed { name: &hit.name, hits: vec![n] });
                }
            }
        }
    }
    (placed, later)
}

/// Files that the scanner obeys wherever it finds them.
pub(super) fn controls(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with(".gitleaks") || name.starts_with(".betterleaks")
}

/// A path of the repository below a folder; `None` if it would leave it.
pub(super) fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_))) && !path.is_empty();
    plain.then(|| root.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_its_folder() {
        let root = Path::new("/r");
        assert_eq!(inside(root, "a/b"), Some(PathBuf::from("/r/a/b")));
        for bad in ["", "/a", "../a", "a/../../b"] {
            assert_eq!(inside(root, bad), None, "{bad}");
        }
    }
}
