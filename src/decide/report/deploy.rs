//! Phase B of a deploy (SHIP-5): open the critical window, then merge, or find that it is merged. Only "not merged and
//! base unchanged" is retried.

use super::{Now, consequences, unsettled};
use crate::decide::awaits as wait;
use crate::decide::landing::{Landing, judge};
use crate::decide::merge::{self, AfterMerge, BeforeMerge, OfDeploy, OfOpening};
use crate::decide::merge_queue::{self, Step};
use crate::decide::transition::decide;
use crate::model::card::AlertKind;
use crate::model::change::Change;
use crate::model::decision::{Decision, Procedure};
use crate::model::deploy::Deployment;
use crate::model::effect::{
    AfterLeaving, BaseSettings, Depth, Effect, Inspected, Merge, Merging, Opening, Purpose, Ready, Survey, Surveyed,
};
use crate::model::event::Event;
use crate::model::evidence::{EvidenceDetail, EvidenceVerdict, NewEvidence};
use crate::model::gate::Gate;
use crate::model::ids::Sha;
use crate::model::landing::{Awaited, Awaits, MergeAnswer, Seen};
use crate::model::plan::{Entry, Message, NewDeploy, Plan, Then};
use crate::model::report::{ActionKind, Rule};
use crate::model::rules::Queue;
use crate::model::task::{Deploy, DeployState, Task};
use crate::model::text::clip;
use crate::model::window::Window;
use serde_json::json;

/// What a survey says of the landing.
fn landing(survey: &Survey, found: &Surveyed) -> Landing {
    let Surveyed { line, pull, branch, .. } = found.clone();
    judge(&Seen { line, pull, branch, released: survey.released })
}

/// A row about the head that rests on nothing else.
fn row(task: &Task, gate: Gate, verdict: EvidenceVerdict, why: &str) -> Option<Entry> {
    let row = NewEvidence {
        subject: gate.into(),
        run_id: None,
        sha: task.head_sha.clone()?,
        code_tree: task.head_tree.clone().unwrap_or_default(),
        verdict,
        why: why.to_owned(),
        detail: EvidenceDetail::Plain,
    };
    Some(Entry::Evidence { row, status: false })
}

/// The merge gate's answer is void: it judges the head again.
fn void_gate(task: &Task, why: &str) -> Vec<Entry> {
    let row = row(task, Gate::BranchMergeable, EvidenceVerdict::Missing, why);
    row.map_or_else(Vec::new, |row| vec![row, Entry::Touch])
}

/// A survey for a deploy.
fn look(now: &Now<'_>, purpose: Purpose) -> Plan {
    match super::survey(now.view, now.policy, Depth::Full) {
        Some(survey) => Plan::perform(Effect::Survey { purpose, survey }),
        None => Plan { entries: Vec::new(), then: Then::Fail { why: "the task has no branch".to_owned() } },
    }
}

/// The repository is ready: whether everything still holds is looked up (RULE-4, RULE-16, RULE-24).
pub fn begin_opening(now: &Now<'_>) -> Plan {
    look(now, Purpose::Opening)
}

/// What the survey means for a deploy that is about to open.
pub fn opening(now: &Now<'_>, survey: &Survey, found: &Surveyed) -> Plan {
    let landing = landing(survey, found);
    let default_branch = found.default_branch.clone();
    let opening = |base: Sha| Opening { head: survey.head.clone(), base, default_branch };
    match merge::of_opening(&landing, &survey.base, &found.tip, false) {
        OfOpening::Go { base } => inspect(now, opening(base)),
        // The head may contain what moved.
        OfOpening::VoidGate => Plan::perform(Effect::LookForTip { opening: opening(found.tip.clone()) }),
        OfOpening::TakeHeadUp => match found.remote_head.clone() {
            // As at the merge gate: the answer may be older than the recorded head.
            Some(_) if now.moved => Plan::nothing(),
            Some(remote) => Plan::perform(Effect::ReadHead { branch: survey.branch.clone(), remote, gate: None }),
            None => Plan::nothing(),
        },
        OfOpening::NotYet { why } => unsettled(&why),
        OfOpening::Stopped => Plan::record(consequences(now.task(), &landing)),
    }
}

