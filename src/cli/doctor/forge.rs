//! Checks of a forge, with the credential that the steps use. They never write anything there.

use super::Chart;
use crate::adapters::forge::{Forge, ForgeError, Wanted, address};
use crate::adapters::git::Mirror;
use crate::config::{Project, Update, Via};
use crate::decide::rulesets;
use crate::engine::{Ctx, outages, projects};
use crate::model::ci::{is_of_push, is_own};
use crate::model::ids::Sha;
use crate::model::protected::glob;
use crate::model::refusal::{Refusal, Side};
use std::collections::BTreeSet;

/// The project's forge: version, account, repository, protection, statuses.
pub fn all(ctx: &mut Ctx, project: &Project, mirror: Option<&Mirror>, chart: &mut Chart) {
    let area = &project.key;
    let Some(account) = project.forge.account() else {
        // A forge that orch does not support is named together with what that means (ORD-2).
        let said = address::at(&project.git.remote).and_then(|at| address::sentence(&at));
        let plain = || "local: landing is a compare-and-swap on the tested base".to_owned();
        return chart.ok(area, "forge", said.unwrap_or_else(plain));
    };
    let (url, page) = (account.url, project.forge.page());
    let forge = match projects::forge(ctx, project) {
        Ok(forge) => forge,
        Err(e) => return chart.fail(area, "forge", format!("{e:#}"), page),
    };
    match (forge.version(), project.merge.via) {
        (Ok(v), Via::Push) => chart.ok(
            area,
            "forge",
            format!("{} {} at {url}; changes land by a fast-forward push of the tested commit", v.product, v.version),
        ),
        (Ok(v), Via::Forge) if v.guards_head => chart.ok(
            area,
            "forge",
            format!("{} {} at {url}; merges are bound to the tested head", v.product, v.version),
        ),
        (Ok(v), Via::Forge) => chart.warn(
            area,
            "forge",
            format!(
                "{} {} does not bind a merge to the tested head: a push at the last moment is found only afterwards",
                v.product, v.version
            ),
            "upgrade to Gitea 1.16 or later, or set merge.via: push",
        ),
        (Err(e), _) => return chart.fail(area, "forge", e.to_string(), way_out(&e, page)),
    }
    match forge.user() {
        Ok(a) if a.admin => chart.warn(
            area,
            "forge account",
            format!("{} is an administrator of the whole server", a.login),
            "use a separate account with write access to this repository",
        ),
        Ok(a) => chart.ok(area, "forge account", a.login),
        // A token may lack the right to see its own account and still be able to do everything else.
        Err(e @ ForgeError::Refused { refusal: Refusal::Denied { .. }, .. }) => {
            chart.warn(area, "forge account", e.to_string(), way_out(&e, page));
        }
        Err(e) => return chart.fail(area, "forge account", e.to_string(), way_out(&e, page)),
    }
    if !repository(project, forge.as_ref(), chart) {
        return;
    }
    rights(project, forge.as_ref(), mirror, chart);
    let Some(mirror) = mirror else { return };
    let Some(name) = super::services::branch(project, mirror) else { return };
    protection(project, forge.as_ref(), &name, chart);
    task_branches(project, forge.as_ref(), chart);
    let head = mirror.remote_head(&name).ok().flatten();
    let wanted =
        Wanted { head: head.as_ref(), deployments: project.deploy.report, statuses: project.forge.posts_statuses() };
    chart.extend(area, forge.examine(&wanted));
    rulesets(project, forge.as_ref(), &name, chart);
    if let Some(head) = head {
        contexts(project, forge.as_ref(), &head, chart);
    }
}

/// What a person can do about an error of the forge, by its class.
fn way_out(e: &ForgeError, otherwise: &str) -> String {
    e.refusal().filter(|r| *r != Refusal::Other).map_or_else(|| otherwise.to_owned(), |r| r.advice(Side::Forge))
}

