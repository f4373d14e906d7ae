//! Reads Claude Code's stream-json: `system`, `assistant`, `user`, `rate_limit_event` and, at the end, `result`, of
//! which the last one counts. Everything else is ignored.

use super::events::{Exit, Live, count, cut, ended, micros, object, text};
use crate::model::outcome::{Kind, Outcome};
use serde_json::Value;
use std::collections::VecDeque;

/// Messages whose usage may still change: their events are close together, with those of subagents in between.
const OPEN_MESSAGES: usize = 64;

/// The last version known to report each call's own cost after a resume; later ones report the conversation's total.
const PER_CALL_UP_TO: [u64; 3] = [2, 1, 197];

#[derive(Debug, Default)]
pub(in crate::adapters::runtime) struct Seen {
    /// What a resumed session had cost before.
    before_micros: Option<i64>,
    version: Option<[u64; 3]>,
    session: Option<String>,
    model: Option<String>,
    /// Message id, tokens in, tokens out.
    open: VecDeque<(String, i64, i64)>,
    tokens: Option<(i64, i64)>,
    /// The account's usage window is exhausted; seconds since the epoch at which it reopens, if given.
    rejected: Option<Option<i64>>,
    result: Option<Value>,
    /// The model said something after the last result: another is to come.
    works_on: bool,
    /// The usage since the previous result, summed over all results: this run's own, if every result has it.
    own: Option<Used>,
}

/// Sums over models, including subagents and helper models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Used {
    cost_micros: Option<i64>,
    read: i64,
    written: i64,
}

const NOTHING: Used = Used { cost_micros: Some(0), read: 0, written: 0 };

impl Used {
    /// `modelUsage` and similar fields: one entry per model.
    fn by_models(result: &Value, name: &str) -> Option<Self> {
        let models = result.get(name)?.as_object()?;
        Some(models.values().fold(NOTHING, |sum, usage| {
            let n = |name| count(usage, name).unwrap_or(0);
            sum.plus(Self {
                cost_micros: micros(usage.get("costUSD").and_then(Value::as_f64)),
                read: n("inputTokens") + n("cacheReadInputTokens") + n("cacheCreationInputTokens"),
                written: n("outputTokens"),
            })
        }))
    }

    fn plus(self, other: Self) -> Self {
        Self {
            cost_micros: self.cost_micros.zip(other.cost_micros).map(|(a, b)| a.saturating_add(b)),
            read: self.read.saturating_add(other.read),
            written: self.written.saturating_add(other.written),
        }
    }
}

impl Seen {
    pub fn new(before_micros: Option<i64>) -> Self {
        Self { before_micros, ..Self::default() }
    }

    pub fn line(&mut self, line: &[u8]) {
        let Some(event) = object(line) else { return };
        match (text(&event, "type").unwrap_or(""), text(&event, "subtype").unwrap_or("")) {
            ("system", "init") => {
                self.version = text(&event, "claude_code_version").and_then(version).or(self.version);
                self.session = text(&event, "session_id").map(str::to_owned).or(self.session.take());
                self.model = text(&event, "model").map(str::to_owned).or(self.model.take());
            }
            ("assistant", _) => self.message(&event),
            ("rate_limit_event", _) => {
                if let Some(info) = event.get("rate_limit_info") {
                    let refused = text(info, "status") == Some("rejected");
                    self.rejected = refused.then(|| count(info, "resetsAt"));
                }
            }
            ("result", _) => {
                let own = Used::by_models(&event, "model_usage_since_last_result");
                self.own = if self.result.is_none() { own } else { self.own.zip(own).map(|(a, b)| a.plus(b)) };
                (self.result, self.works_on) = (Some(event), false);
            }
            _ => {}
        }
    }

