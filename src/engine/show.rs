//! What is shown to the person who decides (ORD-5), read from rows and the mirror. Nothing is fetched or written.

use super::{Ctx, approval, boards, inputs, projects};
use crate::adapters::accounts;
use crate::adapters::git::{DiffForm, Mirror};
use crate::model::answers::Answers;
use crate::model::card::Locale;
use crate::model::gate::Gate;
use crate::model::ids::Sha;
use crate::model::shown::{DiffSize, Line, Shown, ShownDocument, ShownVerdict, heading};
use crate::model::task::{Task, Waiting};
use crate::render::shown::{bare, comment as comment_text, lines};
use anyhow::{Context, Result};

/// The verdicts behind a release of the deploy, in display order.
const RELEASED_ON: [Gate; 3] = [Gate::ReviewVerdict, Gate::TestsVerdict, Gate::CiGreen];

/// Everything about a task that a person reads before answering. Also works for ended tasks while the mirror keeps
/// their commits.
pub fn task(ctx: &mut Ctx, task: &Task) -> Result<Shown> {
    let project = ctx.project(&task.project).ok().cloned();
    let range = range(ctx, task)?;
    let (documents, diff, inputs) = match &range {
        Some((mirror, base, head)) => {
            let inputs = inputs::between(mirror, base, head)?;
            (documents(ctx, mirror, task, head)?, Some(size(mirror, base, head)?), inputs)
        }
        None => (Vec::new(), None, Vec::new()),
    };
    let confirms = task.waiting_for == Some(Waiting::ConfirmDeploy);
    Ok(Shown {
        key: task.key.clone(),
        title: task.title.clone(),
        stage: task.stage,
        wait: task.waiting_for,
        branch: task.branch.clone(),
        pull_request: task.pr.as_ref().map(|pr| pr.url.clone()).filter(|url| !url.is_empty()),
        inputs,
        documents,
        diff,
        verdicts: if confirms { verdicts(ctx, task)? } else { Vec::new() },
        deploy_user: project
            .as_ref()
            .filter(|p| confirms && p.deploy.command.is_some() && p.deploy.build.is_none())
            .map(|_| accounts::name(rustix::process::geteuid().as_raw())),
        deploy_command: project.filter(|_| confirms).and_then(|p| p.deploy.command),
    })
}

/// What a wait shows, as lines of at most `most` characters each; empty if the task waits for nobody. A fault does not
/// prevent the question.
pub fn wait(ctx: &mut Ctx, task: &Task, locale: Locale) -> Vec<Line> {
    if task.waiting_for.is_none() {
        return Vec::new();
    }
    match self::task(ctx, task) {
        Ok(shown) => lines(&shown, locale),
        Err(e) => {
            tracing::warn!(task = %task.key, "the question is sent without documents: {e:#}");
            bare(task.key.as_str(), &task.title, locale)
        }
    }
}

/// The comment on the work item that asks what the task waits for.
pub fn comment(ctx: &mut Ctx, task: &Task) -> Result<String> {
    let shown = self::task(ctx, task)?;
    let answers = match ctx.project(&task.project).cloned() {
        Ok(project) => boards::answers(ctx, &project),
        Err(_) => Answers::default(),
    };
    let status = task.waiting_for.and_then(|waiting| answers.to(waiting)).map(str::to_owned);
    Ok(comment_text(&shown, status.as_deref()))
}

/// The change itself; `None` before the branch exists.
pub fn diff(ctx: &Ctx, task: &Task, form: DiffForm) -> Result<Option<Vec<u8>>> {
    let Some((mirror, base, head)) = range(ctx, task)? else { return Ok(None) };
    mirror.diff_text(&base, &head, form).map(Some).with_context(|| format!("the change of {}", task.key))
}

/// The mirror with the task's base and head, where all three exist.
fn range(ctx: &Ctx, task: &Task) -> Result<Option<(Mirror, Sha, Sha)>> {
    let (Some(base), Some(head)) = (&task.base_sha, &task.head_sha) else { return Ok(None) };
    let Ok(project) = ctx.project(&task.project) else { return Ok(None) };
    let mirror = projects::local_mirror(ctx, project)?;
    Ok(mirror.map(|mirror| (mirror, base.clone(), head.clone())))
}

fn documents(ctx: &mut Ctx, mirror: &Mirror, task: &Task, head: &Sha) -> Result<Vec<ShownDocument>> {
    let rows = ctx.store.read(|tx| tx.evidence_of(task.id))?;
    // Documents that don't land are in the commit before they were removed (ORD-6).
    let before = mirror.before_removal(head, &task.key)?;
    let found = approval::documents(mirror, &rows, &task.key, before.as_ref().unwrap_or(head))?;
    let shown = |d: approval::Document| {
        let heading = heading(&d.text).map(str::to_owned);
        ShownDocument { name: d.name, heading, sha: d.id, text: d.text }
    };
    Ok(found.into_iter().map(shown).collect())
}

fn size(mirror: &Mirror, base: &Sha, head: &Sha) -> Result<DiffSize> {
    let stat = mirror.diff_size(base, head)?;
    Ok(DiffSize {
        base: base.clone(),
        head: head.clone(),
        files: stat.files,
        insertions: stat.added,
        deletions: stat.deleted,
    })
}

fn verdicts(ctx: &mut Ctx, task: &Task) -> Result<Vec<ShownVerdict>> {
    let rows = ctx.store.read(|tx| tx.evidence_of(task.id))?;
    let newest = |gate: Gate| rows.iter().rev().find(|row| row.subject == gate);
    Ok(RELEASED_ON
        .into_iter()
        .filter_map(newest)
        .map(|row| ShownVerdict {
            gate: row.subject.to_string(),
            verdict: row.verdict.to_string(),
            commit: row.sha.clone(),
            independent: !row.depends(),
        })
        .collect())
}
