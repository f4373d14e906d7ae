//! The static site (DSK-2): written from rows and mirrors, without secrets, machine paths and raw logs. Only tasks with
//! new records are rewritten.

use super::{Ctx, projects, status};
use crate::adapters::site::{Memory, Site, SiteError};
use crate::adapters::store::{AuditEvent, StoreError};
use crate::decide::gates::approved_blobs;
use crate::model::artefact::{Artefact, folder};
use crate::model::finding::{Finding, Origin};
use crate::model::ids::TaskId;
use crate::model::redact;
use crate::model::status::{Status, TaskRow};
use crate::model::summary::Summing;
use crate::model::task::{Evidence, Run, Task};
use crate::model::text::clip;
use crate::model::time::rfc3339;
use crate::render::board::state;
use crate::render::page::Kind;
use crate::render::page::index::{ENDED, ENDED_PAGE, EndedRow, ended_page, page as index};
use crate::render::page::task::{RunRow, TaskPage, Verdict, page as task_page};
use crate::render::story::{StoryEntry, render_event};
use crate::render::view::View;
use crate::render::{report, security};
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// The minimum interval between two reports, in milliseconds.
const REPORT_MS: i64 = 60_000;
/// The number of tasks whose documents one process fetches.
const CHUNK: usize = 100;
/// The maximum size of one document, in bytes.
const DOCUMENT: usize = 64 * 1024;
/// The documents that a page shows.
const DOCUMENTS: [Artefact; 4] =
    [Artefact::Brief, Artefact::Requirements, Artefact::AcceptanceCriteria, Artefact::TestPlan];
/// Fields of events that are raw output or make sense only on this machine.
const RAW: [&str; 6] = ["log", "found", "prompt_sha256", "caller", "notes", "said"];

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The number of files that changed.
    pub files: usize,
    pub tasks: usize,
    /// The folder was empty before: the caller should say who can open it.
    pub fresh: bool,
}

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Everything,
    /// What has changed since the last time. Does nothing while another process writes.
    Changes,
}

/// Writes the site. [`SiteError::Foreign`] in the chain: the folder belongs to somebody else and was not changed.
pub fn write(ctx: &mut Ctx, dir: &Path, extent: Extent) -> Result<Option<Written>> {
    let documents = ctx.config.page.documents;
    let Some(mut site) = Site::open(dir, extent == Extent::Everything)? else { return Ok(None) };
    let (seq, _) = ctx.store.read(|tx| tx.audit_tail())?;
    let all = extent == Extent::Everything || site.fresh || site.memory.documents != documents;
    if !all && site.memory.seq == seq {
        return Ok(None);
    }
    let now = ctx.now().stamp.wall_ms;
    let view = View { columns: None, all: false, now_ms: now, zone: jiff::tz::TimeZone::system(), pending: Vec::new() };
    let clean = Clean::of(ctx);
    let shown = clean.status(status::read(ctx, status::Which::Open)?);
    let ids = ctx.store.read(|tx| if all { tx.paged_tasks() } else { tx.paged_since(site.memory.seq) })?;
    let mut done = Written { files: 0, tasks: ids.len(), fresh: site.fresh };
    let mut kept: BTreeSet<String> = site.memory.files.clone();
    if all {
        kept.clear();
    }
    let gather = Gather { clean: &clean, view: &view, shown: &shown, documents };
    for chunk in ids.chunks(CHUNK) {
        let pages = gather.pages(ctx, chunk)?;
        site.claim(pages.iter().map(|(name, _)| name.clone()))?;
        for (name, text) in pages {
            done.files += usize::from(put(&site, &name, &text)?);
            kept.insert(name);
        }
    }
    done.files += ended(ctx, &mut site, &mut kept, &shown, &clean, &view)?;
    if all || now - site.memory.report_at >= REPORT_MS || now < site.memory.report_at {
        site.claim(["report.html".to_owned()])?;
        done.files += usize::from(put(&site, "report.html", &report_page(ctx, &clean, &view)?)?);
        kept.insert("report.html".to_owned());
        site.memory.report_at = now;
    }
    kept.extend(["index.html".to_owned(), "report.html".to_owned()]);
    site.sweep(&kept)?;
    done.files += index_last(ctx, &mut site, &shown, &clean, &view)?;
    site.memory = Memory { seq, documents, ..site.memory.clone() };
    site.remember()?;
    Ok(Some(done))
}

