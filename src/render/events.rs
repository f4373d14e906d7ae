//! An agent's recorded stdout for people (`orch logs`): what it said and did, line by line. Pure; accepts any bytes.

use super::cells::counted;
use crate::model::outcome::RuntimeKind;
use crate::model::text::steers;
use serde_json::Value;

/// Characters shown of one text, tool call or tool result.
const SAID: usize = 4000;
const CALL: usize = 160;

/// A whole `events.jsonl` as text. Lines that are not events are shown as they are, without control characters.
pub fn readable(kind: RuntimeKind, bytes: &[u8]) -> String {
    let mut shown = String::new();
    for line in bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty()) {
        let parsed = if line.first() == Some(&b'{') { serde_json::from_slice::<Value>(line).ok() } else { None };
        let lines = match (&parsed, kind) {
            (None, _) | (_, RuntimeKind::Command) => vec![clean(&String::from_utf8_lossy(line), SAID)],
            (Some(event), RuntimeKind::Claude) => claude(event),
            (Some(event), RuntimeKind::Codex) => codex(event),
            (Some(event), RuntimeKind::Gemini) => gemini(event),
            (Some(event), RuntimeKind::OpenCode) => opencode(event),
        };
        for text in lines {
            shown.push_str(&text);
            shown.push('\n');
        }
    }
    shown
}

fn field<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

fn claude(event: &Value) -> Vec<String> {
    match (field(event, "type"), field(event, "subtype")) {
        ("system", "init") => vec![format!("— {} · {}", flat(event, "model"), flat(event, "permissionMode"))],
        ("system", "api_retry") => {
            let n = |name: &str| event.get(name).and_then(Value::as_i64).unwrap_or(0);
            let (status, wait) = (n("error_status"), n("retry_delay_ms"));
            // Without a status, nobody answered.
            let said = if status == 0 { "no answer".to_owned() } else { format!("the model answered {status}") };
            vec![format!("! {said}; try {} of {} in {wait} ms", n("attempt"), n("max_retries"))]
        }
        ("system", "permission_denied") => vec![format!("! not permitted: {}", flat(event, "tool_name"))],
        ("system", "compact_boundary") => vec!["— the conversation was shortened".to_owned()],
        ("assistant", _) => blocks(event, claude_said),
        ("user", _) => blocks(event, claude_answer),
        ("rate_limit_event", _) => {
            let info = event.get("rate_limit_info").unwrap_or(&Value::Null);
            if field(info, "status") == "rejected" {
                vec![format!("! the account's {} window is used up", flat(info, "rateLimitType"))]
            } else {
                Vec::new()
            }
        }
        ("result", reason) => {
            let cost = event.get("total_cost_usd").and_then(Value::as_f64);
            let cost = cost.map_or_else(|| "cost unknown".to_owned(), |c| format!("{c:.4} USD"));
            let turns = event.get("num_turns").and_then(Value::as_i64).unwrap_or(0);
            let failed = event.get("is_error") != Some(&Value::Bool(false));
            let how = if failed { format!("failed ({reason})") } else { "done".to_owned() };
            let mut lines = vec![format!("— {how} · {} · {cost}", counted(turns, "turn"))];
            if failed {
                let errors = event.get("errors").and_then(Value::as_array);
                let listed = errors.map_or("", |e| e.iter().find_map(Value::as_str).unwrap_or(""));
                let said = field(event, "result");
                lines.push(format!("! {}", clean(if said.is_empty() { listed } else { said }, SAID)));
            }
            lines
        }
        _ => Vec::new(),
    }
}

fn blocks(event: &Value, each: fn(&Value) -> Option<String>) -> Vec<String> {
    let content = event.get("message").and_then(|m| m.get("content"));
    content.and_then(Value::as_array).map_or_else(Vec::new, |blocks| blocks.iter().filter_map(each).collect())
}

fn claude_said(block: &Value) -> Option<String> {
    match field(block, "type") {
        "text" => Some(clean(field(block, "text"), SAID)),
        "tool_use" => {
            let input = block.get("input").and_then(Value::as_object);
            let input_text = input.and_then(|i| i.values().find_map(Value::as_str)).unwrap_or("");
            Some(format!("> {} {}", flat(block, "name"), short(input_text)))
        }
        _ => None,
    }
}

/// The start of a tool's result; the rest is in the file.
fn claude_answer(block: &Value) -> Option<String> {
    let content = block.get("content")?;
    let parts = content.as_array().and_then(|p| p.iter().find_map(|p| p.get("text")));
    let said = content.as_str().or_else(|| parts.and_then(Value::as_str))?;
    let mark = if block.get("is_error") == Some(&Value::Bool(true)) { "  ! " } else { "  " };
    Some(format!("{mark}{}", short(said)))
}

fn codex(event: &Value) -> Vec<String> {
    let item = event.get("item").unwrap_or(&Value::Null);
    match (field(event, "type"), field(item, "type")) {
        ("item.completed", "agent_message") => vec![clean(field(item, "text"), SAID)],
        ("item.completed", "command_execution") => vec![format!("> {}", flat(item, "command"))],
        ("item.completed", "error") => vec![format!("! {}", flat(item, "message"))],
        ("item.completed", other) if other != "reasoning" => vec![format!("> {}", short(other))],
        ("turn.completed", _) => vec!["— turn done".to_owned()],
        ("turn.failed", _) => {
            vec![format!("! {}", flat(event.get("error").unwrap_or(&Value::Null), "message"))]
        }
        _ => Vec::new(),
    }
}

