//! A house whose board is a fake Plane.
#![allow(dead_code, reason = "each test uses its part")]

use super::house::{House, Plan};
use super::plane::{FakePlane, KEY, WORKSPACE};
use orch::model::task::Task;

pub struct Scene {
    pub house: House,
    pub board: FakePlane,
}

pub fn scene() -> Scene {
    scene_with("", &[])
}

/// `board`: further keys of the board; `top`: further lines at the top level.
pub fn scene_with(board: &str, top: &[&str]) -> Scene {
    let fake = FakePlane::start();
    let mut house = House::new(&plan(&fake, "{env: PLANE}", board, top));
    house.env.push(("PLANE".into(), KEY.into()));
    Scene { house, board: fake }
}

/// Its configuration; `key`: where the API key is.
pub fn plan(fake: &FakePlane, key: &str, board: &str, top: &[&str]) -> Plan {
    let plan = Plan::with_analysis().project(format!(
        "board: {{kind: plane, url: \"{}\", workspace: {WORKSPACE}, project: orch, api_key: {key}{board}}}",
        fake.url()
    ));
    top.iter().fold(plan, |plan, line| plan.top(*line))
}

impl Scene {
    /// Reconciles and ticks until the task is as expected and nothing of it is running.
    #[track_caller]
    pub fn drive(&self, key: &str, what: &str, so: impl Fn(&Task) -> bool) -> Task {
        self.house.until(&format!("{key} {what}"), || {
            let quiet = self.house.store().is_some() && self.house.is_quiet();
            if let Some(task) = self.house.task(key).filter(|t| quiet && so(t)) {
                return Some(task);
            }
            self.house.reconcile();
            self.house.tick();
            None
        })
    }

    /// Every message is delivered.
    pub fn deliver_all(&self) {
        self.house.until("all is told", || {
            self.house.tick();
            self.house.table("outbox").with("state", "open").is_empty().then_some(())
        });
    }

    pub fn count(&self, key: &str) -> i64 {
        self.house.meta(key).map_or(0, |t| t.parse().unwrap())
    }

    pub fn deliver_board_only(&self) {
        self.house.until("the board is told", || {
            self.house.table("outbox").with("state", "open").with("sink", "board_status").is_empty().then_some(())
        });
    }
}
