//! One observation of what was deployed (SHIP-6).

use super::{ProbeCtx, command, http, revision};
use crate::model::probe::{ErrorSpec, HealthSpec, WatchTarget};
use crate::model::staging::one_line;
use crate::model::time::Stamp;
use crate::model::watch::{ControlAnswer, Counts, ErrorReading, HealthAnswer, HealthOutcome, Probe, RevisionAnswer};
use serde_json::Value;
use std::time::Instant;

/// Time limit for the control target, in milliseconds.
const CONTROL_MS: u64 = 5_000;

/// Asks every health URL, the revision and the error source, once. Never fails: the result says what could not be
/// asked. The control target is asked only if an answer is missing. `at`: when this observation began.
pub fn observe(target: &WatchTarget, ctx: &ProbeCtx, at: Stamp) -> Probe {
    let health: Vec<HealthAnswer> = target.health.iter().map(ask).collect();
    let missing = health.iter().any(|h| h.status.is_none());
    let control = match &target.control {
        Some(url) if missing => reach(url),
        Some(_) | None => ControlAnswer::NotAsked,
    };
    let revision = target.revision.as_ref().filter(|_| !missing).map(|spec| match revision::ask(spec, ctx) {
        Ok(revision) => RevisionAnswer::Is(revision),
        Err(why) => RevisionAnswer::None(one_line(&why, 300)),
    });
    Probe { at, health, revision, errors: errors(&target.errors, ctx), control }
}

fn ask(spec: &HealthSpec) -> HealthAnswer {
    let start = Instant::now();
    let answer = http::get(&spec.url, &[], spec.timeout_ms);
    let latency_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (outcome, status, detail) = match answer {
        Err(no) => (no.outcome, no.status, no.detail),
        Ok(r) => {
            let fits = spec.expect_status.map_or((200..300).contains(&r.status), |want| want == r.status);
            let want = spec.expect_status.map_or_else(|| "2xx".to_owned(), |w| w.to_string());
            if !fits {
                (HealthOutcome::BadStatus, Some(r.status), format!("status {}, expected {want}", r.status))
            } else if !spec.expect_body.is_empty() && !r.text().contains(&spec.expect_body) {
                let detail = format!("status {}, but the body does not contain {:?}", r.status, spec.expect_body);
                (HealthOutcome::BadBody, Some(r.status), detail)
            } else if spec.max_latency_ms > 0 && latency_ms > spec.max_latency_ms {
                let detail = format!("{latency_ms} ms, allowed {} ms", spec.max_latency_ms);
                (HealthOutcome::TooSlow, Some(r.status), detail)
            } else {
                (HealthOutcome::Ok, Some(r.status), format!("status {}", r.status))
            }
        }
    };
    HealthAnswer { url: spec.url.clone(), outcome, status, latency_ms, detail: one_line(&detail, 300) }
}

/// Any HTTP answer shows that this machine's network works.
fn reach(url: &str) -> ControlAnswer {
    match http::get(url, &[], CONTROL_MS) {
        Ok(_) => ControlAnswer::Reached,
        Err(no) if no.status.is_some() => ControlAnswer::Reached,
        Err(_) => ControlAnswer::Unreached,
    }
}

fn errors(spec: &ErrorSpec, ctx: &ProbeCtx) -> ErrorReading {
    let counts = match spec {
        ErrorSpec::Own => return ErrorReading::Own,
        ErrorSpec::Command { command, timeout_ms } => match command::run(command, *timeout_ms, ctx) {
            Err(trouble) => Err(trouble.to_string()),
            Ok(ended) if ended.code != Some(0) => {
                Err(format!("the error source ended with {}: {}", ended.ending(), one_line(&ended.said(), 200)))
            }
            Ok(ended) => read_counts(&ended.stdout),
        },
        ErrorSpec::Prometheus { url, requests, errors_5xx, timeout_ms, window: _ } => {
            query(url, requests, *timeout_ms)
                .and_then(|n| n.ok_or_else(|| format!("{requests:?} has no sample")))
                .and_then(|n| {
                    // The first error creates the error series, so a series without samples means no errors.
                    let errors = query(url, errors_5xx, *timeout_ms)?.unwrap_or(0.0);
                    Counts::believed(n, errors)
                })
        }
    };
    match counts {
        Ok(counts) if matches!(spec, ErrorSpec::Prometheus { window: true, .. }) => ErrorReading::Window(counts),
        Ok(counts) => ErrorReading::Counters(counts),
        Err(why) => ErrorReading::NoData(one_line(&why, 300)),
    }
}

