//! The disturbances of a night: services that are down, a full disk, killed processes, restarts of the machine.

use super::Night;
use crate::support::http::Fault;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What may be down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Board,
    Forge,
    /// The git remote of the local forge.
    Remote,
    /// Git remote and forge together.
    Host,
    Telegram,
    Disk,
}

pub const PARTS: [Part; 6] = [Part::Board, Part::Forge, Part::Remote, Part::Host, Part::Telegram, Part::Disk];

/// From when to when a part is down, as fractions of the night.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub part: Part,
    pub from: f64,
    pub to: f64,
}

impl Night {
    /// Two outages of each part, one of them long enough to be alerted.
    pub fn outages(&self, seed: u64) -> Vec<Outage> {
        let mut dice = self.dice(seed, 1);
        let mut share = |least: f64, most: f64| {
            let draw = f64::from(u32::try_from(dice.below(10_000)).unwrap()) / 10_000.0;
            least + (most - least) * draw
        };
        let mut all = Vec::new();
        for part in PARTS {
            for (half, least, most) in [(0.02, 0.01, 0.03), (0.5, 0.06, 0.1)] {
                let shorter = if part == Part::Disk { 0.3 } else { 1.0 };
                let from = share(half, half + 0.36);
                all.push(Outage { part, from, to: from + share(least, most) * shorter });
            }
        }
        all
    }

    /// Takes a part down or up. The forge reads its host's repository, so it goes down first and comes up last.
    fn turn(&self, part: Part, away: bool) {
        self.note(format!("{part:?} {}", if away { "away" } else { "back" }));
        let moved = |repo: &str| {
            let (there, gone) = (self.world.path(&format!("{repo}.git")), self.world.path(&format!("{repo}.away")));
            if away { std::fs::rename(there, gone) } else { std::fs::rename(gone, there) }.unwrap();
        };
        match part {
            Part::Board => self.board.data().down = away,
            Part::Forge => self.forge.data().down = away,
            Part::Remote => moved("aa"),
            Part::Host => {
                let mut data = self.forge.data();
                moved("orch");
                data.down = away;
            }
            Part::Telegram if away => self.chat.server.fault("", Fault::Reset, usize::MAX),
            Part::Telegram => self.chat.server.calm(),
            Part::Disk => self.disk(away),
        }
    }

    fn disk(&self, full: bool) {
        let filler = self.world.path("state/filler");
        if !full {
            std::fs::remove_file(filler).unwrap();
        } else if self.mounted() {
            let of = format!("of={}", filler.display());
            drop(std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&filler));
            drop(Command::new("dd").args(["if=/dev/zero", &of, "bs=4k"]).stderr(Stdio::null()).status());
        } else {
            std::fs::write(filler, "").unwrap();
        }
    }

    /// Plays the outages; at the end everything is up. An outage that begins while its part is down is skipped.
    pub fn play(&self, outages: &[Outage]) {
        let mut away: Vec<(Part, f64)> = Vec::new();
        let mut todo: Vec<Outage> = outages.to_vec();
        while !self.over.load(Ordering::SeqCst) {
            let part = self.part();
            for back in away.extract_if(.., |(_, to)| *to <= part) {
                self.turn(back.0, false);
            }
            for next in todo.extract_if(.., |o| o.from <= part) {
                // Two kinds of outage of one host at once would count as one.
                let same =
                    |p: Part| p == next.part || [p, next.part].iter().all(|q| [Part::Forge, Part::Host].contains(q));
                if part < 1.0 && !away.iter().any(|(p, _)| same(*p)) {
                    self.turn(next.part, true);
                    away.push((next.part, next.to));
                }
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        for (part, _) in away {
            self.turn(part, false);
        }
    }

    /// Kills a process of the program every few seconds, sometimes all, sometimes an agent; restarts the machine once
    /// in each half of the night.
    pub fn kills(&self, seed: u64, every: Duration) {
        let mut dice = self.dice(seed, 2);
        let every = u64::try_from(every.as_millis()).unwrap();
        let mut boots =
            [0.2, 0.6].map(|half| half + f64::from(u32::try_from(dice.below(200)).unwrap()) / 1000.0).to_vec();
        while self.part() < 1.0 && !self.over.load(Ordering::SeqCst) {
            self.wait(Duration::from_millis(every / 2 + dice.below(every)));
            if boots.first().is_some_and(|at| *at < self.part()) {
                boots.remove(0);
                self.reboot();
                continue;
            }
            let draw = dice.below(10);
            let targets = if draw < 2 { self.agents() } else { self.world.orch_processes() };
            if targets.is_empty() {
                continue;
            }
            let from = usize::try_from(dice.below(targets.len() as u64)).unwrap();
            let most = if draw == 9 { targets.len() } else { 1 };
            for pid in targets.into_iter().skip(from).take(most) {
                self.kill(pid, "kill");
            }
        }
    }

    fn wait(&self, long: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < long && !self.over.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The living agents.
    fn agents(&self) -> Vec<i32> {
        let program = self.world.path("agent.sh").display().to_string();
        let plays = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|b| *b == 0).take(2).any(|w| w == program.as_bytes() || w.ends_with(b"/agent.sh"))
        };
        self.world.alive().into_iter().filter(plays).collect()
    }
}
