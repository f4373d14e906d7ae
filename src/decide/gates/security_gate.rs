//! `security_gate` (SHIP-1): no secret in the range, no new vulnerable dependency.

use super::Facts;
use crate::model::decision::Answer;
use crate::model::gate::Gate;
use crate::model::stage::JobKind;

/// A trusted scan of this very head, or of the one from which `orch`'s own update made it (RULE-1). Equal code is not
/// enough, since an artefact or a commit of the range may contain the secret. A scanner that failed gives no verdict:
/// it runs again, then the task is blocked; it never passes.
pub fn gate(f: &Facts<'_>) -> Answer {
    if !f.project.security {
        return Answer::Pass {
            why: "not applicable: the security gate is off, or the repository is out of its scope".to_owned(),
        };
    }
    // A row whose file was changed counts until a person retries, which begins a new stay (RULE-47).
    let counts = |e: &&crate::model::task::Evidence| !e.tampered || e.epoch == f.view.task.epoch;
    let of_head = f.view.evidence.iter().rev().find(|e| e.subject == Gate::SecurityGate && f.of_head(e));
    let held = of_head.filter(counts);
    f.by_job(Gate::SecurityGate, JobKind::Scan, held)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::model::decision::Need;
    use crate::model::evidence::EvidenceDetail;
    use crate::model::evidence::EvidenceVerdict;
    use crate::model::stage::Stage;

    #[test]
    fn rule_1_a_scan_counts_for_exactly_its_head_and_what_an_equal_update_made_of_it() {
        let mut project = testing::project();
        project.security = true;
        let policy = testing::policy();
        let mut view = testing::view(Stage::Testing);
        let pass = testing::row("security_gate", EvidenceVerdict::Pass);
        view.evidence = vec![pass.clone()];
        let ask = |view: &crate::model::view::TaskView| gate(&Facts { view, policy: &policy, project: &project });
        assert!(matches!(ask(&view), Answer::Pass { .. }));
        // The same code at another commit: an artefact was added.
        view.task.head_sha = Some(testing::sha('c'));
        assert!(matches!(ask(&view), Answer::Undecided { need: Need::Job(_), .. }));
        for (equal, passes) in [(true, true), (false, false)] {
            let mut carry = testing::row("carry", EvidenceVerdict::Pass);
            carry.sha = testing::sha('c');
            carry.detail = testing::updated("T", 'a', equal);
            view.evidence = vec![pass.clone(), carry];
            assert_eq!(matches!(ask(&view), Answer::Pass { .. }), passes);
        }
        // A FAIL of the discarded history does not condemn the single commit of the rework with the same tree.
        let mut fail = testing::row("security_gate", EvidenceVerdict::Fail);
        fail.detail = EvidenceDetail::code(vec![], true);
        view.evidence = vec![fail];
        assert!(matches!(ask(&view), Answer::Undecided { need: Need::Job(_), .. }));
    }

    #[test]
    fn rule_47_a_row_whose_file_was_changed_holds_until_a_retry_and_never_passes() {
        let mut project = testing::project();
        project.security = true;
        let policy = testing::policy();
        let mut view = testing::view(Stage::Testing);
        let older = testing::row("security_gate", EvidenceVerdict::Pass);
        let mut row = testing::row("security_gate", EvidenceVerdict::Missing);
        (row.tampered, row.why) = (true, "17 is gone".to_owned());
        view.evidence = vec![older, row];
        let ask = |view: &crate::model::view::TaskView| gate(&Facts { view, policy: &policy, project: &project });
        assert!(matches!(ask(&view), Answer::Stuck { why, .. } if why.contains("17 is gone") && why.contains("retry")));
        view.task.epoch += 1;
        assert!(matches!(ask(&view), Answer::Undecided { need: Need::Job(_), .. }));
    }
}
