//! Time as data: read once at the edge, passed down.

use serde::{Deserialize, Serialize};

/// One reading of both clocks. Ages that kill, reclaim or time out use `mono_ms` with `boot_id` (RULE-33); `wall_ms` is
/// for people, services' reset times and day budgets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Milliseconds of the boot-time clock (suspend included).
    pub mono_ms: i64,
    /// The kernel's boot id: `mono_ms` of another boot says nothing.
    pub boot_id: String,
}

impl Stamp {
    /// Milliseconds from `earlier` to `self` on the monotonic clock; `None` across a boot.
    pub fn since(&self, earlier: &Stamp) -> Option<i64> {
        (self.boot_id == earlier.boot_id).then(|| (self.mono_ms - earlier.mono_ms).max(0))
    }

    /// RFC 3339 in UTC, for JSON.
    pub fn rfc3339(&self) -> String {
        rfc3339(self.wall_ms)
    }

    /// The day in UTC, for expiry dates.
    pub fn today(&self) -> jiff::civil::Date {
        let at = jiff::Timestamp::from_millisecond(self.wall_ms).unwrap_or_default();
        jiff::tz::Offset::UTC.to_datetime(at).date()
    }
}

/// The beginning of a day (UTC), in wall milliseconds.
pub fn day_start(wall_ms: i64) -> i64 {
    wall_ms - wall_ms.rem_euclid(86_400_000)
}

/// RFC 3339 in UTC with milliseconds; an impossible time is shown as the epoch.
pub fn rfc3339(wall_ms: i64) -> String {
    let t = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or_default();
    format!("{t:.3}")
}

/// Reads RFC 3339 with any offset into milliseconds since the epoch.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    text.trim().parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_boot_has_no_age() {
        let a = Stamp { wall_ms: 0, mono_ms: 5, boot_id: "a".into() };
        let b = Stamp { wall_ms: 0, mono_ms: 9, boot_id: "b".into() };
        assert_eq!(b.since(&a), None);
        assert_eq!(a.since(&a), Some(0));
    }

    #[test]
    fn offsets_are_read_as_the_same_instant() {
        assert_eq!(parse_rfc3339("2026-01-01T02:00:00+02:00"), parse_rfc3339("2026-01-01T00:00:00Z"));
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
