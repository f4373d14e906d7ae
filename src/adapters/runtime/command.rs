//! The `command` runtime (RUN-5): any argv, with the prompt on stdin. Its exit code is the outcome; a last line of JSON
//! `{"cost_usd":…, "input_tokens":…, "output_tokens":…}` may report what it spent.

use super::events::{Exit, Live, count, cut, ended, micros, object};
use super::{Launch, Request};
use crate::model::outcome::{Kind, Outcome};
use serde_json::Value;

/// How much of the last output lines is kept, in bytes.
const TAIL: usize = 4 << 10;

/// Configuration of a runtime of kind `command`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// Program and arguments, passed unchanged.
    pub argv: Vec<String>,
}

/// A command has no models, sessions or budgets: what it needs is in its environment.
pub(super) fn launch(settings: &CommandSettings, _request: &Request<'_>) -> Launch {
    Launch { argv: settings.argv.iter().map(Into::into).collect(), ..Launch::default() }
}

/// What its stdout has shown so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The last line, if it reports usage.
    account: Option<Account>,
    tail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Account {
    cost_micros: Option<i64>,
    tokens_in: Option<i64>,
    tokens_out: Option<i64>,
}

fn account(line: &[u8]) -> Option<Account> {
    let said = object(line)?;
    let known = ["cost_usd", "input_tokens", "output_tokens"];
    known.iter().any(|k| said.get(k).is_some()).then(|| Account {
        cost_micros: micros(said.get("cost_usd").and_then(Value::as_f64)),
        tokens_in: count(&said, "input_tokens"),
        tokens_out: count(&said, "output_tokens"),
    })
}

impl Seen {
    pub fn line(&mut self, line: &[u8]) {
        self.account = account(line);
        if self.account.is_some() {
            return;
        }
        let line = String::from_utf8_lossy(line);
        self.tail.push_str(cut(&line, TAIL));
        self.tail.push('\n');
        while self.tail.len() > TAIL {
            let whole = self.tail.find('\n').map_or(self.tail.len(), |at| at + 1);
            self.tail.drain(..whole);
        }
    }

    pub fn live(&self) -> Live {
        self.account.map_or_else(Live::default, |a| Live {
            cost_micros: a.cost_micros,
            tokens_in: a.tokens_in,
            tokens_out: a.tokens_out,
        })
    }

    pub fn finish(self, exit: Exit<'_>, stderr_tail: &str) -> Outcome {
        let (kind, why) = ended(exit, stderr_tail).unwrap_or_else(|| (Kind::Ended, "exit code 0".to_owned()));
        let spent = self.live();
        let text = self.tail.trim();
        Outcome {
            cost_micros: spent.cost_micros,
            tokens_in: spent.tokens_in,
            tokens_out: spent.tokens_out,
            text: (!text.is_empty()).then(|| text.to_owned()),
            ..Outcome::bare(kind, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Runtime;
    use super::*;

    fn run(stdout: &str, exit: Exit<'_>, stderr: &str) -> Outcome {
        let runtime = Runtime::Command(CommandSettings { argv: vec!["./agent.sh".into()] });
        let mut reader = runtime.reader(None);
        reader.feed(stdout.as_bytes());
        reader.finish(exit, stderr, 0)
    }

    fn code(code: i32) -> Exit<'static> {
        Exit { code: Some(code), ..Exit::default() }
    }

    #[test]
    fn the_last_line_may_be_an_account() {
        let said = run("working\n{\"cost_usd\": 0.25, \"input_tokens\": 10, \"output_tokens\": 3}", code(0), "");
        assert_eq!((said.kind, said.cost_micros), (Kind::Ended, Some(250_000)));
        assert_eq!((said.tokens_in, said.tokens_out, said.text.as_deref()), (Some(10), Some(3), Some("working")));
    }

    #[test]
    fn unknown_cost_is_not_zero() {
        for stdout in [
            "",
            "done\n",
            "{\"cost_usd\": 1}\nbut not the last line\n",
            "{\"cost_usd\": null}",
            "{\"cost_usd\": -1}",
            "{\"cost_usd\": \"a lot\"}",
            "[1]\n{}\n",
        ] {
            assert_eq!(run(stdout, code(0), "").cost_micros, None, "{stdout}");
        }
    }

    #[test]
    fn the_exit_is_the_outcome() {
        assert_eq!(run("", code(3), "first\nno such model\n\n").why, "exit code 3: no such model");
        assert_eq!(run("", code(3), "").kind, Kind::Failed);
        let signal = Exit { signal: Some(9), ..Exit::default() };
        assert_eq!(run("", signal, "").kind, Kind::Killed);
        let stalled = Exit { code: Some(0), ended_by: Some("no output for 900 s"), ..Exit::default() };
        let killed = run("{\"cost_usd\": 1}", stalled, "");
        assert_eq!((killed.kind, killed.cost_micros), (Kind::Killed, Some(1_000_000)));
        assert_eq!(killed.why, "ended: no output for 900 s");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text = run(&"a line of some length\n".repeat(10_000), code(0), "").text.unwrap();
        assert!(text.len() <= TAIL && text.starts_with("a line"), "{}", text.len());
    }
}
