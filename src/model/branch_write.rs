//! The journal's intents to write a task's branch: what was to be pushed, and from where, so that a push whose record
//! was lost is recognised as ours (RULE-11, RULE-30).

use super::ids::Sha;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One write of a branch, as it was intended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum BranchWrite {
    /// The branch was made on a commit of the default branch.
    #[serde(rename = "branch_created")]
    Created { branch: String, base: Sha },
    /// What a run left.
    #[serde(rename = "branch_pushed")]
    Pushed { branch: String, from: Sha, to: Sha },
    /// `orch`'s own update onto a commit of the default branch.
    #[serde(rename = "branch_rebased")]
    Rebased { branch: String, old: Sha, new: Sha, base: Sha },
}

impl BranchWrite {
    /// The journal's word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Created { .. } => "branch_created",
            Self::Pushed { .. } => "branch_pushed",
            Self::Rebased { .. } => "branch_rebased",
        }
    }

    /// The journal's intent.
    pub fn intent(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("kind");
        }
        value
    }

    /// From a row of the journal; `None`: the row is about something else.
    pub fn parse(kind: &str, intent: &Value) -> Option<Self> {
        let mut value = intent.clone();
        value.as_object_mut()?.insert("kind".to_owned(), json!(kind));
        serde_json::from_value(value).ok()
    }

    /// The branch that it writes.
    pub fn branch(&self) -> &str {
        match self {
            Self::Created { branch, .. } | Self::Pushed { branch, .. } | Self::Rebased { branch, .. } => branch,
        }
    }

    /// The commit that it adds to the branch, unless that is one of the default branch's.
    pub fn own_commit(&self) -> Option<&Sha> {
        match self {
            Self::Created { .. } => None,
            Self::Pushed { to, .. } => Some(to),
            Self::Rebased { new, base, .. } => Some(new).filter(|new| *new != base),
        }
    }

    /// Every commit at which it may have left the branch.
    pub fn commits(&self) -> Vec<&Sha> {
        match self {
            Self::Created { base, .. } => vec![base],
            Self::Pushed { to, .. } => vec![to],
            Self::Rebased { new, base, .. } => vec![new, base],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_30_a_write_is_read_back_and_names_what_is_ours() {
        let sha = |c: char| Sha::parse(&c.to_string().repeat(40)).unwrap();
        let branch = || "feature/x".to_owned();
        let all = [
            (BranchWrite::Created { branch: branch(), base: sha('b') }, None, vec![sha('b')]),
            (BranchWrite::Pushed { branch: branch(), from: sha('a'), to: sha('c') }, Some(sha('c')), vec![sha('c')]),
            (
                BranchWrite::Rebased { branch: branch(), old: sha('a'), new: sha('d'), base: sha('b') },
                Some(sha('d')),
                vec![sha('d'), sha('b')],
            ),
            // A branch without commits of its own is set to the base itself.
            (
                BranchWrite::Rebased { branch: branch(), old: sha('a'), new: sha('b'), base: sha('b') },
                None,
                vec![sha('b'), sha('b')],
            ),
        ];
        for (write, own, commits) in all {
            assert_eq!(BranchWrite::parse(write.kind(), &write.intent()).as_ref(), Some(&write));
            assert_eq!((write.own_commit(), write.branch()), (own.as_ref(), "feature/x"));
            assert_eq!(write.commits(), commits.iter().collect::<Vec<_>>());
            assert!(write.intent().get("kind").is_none(), "the row has it");
        }
        assert_eq!(BranchWrite::parse("pr_opened", &json!({"branch": "x"})), None);
        assert_eq!(BranchWrite::parse("branch_pushed", &json!({"branch": "x", "from": "odd"})), None);
    }
}
