//! `orch show` in words (ORD-5): `orch`'s own facts first and last; texts from others quoted, one line each.

use super::locale::{self, Word};
use crate::model::artefact::Artefact;
use crate::model::card::Locale;
use crate::model::ids::Sha;
use crate::model::inputs::{first, line};
use crate::model::shown::{Line, NOT_INDEPENDENT, Shown, first_line};
use crate::model::stage::Stage;
use crate::model::task::Waiting;
use crate::model::text::{beginning, clip, defused, visible};
use std::fmt::Write as _;

/// The longest quoted line, in characters.
const QUOTE: usize = 160;

/// Verdict inputs listed; `--json` has them all.
const INPUTS: usize = 30;

/// The whole page: where the task is, what it waits for, its documents, and how to answer.
pub fn page(shown: &Shown) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let wait = match shown.wait {
        Some(Waiting::Approval) => ", waiting for approval of the analysis",
        Some(Waiting::ConfirmDeploy) => ", waiting for Confirm Deploy",
        None => "",
    };
    say(format!("{}  {}  ({}{wait})", shown.key, clip(&shown.title, 100), shown.stage));
    if !shown.inputs.is_empty() {
        say("changes what CI means:".to_owned());
    }
    for input in first(&shown.inputs, INPUTS) {
        say(format!("  {}: {}", clip(&visible(&input.path), 120), clip(&visible(&input.why), QUOTE)));
    }
    if let Some(branch) = &shown.branch {
        say(format!("branch: {branch}"));
    }
    if let Some(url) = &shown.pull_request {
        say(format!("pull request: {}", clip(url, 200)));
    }
    if let Some(diff) = &shown.diff {
        let head: String = diff.head.as_str().chars().take(10).collect();
        let files = if diff.files == 1 { "file" } else { "files" };
        say(format!("{} {files} changed, +{} -{}, head {head}", diff.files, diff.insertions, diff.deletions));
    }
    for v in &shown.verdicts {
        let commit: String = v.commit.as_str().chars().take(10).collect();
        let note = if v.independent { String::new() } else { format!(" ({NOT_INDEPENDENT})") };
        say(format!("{}: {} on {commit}{note}", v.gate, v.verdict));
    }
    if let Some(argv) = &shown.deploy_command {
        say(format!("deploy command: {}", clip(&argv.join(" "), 200)));
    }
    if let Some(user) = &shown.deploy_user {
        say(format!("deploy runs the landed code as {user}"));
    }
    if !shown.documents.is_empty() {
        say("documents:".to_owned());
    }
    for d in &shown.documents {
        let heading = d.heading.as_deref().map(|h| clip(&visible(h), 80)).unwrap_or_default();
        say(format!("  {:<30} {heading}", clip(&visible(&d.name), 60)).trim_end().to_owned());
        if let Some(line) = first_line(&d.text) {
            say(format!("    > {}", clip(&visible(line), QUOTE)));
        }
    }
    answers(shown).into_iter().for_each(say);
    text
}

/// What a person sees next to a question (ORD-5): `orch`'s own facts first and last, words of others quoted in between,
/// one line each. The caller adds how to answer, and changed verdict inputs.
pub fn lines(shown: &Shown, locale: Locale) -> Vec<Line> {
    let key = shown.key.as_str();
    let say = |word: Word, with: &[(&str, &str)]| {
        let mut text = locale::word(locale, word).replace("{key}", key);
        for (place, value) in with {
            text = text.replace(place, value);
        }
        Line::Fact(text)
    };
    let quote = |text: &str| Line::Quote(clip(&defused(text), QUOTE));
    let mut out = Vec::new();
    match shown.wait {
        None => {}
        Some(Waiting::Approval) => {
            if let Some(branch) = &shown.branch {
                out.push(say(Word::Branch, &[("{branch}", branch)]));
            }
            out.push(quote(&shown.title));
            for name in [Artefact::Brief, Artefact::Requirements, Artefact::AcceptanceCriteria, Artefact::TestPlan] {
                if let Some(d) = shown.documents.iter().find(|d| d.name == name.as_str()) {
                    out.push(quote(&format!("{name}: {}", first_line(&d.text).unwrap_or("-"))));
                }
            }
            out.push(say(Word::ReadShow, &[]));
        }
        Some(Waiting::ConfirmDeploy) => {
            if let Some(diff) = &shown.diff {
                let (files, head) = (diff.files.to_string(), ten(&diff.head));
                let word = if diff.files == 1 { Word::ChangedOne } else { Word::Changed };
                out.push(say(word, &[("{files}", &files), ("{head}", &head)]));
            }
            for v in &shown.verdicts {
                let commit = ten(&v.commit);
                out.push(say(Word::Verdict, &[("{gate}", &v.gate), ("{verdict}", &v.verdict), ("{commit}", &commit)]));
                if !v.independent {
                    out.push(Line::Fact(NOT_INDEPENDENT.to_owned()));
                }
            }
            if let Some(argv) = &shown.deploy_command {
                out.push(say(Word::DeployCommand, &[("{command}", &clip(&visible(&argv.join(" ")), QUOTE))]));
            }
            if let Some(user) = &shown.deploy_user {
                out.push(say(Word::DeployUser, &[("{user}", user)]));
            }
            out.push(quote(&shown.title));
            out.push(say(Word::ReadDiff, &[]));
        }
    }
    out
}

