//! Which files of a folder were read and have not changed since, so that a step does not open them again (speed). A
//! file is recognised by its inode, size and times, as in git's index. A file that changed within a clock's grain of
//! the scan is not recognised, since its next change might leave all of these as they are.

use super::Listing;
use crate::model::ids::Key;
use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use std::collections::{BTreeSet, HashSet};
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
type Record = [u8; NUMBER + MARK];
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
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Of the folder; `None`: its names must be read again.
    folder: Option<Mark>,
    /// The files as they are stored, in ascending order, after the first `from` bytes: there may be very many.
    bytes: Vec<u8>,
    from: usize,
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.folder == other.folder && self.records() == other.records()
    }
}

fn pair(record: &Record) -> (u64, Mark) {
    let (mut number, mut mark) = ([0; NUMBER], [0; MARK]);
    let (first, rest) = record.split_at(NUMBER);
    number.copy_from_slice(first);
    mark.copy_from_slice(rest);
    (u64::from_le_bytes(number), Mark::read(&mark))
}

impl Seen {
    /// `files` in ascending order.
    pub fn new(folder: Option<Mark>, files: impl IntoIterator<Item = (u64, Mark)>) -> Self {
        let mut bytes = Vec::new();
        for (number, mark) in files {
            bytes.extend(number.to_le_bytes());
            mark.write(&mut bytes);
        }
        Self { folder, bytes, from: 0 }
    }

    fn records(&self) -> &[Record] {
        self.bytes.get(self.from..).unwrap_or_default().as_chunks().0
    }

    /// As a file's content. `stamp` distinguishes it from every other.
    pub fn bytes(&self, stamp: &[u8; STAMP]) -> Vec<u8> {
        let files = self.records().as_flattened();
        let mut to = Vec::with_capacity(MAGIC.len() + STAMP + NUMBER + MARK + files.len());
        to.extend(MAGIC);
        to.extend(stamp);
        let nothing = Mark { inode: 0, size: 0, modified: 0, changed: 0 };
        to.extend(u64::from(self.folder.is_some()).to_le_bytes());
        self.folder.unwrap_or(nothing).write(&mut to);
        to.extend(files);
        to
    }

    /// What [`Self::bytes`] wrote under this stamp; `None` for any other bytes.
    pub fn parse(bytes: Vec<u8>, stamp: &[u8; STAMP]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(stamp)?;
        let (records, over) = rest.as_chunks();
        let (folder, files) = records.split_first().filter(|_| over.is_empty())?;
        let ascending = files.windows(2).all(|two| matches!(two, [a, b] if pair(a).0 < pair(b).0));
        let (known, mark) = pair(folder);
        let from = MAGIC.len() + STAMP + NUMBER + MARK;
        ascending.then_some(Self { folder: (known == 1).then_some(mark), bytes, from })
    }

    fn of(&self, number: u64) -> Option<Mark> {
        let files = self.records();
        let at = files.binary_search_by_key(&number, |record| pair(record).0).ok()?;
        files.get(at).map(|record| pair(record).1)
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

    /// The files that must be opened, each with its present mark, or `None` if it is no regular file, is gone, or may
    /// change without its mark; the others are as in `before`. `numbers`: all that are there; `None`: the folder has the
    /// names that `before` has. `again`: to be opened in any case.
    pub fn news(&self, before: &Seen, numbers: Option<&[u64]>, again: &BTreeSet<u64>) -> Vec<(u64, Option<Mark>)> {
        let differs = |number: u64, was: Option<Mark>, name: &mut String| {
            let mark = self.mark(number, name);
            (mark.is_none() || mark != was || again.contains(&number)).then_some((number, mark))
        };
        match numbers {
            None => shared(before.records(), &|record, name| {
                let (number, was) = pair(record);
                differs(number, Some(was), name)
            }),
            Some(numbers) => shared(numbers, &|number, name| differs(*number, before.of(*number), name)),
        }
    }

    fn mark(&self, number: u64, name: &mut String) -> Option<Mark> {
        name.clear();
        write!(name, "{}-{number}.md", self.prefix).ok()?;
        let stat = statat(self.dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let mark = Mark::of(&stat);
        (FileType::from_raw_mode(stat.st_mode).is_file() && mark.is_settled(self.settled)).then_some(mark)
    }
}

/// What `check` finds in all of these, in order. It gets a text to write in.
fn shared<T: Sync, F: Send>(all: &[T], check: &(dyn Fn(&T, &mut String) -> Option<F> + Sync)) -> Vec<F> {
    let some = |share: &[T]| {
        let mut name = String::new();
        share.iter().filter_map(|one| check(one, &mut name)).collect::<Vec<F>>()
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS);
    if all.len() <= ALONE || threads < 2 {
        return some(all);
    }
    let (own, others) = all.split_at(all.len().div_ceil(threads));
    std::thread::scope(|scope| {
        let working: Vec<_> = others.chunks(own.len()).map(|share| (share, scope.spawn(move || some(share)))).collect();
        let mut found = some(own);
        // A thread that failed has found nothing out.
        found.extend(working.into_iter().flat_map(|(share, thread)| thread.join().unwrap_or_else(|_| some(share))));
        found
    })
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
    /// Those that are not, or no longer, as they were known; `None`: there is no folder.
    pub(super) news: Option<BTreeSet<u64>>,
    pub(super) read: Vec<(u64, Mark)>,
}

impl Looked {
    /// Whether a work item's file exists and was not opened because it has not changed. `before`: what was known.
    pub fn is_unchanged(&self, before: &Seen, item_id: &str) -> bool {
        let number = Key::parse(item_id).ok().filter(|key| key.prefix() == self.prefix).map(|key| key.number());
        let same = |number| self.news.as_ref().is_some_and(|news| !news.contains(&number));
        number.is_some_and(|number| same(number) && before.of(number).is_some())
    }

    /// What need not be opened the next time: all that was read and used, except `left`; `None`: the same as `before`.
    pub fn seen(self, before: &Seen, left: &[Key]) -> Option<Seen> {
        if self.news.as_ref().is_some_and(BTreeSet::is_empty) && self.folder == before.folder {
            return None;
        }
        let left: HashSet<u64> = left.iter().map(Key::number).collect();
        let read = self.read.into_iter().filter(|(number, _)| !left.contains(number));
        let kept = |(number, _): &(u64, Mark)| self.news.as_ref().is_some_and(|news| !news.contains(number));
        let mut files: Vec<(u64, Mark)> = before.records().iter().map(pair).filter(kept).chain(read).collect();
        files.sort_unstable_by_key(|(number, _)| *number);
        // The names are known by the folder only if all of them are.
        let seen = Seen::new(self.folder.filter(|_| files.len() == self.all), files);
        (seen != *before).then_some(seen)
    }
}

impl Seen {
    /// Whether the folder's names are still those of its files.
    pub(super) fn has_names_of(&self, folder: Mark) -> bool {
        self.folder == Some(folder)
    }

    pub(super) fn len(&self) -> usize {
        self.records().len()
    }

    /// Those that are known and not among these, which ascend.
    pub(super) fn gone(&self, numbers: &[u64]) -> impl Iterator<Item = u64> {
        self.records().iter().map(|record| pair(record).0).filter(|number| numbers.binary_search(number).is_err())
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
                let seen = Seen::new(folder, files);
                let bytes = seen.bytes(&ONE);
                let read = Seen::parse(bytes.clone(), &ONE).unwrap();
                assert_eq!(read, seen);
                assert_eq!(read.bytes(&ONE), bytes);
                assert_eq!(Seen::parse(bytes.clone(), &[2; STAMP]), None);
                for cut in [0, 1, 8, 40, bytes.len() - 1] {
                    assert_eq!(Seen::parse(bytes[..cut].to_vec(), &ONE), None, "{cut}");
                }
            }
        }
        let twice = Seen::new(None, [(2, mark(1)), (2, mark(2))]);
        assert_eq!(Seen::parse(twice.bytes(&ONE), &ONE), None, "numbers ascend");
    }

