//! The `scan` job: secrets and dependencies of the task's range, before any update of the branch (SHIP-1).

use super::bench::{answered, artefact_comment, bench, keep, resting_on, row, with};
use crate::adapters::git::Mirror;
use crate::adapters::scan::{self, Feeds, ScanRequest, ScanTools};
use crate::config::{Project, Security, Tools};
use crate::decide::gates::security::{Policy, judge};
use crate::decide::gates::verdict::{self, finding};
use crate::decide::verdicts;
use crate::engine::Ctx;
use crate::engine::errors::Refused;
use crate::engine::settle::Settlement;
use crate::model::artefact::Artefact;
use crate::model::evidence::EvidenceVerdict;
use crate::model::finding::Origin;
use crate::model::gate::Gate;
use crate::model::ids::Sha;
use crate::model::scan::{FindingKind, ScanReport};
use crate::model::stage::Stage;
use crate::model::task::{Run, Task};
use crate::render::security as show;
use anyhow::Result;
use std::time::Duration;

/// Scans, writes artefact 17 and takes the verdict from what it reads back.
pub fn scan(ctx: &mut Ctx, run: &Run) -> Result<Option<Settlement>> {
    let bench = bench(ctx, run)?;
    let mirror = &bench.ground.mirror;
    let base = mirror
        .merge_base(&bench.ground.default_sha, &bench.subject)?
        .ok_or_else(|| Refused::unrelated(&bench.task, &bench.ground.default_branch))?;
    let what = Range { mirror, base, head: bench.subject.clone(), default_tip: bench.ground.default_sha.clone() };
    let request = request(ctx, &bench.project, &bench.task, what)?;
    let now = ctx.now().stamp.wall_ms;
    let seen = match scan::run(&request) {
        Ok(seen) => seen,
        Err(e) => {
            let why = format!("the range can't be scanned: {e}");
            return Ok(Some(answered(row(
                &bench,
                run,
                Gate::SecurityGate,
                EvidenceVerdict::ToolError,
                why,
                vec![],
                false,
            )?)));
        }
    };
    let policy = rules(&bench.project, now);
    let report = judge(seen, &policy);
    let head = show::Head { work_item: bench.task.key.as_str(), stage: Stage::Deploy.as_str(), created_ms: now };
    let text = show::markdown(&report, head);
    let kept = keep(ctx, &bench.task, &bench.subject, Artefact::SecurityReport.as_str(), &text)?;
    // The gate uses what is read back: a report that can't be read back is not a pass.
    let read = verdict::judge(Artefact::SecurityReport, Some(&kept.bytes));
    let headline = show::headline(&report);
    let (verdict, why) = verdicts::scan(&read, report.reason, headline, &report.warnings, &report.errors);
    if verdict == EvidenceVerdict::Pass {
        for line in &report.warnings {
            tracing::warn!(task = %bench.task.key, "{line}");
        }
    }
    let secret = report.blocking().any(|f| f.kind == FindingKind::Secret);
    let findings = match verdict {
        EvidenceVerdict::Fail => vec![finding(Origin::Security, &advice(&report, secret), "17-security-report.md")],
        EvidenceVerdict::Pass | EvidenceVerdict::Missing | EvidenceVerdict::ToolError => vec![],
    };
    let caveat = verdicts::scan_caveat(verdict, &report, policy.dep_audit_fail_closed);
    let row = row(&bench, run, Gate::SecurityGate, verdict, why, findings, secret)?;
    let mut done = answered(with(resting_on(row, &kept), |code| code.caveat = caveat));
    done.comments.push(artefact_comment(Artefact::SecurityReport, &bench.subject, verdict, &text));
    Ok(Some(done))
}

/// The commits of a task's range.
#[derive(Debug)]
pub struct Range<'m> {
    pub mirror: &'m Mirror,
    pub base: Sha,
    pub head: Sha,
    pub default_tip: Sha,
}

/// The request to scan a task's range with the configured tools and rules.
pub fn request(ctx: &Ctx, project: &Project, task: &Task, range: Range<'_>) -> Result<ScanRequest> {
    let security = &project.security;
    let key = scan::keep_key(&scan::key_file(ctx.paths.root()))?;
    let mut request = ScanRequest::new(range.mirror.path(), range.base, range.head.clone(), key);
    request.default_tip = Some(range.default_tip);
    request.code_tree = Some(range.mirror.code_tree(&range.head, &task.key)?);
    apply_settings(&mut request, security, &ctx.config.tools);
    Ok(request)
}

/// Applies the settings in force to a scan, both the gate's and that of `orch security-scan`.
pub fn apply_settings(request: &mut ScanRequest, security: &Security, programs: &Tools) {
    request.config_path.clone_from(&security.gitleaks_config);
    request.timeout = Duration::from_secs(security.scan_timeout_s);
    request.audit = security.dep_audit_enabled;
    let set = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    request.feeds = Feeds {
        osv_url: set(&security.feeds.osv_url),
        npm_registry: set(&security.feeds.npm_registry),
        cargo_db: set(&security.feeds.cargo_db),
    };
    request.tools = tools(programs);
}

/// The configured scanners.
pub fn tools(t: &Tools) -> ScanTools {
    ScanTools {
        gitleaks: t.gitleaks.clone(),
        pip_audit: t.pip_audit.clone(),
        cargo_audit: t.cargo_audit.clone(),
        npm: t.npm.clone(),
        osv_scanner: t.osv_scanner.clone(),
    }
}

/// What a project allows.
pub fn rules(project: &Project, now_ms: i64) -> Policy {
    Policy {
        severity_threshold: project.security.severity_threshold,
        dep_audit_fail_closed: project.security.dep_audit_fail_closed,
        waivers: project.security.allow.clone(),
        now_ms,
    }
}

fn advice(report: &ScanReport, secret: bool) -> String {
    let first = "Rotate first: a secret that was pushed is known. Then remove it; the rework lands as one commit.\n\n";
    format!("{}{}", if secret { first } else { "" }, show::text(report))
}
