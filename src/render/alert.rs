//! Alerts (NTF-2): one short message each.

use super::card::{BUDGET, Both, utf16_len, wait_line};
use super::locale::{self, Word};
use crate::model::card::{AlertData, AlertKind, Card, Locale};
use crate::model::text::clip;

/// The sign at the start of an alert.
fn sign(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::ApprovalWanted | AlertKind::ConfirmDeployWanted => "👉",
        AlertKind::AutoApproveUsed | AlertKind::AutoDeployUsed => "🏷",
        AlertKind::Blocked => "⛔",
        AlertKind::Degraded | AlertKind::ServiceDown | AlertKind::BaseRed => "🔥",
        AlertKind::ServiceBack | AlertKind::BaseGreen => "✅",
        AlertKind::Frozen => "🧊",
        AlertKind::Cancelled | AlertKind::StopDeferred => "🛑",
        AlertKind::CostLimit | AlertKind::UsageLimit => "💸",
        AlertKind::GuardChanged | AlertKind::Confinement => "🛡",
        AlertKind::ForgeWaits => "⏳",
        AlertKind::Withdrawn | AlertKind::RolledBack | AlertKind::DefaultBranch => "↩️",
        AlertKind::MessageParked | AlertKind::ArtefactsRefused => "📭",
        AlertKind::SecretFound => "🔑",
    }
}

/// The command that answers an alert, where one does.
fn answer(kind: AlertKind, on_board: bool) -> Option<Word> {
    match kind {
        AlertKind::ApprovalWanted if on_board => Some(Word::AskApproval),
        AlertKind::ApprovalWanted => Some(Word::AskApprovalByCommand),
        AlertKind::ConfirmDeployWanted if on_board => Some(Word::AskConfirm),
        AlertKind::ConfirmDeployWanted => Some(Word::AskConfirmByCommand),
        AlertKind::Blocked => Some(Word::AskBlocked),
        AlertKind::AutoApproveUsed
        | AlertKind::AutoDeployUsed
        | AlertKind::Degraded
        | AlertKind::Frozen
        | AlertKind::Cancelled
        | AlertKind::StopDeferred
        | AlertKind::CostLimit
        | AlertKind::UsageLimit
        | AlertKind::ServiceDown
        | AlertKind::ServiceBack
        | AlertKind::BaseRed
        | AlertKind::BaseGreen
        | AlertKind::DefaultBranch
        | AlertKind::GuardChanged
        | AlertKind::Withdrawn
        | AlertKind::ForgeWaits
        | AlertKind::ArtefactsRefused
        | AlertKind::RolledBack
        | AlertKind::SecretFound
        | AlertKind::MessageParked
        | AlertKind::Confinement => None,
    }
}

/// Longest question shown, in characters (ORD-5).
const QUESTION: usize = 1500;

/// An alert in both forms. Every value is escaped and bounded: at most [`BUDGET`] UTF-16 units in all, and at most
/// `QUESTION` characters for a question.
pub fn alert(kind: AlertKind, data: &AlertData, locale: Locale) -> Card {
    let mut most = 900;
    let fits = |made: &Card| data.lines.is_empty() || made.plain.chars().count() <= QUESTION;
    loop {
        let made = compose(kind, data, locale, most);
        if (utf16_len(&made.html) <= BUDGET && fits(&made)) || most < 20 {
            return made;
        }
        most /= 2;
    }
}

