//! The second pass: every file content (and message) the range brings in, raw, under neutral names. It sees what a
//! patch does not show (UTF-16), and what the scanner's own path allow-list hides (lock files, minified files).

use super::ScanRequest;
use super::gitleaks::{Gitleaks, Leak};
use super::repo::{NewBlob, ScanRepo};
use super::secrets::finding;
use crate::model::scan::Finding;
use anyhow::{Context as _, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

/// Most bytes of new file contents one scan reads.
const MOST: u64 = 1 << 30;
/// The rule by entropy alone: noise in files the scanner leaves out by itself, and in binaries.
const BY_ENTROPY: &str = "generic-api-key";

/// What the second pass found.
#[derive(Debug)]
pub(super) struct Second {
    pub blobs: u64,
    pub allowed_by_path: u64,
    pub findings: Vec<Finding>,
}

/// Where a neutral file came from.
#[derive(Debug, Clone)]
struct Origin {
    path: String,
    commit: String,
    /// Content of the base: what is found there is inherited.
    old: bool,
    /// Neither text nor text with NUL bytes in between, or not as it was written: entropy says nothing there.
    binary: bool,
    message: bool,
}

/// Scans them. `seen` are path and secret of what the first pass found already.
pub(super) fn scan(
    request: &ScanRequest,
    repo: &ScanRepo,
    gitleaks: &Gitleaks,
    config: Option<&Path>,
    report: &Path,
    fresh: &[NewBlob],
    seen: &BTreeSet<(String, String)>,
) -> Result<Second> {
    let base: BTreeMap<String, String> = repo.files(&request.base)?.into_iter().map(|f| (f.path, f.oid)).collect();
    let head: BTreeSet<String> = repo.files(&request.head)?.into_iter().map(|f| f.path).collect();
    let base_oids: BTreeSet<&str> = base.values().map(String::as_str).collect();

    let mut origins: BTreeMap<String, Vec<Origin>> = BTreeMap::new();
    for blob in fresh.iter().filter(|b| !base_oids.contains(b.oid.as_str())) {
        let origin =
            Origin { path: blob.path.clone(), commit: blob.commit.clone(), old: false, binary: false, message: false };
        origins.entry(blob.oid.clone()).or_default().push(origin);
    }
    let new_contents = origins.len() as u64;
    // What the changed and the vanished files held before: a secret found there as well is not this branch's.
    let touched: BTreeSet<&str> = fresh.iter().map(|b| b.path.as_str()).collect();
    for (path, oid) in base.iter().filter(|(path, _)| touched.contains(path.as_str()) || !head.contains(*path)) {
        let origin = Origin { path: path.clone(), commit: String::new(), old: true, binary: false, message: false };
        origins.entry(oid.clone()).or_default().push(origin);
    }

    let root = repo.path("work/contents");
    std::fs::create_dir_all(&root)?;
    let mut neutral: BTreeMap<String, Vec<Origin>> = BTreeMap::new();
    let oids: Vec<String> = origins.keys().cloned().collect();
    if !oids.is_empty() {
        let batch = repo.path("out/batch");
        repo.contents(&oids, MOST, &batch)?;
        unpack(&batch, &root, &mut origins, &mut neutral)?;
        let _ = std::fs::remove_file(&batch);
    }
    for (n, (commit, text)) in repo.messages(&request.base, &request.head)?.into_iter().enumerate() {
        let path = "(commit message)".to_owned();
        let from = vec![Origin { path, commit, old: false, binary: false, message: true }];
        give(&root, &format!("m{n:06}"), &text, from, &mut neutral)?;
    }
    if neutral.is_empty() {
        return Ok(Second { blobs: 0, allowed_by_path: 0, findings: Vec::new() });
    }
    // Working directory and target are the same, so that reported paths are the neutral names.
    let leaks = gitleaks.run(&["dir"], Path::new("."), Some(&root), config, "json", report)?.leaks()?;
    sort_out(request, repo, gitleaks, config, report, &root, &leaks, &neutral, seen, new_contents)
}

/// Splits the output of `cat-file --batch` into neutral files.
fn unpack(
    batch: &Path,
    root: &Path,
    origins: &mut BTreeMap<String, Vec<Origin>>,
    neutral: &mut BTreeMap<String, Vec<Origin>>,
) -> Result<()> {
    let mut input = BufReader::new(File::open(batch)?);
    let mut header = Vec::new();
    let mut n = 0_usize;
    while !origins.is_empty() {
        header.clear();
        (&mut input).take(200).read_until(b'\n', &mut header)?;
        let line = String::from_utf8_lossy(&header);
        let mut words = line.trim().split(' ');
        let oid = words.next().unwrap_or_default();
        let size = words.nth(1).and_then(|s| s.parse::<u64>().ok()).filter(|s| *s <= MOST);
        let size = size.context("git cat-file answered with something else than a file")?;
        let mut from = origins.remove(oid).context("git cat-file answered with an object nobody asked for")?;
        let mut bytes = Vec::new();
        (&mut input).take(size).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 == size, "git cat-file's answer is cut short");
        let mut newline = [0_u8; 1];
        input.read_exact(&mut newline)?;

        n += 1;
        if let Some(plain) = without_nul(&bytes) {
            let binary = !mostly_text(&plain);
            from.iter_mut().for_each(|o| o.binary = binary);
            give(root, &format!("u{n:06}"), &plain, from.clone(), neutral)?;
        }
        give(root, &format!("c{n:06}"), &bytes, from, neutral)?;
    }
    Ok(())
}

