//! `orch staging-check` (SHIP-3).

use crate::adapters::git::{CheckoutPlan, Documents};
use crate::adapters::probe::{Confined, ProbeCtx, staging as run_staging};
use crate::adapters::{files, sentinel};
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, clock, open, signals::Signals};
use crate::config::standalone::{StagingSetup, staging};
use crate::config::{Check, Config, Project};
use crate::decide::staging::{FoldRules, Tolerance, fold};
use crate::engine::area::Folders;
use crate::engine::confine::{self, Further, Hold};
use crate::engine::supervise::MARK;
use crate::engine::{Ctx, mirrors, projects, staging as suite};
use crate::model::ids::{Key, RunId};
use crate::model::probe::CheckKind;
use crate::model::report::StepReport;
use crate::model::stage::Stage;
use crate::model::staging::{CheckResult, StagingStatus, StagingVerdict};
use crate::render::evidence::ArtefactHead;
use crate::render::{junit, staging as show};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Run the staging checks and give one verdict
///
/// Exit 0: SUCCESS; 1: FAILED; 4: staging.enabled is off.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, in CI without a configuration:\n  orch staging-check --strict --checks staging.yaml --junit staging.xml"
)]
pub struct Args {
    /// Waive nothing: an accepted failure fails, too
    #[arg(long)]
    strict: bool,
    /// The project whose checks run
    #[arg(long, value_name = "KEY", conflicts_with = "checks")]
    project: Option<String>,
    /// The task the report is for
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// A file with a `staging:` section; needs no configuration and no database
    #[arg(long, value_name = "FILE")]
    checks: Option<PathBuf>,
    /// Write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print which checks would run; run none
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Whether it may change something in a state directory (BND-6): a project's suite sends a work item through.
    pub fn changes(&self) -> bool {
        self.checks.is_none()
    }
}

/// Runs the checks of a file (or of a project) and reports the verdict.
pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let task = args.task.as_deref().map(Key::parse).transpose().map_err(|e| Failure::usage(e.to_string()))?;
    let Some(file) = &args.checks else {
        return configured(call, args);
    };
    let text = std::fs::read_to_string(file).map_err(|e| {
        Failure::usage(format!("{} can't be read: {e}", file.display()))
            .hint("--checks takes a YAML file with a `staging:` section")
    })?;
    // Network, tools and redaction are the same as for every other command (one way to settings).
    let config = call.config_or_bare()?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let setup = staging(&text, folder, &|name| std::env::var(name).ok())
        .map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    let checkout = std::env::current_dir().context("finding the current folder")?;
    judge(call, args, &Own { task, setup, checkout, file, config: &config })
}

