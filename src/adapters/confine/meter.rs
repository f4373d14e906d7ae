//! Resource use of a run, measured by its supervisor (BND-2): the kernel's own limits count per process or per account.

use super::Run;
use crate::model::confine::Limits;
use crate::model::task::Actor;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Most entries that one scan of the folders covers; the next one continues from there.
const ENTRIES: usize = 20_000;

/// Measures one run.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    folders: [PathBuf; 3],
    page: u64,
    walk: Walk,
}

/// A walk through the folders, spread over as many scans as it needs.
#[derive(Debug, Default)]
struct Walk {
    open: Vec<PathBuf>,
    files: u64,
    bytes: u64,
}

impl Meter {
    pub fn new(run: &Run) -> Self {
        Self {
            limits: run.policy.limits,
            folders: [run.checkout.clone(), run.home.clone(), run.tmp.clone()],
            page: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
            walk: Walk::default(),
        }
    }

    /// The limit that the run exceeds, and by how much, in one sentence. `processes`: the living ones.
    pub fn over(&mut self, processes: &[Actor]) -> Option<String> {
        let count = processes.len() as u64;
        if count > self.limits.processes {
            return Some(format!("it had {count} processes; confine.processes is {}", self.limits.processes));
        }
        self.memory(processes).or_else(|| self.folders())
    }

    fn memory(&self, processes: &[Actor]) -> Option<String> {
        let most = self.limits.memory_mb;
        let own = |actor: &Actor| {
            let text = std::fs::read_to_string(format!("/proc/{}/statm", actor.pid)).ok()?;
            Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * self.page / 1024)
        };
        let resident: u64 = processes.iter().filter_map(own).sum();
        if resident / 1024 <= most {
            return None;
        }
        // Shared pages were counted once per process. The exact number costs more, so it is read only now.
        let shared = |actor: &Actor| {
            let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", actor.pid)).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).or_else(|| own(actor))
        };
        let used = processes.iter().filter_map(shared).sum::<u64>() / 1024;
        (used > most).then(|| format!("it used {used} MiB of memory; confine.memory_mb is {most}"))
    }

    fn folders(&mut self) -> Option<String> {
        if self.walk.open.is_empty() {
            self.walk = Walk { open: self.folders.to_vec(), ..Walk::default() };
        }
        let mut seen = 0;
        while let Some(dir) = self.walk.open.pop() {
            let entries = match std::fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::InvalidFilename => {
                    return Some("its folders are deeper than can be measured".to_owned());
                }
                // Deleted meanwhile, or not readable for us.
                Err(_) => continue,
            };
            for entry in entries.flatten() {
                seen += 1;
                self.walk.files += 1;
                let Ok(data) = entry.path().symlink_metadata() else { continue };
                // A file with several names counts once, split over its names.
                self.walk.bytes += data.blocks() * 512 / if data.is_dir() { 1 } else { data.nlink().max(1) };
                if data.is_dir() {
                    self.walk.open.push(entry.path());
                }
                if self.walk.files > self.limits.files {
                    break;
                }
            }
            let (files, disk) = (self.walk.files, self.walk.bytes >> 20);
            if files > self.limits.files {
                return Some(format!(
                    "its folders contain more than {} files; confine.files is that",
                    self.limits.files
                ));
            }
            if disk > self.limits.disk_mb {
                return Some(format!("its folders contain {disk} MiB; confine.disk_mb is {}", self.limits.disk_mb));
            }
            if seen >= ENTRIES {
                break;
            }
        }
        None
    }
}