/// Runs after a step that changed something, if `page.dir` is set. A failure delays nothing and is reported (law 4).
pub fn after_step(ctx: &mut Ctx) {
    if ctx.dry || ctx.config.page.dir.is_empty() {
        return;
    }
    let dir = std::path::PathBuf::from(&ctx.config.page.dir);
    match write(ctx, &dir, Extent::Changes) {
        Ok(Some(done)) if done.fresh => ctx.report.note(readable(&dir, ctx.config.page.documents)),
        Ok(_) => {}
        Err(e) => {
            tracing::warn!("the pages in {} can't be written: {e:#}", dir.display());
            ctx.report.note(format!("the pages in {} can't be written: {e:#}", dir.display()));
        }
    }
}

/// The message for the first pages (DSK-2).
pub fn readable(dir: &Path, documents: bool) -> String {
    let what = if documents { "titles, documents and findings" } else { "titles" };
    let out = if documents { "; `page.documents: false` leaves documents and findings out" } else { "" };
    format!("whoever can open {} can read {what}{out}", dir.display())
}

/// Whether the folder belongs to somebody else.
pub fn is_foreign(error: &anyhow::Error) -> bool {
    error.chain().any(|e| matches!(e.downcast_ref(), Some(SiteError::Foreign { .. })))
}

fn put(site: &Site, name: &str, text: &str) -> Result<bool> {
    Ok(site.put(name, &redact::current().bytes(text.as_bytes()))?)
}

fn foot(view: &View) -> String {
    let zone = view.zone_name();
    format!("Written by orch {} from its records. Times in {zone}.", env!("CARGO_PKG_VERSION"))
}

/// Pages of what has ended, oldest first, so that only the last one changes.
fn ended(
    ctx: &mut Ctx,
    site: &mut Site,
    kept: &mut BTreeSet<String>,
    shown: &Status,
    clean: &Clean,
    view: &View,
) -> Result<usize> {
    let rows = ended_rows(ctx, shown, clean)?;
    let rest = rows.get(..rows.len().saturating_sub(ENDED)).unwrap_or_default();
    let mut written = 0;
    kept.retain(|name| !name.starts_with("ended-"));
    for (i, chunk) in rest.chunks(ENDED_PAGE).enumerate() {
        let name = format!("ended-{}.html", i + 1);
        site.claim([name.clone()])?;
        written += usize::from(put(site, &name, &ended_page(i + 1, chunk, view, &foot(view)))?);
        kept.insert(name);
    }
    Ok(written)
}

/// All ended tasks, oldest first; those still being watched are on the board.
fn ended_rows(ctx: &mut Ctx, shown: &Status, clean: &Clean) -> Result<Vec<EndedRow>> {
    let open: BTreeSet<&str> = shown.tasks.iter().map(|r| r.key.as_str()).collect();
    let rows = ctx.store.read(|tx| tx.ended_tasks())?;
    let row = |r: crate::adapters::store::EndedTask| EndedRow {
        finished_at: rfc3339(r.finished_at),
        title: clean.text(&r.title),
        key: r.key,
        stage: r.stage,
    };
    Ok(rows.into_iter().filter(|r| !open.contains(r.key.as_str())).map(row).collect())
}

