//! The status of its board with which a person answers a question (RULE-14).

use super::board::{Intent, Logical};
use super::task::Waiting;

/// The names of the statuses that answer a question on a project's board; `None`: no status of the board steers, and
/// only a command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    pub approved: Option<String>,
    pub confirm_deploy: Option<String>,
}

impl Answers {
    /// The status that answers this wait.
    pub fn to(&self, waiting: Waiting) -> Option<&str> {
        match waiting {
            Waiting::Approval => self.approved.as_deref(),
            Waiting::ConfirmDeploy => self.confirm_deploy.as_deref(),
        }
    }
}

impl Default for Answers {
    /// The default names.
    fn default() -> Self {
        let name = |l: Logical| Some(l.default_name().to_owned());
        Self { approved: name(Intent::Approved.logical()), confirm_deploy: name(Intent::ConfirmDeploy.logical()) }
    }
}
