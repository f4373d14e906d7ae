//! What is known of a repository's base (ORD-1): rows of `meta`, one for each base, and by which settings it counts.

use crate::adapters::store::{Result as StoreResult, Tx};
use crate::config::{Config, EnvValue, Project};
use crate::model::base::{Base, BaseState, Unseen};
use crate::model::ids::TaskId;
use crate::model::parts;
use crate::model::status::BaseRow;
use crate::model::text;
use crate::model::time::rfc3339;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub(super) const ROW: &str = "base/row/";

const UNSEEN: &str = "base/unseen/";

const ON_RED: &str = "base/on_red/t";

/// How many passed trees are remembered per base.
const PASSED: usize = 50;

/// Whether a project's base has anything to check.
pub fn applies(config: &Config, project: &Project) -> bool {
    let ci = if project.forge.is_remote() { !project.ci.contexts.is_empty() } else { project.ci.command.is_some() };
    config.base.enabled && (ci || project.worktree.setup.is_some())
}

/// Digest of all settings that decide whether setup and CI pass.
pub fn digest(config: &Config, project: &Project) -> String {
    // Literal values count, too; of a reference only the reference itself.
    let literals = |env: &BTreeMap<String, EnvValue>| -> Vec<(String, String)> {
        let one = |(name, value): (&String, &EnvValue)| match value {
            EnvValue::Literal(text) => Some((name.clone(), text.clone())),
            EnvValue::Ref(_) => None,
        };
        env.iter().filter_map(one).collect()
    };
    let own = (literals(&project.ci.env), project.worktree.setup.as_ref().map(|s| literals(&s.env)));
    let confinement = format!("{:?}", config.confinement(project, None));
    // For a part: the folder in which they run.
    let folder = project.paths.first().map(|first| parts::folder(first));
    let all = json!([project.worktree, project.ci, config.tools, confinement, own, folder]);
    text::digest(&[&all.to_string()])
}

/// Digest of everything that decides what a red CI means: the settings above and those of the base (ORD-1). Stored in a
/// red row.
pub fn ground(config: &Config, project: &Project) -> String {
    text::digest(&[&digest(config, project), &json!(config.base).to_string()])
}

/// The rows of all bases, by name.
pub fn rows(tx: &Tx<'_>) -> StoreResult<BTreeMap<String, Base>> {
    let row = |(key, text): (String, String)| {
        Some((key.strip_prefix(ROW)?.to_owned(), serde_json::from_str::<Base>(&text).ok()?))
    };
    Ok(tx.metas(ROW)?.into_iter().filter_map(row).collect())
}

/// Tasks that a person lets start on a red base.
pub fn on_red(tx: &Tx<'_>) -> StoreResult<BTreeSet<TaskId>> {
    let id = |(key, _): (String, String)| key.strip_prefix(ON_RED)?.parse().ok().map(TaskId);
    Ok(tx.metas(ON_RED)?.into_iter().filter_map(id).collect())
}

/// Lets a task start on a red base (`retry --on-red-base`); its own CI must be green as ever.
pub fn allow(tx: &Tx<'_>, id: TaskId) -> StoreResult<()> {
    tx.set_meta(&format!("{ON_RED}{id}"), "1")
}

/// On a person's request: a base that is red, or could not be checked or read, is checked at once. Returns whether
/// there is one.
pub fn try_now(tx: &Tx<'_>, name: &str) -> StoreResult<bool> {
    let unseen = tx.meta(&unseen_key(name))?.is_some();
    tx.drop_meta(&unseen_key(name))?;
    let holds = |b: &Base| matches!(b.state, BaseState::Red | BaseState::Environment | BaseState::Untried);
    let Some(mut base) = row(tx, name)?.filter(holds) else { return Ok(unseen) };
    base.next_at = 0;
    put(tx, name, &base)?;
    Ok(true)
}

/// The key under which a failure to read a base is recorded.
pub(super) fn unseen_key(name: &str) -> String {
    format!("{UNSEEN}{name}")
}

/// Bases that could not be read, by name.
pub fn unseen(tx: &Tx<'_>) -> StoreResult<BTreeMap<String, Unseen>> {
    let one = |(key, text): (String, String)| {
        Some((key.strip_prefix(UNSEEN)?.to_owned(), serde_json::from_str::<Unseen>(&text).ok()?))
    };
    Ok(tx.metas(UNSEEN)?.into_iter().filter_map(one).collect())
}

/// What is known of a base.
pub fn row(tx: &Tx<'_>, name: &str) -> StoreResult<Option<Base>> {
    Ok(tx.meta(&format!("{ROW}{name}"))?.and_then(|t| serde_json::from_str(&t).ok()))
}

pub(super) fn put(tx: &Tx<'_>, name: &str, base: &Base) -> StoreResult<()> {
    tx.set_meta(&format!("{ROW}{name}"), &json!(base).to_string())
}

/// The key under which a passed tree is recorded.
pub fn passed_key(name: &str, tree: &str, config: &str) -> String {
    format!("base/passed/{name}/{tree}/{config}")
}

/// Remembers that a tree passed under these settings: on the base, or at the merge gate.
pub fn passed(tx: &Tx<'_>, name: &str, tree: &str, config: &str, at: i64) -> StoreResult<()> {
    let mut known = tx.metas(&format!("base/passed/{name}/"))?;
    known.sort_by_key(|(_, at)| std::cmp::Reverse(at.parse::<i64>().unwrap_or(0)));
    for (key, _) in known.iter().skip(PASSED) {
        tx.drop_meta(key)?;
    }
    tx.set_meta(&passed_key(name, tree, config), &at.to_string())
}

/// The same for a state directory that is not open yet.
pub fn dir_in(state: &Path, name: &str) -> PathBuf {
    state.join("base").join(name)
}

/// For `status`: every project's base, checked or not.
pub fn shown(tx: &Tx<'_>, config: &Config) -> StoreResult<Vec<BaseRow>> {
    let rows = rows(tx)?;
    let unseen = unseen(tx)?;
    let one = |p: &Project| {
        let applies = applies(config, p);
        let (row, unseen) = (rows.get(p.base_name()), unseen.get(p.base_name()));
        let (row, unseen) = (row.filter(|_| applies), unseen.filter(|_| applies));
        let untried = if applies { BaseState::Untried } else { BaseState::NotApplicable };
        BaseRow {
            repo: p.base_name().to_owned(),
            commit: row.map(|b| b.commit.to_string()),
            state: row.map_or(untried, |b| b.state),
            since: row.map(|b| rfc3339(b.since)),
            why: match unseen {
                Some(u) => format!("can't be checked: {}", u.why),
                None => row.map(|b| b.why.clone()).unwrap_or_default(),
            },
            unchecked: unseen.is_some(),
        }
    };
    Ok(config.projects.iter().map(one).collect())
}
