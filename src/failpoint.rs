//! Numbered kill points and a shifted clock for the crash tests (TRUST-2). Without the feature `failpoints`, that is in
//! every release, nothing of it exists but calls that do nothing.
//!
//! `ORCH_FAILPOINT_COUNT=FILE`: all processes of a world number their points together; each point is a line of FILE.
//! `ORCH_FAILPOINT_KILL=N`: the process that reaches point N is killed there by SIGKILL; `N+K`: so is each that reaches a
//! K-th point after it; with a name in place of N, each that reaches a point of that name.
//! `ORCH_FAILPOINT_BOOT=ID`, `ORCH_FAILPOINT_WALL_MS=N`, `ORCH_FAILPOINT_MONO_MS=N`: another boot id, clocks that much off.
//! `ORCH_FAILPOINT_RATE=N`, `ORCH_FAILPOINT_SINCE_MS=T`: since the boot time T both clocks run N times as fast, in every
//! process alike; what a process sleeps or limits for itself stays real time.

#[cfg(feature = "failpoints")]
pub use hooks::{boot_id, point, shift_ms};

/// A point at which a process may be killed.
#[cfg(not(feature = "failpoints"))]
pub fn point(_name: &str) {}

/// The boot id to report in place of the kernel's.
#[cfg(not(feature = "failpoints"))]
pub fn boot_id() -> Option<String> {
    None
}

/// How far wall and boot time are shifted, in milliseconds.
#[cfg(not(feature = "failpoints"))]
pub fn shift_ms() -> (i64, i64) {
    (0, 0)
}

#[cfg(feature = "failpoints")]
mod hooks {
    use nix::time::{ClockId, clock_gettime};
    use rustix::fs::{FlockOperation, flock};
    use rustix::process::{Signal, getpid, kill_process};
    use std::fs::OpenOptions;
    use std::io::{Read, Seek, Write};

    /// Counts the point, and dies there if it is the requested one. If the file can't be used, the point is not
    /// counted.
    pub fn point(name: &str) {
        let Some(path) = std::env::var_os("ORCH_FAILPOINT_COUNT") else { return };
        let number = count(std::path::Path::new(&path), name).unwrap_or(0);
        let asked = std::env::var("ORCH_FAILPOINT_KILL").unwrap_or_default();
        if asked == name || (number > 0 && is_due(&asked, number)) {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }

    /// Whether a process dies at this number, for `N` or `N+K`.
    fn is_due(asked: &str, number: u64) -> bool {
        let (first, every) = asked.split_once('+').unwrap_or((asked, ""));
        let Ok(first) = first.parse::<u64>() else { return false };
        match every.parse::<u64>() {
            Ok(every) if every > 0 => number >= first && (number - first).is_multiple_of(every),
            _ => number == first,
        }
    }

    fn count(path: &std::path::Path, name: &str) -> std::io::Result<u64> {
        let mut lines = OpenOptions::new().create(true).append(true).open(path)?;
        flock(&lines, FlockOperation::LockExclusive)?;
        let counter = path.with_extension("number");
        let mut number = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(counter)?;
        let mut text = String::new();
        number.read_to_string(&mut text)?;
        let next = text.trim().parse::<u64>().unwrap_or(0) + 1;
        number.rewind()?;
        write!(number, "{next}")?;
        let step =
            std::env::args().find(|a| a.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !a.starts_with('-'));
        writeln!(lines, "{next} {name} {} {}", getpid().as_raw_nonzero(), step.unwrap_or_default())?;
        Ok(next)
    }

    pub fn boot_id() -> Option<String> {
        std::env::var("ORCH_FAILPOINT_BOOT").ok().filter(|id| !id.is_empty())
    }

    pub fn shift_ms() -> (i64, i64) {
        let of = |name| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(0_i64);
        let faster = of("ORCH_FAILPOINT_RATE").saturating_sub(1).max(0);
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
        let now = now.map_or(0, |t| t.tv_sec().saturating_mul(1000) + t.tv_nsec() / 1_000_000);
        let passed = now - of("ORCH_FAILPOINT_SINCE_MS");
        let gained = passed.saturating_mul(faster);
        (of("ORCH_FAILPOINT_WALL_MS") + gained, of("ORCH_FAILPOINT_MONO_MS") + gained)
    }
}
