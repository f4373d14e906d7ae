//! Starts supervisors: this program again, in a unit of its own, with what it is given to know.

use super::{Ctx, run_files};
use crate::adapters::executor::{Executor, ExecutorError, Kind, Limits, Start};
use crate::adapters::{git, toolbox};
use crate::config::ExecutorKind;
use crate::decide::units;
use crate::model::ids::RunId;
use crate::model::stage::JobKind;
use crate::model::task::Run;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::time::Duration;

/// By when a claimed job's supervisor must have reported.
pub const START_MS: i64 = 20_000;

/// A claim's token, different from all others.
pub fn new_token() -> String {
    let mut bytes = [0_u8; 16];
    if rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).is_err() {
        // A token only has to differ from all others; time and process id ensure that if randomness fails.
        let mixed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        bytes = (mixed ^ (u128::from(std::process::id()) << 96)).to_le_bytes();
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Starts a supervisor that outlives this process.
pub fn spawn(ctx: &Ctx, run: &Run) -> Result<()> {
    let dir = ctx.paths.run(run.id);
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let answers = git::answers();
    if !answers.is_empty() {
        // Answers less than a second old count for the supervisor that is started now (RULE-31).
        run_files::write_private(&dir.join(ANSWERS), &serde_json::to_vec(&answers)?)?;
    }
    launch(ctx, run, &[])
}

/// The file that passes the remote's recent answers to a new supervisor.
const ANSWERS: &str = "answers.json";

/// Reads them in the supervisor. If that fails, it asks the remote.
pub fn hear_answers(ctx: &Ctx, run: RunId) {
    let path = ctx.paths.run(run).join(ANSWERS);
    let Ok(bytes) = std::fs::read(&path) else { return };
    git::adopt(serde_json::from_slice(&bytes).unwrap_or_default());
    if let Err(e) = std::fs::remove_file(&path) {
        tracing::debug!("{} stays: {e}", path.display());
    }
}

/// Starts a supervisor with further arguments on its command line.
pub fn launch(ctx: &Ctx, run: &Run, further: &[&str]) -> Result<()> {
    let mut words: Vec<OsString> = vec!["run-job".into(), run.id.to_string().into()];
    words.extend(further.iter().map(OsString::from));
    let log = ctx.paths.run(run.id).join("supervisor.log");
    launch_as(ctx, ctx.paths.unit(run.id, !further.is_empty()), &words, log, run.kind)
}

/// Starts this program in its own unit; the arguments precede the global options.
pub fn launch_as(
    ctx: &Ctx,
    unit: String,
    words: &[OsString],
    log: std::path::PathBuf,
    kind_of_job: JobKind,
) -> Result<()> {
    let kind = match ctx.config.executor {
        ExecutorKind::Auto | ExecutorKind::Slurm => Kind::Auto,
        ExecutorKind::Systemd => Kind::Systemd,
        ExecutorKind::Detach => Kind::Detach,
    };
    let executor = Executor::resolve(kind)?;
    let mut argv: Vec<OsString> = vec![toolbox::own().context("finding this program's own file")?.into()];
    argv.extend(words.iter().cloned());
    argv.extend(ctx.global_args.iter().cloned());
    let secrets = ctx.config.variables();
    let start = Start {
        unit,
        argv,
        env: std::env::vars_os().filter(|(name, _)| !name.to_str().is_some_and(|n| secrets.contains_key(n))).collect(),
        fetch: Duration::from_millis(u64::try_from(START_MS).unwrap_or_default()),
        secrets,
        cwd: ctx.paths.root().to_owned(),
        log,
        limits: limits(ctx, kind_of_job),
    };
    match executor.start(&start) {
        Ok(()) | Err(ExecutorError::AlreadyRunning { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The limits of a unit (RUN-4).
fn limits(ctx: &Ctx, kind: JobKind) -> Limits {
    let config = &ctx.config;
    let set = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let settings = units::Settings {
        reaped: config.reaper.enabled,
        max_running_s: config.reaper.max_running_s,
        interval_s: config.reaper.interval_s,
        stop_grace_s: config.agents.stop_grace_s,
    };
    let bounds = units::bounds(kind, &settings);
    Limits {
        memory_max: set(&config.executor_limits.memory_max.0),
        cpu_quota: set(&config.executor_limits.cpu_quota.0),
        tasks_max: Some(config.executor_limits.tasks_max).filter(|n| *n > 0).map(u64::from),
        runtime_max_s: bounds.runtime_max_s,
        stop_timeout_s: bounds.stop_timeout_s,
        writable: bounds.sandboxed.then(|| config.writable()),
        properties: if bounds.main_process_only { vec!["KillMode=process".to_owned()] } else { Vec::new() },
    }
}
