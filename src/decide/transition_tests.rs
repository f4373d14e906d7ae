use super::*;
use crate::decide::gates::testing::{self, policy, row, sha, view};
use crate::model::deploy::{DeployEnd, DeployResult};
use crate::model::evidence::{Carry, EvidenceDetail, EvidenceVerdict};
use crate::model::finding::Origin;
use crate::model::inputs::Input;
use crate::model::stage::Agent;
use crate::model::task::{Actor, Deploy, DeployState, Job, Waiting};

fn failed(n: i64, spent: bool) -> Job {
    Job {
        id: crate::model::ids::JobId(n),
        task_id: crate::model::ids::TaskId(1),
        stage: Stage::Review,
        kind: JobKind::Agent,
        agent: Some(Agent::Reviewer),
        attempt: 1,
        epoch: 3,
        status: JobStatus::Failed,
        token: None,
        subject: None,
        available_at: 0,
        priority: 4,
        reason: Some("it wrote nothing".into()),
        spent,
        cause: None,
        again: 0,
    }
}

fn word(d: &Decision) -> String {
    match d {
        Decision::Hold { rule, .. } => format!("hold {rule}"),
        Decision::Enqueue(job) => format!("enqueue {}", job.agent.map_or(job.kind.as_str(), Agent::as_str)),
        Decision::Park { waiting, .. } => format!("park {waiting}"),
        Decision::Release { waiting, .. } => format!("release {waiting}"),
        Decision::Advance { to, .. } => format!("advance {to}"),
        Decision::Rollback { .. } => "rollback".into(),
        Decision::Return { to, .. } => format!("return {to}"),
        Decision::Block { freeze, .. } => if *freeze { "block+freeze" } else { "block" }.into(),
        Decision::Finish { .. } => "finish".into(),
        Decision::Procedure(e) => format!("effect {e}"),
    }
}

#[test]
fn a_review_and_what_follows() {
    type Case = (&'static str, Vec<(&'static str, EvidenceVerdict, i64)>, Vec<Job>, &'static str);
    let (pass, fail, missing) = (EvidenceVerdict::Pass, EvidenceVerdict::Fail, EvidenceVerdict::Missing);
    let cases: Vec<Case> = vec![
        ("nothing yet", vec![], vec![], "enqueue reviewer"),
        ("approved", vec![("review_verdict", pass, 3)], vec![], "advance testing"),
        ("changes", vec![("review_verdict", fail, 3)], vec![], "rollback"),
        ("an older stay's approval is stale", vec![("review_verdict", pass, 2)], vec![], "enqueue reviewer"),
        ("missing is no verdict", vec![("review_verdict", missing, 3)], vec![failed(1, true)], "enqueue reviewer"),
        ("retries are spent", vec![], vec![failed(1, true), failed(2, true), failed(3, true)], "block"),
        ("lost runs spend nothing", vec![], (1..=2).map(|n| failed(n, false)).collect(), "enqueue reviewer"),
        ("but not for ever", vec![], (1..=3).map(|n| failed(n, false)).collect(), "block"),
        (
            "the newest row counts",
            vec![("review_verdict", fail, 3), ("review_verdict", pass, 3)],
            vec![],
            "advance testing",
        ),
    ];
    for (name, rows, ended, want) in cases {
        let mut v = view(Stage::Review);
        v.ended = ended;
        v.evidence = rows
            .into_iter()
            .map(|(gate, verdict, epoch)| crate::model::task::Evidence { epoch, ..row(gate, verdict) })
            .collect();
        assert_eq!(word(&decide(&v, &policy())), want, "{name}");
    }
}

#[test]
fn an_analysis_waits_for_a_person_once_its_files_are_there() {
    let mut v = view(Stage::Analysis);
    v.evidence = vec![row("analysis_complete", EvidenceVerdict::Pass)];
    assert_eq!(word(&decide(&v, &policy())), "park approval");
    v.task.waiting_for = Some(Waiting::Approval);
    assert_eq!(word(&decide(&v, &policy())), "hold approval");
    v.auto = Some(Waiting::Approval);
    assert_eq!(word(&decide(&v, &policy())), "release approval");
    v.auto = Some(Waiting::ConfirmDeploy);
    assert_eq!(word(&decide(&v, &policy())), "hold approval");
    v.task.released = Some(Waiting::Approval);
    assert_eq!(word(&decide(&v, &policy())), "advance architecture");
}

