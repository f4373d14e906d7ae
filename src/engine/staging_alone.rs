//! The staging checks outside a task's job, as `orch staging-check` runs them (SHIP-3): a caller's own set in the caller's
//! folder, or a project's in a clean checkout.

use super::area::Folders;
use super::confine::{self, Further, Hold};
use super::default_branch;
use super::run_env::MARK;
use super::{Ctx, mirrors, projects, staging as suite};
use crate::adapters::child::ChildError;
use crate::adapters::confine::NoEngine;
use crate::adapters::git::{CheckoutPlan, Documents};
use crate::adapters::probe::{Confined, ProbeCtx, staging as checks};
use crate::adapters::sentinel;
use crate::config::standalone::StagingSetup;
use crate::config::{Check, Config, Project};
use crate::decide::staging::{FoldRules, Tolerance, fold};
use crate::model::ids::{Key, RunId};
use crate::model::probe::CheckKind;
use crate::model::stage::Stage;
use crate::model::staging::{CheckResult, StagingVerdict};
use crate::model::task::Task;
use crate::model::time::Stamp;
use crate::render::evidence::ArtefactHead;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// A finished suite.
#[derive(Debug)]
pub struct Judged {
    /// The artefact's.
    pub head: ArtefactHead,
    pub results: Vec<CheckResult>,
    pub verdict: StagingVerdict,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Unjudged {
    /// Nothing confines the checks.
    #[error("no check ran: {0}")]
    NoEngine(NoEngine),
    /// The engine could not start one of them: there is no fallback to a weaker one.
    #[error("no verdict: {0}")]
    NotStarted(ChildError),
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// Who follows a suite as it runs.
pub struct Follower<'a> {
    /// Asked before each check; once it says no, the rest is NOT_RUN.
    pub more: &'a dyn Fn() -> bool,
    /// Gets a result as soon as it is known.
    pub each: &'a mut dyn FnMut(&CheckResult),
    /// Called before the first check, if nothing confines them and the policy still lets them start.
    pub unconfined: &'a dyn Fn(),
}

/// A caller's own set of checks.
#[derive(Debug)]
pub struct Own<'a> {
    pub task: Option<&'a Key>,
    pub setup: &'a StagingSetup,
    pub config: &'a Config,
    pub strict: bool,
    pub now: Stamp,
}

impl Own<'_> {
    /// Runs the checks in the working folder and folds them.
    pub fn run(&self, follower: Follower<'_>) -> Result<Judged, Unjudged> {
        let setup = self.setup;
        let checkout = std::env::current_dir().context("finding the current folder")?;
        let work = tempfile::tempdir().context("creating a folder for the checks")?;
        let mut folders = Folders::of_check(work.path(), &work.path().join("run"));
        folders.renew()?;
        folders.checkout.clone_from(&checkout);
        let confined = self.confined(&folders, work.path(), follower.unconfined)?;
        let mut env = vec![("ORCH_STAGE".to_owned(), Stage::DeployStaging.as_str().to_owned())];
        env.extend(self.task.map(|t| ("ORCH_TASK".to_owned(), t.to_string())));
        let ctx = ProbeCtx { checkout, home: folders.home.clone(), env, own: None, confined, sealed: Vec::new() };
        let infra: Vec<String> = setup.allowed.iter().map(|a| a.id.clone()).collect();
        let results = checks::run(&setup.checks, &infra, &ctx, follower.more, follower.each);
        // A check that did not run proves nothing.
        if let Some(e) = ctx.confined.as_ref().and_then(|c| c.failed.borrow_mut().take()) {
            return Err(Unjudged::NotStarted(e));
        }
        let planned: Vec<String> = setup.checks.iter().map(|c| c.id.clone()).collect();
        let tolerance = Tolerance::of(self.strict, setup.tolerance);
        let rules = FoldRules { planned: &planned, allowed: &setup.allowed, tolerance, today: self.now.today() };
        let verdict = fold(&results, &rules);
        Ok(Judged { head: head(self.task, &self.now), results, verdict })
    }

    /// How the command checks are confined, if there is an engine (BND-2). `work`: an empty folder for this run alone.
    fn confined(&self, folders: &Folders, work: &Path, warn: &dyn Fn()) -> Result<Option<Confined>, Unjudged> {
        if !self.setup.checks.iter().any(|c| matches!(c.kind, CheckKind::Command(_))) {
            return Ok(None);
        }
        let hold = confine::of_caller(self.config, &self.setup.confine, work.join("engines"));
        let hold = hold.map_err(Unjudged::NoEngine)?;
        if hold.is_none() {
            warn();
        }
        Ok(hold.map(|hold| within(&hold, folders, work, &[])))
    }
}

