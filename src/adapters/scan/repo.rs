//! The repository under scan: a throw-away bare one that borrows the objects and nothing else. No attributes,
//! configuration, hooks, replace objects or refs made by the branch can reach the scanner.

use super::ScanRequest;
use super::call::{Call, Ran, Silent};
use crate::model::ids::Sha;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is nothing to scan.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    #[error("{path} is not a git repository: {why}")]
    NotARepository { path: String, why: String },
    #[error("{path} is a shallow clone: commits before its boundary can't be read; run `git fetch --unshallow` first")]
    Shallow { path: String },
    #[error("--range required: {path} has no origin/HEAD to take the merge base with ({why})")]
    NoDefault { path: String, why: String },
    #[error("--range {range:?} can't be read: {why}")]
    BadRange { range: String, why: String },
    #[error("{0}")]
    Tool(String),
}

/// Full ids for a range that a person gave, or for the default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub base: Sha,
    pub head: Sha,
    /// Tip of the default branch, if `origin/HEAD` names one.
    pub default_tip: Option<Sha>,
    /// Annotated tags of commits within the range.
    pub tags: Vec<Sha>,
}

/// Time limit of one git call; the slow ones get the scan's own.
const QUICK: Duration = Duration::from_secs(60);

/// Resolves `given` (`A..B`, `A..`, `A...B` for the merge base) in a checkout. The default range is from the merge base
/// of `origin/HEAD` and `HEAD` to `HEAD`. Only reads.
pub fn range(repo: &Path, given: Option<&str>) -> Result<Resolved, RangeError> {
    let home = temp_dir()?;
    let asked = Asked { repo, home: home.path() };
    asked.objects()?;
    asked.refuse_shallow()?;
    let default_tip = asked.commit("refs/remotes/origin/HEAD");
    let Some(given) = given else {
        let path = repo.display().to_string();
        let tip = default_tip.map_err(|why| RangeError::NoDefault { path: path.clone(), why })?;
        let head =
            asked.commit("HEAD").map_err(|why| RangeError::BadRange { range: "origin/HEAD..HEAD".to_owned(), why })?;
        let base = asked.merge_base(&tip, &head).map_err(|why| RangeError::NoDefault { path, why })?;
        let tags = asked.tags(&base, &head)?;
        return Ok(Resolved { base, head, default_tip: Some(tip), tags });
    };
    let bad = |why: String| RangeError::BadRange { range: given.chars().take(120).collect(), why };
    let (from, to, symmetric) = match given.split_once("...") {
        Some((from, to)) => (from, to, true),
        None => {
            let (from, to) = given.split_once("..").ok_or_else(|| bad("expected A..B".to_owned()))?;
            (from, to, false)
        }
    };
    let side = |name: &str| asked.commit(if name.is_empty() { "HEAD" } else { name }).map_err(bad);
    if from.is_empty() {
        return Err(bad("the left side is missing".to_owned()));
    }
    let (left, head) = (side(from)?, side(to)?);
    let base = if symmetric { asked.merge_base(&left, &head).map_err(bad)? } else { left };
    let tags = asked.tags(&base, &head)?;
    Ok(Resolved { base, head, default_tip: default_tip.ok(), tags })
}

/// URL of a checkout's remote `origin`; `None` if it has none. Only reads.
pub fn origin(repo: &Path) -> Option<String> {
    let home = temp_dir().ok()?;
    let asked = Asked { repo, home: home.path() };
    let ran = asked.git(&["config", "--local", "--get", "remote.origin.url"]).ok().filter(|r| r.code == Some(0))?;
    Some(String::from_utf8_lossy(&ran.stdout).trim().to_owned()).filter(|url| !url.is_empty())
}

fn temp_dir() -> Result<tempfile::TempDir, RangeError> {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix("orch-scan-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|e| RangeError::Tool(format!("no private temporary folder: {e}")))
}

/// Read-only queries to the given repository.
struct Asked<'a> {
    repo: &'a Path,
    home: &'a Path,
}

