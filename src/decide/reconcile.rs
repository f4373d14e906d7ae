//! How much of a board one pass reads, and how far its watermark moves (BRD-4, RULE-13). Pure. Times are wall
//! milliseconds; those of the items are by the board's clock.

use serde::{Deserialize, Serialize};

/// Items that changed up to this long before the watermark are read again.
const OVERLAP_MS: i64 = 120_000;
/// A scan for changes that is cut after this many pages would be cut each time. A full scan resumes where it was cut.
const MANY_PAGES: u32 = 10;

/// Where the last scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub updated_ms: i64,
    /// When the last full scan ended; 0 asks for one.
    pub full_at: i64,
}

/// A full scan that a budget split into parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    pub cursor: String,
    pub newest_ms: i64,
    /// By our own clock: only the duration is used.
    pub began_at: i64,
    /// Whether an item of a part could not be read: then the watermark may not pass it.
    #[serde(default)]
    pub unread: bool,
}

/// What the next pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// All of it, from where a cut scan ended.
    Whole,
    /// What changed since then.
    Since(i64),
}

/// From when changes are read: the watermark less an overlap.
pub fn since(mark: Mark) -> i64 {
    mark.updated_ms - OVERLAP_MS
}

/// `asked`: the caller wants a full scan, or the board is a folder. `every_s`: how often a full scan is due.
pub fn look(asked: bool, mark: Option<Mark>, scan: Option<&Scan>, every_s: u64, now: i64) -> Look {
    let every = i64::try_from(every_s).unwrap_or(86_400).clamp(0, 86_400).saturating_mul(1000);
    match mark {
        Some(mark) if !asked && scan.is_none() && now - mark.full_at < every => Look::Since(since(mark)),
        Some(_) | None => Look::Whole,
    }
}

/// A list as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadSoFar<'a> {
    /// The newest change among its items; 0 for none.
    pub newest_ms: i64,
    /// Some item of it could not be read.
    pub unread: bool,
    pub pages: u32,
    /// Where to resume, if it was cut.
    pub cursor: Option<&'a str>,
    /// It was cut because the board is slow, not by a budget of requests or a fault.
    pub slow: bool,
}

/// What is kept of a scan that was cut. Nothing else may be concluded from it, and no watermark moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterCut {
    /// The full scan resumes there.
    GoOn(Scan),
    /// It would be cut at the same page each time: the next scan is a full one, which can resume.
    WholeNext(Mark),
    Nothing,
}

/// `began`: when this pass began.
pub fn after_cut(look: Look, read: &ReadSoFar<'_>, mark: Option<Mark>, scan: Option<&Scan>, began: i64) -> AfterCut {
    match (look, read.cursor, mark) {
        (Look::Whole, Some(cursor), _) => AfterCut::GoOn(Scan {
            cursor: cursor.to_owned(),
            newest_ms: newest(read, scan),
            began_at: scan.map_or(began, |s| s.began_at),
            unread: unread(read, scan),
        }),
        (_, _, Some(mark)) if read.slow || read.pages >= MANY_PAGES => AfterCut::WholeNext(Mark { full_at: 0, ..mark }),
        _ => AfterCut::Nothing,
    }
}

fn newest(read: &ReadSoFar<'_>, scan: Option<&Scan>) -> i64 {
    scan.map_or(read.newest_ms, |s| s.newest_ms.max(read.newest_ms))
}

fn unread(read: &ReadSoFar<'_>, scan: Option<&Scan>) -> bool {
    read.unread || scan.is_some_and(|s| s.unread)
}

/// What a completed scan leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AfterWhole {
    pub mark: Mark,
    /// All of its items were read: what the board reports about itself as a whole may be kept.
    pub sound: bool,
}

