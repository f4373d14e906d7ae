//! `orch shell` (BND-3): a person in a new checkout of a task's pushed head, confined like any run of the task and with
//! the same environment. The task does not change, and nothing of the checkout stays.

use super::area::{AreaKind, Folders};
use super::cache::Caches;
use super::confine::{self, Further, Hold};
use super::default_branch;
use super::paths::Paths;
use super::run_env::{MARK, child_env, know_all};
use super::{Ctx, projects};
use crate::adapters::child::{self, ChildError, Control, EndedBy, Event, Exit, Person, Spec, Terminal};
use crate::adapters::git::CheckoutPlan;
use crate::adapters::locks;
use crate::adapters::process;
use crate::config::{EnvValue, Project, exposed};
use crate::model::confine::Held;
use crate::model::ids::{RunId, Sha};
use crate::model::task::Task;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(2);
const GONE: Duration = Duration::from_secs(30);
/// As root, accounts of shells are separate from those of runs (counting from 0) and of bases (counting from -1).
const ACCOUNTS: i64 = -200_000;

/// What the command line knows about the person.
pub struct Asks<'a> {
    /// Standard input and output are a terminal.
    pub terminal: bool,
    /// `$SHELL`, and the variables that terminal programs need.
    pub shell: Option<OsString>,
    pub term: Option<OsString>,
    /// A signal arrived: end the shell.
    pub ended: &'a AtomicBool,
    /// The terminal's size has changed.
    pub resized: &'a AtomicBool,
    /// Prints a line on standard error.
    pub say: &'a dyn Fn(&str),
}

/// Why no shell was opened.
#[derive(Debug, thiserror::Error)]
#[error("a shell of {0} is already open")]
pub struct Open(pub String);

/// Opens the shell and waits for its end. Returns its exit code (128 plus the number of a signal). Fails with [`Open`],
/// `NoEngine` or `ChildError` if that is the reason.
pub fn run(ctx: &mut Ctx, task: &Task, asks: &Asks<'_>) -> Result<u8> {
    process::become_subreaper().context("becoming a subreaper")?;
    let project = ctx.project(&task.project)?.clone();
    let (_lock, folders) = take(ctx, task)?;
    know_all(ctx);
    let mut site =
        Site { project, task, hold: hold(ctx, &task.project, task)?, folders, head: None, frozen: Vec::new() };
    end_earlier(ctx, task)?;
    let done = site.check_out(ctx).and_then(|()| site.open(ctx, asks));
    // Whatever the result, nothing stays.
    let gone = site.folders.delete();
    let code = done?;
    gone?;
    Ok(code)
}

/// One shell per task at a time, since they share the same folders.
fn take(ctx: &Ctx, task: &Task) -> Result<(locks::Held, Folders)> {
    let folders = Folders::of(&ctx.paths, task, AreaKind::Shell);
    let dir = ctx.paths.area_of(task);
    folders.make_way().with_context(|| format!("making {}", dir.display()))?;
    match locks::hold(&dir.join("shell.lock")) {
        Ok(held) => Ok((held, folders)),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Err(Open(task.key.to_string()).into()),
        Err(e) => Err(e).with_context(|| format!("locking {}", dir.display())),
    }
}

fn hold(ctx: &Ctx, key: &str, task: &Task) -> Result<Hold> {
    let project = ctx.project(key)?;
    Ok(confine::hold(ctx, project, None, RunId(ACCOUNTS - task.id.0))?)
}

fn mark(paths: &Paths, task: &Task) -> String {
    format!("{}-shell-{}", paths.installation(), task.id)
}

/// Ends what a killed `orch shell` left running: it works in folders that are about to be deleted.
fn end_earlier(ctx: &Ctx, task: &Task) -> Result<()> {
    let marks = [mark(&ctx.paths, task)];
    let find = || process::belonging(MARK, &marks, &[], &[]).into_iter().filter(|a| *a != ctx.me).collect();
    Ok(process::end_all(&find, GRACE, GONE)?)
}

struct Site<'a> {
    project: Project,
    task: &'a Task,
    hold: Hold,
    folders: Folders,
    head: Option<Sha>,
    frozen: Vec<PathBuf>,
}

