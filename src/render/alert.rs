//! Alerts (NTF-2): one short message each.

use super::card::{BUDGET, Both, utf16_len};
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

/// An alert in both forms; every value escaped and bounded, at most [`BUDGET`] UTF-16 units.
pub fn alert(kind: AlertKind, data: &AlertData, locale: Locale) -> Card {
    let mut most = 900;
    loop {
        let made = compose(kind, data, locale, most);
        if utf16_len(&made.html) <= BUDGET || most < 20 {
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
        about = about.link(data.url.as_deref(), &key).text(" ");
    }
    let mut parts = vec![head, about.text(&clip(&data.title, most.min(200)))];
    let detail = clip(&data.detail, most);
    if !detail.is_empty() {
        parts.push(Both::default().text(&detail));
    }
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

    #[test]
    fn every_kind_is_told_in_every_language_with_values_escaped() {
        let data = AlertData {
            key: "ORCH-1".into(),
            url: Some("https://board/\"x".into()),
            title: "a <b> & c".into(),
            detail: "because </b>".into(),
            answer: Some("Yes <b>".into()),
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
    fn a_huge_reason_is_cut_and_an_empty_one_leaves_no_empty_line() {
        let data = AlertData { title: "repo".into(), detail: "&".repeat(5000), ..AlertData::default() };
        assert!(utf16_len(&alert(AlertKind::Frozen, &data, Locale::Ru).html) <= BUDGET);
        let bare = alert(AlertKind::Blocked, &AlertData::default(), Locale::En);
        assert_eq!(bare.plain, "⛔ Blocked");
    }
}
