//! Agents through their runtimes in the whole binary (RUN-5, RUN-7, RULE-25, RULE-26): the real Claude Code CLI with a
//! scripted model, and stand-ins for what it can't be made to do. If the CLI is not installed, the first test says so.

use crate::support::anthropic::{Model, TURN_MICROS, Turn};
use crate::support::git::raw;
use crate::support::house::{House, Plan};
use orch::model::task::Task;
use std::path::PathBuf;

/// The pinned CLI in the folder where the install scripts put their tools.
fn cli() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("ORCH_TOOLS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|c| c.join("orch/tools")))
        .or_else(|| set("HOME").map(|h| h.join(".cache/orch/tools")))?;
    let found = Some(cache.join("bin/claude")).filter(|p| p.exists());
    if found.is_none() {
        eprintln!("SKIPPED, NOT TESTED: the Claude Code CLI is not installed; run scripts/tools/install-claude.sh");
    }
    found
}

fn house(cli: &std::path::Path, model: &Model, agents: &str) -> House {
    House::new(&configured(cli, model, agents))
}

fn configured(cli: &std::path::Path, model: &Model, agents: &str) -> Plan {
    Plan::with_analysis().top(format!("agents: {{runtime: claude, retry_backoff_s: 0{agents}}}")).top(
        format!(
            "runtimes: {{claude: {{kind: claude, program: \"{}\", sandbox: off, env: {{ANTHROPIC_API_KEY: dummy-key, ANTHROPIC_BASE_URL: \"{}\", CLAUDE_CODE_MAX_RETRIES: \"1\"}}}}}}",
            cli.display(),
            model.url()
        ),
    )
}

fn write(name: &str) -> Turn {
    artefact("analysis", "analyst", &format!("{name}.md"), "")
}

/// A shell of the CLI writes an artefact with exact front matter.
fn artefact(stage: &str, agent: &str, file: &str, more: &str) -> Turn {
    let text = format!(
        "---\\nwork_item: ORCH-1\\nstage: {stage}\\nagent: {agent}\\ncreated: 2026-01-01T00:00:00Z\\n{more}---\\n\\n# {file}\\n\\nText.\\n"
    );
    let path = format!("docs/work-items/ORCH-1/{file}");
    Turn::bash(&format!("mkdir -p \"$(dirname {path})\" && printf -- '{text}' > {path}"))
}

fn analysis() -> Vec<Turn> {
    let mut turns: Vec<Turn> =
        ["01-brief", "02-requirements", "03-acceptance-criteria", "04-test-plan"].map(write).to_vec();
    turns.push(Turn::Say("The analysis is written."));
    turns
}

#[test]
fn the_real_cli_works_the_analysis_and_its_cost_is_booked() {
    let Some(cli) = cli() else { return };
    let model = Model::start(analysis());
    let house = house(&cli, &model, "");
    house.item("Greet <people>");
    house.tick().fine();
    let task =
        house.until_task("ORCH-1", "waits or is blocked", |t| t.waiting_for.is_some() || t.blocked_reason.is_some());
    assert!(task.waiting_for.is_some(), "{task:?}");
    let runs = house.runs("ORCH-1");
    assert_eq!(runs.len(), 1, "{runs:#?}");
    assert_eq!(runs[0].cost_micros, Some(5 * TURN_MICROS));
    assert!(runs[0].session.is_some());
    let asked = model.asked()[0].to_string();
    assert!(asked.contains("Greet <people>"), "the prompt came in on stdin");
    let events = std::fs::read_to_string(house.path("state/runs/1/events.jsonl")).unwrap();
    assert!(!events.contains("dummy-key"));
}

