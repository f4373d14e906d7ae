//! The sinks that are no chat: files, a real command, a real HTTP server (NTF-3).

use crate::adapter_notify::{START, Task, data, is_clean, told};
use crate::support::http::{Fault, Reply, Server, refused_url};
use orch::adapters::notify::{AlertMessage, Notifier, Webhook};
use orch::model::card::{AlertKind, Card, Delivered, Locale};
use orch::model::card_steps::CardMode;
use orch::model::stage::Stage;
use orch::render::card;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What a reply to a webhook leads to.
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
    let sink = Notifier::File { dir: dir.path().to_owned() };
    let mut task = Task { sink, mode: CardMode::Bump, stored: None, records: vec![], now: START };
    let path = dir.path().join("cards/ORCH-7.txt");
    for stage in [Stage::Analysis, Stage::Review] {
        is_clean(&task.show(&data(stage)));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim_end(), card::card(&data(stage), Locale::En).plain);
    }
    assert_eq!(task.records.len(), 2);
    is_clean(&told(&task.sink, false));
    is_clean(&told(&task.sink, false));
    let alerts = std::fs::read_to_string(dir.path().join("cards/alerts.txt")).unwrap();
    assert_eq!(alerts.matches("[alert/blocked/t7/1]").count(), 2);
    assert_eq!(std::fs::read_dir(dir.path().join("cards")).unwrap().count(), 2, "nothing half-written is left");
    let nowhere = Notifier::File { dir: path };
    assert!(matches!(told(&nowhere, false).delivered, Delivered::NotNow { .. }));
}

fn in_words(argv: Vec<String>) -> Notifier {
    Notifier::Command { argv, env: vec![], timeout: Duration::from_secs(60) }
}

fn script(dir: &std::path::Path, text: &str) -> Notifier {
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
    assert!(got["text"].as_str().unwrap().contains("may be a repeat"));

    let mut task = Task { sink, mode: CardMode::Bump, stored: None, records: vec![], now: START };
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
    let outcome = sink.deliver_alert(&message, start + Duration::from_millis(700));
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
    let sink = Notifier::Webhook(hook);
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
    assert!(matches!(told(&Notifier::Webhook(nobody), false).delivered, Delivered::NotNow { .. }));
}
