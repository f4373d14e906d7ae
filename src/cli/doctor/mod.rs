//! The checks of `orch doctor`. Each has a level, what was found, and how to fix it. Nothing is written except a
//! temporary folder, which is deleted at the end.

mod base;
pub mod bundle;
mod cluster;
mod confinement;
pub mod fix;
mod forge;
mod inside;
mod machine;
mod services;
mod timers;
mod workflows;

use crate::cli::Invocation;
use crate::cli::exit::Failure;
use crate::cli::open;
use crate::config::Config;
use crate::engine::{Ctx, notices};
use crate::model::examined::Examined;
pub use crate::model::examined::Level;
use anyhow::Context;
use serde::Serialize;

/// One thing checked.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// `machine`, `tools`, `secrets`, `agents`, `notify`, or a project's key.
    pub area: String,
    pub name: String,
    pub level: Level,
    /// What was found.
    pub message: String,
    /// How to fix it; empty where there is nothing to fix.
    pub fix: String,
}

/// All checks, in order.
#[derive(Debug, Default)]
pub struct Chart {
    pub checks: Vec<Check>,
}

impl Chart {
    fn add(&mut self, area: &str, name: &str, level: Level, message: impl Into<String>, fix: impl Into<String>) {
        let (message, fix) = (message.into(), fix.into());
        self.checks.push(Check { area: area.to_owned(), name: name.to_owned(), level, message, fix });
    }

    /// What an edge says of itself.
    fn extend(&mut self, area: &str, found: Vec<Examined>) {
        for Examined { name, level, message, fix } in found {
            self.add(area, name, level, message, fix);
        }
    }

    fn ok(&mut self, area: &str, name: &str, message: impl Into<String>) {
        self.add(area, name, Level::Ok, message, "");
    }

    fn warn(&mut self, area: &str, name: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(area, name, Level::Warning, message, fix);
    }

    fn fail(&mut self, area: &str, name: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(area, name, Level::Failed, message, fix);
    }

    /// Whether any check failed.
    pub fn is_broken(&self) -> bool {
        self.checks.iter().any(|c| c.level == Level::Failed)
    }
}

/// Runs all checks. Fails only if the configuration itself can't be read (exit 2).
///
/// `quick`: no base is checked. `say` is called before anything that takes long.
pub fn examine(call: &Invocation, quick: bool, say: &dyn Fn(&str)) -> Result<(Config, Chart), Failure> {
    let config = open::bound(call)?;
    let mut chart = Chart::default();
    machine::configuration(&config, &mut chart);
    machine::state(&config, &mut chart);
    machine::executor(&config, &mut chart);
    machine::network(&mut chart);
    machine::search_path(&config, &mut chart);
    machine::tools(&config, &mut chart);
    timers::all(&config, &mut chart);
    timers::repositories(call, &config, &mut chart);
    machine::secrets(&config, &mut chart);
    machine::readable(&config, &mut chart);
    machine::waivers(&config, &mut chart);
    let scratch = tempfile::tempdir().context("creating a temporary folder")?;
    machine::agents(&config, scratch.path(), &mut chart);
    // Mirrors and caches go to the temporary folder, rows to a copy of the database.
    let mut elsewhere = config.clone();
    elsewhere.state_dir = scratch.path().to_owned();
    confinement::all(&elsewhere, &mut chart);
    inside::bounds(&config, &mut chart);
    inside::all(&elsewhere, &mut chart);
    cluster::all(&elsewhere, say, &mut chart);
    match open::elsewhere(elsewhere, &config.state_dir.join("orch.db")) {
        Ok(mut ctx) => {
            services::rows(&mut ctx, &mut chart);
            services::all(&mut ctx, &mut chart);
            if !quick {
                base::all(&mut ctx, &config, say, &mut chart);
            }
            services::default_branches(&mut ctx, &config, &mut chart);
            services::telegram(&config, notices::moved_chat(&mut ctx), &mut chart);
        }
        Err(e) => {
            chart.fail("machine", "database", e.message, e.hint.unwrap_or_default());
            services::telegram(&config, None, &mut chart);
        }
    }
    Ok((config, chart))
}

/// A project's services are reached through the engine's own clients.
fn of_project(ctx: &Ctx) -> Vec<crate::config::Project> {
    ctx.config.projects.clone()
}
