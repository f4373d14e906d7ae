//! The lock of a run, `runs/<id>/lock`: the kernel frees it at any death of its supervisor (RULE-20).

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a lock may look taken because somebody looks at it.
const LOOKED_AT: Duration = Duration::from_millis(200);

/// A held lock. Freed by dropping it or by the holder's death; no child inherits it.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// Takes the lock, without waiting for a holder. Fails with `WouldBlock` if another holds it. The file stays for ever:
/// a removed one could be held twice.
pub fn hold(path: &Path) -> io::Result<Held> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Held { _file: file }),
            // Looking takes the lock for an instant; a holder keeps it.
            Err(Errno::WOULDBLOCK) if begun.elapsed() < LOOKED_AT => std::thread::sleep(Duration::from_millis(2)),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether somebody holds the lock, this process included; `None`: can't be told. A lock that was never made is free.
pub fn is_held(path: &Path) -> Option<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Some(false),
        Err(_) => return None,
    };
    loop {
        // Shared: those who look do not see each other.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Some(false),
            Err(Errno::WOULDBLOCK) => return Some(true),
            Err(Errno::INTR) => {}
            Err(_) => return None,
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
    fn looks_do_not_disturb_a_holder_to_be() {
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

    /// In a process of its own, because a child of another test has a copy of the lock between its fork and its start.
    #[test]
    fn a_killed_holder_frees_it() {
        if let Some(path) = std::env::var_os("ORCH_TEST_LOCK") {
            let _held = hold(Path::new(&path)).unwrap();
            // A child has no copy of it.
            let _child = Command::new("true").stdin(Stdio::null()).status().unwrap();
            io::stdout().write_all(b"\nheld\n").unwrap();
            let mut line = String::new();
            io::stdin().read_line(&mut line).unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "adapters::locks::tests::a_killed_holder_frees_it", "--nocapture"])
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
