//! The sections of plain settings. One table gives each setting's name in the code, key, type, default, variable and
//! meaning. The effective types, the file's types, the environment, `docs/configuration.md` and `orch.env.example` all
//! come from it (CFG-2).

use super::confine::{List, NetworkWord};
use super::error::ConfigError;
use super::raw::{RawAllowance, RawCheck, RawCommand, RawErrors, RawHealth, RawRevision, RawStagingSandbox, RawUrl};
use super::scalar::{KofM, Scalar, Text};
use super::slurm::{SlurmJob, SlurmKind};
use super::types::{
    AgentOverride, Allowance, Check, CommandLine, DegradedAction, Errors, ExecutorKind, Health, Revision, Scope,
    TrackerMode,
};
use super::vars::Vars;
use crate::model::act::AuditAnchor;
use crate::model::card::Locale;
use crate::model::confine::{Choice, Mode};
use crate::model::scan::{Severity, Waiver};
use crate::model::stage::Agent;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One setting with a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Dotted path of the key in the file.
    pub path: String,
    pub variable: String,
    /// As it would be written in the variable; empty: none.
    pub default: String,
    pub meaning: &'static str,
    /// The accepted values.
    pub expected: String,
}

/// `reaper.dead_ticks` → `ORCH_REAPER_DEAD_TICKS`, unless the table gives another name.
pub(super) fn variable(path: &str, named: &str) -> String {
    if named.is_empty() { format!("ORCH_{}", path.to_ascii_uppercase().replace('.', "_")) } else { named.to_owned() }
}

fn wrong<T: Scalar>(path: &str, value: &str) -> ConfigError {
    ConfigError::new(format!("{path} is {value}, expected {}", T::expected()))
}

/// Every setting that has a variable, in the order of the sections.
pub fn settings() -> Vec<Setting> {
    let mut all = vec![Setting {
        path: "state_dir".into(),
        variable: "ORCH_STATE_DIR".into(),
        default: "$XDG_STATE_HOME/orch, else ~/.local/state/orch".into(),
        meaning: "where database, mirrors, worktrees and sentinels are",
        expected: "a path".into(),
    }];
    all.push(Setting {
        path: "area_dir".into(),
        variable: "ORCH_AREA_DIR".into(),
        default: "<state_dir>-area".into(),
        meaning: "where checkouts, homes and temporary folders of runs are",
        expected: "a path outside state_dir".into(),
    });
    all.extend(Top::settings());
    all.extend(ExecutorLimits::settings());
    all.extend(Slurm::settings());
    all.extend(Confine::settings());
    all.extend(Tools::settings());
    all.extend(Tls::settings());
    all.extend(Limits::settings());
    all.extend(Gates::settings());
    all.extend(Effects::settings());
    all.extend(BaseChecks::settings());
    all.extend(PageSite::settings());
    all.extend(Prune::settings());
    all.extend(Stop::settings());
    all.extend(Reaper::settings());
    all.extend(MergeLease::settings());
    all.extend(SerialGate::settings());
    all.extend(Dependencies::settings());
    all.extend(AutoLabel::settings());
    all.extend(Audit::settings());
    all.extend(Plane::settings());
    all.extend(Github::settings());
    all.extend(Reconcile::settings());
    all.extend(Frontmatter::settings());
    all.extend(Security::settings());
    all.extend(Feeds::settings());
    all.extend(Staging::settings());
    all.extend(ImageFreshness::settings());
    all.extend(PostDeploy::settings());
    all.extend(AgentsTop::settings());
    for agent in Agent::ALL {
        for (what, meaning) in [("model", "the model of this agent"), ("effort", "the effort of this agent")] {
            all.push(Setting {
                path: format!("agents.overrides.{agent}.{what}"),
                variable: agent_variable(*agent, what),
                default: String::new(),
                meaning,
                expected: String::expected(),
            });
        }
    }
    all.extend(NotifyTop::settings());
    all.extend(TelegramTop::settings());
    all.extend(WebhookTop::settings());
    all
}

/// `ORCH_AGENT_MODEL_DEVELOPER`.
pub(super) fn agent_variable(agent: Agent, what: &str) -> String {
    format!("ORCH_AGENT_{}_{}", what.to_ascii_uppercase(), agent.as_str().to_ascii_uppercase())
}