/// Every agent of the pipeline is the real CLI, which writes with its own tools, and commits on its own.
#[test]
fn the_real_cli_plays_every_agent_from_the_board_to_done() {
    let Some(cli) = cli() else { return };
    let house = House::new(&Plan::with_analysis());
    let area = house.path("state-area/demo/ORCH-1/agent");
    let greeting = area.join("checkout/greeting.txt");
    let review = "---\nwork_item: ORCH-1\nstage: review\nagent: reviewer\ncreated: 2026-01-01T00:00:00Z\nverdict: APPROVED\n---\n\n# Review\n\nFine.\n";
    let review_file = area.join("checkout/docs/work-items/ORCH-1/12-review.md");
    let ran = house.path("ran-by-the-reviewer");
    let mut script = analysis();
    script.extend([
        artefact("architecture", "architect", "06-adr/ADR-001-greeting.md", "status: accepted\\n"),
        Turn::Say("Decided."),
        Turn::Use("Write", serde_json::json!({"file_path": greeting, "content": "hello\n"})),
        Turn::bash("git add -A && git -c user.name=dev -c user.email=dev@example.com commit -q -m 'ORCH-1: greet'"),
        Turn::Say("Developed."),
        // A judge starts no program, whatever it is persuaded to do (R1).
        Turn::bash(&format!("touch {}", ran.display())),
        Turn::Use("Read", serde_json::json!({"file_path": area.join("tmp/judged/change.diff")})),
        Turn::Use("Write", serde_json::json!({"file_path": review_file, "content": review})),
        Turn::Say("Reviewed."),
        artefact("testing", "tester", "13-test-report.md", "result: PASS\\nverdict: PASS\\nstatus: PASS\\n"),
        Turn::Say("Tested."),
        artefact("deploy-staging", "deployer", "15-staging-log.md", "staging_status: SUCCESS\\n"),
        Turn::Say("On staging."),
    ]);
    let turns = script.len();
    let model = Model::start(script);
    let mut plan = configured(&cli, &model, "");
    plan.project[0] =
        "stages: [analysis, architecture, development, review, testing, deploy-staging, deploy]".to_owned();
    house.configure(&plan);
    house.item("Greet");
    let rests = |t: &Task| t.waiting_for.is_some() || t.blocked_reason.is_some() || t.stage.as_str() == "done";
    for (flag, stage) in [("--approve", "analysis"), ("--confirm-deploy", "deploy")] {
        let task = house.until("a question", || {
            house.tick();
            house.task("ORCH-1").filter(rests)
        });
        assert_eq!((task.stage.as_str(), &task.blocked_reason), (stage, &None), "{task:?}");
        house.orch(&["advance", "ORCH-1", flag]).fine();
    }
    let done = house.until_task_after_ticks("ORCH-1", |t| t.stage.as_str() == "done" || t.blocked_reason.is_some());
    assert_eq!((done.stage.as_str(), done.attempt), ("done", 1), "{done:?}");
    let runs = house.runs("ORCH-1");
    let agents: Vec<_> = runs.iter().filter(|r| r.agent.is_some()).collect();
    assert_eq!(agents.len(), 6, "each agent once");
    assert_eq!(agents.iter().filter_map(|r| r.cost_micros).sum::<i64>(), i64::try_from(turns).unwrap() * TURN_MICROS);
    let landed = raw(&house.remote(), &["log", "--format=%an %s", "main", "--", "greeting.txt"]);
    assert_eq!(
        landed.trim(),
        "orch ORCH-1: development (attempt 1)",
        "one run is one commit, and orch makes it (RULE-46)"
    );
    let asked = model.asked();
    assert_eq!(asked.len(), turns);
    assert!(!ran.exists(), "the reviewer started a program");
    let reviews: Vec<_> = asked.iter().filter(|a| a.to_string().contains("You are the reviewer")).collect();
    let tools = |a: &serde_json::Value| -> Vec<String> {
        let all = a["tools"].as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|t| t["name"].as_str().map(str::to_owned)).collect()
    };
    assert!(!reviews.is_empty());
    for request in &reviews {
        // The placeholder is the CLI's own, and not a tool.
        let given: Vec<String> = tools(request).into_iter().filter(|t| t != "DeferredToolPlaceholder").collect();
        assert!(given.iter().all(|t| ["Read", "Grep", "Glob", "Write"].contains(&t.as_str())), "{given:?}");
    }
    assert!(reviews.iter().any(|r| r.to_string().contains("+hello")), "the change is read from the file it was handed");
    assert!(!house.orch(&["status", "ORCH-1"]).json.to_string().contains("not independent"));
}

#[test]
fn rule_26_a_429_cools_down_the_credential_and_spends_no_attempt_and_the_session_continues() {
    let Some(cli) = cli() else { return };
    let limit = Turn::Fail(
        429,
        "rate_limit_error",
        "This request would exceed your account's rate limit.",
        vec![("retry-after", "3600".to_owned())],
    );
    let mut script = vec![write("01-brief"), limit];
    script.extend(analysis());
    let model = Model::start(script);
    let house = house(&cli, &model, "");
    house.item("Greet");
    house.tick().fine();
    let cool = house.until("a cool-down", || house.table("cooldowns").one("until").parse::<i64>().ok());
    let task = house.until_task("ORCH-1", "is idle", |t| t.stage.as_str() == "analysis");
    let job = house.table("jobs").with("kind", "agent").lines(&["status", "available_at"]);
    assert_eq!(job, [format!("queued {cool}")], "it goes back until then");
    assert_eq!((task.attempt, house.table("jobs").with("spent", 1).len()), (1, 0), "nothing is spent");
    assert_eq!(house.table("outbox").like("key", "alert/usage_limit/").len(), 1);
    house.item("Another");
    let held = house.tick();
    assert!(held.rules().contains(&"cooldown".to_owned()), "for every job of the credential: {:?}", held.json);
    house.orch(&["stop", "ORCH-2"]).fine();
    assert_eq!(model.asked().len(), 2, "nobody asks meanwhile");
    // The window opens again.
    house.table("cooldowns").put("until", 0);
    house.db().hurry();
    house.tick();
    house.until_task("ORCH-1", "waits", |t| t.waiting_for.is_some());
    let runs: Vec<_> = house.runs("ORCH-1");
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].session, runs[1].session, "the conversation goes on (RUN-5)");
    assert_eq!(runs[1].cost_micros, Some(5 * TURN_MICROS), "the difference, not the running total");
    assert!(house.table("cooldowns").is_empty());
}

