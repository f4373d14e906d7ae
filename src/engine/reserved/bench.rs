//! Where a reserved job works, how it starts configured commands, and how its answer becomes a row.

use crate::adapters::child::{self, ChildError, Control, EndedBy, Exit, Spec};
use crate::adapters::confine::Boundary;
use crate::adapters::git::files::Seals;
use crate::adapters::git::shared::Shared;
use crate::adapters::git::{CheckoutPlan, Documents};
use crate::adapters::probe::Confined;
use crate::adapters::store::NewEvidence;
use crate::config::{EnvValue, Project, SlurmKind, exposed};
use crate::engine::area::{AreaKind, Folders};
use crate::engine::cache::Caches;
use crate::engine::confine::{self, Further, Hold};
use crate::engine::run_env::{MARK, child_env};
use crate::engine::settle::Settlement;
use crate::engine::{Ctx, base, bound, cluster, operator, projects};
use crate::model::artefact::Artefact;
use crate::model::evidence::{BoundFile, Code, EvidenceDetail, EvidenceVerdict};
use crate::model::finding::Finding;
use crate::model::gate::Gate;
use crate::model::ids::Sha;
use crate::model::ran::{Ended, Ran};
use crate::model::stage::JobKind;
use crate::model::task::{Run, Task};
use anyhow::{Context, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const CAP: u64 = 64 << 20;
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// Where a reserved job works.
pub(super) struct Bench {
    pub(super) task: Task,
    pub(super) project: Project,
    pub(super) ground: base::Ground,
    /// The commit in question.
    pub(super) subject: Sha,
    pub(super) dir: PathBuf,
    pub(super) folders: Folders,
    /// The protected scripts in the current checkout, as they were written into it.
    pub(super) scripts: RefCell<Vec<PathBuf>>,
    pub(super) caches: Caches,
}

pub(super) fn bench(ctx: &mut Ctx, run: &Run) -> Result<Bench> {
    let ground = base::ensure(ctx, run.task_id)?;
    let job = ctx.store.read(|tx| tx.job(run.job_id))?;
    let task = ground.task.clone();
    let project = ctx.project(&task.project)?.clone();
    let subject = job.subject.or_else(|| task.head_sha.clone()).context("the job names no commit")?;
    let dir = ctx.paths.run(run.id);
    // The commands that query staging and deploy to it are the operator's; the build has its own folders.
    let kind = match run.kind {
        JobKind::Ci => Some(AreaKind::Ci),
        JobKind::Staging => Some(AreaKind::Staging),
        JobKind::Build
        | JobKind::Agent
        | JobKind::Scan
        | JobKind::Deploy
        | JobKind::DeployFinalizer
        | JobKind::PostDeployMonitor => None,
    };
    let folders = kind
        .map_or_else(|| Folders::of_operator(&dir, "work"), |kind| Folders::of_run(&ctx.paths, &task, kind, run.id));
    // Only the head's code tree is known; for another commit no cache is kept.
    let tree = task.head_tree.clone().filter(|_| task.head_sha.as_ref() == Some(&subject));
    let caches = kind.map(|kind| Caches::of_task(ctx, &project, &task, kind, tree.as_deref())).transpose()?;
    let caches = caches.unwrap_or_default();
    Ok(Bench { task, project, ground, subject, dir, folders, caches, scripts: RefCell::default() })
}

/// A configured command to run.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    /// The name of its log.
    pub(super) name: &'a str,
    pub(super) argv: &'a [String],
    pub(super) env: &'a BTreeMap<String, EnvValue>,
    pub(super) limit: Duration,
    /// Additional variables.
    pub(super) further: &'a [(&'a str, OsString)],
    pub(super) by: By,
}

/// The owner of a configured command (BND-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The operator's: processes it leaves running stay.
    Operator,
    /// The branch's code.
    Branch,
}

