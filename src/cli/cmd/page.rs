//! `orch page` (DSK-2).

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::engine::page::{self, Extent};
use crate::render::cells::counted;
use serde_json::json;
use std::path::PathBuf;

/// Write the board, every task and the report as a static site
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  orch page --output /var/www/orch\n\nLinks are relative, so the site also works from disk. With `page: {dir: DIR}` in the configuration, every step that changed something writes it."
)]
pub struct Args {
    /// The folder, created if missing; `orch` changes only files that it wrote there
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "page")?;
    let written = page::write(&mut ctx, &args.output, Extent::Everything).map_err(|e| match page::is_foreign(&e) {
        true => Failure::usage(format!("{e:#}")).hint("name an empty folder, or one that `orch page` wrote"),
        false => Failure::from(e.context("writing the site")),
    })?;
    let Some(done) = written else { return Ok(Exit::Done) };
    if call.out.is_json() {
        call.out.document(&json!({"dir": args.output, "tasks": done.tasks, "files_written": done.files}));
        return Ok(Exit::Done);
    }
    let (tasks, files) = (counted(done.tasks as u64, "task"), counted(done.files as u64, "file"));
    call.out.line(format!("{tasks} in {} ({files} written)", args.output.join("index.html").display()));
    if done.fresh {
        call.out.line(page::readable(&args.output, ctx.config.page.documents));
    }
    Ok(Exit::Done)
}
