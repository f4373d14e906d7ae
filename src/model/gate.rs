//! The gates by name, and what else an evidence row can be about.

use super::stage::words;

words! {
    /// The gates and sub-gates by name: the one registry, through which `explain`, `advance` and `--dry-run` evaluate.
    Gate {
        AnalysisComplete = "analysis_complete",
        AnalysisApproved = "analysis_approved",
        ArchitectureDone = "architecture_done",
        BranchPushed = "branch_pushed",
        CiGreen = "ci_green",
        ReviewVerdict = "review_verdict",
        TestsVerdict = "tests_verdict",
        StagingStatus = "staging_status",
        SecurityGate = "security_gate",
        BranchMergeable = "branch_mergeable",
        StagingImageFresh = "staging_image_fresh",
        DeployBuild = "deploy_build",
        DeployStatus = "deploy_status",
    }
}

/// What an evidence row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    Gate(Gate),
    /// How one head came from another.
    Carry,
    /// Which contents of the analysis a person approved, or that one of them changed since (BND-5).
    Approved,
    /// The verdict inputs of one head (BND-5).
    Inputs,
}

impl Subject {
    /// The word of its row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gate(gate) => gate.as_str(),
            Self::Carry => "carry",
            Self::Approved => "approved",
            Self::Inputs => "verdict_inputs",
        }
    }

    /// Reads the word back; anything else is `None`.
    pub fn parse(word: &str) -> Option<Self> {
        let own = [Self::Carry, Self::Approved, Self::Inputs].into_iter().find(|s| s.as_str() == word);
        own.or_else(|| Gate::parse(word).map(Self::Gate))
    }

    /// The gate that the row answers, if it answers one.
    pub fn gate(self) -> Option<Gate> {
        match self {
            Self::Gate(gate) => Some(gate),
            Self::Carry | Self::Approved | Self::Inputs => None,
        }
    }
}

impl From<Gate> for Subject {
    fn from(gate: Gate) -> Self {
        Self::Gate(gate)
    }
}

impl PartialEq<Gate> for Subject {
    fn eq(&self, gate: &Gate) -> bool {
        self.gate() == Some(*gate)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_a_row_is_read_back_from_its_word_alone() {
        let gates = Gate::ALL.iter().map(|g| Subject::Gate(*g));
        for subject in gates.chain([Subject::Carry, Subject::Approved, Subject::Inputs]) {
            assert_eq!(Subject::parse(subject.as_str()), Some(subject));
        }
        assert_eq!(Subject::parse("deploy"), None);
    }
}
