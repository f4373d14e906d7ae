//! One agent's run: prepare the checkout and the prompt, run the runtime, finalize what it left (RUN-4, RULE-21,
//! RULE-22).

use super::area::{AreaKind, Folders};
use super::confine::{Further, Hold};
use super::left::Begin;
use super::run_env::{MARK, child_env};
use super::run_files::{tail, write_private};
use super::settle::{End, Settlement};
use super::site::Site;
use super::{Ctx, base, cache, cluster, confine, finalize, left, projects, runtimes, session, settle, tree};
use crate::adapters::child::{self, ChildError, Control, EndedBy, Event, Spec};
use crate::adapters::git::{CheckoutPlan, files::remove};
use crate::adapters::runtime::{Exit as RuntimeExit, Launch, Reader, Request, Runtime, Session};
use crate::adapters::store::{RunExit, StoreError};
use crate::config::{Project, SlurmKind};
use crate::decide::run_end;
use crate::model::agent_prompt::AgentPrompt;
use crate::model::artefact;
use crate::model::ids::Sha;
use crate::model::outcome::{Kind, Outcome};
use crate::model::redact;
use crate::model::stage::{Agent, Stage};
use crate::model::task::{Run, RunState};
use crate::model::time::Stamp;
use crate::render::prompt::{PromptArtefact, PromptData, prompt};
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Maximum size of the events file (RULE-38).
const CAP: u64 = 256 << 20;

/// Executes a run. `None`: the fence is lost, and nothing more may be done.
pub fn work(ctx: &mut Ctx, run: &Run, fence: i64, finalize: bool) -> Result<Option<Settlement>> {
    let ground = base::ensure(ctx, run.task_id)?;
    let project = ctx.project(&ground.task.project)?.clone();
    let agent = run.agent.context("an agent's job names no agent")?;
    let site = Site {
        settings: ctx.config.agent(agent),
        folders: Folders::of_run(&ctx.paths, &ground.task, AreaKind::Agent, run.id),
        prompt: agent_prompt(ctx, agent)?,
        dir: ctx.paths.run(run.id),
        agent,
        project,
        ground,
    };
    let run = if finalize || run.state == RunState::Exited {
        run.clone()
    } else {
        match play(ctx, &site, run, fence)? {
            Played::Done(run) => *run,
            // No runtime ran: there is nothing to book (RULE-25).
            Played::Not(end) => {
                ctx.store.write(|tx| tx.set_run_free(run.id))?;
                return Ok(Some(Settlement { end, ..Settlement::default() }));
            }
            Played::Lost => return Ok(None),
        }
    };
    finalize::run(ctx, &site, &run, fence)
}

enum Played {
    Done(Box<Run>),
    /// It was not started (HALT, a stop) or could not be.
    Not(End),
    Lost,
}

/// The configured prompt of an agent, or the built-in one if the folder has none.
fn agent_prompt(ctx: &Ctx, agent: Agent) -> Result<AgentPrompt> {
    let path = ctx.config.agents.prompts.join(format!("{agent}.md"));
    match std::fs::read(&path) {
        Ok(bytes) => AgentPrompt::parse(agent, &bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => AgentPrompt::builtin(agent),
        Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
    }
    .map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))
}

