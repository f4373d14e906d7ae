//! The second pass: every file content, commit object and path that the range brings in, raw, in pieces under neutral
//! names. It covers what a patch does not show (UTF-16, commit headers), what the scanner's own path allow-list hides
//! (lock files, minified files), and what its reading in blocks splits.

use super::ScanRequest;
use super::gitleaks::{Gitleaks, Leak};
use super::hidden::Hidden;
use super::pieces::{OVERLAP, cuts, key_blocks};
use super::repo::{NewBlob, ScanRepo};
use super::secrets::finding;
use crate::model::large::Pointer;
use crate::model::scan::Finding;
use anyhow::{Context as _, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Most bytes of new file contents that one scan reads.
const MOST: u64 = 1 << 30;
/// The rule that uses entropy alone: noise in files that the scanner skips by default, and in binaries.
const BY_ENTROPY: &str = "generic-api-key";

/// What the second pass found.
#[derive(Debug)]
pub(super) struct Second {
    pub blobs: u64,
    /// Commits and annotated tags that were read as raw objects.
    pub objects: u64,
    pub allowed_by_path: u64,
    pub findings: Vec<Finding>,
    /// What was not read, as a sentence.
    pub unread: Option<String>,
}

/// Contents of the range stored by git-lfs: next to the repository's objects, or only on the remote.
#[derive(Debug, Default)]
struct Elsewhere {
    bytes: u64,
    missing: BTreeSet<String>,
}

impl Elsewhere {
    /// The content behind a pointer of the range.
    fn content(&mut self, repo: &ScanRepo, blob: &[u8], from: &[Origin]) -> Result<Option<Vec<u8>>> {
        let Some(pointer) = Pointer::read(blob) else { return Ok(None) };
        let path = repo.large.join(pointer.place());
        if path.metadata().is_ok_and(|data| data.len() == pointer.size()) {
            self.bytes = self.bytes.saturating_add(pointer.size());
            ensure!(
                self.bytes <= MOST,
                "git-lfs keeps more than the {} MiB of the range that a scan reads",
                MOST >> 20
            );
            return Ok(Some(std::fs::read(path)?));
        }
        let new = from.iter().filter_map(|origin| match origin {
            Origin::File { path, .. } => Some(path.clone()),
            Origin::Base | Origin::Commit { .. } | Origin::Tag { .. } | Origin::Paths => None,
        });
        self.missing.extend(new);
        Ok(None)
    }

    fn unread(&self) -> Option<String> {
        let first: Vec<&str> = self.missing.iter().take(5).map(String::as_str).collect();
        let rest = self.missing.len().saturating_sub(first.len());
        let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
        let named = format!("{}{more}", first.join(", "));
        (!first.is_empty())
            .then(|| format!("not scanned: git-lfs has the content, which is not on this machine: {named}"))
    }
}

/// Where a content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A file that the range brings in.
    File { path: String, commit: String },
    /// A file of the base: findings in it are inherited.
    Base,
    /// A raw commit; its first `header` lines are the header.
    Commit { id: String, header: u64 },
    /// A raw annotated tag.
    Tag { id: String },
    /// A list of paths, one per line.
    Paths,
}

/// One neutral file: a piece of a content, in one of its spellings.
#[derive(Debug, Clone)]
pub(super) struct Part {
    from: Vec<Origin>,
    /// Lines of the content before it.
    lines_before: u64,
    /// Whether more of the content precedes it, and whether more follows.
    cut: (bool, bool),
    /// Altered or not text, so entropy means nothing there.
    no_entropy: bool,
}

/// A content in one spelling.
#[derive(Clone, Copy)]
struct Spelling<'a> {
    name: &'a str,
    bytes: &'a [u8],
    no_entropy: bool,
}

/// The neutral files of one scan, in their own folder.
pub(super) struct Pass<'a> {
    pub repo: &'a ScanRepo,
    pub gitleaks: &'a Gitleaks,
    /// `None`: the built-in rules.
    pub config: Option<&'a Path>,
    pub report: &'a Path,
    root: PathBuf,
    parts: BTreeMap<String, Part>,
}

