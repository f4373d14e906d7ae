//! A state directory filled through the library's own store, and the binary on it: for tests of output.

use super::rows::{Db, Rows};
use orch::adapters::store::{Mode, NewTask, Store, Tx};
use orch::model::ids::Key;
use orch::model::task::Task;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A folder with `orch.yaml` and a state directory.
pub struct Seeded {
    pub dir: tempfile::TempDir,
}

/// One project on a local board whose repository is never contacted.
pub const ONE: &str = "state_dir: ./state\nexecutor: detach\nconfine: {mode: off}\nmin_free_mb: 0\nprojects:\n  - key: ORCH\n    repo: demo\n    git: {remote: ./remote.git}\n";

impl Seeded {
    pub fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("orch.yaml"), config).unwrap();
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Exit code, stdout, stderr.
    pub fn orch(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(crate::support::ORCH);
        command.current_dir(self.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let out = command
            .env("HOME", self.path())
            .env("ORCH_CONFIG", "orch.yaml")
            .env("TZ", "UTC")
            .args(args)
            .output()
            .unwrap();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }

    /// A shell's line on a terminal of its own, whose output comes through the child's stdout.
    pub fn terminal(&self, line: &str) -> Child {
        let mut command = Command::new("script");
        command
            .current_dir(self.path())
            .args(["-qec", line, "/dev/null"])
            .env("HOME", self.path())
            .env("TERM", "xterm");
        command.env("ORCH_CONFIG", "orch.yaml").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// The one JSON document of a call.
    pub fn json(&self, args: &[&str]) -> (i32, Value) {
        let mut all = args.to_vec();
        all.push("--json");
        let (code, out, err) = self.orch(&all);
        (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out:?} {err}")))
    }

    /// A table of the database, for what has no view.
    pub fn table(&self, name: &str) -> Rows {
        Db::of(&self.path().join("state")).table(name)
    }

    pub fn store(&self) -> Store {
        let state = self.path().join("state");
        orch::adapters::sentinel::make_dirs(&state).unwrap();
        Store::open(&state.join("orch.db"), Mode::Migrate).unwrap()
    }

    pub fn write<T>(&self, work: impl FnOnce(&Tx<'_>) -> T) -> T {
        self.store().write(|tx| Ok::<_, orch::adapters::store::StoreError>(work(tx))).unwrap()
    }

    /// A work item on the local board that starts nothing.
    pub fn item(&self, title: &str) -> String {
        let (code, printed) = self.json(&["new", title, "--draft"]);
        assert_eq!(code, 0, "{printed}");
        printed["key"].as_str().unwrap().to_owned()
    }
}

/// Reads until the output ends with a text, which has to come.
pub fn read_until(out: &mut impl Read, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// A task in `created`.
pub fn task(tx: &Tx<'_>, key: &str, title: &str, at: i64) -> Task {
    let key = Key::parse(key).unwrap();
    let new = NewTask {
        key: &key,
        project: "ORCH",
        repo: "demo",
        item_id: key.as_str(),
        title,
        body: "",
        priority: 4,
        blocked_by: &[],
    };
    tx.insert_task(&new, at).unwrap().unwrap()
}

/// Changes a task's row.
pub fn change(tx: &Tx<'_>, task: &Task, with: impl FnOnce(&mut Task)) -> Task {
    let mut task = tx.task(task.id).unwrap();
    with(&mut task);
    let at = task.updated_at;
    tx.save_task(&mut task, at).unwrap();
    task
}
