//! Parses what Plane sends, tolerantly: unknown fields are allowed; `null`, absent and empty are the same.

use crate::model::board::{Deed, Group, ItemRef, Label, Priority, Status, WorkItem};
use crate::model::ids::Key;
use crate::model::time::parse_rfc3339;
use serde_json::Value;

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub results: Vec<Value>,
    /// `None` on the last page (where Plane still sends a cursor).
    pub next: Option<String>,
}

fn text(v: &Value, name: &str) -> Option<String> {
    v.get(name)?.as_str().map(str::to_owned)
}

fn rows(v: &Value) -> Vec<Value> {
    v.as_array().cloned().unwrap_or_default()
}

/// Reads a list's envelope; a bare array is one page. Fails with what was expected.
pub fn page(v: &Value) -> Result<Page, String> {
    if v.is_array() {
        return Ok(Page { results: rows(v), next: None });
    }
    let results = v.get("results").ok_or("expected a list with `results`")?;
    if !results.is_array() && !results.is_null() {
        return Err("expected `results` to be a list".to_owned());
    }
    let more = v.get("next_page_results").and_then(Value::as_bool).unwrap_or(false);
    Ok(Page { results: rows(results), next: text(v, "next_cursor").filter(|c| more && !c.is_empty()) })
}

/// A project's status; `None` without id and name.
pub fn status(v: &Value) -> Option<Status> {
    Some(Status { id: text(v, "id")?, name: text(v, "name")?, group: text(v, "group").and_then(|g| Group::parse(&g)) })
}

/// A project's label; `None` without id and name.
pub fn label(v: &Value) -> Option<Label> {
    Some(Label { id: text(v, "id")?, name: text(v, "name")? })
}

/// An id that may have been expanded into an object.
fn id_of(v: &Value) -> Option<String> {
    v.as_str().map(str::to_owned).or_else(|| text(v, "id"))
}

/// Whether a row is one that reads should hide: archived, or a draft.
pub fn is_hidden(v: &Value) -> bool {
    v.get("archived_at").is_some_and(|a| !a.is_null() && a.as_str() != Some(""))
        || v.get("is_draft").and_then(Value::as_bool) == Some(true)
}

/// A work item; names and groups of statuses are joined from the project's. Fails with the name of the missing field.
pub fn item(v: &Value, prefix: &str, statuses: &[Status]) -> Result<WorkItem, String> {
    let id = text(v, "id").ok_or("a work item without `id`")?;
    let number =
        v.get("sequence_id").and_then(Value::as_u64).ok_or_else(|| format!("work item {id} without `sequence_id`"))?;
    let key = Key::parse(&format!("{prefix}-{number}")).map_err(|e| e.to_string())?;
    let status_id = v.get("state").and_then(id_of).unwrap_or_default();
    let known = statuses.iter().find(|s| s.id == status_id);
    let time = |name: &str| text(v, name).and_then(|t| parse_rfc3339(&t)).unwrap_or(0);
    Ok(WorkItem {
        key,
        title: text(v, "name").unwrap_or_default(),
        body: text(v, "description_html").map(|h| plain(&h)),
        labels: v.get("labels").map(rows).unwrap_or_default().iter().filter_map(id_of).collect(),
        priority: text(v, "priority").and_then(|p| Priority::parse(&p)).unwrap_or(Priority::None),
        status_name: known.map(|s| s.name.clone()),
        group: known.and_then(|s| s.group),
        status_id,
        blocked_by: None,
        created_ms: time("created_at"),
        updated_ms: time("updated_at"),
        changed_by: None,
        id,
    })
}

/// The items that block, from a relations reply.
pub fn blocked_by(v: &Value) -> Vec<ItemRef> {
    let list = v.get("blocked_by").map(rows).unwrap_or_default();
    list.iter().filter_map(|r| text(r, "issue_id").or_else(|| id_of(r))).map(ItemRef::Id).collect()
}

/// Who did a thing last, from an item's activities, which are sorted oldest first.
pub fn actor(activities: &[Value], deed: &Deed<'_>) -> Option<String> {
    let is = |row: &Value, name: &str, wanted: &str| row.get(name).and_then(Value::as_str) == Some(wanted);
    let did = |row: &&Value| match deed {
        Deed::Status(id) => is(row, "field", "state") && is(row, "new_identifier", id),
        Deed::Label { id, name } => {
            is(row, "field", "labels") && (is(row, "new_identifier", id) || is(row, "new_value", name))
        }
    };
    activities.iter().rfind(did)?.get("actor").and_then(id_of)
}