impl Asked<'_> {
    fn git(&self, args: &[&str]) -> Result<Ran, RangeError> {
        Call::new("git", self.home, QUICK)
            .arg("-C")
            .arg(std::path::absolute(self.repo).unwrap_or_else(|_| self.repo.to_owned()))
            .args(args)
            .run()
            .map_err(|e| RangeError::Tool(e.to_string()))
    }

    /// The folder of the objects, worktrees resolved.
    fn objects(&self) -> Result<PathBuf, RangeError> {
        let not = |why: String| RangeError::NotARepository { path: self.repo.display().to_string(), why };
        if !self.repo.is_dir() {
            return Err(not("no such folder".to_owned()));
        }
        let ran = self.git(&["rev-parse", "--path-format=absolute", "--git-path", "objects"])?;
        if ran.code != Some(0) {
            return Err(not(ran.complaint()));
        }
        let bytes = ran.stdout.strip_suffix(b"\n").unwrap_or(&ran.stdout);
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        if path.is_dir() && !bytes.contains(&b'\n') {
            Ok(path)
        } else {
            Err(not("its objects can't be found".to_owned()))
        }
    }

    fn refuse_shallow(&self) -> Result<(), RangeError> {
        let ran = self.git(&["rev-parse", "--is-shallow-repository"])?;
        match (ran.code, ran.stdout.as_slice().trim_ascii()) {
            (Some(0), b"false") => Ok(()),
            (Some(0), b"true") => Err(RangeError::Shallow { path: self.repo.display().to_string() }),
            _ => Err(RangeError::Tool(format!(
                "git does not report whether {} is shallow: {}",
                self.repo.display(),
                ran.complaint()
            ))),
        }
    }

    fn commit(&self, name: &str) -> Result<Sha, String> {
        let spec = format!("{name}^{{commit}}");
        let ran =
            self.git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &spec]).map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&ran.stdout);
        match ran.code {
            Some(0) => Sha::parse(&text).map_err(|e| e.to_string()),
            _ => Err(format!("{name:?} is not a commit here")),
        }
    }

    /// Annotated tags of commits within a range, and tags of those tags.
    fn tags(&self, base: &Sha, head: &Sha) -> Result<Vec<Sha>, RangeError> {
        let ran = self.git(&[
            "for-each-ref",
            "--format=%(objecttype) %(objectname)",
            &format!("--merged={head}"),
            &format!("--no-merged={base}"),
            "refs/tags",
        ])?;
        if ran.code != Some(0) {
            return Err(RangeError::Tool(format!("git can't list the tags: {}", ran.complaint())));
        }
        let text = String::from_utf8_lossy(&ran.stdout);
        Ok(text.lines().filter_map(|line| Sha::parse(line.strip_prefix("tag ")?).ok()).collect())
    }

    fn merge_base(&self, a: &Sha, b: &Sha) -> Result<Sha, String> {
        let ran = self.git(&["merge-base", a.as_str(), b.as_str()]).map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&ran.stdout);
        text.lines()
            .next()
            .and_then(|line| Sha::parse(line).ok())
            .ok_or_else(|| format!("{} and {} have no common commit", a.short(), b.short()))
    }
}

/// One file content the range brings in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewBlob {
    pub oid: String,
    pub path: String,
    pub commit: String,
}

/// A file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeFile {
    pub oid: String,
    pub path: String,
}

/// The throw-away repository and the private folder of one scan; both are deleted on drop.
#[derive(Debug)]
pub(super) struct ScanRepo {
    dir: tempfile::TempDir,
    limit: Duration,
    /// Where git-lfs stores contents, next to the objects that are scanned.
    pub large: PathBuf,
    /// `remerge` if git has it, else `first-parent` (RULE-32).
    pub merges: &'static str,
}

