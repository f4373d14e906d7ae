//! The decision core, explored exhaustively (TRUST-2): breadth first over every abstract state that steps, outcomes,
//! deaths of processes and people can lead to, with the product's own `decide`, `plan` and `reap`. Invariants are
//! checked on every edge. Finally, every state can reach an end, and without a person every task ends or rests where a
//! rule explains it.

#![allow(clippy::print_stdout, reason = "the number of states is a result")]

mod asking;
mod invariants;
mod runs;
mod steps;
mod world;

use crate::decide::gates::testing;
use crate::decide::{dispatch, transition};
use crate::model::decision::Decision;
use crate::model::policy::CiSource;
use crate::model::report::Rule;
use crate::model::stage::Stage;
use std::collections::HashMap;
use std::rc::Rc;
use steps::By;
use world::{Act, Outcomes, Setting, World};

/// A setting with one task in each of `repo`.
fn setting(repo: &[usize], stages: &[Stage]) -> Setting {
    let mut policy = testing::policy();
    policy.developer_retries = 1;
    policy.agents.values_mut().for_each(|a| a.run_retries = 0);
    let mut first = policy.projects["ORCH"].clone();
    first.stages = stages.to_vec();
    first.ci = CiSource::None;
    let other = crate::model::policy::ProjectPolicy { key: "OTHER".into(), repo: "other".into(), ..first.clone() };
    policy.projects = [("ORCH".to_owned(), first), ("OTHER".to_owned(), other)].into();
    Setting {
        policy,
        repo: repo.to_vec(),
        blocked_by: repo.iter().map(|_| vec![]).collect(),
        acts: vec![],
        outcomes: Outcomes::All,
        crashes: 1,
        people: 1,
    }
}

/// The tasks of the same repository that are not at their end.
fn others<'w>(w: &'w World, i: usize, s: &Setting) -> impl Iterator<Item = &'w world::T> {
    let of_repo: Vec<bool> = s.repo.iter().map(|r| *r == s.repo[i]).collect();
    let all = w.tasks.iter().enumerate();
    all.filter(move |(n, o)| *n != i && of_repo[*n] && !o.stage.is_terminal()).map(|(_, o)| o)
}

/// Why a task rests, if only a person or another task can move it on.
fn rests(w: &World, i: usize, s: &Setting) -> bool {
    let t = &w.tasks[i];
    if t.stage.is_terminal() {
        return !t.armed && t.job.is_none();
    }
    let rule = match t.job {
        Some(j) if j.run.is_some() => return false,
        Some(_) => {
            let plan = dispatch::plan(&w.queue(s), &s.policy, None, usize::MAX);
            let key = world::key(i).to_string();
            plan.held.iter().find(|h| h.task.as_deref() == Some(&key)).map(|h| h.rule)
        }
        None => match transition::decide(&w.view(i, s, false), &s.policy) {
            Decision::Hold { rule, .. } => Some(rule),
            _ => None,
        },
    };
    match rule {
        Some(Rule::Blocked | Rule::Approval | Rule::ConfirmDeploy) => !t.stop,
        Some(Rule::Withdrawn) => t.withdrawn,
        Some(Rule::Freeze) => w.frozen[s.repo[i]],
        Some(Rule::Halt) => w.halted,
        Some(Rule::MergeLease) => w.lease[s.repo[i]].is_some_and(|l| usize::from(l) != i),
        Some(Rule::Dependencies) => s.blocked_by[i].iter().any(|n| w.tasks[*n].stage != Stage::Done),
        Some(Rule::LandedNotDeployed) => others(w, i, s).any(|o| o.landed),
        Some(Rule::SerialGate) => others(w, i, s).any(|o| o.stage > Stage::Created || !o.withdrawn),
        _ => false,
    }
}

/// States, and for each the edges into it.
struct Graph {
    states: Vec<Rc<World>>,
    /// `(from, whether it needs nobody)`.
    into: Vec<Vec<(u32, bool)>>,
    came: Vec<(u32, String)>,
}

impl Graph {
    fn story(&self, at: usize) -> String {
        let mut steps = Vec::new();
        let mut n = at;
        while n != 0 {
            steps.push(self.came[n].1.clone());
            n = self.came[n].0 as usize;
        }
        steps.reverse();
        format!("{}\n{:?}", steps.join(" > "), self.states[at])
    }

    /// Which states can reach one of `goals`.
    fn reach(&self, goals: impl Fn(&World) -> bool, alone: bool) -> Vec<bool> {
        let mut can: Vec<bool> = self.states.iter().map(|w| goals(w)).collect();
        let mut open: Vec<usize> = (0..can.len()).filter(|n| can[*n]).collect();
        while let Some(n) = open.pop() {
            for (from, by_itself) in &self.into[n] {
                let from = *from as usize;
                if (*by_itself || !alone) && !can[from] {
                    can[from] = true;
                    open.push(from);
                }
            }
        }
        can
    }
}