/// The default branch moved; `contained`: the head has what moved.
pub fn tip_seen(now: &Now<'_>, opening: &Opening, contained: bool) -> Plan {
    let tip = &opening.base;
    match merge::of_opening(&Landing::BaseMoved, tip, tip, contained) {
        OfOpening::Go { base } => inspect(now, Opening { base, ..opening.clone() }),
        OfOpening::VoidGate | OfOpening::TakeHeadUp | OfOpening::NotYet { .. } | OfOpening::Stopped => {
            Plan::record(void_gate(now.task(), &format!("{} moved to {}", opening.default_branch, tip.short())))
        }
    }
}

fn inspect(now: &Now<'_>, opening: Opening) -> Plan {
    Plan::perform(Effect::Inspect { opening, build: now.project.deploy_build })
}

/// INITIATED counts if the row **or** the file has it (RULE-34). One that the database does not know, since it was
/// restored from an older copy, stops the task: nobody knows what was merged or started.
pub fn inspected(now: &Now<'_>, opening: &Opening, found: &Inspected) -> Plan {
    let task = now.task();
    if found.deploys.iter().any(|d| d.state.is_open() && d.attempt >= task.attempt) {
        return Plan::nothing();
    }
    if let Some(id) = merge::stray(found.names.iter().map(String::as_str), &found.deploys) {
        let why = format!("deploy {id} is recorded as initiated in {}, but is not in the database", found.folder);
        return Plan::record(vec![Entry::Block { why, freeze: true }]);
    }
    let ours = format!("baseline-{}.json", task.attempt);
    let tree = found.tree.as_ref().map(ToString::to_string).or_else(|| task.head_tree.clone());
    Plan::perform(Effect::Clear {
        opening: opening.clone(),
        names: found.names.iter().filter(|n| merge::is_left_over(n, &ours)).cloned().collect(),
        // The merge is the deploy: otherwise its own job probes.
        baseline: now.project.watch && !now.project.deploy_command && !found.build_gone,
        ready: Ready { tree: tree.unwrap_or_default(), deploys: found.deploys.len(), build_gone: found.build_gone },
    })
}

/// Opens the critical window if everything still holds: decided again in the transaction that opens it.
pub fn cleared(now: &Now<'_>, opening: &Opening, ready: &Ready) -> Plan {
    let task = now.task();
    if now.moved {
        return Plan::nothing();
    }
    if ready.build_gone {
        // It is built again before the window opens, since nothing from the branch may run in it (BND-3).
        let why = "the output of deploy.build is missing from the state directory";
        let gone = row(task, Gate::DeployBuild, EvidenceVerdict::ToolError, why);
        return Plan::record(gone.into_iter().chain([Entry::Touch]).collect());
    }
    if decide(now.view, now.policy) != Decision::Procedure(Procedure::OpenDeploy) {
        return Plan::nothing();
    }
    let Some(fence) = now.view.lease.as_ref().map(|l| l.fence) else { return Plan::nothing() };
    let (head, base, tree) = (opening.head.clone(), opening.base.clone(), ready.tree.clone());
    let deploy = merge::deploy_id(task, fence, ready.deploys);
    let merging = Merging { deploy: deploy.clone(), head, base, tree, fence, settings: None };
    let (head, base, tree) = (&merging.head, &merging.base, &merging.tree);
    let new = NewDeploy { id: deploy.clone(), fence, head: head.clone(), base: base.clone(), tree: tree.clone() };
    let entries = vec![
        Entry::InsertDeploy(new),
        Entry::Change(Change::OpenWindow(Window::Deploy { id: deploy.clone() })),
        Entry::Event {
            name: Event::DeployInitiated,
            detail: json!({"deploy": deploy, "head": head, "base": base, "tree": tree}),
        },
        Entry::Show,
        Entry::Did { kind: ActionKind::DeployInitiated, detail: json!({"deploy": deploy, "head": head}) },
    ];
    Plan::perform(Effect::WriteInitiated { merging, merges: false }).after(entries)
}

