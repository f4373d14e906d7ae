//! A confined command that is played on another machine (CLU-2): what plays it, and the files that its words go to.

use super::streams::Sink;
use super::{ChildError, Control, Event, Exit, Spec};
use crate::adapters::confine::Run;

/// Plays a confined command elsewhere as [`super::run`] plays it here: the same events, the same exit, and no end before all
/// of it is gone there.
pub trait Elsewhere: std::fmt::Debug + Send + Sync {
    /// Blocks until it is over. [`Event::Started`] names what stands for it on this machine; limits of time run from then on.
    ///
    /// # Errors
    /// As [`super::run`], and [`ChildError::Unavailable`] and [`ChildError::Lost`].
    fn play(&self, spec: &Spec, run: &Run, tell: &mut dyn FnMut(Event<'_>) -> Control) -> Result<Exit, ChildError>;
}

/// The two files of a command that is played elsewhere, with known secrets taken out (BND-4) and held to the cap (RULE-38).
pub struct Sinks {
    out: Sink,
    err: Sink,
}

impl Sinks {
    /// Fails where a file can't be opened.
    pub fn open(spec: &Spec) -> Result<Self, ChildError> {
        Ok(Self { out: Sink::open("stdout", &spec.stdout, spec)?, err: Sink::open("stderr", &spec.stderr, spec)? })
    }

    pub fn out(&mut self, bytes: &[u8]) {
        self.out.take(bytes);
    }

    pub fn err(&mut self, bytes: &[u8]) {
        self.err.take(bytes);
    }

    /// Nothing more comes. How many bytes of stdout came, and what the files lack, in a sentence.
    pub fn finish(mut self) -> (u64, Option<String>) {
        self.out.finish();
        self.err.finish();
        let said: Vec<String> = [&self.out, &self.err].into_iter().filter_map(Sink::lost).collect();
        (self.out.seen, (!said.is_empty()).then(|| said.join("; ")))
    }
}
