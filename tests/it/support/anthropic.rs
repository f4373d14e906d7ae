//! A scripted model: the part of the Messages API that agent CLIs use, on loopback. One scripted turn per request.

use super::http::{Fault, Reply, Seen, Server};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Mutex;

/// Cost of one turn by the CLI's own price list, in millionths of a dollar: 100 tokens in, 1,000 written to and 2,000
/// read from the cache, 50 out.
pub const TURN_MICROS: i64 = 6800;
/// Tokens read in one turn.
pub const TURN_READ: i64 = 3100;

/// What the model does next.
#[derive(Debug, Clone)]
pub enum Turn {
    Say(&'static str),
    /// Calls a tool of the CLI.
    Use(&'static str, Value),
    /// An HTTP error in the API's form: status, `error.type`, message, further headers.
    Fail(u16, &'static str, &'static str, Vec<(&'static str, String)>),
}

impl Turn {
    pub fn bash(command: &str) -> Self {
        Self::Use("Bash", json!({"command": command, "description": "scripted"}))
    }
}

/// A running scripted model; it ends when dropped.
pub struct Model {
    pub server: Server,
}

impl Model {
    /// Plays the turns in order; a request after the last turn fails the test.
    pub fn start(script: Vec<Turn>) -> Self {
        let script = Mutex::new((0_usize, VecDeque::from(script)));
        Self {
            server: Server::start(move |seen| {
                if seen.line() != "POST /v1/messages" {
                    return Reply::unexpected("the scripted model has only POST /v1/messages");
                }
                let (number, turn) = {
                    let mut script = script.lock().unwrap();
                    script.0 += 1;
                    (script.0, script.1.pop_front())
                };
                match turn {
                    Some(turn) => play(number, &turn, seen),
                    None => Reply::unexpected("the script is over"),
                }
            }),
        }
    }

    /// The next answer stops halfway and the connection stays open.
    pub fn hang_next(&self) {
        self.server.fault("POST /v1/messages", Fault::HangMidBody, 1);
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The bodies of all requests.
    pub fn asked(&self) -> Vec<Value> {
        self.server.log().iter().map(Seen::json).collect()
    }
}

fn play(number: usize, turn: &Turn, seen: &Seen) -> Reply {
    let (block, delta, stop) = match turn {
        Turn::Fail(status, kind, message, headers) => {
            let body = json!({"type": "error", "error": {"type": kind, "message": message}});
            let reply = Reply::json(*status, &body);
            return headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value));
        }
        Turn::Say(text) => {
            (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}), "end_turn")
        }
        Turn::Use(tool, input) => (
            json!({"type": "tool_use", "id": format!("toolu_{number}"), "name": tool, "input": {}}),
            json!({"type": "input_json_delta", "partial_json": input.to_string()}),
            "tool_use",
        ),
    };
    let model = seen.json()["model"].clone();
    let usage = json!({"input_tokens": 100, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 2000,
        "output_tokens": 1});
    let message = json!({"id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": model,
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage});
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
            "usage": {"output_tokens": 50}}),
        json!({"type": "message_stop"}),
    ];
    let name = |event: &Value| event["type"].as_str().unwrap().to_owned();
    let body: String = events.iter().map(|e| format!("event: {}\ndata: {e}\n\n", name(e))).collect();
    let headers = vec![("Content-Type".to_owned(), "text/event-stream".to_owned())];
    Reply { status: 200, headers, body: body.into_bytes(), unexpected: None }
}
