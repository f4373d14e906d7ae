//! The reserved job `base` (ORD-1): setup and CI once on a repository's base, before an agent is paid to work on it.
//! One for each repository or part of one ([`Project::base_name`]), shared by its tasks. Its result is one row of
//! `meta`, its log is `base/<name>/*.log`.

use super::area::Folders;
use super::base_rows::{ROW, dir_in, passed, put, row, rows};
use super::cache::Caches;
use super::confine::{self, Further};
use super::default_branch;
use super::launch;
use super::launch::START_MS;
use super::reserved::bench;
use super::run_env::{MARK, base_env, forget_environment_in, know_all};
use super::run_files::tail;
use super::services;
use super::{Ctx, cluster, messages, projects, throttle};
use crate::adapters::child::{self, ChildError, Control, EndedBy, Exit, Spec};
use crate::adapters::git::files::Seals;
use crate::adapters::git::{CheckoutPlan, Documents};
use crate::adapters::locks;
use crate::adapters::process::{self, Life};
use crate::adapters::store::{Result as StoreResult, StoreError, Tx};
use crate::config::{EnvValue, Project, SlurmKind, exposed};
use crate::decide::again::environment_wait;
use crate::decide::gates::ci::roll_up;
use crate::model::base::{Base, BaseState};
use crate::model::card::AlertKind;
use crate::model::ci::CiAnswer;
use crate::model::event::Event;
use crate::model::ids::{RunId, Sha};
use crate::model::stage::{JobKind, Stage};
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CAP: u64 = 64 << 20;
const GRACE: Duration = Duration::from_secs(10);
/// How long processes of a lost check may take to vanish after KILL.
const GONE: Duration = Duration::from_secs(30);
/// How many of the last lines of a red log are kept and shown.
const KEPT_LINES: usize = 20;
const SHOWN_LINES: usize = 5;

/// Where the log of a base is.
pub fn dir(ctx: &Ctx, name: &str) -> PathBuf {
    dir_in(ctx.paths.root(), name)
}

fn unit(ctx: &Ctx, name: &str) -> String {
    format!("orch-{}-base-{}", ctx.paths.installation(), throttle::digest(&[name]))
}

fn mark(ctx: &Ctx, name: &str) -> String {
    format!("{}-base-{}", ctx.paths.installation(), throttle::digest(&[name]))
}

pub(super) fn start(ctx: &Ctx, name: &str, token: &str) -> Result<()> {
    let dir = dir(ctx, name);
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let words = ["run-job", "--base", name, "--token", token].map(OsString::from);
    launch::launch_as(ctx, unit(ctx, name), &words, dir.join("supervisor.log"), JobKind::Ci)
}

/// Takes back checks whose supervisor is gone; they are retried after a while.
pub fn resume(ctx: &mut Ctx) -> Result<()> {
    if ctx.dry {
        return Ok(());
    }
    let now = ctx.now().stamp.wall_ms;
    for (name, base) in ctx.store.read(rows)?.into_iter().filter(|(_, b)| b.state == BaseState::Running) {
        let held = locks::is_held(&dir(ctx, &name).join("lock"));
        let gone = base.owner.as_ref().is_none_or(|a| process::life(a) == Life::Dead);
        // One that was just claimed has yet to take its lock; its claimer may be gone by then.
        let late = !(0..START_MS).contains(&(now - base.since));
        if held != Some(false) || !gone || !late {
            continue;
        }
        end_processes(ctx, &name)?;
        let Some(project) = ctx.config.projects.iter().find(|p| p.base_name() == name).cloned() else {
            // It has no owner any more, so it must not count as running.
            ctx.store.write(|tx| tx.drop_meta(&format!("{ROW}{name}")))?;
            continue;
        };
        end(ctx, &project, &base.token, &Tried::of(BaseState::Untried, "its supervisor vanished".to_owned()))?;
    }
    Ok(())
}

fn end_processes(ctx: &Ctx, name: &str) -> Result<()> {
    let (marks, units) = ([mark(ctx, name)], [unit(ctx, name)]);
    let find = || process::belonging(MARK, &marks, &units, &[]).into_iter().filter(|a| *a != ctx.me).collect();
    Ok(process::end_all(&find, GRACE, GONE)?)
}

