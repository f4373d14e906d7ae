//! What a gate reads, and what its rows say.

use crate::decide::again;
use crate::decide::back_off::back_off;
use crate::model::decision::{Answer, Need};
use crate::model::evidence::{Carry, EvidenceDetail, EvidenceVerdict};
use crate::model::finding::{Finding, Origin};
use crate::model::gate::{Gate, Subject};
use crate::model::ids::Sha;
use crate::model::inputs::Input;
use crate::model::policy::{Policy, ProjectPolicy};
use crate::model::stage::{JobKind, JobStatus, Stage};
use crate::model::task::{Cause, Evidence, Job, NewJob};
use crate::model::view::TaskView;
use std::collections::{BTreeMap, BTreeSet};

/// How often jobs of one kind that run code may vanish in one visit to a stage. They cost nothing and run again
/// (RUN-1), so only a job that did nothing but vanish for a quarter of an hour is blocked. Agents: `again`.
const MAX_LOST_JOBS: i64 = 100;
/// How often a tool may fail to check before the task is blocked.
pub const MAX_TOOL_ERRORS: usize = 3;
/// How often a tester's or deployer's own changes may send a task back to review before a person is asked.
const MAX_RETURNS: usize = 3;
const TOOL_WAIT_MS: i64 = 15_000;

/// The input of a gate's evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub view: &'a TaskView,
    pub policy: &'a Policy,
    pub project: &'a ProjectPolicy,
}

/// The positive answers of an attempt that still hold for a head that our own update or a later stage's agent made
/// (RULE-4). They are posted again on it, because a forge shows statuses by commit. Gates that are evaluated for every
/// head post their own.
pub fn said_again(rows: &[Evidence], attempt: i64) -> Vec<&Evidence> {
    const GATES: [Gate; 6] = [
        Gate::ArchitectureDone,
        Gate::BranchPushed,
        Gate::ReviewVerdict,
        Gate::TestsVerdict,
        Gate::StagingStatus,
        Gate::SecurityGate,
    ];
    let newest = |gate: Gate| rows.iter().rev().find(|r| r.subject == gate && r.attempt == attempt);
    GATES.into_iter().filter_map(newest).filter(|r| r.verdict == EvidenceVerdict::Pass).collect()
}

