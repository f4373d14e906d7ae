//! What `orch security-scan` scans outside a task's job (SHIP-1): a range of any checkout, or a task's branch as it is.

use super::default_branch;
use super::{Ctx, bound, projects, reserved};
use crate::adapters::scan::{self, RangeError, Resolved, ScanRequest};
use crate::adapters::sentinel;
use crate::config::{Config, Security};
use crate::decide::gates::security::{Policy, judge};
use crate::model::artefact::Artefact;
use crate::model::ids::Sha;
use crate::model::scan::{ScanReport, Waiver};
use crate::model::task::Task;
use crate::render::security::{Head, markdown};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A checkout to scan.
#[derive(Debug)]
pub struct Checkout<'a> {
    pub config: &'a Config,
    pub repo: &'a Path,
    pub range: Resolved,
    /// The file the further waivers were read from.
    pub waivers_file: Option<&'a Path>,
    pub waivers: Vec<Waiver>,
}

impl Checkout<'_> {
    /// Scans and judges by the settings of the checkout's project, and by the further waivers.
    pub fn scan(self, now_ms: i64) -> Result<ScanReport, RangeError> {
        let security = settings_for(self.config, self.repo);
        let (key, warning) = fingerprint_key(&self.config.state_dir, self.waivers_file);
        let mut request = ScanRequest::new(self.repo, self.range.base, self.range.head, key);
        request.default_tip = self.range.default_tip;
        request.tags = self.range.tags;
        reserved::apply_settings(&mut request, security, &self.config.tools);
        let policy = Policy {
            severity_threshold: security.severity_threshold,
            dep_audit_fail_closed: security.dep_audit_fail_closed,
            waivers: security.allow.iter().cloned().chain(self.waivers).collect(),
            now_ms,
        };
        let mut report = judge(scan::run(&request)?, &policy);
        report.warnings.extend(warning);
        Ok(report)
    }
}

/// Scans a task's branch since it left the default one, from the mirror, with the configured tools, rules and waivers
/// and the further ones. The report is kept as document 17 of that head; the gate uses only its own job's result.
/// Fails with a [`RangeError`] if the range can't be read.
pub fn of_task(ctx: &mut Ctx, task: &Task, head: &Sha, waivers: Vec<Waiver>) -> Result<ScanReport> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let default = default_branch::default_branch(ctx, &project, &mirror)?;
    let tip = mirror.fetch_branch(&default).context("fetching the default branch")?;
    let tip = tip.with_context(|| format!("{} has no branch {default}", project.git.remote))?;
    if !mirror.exists(head).context("searching for the head")? {
        mirror.fetch().context("fetching the branches")?;
    }
    let base = mirror.merge_base(&tip, head).context("finding the merge base of the branch")?;
    let base = base.with_context(|| format!("{} has no history in common with {default}", head.short()))?;
    let range = reserved::Range { mirror: &mirror, base, head: head.clone(), default_tip: tip };
    let seen = scan::run(&reserved::scan_request(ctx, &project, task, range)?)?;
    let now_ms = ctx.now().stamp.wall_ms;
    let mut policy = reserved::scan_rules(&project, now_ms);
    policy.waivers.extend(waivers);
    let report = judge(seen, &policy);
    let shown = Head { work_item: task.key.as_str(), stage: task.stage.as_str(), created_ms: now_ms };
    let mut path = ctx.paths.evidence(task.id, head).join(Artefact::SecurityReport.as_str());
    // A file that the gate's own row binds is never overwritten (RULE-47).
    let rows = ctx.store.read(|tx| tx.evidence_of(task.id))?;
    if bound::files(&rows, ctx.paths.root()).contains(&path) {
        path.set_extension("alone.md");
    }
    let text = markdown(&report, shown);
    sentinel::put(&path, text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    Ok(report)
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

/// The key of the fingerprints: the one next to the waivers file (`FILE.key`), else the state directory's, with which a
/// scan without waivers printed the fingerprints that the waivers name. Created if neither exists. If it can't be
/// stored, a key for this run only, and a warning.
fn fingerprint_key(state_dir: &Path, waivers: Option<&Path>) -> (Vec<u8>, Option<String>) {
    let own = scan::key_file(state_dir);
    let waivers_key = waivers.map(|waivers| {
        let mut name = waivers.as_os_str().to_owned();
        name.push(".key");
        PathBuf::from(name)
    });
    let file = waivers_key.filter(|file| file.exists() || !own.exists()).unwrap_or(own);
    match scan::keep_key(&file) {
        Ok(key) => (key, None),
        Err(why) => {
            let mut key = vec![0_u8; 32];
            let _ = rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty());
            (key, Some(format!("fingerprints are valid for this run only, because their key can't be stored: {why:#}")))
        }
    }
}
