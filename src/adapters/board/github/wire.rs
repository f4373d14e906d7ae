//! Parses issues, labels and events. Unknown fields and words are tolerated; `null`, absent and empty are the same.

use super::Words;
use crate::adapters::board::Doer;
use crate::adapters::github::{flag, text};
use crate::model::board::{Group, Label, Logical, Priority, Status, StatusKind, WorkItem, fold};
use crate::model::comment::{Comment, Writer};
use crate::model::ids::Key;
use crate::model::time::parse_rfc3339;
use serde_json::Value;
use std::collections::BTreeMap;

/// Statuses that no label represents: an issue without one, one with several, and the two ways to be closed.
pub const OPEN: &str = "open";
pub const SEVERAL: &str = "several";
pub const COMPLETED: &str = "closed:completed";
pub const NOT_PLANNED: &str = "closed:not_planned";

/// One issue, as far as it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    pub number: u64,
    /// For GraphQL; empty: unknown.
    pub node: String,
    pub title: String,
    pub body: String,
    /// Names as the repository writes them.
    pub labels: Vec<String>,
    /// `None`: open.
    pub closed: Option<Group>,
    /// Who closed it; empty: unknown.
    pub closed_by: String,
    pub closed_by_bot: bool,
    pub locked: bool,
    pub is_pull: bool,
    pub created_ms: i64,
    pub updated_ms: i64,
    /// Open issues that block it, and sub-issues, as its summaries count them; `None`: unknown.
    pub blockers: Option<u64>,
    pub parts: Option<u64>,
}

impl Issue {
    /// Fails with what is missing.
    pub fn read(v: &Value) -> Result<Self, String> {
        let number = v.get("number").and_then(Value::as_u64).filter(|n| *n > 0).ok_or("an issue without a number")?;
        let closed = match v.get("state").and_then(Value::as_str) {
            Some("open") => None,
            Some("closed") => Some(match text(v, "state_reason").as_str() {
                "not_planned" | "duplicate" => Group::Cancelled,
                _ => Group::Completed,
            }),
            Some(_) | None => return Err(format!("issue {number} without a known state")),
        };
        let time = |name: &str| parse_rfc3339(&text(v, name)).unwrap_or(0);
        let by = v.get("closed_by").unwrap_or(&Value::Null);
        let count = |of: &str, name: &str| v.get(of).and_then(|s| s.get(name)).and_then(Value::as_u64);
        Ok(Self {
            number,
            node: text(v, "node_id"),
            title: text(v, "title"),
            body: text(v, "body"),
            labels: labels(v),
            closed,
            closed_by: text(by, "login"),
            closed_by_bot: text(by, "type") == "Bot",
            locked: flag(v, "locked") == Some(true),
            is_pull: v.get("pull_request").is_some_and(|p| !p.is_null()),
            created_ms: time("created_at"),
            updated_ms: time("updated_at"),
            blockers: count("issue_dependencies_summary", "total_blocked_by")
                .or_else(|| count("issue_dependencies_summary", "blocked_by")),
            parts: count("sub_issues_summary", "total"),
        })
    }

