//! Tasks: rows in, rows out. Updates are conditional on the revision (RULE-7).

use super::{Result, StoreError, Tx, from_json, parsed, parsed_opt, to_json};
use crate::model::ids::{Key, Sha, TaskId};
use crate::model::stage::Stage;
use crate::model::task::{Rework, Task, Waiting};
use crate::model::watch::Watch;
use crate::model::window::Window;
use rusqlite::{OptionalExtension, Row, named_params, params};

/// The initial values of a new task.
#[derive(Debug, Clone)]
pub struct NewTask<'a> {
    pub key: &'a Key,
    pub project: &'a str,
    pub repo: &'a str,
    pub item_id: &'a str,
    pub title: &'a str,
    pub body: &'a str,
    pub priority: i64,
    pub blocked_by: &'a [Key],
}

fn sha_opt(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Sha>> {
    parsed_opt(row, column, |t| Sha::parse(t).ok())
}

fn window(row: &Row<'_>) -> rusqlite::Result<Option<Window>> {
    let deploy: Option<String> = row.get("critical_deploy")?;
    parsed_opt(row, "critical", |word| Window::from_row(word, deploy))
}

pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<Task> {
    Ok(Task {
        id: TaskId(row.get("id")?),
        key: parsed(row, "key", |t| Key::parse(t).ok())?,
        project: row.get("project")?,
        repo: row.get("repo")?,
        item_id: row.get("item_id")?,
        round: row.get("round")?,
        title: row.get("title")?,
        body: row.get("body")?,
        priority: row.get("priority")?,
        blocked_by: parsed(row, "blocked_by", from_json)?,
        stage: parsed(row, "stage", Stage::parse)?,
        revision: row.get("revision")?,
        attempt: row.get("attempt")?,
        attempt_base: row.get("attempt_base")?,
        epoch: row.get("epoch")?,
        branch: row.get("branch")?,
        base_sha: sha_opt(row, "base_sha")?,
        head_sha: sha_opt(row, "head_sha")?,
        head_tree: row.get("head_tree")?,
        pr: parsed_opt(row, "pr", from_json)?,
        waiting_for: parsed_opt(row, "waiting_for", Waiting::parse)?,
        waiting_since: row.get("waiting_since")?,
        wait_no: row.get("wait_no")?,
        asked_at: row.get("asked_at")?,
        released: parsed_opt(row, "released", Waiting::parse)?,
        blocked_reason: row.get("blocked_reason")?,
        block_no: row.get("block_no")?,
        held_findings: parsed_opt(row, "held_findings", from_json)?,
        findings: parsed(row, "findings", from_json)?,
        findings_same: row.get("findings_same")?,
        rework: parsed_opt(row, "rework", Rework::parse)?,
        refused: parsed_opt(row, "refused", from_json)?,
        withdrawn: parsed_opt(row, "withdrawn", from_json)?,
        critical: window(row)?,
        stop_requested_at: row.get("stop_requested_at")?,
        stop_reason: row.get("stop_reason")?,
        stopped_stage: parsed_opt(row, "stopped_stage", Stage::parse)?,
        started_at: row.get("started_at")?,
        in_serial: row.get("in_serial")?,
        landed_sha: sha_opt(row, "landed_sha")?,
        watch: parsed_opt(row, "watch", Watch::parse)?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        finished_at: row.get("finished_at")?,
    })
}

/// Uses only partial indexes: a step that has nothing to do reads no history.
pub(super) const IDLE: &str = "SELECT id FROM tasks t WHERE id IN (SELECT id FROM tasks WHERE stage NOT IN ('done', 'cancelled')
                 UNION SELECT id FROM tasks WHERE watch = 'armed')
             AND (stop_requested_at IS NOT NULL OR NOT EXISTS (SELECT 1 FROM jobs j WHERE j.task_id = t.id AND j.status IN ('queued', 'running'))) ORDER BY id";

const OPEN: &str = "tasks WHERE stage NOT IN ('done', 'cancelled')";

