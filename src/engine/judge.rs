//! Turns the contents of a run's pushed commits into evidence rows (RULE-3, PIPE-4): the file must have changed in the
//! run's own commits, and the commit judged is the one the run began from.

use super::{Ctx, inputs};
use crate::adapters::git::{EntryKind, Mirror, Object};
use crate::adapters::store::NewEvidence;
use crate::decide::definitions::is_test_path;
use crate::decide::gates::branch_pushed;
use crate::decide::gates::verdict::{self, File, Unread};
use crate::model::artefact::{self, Artefact};
use crate::model::evidence::{Carry, EvidenceDetail, EvidenceVerdict};
use crate::model::gate::Subject;
use crate::model::ids::Sha;
use crate::model::stage::Stage;
use crate::model::task::{Run, Task};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// The commits of one run, pushed.
#[derive(Debug)]
pub struct Pushed<'a> {
    pub mirror: &'a Mirror,
    pub start: &'a Sha,
    pub head: &'a Sha,
    pub start_tree: &'a str,
    pub head_tree: &'a str,
    /// Every path that the run changed, and documents that it rewrote with the same text.
    pub changed: BTreeSet<String>,
}

/// What the gate reads from a run's commits.
#[derive(Debug)]
pub struct Judged {
    pub rows: Vec<NewEvidence>,
    /// Why there is no verdict: the run then counts as failed (RUN-7b).
    pub missing: Option<String>,
    /// Schema faults, for the log and the timeline.
    pub faults: Vec<String>,
}

/// Judges a successful run of its stage's agent. `independent`: its runtime could start no program, as a judge requires
/// (R1).
pub fn run(ctx: &Ctx, task: &Task, run: &Run, pushed: &Pushed<'_>, independent: bool) -> Result<Judged> {
    let changed = &pushed.changed;
    let Some(gate) = verdict::gate_of(run.stage) else {
        return Ok(Judged { rows: Vec::new(), missing: None, faults: Vec::new() });
    };
    let read = changed_files(pushed, task, changed)?;
    let files: Vec<File<'_>> = read.iter().map(|(path, bytes)| File { path, bytes }).collect();
    let unread = unread(pushed, task, run.stage, &files)?;
    let judged = match verdict::judge_stage(run.stage, &task.key, &files, &unread) {
        Some(judged) => judged,
        None => branch_pushed::judged(pushed.head, pushed.head != pushed.start, changed),
    };
    let (verdict, why) = judged.answer(ctx.config.frontmatter.validation_strict);
    let verdict::Judged { findings, faults, .. } = judged;
    let mut rows = Vec::new();
    // A later stage's agent changed code: earlier verdicts stay valid only if it added nothing but new tests (RULE-4).
    if verdict::carries(run.stage, pushed.start_tree != pushed.head_tree) {
        rows.push(NewEvidence {
            subject: Subject::Carry,
            run_id: Some(run.id),
            sha: pushed.head.clone(),
            code_tree: pushed.head_tree.to_owned(),
            verdict: EvidenceVerdict::Pass,
            why: format!("the {} of {} added to the branch", run.stage, task.key),
            detail: EvidenceDetail::Carry(Carry::Agent {
                from: pushed.start_tree.to_owned(),
                stage: run.stage,
                plain: is_plain(pushed)?,
            }),
        });
    }
    let (sha, tree) = if verdict::judges_start(run.stage) {
        (pushed.start, pushed.start_tree)
    } else {
        (pushed.head, pushed.head_tree)
    };
    rows.push(NewEvidence {
        subject: gate.into(),
        run_id: Some(run.id),
        sha: sha.clone(),
        code_tree: tree.to_owned(),
        verdict,
        why: why.clone(),
        detail: EvidenceDetail::Agent { findings, blobs: blobs(pushed, task, &read)?, independent },
    });
    let missing = (verdict == EvidenceVerdict::Missing).then_some(why);
    Ok(Judged { rows, missing, faults })
}

/// Whether all code that a run changed is new test files, none of them a verdict input (RULE-4, BND-5).
fn is_plain(pushed: &Pushed<'_>) -> Result<bool> {
    let code: Vec<_> = pushed.mirror.changes(pushed.start, pushed.head)?;
    let new = code
        .iter()
        .filter(|c| !artefact::is_artefact_path(&c.path))
        .all(|c| c.before.is_none() && is_test_path(&c.path) && c.after.as_ref().is_some_and(is_file));
    Ok(new && inputs::of_range(pushed.mirror, pushed.start, pushed.head)?.is_empty())
}

/// A link or a submodule points to something that existed before.
fn is_file(object: &Object) -> bool {
    matches!(object.kind, EntryKind::File | EntryKind::Executable)
}

/// The exact contents that were judged, by their path in the work item's folder (RULE-3).
fn blobs(pushed: &Pushed<'_>, task: &Task, read: &[(String, Vec<u8>)]) -> Result<BTreeMap<String, Sha>> {
    let folder = artefact::folder(&task.key);
    let mut blobs = BTreeMap::new();
    for (below, _) in read {
        if let Some(id) = pushed.mirror.blob_of(pushed.head, &format!("{folder}/{below}"))? {
            blobs.insert(below.clone(), id);
        }
    }
    Ok(blobs)
}

/// The documents of the stage that are on the branch but that the run did not write as files, with the reason.
fn unread(pushed: &Pushed<'_>, task: &Task, stage: Stage, files: &[File<'_>]) -> Result<Vec<(Artefact, Unread)>> {
    let folder = artefact::folder(&task.key);
    let mut unread = Vec::new();
    for document in Artefact::of_stage(stage).filter(|a| !files.iter().any(|f| f.path == a.as_str())) {
        let path = format!("{folder}/{document}");
        if pushed.mirror.blob_of(pushed.head, &path)?.is_some() {
            unread.push((document, Unread::Stale));
        } else if pushed.mirror.entry(pushed.head, &path)?.is_some() {
            unread.push((document, Unread::NoFile));
        }
    }
    Ok(unread)
}

/// The files of the work item's folder that the run changed, by their path below it. Unchanged ones are stale.
fn changed_files(pushed: &Pushed<'_>, task: &Task, changed: &BTreeSet<String>) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = format!("{}/", artefact::folder(&task.key));
    let mut files = Vec::new();
    for path in changed {
        let Some(below) = path.strip_prefix(&folder) else { continue };
        // A file too large to be read counts as missing.
        if let Ok(Some(bytes)) = pushed.mirror.read_file(pushed.head, path) {
            files.push((below.to_owned(), bytes));
        }
    }
    Ok(files)
}