/// The deploy that this process may continue; `None`: there is none, or another process has it.
fn initiated<'a>(now: &Now<'a>) -> Option<&'a Deploy> {
    now.view.deploy.as_ref().filter(|d| d.state == DeployState::Initiated && !now.view.deploy_held)
}

fn take(deploy: &Deploy) -> Vec<Entry> {
    vec![Entry::TakeDeploy { id: deploy.id.clone(), from: deploy.actor.clone() }]
}

/// Lands the initiated deploy, or finds that it has landed.
pub fn begin_landing(now: &Now<'_>, settings: Option<BaseSettings>) -> Plan {
    let Some(deploy) = initiated(now) else { return Plan::nothing() };
    let merging = Merging::of(deploy, settings);
    Plan::perform(Effect::WriteInitiated { merging, merges: true }).after(take(deploy))
}

/// Its file is there.
pub fn written(now: &Now<'_>, merging: &Merging, merges: bool) -> Plan {
    if merges { look(now, Purpose::Merge(merging.clone())) } else { Plan::nothing() }
}

/// A task whose merge waits for a person at the forge gives its merge lease back.
pub fn begin_park(now: &Now<'_>, why: &str) -> Plan {
    let Some(deploy) = initiated(now) else { return Plan::nothing() };
    let (merging, why) = (Merging::of(deploy, None), why.to_owned());
    look(now, Purpose::Park { merging, why }).after(take(deploy))
}

/// Nothing was merged, so the deploy is withdrawn (RULE-18), while release and wait stay.
pub fn parked(now: &Now<'_>, merging: &Merging, why: &str, survey: &Survey, found: &Surveyed) -> Plan {
    if landing(survey, found) != Landing::NotYet {
        return Plan::nothing();
    }
    let wait = now.view.awaits.clone().map(|wait| Entry::Awaits(Awaits { lease_free: true, ..wait }));
    withdraw(now, merging, why, AfterLeaving::Withdraw, false).after(wait.into_iter().collect())
}

/// The survey before the merge.
pub fn before_merge(now: &Now<'_>, merging: &Merging, survey: &Survey, found: &Surveyed) -> Plan {
    seen(now, merging, survey, found).unwrap_or_else(|| ask(now, merging, survey, &found.default_branch))
}

/// Takes the right to merge: the last moment at which something else can take precedence.
fn ask(now: &Now<'_>, merging: &Merging, survey: &Survey, default_branch: &str) -> Plan {
    let task = now.task();
    let before = BeforeMerge {
        stop_requested: task.stop_requested_at.is_some(),
        halted: now.view.halted.is_some(),
        frozen: now.view.freeze.is_some(),
        leased: now.leased(merging.fence),
        faulty_settings: now.project.fault.is_some(),
    };
    if let Some(why) = merge::withheld(&before) {
        return withdraw(now, merging, why, AfterLeaving::Withdraw, false);
    }
    if now.project.remote_forge && task.pr.is_none() {
        return back_to_gate(now, merging, "it has no pull request");
    }
    let intent = json!({"head": merging.head, "base": merging.base});
    let intend = Entry::Intend { key: merge_key(task, merging), kind: "pr_merged", intent };
    let tested = &merging.head;
    let merge = Merge {
        number: task.pr.as_ref().map_or(0, |p| p.number),
        default_branch: default_branch.to_owned(),
        message: format!("{}: {}\n\nMerged by orch as tested at {tested}.", task.key, clip(&task.title, 120)),
    };
    let survey = survey.clone();
    let merging = merging.clone();
    // A forge may have a merge queue in the place of a merge (GH-1).
    let effect = if now.project.remote_forge {
        Effect::LookAtQueue { merging, merge, survey }
    } else {
        Effect::Merge { merging, merge, survey }
    };
    Plan::perform(effect).after(vec![intend])
}