fn play(ctx: &mut Ctx, site: &Site, run: &Run, fence: i64) -> Result<Played> {
    let task = &site.ground.task;
    let mark = ctx.paths.mark(run.id);
    // Nothing of an earlier run may share the worktree with this one (RULE-19).
    end_earlier(ctx, run, site)?;
    let hold = match confine::hold(ctx, &site.project, Some(&site.settings.runtime), run.id) {
        Ok(hold) => hold,
        // The engine disappeared after the claim. No attempt is spent, and its rule holds the next claim (BND-2).
        Err(none) => return Ok(Played::Not(End::Again { at: ctx.now().stamp.wall_ms, why: none.to_string() })),
    };
    let hold = cluster::place(ctx, &site.project, hold, SlurmKind::Agent, ctx.paths.unit(run.id, false), &site.dir)?;
    let start = task.head_sha.clone().context("the task has no pushed head")?;
    let mut begin = lay_out(ctx, site, run, &hold, &start)?;
    if let Some(end) = set_up(site, run, &hold, &mark, &mut begin)? {
        return Ok(Played::Not(end));
    }
    let runtime = runtimes::open(ctx, &site.settings, &hold.engine)?;
    let config_dir = own_folder(site)?;
    let fallback = site.settings.fallback_models.join(",");
    let rules = trusted_rules(site, &config_dir)?;
    let earlier = match earlier_session(ctx, run)? {
        // A runtime ties a session to its folder, and on nodes each run has a different one.
        Some(id) if !hold.is_away() && resumable(ctx, site, run, &runtime, &id)? => Some(id),
        Some(_) | None => None,
    };
    // Before the prompt is written: any later change in the work item's folder is the agent's.
    hold.hand_over(&site.folders)?;
    let fresh = fresh_uuid();
    let session = earlier.as_deref().map_or(Session::Fresh(&fresh), Session::Resume);
    let request = Request {
        agent: site.agent,
        model_candidates: &site.settings.models,
        fallback_model: &fallback,
        effort: &site.settings.effort,
        max_cost_usd: Some(site.settings.max_cost_usd).filter(|m| *m > 0.0),
        config_dir: &config_dir,
        session: Some(session),
        trusted_rules: rules.as_deref(),
        worktree: site.folders.checkout.as_path(),
    };
    let launch = runtime.launch(&request);
    let text = render(ctx, site, run, &start, launch.resumed)?;
    write_private(&site.dir.join("prompt.md"), text.as_bytes())?;
    let before = match launch.session.as_deref().filter(|_| launch.resumed) {
        Some(id) => ctx.store.read(|tx| tx.session_total(id))?,
        None => None,
    };
    // A runtime's sandbox leaves empty files at the names that it masked.
    begin.left_out.extend(launch.masked.iter().map(|name| (*name).to_owned()));
    left::remember(site, &begin)?;
    launch.notes.iter().for_each(|note| tracing::warn!(task = %task.key, "{note}"));
    let hash = sha256(text.as_bytes());
    let independent = site.agent != Agent::Reviewer || runtime.kind().starts_nothing_for_a_judge();
    ctx.store.write(|tx| {
        tx.set_run_start(run.id, Some(&start), Some(&hash), launch.model.as_deref(), Some(site.settings.effort.as_str()).filter(|e| !e.is_empty()), launch.session.as_deref())?;
        super::record::event(tx, (ctx.clock)().wall_ms, Some(task.id), crate::model::event::Event::RunPrepared, &json!({"run": run.id, "start": start, "prompt_sha256": hash, "model": launch.model, "independent": independent, "notes": launch.notes, "confined": hold.held().as_str(), "network": hold.policy.network.word()}))
    })?;
    // Check HALT and stop once more before the runtime starts (RULE-24).
    let now = ctx.now();
    if let Some(reason) = now.halted {
        return Ok(Played::Not(run_end::halted(&reason, now.stamp.wall_ms)));
    }
    if !settle::holds(ctx, run.id, fence, false)? {
        return Ok(Played::Lost);
    }
    let further = Further { read: program_files(&launch.argv), own_sandbox: runtime.own_sandbox(), frozen: Vec::new() };
    let started = Started { launch: &launch, hold: &hold, further, mark: &mark };
    let (exit, outcome) = execute(ctx, site, run, started, runtime.reader(before))?;
    keep_session(ctx, site, run, &runtime, &outcome, hold.owner());
    record_exit(ctx, site, run, &exit, &outcome)?;
    Ok(Played::Done(Box::new(ctx.store.read(|tx| tx.run(run.id))?)))
}

/// The prompt of a resumed conversation.
const RESUMED: &str =
    "This conversation continues from there; the worktree is at the pushed head again, so what was not pushed is gone.";

