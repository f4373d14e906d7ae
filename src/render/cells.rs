//! Text for a terminal, measured in cells: a wide character takes two, a combining one none (DSK-1).

use crate::model::text::clip;
use crate::model::time::parse_rfc3339;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthChar;

/// Cells that a text takes on one line. Control characters take none.
pub fn width(text: &str) -> usize {
    text.chars().map(of).sum()
}

fn of(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The longest prefix of at most `cells`, without trailing spaces.
pub fn take(text: &str, cells: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += of(*c);
        used > cells
    });
    text.get(..end.map_or(text.len(), |(at, _)| at)).unwrap_or(text).trim_end()
}

/// The text in at most `cells`; the last one is `…` where something was cut.
pub fn cut(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    match cells.checked_sub(1) {
        // One cell is reserved for the mark.
        Some(left) => format!("{}…", take(text, left)),
        None => String::new(),
    }
}

/// The text padded with spaces to `cells`. A longer text is returned unchanged.
pub fn pad(text: &str, cells: usize) -> String {
    format!("{text}{}", " ".repeat(cells.saturating_sub(width(text))))
}

/// The text padded on the left to `cells`.
pub fn pad_left(text: &str, cells: usize) -> String {
    format!("{}{text}", " ".repeat(cells.saturating_sub(width(text))))
}

/// A whole number with its digits in groups of three: `12,345` (DSK-5).
pub fn grouped(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    if number < 0 { format!("-{out}") } else { out }
}

/// `1 turn`, `2 turns`: a count with its noun, whose plural adds an s.
pub fn counted(number: impl Into<i128>, noun: &str) -> String {
    let number = number.into();
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// How long ago, in one unit and one style: `12 s`, `4 min`, `3 h`, `2 d` (DSK-1). A time in the future is `0 s`.
pub fn age(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match s {
        0..=59 => format!("{s} s"),
        60..=3599 => format!("{} min", s / 60),
        3600..=86_399 => format!("{} h", s / 3600),
        _ => format!("{} d", s / 86_400),
    }
}

/// An RFC 3339 time in the reader's time zone (CLI-5). Any other text is returned, cut.
pub fn local(rfc3339: &str, zone: &TimeZone) -> String {
    let Some(ms) = parse_rfc3339(rfc3339) else { return clip(rfc3339, 40) };
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned_datetime(zone.clone());
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Columns under a header, without lines. `width`: wrap to the terminal's width; `None`: no wrapping.
pub fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>, width: Option<usize>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if let Some(width) = width {
        let width = u16::try_from(width.max(40)).unwrap_or(u16::MAX);
        table.set_width(width).set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    }
    table.set_header(head.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    let lines: Vec<String> = table.lines().map(|l| l.strip_prefix(' ').unwrap_or(&l).trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_cells_and_never_longer() {
        for (text, cells, wanted) in [
            ("short", 10, "short"),
            ("brew green tea", 8, "brew gr…"),
            ("brew green", 6, "brew…"),
            ("緑茶を淹れる", 12, "緑茶を淹れる"),
            ("緑茶を淹れる", 7, "緑茶を…"),
            ("緑茶を淹れる", 6, "緑茶…"),
            ("e\u{301}te\u{301}", 3, "e\u{301}te\u{301}"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            let got = cut(text, cells);
            assert_eq!(got, wanted, "{text} in {cells}");
            assert!(width(&got) <= cells);
        }
        assert_eq!(pad("緑", 4), "緑  ");
        assert_eq!(pad_left("7", 3), "  7");
    }

    #[test]
    fn numbers_are_grouped_and_counts_agree() {
        for (n, wanted) in [(0, "0"), (999, "999"), (1000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(n), wanted);
        }
        assert_eq!((counted(1, "turn"), counted(1200, "turn")), ("1 turn".to_owned(), "1,200 turns".to_owned()));
    }

    #[test]
    fn ages_have_one_style() {
        for (s, wanted) in [
            (-5, "0 s"),
            (12, "12 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (86_400, "1 d"),
            (200_000, "2 d"),
        ] {
            assert_eq!(age(s * 1000), wanted);
        }
    }
}
