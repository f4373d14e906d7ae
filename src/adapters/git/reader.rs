//! One long-lived `git cat-file --batch-command` per repository and process, so that a step that asks fifty small
//! questions about objects starts one git instead of fifty. It reads objects and names, runs nothing of a repository's,
//! and sees what fetches and pushes add meanwhile, since git rescans when it does not find an object. [`rest`] ends all
//! readers; a process calls it before it waits for hours.

use super::cmd::{Cmd, GitError, OUTPUT_CAP, Result};
use crate::model::ids::Sha;
use crate::short::nonblocking;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a reader may take to exit.
const GRACE: Duration = Duration::from_secs(2);
const ERRORS_TAIL: u64 = 2000;
/// Most readers kept open by a step over hundreds of repositories: each has a process and three descriptors.
const MOST_READERS: usize = 16;
/// Most entries that are listed below one folder.
const MOST_ENTRIES: usize = 2_000_000;

/// The program, the repository, and its folder's identity: a folder recreated under the same name is another.
/// Questions sent together: they and their answers fit into the smallest pipe, 4 KiB, so neither side can block the other.
const AT_ONCE: usize = 32;
type Place = (PathBuf, PathBuf, u64, u64);

static READERS: Mutex<BTreeMap<Place, Reader>> = Mutex::new(BTreeMap::new());

/// An object's id, kind and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    pub id: Sha,
    pub kind: String,
    /// Size of its content in bytes.
    pub size: usize,
}

/// Ends every reader of this process and discards what remotes answered. The next question starts a reader again.
pub fn rest() {
    super::glance::forget();
    READERS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// What a name resolves to (an id, a ref, `COMMIT^{tree}`); `None` if nothing has that name. `cmd`: a git for the
/// repository. Fails if git does, after a second attempt with a new process.
pub(super) fn info<'c>(cmd: &dyn Fn() -> Cmd<'c>, name: &str) -> Result<Option<Info>> {
    with(cmd, |reader| reader.info(name))
}

/// The content of an object of this kind; `None` if nothing has that name, or if it is of another kind. Fails with
/// `Rejected` if it has more than `most` bytes.
pub(super) fn content<'c>(cmd: &dyn Fn() -> Cmd<'c>, name: &str, kind: &str, most: usize) -> Result<Option<Vec<u8>>> {
    let Some(found) = info(cmd, name)?.filter(|found| found.kind == kind) else { return Ok(None) };
    content_of(cmd, &found, most).map(Some)
}

/// The sizes of objects, in order; `None` for a missing one. Many are asked for at once.
pub(super) fn sizes<'c>(cmd: &dyn Fn() -> Cmd<'c>, ids: &[&Sha]) -> Result<Vec<Option<u64>>> {
    let mut all = Vec::with_capacity(ids.len());
    for some in ids.chunks(AT_ONCE) {
        all.extend(with(cmd, |reader| reader.sizes(some))?);
    }
    Ok(all)
}

fn content_of<'c>(cmd: &dyn Fn() -> Cmd<'c>, found: &Info, most: usize) -> Result<Vec<u8>> {
    if found.size > most {
        let reason =
            format!("file content {} is larger than the {} MiB that can be read at once", found.id, most >> 20);
        return Err(GitError::Rejected { reason });
    }
    with(cmd, |reader| reader.content(found))
}

fn with<'c, T>(cmd: &dyn Fn() -> Cmd<'c>, ask: impl Fn(&mut Reader) -> std::io::Result<T>) -> Result<T> {
    let place = cmd().place().map_err(GitError::io("searching for a repository"))?;
    let mut readers = READERS.lock().unwrap_or_else(PoisonError::into_inner);
    for last in [false, true] {
        let mut reader = match readers.remove(&place) {
            Some(reader) => reader,
            None => {
                // Drop any of them: it is started again when needed.
                if readers.len() >= MOST_READERS {
                    drop(readers.pop_first());
                }
                Reader::start(cmd(), &["cat-file", "--batch-command"])?
            }
        };
        match ask(&mut reader) {
            Ok(answer) => {
                readers.insert(place, reader);
                return Ok(answer);
            }
            Err(e) if last || e.kind() == std::io::ErrorKind::TimedOut => return Err(reader.failed(&e)),
            // The process ended after its last answer: that says nothing about this question.
            Err(_) => {}
        }
    }
    Err(GitError::Io { what: "asking git".to_owned(), source: std::io::ErrorKind::Other.into() })
}

