//! How long what failed waits before it is tried again.

const LONGEST_MS: i64 = 300_000;

/// Doubles from `first` to at most 300 s, with up to a quarter of jitter so that what failed together does not retry
/// together.
pub fn back_off(first_ms: i64, times: i64, salt: i64) -> i64 {
    let doublings = u32::try_from(times.clamp(1, 16) - 1).unwrap_or(0);
    let wait = first_ms.saturating_mul(1_i64 << doublings).clamp(0, LONGEST_MS);
    wait + wait / 4 * salt.wrapping_mul(2_654_435_761).rem_euclid(256) / 256
}
