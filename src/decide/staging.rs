//! The staging fold (SHIP-3): a list of results and an allow-list become SUCCESS or FAILED.

use crate::model::staging::{
    Allowance, CheckClass, CheckOutcome, CheckResult, Fact, SelfHostingFacts, StagingStatus, StagingVerdict, Waived,
};
use jiff::civil::Date;

/// The parameters of the fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldRules<'a> {
    /// The ids that had to run, in declared order.
    pub planned: &'a [String],
    pub allowed: &'a [Allowance],
    /// `--strict`, or not.
    pub tolerance: Tolerance,
    /// For the expiry of allowances.
    pub today: Date,
}

/// Whether allow-listed failures may be waived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    On,
    /// `staging.infra_tolerance_enabled` is off.
    SwitchedOff,
    /// `--strict`, whatever the switch says.
    Strict,
}

impl Tolerance {
    /// From the two flags as given.
    pub fn of(strict: bool, enabled: bool) -> Self {
        if strict {
            Self::Strict
        } else if enabled {
            Self::On
        } else {
            Self::SwitchedOff
        }
    }
}

/// SANDBOX_INFRA for ids on the allow-list, REAL for every other.
pub fn class_of(id: &str, allowed: &[Allowance]) -> CheckClass {
    if allowed.iter().any(|a| a.id == id) { CheckClass::SandboxInfra } else { CheckClass::Real }
}

/// The verdict. Total: whatever the lists contain, the answer is SUCCESS only if every planned check ran exactly once
/// and each one passed, or failed in a way that a valid allowance names.
pub fn fold(results: &[CheckResult], rules: &FoldRules<'_>) -> StagingVerdict {
    let mut waived = Vec::new();
    let mut because = Vec::new();
    if rules.planned.is_empty() {
        because.push("no check is configured".to_owned());
    }
    if results.is_empty() && !rules.planned.is_empty() {
        because.push("no check was run".to_owned());
    }
    if results.len() < rules.planned.len() {
        because.push(format!("{} of {} configured checks have a result", results.len(), rules.planned.len()));
    }
    for (n, id) in rules.planned.iter().enumerate() {
        if rules.planned.iter().take(n).any(|p| p == id) {
            because.push(format!("{id} is declared twice"));
        } else {
            match results.iter().filter(|r| r.id == *id).count() {
                1 => {}
                0 => because.push(format!("{id} has no result")),
                n => because.push(format!("{id} has {n} results")),
            }
        }
    }
    for r in results {
        if !rules.planned.contains(&r.id) {
            because.push(format!("{} was not declared", r.id));
        }
        match judge(r, rules) {
            Judged::Passed => {}
            Judged::Waived(reason) => waived.push(Waived { id: r.id.clone(), reason }),
            Judged::Failed(why) => because.push(why),
        }
    }
    let status = if because.is_empty() { StagingStatus::Success } else { StagingStatus::Failed };
    StagingVerdict { status, waived, because }
}

enum Judged {
    Passed,
    Waived(String),
    Failed(String),
}

fn judge(r: &CheckResult, rules: &FoldRules<'_>) -> Judged {
    let id = &r.id;
    match (r.class, r.result) {
        (CheckClass::Unknown, _) => Judged::Failed(format!("{id} has an unknown class")),
        (CheckClass::Real | CheckClass::SandboxInfra, CheckOutcome::Pass) => Judged::Passed,
        (CheckClass::Real | CheckClass::SandboxInfra, CheckOutcome::Error) => {
            Judged::Failed(format!("{id} could not be checked: {}", r.detail))
        }
        (CheckClass::Real | CheckClass::SandboxInfra, CheckOutcome::NotRun) => {
            Judged::Failed(format!("{id} was not run"))
        }
        (CheckClass::Real | CheckClass::SandboxInfra, CheckOutcome::Unknown) => {
            Judged::Failed(format!("{id} has an unknown result"))
        }
        (CheckClass::Real, CheckOutcome::Fail) => Judged::Failed(format!("{id} failed: {}", r.detail)),
        (CheckClass::SandboxInfra, CheckOutcome::Fail) => match rules.tolerance {
            Tolerance::Strict => Judged::Failed(format!("{id} failed, and --strict waives nothing: {}", r.detail)),
            Tolerance::SwitchedOff => {
                Judged::Failed(format!("{id} failed, and staging.infra_tolerance_enabled is off: {}", r.detail))
            }
            Tolerance::On => waive(r, rules),
        },
    }
}

