use super::*;
use proptest::prelude::*;

fn doc(front: &str) -> Document {
    match read(format!("---\n{front}\n---\nbody\n").as_bytes()) {
        Read::Document(doc) => doc,
        other => panic!("{front}: {other:?}"),
    }
}

fn word(answer: &Reading) -> &'static str {
    match answer.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::None(_) => "none",
    }
}

#[test]
fn five_gates_read_their_own_words_only() {
    type Gate = fn(&Document) -> Reading;
    let gates: [(&str, Gate, &str, &str); 5] = [
        ("verdict", review_verdict, "APPROVED", "REQUEST_CHANGES"),
        ("staging_status", staging_status, "SUCCESS", "FAILED"),
        ("security_status", security_status, "PASS", "FAIL"),
        ("deploy_status", deploy_status, "SUCCESS", "FAILED"),
        ("post_deploy_status", post_deploy_status, "HEALTHY", "DEGRADED"),
    ];
    for (name, gate, yes, no) in gates {
        for (value, want) in [(yes, "pass"), (no, "fail")] {
            let lower = value.to_lowercase();
            for text in [
                value.to_owned(),
                lower.clone(),
                format!("  {value}  # note"),
                format!("\"{lower} \""),
                format!("'{value}'"),
                format!("**{value}**"),
                format!("*{lower}*"),
                format!("`{value}`"),
                format!("__{value}__"),
                format!("\"**'{value}'**\""),
                format!("“{value}”"),
            ] {
                assert_eq!(word(&gate(&doc(&format!("{name}: {text}")))), want, "{name}: {text}");
            }
        }
        for text in [
            "MAYBE",
            "",
            "~",
            "true",
            "[]",
            "{a: b}",
            "\"**\"",
            "NOT PASS",
            &format!("{yes}, mostly"),
            &format!("[{yes}]"),
        ] {
            let answer = gate(&doc(&format!("{name}: {text}")));
            let Verdict::None(why) = &answer.verdict else { panic!("{name}: {text}: {answer:?}") };
            assert!(why.contains(name) && why.contains(yes), "{why}");
        }
        assert!(gate(&doc("other: x")).why.contains("missing"));
        assert!(gate(&doc(&format!("{name}: MAYBE"))).why.contains("MAYBE"));
    }
}

#[test]
fn the_testers_three_fields() {
    for (front, want) in [
        ("result: PASS", "pass"),
        ("verdict: passed", "pass"),
        ("status: OK", "pass"),
        ("result: '**Success**'\nverdict: ok\nstatus: \" PASS \"", "pass"),
        ("result: PASS\nverdict:\nstatus: ~", "pass"),
        ("result: **PASS**", "pass"),
        ("result: [PASS, OK]", "pass"),
        ("result: FAIL", "fail"),
        ("result: PASS\nverdict: FAILED", "fail"),
        ("result: PASS\nstatus: no", "fail"),
        ("verdict: failure", "fail"),
        ("verdict: rejected", "fail"),
        ("status: blocked", "fail"),
        ("status: ERROR", "fail"),
        ("result: PASS\nverdict: MAYBE", "fail"),
        ("result: PASS (12 tests)", "fail"),
        ("result: NOT PASSED", "fail"),
        ("result: [PASS, FAIL]", "fail"),
        ("result: {a: PASS}", "fail"),
        ("result: true", "fail"),
        ("result: 0", "fail"),
        ("result: pa\u{17f}s", "fail"),
        ("summary: PASS", "none"),
        ("result: \"\"\nverdict: \"**\"\nstatus: []", "none"),
    ] {
        let answer = tests_verdict(&doc(front));
        assert_eq!(word(&answer), want, "{front}: {}", answer.why);
    }
    assert!(tests_verdict(&doc("result: MAYBE")).why.contains("MAYBE"));
}

#[test]
fn every_listed_word_counts_as_it_says() {
    for (words, want) in [(POSITIVE, "pass"), (NEGATIVE, "fail")] {
        for w in words {
            for name in ["result", "verdict", "status"] {
                assert_eq!(word(&tests_verdict(&doc(&format!("{name}: \"_{w}_\"")))), want);
            }
        }
    }
}

#[test]
fn a_failed_scan_names_its_reason_and_a_pass_has_none() {
    assert_eq!(security_reason(&doc("security_status: FAIL\nreason: Tool_Error")), Some(ScanReason::ToolError));
    assert!(security_status(&doc("security_status: FAIL\nreason: findings")).why.ends_with("(findings)"));
    assert!(security_status(&doc("security_status: FAIL\nreason: x")).why.contains("without a readable"));
    assert_eq!(word(&security_status(&doc("security_status: PASS\nreason: tool_error"))), "none");
}

#[test]
fn a_watch_without_a_result_says_neither() {
    for w in ["INCONCLUSIVE", "CANCELLED"] {
        assert!(post_deploy_status(&doc(&format!("post_deploy_status: {w}"))).why.contains(w));
    }
}

