//! Completion with live values (DSK-3): keys, projects, repositories, stages, gates. Writes nothing, and is silent if
//! there is no readable configuration.

use super::Cli;
use crate::adapters::store::Store;
use crate::config::{Config, load, process_env};
use crate::model::gate::Gate;
use crate::model::stage::Stage;
use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The variable that a shell's script sets.
const VARIABLE: &str = "COMPLETE";

/// Answers a shell that asks for values or for its script; `false`: no shell asked.
pub fn answered() -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let cwd = std::env::current_dir().ok();
    // A shell shows whatever is printed at the prompt, so errors are silent.
    CompleteEnv::with_factory(command).var(VARIABLE).try_complete(std::env::args_os(), cwd.as_deref()).unwrap_or(true)
}

/// A shell's script, the same as `COMPLETE=SHELL orch` prints.
pub fn script(shell: &str) -> std::io::Result<Vec<u8>> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let completer = shells.completer(shell).ok_or_else(|| std::io::Error::other(format!("no shell {shell:?}")))?;
    completer.write_registration(VARIABLE, "orch", "orch", "orch", &mut script)?;
    Ok(script)
}

/// The command line with live values where they are known.
fn command() -> Command {
    with_words(Cli::command().disable_help_subcommand(true))
}

fn with_words(command: Command) -> Command {
    let command = command.mut_args(|arg| match words(&arg) {
        Some(words) => arg.add(ArgValueCompleter::new(move |typed: &OsStr| matching(words(), typed))),
        None => arg,
    });
    command.mut_subcommands(with_words)
}

/// The possible values of an argument, by the name of its value.
fn words(arg: &Arg) -> Option<fn() -> Vec<String>> {
    let name = arg.get_value_names().and_then(|n| n.first()).map(|n| n.as_str());
    match (arg.get_id().as_str(), name) {
        (_, Some("TASK")) | ("blocked_by", _) => Some(tasks),
        ("project", _) => Some(|| projects(|p| p.key.clone())),
        ("base", _) => Some(|| projects(|p| p.base_name().to_owned())),
        (_, Some("REPO")) => Some(|| projects(|p| p.repo.clone())),
        ("stage" | "from", _) => Some(|| Stage::ALL.iter().map(ToString::to_string).collect()),
        ("gate", _) => Some(|| Gate::ALL.iter().map(ToString::to_string).collect()),
        _ => None,
    }
}

fn matching(words: Vec<String>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy().to_ascii_lowercase();
    words.into_iter().filter(|w| w.to_ascii_lowercase().starts_with(&typed)).map(CompletionCandidate::new).collect()
}

fn tasks() -> Vec<String> {
    let keys = || {
        let path = config()?.state_dir.join("orch.db");
        let mut store = Store::glance(&path).ok()?;
        store.read(|tx| tx.all_keys()).ok()
    };
    keys().unwrap_or_default()
}

fn projects(of: fn(&crate::config::Project) -> String) -> Vec<String> {
    config().map(|c| c.projects.iter().map(of).collect()).unwrap_or_default()
}

/// The configuration named by the words typed so far, or the one found here.
fn config() -> Option<Config> {
    let typed: Vec<OsString> = std::env::args_os().skip_while(|a| a != "--").skip(1).collect();
    let named = |option: &str, variable: &str| -> Option<PathBuf> {
        let after = typed.iter().position(|a| a == option).and_then(|i| typed.get(i + 1).cloned());
        let joined = || {
            let with = format!("{option}=");
            typed.iter().find_map(|a| a.to_str()?.strip_prefix(&with).map(OsString::from))
        };
        after.or_else(joined).or_else(|| std::env::var_os(variable)).filter(|v| !v.is_empty()).map(PathBuf::from)
    };
    let cwd = std::env::current_dir().ok()?;
    let (file, state) = (named("--config", "ORCH_CONFIG"), named("--state-dir", "ORCH_STATE_DIR"));
    load(file.as_deref(), state.as_deref(), &process_env(), &cwd).ok()
}
