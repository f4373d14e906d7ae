//! One GET of a probe. A 3xx counts as its status (TRUST-3); kinds of missing answers are told apart as far as the
//! client allows.

use crate::adapters::http::{Auth, Client, Fault, Limits, Method, Request, Response};
use crate::model::watch::HealthOutcome;
use std::time::Duration;

/// No complete answer: its kind, and the client's text.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub outcome: HealthOutcome,
    /// Set if a status arrived but the body did not end.
    pub status: Option<u16>,
    pub detail: String,
}

/// GETs a URL within a total time. Returns any complete answer, whatever its status.
pub(super) fn get(url: &str, query: &[(&str, &str)], timeout_ms: u64) -> Result<Response, NoAnswer> {
    let not_made = |detail: String| NoAnswer { outcome: HealthOutcome::NotMade, status: None, detail };
    let (origin, path) = split(url).ok_or_else(|| not_made(format!("{url:?} is not an http(s) URL")))?;
    let total = Duration::from_millis(timeout_ms.max(1));
    let limits = Limits { connect: total, read: total, ..Limits::default() };
    let client = Client::new(origin, Auth::None, limits).map_err(|e| not_made(e.to_string()))?;
    client.exchange(&Request::new(Method::Get, &path).query(query)).map_err(|e| NoAnswer {
        outcome: kind(e.fault, &e.detail),
        status: e.status,
        detail: e.detail,
    })
}

fn kind(fault: Fault, detail: &str) -> HealthOutcome {
    let text = detail.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|w| text.contains(w));
    match fault {
        Fault::Status | Fault::Lost | Fault::Body => HealthOutcome::Refused,
        Fault::Timeout => HealthOutcome::Timeout,
        Fault::Request => HealthOutcome::NotMade,
        Fault::Connect if says(&["dns error", "failed to lookup", "unreachable", "no route", "network is down"]) => {
            HealthOutcome::NoNetwork
        }
        Fault::Connect if says(&["certificate", "tls", "handshake"]) => HealthOutcome::Tls,
        Fault::Connect => HealthOutcome::Refused,
    }
}

/// `http://host:1` and `/path?query` of a URL; a fragment is left out.
fn split(url: &str) -> Option<(&str, String)> {
    let url = url.trim().split('#').next()?;
    let start = url.find("://")?.checked_add(3)?;
    let rest = url.get(start..)?;
    let end = rest.find(['/', '?']).map_or(url.len(), |n| start + n);
    let path = url.get(end..)?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some((url.get(..end)?, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_at_its_path() {
        for (url, origin, path) in [
            ("http://h:1", "http://h:1", "/"),
            ("http://h:1/", "http://h:1", "/"),
            ("https://h/a/b?c=d/e#f", "https://h", "/a/b?c=d/e"),
            ("http://h?x=1", "http://h", "/?x=1"),
        ] {
            assert_eq!(split(url), Some((origin, path.to_owned())), "{url}");
        }
        assert_eq!(split("h:1/x"), None);
    }
}
