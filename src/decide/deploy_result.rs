//! Reads a deploy's result sentinel (SHIP-5, phase C).

use crate::model::deploy::{DeployStatus, ResultOf};
use serde_json::Value;

/// What `deploy.<id>.result.json` says. `text`: the file's content, `None` while there is none. `over`: why nothing
/// more is waited for, such as "by the deadline" (`deploy.timeout_s` and 60 s). A foreign writer may be caught half-way, so a file that merely ends too early is waited for until then;
/// whatever else can't be read as this deploy's exit 0 or 1 leaves production unknown.
pub fn read(text: Option<&str>, of: &ResultOf, over: Option<&str>) -> DeployStatus {
    let unknown = |why: String| DeployStatus::FailedUnknown { why };
    let wait = |why: &str| match over {
        Some(over) => unknown(format!("{why} {over}")),
        None => DeployStatus::Pending { why: format!("{why} yet") },
    };
    let Some(text) = text else {
        return wait("the deploy has no result");
    };
    let value: Value = match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(v) => v,
        Err(e) if e.is_eof() => return wait("the deploy's result is not written to its end"),
        Err(e) => return unknown(format!("the deploy's result is no JSON ({e})")),
    };
    if value.get("schema").and_then(Value::as_u64) != Some(1) {
        return unknown(format!("the deploy's result has schema {}, not 1", shown(value.get("schema"))));
    }
    if !is_task(value.get("task"), of) || value.get("attempt").and_then(Value::as_u64) != Some(u64::from(of.attempt)) {
        let (task, attempt) = (shown(value.get("task")), shown(value.get("attempt")));
        return unknown(format!(
            "the deploy's result is of task {task} attempt {attempt}, not of {} ({}) attempt {}",
            of.task, of.key, of.attempt
        ));
    }
    match value.get("exit") {
        Some(Value::Number(n)) if n.as_i64() == Some(0) => DeployStatus::Success,
        Some(Value::Number(n)) if n.as_i64() == Some(1) => DeployStatus::FailedSafe,
        Some(Value::Number(n)) => unknown(format!("the deploy command ended with exit {n}")),
        Some(Value::String(s)) if s == "unknown" => unknown(match value.get("why").and_then(Value::as_str) {
            Some(why) => why.chars().filter(|c| !c.is_control()).take(300).collect(),
            None => "the deploy's result was settled as unknown".to_owned(),
        }),
        other => unknown(format!("the deploy's exit is {}", shown(other))),
    }
}

fn is_task(value: Option<&Value>, of: &ResultOf) -> bool {
    match value {
        Some(Value::Number(n)) => n.as_i64() == Some(of.task),
        Some(Value::String(s)) => s.trim().eq_ignore_ascii_case(&of.key) || s.trim() == of.task.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => false,
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "missing".to_owned(), |v| v.to_string().chars().take(60).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_and_what_it_is() {
        let of = ResultOf { task: 7, key: "ORCH-3".into(), attempt: 2 };
        let full = |exit: &str| format!(r#"{{"schema":1,"task":7,"attempt":2,"exit":{exit}}}"#);
        let cases: Vec<(Option<String>, &str)> = vec![
            (None, "pending"),
            (Some(String::new()), "pending"),
            (Some(r#"{"schema":1,"task":7,"#.into()), "pending"),
            (Some(full("0")), "success"),
            (Some(format!("\u{feff}{}\n", full("0"))), "success"),
            (Some(full("1")), "safe"),
            (Some(full("2")), "unknown"),
            (Some(full("-1")), "unknown"),
            (Some(full("137")), "unknown"),
            (Some(full("0.5")), "unknown"),
            (Some(full("0.0")), "unknown"),
            (Some(full("\"0\"")), "unknown"),
            (Some(full("\"unknown\"")), "unknown"),
            (Some(full("null")), "unknown"),
            (Some(full("true")), "unknown"),
            (Some(r#"{"schema":1,"task":7,"attempt":2}"#.into()), "unknown"),
            (Some(full("0").replace("\"schema\":1", "\"schema\":2")), "unknown"),
            (Some(full("0").replace("\"schema\":1,", "")), "unknown"),
            (Some(full("0").replace("\"task\":7", "\"task\":8")), "unknown"),
            (Some(full("0").replace("\"task\":7", "\"task\":\"7\"")), "success"),
            (Some(full("0").replace("\"task\":7", "\"task\":\"orch-3\"")), "success"),
            (Some(full("0").replace("\"task\":7", "\"task\":\"ORCH-4\"")), "unknown"),
            (Some(full("0").replace("\"attempt\":2", "\"attempt\":1")), "unknown"),
            (Some("[]".into()), "unknown"),
            (Some("null".into()), "unknown"),
            (Some("ok".into()), "unknown"),
            (Some(format!("{}x", full("0"))), "unknown"),
        ];
        for (text, want) in cases {
            for over in [None, Some("by the deadline")] {
                let got = match read(text.as_deref(), &of, over) {
                    DeployStatus::Pending { .. } => "pending",
                    DeployStatus::Success => "success",
                    DeployStatus::FailedSafe => "safe",
                    DeployStatus::FailedUnknown { .. } => "unknown",
                };
                let want = if want == "pending" && over.is_some() { "unknown" } else { want };
                assert_eq!(got, want, "{text:?} over={over:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_success_by_accident(text in "\\PC{0,200}") {
            let of = ResultOf { task: 7, key: "ORCH-3".into(), attempt: 2 };
            proptest::prop_assert!(read(Some(&text), &of, Some("by the deadline")) != DeployStatus::Success);
        }
    }
}
