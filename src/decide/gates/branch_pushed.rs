//! `branch_pushed`: this attempt pushed a commit that changes something outside `docs/work-items/`.

use super::Facts;
use super::verdict::{Judged, Reading, Verdict};
use crate::model::decision::Answer;
use crate::model::gate::Gate;
use crate::model::ids::Sha;
use std::collections::BTreeSet;

/// The row that the run's finalizing recorded, or one more run.
pub fn gate(f: &Facts<'_>) -> Answer {
    f.by_agent(Gate::BranchPushed)
}

/// The verdict on a developer's run that was pushed as `head`; `changed`: every path that it changed.
pub fn judged(head: &Sha, moved: bool, changed: &BTreeSet<String>) -> Judged {
    let code = changed.iter().filter(|p| !p.starts_with("docs/work-items/")).count();
    let reading = if !moved || code == 0 {
        let why = "nothing outside docs/work-items/ was changed".to_owned();
        Reading { verdict: Verdict::None(why.clone()), why }
    } else {
        let files = if code == 1 { "file" } else { "files" };
        Reading { verdict: Verdict::Pass, why: format!("{} pushed, {code} {files} of code changed", head.short()) }
    };
    Judged { reading, findings: Vec::new(), faults: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::sha;
    use crate::model::evidence::EvidenceVerdict;

    #[test]
    fn pipe_4_a_developer_has_worked_once_code_is_pushed_that_no_document_is() {
        let of = |moved, paths: &[&str]| {
            judged(&sha('a'), moved, &paths.iter().map(|p| (*p).to_owned()).collect()).answer(true)
        };
        assert_eq!(of(true, &["src/a.rs", "docs/work-items/X-1/01-brief.md"]).0, EvidenceVerdict::Pass);
        assert!(of(true, &["src/a.rs"]).1.contains("1 file of code"));
        assert!(of(true, &["src/a.rs", "b"]).1.contains("2 files of code"));
        for (moved, paths) in [(true, &["docs/work-items/X-1/01-brief.md"][..]), (false, &["src/a.rs"]), (true, &[])] {
            assert_eq!(of(moved, paths).0, EvidenceVerdict::Missing, "{moved} {paths:?}");
        }
    }
}
