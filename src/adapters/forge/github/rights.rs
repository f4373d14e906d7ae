//! What the credential may do (GH-1), one right after another, each by the call that needs it. The calls of writing
//! rights name things that no repository has: with the right they are not found, without it they are refused.

use super::Github;
use crate::adapters::forge::{ForgeError, Wanted};
use crate::adapters::github::PAGE;
use crate::adapters::http::{Method, Request};
use crate::model::examined::Examined;
use crate::model::refusal::Refusal;
use serde_json::json;

type Result<T> = std::result::Result<T, ForgeError>;

/// A number, and a commit, that no repository has.
const NOTHING: u64 = 999_999_999_999;
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";
const CHECKS: &str = "Checks: read";

impl Github {
    /// Every right that the configuration needs.
    pub fn rights(&self, wanted: &Wanted<'_>) -> Vec<Examined> {
        let mut all = Vec::new();
        let mut said = |right: &'static str, answer: Result<()>| {
            all.push(match answer {
                Ok(()) => Examined::ok("right", right),
                Err(e) if right == CHECKS => {
                    let fix =
                        "a fine-grained token can't have it: use an App, or name only jobs of Actions in ci.contexts";
                    let message = format!("{right} is missing, jobs of Actions are read instead: {e}");
                    Examined::warn("right", message, fix)
                }
                Err(e) => Examined::fail("right", format!("{right} is missing: {e}"), PAGE),
            });
        };
        if let Some(head) = wanted.head {
            said("Contents: read", self.may_read(&format!("commits/{head}")));
            said(CHECKS, self.may_read(&format!("commits/{head}/check-runs")));
            said("Commit statuses: read", self.may_read(&format!("commits/{head}/status")));
        }
        said("Issues: read", self.may_read("issues"));
        said("Actions: read", self.may_read("actions/runs"));
        let pull = format!("pulls/{NOTHING}");
        said("Pull requests: write", self.may_write(Method::Patch, &pull, &json!({"state": "open"})));
        if wanted.statuses {
            let status = json!({"state": "pending", "context": "orch/doctor"});
            let path = format!("statuses/{NO_COMMIT}");
            said("Commit statuses: write", self.may_write(Method::Post, &path, &status));
        }
        if wanted.deployments {
            let path = format!("deployments/{NOTHING}/statuses");
            said("Deployments: write", self.may_write(Method::Post, &path, &json!({"state": "inactive"})));
        }
        all
    }

    fn may_read(&self, tail: &str) -> Result<()> {
        let path = self.at(tail);
        let query = [("per_page", "1")];
        self.or_unseen(&path, self.api.send(&Request::new(Method::Get, &path).query(&query))).map(drop)
    }

    fn may_write(&self, method: Method, tail: &str, body: &serde_json::Value) -> Result<()> {
        match self.write(method, &self.at(tail), body) {
            Err(e @ (ForgeError::Refused { refusal: Refusal::Denied { .. }, .. } | ForgeError::Throttled { .. })) => {
                Err(e)
            }
            Ok(_) | Err(ForgeError::NotFound(_) | ForgeError::Invalid(_) | ForgeError::Conflict(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }
}
