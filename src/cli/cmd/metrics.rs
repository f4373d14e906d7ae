//! `orch metrics` (CLI-3): Prometheus text format.

use crate::adapters::files;
use crate::adapters::store::StoreError;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::engine::status::{self, Which};
use crate::render::metrics;
use anyhow::Context;
use serde_json::json;
use std::path::PathBuf;

/// Print metrics in the Prometheus text format, for node_exporter's textfile collector
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch metrics --output /var/lib/node_exporter/textfile/orch.prom")]
pub struct Args {
    /// Write to this file, atomically, instead of to stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "metrics")?;
    let snapshot = status::read(&mut ctx, Which::Present)?;
    let now = ctx.now().stamp.wall_ms;
    let (stages, cost) = ctx.store.read(|tx| {
        Ok::<_, StoreError>((tx.task_counts()?.into_iter().collect(), tx.cost_since(None, 0)?.known_micros))
    })?;
    let text = metrics::page(&snapshot, &stages, status::dollars(cost), now);
    match &args.output {
        None if call.out.is_json() => call.out.document(&json!({"text": text})),
        None => call.out.raw(&text),
        Some(file) => {
            // Readable for the collector's user.
            files::output(file, text.as_bytes(), Some(0o644)).with_context(|| format!("writing {}", file.display()))?;
            if call.out.is_json() {
                call.out.document(&json!({"file": file}));
            }
        }
    }
    Ok(Exit::Done)
}
