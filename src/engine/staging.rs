//! The staging suite (SHIP-3): a project's declared checks and, for a self-hosting project, `orch`'s own A, B and C.
//! Used by the `staging` job and by `orch staging-check`.

use super::{Ctx, boards, caller, projects};
use crate::adapters::board::{NewItem, Priority};
use crate::adapters::handed;
use crate::adapters::probe::{ProbeCtx, staging as checks};
use crate::adapters::store::{Mode, Store};
use crate::adapters::toolbox;
use crate::config::{Check, Project};
use crate::decide::staging::{FoldRules, SELF_HOSTING, Tolerance, built_in_allowances, fold, self_hosting};
use crate::model::board::{Intent, Logical};
use crate::model::ids::branch_name;
use crate::model::staging::{Allowance, CheckResult, Fact, SelfHostingFacts, StagingVerdict};
use crate::short::{self, Bounds, End, Whom};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the sandbox work item may take to be branched and queued.
const SANDBOX: Duration = Duration::from_secs(60);

/// One run of the suite.
pub struct Order<'a> {
    pub project: &'a Project,
    pub probe: &'a ProbeCtx,
    /// A folder out of reach of any check, for the suite's own files.
    pub scratch: &'a Path,
    pub tolerance: Tolerance,
    /// Asked before each check; once it says no, the rest is NOT_RUN.
    pub more: &'a dyn Fn() -> bool,
}

/// The checks of the suite by id, in the order in which they are run.
pub fn planned(project: &Project) -> Vec<String> {
    let own = if project.self_hosting { &SELF_HOSTING[..] } else { &[] };
    project.staging.checks.iter().map(Check::id).chain(own.iter().copied()).map(str::to_owned).collect()
}

/// Runs the suite and folds it. `each` gets a result as soon as it is known.
pub fn run(
    ctx: &mut Ctx,
    order: &Order<'_>,
    each: &mut dyn FnMut(&CheckResult),
) -> Result<(Vec<CheckResult>, StagingVerdict)> {
    let staging = &order.project.staging;
    let specs = staging.checks.iter().map(Check::spec).collect::<Result<Vec<_>, _>>()?;
    let mut allowed: Vec<Allowance> = staging.sandbox_infra.clone();
    let infra: Vec<String> = allowed.iter().map(|a| a.id.clone()).collect();
    let planned = planned(order.project);
    let mut results = checks::run(&specs, &infra, order.probe, order.more, each);
    if let Some(e) = order.probe.confined.as_ref().and_then(|c| c.failed.borrow_mut().take()) {
        return Err(e.into());
    }
    if order.project.self_hosting {
        allowed.extend(built_in_allowances());
        let own = if (order.more)() {
            let facts = observe(ctx, order);
            self_hosting(&facts, &results)
        } else {
            SELF_HOSTING
                .map(|id| {
                    let class = crate::decide::staging::class_of(id, &allowed);
                    CheckResult::new(id, class, crate::model::staging::CheckOutcome::NotRun, "interrupted before it", 0)
                })
                .to_vec()
        };
        own.iter().for_each(&mut *each);
        results.extend(own);
    }
    let today = ctx.now().stamp.today();
    let rules = FoldRules { planned: &planned, allowed: &allowed, tolerance: order.tolerance, today };
    let folded = fold(&results, &rules);
    Ok((results, folded))
}

fn fact(began: Instant, seen: Result<String>) -> Option<Fact> {
    let time_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Some(match seen {
        Ok(detail) => Fact { holds: true, detail, time_ms },
        Err(e) => Fact { holds: false, detail: format!("{e:#}"), time_ms },
    })
}

/// Everything the self-hosting suite needs to know. Each check is bounded, and a failing one does not prevent the next.
fn observe(ctx: &mut Ctx, order: &Order<'_>) -> SelfHostingFacts {
    let project = order.project;
    let mut facts = SelfHostingFacts::default();
    let t = Instant::now();
    facts.binary = fact(t, own(ctx, order.scratch, &["--version"]).map(|out| out.trim().to_owned()));
    let t = Instant::now();
    facts.config = fact(
        t,
        own(ctx, order.scratch, &["config", "check"]).map(|_| format!("{} is read", ctx.config.file.display())),
    );
    let t = Instant::now();
    let copy = copy_database(ctx, order.scratch);
    let opened = copy.as_ref().map_err(|e| anyhow::anyhow!("{e:#}")).map(|(_, said)| said.clone());
    facts.database_opens = fact(t, opened);
    let t = Instant::now();
    facts.database_migrates = fact(t, copy.and_then(|(path, _)| migrate(&path)));
    let t = Instant::now();
    let seat = projects::board(ctx, project).and_then(|b| Ok(b.statuses().map(|s| s.len())?));
    facts.board = fact(t, seat.map(|n| format!("it names {n} statuses")));
    let t = Instant::now();
    facts.forge = fact(t, forge(ctx, project));
    let t = Instant::now();
    facts.notifier = fact(t, notifier(ctx));
    let t = Instant::now();
    let (statuses, intents) = resolved(ctx, project);
    facts.statuses = fact(t, statuses);
    facts.intents = fact(t, intents);
    let t = Instant::now();
    let (branch, job) = sandbox(ctx, order);
    facts.sandbox_branch = fact(t, branch);
    facts.sandbox_job = fact(t, job);
    facts
}