    /// Several events can share one message; the newest usage of each message counts.
    fn message(&mut self, event: &Value) {
        let Some(message) = event.get("message") else { return };
        let (Some(id), Some(usage)) = (text(message, "id"), message.get("usage")) else { return };
        if text(message, "model") == Some("<synthetic>") {
            return;
        }
        self.works_on = true;
        let (input, output) = spent(usage);
        let (all_in, all_out) = self.tokens.unwrap_or_default();
        let (old_in, old_out) = match self.open.iter_mut().find(|(open, ..)| open == id) {
            Some((_, i, o)) => (std::mem::replace(i, input), std::mem::replace(o, output)),
            None => {
                if self.open.len() == OPEN_MESSAGES {
                    self.open.pop_front();
                }
                self.open.push_back((cut(id, 200).to_owned(), input, output));
                (0, 0)
            }
        };
        let sum = |all: i64, new: i64, old: i64| all.saturating_add(new).saturating_sub(old);
        self.tokens = Some((sum(all_in, input, old_in), sum(all_out, output, old_out)));
    }

    pub fn live(&self) -> Live {
        let cost = self.result.as_ref().and_then(|r| self.cost(r)).map(|(cost, _)| cost);
        let (tokens_in, tokens_out) = self.tokens.unzip();
        Live { cost_micros: cost, tokens_in, tokens_out }
    }

    /// This run's cost and the session's total. After a resume the CLI reports the conversation's total (old versions:
    /// the call's own cost). Newer versions also report the usage since the last result, which needs no guess.
    fn cost(&self, result: &Value) -> Option<(i64, i64)> {
        let models = Used::by_models(result, "modelUsage").filter(|u| *u != NOTHING).and_then(|u| u.cost_micros);
        let said = models.or_else(|| micros(result.get("total_cost_usd").and_then(Value::as_f64)))?;
        if let Some(own) = self.own.and_then(|o| o.cost_micros) {
            return Some((own, said.max(own)));
        }
        let Some(before) = self.before_micros else { return Some((said, said)) };
        let per_call = self.version.is_some_and(|v| v <= PER_CALL_UP_TO) || said < before;
        Some(if per_call { (said, before.saturating_add(said)) } else { (said - before, said) })
    }

    /// Tokens of this run. After a resume `modelUsage` includes earlier runs; `usage` does not, but it lacks subagents
    /// and is empty if a limit ended the run.
    fn spent(&self, result: &Value) -> (Option<i64>, Option<i64>) {
        let own = self.own.map(|o| (o.read, o.written));
        let all = Used::by_models(result, "modelUsage").map(|u| (u.read, u.written));
        let main = result.get("usage").map(spent).filter(|s| *s != (0, 0));
        let reported = if self.before_micros.is_some() { own.or(main) } else { own.or(all).or(main) };
        reported.or(self.tokens).unzip()
    }

    pub fn finish(self, exit: Exit<'_>, stderr_tail: &str) -> Outcome {
        let (kind, why) = self.judge(exit, stderr_tail);
        let mut outcome = Outcome::bare(kind, why);
        (outcome.tokens_in, outcome.tokens_out) = self.tokens.unzip();
        outcome.model.clone_from(&self.model);
        outcome.session.clone_from(&self.session);
        let Some(result) = &self.result else { return outcome };
        (outcome.cost_micros, outcome.session_total_micros) = self.cost(result).unzip();
        (outcome.tokens_in, outcome.tokens_out) = self.spent(result);
        outcome.turns = count(result, "num_turns");
        outcome.session = text(result, "session_id").map(str::to_owned).or(outcome.session);
        outcome.model = outcome.model.or_else(|| main_model(result));
        outcome.denials = denials(result);
        outcome.text = text(result, "result").map(str::to_owned);
        outcome
    }

    /// Whether the last word is a result, and whether it reports success.
    pub fn concluded(&self) -> Option<bool> {
        (self.result.is_some() && !self.works_on).then(|| self.succeeded())
    }

    /// Whether the result event reports success.
    fn succeeded(&self) -> bool {
        self.result.as_ref().is_some_and(|result| {
            result.get("is_error") == Some(&Value::Bool(false)) && text(result, "subtype") == Some("success")
        })
    }

