//! Messages of the chat in which people answer (ORD-5): buttons, replies to presses, questions, and decided questions.

use super::card::{Both, escape};
use crate::model::card::{Card, Locale};
use crate::model::chat::{Decided, Ending, Says, Verb};
use crate::model::text::{clip, defused, visible};
use crate::model::time::rfc3339;

fn pick(locale: Locale, en: &'static str, ru: &'static str) -> &'static str {
    match locale {
        Locale::En => en,
        Locale::Ru => ru,
    }
}

/// A button's text.
pub fn button(locale: Locale, verb: Verb) -> &'static str {
    let (en, ru) = match verb {
        Verb::Approve => ("Approve", "Одобрить"),
        Verb::Deploy => ("Confirm Deploy", "Подтвердить выкладку"),
        Verb::Reject => ("Reject", "Отклонить"),
        Verb::Stop => ("Stop", "Остановить"),
        Verb::Yes => ("Yes, stop it", "Да, остановить"),
        Verb::No => ("No", "Нет"),
    };
    pick(locale, en, ru)
}

/// A user's own name and number, as one line that can't act as markup or an instruction.
pub fn name(name: &str, user: i64) -> String {
    let name = clip(&visible(name), 40);
    if name.is_empty() { format!("Telegram, {user}") } else { format!("{name} (Telegram, {user})") }
}

/// A time to the minute.
fn when(at: i64) -> String {
    let text = rfc3339(at);
    format!("{} UTC", text.get(..16).unwrap_or(&text).replace('T', " "))
}

/// How a wait ended, as one line.
pub fn ending(locale: Locale, decided: &Decided) -> String {
    let (en, ru) = match decided.what {
        Ending::Approved => ("Approved", "Одобрено"),
        Ending::Confirmed => ("Deploy confirmed", "Выкладка подтверждена"),
        Ending::Rejected => ("Rejected", "Отклонено"),
        Ending::Stopped => ("Stopped", "Остановлено"),
        Ending::NotStopped => ("Not stopped", "Не остановлено"),
        Ending::HeadChanged => {
            ("The branch has a new head; the question is asked again", "Ветка изменилась; вопрос задан снова")
        }
        Ending::Over => ("No longer asked", "Ответ больше не нужен"),
    };
    let what = pick(locale, en, ru);
    let at = when(decided.at);
    match (&decided.by, locale) {
        (Some(by), Locale::En) => format!("{what} by {by} at {at}"),
        (Some(by), Locale::Ru) => format!("{what}: {by}, {at}"),
        (None, Locale::En) => format!("{what} ({at})"),
        (None, Locale::Ru) => format!("{what} ({at})"),
    }
}

/// The reply to a press, and whether it opens a window that the user has to close.
pub fn answer(locale: Locale, says: &Says) -> (String, bool) {
    let fixed = |en, ru| pick(locale, en, ru).to_owned();
    match says {
        Says::Done(Verb::Reject) => {
            (fixed("Reply to the next message with the reason", "Ответьте на следующее сообщение: почему"), false)
        }
        Says::Done(Verb::Stop) => {
            (fixed("Really stop? See the next message", "Точно остановить? Смотрите следующее сообщение"), false)
        }
        Says::Done(Verb::No) => (fixed("Not stopped", "Не остановлено"), false),
        Says::Done(Verb::Approve | Verb::Deploy | Verb::Yes) => (fixed("Done", "Готово"), false),
        Says::NotYours => (fixed("you may not decide here", "вы не можете решать здесь"), true),
        Says::NotHere => (fixed("this button has no effect in this chat", "в этом чате кнопка не действует"), true),
        Says::Unknown => (fixed("this button is unknown here", "эта кнопка здесь неизвестна"), true),
        Says::Busy => (
            fixed("a run is under way; try again when it has ended", "идёт работа; повторите, когда она закончится"),
            true,
        ),
        Says::TooLate => (
            fixed(
                "that is more than 24 hours ago; press Reject again",
                "прошло больше 24 часов; нажмите «Отклонить» ещё раз",
            ),
            true,
        ),
        Says::NoText => (fixed("write the reason as text", "напишите причину текстом"), true),
        Says::HeadChanged => (
            fixed(
                "the branch has a new head; the question is asked again",
                "ветка с тех пор изменилась; вопрос задан снова",
            ),
            true,
        ),
        Says::Stale(None) => (fixed("this question is closed", "ответ здесь больше не нужен"), true),
        Says::Stale(Some(decided)) => (already(locale, decided), true),
    }
}

