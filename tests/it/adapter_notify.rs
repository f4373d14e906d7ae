//! Cards and alerts against a strict Bot API, a real command and a real HTTP server (NTF-1 to NTF-3, RULE-41).

use crate::support::http::{Fault, Reply, refused_url};
use crate::support::telegram::{CHAT, Closed, Message, TOKEN, Telegram as Fake, parse_html, refuse};
use orch::adapters::notify::telegram::{Deletion, Text};
use orch::adapters::notify::{AlertMessage, CardMessage, Notifier, NotifyError, Outcome, Telegram, TelegramConfig};
use orch::model::card::{AlertData, AlertKind, Card, CardData, CardRun, CardRunState, Delivered, Locale};
use orch::model::card_steps::{CardMode, Shown, StoredCard};
use orch::model::ids::Key;
use orch::model::stage::{JobKind, Stage};
use orch::render::card::utf16_len;
use orch::render::{alert, card};
use serde_json::json;
use std::time::{Duration, Instant};

const HOUR: i64 = 3_600_000;
pub const START: i64 = 1_000_000;

fn client(base: &str, timeout: Duration) -> Telegram {
    let chat = CHAT.to_string();
    Telegram::new(&TelegramConfig { api_base: base, chat_id: &chat, thread_id: None, timeout }, TOKEN).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub fn data(stage: Stage) -> CardData {
    CardData {
        key: "ORCH-7".into(),
        url: Some("https://board/ORCH-7?a=1&b=2".into()),
        title: "Add <login> & \"more\" — Привет 🎉".into(),
        stage,
        stopped_stage: None,
        stages: Stage::ALL.to_vec(),
        attempt: 1,
        epoch: 1,
        running: true,
        inputs: vec![],
        asks: vec![],
        wait: vec![],
        pr_url: Some("http://forge/pr/1".into()),
        notes: vec![],
        runs: vec![],
        now_ms: START,
    }
}

/// One task's card, with what its row would contain.
pub struct Task {
    pub sink: Box<dyn Notifier>,
    pub mode: CardMode,
    pub stored: Option<StoredCard>,
    /// Everything recorded, in order.
    pub records: Vec<StoredCard>,
    pub now: i64,
}

impl Task {
    fn new(fake: &Fake, mode: CardMode) -> Self {
        let sink = Box::new(client(&fake.url(), Duration::from_secs(10)));
        Self { sink, mode, stored: None, records: vec![], now: START }
    }

    pub fn show(&mut self, data: &CardData) -> Outcome {
        let made = card::card(data, Locale::En);
        self.show_as(data, &made)
    }

    fn show_as(&mut self, data: &CardData, made: &Card) -> Outcome {
        let (placeholder, retired) = (card::placeholder(data, Locale::En), card::retired(data, Locale::En));
        let (key, shown) = (Key::parse(&data.key).unwrap(), Shown::of(data.stage, data.epoch, made));
        let message = CardMessage {
            id: "card/t7/1",
            key: &key,
            shown: &shown,
            card: made,
            placeholder: &placeholder,
            retired: &retired,
        };
        let mut records = vec![];
        let outcome = self
            .sink
            .card(self.stored.as_ref(), self.mode, &message, self.now, soon(), &mut |s| {
                records.push(s.clone());
                Ok(())
            })
            .unwrap();
        if let Some(last) = records.last() {
            self.stored = Some(last.clone());
        }
        self.records.extend(records);
        outcome
    }

    fn id(&self) -> i64 {
        self.stored.as_ref().unwrap().message_id
    }
}

pub fn is_clean(o: &Outcome) {
    let clean =
        Outcome { delivered: Delivered::Yes, strays: 0, sink_off: None, migrated_to: None, bugs: vec![], sent: None };
    assert_eq!(*o, Outcome { sent: o.sent, ..clean });
}

fn one(fake: &Fake) -> Message {
    let all = fake.chat();
    assert_eq!(all.len(), 1, "one card per task: {all:#?}");
    all.into_iter().next().unwrap()
}

#[test]
fn a_card_begins_as_a_recorded_line_and_is_then_filled() {
    let fake = Fake::start();
    let mut task = Task::new(&fake, CardMode::Bump);
    is_clean(&task.show(&data(Stage::Analysis)));
    assert_eq!(fake.methods(), ["sendMessage", "editMessageText"]);
    let sent = fake.take();
    assert_eq!((sent.len(), sent[0].text.as_str(), sent[0].silent), (1, "ORCH-7 …", true));
    assert_eq!(task.records[0].shown, None, "recorded before it is filled");
    assert!(task.records[1].shown.is_some());
    assert_eq!(one(&fake).text, card::card(&data(Stage::Analysis), Locale::En).plain);

    is_clean(&task.show(&data(Stage::Analysis)));
    assert_eq!(fake.methods().len(), 2, "the same text is not sent again");
}

#[test]
fn bump_replaces_at_a_stage_change_and_edits_in_between() {
    let fake = Fake::start();
    let mut task = Task::new(&fake, CardMode::Bump);
    task.show(&data(Stage::Analysis));
    let first = task.id();
    let detail = CardData { notes: vec!["a note".into()], ..data(Stage::Analysis) };
    is_clean(&task.show(&detail));
    assert_eq!((task.id(), one(&fake).edits), (first, 2));
    is_clean(&task.show(&data(Stage::Architecture)));
    assert_ne!(task.id(), first);
    assert!(one(&fake).text.contains("Architecture"));
    // After a rollback it is a new stay, though in the same stage.
    let before = task.id();
    task.show(&CardData { epoch: 4, ..data(Stage::Architecture) });
    assert_ne!(task.id(), before);
    assert_eq!(one(&fake).id, task.id());
    assert!(fake.take().iter().all(|m| m.silent), "card updates never ring");
}

#[test]
fn edit_mode_keeps_one_message() {
    let fake = Fake::start();
    let mut task = Task::new(&fake, CardMode::Edit);
    for stage in [Stage::Analysis, Stage::Architecture, Stage::Development, Stage::Done] {
        is_clean(&task.show(&data(stage)));
    }
    assert_eq!((fake.take().len(), one(&fake).edits), (1, 4));
}

#[test]
fn a_card_of_two_days_is_edited_to_one_line_and_continued() {
    for (age, known_to_be_old) in [(49 * HOUR, true), (46 * HOUR, false)] {
        let fake = Fake::start();
        let mut task = Task::new(&fake, CardMode::Bump);
        task.show(&data(Stage::Analysis));
        task.now += age;
        // In the second case the server's clock is ahead of ours.
        fake.set_clock(START + 49 * HOUR);
        is_clean(&task.show(&data(Stage::Architecture)));
        let texts: Vec<String> = fake.chat().into_iter().map(|m| m.text).collect();
        assert_eq!(texts.len(), 2);
        assert_eq!(texts[0], "ORCH-7: continued in a newer message");
        assert!(texts[1].contains("Architecture"));
        assert_eq!(fake.methods().contains(&"deleteMessage".to_owned()), !known_to_be_old);
        fake.take();
    }
}

#[test]
fn a_card_that_a_person_deleted_is_sent_again() {
    let fake = Fake::start();
    let mut task = Task::new(&fake, CardMode::Edit);
    task.show(&data(Stage::Analysis));
    fake.remove(task.id());
    is_clean(&task.show(&data(Stage::Architecture)));
    assert_eq!(one(&fake).id, task.id());
    // A card that exists but can't be edited is replaced.
    fake.freeze(task.id());
    is_clean(&task.show(&data(Stage::Development)));
    assert_eq!(one(&fake).id, task.id());
    // In bump mode a deleted one is no problem either.
    task.mode = CardMode::Bump;
    fake.remove(task.id());
    is_clean(&task.show(&data(Stage::Review)));
    assert_eq!(one(&fake).id, task.id());
    fake.take();
}

#[test]
fn a_delivery_cut_anywhere_is_finished_by_the_next_with_at_most_one_stray() {
    // A bump makes three calls; the n-th loses its reply after its effect, or has no effect.
    for method in ["deleteMessage", "sendMessage", "editMessageText"] {
        for fault in [Fault::CutAfterEffect, Fault::CutMidBody, Fault::TruncatedJson, Fault::Reset] {
            let fake = Fake::start();
            let mut task = Task::new(&fake, CardMode::Bump);
            task.show(&data(Stage::Analysis));
            fake.fault(method, fault.clone(), 1);
            let cut = task.show(&data(Stage::Architecture));
            let send = method == "sendMessage";
            assert_eq!(matches!(cut.delivered, Delivered::Unknown { .. }), send, "{method} {fault:?}: {cut:?}");
            assert_eq!(cut.strays, u32::from(send));
            assert!(send || matches!(cut.delivered, Delivered::NotNow { .. }));
            is_clean(&task.show(&data(Stage::Architecture)));
            let all = fake.chat();
            let strays = all.iter().filter(|m| m.id != task.id()).count();
            assert!(strays <= usize::from(send), "{method} {fault:?}: {all:#?}");
            let shown = all.iter().find(|m| m.id == task.id()).unwrap();
            assert!(shown.text.contains("Architecture"));
            assert!(all.iter().all(|m| m.id == task.id() || m.text == "ORCH-7 …"), "a stray is only a placeholder");
            fake.take();
        }
    }
}

#[test]
fn a_placeholder_that_can_not_be_recorded_is_taken_back() {
    let fake = Fake::start();
    let task = Task::new(&fake, CardMode::Bump);
    let (made, key) = (card::card(&data(Stage::Review), Locale::Ru), Key::parse("ORCH-7").unwrap());
    let shown = Shown::of(Stage::Review, 1, &made);
    let line = card::placeholder(&data(Stage::Review), Locale::Ru);
    let message = CardMessage { id: "x", key: &key, shown: &shown, card: &made, placeholder: &line, retired: &line };
    let full = task.sink.card(None, CardMode::Bump, &message, 0, soon(), &mut |_| anyhow::bail!("disk full"));
    assert_eq!(full.unwrap_err().to_string(), "disk full");
    assert!(fake.chat().is_empty());
    assert_eq!(fake.take().len(), 1);
}

#[test]
fn a_throttled_delivery_is_taken_up_where_it_stopped() {
    let fake = Fake::start();
    let mut task = Task::new(&fake, CardMode::Bump);
    fake.throttle(1, 37);
    assert_eq!(task.show(&data(Stage::Analysis)).delivered, Delivered::Throttled { retry_after_s: 37 });
    assert_eq!(task.stored, None);
    fake.fault("editMessageText", Fault::throttled(5), 1);
    assert_eq!(task.show(&data(Stage::Analysis)).delivered, Delivered::Throttled { retry_after_s: 5 });
    let placeholder = task.id();
    is_clean(&task.show(&data(Stage::Analysis)));
    assert_eq!((task.id(), one(&fake).id), (placeholder, placeholder));
    assert_eq!(fake.take().len(), 1);
}

#[test]
fn a_group_that_became_a_supergroup_is_followed_once_and_reported() {
    let fake = Fake::start();
    let mut task = Task::new(&fake, CardMode::Edit);
    task.show(&data(Stage::Analysis));
    fake.migrate(-100_999);
    let moved = task.show(&data(Stage::Architecture));
    assert_eq!((moved.delivered, moved.migrated_to), (Delivered::Yes, Some(-100_999)));
    let last = fake.chat().pop().unwrap();
    assert_eq!((last.chat, last.id), (-100_999, task.id()));
    assert!(last.text.contains("Architecture"));
    fake.take();

    let again = told(task.sink.as_ref(), false);
    assert_eq!((again.delivered, again.migrated_to), (Delivered::Yes, Some(-100_999)));
    assert_eq!(fake.take()[0].chat, -100_999);
    let lie = json!({"ok": false, "error_code": 400, "description": "moved", "parameters": {"migrate_to_chat_id": -5}});
    fake.fault("sendMessage", Fault::Answer(Reply::json(400, &lie)), 2);
    let circle = told(task.sink.as_ref(), false);
    assert!(matches!(circle.delivered, Delivered::NotNow { .. }), "never followed in a circle: {circle:?}");
}

#[test]
fn markup_that_is_refused_goes_as_plain_text_once_and_is_a_noted_bug() {
    let fake = Fake::start();
    let mut task = Task::new(&fake, CardMode::Edit);
    let broken = Card { html: "<b>no end & <x>".into(), plain: "no end & <x>".into() };
    let outcome = task.show_as(&data(Stage::Review), &broken);
    assert_eq!((outcome.delivered, outcome.bugs.len()), (Delivered::Yes, 1));
    let m = one(&fake);
    assert_eq!((m.text.as_str(), m.html), ("no end & <x>", false));
    fake.take();
    let message = AlertMessage {
        id: "a",
        kind: AlertKind::Blocked,
        key: None,
        first: &broken,
        repeat: &broken,
        unknown_before: false,
        buttons: &[],
    };
    let outcome = task.sink.alert(&message, soon());
    assert_eq!((outcome.delivered, outcome.bugs.len()), (Delivered::Yes, 1));
    assert_eq!(fake.take()[0].text, "no end & <x>");
}

#[test]
fn no_card_or_alert_is_ever_longer_than_the_service_takes() {
    let fake = Fake::start();
    let mut task = Task::new(&fake, CardMode::Edit);
    let run = |stage: Stage| CardRun {
        stage,
        kind: JobKind::Agent,
        agent: stage.agent(),
        attempt: i64::MAX,
        epoch: 1,
        state: CardRunState::Failed,
        started_at: 0,
        ended_at: None,
        cost_micros: Some(i64::MAX / 100),
        tokens_in: Some(i64::MAX),
        tokens_out: None,
        model: Some("🎉<&>\"".repeat(50)),
        effort: Some("&".repeat(500)),
    };
    for stage in Stage::ALL {
        for filler in ["&", "🎉", "<b>", "ы", "\u{0}\u{202e}", "\"'"] {
            let huge = CardData {
                title: filler.repeat(1500),
                url: Some(format!("https://b/{}", "&".repeat(480))),
                notes: vec![filler.repeat(200); 14],
                asks: vec![orch::model::card::Ask::Blocked(filler.repeat(700)); 6],
                runs: Stage::ALL.iter().map(|s| run(*s)).collect(),
                ..data(*stage)
            };
            for locale in Locale::ALL {
                let made = card::card(&huge, *locale);
                assert!(utf16_len(&made.html) <= card::BUDGET);
                let alerts = AlertData {
                    key: "ORCH-7".into(),
                    title: filler.repeat(999),
                    detail: filler.repeat(2000),
                    repeated: true,
                    ..AlertData::default()
                };
                let alert = alert::alert(AlertKind::Blocked, &alerts, *locale);
                for html in [&made.html, &alert.html] {
                    let parsed = parse_html(html).unwrap();
                    assert!((1..=4096).contains(&parsed.encode_utf16().count()));
                }
            }
            is_clean(&task.show(&huge));
        }
    }
    fake.take();
}

pub fn told(sink: &dyn Notifier, unknown_before: bool) -> Outcome {
    let data = AlertData { key: "ORCH-7".into(), title: "a <b>".into(), ..AlertData::default() };
    let text = |repeated| alert::alert(AlertKind::Blocked, &AlertData { repeated, ..data.clone() }, Locale::En);
    let (first, repeat) = (text(false), text(true));
    let key = Some("ORCH-7");
    let kind = AlertKind::Blocked;
    let message = AlertMessage {
        id: "alert/blocked/t7/1",
        kind,
        key,
        first: &first,
        repeat: &repeat,
        unknown_before,
        buttons: &[],
    };
    sink.alert(&message, soon())
}

#[test]
fn an_alert_rings_where_a_person_is_asked_and_a_repeat_says_so() {
    let fake = Fake::start();
    let sink = client(&fake.url(), Duration::from_secs(10));
    fake.fault("sendMessage", Fault::CutAfterEffect, 1);
    let cut = told(&sink, false);
    assert!(matches!(cut.delivered, Delivered::Unknown { .. }));
    assert_eq!(cut.strays, 1);
    is_clean(&told(&sink, true));
    let sent = fake.take();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|m| !m.silent && m.text.contains("a <b>")));
    assert!(!sent[0].text.contains("repeat") && sent[1].text.contains("may be a duplicate"));

    let quiet = alert::alert(AlertKind::Cancelled, &AlertData::default(), Locale::Ru);
    let kind = AlertKind::Cancelled;
    let message =
        AlertMessage { id: "q", kind, key: None, first: &quiet, repeat: &quiet, unknown_before: false, buttons: &[] };
    is_clean(&sink.alert(&message, soon()));
    assert!(fake.take()[0].silent);
}

