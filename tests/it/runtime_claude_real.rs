//! The `claude` runtime with the real CLI and a scripted model (RUN-5, RUN-6, RUN-7, RUN-7c). If the CLI is not
//! installed (`scripts/tools/install-claude.sh`), these tests say so and pass; if it is, it must behave as recorded.

use crate::support::anthropic::{Model, TURN_MICROS, TURN_READ, Turn};
use crate::support::git::{head, raw};
use orch::adapters::runtime::{ClaudeSettings, Exit, Launch, Reader, Request, Runtime, Sandbox, Session};
use orch::model::outcome::{Kind, Outcome};
use orch::model::stage::Agent;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// More than any of these runs takes; a test that waits this long fails.
const TIMEOUT: Duration = Duration::from_secs(50);
const ID: &str = "5b0e8b1c-3c1e-4f57-9d64-0c1f6f0f6a11";

/// The pinned CLI in the folder where the install scripts put their tools.
fn cli() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("ORCH_TOOLS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|c| c.join("orch/tools")))
        .or_else(|| set("HOME").map(|h| h.join(".cache/orch/tools")))?;
    Some(cache.join("bin/claude")).filter(|p| p.exists())
}

/// A worktree with one commit, a configuration folder, a scripted model.
struct Rig {
    folder: tempfile::TempDir,
    tree: PathBuf,
    config: PathBuf,
    model: Model,
    settings: ClaudeSettings,
    /// In place of the API key.
    login: (&'static str, &'static str),
    env: Vec<(&'static str, String)>,
}

impl Rig {
    /// `None`: the CLI is not installed, and a message said so.
    fn new(script: Vec<Turn>) -> Option<Self> {
        let Some(cli) = cli() else {
            eprintln!("SKIPPED, NOT TESTED: the Claude Code CLI is not installed; run scripts/tools/install-claude.sh");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        for part in ["tree", "home", "config"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        let tree = folder.path().join("tree");
        raw(&tree, &["init", "-q", "-b", "main"]);
        raw(&tree, &["config", "user.name", "orch"]);
        raw(&tree, &["config", "user.email", "orch@localhost"]);
        raw(&tree, &["commit", "-q", "--allow-empty", "-m", "start"]);
        let settings = ClaudeSettings {
            program: cli.to_str().unwrap().to_owned(),
            sandbox: Sandbox::Off,
            ..ClaudeSettings::default()
        };
        let login = ("ANTHROPIC_API_KEY", "dummy");
        let config = folder.path().join("config");
        Some(Self { folder, tree, config, model: Model::start(script), settings, login, env: Vec::new() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn launch<'a>(&'a self, change: impl FnOnce(&mut Request<'a>)) -> Launch {
        let mut request = Request {
            agent: Agent::Developer,
            model_candidates: &[],
            fallback_model: "",
            effort: "",
            max_cost_usd: None,
            config_dir: &self.config,
            session: Some(Session::Fresh(ID)),
            trusted_rules: None,
            worktree: &self.tree,
        };
        change(&mut request);
        Runtime::Claude(self.settings.clone()).launch(&request)
    }

    /// Starts it as a supervisor would: prompt on stdin, an environment that the test defines.
    fn start(&self, launch: &Launch, before: Option<i64>) -> Running {
        let mut command = Command::new(&launch.argv[0]);
        command.args(&launch.argv[1..]).current_dir(&self.tree).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.path("home"));
        command.env("GIT_CONFIG_NOSYSTEM", "1").envs(launch.env.iter().map(|(k, v)| (k, v)));
        command.env("ANTHROPIC_BASE_URL", self.model.url()).env(self.login.0, self.login.1);
        command.env("CLAUDE_CODE_MAX_RETRIES", "1").envs(self.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A CLI that refuses its arguments may have exited before it reads.
        let _ = child.stdin.take().unwrap().write_all(b"Do the work item.\n");
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.split(b'\n').map_while(Result::ok).try_for_each(|l| sender.send(l)));
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let reader = Runtime::Claude(self.settings.clone()).reader(before);
        Running { child, lines, errors: Some(errors), reader: Some(reader), seen: Vec::new() }
    }

    fn run(&self) -> Outcome {
        self.start(&self.launch(|_| {}), None).finish(None)
    }
}

struct Running {
    child: Child,
    lines: Receiver<Vec<u8>>,
    errors: Option<JoinHandle<String>>,
    reader: Option<Reader>,
    seen: Vec<u8>,
}

impl Running {
    fn take(&mut self, mut line: Vec<u8>) {
        line.push(b'\n');
        self.reader.as_mut().unwrap().feed(&line);
        self.seen.extend(line);
    }

    /// Reads until a line contains this.
    fn until(&mut self, what: &str) {
        loop {
            let line = match self.lines.recv_timeout(TIMEOUT) {
                Ok(line) => line,
                Err(e) => panic!("{e} while waiting for {what:?} after: {}", String::from_utf8_lossy(&self.seen)),
            };
            let found = String::from_utf8_lossy(&line).contains(what);
            self.take(line);
            if found {
                return;
            }
        }
    }

    /// Reads until nothing comes for this long.
    fn until_silent(&mut self, limit: Duration) {
        loop {
            match self.lines.recv_timeout(limit) {
                Ok(line) => self.take(line),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("it ended: {}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn finish(mut self, ended_by: Option<&str>) -> Outcome {
        loop {
            match self.lines.recv_timeout(TIMEOUT) {
                Ok(line) => self.take(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it did not end: {}", String::from_utf8_lossy(&self.seen))
                }
            }
        }
        let status = self.child.wait().unwrap();
        let errors = self.errors.take().unwrap().join().unwrap();
        let exit = Exit { code: status.code(), signal: status.signal(), ended_by };
        let outcome = self.reader.take().unwrap().finish(exit, &errors, 0);
        eprintln!("{exit:?} {outcome:?} {errors}");
        outcome
    }
}

impl Drop for Running {
    /// A failing test leaves no CLI behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_edits_and_commits_and_resumes() {
    let script = vec![
        Turn::Use("Write", json!({"file_path": "hello.txt", "content": "hello\n"})),
        Turn::bash("git add hello.txt && git commit -q -m hello"),
        Turn::Say("done"),
        Turn::Say("and again"),
    ];
    let Some(rig) = Rig::new(script) else { return };
    // The checked-out repository's own settings must not run, and its CLAUDE.md is not read.
    let hook = json!({"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "touch hook-ran"}]}]}});
    std::fs::create_dir(rig.path("tree/.claude")).unwrap();
    std::fs::write(rig.path("tree/.claude/settings.json"), hook.to_string()).unwrap();
    std::fs::write(rig.path("tree/CLAUDE.md"), "words-of-the-branch").unwrap();
    std::fs::write(rig.path("rules.md"), "words-of-the-default-branch").unwrap();
    let before = head(&rig.tree);
    let models = ["not a model".to_owned(), "claude-opus-5-5".to_owned()];
    let rules = rig.path("rules.md");
    let ask = |request: &mut Request<'_>| {
        request.max_cost_usd = Some(5.0);
        request.effort = "low";
        request.fallback_model = "claude-sonnet-4-5";
    };
    let launch = rig.launch(|r| {
        ask(r);
        (r.trusted_rules, r.model_candidates) = (Some(rules.as_path()), &models[..]);
    });
    let got = rig.start(&launch, None).finish(None);
    assert_eq!((got.kind, got.cost_micros, got.turns), (Kind::Ended, Some(3 * TURN_MICROS), Some(3)));
    assert_eq!((got.tokens_in, got.tokens_out), (Some(3 * TURN_READ), Some(150)));
    assert_eq!((got.session.as_deref(), got.text.as_deref()), (Some(ID), Some("done")));
    assert_eq!(got.model.as_deref(), Some("claude-opus-5-5"));
    assert_eq!(raw(&rig.tree, &["log", "-1", "--format=%P %s"]), format!("{before} hello"));
    assert!(!rig.path("tree/hook-ran").exists(), "a hook of the worked-on repository ran");
    assert_eq!(std::fs::read_dir(rig.path("home")).unwrap().count(), 0, "it keeps to its own folder");
    let asked = rig.model.asked();
    let first = asked[0].to_string();
    assert!(first.contains("words-of-the-default-branch") && !first.contains("words-of-the-branch"));
    assert!(first.contains("Do the work item."));
    let tools: Vec<_> = asked[0]["tools"].as_array().unwrap().iter().filter_map(|t| t["name"].as_str()).collect();
    for foreign in ["Task", "Agent", "WebFetch", "CronCreate", "Workflow", "Skill", "SendMessage"] {
        assert!(!tools.contains(&foreign), "{tools:?}");
    }

    let again = rig.launch(|r| r.session = Some(Session::Resume(ID)));
    assert!(again.resumed && again.notes.is_empty(), "{:?}", again.notes);
    let got = rig.start(&again, got.session_total_micros).finish(None);
    assert_eq!((got.kind, got.cost_micros), (Kind::Ended, Some(TURN_MICROS)), "the difference, not the total");
    assert_eq!(got.session_total_micros, Some(4 * TURN_MICROS));
    assert_eq!((got.tokens_in, got.session.as_deref()), (Some(TURN_READ), Some(ID)));
}

#[test]
fn tools_that_are_not_allowed_are_denied() {
    let script = vec![
        Turn::bash("touch not-allowed"),
        Turn::Use("WebFetch", json!({"url": "http://127.0.0.1:1/", "prompt": "x"})),
        Turn::Say("as far as I could"),
    ];
    let Some(mut rig) = Rig::new(script) else { return };
    rig.settings.allowed_tools = ["Read", "Write", "Bash(git log *)"].map(str::to_owned).to_vec();
    let got = rig.run();
    assert_eq!(got.kind, Kind::Ended);
    assert_eq!(got.denials, ["Bash: touch not-allowed"], "a tool that is cut is not even there to be denied");
    assert!(!rig.path("tree/not-allowed").exists());
}

#[test]
fn limits_of_its_own_end_it() {
    let Some(mut rig) = Rig::new(vec![Turn::bash("git status"), Turn::bash("git log")]) else { return };
    rig.settings.extra_args = vec!["--max-turns=1".into()];
    let got = rig.run();
    assert_eq!((got.kind, got.cost_micros), (Kind::Failed, Some(TURN_MICROS)));
    assert!(got.why.starts_with("error_max_turns"), "{}", got.why);
    rig.settings.extra_args.clear();
    let launch = rig.launch(|r| {
        r.session = None;
        r.max_cost_usd = Some(0.001);
    });
    let got = rig.start(&launch, None).finish(None);
    assert_eq!((got.kind, got.cost_micros), (Kind::Failed, Some(TURN_MICROS)), "one turn may overshoot");
    assert!(got.why.starts_with("error_max_budget_usd"), "{}", got.why);
}

#[test]
fn errors_of_the_api_are_failures_though_they_say_success() {
    let refused = Turn::Fail(400, "invalid_request_error", "Your credit balance is too low", Vec::new());
    let Some(mut rig) = Rig::new(vec![refused]) else { return };
    let got = rig.run();
    assert_eq!((got.kind, got.cost_micros), (Kind::Failed, Some(0)));
    assert!(got.why.contains("redit balance"), "{}", got.why);
    // None of these asked the model anything.
    rig.settings.extra_args = vec!["--no-such-flag".into()];
    let launch = rig.launch(|r| r.session = None);
    let got = rig.start(&launch, None).finish(None);
    assert_eq!((got.kind, got.cost_micros), (Kind::Failed, None));
    assert!(got.why.contains("--no-such-flag"), "{}", got.why);
    assert_eq!(rig.model.asked().len(), 1);
}

#[test]
fn limits_of_the_service_are_distinguished() {
    let busy = || Turn::Fail(529, "overloaded_error", "Overloaded", Vec::new());
    let slow = Turn::Fail(429, "rate_limit_error", "slow down", vec![("retry-after", "3600".to_owned())]);
    let Some(mut rig) = Rig::new(vec![busy(), Turn::Say("ok"), busy(), busy(), slow, window(4_000_000_000)]) else {
        return;
    };
    let run = |rig: &Rig| rig.start(&rig.launch(|r| r.session = None), None).finish(None);
    let once = run(&rig);
    assert_eq!((once.kind, once.cost_micros), (Kind::Ended, Some(TURN_MICROS)), "its own retry helped");
    assert_eq!(run(&rig).kind, Kind::Overloaded { until_ms: None });
    assert_eq!(run(&rig).kind, Kind::UsageLimit { until_ms: None });
    rig.login = ("CLAUDE_CODE_OAUTH_TOKEN", "dummy");
    let got = run(&rig);
    let week = 7 * 24 * 3_600_000;
    assert_eq!(got.kind, Kind::UsageLimit { until_ms: Some(week) }, "the reset given, at most seven days from now");
    assert_eq!(rig.model.asked().len(), 6);
}

/// The account's five-hour window is used up until then (seconds since the epoch).
fn window(resets_at: i64) -> Turn {
    let headers = vec![
        ("anthropic-ratelimit-unified-status", "rejected".to_owned()),
        ("anthropic-ratelimit-unified-reset", resets_at.to_string()),
        ("anthropic-ratelimit-unified-representative-claim", "five_hour".to_owned()),
        ("anthropic-ratelimit-unified-5h-status", "rejected".to_owned()),
        ("anthropic-ratelimit-unified-5h-reset", resets_at.to_string()),
    ];
    Turn::Fail(429, "rate_limit_error", "limit", headers)
}

#[test]
fn a_signal_in_the_middle_of_a_tool() {
    let Some(rig) = Rig::new(vec![Turn::bash("exec 9>../alive; echo up >&9; tail -f /dev/null")]) else { return };
    let fifo = rig.path("alive");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (sender, tool) = channel();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(std::fs::File::open(fifo).unwrap());
        let mut line = String::new();
        pipe.read_line(&mut line).unwrap();
        sender.send(line).unwrap();
        // At its end: the tool and everything it started are gone.
        sender.send(pipe.read_to_string(&mut String::new()).unwrap().to_string())
    });
    let mut run = rig.start(&rig.launch(|_| {}), None);
    run.until("tool_use");
    assert_eq!(tool.recv_timeout(TIMEOUT).unwrap(), "up\n");
    assert_eq!(run.reader.as_ref().unwrap().live().tokens_in, Some(TURN_READ));
    run.signal(Signal::TERM);
    let got = run.finish(Some("a stop was asked for"));
    assert_eq!((got.kind, got.cost_micros), (Kind::Killed, None), "what it cost is not known: not zero");
    assert_eq!((got.why.as_str(), got.tokens_in), ("ended: a stop was asked for", Some(TURN_READ)));
    assert_eq!(tool.recv_timeout(TIMEOUT).unwrap(), "0");
}

#[test]
fn a_stream_that_hangs_is_ended_by_our_limit() {
    let Some(rig) = Rig::new(vec![Turn::Say("never heard to its end")]) else { return };
    rig.model.hang_next();
    let mut run = rig.start(&rig.launch(|_| {}), None);
    run.until("\"init\"");
    run.until_silent(Duration::from_secs(3));
    run.signal(Signal::TERM);
    let got = run.finish(Some("no output for 3 s"));
    assert_eq!((got.kind, got.why.as_str()), (Kind::Killed, "ended: no output for 3 s"));
}

#[test]
fn a_child_that_detaches_outlives_the_cli() {
    let script = vec![
        Turn::bash("setsid tail -f /dev/null >/dev/null 2>&1 </dev/null & echo $! > child.pid"),
        Turn::Say("left something running"),
    ];
    let Some(mut rig) = Rig::new(script) else { return };
    let mark = format!("detached-{}", std::process::id());
    rig.env.push(("ORCH_RUN", mark.clone()));
    assert_eq!(rig.run().kind, Kind::Ended);
    let written = std::fs::read_to_string(rig.path("tree/child.pid")).unwrap();
    let pid = Pid::from_raw(written.trim().parse().unwrap()).unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap();
    let marked = environment.split(|b| *b == 0).any(|v| v == format!("ORCH_RUN={mark}").as_bytes());
    assert!(marked, "the supervisor finds what is left by this mark");
    kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn a_sandbox_that_is_required_and_missing_stops_the_run() {
    let Some(mut rig) = Rig::new(Vec::new()) else { return };
    // A machine with bubblewrap would run it: remove it from the path.
    let bin = rig.path("bin");
    std::fs::create_dir(&bin).unwrap();
    for tool in ["git", "bash", "sh"] {
        std::os::unix::fs::symlink(which::which(tool).unwrap(), bin.join(tool)).unwrap();
    }
    rig.env.push(("PATH", bin.to_str().unwrap().to_owned()));
    rig.settings.sandbox = Sandbox::Required;
    let got = rig.run();
    assert_eq!(got.kind, Kind::Failed);
    assert!(got.why.contains("andbox required but unavailable"), "{}", got.why);
    assert!(rig.model.asked().is_empty());
}