fn gemini(event: &Value) -> Vec<String> {
    match field(event, "type") {
        "init" => vec![format!("— {}", flat(event, "model"))],
        "message" if field(event, "role") != "user" => vec![clean(field(event, "content"), SAID)],
        "tool_use" => vec![format!("> {}", flat(event, "tool_name"))],
        "error" => vec![format!("! {}", flat(event, "message"))],
        "result" => vec![format!("— {}", flat(event, "status"))],
        _ => Vec::new(),
    }
}

fn opencode(event: &Value) -> Vec<String> {
    let part = event.get("part").unwrap_or(&Value::Null);
    match field(event, "type") {
        "text" => vec![clean(field(part, "text"), SAID)],
        "tool_use" => vec![format!("> {}", flat(part, "tool"))],
        "error" => vec![format!("! {}", short(&event.get("error").map(Value::to_string).unwrap_or_default()))],
        "step_finish" => vec!["— step done".to_owned()],
        _ => Vec::new(),
    }
}

fn flat(value: &Value, name: &str) -> String {
    short(field(value, name))
}

/// One line, shortened.
fn short(text: &str) -> String {
    clean(&text.split_whitespace().collect::<Vec<_>>().join(" "), CALL)
}

/// Keeps line breaks and tabs and removes other control characters: an agent's text must not steer the reader's
/// terminal.
fn clean(text: &str, limit: usize) -> String {
    let kept = |c: &char| matches!(c, '\n' | '\t') || !steers(*c);
    let mut characters = text.chars().filter(kept);
    let mut shown: String = characters.by_ref().take(limit).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_can_be_shown(
            kind in proptest::sample::select(RuntimeKind::ALL),
            name in proptest::sample::select(vec!["system", "assistant", "user", "result", "error", "text", "message"]),
            rest in "[ -~]{0,40}",
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let event = format!("{{\"type\":\"{name}\",\"message\":{{\"content\":[{rest}]}}}}\n");
            let shown = readable(kind, &[event.as_bytes(), &bytes].concat());
            prop_assert!(!shown.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')));
        }
    }

    #[test]
    fn a_recorded_run_reads_like_one() {
        let stream = include_bytes!("../../tests/fixtures/claude/stream.jsonl");
        assert_eq!(
            readable(RuntimeKind::Claude, stream),
            "— claude-opus-5-5 · default\n\
             > Write /checkout/a.txt\n  \
               File created successfully at: /checkout/a.txt (file state is current in your context — no need to Read it back)\n\
             > Bash git add -A && git commit -q -m a\n  \
               (Bash completed with no output)\n\
             done\n\
             — done · 3 turns · 0.0204 USD\n"
        );
        let refused = include_bytes!("../../tests/fixtures/claude/oauth429.jsonl");
        let shown = readable(RuntimeKind::Claude, refused);
        assert!(shown.contains("! the account's five_hour window is used up\n"), "{shown}");
        assert!(shown.contains("— failed (success) · 1 turn"), "{shown}");
    }

    #[test]
    fn other_bytes_are_shown_harmlessly() {
        let shown = readable(RuntimeKind::Command, b"plain\n\x1b[2Jwiped\xff\n{\"cost_usd\":1}\n");
        assert_eq!(shown, "plain\n[2Jwiped\u{fffd}\n{\"cost_usd\":1}\n");
        let deep = "[".repeat(5000);
        assert_eq!(readable(RuntimeKind::Claude, format!("{{\"a\":{deep}").as_bytes()).chars().count(), 4002);
    }

    #[test]
    fn presets_are_read_too() {
        let codex = br#"{"type":"item.completed","item":{"type":"agent_message","text":"hello"}}"#;
        assert_eq!(readable(RuntimeKind::Codex, codex), "hello\n");
        let opencode = br#"{"type":"error","error":{"name":"APIError"}}"#;
        assert_eq!(readable(RuntimeKind::OpenCode, opencode), "! {\"name\":\"APIError\"}\n");
    }

    #[test]
    fn nobody_answered_is_said_so_and_counts_agree() {
        let line = |event: &str| readable(RuntimeKind::Claude, event.as_bytes());
        let retry = |status: &str| {
            line(&format!(
                r#"{{"type":"system","subtype":"api_retry","error_status":{status},"attempt":1,"max_retries":3,"retry_delay_ms":5}}"#
            ))
        };
        assert_eq!(retry("null"), "! no answer; try 1 of 3 in 5 ms\n");
        assert_eq!(retry("529"), "! the model answered 529; try 1 of 3 in 5 ms\n");
        let result =
            line(r#"{"type":"result","subtype":"success","is_error":false,"num_turns":1,"total_cost_usd":0.5}"#);
        assert_eq!(result, "— done · 1 turn · 0.5000 USD\n");
    }
}
