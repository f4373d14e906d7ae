//! Which queued jobs may be claimed now, and what holds the others (RUN-1, RUN-2, RULE-24 to RULE-27). Run inside the
//! claim's own transaction, so that concurrent ticks never pass a limit.

use super::again::rule;
use super::serial::first_job_held;
use crate::model::confine::RunConfinement;
use crate::model::ids::Key;
use crate::model::policy::{CiSource, Policy, ProjectPolicy};
use crate::model::report::{Held, Rule};
use crate::model::stage::{Agent, JobKind, Stage};
use crate::model::task::{Cause, Job};
use crate::model::time::rfc3339;
use crate::model::view::{Busy, Claim, Place, QueueView};

/// What one tick may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dispatch {
    pub claims: Vec<Claim>,
    pub held: Vec<Held>,
}

/// Who gets the alert that a run waits for money (NTF-2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alerted {
    /// Another rule holds it, which `status` shows.
    No,
    /// Once for each task and cap.
    Task { key: Key, number: i64 },
    /// Once for each day.
    Setting { name: &'static str, number: i64 },
}

/// Whether a hold is reported to people, and under which number. `day`: its beginning in wall milliseconds.
pub fn alerted(held: &Held, policy: &Policy, day: i64) -> Alerted {
    match (held.rule, held.task.as_deref().and_then(|k| Key::parse(k).ok())) {
        (Rule::TaskCost, Some(key)) => Alerted::Task { key, number: policy.max_task_micros },
        (Rule::DayCost, _) => Alerted::Setting { name: "limits.max_cost_usd_per_day", number: day / 86_400_000 },
        _ => Alerted::No,
    }
}

/// Whether a kind observes or settles: exempt from limits, HALT, freeze and cool-down (RULE-24).
fn exempt(kind: JobKind) -> bool {
    match kind {
        JobKind::Ci | JobKind::Scan | JobKind::DeployFinalizer | JobKind::PostDeployMonitor => true,
        JobKind::Agent | JobKind::Staging | JobKind::Build | JobKind::Deploy => false,
    }
}

/// Whether a job of this kind starts a program of the second row: an agent, or code of a branch (BND-1). A deploy is
/// the operator's, and what it needs was built before.
fn second_row(kind: JobKind, project: &ProjectPolicy) -> bool {
    match kind {
        JobKind::Agent => true,
        JobKind::Ci => project.ci == CiSource::Command,
        JobKind::Staging => project.staging_commands,
        JobKind::Build => project.staging_build || project.deploy_build,
        JobKind::Scan | JobKind::Deploy | JobKind::DeployFinalizer | JobKind::PostDeployMonitor => false,
    }
}

/// With `confine.mode: required` and no engine nothing of the second row starts, and nothing is spent (BND-2).
fn confined(job: &Job, agent: Option<Agent>, project: &ProjectPolicy, view: &QueueView) -> Result<(), Why> {
    let agent = agent.filter(|_| job.kind == JobKind::Agent);
    let run_confinement = RunConfinement::find(&view.confinement, &project.key, agent);
    match run_confinement.and_then(|s| s.why.clone()).filter(|_| second_row(job.kind, project)) {
        Some(why) => Err((Rule::Confinement, why, None)),
        None => Ok(()),
    }
}

/// Plans all claims at once, each considering those before it. `only`: one project. `most`: the maximum number of
/// claims.
pub fn plan(view: &QueueView, policy: &Policy, only: Option<&str>, most: usize) -> Dispatch {
    let mut world = view.clone();
    let mut out = Dispatch::default();
    for job in &view.queued {
        let Some(place) = world.places.get(&job.task_id).cloned() else { continue };
        if only.is_some_and(|p| p != place.project) {
            continue;
        }
        let held = |rule, why: String, until: Option<i64>| Held {
            task: Some(place.key.to_string()),
            rule,
            why,
            until: until.map(rfc3339),
        };
        match claimable(job, &place, &world, policy) {
            Err((rule, why, until)) => out.held.push(held(rule, why, until)),
            Ok(_) if out.claims.len() >= most => {
                out.held.push(held(Rule::Queued, "this tick has claimed as many jobs as it may".to_owned(), None));
            }
            Ok(claim) => {
                take(&mut world, job, &place, &claim);
                out.claims.push(claim);
            }
        }
    }
    out
}

