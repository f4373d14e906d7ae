//! What `status` shows (CLI-3): one read of the database, HALT and the disk. Changes nothing and uses no network.

use super::paths::Paths;
use super::{Ctx, Moment, boards, cluster, projects, standing};
use crate::adapters::board::Scope as Listed;
use crate::adapters::disk;
use crate::adapters::process::{self, Life};
use crate::adapters::store::{CostSum, Result as StoreResult, Tx};
use crate::config::{Project, Scope};
use crate::model::board::{Logical, fold};
use crate::model::confine::{Held, RunConfinement};
use crate::model::ids::TaskId;
use crate::model::policy::Policy;
use crate::model::stage::{JobKind, JobStatus};
use crate::model::status::{
    AutoLabelsBlock, ConfinementRow, CooldownRow, FrozenRow, GuardChange, IntentOffRow, LeaseRow, LimitsBlock,
    OutboxBlock, ParkedRow, PostDeployBlock, QueueBlock, ReaperBlock, ReconcileBlock, RunningJob, SecurityBlock,
    SerialGateBlock, SinkOffRow, Status, StopBlock, StopRow, Suspect, TaskRow, ThrottledRow, WatchRow,
};
use crate::model::task::{Run, Task};
use crate::model::time::rfc3339;
use anyhow::Result;
use std::collections::{BTreeMap, HashMap};

/// How many of the most recently finished tasks are shown.
const FINISHED: u32 = 100;
const PARKED: u32 = 20;

/// Which tasks are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Tasks that are not terminal and the 100 finished last, one per key.
    Present,
    /// Tasks that are not terminal or are being watched, one per key.
    Open,
    /// Every one.
    All,
    One(TaskId),
}

