//! Agents and the branch's code as Slurm jobs (CLU-1 to CLU-5): srun is started here, and `confine-exec` on the node
//! confines the run. State, steps and supervisors stay on this machine.

mod client;
mod fate;
mod frames;
mod ledger;
mod line;
mod link;
mod node;
mod program;
mod queue;

pub use fate::never_starts;
pub use ledger::{Ledger, Phase, ask_to_end};
pub use line::{Resources, mark_of_srun};
pub use node::{is_node, serve};
pub use program::{place, prune};
pub use queue::{Row, Setting, cancel, list, nodes, settings};

use std::path::{Path, PathBuf};

/// One run's place in Slurm: runs its commands there.
#[derive(Debug, Clone)]
pub struct Job {
    /// `orch-<installation>-run-<run id>`: a mutex, since jobs of one name run one after the other (RULE-10).
    pub name: String,
    pub resources: Resources,
    /// On this machine and on every node.
    pub work_dir: PathBuf,
    /// Where nodes keep their engines' answers.
    pub answers: PathBuf,
    /// The run's folder in the state directory, with the ledger.
    pub dir: PathBuf,
    /// The file that remembers the hash of this program.
    pub known: PathBuf,
    /// This program.
    pub program: PathBuf,
    pub settle_s: u64,
    pub silence_s: u64,
}

/// Creates `work_dir` if it is missing, closed to others or open for the account of a run to pass; and its subfolders.
///
/// # Errors
/// One sentence: it can't be created, or others may write to it.
pub fn make_ready(work_dir: &Path, passed: bool) -> Result<(), String> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    let way_out = "name a folder of this account in slurm.work_dir that every node sees";
    let fault = |e: std::io::Error| format!("slurm.work_dir {}: {e}; {way_out}", work_dir.display());
    let mode = if passed { 0o711 } else { 0o700 };
    if !work_dir.exists() {
        // Not its parents: a file system that is not mounted is not shared.
        std::fs::DirBuilder::new().mode(mode).create(work_dir).map_err(fault)?;
    }
    let meta = work_dir.metadata().map_err(fault)?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(format!(
            "slurm.work_dir {} belongs to another account, or others may write it; {way_out}",
            work_dir.display()
        ));
    }
    if passed && meta.mode() & 0o001 == 0 {
        std::fs::set_permissions(work_dir, std::fs::Permissions::from_mode(0o711)).map_err(fault)?;
    }
    Ok(())
}
