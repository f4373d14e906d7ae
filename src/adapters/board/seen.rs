//! Which files of a folder were read and have not changed since, so that a step does not open them again (speed). A
//! file is recognised by its inode, size and times, as in git's index. A file that changed within a clock's grain of
//! the scan is not recognised, since its next change might leave all of these as they are.

use super::Listing;
use crate::model::ids::Key;
use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longer than the grain of any file system's times (FAT counts in two seconds).
const GRAIN: Duration = Duration::from_secs(3);
/// More files than this are checked by several threads: one check takes about a microsecond.
const ALONE: usize = 2_000;
/// The most threads.
const THREADS: usize = 4;
/// The magic of the format; bytes that begin otherwise are ignored.
const MAGIC: &[u8; 8] = b"orchseen";
/// Bytes of a mark, with the file's number before it.
const MARK: usize = 32;
const NUMBER: usize = 8;
/// Bytes of a stamp.
pub const STAMP: usize = 32;

/// What distinguishes one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    inode: u64,
    size: u64,
    /// Nanoseconds since the epoch.
    modified: i64,
    changed: i64,
}

impl Mark {
    fn of(stat: &Stat) -> Self {
        let nanos = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        let part = |ns: u64| i64::try_from(ns).unwrap_or(0);
        Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: nanos(stat.st_mtime, part(stat.st_mtime_nsec)),
            changed: nanos(stat.st_ctime, part(stat.st_ctime_nsec)),
        }
    }

    /// Whether a change after `now` would show in the times.
    fn is_settled(&self, now: i64) -> bool {
        self.changed < now && self.modified < now
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.inode.to_le_bytes());
        to.extend(self.size.to_le_bytes());
        to.extend(self.modified.to_le_bytes());
        to.extend(self.changed.to_le_bytes());
    }

    fn read(from: &[u8; MARK]) -> Self {
        let word = |n: usize| {
            let mut bytes = [0; 8];
            bytes.iter_mut().zip(from.iter().skip(8 * n)).for_each(|(to, from)| *to = *from);
            bytes
        };
        Self {
            inode: u64::from_le_bytes(word(0)),
            size: u64::from_le_bytes(word(1)),
            modified: i64::from_le_bytes(word(2)),
            changed: i64::from_le_bytes(word(3)),
        }
    }
}

/// The latest time of a change that counts as settled: a grain before now, in nanoseconds since the epoch.
fn settled() -> i64 {
    let now = SystemTime::now().checked_sub(GRAIN).and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    now.and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or(0)
}

/// What is known of one project's folder: its own mark if its names are known by it, and the files that were read, by
/// number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Of the folder; `None`: its names must be read again.
    pub folder: Option<Mark>,
    /// In ascending order.
    pub files: Vec<(u64, Mark)>,
}

impl Seen {
    /// As a file's content. `stamp` distinguishes it from every other.
    pub fn bytes(&self, stamp: &[u8; STAMP]) -> Vec<u8> {
        let mut to = Vec::with_capacity(MAGIC.len() + STAMP + (self.files.len() + 1) * (NUMBER + MARK));
        to.extend(MAGIC);
        to.extend(stamp);
        let nothing = Mark { inode: 0, size: 0, modified: 0, changed: 0 };
        to.extend(u64::from(self.folder.is_some()).to_le_bytes());
        self.folder.unwrap_or(nothing).write(&mut to);
        for (number, mark) in &self.files {
            to.extend(number.to_le_bytes());
            mark.write(&mut to);
        }
        to
    }

    /// What [`Self::bytes`] wrote under this stamp; `None` for any other bytes.
    pub fn parse(bytes: &[u8], stamp: &[u8; STAMP]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(stamp)?;
        let (records, over) = rest.as_chunks::<{ NUMBER + MARK }>();
        let (folder, files) = records.split_first().filter(|_| over.is_empty())?;
        let read = |record: &[u8; NUMBER + MARK]| {
            let (number, mark) = record.split_first_chunk::<NUMBER>()?;
            Some((u64::from_le_bytes(*number), Mark::read(mark.first_chunk()?)))
        };
        let (known, folder) = read(folder)?;
        let files = files.iter().map(read).collect::<Option<Vec<_>>>()?;
        let ascending = files.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
        ascending.then_some(Self { folder: (known == 1).then_some(folder), files })
    }

