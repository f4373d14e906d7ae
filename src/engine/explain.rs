//! Why a task is where it is (CLI-3): the decision the next step acts on, the gates with the evidence they read, and
//! what would move it. Changes nothing and uses no network.

use super::{Ctx, boards, labels, projects, standing, view, way};
use crate::adapters::disk;
use crate::adapters::store::{IntentRow, IntentState};
use crate::decide::advice::{self, LastIntent};
use crate::decide::gates::{self, Facts};
use crate::model::answers::Answers;
use crate::model::board::{Logical, local_statuses, resolve};
use crate::model::card::Locale;
use crate::model::decision::{Answer, Need};
use crate::model::explained::{EvidenceShown, Explained, GateShown, IntentShown, ItemShown};
use crate::model::gate::Gate;
use crate::model::ids::Key;
use crate::model::report::Rule;
use crate::model::stage::{JobStatus, Stage};
use crate::model::task::{Evidence, Task};
use crate::model::time::rfc3339;
use anyhow::Result;

const ROWS: usize = 5;
const INTENTS: u32 = 5;

/// Explains a task.
pub fn task(ctx: &mut Ctx, task: &Task) -> Result<Explained> {
    let now = ctx.now();
    let policy = ctx.policy.clone();
    let free_mb = disk::free_mb(ctx.paths.root()).ok();
    // A label stands for the person. It is read only if that needs no network.
    let local = ctx.project(&task.project).is_ok_and(|p| !p.board.is_remote());
    let auto = if local { labels::auto_release(ctx, task.id) } else { None };
    let item = item_row(ctx, task)?;
    let edited = edited(ctx, task);
    let answers = match ctx.project(&task.project).cloned() {
        Ok(project) => boards::answers(ctx, &project),
        Err(_) => Answers::default(),
    };
    let (standing, shown, inputs) = ctx.store.read(|tx| {
        let queue = standing::queue(tx, &now, &policy, free_mb)?;
        let standing = standing::of(tx, task.id, &queue, &policy, &now, auto)?;
        let view = view::task(tx, task.id, &now, auto)?;
        let shown = match policy.project(&task.project) {
            Some(project) => {
                let facts = Facts { view: &view, policy: &policy, project };
                gates::on_leaving(task.stage, project).into_iter().map(|g| gate(g, &facts)).collect()
            }
            None => Vec::new(),
        };
        let inputs = task.head_tree.as_deref().and_then(|tree| gates::inputs_of(&view.evidence, tree));
        Ok::<_, crate::adapters::store::StoreError>((standing, shown, inputs.unwrap_or_default()))
    })?;
    let base_name = policy.project(&task.project).and_then(|p| p.base.as_deref());
    let about = |rule| match (rule, base_name) {
        (Rule::BaseRed | Rule::BasePending, Some(name)) => name,
        (_, _) => &task.repo,
    };
    let moves = match &standing.held {
        Some(held) => advice::moved_by(held.rule, task.key.as_str(), about(held.rule), &answers),
        // A blocked task with an unfinished run: `retry` finishes it.
        None if task.blocked_reason.is_some() => {
            advice::moved_by(Rule::Blocked, task.key.as_str(), &task.repo, &answers)
        }
        None => vec![advice::next_step(&standing.decision).to_owned()],
    };
    let running = standing.live.as_ref().is_some_and(|j| j.status == JobStatus::Running);
    let command = match &standing.held {
        Some(held) => advice::command(held.rule, task.key.as_str(), about(held.rule)),
        None if task.blocked_reason.is_some() => advice::command(Rule::Blocked, task.key.as_str(), &task.repo),
        None => Some(advice::unheld(task, running)),
    };
    let wait = crate::render::shown::plain(&super::show::wait(ctx, task, Locale::En));
    let services_down = match ctx.project(&task.project).cloned() {
        Ok(project) if !task.stage.is_terminal() => {
            let now = ctx.now().stamp.wall_ms;
            ctx.store.read(|tx| super::outages::of_project(tx, &project, now))?
        }
        Ok(_) | Err(_) => Vec::new(),
    };
    let by_base = |rule| matches!(rule, Rule::BaseRed | Rule::Environment);
    let base = match base_name.filter(|_| standing.held.as_ref().is_some_and(|h| by_base(h.rule))) {
        Some(name) => ctx.store.read(|tx| super::base_rows::row(tx, name))?.map(|b| b.lines).unwrap_or_default(),
        None => Vec::new(),
    };
    Ok(Explained {
        base,
        key: task.key.to_string(),
        task: Some(task.id.0),
        title: task.title.clone(),
        project: task.project.clone(),
        stage: Some(task.stage.to_string()),
        attempt: Some(task.attempt),
        next: advice::sentence(&standing.decision),
        held_by: standing.held,
        wait,
        moves,
        command,
        gates: shown,
        inputs,
        // Once the developer has answered them they are history, which the timeline shows.
        findings: if task.stage == Stage::Development { task.findings.clone() } else { Vec::new() },
        item,
        edited,
        services_down,
    })
}

/// Whether the board's text differs from what the task started from, as far as that is known without a request.
fn edited(ctx: &mut Ctx, task: &Task) -> bool {
    let row = ctx.store.read(|tx| tx.item(&task.project, &task.item_id)).ok().flatten();
    if row.is_some_and(|row| row.title != task.title) {
        return true;
    }
    let Ok(project) = ctx.project(&task.project).cloned() else { return false };
    if project.board.is_remote() || task.stage.is_terminal() {
        return false;
    }
    let found = projects::board(ctx, &project).ok().and_then(|board| board.get(&[], &task.key).ok().flatten());
    found.is_some_and(|item| item.body.as_ref().is_some_and(|body| *body != task.body))
}