/// A section of settings. `name: type = default, "path", "variable or empty", "meaning"`; after `further`, keys without
/// a variable: `name: type in the file => effective type, "meaning"` (the loader fills their effective values).
macro_rules! section {
    ($(#[$doc:meta])* $name:ident, $raw:ident, $at:literal {
        $( $field:ident $key:literal : $ty:ty = $default:expr, $var:literal, $meaning:literal; )*
    } further {
        $( $more:ident : $raw_ty:ty => $more_ty:ty, $more_meaning:literal; )*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub struct $name {
            $( #[doc = $meaning] #[serde(rename = $key)] pub $field: $ty, )*
            $( #[doc = $more_meaning] pub $more: $more_ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* $( $more: Default::default(), )* }
            }
        }

        impl $name {
            /// The section's settings that have a variable.
            pub fn settings() -> Vec<Setting> {
                vec![$( Setting {
                    path: concat!($at, $key).to_owned(),
                    variable: variable(concat!($at, $key), $var),
                    default: { let value: $ty = $default; value.show() },
                    meaning: $meaning,
                    expected: <$ty as Scalar>::expected(),
                } ),*]
            }
        }

        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $raw {
            $( #[doc = $meaning] #[serde(rename = $key, default)] pub $field: Option<$ty>, )*
            $( #[doc = $more_meaning] #[serde(default)] pub $more: Option<$raw_ty>, )*
        }

        impl $raw {
            /// This section's keys, falling back to those of another one.
            #[allow(dead_code, reason = "not every section exists in projects too")]
            pub(super) fn over(self, below: Self) -> Self {
                Self { $( $field: self.$field.or(below.$field), )* $( $more: self.$more.or(below.$more), )* }
            }

            /// The effective settings: variable, file, default. Further keys keep their defaults.
            pub(super) fn effective(&self, vars: &Vars<'_>) -> Result<$name, ConfigError> {
                let mut it = $name::default();
                $(
                    if let Some(value) = vars.setting::<$ty>(concat!($at, $key), $var)? {
                        it.$field = value;
                    } else if let Some(value) = &self.$field {
                        if !value.holds() {
                            return Err(wrong::<$ty>(concat!($at, $key), &value.show()));
                        }
                        it.$field = value.clone();
                    }
                )*
                Ok(it)
            }
        }
    };
    ($(#[$doc:meta])* $name:ident, $raw:ident, $at:literal { $($body:tt)* }) => {
        section! { $(#[$doc])* $name, $raw, $at { $($body)* } further { } }
    };
}

section! {
    /// Top-level settings of the file.
    Top, RawTop, "" {
        executor "executor": ExecutorKind = ExecutorKind::Auto, "", "how supervisors are started: auto (systemd where a manager answers, else detach), systemd or detach; slurm: as auto, and agents and the branch's code run as Slurm jobs";
        min_free_mb "min_free_mb": u64 = 512, "", "claims wait while the state directory's disk has less free space, in MiB";
    }
}

section! {
    /// Limits of each job's unit (systemd executor only).
    ExecutorLimits, RawExecutorLimits, "executor_limits." {
        memory_max "memory_max": Text = Text::default(), "", "memory, as MemoryMax= takes it (4G); empty: no limit";
        cpu_quota "cpu_quota": Text = Text::default(), "", "CPU, as CPUQuota= takes it (200%); empty: no limit";
        tasks_max "tasks_max": u32 = 0, "", "processes and threads; 0: no limit";
    }
}

section! {
    /// Where `executor: slurm` runs agents and the branch's code (docs/scale.md).
    Slurm, RawSlurm, "slurm." {
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
        per_kind: BTreeMap<SlurmKind, SlurmJob> => BTreeMap<SlurmKind, SlurmJob>, "other values for one kind of job: agent, ci, staging, build or base";
    }
}

section! {
    /// How agents and the branch's code are confined.
    Confine, RawConfine, "confine." {
        mode "mode": Mode = Mode::Required, "", "required (without an engine nothing of a branch starts), auto (unconfined without an engine) or off";
        engine "engine": Choice = Choice::Auto, "", "auto (bubblewrap where it works, else landlock), bubblewrap, landlock or command";
        network "network": NetworkWord = NetworkWord::Open, "", "open (all that this account reaches), internet (global addresses), hosts (those of `hosts`) or closed";
        hosts "hosts": List = List::default(), "", "with network hosts: NAME:PORT that may be reached";
        read "read": List = List::default(), "", "further paths to read";
        write "write": List = List::default(), "", "further paths to write; what a run leaves there is seen by the next run, of any task";
        user "user": String = String::new(), "", "as root: another account for these processes; empty: an own uid for each run, from uid_base";
        uid_base "uid_base": u32 = 2_000_000_000, "", "as root: the first of a million uids that no account of the machine has";
        memory_mb "memory_mb": u64 = 8192, "", "memory of one run, in MiB";
        processes "processes": u64 = 512, "", "processes and threads of one run";
        files "files": u64 = 1_000_000, "", "files in the folders of one run";
        disk_mb "disk_mb": u64 = 10_240, "", "size of the folders of one run, in MiB";
        cache_copy_max_mb "cache_copy_max_mb": u64 = 2048, "", "size of the download and build caches that a run may begin with, in MiB; a larger cache is not kept, 0: none is";
    } further {
        command: Vec<String> => Vec<String>, "with engine command: a wrapper and its arguments, at the top level alone; {worktree}, {home} and {tmp} are replaced, the command follows";
    }
}

section! {
    /// The programs used: names or paths.
    Tools, RawTools, "tools." {
        git "git": String = "git".into(), "", "git";
        gitleaks "gitleaks": String = "gitleaks".into(), "", "the secrets scanner";
        pip_audit "pip_audit": String = "pip-audit".into(), "", "dependency audit of Python";
        cargo_audit "cargo_audit": String = "cargo-audit".into(), "", "dependency audit of Rust";
        npm "npm": String = "npm".into(), "", "dependency audit of npm";
        osv_scanner "osv_scanner": String = "osv-scanner".into(), "", "dependency audit of the rest, where installed";
    }
}

section! {
    /// Whom to trust on the network (docs/network.md).
    Tls, RawTls, "tls." {
        ca_file "ca_file": String = String::new(), "", "PEM file of authorities trusted in addition to the system's, by the API clients, git and every child; empty: none";
    }
}

section! {
    /// The card and the alerts.
    NotifyTop, RawNotify, "notify." {
        locale "locale": Locale = Locale::En, "", "language of card and alerts";
    } further {
        telegram: RawTelegram => (), "the live card and alerts in Telegram";
        command: RawCommand => (), "a program that gets each message as JSON on stdin";
        webhook: RawWebhook => (), "a URL that gets each message as JSON";
    }
}

section! {
    /// Telegram.
    TelegramTop, RawTelegram, "notify.telegram." {
        api_base "api_base": String = "https://api.telegram.org".into(), "", "where the bot API is";
        chat_id "chat_id": Text = Text::default(), "", "the chat that gets card and alerts";
        topic "topic": u64 = 0, "", "the forum topic in that chat (message_thread_id); 0: the chat itself";
        mode "mode": TrackerMode = TrackerMode::Bump, "ORCH_TRACKER_MODE", "live card: bump (a new message at each stage change) or edit (in place)";
    } further {
        token: super::secret::SecretRef => (), "the bot's token, a reference";
        deciders: Vec<i64> => (), "numbers of the users who may approve, reject, confirm and stop by buttons in the chat; empty: no buttons, and nothing is read from the chat";
    }
}

section! {
    /// A generic webhook.
    WebhookTop, RawWebhook, "notify.webhook." {
        url "url": String = String::new(), "", "where each message is posted";
        timeout_s "timeout_s": u64 = 10, "", "longest wait for its answer, in seconds";
    } further {
        token: super::secret::SecretRef => (), "sent as `Authorization: Bearer`, a reference";
    }
}

section! {
    /// How agents are run; every one unless `overrides` says otherwise.
    AgentsTop, RawAgents, "agents." {
        prompts "prompts": String = "agents".into(), "", "folder with the six prompts; the built-in ones where it lacks one";
        runtime "runtime": String = "claude".into(), "ORCH_AGENT_RUNTIME", "a name under `runtimes`";
        model "model": String = String::new(), "ORCH_AGENT_MODEL", "the model; empty: the runtime's own";
        effort "effort": String = String::new(), "ORCH_AGENT_EFFORT", "the effort; empty: the runtime's own";
        fallback_model "fallback_model": String = String::new(), "ORCH_AGENT_FALLBACK_MODEL", "the model where the first is overloaded; empty: none";
        timeout_s "timeout_s": u64 = 7200, "ORCH_AGENT_TIMEOUT_S", "longest run, in seconds";
        stall_s "stall_s": u64 = 900, "ORCH_AGENT_STALL_S", "longest silence of a run, in seconds; 0: no limit";
        stop_grace_s "stop_grace_s": u64 = 10, "", "time between TERM and KILL, in seconds";
        linger_s "linger_s": u64 = 10, "", "how long a runtime's process may stay after it reported its result, in seconds; then it is ended, and the result counts";
        run_retries "run_retries": u32 = 3, "", "further runs of a stage after one that failed for its own reasons";
        retry_backoff_s "retry_backoff_s": u64 = 5, "", "wait before such a run, in seconds; doubling, at most 300, jittered";
        max_diff_lines "max_diff_lines": u64 = 0, "", "a larger diff blocks the task; 0: no limit";
        max_cost_usd "max_cost_usd": f64 = 0.0, "", "cost cap of one run; 0: no limit";
    } further {
        overrides: BTreeMap<Agent, AgentOverride> => BTreeMap<Agent, AgentOverride>, "settings of single agents, by name";
    }
}

section! {
    /// What may run at once and cost.
    Limits, RawLimits, "limits." {
        max_concurrency "max_concurrency": u32 = 1, "ORCH_MAX_CONCURRENCY", "agents at once, all projects together; 0: no limit";
        developer_retries "developer_retries": u32 = 3, "ORCH_MAX_DEVELOPER_RETRIES", "rollbacks to development before a task is blocked";
        per_project "per_project": u32 = 0, "", "agents at once in one project; 0: no limit";
        max_cost_usd_per_task "max_cost_usd_per_task": f64 = 0.0, "", "cost of one task; 0: no limit";
        max_cost_usd_per_day "max_cost_usd_per_day": f64 = 0.0, "", "cost of one day, all projects together; 0: no limit";
    } further {
        per_agent: BTreeMap<Agent, u32> => BTreeMap<Agent, u32>, "runs at once of one agent, by name; 0 or absent: no limit";
    }
}

section! {
    /// Gates.
    Gates, RawGates, "gates." {
        undecided_max_s "undecided_max_s": u64 = 86_400, "", "a gate UNDECIDED for longer blocks the task, in seconds";
    }
}

section! {
    /// What is asked of git and the forge, and refused (ORD-1).
    Effects, RawEffects, "effects." {
        max_tries "max_tries": u32 = 20, "", "an effect on git or the forge that was refused so often blocks the task with the last answer";
        max_s "max_s": u64 = 86_400, "", "an effect refused for longer blocks the task, in seconds; time in which the service did not answer does not count";
    }
}

section! {
    /// The base is tried before an agent is paid (ORD-1).
    BaseChecks, RawBase, "base." {
        enabled "enabled": bool = true, "", "setup and CI run once on the base before a task's first agent; off: no job, no row, no process";
        recheck_s "recheck_s": u64 = 600, "", "a red base is tried again after so many seconds, and whenever it or the settings change";
    }
}

section! {
    /// The static site (DSK-2).
    PageSite, RawPage, "page." {
        dir "dir": String = String::new(), "", "a folder that every step which changed something writes the static site into; empty: none is written";
        documents "documents": bool = true, "", "documents and findings are in it; whoever can open the folder can read them";
    }
}

section! {
    /// Keeping house (ORD-6).
    Prune, RawPrune, "prune." {
        auto "auto": bool = true, "", "`tick` deletes what ended tasks left on this machine";
        checkouts_after_s "checkouts_after_s": u64 = 259_200, "", "checkouts and homes of a task's runs are deleted so long after it ended, in seconds";
        runs_after_s "runs_after_s": u64 = 2_592_000, "", "logs of its runs, transcripts and archives are deleted so long after it ended, in seconds";
        every_s "every_s": u64 = 3600, "", "time between two such passes, in seconds";
    }
}

section! {
    /// STOP.
    Stop, RawStop, "stop." {
        status_enabled "status_enabled": bool = true, "ORCH_STOP_STATUS_ENABLED", "the STOP intent and `orch stop`; off: neither exists, `orch stop` exits 4";
    }
}

section! {
    /// The reaper.
    Reaper, RawReaper, "reaper." {
        enabled "enabled": bool = true, "ORCH_REAPER_ENABLED", "`reap` settles jobs";
        interval_s "interval_s": u64 = 60, "ORCH_REAPER_INTERVAL_S", "written into the timer by `init --systemd`";
        dead_ticks "dead_ticks": u32 = 2, "ORCH_REAPER_DEAD_TICKS", "consecutive observations, at least 1 s and half an interval apart, that find the process gone (tier 1)";
        finalize_grace_s "finalize_grace_s": u64 = 300, "ORCH_REAPER_FINALIZE_GRACE_S", "age of a recorded exit before another process may finalize (tier 2)";
        max_running_s "max_running_s": u64 = 14_400, "ORCH_REAPER_MAX_RUNNING_S", "backstop (tier 3)";
    }
}

section! {
    /// The merge lease.
    MergeLease, RawMergeLease, "merge_lease." {
        reclaim_enabled "reclaim_enabled": bool = true, "ORCH_LEASE_RECLAIM_ENABLED", "stale merge leases are reclaimed";
        ttl_s "ttl_s": u64 = 7200, "ORCH_MERGE_LEASE_TTL_S", "age at which a parked task's lease is stale";
    }
}

section! {
    /// One task after the other.
    SerialGate, RawSerialGate, "serial_gate." {
        enabled "enabled": bool = true, "ORCH_SERIAL_GATE_ENABLED", "FIFO per repository";
        repos "repos": Scope = Scope::SelfHosting, "ORCH_SERIAL_GATE_REPOS", "scope: repositories separated by commas; empty: self-hosting ones only; `*`: all";
        freeze_enabled "freeze_enabled": bool = true, "ORCH_SERIAL_GATE_FREEZE_ENABLED", "DEGRADED freezes the repository";
    }
}

section! {
    /// Blocked-by.
    Dependencies, RawDependencies, "dependencies." {
        enabled "enabled": bool = true, "ORCH_DEPENDENCIES_ENABLED", "blocked-by holds a task";
    }
}

section! {
    /// Labels that replace a person's answer.
    AutoLabel, RawAutoLabel, "auto_label." {
        enabled "enabled": bool = false, "ORCH_AUTO_LABEL_ENABLED", "the labels below replace the person at approval and deploy";
        approve_label "approve_label": String = "autoApprove".into(), "ORCH_AUTO_APPROVE_LABEL", "name of the label that approves an analysis";
        deploy_label "deploy_label": String = "autoDeploy".into(), "ORCH_AUTO_DEPLOY_LABEL", "name of the label that confirms a deploy";
        repos "repos": Scope = Scope::SelfHosting, "ORCH_AUTO_LABEL_REPOS", "scope, as for the serial gate";
        states_ttl_s "states_ttl_s": u64 = 300, "ORCH_AUTO_LABEL_STATES_TTL_S", "label cache, in seconds";
    }
}

section! {
    /// The audit table.
    Audit, RawAudit, "audit." {
        anchor "anchor": AuditAnchor = AuditAnchor::None, "ORCH_AUDIT_ANCHOR", "forge: each stage's comment on the pull request says the audit table's hash; none: it is only on this machine";
    }
}

section! {
    /// Plane.
    Plane, RawPlaneTop, "plane." {
        states_ttl_s "states_ttl_s": u64 = 300, "ORCH_PLANE_STATES_TTL_S", "board status cache, in seconds; 0: read at every step";
    }
}

section! {
    /// GitHub.
    Github, RawGithubTop, "github." {
        write_gap_ms "write_gap_ms": u64 = 1000, "ORCH_GITHUB_WRITE_GAP_MS", "pause between two writes of one credential, in milliseconds; 0: none";
        reserve "reserve": u64 = 100, "ORCH_GITHUB_RESERVE", "requests of an hour that are kept for intents and stops: CI and full passes wait";
    }
}

section! {
    /// Reconcile.
    Reconcile, RawReconcile, "reconcile." {
        enabled "enabled": bool = true, "ORCH_RECONCILE_ENABLED", "`reconcile` acts (off: exits 0, no request)";
    }
}

section! {
    /// Front matter.
    Frontmatter, RawFrontmatter, "frontmatter." {
        validation_strict "validation_strict": bool = false, "ORCH_FRONTMATTER_VALIDATION_STRICT", "schema faults fail a gate instead of warning";
    }
}

section! {
    /// Advisory sources other than the tools' own.
    Feeds, RawFeeds, "security.feeds." {
        osv_url "osv_url": String = String::new(), "", "advisory source instead of the tools' own; empty: theirs";
        npm_registry "npm_registry": String = String::new(), "", "advisory source for npm; empty: npm's own";
        cargo_db "cargo_db": String = String::new(), "", "advisory database for cargo-audit; empty: its own";
    }
}

section! {
    /// The security gate.
    Security, RawSecurity, "security." {
        gate_enabled "gate_enabled": bool = true, "ORCH_SECURITY_GATE_ENABLED", "the sub-gate";
        gate_repos "gate_repos": Scope = Scope::SelfHosting, "ORCH_SECURITY_GATE_REPOS", "its scope, as for the serial gate";
        dep_audit_enabled "dep_audit_enabled": bool = true, "ORCH_SECURITY_DEP_AUDIT_ENABLED", "dependency audit";
        dep_audit_fail_closed "dep_audit_fail_closed": bool = false, "ORCH_SECURITY_DEP_AUDIT_FAIL_CLOSED", "an unreachable advisory feed fails the gate";
        scan_timeout_s "scan_timeout_s": u64 = 300, "ORCH_SECURITY_SCAN_TIMEOUT_S", "per tool, in seconds";
        gitleaks_config "gitleaks_config": String = ".gitleaks.toml".into(), "ORCH_SECURITY_GITLEAKS_CONFIG", "path in the default branch";
        severity_threshold "severity_threshold": Severity = Severity::High, "", "a dependency finding at or above it fails the gate: low, medium, high or critical";
    } further {
        feeds: RawFeeds => Feeds, "advisory sources other than the tools' own";
        allow: Vec<Waiver> => Vec<Waiver>, "findings somebody answers for";
    }
}

section! {
    /// Staging checks.
    Staging, RawStaging, "staging." {
        enabled "enabled": bool = true, "ORCH_STAGING_ENABLED", "declared checks; off: the deployer agent";
        infra_tolerance_enabled "infra_tolerance_enabled": bool = true, "ORCH_STAGING_INFRA_TOLERANCE_ENABLED", "SANDBOX_INFRA checks may be waived";
    } further {
        checks: Vec<RawCheck> => Vec<Check>, "what is checked, in order; none: the deployer agent writes 15";
        sandbox_infra: Vec<RawAllowance> => Vec<Allowance>, "checks whose failure may be waived: an id, or {id, signature, owner, expires}";
        revision: RawRevision => Option<Revision>, "how staging reports its revision: {command, timeout_s} or {url, field}; absent: freshness is not applicable";
        build: RawCommand => Option<CommandLine>, "builds staging again, confined, when its revision is another one: {command, timeout_s (900), env}";
        deploy: RawCommand => Option<CommandLine>, "takes to staging what `build` left, with this account's rights: {command, timeout_s (900), env}; without a build it gets a checkout";
        sandbox: RawStagingSandbox => Option<String>, "{project: KEY}: the self-hosting suite's sandbox project";
    }
}

section! {
    /// The freshness sub-gate.
    ImageFreshness, RawImageFreshness, "image_freshness." {
        enabled "enabled": bool = true, "ORCH_IMAGE_FRESHNESS_ENABLED", "the sub-gate that compares staging's revision with the branch's head";
    }
}

section! {
    /// The watch after a deploy.
    PostDeploy, RawPostDeploy, "post_deploy." {
        enabled "enabled": bool = true, "ORCH_POST_DEPLOY_ENABLED", "the watch";
        repos "repos": Scope = Scope::SelfHosting, "ORCH_POST_DEPLOY_REPOS", "its scope, as for the serial gate";
        window_s "window_s": u64 = 900, "ORCH_POST_DEPLOY_WINDOW_S", "length of the watch, in seconds";
        interval_s "interval_s": u64 = 60, "ORCH_POST_DEPLOY_INTERVAL_S", "time between two probes, in seconds";
        fail_threshold "fail_threshold": u32 = 3, "ORCH_POST_DEPLOY_FAIL_THRESHOLD", "consecutive health failures";
        share_5xx "5xx_threshold": f64 = 0.05, "ORCH_POST_DEPLOY_5XX_THRESHOLD", "share of 5xx in the window";
        action "action": DegradedAction = DegradedAction::AlertOnly, "ORCH_POST_DEPLOY_ACTION", "alert_only or rollback; a self-hosting project is always alert_only";
        min_requests "min_requests": u64 = 20, "", "fewer requests in the window say nothing about a share";
        k_of_m "k_of_m": KofM = KofM::default(), "", "DEGRADED also at k failures among the last m probes; empty: this rule is off";
    } further {
        health: Vec<RawHealth> => Vec<Health>, "what is probed; none: no watch";
        revision: RawRevision => Option<Revision>, "how production reports its revision";
        control: RawUrl => Option<String>, "{url}: distinguishes a fault of the service from one of our network";
        errors: RawErrors => Errors, "{command, timeout_s} or {prometheus: {url, requests, errors_5xx, reading}}; absent: the probes' own answers";
        rollback: RawCommand => Option<CommandLine>, "the command that rolls production back";
    }
}
