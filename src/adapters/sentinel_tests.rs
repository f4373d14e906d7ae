use super::*;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    head: String,
    fence: i64,
}

fn sealed() -> Sealed<Body> {
    Sealed::new(TaskId(7), 2, Body { head: "abc".into(), fence: 3 })
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn it_comes_back_as_it_was_written_in_private_folders() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sentinels/r/ORCH-1/post-deploy.json");
    assert_eq!(read::<Body>(&path), Sentinel::Absent);
    write(&path, &sealed()).unwrap();
    assert_eq!(read(&path), Sentinel::Present(sealed()));
    assert!(sealed().is_of(TaskId(7), 2) && !sealed().is_of(TaskId(7), 1) && !sealed().is_of(TaskId(8), 2));
    assert_eq!((mode(&path), mode(&dir.path().join("sentinels")), mode(path.parent().unwrap())), (0o600, 0o700, 0o700));
    let newer = Sealed::new(TaskId(7), 3, Body { head: "d".into(), fence: 4 });
    write(&path, &newer).unwrap();
    assert_eq!(read(&path), Sentinel::Present(newer));
    assert_eq!(names(path.parent().unwrap()), ["post-deploy.json"], "no temporary name is left");
    remove(&path).unwrap();
    remove(&path).unwrap();
    assert!(!read::<Body>(&path).is_there());
}

#[test]
fn what_is_not_understood_is_never_absent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.json");
    for (content, fault) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "no schema"),
        (r#"{"schema": 2, "task_id": 7, "attempt": 1, "head": "a", "fence": 1}"#, "schema 2"),
        (r#"{"schema": "1", "task_id": 7, "attempt": 1, "head": "a", "fence": 1}"#, "schema \"1\""),
        (r#"{"schema": 1, "task_id": 7, "head": "a", "fence": 1}"#, "attempt"),
        (r#"{"schema": 1, "task_id": 7, "attempt": 1, "head": "a"}"#, "fence"),
    ] {
        std::fs::write(&path, content).unwrap();
        let Sentinel::Broken(said) = read::<Body>(&path) else { panic!("{content}") };
        assert!(said.contains(fault) && said.contains("s.json"), "{said}");
    }
    std::fs::write(&path, vec![b' '; 2 << 20]).unwrap();
    assert!(matches!(read::<Body>(&path), Sentinel::Broken(_)));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(read::<Body>(&path), Sentinel::Broken(_)), "a folder");
    assert!(matches!(read::<Body>(&path.join("x/y")), Sentinel::Absent));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert!(matches!(read::<Body>(&link), Sentinel::Broken(_)), "a dangling link");
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(matches!(read::<Body>(&fifo), Sentinel::Broken(_)), "a pipe is not waited for");
}

#[test]
fn of_many_creators_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d/deploy.7-1-1.started.json");
    let made: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16)
            .map(|n| {
                let path = path.clone();
                scope.spawn(move || {
                    let mine = Sealed::new(TaskId(n), 1, Body { head: "x".into(), fence: n });
                    match create_new(&path, &mine) {
                        Ok(()) => 1,
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::AlreadyExists);
                            assert!(matches!(read::<Body>(&path), Sentinel::Present(_)), "whole from the first moment");
                            0
                        }
                    }
                })
            })
            .collect();
        all.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(made, 1);
    assert_eq!(names(path.parent().unwrap()).len(), 1);
}

#[test]
fn an_archive_overwrites_nothing_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a"), dir.path().join("archive/ORCH-1/t"));
    assert_eq!(archive(&from, &to).unwrap(), 0);
    assert!(!to.exists());
    for round in 1..=2 {
        write(&from.join("x.json"), &Sealed::new(TaskId(1), round, Body { head: "h".into(), fence: 1 })).unwrap();
        write(&from.join("y.json"), &sealed()).unwrap();
        std::fs::write(from.join(".x.json.1.1.orch-tmp"), "half").unwrap();
        assert_eq!(archive_those(&from, &to, &|path| path.ends_with("x.json")).unwrap(), 1);
    }
    assert_eq!(archive(&from, &to).unwrap(), 1);
    assert_eq!(names(&to), ["x.json", "x.json.1", "y.json"]);
    assert!(matches!(read::<Body>(&to.join("x.json")), Sentinel::Present(s) if s.attempt == 1));
}

#[test]
fn whatever_is_at_halt_halts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("HALT");
    assert_eq!(halted(dir.path()), None);
    assert_eq!(halted(&dir.path().join("none")), None);
    std::fs::write(&path, "").unwrap();
    assert!(halted(dir.path()).unwrap().contains("without a reason"));
    std::fs::write(&path, "\n  deploys \u{1b}[31mbroken \nmore").unwrap();
    assert_eq!(halted(dir.path()).unwrap(), "deploys [31mbroken");
    std::fs::write(&path, r#"{"schema": 9, "reason": "restored"}"#).unwrap();
    assert_eq!(halted(dir.path()).unwrap(), "restored");
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert!(halted(dir.path()).is_some());
    lift_halt(dir.path()).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert!(halted(dir.path()).is_some());
    lift_halt(dir.path()).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(halted(dir.path()).is_some());
    std::fs::remove_dir(&path).unwrap();
    assert!(halt(dir.path(), "first").unwrap());
    assert!(!halt(dir.path(), "second").unwrap());
    assert_eq!(halted(dir.path()).unwrap(), "first");
    lift_halt(dir.path()).unwrap();
    lift_halt(dir.path()).unwrap();
    assert_eq!(halted(&dir.path().join("file")), None);
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(halted(&dir.path().join("file")).is_some(), "a state directory that is none");
}