/// Whether token and account may do what the first task will need. Two requests that write nothing: an edit of a
/// comment that can't exist, and a push that is opened but sends nothing.
fn rights(project: &Project, forge: &dyn Forge, mirror: Option<&Mirror>, chart: &mut Chart) {
    let area = &project.key;
    match forge.may_comment() {
        Ok(()) => chart.ok(area, "forge rights", "comments can be written"),
        Err(e) => chart.fail(
            area,
            "forge rights",
            format!("no comment can be written: {e}"),
            way_out(&e, project.forge.page()),
        ),
    }
    let Some(mirror) = mirror else { return };
    match mirror.may_push() {
        Ok(()) => chart.ok(area, "push", "the remote accepts pushes of this account"),
        Err(e) => {
            let error = anyhow::Error::new(e);
            let fix = outages::advice(&error).unwrap_or_else(|| "fix git.remote and git.credential".to_owned());
            chart.fail(area, "push", format!("nothing can be pushed: {error:#}"), fix);
        }
    }
}

/// Whether further checks of the repository are possible.
fn repository(project: &Project, forge: &dyn Forge, chart: &mut Chart) -> bool {
    let area = &project.key;
    match forge.repository() {
        Ok(r) if r.archived => {
            let fix = Refusal::Archived.advice(Side::Forge);
            chart.fail(area, "repository", format!("{} is archived", r.full_name), fix);
        }
        Ok(r) if r.pull_requests == Some(false) && project.merge.via == Via::Forge => {
            let fix = Refusal::NoPullRequests.advice(Side::Forge);
            chart.fail(area, "repository", format!("{} has no pull requests", r.full_name), fix);
        }
        Ok(r) if r.may_push == Some(false) => chart.fail(
            area,
            "repository",
            format!("the account may not push to {}", r.full_name),
            "give it write access",
        ),
        Ok(r) if r.method_enabled == Some(false) => {
            chart.fail(
                area,
                "repository",
                format!("{} does not allow merge.method: {}", r.full_name, project.merge.method),
                "enable it in the repository's settings, or name another method",
            );
        }
        Ok(r) => chart.ok(area, "repository", format!("{}, {} is enabled", r.full_name, project.merge.method)),
        Err(e) => {
            chart.fail(area, "repository", e.to_string(), way_out(&e, "fix forge.owner and forge.name"));
            return false;
        }
    }
    true
}

fn protection(project: &Project, forge: &dyn Forge, branch: &str, chart: &mut Chart) {
    let area = &project.key;
    let p = match forge.protection(branch) {
        Ok(p) => p,
        Err(e) => return chart.warn(area, "protection", e.to_string(), "give the token read access to the repository"),
    };
    if !p.protected {
        return chart.warn(
            area,
            "protection",
            format!("{branch} is not protected: everybody with push access may push to it"),
            "protect it on the forge",
        );
    }
    match p.our_token_exempt {
        Some(true) if project.merge.via == Via::Forge => chart.warn(
            area,
            "protection",
            format!("the account can bypass the protection of {branch}"),
            "remove its direct push and its administrator's override",
        ),
        Some(_) | None => chart.ok(
            area,
            "protection",
            format!(
                "{branch} is protected{}",
                if p.our_token_exempt.is_none() { "; whether that applies to the account is unknown" } else { "" }
            ),
        ),
    }
    if p.may_merge == Some(false) {
        chart.fail(
            area,
            "protection",
            format!("the account may not merge into {branch}"),
            "add it to the rule's merge list",
        );
    }
    if project.merge.via == Via::Push && p.may_push == Some(false) {
        chart.fail(
            area,
            "protection",
            format!("the account may not push to {branch}, where merge.via: push lands"),
            "add it to the rule's push list, or set merge.via: forge",
        );
    }
    if p.required_approvals > 0 {
        let number = p.required_approvals;
        chart.warn(
            area,
            "protection",
            format!(
                "{branch} requires {number} approval{}, which orch never gives",
                if number == 1 { "" } else { "s" }
            ),
            "require none in the rule, or approve each pull request yourself: its merge waits for that",
        );
    }
    let missing: Vec<&String> = p.required_contexts.iter().filter(|c| !project.ci.contexts.contains(c)).collect();
    if !missing.is_empty() {
        chart.warn(
            area,
            "protection",
            format!("{branch} requires statuses that ci.contexts does not name: {missing:?}"),
            "name them in ci.contexts",
        );
    }
}