#[test]
fn a_chat_that_takes_nothing_switches_the_sink_off() {
    for closed in [Closed::Blocked, Closed::Kicked, Closed::NotMember, Closed::Deactivated, Closed::NoChat] {
        let fake = Fake::start();
        let mut task = Task::new(&fake, CardMode::Bump);
        fake.close(Some(closed));
        for outcome in [task.show(&data(Stage::Review)), told(task.sink.as_ref(), false)] {
            assert!(matches!(outcome.delivered, Delivered::Refused { .. }), "{closed:?}: {outcome:?}");
            assert!(outcome.sink_off.is_some());
        }
    }
}

#[test]
fn a_wrong_token_is_reported_and_never_shown() {
    let fake = Fake::start();
    let config =
        TelegramConfig { api_base: &fake.url(), chat_id: "-100123", thread_id: None, timeout: Duration::from_secs(5) };
    let bot = Telegram::new(&config, "4242:WRONG_secret").unwrap();
    let e = bot.get_me().unwrap_err();
    assert!(matches!(e, NotifyError::WrongToken { .. }));
    let sink = bot;
    let outcome = told(&sink, false);
    assert!(outcome.sink_off.is_some());
    assert!(!format!("{e} {e:?} {outcome:?} {sink:?}").contains("secret"));
}

