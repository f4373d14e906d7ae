//! Creates issues, and the labels that statuses need.

use super::wire::Issue;
use super::{Issues, error};
use crate::adapters::board::{Board, BoardError, NewItem};
use crate::adapters::github::text;
use crate::adapters::http::Method;
use crate::model::board::{Group, Logical, Priority, fold};
use crate::model::ids::Key;
use serde_json::json;

type Result<T> = std::result::Result<T, BoardError>;

/// Six hex digits, as GitHub wants them.
const COLOURS: [(Group, &str); 5] = [
    (Group::Unstarted, "1d76db"),
    (Group::Started, "fbca04"),
    (Group::Completed, "0e8a16"),
    (Group::Cancelled, "cccccc"),
    (Group::Backlog, "ededed"),
];

impl Issues {
    /// Opens an issue; with a marker, a repeat finds the first one's and completes it. Labels that GitHub dropped
    /// silently are added, which it refuses aloud.
    pub(super) fn create(&self, new: &NewItem<'_>) -> Result<Key> {
        let mark = new.marker.map(|m| format!("<!-- orch:{m} -->"));
        let mut labels: Vec<String> = new.labels.to_vec();
        if new.priority != Priority::None {
            labels.push(format!("{}{}", self.words.priority, new.priority));
        }
        let issue = match mark.as_deref().map(|mark| self.marked(mark)).transpose()?.flatten() {
            Some(there) => there,
            None => {
                let body = [Some(new.body.to_owned()), mark].into_iter().flatten().collect::<Vec<_>>().join("\n\n");
                let wanted = json!({"title": new.title, "body": body, "labels": labels});
                Issue::read(&self.write(Method::Post, "issues", &wanted)?).map_err(BoardError::UnknownOutcome)?
            }
        };
        let is_new = issue.closed.is_none() && issue.statuses(&self.words).is_empty();
        let lacks = |label: &String| !issue.labels.iter().any(|l| fold(l) == fold(label));
        let mut missing: Vec<String> = labels.into_iter().filter(|l| is_new && lacks(l)).collect();
        // Last: this label starts the work, and its event says who added it.
        if is_new && self.words.name_of(&new.status.id).is_some() {
            missing.push(new.status.id.clone());
        }
        for label in missing {
            self.write(Method::Post, &format!("issues/{}/labels", issue.number), &json!({"labels": [label]}))?;
        }
        Key::parse(&format!("{}-{}", self.key, issue.number)).map_err(|e| BoardError::Invalid(e.to_string()))
    }

    /// This credential's own issue with a marker, among the newest.
    fn marked(&self, mark: &str) -> Result<Option<Issue>> {
        let query = [("state", "all"), ("sort", "created"), ("direction", "desc")];
        let rows = self.api.page(&self.at("issues"), &query, 1, &[]).map_err(error)?.json()?;
        for row in rows.as_array().into_iter().flatten() {
            let author = row.get("user").map(|u| text(u, "login")).unwrap_or_default();
            if text(row, "body").contains(mark) && self.api.is_me(&author).map_err(error)? {
                return Issue::read(row).map(Some).map_err(BoardError::Invalid);
            }
        }
        Ok(None)
    }

    /// The labels of statuses that the repository lacks, each with its meaning.
    fn missing(&self) -> Result<Vec<(Logical, String)>> {
        let there = self.labels()?;
        let label = |l: &Logical| {
            format!("{}{}", self.words.prefix, self.names.get(l).map_or(l.default_name(), String::as_str))
        };
        let all = Logical::ALL.iter().map(|l| (*l, label(l)));
        Ok(all.filter(|(_, label)| !there.iter().any(|l| fold(&l.name) == fold(label))).collect())
    }

    /// The names of the status labels that the repository lacks.
    pub fn missing_labels(&self) -> Result<Vec<String>> {
        Ok(self.missing()?.into_iter().map(|(_, label)| label).collect())
    }

    /// Creates the missing labels and returns their names. For `orch init`, never for a step.
    pub fn make_labels(&self) -> Result<Vec<String>> {
        let mut made = Vec::new();
        for (logical, label) in &self.missing()? {
            let colour = COLOURS.iter().find(|(g, _)| *g == logical.group()).map_or("ededed", |(_, c)| c);
            let body = json!({"name": label, "color": colour, "description": description(*logical)});
            match self.write(Method::Post, "labels", &body) {
                Ok(_) => made.push(label.clone()),
                // It exists, maybe in another letter case.
                Err(BoardError::Invalid(_)) if self.labels()?.iter().any(|l| fold(&l.name) == fold(label)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(made)
    }
}

fn description(logical: Logical) -> &'static str {
    let intents = [
        (Logical::ToAnalyse, "Set by a person: orch begins with the analysis"),
        (Logical::Approved, "Set by a person: the analysis is approved"),
        (Logical::ConfirmDeploy, "Set by a person: the deploy is released"),
        (Logical::Stop, "Set by a person: orch stops its work on the issue"),
    ];
    let own = intents.iter().find(|(l, _)| *l == logical).map(|(_, text)| *text);
    own.unwrap_or("Set by orch: where its work on the issue is")
}