/// The configured checks of a project, in a clean checkout of the task's head, else of the default branch.
fn configured(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let opened = if args.dry_run { open::dry(call, "staging-check") } else { open::on_copy(call, "staging-check") };
    let mut ctx = opened.map_err(|f| match f.exit {
        Exit::Usage => f.hint("`--checks FILE` needs no configuration; `orch init` writes one"),
        Exit::Done | Exit::Negative | Exit::Broken | Exit::Refused | Exit::Child(_) => f,
    })?;
    let task = args.task.as_deref().map(|t| open::task(&mut ctx, t)).transpose()?;
    let key = match (args.project.as_deref(), &task, ctx.config.projects.as_slice()) {
        (Some(name), ..) => open::project(&ctx, Some(name))?.unwrap_or_default(),
        (None, Some(task), _) => task.project.clone(),
        (None, None, [only]) => only.key.clone(),
        (None, None, _) => {
            return Err(Failure::usage("staging-check needs --project KEY: there are several projects")
                .hint("or --checks FILE, which needs no configuration"));
        }
    };
    if let Some(t) = task.as_ref().filter(|t| t.project != key) {
        return Err(Failure::usage(format!("{} belongs to project {}, not to {key}", t.key, t.project)));
    }
    let project = ctx.project(&key)?.clone();
    if !project.staging.enabled {
        return Err(off());
    }
    if args.dry_run {
        return planned(call, suite::planned(&project));
    }
    let signals = Signals::watch()?;
    sentinel::make_dirs(&ctx.config.area_dir).context("creating the folder of runs")?;
    let work = tempfile::Builder::new().prefix(".staging-check-").tempdir_in(&ctx.config.area_dir);
    let work = work.context("creating a folder for the checks")?;
    let scratch = tempfile::tempdir().context("creating a folder for the suite")?;
    let folders = Folders::of_check(&ctx.config.area_dir, work.path());
    folders.renew()?;
    let mirror = projects::mirror(&ctx, &project)?;
    let default = projects::default_branch(&mut ctx, &project, &mirror)?;
    let tip = mirror.fetch_branch(&default).context("fetching the default branch")?;
    let tip = tip.with_context(|| format!("{} has no branch {default}", project.git.remote))?;
    let head = task.as_ref().and_then(|t| t.head_sha.clone()).unwrap_or_else(|| tip.clone());
    // Scripts that commands name come from the default branch (RULE-23).
    let scripts = project.scripts();
    let plan =
        CheckoutPlan { scripts: Some((&tip, &scripts)), documents: Documents::LeftOut, ..CheckoutPlan::of(&head) };
    let sealed = mirror.check_out(&folders.checkout, &plan).context("checking out the revision")?.scripts;
    mirrors::write(&folders.home);
    let mut env = vec![
        ("ORCH_STAGE".to_owned(), Stage::DeployStaging.as_str().to_owned()),
        ("ORCH_REPO".to_owned(), project.repo.clone()),
        ("ORCH_REVISION".to_owned(), head.to_string()),
    ];
    if let Some(t) = &task {
        env.push(("ORCH_TASK".to_owned(), t.key.to_string()));
        env.push(("ORCH_ATTEMPT".to_owned(), t.attempt.to_string()));
    }
    let confined = confined(&ctx, &project, &folders, scratch.path(), &sealed)?;
    let (checkout, home) = (project.folder_in(&folders.checkout), folders.home.clone());
    let probe = ProbeCtx { checkout, home, env, own: None, confined, sealed };
    let mut each = |r: &CheckResult| call.out.line(show::line(r));
    let tolerance = Tolerance::of(args.strict, project.staging.infra_tolerance_enabled);
    let order = suite::Order {
        project: &project,
        probe: &probe,
        scratch: scratch.path(),
        tolerance,
        more: &|| !signals.came(),
    };
    let (results, verdict) = suite::run(&mut ctx, &order, &mut each)?;
    let key = task.as_ref().map(|t| t.key.clone());
    let artefact = ArtefactHead {
        work_item: key.as_ref().map_or_else(|| "none".to_owned(), Key::to_string),
        stage: Stage::DeployStaging.as_str().to_owned(),
        agent: "staging-check".to_owned(),
        created: clock::now().rfc3339(),
        head: Some(head.to_string()),
        base: Some(tip.to_string()),
        tree: match &key {
            Some(k) => Some(mirror.code_tree(&head, k).context("reading the code's tree")?.to_string()),
            None => None,
        },
    };
    conclude(call, args, key.as_ref(), &Ran { start, head: artefact, results, verdict })
}

/// How the command checks are confined (BND-2): those of a branch's head, started by a person.
fn confined(
    ctx: &Ctx,
    project: &Project,
    folders: &Folders,
    logs: &Path,
    scripts: &[PathBuf],
) -> Result<Option<Confined>, Failure> {
    if !project.staging.checks.iter().any(Check::is_command) {
        return Ok(None);
    }
    let own = RunId(std::process::id().into());
    let hold = confine::hold(ctx, project, None, own)
        .map_err(|e| Failure::new(Exit::Broken, format!("no check ran: {}", e.why)).hint(e.way_out))?;
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

/// A caller's own set of checks.
struct Own<'a> {
    task: Option<Key>,
    setup: StagingSetup,
    /// The caller's folder.
    checkout: PathBuf,
    file: &'a Path,
    config: &'a Config,
}

impl Own<'_> {
    /// How the command checks are confined, if there is an engine (BND-2); if not, a warning says so once. `work`: an
    /// empty folder for this run alone.
    fn confined(&self, call: &Invocation, folders: &Folders, work: &Path) -> Result<Option<Confined>, Failure> {
        if !self.setup.checks.iter().any(|c| matches!(c.kind, CheckKind::Command(_))) {
            return Ok(None);
        }
        let hold = confine::of_caller(self.config, &self.setup.confine, work.join("engines"))
            .map_err(|e| Failure::new(Exit::Broken, format!("no check ran: {}", e.why)).hint(e.way_out))?;
        if hold.is_none() {
            call.out.to_stderr(&format!(
                "unconfined: the commands of {} have all rights of this account",
                self.file.display()
            ));
        }
        Ok(hold.map(|hold| within(&hold, folders, work, &[])))
    }
}

fn off() -> Failure {
    Failure::refused("staging-check is refused: staging.enabled is off")
        .hint("enable it in the `staging:` section or with ORCH_STAGING_ENABLED=true")
}

fn planned(call: &Invocation, checks: Vec<String>) -> CmdResult {
    let planned_lines: Vec<String> = checks.into_iter().map(|id| format!("run {id}")).collect();
    call.out.planned("staging-check", &planned_lines);
    Ok(Exit::Done)
}