/// The whole document, as of one moment.
pub fn read(ctx: &mut Ctx, which: Which) -> Result<Status> {
    let now = ctx.now();
    let policy = ctx.policy.clone();
    let free_mb = disk::free_mb(ctx.paths.root()).ok();
    let mut off = Vec::new();
    for project in ctx.config.projects.clone() {
        for o in boards::intents_off(ctx, &project) {
            off.push(IntentOffRow { project: project.key.clone(), intent: o.intent.to_string(), why: o.why });
        }
    }
    let config = ctx.config.clone();
    let covered =
        |scope: &Scope| config.projects.iter().filter(|p| scope.covers(p)).map(|p| p.repo.clone()).collect::<Vec<_>>();
    let per_project = |on: &dyn Fn(&Project) -> bool| {
        config.projects.iter().filter(|p| on(p)).map(|p| p.repo.clone()).collect::<Vec<_>>()
    };
    ctx.store.read(|tx| {
        let tasks = match which {
            Which::Present => tx.shown_tasks(FINISHED)?,
            Which::Open => {
                let mut tasks = tx.shown_tasks(0)?;
                tasks.extend(tx.watched_tasks()?);
                tasks
            }
            Which::All => tx.all_tasks()?,
            Which::One(id) => vec![tx.task(id)?],
        };
        let queue = standing::queue(tx, &now, &policy, free_mb)?;
        let runs: HashMap<TaskId, Run> = tx.open_runs()?.into_iter().map(|r| (r.task_id, r)).collect();
        let names = Names { tx, known: tasks.iter().map(|t| (t.id, t.key.to_string())).collect() };
        let day = tx.cost_since(None, crate::model::time::day_start(now.stamp.wall_ms))?;
        let running_agents = queue.jobs.values().filter(|j| j.status == JobStatus::Running && j.kind == JobKind::Agent);
        let (open, parked) = tx.outbox_counts()?;
        let mut leases = Vec::new();
        for l in tx.leases()?.into_iter().filter(|l| l.task_id.is_some()) {
            leases.push(LeaseRow {
                alive: l.actor.as_ref().is_some_and(|a| process::life(a) == Life::Alive),
                task: names.opt(l.task_id),
                since: l.acquired_at.as_ref().map(|s| s.rfc3339()),
                fence: l.fence,
                repo: l.repo,
            });
        }
        Ok(Status {
            tasks: rows(tx, &tasks, &queue, &runs, &policy, &now)?,
            queue: counts(tx)?,
            stop: StopBlock {
                enabled: config.stop.status_enabled,
                halted: now.halted.is_some(),
                halt_reason: now.halted.clone(),
                pending: tx
                    .open_tasks()?
                    .into_iter()
                    .filter(|t| t.stop_requested_at.is_some())
                    .map(|t| StopRow {
                        task: t.key.to_string(),
                        since: t.stop_requested_at.map(rfc3339),
                        reason: t.stop_reason,
                        deferred: t.critical.is_some(),
                    })
                    .collect(),
            },
            reaper: ReaperBlock {
                enabled: config.reaper.enabled,
                interval_s: config.reaper.interval_s,
                dead_ticks: config.reaper.dead_ticks,
                finalize_grace_s: config.reaper.finalize_grace_s,
                max_running_s: config.reaper.max_running_s,
                open_runs: i64::try_from(runs.len()).unwrap_or(i64::MAX),
                suspects: runs
                    .values()
                    .filter(|r| r.dead_seen > 0)
                    .map(|r| Suspect { task: names.of(r.task_id), run: r.id.0, seen: r.dead_seen })
                    .collect(),
            },
            serial_gate: SerialGateBlock {
                enabled: config.serial_gate.enabled,
                repos: covered(&config.serial_gate.repos),
                frozen: tx
                    .freezes()?
                    .into_iter()
                    .map(|f| FrozenRow {
                        since: rfc3339(f.since),
                        task: names.opt(f.task_id),
                        repo: f.repo,
                        reason: f.reason,
                    })
                    .collect(),
            },
            auto_labels: AutoLabelsBlock {
                enabled: config.auto_label.enabled,
                repos: covered(&config.auto_label.repos),
                approve_label: config.auto_label.approve_label.clone(),
                deploy_label: config.auto_label.deploy_label.clone(),
            },
            reconcile: reconcile(tx, &config.projects, config.reconcile.enabled, off, now.stamp.wall_ms)?,
            services_down: super::outages::rows(tx, now.stamp.wall_ms)?,
            base: super::base_rows::shown(tx, &config)?,
            merge_lease: leases,
            confinement: confinement(&super::confine::noted(tx)?),
            security: SecurityBlock {
                gate_enabled: config.security.gate_enabled,
                repos: per_project(&|p| config.security_gate(p)),
                dep_audit_enabled: config.security.dep_audit_enabled,
                dep_audit_fail_closed: config.security.dep_audit_fail_closed,
                severity_threshold: config.security.severity_threshold.to_string(),
                guard_change: tx.last_event("guard_changed")?.map(|(at, detail)| GuardChange {
                    at: rfc3339(at),
                    detail: serde_json::from_str(&detail).unwrap_or_default(),
                }),
            },
            post_deploy: PostDeployBlock {
                enabled: config.post_deploy.enabled,
                repos: per_project(&|p| p.post_deploy.enabled && p.post_deploy.repos.covers(p)),
                watches: tx
                    .watched_tasks()?
                    .into_iter()
                    .map(|t| WatchRow {
                        task: t.key.to_string(),
                        revision: t.landed_sha.as_ref().map(ToString::to_string),
                        since: t.finished_at.map(rfc3339),
                        repo: t.repo,
                    })
                    .collect(),
            },
            outbox: OutboxBlock {
                open,
                parked,
                messages: tx
                    .parked_messages(PARKED)?
                    .into_iter()
                    .map(|m| ParkedRow {
                        task: names.opt(m.task_id),
                        sink: m.sink,
                        error: m.error,
                        since: rfc3339(m.created_at),
                    })
                    .collect(),
                sinks_off: super::notices::off(tx)?
                    .into_iter()
                    .map(|(sink, why)| SinkOffRow { sink: sink.to_owned(), why })
                    .collect(),
                strays_total: tx.meta("outbox/strays")?.and_then(|t| t.parse().ok()).unwrap_or(0),
            },
            limits: LimitsBlock {
                max_concurrency: config.limits.max_concurrency,
                running_agents: i64::try_from(running_agents.count()).unwrap_or(i64::MAX),
                max_cost_usd_per_task: config.limits.max_cost_usd_per_task,
                max_cost_usd_per_day: config.limits.max_cost_usd_per_day,
                cost_today_usd: dollars(day.known_micros),
                booked_today_usd: dollars(day.booked_micros),
                min_free_mb: config.min_free_mb,
                free_mb,
                cooldowns: tx
                    .cooldowns()?
                    .into_iter()
                    .filter(|c| c.until > now.stamp.wall_ms)
                    .map(|c| CooldownRow { credential: c.credential, until: rfc3339(c.until), reason: c.reason })
                    .collect(),
            },
        })
    })
}

