//! Tables of pages: each task's line, and that every line fits (DSK-1).

use super::*;
use crate::model::stage::{Agent, JobKind, Stage};
use crate::model::status::*;
use crate::model::time::rfc3339;
use jiff::tz::TimeZone;

const NOW: i64 = 1_800_000_000_000;

fn at(ago_s: i64) -> String {
    rfc3339(NOW - ago_s * 1000)
}

fn task(n: i64, stage: Stage) -> TaskRow {
    TaskRow {
        id: n,
        key: format!("ORCH-{n}"),
        title: "Brew green tea, 緑茶を淹れる, and say how long it takes".into(),
        project: "ORCH".into(),
        stage,
        attempt: 1,
        branch: None,
        waiting_for: None,
        blocked_reason: None,
        held_by: None,
        cancel_requested_at: None,
        running_job: None,
        cost_usd: Some(1.5),
        unconfined: false,
        pr: None,
        created_at: at(9000),
        updated_at: at(240),
        finished_at: None,
        waiting_since: None,
        cost_is_least: false,
        open: !stage.is_terminal(),
    }
}

fn held(mut row: TaskRow, rule: Rule, why: &str) -> TaskRow {
    row.held_by = Some(HeldBy { rule, why: why.into(), until: None });
    row
}

fn blocked(n: i64, why: &str) -> TaskRow {
    TaskRow { blocked_reason: Some(why.into()), ..held(task(n, Stage::DeployStaging), Rule::Blocked, why) }
}

fn asks(n: i64, waiting: Waiting, ago_s: i64) -> TaskRow {
    let stage = if waiting == Waiting::Approval { Stage::Analysis } else { Stage::Deploy };
    TaskRow { waiting_for: Some(waiting), waiting_since: Some(at(ago_s)), ..task(n, stage) }
}

fn works(n: i64, stage: Stage, attempt: i64) -> TaskRow {
    let job = RunningJob {
        job: 700 + n,
        kind: JobKind::Agent,
        agent: stage.agent().or(Some(Agent::Developer)),
        run: Some(900 + n),
        since: Some(at(12)),
        queued: None,
    };
    TaskRow { running_job: Some(job), attempt, ..task(n, stage) }
}

fn status(tasks: Vec<TaskRow>) -> Status {
    let none = String::new;
    Status {
        tasks,
        queue: QueueBlock { queued: 3, running: 2, ..QueueBlock::default() },
        stop: StopBlock { enabled: true, halted: false, halt_reason: None, pending: Vec::new() },
        reaper: ReaperBlock {
            enabled: true,
            interval_s: 1,
            dead_ticks: 1,
            finalize_grace_s: 1,
            max_running_s: 1,
            open_runs: 0,
            suspects: Vec::new(),
        },
        serial_gate: SerialGateBlock { enabled: true, repos: Vec::new(), frozen: Vec::new() },
        auto_labels: AutoLabelsBlock { enabled: false, repos: Vec::new(), approve_label: none(), deploy_label: none() },
        reconcile: ReconcileBlock {
            enabled: true,
            last_run_at: None,
            last_full_at: None,
            stale_since: None,
            skipped_terminal_total: 0,
            deduped_total: 0,
            throttled: Vec::new(),
            intents_off: Vec::new(),
        },
        services_down: Vec::new(),
        base: Vec::new(),
        merge_lease: Vec::new(),
        confinement: Vec::new(),
        security: SecurityBlock {
            gate_enabled: true,
            repos: Vec::new(),
            dep_audit_enabled: true,
            dep_audit_fail_closed: true,
            severity_threshold: none(),
            guard_change: None,
        },
        post_deploy: PostDeployBlock { enabled: true, repos: Vec::new(), watches: Vec::new() },
        outbox: OutboxBlock { open: 0, parked: 0, messages: Vec::new(), sinks_off: Vec::new(), strays_total: 0 },
        limits: LimitsBlock {
            max_concurrency: 4,
            running_agents: 2,
            max_cost_usd_per_task: 0.0,
            max_cost_usd_per_day: 1500.0,
            cost_today_usd: 1234.5,
            booked_today_usd: 0.0,
            min_free_mb: 0,
            free_mb: None,
            cooldowns: Vec::new(),
        },
    }
}

fn view(columns: Option<usize>) -> View {
    View { columns, all: false, now_ms: NOW, zone: TimeZone::UTC, pending: Vec::new() }
}

fn text(s: &Status, view: &View) -> Vec<String> {
    page(s, view).iter().map(Line::text).collect()
}

/// The lines below a heading.
fn under<'a>(lines: &'a [String], heading: &str) -> Vec<&'a str> {
    let from = lines.iter().position(|l| l.starts_with(heading)).unwrap_or_else(|| panic!("{heading}: {lines:#?}"));
    lines.iter().skip(from + 1).take_while(|l| !l.is_empty()).map(String::as_str).collect()
}