type Why = (Rule, String, Option<i64>);

fn claimable(job: &Job, place: &Place, view: &QueueView, policy: &Policy) -> Result<Claim, Why> {
    let now = view.now.wall_ms;
    let say = |rule, why: String| Err((rule, why, None));
    let Some(project) = policy.project(&place.project) else {
        return say(Rule::SwitchedOff, format!("project {} is not in the configuration", place.project));
    };
    // A stop that came too late does not end the watch of what was deployed.
    let stopped = place.stop_requested && !place.stage.is_terminal();
    if stopped && !matches!(job.kind, JobKind::DeployFinalizer | JobKind::Deploy) {
        return say(Rule::StopRequested, "a stop is recorded".to_owned());
    }
    // Observing and settling continue (RULE-24).
    if place.blocked && job.kind == JobKind::Agent {
        return say(Rule::Blocked, format!("it is blocked; `orch retry {}` lifts the block", place.key));
    }
    if place.withdrawn && job.kind == JobKind::Agent {
        return say(Rule::Withdrawn, "it was taken back meanwhile".to_owned());
    }
    if let Some(at) = Some(job.available_at).filter(|at| *at > now) {
        let why = job.reason.clone().unwrap_or_else(|| format!("the job {} is deferred", job.kind));
        return Err((rule(job.cause), why, Some(at)));
    }
    if let Some(held) = base_first(job, view, project) {
        return Err(held);
    }
    let free = Claim {
        job: job.id,
        task: place.id,
        starts: None,
        serial: false,
        credential: None,
        reserved_micros: 0,
        canary: false,
    };
    let of_kind = count(view, |b| b.kind == job.kind);
    if !matches!(job.kind, JobKind::Agent | JobKind::DeployFinalizer | JobKind::PostDeployMonitor)
        && of_kind >= policy.max_reserved
    {
        return say(Rule::ReservedLimit, format!("{of_kind} jobs {} run, {} may", job.kind, policy.max_reserved));
    }
    let starts = (place.stage == Stage::Created).then(|| place.stage.next(&project.stages)).flatten();
    if let Some(why) = project.fault.as_ref().filter(|_| job.kind == JobKind::Build || second_row(job.kind, project)) {
        return say(Rule::Configuration, why.clone());
    }
    confined(job, job.agent.or_else(|| starts.and_then(Stage::agent)), project, view)?;
    if exempt(job.kind) || matches!(job.kind, JobKind::Staging | JobKind::Build | JobKind::Deploy) {
        return Ok(free);
    }
    if let Some(reason) = &view.halted {
        return say(Rule::Halt, format!("halted: {reason}"));
    }
    if let (Some(mb), least) = (view.free_mb, policy.min_free_mb)
        && mb < least
    {
        return say(Rule::Disk, format!("{mb} MB are free, min_free_mb requires {least}"));
    }
    if starts.is_some() {
        first(place, view, policy)?;
    }
    if starts.is_some()
        && !place.on_red_base
        && let Some(base) = &project.base
        && let Some(held) = super::base::holds(view.bases.get(base), view.unseen.get(base), base)
    {
        return Err(held);
    }
    limits(job, place, view, policy)?;
    let Some(agent) = job.agent.or_else(|| starts.and_then(Stage::agent)) else {
        return say(Rule::Gate, "the job names no agent".to_owned());
    };
    let Some(rules) = policy.agents.get(&agent) else { return Ok(free) };
    let mut canary = false;
    if let Some(cool) = view.cooldowns.iter().find(|c| c.credential == rules.credential) {
        if cool.until > now {
            return Err((Rule::Cooldown, format!("{}: {}", cool.credential, cool.reason), Some(cool.until)));
        }
        if let Some(run) = cool.canary {
            return say(Rule::Cooldown, format!("{}: run {run} goes first after the limit", cool.credential));
        }
        canary = true;
    }
    let reserved = if rules.max_cost_micros > 0 {
        rules.max_cost_micros
    } else {
        view.most_expensive.get(&agent).copied().unwrap_or(0)
    };
    cost(place, view, policy, reserved)?;
    if starts.is_some() && project.remote_board {
        board(place, view)?;
    }
    let serial = starts.is_some() && project.serial;
    Ok(Claim { starts, serial, credential: Some(rules.credential.clone()), reserved_micros: reserved, canary, ..free })
}