/// Keys by task id, each read once.
struct Names<'a> {
    tx: &'a Tx<'a>,
    known: HashMap<TaskId, String>,
}

impl Names<'_> {
    fn of(&self, id: TaskId) -> String {
        match self.known.get(&id) {
            Some(key) => key.clone(),
            None => self.tx.task(id).map_or_else(|_| format!("task {id}"), |t| t.key.to_string()),
        }
    }

    fn opt(&self, id: Option<TaskId>) -> Option<String> {
        id.map(|i| self.of(i))
    }
}

/// US dollars from millionths.
pub fn dollars(micros: i64) -> f64 {
    micros as f64 / 1_000_000.0
}

fn counts(tx: &Tx<'_>) -> StoreResult<QueueBlock> {
    let by: BTreeMap<JobStatus, i64> = tx.queue_counts()?.into_iter().collect();
    let of = |s: JobStatus| by.get(&s).copied().unwrap_or(0);
    Ok(QueueBlock {
        queued: of(JobStatus::Queued),
        running: of(JobStatus::Running),
        done: of(JobStatus::Done),
        failed: of(JobStatus::Failed),
        cancelled: of(JobStatus::Cancelled),
    })
}

fn reconcile(
    tx: &Tx<'_>,
    projects: &[Project],
    enabled: bool,
    off: Vec<IntentOffRow>,
    now_ms: i64,
) -> StoreResult<ReconcileBlock> {
    let number = |name: &str| Ok::<_, crate::adapters::store::StoreError>(tx.meta(name)?.and_then(|t| t.parse().ok()));
    let mut throttled = Vec::new();
    for p in projects {
        let Some(key) = super::throttle::of_board(p) else { continue };
        if let Some(until) = number(&key)?.filter(|u: &i64| *u > now_ms) {
            throttled.push(ThrottledRow { project: p.key.clone(), until: rfc3339(until) });
        }
    }
    Ok(ReconcileBlock {
        enabled,
        last_run_at: number("reconcile/last_run_at")?.map(rfc3339),
        last_full_at: number("reconcile/last_full_at")?.map(rfc3339),
        stale_since: number("reconcile/stale_since")?.map(rfc3339),
        skipped_terminal_total: number("reconcile/skipped_terminal_total")?.unwrap_or(0),
        deduped_total: number("reconcile/deduped_total")?.unwrap_or(0),
        throttled,
        intents_off: off,
    })
}