impl Bench {
    /// New folders with a checkout of the subject (R2); the scripts that configured commands name come from the default
    /// branch (RULE-23), and it contains no artefact of a work item.
    pub(super) fn checkout(&self) -> Result<PathBuf> {
        self.checkout_with(None)
    }

    /// The same for commands of the branch only, which read a large history from its shared place.
    pub(super) fn checkout_for(&self, ctx: &Ctx, run: &Run) -> Result<PathBuf> {
        // If nothing can confine the run, its start reports that.
        let hold = self.hold(ctx, run).ok();
        let (mirror, tip) = (&self.ground.mirror, &self.ground.default_sha);
        let shared = hold.map(|hold| hold.shared(&self.project, mirror, tip)).transpose()?.flatten();
        self.checkout_with(shared.as_ref())
    }

    pub(super) fn checkout_with(&self, shared: Option<&Shared>) -> Result<PathBuf> {
        let scripts = self.project.scripts();
        let plan = CheckoutPlan {
            shared,
            branch: self.task.branch.as_deref(),
            default: Some((&self.ground.default_branch, &self.ground.default_sha)),
            author: Some(&projects::author(&self.project)),
            scripts: Some((&self.ground.default_sha, &scripts)),
            documents: Documents::LeftOut,
            ..CheckoutPlan::of(&self.subject)
        };
        self.folders.renew()?;
        self.scripts.replace(self.ground.mirror.check_out(&self.folders.checkout, &plan)?.scripts);
        self.caches.give(&self.folders);
        Ok(self.folders.checkout.clone())
    }

    /// Saves the caches of what ran here and deletes its folders.
    pub(super) fn clear(&self) -> Result<()> {
        self.caches.keep(&self.folders);
        self.folders.delete()
    }

    /// New folders with only the protected scripts, for an operator's command that gets a build's output (BND-3).
    pub(super) fn scripts_alone(&self) -> Result<()> {
        self.folders.renew()?;
        let (from, paths) = (&self.ground.default_sha, self.project.scripts());
        let made = self.ground.mirror.scripts_alone(&self.folders.checkout, from, &paths)?;
        self.scripts.replace(made.scripts);
        Ok(())
    }

    /// Runs `worktree.setup` in the current checkout, logging to `setup.log` (ORD-1); `None`: it is not configured, or
    /// it passed.
    pub(super) fn set_up(&self, ctx: &Ctx, run: &Run) -> Result<Option<Result<Exit, ChildError>>> {
        let Some(setup) = &self.project.worktree.setup else { return Ok(None) };
        let limit = Duration::from_millis(setup.timeout_ms());
        let order = Order { name: "setup", argv: &setup.command, env: &setup.env, limit, further: &[], by: By::Branch };
        let ran = self.start(ctx, run, &order)?;
        Ok(Some(ran).filter(|ran| !ran.as_ref().is_ok_and(|exit| exit.code == Some(0) && exit.ended_by.is_none())))
    }

    /// Runs a configured command in the current checkout, logging to `<name>.log`.
    pub(super) fn start(&self, ctx: &Ctx, run: &Run, order: &Order<'_>) -> Result<Result<Exit, ChildError>> {
        let spec = self.prepare(ctx, run, order)?;
        let seals = Seals::of(self.scripts.borrow().clone());
        let go = &mut |_: child::Event<'_>| Control::Go;
        let ran = match order.by {
            By::Operator => child::run_outliving(&spec, go),
            By::Branch => match child::run(&spec, go) {
                // Nothing ran, so this says nothing about the branch.
                Err(
                    e @ (ChildError::Confinement { .. }
                    | ChildError::Unavailable { .. }
                    | ChildError::Lost { .. }
                    | ChildError::Undecided { .. }),
                ) => return Err(e.into()),
                ran => ran,
            },
        };
        Ok(ran.map(|exit| sealed(exit, &seals, &self.folders.checkout)))
    }

