//! What runs cost, how long they took, how they ended: sums for `orch report` (CLI-3). Pure.

use super::run_end::RunEnd;
use super::stage::{Agent, JobKind, Stage};
use super::task::RunState;
use super::time::rfc3339;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// One run with its task, as far as the report counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFact {
    pub task_id: i64,
    pub key: String,
    pub title: String,
    pub project: String,
    pub task_stage: Stage,
    pub blocked: bool,
    pub task_created_at: i64,
    pub task_finished_at: Option<i64>,
    pub stage: Stage,
    pub kind: JobKind,
    pub agent: Option<Agent>,
    pub model: Option<String>,
    pub attempt: i64,
    pub epoch: i64,
    pub state: RunState,
    pub result: Option<RunEnd>,
    /// Millionths of a dollar.
    pub cost_micros: Option<i64>,
    pub tokens_in: Option<i64>,
    pub tokens_out: Option<i64>,
    /// Wall milliseconds.
    pub started_at: i64,
    pub ended_at: Option<i64>,
}

/// Sums over some runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sum {
    pub runs: u64,
    /// Runs of an agent in a stay that already had one.
    pub retries: u64,
    /// Runs that did not end successfully, except those that were stopped.
    pub failed: u64,
    /// Runs that a stop or a person's rejection ended, and claims that were given back: nobody's failure.
    pub stopped: u64,
    /// Known cost in US dollars.
    pub cost_usd: f64,
    /// Agent runs that ended without reporting a cost: then the sum is a lower bound.
    pub unknown_cost: u64,
    pub duration_s: f64,
    pub tokens_in: i64,
    pub tokens_out: i64,
    #[serde(skip)]
    micros: i64,
    #[serde(skip)]
    millis: i64,
}

/// Sums under a name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Named {
    pub name: String,
    #[serde(flatten)]
    pub sum: Sum,
}

/// How long tasks waited for one cause.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WaitSum {
    /// `approval`, `confirm_deploy`, `blocked` or `queue`.
    pub cause: &'static str,
    pub count: u64,
    pub total_s: f64,
    pub longest_s: f64,
}

/// One task's sums and outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskSum {
    pub id: i64,
    pub key: String,
    pub title: String,
    pub project: String,
    /// `done`, `cancelled`, `blocked` or `open`.
    pub outcome: &'static str,
    pub stage: Stage,
    /// Developer rounds.
    pub attempts: i64,
    /// Rounds after the first: how often the task went back to development.
    pub reworks: i64,
    pub created_at: String,
    pub finished_at: Option<String>,
    /// From creation to end, waiting included.
    pub lead_s: Option<f64>,
    #[serde(flatten)]
    pub sum: Sum,
}

/// The whole report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    pub total: Sum,
    /// Of all tasks together.
    pub reworks: i64,
    /// Half of the finished tasks took at most this long, from creation to end, waiting included.
    pub lead_median_s: Option<f64>,
    /// Tasks that are done.
    pub landed: u64,
    /// Known cost of all runs of the tasks that are done; null: no task is done.
    pub cost_per_landed_usd: Option<f64>,
    /// What tasks waited for, the longest first.
    pub waits: Vec<WaitSum>,
    /// By day, or by week (its Monday) where days would be more than 31 rows; in UTC.
    pub trend: Vec<Named>,
    /// Tasks by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    pub stages: Vec<Named>,
    pub agents: Vec<Named>,
    pub models: Vec<Named>,
    /// By day (UTC) of the run's start.
    pub days: Vec<Named>,
    /// By id.
    pub tasks: Vec<TaskSum>,
}

/// How a settled run counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Well,
    Stopped,
    Failed,
}

impl Ended {
    fn of(end: Option<&RunEnd>) -> Self {
        match end {
            Some(end) if end.is_well() => Self::Well,
            Some(end) if end.is_taken_back() => Self::Stopped,
            Some(_) | None => Self::Failed,
        }
    }
}

