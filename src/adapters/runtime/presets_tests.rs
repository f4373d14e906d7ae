use super::super::Runtime;
use super::*;
use crate::model::stage::Agent;
use std::path::Path;

fn read(preset: PresetKind, lines: &[&str], code: i32) -> Outcome {
    let mut reader = Runtime::Preset(preset, PresetSettings::default()).reader(None);
    reader.feed(lines.join("\n").as_bytes());
    reader.finish(Exit { code: Some(code), ..Exit::default() }, "", 0)
}

fn argv(preset: PresetKind, session: Option<Session<'_>>, models: &[&str]) -> (String, Launch) {
    let models: Vec<String> = models.iter().map(|m| (*m).to_owned()).collect();
    let request = Request {
        agent: Agent::Developer,
        model_candidates: &models,
        fallback_model: "",
        effort: "",
        max_cost_usd: None,
        config_dir: Path::new("/cfg"),
        session,
        trusted_rules: None,
        worktree: Path::new("/tree"),
    };
    let settings = PresetSettings { extra_args: vec!["--more".into()], ..PresetSettings::default() };
    let launch = launch(preset, &settings, &request);
    let words: Vec<_> = launch.argv.iter().map(|a| a.to_str().unwrap()).collect();
    (words.join(" "), launch)
}

#[test]
fn command_lines() {
    let fresh = Some(Session::Fresh("id"));
    let (codex, launch) = argv(PresetKind::Codex, fresh, &["--x", "gpt-5.1"]);
    assert_eq!(codex, "codex exec --json -s workspace-write --skip-git-repo-check -C /tree -m gpt-5.1 --more -");
    assert_eq!(launch.env, [("CODEX_HOME".into(), "/cfg".into())]);
    assert_eq!((launch.notes.len(), launch.session), (1, None), "its sessions name themselves");
    let (codex, launch) = argv(PresetKind::Codex, Some(Session::Resume("0199-ab")), &[]);
    assert!(codex.ends_with("--more resume 0199-ab -") && launch.resumed, "{codex}");
    let (gemini, _) = argv(PresetKind::Gemini, fresh, &["gemini-3-pro"]);
    let start = "gemini -o stream-json --approval-mode yolo --skip-trust -m gemini-3-pro --more -p ";
    assert!(gemini.starts_with(start), "{gemini}");
    let (opencode, launch) = argv(PresetKind::OpenCode, Some(Session::Resume("--evil")), &["no-slash", "a/b"]);
    assert_eq!(opencode, "opencode run --format json --dir /tree -m a/b --more");
    assert_eq!((launch.notes.len(), launch.resumed), (2, false));
}

