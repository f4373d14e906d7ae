//! One state directory belongs to one configuration (ORD-3): its canonical path is kept in the directory and in the
//! database, so that two checkouts can't accidentally share a default directory.

use super::Ctx;
use crate::adapters::process;
use crate::adapters::sentinel;
use crate::adapters::store::StoreError;
use crate::model::event::Event;
use anyhow::{Context, Result};
use serde_json::json;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The file in the state directory, readable before the database is opened.
const FILE: &str = "configuration";
/// The row that says whether a change was recorded already.
const ROW: &str = "configuration";

/// The directory belongs to another configuration, which still exists.
#[derive(Debug)]
pub struct Other {
    state_dir: PathBuf,
    bound: PathBuf,
    here: PathBuf,
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, bound, here) = (self.state_dir.display(), self.bound.display(), self.here.display());
        write!(f, "the state directory {state} belongs to the configuration {bound}, but this is {here}")
    }
}

impl Other {
    /// What a person can do.
    pub fn way_out(&self) -> String {
        format!(
            "give this one its own state_dir, or use --config {}; `orch config adopt` if that file is no longer used",
            self.bound.display()
        )
    }
}

/// The configuration that a state directory belongs to; `None`: none yet.
pub fn bound(state_dir: &Path) -> Option<PathBuf> {
    let mut bytes = std::fs::read(state_dir.join(FILE)).ok()?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    path.is_absolute().then_some(path)
}

fn real(file: &Path) -> PathBuf {
    std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())
}

/// Whether a state directory may be opened with this configuration: it belongs to this one, to none, or to a file that
/// is gone. Fails with both paths.
pub fn check(state_dir: &Path, file: &Path) -> Result<(), Other> {
    let here = real(file);
    match bound(state_dir) {
        // What can't be checked counts as existing.
        Some(bound) if bound != here && real(&bound) != here && bound.try_exists().unwrap_or(true) => {
            Err(Other { state_dir: state_dir.to_owned(), bound, here })
        }
        Some(_) | None => Ok(()),
    }
}

/// Takes the directory over for the configuration in force, with one audit event if it belonged to another. `meant`: a
/// person asked for it (`config adopt`). Returns whether it belonged to another or to none.
pub fn take(ctx: &mut Ctx, meant: bool) -> Result<bool> {
    let here = real(&ctx.config.file);
    let was = bound(ctx.paths.root());
    if ctx.dry || was.as_ref() == Some(&here) || here.as_os_str().is_empty() {
        return Ok(false);
    }
    let (at, text) = (ctx.now().stamp.wall_ms, here.to_string_lossy().into_owned());
    ctx.store.write(|tx| {
        let before = tx.meta(ROW)?;
        if before.as_deref() == Some(text.as_str()) {
            return Ok(());
        }
        tx.set_meta(ROW, &text)?;
        if let Some(from) = before.or_else(|| was.as_ref().map(|w| w.to_string_lossy().into_owned())) {
            let by = meant.then(process::caller);
            super::record::event(
                tx,
                at,
                None,
                Event::ConfigurationAdopted,
                &json!({"from": from, "to": text, "by": by}),
            )?;
        }
        Ok::<_, StoreError>(())
    })?;
    let path = ctx.paths.root().join(FILE);
    let mut bytes = here.as_os_str().as_bytes().to_vec();
    bytes.push(b'\n');
    sentinel::put(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ord_3_a_directory_is_one_configurations() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (one, two, state) = (root.join("one.yaml"), root.join("two.yaml"), root.join("state"));
        for file in [&one, &two] {
            std::fs::write(file, "x").unwrap();
        }
        std::fs::create_dir(&state).unwrap();
        assert!(bound(&state).is_none() && check(&state, &one).is_ok(), "nobody's yet");
        std::fs::write(state.join(FILE), format!("{}\n", one.display())).unwrap();
        assert!(check(&state, &one).is_ok());
        std::os::unix::fs::symlink(&one, root.join("link.yaml")).unwrap();
        assert!(check(&state, &root.join("link.yaml")).is_ok());
        let other = check(&state, &two).unwrap_err();
        let said = format!("{other} {}", other.way_out());
        for part in [&one, &two, &state] {
            assert!(said.contains(part.to_str().unwrap()), "{said}");
        }
        std::fs::remove_file(&one).unwrap();
        assert!(check(&state, &two).is_ok(), "the recorded file is gone");
        // A word that is not a path binds to nothing.
        std::fs::write(state.join(FILE), "x\n").unwrap();
        assert!(bound(&state).is_none());
    }
}
