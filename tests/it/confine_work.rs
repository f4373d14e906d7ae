//! BND-2: what must still work inside, how a run ends, its limits, and which network it reaches.

use crate::support::attacks::{self, Held as Played};
use crate::support::confined::{Place, engine};
use orch::adapters::child::{ChildError, Control, EndedBy, Event};
use orch::adapters::confine::{self, Bounds, Engine};
use orch::model::confine::{Choice, Held, Limits, Mode, Network, Policy};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

const BOTH: [Choice; 2] = [Choice::Bubblewrap, Choice::Landlock];

/// Each engine that can confine runs here, with its own place.
fn each(test: impl Fn(&Place, &Engine)) {
    for choice in BOTH {
        let place = Place::new();
        if let Some(engine) = engine(choice, Network::Open, &place) {
            test(&place, &engine);
        }
    }
}

/// A shell script in the checkout.
fn sh(script: &str) -> [&str; 3] {
    ["/bin/sh", "-c", script]
}

#[test]
fn ordinary_work_continues_inside() {
    each(|place, engine| {
        let script = r#"set -eu
            cat > from-stdin; test "$(wc -c < from-stdin)" -eq 300000
            git init -q . && git add from-stdin
            git -c user.name=a -c user.email=a@example.org commit -q -m one
            test "$(git rev-list --count HEAD)" = 1
            mkdir -p 'grüße/日本 語' && echo x > 'grüße/日本 語/ö' && test "$(cat gr*/*/ö)" = x
            deep=$(printf 'd%.0s' $(seq 200)); mkdir -p $deep/$deep/$deep/$deep && echo y > $deep/$deep/$deep/$deep/f
            t=$(mktemp) && echo z > "$t" && mv "$t" moved && test "$(cat moved)" = z
            test "$(echo piped | tr a-z A-Z | (sleep 0 & wait; cat))" = PIPED
            perl -e 'fork or exit 3; wait; exit($? >> 8 == 3 ? 0 : 1)'
            echo '#!/bin/sh' > s && chmod 755 s && ./s
            echo > /dev/null; head -c 8 /dev/urandom > r; test "$(cat /proc/self/comm)" = cat
            touch "$HOME/mine" "$TMPDIR/mine"
            test "$(umask)" = 0022; test "$(ulimit -c)" = 0; test "$(cat /proc/self/oom_score_adj)" -ge 500
            grep -q 'NoNewPrivs:.1' /proc/self/status; grep -q 'CapEff:.0*$' /proc/self/status
            head -c 10000000 /dev/zero | tr '\0' o
            exit 7"#;
        let mut spec = place.spec(place.run(engine), &sh(script));
        spec.stdin = Some(place.write("state/prompt.md", &"p".repeat(300_000)));
        let exit = place.go(&spec);
        assert_eq!((exit.code, exit.stdout_bytes), (Some(7), 10_000_000), "{engine:?}: {}", place.err());
        assert!(place.path("area/home/mine").exists() && place.path("area/tmp/mine").exists());
    });
}

#[test]
fn a_signal_is_recorded_as_128_and_its_number() {
    each(|place, engine| {
        let exit = place.go(&place.spec(place.run(engine), &sh("kill -9 $$")));
        assert_eq!((exit.code, exit.signal), (Some(137), None), "{engine:?}");
    });
}

#[test]
fn what_is_asked_to_end_may_say_its_last_words() {
    each(|place, engine| {
        let script = "trap 'echo bye; exit 5' TERM; echo up; sleep 600 & wait";
        let spec = place.spec(place.run(engine), &sh(script));
        let exit = place.run_with(&spec, &mut |event| match event {
            Event::Stdout(_) => Control::End("enough".to_owned()),
            Event::Starting | Event::Started(_) | Event::Stderr(_) | Event::Tick => Control::Go,
        });
        let exit = exit.unwrap();
        assert_eq!(exit.ended_by, Some(EndedBy::Asked("enough".to_owned())));
        assert_eq!((exit.code, place.out().as_str()), (Some(5), "up\nbye\n"), "{engine:?}");
        let (name, value) = &spec.mark;
        assert!(orch::adapters::process::marked(name, value).is_empty());
    });
}

