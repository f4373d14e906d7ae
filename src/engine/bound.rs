//! A row binds its file (RULE-47): a gate that relies on a report outside git stores the report's hash in its row, and
//! a missing or different file turns the row's *yes* into a *no*. The file alone never makes a *yes* (RULE-34).

use crate::model::evidence::{BoundFile, EvidenceVerdict};
use crate::model::task::Evidence;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Largest file that is compared; reports are far smaller.
const MOST: u64 = 64 << 20;

/// What a row stores about a file below `root` (the state directory).
pub fn of(root: &Path, path: &Path, bytes: &[u8]) -> BoundFile {
    let path = path.strip_prefix(root).unwrap_or(path).display().to_string();
    BoundFile { path, sha256: hash(bytes) }
}

/// The rows as they count now. A pass whose file is missing or different does not count. If several rows bind one file,
/// the newest owns it.
pub fn checked(mut rows: Vec<Evidence>, root: &Path) -> Vec<Evidence> {
    let mut owned = BTreeSet::new();
    for row in rows.iter_mut().rev() {
        let Some(bound) = row.bound() else { continue };
        if owned.insert(bound.path.clone())
            && row.verdict == EvidenceVerdict::Pass
            && let Err(why) = compare(root, &bound)
        {
            row.verdict = EvidenceVerdict::Missing;
            row.tampered = true;
            row.why = format!("{} {why} since {} was judged by it", bound.path, row.subject);
        }
    }
    rows
}

/// Every file that the rows bind.
pub fn files(rows: &[Evidence], root: &Path) -> Vec<PathBuf> {
    rows.iter().filter_map(Evidence::bound).map(|bound| root.join(bound.path)).collect()
}

fn compare(root: &Path, bound: &BoundFile) -> Result<(), String> {
    let relative = Path::new(&bound.path);
    if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err("is not a path in the state directory".to_owned());
    }
    match read(&root.join(relative)) {
        Ok(bytes) if hash(&bytes) == bound.sha256 => Ok(()),
        Ok(_) => Err("has changed".to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err("is gone".to_owned()),
        Err(e) => Err(format!("can't be read ({e})")),
    }
}

/// Reads a whole regular file; never a link, never blocking on a FIFO.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let file =
        File::from(rustix::fs::open(path, OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
    let about = file.metadata()?;
    if !about.is_file() || about.len() > MOST {
        return Err(std::io::Error::other("a regular file of that size is not expected there"));
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing;
    use crate::model::evidence::{Code, EvidenceDetail};

    fn resting(file: BoundFile) -> EvidenceDetail {
        EvidenceDetail::Code(Box::new(Code { file: Some(file), ..Code::default() }))
    }

    fn row(root: &Path, text: &str, verdict: EvidenceVerdict) -> Evidence {
        let mut row = testing::row("security_gate", verdict);
        row.detail = resting(of(root, &root.join("evidence/1/17.md"), text.as_bytes()));
        row
    }

    #[test]
    fn rule_47_a_pass_whose_file_is_gone_or_changed_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let file = root.join("evidence/1/17.md");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "one").unwrap();
        let rows = || vec![row(root, "one", EvidenceVerdict::Pass)];
        assert_eq!(checked(rows(), root), rows());
        let spoilt = |part: &str| {
            let now = checked(rows(), root);
            assert_eq!((now[0].verdict, now[0].tampered), (EvidenceVerdict::Missing, true));
            assert!(now[0].why.contains(part) && now[0].why.contains("evidence/1/17.md"), "{}", now[0].why);
        };
        std::fs::write(&file, "two").unwrap();
        spoilt("has changed");
        std::fs::write(&file, "").unwrap();
        spoilt("has changed");
        std::fs::remove_file(&file).unwrap();
        spoilt("is gone");
        std::fs::create_dir(&file).unwrap();
        spoilt("can't be read");
        std::fs::remove_dir(&file).unwrap();
        std::fs::write(root.join("other"), "one").unwrap();
        std::os::unix::fs::symlink(root.join("other"), &file).unwrap();
        spoilt("can't be read");
    }

    #[test]
    fn rule_47_the_newest_row_owns_a_file_and_a_no_stays_a_no() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("evidence/1")).unwrap();
        std::fs::write(root.join("evidence/1/17.md"), "new").unwrap();
        let rows = vec![row(root, "old", EvidenceVerdict::Pass), row(root, "new", EvidenceVerdict::Pass)];
        assert_eq!(checked(rows.clone(), root), rows);
        let rows = vec![row(root, "x", EvidenceVerdict::Fail), testing::row("ci_green", EvidenceVerdict::Pass)];
        assert_eq!(checked(rows.clone(), root), rows);
        let mut out = testing::row("security_gate", EvidenceVerdict::Pass);
        out.detail = resting(BoundFile { path: "../x".into(), sha256: hash(b"") });
        assert!(checked(vec![out], root)[0].tampered);
    }
}
