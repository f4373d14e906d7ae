//! The files that a reviewer gets, since it runs no program (R1): the change, the list of its files, and CI's output.
//! They are in the run's temporary folder, which a confined run can read.

use super::Ctx;
use super::run_files::tail;
use super::site::Site;
use crate::adapters::git::DiffForm;
use crate::model::gate::Gate;
use crate::model::ids::Sha;
use crate::model::stage::Agent;
use crate::render::prompt::PromptFile;
use anyhow::{Context, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// How much of the end of CI's output is handed over.
const LOG_BYTES: usize = 1 << 20;
/// A larger change is truncated, with a note.
const DIFF_BYTES: usize = 32 << 20;

/// Writes the files of a judge's run and names them for its prompt; does nothing for other agents. The temporary folder
/// must be new.
pub(super) fn over(ctx: &mut Ctx, site: &Site, start: &Sha) -> Result<Vec<PromptFile>> {
    let Some(base) = site.ground.task.base_sha.clone().filter(|_| site.agent == Agent::Reviewer) else {
        return Ok(Vec::new());
    };
    let dir = site.folders.tmp.join("judged");
    std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("setting the mode of {}", dir.display()))?;
    let mirror = &site.ground.mirror;
    let mut patch = mirror.diff_text(&base, start, DiffForm::Patch)?;
    if patch.len() > DIFF_BYTES {
        let whole = patch.len();
        patch.truncate(DIFF_BYTES);
        patch.extend_from_slice(
            format!("\n[cut after {DIFF_BYTES} of {whole} bytes: read the files themselves]\n").as_bytes(),
        );
    }
    let stat = mirror.diff_text(&base, start, DiffForm::Stat)?;
    let mut files = vec![
        put(&dir, "change.diff", &patch, "the whole change between base and branch")?,
        put(&dir, "files.txt", &stat, "the files it touches, with their sizes")?,
    ];
    if let Some(log) = ci_log(ctx, site)? {
        files.push(put(
            &dir,
            "ci.log",
            log.as_bytes(),
            "what CI printed on the commit that is checked out; the branch's own code wrote it",
        )?);
    }
    Ok(files)
}

fn put(dir: &Path, name: &str, bytes: &[u8], what: &'static str) -> Result<PromptFile> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    // The run may have another account, which must be able to read it (BND-3).
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
        .with_context(|| format!("setting the mode of {}", path.display()))?;
    Ok(PromptFile { path: path.display().to_string(), what })
}

/// What is known about CI on the head's code: the end of the command's output, or what the gate recorded of a forge's
/// statuses.
fn ci_log(ctx: &mut Ctx, site: &Site) -> Result<Option<String>> {
    let task = &site.ground.task;
    let rows = ctx.store.read(|tx| tx.evidence_of(task.id))?;
    let of_head = |e: &&crate::model::task::Evidence| {
        e.subject == Gate::CiGreen && Some(e.code_tree.as_str()) == task.head_tree.as_deref()
    };
    let Some(row) = rows.iter().rfind(of_head) else { return Ok(None) };
    let log = row.run_id.map(|run| ctx.paths.run(run).join("ci.log"));
    let text = log.map(|path| tail(&path, LOG_BYTES)).filter(|text| !text.trim().is_empty());
    Ok(Some(format!("{}: {}\n\n{}", row.verdict, row.why, text.unwrap_or_default())))
}
