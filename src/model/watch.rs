//! The post-deploy watch's journal: the content of `post-deploy.json` (SHIP-6). Any later step can resume from it.

use super::stage::words;
use super::time::Stamp;
use serde::{Deserialize, Serialize};

/// The schema this program writes and reads; another one is never treated as absent (CFG-3).
pub const SCHEMA: u32 = 1;

/// The maximum number of probes in one record, whatever window and interval say.
pub const MAX_PROBES: u64 = 20_000;

words! {
    /// `post_deploy_status` of `16-post-deploy-log.md`.
    WatchStatus {
        Healthy = "HEALTHY",
        Degraded = "DEGRADED",
        Inconclusive = "INCONCLUSIVE",
        Cancelled = "CANCELLED",
    }
}

words! {
    /// The watch over what a task deployed.
    Watch {
        Armed = "armed",
        Healthy = "healthy",
        Degraded = "degraded",
        Inconclusive = "inconclusive",
        Cancelled = "cancelled",
    }
}

impl From<WatchStatus> for Watch {
    fn from(status: WatchStatus) -> Self {
        match status {
            WatchStatus::Healthy => Self::Healthy,
            WatchStatus::Degraded => Self::Degraded,
            WatchStatus::Inconclusive => Self::Inconclusive,
            WatchStatus::Cancelled => Self::Cancelled,
        }
    }
}

/// What the whole record says so far.
#[derive(Debug, Clone, PartialEq)]
pub enum Classification {
    /// The window is not over, and nothing ended it early.
    Pending,
    Healthy {
        why: String,
    },
    Degraded {
        why: String,
    },
    Inconclusive {
        why: String,
    },
    /// A newer deploy of the same project took over.
    Cancelled {
        why: String,
    },
}

impl Classification {
    /// The word for files and JSON; `None` while pending.
    pub fn status(&self) -> Option<WatchStatus> {
        match self {
            Self::Pending => None,
            Self::Healthy { .. } => Some(WatchStatus::Healthy),
            Self::Degraded { .. } => Some(WatchStatus::Degraded),
            Self::Inconclusive { .. } => Some(WatchStatus::Inconclusive),
            Self::Cancelled { .. } => Some(WatchStatus::Cancelled),
        }
    }

    /// The rule that decided, in one sentence.
    pub fn why(&self) -> &str {
        match self {
            Self::Pending => "the window has not ended",
            Self::Healthy { why } | Self::Degraded { why } | Self::Inconclusive { why } | Self::Cancelled { why } => {
                why
            }
        }
    }
}

/// How a watch is judged. [`WatchPolicy::sane`] replaces numbers that make no sense by the nearest that do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchPolicy {
    pub window_s: u64,
    pub interval_s: u64,
    /// Failed health probes in a row that make DEGRADED.
    pub fail_threshold: u32,
    /// Share of 5xx (0.05 = 5 %) that must be exceeded.
    pub share_5xx: f64,
    /// Fewer requests than this say nothing about a share.
    pub min_requests: u64,
    /// (k, m): k failures among the last m probes.
    pub k_of_m: Option<(u32, u32)>,
}

impl Default for WatchPolicy {
    fn default() -> Self {
        Self { window_s: 900, interval_s: 60, fail_threshold: 3, share_5xx: 0.05, min_requests: 20, k_of_m: None }
    }
}

impl WatchPolicy {
    /// Fewer errors than this are no trend, whatever their share (SHIP-6).
    pub const MIN_ERRORS: f64 = 3.0;

    /// The policy with every number in its range.
    #[must_use]
    pub fn sane(&self) -> Self {
        let share = if self.share_5xx.is_finite() { self.share_5xx.clamp(0.0, 1.0) } else { 0.05 };
        Self {
            window_s: self.window_s,
            interval_s: self.interval_s.max(1),
            fail_threshold: self.fail_threshold.max(1),
            share_5xx: share,
            min_requests: self.min_requests.max(1),
            k_of_m: self.k_of_m.filter(|(k, _)| *k > 0).map(|(k, m)| (k, m.max(k))),
        }
    }

    /// How many probes a full window has, at least one.
    pub fn expected(&self) -> u64 {
        (self.window_s / self.interval_s.max(1)).clamp(1, MAX_PROBES)
    }
}

/// Everything known of one watch. Written whole, atomically, after each probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchRecord {
    pub schema: u32,
    /// The task's row id (RULE-9).
    pub task: i64,
    pub attempt: u32,
    /// The deploy's id (task, attempt, fence: RULE-35).
    pub deploy_id: String,
    /// The commit that was deployed; `None`: nobody knows, and revisions are not compared.
    pub revision: Option<String>,
    pub armed_at: Stamp,
    /// Taken before the deploy.
    #[serde(default)]
    pub baseline: Vec<Probe>,
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// Why it is DEGRADED; never withdrawn once set.
    #[serde(default)]
    pub latched: Option<String>,
    /// The id of the newer deploy that ended this watch.
    #[serde(default)]
    pub superseded_by: Option<String>,
    /// The one rollback command, once it was started; `exit` once it ended.
    #[serde(default)]
    pub rollback: Option<RollbackRun>,
}

/// The project's rollback command, started at most once for a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRun {
    pub started_at: Stamp,
    pub exit: Option<i32>,
}

/// Why a record can't be used; the step that needs it stops for that task (CFG-3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    #[error("post-deploy.json can't be read: {0}")]
    Broken(String),
    #[error("post-deploy.json has schema {0}, this program reads {SCHEMA}; use the version that wrote it")]
    Schema(u64),
    #[error("post-deploy.json belongs to task {0} attempt {1}")]
    OtherTask(i64, u32),
}

