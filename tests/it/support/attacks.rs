//! What was attacked and what was seen (BND-7). The tests that play attacks record here what they saw, once it was as
//! expected; `scripts/attacks` writes the records to a file and turns them into the table of docs/results/attacks.md.
#![allow(dead_code, reason = "each test uses its part")]

use orch::model::confine::Choice;
use std::io::Write;
use std::path::PathBuf;

/// The folder for the rows; without it nothing is written.
const ROWS: &str = "ORCH_ATTACKS";

/// The tests that `scripts/attacks` also runs as an ordinary account.
pub const TESTS: [&str; 10] = [
    "hostile_build::",
    "hostile_git_walk::",
    "hostile_left::",
    "hostile_lfs::bnd",
    "confined_pipeline::",
    "judge_scripts::",
    "acts_caller::",
    "acts_audit::",
    "acts_credentials::",
    "acts_hidden::",
];

/// What confines the run that is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Bubblewrap,
    Landlock,
    /// `mode: off`: nothing.
    Off,
    /// No engine is involved: data that `orch` reads after a run.
    Any,
}

impl Held {
    pub fn of(engine: Choice) -> Self {
        match engine {
            Choice::Bubblewrap => Self::Bubblewrap,
            Choice::Landlock => Self::Landlock,
            Choice::Auto | Choice::Command => panic!("{engine:?} holds nothing by itself"),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bubblewrap",
            Self::Landlock => "landlock",
            Self::Off => "off",
            Self::Any => "any",
        }
    }
}

/// Attacks that only root can carry out, even without confinement.
pub const OF_ROOT: [&str; 7] = [
    "read a private file in /etc",
    "write to a system folder",
    "change a kernel setting",
    "open a raw socket",
    "create a device",
    "restart the machine",
    "raise its own priority",
];

/// What Landlock leaves open to runs with the operator's own uid, as docs/security.md says; under root they have
/// another.
pub const OPEN_UNDER_LANDLOCK: [&str; 2] =
    ["change the mode of an operator's file", "change the times of an operator's file"];

/// Whether this attack succeeds, by what confines the run and who started it.
pub fn expected(attack: &str, held: Held) -> bool {
    let root = rustix::process::geteuid().is_root();
    match held {
        Held::Bubblewrap | Held::Any => false,
        Held::Landlock => !root && OPEN_UNDER_LANDLOCK.contains(&attack),
        Held::Off => root || !OF_ROOT.contains(&attack),
    }
}

/// One row: what was seen, which matched the expectation.
pub fn seen(group: &str, attack: &str, held: Held, done: bool) {
    let Some(folder) = std::env::var_os(ROWS).map(PathBuf::from) else { return };
    let account = if rustix::process::geteuid().is_root() { "root" } else { "ordinary" };
    let said = if done { "done" } else { "refused" };
    let line = format!("{group}\t{attack}\t{}\t{account}\t{said}\n", held.word());
    let file = folder.join(format!("{account}.tsv"));
    // In a single write, since tests run in parallel.
    std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
}