/// The result of a check.
#[derive(Debug)]
pub struct Tried {
    pub state: BaseState,
    /// One sentence.
    pub why: String,
    /// The last lines of the log of what was red.
    pub lines: Vec<String>,
    /// Each step that ran, `setup` and `ci`, and whether it passed.
    pub steps: Vec<(&'static str, bool)>,
}

impl Tried {
    pub(super) fn of(state: BaseState, why: String) -> Self {
        Self { state, why, lines: Vec::new(), steps: Vec::new() }
    }
}

/// The supervisor of a check (`orch run-job --base NAME --token T`). Does nothing if somebody else has the claim by
/// now: `None`, else the lock, which is held until the process ends.
pub fn work(ctx: &mut Ctx, name: &str, token: &str) -> Result<Option<locks::Held>> {
    process::become_subreaper().context("becoming a subreaper")?;
    let dir = dir(ctx, name);
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let lock = match locks::hold(&dir.join("lock")) {
        Ok(held) => held,
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
        Err(e) => return Err(e).context("locking the base"),
    };
    forget_environment_in(&dir);
    know_all(ctx);
    let me = ctx.me.clone();
    let base = ctx.store.write(|tx| {
        let Some(mut base) = row(tx, name)?.filter(|b| b.state == BaseState::Running && b.token == token) else {
            return Ok(None);
        };
        base.owner = Some(me);
        put(tx, name, &base)?;
        Ok::<_, StoreError>(Some(base))
    })?;
    let Some(base) = base else { return Ok(None) };
    let project = ctx.config.projects.iter().find(|p| p.base_name() == name).cloned();
    let project = project.with_context(|| format!("no project has the base {name}"))?;
    end_processes(ctx, name)?;
    let tried = attempt(ctx, &project, &base.commit).unwrap_or_else(|e| {
        // A failure of `orch` itself says nothing about the base.
        Tried::of(BaseState::Environment, format!("{e:#}"))
    });
    end(ctx, &project, token, &tried)?;
    Ok(Some(lock))
}

/// Reads the base's statuses on a remote forge, then runs setup and CI in a new checkout of it.
fn attempt(ctx: &mut Ctx, project: &Project, commit: &Sha) -> Result<Tried> {
    let folders = Folders::base(&ctx.paths, project.base_name(), ctx.now().stamp.wall_ms);
    let site = Site { folders: &folders, logs: &dir(ctx, project.base_name()), account: account(ctx, project) };
    play(ctx, project, commit, &site)
}

/// Where a check works.
pub struct Site<'a> {
    /// Used by this check alone: created afresh and deleted after it.
    pub folders: &'a Folders,
    /// Receives `setup.log` and `ci.log`.
    pub logs: &'a Path,
    /// Separate from those of runs.
    pub account: RunId,
}