#[test]
fn the_rework_budget_blocks_with_the_findings_held() {
    let mut v = view(Stage::Testing);
    v.evidence = vec![row("tests_verdict", EvidenceVerdict::Fail)];
    v.task.attempt = 4;
    v.evidence[0].attempt = 4;
    let Decision::Block { held: Some(findings), freeze: false, .. } = decide(&v, &policy()) else { panic!() };
    assert_eq!(findings[0].source, Origin::Gate(Gate::TestsVerdict));
    v.task.attempt_base = 4;
    assert_eq!(word(&decide(&v, &policy())), "rollback");
    // The same findings a third time in a row: nothing changes any more (RUN-7b).
    v.task.findings = findings;
    v.task.findings_same = 1;
    assert_eq!(word(&decide(&v, &policy())), "block");
}

/// RULE-4: what landed must have been judged, or be related to what was judged by our own update with equal patches or
/// by a later stage's own writing.
#[test]
fn rule_4_verdicts_hold_across_our_own_update_only_with_equal_patches() {
    let carry = |by: &str, equal: bool, from: &str, to: &str| {
        let mut e = row("carry", EvidenceVerdict::Pass);
        e.code_tree = to.into();
        e.detail = match Stage::parse(by) {
            None => {
                EvidenceDetail::Carry(Carry::Update { from: from.into(), from_sha: sha('c'), equal, left_out: false })
            }
            Some(stage) => EvidenceDetail::Carry(Carry::Agent { from: from.into(), stage, plain: false }),
        };
        e
    };
    let plain = |mut e: crate::model::task::Evidence| {
        if let EvidenceDetail::Carry(Carry::Agent { plain, .. }) = &mut e.detail {
            *plain = true;
        }
        e
    };
    let judged = |tree: &str| {
        ["review_verdict", "tests_verdict", "staging_status"].map(|g| {
            let mut e = row(g, EvidenceVerdict::Pass);
            e.code_tree = tree.into();
            e
        })
    };
    let cases = [
        (judged("T").to_vec(), vec![], "advance deploy"),
        (judged("OLD").to_vec(), vec![], "return review"),
        (judged("OLD").to_vec(), vec![carry("update", true, "OLD", "T")], "advance deploy"),
        (judged("OLD").to_vec(), vec![carry("update", false, "OLD", "T")], "return review"),
        // The tester added new tests that decide nothing else: what was judged before is still what lands.
        (judged("OLD").to_vec(), vec![plain(carry("testing", false, "OLD", "T"))], "advance deploy"),
        (judged("OLD").to_vec(), vec![carry("testing", true, "OLD", "T")], "return review"),
        (judged("OLD").to_vec(), vec![plain(carry("review", true, "OLD", "T"))], "return review"),
    ];
    for (rows, carries, want) in cases {
        let mut v = view(Stage::DeployStaging);
        let staged = row("staging_status", EvidenceVerdict::Pass);
        let mut merge = row("branch_mergeable", EvidenceVerdict::Pass);
        merge.detail = testing::under(7);
        let ci = row("ci_green", EvidenceVerdict::Pass);
        let name = format!("{:?} {:?}", rows[0].code_tree, carries.first().map(|c| c.detail.clone()));
        v.evidence = carries;
        v.evidence.extend(rows.into_iter().filter(|r| r.subject != Gate::StagingStatus || r.code_tree == "T"));
        v.evidence.extend([staged, merge, ci]);
        v.lease = Some(crate::model::task::Lease {
            repo: "orch".into(),
            fence: 7,
            task_id: Some(v.task.id),
            actor: None,
            acquired_at: None,
            renewed_at: None,
        });
        assert_eq!(word(&decide(&v, &policy())), want, "{name}");
    }
}

