//! What a failed call to GitHub means (services-github §1, §2): it reports limits both as 403 and as 429.

use crate::adapters::http::{HttpError, Response};
use serde_json::Value;

/// A failed exchange, with the details that only GitHub gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{http}")]
pub struct Failure {
    pub http: Box<HttpError>,
    /// The missing permission, if a 403 names it.
    pub lacks: Option<String>,
    /// Nothing was sent: only `github.reserve` is left, and the call is not urgent.
    pub reserved: bool,
}

impl From<HttpError> for Failure {
    fn from(http: HttpError) -> Self {
        Self { http: Box::new(http), lacks: None, reserved: false }
    }
}

/// The message of an answer and those of its `errors`, on one line of at most 300 characters; empty if it has none.
pub fn said(e: &HttpError) -> String {
    let v = e.json();
    let first = v.get("message").and_then(Value::as_str).unwrap_or("").to_owned();
    let further = v.get("errors").and_then(Value::as_array).into_iter().flatten();
    // Objects or texts.
    let further = further.filter_map(|e| e.as_str().or_else(|| e.get("message").and_then(Value::as_str)));
    let all: Vec<String> = std::iter::once(first)
        .chain(further.map(str::to_owned))
        .map(|t| t.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|t| !t.is_empty())
        .collect();
    all.join(": ").chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Whether an answer is a limit, and for how long (`Some(None)`: unknown). Any other 403 is about a permission.
pub(super) fn asks_to_wait(reply: &Response) -> Option<Option<u64>> {
    if ![403, 429].contains(&reply.status) {
        return None;
    }
    let retry = reply.retry_after_s();
    let used_up = reply.header_u64("x-ratelimit-remaining") == Some(0);
    let words = reply.text().to_lowercase().contains("rate limit");
    if retry.is_none() && !used_up && !words && reply.status != 429 {
        return None;
    }
    let reset = || {
        let at = i64::try_from(reply.header_u64("x-ratelimit-reset")?).ok()?;
        let now = jiff::fmt::rfc2822::parse(reply.header("date")?).ok()?.timestamp().as_second();
        u64::try_from(at.saturating_sub(now).max(1)).ok()
    };
    Some(retry.or_else(|| if used_up { reset() } else { None }))
}
