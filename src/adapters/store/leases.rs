//! Leases, freezes, deploys, cool-downs: rows decide, files report (RULE-34).

use super::{Result, StoreError, Tx, from_json, parsed, parsed_opt, to_json};
use crate::model::deploy::{DeployEnd, DeployResult, OwnExit};
use crate::model::ids::{RunId, Sha, TaskId};
use crate::model::task::{Actor, Cooldown, Deploy, DeployState, Freeze, Lease};
use crate::model::time::Stamp;
use rusqlite::{OptionalExtension, Row, params};

fn lease(row: &Row<'_>) -> rusqlite::Result<Lease> {
    Ok(Lease {
        repo: row.get("repo")?,
        fence: row.get("fence")?,
        task_id: row.get::<_, Option<i64>>("task_id")?.map(TaskId),
        actor: parsed_opt(row, "actor", from_json)?,
        acquired_at: parsed_opt(row, "acquired_at", from_json)?,
        renewed_at: parsed_opt(row, "renewed_at", from_json)?,
    })
}

fn result(row: &Row<'_>) -> rusqlite::Result<Option<DeployResult>> {
    let Some(end) = parsed_opt(row, "result", DeployEnd::parse)? else { return Ok(None) };
    let text = |column: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(column)?.unwrap_or_default());
    Ok(Some(DeployResult { end, why: text("result_why")?, log: text("result_log")? }))
}

fn deploy(row: &Row<'_>) -> rusqlite::Result<Deploy> {
    Ok(Deploy {
        id: row.get("id")?,
        task_id: TaskId(row.get("task_id")?),
        repo: row.get("repo")?,
        attempt: row.get("attempt")?,
        fence: row.get("fence")?,
        head: parsed(row, "head", |t| Sha::parse(t).ok())?,
        base: parsed(row, "base", |t| Sha::parse(t).ok())?,
        tree: row.get("tree")?,
        state: parsed(row, "state", DeployState::parse)?,
        actor: parsed(row, "actor", from_json)?,
        landed_sha: parsed_opt(row, "landed_sha", |t| Sha::parse(t).ok())?,
        result: result(row)?,
        initiated_at: parsed(row, "initiated_at", from_json)?,
    })
}

