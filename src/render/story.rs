//! A task's audit events as a story (DSK-1): one line per event, findings below it, hashes of ten. `--json` has
//! everything.

use super::cells::age;
use crate::model::act::By;
use crate::model::stage::Stage;
use crate::model::text::clip;
use serde_json::{Map, Value};

/// Longest value of a field, and longest line.
const VALUE: usize = 200;
const LINE: usize = 400;

/// One event as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoryEntry {
    pub line: String,
    /// Lines indented below it.
    pub under: Vec<String>,
}

/// Renders an event of the audit table and its detail.
pub fn render_event(event: &str, detail: &Map<String, Value>) -> StoryEntry {
    let mut left = detail.clone();
    let under = findings(left.remove("findings").as_ref());
    let by = left.remove("by").map(|by| who(&by)).filter(|b| !b.is_empty());
    let mut line = known(event, &mut left).unwrap_or_else(|| spoken(event));
    let why = left.remove("why").map(|w| value(&w)).filter(|w| !w.is_empty());
    let rest: Vec<String> = left
        .iter()
        .map(|(name, v)| (name, value(v)))
        .filter(|(_, v)| !v.is_empty())
        .map(|(name, v)| format!("{} {v}", spoken(name)))
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
    StoryEntry { line: clip(&line, LINE), under }
}

/// What is still unsaid of an event: a field that was taken is not listed again.
struct Left<'a>(&'a mut Map<String, Value>);

impl Left<'_> {
    fn take(&mut self, name: &str) -> String {
        self.0.remove(name).map(|v| value(&v)).unwrap_or_default()
    }

    /// ` WORD VALUE`, or nothing where there is no value.
    fn part(&mut self, word: &str, name: &str) -> String {
        let value = self.take(name);
        if value.is_empty() { value } else { format!(" {word} {value}") }
    }

    /// Fields that matter to a program alone.
    fn drop(&mut self, names: &[&str]) {
        for name in names {
            self.0.remove(*name);
        }
    }
}

/// The sentence of a frequent event; the fields in it are removed from the detail.
fn known(event: &str, detail: &mut Map<String, Value>) -> Option<String> {
    let left = &mut Left(detail);
    of_work(event, left).or_else(|| of_stages(event, left)).or_else(|| of_landing(event, left))
}

/// Jobs, runs and what they leave.
fn of_work(event: &str, left: &mut Left<'_>) -> Option<String> {
    Some(match event {
        "job_enqueued" => {
            let (agent, kind) = (left.take("agent"), left.take("kind"));
            left.drop(&["job"]);
            format!("queued: {} in {}", one_of(agent, kind), left.take("stage"))
        }
        "job_started" => {
            let (agent, kind) = (left.take("agent"), left.take("kind"));
            left.drop(&["job"]);
            let stage = left.take("stage");
            let round = left.part("round", "attempt");
            let round = if round.is_empty() { round } else { format!(",{round}") };
            format!("{} starts in {stage}{round}, run {}", one_of(agent, kind), left.take("run"))
        }
        "run_finished" => {
            let (agent, kind) = (left.take("agent"), left.take("kind"));
            left.drop(&["stage"]);
            format!("{}, run {}, ends: {}", one_of(agent, kind), left.take("run"), left.take("end"))
        }
        "run_prepared" => {
            left.drop(&["prompt_sha256"]);
            let run = left.take("run");
            let (start, model) = (left.part("on", "start"), left.part("with", "model"));
            let held = left.take("confined");
            let held = if held.is_empty() { held } else { format!(", confined by {held}") };
            let network = left.part("network", "network");
            let network = if network.is_empty() { network } else { format!(",{network}") };
            let judge = if left.take("independent") == "no" { ", not independent" } else { "" };
            format!("run {run} is prepared{start}{model}{held}{network}{judge}")
        }
        "branch_created" => format!("branch {} is created{}", left.take("branch"), left.part("from", "base")),
        "branch_pushed" => {
            left.drop(&["branch"]);
            let squashed = if left.take("squash") == "yes" { ", squashed" } else { "" };
            let (run, from) = (left.part("run", "run"), left.part("after", "from"));
            let run = if run.is_empty() { run } else { format!(",{run}") };
            format!("pushed {}{from}{run}{squashed}", left.take("to"))
        }
        "branch_deleted" => {
            let done = if left.take("deleted") == "no" { "is kept" } else { "is deleted" };
            format!("branch {} {done}", left.take("branch"))
        }
        "base_tried" => {
            left.drop(&["repo"]);
            format!("the base {} was checked: {}", left.take("commit"), left.take("state"))
        }
        _ => return None,
    })
}

