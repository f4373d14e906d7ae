//! What the developer has to fix, and where it comes from (PIPE-3).

use super::gate::Gate;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a finding comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Origin {
    Review,
    Tests,
    Ci,
    Security,
    MergeConflict,
    Staging,
    DeployBuild,
    Deploy,
    Person,
    /// A gate whose row contains no readable finding.
    Gate(Gate),
}

impl Origin {
    const NAMED: [Self; 9] = [
        Self::Review,
        Self::Tests,
        Self::Ci,
        Self::Security,
        Self::MergeConflict,
        Self::Staging,
        Self::DeployBuild,
        Self::Deploy,
        Self::Person,
    ];

    /// As people and rows have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Tests => "tests",
            Self::Ci => "ci",
            Self::Security => "security",
            Self::MergeConflict => "merge conflict",
            Self::Staging => "staging",
            Self::DeployBuild => "deploy.build",
            Self::Deploy => "deploy",
            Self::Person => "a person",
            Self::Gate(gate) => gate.as_str(),
        }
    }

    /// Reads it back; any other text is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let named = Self::NAMED.into_iter().find(|o| o.as_str() == text);
        named.or_else(|| Gate::parse(text).map(Self::Gate))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Origin> for &'static str {
    fn from(origin: Origin) -> Self {
        origin.as_str()
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not where a finding can come from"))
    }
}

/// One thing to fix, handed to the developer verbatim under its source (PIPE-3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub source: Origin,
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipe_3_a_finding_is_read_back_with_its_origin_and_from_nothing_else() {
        let gates = Gate::ALL.iter().map(|g| Origin::Gate(*g));
        for source in Origin::NAMED.into_iter().chain(gates) {
            let finding = Finding { source, text: "t".to_owned() };
            let text = serde_json::to_string(&finding).unwrap();
            assert_eq!(serde_json::from_str::<Finding>(&text).unwrap(), finding, "{text}");
        }
        assert!(serde_json::from_str::<Finding>(r#"{"source":"somebody","text":""}"#).is_err());
    }
}
