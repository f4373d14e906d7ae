//! The rules of a branch on a forge, as far as they affect what `orch` does there (GH-1).

/// The active rules of one branch, of all levels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Required contexts; with the only app that may answer, if the rule pins one.
    pub checks: Vec<(String, Option<u64>)>,
    /// The head must contain the newest base.
    pub strict: bool,
    pub approvals: u64,
    pub code_owners: bool,
    /// Conversations must be resolved, or the last push approved by another.
    pub review: bool,
    pub signatures: bool,
    pub deployments: bool,
    pub queue: bool,
    /// Allowed merge methods; empty: all.
    pub methods: Vec<String>,
    /// The rules' types, each once, as the forge names them.
    pub types: Vec<String>,
}

/// A pull request's place in a merge queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// The pull request is merged.
    pub merged: bool,
    pub entry: Option<QueueEntry>,
    /// Entries of other pull requests.
    pub others: u64,
}

/// An entry of a merge queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEntry {
    /// In the forge's word.
    pub state: String,
    /// The tree that would land; `None`: not made yet.
    pub tree: Option<String>,
}
