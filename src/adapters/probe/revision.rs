//! Asks which revision is running (SHIP-4, SHIP-6).

use super::{ProbeCtx, command, http};
use crate::model::probe::RevisionSpec;
use crate::model::redact;
use crate::model::staging::one_line;
use serde_json::Value;

/// The revision that the service reports, trimmed; or why there is no answer. Makes one request or runs one command.
pub fn ask(spec: &RevisionSpec, ctx: &ProbeCtx) -> Result<String, String> {
    let text = match spec {
        RevisionSpec::Url { url, field, timeout_ms } => {
            let reply = http::get(url, &[], *timeout_ms).map_err(|e| format!("{url}: {}", e.detail))?;
            if !(200..300).contains(&reply.status) {
                return Err(format!("{url}: status {}, expected 2xx", reply.status));
            }
            let body = reply.text();
            match field {
                None => body,
                Some(field) => {
                    let value: Value =
                        serde_json::from_str(&body).map_err(|e| format!("{url}: the answer is not JSON ({e})"))?;
                    at(&value, field).ok_or_else(|| format!("{url}: the answer has no text at {field:?}"))?
                }
            }
        }
        RevisionSpec::Command { command, timeout_ms } => {
            let name = command.argv.first().map_or("", String::as_str);
            let ended = command::run(command, *timeout_ms, ctx).map_err(|e| format!("{name}: {e}"))?;
            if ended.code != Some(0) {
                return Err(format!("{name} ended with {}: {}", ended.ending(), one_line(&ended.said(), 200)));
            }
            // The answer is compared and stored.
            if ended
                .stdout
                .split_whitespace()
                .next()
                .is_some_and(|word| redact::current().find(word.as_bytes()).is_some())
            {
                return Err(format!("{name} printed one of its secrets instead of a revision"));
            }
            ended.stdout
        }
    };
    match text.split_whitespace().next() {
        Some(word) => Ok(word.chars().take(200).collect()),
        None => Err("the answer is empty".into()),
    }
}

fn at(value: &Value, field: &str) -> Option<String> {
    let mut here = value;
    // A key that contains a dot is taken literally if it exists.
    if let Some(v) = value.get(field) {
        here = v;
    } else {
        for part in field.split('.') {
            here = here.get(part)?;
        }
    }
    match here {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
