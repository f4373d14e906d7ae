use super::*;
use crate::model::stage::Agent;
use proptest::prelude::*;

fn run(stage: Stage, state: CardRunState, epoch: i64) -> CardRun {
    CardRun {
        stage,
        kind: JobKind::Agent,
        agent: stage.agent(),
        attempt: 1,
        epoch,
        state,
        started_at: 1_000,
        ended_at: (state != CardRunState::Running).then_some(61_000),
        cost_micros: Some(250_000),
        tokens_in: Some(1_000),
        tokens_out: Some(234),
        model: Some("m-1".into()),
        effort: Some("high".into()),
    }
}

fn data(stage: Stage) -> CardData {
    CardData {
        key: "ORCH-7".into(),
        url: Some("https://board/ORCH-7".into()),
        title: "Add <login> & \"more\"".into(),
        stage,
        stopped_stage: None,
        stages: Stage::ALL.to_vec(),
        attempt: 1,
        epoch: 1,
        running: false,
        wait: vec![],
        asks: vec![],
        inputs: vec![],
        pr_url: None,
        notes: vec![],
        runs: vec![],
        now_ms: 121_000,
    }
}

/// Checks what Telegram checks: known tags, properly nested, known entities, no stray brackets.
fn check_html(html: &str) -> Result<(), String> {
    let mut open: Vec<String> = vec![];
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&', '>']) {
        let tail = &rest[at..];
        if tail.starts_with('>') {
            return Err(format!("stray > in {tail}"));
        }
        if tail.starts_with('&') {
            let known = ["&lt;", "&gt;", "&amp;", "&quot;"].into_iter().find(|e| tail.starts_with(e));
            rest = &tail[known.ok_or_else(|| format!("entity {tail}"))?.len()..];
            continue;
        }
        let end = tail.find('>').ok_or("tag without end")?;
        let tag = &tail[1..end];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop().as_deref() != Some(name) {
                return Err(format!("</{name}> closes nothing"));
            }
        } else if tag == "b" {
            open.push("b".into());
        } else if tag.starts_with("a href=\"") && tag.ends_with('"') && tag.matches('"').count() == 2 {
            open.push("a".into());
        } else {
            return Err(format!("tag {tag}"));
        }
        rest = &tail[end + 1..];
    }
    if open.is_empty() { Ok(()) } else { Err(format!("left open: {open:?}")) }
}

fn plain_line(card: &Card, name: &str) -> String {
    card.plain.lines().find(|l| l.contains(name)).unwrap_or_default().to_owned()
}

#[test]
fn the_title_holds_the_key_as_a_link_and_values_escaped() {
    let made = card(&data(Stage::Created), Locale::En);
    let first = made.html.lines().next().unwrap();
    assert_eq!(first, "<a href=\"https://board/ORCH-7\">ORCH-7</a> <b>Add &lt;login&gt; &amp; &quot;more&quot;</b>");
    assert_eq!(made.plain.lines().next().unwrap(), "ORCH-7 Add <login> & \"more\"");
    assert_eq!(made.plain.lines().nth(1).unwrap(), "To Analyse");
}

#[test]
fn an_address_that_is_no_web_address_is_never_linked() {
    for url in ["javascript:alert(1)", "", "https://a b", "tg://x", "ftp://x"] {
        let d = CardData { url: Some(url.into()), pr_url: Some(url.into()), ..data(Stage::Review) };
        assert!(!card(&d, Locale::En).html.contains("<a "), "{url}");
    }
}

#[test]
fn every_stage_has_a_label_on_its_card_in_every_language() {
    for stage in Stage::ALL {
        for locale in Locale::ALL {
            let made = card(&data(*stage), *locale);
            assert_eq!(made.plain.lines().nth(1), Some(locale::status_label(*locale, *stage)));
            check_html(&made.html).unwrap();
        }
    }
}

#[test]
fn after_a_rollback_no_later_stage_is_shown_finished() {
    let mut d = data(Stage::Development);
    d.epoch = 5;
    d.runs = vec![
        run(Stage::Analysis, CardRunState::Done, 1),
        run(Stage::Architecture, CardRunState::Done, 2),
        run(Stage::Development, CardRunState::Done, 3),
        run(Stage::Review, CardRunState::Done, 4),
    ];
    assert_eq!(mark(&d, Stage::Analysis), Mark::Finished);
    assert_eq!(mark(&d, Stage::Architecture), Mark::Finished);
    assert_eq!(mark(&d, Stage::Development), Mark::None, "the last attempt's success is not this one's");
    assert_eq!(mark(&d, Stage::Review), Mark::None);
    for position in Stage::ALL.iter().filter(|s| !s.is_terminal()) {
        let d = CardData {
            stage: *position,
            runs: Stage::ALL.iter().map(|s| run(*s, CardRunState::Done, 1)).collect(),
            ..data(*position)
        };
        for line in lines(&d) {
            assert_eq!(mark(&d, line) == Mark::Finished, line < *position, "{line} at {position}");
        }
    }
}

