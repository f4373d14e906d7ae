//! The effective configuration: defaulted, merged (project over top, environment over both, self-hosting rules over
//! all) and checked. Fields have the names of the file's keys (CFG-1).

pub use super::notify::{Notify, Telegram, Webhook};
use super::secret::{EnvValue, SecretError, SecretRef, resolve_env};
pub use super::settings::{
    Audit, AutoLabel, BaseChecks, Confine, Dependencies, Effects, ExecutorLimits, Feeds, Frontmatter, Gates, Github,
    ImageFreshness, Limits, MergeLease, PageSite, Plane, PostDeploy, Prune, Reaper, Reconcile, Security, SerialGate,
    Slurm, Staging, Stop, Tls, Tools,
};
use crate::model::ci::Accepted;
pub use crate::model::outcome::RuntimeKind as RunnerKind;
use crate::model::probe::{CheckSpec, CommandSpec, ErrorSpec, HealthSpec, RevisionSpec};
use crate::model::sides::{Board, Forge, Method, Update, Via};
use crate::model::stage::{Agent, Stage, words};
pub use crate::model::staging::Allowance;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

words! {
    /// How a supervisor is started (RUN-4).
    ExecutorKind { Auto = "auto", Systemd = "systemd", Detach = "detach", Slurm = "slurm" }
}
words! {
    /// The live card (`notify.telegram.mode`).
    TrackerMode { Bump = "bump", Edit = "edit" }
}
words! {
    /// What DEGRADED does in addition to its alert.
    DegradedAction { AlertOnly = "alert_only", Rollback = "rollback" }
}
words! {
    /// What the queries of an error source give: counters that only grow, or what happened in a window of their own.
    Reading { Counter = "counter", Window = "window" }
}
words! {
    /// Where `orch`'s own artefacts stay after done (RULE-1); `none`: the work item's documents don't land either (ORD-6).
    ArtefactsAfterMerge { State = "state", Branch = "branch", None = "none" }
}
words! {
    /// The claude runtime's sandbox.
    Sandbox { Auto = "auto", Required = "required", Off = "off" }
}

words! {
    /// The kind of a staging check.
    CheckWord { Http = "http", Command = "command", Tcp = "tcp", Sql = "sql" }
}

words! {
    /// Where a check that is a command runs with `executor: slurm`, if not as a job.
    CheckPlace { Host = "host" }
}

/// All settings that a step works with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The file that was read.
    pub file: PathBuf,
    pub state_dir: PathBuf,
    /// The area of runs (BND-3); neither inside `state_dir` nor around it.
    pub area_dir: PathBuf,
    /// The top-level section; [`Config::confinement`] says what confines a run.
    pub confine: Confine,
    pub executor: ExecutorKind,
    pub executor_limits: ExecutorLimits,
    /// The section at the top; for a project use `project.slurm`.
    pub slurm: Slurm,
    pub tools: Tools,
    pub tls: Tls,
    /// In the order of the file; keys, repositories and remotes are all different.
    pub projects: Vec<Project>,
    pub notify: Notify,
    pub agents: Agents,
    /// Always contains `claude`.
    pub runtimes: BTreeMap<String, Runtime>,
    pub min_free_mb: u64,
    pub limits: Limits,
    pub gates: Gates,
    pub effects: Effects,
    pub prune: Prune,
    pub base: BaseChecks,
    /// `dir` is absolute, or empty.
    pub page: PageSite,
    pub stop: Stop,
    pub reaper: Reaper,
    pub merge_lease: MergeLease,
    pub serial_gate: SerialGate,
    pub dependencies: Dependencies,
    pub auto_label: AutoLabel,
    pub audit: Audit,
    pub plane: Plane,
    pub github: Github,
    pub reconcile: Reconcile,
    pub frontmatter: Frontmatter,
    /// The top section; for a project use `project.security`.
    pub security: Security,
    /// The top section; for a project use `project.staging`.
    pub staging: Staging,
    pub image_freshness: ImageFreshness,
    /// The top section; for a project use `project.post_deploy`.
    pub post_deploy: PostDeploy,
    /// Unusual settings that are not errors; shown by `doctor` and `config check`.
    #[serde(skip)]
    pub warnings: Vec<String>,
    #[serde(skip)]
    pub(super) origin: super::show::Origin,
}