    fn of(&self, number: u64) -> Option<Mark> {
        let at = self.files.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.files.get(at).map(|(_, mark)| *mark)
    }
}

/// One scan of a folder: the present state of its files.
#[derive(Debug)]
pub struct Look<'a> {
    dir: BorrowedFd<'a>,
    prefix: &'a str,
    settled: i64,
    pub folder: Mark,
}

impl<'a> Look<'a> {
    /// `dir`: the open folder; `prefix`: the project's key.
    pub fn new(dir: BorrowedFd<'a>, prefix: &'a str) -> io::Result<Self> {
        // The clock first: whatever changes from here on is not settled.
        let settled = settled();
        Ok(Self { dir, prefix, settled, folder: Mark::of(&fstat(dir)?) })
    }

    /// Whether the folder's names can be recognised by its mark from now on.
    pub fn folder_is_settled(&self) -> bool {
        self.folder.is_settled(self.settled)
    }

    /// The marks of these files; `None` for one that is no regular file, is gone, or may change without its mark.
    pub fn marks(&self, numbers: &[u64]) -> Vec<Option<Mark>> {
        if numbers.len() <= ALONE {
            return self.marks_of(numbers);
        }
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS);
        std::thread::scope(|scope| {
            let shares = numbers.chunks(numbers.len().div_ceil(threads));
            let working: Vec<_> = shares.map(|share| (share, scope.spawn(|| self.marks_of(share)))).collect();
            // If a thread failed, its files stay unknown and are opened.
            let joined = working.into_iter().map(|(share, thread)| thread.join().unwrap_or(vec![None; share.len()]));
            joined.flatten().collect()
        })
    }

    fn marks_of(&self, numbers: &[u64]) -> Vec<Option<Mark>> {
        let mut name = String::new();
        let mark = |number: &u64| {
            name.clear();
            write!(name, "{}-{number}.md", self.prefix).ok()?;
            let stat = statat(self.dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let mark = Mark::of(&stat);
            (FileType::from_raw_mode(stat.st_mode).is_file() && mark.is_settled(self.settled)).then_some(mark)
        };
        numbers.iter().map(mark).collect()
    }
}

/// Splits files into those unchanged since `before` and those to be read, each with its present mark.
pub fn unchanged(before: &Seen, numbers: &[u64], marks: &[Option<Mark>], again: &dyn Fn(u64) -> bool) -> Split {
    let mut split = Split::default();
    for (number, mark) in numbers.iter().zip(marks) {
        match mark.filter(|mark| before.of(*number) == Some(*mark) && !again(*number)) {
            Some(mark) => split.kept.push((*number, mark)),
            None => split.open.push((*number, *mark)),
        }
    }
    split
}

/// The two parts of a folder's files.
#[derive(Debug, Default)]
pub struct Split {
    pub kept: Vec<(u64, Mark)>,
    pub open: Vec<(u64, Option<Mark>)>,
}

/// The result of a scan of a folder.
#[derive(Debug, Default)]
pub struct Looked {
    /// Of the files that were opened.
    pub listing: Listing,
    pub(super) prefix: String,
    /// How many files there are.
    pub(super) all: usize,
    pub(super) folder: Option<Mark>,
    pub(super) kept: Vec<(u64, Mark)>,
    pub(super) read: Vec<(u64, Mark)>,
}

impl Looked {
    /// Whether a work item's file exists and was not opened because it has not changed.
    pub fn is_unchanged(&self, item_id: &str) -> bool {
        let number = Key::parse(item_id).ok().filter(|key| key.prefix() == self.prefix).map(|key| key.number());
        number.is_some_and(|number| self.kept.binary_search_by_key(&number, |(n, _)| *n).is_ok())
    }