/// A crash of the supervisor must not hide the run: its mark is found in processes of another account and namespace,
/// too.
#[test]
fn the_mark_is_seen_from_outside() {
    each(|place, engine| {
        let spec = place.spec(place.run(engine), &sh("sleep 600 & echo up; wait"));
        let mut seen = 0;
        let _ = place.run_with(&spec, &mut |event| match event {
            Event::Stdout(_) => {
                seen = orch::adapters::process::marked(&spec.mark.0, &spec.mark.1).len();
                Control::End("seen".to_owned())
            }
            Event::Starting | Event::Started(_) | Event::Stderr(_) | Event::Tick => Control::Go,
        });
        // The shell and its sleep, in addition to the engine's own.
        assert!(seen >= 2, "{engine:?}: {seen}");
    });
}

#[test]
fn an_engine_that_fails_is_no_red_run() {
    let place = Place::new();
    let engine = Engine::Bubblewrap { program: "/bin/false".into(), modern: true };
    let answers = place.write("state/answers/bubblewrap.json", "[]");
    let spec = place.spec(place.run(&engine), &sh("touch ran"));
    match place.run_with(&spec, &mut |_| Control::Go) {
        Err(ChildError::Confinement { engine: Held::Bubblewrap, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(!answers.exists(), "the answer is still believed");
    each(|place, engine| {
        let spec = place.spec(place.run(engine), &["no-such-program-here"]);
        let said = place.run_with(&spec, &mut |_| Control::Go);
        assert!(matches!(said, Err(ChildError::NotFound { .. })), "{engine:?}: {said:?}");
        // One of its own folders is missing: it does not run with less.
        let mut run = place.run(engine);
        run.bounds.home = place.path("area/gone");
        let said = place.run_with(&place.spec(run, &sh("touch ran")), &mut |_| Control::Go);
        assert!(matches!(said, Err(ChildError::Confinement { .. })), "{engine:?}: {said:?}");
        assert!(!place.path("area/checkout/ran").exists());
    });
}

#[test]
fn what_is_above_a_bound_is_ended_with_its_name() {
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    for (limits, script, named) in [
        (limits(|l| l.memory_mb = 64), "perl -e '$x = \"x\" x 200_000_000; sleep 600'", "confine.memory_mb is 64"),
        (
            limits(|l| l.processes = 8),
            "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 600 & done; wait",
            "confine.processes is 8",
        ),
        (limits(|l| l.files = 50), "for i in $(seq 60); do : > f$i; done; sleep 600", "confine.files"),
        (
            limits(|l| l.disk_mb = 8),
            "for i in 1 2 3; do head -c 5000000 /dev/urandom > b$i; done; sleep 600",
            "confine.disk_mb is 8",
        ),
    ] {
        each(|place, engine| {
            let mut run = place.run(engine);
            run.bounds.policy.limits = limits;
            let exit = place.go(&place.spec(run, &sh(script)));
            let Some(EndedBy::Asked(why)) = exit.ended_by else { panic!("{engine:?}: {exit:?}") };
            assert!(why.contains(named), "{engine:?}: {why}");
        });
    }
}

#[test]
fn frozen_paths_and_further_ones_are_what_they_are_said_to_be() {
    let place = Place::new();
    let Some(engine) = engine(Choice::Bubblewrap, Network::Open, &place) else { return };
    let frozen = place.write("area/checkout/.ci/check.sh", "true\n");
    place.own(&frozen);
    place.write("given/data", "data\n");
    std::fs::create_dir_all(place.path("shared")).unwrap();
    place.own(&place.path("shared"));
    let mut run = place.run(&engine);
    run.bounds.frozen = vec![frozen.clone(), place.path("area/checkout/gone")];
    run.bounds.policy.read = vec![place.path("given"), PathBuf::from("/nonexistent")];
    run.bounds.policy.write = vec![place.path("shared")];
    let at = |name: &str| place.path(name).display().to_string();
    let script = format!(
        "cat {0}/data; ! echo x 2> /dev/null > {0}/new; echo s > {1}/new; ! echo bad 2> /dev/null > .ci/check.sh; \
         rm -f .ci/check.sh 2> /dev/null; cat .ci/check.sh; ls /tmp > /dev/null; ! touch /new 2> /dev/null; ! touch /dev/new 2> /dev/null; \
         echo s > /dev/shm/s; ls {2} 2> /dev/null || echo hidden",
        at("given"),
        at("shared"),
        at("state"),
    );
    let exit = place.go(&place.spec(run, &sh(&script)));
    assert_eq!((exit.code, place.out().as_str()), (Some(0), "data\ntrue\nhidden\n"), "{}", place.err());
    assert!(place.path("shared/new").exists());
}

/// One request to `target` through the proxy, or without one.
fn asks(target: &str, directly: bool) -> String {
    let connect = if directly { target } else { "127.0.0.1:3128" };
    format!(
        r#"use IO::Socket::INET; my $s = IO::Socket::INET->new("{connect}") or do {{ print "none: $!"; exit 0 }};
        print $s "CONNECT {target} HTTP/1.1\r\n\r\n" unless {};
        print $s "hello\n"; $s->shutdown(1); local $/; print <$s>;"#,
        u8::from(directly)
    )
}

/// A server that returns one line, and its address.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.set_read_timeout(Some(Duration::from_secs(10)));
            let mut text = String::new();
            let _ = client.read_to_string(&mut text);
            let _ = client.write_all(format!("heard {text}").as_bytes());
        }
    });
    at
}

