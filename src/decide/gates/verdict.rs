//! Reads verdicts from documents (PIPE-5): total, and a value outside its list is no verdict. Freshness is not judged
//! here: the input is the file as the pushed head has it.

use crate::model::artefact::{Artefact, folder, listed, short, token, validate};
use crate::model::deploy::DeployWord;
use crate::model::evidence::EvidenceVerdict;
use crate::model::finding::{Finding, Origin};
use crate::model::frontmatter::{Document, Field, Read, read};
use crate::model::gate::Gate;
use crate::model::ids::Key;
use crate::model::scan::{ScanReason, ScanVerdict};
use crate::model::stage::Stage;
use crate::model::staging::StagingStatus;
use crate::model::text::beginning;
use crate::model::watch::WatchStatus;

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    /// No verdict, which counts as missing: why.
    None(String),
}

/// A verdict and the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub verdict: Verdict,
    pub why: String,
}

impl Reading {
    fn none(why: String) -> Self {
        Self { verdict: Verdict::None(why.clone()), why }
    }

    /// The word for the evidence row.
    pub fn evidence(&self) -> EvidenceVerdict {
        match self.verdict {
            Verdict::Pass => EvidenceVerdict::Pass,
            Verdict::Fail => EvidenceVerdict::Fail,
            Verdict::None(_) => EvidenceVerdict::Missing,
        }
    }
}

/// The tester's negative words, exactly; any word of neither list is negative too.
pub const NEGATIVE: &[&str] = &["FAIL", "FAILED", "FAILURE", "REJECTED", "BLOCKED", "ERROR", "NO"];
/// The tester's positive words, exactly.
pub const POSITIVE: &[&str] = &["PASS", "PASSED", "OK", "SUCCESS"];

/// The one verdict word of an artefact, as the table spells it; else why there is none.
fn word(artefact: Artefact, doc: &Document) -> Result<(&'static str, &'static str), String> {
    let schema = artefact.schema();
    let name = schema.verdict.first().copied().unwrap_or_default();
    let expected = schema.values.join(" or ");
    match doc.field(name) {
        Some(Field::Text(text)) if !token(text).is_empty() => {
            listed(schema.values, text).map(|value| (name, value)).ok_or_else(|| {
                format!("{artefact}: `{name}` is {}, which is not a verdict; expected {expected}", short(text))
            })
        }
        Some(Field::List(_) | Field::Nested) => {
            Err(format!("{artefact}: `{name}` is not a single word; expected {expected}"))
        }
        Some(Field::Text(_)) | None => Err(format!("{artefact}: `{name}` is missing; expected {expected}")),
    }
}

