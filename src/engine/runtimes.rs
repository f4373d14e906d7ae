//! The configured runtimes as adapters, with their environment.

use super::Ctx;
use crate::adapters::confine::Engine;
use crate::adapters::runtime::{ClaudeSettings, CommandSettings, PresetKind, PresetSettings, Runtime, Sandbox};
use crate::config::{self, AgentSettings, RuntimeKind};
use anyhow::{Context, Result};
use std::ffi::OsString;

/// The runtime of an agent, confined by an engine: its own sandbox can't start under landlock (BND-2).
pub fn open(ctx: &Ctx, settings: &AgentSettings, engine: &Engine) -> Result<Runtime> {
    let runtime = ctx
        .config
        .runtimes
        .get(&settings.runtime)
        .with_context(|| format!("runtime {} is not configured", settings.runtime))?;
    Ok(match &runtime.kind {
        RuntimeKind::Command { command } => Runtime::Command(CommandSettings { argv: command.clone() }),
        RuntimeKind::Claude { program, permission_mode, allowed_tools, sandbox, extra_args } => {
            Runtime::Claude(ClaudeSettings {
                program: program.clone(),
                permission_mode: permission_mode.clone(),
                allowed_tools: allowed_tools.clone(),
                sandbox: match sandbox {
                    config::Sandbox::Auto if *engine == Engine::Landlock => Sandbox::Off,
                    config::Sandbox::Auto => Sandbox::Auto,
                    config::Sandbox::Required => Sandbox::Required,
                    config::Sandbox::Off => Sandbox::Off,
                },
                extra_args: extra_args.clone(),
            })
        }
        RuntimeKind::Tool(tool) => {
            let settings = PresetSettings { program: tool.program.clone(), extra_args: tool.extra_args.clone() };
            let preset = PresetKind::of(tool.kind).with_context(|| format!("{} is no preset", tool.kind))?;
            Runtime::Preset(preset, settings)
        }
    })
}

/// Names and values.
type Env = Vec<(OsString, OsString)>;

/// The runtime's own `env`, references resolved now.
pub fn env(ctx: &Ctx, settings: &AgentSettings) -> Result<Env> {
    let Some(runtime) = ctx.config.runtimes.get(&settings.runtime) else { return Ok(Default::default()) };
    let mut out = Vec::new();
    for (name, value) in &runtime.env {
        match value.resolve() {
            Ok(secret) => out.push((name.into(), secret.expose().into())),
            // The default runtime's settings name a key that a subscription login does not need.
            Err(e) if runtime.kind.kind().may_lack_a_key() => tracing::debug!("{name} is left out: {e}"),
            Err(e) => return Err(e).with_context(|| format!("{name} of runtime {}", settings.runtime)),
        }
    }
    Ok(out)
}

/// The kind of the runtime with this name; `None`: it is no longer configured.
pub fn kind(config: &config::Config, name: &str) -> Option<config::RunnerKind> {
    config.runtimes.get(name).map(|r| r.kind.kind())
}