fn index_last(ctx: &mut Ctx, site: &mut Site, shown: &Status, clean: &Clean, view: &View) -> Result<usize> {
    let rows = ended_rows(ctx, shown, clean)?;
    let rest = rows.len().saturating_sub(ENDED);
    let last: Vec<EndedRow> = rows.get(rest..).unwrap_or_default().iter().rev().cloned().collect();
    let foot = format!("{} Written at {}.", foot(view), view.local(&rfc3339(view.now_ms)));
    let text = index(shown, &last, rest.div_ceil(ENDED_PAGE), view, &foot);
    site.claim(["index.html".to_owned()])?;
    Ok(usize::from(put(site, "index.html", &text)?))
}

fn report_page(ctx: &mut Ctx, clean: &Clean, view: &View) -> Result<String> {
    let now = view.now_ms;
    let mut summing = Summing::default();
    ctx.store.read(|tx| {
        tx.run_facts(0, &mut |f| summing.add(&f, now))?;
        tx.waits(0, now, &mut |cause, ms| summing.waited(cause, ms))
    })?;
    let mut summary = summing.end();
    summary.tasks.iter_mut().for_each(|t| t.title = clean.text(&t.title));
    Ok(report::html(&summary, &format!("Every run, as of {}.", view.local(&rfc3339(now))), Kind::Text))
}

/// The context for rendering the pages of some tasks.
struct Gather<'a> {
    clean: &'a Clean,
    view: &'a View,
    shown: &'a Status,
    documents: bool,
}

