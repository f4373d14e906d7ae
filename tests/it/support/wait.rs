//! Waits for what other processes do: woken by a change in a folder, with a bound after which the test fails.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than any wait here takes, even on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(90);
/// For what changes in no watched folder, such as the end of a process.
const ELSEWHERE: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Changes in folders.
pub struct Watch(OwnedFd);

impl Watch {
    /// Those of the folders that exist.
    pub fn of(folders: &[&Path]) -> Self {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let what = WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::MODIFY | WatchFlags::MOVED_TO;
        for folder in folders {
            let _ = inotify::add_watch(&fd, *folder, what | WatchFlags::DELETE);
        }
        Self(fd)
    }

    /// Until the next change, or a moment without one.
    pub fn next(&self) {
        // What the caller itself has just changed is nothing new.
        while rustix::io::read(&self.0, &mut [0_u8; 4096]).is_ok_and(|n| n > 0) {}
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&ELSEWHERE));
    }
}

/// Looks until there is something, at each change in one of the folders. `story`: what to say when it never comes.
#[track_caller]
pub fn until<T>(
    what: &str,
    folders: &[&Path],
    mut look: impl FnMut() -> Option<T>,
    story: impl FnOnce() -> String,
) -> T {
    let begun = Instant::now();
    let watch = Watch::of(folders);
    loop {
        if let Some(found) = look() {
            return found;
        }
        if begun.elapsed() > TIMEOUT {
            panic!("{what} did not come in {} s; {}", TIMEOUT.as_secs(), story());
        }
        watch.next();
    }
}