/// What a look at the merge queue means; `None`: there is none, and the pull request is merged.
pub fn queue_seen(
    now: &Now<'_>,
    merging: &Merging,
    merge: &Merge,
    survey: &Survey,
    queue: Option<&Queue>,
    contains: bool,
) -> Plan {
    let (number, survey) = (merge.number, survey.clone());
    let Some(queue) = queue else {
        return Plan::perform(Effect::Merge { merging: merging.clone(), merge: merge.clone(), survey });
    };
    match merge_queue::step(queue, was_queued(now, merging, 1), &merging.tree, contains) {
        // Recorded before it enters: whatever withdraws the deploy from now on takes it out first.
        Step::Enter => {
            let said = "it enters the merge queue";
            let wait =
                Awaits { asked: 0, until: 0, ..wait::next(None, &merging.deploy, (Awaited::Queued, said), 0, 0) };
            let enter = Effect::EnterQueue { merging: merging.clone(), number };
            Plan::perform(enter).after(vec![Entry::Awaits(wait)])
        }
        Step::Wait { said } => awaits(now, merging, Awaited::Queued, said),
        Step::Busy { said } => awaits(now, merging, Awaited::MergeQueue, said),
        Step::BackToGate { why } => back_to_gate(now, merging, &why),
        Step::ThrownOut { why } => {
            let entries = merge_queue::thrown_out(now.task(), merging, &why, now.project.posts_statuses);
            // It is out already.
            withdrawn(now.task(), merging, &why, entries, false)
        }
        Step::NotYet { why } => not_yet(now, merging, &why),
    }
}

/// Whether the pull request may be in the merge queue; with `looks` 1: it was seen there.
fn was_queued(now: &Now<'_>, merging: &Merging, looks: i64) -> bool {
    let wait = now.view.awaits.as_ref().filter(|w| w.deploy == merging.deploy);
    wait.is_some_and(|w| w.what == Awaited::Queued && w.asked >= looks)
}

/// What followed when it was to enter the queue.
pub fn entered_queue(now: &Now<'_>, merging: &Merging, instead: Option<MergeAnswer>) -> Plan {
    match instead {
        None => awaits(now, merging, Awaited::Queued, "it is in the merge queue".to_owned()),
        Some(answer) => answered(now, merging, answer),
    }
}

/// It is out of the queue, so that nothing can land any more; or it has landed, and git shows it.
pub fn left_queue(
    now: &Now<'_>,
    merging: &Merging,
    number: i64,
    out: bool,
    (why, and, fails): (&str, &AfterLeaving, bool),
) -> Plan {
    if out && *and == AfterLeaving::Survey {
        let left = (Awaited::MergeQueue, "it left the merge queue");
        let wait = Awaits { asked: 0, until: 0, ..wait::next(None, &merging.deploy, left, 0, 0) };
        return look(now, Purpose::Merge(merging.clone())).after(vec![Entry::Awaits(wait)]);
    }
    if out {
        return withdrawn(now.task(), merging, why, after_leaving(now.task(), why, and), fails);
    }
    let why = format!("the merge queue merged pull request {number} meanwhile; the next step checks git first");
    Plan { entries: Vec::new(), then: Then::Fail { why } }
}

fn merge_key(task: &Task, merging: &Merging) -> String {
    format!("t{}/{}/merge", task.id, merging.deploy)
}

/// The forge answered, and this is how it is now. What is seen decides; the answer only where nothing has happened.
pub fn merged(now: &Now<'_>, merging: &Merging, survey: &Survey, answer: MergeAnswer, after: &Surveyed) -> Plan {
    seen(now, merging, survey, after).unwrap_or_else(|| answered(now, merging, answer))
}