fn rows(
    tx: &Tx<'_>,
    tasks: &[Task],
    queue: &standing::Queue,
    runs: &HashMap<TaskId, Run>,
    policy: &Policy,
    now: &Moment,
) -> StoreResult<Vec<TaskRow>> {
    let ids: Vec<TaskId> = tasks.iter().map(|t| t.id).collect();
    let costs = tx.costs_of(&ids)?;
    let confinement = super::confine::noted(tx)?;
    let mut rows = Vec::with_capacity(tasks.len());
    for t in tasks {
        let open = !t.stage.is_terminal() || t.is_watched();
        let job = queue.jobs.get(&t.id);
        let queued = job.is_some_and(|j| j.status == JobStatus::Queued);
        let held_by = match queue.holds(t.key.as_str()).filter(|_| queued) {
            Some(held) => Some(held),
            None if open => standing::of(tx, t.id, queue, policy, now, None)?.held,
            None => None,
        };
        let run = runs.get(&t.id);
        let cost = costs.get(&t.id).copied().unwrap_or_default();
        rows.push(TaskRow {
            id: t.id.0,
            key: t.key.to_string(),
            title: t.title.clone(),
            project: t.project.clone(),
            stage: t.stage,
            attempt: t.attempt,
            branch: t.branch.clone(),
            waiting_for: t.waiting_for,
            blocked_reason: t.blocked_reason.clone(),
            held_by,
            cancel_requested_at: t.stop_requested_at.map(rfc3339),
            running_job: job.filter(|j| j.status == JobStatus::Running).map(|j| RunningJob {
                job: j.id.0,
                kind: j.kind,
                agent: j.agent,
                run: run.map(|r| r.id.0),
                since: run.map(|r| rfc3339(r.started_at)),
                queued: run.and_then(|r| cluster::waits(&Paths::new(&now.root).run(r.id))),
            }),
            cost_usd: usd(cost),
            unconfined: open && is_unconfined(&confinement, t),
            pr: t.pr.clone(),
            created_at: rfc3339(t.created_at),
            updated_at: rfc3339(t.updated_at),
            finished_at: t.finished_at.map(rfc3339),
            waiting_since: t.waiting_since.map(rfc3339),
            cost_is_least: cost.unknown > 0,
            open,
        });
    }
    Ok(rows)
}

/// Whether the agent of a task's stage is unconfined, or its project's commands if the stage has no agent.
fn is_unconfined(all: &[RunConfinement], task: &Task) -> bool {
    let agent = task.stage.agent();
    RunConfinement::find(all, &task.project, agent).is_some_and(|s| s.held == Some(Held::Unconfined))
}

/// One row for all runs of a project with the same confinement.
fn confinement(all: &[RunConfinement]) -> Vec<ConfinementRow> {
    let mut rows: Vec<ConfinementRow> = Vec::new();
    for s in all {
        let held = s.held.map(|h| h.as_str().to_owned());
        let of = s.agent.map_or_else(|| "commands".to_owned(), |a| a.to_string());
        let alike = |r: &&mut ConfinementRow| {
            r.project == s.project && r.held == held && r.why == s.why && r.network_open == s.open
        };
        match rows.iter_mut().find(alike) {
            Some(row) => row.of.push(of),
            None => rows.push(ConfinementRow {
                project: s.project.clone(),
                of: vec![of],
                held,
                why: s.why.clone(),
                network_open: s.open,
            }),
        }
    }
    rows
}

/// Unknown is never zero: if runs ended and none reported its cost, there is no number.
fn usd(cost: CostSum) -> Option<f64> {
    (cost.known > 0 || cost.unknown == 0).then(|| dollars(cost.micros))
}

/// Work items of local boards that the next step picks up; unreadable ones are left out.
pub fn pending(ctx: &Ctx) -> Vec<String> {
    let mut keys = Vec::new();
    for project in &ctx.config.projects {
        if project.board.is_remote() {
            continue;
        }
        let names = projects::status_names(project);
        let wanted = names.get(&Logical::ToAnalyse).map_or(Logical::ToAnalyse.default_name(), String::as_str);
        let listing = projects::plain_board(&ctx.config, project)
            .and_then(|board| Ok(board.list(&[], &Listed::All { cursor: None }, &|| true)?));
        let found = listing.map(|l| l.items).unwrap_or_default();
        keys.extend(found.into_iter().filter(|i| fold(&i.status_id) == fold(wanted)).map(|i| i.key.to_string()));
    }
    keys
}
