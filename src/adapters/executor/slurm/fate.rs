//! What the end of a job means (CLU-3), from its node's report, Slurm's name for the state, and srun's output. Pure.

use super::frames::{By, Ended};
use super::line::OWN_FAULT;
use super::queue::State;

/// What is known of a job that is over.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The node's last frame.
    pub ended: Option<Ended>,
    /// Whether its command ran.
    pub started: bool,
    pub state: Option<State>,
    /// srun's exit code, which says little: 0 was seen for a cancelled job, a time limit, a preemption, a dead node.
    pub code: Option<i32>,
    /// srun's complaint, in one line.
    pub said: String,
    /// The supervisor asked for the end.
    pub asked: bool,
}

/// How it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The node's report counts.
    Reported(Ended),
    /// One of Slurm's limits: named, and counted.
    Limit(String),
    /// Nobody asked for the end: nothing is spent.
    Lost(String),
    /// It never ran, and never will like this: the environment is at fault (ORD-1).
    Refused(String),
    /// It was cancelled before it ran.
    Withdrawn,
}

impl Fate {
    /// The same in words.
    pub fn why(&self) -> String {
        match self {
            Self::Reported(Ended { left: Some(left), .. }) => format!("on its node {left}"),
            Self::Reported(_) => "its node reported the end".to_owned(),
            Self::Limit(why) | Self::Lost(why) | Self::Refused(why) => why.clone(),
            Self::Withdrawn => "it was taken back before it ran".to_owned(),
        }
    }
}

/// The first that fits.
pub fn fate(known: &Known) -> Fate {
    let word = known.state.as_ref().map_or("", |s| s.word.as_str());
    match word {
        "TIMEOUT" => return Fate::Limit("Slurm ended it at its time limit (TIMEOUT): raise slurm.time".to_owned()),
        "OUT_OF_MEMORY" => {
            return Fate::Limit("Slurm ended it for its memory (OUT_OF_MEMORY): raise slurm.memory".to_owned());
        }
        "NODE_FAIL" | "BOOT_FAIL" | "PREEMPTED" => return Fate::Lost(format!("its Slurm job ended as {word}")),
        _ => {}
    }
    match (&known.ended, known.started) {
        (Some(ended), _) => match ended.by {
            By::Slurm if !known.asked => Fate::Lost(format!("Slurm ended its job{}", named(word))),
            By::Silence if !known.asked => {
                Fate::Lost("its node heard nothing from this machine for slurm.silence_s, and ended it".to_owned())
            }
            By::Itself | By::Wall | By::Stall | By::Stop | By::Silence | By::Slurm | By::Bound(_) => {
                Fate::Reported(ended.clone())
            }
        },
        (None, true) => Fate::Lost(format!(
            "its Slurm job ended without a message from its node{}{}",
            named(word),
            complaint(known)
        )),
        (None, false) if known.asked => Fate::Withdrawn,
        (None, false) => match (known.code, word) {
            (_, "CANCELLED") => Fate::Lost("its Slurm job was cancelled before it ran".to_owned()),
            // srun's own faults, and its refusals: exit 1 at once.
            (Some(OWN_FAULT | 1 | 255), _) => Fate::Refused(format!("srun refused the job{}", complaint(known))),
            _ => Fate::Refused(format!(
                "confine-exec did not start in the Slurm job{}{}; does slurm.work_dir exist on every node?",
                named(word),
                complaint(known)
            )),
        },
    }
}

fn named(word: &str) -> String {
    if word.is_empty() { String::new() } else { format!(" ({word})") }
}

fn complaint(known: &Known) -> String {
    let code = known.code.map_or_else(|| "it was killed".to_owned(), |code| format!("exit {code}"));
    if known.said.is_empty() { format!(": {code}") } else { format!(": {} ({code})", known.said) }
}

