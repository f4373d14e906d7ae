//! The programs that play agents, as they are written in the file: each kind has its own keys (RUN-5).

use super::parts::{argv_here, argv_schema, env};
use super::secret::EnvValue;
use super::types::{CliTool, Confine, RunnerKind, Runtime, RuntimeKind, Sandbox};
use crate::model::reading::{kinds, program};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One program by its kind.
pub(super) enum RuntimeKeys {
    Claude(ClaudeKeys),
    Command(CommandKeys),
    Codex(ToolKeys),
    Gemini(ToolKeys),
    OpenCode(ToolKeys),
}

kinds! {
    RuntimeKeys, KIND_NAMED, "claude" => Claude(ClaudeKeys), "command" => Command(CommandKeys),
    "codex" => Codex(ToolKeys), "gemini" => Gemini(ToolKeys), "opencode" => OpenCode(ToolKeys)
}

/// Claude Code.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClaudeKeys {
    /// Name or path
    #[serde(deserialize_with = "program")]
    program: String,
    /// Its `--permission-mode`
    permission_mode: String,
    /// Its `--allowedTools`
    allowed_tools: Vec<String>,
    /// Its own sandbox
    sandbox: Sandbox,
    /// Further arguments
    extra_args: Vec<String>,
    /// Its own environment: literals or references
    #[serde(deserialize_with = "env")]
    env: BTreeMap<String, EnvValue>,
    /// Confinement of this runtime's agents; only stricter than the section at the top
    confine: Option<Confine>,
}

impl Default for ClaudeKeys {
    fn default() -> Self {
        let (sandbox, extra_args, env, confine) = Default::default();
        let allowed_tools = ["Read", "Grep", "Glob", "Edit", "Write", "Bash"].map(str::to_owned).to_vec();
        let (program, permission_mode) = ("claude".into(), "dontAsk".into());
        Self { program, permission_mode, allowed_tools, sandbox, extra_args, env, confine }
    }
}

/// A program of one's own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandKeys {
    /// Program and arguments; the prompt is on stdin
    #[serde(deserialize_with = "argv_here")]
    #[schemars(schema_with = "argv_schema")]
    command: Vec<String>,
    /// Its own environment: literals or references
    #[serde(default, deserialize_with = "env")]
    env: BTreeMap<String, EnvValue>,
    /// Confinement of this runtime's agents; only stricter than the section at the top
    confine: Option<Confine>,
}

/// An agent CLI without settings of its own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolKeys {
    /// Name or path; default: the kind's own name
    #[serde(default, deserialize_with = "program")]
    program: String,
    /// Further arguments
    #[serde(default)]
    extra_args: Vec<String>,
    /// Its own environment: literals or references
    #[serde(default, deserialize_with = "env")]
    env: BTreeMap<String, EnvValue>,
    /// Confinement of this runtime's agents; only stricter than the section at the top
    confine: Option<Confine>,
}

impl From<RuntimeKeys> for Runtime {
    fn from(keys: RuntimeKeys) -> Self {
        match keys {
            RuntimeKeys::Claude(keys) => {
                let ClaudeKeys { program, permission_mode, allowed_tools, sandbox, extra_args, env, confine } = keys;
                let kind = RuntimeKind::Claude { program, permission_mode, allowed_tools, sandbox, extra_args };
                Self { kind, env, confine }
            }
            RuntimeKeys::Command(CommandKeys { command, env, confine }) => {
                Self { kind: RuntimeKind::Command { command }, env, confine }
            }
            RuntimeKeys::Codex(keys) => tool(RunnerKind::Codex, keys),
            RuntimeKeys::Gemini(keys) => tool(RunnerKind::Gemini, keys),
            RuntimeKeys::OpenCode(keys) => tool(RunnerKind::OpenCode, keys),
        }
    }
}

fn tool(kind: RunnerKind, keys: ToolKeys) -> Runtime {
    let ToolKeys { program, extra_args, env, confine } = keys;
    let program = if program.is_empty() { kind.as_str().to_owned() } else { program };
    Runtime { kind: RuntimeKind::Tool(CliTool { kind, program, extra_args }), env, confine }
}
