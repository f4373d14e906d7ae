//! The file as written: every key optional, unknown ones refused. The doc comments become the text of
//! `docs/configuration.md` and the JSON Schema.

use super::github::RawBoardProject;
use super::scalar::Text;
use super::secret::{EnvValue, SecretRef};
use super::settings::{
    RawAgents, RawAudit, RawAutoLabel, RawBase, RawConfine, RawDependencies, RawEffects, RawExecutorLimits,
    RawFrontmatter, RawGates, RawGithubTop, RawImageFreshness, RawLimits, RawMergeLease, RawNotify, RawPage,
    RawPlaneTop, RawPostDeploy, RawPrune, RawReaper, RawReconcile, RawSecurity, RawSerialGate, RawSlurm, RawStaging,
    RawStop, RawTls, RawTools,
};
use super::types::{ArtefactsAfterMerge, CheckPlace, CheckWord, ExecutorKind, Reading, RunnerKind, Sandbox};
use crate::model::board::Logical;
use crate::model::ci::Accepted;
use crate::model::sides::{BoardKind, CommentsFrom, ForgeKind, Method, Update, Via};
use crate::model::stage::Stage;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use std::collections::BTreeMap;
use std::fmt;

macro_rules! raw {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $ty:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $name { $($(#[$fdoc])* pub $field: Option<$ty>),* }
    )*};
}

raw! {
    /// The configuration of `orch`.
    RawFile {
        /// Where database, mirrors, worktrees and sentinels are; default `$XDG_STATE_HOME/orch`, `~/.local/state/orch`
        state_dir: String,
        /// Where the checkouts, homes and temporary folders of runs are; outside `state_dir`, which no run may read; default: `state_dir` with `-area` appended
        area_dir: String,
        /// How agents and the branch's code are confined; also in a project and in a runtime, which may only make it stricter
        confine: RawConfine,
        /// How supervisors are started
        executor: ExecutorKind,
        /// Limits of each job's unit (systemd executor only)
        executor_limits: RawExecutorLimits,
        /// Where `executor: slurm` runs agents and the branch's code; also in a project, whose keys win
        slurm: RawSlurm,
        /// The programs used: names or paths
        tools: RawTools,
        /// Whom to trust on the network
        tls: RawTls,
        /// The repositories worked on
        projects: Vec<RawProject>,
        /// The card and the alerts; absent: the card is written to `cards/<KEY>.txt` in the state directory
        notify: RawNotify,
        /// How agents are run
        agents: RawAgents,
        /// The programs that play agents, by name; `claude` is always there
        runtimes: BTreeMap<String, RawRuntime>,
        /// Claims wait while the state directory's disk has less free space, in MiB
        min_free_mb: u64,
        /// What may run at once and cost
        limits: RawLimits,
        /// Gates
        gates: RawGates,
        /// The base before an agent starts
        base: RawBase,
        /// The static site
        page: RawPage,
        /// Effects that are refused
        effects: RawEffects,
        /// What ended tasks left on this machine
        prune: RawPrune,
        /// STOP
        stop: RawStop,
        /// The reaper
        reaper: RawReaper,
        /// The merge lease
        merge_lease: RawMergeLease,
        /// One task after the other
        serial_gate: RawSerialGate,
        /// Blocked-by
        dependencies: RawDependencies,
        /// Labels that replace a person's answer
        auto_label: RawAutoLabel,
        /// The audit table
        audit: RawAudit,
        /// Plane
        plane: RawPlaneTop,
        /// GitHub
        github: RawGithubTop,
        /// Reconcile
        reconcile: RawReconcile,
        /// Front matter of artefacts
        frontmatter: RawFrontmatter,
        /// The security gate; also in a project, whose keys win
        security: RawSecurity,
        /// Staging checks; also in a project, whose keys win
        staging: RawStaging,
        /// The freshness sub-gate
        image_freshness: RawImageFreshness,
        /// The watch after a deploy; also in a project, whose keys win
        post_deploy: RawPostDeploy,
    }

    /// One repository with its board, forge and pipeline.
    RawProject {
        /// Prefix of work-item keys: a capital letter, then at most nine capitals or digits
        key: String,
        /// Name used in scopes, sentinels and logs; default: the key in lower case
        repo: String,
        /// This repository is `orch`'s own production; default false
        self_hosting: bool,
        /// Globs: the part of the repository that is this project; agents write there and in the work item's folder, and commands run in the first one's folder; default: all of it
        paths: Vec<String>,
        /// Whether `.orch.yaml` on its default branch counts (worktree.setup, ci, staging.checks, staging.build, merge.update, merge.method, paths; keys of this file win); default false
        repository_config: bool,
        /// Confinement of this project's runs; only stricter than the section at the top
        confine: RawConfine,
        /// Where `executor: slurm` runs what is this project's; all keys but `work_dir`
        slurm: RawSlurm,
        /// The stages worked; some may be left out (never development, deploy), none moved; default: all
        stages: Vec<Stage>,
        /// The repository
        git: RawGit,
        /// Where work items are; default: local
        board: RawBoard,
        /// Where pull requests are; default: local
        forge: RawForge,
        /// What a new worktree needs
        worktree: RawWorktree,
        /// Continuous integration
        ci: RawCi,
        /// How a branch lands
        merge: RawMerge,
        /// The security gate; over the section at the top
        security: RawSecurity,
        /// Staging checks; over the section at the top
        staging: RawStaging,
        /// The deploy
        deploy: RawDeploy,
        /// The watch after a deploy; over the section at the top
        post_deploy: RawPostDeploy,
    }

    /// The repository.
    RawGit {
        /// URL or path; never with a credential in it
        remote: String,
        /// The branch that everything lands on; default: the remote's HEAD
        default_branch: String,
        /// Beginning of branch names; default `feature/`
        branch_prefix: String,
        /// Who commits; default `orch <orch@localhost>`
        author: RawAuthor,
        /// The password for the remote, a reference; given to git through a credential helper
        credential: SecretRef,
        /// Globs no agent may change, in addition to the built-in list (docs/security.md) and the scripts that configured commands name; one that begins with `!` takes its matches out
        protected_paths: Vec<String>,
    }

    /// Who commits.
    RawAuthor {
        /// Name in commits; default `orch`
        name: String,
        /// Address in commits; default `orch@localhost`
        email: String,
    }

    /// Where work items are.
    RawBoard {
        /// `local`, `plane` or `github`; default local
        kind: BoardKind,
        /// Local: the folder, relative to `state_dir`; default `issues`
        dir: String,
        /// Plane: where it is
        url: String,
        /// Plane: the workspace's slug
        workspace: String,
        /// Plane: the project's id or identifier; GitHub: the project (Projects v2) that shows the statuses, {owner, number, field}; default none
        project: RawBoardProject,
        /// Plane: the API key, a reference
        api_key: SecretRef,
        /// Names of the statuses, by logical key; default: the names of `docs/state-machine.md`
        statuses: BTreeMap<Logical, String>,
        /// Plane and GitHub: time between two full passes, in seconds; default 86400
        full_scan_every_s: u64,
        /// Users whose statuses and labels count: on a local board the file's owner by name, on Plane ids of users, on GitHub logins in addition to those who may write to the repository, also of bots and Apps; default: everybody who can edit the item, on GitHub everybody who may write to the repository
        deciders: Vec<String>,
        /// GitHub: the API's address; default `https://api.github.com`, on Enterprise Server `https://HOST/api/v3`
        api_base: String,
        /// GitHub: the repository's owner
        owner: String,
        /// GitHub: the repository's name
        name: String,
        /// GitHub: the token, a reference; or `app`
        token: SecretRef,
        /// GitHub: the App that speaks, in the place of a token
        app: RawApp,
        /// GitHub: the prefixes of label names
        labels: RawBoardLabels,
        /// GitHub: whose comments agents read
        comments: RawBoardComments,
    }

    /// A GitHub App.
    RawApp {
        /// The App's id or client id
        id: Text,
        /// The installation's id
        installation: u64,
        /// The private key, PEM, a reference
        key: SecretRef,
    }

    /// The prefixes of label names.
    RawBoardLabels {
        /// Before a status's name; the whole label has at most 50 characters and no comma; default `orch: `
        prefix: String,
        /// Before `urgent`, `high`, `medium` or `low`; default `priority: `
        priority: String,
    }

    /// Whose comments agents read.
    RawBoardComments {
        /// `write`: those of people who may write to the repository, or `none`; default write
        from: CommentsFrom,
    }

    /// Where pull requests are.
    RawForge {
        /// `local`, `gitea` or `github`; default local
        kind: ForgeKind,
        /// Gitea: where it is
        url: String,
        /// Gitea and GitHub: the repository's owner
        owner: String,
        /// Gitea and GitHub: the repository's name
        name: String,
        /// Gitea and GitHub: the token, a reference; on GitHub or `app`
        token: SecretRef,
        /// Gitea and GitHub: post commit statuses `orch/<gate>`; default false
        post_statuses: bool,
        /// GitHub: the API's address; default `https://api.github.com`, on Enterprise Server `https://HOST/api/v3`
        api_base: String,
        /// GitHub: the App that speaks, in the place of a token
        app: RawApp,
        /// GitHub: open pull requests as drafts, marked ready before the merge; default false
        draft: bool,
        /// GitHub: who is asked to review
        reviewers: Vec<String>,
        /// GitHub: the teams asked to review
        team_reviewers: Vec<String>,
    }

    /// What a new worktree needs.
    RawWorktree {
        /// Run once in a new worktree, by the supervisor
        setup: RawCommand,
        /// Files of the operator's machine to copy into it
        copy: Vec<String>,
        /// History that a new worktree has its own copy of, in MiB; above that it reads the default branch's from a store that no run can write, 0: always; default 512
        copy_max_mb: u64,
    }

    /// Continuous integration.
    RawCi {
        /// Whether a green CI is required; default true
        required: bool,
        /// Local forge: the command; absent: CI is not applicable
        command: Vec<String>,
        /// Its time limit in seconds; default 3600
        timeout_s: u64,
        /// Its own environment
        env: BTreeMap<String, EnvValue>,
        /// Remote forge: the status names required
        contexts: Vec<String>,
        /// Remote forge: which of `neutral` and `skipped` pass, too; default none
        accept: Vec<Accepted>,
    }

    /// How a branch lands.
    RawMerge {
        /// How it catches up with a default branch that moved: `rebase` or `merge`; default rebase
        update: Update,
        /// How the pull request is merged: `merge`, `rebase` or `squash`; default merge
        method: Method,
        /// `forge`, or `push`: a fast-forward push of the tested commit; default forge
        via: Via,
        /// A branch that landed is deleted on the remote, unless somebody moved it; default true
        delete_branch: bool,
    }

    /// The deploy.
    RawDeploy {
        /// A person confirms each deploy; default true, always true for a self-hosting project
        confirm: bool,
        /// Absent: the merge is the deploy
        command: Vec<String>,
        /// Its time limit in seconds; default 1800
        timeout_s: u64,
        /// Its own environment: literals or references
        env: BTreeMap<String, EnvValue>,
        /// Builds, confined, what `command` deploys: {command, timeout_s (900), env}; absent: `command` gets a checkout and runs the landed code with this account's rights
        build: RawCommand,
        /// Where 14 to 17 stay after done: `state` or `branch`; `none`: nothing of the work item's folder lands; default state
        artefacts_after_merge: ArtefactsAfterMerge,
        /// GitHub: each deploy is reported as a deployment, which starts workflows on `deployment`; default false
        report: bool,
        /// GitHub: the environment that is reported; default production
        environment: String,
    }

    /// A command.
    RawCommand {
        /// Program and arguments
        command: Vec<String>,
        /// Time limit in seconds
        timeout_s: f64,
        /// Its own environment: literals or references
        env: BTreeMap<String, EnvValue>,
    }

    /// How to ask for a running revision: a command, or a URL.
    RawRevision {
        /// Prints the revision
        command: Vec<String>,
        /// The command's own environment
        env: BTreeMap<String, EnvValue>,
        /// Answers with the revision
        url: String,
        /// Key in the JSON answer, dots go deeper; absent: the whole body
        field: String,
        /// Time limit in seconds; default 60 for a command, 10 for a URL
        timeout_s: f64,
    }

    /// The self-hosting suite's sandbox.
    RawStagingSandbox {
        /// Key of the project
        project: String,
    }

    /// A URL.
    RawUrl {
        /// The URL
        url: String,
    }

    /// Where the 5xx share comes from.
    RawErrors {
        /// Prints `{"requests": n, "errors_5xx": n}`
        command: Vec<String>,
        /// The command's own environment
        env: BTreeMap<String, EnvValue>,
        /// Time limit in seconds; default 10
        timeout_s: f64,
        /// Two queries at a Prometheus server
        prometheus: RawPrometheus,
    }

    /// Two queries at a Prometheus server.
    RawPrometheus {
        /// Where it is
        url: String,
        /// Query for the number of requests: `sum(http_requests_total)`, or with `reading: window` `sum(increase(http_requests_total[1m]))`
        requests: String,
        /// Query for the number of 5xx answers, of the same form
        errors_5xx: String,
        /// `counter` (default): numbers that only grow; `window`: what happened in the query's own window, best as long as `interval_s`
        reading: Reading,
    }

    /// One health URL.
    RawHealth {
        /// What is probed
        url: String,
        /// Absent: any 2xx
        expect_status: u16,
        /// A text the body must hold; empty: none
        expect_body: String,
        /// 0: no limit
        max_latency_ms: u64,
        /// Longest wait in seconds; default 5
        timeout_s: f64,
    }

    /// A program that plays agents.
    RawRuntime {
        /// `claude`, `command`, `codex`, `gemini` or `opencode`
        kind: RunnerKind,
        /// all but command: name or path; default the kind's own name
        program: String,
        /// claude: default `dontAsk`
        permission_mode: String,
        /// claude: default Read, Grep, Glob, Edit, Write, Bash
        allowed_tools: Vec<String>,
        /// claude: `auto`, `required` or `off`; default auto
        sandbox: Sandbox,
        /// all but command: further arguments
        extra_args: Vec<String>,
        /// command: program and arguments; the prompt is on stdin
        command: Vec<String>,
        /// Its own environment: literals or references
        env: BTreeMap<String, EnvValue>,
        /// Confinement of this runtime's agents; only stricter than the section at the top
        confine: RawConfine,
    }

    /// A staging check.
    RawCheck {
        /// Letters, digits, -, _ or .; its own in the list
        id: String,
        /// For people
        name: String,
        /// `http`, `command`, `tcp` or `sql`
        kind: CheckWord,
        /// http: what is asked
        url: String,
        /// http: default 200
        expect_status: u16,
        /// http: a text the body must hold
        expect_body: String,
        /// http: further tries after a failed one; default 0
        retries: u32,
        /// command: passes with exit 0
        command: Vec<String>,
        /// command: default: the checkout
        cwd: String,
        /// command: its own environment
        env: BTreeMap<String, EnvValue>,
        /// command: `host`: on this machine also with `executor: slurm`; default: where the branch's code runs
        on: CheckPlace,
        /// tcp: host:port
        address: String,
        /// sql: a SQLite file
        database: String,
        /// sql: what is asked; it may not write
        query: String,
        /// sql: the first column of the first row; absent: any row
        expect: Text,
        /// Longest wait for one try in seconds; default 10 (http, sql), 60 (command), 3 (tcp)
        timeout_s: f64,
    }
}

/// An entry of `sandbox_infra`: an id, or a map.
#[derive(Debug, Clone, Default)]
pub(super) struct RawAllowance {
    pub id: String,
    pub signature: Option<String>,
    pub owner: Option<String>,
    pub expires: Option<String>,
}

impl<'de> Deserialize<'de> for RawAllowance {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            id: String,
            signature: Option<String>,
            owner: Option<String>,
            expires: Option<String>,
        }
        struct IdOrMap;
        impl<'de> Visitor<'de> for IdOrMap {
            type Value = RawAllowance;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a check's id or {id, signature, owner, expires}")
            }
            fn visit_str<E>(self, id: &str) -> Result<RawAllowance, E> {
                Ok(RawAllowance { id: id.to_owned(), ..RawAllowance::default() })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawAllowance, A::Error> {
                let Full { id, signature, owner, expires } =
                    Full::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(RawAllowance { id, signature, owner, expires })
            }
        }
        from.deserialize_any(IdOrMap)
    }
}

impl schemars::JsonSchema for RawAllowance {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RawAllowance".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"oneOf": [
            {"type": "string"},
            {"type": "object", "required": ["id"], "additionalProperties": false, "properties": {
                "id": {"type": "string"}, "signature": {"type": "string"}, "owner": {"type": "string"},
                "expires": {"type": "string", "description": "Last day on which it holds, YYYY-MM-DD"}
            }}
        ]})
    }
}