/// A red CI counts once the base was tried after it, which shows whether the machine changed (ORD-1).
fn base_first(job: &Job, view: &QueueView, project: &ProjectPolicy) -> Option<Why> {
    let name = project.base.as_ref().filter(|_| job.cause == Some(Cause::BaseFirst))?;
    let base = view.bases.get(name);
    if base.is_some_and(|b| b.state.is_verdict() && b.since >= job.available_at) {
        return None;
    }
    let why = job.reason.clone().unwrap_or_else(|| format!("the base of {name} is checked again first"));
    Some((Rule::BasePending, why, None))
}

fn first(place: &Place, view: &QueueView, policy: &Policy) -> Result<(), Why> {
    if view.freezes_unreadable {
        return Err((Rule::Freeze, "the freezes can't be read, so every repository counts as frozen".to_owned(), None));
    }
    if let Some(f) = view.freezes.iter().find(|f| f.repo == place.repo) {
        return Err((
            Rule::Freeze,
            format!("{} is frozen: {}; `orch unfreeze {}` lifts it", f.repo, f.reason, f.repo),
            None,
        ));
    }
    first_job_held(place, view, policy).map_or(Ok(()), |(rule, why)| Err((rule, why, None)))
}

/// Nothing starts before its board has said what blocks it (RULE-27).
fn board(place: &Place, view: &QueueView) -> Result<(), Why> {
    let why = match view.board.of.get(&place.id) {
        Some(Ok(())) => return Ok(()),
        Some(Err(why)) => format!("the board does not say what blocks it: {why}"),
        None if view.board.required => "the board has not been asked yet what blocks it".to_owned(),
        None => return Ok(()),
    };
    Err((Rule::Dependencies, why, None))
}

fn limits(job: &Job, place: &Place, view: &QueueView, policy: &Policy) -> Result<(), Why> {
    let say = |rule, why: String| Err((rule, why, None));
    let agents = count(view, |b| b.kind == JobKind::Agent);
    if agents >= policy.max_concurrency {
        return say(Rule::MaxConcurrency, format!("{agents} agents run, {} may", policy.max_concurrency));
    }
    let most = policy.project(&place.project).map_or(0, |p| p.max_running);
    let here = count(view, |b| b.kind == JobKind::Agent && b.project == place.project);
    if most > 0 && here >= most {
        return say(Rule::ProjectLimit, format!("{here} agents are running in {}; the limit is {most}", place.project));
    }
    let most = job.agent.and_then(|a| policy.agents.get(&a)).map_or(0, |a| a.max_running);
    let alike = count(view, |b| b.agent.is_some() && b.agent == job.agent);
    if most > 0 && alike >= most {
        let agent = job.agent.map_or("", crate::model::stage::Agent::as_str);
        return say(Rule::AgentLimit, format!("{alike} runs of the {agent}; the limit is {most}"));
    }
    Ok(())
}

fn cost(place: &Place, view: &QueueView, policy: &Policy, reserved: i64) -> Result<(), Why> {
    let dollars = |m: i64| format!("${}.{:02}", m / 1_000_000, m.rem_euclid(1_000_000) / 10_000);
    let task = view.task_micros.get(&place.id).copied().unwrap_or(0);
    let too_dear = |booked: i64, of: &str, key: &str, cap: i64| {
        let spent = format!("{} booked {of}", dollars(booked));
        match booked >= cap {
            true => format!("{spent}, {} may be spent ({key})", dollars(cap)),
            false => format!(
                "{spent}, and the next run may cost {}: together more than {key} ({} may be spent)",
                dollars(reserved),
                dollars(cap)
            ),
        }
    };
    let over = |cap: i64, booked: i64| cap > 0 && (booked + reserved > cap || booked >= cap);
    if over(policy.max_task_micros, task) {
        let why = too_dear(task, "on the task", "limits.max_cost_usd_per_task", policy.max_task_micros);
        return Err((Rule::TaskCost, why, None));
    }
    if over(policy.max_day_micros, view.day_micros) {
        let why = too_dear(view.day_micros, "today", "limits.max_cost_usd_per_day", policy.max_day_micros);
        return Err((Rule::DayCost, why, None));
    }
    Ok(())
}