    /// Its labels that are statuses.
    pub fn statuses<'a>(&'a self, words: &Words) -> Vec<&'a str> {
        let is = |label: &&String| words.name_of(label).is_some();
        self.labels.iter().filter(is).map(String::as_str).collect()
    }

    /// Its labels that are intents.
    pub fn intents<'a>(&'a self, words: &Words) -> Vec<&'a str> {
        self.labels.iter().filter(|l| words.intents.contains_key(&fold(l))).map(String::as_str).collect()
    }

    /// The id of its status: an intent takes precedence over what orch shows, and among intents STOP, else `later`.
    /// `ours`: orch or a bot closed it, not a person.
    pub fn status(&self, words: &Words, ours: bool, later: Option<&str>) -> String {
        let intents = self.intents(words);
        let stop = intents.iter().find(|l| words.intents.get(&fold(l)) == Some(&Logical::Stop));
        let chosen = stop.copied().or(later).or_else(|| intents.first().copied());
        if let Some(intent) = chosen {
            return intent.to_owned();
        }
        let shown = self.statuses(words);
        let by_label = match shown.as_slice() {
            [] => OPEN,
            [one] => one,
            _ => SEVERAL,
        };
        let Some(group) = self.closed else { return by_label.to_owned() };
        let closed = if group == Group::Cancelled { NOT_PLANNED } else { COMPLETED };
        match shown.as_slice() {
            // Closed by orch, or by a landing that said so: its label stays valid.
            [one] if ours || words.ends(one) == Some(group) => (*one).to_owned(),
            _ => closed.to_owned(),
        }
    }

    /// The issue as a work item with a status that is already known.
    pub fn with_status(&self, prefix: &str, words: &Words, status_id: String) -> Result<WorkItem, String> {
        let key = Key::parse(&format!("{prefix}-{}", self.number)).map_err(|e| e.to_string())?;
        let status_name = words.name_of(&status_id).or_else(|| synthetic(&status_id).map(|s| s.name));
        Ok(WorkItem {
            id: self.number.to_string(),
            key,
            title: self.title.clone(),
            body: Some(self.body.clone()),
            labels: self.labels.clone(),
            priority: self.priority(words),
            status_name,
            group: Some(self.closed.unwrap_or_else(|| words.group(&status_id))),
            status_id,
            blocked_by: None,
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
            changed_by: None,
        })
    }

    /// As [`Issue::with_status`], from the issue alone.
    pub fn item(&self, prefix: &str, words: &Words) -> Result<WorkItem, String> {
        self.with_status(prefix, words, self.status(words, false, None))
    }

    /// The highest of its priorities.
    fn priority(&self, words: &Words) -> Priority {
        let has = |p: &&Priority| {
            let label = fold(&format!("{}{p}", words.priority));
            self.labels.iter().any(|l| fold(l) == label)
        };
        Priority::ALL.iter().find(has).copied().unwrap_or(Priority::None)
    }
}

impl Words {
    /// The status's name in its label; `None`: the label is no status.
    pub fn name_of(&self, label: &str) -> Option<String> {
        let head = label.get(..self.prefix.len())?;
        let name = label.get(self.prefix.len()..)?.trim();
        (head.to_lowercase() == self.prefix.to_lowercase() && !name.is_empty()).then(|| name.to_owned())
    }

    /// The group of an open issue with this label.
    fn group(&self, label: &str) -> Group {
        match self.intents.get(&fold(label)) {
            Some(intent) => intent.group(),
            None if label == OPEN => Group::Backlog,
            None => Group::Started,
        }
    }

    /// Whether a status's label represents a closed issue.
    pub fn is_end(&self, label: &str) -> bool {
        self.ends(label).is_some()
    }

    /// How a status's label closes an issue.
    fn ends(&self, label: &str) -> Option<Group> {
        self.ends.get(&fold(label)).copied()
    }
}

/// The names of an issue's labels, which arrive as objects or strings.
pub fn labels(v: &Value) -> Vec<String> {
    names(v.get("labels").unwrap_or(&Value::Null))
}

/// The names of a list of labels.
pub fn names(list: &Value) -> Vec<String> {
    let rows = list.as_array().map_or(&[][..], Vec::as_slice);
    let name = |l: &Value| l.as_str().map(str::to_owned).unwrap_or_else(|| text(l, "name"));
    rows.iter().map(name).filter(|n| !n.is_empty()).collect()
}

/// A repository's label; the name is its identity.
pub fn label(v: &Value) -> Option<Label> {
    let name = text(v, "name");
    (!name.is_empty()).then(|| Label { id: name.clone(), name })
}

fn synthetic(id: &str) -> Option<Status> {
    if id == SEVERAL {
        // Nothing is ever shown as this.
        return Some(Status { id: id.to_owned(), name: "Several statuses".to_owned(), group: None });
    }
    let (name, group) = match id {
        OPEN => ("Open", Group::Backlog),
        COMPLETED => ("Closed as completed", Group::Completed),
        NOT_PLANNED => ("Closed as not planned", Group::Cancelled),
        _ => return None,
    };
    Some(Status { id: id.to_owned(), name: name.to_owned(), group: Some(group) })
}

