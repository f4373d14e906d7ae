//! The reserved job `base` (ORD-1): setup and CI once on a repository's base, before an agent is paid to work on it.
//! One for each repository or part of one ([`Project::base_name`]), shared by its tasks. Its result is one row of
//! `meta`, its log is `base/<name>/*.log`.

use super::agent::{base_env, tail};
use super::area::Folders;
use super::cache::Caches;
use super::confine::{self, Further};
use super::services;
use super::supervise::{MARK, forget_environment_in, know_all};
use super::{Ctx, cluster, messages, outbox, projects, reserved, throttle, tick};
use crate::adapters::child::{self, ChildError, Control, EndedBy, Exit, Spec};
use crate::adapters::git::files::Seals;
use crate::adapters::git::{CheckoutPlan, Documents};
use crate::adapters::locks;
use crate::adapters::process::{self, Life};
use crate::adapters::store::{Result as StoreResult, StoreError, Tx};
use crate::config::{Config, EnvValue, Project, SlurmKind, exposed};
use crate::decide::again::environment_wait;
use crate::decide::gates::ci::roll_up;
use crate::model::base::{Base, BaseState, Unseen};
use crate::model::card::AlertKind;
use crate::model::ci::CiAnswer;
use crate::model::event::Event;
use crate::model::ids::{RunId, Sha, TaskId};
use crate::model::parts;
use crate::model::stage::{JobKind, Stage};
use crate::model::status::BaseRow;
use crate::model::time::rfc3339;
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ROW: &str = "base/row/";
const UNSEEN: &str = "base/unseen/";
const ON_RED: &str = "base/on_red/t";
const CAP: u64 = 64 << 20;
const GRACE: Duration = Duration::from_secs(10);
/// How long processes of a lost check may take to vanish after KILL.
const GONE: Duration = Duration::from_secs(30);
/// By when a supervisor must have reported.
const START_MS: i64 = 20_000;
/// How many of the last lines of a red log are kept and shown.
const KEPT_LINES: usize = 20;
const SHOWN_LINES: usize = 5;
/// How many passed trees are remembered per base.
const PASSED: usize = 50;

/// Whether a project's base has anything to check.
pub fn applies(config: &Config, project: &Project) -> bool {
    let ci = if project.forge.is_remote() { !project.ci.contexts.is_empty() } else { project.ci.command.is_some() };
    config.base.enabled && (ci || project.worktree.setup.is_some())
}

/// Digest of all settings that decide whether setup and CI pass.
pub fn digest(config: &Config, project: &Project) -> String {
    // Literal values count, too; of a reference only the reference itself.
    let literals = |env: &BTreeMap<String, EnvValue>| -> Vec<(String, String)> {
        let one = |(name, value): (&String, &EnvValue)| match value {
            EnvValue::Literal(text) => Some((name.clone(), text.clone())),
            EnvValue::Ref(_) => None,
        };
        env.iter().filter_map(one).collect()
    };
    let own = (literals(&project.ci.env), project.worktree.setup.as_ref().map(|s| literals(&s.env)));
    let confinement = format!("{:?}", config.confinement(project, None));
    // For a part: the folder in which they run.
    let folder = project.paths.first().map(|first| parts::folder(first));
    let all = json!([project.worktree, project.ci, config.tools, confinement, own, folder]);
    throttle::digest(&[&all.to_string()])
}

/// Digest of everything that decides what a red CI means: the settings above and those of the base (ORD-1). Stored in a
/// red row.
pub fn ground(config: &Config, project: &Project) -> String {
    throttle::digest(&[&digest(config, project), &json!(config.base).to_string()])
}

/// The rows of all bases, by name.
pub fn rows(tx: &Tx<'_>) -> StoreResult<BTreeMap<String, Base>> {
    let row = |(key, text): (String, String)| {
        Some((key.strip_prefix(ROW)?.to_owned(), serde_json::from_str::<Base>(&text).ok()?))
    };
    Ok(tx.metas(ROW)?.into_iter().filter_map(row).collect())
}

/// Tasks that a person lets start on a red base.
pub fn on_red(tx: &Tx<'_>) -> StoreResult<BTreeSet<TaskId>> {
    let id = |(key, _): (String, String)| key.strip_prefix(ON_RED)?.parse().ok().map(TaskId);
    Ok(tx.metas(ON_RED)?.into_iter().filter_map(id).collect())
}

/// Lets a task start on a red base (`retry --on-red-base`); its own CI must be green as ever.
pub fn allow(tx: &Tx<'_>, id: TaskId) -> StoreResult<()> {
    tx.set_meta(&format!("{ON_RED}{id}"), "1")
}

