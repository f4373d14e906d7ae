//! A forge's own CI, which runs a pushed branch before anybody has judged it (BND-1): what its workflows give a task's
//! branch, and whether one of its runners is on this machine under this account.

use super::Chart;
use crate::adapters::git::{Mirror, TreeEntry};
use crate::adapters::process;
use crate::config::Project;
use crate::decide::workflows::{FOLDERS, reach};
use crate::model::ids::Sha;

const NAME: &str = "forge's CI";
/// Process names of forges' runners, at most 15 letters each.
const RUNNERS: [&str; 6] =
    ["Runner.Listener", "Runner.Worker", "act_runner", "forgejo-runner", "gitlab-runner", "woodpecker-agen"];

/// The workflows of the default branch.
pub fn all(project: &Project, mirror: &Mirror, tip: &Sha, chart: &mut Chart) {
    let area = &project.key;
    let branch = format!("{}{}-1-x", project.git.branch_prefix, project.key);
    let folders = FOLDERS.map(str::to_owned);
    let direct =
        |e: &TreeEntry| FOLDERS.iter().any(|f| e.text().strip_prefix(f).is_some_and(|n| n.matches('/').count() == 1));
    let listed = mirror.list_paths(tip, &folders).unwrap_or_else(|e| {
        chart.warn(area, NAME, format!("workflows can't be listed: {e}"), "see `remote` above");
        Vec::new()
    });
    let entries = listed.into_iter().filter(direct);
    let yaml = |name: &str| name.ends_with(".yml") || name.ends_with(".yaml");
    let mut own_runner = false;
    for path in entries.filter(|e| e.is_file()).map(|e| e.text()).filter(|name| yaml(name)) {
        let bytes = mirror.read_file(tip, &path).map(Option::unwrap_or_default).map_err(|e| e.to_string());
        match bytes.and_then(|bytes| reach(&String::from_utf8_lossy(&bytes), &branch)) {
            Err(why) => {
                chart.warn(area, NAME, format!("{path} can't be read: {why}"), "check what it gives a task's branch")
            }
            Ok(None) => chart.ok(area, NAME, format!("{path} does not run for a task's branch")),
            Ok(Some(found)) if found.is_empty() => {
                chart.ok(area, NAME, format!("{path} gives a task's branch neither secrets nor write permissions"));
            }
            Ok(Some(found)) => {
                own_runner |= found.own_runner;
                let message =
                    format!("{path} runs a task's branch before orch judges it, and gives it {}", found.text());
                let fix = "limit secrets and `permissions` to workflows of the default branch, or to an environment with reviewers";
                chart.warn(area, NAME, message, fix);
            }
        }
    }
    let here = process::called(&RUNNERS);
    if !here.is_empty() {
        let which = if own_runner { ", and a workflow uses one" } else { "" };
        let message = format!(
            "{} runs here under this account{which}: whatever a branch starts there has all rights of the account",
            here.join(", ")
        );
        chart.fail(area, NAME, message, "run the runner under another account, or on another machine");
    }
}
