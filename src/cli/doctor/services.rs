//! What is elsewhere: remotes, boards, forges, the chat. Each is asked with the credential that the steps use.

use super::{Chart, of_project};
use crate::adapters::board::Board;
use crate::adapters::forge::Forge;
use crate::adapters::git::Mirror;
use crate::adapters::notify::{Telegram, TelegramConfig};
use crate::config::{self, Config, Project, Via};
use crate::engine::{Ctx, boards, projects};
use crate::model::board::{Intent, Logical, StatusKind, fold};
use std::collections::BTreeSet;
use std::time::Duration;

pub fn all(ctx: &mut Ctx, chart: &mut Chart) {
    for project in of_project(ctx) {
        let mirror = remote(ctx, &project, chart);
        board(ctx, &project, chart);
        forge(ctx, &project, mirror.as_ref(), chart);
    }
}

fn branch(project: &Project, mirror: &Mirror) -> Option<String> {
    project.git.default_branch.clone().or_else(|| mirror.default_branch().ok())
}

fn remote(ctx: &Ctx, project: &Project, chart: &mut Chart) -> Option<Mirror> {
    let area = &project.key;
    let asked = projects::mirror(ctx, project).and_then(|m| Ok((m.remote_branches()?, m)));
    let (branches, mirror) = match asked {
        Ok(found) => found,
        Err(e) => {
            chart.fail(
                area,
                "remote",
                format!("{e:#}"),
                "mend git.remote and git.credential; try `git ls-remote` as this user",
            );
            return None;
        }
    };
    let shown = &project.git.remote;
    match branch(project, &mirror) {
        Some(name) if branches.iter().any(|(b, _)| *b == name) => {
            chart.ok(area, "remote", format!("{shown}, {} branches, default {name}", branches.len()));
        }
        Some(name) => chart.fail(
            area,
            "remote",
            format!("{shown} has no branch {name}"),
            "mend git.default_branch, or push a first commit",
        ),
        None => chart.fail(area, "remote", format!("{shown} names no default branch"), "name git.default_branch"),
    }
    Some(mirror)
}

fn board(ctx: &mut Ctx, project: &Project, chart: &mut Chart) {
    let area = project.key.clone();
    let seat = match boards::forget(ctx, project).and_then(|()| boards::seat(ctx, project)) {
        Ok(seat) => seat,
        Err(e) => {
            chart.fail(&area, "board", format!("{e:#}"), "docs/connecting-plane.md");
            return;
        }
    };
    match &seat.board {
        Board::Local(local) => match local.scan() {
            Ok(listing) => {
                chart.ok(&area, "board", format!("{} work items in files", listing.items.len()));
                for p in listing.problems {
                    chart.warn(
                        &area,
                        "board",
                        format!("{}: {}", p.at, p.why),
                        "mend the file; it is looked at again by each step",
                    );
                }
            }
            Err(e) => chart.fail(&area, "board", e.to_string(), "mend board.dir"),
        },
        Board::Plane(plane) => match plane.probe() {
            Ok(found) if found.role.is_some_and(|r| r < 15) => {
                chart.fail(
                    &area,
                    "board",
                    format!("{} is a guest of the project: nothing can be written", found.user),
                    "make the account a member (role 15)",
                );
            }
            Ok(found) => chart.ok(
                &area,
                "board",
                format!("as {}, role {}", found.user, found.role.map_or("unknown".to_owned(), |r| r.to_string())),
            ),
            Err(e) => return chart.fail(&area, "board", e.to_string(), "docs/connecting-plane.md"),
        },
    }
    let resolved = &seat.resolved;
    for off in resolved.off() {
        let what = format!("the intent `{}` is off: {}", off.intent, off.why);
        let mend = "make a status of that name of its own, or name one under board.statuses";
        match off.intent {
            // Without it nothing ever begins.
            Intent::ToAnalyse => chart.fail(&area, "board", what, mend),
            Intent::Approved | Intent::ConfirmDeploy | Intent::Stop => chart.warn(&area, "board", what, mend),
        }
    }
    for note in resolved.notes() {
        chart.warn(&area, "board", note, "make a status of that name, or name one under board.statuses");
    }
    let name = |l: Logical| project.board.statuses().get(&l).map_or(l.default_name(), String::as_str).to_owned();
    let fallen: Vec<String> = Logical::ALL
        .iter()
        .filter(|l| l.kind() == StatusKind::Indication)
        .filter_map(|l| Some((name(*l), resolved.status_for(*l)?)))
        .filter(|(own, shown)| fold(own) != fold(&shown.name))
        .map(|(own, shown)| format!("{own} as {}", shown.name))
        .collect();
    if !fallen.is_empty() {
        chart.ok(&area, "board", format!("shown by fallback: {}", fallen.join(", ")));
    }
}