impl ScanRepo {
    pub fn open(request: &ScanRequest) -> Result<Self, RangeError> {
        let dir = temp_dir()?;
        let asked = Asked { repo: &request.repo, home: dir.path() };
        let objects = asked.objects()?;
        asked.refuse_shallow()?;
        let format = if request.head.as_str().len() == 64 { "sha256" } else { "sha1" };
        let large = objects.with_file_name("lfs");
        let mut repo = Self { dir, limit: request.timeout, large, merges: "first-parent" };
        let io = |e: std::io::Error| RangeError::Tool(format!("preparing the scan's repository: {e}"));
        for sub in ["home", "empty", "out", "work"] {
            std::fs::create_dir(repo.path(sub)).map_err(io)?;
        }
        let bare = repo.bare();
        let made = Call::new("git", &repo.path("home"), QUICK)
            // HEAD stays unborn: a bare repository may read attributes from HEAD.
            .args(["init", "--quiet", "--bare", "--template=", "--initial-branch=unborn"])
            .arg(format!("--object-format={format}"))
            .arg(&bare)
            .run()
            .map_err(|e| RangeError::Tool(e.to_string()))?;
        if made.code != Some(0) {
            return Err(RangeError::Tool(format!("git init {}: {}", made.ending(), made.complaint())));
        }
        let mut line = objects.as_os_str().as_bytes().to_vec();
        line.push(b'\n');
        std::fs::create_dir_all(bare.join("objects/info")).map_err(io)?;
        std::fs::write(bare.join("objects/info/alternates"), line).map_err(io)?;
        for (name, sha) in [("base", &request.base), ("head", &request.head)] {
            let ran = repo.git(&["cat-file", "-t", sha.as_str()]).run().map_err(|e| RangeError::Tool(e.to_string()))?;
            if ran.stdout.trim_ascii() != b"commit" {
                let range = format!("{}..{}", request.base, request.head);
                return Err(RangeError::BadRange { range, why: format!("its {name} is not a commit here") });
            }
        }
        // Lists no commit at all: it only shows whether git knows the option.
        let probe =
            repo.git(&["log", "--diff-merges=remerge", "-1", "--no-walk", "--format=%H", request.head.as_str()]);
        if probe.run().is_ok_and(|ran| ran.code == Some(0)) {
            repo.merges = "remerge";
        }
        Ok(repo)
    }

