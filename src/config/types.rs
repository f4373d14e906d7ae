//! The effective configuration: defaulted, merged (project over top, environment over both, self-hosting rules over
//! all) and checked. Fields have the names of the file's keys (CFG-1).

use super::parts::{ErrorKeys, RevisionKeys, seconds, within};
pub use super::project::{Author, Ci, Deploy, Git, Merge, Project, Worktree};
use super::secret::{EnvValue, SecretError, resolve_env};
pub use super::settings::{
    Agents, Audit, AutoLabel, BaseChecks, Confine, Dependencies, Effects, ExecutorLimits, Feeds, Frontmatter, Gates,
    Github, ImageFreshness, Limits, MergeLease, Notify, PageSite, Plane, PostDeploy, Prune, Reaper, Reconcile,
    Security, SerialGate, Slurm, Staging, Stop, Telegram, Tls, Tools, Top, Webhook,
};
pub use crate::model::outcome::RuntimeKind as RunnerKind;
use crate::model::probe::{CheckSpec, CommandSpec, ErrorSpec, HealthSpec, RevisionSpec};
use crate::model::reading::{self, schema_of};
use crate::model::stage::words;
pub use crate::model::staging::Allowance;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

words! {
    /// How a supervisor is started (RUN-4).
    #[derive(Default)]
    ExecutorKind { #[default] Auto = "auto", Systemd = "systemd", Detach = "detach", Slurm = "slurm" }
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
    #[derive(Default)]
    Reading {
        #[default]
        Counter = "counter",
        Window = "window",
    }
}
words! {
    /// Where `orch`'s own artefacts stay after done (RULE-1); `none`: the work item's documents don't land either (ORD-6).
    #[derive(Default)]
    ArtefactsAfterMerge {
        #[default]
        State = "state",
        Branch = "branch",
        None = "none",
    }
}
words! {
    /// The claude runtime's sandbox.
    #[derive(Default)]
    Sandbox {
        #[default]
        Auto = "auto",
        Required = "required",
        Off = "off",
    }
}

words! {
    /// Where a check that is a command runs with `executor: slurm`, if not as a job.
    CheckPlace { Host = "host" }
}

/// The configuration of `orch`: all settings that a step works with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The file that was read.
    #[serde(skip_deserializing)]
    #[schemars(skip)]
    pub file: PathBuf,
    /// Where database, mirrors, worktrees and sentinels are; default: `$XDG_STATE_HOME/orch`, `~/.local/state/orch`
    pub state_dir: PathBuf,
    /// Where the checkouts, homes and temporary folders of runs are; outside `state_dir`, which no run may read; default: `state_dir` with `-area` appended
    pub area_dir: PathBuf,
    /// How agents and the branch's code are confined; also in a project and in a runtime, which may only make it stricter
    pub confine: Confine,
    /// How supervisors are started
    pub executor: ExecutorKind,
    /// Limits of each job's unit (systemd executor only)
    pub executor_limits: ExecutorLimits,
    /// Where `executor: slurm` runs agents and the branch's code; also in a project, whose keys win
    pub slurm: Slurm,
    /// The programs used: names or paths
    pub tools: Tools,
    /// Whom to trust on the network
    pub tls: Tls,
    /// The repositories worked on; keys, repositories and remotes are all different
    pub projects: Vec<Project>,
    /// The card and the alerts; absent: the card is written to `cards/<KEY>.txt` in the state directory
    pub notify: Notify,
    /// How agents are run
    pub agents: Agents,
    /// The programs that play agents, by name; `claude` is always there
    pub runtimes: BTreeMap<String, Runtime>,
    /// Claims wait while the state directory's disk has less free space, in MiB
    #[serde(default = "free")]
    pub min_free_mb: u64,
    /// What may run at once and cost
    pub limits: Limits,
    /// Gates that stay undecided
    pub gates: Gates,
    /// Effects that are refused
    pub effects: Effects,
    /// What ended tasks left on this machine
    pub prune: Prune,
    /// The base before an agent starts
    pub base: BaseChecks,
    /// The static site
    pub page: PageSite,
    /// Stopping a task
    pub stop: Stop,
    /// The reaper, which settles jobs
    pub reaper: Reaper,
    /// The merge lease
    pub merge_lease: MergeLease,
    /// One task after the other
    pub serial_gate: SerialGate,
    /// Tasks that wait for others (blocked-by)
    pub dependencies: Dependencies,
    /// Labels that replace a person's answer
    pub auto_label: AutoLabel,
    /// The audit table
    pub audit: Audit,
    /// Every Plane board
    pub plane: Plane,
    /// Every GitHub board and forge
    pub github: Github,
    /// Reconciling with the boards
    pub reconcile: Reconcile,
    /// Front matter of artefacts
    pub frontmatter: Frontmatter,
    /// The security gate; also in a project, whose keys win
    pub security: Security,
    /// Staging checks; also in a project, whose keys win
    pub staging: Staging,
    /// The freshness sub-gate
    pub image_freshness: ImageFreshness,
    /// The watch after a deploy; also in a project, whose keys win
    pub post_deploy: PostDeploy,
    /// Unusual settings that are not errors; shown by `doctor` and `config check`.
    #[serde(skip)]
    pub warnings: Vec<String>,
    #[serde(skip)]
    pub(super) origin: super::show::Origin,
}

fn free() -> u64 {
    Top::default().min_free_mb
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

/// How to ask for a running revision: a command, or a URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, from = "RevisionKeys")]
pub enum Revision {
    Url { url: String, field: Option<String>, timeout_s: f64 },
    Command(CommandLine),
}

schema_of! { Revision = RevisionKeys, Errors = ErrorKeys, Runtime = super::runtimes::RuntimeKeys }

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "ErrorKeys")]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is probed
    #[serde(deserialize_with = "reading::http")]
    pub url: String,
    /// The status of a good answer; absent: any 2xx
    pub expect_status: Option<u16>,
    /// A text the body must hold; empty: none
    #[serde(default)]
    pub expect_body: String,
    /// Longest answer in milliseconds; 0: no limit
    #[serde(default)]
    pub max_latency_ms: u64,
    /// Longest wait in seconds
    #[serde(default = "within::<5>", deserialize_with = "seconds")]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "super::runtimes::RuntimeKeys")]
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
