//! `orch staging-check` (SHIP-3).

use crate::cli::checked::{Files, conclude, failure, off};
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, clock, open, signals::Signals};
use crate::config::standalone::staging;
use crate::engine::staging as suite;
use crate::engine::staging_alone::{Follower, Own, configured};
use crate::model::ids::Key;
use crate::render::staging as show;
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

    fn files(&self) -> Files<'_> {
        Files { junit: self.junit.as_deref(), report: self.report.as_deref() }
    }
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let task = args.task.as_deref().map(Key::parse).transpose().map_err(|e| Failure::usage(e.to_string()))?;
    let Some(file) = &args.checks else {
        return of_project(call, args, start);
    };
    let text = std::fs::read_to_string(file).map_err(|e| {
        Failure::usage(format!("{} can't be read: {e}", file.display()))
            .hint("--checks takes a YAML file with a `staging:` section")
    })?;
    // Network, tools and redaction are the same as for every other command (one way to settings).
    let config = call.config_or_bare()?;
    let setup = staging(&text, file.parent().unwrap_or(Path::new(".")), &|name| std::env::var(name).ok())
        .map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    if !setup.enabled {
        return Err(off());
    }
    if args.dry_run {
        return planned(call, setup.checks.iter().map(|c| c.id.clone()).collect());
    }
    let signals = Signals::watch()?;
    let own = Own { task: task.as_ref(), setup: &setup, config: &config, strict: args.strict, now: clock::now() };
    let unconfined = || {
        let whose = format!("the commands of {}, which have all rights of this account", file.display());
        call.out.to_stderr(&format!("unconfined: nothing holds {whose}"));
    };
    let judged = own.run(Follower {
        more: &|| !signals.came(),
        each: &mut |r| call.out.line(show::line(r)),
        unconfined: &unconfined,
    });
    conclude(call, args.files(), task.as_ref(), start, &judged.map_err(failure)?)
}

/// The configured checks of a project.
fn of_project(call: &Invocation, args: &Args, start: Instant) -> CmdResult {
    let opened = if args.dry_run { open::dry(call, "staging-check") } else { open::on_copy(call, "staging-check") };
    let mut ctx = opened.map_err(|f| match f.exit {
        Exit::Usage => f.hint("`--checks FILE` needs no configuration; `orch init` writes one"),
        Exit::Done | Exit::Negative | Exit::Broken | Exit::Refused | Exit::Child(_) => f,
    })?;
    let task = args.task.as_deref().map(|t| open::task(&mut ctx, t)).transpose()?;
    let project = open::project_of(&ctx, "staging-check", args.project.as_deref(), task.as_ref())?;
    if !project.staging.enabled {
        return Err(off());
    }
    if args.dry_run {
        return planned(call, suite::planned(&project));
    }
    let signals = Signals::watch()?;
    let follower =
        Follower { more: &|| !signals.came(), each: &mut |r| call.out.line(show::line(r)), unconfined: &|| {} };
    let judged = configured(&mut ctx, &project, task.as_ref(), args.strict, follower);
    conclude(call, args.files(), task.as_ref().map(|t| &t.key), start, &judged.map_err(failure)?)
}

fn planned(call: &Invocation, checks: Vec<String>) -> CmdResult {
    call.out.planned("staging-check", &checks.iter().map(|id| format!("run {id}")).collect::<Vec<_>>());
    Ok(Exit::Done)
}
