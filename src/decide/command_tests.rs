use super::*;
use crate::decide::gates::testing::{row, sha, view};
use crate::model::deploy::{DeployEnd, DeployResult};
use crate::model::finding::Origin;
use crate::model::gate::Gate;
use crate::model::ids::{JobId, TaskId};
use crate::model::refusal::RefusedEffect;
use crate::model::task::{Actor, Job};

fn job(kind: JobKind, status: JobStatus) -> Job {
    Job { id: JobId(1), task_id: TaskId(1), kind, status, ..crate::decide::gates::testing::failed_job() }
}

fn waiting(stage: Stage, waiting: Waiting) -> Task {
    Task { waiting_for: Some(waiting), waiting_since: Some(1), ..view(stage).task }
}

#[test]
fn rule_15_a_release_counts_where_and_when_it_is_waited_for() {
    let (a, d) = (Waiting::Approval, Waiting::ConfirmDeploy);
    for stage in Stage::ALL {
        for what in [a, d] {
            let here = *stage == stage_of(what);
            let task = waiting(*stage, what);
            assert_eq!(release(&task, what, false).is_ok(), here, "{stage} {what}");
            assert!(release(&task, what, true).is_err(), "{stage} {what}: a job of it works");
            let stopping = Task { stop_requested_at: Some(1), ..task.clone() };
            assert!(release(&stopping, what, false).is_err(), "{stage} {what}: a stop is recorded");
            assert!(release(&view(*stage).task, what, false).is_err(), "{stage} {what}: nothing waits");
        }
    }
    let said = |r: Result<(), Refused>| r.unwrap_err().to_string();
    assert_eq!(said(release(&waiting(Stage::Deploy, d), a, false)), "is in deploy, not in analysis");
    assert_eq!(
        said(release(&view(Stage::Deploy).task, d, false)),
        "is in deploy, but does not wait for confirm_deploy"
    );
}

#[test]
fn a_rejection_means_something_else_in_each_stage() {
    for stage in Stage::ALL {
        let want = match stage {
            Stage::Created => Err(Refused::NotBegun),
            Stage::Done | Stage::Cancelled => Err(Refused::Ended(*stage)),
            Stage::Analysis => Ok(Reject::Analyse),
            _ => Ok(Reject::SendBack),
        };
        let mut v = view(*stage);
        assert_eq!(reject(&v), want, "{stage}");
        for kind in JobKind::ALL {
            v.live_job = Some(job(*kind, JobStatus::Running));
            let deploys = matches!(kind, JobKind::Deploy | JobKind::DeployFinalizer | JobKind::PostDeployMonitor);
            assert_eq!(reject(&v) == Err(Refused::UnderWay), deploys, "{stage} beside {kind}");
            v.live_job = Some(job(*kind, JobStatus::Queued));
            assert_eq!(reject(&v), want, "{stage} before {kind}");
        }
        v.live_job = None;
        for task in [
            Task { critical: Some(Window::Update), ..v.task.clone() },
            Task { stop_requested_at: Some(1), ..v.task.clone() },
        ] {
            assert_eq!(reject(&TaskView { task, ..v.clone() }), Err(Refused::UnderWay), "{stage}");
        }
    }
}

#[test]
fn rule_16_a_stop_is_recorded_once_and_waits_for_an_open_window() {
    for stage in Stage::ALL {
        let task = view(*stage).task;
        let ended = stage.is_terminal();
        let want = if ended { Stop::Ended } else { Stop::Recorded { first: true, waits: None } };
        assert_eq!(stop(&task), want, "{stage}");
        let open = Task { critical: Some(Window::Update), stop_requested_at: Some(1), ..task };
        let want = if ended { Stop::Ended } else { Stop::Recorded { first: false, waits: Some(Window::Update) } };
        assert_eq!(stop(&open), want, "{stage}");
    }
}

fn refused(asked: Asked) -> Option<RefusedEffect> {
    let answer = "403".to_owned();
    Some(RefusedEffect { asked, answer, tries: 3, answered_ms: 0, last_at: 0, silent: false, next_at: 9 })
}

