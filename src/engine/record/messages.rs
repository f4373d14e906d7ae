//! Messages, written in the transaction that causes them (NTF-2, NTF-3). One key per cause: each cause is reported once.

use crate::adapters::store::{NewEvidence, NewOutbox, Result, Sink, Tx};
use crate::decide::board::progress;
use crate::decide::gates::said_again;
use crate::decide::said::Message;
use crate::model::board::indication;
use crate::model::card::{AlertKind, Cause, cause_key};
use crate::model::evidence::EvidenceVerdict;
use crate::model::gate::Subject;
use crate::model::ids::Sha;
use crate::model::task::Task;
use serde_json::json;

/// The key under which an indication is delivered: one for each thing that the board has to show in this stay.
fn indication_key(task: &Task) -> String {
    let shown = indication(task.stage, progress(task)).map_or_else(|| task.stage.to_string(), |l| l.to_string());
    format!("board/t{}/e{}/b{}/w{}/{shown}", task.id, task.epoch, task.block_no, task.wait().map_or(0, |w| w.no))
}

/// Board status and card follow the task. The status itself is computed when it is sent (RULE-13).
pub fn show(tx: &Tx<'_>, task: &Task, at: i64) -> Result<()> {
    if indication(task.stage, progress(task)).is_some() {
        super::post(
            tx,
            &NewOutbox {
                key: indication_key(task),
                task_id: Some(task.id),
                sink: Sink::BoardStatus,
                payload: json!({}),
            },
            at,
        )?;
    }
    card(tx, task, at)
}

/// Marks the card for redrawing.
pub fn card(tx: &Tx<'_>, task: &Task, at: i64) -> Result<()> {
    let n = tx.count_up("cards", 1)?;
    super::post(
        tx,
        &NewOutbox {
            key: format!("card/t{}/{n}", task.id),
            task_id: Some(task.id),
            sink: Sink::Card,
            payload: json!({}),
        },
        at,
    )?;
    Ok(())
}

/// Posts what a decision says.
pub fn post(tx: &Tx<'_>, task: &Task, all: &[Message], at: i64) -> Result<()> {
    all.iter().try_for_each(|message| match message {
        Message::Alert { kind, number, detail } => alert(tx, task, *kind, *number, detail, at),
        Message::Comment { cause, text } => comment(tx, task, cause, text, at),
        Message::Question => wait_comment(tx, task, at),
    })
}

/// An alert about a task; `number` distinguishes causes of one kind (RULE-41).
pub fn alert(tx: &Tx<'_>, task: &Task, kind: AlertKind, number: i64, detail: &str, at: i64) -> Result<()> {
    let payload = json!({"kind": kind, "key": task.key, "title": task.title, "detail": detail});
    let key = cause_key(kind, Cause::Task(task.id), number);
    let new = super::post(tx, &NewOutbox { key, task_id: Some(task.id), sink: Sink::Alert, payload }, at)?;
    if kind == AlertKind::CostLimit { Ok(()) } else { counted(tx, new) }
}

/// A message about a work item stays in the outbox under its cause, so that it is not sent twice, and is counted
/// (BRD-4).
fn counted(tx: &Tx<'_>, new: bool) -> Result<()> {
    if !new {
        tx.count_up("reconcile/deduped_total", 1)?;
    }
    Ok(())
}

/// An alert about a repository, service or credential.
pub fn alert_named(tx: &Tx<'_>, kind: AlertKind, name: &str, number: i64, detail: &str, at: i64) -> Result<()> {
    let payload = json!({"kind": kind, "key": "", "title": name, "detail": detail});
    let key = cause_key(kind, Cause::Named(name), number);
    super::post(tx, &NewOutbox { key, task_id: None, sink: Sink::Alert, payload }, at)?;
    Ok(())
}

/// A gate's answer as a commit status `orch/<gate>`, if the project asks for it (RULE-42).
pub fn forge_status(tx: &Tx<'_>, task: &Task, row: &NewEvidence, at: i64) -> Result<()> {
    let sha = task.head_sha.as_ref().unwrap_or(&row.sha);
    status_of(tx, task, sha, (row.subject, row.verdict, &row.why), at)
}

/// Repeats this attempt's answers that stay valid for a head made by an update of ours or a later stage's agent
/// (RULE-4), since a forge shows statuses by commit. Gates that judge each head again post their own status.
pub fn forge_statuses_again(tx: &Tx<'_>, task: &Task, at: i64) -> Result<()> {
    let Some(head) = &task.head_sha else { return Ok(()) };
    let rows = tx.evidence_of(task.id)?;
    for row in said_again(&rows, task.attempt) {
        status_of(tx, task, head, (row.subject, row.verdict, &row.why), at)?;
    }
    Ok(())
}

fn status_of(
    tx: &Tx<'_>,
    task: &Task,
    sha: &Sha,
    (subject, word, why): (Subject, EvidenceVerdict, &str),
    at: i64,
) -> Result<()> {
    let gate = subject.as_str();
    let key = format!("forge_status/t{}/e{}/{gate}/{}/{word}", task.id, task.epoch, sha.short());
    let payload = json!({"sha": sha, "gate": gate, "verdict": word, "why": why});
    super::post(tx, &NewOutbox { key, task_id: Some(task.id), sink: Sink::ForgeStatus, payload }, at)?;
    Ok(())
}

/// The audit table's hash after the event of a move, as a comment on the pull request alone: somebody who rewrites the
/// table can't rewrite the comment (BND-6).
pub fn anchor(tx: &Tx<'_>, task: &Task, seq: i64, at: i64) -> Result<()> {
    if task.pr.as_ref().is_none_or(|p| p.url.is_empty()) {
        return Ok(());
    }
    let Some(hash) = tx.audit_hash(seq)? else { return Ok(()) };
    let cause = format!("audit-{seq}");
    let text = format!("Audit event {seq} of orch: {} is in {}. Hash {hash}", task.key, task.stage);
    let payload = json!({"marker": format!("orch:t{}/{cause}", task.id), "text": text});
    let key = format!("{}/t{}/{cause}", Sink::ForgeComment, task.id);
    super::post(tx, &NewOutbox { key, task_id: Some(task.id), sink: Sink::ForgeComment, payload }, at)?;
    Ok(())
}

/// The question to a person, on the work item (ORD-5): one comment each time it is asked, with its text rendered on
/// delivery.
fn wait_comment(tx: &Tx<'_>, task: &Task, at: i64) -> Result<()> {
    let cause = format!("wait-{}", task.wait_no);
    let payload = json!({"marker": format!("orch:t{}/{cause}", task.id), "wait": task.wait_no});
    let key = format!("{}/t{}/{cause}", Sink::BoardComment, task.id);
    super::post(tx, &NewOutbox { key, task_id: Some(task.id), sink: Sink::BoardComment, payload }, at).map(drop)
}

/// A comment on the work item, and on the pull request if there is a forge.
pub fn comment(tx: &Tx<'_>, task: &Task, cause: &str, text: &str, at: i64) -> Result<()> {
    let payload = json!({"marker": format!("orch:t{}/{cause}", task.id), "text": text});
    for sink in [Sink::BoardComment, Sink::ForgeComment] {
        if sink == Sink::ForgeComment && task.pr.as_ref().is_none_or(|p| p.url.is_empty()) {
            continue;
        }
        let key = format!("{sink}/t{}/{cause}", task.id);
        let new = super::post(tx, &NewOutbox { key, task_id: Some(task.id), sink, payload: payload.clone() }, at)?;
        if sink == Sink::BoardComment {
            counted(tx, new)?;
        }
    }
    Ok(())
}
