//! git with a remote that is slow, or requires a password.

use crate::support::git::{World, head, raw};
use crate::support::http::{Reply, Server};
use orch::adapters::git::{Credential, GitError, Mirror};
use orch::model::refusal::Refusal;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const CHILD: &str = "ORCH_TEST_FETCHING_CHILD";

/// Not a test of its own: the process that the next test kills in the middle of a fetch.
#[test]
fn child_that_fetches() {
    if let Ok(words) = std::env::var(CHILD) {
        let (path, remote) = words.split_once('|').unwrap();
        let git = orch::adapters::git::Git::new("git").unwrap();
        let _ = Mirror::open(&git, &PathBuf::from(path), remote, None).unwrap().fetch();
    }
}

#[test]
fn rule_29_after_a_kill_the_lock_is_free_when_the_orphaned_git_ends_and_not_before() {
    let world = World::new();
    let path = world.path("repos/r.git");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = format!("http://{}/r.git", listener.local_addr().unwrap());
    let mirror = Mirror::open(&world.git, &path, &remote, None).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["adapter_git_remote::child_that_fetches", "--exact"])
        .env(CHILD, format!("{}|{remote}", path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Its git is connected and waits for an answer.
    let (connection, _) = listener.accept().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let blob = raw(&world.path("remote.git"), &["rev-parse", "main"]);
    raw(mirror.path(), &["fetch", "-q", &world.remote(), "main"]);
    let sha = orch::model::ids::Sha::parse(&blob).unwrap();
    let early = mirror.clone().with_lock_wait(Duration::from_millis(150)).keep_ref("refs/orch/runs/1", &sha);
    assert!(matches!(early, Err(GitError::Busy { .. })), "{early:?}");
    drop(connection);
    drop(listener);
    mirror.with_lock_wait(Duration::from_secs(60)).keep_ref("refs/orch/runs/1", &sha).unwrap();
}

/// The processes with this name (empty: any) that have a text in their arguments or environment.
fn showing(name: &str, text: &str) -> Vec<String> {
    let has = |bytes: Vec<u8>| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let of = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let comm = String::from_utf8_lossy(&of("comm")).trim().to_owned();
        if (name.is_empty() || name.starts_with(&comm) && !comm.is_empty())
            && (has(of("environ")) || has(of("cmdline")))
        {
            found.push(comm);
        }
    }
    found
}

#[test]
fn a_password_goes_to_the_remote_and_into_no_error_or_file() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = format!("http://{}/r.git", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut authorization = String::new();
            for line in BufReader::new(&stream).lines() {
                let line = line.unwrap();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("Authorization: ") {
                    authorization = value.to_owned();
                }
            }
            // While git waits for the answer: which processes show the password?
            if !authorization.is_empty() {
                assert!(!showing("git-remote-http", "r.git").is_empty(), "git's own process is seen");
                assert_eq!(showing("", "s3cret-word"), Vec::<String>::new());
            }
            let more = "WWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let status = if authorization.is_empty() { "401 Unauthorized" } else { "403 Forbidden" };
            write!(stream, "HTTP/1.1 {status}\r\n{more}").unwrap();
            seen.push(authorization.clone());
            if !authorization.is_empty() {
                return seen;
            }
        }
        seen
    });
    let credential = Credential::new("orch", "s3cret-word");
    let mirror = Mirror::open(&world.git, &world.path("r.git"), &remote, Some(credential)).unwrap();
    let error = mirror.fetch().unwrap_err();
    let denied = Refusal::Denied { scope: None };
    assert!(matches!(&error, GitError::Refused { refusal, .. } if *refusal == denied), "{error}");
    assert!(!format!("{error} {error:?} {mirror:?}").contains("s3cret-word"));
    // base64("orch:s3cret-word")
    assert_eq!(server.join().unwrap(), ["", "Basic b3JjaDpzM2NyZXQtd29yZA=="]);
    let mut config = String::new();
    std::fs::File::open(mirror.path().join("config")).unwrap().read_to_string(&mut config).unwrap();
    assert!(!config.contains("s3cret-word") && !config.contains("orch:"), "{config}");
}

