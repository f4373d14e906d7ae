//! Why the chat can't be read at present.

use crate::adapters::store::{StoreError, Tx};
use serde::{Deserialize, Serialize};

/// Backoff after a failure: doubles, so that an unavailable chat does not slow down every step.
const FIRST_MS: i64 = 15_000;

const LONGEST_MS: i64 = 300_000;

/// The key of the last failure.
pub(super) const FAULT: &str = "sink/telegram/answers";

/// Why the chat could not be read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) why: String,
    pub(super) since: i64,
    pub(super) tried: i64,
    pub(super) times: u32,
}

impl Fault {
    /// Not yet due again. A later time means that the clock was set back.
    pub(super) fn waits(&self, now: i64) -> bool {
        let pause = (FIRST_MS << self.times.saturating_sub(1).min(10)).min(LONGEST_MS);
        (0..pause).contains(&(now - self.tried))
    }
}

pub(super) fn kept_fault(tx: &Tx<'_>) -> Result<Option<Fault>, StoreError> {
    Ok(tx.meta(FAULT)?.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Why answers can't be read at present, for `status` and `doctor`.
pub fn fault(tx: &Tx<'_>) -> Result<Option<String>, StoreError> {
    Ok(kept_fault(tx)?.map(|f| f.why))
}
