//! A task's critical window (RULE-16): while it is open, a recorded stop waits.

use serde::{Serialize, Serializer};
use std::fmt;

/// What is under way outside the database; `Display` names it for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Window {
    /// `orch`'s own update of the branch.
    Update,
    /// The deploy of this id: from INITIATED to its result.
    Deploy { id: String },
}

impl Window {
    /// The word of its row.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Deploy { .. } => "deploy",
        }
    }

    /// The deploy whose window it is.
    pub fn deploy(&self) -> Option<&str> {
        match self {
            Self::Update => None,
            Self::Deploy { id } => Some(id),
        }
    }

    /// Reads its row; a word or a combination that no window has gives `None`.
    pub fn from_row(word: &str, deploy: Option<String>) -> Option<Self> {
        match (word, deploy) {
            ("update", None) => Some(Self::Update),
            ("deploy", Some(id)) => Some(Self::Deploy { id }),
            _ => None,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Update => f.write_str("update"),
            Self::Deploy { id } => write!(f, "deploy {id}"),
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_16_a_window_is_read_back_as_it_was_written_and_from_nothing_else() {
        for window in [Window::Update, Window::Deploy { id: "7-2-3".to_owned() }] {
            let read = Window::from_row(window.word(), window.deploy().map(str::to_owned));
            assert_eq!(read.as_ref(), Some(&window));
        }
        assert_eq!(Window::from_row("update", Some("7-2-3".to_owned())), None);
        assert_eq!(Window::from_row("deploy", None), None);
        assert_eq!(Window::from_row("deploy 7-2-3", None), None);
    }
}
