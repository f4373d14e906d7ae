//! People decide by buttons in the chat (ORD-5): the strict fake sends what the service sends, real steps read it.

use crate::support::house::{House, Plan};
use crate::support::telegram::{CHAT, Message, TOKEN, Telegram, person};
use serde_json::{Value, json};

const ANN: i64 = 42;
const BOB: i64 = 43;
const EVE: i64 = 66;

fn house(chat: &Telegram) -> House {
    chat.readable();
    let plan = Plan::with_analysis().top(format!(
        "notify: {{telegram: {{api_base: \"{}\", token: {{env: BOT}}, chat_id: \"{CHAT}\", mode: edit, deciders: [{ANN}, {BOB}]}}}}",
        chat.url()
    ));
    let mut house = House::new(&plan);
    house.env.push(("BOT".into(), TOKEN.into()));
    house
}

/// Waits until the task waits, everything is sent, and nothing runs.
fn until_asked(house: &House) {
    house.until_task("ORCH-1", "waits", |t| t.waiting_for.is_some());
    house.delivered();
}

/// The newest message with buttons.
fn question(chat: &Telegram) -> Message {
    chat.chat().into_iter().rfind(|m| !m.buttons.is_empty()).expect("a message with buttons")
}

fn message(chat: &Telegram, id: i64) -> Message {
    chat.chat().into_iter().find(|m| m.id == id).unwrap()
}

fn waits(house: &House) -> bool {
    house.task("ORCH-1").unwrap().waiting_for.is_some()
}

fn read_count(chat: &Telegram) -> usize {
    chat.methods().iter().filter(|m| *m == "getUpdates").count()
}

