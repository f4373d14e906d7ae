use super::super::{Exit, Launch, Runtime};
use super::*;
use crate::model::outcome::{Kind, Outcome};
use crate::model::stage::Agent;
use proptest::prelude::*;

const ID: &str = "11111111-2222-4333-8444-555555555555";
/// Before the recorded reset time.
const NOW: i64 = 1_795_399_000_000;

fn recorded(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/claude/{name}.jsonl", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn read(bytes: &[u8], before: Option<i64>, exit: Exit<'_>, stderr: &str) -> Outcome {
    let mut reader = Runtime::Claude(ClaudeSettings::default()).reader(before);
    reader.feed(bytes);
    reader.finish(exit, stderr, NOW)
}

fn code(code: i32) -> Exit<'static> {
    Exit { code: Some(code), ..Exit::default() }
}

/// name, exit code, kind, part of the reason, cost, tokens in, turns, denials
type Row = (&'static str, i32, Kind, &'static str, Option<i64>, Option<i64>, Option<i64>, usize);

#[test]
fn every_recorded_stream() {
    let limit = |until_ms| Kind::UsageLimit { until_ms };
    let busy = Kind::Overloaded { until_ms: None };
    let rows: Vec<Row> = vec![
        ("acceptedits", 0, Kind::Ended, "completed", Some(20_400), Some(9300), Some(3), 1),
        ("budget", 1, Kind::Failed, "error_max_budget_usd: Reached maximum", Some(6800), Some(3100), Some(1), 0),
        ("closedport", 1, busy, "Connection refused", Some(0), Some(0), Some(1), 0),
        ("credit", 1, Kind::Failed, "Credit balance is too low", Some(0), Some(0), Some(1), 0),
        ("denied", 0, Kind::Ended, "completed", Some(20_400), Some(9300), Some(3), 2),
        ("e400", 1, Kind::Failed, "prompt_too_long: Prompt is too long", Some(0), Some(0), Some(1), 0),
        ("e401r1", 1, Kind::NoLogin, "Invalid API key", Some(0), Some(0), Some(1), 0),
        ("e403", 1, Kind::NoLogin, "Failed to authenticate", Some(0), Some(0), Some(1), 0),
        ("e404", 1, Kind::Failed, "selected model", Some(0), Some(0), Some(1), 0),
        ("e429r2", 1, limit(None), "slow down", Some(0), Some(0), Some(1), 0),
        ("e500r0", 1, busy, "API Error: 500", Some(0), Some(0), Some(1), 0),
        ("e529r1", 1, busy, "529 Overloaded", Some(0), Some(0), Some(1), 0),
        ("key429hdr", 1, limit(None), "429", Some(0), Some(0), Some(1), 0),
        ("maxturns", 1, Kind::Failed, "error_max_turns: Reached", Some(6800), Some(3100), Some(2), 0),
        ("nokey", 1, Kind::NoLogin, "Not logged in", Some(0), Some(0), Some(1), 0),
        ("oauth401", 1, Kind::NoLogin, "OAuth token has expired", Some(0), Some(0), Some(1), 0),
        ("oauth429", 1, limit(Some(1_795_400_000_000)), "5-hour limit", Some(0), Some(0), Some(1), 0),
        ("retry-then-ok", 0, Kind::Ended, "completed", Some(6800), Some(3100), Some(1), 0),
        ("schema", 0, Kind::Ended, "completed", Some(6800), Some(3100), Some(2), 0),
        ("sigHUP", 129, Kind::Killed, "signal 1,", None, Some(3100), None, 0),
        ("sigINT", 0, Kind::Failed, "error_during_execution", Some(6800), Some(3100), Some(3), 0),
        ("sigTERM", 143, Kind::Killed, "signal 15,", None, Some(3100), None, 0),
        ("skipperm-sandbox", 0, Kind::Ended, "completed", Some(20_400), Some(9300), Some(3), 0),
        ("stream", 0, Kind::Ended, "completed", Some(20_400), Some(9300), Some(3), 0),
    ];
    let folder = format!("{}/tests/fixtures/claude", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), rows.len(), "a recorded stream is not in the table");
    for (name, exit, kind, why, cost, tokens, turns, denials) in rows {
        let got = read(&recorded(name), None, code(exit), "");
        assert_eq!((got.kind, got.cost_micros, got.tokens_in, got.turns), (kind, cost, tokens, turns), "{name}");
        assert_eq!(got.denials.len(), denials, "{name}: {:?}", got.denials);
        assert!(got.why.contains(why), "{name}: {}", got.why);
        assert!(got.session.is_some(), "{name}");
    }
    let denied = read(&recorded("denied"), None, code(0), "");
    assert_eq!(denied.denials, ["Write: /checkout/a.txt", "Bash: git add -A && git commit -q -m a"]);
    assert_eq!((denied.model.as_deref(), denied.text.as_deref()), (Some("claude-opus-5-5"), Some("done")));
}

