//! Whether setup and CI pass on each project's base (ORD-2): a known result if there is one, else it is checked now.

use super::{Chart, Level};
use crate::cli::trial;
use crate::config::{Config, Project};
use crate::engine::Ctx;
use crate::engine::base_rows;
use crate::model::base::{Base, BaseState};

const FIX: &str = "fix the default branch or the named settings; until then no agent starts";

/// `ctx`: on a copy of the database, with a state directory of its own. `config`: the real one. `say` is called before
/// anything that takes long.
pub fn all(ctx: &mut Ctx, config: &Config, say: &dyn Fn(&str), chart: &mut Chart) {
    for project in &config.projects {
        one(ctx, config, project, say, chart);
    }
}

fn one(ctx: &mut Ctx, config: &Config, project: &Project, say: &dyn Fn(&str), chart: &mut Chart) {
    let (area, name) = (&project.key, "base");
    if !base_rows::applies(config, project) {
        return chart.ok(area, name, "nothing to run: neither setup nor CI is configured, or base.enabled is off");
    }
    // An unreachable remote is reported once, and not contacted again.
    if chart.checks.iter().any(|c| c.area == *area && c.name == "remote" && c.level == Level::Failed) {
        return chart.warn(area, name, "not checked: the default branch can't be read", "fix the remote first");
    }
    let digest = base_rows::digest(config, project);
    let (commit, tree) = match trial::head(ctx, project) {
        Ok(found) => found,
        // The remote's own check reports the same.
        Err(e) => return chart.warn(area, name, format!("not checked: {e:#}"), "fix the remote first"),
    };
    let known = ctx.store.read(|tx| {
        let passed = tx.meta(&base_rows::passed_key(project.base_name(), &tree, &digest))?.is_some();
        Ok::<_, crate::adapters::store::StoreError>((passed, base_rows::row(tx, project.base_name())?))
    });
    match known {
        Ok((true, _)) => return chart.ok(area, name, format!("green at {}", commit.short())),
        Ok((false, Some(b))) if b.tree == tree && b.config == digest && report_known(&b, project, chart) => return,
        Ok(_) => {}
        Err(e) => return chart.warn(area, name, e.to_string(), "restore the newest backup (docs/operations.md)"),
    }
    say(&format!("{area}: running setup and CI on {} (`--quick` skips this)", commit.short()));
    match trial::run(ctx, project, &commit, &tree) {
        Err(e) => chart.warn(area, name, format!("can't run here: {e:#}"), "install or fix what is named"),
        Ok(t) => match t.tried.state {
            BaseState::Green => {
                chart.ok(area, name, format!("green at {}: setup and CI pass", commit.short()));
                if config.state_dir.join("orch.db").exists()
                    && let Err(e) = trial::keep(config, project, &t)
                {
                    chart.warn(
                        area,
                        name,
                        format!("its verdict can't be stored: {e:#}"),
                        "the first task runs the check again",
                    );
                }
            }
            BaseState::Environment => chart.fail(area, name, line(&t), "install what is named for this account"),
            BaseState::Red | BaseState::Untried | BaseState::Running | BaseState::NotApplicable => {
                chart.fail(area, name, format!("red at {}: {}", commit.short(), line(&t)), FIX);
            }
        },
    }
}

fn line(t: &trial::Trial) -> String {
    t.line().unwrap_or_else(|| t.tried.why.clone())
}

/// Reports an existing verdict; `false`: there is none.
fn report_known(b: &Base, project: &Project, chart: &mut Chart) -> bool {
    let (area, at) = (&project.key, b.commit.short());
    match b.state {
        BaseState::Green => chart.ok(area, "base", format!("green at {at}")),
        BaseState::Running => chart.ok(area, "base", format!("is being checked now, at {at}")),
        BaseState::Red => {
            let see = format!("{FIX}; `orch logs --base {}` has the log", project.base_name());
            chart.fail(area, "base", format!("red at {at}: {}", b.why), see);
        }
        BaseState::Environment | BaseState::Untried | BaseState::NotApplicable => return false,
    }
    true
}
