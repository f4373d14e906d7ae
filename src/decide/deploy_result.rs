//! Reads how a deploy ended (SHIP-5, phase C; BND-6): from what its wrapper saw, and from a result file that others can
//! write.

use crate::model::deploy::{DeployStatus, OwnExit, ResultOf};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// All that is known of a deploy's end.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What the wrapper saw of its command, from the deploy's row. `None`: it has not reported, or is gone.
    pub own: Option<&'a OwnExit>,
    /// The content of `deploy.<id>.result.json`; `None` while there is no such file.
    pub file: Option<&'a str>,
    /// Set for a self-hosting project, whose command may outlive its wrapper: the hash of the nonce that only the
    /// command was given. A result file counts only with that nonce.
    pub nonce_hash: Option<&'a str>,
}

/// What the deploy's result is. `over`: why the wait has ended, such as "by the deadline" (`deploy.timeout_s` plus 60
/// s).
///
/// The wrapper has the last word on its own exit: a file that contradicts it leaves production unknown. Where the
/// wrapper reported nothing, only a self-hosting command's file with its nonce counts. A foreign writer may be caught
/// half-way, so a truncated file is waited for; anything else that can't be read as this deploy's exit 0 or 1 leaves
/// production unknown.
pub fn read(seen: &Seen<'_>, of: &ResultOf, over: Option<&str>) -> DeployStatus {
    let wait = |why: &str| match over {
        Some(over) => unknown(format!("{why} {over}")),
        None => DeployStatus::Pending { why: format!("{why} yet") },
    };
    let file = seen.file.map(|text| parsed(text, of));
    match (seen.own, file) {
        (Some(own), None) => meaning(own),
        (Some(own), Some(file)) => match (meaning(own), file) {
            (DeployStatus::Success, File::Says { status: DeployStatus::Success, .. }) => DeployStatus::Success,
            (DeployStatus::FailedSafe, File::Says { status: DeployStatus::FailedSafe, .. }) => DeployStatus::FailedSafe,
            (mine @ DeployStatus::FailedUnknown { .. }, _) => mine,
            (_, file) => unknown(format!("{own}, but its result file says otherwise: {}", file.words())),
        },
        (None, None) => wait("the deploy has no result"),
        (None, Some(File::Unfinished)) => wait("the deploy's result is incomplete"),
        (None, Some(File::Says { status: status @ DeployStatus::FailedUnknown { .. }, .. })) => status,
        (None, Some(File::Says { status, nonce })) => match seen.nonce_hash {
            Some(hash) if nonce.as_deref().is_some_and(|n| hash_of(n) == hash) => status,
            Some(_) => wait("the deploy has no result with its nonce (ORCH_DEPLOY_NONCE)"),
            None => wait("the deploy's wrapper has not confirmed its result file"),
        },
    }
}

