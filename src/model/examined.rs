//! What `orch doctor` finds out about one thing it checks, wherever that is: an edge reports about itself.

use super::stage::words;

words! {
    /// The level of a check.
    Level { Ok = "ok", Warning = "warning", Failed = "failed" }
}

/// One thing that an edge reports about itself.
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
