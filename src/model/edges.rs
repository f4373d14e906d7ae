//! Every move from one stage to another, forward and backward: the one table. [`Task::apply`](super::task::Task::apply)
//! refuses what is not in it, the exploration of `decide` walks along it, and `docs/state-machine.md` is generated from
//! it.

use super::stage::{Stage, words};

words! {
    /// Why a task leaves its stage, or begins it again.
    Edge {
        /// Its first job is claimed.
        Start = "start",
        /// That claim is given back: its branch could not be begun (RUN-3).
        GiveBack = "give back",
        /// Every gate on leaving passed.
        Advance = "advance",
        /// A gate or a person says no: one attempt is spent (PIPE-3).
        Rollback = "rollback",
        /// A verdict or an approval no longer holds for the head, or a person has a stage worked again: no attempt is
        /// spent (RULE-4).
        Return = "return",
        /// The stage begins again by a person's word: a retry, a rejected or resumed analysis.
        Repeat = "repeat",
        /// A stop is carried out (RUN-9).
        Cancel = "cancel",
    }
}

use Stage::{Analysis, Architecture, Cancelled, Created, Deploy, DeployStaging, Development, Done, Review, Testing};

/// Each edge with the stage that it leaves and those that it may lead to. The project's list of stages decides which of
/// several is next.
pub const EDGES: &[(Edge, Stage, &[Stage])] = &[
    (Edge::Start, Created, &[Analysis, Architecture, Development]),
    (Edge::GiveBack, Analysis, &[Created]),
    (Edge::GiveBack, Architecture, &[Created]),
    (Edge::GiveBack, Development, &[Created]),
    (Edge::Advance, Analysis, &[Architecture, Development]),
    (Edge::Advance, Architecture, &[Development]),
    (Edge::Advance, Development, &[Review, Testing, DeployStaging, Deploy]),
    (Edge::Advance, Review, &[Testing, DeployStaging, Deploy]),
    (Edge::Advance, Testing, &[DeployStaging, Deploy]),
    (Edge::Advance, DeployStaging, &[Deploy]),
    (Edge::Advance, Deploy, &[Done]),
    (Edge::Rollback, Analysis, &[Development]),
    (Edge::Rollback, Architecture, &[Development]),
    (Edge::Rollback, Development, &[Development]),
    (Edge::Rollback, Review, &[Development]),
    (Edge::Rollback, Testing, &[Development]),
    (Edge::Rollback, DeployStaging, &[Development]),
    (Edge::Rollback, Deploy, &[Development]),
    (Edge::Return, Analysis, &[Analysis]),
    (Edge::Return, Architecture, &[Analysis, Architecture]),
    (Edge::Return, Development, &[Analysis, Architecture]),
    (Edge::Return, Review, &[Analysis, Architecture, Review]),
    (Edge::Return, Testing, &[Analysis, Architecture, Review, Testing]),
    (Edge::Return, DeployStaging, &[Analysis, Architecture, Review, Testing, DeployStaging]),
    (Edge::Return, Deploy, &[Analysis, Architecture, Review, Testing, DeployStaging]),
    (Edge::Repeat, Created, &[Created]),
    (Edge::Repeat, Analysis, &[Analysis]),
    (Edge::Repeat, Architecture, &[Architecture]),
    (Edge::Repeat, Development, &[Development]),
    (Edge::Repeat, Review, &[Review]),
    (Edge::Repeat, Testing, &[Testing]),
    (Edge::Repeat, DeployStaging, &[DeployStaging]),
    (Edge::Repeat, Deploy, &[Deploy]),
    (Edge::Cancel, Created, &[Cancelled]),
    (Edge::Cancel, Analysis, &[Cancelled]),
    (Edge::Cancel, Architecture, &[Cancelled]),
    (Edge::Cancel, Development, &[Cancelled]),
    (Edge::Cancel, Review, &[Cancelled]),
    (Edge::Cancel, Testing, &[Cancelled]),
    (Edge::Cancel, DeployStaging, &[Cancelled]),
    (Edge::Cancel, Deploy, &[Cancelled]),
];

/// Whether the table has this edge.
pub fn leads(edge: Edge, from: Stage, to: Stage) -> bool {
    EDGES.iter().any(|(e, f, all)| *e == edge && *f == from && all.contains(&to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Which stages follow one another under every choice of a project's stages.
    fn following() -> BTreeSet<(Stage, Stage)> {
        let optional: Vec<Stage> = Stage::ALL.iter().copied().filter(|s| s.may_be_left_out()).collect();
        let mut pairs = BTreeSet::new();
        for choice in 0..1_u32 << optional.len() {
            let on = |n: usize| choice & (1 << n) != 0;
            let enabled: Vec<Stage> =
                optional.iter().enumerate().filter(|(n, _)| on(*n)).map(|(_, stage)| *stage).collect();
            pairs.extend(Stage::ALL.iter().filter_map(|s| Some((*s, s.next(&enabled)?))));
        }
        pairs
    }

    #[test]
    fn pipe_1_the_forward_edges_are_the_stage_tables_own() {
        let mut forward = BTreeSet::new();
        for (edge, from, all) in EDGES.iter().filter(|e| matches!(e.0, Edge::Start | Edge::Advance)) {
            assert_eq!(*edge == Edge::Start, *from == Stage::Created, "{edge} from {from}");
            forward.extend(all.iter().map(|to| (*from, *to)));
        }
        assert_eq!(forward, following());
    }

    #[test]
    fn backward_edges_lead_nowhere_new_and_no_edge_leaves_an_end() {
        let mut seen = BTreeSet::new();
        for (edge, from, all) in EDGES {
            assert!(!from.is_terminal() && seen.insert((*edge, *from)), "{edge} from {from}");
            for to in *all {
                let fits = match edge {
                    Edge::Start | Edge::Advance => from < to,
                    Edge::GiveBack => leads(Edge::Start, *to, *from),
                    Edge::Rollback => *to == Stage::Development && *from != Stage::Created,
                    Edge::Return => to <= from && to.agent().is_some() && *to != Stage::Development,
                    Edge::Repeat => to == from,
                    Edge::Cancel => *to == Stage::Cancelled,
                };
                assert!(fits, "{edge} from {from} to {to}");
            }
        }
        for stage in Stage::ALL.iter().filter(|s| !s.is_terminal()) {
            assert!(seen.contains(&(Edge::Cancel, *stage)) && seen.contains(&(Edge::Repeat, *stage)), "{stage}");
        }
    }
}
