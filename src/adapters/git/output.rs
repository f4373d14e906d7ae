//! What a confined build left to be deployed (BND-3): read as data, by the rules for what a run leaves (BND-5), and
//! copied to where no run can write. A digest identifies it afterwards. Runs no program.

use super::files;
use super::walk::{Around, Base, Found, Kind, Limits, Root};
use crate::model::tree_rules::{Broken, Links, clashes, link_faults};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most that a build may leave.
pub const LIMITS: Limits =
    Limits { names: 200_000, depth: 128, file: 2 << 30, total: 2 << 30, time: Duration::from_secs(120) };

/// The output that was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Of names, kinds, executable bits, targets and contents, in hex.
    pub sha256: String,
    /// Files and links.
    pub files: u64,
    pub bytes: u64,
}

/// The result of copying.
#[derive(Debug)]
pub enum Took {
    Whole(Output),
    /// It breaks these rules; nothing of it is kept.
    Broken(Vec<Broken>),
}

/// Copies what a build left in `from` to `to`, which is deleted first. `owner`: the account that the files must belong
/// to. Only once every process of the build is gone.
///
/// # Errors
/// This machine's: `to` can't be written, a disk is full. What the build did wrong is in [`Took::Broken`].
pub fn take(from: &Path, to: &Path, owner: u32, limits: Limits) -> io::Result<Took> {
    files::remove(to).map_err(io::Error::other)?;
    let broken = |path: &str, why: String| Ok(Took::Broken(vec![Broken::new(path, why)]));
    let root = match Root::open(from) {
        Ok(root) => root,
        Err(e) => return broken("ORCH_BUILD_OUTPUT", format!("is no longer a folder: {e}")),
    };
    let found = find_files(&root, owner, limits)?;
    let faults = faults(&found, limits);
    if !faults.is_empty() {
        return Ok(Took::Broken(faults));
    }
    let taken = copy(&root, &found, to);
    if !matches!(taken, Ok(Took::Whole(_))) {
        files::remove(to).map_err(io::Error::other)?;
    }
    taken
}

/// The content of a copy that [`take`] made. Fails if it can't be read, or contains what no copy has.
pub fn of(dir: &Path) -> io::Result<Output> {
    let root = Root::open(dir)?;
    let found = find_files(&root, rustix::process::geteuid().as_raw(), LIMITS)?;
    if let Some(fault) = found.broken.first() {
        return Err(io::Error::other(format!("{}: {fault}", dir.display())));
    }
    let mut sum = Sum::new(&found);
    for (path, entry) in &found.entries {
        match &entry.kind {
            Kind::Link(target) => sum.link(path, target),
            Kind::File { executable } => {
                sum.file(path, *executable, entry.size);
                let mut file = root.file(path, LIMITS.file)?;
                pass(&mut file, &mut |bytes| {
                    sum.bytes(bytes);
                    Ok(())
                })?;
            }
            Kind::Submodule(_) => {}
        }
    }
    Ok(sum.done())
}

fn find_files(root: &Root, owner: u32, limits: Limits) -> io::Result<Found> {
    let (base, left_out) = (Base::new(), BTreeSet::new());
    root.walk(&Around { base: &base, folder: "", left_out: &left_out, owner, limits, whole: true })
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Rules about more than one name: sizes, links, names that are the same elsewhere.
fn faults(found: &Found, limits: Limits) -> Vec<Broken> {
    let mut broken = found.broken.clone();
    let (mut total, mut links) = (0_u64, Links::new());
    for (path, entry) in &found.entries {
        match &entry.kind {
            Kind::Link(target) => match std::str::from_utf8(target) {
                Ok(target) => drop(links.insert(text(path), target.to_owned())),
                Err(_) => broken.push(Broken::new(&text(path), "is a link to a name that is not UTF-8")),
            },
            Kind::File { .. } => {
                total = total.saturating_add(entry.size);
                if entry.size > limits.file {
                    broken.push(Broken::new(&text(path), format!("is larger than {} MiB", limits.file >> 20)));
                }
            }
            Kind::Submodule(_) => {}
        }
    }
    if total > limits.total {
        broken.push(Broken::new("ORCH_BUILD_OUTPUT", format!("contains more than {} MiB", limits.total >> 20)));
    }
    broken.extend(link_faults(&links, &Links::new()));
    let names: Vec<String> = found.folders.iter().chain(found.entries.keys()).map(|path| text(path)).collect();
    broken.extend(clashes(names.iter().map(String::as_str), |_| false));
    broken
}

fn at(dir: &Path, path: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(path))
}