/// Runs a set of checks in a checkout, writes the requested files and reports the verdict.
fn judge(call: &Invocation, args: &Args, own: &Own<'_>) -> CmdResult {
    let (task, setup) = (own.task.as_ref(), &own.setup);
    if !setup.enabled {
        return Err(off());
    }
    let planned: Vec<String> = setup.checks.iter().map(|c| c.id.clone()).collect();
    if args.dry_run {
        return self::planned(call, planned);
    }
    let start = Instant::now();
    let now = clock::now();
    let signals = Signals::watch()?;
    let work = tempfile::tempdir().context("creating a folder for the checks")?;
    let mut folders = Folders::of_check(work.path(), &work.path().join("run"));
    folders.renew()?;
    folders.checkout.clone_from(&own.checkout);
    let confined = own.confined(call, &folders, work.path())?;
    let mut env = vec![("ORCH_STAGE".to_owned(), Stage::DeployStaging.as_str().to_owned())];
    env.extend(task.map(|t| ("ORCH_TASK".to_owned(), t.to_string())));
    let (checkout, home) = (own.checkout.clone(), folders.home.clone());
    let ctx = ProbeCtx { checkout, home, env, own: None, confined, sealed: Vec::new() };
    let infra: Vec<String> = setup.allowed.iter().map(|a| a.id.clone()).collect();
    let mut each = |r: &CheckResult| call.out.line(show::line(r));
    let results = run_staging::run(&setup.checks, &infra, &ctx, &|| !signals.came(), &mut each);
    // There is no fallback to a weaker engine, and a check that did not run proves nothing.
    if let Some(e) = ctx.confined.as_ref().and_then(|c| c.failed.borrow_mut().take()) {
        return Err(Failure::new(Exit::Broken, format!("no verdict: {e}"))
            .hint("`confine: {mode: off}` in the file runs its commands unconfined"));
    }
    let tolerance = Tolerance::of(args.strict, setup.tolerance);
    let rules = FoldRules { planned: &planned, allowed: &setup.allowed, tolerance, today: clock::today(&now) };
    let verdict = fold(&results, &rules);
    let head = ArtefactHead {
        work_item: task.map_or_else(|| "none".to_owned(), Key::to_string),
        stage: Stage::DeployStaging.as_str().to_owned(),
        agent: "staging-check".to_owned(),
        created: now.rfc3339(),
        ..ArtefactHead::default()
    };
    conclude(call, args, task, &Ran { start, head, results, verdict })
}

/// A finished suite.
struct Ran {
    start: Instant,
    head: ArtefactHead,
    results: Vec<CheckResult>,
    verdict: StagingVerdict,
}

fn conclude(call: &Invocation, args: &Args, task: Option<&Key>, ran: &Ran) -> CmdResult {
    let Ran { start, head, results, verdict } = ran;
    let mut report = StepReport::new("staging-check");
    for write_error in write_files(args, head, results, verdict) {
        report.fault(task.map(Key::as_str), write_error, None);
    }
    report.extra.insert("verdict".into(), verdict.status.as_str().into());
    report.extra.insert("checks".into(), show::checks_json(results, verdict));
    report.extra.insert("waived".into(), serde_json::json!(verdict.waived));
    report.extra.insert("because".into(), serde_json::json!(verdict.because));
    report.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    say(call, &report, verdict);
    Ok(match verdict.status {
        StagingStatus::Failed => Exit::Negative,
        StagingStatus::Success if !report.errors.is_empty() => Exit::Broken,
        StagingStatus::Success => Exit::Done,
    })
}

fn say(call: &Invocation, report: &StepReport, verdict: &StagingVerdict) {
    if call.out.is_json() {
        call.out.document(report);
        return;
    }
    for error in &report.errors {
        call.out.failure(None, &Failure::new(Exit::Broken, error.message.clone()));
    }
    for waived in &verdict.waived {
        call.out.line(show::waived_line(waived));
    }
    for why in &verdict.because {
        call.out.line(format!("FAILED-BECAUSE {why}"));
    }
    call.out.line(show::verdict_line(verdict));
}

fn write_files(args: &Args, head: &ArtefactHead, results: &[CheckResult], verdict: &StagingVerdict) -> Vec<String> {
    let mut troubles = Vec::new();
    let mut write = |file: &Path, text: Result<String, String>| {
        let done = text.and_then(|t| files::output(file, t.as_bytes(), None).map_err(|e| e.to_string()));
        if let Err(e) = done {
            troubles.push(format!("{} can't be written: {e}", file.display()));
        }
    };
    if let Some(file) = &args.junit {
        write(file, junit::junit("staging-check", results, verdict));
    }
    if let Some(file) = &args.report {
        write(file, Ok(show::log(head, results, verdict)));
    }
    troubles
}