#[test]
fn the_analysis_needs_all_four_files_with_a_text() {
    let good: &[u8] = b"---\nwork_item: ORCH-1\n---\ntext\n";
    let paths = ["01-brief.md", "02-requirements.md", "03-acceptance-criteria.md", "04-test-plan.md"];
    let with = |at: usize, bytes: Option<&'static [u8]>| {
        let files: Vec<File<'_>> = paths
            .iter()
            .enumerate()
            .filter_map(|(i, path)| Some(File { path, bytes: if i == at { bytes? } else { good } }))
            .collect();
        analysis_complete(&files, |a| format!("{a}: missing"))
    };
    assert_eq!(word(&with(9, None)), "pass");
    for (bytes, why) in [
        (None, "missing"),
        (Some(b"" as &[u8]), "no front matter"),
        (Some(b"text\n"), "no front matter"),
        (Some(b"---\na: b\n---\n \n"), "empty"),
        (Some(b"---\na: [\n---\nx\n"), "YAML"),
    ] {
        let answer = with(2, bytes);
        assert_eq!(word(&answer), "none");
        assert!(answer.why.contains("03-acceptance-criteria.md") && answer.why.contains(why), "{}", answer.why);
    }
}

#[test]
fn the_architecture_needs_an_adr_and_all_of_them_readable() {
    let adr = |status: &str| format!("---\nstatus: {status}\n---\ntext\n");
    let (a, b) = (adr("Accepted"), adr("maybe"));
    let file = |path, text: &'static str| File { path, bytes: text.as_bytes() };
    let good = File { path: "06-adr/ADR-001-a.md", bytes: a.as_bytes() };
    assert_eq!(word(&architecture_done(&[good, file("06-adr/notes.md", "")])), "pass");
    for files in [
        vec![],
        vec![file("06-adr/notes.md", "---\nstatus: accepted\n---\nx")],
        vec![good, File { path: "06-adr/ADR-002-b.md", bytes: b.as_bytes() }],
        vec![good, file("06-adr/ADR-002-b.md", "x")],
        vec![file("06-adr/ADR-002-b.md", "---\nstatus: proposed\n---\n")],
    ] {
        assert_eq!(word(&architecture_done(&files)), "none", "{files:?}");
    }
}

#[test]
fn a_file_that_is_missing_or_unreadable_is_no_verdict() {
    for artefact in Artefact::ALL {
        for bytes in [
            None,
            Some(b"" as &[u8]),
            Some(b"verdict: APPROVED\n"),
            Some(b"---\nverdict: APPROVED\n"),
            Some(b"---\na: \xff\n---\nx"),
        ] {
            let answer = judge(*artefact, bytes);
            assert_eq!(word(&answer), "none", "{artefact}");
            assert_eq!(answer.evidence(), EvidenceVerdict::Missing);
            assert!(answer.why.contains(artefact.as_str()));
        }
    }
    assert_eq!(word(&judge(Artefact::Review, Some(b"\xef\xbb\xbf---\r\nverdict: APPROVED\r\n---\r\n"))), "pass");
}

#[test]
fn a_review_is_handed_on_verbatim() {
    let Read::Document(d) = read("---\nverdict: REQUEST_CHANGES\n---\n\n1. `a.rs:3` <b>ü</b>\n---\n\n".as_bytes())
    else {
        panic!()
    };
    let f = review_findings(&d, "docs/work-items/ORCH-1/12-review.md");
    assert_eq!((f.source, f.text.as_str()), (Origin::Review, "\n1. `a.rs:3` <b>ü</b>\n---\n\n"));
    assert!(review_findings(&doc("a: b"), "x").text.contains("body"));
    assert!(review_findings(&Document::default(), "f/12").text.contains("see `f/12`"));
}

#[test]
fn only_the_failing_section_of_a_test_report_is_handed_on() {
    let body =
        "# Report\nfine\n## Failing tests\n### one\n```\n# fail\n## not a heading\n```\nx\n## Environment\nlinux\n";
    let d = Document { body: body.to_owned(), ..Document::default() };
    assert_eq!(test_findings(&d, "p").text, "## Failing tests\n### one\n```\n# fail\n## not a heading\n```\nx\n");
    for all in ["no headings\n", "## Failures\n\n## Rest\nx\n", "##Failing\nx\n"] {
        let d = Document { body: all.to_owned(), ..Document::default() };
        assert_eq!(test_findings(&d, "p").text, all);
    }
}

#[test]
fn a_finding_is_cut_at_a_character_past_the_bound_with_a_pointer() {
    let fits = "ä".repeat(FINDING_BYTES / 2);
    assert_eq!(finding(Origin::Ci, &fits, "p").text, fits);
    let long = format!("x{fits}");
    let cut = finding(Origin::Ci, &long, "the log of run 7").text;
    assert!(cut.starts_with(&long[..FINDING_BYTES - 1]) && cut.contains("the whole text is in the log of run 7"));
    assert!(!cut.contains('\u{fffd}'));
}