    /// What confines the branch's code in this job. Fails if confinement is required but unavailable.
    pub(super) fn hold(&self, ctx: &Ctx, run: &Run) -> Result<Hold> {
        let hold = confine::hold(ctx, &self.project, None, run.id)?;
        let kind = match run.kind {
            JobKind::Ci => SlurmKind::Ci,
            JobKind::Staging => SlurmKind::Staging,
            JobKind::Build
            | JobKind::Agent
            | JobKind::Scan
            | JobKind::Deploy
            | JobKind::DeployFinalizer
            | JobKind::PostDeployMonitor => SlurmKind::Build,
        };
        cluster::place(ctx, &self.project, hold, kind, ctx.paths.unit(run.id, false), &self.dir)
    }

    /// How the job's checks that are commands are confined, in the current checkout.
    pub(super) fn checks(&self, ctx: &Ctx, run: &Run) -> Result<Confined> {
        let hold = self.hold(ctx, run)?;
        hold.hand_over(&self.folders)?;
        let further = Further { frozen: self.scripts.borrow().clone(), ..Further::default() };
        Ok(Confined {
            boundary: hold.boundary(&self.folders, further),
            logs: self.dir.clone(),
            mark: (MARK.to_owned(), ctx.paths.mark(run.id)),
            env: hold.env(),
            failed: RefCell::new(None),
        })
    }

    /// Prepares a configured command, except for its checkout and its start.
    pub(super) fn prepare(&self, ctx: &Ctx, run: &Run, order: &Order<'_>) -> Result<Spec> {
        let Order { name, argv, env, limit, further, by } = *order;
        // Deploys work on the repository, checks on the project's part of it (ORD-3).
        let checkout = self.folders.checkout.clone();
        let cwd = if by == By::Branch { self.project.folder_in(&checkout) } else { checkout };
        let (stage, revision) = (run.stage.as_str(), self.subject.as_str());
        let (mut all, boundary) = match by {
            By::Operator => (operator::env_of_task(&ctx.config, &self.task, stage, revision), Boundary::Operator),
            By::Branch => {
                let hold = self.hold(ctx, run)?;
                hold.hand_over(&self.folders)?;
                let mut all = child_env(&self.task, stage, revision, &self.folders);
                all.extend(hold.env());
                let further = Further { frozen: self.scripts.borrow().clone(), ..Further::default() };
                (all, hold.boundary(&self.folders, further))
            }
        };
        all.extend(exposed(env)?.into_iter().map(|(key, value)| (key.into(), value.into())));
        all.extend(further.iter().map(|(n, v)| ((*n).into(), v.clone())));
        let log = self.dir.join(format!("{name}.log"));
        Ok(Spec {
            argv: argv.iter().map(OsString::from).collect(),
            cwd,
            env: all,
            stdin: None,
            stdout: log.clone(),
            stderr: log,
            wall: limit,
            stall: None,
            grace: GRACE,
            mark: (MARK.to_owned(), ctx.paths.mark(run.id)),
            cap_bytes: CAP,
            boundary,
        })
    }
}

/// An exit never counts as success if a protected script was changed during the run: a test overwrote the running
/// `ci.sh`, and the shell exited 0 (BND-5).
pub fn sealed(exit: Exit, seals: &Seals, checkout: &Path) -> Exit {
    let broken = seals.broken();
    if broken.is_empty() {
        return exit;
    }
    let name = |path: &Path| path.strip_prefix(checkout).unwrap_or(path).display().to_string();
    let names: Vec<String> = broken.into_iter().map(name).collect();
    let why = format!("the protected script {} was changed while it ran", names.join(", "));
    Exit { ended_by: Some(EndedBy::Asked(why)), ..exit }
}

