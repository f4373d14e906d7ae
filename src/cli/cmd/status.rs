//! `orch status` (CLI-3).

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::cli::output::{self, ago, local};
use crate::cli::signals::Signals;
use crate::engine::status::{self, Which};
use crate::engine::{Ctx, card};
use crate::model::ids::TaskId;
use crate::model::report::Rule;
use crate::model::stage::Agent;
use crate::model::status::{Status, TaskRow};
use crate::model::text::clip;
use crate::render;
use serde_json::json;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const WATCH: Duration = Duration::from_secs(2);

/// What runs, waits, is blocked, frozen or halted, and today's cost; of one task its card
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  orch status\n  orch status ORCH-17\n  orch status --json | jq '.tasks[] | select(.waiting_for) | .key'"
)]
pub struct Args {
    /// One task: its card
    #[arg(value_name = "TASK")]
    task: Option<String>,
    /// Every task, not only what is open and the 100 finished last
    #[arg(long, conflicts_with = "task")]
    all: bool,
    /// Show it again every two seconds until interrupted
    #[arg(long)]
    watch: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "status")?;
    let which = match &args.task {
        Some(name) => Which::One(open::task(&mut ctx, name)?.id),
        None if args.all => Which::All,
        None => Which::Present,
    };
    if !args.watch {
        return show(call, &mut ctx, which).map(|()| Exit::Done);
    }
    if call.out.is_json() {
        return Err(Failure::usage("--watch shows a screen, and --json is one document")
            .hint("call `orch status --json` as often as needed"));
    }
    let signals = Signals::watch()?;
    let screen = call.out.is_terminal();
    loop {
        // A database that came into being meanwhile is seen too.
        let mut ctx = open::view(call, "status")?;
        if screen {
            call.out.raw("\x1b[H\x1b[2J");
        }
        show(call, &mut ctx, which)?;
        if signals.wait_until(Instant::now() + WATCH) || call.out.is_closed() {
            return Ok(Exit::Done);
        }
        if !screen {
            call.out.line("");
        }
    }
}

fn show(call: &Invocation, ctx: &mut Ctx, which: Which) -> Result<(), Failure> {
    let told = status::read(ctx, which)?;
    let card = match which {
        Which::One(id) => Some(card_text(ctx, id)?),
        Which::Present | Which::All => None,
    };
    if call.out.is_json() {
        let mut document = serde_json::to_value(&told).unwrap_or_default();
        if let (Some(text), Some(fields)) = (card, document.as_object_mut()) {
            fields.insert("card".to_owned(), json!(text));
        }
        call.out.document(&document);
    } else if let Some(text) = card {
        let held = told.tasks.first().map(state).unwrap_or_default();
        call.out.raw(&format!("{}\n\n{held}\n", text.trim_end()));
    } else {
        call.out.raw(&page(&told, call.out.width(), ctx.now().stamp.wall_ms));
    }
    Ok(())
}

fn card_text(ctx: &mut Ctx, id: TaskId) -> Result<String, Failure> {
    let data = card::of(ctx, id)?;
    Ok(render::card::card(&data, ctx.config.notify.locale).plain)
}

/// One sentence: what a task does or waits for.
fn state(row: &TaskRow) -> String {
    let put_off = row.held_by.as_ref().is_some_and(|h| h.rule == Rule::Backoff);
    if let Some(job) = row.running_job.as_ref().filter(|_| !put_off) {
        let who = job.agent.map_or_else(|| job.kind.to_string(), |a| a.to_string());
        let run = job.run.map(|r| format!(" (run {r})")).unwrap_or_default();
        return format!("{who} at work{run}");
    }
    if let Some(held) = &row.held_by {
        let until = held.until.as_deref().map(|u| format!(", until {}", local(u))).unwrap_or_default();
        return clip(&format!("{}: {}{until}", held.rule, held.why), 300);
    }
    if row.open { "moves on with the next step".to_owned() } else { String::new() }
}

fn cost(row: &TaskRow) -> String {
    match row.cost_usd {
        None => "?".to_owned(),
        Some(usd) => format!("{}${usd:.2}", if row.cost_is_least { "≥" } else { "" }),
    }
}