fn answer(artefact: Artefact, doc: &Document, passes: impl Fn(&'static str) -> Verdict) -> Reading {
    match word(artefact, doc) {
        Ok((name, value)) => {
            let verdict = passes(value);
            let why = match &verdict {
                Verdict::None(why) => why.clone(),
                Verdict::Pass | Verdict::Fail => format!("{artefact}: {name} {value}"),
            };
            Reading { verdict, why }
        }
        Err(why) => Reading::none(why),
    }
}

/// `12-review.md`: APPROVED passes, REQUEST_CHANGES fails.
pub fn review_verdict(doc: &Document) -> Reading {
    answer(Artefact::Review, doc, |v| if v == "APPROVED" { Verdict::Pass } else { Verdict::Fail })
}

/// `13-test-report.md`: the words of all three fields; one negative anywhere fails, and a pass needs a positive one.
pub fn tests_verdict(doc: &Document) -> Reading {
    let mut positive = None;
    for name in Artefact::TestReport.schema().verdict {
        let words = match doc.field(name) {
            None => continue,
            Some(Field::Text(text)) => vec![text.clone()],
            Some(Field::List(items)) => items.clone(),
            Some(Field::Nested) => vec!["a mapping".to_owned()],
        };
        for text in words {
            let token = token(&text);
            if token.is_empty() {
                continue;
            }
            let said = format!("{}: {name} {}", Artefact::TestReport, short(&text));
            if POSITIVE.contains(&token.as_str()) {
                positive.get_or_insert(said);
            } else {
                let known = NEGATIVE.contains(&token.as_str());
                let why = if known { said } else { format!("{said}, which is not positive and counts as FAIL") };
                return Reading { verdict: Verdict::Fail, why };
            }
        }
    }
    match positive {
        Some(why) => Reading { verdict: Verdict::Pass, why },
        None => Reading::none(format!(
            "{}: none of `result`, `verdict`, `status` has a verdict; expected PASS or FAIL",
            Artefact::TestReport
        )),
    }
}

/// `15-staging-log.md`.
pub fn staging_status(doc: &Document) -> Reading {
    answer(Artefact::StagingLog, doc, |v| match StagingStatus::parse(v) {
        Some(StagingStatus::Success) => Verdict::Pass,
        Some(StagingStatus::Failed) => Verdict::Fail,
        None => Verdict::None(format!("{v} is not known")),
    })
}

/// `17-security-report.md`. What a FAIL means for the task depends on [`security_reason`].
pub fn security_status(doc: &Document) -> Reading {
    let mut answer = answer(Artefact::SecurityReport, doc, |v| match ScanVerdict::parse(v) {
        Some(ScanVerdict::Pass) if doc.text("reason").is_some() => {
            Verdict::None(format!("{}: both PASS and a `reason`; expected one of the two", Artefact::SecurityReport))
        }
        Some(ScanVerdict::Pass) => Verdict::Pass,
        Some(ScanVerdict::Fail) => Verdict::Fail,
        None => Verdict::None(format!("{v} is not known")),
    });
    if answer.verdict == Verdict::Fail {
        let reason = security_reason(doc).map_or("without a readable reason", ScanReason::as_str);
        answer.why = format!("{} ({reason})", answer.why);
    }
    answer
}

/// Why a scan failed: only `findings` sends a task back. `None`: no reason, or one that is not in the list.
pub fn security_reason(doc: &Document) -> Option<ScanReason> {
    doc.text("reason").and_then(|r| ScanReason::parse(&token(r).to_ascii_lowercase()))
}

/// `14-deploy-log.md`: the record; the gate itself reads the result sentinel.
pub fn deploy_status(doc: &Document) -> Reading {
    answer(Artefact::DeployLog, doc, |v| match DeployWord::parse(v) {
        Some(DeployWord::Success) => Verdict::Pass,
        Some(DeployWord::Failed) => Verdict::Fail,
        None => Verdict::None(format!("{v} is not known")),
    })
}

/// `16-post-deploy-log.md`: HEALTHY passes, DEGRADED fails, the other two do neither.
pub fn post_deploy_status(doc: &Document) -> Reading {
    answer(Artefact::PostDeployLog, doc, |v| match WatchStatus::parse(v) {
        Some(WatchStatus::Healthy) => Verdict::Pass,
        Some(WatchStatus::Degraded) => Verdict::Fail,
        Some(WatchStatus::Inconclusive | WatchStatus::Cancelled) | None => {
            Verdict::None(format!("{}: {v}, which says neither", Artefact::PostDeployLog))
        }
    })
}

/// One ADR: any status of the list passes, so this answer is never a fail.
pub fn adr_status(doc: &Document) -> Reading {
    answer(Artefact::Adr, doc, |_| Verdict::Pass)
}

/// A file of the work item's folder: its path below it, and its bytes at the pushed head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File<'a> {
    pub path: &'a str,
    pub bytes: &'a [u8],
}

/// The document in a file; else why it can't be used, with the file's name.
fn document(file: File<'_>) -> Result<Document, String> {
    match read(file.bytes) {
        Read::Document(doc) => Ok(doc),
        Read::Absent => Err(format!("{}: no front matter", file.path)),
        Read::Broken(why) => Err(format!("{}: {why}", file.path)),
    }
}

