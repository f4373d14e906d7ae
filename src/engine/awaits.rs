//! Records what the forge waits for before it merges (GH-1): the deploy stays initiated with nothing done, the person's
//! release stays valid, and the merge is retried automatically.

use super::{Ctx, messages, settle};
use crate::adapters::store::{Result as Stored, Tx};
use crate::decide::awaits;
use crate::model::card::AlertKind;
use crate::model::ids::TaskId;
use crate::model::landing::{Awaited, Awaits};
use crate::model::stage::Stage;
use crate::model::task::{Deploy, DeployState, Task};
use anyhow::Result;
use serde_json::json;

fn key(id: TaskId) -> String {
    format!("awaits/t{id}")
}

/// What the forge waits for before it merges the task's newest deploy. A deploy withdrawn to give the lease back still
/// waits. An unreadable wait counts as missing: the forge is asked.
pub fn of(tx: &Tx<'_>, task: &Task) -> Stored<Option<Awaits>> {
    let Some(deploy) = tx.deploys_of(task.id)?.pop().filter(|d| d.attempt == task.attempt) else { return Ok(None) };
    let kept = tx.meta(&key(task.id))?.and_then(|text| serde_json::from_str::<Awaits>(&text).ok());
    let parked = task.stage == Stage::Deploy && task.landed_sha.is_none() && task.blocked_reason.is_none();
    Ok(kept.filter(|wait| wait.deploy == deploy.id).filter(|wait| match deploy.state {
        DeployState::Initiated => true,
        DeployState::Withdrawn => wait.lease_free && parked,
        DeployState::Landed | DeployState::Started | DeployState::Settled => false,
    }))
}

/// The wait continues after the merge lease was given back.
pub fn without_lease(tx: &Tx<'_>, task: &Task) -> Stored<()> {
    let Some(wait) = of(tx, task)? else { return Ok(()) };
    tx.set_meta(&key(task.id), &serde_json::to_string(&Awaits { lease_free: true, ..wait }).unwrap_or_default())
}

/// Records one more such answer. A wait for a person has no bound and is reported once. A wait for checks has the bound
/// of every gate (`gates.undecided_max_s`, RULE-8). Returns the reason to block the task once that has passed.
pub fn keep(ctx: &mut Ctx, task: &Task, deploy: &Deploy, what: Awaited, said: &str) -> Result<Option<String>> {
    if !what.by_person()
        && settle::undecided_for(ctx, task, &format!("merge/{}", deploy.id), true, None)? > ctx.policy.undecided_max_ms
    {
        return Ok(Some(format!("the forge does not merge: {said}, for longer than gates.undecided_max_s")));
    }
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        let before = of(tx, task)?;
        let wait = awaits::next(before.as_ref(), &deploy.id, (what, said), at, task.id.0);
        let new = before.as_ref().is_none_or(|b| b.what != what || b.said != said);
        tx.set_meta(&key(task.id), &serde_json::to_string(&wait).unwrap_or_default())?;
        let alerted = before.as_ref().is_some_and(|b| b.what == what);
        if new {
            tx.audit(at, Some(task.id), "forge_awaits", &json!({"deploy": deploy.id, "what": what, "said": said}))?;
            messages::card(tx, task, at)?;
        }
        if what.by_person() && !alerted {
            let kind = Awaited::ALL.iter().position(|w| *w == what).and_then(|n| i64::try_from(n).ok()).unwrap_or(0);
            let number = task.epoch * i64::try_from(Awaited::ALL.len()).unwrap_or(1) + kind;
            messages::alert(tx, task, AlertKind::ForgeWaits, number, &awaits::why(&wait), at)?;
        }
        Ok::<_, crate::adapters::store::StoreError>(())
    })?;
    Ok(None)
}