#[test]
fn success_needs_all_four() {
    let good = recorded("stream");
    assert_eq!(read(&good, None, code(1), "boom").kind, Kind::Failed);
    let limit = Exit { ended_by: Some("the wall clock"), ..code(0) };
    let killed = read(&good, None, limit, "");
    assert_eq!((killed.kind, killed.cost_micros), (Kind::Killed, Some(20_400)), "what it cost is known all the same");
    let signal = Exit { signal: Some(9), ..Exit::default() };
    assert_eq!(read(&good, None, signal, "").kind, Kind::Killed);
    for (from, to) in [
        ("\"is_error\":false", "\"is_error\":true"),
        ("\"is_error\":false", "\"is_error\":null"),
        ("\"subtype\":\"success\"", "\"subtype\":\"new_kind\""),
        ("\"type\":\"result\"", "\"type\":\"tluser\""),
    ] {
        let text = String::from_utf8(good.clone()).unwrap();
        assert!(text.contains(from));
        assert_eq!(read(text.replace(from, to).as_bytes(), None, code(0), "").kind, Kind::Failed, "{to}");
    }
    let none = read(b"", None, code(1), "error: unknown option '--nonsense'\n");
    assert_eq!((none.kind, none.cost_micros), (Kind::Failed, None));
    assert_eq!(none.why, "exit code 1: error: unknown option '--nonsense'");
    assert_eq!(read(b"", None, code(0), "").kind, Kind::Failed);
}

#[test]
fn the_last_result_counts() {
    let mut two = recorded("maxturns");
    two.extend(recorded("acceptedits"));
    two.extend(b"not json\n{\"type\":\"brand_new\",\"x\":[]}\n{\"type\":");
    let got = read(&two, None, code(0), "");
    assert_eq!((got.kind, got.cost_micros), (Kind::Ended, Some(20_400)));
}

/// A result is the end, good or bad, with or without the end of its line, unless the model speaks on.
#[test]
fn a_run_is_over_by_its_last_result() {
    let concluded = |parts: &[&[u8]]| {
        let mut reader = Runtime::Claude(ClaudeSettings::default()).reader(None);
        parts.iter().for_each(|part| reader.feed(part));
        reader.pause();
        reader.concluded()
    };
    let (good, bad) = (recorded("stream"), recorded("maxturns"));
    let cut = |bytes: &[u8]| bytes.trim_ascii_end().to_vec();
    let said = br#"{"type":"assistant","message":{"id":"m","model":"x","usage":{"output_tokens":1}}}"#;
    let status = br#"{"type":"system","subtype":"status"}"#;
    assert_eq!(concluded(&[]), None);
    assert_eq!((concluded(&[&good]), concluded(&[&bad])), (Some(true), Some(false)));
    assert_eq!((concluded(&[&cut(&good)]), concluded(&[&cut(&bad)])), (Some(true), Some(false)));
    assert_eq!(concluded(&[&cut(&good), b"\n", status, b"\n"]), Some(true));
    assert_eq!(concluded(&[&good, said, b"\n"]), None, "it works on");
    assert_eq!(concluded(&[&good, said, b"\n", &good]), Some(true));
    let half = cut(&good);
    assert_eq!(concluded(&[half.strip_suffix(b"}").unwrap()]), None);
}

fn result(total: f64, since: Option<f64>) -> String {
    let models = |usd: f64| serde_json::json!({"claude-x": {"costUSD": usd, "inputTokens": 7, "outputTokens": 2}});
    let mut event = serde_json::json!({"type": "result", "subtype": "success", "is_error": false,
        "total_cost_usd": total, "modelUsage": models(total), "usage": {"input_tokens": 5, "output_tokens": 1}});
    if let Some(since) = since {
        event["model_usage_since_last_result"] = models(since);
    }
    format!("{event}\n")
}