/// One repository with its board, forge and pipeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Project {
    /// Prefix of work-item keys.
    pub key: String,
    /// Name used in scopes, sentinels and logs; one safe path element.
    pub repo: String,
    pub self_hosting: bool,
    /// Whether `.orch.yaml` of its default branch counts.
    pub repository_config: bool,
    /// Why that file is invalid; nothing of the project starts.
    #[serde(skip)]
    pub fault: Option<String>,
    /// Globs; empty: the whole repository (ORD-3).
    pub paths: Vec<String>,
    /// At least as strict as the section at the top.
    pub confine: Confine,
    /// Where `executor: slurm` runs its agents and its branch's code.
    pub slurm: Slurm,
    /// The stages in use, in the table's order; always includes `development` and `deploy`.
    pub stages: Vec<Stage>,
    pub git: Git,
    pub board: Board,
    pub forge: Forge,
    pub worktree: Worktree,
    pub ci: Ci,
    pub merge: Merge,
    pub security: Security,
    pub staging: Staging,
    pub deploy: Deploy,
    /// `action` of a self-hosting project is always `alert_only`.
    pub post_deploy: PostDeploy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Git {
    /// URL or absolute path, without a credential.
    pub remote: String,
    /// `None`: the remote's HEAD.
    pub default_branch: Option<String>,
    pub branch_prefix: String,
    pub author: Author,
    pub credential: Option<SecretRef>,
    /// Globs, including the scripts that commands name (RULE-23).
    pub protected_paths: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    pub name: String,
    pub email: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Worktree {
    /// Run once in a new worktree.
    pub setup: Option<CommandLine>,
    /// Files of the operator's machine, copied into a new worktree under the same name; absolute.
    pub copy: Vec<PathBuf>,
    /// A larger history is not copied into each worktree but read from a store (BND-3); in MiB.
    pub copy_max_mb: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ci {
    /// On a remote forge: wait for statuses. Without `command` on the local forge, CI is not applicable.
    pub required: bool,
    /// Local forge.
    pub command: Option<Vec<String>>,
    pub timeout_s: u64,
    pub env: BTreeMap<String, EnvValue>,
    /// Remote forge: the names of the statuses that must be green.
    pub contexts: Vec<String>,
    /// Check results that pass in addition to success.
    pub accept: Vec<Accepted>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Merge {
    pub update: Update,
    pub method: Method,
    pub via: Via,
    /// Whether a branch is deleted on the remote once it has landed and its task is done (ORD-6).
    pub delete_branch: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deploy {
    /// Always true for a self-hosting project.
    pub confirm: bool,
    /// `None`: the merge is the deploy.
    pub command: Option<Vec<String>>,
    pub timeout_s: u64,
    pub env: BTreeMap<String, EnvValue>,
    /// Builds, confined and before anything lands, what `command` deploys (BND-3); `None`: it gets a checkout of the
    /// landed code.
    pub build: Option<CommandLine>,
    pub artefacts_after_merge: ArtefactsAfterMerge,
    /// Whether each deploy is reported to the forge as a deployment (GH-1).
    pub report: bool,
    /// The environment that is reported; never empty.
    pub environment: String,
}

/// A configured command: argv, time limit, own environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandLine {
    pub command: Vec<String>,
    /// More than 0.
    pub timeout_s: f64,
    pub env: BTreeMap<String, EnvValue>,
}

impl CommandLine {
    /// The command with its environment resolved now; it runs in the checkout for which it is started.
    pub fn spec(&self) -> Result<CommandSpec, SecretError> {
        Ok(CommandSpec { argv: self.command.clone(), cwd: None, here: true, env: exposed(&self.env)? })
    }

    /// Its time limit in milliseconds.
    pub fn timeout_ms(&self) -> u64 {
        (self.timeout_s * 1000.0).ceil() as u64
    }
}

/// Names and values.
type Pairs = Vec<(String, String)>;

/// An environment resolved now.
pub fn exposed(env: &BTreeMap<String, EnvValue>) -> Result<Pairs, SecretError> {
    Ok(resolve_env(env)?.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect())
}

/// A declared staging check; the environment of a command check is resolved by [`Check::spec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// With an empty environment.
    pub(super) spec: CheckSpec,
    pub(super) env: BTreeMap<String, EnvValue>,
}

impl Check {
    pub fn id(&self) -> &str {
        &self.spec.id
    }

    /// Whether it starts a program.
    pub fn is_command(&self) -> bool {
        matches!(self.spec.kind, crate::model::probe::CheckKind::Command(_))
    }

    /// The form for the probe adapter. Fails if a reference of its environment can't be read.
    pub fn spec(&self) -> Result<CheckSpec, SecretError> {
        use crate::model::probe::CheckKind;
        let mut spec = self.spec.clone();
        match &mut spec.kind {
            CheckKind::Command(command) => command.env = exposed(&self.env)?,
            CheckKind::Http { .. } | CheckKind::Tcp { .. } | CheckKind::Sql { .. } => {}
        }
        Ok(spec)
    }
}

/// How to ask for a running revision.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Revision {
    Url { url: String, field: Option<String>, timeout_s: f64 },
    Command(CommandLine),
}

impl Revision {
    /// The form for the probe adapter.
    pub fn spec(&self) -> Result<RevisionSpec, SecretError> {
        Ok(match self {
            Self::Url { url, field, timeout_s } => RevisionSpec::Url {
                url: url.clone(),
                field: field.clone(),
                timeout_ms: (timeout_s * 1000.0).ceil() as u64,
            },
            Self::Command(c) => RevisionSpec::Command { command: c.spec()?, timeout_ms: c.timeout_ms() },
        })
    }
}

/// Where the watch's 5xx share comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Errors {
    /// The answers of the health URLs themselves.
    #[default]
    Own,
    Command(CommandLine),
    Prometheus {
        url: String,
        requests: String,
        errors_5xx: String,
        reading: Reading,
        timeout_s: f64,
    },
}