#[test]
fn hosts_are_reached_by_the_proxy_and_no_others() {
    let place = Place::new();
    let (listed, other) = (server(), server());
    let hosts = vec![listed.parse().unwrap(), "Api.Example.org:443".parse().unwrap()];
    let Some(engine) = engine(Choice::Bubblewrap, Network::Hosts(hosts.clone()), &place) else { return };
    let go = |network: &Network, target: &str, directly: bool| {
        let mut run = place.run(&engine);
        run.bounds.policy.network = network.clone();
        let exit = place.go(&place.spec(run, &["/usr/bin/perl", "-e", &asks(target, directly)]));
        assert_eq!(exit.code, Some(0), "{}", place.err());
        (place.out(), place.err())
    };
    let hosts = Network::Hosts(hosts);
    let (out, err) = go(&hosts, &listed, false);
    assert!(out.contains("200") && out.contains("heard hello"), "{out}{err}");
    for (network, target, why) in [
        (&hosts, other.as_str(), "not in confine.hosts"),
        (&hosts, "unlisted.invalid:443", "not in confine.hosts"),
        (&Network::Internet, listed.as_str(), "is this machine, or not on the internet"),
        (&Network::Internet, "[::ffff:127.0.0.1]:80", "is this machine, or not on the internet"),
        (&Network::Internet, "0177.0.0.1:80", "orch: refused"),
        (&Network::Internet, "2130706433:80", "orch: refused"),
        (&Network::Internet, "localhost:80", "is this machine, or not on the internet"),
        (&Network::Internet, "169.254.169.254:80", "is this machine, or not on the internet"),
    ] {
        let (out, err) = go(network, target, false);
        assert!(!out.contains(" 200 ") && !out.contains("heard"), "{target}: {out}");
        assert!(err.contains(&format!("orch: refused CONNECT {target}: ")) && err.contains(why), "{target}: {err}");
        // By its kind: the port of a test's own server differs each time.
        let shown =
            target.replace(&listed, "a service of this machine").replace(&other, "a service that is not in hosts");
        attacks::seen("through the proxy", &format!("reach {shown}"), Played::Bubblewrap, false);
    }
    // The proxy is the only way out, and with `closed` not even that.
    assert!(go(&Network::Internet, &listed, true).0.starts_with("none"));
    assert!(go(&Network::Closed, &listed, true).0.starts_with("none"));
    assert!(go(&Network::Closed, &listed, false).0.starts_with("none"));
    assert!(go(&Network::Open, &listed, true).0.contains("heard hello"));
}