/// The repository's labels that are statuses, then those that no label represents. `names`: the configured ones.
pub fn statuses(labels: &[Value], words: &Words, names: &BTreeMap<Logical, String>) -> Vec<Status> {
    let group = |name: &str| {
        let known = names.iter().find(|(_, n)| fold(n) == fold(name)).map(|(l, _)| *l);
        Some(match known {
            // An indication never falls back to an intent.
            Some(l) if l.kind() == StatusKind::Intent => Group::Unstarted,
            known => known.map_or(Group::Started, Logical::group),
        })
    };
    let of = |v: &Value| {
        let id = text(v, "name");
        words.name_of(&id).map(|name| Status { group: group(&name), name, id })
    };
    let mut all: Vec<Status> = labels.iter().filter_map(of).collect();
    // In the order of the pipeline, as boards show them.
    let place = |s: &Status| names.values().position(|n| fold(n) == fold(&s.name)).unwrap_or(usize::MAX);
    all.sort_by_key(place);
    all.extend([OPEN, SEVERAL, COMPLETED, NOT_PLANNED].iter().filter_map(|id| synthetic(id)));
    all
}

/// The newest event that added this label; `None`: no event yet.
pub fn labelled(events: &[Value], label: &str) -> Option<Doer> {
    let of = |e: &&Value| {
        text(e, "event") == "labeled" && e.get("label").is_some_and(|l| fold(&text(l, "name")) == fold(label))
    };
    let event = events.iter().filter(of).max_by_key(|e| id(e))?;
    let actor = event.get("actor")?;
    let name = text(actor, "login");
    let by_app = event.get("performed_via_github_app").is_some_and(|a| !a.is_null());
    (!name.is_empty()).then(|| Doer {
        through_app: by_app || text(actor, "type") == "Bot" || name.ends_with("[bot]"),
        name,
        event: Some(id(event).to_string()),
    })
}

/// Parses a comment. `is_me`: whether a login is this credential's own, which may fail as a request does.
pub fn comment<E>(v: &Value, is_me: &dyn Fn(&str) -> Result<bool, E>) -> Result<Comment, E> {
    let user = v.get("user").unwrap_or(&Value::Null);
    let author = text(user, "login");
    let through_app = v.get("performed_via_github_app").is_some_and(|a| !a.is_null());
    let writer = if through_app || text(user, "type") != "User" || author.ends_with("[bot]") {
        Writer::Program
    } else if is_me(&author)? {
        Writer::Orch
    } else {
        Writer::Person
    };
    let updated_ms = parse_rfc3339(&text(v, "updated_at")).unwrap_or(0);
    // Line ends arrive as a browser sends them.
    let body = text(v, "body").replace("\r\n", "\n");
    Ok(Comment { id: id(v), author, writer, updated_ms, text: body })
}

fn id(v: &Value) -> u64 {
    v.get("id").and_then(Value::as_u64).unwrap_or(0)
}