/// `analysis_complete`: the analyst's four files exist, are not empty and have readable front matter.
pub fn analysis_complete(files: &[File<'_>], absent: impl Fn(Artefact) -> String) -> Reading {
    let mut faults = Vec::new();
    let mut count = 0;
    for artefact in Artefact::of_stage(Stage::Analysis) {
        count += 1;
        match files.iter().find(|f| f.path == artefact.as_str()).map(|f| document(*f)) {
            None => faults.push(absent(artefact)),
            Some(Err(why)) => faults.push(why),
            Some(Ok(doc)) if doc.body.trim().is_empty() => faults.push(format!("{artefact}: empty")),
            Some(Ok(_)) => {}
        }
    }
    if faults.is_empty() {
        return Reading { verdict: Verdict::Pass, why: format!("the {count} files of the analysis are there") };
    }
    Reading::none(faults.join("; "))
}

/// `architecture_done`: at least one ADR, and every one of them readable, with a status of the list and a text.
pub fn architecture_done(files: &[File<'_>]) -> Reading {
    let mut faults = Vec::new();
    let mut count = 0;
    for file in files.iter().filter(|f| Artefact::of(f.path) == Some(Artefact::Adr)) {
        count += 1;
        match document(*file) {
            Err(why) => faults.push(why),
            Ok(doc) => match adr_status(&doc).verdict {
                Verdict::Pass if doc.body.trim().is_empty() => faults.push(format!("{}: empty", file.path)),
                Verdict::Pass => {}
                Verdict::Fail => faults.push(format!("{}: failed", file.path)),
                Verdict::None(why) => faults.push(format!("{}: {why}", file.path)),
            },
        }
    }
    if count == 0 {
        faults.push(format!("no {}", Artefact::Adr));
    }
    if !faults.is_empty() {
        return Reading::none(faults.join("; "));
    }
    Reading { verdict: Verdict::Pass, why: format!("{count} ADR") }
}

/// The verdict of one artefact's file; `None` is a file that does not exist. The file of an artefact without a verdict
/// must be readable and not empty.
pub fn judge(artefact: Artefact, bytes: Option<&[u8]>) -> Reading {
    let Some(bytes) = bytes else { return Reading::none(format!("{artefact}: missing")) };
    let doc = match document(File { path: artefact.as_str(), bytes }) {
        Ok(doc) => doc,
        Err(why) => return Reading::none(why),
    };
    match artefact {
        Artefact::Brief | Artefact::Requirements | Artefact::AcceptanceCriteria | Artefact::TestPlan => {
            if doc.body.trim().is_empty() {
                return Reading::none(format!("{artefact}: empty"));
            }
            Reading { verdict: Verdict::Pass, why: format!("{artefact}: there") }
        }
        Artefact::Adr => adr_status(&doc),
        Artefact::Review => review_verdict(&doc),
        Artefact::TestReport => tests_verdict(&doc),
        Artefact::StagingLog => staging_status(&doc),
        Artefact::SecurityReport => security_status(&doc),
        Artefact::DeployLog => deploy_status(&doc),
        Artefact::PostDeployLog => post_deploy_status(&doc),
    }
}

/// The verdict on the files of a stage's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub reading: Reading,
    /// For the developer; only with a fail.
    pub findings: Vec<Finding>,
    /// Schema faults with the file's name: warnings, or with `frontmatter.validation_strict` the gate's *no* (PIPE-6).
    pub faults: Vec<String>,
}

impl Judged {
    /// The verdict and its sentence for the evidence row; `strict`: schema faults leave no verdict (PIPE-6).
    pub fn answer(&self, strict: bool) -> (EvidenceVerdict, String) {
        if strict && !self.faults.is_empty() {
            return (EvidenceVerdict::Missing, format!("front matter: {}", self.faults.join("; ")));
        }
        (self.reading.evidence(), self.reading.why.clone())
    }
}

/// The gate that the run of a stage's agent gives a verdict for.
pub fn gate_of(stage: Stage) -> Option<Gate> {
    match stage {
        Stage::Analysis => Some(Gate::AnalysisComplete),
        Stage::Architecture => Some(Gate::ArchitectureDone),
        Stage::Development => Some(Gate::BranchPushed),
        Stage::Review => Some(Gate::ReviewVerdict),
        Stage::Testing => Some(Gate::TestsVerdict),
        Stage::DeployStaging => Some(Gate::StagingStatus),
        Stage::Created | Stage::Deploy | Stage::Done | Stage::Cancelled => None,
    }
}

/// A judge judges the commit it began from (RULE-3); the others' evidence is about what was pushed.
pub fn judges_start(stage: Stage) -> bool {
    match stage {
        Stage::Review | Stage::Testing | Stage::DeployStaging => true,
        Stage::Created
        | Stage::Analysis
        | Stage::Architecture
        | Stage::Development
        | Stage::Deploy
        | Stage::Done
        | Stage::Cancelled => false,
    }
}

/// Whether a row says how the head came from the commit judged before: a later stage's agent changed code (RULE-4).
pub fn carries(stage: Stage, changed: bool) -> bool {
    changed && stage > Stage::Development
}

/// Why a document that is on the branch is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The run did not write it.
    Stale,
    /// A folder, a link or a submodule has its name.
    NoFile,
}