/// A stand-in that prints what the CLI prints at a usage limit.
const LIMITED: &str = r#"#!/bin/sh
cat > /dev/null
echo '{"type":"system","subtype":"init","session_id":"5b0e8b1c-3c1e-4f57-9d64-0c1f6f0f6a11","model":"claude-opus-5-5"}'
echo '{"type":"result","subtype":"success","is_error":true,"api_error_status":429,"result":"You have hit your limit","num_turns":1,"total_cost_usd":0.01,"modelUsage":{},"session_id":"5b0e8b1c-3c1e-4f57-9d64-0c1f6f0f6a11"}'
exit 1
"#;

fn until_settled(house: &House, runs: usize) -> Task {
    house.until_task("ORCH-1", "has so many runs", |_| house.runs("ORCH-1").len() == runs)
}

#[test]
fn rule_26_five_limits_in_a_row_block_and_say_so() {
    let plan = Plan::with_analysis()
        .top("agents: {runtime: claude, retry_backoff_s: 0}")
        .top("runtimes: {claude: {kind: claude, program: ./limited.sh, sandbox: off, env: {ANTHROPIC_API_KEY: x}}}");
    let house = House::new(&plan);
    house.script("limited.sh", LIMITED);
    house.item("Greet");
    for n in 1..=5 {
        house.tick();
        let task = until_settled(&house, n);
        assert_eq!(task.blocked_reason.is_some(), n == 5, "{n}: {task:?}");
        house.table("cooldowns").put("until", 0);
        house.db().hurry();
    }
    let alerts = house.table("outbox").with("sink", "alert").texts("key");
    assert_eq!(alerts.iter().filter(|a| a.contains("usage_limit")).count(), 1, "{alerts:?}");
    assert_eq!(alerts.iter().filter(|a| a.contains("blocked")).count(), 1, "{alerts:?}");
    assert!(house.table("jobs").among("status", &["queued", "running"]).is_empty());
}

#[test]
fn rule_25_a_run_of_unknown_cost_books_its_cap() {
    let plan = Plan::with_analysis()
        .top("agents: {runtime: scripted, retry_backoff_s: 0, max_cost_usd: 2}")
        .top("limits: {max_cost_usd_per_task: 3}");
    let house = House::new(&plan);
    // Reports no cost and writes nothing: it is tried again.
    house.script("agent.sh", "#!/bin/sh\nexit 0\n");
    house.item("Greet");
    house.tick().fine();
    house.until_task("ORCH-1", "has a run", |_| house.runs("ORCH-1").len() == 1);
    let held = house.tick();
    assert!(held.rules().contains(&"task_cost".to_owned()), "2 booked and 2 to reserve pass 3: {:?}", held.json);
    house.tick();
    assert_eq!(house.runs("ORCH-1").len(), 1);
    assert_eq!(house.table("outbox").like("key", "alert/cost_limit/").len(), 1, "told once");
}

#[test]
fn run_2_a_run_past_the_days_money_waits_for_the_next_day_and_alerts_once() {
    let mut plan = Plan::with_analysis().top("limits: {max_cost_usd_per_day: 1, max_concurrency: 2}");
    plan.agent = plan.agent.replace("0.01", "0.6");
    let house = House::new(&plan);
    house.item("First");
    house.tick().fine();
    house.until_task("ORCH-1", "waits", |t| t.waiting_for.is_some());
    house.item("Second");
    let held = house.tick();
    assert!(
        held.rules().contains(&"day_cost".to_owned()),
        "0.6 booked and the dearest to reserve pass 1: {:?}",
        held.json
    );
    let text = held.json.to_string();
    assert!(text.contains("$0.60 booked today") && text.contains("$1.00 may be spent"), "{text}");
    for _ in 0..3 {
        house.tick();
    }
    assert_eq!(house.runs("ORCH-2").len(), 0);
    let alerts_sent = || house.table("outbox").like("key", "alert/cost_limit/").texts("key");
    assert_eq!(alerts_sent().len(), 1, "{:?}", alerts_sent());
    let said = house.orch(&["explain", "ORCH-2"]).json.to_string();
    assert!(said.contains("day_cost") && said.contains("max_cost_usd_per_day"), "{said}");
    // Yesterday's cost does not count today.
    for column in ["started_at", "ended_at"] {
        house.table("runs").shift(column, -86_400_000);
    }
    house.until_task_after_ticks("ORCH-2", |t| t.waiting_for.is_some());
    assert_eq!(alerts_sent().len(), 1);
}

