//! What a stop may do and what its end reports (RUN-9, RULE-11, RULE-16, RULE-28). Pure.

use crate::model::deploy::DeployEnd;
use crate::model::ids::Sha;
use crate::model::task::{Deploy, DeployState, Task};
use crate::model::view::TaskView;

/// Whether a recorded stop may be carried out now. The stop itself may close a deploy's window once that deploy has
/// settled. Whoever opened any other window closes it; the merge gate closes an update's if its process is gone.
/// `deploys`: all of the task, oldest first.
pub fn may_complete(task: &Task, deploys: &[Deploy]) -> bool {
    if task.stop_requested_at.is_none() || task.stage.is_terminal() {
        return false;
    }
    let Some(open) = &task.critical else { return true };
    Deploy::newest(deploys).is_some_and(|d| d.state == DeployState::Settled && *open == d.window())
}

/// The commit at which the task's branch may be deleted: the recorded head, or one that a push of ours named (RULE-11).
/// `None`: what is on the remote is somebody else's, and stays.
pub fn deletable<'a>(task: &Task, remote: &'a Sha, pushed: &[Sha]) -> Option<&'a Sha> {
    (task.head_sha.as_ref() == Some(remote) || pushed.contains(remote)).then_some(remote)
}

/// What the end of a stop reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Its commit in the default branch, whoever merged it.
    pub landed: Option<Sha>,
    /// Why its repository is frozen: what landed stays (RULE-28).
    pub freeze: Option<String>,
    /// For alert and comment.
    pub detail: String,
}

/// `in_default`: the commit of the default branch that was found to contain something of the task.
pub fn stopped(view: &TaskView, in_default: Option<&Sha>) -> Stopped {
    let task = &view.task;
    let landed = view.deploy.as_ref().and_then(|d| d.landed_sha.as_ref()).or(in_default).cloned();
    let failed = view.deploy.as_ref().filter(|d| d.attempt == task.attempt).and_then(failed_deploy);
    // A deploy that failed is the worse news.
    let with = |said: String| failed.as_ref().map_or_else(|| said.clone(), |f| format!("{f}; {said}"));
    let freeze = landed
        .as_ref()
        .map(|sha| with(format!("{} was stopped; its work is in the default branch since {}", task.key, sha.short())));
    let detail = with(task.stop_reason.clone().unwrap_or_else(|| "stopped".to_owned()));
    Stopped { landed, freeze, detail }
}

/// What to report about a deploy that settled and did not succeed.
fn failed_deploy(deploy: &Deploy) -> Option<String> {
    let result = deploy.result.as_ref().filter(|r| r.end != DeployEnd::Success)?;
    Some(format!("the deploy failed: {}", result.why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::{deploy, sha, task, view};
    use crate::model::deploy::DeployResult;
    use crate::model::stage::Stage;
    use crate::model::window::Window;

    fn asked(stage: Stage, critical: Option<Window>) -> Task {
        Task { stop_requested_at: Some(1), critical, ..task(1, stage) }
    }

    #[test]
    fn rule_16_only_a_settled_deploys_own_window_is_closed_by_the_stop() {
        let of = |state| vec![deploy(1, state)];
        let window = || Some(deploy(1, DeployState::Settled).window());
        assert!(may_complete(&asked(Stage::Review, None), &[]));
        assert!(!may_complete(&task(1, Stage::Review), &[]), "no stop is recorded");
        assert!(!may_complete(&asked(Stage::Cancelled, None), &[]));
        for state in DeployState::ALL {
            let may = may_complete(&asked(Stage::Deploy, window()), &of(*state));
            assert_eq!(may, *state == DeployState::Settled, "{state}");
            assert!(!may_complete(&asked(Stage::Deploy, Some(Window::Update)), &of(*state)), "{state}");
        }
        let other = Some(Window::Deploy { id: "1-1-9".into() });
        assert!(!may_complete(&asked(Stage::Deploy, other), &of(DeployState::Settled)));
    }

    #[test]
    fn rule_11_a_branch_is_deleted_only_at_a_commit_of_ours() {
        let t = task(1, Stage::Review);
        assert_eq!(deletable(&t, &sha('a'), &[]), Some(&sha('a')));
        assert_eq!(deletable(&t, &sha('c'), &[sha('d'), sha('c')]), Some(&sha('c')));
        assert_eq!(deletable(&t, &sha('c'), &[sha('d')]), None);
    }

    #[test]
    fn rule_28_what_landed_freezes_and_a_deploy_that_failed_is_said_first() {
        let mut v = view(Stage::Deploy);
        let plain = stopped(&v, None);
        assert_eq!((plain.landed, plain.freeze, plain.detail.as_str()), (None, None, "stopped"));
        v.task.stop_reason = Some("wrong idea".into());
        let merged = stopped(&v, Some(&sha('c')));
        assert!(
            merged.freeze.is_some_and(|why| why.starts_with("ORCH-1 was stopped")) && merged.detail == "wrong idea"
        );
        let result = DeployResult { end: DeployEnd::FailedUnknown, why: "exit 3".into(), log: String::new() };
        v.deploy = Some(Deploy { landed_sha: Some(sha('d')), result: Some(result), ..deploy(1, DeployState::Settled) });
        let failed = stopped(&v, Some(&sha('c')));
        assert_eq!(failed.landed, Some(sha('d')), "its own landing counts first");
        assert!(failed.freeze.is_some_and(|why| why.starts_with("the deploy failed: exit 3; ORCH-1 was stopped")));
        assert_eq!(failed.detail, "the deploy failed: exit 3; wrong idea");
        v.task.attempt = 2;
        assert_eq!(stopped(&v, None).detail, "wrong idea", "an earlier attempt's deploy is no news");
    }
}
