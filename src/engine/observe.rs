//! What `orch post-deploy-probe` observes (SHIP-6): a task's deploy once, or a URL without any task.

use super::{Ctx, outbox, watch};
use crate::adapters::probe::{ProbeCtx, watch as watch_probe};
use crate::config::PostDeploy;
use crate::decide::watch::{append, classify};
use crate::model::probe::{HealthSpec, WatchTarget};
use crate::model::task::Task;
use crate::model::time::Stamp;
use crate::model::watch::{Classification, Probe, WatchPolicy, WatchRecord};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// Longest wait for one answer of a URL without a task, in milliseconds.
const TIMEOUT_MS: u64 = 5_000;

/// Why nothing may be observed, and the way out. `task`: whose deploy; `None`: a URL alone.
pub fn refusal(settings: &PostDeploy, task: Option<&Task>) -> Option<(String, &'static str)> {
    if !settings.enabled {
        return Some(("post_deploy.enabled is off".to_owned(), "unset ORCH_POST_DEPLOY_ENABLED"));
    }
    let task = task.filter(|t| t.watch.is_none())?;
    let why = format!("it has no watch, because it is in {}", task.stage);
    Some((why, "a watch is armed when a task of a watched project is done"))
}

/// Observes a task's deploy once, adds that to its `post-deploy.json`, and ends the watch if it decides it. `None`:
/// another step is observing it at this moment. A watch that has ended is classified as it stands.
pub fn once(ctx: &mut Ctx, task: &Task) -> Result<Option<(WatchRecord, Classification)>> {
    let Some(_held) = watch::hold(ctx, task)? else { return Ok(None) };
    let dir = tempfile::tempdir().context("creating a folder for the probe")?;
    let policy = ctx.project(&task.project)?.watch_policy();
    let seen = if task.is_watched() {
        let (record, ended, _) = watch::step(ctx, task, dir.path(), true)?;
        if let Some(c) = &ended {
            watch::close(ctx, task, record.clone(), c, dir.path(), "by-hand")?;
        }
        (record, ended.unwrap_or(Classification::Pending))
    } else {
        let record = watch::record(ctx, task)?;
        let c = classify(&record, &policy, true);
        (record, c)
    };
    outbox::deliver(ctx);
    Ok(Some(seen))
}

/// A watch over a URL alone.
#[derive(Debug)]
pub struct Alone<'a> {
    pub url: &'a str,
    /// How many probes at most.
    pub count: u64,
    /// Seconds between two probes.
    pub interval_s: f64,
    pub policy: &'a WatchPolicy,
    pub clock: fn() -> Stamp,
}

impl Alone<'_> {
    /// Fails with what is wrong with the URL or the interval.
    pub fn check(&self) -> Result<(), String> {
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return Err(format!("--url is {:?}, expected http:// or https://", self.url));
        }
        if !(0.0..=86_400.0).contains(&self.interval_s) {
            return Err(format!("--interval is {}, expected 0 to 86400 seconds", self.interval_s));
        }
        Ok(())
    }

    /// Probes until the count is reached, it is DEGRADED, or `wait` (until then; whether to end) ends it. `each` gets
    /// every probe with its number, from 1.
    pub fn watch(
        &self,
        wait: &dyn Fn(Instant) -> bool,
        each: &mut dyn FnMut(usize, &Probe),
    ) -> Result<(WatchRecord, Classification)> {
        let home = tempfile::tempdir().context("creating an empty home folder")?;
        let checkout = std::env::current_dir().context("finding the current folder")?;
        let home_path = home.path().to_owned();
        let ctx = ProbeCtx { checkout, home: home_path, env: vec![], own: None, confined: None, sealed: vec![] };
        let health = HealthSpec {
            url: self.url.to_owned(),
            expect_status: None,
            expect_body: String::new(),
            max_latency_ms: 0,
            timeout_ms: TIMEOUT_MS,
        };
        let target = WatchTarget { health: vec![health], ..WatchTarget::default() };
        let mut record = WatchRecord::armed(0, 1, "alone", None, (self.clock)(), Vec::new());
        let (interval, mut due) = (Duration::from_secs_f64(self.interval_s), Instant::now());
        for n in 1..=self.count {
            if wait(due) {
                break;
            }
            let probe = watch_probe::observe(&target, &ctx, (self.clock)());
            each(usize::try_from(n).unwrap_or(usize::MAX), &probe);
            record = append(record, probe, self.policy);
            if record.latched.is_some() {
                break;
            }
            // From the time it was due, so that slow answers do not stretch the watch; a late probe starts at once.
            due = (due + interval).max(Instant::now());
        }
        let result = classify(&record, self.policy, true);
        Ok((record, result))
    }
}