/// Creates the run's folders and its initial checkout, owned by the run's account.
fn lay_out(ctx: &mut Ctx, site: &Site, run: &Run, hold: &Hold, start: &Sha) -> Result<Begin> {
    let exclude = excluded(&site.project);
    let mut begin = left::begin(ctx, site, run, start)?;
    let shared = hold.shared(&site.project, &site.ground.mirror, &site.ground.default_sha)?;
    let plan = CheckoutPlan {
        shared: shared.as_ref(),
        tree: Some(&begin.tree).filter(|_| begin.is_rework()),
        branch: Some(site.ground.task.branch.as_deref().context("the task has no branch")?),
        default: Some((&site.ground.default_branch, &site.ground.default_sha)),
        author: Some(&projects::author(&site.project)),
        exclude: &exclude,
        ..CheckoutPlan::of(&begin.parent)
    };
    site.folders.renew()?;
    site.ground.mirror.check_out(&site.folders.checkout, &plan)?;
    begin.left_out = copy_files(site)?;
    cache::of_agent(ctx, site, &begin)?.give(&site.folders);
    begin.owner = Some(hold.owner());
    hold.hand_over(&site.folders)?;
    Ok(begin)
}

/// The inputs for starting one run of a runtime.
struct Started<'a> {
    launch: &'a Launch,
    hold: &'a Hold,
    further: Further,
    mark: &'a str,
}

