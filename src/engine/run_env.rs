//! What a run's processes get and carry: their variables, the mark by which they are found, and what is removed around
//! them.

use super::Ctx;
use super::area::Folders;
use super::operator::task_env;
use crate::adapters::environment::Policy;
use crate::adapters::executor::{ENVIRONMENT_PREFIX, PIPE};
use crate::config::SecretRef;
use crate::model::ids::RunId;
use crate::model::task::Task;
use std::ffi::OsString;

/// The variable that every process of a run carries.
pub const MARK: &str = "ORCH_RUN";

/// Learns every configured secret, including those that a command prints, so that it is removed from what the run's
/// children and services say (BND-4). One that can't be read now is unused, or another process has read it.
pub fn know_all(ctx: &Ctx) {
    for (at, from) in ctx.config.secrets() {
        if matches!(from, SecretRef::Command(_))
            && let Err(e) = from.resolve()
        {
            tracing::debug!("{at}: {e}");
        }
    }
}

/// Deletes the environment file that a step left if it was killed while it started this run as a service. It may
/// contain secrets, and the manager has already read it.
pub fn forget_environment(ctx: &Ctx, id: RunId) {
    forget_environment_in(&ctx.paths.run(id));
}

/// The same for one folder.
pub fn forget_environment_in(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if (name.to_string_lossy().starts_with(ENVIRONMENT_PREFIX) || name == PIPE)
            && let Err(e) = std::fs::remove_file(entry.path())
        {
            tracing::error!("{} may hold secrets and can't be removed: {e}", entry.path().display());
        }
    }
}

/// The variables for a check of a repository's base: those of a task's run, without the task (ORD-1).
pub fn base_env(repo: &str, revision: &str, folders: &Folders) -> Vec<(OsString, OsString)> {
    let mut env = plain_env(folders);
    for (name, value) in [("ORCH_TASK", ""), ("ORCH_STAGE", "base"), ("ORCH_REPO", repo), ("ORCH_REVISION", revision)] {
        env.push((name.into(), value.into()));
    }
    env
}

fn plain_env(folders: &Folders) -> Vec<(OsString, OsString)> {
    let mut env = Policy::Run.env();
    env.extend(folders.env());
    env
}

/// The variables every child gets (CFG-1), and nothing else.
pub fn child_env(task: &Task, stage: &str, revision: &str, folders: &Folders) -> Vec<(OsString, OsString)> {
    let mut env = plain_env(folders);
    env.extend(task_env(task, stage, revision).into_iter().map(|(name, value)| (name.into(), value.into())));
    env
}
