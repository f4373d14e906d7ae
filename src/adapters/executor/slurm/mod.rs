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
/// One sentence: it can't be created or written, or others may write to it.
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
    if !meta.is_dir() {
        return Err(format!("slurm.work_dir {} is no folder; {way_out}", work_dir.display()));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(format!(
            "slurm.work_dir {} belongs to another account, or others may write it; {way_out}",
            work_dir.display()
        ));
    }
    if passed && meta.mode() & 0o001 == 0 {
        std::fs::set_permissions(work_dir, std::fs::Permissions::from_mode(0o711)).map_err(fault)?;
    }
    // Mounted read-only, full, or gone from the server: what fails later would count as the run's own failure.
    tempfile::Builder::new().prefix(".orch-").tempfile_in(work_dir).map_err(fault)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clu_1_a_work_dir_that_cannot_be_used_is_refused_with_the_way_out() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made");
        make_ready(&made, false).unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        make_ready(&made, true).unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o7777, 0o711);
        assert_eq!(std::fs::read_dir(&made).unwrap().count(), 0, "the try leaves nothing");
        let (file, open) = (dir.path().join("file"), dir.path().join("open"));
        std::fs::write(&file, "").unwrap();
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        for (path, named) in [
            (file.clone(), "is no folder"),
            (file.join("below"), "Not a directory"),
            (open, "others may write"),
            (dir.path().join("not/mounted"), "No such file"),
            // Nothing can be created there, whoever asks.
            (PathBuf::from("/proc/self/fdinfo"), "slurm.work_dir"),
        ] {
            let why = make_ready(&path, false).unwrap_err();
            assert!(why.contains(named) && why.contains("name a folder of this account"), "{}: {why}", path.display());
        }
    }
}