impl Sum {
    fn merge(&mut self, other: &Sum) {
        self.runs += other.runs;
        self.retries += other.retries;
        self.failed += other.failed;
        self.stopped += other.stopped;
        self.unknown_cost += other.unknown_cost;
        self.micros = self.micros.saturating_add(other.micros);
        self.millis = self.millis.saturating_add(other.millis);
        self.tokens_in = self.tokens_in.saturating_add(other.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(other.tokens_out);
        self.cost_usd = self.micros as f64 / 1_000_000.0;
        self.duration_s = self.millis as f64 / 1000.0;
    }

    fn add(&mut self, f: &RunFact, again: bool, now_ms: i64) {
        let agent = f.kind == JobKind::Agent;
        self.runs += 1;
        self.retries += u64::from(again);
        let ended = f.state == RunState::Settled;
        match Ended::of(f.result.as_ref()) {
            Ended::Well => {}
            Ended::Stopped => self.stopped += u64::from(ended),
            Ended::Failed => self.failed += u64::from(ended),
        }
        match f.cost_micros {
            Some(micros) => self.micros = self.micros.saturating_add(micros.max(0)),
            None => self.unknown_cost += u64::from(agent && ended),
        }
        let millis = f.ended_at.unwrap_or(now_ms).saturating_sub(f.started_at).max(0);
        self.millis = self.millis.saturating_add(millis);
        self.tokens_in = self.tokens_in.saturating_add(f.tokens_in.unwrap_or(0).max(0));
        self.tokens_out = self.tokens_out.saturating_add(f.tokens_out.unwrap_or(0).max(0));
        self.cost_usd = self.micros as f64 / 1_000_000.0;
        self.duration_s = self.millis as f64 / 1000.0;
    }
}

/// Sums the facts, given oldest first.
#[derive(Debug, Default)]
pub struct Summing {
    total: Sum,
    stages: BTreeMap<Stage, Sum>,
    agents: BTreeMap<String, Sum>,
    models: BTreeMap<String, Sum>,
    days: BTreeMap<String, Sum>,
    tasks: BTreeMap<i64, TaskSum>,
    waits: BTreeMap<&'static str, WaitSum>,
    seen: HashSet<(i64, i64)>,
}

impl Summing {
    /// Adds a run. `now_ms` is the end of one that has not ended.
    pub fn add(&mut self, f: &RunFact, now_ms: i64) {
        let again = f.kind == JobKind::Agent && !self.seen.insert((f.task_id, f.epoch));
        let who = f.agent.map_or_else(|| f.kind.to_string(), |a| a.to_string());
        self.total.add(f, again, now_ms);
        self.stages.entry(f.stage).or_default().add(f, again, now_ms);
        self.agents.entry(who).or_default().add(f, again, now_ms);
        if f.kind == JobKind::Agent {
            let model = f.model.clone().filter(|m| !m.is_empty()).unwrap_or_else(|| "unknown".to_owned());
            self.models.entry(model).or_default().add(f, again, now_ms);
        }
        let day: String = rfc3339(f.started_at).chars().take(10).collect();
        self.days.entry(day).or_default().add(f, again, now_ms);
        let task = self.tasks.entry(f.task_id).or_insert_with(|| TaskSum {
            id: f.task_id,
            key: f.key.clone(),
            title: f.title.clone(),
            project: f.project.clone(),
            outcome: match f.task_stage {
                Stage::Done => "done",
                Stage::Cancelled => "cancelled",
                Stage::Created
                | Stage::Analysis
                | Stage::Architecture
                | Stage::Development
                | Stage::Review
                | Stage::Testing
                | Stage::DeployStaging
                | Stage::Deploy => {
                    if f.blocked {
                        "blocked"
                    } else {
                        "open"
                    }
                }
            },
            stage: f.task_stage,
            attempts: 1,
            reworks: 0,
            created_at: rfc3339(f.task_created_at),
            finished_at: f.task_finished_at.map(rfc3339),
            lead_s: f.task_finished_at.map(|t| (t - f.task_created_at).max(0) as f64 / 1000.0),
            sum: Sum::default(),
        });
        task.attempts = task.attempts.max(f.attempt);
        task.reworks = task.attempts - 1;
        task.sum.add(f, again, now_ms);
    }

    /// Adds a wait, in milliseconds.
    pub fn waited(&mut self, cause: &'static str, ms: i64) {
        let s = ms.max(0) as f64 / 1000.0;
        let sum = self.waits.entry(cause).or_insert(WaitSum { cause, count: 0, total_s: 0.0, longest_s: 0.0 });
        sum.count += 1;
        sum.total_s += s;
        sum.longest_s = sum.longest_s.max(s);
    }

