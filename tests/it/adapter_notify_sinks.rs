//! The sinks other than chats: files, a real command, a real HTTP server (NTF-3).

use crate::adapter_notify::{START, Task, data, is_clean, told};
use crate::support::http::{Fault, Reply, Server, refused_url};
use crate::support::telegram;
use orch::adapters::notify::{
    AlertMessage, CardMessage, Files, Notifier, Outcome, Program, Telegram, TelegramConfig, Webhook,
};
use orch::model::card::{AlertKind, Card, Delivered, Locale};
use orch::model::card_steps::CardMode;
use orch::model::stage::Stage;
use orch::render::card;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The result of a reply to a webhook.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Lost,
    NotNow,
    Off,
    Throttled,
    Refused,
}

#[test]
fn the_file_sink_holds_the_plain_card_and_every_alert() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Box::new(Files { dir: dir.path().to_owned() });
    let mut task = Task { sink, mode: CardMode::Bump, stored: None, records: vec![], now: START };
    let path = dir.path().join("cards/ORCH-7.txt");
    for stage in [Stage::Analysis, Stage::Review] {
        is_clean(&task.show(&data(stage)));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim_end(), card::card(&data(stage), Locale::En).plain);
    }
    assert_eq!(task.records.len(), 2);
    is_clean(&told(task.sink.as_ref(), false));
    is_clean(&told(task.sink.as_ref(), false));
    let alerts = std::fs::read_to_string(dir.path().join("cards/alerts.txt")).unwrap();
    assert_eq!(alerts.matches("[alert/blocked/t7/1]").count(), 2);
    assert_eq!(std::fs::read_dir(dir.path().join("cards")).unwrap().count(), 2, "nothing half-written is left");
    let nowhere = Files { dir: path };
    assert!(matches!(told(&nowhere, false).delivered, Delivered::NotNow { .. }));
}

fn in_words(argv: Vec<String>) -> Program {
    Program { argv, env: vec![], timeout: Duration::from_secs(60) }
}

fn script(dir: &std::path::Path, text: &str) -> Program {
    let argv = ["/bin/sh", "-c", text, "notify", dir.to_str().unwrap()];
    in_words(argv.map(str::to_owned).to_vec())
}

#[test]
fn a_command_gets_json_and_its_exit_code_decides() {
    let dir = tempfile::tempdir().unwrap();
    let sink = script(dir.path(), "cat > \"$1/got.json\"");
    is_clean(&told(&sink, true));
    let got: Value = serde_json::from_slice(&std::fs::read(dir.path().join("got.json")).unwrap()).unwrap();
    assert_eq!((&got["kind"], &got["alert"], &got["key"]), (&json!("alert"), &json!("blocked"), &json!("ORCH-7")));
    assert_eq!(
        (&got["silent"], &got["repeated"], &got["id"]),
        (&json!(false), &json!(true), &json!("alert/blocked/t7/1"))
    );
    assert!(got["text"].as_str().unwrap().contains("may be a duplicate"));

    let mut task = Task { sink: Box::new(sink), mode: CardMode::Bump, stored: None, records: vec![], now: START };
    is_clean(&task.show(&data(Stage::Review)));
    let got: Value = serde_json::from_slice(&std::fs::read(dir.path().join("got.json")).unwrap()).unwrap();
    assert_eq!(got["text"], json!(card::card(&data(Stage::Review), Locale::En).plain));
    std::fs::remove_file(dir.path().join("got.json")).unwrap();
    is_clean(&task.show(&data(Stage::Review)));
    assert!(!dir.path().join("got.json").exists(), "the same card is not told twice");

    is_clean(&told(&script(dir.path(), "exit 0"), false));
    match told(&script(dir.path(), "echo oh no >&2; exit 3"), false).delivered {
        Delivered::NotNow { why } => assert!(why.contains("oh no"), "{why}"),
        other => panic!("{other:?}"),
    }
    let none = in_words(vec!["/nonexistent/program".into()]);
    assert!(told(&none, false).sink_off.is_some());
    assert!(told(&in_words(vec![]), false).sink_off.is_some());
}

#[test]
fn a_command_that_hangs_is_ended_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let sink = script(dir.path(), "sleep 600 & echo $! > \"$1/pid\"; sleep 600");
    let text = Card { html: "x".into(), plain: "x".into() };
    let kind = AlertKind::Frozen;
    let message =
        AlertMessage { id: "a", kind, key: None, first: &text, repeat: &text, unknown_before: false, buttons: &[] };
    let start = Instant::now();
    let outcome = sink.alert(&message, start + Duration::from_millis(700));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(matches!(outcome.delivered, Delivered::Unknown { .. }), "{outcome:?}");
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    let gone = Instant::now() + Duration::from_secs(10);
    let alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while alive() {
        assert!(Instant::now() < gone, "its child lives on");
        std::thread::yield_now();
    }
}

