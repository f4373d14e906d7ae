use super::*;

fn sha(c: char) -> Sha {
    Sha::parse(&c.to_string().repeat(40)).unwrap()
}

/// The base is where it was tested, the pull request open, the branch at its head.
fn still() -> Seen {
    let line = Line { base: sha('b'), tip: sha('b'), base_kept: Base::Kept, tested: None, ours: None };
    Seen { line, pull: PullSeen::Open { number: 3 }, branch: BranchSeen::AtHead, released: true }
}

fn word(l: &Landing) -> String {
    match l {
        Landing::Landed { commit } => format!("landed {}", &commit.as_str()[..1]),
        Landing::Untested { .. } => "untested".into(),
        Landing::Rewritten { .. } => "rewritten".into(),
        Landing::Withdrawn(w) => format!("withdrawn: {w}"),
        Landing::HeadMoved => "head moved".into(),
        Landing::BaseMoved => "base moved".into(),
        Landing::Unsettled { .. } => "unsettled".into(),
        Landing::NotYet => "not yet".into(),
    }
}

#[test]
fn rule_5_and_31_the_table_of_cases() {
    let merged = || PullSeen::Merged { number: 3, commit: Some(sha('c')) };
    let gone = || BranchSeen::Gone { branch: "f".into() };
    type Change = Box<dyn Fn(&mut Seen)>;
    let moved = |s: &mut Seen| s.line.tip = sha('e');
    let case = |change: fn(&mut Seen)| -> Change { Box::new(change) };
    let cases: Vec<(&str, Change, &str, &str)> = vec![
        ("nothing happened", case(|_| {}), "not yet", "not yet"),
        ("the base moved", Box::new(moved), "base moved", "base moved"),
        (
            "merged as tested, by whatever method",
            Box::new(move |s| {
                moved(s);
                s.line.tested = Some(sha('a'));
                s.pull = merged();
            }),
            "landed a",
            "withdrawn: pull request 3 was merged by a person",
        ),
        (
            "merged as tested, without a pull request, the branch deleted",
            Box::new(move |s| {
                moved(s);
                s.line.tested = Some(sha('a'));
                s.line.ours = Some(sha('d'));
                s.pull = PullSeen::None;
                s.branch = gone();
            }),
            "landed a",
            "withdrawn: its branch was merged by a person",
        ),
        (
            "the tested tree stands there, and the pull request is open",
            Box::new(move |s| {
                moved(s);
                s.line.tested = Some(sha('a'));
            }),
            "landed a",
            "base moved",
        ),
        (
            "merged over a moved base",
            Box::new(move |s| {
                moved(s);
                s.line.ours = Some(sha('d'));
                s.pull = merged();
            }),
            "untested",
            "withdrawn: pull request 3 was merged by a person (ddddddd",
        ),
        (
            "squashed over a moved base: only the forge tells",
            Box::new(move |s| {
                moved(s);
                s.pull = merged();
                s.branch = gone();
            }),
            "untested",
            "withdrawn: pull request 3 was merged by a person (ccccccc",
        ),
        (
            "ours is in, and the pull request was closed",
            Box::new(move |s| {
                moved(s);
                s.line.ours = Some(sha('d'));
                s.pull = PullSeen::Closed { number: 3 };
            }),
            "untested",
            "withdrawn: its branch was merged by a person",
        ),
        (
            "merged, says the forge, and nothing is there",
            Box::new(move |s| s.pull = merged()),
            "unsettled",
            "unsettled",
        ),
        (
            "closed",
            case(|s| s.pull = PullSeen::Closed { number: 3 }),
            "withdrawn: pull request 3 was closed",
            "withdrawn: pull request 3 was closed",
        ),
        (
            "gone",
            case(|s| s.pull = PullSeen::Gone { number: 3 }),
            "withdrawn: pull request 3 is gone",
            "withdrawn: pull request 3 is gone",
        ),
        (
            "retargeted",
            case(|s| s.pull = PullSeen::Retargeted { number: 3, base: "next".into() }),
            "withdrawn: pull request 3 now has the base next",
            "withdrawn: pull request 3 now has the base next",
        ),
        (
            "the branch is gone",
            Box::new(move |s| s.branch = gone()),
            "withdrawn: branch f is gone",
            "withdrawn: branch f is gone",
        ),
        (
            "the branch is gone, and the base moved",
            Box::new(move |s| {
                moved(s);
                s.branch = gone();
            }),
            "withdrawn: branch f is gone",
            "withdrawn: branch f is gone",
        ),
        ("somebody pushed to the branch", case(|s| s.branch = BranchSeen::Elsewhere), "head moved", "head moved"),
        (
            "history rewritten",
            Box::new(move |s| {
                moved(s);
                s.line.base_kept = Base::Gone;
            }),
            "rewritten",
            "rewritten",
        ),
        (
            "history rewritten with the tested tree in it: no commit follows the base",
            Box::new(move |s| {
                moved(s);
                s.line.base_kept = Base::Gone;
                s.line.tested = Some(sha('a'));
            }),
            "rewritten",
            "rewritten",
        ),
        (
            "history rewritten, with ours in it",
            Box::new(move |s| {
                moved(s);
                s.line.base_kept = Base::Gone;
                s.line.ours = Some(sha('d'));
            }),
            "untested",
            "withdrawn: its branch was merged by a person",
        ),
    ];
    for (name, change, released, before) in cases {
        for (on, want) in [(true, released), (false, before)] {
            let mut seen = still();
            seen.released = on;
            change(&mut seen);
            let got = word(&judge(&seen));
            let fits = if want.starts_with("withdrawn") { got.starts_with(want) } else { got == want };
            assert!(fits, "{name}, released {on}: {got}, not {want}");
        }
    }
}

/// Every combination: nothing that nobody released is deployed, what is not on the line is never deployed, and what is
/// ours and in is never overlooked.
#[test]
fn rule_5_no_combination_deploys_what_is_not_on_the_line_or_passes_over_what_is_in() {
    let pulls = [
        PullSeen::None,
        PullSeen::Open { number: 1 },
        PullSeen::Merged { number: 1, commit: None },
        PullSeen::Closed { number: 1 },
        PullSeen::Gone { number: 1 },
        PullSeen::Retargeted { number: 1, base: "n".into() },
    ];
    let branches = [BranchSeen::AtHead, BranchSeen::Elsewhere, BranchSeen::Gone { branch: "f".into() }];
    for pull in &pulls {
        for branch in &branches {
            for bits in 0..32_u8 {
                let on = |n: u8| bits & (1 << n) != 0;
                let line = Line {
                    base: sha('b'),
                    tip: if on(0) { sha('e') } else { sha('b') },
                    base_kept: if on(1) { Base::Kept } else { Base::Gone },
                    tested: on(2).then(|| sha('a')),
                    ours: on(3).then(|| sha('d')),
                };
                let seen = Seen { line, pull: pull.clone(), branch: branch.clone(), released: on(4) };
                let got = judge(&seen);
                let deploys = matches!(got, Landing::Landed { .. });
                assert_eq!(deploys, seen.released && on(1) && on(2), "{seen:?} {got:?}");
                let frozen = matches!(got, Landing::Untested { .. } | Landing::Withdrawn(Withdrawal::Merged { .. }));
                assert!(!on(3) || deploys || frozen, "{seen:?} {got:?}");
                let free = matches!(got, Landing::NotYet | Landing::BaseMoved);
                let calm = matches!(pull, PullSeen::None | PullSeen::Open { .. }) && *branch == BranchSeen::AtHead;
                assert!(!free || calm && !on(3), "{seen:?} {got:?}");
            }
        }
    }
}