/// Gives a text to the scanner under a neutral name, and once more where its words could hide a secret.
fn give(
    root: &Path,
    name: &str,
    bytes: &[u8],
    mut from: Vec<Origin>,
    neutral: &mut BTreeMap<String, Vec<Origin>>,
) -> Result<()> {
    write_neutral(&root.join(name), bytes)?;
    neutral.insert(name.to_owned(), from.clone());
    if let Some(respelled) = respelled(bytes) {
        let name = format!("{name}w");
        write_neutral(&root.join(&name), &respelled)?;
        from.iter_mut().for_each(|o| o.binary = true);
        neutral.insert(name, from);
    }
    Ok(())
}

/// The scanner's built-in list passes whatever its rules find that begins with *true*, contains *false* or ends in
/// *null*. Where one of them stands in a long word or beside a key block: the text with another letter in each.
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

/// A line of its own comes first: the scanner leaves out files that begin like a PDF, an archive or a program.
fn write_neutral(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"\n")?;
    file.write_all(bytes)?;
    Ok(())
}

/// The bytes without NULs, if there were any: UTF-16 and UTF-32 of either byte order become the plain text a rule can
/// read, with or without a byte order mark, wherever in the file they stand.
fn without_nul(bytes: &[u8]) -> Option<Vec<u8>> {
    bytes.contains(&0).then(|| bytes.iter().copied().filter(|b| *b != 0).collect())
}

fn mostly_text(bytes: &[u8]) -> bool {
    let text = bytes.iter().filter(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()).count();
    text.saturating_mul(10) >= bytes.len().saturating_mul(7)
}

/// Maps findings back to paths, and leaves out what the first pass found, what the base had (marked inherited), and
/// what the project's own path allow-list covers.
#[allow(clippy::too_many_arguments, reason = "one step of the pass, cut out for its length")]
fn sort_out(
    request: &ScanRequest,
    repo: &ScanRepo,
    gitleaks: &Gitleaks,
    config: Option<&Path>,
    report: &Path,
    root: &Path,
    leaks: &[Leak],
    neutral: &BTreeMap<String, Vec<Origin>>,
    seen: &BTreeSet<(String, String)>,
    new_contents: u64,
) -> Result<Second> {
    let name_of = |leak: &Leak| leak.file.strip_prefix("./").unwrap_or(&leak.file).to_owned();
    let mut inherited: BTreeSet<&str> = BTreeSet::new();
    for leak in leaks {
        let from = neutral.get(&name_of(leak)).context("gitleaks reports a file that was not given to it")?;
        if from.iter().any(|o| o.old) {
            inherited.insert(&leak.secret);
        }
    }
    let mut done: BTreeSet<(String, String)> = seen.clone();
    let mut rest: Vec<(&Leak, Origin, String)> = Vec::new();
    for leak in leaks {
        let name = name_of(leak);
        for origin in neutral.get(&name).into_iter().flatten().filter(|o| !o.old) {
            if done.insert((origin.path.clone(), leak.secret.clone())) {
                rest.push((leak, origin.clone(), name.clone()));
            }
        }
    }
    let hidden = Hidden::ask(repo, gitleaks, config, report, root, &rest)?;
    let mut allowed_by_path = 0;
    let mut findings = Vec::new();
    for (n, (leak, origin, _)) in rest.iter().enumerate() {
        let noise = leak.rule == BY_ENTROPY && (origin.binary || hidden.built_in.contains(&n));
        if noise {
            continue;
        }
        if hidden.project.contains(&n) && !hidden.built_in.contains(&n) {
            allowed_by_path += 1;
            continue;
        }
        let line = (!origin.message).then(|| leak.start_line.saturating_sub(1));
        let old = inherited.contains(leak.secret.as_str());
        findings.push(finding(&request.key, leak, origin.path.clone(), line, Some(origin.commit.clone()), old));
    }
    Ok(Second { blobs: new_contents, allowed_by_path, findings })
}