#[test]
fn run_2_agents_at_once_in_one_project_are_limited() {
    let mut plan = Plan::with_analysis().top("limits: {per_project: 1, max_concurrency: 3}");
    plan.agent = plan.agent.replace("set -e\n", "set -e\nuntil [ -e \"$(dirname \"$0\")/go\" ]; do sleep 0.05; done\n");
    let house = House::new(&plan);
    house.item("First");
    house.item("Second");
    let both = house.tick().fine();
    assert_eq!(both.kinds().iter().filter(|k| *k == "job_started").count(), 1, "{:?}", both.json);
    assert!(both.rules().contains(&"project_limit".to_owned()), "{:?}", both.json);
    std::fs::write(house.path("go"), "").unwrap();
    for key in ["ORCH-1", "ORCH-2"] {
        house.until_task_after_ticks(key, |t| t.waiting_for.is_some());
    }
}

#[test]
fn a_preset_is_reached_from_the_configuration() {
    let codex = "#!/bin/sh\ncat > /dev/null\necho \"$@\" > \"$ORCH_WORKTREE/app.txt\"\necho '{\"type\":\"thread.started\",\"thread_id\":\"t-1\"}'\necho '{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":7,\"output_tokens\":3}}'\n";
    let plan = Plan::short()
        .top("agents: {runtime: mine, model: gpt-5}")
        .top("runtimes: {mine: {kind: codex, program: ./codex.sh, extra_args: [--ephemeral]}}");
    let house = House::new(&plan);
    house.script("codex.sh", codex);
    house.item("Greet");
    house.tick().fine();
    house.until_task("ORCH-1", "is developed", |t| t.stage.as_str() == "deploy");
    let run = &house.runs("ORCH-1")[0];
    assert_eq!((run.tokens_in, run.tokens_out, run.cost_micros), (Some(7), Some(3), None));
    assert_eq!(run.session.as_deref(), Some("t-1"));
    let said = std::fs::read_to_string(house.path("state-area/demo/ORCH-1/agent/checkout/app.txt")).unwrap();
    assert!(said.starts_with("exec --json") && said.contains("-m gpt-5 --ephemeral"), "{said}");
}

/// B11: after its result a runtime's process has a short grace; then its tree is ended, and its result counts.
#[test]
fn a_runtime_that_lingers_after_its_result_is_ended_and_the_result_counts() {
    let linger = |last: &str| {
        format!(
            "#!/bin/sh\ncat > /dev/null\necho $$ >> \"$(dirname \"$0\")/pids\"\necho x > \"$ORCH_WORKTREE/app.txt\"\necho '{{\"type\":\"thread.started\",\"thread_id\":\"t-1\"}}'\necho '{last}'\nsleep 600 &\necho $! >> \"$(dirname \"$0\")/pids\"\nwait\n"
        )
    };
    let success = r#"{"type":"turn.completed","usage":{"input_tokens":7,"output_tokens":3}}"#;
    let failure = r#"{"type":"turn.failed","error":{"message":"no more of it"}}"#;
    for (last, works) in [(success, true), (failure, false)] {
        let plan = Plan::short()
            .top("agents: {runtime: mine, linger_s: 1, run_retries: 0, stop_grace_s: 1}")
            .top("runtimes: {mine: {kind: codex, program: ./codex.sh}}");
        let house = House::new(&plan);
        house.script("codex.sh", &linger(last));
        house.item("Greet");
        house.tick().fine();
        let task =
            house.until_task_after_ticks("ORCH-1", |t| t.stage.as_str() == "deploy" || t.blocked_reason.is_some());
        assert_eq!(task.blocked_reason.is_none(), works, "{task:?}");
        assert!(works || task.blocked_reason.as_ref().is_some_and(|why| why.contains("no more of it")), "{task:?}");
        let agents: Vec<_> = house.runs("ORCH-1").into_iter().filter(|r| r.agent.is_some()).collect();
        assert_eq!((agents.len(), task.attempt), (1, 1), "{agents:?}");
        assert_eq!(agents[0].tokens_in, works.then_some(7), "what it said is booked");
        let pids = std::fs::read_to_string(house.path("pids")).unwrap();
        assert_eq!(pids.lines().count(), 2);
        let alive = || pids.lines().any(|pid| std::path::Path::new("/proc").join(pid).exists());
        house.until("its whole tree is gone", || (!alive()).then_some(()));
    }
}
