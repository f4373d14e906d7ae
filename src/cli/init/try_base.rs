//! `orch init --try` (ORD-2): runs the proposed setup and CI once on the remote's default branch, by the base job's own
//! code. What passed is written and kept as that commit's verdict; the rest is written as a comment with its error.

use super::find::{Ci, Found};
use super::propose::Root;
use crate::adapters::git::TreeEntry;
use crate::cli::exit::Failure;
use crate::cli::open;
use crate::cli::trial::{self, Trial};
use crate::config::{self, Project, process_env};
use crate::engine::{Ctx, projects};
use crate::model::stage::words;
use anyhow::{Context, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

words! {
    /// What became of a proposal.
    Came {
        Passed = "passed",
        Failed = "failed",
        Untried = "untried",
        /// Nothing was proposed.
        None = "none",
    }
}

/// Proposals that did not pass, each with its output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failed {
    pub setup: Option<(Vec<String>, String)>,
    pub ci: Option<(Vec<String>, String)>,
}

impl Failed {
    /// The configuration's line for `worktree`.
    pub fn setup_line(&self) -> String {
        let one = |(argv, why): &(Vec<String>, String)| {
            format!("    # worktree: {{setup: {{command: {}}}}}     # {}", words(argv), comment(why))
        };
        self.setup.as_ref().map(one).unwrap_or_default()
    }

    /// The configuration's line for `ci`.
    pub fn ci_line(&self) -> String {
        let one = |(argv, why): &(Vec<String>, String)| {
            format!("    # ci: {{command: {}}}     # {}", words(argv), comment(why))
        };
        self.ci.as_ref().map(one).unwrap_or_default()
    }
}

fn words(argv: &[String]) -> String {
    serde_json::to_string(argv).unwrap_or_default()
}

/// A text that stays on its comment's line.
fn comment(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    crate::model::text::clip(&plain, 200)
}

/// What a person can do about a host that the run's network refuses.
const NO_WAY_OUT: &str = "the run's network access was refused: list its hosts in confine.hosts with confine.network: hosts, or set confine.network: open (docs/security.md)";

/// How a try of the proposals ended.
#[derive(Debug)]
pub struct Tried {
    pub setup: Came,
    pub ci: Came,
    /// The first line of the error of what did not pass, or why nothing could be tried.
    pub line: Option<String>,
    green: Option<Trial>,
}

impl Tried {
    /// Nothing was tried.
    pub fn not(found: &Found) -> Self {
        let of = |there: bool| if there { Came::Untried } else { Came::None };
        Self { setup: of(found.setup.is_some()), ci: of(command(found).is_some()), line: None, green: None }
    }

    /// Whether there is anything to try.
    pub fn is_possible(&self) -> bool {
        self.setup != Came::None || self.ci != Came::None
    }

    /// Each of the two as a word.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({"setup": self.setup.as_str(), "ci": self.ci.as_str()})
    }

    /// Whether everything that was proposed passed.
    pub fn passed(&self) -> bool {
        [self.setup, self.ci].iter().all(|c| matches!(c, Came::Passed | Came::None))
    }
}

fn command(found: &Found) -> Option<&Vec<String>> {
    match &found.ci {
        Ci::Command(argv) => Some(argv),
        Ci::Contexts(_) | Ci::UnknownContexts | Ci::None => None,
    }
}

/// Tries what was found and removes from it what did not pass.
pub fn play(found: &mut Found) -> Tried {
    let mut tried = Tried::not(found);
    if !tried.is_possible() {
        return tried;
    }
    let trial = match on_the_base(found) {
        Ok(trial) => trial,
        Err(e) => {
            tried.line = Some(comment(&format!("not checked: {e:#}")));
            return tried;
        }
    };
    let came = |name: &str, before: Came| match trial.tried.steps.iter().find(|(step, _)| *step == name) {
        Some((_, true)) => Came::Passed,
        Some((_, false)) => Came::Failed,
        None => before,
    };
    (tried.setup, tried.ci) = (came("setup", tried.setup), came("ci", tried.ci));
    tried.line = trial.line();
    if tried.line.as_ref().is_some_and(|line| line.contains(trial::NO_WAY)) {
        found.notes.push(NO_WAY_OUT.to_owned());
    }
    let why = format!("failed on {}: {}", trial.commit.short(), tried.line.clone().unwrap_or_default());
    take_out(found, &tried, &why);
    if tried.passed() {
        tried.green = Some(trial);
    }
    tried
}

/// What did not pass becomes a comment, and so does CI that never ran because its setup failed.
fn take_out(found: &mut Found, tried: &Tried, why: &str) {
    if tried.setup == Came::Failed {
        found.failed.setup = found.setup.take().map(|argv| (argv, why.to_owned()));
    }
    let ci_why = match (tried.ci, tried.setup) {
        (Came::Failed, _) => why.to_owned(),
        (Came::Untried, Came::Failed) => "not run: its setup failed".to_owned(),
        (Came::Passed | Came::Untried | Came::None, _) => return,
    };
    if let Some(argv) = command(found).cloned() {
        found.failed.ci = Some((argv, ci_why));
        found.ci = Ci::None;
    }
}

