//! What `audit verify` finds (BND-6): a truncated, an emptied, a changed table, and changed evidence.

use super::support::attacks::{self, Held};
use super::support::house::{House, Plan};

#[test]
fn audit_verify_finds_what_was_cut_emptied_or_changed() {
    let house = House::new(&Plan::short().project("deploy: {confirm: false}"));
    let key = house.item("Work");
    house.until_task_after_ticks(key.as_str(), |t| t.stage.as_str() == "done");
    let tail = || std::fs::read_to_string(house.path("state/sentinels/audit-tail.json")).unwrap_or_default();
    let last = || house.table("audit").last("seq");
    // The last entries of a run are its supervisor's, and no step has to follow.
    house.until("the tail", || tail().contains(&format!("\"seq\":{},", last())).then_some(()));
    let verify = || house.orch(&["audit", "verify"]);
    assert_eq!(verify().fine().json["ok"], true);
    house.orch(&["backup", "whole.db"]).fine();
    type Attack = (&'static str, fn(&House), &'static str);
    let attacks: [Attack; 5] = [
        (
            "cut",
            |h| h.table("audit").above("seq", h.table("audit").last("seq").parse::<i64>().unwrap() - 2).delete(),
            "is missing",
        ),
        ("emptied", |h| h.table("audit").delete(), "is missing"),
        ("begun anew", |h| (h.table("audit").delete(), h.db().forget_numbers("audit")).1, "is missing"),
        (
            "evidence changed",
            |h| h.table("evidence").with("id", 1).put("verdict", "fail"),
            "evidence row 1 was changed",
        ),
        ("an entry changed", |h| h.table("audit").with("seq", 3).put("detail", "{}"), "does not match its content"),
    ];
    for (sql, attack, why) in attacks {
        attack(&house);
        let ran = verify();
        assert_eq!((ran.code, ran.json["ok"].as_bool()), (1, Some(false)), "{sql}: {}", ran.json);
        assert!(ran.json["why"].as_str().unwrap().contains(why), "{sql}: {}", ran.json);
        attacks::seen("changes to the audit log, against audit verify", sql, Held::Any, false);
        for name in ["orch.db-wal", "orch.db-shm"] {
            let _ = std::fs::remove_file(house.path("state").join(name));
        }
        std::fs::copy(house.path("whole.db"), house.path("state/orch.db")).unwrap();
        verify().fine();
    }
    std::fs::remove_file(house.path("state/sentinels/audit-tail.json")).unwrap();
    assert_eq!(verify().code, 1, "the file that keeps the last hash is not to be missed");
}