#[test]
fn ord_5_only_a_decider_decides_and_each_press_is_answered() {
    let chat = Telegram::start();
    let house = house(&chat);
    house.orch(&["tick"]).fine();
    assert_eq!(read_count(&chat), 0, "nothing is asked: tick reads nothing");
    house.reconcile().fine();
    assert_eq!(read_count(&chat), 1, "reconcile reads each time");
    house.item("Greet");
    house.tick().fine();
    until_asked(&house);
    let asked = question(&chat);
    let texts: Vec<&str> = asked.buttons.iter().map(|b| b.0.as_str()).collect();
    assert_eq!(texts, ["Approve", "Reject", "Stop"]);
    let nonce = asked.button("approve").split(':').nth(1).unwrap().to_owned();
    assert!(house.table("asks").texts("nonce_hash").iter().all(|h| h.len() == 64 && !h.contains(&nonce)));
    let kept: Vec<String> =
        house.table("outbox").texts("payload").into_iter().chain(house.table("audit").texts("detail")).collect();
    assert!(kept.iter().all(|t| !t.contains(&nonce)), "the nonce is stored hashed only");

    // Strangers, bots, other chats, other data, nonsense: none of it decides, all of it is answered, and nothing blocks
    // the queue.
    let eve = chat.press(EVE, &asked, "approve");
    let again = chat.press(EVE, &asked, "stop");
    let tampered: [fn(&mut Value); 6] = [
        |q| q["from"]["is_bot"] = json!(true),
        |q| q["message"]["chat"]["id"] = json!(-7),
        |q| q["message"]["message_id"] = json!(77),
        |q| q["data"] = json!("menu:approve"),
        |q| q["data"] = json!("o1:00000000000000000000000000000000:approve"),
        |q| q["message"] = Value::Null,
    ];
    let mut presses = Vec::new();
    for change in tampered {
        let (press, mut what) = chat.pressed(ANN, asked.id, &asked.button("approve"));
        change(&mut what["callback_query"]);
        chat.update(what);
        presses.push(press);
    }
    let huge = "x".repeat(700_000);
    for nonsense in [
        json!({"callback_query": {"id": 5, "from": "me"}}),
        json!({"message": {"text": huge, "from": person(ANN), "chat": {"id": CHAT}}}),
        json!({"poll": {"id": huge}}),
        json!({"message": {"from": [], "chat": {}, "reply_to_message": 7}}),
        chat.reply(ANN, asked.id, "approve"),
    ] {
        chat.update(nonsense);
    }
    house.tick().fine();
    assert!(waits(&house), "nothing of this decides");
    assert_eq!(chat.answered(&eve), "you may not decide here");
    assert_eq!(chat.answered(&again), "you may not decide here");
    assert_eq!(chat.unanswered(), Vec::<String>::new());
    assert_eq!(chat.answered(&presses[3]), "this button is unknown here");
    let strangers = house.events("stranger_refused");
    // A bot with a decider's number is a stranger, too.
    assert_eq!(strangers.iter().filter(|e| e["by"]["user"] == "66").count(), 1, "{strangers:#?}");
    house.tick().fine();
    assert_eq!(house.table("chat_updates").len(), 13, "each is applied once");

    // A reply by somebody else, or to another message, is no reason; the same user's is.
    let press = chat.press(ANN, &asked, "reject");
    house.tick().fine();
    assert_eq!(chat.answered(&press), "Reply to the next message with the reason");
    let why = chat.chat().into_iter().find(|m| m.force_reply).unwrap();
    assert_eq!((why.reply_to, why.raw.contains("tg://user?id=42")), (Some(asked.id), true));
    chat.update(chat.reply(EVE, why.id, "mine"));
    chat.update(chat.reply(BOB, why.id, "mine"));
    chat.update(chat.reply(ANN, asked.id, "mine"));
    let mut forwarded = chat.reply(ANN, why.id, "mine");
    forwarded["message"]["forward_origin"] = json!({"type": "user"});
    chat.update(forwarded);
    house.tick().fine();
    assert!(waits(&house) && house.events("rejected").is_empty(), "until then the wait is as it was");
    let reply = chat.reply(ANN, why.id, "say <hello> to \u{202e}all");
    let id = chat.update(reply.clone());
    house.tick().fine();
    let rejected = house.events("rejected");
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0]["by"], json!({"via": "telegram", "user": "42"}));
    assert_eq!(rejected[0]["why"], "say <hello> to all");
    assert!(
        message(&chat, asked.id).buttons.is_empty()
            && message(&chat, asked.id).text.contains("Rejected by User42 (Telegram, 42)")
    );

    // The question is asked again, with other buttons; the old ones and the repeated update do nothing.
    until_asked(&house);
    let second = question(&chat);
    assert_ne!(second.id, asked.id);
    chat.update_again(id, reply);
    let (stale, what) = chat.pressed(ANN, asked.id, &asked.button("approve"));
    chat.update(what);
    house.tick().fine();
    assert!(waits(&house) && house.events("rejected").len() == 1);
    assert!(
        chat.answered(&stale).starts_with("already decided by User42 (Telegram, 42) at "),
        "{}",
        chat.answered(&stale)
    );

    // An answer from elsewhere removes the buttons as well, and a reason that arrives after it is answered.
    chat.press(ANN, &second, "reject");
    house.tick().fine();
    let why = chat.chat().into_iter().rfind(|m| m.force_reply).unwrap();
    house.orch(&["advance", "ORCH-1", "--approve"]).fine();
    let shown = message(&chat, second.id);
    assert!(shown.buttons.is_empty() && shown.text.contains("Approved by the command line"), "{}", shown.text);
    until_asked(&house);
    let deploy = question(&chat);
    let (late, what) = chat.pressed(BOB, second.id, &second.button("approve"));
    chat.update(what);
    // The branch gets new head: Confirm Deploy is stale, and asked again.
    house.table("asks").with("state", "open").put("head", "a".repeat(40));
    let moved = chat.press(BOB, &deploy, "deploy");
    chat.update(chat.reply(ANN, why.id, "not like this"));
    house.tick().fine();
    let said = chat.chat().into_iter().find(|m| m.text.contains("is not rejected")).unwrap();
    assert!(
        said.text.starts_with("ORCH-1 is not rejected: already decided by the command line, uid "),
        "{}",
        said.text
    );
    assert_eq!(house.events("rejected").len(), 1);
    assert!(chat.answered(&late).starts_with("already decided by the command line"), "{}", chat.answered(&late));
    assert!(chat.answered(&moved).contains("another head"), "{}", chat.answered(&moved));
    assert!(waits(&house) && message(&chat, deploy.id).buttons.is_empty());
    let fresh = question(&chat);
    assert_ne!(fresh.id, deploy.id);
    let done = chat.press(BOB, &fresh, "deploy");
    house.tick().fine();
    house.until_task("ORCH-1", "is done", |t| t.stage.as_str() == "done");
    assert_eq!(chat.answered(&done), "Done");
    let released = house.events("released");
    assert_eq!(released.last().unwrap()["by"], json!({"via": "telegram", "user": "43"}));
    assert!(message(&chat, fresh.id).text.contains("Deploy confirmed by User43 (Telegram, 43)"));
    assert!(chat.chat().iter().all(|m| m.buttons.is_empty()));
    let before = read_count(&chat);
    house.tick().fine();
    assert_eq!(read_count(&chat), before, "nothing is asked any more");
    assert_eq!(house.meta("outbox/bugs"), None);
    chat.take();
}