impl Errors {
    /// The form for the probe adapter.
    pub fn spec(&self) -> Result<ErrorSpec, SecretError> {
        Ok(match self {
            Self::Own => ErrorSpec::Own,
            Self::Command(c) => ErrorSpec::Command { command: c.spec()?, timeout_ms: c.timeout_ms() },
            Self::Prometheus { url, requests, errors_5xx, reading, timeout_s } => ErrorSpec::Prometheus {
                url: url.clone(),
                requests: requests.clone(),
                errors_5xx: errors_5xx.clone(),
                window: *reading == Reading::Window,
                timeout_ms: (timeout_s * 1000.0).ceil() as u64,
            },
        })
    }
}

/// One health URL of the watch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    pub url: String,
    /// `None`: any 2xx.
    pub expect_status: Option<u16>,
    pub expect_body: String,
    /// 0: no limit.
    pub max_latency_ms: u64,
    pub timeout_s: f64,
}

impl Health {
    /// The form for the probe adapter.
    pub fn spec(&self) -> HealthSpec {
        HealthSpec {
            url: self.url.clone(),
            expect_status: self.expect_status,
            expect_body: self.expect_body.clone(),
            max_latency_ms: self.max_latency_ms,
            timeout_ms: (self.timeout_s * 1000.0).ceil() as u64,
        }
    }
}