/// The runtime's own folder in the run's home, emptied: nothing that `worktree.setup` put there may act as settings
/// (BND-3).
fn own_folder(site: &Site) -> Result<PathBuf> {
    let dir = runtime_dir(&site.folders);
    remove(&dir)?;
    std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

fn runtime_dir(folders: &Folders) -> PathBuf {
    folders.home.join(".runtime")
}

/// Puts the transcript of an earlier run where the runtime expects it. Returns whether the conversation can resume.
fn resumable(ctx: &Ctx, site: &Site, run: &Run, runtime: &Runtime, session: &str) -> Result<bool> {
    let Some(of) = runtime.transcript(session) else { return Ok(false) };
    let store = ctx.paths.transcript(&site.ground.task, run.stage.as_str());
    session::restore(&store, &of, &runtime_dir(&site.folders)).context("restoring the session's transcript")
}

/// Keeps the session's transcript for a later run. If that fails, the next conversation starts afresh.
fn keep_session(ctx: &Ctx, site: &Site, run: &Run, runtime: &Runtime, outcome: &Outcome, owner: u32) {
    let Some(of) = outcome.session.as_deref().and_then(|id| runtime.transcript(id)) else { return };
    let store = ctx.paths.transcript(&site.ground.task, run.stage.as_str());
    if let Err(e) = session::keep(&runtime_dir(&site.folders), &of, owner, &store) {
        tracing::warn!(task = %site.ground.task.key, "the session's transcript could not be saved: {e}");
    }
}

/// The files of the runtime's program, named by path or found through `PATH` and links. A confined run must be able to
/// read them.
pub fn program_files(argv: &[OsString]) -> Vec<PathBuf> {
    let Some(found) = argv.first().and_then(|p| which::which(p).ok()) else { return Vec::new() };
    let real = std::fs::canonicalize(&found).ok().filter(|real| *real != found);
    std::iter::once(found).chain(real).collect()
}

/// The conversation of the previous run if only a limit ended that run (RUN-5, RUN-7).
fn earlier_session(ctx: &mut Ctx, run: &Run) -> Result<Option<String>> {
    let runs = ctx.store.read(|tx| tx.runs_of(run.task_id))?;
    Ok(run_end::goes_on(run, &runs).map(str::to_owned))
}

/// Ends whatever earlier runs of the task left running.
fn end_earlier(ctx: &mut Ctx, run: &Run, site: &Site) -> Result<()> {
    let mut runs = ctx.store.read(|tx| tx.runs_of(run.task_id))?;
    runs.retain(|r| r.agent.is_some() && r.id != run.id);
    cluster::end(ctx, &runs)?;
    Ok(tree::end(ctx, &runs, &[], site.settings.stop_grace_s)?)
}

fn execute(
    ctx: &mut Ctx,
    site: &Site,
    run: &Run,
    started: Started<'_>,
    mut reader: Reader,
) -> Result<(Option<child::Exit>, Outcome)> {
    let Started { launch, hold, further, mark } = started;
    let task = &site.ground.task;
    let start = task.head_sha.as_ref().map(Sha::to_string).unwrap_or_default();
    let mut env = child_env(task, run.stage.as_str(), &start, &site.folders);
    env.extend(hold.env());
    let folder = site.folders.checkout.join(artefact::folder(&task.key));
    for (name, value) in [
        ("ORCH_AGENT", OsString::from(site.agent.as_str())),
        ("ORCH_WORKTREE", site.folders.checkout.as_os_str().to_owned()),
        ("ORCH_ARTEFACTS", folder.into_os_string()),
    ] {
        env.push((name.into(), value));
    }
    env.extend(launch.env.iter().cloned());
    env.extend(runtimes::env(ctx, &site.settings)?);
    let spec = Spec {
        argv: launch.argv.clone(),
        cwd: site.folders.checkout.clone(),
        env,
        stdin: Some(site.dir.join("prompt.md")),
        stdout: site.dir.join("events.jsonl"),
        stderr: site.dir.join("stderr.log"),
        wall: Duration::from_secs(site.settings.timeout_s),
        stall: Some(site.settings.stall_s).filter(|s| *s > 0).map(Duration::from_secs),
        grace: Duration::from_secs(site.settings.stop_grace_s),
        mark: (MARK.to_owned(), mark.to_owned()),
        cap_bytes: CAP,
        boundary: hold.boundary(&site.folders, further),
    };
    let cap = super::policy::micros(site.settings.max_cost_usd);
    let id = run.id;
    let store = &mut ctx.store;
    let linger = Duration::from_secs(site.settings.linger_s);
    let mut since: Option<Instant> = None;
    let mut lingered = None;
    let ended = child::run(&spec, &mut |event| match event {
        Event::Started(actor) => match store.write(|tx| tx.set_run_runtime(id, &actor)) {
            // A newer program has migrated the database: keep supervising the process and do nothing else (RULE-36).
            Ok(()) | Err(StoreError::Newer { .. }) => Control::Go,
            Err(e) => Control::End(format!("its start could not be recorded: {e}")),
        },
        Event::Stdout(bytes) => {
            reader.feed(bytes);
            since = reader.concluded().map(|_| since.unwrap_or_else(Instant::now));
            match reader.live().cost_micros {
                Some(cost) if cap > 0 && cost > cap => Control::End("its cost exceeded max_cost_usd".to_owned()),
                Some(_) | None => Control::Go,
            }
        }
        // The runtime has reported its result; do not wait for its process.
        Event::Tick => {
            reader.pause();
            since = reader.concluded().map(|_| since.unwrap_or_else(Instant::now));
            lingered = reader.concluded().filter(|_| since.is_some_and(|since| since.elapsed() >= linger));
            match lingered {
                Some(_) => Control::End("it lingered after its result".to_owned()),
                None => Control::Go,
            }
        }
        Event::Starting | Event::Stderr(_) => Control::Go,
    });
    let now = (ctx.clock)().wall_ms;
    let stderr = tail(&site.dir.join("stderr.log"), 4096);
    Ok(match ended {
        Ok(exit) => {
            let why = exit.ended_by.as_ref().map(|by| match by {
                EndedBy::Wall => format!("it ran longer than {} s", site.settings.timeout_s),
                EndedBy::Stall => format!("it printed nothing for {} s", site.settings.stall_s),
                EndedBy::Asked(why) => why.clone(),
            });
            let read = match lingered {
                Some(well) => RuntimeExit { code: Some(i32::from(!well)), signal: None, ended_by: None },
                None => RuntimeExit { code: exit.code, signal: exit.signal, ended_by: why.as_deref() },
            };
            let outcome = reader.finish(read, &stderr, now);
            (Some(exit), outcome.redacted(&redact::current()))
        }
        // The process started but could not be watched, so it may have cost something (RULE-25).
        Err(e @ ChildError::Watch { .. }) => (None, Outcome::bare(Kind::Failed, e.to_string())),
        Err(e) => return Err(anyhow::Error::new(e).context(format!("starting the {}", site.agent))),
    })
}

/// Writes the file first, then the row (RUN-4).
fn record_exit(ctx: &mut Ctx, site: &Site, run: &Run, exit: &Option<child::Exit>, outcome: &Outcome) -> Result<()> {
    super::guard::make_room(ctx.paths.root());
    let now = ctx.now().stamp;
    let file = json!({
        "schema": 1, "task": run.task_id, "run": run.id, "attempt": run.attempt, "at": now,
        "exit": exit.as_ref().and_then(|e| e.code), "signal": exit.as_ref().and_then(|e| e.signal), "outcome": outcome,
    });
    crate::adapters::sentinel::put(&site.dir.join(EXIT), &serde_json::to_vec(&file)?)?;
    let record = RunExit::of(outcome.clone());
    Ok(ctx.store.write(|tx| tx.record_exit(run.id, &record, &now))?)
}

const EXIT: &str = "exit.json";

/// The exit that a dead supervisor wrote to its file but not to the database: it was killed in between, or another
/// program had migrated the database (RULE-36). Returns the row and its time.
pub fn exit_on_file(ctx: &Ctx, run: &Run) -> Option<(RunExit, Stamp)> {
    let bytes = std::fs::read(ctx.paths.run(run.id).join(EXIT)).ok()?;
    let file: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let at = serde_json::from_value(file["at"].clone()).ok()?;
    let outcome: Outcome = serde_json::from_value(file["outcome"].clone()).ok()?;
    let ours = file["schema"] == 1 && file["run"] == run.id.0 && file["task"] == run.task_id.0;
    ours.then(|| (RunExit::of(outcome), at))
}

fn render(ctx: &mut Ctx, site: &Site, run: &Run, start: &Sha, resumed: bool) -> Result<String> {
    let task = &site.ground.task;
    let folder = artefact::folder(&task.key);
    let rows = ctx.store.read(|tx| tx.evidence_of(run.task_id))?;
    let documents = super::approval::documents(&site.ground.mirror, &rows, &task.key, start)?;
    let artefact = |d: super::approval::Document| PromptArtefact { path: format!("{folder}/{}", d.name), text: d.text };
    let artefacts = documents.into_iter().map(artefact).collect();
    let job = ctx.store.read(|tx| tx.job(run.job_id))?;
    let judged = task.base_sha.as_ref().filter(|_| site.agent == Agent::Reviewer);
    let inputs = match judged {
        Some(base) => super::inputs::between(&site.ground.mirror, base, start)?,
        None => Vec::new(),
    };
    let files = super::handed::over(ctx, site, start)?;
    let data = PromptData {
        mark: fresh_mark(),
        now: ctx.now().stamp.rfc3339(),
        files,
        instructions: site.prompt.body_for(&task.key),
        key: task.key.to_string(),
        stage: run.stage.to_string(),
        attempt: task.attempt,
        branch: task.branch.clone().unwrap_or_default(),
        base: format!("origin/{}", site.ground.default_branch),
        folder,
        writes: site.prompt.writes_for(&task.key),
        may_write: site.prompt.may_write_globs(&task.key),
        protected: site.project.withheld(),
        inputs,
        failed: match (job.reason, resumed) {
            (Some(why), true) => Some(format!("{why}. {RESUMED}")),
            (None, true) => Some(RESUMED.to_owned()),
            (why, false) => why,
        },
        findings: if run.stage == Stage::Development { task.findings.clone() } else { Vec::new() },
        title: task.title.clone(),
        body: task.body.clone(),
        artefacts,
    };
    let text = prompt(&data).map_err(|e| anyhow::anyhow!(e))?;
    Ok(redact::current().text(&text).into_owned())
}

/// Patterns of what was copied into the checkout, for the agent's own git.
fn excluded(project: &Project) -> Vec<String> {
    let names = project.worktree.copy.iter().filter_map(|p| p.file_name());
    names.map(|n| format!("/{}", n.to_string_lossy())).collect()
}

/// Copies the operator's files and returns their names, which are never part of a commit (RULE-22).
fn copy_files(site: &Site) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for from in &site.project.worktree.copy {
        let Some(name) = from.file_name() else { continue };
        let to = site.folders.checkout.join(name);
        remove(&to)?;
        std::fs::copy(from, &to).with_context(|| format!("copying {} into the checkout", from.display()))?;
        names.insert(name.to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Runs `worktree.setup` in the new checkout. Returns how the job ends if it did not pass.
fn set_up(site: &Site, run: &Run, hold: &Hold, mark: &str, begin: &mut Begin) -> Result<Option<End>> {
    // A judge runs no program from the branch (R1).
    let Some(setup) = site.project.worktree.setup.as_ref().filter(|_| site.agent != Agent::Reviewer) else {
        return Ok(None);
    };
    let task = &site.ground.task;
    let mut env = child_env(task, run.stage.as_str(), task.head_sha.as_ref().map_or("", Sha::as_str), &site.folders);
    env.extend(hold.env());
    let resolved = setup.spec()?;
    env.extend(resolved.env.into_iter().map(|(n, v)| (n.into(), v.into())));
    let spec = Spec {
        argv: setup.command.iter().map(OsString::from).collect(),
        cwd: site.project.folder_in(&site.folders.checkout),
        env,
        stdin: None,
        stdout: site.dir.join("setup.log"),
        stderr: site.dir.join("setup.log"),
        wall: Duration::from_millis(setup.timeout_ms()),
        stall: None,
        grace: Duration::from_secs(site.settings.stop_grace_s),
        mark: (MARK.to_owned(), mark.to_owned()),
        cap_bytes: CAP,
        boundary: hold.boundary(&site.folders, Further::default()),
    };
    Ok(match child::run(&spec, &mut |_| Control::Go) {
        Ok(exit) if exit.code == Some(0) => {
            restore(site, begin)?;
            None
        }
        // The developer who has to fix a failing setup must be able to start; the findings contain the log (ORD-1).
        Ok(_) if site.agent == Agent::Developer && !task.findings.is_empty() => {
            tracing::warn!(task = %task.key, "worktree.setup failed; the developer starts without its results");
            restore(site, begin)?;
            None
        }
        Ok(exit) => {
            let code = exit.code.map_or_else(|| "a signal".to_owned(), |c| format!("exit {c}"));
            let why = format!("worktree.setup ended with {code}: {}", tail(&site.dir.join("setup.log"), 2000));
            Some(match exit.code {
                // The shell's codes for a program that can't be run or doesn't exist (RULE-45).
                Some(126 | 127) if exit.ended_by.is_none() => End::Environment { why },
                Some(_) | None => End::Failed { why, spent: true },
            })
        }
        Err(e) => return Err(anyhow::Error::new(e).context("worktree.setup")),
    })
}

/// Restores the tracked files that setup changed.
fn restore(site: &Site, begin: &mut Begin) -> Result<()> {
    let restored = left::after_setup(site, begin)?;
    if !restored.is_empty() {
        let shown: Vec<&str> = restored.iter().take(20).map(String::as_str).collect();
        let (task, shown) = (&site.ground.task.key, shown.join(", "));
        tracing::warn!(%task, "worktree.setup changed tracked files, which were restored: {shown}");
    }
    Ok(())
}

/// The default branch's CLAUDE.md, passed explicitly because the checked-out one is not loaded (RUN-7c).
fn trusted_rules(site: &Site, folder: &Path) -> Result<Option<PathBuf>> {
    let Some(bytes) = site.ground.mirror.read_file(&site.ground.default_sha, "CLAUDE.md").unwrap_or(None) else {
        return Ok(None);
    };
    // Where the run can read it.
    let path = folder.join("rules.md");
    write_private(&path, &bytes)?;
    Ok(Some(path))
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A random word that no text in a prompt can contain, since nobody could know it in advance.
fn fresh_mark() -> String {
    fresh_uuid().replace('-', "")
}

fn fresh_uuid() -> String {
    let mut b = [0_u8; 16];
    let _ = rustix::rand::getrandom(&mut b[..], rustix::rand::GetRandomFlags::empty());
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|x| format!("{x:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
