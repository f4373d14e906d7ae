//! The history of a large repository, for runs to read (BND-3). Above `worktree.copy_max_mb`, a checkout copies only
//! what the default branch does not reach. The rest is in a separate store with only what that branch reaches. Only
//! `orch` writes to it, and a run's engine mounts it read-only. The mirror itself stays hidden.

use super::cmd::{GitError, Result};
use super::files;
use super::lock::MirrorLock;
use super::mirror::Mirror;
use crate::model::ids::Sha;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a checkout waits for another one that is filling the store.
const LOCK_WAIT: Duration = Duration::from_secs(660);
/// After this many additions the store is recreated as one pack.
const MOST_PACKS: u64 = 50;
/// How long a replaced store is kept for the runs that read it.
const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// An existing store, and how far it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Its folder of objects.
    pub objects: PathBuf,
    /// It contains every object that this commit reaches.
    pub tip: Sha,
}

/// Which store is in use. Recorded next to the mirror, where no run can write.
#[derive(Debug, Serialize, Deserialize)]
struct Current {
    name: String,
    tip: Sha,
    packs: u64,
}

impl Mirror {
    /// Size of its packed objects in bytes; a checkout copies or shares them.
    pub fn packed_bytes(&self) -> Result<u64> {
        let dir = self.path().join("objects/pack");
        let io = || GitError::io(format!("reading {}", dir.display()));
        let mut bytes = 0_u64;
        for entry in std::fs::read_dir(&dir).map_err(io())? {
            // A pack that was replaced meanwhile is gone.
            bytes = bytes.saturating_add(entry.map_err(io())?.metadata().map_or(0, |data| data.len()));
        }
        Ok(bytes)
    }

    /// The store below `root` with everything that `tip` reaches, created or brought up to date. `tip`: the default
    /// branch. Fails with `Rejected` if git can't read its path.
    pub fn shared(&self, root: &Path, tip: &Sha) -> Result<Shared> {
        let mut record = self.path().as_os_str().to_owned();
        record.push(".history");
        let record = PathBuf::from(record);
        let mut lock = record.clone().into_os_string();
        lock.push(".lock");
        let _lock = MirrorLock::take(Path::new(&lock), LOCK_WAIT)?;
        let known: Option<Current> = std::fs::read(&record).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let known = known.filter(|c| c.packs < MOST_PACKS && root.join(&c.name).join("objects/pack").is_dir());
        let now = match known {
            Some(c) if c.tip == *tip => c,
            Some(c) if self.exists(&c.tip)? && self.is_ancestor(&c.tip, tip)? => {
                self.pack(&root.join(&c.name), tip, Some(&c.tip))?;
                Current { tip: tip.clone(), packs: c.packs + 1, ..c }
            }
            // A rewritten default branch reaches less: nothing else of the old one may stay.
            Some(_) | None => self.begun(root, tip)?,
        };
        let text = serde_json::to_vec(&now).unwrap_or_default();
        files::fresh_file(&record, &text).map_err(GitError::io(format!("writing {}", record.display())))?;
        let objects = root.join(&now.name).join("objects");
        let objects = std::fs::canonicalize(&objects).map_err(GitError::io(objects.display()))?;
        if objects.to_str().is_none_or(|t| t.contains(['\n', '"'])) {
            let reason = format!("{} can't be named in objects/info/alternates", objects.display());
            return Err(GitError::Rejected { reason });
        }
        Ok(Shared { objects, tip: now.tip })
    }

    /// Creates a new store, and deletes those that nobody reads any more.
    fn begun(&self, root: &Path, tip: &Sha) -> Result<Current> {
        let io = || GitError::io(format!("making the history in {}", root.display()));
        let stamp = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let name = format!("{}-{stamp}", tip.short());
        retire(root).map_err(io())?;
        let dir = root.join(&name);
        for folder in ["objects/pack", "objects/info"] {
            std::fs::create_dir_all(dir.join(folder)).map_err(io())?;
        }
        for folder in [root, &dir, &dir.join("objects"), &dir.join("objects/pack"), &dir.join("objects/info")] {
            open(folder).map_err(io())?;
        }
        self.pack(&dir, tip, None)?;
        Ok(Current { name, tip: tip.clone(), packs: 1 })
    }

    fn pack(&self, store: &Path, tip: &Sha, less: Option<&Sha>) -> Result<()> {
        let less = less.map(|sha| format!("^{sha}\n")).unwrap_or_default();
        self.cmd()
            .public()
            // The mirror's own files are private to its account.
            .config("core.sharedRepository=false")
            .config("pack.window=0")
            .args(["pack-objects", "-q", "--revs", "--delta-base-offset"])
            .arg(store.join("objects/pack/pack"))
            .stdin(format!("{tip}\n{less}"))
            .ok()
            .map(drop)
    }
}

/// Marks the stores below `root` as replaced, and deletes those replaced so long ago that no run reads them.
fn retire(root: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root).into_iter().flatten().filter_map(std::result::Result::ok) {
        let mark = entry.path().join("replaced");
        match mark.symlink_metadata().and_then(|data| data.modified()) {
            Err(_) => files::fresh_file(&mark, b"")?,
            Ok(at) if at.elapsed().is_ok_and(|age| age > KEPT) => {
                files::remove(&entry.path()).map_err(std::io::Error::other)?;
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Makes it readable for every account, whatever the umask.
fn open(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}