#[test]
fn doctor_learns_bot_and_membership() {
    let fake = Fake::start();
    let bot = client(&fake.url(), Duration::from_secs(5));
    let me = bot.get_me().unwrap();
    assert_eq!((me.id, me.username.as_str()), (4242, "orch_bot"));
    let member = bot.get_chat_member(&me).unwrap();
    assert_eq!((member.status.as_str(), member.can_send), ("administrator", true));
    fake.close(Some(Closed::Kicked));
    assert!(!bot.get_chat_member(&me).unwrap().can_send);
    fake.close(Some(Closed::NoChat));
    assert!(matches!(bot.get_chat_member(&me), Err(NotifyError::Permanent { .. })));
}

#[test]
fn the_primitives_give_what_the_table_says() {
    let fake = Fake::start();
    let bot = client(&fake.url(), Duration::from_secs(5));
    let id = bot.send(Text::Html("<b>x</b> &amp; y"), true).unwrap();
    bot.edit(id, Text::Html("<b>x</b> &amp; y")).expect("not modified is success");
    assert_eq!(bot.delete(id), Ok(Deletion::Deleted));
    assert_eq!(bot.delete(id), Ok(Deletion::Gone));
    assert!(matches!(bot.edit(id, Text::Plain("z")), Err(NotifyError::EditGone { .. })));
    assert!(matches!(bot.send(Text::Html("<p>x</p>"), true), Err(NotifyError::Unparsable { .. })));
    assert!(matches!(bot.send(Text::Html("<b><i>x</b></i>"), true), Err(NotifyError::Unparsable { .. })));
    assert!(matches!(bot.send(Text::Plain(&"x".repeat(4097)), true), Err(NotifyError::TooLong { .. })));
    assert!(matches!(bot.send(Text::Plain(&"x".repeat(40_000)), true), Err(NotifyError::TooLong { .. })));
    assert!(matches!(bot.send(Text::Plain(" \n"), true), Err(NotifyError::Invalid { .. })));
    bot.send(Text::Plain(&"🎉".repeat(2048)), true).unwrap();
    assert_eq!(fake.take().len(), 2);
    let topic = TelegramConfig {
        api_base: &fake.url(),
        chat_id: "-100123",
        thread_id: Some(9),
        timeout: Duration::from_secs(5),
    };
    Telegram::new(&topic, TOKEN).unwrap().send(Text::Plain("t"), false).unwrap();
    let m = fake.take().remove(0);
    assert_eq!((m.thread, m.silent, m.html), (Some(9), false, false));
}

