//! Runs: one supervisor each (RULE-19), one finalizer each (RULE-21).

use super::{Result, StoreError, Tx, from_json, parsed, parsed_opt, to_json};
use crate::model::ids::{JobId, RunId, Sha, TaskId};
use crate::model::outcome::Outcome;
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::stage::{Agent, JobKind, Stage};
use crate::model::task::{Actor, Job, Run, RunState};
use crate::model::time::Stamp;
use rusqlite::{OptionalExtension, Row, params};

/// What is known when the runtime exits.
#[derive(Debug, Clone, PartialEq)]
pub struct RunExit {
    pub outcome: Outcome,
    pub cost_micros: Option<i64>,
    pub tokens_in: Option<i64>,
    pub tokens_out: Option<i64>,
    pub model: Option<String>,
    pub session: Option<String>,
    /// The session's running total, for runtimes that report it.
    pub session_total_micros: Option<i64>,
}

impl RunExit {
    /// The exit of a run whose runtime said so of itself.
    pub fn of(outcome: Outcome) -> Self {
        Self {
            cost_micros: outcome.cost_micros,
            tokens_in: outcome.tokens_in,
            tokens_out: outcome.tokens_out,
            model: outcome.model.clone(),
            session: outcome.session.clone(),
            session_total_micros: outcome.session_total_micros,
            outcome,
        }
    }
}

/// Sums over runs, for limits and views.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunSums {
    /// Known cost plus the caps reserved by runs in progress.
    pub booked_micros: i64,
    pub known_micros: i64,
}

/// How a run ended, from its row.
pub(super) fn run_end(row: &Row<'_>) -> rusqlite::Result<Option<RunEnd>> {
    let result = parsed_opt(row, "result", RunResult::parse)?;
    let why: Option<String> = row.get("result_why")?;
    Ok(result.map(|result| RunEnd { result, why: why.unwrap_or_default() }))
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: RunId(row.get("id")?),
        job_id: JobId(row.get("job_id")?),
        task_id: TaskId(row.get("task_id")?),
        stage: parsed(row, "stage", Stage::parse)?,
        kind: parsed(row, "kind", JobKind::parse)?,
        agent: parsed_opt(row, "agent", Agent::parse)?,
        attempt: row.get("attempt")?,
        epoch: row.get("epoch")?,
        token: row.get("token")?,
        state: parsed(row, "state", RunState::parse)?,
        claimed_at: parsed(row, "claimed_at", from_json)?,
        supervisor: parsed_opt(row, "supervisor", from_json)?,
        runtime: parsed_opt(row, "runtime", from_json)?,
        dead_seen: row.get("dead_seen")?,
        dead_seen_at: parsed_opt(row, "dead_seen_at", from_json)?,
        start_sha: parsed_opt(row, "start_sha", |t| Sha::parse(t).ok())?,
        exited_at: parsed_opt(row, "exited_at", from_json)?,
        outcome: parsed_opt(row, "outcome", from_json)?,
        finalizer: parsed_opt(row, "finalizer", from_json)?,
        fence: row.get("fence")?,
        credential: row.get("credential")?,
        reserved_micros: row.get("reserved_micros")?,
        cost_micros: row.get("cost_micros")?,
        tokens_in: row.get("tokens_in")?,
        tokens_out: row.get("tokens_out")?,
        model: row.get("model")?,
        effort: row.get("effort")?,
        session: row.get("session")?,
        result: run_end(row)?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
    })
}

fn one(changed: usize) -> Result<()> {
    if changed == 1 { Ok(()) } else { Err(StoreError::Lost) }
}

pub(super) const OPEN: &str = "state <> 'settled' ORDER BY id";

