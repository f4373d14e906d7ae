//! `orch security-scan` (SHIP-1): in any git checkout, without configuration or database; or for a task's range.

use crate::adapters::scan::range;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::scanned::{Ending, conclude, unreadable};
use crate::cli::{Invocation, clock, open};
use crate::config::waivers;
use crate::engine::scan_alone::{self, Checkout};
use crate::model::scan::Waiver;
use crate::render::security::Head;
use std::path::PathBuf;
use std::time::Instant;

/// Scan a commit range for secrets, and its dependencies for known vulnerabilities
///
/// Exit 0: nothing that blocks; 1: findings; 3: a scanner could not run, so nothing is known.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, in any checkout:\n  orch security-scan --range origin/main..HEAD --format sarif --output scan.sarif"
)]
pub struct Args {
    /// The task whose branch is scanned
    #[arg(value_name = "TASK")]
    task: Option<String>,
    /// The checkout to scan
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// The commits to scan; default: from the merge base with origin/HEAD to HEAD
    #[arg(long, value_name = "A..B")]
    range: Option<String>,
    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Format of the result
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json", "sarif"], default_value = "text")]
    format: String,
    /// Write the result to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// YAML file of accepted findings: a list, or a list under `allow:`
    #[arg(long, value_name = "FILE")]
    waivers: Option<PathBuf>,
    /// Print what would be scanned; scan nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// For a task, it stores its report in the state directory.
    pub fn changes(&self) -> bool {
        self.task.is_some()
    }

    fn ending(&self, start: Instant) -> Ending<'_> {
        Ending { start, format: &self.format, output: self.output.as_deref(), report: self.report.as_deref() }
    }

    fn waived(&self) -> Result<Vec<Waiver>, Failure> {
        let Some(file) = &self.waivers else { return Ok(Vec::new()) };
        let expected = "--waivers takes a YAML list of {rule, path, fingerprint, owner, reason, expires}";
        let bad = |why: String| Failure::usage(format!("{}: {why}", file.display())).hint(expected);
        let text = std::fs::read_to_string(file).map_err(|e| bad(e.to_string()))?;
        waivers(&text).map_err(bad)
    }
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    if let Some(task) = &args.task {
        return of_task(call, args, task, start);
    }
    let config = call.config_or_bare()?;
    let waivers = args.waived()?;
    let range = match range(&args.repo, args.range.as_deref()) {
        Ok(range) => range,
        Err(error) => return unreadable(call, &error),
    };
    if args.dry_run {
        call.out.planned("security-scan", &[format!("scan {}..{}", range.base, range.head)]);
        return Ok(Exit::Done);
    }
    call.out.under_way(&format!("scanning {}..{}", range.base, range.head));
    let created_ms = clock::now().wall_ms;
    let (repo, waivers_file) = (args.repo.as_path(), args.waivers.as_deref());
    let report = match (Checkout { config: &config, repo, range, waivers_file, waivers }).scan(created_ms) {
        Ok(report) => report,
        Err(error) => return unreadable(call, &error),
    };
    conclude(call, &args.ending(start), &report, Head { work_item: "", stage: "", created_ms })
}

fn of_task(call: &Invocation, args: &Args, name: &str, start: Instant) -> CmdResult {
    if args.range.is_some() {
        return Err(Failure::usage("a TASK has its own range: leave out --range"));
    }
    let mut ctx = if args.dry_run { open::dry(call, "security-scan")? } else { open::on_copy(call, "security-scan")? };
    let task = open::task(&mut ctx, name)?;
    let refuse = |why: &str| Failure::usage(format!("{}: {why}", task.key)).task(task.key.to_string());
    let head = task.head_sha.clone().ok_or_else(|| refuse("it has no pushed branch yet"))?;
    if args.dry_run {
        // Where the branch left the default one is known only after a fetch, and a dry run fetches nothing.
        call.out.planned(
            "security-scan",
            &[format!("scan {} from its merge base with the default branch to {head}", task.key)],
        );
        return Ok(Exit::Done);
    }
    call.out.under_way(&format!("scanning {}", task.key));
    let report = match scan_alone::of_task(&mut ctx, &task, &head, args.waived()?) {
        Ok(report) => report,
        Err(error) => match error.downcast_ref() {
            Some(range) => return unreadable(call, range),
            None => return Err(error.into()),
        },
    };
    let shown = Head { work_item: task.key.as_str(), stage: task.stage.as_str(), created_ms: ctx.now().stamp.wall_ms };
    conclude(call, &args.ending(start), &report, shown)
}
