//! The `claude` runtime (RUN-5, RUN-7c): Claude Code in print mode with stream-json output, isolated from the machine's
//! own settings and from those of the checked-out repository. `claude_events` reads its events.

use super::{Launch, Request, Session, model, plain, quoted};
use crate::model::outcome::RuntimeKind;
use crate::model::stage::Agent;
use std::ffi::OsString;
use std::path::Path;

pub(super) use super::claude_events::Seen;

/// Whether the Bash tool runs in bubblewrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sandbox {
    Off,
    /// If bubblewrap and socat are installed.
    #[default]
    Auto,
    /// Always: without them the CLI refuses to start.
    Required,
}

/// Configuration of a runtime of kind `claude`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaudeSettings {
    /// Name or path.
    pub program: String,
    pub permission_mode: String,
    /// Permission rules, such as `Read` or `Bash(cargo *)`. Tools that no rule names do not exist for the agent.
    pub allowed_tools: Vec<String>,
    pub sandbox: Sandbox,
    /// Appended last, unchanged.
    pub extra_args: Vec<String>,
}

impl Default for ClaudeSettings {
    fn default() -> Self {
        Self {
            program: "claude".to_owned(),
            permission_mode: DONT_ASK.to_owned(),
            allowed_tools: ["Read", "Grep", "Glob", "Edit", "Write", "Bash"].map(str::to_owned).to_vec(),
            sandbox: Sandbox::Auto,
            extra_args: Vec::new(),
        }
    }
}

const DONT_ASK: &str = "dontAsk";
const PERMISSION_MODES: [&str; 6] = ["acceptEdits", "auto", "bypassPermissions", "manual", DONT_ASK, "plan"];
const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];
const ALIASES: [&str; 7] = ["default", "best", "sonnet", "opus", "haiku", "fable", "opusplan"];

/// Files that the sandbox protects by mounting over them; where one did not exist, it leaves an empty file behind.
const MASKED: [&str; 12] = [
    ".bashrc",
    ".bash_profile",
    ".zshrc",
    ".zprofile",
    ".profile",
    ".gitconfig",
    ".gitmodules",
    ".ripgreprc",
    ".mcp.json",
    ".vscode",
    ".idea",
    ".claude",
];

/// How often one model call is retried: half a minute in total. Then the job goes back to the queue, which waits longer
/// and costs nothing (RUN-7).
const RETRIES: &str = "6";

/// A full model name or a known alias, with or without the long-context suffix.
fn is_model(name: &str) -> bool {
    let base = name.strip_suffix("[1m]").unwrap_or(name);
    let full = base.strip_prefix("claude-").is_some_and(|rest| !rest.is_empty() && plain(base, ".-"));
    full || ALIASES.contains(&base)
}

/// A UUID in its usual form; with anything else the CLI refuses to start.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|p| p.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The flags named in the CLI's own help, for checking a CLI before it is used.
pub const CLAUDE_FLAGS: &[&str] = &[
    "--output-format",
    "--verbose",
    "--permission-mode",
    "--tools",
    "--allowedTools",
    "--setting-sources",
    "--settings",
    "--model",
    "--fallback-model",
    "--effort",
    "--max-budget-usd",
    "--session-id",
    "--resume",
    "--strict-mcp-config",
];

pub(super) fn launch(settings: &ClaudeSettings, request: &Request<'_>) -> Launch {
    // The CLI's own preconditions: without either program its sandbox does not start.
    let sandbox_works = ["bwrap", "socat"].iter().all(|p| which::which(p).is_ok());
    launch_with(settings, request, sandbox_works)
}

