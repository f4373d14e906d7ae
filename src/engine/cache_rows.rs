//! Since when the caches of a repository's base no longer count.

use crate::adapters::store::{Result as StoreResult, Tx};

pub(super) fn dropped_key(repo: &str) -> String {
    format!("cache/dropped/{repo}")
}

/// Invalidates base caches older than `at`: on freeze, on unfreeze, and on a person's request.
pub fn drop_base(tx: &Tx<'_>, repo: &str, at: i64) -> StoreResult<()> {
    tx.set_meta(&dropped_key(repo), &at.to_string())
}