impl Tx<'_> {
    /// Makes a task in `created`. `None` if the work item already has one that is live, or done and not tombstoned.
    pub fn insert_task(&self, new: &NewTask<'_>, at: i64) -> Result<Option<Task>> {
        let round: i64 = self
            .tx
            .prepare_cached("SELECT COUNT(*) + 1 FROM tasks WHERE project = ?1 AND key = ?2")?
            .query_row(params![new.project, new.key.as_str()], |r| r.get(0))?;
        let made = self
            .tx
            .prepare_cached(
                "INSERT INTO tasks (key, natural_key, project, repo, item_id, round, title, priority, blocked_by, stage, created_at, updated_at, body)
                 VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'created', ?9, ?9, ?10) ON CONFLICT (natural_key) DO NOTHING",
            )?
            .execute(params![new.key.as_str(), new.project, new.repo, new.item_id, round, new.title, new.priority, to_json(&new.blocked_by), at, new.body])?;
        if made == 0 {
            return Ok(None);
        }
        self.task(TaskId(self.tx.last_insert_rowid())).map(Some)
    }

    /// The task with this id; [`StoreError::Lost`] if there is none.
    pub fn task(&self, id: TaskId) -> Result<Task> {
        self.tx
            .prepare_cached("SELECT * FROM tasks WHERE id = ?1")?
            .query_row([id.0], task)
            .optional()?
            .ok_or(StoreError::Lost)
    }

    /// The live or latest task of a work item (what `TASK` on a command line means).
    pub fn task_by_key(&self, key: &Key) -> Result<Option<Task>> {
        Ok(self
            .tx
            .prepare_cached("SELECT * FROM tasks WHERE key = ?1 ORDER BY id DESC LIMIT 1")?
            .query_row([key.as_str()], task)
            .optional()?)
    }

    /// The live or latest task of a board's work item.
    pub fn task_by_item(&self, project: &str, item_id: &str) -> Result<Option<Task>> {
        Ok(self
            .tx
            .prepare_cached("SELECT * FROM tasks WHERE project = ?1 AND item_id = ?2 ORDER BY id DESC LIMIT 1")?
            .query_row([project, item_id], task)
            .optional()?)
    }

    /// Every task that is not terminal, by id.
    pub fn open_tasks(&self) -> Result<Vec<Task>> {
        if self.none(OPEN)? {
            return Ok(Vec::new());
        }
        self.tasks_where("stage NOT IN ('done', 'cancelled') ORDER BY id")
    }

    /// Tasks in work whose rows can't be decoded: their readable part, which other tasks need to know (key and
    /// repository).
    pub fn in_work_unreadable(&self) -> Result<Vec<(TaskId, String, String, String)>> {
        let ids: Vec<i64> = self.unread.borrow().keys().filter(|(table, _)| *table == "tasks").map(|k| k.1).collect();
        let mut found = Vec::new();
        for id in ids {
            let row = self
                .tx
                .prepare_cached("SELECT key, project, repo FROM tasks WHERE id = ?1 AND stage NOT IN ('created', 'done', 'cancelled')")?
                .query_row([id], |r| Ok((TaskId(id), r.get(0)?, r.get(1)?, r.get(2)?)))
                .optional()?;
            found.extend(row);
        }
        Ok(found)
    }

    /// Tasks that are not terminal (or done with an armed watch) and have no live job, or whose stop is recorded: the
    /// process that was to carry it out may have been killed right after (RUN-9).
    pub fn idle_tasks(&self) -> Result<Vec<TaskId>> {
        if self.none(OPEN)? && self.none("tasks WHERE watch = 'armed'")? {
            return Ok(Vec::new());
        }
        let mut statement = self.tx.prepare_cached(IDLE)?;
        let rows = statement.query_map([], |r| Ok(TaskId(r.get(0)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Every work item's key that has or had a task, for suggestions.
    pub fn all_keys(&self) -> Result<Vec<String>> {
        let mut statement = self.tx.prepare_cached("SELECT DISTINCT key FROM tasks ORDER BY id DESC LIMIT 5000")?;
        let rows = statement.query_map([], |r| r.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// All tasks, by id (`status --all`).
    pub fn all_tasks(&self) -> Result<Vec<Task>> {
        self.tasks_where("1 ORDER BY id")
    }

    /// Done tasks of a repository whose watch is armed.
    pub fn watched_tasks(&self) -> Result<Vec<Task>> {
        self.tasks_where("finished_at IS NOT NULL AND watch = 'armed' ORDER BY id")
    }

    /// The last task of a repository that landed; its commit must be in a new base (RULE-28).
    pub fn last_landed(&self, repo: &str) -> Result<Option<Task>> {
        Ok(self
            .tx
            .prepare_cached("SELECT * FROM tasks WHERE repo = ?1 AND landed_sha IS NOT NULL ORDER BY updated_at DESC, id DESC LIMIT 1")?
            .query_row([repo], task)
            .optional()?)
    }

    /// The commits of a repository's other tasks that landed.
    pub fn landed_commits(&self, repo: &str, except: TaskId) -> Result<Vec<Sha>> {
        let mut statement = self.tx.prepare_cached(
            "SELECT landed_sha FROM deploys WHERE repo = ?1 AND task_id <> ?2 AND landed_sha IS NOT NULL",
        )?;
        let rows = statement.query_map(params![repo, except.0], |r| r.get::<_, String>(0))?;
        let texts = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(texts.iter().filter_map(|t| Sha::parse(t).ok()).collect())
    }

    /// Another task of the repository whose commit landed and is not deployed (RULE-28).
    pub fn undeployed(&self, repo: &str, except: TaskId) -> Result<Option<Key>> {
        let text: Option<String> = self
            .tx
            .prepare_cached(
                "SELECT key FROM tasks WHERE repo = ?1 AND id <> ?2 AND landed_sha IS NOT NULL AND stage NOT IN ('done', 'cancelled') ORDER BY id LIMIT 1",
            )?
            .query_row(params![repo, except.0], |r| r.get(0))
            .optional()?;
        Ok(text.and_then(|t| Key::parse(&t).ok()))
    }

    fn tasks_where(&self, condition: &str) -> Result<Vec<Task>> {
        self.list("tasks", &format!("SELECT * FROM tasks WHERE {condition}"), [], task)
    }

    /// Writes the whole row if its revision is still `task.revision`, and raises it; `task` then has the new one.
    /// [`StoreError::Lost`] if another process changed the row: the loser does nothing.
    pub fn save_task(&self, task: &mut Task, at: i64) -> Result<()> {
        let changed = self
            .tx
            .prepare_cached(
                "UPDATE tasks SET revision = revision + 1, title = :title, body = :body, priority = :priority, blocked_by = :blocked_by, stage = :stage,
                 attempt = :attempt, attempt_base = :attempt_base, epoch = :epoch, branch = :branch,
                 base_sha = :base_sha, head_sha = :head_sha, head_tree = :head_tree, pr = :pr,
                 waiting_for = :waiting_for, waiting_since = :waiting_since, wait_no = :wait_no,
                 asked_at = :asked_at, released = :released, blocked_reason = :blocked_reason,
                 block_no = :block_no, held_findings = :held_findings, findings = :findings,
                 findings_same = :findings_same, rework = :rework, withdrawn = :withdrawn, refused = :refused,
                 critical = :critical, critical_deploy = :critical_deploy, stop_requested_at = :stop_requested_at,
                 stop_reason = :stop_reason, stopped_stage = :stopped_stage, started_at = :started_at,
                 in_serial = :in_serial, landed_sha = :landed_sha, watch = :watch, finished_at = :finished_at,
                 updated_at = :updated_at
                 WHERE id = :id AND revision = :revision",
            )?
            .execute(named_params! {
                ":id": task.id.0,
                ":revision": task.revision,
                ":title": task.title,
                ":body": task.body,
                ":priority": task.priority,
                ":blocked_by": to_json(&task.blocked_by),
                ":stage": task.stage.as_str(),
                ":attempt": task.attempt,
                ":attempt_base": task.attempt_base,
                ":epoch": task.epoch,
                ":branch": task.branch,
                ":base_sha": task.base_sha.as_ref().map(Sha::as_str),
                ":head_sha": task.head_sha.as_ref().map(Sha::as_str),
                ":head_tree": task.head_tree,
                ":pr": task.pr.as_ref().map(to_json),
                ":waiting_for": task.waiting_for.map(Waiting::as_str),
                ":waiting_since": task.waiting_since,
                ":wait_no": task.wait_no,
                ":asked_at": task.asked_at,
                ":released": task.released.map(Waiting::as_str),
                ":blocked_reason": task.blocked_reason,
                ":block_no": task.block_no,
                ":held_findings": task.held_findings.as_ref().map(to_json),
                ":findings": to_json(&task.findings),
                ":findings_same": task.findings_same,
                ":rework": task.rework.map(Rework::as_str),
                ":withdrawn": task.withdrawn.as_ref().map(to_json),
                ":refused": task.refused.as_ref().map(to_json),
                ":critical": task.critical.as_ref().map(Window::word),
                ":critical_deploy": task.critical.as_ref().and_then(Window::deploy),
                ":stop_requested_at": task.stop_requested_at,
                ":stop_reason": task.stop_reason,
                ":stopped_stage": task.stopped_stage.map(Stage::as_str),
                ":started_at": task.started_at,
                ":in_serial": task.in_serial,
                ":landed_sha": task.landed_sha.as_ref().map(Sha::as_str),
                ":watch": task.watch.map(Watch::as_str),
                ":finished_at": task.finished_at,
                ":updated_at": at,
            })?;
        if changed == 0 {
            return Err(StoreError::Lost);
        }
        task.revision += 1;
        task.updated_at = at;
        Ok(())
    }

    /// Renames a cancelled task's natural key, so that its work item can start again (`ORCH-17~cancelled~12`).
    pub fn tombstone(&self, id: TaskId) -> Result<()> {
        self.tx
            .prepare_cached(
                "UPDATE tasks SET natural_key = key || '~cancelled~' || id WHERE id = ?1 AND stage = 'cancelled'",
            )?
            .execute([id.0])?;
        Ok(())
    }
}
