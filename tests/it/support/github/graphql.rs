//! The fake's GraphQL: drafts, a merge queue over real commits, a project (Projects v2). Queries are checked against the
//! schema, and answers hold exactly what was selected.

use super::Data;
use crate::support::git::{person_git, raw};
use crate::support::gitea::branch;
use crate::support::graphql::{self, Field};
use crate::support::http::{Reply, Seen};
use serde_json::{Value, json};
use std::path::Path;

/// An entry of the merge queue.
#[derive(Debug, Clone)]
pub struct Entry {
    pub pull: i64,
    pub state: String,
    /// The commit that would land; `None`: not made yet.
    pub commit: Option<String>,
}

/// A project (Projects v2).
#[derive(Debug, Clone)]
pub struct Project {
    pub owner: String,
    pub is_user: bool,
    pub number: i64,
    pub field: String,
    pub options: Vec<String>,
    /// Ids of issues, and the option each is set to.
    pub items: Vec<(String, Option<String>)>,
}

impl Project {
    pub fn new(owner: &str, options: &[&str]) -> Self {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        let owner = owner.to_owned();
        Self { owner, is_user: false, number: 3, field: "Status".into(), options, items: vec![] }
    }

    /// What the card of an issue shows.
    pub fn shows(&self, number: i64) -> Option<String> {
        let id = format!("I_{number}");
        self.items.iter().find(|(node, _)| *node == id).and_then(|(_, option)| option.clone())
    }
}

