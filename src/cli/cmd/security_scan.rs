//! `orch security-scan` (SHIP-1): in any git checkout, without configuration or database; or for a task's range.

use crate::adapters::files;
use crate::adapters::scan::{self, RangeError, ScanRequest, range};
use crate::adapters::sentinel;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, clock, open};
use crate::config::{Config, Security};
use crate::decide::gates::security::{Policy, judge};
use crate::engine::{bound, projects, reserved};
use crate::model::artefact::Artefact;
use crate::model::report::{ErrorLine, StepReport};
use crate::model::scan::{ScanReason, ScanReport, Waiver};
use crate::render::security::{self as show, Head};
use anyhow::Context;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Scan a commit range for secrets, and its dependencies for known vulnerabilities
///
/// Exit 0: nothing that blocks; 1: findings; 3: a scanner could not run, so nothing is known.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, in any checkout:\n  orch security-scan --range origin/main..HEAD --format sarif --output scan.sarif"
)]
pub struct Args {
    /// The task whose branch is scanned
    #[arg(value_name = "TASK")]
    task: Option<String>,
    /// The checkout to scan
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// The commits to scan; default: from the merge base with origin/HEAD to HEAD
    #[arg(long, value_name = "A..B")]
    range: Option<String>,
    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Format of the result
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json", "sarif"], default_value = "text")]
    format: String,
    /// Write the result to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// YAML file of accepted findings: a list, or a list under `allow:`
    #[arg(long, value_name = "FILE")]
    waivers: Option<PathBuf>,
    /// Print what would be scanned; scan nothing
    #[arg(long)]
    dry_run: bool,
}

/// Scans, judges, says and writes.
impl Args {
    /// For a task, it stores its report in the state directory.
    pub fn changes(&self) -> bool {
        self.task.is_some()
    }
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    if let Some(task) = &args.task {
        return of_task(call, args, task, start);
    }
    let step = StepReport::new("security-scan");
    let config = call.config_or_bare()?;
    let security = settings_for(&config, &args.repo);
    let mut waivers = security.allow.clone();
    waivers.extend(read_waivers(args.waivers.as_deref())?);
    let resolved = match range(&args.repo, args.range.as_deref()) {
        Ok(resolved) => resolved,
        Err(error) => return unreadable(call, step, &error),
    };
    if args.dry_run {
        call.out.planned("security-scan", &[format!("scan {}..{}", resolved.base, resolved.head)]);
        return Ok(Exit::Done);
    }
    let (key, warning) = fingerprint_key(&config.state_dir, args);
    let mut request = ScanRequest::new(&args.repo, resolved.base, resolved.head, key);
    request.default_tip = resolved.default_tip;
    request.tags = resolved.tags;
    reserved::apply_settings(&mut request, security, &config.tools);
    let seen = match scan::run(&request) {
        Ok(seen) => seen,
        Err(error) => return unreadable(call, step, &error),
    };
    let now = clock::now();
    let policy = Policy {
        severity_threshold: security.severity_threshold,
        dep_audit_fail_closed: security.dep_audit_fail_closed,
        waivers,
        now_ms: now.wall_ms,
    };
    let mut report = judge(seen, &policy);
    report.warnings.extend(warning);
    let head = Head { work_item: "", stage: "", created_ms: now.wall_ms };
    conclude(call, args, step, &Scanned { start, report, head })
}

