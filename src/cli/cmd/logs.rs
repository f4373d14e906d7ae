//! `orch logs` (CLI-3): what a run printed, and what it was sent.

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::cli::signals::Signals;
use crate::config::{Config, Project};
use crate::engine::{Ctx, base_job, runtimes};
use crate::model::outcome::RuntimeKind;
use crate::model::stage::{JobKind, Stage};
use crate::model::task::{Run, RunState, Task};
use crate::model::time::rfc3339;
use crate::render::events::readable;
use anyhow::Context;
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two reads of a growing log.
const POLL: Duration = Duration::from_millis(250);
const CHUNK: usize = 1 << 20;
/// A line longer than this is shown in pieces.
const LINE: usize = 8 << 20;

/// Show an agent's output, its prompt, or a built-in job's log
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch logs ORCH-17 --stage review\n  orch logs ORCH-17 -f")]
pub struct Args {
    /// A task's key, such as ORCH-17
    #[arg(value_name = "TASK", required_unless_present = "base")]
    task: Option<String>,
    /// The log of the last base check of this repository, or of the project with this key
    #[arg(long, value_name = "REPO", conflicts_with_all = ["task", "stage", "run", "prompt", "follow"])]
    base: Option<String>,
    /// The last run of this stage
    #[arg(long, value_name = "S", value_parser = stage)]
    stage: Option<Stage>,
    /// The run with this number; `orch status --json` and `orch timeline` show the numbers
    #[arg(long, value_name = "N", conflicts_with = "stage")]
    run: Option<i64>,
    /// The prompt that the agent was sent, instead of its output
    #[arg(long)]
    prompt: bool,
    /// Follow the run until it ends
    #[arg(short, long, conflicts_with = "prompt")]
    follow: bool,
}

fn stage(text: &str) -> Result<Stage, String> {
    Stage::parse(text).ok_or_else(|| {
        let all: Vec<&str> = Stage::ALL.iter().map(|s| s.as_str()).collect();
        format!("expected one of {}", all.join(", "))
    })
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "logs")?;
    if let Some(repo) = &args.base {
        return base(call, &mut ctx, repo);
    }
    let task = open::task(&mut ctx, args.task.as_deref().unwrap_or_default())?;
    let run = chosen(&mut ctx, &task, args)?;
    if args.follow && call.out.is_json() {
        return Err(Failure::usage("-f follows a log, but --json is one document").hint("leave one of the two out"));
    }
    let dir = ctx.paths.run(run.id);
    let files = if args.prompt { vec![dir.join("prompt.md")] } else { files(&dir, &run) };
    let silent = !files.iter().any(|f| f.exists());
    // A run that has just begun has no output yet, which is no error.
    let begun = run.state != RunState::Settled && !args.prompt;
    if silent && !begun && !args.follow {
        let what = if args.prompt { "prompt" } else { "log" };
        return Err(Failure::new(
            Exit::Broken,
            format!("run {} of {} has no {what} in {}", run.id, task.key, dir.display()),
        )
        .task(task.key.to_string())
        .hint("its folder may have been pruned, or the run never got that far; `orch timeline` shows what happened"));
    }
    let kind = kind(&ctx, &run);
    if call.out.is_json() {
        let text: Vec<_> =
            files.iter().filter_map(|f| Some(json!({"file": f, "text": whole(f, reading(f, kind)).ok()?}))).collect();
        call.out.document(&json!({
            "task": task.key, "run": run.id, "job": run.job_id, "kind": run.kind, "agent": run.agent, "stage": run.stage,
            "attempt": run.attempt, "state": run.state, "result": run.result, "model": run.model,
            "started_at": rfc3339(run.started_at), "ended_at": run.ended_at.map(rfc3339), "logs": text,
        }));
        return Ok(Exit::Done);
    }
    if !args.prompt {
        let who = run.agent.map_or_else(|| run.kind.to_string(), |a| a.to_string());
        let end = run.result.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
        call.out.line(format!("# {} run {}, {who} in {}, round {}{end}", task.key, run.id, run.stage, run.attempt));
        if silent && begun && !args.follow {
            call.out.line("# no output yet; -f waits for it");
        }
    }
    if args.follow { follow(call, &mut ctx, &run, &dir, kind) } else { print(call, &files, kind) }
}

