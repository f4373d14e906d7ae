//! The logs of runs and of base checks, as `orch logs` shows them (CLI-3).

use super::base_rows;
use super::{Ctx, base_job, runtimes};
use crate::config::{Config, Project};
use crate::model::base::Base;
use crate::model::ids::Key;
use crate::model::outcome::RuntimeKind;
use crate::model::stage::{JobKind, Stage};
use crate::model::task::Run;
use crate::model::time::rfc3339;
use crate::render::events::readable;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const CHUNK: usize = 1 << 20;
/// A line longer than this is shown in pieces.
const LINE: usize = 8 << 20;
/// What an agent was sent.
pub const PROMPT: &str = "prompt.md";

/// Which of a task's runs is meant.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    Number(i64),
    /// The last one of a stage.
    Of(Stage),
    Last,
    /// The last one with a prompt, which only an agent's run has.
    LastOfAgent,
}

/// The run that is meant. Fails with what is missing and with what there is.
pub fn chosen(runs: &[Run], key: &Key, wanted: Wanted) -> Result<Run, (String, String)> {
    let (found, what) = match wanted {
        Wanted::Number(n) => (runs.iter().find(|r| r.id.0 == n), format!("{key} has no run {n}")),
        Wanted::Of(stage) => (runs.iter().rfind(|r| r.stage == stage), format!("{key} has no run in {stage}")),
        Wanted::Last => (runs.last(), format!("{key} has no run")),
        Wanted::LastOfAgent => (runs.iter().rfind(|r| r.kind == JobKind::Agent), format!("{key} has no run")),
    };
    let known: Vec<String> = runs.iter().map(|r| format!("{} ({})", r.id, r.stage)).collect();
    found.cloned().ok_or_else(|| match known.is_empty() {
        true => (what, "nothing of it has run yet".to_owned()),
        false => (what, format!("its runs: {}", known.join(", "))),
    })
}

/// A run's readable files, in the order in which they were written.
pub fn files(dir: &Path, run: &Run) -> Vec<PathBuf> {
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

/// Whose events a run's output has.
pub fn kind(ctx: &Ctx, run: &Run) -> RuntimeKind {
    run.credential.as_deref().and_then(|name| runtimes::kind(&ctx.config, name)).unwrap_or(RuntimeKind::Command)
}

/// A run as a document, with the texts of those of its files that exist.
pub fn document(key: &Key, run: &Run, files: &[PathBuf], kind: RuntimeKind) -> Value {
    json!({
        "task": key, "run": run.id, "job": run.job_id, "kind": run.kind, "agent": run.agent, "stage": run.stage,
        "attempt": run.attempt, "state": run.state, "result": run.result, "model": run.model,
        "started_at": rfc3339(run.started_at), "ended_at": run.ended_at.map(rfc3339), "logs": texts(files, kind),
    })
}

/// Files with their readable texts; those that can't be read are left out.
pub fn texts(files: &[PathBuf], kind: RuntimeKind) -> Vec<Value> {
    files.iter().filter_map(|file| Some(json!({"file": file, "text": whole(file, kind).ok()?}))).collect()
}

/// The whole text of a file, readable; a prompt as it is.
pub fn whole(file: &Path, kind: RuntimeKind) -> Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(match file.ends_with(PROMPT) {
        true => String::from_utf8_lossy(&bytes).into_owned(),
        false => readable(reading(file, kind), &bytes),
    })
}

/// Only an agent's events need to be parsed.
fn reading(file: &Path, kind: RuntimeKind) -> RuntimeKind {
    if file.ends_with("events.jsonl") { kind } else { RuntimeKind::Command }
}

/// The last check of a base with its logs; `None`: it was never tried.
pub fn of_base(ctx: &mut Ctx, name: &str) -> Result<Option<(Base, Vec<PathBuf>)>> {
    let Some(row) = ctx.store.read(|tx| base_rows::row(tx, name))? else { return Ok(None) };
    let dir = base_job::dir(ctx, name);
    Ok(Some((row, ["setup.log", "ci.log"].iter().map(|n| dir.join(n)).filter(|f| f.exists()).collect())))
}

/// The name of the base for a repository or a project's key. A word that is neither is returned unchanged, for a
/// project that was removed. `None`: the repository has several.
pub fn base_name(config: &Config, asked: &str) -> Option<String> {
    let of_repo: Vec<&Project> = config.projects.iter().filter(|p| p.repo == asked).collect();
    let one = config.projects.iter().find(|p| p.key == asked || p.base_name() == asked);
    match (one, of_repo.as_slice()) {
        (Some(project), _) | (None, &[project]) => Some(project.base_name().to_owned()),
        (None, []) => Some(asked.to_owned()),
        (None, _) => None,
    }
}

/// Reads a growing file, by whole lines.
#[derive(Debug)]
pub struct Tail {
    pub file: PathBuf,
    kind: RuntimeKind,
    at: u64,
}

impl Tail {
    /// From its beginning. `kind`: of the run that writes it.
    pub fn new(file: PathBuf, kind: RuntimeKind) -> Self {
        Self { kind: reading(&file, kind), file, at: 0 }
    }

    /// The next lines, readable; `None`: nothing new. `last`: the file no longer grows, and its last line may lack a
    /// line break.
    pub fn more(&mut self, last: bool) -> Result<Option<String>> {
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
