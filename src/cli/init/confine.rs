//! The line `confine` of a new configuration (BND-2), and what a person should know of this machine.

use crate::adapters::confine::{Probe, engine};
use crate::model::confine::Policy;

/// The line, and why nothing would start here, if so. Asks the engines; makes no request.
pub fn line() -> (String, Option<String>) {
    let Ok(scratch) = tempfile::tempdir() else { return (OPEN.to_owned(), None) };
    let Ok(probe) = Probe::here(scratch.path().to_owned()) else { return (OPEN.to_owned(), None) };
    let note = engine(&Policy::default(), &probe).err().map(|no| {
        format!(
            "nothing holds agents on this machine: {}. To mend it: {}. Until then nothing starts",
            no.why, no.way_out
        )
    });
    (format!("{OPEN}{}", if probe.root { ROOT } else { "" }), note)
}

const OPEN: &str = "confine: {network: open}               # a choice: agents and CI reach all that this account reaches; docs/security.md";
const ROOT: &str =
    "\n# area_dir: /var/lib/orch-area           # the checkouts of runs, where their accounts must reach it (landlock)";
