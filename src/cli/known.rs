//! The account's list of trusted configurations (ORD-3), and the warning about one that does not count, for commands
//! that need none.

use super::exit::Failure;
use super::init::install::lock;
use super::{Command, Invocation};
use crate::adapters::files;
use crate::config::{load, locate, process_env, search};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// Adds a file to the list; returns its canonical path and whether it is new. Fails with exit 2 if there is no such
/// file, no home, or if runs can write to it.
pub fn trust(file: &Path) -> Result<(PathBuf, bool), Failure> {
    let env = process_env();
    let list = locate::known_list(&env).ok_or_else(|| {
        Failure::usage("neither XDG_CONFIG_HOME nor HOME is set, so this account has no list of trusted files")
            .hint("set HOME, or name the file each time with --config FILE")
    })?;
    let there = |e: std::io::Error| {
        Failure::usage(format!("{} can't be found: {e}", file.display())).hint("orch config trust PATH/orch.yaml")
    };
    let real = std::fs::canonicalize(file).map_err(there)?;
    let unsuitable = !real.is_file() || real.file_name() != Some("orch.yaml".as_ref());
    let Some(text) = real.to_str().filter(|text| !unsuitable && !text.contains('\n')) else {
        return Err(Failure::usage(format!("{} can't be trusted: expected an orch.yaml", real.display()))
            .hint("name another file with --config FILE"));
    };
    let areas = [Some(real.clone()), locate::account_file(&env)].into_iter().flatten();
    let areas = areas.filter_map(|f| load(Some(&f), None, &env, Path::new("/")).ok()).map(|c| c.area_dir);
    if let Some(area) = areas.map(|a| std::fs::canonicalize(&a).unwrap_or(a)).find(|area| real.starts_with(area)) {
        return Err(Failure::usage(format!("{text} is in {}, where runs write, so it is never used", area.display()))
            .hint("copy it to one of your own folders"));
    }
    let folder = list.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let _only = lock(folder)?;
    let mut all = locate::known(&env).map_err(Failure::usage)?;
    if all.contains(&real) {
        return Ok((real, false));
    }
    all.push(real.clone());
    let text: String = all.iter().map(|path| format!("{}\n", path.display())).collect();
    files::replace(&list, text.as_bytes(), Some(0o600)).with_context(|| format!("writing {}", list.display()))?;
    Ok((real, true))
}

impl Command {
    /// Whether it works without a configuration, and so ignores one that does not count.
    pub fn needs_none(&self) -> bool {
        matches!(self, Self::Completions(_) | Self::Man(_) | Self::Demo(_) | Self::Init(_) | Self::SecurityScan(_))
            || matches!(self, Self::Config(args) if args.needs_none())
            || matches!(self, Self::StagingCheck(args) if !args.changes())
            || matches!(self, Self::PostDeployProbe(args) if !args.changes())
    }
}

/// The warning of a command that needs no configuration.
pub fn warn_of_passed(call: &Invocation) {
    let named = call.global.config.as_ref().is_some_and(|f| !f.as_os_str().is_empty());
    let Ok(dir) = std::env::current_dir() else { return };
    if let Some(passed) = (!named).then(|| search(&process_env(), &dir).passed).flatten() {
        tracing::warn!("{}", passed.warning());
    }
}

/// The same before clap's own output, help and version.
pub fn warning_of_help() -> Option<String> {
    let env = process_env();
    let named = env.get("ORCH_CONFIG").is_some_and(|v| !v.is_empty());
    let dir = std::env::current_dir().ok().filter(|_| !named)?;
    search(&env, &dir).passed.map(|passed| passed.warning())
}
