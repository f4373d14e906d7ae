//! A project: its keys, what follows from several of them, and the self-hosting rules over everything.

use super::check;
use super::error::ConfigError;
use super::layers::Layers;
use super::parts::{Within, env, limit, maybe_argv};
use super::paths::under;
use super::secret::{EnvValue, SecretRef};
use super::types::{
    ArtefactsAfterMerge, CommandLine, Config, Confine, DegradedAction, PostDeploy, Security, Slurm, Staging,
};
use crate::model::ci::Accepted;
use crate::model::protected::BUILT_IN;
use crate::model::reading;
use crate::model::sides::{Board, Forge, Method, Update, Via};
use crate::model::stage::Stage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One repository with its board, forge and pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Prefix of work-item keys: a capital letter, then at most nine capitals or digits
    #[serde(deserialize_with = "prefix")]
    pub key: String,
    /// Name used in scopes, sentinels and logs; default: the key in lower case
    #[serde(default, deserialize_with = "repo")]
    pub repo: String,
    /// This repository is `orch`'s own production
    #[serde(default)]
    pub self_hosting: bool,
    /// Whether `.orch.yaml` on its default branch counts (worktree.setup, ci, staging.checks, staging.build, merge.update, merge.method, paths; keys of this file win)
    #[serde(default)]
    pub repository_config: bool,
    /// Why that file is invalid; nothing of the project starts.
    #[serde(skip)]
    pub fault: Option<String>,
    /// Globs: the part of the repository that is this project; agents write there and in the work item's folder, and commands run in the first one's folder; default: all of it
    #[serde(default)]
    pub paths: Vec<String>,
    /// Confinement of this project's runs; only stricter than the section at the top
    #[serde(default)]
    pub confine: Confine,
    /// Where `executor: slurm` runs what is this project's; all keys but `work_dir`
    #[serde(default)]
    pub slurm: Slurm,
    /// The stages worked; some may be left out (never development, deploy), none moved
    #[serde(default = "stages")]
    pub stages: Vec<Stage>,
    /// The repository
    pub git: Git,
    /// Where work items are; default: local
    #[serde(default)]
    pub board: Board,
    /// Where pull requests are; default: local
    #[serde(default)]
    pub forge: Forge,
    /// What a new worktree needs
    #[serde(default)]
    pub worktree: Worktree,
    /// Continuous integration
    #[serde(default)]
    pub ci: Ci,
    /// How a branch lands
    #[serde(default)]
    pub merge: Merge,
    /// The security gate; over the section at the top
    #[serde(default)]
    pub security: Security,
    /// Staging checks; over the section at the top
    #[serde(default)]
    pub staging: Staging,
    /// The deploy
    #[serde(default)]
    pub deploy: Deploy,
    /// The watch after a deploy; over the section at the top
    #[serde(default)]
    pub post_deploy: PostDeploy,
}

impl Project {
    /// What of a project guards, in addition to the sections that it shares with the top.
    pub(super) const GUARDS: [&'static str; 8] = [
        "self_hosting",
        "stages",
        "git.protected_paths",
        "board.deciders",
        "ci.",
        "merge.",
        "deploy.confirm",
        "deploy.build",
    ];
}

/// The stages of a project that names none: all that can be chosen.
fn stages() -> Vec<Stage> {
    Stage::ALL.iter().copied().filter(|stage| !stage.is_terminal() && *stage != Stage::Created).collect()
}

/// A project's key.
fn prefix<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let key = reading::text(from)?;
    match crate::model::ids::is_prefix(&key) {
        true => Ok(key),
        false => Err(serde::de::Error::custom(format!(
            "is {key:?}, expected a capital letter and at most nine more capitals or digits"
        ))),
    }
}

/// A repository's name, one safe path element; empty: after the key.
fn repo<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = reading::maybe_text(from)?.unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() > 64 || !name.chars().all(fits) || name.starts_with(['.', '-']) || name.ends_with(".git") {
        return Err(serde::de::Error::custom(format!(
            "is {name:?}, expected at most 64 letters, digits, -, _ or . (not .git at the end)"
        )));
    }
    Ok(name)
}

/// The repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// URL or path; never with a credential in it
    #[serde(deserialize_with = "super::git::remote")]
    pub remote: String,
    /// The branch that everything lands on; default: the remote's HEAD
    #[serde(default, deserialize_with = "super::git::branch")]
    pub default_branch: Option<String>,
    /// Beginning of branch names
    #[serde(default = "super::git::feature", deserialize_with = "super::git::branch_prefix")]
    pub branch_prefix: String,
    /// Who commits
    #[serde(default, deserialize_with = "super::git::author")]
    pub author: Author,
    /// The password for the remote, a reference; given to git through a credential helper
    pub credential: Option<SecretRef>,
    /// Globs no agent may change, in addition to the built-in list (docs/security.md) and the scripts that configured commands name (RULE-23); one that begins with `!` takes its matches out
    #[serde(default)]
    pub protected_paths: Vec<String>,
}

/// Who commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Author {
    /// Name in commits
    pub name: String,
    /// Address in commits
    pub email: String,
}

impl Default for Author {
    fn default() -> Self {
        Self { name: "orch".into(), email: "orch@localhost".into() }
    }
}

