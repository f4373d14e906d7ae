//! Checks of outside services: remotes, boards, forges, the chat. Each with the credential that the steps use.

use super::{Chart, of_project};
use crate::adapters::board::Scope;
use crate::adapters::git::{Mirror, TreeEntry};
use crate::adapters::notify::{Telegram, TelegramConfig};
use crate::config::{Config, Project};
use crate::engine::default_branch;
use crate::engine::paths::Paths;
use crate::engine::{Ctx, boards, notices, outages, projects};
use crate::model::board::{Intent, Logical, StatusKind, fold};
use crate::model::ids::Sha;
use crate::render::cells::counted;
use std::time::Duration;

pub fn all(ctx: &mut Ctx, chart: &mut Chart) {
    for project in of_project(ctx) {
        let mirror = remote(ctx, &project, chart);
        board(ctx, &project, chart);
        super::forge::all(ctx, &project, mirror.as_ref(), chart);
    }
    for (sink, why) in ctx.store.read(notices::off).unwrap_or_default() {
        let message = format!("{sink} refuses messages, retried every 15 minutes: {why}");
        chart.warn("notify", sink, message, "fix what it says; the next retry sends the pending alerts");
    }
    for m in ctx.store.read(|tx| tx.parked_messages(3)).unwrap_or_default() {
        let message = format!("a message could not be delivered and is retried every 15 minutes: {}", m.error);
        chart.warn("notify", &m.sink, message, "fix what it says; the next retry sends the message");
    }
}

pub fn branch(project: &Project, mirror: &Mirror) -> Option<String> {
    project.git.default_branch.clone().or_else(|| mirror.default_branch().ok())
}

fn remote(ctx: &Ctx, project: &Project, chart: &mut Chart) -> Option<Mirror> {
    let area = &project.key;
    let asked = projects::mirror(ctx, project).and_then(|m| Ok((m.remote_branches()?, m)));
    let (branches, mirror) = match asked {
        Ok(found) => found,
        Err(e) => {
            let fix = outages::advice(&e)
                .unwrap_or_else(|| "fix git.remote and git.credential; try `git ls-remote` as this user".to_owned());
            chart.fail(area, "remote", format!("{e:#}"), fix);
            return None;
        }
    };
    let shown = &project.git.remote;
    match branch(project, &mirror) {
        _ if branches.is_empty() => {
            chart.fail(area, "remote", format!("{shown} is empty: it has no branch"), "push a first commit");
        }
        Some(name) if branches.iter().any(|(b, _)| *b == name) => {
            chart.ok(
                area,
                "remote",
                format!(
                    "{shown}, {} {}, default {name}",
                    branches.len(),
                    if branches.len() == 1 { "branch" } else { "branches" }
                ),
            );
        }
        Some(name) => chart.fail(
            area,
            "remote",
            format!("{shown} has no branch {name}"),
            "correct git.default_branch, or push a first commit",
        ),
        None => chart.fail(area, "remote", format!("{shown} names no default branch"), "name git.default_branch"),
    }
    Some(mirror)
}

/// A project's mirror with the head of its default branch, as last fetched; `None` before that. `config`: the real one,
/// whose mirrors are read, since `ctx` has no mirrors until it fetches.
fn fetched(ctx: &mut Ctx, config: &Config, project: &Project) -> Option<(Mirror, Sha)> {
    let roots = [Paths::new(&config.state_dir), ctx.paths.clone()];
    let path = roots.iter().map(|r| r.mirror(&project.repo)).find(|path| path.join("HEAD").is_file())?;
    let mirror = Mirror::open(&ctx.git(), &path, &project.git.remote, None).ok()?;
    let name = default_branch::default_branch(ctx, project, &mirror).ok()?;
    let tip = mirror.tracking(&name).ok()??;
    Some((mirror, tip))
}

/// What default branches reveal about runs: contents of git-lfs, and which CI the forge starts for a task's branch.
pub fn default_branches(ctx: &mut Ctx, config: &Config, chart: &mut Chart) {
    for project in of_project(ctx) {
        if let Some((mirror, tip)) = fetched(ctx, config, &project) {
            large_files(&project.key, &mirror, &tip, chart);
            if project.forge.is_remote() {
                super::workflows::all(&project, &mirror, &tip, chart);
            }
        }
    }
}

/// Whether a default branch has files in git-lfs while git-lfs, needed to upload new contents of runs, is missing
/// (BND-5).
fn large_files(area: &str, mirror: &Mirror, tip: &Sha, chart: &mut Chart) {
    let Ok(files) = mirror.list_files(tip) else { return };
    let of_git = |e: &&TreeEntry| {
        e.is_file() && e.text().rsplit('/').next() == Some(".gitattributes") && e.size.is_some_and(|s| s < 1 << 20)
    };
    let attributes: Vec<&TreeEntry> = files.iter().filter(of_git).collect();
    let Ok(texts) = mirror.contents(attributes.iter().map(|e| &e.id)) else { return };
    let filters = |text: &[u8]| String::from_utf8_lossy(text).lines().any(|l| l.contains("filter=lfs"));
    if !texts.iter().any(|text| filters(text)) {
        return;
    }
    if mirror.git().has_lfs().unwrap_or(false) {
        chart.ok(area, "git-lfs", "new contents of git-lfs files are uploaded to the remote");
    } else {
        chart.warn(
            area,
            "git-lfs",
            "the repository has files in git-lfs, which is not installed: a run that changes one of them fails",
            "install git-lfs where git finds it (apt-get install git-lfs)",
        );
    }
}

