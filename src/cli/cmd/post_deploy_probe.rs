//! `orch post-deploy-probe` (SHIP-6).

use crate::adapters::probe::{ProbeCtx, watch as watch_probe};
use crate::adapters::store::Mode;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, clock, open, signals::Signals};
use crate::config::standalone;
use crate::decide::watch::{append, classify};
use crate::engine::{outbox, watch};
use crate::model::probe::{HealthSpec, WatchTarget};
use crate::model::report::StepReport;
use crate::model::watch::{Classification, MAX_PROBES, WatchPolicy, WatchRecord, WatchStatus};
use crate::render::watch as show;
use anyhow::Context;
use serde_json::json;
use std::time::{Duration, Instant};

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

/// Longest wait for one answer in the stand-alone watch, in milliseconds.
const TIMEOUT_MS: u64 = 5_000;

/// Watches a URL, or observes a task's deploy once.
pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    match (&args.url, &args.task) {
        (Some(url), _) => alone(call, args, url),
        (None, Some(task)) => of_task(call, args, task),
        (None, None) => Err(Failure::usage("post-deploy-probe needs a TASK or --url URL")),
    }
}

/// One observation of a task's deploy, appended to its `post-deploy.json`; ends the watch if that decides it.
fn of_task(call: &Invocation, args: &Args, name: &str) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step_or_dry(call, "post-deploy-probe", Mode::Use, args.dry_run)?;
    let task = open::task(&mut ctx, name)?;
    let key = task.key.to_string();
    let project = ctx.project(&task.project)?.clone();
    let refused =
        |why: String| Failure::refused(format!("post-deploy-probe of {key} is refused: {why}")).task(key.clone());
    if !project.post_deploy.enabled {
        return Err(refused("post_deploy.enabled is off".to_owned()).hint("unset ORCH_POST_DEPLOY_ENABLED"));
    }
    if task.watch.is_none() {
        let why = format!("it has no watch, because it is in {}", task.stage);
        return Err(refused(why).hint("a watch is armed when a task of a watched project is done"));
    }
    if args.dry_run {
        let looks: Vec<String> = project.post_deploy.health.iter().map(|h| format!("probe {}", h.url)).collect();
        call.out.planned("post-deploy-probe", &looks);
        return Ok(Exit::Done);
    }
    let held = watch::hold(&ctx, &task)?;
    if held.is_none() {
        return Err(Failure::new(Exit::Broken, format!("another step is observing {key}")).hint("run it again"));
    }
    let dir = tempfile::tempdir().context("creating a folder for the probe")?;
    let policy = project.watch_policy();
    let (record, ended) = if task.is_watched() {
        let (record, ended, _) = watch::step(&mut ctx, &task, dir.path(), true)?;
        if let Some(c) = &ended {
            watch::close(&mut ctx, &task, record.clone(), c, dir.path(), "by-hand")?;
        }
        (record, ended)
    } else {
        let record = watch::record(&mut ctx, &task)?;
        let c = classify(&record, &policy, true);
        (record, Some(c))
    };
    outbox::deliver(&mut ctx);
    let result = ended.unwrap_or(Classification::Pending);
    let word = result.status().map_or("PENDING", |s| s.as_str());
    let revision = record.revision.as_deref();
    let extra = &mut ctx.report.extra;
    extra.insert("verdict".into(), word.into());
    extra.insert("classification".into(), word.into());
    extra.insert("why".into(), json!(result.why()));
    extra.insert("probes".into(), show::probes_json(&record.probes, revision));
    if !call.out.is_json() {
        if let Some(last) = record.probes.last() {
            call.out.line(show::line(record.probes.len(), last, revision));
        }
        for fault in &ctx.report.errors {
            call.out.failure(Some("post-deploy-probe"), &Failure::new(Exit::Broken, fault.message.clone()));
        }
        call.out.line(show::verdict_line(&result));
    }
    let exit = match result.status() {
        Some(WatchStatus::Healthy | WatchStatus::Cancelled) | None => Exit::Done,
        Some(WatchStatus::Degraded) => Exit::Negative,
        Some(WatchStatus::Inconclusive) => Exit::Broken,
    };
    ctx.report.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    if call.out.is_json() {
        call.out.document(&ctx.report);
    }
    Ok(if ctx.report.errors.is_empty() { exit } else { Exit::Broken })
}