impl Site<'_> {
    /// Checks out the pushed head, or the base it would start on if the task has none, with the default branch's
    /// protected scripts.
    fn check_out(&mut self, ctx: &mut Ctx) -> Result<()> {
        let mirror = projects::mirror(ctx, &self.project)?;
        let branch = default_branch::default_branch(ctx, &self.project, &mirror)?;
        let tip =
            mirror.fetch_branch(&branch).with_context(|| format!("fetching {branch} of {}", self.project.repo))?;
        let tip = tip.with_context(|| format!("{} has no branch {branch}", self.project.git.remote))?;
        let head = self.task.head_sha.clone().unwrap_or_else(|| tip.clone());
        if let (false, Some(own)) = (mirror.exists(&head)?, &self.task.branch) {
            mirror.fetch_branch(own).with_context(|| format!("fetching {own} of {}", self.project.repo))?;
        }
        let scripts = self.project.scripts();
        let shared = self.hold.shared(&self.project, &mirror, &tip)?;
        let plan = CheckoutPlan {
            shared: shared.as_ref(),
            branch: self.task.branch.as_deref(),
            default: Some((&branch, &tip)),
            author: Some(&projects::author(&self.project)),
            scripts: Some((&tip, &scripts)),
            ..CheckoutPlan::of(&head)
        };
        self.folders.renew()?;
        let made = mirror.check_out(&self.folders.checkout, &plan).context("checking out the task's head")?;
        Caches::of_task(ctx, &self.project, self.task, AreaKind::Shell, None)?.give(&self.folders);
        self.frozen = made.scripts;
        self.head = Some(head);
        self.hold.hand_over(&self.folders)
    }

    fn open(&self, ctx: &Ctx, asks: &Asks<'_>) -> Result<u8> {
        if self.hold.held() == Held::Unconfined {
            (asks.say)("unconfined: this shell, and the branch's code that it runs, has all rights of this account");
        }
        let end = || asks.ended.load(Ordering::SeqCst);
        if let Some(setup) = &self.project.worktree.setup {
            let limit = Duration::from_millis(setup.timeout_ms());
            let spec = self.spec(ctx, setup.command.iter().map(OsString::from).collect(), &setup.env, limit)?;
            match child::run_for(&Person::Pipes { reads: false, both: true }, &spec, &mut |_| until(&end)) {
                Ok(exit) if exit.code == Some(0) && exit.ended_by.is_none() => {}
                Ok(exit) if end() => return Ok(code(&exit)),
                // A person may have opened the shell to find out why setup fails.
                Ok(exit) => {
                    (asks.say)(&format!("worktree.setup failed ({}); the shell opens without it", ended(&exit)))
                }
                Err(e) => return Err(e.into()),
            }
        }
        let wanted = asks.shell.clone().filter(|s| !s.is_empty()).unwrap_or_else(|| "sh".into());
        match self.shell(ctx, asks, &wanted) {
            Err(ChildError::NotFound { .. }) if wanted != "sh" => {
                let name = wanted.to_string_lossy();
                (asks.say)(&format!("{name} is missing inside the confinement; opening sh"));
                Ok(self.shell(ctx, asks, &"sh".into())?)
            }
            done => Ok(done?),
        }
    }

    /// One shell, from its start to its end.
    fn shell(&self, ctx: &Ctx, asks: &Asks<'_>, program: &OsString) -> Result<u8, ChildError> {
        let person = match self.hold.held() {
            Held::Bubblewrap if asks.terminal => {
                let terminal = Terminal::new();
                let failed = |source| ChildError::File { what: "a terminal".to_owned(), source };
                Person::Terminal(terminal.map_err(failed)?)
            }
            Held::Bubblewrap | Held::Landlock | Held::Command | Held::Unconfined => {
                Person::Pipes { reads: true, both: false }
            }
        };
        let mut argv = vec![program.clone()];
        let mut env = BTreeMap::new();
        match (&person, &asks.term) {
            (Person::Terminal(_), Some(term)) => {
                env.insert("TERM".to_owned(), EnvValue::Literal(term.to_string_lossy().into_owned()));
            }
            (Person::Terminal(_), None) => {}
            (Person::Pipes { .. }, _) if asks.terminal => {
                (asks.say)(&format!(
                    "no terminal under {}: input and output are passed line by line",
                    self.hold.held().as_str()
                ));
                argv.push("-i".into());
            }
            (Person::Pipes { .. }, _) => {}
        }
        let spec = self.spec(ctx, argv, &env, Duration::MAX);
        let spec = spec.map_err(|e| ChildError::Withheld { why: format!("{e:#}") })?;
        let exit = child::run_for(&person, &spec, &mut |event| {
            if let (Event::Tick, Person::Terminal(terminal)) = (&event, &person)
                && asks.resized.swap(false, Ordering::SeqCst)
            {
                terminal.fit();
            }
            until(&|| asks.ended.load(Ordering::SeqCst))
        });
        // Restore the person's terminal before anything is printed.
        drop(person);
        let exit = exit?;
        if let Some(EndedBy::Asked(why)) = &exit.ended_by {
            (asks.say)(&format!("the shell was ended: {why}"));
        }
        Ok(code(&exit))
    }

    fn spec(&self, ctx: &Ctx, argv: Vec<OsString>, env: &BTreeMap<String, EnvValue>, wall: Duration) -> Result<Spec> {
        let head = self.head.as_ref().map_or("", Sha::as_str);
        let mut all = child_env(self.task, self.task.stage.as_str(), head, &self.folders);
        all.extend(self.hold.env());
        all.extend(exposed(env)?.into_iter().map(|(name, value)| (name.into(), value.into())));
        Ok(Spec {
            argv,
            cwd: self.folders.checkout.clone(),
            env: all,
            stdin: None,
            stdout: PathBuf::new(),
            stderr: PathBuf::new(),
            wall,
            stall: None,
            grace: GRACE,
            mark: (MARK.to_owned(), mark(&ctx.paths, self.task)),
            cap_bytes: u64::MAX,
            boundary: self.hold.boundary(&self.folders, Further { frozen: self.frozen.clone(), ..Further::default() }),
        })
    }
}

fn until(end: &dyn Fn() -> bool) -> Control {
    if end() { Control::End("orch shell was signalled".to_owned()) } else { Control::Go }
}

fn code(exit: &Exit) -> u8 {
    let code = exit.code.unwrap_or_else(|| 128 + exit.signal.unwrap_or(0));
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}

fn ended(exit: &Exit) -> String {
    match &exit.ended_by {
        Some(EndedBy::Asked(why)) => why.clone(),
        Some(EndedBy::Wall | EndedBy::Stall) => "its time was up".to_owned(),
        None => format!("exit {}", code(exit)),
    }
}