fn count(view: &QueueView, which: impl Fn(&Busy) -> bool) -> i64 {
    i64::try_from(view.running.iter().filter(|b| which(b)).count()).unwrap_or(i64::MAX)
}

fn take(world: &mut QueueView, job: &Job, place: &Place, claim: &Claim) {
    let agent = job.agent.or_else(|| claim.starts.and_then(Stage::agent));
    world.running.push(Busy { kind: job.kind, agent, project: place.project.clone() });
    world.day_micros += claim.reserved_micros;
    *world.task_micros.entry(place.id).or_insert(0) += claim.reserved_micros;
    if let Some(p) = world.places.get_mut(&place.id)
        && let Some(stage) = claim.starts
    {
        p.started = true;
        p.stage = stage;
    }
    if claim.canary
        && let Some(c) = world.cooldowns.iter_mut().find(|c| Some(&c.credential) == claim.credential.as_ref())
    {
        // Only one goes first; its number is known once it exists.
        c.canary = Some(crate::model::ids::RunId(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::{policy, task};
    use crate::model::ids::JobId;
    use crate::model::stage::JobStatus;
    use crate::model::task::{Cooldown, Freeze};
    use crate::model::time::Stamp;
    use crate::model::view::BoardAnswers;

    /// A queue of one job, with everything that can hold it.
    fn against(kind: JobKind, stage: Stage) -> QueueView {
        let t = task(1, stage);
        let agent = (kind == JobKind::Agent).then_some(Agent::Developer);
        let job = Job {
            id: JobId(1),
            task_id: t.id,
            stage,
            kind,
            agent,
            attempt: 1,
            epoch: t.epoch,
            status: JobStatus::Queued,
            token: None,
            subject: None,
            available_at: 0,
            priority: 4,
            reason: None,
            spent: false,
            cause: None,
            again: 0,
        };
        let place = Place {
            id: t.id,
            key: t.key,
            project: t.project,
            repo: t.repo,
            stage,
            started: stage != Stage::Created,
            blocked_by: vec![],
            withdrawn: false,
            stop_requested: false,
            blocked: false,
            on_red_base: false,
        };
        let busy = Busy { kind: JobKind::Agent, agent: Some(Agent::Developer), project: place.project.clone() };
        QueueView {
            board: Default::default(),
            queued: vec![job],
            running: vec![busy],
            places: [(place.id, place.clone())].into(),
            blockers: [].into(),
            bases: [].into(),
            unseen: [].into(),
            freezes: vec![Freeze { repo: place.repo, reason: "sick".into(), task_id: None, since: 0 }],
            freezes_unreadable: true,
            halted: Some("night".into()),
            cooldowns: vec![Cooldown {
                credential: "scripted".into(),
                until: 2_000_000,
                reason: "used up".into(),
                canary: None,
            }],
            day_micros: 9,
            task_micros: [(place.id, 9)].into(),
            most_expensive: [].into(),
            free_mb: Some(0),
            confinement: vec![],
            now: Stamp { wall_ms: 1_000_000, mono_ms: 1, boot_id: "b".into() },
        }
    }

    fn tight() -> Policy {
        let mut p = policy();
        (p.max_concurrency, p.max_task_micros, p.max_day_micros, p.min_free_mb) = (1, 1, 1, 512);
        p
    }

    /// What holds the one job; `None`: it is claimed.
    fn held(view: &QueueView, p: &Policy) -> Option<Rule> {
        let d = plan(view, p, None, 9);
        assert_eq!(d.claims.len() + d.held.len(), 1);
        d.held.first().map(|h| h.rule)
    }

    #[test]
    fn rule_24_what_observes_or_settles_passes_limits_halt_freeze_and_cool_down() {
        for kind in [JobKind::Ci, JobKind::Scan, JobKind::DeployFinalizer, JobKind::PostDeployMonitor] {
            assert_eq!(held(&against(kind, Stage::Deploy), &tight()), None, "{kind}");
        }
        // An agent is held by each of them in turn.
        let mut view = against(JobKind::Agent, Stage::Development);
        let mut p = tight();
        assert_eq!(held(&view, &p), Some(Rule::Halt));
        view.halted = None;
        assert_eq!(held(&view, &p), Some(Rule::Disk));
        view.free_mb = Some(512);
        assert_eq!(held(&view, &p), Some(Rule::MaxConcurrency));
        p.max_concurrency = 2;
        assert_eq!(held(&view, &p), Some(Rule::Cooldown));
        view.cooldowns.clear();
        assert_eq!(held(&view, &p), Some(Rule::TaskCost));
        p.max_task_micros = 0;
        assert_eq!(held(&view, &p), Some(Rule::DayCost));
        p.max_day_micros = 0;
        assert_eq!(held(&view, &p), None, "a freeze holds no task under way");
        let mut first = against(JobKind::Agent, Stage::Created);
        (first.halted, first.free_mb) = (None, None);
        assert_eq!(held(&first, &p), Some(Rule::Freeze), "a freeze that can't be read holds");
        first.freezes_unreadable = false;
        assert_eq!(held(&first, &p), Some(Rule::Freeze));
    }

    #[test]
    fn bnd_2_without_an_engine_nothing_of_the_second_row_is_claimed_and_a_deploy_is() {
        let none = |agent| RunConfinement {
            project: "ORCH".into(),
            agent,
            held: None,
            why: Some("no bubblewrap; apt install bubblewrap".into()),
            open: true,
        };
        let mut p = policy();
        if let Some(project) = p.projects.get_mut("ORCH") {
            (project.ci, project.staging_commands, project.deploy_build) = (CiSource::Command, true, true);
        }
        let bare = |kind, stage| {
            let mut view = against(kind, stage);
            (view.halted, view.free_mb, view.running, view.freezes_unreadable) = (None, None, vec![], false);
            view.cooldowns.clear();
            view.freezes.clear();
            view.confinement = vec![none(None), none(Some(Agent::Developer))];
            view
        };
        for (kind, stage) in [
            (JobKind::Agent, Stage::Development),
            (JobKind::Ci, Stage::Development),
            (JobKind::Staging, Stage::DeployStaging),
            (JobKind::Build, Stage::DeployStaging),
        ] {
            let view = bare(kind, stage);
            let d = plan(&view, &p, None, 9);
            let held = d.held.first().unwrap();
            assert_eq!((held.rule, d.claims.len()), (Rule::Confinement, 0), "{kind}");
            assert!(held.why.contains("apt install"), "{}", held.why);
        }
        for kind in [JobKind::Deploy, JobKind::DeployFinalizer, JobKind::PostDeployMonitor, JobKind::Scan] {
            assert_eq!(held(&bare(kind, Stage::Deploy), &p), None, "{kind}");
        }
        // A forge's statuses start nothing here, and an agent with its own engine is not held where another lacks one.
        if let Some(project) = p.projects.get_mut("ORCH") {
            (project.ci, project.deploy_build) = (CiSource::Statuses, false);
        }
        assert_eq!(held(&bare(JobKind::Ci, Stage::Development), &p), None);
        // Where nothing is built a build job only asks staging for its revision.
        assert_eq!(held(&bare(JobKind::Build, Stage::DeployStaging), &p), None);
        let mut view = bare(JobKind::Agent, Stage::Development);
        view.confinement.retain(|s| s.agent.is_none());
        assert_eq!(held(&view, &p), None);
    }

    #[test]
    fn ord_3_a_first_job_is_held_by_the_base_of_its_own_project_and_by_no_other_of_the_repository() {
        let mut view = against(JobKind::Agent, Stage::Created);
        (view.halted, view.free_mb, view.running, view.freezes_unreadable) = (None, None, vec![], false);
        view.cooldowns.clear();
        view.freezes.clear();
        let unseen = crate::model::base::Unseen { why: "no route".into(), since: 1, next_at: 9, failed: 1 };
        let repo = view.places[&view.queued[0].task_id].repo.clone();
        view.unseen = [("WEB".to_owned(), unseen.clone()), (repo, unseen)].into();
        let mut p = policy();
        for (base, by) in [(None, None), (Some("WEB"), Some("no route")), (Some("API"), Some("base of API"))] {
            p.projects.get_mut("ORCH").unwrap().base = base.map(str::to_owned);
            let why = plan(&view, &p, None, 9).held.first().map(|h| h.why.clone());
            assert_eq!(why.is_some(), by.is_some(), "{base:?}: {why:?}");
            assert!(why.is_none_or(|why| by.is_some_and(|by| why.contains(by))), "{base:?}");
        }
    }

    #[test]
    fn rule_26_after_a_cool_down_one_run_of_the_credential_goes_first() {
        let mut view = against(JobKind::Agent, Stage::Development);
        (view.halted, view.free_mb, view.running) = (None, None, vec![]);
        let mut p = policy();
        p.max_concurrency = 9;
        let second = task(2, Stage::Development);
        let first = view.places[&view.queued[0].task_id].clone();
        view.places.insert(second.id, Place { id: second.id, key: second.key, ..first });
        view.queued.push(Job { id: JobId(2), task_id: second.id, ..view.queued[0].clone() });
        view.cooldowns[0].until = view.now.wall_ms;
        let d = plan(&view, &p, None, 9);
        assert_eq!(d.claims.iter().map(|c| (c.job, c.canary)).collect::<Vec<_>>(), [(JobId(1), true)]);
        assert_eq!(d.held.iter().map(|h| h.rule).collect::<Vec<_>>(), [Rule::Cooldown]);
        // While that one lives the others wait; without a limit all run.
        view.cooldowns[0].canary = Some(crate::model::ids::RunId(7));
        assert_eq!(plan(&view, &p, None, 9).claims, []);
        view.cooldowns.clear();
        assert_eq!(plan(&view, &p, None, 9).claims.len(), 2);
    }

    #[test]
    fn rule_27_no_first_job_starts_before_its_board_has_answered() {
        let mut view = against(JobKind::Agent, Stage::Created);
        (view.freezes, view.freezes_unreadable, view.halted, view.running) = (vec![], false, None, vec![]);
        (view.cooldowns, view.free_mb) = (vec![], None);
        let mut p = policy();
        let id = view.queued[0].task_id;
        let mut held = |answers: BoardAnswers, remote| {
            p.projects.get_mut("ORCH").unwrap().remote_board = remote;
            let view = QueueView { board: answers, ..view.clone() };
            plan(&view, &p, None, 9).held.first().map(|h| (h.rule, h.why.clone()))
        };
        let said = |answer: Option<Result<(), String>>, required| BoardAnswers {
            of: answer.map(|a| (id, a)).into_iter().collect(),
            required,
        };
        let silent = Some(Err("away".to_owned()));
        assert_eq!(held(said(None, true), false), None, "a local board is read with its item");
        assert_eq!(held(said(Some(Ok(())), true), true), None);
        assert_eq!(held(said(None, false), true), None, "whoever only reads leaves the question to the step");
        let (rule, why) = held(said(None, true), true).unwrap();
        assert!(rule == Rule::Dependencies && why.contains("has not been asked yet"), "{why}");
        let (rule, why) = held(said(silent, false), true).unwrap();
        assert!(rule == Rule::Dependencies && why.ends_with("blocks it: away"), "{why}");
    }

    #[test]
    fn ntf_2_only_a_wait_for_money_is_reported_and_once_for_each_cap_and_day() {
        let held = |rule| Held { task: Some("ORCH-1".into()), rule, why: "dear".into(), until: None };
        let day = 3 * 86_400_000;
        let key = Key::parse("ORCH-1").unwrap();
        assert_eq!(alerted(&held(Rule::TaskCost), &tight(), day), Alerted::Task { key, number: 1 });
        let name = "limits.max_cost_usd_per_day";
        assert_eq!(alerted(&held(Rule::DayCost), &tight(), day), Alerted::Setting { name, number: 3 });
        for rule in Rule::ALL.iter().filter(|r| !matches!(r, Rule::TaskCost | Rule::DayCost)) {
            assert_eq!(alerted(&held(*rule), &tight(), day), Alerted::No, "{rule}");
        }
    }
}