/// How an edit and a send classify a fault.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// Unknown for a send; an edit repeats it.
    Lost,
    NotNow,
    Off,
    Throttled,
    Refused,
}

#[test]
fn every_fault_has_its_class_within_bounded_time() {
    let html = |status| Fault::Answer(Reply::html(status, &format!("<html>{TOKEN}</html>")));
    let rows: Vec<(Fault, Fate)> = vec![
        (Fault::Answer(refuse(401, "Unauthorized")), Fate::Off),
        (html(401), Fate::Off),
        (Fault::Answer(refuse(403, &format!("Forbidden: {TOKEN}"))), Fate::Off),
        (html(403), Fate::Off),
        (Fault::Answer(refuse(404, "Not Found")), Fate::Off),
        (html(404), Fate::Off),
        (Fault::Answer(refuse(409, "Conflict: terminated by other request")), Fate::NotNow),
        (html(413), Fate::Refused),
        (Fault::status(418), Fate::Refused),
        (Fault::throttled(9), Fate::Throttled),
        (html(429), Fate::Throttled),
        (Fault::status(500), Fate::Lost),
        (Fault::Answer(refuse(500, "Internal Server Error: restart")), Fate::Lost),
        (Fault::bad_gateway(), Fate::Lost),
        (html(503), Fate::Lost),
        (html(504), Fate::Lost),
        (html(200), Fate::Lost),
        (Fault::Answer(Reply::json(200, &json!({"ok": true}))), Fate::Lost),
        (Fault::Answer(Reply::json(200, &json!({"ok": true, "result": {"message_id": "7"}}))), Fate::Lost),
        (Fault::Answer(Reply::json(200, &json!([1, 2]))), Fate::Lost),
        (Fault::Redirect(format!("http://127.0.0.1:1/bot{TOKEN}/x")), Fate::Off),
        (Fault::Reset, Fate::Lost),
        (Fault::CutMidBody, Fate::Lost),
        (Fault::TruncatedJson, Fate::Lost),
        (Fault::CutAfterEffect, Fate::Lost),
        (Fault::Endless, Fate::Lost),
        (Fault::Hang, Fate::Lost),
        (Fault::SlowBytes, Fate::Lost),
    ];
    for (fault, want) in rows {
        let fake = Fake::start();
        let patient = client(&fake.url(), Duration::from_secs(10));
        let id = patient.send(Text::Plain("x"), true).unwrap();
        let slow = matches!(fault, Fault::Hang | Fault::SlowBytes | Fault::Endless);
        let bot = if slow { client(&fake.url(), Duration::from_millis(400)) } else { patient };
        let start = Instant::now();
        fake.fault("sendMessage", fault.clone(), 1);
        let sent = bot.send(Text::Plain("y"), true);
        fake.fault("editMessageText", fault.clone(), 1);
        let edited = bot.edit(id, Text::Plain("z"));
        assert!(start.elapsed() < Duration::from_secs(9), "{fault:?}");
        let sent = sent.unwrap_err();
        use NotifyError as E;
        let fits = match want {
            Fate::Lost => matches!(sent, E::UnknownOutcome { .. }),
            Fate::NotNow => matches!(sent, E::Transient { .. }),
            Fate::Off => matches!(sent, E::WrongToken { .. } | E::Permanent { .. } | E::WrongAddress { .. }),
            Fate::Throttled => matches!(sent, E::Throttled { .. }),
            Fate::Refused => matches!(sent, E::TooLong { .. } | E::Invalid { .. }),
        };
        assert!(fits, "{fault:?}: {sent:?}");
        match want {
            Fate::Lost => assert!(matches!(edited, Ok(()) | Err(E::Transient { .. })), "{fault:?}: {edited:?}"),
            _ => assert!(edited.is_err(), "{fault:?}"),
        }
        assert!(!format!("{sent} {sent:?} {edited:?}").contains("secret_token"), "{fault:?}: {sent:?}");
        fake.take();
    }
    let nobody = client(&refused_url(), Duration::from_secs(5)).send(Text::Plain("x"), true);
    assert!(matches!(nobody, Err(NotifyError::Transient { .. })), "{nobody:?}");
}

#[test]
fn with_no_time_left_nothing_is_begun() {
    let fake = Fake::start();
    let task = Task::new(&fake, CardMode::Bump);
    let text = Card { html: "x".into(), plain: "x".into() };
    let kind = AlertKind::Frozen;
    let message =
        AlertMessage { id: "a", kind, key: None, first: &text, repeat: &text, unknown_before: false, buttons: &[] };
    let outcome = task.sink.alert(&message, Instant::now());
    assert!(matches!(outcome.delivered, Delivered::NotNow { .. }));
    assert!(fake.methods().is_empty());
}