    /// A path in the scan's private folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn bare(&self) -> PathBuf {
        self.path("scan.git")
    }

    /// A git call in the throw-away repository.
    pub fn git(&self, args: &[&str]) -> Call {
        Call::new("git", &self.path("home"), self.limit).arg("--git-dir").arg(self.bare()).args(args)
    }

    /// Runs a git call that must succeed.
    pub fn ask(&self, args: &[&str]) -> Result<Vec<u8>, RangeError> {
        let what = args.first().copied().unwrap_or_default();
        let ran = self.git(args).run().map_err(|e: Silent| RangeError::Tool(e.to_string()))?;
        if ran.code == Some(0) {
            Ok(ran.stdout)
        } else {
            Err(RangeError::Tool(format!("git {what} {}: {}", ran.ending(), ran.complaint())))
        }
    }

    pub fn tree(&self, commit: &Sha) -> Result<Sha, RangeError> {
        let out = self.ask(&["rev-parse", "--verify", &format!("{commit}^{{tree}}")])?;
        Sha::parse(&String::from_utf8_lossy(&out)).map_err(|e| RangeError::Tool(e.to_string()))
    }

    pub fn count(&self, base: &Sha, head: &Sha) -> Result<u64, RangeError> {
        let out = self.ask(&["rev-list", "--count", &format!("{base}..{head}")])?;
        let text = String::from_utf8_lossy(&out);
        text.trim().parse().map_err(|_| RangeError::Tool(format!("git rev-list --count answered {:?}", text.trim())))
    }

    /// The options for the scanner's inner `git log`; single-spaced, since the scanner splits at each space.
    pub fn log_options(&self) -> [String; 4] {
        ["--text", "--no-textconv", "--no-ext-diff"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("--diff-merges={}", self.merges)])
            .collect::<Vec<_>>()
            .try_into()
            .unwrap_or_default()
    }

    /// Commits of the range with at least one added line, by `--numstat` under the same options (RULE-32).
    pub fn commits_with_added_lines(&self, base: &Sha, head: &Sha) -> Result<u64, RangeError> {
        let mut args = vec!["log", "--numstat", "-z", "--format=%x01%H"];
        let options = self.log_options();
        args.extend(options.iter().map(String::as_str));
        let range = format!("{base}..{head}");
        args.push(&range);
        let out = self.ask(&args)?;
        let adds = |record: &[u8]| {
            record.split(|b| *b == 0 || *b == b'\n').any(|line| {
                let mut fields = line.split(|b| *b == b'\t');
                let added = fields.next().unwrap_or_default();
                fields.next().is_some() && added.iter().any(|b| (b'1'..=b'9').contains(b))
            })
        };
        Ok(out.split(|b| *b == 1).filter(|record| adds(record)).count() as u64)
    }

    /// Every file content that the range's commits bring in, once per path and content, including those a later commit
    /// deletes.
    pub fn new_blobs(&self, base: &Sha, head: &Sha) -> Result<Vec<NewBlob>, RangeError> {
        let merges = format!("--diff-merges={}", self.merges);
        let range = format!("{base}..{head}");
        let mut args = vec!["log", "--raw", "-r", "-z", "--no-abbrev", "--no-renames", "--full-history"];
        args.extend(["--format=%x01%H", &merges, &range]);
        let mut out = self.ask(&args)?;
        // Git can't redo an octopus merge and then shows nothing: take what differs from every parent.
        args.extend(["--min-parents=3", "--diff-merges=combined"]);
        out.push(0);
        out.extend(self.ask(&args)?);
        let mut found = parse_raw_log(&out);
        // Contents that no diff shows although a tree of the range has them.
        let known: BTreeSet<String> = found.iter().map(|b| b.oid.clone()).collect();
        for (oid, path) in self.reachable(base, head)? {
            if !known.contains(&oid) {
                found.push(NewBlob { oid, path, commit: head.to_string() });
            }
        }
        Ok(found)
    }

    /// Blobs, by id with a path, in the trees of the range's commits but not in the trees at its boundary.
    fn reachable(&self, base: &Sha, head: &Sha) -> Result<BTreeMap<String, String>, RangeError> {
        let out = self.ask(&["rev-list", "--objects", &format!("{base}..{head}")])?;
        let text = String::from_utf8_lossy(&out);
        let named: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
        let list = self.path("out/oids");
        std::fs::write(&list, named.keys().map(|oid| format!("{oid}\n")).collect::<String>())
            .map_err(|e| RangeError::Tool(format!("listing the objects of the range: {e}")))?;
        let ran = self
            .git(&["cat-file", "--batch-check=%(objecttype) %(objectname)"])
            .stdin(&list)
            .run()
            .map_err(|e: Silent| RangeError::Tool(e.to_string()))?;
        if ran.code != Some(0) {
            return Err(RangeError::Tool(format!("git cat-file {}: {}", ran.ending(), ran.complaint())));
        }
        Ok(String::from_utf8_lossy(&ran.stdout)
            .lines()
            .filter_map(|line| {
                let oid = line.strip_prefix("blob ")?;
                Some((oid.to_owned(), (*named.get(oid)?).to_owned()))
            })
            .collect())
    }

    /// Files of a commit's tree, without submodules.
    pub fn files(&self, commit: &Sha) -> Result<Vec<TreeFile>, RangeError> {
        let out = self.ask(&["ls-tree", "-r", "-z", "--full-tree", commit.as_str()])?;
        Ok(out
            .split(|b| *b == 0)
            .filter_map(|entry| {
                let tab = entry.iter().position(|b| *b == b'\t')?;
                let (meta, path) = (entry.get(..tab)?, entry.get(tab + 1..)?);
                let meta = String::from_utf8_lossy(meta);
                let mut words = meta.split(' ');
                let (_mode, kind, oid) = (words.next()?, words.next()?, words.next()?);
                (kind == "blob")
                    .then(|| TreeFile { oid: oid.to_owned(), path: String::from_utf8_lossy(path).into_owned() })
            })
            .collect())
    }

    /// Writes whole objects of one type, by id, one after another into a file of the private folder. Their total size
    /// is checked first and limited to `most` bytes.
    pub fn contents(&self, kind: &str, oids: &[String], most: u64, into: &Path) -> Result<(), RangeError> {
        let tool = |e: std::io::Error| RangeError::Tool(format!("reading file contents: {e}"));
        let list = self.path("out/oids");
        std::fs::write(&list, oids.iter().map(|o| format!("{o}\n")).collect::<String>()).map_err(tool)?;
        let silent = |e: Silent| RangeError::Tool(e.to_string());
        let sizes =
            self.git(&["cat-file", "--batch-check=%(objecttype) %(objectsize)"]).stdin(&list).run().map_err(silent)?;
        let text = String::from_utf8_lossy(&sizes.stdout);
        let mut total = 0_u64;
        let mut seen = 0_usize;
        for line in text.lines() {
            let size = line.strip_prefix(kind).and_then(|n| n.trim_start().parse::<u64>().ok());
            let size = size.ok_or_else(|| {
                RangeError::Tool(format!("a {kind} of the range is missing from the repository: {line}"))
            })?;
            total = total.saturating_add(size);
            seen += 1;
        }
        if seen != oids.len() || sizes.code != Some(0) {
            return Err(RangeError::Tool(format!(
                "git cat-file {} after {seen} of {} objects",
                sizes.ending(),
                oids.len()
            )));
        }
        if total > most {
            return Err(RangeError::Tool(format!(
                "the range brings in {} MiB of {kind}s, more than the {} MiB a scan reads",
                total >> 20,
                most >> 20
            )));
        }
        let ran = self.git(&["cat-file", "--batch"]).stdin(&list).stdout(into).run().map_err(silent)?;
        if ran.code == Some(0) {
            Ok(())
        } else {
            Err(RangeError::Tool(format!("git cat-file {}: {}", ran.ending(), ran.complaint())))
        }
    }

    /// One file content of at most `most` bytes; `None` if it is larger or missing.
    pub fn content(&self, oid: &str, most: u64) -> Option<Vec<u8>> {
        let bytes = self.ask(&["cat-file", "blob", oid]).ok()?;
        (bytes.len() as u64 <= most).then_some(bytes)
    }

    /// Every commit of the range.
    pub fn commits(&self, base: &Sha, head: &Sha) -> Result<Vec<String>, RangeError> {
        let out = self.ask(&["rev-list", &format!("{base}..{head}")])?;
        Ok(String::from_utf8_lossy(&out).lines().map(str::to_owned).collect())
    }
}

