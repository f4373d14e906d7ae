//! `16-post-deploy-log.md` and the lines of `orch post-deploy-probe` (SHIP-6).

use super::evidence::{ArtefactHead, cell, front_matter};
use crate::model::seen::{Seen, judge};
use crate::model::watch::{Classification, ErrorReading, Probe, RevisionAnswer, WatchPolicy, WatchRecord};
use serde_json::{Map, Value, json};

fn word(seen: &Seen) -> &'static str {
    match seen {
        Seen::Well => "ok",
        Seen::Failed(_) => "failed",
        Seen::NotMade(_) => "not made",
    }
}

fn why(seen: &Seen) -> &str {
    match seen {
        Seen::Well => "",
        Seen::Failed(why) | Seen::NotMade(why) => why,
    }
}

fn statuses(p: &Probe) -> String {
    let one = |s: Option<u16>| s.map_or_else(|| "-".to_owned(), |s| s.to_string());
    p.health.iter().map(|h| one(h.status)).collect::<Vec<_>>().join(" ")
}

fn latency(p: &Probe) -> u64 {
    p.health.iter().map(|h| h.latency_ms).max().unwrap_or(0)
}

/// One probe on stdout; `n` counts from 1.
pub fn line(n: usize, p: &Probe, revision: Option<&str>) -> String {
    let seen = judge(p, revision);
    format!("{n:>4}  {}  {:<8} {:>4} {:>6} ms  {}", p.at.rfc3339(), word(&seen), statuses(p), latency(p), why(&seen))
        .trim_end()
        .to_owned()
}

/// The last line: the verdict and its reason.
pub fn verdict_line(c: &Classification) -> String {
    format!("VERDICT {} {}", c.status().map_or("PENDING", |s| s.as_str()), c.why())
}

/// The JSON entries of a record's probes.
fn probes_json(probes: &[Probe], revision: Option<&str>) -> Value {
    let entry = |p: &Probe| {
        let seen = judge(p, revision);
        let errors = match &p.errors {
            ErrorReading::Own => Value::Null,
            ErrorReading::Counters(c) | ErrorReading::Window(c) => {
                json!({"requests": c.requests, "errors_5xx": c.errors_5xx})
            }
            ErrorReading::NoData(why) => json!({"no_data": why}),
        };
        let running = match &p.revision {
            Some(RevisionAnswer::Is(r)) => Value::from(r.as_str()),
            Some(RevisionAnswer::None(_)) | None => Value::Null,
        };
        json!({
            "at": p.at.rfc3339(), "result": word(&seen).replace(' ', "_"), "why": why(&seen), "health": p.health,
            "revision": running, "errors": errors, "control": p.control,
        })
    };
    Value::Array(probes.iter().map(entry).collect())
}

