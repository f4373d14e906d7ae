use super::gate::mover;
use super::*;
use crate::decide::gates::testing::{policy, sha, task, view};
use crate::model::change::Change;
use crate::model::effect::{BranchUpdate, GateWork, HeadSeen, OpenUpdate, Purpose, Site, Surveyed, Updated};
use crate::model::landing::{Base, BranchSeen, Line, PullSeen};
use crate::model::stage::Stage;
use crate::model::task::{Actor, Lease, PullRef};
use crate::model::time::Stamp;
use crate::model::window::Window;

pub const FENCE: i64 = 7;

fn lease(holder: Option<i64>) -> Lease {
    let now = Stamp { wall_ms: 0, mono_ms: 0, boot_id: "b".into() };
    Lease {
        repo: "orch".into(),
        fence: FENCE,
        task_id: holder.map(crate::model::ids::TaskId),
        actor: Some(Actor { boot_id: "b".into(), pid: 1, start_ticks: 1 }),
        acquired_at: Some(now.clone()),
        renewed_at: Some(now),
    }
}

pub fn held() -> TaskView {
    TaskView { lease: Some(lease(Some(1))), ..view(Stage::Deploy) }
}

pub fn stopped(mut v: TaskView) -> TaskView {
    v.task.stop_requested_at = Some(1);
    v
}

fn windowed(mut v: TaskView) -> TaskView {
    v.task.critical = Some(Window::Update);
    v
}

fn site(updates: Vec<OpenUpdate>) -> Site {
    Site { fence: FENCE, default_branch: "main".into(), tip: sha('d'), updates }
}

fn update() -> BranchUpdate {
    let mode = crate::model::sides::Update::Rebase;
    let (key, branch) = (task(1, Stage::Deploy).key, "feature/ORCH-1".to_owned());
    BranchUpdate { key, branch, old: sha('a'), tip: sha('d'), mode, leaves_out: false }
}

fn made() -> Effect {
    Effect::MakeUpdate { site: site(Vec::new()), update: update() }
}

fn looks() -> Effect {
    let survey = survey(&held(), &policy(), Depth::Full).unwrap();
    Effect::Survey { purpose: Purpose::Gate(GateWork { fence: FENCE }), survey }
}

/// As the branch is found where nothing of it has landed and the default branch has moved.
pub fn found() -> Surveyed {
    Surveyed {
        default_branch: "main".into(),
        tip: sha('d'),
        remote_head: Some(sha('a')),
        line: Line { base: sha('b'), tip: sha('d'), base_kept: Base::Kept, tested: None, ours: None },
        pull: PullSeen::None,
        branch: BranchSeen::AtHead,
        updates: Vec::new(),
    }
}

fn updated() -> Updated {
    Updated {
        old: sha('a'),
        new: sha('e'),
        base: sha('d'),
        from: sha('1'),
        to: sha('2'),
        same_patches: true,
        has_merge: false,
        new_paths: false,
        left_out: false,
    }
}

fn of(v: &TaskView, effect: &Effect, answer: Report) -> Plan {
    report(v, &policy(), effect, answer, false)
}

fn surveyed(v: &TaskView, found: Surveyed) -> Plan {
    of(v, &looks(), Report::Surveyed(Box::new(found)))
}

/// A plan in a few words: what it writes, and what follows.
pub fn in_words(plan: &Plan) -> String {
    let mut words: Vec<&str> = plan.entries.iter().map(entry_word).collect();
    words.push(then_word(&plan.then));
    words.join(" ")
}

fn entry_word(e: &Entry) -> &str {
    match e {
        Entry::Change(Change::Head { .. }) => "head",
        Entry::Change(Change::CloseWindow) => "close",
        Entry::Change(Change::OpenWindow(_)) => "open",
        Entry::Change(Change::Pull(_)) => "pull",
        Entry::Change(_) => "change",
        Entry::Touch => "touch",
        Entry::TakeLease { .. } => "lease",
        Entry::Evidence { row, .. } => row.verdict.as_str(),
        Entry::StatusesAgain => "again",
        Entry::Intend { .. } => "intend",
        Entry::Outcome { .. } => "outcome",
        Entry::Event { name, .. } => name.as_str(),
        Entry::Deployment { .. } => "deployment",
        Entry::Block { freeze: true, .. } => "block and freeze",
        Entry::Block { .. } => "block",
        Entry::Freeze { .. } => "freeze",
        Entry::Withdrawn(_) => "withdrawn",
        Entry::FreeLease => "free",
        Entry::CancelJobs { .. } => "jobs",
        Entry::CancelRuns { .. } => "runs",
        Entry::Tombstone => "tombstone",
        Entry::Message(_) => "message",
        Entry::Show => "show",
        Entry::Card => "card",
        Entry::InsertDeploy(_) => "deploy",
        Entry::TakeDeploy { .. } => "take",
        Entry::MoveDeploy { to, .. } => to.as_str(),
        Entry::Awaits(_) => "awaits",
        Entry::BasePassed { .. } => "base passed",
        Entry::Did { .. } => "did",
        Entry::Hold { .. } => "hold",
    }
}