/// The watermark never moves back, nor past an item that could not be read. What changed during a full scan is read
/// again. `began`: when this pass began.
pub fn after_end(
    look: Look,
    read: &ReadSoFar<'_>,
    mark: Option<Mark>,
    scan: Option<&Scan>,
    (began, now): (i64, i64),
) -> AfterWhole {
    let before = mark.map_or(0, |m| m.updated_ms);
    let took = (now - scan.map_or(began, |s| s.began_at)).max(0);
    let (reached, full_at) = match look {
        Look::Whole => (newest(read, scan) - took, began),
        Look::Since(_) => (newest(read, scan), mark.map_or(0, |m| m.full_at)),
    };
    let sound = !unread(read, scan);
    let updated_ms = if sound { reached.max(before) } else { before };
    AfterWhole { mark: Mark { updated_ms, full_at }, sound }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { updated_ms: 1_000_000, full_at: 500_000 };

    fn part(newest_ms: i64) -> ReadSoFar<'static> {
        ReadSoFar { newest_ms, unread: false, pages: 1, cursor: None, slow: false }
    }

    fn scan() -> Scan {
        Scan { cursor: "c".into(), newest_ms: 2_000_000, began_at: 600_000, unread: false }
    }

    #[test]
    fn brd_4_a_full_scan_comes_first_when_it_is_due_or_was_cut_off() {
        let s = scan();
        for (asked, mark, cut, now, want) in [
            (false, None, None, 1, Look::Whole),
            (true, Some(MARK), None, 500_001, Look::Whole),
            (false, Some(MARK), Some(&s), 500_001, Look::Whole),
            (false, Some(MARK), None, 509_999, Look::Since(880_000)),
            (false, Some(MARK), None, 510_000, Look::Whole),
        ] {
            assert_eq!(look(asked, mark, cut, 10, now), want, "{asked} {mark:?} {now}");
        }
    }

    #[test]
    fn rule_13_a_cut_scan_moves_no_watermark_and_continues_where_it_stopped() {
        let read = ReadSoFar { cursor: Some("d"), unread: true, ..part(1_500_000) };
        let s = scan();
        let on = Scan { cursor: "d".into(), unread: true, ..scan() };
        assert_eq!(after_cut(Look::Whole, &read, Some(MARK), Some(&s), 7), AfterCut::GoOn(on));
        let first = Scan { cursor: "d".into(), newest_ms: 1_500_000, began_at: 7, unread: true };
        assert_eq!(after_cut(Look::Whole, &read, None, None, 7), AfterCut::GoOn(first));
        // A scan for changes has no place to resume at.
        let cut = |read: ReadSoFar<'_>| after_cut(Look::Since(0), &read, Some(MARK), None, 7);
        let whole = AfterCut::WholeNext(Mark { full_at: 0, ..MARK });
        assert_eq!(cut(read), AfterCut::Nothing);
        assert_eq!(cut(ReadSoFar { slow: true, ..read }), whole);
        assert_eq!(cut(ReadSoFar { pages: MANY_PAGES, ..read }), whole);
    }

    #[test]
    fn rule_13_the_watermark_goes_neither_back_nor_past_what_could_not_be_read() {
        let s = scan();
        let ends = |look, read: &ReadSoFar<'_>, scan| after_end(look, read, Some(MARK), scan, (700_000, 700_100));
        let since = ends(Look::Since(0), &part(1_200_000), None);
        assert_eq!(since, AfterWhole { mark: Mark { updated_ms: 1_200_000, ..MARK }, sound: true });
        assert_eq!(ends(Look::Since(0), &part(0), None).mark, MARK, "an empty list moves nothing");
        let whole = ends(Look::Whole, &part(1_200_000), Some(&s)).mark;
        assert_eq!(whole, Mark { updated_ms: 2_000_000 - 100_100, full_at: 700_000 });
        let unread = ends(Look::Whole, &ReadSoFar { unread: true, ..part(1_200_000) }, None);
        assert_eq!(unread, AfterWhole { mark: Mark { updated_ms: 1_000_000, full_at: 700_000 }, sound: false });
        let before = Scan { unread: true, ..scan() };
        assert!(!ends(Look::Whole, &part(9_000_000), Some(&before)).sound, "an earlier part counts");
    }
}