impl Gather<'_> {
    fn pages(&self, ctx: &mut Ctx, ids: &[TaskId]) -> Result<Vec<(String, String)>> {
        let mut rows = Vec::with_capacity(ids.len());
        ctx.store.read(|tx| {
            for id in ids {
                rows.push((tx.task(*id)?, tx.timeline(*id)?, tx.evidence_of(*id)?, tx.runs_of(*id)?));
            }
            Ok::<_, StoreError>(())
        })?;
        let mut documents = if self.documents { self.texts(ctx, &rows)? } else { HashMap::new() };
        let open: HashMap<&str, &TaskRow> = self.shown.tasks.iter().map(|r| (r.key.as_str(), r)).collect();
        let mut pages = Vec::with_capacity(rows.len());
        for (task, events, evidence, runs) in &rows {
            let item = projects::item_url(ctx, task)?;
            let mut page = self.task(task, events, evidence, runs);
            page.item = item;
            page.state = open.get(task.key.as_str()).map(|r| state(r, self.view)).unwrap_or_default();
            page.documents = documents.remove(&task.id).unwrap_or_default();
            pages.push((format!("task/{}.html", task.key), task_page(&page, &foot(self.view))));
        }
        Ok(pages)
    }

    fn task(&self, task: &Task, events: &[AuditEvent], evidence: &[Evidence], runs: &[Run]) -> TaskPage {
        let text = |t: &str| self.clean.text(t);
        let story = events.iter().map(|e| (self.view.local(&rfc3339(e.at)), self.story_entry(e))).collect();
        let verdict = |e: &Evidence| Verdict {
            gate: e.subject.to_string(),
            verdict: e.verdict.to_string(),
            commit: e.sha.short().to_string(),
            round: e.attempt,
            why: text(&first_line(&e.why)),
        };
        let known: i64 = runs.iter().filter_map(|r| r.cost_micros).sum();
        TaskPage {
            key: task.key.to_string(),
            title: text(&task.title),
            stage: task.stage.to_string(),
            state: String::new(),
            branch: task.branch.clone(),
            pull_request: task.pr.as_ref().map(|p| p.url.clone()).filter(|u| !u.is_empty()),
            item: None,
            cost: crate::render::board::dollars(status::dollars(known)),
            story,
            verdicts: evidence.iter().map(verdict).collect(),
            findings: if self.documents { task.findings.iter().map(|f| self.finding(f)).collect() } else { Vec::new() },
            runs: runs.iter().map(|r| self.run(r)).collect(),
            documents: Vec::new(),
        }
    }

    fn run(&self, r: &Run) -> RunRow {
        RunRow {
            run: r.id.0,
            who: r.agent.map_or_else(|| r.kind.to_string(), |a| a.to_string()),
            stage: r.stage.to_string(),
            round: r.attempt,
            model: r.model.clone().unwrap_or_default(),
            result: self
                .clean
                .text(&first_line(&r.result.as_ref().map_or_else(|| "running".to_owned(), ToString::to_string))),
            started: self.view.local(&rfc3339(r.started_at)),
            took_s: r.ended_at.map(|e| (e - r.started_at).max(0) as f64 / 1000.0),
            cost_usd: r.cost_micros.map(status::dollars),
            tokens: r.tokens_in.zip(r.tokens_out),
        }
    }

    /// An event without what only this machine should know.
    fn story_entry(&self, e: &AuditEvent) -> StoryEntry {
        let mut detail: Map<String, Value> = serde_json::from_str(&e.detail).unwrap_or_default();
        detail.retain(|name, _| !RAW.contains(&name.as_str()));
        if let Some(list) = detail.remove("findings").filter(|_| self.documents) {
            let all: Vec<Finding> = serde_json::from_value(list).unwrap_or_default();
            let all: Vec<Finding> = all.iter().map(|f| self.finding(f)).collect();
            detail.insert("findings".to_owned(), serde_json::to_value(all).unwrap_or_default());
        }
        let story_entry = render_event(&e.event, &detail);
        StoryEntry {
            line: self.clean.text(&story_entry.line),
            under: story_entry.under.iter().map(|u| self.clean.text(u)).collect(),
        }
    }

    /// A finding as a page may show it: places and rules of a scan, the first line of a program's output.
    fn finding(&self, f: &Finding) -> Finding {
        let text = match f.source {
            Origin::Security => {
                let found: Vec<String> =
                    security::places(&f.text).map(|(place, rule)| format!("{place} {rule}")).collect();
                if found.is_empty() { "the security gate found something".to_owned() } else { found.join("; ") }
            }
            Origin::Review | Origin::Tests | Origin::Person => f.text.clone(),
            Origin::Ci
            | Origin::MergeConflict
            | Origin::Staging
            | Origin::DeployBuild
            | Origin::Deploy
            | Origin::Gate(_) => first_line(&f.text),
        };
        Finding { source: f.source, text: clip(&self.clean.text(&text), 1000) }
    }

    /// The four documents of each task, with one process per repository.
    fn texts(&self, ctx: &mut Ctx, rows: &[Row]) -> Result<HashMap<TaskId, Vec<(String, String)>>> {
        let mut wanted: BTreeMap<&str, Vec<(TaskId, &'static str, String)>> = BTreeMap::new();
        for (task, _, evidence, _) in rows {
            let Some(head) = &task.head_sha else { continue };
            let approved = approved_blobs(evidence);
            for document in DOCUMENTS {
                let name = document.as_str();
                let at = approved
                    .get(name)
                    .map_or_else(|| format!("{head}:{}/{name}", folder(&task.key)), ToString::to_string);
                wanted.entry(&task.project).or_default().push((task.id, name, at));
            }
        }
        let mut found: HashMap<TaskId, Vec<(String, String)>> = HashMap::new();
        for (project, documents) in wanted {
            let Ok(project) = ctx.project(project).cloned() else { continue };
            let Some(mirror) = projects::local_mirror(ctx, &project)? else { continue };
            let names: Vec<String> = documents.iter().map(|(_, _, at)| at.clone()).collect();
            let texts = mirror.named_texts(&names, DOCUMENT).context("reading the documents of work items")?;
            for ((task, name, _), bytes) in documents.into_iter().zip(texts) {
                let Some(bytes) = bytes else { continue };
                let text = self.clean.text(&String::from_utf8_lossy(&bytes));
                found.entry(task).or_default().push((name.to_owned(), text));
            }
        }
        Ok(found)
    }
}

type Row = (Task, Vec<AuditEvent>, Vec<Evidence>, Vec<Run>);