fn item_row(ctx: &mut Ctx, task: &Task) -> Result<Option<ItemShown>> {
    let (row, intents) = ctx.store.read(|tx| {
        let intents = tx.intents_of(&task.project, &task.item_id, INTENTS)?;
        Ok::<_, crate::adapters::store::StoreError>((tx.item(&task.project, &task.item_id)?, intents))
    })?;
    let Some(row) = row else { return Ok(None) };
    let note = match ctx.project(&task.project).cloned() {
        Ok(project) => boards::resolved(ctx, &project).and_then(|r| boards::unknown_status(&r, &row.status_id)),
        Err(_) => None,
    };
    Ok(Some(ItemShown { status: Some(row.status_id), group: row.group, note, intents: shown(&intents) }))
}

fn shown(intents: &[IntentRow]) -> Vec<IntentShown> {
    let one = |i: &IntentRow| IntentShown {
        intent: i.kind.to_string(),
        state: i.state.to_string(),
        reason: i.reason.clone(),
        seen_at: rfc3339(i.seen_at),
    };
    intents.iter().map(one).collect()
}

fn gate(gate: Gate, facts: &Facts<'_>) -> GateShown {
    let (answer, why) = match gates::evaluate(gate, facts) {
        Answer::Pass { why } => ("pass", why),
        Answer::Fail { why, .. } => ("fail", why),
        Answer::Stale { why, .. } => ("stale", why),
        Answer::Stuck { why, .. } => ("stuck", why),
        Answer::Undecided { why, need } => {
            let needs = match need {
                Need::Job(_) => "a job is needed",
                Need::Person(_) => "a person decides",
                Need::Procedure(_) => "the next step checks",
                Need::Wait { .. } => "it waits",
            };
            ("undecided", format!("{why} ({needs})"))
        }
    };
    let epoch = facts.view.task.epoch;
    let row = |e: &Evidence| EvidenceShown {
        id: e.id,
        verdict: e.verdict.to_string(),
        commit: e.sha.to_string(),
        attempt: e.attempt,
        run: e.run_id.map(|r| r.0),
        present: e.epoch == epoch,
        why: e.why.clone(),
    };
    let rows = facts.view.evidence.iter().rev().filter(|e| e.subject == gate).take(ROWS);
    GateShown { gate, answer, why, evidence: rows.map(row).collect() }
}

/// Explains a work item that has no task; `None`: the key is unknown.
pub fn item(ctx: &mut Ctx, key: &Key) -> Result<Option<Explained>> {
    let project = ctx.config.projects.iter().find(|p| p.key == key.prefix()).cloned();
    let row = ctx.store.read(|tx| tx.item_by_key(key.as_str()))?;
    let Some(project) = project else { return Ok(None) };
    let mut explained = Explained {
        base: Vec::new(),
        key: key.to_string(),
        task: None,
        title: row.as_ref().map(|r| r.title.clone()).unwrap_or_default(),
        project: project.key.clone(),
        stage: None,
        attempt: None,
        held_by: None,
        next: String::new(),
        wait: Vec::new(),
        moves: Vec::new(),
        command: None,
        gates: Vec::new(),
        inputs: Vec::new(),
        findings: Vec::new(),
        item: None,
        edited: false,
        services_down: {
            let now = ctx.now().stamp.wall_ms;
            ctx.store.read(|tx| super::outages::of_project(tx, &project, now))?
        },
    };
    let names = projects::status_names(&project);
    let (status, group, resolved) = if !project.board.is_remote() {
        let resolved = resolve(&local_statuses(&names), &names);
        match projects::board(ctx, &project)?.get(resolved.statuses(), key) {
            Ok(Some(found)) => {
                explained.title = found.title;
                (found.status_id, found.group.map(|g| g.to_string()), Some(resolved))
            }
            Ok(None) => return Ok(None),
            Err(e) => {
                explained.next = format!("its file can't be read: {e}");
                explained.moves = vec!["fix the file; the next step reads it again".to_owned()];
                explained.command = Some(way::taskless(&project, key.as_str(), false));
                return Ok(Some(explained));
            }
        }
    } else {
        match &row {
            Some(r) => (r.status_id.clone(), r.group.clone(), None),
            None => return Ok(None),
        }
    };
    let item_id = row.as_ref().map_or_else(|| key.to_string(), |r| r.item_id.clone());
    let intents = ctx.store.read(|tx| tx.intents_of(&project.key, &item_id, INTENTS))?;
    let wanted = names.get(&Logical::ToAnalyse).map_or(Logical::ToAnalyse.default_name(), String::as_str);
    let last = intents.first().map(|i| LastIntent {
        kind: i.kind,
        state: i.state.as_str(),
        dismissed: i.state == IntentState::Dismissed,
        reason: i.reason.as_deref(),
        of_this_status: row.as_ref().is_some_and(|r| r.status_id == status),
    });
    let unknown = resolved.as_ref().and_then(|r| boards::unknown_status(r, &status));
    let advice::Taskless { next, moves, due } =
        advice::taskless(&status, resolved.as_ref(), unknown, last.as_ref(), wanted);
    (explained.next, explained.moves) = (next, moves);
    explained.command = Some(way::taskless(&project, key.as_str(), due));
    explained.item = Some(ItemShown { status: Some(status), group, note: None, intents: shown(&intents) });
    Ok(Some(explained))
}