fn compose(kind: AlertKind, data: &AlertData, locale: Locale, most: usize) -> Card {
    let key = clip(&data.key, 40);
    let head = Both::default().text(&format!("{} ", sign(kind))).bold(locale::alert_title(locale, kind));
    let mut about = Both::default();
    if !key.is_empty() {
        about = about.link(data.url.as_deref(), &key);
    }
    // A question already quotes the title.
    if data.lines.is_empty() {
        let space = if key.is_empty() { "" } else { " " };
        about = about.text(space).text(&clip(&data.title, most.min(200)));
    }
    let mut parts = vec![head, about];
    let detail = clip(&data.detail, most);
    if !detail.is_empty() {
        parts.push(Both::default().text(&detail));
    }
    parts.extend(data.lines.iter().map(|line| wait_line(line, most.min(160))));
    if let Some(word) = answer(kind, data.answer.is_some()).filter(|_| !key.is_empty()) {
        let status = clip(data.answer.as_deref().unwrap_or(""), 40);
        let text = locale::word(locale, word).replace("{status}", &status).replace("{key}", &key);
        parts.push(Both::default().text(&text));
    }
    if data.repeated {
        parts.push(Both::default().text(locale::word(locale, Word::Repeated)));
    }
    parts.retain(|p| !p.plain.trim().is_empty());
    let html: Vec<&str> = parts.iter().map(|p| p.html.as_str()).collect();
    let plain: Vec<&str> = parts.iter().map(|p| p.plain.as_str()).collect();
    Card { html: html.join("\n"), plain: plain.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shown::Line;

    #[test]
    fn every_kind_is_shown_in_every_language_with_values_escaped() {
        let data = AlertData {
            key: "ORCH-1".into(),
            url: Some("https://board/\"x".into()),
            title: "a <b> & c".into(),
            detail: "because </b>".into(),
            answer: Some("Yes <b>".into()),
            lines: vec![],
            repeated: true,
        };
        for kind in AlertKind::ALL {
            for locale in Locale::ALL {
                let made = alert(*kind, &data, *locale);
                assert!(made.html.contains("a &lt;b&gt; &amp; c"), "{}", made.html);
                assert!(made.html.contains("because &lt;/b&gt;"));
                assert!(made.html.contains("href=\"https://board/&quot;x\""));
                assert!(made.plain.contains(locale::word(*locale, Word::Repeated)));
                assert!(!made.plain.contains("{key}") && !made.plain.contains("{status}"));
            }
        }
    }

    #[test]
    fn a_question_names_the_boards_own_status_or_only_the_command() {
        for (kind, command) in
            [(AlertKind::ApprovalWanted, "--approve"), (AlertKind::ConfirmDeployWanted, "--confirm-deploy")]
        {
            for locale in Locale::ALL {
                let told = |answer: Option<&str>| {
                    let answer = answer.map(str::to_owned);
                    alert(kind, &AlertData { key: "ORCH-1".into(), answer, ..AlertData::default() }, *locale).plain
                };
                let named = told(Some("Freigegeben"));
                assert!(named.contains("Freigegeben") && named.contains(command), "{named}");
                let without = told(None);
                assert!(without.contains(command) && !without.contains("Approved"), "{without}");
            }
        }
    }

    #[test]
    fn ord_5_a_question_is_short_quotes_others_and_begins_and_ends_with_facts() {
        let quote = |n: usize| Line::Quote(format!("{n} {}", "<&>\u{1f600} https[:]//x ".repeat(50)));
        let mut lines = vec![Line::Fact("branch: x".into())];
        lines.extend((0..9).map(quote));
        lines.push(Line::Fact("read it: orch show ORCH-1".into()));
        for kind in [AlertKind::ApprovalWanted, AlertKind::ConfirmDeployWanted] {
            for locale in Locale::ALL {
                let data = AlertData {
                    key: "ORCH-1".into(),
                    title: "@all".into(),
                    detail: "changed ".repeat(400),
                    lines: lines.clone(),
                    ..AlertData::default()
                };
                let made = alert(kind, &data, *locale);
                assert!(made.plain.chars().count() <= QUESTION, "{}", made.plain.chars().count());
                assert!(utf16_len(&made.html) <= BUDGET && !made.plain.contains("@all"));
                assert!(made.html.contains("&gt; <code>0 &lt;&amp;&gt;"), "{}", made.html);
                let last = made.plain.lines().last().unwrap();
                assert!(last.contains("orch advance ORCH-1") && !last.starts_with('>'), "{last}");
                assert_eq!(made.plain.lines().nth(1), Some("ORCH-1"));
            }
        }
    }

    #[test]
    fn a_huge_reason_is_cut_and_an_empty_one_leaves_no_empty_line() {
        let data = AlertData { title: "repo".into(), detail: "&".repeat(5000), ..AlertData::default() };
        assert!(utf16_len(&alert(AlertKind::Frozen, &data, Locale::Ru).html) <= BUDGET);
        let bare = alert(AlertKind::Blocked, &AlertData::default(), Locale::En);
        assert_eq!(bare.plain, "⛔ Blocked");
    }
}
