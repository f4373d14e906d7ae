//! The folders of runs (BND-3): `<area_dir>/<repo>/<KEY>/<kind>/{checkout,home,tmp}`, created afresh from a commit for
//! each run (R2), outside the state directory, which no run may see.

use super::paths::Paths;
use crate::adapters::git::files::remove;
use crate::model::ids::RunId;
use crate::model::task::Task;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What a set of folders is for. Runs of different kinds never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AreaKind {
    Agent,
    Ci,
    Staging,
    Build,
    Shell,
}

impl AreaKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Ci => "ci",
            Self::Staging => "staging",
            Self::Build => "build",
            Self::Shell => "shell",
        }
    }
}

/// The three folders of one run, the only ones it may write to. The paths are the same for each run of a task and kind,
/// because runtimes tie a session to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// Contains the three and nothing else.
    pub root: PathBuf,
    /// The work tree. [`Folders::renew`] does not create it; the checkout does.
    pub checkout: PathBuf,
    /// `HOME` of the run.
    pub home: PathBuf,
    /// `TMPDIR` of the run.
    pub tmp: PathBuf,
    /// The folder of all runs, which contains these; for an operator's command the root itself.
    area: PathBuf,
    /// Only this run uses them: the folders next to the root belong to finished runs.
    apart: bool,
}

impl Folders {
    fn at(root: PathBuf, area: &Path) -> Self {
        let area = area.to_owned();
        Self {
            checkout: root.join("checkout"),
            home: root.join("home"),
            tmp: root.join("tmp"),
            root,
            area,
            apart: false,
        }
    }

    /// The folder of all runs.
    pub fn area(&self) -> &Path {
        &self.area
    }

    /// The folders of a task's runs of one kind. A work item's second task has its own (RULE-9).
    pub fn of(paths: &Paths, task: &Task, kind: AreaKind) -> Self {
        Self::at(paths.area_of(task).join(kind.as_str()), paths.area())
    }

    /// The folders of one run of a task.
    pub fn of_run(paths: &Paths, task: &Task, kind: AreaKind, run: RunId) -> Self {
        let root = paths.run_in(paths.area_of(task).join(kind.as_str()), &run.to_string());
        Self { apart: paths.is_apart(), ..Self::at(root, paths.area()) }
    }

    /// The folders of a base's checks, by its name. `at` distinguishes the checks.
    pub fn base(paths: &Paths, name: &str, at: i64) -> Self {
        let root = paths.run_in(paths.area().join(name).join("base"), &at.to_string());
        Self { apart: paths.is_apart(), ..Self::at(root, paths.area()) }
    }

    /// Where an operator's command works (a deploy, a rollback, a probe): below a folder that no run can write, such as
    /// `runs/<id>`. `name` distinguishes several commands of one run.
    pub fn of_operator(dir: &Path, name: &str) -> Self {
        Self::at(dir.join(name), &dir.join(name))
    }

    /// The folders of checks that a person runs, in their own folder of the area.
    pub fn of_check(area: &Path, dir: &Path) -> Self {
        Self::at(dir.to_owned(), area)
    }

    /// Deletes whatever an earlier run left and creates the home and the temporary folder, 0700 (R2). Every process of
    /// the earlier run must be gone. Fails with the path that can't be deleted or created.
    pub fn renew(&self) -> Result<()> {
        self.delete()?;
        if self.apart {
            self.forget_others();
        }
        self.make_way()?;
        for dir in [&self.root, &self.home, &self.tmp] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .with_context(|| format!("making {}", dir.display()))?;
            // Set explicitly, whatever the umask.
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
                .with_context(|| format!("setting the mode of {}", dir.display()))?;
        }
        Ok(())
    }

    /// Deletes the folders of earlier runs. A node that is cut off may still write there, so what can't be deleted
    /// stays.
    fn forget_others(&self) {
        let Some(parent) = self.root.parent() else { return };
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            if let Err(e) = remove(&entry.path()) {
                tracing::debug!("{}: {e}", entry.path().display());
            }
        }
    }

    /// Creates the parent folders, 0700.
    pub fn make_way(&self) -> Result<()> {
        let Some(parent) = self.root.parent() else { return Ok(()) };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .with_context(|| format!("making {}", parent.display()))
    }

    /// Deletes the folders with everything in them. A missing folder is not an error.
    pub fn delete(&self) -> Result<()> {
        remove(&self.root).with_context(|| format!("deleting {}", self.root.display()))
    }

    /// `HOME` and the names of the temporary folder.
    pub fn env(&self) -> Vec<(OsString, OsString)> {
        let tmp = ["TMPDIR", "TMP", "TEMP"].map(|name| (name.into(), self.tmp.as_os_str().to_owned()));
        std::iter::once(("HOME".into(), self.home.as_os_str().to_owned())).chain(tmp).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_finds_nothing_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::at(dir.path().join("r/ORCH-1/ci"), dir.path());
        folders.renew().unwrap();
        std::fs::create_dir_all(folders.home.join(".cache/deep")).unwrap();
        std::fs::write(folders.tmp.join("left"), "x").unwrap();
        std::fs::create_dir(&folders.checkout).unwrap();
        // A folder without rights can be deleted all the same.
        std::fs::set_permissions(folders.home.join(".cache"), std::fs::Permissions::from_mode(0o000)).unwrap();
        folders.renew().unwrap();
        assert!(folders.home.is_dir() && folders.tmp.is_dir() && !folders.checkout.exists());
        assert_eq!(std::fs::read_dir(&folders.home).unwrap().count(), 0);
        assert_eq!(folders.tmp.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let names: Vec<_> = folders.env().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["HOME", "TMPDIR", "TMP", "TEMP"]);
        folders.delete().unwrap();
        assert!(!folders.root.exists());
    }
}