fn forge(ctx: &mut Ctx, project: &Project, mirror: Option<&Mirror>, chart: &mut Chart) {
    let area = &project.key;
    let config::Forge::Gitea { url, .. } = &project.forge else {
        chart.ok(area, "forge", "local: landing is a compare-and-swap on the tested base");
        return;
    };
    let forge = match projects::forge(ctx, project) {
        Ok(forge) => forge,
        Err(e) => return chart.fail(area, "forge", format!("{e:#}"), "docs/connecting-gitea.md"),
    };
    match (forge.version(), project.merge.via) {
        (Ok(v), Via::Push) => chart.ok(
            area,
            "forge",
            format!("{} {} at {url}; lands by a fast-forward push of the tested commit", v.product, v.version),
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
        (Err(e), _) => return chart.fail(area, "forge", e.to_string(), "mend forge.url; docs/connecting-gitea.md"),
    }
    match forge.user() {
        Ok(a) if a.admin => chart.warn(
            area,
            "forge account",
            format!("{} is an administrator of the whole server", a.login),
            "use an account of its own with write access to this repository",
        ),
        Ok(a) => chart.ok(area, "forge account", a.login),
        Err(e) => {
            return chart.fail(area, "forge account", e.to_string(), "make a new token (docs/connecting-gitea.md)");
        }
    }
    repository(project, &forge, chart);
    let Some(mirror) = mirror else { return };
    let Some(name) = branch(project, mirror) else { return };
    protection(project, &forge, &name, chart);
    if let Ok(Some(head)) = mirror.remote_head(&name) {
        contexts(project, &forge, &head, chart);
    }
}

fn repository(project: &Project, forge: &Forge, chart: &mut Chart) {
    let area = &project.key;
    match forge.repository() {
        Ok(r) if r.archived => chart.fail(area, "repository", format!("{} is archived", r.full_name), "unarchive it"),
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
        Err(e) => chart.fail(area, "repository", e.to_string(), "mend forge.owner and forge.name"),
    }
}

fn protection(project: &Project, forge: &Forge, branch: &str, chart: &mut Chart) {
    let area = &project.key;
    let p = match forge.protection(branch) {
        Ok(p) => p,
        Err(e) => return chart.warn(area, "protection", e.to_string(), "see that the token may read the repository"),
    };
    if !p.protected {
        return chart.warn(
            area,
            "protection",
            format!("{branch} is not protected: whoever may push may push to it"),
            "protect it on the forge",
        );
    }
    match p.our_token_exempt {
        Some(true) if project.merge.via == Via::Forge => chart.warn(
            area,
            "protection",
            format!("the account may get past the protection of {branch}"),
            "take away its direct push and its administrator's override",
        ),
        Some(_) | None => chart.ok(
            area,
            "protection",
            format!(
                "{branch} is protected{}",
                if p.our_token_exempt.is_none() { "; whether the account is bound by it can't be told" } else { "" }
            ),
        ),
    }
    if p.may_merge == Some(false) {
        chart.fail(
            area,
            "protection",
            format!("the account may not merge into {branch}"),
            "put it on the rule's merge list",
        );
    }
    if project.merge.via == Via::Push && p.may_push == Some(false) {
        chart.fail(
            area,
            "protection",
            format!("the account may not push to {branch}, where merge.via: push lands"),
            "put it on the rule's push list, or set merge.via: forge",
        );
    }
    if p.required_approvals > 0 {
        let number = p.required_approvals;
        chart.warn(
            area,
            "protection",
            format!(
                "{branch} asks for {number} approval{}, which orch never gives",
                if number == 1 { "" } else { "s" }
            ),
            "ask for none in the rule, or approve each pull request by hand before its deploy is confirmed",
        );
    }
    let missing: Vec<&String> = p.required_contexts.iter().filter(|c| !project.ci.contexts.contains(c)).collect();
    if !missing.is_empty() {
        chart.warn(
            area,
            "protection",
            format!("{branch} asks for statuses that ci.contexts does not name: {missing:?}"),
            "name them in ci.contexts",
        );
    }
}

/// Which statuses the default branch's head bears (RULE-2).
fn contexts(project: &Project, forge: &Forge, head: &crate::model::ids::Sha, chart: &mut Chart) {
    let area = &project.key;
    let seen: BTreeSet<String> = match forge.statuses(head) {
        Ok(list) => list.into_iter().map(|s| s.context).filter(|c| !c.starts_with("orch/")).collect(),
        Err(e) => return chart.warn(area, "ci", e.to_string(), "see that the token may read statuses"),
    };
    let shown: Vec<&str> = seen.iter().map(String::as_str).collect();
    let unseen: Vec<&str> = project.ci.contexts.iter().filter(|c| !seen.contains(*c)).map(String::as_str).collect();
    if project.ci.contexts.is_empty() && !seen.is_empty() {
        chart.warn(area, "ci", "no status has to be green".to_owned(), format!("ci: {{contexts: {shown:?}}}"));
    } else if !unseen.is_empty() {
        chart.warn(
            area,
            "ci",
            format!("{} has no status {}", head.short(), unseen.join(", ")),
            if shown.is_empty() {
                "it has none at all: see that CI runs for it, and posts under this name".to_owned()
            } else {
                format!("seen there: {}", shown.join(", "))
            },
        );
    } else {
        chart.ok(
            area,
            "ci",
            if shown.is_empty() {
                "no status is asked for".to_owned()
            } else {
                format!("asked for and seen: {}", project.ci.contexts.join(", "))
            },
        );
    }
}

pub fn telegram(config: &Config, chart: &mut Chart) {
    let Some(t) = &config.notify.telegram else { return };
    let area = "notify";
    let mend = "docs/connecting-telegram.md";
    // That it can't be read stands among the secrets.
    let Ok(token) = t.token.resolve() else { return };
    let settings = TelegramConfig {
        api_base: &t.api_base,
        chat_id: &t.chat_id,
        thread_id: None,
        timeout: Duration::from_secs(10),
    };
    let telegram = match Telegram::new(&settings, token.expose()) {
        Ok(telegram) => telegram,
        Err(e) => return chart.fail(area, "telegram", e.to_string(), mend),
    };
    let bot = match telegram.get_me() {
        Ok(bot) => bot,
        Err(e) => return chart.fail(area, "telegram", e.to_string(), mend),
    };
    match telegram.get_chat_member(&bot) {
        Ok(m) if m.can_send => {
            chart.ok(area, "telegram", format!("@{} is {} of {}", bot.username, m.status, t.chat_id))
        }
        Ok(m) => chart.fail(
            area,
            "telegram",
            format!("@{} is {} of {} and can't write there", bot.username, m.status, t.chat_id),
            "add the bot to the chat, with the right to send messages",
        ),
        Err(e) => {
            chart.fail(area, "telegram", format!("@{}: {e}", bot.username), "add the bot to the chat, mend chat_id")
        }
    }
}
