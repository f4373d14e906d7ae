//! What an answer in a chat does (ORD-5). Pure: a typed update and the rows it is about in, what to do and to say out.

use crate::model::chat::{Ask, AskKind, AskState, Chat, Press, Said, Says, Sender, Verb, parse_data};
use crate::model::task::{Task, Waiting};
use crate::model::text::steers;

/// A reason is accepted for this long after it was asked for.
pub const REASON_MS: i64 = 24 * 3_600_000;
/// The longest reason, in characters.
pub const REASON_CHARS: usize = 2000;

/// Which chat is ours, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ours {
    Number(i64),
    /// Without `@`.
    Name(String),
}

impl Ours {
    fn is(&self, chat: &Chat) -> bool {
        match self {
            Self::Number(id) => chat.id == *id,
            Self::Name(name) => chat.username.as_ref().is_some_and(|n| n.eq_ignore_ascii_case(name)),
        }
    }
}

/// What an answer is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub deciders: &'a [i64],
    pub chat: &'a Ours,
    /// The message it answers, where there is one of ours.
    pub ask: Option<&'a Ask>,
    /// The task of that message as it is now.
    pub task: Option<&'a Task>,
    /// A job of the task is queued or runs.
    pub busy: bool,
    /// `stop.status_enabled`.
    pub stop_on: bool,
    /// Wall milliseconds.
    pub now: i64,
}

/// What a press does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Does {
    Nothing,
    /// Noted once a person and day.
    Stranger,
    Release(Waiting),
    AskReason,
    AskSure,
    Stop,
    /// The second question is closed, the wait is as it was.
    KeepOn,
    /// The question is about a head that is gone: it is closed and asked again.
    AskAgain,
}

/// What becomes of a press.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub does: Does,
    pub says: Says,
}

/// Whether the wait that a message is about is over.
pub fn is_over(ask: &Ask, task: Option<&Task>) -> bool {
    task.is_none_or(|t| {
        t.waiting_for != Some(ask.waiting)
            || (t.attempt, t.epoch, t.wait_no) != (ask.attempt, ask.epoch, ask.wait_no)
            || t.stop_requested_at.is_some()
    })
}

fn decides(facts: &Facts<'_>, who: &Sender) -> bool {
    !who.is_bot && facts.deciders.contains(&who.id)
}

/// What a press does. Only who pressed decides, and only at the very message that was sent for this wait.
pub fn press(press: &Press, facts: &Facts<'_>) -> Judged {
    let nothing = |says| Judged { does: Does::Nothing, says };
    if !decides(facts, &press.from) {
        return Judged { does: Does::Stranger, says: Says::NotYours };
    }
    let Some((chat, message_id)) = &press.message else { return nothing(Says::NotHere) };
    if !facts.chat.is(chat) {
        return nothing(Says::NotHere);
    }
    let (Some((_, verb)), Some(ask)) = (parse_data(&press.data), facts.ask) else { return nothing(Says::Unknown) };
    // One whose sending was never confirmed is where it is first pressed: nobody else knows its nonce.
    let elsewhere = ask.message_id.is_some_and(|id| id != *message_id) || ask.chat.is_some_and(|id| id != chat.id);
    if elsewhere || !belongs(verb, ask, facts) {
        return nothing(Says::Unknown);
    }
    if ask.state != AskState::Open || is_over(ask, facts.task) {
        return nothing(Says::Stale(ask.decided.clone()));
    }
    let does = match verb {
        Verb::Approve | Verb::Deploy if facts.busy => return nothing(Says::Busy),
        Verb::Deploy if facts.task.is_none_or(|t| t.head_sha != ask.head) => {
            return Judged { does: Does::AskAgain, says: Says::HeadChanged };
        }
        Verb::Approve | Verb::Deploy => Does::Release(ask.waiting),
        Verb::Reject => Does::AskReason,
        Verb::Stop => Does::AskSure,
        Verb::Yes => Does::Stop,
        Verb::No => Does::KeepOn,
    };
    Judged { does, says: Says::Done(verb) }
}

/// Whether a message of this kind has that button.
fn belongs(verb: Verb, ask: &Ask, facts: &Facts<'_>) -> bool {
    buttons(ask.kind, ask.waiting, facts.stop_on).iter().flatten().any(|v| *v == verb)
}

