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
            format!("{who} is queued{why}")
        }
        Decision::Park { waiting, .. } => format!("a person is asked for {waiting}"),
        Decision::Release { waiting, label } => format!("the label {label:?} gives the {waiting}"),
        Decision::Advance { to, why } => format!("it advances to {to}: {why}"),
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
        Some((Rule::Running, ..)) => "the current run ends",
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
        Rule::Halt => one("`orch resume` lifts the halt"),
        Rule::Freeze => vec![format!("`orch unfreeze {repo}`, after a person has checked production")],
        Rule::SerialGate => one("the named task ends (done or cancelled), or is withdrawn before it starts"),
        Rule::Dependencies => vec![
            "the named work item is done".to_owned(),
            format!("or the relation is removed from {key} on the board"),
        ],
        Rule::MaxConcurrency | Rule::ProjectLimit | Rule::AgentLimit | Rule::ReservedLimit => {
            one("a running job ends, or the limit is raised in the configuration")
        }
        Rule::TaskCost => {
            vec![
                "a higher `limits.max_cost_usd_per_task`, or a lower `agents.max_cost_usd`, which each run reserves"
                    .to_owned(),
                format!("or `orch stop {key}` ends it"),
            ]
        }
        Rule::DayCost => one("the next day (UTC), or a higher `limits.max_cost_usd_per_day`"),
        Rule::Unfinished => one("the next `orch reconcile` continues where this one stopped"),
        Rule::Backoff | Rule::Throttled => one("time: the first step after the given time continues"),
        Rule::Cooldown => one("the credential's usage limit resets; a single run then goes first"),
        Rule::Disk => one("more free space on the state directory's disk, or a smaller `min_free_mb`"),
        Rule::Confinement => vec![
            "an engine that confines runs (bubblewrap, or a kernel with Landlock); `orch doctor` names what is missing"
                .to_owned(),
            "or `confine.mode: auto` or `off`; runs are then shown as unconfined everywhere (docs/security.md)"
                .to_owned(),
        ],
        Rule::Configuration => {
            vec![format!(
                "a valid `.orch.yaml` on the default branch of {repo}, or a project without `repository_config`"
            )]
        }
        Rule::BasePending => vec![
            format!("the base check ends; `orch logs --base {repo}` shows it"),
            format!("`orch retry {key}` repeats it at once, if the remote could not be reached"),
        ],
        Rule::BaseRed => vec![
            format!("the base or the settings are fixed; `orch logs --base {repo}` shows what fails"),
            format!("`orch retry {key}` repeats the base check at once"),
            format!("`orch retry {key} --on-red-base` starts this task anyway, if it fixes the base"),
        ],
        Rule::Environment => vec![
            "install or fix what is named; the task is retried automatically".to_owned(),
            format!("`orch retry {key}` retries it at once"),
        ],
        Rule::Running => one("the current run ends"),
        Rule::Queued => one("the next `orch tick` starts it"),
        Rule::Approval => asked(
            Waiting::Approval,
            vec![
                format!("`orch advance {key} --approve`"),
                format!("`orch advance {key} --reject TEXT`: back to the analyst"),
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
            vec![format!("`orch retry {key}`, once the cause is fixed"), format!("or `orch stop {key}` ends it")]
        }
        Rule::StopRequested => one("the next `orch tick` or `orch reap` carries out the stop"),
        Rule::CriticalWindow => one("the deploy or update ends; then the stop is carried out"),
        Rule::Withdrawn => vec![
            "restore what was withdrawn: the work item's status or its file".to_owned(),
            format!("or restore its branch or pull request on the forge, then `orch retry {key}`"),
            format!("or `orch stop {key}` ends it"),
        ],
        Rule::Forge => vec![
            "do on the forge what it waits for; the merge then follows without another confirmation".to_owned(),
            format!("or `orch stop {key}` ends it"),
        ],
        Rule::ForgeRefused => vec![
            "the forge accepts it; it is retried automatically, at most 5 minutes apart".to_owned(),
            format!("`orch retry {key}` retries at once, without starting an agent"),
            format!("or `orch stop {key}` ends it"),
        ],
        Rule::Gate => one("the gate's evidence arrives; every step checks for it"),
        Rule::MergeLease => vec![
            "the holder's deploy finishes, or the holder ends".to_owned(),
            format!("`orch lease show {repo}` says who holds it"),
        ],
        Rule::LandedNotDeployed => one("the landed commit is deployed by its own task, or that task ends"),
        Rule::DeployResult => one("the deploy command reports its result"),
        Rule::Watch => one("the watch makes its last probe"),
        Rule::SwitchedOff => one("put the named switch or project back into the configuration"),
        Rule::Terminal => {
            one("nothing: it has ended; to start a cancelled item again, set another status, then To Analyse")
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
