//! `orch config` (CLI-4, CFG-1).

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::{known, open};
use crate::config::{process_env, schema};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Show, check or describe the configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch config check && orch config show | grep serial_gate")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show every effective setting and its source; secrets appear only as references
    #[command(after_help = "Example:\n  orch config show --json")]
    Show,
    /// Read and check the configuration; exit 2 says what is wrong and where
    #[command(after_help = "Example:\n  orch --config ./orch.yaml config check")]
    Check,
    /// Print the JSON Schema of the file, for editors
    #[command(after_help = "Example:\n  orch config schema > orch.schema.json")]
    Schema,
    /// Trust the orch.yaml of a checkout: `orch` then uses it, and starts its commands as you
    #[command(after_help = "Example:\n  orch config trust ./orch.yaml")]
    Trust {
        /// The orch.yaml to trust
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Assign the state directory to this configuration file, after the file was moved or renamed
    #[command(after_help = "Example:\n  orch --config /etc/orch/orch.yaml config adopt")]
    Adopt,
}

impl Args {
    /// Whether it works without a configuration (ORD-3).
    pub fn needs_none(&self) -> bool {
        matches!(self.what, What::Schema | What::Trust { .. })
    }

    /// Whether it changes which configuration counts (BND-6).
    pub fn changes(&self) -> bool {
        matches!(self.what, What::Trust { .. } | What::Adopt)
    }
}

/// Shows, checks or prints; changes nothing.
pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    match &args.what {
        What::Trust { file } => {
            let (file, new) = known::trust(file)?;
            if call.out.is_json() {
                call.out.document(&json!({"file": file, "trusted": true, "changed": new, "errors": []}));
            } else {
                let word = if new { "is used from now on" } else { "counts already" };
                call.out.line(format!("{} {word} in its folder and below", file.display()));
            }
        }
        What::Adopt => return open::adopt(call),
        What::Schema => {
            let text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
            call.out.raw(&format!("{text}\n"));
        }
        What::Check => {
            let mut config = call.config()?;
            let path = process_env().remove("PATH").unwrap_or_default();
            let absent = config.absent(&path).into_iter().map(|(at, what)| format!("{at}: {what} is not there"));
            config.warnings.extend(absent);
            let not_hidden = config.not_hidden();
            config.warnings.extend(not_hidden);
            if call.out.is_json() {
                let keys: Vec<&str> = config.projects.iter().map(|p| p.key.as_str()).collect();
                call.out.document(&json!({
                    "file": config.file, "ok": true, "projects": keys, "warnings": config.warnings, "errors": [],
                }));
            } else {
                for warning in &config.warnings {
                    call.out.line(format!("warning: {warning}"));
                }
                let n = config.projects.len();
                call.out.line(format!("{}: ok, {n} project{}", config.file.display(), if n == 1 { "" } else { "s" }));
            }
        }
        What::Show => {
            let config = call.config()?;
            let shown = config.shown();
            if call.out.is_json() {
                call.out.document(&json!({
                    "file": config.file, "settings": shown, "warnings": config.warnings, "errors": [],
                }));
            } else {
                call.out.line(format!("# {}", config.file.display()));
                let wide = shown.iter().map(|s| s.path.chars().count()).max().unwrap_or(0).min(48);
                for s in &shown {
                    call.out.line(format!("{:<wide$}  {}  ({})", s.path, in_words(&s.value), s.source));
                }
                for warning in &config.warnings {
                    call.out.line(format!("# warning: {warning}"));
                }
            }
        }
    }
    Ok(Exit::Done)
}

fn in_words(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "\"\"".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