/// The first valid allowance that names this failure; else the reason why none does.
fn waive(r: &CheckResult, rules: &FoldRules<'_>) -> Judged {
    let mut why_not = format!("{} is not on the allow-list", r.id);
    for a in rules.allowed.iter().filter(|a| a.id == r.id) {
        if a.expires.is_some_and(|last| last < rules.today) {
            why_not = format!(
                "the allowance for {} expired{}",
                r.id,
                a.expires.map(|d| format!(" on {d}")).unwrap_or_default()
            );
            continue;
        }
        let wanted = a.signature.as_deref().filter(|s| !s.trim().is_empty());
        if let Some(s) = wanted
            && !r.detail.to_lowercase().contains(&s.trim().to_lowercase())
        {
            why_not = format!("{} did not fail by its known signature {s:?}", r.id);
            continue;
        }
        let by = a.owner.as_deref().map(|o| format!(", owner {o}")).unwrap_or_default();
        let until = a.expires.map(|d| format!(", until {d}")).unwrap_or_default();
        let known = wanted.map_or_else(|| "on the allow-list".to_owned(), |s| format!("known failure {s:?}"));
        return Judged::Waived(format!("{known}{by}{until}: {}", r.detail));
    }
    Judged::Failed(format!("{} failed and is not waived ({why_not}): {}", r.id, r.detail))
}

/// The two built-in allowances of a self-hosting project: its sandbox may be out of order without the release being
/// bad.
pub fn built_in_allowances() -> Vec<Allowance> {
    vec![Allowance::of("C9a"), Allowance::of("C9b")]
}

/// The ids of the self-hosting suite, in order. B6 has its place in it although it needs no fact.
pub const SELF_HOSTING: [&str; 12] = ["A1", "A2", "A3", "A4", "B1", "B2", "B3", "B4", "B5", "B6", "C9a", "C9b"];

/// The name of a self-hosting check for people.
pub fn self_hosting_name(id: &str) -> Option<&'static str> {
    Some(match id {
        "A1" => "the release's binary reports its version",
        "A2" => "its configuration is read",
        "A3" => "a copy of the database opens",
        "A4" => "the copy migrates",
        "B1" => "the board answers",
        "B2" => "the forge answers",
        "B3" => "the notifier answers",
        "B4" => "every status resolves",
        "B5" => "every intent resolves",
        "B6" => "the result list keeps its shape",
        "C9a" => "the sandbox item has a branch",
        "C9b" => "the sandbox item's analyst is queued",
        _ => return None,
    })
}

/// Judges the self-hosting suite from what the caller saw. `declared` are the results before it: B6 checks their shape.
pub fn self_hosting(facts: &SelfHostingFacts, declared: &[CheckResult]) -> Vec<CheckResult> {
    let allowed = built_in_allowances();
    let named: [(&str, Option<&Fact>); 11] = [
        ("A1", facts.binary.as_ref()),
        ("A2", facts.config.as_ref()),
        ("A3", facts.database_opens.as_ref()),
        ("A4", facts.database_migrates.as_ref()),
        ("B1", facts.board.as_ref()),
        ("B2", facts.forge.as_ref()),
        ("B3", facts.notifier.as_ref()),
        ("B4", facts.statuses.as_ref()),
        ("B5", facts.intents.as_ref()),
        ("C9a", facts.sandbox_branch.as_ref()),
        ("C9b", facts.sandbox_job.as_ref()),
    ];
    SELF_HOSTING
        .iter()
        .map(|id| {
            let class = class_of(id, &allowed);
            if *id == "B6" {
                return shape(declared);
            }
            match named.iter().find(|(n, _)| n == id).and_then(|(_, f)| *f) {
                Some(f) => {
                    let result = if f.holds { CheckOutcome::Pass } else { CheckOutcome::Fail };
                    CheckResult::new(id, class, result, &f.detail, f.time_ms)
                }
                None => CheckResult::new(id, class, CheckOutcome::Error, "nobody checked it", 0),
            }
        })
        .map(|result| {
            let name = self_hosting_name(&result.id);
            result.named(name)
        })
        .collect()
}