#[test]
fn codex_prices_nothing() {
    let item = r#"{"type":"item.completed","item":{"type":"error","message":"metadata not found"}}"#;
    let good = [
        r#"{"type":"thread.started","thread_id":"t1"}"#,
        r#"{"type":"turn.started"}"#,
        item,
        r#"{"type":"item.completed","item":{"type":"agent_message","text":"done"}}"#,
        r#"{"type":"turn.completed","usage":{"input_tokens":10,"cached_input_tokens":4,"output_tokens":3}}"#,
    ];
    let got = read(PresetKind::Codex, &good, 0);
    assert_eq!((got.kind, got.cost_micros, got.tokens_in, got.tokens_out), (Kind::Ended, None, Some(10), Some(3)));
    assert_eq!((got.session.as_deref(), got.text.as_deref()), (Some("t1"), Some("done")));
    let failed = [r#"{"type":"turn.failed","error":{"message":"no such model"}}"#];
    assert_eq!(read(PresetKind::Codex, &failed, 1).why, "no such model");
    assert_eq!(read(PresetKind::Codex, &good[..4], 0).kind, Kind::Failed, "the turn never ended");
}

#[test]
fn gemini_sums_up_at_its_end() {
    let good = [
        r#"{"type":"init","session_id":"g","model":"gemini-3-pro"}"#,
        r#"{"type":"message","role":"user","content":"prompt"}"#,
        r#"{"type":"message","role":"assistant","content":"do","delta":true}"#,
        r#"{"type":"message","role":"assistant","content":"ne","delta":true}"#,
        r#"{"type":"result","status":"success","stats":{"input_tokens":7,"output_tokens":2}}"#,
    ];
    let got = read(PresetKind::Gemini, &good, 0);
    assert_eq!((got.kind, got.cost_micros, got.tokens_in), (Kind::Ended, None, Some(7)));
    assert_eq!((got.model.as_deref(), got.text.as_deref()), (Some("gemini-3-pro"), Some("done")));
    let bad = [r#"{"type":"result","status":"error","error":{"type":"x","message":"turn limit"}}"#];
    let got = read(PresetKind::Gemini, &bad, 53);
    assert_eq!((got.kind, got.why.as_str()), (Kind::Failed, "turn limit"));
    assert_eq!(read(PresetKind::Gemini, &[], 42).why, "exit code 42");
}

#[test]
fn opencode_adds_up_its_steps_and_its_exit_code_is_not_trusted() {
    let step = r#"{"type":"step_finish","sessionID":"s","part":{"cost":0.25,"tokens":{"input":5,"output":1,"reasoning":2,"cache":{"read":10,"write":0}}}}"#;
    let got = read(PresetKind::OpenCode, &[step, step], 0);
    assert_eq!((got.kind, got.cost_micros), (Kind::Ended, Some(500_000)));
    assert_eq!((got.tokens_in, got.tokens_out, got.turns), (Some(30), Some(6), Some(2)));
    let error = r#"{"type":"error","sessionID":"s","error":{"name":"APIError","data":{"message":"overdrawn"}}}"#;
    assert_eq!(read(PresetKind::OpenCode, &[step, error], 0).why, "overdrawn");
    assert_eq!(read(PresetKind::OpenCode, &["{}"], 0).kind, Kind::Failed);
}

/// Output of codex 0.169, gemini 0.61 and opencode 1.18 without a key, or with one that their service refuses.
#[test]
fn ord_1_a_login_that_is_missing_or_refused_is_no_failure_unless_the_agent_had_worked() {
    let codex = |said: &str| format!(r#"{{"type":"turn.failed","error":{{"message":"{said}"}}}}"#);
    let gemini = |code: u32, said: &str| {
        format!(
            r#"{{"type":"result","status":"error","error":{{"type":"unknown","message":"[API Error: {{\"error\":{{\"code\":{code},\"message\":\"{said}\"}}}}]"}},"stats":{{"total_tokens":0,"input_tokens":0,"output_tokens":0}}}}"#
        )
    };
    let opencode = |status: u32| {
        format!(
            r#"{{"type":"error","sessionID":"s","error":{{"name":"APIError","data":{{"message":"invalid x-api-key","statusCode":{status}}}}}}}"#
        )
    };
    let unauthorized =
        "unexpected status 401 Unauthorized: Incorrect API key provided, url: http://127.0.0.1/v1/responses";
    let said = r#"{"type":"item.completed","item":{"type":"agent_message","text":"a"}}"#;
    let ran = r#"{"type":"item.started","item":{"type":"command_execution"}}"#;
    let harmless = r#"{"type":"item.completed","item":{"type":"error","message":"metadata not found"}}"#;
    let spoke = r#"{"type":"message","role":"assistant","content":"a"}"#;
    let step = r#"{"type":"step_finish","part":{"cost":0}}"#;
    let own = r#"{"type":"error","error":{"name":"ProviderAuthError","data":{"providerID":"x","message":"no key"}}}"#;
    let (c, g, o) = (PresetKind::Codex, PresetKind::Gemini, PresetKind::OpenCode);
    let cases: &[(PresetKind, &[&str], i32, Kind)] = &[
        (c, &[&codex(unauthorized)], 1, Kind::NoLogin),
        (c, &[harmless, &codex("Missing environment variable: `KEY`.")], 1, Kind::NoLogin),
        (c, &[said, &codex(unauthorized)], 1, Kind::Failed),
        (c, &[ran, &codex(unauthorized)], 1, Kind::Failed),
        (c, &[&codex("unexpected status 400 Bad Request: 401")], 1, Kind::Failed),
        (g, &[], 41, Kind::NoLogin),
        (g, &[spoke], 41, Kind::Failed),
        (g, &[&gemini(401, "no")], 145, Kind::NoLogin),
        (g, &[&gemini(400, "API key not valid. Please pass a valid API key.")], 144, Kind::NoLogin),
        (g, &[&gemini(500, "no")], 1, Kind::Failed),
        (g, &[spoke, &gemini(401, "no")], 145, Kind::Failed),
        (o, &[&opencode(401)], 1, Kind::NoLogin),
        (o, &[&opencode(401)], 0, Kind::NoLogin),
        (o, &[own], 1, Kind::NoLogin),
        (o, &[&opencode(400)], 1, Kind::Failed),
        (o, &[step, &opencode(401)], 1, Kind::Failed),
    ];
    for (preset, lines, code, want) in cases {
        let got = read(*preset, lines, *code);
        assert_eq!(got.kind, *want, "{preset:?} {code} {lines:?}: {}", got.why);
    }
}

/// What is ended after a grace is only what has said its last word, and one that works on has not (RUN-5).
#[test]
fn a_run_is_over_only_by_an_event_after_which_nothing_is_done() {
    let finish =
        |reason: &str| format!(r#"{{"type":"step_finish","sessionID":"s","part":{{"reason":"{reason}","cost":0}}}}"#);
    let (calls, stop) = (finish("tool-calls"), finish("stop"));
    let start = r#"{"type":"step_start","sessionID":"s","part":{}}"#;
    let tool = r#"{"type":"tool_use","sessionID":"s","part":{}}"#;
    let error = r#"{"type":"error","sessionID":"s","error":{"name":"APIError"}}"#;
    let completed = r#"{"type":"turn.completed"}"#;
    let failed = r#"{"type":"turn.failed","error":{"message":"no"}}"#;
    let item = r#"{"type":"item.started","item":{}}"#;
    let done = r#"{"type":"result","status":"success"}"#;
    let not = r#"{"type":"result","status":"error","error":{"message":"no"}}"#;
    let called = r#"{"type":"tool_use"}"#;
    let (c, g, o) = (PresetKind::Codex, PresetKind::Gemini, PresetKind::OpenCode);
    let cases: &[(PresetKind, &[&str], Option<bool>)] = &[
        (o, &[], None),
        (o, &[start, &calls], None),
        (o, &[start, &stop], Some(true)),
        (o, &[start, &stop, start], None),
        (o, &[start, &stop, tool], None),
        (o, &[start, &calls, start, &stop], Some(true)),
        (o, &[start, error], Some(false)),
        (o, &[r#"{"type":"step_finish","part":{}}"#], None),
        (c, &[completed], Some(true)),
        (c, &[completed, r#"{"type":"turn.started"}"#], None),
        (c, &[completed, item], None),
        (c, &[failed], Some(false)),
        (g, &[called], None),
        (g, &[called, done], Some(true)),
        (g, &[done, called], None),
        (g, &[not], Some(false)),
    ];
    for (preset, lines, want) in cases {
        let mut seen = Seen::new(*preset);
        lines.iter().for_each(|line| seen.line(line.as_bytes()));
        assert_eq!(seen.concluded(), *want, "{preset:?} {lines:?}");
    }
}