/// What the rules of the default branch and of task branches mean.
fn rulesets(project: &Project, forge: &dyn Forge, branch: &str, chart: &mut Chart) {
    let area = &project.key;
    let prefix = &project.git.branch_prefix;
    let read = forge.rules(branch).and_then(|base| Ok((base, forge.rules(&format!("{prefix}{area}-1"))?)));
    match read {
        Ok((base, tasks)) => {
            if let Some((rules, classic)) = &base {
                let (method, via) = (project.merge.method, project.merge.via);
                let base = rulesets::Base { name: branch, rules, classic: *classic, method, via };
                chart.extend(area, rulesets::of_base(&base));
            }
            if let Some((rules, _)) = &tasks {
                chart.extend(area, rulesets::of_tasks(rules, prefix));
            }
        }
        Err(e) => chart.warn(area, "rules", e.to_string(), way_out(&e, project.forge.page())),
    }
}

/// Whether a rule of the forge blocks the branches that tasks will have (RULE-45).
fn task_branches(project: &Project, forge: &dyn Forge, chart: &mut Chart) {
    let (area, name) = (&project.key, "task branches");
    let example = format!("{}{}-1-a-title", project.git.branch_prefix, project.key);
    let rules = match forge.branch_rules() {
        Ok(Some(rules)) => rules,
        Ok(None) => {
            let message = format!("only an administrator of the repository can read whether a rule covers {example}");
            return chart.ok(area, name, message);
        }
        Err(e) => return chart.warn(area, name, e.to_string(), way_out(&e, project.forge.page())),
    };
    let covers = |rule: &str| rule == example || glob(rule).is_ok_and(|g| g.compile_matcher().is_match(&example));
    let rebases = project.merge.update == Update::Rebase;
    let mut free = true;
    for rule in rules.iter().filter(|r| covers(&r.name)) {
        if rule.push == Some(false) {
            free = false;
            let message = format!("the rule {} allows nobody to push to {example}", rule.name);
            chart.fail(area, name, message, "let the account push there, or name another git.branch_prefix");
        } else if rebases && rule.force_push == Some(false) {
            free = false;
            let message = format!("the rule {} refuses the forced push that rebases {example}", rule.name);
            chart.warn(area, name, message, "allow the account to force-push there, or set merge.update: merge");
        }
    }
    if free {
        chart.ok(area, name, format!("no rule blocks {example}"));
    }
}

/// Which statuses are on the heads of recent pull requests, or else on the default branch's head (RULE-2).
fn contexts(project: &Project, forge: &dyn Forge, head: &Sha, chart: &mut Chart) {
    let area = &project.key;
    let posted = |sha: &Sha| -> Result<BTreeSet<String>, ForgeError> {
        Ok(forge.statuses(sha)?.into_iter().map(|s| s.context).filter(|c| !is_own(c)).collect())
    };
    let read = forge.recent_heads().and_then(|heads| {
        let of_pulls = heads.iter().map(posted).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        Ok((of_pulls, posted(head)?))
    });
    let (of_pulls, of_head): (BTreeSet<String>, BTreeSet<String>) = match read {
        Ok(both) => both,
        Err(e) => return chart.warn(area, "ci", e.to_string(), "give the token read access to statuses"),
    };
    // Only statuses on pull requests count at the gate.
    let untold = of_pulls.is_empty();
    let (seen, lacks) = if untold {
        (of_head, format!("{} has no status", head.short()))
    } else {
        (of_pulls, "no recent pull request has a status".to_owned())
    };
    let shown: Vec<&str> = seen.iter().map(String::as_str).collect();
    let unseen: Vec<&str> = project.ci.contexts.iter().filter(|c| !seen.contains(*c)).map(String::as_str).collect();
    if project.ci.contexts.is_empty() && !seen.is_empty() {
        chart.warn(area, "ci", "no status is required".to_owned(), format!("ci: {{contexts: {shown:?}}}"));
    } else if !unseen.is_empty() {
        chart.warn(
            area,
            "ci",
            format!("{lacks} {}", unseen.join(", ")),
            if shown.is_empty() {
                "it has none at all: make sure that CI runs for it, and posts under this name".to_owned()
            } else {
                format!("seen there: {}", shown.join(", "))
            },
        );
    } else if untold && project.ci.contexts.iter().any(|c| is_of_push(c)) {
        let message = format!("seen only on the default branch: {}", project.ci.contexts.join(", "));
        chart.warn(area, "ci", message, "a pull request may get other statuses than a push: name those on its head");
    } else {
        chart.ok(
            area,
            "ci",
            if shown.is_empty() {
                "no status is required".to_owned()
            } else {
                format!("required and seen: {}", project.ci.contexts.join(", "))
            },
        );
    }
}
