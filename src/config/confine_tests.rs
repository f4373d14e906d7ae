use super::super::load::parse;
use super::*;
use std::path::Path;

fn read_with(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut env: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    env.insert("HOME".into(), "/home/me".into());
    env.insert("PATH".into(), "/usr/bin:/srv/tools".into());
    let projects = "\nprojects: [{key: A, git: {remote: /srv/a}}, {key: B, git: {remote: /srv/b}, PROJECT}]\n";
    let projects = match text.split_once("PROJECT ") {
        Some((_, own)) => projects.replace("PROJECT", own.trim()),
        None => projects.replace(", PROJECT", ""),
    };
    let top = text.split("PROJECT ").next().unwrap_or_default();
    parse(&format!("{top}{projects}"), Path::new("/etc/orch"), None, &env, Path::new("/cwd"))
}

fn read(text: &str) -> Result<Config, ConfigError> {
    read_with(text, &[])
}

fn refused(text: &str, parts: &[&str]) {
    let e = read(text).unwrap_err();
    for part in parts {
        assert!(e.message.contains(part), "{text}: {} lacks {part}", e.message);
    }
    assert!(!parts.is_empty());
}

#[test]
fn the_default_requires_an_engine_and_a_project_has_what_the_top_says() {
    let c = read("").unwrap();
    assert_eq!(c.confinement(&c.projects[0], None), Policy::default());
    let c =
        read("confine: {mode: auto, network: hosts, hosts: [Api.example.org:443], read: [~/x], disk_mb: 7}").unwrap();
    let p = c.confinement(&c.projects[1], Some("claude"));
    assert_eq!((p.mode, p.limits.disk_mb), (Mode::Auto, 7));
    assert_eq!(p.network, Network::Hosts(vec!["api.example.org:443".parse().unwrap()]));
    assert_eq!(p.read, [Path::new("/home/me/x")]);
    assert_eq!(read("confine: {mode: off}").unwrap().confine.mode, Mode::Off);
}

#[test]
fn bnd_2_a_project_or_a_runtime_is_only_stricter_and_the_refusal_has_both_values() {
    let c = read("confine: {mode: auto, read: [/x, /y]}\nPROJECT confine: {mode: required, read: [/y]}").unwrap();
    assert_eq!(c.confinement(&c.projects[1], None).mode, Mode::Required);
    assert_eq!(c.confinement(&c.projects[0], None).mode, Mode::Auto);
    refused("PROJECT confine: {mode: auto}", &["projects.B.confine.mode is auto", "confine.mode is required"]);
    refused(
        "confine: {network: internet}\nPROJECT confine: {network: open}",
        &["projects.B.confine.network is open", "confine.network is internet"],
    );
    refused("PROJECT confine: {disk_mb: 20000}", &["20000", "10240"]);
    refused("PROJECT confine: {read: [/z]}", &["[/z]", "[]"]);
    refused("PROJECT confine: {uid_base: 2000000001}", &["uid_base"]);
    refused("confine: {engine: command, command: [w]}\nPROJECT confine: {command: [x]}", &["top level alone"]);
    refused(
        "confine: {engine: bubblewrap}\nruntimes: {x: {command: [x], confine: {engine: landlock}}}",
        &["runtimes.x.confine.engine is landlock", "confine.engine is bubblewrap"],
    );
    let c = read("runtimes: {x: {command: [x], confine: {network: closed}}}\nPROJECT confine: {files: 9}").unwrap();
    let p = c.confinement(&c.projects[1], Some("x"));
    assert_eq!((p.network, p.limits.files), (Network::Closed, 9));
    assert_eq!(c.confinement(&c.projects[1], None).network, Network::Open);
}

#[test]
fn bnd_2_a_variable_replaces_the_value_at_the_top_before_the_comparison() {
    let text = "confine: {mode: off}\nPROJECT confine: {mode: auto}";
    assert_eq!(read_with(text, &[]).unwrap().projects[1].confine.mode, Mode::Auto);
    let e = read_with(text, &[("ORCH_CONFINE_MODE", "required")]).unwrap_err();
    assert!(e.message.contains("projects.B.confine.mode is auto, and confine.mode is required"), "{}", e.message);
    // Never a project's own.
    let text = "PROJECT confine: {network: closed}";
    let c = read_with(text, &[("ORCH_CONFINE_NETWORK", "internet"), ("ORCH_CONFINE_READ", "/x, /y")]).unwrap();
    assert_eq!(c.projects[1].confine.network, NetworkWord::Closed);
    assert_eq!(c.projects[0].confine.network, NetworkWord::Internet);
    assert_eq!(c.confine.read.0, ["/x", "/y"]);
    assert_eq!(c.source("confine.read"), "env ORCH_CONFINE_READ");
}

#[test]
fn bnd_2_a_path_that_runs_can_replace_is_refused_with_both_names() {
    for (read_, write) in [("[/srv/shared/x]", "[/srv/shared]"), ("[]", "[/srv/shared, /srv/shared/x]")] {
        let text = format!("confine: {{read: {read_}, write: {write}}}");
        refused(&text, &["/srv/shared/x", "below /srv/shared of confine.write"]);
    }
    read("confine: {read: [/srv, /srv/shared], write: [/srv/shared]}").unwrap();
    // A link that leads there.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    std::fs::create_dir(dir.path().join("real/x")).unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    refused(&format!("confine: {{read: [{}], write: [{}]}}", at("link/x"), at("real")), &["link/x", "confine.write"]);
}

