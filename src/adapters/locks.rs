//! File locks: a bounded wait for one, and the lock of a run, `runs/<id>/lock`, which the kernel frees whenever its
//! supervisor dies (RULE-20).

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// How long a lock may seem taken only because somebody is checking it.
const CHECKED: Duration = Duration::from_millis(200);

/// A held lock. Freed when dropped or when the holder dies; no child inherits it.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// Takes the exclusive lock of `file`, waiting at most `bound` for its holder; `None` at the bound. Fails if the file
/// can't be locked at all.
pub fn within(file: File, bound: Duration) -> io::Result<Option<File>> {
    match lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => {}
        Err(e) => return Err(e.into()),
    }
    // The kernel has no timeout for this wait, so a thread waits. A lock that arrives too late is dropped with its
    // message.
    let (sender, taken_lock) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("lock".into()).spawn(move || {
        let taken = lock(&file, FlockOperation::LockExclusive);
        drop(sender.send(taken.map(|()| file)));
    })?;
    match taken_lock.recv_timeout(bound) {
        Ok(taken) => Ok(Some(taken?)),
        Err(_) => Ok(None),
    }
}

/// Takes the lock without waiting for a holder. Fails with `WouldBlock` if another process holds it. The file is never
/// deleted: a deleted one could be locked twice.
pub fn hold(path: &Path) -> io::Result<Held> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    // A check takes the lock for an instant; a holder keeps it.
    within(file, CHECKED)?.map(|file| Held { _file: file }).ok_or_else(|| ErrorKind::WouldBlock.into())
}

/// Whether somebody holds the lock, this process included. `None`: unknown. A lock that was never made is free.
pub fn is_held(path: &Path) -> Option<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Some(false),
        Err(_) => return None,
    };
    // Shared, so that checks do not see each other.
    match lock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Some(false),
        Err(Errno::WOULDBLOCK) => Some(true),
        Err(_) => None,
    }
}

/// flock(2), retried after a signal.
fn lock(file: &File, operation: FlockOperation) -> rustix::io::Result<()> {
    loop {
        match flock(file, operation) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn one_holds_it_and_the_others_see_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(is_held(&path), Some(false));
        let held = hold(&path).unwrap();
        assert_eq!(is_held(&path), Some(true));
        assert_eq!(hold(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        assert_eq!(is_held(&path.join("x")), None, "can't be told");
        hold(&path).unwrap();
    }

    #[test]
    fn checks_do_not_disturb_a_holder_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(is_held(&path).is_some());
                }
            });
            for _ in 0..200 {
                hold(&path).unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    /// In a process of its own, because a child of another test has a copy of the lock between its fork and its exec.
    #[test]
    fn rule_20_a_killed_holder_frees_its_lock() {
        if let Some(path) = std::env::var_os("ORCH_TEST_LOCK") {
            let _held = hold(Path::new(&path)).unwrap();
            // A child does not inherit it.
            let _child = Command::new("true").stdin(Stdio::null()).status().unwrap();
            io::stdout().write_all(b"\nheld\n").unwrap();
            let mut line = String::new();
            io::stdin().read_line(&mut line).unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "adapters::locks::tests::rule_20_a_killed_holder_frees_its_lock", "--nocapture"])
            .env("ORCH_TEST_LOCK", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(holder.stdout.take().unwrap());
        assert!(said.lines().map_while(Result::ok).any(|line| line == "held"));
        assert_eq!(is_held(&path), Some(true));
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(is_held(&path), Some(false));
    }
}
