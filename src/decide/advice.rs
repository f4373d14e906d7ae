//! What moves a task on, for people (CLI-3, DSK-1): for each rule what lifts it, and the one command to type. Pure.

use crate::model::answers::Answers;
use crate::model::decision::Decision;
use crate::model::report::Rule;
use crate::model::task::{Task, Waiting};

/// What the next step does with a task, as a sentence.
pub fn sentence(decision: &Decision) -> String {
    match decision {
        Decision::Hold { why, .. } => why.clone(),
        Decision::Enqueue(job) => {
            let who = job.agent.map_or_else(|| format!("the job {}", job.kind), |a| format!("the {a}"));
            let why = job.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
            format!("{who} is put into the queue{why}")
        }
        Decision::Park { waiting, .. } => format!("a person is asked for {waiting}"),
        Decision::Release { waiting, label } => format!("{waiting} is released by the label {label:?}"),
        Decision::Advance { to, why } => format!("it moves on to {to}: {why}"),
        Decision::Rollback { why, .. } => format!("it goes back to development: {why}"),
        Decision::Return { to, why } => format!("it goes back to {to}: {why}"),
        Decision::Block { why, .. } => format!("it is blocked: {why}"),
        Decision::Finish { why, .. } => format!("it is done: {why}"),
        Decision::Procedure(effect) => format!("the next step does {effect}"),
    }
}

/// What has to happen first, where nothing holds the task.
pub fn next_step(decision: &Decision) -> &'static str {
    match decision.hold() {
        Some((Rule::Running, ..)) => "the run that is under way; its end settles the job",
        Some(_) => "the next `orch tick` starts it",
        None => "the next `orch tick`, `advance` or `reconcile` does it",
    }
}

/// What lifts a rule. Every rule has an answer.
pub fn moved_by(rule: Rule, key: &str, repo: &str, answers: &Answers) -> Vec<String> {
    let asked = |waiting, further: Vec<String>| {
        let on_board = answers.to(waiting).map(|name| format!("{name} on the board"));
        let mut ways: Vec<String> = on_board.into_iter().chain(further).collect();
        ways.iter_mut().skip(1).take_while(|w| w.starts_with('`')).for_each(|w| w.insert_str(0, "or "));
        ways
    };
    let one = |text: &str| vec![text.to_owned()];
    match rule {
        Rule::Halt => one("`orch resume` lifts HALT"),
        Rule::Freeze => vec![format!("`orch unfreeze {repo}`, once a person has looked")],
        Rule::SerialGate => one("the task named ends (done or cancelled), or is withdrawn before its start"),
        Rule::Dependencies => vec![
            "the work item named is done".to_owned(),
            format!("or the relation is removed from {key} on the board"),
        ],
        Rule::MaxConcurrency | Rule::ProjectLimit | Rule::AgentLimit | Rule::ReservedLimit => {
            one("a running job ends, or the limit is raised in the configuration")
        }
        Rule::TaskCost => {
            vec![
                "`limits.max_cost_usd_per_task` is raised, or `agents.max_cost_usd`, which each run reserves, lowered"
                    .to_owned(),
                format!("or `orch stop {key}` ends it"),
            ]
        }
        Rule::DayCost => one("the next day (UTC), or `limits.max_cost_usd_per_day` is raised"),
        Rule::Unfinished => one("the next `orch reconcile` reads on where this one ended"),
        Rule::Backoff | Rule::Throttled => one("time: the first step after the moment named continues"),
        Rule::Cooldown => one("the credential's window opens again; one run then goes first"),
        Rule::Disk => one("room on the disk of the state directory, or a smaller `min_free_mb`"),
        Rule::Confinement => vec![
            "an engine that holds runs (bubblewrap, or a kernel with Landlock); `orch doctor` names what is missing"
                .to_owned(),
            "or `confine.mode: auto` or `off`, shown everywhere as unconfined (docs/security.md)".to_owned(),
        ],
        Rule::Configuration => {
            vec![format!(
                "`.orch.yaml` on the default branch of {repo} is corrected, or its project drops `repository_config`"
            )]
        }
        Rule::BasePending => vec![
            format!("the try of the base ends; `orch logs --base {repo}` shows it"),
            format!("`orch retry {key}` checks it at once, where it could not be reached"),
        ],
        Rule::BaseRed => vec![
            format!("the base or the settings are fixed: `orch logs --base {repo}` says what fails"),
            format!("`orch retry {key}` tries it at once"),
            format!("`orch retry {key} --on-red-base`, where this task fixes it"),
        ],
        Rule::Environment => vec![
            "what is named is installed or put right; it is tried again automatically".to_owned(),
            format!("`orch retry {key}` tries it at once"),
        ],
        Rule::Running => one("the run that is under way; its end settles the job"),
        Rule::Queued => one("the next `orch tick` starts it"),
        Rule::Approval => asked(
            Waiting::Approval,
            vec![
                format!("`orch advance {key} --approve`"),
                format!("`orch advance {key} --reject TEXT`: the analyst works again"),
                format!("before that, read `orch show {key}`"),
            ],
        ),
        Rule::ConfirmDeploy => asked(
            Waiting::ConfirmDeploy,
            vec![
                format!("`orch advance {key} --confirm-deploy`"),
                format!("`orch advance {key} --reject TEXT`: back to development"),
                format!("before that, read `orch show {key}` and `orch diff {key}`"),
            ],
        ),
        Rule::Blocked => {
            vec![format!("`orch retry {key}`, once the reason is gone"), format!("or `orch stop {key}` ends it")]
        }
        Rule::StopRequested => one("the next `orch tick` or `orch reap` carries the stop out"),
        Rule::CriticalWindow => one("the deploy's or update's own result; then the stop is carried out"),
        Rule::Withdrawn => vec![
            "what was withdrawn comes back: the work item's status, its file".to_owned(),
            format!("or its branch or pull request is open on the forge again, then `orch retry {key}`"),
            format!("or `orch stop {key}` ends it"),
        ],
        Rule::Forge => vec![
            "what the forge waits for is done there; the merge is then made without another release".to_owned(),
            format!("or `orch stop {key}` ends it"),
        ],
        Rule::ForgeRefused => vec![
            "the forge takes it: it is asked again automatically, at most 5 minutes apart".to_owned(),
            format!("`orch retry {key}` asks at once, and no agent starts"),
            format!("or `orch stop {key}` ends it"),
        ],
        Rule::Gate => one("the gate's evidence; the next step looks again"),
        Rule::MergeLease => vec![
            "the holder's deploy or end frees the lease".to_owned(),
            format!("`orch lease show {repo}` says who holds it"),
        ],
        Rule::LandedNotDeployed => one("the commit that landed is deployed by its own task, or that task ends"),
        Rule::DeployResult => one("the deploy command's result"),
        Rule::Watch => one("the watch's last probe"),
        Rule::SwitchedOff => one("the switch or project named is in the configuration again"),
        Rule::Terminal => {
            one("nothing: it has ended; a cancelled work item starts again by another status, then To Analyse")
        }
    }
}