/// Reads `git log --raw -z --format=%x01%H`, merges included: the new side of every change that has one. A line has a
/// colon for each parent, then their modes and the new one, then their ids and the new one.
fn parse_raw_log(out: &[u8]) -> Vec<NewBlob> {
    let mut seen: BTreeMap<(String, String), ()> = BTreeMap::new();
    let mut found = Vec::new();
    let mut commit = String::new();
    let mut parts = out.split(|b| *b == 0);
    while let Some(part) = parts.next() {
        let part = part.trim_ascii_start();
        if let Some(id) = part.strip_prefix(b"\x01") {
            commit = String::from_utf8_lossy(id).trim().to_owned();
            continue;
        }
        let parents = part.iter().take_while(|b| **b == b':').count();
        if parents == 0 {
            continue;
        }
        let meta = String::from_utf8_lossy(part.get(parents..).unwrap_or_default()).into_owned();
        let words: Vec<&str> = meta.split(' ').collect();
        let path = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let (Some(mode), Some(oid)) = (words.get(parents), words.get(2 * parents + 1)) else { continue };
        let gone = oid.bytes().all(|b| b == b'0');
        let key = ((*oid).to_owned(), path.clone());
        if !gone && *mode != "160000" && seen.insert(key, ()).is_none() {
            found.push(NewBlob { oid: (*oid).to_owned(), path, commit: commit.clone() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_raw_log_gives_each_new_content_once_and_no_deletion_or_submodule() {
        let (a, b, z) = ("a".repeat(40), "b".repeat(40), "0".repeat(40));
        let log = format!(
            "\x01c1\0\n:000000 100644 {z} {a} A\0x y\0:100644 000000 {a} {z} D\0gone\0\x01c2\0\n:000000 160000 {z} {b} A\0sub\0:000000 100644 {z} {a} A\0x y\0\0\x01c3\0\n:::100644 100644 000000 100644 {a} {a} {z} {b} MMA\0of three\0"
        );
        let blobs = parse_raw_log(log.as_bytes());
        let blob = |oid, path: &str, commit: &str| NewBlob { oid, path: path.into(), commit: commit.into() };
        assert_eq!(blobs, vec![blob(a, "x y", "c1"), blob(b, "of three", "c3")]);
    }

    proptest! {
        #[test]
        fn any_bytes_make_some_list(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_raw_log(&bytes);
        }
    }
}