/// A finding of this pass: what was found, in which neutral file, of which content.
pub(super) struct Hit<'l> {
    pub leak: &'l Leak,
    pub name: String,
    pub origin: Origin,
}

impl<'a> Pass<'a> {
    /// An empty pass over a new folder inside the scan's private one.
    pub fn new(
        repo: &'a ScanRepo,
        gitleaks: &'a Gitleaks,
        config: Option<&'a Path>,
        report: &'a Path,
        folder: &str,
    ) -> Result<Self> {
        let root = repo.path(folder);
        std::fs::create_dir_all(&root)?;
        Ok(Self { repo, gitleaks, config, report, root, parts: BTreeMap::new() })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Adds a content for the scanner: unchanged, without NUL bytes if it has any, and each of these once more if its
    /// words could hide a secret. Returns the names of the unchanged pieces.
    pub fn give(&mut self, number: usize, kind: char, bytes: &[u8], from: Vec<Origin>) -> Result<Vec<String>> {
        if let Some(plain) = without_nul(bytes) {
            let name = format!("{kind}{number:06}u");
            self.spell(Spelling { name: &name, bytes: &plain, no_entropy: !mostly_text(&plain) }, &from)?;
        }
        self.spell(Spelling { name: &format!("{kind}{number:06}"), bytes, no_entropy: false }, &from)
    }

    fn spell(&mut self, text: Spelling<'_>, from: &[Origin]) -> Result<Vec<String>> {
        if let Some(other) = respelled(text.bytes) {
            let name = format!("{}w", text.name);
            self.cut(Spelling { name: &name, bytes: &other, no_entropy: true }, from)?;
        }
        self.cut(text, from)
    }

    /// Writes the pieces of a text.
    fn cut(&mut self, text: Spelling<'_>, from: &[Origin]) -> Result<Vec<String>> {
        let cuts = cuts(text.bytes);
        let (mut lines, mut counted) = (0_u64, 0_usize);
        let mut names = Vec::new();
        for (n, cut) in cuts.iter().enumerate() {
            lines += newlines(text.bytes.get(counted..cut.start).unwrap_or_default());
            counted = cut.start;
            let name = if cuts.len() == 1 { text.name.to_owned() } else { format!("{}-{n:05}", text.name) };
            let part = Part {
                from: from.to_vec(),
                lines_before: lines,
                cut: (n > 0, n + 1 < cuts.len()),
                no_entropy: text.no_entropy,
            };
            self.write(&name, text.bytes.get(cut.clone()).unwrap_or_default(), part)?;
            names.push(name);
        }
        for (n, block) in key_blocks(text.bytes).into_iter().enumerate() {
            let lines_before = newlines(text.bytes.get(..block.start).unwrap_or_default());
            let part = Part { from: from.to_vec(), lines_before, cut: (false, false), no_entropy: true };
            self.write(&format!("{}-k{n:05}", text.name), &block.text, part)?;
        }
        Ok(names)
    }

    /// Starts with a line of our own: the scanner skips files that begin like a PDF, an archive or a program.
    fn write(&mut self, name: &str, bytes: &[u8], part: Part) -> Result<()> {
        let mut file = File::create(self.root.join(name))?;
        file.write_all(b"\n")?;
        file.write_all(bytes)?;
        self.parts.insert(name.to_owned(), part);
        Ok(())
    }

    /// Whether a finding touches a cut. Another piece then contains it whole, with its context.
    fn touches_a_cut(&self, leak: &Leak, name: &str, part: &Part) -> bool {
        if part.cut == (false, false) || leak.matched.is_empty() || leak.matched.len() >= OVERLAP {
            return false;
        }
        let Ok(file) = std::fs::read(self.root.join(name)) else { return false };
        let body = file.get(1..).unwrap_or_default();
        let matched = leak.matched.as_bytes();
        (part.cut.0 && body.starts_with(matched)) || (part.cut.1 && body.ends_with(matched))
    }

    /// Every finding with its origins, once per content and secret; `inherited` are the secrets that the base had.
    fn hits<'l>(
        &self,
        leaks: &'l [Leak],
        seen: &BTreeSet<(String, String)>,
    ) -> Result<(Vec<Hit<'l>>, BTreeSet<&'l str>)> {
        let mut inherited: BTreeSet<&str> = BTreeSet::new();
        let mut hits = Vec::new();
        let mut done: BTreeSet<(String, &str)> = BTreeSet::new();
        for leak in leaks {
            let name = leak.file.strip_prefix("./").unwrap_or(&leak.file).to_owned();
            let part = self.parts.get(&name).context("gitleaks reports a file that was not given to it")?;
            if self.touches_a_cut(leak, &name, part) {
                continue;
            }
            for origin in &part.from {
                let (path, new) = match origin {
                    Origin::Base => {
                        inherited.insert(&leak.secret);
                        continue;
                    }
                    Origin::File { path, .. } => (path.clone(), !seen.contains(&(path.clone(), leak.secret.clone()))),
                    Origin::Commit { id, .. } | Origin::Tag { id } => (format!("\0{id}"), true),
                    Origin::Paths => (String::new(), true),
                };
                if new && done.insert((path, leak.secret.as_str())) {
                    hits.push(Hit { leak, name: name.clone(), origin: origin.clone() });
                }
            }
        }
        Ok((hits, inherited))
    }

