//! `orch post-deploy-probe` (SHIP-6).

use crate::adapters::store::Mode;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, clock, open, signals::Signals};
use crate::config::standalone;
use crate::engine::observe::{self, Alone};
use crate::model::report::StepReport;
use crate::model::watch::{Classification, MAX_PROBES, WatchStatus};
use crate::render::watch as show;
use serde_json::json;
use std::time::Instant;

/// Watch a deploy's health; with --url, watch any address without a configuration
///
/// Exit 0: HEALTHY (with TASK also: not decided yet, or replaced by a newer deploy); 1: DEGRADED; 3: INCONCLUSIVE.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch post-deploy-probe --url http://127.0.0.1:8081/health --count 10 --interval 5")]
pub struct Args {
    /// The task whose deploy is probed once
    #[arg(value_name = "TASK", conflicts_with = "url", required_unless_present = "url")]
    task: Option<String>,
    /// URL to watch; any 2xx is healthy
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Number of probes
    #[arg(long, value_name = "N", default_value_t = 15, requires = "url", value_parser = clap::value_parser!(u64).range(1..=MAX_PROBES))]
    count: u64,
    /// Seconds between two probes
    #[arg(long, value_name = "S", default_value_t = 60.0, requires = "url")]
    interval: f64,
    /// Print what would be probed; probe nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Whether it adds to a task's record (BND-6).
    pub fn changes(&self) -> bool {
        self.task.is_some()
    }
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    match (&args.url, &args.task) {
        (Some(url), _) => alone(call, args, url),
        (None, Some(task)) => of_task(call, args, task),
        (None, None) => Err(Failure::usage("post-deploy-probe needs a TASK or --url URL")),
    }
}

fn of_task(call: &Invocation, args: &Args, name: &str) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step_or_dry(call, "post-deploy-probe", Mode::Use, args.dry_run)?;
    let task = open::task(&mut ctx, name)?;
    let key = task.key.to_string();
    let post_deploy = ctx.project(&task.project)?.post_deploy.clone();
    if let Some((why, way_out)) = observe::refusal(&post_deploy, Some(&task)) {
        let why = format!("post-deploy-probe of {key} is refused: {why}");
        return Err(Failure::refused(why).task(key).hint(way_out));
    }
    if args.dry_run {
        let looks: Vec<String> = post_deploy.health.iter().map(|h| format!("probe {}", h.url)).collect();
        call.out.planned("post-deploy-probe", &looks);
        return Ok(Exit::Done);
    }
    let Some((record, result)) = observe::once(&mut ctx, &task)? else {
        let why = format!("another step is observing {key}");
        return Err(Failure::new(Exit::Broken, why).hint("run it again"));
    };
    ctx.report.extra.extend(show::fields(&record, &result));
    if let Some(last) = record.probes.last() {
        call.out.line(show::line(record.probes.len(), last, record.revision.as_deref()));
    }
    if !call.out.is_json() {
        for fault in &ctx.report.errors {
            call.out.failure(Some("post-deploy-probe"), &Failure::new(Exit::Broken, fault.message.clone()));
        }
    }
    ctx.report.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    call.out.say(&ctx.report, &show::verdict_line(&result));
    Ok(match result.status() {
        _ if !ctx.report.errors.is_empty() => Exit::Broken,
        Some(WatchStatus::Healthy | WatchStatus::Cancelled) | None => Exit::Done,
        Some(WatchStatus::Degraded) => Exit::Negative,
        Some(WatchStatus::Inconclusive) => Exit::Broken,
    })
}

fn alone(call: &Invocation, args: &Args, url: &str) -> CmdResult {
    let config = call.config_or_bare()?;
    let policy = standalone::watch(args.count, &config.post_deploy);
    let alone = Alone { url, count: args.count, interval_s: args.interval, policy: &policy, clock: clock::now };
    alone.check().map_err(Failure::usage)?;
    if let Some((why, way_out)) = observe::refusal(&config.post_deploy, None) {
        return Err(Failure::refused(format!("post-deploy-probe is refused: {why}")).hint(way_out));
    }
    if args.dry_run {
        let probes = format!("probe {url} {} times, one every {} s", args.count, args.interval);
        call.out.planned("post-deploy-probe", &[probes]);
        return Ok(Exit::Done);
    }
    let start = Instant::now();
    let signals = Signals::watch()?;
    let mut each = |n: usize, probe: &_| call.out.line(show::line(n, probe, None));
    let (record, result) = alone.watch(&|until| signals.wait_until(until), &mut each)?;
    let mut report = StepReport::new("post-deploy-probe");
    report.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.extra = show::fields(&record, &result);
    report.extra.insert("interrupted".into(), json!(signals.came()));
    if let (Classification::Healthy { .. }, Some(clean)) = (&result, show::all_clean(&record)) {
        call.out.line(show::proof(clean, start.elapsed().as_secs()));
    }
    call.out.say(&report, &show::verdict_line(&result));
    Ok(match result.status() {
        Some(WatchStatus::Healthy) => Exit::Done,
        Some(WatchStatus::Degraded) => Exit::Negative,
        Some(WatchStatus::Inconclusive | WatchStatus::Cancelled) | None => Exit::Broken,
    })
}