/// What a new worktree needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Worktree {
    /// Run once in a new worktree, by the supervisor
    #[serde(deserialize_with = "Within::<600>::some")]
    #[schemars(with = "Option<Within<600>>")]
    pub setup: Option<CommandLine>,
    /// Files of the operator's machine to copy into it, under the same name
    #[serde(deserialize_with = "super::git::files")]
    pub copy: Vec<PathBuf>,
    /// History that a new worktree has its own copy of, in MiB; above that it reads the default branch's from a store that no run can write (BND-3), 0: always
    pub copy_max_mb: u64,
}

impl Default for Worktree {
    fn default() -> Self {
        Self { setup: None, copy: Vec::new(), copy_max_mb: 512 }
    }
}

/// Continuous integration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ci {
    /// Whether a green CI is required
    pub required: bool,
    /// Local forge: the command; absent: CI is not applicable
    #[serde(deserialize_with = "maybe_argv")]
    #[schemars(schema_with = "super::parts::argv_schema")]
    pub command: Option<Vec<String>>,
    /// Its time limit in seconds
    #[serde(deserialize_with = "limit")]
    pub timeout_s: u64,
    /// Its own environment
    #[serde(deserialize_with = "env")]
    pub env: BTreeMap<String, EnvValue>,
    /// Remote forge: the status names required
    pub contexts: Vec<String>,
    /// Remote forge: which of `neutral` and `skipped` pass, too
    pub accept: Vec<Accepted>,
}

impl Default for Ci {
    fn default() -> Self {
        let (env, contexts, accept) = Default::default();
        Self { required: true, command: None, timeout_s: 3600, env, contexts, accept }
    }
}

/// How a branch lands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Merge {
    /// How it catches up with a default branch that moved
    pub update: Update,
    /// How the pull request is merged
    pub method: Method,
    /// `forge`, or `push`: a fast-forward push of the tested commit
    pub via: Via,
    /// A branch that landed is deleted on the remote once its task is done, unless somebody moved it (ORD-6)
    pub delete_branch: bool,
}

impl Default for Merge {
    fn default() -> Self {
        Self { update: Update::default(), method: Method::default(), via: Via::default(), delete_branch: true }
    }
}

/// The deploy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// A person confirms each deploy; always true for a self-hosting project
    pub confirm: bool,
    /// Absent: the merge is the deploy
    #[serde(deserialize_with = "maybe_argv")]
    #[schemars(schema_with = "super::parts::argv_schema")]
    pub command: Option<Vec<String>>,
    /// Its time limit in seconds
    #[serde(deserialize_with = "limit")]
    pub timeout_s: u64,
    /// Its own environment: literals or references
    #[serde(deserialize_with = "env")]
    pub env: BTreeMap<String, EnvValue>,
    /// Builds, confined and before anything lands, what `command` deploys (BND-3); absent: `command` gets a checkout and runs the landed code with this account's rights
    #[serde(deserialize_with = "Within::<900>::some")]
    #[schemars(with = "Option<Within<900>>")]
    pub build: Option<CommandLine>,
    /// Where 14 to 17 stay after done: `state` or `branch`; `none`: nothing of the work item's folder lands
    pub artefacts_after_merge: ArtefactsAfterMerge,
}

impl Default for Deploy {
    fn default() -> Self {
        let (command, env, build, artefacts_after_merge) = Default::default();
        Self { confirm: true, command, timeout_s: 1800, env, build, artefacts_after_merge }
    }
}

/// Completes and checks the `n`th project; records what the self-hosting rules changed.
pub(super) fn settle(
    project: &mut Project,
    n: usize,
    state_dir: &Path,
    layers: &mut Layers,
) -> Result<(), ConfigError> {
    let at = format!("projects.{}", project.key);
    if project.repo.is_empty() {
        project.repo = project.key.to_ascii_lowercase();
    }
    project.board.settle(|dir| under(state_dir, dir));
    if project.self_hosting {
        if !project.deploy.confirm {
            project.deploy.confirm = true;
            layers.force(&format!("projects.{n}.deploy.confirm"), true.into());
        }
        if project.post_deploy.action != DegradedAction::AlertOnly {
            project.post_deploy.action = DegradedAction::AlertOnly;
            layers.force(&format!("projects.{n}.post_deploy.action"), DegradedAction::AlertOnly.as_str().into());
        }
    }
    protect(project);
    check::project(project, &at)
}

/// Puts the built-in list before the protected paths, and after them the scripts that configured commands name (RULE-23)
/// and, for `orch`'s own repository, the prompts.
fn protect(project: &mut Project) {
    let mut more: Vec<String> = project.scripts().iter().map(|path| globset::escape(path)).collect();
    if project.self_hosting {
        more.push("agents/**".to_owned());
    }
    let own = std::mem::take(&mut project.git.protected_paths);
    project.git.protected_paths = BUILT_IN.iter().map(|path| (*path).to_owned()).chain(own).collect();
    for path in more {
        if !project.git.protected_paths.contains(&path) {
            project.git.protected_paths.push(path);
        }
    }
}

impl Config {
    /// Completes and checks all projects, one by one and together.
    pub(super) fn settle_projects(&mut self, layers: &mut Layers) -> Result<(), ConfigError> {
        for (n, project) in self.projects.iter_mut().enumerate() {
            settle(project, n, &self.state_dir, layers)?;
        }
        check::one_name_each(&mut self.projects);
        check::together(&self.projects)
    }
}