/// Rows that can't be decoded, in every table that is read as a list (RULE-44).
pub fn rows(ctx: &mut Ctx, chart: &mut Chart) {
    if let Err(e) = ctx.store.read(|tx| tx.read_lists()) {
        return chart.fail("machine", "database", format!("{e}"), "restore it from a backup (docs/operations.md)");
    }
    for row in ctx.store.unreadable() {
        let of = row.task.as_deref().map(|key| format!(" of {key}")).unwrap_or_default();
        let message = format!("row {} of {}{of} can't be read: {}", row.row, row.table, row.why);
        let fix = "it blocks only its own task; restore the row from a backup (docs/operations.md)";
        chart.fail("machine", "database", message, fix);
    }
}

fn board(ctx: &mut Ctx, project: &Project, chart: &mut Chart) {
    let area = project.key.clone();
    let seat = match boards::forget(ctx, project).and_then(|()| boards::seat(ctx, project)) {
        Ok(seat) => seat,
        Err(e) => {
            chart.fail(&area, "board", format!("{e:#}"), project.board.page());
            return;
        }
    };
    if project.board.is_remote() {
        chart.extend(&area, seat.board.examine());
    } else {
        folder(project, &seat, chart);
    }
    if project.board.is_remote() && !project.board.asks_rights() && project.board.deciders().is_empty() {
        chart.ok(
            &area,
            "board",
            "everybody who can edit a work item decides; board.deciders limits this to named users",
        );
    }
    let resolved = &seat.resolved;
    for off in resolved.off() {
        let message = format!("the intent `{}` is off: {}", off.intent, off.why);
        let fix = "create a separate status with that name, or name one under board.statuses";
        match off.intent {
            // Without it no task can ever start.
            Intent::ToAnalyse => chart.fail(&area, "board", message, fix),
            Intent::Approved | Intent::ConfirmDeploy | Intent::Stop => chart.warn(&area, "board", message, fix),
        }
    }
    for note in resolved.notes() {
        chart.warn(&area, "board", note, "create a status with that name, or name one under board.statuses");
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
        chart.ok(&area, "board", format!("shown by another status: {}", fallen.join(", ")));
    }
}

/// A board without a server is read whole.
fn folder(project: &Project, seat: &boards::Seat, chart: &mut Chart) {
    let area = &project.key;
    let listing = match seat.board.list(seat.resolved.statuses(), &Scope::All { cursor: None }, &|| true) {
        Ok(listing) => listing,
        Err(e) => return chart.fail(area, "board", e.to_string(), "correct board.dir"),
    };
    let folder = project.board.folder().map(|dir| format!(" in {}", dir.display())).unwrap_or_default();
    chart.ok(area, "board", format!("{}{folder}", counted(listing.items.len() as u64, "work item")));
    for p in &listing.strangers {
        chart.ok(area, "board", format!("{} is skipped: {}", p.at, p.why));
    }
    for item in &listing.items {
        if let Some(said) = boards::unknown_status(&seat.resolved, &item.status_id) {
            chart.warn(area, "board", format!("{}: {said}", item.key), "correct the word in its file");
        }
    }
    for p in listing.problems {
        chart.warn(area, "board", format!("{}: {}", p.at, p.why), "fix the file; each step reads it again");
    }
}

/// `moved`: the supergroup that the configured group became (NTF-3).
pub fn telegram(config: &Config, moved: Option<i64>, chart: &mut Chart) {
    let Some(t) = &config.notify.telegram else { return };
    let area = "notify";
    let fix = "docs/connecting-telegram.md";
    // The check of secrets reports an unreadable one.
    let Ok(token) = t.token.resolve() else { return };
    let settings = TelegramConfig {
        api_base: &t.api_base,
        chat_id: &t.chat_id,
        thread_id: t.topic,
        timeout: Duration::from_secs(10),
    };
    let telegram = match Telegram::new(&settings, token.expose()) {
        Ok(telegram) => moved.map_or(telegram.clone(), |chat| telegram.in_chat(chat)),
        Err(e) => return chart.fail(area, "telegram", e.to_string(), fix),
    };
    let bot = match telegram.get_me() {
        Ok(bot) => bot,
        Err(e) => return chart.fail(area, "telegram", e.to_string(), fix),
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
        Err(e) => chart.fail(
            area,
            "telegram",
            format!("@{}: {e}", bot.username),
            "add the bot to the chat, or correct chat_id",
        ),
    }
    if !t.deciders.is_empty() {
        answers(&telegram, t.deciders.len(), chart);
    }
}

/// Whether this bot's updates reach this installation (ORD-5): a bot can serve only one. Another program that takes
/// them shows in what the steps encountered.
fn answers(telegram: &Telegram, deciders: usize, chart: &mut Chart) {
    let (area, name) = ("notify", "telegram answers");
    match telegram.webhook() {
        Ok(None) => {
            let people = if deciders == 1 { "1 person decides" } else { &format!("{deciders} people decide") };
            chart.ok(area, name, format!("{people} by buttons in the chat"));
        }
        Ok(Some(host)) => chart.fail(
            area,
            name,
            format!("a webhook at {host} gets this bot's updates: one bot serves one installation"),
            "use a separate bot for this installation, or delete the webhook",
        ),
        Err(e) => chart.fail(area, name, e.to_string(), "docs/connecting-telegram.md"),
    }
}
