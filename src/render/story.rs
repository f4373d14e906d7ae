//! A task's audit events as a story (DSK-1): one line an event, findings under it, hashes of ten. `--json` has everything.

use crate::model::act::By;
use crate::model::stage::Stage;
use crate::model::text::clip;
use serde_json::{Map, Value};

/// Longest value of a field, and longest line.
const VALUE: usize = 200;
const LINE: usize = 400;

/// One event told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub line: String,
    /// What belongs under it, one a line.
    pub under: Vec<String>,
}

/// An event of the audit table with its detail.
pub fn tell(event: &str, detail: &Map<String, Value>) -> Told {
    let mut left = detail.clone();
    let under = findings(left.remove("findings").as_ref());
    let by = left.remove("by").map(|by| who(&by)).filter(|b| !b.is_empty());
    let mut line = known(event, &mut left).unwrap_or_else(|| event.replace('_', " "));
    let why = left.remove("why").map(|w| value(&w)).filter(|w| !w.is_empty());
    let rest: Vec<String> = left
        .iter()
        .map(|(name, v)| (name, value(v)))
        .filter(|(_, v)| !v.is_empty())
        .map(|(name, v)| format!("{} {v}", name.replace('_', " ")))
        .collect();
    if !rest.is_empty() {
        line.push_str(&format!(" ({})", rest.join(", ")));
    }
    if let Some(by) = by {
        line.push_str(&format!(", by {by}"));
    }
    if let Some(why) = why {
        line.push_str(&format!(": {why}"));
    }
    Told { line: clip(&line, LINE), under }
}

/// The sentence of a frequent event; the fields in it are taken out of the detail.
fn known(event: &str, left: &mut Map<String, Value>) -> Option<String> {
    let mut take = |name: &str| left.remove(name).map(|v| value(&v)).unwrap_or_default();
    let line = match event {
        "task_created" => {
            take("key");
            take("round");
            format!("created: {}", take("title"))
        }
        "job_enqueued" => {
            let (agent, kind) = (take("agent"), take("kind"));
            take("job");
            format!("queued: {} in {}", one_of(agent, kind), take("stage"))
        }
        "job_started" => {
            let (agent, kind, attempt) = (take("agent"), take("kind"), take("attempt"));
            take("job");
            let round = if attempt.is_empty() { attempt } else { format!(", round {attempt}") };
            format!("{} starts in {}{round}, run {}", one_of(agent, kind), take("stage"), take("run"))
        }
        "run_finished" => {
            let (agent, kind) = (take("agent"), take("kind"));
            take("stage");
            format!("{}, run {}, ends: {}", one_of(agent, kind), take("run"), take("end"))
        }
        "run_prepared" => {
            take("prompt_sha256");
            format!("run {} prepared on {}", take("run"), take("start"))
        }
        "stage_advanced" => format!("{} → {}", take("from"), take("to")),
        "stage_rolled_back" => {
            let (from, to, attempt) = (take("from"), take("to"), take("attempt"));
            let to = if to.is_empty() { Stage::Development.to_string() } else { to };
            let round = if attempt.is_empty() { String::new() } else { format!(", round {attempt}") };
            format!("{from} → {to}, sent back{round}")
        }
        "waiting" => format!("waits for {} in {}", take("for").replace('_', " "), take("stage")),
        "released" => format!("{} given: {}", take("for").replace('_', " "), take("so")),
        "task_blocked" => format!("blocked in {}", take("stage")),
        _ => return None,
    };
    Some(line)
}

fn one_of(agent: String, kind: String) -> String {
    match (agent.is_empty(), kind.is_empty()) {
        (false, _) => format!("the {agent}"),
        (true, false) => kind,
        (true, true) => "a job".to_owned(),
    }
}

/// What is to be fixed: source and text, a line each.
fn findings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let one = |f: &Value| {
        let source = f["source"].as_str().unwrap_or("a gate");
        clip(&format!("{source}: {}", f["text"].as_str().unwrap_or_default()), LINE)
    };
    list.iter().map(one).collect()
}

/// Who acted, in words.
fn who(by: &Value) -> String {
    match serde_json::from_value::<By>(by.clone()) {
        Ok(by) => by.to_string(),
        Err(_) => value(by),
    }
}

/// A value in words: hashes of ten characters, lists with commas, nothing for nothing.
fn value(v: &Value) -> String {
    match v {
        Value::Null => String::new(),
        Value::String(text) => clip(&short(text), VALUE),
        Value::Array(all) => clip(&all.iter().map(value).collect::<Vec<_>>().join(", "), VALUE),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, v)| (name, value(v)))
                .filter(|(_, v)| !v.is_empty())
                .map(|(name, v)| format!("{name} {v}"))
                .collect();
            clip(&fields.join(" "), VALUE)
        }
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(n) => n.to_string(),
    }
}

/// The text with every commit or digest in it cut to ten characters.
fn short(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() {
            word.push(c);
            continue;
        }
        let hash = word.len() >= 40;
        out.push_str(word.get(..if hash { 10 } else { word.len() }).unwrap_or(&word));
        word.clear();
        out.push(c);
    }
    out.truncate(out.len().saturating_sub(1));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(event: &str, detail: Value) -> String {
        tell(event, detail.as_object().unwrap()).line
    }

    #[test]
    fn events_read_as_sentences_with_short_hashes() {
        let sha = "a".repeat(40);
        for (event, detail, wanted) in [
            (
                "stage_advanced",
                json!({"from": "review", "to": "testing", "why": "approved", "head": sha}),
                "review → testing (head aaaaaaaaaa): approved",
            ),
            (
                "job_started",
                json!({"job": 1, "run": 7, "kind": "agent", "agent": "analyst", "stage": "analysis", "attempt": 1}),
                "the analyst starts in analysis, round 1, run 7",
            ),
            ("lease_acquired", json!({"repo": "shop", "fence": 3}), "lease acquired (repo shop, fence 3)"),
            ("task_blocked", json!({"stage": "review", "why": "two\nlines"}), "blocked in review: two lines"),
            ("head_moved", json!({"to": sha, "by": "a person"}), "head moved (to aaaaaaaaaa), by a person"),
            ("new_one", json!({"x": null, "y": []}), "new one"),
        ] {
            assert_eq!(line(event, detail), wanted);
        }
    }

    #[test]
    fn findings_come_under_their_event() {
        let detail = json!({"from": "review", "why": "changes", "attempt": 2, "findings": [{"source": "review", "text": "no\ntest"}]});
        let told = tell("stage_rolled_back", detail.as_object().unwrap());
        assert_eq!(told.line, "review → development, sent back, round 2: changes");
        assert_eq!(told.under, ["review: no test"]);
    }
}