/// The log of a base check.
fn base(call: &Invocation, ctx: &mut Ctx, asked: &str) -> CmdResult {
    let repo = &base_name(&ctx.config, asked)?;
    let Some(row) = ctx.store.read(|tx| base_job::row(tx, repo))? else {
        return Err(Failure::usage(format!("the base of {repo} has never been checked")).hint(bases(&ctx.config)));
    };
    let dir = base_job::dir(ctx, repo);
    let files: Vec<PathBuf> = ["setup.log", "ci.log"].iter().map(|n| dir.join(n)).filter(|f| f.exists()).collect();
    if call.out.is_json() {
        let text: Vec<_> = files
            .iter()
            .filter_map(|f| Some(json!({"file": f, "text": whole(f, RuntimeKind::Command).ok()?})))
            .collect();
        call.out.document(&json!({
            "repo": repo, "commit": row.commit, "state": row.state, "why": row.why, "since": rfc3339(row.since), "logs": text,
        }));
        return Ok(Exit::Done);
    }
    call.out.line(format!("# base of {repo} at {}: {} {}", row.commit.short(), row.state, row.why));
    print(call, &files, RuntimeKind::Command)
}

fn bases(config: &Config) -> String {
    let known: Vec<&str> = config.projects.iter().map(Project::base_name).collect();
    format!("the bases: {}", known.join(", "))
}

/// The name of the base for a repository or a project's key. A word that is neither is returned unchanged, for a
/// project that was removed. Fails if the repository has several.
fn base_name(config: &Config, asked: &str) -> Result<String, Failure> {
    let of_repo: Vec<&Project> = config.projects.iter().filter(|p| p.repo == asked).collect();
    let one = config.projects.iter().find(|p| p.key == asked || p.base_name() == asked);
    match (one, of_repo.as_slice()) {
        (Some(project), _) => Ok(project.base_name().to_owned()),
        (None, [project]) => Ok(project.base_name().to_owned()),
        (None, []) => Ok(asked.to_owned()),
        (None, _) => Err(Failure::usage(format!("{asked} has one base per project")).hint(bases(config))),
    }
}

fn chosen(ctx: &mut Ctx, task: &Task, args: &Args) -> Result<Run, Failure> {
    let runs = ctx.store.read(|tx| tx.runs_of(task.id))?;
    let none = |what: String| {
        let known: Vec<String> = runs.iter().map(|r| format!("{} ({})", r.id, r.stage)).collect();
        let hint = if known.is_empty() {
            "nothing of it has run yet".to_owned()
        } else {
            format!("its runs: {}", known.join(", "))
        };
        Failure::usage(what).task(task.key.to_string()).hint(hint)
    };
    match (args.run, args.stage) {
        (Some(n), _) => {
            runs.iter().find(|r| r.id.0 == n).cloned().ok_or_else(|| none(format!("{} has no run {n}", task.key)))
        }
        (None, Some(s)) => {
            runs.iter().rfind(|r| r.stage == s).cloned().ok_or_else(|| none(format!("{} has no run in {s}", task.key)))
        }
        (None, None) => {
            // Only an agent's run has a prompt.
            let wanted = |r: &&Run| !args.prompt || r.kind == JobKind::Agent;
            runs.iter().rfind(wanted).cloned().ok_or_else(|| none(format!("{} has no run", task.key)))
        }
    }
}

/// A run's readable files, in the order in which they were written.
fn files(dir: &Path, run: &Run) -> Vec<PathBuf> {
    if run.kind == JobKind::Agent {
        return ["setup.log", "events.jsonl", "stderr.log"].iter().map(|n| dir.join(n)).collect();
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|x| x == "log") && !p.ends_with("supervisor.log"))
        .collect();
    found.sort();
    // Code that ran no program leaves only its supervisor's log.
    if found.is_empty() { vec![dir.join("supervisor.log")] } else { found }
}