fn mixed(n: i64) -> Vec<TaskRow> {
    (1..=n)
        .map(|i| match i % 5 {
            0 => asks(i, Waiting::Approval, i),
            1 => works(i, Stage::Review, 2),
            2 => blocked(i, "the reviewer failed three times in a row, and said why at great length"),
            3 => held(task(i, Stage::Created), Rule::SerialGate, "ORCH-1 is in work in demo"),
            _ => held(
                task(i, Stage::DeployStaging),
                Rule::Dependencies,
                &format!("blocked by ORCH-{}, which is not done", i - 1),
            ),
        })
        .collect()
}

#[test]
fn every_line_fits_whatever_the_width_and_the_number_of_tasks() {
    for columns in [20, 60, 80, 120, 200] {
        for n in [0, 1, 40, 200, 10_000] {
            let lines = text(&status(mixed(n)), &view(Some(columns)));
            let columns = columns.max(60);
            for line in &lines {
                assert!(cells::width(line) <= columns, "{columns}, {n}: {line}");
            }
            // One line a task that is not in a group: 3 of 5, and two groups.
            let tasks = lines.iter().filter(|l| l.contains("ORCH-")).count();
            let fifths = |k: i64| usize::try_from((n + 5 - k) / 5).unwrap();
            let groups = [3, 4].iter().filter(|k| fifths(**k) > 0).count();
            assert_eq!(tasks, fifths(5) + fifths(1) + fifths(2) + groups, "{columns}, {n}");
        }
    }
}

#[test]
fn a_pipe_is_never_cut() {
    let long = "x ".repeat(400);
    let lines = text(&status(vec![blocked(1, &long)]), &view(None));
    assert!(lines.iter().any(|l| l.contains(long.trim()) && l.ends_with("how long it takes")), "{lines:#?}");
}

#[test]
fn three_blocks_with_counts_and_one_line_of_totals() {
    let rows = vec![
        works(1, Stage::Development, 3),
        asks(2, Waiting::Approval, 7200),
        asks(3, Waiting::Approval, 90_000),
        asks(4, Waiting::ConfirmDeploy, 60),
        blocked(5, "the forge says no"),
        held(task(6, Stage::Created), Rule::Dependencies, "blocked by ORCH-1, which is not done"),
        works(7, Stage::Analysis, 1),
        task(8, Stage::Done),
    ];
    let lines = text(&status(rows), &view(Some(120)));
    assert_eq!(lines[0], "Needs you (4)");
    let first = |block: &str| -> Vec<String> {
        under(&lines, block).iter().map(|l| l.split_whitespace().next().unwrap().to_owned()).collect()
    };
    assert_eq!(first("Needs you"), ["ORCH-4", "ORCH-3", "ORCH-2", "ORCH-5"]);
    assert_eq!(first("Working (2)"), ["ORCH-7", "ORCH-1"]);
    assert_eq!(first("Waiting (1)"), ["ORCH-6"]);
    let needs = under(&lines, "Needs you");
    assert!(needs[1].contains("1 d") && needs[2].contains("2 h") && needs[3].contains("blocked: the forge says no"));
    let works = under(&lines, "Working");
    assert!(works[1].contains("12 s") && works[1].contains("developer, round 3") && works[1].contains("$1.50"));
    assert!(!works[1].contains("901"), "no internal numbers: {}", works[1]);
    assert_eq!(
        lines.last().unwrap(),
        "queue: 3 queued, 2 running · today $1,234.50 of $1,500.00 · no open alert · times in UTC"
    );
    assert!(!lines.iter().any(|l| l.contains("ORCH-8")), "ended ones only with --all");
}

#[test]
fn held_tasks_are_grouped_by_rule_and_a_group_of_one_is_an_ordinary_line() {
    let mut rows: Vec<TaskRow> =
        (1..=38).map(|n| held(task(n, Stage::Created), Rule::SerialGate, "ORCH-99 is in work in demo")).collect();
    rows.extend((40..=41).map(|n| held(task(n, Stage::Created), Rule::Dependencies, &format!("blocked by ORCH-{n}0"))));
    rows.push(held(task(50, Stage::Review), Rule::Backoff, "the model is overloaded"));
    let s = status(rows);
    let lines = text(&s, &view(None));
    let waiting = under(&lines, "Waiting (41)");
    assert_eq!(waiting[0], "  38 serial_gate: ORCH-99 is in work in demo · ORCH-1, ORCH-2, ORCH-3 …");
    assert_eq!(waiting[1], "  2 dependencies: blocked by another work item · ORCH-40, ORCH-41");
    assert!(waiting[2].contains("ORCH-50  review") && waiting[2].contains("backoff: the model is overloaded"));
    let all = text(&s, &View { all: true, ..view(None) });
    assert!(under(&all, "Waiting")[0].ends_with("ORCH-37, ORCH-38"));
}

