//! The one command that moves a task on, to be typed as it is (DSK-1): the last line of `explain`.

use crate::config;
use crate::model::ids::Key;
use crate::model::report::Rule;
use crate::model::task::Task;

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

/// For a work item without a task: the step that picks it up, or the file in which its status is set.
pub fn taskless(project: &config::Project, key: &str, due: bool) -> String {
    match Key::parse(key).ok().and_then(|key| project.board.file(&key)) {
        _ if project.board.is_remote() => "orch reconcile".to_owned(),
        Some(file) if !due => format!("\"${{EDITOR:-vi}}\" {}", quoted(&file.to_string_lossy())),
        Some(_) | None => "orch tick".to_owned(),
    }
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