fn then_word(then: &Then) -> &'static str {
    match then {
        Then::Done => "done",
        Then::Perform(Effect::WriteLeaseFile { .. }) => "lease file",
        Then::Perform(Effect::Survey { .. }) => "survey",
        Then::Perform(Effect::ReadHead { .. }) => "read",
        Then::Perform(Effect::OpenPull { .. }) => "open pull",
        Then::Perform(Effect::MakeUpdate { .. }) => "make",
        Then::Perform(Effect::PushUpdate { .. }) => "push",
        Then::Perform(Effect::LookForTip { .. }) => "look for tip",
        Then::Perform(Effect::Inspect { .. }) => "inspect",
        Then::Perform(Effect::Clear { .. }) => "clear",
        Then::Perform(Effect::WriteInitiated { .. }) => "initiated",
        Then::Perform(Effect::Merge { .. }) => "merge",
        Then::Perform(Effect::LookAtQueue { .. }) => "look at queue",
        Then::Perform(Effect::EnterQueue { .. }) => "enter",
        Then::Perform(Effect::LeaveQueue { .. }) => "leave",
        Then::Perform(Effect::RemoveInitiated { fails: false, .. }) => "remove",
        Then::Perform(Effect::RemoveInitiated { fails: true, .. }) => "remove and fail",
        Then::Perform(Effect::ListInputs { .. }) => "list",
        Then::Perform(Effect::EndProcesses) => "end",
        Then::Perform(Effect::ForgetEnvironments) => "forget",
        Then::Perform(Effect::Archive { .. }) => "archive",
        Then::Perform(Effect::ClosePull { .. }) => "close pull",
        Then::Perform(Effect::LookAtLeft { .. }) => "look",
        Then::Perform(Effect::LookAtBranch { .. }) => "look at branch",
        Then::Perform(Effect::DeleteBranch { .. }) => "delete",
        Then::Perform(Effect::RemoveArea { .. }) => "remove area",
        Then::Perform(Effect::ReleaseLeaseFile) => "lease file",
        Then::Perform(Effect::LookForPull { .. }) => "look for pull",
        Then::Perform(Effect::Prepare { .. } | Effect::Park { .. }) => "begin",
        Then::Fault => "fault",
        Then::Refuse { .. } => "refuse",
        Then::Fail { .. } => "fail",
        Then::NotYet { .. } => "not yet",
    }
}

#[test]
fn the_merge_gate_begins_with_the_lease_and_waits_for_another_holder() {
    let ready = Effect::Prepare { procedure: Procedure::MergeGate };
    let begun = |v: &TaskView, moved| {
        report(v, &policy(), &ready, Report::Ready { revision: 1, file_fence: 9, settings: None }, moved)
    };
    let free = TaskView { lease: Some(lease(None)), ..view(Stage::Deploy) };
    let words_of = |v: &TaskView, moved| in_words(&begun(v, moved));
    assert_eq!(words_of(&free, false), "lease lease_acquired did lease file");
    assert_eq!(words_of(&held(), false), "lease lease file", "it is renewed");
    assert_eq!(words_of(&free, true), "done", "somebody was first");
    assert_eq!(words_of(&stopped(free.clone()), false), "done");
    assert_eq!(words_of(&windowed(stopped(held())), false), "lease lease file", "an open window is settled first");
    assert_eq!(words_of(&TaskView { lease: Some(lease(Some(2))), ..free.clone() }, false), "done");
    let fence = |v: &TaskView| match &begun(v, false).entries[0] {
        Entry::TakeLease { fence, .. } => *fence,
        other => panic!("{other:?}"),
    };
    // RULE-34: a new holder's fence is above that of the row and that of the file.
    assert_eq!((fence(&free), fence(&held()), fence(&view(Stage::Deploy))), (10, FENCE, 10));
    let done = of(&held(), &Effect::WriteLeaseFile { work: GateWork { fence: FENCE } }, Report::Done);
    assert_eq!(in_words(&done), "survey");
}

