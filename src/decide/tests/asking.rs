//! RULE-43, explored: a person's answer on the board among everything that can happen to the question. The indication
//! is delivered, refused, superseded, its reply lost, its sender killed; the asking status is set by a person or by a
//! reconcile, observed late or out of order; answers are given early, twice, or by the command line. Observations and
//! intents are judged by the product's own `sight`, `asks` and `means`; the truth is kept separately, in [`Truth`].

use super::deep;
use crate::decide::board::{ItemState, Known, Seen, Sight, Source, Unused, Use, asks, means, sight};
use crate::decide::gates::testing;
use crate::model::board::Intent;
use crate::model::stage::Stage;
use crate::model::task::{Task, Wait, Waiting};
use std::collections::HashMap;

/// What a work item shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum On {
    Other,
    Asking,
    Approved,
    Confirm,
    Stop,
}

/// What a status that a person set should do, by the state when it was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Truth {
    wait: u8,
    /// The asking status had been on the item in that wait.
    shown_status: bool,
    /// And `orch` knew it, from a read or from the board's answer to its own write.
    known: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Item {
    on: On,
    set: Option<Truth>,
}

/// A list that was read and is not recorded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Read {
    before: Option<Wait>,
    /// `None`: the waits were read, the board has not answered.
    item: Option<Item>,
    /// The item changed since, by a person or by `orch` itself, and something newer was recorded.
    moved: bool,
    ours: bool,
    behind: bool,
}

/// The indication's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Message {
    None,
    Open,
    /// Its sender has read the item and is about to write.
    Sending {
        expect: On,
        to: On,
        before: Option<Wait>,
    },
    /// The board has accepted it, and nobody has recorded it.
    Taken {
        to: On,
        before: Option<Wait>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    waiting: bool,
    over: bool,
    wait: u8,
    asked: bool,
    /// The truth about the present wait.
    shown_status: bool,
    known: bool,
    item: Item,
    row: On,
    intents: Vec<(Intent, Option<u8>, Option<Truth>)>,
    message: Message,
    read: Option<Read>,
    acts: u8,
}

struct Setting {
    waiting: Waiting,
    source: Source,
    /// The board has no status of its own to ask with: the asking status also means the work before it.
    fallback: bool,
}

impl Setting {
    fn answer(&self) -> On {
        if self.waiting == Waiting::Approval { On::Approved } else { On::Confirm }
    }

    fn stage(&self) -> Stage {
        if self.waiting == Waiting::Approval { Stage::Analysis } else { Stage::Deploy }
    }
}

fn intent(on: On) -> Option<Intent> {
    match on {
        On::Other | On::Asking => None,
        On::Approved => Some(Intent::Approved),
        On::Confirm => Some(Intent::ConfirmDeploy),
        On::Stop => Some(Intent::Stop),
    }
}

fn word(on: On) -> &'static str {
    match on {
        On::Other => "other",
        On::Asking => "asking",
        On::Approved => "approved",
        On::Confirm => "confirm",
        On::Stop => "stop",
    }
}

impl World {
    fn task(&self, s: &Setting) -> Task {
        Task {
            waiting_for: self.waiting.then_some(s.waiting),
            wait_no: i64::from(self.wait),
            asked_at: self.asked.then_some(1),
            ..testing::task(1, s.stage())
        }
    }

    fn wait(&self) -> Option<Wait> {
        self.waiting.then_some(Wait { no: i64::from(self.wait), asked: self.asked })
    }

    fn wanted(&self, s: &Setting) -> On {
        if self.waiting || (s.fallback && !self.over) { On::Asking } else { On::Other }
    }

    /// The board changes; whoever read it before has an old page.
    fn put(&mut self, item: Item, ours: bool) {
        self.item = item;
        if let Some(read) = self.read.as_mut().filter(|r| r.item.is_some()) {
            read.moved = true;
            read.ours |= ours;
        }
        self.check_asked();
    }

    /// The truth: the asking status is on the item in this wait.
    fn check_asked(&mut self) {
        self.shown_status |= self.waiting && self.item.on == On::Asking;
    }

