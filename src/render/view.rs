//! How a page of `status` is laid out, and for which reader.

use super::cells::age;
use crate::model::time::parse_rfc3339;
use jiff::tz::TimeZone;

/// A narrower terminal gets the layout for this many columns.
const NARROWEST: usize = 60;

/// How the page is laid out, and for which reader.
#[derive(Debug, Clone)]
pub struct View {
    /// Cells in a line. `None`: no limit, nothing is cut.
    pub columns: Option<usize>,
    /// Show every group, every key, and the ended tasks.
    pub all: bool,
    pub now_ms: i64,
    pub zone: TimeZone,
    /// Keys of work items that have no task yet and that the next step picks up.
    pub pending: Vec<String>,
}

impl View {
    pub(super) fn columns(&self) -> Option<usize> {
        self.columns.map(|c| c.max(NARROWEST))
    }

    /// An RFC 3339 time in the reader's time zone. Any other text is returned unchanged.
    pub fn local(&self, rfc3339: &str) -> String {
        super::cells::local(rfc3339, &self.zone)
    }

    pub(super) fn age(&self, rfc3339: &str) -> String {
        parse_rfc3339(rfc3339).map_or_else(|| "-".to_owned(), |ms| age(self.now_ms.saturating_sub(ms)))
    }

    /// The zone's name, or its current offset where it has no name.
    pub fn zone_name(&self) -> String {
        let offset = || {
            let at = jiff::Timestamp::from_millisecond(self.now_ms).unwrap_or_default();
            let offset = self.zone.to_offset(at);
            if offset.is_zero() { "UTC".to_owned() } else { format!("UTC{offset}") }
        };
        self.zone.iana_name().map_or_else(offset, str::to_owned)
    }
}
