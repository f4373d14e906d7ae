//! Runs a build, confined, and copies its output as data to a place where no run can write (BND-3). Only the operator's
//! commands get it; nothing from the branch runs with this account's rights.

use super::bench::{Bench, By, Order, ran};
use crate::adapters::child::{ChildError, Exit};
use crate::adapters::git::files::remove;
use crate::adapters::git::output::{LIMITS, Output, Took, of, take};
use crate::config::CommandLine;
use crate::decide::ran::{OfCommand, of_command};
use crate::engine::Ctx;
use crate::engine::area::{AreaKind, Folders};
use crate::engine::cache::Caches;
use crate::model::evidence::{BuildOutput, EvidenceVerdict};
use crate::model::gate::Gate;
use crate::model::ids::{RunId, Sha};
use crate::model::stage::JobKind;
use crate::model::task::{Evidence, Run, Task};
use crate::model::text::clip;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The variable that names the output folder to a build, and the copy to the command that gets it.
const OUTPUT: &str = "ORCH_BUILD_OUTPUT";
pub(super) const INPUT: &str = "ORCH_DEPLOY_INPUT";

/// The result of a build.
pub(super) enum Made {
    Output(PathBuf, Output),
    /// The commit's fault, with the reason and the log's name.
    Red(String, &'static str),
    /// This machine lacks what is named. This says nothing about the commit, and the build is retried for as long as
    /// that lasts (RULE-45).
    Environment(String),
    /// This says nothing about the commit, but a branch can cause it, so it is retried only a few times.
    Unsaid(String),
}

/// Where the output of a build is stored.
fn place(ctx: &Ctx, run: RunId) -> PathBuf {
    ctx.paths.run(run).join("output")
}

/// Runs `worktree.setup`, then the build, in a new checkout in folders of their own. `key`: which build it is. Leaves
/// the bench at those folders, with everything deleted.
///
/// # Errors
/// A fault of this machine, including the engine; the job is retried.
pub(super) fn make(ctx: &mut Ctx, bench: &mut Bench, run: &Run, key: &str, build: &CommandLine) -> Result<Made> {
    bench.folders = Folders::of_run(&ctx.paths, &bench.task, AreaKind::Build, run.id);
    bench.caches = Caches::of_task(ctx, &bench.project, &bench.task, AreaKind::Build, None)?;
    bench.checkout_for(ctx, run)?;
    let made = made(ctx, bench, run, key, build);
    bench.clear()?;
    bench.caches = Caches::default();
    made
}

fn made(ctx: &Ctx, bench: &Bench, run: &Run, key: &str, build: &CommandLine) -> Result<Made> {
    let set_up = bench.set_up(ctx, run)?;
    if let Some(no) = set_up.and_then(|ran| judged("worktree.setup", "setup.log", &ran)) {
        return Ok(no);
    }
    // Setup may have left something in its place.
    let dir = bench.folders.tmp.join("build-output");
    remove(&dir)?;
    std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
    let limit = Duration::from_millis(build.timeout_ms());
    let further = [(OUTPUT, OsString::from(&dir))];
    let order =
        Order { name: "build", argv: &build.command, env: &build.env, limit, further: &further, by: By::Branch };
    let ran = bench.start(ctx, run, &order)?;
    if let Some(other) = judged(key, "build.log", &ran) {
        return Ok(other);
    }
    let to = place(ctx, run.id);
    let owner = bench.hold(ctx, run)?.owner();
    Ok(match take(&dir, &to, owner, LIMITS) {
        Err(e) => {
            let why = format!("the output of {key} can't be saved: {e}");
            if is_full(&e) { Made::Environment(why) } else { Made::Unsaid(why) }
        }
        Ok(Took::Whole(output)) => Made::Output(to, output),
        Ok(Took::Broken(broken)) => {
            let shown: Vec<String> = broken.iter().take(20).map(|b| clip(&b.to_string(), 300)).collect();
            Made::Red(format!("{key} may not leave {}", shown.join(", ")), "build.log")
        }
    })
}

/// What a failed command says; `None`: it passed.
pub(super) fn judged(key: &str, log: &'static str, end: &Result<Exit, ChildError>) -> Option<Made> {
    match of_command(key, &ran(end)) {
        OfCommand::Passed => None,
        OfCommand::Red { why } => Some(Made::Red(why, log)),
        OfCommand::Environment { why } => Some(Made::Environment(why)),
        OfCommand::Unsaid { why } => Some(Made::Unsaid(why)),
    }
}

/// Whether the disk is full.
fn is_full(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Deletes the output of earlier builds of a task.
pub(super) fn forget(ctx: &mut Ctx, task: &Task) -> Result<()> {
    let runs = ctx.store.read(|tx| tx.runs_of(task.id))?;
    for run in runs.iter().filter(|r| r.kind == JobKind::Build) {
        remove(&place(ctx, run.id))?;
    }
    Ok(())
}

/// A build's output, for its row.
pub(super) fn kept(output: &Output) -> BuildOutput {
    BuildOutput { sha256: output.sha256.clone(), files: output.files, bytes: output.bytes }
}

/// The build that passed on a head: where its output is, and what it was when it was copied.
fn recorded(ctx: &mut Ctx, task: &Task, head: &Sha) -> Result<(PathBuf, BuildOutput)> {
    let rows = ctx.store.read(|tx| tx.evidence_of(task.id))?;
    let passed = |e: &&Evidence| e.subject == Gate::DeployBuild && e.verdict == EvidenceVerdict::Pass;
    let row = rows.iter().rev().filter(passed).find(|e| e.sha == *head);
    let found = row.and_then(|row| {
        let output = row.detail.of_code()?.output.clone()?;
        Some((place(ctx, row.run_id?), output))
    });
    found.with_context(|| {
        format!(
            "deploy.build has not passed on {}; without it in the configuration, the landed code is deployed",
            head.short()
        )
    })
}

/// The input of a head's deploy command. Fails if it is gone or differs from what the build left.
pub(super) fn input(ctx: &mut Ctx, task: &Task, head: &Sha) -> Result<PathBuf> {
    let (path, output) = recorded(ctx, task, head)?;
    let seen = of(&path).with_context(|| format!("reading the output of deploy.build in {}", path.display()))?;
    if kept(&seen) != output {
        bail!("{} is not the output of deploy.build any more: it was changed", path.display());
    }
    Ok(path)
}

/// Whether the build's output for a head is gone and must be rebuilt before anything lands.
pub fn is_gone(ctx: &mut Ctx, task: &Task, head: &Sha) -> bool {
    recorded(ctx, task, head).is_ok_and(|(path, _)| !path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::child::EndedBy;

    #[test]
    fn a_program_that_is_missing_is_the_machines_fault_and_a_no_is_the_commits() {
        let exit = |code, ended_by| Exit { code, signal: None, ended_by, duration_ms: 1, stdout_bytes: 0, lost: None };
        let said = |exit: Exit| match judged("deploy.build", "build.log", &Ok(exit)) {
            None => "passed".to_owned(),
            Some(Made::Red(why, _)) => format!("red {why}"),
            Some(Made::Environment(why)) => format!("environment {why}"),
            Some(Made::Unsaid(why)) => format!("unsaid {why}"),
            Some(Made::Output(..)) => unreachable!(),
        };
        assert_eq!(said(exit(Some(0), None)), "passed");
        assert_eq!(said(exit(Some(1), None)), "red deploy.build: exit 1");
        assert_eq!(said(exit(Some(0), Some(EndedBy::Asked("seal".into())))), "red deploy.build: seal");
        assert_eq!(said(exit(None, Some(EndedBy::Wall))), "red deploy.build: its time was up");
        for code in [126, 127] {
            assert!(said(exit(Some(code), None)).starts_with(&format!("environment deploy.build: exit {code}")));
        }
        // A branch's code can end itself like this, so the retries have a bound.
        assert!(said(exit(None, None)).starts_with("unsaid deploy.build was killed"));
        let none = Err(ChildError::NotFound { program: "x".into(), searched: "PATH".into() });
        assert!(matches!(judged("deploy.build", "build.log", &none), Some(Made::Environment(_))));
        let file = |kind| Err(ChildError::File { what: "build.log".into(), source: std::io::Error::from(kind) });
        let full = file(std::io::ErrorKind::StorageFull);
        assert!(matches!(judged("deploy.build", "build.log", &full), Some(Made::Environment(_))));
        let denied = file(std::io::ErrorKind::PermissionDenied);
        assert!(matches!(judged("deploy.build", "build.log", &denied), Some(Made::Unsaid(_))));
    }
}