/// The minimum a question shows: what it is about, and where to read more.
pub fn bare(key: &str, title: &str, locale: Locale) -> Vec<Line> {
    let read = locale::word(locale, Word::ReadShow).replace("{key}", key);
    vec![Line::Quote(clip(&defused(title), QUOTE)), Line::Fact(read)]
}

fn ten(sha: &Sha) -> String {
    sha.as_str().chars().take(10).collect()
}

/// The lines as plain text, each quote marked.
pub fn plain(lines: &[Line]) -> Vec<String> {
    let one = |line: &Line| match line {
        Line::Fact(text) => text.clone(),
        Line::Quote(text) => format!("> {text}"),
    };
    lines.iter().map(one).collect()
}

/// Bytes of each document in a board's comment.
const DOCUMENT_BYTES: usize = 6 << 10;

/// The comment that a wait leaves on the work item: the lines and, for an approval, the analysis itself, fenced so that
/// it can't pass for anything else.
pub fn comment(shown: &Shown, status: Option<&str>) -> String {
    let mut text = String::new();
    let asked = match shown.wait {
        Some(Waiting::Approval) => "The analysis waits for approval.",
        Some(Waiting::ConfirmDeploy) => "The deploy waits for confirmation.",
        None => "",
    };
    let _ = writeln!(text, "{asked}  ");
    if !shown.inputs.is_empty() {
        let _ = writeln!(text, "Changes what CI means: `{}`  ", line(&shown.inputs, 500).replace('`', "'"));
    }
    for line in lines(shown, Locale::En) {
        let _ = match line {
            Line::Fact(fact) => writeln!(text, "{fact}  "),
            Line::Quote(quote) => writeln!(text, "> `{}`  ", quote.replace('`', "'")),
        };
    }
    if shown.wait == Some(Waiting::Approval) {
        for d in shown.documents.iter().filter(|d| Artefact::of(&d.name).is_some_and(is_analysis)) {
            let body = visible(beginning(&d.text, DOCUMENT_BYTES));
            let cut = if d.text.len() > DOCUMENT_BYTES { "\n…" } else { "" };
            let _ = writeln!(text, "\n{}", fenced(&format!("{}:", d.name), &format!("{}{cut}", body.trim_end())));
        }
    }
    text.push('\n');
    if let Some(status) = status {
        let _ = writeln!(text, "To answer, set {} here, or run:  ", clip(&defused(status), 60));
    }
    for way in answers(shown) {
        let _ = writeln!(text, "`{way}`  ");
    }
    text
}

fn is_analysis(artefact: Artefact) -> bool {
    Artefact::of_stage(Stage::Analysis).any(|a| a == artefact)
}

fn fenced(head: &str, body: &str) -> String {
    let ticks = |line: &str| line.trim_start().chars().take_while(|c| *c == '`').count();
    let fence = "`".repeat(body.lines().map(ticks).max().unwrap_or(0).max(2) + 1);
    format!("{head}\n\n{fence}markdown\n{body}\n{fence}")
}

