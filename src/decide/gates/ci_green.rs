//! `ci_green`: the project's CI passes on exactly this code.

use super::Facts;
use crate::model::decision::Answer;
use crate::model::evidence::{EvidenceDetail, EvidenceVerdict};
use crate::model::gate::Gate;
use crate::model::policy::CiSource;
use crate::model::stage::JobKind;
use crate::model::view::TaskView;

/// Whether CI is red again in a stay in which a person had it rerun: what follows has its own budget (ORD-1).
pub fn asked_again(view: &TaskView) -> bool {
    let mut rows = view.evidence.iter().rev();
    let mut of_stay = rows.by_ref().filter(|e| e.subject == Gate::CiGreen && e.epoch == view.task.epoch);
    let red = of_stay.next().is_some_and(|e| e.verdict == EvidenceVerdict::Fail);
    red && of_stay.any(|e| e.verdict == EvidenceVerdict::Missing && e.detail == EvidenceDetail::Again)
}

/// A run of `ci.command`, or the roll-up of the commit's statuses. The same code is not tested twice, unless the head
/// leaves out documents that existed when it was tested (ORD-6). Statuses are awaited on the head itself, which is what
/// branch protection checks, and read again in each stay: CI may turn red later (RULE-6).
pub fn gate(f: &Facts<'_>) -> Answer {
    match f.project.ci {
        CiSource::None => Answer::Pass { why: "not applicable: the project has no ci.command".to_owned() },
        CiSource::Command => {
            let head = f.view.task.head_sha.as_ref();
            let row = f.on_head(Gate::CiGreen).filter(|e| !f.left_out() || Some(&e.sha) == head);
            f.by_job(Gate::CiGreen, JobKind::Ci, row)
        }
        CiSource::Statuses => {
            let row = f.fresh(Gate::CiGreen).filter(|e| Some(&e.sha) == f.view.task.head_sha.as_ref());
            f.by_job(Gate::CiGreen, JobKind::Ci, row)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing;
    use crate::model::stage::Stage;

    #[test]
    fn ord_1_only_a_red_that_follows_a_persons_word_in_the_same_stay_has_a_new_budget() {
        let row = |verdict, epoch, again: bool| {
            let mut e = testing::row("ci_green", verdict);
            (e.epoch, e.detail) = (epoch, if again { EvidenceDetail::Again } else { EvidenceDetail::Plain });
            e
        };
        let (fail, missing, pass) = (EvidenceVerdict::Fail, EvidenceVerdict::Missing, EvidenceVerdict::Pass);
        let mut view = testing::view(Stage::Development);
        let now = view.task.epoch;
        for (rows, want) in [
            (vec![row(fail, now, false)], false),
            (vec![row(missing, now, true), row(fail, now, false)], true),
            (vec![row(missing, now, true), row(pass, now, false)], false),
            (vec![row(missing, now, false), row(fail, now, false)], false),
            (vec![row(missing, now - 1, true), row(fail, now, false)], false),
            (vec![row(missing, now - 1, true), row(fail, now - 1, false)], false),
        ] {
            view.evidence = rows;
            assert_eq!(asked_again(&view), want, "{:?}", view.evidence);
        }
    }
}
