//! What a forge's rules of branches mean for `orch` (GH-1): which will refuse it, and what a person can do. Pure.

use crate::model::examined::Examined;
use crate::model::rules::Rules;
use crate::model::sides::{Method, Via};

/// The branch that everything lands on, and what is known of its rules.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    pub name: &'a str,
    pub rules: &'a Rules,
    /// There is protection other than these rules, which can't be read.
    pub classic: bool,
    pub method: Method,
    pub via: Via,
}

const AREA: &str = "rules";
/// Rules that are met by what `orch` does anyway, that are shown elsewhere, or whose meaning has a sentence here.
const KNOWN: [&str; 8] = [
    "required_status_checks",
    "pull_request",
    "merge_queue",
    "required_signatures",
    "required_deployments",
    "required_linear_history",
    "deletion",
    "non_fast_forward",
];
/// Rules that a push to a task's branch can't pass.
const STOP_TASKS: [&str; 7] = [
    "creation",
    "update",
    "deletion",
    "non_fast_forward",
    "branch_name_pattern",
    "pull_request",
    "required_signatures",
];
/// Rules about the contents of every push: a change may not pass them.
const OF_CONTENT: [(&str, &str); 8] = [
    ("file_path_restriction", "paths that no push may change"),
    ("max_file_path_length", "a longest path"),
    ("file_extension_restriction", "file extensions that no push may add"),
    ("max_file_size", "a largest file"),
    ("commit_message_pattern", "a pattern for commit messages"),
    ("commit_author_email_pattern", "a pattern for authors' addresses (git.author)"),
    ("committer_email_pattern", "a pattern for committers' addresses (git.author)"),
    ("tag_name_pattern", "a pattern for tags"),
];

/// What holds for the default branch.
pub fn of_base(base: &Base<'_>) -> Vec<Examined> {
    let Base { name, rules, .. } = *base;
    let mut all = Vec::new();
    let mut warn = |message: String, fix: &str| all.push(Examined::warn(AREA, message, fix));
    if !rules.strict && base.via == Via::Forge && !rules.queue {
        let message = format!(
            "nothing guards {name} between the last check and the merge: an untested change that lands then is found only afterwards"
        );
        warn(message, "require branches to be up to date before merging, or set merge.via: push");
    }
    let by_person = "the merge then waits for a person (rule forge)";
    for (on, message) in [
        (rules.approvals > 0, format!("{name} requires {} approvals, which orch never gives", rules.approvals)),
        (rules.code_owners, format!("{name} requires a review by its code owners")),
        (rules.review, format!("{name} requires resolved conversations or an approval of the last push")),
        (rules.signatures, format!("{name} requires signed commits, which orch does not make")),
        (rules.deployments, format!("{name} requires deployments")),
    ] {
        if on {
            warn(message, by_person);
        }
    }
    if rules.queue && base.via == Via::Forge {
        let message = format!("{name} has a merge queue: a pull request enters it only while it is empty");
        warn(message, "see that CI also runs on merge_group, or the queue throws every entry out");
    }
    if rules.queue && base.via == Via::Push {
        warn(format!("{name} has a merge queue, which refuses a push"), "set merge.via: forge");
    }
    let method = base.method.as_str();
    if !rules.methods.is_empty() && !rules.methods.iter().any(|m| m == method) {
        let message = format!("{name} allows the merge methods {}, not {method}", rules.methods.join(", "));
        warn(message, "name an allowed one in merge.method");
    }
    let has = |kind: &str| rules.types.iter().any(|t| t == kind);
    if has("required_linear_history") && base.method == Method::Merge {
        warn(
            format!("{name} requires a linear history, which merge commits break"),
            "set merge.method: rebase or squash",
        );
    }
    if has("update") {
        warn(
            format!("nobody may update {name} who is not exempt from its rule"),
            "exempt the account or App in the rule",
        );
    }
    if has("workflows") {
        let message = format!("{name} requires workflows of another repository");
        warn(message, "name their checks in ci.contexts, so that a red one sends the work back");
    }
    all.extend(of_content(rules, name));
    let known = |t: &&String| {
        !KNOWN.contains(&t.as_str())
            && !["update", "workflows", "creation"].contains(&t.as_str())
            && !OF_CONTENT.iter().any(|(kind, _)| kind == t)
    };
    let unknown: Vec<&str> = rules.types.iter().filter(known).map(String::as_str).collect();
    if !unknown.is_empty() {
        let message = format!("{name} has rules that orch does not know: {}", unknown.join(", "));
        all.push(Examined::warn(AREA, message, "if one refuses a merge, the task waits and quotes the forge"));
    }
    if base.classic {
        let message = format!("{name} also has classic protection, which can't be read");
        all.push(Examined::warn(AREA, message, "check it in the repository's settings, or replace it by a ruleset"));
    }
    all
}

