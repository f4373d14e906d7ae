//! What a person approved: the exact contents of the analyst's documents (BND-5). Later prompts and `show` read those,
//! whatever the branch contains by then.

use crate::adapters::git::{MAX_FILE, Mirror, TreeEntry};
use crate::adapters::store::{NewEvidence, Result as StoreResult, Tx};
use crate::decide::gates::approved_blobs;
use crate::model::artefact::{Artefact, folder};
use crate::model::evidence::{EvidenceDetail, EvidenceVerdict};
use crate::model::gate::{Gate, Subject};
use crate::model::ids::{Key, Sha};
use crate::model::task::{Evidence, Task};
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// Records the approved contents: those that the gate judged before the person was asked.
pub fn record(tx: &Tx<'_>, task: &Task, at: i64) -> StoreResult<()> {
    let rows = tx.evidence_of(task.id)?;
    let complete = |e: &&Evidence| e.subject == Gate::AnalysisComplete && e.verdict == EvidenceVerdict::Pass;
    let Some(judged) = rows.iter().rfind(complete) else { return Ok(()) };
    let blobs = if let EvidenceDetail::Agent { blobs, .. } = &judged.detail { blobs.clone() } else { BTreeMap::new() };
    let row = NewEvidence {
        subject: Subject::Approved,
        run_id: judged.run_id,
        sha: judged.sha.clone(),
        code_tree: judged.code_tree.clone(),
        verdict: EvidenceVerdict::Pass,
        why: "the documents of the analysis are approved as they are".to_owned(),
        detail: EvidenceDetail::Approved { blobs },
    };
    tx.add_evidence(task, &row, at).map(drop)
}

/// The row that records that somebody else changed approved documents; `None`: nobody did. A deleted document does not
/// count as changed.
pub fn changed(mirror: &Mirror, rows: &[Evidence], task: &Task, head: &Sha, tree: &str) -> Result<Option<NewEvidence>> {
    let blobs = approved_blobs(rows);
    let mut changed = Vec::new();
    for (name, id) in &blobs {
        let now = mirror.blob_of(head, &format!("{}/{name}", folder(&task.key)))?;
        if now.is_some_and(|now| now != *id) {
            changed.push(name.as_str());
        }
    }
    if changed.is_empty() {
        return Ok(None);
    }
    Ok(Some(NewEvidence {
        subject: Subject::Approved,
        run_id: None,
        sha: head.clone(),
        code_tree: tree.to_owned(),
        verdict: EvidenceVerdict::Missing,
        why: format!("the approval is stale: {} changed since, on {}", changed.join(", "), head.short()),
        detail: EvidenceDetail::Approved { blobs },
    }))
}

/// A document of a work item: its path below the folder, the content's id, the text.
pub struct Document {
    pub name: String,
    pub id: Sha,
    pub text: String,
}

/// The work item's documents at a commit, approved ones with their approved contents. Leaves out links, files over 1
/// MiB and anything that is not a document.
pub fn documents(mirror: &Mirror, rows: &[Evidence], key: &Key, head: &Sha) -> Result<Vec<Document>> {
    let folder = folder(key);
    let listed = mirror.list_sized(head, std::slice::from_ref(&folder));
    let listed = listed.with_context(|| format!("the documents of {key} at {}", head.short()))?;
    let below = |e: &TreeEntry| e.text().strip_prefix(&format!("{folder}/")).map(str::to_owned);
    let readable = |e: &&TreeEntry| e.is_file() && e.size.is_some_and(|size| size <= MAX_FILE as u64);
    let mut found: BTreeMap<String, Sha> =
        listed.iter().filter(readable).filter_map(|e| Some((below(e)?, e.id.clone()))).collect();
    found.retain(|name, _| Artefact::of(name).is_some());
    found.extend(approved_blobs(rows));
    let texts = mirror.contents(found.values()).with_context(|| format!("the documents of {key}"))?;
    let document = |((name, id), bytes): ((String, Sha), Vec<u8>)| Document {
        name,
        id,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    };
    Ok(found.into_iter().zip(texts).map(document).collect())
}