/// Which of several labels was added last.
pub fn latest<'a>(events: &[Value], labels: &[&'a str]) -> Option<&'a str> {
    let event = |label: &&&str| labelled(events, label).and_then(|d| d.event?.parse::<u64>().ok()).unwrap_or(0);
    labels.iter().max_by_key(event).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words() -> Words {
        let intents = [
            ("orch: to analyse", Logical::ToAnalyse),
            ("orch: approved", Logical::Approved),
            ("orch: stop", Logical::Stop),
        ];
        Words {
            prefix: "orch: ".into(),
            priority: "priority: ".into(),
            intents: intents.iter().map(|(l, i)| ((*l).to_owned(), *i)).collect(),
            ends: [("orch: done".to_owned(), Group::Completed), ("orch: cancelled".to_owned(), Group::Cancelled)]
                .into(),
        }
    }

    fn issue(state: Value, labels: &[&str]) -> Issue {
        let (state, reason) = match state.as_str() {
            Some(reason) => ("closed", json!(reason)),
            None => ("open", Value::Null),
        };
        let v =
            json!({"number": 7, "title": "T", "body": null, "state": state, "state_reason": reason, "labels": labels});
        Issue::read(&v).unwrap()
    }

    #[test]
    fn gh_2_a_status_is_a_label_an_intent_goes_first_and_the_group_is_the_issues_state() {
        for (state, labels, ours, want) in [
            (json!(null), &[][..], false, OPEN),
            (json!(null), &["bug", "orch: Development"], false, "orch: Development"),
            (json!(null), &["ORCH: development"], false, "ORCH: development"),
            (json!(null), &["orch: Development", "orch: Testing"], false, SEVERAL),
            (json!(null), &["orch: Development", "orch: Approved"], false, "orch: Approved"),
            (json!(null), &["orch: Approved", "orch: STOP"], false, "orch: STOP"),
            (json!("completed"), &["orch: Development"], false, COMPLETED),
            (json!("duplicate"), &["orch: Development"], false, NOT_PLANNED),
            (json!("not_planned"), &[], false, NOT_PLANNED),
            // A landing closed it, not a person.
            (json!("completed"), &["orch: Deploying"], true, "orch: Deploying"),
            (json!("completed"), &["orch: Done"], false, "orch: Done"),
            (json!("completed"), &["orch: Cancelled"], false, COMPLETED),
            (json!("completed"), &["orch: Done", "orch: Deploying"], true, COMPLETED),
            // To Analyse on a closed issue is a person's intent.
            (json!("completed"), &["orch: Done", "orch: To Analyse"], false, "orch: To Analyse"),
            (json!(null), &["orch:Development", "orch: "], false, OPEN),
        ] {
            assert_eq!(issue(state.clone(), labels).status(&words(), ours, None), want, "{state} {labels:?}");
        }
        let two = issue(json!(null), &["orch: To Analyse", "orch: Approved"]);
        assert_eq!(two.status(&words(), false, Some("orch: Approved")), "orch: Approved");
    }

    #[test]
    fn gh_2_the_newest_labelled_event_says_who_and_a_bots_hand_is_reported() {
        let event = |id: u64, what: &str, who: Value, app: Value| json!({"id": id, "event": what, "actor": who, "label": {"name": "orch: Approved"}, "performed_via_github_app": app});
        let person = |name: &str| json!({"login": name, "type": "User"});
        let all = [
            event(1, "labeled", person("ann"), Value::Null),
            event(2, "unlabeled", person("eve"), Value::Null),
            event(3, "labeled", person("bob"), Value::Null),
            json!({"id": 9, "event": "labeled", "actor": person("eve"), "label": {"name": "other"}}),
        ];
        let doer = labelled(&all, "orch: approved").unwrap();
        assert_eq!((doer.name.as_str(), doer.event.as_deref(), doer.through_app), ("bob", Some("3"), false));
        assert_eq!(labelled(&all, "absent"), None);
        assert_eq!(labelled(&[event(4, "labeled", Value::Null, Value::Null)], "orch: Approved"), None);
        let through = |who, app| labelled(&[event(5, "labeled", who, app)], "orch: Approved").unwrap().through_app;
        assert!(through(person("ann"), json!({"id": 1})));
        assert!(through(json!({"login": "dep[bot]", "type": "Bot"}), Value::Null));
        assert!(!through(person("ann"), Value::Null));
    }

    #[test]
    fn the_highest_priority_counts_and_names_fold() {
        let item = issue(json!(null), &["Priority: low", "priority: HIGH"]).item("A", &words()).unwrap();
        assert_eq!((item.priority, item.key.as_str(), item.id.as_str()), (Priority::High, "A-7", "7"));
        assert!(Issue::read(&json!({"number": 1})).is_err() && Issue::read(&json!({"state": "open"})).is_err());
    }
}