    /// Success = exit 0 and a result and `is_error` false and subtype `success`.
    fn judge(&self, exit: Exit<'_>, stderr_tail: &str) -> (Kind, String) {
        let bad = ended(exit, stderr_tail);
        if let Some(killed) = bad.as_ref().filter(|_| exit.ended_by.is_some() || exit.signal.is_some()) {
            return killed.clone();
        }
        let Some(result) = &self.result else {
            return match exit.code {
                // It catches these signals, cleans up, and exits with their codes.
                Some(code @ (129 | 137 | 143)) => {
                    (Kind::Killed, format!("ended by signal {}, which orch did not send", code - 128))
                }
                Some(_) | None => {
                    bad.unwrap_or_else(|| (Kind::Failed, "exit code 0 without a result event".to_owned()))
                }
            };
        };
        match (self.succeeded(), bad) {
            (true, None) => (Kind::Ended, text(result, "terminal_reason").unwrap_or("completed").to_owned()),
            (true, Some((kind, why))) => (kind, format!("success was reported, then {why}")),
            (false, _) => self.failed(result),
        }
    }

    /// Whether the service refused the login and nothing was done. Such a run is retried without limit, so a run that
    /// cost anything does not count as one.
    fn never_logged_in(&self, result: &Value, status: Option<i64>, said: Option<&str>) -> bool {
        let refused = matches!(status, Some(401 | 403)) || said.is_some_and(|s| s.starts_with("Not logged in"));
        let (read, written) = self.spent(result);
        let nothing = [read, written].iter().all(|n| n.unwrap_or(0) == 0);
        refused && nothing && self.cost(result).is_none_or(|(cost, _)| cost == 0)
    }

    fn failed(&self, result: &Value) -> (Kind, String) {
        let errors = result.get("errors").and_then(Value::as_array);
        let said = text(result, "result").or_else(|| errors?.iter().find_map(Value::as_str));
        let reason = text(result, "subtype").filter(|s| *s != "success").or_else(|| text(result, "terminal_reason"));
        let why = match (reason, said) {
            (Some("api_error") | None, Some(said)) => said.to_owned(),
            (Some(reason), Some(said)) => format!("{reason}: {said}"),
            (Some(reason), None) => reason.to_owned(),
            (None, None) => "an error without a reason".to_owned(),
        };
        let old_form = said.and_then(|s| s.strip_prefix("Claude AI usage limit reached"));
        let used_up = text(result, "api_error") == Some("usage_limit_reached") || old_form.is_some();
        let status = count(result, "api_error_status");
        let kind = if used_up || (self.rejected.is_some() && status.is_none_or(|s| s == 429)) {
            let old_reset = old_form.and_then(|s| s.trim_start_matches('|').trim().parse::<i64>().ok());
            let until = self.rejected.flatten().or(old_reset);
            Kind::UsageLimit { until_ms: until.map(|s| s.saturating_mul(1000)) }
        } else if status == Some(429) {
            Kind::UsageLimit { until_ms: None }
        } else if status.is_some_and(|s| (500..600).contains(&s))
            || text(result, "api_error") == Some("connection_failed")
        {
            Kind::Overloaded { until_ms: None }
        } else if self.never_logged_in(result, status, said) {
            Kind::NoLogin
        } else {
            Kind::Failed
        };
        (kind, why)
    }
}

/// Tokens of a `usage` object: input (including caches), output.
fn spent(usage: &Value) -> (i64, i64) {
    let n = |name| count(usage, name).unwrap_or(0);
    let read = n("input_tokens") + n("cache_read_input_tokens") + n("cache_creation_input_tokens");
    (read, n("output_tokens"))
}

/// `2.1.330`, optionally with a suffix.
fn version(text: &str) -> Option<[u64; 3]> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse::<u64>().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

/// The model with the highest cost, if no `init` event named one.
fn main_model(result: &Value) -> Option<String> {
    let models = result.get("modelUsage")?.as_object()?;
    let cost = |usage: &Value| micros(usage.get("costUSD").and_then(Value::as_f64)).unwrap_or(0);
    models.iter().max_by_key(|(_, usage)| cost(usage)).map(|(name, _)| name.clone())
}

/// `Bash: git push`: the tool, and its first input.
fn denials(result: &Value) -> Vec<String> {
    let listed = result.get("permission_denials").and_then(Value::as_array);
    let one = |denial: &Value| {
        let tool = text(denial, "tool_name").unwrap_or("a tool");
        let input = denial.get("tool_input").and_then(Value::as_object);
        let input = input.and_then(|fields| fields.values().find_map(Value::as_str));
        input.map_or_else(|| tool.to_owned(), |input| format!("{tool}: {input}"))
    };
    listed.map_or_else(Vec::new, |l| l.iter().map(one).collect())
}
