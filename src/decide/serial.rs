//! The order of first jobs: dependencies, and one task in work per serial repository (RUN-3, RULE-27).

use crate::model::ids::Key;
use crate::model::policy::Policy;
use crate::model::report::Rule;
use crate::model::view::{Blocker, Place, QueueView};
use std::collections::{BTreeMap, BTreeSet};

/// What holds a task's first job, if anything does.
pub fn first_job_held(place: &Place, view: &QueueView, policy: &Policy) -> Option<(Rule, String)> {
    if let Some(why) = dependencies(place, view, policy) {
        return Some((Rule::Dependencies, why));
    }
    let serial = |p: &Place| policy.project(&p.project).is_some_and(|r| r.serial);
    if !serial(place) {
        return None;
    }
    let of_repo =
        || view.places.values().filter(|p| p.repo == place.repo && p.id != place.id && !p.stage.is_terminal());
    if let Some(other) = of_repo().find(|p| p.started && serial(p)) {
        return Some((Rule::SerialGate, format!("{} is in {} and finishes first", other.key, place.repo)));
    }
    let earlier = of_repo().find(|p| {
        p.id < place.id
            && !p.started
            && !p.withdrawn
            && !p.stop_requested
            && serial(p)
            && dependencies(p, view, policy).is_none()
    });
    earlier.map(|p| (Rule::SerialGate, format!("{} came first in {}", p.key, place.repo)))
}

/// Why a task's dependencies are not met; a cycle is named.
fn dependencies(place: &Place, view: &QueueView, policy: &Policy) -> Option<String> {
    if !policy.dependencies {
        return None;
    }
    if let Some(cycle) = cycle_through(place, view) {
        let names: Vec<&str> = cycle.iter().map(Key::as_str).collect();
        return Some(format!("its dependencies form a cycle: {}", names.join(" -> ")));
    }
    place.blocked_by.iter().find_map(|key| match view.blockers.get(key).copied().unwrap_or(Blocker::Unknown) {
        Blocker::Met => None,
        Blocker::Open => Some(format!("blocked by {key}, which is not done")),
        Blocker::Cancelled => {
            Some(format!("blocked by {key}, which was cancelled: remove the relation, or start {key} again"))
        }
        Blocker::Unknown => Some(format!("blocked by {key}, which is unknown")),
    })
}

