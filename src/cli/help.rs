//! `--help` for people (DSK-3): subcommands in groups, and global options in one line in the help of a subcommand.

use super::Cli;
use clap::{Command, CommandFactory};
use std::fmt::Write as _;

/// Every subcommand under its heading, in a few words: everything fits a screen of 80 columns and 60 lines.
pub const GROUPS: [(&str, &[(&str, &str)]); 5] = [
    (
        "Everyday",
        &[
            ("status", "Show what needs you, what is running, what waits"),
            ("explain", "Show why a task waits, and what would unblock it"),
            ("show", "Show a task's documents"),
            ("diff", "Show the changes on a task's branch"),
            ("new", "Write a work item to the local board"),
            ("retry", "Unblock a task and try again"),
            ("logs", "Show an agent's output or prompt"),
            ("timeline", "Show the story of a task"),
            ("report", "Report cost, lead time, reworks and outcomes"),
            ("shell", "Open a confined shell on a task's branch"),
            ("page", "Write board, tasks and report as a static site"),
        ],
    ),
    (
        "Steps",
        &[
            ("tick", "Pick up work items, start jobs, send messages"),
            ("reap", "Settle jobs whose process died or ran too long"),
            ("reconcile", "Apply status changes made on the boards"),
            ("advance", "Advance a task; approve, reject, confirm a deploy"),
            ("stop", "Cancel a task"),
        ],
    ),
    (
        "Operating",
        &[
            ("halt", "Stop starting new work"),
            ("resume", "Lift the halt"),
            ("freeze", "Freeze a repository: no new tasks, no deploys"),
            ("unfreeze", "Lift a repository's freeze"),
            ("lease", "Show or break a repository's merge lease"),
            ("gate", "Re-evaluate past gates"),
            ("audit", "Verify the audit log's hash chain"),
            ("metrics", "Print metrics for Prometheus"),
            ("cache", "Delete a repository's cache"),
            ("prune", "Delete logs and checkouts of old tasks"),
            ("backup", "Copy the database while it is in use"),
        ],
    ),
    (
        "CI",
        &[
            ("security-scan", "Scan a commit range for secrets and vulnerabilities"),
            ("staging-check", "Run staging checks and give a verdict"),
            ("post-deploy-probe", "Watch a deploy's health"),
        ],
    ),
    (
        "Setup",
        &[
            ("init", "Write the configuration"),
            ("project", "Add, list or remove projects"),
            ("doctor", "Check the setup, and say how to fix it"),
            ("config", "Show, check or describe the configuration"),
            ("demo", "Run the whole pipeline on an example, in a minute"),
            ("completions", "Print a completion script"),
            ("man", "Write the manual pages"),
        ],
    ),
];

/// One line of at most 80 columns.
const GLOBAL: &str = "Global options: --config, --state-dir, --json, --log-format, -v, -q, --color";

/// The global options, short enough to leave room for the subcommands; `docs/cli.md` has them in full.
const OPTIONS: &str = "Options (before or after a command):
  --config FILE  --state-dir DIR  Where they are [ORCH_CONFIG, ORCH_STATE_DIR]
  --json  --color WHEN            One JSON document; auto, always, never
  --log-format FORMAT  -v  -q     Log on stderr: text or json; more; less
  -h, --help  -V, --version       This text; the version
";

/// Whether the command line asks for help. Only then is the help laid out, so that other calls save the time.
pub fn is_asked(words: &[String]) -> bool {
    words.is_empty() || words.iter().any(|w| matches!(w.as_str(), "help" | "--help" | "-h"))
}

/// The command line with its help laid out; it parses the same.
pub fn command() -> Command {
    // A subcommand's copy of a global option is made when everything is built, hidden like the first one.
    let root = Cli::command().mut_args(|a| if a.is_global_set() { a.hide(true) } else { a }).mut_subcommands(dressed);
    let mut template = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (heading, commands) in GROUPS {
        let _ = write!(template, "\n{heading}:\n");
        for (name, about) in commands {
            let _ = writeln!(template, "  {name:<17}  {about}");
        }
    }
    let _ = write!(template, "\n{OPTIONS}");
    root.help_template(template).override_usage("orch [OPTIONS] <COMMAND>")
}

fn dressed(command: Command) -> Command {
    let command = command.mut_subcommands(dressed);
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command.after_help(format!("{GLOBAL}\n\n{after}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_subcommand_is_in_one_group_and_the_whole_fits_a_screen() {
        let root = Cli::command();
        let all: BTreeSet<&str> = root.get_subcommands().filter(|c| !c.is_hide_set()).map(Command::get_name).collect();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, c)| c.iter().map(|(name, _)| *name)).collect();
        assert_eq!(grouped.len(), grouped.iter().collect::<BTreeSet<_>>().len(), "one is in two groups");
        assert_eq!(grouped.into_iter().collect::<BTreeSet<_>>(), all);
        for long in [false, true] {
            let mut root = command().term_width(80);
            let text = if long { root.render_long_help() } else { root.render_help() }.to_string();
            assert!(text.lines().count() <= 60, "{}\n{text}", text.lines().count());
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
            for option in Cli::command().get_arguments().filter(|a| !a.is_hide_set()) {
                let long = option.get_long().map(|l| format!("--{l}")).unwrap_or_default();
                let short = option.get_short().map(|s| format!("-{s}")).unwrap_or_else(|| long.clone());
                assert!(OPTIONS.contains(&long) || OPTIONS.contains(&short), "{long}");
            }
            for heading in ["Everyday:", "Steps:", "Operating:", "CI:", "Setup:"] {
                assert!(text.lines().any(|l| l == heading), "{heading}\n{text}");
            }
        }
    }

    #[test]
    fn a_subcommand_shows_global_options_in_one_line() {
        let mut root = command().term_width(80);
        root.build();
        let status = root.find_subcommand_mut("status").unwrap();
        let text = status.render_long_help().to_string();
        assert_eq!(text.matches("--state-dir").count(), 1, "{text}");
        assert!(text.contains(GLOBAL) && text.contains("--watch") && text.contains("Example:"), "{text}");
    }

    #[test]
    fn the_laid_out_command_line_takes_the_same_words() {
        for line in ["orch tick --color never --json", "orch --json lease show demo", "orch status --all -vv"] {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(command().try_get_matches_from(&words).is_ok(), "{line}");
        }
        let help = command().try_get_matches_from(["orch", "lease", "show", "--help"]).unwrap_err();
        assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
    }
}