/// This program in another process, with the same configuration and state. Its caller is a run of the second row, yet
/// it is one of `orch`'s own steps and proves that (BND-6).
fn own(ctx: &Ctx, folder: &Path, words: &[&str]) -> Result<String> {
    let proof = caller::Proof::new(&ctx.paths)?;
    let program = toolbox::own().context("finding this program's own file")?;
    let mut command = Command::new(program);
    handed::pass(&mut command, &ctx.config.variables()).context("handing secrets over")?;
    command
        .args(words)
        .args(if words.contains(&"--version") { &[][..] } else { &ctx.global_args })
        .arg("--own-step")
        .current_dir(folder)
        .stdin(proof.stdin()?);
    answer(command, &format!("orch {}", words.join(" ")), SANDBOX)
}

/// A command's stdout. Fails with the command's own message.
fn answer(mut command: Command, name: &str, limit: Duration) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let bounds = Bounds {
        input: &[],
        limit,
        out: ANSWER,
        err: ANSWER,
        strict: false,
        grace: Duration::ZERO,
        // The supervisors that a step starts outlive it.
        whom: Whom::Itself,
    };
    let child = command.spawn().with_context(|| format!("starting `{name}`"))?;
    let said = short::follow(child, &bounds).context("waiting for it")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&said.out), text(&said.err));
    match said.end {
        End::Itself(status) if status.success() => Ok(out),
        End::Itself(status) => bail!("`{name}`: {status}: {}", complaint(&out, &err)),
        End::Late | End::Full => bail!("`{name}` did not end within {} s", limit.as_secs()),
    }
}

/// The maximum size of an answer, in bytes.
const ANSWER: usize = 1 << 20;

/// The message of a failed command: with `--json` in the document's `errors`, otherwise on stderr.
fn complaint(out: &str, err: &str) -> String {
    let document = serde_json::from_str::<Value>(out).unwrap_or_default();
    let errors = document["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let said: Vec<&str> = errors.iter().filter_map(|e| e["message"].as_str()).collect();
    if !said.is_empty() {
        return said.join("; ");
    }
    let last = |text: &str| text.lines().rev().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned);
    // A hint follows the message, on lines of its own.
    let cause = err.lines().find(|l| l.contains("error")).map(|l| l.trim().to_owned());
    cause.or_else(|| last(err)).or_else(|| last(out)).unwrap_or_else(|| "it said nothing".to_owned())
}

/// A copy of the database, opened; a fresh one if there is none yet.
fn copy_database(ctx: &Ctx, folder: &Path) -> Result<(PathBuf, String)> {
    let from = ctx.paths.database();
    let to = folder.join("copy.db");
    if !from.exists() {
        return Ok((to, "there is no database yet".to_owned()));
    }
    let store = Store::open(&from, Mode::ReadOnly)?;
    store.backup(&to)?;
    Ok((to, "it opens, and was copied".to_owned()))
}

fn migrate(copy: &Path) -> Result<String> {
    Store::open(copy, Mode::Migrate)?;
    Store::open(copy, Mode::Use)?;
    Ok("the copy migrates".to_owned())
}

fn forge(ctx: &mut Ctx, project: &Project) -> Result<String> {
    let forge = projects::forge(ctx, project)?;
    let (who, repo) = (forge.user()?, forge.repository()?);
    if repo.archived {
        bail!("the repository is archived");
    }
    Ok(if forge.is_remote() { format!("the account is {}", who.login) } else { "the local one".to_owned() })
}

fn notifier(ctx: &Ctx) -> Result<String> {
    let notify = &ctx.config.notify;
    if let Some(t) = &notify.telegram {
        t.token.resolve().context("the Telegram token")?;
    }
    if let Some(t) = notify.webhook.as_ref().and_then(|w| w.token.as_ref()) {
        t.resolve().context("the webhook's token")?;
    }
    Ok(match (&notify.telegram, &notify.webhook, &notify.command) {
        (None, None, None) => "the card is a file of the state directory".to_owned(),
        _ => "its credentials can be read".to_owned(),
    })
}

