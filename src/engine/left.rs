//! What an agent's checkout contains in addition to the commit: what `orch` and `worktree.setup` put there before the
//! run, and what the run left (BND-5, RULE-22, RULE-46).

use super::Ctx;
use super::site::Site;
use crate::adapters::git::build::{Build, Built, Source};
use crate::adapters::git::walk::{Around, Base, Found, Limits, Root};
use crate::adapters::git::{EntryKind, GitError};
use crate::adapters::sentinel;
use crate::decide::left::{Attributes, Change, Facts, Shape, faults, leads_to};
use crate::model::artefact::{self, Artefact};
use crate::model::evidence::EvidenceVerdict;
use crate::model::gate::Gate;
use crate::model::ids::Sha;
use crate::model::parts::Parts;
use crate::model::protected::Protection;
use crate::model::redact;
use crate::model::stage::Stage;
use crate::model::task::Run;
use crate::model::tree_rules::Broken;
use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Paths that are in the checkout and never part of a run's commit.
type LeftOut = BTreeSet<String>;

/// What a run's checkout was made from. Stored with the run, since another process may finalize it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    /// The parent of the run's commit: the pushed head, or after a conflict the new base.
    pub(super) parent: Sha,
    /// The files: those of the parent, or of the merge.
    pub(super) tree: Sha,
    /// Paths in conflict, to be resolved.
    conflict: Vec<String>,
    pub(super) left_out: LeftOut,
    /// The account that owns the run's files; `None`, from older versions: this process's own.
    #[serde(default)]
    pub(super) owner: Option<u32>,
}

impl Begin {
    fn at(start: &Sha) -> Self {
        Self { parent: start.clone(), tree: start.clone(), conflict: Vec::new(), left_out: LeftOut::new(), owner: None }
    }

    fn owner(&self) -> u32 {
        self.owner.unwrap_or_else(|| rustix::process::geteuid().as_raw())
    }

    /// Whether the branch is rebuilt on a new base.
    pub(super) fn is_rework(&self) -> bool {
        self.parent != self.tree
    }
}

/// What the next run begins with: the pushed head, or, if the merge gate found a conflict, the new base with the
/// conflict in the files (RULE-22).
pub(super) fn begin(ctx: &mut Ctx, site: &Site, run: &Run, start: &Sha) -> Result<Begin> {
    let rows = ctx.store.read(|tx| tx.evidence_of(run.task_id))?;
    let last = rows.iter().rfind(|e| e.subject == Gate::BranchMergeable);
    let conflict = last.is_some_and(|e| e.sha == *start && e.verdict == EvidenceVerdict::Fail);
    let base = &site.ground.default_sha;
    let mirror = &site.ground.mirror;
    if run.stage != Stage::Development || !conflict || mirror.is_ancestor(base, start)? {
        return Ok(Begin::at(start));
    }
    let (tree, paths) = mirror.merge_files(base, start).context("merging the default branch for a rework")?;
    Ok(Begin { parent: base.clone(), tree, conflict: paths, ..Begin::at(start) })
}

/// How many bytes of what a run left are searched for secrets at once.
const SCANNED_AT_ONCE: u64 = 64 << 20;
/// The largest file that is searched for markers: git writes none into larger ones. Larger files of the base are not
/// compared either.
const MARKED_BYTES: u64 = 64 << 20;

fn file(site: &Site) -> PathBuf {
    site.dir.join("begin.json")
}

/// Stores what the run began with.
pub(super) fn remember(site: &Site, begin: &Begin) -> Result<()> {
    Ok(sentinel::put(&file(site), &serde_json::to_vec(begin)?)?)
}

/// What the run began with, for whoever finalizes it.
pub(super) fn remembered(site: &Site, start: &Sha) -> Result<Begin> {
    let path = file(site);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Begin::at(start)),
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
    }
}

fn around<'a>(base: &'a Base, folder: &'a str, begin: &'a Begin) -> Around<'a> {
    Around { base, folder, left_out: &begin.left_out, owner: begin.owner(), limits: Limits::default(), whole: false }
}

fn open(checkout: &Path) -> Result<Root> {
    Root::open(checkout).map_err(|e| unreadable(checkout, &e))
}

