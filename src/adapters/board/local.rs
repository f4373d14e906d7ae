//! The local board: one Markdown file per work item, edited by people with any editor while steps run (BRD-1, RULE-40).

use super::seen::{self, Looked, Seen};
use super::swap::{self, MAX_FILE, Turn};
use super::{
    Board, BoardError, Deed, Doer, ItemRef, Label, Listing, Move, Moved, NewItem, Priority, Problem, Scope, Status,
    WorkItem,
};
use crate::adapters::accounts;
use crate::failpoint::point;
use crate::model::board::{Logical, fold, local_statuses};
use crate::model::frontmatter::{Field, flat, write_new};
use crate::model::ids::Key;
use crate::model::time::{parse_rfc3339, rfc3339};
use rustix::fs::{CWD, RenameFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Comments are below this line; a heading of that name that a person wrote is body.
const HEADING: &str = "## Comments <!-- orch -->";
/// How often an edit is tried against a file that keeps changing.
const ATTEMPTS: u32 = 50;
/// The next number of all projects of a folder together, as earlier versions counted; with `-KEY`: of one project
/// (ORD-3).
const COUNTER: &str = ".orch-next";

/// One project's folder of work items.
#[derive(Debug, Clone)]
pub struct Local {
    dir: PathBuf,
    prefix: String,
    statuses: Vec<Status>,
}

enum Edit<T> {
    Write(String, T),
    Leave(T),
}

impl Local {
    /// `dir` is created with the first item; `prefix` is the project's key; `names` the configured status names.
    pub fn new(dir: impl Into<PathBuf>, prefix: &str, names: &BTreeMap<Logical, String>) -> Self {
        Self { dir: dir.into(), prefix: prefix.to_owned(), statuses: local_statuses(names) }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{key}.md"))
    }

    fn failed(&self, what: &str, path: &Path, e: &std::io::Error) -> BoardError {
        let text = format!("{what} {} ({e})", path.display());
        let lasting = [ErrorKind::PermissionDenied, ErrorKind::NotADirectory, ErrorKind::ReadOnlyFilesystem];
        if lasting.contains(&e.kind()) { BoardError::Invalid(text) } else { BoardError::Transient(text) }
    }

    /// All work items, by key. Empty, half-written or broken files are problems ("retry later"). Files that are not
    /// Markdown, hidden ones and those of other projects are ignored; a Markdown file without a key is a stranger.
    pub fn scan(&self) -> Result<Listing, BoardError> {
        let mut found = Listing::default();
        for number in self.names(&mut found)? {
            self.take(number, &mut found)?;
        }
        Ok(found)
    }

    /// As [`Self::scan`], without opening the files that have not changed since `before`, except those to be read
    /// `again` anyway.
    pub fn look(&self, before: &Seen, again: &BTreeSet<u64>) -> Result<Looked, BoardError> {
        let mut found = Listing::default();
        let failed = |e: std::io::Error| self.failed("reading the folder", &self.dir, &e);
        let folder = match seen::open(&self.dir) {
            Ok(folder) => folder,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Looked::default()),
            Err(e) => return Err(failed(e)),
        };
        let look = seen::at(&folder, &self.prefix).map_err(failed)?;
        let numbers = if before.has_names_of(look.folder) { None } else { Some(self.names(&mut found)?) };
        let open = look.news(before, numbers.as_deref(), again);
        let gone = numbers.iter().flat_map(|numbers| before.gone(numbers));
        let news = open.iter().map(|(number, _)| *number).chain(gone).collect();
        let all = numbers.as_ref().map_or(before.len(), Vec::len);
        let mut read = Vec::new();
        for (number, mark) in open {
            if self.take(number, &mut found)? {
                read.extend(mark.map(|mark| (number, mark)));
            }
        }
        // A stranger is reported each time, and nothing else records its name.
        let folder = (look.folder_is_settled() && found.strangers.is_empty()).then_some(look.folder);
        Ok(Looked { listing: found, prefix: self.prefix.clone(), all, folder, news: Some(news), read })
    }

    /// Reads one file into the listing; returns whether it is a work item.
    fn take(&self, number: u64, found: &mut Listing) -> Result<bool, BoardError> {
        let key = Key::parse(&format!("{}-{number}", self.prefix)).map_err(|e| BoardError::Invalid(e.to_string()))?;
        let why = match self.read(&key) {
            Ok(None) => return Ok(false),
            Ok(Some((_, Ok(item)))) => {
                found.items.push(item);
                return Ok(true);
            }
            Ok(Some((_, Err(why)))) => why,
            Err(e) => e.to_string(),
        };
        found.problems.push(Problem { at: format!("{key}.md"), why, key: Some(key) });
        Ok(false)
    }

    /// The numbers of the folder's work items, ascending; strangers are added to the listing.
    fn names(&self, found: &mut Listing) -> Result<Vec<u64>, BoardError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.failed("reading the folder", &self.dir, &e)),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| self.failed("reading the folder", &self.dir, &e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".md") else { continue };
            if stem.starts_with('.') {
                continue;
            }
            match Key::parse(stem) {
                Ok(key) if key.as_str() == stem && key.prefix() == self.prefix => numbers.push(key.number()),
                Ok(key) if key.as_str() == stem => {}
                Ok(_) | Err(_) => found.strangers.push(Problem {
                    why: format!(
                        "the file name is not a key such as {}-1.md; rename the file to make it a work item",
                        self.prefix
                    ),
                    at: name,
                    key: None,
                }),
            }
        }
        numbers.sort_unstable();
        found.strangers.sort_by(|a, b| a.at.cmp(&b.at));
        Ok(numbers)
    }

    /// One item; `None` when there is no such file. A broken file is `Transient`: retry later.
    pub fn get(&self, key: &Key) -> Result<Option<WorkItem>, BoardError> {
        match self.read(key)? {
            None => Ok(None),
            Some((_, Ok(item))) => Ok(Some(item)),
            Some((_, Err(why))) => Err(BoardError::Transient(format!("{key}.md: {why}"))),
        }
    }

    /// Every label used on an item, names folded (so that none is ever ambiguous here).
    pub fn labels(&self) -> Result<Vec<Label>, BoardError> {
        let scan = self.scan()?;
        let mut names: Vec<String> = scan.items.into_iter().flat_map(|i| i.labels).collect();
        names.sort();
        names.dedup();
        Ok(names.into_iter().map(|n| Label { id: n.clone(), name: n }).collect())
    }

    /// The file's text and its parsed content; `None` when there is no such file.
    #[allow(clippy::type_complexity, reason = "text and its reading belong together only here")]
    fn read(&self, key: &Key) -> Result<Option<(String, Result<WorkItem, String>)>, BoardError> {
        let path = self.path(key);
        let failed = |e: std::io::Error| self.failed("reading", &path, &e);
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        if !meta.is_file() || meta.len() > MAX_FILE {
            let why = format!("not a regular file of at most {MAX_FILE} bytes");
            return Ok(Some((String::new(), Err(why))));
        }
        let bytes = match swap::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let Ok(text) = String::from_utf8(bytes) else {
            return Ok(Some((String::new(), Err("the file is not UTF-8".to_owned()))));
        };
        let owner = std::os::unix::fs::MetadataExt::uid(&meta);
        let item = self.parse(key, &text).map(|item| WorkItem { changed_by: Some(accounts::name(owner)), ..item });
        Ok(Some((text, item)))
    }

    fn parse(&self, key: &Key, text: &str) -> Result<WorkItem, String> {
        let f = flat::read(text)?;
        let status = f.text("status").filter(|s| !s.trim().is_empty()).ok_or("no `status:` line")?;
        let id = fold(status);
        let known = self.statuses.iter().find(|s| s.id == id);
        let rest = text.get(f.body_at..).unwrap_or("");
        let body = rest.split_once(HEADING).map_or(rest, |(b, _)| b).trim();
        let time = |name: &str| f.text(name).and_then(parse_rfc3339).unwrap_or(0);
        let blocked_by = f
            .list("blocked_by")
            .into_iter()
            .filter(|t| !t.trim().is_empty())
            .map(|t| Key::parse(&t).map_or(ItemRef::Id(t), ItemRef::Key))
            .collect();
        Ok(WorkItem {
            id: key.to_string(),
            key: key.clone(),
            title: f.text("title").unwrap_or("").to_owned(),
            body: Some(body.to_owned()),
            labels: f.list("labels").iter().map(|l| fold(l)).filter(|l| !l.is_empty()).collect(),
            priority: f.text("priority").and_then(|p| Priority::parse(&fold(p))).unwrap_or(Priority::None),
            status_name: known.map(|s| s.name.clone()),
            group: known.and_then(|s| s.group),
            status_id: id,
            blocked_by: Some(blocked_by),
            created_ms: time("created"),
            updated_ms: time("updated"),
            changed_by: None,
        })
    }

    /// Moves an item if [`Move`] allows; `updated` becomes `now_ms` with it (RULE-40). A person's edit is never lost.
    pub fn set_status(&self, key: &Key, change: &Move<'_>) -> Result<Moved, BoardError> {
        let out = self.edit(key, |text, item| {
            if item.status_id == change.to.id {
                return Ok(Edit::Leave(Moved::Already(item.clone())));
            }
            if change.expect.is_some_and(|e| e != item.status_id) {
                return Ok(Edit::Leave(Moved::Held(item.clone())));
            }
            let new = flat::set(text, &[("status", &change.to.name), ("updated", &rfc3339(change.now_ms))])?;
            let item = self.parse(key, &new)?;
            Ok(Edit::Write(new, Moved::Set(item)))
        })?;
        Ok(out.unwrap_or(Moved::Withdrawn))
    }

    /// Appends a comment below the heading, once per marker; returns whether it is new.
    pub fn append_comment(&self, key: &Key, marker: &str, text: &str, now_ms: i64) -> Result<bool, BoardError> {
        let marker: String =
            marker.chars().map(|c| if c.is_control() || c == '<' || c == '>' { '_' } else { c }).collect();
        let tag = format!("<!-- orch:{} -->", marker.replace("--", "- -"));
        let added = self.edit(key, |file, _| {
            let below = file.split_once(HEADING).map(|(_, c)| c);
            if below.is_some_and(|c| c.contains(&tag)) {
                return Ok(Edit::Leave(false));
            }
            let mut new = file.to_owned();
            if !new.ends_with('\n') {
                new.push('\n');
            }
            if below.is_none() {
                new.push_str(&format!("\n{HEADING}\n"));
            }
            // A comment can't forge the marker of another one.
            let text = text.replace("<!--", "<! --");
            new.push_str(&format!("\n{tag}\n**orch**, {}\n\n{}\n", rfc3339(now_ms), text.trim()));
            Ok(Edit::Write(new, true))
        })?;
        added.ok_or_else(|| BoardError::NotFound(format!("{key}.md is gone")))
    }

    /// Reads, lets `change` decide, exchanges the files atomically and checks what came out; starts again if that is
    /// not what was read. `None`: there is no such file.
    fn edit<T>(
        &self,
        key: &Key,
        mut change: impl FnMut(&str, &WorkItem) -> Result<Edit<T>, String>,
    ) -> Result<Option<T>, BoardError> {
        let path = self.path(key);
        let name = format!("{key}.md");
        let failed = |e: std::io::Error| self.failed("writing", &path, &e);
        let mut turn = None;
        for _ in 0..ATTEMPTS {
            if turn.is_none() && self.dir.exists() && swap::unfinished(&self.dir, &name).map_err(failed)? {
                turn = Some(self.turn(&name)?);
            }
            let Some((text, item)) = self.read(key)? else { return Ok(None) };
            let scan_again_later = |why: String| BoardError::Transient(format!("{name}: {why}"));
            let item = item.map_err(scan_again_later)?;
            let (new, out) = match change(&text, &item).map_err(scan_again_later)? {
                Edit::Leave(out) => return Ok(Some(out)),
                Edit::Write(new, out) => (new, out),
            };
            let Some(turn) = &turn else {
                // Read again: other orch processes may have written until now.
                turn = Some(self.turn(&name)?);
                continue;
            };
            if swap::exchange(&self.dir, turn, &name, text.as_bytes(), new.as_bytes()).map_err(failed)? {
                return Ok(Some(out));
            }
        }
        Err(BoardError::Conflict(format!("{name} kept changing while orch tried to write it")))
    }

    /// Takes this process's turn to write, and repairs what killed processes left of `name`.
    fn turn(&self, name: &str) -> Result<Turn, BoardError> {
        let failed = |e: std::io::Error| self.failed("taking the turn to write in", &self.dir, &e);
        let turn = swap::turn(&self.dir).map_err(failed)?;
        swap::repair(&self.dir, &turn, name).map_err(failed)?;
        Ok(turn)
    }

    /// Creates an item under a number that was never used before, even while other processes create items.
    pub fn create(&self, new: &NewItem<'_>) -> Result<Key, BoardError> {
        fs::create_dir_all(&self.dir).map_err(|e| self.failed("making the folder", &self.dir, &e))?;
        let failed = |e: std::io::Error| self.failed("creating a work item in", &self.dir, &e);
        let _turn = swap::turn(&self.dir).map_err(failed)?;
        let counter = self.dir.join(format!("{COUNTER}-{}", self.prefix));
        let mut stored = 1;
        // Continues from the joint counter.
        for file in [&counter, &self.dir.join(COUNTER)] {
            match fs::read_to_string(file) {
                Ok(text) => {
                    let wrong = format!("{} contains no number; write the next free one into it", file.display());
                    stored = text.trim().parse::<u64>().map_err(|_| BoardError::Invalid(wrong))?;
                    break;
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(failed(e)),
            }
        }
        let mut number = stored.max(self.highest().map_err(failed)?.saturating_add(1));
        loop {
            let key =
                Key::parse(&format!("{}-{number}", self.prefix)).map_err(|e| BoardError::Invalid(e.to_string()))?;
            // First the number is used up, then the file appears: a crash in between wastes a number, but never reuses
            // one.
            let next = swap::temp(&self.dir, (number + 1).to_string().as_bytes(), 0o600).map_err(failed)?;
            next.persist(&counter).map_err(|e| failed(e.error))?;
            swap::sync(&self.dir).map_err(failed)?;
            let temp = swap::temp(&self.dir, render(&key, new).as_bytes(), 0o600).map_err(failed)?;
            point("item");
            match rustix::fs::renameat_with(CWD, temp.path(), CWD, self.path(&key), RenameFlags::NOREPLACE) {
                Ok(()) => {
                    swap::sync(&self.dir).map_err(failed)?;
                    return Ok(key);
                }
                Err(rustix::io::Errno::EXIST) => number += 1,
                Err(e) => return Err(failed(e.into())),
            }
        }
    }

    /// The highest number among the entries of the folder.
    fn highest(&self) -> std::io::Result<u64> {
        let mut highest = 0;
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let key = name.to_str().and_then(|n| n.split('.').next()).and_then(|s| Key::parse(s).ok());
            if let Some(key) = key.filter(|k| k.prefix() == self.prefix) {
                highest = highest.max(key.number());
            }
        }
        Ok(highest)
    }
}