fn alone(call: &Invocation, args: &Args, url: &str) -> CmdResult {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Failure::usage(format!("--url is {url:?}, expected http:// or https://")));
    }
    if !(0.0..=86_400.0).contains(&args.interval) {
        return Err(Failure::usage(format!("--interval is {}, expected 0 to 86400 seconds", args.interval)));
    }
    let config = call.config_or_bare()?;
    let policy = standalone::watch(args.count, &config.post_deploy);
    if !config.post_deploy.enabled {
        return Err(Failure::refused("post-deploy-probe is refused: post_deploy.enabled is off")
            .hint("unset ORCH_POST_DEPLOY_ENABLED"));
    }
    if args.dry_run {
        let watch_probe = format!("probe {url} {} times, one every {} s", args.count, args.interval);
        call.out.planned("post-deploy-probe", &[watch_probe]);
        return Ok(Exit::Done);
    }
    let start = Instant::now();
    let signals = Signals::watch()?;
    let health = HealthSpec {
        url: url.to_owned(),
        expect_status: None,
        expect_body: String::new(),
        max_latency_ms: 0,
        timeout_ms: TIMEOUT_MS,
    };
    let target = WatchTarget { health: vec![health], ..WatchTarget::default() };
    let home = tempfile::tempdir().context("creating an empty home folder")?;
    let checkout = std::env::current_dir().context("finding the current folder")?;
    let ctx = ProbeCtx {
        checkout,
        home: home.path().to_owned(),
        env: Vec::new(),
        own: None,
        confined: None,
        sealed: Vec::new(),
    };
    let record = observe_all(call, args, &target, &policy, &ctx, &signals);
    let result = classify(&record, &policy, true);
    let mut report = StepReport::new("post-deploy-probe");
    report.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let word = result.status().map_or("PENDING", |s| s.as_str());
    report.extra.insert("verdict".into(), word.into());
    report.extra.insert("classification".into(), word.into());
    report.extra.insert("why".into(), json!(result.why()));
    report.extra.insert("interrupted".into(), json!(signals.came()));
    report.extra.insert("probes".into(), show::probes_json(&record.probes, None));
    if call.out.is_json() {
        call.out.document(&report);
    } else {
        if let Classification::Healthy { .. } = result {
            let seconds = start.elapsed().as_secs();
            let clean =
                record.probes.iter().filter(|p| crate::model::seen::judge(p, None) == crate::model::seen::Seen::Well);
            let clean = clean.count();
            if clean == record.probes.len() {
                call.out.line(show::proof(clean, seconds));
            }
        }
        call.out.line(show::verdict_line(&result));
    }
    Ok(match result.status() {
        Some(WatchStatus::Healthy) => Exit::Done,
        Some(WatchStatus::Degraded) => Exit::Negative,
        Some(WatchStatus::Inconclusive | WatchStatus::Cancelled) | None => Exit::Broken,
    })
}

/// Probes until the count is reached, it is DEGRADED, or a signal arrives.
fn observe_all(
    call: &Invocation,
    args: &Args,
    target: &WatchTarget,
    policy: &WatchPolicy,
    ctx: &ProbeCtx,
    signals: &Signals,
) -> WatchRecord {
    let mut record = WatchRecord::armed(0, 1, "alone", None, clock::now(), Vec::new());
    let interval = Duration::from_secs_f64(args.interval);
    let mut due = Instant::now();
    for n in 1..=args.count {
        if signals.wait_until(due) {
            break;
        }
        let probe = watch_probe::observe(target, ctx, clock::now());
        call.out.line(show::line(usize::try_from(n).unwrap_or(usize::MAX), &probe, None));
        record = append(record, probe, policy);
        if record.latched.is_some() {
            break;
        }
        // From the time it was due, so that slow answers do not stretch the watch; a late probe starts at once.
        due = (due + interval).max(Instant::now());
    }
    record
}
