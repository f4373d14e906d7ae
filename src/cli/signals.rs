//! SIGINT and SIGTERM end a step cleanly between actions (CLI-5).

use anyhow::Context;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Once made, the two signals no longer kill the process but are recorded here.
#[derive(Debug)]
pub struct Signals {
    seen: Arc<AtomicBool>,
    wake: UnixStream,
}

impl Signals {
    /// Fails only if the system can't give a handler or a socket pair.
    pub fn watch() -> anyhow::Result<Self> {
        let seen = Arc::new(AtomicBool::new(false));
        let (wake, signalled) = UnixStream::pair().context("creating a pipe for signals")?;
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // A second signal while the first is being handled ends the process as usual.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&seen)).context("watching signals")?;
            signal_hook::flag::register(signal, Arc::clone(&seen)).context("watching signals")?;
            let end = signalled.try_clone().context("creating a pipe for signals")?;
            signal_hook::low_level::pipe::register(signal, end).context("watching signals")?;
        }
        Ok(Self { seen, wake })
    }

    /// The flag that a signal sets, for a step's loops.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.seen)
    }

    /// Whether a signal has arrived.
    pub fn came(&self) -> bool {
        self.seen.load(Ordering::SeqCst)
    }

    /// Waits until then, or until a signal arrives; returns whether one did.
    pub fn wait_until(&self, until: Instant) -> bool {
        let mut byte = [0_u8; 1];
        while !self.came() {
            let left = until.saturating_duration_since(Instant::now());
            // A time-out of zero would mean none.
            if left < Duration::from_millis(1) || self.wake.set_read_timeout(Some(left)).is_err() {
                break;
            }
            let _ = (&self.wake).read(&mut byte);
        }
        self.came()
    }
}
