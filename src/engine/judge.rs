//! Reads what a run's pushed commits say and makes evidence rows of it (RULE-3, PIPE-4): the file must have changed in
//! the run's own commits, and the commit judged is the one the run began from.

use super::{Ctx, inputs};
use crate::adapters::git::{EntryKind, Mirror, Object};
use crate::adapters::store::NewEvidence;
use crate::decide::definitions::is_test_path;
use crate::decide::gates::verdict::{self, File, Reading, Verdict};
use crate::model::artefact;
use crate::model::decision::{CARRY, Gate};
use crate::model::ids::Sha;
use crate::model::stage::Stage;
use crate::model::task::{EvidenceVerdict, Run, Task};
use anyhow::Result;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The commits of one run, pushed.
#[derive(Debug)]
pub struct Pushed<'a> {
    pub mirror: &'a Mirror,
    pub start: &'a Sha,
    pub head: &'a Sha,
    pub start_tree: &'a str,
    pub head_tree: &'a str,
    /// Every path that the run changed, and documents that it wrote again with the very words that were there.
    pub changed: BTreeSet<String>,
}

/// What the gate reads of a run's commits.
#[derive(Debug)]
pub struct Judged {
    pub rows: Vec<NewEvidence>,
    /// Why there is no verdict: the run then counts as one that failed (RUN-7b).
    pub missing: Option<String>,
    /// Schema faults, for the log and the timeline.
    pub faults: Vec<String>,
}

/// Judges a run of its stage's agent that ended well. `independent`: its runtime could start no program, as a judge's must (R1).
pub fn run(ctx: &Ctx, task: &Task, run: &Run, pushed: &Pushed<'_>, independent: bool) -> Result<Judged> {
    let changed = &pushed.changed;
    let gate = match run.stage {
        Stage::Development => Gate::BranchPushed,
        Stage::Analysis => Gate::AnalysisComplete,
        Stage::Architecture => Gate::ArchitectureDone,
        Stage::Review => Gate::ReviewVerdict,
        Stage::Testing => Gate::TestsVerdict,
        Stage::DeployStaging => Gate::StagingStatus,
        Stage::Created | Stage::Deploy | Stage::Done | Stage::Cancelled => {
            return Ok(Judged { rows: Vec::new(), missing: None, faults: Vec::new() });
        }
    };
    let read = changed_files(pushed, task, changed)?;
    let files: Vec<File<'_>> = read.iter().map(|(path, bytes)| File { path, bytes }).collect();
    let (reading, findings, faults) = match verdict::judge_stage(run.stage, &task.key, &files) {
        Some(judged) => (judged.reading, judged.findings, judged.faults),
        None => (developed(pushed, changed), Vec::new(), Vec::new()),
    };
    let strict = ctx.config.frontmatter.validation_strict && !faults.is_empty();
    let (verdict, why) = if strict {
        (EvidenceVerdict::Missing, format!("front matter: {}", faults.join("; ")))
    } else {
        (reading.evidence(), stale_said(pushed, task, &reading.why)?)
    };
    let mut rows = Vec::new();
    // A later stage's agent changed code: what was judged before holds for new tests that decide nothing else (RULE-4).
    if pushed.start_tree != pushed.head_tree && run.stage > Stage::Development {
        rows.push(NewEvidence {
            gate: CARRY,
            run_id: Some(run.id),
            sha: pushed.head.clone(),
            code_tree: pushed.head_tree.to_owned(),
            verdict: EvidenceVerdict::Pass,
            why: format!("the {} of {} added to the branch", run.stage, task.key),
            detail: json!({"from": pushed.start_tree, "by": run.stage, "plain": is_plain(pushed)?}),
        });
    }
    // A judge judges the commit it began from (RULE-3); the developer's evidence is of what was pushed.
    let judged_start = matches!(run.stage, Stage::Review | Stage::Testing | Stage::DeployStaging);
    let (sha, tree) = if judged_start { (pushed.start, pushed.start_tree) } else { (pushed.head, pushed.head_tree) };
    rows.push(NewEvidence {
        gate: gate.as_str(),
        run_id: Some(run.id),
        sha: sha.clone(),
        code_tree: tree.to_owned(),
        verdict,
        why: why.clone(),
        detail: json!({"findings": findings, "blobs": blobs(pushed, task, &read)?, "independent": independent}),
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

/// A link or a submodule stands for what was there before.
fn is_file(object: &Object) -> bool {
    matches!(object.kind, EntryKind::File | EntryKind::Executable)
}

/// The very contents that were judged, by their path in the work item's folder (RULE-3).
fn blobs(pushed: &Pushed<'_>, task: &Task, read: &[(String, Vec<u8>)]) -> Result<BTreeMap<String, String>> {
    let folder = artefact::folder(&task.key);
    let mut blobs = BTreeMap::new();
    for (below, _) in read {
        if let Some(id) = pushed.mirror.blob_of(pushed.head, &format!("{folder}/{below}"))? {
            blobs.insert(below.clone(), id.to_string());
        }
    }
    Ok(blobs)
}

/// A commit of this attempt that changes something outside `docs/work-items/`.
fn developed(pushed: &Pushed<'_>, changed: &BTreeSet<String>) -> Reading {
    let code = changed.iter().filter(|p| !p.starts_with("docs/work-items/")).count();
    if pushed.head == pushed.start || code == 0 {
        let why = "nothing outside docs/work-items/ was changed".to_owned();
        return Reading { verdict: Verdict::None(why.clone()), why };
    }
    let files = if code == 1 { "file" } else { "files" };
    Reading { verdict: Verdict::Pass, why: format!("{} pushed, {code} {files} of code changed", pushed.head.short()) }
}

/// A file that stands on the branch but is not this run's is named for what it is: stale (PIPE-4).
fn stale_said(pushed: &Pushed<'_>, task: &Task, why: &str) -> Result<String> {
    let folder = artefact::folder(&task.key);
    let mut said = Vec::new();
    for part in why.split("; ") {
        let path = part.strip_suffix(": missing").map(|name| format!("{folder}/{name}"));
        match path {
            Some(path) if pushed.mirror.blob_of(pushed.head, &path)?.is_some() => {
                said.push(format!("{path} is from an earlier attempt: it was not written in this run"));
            }
            Some(path) if pushed.mirror.entry(pushed.head, &path)?.is_some() => {
                said.push(format!("{path} is no regular file, and one is expected there"));
            }
            Some(_) | None => said.push(part.to_owned()),
        }
    }
    Ok(said.join("; "))
}

/// The files of the work item's folder that the run changed, by their path below it: what it left alone is stale.
fn changed_files(pushed: &Pushed<'_>, task: &Task, changed: &BTreeSet<String>) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = format!("{}/", artefact::folder(&task.key));
    let mut files = Vec::new();
    for path in changed {
        let Some(below) = path.strip_prefix(&folder) else { continue };
        // A file too large to be read is as good as none.
        if let Ok(Some(bytes)) = pushed.mirror.read_file(pushed.head, path) {
            files.push((below.to_owned(), bytes));
        }
    }
    Ok(files)
}