fn resolved(ctx: &mut Ctx, project: &Project) -> (Result<String>, Result<String>) {
    let seat = match boards::seat(ctx, project) {
        Ok(seat) => seat,
        Err(e) => {
            let again = anyhow::anyhow!("{e:#}");
            return (Err(e), Err(again));
        }
    };
    let shown = Logical::ALL.iter().filter(|l| !Intent::ALL.iter().any(|i| i.logical() == **l));
    let missing: Vec<String> =
        shown.filter(|l| seat.resolved.status_for(**l).is_none()).map(ToString::to_string).collect();
    let statuses = if missing.is_empty() {
        Ok("every status resolves".to_owned())
    } else {
        Err(anyhow::anyhow!("nothing stands for {}", missing.join(", ")))
    };
    let off: Vec<String> = Intent::ALL
        .iter()
        .map(|i| i.logical())
        .filter(|l| seat.resolved.status_for(*l).is_none())
        .map(|l| l.to_string())
        .collect();
    let intents = if off.is_empty() {
        Ok("every intent resolves".to_owned())
    } else {
        Err(anyhow::anyhow!("off: {}", off.join(", ")))
    };
    (statuses, intents)
}

/// C9: an ordinary step picks up a work item of the sandbox project, branches and queues it; then it is stopped.
fn sandbox(ctx: &mut Ctx, order: &Order<'_>) -> (Result<String>, Result<String>) {
    match through_sandbox(ctx, order) {
        Ok(both) => both,
        Err(e) => {
            let again = anyhow::anyhow!("{e:#}");
            (Err(e), Err(again))
        }
    }
}

type Both = (Result<String>, Result<String>);

fn through_sandbox(ctx: &mut Ctx, order: &Order<'_>) -> Result<Both> {
    let name = order.project.staging.sandbox.clone().context("staging.sandbox.project is not configured")?;
    let project = ctx.config.project(&name).cloned().with_context(|| format!("project {name} is not configured"))?;
    let now_ms = ctx.now().stamp.wall_ms;
    let seat = boards::seat(ctx, &project)?;
    let status = seat.resolved.status_for(Logical::ToAnalyse).cloned();
    let new = NewItem {
        title: &format!("Staging check {now_ms}"),
        body: "",
        labels: &[],
        priority: Priority::None,
        blocked_by: &[],
        status: &status.with_context(|| format!("nothing on the board of {name} starts a work item"))?,
        marker: Some(&format!("staging-check/{}/{now_ms}", std::process::id())),
        now_ms,
    };
    let key = seat.board.create(&new).context("creating a work item in the sandbox")?;
    // A step reads a local board automatically; a server has to be asked.
    let asks = project.board.is_remote();
    let mirror = projects::mirror(ctx, &project)?;
    let (mut branch, mut queued) = (None, None);
    let until = Instant::now() + SANDBOX;
    while (branch.is_none() || queued.is_none()) && Instant::now() < until {
        if asks && queued.is_none() {
            own(ctx, order.scratch, &["reconcile", "--project", &project.key])?;
        }
        own(ctx, order.scratch, &["tick", "--project", &project.key])?;
        // The step wrote the real database; a copy in memory would not see it.
        let mut store = Store::open(&ctx.paths.database(), Mode::Use)?;
        if let Some(task) = store.read(|tx| tx.task_by_key(&key))? {
            let jobs = store.read(|tx| tx.jobs_of(task.id))?;
            // The first agent that the project's stages name.
            queued = jobs.iter().find(|j| j.agent.is_some()).map(|j| format!("job {} of {key}", j.id));
            let wanted = task
                .branch
                .unwrap_or_else(|| branch_name(&project.git.branch_prefix, &task.key, &task.title, task.round));
            let seen = mirror.remote_head(&wanted)?.map(|sha| format!("{wanted} at {}", sha.short()));
            branch = branch.or(seen);
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
    let ended = own(ctx, order.scratch, &["stop", key.as_str(), "--reason", "the staging check is over"]);
    let late = |what: &str| anyhow::anyhow!("{what} of {key} did not appear within {} s", SANDBOX.as_secs());
    if let Err(e) = ended {
        tracing::warn!(%key, "the sandbox work item could not be stopped: {e:#}");
    }
    Ok((branch.ok_or_else(|| late("the branch")), queued.ok_or_else(|| late("the first agent's job"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        answer(command, "sh", limit)
    }

    #[test]
    fn a_command_that_says_much_on_both_streams_ends_and_is_heard() {
        let much = "head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2; exit ";
        let limit = Duration::from_secs(30);
        assert_eq!(sh(&format!("{much}0"), limit).unwrap().len(), 300_000);
        assert!(sh(&format!("{much}3"), limit).unwrap_err().to_string().contains("exit status: 3: yyy"));
        let late = sh("sleep 60", Duration::from_millis(50)).unwrap_err();
        assert!(late.to_string().contains("did not end"), "{late}");
    }

    #[test]
    fn a_failures_message_is_the_commands_own() {
        let document = r#"{"errors": [{"code": 2, "message": "no such project", "hint": "name one"}]}"#;
        assert_eq!(complaint(document, ""), "no such project");
        assert_eq!(complaint("", "error: it is so\n  hint: do this\n"), "error: it is so");
        assert_eq!(complaint("only here\n", "\n"), "only here");
        assert_eq!(complaint("", ""), "it said nothing");
    }
}