fn on_the_base(found: &Found) -> Result<Trial> {
    in_scratch(found, &|ctx, project| {
        let (commit, tree) = trial::head(ctx, project)?;
        trial::run(ctx, project, &commit, &tree)
    })
}

/// The names and the few files at the root of the remote's default branch that show how a project is tested, where
/// there is no checkout of it (ORD-2). Fetches the branch.
pub fn root_of(found: &Found) -> Result<Root> {
    in_scratch(found, &|ctx, project| {
        let (commit, _) = trial::head(ctx, project)?;
        let mirror = projects::mirror(ctx, project)?;
        let files = mirror.list_files(&commit)?;
        let names = files.iter().filter(|f| f.is_file()).map(TreeEntry::text);
        let read = |name: &str| String::from_utf8(mirror.read_file(&commit, name).ok()??).ok();
        Ok(Root::of(names, read))
    })
}

/// Runs something with the configuration that was found, in folders that are deleted afterwards.
fn in_scratch<T>(found: &Found, todo: &dyn Fn(&mut Ctx, &Project) -> Result<T>) -> Result<T> {
    // Runs may have an account of their own, which has to reach the area.
    let open = std::fs::Permissions::from_mode(0o711);
    let scratch = tempfile::Builder::new().prefix("orch-init-").permissions(open).tempdir()?;
    let at = |name: &str| scratch.path().join(name).display().to_string();
    let area = serde_json::to_string(&at("area"))?;
    let text = format!("{}\narea_dir: {area}\n", super::config(found, &at("state")));
    let file = scratch.path().join("orch.yaml");
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    let failed = |e: Failure| anyhow::anyhow!(e.message);
    let config = config::load(Some(&file), None, &process_env(), scratch.path()).map_err(|e| failed(e.into()))?;
    let project = config.projects.first().cloned().context("the proposal names no project")?;
    let mut ctx = open::elsewhere(config, &scratch.path().join("state/orch.db")).map_err(failed)?;
    todo(&mut ctx, &project)
}

/// Stores what passed; returns a note where that fails, which only costs another try.
pub fn kept(tried: &Tried, file: &Path, key: &str) -> Option<String> {
    let e = keep(tried, file, key).err()?;
    Some(format!("the result can't be stored: {e:#}; the first task runs them again"))
}

/// Stores what passed as the verdict of its commit, under the configuration as written.
fn keep(tried: &Tried, file: &Path, key: &str) -> Result<()> {
    let Some(trial) = &tried.green else { return Ok(()) };
    let folder = file.parent().unwrap_or(Path::new("."));
    let config = config::load(Some(file), None, &process_env(), folder).map_err(|e| anyhow::anyhow!(e.message))?;
    let project = config.projects.iter().find(|p| p.key == key);
    trial::keep(&config, project.with_context(|| format!("{} has no project {key}", file.display()))?, trial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Forge;

    fn found() -> Found {
        Found {
            key: "SHOP".into(),
            repo: "shop".into(),
            paths: vec![],
            remote: "/srv/shop.git".into(),
            branch: None,
            forge: Forge::default(),
            setup: Some(vec!["npm".into(), "ci".into()]),
            ci: Ci::Command(vec!["npm".into(), "test".into()]),
            failed: Failed::default(),
            confine: "confine: {network: open}".into(),
            claude: None,
            notes: vec![],
        }
    }

    #[test]
    fn ord_2_what_did_not_pass_is_a_comment_with_its_error() {
        let came = |setup, ci| Tried { setup, ci, line: None, green: None };
        let mut one = found();
        take_out(&mut one, &came(Came::Passed, Came::Failed), "failed on abc: exit 1:\nerror: x");
        let text = super::super::config(&one, "/s");
        assert!(text.contains("\n    worktree: {setup: {command: [\"npm\",\"ci\"]}}"), "{text}");
        assert!(
            text.contains("\n    # ci: {command: [\"npm\",\"test\"]}     # failed on abc: exit 1: error: x\n"),
            "{text}"
        );
        let mut both = found();
        take_out(&mut both, &came(Came::Failed, Came::Untried), "failed");
        let text = super::super::config(&both, "/s");
        assert!(text.contains("\n    # worktree: {setup:") && text.contains("# not run: its setup failed\n"), "{text}");
        let mut none = found();
        take_out(&mut none, &came(Came::Untried, Came::Untried), "failed");
        assert_eq!(none.failed, Failed::default(), "what was not tried is proposed as it is");
        assert!(came(Came::Passed, Came::None).passed() && !came(Came::Passed, Came::Untried).passed());
    }
}