/// The order that survives a kill: content is synced before the rename, the name before the function returns.
#[test]
fn it_is_synced_before_and_after_it_gets_its_name() {
    if let Some(path) = std::env::var_os("ORCH_TEST_SENTINEL") {
        write(Path::new(&path), &sealed()).unwrap();
        return;
    }
    let Ok(strace) = which::which("strace") else { return };
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let path = dir.path().join("s.json");
    let traced = Command::new(strace)
        .args(["-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "adapters::sentinel::tests::it_is_synced_before_and_after_it_gets_its_name"])
        .env("ORCH_TEST_SENTINEL", &path)
        .output()
        .unwrap();
    if !traced.status.success() && !path.exists() {
        // Tracing is not permitted here.
        return;
    }
    let log = std::fs::read_to_string(&log).unwrap();
    let calls: Vec<&str> = log.lines().filter(|l| l.contains("sync(") || l.contains("rename")).collect();
    let [content, named, folder] = calls[..] else { panic!("{log}") };
    assert!(content.contains("sync(") && content.contains(TEMPORARY), "{log}");
    assert!(named.contains("rename") && named.contains(TEMPORARY), "{log}");
    assert!(folder.contains("sync(") && !folder.contains("s.json"), "{log}");
}

proptest! {
    #[test]
    fn no_bytes_are_absent_or_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse::<Body>(&bytes);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("s"), &bytes).unwrap();
        prop_assert!(read::<Body>(&dir.path().join("s")).is_there());
        std::fs::write(dir.path().join("HALT"), &bytes).unwrap();
        let reason = halted(dir.path()).unwrap();
        prop_assert!(!reason.is_empty() && !reason.contains('\n'));
    }

    /// A truncated or altered sentinel is either unchanged or malformed; a cut never makes it another task's.
    #[test]
    fn a_cut_one_is_broken(cut in 0_usize..200) {
        let whole = json(&sealed()).unwrap();
        let part = whole.get(..cut).unwrap_or(&whole);
        match parse::<Body>(part) {
            Ok(read) => prop_assert!(read == sealed() && cut + 1 >= whole.len()),
            Err(fault) => prop_assert!(!fault.is_empty()),
        }
    }

    #[test]
    fn any_body_comes_back(task in any::<i64>(), attempt in any::<i64>(), head in ".*", fence in any::<i64>()) {
        let one = Sealed::new(TaskId(task), attempt, Body { head, fence });
        prop_assert_eq!(parse::<Body>(&json(&one).unwrap()), Ok(one));
    }
}

/// A folder in a file's place, a file in a folder's: named with what to do, and of the same kind as before.
#[test]
fn an_obstacle_to_a_file_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evidence/1/17-security-report.md");
    let told = |path: &Path, wanted: &str, there: &Path| {
        let error = put(path, b"x").unwrap_err();
        let said = Occupied::of(&error).unwrap_or_else(|| panic!("{error:?}")).to_string();
        assert_eq!(said, format!("{} is in the way: orch writes {wanted} there; move it away", there.display()));
        assert_eq!(error.to_string(), said);
        error.kind()
    };
    std::fs::create_dir_all(path.join("inner")).unwrap();
    assert_eq!(told(&path, "a file", &path), ErrorKind::IsADirectory);
    assert_eq!(names(path.parent().unwrap()), ["17-security-report.md"], "no temporary name is left");
    let folder = dir.path().join("evidence/2");
    for make in [
        &|| std::fs::write(&folder, "x").unwrap() as (),
        &|| std::os::unix::fs::symlink("nowhere", &folder).unwrap(),
        &|| rustix::fs::mkfifoat(CWD, &folder, rustix::fs::Mode::RUSR).unwrap(),
    ] as [&dyn Fn(); 3]
    {
        make();
        assert_eq!(told(&folder.join("a/17-security-report.md"), "a folder", &folder), ErrorKind::AlreadyExists);
        std::fs::remove_file(&folder).unwrap();
    }
    let nothing = std::io::Error::from(ErrorKind::StorageFull);
    assert!(Occupied::of(&nothing).is_none());
    // A pipe or a link in a file's place gives way to it.
    std::os::unix::fs::symlink("nowhere", &folder).unwrap();
    put(&folder, b"x").unwrap();
    assert!(folder.symlink_metadata().unwrap().is_file());
}