/// The `id` of the existing object in a 409.
pub fn existing(v: &Value) -> Option<String> {
    text(v, "id")
}

/// Whether a 404 says that the route is unknown, not the object.
pub fn is_unknown_route(v: &Value) -> bool {
    v.get("error").and_then(Value::as_str) == Some("Page not found.")
}

/// Text as HTML that shows exactly this text.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for (i, paragraph) in text.trim().split("\n\n").enumerate() {
        if i > 0 && paragraph.trim().is_empty() {
            continue;
        }
        out.push_str("<p>");
        for c in paragraph.trim_matches('\n').chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\n' => out.push_str("<br>"),
                c if c.is_control() && c != '\t' => {}
                c => out.push(c),
            }
        }
        out.push_str("</p>");
    }
    out
}

/// HTML as text: tags dropped, blocks on lines of their own, the common entities decoded.
pub fn plain(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let Some((tag, tail)) = after.split_once('>') else {
            rest = "";
            break;
        };
        let name = tag.trim_start_matches('/').split([' ', '/', '\t', '\n']).next().unwrap_or("").to_ascii_lowercase();
        const BLOCKS: &[&str] =
            &["p", "div", "br", "ul", "ol", "tr", "pre", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6"];
        if name == "li" && !tag.starts_with('/') {
            out.push_str("\n- ");
        } else if BLOCKS.contains(&name.as_str()) && !out.is_empty() && !out.ends_with("\n\n") {
            out.push('\n');
        }
        rest = tail;
    }
    out.push_str(rest);
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&nbsp;", " "), ("&amp;", "&")];
    let text = entities.iter().fold(out, |t, (from, to)| t.replace(from, to));
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn who_did_a_thing_last_is_read_from_the_activities() {
        let rows = [
            json!({"field": "state", "new_identifier": "s1", "new_value": "To Analyse", "actor": "ann"}),
            json!({"field": "labels", "new_identifier": null, "new_value": "autoDeploy", "actor": "bob"}),
            json!({"field": "state", "new_identifier": "s2", "actor": {"id": "bob"}}),
            json!({"field": "state", "new_identifier": "s1", "actor": "eve"}),
            json!({"field": "name", "new_value": "s2", "actor": "mallory"}),
            json!(null),
        ];
        let of = |deed| actor(&rows, &deed);
        assert_eq!(of(Deed::Status("s1")).as_deref(), Some("eve"));
        assert_eq!(of(Deed::Status("s2")).as_deref(), Some("bob"));
        assert_eq!(of(Deed::Status("s3")), None);
        assert_eq!(of(Deed::Label { id: "l1", name: "autoDeploy" }).as_deref(), Some("bob"));
        assert_eq!(of(Deed::Label { id: "l1", name: "autoApprove" }), None);
    }

    #[test]
    fn the_last_page_ends_though_it_has_a_cursor() {
        let v = json!({"results": null, "next_cursor": "4:100:0", "next_page_results": false});
        assert_eq!(page(&v).unwrap(), Page { results: vec![], next: None });
        assert!(page(&json!({"detail": "x"})).is_err());
    }

    #[test]
    fn a_row_is_read_with_ids_objects_nulls_and_unknown_words() {
        let statuses = [Status { id: "s".into(), name: "S".into(), group: None }];
        let v = json!({"id": "i", "sequence_id": 7, "name": null, "state": {"id": "s", "name": "S"}, "labels": null,
            "priority": "extreme", "created_at": "2026-01-01T02:00:00+02:00", "new_field": [1]});
        let i = item(&v, "ORCH", &statuses).unwrap();
        assert_eq!((i.key.as_str(), i.status_id.as_str(), i.priority), ("ORCH-7", "s", Priority::None));
        assert_eq!(i.created_ms, parse_rfc3339("2026-01-01T00:00:00Z").unwrap());
        assert!(item(&json!({"id": "i"}), "ORCH", &[]).is_err());
    }

    #[test]
    fn what_a_person_typed_is_never_markup() {
        assert_eq!(html("a <b>\n&\"\n\nc"), "<p>a &lt;b&gt;<br>&amp;&quot;</p><p>c</p>");
        assert_eq!(plain("<div><p>As &lt;b&gt;</p><ul><li>one</li></ul></div>"), "As <b>\n\n\n- one");
        assert_eq!(plain("cut <b"), "cut");
    }

    proptest! {
        #[test]
        fn reading_never_panics(t in any::<String>()) {
            drop(plain(&t));
            let shown = html(&t);
            prop_assert!(!shown.replace("<p>", "").replace("</p>", "").replace("<br>", "").contains('<'));
        }
    }
}