/// B6: the result list is `[{id, class, result, detail, time_ms}]`, in that order, with words and numbers in place.
fn shape(declared: &[CheckResult]) -> CheckResult {
    let own = CheckResult::new("B6", CheckClass::Real, CheckOutcome::Pass, "the result list keeps its shape", 0);
    for r in declared.iter().chain(std::iter::once(&own)) {
        let keys: Option<Vec<String>> =
            serde_json::to_value(r).ok().and_then(|v| v.as_object().map(|o| o.keys().cloned().collect()));
        if keys.as_deref().is_none_or(|k| k != CheckResult::FIELDS) {
            let detail = format!("the entry of {} has other fields than {:?}", r.id, CheckResult::FIELDS);
            return CheckResult::new("B6", CheckClass::Real, CheckOutcome::Fail, &detail, 0);
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn result(id: &str, class: CheckClass, outcome: CheckOutcome) -> CheckResult {
        CheckResult::new(id, class, outcome, "connect: Connection refused", 1)
    }

    fn ids(results: &[CheckResult]) -> Vec<String> {
        results.iter().map(|r| r.id.clone()).collect()
    }

    fn run(results: &[CheckResult], allowed: &[Allowance], tolerance: Tolerance) -> StagingVerdict {
        let planned = ids(results);
        fold(results, &FoldRules { planned: &planned, allowed, tolerance, today: date(2026, 6, 1) })
    }

    const SUCCESS: StagingStatus = StagingStatus::Success;
    const FAILED: StagingStatus = StagingStatus::Failed;

    #[test]
    fn only_allow_listed_failures_are_waived_and_only_with_tolerance() {
        let mut seen = 0;
        for class in CheckClass::ALL {
            for outcome in CheckOutcome::ALL {
                for strict in [false, true] {
                    for enabled in [false, true] {
                        for listed in [false, true] {
                            let results =
                                [result("S0", CheckClass::Real, CheckOutcome::Pass), result("S1", *class, *outcome)];
                            let allowed = if listed { vec![Allowance::of("S1")] } else { vec![] };
                            let v = run(&results, &allowed, Tolerance::of(strict, enabled));
                            let passed = *outcome == CheckOutcome::Pass && *class != CheckClass::Unknown;
                            let waived = *class == CheckClass::SandboxInfra
                                && *outcome == CheckOutcome::Fail
                                && listed
                                && enabled
                                && !strict;
                            let want = if passed || waived { SUCCESS } else { FAILED };
                            assert_eq!(
                                v.status, want,
                                "{class} {outcome} strict={strict} on={enabled} listed={listed}"
                            );
                            assert_eq!(v.waived.len(), usize::from(waived));
                            assert_eq!(v.because.is_empty(), want == SUCCESS);
                            seen += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(seen, 3 * 5 * 8);
    }

    #[test]
    fn every_pair_of_results_fails_when_one_of_them_does() {
        for a in CheckOutcome::ALL {
            for b in CheckOutcome::ALL {
                for class in [CheckClass::Real, CheckClass::SandboxInfra] {
                    let results = [result("S1", CheckClass::Real, *a), result("S2", class, *b)];
                    let v = run(&results, &[Allowance::of("S2")], Tolerance::On);
                    let b_fine =
                        *b == CheckOutcome::Pass || (class == CheckClass::SandboxInfra && *b == CheckOutcome::Fail);
                    assert_eq!(v.status == SUCCESS, *a == CheckOutcome::Pass && b_fine, "{a} {b} {class}");
                }
            }
        }
    }

    #[test]
    fn nothing_declared_and_nothing_run_is_failed() {
        assert_eq!(run(&[], &[], Tolerance::On).status, FAILED);
        let planned = vec!["S1".to_owned()];
        let rules = FoldRules { planned: &planned, allowed: &[], tolerance: Tolerance::On, today: date(2026, 6, 1) };
        assert_eq!(fold(&[], &rules).status, FAILED);
    }

    #[test]
    fn fewer_doubled_or_foreign_results_are_failed() {
        let s1 = result("S1", CheckClass::Real, CheckOutcome::Pass);
        let s2 = result("S2", CheckClass::Real, CheckOutcome::Pass);
        let planned = vec!["S1".to_owned(), "S2".to_owned()];
        let rules = FoldRules { planned: &planned, allowed: &[], tolerance: Tolerance::On, today: date(2026, 6, 1) };
        assert_eq!(fold(&[s1.clone(), s2.clone()], &rules).status, SUCCESS);
        assert_eq!(fold(std::slice::from_ref(&s1), &rules).status, FAILED);
        assert_eq!(fold(&[s1.clone(), s1.clone()], &rules).status, FAILED);
        let s3 = result("S3", CheckClass::Real, CheckOutcome::Pass);
        assert_eq!(fold(&[s1.clone(), s2, s3], &rules).status, FAILED);
        let doubled = vec!["S1".to_owned(), "S1".to_owned()];
        let rules = FoldRules { planned: &doubled, ..rules };
        assert_eq!(fold(&[s1.clone(), s1], &rules).status, FAILED);
    }

    #[test]
    fn an_allowance_holds_for_its_signature_until_its_last_day() {
        let fail = [result("S1", CheckClass::SandboxInfra, CheckOutcome::Fail)];
        let allow = |signature: Option<&str>, expires| Allowance {
            id: "S1".into(),
            signature: signature.map(str::to_owned),
            owner: Some("ann".into()),
            expires,
        };
        for (signature, expires, want) in [
            (Some("REFUSED"), None, SUCCESS),
            (Some("timed out"), None, FAILED),
            (Some(""), None, SUCCESS),
            (None, Some(date(2026, 6, 1)), SUCCESS),
            (None, Some(date(2026, 5, 31)), FAILED),
            (Some("refused"), Some(date(2027, 1, 31)), SUCCESS),
        ] {
            let v = run(&fail, &[allow(signature, expires)], Tolerance::On);
            assert_eq!(v.status, want, "{signature:?} {expires:?}");
            assert_eq!(v.waiver("S1").is_some(), want == SUCCESS);
        }
        let both = [allow(Some("timed out"), None), allow(Some("refused"), None)];
        assert_eq!(run(&fail, &both, Tolerance::On).status, SUCCESS);
    }

    #[test]
    fn what_nobody_checked_fails_the_self_hosting_suite() {
        let results = self_hosting(&SelfHostingFacts::default(), &[]);
        assert_eq!(ids(&results), SELF_HOSTING);
        let v = run(&results, &built_in_allowances(), Tolerance::On);
        assert_eq!(v.status, FAILED);
        assert_eq!(v.because.len(), SELF_HOSTING.len() - 1);
    }

    #[test]
    fn a_sandbox_out_of_order_is_waived_for_c9a_and_c9b_alone() {
        let good = Some(Fact { holds: true, detail: "ok".into(), time_ms: 1 });
        let bad = Some(Fact { holds: false, detail: "no branch after 60 s".into(), time_ms: 1 });
        let mut facts = SelfHostingFacts {
            binary: good.clone(),
            config: good.clone(),
            database_opens: good.clone(),
            database_migrates: good.clone(),
            board: good.clone(),
            forge: good.clone(),
            notifier: good.clone(),
            statuses: good.clone(),
            intents: good,
            sandbox_branch: bad.clone(),
            sandbox_job: bad.clone(),
        };
        let v = run(&self_hosting(&facts, &[]), &built_in_allowances(), Tolerance::On);
        assert_eq!((v.status, v.waived.len()), (SUCCESS, 2));
        assert_eq!(run(&self_hosting(&facts, &[]), &built_in_allowances(), Tolerance::Strict).status, FAILED);
        facts.board = bad;
        assert_eq!(run(&self_hosting(&facts, &[]), &built_in_allowances(), Tolerance::On).status, FAILED);
    }
}