    /// The report.
    pub fn end(self) -> Summary {
        let named = |map: BTreeMap<String, Sum>| map.into_iter().map(|(name, sum)| Named { name, sum }).collect();
        let mut outcomes = BTreeMap::new();
        for t in self.tasks.values() {
            *outcomes.entry(t.outcome).or_insert(0) += 1;
        }
        let mut leads: Vec<f64> =
            self.tasks.values().filter(|t| t.stage == Stage::Done).filter_map(|t| t.lead_s).collect();
        leads.sort_by(f64::total_cmp);
        let landed = outcomes.get("done").copied().unwrap_or(0);
        let mut waits: Vec<WaitSum> = self.waits.into_values().collect();
        waits.sort_by(|a, b| b.total_s.total_cmp(&a.total_s));
        Summary {
            total: self.total.clone(),
            reworks: self.tasks.values().map(|t| t.reworks).sum(),
            lead_median_s: leads.get(leads.len().saturating_sub(1) / 2).copied(),
            landed,
            cost_per_landed_usd: (landed > 0).then(|| self.total.cost_usd / landed as f64),
            waits,
            trend: named(trend(&self.days)),
            outcomes,
            stages: self.stages.into_iter().map(|(s, sum)| Named { name: s.to_string(), sum }).collect(),
            agents: named(self.agents),
            models: named(self.models),
            days: named(self.days),
            tasks: self.tasks.into_values().collect(),
        }
    }
}

/// Rows of a trend by day; more are grouped by week.
const DAYS: usize = 31;

fn trend(days: &BTreeMap<String, Sum>) -> BTreeMap<String, Sum> {
    if days.len() <= DAYS {
        return days.clone();
    }
    let monday = |day: &str| {
        let date: jiff::civil::Date = day.parse().ok()?;
        let back = i64::from(date.weekday().to_monday_zero_offset());
        date.checked_sub(jiff::Span::new().days(back)).ok().map(|d| d.to_string())
    };
    let mut weeks: BTreeMap<String, Sum> = BTreeMap::new();
    for (day, sum) in days {
        weeks.entry(monday(day).unwrap_or_else(|| day.clone())).or_default().merge(sum);
    }
    weeks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run_end::RunResult;

    fn fact(task: i64, epoch: i64, cost: Option<i64>, result: RunResult) -> RunFact {
        RunFact {
            task_id: task,
            key: format!("A-{task}"),
            title: "t".into(),
            project: "A".into(),
            task_stage: Stage::Done,
            blocked: false,
            task_created_at: 0,
            task_finished_at: Some(10_000),
            stage: Stage::Review,
            kind: JobKind::Agent,
            agent: Some(Agent::Reviewer),
            model: None,
            attempt: epoch,
            epoch,
            state: RunState::Settled,
            result: Some(RunEnd::new(result, "because")),
            cost_micros: cost,
            tokens_in: Some(3),
            tokens_out: None,
            started_at: 1000,
            ended_at: Some(3000),
        }
    }

    #[test]
    fn parts_add_up_to_the_total_and_unknown_is_no_zero() {
        let mut s = Summing::default();
        let (done, failed) = (RunResult::Done, RunResult::Failed);
        for f in [fact(1, 1, Some(500_000), done), fact(1, 1, None, failed), fact(2, 1, Some(250_000), done)] {
            s.add(&f, 9000);
        }
        let sums = s.end();
        assert_eq!((sums.total.runs, sums.total.retries, sums.total.failed, sums.total.unknown_cost), (3, 1, 1, 1));
        assert!((sums.total.cost_usd - 0.75).abs() < 1e-9 && (sums.total.duration_s - 6.0).abs() < 1e-9);
        for parts in [&sums.stages, &sums.agents, &sums.models, &sums.days] {
            assert_eq!(parts.iter().map(|p| p.sum.runs).sum::<u64>(), 3);
        }
        assert_eq!(sums.tasks.iter().map(|t| t.sum.runs).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(sums.outcomes.get("done"), Some(&2));
        assert_eq!((sums.reworks, sums.lead_median_s), (0, Some(10.0)));
        assert_eq!((sums.models[0].name.as_str(), sums.days[0].name.as_str()), ("unknown", "1970-01-01"));
    }

    #[test]
    fn a_stopped_run_is_no_failed_one_and_each_round_after_the_first_is_a_rework() {
        let mut s = Summing::default();
        use RunResult::{Again, Cancelled, Done, Failed, GivenBack, Lost};
        for (n, end) in [Done, Cancelled, Again, GivenBack, Failed, Lost].into_iter().enumerate() {
            s.add(&fact(1, 1 + i64::try_from(n).unwrap() / 2, None, end), 9000);
        }
        let sums = s.end();
        assert_eq!((sums.total.runs, sums.total.stopped, sums.total.failed), (6, 2, 2));
        assert_eq!((sums.reworks, sums.tasks[0].attempts, sums.tasks[0].reworks), (2, 3, 2));
    }

    #[test]
    fn a_long_trend_is_by_week_and_waits_are_summed_by_cause() {
        let mut s = Summing::default();
        for day in 0..70 {
            let at = day * 86_400_000;
            s.add(
                &RunFact { started_at: at, ended_at: Some(at + 1000), ..fact(1, 1, Some(1_000_000), RunResult::Done) },
                at,
            );
        }
        s.waited("approval", 1000);
        s.waited("blocked", 9000);
        s.waited("approval", 3000);
        let sums = s.end();
        assert_eq!((sums.days.len(), sums.trend.len()), (70, 11));
        // 1 January 1970 was a Thursday.
        assert_eq!((sums.trend[0].name.as_str(), sums.trend[0].sum.runs), ("1969-12-29", 4));
        assert_eq!(sums.trend.iter().map(|n| n.sum.cost_usd).sum::<f64>(), 70.0);
        assert_eq!((sums.landed, sums.cost_per_landed_usd), (1, Some(70.0)));
        let waits: Vec<_> = sums.waits.iter().map(|w| (w.cause, w.count, w.total_s, w.longest_s)).collect();
        assert_eq!(waits, [("blocked", 1, 9.0, 9.0), ("approval", 2, 4.0, 3.0)]);
    }
}
