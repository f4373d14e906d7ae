//! What is away for a while: a git remote that can't be reached costs no work and no money, and is told of (RULE-8, NTF-2).

use crate::support::git::raw;
use crate::support::house::{House, Plan};

/// A house whose agent counts its plays; after `away` the remote is gone as the first play ends.
fn house(away: bool) -> House {
    let mut plan = Plan::short().project("deploy: {confirm: false}");
    let house = House::new(&plan);
    let root = house.root().display();
    let gone =
        if away { format!("[ -e {root}/plays ] || mv {root}/remote.git {root}/away.git\n") } else { String::new() };
    plan.agent = plan.agent.replace("esac\n", &format!("esac\n{gone}echo x >> {root}/plays\n"));
    house.script("agent.sh", &plan.agent);
    house
}

fn plays(house: &House) -> usize {
    std::fs::read_to_string(house.path("plays")).map_or(0, |t| t.lines().count())
}

/// What was put off is due at once.
fn due(house: &House) {
    house.change(
        "UPDATE jobs SET available_at = (SELECT json_extract(r.exited_at, '$.wall_ms') + 1 FROM runs r WHERE r.job_id = jobs.id AND r.state = 'exited')
         WHERE status = 'running' AND EXISTS (SELECT 1 FROM runs r WHERE r.job_id = jobs.id AND r.state = 'exited')",
    );
}

#[test]
fn rule_8_an_outage_at_the_push_keeps_what_the_agent_has_done() {
    let house = house(true);
    house.item("One");
    house.tick().fine();
    let waits = || {
        house
            .query("SELECT reason FROM jobs WHERE status = 'running' AND available_at > 0 AND reason IS NOT NULL")
            .pop()
    };
    let why = house.until("the push is put off", waits);
    assert!(why.contains("can't be pushed now"), "{why}");
    let row = house.orch(&["status"]).json["tasks"][0].clone();
    assert_eq!(row["held_by"]["rule"], "backoff", "{row}");
    assert!(row["held_by"]["why"].as_str().unwrap().contains("the developer has ended"), "{row}");
    // Still away: tried again, and the agent is not.
    for _ in 0..2 {
        house.until("its time", || house.query("SELECT 1 FROM jobs WHERE available_at > 0").pop().map(|_| due(&house)));
        house.tick();
        house.until("put off again", || {
            let later = "SELECT 1 FROM jobs j JOIN runs r ON r.job_id = j.id WHERE r.state = 'exited' AND j.available_at > json_extract(r.exited_at, '$.wall_ms') + 1";
            house.query(later).pop()
        });
    }
    assert_eq!(plays(&house), 1);
    std::fs::rename(house.path("away.git"), house.remote()).unwrap();
    house.until("done", || {
        due(&house);
        house.tick();
        house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
    assert_eq!(plays(&house), 1, "paid for once");
    assert_eq!(house.runs("ORCH-1").iter().filter(|r| r.agent.is_some()).count(), 1);
    assert!(raw(&house.remote(), &["show", "main:app.txt"]).contains("ORCH-1 round 1"));
}