#[test]
fn ord_1_what_a_retry_lifts_and_what_follows() {
    let gone = Withdrawal::BranchGone { branch: "b".into() };
    let merged = Withdrawal::Merged { pull: Some(1), commit: None };
    let findings = vec![Finding { source: Origin::Ci, text: "red".into() }];
    let base = view(Stage::Review).task;
    let blocked = Task { blocked_reason: Some("x".into()), ..base.clone() };
    let held = Task { held_findings: Some(findings.clone()), ..blocked.clone() };
    let taken = |w: &Withdrawal| Task { withdrawn: Some(w.clone()), ..base.clone() };
    let no = Held::default();
    let lift = |restores, keeps_pull, ci, then| Ok(Retry::Lift(Lift { restores, keeps_pull, ci, then }));
    let roll = || Then::RollBack(findings.clone());
    type Case<'a> = (&'a str, Task, Held<'a>, bool, Result<Retry, Refused>);
    let cases: Vec<Case<'_>> = vec![
        ("nothing holds it", base.clone(), no, false, Ok(Retry::DueNow)),
        ("ci without a red one", held.clone(), no, true, Err(Refused::NoRedCi)),
        ("blocked", blocked.clone(), no, false, lift(false, true, false, Then::Repeat)),
        (
            "blocked, a push waits",
            blocked.clone(),
            Held { kept: true, ..no },
            false,
            lift(false, true, false, Then::Continue),
        ),
        ("a held rollback", held.clone(), no, false, lift(false, true, false, roll())),
        (
            "a held rollback, a push waits",
            held.clone(),
            Held { kept: true, ..no },
            false,
            lift(false, true, false, roll()),
        ),
        (
            "red CI, the same settings",
            held.clone(),
            Held { red: Some(false), ..no },
            false,
            lift(false, true, false, roll()),
        ),
        (
            "red CI, asked for",
            held.clone(),
            Held { red: Some(false), ..no },
            true,
            lift(false, true, true, Then::Repeat),
        ),
        (
            "red CI, other settings",
            held.clone(),
            Held { red: Some(true), ..no },
            false,
            lift(false, true, true, Then::Repeat),
        ),
        (
            "only refused",
            Task { refused: refused(Asked::Land), ..base.clone() },
            no,
            false,
            lift(false, true, false, Then::Continue),
        ),
        (
            "refused past its bound",
            Task { refused: refused(Asked::Land), ..blocked.clone() },
            no,
            false,
            lift(false, true, false, Then::Repeat),
        ),
        (
            "a stop that is refused",
            Task { refused: refused(Asked::Stop), ..blocked.clone() },
            no,
            false,
            lift(false, true, false, Then::Continue),
        ),
        (
            "the branch is gone",
            taken(&gone),
            Held { taken: Some(&gone), ..no },
            false,
            lift(true, false, false, Then::Repeat),
        ),
        (
            "merged by another hand",
            taken(&merged),
            Held { taken: Some(&merged), ..no },
            false,
            lift(true, true, false, Then::Repeat),
        ),
        (
            "taken back meanwhile by another",
            taken(&merged),
            Held { taken: Some(&gone), ..no },
            false,
            Ok(Retry::DueNow),
        ),
        ("taken back on the board", taken(&Withdrawal::ItemGone), no, false, Ok(Retry::DueNow)),
    ];
    for (name, task, held, ci, want) in cases {
        assert_eq!(retry(&task, &held, ci), want, "{name}");
    }
    for stage in [Stage::Done, Stage::Cancelled] {
        let task = Task { blocked_reason: Some("x".into()), ..view(stage).task };
        assert_eq!(retry(&task, &no, false), Err(Refused::Ended(stage)));
    }
}