#[test]
fn the_waiting_block_has_at_most_twelve_lines_without_all() {
    let rows: Vec<TaskRow> =
        Rule::ALL.iter().zip(1..).map(|(rule, n)| held(task(n, Stage::Created), *rule, "so it is")).collect();
    let s = status(rows);
    let lines = text(&s, &view(Some(80)));
    let waiting = under(&lines, "Waiting");
    assert_eq!(waiting.len(), 12);
    assert!(waiting[11].ends_with("more; `orch status --all` shows them"), "{}", waiting[11]);
    assert!(under(&text(&s, &View { all: true, ..view(Some(80)) }), "Waiting").len() > 20);
}

#[test]
fn the_title_gives_way_and_never_the_stage_or_the_first_three_words() {
    for rule in [Rule::Dependencies, Rule::LandedNotDeployed, Rule::Confinement] {
        for why in ["blocked by ORCH-123, which is not done", "nothing confines agents here, see doctor"] {
            for columns in [60, 80, 120, 200] {
                let row = TaskRow { key: "WAREHOUSE-1234".into(), ..held(task(1, Stage::DeployStaging), rule, why) };
                let line = under(&text(&status(vec![row]), &view(Some(columns))), "Waiting")[0].to_owned();
                let words: Vec<&str> = why.split(' ').take(3).collect();
                assert!(line.contains("deploy-staging") && line.contains(&words.join(" ")), "{columns}: {line}");
            }
        }
    }
}

#[test]
fn colour_is_never_the_only_sign_and_titles_do_not_steer() {
    let row = TaskRow { title: "\u{1b}[31mred\nline".into(), ..blocked(1, "no") };
    let lines = page(&status(vec![row]), &view(Some(80)));
    let painted: Vec<String> = lines.iter().map(|l| l.painted(true)).collect();
    assert!(painted[1].contains("\x1b[31m") && painted[1].contains("red line"), "{:?}", painted[1]);
    assert!(!lines[1].text().contains("[31m"), "{:?}", lines[1].text());
    assert!(lines[1].text().contains("blocked: no") && !lines.iter().any(|l| l.text().contains('\u{1b}')));
}

#[test]
fn without_a_task_one_line_says_how_to_make_the_first() {
    let mut s = status(Vec::new());
    let lines = text(&s, &view(Some(60)));
    assert_eq!(lines[0], "No task yet: `orch new TITLE`, then `orch tick`.");
    s.queue.done = 4;
    assert!(text(&s, &view(Some(60)))[0].starts_with("No open task"));
}

#[test]
fn a_screen_ends_with_how_many_there_are_more() {
    let lines = screen(page(&status(mixed(200)), &view(Some(80))), 24);
    assert_eq!(lines.len(), 24);
    assert!(lines[0].text().starts_with("Needs you"));
    assert!(lines[23].text().ends_with(" more"));
    assert_eq!(screen(page(&status(mixed(1)), &view(Some(80))), 24).len(), 4);
}

#[test]
fn alerts_are_counted_and_what_stops_everything_comes_first() {
    let mut s = status(vec![works(1, Stage::Review, 1)]);
    s.stop.halt_reason = Some("the database moves".into());
    s.outbox.sinks_off = vec![SinkOffRow { sink: "telegram".into(), why: "kicked".into() }];
    s.confinement = vec![ConfinementRow {
        project: "ORCH".into(),
        of: vec!["developer".into()],
        held: Some("unconfined".into()),
        why: None,
        network_open: true,
    }];
    let lines = text(&s, &view(None));
    assert_eq!(lines[0], "HALTED: the database moves; `orch resume` lifts it");
    assert_eq!(under(&lines, "Alerts (1)"), ["  telegram refuses messages, retried every 15 minutes: kicked"]);
    assert!(lines.last().unwrap().contains("2 open alerts · unconfined in ORCH · times in UTC"));
    let narrow = text(&s, &view(Some(60)));
    assert_eq!(narrow.last().unwrap(), "queue 3+2 · $1,234.50/$1,500 · 2 alerts · unconfined · UTC");
}

#[test]
fn clu_4_why_a_job_waits_in_slurms_queue_is_shown_as_slurm_calls_it() {
    let mut row = works(1, Stage::Development, 1);
    if let Some(job) = &mut row.running_job {
        job.queued = Some("Resources".to_owned());
    }
    assert!(
        super::state(&row, &view(None)).ends_with("in Slurm's queue: Resources"),
        "{}",
        super::state(&row, &view(None))
    );
}