    /// As `engine::boards::one`; whether it is recorded.
    fn observe(&mut self, s: &Setting, item: Item, before: Option<Wait>, behind: bool) -> bool {
        let known = Known { status: word(self.row), updated_ms: 5, written_ms: 5 };
        let (task, now) = (self.task(s), self.wait());
        let updated_ms = if behind { 4 } else { 5 };
        let means = intent(item.on);
        let seen = Seen { status: word(item.on), updated_ms, means, source: s.source, before, now };
        let intent = match sight(Some(known), &seen) {
            Sight::Older => return true,
            Sight::Unclear => return false,
            Sight::Recorded { intent } => intent,
        };
        if let Some(kind) = intent {
            let answers = task.wait().filter(|w| w.asked).map(|w| u8::try_from(w.no).unwrap());
            self.intents.push((kind, answers, item.set));
        }
        self.row = item.on;
        self.ask(s, item.on, before);
        // In the product every later page is newer than this one.
        if let Some(read) = self.read.as_mut().filter(|r| r.moved) {
            read.behind |= s.source == Source::Server;
        }
        true
    }

    /// As `engine::boards::asked`.
    fn ask(&mut self, s: &Setting, on: On, before: Option<Wait>) {
        self.asked |= asks(&self.task(s), before, Some(word(On::Asking)), word(on));
        let same = before.is_some_and(|b| b.no == i64::from(self.wait));
        self.known |= self.waiting && same && on == On::Asking;
    }

    fn pending(&self, on: On) -> bool {
        intent(on).is_some_and(|kind| self.intents.iter().any(|i| i.0 == kind))
    }
}

/// Every edge out of a world.
fn edges(w: &World, s: &Setting) -> Vec<(String, World)> {
    let mut out = Vec::new();
    let mut edge = |what: &str, change: &dyn Fn(&mut World)| {
        let mut to = w.clone();
        change(&mut to);
        out.push((what.to_owned(), to));
    };
    if w.over {
        return out;
    }
    if !w.waiting && w.wait < 2 {
        edge("it begins to wait", &|w| {
            (w.waiting, w.wait, w.asked) = (true, w.wait + 1, false);
            (w.shown_status, w.known) = (false, false);
            w.check_asked();
            w.message = Message::Open;
        });
    }
    if w.waiting {
        edge("rejected by the command line", &|w| {
            w.waiting = false;
            w.message = Message::Open;
        });
        edge("released by the command line", &|w| {
            w.waiting = false;
            w.over = true;
        });
    }
    for on in [On::Other, On::Asking, On::Approved, On::Confirm, On::Stop] {
        // Whoever is asked may always answer; anything else happens a few times.
        let fair = w.waiting && w.item.on == On::Asking && on == s.answer();
        if on == w.item.on || (w.acts == 0 && !fair) {
            continue;
        }
        edge(&format!("a person sets {on:?}"), &|w| {
            w.acts = w.acts.saturating_sub(u8::from(!fair));
            let set = Truth { wait: w.wait, shown_status: w.waiting && w.shown_status, known: w.waiting && w.known };
            w.put(Item { on, set: intent(on).map(|_| set) }, false);
        });
    }
    reads(w, s, &mut edge);
    sends(w, s, &mut edge);
    if !w.intents.is_empty() {
        edge("an intent is used", &|w| uses(w, s));
    }
    if w.row != w.wanted(s) && w.message == Message::None {
        edge("reconcile sets a drifted indication", &|w| w.message = Message::Open);
    }
    out
}

type Push<'a> = dyn FnMut(&str, &dyn Fn(&mut World)) + 'a;

fn reads(w: &World, s: &Setting, edge: &mut Push<'_>) {
    match w.read {
        None => edge("a read begins", &|w| {
            w.read = Some(Read { before: w.wait(), item: None, moved: false, ours: false, behind: false });
        }),
        Some(read @ Read { item: None, .. }) => {
            edge("the board answers", &|w| w.read = Some(Read { item: Some(w.item), ..read }));
        }
        Some(Read { item: Some(item), before, moved: _, ours, behind }) => {
            edge("what was read is recorded", &|w| {
                w.read = None;
                // A file names the time of our last write; a server that of every change.
                let behind = if s.source == Source::File { ours } else { behind };
                w.observe(s, item, before, behind);
            });
            edge("the reader dies", &|w| w.read = None);
        }
    }
}

/// As `engine::outbox::board_status`.
fn sends(w: &World, s: &Setting, edge: &mut Push<'_>) {
    match w.message {
        Message::None => {}
        Message::Open => {
            edge("the indication's sender reads the item", &|w| {
                let before = w.wait();
                if w.observe(s, w.item, before, false) && !w.pending(w.item.on) {
                    w.message = Message::Sending { expect: w.item.on, to: w.wanted(s), before };
                }
            });
            edge("the message is given up", &|w| w.message = Message::None);
        }
        Message::Sending { expect, to, before } => {
            if w.item.on == expect {
                edge("the board takes it", &|w| {
                    if w.item.on != to {
                        w.put(Item { on: to, set: None }, true);
                    }
                    w.message = Message::Taken { to, before };
                });
            } else {
                edge("the item changed meanwhile", &|w| w.message = Message::Open);
            }
            edge("the board fails", &|w| w.message = Message::Open);
        }
        Message::Taken { to, before } => {
            edge("its reply is lost, or its sender dies", &|w| w.message = Message::Open);
            for next in [Message::None, Message::Open] {
                edge("it is recorded, perhaps superseded", &|w| {
                    w.message = next;
                    w.row = to;
                    if let Some(read) = &mut w.read {
                        read.behind |= read.moved;
                    }
                    w.ask(s, to, before);
                });
            }
        }
    }
}