/// A checkout that can't be walked: a program in it deleted it or revoked the rights to it.
fn unreadable(checkout: &Path, e: &std::io::Error) -> anyhow::Error {
    let at = checkout.display();
    if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
        anyhow!("the checkout is gone: the run deleted it, and its work is lost: {at}")
    } else if e.kind() == ErrorKind::PermissionDenied {
        anyhow!("the checkout can't be read: the run removed its permissions (chmod): {at}")
    } else {
        anyhow!("reading the checkout {at}: {e}")
    }
}

fn protection(site: &Site) -> Protection {
    Protection::new(&site.project.git.protected_paths)
}

/// After `worktree.setup`: restores tracked files that it changed, deletes what it may not leave, and leaves out the
/// paths that it created, each as a whole. Returns the restored paths, for a warning.
pub(super) fn after_setup(site: &Site, begin: &mut Begin) -> Result<Vec<String>> {
    let mirror = &site.ground.mirror;
    let base = mirror.base(&begin.tree)?;
    let checkout = &site.folders.checkout;
    let root = open(checkout)?;
    let folder = artefact::folder(&site.ground.task.key);
    let found = root.walk(&around(&base, &folder, begin)).map_err(|e| unreadable(checkout, &e))?;
    let built = build(&mirror.build()?, &base, &root, &found)?;
    let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
    let tracked: BTreeSet<String> = base.keys().map(text).collect();
    let (changed, new): (Vec<String>, Vec<String>) = built.changed.iter().cloned().partition(|p| tracked.contains(p));
    mirror.restore(&begin.tree, checkout, &changed).context("restoring tracked files that worktree.setup changed")?;
    let protection = protection(site);
    let broken_paths = found.broken.iter().map(|b| b.path.trim_end_matches('/').to_owned());
    for path in new.into_iter().chain(broken_paths).filter(|p| !p.is_empty() && !tracked.contains(p)) {
        if protection.covers(&path) || path == folder || path.starts_with(&format!("{folder}/")) {
            crate::adapters::git::files::remove(&checkout.join(&path))?;
        } else {
            begin.left_out.insert(outermost(&path, &tracked));
        }
    }
    Ok(changed)
}

/// The outermost parent folder of a new path that the base does not have, or the path itself.
fn outermost(path: &str, tracked: &BTreeSet<String>) -> String {
    let ends = path.match_indices('/').map(|(at, _)| at);
    for folder in ends.filter_map(|at| path.get(..at)) {
        let below = format!("{folder}/");
        if !tracked.range(below.clone()..).next().is_some_and(|p| p.starts_with(&below)) {
            return folder.to_owned();
        }
    }
    path.to_owned()
}

fn build(build: &Build<'_>, base: &Base, root: &Root, found: &Found) -> Result<Built, GitError> {
    build.tree(&Source { base, root, found, limits: Limits::default() })
}

/// What a run left, as a tree.
pub(super) struct Taken<'a> {
    build: Build<'a>,
    pub(super) begin: Begin,
    base: Base,
    built: Built,
    /// Nested repositories; their files count as ordinary files.
    pub(super) nested: Vec<String>,
    /// The stage's documents that the run rewrote, changed or not.
    rewritten: BTreeSet<String>,
    /// The walk did not reach its end.
    partial: bool,
}

/// Walks the checkout and builds the run's tree. Only once all processes of the run are gone.
pub(super) fn take<'a>(site: &'a Site, run: &Run, start: &Sha) -> Result<Taken<'a>> {
    let mirror = &site.ground.mirror;
    let checkout = &site.folders.checkout;
    let root = open(checkout)?;
    let begin = remembered(site, start)?;
    let base = mirror.base(&begin.tree)?;
    let folder = artefact::folder(&site.ground.task.key);
    let found = root.walk(&around(&base, &folder, &begin)).map_err(|e| unreadable(checkout, &e))?;
    let repository = mirror.build()?;
    let built = build(&repository, &base, &root, &found)?;
    let rewritten = rewritten(site, run, &found);
    Ok(Taken { build: repository, begin, base, built, nested: found.nested, rewritten, partial: found.partial })
}

/// The stage's documents whose files changed since the prompt was written. A second review with the same text is a
/// review; the tree alone would not show it.
fn rewritten(site: &Site, run: &Run, found: &Found) -> BTreeSet<String> {
    use std::os::unix::fs::MetadataExt;
    let Ok(began) = std::fs::symlink_metadata(site.dir.join("prompt.md")).map(|m| (m.ctime(), m.ctime_nsec())) else {
        return BTreeSet::new();
    };
    let folder = artefact::folder(&site.ground.task.key);
    let documents = found.entries.iter().filter_map(|(path, entry)| {
        let path = std::str::from_utf8(path).ok()?;
        let artefact = Artefact::of(path.strip_prefix(&folder)?.strip_prefix('/')?)?;
        (artefact.schema().stage == run.stage && entry.seal.changed > began).then(|| path.to_owned())
    });
    documents.collect()
}

