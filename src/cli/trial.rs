//! Runs a project's setup and CI on the head of its remote's default branch, with the base job's own code (ORD-2):
//! shared by `init --try` and `doctor`.

use crate::adapters::store::{Mode, Store};
use crate::adapters::{modes, process, sentinel};
use crate::cli::clock;
use crate::config::{Config, Project};
use crate::engine::area::Folders;
use crate::engine::base_job::{self, Site, Tried};
use crate::engine::base_rows;
use crate::engine::default_branch;
use crate::engine::{Ctx, projects};
use crate::model::ids::{RunId, Sha};
use anyhow::{Context, Result};

/// Prefix of what a confined run's network prints about a host that it refuses.
pub const NO_WAY: &str = "orch: refused ";
/// A number apart from the accounts of runs and of base jobs.
const ACCOUNT: i64 = -10_000;

/// A finished trial.
#[derive(Debug)]
pub struct Trial {
    pub commit: Sha,
    pub tree: String,
    pub tried: Tried,
}

/// The head of the remote's default branch, fetched, with its tree.
pub fn head(ctx: &mut Ctx, project: &Project) -> Result<(Sha, String)> {
    let mirror = projects::mirror(ctx, project)?;
    let (_, commit) = default_branch::fetch_default(ctx, project, &mirror)?;
    let tree = mirror.tree_of(&commit)?.to_string();
    Ok((commit, tree))
}

/// Runs it in folders of its own below `area_dir`; logs go to the context's state directory. Blocks for as long as
/// `worktree.setup.timeout_s` and `ci.timeout_s` allow.
pub fn run(ctx: &mut Ctx, project: &Project, commit: &Sha, tree: &str) -> Result<Trial> {
    process::become_subreaper().context("becoming a subreaper")?;
    let area = ctx.config.area_dir.clone();
    sentinel::make_dirs(&area).context("creating the folder of runs")?;
    let work = tempfile::Builder::new().prefix(".base-").tempdir_in(&area);
    let work = work.with_context(|| format!("creating a folder in {}", area.display()))?;
    let folders = Folders::of_check(&area, work.path());
    let logs = base_job::dir(ctx, project.base_name());
    std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    let site = Site { folders: &folders, logs: &logs, account: RunId(ACCOUNT) };
    let tried = base_job::play(ctx, project, commit, &site)?;
    Ok(Trial { commit: commit.clone(), tree: tree.to_owned(), tried })
}

/// Stores a green trial as the verdict of its tree under this configuration's settings, so that no base job repeats it.
pub fn keep(config: &Config, project: &Project, trial: &Trial) -> Result<()> {
    modes::keep_private();
    sentinel::make_dirs(&config.state_dir)
        .with_context(|| format!("creating the state directory {}", config.state_dir.display()))?;
    let mut store = Store::open(&config.state_dir.join("orch.db"), Mode::Use)?;
    let digest = base_rows::digest(config, project);
    let at = clock::now().wall_ms;
    Ok(store.write(|tx| base_rows::passed(tx, project.base_name(), &trial.tree, &digest, at))?)
}

impl Trial {
    /// What a failed step says: the first line of its log that names an error, else the last line that says something;
    /// with how it ended. `None`: nothing failed.
    pub fn line(&self) -> Option<String> {
        if !self.tried.steps.iter().any(|(_, passed)| !passed) {
            return None;
        }
        Some(line(&self.tried.why, &self.tried.lines))
    }
}

fn line(why: &str, log: &[String]) -> String {
    let clean = |l: &String| l.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned();
    let said: Vec<String> = log.iter().map(clean).filter(|l| !l.is_empty()).collect();
    let names = |l: &&String| {
        let low = l.to_lowercase();
        ["error", "fatal", "not found", "cannot", "can't", "no such"].iter().any(|w| low.contains(w))
    };
    // A refusal by the run's network is the cause of whatever the program makes of it.
    let refused = |l: &&String| l.starts_with(NO_WAY);
    match said.iter().find(refused).or_else(|| said.iter().find(names)).or_else(|| said.last()) {
        Some(l) => crate::model::text::clip(&format!("{why}: {l}"), 200),
        None => why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ord_2_the_first_error_of_a_log_is_reported_with_how_it_ended() {
        let log = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        for (lines, want) in [
            ("   Compiling x\nerror: no field `y`\nerror: aborting", "ci.command: exit 1: error: no field `y`"),
            ("one\n\u{1b}[31mtwo\n\n", "ci.command: exit 1: [31mtwo"),
            (
                "npm error code E403\norch: refused CONNECT h:443: x",
                "ci.command: exit 1: orch: refused CONNECT h:443: x",
            ),
            ("", "ci.command: exit 1"),
        ] {
            assert_eq!(line("ci.command: exit 1", &log(lines)), want);
        }
    }
}