/// `{"requests": n, "errors_5xx": n}`.
fn read_counts(text: &str) -> Result<Counts, String> {
    let value: Value =
        serde_json::from_str(text.trim()).map_err(|e| format!("the error source printed no JSON ({e})"))?;
    let number = |name: &str| {
        value.get(name).and_then(Value::as_f64).ok_or_else(|| format!("the error source printed no number {name:?}"))
    };
    Counts::believed(number("requests")?, number("errors_5xx")?)
}

/// One instant query; the sum of the vector's samples, `None` for an empty one.
fn query(url: &str, promql: &str, timeout_ms: u64) -> Result<Option<f64>, String> {
    let address = format!("{}/api/v1/query", url.trim_end_matches('/'));
    let reply =
        http::get(&address, &[("query", promql)], timeout_ms).map_err(|e| format!("{address}: {}", e.detail))?;
    let value: Value = serde_json::from_slice(&reply.body)
        .map_err(|e| format!("{address}: status {}, no JSON ({e})", reply.status))?;
    samples(&value).map_err(|why| format!("{address}: {why}"))
}

fn samples(value: &Value) -> Result<Option<f64>, String> {
    if value.get("status").and_then(Value::as_str) != Some("success") {
        let error = value.get("error").and_then(Value::as_str).unwrap_or("no success");
        return Err(one_line(error, 200));
    }
    let read = |pair: Option<&Value>| {
        pair.and_then(|p| p.get(1))
            .and_then(Value::as_str)
            .and_then(|s| s.parse::<f64>().ok())
            .filter(|n| n.is_finite())
    };
    let data = value.get("data");
    let result = data.and_then(|d| d.get("result"));
    match data.and_then(|d| d.get("resultType")).and_then(Value::as_str) {
        Some("scalar") => read(result).map(Some).ok_or_else(|| "the scalar is not a number".into()),
        Some("vector") => {
            let rows = result.and_then(Value::as_array).ok_or("the vector is not a list")?;
            let mut sum = None;
            for row in rows {
                let n = read(row.get("value")).ok_or("a sample is not a number")?;
                sum = Some(sum.unwrap_or(0.0) + n);
            }
            Ok(sum)
        }
        other => Err(format!("the result is {other:?}, expected a vector or a scalar")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prometheus_answers_and_what_they_are() {
        let vector = |values: &[&str]| {
            let rows: Vec<Value> = values.iter().map(|v| json!({"metric": {}, "value": [1.5, v]})).collect();
            json!({"status": "success", "data": {"resultType": "vector", "result": rows}})
        };
        assert_eq!(samples(&vector(&["3", "4.5"])), Ok(Some(7.5)));
        assert_eq!(samples(&vector(&[])), Ok(None));
        assert!(samples(&vector(&["NaN"])).is_err());
        assert_eq!(
            samples(&json!({"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}})),
            Ok(Some(2.0))
        );
        for bad in [
            json!({"status": "error", "errorType": "bad_data", "error": "parse error"}),
            json!({"status": "success", "data": {"resultType": "matrix", "result": []}}),
            json!({"status": "success", "data": {"resultType": "vector", "result": {}}}),
            json!({"status": "success"}),
            json!([]),
        ] {
            assert!(samples(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_two_sane_numbers_are_counts() {
        assert_eq!(
            read_counts(" {\"requests\": 10, \"errors_5xx\": 1}\n"),
            Ok(Counts { requests: 10.0, errors_5xx: 1.0 })
        );
        for bad in [
            "",
            "{}",
            "{\"requests\":10}",
            "{\"requests\":-1,\"errors_5xx\":0}",
            "{\"requests\":\"1\",\"errors_5xx\":0}",
        ] {
            assert!(read_counts(bad).is_err(), "{bad}");
        }
    }
}