/// Explores everything; panics with the path to the state where something does not hold.
fn explore(name: &str, s: &Setting) -> usize {
    let first = Rc::new(World::new(s));
    let mut known = HashMap::from([(first.clone(), 0_u32)]);
    let mut graph = Graph { states: vec![first], into: vec![vec![]], came: vec![(0, String::new())] };
    let mut at = 0;
    let mut edges = 0_usize;
    while at < graph.states.len() {
        let from = graph.states[at].clone();
        let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let all = steps::from(&from, s);
            all.iter().for_each(|e| invariants::edge(&from, &e.to, e.by == By::Person, s));
            all
        }));
        let Ok(all) = all else { panic!("{name}: after {}", graph.story(at)) };
        for edge in all {
            edges += 1;
            let to = Rc::new(edge.to);
            let next = u32::try_from(graph.states.len()).unwrap();
            let n = *known.entry(to.clone()).or_insert(next);
            if n == next {
                graph.states.push(to);
                graph.into.push(vec![]);
                graph.came.push((u32::try_from(at).unwrap(), edge.what));
            }
            // A death is no way to an end.
            if edge.by != By::Death {
                graph.into[n as usize].push((u32::try_from(at).unwrap(), edge.by == By::Itself));
            }
        }
        at += 1;
    }
    for (goal, can) in [
        ("an end", graph.reach(World::over, false)),
        ("an end or an explained rest", graph.reach(|w| (0..w.tasks.len()).all(|i| rests(w, i, s)), true)),
    ] {
        let stuck = can.iter().position(|c| !c);
        assert!(stuck.is_none(), "{name}: {goal} can't be reached from {}", stuck.map(|n| graph.story(n)).unwrap());
    }
    println!("{name}: {} states, {edges} edges", graph.states.len());
    graph.states.len()
}

const ALL: [Act; 6] = [Act::Stop, Act::Halt, Act::Freeze, Act::Withdraw, Act::Push, Act::Reject];

/// Whether to explore more than every test run needs (`ORCH_EXPLORE_DEEP=1`, minutes).
fn deep() -> bool {
    std::env::var_os("ORCH_EXPLORE_DEEP").is_some()
}

#[test]
fn one_task_through_every_stage() {
    let stages = [Stage::Analysis, Stage::Architecture, Stage::Review, Stage::Testing, Stage::DeployStaging];
    let mut s = setting(&[0], &stages);
    s.policy.developer_retries = i64::from(deep());
    s.outcomes = Outcomes::Verdicts;
    s.acts = if deep() { ALL.to_vec() } else { vec![Act::Stop, Act::Push, Act::Reject] };
    explore("one task, every stage", &s);
}

#[test]
fn one_task_and_whatever_fails_or_dies() {
    let mut s = setting(&[0], &[]);
    s.acts = if deep() { ALL.to_vec() } else { vec![Act::Stop] };
    s.policy.developer_retries = i64::from(deep());
    explore("one task, every outcome and death", &s);
}

#[test]
fn one_task_and_two_acts_of_people_out_of_turn() {
    let mut s = setting(&[0], &[]);
    s.acts = ALL.to_vec();
    s.policy.developer_retries = i64::from(deep());
    s.people = 2;
    s.crashes = u8::from(deep());
    if !deep() {
        s.outcomes = Outcomes::Verdicts;
    }
    explore("one task, two acts of people", &s);
}

#[test]
fn one_task_with_ci_scan_review_and_a_watch() {
    let mut s = setting(&[0], &[Stage::Review]);
    s.policy.projects.values_mut().for_each(|p| {
        p.ci = CiSource::Command;
        p.security = true;
        p.watch = true;
    });
    s.policy.developer_retries = 0;
    s.acts = vec![Act::Stop];
    if !deep() {
        s.outcomes = Outcomes::Verdicts;
    }
    explore("one task, CI, scan, review, watch", &s);
}

#[test]
fn two_tasks_of_one_serial_repository() {
    let mut s = setting(&[0, 0], &[]);
    s.policy.projects.values_mut().for_each(|p| p.serial = true);
    s.policy.max_concurrency = 2;
    s.outcomes = Outcomes::Well;
    s.acts = if deep() { ALL.to_vec() } else { vec![Act::Withdraw] };
    s.crashes = u8::from(deep());
    explore("two tasks, one serial repository", &s);
}

#[test]
fn two_tasks_that_want_one_merge_lease() {
    let mut s = setting(&[0, 0], &[]);
    s.policy.max_concurrency = if deep() { 2 } else { 1 };
    s.policy.developer_retries = 0;
    s.outcomes = Outcomes::Well;
    s.crashes = u8::from(deep());
    s.people = u8::from(deep());
    s.acts = vec![Act::Stop];
    explore("two tasks, one merge lease", &s);
}

#[test]
fn three_tasks_of_two_repositories_that_wait_for_each_other() {
    let mut s = setting(&[0, 1, 0], &[]);
    s.policy.projects.values_mut().for_each(|p| p.serial = true);
    // The first of its repository waits for the other one's, and that for the last; else (deep) two want the one agent.
    s.blocked_by = if deep() { vec![vec![1], vec![], vec![]] } else { vec![vec![1], vec![2], vec![]] };
    s.outcomes = Outcomes::Well;
    s.crashes = u8::from(deep());
    s.people = u8::from(deep());
    s.acts = vec![Act::Stop];
    explore("three tasks, two repositories, dependencies", &s);
}

#[test]
fn findings_that_come_back_unchanged() {
    let mut s = setting(&[0], &[Stage::Review]);
    s.policy.developer_retries = 4;
    s.outcomes = Outcomes::Verdicts;
    s.crashes = 0;
    s.people = 0;
    explore("one task, the same findings again", &s);
}