#[test]
fn a_stop_is_completed_at_once_unless_a_critical_window_is_open() {
    let mut v = view(Stage::Testing);
    v.task.stop_requested_at = Some(1);
    v.task.blocked_reason = Some("x".into());
    assert_eq!(word(&decide(&v, &policy())), "effect complete_stop");
    v.task.critical = Some(Window::Update);
    assert_eq!(word(&decide(&v, &policy())), "effect merge_gate");
}

/// The deploy of the first attempt.
fn deploy(v: &TaskView, state: DeployState, end: Option<DeployEnd>) -> Option<Deploy> {
    Some(Deploy {
        id: "1-1-7".into(),
        task_id: v.task.id,
        repo: "orch".into(),
        attempt: 1,
        fence: 7,
        head: sha('a'),
        base: sha('b'),
        tree: "T".into(),
        state,
        actor: Actor { boot_id: "b".into(), pid: 1, start_ticks: 1 },
        landed_sha: Some(sha('e')),
        result: end.map(|end| DeployResult { end, why: end.to_string(), log: String::new() }),
        initiated_at: v.now.clone(),
    })
}

/// The result of a deploy is still awaited when a person removes its work item meanwhile (TRUST-1).
#[test]
fn a_withdrawn_task_settles_its_open_window_first() {
    let mut v = view(Stage::Deploy);
    v.task.withdrawn = Some(crate::model::withdrawal::Withdrawal::ItemGone);
    assert_eq!(word(&decide(&v, &policy())), "hold withdrawn");
    v.task.critical = Some(Window::Deploy { id: "1-1-7".into() });
    v.deploy = deploy(&v, DeployState::Started, None);
    assert_eq!(word(&decide(&v, &policy())), "enqueue deploy-finalizer");
}

/// RULE-16: the result of an earlier attempt's deploy does not close the window of an update.
#[test]
fn rule_16_a_stop_waits_for_an_update_whatever_an_earlier_deploy_said() {
    let mut v = view(Stage::DeployStaging);
    v.task.stop_requested_at = Some(1);
    v.task.attempt = 2;
    v.task.critical = Some(Window::Update);
    assert_eq!(word(&decide(&v, &policy())), "effect merge_gate");
    v.deploy = deploy(&v, DeployState::Settled, Some(DeployEnd::FailedSafe));
    assert_eq!(word(&decide(&v, &policy())), "effect merge_gate");
}