/// The range of a task's branch, from the mirror, with the configured tools, rules and waivers (and those of
/// `--waivers`). The report is kept as document 17 of that head; the gate uses only its own job's result.
fn of_task(call: &Invocation, args: &Args, name: &str, start: Instant) -> CmdResult {
    let step = StepReport::new("security-scan");
    if args.range.is_some() {
        return Err(Failure::usage("a TASK has its own range: leave out --range"));
    }
    let mut ctx = if args.dry_run { open::dry(call, "security-scan")? } else { open::on_copy(call, "security-scan")? };
    let task = open::task(&mut ctx, name)?;
    let project = ctx.project(&task.project)?.clone();
    let refuse = |why: &str| Failure::usage(format!("{}: {why}", task.key)).task(task.key.to_string());
    let head = task.head_sha.clone().ok_or_else(|| refuse("it has no pushed branch yet"))?;
    if args.dry_run {
        // Where the branch left the default one is known only after a fetch, and a dry run fetches nothing.
        call.out.planned(
            "security-scan",
            &[format!("scan {} from its merge base with the default branch to {head}", task.key)],
        );
        return Ok(Exit::Done);
    }
    let mirror = projects::mirror(&ctx, &project)?;
    let default = projects::default_branch(&mut ctx, &project, &mirror)?;
    let tip = mirror.fetch_branch(&default).context("fetching the default branch")?;
    let tip = tip.with_context(|| format!("{} has no branch {default}", project.git.remote))?;
    if !mirror.exists(&head).context("searching for the head")? {
        mirror.fetch().context("fetching the branches")?;
    }
    let base = mirror.merge_base(&tip, &head).context("finding the merge base of the branch")?;
    let base = base.with_context(|| format!("{} has no history in common with {default}", head.short()))?;
    let range = reserved::Range { mirror: &mirror, base, head: head.clone(), default_tip: tip };
    let request = reserved::scan_request(&ctx, &project, &task, range)?;
    let seen = match scan::run(&request) {
        Ok(seen) => seen,
        Err(error) => return unreadable(call, step, &error),
    };
    let now = clock::now();
    let mut policy = reserved::scan_rules(&project, now.wall_ms);
    policy.waivers.extend(read_waivers(args.waivers.as_deref())?);
    let report = judge(seen, &policy);
    let shown = Head { work_item: task.key.as_str(), stage: task.stage.as_str(), created_ms: now.wall_ms };
    let mut path = ctx.paths.evidence(task.id, &head).join(Artefact::SecurityReport.as_str());
    // A file that the gate's own row binds is never overwritten (RULE-47).
    let rows = ctx.store.read(|tx| tx.evidence_of(task.id))?;
    if bound::files(&rows, ctx.paths.root()).contains(&path) {
        path.set_extension("alone.md");
    }
    sentinel::put(&path, show::markdown(&report, shown).as_bytes())
        .with_context(|| format!("writing {}", path.display()))?;
    conclude(call, args, step, &Scanned { start, report, head: shown })
}

/// A judged scan.
struct Scanned<'a> {
    start: Instant,
    report: ScanReport,
    head: Head<'a>,
}

fn conclude(call: &Invocation, args: &Args, mut step: StepReport, scanned: &Scanned<'_>) -> CmdResult {
    let Scanned { start, report, head } = scanned;
    step.extra = show::fields(report);
    for why in &report.errors {
        let hint = "nothing is known about this range until the scanner works; run it again".to_owned();
        step.fault(None, why.clone(), Some(hint));
    }
    step.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let unwritten = write_files(args, &mut step, report, *head);
    say(call, args, &step, report);
    if !call.out.is_json() {
        for why in &unwritten {
            call.out.failure(None, &Failure::new(Exit::Broken, why.clone()));
        }
    }
    Ok(match report.reason {
        None if unwritten.is_empty() => Exit::Done,
        Some(ScanReason::Findings) => Exit::Negative,
        None | Some(ScanReason::ToolError | ScanReason::FeedUnreachable) => Exit::Broken,
    })
}

/// The settings of the project whose remote is the checkout's origin, else the top-level ones.
fn settings_for<'c>(config: &'c Config, repo: &Path) -> &'c Security {
    let origin = scan::origin(repo);
    let whole = std::fs::canonicalize(repo).ok();
    let same = |remote: &str| {
        let trim = |text: &str| text.trim_end_matches('/').trim_end_matches(".git").to_owned();
        origin.as_deref().is_some_and(|o| trim(o) == trim(remote))
            || whole.as_ref().is_some_and(|w| std::fs::canonicalize(remote).is_ok_and(|r| r == *w))
    };
    let project = config.projects.iter().find(|p| same(&p.git.remote.to_string()));
    project.map_or(&config.security, |p| &p.security)
}

/// A range that can't be read: exit 2 if the command line is at fault, 3 if the repository is.
fn unreadable(call: &Invocation, mut step: StepReport, error: &RangeError) -> CmdResult {
    let (exit, hint) = match error {
        RangeError::NoDefault { .. } => {
            (Exit::Usage, Some("give --range A..B, or run `git remote set-head origin --auto`"))
        }
        RangeError::BadRange { .. } => (Exit::Usage, Some("--range takes A..B, two revisions this repository has")),
        RangeError::NotARepository { .. } => (Exit::Broken, Some("--repo takes a git checkout or a bare repository")),
        RangeError::Shallow { .. } | RangeError::Tool(_) => (Exit::Broken, None),
    };
    let mut failure = Failure::new(exit, error.to_string());
    failure.hint = hint.map(str::to_owned);
    if call.out.is_json() {
        step.errors.push(ErrorLine {
            code: exit.code(),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
            task: None,
        });
        call.out.document(&step);
        failure.reported = true;
    }
    Err(failure)
}

