//! `deploy_build` (BND-3): what the deploy command will get is built, confined, on this very head, before anything
//! lands. A failed build is red CI on that head.

use super::{Facts, image_fresh};
use crate::model::decision::{Answer, Need};
use crate::model::gate::Gate;
use crate::model::stage::JobKind;
use crate::model::task::Evidence;

/// The build of the head, in whichever stay it was made: the same commit is not built twice.
pub fn gate(f: &Facts<'_>) -> Answer {
    if !f.project.deploy_build {
        return Answer::Pass { why: "not applicable: deploy.build is not configured".to_owned() };
    }
    f.by_job(Gate::DeployBuild, JobKind::Build, newest(f))
}

/// The newest row about the very head: what is deployed carries that commit's name, and equal code at another commit
/// does not.
pub fn newest<'f>(f: &Facts<'f>) -> Option<&'f Evidence> {
    let head = f.view.task.head_sha.as_ref()?;
    f.view.evidence.iter().rev().find(|e| e.subject == Gate::DeployBuild && e.sha == *head)
}

/// Which gate a job of kind `build` serves now; `None`: nobody needs it any more.
pub fn wanted(f: &Facts<'_>) -> Option<Gate> {
    let builds = |answer: &Answer| matches!(answer, Answer::Undecided { need: Need::Job(job), .. } if job.kind == JobKind::Build);
    let answers = [(Gate::StagingImageFresh, image_fresh::gate(f)), (Gate::DeployBuild, gate(f))];
    answers.into_iter().find(|(_, answer)| builds(answer)).map(|(gate, _)| gate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::{policy, project, row, sha, view};
    use crate::model::evidence::EvidenceVerdict;
    use crate::model::policy::ProjectPolicy;
    use crate::model::stage::Stage;

    fn built() -> ProjectPolicy {
        ProjectPolicy { deploy_build: true, ..project() }
    }

    #[test]
    fn bnd_3_the_head_is_built_once_and_another_head_again() {
        let (policy, declared) = (policy(), built());
        let mut view = view(Stage::DeployStaging);
        let answer = |view: &_, project: &_| gate(&Facts { view, policy: &policy, project });
        assert!(matches!(answer(&view, &project()), Answer::Pass { why } if why.contains("not applicable")));
        let needs = |answer: Answer| matches!(answer, Answer::Undecided { need: Need::Job(job), .. } if job.kind == JobKind::Build && job.subject == Some(sha('a')));
        assert!(needs(answer(&view, &declared)));
        // From an earlier attempt and stay, but for this very commit.
        let old = Evidence { attempt: 0, epoch: 1, ..row(Gate::DeployBuild.as_str(), EvidenceVerdict::Pass) };
        view.evidence = vec![old.clone()];
        assert!(matches!(answer(&view, &declared), Answer::Pass { .. }));
        // The same code at another commit is built again: the build carries the commit's name.
        view.evidence = vec![Evidence { sha: sha('d'), ..old.clone() }];
        assert!(needs(answer(&view, &declared)));
        // A failed build is red; where its output was lost, it is built once more.
        view.evidence = vec![Evidence { verdict: EvidenceVerdict::Fail, ..old.clone() }];
        assert!(matches!(answer(&view, &declared), Answer::Fail { .. }));
        view.evidence = vec![old.clone(), Evidence { verdict: EvidenceVerdict::ToolError, epoch: 3, ..old }];
        assert!(needs(answer(&view, &declared)));
    }

    #[test]
    fn a_build_job_works_for_the_first_gate_that_waits_for_one() {
        let policy = policy();
        let mut view = view(Stage::DeployStaging);
        let both = ProjectPolicy { freshness: true, ..built() };
        let of = |view: &_, project: &_| wanted(&Facts { view, policy: &policy, project });
        assert_eq!(of(&view, &both), Some(Gate::StagingImageFresh));
        assert_eq!(of(&view, &built()), Some(Gate::DeployBuild));
        assert_eq!(of(&view, &project()), None);
        view.evidence = vec![row(Gate::StagingImageFresh.as_str(), EvidenceVerdict::Pass)];
        assert_eq!(of(&view, &both), Some(Gate::DeployBuild));
        view.evidence.push(row(Gate::DeployBuild.as_str(), EvidenceVerdict::Pass));
        assert_eq!(of(&view, &both), None);
    }
}
