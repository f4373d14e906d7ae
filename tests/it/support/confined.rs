//! A run of the second row and its surroundings (BND-2): folders, an operator's process, sockets, planted secrets.

use orch::adapters::child::{self, ChildError, Control, Event, Exit, Spec};
use orch::adapters::confine::{self, Boundary, Bounds, Engine, Probe, Run};
use orch::model::confine::{Choice, Network, Policy};
use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The account of a run if this process is root; no account of this machine has it.
pub const UID: u32 = 2_000_000_007;

/// Path of `orch`, for tests that are repeated as an ordinary account.
pub const PROGRAM: &str = "ORCH_TEST_PROGRAM";

/// The engine, if this machine has it. Without it: a failure under `ORCH_TOOLS_REQUIRED`, else a loud message.
pub fn engine(choice: Choice, network: Network, place: &Place) -> Option<Engine> {
    let policy = Policy { choice, network, ..Policy::default() };
    match confine::engine(&policy, &place.probe()) {
        Ok(engine) => Some(engine),
        Err(no) => {
            assert!(std::env::var_os("ORCH_TOOLS_REQUIRED").is_none(), "{choice:?} is not here: {no}");
            eprintln!("\n*** NOT TESTED: {choice:?} is not here: {no} ***\n");
            None
        }
    }
}

/// The folders of one run below a new one, owned by its account.
pub struct Place {
    dir: TempDir,
    root: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let place = Self { dir, root: rustix::process::geteuid().is_root() };
        for name in ["area/checkout", "area/home", "area/tmp", "state/answers", "area/other"] {
            std::fs::create_dir_all(place.path(name)).unwrap();
        }
        std::fs::set_permissions(place.path("state"), std::fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["area/checkout", "area/home", "area/tmp"] {
            place.own(&place.path(name));
        }
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the run's account the owner of a path.
    pub fn own(&self, path: &Path) {
        if self.root {
            chown(path, Some(UID), Some(UID)).unwrap();
        }
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The `orch` under test.
    pub fn program() -> PathBuf {
        std::env::var_os(PROGRAM).map_or_else(|| crate::support::ORCH.into(), PathBuf::from)
    }

    pub fn probe(&self) -> Probe {
        let probe = Probe::here(self.path("state/answers")).unwrap();
        Probe { program: Self::program(), ..probe }
    }

    pub fn run(&self, engine: &Engine) -> Run {
        Run {
            engine: engine.clone(),
            probe: self.probe(),
            bounds: Bounds {
                policy: Policy::default(),
                checkout: self.path("area/checkout"),
                home: self.path("area/home"),
                tmp: self.path("area/tmp"),
                read: Vec::new(),
                hidden: vec![self.path("state")],
                frozen: Vec::new(),
                uid: self.root.then_some(UID),
                own_sandbox: false,
            },
        }
    }

    /// The command in the checkout, with the environment of every run.
    pub fn spec(&self, run: Run, argv: &[&str]) -> Spec {
        let set = |name: &str, value: &Path| (OsString::from(name), value.as_os_str().to_owned());
        Spec {
            argv: argv.iter().map(OsString::from).collect(),
            cwd: self.path("area/checkout"),
            env: vec![
                set("PATH", Path::new("/usr/local/bin:/usr/bin:/bin")),
                set("HOME", &run.home),
                set("TMPDIR", &run.tmp),
                set("LANG", Path::new("C.UTF-8")),
            ],
            stdin: None,
            stdout: self.path("state/out"),
            stderr: self.path("state/err"),
            wall: Duration::from_secs(120),
            stall: None,
            grace: Duration::from_secs(20),
            mark: ("ORCH_RUN".to_owned(), format!("confined-{}-{}", std::process::id(), self.dir.path().display())),
            cap_bytes: 64 << 20,
            boundary: Boundary::Run(Box::new(run)),
        }
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("state/out")).unwrap_or_default()).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("state/err")).unwrap_or_default()).into_owned()
    }

    /// Runs it to its end, and prints its output if it failed to start.
    pub fn go(&self, spec: &Spec) -> Exit {
        self.run_with(spec, &mut |_| Control::Go).unwrap_or_else(|e| panic!("{e}; {}", self.err()))
    }

    pub fn run_with(&self, spec: &Spec, on_event: &mut dyn FnMut(Event<'_>) -> Control) -> Result<Exit, ChildError> {
        for name in ["state/out", "state/err"] {
            let _ = std::fs::remove_file(self.path(name));
        }
        child::run(spec, on_event)
    }
}