fn kind(ctx: &Ctx, run: &Run) -> RuntimeKind {
    run.credential.as_deref().and_then(|name| runtimes::kind(&ctx.config, name)).unwrap_or(RuntimeKind::Command)
}

/// Only an agent's events need to be parsed.
fn reading(file: &Path, kind: RuntimeKind) -> RuntimeKind {
    if file.ends_with("events.jsonl") { kind } else { RuntimeKind::Command }
}

fn whole(file: &Path, kind: RuntimeKind) -> anyhow::Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(if file.ends_with("prompt.md") { String::from_utf8_lossy(&bytes).into_owned() } else { readable(kind, &bytes) })
}

fn print(call: &Invocation, files: &[PathBuf], kind: RuntimeKind) -> CmdResult {
    for file in files {
        if file.ends_with("prompt.md") {
            call.out.raw(&whole(file, kind)?);
            continue;
        }
        let mut tail = Tail::new(file.clone(), reading(file, kind));
        let headed = files.len() > 1 && !file.ends_with("events.jsonl");
        if headed && file.metadata().is_ok_and(|m| m.len() > 0) {
            call.out.line(format!("# {}", file.file_name().unwrap_or_default().to_string_lossy()));
        }
        while let Some(text) = tail.more(true)? {
            call.out.raw(&text);
            if call.out.is_closed() {
                return Ok(Exit::Done);
            }
        }
    }
    Ok(Exit::Done)
}

fn follow(call: &Invocation, ctx: &mut Ctx, run: &Run, dir: &Path, kind: RuntimeKind) -> CmdResult {
    let signals = Signals::watch()?;
    let mut tails: Vec<Tail> = Vec::new();
    loop {
        let now = ctx.store.read(|tx| tx.run(run.id))?;
        let ended = now.state == RunState::Settled;
        for file in files(dir, run) {
            if !tails.iter().any(|t| t.file == file) {
                tails.push(Tail::new(file.clone(), reading(&file, kind)));
            }
        }
        for tail in &mut tails {
            while let Some(text) = tail.more(ended)? {
                call.out.raw(&text);
            }
        }
        if ended {
            let end = now.result.as_ref().map_or_else(|| "ended".to_owned(), ToString::to_string);
            call.out.line(format!("# {end}"));
        }
        if ended || call.out.is_closed() || signals.wait_until(Instant::now() + POLL) {
            return Ok(Exit::Done);
        }
    }
}

/// Reads a growing file, by whole lines.
struct Tail {
    file: PathBuf,
    kind: RuntimeKind,
    at: u64,
}

impl Tail {
    fn new(file: PathBuf, kind: RuntimeKind) -> Self {
        Self { file, kind, at: 0 }
    }

    /// The next lines, readable; `None`: nothing new. `last`: the file no longer grows, and its last line may lack a
    /// line break.
    fn more(&mut self, last: bool) -> anyhow::Result<Option<String>> {
        let at = || format!("reading {}", self.file.display());
        let mut file = match File::open(&self.file) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(at),
        };
        file.seek(SeekFrom::Start(self.at)).with_context(at)?;
        let mut bytes = Vec::new();
        loop {
            let had = bytes.len();
            (&mut file).take(CHUNK as u64).read_to_end(&mut bytes).with_context(at)?;
            let whole = bytes.iter().rposition(|b| *b == b'\n').map(|n| n + 1);
            let end = bytes.len() == had;
            match whole {
                Some(n) => bytes.truncate(n),
                None if end && !last => return Ok(None),
                None if end || bytes.len() >= LINE => {}
                None => continue,
            }
            break;
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        self.at += bytes.len() as u64;
        Ok(Some(readable(self.kind, &bytes)))
    }
}