/// On a person's request: a base that is red, or could not be checked or read, is checked at once. Returns whether
/// there is one.
pub fn try_now(tx: &Tx<'_>, name: &str) -> StoreResult<bool> {
    let unseen = tx.meta(&unseen_key(name))?.is_some();
    tx.drop_meta(&unseen_key(name))?;
    let holds = |b: &Base| matches!(b.state, BaseState::Red | BaseState::Environment | BaseState::Untried);
    let Some(mut base) = row(tx, name)?.filter(holds) else { return Ok(unseen) };
    base.next_at = 0;
    put(tx, name, &base)?;
    Ok(true)
}

/// The key under which a failure to read a base is recorded.
pub(super) fn unseen_key(name: &str) -> String {
    format!("{UNSEEN}{name}")
}

/// Bases that could not be read, by name.
pub fn unseen(tx: &Tx<'_>) -> StoreResult<BTreeMap<String, Unseen>> {
    let one = |(key, text): (String, String)| {
        Some((key.strip_prefix(UNSEEN)?.to_owned(), serde_json::from_str::<Unseen>(&text).ok()?))
    };
    Ok(tx.metas(UNSEEN)?.into_iter().filter_map(one).collect())
}

/// What is known of a base.
pub fn row(tx: &Tx<'_>, name: &str) -> StoreResult<Option<Base>> {
    Ok(tx.meta(&format!("{ROW}{name}"))?.and_then(|t| serde_json::from_str(&t).ok()))
}

pub(super) fn put(tx: &Tx<'_>, name: &str, base: &Base) -> StoreResult<()> {
    tx.set_meta(&format!("{ROW}{name}"), &json!(base).to_string())
}

/// The key under which a passed tree is recorded.
pub fn passed_key(name: &str, tree: &str, config: &str) -> String {
    format!("base/passed/{name}/{tree}/{config}")
}

/// Remembers that a tree passed under these settings: on the base, or at the merge gate.
pub fn passed(tx: &Tx<'_>, name: &str, tree: &str, config: &str, at: i64) -> StoreResult<()> {
    let mut known = tx.metas(&format!("base/passed/{name}/"))?;
    known.sort_by_key(|(_, at)| std::cmp::Reverse(at.parse::<i64>().unwrap_or(0)));
    for (key, _) in known.iter().skip(PASSED) {
        tx.drop_meta(key)?;
    }
    tx.set_meta(&passed_key(name, tree, config), &at.to_string())
}

/// Where the log of a base is.
pub fn dir(ctx: &Ctx, name: &str) -> PathBuf {
    dir_in(ctx.paths.root(), name)
}

/// The same for a state directory that is not open yet.
pub fn dir_in(state: &Path, name: &str) -> PathBuf {
    state.join("base").join(name)
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
    tick::launch_as(ctx, unit(ctx, name), &words, dir.join("supervisor.log"), JobKind::Ci)
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
/// now.
pub fn work(ctx: &mut Ctx, name: &str, token: &str) -> Result<()> {
    process::become_subreaper().context("becoming a subreaper")?;
    let dir = dir(ctx, name);
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let _lock = match locks::hold(&dir.join("lock")) {
        Ok(held) => held,
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
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
    let Some(base) = base else { return Ok(()) };
    let project = ctx.config.projects.iter().find(|p| p.base_name() == name).cloned();
    let project = project.with_context(|| format!("no project has the base {name}"))?;
    end_processes(ctx, name)?;
    let tried = attempt(ctx, &project, &base.commit).unwrap_or_else(|e| {
        // A failure of `orch` itself says nothing about the base.
        Tried::of(BaseState::Environment, format!("{e:#}"))
    });
    end(ctx, &project, token, &tried)?;
    if let Err(e) = tick::dispatch_jobs(ctx, None, None) {
        ctx.report.fault(None, format!("starting the next job: {e:#}"), None);
    }
    outbox::deliver(ctx);
    Ok(())
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
    let branch = projects::default_branch(ctx, project, &mirror)?;
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
        let ran = ran.map(|exit| reserved::sealed(exit, &seals, &folders.checkout));
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

/// For `status`: every project's base, checked or not.
pub fn shown(tx: &Tx<'_>, config: &Config) -> StoreResult<Vec<BaseRow>> {
    let rows = rows(tx)?;
    let unseen = unseen(tx)?;
    let one = |p: &Project| {
        let applies = applies(config, p);
        let (row, unseen) = (rows.get(p.base_name()), unseen.get(p.base_name()));
        let (row, unseen) = (row.filter(|_| applies), unseen.filter(|_| applies));
        let untried = if applies { BaseState::Untried } else { BaseState::NotApplicable };
        BaseRow {
            repo: p.base_name().to_owned(),
            commit: row.map(|b| b.commit.to_string()),
            state: row.map_or(untried, |b| b.state),
            since: row.map(|b| rfc3339(b.since)),
            why: match unseen {
                Some(u) => format!("can't be checked: {}", u.why),
                None => row.map(|b| b.why.clone()).unwrap_or_default(),
            },
            unchecked: unseen.is_some(),
        }
    };
    Ok(config.projects.iter().map(one).collect())
}
