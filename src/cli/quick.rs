//! The command line of one subcommand alone. Laying out all of them takes longer than a step that finds nothing to do, and
//! timers, supervisors and boundaries start `orch` all the time (speed).

use super::{Global, cmd};
use clap::{Args, Command as Line};

type Lay = fn(Line) -> Line;

/// The subcommands that programs call.
const OFTEN: [(&str, Lay); 9] = [
    ("tick", cmd::tick::Args::augment_args),
    ("reap", cmd::reap::Args::augment_args),
    ("reconcile", cmd::reconcile::Args::augment_args),
    ("advance", cmd::advance::Args::augment_args),
    ("status", cmd::status::Args::augment_args),
    ("metrics", cmd::metrics::Args::augment_args),
    ("run-job", cmd::run_job::Args::augment_args),
    ("confine-exec", cmd::confine_exec::Args::augment_args),
    ("confine-proxy", cmd::confine_proxy::Args::augment_args),
];

/// `orch` with the one subcommand that the words may name, or with none where they ask for the version. What it takes, the
/// whole command line takes, too, and as the same: it only knows fewer words.
pub fn command(words: &[String]) -> Option<Line> {
    let root = || Global::augment_args(Line::new("orch").version(env!("CARGO_PKG_VERSION")).propagate_version(true));
    if matches!(words, [one] if matches!(one.as_str(), "--version" | "-V")) {
        return Some(root());
    }
    let (name, lay) = words.iter().find_map(|w| OFTEN.iter().find(|(name, _)| w == name))?;
    Some(root().subcommand_required(true).subcommand(lay(Line::new(*name))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory, FromArgMatches};

    /// What a command line is read as; `None`: not at all.
    fn read(command: Line, line: &str) -> Option<String> {
        let matches = command.try_get_matches_from(line.split(' ')).ok()?;
        Cli::from_arg_matches(&matches).ok().map(|cli| format!("{cli:?}"))
    }

    fn alone(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').skip(1).map(str::to_owned).collect();
        read(command(&words)?, line)
    }

    #[test]
    fn what_one_subcommand_alone_takes_is_taken_as_by_the_whole() {
        let taken = [
            "orch tick",
            "orch --config a/b tick --max 3 --json -vv",
            "orch --config tick tick",
            "orch reap --state-dir d",
            "orch reconcile --full",
            "orch advance A-1",
            "orch status --json --all",
            "orch -q metrics",
            "orch run-job 7 --state-dir d --config c",
        ];
        for line in taken {
            let whole = read(Cli::command(), line);
            assert!(whole.is_some(), "{line}");
            assert_eq!(alone(line), whole, "{line}");
        }
        // Words that another subcommand takes, or that nothing does, are left to the whole.
        let left = [
            "orch explain tick",
            "orch new tick",
            "orch tick --maximum 3",
            "orch tick tick",
            "orch",
            "orch --json tic",
        ];
        for line in left {
            assert_eq!(alone(line), None, "{line}");
        }
    }

    #[test]
    fn the_version_is_the_wholes() {
        for line in ["orch --version", "orch -V"] {
            let words = || line.split(' ');
            let given: Vec<String> = words().skip(1).map(str::to_owned).collect();
            let alone = command(&given).unwrap().try_get_matches_from(words()).unwrap_err();
            let whole = Cli::command().try_get_matches_from(words()).unwrap_err();
            assert_eq!((alone.kind(), alone.to_string()), (whole.kind(), whole.to_string()), "{line}");
        }
    }

    #[test]
    fn each_is_a_subcommand_that_takes_the_same_options() {
        let mut whole = Cli::command();
        whole.build();
        for (name, lay) in OFTEN {
            let there = whole.find_subcommand(name).unwrap_or_else(|| panic!("{name}"));
            let mut root = command(&[name.to_owned()]).unwrap();
            root.build();
            let here = root.find_subcommand(name).unwrap();
            let ids = |c: &Line| c.get_arguments().map(|a| format!("{a:?}")).collect::<Vec<_>>();
            assert_eq!(ids(here), ids(there), "{name}");
            assert!(lay(Line::new(name)).get_subcommands().next().is_none(), "{name}");
        }
    }
}