#[test]
fn a_webhook_gets_json_and_its_path_is_never_shown() {
    let server = Server::start(|_| Reply::json(204, &Value::Null));
    let hook = Webhook::new(&format!("{}/T000/SECRET/?x=1", server.url()), None, Duration::from_secs(5)).unwrap();
    let sink = hook;
    is_clean(&told(&sink, false));
    let seen = server.log().remove(0);
    assert_eq!((seen.line().as_str(), seen.query("x")), ("POST /T000/SECRET/", Some("1")));
    assert_eq!((&seen.json()["version"], &seen.json()["kind"]), (&json!(1), &json!("alert")));
    let rows = [
        (Fault::status(400), Fate::Refused),
        (Fault::status(401), Fate::Off),
        (Fault::status(403), Fate::Off),
        (Fault::status(404), Fate::Off),
        (Fault::status(409), Fate::NotNow),
        (Fault::status(413), Fate::Refused),
        (Fault::throttled(3), Fate::Throttled),
        (Fault::bad_gateway(), Fate::Lost),
        (Fault::CutAfterEffect, Fate::Lost),
        (Fault::Endless, Fate::Lost),
        (Fault::Redirect("http://127.0.0.1:1/T000/SECRET/?x=1".into()), Fate::Off),
        (Fault::Answer(Reply::json(400, &json!("no hook at /T000/SECRET/?x=1"))), Fate::Refused),
    ];
    for (fault, want) in rows {
        server.fault("POST", fault.clone(), 1);
        let outcome = told(&sink, false);
        let got = match &outcome.delivered {
            Delivered::Yes => panic!("{fault:?}"),
            Delivered::Throttled { .. } => Fate::Throttled,
            Delivered::NotNow { .. } => Fate::NotNow,
            Delivered::Unknown { .. } => Fate::Lost,
            Delivered::Refused { .. } if outcome.sink_off.is_some() => Fate::Off,
            Delivered::Refused { .. } => Fate::Refused,
        };
        assert_eq!(got, want, "{fault:?}: {outcome:?}");
        assert_eq!(outcome.strays, u32::from(got == Fate::Lost));
        assert!(!format!("{outcome:?} {sink:?}").contains("SECRET"), "{outcome:?}");
    }
    assert!(Webhook::new("not an address", None, Duration::from_secs(1)).is_err());
    let nobody = Webhook::new(&refused_url(), None, Duration::from_secs(2)).unwrap();
    assert!(matches!(told(&nobody, false).delivered, Delivered::NotNow { .. }));
}

/// A notifier of a fifth kind, for these tests only: it shows what a kind has to implement.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<String>>>);

impl Notifier for Memory {
    fn show(&self, message: &CardMessage<'_>, _: Instant) -> Outcome {
        self.0.lock().unwrap().push(message.card.plain.clone());
        Outcome::new(Delivered::Yes)
    }

    fn alert(&self, message: &AlertMessage<'_>, _: Instant) -> Outcome {
        self.0.lock().unwrap().push(message.text().plain.clone());
        Outcome::new(Delivered::Yes)
    }
}

/// Runs a test on every kind of sink: its name, the sink, and what it has received so far, as texts.
fn on_every_notifier(test: impl Fn(&str, Box<dyn Notifier>, &dyn Fn() -> Vec<String>)) {
    let dir = tempfile::tempdir().unwrap();
    let lines = |name: &str| {
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["text"].as_str().unwrap().to_owned()).collect()
    };
    test("file", Box::new(Files { dir: dir.path().to_owned() }), &|| {
        let read = |name: &str| std::fs::read_to_string(dir.path().join("cards").join(name)).ok();
        [read("ORCH-7.txt").map(|t| t.trim_end().to_owned()), read("alerts.txt")].into_iter().flatten().collect()
    });
    test("command", Box::new(script(dir.path(), "cat >> \"$1/got\"")), &|| lines("got"));
    let server = Server::start(|_| Reply::json(204, &Value::Null));
    let hook = Webhook::new(&server.url(), None, Duration::from_secs(5)).unwrap();
    test("webhook", Box::new(hook), &|| {
        server.log().iter().map(|seen| seen.json()["text"].as_str().unwrap().to_owned()).collect()
    });
    let fake = telegram::Telegram::start();
    let config =
        TelegramConfig { api_base: &fake.url(), chat_id: "-100123", thread_id: None, timeout: Duration::from_secs(10) };
    let chat = Telegram::new(&config, telegram::TOKEN).unwrap();
    test("telegram", Box::new(chat), &|| fake.chat().into_iter().map(|m| m.text).collect());
    fake.take();
    let memory = Memory::default();
    test("memory", Box::new(memory.clone()), &|| memory.0.lock().unwrap().clone());
}

#[test]
fn contract_a_card_is_shown_once_and_a_changed_one_again() {
    on_every_notifier(|name, sink, holds| {
        let mut task = Task { sink, mode: CardMode::Edit, stored: None, records: vec![], now: START };
        let plain = |stage| card::card(&data(stage), Locale::En).plain;
        is_clean(&task.show(&data(Stage::Analysis)));
        assert_eq!(holds(), [plain(Stage::Analysis)], "{name}");
        assert!(task.stored.as_ref().is_some_and(|s| s.shown.is_some()), "{name}: it is recorded");
        let records = task.records.len();
        is_clean(&task.show(&data(Stage::Analysis)));
        assert_eq!((holds().len(), task.records.len()), (1, records), "{name}: nothing is told twice");
        is_clean(&task.show(&data(Stage::Review)));
        assert_eq!(holds().last(), Some(&plain(Stage::Review)), "{name}");
    });
}

#[test]
fn contract_an_alert_after_an_unknown_outcome_says_that_it_may_be_a_repeat() {
    on_every_notifier(|name, sink, holds| {
        is_clean(&told(sink.as_ref(), false));
        let first = holds().concat();
        assert!(first.contains("a <b>") && !first.contains("may be a duplicate"), "{name}: {first}");
        is_clean(&told(sink.as_ref(), true));
        assert!(holds().concat().contains("may be a duplicate"), "{name}");
        assert_eq!(sink.chat().is_some(), name == "telegram", "{name}");
    });
}
