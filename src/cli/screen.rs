//! The terminal's alternate screen, for output that is repainted (DSK-1). It is restored on every way out: a signal
//! only sets a flag (`cli::signals`), so the drop below is always reached.

use super::output::Output;

/// The alternate screen, without a cursor, until it is dropped.
#[derive(Debug)]
pub struct Screen<'a> {
    out: &'a Output,
}

impl<'a> Screen<'a> {
    pub fn open(out: &'a Output) -> Self {
        out.raw("\x1b[?1049h\x1b[?25l\x1b[2J");
        Self { out }
    }

    /// Paints the lines from the top, replacing what was there, without flicker.
    pub fn paint(&self, lines: &[String]) {
        let text = lines.join("\x1b[K\r\n");
        self.out.raw(&format!("\x1b[H{text}\x1b[K\x1b[J"));
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.out.raw("\x1b[?25h\x1b[?1049l");
    }
}
