//! Whether the proposals of `orch init` and `orch project add` are tried, and how that is shown (ORD-2).

use super::ask;
use super::find::{Ci, Found};
use super::try_base::{self, Came, Tried};
use crate::cli::exit::Exit;
use crate::cli::{Invocation, progress};
use serde_json::{Value, json};

/// Whether the proposals are tried (ORD-2).
#[derive(Debug, clap::Args)]
pub struct Trying {
    /// Run the proposed setup and CI on the remote's default branch; exit 1 if they fail
    #[arg(long = "try", conflicts_with = "no_try")]
    try_them: bool,
    /// Write the proposed setup and CI without running them
    #[arg(long)]
    no_try: bool,
}

impl Trying {
    /// Tries what was found, if there is anything to try, `may` says so, and it is wanted; removes from it what did not
    /// pass.
    pub fn play(&self, call: &Invocation, yes: bool, found: &mut Found, may: bool) -> Tried {
        let untried = Tried::not(found);
        if !(may && untried.is_possible() && self.wanted(call, yes, found)) {
            return untried;
        }
        const WHAT: &str = "trying the proposals in a clone of the default branch";
        call.out.under_way(WHAT);
        if call.out.is_watched() {
            progress::start(WHAT);
        }
        try_base::play(found)
    }

    /// The flags decide; without them, the person at the terminal.
    fn wanted(&self, call: &Invocation, yes: bool, found: &Found) -> bool {
        if self.try_them || self.no_try || !ask::is_person(call) {
            return self.try_them;
        }
        let proposed = proposed(found);
        for (name, key) in [("setup", "worktree.setup"), ("ci", "ci.command")] {
            let words: Vec<&str> = proposed[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if !words.is_empty() {
                call.out.line(format!("{key}: {}", words.join(" ")));
            }
        }
        ask::yes(call, yes, "run them now in a clone of the default branch?")
    }

    /// Whether to read the default branch of a repository without a checkout here, to propose how to test it (ORD-2).
    pub fn reads(&self, call: &Invocation, url: &str) -> bool {
        if self.try_them || self.no_try || !ask::is_person(call) {
            return self.try_them;
        }
        ask::yes(call, false, &format!("read the default branch of {url}, to propose setup and CI?"))
    }

    /// The exit code of `--try` says whether everything passed; the file is written in any case.
    pub fn exit(&self, tried: Option<&Tried>) -> Exit {
        if self.try_them && tried.is_some_and(|t| !t.passed()) { Exit::Negative } else { Exit::Done }
    }
}

/// The result of the proposals, for a person.
pub fn lines(tried: &Tried) -> Vec<String> {
    let one = |name: &str, came: Came| match came {
        Came::Passed => Some(format!("tried  {name} passed")),
        Came::Failed => Some(format!("tried  {name} failed; it is written as a comment")),
        Came::Untried | Came::None => None,
    };
    let line = tried.line.as_ref().map(|l| format!("       {l}"));
    [one("worktree.setup", tried.setup), one("ci.command", tried.ci), line].into_iter().flatten().collect()
}

/// What is proposed for setup and CI, as JSON.
pub fn proposed(found: &Found) -> Value {
    let ci = match &found.ci {
        Ci::Command(argv) => json!(argv),
        Ci::Contexts(_) | Ci::UnknownContexts | Ci::None => json!(null),
    };
    json!({"setup": found.setup, "ci": ci})
}