/// Which of the findings are not made when the content stands under its real path.
#[derive(Debug, Default)]
struct Hidden {
    /// By the scanner's own path allow-list.
    built_in: BTreeSet<usize>,
    /// By the project's configuration.
    project: BTreeSet<usize>,
}

impl Hidden {
    fn ask(
        repo: &ScanRepo,
        gitleaks: &Gitleaks,
        config: Option<&Path>,
        report: &Path,
        root: &Path,
        rest: &[(&Leak, Origin, String)],
    ) -> Result<Self> {
        let mut hidden = Self::default();
        let mut waiting: Vec<usize> =
            (0..rest.len()).filter(|n| rest.get(*n).is_some_and(|(_, o, _)| !o.message)).collect();
        let mut round = 0_usize;
        // Two contents of one path can't stand in one folder: one round each.
        while !waiting.is_empty() {
            round += 1;
            let dir = repo.path(&format!("work/real{round}"));
            std::fs::create_dir_all(&dir)?;
            let mut placed: BTreeMap<String, (String, Vec<usize>)> = BTreeMap::new();
            let mut later = Vec::new();
            for n in waiting {
                let Some((_, origin, name)) = rest.get(n) else { continue };
                if placed.get(&origin.path).is_some_and(|(there, _)| there != name) {
                    later.push(n);
                } else if !controls(&origin.path)
                    && let Some(path) = inside(&dir, &origin.path)
                    && path.parent().is_some_and(|p| std::fs::create_dir_all(p).is_ok())
                    && std::fs::copy(root.join(name), &path).is_ok()
                {
                    placed.entry(origin.path.clone()).or_insert_with(|| (name.clone(), Vec::new())).1.push(n);
                }
                // A path that can't be made here is asked nothing: its finding stays.
            }
            for (built_in, config) in [(true, None), (false, config)] {
                if !built_in && config.is_none() {
                    continue;
                }
                let leaks = gitleaks.run(&["dir"], Path::new("."), Some(&dir), config, "json", report)?.leaks()?;
                let made: BTreeSet<(&str, &str)> =
                    leaks.iter().map(|l| (l.file.strip_prefix("./").unwrap_or(&l.file), l.secret.as_str())).collect();
                for (path, (_, numbers)) in &placed {
                    for n in numbers {
                        let Some((leak, _, _)) = rest.get(*n) else { continue };
                        if !made.contains(&(path.as_str(), leak.secret.as_str())) {
                            let set = if built_in { &mut hidden.built_in } else { &mut hidden.project };
                            set.insert(*n);
                        }
                    }
                }
            }
            waiting = later;
        }
        Ok(hidden)
    }
}

/// Files the scanner would obey where it finds them.
fn controls(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with(".gitleaks") || name.starts_with(".betterleaks")
}

/// A path of the repository below a folder; `None` if it would leave it.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_))) && !path.is_empty();
    plain.then(|| root.join(relative))
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
    fn words_that_hide_a_secret_are_respelled_in_long_words_and_beside_a_key() {
        let said = |text: &str| respelled(text.as_bytes()).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(said("x = false; y: null, true"), None);
        assert_eq!(said("k = \"abcdFalse0123456789\" false"), Some("k = \"abcdFakse0123456789\" false".into()));
        assert_eq!(said("0123456789abNULL"), Some("0123456789abNUKL".into()));
        assert_eq!(said("true0123456789ab"), Some("tkue0123456789ab".into()));
        assert_eq!(said("PRIVATE KEY\nX: false"), Some("PRIVATE KEY\nX: fakse".into()));
    }

    #[test]
    fn a_path_never_leaves_its_folder() {
        let root = Path::new("/r");
        assert_eq!(inside(root, "a/b"), Some(PathBuf::from("/r/a/b")));
        for bad in ["", "/a", "../a", "a/../../b"] {
            assert_eq!(inside(root, bad), None, "{bad}");
        }
    }

    #[test]
    fn unpack_refuses_what_was_not_asked_for_or_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let batch = dir.path().join("batch");
        let asked = || {
            let origin = Origin { path: "p".into(), commit: "c".into(), old: false, binary: false, message: false };
            BTreeMap::from([("aa".to_owned(), vec![origin])])
        };
        for (answer, good) in [
            ("aa blob 3\nxyz\n", true),
            ("bb blob 3\nxyz\n", false),
            ("aa missing\n", false),
            ("aa blob 9\nxyz\n", false),
            ("", false),
            ("aa blob 99999999999999999999\n", false),
        ] {
            std::fs::write(&batch, answer).unwrap();
            let mut neutral = BTreeMap::new();
            assert_eq!(unpack(&batch, dir.path(), &mut asked(), &mut neutral).is_ok(), good, "{answer:?}");
        }
    }
}