/// As `engine::intents::one`, with what is right about each answer.
fn uses(w: &mut World, s: &Setting) {
    let (kind, answers, set) = w.intents.remove(0);
    let task = w.task(s);
    let item_state = ItemState {
        task: Some(&task),
        busy: false,
        seen_other_since_end: true,
        stop_on: true,
        answers: answers.map(i64::from),
    };
    match means(kind, &item_state) {
        Use::Release(_) => {
            let set = set.expect("only people answer");
            assert!(set.shown_status && set.wait == w.wait, "an answer from before the question counts: {set:?} {w:?}");
            w.waiting = false;
            w.over = true;
        }
        Use::Stop => w.over = true,
        Use::Nothing(why) => {
            let late = set.is_some_and(|t| t.known && t.wait == w.wait);
            assert!(why != Unused::TooEarly || !late, "an answer to the question is too early: {set:?} {w:?}");
            w.message = Message::Open;
        }
        Use::Start | Use::Resume => panic!("{kind} begins an analysis"),
    }
}

fn explore(s: &Setting) -> usize {
    let item = Item { on: On::Other, set: None };
    let first = World {
        waiting: false,
        over: false,
        wait: 0,
        asked: false,
        shown_status: false,
        known: false,
        item,
        row: On::Other,
        intents: vec![],
        message: Message::None,
        read: None,
        acts: 1,
    };
    let mut known = HashMap::from([(first.clone(), 0_usize)]);
    let mut states = vec![first];
    let mut came: Vec<(usize, String)> = vec![(0, String::new())];
    let mut into: Vec<Vec<usize>> = vec![vec![]];
    let mut at = 0;
    while at < states.len() {
        let from = states[at].clone();
        let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| edges(&from, s)));
        let Ok(all) = all else { panic!("after {}", story(&came, at)) };
        for (what, mut to) in all {
            if to.over {
                to = World { over: true, ..states[0].clone() };
            }
            // Every step uses the intents that wait: more at once adds nothing.
            if to.intents.len() > 1 + usize::from(deep()) {
                continue;
            }
            let next = states.len();
            let n = *known.entry(to.clone()).or_insert(next);
            if n == next {
                states.push(to);
                came.push((at, what));
                into.push(vec![]);
            }
            into[n].push(at);
        }
        at += 1;
    }
    // From wherever a task waits, an answer on the board is heard in the end.
    let mut heard: Vec<bool> = states.iter().map(|w| w.over).collect();
    let mut open: Vec<usize> = (0..states.len()).filter(|n| heard[*n]).collect();
    while let Some(n) = open.pop() {
        for from in &into[n] {
            let by_command = came[n].1.contains("command line") && came[n].0 == *from;
            if !heard[*from] && !by_command {
                heard[*from] = true;
                open.push(*from);
            }
        }
    }
    let deaf = states.iter().enumerate().position(|(n, w)| w.waiting && !heard[n]);
    assert!(deaf.is_none(), "no answer is heard after {}", story(&came, deaf.unwrap_or(0)));
    states.len()
}

fn story(came: &[(usize, String)], at: usize) -> String {
    let mut steps = Vec::new();
    let mut n = at;
    while n != 0 {
        steps.push(came[n].1.clone());
        n = came[n].0;
    }
    steps.reverse();
    steps.join(" > ")
}

#[test]
fn rule_43_no_order_of_events_loses_an_answer_or_takes_an_early_one() {
    let mut states = 0;
    for waiting in [Waiting::Approval, Waiting::ConfirmDeploy] {
        for source in [Source::File, Source::Server] {
            for fallback in [false, true] {
                // The two questions are one mechanism: what is left out here is another mix of the same.
                let file = source == Source::File;
                if deep() || ((waiting == Waiting::Approval) == file && fallback != file) {
                    states += explore(&Setting { waiting, source, fallback });
                }
            }
        }
    }
    println!("questions on the board: {states} states");
    assert!(states > 100_000, "{states} states are too few to be everything");
}