/// What lifts a rule by a command; `None`: there is nothing to do, or nothing that a command does.
pub fn command(rule: Rule, key: &str, repo: &str) -> Option<String> {
    let repo = quoted(repo);
    let command = match rule {
        Rule::Halt => "orch resume".to_owned(),
        Rule::Freeze => format!("orch unfreeze {repo}"),
        Rule::Approval => format!("orch advance {key} --approve"),
        Rule::ConfirmDeploy => format!("orch advance {key} --confirm-deploy"),
        Rule::Blocked | Rule::ForgeRefused | Rule::Withdrawn => format!("orch retry {key}"),
        Rule::Confinement | Rule::Environment | Rule::Configuration => "orch doctor".to_owned(),
        Rule::BaseRed | Rule::BasePending => format!("orch logs --base {repo}"),
        Rule::Disk => "orch prune --dry-run".to_owned(),
        Rule::TaskCost | Rule::SwitchedOff => "orch config show".to_owned(),
        Rule::MergeLease => format!("orch lease show {repo}"),
        Rule::Running => format!("orch logs {key} -f"),
        Rule::Queued | Rule::StopRequested => "orch tick".to_owned(),
        Rule::Unfinished => "orch reconcile".to_owned(),
        Rule::SerialGate
        | Rule::Dependencies
        | Rule::MaxConcurrency
        | Rule::ProjectLimit
        | Rule::AgentLimit
        | Rule::ReservedLimit
        | Rule::DayCost
        | Rule::Backoff
        | Rule::Cooldown
        | Rule::CriticalWindow
        | Rule::Forge
        | Rule::Gate
        | Rule::LandedNotDeployed
        | Rule::DeployResult
        | Rule::Watch
        | Rule::Throttled
        | Rule::Terminal => return None,
    };
    Some(command)
}

/// As [`command`], for a task that nothing holds: it is being worked, or the next step moves it.
pub fn unheld(task: &Task, running: bool) -> String {
    if running { format!("orch logs {} -f", task.key) } else { "orch tick".to_owned() }
}

/// A word for a shell: as it is where that is safe, else in single quotes.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/-+@%:,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_way_out() {
        for rule in Rule::ALL {
            assert!(!moved_by(*rule, "ORCH-1", "shop", &Answers::default()).is_empty(), "{rule}");
        }
    }

    #[test]
    fn a_command_can_be_typed_as_it_is() {
        for rule in Rule::ALL {
            let Some(command) = command(*rule, "ORCH-1", "my repo's") else { continue };
            assert!(command.starts_with("orch ") && !command.contains("TEXT"), "{rule}: {command}");
            assert!(!command.contains("my repo") || command.ends_with(r"'my repo'\''s'"), "{command}");
        }
        assert_eq!(command(Rule::Freeze, "ORCH-1", "shop").as_deref(), Some("orch unfreeze shop"));
        assert_eq!(command(Rule::Watch, "ORCH-1", "shop"), None);
    }
}