/// An evidence row about the job's subject.
pub(super) fn row(
    bench: &Bench,
    run: &Run,
    gate: Gate,
    verdict: EvidenceVerdict,
    why: String,
    findings: Vec<Finding>,
    squash: bool,
) -> Result<NewEvidence> {
    Ok(NewEvidence {
        subject: gate.into(),
        run_id: Some(run.id),
        sha: bench.subject.clone(),
        code_tree: bench.ground.mirror.code_tree(&bench.subject, &bench.task.key)?.to_string(),
        verdict,
        why,
        detail: EvidenceDetail::code(findings, squash),
    })
}

pub(super) fn answered(row: NewEvidence) -> Settlement {
    Settlement { evidence: vec![row], ..Settlement::default() }
}

/// An artefact as it was read back, with the file that its row binds (RULE-47).
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    pub(super) file: BoundFile,
}

/// Writes an artefact of `orch`'s own for one head, synced, and reads it back (RULE-1).
pub(super) fn keep(ctx: &Ctx, task: &Task, head: &Sha, name: &str, text: &str) -> Result<Kept> {
    let path = ctx.paths.evidence(task.id, head).join(name);
    crate::adapters::sentinel::put(&path, text.as_bytes())?;
    let bytes = std::fs::read(&path).with_context(|| format!("reading {} back", path.display()))?;
    let file = bound::of(ctx.paths.root(), &path, &bytes);
    Ok(Kept { bytes, file })
}

/// The row with the file that it binds (RULE-47).
pub(super) fn resting_on(row: NewEvidence, kept: &Kept) -> NewEvidence {
    with(row, |code| code.file = Some(kept.file.clone()))
}

/// A job's row with additional findings.
pub(super) fn with(mut row: NewEvidence, add: impl FnOnce(&mut Code)) -> NewEvidence {
    if let EvidenceDetail::Code(code) = &mut row.detail {
        add(code);
    }
    row
}

/// An artefact of `orch`'s own as a comment (PIPE-5): once per head and verdict.
pub fn artefact_comment(name: Artefact, head: &Sha, verdict: EvidenceVerdict, text: &str) -> (String, String) {
    let number = name.as_str().split('-').next().unwrap_or_default();
    (format!("{number}-{}-{verdict}", head.short()), crate::render::evidence::comment(name, text))
}

/// The result of a configured command, as data.
pub(super) fn ran(end: &Result<Exit, ChildError>) -> Ran {
    let full = |e: &std::io::Error| matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    let (ended, how) = match end {
        Ok(exit) => (ended(exit), ending(exit)),
        Err(e) => {
            let ended = match e {
                ChildError::NotFound { .. } | ChildError::NotStarted { .. } => Ended::NoProgram,
                ChildError::File { source, .. } if full(source) => Ended::NoRoom,
                ChildError::Empty
                | ChildError::File { .. }
                | ChildError::Withheld { .. }
                | ChildError::Unavailable { .. }
                | ChildError::Confinement { .. } => Ended::Failed,
                ChildError::Watch { .. }
                | ChildError::Lost { .. }
                | ChildError::Undecided { .. }
                | ChildError::Left { .. } => Ended::Lost,
            };
            (ended, e.to_string())
        }
    };
    Ran { ended, how }
}

pub(super) fn ended(exit: &Exit) -> Ended {
    match (&exit.ended_by, exit.code) {
        (Some(EndedBy::Wall), _) => Ended::TimedOut,
        (Some(EndedBy::Stall | EndedBy::Asked(_)), _) => Ended::Cut,
        (None, Some(code)) => Ended::Code(code),
        (None, None) => Ended::Signal,
    }
}

/// An exit in words.
pub(super) fn ending(exit: &Exit) -> String {
    match (&exit.ended_by, exit.code, exit.signal) {
        (Some(EndedBy::Wall), ..) => "its time was up".to_owned(),
        (Some(EndedBy::Asked(why)), ..) => why.clone(),
        (Some(EndedBy::Stall), ..) => "it was silent for too long".to_owned(),
        (None, Some(code), _) => format!("exit {code}"),
        (None, None, signal) => format!("signal {}", signal.unwrap_or(0)),
    }
}
