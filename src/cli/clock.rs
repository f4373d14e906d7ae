//! The only file that reads the clocks: time is data, read here and passed down.

use crate::adapters::process;
use crate::failpoint;
use crate::model::time::Stamp;
use nix::time::{ClockId, clock_gettime};

/// Both clocks now, with the kernel's boot id.
pub fn now() -> Stamp {
    // Both are there on every kernel that starts this program. By the C library's call, since rustix looks for the kernel's
    // own, which is not there under valgrind.
    let ms =
        |id| clock_gettime(id).map_or(0, |t| t.tv_sec().saturating_mul(1000).saturating_add(t.tv_nsec() / 1_000_000));
    let (wall, mono) = failpoint::shift_ms();
    Stamp {
        wall_ms: ms(ClockId::CLOCK_REALTIME).saturating_add(wall),
        mono_ms: ms(ClockId::CLOCK_BOOTTIME).saturating_add(mono),
        boot_id: process::boot_id().unwrap_or_default(),
    }
}