fn head(task: Option<&Key>, now: &Stamp) -> ArtefactHead {
    ArtefactHead {
        work_item: task.map_or_else(|| "none".to_owned(), Key::to_string),
        stage: Stage::DeployStaging.as_str().to_owned(),
        agent: "staging-check".to_owned(),
        created: now.rfc3339(),
        ..ArtefactHead::default()
    }
}

/// Runs a project's checks in a clean checkout of the task's head, else of the default branch.
pub fn configured(
    ctx: &mut Ctx,
    project: &Project,
    task: Option<&Task>,
    strict: bool,
    follower: Follower<'_>,
) -> Result<Judged, Unjudged> {
    sentinel::make_dirs(&ctx.config.area_dir).context("creating the folder of runs")?;
    let work = tempfile::Builder::new().prefix(".staging-check-").tempdir_in(&ctx.config.area_dir);
    let work = work.context("creating a folder for the checks")?;
    let scratch = tempfile::tempdir().context("creating a folder for the suite")?;
    let folders = Folders::of_check(&ctx.config.area_dir, work.path());
    folders.renew()?;
    let mirror = projects::mirror(ctx, project)?;
    let default = default_branch::default_branch(ctx, project, &mirror)?;
    let tip = mirror.fetch_branch(&default).context("fetching the default branch")?;
    let tip = tip.with_context(|| format!("{} has no branch {default}", project.git.remote))?;
    let commit = task.and_then(|t| t.head_sha.clone()).unwrap_or_else(|| tip.clone());
    // Scripts that commands name come from the default branch (RULE-23).
    let scripts = project.scripts();
    let plan =
        CheckoutPlan { scripts: Some((&tip, &scripts)), documents: Documents::LeftOut, ..CheckoutPlan::of(&commit) };
    let sealed = mirror.check_out(&folders.checkout, &plan).context("checking out the revision")?.scripts;
    mirrors::write(&folders.home);
    let mut env = vec![
        ("ORCH_STAGE".to_owned(), Stage::DeployStaging.as_str().to_owned()),
        ("ORCH_REPO".to_owned(), project.repo.clone()),
        ("ORCH_REVISION".to_owned(), commit.to_string()),
    ];
    if let Some(t) = task {
        env.push(("ORCH_TASK".to_owned(), t.key.to_string()));
        env.push(("ORCH_ATTEMPT".to_owned(), t.attempt.to_string()));
    }
    let confined = confined(ctx, project, &folders, scratch.path(), &sealed)?;
    let (checkout, home) = (project.folder_in(&folders.checkout), folders.home.clone());
    let probe = ProbeCtx { checkout, home, env, own: None, confined, sealed };
    let tolerance = Tolerance::of(strict, project.staging.infra_tolerance_enabled);
    let order = suite::Order { project, probe: &probe, scratch: scratch.path(), tolerance, more: follower.more };
    let (results, verdict) = suite::run(ctx, &order, follower.each)?;
    let tree = task.map(|t| mirror.code_tree(&commit, &t.key).context("reading the code's tree")).transpose()?;
    let head = ArtefactHead {
        head: Some(commit.to_string()),
        base: Some(tip.to_string()),
        tree: tree.map(|t| t.to_string()),
        ..head(task.map(|t| &t.key), &ctx.now().stamp)
    };
    Ok(Judged { head, results, verdict })
}

/// How the command checks are confined (BND-2): those of a branch's head, started by a person.
fn confined(
    ctx: &Ctx,
    project: &Project,
    folders: &Folders,
    logs: &Path,
    scripts: &[PathBuf],
) -> Result<Option<Confined>, Unjudged> {
    if !project.staging.checks.iter().any(Check::is_command) {
        return Ok(None);
    }
    let hold = confine::hold(ctx, project, None, RunId(std::process::id().into())).map_err(Unjudged::NoEngine)?;
    hold.hand_over(folders)?;
    Ok(Some(within(&hold, folders, logs, scripts)))
}

fn within(hold: &Hold, folders: &Folders, logs: &Path, scripts: &[PathBuf]) -> Confined {
    Confined {
        boundary: hold.boundary(folders, Further { frozen: scripts.to_vec(), ..Further::default() }),
        logs: logs.to_owned(),
        mark: (MARK.to_owned(), format!("check-{}", std::process::id())),
        env: hold.env().into_iter().chain(folders.env()).collect(),
        failed: std::cell::RefCell::new(None),
    }
}
