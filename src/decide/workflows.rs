//! What a task's branch can reach in the forge's own CI (BND-1): a branch is pushed before it is judged, and runs there
//! with the secrets and rights of its workflows. The workflows themselves are protected, so those of the default branch
//! count.

use globset::GlobBuilder;
use serde_json::Value;
use std::collections::BTreeSet;

/// Where GitHub, Gitea and Forgejo keep their Actions.
pub const FOLDERS: [&str; 3] = [".github/workflows", ".gitea/workflows", ".forgejo/workflows"];

/// What one workflow gives a branch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Names; one entry may mean all of them, and says so.
    pub secrets: BTreeSet<String>,
    /// Write permissions of its token, such as `contents`.
    pub writes: BTreeSet<String>,
    /// Jobs that ask for a self-hosted runner.
    pub own_runner: bool,
}

impl Reach {
    /// Whether it gives nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As half a sentence.
    pub fn text(&self) -> String {
        let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let parts = [
            (!self.secrets.is_empty()).then(|| format!("the secrets {}", list(&self.secrets))),
            (!self.writes.is_empty()).then(|| format!("a token that may write {}", list(&self.writes))),
            self.own_runner.then(|| "a runner of your own".to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// What `branch` reaches by a push or a pull request of its own; `None`: neither starts this workflow.
///
/// # Errors
/// It is no workflow that can be read.
pub fn reach(text: &str, branch: &str) -> Result<Option<Reach>, String> {
    let all: Value = crate::yaml::from_str(text).map_err(|e| e.to_string())?;
    if !starts(&all["on"], branch) {
        return Ok(None);
    }
    let mut reach = Reach { secrets: secrets(text), ..Reach::default() };
    let jobs = all["jobs"].as_object().into_iter().flatten();
    for (_, job) in jobs {
        reach.own_runner |= job["runs-on"].to_string().contains("self-hosted");
        if job["secrets"] == "inherit" {
            reach.secrets.insert("all of them (secrets: inherit)".to_owned());
        }
        let rights = job.get("permissions").or_else(|| all.get("permissions"));
        match rights {
            None => drop(reach.writes.insert("the rights that the repository's settings give each token".to_owned())),
            Some(Value::String(word)) if word == "write-all" => drop(reach.writes.insert("everything".to_owned())),
            Some(rights) => {
                let written = rights.as_object().into_iter().flatten().filter(|(_, right)| *right == "write");
                reach.writes.extend(written.map(|(name, _)| name.clone()));
            }
        }
    }
    Ok(Some(reach))
}

/// Whether a push of the branch, or its pull request, starts it.
fn starts(on: &Value, branch: &str) -> bool {
    const OWN: [&str; 3] = ["pull_request", "pull_request_target", "create"];
    match on {
        Value::String(event) => event == "push" || OWN.contains(&event.as_str()),
        Value::Array(events) => events.iter().any(|event| starts(event, branch)),
        Value::Object(events) => events.iter().any(|(event, filter)| match event.as_str() {
            "push" => pushed(filter, branch),
            other => OWN.contains(&other),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// By the branch filters of `push`; a filter by tags alone leaves every branch out.
fn pushed(filter: &Value, branch: &str) -> bool {
    let patterns = |key: &str| -> Option<Vec<String>> {
        let list = filter.get(key)?;
        let one = |v: &Value| v.as_str().map(str::to_owned);
        Some(
            list.as_array().map_or_else(|| one(list).into_iter().collect(), |all| all.iter().filter_map(one).collect()),
        )
    };
    match (patterns("branches"), patterns("branches-ignore")) {
        (Some(only), _) => matches(&only, branch),
        (None, Some(not)) => !matches(&not, branch),
        (None, None) => patterns("tags").is_none() && patterns("tags-ignore").is_none(),
    }
}

/// The last pattern that matches decides; one that can't be read matches.
fn matches(patterns: &[String], branch: &str) -> bool {
    patterns.iter().fold(false, |so_far, pattern| {
        let (wanted, glob) = pattern.strip_prefix('!').map_or((true, pattern.as_str()), |rest| (false, rest));
        let fits = GlobBuilder::new(glob)
            .literal_separator(true)
            .build()
            .map_or(true, |g| g.compile_matcher().is_match(branch));
        if fits { wanted } else { so_far }
    })
}

/// Names after `secrets.` or in `secrets['…']`. The job's own token is judged by its rights.
fn secrets(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // Forges compare the context's name case-insensitively; the offsets are the same.
    for (at, word) in text.to_ascii_lowercase().match_indices("secrets") {
        let rest = text.get(at + word.len()..).unwrap_or_default().trim_start();
        let name = rest.strip_prefix('.').or_else(|| rest.strip_prefix("['")).or_else(|| rest.strip_prefix("[\""));
        let end = |name: &str| name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        match name.and_then(|name| name.get(..end(name))).filter(|name| !name.is_empty()) {
            Some(name) => drop(found.insert(name.to_owned())),
            None if rest.starts_with(')') => drop(found.insert("all of them".to_owned())),
            None => {}
        }
    }
    found.retain(|name| {
        !["GITHUB_TOKEN", "GITEA_TOKEN", "FORGEJO_TOKEN"].iter().any(|own| own.eq_ignore_ascii_case(name))
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRANCH: &str = "feature/ORCH-1-x";

    #[test]
    fn bnd_1_a_workflow_counts_where_a_task_branch_starts_it() {
        let starts = |on: &str| reach(&format!("on: {on}\njobs: {{}}\n"), BRANCH).unwrap().is_some();
        for yes in [
            "push",
            "[workflow_dispatch, push]",
            "pull_request",
            "{pull_request_target: {}}",
            "{push: }",
            "{push: {branches: ['**']}}",
            "{push: {branches: ['feature/*', main]}}",
            "{push: {branches: 'feature/**'}}",
            "{push: {branches-ignore: [main]}}",
            "{push: {branches: [main]}, pull_request: {branches: [main]}}",
        ] {
            assert!(starts(yes), "{yes}");
        }
        for no in [
            "workflow_dispatch",
            "{schedule: [{cron: '0 0 * * *'}]}",
            "{push: {branches: [main]}}",
            "{push: {branches: ['*']}}",
            "{push: {branches: ['**', '!feature/**']}}",
            "{push: {branches-ignore: ['feature/**']}}",
            "{push: {tags: ['v*']}}",
        ] {
            assert!(!starts(no), "{no}");
        }
        assert!(reach("on: [", BRANCH).is_err());
    }

    #[test]
    fn bnd_1_each_secret_and_writing_right_is_named() {
        let text = "on: push\npermissions: {contents: read, packages: write}\njobs:\n  a:\n    runs-on: [self-hosted, linux]\n    steps: [{run: 'x ${{ Secrets.NPM_TOKEN }} ${{secrets[\"AWS_KEY\"]}} ${{ secrets.GITHUB_TOKEN }}'}]\n  b:\n    permissions: {deployments: write}\n    secrets: inherit\n";
        let said = reach(text, BRANCH).unwrap().unwrap();
        let names = ["AWS_KEY", "NPM_TOKEN", "all of them (secrets: inherit)"];
        assert_eq!(said.secrets.iter().map(String::as_str).collect::<Vec<_>>(), names);
        assert_eq!(said.writes.iter().map(String::as_str).collect::<Vec<_>>(), ["deployments", "packages"]);
        assert!(said.own_runner && said.text().contains("a runner of your own"));
        let all = reach("on: push\npermissions: write-all\njobs: {a: {env: {X: '${{ toJSON(secrets) }}'}}}\n", BRANCH);
        let all = all.unwrap().unwrap();
        assert_eq!(all.text(), "the secrets all of them, a token that may write everything");
        let unsaid = reach("on: push\njobs: {a: {}}\n", BRANCH).unwrap().unwrap();
        assert!(unsaid.text().contains("rights that the repository's settings give"));
        let none = reach("on: push\npermissions: {contents: read}\njobs: {a: {}}\n", BRANCH).unwrap().unwrap();
        assert!(none.is_empty());
        assert!(reach("on: push\npermissions: {}\njobs: {a: {}}\n", BRANCH).unwrap().unwrap().is_empty());
    }
}
