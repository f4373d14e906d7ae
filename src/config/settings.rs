//! The sections of plain settings. One line gives a setting's name in the code, key, type, default, variable and meaning,
//! and whether it guards (RULE-39). The type, how the file and the environment are read, `docs/configuration.md`, the
//! JSON Schema and `orch.env.example` all come from it (CFG-2).

use super::confine::{List, NetworkWord, hosts, paths, uid_base};
use super::notify::{deciders, topic};
use super::parts::{
    AllowanceKeys, CheckKeys, SandboxKeys, UrlKeys, Within, allowances, amount, argv, checks, control, sandbox,
    severity,
};
use super::scalar::{KofM, Scalar, Text};
use super::slurm::{SlurmJob, SlurmKind};
use super::types::{
    AgentOverride, Allowance, Check, CommandLine, DegradedAction, Errors, ExecutorKind, Health, Revision, Scope,
    TrackerMode,
};
use crate::model::act::AuditAnchor;
use crate::model::card::Locale;
use crate::model::confine::{Choice, Mode};
use crate::model::reading::{http, loose, loose_schema, maybe_path, path, positive, program};
use crate::model::scan::{Severity, Waiver};
use crate::model::secret::SecretRef;
use crate::model::stage::Agent;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One setting with a variable.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Dotted path of the key in the file.
    pub path: String,
    pub variable: String,
    /// As it would be written in the variable; empty: none.
    pub default: String,
    pub meaning: &'static str,
    /// The accepted values.
    pub expected: String,
    /// Reads the variable's text; `None`: not as one of the document.
    pub(super) read: Option<fn(&str) -> Option<Value>>,
    /// The section that must be there for it to mean anything.
    pub(super) optional: Option<&'static str>,
}

/// `reaper.dead_ticks` → `ORCH_REAPER_DEAD_TICKS`, unless the table gives another name.
fn variable(path: &str, named: &str) -> String {
    if named.is_empty() { format!("ORCH_{}", path.to_ascii_uppercase().replace('.', "_")) } else { named.to_owned() }
}

/// The variable of a setting that has none.
const NONE: &str = "-";

/// A setting with its default.
fn setting<T: Scalar + Serialize>(path: &str, named: &str, default: &T, meaning: &'static str) -> Setting {
    Setting {
        variable: variable(path, named),
        path: path.to_owned(),
        default: default.show(),
        meaning,
        expected: T::expected(),
        read: Some(|text| serde_json::to_value(T::parse(text)?).ok()),
        optional: None,
    }
}

/// All sections, in the order of the page.
macro_rules! sections {
    ($($name:ident),* $(,)?) => {
        /// Every setting that has a variable, in the order of the sections.
        pub fn settings() -> Vec<Setting> {
            let mut all = places();
            $(all.extend($name::settings());)*
            all.extend(of_agents());
            all
        }

        /// What guards (RULE-39): keys, and with a dot at the end whole sections.
        pub(super) fn guards() -> impl Iterator<Item = &'static str> {
            let sections: &[&[&str]] = &[$($name::GUARDS),*, &super::types::Project::GUARDS];
            sections.to_vec().into_iter().flatten().copied()
        }
    };
}
sections! {
    Top, ExecutorLimits, Slurm, Confine, Tools, Tls, Limits, Gates, Effects, BaseChecks, PageSite, Prune, Stop, Reaper,
    MergeLease, SerialGate, Dependencies, AutoLabel, Audit, Plane, Github, Reconcile, Frontmatter, Security, Feeds,
    Staging, ImageFreshness, PostDeploy, Agents, Notify, Telegram, Webhook,
}

