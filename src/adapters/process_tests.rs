use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A shell that prints a line once it is ready.
fn shell(script: &str, mark: &str) -> (Child, Actor) {
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .env("ORCH_TEST_MARK", mark)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready");
    let actor = identify(i32::try_from(child.id()).unwrap()).unwrap();
    (child, actor)
}

fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

#[test]
fn a_name_may_hold_anything() {
    let tail = "S 7 1 2 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
    for name in ["sh", "a b", "x) R 1 (y", ")))", ""] {
        let stat = Stat::parse(format!("42 ({name}) {tail}\n").as_bytes()).unwrap();
        assert_eq!(stat, Stat { state: b'S', ppid: 7, group: 1, session: 2, threads: 1, start_ticks: 4711 }, "{name}");
    }
    let mut bytes = b"42 (\xff\xfe) ".to_vec();
    bytes.extend_from_slice(tail.as_bytes());
    assert!(Stat::parse(&bytes).is_some());
    for broken in ["", "42", "42 (x)", "42 (x) S 7 1", "42 (x) SS 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 1"] {
        assert_eq!(Stat::parse(broken.as_bytes()), None, "{broken}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = Stat::parse(&bytes);
    }
}

#[test]
fn i_am_alive_and_my_likes_are_not() {
    let own = me().unwrap();
    assert_eq!(life(&own), Life::Alive);
    assert_eq!(life(&Actor { start_ticks: own.start_ticks + 1, ..own.clone() }), Life::Dead, "a reused pid");
    assert_eq!(life(&Actor { boot_id: "another".into(), ..own.clone() }), Life::Dead, "another boot");
    assert_eq!(life(&Actor { pid: 0, ..own.clone() }), Life::Dead);
    assert_eq!(life(&Actor { pid: i32::MAX, ..own }), Life::Dead);
}

#[test]
fn a_zombie_is_dead_and_only_the_right_process_is_signalled() {
    let (mut child, actor) = shell("echo ready; exec sleep 600", &unique("zombie"));
    let stranger = Actor { start_ticks: actor.start_ticks + 1, ..actor.clone() };
    assert!(!signal(&stranger, Signal::KILL).unwrap());
    assert_eq!(life(&actor), Life::Alive);
    assert!(signal(&actor, Signal::KILL).unwrap());
    assert!(await_end(&actor, Duration::from_secs(20)));
    // Not reaped yet, so it is a zombie.
    assert!(Stat::read(actor.pid).unwrap().is_zombie());
    assert_eq!(life(&actor), Life::Dead);
    assert!(!signal(&actor, Signal::KILL).unwrap());
    child.wait().unwrap();
    assert_eq!(life(&actor), Life::Dead);
}

#[test]
fn marks_and_descent_are_seen_and_the_tree_ends_whatever_it_ignores() {
    let mark = unique("tree");
    // A grandchild in a session of its own; all ignore TERM.
    let script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo ready; while :; do sleep 600; done' & wait; wait";
    let (mut child, actor) = shell(script, &mark);
    let find = || marked("ORCH_TEST_MARK", &mark);
    assert!(find().len() >= 2 && find().contains(&actor));
    // Who gave the mark is no younger than any that has it.
    let since = |from: Actor| belonging("ORCH_TEST_MARK", std::slice::from_ref(&mark), &[], &[from]);
    assert_eq!(since(me().unwrap()), find());
    assert!(since(Actor { start_ticks: u64::MAX, ..actor.clone() }).is_empty());
    assert_eq!(since(Actor { start_ticks: u64::MAX, boot_id: "another".into(), ..actor.clone() }), find());
    assert!(find().iter().all(|a| a.pid != i32::try_from(std::process::id()).unwrap()));
    let below = descendants(actor.pid, &HashSet::new());
    assert!(!below.is_empty() && !below.contains(&actor));
    assert!(descendants(i32::try_from(std::process::id()).unwrap(), &HashSet::new()).contains(&actor));
    assert_eq!(descendants_of(std::slice::from_ref(&actor)).len(), below.len());
    let earlier = Actor { start_ticks: actor.start_ticks - 1, ..actor.clone() };
    assert!(descendants_of(&[earlier]).is_empty(), "another process has its number by now");
    assert!(marked("ORCH_TEST_MARK", &mark[..mark.len() - 1]).is_empty(), "a prefix of a value is another value");

    let sparing = Sparing { unreaped: vec![actor.pid], without_term: Vec::new() };
    end_sparing(&find, Duration::from_millis(200), Duration::from_secs(30), &sparing).unwrap();
    assert!(find().is_empty());
    assert!(below.iter().all(|a| life(a) == Life::Dead));
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(child.wait().unwrap().signal(), Some(9), "its exit was left for its owner");
}

#[test]
fn one_that_heeds_term_is_not_killed_and_a_stopped_one_hears_it() {
    let mark = unique("polite");
    let (mut child, actor) = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done", &mark);
    assert!(signal(&actor, Signal::STOP).unwrap());
    let find = || marked("ORCH_TEST_MARK", &mark);
    let sparing = Sparing { unreaped: vec![actor.pid], without_term: Vec::new() };
    end_sparing(&find, Duration::from_secs(30), Duration::from_secs(60), &sparing).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn what_can_not_end_is_named_at_the_bound() {
    let own = me().unwrap();
    // `find` always returns a living process that is never signalled: the grace is longer than the bound.
    let mark = unique("bound");
    let (mut child, actor) = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done", &mark);
    let one = actor.clone();
    let left = end_all(&move || vec![one.clone()], Duration::from_secs(600), Duration::from_millis(100)).unwrap_err();
    assert_eq!(left.left, vec![actor.clone()]);
    assert!(left.to_string().contains(&actor.pid.to_string()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(life(&own), Life::Alive);
}

#[test]
fn nothing_to_end_is_no_fault() {
    end_all(&Vec::new, Duration::ZERO, Duration::ZERO).unwrap();
}

#[test]
fn a_session_of_its_own_is_made_once_and_not_by_the_leader_of_a_group() {
    use std::os::unix::process::CommandExt;
    if let Some(leader) = std::env::var_os("ORCH_TEST_SESSION") {
        let made = new_session();
        if leader == "leader" {
            assert!(made.unwrap_err().to_string().contains("through the executor"));
        } else {
            made.unwrap();
            let own = getpid().as_raw_nonzero().get();
            assert_eq!(Stat::read(own).unwrap().session, own);
            new_session().unwrap();
        }
        return;
    }
    let name = "adapters::process::tests::a_session_of_its_own_is_made_once_and_not_by_the_leader_of_a_group";
    for role in ["leader", "member"] {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name]).env("ORCH_TEST_SESSION", role).stdin(Stdio::null());
        if role == "leader" {
            again.process_group(0);
        }
        let ended = again.output().unwrap();
        assert!(ended.status.success(), "{role}: {}", String::from_utf8_lossy(&ended.stdout));
    }
}

/// The first thread may end before the others: the process then looks like a zombie but still runs.
#[test]
fn threads_without_their_first_are_no_zombie() {
    let stat = |threads: u32| {
        let line = format!("9 (x) Z 1 9 9 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 {threads} 0 5 0 0");
        Stat::parse(line.as_bytes()).unwrap()
    };
    assert!(stat(1).is_zombie() && stat(0).is_zombie() && !stat(2).is_zombie());
}

#[test]
fn a_session_is_known_by_number_and_folder_also_when_its_leader_is_gone() {
    let here = tempfile::tempdir().unwrap();
    let place = here.path().display();
    assert!(Command::new("mkfifo").arg(here.path().join("go")).status().unwrap().success());
    // One process of the session works here, one elsewhere; neither carries the mark.
    let script = format!(
        "exec setsid sh -c 'cd {place}; env -i sleep 600 & cd /; env -i sleep 600 & echo ready; read go < {place}/go'"
    );
    let (mut child, leader) = shell(&script, &unique("session"));
    let earlier = Actor { start_ticks: leader.start_ticks - 1, ..leader.clone() };
    assert_eq!(of_session(&leader, here.path()).len(), 1);
    assert!(of_session(&earlier, here.path()).is_empty(), "another process has the number of its leader by now");
    std::fs::write(here.path().join("go"), "\n").unwrap();
    child.wait().unwrap();
    let anywhere = || of_session(&leader, std::path::Path::new("/"));
    assert_eq!((of_session(&leader, here.path()).len(), anywhere().len()), (1, 2));
    let younger = Actor { start_ticks: u64::MAX, ..leader.clone() };
    assert!(of_session(&younger, here.path()).is_empty(), "what is older than the leader is not of its session");
    end_all(&anywhere, Duration::from_secs(1), Duration::from_secs(20)).unwrap();
    assert!(anywhere().is_empty());
}