/// The buttons of a message, row by row.
pub fn buttons(kind: AskKind, waiting: Waiting, stop_on: bool) -> Vec<Vec<Verb>> {
    let yes = match waiting {
        Waiting::Approval => Verb::Approve,
        Waiting::ConfirmDeploy => Verb::Deploy,
    };
    let stop = stop_on.then(|| vec![Verb::Stop]);
    match kind {
        AskKind::Wait => [vec![yes, Verb::Reject]].into_iter().chain(stop).collect(),
        AskKind::Sure if stop_on => vec![vec![Verb::Yes, Verb::No]],
        AskKind::Sure => vec![vec![Verb::No]],
        AskKind::Reason => Vec::new(),
    }
}

/// What a message in the chat means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Not an answer to one of our questions: nobody is answered.
    Nothing,
    /// The reason of a rejection.
    Reason(String),
    /// The person who was asked for the reason gave one that can't be used, and is shown why.
    Unused(Says),
}

/// The reason in a message, where it answers the question for one: the same user's own reply to that very message, in
/// time. Anything else is not an answer, and the wait is unchanged.
pub fn reason(said: &Said, facts: &Facts<'_>) -> Heard {
    let Some(ask) = facts.ask.filter(|a| a.kind == AskKind::Reason) else { return Heard::Nothing };
    let here = facts.chat.is(&said.chat) && ask.chat == Some(said.chat.id);
    let very = said.reply_to.is_some() && said.reply_to == ask.message_id;
    let own = !said.borrowed && decides(facts, &said.from) && ask.user == Some(said.from.id);
    let age = facts.now - ask.asked_at;
    if !(here && very && own) || age < 0 {
        return Heard::Nothing;
    }
    if ask.state != AskState::Open || is_over(ask, facts.task) {
        return Heard::Unused(Says::Stale(ask.decided.clone()));
    }
    if age > REASON_MS {
        return Heard::Unused(Says::TooLate);
    }
    let shown = |c: &char| *c == '\n' || !steers(*c);
    let text: String = said.text.trim().chars().filter(shown).take(REASON_CHARS).collect();
    match text.trim() {
        "" => Heard::Unused(Says::NoText),
        text => Heard::Reason(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing;
    use crate::model::card::Card;
    use crate::model::chat::{Decided, Ending, data};
    use crate::model::ids::{Sha, TaskId};
    use crate::model::stage::Stage;

    const NONCE: &str = "0123456789abcdef0123456789abcdef";
    const ANN: i64 = 42;
    const CHAT: i64 = -100;

    fn task(waiting: Waiting) -> Task {
        let stage = if waiting == Waiting::Approval { Stage::Analysis } else { Stage::Deploy };
        let mut task = testing::view(stage).task;
        task.waiting_for = Some(waiting);
        task.wait_no = 3;
        task.head_sha = Some(Sha::parse(&"a".repeat(40)).unwrap());
        task
    }

    fn ask(kind: AskKind, task: &Task) -> Ask {
        Ask {
            id: 1,
            kind,
            task: task.id,
            attempt: task.attempt,
            epoch: task.epoch,
            wait_no: task.wait_no,
            waiting: task.waiting_for.unwrap(),
            head: task.head_sha.clone(),
            user: (kind == AskKind::Reason).then_some(ANN),
            chat: Some(CHAT),
            message_id: Some(7),
            text: Card { html: String::new(), plain: String::new() },
            state: AskState::Open,
            decided: None,
            asked_at: 1000,
        }
    }

    fn ann() -> Sender {
        Sender { id: ANN, is_bot: false, name: "Ann".to_owned() }
    }

    fn chat(id: i64) -> Chat {
        Chat { id, username: Some("ops_room".to_owned()) }
    }

    fn pressed(verb: Verb) -> Press {
        Press { callback: "c".into(), from: ann(), message: Some((chat(CHAT), 7)), data: data(NONCE, verb) }
    }

    /// A press after some change of the world, and what it does.
    type Case = (&'static str, AskKind, Waiting, Verb, fn(&mut World), Does, fn(&Says) -> bool);

    struct World {
        press: Press,
        ask: Option<Ask>,
        task: Option<Task>,
        busy: bool,
        stop_on: bool,
        ours: Ours,
    }

    impl World {
        fn judged(&self) -> Judged {
            press(&self.press, &self.facts())
        }

        fn facts(&self) -> Facts<'_> {
            Facts {
                deciders: &[ANN, 43],
                chat: &self.ours,
                ask: self.ask.as_ref(),
                task: self.task.as_ref(),
                busy: self.busy,
                stop_on: self.stop_on,
                now: 2000,
            }
        }
    }

    fn world(kind: AskKind, waiting: Waiting, verb: Verb) -> World {
        let task = task(waiting);
        let ask = Some(ask(kind, &task));
        World { press: pressed(verb), ask, task: Some(task), busy: false, stop_on: true, ours: Ours::Number(CHAT) }
    }

    #[test]
    fn every_press_has_its_consequence() {
        use AskKind::{Reason, Sure, Wait};
        use Waiting::{Approval as A, ConfirmDeploy as D};
        let same: fn(&mut World) = |_| {};
        let done: fn(&Says) -> bool = |s| matches!(s, Says::Done(_));
        let unknown: fn(&Says) -> bool = |s| *s == Says::Unknown;
        let stale: fn(&Says) -> bool = |s| matches!(s, Says::Stale(_));
        let table: &[Case] = &[
            ("approve", Wait, A, Verb::Approve, same, Does::Release(A), done),
            ("deploy", Wait, D, Verb::Deploy, same, Does::Release(D), done),
            ("reject", Wait, A, Verb::Reject, same, Does::AskReason, done),
            ("stop asks once more", Wait, D, Verb::Stop, same, Does::AskSure, done),
            ("yes", Sure, D, Verb::Yes, same, Does::Stop, done),
            ("no", Sure, D, Verb::No, same, Does::KeepOn, done),
            ("another decider", Wait, A, Verb::Approve, |w| w.press.from.id = 43, Does::Release(A), done),
            ("a stranger", Wait, A, Verb::Approve, |w| w.press.from.id = 44, Does::Stranger, |s| *s == Says::NotYours),
            ("a bot", Wait, A, Verb::Approve, |w| w.press.from.is_bot = true, Does::Stranger, |s| *s == Says::NotYours),
            (
                "another chat",
                Wait,
                A,
                Verb::Approve,
                |w| w.press.message = Some((chat(-9), 7)),
                Does::Nothing,
                |s| *s == Says::NotHere,
            ),
            ("no message", Wait, A, Verb::Approve, |w| w.press.message = None, Does::Nothing, |s| *s == Says::NotHere),
            (
                "another message",
                Wait,
                A,
                Verb::Approve,
                |w| w.press.message = Some((chat(CHAT), 8)),
                Does::Nothing,
                unknown,
            ),
            ("not ours", Wait, A, Verb::Approve, |w| w.press.data = "menu:1".into(), Does::Nothing, unknown),
            ("no row", Wait, A, Verb::Approve, |w| w.ask = None, Does::Nothing, unknown),
            ("deploy at an approval", Wait, A, Verb::Deploy, same, Does::Nothing, unknown),
            ("approve at a deploy", Wait, D, Verb::Approve, same, Does::Nothing, unknown),
            ("yes without the question", Wait, A, Verb::Yes, same, Does::Nothing, unknown),
            ("approve at the second question", Sure, A, Verb::Approve, same, Does::Nothing, unknown),
            ("any at a reason", Reason, A, Verb::Approve, same, Does::Nothing, unknown),
            ("stop that is off", Wait, A, Verb::Stop, |w| w.stop_on = false, Does::Nothing, unknown),
            ("yes with stop off", Sure, A, Verb::Yes, |w| w.stop_on = false, Does::Nothing, unknown),
            ("used", Wait, A, Verb::Approve, |w| w.ask.as_mut().unwrap().state = AskState::Used, Does::Nothing, stale),
            ("ended", Wait, A, Verb::Stop, |w| w.ask.as_mut().unwrap().state = AskState::Ended, Does::Nothing, stale),
            ("released", Wait, A, Verb::Approve, |w| w.task.as_mut().unwrap().waiting_for = None, Does::Nothing, stale),
            ("the next wait", Wait, A, Verb::Approve, |w| w.task.as_mut().unwrap().wait_no = 4, Does::Nothing, stale),
            ("another stay", Wait, A, Verb::Approve, |w| w.task.as_mut().unwrap().epoch += 1, Does::Nothing, stale),
            ("another attempt", Wait, D, Verb::Deploy, |w| w.task.as_mut().unwrap().attempt += 1, Does::Nothing, stale),
            (
                "being stopped",
                Wait,
                A,
                Verb::Reject,
                |w| w.task.as_mut().unwrap().stop_requested_at = Some(1),
                Does::Nothing,
                stale,
            ),
            ("task gone", Wait, A, Verb::Approve, |w| w.task = None, Does::Nothing, stale),
            ("busy", Wait, A, Verb::Approve, |w| w.busy = true, Does::Nothing, |s| *s == Says::Busy),
            ("stop of a busy one", Wait, A, Verb::Stop, |w| w.busy = true, Does::AskSure, done),
            (
                "new head",
                Wait,
                D,
                Verb::Deploy,
                |w| w.task.as_mut().unwrap().head_sha = None,
                Does::AskAgain,
                |s| *s == Says::HeadChanged,
            ),
            (
                "reject new head",
                Wait,
                D,
                Verb::Reject,
                |w| w.task.as_mut().unwrap().head_sha = None,
                Does::AskReason,
                done,
            ),
            (
                "first pressed",
                Wait,
                A,
                Verb::Approve,
                |w| {
                    let ask = w.ask.as_mut().unwrap();
                    (ask.chat, ask.message_id) = (None, None);
                },
                Does::Release(A),
                done,
            ),
            ("by name", Wait, A, Verb::Approve, |w| w.ours = Ours::Name("Ops_Room".into()), Does::Release(A), done),
            (
                "by another name",
                Wait,
                A,
                Verb::Approve,
                |w| w.ours = Ours::Name("other".into()),
                Does::Nothing,
                |s| *s == Says::NotHere,
            ),
        ];
        for (name, kind, waiting, verb, change, does, says) in table {
            let mut w = world(*kind, *waiting, *verb);
            change(&mut w);
            let judged = w.judged();
            assert_eq!(judged.does, *does, "{name}");
            assert!(says(&judged.says), "{name}: {:?}", judged.says);
        }
    }

    #[test]
    fn a_stale_answer_says_who_decided() {
        let mut w = world(AskKind::Wait, Waiting::Approval, Verb::Approve);
        let decided = Decided { what: Ending::Approved, by: Some("the board, bob".into()), at: 5 };
        let ask = w.ask.as_mut().unwrap();
        (ask.state, ask.decided) = (AskState::Ended, Some(decided.clone()));
        assert_eq!(w.judged().says, Says::Stale(Some(decided)));
    }

    #[test]
    fn only_the_same_users_own_reply_to_that_very_message_in_time_is_the_reason() {
        let said = || Said {
            from: ann(),
            chat: chat(CHAT),
            id: Some(9),
            reply_to: Some(7),
            text: "too\nlong\u{202e}".into(),
            borrowed: false,
        };
        type Change = fn(&mut Said, &mut World);
        let used = Heard::Reason("too\nlong".to_owned());
        let stale = Heard::Unused(Says::Stale(None));
        let (late, empty) = (Heard::Unused(Says::TooLate), Heard::Unused(Says::NoText));
        let table: &[(&str, Change, &Heard)] = &[
            ("the answer", |_, _| {}, &used),
            ("another decider", |s, _| s.from.id = 43, &Heard::Nothing),
            ("a bot", |s, _| s.from.is_bot = true, &Heard::Nothing),
            ("forwarded, or an anonymous administrator", |s, _| s.borrowed = true, &Heard::Nothing),
            ("no reply", |s, _| s.reply_to = None, &Heard::Nothing),
            ("a reply to another message", |s, _| s.reply_to = Some(8), &Heard::Nothing),
            ("another chat", |s, _| s.chat.id = -9, &Heard::Nothing),
            ("a picture", |s, _| s.text = " \n\u{202e}".into(), &empty),
            ("an alert's", |_, w| w.ask.as_mut().unwrap().kind = AskKind::Wait, &Heard::Nothing),
            ("a day later", |_, w| w.ask.as_mut().unwrap().asked_at = 2000 - REASON_MS - 1, &late),
            ("just in time", |_, w| w.ask.as_mut().unwrap().asked_at = 2000 - REASON_MS, &used),
            ("before it was asked", |_, w| w.ask.as_mut().unwrap().asked_at = 2001, &Heard::Nothing),
            ("decided", |_, w| w.task.as_mut().unwrap().waiting_for = None, &stale),
            ("used", |_, w| w.ask.as_mut().unwrap().state = AskState::Used, &stale),
            ("nobody asked", |_, w| w.ask = None, &Heard::Nothing),
        ];
        for (name, change, want) in table {
            let mut w = world(AskKind::Reason, Waiting::Approval, Verb::Reject);
            let mut said = said();
            change(&mut said, &mut w);
            assert_eq!(reason(&said, &w.facts()), **want, "{name}");
        }
        let w = world(AskKind::Reason, Waiting::Approval, Verb::Reject);
        let long = Said { text: "é".repeat(9000), ..said() };
        assert_eq!(reason(&long, &w.facts()), Heard::Reason("é".repeat(REASON_CHARS)));
    }

    #[test]
    fn a_removed_decider_decides_nothing() {
        let w = world(AskKind::Wait, Waiting::Approval, Verb::Approve);
        let facts = Facts { deciders: &[], ..w.facts() };
        assert_eq!(press(&w.press, &facts).does, Does::Stranger);
        assert_eq!(w.task.as_ref().unwrap().id, TaskId(w.ask.as_ref().unwrap().task.0));
    }
}
