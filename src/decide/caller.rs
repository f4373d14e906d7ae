//! Whether the caller of a subcommand runs inside a run whose processes follow untrusted text (BND-6).

use crate::model::act::Ancestor;
use crate::model::ids::RunId;
use crate::model::stage::JobKind;
use crate::model::task::Actor;

/// A run that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    pub id: RunId,
    pub kind: JobKind,
    pub mark: String,
    pub units: Vec<String>,
    /// Its supervisor, and who finalizes it.
    pub owners: Vec<Actor>,
}

/// Whether anything in a lineage hints at a run, of any state directory. Without a hint no database has to be read.
pub fn may_be_inside(lineage: &[Ancestor]) -> bool {
    lineage.iter().any(|f| f.supervises || !f.marks.is_empty() || f.units.iter().any(|u| u.starts_with("orch-")))
}

/// The run of the second row that the caller comes from: by its ancestors (a supervisor is a subreaper, so leaving the
/// session or the parent changes nothing), by a mark, or by a control group. `None`: it comes from none, like an
/// operator's command.
pub fn inside(lineage: &[Ancestor], runs: &[OpenRun]) -> Option<RunId> {
    let of = |run: &&OpenRun| {
        lineage.iter().enumerate().any(|(n, f)| {
            f.marks.contains(&run.mark)
                || f.units.iter().any(|unit| run.units.contains(unit))
                // The caller never counts as its own ancestor: a supervisor may call itself anything.
                || (n > 0 && run.owners.contains(&f.actor))
        })
    };
    runs.iter().filter(|r| r.kind.runs_foreign_code()).find(of).map(|r| r.id)
}

/// What of the second row the caller comes from that has no run in the database: a base check, an `orch shell`.
/// Recognised by the mark that each of its processes carries, `installation` first.
pub fn run_of(lineage: &[Ancestor], installation: &str) -> Option<&'static str> {
    let kinds = [("base", "a base check"), ("shell", "an orch shell")];
    let marks = || lineage.iter().flat_map(|f| &f.marks);
    let is = |kind: &str| marks().any(|mark| mark.starts_with(&format!("{installation}-{kind}-")));
    kinds.iter().find(|(kind, _)| is(kind)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(pid: i32) -> Actor {
        Actor { boot_id: "b".to_owned(), pid, start_ticks: 1 }
    }

    fn process(pid: i32) -> Ancestor {
        Ancestor { actor: actor(pid), marks: vec![], units: vec![], supervises: false }
    }

    fn run(kind: JobKind) -> OpenRun {
        let units = vec!["orch-a-run-7".to_owned()];
        OpenRun { id: RunId(7), kind, mark: "a-7".to_owned(), units, owners: vec![actor(50)] }
    }

    #[test]
    fn bnd_6_a_base_check_and_a_shell_are_known_by_their_marks() {
        let marked = |mark: &str| vec![process(9), Ancestor { marks: vec![mark.to_owned()], ..process(8) }];
        for (mark, expected) in [
            ("a-base-1f", Some("a base check")),
            ("a-shell-3", Some("an orch shell")),
            ("b-shell-3", None),
            ("a-7", None),
            ("check-7", None),
        ] {
            assert_eq!(run_of(&marked(mark), "a"), expected, "{mark}");
        }
    }

    #[test]
    fn a_caller_is_known_by_ancestor_mark_or_control_group() {
        let marked = Ancestor { marks: vec!["x-1".to_owned(), "a-7".to_owned()], ..process(9) };
        let other = Ancestor { marks: vec!["b-7".to_owned()], ..process(9) };
        let grouped = Ancestor { units: vec!["orch-a-run-7".to_owned()], ..process(9) };
        let again = Ancestor { actor: Actor { start_ticks: 2, ..actor(50) }, ..process(50) };
        let (me, supervisor) = (process(9), process(50));
        let table: [(&str, Vec<Ancestor>, bool); 8] = [
            ("nobody's", vec![me.clone(), process(8)], false),
            ("below the supervisor", vec![me.clone(), process(8), supervisor.clone()], true),
            ("the supervisor itself", vec![supervisor], false),
            ("another process of that number", vec![me.clone(), again], false),
            ("its own mark", vec![marked.clone(), process(8)], true),
            ("a forebear's mark", vec![me, marked], true),
            ("another installation's mark", vec![other], false),
            ("its control group", vec![grouped], true),
        ];
        for (what, lineage, expected) in table {
            for kind in [JobKind::Agent, JobKind::Ci, JobKind::Staging, JobKind::Build] {
                assert_eq!(inside(&lineage, &[run(kind)]).is_some(), expected, "{what}, {kind}");
            }
            // The operator's commands may call whatever they like.
            for kind in [JobKind::Deploy, JobKind::DeployFinalizer, JobKind::PostDeployMonitor, JobKind::Scan] {
                assert_eq!(inside(&lineage, &[run(kind)]), None, "{what}, {kind}");
            }
            assert_eq!(inside(&lineage, &[]), None, "{what}, settled");
        }
    }
}
