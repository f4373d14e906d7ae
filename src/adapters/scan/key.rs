//! The key under which secrets are fingerprinted (SHIP-1).

use anyhow::Context;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Path of the state directory's key.
pub fn key_file(state_dir: &Path) -> PathBuf {
    state_dir.join("fingerprint.key")
}

/// The key of the fingerprints, from a file that is created if missing. Of two processes that create it at once one
/// wins, and both use its key.
pub fn keep_key(file: &Path) -> anyhow::Result<Vec<u8>> {
    let read = || std::fs::read(file).with_context(|| file.display().to_string());
    if !file.exists() {
        let mut key = [0_u8; 32];
        rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty()).context("no random bytes")?;
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        }
        // Written whole under another name and linked: of two scans at once one key wins, and both use it.
        let own = file.with_extension(format!("{}.tmp", std::process::id()));
        let mut made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&own)
            .with_context(|| own.display().to_string())?;
        made.write_all(&key).and_then(|()| made.sync_all()).with_context(|| own.display().to_string())?;
        let _ = std::fs::hard_link(&own, file);
        let _ = std::fs::remove_file(&own);
    }
    let key = read()?;
    anyhow::ensure!(key.len() >= 16, "{} contains no key (at least 16 bytes expected)", file.display());
    Ok(key)
}