#[derive(Debug)]
struct Reader {
    args: String,
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    errors: File,
    /// Bytes that were read but not used yet.
    held: Vec<u8>,
    limit: Duration,
    until: Instant,
}

/// A `git mktree` process that makes any number of trees; it ends with this.
#[derive(Debug)]
pub(super) struct Maker(Reader);

impl Maker {
    pub(super) fn start(cmd: Cmd<'_>) -> Result<Self> {
        Reader::start(cmd, &["mktree", "-z", "--missing", "--batch"]).map(Self)
    }

    /// Writes a tree of these entries and returns its id. The entries need not exist.
    pub(super) fn tree(&mut self, entries: &[Raw]) -> Result<Sha> {
        let mut question = Vec::new();
        for (mode, name, id) in entries {
            let kind = match mode.as_str() {
                "040000" => "tree",
                "160000" => "commit",
                _ => "blob",
            };
            question.extend_from_slice(format!("{mode} {kind} {id}\t").as_bytes());
            question.extend_from_slice(name);
            question.push(0);
        }
        question.push(0);
        let answer = self.0.ask(&question).and_then(|()| self.0.line());
        match answer {
            Ok(line) => Sha::parse(&line).map_err(|_| super::history::unexpected("mktree")),
            Err(e) => Err(self.0.failed(&e)),
        }
    }
}