/// The two folders; what they are relative to depends on where they are named.
fn places() -> Vec<Setting> {
    let place = |path: &str, default: &str, meaning, expected: &str| Setting {
        path: path.to_owned(),
        variable: variable(path, ""),
        default: default.to_owned(),
        meaning,
        expected: expected.to_owned(),
        read: None,
        optional: None,
    };
    vec![
        place(
            "state_dir",
            "$XDG_STATE_HOME/orch, else ~/.local/state/orch",
            "where database, mirrors, worktrees and sentinels are",
            "a path",
        ),
        place(
            "area_dir",
            "<state_dir>-area",
            "where checkouts, homes and temporary folders of runs are",
            "a path outside state_dir",
        ),
    ]
}

/// Two settings of each agent.
fn of_agents() -> Vec<Setting> {
    let of = |agent: &Agent| {
        [("model", "the model of this agent"), ("effort", "the effort of this agent")].map(|(what, meaning)| {
            let path = format!("agents.overrides.{agent}.{what}");
            setting(&path, &agent_variable(*agent, what), &String::new(), meaning)
        })
    };
    Agent::ALL.iter().flat_map(of).collect()
}

/// `ORCH_AGENT_MODEL_DEVELOPER`.
fn agent_variable(agent: Agent, what: &str) -> String {
    format!("ORCH_AGENT_{}_{}", what.to_ascii_uppercase(), agent.as_str().to_ascii_uppercase())
}

