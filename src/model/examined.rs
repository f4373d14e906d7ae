//! What `orch doctor` finds of one thing it looks at, wherever it is found: an edge says it of itself.

use super::stage::words;

words! {
    /// How a check came out.
    Level { Ok = "ok", Warning = "warning", Failed = "failed" }
}

/// One thing that an edge was asked about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    pub name: &'static str,
    pub level: Level,
    /// What was found.
    pub message: String,
    /// How to fix it; empty where there is nothing to fix.
    pub fix: String,
}

impl Examined {
    pub fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, message: message.into(), fix: String::new() }
    }

    pub fn warn(name: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, level: Level::Warning, message: message.into(), fix: fix.into() }
    }

    pub fn fail(name: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, level: Level::Failed, message: message.into(), fix: fix.into() }
    }
}
