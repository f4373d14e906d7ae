//! `orch metrics`: the Prometheus text format.

use crate::model::stage::Stage;
use crate::model::status::{Status, TaskRow};
use crate::model::time::parse_rfc3339;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A metric's samples: labels and value.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: &[(Vec<(&str, &str)>, f64)]) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    fn one(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help, &[(Vec::new(), value)]);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The text of `orch metrics`. `stages`: the number of tasks in each, `cost_usd`: the known cost of all runs.
pub fn page(s: &Status, stages: &BTreeMap<Stage, i64>, cost_usd: f64, now_ms: i64) -> String {
    let mut page = Page(String::new());
    let n = |v: i64| v as f64;
    let flag = |b: bool| f64::from(u8::from(b));
    let count = |f: &dyn Fn(&TaskRow) -> bool| s.tasks.iter().filter(|t| f(t)).count() as f64;
    let by: Vec<_> =
        Stage::ALL.iter().map(|st| (vec![("stage", st.as_str())], n(stages.get(st).copied().unwrap_or(0)))).collect();
    page.family("orch_tasks", "gauge", "Tasks by stage.", &by);
    page.family(
        "orch_tasks_waiting",
        "gauge",
        "Tasks that wait for a person.",
        &["approval", "confirm_deploy"]
            .map(|w| (vec![("for", w)], count(&|t| t.waiting_for.is_some_and(|x| x.as_str() == w)))),
    );
    page.one("orch_tasks_blocked", "Blocked tasks.", count(&|t| t.blocked_reason.is_some()));
    let mut held: BTreeMap<&str, i64> = BTreeMap::new();
    for t in &s.tasks {
        if let Some(h) = &t.held_by {
            *held.entry(h.rule.as_str()).or_insert(0) += 1;
        }
    }
    let by: Vec<_> = held.iter().map(|(rule, v)| (vec![("rule", *rule)], n(*v))).collect();
    page.family("orch_tasks_held", "gauge", "Open tasks by the rule that holds them.", &by);
    let q = &s.queue;
    let jobs = [
        ("queued", q.queued),
        ("running", q.running),
        ("done", q.done),
        ("failed", q.failed),
        ("cancelled", q.cancelled),
    ]
    .map(|(name, v)| (vec![("status", name)], n(v)));
    page.family("orch_jobs", "gauge", "Jobs by status, over all time.", &jobs);
    page.one("orch_running_agents", "Agents at work.", n(s.limits.running_agents));
    page.one("orch_halted", "1 while HALT is set.", flag(s.stop.halted));
    let frozen: Vec<_> = s.serial_gate.frozen.iter().map(|f| (vec![("repo", f.repo.as_str())], 1.0)).collect();
    page.family("orch_repo_frozen", "gauge", "Frozen repositories.", &frozen);
    let leases: Vec<_> = s.merge_lease.iter().map(|l| (vec![("repo", l.repo.as_str())], flag(l.alive))).collect();
    page.family("orch_merge_lease_alive", "gauge", "Held merge leases; 0 if the holder's process is gone.", &leases);
    page.one("orch_watches_armed", "Deploys being watched.", s.post_deploy.watches.len() as f64);
    page.one("orch_outbox_open", "Messages to be delivered.", n(s.outbox.open));
    page.one("orch_outbox_parked", "Messages refused permanently.", n(s.outbox.parked));
    page.one("orch_cost_usd_today", "Known cost of today's runs (UTC).", s.limits.cost_today_usd);
    page.family("orch_cost_usd_total", "counter", "Known cost of all runs.", &[(Vec::new(), cost_usd)]);
    let r = &s.reconcile;
    for (name, help, at) in [
        ("orch_reconcile_last_run_timestamp_seconds", "When reconcile last ran; 0: never.", &r.last_run_at),
        (
            "orch_reconcile_stale_since_timestamp_seconds",
            "Since when board statuses are stale; 0: they are not.",
            &r.stale_since,
        ),
    ] {
        let at = at.as_deref().and_then(parse_rfc3339).unwrap_or(0);
        page.one(name, help, n(at) / 1000.0);
    }
    page.one("orch_metrics_timestamp_seconds", "When these were written.", n(now_ms) / 1000.0);
    page.0
}