    /// Line of a finding in its content, from 1.
    fn line(&self, hit: &Hit<'_>) -> u64 {
        let before = self.parts.get(&hit.name).map_or(0, |p| p.lines_before);
        before.saturating_add(hit.leak.start_line.saturating_sub(1))
    }
}

/// Scans them. `seen`: path and secret of what the first pass already found.
pub(super) fn scan(
    request: &ScanRequest,
    mut pass: Pass<'_>,
    fresh: &[NewBlob],
    seen: &BTreeSet<(String, String)>,
) -> Result<Second> {
    let contents = contents(request, pass.repo, fresh)?;
    let blobs = contents.values().filter(|from| from.iter().any(|o| *o != Origin::Base)).count() as u64;
    let mut elsewhere = Elsewhere::default();
    read(&mut pass, "blob", 'c', contents, &mut elsewhere)?;
    let objects: BTreeMap<String, Vec<Origin>> = pass
        .repo
        .commits(&request.base, &request.head)?
        .into_iter()
        .map(|id| (id.clone(), vec![Origin::Commit { id, header: 0 }]))
        .collect();
    let tags: BTreeMap<String, Vec<Origin>> =
        request.tags.iter().map(|id| (id.to_string(), vec![Origin::Tag { id: id.to_string() }])).collect();
    let count = (objects.len() + tags.len()) as u64;
    read(&mut pass, "commit", 'm', objects, &mut elsewhere)?;
    read(&mut pass, "tag", 't', tags, &mut elsewhere)?;
    let paths: Vec<&NewBlob> = fresh.iter().collect();
    if !paths.is_empty() {
        let list: String = paths.iter().map(|b| b.path.replace('\n', " ") + "\n").collect();
        pass.give(0, 'p', list.as_bytes(), vec![Origin::Paths])?;
    }
    if pass.parts.is_empty() {
        return Ok(Second {
            blobs,
            objects: count,
            allowed_by_path: 0,
            findings: Vec::new(),
            unread: elsewhere.unread(),
        });
    }
    // Working directory and target are the same, so that reported paths are the neutral names.
    let leaks =
        pass.gitleaks.run(&["dir"], Path::new("."), Some(&pass.root), pass.config, "json", pass.report)?.leaks()?;
    let (hits, inherited) = pass.hits(&leaks, seen)?;
    let hidden = Hidden::ask(&pass, &hits)?;
    let mut allowed_by_path = 0;
    let mut findings = Vec::new();
    for (n, hit) in hits.iter().enumerate() {
        let no_entropy = hit.origin == Origin::Paths || pass.parts.get(&hit.name).is_some_and(|p| p.no_entropy);
        if hit.leak.rule == BY_ENTROPY && (no_entropy || hidden.built_in.contains(&n)) {
            continue;
        }
        if hidden.project.contains(&n) && !hidden.built_in.contains(&n) {
            allowed_by_path += 1;
            continue;
        }
        let line = pass.line(hit);
        let (path, line, commit) = match &hit.origin {
            Origin::File { path, commit } => (path.clone(), Some(line), commit.clone()),
            Origin::Base => continue,
            Origin::Commit { id, header } if line <= *header => ("(commit header)".to_owned(), None, id.clone()),
            Origin::Commit { id, .. } => ("(commit message)".to_owned(), None, id.clone()),
            Origin::Tag { id } => ("(annotated tag)".to_owned(), None, id.clone()),
            Origin::Paths => {
                let blob = usize::try_from(line).ok().and_then(|line| paths.get(line.saturating_sub(1)));
                ("(path of a file)".to_owned(), None, blob.map_or_else(String::new, |b| b.commit.clone()))
            }
        };
        let old = inherited.contains(hit.leak.secret.as_str());
        findings.push(finding(&request.key, hit.leak, path, line, Some(commit), old));
    }
    Ok(Second { blobs, objects: count, allowed_by_path, findings, unread: elsewhere.unread() })
}

