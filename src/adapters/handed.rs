//! Passes secrets from one `orch` process to the next (BND-4). No process starts with one in its environment or
//! arguments, where other programs of the account or the machine, or a crash report, would find it. Values go through
//! an unnamed file that the next process inherits or, where it can inherit nothing, through a named pipe.

use command_fds::CommandFdExt;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, memfd_create};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Names of variables and their values.
pub type Values = BTreeMap<String, Zeroizing<String>>;

/// The name under which the file is found among inherited descriptors, so that no number has to be passed.
const NAME: &str = "orch-handed";
/// A set of secrets is never larger.
const MOST: u64 = 16 << 20;

fn written(values: &Values) -> io::Result<Zeroizing<Vec<u8>>> {
    let plain: BTreeMap<&str, &str> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Ok(Zeroizing::new(serde_json::to_vec(&plain)?))
}

fn read(from: impl Read) -> io::Result<Values> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(MOST).read_to_end(&mut bytes)?;
    let plain: BTreeMap<String, String> = serde_json::from_slice(&bytes)?;
    Ok(plain.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect())
}

/// The values in an unnamed file, for one process to inherit: as its standard input, or with [`pass`].
pub fn file(values: &Values) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(NAME, MemfdFlags::CLOEXEC)?);
    file.write_all(&written(values)?)?;
    Ok(file.into())
}

/// Lets a command that starts `orch` again inherit the values.
pub fn pass(command: &mut Command, values: &Values) -> io::Result<()> {
    if !values.is_empty() {
        command.preserved_fds(vec![file(values)?]);
    }
    Ok(())
}

/// The values passed to this process. The file is emptied and closed, so no child inherits it. Call it once, before
/// anything else is opened or started.
pub fn take() -> io::Result<Values> {
    let mut all = Values::new();
    // Without /proc nothing can be found. A run's last program may start like that; it was passed nothing.
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Ok(all) };
    let open: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open {
        let path = format!("/proc/self/fd/{fd}");
        let ours =
            std::fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().starts_with(&format!("/memfd:{NAME} ")));
        if !ours {
            continue;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        all.extend(read(&file)?);
        file.set_len(0)?;
        if fd == 0 {
            rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        } else {
            nix::unistd::close(fd)?;
        }
    }
    Ok(all)
}

/// Re-executes this program in the same process with the values passed on instead of in its environment: the kernel
/// shows a program's initial environment for as long as it runs. Returns only if it fails.
pub fn begin_again(values: &Values) -> io::Error {
    let begin = || {
        // The file may have been replaced or deleted meanwhile: run the program that is running now.
        let program = std::env::current_exe()?;
        let program = if program.is_file() { program } else { "/proc/self/exe".into() };
        let mut words = std::env::args_os();
        let mut command = Command::new(program);
        command.arg0(words.next().unwrap_or_default()).args(words);
        for name in values.keys() {
            command.env_remove(name);
        }
        pass(&mut command, values)?;
        Ok(command.exec())
    };
    begin().unwrap_or_else(|e: io::Error| e)
}

/// Makes the named pipe for [`offer`], for this account only. One left there by a killed step is replaced.
pub fn make_pipe(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::from(0o600), 0)?)
}

/// Writes the values to the reader of the named pipe, waiting at most `bound`. Then the pipe is deleted, whether or not
/// anybody read it.
pub fn offer(path: &Path, values: &Values, bound: Duration) -> io::Result<()> {
    let bytes = written(values)?;
    let (sender, received) = std::sync::mpsc::channel();
    let to = path.to_owned();
    // Opening blocks until there is a reader.
    std::thread::spawn(move || {
        let done = OpenOptions::new().write(true).open(&to).and_then(|mut pipe| pipe.write_all(&bytes));
        let _ = sender.send(done);
    });
    let done = received.recv_timeout(bound);
    if done.is_err() {
        // Nobody came. This open frees the thread, which then finds its reader gone.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        drop(OpenOptions::new().read(true).custom_flags(flags).open(path));
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    done.unwrap_or_else(|_| Err(late(bound)))
}

/// Reads the offered values, waiting at most `bound`, and deletes the pipe. Empty where there is no pipe.
pub fn receive(path: &Path, bound: Duration) -> io::Result<Values> {
    match path.symlink_metadata() {
        Ok(meta) if meta.file_type().is_fifo() => {}
        Ok(_) => return Err(io::Error::other(format!("{} is no pipe", path.display()))),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Values::new()),
        Err(e) => return Err(e),
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let mut pipe = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let until = Instant::now() + bound;
    let mut bytes = Zeroizing::new(Vec::new());
    let mut chunk = Zeroizing::new(vec![0; 64 << 10]);
    loop {
        let left = super::process::timespec(until.saturating_duration_since(Instant::now()));
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(late(bound)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        match pipe.read(&mut chunk) {
            // The writer is done: until it opened the pipe, the wait above did not end.
            Ok(0) if !bytes.is_empty() => break,
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    read(bytes.as_slice())
}

fn late(bound: Duration) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("the other side did not connect within {} s", bound.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn some() -> Values {
        [("A", "one\ntwo \"three\""), ("B", "ü")].map(|(n, v)| (n.to_owned(), Zeroizing::new(v.to_owned()))).into()
    }

    #[test]
    fn bnd_4_a_named_pipe_hands_over_once_and_is_gone_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("handed");
        assert!(receive(&path, Duration::ZERO).unwrap().is_empty(), "nothing is offered");
        for large in [false, true] {
            let mut values = some();
            if large {
                values.insert("L".into(), Zeroizing::new("x".repeat(300_000)));
            }
            make_pipe(&path).unwrap();
            assert_eq!(path.symlink_metadata().unwrap().permissions().mode() & 0o7777, 0o600);
            std::thread::scope(|scope| {
                let reading = scope.spawn(|| receive(&path, Duration::from_secs(30)));
                offer(&path, &values, Duration::from_secs(30)).unwrap();
                assert_eq!(reading.join().unwrap().unwrap(), values);
            });
            assert!(!path.exists());
        }
    }

    #[test]
    fn bnd_4_each_side_gives_up_on_one_that_does_not_come() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("handed");
        make_pipe(&path).unwrap();
        let late = receive(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        make_pipe(&path).unwrap();
        assert_eq!(offer(&path, &some(), Duration::from_millis(20)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(!path.exists());
        std::fs::write(&path, "{}").unwrap();
        assert!(receive(&path, Duration::ZERO).is_err(), "not by a file that somebody put there");
    }
}