/// The hash under which a nonce is stored.
pub fn hash_of(nonce: &str) -> String {
    Sha256::digest(nonce.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

fn unknown(why: String) -> DeployStatus {
    DeployStatus::FailedUnknown { why }
}

fn meaning(own: &OwnExit) -> DeployStatus {
    match own {
        OwnExit::Code { code: 0 } => DeployStatus::Success,
        OwnExit::Code { code: 1 } => DeployStatus::FailedSafe,
        OwnExit::Code { .. } => unknown(own.to_string()),
        OwnExit::Unknown { why } => unknown(why.clone()),
    }
}

/// The content of a result file.
enum File {
    Unfinished,
    Says { status: DeployStatus, nonce: Option<String> },
}

impl File {
    fn words(&self) -> String {
        match self {
            Self::Unfinished => "it is incomplete".to_owned(),
            Self::Says { status: DeployStatus::Success, .. } => "exit 0".to_owned(),
            Self::Says { status: DeployStatus::FailedSafe, .. } => "exit 1".to_owned(),
            Self::Says { status: DeployStatus::FailedUnknown { why } | DeployStatus::Pending { why }, .. } => {
                why.clone()
            }
        }
    }
}

fn parsed(text: &str, of: &ResultOf) -> File {
    let value: Value = match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(value) => value,
        Err(e) if e.is_eof() => return File::Unfinished,
        Err(e) => return File::Says { status: unknown(format!("the deploy's result is not JSON ({e})")), nonce: None },
    };
    let nonce = value.get("nonce").and_then(Value::as_str).map(str::to_owned);
    File::Says { status: status(&value, of), nonce }
}

fn status(value: &Value, of: &ResultOf) -> DeployStatus {
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

    fn of() -> ResultOf {
        ResultOf { task: 7, key: "ORCH-3".into(), attempt: 2 }
    }

    fn word(status: &DeployStatus) -> &'static str {
        match status {
            DeployStatus::Pending { .. } => "pending",
            DeployStatus::Success => "success",
            DeployStatus::FailedSafe => "safe",
            DeployStatus::FailedUnknown { .. } => "unknown",
        }
    }

    fn full(exit: &str) -> String {
        format!(r#"{{"schema":1,"task":7,"attempt":2,"nonce":"n","exit":{exit}}}"#)
    }

    #[test]
    fn every_file_of_a_self_hosting_command_and_what_it_is() {
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
            (Some(full("0").replace("\"n\"", "\"m\"")), "pending"),
            (Some(full("1").replace("\"n\"", "7")), "pending"),
            (Some(full("0").replace("\"nonce\":\"n\",", "")), "pending"),
            (Some("[]".into()), "unknown"),
            (Some("null".into()), "unknown"),
            (Some("ok".into()), "unknown"),
            (Some(format!("{}x", full("0"))), "unknown"),
        ];
        let hash = hash_of("n");
        for (text, want) in cases {
            for over in [None, Some("by the deadline")] {
                let seen = Seen { own: None, file: text.as_deref(), nonce_hash: Some(&hash) };
                let want = if want == "pending" && over.is_some() { "unknown" } else { want };
                assert_eq!(word(&read(&seen, &of(), over)), want, "{text:?} over={over:?}");
                // In any other project only the wrapper reports its exit.
                let other = Seen { nonce_hash: None, ..seen };
                let got = read(&other, &of(), over);
                assert!(matches!(got, DeployStatus::Pending { .. } | DeployStatus::FailedUnknown { .. }), "{text:?}");
            }
        }
    }

    #[test]
    fn the_wrapper_has_the_last_word_and_a_file_that_differs_leaves_it_unknown() {
        let code = |code| OwnExit::Code { code };
        let lost = OwnExit::Unknown { why: "its time was up".to_owned() };
        let hash = hash_of("n");
        let table = [
            (code(0), None, "success"),
            (code(1), None, "safe"),
            (code(2), None, "unknown"),
            (code(0), Some(full("0")), "success"),
            (code(1), Some(full("1")), "safe"),
            (code(0), Some(full("1")), "unknown"),
            (code(1), Some(full("0")), "unknown"),
            (code(2), Some(full("0")), "unknown"),
            (code(0), Some("{".to_owned()), "unknown"),
            (code(0), Some("ok".to_owned()), "unknown"),
            (code(0), Some(full("0").replace("\"task\":7", "\"task\":8")), "unknown"),
            (lost.clone(), None, "unknown"),
            (lost, Some(full("0")), "unknown"),
        ];
        for (own, file, want) in table {
            for nonce_hash in [None, Some(hash.as_str())] {
                let seen = Seen { own: Some(&own), file: file.as_deref(), nonce_hash };
                assert_eq!(word(&read(&seen, &of(), None)), want, "{own} {file:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_success_by_accident(text in "\\PC{0,200}") {
            let hash = hash_of("n");
            let seen = Seen { own: None, file: Some(&text), nonce_hash: Some(&hash) };
            proptest::prop_assert!(read(&seen, &of(), Some("by the deadline")) != DeployStatus::Success);
        }
    }
}