impl Facts<'_> {
    /// The newest row of a gate in this stay in the stage: an older one is stale (PIPE-4).
    pub(super) fn fresh(&self, gate: Gate) -> Option<&Evidence> {
        let epoch = self.view.task.epoch;
        self.view.evidence.iter().rev().find(|e| e.subject == gate && e.epoch == epoch)
    }

    /// The newest row of a gate on the head's code tree, in whichever stay it was made: the same code is not judged
    /// twice.
    pub(super) fn on_head(&self, gate: Gate) -> Option<&Evidence> {
        let tree = self.view.task.head_tree.as_deref()?;
        self.view.evidence.iter().rev().find(|e| e.subject == gate && e.code_tree == tree)
    }

    /// The verdict inputs of the head's code; `None`: nobody has listed them yet, or the list can't be read (BND-5).
    pub fn inputs(&self) -> Option<Vec<Input>> {
        inputs_of(&self.view.evidence, self.view.task.head_tree.as_deref()?)
    }

    /// Why the approval of the analysis no longer counts: a document changed since (BND-5). `None`: it counts, or none
    /// was given.
    pub fn stale_approval(&self) -> Option<String> {
        let newest = self.view.evidence.iter().rev().find(|e| e.subject == Subject::Approved)?;
        let stale = newest.verdict == EvidenceVerdict::Missing && self.project.stages.contains(&Stage::Analysis);
        stale.then(|| newest.why.clone())
    }

    /// Whether a row is about the very head, or about a commit from which `orch`'s own update with equal patches made
    /// the head. For gates that check commits rather than code: a secret is in a history, or in an artefact.
    pub(super) fn of_head(&self, row: &Evidence) -> bool {
        let Some(head) = self.view.task.head_sha.as_ref().map(|h| h.as_str()) else { return false };
        let mut reached = vec![row.sha.as_str()];
        let mut at = 0;
        while let Some(sha) = reached.get(at).copied() {
            if sha == head {
                return true;
            }
            at += 1;
            for c in self.view.evidence.iter().filter(|e| e.subject == Subject::Carry) {
                if let Some(Carry::Update { from_sha, equal: true, .. }) = c.detail.carry()
                    && from_sha.as_str() == sha
                    && !reached.contains(&c.sha.as_str())
                {
                    reached.push(c.sha.as_str());
                }
            }
        }
        false
    }

    /// Whether the head is `orch`'s own commit that omits the work item's documents (ORD-6).
    pub(super) fn left_out(&self) -> bool {
        let head = self.view.task.head_sha.as_ref();
        let said = |e: &Evidence| matches!(e.detail.carry(), Some(Carry::Update { left_out: true, .. }));
        self.view.evidence.iter().any(|e| e.subject == Subject::Carry && Some(&e.sha) == head && said(e))
    }

    /// The newest row of a gate in this attempt.
    pub(super) fn of_attempt(&self, gate: Gate) -> Option<&Evidence> {
        let attempt = self.view.task.attempt;
        self.view.evidence.iter().rev().find(|e| e.subject == gate && e.attempt == attempt)
    }

    /// Whether a verdict still holds for the head (RULE-4): the same code, or code that differs only by `orch`'s own
    /// update with equal patches, or by new test files of the tester that are no verdict inputs.
    pub fn holds(&self, row: &Evidence) -> bool {
        let Some(head) = self.view.task.head_tree.as_deref() else { return false };
        let mut reached = vec![row.code_tree.as_str()];
        let mut at = 0;
        while let Some(tree) = reached.get(at).copied() {
            if tree == head {
                return true;
            }
            at += 1;
            for c in self.view.evidence.iter().filter(|e| e.subject == Subject::Carry) {
                let carries = c.detail.carry().is_some_and(|carry| carry.holds() && carry.from() == tree);
                if carries && !reached.contains(&c.code_tree.as_str()) {
                    reached.push(&c.code_tree);
                }
            }
        }
        false
    }

    /// Jobs of a kind that failed in this stay: `(spent, lost)`.
    pub(super) fn failures(&self, kind: JobKind) -> (i64, i64) {
        let failed = |spent: bool| {
            let n = self.ended(kind).filter(|j| j.status == JobStatus::Failed && j.spent == spent).count();
            i64::try_from(n).unwrap_or(i64::MAX)
        };
        (failed(true), failed(false))
    }

    pub(super) fn ended(&self, kind: JobKind) -> impl DoubleEndedIterator<Item = &Job> {
        self.view.ended.iter().filter(move |j| j.kind == kind)
    }

    /// The answer of a gate whose verdict an agent writes: its newest row, or one more run (PIPE-3).
    pub(super) fn by_agent(&self, gate: Gate) -> Answer {
        if let Some(answer) = self.fresh(gate).and_then(answer_of) {
            return answer;
        }
        let task = &self.view.task;
        let Some(agent) = task.stage.agent() else {
            return Answer::Stuck { why: format!("stage {} has no agent", task.stage), freeze: false };
        };
        let (spent, lost) = self.failures(JobKind::Agent);
        let last = self.ended(JobKind::Agent).next_back().filter(|j| j.status == JobStatus::Failed);
        let reason = last.and_then(|j| j.reason.clone());
        let said = reason.clone().unwrap_or_else(|| "no reason was recorded".to_owned());
        let rules = self.policy.agents.get(&agent);
        let retries = rules.map_or(0, |r| r.run_retries);
        if spent > retries {
            return Answer::Stuck {
                why: format!("the {agent} failed {spent} times, the last time: {said}"),
                freeze: false,
            };
        }
        let failed = self.ended(JobKind::Agent).filter(|j| j.status == JobStatus::Failed);
        if let Some((cause, n)) = again::exhausted(failed) {
            let why = match cause {
                Cause::Lost => format!("the supervisors of {n} runs of the {agent} vanished: {said}"),
                Cause::Cluster => format!(
                    "the cluster lost {n} runs of the {agent} in a row, the last time: {said}; ask Slurm's administrator, \
                     then retry"
                ),
                Cause::HeadMoved => format!("the branch moved on the remote under {n} runs of the {agent}: {said}"),
                Cause::PushRefused | Cause::Outage | Cause::TakenBack | Cause::Environment | Cause::BaseFirst => {
                    format!("{n} runs of the {agent} ended like this: {said}")
                }
            };
            return Answer::Stuck { why, freeze: false };
        }
        let wait = match (spent, lost) {
            (0, n) => lost_wait(n),
            (n, _) => back_off(rules.map_or(0, |r| r.retry_backoff_ms), n, task.id.0),
        };
        let available_at = if wait == 0 { 0 } else { self.view.now.wall_ms + wait };
        let why = reason
            .clone()
            .map_or_else(|| format!("the {agent} has not run yet"), |r| format!("the {agent} works again: {r}"));
        let job =
            NewJob { kind: JobKind::Agent, agent: Some(agent), subject: task.head_sha.clone(), available_at, reason };
        Answer::Undecided { why, need: Need::Job(job) }
    }

    /// The answer of a gate whose verdict comes from running the branch's code: a *yes* counts only together with a
    /// review that approves the same code, or code that RULE-4 relates to it. A judge that runs what it judges never
    /// opens a gate alone (R1).
    pub(super) fn sent_to_review(&self, gate: Gate) -> Answer {
        let answer = self.by_agent(gate);
        if !matches!(answer, Answer::Pass { .. }) || !self.project.stages.contains(&Stage::Review) {
            return answer;
        }
        let review = self.of_attempt(Gate::ReviewVerdict);
        let why = match review {
            Some(row) if row.verdict == EvidenceVerdict::Pass && self.holds(row) => return answer,
            Some(row) if row.verdict == EvidenceVerdict::Pass => {
                format!("{gate} is positive, but the review was of {}, and the code has changed since", row.sha.short())
            }
            Some(_) | None => format!("{gate} is positive, but no review approves this code"),
        };
        match self.came_back(gate) {
            Some(times) => Answer::Stuck { why: format!("{why}; this happened {times} times"), freeze: false },
            None => Answer::Stale { to: Stage::Review, why },
        }
    }

    /// How often a judge's own changes have sent the task back to review, once that reached its maximum (RULE-48). A
    /// verdict that a retry carried into a new stay may go round again.
    pub(super) fn came_back(&self, gate: Gate) -> Option<usize> {
        let of_gate = |e: &&Evidence| e.subject == gate && e.attempt == self.view.task.attempt;
        let epoch = self.view.task.epoch;
        let runs: BTreeSet<_> = self.view.evidence.iter().filter(of_gate).filter_map(|e| e.run_id).collect();
        let now = self.fresh(gate)?.run_id?;
        let again = self.view.evidence.iter().filter(of_gate).any(|e| e.run_id == Some(now) && e.epoch < epoch);
        (runs.len() >= MAX_RETURNS && runs.len() % MAX_RETURNS == 0 && !again).then_some(runs.len())
    }

    /// The answer of a gate whose evidence a reserved job makes for one head: the newest row on the head, or a job.
    pub(super) fn by_job(&self, gate: Gate, kind: JobKind, row: Option<&Evidence>) -> Answer {
        if let Some(answer) = row.and_then(answer_of) {
            return answer;
        }
        let task = &self.view.task;
        let errors: Vec<&Evidence> = self
            .view
            .evidence
            .iter()
            .filter(|e| {
                e.subject == gate
                    && e.epoch == task.epoch
                    && Some(e.code_tree.as_str()) == task.head_tree.as_deref()
                    && e.verdict == EvidenceVerdict::ToolError
            })
            .collect();
        let last = errors.last().map(|e| e.why.clone());
        if errors.len() >= MAX_TOOL_ERRORS {
            let why = last.unwrap_or_default();
            return Answer::Stuck { why: format!("{gate} could not run {} times: {why}", errors.len()), freeze: false };
        }
        let (spent, lost) = self.failures(kind);
        if spent + lost >= MAX_LOST_JOBS {
            return Answer::Stuck { why: format!("{} jobs {kind} were lost", spent + lost), freeze: false };
        }
        let wait = match (errors.len(), lost) {
            (0, n) => lost_wait(n),
            (n, _) => back_off(TOOL_WAIT_MS, i64::try_from(n).unwrap_or(1), task.id.0),
        };
        let available_at = if wait == 0 { 0 } else { self.view.now.wall_ms + wait };
        let why = last
            .clone()
            .map_or_else(|| format!("{kind} has not checked the head yet"), |w| format!("{kind} looks again: {w}"));
        let job = NewJob { kind, agent: None, subject: task.head_sha.clone(), available_at, reason: last };
        Answer::Undecided { why, need: Need::Job(job) }
    }
}