/// What was seen of an initiated deploy; `None`: nothing has happened yet and nothing prevents the merge.
fn seen(now: &Now<'_>, merging: &Merging, survey: &Survey, found: &Surveyed) -> Option<Plan> {
    let (task, landing) = (now.task(), landing(survey, found));
    Some(match merge::of_deploy(&landing) {
        OfDeploy::Clear => return None,
        OfDeploy::Landed { commit } => Plan::record(landed(now, merging, &commit)),
        OfDeploy::NotYet { why } => not_yet(now, merging, &why),
        OfDeploy::BackToGate { why } => back_to_gate(now, merging, &why),
        OfDeploy::Stopped { why } if was_queued(now, merging, 0) => {
            withdraw(now, merging, &why, AfterLeaving::Survey, false)
        }
        OfDeploy::Stopped { why } => withdrawn(task, merging, &why, consequences(task, &landing), false),
    })
}

/// What follows from an answer.
fn answered(now: &Now<'_>, merging: &Merging, answer: MergeAnswer) -> Plan {
    match merge::after_answer(answer) {
        AfterMerge::NotYet { why } => not_yet(now, merging, &why),
        AfterMerge::BackToGate { why } => back_to_gate(now, merging, &why),
        AfterMerge::Await { what, said } => awaits(now, merging, what, said),
        AfterMerge::GiveUp { withdrawn, blocked } => {
            withdraw(now, merging, &withdrawn, AfterLeaving::Block { why: blocked }, false)
        }
        AfterMerge::Unknown => Plan { entries: Vec::new(), then: Then::Fault },
        AfterMerge::AskAgain { why } => withdraw(now, merging, &why, AfterLeaving::Withdraw, true),
    }
}

/// A wait for a person has no bound and is reported once. A wait for checks has the bound of every gate (RULE-8).
fn awaits(now: &Now<'_>, merging: &Merging, what: Awaited, said: String) -> Plan {
    let (task, before) = (now.task(), now.view.awaits.as_ref());
    let wait = wait::next(before, &merging.deploy, (what, &said), now.view.now.wall_ms, task.id.0);
    let mut entries = vec![Entry::Awaits(wait.clone())];
    if before.is_none_or(|b| b.what != what || b.said != said) {
        let detail = json!({"deploy": merging.deploy, "what": what, "said": said});
        entries.extend([Entry::Event { name: Event::ForgeAwaits, detail }, Entry::Card]);
    }
    if !what.by_person() {
        let past = format!("the forge does not merge: {said}, for longer than gates.undecided_max_s");
        let block = AfterLeaving::Block { why: past.clone() };
        let past = withdraw(now, merging, &past, block, false);
        return bounded(merging, entries, past);
    }
    if before.is_none_or(|b| b.what != what) {
        let kind = Awaited::ALL.iter().position(|w| *w == what).and_then(|n| i64::try_from(n).ok()).unwrap_or(0);
        let number = task.epoch * i64::try_from(Awaited::ALL.len()).unwrap_or(1) + kind;
        let (kind, detail) = (AlertKind::ForgeWaits, wait::why(&wait));
        entries.push(Entry::Message(Message::Alert { kind, number, detail }));
    }
    Plan::record(entries)
}

/// The forge is still computing: looked at again for as long as a gate may be undecided.
fn not_yet(now: &Now<'_>, merging: &Merging, reason: &str) -> Plan {
    let why = format!("the forge is not ready to merge: {reason}");
    let block = AfterLeaving::Block { why: format!("{why}, for longer than gates.undecided_max_s") };
    let past = withdraw(now, merging, &why, block, false);
    bounded(merging, vec![Entry::Hold { rule: Rule::DeployResult, why }], past)
}

fn bounded(merging: &Merging, meanwhile: Vec<Entry>, past: Plan) -> Plan {
    let what = format!("merge/{}", merging.deploy);
    Plan { entries: Vec::new(), then: Then::NotYet { what, meanwhile, past: Box::new(past) } }
}

fn back_to_gate(now: &Now<'_>, merging: &Merging, why: &str) -> Plan {
    withdraw(now, merging, why, AfterLeaving::VoidGate, false)
}

