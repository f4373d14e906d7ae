//! Processes of this machine, as tests find and end them.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;
use std::time::Duration;

/// All but this one.
pub fn pids() -> impl Iterator<Item = i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(move |pid| *pid != own)
}

/// A file of a process; empty: it is gone.
pub fn read(pid: i32, file: &str) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

pub fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|w| w == needle.as_bytes())
}

/// Whether a file of a process contains a text.
pub fn holds(pid: i32, file: &str, text: &str) -> bool {
    contains(&read(pid, file), text)
}

/// Whether a word of its command line is this one.
pub fn says(pid: i32, word: &str) -> bool {
    read(pid, "cmdline").split(|b| *b == 0).any(|w| w == word.as_bytes())
}

pub fn parent(pid: i32) -> Option<i32> {
    let stat = String::from_utf8(read(pid, "stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The processes `steps` levels below one.
pub fn below(pid: i32, steps: usize) -> Vec<i32> {
    (0..steps).fold(vec![pid], |tops, _| pids().filter(|p| parent(*p).is_some_and(|of| tops.contains(&of))).collect())
}

/// Those with a folder on their command line or in their environment.
pub fn of(folder: &Path) -> Vec<i32> {
    let folder = folder.to_str().unwrap();
    pids().filter(|pid| holds(*pid, "cmdline", folder) || holds(*pid, "environ", folder)).collect()
}

pub fn signal(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

pub fn kill(pid: i32) {
    signal(pid, rustix::process::Signal::KILL);
}

/// Ends them all, with what they start meanwhile: none outlives its test.
pub fn end(mut alive: impl FnMut() -> Vec<i32>) {
    for _ in 0..100 {
        let left = alive();
        if left.is_empty() {
            break;
        }
        left.into_iter().for_each(kill);
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