#[test]
fn rule_5_the_gate_passes_waits_stops_or_brings_the_branch_up() {
    let line = |tested: Option<char>, ours: Option<char>| Line {
        tested: tested.map(sha),
        ours: ours.map(sha),
        ..found().line
    };
    let merged = PullSeen::Merged { number: 3, commit: None };
    let still = Line { tip: sha('b'), ..found().line };
    let cases = [
        (found(), "make", "nothing has landed"),
        (Surveyed { remote_head: Some(sha('e')), branch: BranchSeen::Elsewhere, ..found() }, "read", "a push"),
        (
            Surveyed { remote_head: None, branch: BranchSeen::Gone { branch: "x".into() }, ..found() },
            "withdrawn done",
            "the branch is gone",
        ),
        (Surveyed { line: line(None, Some('e')), ..found() }, "withdrawn done", "merged, and nobody released it"),
        (Surveyed { line: still.clone(), pull: merged.clone(), ..found() }, "not yet", "not shown yet"),
        (
            Surveyed { line: Line { base_kept: Base::Gone, ..found().line }, ..found() },
            "block done",
            "the history was rewritten",
        ),
        (Surveyed { pull: PullSeen::Closed { number: 3 }, ..found() }, "withdrawn done", "closed"),
    ];
    let pushed = Surveyed { remote_head: Some(sha('e')), branch: BranchSeen::Elsewhere, ..found() };
    let late = report(&held(), &policy(), &looks(), Report::Surveyed(Box::new(pushed)), true);
    assert_eq!(in_words(&late), "done", "the answer may be older than the head that another process recorded");
    for (found, want, what) in cases {
        assert_eq!(in_words(&surveyed(&held(), found)), want, "{what}");
    }
    // Once it is released, what landed passes if it is what was tested, and freezes if not.
    let purpose = Purpose::Gate(GateWork { fence: FENCE });
    let released = Survey { released: true, ..survey(&held(), &policy(), Depth::Full).unwrap() };
    let released = Effect::Survey { purpose, survey: released };
    let landed = |line| in_words(&of(&held(), &released, Report::Surveyed(Box::new(Surveyed { line, ..found() }))));
    assert_eq!(landed(line(Some('e'), None)), "pass gate touch done");
    assert_eq!(landed(line(None, Some('e'))), "block and freeze done");
}

#[test]
fn rule_16_an_update_whose_process_is_gone_closes_its_window_and_a_stop_continues() {
    let open = |held| Surveyed { updates: vec![OpenUpdate { key: "k".into(), held }], ..found() };
    assert_eq!(in_words(&surveyed(&windowed(held()), open(true))), "done", "another process may still push");
    assert_eq!(in_words(&surveyed(&windowed(held()), open(false))), "close make", "the same update is repeated");
    assert_eq!(in_words(&surveyed(&windowed(stopped(held())), open(false))), "close outcome done");
    let closed = Surveyed { pull: PullSeen::Closed { number: 3 }, ..open(false) };
    assert_eq!(in_words(&surveyed(&windowed(held()), closed.clone())), "close withdrawn done");
    assert_eq!(in_words(&surveyed(&windowed(stopped(held())), closed)), "close outcome done");
}

#[test]
fn rule_16_a_window_opens_only_while_nothing_came_between() {
    let new = || Report::Made { new: sha('e') };
    assert_eq!(in_words(&of(&held(), &made(), new())), "open intend push");
    assert_eq!(in_words(&report(&held(), &policy(), &made(), new(), true)), "done");
    assert_eq!(in_words(&of(&stopped(held()), &made(), new())), "done");
    let lost = TaskView { lease: Some(Lease { fence: FENCE + 1, ..lease(Some(1)) }), ..held() };
    assert_eq!(in_words(&of(&lost, &made(), new())), "done");
    assert_eq!(in_words(&of(&held(), &made(), Report::UpToDate)), "pass gate touch done");
    assert_eq!(in_words(&of(&lost, &made(), Report::UpToDate)), "done", "the lease was lost");
    assert_eq!(in_words(&of(&held(), &made(), Report::Conflict { paths: vec!["a".into()] })), "fail gate touch done");
}

#[test]
fn rule_7_a_pushed_update_is_adopted_once_and_a_refused_one_closes_its_window() {
    let push = Effect::PushUpdate { key: "k".into(), update: update(), new: sha('e') };
    let open = windowed(held());
    let adopted = "close head pass outcome branch_rebased pass touch did done";
    assert_eq!(in_words(&of(&open, &push, Report::Updated(updated()))), adopted);
    let mut known = open.clone();
    known.task.head_sha = Some(sha('e'));
    assert_eq!(in_words(&of(&known, &push, Report::Updated(updated()))), "done");
    let no = |moved| Report::NotPushed { reason: "hook".into(), moved };
    assert_eq!(in_words(&of(&open, &push, no(true))), "close outcome done", "the branch moved: looked at again");
    assert_eq!(in_words(&of(&open, &push, no(false))), "close outcome refuse");
    assert_eq!(in_words(&of(&open, &push, Report::Unrelated)), "refuse");
    // Another holder's lease says nothing about this head.
    let lost = TaskView { lease: Some(lease(Some(2))), ..open };
    assert_eq!(
        in_words(&of(&lost, &push, Report::Updated(updated()))),
        "close head pass outcome branch_rebased touch did done"
    );
}

