//! What a staging check is, what it answered, and the result of the whole list (SHIP-3).

use super::stage::words;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

words! {
    /// Whose fault a failure of the check would be. A word outside the list is read as `UNKNOWN`: it never passes.
    CheckClass {
        Real = "REAL",
        SandboxInfra = "SANDBOX_INFRA",
        Unknown = "UNKNOWN",
    }
}

words! {
    /// What one check answered.
    CheckOutcome {
        Pass = "PASS",
        /// It was checked, and is not as declared.
        Fail = "FAIL",
        /// It could not be checked: a program is missing, a declaration can't be used.
        Error = "ERROR",
        /// Declared, but not run (the step was interrupted).
        NotRun = "NOT_RUN",
        /// A word outside this list.
        Unknown = "UNKNOWN",
    }
}

words! {
    /// `staging_status` of `15-staging-log.md`, and the last line of `orch staging-check`.
    StagingStatus {
        Success = "SUCCESS",
        Failed = "FAILED",
    }
}

/// One entry of the result list. Its public shape is `{id, class, result, detail, time_ms}`, in declared order; the
/// self-hosting suite's B6 checks it ([`CheckResult::FIELDS`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    pub id: String,
    pub class: CheckClass,
    pub result: CheckOutcome,
    /// What was seen, in one line, cut to [`CheckResult::DETAIL_CHARS`] characters. No secret.
    pub detail: String,
    pub time_ms: u64,
    /// Its name for people: shown next to the id in text, JUnit and the log, and not part of the public shape.
    #[serde(skip)]
    pub name: Option<String>,
}

impl CheckResult {
    /// The names that scripts rely on, in this order.
    pub const FIELDS: [&'static str; 5] = ["id", "class", "result", "detail", "time_ms"];
    /// How much of an answer is kept, in characters.
    pub const DETAIL_CHARS: usize = 400;
    /// How much of a name is kept, in characters.
    pub const NAME_CHARS: usize = 80;

    /// An entry with its detail reduced to one bounded line.
    pub fn new(id: &str, class: CheckClass, result: CheckOutcome, detail: &str, time_ms: u64) -> Self {
        Self { id: id.to_owned(), class, result, detail: one_line(detail, Self::DETAIL_CHARS), time_ms, name: None }
    }

    /// The same with a name, reduced to one bounded line.
    #[must_use]
    pub fn named(self, name: Option<&str>) -> Self {
        Self { name: name.map(|n| one_line(n, Self::NAME_CHARS)).filter(|n| !n.is_empty()), ..self }
    }

    /// `S1`, or `S1: the shop answers`.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.id.clone(), |name| format!("{}: {name}", self.id))
    }
}

/// White space and control characters become single blanks; at most `max` characters are kept, and `…` marks a cut.
pub fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = count > 0;
            continue;
        }
        if gap {
            line.push(' ');
            count += 1;
            gap = false;
        }
        if count >= max {
            line.push('…');
            break;
        }
        line.push(c);
        count += 1;
    }
    line
}

/// One entry of the allow-list `sandbox_infra`: the only way to class SANDBOX_INFRA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowance {
    /// The check it is for.
    pub id: String,
    /// Only a failure whose detail contains this text (letter case aside) is waived; `None`: any failure.
    pub signature: Option<String>,
    pub owner: Option<String>,
    /// Last day on which it is valid.
    pub expires: Option<Date>,
}

impl Allowance {
    /// An entry without signature, owner or expiry.
    pub fn of(id: &str) -> Self {
        Self { id: id.to_owned(), signature: None, owner: None, expires: None }
    }
}

/// A failure that did not count, and why it did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    pub id: String,
    pub reason: String,
}

/// The result of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagingVerdict {
    pub status: StagingStatus,
    /// In declared order; may appear together with FAILED when something else failed too.
    pub waived: Vec<Waived>,
    /// Why it is FAILED, one sentence each; empty for SUCCESS.
    pub because: Vec<String>,
}

impl StagingVerdict {
    /// The reason a check was waived for, if it was.
    pub fn waiver(&self, id: &str) -> Option<&str> {
        self.waived.iter().find(|w| w.id == id).map(|w| w.reason.as_str())
    }
}

/// What the self-hosting suite needs to know and can't find out on its own: supplied by the caller, judged by
/// `decide::staging::self_hosting` (SHIP-3). `None`: nobody checked, which fails the check as an ERROR.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelfHostingFacts {
    /// A1: the release's own binary says its version.
    pub binary: Option<Fact>,
    /// A2: its configuration is read without a fault.
    pub config: Option<Fact>,
    /// A3: the database opens, on a copy.
    pub database_opens: Option<Fact>,
    /// A4: the copy migrates to the binary's schema.
    pub database_migrates: Option<Fact>,
    /// B1: the board answers with the credentials.
    pub board: Option<Fact>,
    /// B2: the forge answers with the credentials.
    pub forge: Option<Fact>,
    /// B3: the notifier answers with the credentials.
    pub notifier: Option<Fact>,
    /// B4: every board status resolves.
    pub statuses: Option<Fact>,
    /// B5: every intent resolves.
    pub intents: Option<Fact>,
    /// C9a: the sandbox work item's branch appeared.
    pub sandbox_branch: Option<Fact>,
    /// C9b: the sandbox work item's analyst job is queued.
    pub sandbox_job: Option<Fact>,
}

/// One checked fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub holds: bool,
    pub detail: String,
    pub time_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_list_keeps_its_public_shape() {
        let r = CheckResult::new("S1", CheckClass::SandboxInfra, CheckOutcome::NotRun, " a\n\tb ", 7);
        assert_eq!(
            serde_json::to_string(&r).unwrap(),
            r#"{"id":"S1","class":"SANDBOX_INFRA","result":"NOT_RUN","detail":"a b","time_ms":7}"#
        );
    }

    #[test]
    fn a_long_answer_is_cut_at_a_character() {
        assert_eq!(one_line(&"ä".repeat(9), 4), "ääää…");
        assert_eq!(one_line("ab", 2), "ab");
        assert_eq!(one_line("", 2), "");
    }
}