/// The contents to read, by object id: what the range brings in, and the previous contents of changed and deleted
/// files, since a secret that was already there is not this branch's.
fn contents(request: &ScanRequest, repo: &ScanRepo, fresh: &[NewBlob]) -> Result<BTreeMap<String, Vec<Origin>>> {
    let base: BTreeMap<String, String> = repo.files(&request.base)?.into_iter().map(|f| (f.path, f.oid)).collect();
    let head: BTreeSet<String> = repo.files(&request.head)?.into_iter().map(|f| f.path).collect();
    let base_oids: BTreeSet<&str> = base.values().map(String::as_str).collect();
    let mut origins: BTreeMap<String, Vec<Origin>> = BTreeMap::new();
    for blob in fresh.iter().filter(|b| !base_oids.contains(b.oid.as_str())) {
        let origin = Origin::File { path: blob.path.clone(), commit: blob.commit.clone() };
        origins.entry(blob.oid.clone()).or_default().push(origin);
    }
    let touched: BTreeSet<&str> = fresh.iter().map(|b| b.path.as_str()).collect();
    for (_, oid) in base.iter().filter(|(path, _)| touched.contains(path.as_str()) || !head.contains(*path)) {
        origins.entry(oid.clone()).or_default().push(Origin::Base);
    }
    Ok(origins)
}

/// Reads objects of one type and adds them to the pass.
fn read(
    pass: &mut Pass<'_>,
    kind: &str,
    letter: char,
    mut from: BTreeMap<String, Vec<Origin>>,
    elsewhere: &mut Elsewhere,
) -> Result<()> {
    let oids: Vec<String> = from.keys().cloned().collect();
    if oids.is_empty() {
        return Ok(());
    }
    let batch = pass.repo.path("out/batch");
    pass.repo.contents(kind, &oids, MOST, &batch)?;
    let done = unpack(&batch, kind, &mut from, |number, bytes, mut from| {
        for origin in &mut from {
            if let Origin::Commit { header, .. } = origin {
                *header = header_lines(bytes);
            }
        }
        if let Some(content) = elsewhere.content(pass.repo, bytes, &from)? {
            pass.give(number, 'l', &content, from.clone())?;
        }
        pass.give(number, letter, bytes, from).map(drop)
    });
    let _ = std::fs::remove_file(&batch);
    done
}

/// Number of lines of a raw commit up to the empty one that ends its header.
fn header_lines(bytes: &[u8]) -> u64 {
    let end = bytes.windows(2).position(|w| w == b"\n\n").map_or(bytes.len(), |n| n + 1);
    newlines(bytes.get(..end).unwrap_or_default())
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

/// Splits the output of `cat-file --batch`.
fn unpack(
    batch: &Path,
    kind: &str,
    asked: &mut BTreeMap<String, Vec<Origin>>,
    mut give: impl FnMut(usize, &[u8], Vec<Origin>) -> Result<()>,
) -> Result<()> {
    let mut input = BufReader::new(File::open(batch)?);
    let mut header = Vec::new();
    let mut n = 0_usize;
    while !asked.is_empty() {
        header.clear();
        (&mut input).take(200).read_until(b'\n', &mut header)?;
        let line = String::from_utf8_lossy(&header);
        let mut words = line.trim().split(' ');
        let oid = words.next().unwrap_or_default();
        ensure!(words.next() == Some(kind), "git cat-file did not answer with a {kind}");
        let size = words.next().and_then(|s| s.parse::<u64>().ok()).filter(|s| *s <= MOST);
        let size = size.with_context(|| format!("git cat-file named no size of a {kind}"))?;
        let from = asked.remove(oid).context("git cat-file answered with an object that was not requested")?;
        let mut bytes = Vec::new();
        (&mut input).take(size).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 == size, "git cat-file's answer is cut short");
        let mut newline = [0_u8; 1];
        input.read_exact(&mut newline)?;
        n += 1;
        give(n, &bytes, from)?;
    }
    Ok(())
}

