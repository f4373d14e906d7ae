//! Runs on Slurm's nodes (CLU-1 to CLU-5): where a run's commands are executed with `executor: slurm`, and how a step
//! verifies that nothing of a run is left there.

use super::confine::Hold;
use super::{Ctx, tree};
use crate::adapters::child::ChildError;
use crate::adapters::executor::slurm::{self, Job, Ledger, Phase, Resources, Row};
use crate::adapters::process::{self, Life};
use crate::adapters::toolbox;
use crate::config::{Config, ExecutorKind, Project, Slurm, SlurmKind};
use crate::model::report::Rule;
use crate::model::status::HeldBy;
use crate::model::task::{Run, RunState};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a supervisor may take to end its job, in addition to the agents' grace period.
const ASKED: Duration = Duration::from_secs(100);
/// How long a stop waits until Slurm no longer knows a job, in addition to `settle_s`.
const GONE: Duration = Duration::from_secs(60);
/// The file with the hash of this program.
const KNOWN: &str = "confine/program";
const LOOK: Duration = Duration::from_millis(200);

/// Whether runs are executed on nodes.
pub fn is_on(config: &Config) -> bool {
    config.executor == ExecutorKind::Slurm
}

/// The same run, executed where the configuration says. `name`: the name of its jobs; `dir`: its folder in the state
/// directory.
///
/// # Errors
/// This machine lacks something for it (ORD-1).
pub fn place(ctx: &Ctx, project: &Project, hold: Hold, kind: SlurmKind, name: String, dir: &Path) -> Result<Hold> {
    if !is_on(&ctx.config) {
        return Ok(hold);
    }
    ready(ctx)?;
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let job = job(&ctx.config, &project.slurm.of(kind), name, dir)?;
    Ok(hold.elsewhere(Arc::new(job)))
}

/// The job that a run's commands become.
pub fn job(config: &Config, section: &Slurm, name: String, dir: &Path) -> Result<Job> {
    let work_dir = PathBuf::from(&config.slurm.work_dir);
    Ok(Job {
        name,
        resources: Resources {
            partition: section.partition.clone(),
            account: section.account.clone(),
            qos: section.qos.clone(),
            cpus: section.cpus,
            memory: section.memory.0.clone(),
            time: section.time.0.clone(),
            gres: section.gres.clone(),
            constraint: section.constraint.clone(),
            extra: section.extra.0.clone(),
        },
        answers: config.area_dir.join("nodes"),
        work_dir,
        dir: dir.to_owned(),
        known: config.state_dir.join(KNOWN),
        program: toolbox::own().context("finding this program's own file")?,
        settle_s: section.settle_s,
        silence_s: section.silence_s,
    })
}

/// Creates `slurm.work_dir` if it is missing. Fails if it can't be used, which is the environment's fault.
pub fn ready(ctx: &Ctx) -> Result<()> {
    if !is_on(&ctx.config) {
        return Ok(());
    }
    let root = rustix::process::geteuid().is_root();
    let made = slurm::make_ready(Path::new(&ctx.config.slurm.work_dir), root);
    made.map_err(|why| ChildError::Unavailable { why }.into())
}

/// The job that a run may still have.
pub fn of(ctx: &Ctx, run: &Run) -> Option<Ledger> {
    if is_on(&ctx.config) { Ledger::read(&ctx.paths.run(run.id)) } else { None }
}

/// Why the supervisor of a run left it undecided: Slurm did not say whether its job is gone (CLU-3c).
pub fn left(ctx: &Ctx, run: &Run) -> Option<String> {
    of(ctx, run)?.left
}

/// What then holds its task. `dir`: the run's folder.
pub fn undecided(dir: &Path) -> Option<HeldBy> {
    let ledger = Ledger::read(dir)?;
    let why = format!(
        "Slurm does not say whether the job {0} is gone ({1}); see that its controller answers: `squeue --name={0}`",
        ledger.name, ledger.left?
    );
    Some(HeldBy { rule: Rule::Environment, why, until: None })
}

/// Why a run's job waits in Slurm's queue, as Slurm calls it; `None`: it does not.
pub fn waits(dir: &Path) -> Option<String> {
    let ledger = Ledger::read(dir).filter(|l| l.phase == Phase::Queued)?;
    let reason = if ledger.reason.is_empty() { "asked for".to_owned() } else { ledger.reason };
    Some(reason)
}

/// Whether a run has worked for `longest_ms`; time in the queue does not count (CLU-4). `now` in wall milliseconds.
pub fn has_worked(ctx: &Ctx, run: &Run, longest_ms: i64, now: i64) -> bool {
    match of(ctx, run) {
        None => true,
        Some(ledger) => ledger.running_since.is_some_and(|at| now.saturating_sub(at) > longest_ms),
    }
}

/// Whether nothing is left in Slurm of a run whose supervisor is gone. Cancels what is left. Without an answer a later
/// step asks again.
pub fn is_over(ctx: &mut Ctx, run: &Run) -> Result<bool> {
    let Some(ledger) = of(ctx, run) else { return Ok(true) };
    // End srun and its child first: they would keep waiting for a job in the queue.
    tree::end(ctx, std::slice::from_ref(run), &[], ctx.config.agents.stop_grace_s)?;
    let dir = ctx.paths.run(run.id);
    Ok(look(ctx, &dir, ledger))
}