#[test]
fn a_resumed_session_costs_the_difference() {
    let old = "{\"type\":\"system\",\"subtype\":\"init\",\"claude_code_version\":\"2.1.197\"}\n";
    let of = |stream: &str, before| {
        let got = read(stream.as_bytes(), before, code(0), "");
        (got.cost_micros.unwrap(), got.session_total_micros.unwrap())
    };
    assert_eq!(of(&result(0.03, None), None), (30_000, 30_000));
    assert_eq!(of(&result(0.03, None), Some(20_000)), (10_000, 30_000), "the total is cumulative");
    assert_eq!(of(&result(0.01, None), Some(20_000)), (10_000, 30_000), "a smaller one can't be");
    assert_eq!(of(&format!("{old}{}", result(0.03, None)), Some(20_000)), (30_000, 50_000), "nor in that version");
    assert_eq!(of(&result(0.05, Some(0.01)), Some(20_000)), (10_000, 50_000), "a lost run's cost is not this one's");
    let twice = result(0.05, Some(0.01)) + &result(0.07, Some(0.02));
    assert_eq!(of(&twice, Some(40_000)), (30_000, 70_000));
    let tokens = read(result(0.03, None).as_bytes(), Some(20_000), code(0), "");
    assert_eq!((tokens.tokens_in, tokens.tokens_out), (Some(5), Some(1)));
}

#[test]
fn reset_times_are_bounded() {
    let at = |seconds: i64| {
        let stream = String::from_utf8(recorded("oauth429")).unwrap().replace("1795400000", &seconds.to_string());
        read(stream.as_bytes(), None, code(1), "").kind
    };
    let week = 7 * 24 * 3_600_000;
    assert_eq!(at(NOW / 1000 + 60), Kind::UsageLimit { until_ms: Some(NOW + 60_000) });
    assert_eq!(at(9_999_999_999), Kind::UsageLimit { until_ms: Some(NOW + week) });
    assert_eq!(at(0), Kind::UsageLimit { until_ms: None }, "one that is over says nothing");
    let line = |text: &str| {
        let event = serde_json::json!({"type": "result", "subtype": "success", "is_error": true, "result": text});
        read(event.to_string().as_bytes(), None, code(1), "").kind
    };
    let later = NOW / 1000 + 5;
    let reset = Kind::UsageLimit { until_ms: Some(NOW + 5000) };
    assert_eq!(line(&format!("Claude AI usage limit reached|{later}")), reset, "the form of older versions");
    assert_eq!(line("the work item says: Claude AI usage limit reached"), Kind::Failed);
}

#[test]
fn a_window_refused_and_opened_again_is_no_limit() {
    let event =
        |status: &str| format!("{{\"type\":\"rate_limit_event\",\"rate_limit_info\":{{\"status\":\"{status}\"}}}}\n");
    let failed = "{\"type\":\"result\",\"subtype\":\"error_max_turns\",\"is_error\":true}\n";
    let stream = event("rejected") + &event("allowed") + failed;
    assert_eq!(read(stream.as_bytes(), None, code(1), "").kind, Kind::Failed);
}

#[test]
fn usage_of_one_message_is_not_added_twice() {
    let event = |id: &str, output: u32| {
        format!(
            "{{\"type\":\"assistant\",\"message\":{{\"id\":\"{id}\",\"usage\":{{\"input_tokens\":10,\"output_tokens\":{output}}}}}}}\n"
        )
    };
    let mut reader = Runtime::Claude(ClaudeSettings::default()).reader(None);
    assert_eq!(reader.live(), Default::default());
    reader.feed((event("a", 1) + &event("b", 2) + &event("a", 5)).as_bytes());
    let live = reader.live();
    assert_eq!((live.cost_micros, live.tokens_in, live.tokens_out), (None, Some(20), Some(7)));
}

fn asked<'a>(candidates: &'a [String], folder: &'a Path) -> Request<'a> {
    Request {
        agent: Agent::Developer,
        model_candidates: candidates,
        fallback_model: "",
        effort: "",
        max_cost_usd: None,
        config_dir: folder,
        session: None,
        trusted_rules: None,
        worktree: folder,
    }
}

fn words(launch: &Launch) -> Vec<&str> {
    launch.argv.iter().map(|a| a.to_str().unwrap()).collect()
}