impl WatchRecord {
    /// A watch just armed, with what was seen before the deploy.
    pub fn armed(
        task: i64,
        attempt: u32,
        deploy_id: &str,
        revision: Option<&str>,
        at: Stamp,
        baseline: Vec<Probe>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            task,
            attempt,
            deploy_id: deploy_id.to_owned(),
            revision: revision.map(str::to_owned),
            armed_at: at,
            baseline,
            probes: Vec::new(),
            latched: None,
            superseded_by: None,
            rollback: None,
        }
    }

    /// Reads a record of exactly this task and attempt. Anything else in its place is an error, never "no watch".
    pub fn parse(text: &str, task: i64, attempt: u32) -> Result<Self, BadRecord> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| BadRecord::Broken(e.to_string()))?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(n) if n == u64::from(SCHEMA) => {}
            Some(n) => return Err(BadRecord::Schema(n)),
            None => return Err(BadRecord::Broken("it has no schema number".into())),
        }
        let record: Self = serde_json::from_value(value).map_err(|e| BadRecord::Broken(e.to_string()))?;
        if record.task == task && record.attempt == attempt {
            Ok(record)
        } else {
            Err(BadRecord::OtherTask(record.task, record.attempt))
        }
    }
}

/// One observation of everything the project declares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    pub at: Stamp,
    pub health: Vec<HealthAnswer>,
    /// `None`: the project does not declare how to ask.
    #[serde(default)]
    pub revision: Option<RevisionAnswer>,
    #[serde(default)]
    pub errors: ErrorReading,
    #[serde(default)]
    pub control: ControlAnswer,
}

/// What one health URL answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthAnswer {
    pub url: String,
    pub outcome: HealthOutcome,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    pub latency_ms: u64,
    pub detail: String,
}

words! {
    /// What an answer (or none) says. The control target decides whether a missing answer counts as a failure.
    HealthOutcome {
        Ok = "ok",
        BadStatus = "bad_status",
        BadBody = "bad_body",
        TooSlow = "too_slow",
        /// The host answered, by refusing or by cutting the connection.
        Refused = "refused",
        Timeout = "timeout",
        /// The certificate or the handshake was wrong.
        Tls = "tls",
        /// No name, no route: may well be this machine's trouble.
        NoNetwork = "no_network",
        /// The probe itself could not be made (a malformed URL, an error inside the monitor).
        NotMade = "not_made",
    }
}

/// What the control target says about this machine's own network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlAnswer {
    /// None is declared, or there was no reason to ask it.
    #[default]
    NotAsked,
    Reached,
    Unreached,
}

/// The revision the service says it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevisionAnswer {
    Is(String),
    /// No answer, and why; never a failure of the service.
    None(String),
}

/// What the error source said at this probe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorReading {
    /// The probe's own responses are the source.
    #[default]
    Own,
    /// Counters that only grow; a drop is a restart of the counting process.
    Counters(Counts),
    /// What happened in the source's own window, such as `increase(…[1m])`: each reading counts on its own.
    Window(Counts),
    /// The source is declared and said nothing usable, and why.
    NoData(String),
}

/// Requests and 5xx answers since some start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub requests: f64,
    pub errors_5xx: f64,
}

impl Counts {
    /// Two numbers from outside: both finite, not negative, and no more errors than requests; else why not.
    pub fn believed(requests: f64, errors_5xx: f64) -> Result<Self, String> {
        let fine = |n: f64| n.is_finite() && (0.0..=1e15).contains(&n);
        if !fine(requests) || !fine(errors_5xx) {
            return Err(format!("{requests} requests and {errors_5xx} errors are not valid counts"));
        }
        if errors_5xx > requests {
            return Err(format!("{errors_5xx} errors of only {requests} requests"));
        }
        Ok(Self { requests, errors_5xx })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Stamp {
        Stamp { wall_ms: 1, mono_ms: 1, boot_id: "b".into() }
    }

    #[test]
    fn a_record_is_read_back_and_never_for_another_task() {
        let mut r = WatchRecord::armed(7, 2, "7-2-1", Some("abc"), at(), vec![]);
        r.probes.push(Probe {
            at: at(),
            health: vec![],
            revision: Some(RevisionAnswer::None("x".into())),
            errors: ErrorReading::Counters(Counts { requests: 1.0, errors_5xx: 0.0 }),
            control: ControlAnswer::Reached,
        });
        let text = serde_json::to_string(&r).unwrap();
        assert_eq!(WatchRecord::parse(&text, 7, 2), Ok(r));
        assert_eq!(WatchRecord::parse(&text, 8, 2), Err(BadRecord::OtherTask(7, 2)));
        assert_eq!(WatchRecord::parse(&text.replace("\"schema\":1", "\"schema\":9"), 7, 2), Err(BadRecord::Schema(9)));
        for broken in ["", "{", "[]", "null", "{\"schema\":1}", "{\"schema\":\"1\"}"] {
            assert!(matches!(WatchRecord::parse(broken, 7, 2), Err(BadRecord::Broken(_))), "{broken}");
        }
    }

    #[test]
    fn impossible_counts_are_not_believed() {
        for (r, e) in [(-1.0, 0.0), (1.0, -1.0), (f64::NAN, 0.0), (f64::INFINITY, 0.0), (1.0, 2.0)] {
            assert!(Counts::believed(r, e).is_err());
        }
        assert!(Counts::believed(0.0, 0.0).is_ok());
    }

    #[test]
    fn a_policy_of_zeros_still_expects_one_probe() {
        let p =
            WatchPolicy { window_s: 0, interval_s: 0, fail_threshold: 0, k_of_m: Some((4, 2)), ..Default::default() };
        assert_eq!(p.expected(), 1);
        let p = p.sane();
        assert_eq!((p.interval_s, p.fail_threshold, p.k_of_m), (1, 1, Some((4, 4))));
    }
}
