//! The merge lease's file: a copy of the row, rewritten by any step (RULE-34).

use super::Ctx;
use crate::adapters::sentinel::{self, Sealed, Sentinel};
use crate::adapters::store::StoreError;
use crate::model::act::By;
use crate::model::event::Event;
use crate::model::ids::TaskId;
use crate::model::task::Lease;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// `merge-lease.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseFile {
    pub task: Option<i64>,
    pub fence: i64,
    pub lease: serde_json::Value,
}

/// The fence in the file; that of a broken file counts as older than any other.
pub fn file_fence(ctx: &Ctx, repo: &str) -> i64 {
    match sentinel::read::<LeaseFile>(&ctx.paths.lease(repo)) {
        Sentinel::Present(f) => f.body.fence,
        Sentinel::Absent | Sentinel::Broken(_) => 0,
    }
}

/// Makes the file match the row: written while the lease is held, removed when it is free.
pub fn mirror_file(ctx: &Ctx, lease: Option<&Lease>, repo: &str) -> Result<()> {
    if ctx.dry {
        return Ok(());
    }
    let path = ctx.paths.lease(repo);
    match lease.filter(|l| l.task_id.is_some()) {
        None => sentinel::remove(&path)?,
        Some(l) => {
            let file = LeaseFile {
                task: l.task_id.map(|t| t.0),
                fence: l.fence,
                lease: json!({"actor": l.actor, "acquired_at": l.acquired_at, "renewed_at": l.renewed_at}),
            };
            let id = l.task_id.unwrap_or(TaskId(0));
            sentinel::write(&path, &Sealed::new(id, 0, file))?;
        }
    }
    Ok(())
}

/// Brings every lease file in line with its row. An up-to-date file is not rewritten.
pub fn mirror_all(ctx: &mut Ctx) -> Result<()> {
    for lease in ctx.store.read(|tx| tx.leases())? {
        let path = ctx.paths.lease(&lease.repo);
        let fits = match lease.task_id {
            None => !path.exists(),
            Some(holder) => matches!(sentinel::read::<LeaseFile>(&path),
                Sentinel::Present(f) if f.body.fence == lease.fence && f.body.task == Some(holder.0)),
        };
        if !fits {
            mirror_file(ctx, Some(&lease), &lease.repo)?;
        }
    }
    Ok(())
}

/// The result of revoking a lease manually.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Yes,
    /// Nobody held it.
    Free,
    /// Its holder has a deploy without a result; that result frees it (BND-6).
    DeployOpen,
}

/// Revokes a repository's merge lease, unless a deploy of it is initiated without a result.
pub fn break_by_hand(ctx: &mut Ctx, repo: &str, why: &str, by: &By) -> Result<Broken> {
    let at = ctx.now().stamp.wall_ms;
    let broken = ctx.store.write(|tx| {
        let Some(held) = tx.lease(repo)?.filter(|l| l.task_id.is_some()) else { return Ok(Broken::Free) };
        let open = tx.open_deploys()?.iter().any(|d| d.repo == repo && d.state.is_open());
        if open {
            return Ok(Broken::DeployOpen);
        }
        tx.free_lease(repo, held.fence)?;
        let event = json!({"repo": repo, "fence": held.fence, "why": why, "by": by});
        super::record::event(tx, at, held.task_id, Event::LeaseBroken, &event)?;
        Ok::<_, StoreError>(Broken::Yes)
    })?;
    if broken == Broken::Yes {
        mirror_file(ctx, None, repo)?;
    }
    Ok(broken)
}
