//! The log on stderr (tracing-subscriber): text for people, JSON lines for journald.

use super::Global;
use crate::model::redact;
use std::io::Write;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// stderr without secrets: each event arrives whole.
struct Redacting;

impl Write for Redacting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        super::progress::end();
        std::io::stderr().write_all(&redact::current().bytes(bytes))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Starts logging as set by the options and `ORCH_LOG`. An invalid filter falls back to the options' level.
pub fn start(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    let filter = std::env::var("ORCH_LOG")
        .ok()
        .filter(|t| !t.trim().is_empty())
        .and_then(|t| EnvFilter::try_new(t).ok())
        .unwrap_or_else(|| EnvFilter::new(format!("off,orch={level}")));
    let writer = BoxMakeWriter::new(|| Redacting);
    let ansi = super::colour::of(global, std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(ansi).with_target(false);
    if global.log_format.as_deref() == Some("json") {
        builder.json().init();
    } else {
        builder.init();
    }
}
