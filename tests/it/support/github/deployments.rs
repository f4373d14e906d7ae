//! The fake's deployments: the defaults that merge or refuse fail the test.

use super::{Data, error, not_found, page};
use crate::support::http::{Reply, Seen};
use serde_json::{Value, json};

/// A deployment with its statuses, oldest first.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub id: u64,
    pub sha: String,
    pub environment: String,
    pub task: String,
    pub payload: Value,
    /// State and `log_url`.
    pub states: Vec<(String, String)>,
}

impl Data {
    pub(super) fn deployment_call(&mut self, seen: &Seen, parts: &[&str]) -> Reply {
        let body = seen.json();
        let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
        let asked = |name: &str, of: &str| seen.query(name).is_none_or(|v| v == of);
        match (seen.method.as_str(), parts) {
            ("GET", ["deployments"]) => {
                let fits = |d: &&Deployment| {
                    asked("sha", &d.sha) && asked("environment", &d.environment) && asked("task", &d.task)
                };
                page(seen, self.deployments.iter().rev().filter(fits).map(row).collect())
            }
            ("POST", ["deployments"]) => {
                if body["auto_merge"] != false || body["required_contexts"] != json!([]) {
                    return Reply::unexpected("the defaults merge the default branch and refuse for a red check");
                }
                let made = Deployment {
                    id: self.id(),
                    sha: text("ref"),
                    environment: text("environment"),
                    task: text("task"),
                    payload: body["payload"].clone(),
                    states: vec![],
                };
                self.deployments.push(made.clone());
                Reply::json(201, &row(&made))
            }
            (method, ["deployments", id, "statuses"]) => {
                let id = id.parse::<u64>().unwrap_or(0);
                let Some(d) = self.deployments.iter_mut().find(|d| d.id == id) else { return not_found() };
                if method == "GET" {
                    let rows = d.states.iter().enumerate().rev().map(|(n, s)| status(n, s)).collect();
                    return page(seen, rows);
                }
                if text("description").chars().count() > 140 {
                    return error(422, "Validation Failed");
                }
                d.states.push((text("state"), text("log_url")));
                Reply::json(201, &status(d.states.len() - 1, d.states.last().unwrap()))
            }
            _ => Reply::unexpected("orch has no business here"),
        }
    }
}

fn row(d: &Deployment) -> Value {
    // As its text, as older servers answer.
    let payload = if d.id.is_multiple_of(2) { json!(d.payload.to_string()) } else { d.payload.clone() };
    json!({"id": d.id, "sha": d.sha, "ref": d.sha, "environment": d.environment, "task": d.task, "payload": payload})
}

fn status(n: usize, (state, log): &(String, String)) -> Value {
    json!({"id": n + 1, "state": state, "log_url": log})
}