/// The step's own JSON fields; `verdict` and `classification` are the same word (SHIP-6).
pub fn fields(record: &WatchRecord, c: &Classification) -> Map<String, Value> {
    let word = c.status().map_or("PENDING", |s| s.as_str());
    let probes = probes_json(&record.probes, record.revision.as_deref());
    let of = [("verdict", json!(word)), ("classification", json!(word)), ("why", json!(c.why())), ("probes", probes)];
    of.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// The number of probes, if every one of them was clean.
pub fn all_clean(record: &WatchRecord) -> Option<usize> {
    record.probes.iter().all(|p| judge(p, None) == Seen::Well).then_some(record.probes.len())
}

/// What a number of clean probes proves and what it does not. By the rule of three, n probes without a failure leave,
/// at 95 %, a failure rate of up to 1 - 0.05^(1/n), about 3/n.
pub fn proof(clean: usize, seconds: u64) -> String {
    if clean == 0 {
        return "No clean probe: the watch shows nothing.".to_owned();
    }
    let bound = 100.0 * (1.0 - 0.05_f64.powf(1.0 / clean as f64));
    format!(
        "{clean} clean probes and no failed one, over {seconds} s: with 95 % confidence at most {bound:.1} % of such probes \
         would fail. This says nothing about smaller failure rates, about code that the health URLs do not reach, about higher \
         load, or about the time after the window."
    )
}

/// The artefact; `None` while pending. Its verdict key is `post_deploy_status`.
pub fn log(head: &ArtefactHead, r: &WatchRecord, policy: &WatchPolicy, c: &Classification) -> Option<String> {
    let status = c.status()?;
    let p = policy.sane();
    let revision = r.revision.as_deref();
    let mut text = front_matter(head, ("post_deploy_status", status.as_str()));
    text.push_str(&format!("# Watch of deploy {}: {status}\n\nDecided by: {}.\n\n", cell(&r.deploy_id), cell(c.why())));
    let k_of_m = p.k_of_m.map(|(k, m)| format!(", or {k} of the last {m}")).unwrap_or_default();
    text.push_str(&format!(
        "Rules: DEGRADED at {} failed health probes in a row{k_of_m}, or more than {:.1} % 5xx of at least {} requests with at \
         least {:.0} errors; window {} s, a probe every {} s; armed at {}.\n\n",
        p.fail_threshold,
        100.0 * p.share_5xx,
        p.min_requests,
        WatchPolicy::MIN_ERRORS,
        p.window_s,
        p.interval_s,
        r.armed_at.rfc3339()
    ));
    text.push_str("| # | at | result | status | slowest | 5xx / requests | revision | why |\n");
    text.push_str("| ---: | --- | --- | --- | ---: | --- | --- | --- |\n");
    let (mut clean, mut failed) = (0, 0);
    for (n, probe) in r.baseline.iter().enumerate() {
        text.push_str(&row(&format!("before {}", n + 1), probe, None));
    }
    for (n, probe) in r.probes.iter().enumerate() {
        match judge(probe, revision) {
            Seen::Well => clean += 1,
            Seen::Failed(_) => failed += 1,
            Seen::NotMade(_) => {}
        }
        text.push_str(&row(&(n + 1).to_string(), probe, revision));
    }
    text.push_str("\n## What this shows\n\n");
    if failed == 0 {
        let last = r.probes.last().map_or(0, |l| l.at.wall_ms.saturating_sub(r.armed_at.wall_ms).max(0) / 1000);
        text.push_str(&proof(clean, u64::try_from(last).unwrap_or(0)));
    } else {
        text.push_str(&format!("{failed} of {} probes that could be made failed.", clean + failed));
    }
    text.push('\n');
    if let Some(run) = &r.rollback {
        let exit = run.exit.map_or_else(|| "its exit is unknown".to_owned(), |e| format!("exit {e}"));
        text.push_str(&format!("\nThe rollback command was started at {}; {exit}.\n", run.started_at.rfc3339()));
    }
    Some(text)
}

fn row(n: &str, probe: &Probe, revision: Option<&str>) -> String {
    let seen = judge(probe, revision);
    let errors = match &probe.errors {
        ErrorReading::Own => "own".to_owned(),
        ErrorReading::Counters(c) | ErrorReading::Window(c) => format!("{:.0} / {:.0}", c.errors_5xx, c.requests),
        ErrorReading::NoData(why) => format!("no data: {why}"),
    };
    let running = match &probe.revision {
        Some(RevisionAnswer::Is(r)) => r.clone(),
        Some(RevisionAnswer::None(why)) => format!("no answer: {why}"),
        None => String::new(),
    };
    format!(
        "| {n} | {} | {} | {} | {} ms | {} | {} | {} |\n",
        probe.at.rfc3339(),
        word(&seen),
        cell(&statuses(probe)),
        latency(probe),
        cell(&errors),
        cell(&running),
        cell(why(&seen))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Stamp;
    use crate::model::watch::{ControlAnswer, HealthAnswer, HealthOutcome};

    fn probe(outcome: HealthOutcome, status: Option<u16>) -> Probe {
        let health =
            vec![HealthAnswer { url: "http://x/".into(), outcome, status, latency_ms: 7, detail: "a|b".into() }];
        let at = Stamp { wall_ms: 60_000, mono_ms: 60_000, boot_id: "b".into() };
        Probe { at, health, revision: None, errors: ErrorReading::Own, control: ControlAnswer::NotAsked }
    }

    #[test]
    fn the_log_names_the_rule_that_decided() {
        let at = Stamp { wall_ms: 0, mono_ms: 0, boot_id: "b".into() };
        let mut r = WatchRecord::armed(1, 1, "1-1-1", None, at, vec![probe(HealthOutcome::Ok, Some(200))]);
        let policy = WatchPolicy { window_s: 3, interval_s: 1, ..WatchPolicy::default() };
        r.probes = vec![probe(HealthOutcome::Ok, Some(200)); 3];
        let text =
            log(&ArtefactHead::default(), &r, &policy, &Classification::Healthy { why: "3 of 3".into() }).unwrap();
        assert!(text.contains("post_deploy_status: HEALTHY\n"), "{text}");
        assert!(
            text.contains("3 clean probes") && text.contains("at most 63.2 %") && text.contains("| before 1 |"),
            "{text}"
        );
        r.probes = vec![probe(HealthOutcome::Refused, None); 3];
        let text = log(
            &ArtefactHead::default(),
            &r,
            &policy,
            &Classification::Degraded { why: "3 health probes in a row failed".into() },
        )
        .unwrap();
        assert!(
            text.contains("post_deploy_status: DEGRADED\n") && text.contains("3 health probes in a row failed"),
            "{text}"
        );
        assert!(text.contains("a\\|b"));
        assert_eq!(log(&ArtefactHead::default(), &r, &policy, &Classification::Pending), None);
    }

    #[test]
    fn the_rule_of_three() {
        assert!(proof(100, 900).contains("at most 3.0 %"));
        assert!(proof(0, 900).contains("the watch shows nothing"));
    }
}
