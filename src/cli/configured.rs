//! The configuration of a call, and what this process does with it before anything else.

use super::Invocation;
use super::exit::{Exit, Failure};
use crate::adapters::{handed, modes, net};
use crate::config::{Config, ConfigError, load, load_or_bare, process_env, take_over};
use crate::model::redact;
use anyhow::Context;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Failure::usage(error.message);
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Invocation {
    /// The configuration selected by the global options and the environment. Fails with exit 2.
    pub fn config(&self) -> Result<Config, Failure> {
        let cwd = std::env::current_dir().context("finding the current folder")?;
        let config = load(self.global.config.as_deref(), self.global.state_dir.as_deref(), &process_env(), &cwd)?;
        modes::configure(&config.area_dir);
        reached(&config)?;
        Ok(config)
    }

    /// As [`Self::config`], for commands that also work without a configuration: then with the defaults and the
    /// variables alone.
    pub fn config_or_bare(&self) -> Result<Config, Failure> {
        let cwd = std::env::current_dir().context("finding the current folder")?;
        let given = (self.global.config.as_deref(), self.global.state_dir.as_deref());
        let config = load_or_bare(given.0, given.1, &process_env(), &cwd)?;
        reached(&config)?;
        Ok(config)
    }
}

/// What every command needs, with a configuration or without: the way to the network, what is never shown, and an
/// environment without secrets. Fails if the program can't be re-executed.
fn reached(config: &Config) -> Result<(), Failure> {
    let ca_file = Some(config.tls.ca_file.as_str()).filter(|f| !f.is_empty());
    net::configure(ca_file.map(Path::new), Path::new(&config.tools.git));
    redact::configure(config.known());
    out_of_environment(config)
}

/// Whether this process may re-execute itself: it is `orch` itself and has not started any work.
static MAY_BEGIN_AGAIN: AtomicBool = AtomicBool::new(false);

/// Reads the secrets that were passed to this process, and from now on keeps secrets out of its environment. The first
/// thing the program does (BND-4).
pub fn take_over_secrets() -> std::io::Result<()> {
    take_over(handed::take()?);
    MAY_BEGIN_AGAIN.store(true, Ordering::SeqCst);
    Ok(())
}

/// If a reference names a variable of this process's environment, re-executes the program without it.
fn out_of_environment(config: &Config) -> Result<(), Failure> {
    let values = config.variables();
    if !MAY_BEGIN_AGAIN.load(Ordering::SeqCst) || !values.keys().any(|name| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    let why = handed::begin_again(&values);
    Err(Failure::new(Exit::Broken, format!("restarting without secrets in the environment failed: {why}"))
        .hint("/proc must be mounted, and this program's file must exist"))
}