/// `doctor` uses the same proxy as runs, and reaches only what that allows.
#[test]
fn whether_a_service_is_reached_is_asked_through_the_proxy() {
    let place = Place::new();
    let listed = server();
    let hosts = Network::Hosts(vec![listed.parse().unwrap()]);
    let ask = |network: &Network, host: &str| {
        confine::reaches(&place.probe().program, network, &host.parse().unwrap()).unwrap_err()
    };
    assert!(ask(&hosts, "unlisted.invalid:443").contains("not in confine.hosts"));
    assert!(ask(&Network::Internet, &listed).contains("this machine, or not on the internet"));
    // It is reached, but does not speak TLS.
    let said = ask(&hosts, &listed);
    assert!(said.contains("TLS with"), "{said}");
}

#[test]
fn landlock_closes_the_network_or_leaves_it_open() {
    let place = Place::new();
    let Some(engine) = engine(Choice::Landlock, Network::Closed, &place) else { return };
    let at = server();
    for (network, reached) in [(Network::Closed, false), (Network::Open, true)] {
        let mut run = place.run(&engine);
        run.bounds.policy.network = network;
        place.go(&place.spec(run, &["/usr/bin/perl", "-e", &asks(&at, true)]));
        assert_eq!(place.out().contains("heard hello"), reached, "{}", place.out());
    }
    let mut run = place.run(&engine);
    run.bounds.policy.network = Network::Internet;
    let said = place.run_with(&place.spec(run, &sh("true")), &mut |_| Control::Go);
    assert!(matches!(said, Err(ChildError::Confinement { .. })), "{said:?}");
}

#[test]
fn the_wrapper_gets_its_folders_and_the_command() {
    let place = Place::new();
    let wrapper = ["/usr/bin/env", "WHERE={worktree}:{tmp}:{other}"].map(str::to_owned).to_vec();
    let policy = Policy { choice: Choice::Command, command: wrapper, ..Policy::default() };
    let engine = confine::engine(&policy, &place.probe()).unwrap();
    let exit = place.go(&place.spec(place.run(&engine), &sh("echo $WHERE; ulimit -c")));
    let at = |name: &str| place.path(name).display().to_string();
    let said = format!("{}:{}:{{other}}\n0\n", at("area/checkout"), at("area/tmp"));
    assert_eq!((exit.code, place.out()), (Some(0), said), "{}", place.err());
    let gone = Policy { command: vec!["/nonexistent/wrapper".to_owned()], ..policy };
    assert!(confine::engine(&gone, &place.probe()).is_err());
    let off = Policy { mode: Mode::Off, ..gone.clone() };
    assert_eq!(confine::engine(&off, &place.probe()), Ok(Engine::None));
    let auto = Policy { mode: Mode::Auto, ..gone };
    assert_eq!(confine::engine(&auto, &place.probe()), Ok(Engine::None));
}

#[test]
fn a_sandbox_of_the_runtime_s_own_gets_its_namespaces_and_nobody_else() {
    let place = Place::new();
    let Some(engine) = engine(Choice::Bubblewrap, Network::Open, &place) else { return };
    for own_sandbox in [true, false] {
        let run = place.run(&engine);
        let run = confine::Run { bounds: Bounds { own_sandbox, ..run.bounds }, ..run };
        let exit = place.go(&place.spec(run, &sh("unshare --user true")));
        assert_eq!(exit.code == Some(0), own_sandbox, "{}", place.err());
    }
}

#[test]
fn an_answer_is_remembered_and_a_no_not_for_long() {
    let place = Place::new();
    let Some(_) = engine(Choice::Bubblewrap, Network::Open, &place) else { return };
    let policy = Policy { choice: Choice::Bubblewrap, ..Policy::default() };
    let file = place.path("state/answers/bubblewrap.json");
    let mut all: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    all[0]["said"] = serde_json::json!({"no": {"why": "planted"}});
    std::fs::write(&file, all.to_string()).unwrap();
    let no = confine::engine(&policy, &place.probe()).unwrap_err();
    assert!(no.why.contains("planted") && !no.way_out.is_empty(), "{no}");
    all[0]["at"] = serde_json::json!(all[0]["at"].as_i64().unwrap() - 11);
    std::fs::write(&file, all.to_string()).unwrap();
    confine::engine(&policy, &place.probe()).unwrap();
}