#[test]
fn a_full_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.md");
    std::fs::write(&rules, "be kind").unwrap();
    let candidates = ["gpt-4; rm -rf /".to_owned(), String::new(), "claude-opus-4-8[1m]".to_owned()];
    let mut request = asked(&candidates, folder.path());
    request.fallback_model = "sonnet,--bad, claude-opus-4-8[1m] ,sonnet,haiku";
    request.effort = "high";
    request.max_cost_usd = Some(2.5);
    request.session = Some(Session::Fresh(ID));
    request.trusted_rules = Some(&rules);
    let settings = ClaudeSettings {
        allowed_tools: ["Read", "Bash(cargo *)", "Bash(git *)", "mcp__x__y"].map(str::to_owned).to_vec(),
        sandbox: Sandbox::Off,
        extra_args: vec!["--max-turns=9".into()],
        ..ClaudeSettings::default()
    };
    let launch = launch_with(&settings, &request, true);
    assert_eq!(
        words(&launch),
        [
            "claude",
            "-p",
            "--output-format=stream-json",
            "--verbose",
            "--permission-mode=dontAsk",
            "--tools=Read,Bash",
            "--allowedTools=Read,Bash(cargo *),Bash(git *),mcp__x__y",
            "--setting-sources=user",
            "--model=claude-opus-4-8[1m]",
            "--fallback-model=sonnet,haiku",
            "--effort=high",
            "--max-budget-usd=2.5",
            &format!("--session-id={ID}"),
            "--strict-mcp-config",
            &format!("--append-system-prompt-file={}", rules.display()),
            "--system-prompt-snapshot=off",
            "--max-turns=9",
        ]
    );
    assert_eq!(launch.notes.len(), 3, "{:?}", launch.notes);
    assert!(launch.notes[0].contains("is not valid for claude; using the next level"));
    assert_eq!((launch.model.as_deref(), launch.session.as_deref()), (Some("claude-opus-4-8[1m]"), Some(ID)));
    let env: Vec<_> = launch.env.iter().map(|(k, v)| format!("{}={}", k.display(), v.display())).collect();
    assert_eq!(env[0], format!("CLAUDE_CONFIG_DIR={}", folder.path().display()));
    for set in ["DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS=1", "CLAUDE_CODE_MAX_RETRIES=6"] {
        assert!(env.iter().any(|e| e == set), "{set}");
    }
}

/// R1: whatever the configuration says.
#[test]
fn a_reviewer_gets_no_tool_that_starts_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let request = Request { agent: Agent::Reviewer, ..asked(&[], folder.path()) };
    let settings = ClaudeSettings {
        permission_mode: "bypassPermissions".into(),
        allowed_tools: ["Bash", "mcp__x__run", "Task", "Read(/src/**)"].map(str::to_owned).to_vec(),
        sandbox: Sandbox::Required,
        extra_args: ["--tools", "Bash", "--dangerously-skip-permissions"].map(str::to_owned).to_vec(),
        ..ClaudeSettings::default()
    };
    let launch = launch_with(&settings, &request, true);
    assert_eq!(
        words(&launch),
        [
            "claude",
            "-p",
            "--output-format=stream-json",
            "--verbose",
            "--permission-mode=dontAsk",
            "--tools=Read,Grep,Glob,Write",
            "--allowedTools=Read,Grep,Glob,Write",
            "--setting-sources=user",
            "--settings={\"disableAllHooks\":true}",
            "--strict-mcp-config",
        ]
    );
    assert!(launch.notes.iter().any(|n| n.contains("extra_args")), "{:?}", launch.notes);
    assert_eq!(launch.masked, Vec::<&str>::new());
    assert!(Runtime::Claude(settings).kind().starts_nothing_for_a_judge());
}

#[test]
fn what_is_wrong_is_left_out_and_noted() {
    let folder = tempfile::tempdir().unwrap();
    let candidates = ["claude-".to_owned(), "claude-x y".to_owned(), "-p".to_owned()];
    let mut request = asked(&candidates, folder.path());
    request.effort = "extreme";
    request.max_cost_usd = Some(f64::NAN);
    request.session = Some(Session::Resume("not-a-uuid"));
    request.trusted_rules = Some(Path::new("/nowhere/rules.md"));
    let settings = ClaudeSettings {
        permission_mode: "yolo".into(),
        allowed_tools: Vec::new(),
        sandbox: Sandbox::Off,
        ..ClaudeSettings::default()
    };
    let launch = launch_with(&settings, &request, true);
    let words = words(&launch);
    assert!(words.contains(&"--permission-mode=dontAsk") && words.contains(&"--tools="));
    for left_out in ["model", "allowedTools", "effort", "max-budget", "session-id", "resume", "append", "settings="] {
        assert!(!words.iter().any(|w| w.starts_with(&format!("--{left_out}"))), "{left_out}: {words:?}");
    }
    assert_eq!(launch.notes.len(), 7, "{:?}", launch.notes);
    assert_eq!((launch.model, launch.session, launch.resumed), (None, None, false));
}

