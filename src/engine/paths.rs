//! Where things are under the state directory (CFG-3).

use crate::model::ids::{RunId, Sha, TaskId};
use crate::model::task::Task;
use std::path::{Path, PathBuf};

/// The state directory's layout.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
    area: PathBuf,
    /// Each run has folders of its own.
    apart: bool,
}

impl Paths {
    /// The layout of a state directory without an area of its own, for callers that need only the state.
    pub fn new(root: &Path) -> Self {
        Self::with_area(root, root)
    }

    /// `root`: the state directory; `area`: where runs have their folders (BND-3).
    pub fn with_area(root: &Path, area: &Path) -> Self {
        Self { root: root.to_owned(), area: area.to_owned(), apart: false }
    }

    /// Sets whether each run has folders of its own that no later run reuses: a node that is cut off may still write
    /// there (CLU-2).
    pub fn apart(self, apart: bool) -> Self {
        Self { apart, ..self }
    }
    /// The audit table's last number and hash.
    pub fn audit_tail(&self) -> PathBuf {
        self.root().join("sentinels/audit-tail.json")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn area(&self) -> &Path {
        &self.area
    }
    /// Installation tokens of GitHub Apps, and when a credential last wrote.
    pub fn tokens(&self) -> PathBuf {
        self.root.join("tokens")
    }
    pub fn database(&self) -> PathBuf {
        self.root.join("orch.db")
    }
    pub fn mirror(&self, repo: &str) -> PathBuf {
        self.root.join("repos").join(format!("{repo}.git"))
    }
    /// The task's part of the area: its runs' folders.
    pub fn area_of(&self, task: &Task) -> PathBuf {
        self.area.join(&task.repo).join(task.folder())
    }
    /// The folders of one run, below its `place` in the area.
    pub fn run_in(&self, place: PathBuf, run: &str) -> PathBuf {
        if self.apart { place.join(run) } else { place }
    }
    /// Whether [`Paths::run_in`] gives each run its own folder.
    pub fn is_apart(&self) -> bool {
        self.apart
    }
    /// A task's caches of one kind of run, a folder for each code tree (BND-3).
    pub fn task_cache(&self, task: &Task, kind: &str) -> PathBuf {
        self.area_of(task).join("cache").join(kind)
    }
    /// The cache of a base, by its name. No work item's key can equal the folder's name.
    pub fn base_cache(&self, name: &str) -> PathBuf {
        self.area.join(name).join("cache").join("base")
    }
    pub fn lease(&self, repo: &str) -> PathBuf {
        self.root.join("sentinels").join(repo).join("merge-lease.json")
    }
    pub fn sentinels(&self, task: &Task) -> PathBuf {
        self.root.join("sentinels").join(&task.repo).join(task.folder())
    }
    /// `initiated`, `started` or `result` of one deploy.
    pub fn deploy(&self, task: &Task, deploy: &str, what: &str) -> PathBuf {
        self.sentinels(task).join(format!("deploy.{deploy}.{what}.json"))
    }
    pub fn watch(&self, task: &Task) -> PathBuf {
        self.sentinels(task).join("post-deploy.json")
    }
    /// Where `orch`'s own artefacts for one head are (RULE-1).
    pub fn evidence(&self, task: TaskId, head: &Sha) -> PathBuf {
        self.root.join("evidence").join(task.to_string()).join(head.as_str())
    }
    pub fn run(&self, run: RunId) -> PathBuf {
        self.root.join("runs").join(run.to_string())
    }
    pub fn run_lock(&self, run: RunId) -> PathBuf {
        self.run(run).join("lock")
    }
    /// Exists once a build job runs nothing from the branch any more and starts an operator's command (BND-6).
    pub fn in_operators_hands(&self, run: RunId) -> PathBuf {
        self.run(run).join("operators")
    }
    /// Distinguishes this installation's units and processes from another's on the same host (RULE-10): eight digits
    /// derived from the state directory's canonical path.
    pub fn installation(&self) -> String {
        crate::config::installation(&self.root)
    }
    /// The value of the mark that every process of a run carries (RULE-19): run numbers repeat in every installation,
    /// and a process of another one must never be taken for ours.
    pub fn mark(&self, run: RunId) -> String {
        format!("{}-{run}", self.installation())
    }
    /// The unit of a run's supervisor, or of the one that only finalizes it, without `.service` (RULE-10).
    pub fn unit(&self, run: RunId, finalize: bool) -> String {
        format!("orch-{}-run-{run}{}", self.installation(), if finalize { "-finalize" } else { "" })
    }
    /// The file with which one of `orch`'s own steps, started by another, proves its origin (BND-6).
    pub fn own_step(&self, token: &str) -> PathBuf {
        self.root.join("own").join(token)
    }
    /// Which files of a project's local board were already read.
    pub fn seen(&self, project: &str) -> PathBuf {
        self.root.join("boards").join(format!("{project}.seen"))
    }
    pub fn cards(&self) -> PathBuf {
        self.root.join("cards")
    }
    pub fn archive(&self, task: &Task) -> PathBuf {
        self.root.join("archive").join(task.folder())
    }
    /// The transcript of an agent's session, kept per task and stage so that it may be resumed (RULE-26).
    pub fn transcript(&self, task: &Task, stage: &str) -> PathBuf {
        self.root.join("homes").join(task.id.to_string()).join(stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_10_a_unit_is_named_by_its_installation_and_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let (state, other) = (dir.path().join("state"), dir.path().join("other"));
        std::fs::create_dir(&state).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink("state", dir.path().join("link")).unwrap();
        let own = Paths::new(&state);
        let id = own.installation();
        assert_eq!(own.unit(RunId(7), false), format!("orch-{id}-run-7"));
        assert_eq!(own.unit(RunId(7), true), format!("orch-{id}-run-7-finalize"));
        assert!(id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        for spelled in ["link", "./state", "other/../state"] {
            assert_eq!(Paths::new(&dir.path().join(spelled)).installation(), id, "{spelled}");
        }
        let sibling = Paths::new(&other);
        assert_ne!(sibling.unit(RunId(7), false), own.unit(RunId(7), false));
        assert_ne!(sibling.mark(RunId(7)), own.mark(RunId(7)));
    }
}