/// Takes an initiated deploy back before anything was merged or started (RULE-18). A merge queue could still land it, so
/// it leaves that first. `fails`: the step then fails with what the forge said.
fn withdraw(now: &Now<'_>, merging: &Merging, why: &str, and: AfterLeaving, fails: bool) -> Plan {
    let number = now.task().pr.as_ref().map(|pr| pr.number).filter(|_| was_queued(now, merging, 0));
    match number {
        Some(number) => {
            let (merging, why) = (merging.clone(), why.to_owned());
            Plan::perform(Effect::LeaveQueue { merging, number, why, and, fails })
        }
        None => withdrawn(now.task(), merging, why, after_leaving(now.task(), why, &and), fails),
    }
}

/// What is recorded with a withdrawal.
fn after_leaving(task: &Task, why: &str, and: &AfterLeaving) -> Vec<Entry> {
    match and {
        AfterLeaving::Withdraw | AfterLeaving::Survey => Vec::new(),
        AfterLeaving::VoidGate => void_gate(task, why),
        AfterLeaving::Block { why } => vec![Entry::Block { why: why.clone(), freeze: false }],
    }
}

fn withdrawn(task: &Task, merging: &Merging, why: &str, and: Vec<Entry>, fails: bool) -> Plan {
    let deploy = merging.deploy.clone();
    let (from, to) = (DeployState::Initiated, DeployState::Withdrawn);
    let mut entries = vec![
        Entry::MoveDeploy { id: deploy.clone(), from, to, landed: None },
        Entry::Change(Change::CloseWindow),
        Entry::Outcome { key: merge_key(task, merging), outcome: json!({"withdrawn": why}) },
        Entry::Event { name: Event::DeployWithdrawn, detail: json!({"deploy": deploy, "why": why}) },
    ];
    entries.extend(and);
    Plan::perform(Effect::RemoveInitiated { deploy, fails }).after(entries)
}

/// Its file is gone.
pub fn removed(fails: bool) -> Plan {
    Plan { entries: Vec::new(), then: if fails { Then::Fault } else { Then::Done } }
}

fn landed(now: &Now<'_>, merging: &Merging, commit: &Sha) -> Vec<Entry> {
    let task = now.task();
    let how = "the default branch has the tested tree";
    let (id, from, to) = (merging.deploy.clone(), DeployState::Initiated, DeployState::Landed);
    let mut entries = vec![
        Entry::MoveDeploy { id, from, to, landed: Some(commit.clone()) },
        Entry::Change(Change::Landed { commit: commit.clone() }),
        Entry::Outcome { key: merge_key(task, merging), outcome: json!({"landed": commit}) },
    ];
    // The forge may have left it open (SHIP-5).
    if let Some(pr) = task.pr.as_ref().filter(|p| !p.url.is_empty()) {
        let (key, intent) = (super::pull::tidy_key(task, pr.number), json!({"number": pr.number}));
        entries.push(Entry::Intend { key, kind: super::pull::TIDY, intent });
    }
    if now.project.reports_deploys {
        let (deploy, sha, state) = (merging.deploy.clone(), commit.clone(), Deployment::InProgress);
        entries.push(Entry::Deployment { deploy, sha, state, why: "merged, and being deployed".to_owned() });
    }
    if let Some(settings) = merging.settings.clone().filter(|s| passed(now, s)) {
        entries.push(Entry::BasePassed { settings, tree: merging.tree.clone() });
    }
    let detail = json!({"deploy": merging.deploy, "landed": commit, "how": how});
    entries.extend([Entry::Event { name: Event::PrMerged, detail }, Entry::Card]);
    entries.push(Entry::Did { kind: ActionKind::PrMerged, detail: json!({"landed": commit, "how": how}) });
    entries
}

/// Nothing is tested twice (ORD-1): the default branch has the tree on which CI passed under these settings.
fn passed(now: &Now<'_>, settings: &BaseSettings) -> bool {
    let tree = now.task().head_tree.as_ref();
    let mut rows = now.view.evidence.iter().rev();
    let ci = rows.find(|e| e.subject == Gate::CiGreen && Some(&e.code_tree) == tree);
    ci.is_some_and(|e| {
        e.verdict == EvidenceVerdict::Pass
            && e.detail.of_code().is_some_and(|c| c.ground.as_ref() == Some(&settings.digest))
    })
}