fn copy(root: &Root, found: &Found, to: &Path) -> io::Result<Took> {
    let folder = |path: &Path| {
        std::fs::create_dir(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o755))
    };
    folder(to)?;
    // A folder's name is a prefix of what is in it, and so comes first.
    found.folders.iter().try_for_each(|path| folder(&at(to, path)))?;
    let mut sum = Sum::new(found);
    for (path, entry) in &found.entries {
        match &entry.kind {
            Kind::Link(target) => {
                symlink(OsStr::from_bytes(target), at(to, path))?;
                sum.link(path, target);
            }
            Kind::File { executable } => {
                let unread = |e: io::Error| Took::Broken(vec![Broken::new(&text(path), format!("can't be read: {e}"))]);
                let mut source = match root.file(path, entry.size) {
                    Ok(file) => file,
                    Err(e) => return Ok(unread(e)),
                };
                let mut dest = new_file(&at(to, path), *executable)?;
                sum.file(path, *executable, entry.size);
                let mut copied = 0;
                pass(&mut source, &mut |bytes| {
                    copied += bytes.len() as u64;
                    sum.bytes(bytes);
                    dest.write_all(bytes)
                })?;
                if copied != entry.size {
                    return Ok(unread(io::Error::other("it changed while it was read")));
                }
            }
            Kind::Submodule(_) => {}
        }
    }
    Ok(Took::Whole(sum.done()))
}

fn new_file(path: &Path, executable: bool) -> io::Result<File> {
    let mode = if executable { 0o755 } else { 0o644 };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // Whatever the umask.
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

fn pass(from: &mut impl Read, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut chunk = vec![0_u8; 64 << 10];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(()),
            n => to(chunk.get(..n).unwrap_or_default())?,
        }
    }
}

/// The digest in progress. Each name goes in with its length, so that two different outputs never share one.
struct Sum {
    hash: Sha256,
    files: u64,
    bytes: u64,
}

impl Sum {
    fn new(found: &Found) -> Self {
        let mut sum = Self { hash: Sha256::new(), files: 0, bytes: 0 };
        found.folders.iter().for_each(|path| sum.name(b'd', path, 0));
        sum
    }

    fn name(&mut self, kind: u8, path: &[u8], size: u64) {
        self.hash.update([kind]);
        self.hash.update((path.len() as u64).to_be_bytes());
        self.hash.update(path);
        self.hash.update(size.to_be_bytes());
    }

    fn link(&mut self, path: &[u8], target: &[u8]) {
        self.name(b'l', path, target.len() as u64);
        self.hash.update(target);
        self.files += 1;
    }

