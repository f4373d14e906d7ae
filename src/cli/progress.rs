//! What a person sees on a terminal while a command works for more than a second (CLI-5): a line on stderr with what it
//! does and for how long. The first output of the command ends it.

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Shorter work shows nothing.
const SOON: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

/// The one line of this process. Output and log end it, whoever writes.
static SHOWN: Mutex<Option<Shown>> = Mutex::new(None);

struct Shown {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

/// Shows `what` from the next second on, until [`end`]. A thread that can't be started shows nothing.
pub fn start(what: &'static str) {
    end();
    let (end, ended) = mpsc::channel();
    let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
        if ended.recv_timeout(SOON) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let bar = ProgressBar::new_spinner().with_elapsed(SOON).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        let _ = ended.recv();
        bar.finish_and_clear();
    });
    if let Ok(thread) = thread {
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Shown { end, thread });
    }
}

/// Clears the line, if there is one: afterwards the terminal belongs to whoever called.
pub fn end() {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Shown { end, thread }) = shown {
        drop(end);
        let _ = thread.join();
    }
}
