//! One write per credential at a time, with a gap after the last (services-github §2). A file's modification time
//! records when the last one went out, for every process of this machine.

use crate::adapters::locks;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Longer than any queue of writes takes.
const TURN: Duration = Duration::from_secs(120);

/// How the writes of one credential are spread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    /// `None`: no gap.
    file: Option<PathBuf>,
    gap: Duration,
}

/// A write's turn; ends when dropped.
#[derive(Debug)]
pub struct Turn {
    file: Option<File>,
}

impl Pace {
    /// `file` represents the credential; its folder is created with access for its owner only. A gap of 0 means no gap.
    pub fn new(file: &Path, gap: Duration) -> Self {
        Self { file: (!gap.is_zero()).then(|| file.to_owned()), gap }
    }

    /// Waits for a write's turn. Fails with `TimedOut` after two minutes.
    pub fn turn(&self) -> io::Result<Turn> {
        let Some(path) = &self.file else { return Ok(Turn { file: None }) };
        if let Some(folder) = path.parent() {
            private(folder)?;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        let new = file.metadata()?.len() == 0;
        let file = locks::within(file, TURN)?
            .ok_or_else(|| io::Error::new(ErrorKind::TimedOut, "other writes of this credential take too long"))?;
        // If the clock was set back, do not wait for long.
        let since = SystemTime::now().duration_since(file.metadata()?.modified()?).unwrap_or(self.gap);
        if !new && since < self.gap {
            std::thread::sleep(self.gap - since);
        }
        Ok(Turn { file: Some(file) })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // A byte marks that there was a write. If the time is lost, the next write only goes out sooner.
            drop(file.set_len(1));
            drop(file.set_modified(SystemTime::now()));
        }
    }
}

/// Makes a folder that only its owner can enter.
pub(super) fn private(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn the_second_write_of_a_credential_goes_out_a_gap_after_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let pace = Pace::new(&folder.path().join("tokens/a"), Duration::from_millis(60));
        let start = Instant::now();
        drop(pace.turn().unwrap());
        assert!(start.elapsed() < Duration::from_millis(60), "the first waits for nobody");
        drop(pace.clone().turn().unwrap());
        assert!(start.elapsed() >= Duration::from_millis(60));
        let other = Pace::new(&folder.path().join("tokens/b"), Duration::ZERO);
        drop(other.turn().unwrap());
        assert!(!folder.path().join("tokens/b").exists());
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("tokens"), mode("tokens/a")), (0o700, 0o600));
    }
}