/// CI of the deploy stage succeeded, but the task waits, was stopped or is frozen there: its gate has not passed.
#[test]
fn a_stage_is_finished_when_its_gate_passes_not_when_its_run_succeeds() {
    let mut d = data(Stage::Deploy);
    d.runs = vec![run(Stage::Deploy, CardRunState::Done, 1)];
    d.epoch = 1;
    assert_eq!(mark(&d, Stage::Deploy), Mark::None);
    d.asks = vec![Ask::Frozen("untested".into())];
    assert_eq!(mark(&d, Stage::Deploy), Mark::None);
    (d.stage, d.stopped_stage) = (Stage::Cancelled, Some(Stage::Deploy));
    assert_eq!(mark(&d, Stage::Deploy), Mark::None);
    d.stage = Stage::Done;
    assert_eq!(mark(&d, Stage::Deploy), Mark::Finished);
}

#[test]
fn marks_show_running_failed_waiting_and_stopped() {
    let mut d = data(Stage::Development);
    d.runs = vec![run(Stage::Development, CardRunState::Running, 1)];
    assert_eq!(mark(&d, Stage::Development), Mark::Running);
    d.runs = vec![run(Stage::Development, CardRunState::Failed, 1)];
    assert_eq!(mark(&d, Stage::Development), Mark::Failed);
    d.running = true;
    assert_eq!(mark(&d, Stage::Development), Mark::Running);
    d.running = false;
    d.asks = vec![Ask::Blocked("three <failures>".into())];
    assert_eq!(mark(&d, Stage::Development), Mark::Failed);
    let mut d = data(Stage::Analysis);
    d.runs = vec![run(Stage::Analysis, CardRunState::Done, 1)];
    d.asks = vec![Ask::Approval(Some("Approved".into()))];
    assert_eq!(mark(&d, Stage::Analysis), Mark::Waiting);
    assert!(card(&d, Locale::En).plain.contains("orch advance ORCH-7 --approve"));

    let mut d = data(Stage::Cancelled);
    d.stopped_stage = Some(Stage::Review);
    d.runs = vec![run(Stage::Review, CardRunState::Failed, 9), run(Stage::Testing, CardRunState::Done, 3)];
    d.asks = vec![Ask::Approval(Some("Approved".into()))];
    assert_eq!(mark(&d, Stage::Development), Mark::Finished);
    assert_eq!(mark(&d, Stage::Review), Mark::Failed);
    assert_eq!(mark(&d, Stage::Testing), Mark::None);
    let made = card(&d, Locale::En);
    assert!(made.plain.contains("Cancelled") && !made.plain.contains("--approve"));
    assert!(lines(&data(Stage::Done)).iter().all(|s| mark(&data(Stage::Done), *s) == Mark::Finished));
}

#[test]
fn a_line_sums_all_runs_and_shows_the_last_ones_model() {
    let mut d = data(Stage::Development);
    let mut first = run(Stage::Development, CardRunState::Failed, 1);
    first.model = Some("old".into());
    first.cost_micros = Some(123_456);
    let mut lost = run(Stage::Development, CardRunState::Failed, 1);
    lost.cost_micros = None;
    let mut last = run(Stage::Development, CardRunState::Done, 1);
    last.attempt = 2;
    d.runs = vec![first, lost, last];
    let line = plain_line(&card(&d, Locale::En), "Development ·");
    assert_eq!(line, "▫️ Development · 3m 00s · ≥$0.373456 · 3,702 tokens · m-1 · high · attempt 2");
    assert!(plain_line(&card(&d, Locale::En), "Total").contains("≥$0.373456"));
    d.runs.truncate(2);
    d.runs.remove(0);
    assert!(!card(&d, Locale::En).plain.contains(" $0.00"), "an unknown cost is never shown as 0");
}

#[test]
fn a_run_of_code_costs_nothing_and_a_stage_left_out_keeps_its_runs() {
    let mut d = data(Stage::Deploy);
    d.stages = vec![];
    let mut ci = run(Stage::Review, CardRunState::Done, 1);
    (ci.kind, ci.agent, ci.cost_micros, ci.tokens_in, ci.tokens_out) = (JobKind::Ci, None, None, None, None);
    d.runs = vec![ci, run(Stage::Done, CardRunState::Done, 1)];
    assert_eq!(lines(&d), [Stage::Development, Stage::Review, Stage::Deploy, Stage::Done]);
    assert!(plain_line(&card(&d, Locale::En), "Review").contains(" $0.00 · 0 tokens"));
    assert!(plain_line(&card(&d, Locale::En), "Total").contains(" $0.25 "));
}