/// A section of settings. `name: type = default, "variable or empty", "meaning"`; after `further`, keys without a
/// variable: `name: type, "meaning"`. `@guard` before a name: the setting guards (before the section: each of them).
/// `@optional`: without the section in the file, its variables mean nothing.
macro_rules! section {
    (
        $(#[$doc:meta])* $(@$flag:ident)* $name:ident, $at:literal {
            $($(#[$attr:meta])* $(@$guard:ident)? $field:ident $key:literal: $ty:ty = $default:expr, $var:literal, $meaning:literal;)*
        } further {
            $($(#[$more_attr:meta])* $(@$more_guard:ident)? $more:ident: $more_ty:ty, $more_meaning:literal;)*
        } then {
            $($(#[$last_attr:meta])* $(@$last_guard:ident)? $last:ident $last_key:literal: $last_ty:ty = $last_default:expr, $last_var:literal, $last_meaning:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(#[doc = $meaning] #[serde(rename = $key)] $(#[$attr])* pub $field: $ty,)*
            $(#[doc = $more_meaning] $(#[$more_attr])* pub $more: $more_ty,)*
            $(#[doc = $last_meaning] #[serde(rename = $last_key)] $(#[$last_attr])* pub $last: $last_ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* $($more: Default::default(),)* $($last: $last_default,)* }
            }
        }

        impl $name {
            /// What of the section guards.
            const GUARDS: &[&str] = &[
                $(section!(@$flag $at),)*
                $($(section!(@$guard concat!($at, $key)),)?)*
                $($(section!(@$more_guard concat!($at, stringify!($more))),)?)*
                $($(section!(@$last_guard concat!($at, $last_key)),)?)*
            ];

            /// The section's settings that have a variable.
            fn settings() -> Vec<Setting> {
                let optional = [$(stringify!($flag)),*].contains(&"optional").then(|| $at.trim_end_matches('.'));
                let all: Vec<Setting> = vec![
                    $(setting::<$ty>(concat!($at, $key), $var, &$default, $meaning),)*
                    $(setting::<$last_ty>(concat!($at, $last_key), $last_var, &$last_default, $last_meaning),)*
                ];
                let named = all.into_iter().filter(|setting| setting.variable != NONE);
                named.map(|setting| Setting { optional, ..setting }).collect()
            }
        }
    };
    (@guard $path:expr) => { $path };
    // No path begins so.
    (@optional $path:expr) => { "-" };
    ($(#[$doc:meta])* $(@$flag:ident)* $name:ident, $at:literal { $($body:tt)* } further { $($more:tt)* }) => {
        section! { $(#[$doc])* $(@$flag)* $name, $at { $($body)* } further { $($more)* } then { } }
    };
    ($(#[$doc:meta])* $(@$flag:ident)* $name:ident, $at:literal { $($body:tt)* }) => {
        section! { $(#[$doc])* $(@$flag)* $name, $at { $($body)* } further { } then { } }
    };
}

section! {
    /// Top-level settings of the file.
    Top, "" {
        executor "executor": ExecutorKind = ExecutorKind::Auto, "", "how supervisors are started: auto (systemd where a manager answers, else detach), systemd or detach; slurm: as auto, and agents and the branch's code run as Slurm jobs";
        @guard min_free_mb "min_free_mb": u64 = 512, "", "claims wait while the state directory's disk has less free space, in MiB";
    }
}

section! {
    /// Limits of each job's unit (systemd executor only).
    ExecutorLimits, "executor_limits." {
        memory_max "memory_max": Text = Text::default(), "", "memory, as MemoryMax= takes it (4G); empty: no limit";
        cpu_quota "cpu_quota": Text = Text::default(), "", "CPU, as CPUQuota= takes it (200%); empty: no limit";
        tasks_max "tasks_max": u32 = 0, "", "processes and threads; 0: no limit";
    }
}

section! {
    /// Where `executor: slurm` runs agents and the branch's code (docs/scale.md).
    Slurm, "slurm." {
        work_dir "work_dir": String = "/shared/orch".into(), "", "a folder that this machine and every node see under the same path; takes the place of area_dir";
        partition "partition": String = String::new(), "", "the partition; empty: Slurm's default";
        account "account": String = String::new(), "", "the account that is charged; empty: the user's default";
        qos "qos": String = String::new(), "", "the quality of service; empty: the default";
        cpus "cpus": u32 = 2, "", "processors of one job";
        memory "memory": Text = Text("4G".into()), "", "memory of one job, as srun takes it";
        time "time": Text = Text("02:30:00".into()), "", "time limit of one job, as srun takes it: a backstop behind every timeout of orch";
        gres "gres": String = String::new(), "", "generic resources, as srun takes them (gpu:1); empty: none";
        constraint "constraint": String = String::new(), "", "features that the node must have; empty: any node";
        extra "extra": List = List::default(), "", "further options of srun, one a word";
        settle_s "settle_s": u64 = 30, "", "seconds between the two empty answers that show that a job is gone, and how long a node's files may take to be seen here";
        silence_s "silence_s": u64 = 120, "", "seconds after which a job that hears nothing from its supervisor ends its run";
    } further {
        per_kind: BTreeMap<SlurmKind, SlurmJob>, "other values for one kind of job: agent, ci, staging, build or base";
    }
}

section! {
    /// How agents and the branch's code are confined.
    @guard Confine, "confine." {
        mode "mode": Mode = Mode::Required, "", "required (without an engine nothing of a branch starts), auto (unconfined without an engine) or off";
        engine "engine": Choice = Choice::Auto, "", "auto (bubblewrap where it works, else landlock), bubblewrap, landlock or command";
        network "network": NetworkWord = NetworkWord::Open, "", "open (all that this account reaches), internet (global addresses), hosts (those of `hosts`) or closed";
        #[serde(deserialize_with = "hosts")] hosts "hosts": List = List::default(), "", "with network hosts: NAME:PORT that may be reached";
        #[serde(deserialize_with = "paths")] read "read": List = List::default(), "", "further paths to read";
        #[serde(deserialize_with = "paths")] write "write": List = List::default(), "", "further paths to write; what a run leaves there is seen by the next run, of any task";
        user "user": String = String::new(), "", "as root: another account for these processes; empty: an own uid for each run, from uid_base";
        #[serde(deserialize_with = "uid_base")] uid_base "uid_base": u32 = 2_000_000_000, "", "as root: the first of a million uids that no account of the machine has";
        #[serde(deserialize_with = "positive")] memory_mb "memory_mb": u64 = 8192, "", "memory of one run, in MiB";
        #[serde(deserialize_with = "positive")] processes "processes": u64 = 512, "", "processes and threads of one run";
        #[serde(deserialize_with = "positive")] files "files": u64 = 1_000_000, "", "files in the folders of one run";
        #[serde(deserialize_with = "positive")] disk_mb "disk_mb": u64 = 10_240, "", "size of the folders of one run, in MiB";
        cache_copy_max_mb "cache_copy_max_mb": u64 = 2048, "", "size of the download and build caches that a run may begin with, in MiB; a larger cache is not kept, 0: none is";
    } further {
        #[serde(deserialize_with = "argv")] command: Vec<String>, "with engine command: a wrapper and its arguments, at the top level alone; {worktree}, {home} and {tmp} are replaced, the command follows";
    }
}

section! {
    /// The programs used: names or paths.
    Tools, "tools." {
        #[serde(deserialize_with = "program")] git "git": String = "git".into(), "", "git";
        #[serde(deserialize_with = "program")] gitleaks "gitleaks": String = "gitleaks".into(), "", "the secrets scanner";
        #[serde(deserialize_with = "program")] pip_audit "pip_audit": String = "pip-audit".into(), "", "dependency audit of Python";
        #[serde(deserialize_with = "program")] cargo_audit "cargo_audit": String = "cargo-audit".into(), "", "dependency audit of Rust";
        #[serde(deserialize_with = "program")] npm "npm": String = "npm".into(), "", "dependency audit of npm";
        #[serde(deserialize_with = "program")] osv_scanner "osv_scanner": String = "osv-scanner".into(), "", "dependency audit of the rest, where installed";
    }
}

section! {
    /// Whom to trust on the network (docs/network.md).
    @guard Tls, "tls." {
        #[serde(deserialize_with = "maybe_path")] ca_file "ca_file": String = String::new(), "", "PEM file of authorities trusted in addition to the system's, by the API clients, git and every child; empty: none";
    }
}

section! {
    /// The card and the alerts.
    Notify, "notify." {
        locale "locale": Locale = Locale::En, "", "language of card and alerts";
    } further {
        telegram: Option<Telegram>, "the live card and alerts in Telegram";
        #[serde(deserialize_with = "Within::<10>::here")] #[schemars(with = "Option<Within<10>>")] command: Option<CommandLine>, "a program that gets each message as JSON on stdin";
        webhook: Option<Webhook>, "a URL that gets each message as JSON";
    }
}

section! {
    /// Telegram.
    @optional Telegram, "notify.telegram." {
        #[serde(deserialize_with = "http")] api_base "api_base": String = "https://api.telegram.org".into(), "", "where the bot API is";
    } further {
        token: SecretRef, "the bot's token, a reference";
    } then {
        #[serde(deserialize_with = "loose")] #[schemars(schema_with = "loose_schema")] chat_id "chat_id": String = String::new(), "", "the chat that gets card and alerts";
        #[serde(deserialize_with = "topic")] topic "topic": Option<i64> = None, "", "the forum topic in that chat (message_thread_id); 0: the chat itself";
        mode "mode": TrackerMode = TrackerMode::Bump, "ORCH_TRACKER_MODE", "live card: bump (a new message at each stage change) or edit (in place)";
        #[serde(deserialize_with = "deciders")] @guard deciders "deciders": Vec<i64> = Vec::new(), "-", "numbers of the users who may approve, reject, confirm and stop by buttons in the chat; empty: no buttons, and nothing is read from the chat";
    }
}

section! {
    /// A generic webhook.
    @optional Webhook, "notify.webhook." {
        #[serde(deserialize_with = "http")] url "url": String = String::new(), "", "where each message is posted";
    } further {
        token: Option<SecretRef>, "sent as `Authorization: Bearer`, a reference";
    } then {
        #[serde(deserialize_with = "positive")] timeout_s "timeout_s": u64 = 10, "", "longest wait for its answer, in seconds";
    }
}

section! {
    /// How agents are run; every one unless `overrides` says otherwise.
    Agents, "agents." {
        #[serde(deserialize_with = "path")] prompts "prompts": PathBuf = "agents".into(), "", "folder with the six prompts; the built-in ones where it lacks one";
        runtime "runtime": String = "claude".into(), "ORCH_AGENT_RUNTIME", "a name under `runtimes`";
        model "model": String = String::new(), "ORCH_AGENT_MODEL", "the model; empty: the runtime's own";
        effort "effort": String = String::new(), "ORCH_AGENT_EFFORT", "the effort; empty: the runtime's own";
        fallback_model "fallback_model": String = String::new(), "ORCH_AGENT_FALLBACK_MODEL", "the model where the first is overloaded; empty: none";
        #[serde(deserialize_with = "positive")] timeout_s "timeout_s": u64 = 7200, "ORCH_AGENT_TIMEOUT_S", "longest run, in seconds";
        stall_s "stall_s": u64 = 900, "ORCH_AGENT_STALL_S", "longest silence of a run, in seconds; 0: no limit";
        stop_grace_s "stop_grace_s": u64 = 10, "", "time between TERM and KILL, in seconds";
        linger_s "linger_s": u64 = 10, "", "how long a runtime's process may stay after it reported its result, in seconds; then it is ended, and the result counts";
        @guard run_retries "run_retries": u32 = 3, "", "further runs of a stage after one that failed for its own reasons";
        retry_backoff_s "retry_backoff_s": u64 = 5, "", "wait before such a run, in seconds; doubling, at most 300, jittered";
        @guard max_diff_lines "max_diff_lines": u64 = 0, "", "a larger diff blocks the task; 0: no limit";
        #[serde(deserialize_with = "amount")] @guard max_cost_usd "max_cost_usd": f64 = 0.0, "", "cost cap of one run; 0: no limit";
    } further {
        overrides: BTreeMap<Agent, AgentOverride>, "settings of single agents, by name";
    }
}

section! {
    /// What may run at once and cost.
    @guard Limits, "limits." {
        max_concurrency "max_concurrency": u32 = 1, "ORCH_MAX_CONCURRENCY", "agents at once, all projects together; 0: no limit";
        developer_retries "developer_retries": u32 = 3, "ORCH_MAX_DEVELOPER_RETRIES", "rollbacks to development before a task is blocked";
        per_project "per_project": u32 = 0, "", "agents at once in one project; 0: no limit";
        #[serde(deserialize_with = "amount")] max_cost_usd_per_task "max_cost_usd_per_task": f64 = 0.0, "", "cost of one task; 0: no limit";
        #[serde(deserialize_with = "amount")] max_cost_usd_per_day "max_cost_usd_per_day": f64 = 0.0, "", "cost of one day, all projects together; 0: no limit";
    } further {
        per_agent: BTreeMap<Agent, u32>, "runs at once of one agent, by name; 0 or absent: no limit";
    }
}

section! {
    /// Gates.
    @guard Gates, "gates." {
        #[serde(deserialize_with = "positive")] undecided_max_s "undecided_max_s": u64 = 86_400, "", "a gate UNDECIDED for longer blocks the task, in seconds";
    }
}

section! {
    /// What is asked of git and the forge, and refused (ORD-1).
    @guard Effects, "effects." {
        max_tries "max_tries": u32 = 20, "", "an effect on git or the forge that was refused so often blocks the task with the last answer";
        #[serde(deserialize_with = "positive")] max_s "max_s": u64 = 86_400, "", "an effect refused for longer blocks the task, in seconds; time in which the service did not answer does not count";
    }
}

section! {
    /// The base is tried before an agent is paid (ORD-1).
    @guard BaseChecks, "base." {
        enabled "enabled": bool = true, "", "setup and CI run once on the base before a task's first agent; off: no job, no row, no process";
        #[serde(deserialize_with = "positive")] recheck_s "recheck_s": u64 = 600, "", "a red base is tried again after so many seconds, and whenever it or the settings change";
    }
}

section! {
    /// The static site (DSK-2).
    PageSite, "page." {
        #[serde(deserialize_with = "maybe_path")] dir "dir": String = String::new(), "", "a folder that every step which changed something writes the static site into; empty: none is written";
        documents "documents": bool = true, "", "documents and findings are in it; whoever can open the folder can read them";
    }
}

section! {
    /// Keeping house (ORD-6).
    Prune, "prune." {
        auto "auto": bool = true, "", "`tick` deletes what ended tasks left on this machine";
        checkouts_after_s "checkouts_after_s": u64 = 259_200, "", "checkouts and homes of a task's runs are deleted so long after it ended, in seconds";
        runs_after_s "runs_after_s": u64 = 2_592_000, "", "logs of its runs, transcripts and archives are deleted so long after it ended, in seconds";
        #[serde(deserialize_with = "positive")] every_s "every_s": u64 = 3600, "", "time between two such passes, in seconds";
    }
}

section! {
    /// STOP.
    @guard Stop, "stop." {
        status_enabled "status_enabled": bool = true, "ORCH_STOP_STATUS_ENABLED", "the STOP intent and `orch stop`; off: neither exists, `orch stop` exits 4";
    }
}

section! {
    /// The reaper.
    @guard Reaper, "reaper." {
        enabled "enabled": bool = true, "ORCH_REAPER_ENABLED", "`reap` settles jobs";
        #[serde(deserialize_with = "positive")] interval_s "interval_s": u64 = 60, "ORCH_REAPER_INTERVAL_S", "written into the timer by `init --systemd`";
        dead_ticks "dead_ticks": u32 = 2, "ORCH_REAPER_DEAD_TICKS", "consecutive observations, at least 1 s and half an interval apart, that find the process gone (tier 1)";
        finalize_grace_s "finalize_grace_s": u64 = 300, "ORCH_REAPER_FINALIZE_GRACE_S", "age of a recorded exit before another process may finalize (tier 2)";
        #[serde(deserialize_with = "positive")] max_running_s "max_running_s": u64 = 14_400, "ORCH_REAPER_MAX_RUNNING_S", "backstop (tier 3)";
    }
}

section! {
    /// The merge lease.
    @guard MergeLease, "merge_lease." {
        reclaim_enabled "reclaim_enabled": bool = true, "ORCH_LEASE_RECLAIM_ENABLED", "stale merge leases are reclaimed";
        #[serde(deserialize_with = "positive")] ttl_s "ttl_s": u64 = 7200, "ORCH_MERGE_LEASE_TTL_S", "age at which a parked task's lease is stale";
    }
}

section! {
    /// One task after the other.
    @guard SerialGate, "serial_gate." {
        enabled "enabled": bool = true, "ORCH_SERIAL_GATE_ENABLED", "FIFO per repository";
        repos "repos": Scope = Scope::SelfHosting, "ORCH_SERIAL_GATE_REPOS", "scope: repositories separated by commas; empty: self-hosting ones only; `*`: all";
        freeze_enabled "freeze_enabled": bool = true, "ORCH_SERIAL_GATE_FREEZE_ENABLED", "DEGRADED freezes the repository";
    }
}

section! {
    /// Blocked-by.
    @guard Dependencies, "dependencies." {
        enabled "enabled": bool = true, "ORCH_DEPENDENCIES_ENABLED", "blocked-by holds a task";
    }
}

section! {
    /// Labels that replace a person's answer.
    @guard AutoLabel, "auto_label." {
        enabled "enabled": bool = false, "ORCH_AUTO_LABEL_ENABLED", "the labels below replace the person at approval and deploy";
        approve_label "approve_label": String = "autoApprove".into(), "ORCH_AUTO_APPROVE_LABEL", "name of the label that approves an analysis";
        deploy_label "deploy_label": String = "autoDeploy".into(), "ORCH_AUTO_DEPLOY_LABEL", "name of the label that confirms a deploy";
        repos "repos": Scope = Scope::SelfHosting, "ORCH_AUTO_LABEL_REPOS", "scope, as for the serial gate";
        states_ttl_s "states_ttl_s": u64 = 300, "ORCH_AUTO_LABEL_STATES_TTL_S", "label cache, in seconds";
    }
}

section! {
    /// The audit table.
    @guard Audit, "audit." {
        anchor "anchor": AuditAnchor = AuditAnchor::None, "ORCH_AUDIT_ANCHOR", "forge: each stage's comment on the pull request says the audit table's hash; none: it is only on this machine";
    }
}

section! {
    /// Plane.
    Plane, "plane." {
        states_ttl_s "states_ttl_s": u64 = 300, "ORCH_PLANE_STATES_TTL_S", "board status cache, in seconds; 0: read at every step";
    }
}

section! {
    /// GitHub.
    Github, "github." {
        write_gap_ms "write_gap_ms": u64 = 1000, "ORCH_GITHUB_WRITE_GAP_MS", "pause between two writes of one credential, in milliseconds; 0: none";
        reserve "reserve": u64 = 100, "ORCH_GITHUB_RESERVE", "requests of an hour that are kept for intents and stops: CI and full passes wait";
    }
}

section! {
    /// Reconcile.
    @guard Reconcile, "reconcile." {
        enabled "enabled": bool = true, "ORCH_RECONCILE_ENABLED", "`reconcile` acts (off: exits 0, no request)";
    }
}

section! {
    /// Front matter.
    @guard Frontmatter, "frontmatter." {
        validation_strict "validation_strict": bool = false, "ORCH_FRONTMATTER_VALIDATION_STRICT", "schema faults fail a gate instead of warning";
    }
}

section! {
    /// Advisory sources other than the tools' own.
    Feeds, "security.feeds." {
        osv_url "osv_url": String = String::new(), "", "advisory source instead of the tools' own; empty: theirs";
        npm_registry "npm_registry": String = String::new(), "", "advisory source for npm; empty: npm's own";
        cargo_db "cargo_db": String = String::new(), "", "advisory database for cargo-audit; empty: its own";
    }
}

section! {
    /// The security gate.
    @guard Security, "security." {
        gate_enabled "gate_enabled": bool = true, "ORCH_SECURITY_GATE_ENABLED", "the sub-gate";
        gate_repos "gate_repos": Scope = Scope::SelfHosting, "ORCH_SECURITY_GATE_REPOS", "its scope, as for the serial gate";
        dep_audit_enabled "dep_audit_enabled": bool = true, "ORCH_SECURITY_DEP_AUDIT_ENABLED", "dependency audit";
        dep_audit_fail_closed "dep_audit_fail_closed": bool = false, "ORCH_SECURITY_DEP_AUDIT_FAIL_CLOSED", "an unreachable advisory feed fails the gate";
        #[serde(deserialize_with = "positive")] scan_timeout_s "scan_timeout_s": u64 = 300, "ORCH_SECURITY_SCAN_TIMEOUT_S", "per tool, in seconds";
        gitleaks_config "gitleaks_config": String = ".gitleaks.toml".into(), "ORCH_SECURITY_GITLEAKS_CONFIG", "path in the default branch";
        #[serde(deserialize_with = "severity")] severity_threshold "severity_threshold": Severity = Severity::High, "", "a dependency finding at or above it fails the gate: low, medium, high or critical";
    } further {
        feeds: Feeds, "advisory sources other than the tools' own";
        allow: Vec<Waiver>, "findings somebody answers for";
    }
}

section! {
    /// Staging checks.
    Staging, "staging." {
        @guard enabled "enabled": bool = true, "ORCH_STAGING_ENABLED", "declared checks; off: the deployer agent";
        @guard infra_tolerance_enabled "infra_tolerance_enabled": bool = true, "ORCH_STAGING_INFRA_TOLERANCE_ENABLED", "SANDBOX_INFRA checks may be waived";
    } further {
        #[serde(deserialize_with = "checks")] #[schemars(with = "Vec<CheckKeys>")] checks: Vec<Check>, "what is checked, in order; none: the deployer agent writes 15";
        #[serde(deserialize_with = "allowances")] #[schemars(with = "Vec<AllowanceKeys>")] @guard sandbox_infra: Vec<Allowance>, "checks whose failure may be waived: an id, or {id, signature, owner, expires}";
        revision: Option<Revision>, "how staging reports its revision: {command, timeout_s} or {url, field}; absent: freshness is not applicable";
        #[serde(deserialize_with = "Within::<900>::some")] #[schemars(with = "Option<Within<900>>")] build: Option<CommandLine>, "builds staging again, confined, when its revision is another one";
        #[serde(deserialize_with = "Within::<900>::some")] #[schemars(with = "Option<Within<900>>")] deploy: Option<CommandLine>, "takes to staging what `build` left, with this account's rights; without a build it gets a checkout";
        #[serde(deserialize_with = "sandbox")] #[schemars(with = "Option<SandboxKeys>")] sandbox: Option<String>, "{project: KEY}: the self-hosting suite's sandbox project";
    }
}

section! {
    /// The freshness sub-gate.
    @guard ImageFreshness, "image_freshness." {
        enabled "enabled": bool = true, "ORCH_IMAGE_FRESHNESS_ENABLED", "the sub-gate that compares staging's revision with the branch's head";
    }
}

section! {
    /// The watch after a deploy.
    PostDeploy, "post_deploy." {
        @guard enabled "enabled": bool = true, "ORCH_POST_DEPLOY_ENABLED", "the watch";
        @guard repos "repos": Scope = Scope::SelfHosting, "ORCH_POST_DEPLOY_REPOS", "its scope, as for the serial gate";
        @guard window_s "window_s": u64 = 900, "ORCH_POST_DEPLOY_WINDOW_S", "length of the watch, in seconds";
        #[serde(deserialize_with = "positive")] @guard interval_s "interval_s": u64 = 60, "ORCH_POST_DEPLOY_INTERVAL_S", "time between two probes, in seconds";
        @guard fail_threshold "fail_threshold": u32 = 3, "ORCH_POST_DEPLOY_FAIL_THRESHOLD", "consecutive health failures";
        #[serde(deserialize_with = "amount")] @guard share_5xx "5xx_threshold": f64 = 0.05, "ORCH_POST_DEPLOY_5XX_THRESHOLD", "share of 5xx in the window";
        @guard action "action": DegradedAction = DegradedAction::AlertOnly, "ORCH_POST_DEPLOY_ACTION", "alert_only or rollback; a self-hosting project is always alert_only";
        @guard min_requests "min_requests": u64 = 20, "", "fewer requests in the window say nothing about a share";
        @guard k_of_m "k_of_m": KofM = KofM::default(), "", "DEGRADED also at k failures among the last m probes; empty: this rule is off";
    } further {
        health: Vec<Health>, "what is probed; none: no watch";
        revision: Option<Revision>, "how production reports its revision";
        #[serde(deserialize_with = "control")] #[schemars(with = "Option<UrlKeys>")] control: Option<String>, "{url}: distinguishes a fault of the service from one of our network";
        errors: Errors, "{command, timeout_s} or {prometheus: {url, requests, errors_5xx, reading}}; absent: the probes' own answers";
        #[serde(deserialize_with = "Within::<600>::some")] #[schemars(with = "Option<Within<600>>")] rollback: Option<CommandLine>, "the command that rolls production back";
    }
}
