//! The static site (DSK-2): pure text from rows. Everything is escaped, nothing is loaded, and the page itself allows
//! only our own style and script.

pub mod index;
pub mod markdown;
pub mod task;

use super::card::escape;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// A page's place in the site, which decides where its links lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In the site's folder, with columns.
    Board,
    /// In the site's folder, text.
    Text,
    /// In a folder below the site's, text.
    Task,
    /// On its own, outside the site: no links, no script.
    Alone,
}

/// A whole page. `title` and `foot` are plain text, `body` is HTML.
pub fn shell(kind: Kind, title: &str, foot: &str, body: &str) -> String {
    let (up, class) = match kind {
        Kind::Board => ("", ""),
        Kind::Text | Kind::Alone => ("", " class=\"text\""),
        Kind::Task => ("../", " class=\"text\""),
    };
    let scripted = kind != Kind::Alone;
    let (nav, script) = if scripted {
        (
            format!(
                "<nav aria-label=\"Site\"><a href=\"{up}index.html\">Board</a><a href=\"{up}report.html\">Report</a></nav>"
            ),
            format!("<script>{SCRIPT}</script>"),
        )
    } else {
        (String::new(), String::new())
    };
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{title}</title>\n<style>{STYLE}</style></head>\n\
         <body><header>{nav}</header>\n<main{class}>\n<h1>{title}</h1>\n{body}</main>\n<footer>{}</footer>\n{script}</body></html>\n",
        policy(),
        escape(foot)
    )
}

/// The page's content security policy: its own style and script, by hash (DSK-2).
pub fn policy() -> String {
    format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; img-src data:; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

fn hash(text: &str) -> String {
    format!("sha256-{}", base64(&Sha256::digest(text.as_bytes())))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = usize::try_from(word >> (18 - 6 * i) & 63).unwrap_or(0);
            out.push(if i > chunk.len() { '=' } else { ALPHABET.get(digit).map_or('=', |b| char::from(*b)) });
        }
    }
    out
}

/// A link if the address is http or https, else only its text.
pub fn link(url: &str, text: &str) -> String {
    if is_web(url) {
        format!("<a href=\"{}\" rel=\"noopener noreferrer\">{}</a>", escape(url), escape(text))
    } else {
        escape(text)
    }
}

/// Whether an address is http or https and contains nothing that a browser would read differently.
pub fn is_web(url: &str) -> bool {
    let lower = url.to_ascii_lowercase();
    (lower.starts_with("http://") || lower.starts_with("https://"))
        && !url
            .chars()
            .any(|c| c.is_whitespace() || crate::model::text::steers(c) || matches!(c, '"' | '<' | '>' | '\\'))
}

/// A table in a box that scrolls on its own and can have keyboard focus. Cells are HTML; columns from `numbers` on are
/// numeric.
pub fn table(name: &str, head: &[&str], numbers: usize, rows: &[Vec<String>]) -> String {
    let mut out = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table><thead><tr>",
        escape(name)
    );
    let class = |i: usize| if i >= numbers { " class=\"n\"" } else { "" };
    for (i, h) in head.iter().enumerate() {
        out.push_str(&format!("<th scope=\"col\"{}>{}</th>", class(i), escape(h)));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            out.push_str(&format!("<td{}>{cell}</td>", class(i)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_very_style_and_script_of_the_page() {
        let page = shell(Kind::Board, "<b>&\"", "foot", "<p>x</p>");
        let between = |from: &str, to: &str| {
            let rest = &page[page.find(from).unwrap() + from.len()..];
            rest[..rest.find(to).unwrap()].to_owned()
        };
        assert!(page.contains(&format!("style-src '{}'", hash(&between("<style>", "</style>")))));
        assert!(page.contains(&format!("script-src '{}'", hash(&between("<script>", "</script>")))));
        assert!(page.contains("default-src 'none';") && page.contains("base-uri 'none'; form-action 'none'"));
        assert_eq!(page.matches("<h1>").count(), 1);
        assert!(
            page.contains("<title>&lt;b&gt;&amp;&quot;</title>")
                && !page.contains(" style=")
                && !page.contains("refresh")
        );
        assert!(!shell(Kind::Alone, "t", "", "").contains("<script"));
        assert!(
            !STYLE.contains("url(")
                && !STYLE.contains("@import")
                && !SCRIPT.contains("</")
                && !SCRIPT.contains("innerHTML")
        );
    }

    #[test]
    fn base64_is_padded() {
        for (bytes, wanted) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\xfd\xfc", "//79/A==")]
        {
            assert_eq!(base64(bytes), wanted);
        }
    }

    #[test]
    fn only_http_and_https_become_links() {
        for url in [
            "javascript:alert(1)",
            "data:text/html,x",
            "http://a b",
            "https://x\"onclick=y",
            "//x",
            "file:///etc",
            "ht\ntp://x",
        ] {
            assert!(!link(url, "t").contains("<a"), "{url}");
        }
        assert!(link("HTTPS://example.org/a?b&c", "t").contains("href=\"HTTPS://example.org/a?b&amp;c\""));
    }
}
