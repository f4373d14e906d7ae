//! `orch status` (CLI-3, DSK-1).

use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, open, screen::Screen, signals::Signals};
use crate::engine::status::{self, Which};
use crate::engine::{Ctx, card};
use crate::render::board::{page, screen, state};
use crate::render::view::View;
use serde_json::json;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const WATCH: Duration = Duration::from_secs(2);

/// Show what needs you, what is running, what waits, and today's cost; with TASK, its card
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  orch status\n  orch status ORCH-17\n  orch status --json | jq '.tasks[] | select(.waiting_for) | .key'"
)]
pub struct Args {
    /// A task's key: show its card
    #[arg(value_name = "TASK")]
    task: Option<String>,
    /// Show every task and every key; default: open tasks, and with --json the 100 that ended last
    #[arg(long, conflicts_with = "task")]
    all: bool,
    /// Fill the screen and refresh it every two seconds, until interrupted
    #[arg(long)]
    watch: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "status")?;
    let which = match &args.task {
        Some(name) => Which::One(open::task(&mut ctx, name)?.id),
        None if args.all => Which::All,
        None if call.out.is_json() => Which::Present,
        None => Which::Open,
    };
    if args.watch {
        return watch(call, which, args.all);
    }
    if call.out.is_json() {
        document(call, &mut ctx, which)?;
        open::warn_of_unread(&ctx);
        return Ok(Exit::Done);
    }
    let mut view = view(call, &ctx, args.all);
    let text = match which {
        Which::One(id) => one(&mut ctx, id, &view)?,
        Which::Present | Which::Open | Which::All => {
            let shown = status::read(&mut ctx, which)?;
            if shown.tasks.is_empty() {
                view.pending = status::pending(&ctx);
            }
            let lines = page(&shown, &view);
            lines.iter().fold(String::new(), |mut text, line| {
                let _ = writeln!(text, "{}", line.painted(call.out.is_coloured()));
                text
            })
        }
    };
    open::warn_of_unread(&ctx);
    call.out.raw(&text);
    Ok(Exit::Done)
}

fn view(call: &Invocation, ctx: &Ctx, all: bool) -> View {
    let (now_ms, zone) = (ctx.now().stamp.wall_ms, jiff::tz::TimeZone::system());
    View { columns: call.out.columns(), all, now_ms, zone, pending: Vec::new() }
}

/// One screen, repainted until a signal arrives or the reader is gone.
fn watch(call: &Invocation, which: Which, all: bool) -> CmdResult {
    if call.out.is_json() {
        return Err(Failure::usage("--watch shows a screen, but --json is one document")
            .hint("run `orch status --json` as often as needed"));
    }
    if !call.out.is_terminal() {
        return Err(Failure::usage("--watch needs a terminal on stdout")
            .hint("run `orch status` as often as needed, or `watch orch status`"));
    }
    let signals = Signals::watch()?;
    let painted = Screen::open(&call.out);
    loop {
        // Also notices a database that was created meanwhile.
        let mut ctx = open::view(call, "status")?;
        let view = view(call, &ctx, all);
        let rows = call.out.size().map_or(24, |(_, rows)| rows);
        let lines: Vec<String> = match which {
            Which::One(id) => one(&mut ctx, id, &view)?.lines().take(rows).map(str::to_owned).collect(),
            Which::Present | Which::Open | Which::All => {
                let lines = screen(page(&status::read(&mut ctx, which)?, &view), rows);
                lines.iter().map(|l| l.painted(call.out.is_coloured())).collect()
            }
        };
        painted.paint(&lines);
        if signals.wait_until(Instant::now() + WATCH) || call.out.is_closed() {
            return Ok(Exit::Done);
        }
    }
}

fn document(call: &Invocation, ctx: &mut Ctx, which: Which) -> Result<(), Failure> {
    let mut document = serde_json::to_value(status::read(ctx, which)?).unwrap_or_default();
    if let (Which::One(id), Some(fields)) = (which, document.as_object_mut()) {
        fields.insert("card".to_owned(), json!(card::plain(ctx, id)?));
    }
    call.out.document(&document);
    Ok(())
}

/// A task's card, and what the task does or waits for.
fn one(ctx: &mut Ctx, id: crate::model::ids::TaskId, view: &View) -> Result<String, Failure> {
    let shown = status::read(ctx, Which::One(id))?;
    let card = card::plain(ctx, id)?;
    let held = shown.tasks.first().map(|row| state(row, view)).unwrap_or_default();
    let held = if held.is_empty() { held } else { format!("\n{held}\n") };
    Ok(format!("{}\n{held}", card.trim_end()))
}