#[test]
fn a_session_is_resumed_where_it_is_and_begun_where_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = asked(&[], folder.path());
    for (made, wanted, flag, notes) in [
        (false, Session::Fresh(ID), "--session-id=", 0),
        (false, Session::Resume(ID), "--session-id=", 1),
        (true, Session::Resume(ID), "--resume=", 0),
        (true, Session::Fresh(ID), "--resume=", 1),
    ] {
        if made {
            let project = folder.path().join("projects/-checkout");
            std::fs::create_dir_all(&project).unwrap();
            std::fs::write(project.join(format!("{ID}.jsonl")), "").unwrap();
        }
        request.session = Some(wanted);
        let launch = launch_with(&ClaudeSettings { sandbox: Sandbox::Off, ..Default::default() }, &request, true);
        assert!(words(&launch).contains(&format!("{flag}{ID}").as_str()), "{wanted:?} {made}");
        assert_eq!((launch.notes.len(), launch.resumed), (notes, made), "{:?}", launch.notes);
    }
}

#[test]
fn the_sandbox_is_never_half_on() {
    let folder = tempfile::tempdir().unwrap();
    for (sandbox, works, on, notes) in [
        (Sandbox::Off, true, false, 0),
        (Sandbox::Auto, true, true, 0),
        (Sandbox::Auto, false, false, 1),
        (Sandbox::Required, true, true, 0),
        (Sandbox::Required, false, true, 0),
    ] {
        let settings = ClaudeSettings { sandbox, ..ClaudeSettings::default() };
        let launch = launch_with(&settings, &asked(&[], folder.path()), works);
        let given = words(&launch).iter().find_map(|w| w.strip_prefix("--settings=")).map(str::to_owned);
        assert_eq!((given.is_some(), launch.notes.len()), (on, notes), "{sandbox:?} {works}");
        if let Some(json) = given {
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            let set = |name: &str| json["sandbox"][name].as_bool();
            assert_eq!((set("enabled"), set("failIfUnavailable")), (Some(true), Some(true)));
            assert_eq!(set("allowUnsandboxedCommands"), Some(false));
        }
    }
}

#[test]
fn model_names() {
    for good in ["claude-opus-5-5", "claude-3.5-sonnet", "claude-x[1m]", "opus", "sonnet[1m]", "fable"] {
        assert!(is_model(good), "{good}");
    }
    for bad in ["", "claude-", "claude-[1m]", "Opus", "gpt-5", "claude-x [1m]", "claude-x[2m]", "--model", "claude-é"]
    {
        assert!(!is_model(bad), "{bad}");
    }
}

proptest! {
    /// Any bytes in any pieces give the same result, without a panic.
    #[test]
    fn any_bytes_in_any_pieces(
        parts in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            proptest::sample::select(vec![
                &b"{\"type\":\"result\",\"is_error\":false,\"subtype\":\"success\",\"modelUsage\":{\"m\":{\"costUSD\":1e308}}}\n"[..],
                b"{\"type\":\"result\",\"total_cost_usd\":-1,\"permission_denials\":[{},1,null]}\n",
                b"{\"type\":\"assistant\",\"message\":{\"id\":\"a\",\"usage\":{\"input_tokens\":9223372036854775807}}}\n",
                b"{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\",\"resetsAt\":1125899906842624}}\n",
                b"{\"type\":\"system\",\"subtype\":\"init\",\"claude_code_version\":\"99999999999999999999.\"}\n",
                b"{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":5}}\n",
                b"{\"type\":\"step_finish\",\"part\":{\"cost\":0.5,\"tokens\":{\"input\":-1}}}\n",
                b"{\"type\":\"message\",\"role\":\"assistant\",\"delta\":true,\"content\":\"x\"}\n",
                b"{\"cost_usd\":0.5}\n",
            ]).prop_map(<[u8]>::to_vec),
        ], 0..12),
        size in 1_usize..50,
        exit in prop_oneof![Just(None), any::<i32>().prop_map(Some)],
        before in prop_oneof![Just(None), any::<i64>().prop_map(Some)],
    ) {
        use super::super::{CommandSettings, PresetKind, PresetSettings};
        let bytes = parts.concat();
        for runtime in [
            Runtime::Claude(ClaudeSettings::default()),
            Runtime::Command(CommandSettings { argv: Vec::new() }),
            Runtime::Preset(PresetKind::Codex, PresetSettings::default()),
            Runtime::Preset(PresetKind::Gemini, PresetSettings::default()),
            Runtime::Preset(PresetKind::OpenCode, PresetSettings::default()),
        ] {
            let finish = |chunk: usize| {
                let mut reader = runtime.reader(before);
                for piece in bytes.chunks(chunk) {
                    reader.feed(piece);
                    reader.live();
                }
                reader.finish(Exit { code: exit, ..Exit::default() }, "tail", NOW)
            };
            let whole = finish(bytes.len().max(1));
            prop_assert_eq!(&whole, &finish(size));
            prop_assert!(whole.cost_micros.is_none_or(|c| c >= 0));
        }
    }
}
