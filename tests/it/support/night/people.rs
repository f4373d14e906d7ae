//! The people of a night, who make work items, answer, stop, and retry what a kill blocked; and a CI of the forge.

use super::{ANN, Night, Role, role};
use crate::support::rows::Row;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a person waits before giving the same answer again, in real time.
const AGAIN: Duration = Duration::from_secs(15);

/// What people had to do.
#[derive(Debug, Default)]
pub struct People {
    /// How often each wait was answered: task id, wait, attempt.
    pub answers: BTreeMap<(i64, String, i64), u32>,
    /// Why a task was blocked, for each `retry`.
    pub retries: Vec<(String, String)>,
    asked: BTreeMap<(i64, String, i64), Instant>,
}

impl Night {
    /// Makes the work items during the first third of the night, alternating between both boards.
    pub fn items(&self, each: usize) {
        for n in 1..=each {
            let due = 0.33 * (n - 1) as f64 / each as f64;
            while self.part() < due && !self.over.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(30));
            }
            self.board.item(&format!("thing {n}"), "To Analyse");
            let file = self.world.path(&format!("state/issues-aa/AA-{n}.md"));
            // A command that died before the item existed is repeated.
            while !file.exists() {
                let title = format!("thing {n}");
                drop(self.orch(&["new", &title, "--project", "AA", "--body", "orch.yaml"]));
                if self.over.load(Ordering::SeqCst) {
                    return;
                }
                if !file.exists() {
                    std::thread::park_timeout(Duration::from_millis(200));
                }
            }
        }
    }

    /// Answers, stops and retries until the night is over.
    pub fn people(&self) -> People {
        let mut people = People::default();
        while !self.over.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(300));
            for task in self.tasks().unwrap_or_default() {
                self.attend(&task, &mut people);
            }
        }
        people
    }

    fn attend(&self, task: &Row, people: &mut People) {
        let part = role(&task.key);
        if task.stage == "done" || task.stage == "cancelled" || task.key.contains('~') {
            return;
        }
        let late = ["review", "testing", "deploy-staging", "deploy"].contains(&task.stage.as_str());
        if part == Role::Stopped && !task.stop_requested && late {
            self.stop(task, people);
        } else if let Some(why) = &task.blocked {
            if !hopeless(part, why) && self.due(task, "retry", people) {
                people.retries.push((task.key.clone(), why.clone()));
                drop(self.orch(&["retry", &task.key]));
                if why.contains("unknown") {
                    drop(self.orch(&["unfreeze", &task.key.split('-').next().unwrap().to_lowercase()]));
                }
            }
        } else if let Some(wait) = &task.waiting
            && (part != Role::Late || self.part() > 0.7)
            && self.due(task, wait, people)
        {
            let key = (task.id, wait.clone(), task.attempt);
            let times = people.answers.get(&key).copied().unwrap_or(0) + 1;
            if self.answer(task, wait, times) {
                people.answers.insert(key, times);
            } else {
                people.asked.remove(&key);
            }
        }
    }

    /// Whether it is time to give this answer, for the first time or again.
    fn due(&self, task: &Row, what: &str, people: &mut People) -> bool {
        let key = (task.id, what.to_owned(), task.attempt);
        let pause = if what == "stop" { AGAIN / 10 } else { AGAIN };
        let due = people.asked.get(&key).is_none_or(|at| at.elapsed() > pause);
        if due {
            people.asked.insert(key, Instant::now());
        }
        due
    }

    fn stop(&self, task: &Row, people: &mut People) {
        if !self.due(task, "stop", people) {
            return;
        }
        match task.key.strip_prefix("ORCH-") {
            Some(number) => self.set(number.parse().unwrap(), "STOP"),
            None => drop(self.orch(&["stop", &task.key])),
        }
    }

    /// Answers on the board, in the chat and at the command line in turn, from the third time on only at the command
    /// line. Returns whether there was something to answer.
    fn answer(&self, task: &Row, wait: &str, times: u32) -> bool {
        let (flag, status, verb) = match wait {
            "approval" => ("--approve", "Approved", "approve"),
            "confirm_deploy" => ("--confirm-deploy", "Confirm Deploy", "deploy"),
            _ => return false,
        };
        let number: u64 = task.key.rsplit('-').next().unwrap().parse().unwrap();
        match (number % 3, times) {
            (0, 1 | 2) if task.key.starts_with("ORCH-") => self.set(number, status),
            (0, 1 | 2) => self.edit(&task.key, status),
            (1, 1 | 2) => {
                let ends = format!(":{verb}");
                let asked =
                    self.chat.chat().into_iter().rev().find(|m| {
                        m.text.contains(&task.key) && m.buttons.iter().any(|(_, data)| data.ends_with(&ends))
                    });
                match asked {
                    Some(message) => drop(self.chat.press(ANN, &message, verb)),
                    // The question has not reached the chat yet.
                    None => return false,
                }
            }
            _ => drop(self.orch(&["advance", &task.key, flag])),
        }
        true
    }

    /// Sets a status on the remote board, if it is there.
    fn set(&self, number: u64, status: &str) {
        if !self.board.data().down {
            self.board.set(number, status);
        }
    }

    /// Sets a status like an editor: a new file replaces the old one.
    fn edit(&self, key: &str, status: &str) {
        let path = self.world.path(&format!("state/issues-aa/{key}.md"));
        let Ok(text) = std::fs::read_to_string(&path) else { return };
        let Some(line) = text.lines().find(|l| l.starts_with("status:")) else { return };
        let new = self.world.path(&format!("state/issues-aa/.{key}.edit"));
        let written = std::fs::write(&new, text.replacen(line, &format!("status: {status}"), 1));
        let kept = std::fs::metadata(&path).and_then(|m| std::fs::set_permissions(&new, m.permissions()));
        if written.is_ok() && kept.is_ok() {
            drop(std::fs::rename(&new, &path));
        } else {
            drop(std::fs::remove_file(&new));
        }
    }

    /// The forge's CI: every head of an open pull request becomes green a moment later.
    pub fn ci(&self) {
        while !self.over.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(400));
            let open: Vec<i64> = {
                let data = self.forge.data();
                if data.down { vec![] } else { data.pulls.iter().filter(|p| p.open).map(|p| p.number).collect() }
            };
            for number in open {
                let mut data = self.forge.data();
                if data.down {
                    break;
                }
                let branch = data.pull_mut(number).head.clone();
                let repo = self.world.path("orch.git");
                let Some(head) = crate::support::gitea::branch(&repo, &branch) else { continue };
                if !data.statuses.iter().any(|s| s.sha == head) {
                    data.add_status(&head, "ci/test", "success", "");
                }
            }
        }
    }
}

/// Whether this block is intended in the night.
fn hopeless(part: Role, why: &str) -> bool {
    part == Role::Hopeless && !why.contains("vanished")
}
