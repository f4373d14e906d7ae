//! Deploys as deployments (services-github §4.5): one for each deploy, found by its payload, with statuses.

use super::Github;
use crate::adapters::forge::merge_state::{again, cut};
use crate::adapters::forge::{DeployReport, ForgeError};
use crate::adapters::github::text;
use crate::adapters::http::Method;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, ForgeError>;

/// Identifies deployments that are `orch`'s.
const TASK: &str = "orch";
/// GitHub refuses longer ones.
const MAX_DESCRIPTION: usize = 139;

impl Github {
    /// See `Forge::report_deploy`.
    pub fn report_deploy(&self, report: &DeployReport<'_>) -> Result<bool> {
        let id = match self.deployment(report)? {
            Some(id) => id,
            None => self.make_deployment(report)?,
        };
        let path = self.at(&format!("deployments/{id}/statuses"));
        let is_shown = || -> Result<bool> {
            let rows = self.or_unseen(&path, self.api.all(&path, &[], ""))?;
            let newest = rows.iter().max_by_key(|row| number(row));
            Ok(newest.is_some_and(|row| text(row, "state") == report.state.as_str()))
        };
        if is_shown()? {
            return Ok(false);
        }
        let mut body = json!({
            "state": report.state.as_str(),
            "description": cut(report.description, MAX_DESCRIPTION),
            "auto_inactive": true,
        });
        if report.log_url.starts_with("http")
            && let Some(body) = body.as_object_mut()
        {
            body.insert("log_url".to_owned(), json!(report.log_url));
        }
        match self.write(Method::Post, &path, &body) {
            Ok(_) => Ok(true),
            Err(e @ ForgeError::UnknownOutcome(_)) if again(&e, is_shown())? => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// The deployment of a deploy, by its payload; of several, from calls whose answers were lost, the oldest.
    fn deployment(&self, report: &DeployReport<'_>) -> Result<Option<u64>> {
        let path = self.at("deployments");
        let query = [("sha", report.sha.as_str()), ("environment", report.environment), ("task", TASK)];
        let rows = self.or_unseen(&path, self.api.all(&path, &query, ""))?;
        Ok(rows.iter().filter(|row| is_of(row, report.deploy)).filter_map(number).min())
    }

    /// The defaults of two fields would merge the default branch into the revision, and refuse it for a red check.
    fn make_deployment(&self, report: &DeployReport<'_>) -> Result<u64> {
        let body = json!({
            "ref": report.sha.as_str(),
            "environment": report.environment,
            "task": TASK,
            "auto_merge": false,
            "required_contexts": [],
            "payload": {"deploy": report.deploy},
            "production_environment": report.environment == "production",
            "description": format!("deploy {}", report.deploy),
        });
        match self.write(Method::Post, &self.at("deployments"), &body) {
            Ok(made) => {
                number(&made).ok_or_else(|| ForgeError::UnknownOutcome("the new deployment has no id".to_owned()))
            }
            Err(e @ ForgeError::UnknownOutcome(_)) => again(&e, self.deployment(report))?.ok_or(e),
            Err(e) => Err(e),
        }
    }
}

fn number(row: &Value) -> Option<u64> {
    row.get("id").and_then(Value::as_u64)
}

/// Whether a deployment is of this deploy. The payload comes back as an object, or as its text.
fn is_of(row: &Value, deploy: &str) -> bool {
    let payload = row.get("payload").unwrap_or(&Value::Null);
    let payload = match payload.as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        None => payload.clone(),
    };
    text(&payload, "deploy") == deploy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_known_by_its_payload_in_either_form() {
        assert!(is_of(&json!({"payload": {"deploy": "1-1-7"}}), "1-1-7"));
        assert!(is_of(&json!({"payload": "{\"deploy\": \"1-1-7\"}"}), "1-1-7"));
        for other in [json!({"payload": {"deploy": "2"}}), json!({"payload": ""}), json!({"payload": null}), json!(7)] {
            assert!(!is_of(&other, "1-1-7"), "{other}");
        }
    }
}