fn first_line(text: &str) -> String {
    clip(text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default(), 300)
}

/// Removes this machine's paths from a text.
struct Clean {
    own: Vec<String>,
}

/// Folders of a machine; paths in a document or a repository do not begin like this.
const FOLDERS: [&str; 9] = ["/home/", "/root/", "/tmp/", "/var/", "/srv/", "/opt/", "/run/", "/mnt/", "/dev/"];

impl Clean {
    fn of(ctx: &Ctx) -> Self {
        let config = &ctx.config;
        let near = config.file.parent().map(Path::to_owned).unwrap_or_default();
        let mut own: Vec<String> = [&config.state_dir, &config.area_dir, &near]
            .iter()
            .map(|p| p.to_string_lossy().into_owned())
            .filter(|p| p.len() > 1)
            .collect();
        // Longest first: one may contain another.
        own.sort_by_key(|p| std::cmp::Reverse(p.len()));
        Self { own }
    }

    fn text(&self, text: &str) -> String {
        if !text.contains('/') {
            return text.to_owned();
        }
        let mut text = text.to_owned();
        for path in &self.own {
            if text.contains(path.as_str()) {
                text = text.replace(path.as_str(), "…");
            }
        }
        strip(&text)
    }

    /// The same for text from others in a status.
    fn status(&self, mut s: Status) -> Status {
        for row in &mut s.tasks {
            row.title = self.text(&row.title);
            if let Some(why) = &mut row.blocked_reason {
                *why = self.text(why);
            }
            if let Some(held) = &mut row.held_by {
                held.why = self.text(&held.why);
            }
        }
        s.services_down.iter_mut().for_each(|d| d.why = self.text(&d.why));
        s.confinement.iter_mut().for_each(|c| c.why = c.why.take().map(|t| self.text(&t)));
        s.outbox.messages.iter_mut().for_each(|m| m.error = self.text(&m.error));
        s.outbox.sinks_off.iter_mut().for_each(|o| o.why = self.text(&o.why));
        s.serial_gate.frozen.iter_mut().for_each(|f| f.reason = self.text(&f.reason));
        s.stop.halt_reason = s.stop.halt_reason.take().map(|t| self.text(&t));
        s
    }
}

/// Replaces absolute paths below a machine's folders by `…/NAME`.
fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let here = rest.get(at..).unwrap_or("");
        let before = rest.get(..at).unwrap_or("");
        // Not inside an address or a relative path.
        let begins = !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':' | '…'));
        if begins && FOLDERS.iter().any(|f| here.starts_with(f)) {
            let end = here.find(|c: char| c.is_whitespace() || "\"'`,;:)(<>".contains(c)).unwrap_or(here.len());
            let path = here.get(..end).unwrap_or(here).trim_end_matches(['/', '.']);
            out.push_str(before);
            out.push('…');
            out.push_str(path.rfind('/').and_then(|i| path.get(i..)).unwrap_or(""));
            rest = here.get(path.len()..).unwrap_or("");
        } else {
            out.push_str(before);
            out.push('/');
            rest = here.get(1..).unwrap_or("");
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_are_taken_out_and_others_stay() {
        for (text, wanted) in [
            ("exit 1 in /home/ann/shop/x.sh: no", "exit 1 in …/x.sh: no"),
            ("see `/tmp/orch/a/log`.", "see `…/log`."),
            ("src/home/x.rs and https://example.org/home/x", "src/home/x.rs and https://example.org/home/x"),
            ("a/b, /usr/bin/git, 1/2", "a/b, /usr/bin/git, 1/2"),
            ("at /dev/pts/3", "at …/3"),
        ] {
            assert_eq!(strip(text), wanted);
        }
        let clean = Clean { own: vec!["/srv/state-area".into(), "/srv/state".into()] };
        assert_eq!(clean.text("in /srv/state-area/x and /srv/state/orch.db"), "in …/x and …/orch.db");
    }
}