    #[test]
    fn what_was_read_or_is_gone_replaces_what_was_known() {
        let before = Seen::new(Some(mark(50)), (1..=5).map(|n| (n, mark(n))));
        let looked = |news: &[u64], read: &[(u64, Mark)], all: usize, folder: Option<Mark>| Looked {
            listing: Listing::default(),
            prefix: "A".to_owned(),
            all,
            folder,
            news: Some(news.iter().copied().collect()),
            read: read.to_vec(),
        };
        let same = looked(&[], &[], 5, Some(mark(50)));
        assert!(same.is_unchanged(&before, "A-3"));
        assert!(!same.is_unchanged(&before, "A-6") && !same.is_unchanged(&before, "B-3"));
        assert_eq!(same.seen(&before, &[]), None);
        let one = looked(&[2, 4], &[(2, mark(9))], 4, Some(mark(51)));
        assert!(!one.is_unchanged(&before, "A-2") && !one.is_unchanged(&before, "A-4"));
        let files = [(1, mark(1)), (2, mark(9)), (3, mark(3)), (5, mark(5))];
        assert_eq!(one.seen(&before, &[]), Some(Seen::new(Some(mark(51)), files)));
        // One left out is unknown, so the folder's mark does not cover every name.
        let left = looked(&[2], &[(2, mark(9))], 5, Some(mark(50)));
        let files = [(1, mark(1)), (3, mark(3)), (4, mark(4)), (5, mark(5))];
        assert_eq!(left.seen(&before, &[Key::parse("A-2").unwrap()]), Some(Seen::new(None, files)));
        let nothing = Looked::default();
        assert!(!nothing.is_unchanged(&before, "A-1"));
        assert_eq!(nothing.seen(&before, &[]), Some(Seen::default()));
        assert_eq!(before.gone(&[1, 2, 5, 6]).collect::<Vec<_>>(), [3, 4]);
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
        let none = BTreeSet::new();
        let nothing = Seen::default();
        let few = look.news(&nothing, Some(&[1, 5, 7, 8, 9, 2_500]), &none);
        let there = |found: &[(u64, Option<Mark>)]| -> Vec<u64> {
            found.iter().filter(|(_, mark)| mark.is_some()).map(|(number, _)| *number).collect()
        };
        assert_eq!((few.len(), there(&few)), (6, vec![1, 5, 2_500]));
        let numbers: Vec<u64> = (1..=3_000).collect();
        let many = look.news(&nothing, Some(&numbers), &none);
        assert_eq!((many.len(), there(&many)), (3_000, vec![1, 5, 2_500]));
        assert_eq!((many[0], many[4], many[2_499]), (few[0], few[1], few[5]));
        // What is known is not found again, unless it has changed or is asked for.
        let known = Seen::new(None, many.iter().map(|(number, mark)| (*number, mark.unwrap_or(few[0].1.unwrap()))));
        for numbers in [None, Some(numbers.as_slice())] {
            let found = look.news(&known, numbers, &BTreeSet::from([5]));
            assert_eq!((found.len(), there(&found)), (2_998, vec![5]));
        }
        let fresh = at(&folder, "A").unwrap();
        assert_eq!(fresh.news(&known, Some(&[1]), &none), [(1, None)], "it changed just now");
        assert!(!fresh.folder_is_settled());
    }
}