/// A check at a site: the code shared by the reserved job, `init --try` and `doctor` (ORD-2). Blocks and records
/// nothing. Fails if this machine can't run it.
pub fn play(ctx: &mut Ctx, project: &Project, commit: &Sha, site: &Site<'_>) -> Result<Tried> {
    if let Some(red) = red_statuses(ctx, project, commit) {
        return Ok(Tried::of(BaseState::Red, red));
    }
    let Site { folders, logs, account } = *site;
    let mirror = projects::mirror(ctx, project)?;
    let branch = default_branch::default_branch(ctx, project, &mirror)?;
    let hold = confine::hold(ctx, project, None, account)?;
    let name = format!("orch-{}-base-{}", ctx.paths.installation(), project.base_name());
    let hold = cluster::place(ctx, project, hold, SlurmKind::Base, name, logs)?;
    let shared = hold.shared(project, &mirror, commit)?;
    let plan = CheckoutPlan {
        shared: shared.as_ref(),
        default: Some((&branch, commit)),
        author: Some(&projects::author(project)),
        documents: Documents::LeftOut,
        ..CheckoutPlan::of(commit)
    };
    folders.renew()?;
    mirror.check_out(&folders.checkout, &plan)?;
    let caches = Caches::of_base(ctx, project)?;
    caches.give(folders);
    hold.hand_over(folders)?;
    let scripts = project.scripts().into_iter().map(|script| folders.checkout.join(script));
    let frozen: Vec<PathBuf> = scripts.filter(|path| path.symlink_metadata().is_ok()).collect();
    // Logs of an earlier check would pass for this one's.
    for name in ["setup.log", "ci.log"] {
        drop(std::fs::remove_file(logs.join(name)));
    }
    let mut steps = Vec::new();
    for step in steps_of(project) {
        let log = logs.join(format!("{}.log", step.name));
        let mut all = base_env(&project.repo, commit.as_str(), folders);
        all.extend(hold.env());
        all.extend(exposed(step.env)?.into_iter().map(|(key, value)| (key.into(), value.into())));
        let spec = Spec {
            argv: step.argv.iter().map(OsString::from).collect(),
            cwd: project.folder_in(&folders.checkout),
            env: all,
            stdin: None,
            stdout: log.clone(),
            stderr: log.clone(),
            wall: step.limit,
            stall: None,
            grace: GRACE,
            mark: (MARK.to_owned(), mark(ctx, project.base_name())),
            cap_bytes: CAP,
            boundary: hold.boundary(folders, Further { frozen: frozen.clone(), ..Further::default() }),
        };
        let seals = Seals::of(frozen.clone());
        let ran = child::run(&spec, &mut |_| Control::Go);
        let ran = ran.map(|exit| bench::sealed(exit, &seals, &folders.checkout));
        let ended = ran.is_ok();
        let failed = verdict(step.key, step.limit, ran);
        steps.push((step.name, failed.is_none()));
        if let Some(mut tried) = failed {
            let text = tail(&log, 16 << 10);
            let lines: Vec<&str> = text.lines().collect();
            tried.lines = lines.iter().skip(lines.len().saturating_sub(KEPT_LINES)).map(|l| (*l).to_owned()).collect();
            tried.steps = steps;
            // Keep no caches while processes may still be running.
            if ended {
                caches.keep(folders);
            }
            folders.delete()?;
            return Ok(tried);
        }
    }
    caches.keep(folders);
    folders.delete()?;
    let why = format!("setup and CI pass on {}", commit.short());
    Ok(Tried { steps, ..Tried::of(BaseState::Green, why) })
}

/// A command of a check.
struct Step<'a> {
    name: &'static str,
    key: &'static str,
    argv: &'a [String],
    env: &'a BTreeMap<String, EnvValue>,
    limit: Duration,
}

fn steps_of(project: &Project) -> Vec<Step<'_>> {
    let setup = project.worktree.setup.as_ref().map(|s| Step {
        name: "setup",
        key: "worktree.setup",
        argv: &s.command,
        env: &s.env,
        limit: Duration::from_millis(s.timeout_ms()),
    });
    let ci = match (&project.ci.command, project.forge.is_remote()) {
        (Some(argv), false) => Some(Step {
            name: "ci",
            key: "ci.command",
            argv,
            env: &project.ci.env,
            limit: Duration::from_secs(project.ci.timeout_s),
        }),
        (Some(_) | None, _) => None,
    };
    setup.into_iter().chain(ci).collect()
}

/// Checks of different bases run concurrently: each has its own account, separate from those of runs.
fn account(ctx: &Ctx, project: &Project) -> RunId {
    let place = ctx.config.projects.iter().position(|p| p.key == project.key).unwrap_or(0);
    RunId(-1 - i64::try_from(place).unwrap_or(0))
}

/// What a failed step says; `None`: it passed.
fn verdict(key: &str, limit: Duration, ran: std::result::Result<Exit, ChildError>) -> Option<Tried> {
    let exit = match ran {
        Err(e) => return Some(Tried::of(BaseState::Environment, format!("{key}: {e}"))),
        Ok(exit) => exit,
    };
    match (&exit.ended_by, exit.code) {
        (None, Some(0)) => None,
        // The shell's codes for a program that can't be run or doesn't exist.
        (None, Some(code @ (126 | 127))) => Some(Tried::of(BaseState::Environment, format!("{key}: exit {code}"))),
        (None, Some(code)) => Some(Tried::of(BaseState::Red, format!("{key}: exit {code}"))),
        (None, None) => Some(Tried::of(BaseState::Environment, format!("{key} was killed"))),
        // A protected script was changed while the step ran (BND-5).
        (Some(EndedBy::Asked(why)), _) => Some(Tried::of(BaseState::Red, format!("{key}: {why}"))),
        (Some(EndedBy::Wall | EndedBy::Stall), _) => {
            Some(Tried::of(BaseState::Red, format!("{key} ran longer than {} s", limit.as_secs())))
        }
    }
}