/// The scanner's built-in allow-list drops findings that begin with *true*, contain *false* or end in *null*. If one of
/// these is inside a long word or next to a key block, returns the text with one letter of each changed.
fn respelled(bytes: &[u8]) -> Option<Vec<u8>> {
    let part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'=');
    let mut out = bytes.to_vec();
    let block = bytes.windows(11).any(|w| w == b"PRIVATE KEY");
    let mut changed = false;
    for (word, at) in [(&b"true"[..], 1), (b"false", 2), (b"null", 2)] {
        for (start, found) in bytes.windows(word.len()).enumerate() {
            if !found.eq_ignore_ascii_case(word) {
                continue;
            }
            let before = bytes.get(..start).unwrap_or_default().iter().rev().take(16).take_while(|b| part(b)).count();
            let after = bytes.get(start..).unwrap_or_default().iter().take(16).take_while(|b| part(b)).count();
            if (block || before + after >= 16)
                && let Some(letter) = out.get_mut(start + at)
            {
                *letter = if letter.is_ascii_lowercase() { b'k' } else { b'K' };
                changed = true;
            }
        }
    }
    changed.then_some(out)
}

/// The bytes without NULs, if there were any: UTF-16 and UTF-32 of either byte order become plain text that a rule can
/// match, with or without a byte order mark, anywhere in the file.
fn without_nul(bytes: &[u8]) -> Option<Vec<u8>> {
    bytes.contains(&0).then(|| bytes.iter().copied().filter(|b| *b != 0).collect())
}

fn mostly_text(bytes: &[u8]) -> bool {
    let text = bytes.iter().filter(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()).count();
    text.saturating_mul(10) >= bytes.len().saturating_mul(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_bytes_are_taken_out_in_either_byte_order() {
        assert_eq!(without_nul(b"a\0b\0"), Some(b"ab".to_vec()));
        assert_eq!(without_nul(b"\0a\0b"), Some(b"ab".to_vec()));
        assert_eq!(without_nul(b"ab"), None);
    }

    #[test]
    fn words_that_hide_a_secret_are_respelled_in_long_words_and_next_to_a_key() {
        let said = |text: &str| respelled(text.as_bytes()).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(said("x = false; y: null, true"), None);
        assert_eq!(said("k = \"abcdFalse0123456789\" false"), Some("k = \"abcdFakse0123456789\" false".into()));
        assert_eq!(said("0123456789abNULL"), Some("0123456789abNUKL".into()));
        assert_eq!(said("true0123456789ab"), Some("tkue0123456789ab".into()));
        assert_eq!(said("PRIVATE KEY\nX: false"), Some("PRIVATE KEY\nX: fakse".into()));
    }

    #[test]
    fn unpack_refuses_what_was_not_asked_for_or_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let batch = dir.path().join("batch");
        let asked = || BTreeMap::from([("aa".to_owned(), vec![Origin::Base])]);
        for (answer, good) in [
            ("aa blob 3\nxyz\n", true),
            ("bb blob 3\nxyz\n", false),
            ("aa missing\n", false),
            ("aa tree 3\nxyz\n", false),
            ("aa blob 9\nxyz\n", false),
            ("", false),
            ("aa blob 99999999999999999999\n", false),
        ] {
            std::fs::write(&batch, answer).unwrap();
            assert_eq!(unpack(&batch, "blob", &mut asked(), |_, _, _| Ok(())).is_ok(), good, "{answer:?}");
        }
    }
}
