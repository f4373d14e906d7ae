//! Colour by meaning (DSK-1): never the only sign, and off where the reader does not want it.

use super::cells;

/// What a piece of a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Heading,
    Faint,
    NeedsYou,
    Running,
    Waiting,
    Blocked,
    Done,
}

impl Paint {
    /// The SGR parameters. `None`: default colour.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Faint => Some("2"),
            Self::NeedsYou => Some("35"),
            Self::Running => Some("36"),
            Self::Waiting => Some("33"),
            Self::Blocked => Some("31"),
            Self::Done => Some("32"),
        }
    }
}

/// A line of pieces, each with one meaning. No piece contains a control character.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(Vec<(Paint, String)>);

impl Line {
    pub fn of(paint: Paint, text: impl Into<String>) -> Self {
        Self(vec![(paint, text.into())])
    }

    /// Appends a piece.
    #[must_use]
    pub fn and(mut self, paint: Paint, text: impl Into<String>) -> Self {
        self.0.push((paint, text.into()));
        self
    }

    /// Cuts the line to at most `columns` cells. `None`: no limit.
    #[must_use]
    pub fn within(mut self, columns: Option<usize>) -> Self {
        let Some(columns) = columns.filter(|c| *c < cells::width(&self.text())) else { return self };
        // One cell is reserved for the mark.
        let mut left = columns.saturating_sub(1);
        let mut kept = Vec::new();
        for (paint, text) in self.0.drain(..) {
            let wide = cells::width(&text);
            if wide > left {
                let mark = if columns > 0 { "…" } else { "" };
                kept.push((paint, format!("{}{mark}", cells::take(&text, left))));
                break;
            }
            left -= wide;
            kept.push((paint, text));
        }
        Self(kept)
    }

    /// The line without colour or trailing blanks.
    pub fn text(&self) -> String {
        self.painted(false)
    }

    /// The line for a terminal, without trailing blanks.
    pub fn painted(&self, colour: bool) -> String {
        let mut out = String::new();
        let last = self.0.iter().rposition(|(_, t)| !t.trim_end().is_empty());
        for (i, (paint, text)) in self.0.iter().enumerate() {
            let text = match last {
                Some(last) if i < last => text.as_str(),
                Some(last) if i == last => text.trim_end(),
                Some(_) | None => break,
            };
            match paint.code().filter(|_| colour && !text.trim().is_empty()) {
                Some(code) => out.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => out.push_str(text),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_over_its_pieces_and_painted_where_wanted() {
        let line = Line::of(Paint::Heading, "ab").and(Paint::Plain, "cd").and(Paint::Blocked, "ef  ");
        assert_eq!(line.text(), "abcdef");
        assert_eq!(line.painted(true), "\x1b[1mab\x1b[0mcd\x1b[31mef\x1b[0m");
        for (columns, wanted) in [(8, "abcdef"), (6, "abcdef"), (5, "abcd…"), (4, "abc…"), (2, "a…"), (0, "")] {
            let cut = line.clone().within(Some(columns));
            assert_eq!(cut.text(), wanted, "{columns}");
        }
    }
}
