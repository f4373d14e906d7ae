//! What the end of a configured command says about the commit it ran on (RULE-45, ORD-1, SHIP-4). Pure.

use crate::model::deploy::OwnExit;
use crate::model::ran::{Ended, Ran};

/// What a build, a setup or a deploy to staging says about the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfCommand {
    Passed,
    /// The commit's fault.
    Red {
        why: String,
    },
    /// This machine lacks what is named: it says nothing about the commit, and is retried for as long as that lasts.
    Environment {
        why: String,
    },
    /// It says nothing about the commit, but a branch can cause it: retried only a few times.
    Unsaid {
        why: String,
    },
}

/// `key`: the command's name in the configuration. A program that is missing or can't be run is this machine's fault.
pub fn of_command(key: &str, ran: &Ran) -> OfCommand {
    let how = &ran.how;
    match ran.ended {
        Ended::Code(0) => OfCommand::Passed,
        Ended::Code(code @ (126 | 127)) => OfCommand::Environment {
            why: format!("{key}: exit {code}: a program that it starts is missing on this machine, or can't run"),
        },
        Ended::Code(_) | Ended::TimedOut | Ended::Cut => OfCommand::Red { why: format!("{key}: {how}") },
        Ended::NoProgram | Ended::NoRoom => OfCommand::Environment { why: format!("{key}: {how}") },
        Ended::Signal => OfCommand::Unsaid { why: format!("{key} was killed: {how}") },
        Ended::Failed | Ended::Lost => OfCommand::Unsaid { why: format!("{key}: {how}") },
    }
}

/// What CI says about a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfCi {
    Green,
    /// `late`: its time was up. `no_program`: a missing program says as little about the branch as the shell's 127.
    Red {
        why: String,
        late: bool,
        no_program: bool,
    },
    /// It could not run.
    Unsaid {
        why: String,
    },
}

/// `worktree.setup` or `ci.command` on a head. A setup that fails there is red CI, since it passed on the base.
pub fn of_ci(key: &str, head: &str, ran: &Ran) -> OfCi {
    let of = if key == "ci.command" { String::new() } else { format!("{key}: ") };
    let how = &ran.how;
    let red = |late, no_program| OfCi::Red { why: format!("CI is red on {head}: {of}{how}"), late, no_program };
    match ran.ended {
        Ended::Code(0) => OfCi::Green,
        Ended::Code(code) => red(false, matches!(code, 126 | 127)),
        Ended::NoProgram => red(false, true),
        Ended::TimedOut => red(true, false),
        Ended::Cut => red(false, false),
        Ended::Signal => OfCi::Unsaid { why: format!("{key} was killed: {how}") },
        Ended::NoRoom | Ended::Failed | Ended::Lost => OfCi::Unsaid { why: format!("{of}{how}") },
    }
}

/// How a deploy command ended: its exit code, or unknown. `None`: it never ran, and production is as before.
pub fn of_deploy(ran: &Ran) -> Option<OwnExit> {
    let how = &ran.how;
    match ran.ended {
        Ended::Code(code) => Some(OwnExit::Code { code }),
        Ended::Signal | Ended::TimedOut | Ended::Cut => {
            Some(OwnExit::Unknown { why: format!("the deploy command ended without an exit code: {how}") })
        }
        Ended::Lost => Some(OwnExit::Unknown { why: format!("the deploy command: {how}") }),
        Ended::NoProgram | Ended::NoRoom | Ended::Failed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Ended; 10] = [
        Ended::Code(0),
        Ended::Code(1),
        Ended::Code(127),
        Ended::Signal,
        Ended::TimedOut,
        Ended::Cut,
        Ended::NoProgram,
        Ended::NoRoom,
        Ended::Failed,
        Ended::Lost,
    ];

    #[test]
    fn rule_45_what_this_machine_lacks_is_no_fault_of_the_commit() {
        let shown = ALL.map(|ended| match of_command("b", &Ran { ended, how: "h".into() }) {
            OfCommand::Passed => "passed".to_owned(),
            OfCommand::Red { why } => format!("red {why}"),
            OfCommand::Environment { why } => format!("environment {why}"),
            OfCommand::Unsaid { why } => format!("unsaid {why}"),
        });
        assert_eq!(
            shown.map(|s| s.split_once(':').map_or(s.clone(), |(first, _)| first.to_owned())),
            [
                "passed",
                "red b",
                "environment b",
                // A branch's code can end itself this way: it is not retried without a bound.
                "unsaid b was killed",
                "red b",
                "red b",
                "environment b",
                "environment b",
                "unsaid b",
                "unsaid b"
            ]
        );
    }

    #[test]
    fn ord_1_ci_is_red_by_its_exit_and_says_whether_a_program_was_missing() {
        let shown = |key| {
            ALL.map(|ended| match of_ci(key, "abc", &Ran { ended, how: "h".into() }) {
                OfCi::Green => "green".to_owned(),
                OfCi::Red { why, late, no_program } => format!("{why}|{late}|{no_program}"),
                OfCi::Unsaid { why } => why,
            })
        };
        assert_eq!(
            shown("ci.command"),
            [
                "green",
                "CI is red on abc: h|false|false",
                "CI is red on abc: h|false|true",
                "ci.command was killed: h",
                "CI is red on abc: h|true|false",
                "CI is red on abc: h|false|false",
                "CI is red on abc: h|false|true",
                "h",
                "h",
                "h"
            ]
        );
        assert_eq!(
            shown("worktree.setup").get(1).map(String::as_str),
            Some("CI is red on abc: worktree.setup: h|false|false")
        );
    }

    #[test]
    fn rule_35_only_a_deploy_command_that_never_ran_left_production_as_it_was() {
        for ended in ALL {
            let own = of_deploy(&Ran { ended, how: "h".into() });
            let ran = !matches!(ended, Ended::NoProgram | Ended::NoRoom | Ended::Failed);
            assert_eq!(own.is_some(), ran, "{ended:?}");
            assert_eq!(matches!(own, Some(OwnExit::Code { .. })), matches!(ended, Ended::Code(_)), "{ended:?}");
        }
    }
}
