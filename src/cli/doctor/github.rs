//! What `doctor` asks of GitHub beside what every board and forge is asked: rights one by one, and the rules that will
//! refuse `orch` (GH-1, GH-2).

use super::Chart;
use crate::adapters::board::github::Issues;
use crate::adapters::forge::Github;
use crate::config::{Project, Via};
use crate::model::ids::Sha;

const PAGE: &str = "docs/connecting-github.md";

/// The board's credential, the repository and its labels.
pub fn board(issues: &Issues, project: &Project, chart: &mut Chart) {
    let area = &project.key;
    let found = match issues.probe() {
        Ok(found) => found,
        Err(e) => return chart.fail(area, "board", e.to_string(), PAGE),
    };
    if found.archived {
        return chart.fail(area, "board", "the repository is archived", "unarchive it on GitHub");
    }
    if found.has_issues == Some(false) {
        chart.fail(area, "board", "issues are switched off in the repository", "switch them on in its settings");
    }
    if found.may_push == Some(false) {
        let message = format!("{} may not write to the repository: labels are dropped without a word", found.user);
        chart.fail(area, "board", message, "give the account write access, or the App Issues: write");
    } else {
        chart.ok(area, "board", format!("as {}; whoever may write to the repository decides", found.user));
    }
    match issues.missing_labels() {
        Ok(missing) if missing.is_empty() => chart.ok(area, "labels", "every status has its label"),
        Ok(missing) => {
            let message = format!("no label {}", missing.join(", "));
            chart.warn(area, "labels", message, "`orch init` with this board configured makes them");
        }
        Err(e) => chart.warn(area, "labels", e.to_string(), PAGE),
    }
}

/// The forge's rights one by one, and its rules.
pub fn forge(forge: &Github, project: &Project, branch: &str, head: Option<&Sha>, chart: &mut Chart) {
    let area = &project.key;
    for (right, answer) in head.map(|head| forge.rights(head)).unwrap_or_default() {
        match answer {
            Ok(()) => chart.ok(area, "right", right),
            Err(e) if right == "Checks: read" => {
                let fix =
                    "a fine-grained token can't have it: use an App, or name jobs of Actions alone in ci.contexts";
                chart.warn(area, "right", format!("{right} is missing, jobs of Actions are read instead: {e}"), fix);
            }
            Err(e) => chart.fail(area, "right", format!("{right} is missing: {e}"), PAGE),
        }
    }
    let notes = match forge.notes(branch, &project.git.branch_prefix) {
        Ok(notes) => notes,
        Err(e) => return chart.warn(area, "rules", e.to_string(), PAGE),
    };
    if !notes.strict && project.merge.via == Via::Forge {
        chart.warn(
            area,
            "rules",
            format!("nothing guards {branch} between the last check and the merge: what lands then untested is found afterwards"),
            "require branches to be up to date before merging, or set merge.via: push",
        );
    }
    for refusal in &notes.refusals {
        chart.warn(area, "rules", refusal, "the merge waits for a person then (held by the rule forge)");
    }
    if !notes.task_branches.is_empty() {
        let message = format!(
            "rules hold for branches that begin with {}: {}",
            project.git.branch_prefix,
            notes.task_branches.join(", ")
        );
        chart.warn(
            area,
            "rules",
            message,
            "let the account push, rewrite and delete there, or name another git.branch_prefix",
        );
    }
    if notes.classic {
        let message = format!("{branch} also has classic protection, which can't be read");
        chart.warn(area, "rules", message, "look at it in the repository's settings, or make a ruleset of it");
    }
}