#[test]
fn ord_5_stop_asks_once_more_and_another_reader_is_named() {
    let chat = Telegram::start();
    let house = house(&chat);
    house.item("Greet");
    house.tick().fine();
    until_asked(&house);
    let asked = question(&chat);
    chat.press(ANN, &asked, "stop");
    house.tick().fine();
    let sure = question(&chat);
    assert!(sure.id != asked.id && sure.reply_to == Some(asked.id) && sure.text.contains("Stop ORCH-1?"), "{sure:#?}");
    assert!(waits(&house), "one press stops nothing");
    let no = chat.press(BOB, &sure, "no");
    house.tick().fine();
    assert_eq!(chat.answered(&no), "Not stopped");
    assert!(
        waits(&house) && message(&chat, sure.id).buttons.is_empty() && !message(&chat, asked.id).buttons.is_empty()
    );

    // Another program reads this bot's updates: it is reported, holds up nothing else, and its end is noticed.
    chat.other_reader(true);
    house.tick().fine();
    let status = house.orch(&["status"]).fine().json;
    let off = &status["outbox"]["sinks_off"][0];
    assert_eq!(off["sink"], "telegram answers", "{status}");
    assert!(off["why"].as_str().unwrap().contains("one bot serves one installation"), "{off}");
    let doctor = house.text(&["doctor"]);
    assert!(doctor.1.contains("one bot serves one installation"), "{} {}", doctor.1, doctor.2);
    let reads = read_count(&chat);
    house.tick().fine();
    assert_eq!(read_count(&chat), reads, "and it is not asked at every step");
    chat.other_reader(false);
    house.table("meta").with("key", "sink/telegram/answers").put("value/tried", 0);

    // The group becomes a supergroup: open questions are asked there.
    chat.press(ANN, &asked, "stop");
    chat.migrate(-100_777);
    house.tick().fine();
    let there = |text: &str| chat.chat().into_iter().rfind(|m| m.chat == -100_777 && m.text.contains(text));
    let again = there("Approval wanted").expect("asked again");
    assert_eq!(again.buttons.len(), 3, "{again:#?}");
    // The second question again, and yes. A crash after the update was applied delivers it once more.
    let sure = there("Stop ORCH-1?").expect("the second question");
    let (yes, what) = chat.pressed(ANN, sure.id, &sure.button("yes"));
    let id = chat.update(what.clone());
    house.tick().fine();
    house.until_task("ORCH-1", "is cancelled", |t| t.stage.as_str() == "cancelled");
    assert_eq!(chat.answered(&yes), "Done");
    let stops = house.events("stop_requested");
    assert_eq!((stops.len(), &stops[0]["by"]), (1, &json!({"via": "telegram", "user": "42"})));
    chat.update_again(id, what);
    house.reconcile().fine();
    assert_eq!(house.events("stop_requested").len(), 1);
    let status = house.orch(&["status"]).fine().json;
    assert_eq!(status["outbox"]["sinks_off"], json!([]), "{status}");
    let now = message(&chat, again.id);
    assert!(now.text.contains("Stopped by User42") && now.buttons.is_empty(), "{now:#?}");
    assert!(message(&chat, sure.id).buttons.is_empty());
    chat.take();
}