fn render(key: &Key, new: &NewItem<'_>) -> String {
    let now = rfc3339(new.now_ms);
    let fields = [
        ("key", Field::from(key.as_str())),
        ("title", Field::from(new.title)),
        ("status", Field::from(new.status.name.as_str())),
        ("labels", Field::List(new.labels.to_vec())),
        ("priority", Field::from(new.priority.as_str())),
        ("created", Field::from(now.as_str())),
        ("updated", Field::from(now.as_str())),
        ("blocked_by", Field::List(new.blocked_by.iter().map(Key::to_string).collect())),
    ];
    write_new(&fields, &format!("{}\n", new.body.trim_end()))
}

impl Local {
    /// Parses the bytes as an item's file (see `fuzzing`).
    #[doc(hidden)]
    pub fn fuzz(text: &str) {
        if let Ok(key) = Key::parse("AA-1") {
            drop(Self::new(".", "AA", &BTreeMap::new()).parse(&key, text));
        }
    }
}

impl Board for Local {
    /// Every default status and Backlog.
    fn statuses(&self) -> Result<Vec<Status>, BoardError> {
        Ok(self.statuses.clone())
    }

    fn labels(&self) -> Result<Vec<Label>, BoardError> {
        self.labels()
    }

    fn list(&self, _: &[Status], _: &Scope<'_>, _: &dyn Fn() -> bool) -> Result<Listing, BoardError> {
        self.scan()
    }

    fn look(&self, before: &Seen, again: &BTreeSet<u64>) -> Option<Result<Looked, BoardError>> {
        Some(self.look(before, again))
    }

    fn get(&self, _: &[Status], key: &Key) -> Result<Option<WorkItem>, BoardError> {
        self.get(key)
    }

    fn set_status(&self, _: &[Status], item: &WorkItem, change: &Move<'_>) -> Result<Moved, BoardError> {
        self.set_status(&item.key, change)
    }

    fn comment(&self, item: &WorkItem, marker: &str, text: &str, now_ms: i64) -> Result<bool, BoardError> {
        self.append_comment(&item.key, marker, text, now_ms)
    }

    fn who(&self, key: &Key, _: &str, _: &Deed<'_>) -> Result<Option<Doer>, BoardError> {
        Ok(self.get(key)?.and_then(|item| item.changed_by).map(Doer::named))
    }

    fn blocked_by(&self, item: &WorkItem) -> Result<Vec<ItemRef>, BoardError> {
        Ok(self.get(&item.key)?.and_then(|item| item.blocked_by).unwrap_or_default())
    }

    fn create(&self, new: &NewItem<'_>) -> Result<Key, BoardError> {
        self.create(new)
    }
}
