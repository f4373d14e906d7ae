//! The part of Markdown that a work item's documents use, as HTML (DSK-2): headings, paragraphs, lists, quotes, tables,
//! code, emphasis, links. Raw HTML stays text, and an image becomes a link.

use super::link;
use crate::model::text::beginning;
use crate::render::card::escape;

/// How deep marks may nest; deeper ones are text.
const DEEP: usize = 6;

/// A mark has to be closed within this many bytes.
const NEAR: usize = 2000;

/// A whole document. Headings start at level three, below the page's own.
pub fn html(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let mut lines = text.trim_start_matches('\u{feff}').lines().peekable();
    let mut out = String::new();
    if lines.next_if_eq(&"---").is_some() {
        let matter: Vec<&str> = lines.by_ref().take_while(|l| l.trim_end() != "---").collect();
        out.push_str(&code(&matter));
    }
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            continue;
        }
        if let Some(fence) = fence(trimmed) {
            let inner: Vec<&str> = lines.by_ref().take_while(|l| !l.trim().starts_with(fence)).collect();
            out.push_str(&code(&inner));
        } else if let Some((level, words)) = heading(trimmed) {
            let level = (level + 2).min(6);
            out.push_str(&format!("<h{level}>{}</h{level}>\n", inline(words, 0)));
        } else if trimmed.starts_with('>') {
            let mut quoted = vec![trimmed];
            while let Some(next) = lines.next_if(|l| l.trim().starts_with('>')) {
                quoted.push(next.trim());
            }
            let inner: Vec<&str> = quoted.iter().map(|l| l.trim_start_matches(['>', ' '])).collect();
            out.push_str(&format!("<blockquote><p>{}</p></blockquote>\n", inline(&inner.join("\n"), 0)));
        } else if let Some((ordered, first)) = item(trimmed) {
            let mut items = vec![first.to_owned()];
            while let Some(next) = lines.next_if(|l| !l.trim().is_empty() && heading(l.trim()).is_none()) {
                match item(next.trim()) {
                    Some((_, words)) => items.push(words.to_owned()),
                    None => {
                        if let Some(last) = items.last_mut() {
                            last.push('\n');
                            last.push_str(next.trim());
                        }
                    }
                }
            }
            let tag = if ordered { "ol" } else { "ul" };
            let items: String = items.iter().map(|i| format!("<li>{}</li>", inline(i, 0))).collect();
            out.push_str(&format!("<{tag}>{items}</{tag}>\n"));
        } else if trimmed.starts_with('|') {
            let mut rows = vec![trimmed];
            while let Some(next) = lines.next_if(|l| l.trim().starts_with('|')) {
                rows.push(next.trim());
            }
            out.push_str(&table(&rows));
        } else {
            let mut words = vec![trimmed];
            while let Some(next) = lines.next_if(|l| is_text(l.trim())) {
                words.push(next.trim());
            }
            out.push_str(&format!("<p>{}</p>\n", inline(&words.join("\n"), 0)));
        }
    }
    out
}

fn code(lines: &[&str]) -> String {
    format!("<pre>{}</pre>\n", escape(&lines.join("\n")))
}

fn fence(line: &str) -> Option<&'static str> {
    ["```", "~~~"].into_iter().find(|f| line.starts_with(f))
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let words = line.trim_start_matches('#');
    let level = line.len() - words.len();
    ((1..=6).contains(&level) && words.starts_with(' ')).then(|| (level, words.trim()))
}

fn item(line: &str) -> Option<(bool, &str)> {
    if let Some(words) = ["- ", "* ", "+ "].iter().find_map(|m| line.strip_prefix(m)) {
        return Some((false, words));
    }
    let digits = line.chars().take_while(char::is_ascii_digit).count();
    let rest = line.get(digits..).filter(|_| (1..=9).contains(&digits))?;
    rest.strip_prefix(". ").or_else(|| rest.strip_prefix(") ")).map(|words| (true, words))
}

fn is_text(line: &str) -> bool {
    !line.is_empty()
        && fence(line).is_none()
        && heading(line).is_none()
        && item(line).is_none()
        && !line.starts_with(['>', '|'])
}

fn table(rows: &[&str]) -> String {
    let cells = |row: &str| -> Vec<String> { row.trim_matches('|').split('|').map(|c| inline(c.trim(), 0)).collect() };
    let rule = |row: &str| row.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '));
    let head: Vec<String> = rows.first().map(|r| cells(r)).unwrap_or_default();
    let head: String = head.iter().map(|c| format!("<th scope=\"col\">{c}</th>")).collect();
    let body: String = rows
        .iter()
        .skip(1)
        .filter(|r| !rule(r))
        .map(|r| format!("<tr>{}</tr>", cells(r).iter().map(|c| format!("<td>{c}</td>")).collect::<String>()))
        .collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table\"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )
}