#[test]
fn a_submodule_stays_as_it_is_committed() {
    let world = World::new();
    let inner = head(&world.person());
    raw(&world.person(), &["update-index", "--add", "--cacheinfo", &format!("160000,{inner},vendor/lib")]);
    raw(&world.person(), &["commit", "-q", "-m", "submodule"]);
    let base = head(&world.person());
    world.push("main");
    let mirror = world.mirror();
    assert_eq!(mirror.subject(&base).unwrap(), "submodule");
    assert_eq!(mirror.read_file(&base, "vendor/lib").unwrap(), None);
}

#[test]
fn tidying_drops_no_object() {
    let world = World::new();
    let gone = world.commit(&[("gone", "x")], "on a branch that is deleted");
    world.push("b");
    let mirror = world.mirror();
    assert_eq!(mirror.remote_branches().unwrap().iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["b", "main"]);
    raw(&world.person(), &["push", "-q", "origin", ":b"]);
    mirror.fetch().unwrap();
    mirror.tidy().unwrap();
    mirror.tidy().unwrap();
    assert!(mirror.exists(&gone).unwrap());
    assert_eq!(mirror.list_paths(&gone, &["src/".to_owned()]).unwrap().len(), 1);
    assert!(mirror.list_paths(&gone, &["../x".to_owned()]).unwrap().is_empty());
    // An unavailable mirror is not a missing commit.
    std::fs::rename(mirror.path(), world.path("away")).unwrap();
    std::fs::create_dir(mirror.path()).unwrap();
    assert!(mirror.exists(&gone).is_err());
    std::fs::write(mirror.path().join("rest"), "").unwrap();
    let error = Mirror::open(&world.git, mirror.path(), &world.remote(), None).unwrap_err().to_string();
    assert!(error.contains("move it away"), "{error}");
}

/// A web page instead of a git server is an outage, and nothing counts as missing because of it (RULE-8); a real
/// server's empty repository is empty.
#[test]
fn rule_8_a_page_in_a_git_servers_place_is_no_repository_without_branches() {
    for page in ["<html>please sign in</html>", ""] {
        let world = World::new();
        let server = Server::start(move |_| Reply::html(200, page));
        let remote = format!("{}/team/app.git", server.url());
        let mirror = Mirror::open(&world.git, &world.path("repos/r.git"), &remote, None).unwrap();
        let no_word = [
            mirror.default_branch().err(),
            mirror.remote_head("main").err(),
            mirror.remote_heads(&["main", "feature/x"]).err(),
            mirror.remote_branches().err(),
        ];
        for e in no_word {
            assert!(matches!(&e, Some(GitError::Unreachable { reason, .. }) if reason.contains("sign-in")), "{e:?}");
        }
    }
    // Advertised by a smart server: a repository without a branch.
    let world = World::new();
    let none = "0".repeat(40);
    let empty = format!("001e# service=git-upload-pack\n00000047{none} capabilities^{{}}\0multi_ack\n0000");
    let server = Server::start(move |seen| match seen.query("service") {
        Some(_) => Reply {
            headers: vec![("Content-Type".to_owned(), "application/x-git-upload-pack-advertisement".to_owned())],
            ..Reply::text(200, &empty)
        },
        None => Reply::unexpected("only the service is asked for"),
    });
    let remote = format!("{}/team/app.git", server.url());
    let mirror = Mirror::open(&world.git, &world.path("repos/r.git"), &remote, None).unwrap();
    assert_eq!(mirror.remote_branches().unwrap(), []);
    assert_eq!(mirror.remote_head("main").unwrap(), None);
    assert!(matches!(mirror.default_branch(), Err(GitError::NotFound { .. })));
}
