//! The keys of a GitHub board and forge (GH-1, GH-2).

use super::error::ConfigError;
use super::parts::{Place, http, missing, text};
use super::raw::{RawApp, RawBoard, RawBoardLabels, RawForge};
use super::secret::SecretRef;
use crate::model::board::Logical;
use crate::model::sides::{BoardLabels, CommentsFrom, GithubBoard, GithubForge, GithubLogin, GithubRepo, ShownProject};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use std::collections::BTreeMap;
use std::fmt;

const API: &str = "https://api.github.com";
/// Longest name of a label.
const LONGEST: usize = 50;

/// The keys for server and credential, common to both.
struct Where<'a> {
    api_base: Option<&'a String>,
    owner: Option<&'a String>,
    name: Option<&'a String>,
    token: Option<&'a SecretRef>,
    app: Option<&'a RawApp>,
}

fn repo(raw: &Where<'_>, place: &Place<'_>, at: &str) -> Result<GithubRepo, ConfigError> {
    let need = |value: Option<&String>, key: &str, what: &str| {
        text(value).ok_or_else(|| missing(&format!("{at}.{key}"), what))
    };
    let login = match (raw.token, raw.app) {
        (Some(token), None) => GithubLogin::Token(place.secret(token, &format!("{at}.token"))?),
        (None, Some(app)) => app_of(app, place, &format!("{at}.app"))?,
        (None, None) => return Err(missing(&format!("{at}.token"), "{env: NAME} or {file: PATH}, or app")),
        (Some(_), Some(_)) => {
            return Err(ConfigError::new(format!("{at} has both token and app, expected one of them"))
                .hint("keep app: its checks can be read, and it is no person"));
        }
    };
    let base = text(raw.api_base).unwrap_or_else(|| API.to_owned());
    let base = http(&base, &format!("{at}.api_base"))?.trim_end_matches('/').to_owned();
    if ["https://github.com", "https://www.github.com"].contains(&base.as_str()) {
        return Err(ConfigError::new(format!("{at}.api_base is {base}, expected the API's address"))
            .hint(format!("leave it out ({API}), or name https://HOST/api/v3 of an Enterprise Server")));
    }
    Ok(GithubRepo {
        api_base: base,
        owner: need(raw.owner, "owner", "the repository's owner")?,
        name: need(raw.name, "name", "the repository's name")?,
        login,
    })
}

fn app_of(raw: &RawApp, place: &Place<'_>, at: &str) -> Result<GithubLogin, ConfigError> {
    let id = raw.id.as_ref().map(|id| id.0.trim().to_owned()).filter(|id| !id.is_empty());
    Ok(GithubLogin::App {
        id: id.ok_or_else(|| missing(&format!("{at}.id"), "the App's id or client id"))?,
        installation: raw
            .installation
            .ok_or_else(|| missing(&format!("{at}.installation"), "the installation's id"))?,
        key: place.secret(
            raw.key.as_ref().ok_or_else(|| missing(&format!("{at}.key"), "{file: PATH} of the private key"))?,
            &format!("{at}.key"),
        )?,
    })
}

/// A forge of kind `github`; `at` is its path.
pub(super) fn forge(raw: &RawForge, place: &Place<'_>, at: &str) -> Result<GithubForge, ConfigError> {
    let of = Where {
        api_base: raw.api_base.as_ref(),
        owner: raw.owner.as_ref(),
        name: raw.name.as_ref(),
        token: raw.token.as_ref(),
        app: raw.app.as_ref(),
    };
    Ok(GithubForge {
        repo: repo(&of, place, at)?,
        draft: raw.draft.unwrap_or(false),
        reviewers: raw.reviewers.clone().unwrap_or_default(),
        team_reviewers: raw.team_reviewers.clone().unwrap_or_default(),
        post_statuses: raw.post_statuses.unwrap_or(false),
    })
}

