//! The disk and the machine under the state directory: free space, ballast (RULE-38), network file systems and the
//! machine's id (RULE-37).

use rustix::fs::{FallocateFlags, fallocate, statfs, statvfs};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The ballast's name in the state directory.
const BALLAST: &str = "ballast";

/// File systems whose locks or renames are shared with other machines, by statfs type.
const NETWORK: [(u64, &str); 16] = [
    (0x6969, "nfs"),
    (0x517B, "smb"),
    (0xFF53_4D42, "cifs"),
    (0xFE53_4D42, "smb2"),
    (0x0102_1997, "9p"),
    (0x5346_414F, "afs"),
    (0x6B41_4653, "kafs"),
    (0x00C3_6400, "ceph"),
    (0x7375_7245, "coda"),
    (0x564C, "ncpfs"),
    (0x0BD0_0BD0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x0116_1970, "gfs2"),
    (0x7461_636F, "ocfs2"),
    (0x1983_0326, "beegfs"),
    (0x2BAD_1DEA, "orangefs"),
];
const FUSE: u64 = 0x6573_5546;
/// FUSE does not say what is behind it; the type of its mount does.
const NETWORK_FUSE: [&str; 10] =
    ["sshfs", "glusterfs", "s3fs", "rclone", "gcsfuse", "davfs", "cephfs", "mfs", "juicefs", "blobfuse"];

/// Space left for this user on the file system of `path`, in MiB. Fails if the path can't be reached.
pub fn free_mb(path: &Path) -> io::Result<u64> {
    let fs = statvfs(path)?;
    Ok(fs.f_bavail.saturating_mul(fs.f_frsize) >> 20)
}

/// The name of the network file system that `path` is on. `None`: a local one, or an unknown type. Fails if the path
/// can't be reached.
pub fn network_file_system(path: &Path) -> io::Result<Option<String>> {
    // The type is a 32-bit number, in a signed field on some machines.
    let kind = (statfs(path)?.f_type as u64) & 0xFFFF_FFFF;
    if kind == FUSE {
        let path = std::fs::canonicalize(path)?;
        let mounts = std::fs::read("/proc/self/mountinfo")?;
        return Ok(fuse_of(&mounts, &path).filter(|name| NETWORK_FUSE.iter().any(|known| name.contains(known))));
    }
    Ok(NETWORK.iter().find(|(number, _)| *number == kind).map(|(_, name)| (*name).to_owned()))
}

/// The type of the mount that `path` is on, from proc(5)'s mountinfo.
fn fuse_of(mounts: &[u8], path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mounts.split(|b| *b == b'\n') {
        let mut fields = line.split(|b| *b == b' ');
        let Some(point) = fields.nth(4) else { continue };
        let Some(kind) = fields.skip_while(|field| *field != b"-").nth(1) else { continue };
        let point = unescaped(point);
        let length = point.as_os_str().len();
        // Of equal mount points, the last is on top.
        if path.starts_with(&point) && best.as_ref().is_none_or(|(longest, _)| *longest <= length) {
            best = Some((length, String::from_utf8_lossy(kind).into_owned()));
        }
    }
    best.map(|(_, kind)| kind)
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()))
            .flatten();
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { tail.get(3..).unwrap_or(&[]) } else { tail };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// This machine's id, to which the state directory is bound. Without one, the error names the way out.
pub fn machine_id() -> io::Result<String> {
    for path in ["/etc/machine-id", "/var/lib/dbus/machine-id"] {
        if let Some(id) = std::fs::read_to_string(path).ok().and_then(|text| machine_id_in(&text)) {
            return Ok(id);
        }
    }
    Err(io::Error::new(ErrorKind::NotFound, "/etc/machine-id contains no id; create one with systemd-machine-id-setup"))
}

/// 32 hexadecimal digits; `uninitialized` does not count.
fn machine_id_in(text: &str) -> Option<String> {
    let id = text.trim().to_ascii_lowercase();
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

/// Makes sure the ballast exists: `mb` MiB of real blocks. Fails with `StorageFull` if there is no space for it; a
/// partial one is removed.
pub fn take_ballast(state_dir: &Path, mb: u64) -> io::Result<()> {
    let path = state_dir.join(BALLAST);
    let bytes = mb << 20;
    if std::fs::metadata(&path).is_ok_and(|meta| meta.len() >= bytes) {
        return Ok(());
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
    let made =
        fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(io::Error::from).and_then(|()| file.sync_all());
    made.inspect_err(|_| {
        let _ = std::fs::remove_file(&path);
    })
}

/// Releases the ballast so that a stop or an exit record has space. Returns whether there was one; errors are ignored.
pub fn drop_ballast(state_dir: &Path) -> bool {
    std::fs::remove_file(state_dir.join(BALLAST)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballast_takes_room_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_mb(dir.path()).unwrap() > 0);
        assert!(!drop_ballast(dir.path()));
        take_ballast(dir.path(), 4).unwrap();
        take_ballast(dir.path(), 4).unwrap();
        use std::os::unix::fs::MetadataExt;
        let meta = dir.path().join(BALLAST).metadata().unwrap();
        assert!(meta.blocks() * 512 >= 4 << 20, "real blocks");
        assert!(drop_ballast(dir.path()));
        assert!(take_ballast(dir.path(), 1 << 40).is_err());
        assert!(!dir.path().join(BALLAST).exists());
        assert!(free_mb(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_mount_is_found_by_its_longest_point() {
        let mounts = b"1 0 8:1 / / rw - ext4 /dev/a rw\n\
            2 1 0:5 / /home rw shared:1 - fuse.sshfs host: rw\n\
            3 1 0:6 / /home/a\\040b rw - fuse.portal none rw\nbroken\n\n4 1 0:7 / /home2 rw - xfs x rw\n";
        for (path, kind) in [
            ("/home/x", Some("fuse.sshfs")),
            ("/home/a b/c", Some("fuse.portal")),
            ("/home2", Some("xfs")),
            ("/srv", Some("ext4")),
            ("relative", None),
        ] {
            assert_eq!(fuse_of(mounts, Path::new(path)).as_deref(), kind, "{path}");
        }
    }

    #[test]
    fn a_local_disk_is_local() {
        assert_eq!(network_file_system(Path::new("/proc")).unwrap(), None);
        assert!(network_file_system(Path::new("/no/such")).is_err());
    }

    #[test]
    fn only_an_id_is_an_id() {
        assert_eq!(
            machine_id_in("0123456789ABCDEF0123456789abcdef\n").as_deref(),
            Some("0123456789abcdef0123456789abcdef")
        );
        for none in ["", "uninitialized\n", "0123", "0123456789abcdef0123456789abcdeg"] {
            assert_eq!(machine_id_in(none), None);
        }
    }
}