/// The named contexts of the base that are red. An absent or pending one is unknown and holds nothing.
fn red_statuses(ctx: &mut Ctx, project: &Project, commit: &Sha) -> Option<String> {
    if !project.forge.is_remote() || project.ci.contexts.is_empty() {
        return None;
    }
    let read = services::forge(ctx, project, |forge| forge.statuses(commit));
    match read.map(|list| roll_up(&list, &project.ci.contexts, project.ci.required, &project.ci.accept)) {
        Ok(CiAnswer::Red { contexts }) => Some(format!("red on the forge: {}", contexts.join(", "))),
        Ok(CiAnswer::Green) => None,
        Ok(CiAnswer::Pending { missing }) => {
            tracing::warn!(repo = %project.repo, "the base's CI is unknown: {} on {}", missing.join(", "), commit.short());
            None
        }
        Err(e) => {
            tracing::warn!(repo = %project.repo, "the base's statuses can't be read: {e:#}");
            None
        }
    }
}

/// Records a check's end under its claim, and reports a red base once per commit and settings.
pub(super) fn end(ctx: &mut Ctx, project: &Project, token: &str, tried: &Tried) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let seconds = |s: u64| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1000);
    let recheck = seconds(ctx.config.base.recheck_s);
    let first = seconds(ctx.config.agents.retry_backoff_s);
    let name = project.base_name();
    Ok(ctx.store.write(|tx| {
        let Some(mut base) = row(tx, name)?.filter(|b| b.token == token && b.state == BaseState::Running) else {
            return Ok::<_, StoreError>(());
        };
        (base.state, base.since, base.owner) = (tried.state, at, None);
        (base.why, base.lines) = (tried.why.clone(), tried.lines.clone());
        base.failed = match tried.state {
            BaseState::Environment | BaseState::Untried => base.failed + 1,
            BaseState::Green | BaseState::Red | BaseState::Running | BaseState::NotApplicable => 0,
        };
        base.next_at = match tried.state {
            BaseState::Red => at + recheck,
            BaseState::Environment | BaseState::Untried => at + environment_wait(first, base.failed),
            BaseState::Green | BaseState::Running | BaseState::NotApplicable => 0,
        };
        super::record::event(
            tx,
            at,
            None,
            Event::BaseTried,
            &json!({"repo": name, "commit": base.commit, "state": base.state, "why": base.why}),
        )?;
        match tried.state {
            BaseState::Green => {
                passed(tx, name, &base.tree, &base.config, at)?;
                recovered(tx, name, &mut base, at)?;
            }
            BaseState::Red => alert_red(tx, project, &mut base, at)?,
            BaseState::Environment | BaseState::Untried | BaseState::Running | BaseState::NotApplicable => {}
        }
        put(tx, name, &base)
    })?)
}

fn alert_red(tx: &Tx<'_>, project: &Project, base: &mut Base, at: i64) -> StoreResult<()> {
    let name = project.base_name();
    let key = format!("base/told/{name}");
    let about = format!("{}/{}", base.commit, base.config);
    base.alerted = true;
    if tx.meta(&key)?.as_deref() == Some(about.as_str()) {
        return Ok(());
    }
    tx.set_meta(&key, &about)?;
    base.ruled_out_at = tx.count_up(&format!("base/alerts/{name}"), 1)?;
    let waits = tx.open_tasks()?.into_iter().find(|t| t.project == project.key && t.stage == Stage::Created);
    let ask = waits.map(|t| format!("\n`orch explain {}`", t.key)).unwrap_or_default();
    let last = base.lines.iter().skip(base.lines.len().saturating_sub(SHOWN_LINES));
    let lines: String = last.map(|l| format!("\n{l}")).collect();
    let detail = format!("{} at {}{lines}\nNo agent starts.{ask}", base.why, base.commit.short());
    messages::alert_named(tx, AlertKind::BaseRed, name, base.ruled_out_at, &detail, at)
}

/// One silent message if a red base was reported.
pub(super) fn recovered(tx: &Tx<'_>, name: &str, base: &mut Base, at: i64) -> StoreResult<()> {
    tx.drop_meta(&format!("base/told/{name}"))?;
    if std::mem::take(&mut base.alerted) {
        let why = format!("its base is green at {}", base.commit.short());
        messages::alert_named(tx, AlertKind::BaseGreen, name, base.ruled_out_at, &why, at)?;
    }
    put(tx, name, base)
}
