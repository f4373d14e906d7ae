//! Puts this program where every node sees it: `WORK_DIR/bin/SHA256/orch` (CLU-2). Another version has another path.

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Copies `program` there, if needed; returns its path. `known`: a file that remembers its hash by size, number and
/// time.
///
/// # Errors
/// What can't be read or created, with its path.
pub fn place(program: &Path, work_dir: &Path, known: &Path) -> io::Result<PathBuf> {
    let hash = remembered(program, known)?;
    let folder = work_dir.join("bin").join(&hash);
    let path = folder.join("orch");
    let size = std::fs::metadata(program)?.len();
    if path.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() == size && m.uid() == me() && m.mode() & 0o222 == 0)
    {
        return Ok(path);
    }
    let at = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", folder.display()));
    make(&work_dir.join("bin")).and_then(|()| make(&folder)).map_err(at)?;
    let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(at)?;
    io::copy(&mut File::open(program)?, file.as_file_mut()).map_err(at)?;
    file.as_file().set_permissions(Permissions::from_mode(0o555)).map_err(at)?;
    file.as_file().sync_all().map_err(at)?;
    file.persist(&path).map_err(|e| at(e.error))?;
    Ok(path)
}

/// Others may pass through it, but change nothing.
fn make(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))
}

/// Deletes the programs that are not in `used`; none if an installation other than `own` has its folder here, because
/// its jobs are unknown here. What can't be deleted stays.
pub fn prune(work_dir: &Path, own: &Path, used: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut gone = Vec::new();
    let others = std::fs::read_dir(work_dir).into_iter().flatten().flatten();
    if others.map(|e| e.path()).any(|path| path != own && path != work_dir.join("bin")) {
        return gone;
    }
    for entry in std::fs::read_dir(work_dir.join("bin")).into_iter().flatten().flatten() {
        let is_hash =
            entry.file_name().to_str().is_some_and(|n| n.len() == 64 && n.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_hash && !used.contains(&entry.path().join("orch")) && std::fs::remove_dir_all(entry.path()).is_ok() {
            gone.push(entry.path());
        }
    }
    gone
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn remembered(program: &Path, known: &Path) -> io::Result<String> {
    let meta = std::fs::metadata(program)?;
    let key = format!("{} {} {} {}.{}", program.display(), meta.len(), meta.ino(), meta.mtime(), meta.mtime_nsec());
    let text = std::fs::read_to_string(known).unwrap_or_default();
    if let Some((hash, of)) = text.split_once(' ')
        && of == key
    {
        return Ok(hash.to_owned());
    }
    let (mut file, mut hash, mut buffer) = (File::open(program)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
    let hash: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let written = known.parent().map_or(Ok(()), std::fs::create_dir_all);
    // Without it, the program is hashed again: no harm.
    drop(
        written.and_then(|()| crate::adapters::files::replace(known, format!("{hash} {key}").as_bytes(), Some(0o600))),
    );
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clu_2_each_version_has_a_path_of_its_own_that_nobody_writes() {
        let dir = tempfile::tempdir().unwrap();
        let (program, known, work) = (dir.path().join("orch"), dir.path().join("state/hash"), dir.path().join("work"));
        std::fs::create_dir(&work).unwrap();
        std::fs::write(&program, "one").unwrap();
        let one = place(&program, &work, &known).unwrap();
        assert_eq!(std::fs::read(&one).unwrap(), b"one");
        assert_eq!(one.metadata().unwrap().mode() & 0o7777, 0o555);
        let made = one.metadata().unwrap().ino();
        assert_eq!(place(&program, &work, &known).unwrap(), one);
        assert_eq!(one.metadata().unwrap().ino(), made, "it was there");
        // A partial copy does not count.
        std::fs::set_permissions(&one, Permissions::from_mode(0o755)).unwrap();
        std::fs::write(&one, "o").unwrap();
        assert_eq!(std::fs::read(place(&program, &work, &known).unwrap()).unwrap(), b"one");
        std::fs::write(&program, "another").unwrap();
        let two = place(&program, &work, &known).unwrap();
        assert!(two != one && one.exists());
        let own = work.join("0a1b2c3d");
        std::fs::create_dir(&own).unwrap();
        let other = work.join("ffffffff");
        std::fs::create_dir(&other).unwrap();
        assert!(prune(&work, &own, &BTreeSet::from([two.clone()])).is_empty(), "another installation may run it");
        std::fs::remove_dir(&other).unwrap();
        let gone = prune(&work, &own, &BTreeSet::from([two.clone()]));
        assert_eq!(gone, [one.parent().unwrap()]);
        assert!(two.exists() && !one.exists());
    }
}
