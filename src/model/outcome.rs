//! What an agent's runtime did, as its adapter read it (RUN-5, RUN-7). `decide` turns it into the job's next state.

use super::redact::Redactor;
use super::stage::words;
use serde::{Deserialize, Serialize};

words! {
    /// The programs that can run an agent; `kind` of a runtime in the configuration.
    RuntimeKind {
        Claude = "claude",
        Command = "command",
        Codex = "codex",
        Gemini = "gemini",
        OpenCode = "opencode",
    }
}

impl RuntimeKind {
    /// Whether it talks to a model on the network.
    pub fn needs_a_model(self) -> bool {
        self != Self::Command
    }

    /// Whether a key that its environment names may be missing: a subscription's login replaces it.
    pub fn may_lack_a_key(self) -> bool {
        self == Self::Claude
    }

    /// The service it talks to, `HOST:PORT`, and the variable that names another one; `None`: unknown.
    pub fn service(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Claude => Some(("ANTHROPIC_BASE_URL", "api.anthropic.com:443")),
            Self::Codex => Some(("OPENAI_BASE_URL", "api.openai.com:443")),
            Self::Gemini => Some(("GOOGLE_GEMINI_BASE_URL", "generativelanguage.googleapis.com:443")),
            Self::OpenCode | Self::Command => None,
        }
    }

    /// Whether its agents can be kept from starting programs, so that a judge runs nothing of what it judges (R1). With
    /// the others the review is shown as not independent.
    pub fn starts_nothing_for_a_judge(self) -> bool {
        match self {
            Self::Claude => true,
            Self::Command | Self::Codex | Self::Gemini | Self::OpenCode => false,
        }
    }
}

/// How a run ended. Only `Ended` makes its artefacts evidence (RULE-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Successfully, by the rule of its runtime. Only the gate says whether the work is done.
    Ended,
    /// For its own reasons: an error, a turn limit, a wrong command line.
    Failed,
    /// The account's window is used up: spends no attempt (RUN-7). `until_ms`: wall time of the reset, if given.
    UsageLimit { until_ms: Option<i64> },
    /// The service is overloaded, broken or unavailable: spends no attempt (RUN-7).
    Overloaded { until_ms: Option<i64> },
    /// It has no login, or one that is refused, and did nothing (ORD-1): spends no attempt.
    NoLogin,
    /// From outside: by a limit of ours, a stop, or somebody else's signal.
    Killed,
}

impl Kind {
    /// Whether the run spends no attempt and its credential goes into cool-down (RUN-7).
    pub fn is_limit(self) -> bool {
        match self {
            Self::UsageLimit { .. } | Self::Overloaded { .. } => true,
            Self::Ended | Self::Failed | Self::Killed | Self::NoLogin => false,
        }
    }

    /// When the limit is lifted (wall time), if there is one and the runtime said so.
    pub fn until_ms(self) -> Option<i64> {
        match self {
            Self::UsageLimit { until_ms } | Self::Overloaded { until_ms } => until_ms,
            Self::Ended | Self::Failed | Self::Killed | Self::NoLogin => None,
        }
    }
}

/// The full record of one run. Everything the runtime did not say is `None`, never zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub kind: Kind,
    /// For people and for the next prompt; one line.
    pub why: String,
    /// What this run cost, in millionths of a US dollar; `None`: unknown (RULE-25 then books the cap).
    pub cost_micros: Option<i64>,
    /// Tokens read, including those from and into caches.
    pub tokens_in: Option<i64>,
    pub tokens_out: Option<i64>,
    pub turns: Option<i64>,
    /// The model that did the work, as the runtime names it.
    pub model: Option<String>,
    pub session: Option<String>,
    /// What the session has cost so far: the next resume of it compares with this.
    pub session_total_micros: Option<i64>,
    /// Tool calls that were not permitted, shortened.
    pub denials: Vec<String>,
    /// The agent's last words, shortened.
    pub text: Option<String>,
}

impl Outcome {
    /// The same without secrets, since the agent wrote each text. Redacted only after parsing, because a value may look
    /// like part of an event; the texts are shortened.
    pub fn redacted(mut self, known: &Redactor) -> Self {
        let all = [Some(&mut self.why), self.text.as_mut(), self.model.as_mut(), self.session.as_mut()];
        for text in all.into_iter().flatten().chain(&mut self.denials) {
            *text = known.cut_text(text);
        }
        self
    }

    /// An outcome of which only its end is known.
    pub fn bare(kind: Kind, why: impl Into<String>) -> Self {
        Self {
            kind,
            why: why.into(),
            cost_micros: None,
            tokens_in: None,
            tokens_out: None,
            turns: None,
            model: None,
            session: None,
            session_total_micros: None,
            denials: Vec::new(),
            text: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_what_was_said() {
        let all = [
            Kind::Ended,
            Kind::Failed,
            Kind::Killed,
            Kind::NoLogin,
            Kind::UsageLimit { until_ms: Some(7) },
            Kind::Overloaded { until_ms: None },
        ];
        for kind in all {
            let reported = Outcome { tokens_in: Some(3), ..Outcome::bare(kind, "why") };
            let row = serde_json::to_string(&reported).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&row).unwrap(), reported, "{row}");
        }
        let row = serde_json::to_value(Outcome::bare(Kind::UsageLimit { until_ms: Some(7) }, "x")).unwrap();
        assert_eq!((&row["kind"], &row["until_ms"]), (&"usage_limit".into(), &7.into()));
    }
}
