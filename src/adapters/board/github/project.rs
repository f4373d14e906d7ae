//! The project (Projects v2) that shows statuses (GH-2, services-github §5.9). It steers nothing, and what fails here
//! stops nothing.

use super::{Issues, error};
use crate::adapters::board::BoardError;
use crate::adapters::github::{Failure, PAGE, text};
use crate::adapters::http::Class;
use crate::model::board::fold;
use crate::model::examined::Examined;
use crate::model::sides::ShownProject;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, BoardError>;

const ADD: &str = "mutation($project: ID!, $content: ID!) { addProjectV2ItemById(input: {projectId: $project, contentId: \
    $content}) { item { id } } }";
const SET: &str = "mutation($project: ID!, $item: ID!, $field: ID!, $option: String!) { \
    updateProjectV2ItemFieldValue(input: {projectId: $project, itemId: $item, fieldId: $field, value: \
    {singleSelectOptionId: $option}}) { projectV2Item { id } } }";

/// The project as GitHub knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    id: String,
    field: String,
    /// Names and ids.
    options: Vec<(String, String)>,
}

impl Issues {
    /// Shows a status on the issue's card. `node`: the issue's id for GraphQL.
    pub(super) fn show(&self, node: &str, status: &str) {
        let Some(project) = self.project.as_ref().filter(|_| !node.is_empty()) else { return };
        if let Err(e) = self.shown(project, node, status) {
            tracing::warn!("the project {} of {} does not show {status:?}: {e}", project.number, project.owner);
        }
    }

    fn shown(&self, project: &ShownProject, node: &str, status: &str) -> Result<()> {
        let found = self.found(project)?;
        let (_, option) =
            found.options.iter().find(|(name, _)| fold(name) == fold(status)).ok_or_else(|| {
                BoardError::Invalid(format!("its field {:?} has no option {status:?}", project.field))
            })?;
        // Adding what is there gives what is there.
        let added = self.api.graphql(ADD, &json!({"project": found.id, "content": node})).map_err(error)?;
        let item = added.pointer("/addProjectV2ItemById/item/id").and_then(Value::as_str).unwrap_or("");
        let with = json!({"project": found.id, "item": item, "field": found.field, "option": option});
        self.api.graphql(SET, &with).map(drop).map_err(error)
    }

    fn found(&self, project: &ShownProject) -> Result<&Found> {
        if let Some(found) = self.shown_in.get() {
            return Ok(found);
        }
        let found = match self.find("organization", project) {
            // GitHub has one answer for "no such organisation" and "a user".
            Err(e) if e.http.class == Class::NotFound => self.find("user", project),
            found => found,
        };
        let found = found.map_err(error)?.ok_or_else(|| {
            let (number, owner, field) = (project.number, &project.owner, &project.field);
            BoardError::Invalid(format!("{owner} has no project {number} with a single-select field {field:?}"))
        })?;
        Ok(self.shown_in.get_or_init(|| found))
    }

    fn find(&self, owner: &str, project: &ShownProject) -> std::result::Result<Option<Found>, Failure> {
        let query = format!(
            "query($login: String!, $number: Int!, $field: String!) {{ {owner}(login: $login) {{ projectV2(number: \
             $number) {{ id field(name: $field) {{ ... on ProjectV2SingleSelectField {{ id options {{ id name }} }} }} \
             }} }} }}"
        );
        let with = json!({"login": project.owner, "number": project.number, "field": project.field});
        Ok(found(&self.api.graphql(&query, &with)?[owner]["projectV2"]))
    }

    /// What `doctor` says of it.
    pub(super) fn examine_project(&self) -> Option<Examined> {
        const NAME: &str = "project";
        let project = self.project.as_ref()?;
        Some(match self.found(project) {
            Err(e) => Examined::warn(NAME, format!("statuses are not shown there: {e}"), PAGE),
            Ok(found) => {
                let there = |name: &String| found.options.iter().any(|(option, _)| fold(option) == fold(name));
                let missing: Vec<&str> = self.names.values().filter(|n| !there(n)).map(String::as_str).collect();
                if missing.is_empty() {
                    Examined::ok(NAME, format!("shows every status in {:?}", project.field))
                } else {
                    let message = format!("its field {:?} has no option {}", project.field, missing.join(", "));
                    Examined::warn(NAME, message, "add the options that are to be shown")
                }
            }
        })
    }
}

/// Parses a project; `None`: there is none, or its field is no single-select one.
fn found(v: &Value) -> Option<Found> {
    let field = v.get("field").filter(|f| !text(f, "id").is_empty())?;
    let options = field.get("options").and_then(Value::as_array).into_iter().flatten();
    let options = options.map(|o| (text(o, "name"), text(o, "id"))).collect();
    Some(Found { id: text(v, "id"), field: text(field, "id"), options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_without_the_field_is_none() {
        let option = json!({"id": "o", "name": "Done"});
        let good = json!({"id": "P", "field": {"id": "F", "options": [option]}});
        let options = vec![("Done".to_owned(), "o".to_owned())];
        assert_eq!(found(&good), Some(Found { id: "P".into(), field: "F".into(), options }));
        for bad in [json!(null), json!({"id": "P", "field": null}), json!({"id": "P", "field": {}}), json!(7)] {
            assert_eq!(found(&bad), None, "{bad}");
        }
    }
}