/// The `agents` section; [`Config::agent`] gives the settings of one agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agents {
    /// Folder with the six files, absolute; a file may be missing.
    pub prompts: PathBuf,
    pub runtime: String,
    pub model: String,
    pub effort: String,
    pub fallback_model: String,
    pub timeout_s: u64,
    pub stall_s: u64,
    pub stop_grace_s: u64,
    pub linger_s: u64,
    pub run_retries: u32,
    pub retry_backoff_s: u64,
    pub max_diff_lines: u64,
    pub max_cost_usd: f64,
    pub overrides: BTreeMap<Agent, AgentOverride>,
}

/// What one agent has otherwise than the rest; the environment's per-agent variables are in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentOverride {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_backoff_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_diff_lines: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_usd: Option<f64>,
}

/// One agent's settings with its overrides resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentSettings {
    /// A name under `runtimes`; it exists.
    pub runtime: String,
    /// RUN-6: the agent's own, then the default, without empty ones. The runtime checks their format.
    pub models: Vec<String>,
    /// Empty: not passed on.
    pub effort: String,
    /// As for `models`.
    pub fallback_models: Vec<String>,
    pub timeout_s: u64,
    /// 0: no limit.
    pub stall_s: u64,
    pub stop_grace_s: u64,
    /// Time after the runtime has reported success.
    pub linger_s: u64,
    pub run_retries: u32,
    pub retry_backoff_s: u64,
    /// 0: no limit.
    pub max_diff_lines: u64,
    /// 0: no limit.
    pub max_cost_usd: f64,
}

/// The program that runs an agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Runtime {
    #[serde(flatten)]
    pub kind: RuntimeKind,
    pub env: BTreeMap<String, EnvValue>,
    /// Its own, at least as strict as the top-level section; `None`: that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confine: Option<Confine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RuntimeKind {
    Claude {
        program: String,
        permission_mode: String,
        allowed_tools: Vec<String>,
        sandbox: Sandbox,
        extra_args: Vec<String>,
    },
    /// A path as the first word, such as `./agent.sh`, is absolute here (relative to the configuration file's folder).
    Command { command: Vec<String> },
    /// A further agent CLI over the same seam (RUN-5).
    #[serde(untagged)]
    Tool(CliTool),
}

impl RuntimeKind {
    pub fn kind(&self) -> RunnerKind {
        match self {
            Self::Claude { .. } => RunnerKind::Claude,
            Self::Command { .. } => RunnerKind::Command,
            Self::Tool(tool) => tool.kind,
        }
    }

    /// What it is started with as configured, and the key below `runtimes.NAME` that says so.
    pub fn argv(&self) -> (&'static str, &[String]) {
        match self {
            Self::Claude { program, .. } => ("program", std::slice::from_ref(program)),
            Self::Command { command } => ("command", command),
            Self::Tool(tool) => ("program", std::slice::from_ref(&tool.program)),
        }
    }

    /// Whether it must have the sandbox that it brings.
    pub fn requires_its_sandbox(&self) -> bool {
        match self {
            Self::Claude { sandbox, .. } => *sandbox == Sandbox::Required,
            Self::Command { .. } | Self::Tool(_) => false,
        }
    }
}

/// An agent CLI without settings of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CliTool {
    pub kind: RunnerKind,
    pub program: String,
    pub extra_args: Vec<String>,
}

/// Which repositories a switch applies to. A local test, done before anything else (CFG-2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// Empty: the self-hosting ones only.
    #[default]
    SelfHosting,
    /// `*`.
    All,
    Repos(Vec<String>),
}

impl Scope {
    /// From names; blank ones are dropped, and `*` anywhere means all.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<String> =
            names.into_iter().map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect();
        if names.iter().any(|n| n == "*") {
            Self::All
        } else if names.is_empty() {
            Self::SelfHosting
        } else {
            Self::Repos(names)
        }
    }

    /// Whether the project is in it, by its repo or key.
    pub fn covers(&self, project: &Project) -> bool {
        match self {
            Self::SelfHosting => project.self_hosting,
            Self::All => true,
            Self::Repos(names) => names.iter().any(|n| *n == project.repo || *n == project.key),
        }
    }
}

impl Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.id())
    }
}
