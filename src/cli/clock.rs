//! The one place that reads the clocks: time is data, read here and passed down.

use crate::adapters::process;
use crate::failpoint;
use crate::model::time::Stamp;
use rustix::time::{ClockId, clock_gettime};

/// Both clocks now, with the kernel's boot id.
pub fn now() -> Stamp {
    let ms = |id| {
        let t = clock_gettime(id);
        t.tv_sec.saturating_mul(1000).saturating_add(t.tv_nsec / 1_000_000)
    };
    let (wall, mono) = failpoint::shift_ms();
    Stamp {
        wall_ms: ms(ClockId::Realtime).saturating_add(wall),
        mono_ms: ms(ClockId::Boottime).saturating_add(mono),
        boot_id: process::boot_id().unwrap_or_default(),
    }
}

/// The day in UTC, for expiry dates.
pub fn today(now: &Stamp) -> jiff::civil::Date {
    let at = jiff::Timestamp::from_millisecond(now.wall_ms).unwrap_or_default();
    jiff::tz::Offset::UTC.to_datetime(at).date()
}