/// The reply to a reason that can't be used.
pub fn unused(locale: Locale, key: &str, says: &Says) -> String {
    let (why, _) = answer(locale, says);
    match locale {
        Locale::En => format!("{key} is not rejected: {why}"),
        Locale::Ru => format!("{key} не отклонено: {why}"),
    }
}

fn already(locale: Locale, decided: &Decided) -> String {
    let at = when(decided.at);
    let by = decided.by.as_deref().map(|by| clip(by, 100));
    match (by, locale) {
        (Some(by), Locale::En) => format!("already decided by {by} at {at}"),
        (Some(by), Locale::Ru) => format!("уже решено: {by}, {at}"),
        (None, Locale::En) => format!("already decided at {at}"),
        (None, Locale::Ru) => format!("уже решено: {at}"),
    }
}

/// A decided question: its text, and below it who decided and where.
pub fn closed(text: &Card, decided: &Decided, locale: Locale) -> Card {
    let line = ending(locale, decided);
    Card { html: format!("{}\n\n<b>{}</b>", text.html, escape(&line)), plain: format!("{}\n\n{line}", text.plain) }
}

/// One line of our own text as a message.
pub fn line(text: &str) -> Card {
    let made = Both::default().text(text);
    Card { html: made.html, plain: made.plain }
}

/// The question for a reason. It mentions the user who is to give it.
pub fn why(locale: Locale, key: &str, user: i64, name: &str) -> Card {
    let shown = clip(&visible(name), 40);
    let shown = if shown.is_empty() { user.to_string() } else { shown };
    let text = pick(
        locale,
        ": reply to this message with what is wrong with {key}, within 24 hours. Until then nothing changes.",
        ": ответьте на это сообщение, что не так с {key}, в течение 24 часов. До тех пор ничего не меняется.",
    );
    let rest = Both::default().text(&text.replace("{key}", key));
    Card {
        html: format!("<a href=\"tg://user?id={user}\">{}</a>{}", escape(&shown), rest.html),
        plain: format!("{shown}{}", rest.plain),
    }
}

/// The confirmation question before a stop.
pub fn sure(locale: Locale, key: &str, title: &str) -> Card {
    let text = pick(
        locale,
        "Stop {key}? Its branch is deleted and its work ends; the work item can start again from scratch.",
        "Остановить {key}? Ветка будет удалена, работа прекратится; задачу можно начать заново.",
    );
    let made = Both::default().bold(&text.replace("{key}", key)).text("\n").quote(&clip(&defused(title), 100));
    Card { html: made.html, plain: made.plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_and_ending_is_said_in_every_language_and_fits() {
        let decided = |what| Decided { what, by: Some("x".repeat(500)), at: 0 };
        for locale in Locale::ALL {
            for verb in Verb::ALL {
                assert!(!button(*locale, *verb).is_empty());
                assert!(!answer(*locale, &Says::Done(*verb)).0.is_empty());
            }
            for what in Ending::ALL {
                assert!(!ending(*locale, &decided(*what)).is_empty());
            }
            for says in [Says::NotYours, Says::NotHere, Says::Unknown, Says::Busy, Says::HeadChanged, Says::Stale(None)]
            {
                let (text, alert) = answer(*locale, &says);
                assert!(alert && text.chars().count() <= 200, "{text}");
            }
            assert!(answer(*locale, &Says::Stale(Some(decided(Ending::Approved)))).0.chars().count() <= 200);
        }
        let by = Decided { what: Ending::Approved, by: Some("the board, ann".into()), at: 0 };
        assert_eq!(
            answer(Locale::En, &Says::Stale(Some(by))).0,
            "already decided by the board, ann at 1970-01-01 00:00 UTC"
        );
    }

    #[test]
    fn a_name_can_not_write_markup_or_turn_a_line_around() {
        let made = why(Locale::En, "ORCH-1", 42, "<b>Eve\u{202e}\n&");
        assert!(
            made.html.starts_with("<a href=\"tg://user?id=42\">&lt;b&gt;Eve&lt;U+202E&gt; &amp;</a>: reply"),
            "{}",
            made.html
        );
        let text = Card { html: "<b>x</b>".into(), plain: "x".into() };
        let decided = Decided { what: Ending::Rejected, by: Some(name("<i>\u{200b}", 7)), at: 0 };
        let shown = closed(&text, &decided, Locale::En);
        assert!(shown.html.contains("Rejected by &lt;i&gt;&lt;U+200B&gt; (Telegram, 7) at"), "{}", shown.html);
    }
}