impl Reader {
    fn start(cmd: Cmd<'_>, args: &'static [&'static str]) -> Result<Self> {
        let io = || GitError::io("talking to git");
        let errors = tempfile::tempfile().map_err(io())?;
        let (mut child, limit) = cmd.args(args).spawn_reader(&errors)?;
        let piped = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = piped else { return Err(io()(std::io::ErrorKind::BrokenPipe.into())) };
        nonblocking(&output).map_err(io())?;
        nonblocking(&input).map_err(io())?;
        Ok(Self {
            args: args.join(" "),
            child,
            input: Some(input),
            output,
            errors,
            held: Vec::new(),
            limit,
            until: Instant::now(),
        })
    }

    fn info(&mut self, name: &str) -> std::io::Result<Option<Info>> {
        // A question is one line.
        if name.contains(['\n', '\0']) {
            return Ok(None);
        }
        self.ask(format!("info {name}\n").as_bytes())?;
        Self::meant(name, &self.line()?)
    }

    /// What an answer about a name says.
    fn meant(name: &str, line: &str) -> std::io::Result<Option<Info>> {
        // Any other answer is a fault of git or of the repository, and must not count as missing.
        let nothing = [" missing", " ambiguous", " submodule"].iter().any(|end| line.ends_with(end));
        match read_info(line) {
            None if !nothing => Err(std::io::Error::other(format!("an answer of an unknown form about {name}"))),
            found => Ok(found),
        }
    }

    fn sizes(&mut self, ids: &[&Sha]) -> std::io::Result<Vec<Option<u64>>> {
        let questions: String = ids.iter().map(|id| format!("info {id}\n")).collect();
        self.ask(questions.as_bytes())?;
        ids.iter().map(|id| Ok(Self::meant(id.as_str(), &self.line()?)?.map(|found| found.size as u64))).collect()
    }

    fn content(&mut self, of: &Info) -> std::io::Result<Vec<u8>> {
        self.ask(format!("contents {}\n", of.id).as_bytes())?;
        let line = self.line()?;
        let unexpected = || std::io::Error::other(format!("{} is gone", of.id));
        let found = read_info(&line).filter(|found| found == of).ok_or_else(unexpected)?;
        let mut bytes = self.take(found.size + 1)?;
        bytes.truncate(found.size);
        Ok(bytes)
    }

    /// Writes one question. The previous answer was read to its end, so the question fits into the pipe.
    fn ask(&mut self, question: &[u8]) -> std::io::Result<()> {
        self.until = Instant::now() + self.limit;
        let mut left = question;
        while !left.is_empty() {
            let input = self.input.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
            match input.write(left) {
                Ok(n) => left = left.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    let input = self.input.as_ref().ok_or(std::io::ErrorKind::BrokenPipe)?;
                    wait_for(&mut [PollFd::new(input, PollFlags::OUT)], self.until)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(at) = self.held.iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.held.drain(..=at).collect();
                line.pop();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.more()?;
        }
    }

    fn take(&mut self, bytes: usize) -> std::io::Result<Vec<u8>> {
        while self.held.len() < bytes {
            self.more()?;
        }
        let rest = self.held.split_off(bytes);
        Ok(std::mem::replace(&mut self.held, rest))
    }

    fn more(&mut self) -> std::io::Result<()> {
        let mut buffer = [0_u8; 64 << 10];
        loop {
            match self.output.read(&mut buffer) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.held.extend_from_slice(buffer.get(..n).unwrap_or_default());
                    return Ok(());
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    wait_for(&mut [PollFd::new(&self.output, PollFlags::IN)], self.until)?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Why a dialogue broke off, as an error of git's.
    fn failed(&mut self, error: &std::io::Error) -> GitError {
        let args = self.args.clone();
        if error.kind() == std::io::ErrorKind::TimedOut {
            let access = super::cmd::access(&args);
            return GitError::Timeout { what: args, access, seconds: self.limit.as_secs() };
        }
        let by_us = self.end();
        let status = self.child.try_wait().ok().flatten();
        // No input explains a kill by a signal (RULE-45).
        if let Some(signal) = status.and_then(|s| s.signal()).filter(|_| !by_us) {
            return GitError::Killed { what: args, signal };
        }
        let mut said = Vec::new();
        let length = self.errors.metadata().map_or(0, |m| m.len());
        let _ = self.errors.seek(SeekFrom::Start(length.saturating_sub(ERRORS_TAIL)));
        let _ = (&self.errors).take(ERRORS_TAIL).read_to_end(&mut said);
        let said = super::cmd::shown_errors(&said);
        let code = status.and_then(|s| s.code()).unwrap_or(-1);
        GitError::Broken { args, code, stderr: if said.is_empty() { error.to_string() } else { said } }
    }

    /// Closes its input, upon which it exits; kills it if it does not. Returns whether it was killed.
    fn end(&mut self) -> bool {
        self.input = None;
        let pid = Pid::from_child(&self.child);
        let ended = pidfd_open(pid, PidfdFlags::empty()).is_ok_and(|fd| {
            let grace = Timespec { tv_sec: GRACE.as_secs().try_into().unwrap_or(1), tv_nsec: 0 };
            poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&grace)).is_ok_and(|n| n > 0)
        });
        if !ended {
            // The leader is not reaped yet, so the group's number can't belong to anything else.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
        !ended
    }
}

/// Waits until a pipe is ready; fails with `TimedOut` at the deadline.
fn wait_for(pipe: &mut [PollFd<'_>], until: Instant) -> std::io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    let wait = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: 1_000_000 };
    match poll(pipe, Some(&wait)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// `<id> <kind> <size>`; anything else (`… missing`, `… ambiguous`) gives `None`.
fn read_info(line: &str) -> Option<Info> {
    let mut words = line.split(' ');
    let id = Sha::parse(words.next()?).ok()?;
    let kind = words.next()?.to_owned();
    let size = words.next()?.parse().ok()?;
    words.next().is_none().then_some(Info { id, kind, size })
}

/// One entry of a tree: mode (six digits), name, id.
pub(super) type Raw = (String, Vec<u8>, Sha);

/// The entries of a tree object, in order. `name`: the tree's, or a commit's with `^{tree}`. Fails with `NotFound`.
pub(super) fn tree<'c>(cmd: &dyn Fn() -> Cmd<'c>, name: &str) -> Result<Vec<Raw>> {
    let missing = || GitError::NotFound { what: format!("tree {name} in the mirror") };
    let found = info(cmd, name)?.filter(|found| found.kind == "tree").ok_or_else(missing)?;
    let (bytes, id) = (content_of(cmd, &found, OUTPUT_CAP)?, found.id);
    read_tree(&bytes, id.as_str().len() / 2).ok_or_else(|| super::history::unexpected("a tree"))
}

/// Everything below a tree, without folders, in git's order; names begin with `at`. Fails with `Rejected` for a tree
/// that refers to itself until it has more entries than any repository.
pub(super) fn below<'c>(cmd: &dyn Fn() -> Cmd<'c>, top: &Sha, at: &str, found: &mut Vec<Raw>) -> Result<()> {
    const FOLDER: &str = "040000";
    let (mut left, mut seen) = (vec![(FOLDER.to_owned(), at.as_bytes().to_vec(), top.clone())], 0_usize);
    let mut bytes = 0_usize;
    while let Some((mode, mut path, id)) = left.pop() {
        if mode != FOLDER {
            found.push((mode, path, id));
            continue;
        }
        if seen > 0 {
            path.push(b'/');
        }
        let entries = tree(cmd, id.as_str())?;
        seen = seen.saturating_add(entries.len().max(1));
        if seen > MOST_ENTRIES {
            return Err(GitError::Rejected { reason: format!("{at:?} contains more than {MOST_ENTRIES} files") });
        }
        // Names may have any length, and each path repeats those above it.
        let names = entries.iter().map(|(_, name, _)| path.len().saturating_add(name.len()));
        bytes = names.fold(bytes, usize::saturating_add);
        if bytes > OUTPUT_CAP {
            let reason = format!("the paths below {at:?} exceed {} MiB in total", OUTPUT_CAP >> 20);
            return Err(GitError::Rejected { reason });
        }
        left.extend(entries.into_iter().rev().map(|(mode, name, id)| (mode, [path.as_slice(), &name].concat(), id)));
    }
    Ok(())
}

/// `<mode> <name>\0<id>`, repeated.
pub(super) fn read_tree(mut bytes: &[u8], id_bytes: usize) -> Option<Vec<Raw>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|b| *b == b' ')?;
        let mode = mode(bytes.get(..space)?)?;
        let rest = bytes.get(space + 1..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        let name = rest.get(..end)?.to_vec();
        let id = rest.get(end + 1..end + 1 + id_bytes)?;
        let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
        entries.push((mode.to_owned(), name, Sha::parse(&hex).ok()?));
        bytes = rest.get(end + 1 + id_bytes..)?;
    }
    Some(entries)
}

/// How git reads a mode (six digits): old programs wrote others, which git still checks out.
fn mode(octal: &[u8]) -> Option<&'static str> {
    let digit =
        |sum: u32, b: &u8| matches!(b, b'0'..=b'7').then(|| sum.checked_mul(8)?.checked_add(u32::from(b - b'0')))?;
    let mode = octal.iter().try_fold(0, digit)?;
    Some(match mode & 0o170_000 {
        0o040_000 => "040000",
        0o100_000 if mode & 0o100 == 0 => "100644",
        0o100_000 => "100755",
        0o120_000 => "120000",
        _ => "160000",
    })
}

/// Identifies a command's repository, so that each gets one reader.
pub(super) fn place(program: &Path, git_dir: &Path) -> std::io::Result<Place> {
    let meta = git_dir.metadata()?;
    Ok((program.to_owned(), git_dir.to_owned(), meta.dev(), meta.ino()))
}

/// See `fuzzing`.
pub(super) fn fuzz(bytes: &[u8]) {
    read_info(&String::from_utf8_lossy(bytes));
    read_tree(bytes, 20);
    read_tree(bytes, 32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_object_or_nothing() {
        let id = "a".repeat(40);
        let found = read_info(&format!("{id} blob 12")).unwrap();
        assert_eq!((found.id.as_str(), found.kind.as_str(), found.size), (id.as_str(), "blob", 12));
        for nothing in [format!("{id} missing"), "x ambiguous".into(), format!("{id} blob 1 2"), String::new()] {
            assert_eq!(read_info(&nothing), None, "{nothing}");
        }
    }

    /// A program in a folder, written by a process of its own: no other thread's child can have it open when it is run.
    fn script(folder: &Path, name: &str, text: &str) -> super::super::Git {
        let program = folder.join(name);
        let write = ["-c", "printf '%s\\n' '#!/bin/sh' \"$1\" >\"$0\" && chmod 700 \"$0\""];
        let written = std::process::Command::new("sh").args(write).arg(&program).arg(text).status().unwrap();
        assert!(written.success());
        super::super::Git::named(program)
    }

    #[test]
    fn readers_of_many_repositories_are_few() {
        let folder = tempfile::tempdir().unwrap();
        let git = script(folder.path(), "git", "while read -r what name; do echo \"$name missing\"; done");
        for n in 0..MOST_READERS + 4 {
            let place = folder.path().join(n.to_string());
            std::fs::create_dir(&place).unwrap();
            assert_eq!(info(&|| git.cmd(&place).git_dir(&place), "HEAD").unwrap(), None);
        }
        assert!(READERS.lock().unwrap().len() <= MOST_READERS);
    }

    /// RULE-45: a kill says nothing about the work, so an agent's run is kept for a retry.
    #[test]
    fn rule_45_a_reader_that_is_killed_each_time_was_killed_and_did_not_fail() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |git: super::super::Git| info(&|| git.cmd(folder.path()).git_dir(folder.path()), "HEAD").unwrap_err();
        let killed = ask(script(folder.path(), "killed", "kill -9 $$"));
        assert!(matches!(killed, GitError::Killed { signal: 9, .. }), "{killed}");
        let failed = ask(script(folder.path(), "failed", "echo no >&2; exit 128"));
        assert!(matches!(&failed, GitError::Broken { code: 128, stderr, .. } if stderr == "no"), "{failed}");
    }

    #[test]
    fn a_tree_is_read_to_its_last_byte_or_not_at_all() {
        let mut bytes = b"40000 docs\0".to_vec();
        bytes.extend([0xab; 20]);
        bytes.extend(b"100644 a b\0");
        bytes.extend([0xcd; 20]);
        let read = read_tree(&bytes, 20).unwrap();
        assert_eq!(read[0].0, "040000");
        assert_eq!(
            (read[1].0.as_str(), read[1].1.as_slice(), read[1].2.as_str()),
            ("100644", &b"a b"[..], &*"cd".repeat(20))
        );
        for cut in 1..bytes.len() {
            assert!(read_tree(&bytes[..cut], 20).is_none_or(|part| part.len() == 1), "{cut}");
        }
        assert_eq!(read_tree(b"", 20), Some(Vec::new()));
    }

    #[test]
    fn a_mode_is_what_git_takes_it_for() {
        let cases = [
            ("40000", "040000"),
            ("040755", "040000"),
            ("100644", "100644"),
            ("100664", "100644"),
            ("100755", "100755"),
            ("100775", "100755"),
            ("120777", "120000"),
            ("160000", "160000"),
            ("0", "160000"),
        ];
        for (written, taken) in cases {
            assert_eq!(mode(written.as_bytes()), Some(taken), "{written}");
        }
        for none in ["+100644", "100 644", "8", "777777777777"] {
            assert_eq!(mode(none.as_bytes()), None, "{none}");
        }
    }
}
