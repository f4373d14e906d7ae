//! The secrets of this process. What is said is redacted in many places, and none may be told apart by which of them it
//! was handed: there is one set, which every value joins that the process reads.

use super::Redactor;
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// Names and values.
pub type Secrets = Vec<(String, Zeroizing<String>)>;
type Reads = Box<dyn FnOnce() -> Secrets + Send>;

#[derive(Default)]
struct Known {
    secrets: Secrets,
    /// What gives the configured ones; asked when the first text is looked at, for most steps look at none.
    configured: Option<Reads>,
    made: Option<Redactor>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { secrets: Vec::new(), configured: None, made: None });

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says how the configured secrets are read. `reads` may not look at a text itself.
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