impl Tx<'_> {
    /// Inserts a run for a job that was just claimed; its supervisor has yet to report.
    pub fn insert_run(
        &self,
        job: &Job,
        token: &str,
        credential: Option<&str>,
        reserved_micros: i64,
        now: &Stamp,
    ) -> Result<RunId> {
        self.tx
            .prepare_cached(
                "INSERT INTO runs (job_id, task_id, stage, kind, agent, attempt, epoch, token, state, claimed_at, credential, reserved_micros, started_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'starting', ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                job.id.0,
                job.task_id.0,
                job.stage.as_str(),
                job.kind.as_str(),
                job.agent.map(Agent::as_str),
                job.attempt,
                job.epoch,
                token,
                to_json(now),
                credential,
                reserved_micros,
                now.wall_ms
            ])?;
        Ok(RunId(self.tx.last_insert_rowid()))
    }

    /// Records who claimed it: the owner until its supervisor has reported.
    pub fn set_claimer(&self, id: RunId, me: &Actor) -> Result<()> {
        one(self
            .tx
            .prepare_cached("UPDATE runs SET finalizer = ?2 WHERE id = ?1 AND state = 'starting'")?
            .execute(params![id.0, to_json(me)])?)
    }

    pub fn run(&self, id: RunId) -> Result<Run> {
        self.tx
            .prepare_cached("SELECT * FROM runs WHERE id = ?1")?
            .query_row([id.0], run)
            .optional()?
            .ok_or(StoreError::Lost)
    }

    /// Runs that are not settled, by id.
    pub fn open_runs(&self) -> Result<Vec<Run>> {
        if self.none("runs WHERE state <> 'settled'")? {
            return Ok(Vec::new());
        }
        self.list("runs", &format!("SELECT * FROM runs WHERE {OPEN}"), [], run)
    }

    /// Every run of a task, oldest first.
    pub fn runs_of(&self, task: TaskId) -> Result<Vec<Run>> {
        self.runs_where("task_id = ?1 ORDER BY id", params![task.0])
    }

    /// The runs of a task that are not settled, oldest first.
    pub fn open_runs_of(&self, task: TaskId) -> Result<Vec<Run>> {
        self.runs_where("task_id = ?1 AND state <> 'settled' ORDER BY id", params![task.0])
    }

    fn runs_where(&self, condition: &str, values: impl rusqlite::Params) -> Result<Vec<Run>> {
        let mut statement = self.tx.prepare_cached(&format!("SELECT * FROM runs WHERE {condition}"))?;
        let rows = statement.query_map(values, run)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A supervisor's first act: `starting → live` with its identity, while the job is still running under the run's
    /// token. Otherwise [`StoreError::Lost`], and it starts nothing (RULE-19).
    pub fn adopt_run(&self, id: RunId, me: &Actor) -> Result<()> {
        one(self
            .tx
            .prepare_cached(
                "UPDATE runs SET state = 'live', supervisor = ?2, finalizer = ?2, fence = fence + 1 WHERE id = ?1 AND state = 'starting'
                 AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = runs.job_id AND j.status = 'running' AND j.token = runs.token)",
            )?
            .execute(params![id.0, to_json(me)])?)
    }

    /// Takes the run's finalizer over from `from`, which the caller saw dead. Returns the new fence.
    pub fn take_finalizer(&self, id: RunId, from: Option<&Actor>, fence: i64, me: &Actor) -> Result<i64> {
        one(self
            .tx
            .prepare_cached("UPDATE runs SET finalizer = ?4, fence = fence + 1 WHERE id = ?1 AND state <> 'settled' AND finalizer IS ?2 AND fence = ?3")?
            .execute(params![id.0, from.map(to_json), fence, to_json(me)])?)?;
        Ok(fence + 1)
    }

    /// [`StoreError::Lost`] unless this fence still holds the unsettled run, its job is under its token and, except for
    /// `observing` work, no stop is recorded (RULE-17).
    pub fn check_fence(&self, id: RunId, fence: i64, observing: bool) -> Result<()> {
        let holds: i64 = self
            .tx
            .prepare_cached(
                "SELECT COUNT(*) FROM runs r JOIN jobs j ON j.id = r.job_id JOIN tasks t ON t.id = r.task_id
                 WHERE r.id = ?1 AND r.fence = ?2 AND r.state <> 'settled' AND j.status = 'running' AND j.token = r.token
                 AND (?3 OR t.stop_requested_at IS NULL)",
            )?
            .query_row(params![id.0, fence, observing], |r| r.get(0))?;
        one(usize::try_from(holds).unwrap_or(0))
    }

    /// Records the run's start commit, prompt hash, model, effort and session.
    pub fn set_run_start(
        &self,
        id: RunId,
        start_sha: Option<&Sha>,
        prompt_hash: Option<&str>,
        model: Option<&str>,
        effort: Option<&str>,
        session: Option<&str>,
    ) -> Result<()> {
        one(self
            .tx
            .prepare_cached(
                "UPDATE runs SET start_sha = ?2, prompt_hash = ?3, model = ?4, effort = ?5, session = ?6 WHERE id = ?1",
            )?
            .execute(params![id.0, start_sha.map(Sha::as_str), prompt_hash, model, effort, session])?)
    }

    pub fn set_run_runtime(&self, id: RunId, runtime: &Actor) -> Result<()> {
        one(self
            .tx
            .prepare_cached("UPDATE runs SET runtime = ?2 WHERE id = ?1")?
            .execute(params![id.0, to_json(runtime)])?)
    }

    /// Records that the run cost nothing, since its runtime never ran (RULE-25).
    pub fn set_run_free(&self, id: RunId) -> Result<()> {
        one(self.tx.prepare_cached("UPDATE runs SET cost_micros = 0 WHERE id = ?1")?.execute([id.0])?)
    }

    /// Records the runtime's exit (RUN-4: the first thing at exit).
    pub fn record_exit(&self, id: RunId, exit: &RunExit, now: &Stamp) -> Result<()> {
        one(self
            .tx
            .prepare_cached(
                "UPDATE runs SET state = 'exited', exited_at = ?2, outcome = ?3, cost_micros = ?4, tokens_in = ?5, tokens_out = ?6,
                 model = COALESCE(?7, model), session = COALESCE(?8, session), session_total_micros = ?9 WHERE id = ?1 AND state IN ('starting', 'live')",
            )?
            .execute(params![
                id.0,
                to_json(now),
                to_json(&exit.outcome),
                exit.cost_micros,
                exit.tokens_in,
                exit.tokens_out,
                exit.model,
                exit.session,
                exit.session_total_micros
            ])?)
    }

    /// Ends a run's record.
    pub fn settle_run(&self, id: RunId, end: &RunEnd, at: i64) -> Result<()> {
        one(self
            .tx
            .prepare_cached(
                "UPDATE runs SET state = 'settled', result = ?2, result_why = ?3, ended_at = ?4 WHERE id = ?1 AND state <> 'settled'",
            )?
            .execute(params![id.0, end.result.as_str(), end.why, at])?)
    }

    /// Settles any runs a job still has (its supervisor never reported, or its job was cancelled).
    pub fn settle_runs_of_job(&self, job: JobId, end: &RunEnd, at: i64) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE runs SET state = 'settled', result = ?2, result_why = ?3, ended_at = ?4 WHERE job_id = ?1 AND state <> 'settled'")?
            .execute(params![job.0, end.result.as_str(), end.why, at])?;
        Ok(())
    }

    /// Counts one more observation that found the supervisor gone; 0 resets the count.
    pub fn set_dead_seen(&self, id: RunId, seen: i64, now: &Stamp) -> Result<()> {
        self.tx.prepare_cached("UPDATE runs SET dead_seen = ?2, dead_seen_at = ?3 WHERE id = ?1")?.execute(params![
            id.0,
            seen,
            to_json(now)
        ])?;
        Ok(())
    }

    /// What a conversation had cost when one of its runs last reported it (RUN-5).
    pub fn session_total(&self, session: &str) -> Result<Option<i64>> {
        Ok(self
            .tx
            .prepare_cached(
                "SELECT session_total_micros FROM runs WHERE session = ?1 AND session_total_micros IS NOT NULL ORDER BY id DESC LIMIT 1",
            )?
            .query_row([session], |r| r.get(0))
            .optional()?)
    }

    /// Cost booked by a task's agent runs (`None`: of all tasks) since a wall time. A run in progress books its
    /// reserved cap, and so does an ended one with unknown cost (RULE-25).
    pub fn cost_since(&self, task: Option<TaskId>, since: i64) -> Result<RunSums> {
        let (sql, id) = match task {
            Some(t) => (
                "SELECT COALESCE(SUM(COALESCE(cost_micros, reserved_micros)), 0), COALESCE(SUM(cost_micros), 0) FROM runs WHERE task_id = ?1 AND started_at >= ?2",
                t.0,
            ),
            None => (
                "SELECT COALESCE(SUM(COALESCE(cost_micros, reserved_micros)), 0), COALESCE(SUM(cost_micros), 0) FROM runs WHERE ?1 = 0 AND started_at >= ?2",
                0,
            ),
        };
        Ok(self
            .tx
            .prepare_cached(sql)?
            .query_row(params![id, since], |r| Ok(RunSums { booked_micros: r.get(0)?, known_micros: r.get(1)? }))?)
    }

    /// The most expensive known run of an agent, in millionths of a dollar.
    pub fn most_expensive_run(&self, agent: Agent) -> Result<i64> {
        Ok(self
            .tx
            .prepare_cached("SELECT COALESCE(MAX(cost_micros), 0) FROM runs WHERE agent = ?1")?
            .query_row([agent.as_str()], |r| r.get(0))?)
    }
}