#[test]
fn ord_1_a_stage_that_was_reached_starts_again_and_no_other() {
    let stages = [Stage::Analysis, Stage::Development, Stage::Review, Stage::Testing];
    for at in Stage::ALL {
        for from in Stage::ALL {
            let v = view(*at);
            let may = !at.is_terminal() && *at != Stage::Created && stages.contains(from) && from <= at;
            let got = retry_from(&v, *from, &stages);
            assert_eq!(got.is_ok(), may, "{from} of a task in {at}: {got:?}");
            let spends = matches!(got, Ok(Decision::Rollback { budget: Budget::Fresh, .. }));
            assert_eq!(spends, may && *from == Stage::Development);
        }
    }
    let v = view(Stage::Testing);
    let task = |t: Task| TaskView { task: t, ..v.clone() };
    let cases = [
        (task(Task { critical: Some(Window::Update), ..v.task.clone() }), Refused::UnderWay),
        (task(Task { stop_requested_at: Some(1), ..v.task.clone() }), Refused::UnderWay),
        (task(Task { withdrawn: Some(Withdrawal::ItemGone), ..v.task.clone() }), Refused::UnderWay),
        (TaskView { live_job: Some(job(JobKind::Agent, JobStatus::Running)), ..v.clone() }, Refused::AtWork),
        (TaskView { deploy: Some(deploy(DeployState::Settled, true)), ..v.clone() }, Refused::Landed),
    ];
    for (v, want) in cases {
        assert_eq!(retry_from(&v, Stage::Review, &stages), Err(want));
    }
    let blocked = Task { blocked_reason: Some("it is red".into()), ..v.task.clone() };
    let Ok(Decision::Return { why, .. }) = retry_from(&task(blocked), Stage::Review, &stages) else { panic!() };
    assert_eq!(why, "restarted by a person: it is red");
}

fn deploy(state: DeployState, landed: bool) -> Deploy {
    let settled = state == DeployState::Settled;
    Deploy {
        id: "1-1-7".into(),
        task_id: TaskId(1),
        repo: "orch".into(),
        attempt: 1,
        fence: 7,
        head: sha('a'),
        base: sha('b'),
        tree: "T".into(),
        state,
        actor: Actor { boot_id: "b".into(), pid: 1, start_ticks: 1 },
        landed_sha: landed.then(|| sha('e')),
        result: settled.then(|| DeployResult { end: DeployEnd::FailedUnknown, why: "?".into(), log: String::new() }),
        initiated_at: view(Stage::Deploy).now,
    }
}

#[test]
fn rule_18_a_deploy_is_made_again_under_a_new_id_and_never_under_a_recorded_stop() {
    let task = view(Stage::Deploy).task;
    let stopped = Task { stop_requested_at: Some(1), ..task.clone() };
    let next = Task { attempt: 2, ..task.clone() };
    for (state, landed) in [
        (DeployState::Initiated, false),
        (DeployState::Landed, true),
        (DeployState::Started, true),
        (DeployState::Settled, true),
        (DeployState::Settled, false),
        (DeployState::Withdrawn, false),
    ] {
        let all = [deploy(state, landed)];
        match (deploy_again(&task, &all), state, landed) {
            (DeployAgain::TakeUp(window), DeployState::Initiated | DeployState::Landed | DeployState::Started, _) => {
                assert_eq!(window, all[0].window());
            }
            (DeployAgain::New(new), DeployState::Settled, true) => {
                assert_eq!((new.id.as_str(), new.state, &new.result), ("1-1-7r1", DeployState::Initiated, &None));
                assert_eq!(new.landed_sha, all[0].landed_sha);
            }
            (DeployAgain::No, DeployState::Settled | DeployState::Withdrawn, false) => {}
            (got, ..) => panic!("{state} {landed}: {got:?}"),
        }
        assert_eq!(deploy_again(&stopped, &all), DeployAgain::No);
        assert_eq!(deploy_again(&next, &all), DeployAgain::No);
        assert_eq!(deploy_again(&view(Stage::Review).task, &all), DeployAgain::No);
    }
}

#[test]
fn what_an_agent_got_through_in_this_stay_stays_valid() {
    let mut rows = vec![row(Gate::ReviewVerdict.as_str(), EvidenceVerdict::Pass)];
    let epoch = rows[0].epoch;
    rows.push(Evidence { epoch: epoch - 1, ..row(Gate::TestsVerdict.as_str(), EvidenceVerdict::Pass) });
    rows.push(row(Gate::SecurityGate.as_str(), EvidenceVerdict::Pass));
    assert_eq!(stays_valid(&rows, epoch).iter().map(|e| e.subject.as_str()).collect::<Vec<_>>(), ["review_verdict"]);
    rows.push(row(Gate::ReviewVerdict.as_str(), EvidenceVerdict::Fail));
    assert!(stays_valid(&rows, epoch).is_empty(), "a later no takes it back");
}