/// A board of kind `github`; `at` is its path.
pub(super) fn board(
    raw: &RawBoard,
    (statuses, deciders): (BTreeMap<Logical, String>, Vec<String>),
    full_scan_every_s: u64,
    place: &Place<'_>,
    at: &str,
) -> Result<GithubBoard, ConfigError> {
    let of = Where {
        api_base: raw.api_base.as_ref(),
        owner: raw.owner.as_ref(),
        name: raw.name.as_ref(),
        token: raw.token.as_ref(),
        app: raw.app.as_ref(),
    };
    let labels = labels(raw.labels.clone().unwrap_or_default(), &statuses, at)?;
    let comments = raw.comments.as_ref().and_then(|c| c.from).unwrap_or(CommentsFrom::Write);
    let project = raw.project.as_ref().map(|project| shown(project, at)).transpose()?;
    let repo = repo(&of, place, at)?;
    Ok(GithubBoard { repo, labels, statuses, deciders, full_scan_every_s, comments, project })
}

fn shown(raw: &RawBoardProject, at: &str) -> Result<ShownProject, ConfigError> {
    let at = format!("{at}.project");
    let RawBoardProject::Github { owner, number, field } = raw else {
        return Err(ConfigError::new(format!("{at} is a text, expected {{owner, number, field}}")));
    };
    let number = number.filter(|n| *n > 0);
    Ok(ShownProject {
        owner: text(owner.as_ref()).ok_or_else(|| missing(&format!("{at}.owner"), "the organisation or user"))?,
        number: number.ok_or_else(|| missing(&format!("{at}.number"), "the number in the project's address"))?,
        field: text(field.as_ref()).unwrap_or_else(|| "Status".to_owned()),
    })
}

/// `board.project`: a name on Plane, a section on GitHub.
#[derive(Debug, Clone)]
pub(super) enum RawBoardProject {
    Plane(String),
    Github { owner: Option<String>, number: Option<u64>, field: Option<String> },
}

impl<'de> Deserialize<'de> for RawBoardProject {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Section {
            owner: Option<String>,
            number: Option<u64>,
            field: Option<String>,
        }
        struct NameOrSection;
        impl<'de> Visitor<'de> for NameOrSection {
            type Value = RawBoardProject;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text (Plane) or {owner, number, field} (GitHub)")
            }
            fn visit_str<E>(self, name: &str) -> Result<RawBoardProject, E> {
                Ok(RawBoardProject::Plane(name.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawBoardProject, A::Error> {
                let Section { owner, number, field } =
                    Section::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(RawBoardProject::Github { owner, number, field })
            }
        }
        from.deserialize_any(NameOrSection)
    }
}

impl schemars::JsonSchema for RawBoardProject {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RawBoardProject".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"description": "text, or section {owner, number, field}", "oneOf": [
            {"type": "string"},
            {"type": "object", "required": ["owner", "number"], "additionalProperties": false, "properties": {
                "owner": {"type": "string"}, "number": {"type": "integer", "minimum": 1}, "field": {"type": "string"}
            }}
        ]})
    }
}

/// The prefixes, checked together with every status: the whole label is not empty, at most 50 characters, without
/// comma.
fn labels(raw: RawBoardLabels, statuses: &BTreeMap<Logical, String>, at: &str) -> Result<BoardLabels, ConfigError> {
    let labels = BoardLabels {
        prefix: raw.prefix.unwrap_or_else(|| "orch: ".into()),
        priority: raw.priority.unwrap_or_else(|| "priority: ".into()),
    };
    for (key, prefix) in [("prefix", &labels.prefix), ("priority", &labels.priority)] {
        if prefix.trim().is_empty() {
            return Err(missing(&format!("{at}.labels.{key}"), "a text that distinguishes these labels from others"));
        }
        if prefix.contains(',') || prefix.chars().any(char::is_control) {
            return Err(ConfigError::new(format!("{at}.labels.{key} is {prefix:?}, expected a text without a comma")));
        }
    }
    for logical in Logical::ALL {
        let name = statuses.get(logical).map_or(logical.default_name(), String::as_str);
        let whole = format!("{}{name}", labels.prefix);
        if whole.chars().count() > LONGEST || whole.contains(',') {
            return Err(ConfigError::new(format!(
                "the label {whole:?} of {at}.statuses.{logical} can't be, expected at most {LONGEST} characters and no comma"
            ))
            .hint("choose a shorter name or labels.prefix"));
        }
    }
    Ok(labels)
}