/// Marks within a line. Everything else is escaped text.
fn inline(text: &str, depth: usize) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut plain = 0;
    while let Some(c) = rest.get(plain..).and_then(|r| r.chars().next()) {
        let here = rest.get(plain..).unwrap_or("");
        let mark = if depth < DEEP { mark(here, depth) } else { None };
        match mark {
            Some((html, used)) => {
                out.push_str(&escape(rest.get(..plain).unwrap_or("")));
                out.push_str(&html);
                rest = here.get(used..).unwrap_or("");
                plain = 0;
            }
            None => plain += c.len_utf8(),
        }
    }
    out.push_str(&escape(rest));
    out
}

/// The mark at the start of a text: its HTML, and the number of bytes it takes.
fn mark(text: &str, depth: usize) -> Option<(String, usize)> {
    if !text.starts_with(['`', '*', '_', '[', '!', 'h']) {
        return None;
    }
    // The content of a mark is bounded, so that many unclosed marks cost little.
    let text = beginning(text, NEAR);
    let within = |open: &str| -> Option<(&str, usize)> {
        let inner = text.strip_prefix(open)?;
        let end = inner.find(open)?;
        let words = inner.get(..end).filter(|w| !w.trim().is_empty() && !w.starts_with(' '))?;
        Some((words, open.len() * 2 + end))
    };
    if let Some((words, used)) = within("`") {
        return Some((format!("<code>{}</code>", escape(words)), used));
    }
    if let Some((words, used)) = within("**").or_else(|| within("__")) {
        return Some((format!("<strong>{}</strong>", inline(words, depth + 1)), used));
    }
    if let Some((words, used)) = within("*") {
        return Some((format!("<em>{}</em>", inline(words, depth + 1)), used));
    }
    let (image, open) = match text.strip_prefix("![") {
        Some(rest) => (2, Some(rest)),
        None => (1, text.strip_prefix('[')),
    };
    if let Some(rest) = open {
        let (words, after) = rest.split_once("](").filter(|(w, _)| !w.contains('\n'))?;
        let (url, _) = after.split_once(')')?;
        let used = image + words.len() + 2 + url.len() + 1;
        return Some((link(url, if words.is_empty() { url } else { words }), used));
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        let end = text.find(|c: char| c.is_whitespace() || "<>\"')|`".contains(c)).unwrap_or(text.len());
        let url = text.get(..end)?.trim_end_matches(['.', ',', ';', ':']);
        return Some((link(url, url), url.len()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_readable() {
        let text = "---\nwork_item: A-1\n---\n\n# Brief\n\nBrew **green** `tea`\nsoon, see [the leaf](https://example.org/a_b).\n\n- one\n- two\n  more\n\n1. first\n\n> said\n\n| a | b |\n|---|---|\n| 1 | <b> |\n\n```sh\nrm -rf <x>\n```\n";
        let html = html(text);
        for part in [
            "<pre>work_item: A-1</pre>",
            "<h3>Brief</h3>",
            "<p>Brew <strong>green</strong> <code>tea</code>\nsoon, see <a href=\"https://example.org/a_b\" rel=\"noopener noreferrer\">the leaf</a>.</p>",
            "<ul><li>one</li><li>two\nmore</li></ul>",
            "<ol><li>first</li></ol>",
            "<blockquote><p>said</p></blockquote>",
            "<td>&lt;b&gt;</td>",
            "<pre>rm -rf &lt;x&gt;</pre>",
        ] {
            assert!(html.contains(part), "{part}\n{html}");
        }
    }

    #[test]
    fn nothing_hostile_becomes_markup() {
        for text in [
            "<script>alert(1)</script>",
            "[x](javascript:alert(1))",
            "![x](data:text/html;base64,AAAA)",
            "![x](https://example.org/a.png)",
            "[<img src=x onerror=y>](https://a\"onmouseover=\"b)",
            "`<b>` **<i>** *<u>*",
            "| <svg onload=x> |\n| <iframe> |",
            "<a href='x'>",
            "# <style>*{}</style>",
        ] {
            let html = html(text);
            for tag in [
                "<script",
                "<img",
                "<iframe",
                "<svg",
                "<b>",
                "<i>",
                "<u>",
                "<style",
                "<a href='",
                "href=\"javascript",
                "href=\"data",
                "onmouseover=\"",
            ] {
                assert!(!html.contains(tag), "{tag} in {html}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_keeps_its_tags_balanced_and_ours(text in "[<>\\[\\]()*_`#|&\"a-c \n!-]{0,120}") {
            let html = html(&text);
            let opened = html.matches("<strong>").count() + html.matches("<em>").count() + html.matches("<code>").count();
            let closed = html.matches("</strong>").count() + html.matches("</em>").count() + html.matches("</code>").count();
            proptest::prop_assert_eq!(opened, closed);
            for tag in html.split('<').skip(1) {
                let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
                let ours = ["p", "h3", "h4", "h5", "h6", "ul", "ol", "li", "pre", "code", "strong", "em", "a", "blockquote", "div", "table", "thead", "tbody", "tr", "th", "td"];
                proptest::prop_assert!(ours.contains(&name.as_str()), "{}", tag);
            }
        }
    }
}