/// Judges the work item's folder for a stage that an agent works on; `None` for a stage that leaves no documents.
/// `files` are those at the pushed head that the run changed: the others are stale and not handed in. `unread`:
/// documents of the stage that are on the branch and not handed in, with why (PIPE-4).
pub fn judge_stage(stage: Stage, key: &Key, files: &[File<'_>], unread: &[(Artefact, Unread)]) -> Option<Judged> {
    let artefact = Artefact::of_stage(stage).next()?;
    let of = |a: Artefact| files.iter().find(|f| f.path == a.as_str());
    let absent = |a: Artefact| match unread.iter().find(|(document, _)| *document == a) {
        Some((_, Unread::Stale)) => {
            format!("{}/{a} is from an earlier attempt: it was not written in this run", folder(key))
        }
        Some((_, Unread::NoFile)) => format!("{}/{a} is not a regular file", folder(key)),
        None => format!("{a}: missing"),
    };
    let reading = match artefact {
        Artefact::Brief | Artefact::Requirements | Artefact::AcceptanceCriteria | Artefact::TestPlan => {
            analysis_complete(files, absent)
        }
        Artefact::Adr => architecture_done(files),
        Artefact::Review
        | Artefact::TestReport
        | Artefact::StagingLog
        | Artefact::DeployLog
        | Artefact::PostDeployLog
        | Artefact::SecurityReport => match of(artefact) {
            Some(file) => judge(artefact, Some(file.bytes)),
            None => Reading::none(absent(artefact)),
        },
    };
    let mut faults = Vec::new();
    let mut findings = Vec::new();
    for file in files {
        let Some(found) = Artefact::of(file.path).filter(|a| a.schema().stage == stage && !a.schema().own) else {
            continue;
        };
        let Ok(doc) = document(*file) else { continue };
        faults.extend(validate(found, &doc, key).into_iter().map(|fault| format!("{}: {fault}", file.path)));
        if reading.verdict == Verdict::Fail {
            let path = format!("{}/{}", folder(key), file.path);
            findings.push(match found {
                Artefact::TestReport => test_findings(&doc, &path),
                Artefact::Review => review_findings(&doc, &path),
                Artefact::Brief
                | Artefact::Requirements
                | Artefact::AcceptanceCriteria
                | Artefact::TestPlan
                | Artefact::Adr
                | Artefact::DeployLog
                | Artefact::StagingLog
                | Artefact::PostDeployLog
                | Artefact::SecurityReport => finding(Origin::Staging, &doc.body, &format!("`{path}` on the branch")),
            });
        }
    }
    Some(Judged { reading, findings, faults })
}

/// A finding is cut past this many bytes.
pub const FINDING_BYTES: usize = 32 << 10;

/// A finding: the text verbatim, cut only past [`FINDING_BYTES`] at a character boundary, and then with a pointer to
/// `place` (a file in the branch, a log).
pub fn finding(source: Origin, text: &str, place: &str) -> Finding {
    let text = if text.trim().is_empty() {
        format!("(no text; see {place})")
    } else if text.len() <= FINDING_BYTES {
        text.to_owned()
    } else {
        let shown = beginning(text, FINDING_BYTES);
        format!("{shown}\n\n[cut after {} of {} bytes; the whole text is in {place}]", shown.len(), text.len())
    };
    Finding { source, text }
}

/// What a review requests: its body. `path` is the file's in the repository.
pub fn review_findings(doc: &Document, path: &str) -> Finding {
    finding(Origin::Review, &doc.body, &format!("`{path}` on the branch"))
}

/// What failed according to a test report: its section of failing tests, or all of it where it has none.
pub fn test_findings(doc: &Document, path: &str) -> Finding {
    finding(Origin::Tests, section(&doc.body).unwrap_or(&doc.body), &format!("`{path}` on the branch"))
}

/// The first non-empty section whose heading mentions failures, up to the next heading of its level or above. Headings
/// inside code fences don't count.
fn section(body: &str) -> Option<&str> {
    let mut at = 0;
    let mut open: Option<(usize, usize)> = None;
    let mut fence: Option<&str> = None;
    for line in body.split_inclusive('\n') {
        let from = at;
        at += line.len();
        let text = line.trim();
        if let Some(mark) = fence {
            if text.starts_with(mark) && text.trim_start_matches(['`', '~']).is_empty() {
                fence = None;
            }
            continue;
        }
        let run = text.len() - text.trim_start_matches(['`', '~']).len();
        if run >= 3 && (text.starts_with("```") || text.starts_with("~~~")) {
            fence = text.get(..run);
            continue;
        }
        let level = line.len() - line.trim_start_matches('#').len();
        if level == 0 || !line.get(level..).is_some_and(|r| r.starts_with([' ', '\t'])) {
            continue;
        }
        if let Some((begin, of)) = open
            && level <= of
        {
            let found = body.get(begin..from)?;
            if found.lines().skip(1).any(|l| !l.trim().is_empty()) {
                return Some(found);
            }
            open = None;
        }
        if open.is_none() && text.to_ascii_lowercase().contains("fail") {
            open = Some((from, level));
        }
    }
    open.and_then(|(begin, _)| body.get(begin..)).filter(|s| s.lines().skip(1).any(|l| !l.trim().is_empty()))
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