#[test]
fn a_stage_is_judged_with_its_findings_and_faults() {
    let key = Key::parse("ORCH-1").unwrap();
    let of = |stage, path, text: &str| judge_stage(stage, &key, &[File { path, bytes: text.as_bytes() }], &[]).unwrap();
    let review = of(Stage::Review, "12-review.md", "---\nverdict: request_changes\n---\n1. mend\n");
    assert_eq!((word(&review.reading), review.findings[0].text.as_str()), ("fail", "1. mend\n"));
    assert!(review.faults[0].starts_with("12-review.md: `work_item` is missing"), "{:?}", review.faults);
    let staging = of(Stage::DeployStaging, "15-staging-log.md", "---\nstaging_status: FAILED\n---\n503\n");
    assert_eq!((staging.findings[0].source, staging.findings[0].text.as_str()), (Origin::Staging, "503\n"));
    let tests = of(Stage::Testing, "13-test-report.md", "---\nresult: FAIL\n---\n");
    assert!(tests.findings[0].text.contains("`docs/work-items/ORCH-1/13-test-report.md` on the branch"));
    let forged = of(Stage::Testing, "12-review.md", "---\nresult: PASS\nverdict: APPROVED\n---\nx");
    assert_eq!((word(&forged.reading), forged.faults.len(), forged.findings.len()), ("none", 0, 0));
    assert_eq!(word(&of(Stage::Analysis, "01-brief.md", "---\na: b\n---\nx").reading), "none");
    assert_eq!(word(&of(Stage::Architecture, "06-adr/ADR-001-a.md", "---\nstatus: accepted\n---\nx").reading), "pass");
    for stage in [Stage::Created, Stage::Development, Stage::Deploy, Stage::Done, Stage::Cancelled] {
        assert_eq!(judge_stage(stage, &key, &[], &[]), None);
    }
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), body in "[#`~ fail\\n]{0,80}") {
        for artefact in Artefact::ALL {
            drop(judge(*artefact, Some(&bytes)));
        }
        drop(test_findings(&Document { body, ..Document::default() }, "p"));
    }

    #[test]
    fn one_negative_word_anywhere_fails(a in 0..4usize, at in 0..3usize, bad in "[A-Z]{1,8}") {
        prop_assume!(!POSITIVE.contains(&bad.as_str()) && !["NULL", "TRUE", "FALSE"].contains(&bad.as_str()));
        let front: String = ["result", "verdict", "status"].iter().enumerate()
            .map(|(i, n)| format!("{n}: {}\n", if i == at { bad.as_str() } else { POSITIVE[a] })).collect();
        prop_assert_eq!(tests_verdict(&doc(&front)).verdict, Verdict::Fail);
    }
}

#[test]
fn pipe_4_a_document_of_an_earlier_attempt_is_named_as_stale() {
    let key = Key::parse("ORCH-1").unwrap();
    let why = |stage, unread: &[(Artefact, Unread)]| judge_stage(stage, &key, &[], unread).unwrap().reading.why;
    assert!(why(Stage::Review, &[]).ends_with("12-review.md: missing"));
    let stale = why(Stage::Review, &[(Artefact::Review, Unread::Stale)]);
    assert!(stale.starts_with("docs/work-items/ORCH-1/12-review.md is from an earlier attempt"), "{stale}");
    let some = why(Stage::Analysis, &[(Artefact::Brief, Unread::Stale)]);
    assert_eq!(some.matches("is from an earlier attempt").count(), 1, "{some}");
    assert_eq!(some.matches(": missing").count(), 3, "{some}");
    let folder = why(Stage::Review, &[(Artefact::Review, Unread::NoFile)]);
    assert!(folder.starts_with("docs/work-items/ORCH-1/12-review.md is not a regular file"), "{folder}");
}

#[test]
fn rule_3_each_stage_with_an_agent_answers_one_gate() {
    for stage in Stage::ALL {
        assert_eq!(gate_of(*stage).is_some(), stage.agent().is_some(), "{stage}");
        assert!(!judges_start(*stage) || *stage > Stage::Development, "{stage}");
        assert_eq!(carries(*stage, true), *stage > Stage::Development && !carries(*stage, false));
    }
}

#[test]
fn pipe_6_schema_faults_leave_no_verdict_where_they_are_asked_for() {
    let reading = Reading { verdict: Verdict::Pass, why: "good".into() };
    let judged = Judged { reading, findings: vec![], faults: vec!["f".into()] };
    assert_eq!(judged.answer(false), (EvidenceVerdict::Pass, "good".into()));
    assert_eq!(judged.answer(true), (EvidenceVerdict::Missing, "front matter: f".into()));
}