    /// What need not be opened the next time: all that was read and used, except `left`.
    pub fn seen(self, left: &[Key]) -> Seen {
        let left: HashSet<u64> = left.iter().map(Key::number).collect();
        let read = self.read.into_iter().filter(|(number, _)| !left.contains(number));
        let mut files: Vec<(u64, Mark)> = self.kept.into_iter().chain(read).collect();
        files.sort_unstable_by_key(|(number, _)| *number);
        // The names are known by the folder only if all of them are.
        Seen { folder: self.folder.filter(|_| files.len() == self.all), files }
    }
}

/// Opens a folder for a scan.
pub fn open(dir: &std::path::Path) -> io::Result<std::fs::File> {
    std::fs::File::open(dir)
}

/// The scan of an open folder.
pub fn at<'a>(dir: &'a std::fs::File, prefix: &'a str) -> io::Result<Look<'a>> {
    Look::new(dir.as_fd(), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [u8; STAMP] = [1; STAMP];

    fn mark(n: u64) -> Mark {
        let times = i64::try_from(n).unwrap();
        Mark { inode: n, size: 2 * n, modified: -times, changed: 3 * times }
    }

    #[test]
    fn what_is_written_is_read_under_its_own_stamp_alone() {
        for folder in [None, Some(mark(5))] {
            for files in [vec![], vec![(1, mark(1))], vec![(1, mark(1)), (7, mark(9)), (900, mark(3))]] {
                let seen = Seen { folder, files };
                let bytes = seen.bytes(&ONE);
                assert_eq!(Seen::parse(&bytes, &ONE), Some(seen));
                assert_eq!(Seen::parse(&bytes, &[2; STAMP]), None);
                for cut in [0, 1, 8, 40, bytes.len() - 1] {
                    assert_eq!(Seen::parse(&bytes[..cut], &ONE), None, "{cut}");
                }
            }
        }
        let twice = Seen { folder: None, files: vec![(2, mark(1)), (2, mark(2))] };
        assert_eq!(Seen::parse(&twice.bytes(&ONE), &ONE), None, "numbers ascend");
    }

    #[test]
    fn a_file_that_changed_or_is_asked_for_is_opened() {
        let before = Seen { folder: None, files: (1..=5).map(|n| (n, mark(n))).collect() };
        let now = [Some(mark(1)), Some(mark(7)), None, Some(mark(4)), Some(mark(5)), Some(mark(6))];
        let split = unchanged(&before, &[1, 2, 3, 4, 5, 6], &now, &|n| n == 4);
        assert_eq!(split.kept, [(1, mark(1)), (5, mark(5))]);
        let open: Vec<u64> = split.open.iter().map(|(n, _)| *n).collect();
        assert_eq!(open, [2, 3, 4, 6]);
    }

    #[test]
    fn many_files_are_checked_like_few() {
        let dir = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        for n in [1, 5, 2_500] {
            let file = std::fs::File::create(dir.path().join(format!("A-{n}.md"))).unwrap();
            file.set_modified(old).unwrap();
        }
        std::fs::create_dir(dir.path().join("A-7.md")).unwrap();
        std::os::unix::fs::symlink("A-1.md", dir.path().join("A-8.md")).unwrap();
        let folder = open(dir.path()).unwrap();
        // Times of change can't be set: what was just made counts once the clock has advanced.
        let look = Look { settled: i64::MAX, ..at(&folder, "A").unwrap() };
        let few = look.marks(&[1, 5, 7, 8, 9, 2_500]);
        assert_eq!(few.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, false, false, true]);
        let numbers: Vec<u64> = (1..=3_000).collect();
        let many = look.marks(&numbers);
        assert_eq!(many.len(), numbers.len());
        let there: Vec<u64> = numbers.iter().zip(&many).filter(|(_, m)| m.is_some()).map(|(n, _)| *n).collect();
        assert_eq!(there, [1, 5, 2_500]);
        assert_eq!((many[0], many[4], many[2_499]), (few[0], few[1], few[5]));
        let fresh = at(&folder, "A").unwrap();
        assert!(fresh.marks(&[1]) == [None] && !fresh.folder_is_settled(), "it changed just now");
    }
}