type Failed = (&'static str, String);

impl Data {
    pub(super) fn graphql(&mut self, repo: &Path, seen: &Seen) -> Reply {
        let body = seen.json();
        let (mutation, fields) = match graphql::parse(body["query"].as_str().unwrap_or(""), &body["variables"]) {
            Ok(parsed) => parsed,
            Err(why) => return Reply::unexpected(format!("GraphQL: {why}: {body}")),
        };
        let root = if mutation { "Mutation" } else { "Query" };
        let mut whole = json!({});
        for field in &fields {
            let answer = match self.graphql_faults.pop_front() {
                Some((kind, message)) => Err((kind, message)),
                None => self.field(repo, field),
            };
            match answer {
                Ok(value) => whole[&field.name] = value,
                Err((kind, message)) => {
                    let error = json!({"type": kind, "message": message, "path": [field.name]});
                    return Reply::json(200, &json!({"data": {&field.name: null}, "errors": [error]}));
                }
            }
        }
        match graphql::select(root, &fields, &whole) {
            Ok(data) => Reply::json(200, &json!({"data": data})),
            Err(why) => Reply::unexpected(why),
        }
    }

    fn field(&mut self, repo: &Path, field: &Field) -> Result<Value, Failed> {
        let input = &field.args["input"];
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        let missing = |what: &str| ("NOT_FOUND", format!("Could not resolve to {what}."));
        match field.name.as_str() {
            "repository" => {
                if field.args["owner"] != self.owner.as_str() || field.args["name"] != self.name.as_str() {
                    return Err(missing("a Repository"));
                }
                let number = field.fields[0].args["number"].as_i64().unwrap_or(0);
                Ok(json!({"pullRequest": self.queued(repo, number)}))
            }
            owner @ ("organization" | "user") => {
                let project = self
                    .project
                    .as_ref()
                    .filter(|p| field.args["login"] == p.owner.as_str() && p.is_user == (owner == "user"));
                let project = project.ok_or_else(|| missing("an owner with that login"))?;
                let inner = &field.fields[0];
                let number = inner.args["number"].as_i64();
                if number != Some(project.number) {
                    return Ok(json!({"projectV2": null}));
                }
                let options: Vec<Value> =
                    project.options.iter().map(|o| json!({"id": format!("opt-{o}"), "name": o})).collect();
                let asked = inner.fields.iter().find(|f| f.name == "field").map(|f| text(&f.args["name"]));
                let found = asked.is_some_and(|name| name == project.field);
                let of =
                    if found { json!({"id": "FIELD", "name": project.field, "options": options}) } else { Value::Null };
                Ok(json!({"projectV2": {"id": "PROJECT", "field": of}}))
            }
            _ if self.read_only => Err(("FORBIDDEN", "Resource not accessible by integration".to_owned())),
            "markPullRequestReadyForReview" => {
                let at = self.pull_at(&text(&input["pullRequestId"])).ok_or_else(|| missing("a node"))?;
                self.pulls[at].draft = false;
                Ok(json!({"pullRequest": {"isDraft": false}}))
            }
            "enqueuePullRequest" => {
                self.enqueue(repo, &text(&input["pullRequestId"]), &text(&input["expectedHeadOid"]))
            }
            "dequeuePullRequest" => {
                let at = self.pull_at(&text(&input["id"])).ok_or_else(|| missing("a node"))?;
                let number = self.pulls[at].number;
                self.queue.retain(|e| e.pull != number);
                Ok(json!({"mergeQueueEntry": {"id": format!("E_{number}"), "state": "LOCKED", "position": 1}}))
            }
            "addProjectV2ItemById" => {
                let content = text(&input["contentId"]);
                let project = self.project.as_mut().ok_or_else(|| missing("a node"))?;
                if !project.items.iter().any(|(node, _)| *node == content) {
                    project.items.push((content.clone(), None));
                }
                Ok(json!({"item": {"id": format!("ITEM_{content}")}}))
            }
            "updateProjectV2ItemFieldValue" => {
                let item = text(&input["itemId"]);
                let option = text(&input["value"]["singleSelectOptionId"]);
                let project = self.project.as_mut().ok_or_else(|| missing("a node"))?;
                let known = project.options.iter().find(|o| option == format!("opt-{o}")).cloned();
                let known = known.ok_or_else(|| ("UNPROCESSABLE", "The option does not exist".to_owned()))?;
                let row = project.items.iter_mut().find(|(node, _)| item == format!("ITEM_{node}"));
                row.ok_or_else(|| missing("a node"))?.1 = Some(known);
                Ok(json!({"projectV2Item": {"id": item}}))
            }
            other => Err(("UNPROCESSABLE", format!("the fake has no {other}"))),
        }
    }

    fn pull_at(&self, node: &str) -> Option<usize> {
        self.pulls.iter().position(|p| format!("PR_{}", p.number) == node)
    }

    fn queued(&self, repo: &Path, number: i64) -> Value {
        let Some(p) = self.pulls.iter().find(|p| p.number == number) else { return Value::Null };
        let entry = self.queue.iter().position(|e| e.pull == number);
        let entry = entry.map(|at| {
            let e = &self.queue[at];
            let commit = e
                .commit
                .as_ref()
                .map(|oid| json!({"oid": oid, "tree": {"oid": raw(repo, &["rev-parse", &format!("{oid}^{{tree}}")])}}));
            json!({"id": format!("E_{number}"), "state": e.state, "position": at + 1, "headCommit": commit})
        });
        json!({
            "id": format!("PR_{number}"), "number": number, "isDraft": p.draft, "merged": p.merged,
            "headRefOid": branch(repo, &p.head), "isInMergeQueue": entry.is_some(),
            "isMergeQueueEnabled": self.has_queue(),
            "mergeQueue": self.has_queue().then(|| json!({"id": "Q", "entries": {"totalCount": self.queue.len()}})),
            "mergeQueueEntry": entry,
        })
    }

    fn has_queue(&self) -> bool {
        self.rules.iter().any(|r| r["type"] == "merge_queue")
    }

    fn enqueue(&mut self, repo: &Path, node: &str, head: &str) -> Result<Value, Failed> {
        let no = |why: &str| Err(("UNPROCESSABLE", why.to_owned()));
        let Some(at) = self.pull_at(node) else { return Err(("NOT_FOUND", "no such node".to_owned())) };
        let p = self.pulls[at].clone();
        if !self.has_queue() {
            return no("Merge queue is not enabled for the branch");
        }
        if branch(repo, &p.head).as_deref() != Some(head) {
            return no("The head is not the expected one");
        }
        if p.draft || !p.open {
            return no("Pull request is in draft state or closed");
        }
        if let Some(unmet) = self.unmet(&p).filter(|why| !why.contains("merge queue")) {
            return no(&format!("Pull request is not ready: {unmet}"));
        }
        if self.queue.iter().any(|e| e.pull == p.number) {
            return no("Pull request is already in the queue");
        }
        self.queue.push(Entry { pull: p.number, state: "QUEUED".into(), commit: None });
        Ok(json!({"mergeQueueEntry": {"id": format!("E_{}", p.number), "state": "QUEUED", "position": 1}}))
    }

    /// The queue makes the commit that it tests.
    pub fn group(&mut self, repo: &Path) {
        let entry = self.queue[0].clone();
        let p = self.pulls.iter().find(|p| p.number == entry.pull).unwrap().clone();
        let (base, head) = (branch(repo, &p.base).unwrap(), branch(repo, &p.head).unwrap());
        let out = person_git(repo, &["merge-tree", "--write-tree", &base, &head]);
        let tree = String::from_utf8(out.stdout).unwrap().trim().to_owned();
        let made = raw(repo, &["commit-tree", &tree, "-p", &base, "-p", &head, "-m", "Merge queue"]);
        (self.queue[0].state, self.queue[0].commit) = ("AWAITING_CHECKS".into(), Some(made));
    }

    /// Its checks pass: its commit lands.
    pub fn queue_lands(&mut self, repo: &Path) {
        let entry = self.queue.remove(0);
        let p = self.pulls.iter_mut().find(|p| p.number == entry.pull).unwrap();
        (p.open, p.merged) = (false, true);
        raw(repo, &["update-ref", &format!("refs/heads/{}", p.base), &entry.commit.unwrap()]);
    }
}