/// Reasons for which a job waits forever: the environment is at fault (CLU-4).
pub fn never_starts(reason: &str) -> bool {
    // For an account or a quality of service that the partition does not admit, Slurm has a sentence instead of a word.
    if ["can't use this partition", "not permitted to use this partition"].iter().any(|said| reason.contains(said)) {
        return true;
    }
    let word = reason.trim_start_matches('(').split([',', ')', ' ']).next().unwrap_or_default();
    matches!(
        word,
        "PartitionConfig"
            | "PartitionNodeLimit"
            | "PartitionTimeLimit"
            | "DependencyNeverSatisfied"
            | "BadConstraints"
            | "InvalidAccount"
            | "InvalidQOS"
            | "AccountNotAllowed"
            | "QOSNotAllowed"
            | "AssocMaxWallDurationPerJobLimit"
            | "QOSMaxWallDurationPerJobLimit"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(by: By, code: i32) -> Option<Ended> {
        Some(Ended { code: Some(code), signal: None, by, duration_ms: 1, left: None })
    }

    fn state(word: &str) -> Option<State> {
        Some(State { word: word.into(), reason: String::new() })
    }

    fn short(fate: &Fate) -> &'static str {
        match fate {
            Fate::Reported(_) => "reported",
            Fate::Limit(_) => "limit",
            Fate::Lost(_) => "lost",
            Fate::Refused(_) => "refused",
            Fate::Withdrawn => "withdrawn",
        }
    }

    #[test]
    fn clu_3_an_end_is_what_its_node_and_slurm_say_and_never_sruns_code() {
        let run = |ended: Option<Ended>, word: &str, code: i32| Known {
            ended,
            started: true,
            state: if word.is_empty() { None } else { state(word) },
            code: Some(code),
            ..Known::default()
        };
        for (known, expected) in [
            (run(ended(By::Itself, 0), "COMPLETED", 0), "reported"),
            (run(ended(By::Itself, 3), "FAILED", 3), "reported"),
            (run(ended(By::Itself, 2), "COMPLETED", 0), "reported"),
            (run(ended(By::Wall, 143), "COMPLETING", 0), "reported"),
            // The controller is unavailable: the node's report is enough.
            (run(ended(By::Itself, 0), "", 0), "reported"),
            // srun exited with 0 for each of these.
            (run(None, "CANCELLED", 0), "lost"),
            (run(None, "TIMEOUT", 0), "limit"),
            (run(None, "PREEMPTED", 0), "lost"),
            (run(None, "NODE_FAIL", 0), "lost"),
            (run(None, "BOOT_FAIL", 1), "lost"),
            (run(None, "", 0), "lost"),
            // A preempted agent that exits 0 on TERM is COMPLETED.
            (run(ended(By::Slurm, 0), "COMPLETED", 0), "lost"),
            (run(ended(By::Slurm, 143), "CANCELLED", 143), "lost"),
            (run(ended(By::Slurm, 143), "TIMEOUT", 143), "limit"),
            (run(ended(By::Silence, 143), "COMPLETED", 0), "lost"),
            // The parent of a child that was killed for memory exits 0.
            (run(ended(By::Itself, 0), "OUT_OF_MEMORY", 0), "limit"),
            (run(None, "OUT_OF_MEMORY", 1), "limit"),
            (run(ended(By::Bound("memory".into()), 137), "COMPLETED", 0), "reported"),
            (Known { asked: true, ..run(ended(By::Stop, 137), "CANCELLED", 0) }, "reported"),
            (Known { asked: true, ..run(ended(By::Slurm, 137), "CANCELLED", 0) }, "reported"),
        ] {
            let found = fate(&known);
            assert_eq!(short(&found), expected, "{known:?}: {found:?}");
        }
    }

    #[test]
    fn clu_4_a_job_that_never_ran_is_the_environments_unless_it_was_taken_back() {
        let none = |code: Option<i32>, said: &str| Known { code, said: said.into(), ..Known::default() };
        let asked = Known { asked: true, ..none(Some(143), "") };
        for (known, expected, text) in [
            (none(Some(OWN_FAULT), "invalid partition specified: x"), "refused", "invalid partition"),
            (none(Some(1), "Requested node configuration is not available"), "refused", "not available"),
            (none(Some(2), "execve(): No such file or directory"), "refused", "slurm.work_dir"),
            (none(Some(0), ""), "refused", "slurm.work_dir"),
            (Known { state: state("CANCELLED"), ..none(Some(0), "") }, "lost", "cancelled"),
            (Known { state: state("BOOT_FAIL"), ..none(Some(0), "") }, "lost", "BOOT_FAIL"),
            (asked, "withdrawn", "Withdrawn"),
        ] {
            let found = fate(&known);
            assert_eq!(short(&found), expected, "{known:?}: {found:?}");
            assert!(format!("{found:?}").contains(text), "{found:?}");
        }
        for (reason, never) in [
            ("PartitionConfig", true),
            ("(DependencyNeverSatisfied)", true),
            ("Job's account not known, so it can't use this partition (closed allows team)", true),
            ("Job's account not permitted to use this partition (closed allows team not x)", true),
            ("Job's QOS not permitted to use this partition (closed allows high not low)", true),
            ("Resources", false),
            ("Priority", false),
            ("(ReqNodeNotAvail, UnavailableNodes:n1)", false),
            ("None", false),
            ("Dependency", false),
        ] {
            assert_eq!(never_starts(reason), never, "{reason}");
        }
    }
}