fn say(call: &Invocation, args: &Args, step: &StepReport, report: &ScanReport) {
    if call.out.is_json() {
        call.out.document(step);
    } else if args.output.is_some() {
        call.out.raw(&show::text(report));
    } else {
        call.out.raw(&document(args, step, report));
    }
}

fn document(args: &Args, step: &StepReport, report: &ScanReport) -> String {
    match args.format.as_str() {
        "json" => serde_json::to_string_pretty(step).unwrap_or_default() + "\n",
        "sarif" => serde_json::to_string_pretty(&show::sarif(report)).unwrap_or_default() + "\n",
        _ => show::text(report),
    }
}

fn write_files(args: &Args, step: &mut StepReport, report: &ScanReport, head: Head<'_>) -> Vec<String> {
    let files =
        [(args.report.as_ref(), show::markdown(report, head)), (args.output.as_ref(), document(args, step, report))];
    let mut troubles = Vec::new();
    for (file, text) in files {
        if let Some(Err(e)) = file.map(|file| {
            files::output(file, text.as_bytes(), None).with_context(|| format!("writing {}", file.display()))
        }) {
            troubles.push(format!("{e:#}"));
        }
    }
    for why in &troubles {
        step.fault(None, why.clone(), None);
    }
    troubles
}

fn read_waivers(file: Option<&Path>) -> Result<Vec<Waiver>, Failure> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let expected = "--waivers takes a YAML list of {rule, path, fingerprint, owner, reason, expires}";
    let bad = |why: String| Failure::usage(format!("{}: {why}", file.display())).hint(expected);
    let text = std::fs::read_to_string(file).map_err(|e| bad(e.to_string()))?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    waivers(crate::yaml::from_str(&text).map_err(|e| bad(e.to_string()))?).map_err(bad)
}

/// A list, or a list under `allow:`. Errors name the entry and its field, not the parser's words (DSK-5).
fn waivers(file: Value) -> Result<Vec<Waiver>, String> {
    let list =
        if let Value::Object(mut section) = file { section.remove("allow").ok_or("`allow` is missing")? } else { file };
    let Value::Array(list) = list else { return Err("expected a list of waivers".to_owned()) };
    let one = |(i, waiver): (usize, Value)| {
        serde_json::from_value(waiver).map_err(|e| format!("waiver {}: {}", i + 1, field_error(&e.to_string())))
    };
    list.into_iter().enumerate().map(one).collect()
}

/// serde's message about a field, in our words.
fn field_error(said: &str) -> String {
    if let Some(name) = said.strip_prefix("missing field ") {
        return format!("{name} is missing");
    }
    match said.strip_prefix("unknown field ") {
        Some(rest) => format!("unknown key {rest}"),
        None => said.to_owned(),
    }
}

/// The key of the fingerprints: the one next to the waivers file (`FILE.key`), else the state directory's, with which a
/// scan without waivers printed the fingerprints that the waivers name. Created if neither exists. If it can't be
/// stored, a key for this run only, and a warning.
fn fingerprint_key(state_dir: &Path, args: &Args) -> (Vec<u8>, Option<String>) {
    let own = scan::key_file(state_dir);
    let waivers_key = args.waivers.as_ref().map(|waivers| {
        let mut name = waivers.as_os_str().to_owned();
        name.push(".key");
        PathBuf::from(name)
    });
    let file = waivers_key.filter(|file| file.exists() || !own.exists()).unwrap_or(own);
    let kept = scan::keep_key(&file);
    match kept {
        Ok(key) => (key, None),
        Err(why) => {
            let mut key = vec![0_u8; 32];
            let _ = rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty());
            (key, Some(format!("fingerprints are valid for this run only, because their key can't be stored: {why:#}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wrong_waiver_is_named_with_its_field() {
        let good = json!({"rule": "r", "path": "*", "owner": "ann", "reason": "test", "expires": "2030-01-01"});
        assert_eq!(waivers(json!({"allow": [good]})).unwrap().len(), 1);
        let without = |field: &str| {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(field);
            waivers(json!([good, bad])).unwrap_err()
        };
        assert_eq!(without("owner"), "waiver 2: `owner` is missing");
        assert_eq!(without("expires"), "waiver 2: `expires` is missing");
        assert_eq!(waivers(json!({"deny": []})).unwrap_err(), "`allow` is missing");
        assert_eq!(waivers(json!("x")).unwrap_err(), "expected a list of waivers");
        let mut invalid = good.clone();
        invalid["who"] = json!("ann");
        assert!(waivers(json!([invalid])).unwrap_err().starts_with("waiver 1: unknown key `who`"));
    }
}