/// BND-5: what decides the meaning of CI is listed first, and while there is any of it no label releases a deploy.
#[test]
fn a_label_does_not_release_a_deploy_whose_ci_may_mean_something_else() {
    let of = |detail: EvidenceDetail, tree: &str| {
        let mut e = row("verdict_inputs", EvidenceVerdict::Pass);
        (e.code_tree, e.detail) = (tree.into(), detail);
        e
    };
    let listed = |inputs: Vec<Input>, tree: &str| of(testing::listed(inputs), tree);
    let some = vec![Input { path: "Makefile".into(), why: "build definition".into() }];
    let none: Vec<Input> = vec![];
    let table = [
        (vec![], Some(Waiting::ConfirmDeploy), "effect verdict_inputs"),
        (vec![listed(none.clone(), "U")], Some(Waiting::ConfirmDeploy), "effect verdict_inputs"),
        (vec![of(EvidenceDetail::parse(r#"{"kind":"inputs","inputs":"odd"}"#), "T")], None, "effect verdict_inputs"),
        (vec![listed(some.clone(), "T")], Some(Waiting::ConfirmDeploy), "park confirm_deploy"),
        (vec![listed(some.clone(), "T")], None, "park confirm_deploy"),
        (vec![listed(none.clone(), "T")], Some(Waiting::ConfirmDeploy), "release confirm_deploy"),
        (
            vec![listed(some.clone(), "U"), listed(none.clone(), "T")],
            Some(Waiting::ConfirmDeploy),
            "release confirm_deploy",
        ),
    ];
    for (rows, auto, want) in table {
        let mut v = view(Stage::Deploy);
        v.evidence = rows;
        v.auto = auto;
        assert_eq!(word(&decide(&v, &policy())), want);
    }
    // What the operator set stays in force.
    let mut all = policy();
    all.projects.get_mut("ORCH").unwrap().confirm_deploy = false;
    let mut v = view(Stage::Deploy);
    v.evidence = vec![listed(some, "T")];
    assert_eq!(word(&decide(&v, &all)), "effect merge_gate");
}

/// A refused effect holds the task; when its time is reached that very effect is next, and a stop goes first (ORD-1).
#[test]
fn ord_1_a_refused_request_is_repeated_before_the_task_continues() {
    use crate::model::refusal::{Asked, RefusedEffect};
    let mut v = view(Stage::Development);
    let refused = |next_at| RefusedEffect {
        asked: Asked::OpenPull,
        answer: "403".to_owned(),
        tries: 1,
        answered_ms: 0,
        last_at: 0,
        silent: false,
        next_at,
    };
    let now = v.now.wall_ms;
    v.task.refused = Some(refused(now + 1));
    let held = decide(&v, &policy());
    assert!(
        matches!(&held, Decision::Hold { rule: Rule::ForgeRefused, until: Some(at), .. } if *at == now + 1),
        "{held:?}"
    );
    v.task.refused = Some(refused(now));
    assert_eq!(decide(&v, &policy()), Decision::Procedure(Procedure::OpenPull));
    v.task.pr = Some(crate::model::task::PullRef { number: 1, url: String::new() });
    assert_ne!(decide(&v, &policy()), Decision::Procedure(Procedure::OpenPull), "somebody opened it");
    v.task.refused = Some(refused(now + 1));
    v.task.stop_requested_at = Some(1);
    assert_eq!(decide(&v, &policy()), Decision::Procedure(Procedure::CompleteStop));
}

/// A stop that the forge refuses is retried with a pause, and past its bound holds the task with the answer (ORD-1).
#[test]
fn ord_1_a_stop_that_is_refused_has_the_bound_of_every_effect() {
    use crate::model::refusal::{Asked, RefusedEffect};
    let mut v = view(Stage::Development);
    let now = v.now.wall_ms;
    v.task.stop_requested_at = Some(1);
    v.task.blocked_reason = Some("something else, before the stop".to_owned());
    assert_eq!(decide(&v, &policy()), Decision::Procedure(Procedure::CompleteStop));
    let refused = |asked, next_at| RefusedEffect {
        asked,
        answer: "403".to_owned(),
        tries: 1,
        answered_ms: 0,
        last_at: 0,
        silent: false,
        next_at,
    };
    v.task.blocked_reason = None;
    v.task.refused = Some(refused(Asked::Stop, now + 1));
    let held = decide(&v, &policy());
    assert!(matches!(&held, Decision::Hold { rule: Rule::ForgeRefused, .. }), "{held:?}");
    v.task.refused = Some(refused(Asked::Stop, now));
    assert_eq!(decide(&v, &policy()), Decision::Procedure(Procedure::CompleteStop));
    v.task.blocked_reason = Some("refused 20 times".to_owned());
    let held = decide(&v, &policy());
    assert!(matches!(&held, Decision::Hold { rule: Rule::Blocked, .. }), "{held:?}");
}

/// BND-5: whoever runs the branch's code can be made to say yes; only a judge that runs nothing opens the gate with it.
#[test]
fn a_testers_yes_counts_only_with_a_review_of_the_same_code() {
    use crate::model::ids::RunId;
    let of = |gate: &str, verdict: EvidenceVerdict, tree: &str| {
        let mut e = row(gate, verdict);
        e.code_tree = tree.into();
        e
    };
    let (pass, fail) = (EvidenceVerdict::Pass, EvidenceVerdict::Fail);
    let table = [
        ("no review", vec![], pass, "return review"),
        ("a review of the code", vec![of("review_verdict", pass, "T")], pass, "advance deploy-staging"),
        ("of other code", vec![of("review_verdict", pass, "OLD")], pass, "return review"),
        ("a negative one", vec![of("review_verdict", fail, "T")], pass, "return review"),
        ("a no counts by itself", vec![], fail, "rollback"),
    ];
    for (name, rows, verdict, want) in table {
        for (stage, gate) in [(Stage::Testing, "tests_verdict"), (Stage::DeployStaging, "staging_status")] {
            let mut v = view(stage);
            v.evidence = rows.clone();
            v.evidence.push(of(gate, verdict, "T"));
            let got = word(&decide(&v, &policy()));
            if stage == Stage::Testing || want != "advance deploy-staging" {
                assert_eq!(got, want, "{name} {stage}");
            } else {
                assert_eq!(got, "effect merge_gate", "{name} {stage}");
            }
        }
    }
    // Without a reviewer in the project, none is required.
    let mut without = policy();
    without.projects.get_mut("ORCH").unwrap().stages.retain(|s| *s != Stage::Review);
    let mut v = view(Stage::Testing);
    v.evidence = vec![of("tests_verdict", pass, "T")];
    assert_eq!(word(&decide(&v, &without)), "advance deploy-staging");
    // A tester that changes reviewed code each time needs a person, and goes round again after a retry.
    let run = |n: i64, epoch: i64| {
        let mut e = of("tests_verdict", pass, "T");
        (e.run_id, e.epoch) = (Some(RunId(n)), epoch);
        e
    };
    v.evidence = vec![of("review_verdict", pass, "OLD"), run(1, 1), run(2, 2)];
    (v.task.epoch, v.evidence[2].epoch) = (2, 2);
    assert_eq!(word(&decide(&v, &policy())), "return review");
    v.task.epoch = 3;
    v.evidence.push(run(3, 3));
    assert_eq!(word(&decide(&v, &policy())), "block");
    v.task.epoch = 4;
    v.evidence.push(run(3, 4));
    assert_eq!(word(&decide(&v, &policy())), "return review");
}

/// BND-5: an approval is of contents.
#[test]
fn an_approval_of_documents_that_changed_since_sends_the_task_back_to_the_analysis() {
    let approved = |verdict| row("approved", verdict);
    let (given, stale) = (EvidenceVerdict::Pass, EvidenceVerdict::Missing);
    for (rows, want) in [
        (vec![approved(given)], "enqueue developer"),
        (vec![approved(given), approved(stale)], "return analysis"),
        (vec![approved(given), approved(stale), approved(given)], "enqueue developer"),
    ] {
        let mut v = view(Stage::Development);
        v.evidence = rows;
        assert_eq!(word(&decide(&v, &policy())), want);
    }
    // Where there is no analysis, nobody approved anything.
    let mut without = policy();
    without.projects.get_mut("ORCH").unwrap().stages.retain(|s| *s != Stage::Analysis);
    let mut v = view(Stage::Development);
    v.evidence = vec![approved(stale)];
    assert_eq!(word(&decide(&v, &without)), "enqueue developer");
}

/// What depends on the repository's own file waits until that file is valid; what has begun settles (ORD-3).
#[test]
fn a_faulty_repository_file_holds_the_merge_gate() {
    let mut policy = policy();
    let project = policy.projects.get_mut("ORCH").unwrap();
    project.confirm_deploy = false;
    let mut v = view(Stage::Deploy);
    let mut inputs = row("verdict_inputs", EvidenceVerdict::Pass);
    inputs.detail = testing::listed(vec![]);
    v.evidence = vec![inputs];
    assert_eq!(word(&decide(&v, &policy)), "effect merge_gate");
    policy.projects.get_mut("ORCH").unwrap().fault = Some(".orch.yaml: unknown field `deploy`".to_owned());
    let held = decide(&v, &policy);
    assert!(
        matches!(&held, Decision::Hold { rule: Rule::Configuration, why, .. } if why.contains("`deploy`")),
        "{held:?}"
    );
    v.deploy = deploy(&v, DeployState::Initiated, None);
    assert_eq!(word(&decide(&v, &policy)), "effect land");
}

#[test]
fn a_blocked_task_names_its_way_out_once() {
    let mut v = view(Stage::Review);
    for (why, want) in [
        ("the budget is spent", "the budget is spent; `orch retry ORCH-1` lifts the block"),
        ("gone; put it back, then `orch retry ORCH-1`", "gone; put it back, then `orch retry ORCH-1`"),
    ] {
        v.task.blocked_reason = Some(why.to_owned());
        let held = decide(&v, &policy());
        assert!(matches!(&held, Decision::Hold { rule: Rule::Blocked, why, .. } if why == want), "{held:?}");
    }
}
