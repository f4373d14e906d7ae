//! What moves a task on, for people (CLI-3, DSK-1): for each rule what lifts it, and the one command to type. Pure.

use crate::model::answers::Answers;
use crate::model::board::{Intent, Resolved};
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

/// The newest intent that was seen on a work item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastIntent<'a> {
    pub kind: Intent,
    pub state: &'a str,
    pub dismissed: bool,
    pub reason: Option<&'a str>,
    /// The item has had the same status since.
    pub of_this_status: bool,
}

/// Why a work item has no task, and what gives it one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taskless {
    pub next: String,
    pub moves: Vec<String>,
    /// The next step makes its task.
    pub due: bool,
}

/// `resolved`: the board's statuses, where they are known now. `unknown`: why `status` is a word that the board does not know.
/// `wanted`: the name of the status that starts a task.
pub fn taskless(
    status: &str,
    resolved: Option<&Resolved>,
    unknown: Option<String>,
    last: Option<&LastIntent<'_>>,
    wanted: &str,
) -> Taskless {
    let say = |next: String, ways: Vec<String>| Taskless { next, moves: ways, due: false };
    let start = vec![format!("set its status to {wanted:?}")];
    let Some(resolved) = resolved else {
        return match last {
            Some(i) => say(format!("its {} is {}: {}", i.kind, i.state, i.reason.unwrap_or("not yet acted on")), start),
            None => say("as last read, its status starts nothing".to_owned(), start),
        };
    };
    let Some(known) = resolved.status(status) else { return say(unknown.unwrap_or_default(), start) };
    if let Some(off) = resolved.off().iter().find(|o| resolved.logical_of(status) == Some(o.intent.logical())) {
        let way = "give the intent its own status; `orch doctor` names both".to_owned();
        return say(format!("{:?} has no effect here: {}", known.name, off.why), vec![way]);
    }
    if resolved.intent_of(status) != Some(Intent::ToAnalyse) {
        return say(format!("it is in {:?}, which starts nothing", known.name), start);
    }
    match last.filter(|i| i.of_this_status && i.dismissed) {
        Some(i) => say(
            format!("its {wanted:?} had no effect: {}", i.reason.unwrap_or("no reason kept")),
            vec![format!("set another status, then {wanted:?} again")],
        ),
        None => Taskless {
            next: "it waits to be picked up".to_owned(),
            moves: vec!["the next `orch tick` or `orch reconcile` creates its task".to_owned()],
            due: true,
        },
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
    fn a_work_item_without_a_task_says_what_gives_it_one() {
        use crate::model::board::{local_statuses, resolve};
        let names = std::collections::BTreeMap::new();
        let board = resolve(&local_statuses(&names), &names);
        let status = |name: &str| board.statuses().iter().find(|s| s.name == name).map(|s| s.id.clone()).unwrap();
        let (to_analyse, done) = (status("To Analyse"), status("Done"));
        let last = |dismissed| LastIntent {
            kind: Intent::ToAnalyse,
            state: if dismissed { "dismissed" } else { "pending" },
            dismissed,
            reason: Some("it is blocked"),
            of_this_status: true,
        };
        let of = |status: &str, last: Option<&LastIntent<'_>>| {
            let t = taskless(status, Some(&board), Some("unknown".into()), last, "To Analyse");
            (t.next, t.due)
        };
        assert_eq!(of(&to_analyse, None), ("it waits to be picked up".to_owned(), true));
        assert!(of(&to_analyse, Some(&last(false))).1);
        let (next, due) = of(&to_analyse, Some(&last(true)));
        assert!(next.ends_with("had no effect: it is blocked") && !due, "{next}");
        let earlier = LastIntent { of_this_status: false, ..last(true) };
        assert!(of(&to_analyse, Some(&earlier)).1, "what was dismissed was another one");
        assert_eq!(of(&done, None), ("it is in \"Done\", which starts nothing".to_owned(), false));
        assert_eq!(of("no such", None), ("unknown".to_owned(), false));
        let unread = taskless("x", None, None, Some(&last(true)), "To Analyse");
        assert!(unread.next.contains("dismissed: it is blocked") && !unread.due, "{}", unread.next);
    }

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