/// The shortest way from a task along its open blockers back to itself.
fn cycle_through(place: &Place, view: &QueueView) -> Option<Vec<Key>> {
    let by_key: BTreeMap<&Key, &Place> = view.places.values().map(|p| (&p.key, p)).collect();
    let mut ways: Vec<Vec<&Key>> = vec![vec![&place.key]];
    let mut seen: BTreeSet<&Key> = BTreeSet::new();
    let mut at = 0;
    while let Some(way) = ways.get(at).cloned() {
        at += 1;
        let Some(last) = way.last().and_then(|k| by_key.get(*k)) else { continue };
        for next in &last.blocked_by {
            if view.blockers.get(next) == Some(&Blocker::Met) {
                continue;
            }
            if *next == place.key {
                return Some(way.iter().map(|k| (*k).clone()).chain([next.clone()]).collect());
            }
            if seen.insert(next) {
                let mut longer = way.clone();
                longer.push(next);
                ways.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::policy;
    use crate::model::ids::TaskId;
    use crate::model::stage::Stage;
    use crate::model::time::Stamp;
    use proptest::prelude::*;

    fn place(id: i64, repo: &str, blocked_by: &[i64]) -> Place {
        Place {
            id: TaskId(id),
            key: key(id),
            project: repo.to_uppercase(),
            repo: repo.into(),
            stage: Stage::Created,
            started: false,
            blocked_by: blocked_by.iter().map(|n| key(*n)).collect(),
            withdrawn: false,
            stop_requested: false,
            blocked: false,
            on_red_base: false,
        }
    }

    fn key(n: i64) -> Key {
        Key::parse(&format!("T-{n}")).unwrap()
    }

    fn world(places: Vec<Place>) -> QueueView {
        let mut blockers = BTreeMap::new();
        for p in &places {
            blockers.insert(p.key.clone(), Blocker::Open);
        }
        QueueView {
            board: Default::default(),
            queued: vec![],
            running: vec![],
            places: places.into_iter().map(|p| (p.id, p)).collect(),
            blockers,
            freezes: vec![],
            freezes_unreadable: false,
            halted: None,
            cooldowns: vec![],
            day_micros: 0,
            task_micros: BTreeMap::new(),
            most_expensive: BTreeMap::new(),
            free_mb: None,
            confinement: vec![],
            bases: BTreeMap::new(),
            unseen: BTreeMap::new(),
            now: Stamp { wall_ms: 0, mono_ms: 0, boot_id: "b".into() },
        }
    }

    fn rules() -> Policy {
        let mut p = policy();
        for repo in ["A", "B"] {
            let mut one = p.projects["ORCH"].clone();
            one.serial = true;
            one.key = repo.into();
            p.projects.insert(repo.into(), one);
        }
        p
    }

    #[test]
    fn a_batch_goes_one_by_one_and_a_cycle_is_named() {
        let p = rules();
        let w = world(vec![place(1, "a", &[]), place(2, "a", &[]), place(3, "a", &[4]), place(4, "a", &[3])]);
        assert_eq!(first_job_held(&w.places[&TaskId(1)], &w, &p), None);
        assert_eq!(first_job_held(&w.places[&TaskId(2)], &w, &p).unwrap().0, Rule::SerialGate);
        let (rule, why) = first_job_held(&w.places[&TaskId(3)], &w, &p).unwrap();
        assert_eq!(rule, Rule::Dependencies);
        assert!(why.contains("T-3 -> T-4 -> T-3"), "{why}");
    }

    #[test]
    fn rule_27_a_blocker_later_in_the_line_goes_first() {
        let p = rules();
        let w = world(vec![place(1, "a", &[2]), place(2, "a", &[])]);
        assert_eq!(first_job_held(&w.places[&TaskId(1)], &w, &p).unwrap().0, Rule::Dependencies);
        assert_eq!(first_job_held(&w.places[&TaskId(2)], &w, &p), None);
    }

    proptest! {
        /// RULE-27: an acyclic world of tasks in two repositories always drains, one started per repository.
        #[test]
        fn rule_27_acyclic_worlds_never_stall(repos in proptest::collection::vec(any::<bool>(), 1..6), edges in proptest::collection::vec((0usize..6, 0usize..6), 0..10), order in Just(()).prop_perturb(|(), mut r| { let mut v: Vec<usize> = (0..6).collect(); for i in (1..6).rev() { v.swap(i, (r.random::<u32>() as usize) % (i + 1)); } v })) {
            let n = repos.len();
            let mut places: Vec<Place> = repos.iter().enumerate().map(|(i, b)| place(i as i64 + 1, if *b { "a" } else { "b" }, &[])).collect();
            // Along a random order, so that no cycle can arise; blockers may be later in the line.
            for (x, y) in edges {
                if x < n && y < n && order[x] < order[y] {
                    places[x].blocked_by.push(key(y as i64 + 1));
                }
            }
            let p = rules();
            let mut w = world(places);
            for _ in 0..=n {
                let free: Vec<TaskId> = w.places.values().filter(|t| !t.started && t.stage == Stage::Created).filter(|t| first_job_held(t, &w, &p).is_none()).map(|t| t.id).collect();
                let mut taken: BTreeSet<String> = BTreeSet::new();
                for id in &free {
                    prop_assert!(taken.insert(w.places[id].repo.clone()), "two in one repository");
                }
                for id in free {
                    let t = w.places.get_mut(&id).unwrap();
                    t.started = true;
                    t.stage = Stage::Done;
                    let k = t.key.clone();
                    w.blockers.insert(k, Blocker::Met);
                }
            }
            prop_assert!(w.places.values().all(|t| t.stage == Stage::Done), "stalled");
        }
    }
}