fn look(ctx: &mut Ctx, dir: &Path, mut ledger: Ledger) -> bool {
    let Some(rows) = rows(ctx) else { return false };
    let there = rows.iter().any(|row| row.name == ledger.name);
    if there && let Err(e) = slurm::cancel(&ledger.name) {
        tracing::warn!("{}: {e}", ledger.name);
    }
    if ledger.seen(there, (ctx.clock)().wall_ms) {
        Ledger::close(dir);
        return true;
    }
    if let Err(e) = ledger.write(dir) {
        tracing::warn!("{}: {e}", dir.display());
    }
    false
}

/// Lists the queue once for all runs of a step.
fn rows(ctx: &mut Ctx) -> Option<Vec<Row>> {
    if ctx.queue.rows.is_none() {
        let names: Vec<String> = ledgers(ctx).into_iter().map(|(_, ledger)| ledger.name).collect();
        let asked = slurm::list(&names);
        if let Err(e) = &asked {
            tracing::warn!("Slurm does not report the state of its jobs: {e}");
        }
        ctx.queue.rows = Some(asked.ok());
    }
    ctx.queue.rows.clone().flatten()
}

/// Every ledger that runs left open, with its folder.
fn ledgers(ctx: &Ctx) -> Vec<(PathBuf, Ledger)> {
    let entries = std::fs::read_dir(ctx.paths.root().join("runs")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), Ledger::read(&entry.path())?))).collect()
}

/// Deletes the programs in `work_dir` that no job runs and that are not this one.
pub fn prune(ctx: &Ctx) -> Vec<PathBuf> {
    if !is_on(&ctx.config) || ctx.dry {
        return Vec::new();
    }
    let work_dir = PathBuf::from(&ctx.config.slurm.work_dir);
    let mut used: BTreeSet<PathBuf> = ledgers(ctx).into_iter().map(|(_, ledger)| ledger.program).collect();
    let own = toolbox::own();
    match own.and_then(|own| slurm::place(&own, &work_dir, &ctx.config.state_dir.join(KNOWN))) {
        Ok(path) => used.insert(path),
        // If this program's own file is unknown, nothing is deleted.
        Err(_) => return Vec::new(),
    };
    slurm::prune(&work_dir, ctx.paths.area(), &used)
}

/// Ends what settled runs left in Slurm because its controller did not answer at the time.
pub fn tidy(ctx: &mut Ctx) -> Result<()> {
    if !is_on(&ctx.config) || ctx.dry {
        return Ok(());
    }
    let open: Vec<PathBuf> = ctx
        .store
        .read(|tx| tx.open_runs())?
        .iter()
        .filter(|run| run.state != RunState::Settled)
        .map(|run| ctx.paths.run(run.id))
        .collect();
    for (dir, ledger) in ledgers(ctx) {
        if !open.contains(&dir) {
            look(ctx, &dir, ledger);
        }
    }
    Ok(())
}

/// Ends the jobs of these runs and verifies that they are gone: through the supervisor if it is alive, else through
/// Slurm.
///
/// # Errors
/// A job could not be verified as gone.
pub fn end(ctx: &mut Ctx, runs: &[Run]) -> Result<()> {
    let grace = ctx.config.agents.stop_grace_s;
    let with: Vec<Run> = runs.iter().filter(|run| of(ctx, run).is_some()).cloned().collect();
    let lives = |run: &Run| run.supervisor.as_ref().is_some_and(|s| process::life(s) == Life::Alive);
    for run in with.iter().filter(|run| lives(run)) {
        slurm::ask_to_end(&ctx.paths.run(run.id)).with_context(|| format!("asking run {} to end", run.id))?;
    }
    let begun = Instant::now();
    let bound = Duration::from_secs(grace) + ASKED;
    while with.iter().any(|run| lives(run) && of(ctx, run).is_some_and(|l| l.phase != Phase::Over))
        && begun.elapsed() < bound
    {
        // Its death wakes this; its ledger is read again meanwhile.
        match with.iter().find(|run| lives(run)).and_then(|run| run.supervisor.as_ref()) {
            Some(supervisor) => {
                process::await_end(supervisor, LOOK);
            }
            None => break,
        }
    }
    for run in &with {
        let settle = Duration::from_secs(of(ctx, run).map_or(0, |l| l.settle_s));
        let begun = Instant::now();
        while !is_over(ctx, run)? {
            if begun.elapsed() >= settle + GONE {
                bail!(
                    "Slurm does not confirm that the job {} is gone; check `squeue --name={0}`, then repeat the step",
                    ctx.paths.unit(run.id, false)
                );
            }
            // Slurm signals the end of a job to nobody but its own srun: the queue is polled.
            std::thread::sleep(LOOK * 5);
            ctx.queue = super::memory::Queue::default();
        }
    }
    Ok(())
}
