//! L3: the imperative shell. It observes, asks `decide` and performs one effect at a time. It may be killed at any
//! point.

pub mod advance;
pub mod agent;
pub mod apply;
pub mod approval;
pub mod area;
pub mod artefacts;
mod asks;
pub mod awaits;
pub mod base;
pub mod base_job;
pub mod base_look;
pub mod base_rows;
pub mod binding;
pub mod blockers;
pub mod boards;
pub mod bound;
pub mod brakes;
pub mod branches;
pub mod by_hand;
pub mod cache;
mod cache_rows;
pub mod caller;
pub mod card;
pub mod chat;
mod chat_acts;
pub mod chat_fault;
pub mod cluster;
pub mod confine;
mod deciders;
pub mod default_branch;
pub mod deploy;
pub mod errors;
pub mod explain;
pub mod finalize;
mod folder;
pub mod guard;
pub mod guards;
mod handed;
pub mod inputs;
pub mod intents;
pub mod judge;
pub mod labels;
pub mod landing;
pub mod launch;
pub mod lease;
mod left;
pub mod logs;
mod memory;
pub mod mirrors;
pub mod notices;
pub mod observe;
pub mod operator;
pub mod outages;
pub mod outbox;
pub mod page;
pub mod paths;
pub mod perform;
pub mod policy;
pub mod projects;
pub mod prune;
pub mod pulls;
pub mod reap;
pub mod reconcile;
pub mod record;
pub mod red_ci;
pub mod refused;
pub mod replay;
pub mod repository;
pub mod reserved;
pub mod run_env;
mod run_files;
pub mod run_job;
pub mod runtimes;
pub mod scan_alone;
pub mod services;
pub mod session;
pub mod settle;
pub mod shell;
pub mod show;
mod site;
pub mod staging;
pub mod staging_alone;
pub mod standing;
pub mod status;
pub mod steps;
pub mod stop;
mod stopwatch;
pub mod supervise;
pub mod throttle;
pub mod tick;
pub mod tree;
pub mod view;
pub mod watch;
pub mod way;

pub use record::messages;

use crate::adapters::git::Git;
use crate::adapters::sentinel;
use crate::adapters::store::{Store, StoreError};
use crate::config::{Config, ExecutorKind, Project};
use crate::model::act::AuditAnchor;
use crate::model::card::AlertKind;
use crate::model::ids::TaskId;
use crate::model::policy::Policy;
use crate::model::report::StepReport;
use crate::model::task::{Actor, Task};
use crate::model::time::Stamp;
use anyhow::{Context, Result};
use paths::Paths;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One reading of the clocks and of HALT, with this process's identity.
#[derive(Debug, Clone)]
pub struct Moment {
    pub stamp: Stamp,
    pub me: Actor,
    /// The reason, when HALT is set.
    pub halted: Option<String>,
    /// The state directory: rows bind files in it (RULE-47).
    pub root: std::path::PathBuf,
    /// Each move publishes the audit table's hash on the forge (`audit.anchor`).
    pub anchored: bool,
}

/// What a step works with.
#[derive(Debug)]
pub struct Ctx {
    pub config: Config,
    pub policy: Policy,
    pub paths: Paths,
    pub store: Store,
    pub me: Actor,
    pub clock: fn() -> Stamp,
    /// `--dry-run`: the store is a copy in memory, and every outside effect is only reported.
    pub dry: bool,
    pub report: StepReport,
    /// What a supervisor needs on its command line to find the same configuration and state.
    pub global_args: Vec<OsString>,
    /// Set by SIGINT or SIGTERM: the step ends between two actions (CLI-5).
    pub interrupt: Arc<AtomicBool>,
    /// Slurm's queue as this step read it.
    queue: memory::Queue,
    /// What boards answered this process a moment ago.
    asked: memory::Asked,
    /// Projects whose labels could not be read in this process: asked and reported once (RULE-44).
    unlabelled: std::collections::BTreeSet<String>,
}

impl Ctx {
    /// A step's context. The state directory must exist unless `dry`.
    pub fn new(config: Config, store: Store, me: Actor, clock: fn() -> Stamp, step: &'static str) -> Self {
        let paths = Paths::with_area(&config.state_dir, &config.area_dir).apart(config.executor == ExecutorKind::Slurm);
        let policy = policy::of(&config);
        let mut global_args: Vec<OsString> = vec!["--state-dir".into(), config.state_dir.clone().into()];
        global_args.extend(["--config".into(), config.file.clone().into()]);
        Self {
            policy,
            paths,
            store,
            me,
            clock,
            dry: false,
            report: StepReport::new(step),
            global_args,
            interrupt: Arc::new(AtomicBool::new(false)),
            queue: memory::Queue::default(),
            asked: memory::Asked::default(),
            unlabelled: std::collections::BTreeSet::new(),
            config,
        }
    }

    pub fn now(&self) -> Moment {
        Moment {
            stamp: (self.clock)(),
            me: self.me.clone(),
            halted: sentinel::halted(self.paths.root()),
            root: self.paths.root().to_owned(),
            anchored: self.config.audit.anchor == AuditAnchor::Forge,
        }
    }

    /// Whether the step has to end: it finishes what it has begun and starts nothing new.
    pub fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::SeqCst)
    }

    /// Git; its version is checked when a mirror is first opened with it.
    pub fn git(&self) -> Git {
        Git::named(&self.config.tools.git)
    }

    /// A task's project in the configuration.
    pub fn project(&self, key: &str) -> Result<&Project> {
        self.config
            .projects
            .iter()
            .find(|p| p.key == key)
            .with_context(|| format!("project {key} is not in {}", self.config.file.display()))
    }

    /// A task's row now.
    pub fn task(&mut self, id: TaskId) -> Result<Task> {
        Ok(self.store.read(|tx| tx.task(id))?)
    }

    /// Records a fault at one task, project or service. The rest of the step continues.
    pub fn fault(&mut self, task: Option<&Task>, what: &str, error: &anyhow::Error) {
        if let Some(task) = task
            && let Some(why @ (StoreError::Illegal(_) | StoreError::Cycle { .. })) = error.downcast_ref()
        {
            self.alarm(task, &why.to_string());
        }
        self.report.fault(task.map(|t| t.key.as_str()), format!("{what}: {error:#}"), None);
    }

    /// Alerts a person to a change that the state machine refused, once per row.
    fn alarm(&mut self, task: &Task, why: &str) {
        let at = (self.clock)().wall_ms;
        let (name, n) = (task.key.as_str(), task.revision);
        let alerted = self.store.write(|tx| messages::alert_named(tx, AlertKind::Blocked, name, n, why, at));
        if let Err(e) = alerted {
            self.report.fault(Some(task.key.as_str()), format!("reporting a refused change: {e}"), None);
        }
    }
}