/// What can be typed now, one command a line.
pub fn answers(shown: &Shown) -> Vec<String> {
    let key = &shown.key;
    let reject = format!("reject:  orch advance {key} --reject 'what is wrong'");
    match shown.wait {
        Some(Waiting::Approval) => {
            vec![format!("read:    orch show {key} NAME"), format!("approve: orch advance {key} --approve"), reject]
        }
        Some(Waiting::ConfirmDeploy) => {
            vec![format!("read:    orch diff {key}"), format!("deploy:  orch advance {key} --confirm-deploy"), reject]
        }
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Key;
    use crate::model::shown::{DiffSize, ShownDocument, ShownVerdict};

    fn sha(c: char) -> Sha {
        Sha::parse(&c.to_string().repeat(40)).unwrap()
    }

    fn shown(wait: Waiting) -> Shown {
        let document = |name: &str, text: &str| ShownDocument {
            name: name.to_owned(),
            heading: None,
            sha: sha('d'),
            text: text.to_owned(),
        };
        Shown {
            key: Key::parse("ORCH-7").unwrap(),
            title: "Greet @all at https://evil.example".to_owned(),
            stage: Stage::Deploy,
            wait: Some(wait),
            branch: Some("feature/ORCH-7-greet".to_owned()),
            pull_request: None,
            inputs: Vec::new(),
            documents: vec![
                document("01-brief.md", "---\na: b\n---\n# Brief\n\nSay \u{202e}hello.\nMore."),
                document("04-test-plan.md", "# Plan\n```\n````\nrun ``it``"),
                document("12-review.md", "no part of the analysis"),
            ],
            diff: Some(DiffSize { base: sha('b'), head: sha('a'), files: 3, insertions: 1, deletions: 2 }),
            verdicts: vec![ShownVerdict {
                gate: "review_verdict".into(),
                verdict: "pass".into(),
                commit: sha('c'),
                independent: false,
            }],
            deploy_command: Some(vec!["./deploy.sh".into(), "prod".into()]),
            deploy_user: Some("orch".into()),
        }
    }

    #[test]
    fn facts_come_first_and_last_and_others_words_are_quoted() {
        let approval = plain(&lines(&shown(Waiting::Approval), Locale::En));
        assert_eq!(
            approval,
            [
                "branch: feature/ORCH-7-greet",
                "> Greet (at)all at https[:]//evil.example",
                "> 01-brief.md: Say <U+202E>hello.",
                "> 04-test-plan.md: ```",
                "read it: orch show ORCH-7",
            ]
        );
        let deploy = plain(&lines(&shown(Waiting::ConfirmDeploy), Locale::En));
        assert_eq!(
            deploy,
            [
                "3 files changed, head aaaaaaaaaa",
                "review_verdict: pass on cccccccccc",
                NOT_INDEPENDENT,
                "deploy command: ./deploy.sh prod",
                "deploy runs the landed code as orch",
                "> Greet (at)all at https[:]//evil.example",
                "read it: orch diff ORCH-7",
            ]
        );
        for wait in [Waiting::Approval, Waiting::ConfirmDeploy] {
            let all = lines(&shown(wait), Locale::Ru);
            assert!(matches!((all.first(), all.last()), (Some(Line::Fact(_)), Some(Line::Fact(_)))));
        }
        assert!(lines(&Shown { wait: None, ..shown(Waiting::Approval) }, Locale::En).is_empty());
    }

    #[test]
    fn a_boards_comment_has_the_analysis_fenced_and_nothing_else_of_the_branch() {
        let text = comment(&shown(Waiting::Approval), Some("Approved"));
        assert!(text.contains("01-brief.md:\n\n```markdown\n") && text.contains("`````markdown\n# Plan"), "{text}");
        assert!(
            !text.contains("no part of")
                && text.contains("To answer, set Approved here")
                && text.trim_end().ends_with("--reject 'what is wrong'`"),
            "{text}"
        );
        assert!(text.contains("> `Greet (at)all"), "{text}");
        let long = "x".repeat(100_000);
        let mut big = shown(Waiting::Approval);
        big.documents[0].text = long;
        assert!(comment(&big, None).len() < 10_000);
        assert!(!comment(&shown(Waiting::ConfirmDeploy), None).contains("markdown"));
    }
}