#[test]
fn bnd_2_what_opens_too_much_is_refused_with_both_names() {
    let secret = "notify: {webhook: {url: 'http://x', token: {file: /srv/keys/hook}}}\n";
    for (path, what) in [
        ("~/.local/state/orch", "the state directory"),
        ("~/.local/state/orch/runs", "the state directory"),
        ("~/.local/state", "the state directory"),
        ("~/.local/state/orch-area/a", "the folder of all runs"),
        ("/", "a socket"),
        ("/srv/keys", "the secret file of notify.webhook.token"),
        ("/srv/keys/hook", "the secret file of notify.webhook.token"),
        ("/run", "a socket that means root"),
        ("/var/run/docker.sock", "a socket that means root"),
        ("/srv/x/docker.sock", "a socket that means root"),
        ("/proc", "where the processes of this machine are seen"),
        ("/proc/sys", "where the processes of this machine are seen"),
        ("/dev", "where terminals are"),
    ] {
        for key in ["read", "write"] {
            refused(&format!("{secret}confine: {{{key}: ['{path}']}}"), &[&format!("confine.{key} names"), what]);
        }
    }
    for (path, what) in [
        ("/home/me", "the account's settings"),
        ("/home/me/.ssh/x", "the account's settings"),
        ("/home/me/.cargo", "a tool chain"),
        ("/srv/tools", "a folder of PATH"),
        ("/srv", "of PATH"),
        ("/srv/a", "a repository or board"),
        ("/etc/systemd/system", "starts programs"),
        ("/etc", "starts programs"),
        ("/sys/fs/cgroup", "where the kernel is set"),
    ] {
        let allowed = read(&format!("confine: {{read: ['{path}']}}"));
        assert!(allowed.is_ok() || path == "/home/me", "reading {path}: {allowed:?}");
        let e = read(&format!("confine: {{write: ['{path}']}}")).unwrap_err();
        assert!(
            e.message.contains(&format!("names {path}"))
                && (path == "/srv" || e.message.contains(what) || path == "/home/me"),
            "{}",
            e.message
        );
    }
    for fine in ["/tmp/shared", "/etc/orch/agent.sh", "/home/me/data", "/dev/kvm"] {
        read(&format!("confine: {{read: ['{fine}'], write: ['{fine}']}}")).unwrap();
    }
}

#[test]
fn a_link_is_judged_by_what_it_leads_to() {
    let dir = tempfile::tempdir().unwrap();
    let (state, link) = (dir.path().join("state"), dir.path().join("link"));
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::symlink(&state, &link).unwrap();
    refused(
        &format!("state_dir: {}\nconfine: {{read: [{}]}}", state.display(), link.display()),
        &["link", "the state directory"],
    );
}

#[test]
fn keys_that_mean_nothing_together_are_refused() {
    refused("confine: {command: [x]}", &["confine.command is set, and confine.engine is auto"]);
    refused("confine: {engine: command}", &["confine.command is missing"]);
    refused("confine: {network: hosts}", &["confine.hosts is missing"]);
    refused("confine: {network: hosts, hosts: [example.org]}", &["is not NAME:PORT"]);
    refused("confine: {processes: 0}", &["confine.processes is 0"]);
    refused("confine: {uid_base: 1000}", &["confine.uid_base is 1000"]);
    refused(
        "runtimes: {x: {command: [x], confine: {user: a}}}\nPROJECT confine: {user: b}",
        &[if rustix::process::geteuid().is_root() { "a run has one account" } else { "only root" }],
    );
}

#[test]
fn only_root_takes_another_account() {
    let mut c = read("").unwrap();
    c.projects[0].confine.user = "runner".into();
    assert!(privilege(&c, true).is_ok());
    let e = privilege(&c, false).unwrap_err();
    assert!(e.message.contains("projects.A.confine.user") && e.message.contains("runner"), "{}", e.message);
    c.projects[0].confine.user = "root".into();
    for root in [true, false] {
        let e = privilege(&c, root).unwrap_err();
        assert!(e.message.contains("projects.A.confine.user is \"root\""), "{}", e.message);
    }
}

#[test]
fn what_is_unusual_is_a_warning() {
    for (text, part) in [
        ("confine: {engine: landlock, network: internet}", "which landlock alone can't hold"),
        ("confine: {hosts: ['a:1']}", "confine.hosts has no effect"),
        ("confine: {network: closed}", "the runtime claude needs its model"),
        ("staging: {checks: [{id: S, kind: tcp, address: 'localhost:80'}]}", "staging check S is on this machine"),
        ("post_deploy: {health: [{url: 'http://[::1]:8/x'}]}", "the probe http://[::1]:8/x is on this machine"),
    ] {
        let warnings = read(text).unwrap().warnings;
        assert!(warnings.iter().any(|w| w.contains(part)), "{text}: {warnings:?}");
    }
    assert!(!read("").unwrap().warnings.iter().any(|w| w.contains("machine") || w.contains("confine")));
    assert!(!is_loopback("http://localhost.example:80") && is_loopback("127.0.0.9:1"));
}

#[test]
fn a_command_that_is_not_there_is_named_with_its_key() {
    let c = read(
        "runtimes: {x: {command: [/nowhere/agent, /nowhere/prompt, ./in-the-checkout, -x]}}\nagents: {runtime: x}\nPROJECT ci: {command: [sh, ./ci.sh]}",
    )
    .unwrap();
    let said = c.absent("/nowhere:/bin");
    let at = || "runtimes.x.command".to_owned();
    assert_eq!(said, [(at(), "/nowhere/agent".to_owned()), (at(), "/nowhere/prompt".to_owned())]);
    assert_eq!(c.absent("/nowhere").last(), Some(&("projects.B.ci.command".to_owned(), "sh".to_owned())));
}