    fn file(&mut self, path: &[u8], executable: bool, size: u64) {
        self.name(if executable { b'x' } else { b'f' }, path, size);
        self.files += 1;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn done(self) -> Output {
        let sha256 = self.hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Output { sha256, files: self.files, bytes: self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    type Make<'a> = &'a dyn Fn(&Place);

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("out/deep/empty")).unwrap();
            Self(dir)
        }

        fn out(&self, name: &str) -> PathBuf {
            let dir = self.0.path().join("out");
            if name.is_empty() { dir } else { dir.join(name) }
        }

        fn put(&self, name: &str, text: &str) {
            fs::create_dir_all(self.out(name).parent().unwrap()).unwrap();
            fs::write(self.out(name), text).unwrap();
        }

        fn take(&self, limits: Limits) -> Took {
            take(&self.out(""), &self.0.path().join("kept"), own(), limits).unwrap()
        }

        /// Why nothing was copied; nothing of it is kept.
        fn refused(&self, limits: Limits) -> String {
            let Took::Broken(broken) = self.take(limits) else { panic!("it was taken") };
            assert!(!self.0.path().join("kept").exists());
            broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
    }

    #[test]
    fn bnd_3_files_folders_and_links_are_taken_whole_and_known_again() {
        let place = Place::new();
        place.put("bin/app", "program");
        fs::set_permissions(place.out("bin/app"), Permissions::from_mode(0o4750)).unwrap();
        place.put(".gitignore", "*");
        place.put("target/app.so", "library");
        symlink("../target/app.so", place.out("bin/lib")).unwrap();
        symlink("gone", place.out("dangling")).unwrap();
        let Took::Whole(output) = place.take(LIMITS) else { panic!("refused") };
        assert_eq!((output.files, output.bytes), (5, 15));
        let kept = place.0.path().join("kept");
        assert_eq!(fs::read_to_string(kept.join("bin/lib")).unwrap(), "library");
        assert_eq!(kept.join("bin/app").metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        assert!(kept.join("deep/empty").is_dir());
        assert_eq!(of(&kept).unwrap(), output);
        // Every change shows: a content, a name, an executable bit, a folder.
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(kept.join("bin/app"), "Program").unwrap(),
            &|| fs::rename(kept.join("dangling"), kept.join("other")).unwrap(),
            &|| fs::set_permissions(kept.join("target/app.so"), Permissions::from_mode(0o755)).unwrap(),
            &|| fs::remove_dir(kept.join("deep/empty")).unwrap(),
        ];
        for change in changes {
            let before = of(&kept).unwrap();
            change();
            assert_ne!(of(&kept).unwrap().sha256, before.sha256);
        }
        // The next copy starts from nothing.
        fs::remove_dir_all(place.out("bin")).unwrap();
        assert!(matches!(place.take(LIMITS), Took::Whole(_)) && !kept.join("bin").exists());
    }

    #[test]
    fn bnd_3_whatever_is_no_plain_data_is_refused_by_its_name() {
        let cases: [(&str, Make<'_>); 12] = [
            ("out-link", &|p| symlink("../../etc", p.out("out-link")).unwrap()),
            ("absolute", &|p| symlink("/etc/passwd", p.out("absolute")).unwrap()),
            ("b/through", &|p| {
                symlink("deep", p.out("a")).unwrap();
                fs::create_dir(p.out("b")).unwrap();
                symlink("../a/x", p.out("b/through")).unwrap();
            }),
            (".git", &|p| p.put(".git/config", "[core]")),
            ("deep/.GIT", &|p| p.put("deep/.GIT", "x")),
            ("is a FIFO", &|p| {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, p.out("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }),
            ("is a socket", &|p| drop(std::os::unix::net::UnixListener::bind(p.out("s")).unwrap())),
            ("the same name", &|p| {
                p.put("Read", "1");
                p.put("read", "2");
            }),
            ("the same name", &|p| {
                fs::create_dir(p.out("DEEP")).unwrap();
            }),
            ("control character", &|p| p.put("a\nb", "x")),
            ("not UTF-8", &|p| fs::write(at(&p.out(""), b"\xff"), "x").unwrap()),
            ("more than 2048 MiB", &|p| {
                for name in ["huge1", "huge2"] {
                    File::create(p.out(name)).unwrap().set_len(1500 << 20).unwrap();
                }
            }),
        ];
        for (named, make) in cases {
            let place = Place::new();
            make(&place);
            let why = place.refused(LIMITS);
            assert!(why.contains(named), "{named}: {why}");
        }
        let place = Place::new();
        place.put("large", &"x".repeat(2 << 20));
        assert!(place.refused(Limits { file: 1 << 20, ..LIMITS }).contains("large (it is larger than 1 MiB)"));
        assert!(place.refused(Limits { names: 2, ..LIMITS }).contains("exceeds 2 names"));
        let owner = own() + 1;
        let said = take(&place.out(""), &place.0.path().join("kept"), owner, LIMITS).unwrap();
        assert!(matches!(said, Took::Broken(b) if b[0].why.contains("another account")));
        // A link, or nothing, in place of the folder.
        fs::rename(place.out(""), place.0.path().join("elsewhere")).unwrap();
        assert!(place.refused(LIMITS).contains("no longer a folder"));
        symlink("elsewhere", place.out("")).unwrap();
        assert!(place.refused(LIMITS).contains("no longer a folder"));
    }
}
