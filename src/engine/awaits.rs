//! Records what the forge waits for before it merges (GH-1): the deploy stays initiated with nothing done, the person's
//! release stays valid, and the merge is retried automatically.

use crate::adapters::store::{Result as Stored, Tx};
use crate::model::ids::TaskId;
use crate::model::landing::Awaits;
use crate::model::stage::Stage;
use crate::model::task::{DeployState, Task};

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

/// Stores what the forge waits for.
pub fn put(tx: &Tx<'_>, id: TaskId, wait: &Awaits) -> Stored<()> {
    tx.set_meta(&key(id), &serde_json::to_string(wait).unwrap_or_default())
}
