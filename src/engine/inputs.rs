//! Verdict inputs of a task (BND-5): passes what the mirror shows of base and head to the one function that names them.

use super::{Ctx, projects};
use crate::adapters::git::{ChangedPath, EntryKind, MAX_FILE, Mirror, Object};
use crate::decide::definitions::is_test_path;
use crate::decide::inputs::{Change, Side, inputs, side};
use crate::model::artefact::is_artefact_path;
use crate::model::effect::Report;
use crate::model::ids::Sha;
use crate::model::inputs::Input;
use crate::model::task::Task;
use anyhow::{Context, Result};
use std::collections::BTreeSet;

/// About how many bytes of contents are held in memory at a time.
const CHUNK_BYTES: u64 = 32 << 20;

/// The verdict inputs of `base...head`. Fails if the mirror lacks one of the two.
pub fn between(mirror: &Mirror, base: &Sha, head: &Sha) -> Result<Vec<Input>> {
    let from = mirror.merge_base(base, head)?.unwrap_or_else(|| base.clone());
    of_range(mirror, &from, head)
}

/// The verdict inputs of exactly the range from one commit to another.
pub fn of_range(mirror: &Mirror, from: &Sha, to: &Sha) -> Result<Vec<Input>> {
    let mut paths = mirror.changes(from, to)?;
    paths.retain(|c| !is_artefact_path(&c.path));
    let defined_elsewhere: BTreeSet<Sha> = paths
        .iter()
        .filter(|c| c.before.is_none() && is_test_path(&c.path))
        .filter_map(|c| c.after.as_ref().map(|o| o.id.clone()))
        .collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < paths.len() {
        let mut bytes = 0;
        let end = paths.iter().skip(at).take_while(|c| {
            bytes += readable(c.before.as_ref()) + readable(c.after.as_ref());
            bytes <= CHUNK_BYTES
        });
        let count = end.count().max(1);
        let chunk = paths.get(at..at + count).unwrap_or_default();
        found.extend(inputs(&read(mirror, chunk, &defined_elsewhere)?));
        at += count;
    }
    found.sort();
    Ok(found)
}

/// The bytes needed to read an object; 0 if it is not read.
fn readable(object: Option<&Object>) -> u64 {
    let plain = object.filter(|o| matches!(o.kind, EntryKind::File | EntryKind::Executable | EntryKind::Symlink));
    plain.and_then(|o| o.size).filter(|size| *size <= MAX_FILE as u64).unwrap_or(0)
}

fn read(mirror: &Mirror, chunk: &[ChangedPath], moved: &BTreeSet<Sha>) -> Result<Vec<Change>> {
    let objects: Vec<&Sha> = chunk
        .iter()
        .flat_map(|c| [c.before.as_ref(), c.after.as_ref()])
        .flatten()
        .filter(|o| readable(Some(o)) > 0)
        .map(|o| &o.id)
        .collect();
    let mut contents = mirror.contents(objects)?.into_iter();
    let mut one = |object: Option<&Object>| match object {
        None => Side::Absent,
        Some(o) if readable(Some(o)) > 0 => side(&contents.next().unwrap_or_default()),
        Some(o) if o.kind == EntryKind::Submodule => Side::Opaque("a submodule, whose files are elsewhere".to_owned()),
        Some(o) if o.size == Some(0) => Side::Text(String::new()),
        Some(_) => Side::Opaque("larger than 1 MiB".to_owned()),
    };
    let changes = chunk.iter().map(|c| Change {
        path: c.path.clone(),
        before: one(c.before.as_ref()),
        after: one(c.after.as_ref()),
        moved: c.after.is_none() && c.before.as_ref().is_some_and(|o| moved.contains(&o.id)),
    });
    Ok(changes.collect())
}

/// Lists the verdict inputs of `base...head`. A dry run has a mirror only where one is already there.
pub fn listed(ctx: &mut Ctx, task: &Task, base: &Sha, head: &Sha) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = match projects::local_mirror(ctx, &project)? {
        Some(mirror) => mirror,
        None if ctx.dry => return Ok(Report::Unread),
        None => projects::mirror(ctx, &project)?,
    };
    let found = between(&mirror, base, head).with_context(|| format!("what {} changed", task.key))?;
    Ok(Report::Inputs(found))
}