#[test]
fn money_is_exact_and_durations_are_readable() {
    for (micros, text) in
        [(0, "$0.00"), (10_000, "$0.01"), (1, "$0.000001"), (12_345_600, "$12.3456"), (1_500_000, "$1.50")]
    {
        assert_eq!(money(micros, false), text);
    }
    assert_eq!(money(i64::MAX, true), "≥$9223372036854.775807");
    for (ms, text) in [(-5, "0s"), (999, "0s"), (61_000, "1m 01s"), (3_600_000, "1h 00m 00s")] {
        assert_eq!(duration(Locale::En, ms), text);
    }
    assert_eq!(grouped(0), "0");
    assert_eq!(grouped(1_234_567), "1,234,567");
}

#[test]
fn the_oldest_details_go_first_when_it_is_too_long() {
    let mut d = data(Stage::Deploy);
    d.title = "&".repeat(200);
    d.runs = Stage::ALL
        .iter()
        .map(|s| {
            let mut r = run(*s, CardRunState::Done, 1);
            (r.model, r.effort) = (Some("<".repeat(60)), Some(">".repeat(60)));
            r
        })
        .collect();
    let made = card(&d, Locale::En);
    assert!(utf16_len(&made.html) <= BUDGET);
    check_html(&made.html).unwrap();
    let first = plain_line(&made, "Created");
    assert!(!first.contains('<'), "{first}");
    assert!(plain_line(&made, "After stop").contains('<'));
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,40}", "[<>&\"'\\n\\x00😀a]{0,700}", Just("</b><a href=\"x\">&amp".to_owned())]
}

fn any_run() -> impl Strategy<Value = CardRun> {
    let money = prop_oneof![Just(None), any::<i64>().prop_map(Some), (0_i64..5_000_000).prop_map(Some)];
    let state = prop_oneof![Just(CardRunState::Running), Just(CardRunState::Done), Just(CardRunState::Failed)];
    let stage = proptest::sample::select(Stage::ALL.to_vec());
    (stage, any::<bool>(), any::<(i64, i64, i64)>(), proptest::option::of(any::<i64>()), money, state, any_text())
        .prop_map(|(stage, agent, (attempt, epoch, started_at), ended_at, cost_micros, state, model)| CardRun {
            stage,
            kind: if agent { JobKind::Agent } else { JobKind::Scan },
            agent: agent.then_some(Agent::Developer),
            attempt,
            epoch,
            state,
            started_at,
            ended_at,
            cost_micros,
            tokens_in: ended_at,
            tokens_out: None,
            effort: Some(model.clone()),
            model: Some(model),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn no_value_breaks_the_card(
        title in any_text(), key in any_text(), why in any_text(), note in any_text(), url in any_text(),
        stage in proptest::sample::select(Stage::ALL.to_vec()), russian in any::<bool>(),
        runs in proptest::collection::vec(any_run(), 0..40), now_ms in any::<i64>(),
    ) {
        let d = CardData {
            key, title, stage, runs, now_ms,
            url: Some(format!("https://{url}")),
            pr_url: Some(url),
            asks: vec![Ask::Blocked(why.clone()), Ask::Frozen(why.clone()), Ask::Withdrawn(why), Ask::ConfirmDeploy(None)],
            notes: vec![note; 20],
            ..data(stage)
        };
        let locale = if russian { Locale::Ru } else { Locale::En };
        for made in [card(&d, locale), placeholder(&d, locale), retired(&d, locale)] {
            prop_assert!(utf16_len(&made.html) <= BUDGET, "{}", utf16_len(&made.html));
            prop_assert!(check_html(&made.html).is_ok(), "{:?} in {}", check_html(&made.html), made.html);
            prop_assert!(!made.plain.trim().is_empty());
        }
    }

    #[test]
    fn lines_add_up_to_the_total(runs in proptest::collection::vec(any_run(), 0..30), costs in proptest::collection::vec(0_i64..90_000_000, 30)) {
        let mut d = data(Stage::Deploy);
        d.runs = runs;
        for (run, cost) in d.runs.iter_mut().zip(costs) {
            run.cost_micros = run.cost_micros.map(|_| cost);
            (run.started_at, run.ended_at, run.tokens_in) = (0, Some(cost), Some(cost));
        }
        let per_line: Vec<Sums> = lines(&d).into_iter().map(|s| Sums::of(d.runs.iter().filter(|r| r.stage == s), d.now_ms)).collect();
        let total = Sums::of(&d.runs, d.now_ms);
        prop_assert_eq!(per_line.iter().map(|s| s.micros).sum::<i64>(), total.micros);
        prop_assert_eq!(per_line.iter().map(|s| s.millis).sum::<i64>(), total.millis);
        prop_assert_eq!(per_line.iter().map(|s| s.tokens).sum::<i64>(), total.tokens);
        prop_assert_eq!(per_line.iter().any(|s| s.cost_unknown), total.cost_unknown);
    }
}