fn page(s: &Status, width: Option<u16>, now_ms: i64) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    if let Some(reason) = &s.stop.halt_reason {
        say(format!("HALTED: {}; `orch resume` lifts it\n", clip(reason, 200)));
    }
    for f in &s.serial_gate.frozen {
        let by = f.task.as_deref().map(|t| format!(" by {t}")).unwrap_or_default();
        let why = clip(&f.reason, 200);
        say(format!("FROZEN: {} since {}{by}: {why}; `orch unfreeze {}` lifts it\n", f.repo, local(&f.since), f.repo));
    }
    let (open, ended): (Vec<&TaskRow>, Vec<&TaskRow>) = s.tasks.iter().partition(|r| r.open);
    if s.tasks.is_empty() {
        say("no task yet: `orch new TITLE` writes a work item, `orch tick` starts it".to_owned());
    }
    for (rows, title) in [(open, ""), (ended, "Finished")] {
        if rows.is_empty() {
            continue;
        }
        if !title.is_empty() {
            say(format!("\n{title}"));
        }
        say(table(&rows, width, now_ms));
    }
    let q = &s.queue;
    say(format!(
        "\nqueue: {} queued, {} running, {} done, {} failed, {} cancelled; today ${:.2}",
        q.queued, q.running, q.done, q.failed, q.cancelled, s.limits.cost_today_usd
    ));
    for c in &s.confinement {
        let whose = if c.of.len() > Agent::ALL.len() { String::new() } else { format!(" ({})", c.of.join(", ")) };
        match (c.held.as_deref(), &c.why) {
            (None, why) => say(format!(
                "NOT STARTED in {}{whose}: {}",
                c.project,
                clip(why.as_deref().unwrap_or("nothing holds it"), 300)
            )),
            (Some("unconfined"), _) => say(format!(
                "unconfined in {}{whose}: agents and the branch's code have all rights of this account (docs/security.md)",
                c.project
            )),
            (Some(engine), _) if c.network_open => {
                say(format!("confined by {engine} in {}{whose}, with the network open", c.project));
            }
            (Some(_), _) => {}
        }
    }
    for d in &s.services_down {
        say(format!("unavailable since {}: {}: {}", local(&d.since), d.name, clip(&d.why, 300)));
    }
    for l in &s.merge_lease {
        let alive = if l.alive { "" } else { ", with no process at work" };
        say(format!("merge lease of {}: {}{alive}", l.repo, l.task.as_deref().unwrap_or("-")));
    }
    for w in &s.post_deploy.watches {
        say(format!("watched in {}: {}", w.repo, w.task));
    }
    for c in &s.limits.cooldowns {
        say(format!("{} cools down until {}: {}", c.credential, local(&c.until), clip(&c.reason, 160)));
    }
    for c in &s.reaper.suspects {
        say(format!("run {} of {}: its supervisor was seen gone {} times", c.run, c.task, c.seen));
    }
    if let Some(since) = &s.reconcile.stale_since {
        say(format!("board statuses are stale since {}", local(since)));
    }
    for t in &s.reconcile.throttled {
        say(format!("the board of {} asked to wait until {}", t.project, local(&t.until)));
    }
    for o in &s.reconcile.intents_off {
        say(format!("{}: `{}` does not steer: {}", o.project, o.intent, clip(&o.why, 200)));
    }
    if let Some(g) = &s.security.guard_change {
        say(format!("guard settings changed {}: {}", local(&g.at), guard_change(&g.detail)));
    }
    if s.outbox.open > 0 || s.outbox.parked > 0 {
        say(format!("messages: {} under way, {} refused", s.outbox.open, s.outbox.parked));
    }
    for o in &s.outbox.sinks_off {
        say(format!("{} refuses, tried again every 15 minutes: {}", o.sink, clip(&o.why, 200)));
    }
    for m in &s.outbox.messages {
        say(format!("refused: {} {}: {}", m.task.as_deref().unwrap_or("-"), m.sink, clip(&m.error, 160)));
    }
    for (on, what) in [
        (s.stop.enabled, "stop.status_enabled"),
        (s.reaper.enabled, "reaper.enabled"),
        (s.reconcile.enabled, "reconcile.enabled"),
    ] {
        if !on {
            say(format!("switched off: {what}"));
        }
    }
    text
}

/// Which settings, by which variables, and who started that step (RULE-39).
fn guard_change(detail: &serde_json::Value) -> String {
    let text = |v: &serde_json::Value| clip(v.as_str().unwrap_or("?"), 80);
    let changed = detail["changed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told: Vec<String> = changed
        .iter()
        .map(|c| {
            format!("{} was {}, is {} ({})", text(&c["setting"]), text(&c["was"]), text(&c["now"]), text(&c["source"]))
        })
        .collect();
    format!("{}; seen by `orch {}` of {}", told.join(", "), text(&detail["step"]), text(&detail["caller"]))
}

fn table(rows: &[&TaskRow], width: Option<u16>, now_ms: i64) -> String {
    let rows = rows.iter().map(|r| {
        let changed = ago(now_ms, r.finished_at.as_deref().unwrap_or(&r.updated_at));
        let (stage, round) = (r.stage.to_string(), r.attempt.to_string());
        vec![r.key.clone(), stage, round, cost(r), changed, clip(&r.title, 48), state(r)]
    });
    output::table(&["TASK", "STAGE", "ROUND", "COST", "CHANGED", "TITLE", "STATE"], rows, width)
}