impl Tx<'_> {
    pub fn lease(&self, repo: &str) -> Result<Option<Lease>> {
        Ok(self.tx.prepare_cached("SELECT * FROM leases WHERE repo = ?1")?.query_row([repo], lease).optional()?)
    }

    pub fn leases(&self) -> Result<Vec<Lease>> {
        let mut statement = self.tx.prepare_cached("SELECT * FROM leases ORDER BY repo")?;
        let rows = statement.query_map([], lease)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Takes the lease for a task, or renews it if the task already has it. `None`: another task has it. A new holder
    /// gets the fence `max(row, file_fence) + 1` (RULE-34).
    pub fn take_lease(
        &self,
        repo: &str,
        task: TaskId,
        me: &Actor,
        file_fence: i64,
        now: &Stamp,
    ) -> Result<Option<Lease>> {
        match self.lease(repo)? {
            Some(held) if held.task_id.is_some_and(|t| t != task) => return Ok(None),
            Some(held) if held.task_id == Some(task) => {
                self.tx
                    .prepare_cached("UPDATE leases SET actor = ?3, renewed_at = ?4 WHERE repo = ?1 AND fence = ?2")?
                    .execute(params![repo, held.fence, to_json(me), to_json(now)])?;
            }
            before => {
                let fence = before.map_or(0, |l| l.fence).max(file_fence) + 1;
                self.tx
                    .prepare_cached(
                        "INSERT INTO leases (repo, fence, task_id, actor, acquired_at, renewed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
                         ON CONFLICT (repo) DO UPDATE SET fence = excluded.fence, task_id = excluded.task_id, actor = excluded.actor,
                         acquired_at = excluded.acquired_at, renewed_at = excluded.renewed_at",
                    )?
                    .execute(params![repo, fence, task.0, to_json(me), to_json(now)])?;
            }
        }
        self.lease(repo)
    }

    /// Frees a lease that is held under this fence, and raises the fence. Returns whether it was.
    pub fn free_lease(&self, repo: &str, fence: i64) -> Result<bool> {
        Ok(self
            .tx
            .prepare_cached("UPDATE leases SET task_id = NULL, actor = NULL, fence = fence + 1 WHERE repo = ?1 AND fence = ?2 AND task_id IS NOT NULL")?
            .execute(params![repo, fence])?
            == 1)
    }

    pub fn freeze(&self, repo: &str) -> Result<Option<Freeze>> {
        Ok(self.freezes()?.into_iter().find(|f| f.repo == repo))
    }

    pub fn freezes(&self) -> Result<Vec<Freeze>> {
        let mut statement = self.tx.prepare_cached("SELECT repo, reason, task_id, since FROM freezes ORDER BY repo")?;
        let rows = statement.query_map([], |r| {
            Ok(Freeze {
                repo: r.get(0)?,
                reason: r.get(1)?,
                task_id: r.get::<_, Option<i64>>(2)?.map(TaskId),
                since: r.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Freezes a repository; an existing freeze is kept. Returns whether it is new.
    pub fn set_freeze(&self, repo: &str, reason: &str, task: Option<TaskId>, at: i64) -> Result<bool> {
        Ok(self
            .tx
            .prepare_cached(
                "INSERT INTO freezes (repo, reason, task_id, since) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?
            .execute(params![repo, reason, task.map(|t| t.0), at])?
            == 1)
    }

    pub fn lift_freeze(&self, repo: &str) -> Result<bool> {
        Ok(self.tx.prepare_cached("DELETE FROM freezes WHERE repo = ?1")?.execute([repo])? == 1)
    }

    /// Opens a deploy. [`StoreError::Lost`] if the repository has an open one (the schema enforces it).
    pub fn insert_deploy(&self, new: &Deploy) -> Result<()> {
        let made = self
            .tx
            .prepare_cached(
                "INSERT INTO deploys (id, task_id, repo, attempt, fence, head, base, tree, state, actor, initiated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                new.id,
                new.task_id.0,
                new.repo,
                new.attempt,
                new.fence,
                new.head.as_str(),
                new.base.as_str(),
                new.tree,
                new.state.as_str(),
                to_json(&new.actor),
                to_json(&new.initiated_at)
            ])?;
        if made == 1 { Ok(()) } else { Err(StoreError::Lost) }
    }

    /// The task's deploys, oldest first.
    pub fn deploys_of(&self, task: TaskId) -> Result<Vec<Deploy>> {
        let mut statement = self.tx.prepare_cached("SELECT * FROM deploys WHERE task_id = ?1 ORDER BY fence, id")?;
        let rows = statement.query_map([task.0], deploy)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The repository's newest deploy, by fence.
    pub fn last_deploy(&self, repo: &str) -> Result<Option<Deploy>> {
        Ok(self
            .tx
            .prepare_cached(
                "SELECT * FROM deploys WHERE repo = ?1 AND state <> 'withdrawn' ORDER BY fence DESC, id DESC LIMIT 1",
            )?
            .query_row([repo], deploy)
            .optional()?)
    }

    /// Deploys that are not settled.
    pub fn open_deploys(&self) -> Result<Vec<Deploy>> {
        let mut statement = self
            .tx
            .prepare_cached("SELECT * FROM deploys INDEXED BY deploys_one_open_per_repo WHERE state IN ('initiated', 'landed', 'started') ORDER BY id")?;
        let rows = statement.query_map([], deploy)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Takes an open deploy over from an actor seen dead; [`StoreError::Lost`] if another process was faster.
    pub fn take_deploy(&self, id: &str, from: &Actor, me: &Actor) -> Result<()> {
        let changed = self
            .tx
            .prepare_cached(
                "UPDATE deploys SET actor = ?3 WHERE id = ?1 AND actor = ?2 AND state IN ('initiated', 'landed')",
            )?
            .execute(params![id, to_json(from), to_json(me)])?;
        if changed == 1 { Ok(()) } else { Err(StoreError::Lost) }
    }

    /// Stores the hash of the nonce given to a deploy's command. Only its wrapper writes it, before the command starts.
    pub fn set_deploy_nonce(&self, id: &str, hash: &str) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE deploys SET nonce_hash = ?2 WHERE id = ?1 AND state IN ('landed', 'started')")?
            .execute([id, hash])?;
        Ok(())
    }

    /// Records what a deploy's wrapper saw of its command's end; the first record stays.
    pub fn set_deploy_exit(&self, id: &str, exit: &OwnExit) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE deploys SET own_exit = ?2 WHERE id = ?1 AND own_exit IS NULL")?
            .execute([id, &to_json(exit)])?;
        Ok(())
    }

    /// What a deploy's wrapper saw of its command's end, and the hash of the nonce.
    pub fn deploy_exit(&self, id: &str) -> Result<(Option<OwnExit>, Option<String>)> {
        Ok(self
            .tx
            .prepare_cached("SELECT own_exit, nonce_hash FROM deploys WHERE id = ?1")?
            .query_row([id], |r| Ok((parsed_opt(r, "own_exit", from_json)?, r.get("nonce_hash")?)))?)
    }

    /// Moves a deploy on from state `from`; [`StoreError::Lost`] if it is no longer in it.
    pub fn move_deploy(
        &self,
        id: &str,
        from: DeployState,
        to: DeployState,
        landed: Option<&Sha>,
        result: Option<&DeployResult>,
        at: i64,
    ) -> Result<()> {
        let settled = matches!(to, DeployState::Settled | DeployState::Withdrawn).then_some(at);
        let changed = self
            .tx
            .prepare_cached(
                "UPDATE deploys SET state = ?3, landed_sha = COALESCE(?4, landed_sha), result = ?5, result_why = ?7, result_log = ?8, settled_at = ?6 WHERE id = ?1 AND state = ?2",
            )?
            .execute(params![
                id,
                from.as_str(),
                to.as_str(),
                landed.map(Sha::as_str),
                result.map(|r| r.end.as_str()),
                settled,
                result.map(|r| r.why.as_str()),
                result.map(|r| r.log.as_str())
            ])?;
        if changed == 1 { Ok(()) } else { Err(StoreError::Lost) }
    }

    /// Every credential's cool-down.
    pub fn cooldowns(&self) -> Result<Vec<Cooldown>> {
        let mut statement =
            self.tx.prepare_cached("SELECT credential, until, reason, canary FROM cooldowns ORDER BY credential")?;
        let rows = statement.query_map([], |r| {
            Ok(Cooldown {
                credential: r.get(0)?,
                until: r.get(1)?,
                reason: r.get(2)?,
                canary: r.get::<_, Option<i64>>(3)?.map(RunId),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Starts or extends a credential's cool-down and returns how many limits were hit in a row. Runs that were in
    /// progress at the first limit hit the same limit, not another one.
    pub fn cool_down(&self, credential: &str, until: i64, reason: &str, now: i64) -> Result<i64> {
        self.tx
            .prepare_cached(
                "INSERT INTO cooldowns (credential, until, streak, reason) VALUES (?1, ?2, 1, ?3)
                 ON CONFLICT (credential) DO UPDATE SET until = excluded.until, streak = streak + (until <= ?4), reason = excluded.reason, canary = NULL",
            )?
            .execute(params![credential, until, reason, now])?;
        Ok(self
            .tx
            .prepare_cached("SELECT streak FROM cooldowns WHERE credential = ?1")?
            .query_row([credential], |r| r.get(0))?)
    }

    /// How many limits of a credential were hit in a row.
    pub fn limit_streak(&self, credential: &str) -> Result<i64> {
        Ok(self
            .tx
            .prepare_cached("SELECT streak FROM cooldowns WHERE credential = ?1")?
            .query_row([credential], |r| r.get(0))
            .optional()?
            .unwrap_or(0))
    }

    /// After a cool-down, one run goes first (RULE-26).
    pub fn set_canary(&self, credential: &str, run: RunId) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE cooldowns SET canary = ?2 WHERE credential = ?1")?
            .execute(params![credential, run.0])?;
        Ok(())
    }

    /// The credential works again.
    pub fn end_cool_down(&self, credential: &str) -> Result<()> {
        self.tx.prepare_cached("DELETE FROM cooldowns WHERE credential = ?1")?.execute([credential])?;
        Ok(())
    }
}