/// Joins every value to its flag with `=`: then a variadic flag can't take a second word, and no value looks like a
/// flag.
fn launch_with(settings: &ClaudeSettings, request: &Request<'_>, sandbox_works: bool) -> Launch {
    let mut launch = Launch::default();
    let judges = request.agent == Agent::Reviewer;
    let judge;
    let settings = if judges {
        judge = as_judge(settings, &mut launch.notes);
        &judge
    } else {
        settings
    };
    let notes = &mut launch.notes;
    let mut argv: Vec<OsString> =
        [settings.program.as_str(), "-p", "--output-format=stream-json", "--verbose"].map(OsString::from).to_vec();
    let mut masked = Vec::new();
    let mut flag = |name: &str, value: &str| argv.push(format!("--{name}={value}").into());

    let mode = settings.permission_mode.as_str();
    if !PERMISSION_MODES.contains(&mode) {
        notes.push(format!(
            "permission mode {} is not one of {}; using {DONT_ASK}",
            quoted(mode),
            PERMISSION_MODES.join(", ")
        ));
    }
    flag("permission-mode", if PERMISSION_MODES.contains(&mode) { mode } else { DONT_ASK });
    flag("tools", &tool_names(&settings.allowed_tools).join(","));
    if !settings.allowed_tools.is_empty() {
        flag("allowedTools", &settings.allowed_tools.join(","));
    }
    flag("setting-sources", "user");
    if let Some(sandbox) = sandbox(settings.sandbox, sandbox_works, notes) {
        flag("settings", &sandbox);
        masked = MASKED.to_vec();
    } else if judges {
        // A hook in the user's settings would start a program.
        flag("settings", r#"{"disableAllHooks":true}"#);
    }

    launch.model = model(request.model_candidates, is_model, RuntimeKind::Claude, notes);
    if let Some(model) = &launch.model {
        flag("model", model);
    }
    let fallback = fallback(request.fallback_model, launch.model.as_deref(), notes);
    if !fallback.is_empty() {
        flag("fallback-model", &fallback.join(","));
    }
    if EFFORTS.contains(&request.effort) {
        flag("effort", request.effort);
    } else if !request.effort.is_empty() {
        notes.push(format!("effort {} is not one of {}; left out", quoted(request.effort), EFFORTS.join(", ")));
    }
    if let Some(cap) = request.max_cost_usd.filter(|c| c.is_finite() && *c > 0.0) {
        flag("max-budget-usd", &cap.to_string());
    }
    match session(request, notes) {
        Some(Session::Fresh(id)) => {
            flag("session-id", id);
            launch.session = Some(id.to_owned());
        }
        Some(Session::Resume(id)) => {
            flag("resume", id);
            launch.session = Some(id.to_owned());
            launch.resumed = true;
        }
        None => {}
    }
    argv.push("--strict-mcp-config".into());
    if let Some(rules) = request.trusted_rules {
        if rules.is_file() {
            let mut arg = OsString::from("--append-system-prompt-file=");
            arg.push(rules);
            argv.push(arg);
            // Otherwise a resumed conversation keeps the rules that its first run got.
            argv.push("--system-prompt-snapshot=off".into());
        } else {
            notes.push("the default branch's CLAUDE.md is not where it was put; left out".to_owned());
        }
    }
    argv.extend(settings.extra_args.iter().map(OsString::from));
    launch.masked = masked;
    launch.argv = argv;
    launch.env = environment(request.config_dir);
    launch
}

/// What a judge gets whatever the configuration says: tools that read, and the one that writes its verdict (R1).
const JUDGE_TOOLS: [&str; 4] = ["Read", "Grep", "Glob", "Write"];

/// The settings of a run that starts no programs. The operator's extra flags could add tools and are left out.
fn as_judge(settings: &ClaudeSettings, notes: &mut Vec<String>) -> ClaudeSettings {
    if !settings.extra_args.is_empty() {
        notes.push("extra_args are left out: a reviewer starts no program".to_owned());
    }
    ClaudeSettings {
        program: settings.program.clone(),
        permission_mode: DONT_ASK.to_owned(),
        allowed_tools: JUDGE_TOOLS.map(str::to_owned).to_vec(),
        sandbox: Sandbox::Off,
        extra_args: Vec::new(),
    }
}

fn environment(config_dir: &Path) -> Vec<(OsString, OsString)> {
    let set = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
    vec![
        ("CLAUDE_CONFIG_DIR".into(), config_dir.into()),
        set("DISABLE_AUTOUPDATER", "1"),
        set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        set("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
        set("CLAUDE_CODE_MAX_RETRIES", RETRIES),
    ]
}

/// The built-in tools that the rules name, once each. Tools of MCP servers are not built in.
fn tool_names(rules: &[String]) -> Vec<&str> {
    let mut names = Vec::new();
    for rule in rules {
        let name = rule.split_once('(').map_or(rule.as_str(), |(name, _)| name).trim();
        if !name.is_empty() && !name.starts_with("mcp__") && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The settings that put Bash into bubblewrap, as JSON on the command line: an agent could change a file in the
/// configuration folder between two runs, and a file that fails validation is silently ignored.
fn sandbox(wanted: Sandbox, works: bool, notes: &mut Vec<String>) -> Option<String> {
    let on = match wanted {
        Sandbox::Off => false,
        Sandbox::Required => true,
        Sandbox::Auto => {
            if !works {
                notes.push(
                    "sandbox: auto, but bubblewrap or socat is not installed: tools run without a sandbox".to_owned(),
                );
            }
            works
        }
    };
    on.then(|| {
        serde_json::json!({"sandbox": {
            "enabled": true,
            "failIfUnavailable": true,
            "allowUnsandboxedCommands": false,
            "autoAllowBashIfSandboxed": false,
        }})
        .to_string()
    })
}

/// The valid names of the fallback list. The CLI refuses the main model as its own fallback.
fn fallback<'a>(list: &'a str, main: Option<&str>, notes: &mut Vec<String>) -> Vec<&'a str> {
    let mut kept = Vec::new();
    for name in list.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        if !is_model(name) {
            notes.push(format!("fallback model name {} is not valid for claude, left out", quoted(name)));
        } else if main == Some(name) {
            notes.push(format!("fallback model {name} is the main model, left out"));
        } else if !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept
}

/// The CLI exits at once if a new conversation's id is in use, or if the id to resume is unknown.
fn session<'a>(request: &Request<'a>, notes: &mut Vec<String>) -> Option<Session<'a>> {
    let (id, wanted) = match request.session? {
        Session::Fresh(id) => (id, false),
        Session::Resume(id) => (id, true),
    };
    if !is_uuid(id) {
        notes.push(format!("session {} is not a UUID; the CLI chooses one", quoted(id)));
        return None;
    }
    let kept = has_transcript(request.config_dir, id);
    if kept != wanted {
        notes.push(if kept {
            format!("session {id} exists; resumed")
        } else {
            format!("session {id} is not in the configuration folder; started again")
        });
    }
    Some(if kept { Session::Resume(id) } else { Session::Fresh(id) })
}

/// Transcripts are `projects/<working folder with dashes>/<session>.jsonl`; resuming works from any folder.
fn has_transcript(config_dir: &Path, id: &str) -> bool {
    let Ok(projects) = std::fs::read_dir(config_dir.join("projects")) else { return false };
    let name = format!("{id}.jsonl");
    projects.flatten().any(|project| project.path().join(&name).is_file())
}

#[cfg(test)]
#[path = "claude_tests.rs"]
mod tests;