/// The contents that a person last approved, by path below the work item's folder.
pub fn approved_blobs(rows: &[Evidence]) -> BTreeMap<String, Sha> {
    let newest = rows.iter().rev().find(|e| e.subject == Subject::Approved);
    match newest.map(|e| &e.detail) {
        Some(EvidenceDetail::Approved { blobs }) => blobs.clone(),
        Some(_) | None => BTreeMap::new(),
    }
}

/// The verdict inputs that were listed for a code tree.
pub fn inputs_of(rows: &[Evidence], tree: &str) -> Option<Vec<Input>> {
    let row = rows.iter().rev().find(|e| e.subject == Subject::Inputs && e.code_tree == tree)?;
    if let EvidenceDetail::Inputs { inputs, .. } = &row.detail { Some(inputs.clone()) } else { None }
}

/// One second more for each lost run, at most ten.
fn lost_wait(lost: i64) -> i64 {
    1000 * lost.min(10)
}

/// PASS and FAIL of a row; `missing` and `tool_error` are no verdict. A row whose file is gone or changed waits for a
/// person (RULE-47).
pub(super) fn answer_of(row: &Evidence) -> Option<Answer> {
    if row.tampered {
        let why = format!("{}; `orch retry` judges again", row.why);
        return Some(Answer::Stuck { why, freeze: false });
    }
    match row.verdict {
        EvidenceVerdict::Pass => Some(Answer::Pass { why: row.why.clone() }),
        EvidenceVerdict::Fail => {
            let squash = row.detail.of_code().is_some_and(|code| code.squash);
            Some(Answer::Fail { why: row.why.clone(), findings: findings(row), squash })
        }
        EvidenceVerdict::Missing | EvidenceVerdict::ToolError => None,
    }
}

/// What a negative row hands to the developer; its sentence where it contains no readable findings.
pub fn findings(row: &Evidence) -> Vec<Finding> {
    match row.detail.findings() {
        [] => {
            let gate = row.subject.gate();
            gate.map(|g| Finding { source: Origin::Gate(g), text: row.why.clone() }).into_iter().collect()
        }
        listed => listed.to_vec(),
    }
}