/// What holds for task branches, which begin with `prefix`.
pub fn of_tasks(rules: &Rules, prefix: &str) -> Vec<Examined> {
    let stops: Vec<&str> = rules.types.iter().map(String::as_str).filter(|t| STOP_TASKS.contains(t)).collect();
    let mut all = Vec::new();
    if !stops.is_empty() {
        let message = format!("rules apply to branches that begin with {prefix}: {}", stops.join(", "));
        let fix = "let the account push, rewrite and delete there, or name another git.branch_prefix";
        all.push(Examined::warn(AREA, message, fix));
    }
    all.extend(of_content(rules, &format!("branches that begin with {prefix}")));
    all
}

fn of_content(rules: &Rules, whose: &str) -> Option<Examined> {
    let found: Vec<&str> =
        OF_CONTENT.iter().filter(|(kind, _)| rules.types.iter().any(|t| t == kind)).map(|(_, what)| *what).collect();
    (!found.is_empty()).then(|| {
        let message = format!("the rules of {whose} require {}", found.join(", "));
        Examined::warn(AREA, message, "a push that breaks one is refused, and the task quotes the forge")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(types: &[&str]) -> Rules {
        Rules { strict: true, types: types.iter().map(|t| (*t).to_owned()).collect(), ..Rules::default() }
    }

    #[test]
    fn gh_1_each_rule_that_can_refuse_has_one_sentence_and_the_others_none() {
        let strict = Rules { strict: true, ..Rules::default() };
        for (rules, method, via, want) in [
            (strict.clone(), Method::Merge, Via::Forge, &[][..]),
            (Rules::default(), Method::Merge, Via::Forge, &["nothing guards main"]),
            (Rules::default(), Method::Merge, Via::Push, &[]),
            (Rules { approvals: 2, ..strict.clone() }, Method::Merge, Via::Forge, &["2 approvals"]),
            (Rules { code_owners: true, ..strict.clone() }, Method::Merge, Via::Forge, &["code owners"]),
            (Rules { review: true, ..strict.clone() }, Method::Merge, Via::Forge, &["resolved conversations"]),
            (Rules { signatures: true, ..strict.clone() }, Method::Merge, Via::Forge, &["signed commits"]),
            (Rules { deployments: true, ..strict.clone() }, Method::Merge, Via::Forge, &["requires deployments"]),
            (
                Rules { queue: true, ..Rules::default() },
                Method::Merge,
                Via::Forge,
                &["enters it only while it is empty"],
            ),
            (Rules { queue: true, ..Rules::default() }, Method::Merge, Via::Push, &["refuses a push"]),
            (
                Rules { methods: vec!["squash".into()], ..strict.clone() },
                Method::Rebase,
                Via::Forge,
                &["squash, not rebase"],
            ),
            (Rules { methods: vec!["squash".into()], ..strict.clone() }, Method::Squash, Via::Forge, &[]),
            (typed(&["required_linear_history"]), Method::Merge, Via::Forge, &["linear history"]),
            (typed(&["required_linear_history"]), Method::Squash, Via::Forge, &[]),
            (typed(&["update"]), Method::Merge, Via::Forge, &["nobody may update main"]),
            (typed(&["workflows"]), Method::Merge, Via::Forge, &["workflows of another repository"]),
            (
                typed(&["max_file_size", "commit_message_pattern"]),
                Method::Merge,
                Via::Forge,
                &["a largest file, a pattern"],
            ),
            (
                typed(&["deletion", "non_fast_forward", "creation", "required_status_checks"]),
                Method::Merge,
                Via::Forge,
                &[],
            ),
            (typed(&["from_the_future"]), Method::Merge, Via::Forge, &["does not know: from_the_future"]),
        ] {
            let base = Base { name: "main", rules: &rules, classic: false, method, via };
            let found = of_base(&base);
            let texts: Vec<&str> = found.iter().map(|e| e.message.as_str()).collect();
            assert_eq!(texts.len(), want.len(), "{rules:?}: {texts:?}");
            for (text, part) in texts.iter().zip(want) {
                assert!(text.contains(part), "{text}");
            }
        }
        let base = Base { name: "main", rules: &strict, classic: true, method: Method::Merge, via: Via::Forge };
        assert!(of_base(&base)[0].message.contains("classic protection"));
    }

    #[test]
    fn gh_1_rules_of_task_branches_are_named() {
        assert_eq!(of_tasks(&typed(&["required_status_checks", "required_linear_history"]), "feature/"), []);
        let found = of_tasks(&typed(&["creation", "non_fast_forward", "max_file_size"]), "feature/");
        assert_eq!(found.len(), 2);
        assert!(found[0].message.ends_with("feature/: creation, non_fast_forward"), "{}", found[0].message);
    }
}
