//! The secrets of this process. Output is redacted in many places, and they must not differ in which secrets they know:
//! there is one set, and every value that the process reads joins it.

use super::Redactor;
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// Names and values.
pub type Secrets = Vec<(String, Zeroizing<String>)>;
type Reads = Box<dyn FnOnce() -> Secrets + Send>;

#[derive(Default)]
struct Known {
    secrets: Secrets,
    /// What reads the configured ones; called for the first text that is redacted, because most steps redact none.
    configured: Option<Reads>,
    made: Option<Redactor>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { secrets: Vec::new(), configured: None, made: None });

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets how the configured secrets are read. `reads` must not redact a text itself.
pub fn configure(reads: impl FnOnce() -> Secrets + Send + 'static) {
    let mut known = known();
    known.configured = Some(Box::new(reads));
    known.made = None;
}

/// Adds a value that was read or made.
pub fn learn(name: &str, value: &str) {
    let mut known = known();
    if !known.secrets.iter().any(|(_, there)| there.as_str() == value) {
        known.secrets.push((name.to_owned(), Zeroizing::new(value.to_owned())));
        known.made = None;
    }
}

/// The redactor of all that this process knows now.
pub fn current() -> Redactor {
    let mut known = known();
    if let Some(made) = &known.made {
        return made.clone();
    }
    if let Some(reads) = known.configured.take() {
        // Configured names say more than those under which a value was read.
        let mut all = reads();
        all.append(&mut known.secrets);
        known.secrets = all;
    }
    let made = Redactor::new(known.secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    known.made = Some(made.clone());
    made
}
