//! A small world for the gates' tables of cases.

use crate::model::evidence::{Carry, EvidenceDetail, EvidenceVerdict};
use crate::model::gate::Subject;
use crate::model::ids::{JobId, Key, Sha, TaskId};
use crate::model::inputs::Input;
use crate::model::policy::{AgentPolicy, CiSource, Policy, ProjectPolicy};
use crate::model::stage::{Agent, JobKind, JobStatus, Stage};
use crate::model::task::{Actor, Deploy, DeployState, Evidence, Job, Task};
use crate::model::time::Stamp;
use crate::model::view::TaskView;

pub fn sha(digit: char) -> Sha {
    Sha::parse(&digit.to_string().repeat(40)).unwrap()
}

pub fn project() -> ProjectPolicy {
    ProjectPolicy {
        fault: None,
        key: "ORCH".into(),
        repo: "orch".into(),
        self_hosting: false,
        stages: Stage::ALL.iter().copied().filter(|s| s.may_be_left_out()).collect(),
        ci: CiSource::Command,
        base: None,
        staging_checks: false,
        staging_commands: false,
        staging_build: false,
        deploy_build: false,
        deploys_as: None,
        security: false,
        freshness: false,
        confirm_deploy: true,
        watch: false,
        serial: false,
        freeze_on_degraded: true,
        remote_forge: false,
        deploy_command: false,
        posts_statuses: false,
        update: crate::model::sides::Update::Rebase,
        leaves_out: false,
        artefacts_on_branch: false,
        deletes_branch: true,
        max_running: 0,
        remote_board: false,
    }
}

pub fn policy() -> Policy {
    let agent = AgentPolicy {
        run_retries: 2,
        retry_backoff_ms: 1000,
        max_cost_micros: 0,
        credential: "scripted".into(),
        max_running: 0,
    };
    Policy {
        projects: [("ORCH".to_owned(), project())].into(),
        agents: Agent::ALL.iter().map(|a| (*a, agent.clone())).collect(),
        max_concurrency: 1,
        max_reserved: 2,
        developer_retries: 3,
        max_task_micros: 0,
        max_day_micros: 0,
        undecided_max_ms: 86_400_000,
        effects: crate::model::policy::EffectBounds { max_tries: 20, max_ms: 86_400_000 },
        dependencies: true,
        min_free_mb: 0,
        approve_label: "autoApprove".into(),
        deploy_label: "autoDeploy".into(),
    }
}

/// An agent's run that ended without a result.
pub fn failed_job() -> Job {
    Job {
        id: JobId(1),
        task_id: TaskId(1),
        stage: Stage::Review,
        kind: JobKind::Agent,
        agent: Some(Agent::Reviewer),
        attempt: 1,
        epoch: 5,
        status: JobStatus::Failed,
        token: None,
        subject: None,
        available_at: 0,
        priority: 2,
        reason: None,
        spent: false,
        cause: None,
        again: 0,
    }
}

pub fn task(id: i64, stage: Stage) -> Task {
    Task {
        id: TaskId(id),
        key: Key::parse(&format!("ORCH-{id}")).unwrap(),
        project: "ORCH".into(),
        repo: "orch".into(),
        item_id: format!("ORCH-{id}"),
        round: 1,
        title: "t".into(),
        body: String::new(),
        priority: 2,
        blocked_by: vec![],
        stage,
        revision: 1,
        attempt: 1,
        attempt_base: 1,
        epoch: 3,
        branch: Some("feature/ORCH-1".into()),
        base_sha: Some(sha('b')),
        head_sha: Some(sha('a')),
        head_tree: Some("T".into()),
        pr: None,
        waiting_for: None,
        waiting_since: None,
        wait_no: 0,
        asked_at: None,
        refused: None,
        released: None,
        blocked_reason: None,
        block_no: 0,
        held_findings: None,
        findings: vec![],
        findings_same: 0,
        rework: None,
        withdrawn: None,
        critical: None,
        stop_requested_at: None,
        stop_reason: None,
        stopped_stage: None,
        started_at: None,
        in_serial: false,
        landed_sha: None,
        watch: None,
        created_at: 0,
        updated_at: 0,
        finished_at: None,
    }
}

pub fn view(stage: Stage) -> TaskView {
    TaskView {
        task: task(1, stage),
        live_job: None,
        ended: vec![],
        evidence: vec![],
        lease: None,
        lease_holder: None,
        deploy: None,
        freeze: None,
        undeployed: None,
        halted: None,
        deploy_held: false,
        awaits: None,
        auto: None,
        now: Stamp { wall_ms: 1_000_000, mono_ms: 1000, boot_id: "b".into() },
    }
}

/// A deploy of the first attempt of such a task.
pub fn deploy(task: i64, state: DeployState) -> Deploy {
    Deploy {
        id: format!("{task}-1-7"),
        task_id: TaskId(task),
        repo: "orch".into(),
        attempt: 1,
        fence: 7,
        head: sha('a'),
        base: sha('b'),
        tree: "T".into(),
        state,
        actor: Actor { boot_id: "b".into(), pid: 1, start_ticks: 1 },
        landed_sha: None,
        result: None,
        initiated_at: Stamp { wall_ms: 1, mono_ms: 1, boot_id: "b".into() },
    }
}

/// Records that `orch`'s own update made a head from another.
pub fn updated(from: &str, from_sha: char, equal: bool) -> EvidenceDetail {
    EvidenceDetail::Carry(Carry::Update { from: from.into(), from_sha: sha(from_sha), equal, left_out: false })
}

/// The merge gate's answer under a fence.
pub fn under(fence: i64) -> EvidenceDetail {
    EvidenceDetail::Mergeable { fence, base: sha('b'), findings: vec![] }
}

/// The verdict inputs of a head.
pub fn listed(inputs: Vec<Input>) -> EvidenceDetail {
    EvidenceDetail::Inputs { base: sha('b'), inputs }
}

pub fn row(gate: &str, verdict: EvidenceVerdict) -> Evidence {
    Evidence {
        id: 1,
        subject: Subject::parse(gate).unwrap(),
        attempt: 1,
        epoch: 3,
        run_id: None,
        sha: sha('a'),
        code_tree: "T".into(),
        verdict,
        why: "because".into(),
        detail: EvidenceDetail::Plain,
        tampered: false,
    }
}