#[test]
fn rule_4_a_foreign_head_is_taken_up_and_the_gate_continues_with_it() {
    let read = |gate| Effect::ReadHead { branch: "x".into(), remote: sha('e'), gate };
    let foreign = || Report::Head(HeadSeen::Other { tree: sha('2'), pushed: Vec::new(), stale: None });
    assert_eq!(
        in_words(&of(&windowed(held()), &read(Some(site(Vec::new()))), foreign())),
        "close head head_moved make"
    );
    assert_eq!(in_words(&of(&held(), &read(None), foreign())), "close head head_moved done");
    assert_eq!(in_words(&report(&held(), &policy(), &read(None), foreign(), true)), "done");
    let ours = || Report::Head(HeadSeen::Ours { key: "k".into(), updated: updated() });
    let adopted = "close head pass outcome branch_rebased pass touch did make";
    assert_eq!(in_words(&of(&windowed(held()), &read(Some(site(Vec::new()))), ours())), adopted);
    assert_eq!(in_words(&of(&held(), &read(None), Report::Head(HeadSeen::Unrelated))), "refuse");
}

#[test]
fn ship_5_the_gate_opens_a_missing_pull_request_before_the_update() {
    let mut remote = policy();
    remote.projects.get_mut("ORCH").unwrap().remote_forge = true;
    let plan = report(&held(), &remote, &looks(), Report::Surveyed(Box::new(found())), false);
    assert_eq!(in_words(&plan), "intend open pull");
    let Then::Perform(open) = plan.then else { panic!("{plan:?}") };
    let made = Report::Pull(PullRef { number: 3, url: "u".into() });
    assert_eq!(in_words(&report(&held(), &remote, &open, made, false)), "outcome pr_opened did pull change make");
    // On its own, for a pull request that the forge refused before (ORD-1).
    let ready = Effect::Prepare { procedure: Procedure::OpenPull };
    let begun = |policy: &Policy| {
        in_words(&report(&held(), policy, &ready, Report::Ready { revision: 1, file_fence: 0, settings: None }, false))
    };
    assert_eq!((begun(&remote), begun(&policy())), ("intend open pull".to_owned(), "done".to_owned()));
}

#[test]
fn a_head_was_moved_by_orch_only_where_it_pushed_that_commit_after_the_one_it_knows() {
    let (a, b, c) = (sha('a'), sha('b'), sha('c'));
    let pushed = [a.clone(), b.clone()];
    for (known, to, by) in [
        (Some(&a), &b, "orch"),
        (None, &a, "orch"),
        (Some(&c), &b, "orch"),
        (Some(&b), &a, "a person"),
        (Some(&b), &b, "a person"),
        (Some(&b), &c, "a person"),
        (None, &c, "a person"),
    ] {
        assert_eq!(mover(&pushed, known, to), by, "{known:?} to {to}");
    }
    assert_eq!(mover(&[], None, &a), "a person");
}

#[test]
fn rule_8_a_source_that_says_not_yet_holds_and_past_the_bound_a_person_decides() {
    let after = |ms| {
        let Then::NotYet { meanwhile, past, .. } = unsettled("pull request 3 reads merged").then else { panic!() };
        in_words(&not_yet(&policy(), ms, meanwhile, *past))
    };
    let bound = policy().undecided_max_ms;
    assert_eq!((after(bound), after(bound + 1)), ("hold done".to_owned(), "block done".to_owned()));
}

#[test]
fn a_report_of_another_effect_records_nothing() {
    let plan = of(&held(), &made(), Report::Done);
    assert_eq!(in_words(&plan), "fail");
    assert_eq!(in_words(&of(&held(), &looks(), Report::UpToDate)), "fail");
}

/// CLI-2: a dry run follows the gate to its end by the same plans, with the reports that are expected.
#[test]
fn cli_2_what_is_expected_of_each_effect_leads_to_the_gates_pass() {
    let v = held();
    let mut plan = begin(Procedure::MergeGate);
    let mut effects = Vec::new();
    while let Then::Perform(effect) = plan.then {
        let expected = effect.expected(&v).unwrap();
        plan = report(&v, &policy(), &effect, expected, false);
        effects.push(in_words(&plan));
    }
    assert_eq!(effects, ["lease lease file", "survey", "make", "pass gate touch done"]);
}