/// Stages, verdicts and people.
fn of_stages(event: &str, left: &mut Left<'_>) -> Option<String> {
    Some(match event {
        "task_created" => {
            left.drop(&["key", "round"]);
            format!("created: {}", left.take("title"))
        }
        "intent_seen" => {
            left.drop(&["key"]);
            format!("the board asks for {}{}", spoken(&left.take("intent")), left.part("after", "was"))
        }
        "board_status_set" => format!("the board shows {}", left.take("status")),
        "evidence" | "gate" => {
            left.drop(&["evidence", "hash", "run"]);
            let commit = [left.part("on", "commit"), left.part("on", "head")].concat();
            let verdict = match left.take("verdict").as_str() {
                "pass" => "passes".to_owned(),
                "fail" => "fails".to_owned(),
                other => format!("is {other}"),
            };
            format!("{} {verdict}{commit}", left.take("gate"))
        }
        "stage_advanced" => format!("{} → {}{}", left.take("from"), left.take("to"), left.part("with", "head")),
        "stage_rolled_back" => {
            let (from, to) = (left.take("from"), left.take("to"));
            let to = if to.is_empty() { Stage::Development.to_string() } else { to };
            let round = left.part("round", "attempt");
            let round = if round.is_empty() { round } else { format!(",{round}") };
            format!("{from} → {to}, sent back{round}")
        }
        "waiting" => format!("waits for {} in {}", spoken(&left.take("for")), left.take("stage")),
        "asked" => format!("asks for {}{}", spoken(&left.take("for")), left.part("on", "on")),
        "released" => {
            let waited = left.0.remove("waited_ms").and_then(|v| v.as_i64()).map(age);
            let waited = waited.map(|w| format!(" after {w}")).unwrap_or_default();
            format!("{} given{waited}: {}", spoken(&left.take("for")), left.take("so"))
        }
        "task_blocked" => format!("blocked in {}", left.take("stage")),
        _ => return None,
    })
}

/// From the pull request to the watch over production.
fn of_landing(event: &str, left: &mut Left<'_>) -> Option<String> {
    Some(match event {
        "pr_opened" => {
            let url = left.take("url");
            let url = if url.is_empty() { url } else { format!(": {url}") };
            format!("pull request {} is opened{url}", left.take("number"))
        }
        "lease_acquired" | "lease_released" => {
            left.drop(&["fence"]);
            let done = if event == "lease_acquired" { "acquired" } else { "released" };
            format!("the merge lease of {} is {done}", left.take("repo"))
        }
        "deploy_initiated" => {
            left.drop(&["tree"]);
            format!("deploy {} is prepared: {}{}", left.take("deploy"), left.take("head"), left.part("on", "base"))
        }
        "pr_merged" => {
            left.drop(&["deploy"]);
            format!("merged as {}: {}", left.take("landed"), left.take("how"))
        }
        "deploy_started" => format!("deploy {} starts", left.take("deploy")),
        "deploy_finished" => format!("deploy {} ends: {}", left.take("deploy"), left.take("status")),
        "watch_ended" => {
            left.drop(&["probes"]);
            format!("the watch over production ends: {}", left.take("status"))
        }
        _ => return None,
    })
}

/// An identifier as words.
fn spoken(name: &str) -> String {
    name.replace('_', " ")
}

fn one_of(agent: String, kind: String) -> String {
    match (agent.is_empty(), kind.is_empty()) {
        (false, _) => format!("the {agent}"),
        (true, false) => kind,
        (true, true) => "a job".to_owned(),
    }
}

/// What is to be fixed: source and text, one line each.
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

/// A value in words: hashes of ten characters, lists with commas, empty for null.
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

/// The text with every commit id and digest cut to ten characters.
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
        render_event(event, detail.as_object().unwrap()).line
    }

    #[test]
    fn events_read_as_sentences_with_short_hashes() {
        let sha = "a".repeat(40);
        for (event, detail, wanted) in [
            (
                "stage_advanced",
                json!({"from": "review", "to": "testing", "why": "approved", "head": sha}),
                "review → testing with aaaaaaaaaa: approved",
            ),
            (
                "job_started",
                json!({"job": 1, "run": 7, "kind": "agent", "agent": "analyst", "stage": "analysis", "attempt": 1}),
                "the analyst starts in analysis, round 1, run 7",
            ),
            ("lease_acquired", json!({"repo": "shop", "fence": 3}), "the merge lease of shop is acquired"),
            (
                "evidence",
                json!({"evidence": 3, "hash": sha, "run": 2, "gate": "ci_green", "verdict": "fail", "commit": sha, "why": "exit 1"}),
                "ci_green fails on aaaaaaaaaa: exit 1",
            ),
            (
                "run_prepared",
                json!({"run": 3, "start": sha, "prompt_sha256": sha, "model": null, "independent": false, "notes": [], "confined": "bubblewrap", "network": "open"}),
                "run 3 is prepared on aaaaaaaaaa, confined by bubblewrap, network open, not independent",
            ),
            (
                "released",
                json!({"for": "approval", "so": "the work continues", "waited_ms": 240_000}),
                "approval given after 4 min: the work continues",
            ),
            (
                "pr_merged",
                json!({"deploy": "1-1-1", "landed": sha, "how": "by a push"}),
                "merged as aaaaaaaaaa: by a push",
            ),
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
        let entry = render_event("stage_rolled_back", detail.as_object().unwrap());
        assert_eq!(entry.line, "review → development, sent back, round 2: changes");
        assert_eq!(entry.under, ["review: no test"]);
    }
}
