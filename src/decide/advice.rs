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
        let way = "give the intent a status of its own; `orch doctor` names both".to_owned();
        return say(format!("{:?} does not steer here: {}", known.name, off.why), vec![way]);
    }
    if resolved.intent_of(status) != Some(Intent::ToAnalyse) {
        return say(format!("it is in {:?}, which starts nothing", known.name), start);
    }
    match last.filter(|i| i.of_this_status && i.dismissed) {
        Some(i) => say(
            format!("its {wanted:?} was not acted on: {}", i.reason.unwrap_or("no reason kept")),
            vec![format!("set another status, then {wanted:?} again")],
        ),
        None => Taskless {
            next: "it waits to be picked up".to_owned(),
            moves: vec!["the next `orch tick` or `orch reconcile` makes its task".to_owned()],
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
        assert!(next.ends_with("was not acted on: it is blocked") && !due, "{next}");
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
