//! Telegram in the whole binary (NTF-1 to NTF-3, RULE-41): the strict fake receives what real steps send.

use crate::support::house::{House, Plan};
use crate::support::http::Fault;
use crate::support::telegram::{CHAT, Closed, TOKEN, Telegram};

fn house(chat: &Telegram, further: &str) -> House {
    let plan = Plan::with_analysis().top(format!(
        "notify: {{{further}telegram: {{api_base: \"{}\", token: {{env: BOT}}, chat_id: \"{CHAT}\", mode: bump}}}}",
        chat.url()
    ));
    let mut house = House::new(&plan);
    house.env.push(("BOT".into(), TOKEN.into()));
    house
}

/// Starts a task and waits until it asks for approval and everything is sent.
fn until_asked(house: &House) {
    house.item("Greet <people> & \"friends\"");
    house.tick().fine();
    house.until_task("ORCH-1", "waits", |t| t.waiting_for.is_some());
    house.delivered();
}

#[test]
fn one_card_follows_its_task_and_a_person_is_asked_once() {
    let chat = Telegram::start();
    let house = house(&chat, "locale: ru, ");
    until_asked(&house);
    let messages = chat.chat();
    let alerts: Vec<_> = messages.iter().filter(|m| !m.silent).collect();
    let cards: Vec<_> = messages.iter().filter(|m| m.silent).collect();
    assert_eq!((cards.len(), alerts.len()), (1, 1), "{messages:#?}");
    assert!(cards[0].text.contains("ORCH-1") && cards[0].text.contains("Greet <people> & \"friends\""));
    assert!(cards[0].text.chars().any(|c| ('а'..='я').contains(&c)), "the locale is ru: {}", cards[0].text);
    assert!(alerts[0].text.contains("ORCH-1"));
    let file = std::fs::read_to_string(house.path("state/cards/ORCH-1.txt")).unwrap();
    assert_eq!(file.trim(), cards[0].text.trim(), "the file shows what the chat shows");
    chat.take();
    // Nothing changed: nothing is sent, by however many steps.
    for _ in 0..3 {
        house.tick().fine();
        house.orch(&["reap"]).fine();
    }
    assert_eq!(chat.take(), []);
    house.orch(&["advance", "ORCH-1", "--approve"]).fine();
    house.until_task("ORCH-1", "waits for the deploy", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    house.delivered();
    let messages = chat.chat();
    assert_eq!(messages.iter().filter(|m| m.silent).count(), 1, "bumped, not multiplied: {messages:#?}");
    house.orch(&["advance", "ORCH-1", "--confirm-deploy"]).fine();
    house.until_task("ORCH-1", "is done", |t| t.stage.as_str() == "done");
    house.delivered();
    let card = chat.chat().into_iter().find(|m| m.silent).unwrap();
    assert!(card.text.contains('✅'), "{}", card.text);
    assert_eq!(house.meta("outbox/bugs"), None);
    assert!(house.table("outbox").lines(&["payload", "last_error"]).iter().all(|t| !t.contains("secret")));
    chat.take();
}

#[test]
fn ord_5_a_refusing_chat_is_retried_and_gets_the_pending_messages() {
    let chat = Telegram::start();
    let house = house(&chat, "");
    chat.close(Some(Closed::Kicked));
    until_asked(&house);
    let asked = chat.methods().len();
    assert!(asked >= 1);
    assert!(house.path("state/cards/ORCH-1.txt").exists());
    let alerts_file = std::fs::read_to_string(house.path("state/cards/alerts.txt")).unwrap();
    assert!(alerts_file.contains("ORCH-1"), "the alert went to the file: {alerts_file}");
    assert!(alerts_file.contains("kicked"), "and that the sink is off: {alerts_file}");
    chat.close(None);
    house.orch(&["advance", "ORCH-1", "--approve"]).fine();
    house.until_task("ORCH-1", "goes on", |t| t.stage.as_str() == "deploy");
    house.delivered();
    assert_eq!(chat.methods().len(), asked, "within 15 minutes it is not asked again");
    assert!(!house.table("outbox").with("state", "parked").with("sink", "alert").is_empty());
    let status = house.orch(&["status"]).fine().json;
    assert_eq!(status["outbox"]["sinks_off"][0]["sink"], "telegram", "{status}");
    assert!(house.text(&["status"]).1.contains("telegram refuses"));
    // A quarter of an hour later it is tried again, without a change of its configuration.
    house.table("meta").like("key", concat!("sink/", "telegram/")).shift("value/tried", -900_000);
    house.orch(&["advance", "ORCH-1", "--confirm-deploy"]).fine();
    house.until("all is told", || {
        house.tick();
        house.table("outbox").among("state", &["open", "parked"]).is_empty().then_some(())
    });
    let sent = chat.take();
    assert!(sent.iter().any(|m| m.text.contains("ORCH-1") && !m.silent), "{sent:#?}");
    let status = house.orch(&["status"]).fine().json;
    assert_eq!(status["outbox"]["sinks_off"], serde_json::json!([]), "{status}");
}

#[test]
fn a_throttle_is_kept_on_disk_and_obeyed_by_every_process() {
    let chat = Telegram::start();
    let house = house(&chat, "");
    // The card's placeholder is the first send; the alert's the second.
    chat.throttle(1, 3600);
    until_started(&house);
    assert_eq!(chat.methods().len(), 1, "one request told to wait, and every process obeys");
    let wait: i64 = house.meta("sink/telegram/wait").unwrap().parse().unwrap();
    assert!(wait > 0);
}

/// Waits for the question; the messages stay open.
fn until_started(house: &House) {
    house.item("Greet");
    house.tick().fine();
    house.until_task("ORCH-1", "waits", |t| t.waiting_for.is_some());
    house.tick().fine();
}

#[test]
fn a_group_that_became_a_supergroup_is_followed_and_remembered() {
    let chat = Telegram::start();
    let house = house(&chat, "");
    until_asked(&house);
    chat.take();
    chat.migrate(-100_777);
    house.orch(&["advance", "ORCH-1", "--approve"]).fine();
    house.until_task("ORCH-1", "waits for the deploy", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    house.delivered();
    let sent = chat.take();
    assert!(sent.iter().all(|m| m.chat == -100_777), "{sent:#?}");
    let there: Vec<_> = chat.chat().into_iter().filter(|m| m.chat == -100_777 && m.silent).collect();
    assert_eq!(there.len(), 1, "one card in the new chat: {there:#?}");
    assert!(house.meta("sink/telegram/moved").unwrap().contains("-100777"));
    let before = chat.methods().len();
    house.orch(&["advance", "ORCH-1", "--confirm-deploy"]).fine();
    house.until_task("ORCH-1", "is done", |t| t.stage.as_str() == "done");
    let later = &chat.server.log()[before..];
    assert!(later.iter().all(|s| s.json()["chat_id"] == -100_777), "the old chat is not asked again");
    chat.take();
}

/// Everything is sent, however often it had to wait.
fn until_alerted(house: &House) {
    house.delivered();
}

#[test]
fn rule_41_an_alert_of_unknown_outcome_is_repeated_once_and_says_so() {
    let chat = Telegram::start();
    let house = house(&chat, "");
    house.item("Greet");
    house.tick().fine();
    house.until_task("ORCH-1", "waits", |t| t.waiting_for.is_some());
    until_alerted(&house);
    chat.take();
    chat.fault("sendMessage", Fault::CutAfterEffect, 2);
    house.orch(&["freeze", "demo", "--reason", "the database moves"]).fine();
    let open = house.table("outbox").with("state", "open").with("sink", "alert").texts("unknown_outcome");
    assert_eq!(open, ["1"], "it may have arrived");
    let first = chat.take();
    assert_eq!(first.len(), 1, "it has");
    house.messages_are_due();
    house.tick().fine();
    let second = chat.take();
    assert_eq!(second.len(), 1);
    assert_ne!(first[0].text, second[0].text, "the repeat says so");
    assert!(second[0].text.contains("the database moves"));
    house.messages_are_due();
    house.tick().fine();
    assert_eq!(chat.take().len(), 0, "and no third time");
    assert_eq!(house.meta("outbox/strays").as_deref(), Some("2"));
    // The cause has a number: another freeze is another alert.
    house.orch(&["unfreeze", "demo"]).fine();
    house.orch(&["freeze", "demo", "--reason", "the database moves"]).fine();
    assert_eq!(chat.take().len(), 1);
}

#[test]
fn rule_41_a_placeholder_of_unknown_outcome_is_the_only_orphan() {
    let chat = Telegram::start();
    let house = house(&chat, "");
    house.item("Greet");
    chat.fault("sendMessage", Fault::CutAfterEffect, 1);
    house.tick().fine();
    house.until_task("ORCH-1", "waits", |t| t.waiting_for.is_some());
    until_alerted(&house);
    let cards: Vec<_> = chat.chat().into_iter().filter(|m| m.silent).collect();
    assert!(cards.len() <= 2, "at most one too many: {cards:#?}");
    assert_eq!(cards.iter().filter(|m| m.text.contains("Greet") && m.edits > 0).count(), 1, "one card that follows");
    assert_eq!(house.meta("outbox/strays").as_deref(), Some("1"), "and it is counted");
    chat.take();
}

#[test]
fn rule_41_a_card_older_than_two_days_is_edited_to_one_line() {
    const HOURS_49: i64 = 49 * 3_600_000;
    let chat = Telegram::start();
    let house = house(&chat, "");
    house.item("Greet");
    house.tick().fine();
    house.until_task("ORCH-1", "waits", |t| t.waiting_for.is_some());
    until_alerted(&house);
    chat.take();
    let old = chat.chat().into_iter().find(|m| m.silent).unwrap();
    house.table("cards").shift("sent_at", -HOURS_49);
    chat.set_clock(1_000_000 + HOURS_49);
    house.orch(&["advance", "ORCH-1", "--approve"]).fine();
    house.until_task("ORCH-1", "waits for the deploy", |t| t.stage.as_str() == "deploy" && t.waiting_for.is_some());
    until_alerted(&house);
    let now = chat.chat();
    let kept = now.iter().find(|m| m.id == old.id).expect("it can't be deleted");
    assert!(!kept.text.trim().contains('\n') && kept.text != old.text, "{}", kept.text);
    assert_eq!(now.iter().filter(|m| m.silent && m.id != old.id).count(), 1, "{now:#?}");
    chat.take();
}

#[test]
fn rule_41_only_the_oldest_open_message_of_a_task_and_sink_goes() {
    let chat = Telegram::start();
    let house = house(&chat, "");
    house.item("Greet");
    house.tick().fine();
    house.until_task("ORCH-1", "waits", |t| t.waiting_for.is_some());
    until_alerted(&house);
    chat.take();
    chat.fault("sendMessage", Fault::bad_gateway(), 1);
    house.orch(&["freeze", "demo", "--reason", "first"]).fine();
    house.orch(&["unfreeze", "demo"]).fine();
    house.orch(&["freeze", "demo", "--reason", "second"]).fine();
    assert_eq!(chat.take().len(), 0, "the second waits for the first");
    house.messages_are_due();
    house.tick().fine();
    let alerts_file: Vec<String> = chat.take().into_iter().map(|m| m.text).collect();
    assert_eq!(alerts_file.len(), 2);
    assert!(alerts_file[0].contains("first") && alerts_file[1].contains("second"), "{alerts_file:?}");
}