impl Taken<'_> {
    /// What the run changed, and documents that it rewrote. A rework on a new base changes whatever differs between the
    /// two heads.
    pub(super) fn changed(&self, site: &Site, start: &Sha, head: &Sha) -> Result<BTreeSet<String>> {
        let mut all: BTreeSet<String> = self.built.changed.union(&self.rewritten).cloned().collect();
        if self.begin.is_rework() {
            all.extend(site.ground.mirror.changed_paths(start, head)?);
        }
        Ok(all)
    }

    /// Saves what the run left as `runs/<id>/left.patch`: it is dropped from the branch, and the next run starts clean.
    pub(super) fn keep_patch(&self, site: &Site) -> Result<bool> {
        Ok(self.build.patch(&self.begin.tree, &self.built.tree, &site.dir.join("left.patch"))?)
    }

    /// The rules that the run broke (RULE-22, RULE-23, BND-5).
    pub(super) fn faults(&self, site: &Site, run: &Run) -> Result<Vec<Broken>> {
        let mut all = self.built.broken.clone();
        if self.partial {
            // Whatever the walk did not reach would count as deleted.
            return Ok(all);
        }
        let changes: Vec<Change> =
            self.built.changed.iter().map(|path| Change { path: path.clone(), now: self.shape(path) }).collect();
        let paths: Vec<String> = self.built.entries.values().map(|e| e.text()).collect();
        let key = &site.ground.task.key;
        let facts = Facts {
            key,
            stage: run.stage,
            may_write: &site.prompt.may_write_globs(key),
            protection: &protection(site),
            parts: &Parts::new(&site.project.paths),
            changes: &changes,
            paths: &paths,
            links: &self.links()?,
            attributes: &self.attributes()?,
        };
        all.extend(faults(&facts));
        all.extend(self.markers()?);
        Ok(all)
    }

    /// Known secrets in what would be pushed (BND-4): in a changed file unless its base already contains the same one,
    /// in its name, in the branch's name or the message. Reported by name, never by value.
    pub(super) fn secrets(&self, site: &Site, run: &Run) -> Result<Vec<Broken>> {
        let known = redact::current();
        let mut all = Vec::new();
        let mut found = |path: &str, names: BTreeSet<&str>| {
            all.extend(names.iter().map(|name| Broken::new(&known.text(path), format!("holds the secret {name}"))));
        };
        let branch = site.ground.task.branch.as_deref().unwrap_or_default();
        found("the branch's name", known.names(branch.as_bytes()));
        found("the commit's message", known.names(message(site, run).as_bytes()));
        self.built.changed.iter().for_each(|path| found(path, known.names(path.as_bytes())));
        let blob = |tree: &'_ Base, path: &str| {
            tree.get(path.as_bytes()).filter(|e| e.size.is_some()).map(|e| (e.id.clone(), e.size.unwrap_or_default()))
        };
        let mut changed: Vec<&String> = self.built.changed.iter().collect();
        while !changed.is_empty() {
            // As many files at once as fit into memory; at least one.
            let mut room = SCANNED_AT_ONCE;
            let fits = changed.iter().take_while(|path| {
                let size = blob(&self.built.entries, path).map_or(0, |(_, size)| size);
                let fits = room == SCANNED_AT_ONCE || size <= room;
                room = room.saturating_sub(size);
                fits
            });
            let rest = changed.split_off(fits.count());
            let some: Vec<(&String, Sha)> =
                changed.iter().filter_map(|path| Some((*path, blob(&self.built.entries, path)?.0))).collect();
            let now = self.build.contents(some.iter().map(|(_, id)| id))?;
            for ((path, _), bytes) in some.iter().zip(&now) {
                let mut names = known.names(bytes);
                let was = blob(&self.base, path).filter(|(_, size)| *size <= MARKED_BYTES);
                if let Some((id, _)) = was.filter(|_| !names.is_empty()) {
                    let before = self.build.contents(std::iter::once(&id))?;
                    for name in before.iter().flat_map(|b| known.names(b)) {
                        names.remove(name);
                    }
                }
                found(path, names);
            }
            changed = rest;
        }
        for large in &self.built.large {
            found(&large.path, known.names(&self.build.content(large)?));
        }
        Ok(all)
    }

    /// Uploads new git-lfs contents to the remote before the commit that needs them.
    pub(super) fn upload(&self) -> Result<()> {
        Ok(self.build.upload(&self.built.large)?)
    }

    /// Files in conflict that still contain a marker.
    fn markers(&self) -> Result<Vec<Broken>> {
        let listed = self.begin.conflict.iter().filter_map(|path| self.built.entries.get(path.as_bytes()));
        let listed: Vec<_> = listed.filter(|e| e.is_file() && e.size.is_some_and(|s| s <= MARKED_BYTES)).collect();
        let contents = self.build.contents(listed.iter().map(|e| &e.id))?;
        let marked = listed.iter().zip(contents).filter(|(_, bytes)| {
            bytes.split(|b| *b == b'\n').any(|line| line.starts_with(b"<<<<<<< ") || line.starts_with(b">>>>>>> "))
        });
        Ok(marked.map(|(e, _)| Broken::new(&e.text(), "still contains a merge conflict marker")).collect())
    }

    fn shape(&self, path: &str) -> Shape {
        match self.built.entries.get(path.as_bytes()) {
            None => Shape::Gone,
            Some(e) => match e.kind {
                EntryKind::File => Shape::File { executable: false, size: e.size.unwrap_or(u64::MAX) },
                EntryKind::Executable => Shape::File { executable: true, size: e.size.unwrap_or(u64::MAX) },
                EntryKind::Symlink | EntryKind::Submodule | EntryKind::Folder => Shape::Other,
            },
        }
    }

    /// The resulting tree's symbolic links with their targets.
    fn links(&self) -> Result<Vec<(String, String)>> {
        let links: Vec<_> = self.built.entries.values().filter(|e| e.kind == EntryKind::Symlink).collect();
        let targets = self.build.contents(links.iter().map(|e| &e.id))?;
        let led = links.iter().zip(targets).filter_map(|(e, target)| {
            let link = e.text();
            let to = leads_to(&link, std::str::from_utf8(&target).ok()?)?;
            Some((link, to))
        });
        Ok(led.collect())
    }

    /// The attributes files that changed, before and after.
    fn attributes(&self) -> Result<Vec<Attributes>> {
        let names = self.built.changed.iter().filter(|p| p.rsplit('/').next() == Some(".gitattributes"));
        let mut all = Vec::new();
        for path in names {
            let text = |tree: &Base| -> Result<String> {
                let entry = tree.get(path.as_bytes()).filter(|e| e.is_file());
                let bytes = self.build.contents(entry.map(|e| &e.id).into_iter())?;
                Ok(bytes.first().map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default())
            };
            all.push(Attributes { path: path.clone(), before: text(&self.base)?, now: text(&self.built.entries)? });
        }
        Ok(all)
    }

    /// Creates the run's single commit in the mirror; `start` itself if nothing changed. The same run always creates
    /// the same commit.
    pub(super) fn commit(&self, site: &Site, run: &Run, start: &Sha) -> Result<Sha> {
        if self.built.changed.is_empty() && !self.begin.is_rework() {
            return Ok(start.clone());
        }
        let message = message(site, run);
        let seconds = run.exited_at.as_ref().map_or(run.started_at, |at| at.wall_ms) / 1000;
        let author = super::projects::author(&site.project);
        let commit = self.build.commit(&self.built.tree, &self.begin.parent, &message, &author, seconds)?;
        site.ground.mirror.import(&self.build, &commit)?;
        Ok(commit)
    }
}

/// The message of a run's commit; the agent's own messages are discarded.
pub(super) fn message(site: &Site, run: &Run) -> String {
    format!("{}: {} (attempt {})", site.ground.task.key, run.stage, run.attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_setup_made_is_left_out_as_a_whole() {
        let tracked: BTreeSet<String> = ["src/a.rs", "src.x/y"].map(str::to_owned).into();
        assert_eq!(outermost("node_modules/a/b", &tracked), "node_modules");
        assert_eq!(outermost("src/gen/x", &tracked), "src/gen");
        assert_eq!(outermost("src/gen.rs", &tracked), "src/gen.rs");
        assert_eq!(outermost(".env", &tracked), ".env");
    }
}
