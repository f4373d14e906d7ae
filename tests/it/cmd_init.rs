//! `orch init` on the binary: what it finds, what it leaves, units that systemd accepts.

use orch::adapters::forge::{Forge, Gitea, MergeVia, Place};
use orch::adapters::git::MergeMethod;
use orch::adapters::http::{Limits, Token};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(crate::support::ORCH);
    command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", dir).args(args);
    command
}

fn orch(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

fn said(out: &Output) -> (i32, String, String) {
    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

fn git(dir: &Path, args: &[&str]) {
    let done = Command::new("git").current_dir(dir).args(args).output().unwrap();
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The account's one configuration: here the checkout itself is the home.
fn config(dir: &Path) -> std::path::PathBuf {
    dir.join(".config/orch/orch.yaml")
}

/// A checkout named `my-shop` with a remote of that name.
fn checkout() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "-b", "main", "."]);
    git(dir.path(), &["remote", "add", "origin", "https://ann:hunter2@127.0.0.1:9/team/my-shop.git"]);
    dir
}

#[test]
fn it_finds_out_what_it_can_and_its_file_is_accepted() {
    let dir = checkout();
    std::fs::write(dir.path().join("Cargo.toml"), "[package]\n").unwrap();
    let (code, out, err) = said(&orch(dir.path(), &["init"]));
    assert_eq!(code, 0, "{out}{err}");
    let config = std::fs::read_to_string(config(dir.path())).unwrap();
    for part in [
        "key: MYSHOP",
        "repo: my-shop",
        "https://127.0.0.1:9/team/my-shop.git",
        "ci: {command: [\"cargo\",\"test\"]}",
        "max_cost_usd_per_task: 20",
    ] {
        assert!(config.contains(part), "{part}\n{config}");
    }
    assert!(!config.contains("hunter2") && !out.contains("hunter2"), "the credential was copied");
    assert!(out.contains("contained a credential"), "{out}");
    for file in [".config/orch/agents/analyst.md", ".config/orch/agents/deployer.md", ".gitleaks.toml"] {
        assert!(dir.path().join(file).is_file() && out.contains(&format!("wrote  {file}")), "{file}\n{out}");
    }
    let (code, out, err) = said(&orch(dir.path(), &["config", "check"]));
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn existing_files_are_kept_and_named() {
    let dir = checkout();
    let agents = config(dir.path()).with_file_name("agents");
    std::fs::create_dir_all(&agents).unwrap();
    std::fs::write(agents.join("tester.md"), "mine").unwrap();
    let v: Value = serde_json::from_slice(&orch(dir.path(), &["init", "--json"]).stdout).unwrap();
    assert_eq!((v["wrote"].as_array().unwrap().len(), v["left"].as_array().unwrap().len()), (7, 1), "{v:#}");
    let before = std::fs::read(config(dir.path())).unwrap();
    let (code, out, _) = said(&orch(dir.path(), &["init"]));
    assert_eq!(code, 0);
    assert!(out.contains("already there: MYSHOP") && !out.contains("wrote"), "{out}");
    assert_eq!(std::fs::read(config(dir.path())).unwrap(), before);
    assert_eq!(std::fs::read(agents.join("tester.md")).unwrap(), b"mine");
}

#[test]
fn without_a_remote_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = said(&orch(dir.path(), &["init"]));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("git remote add origin"), "{err}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn systemd_accepts_the_units() {
    let dir = checkout();
    let (code, out, err) = said(&orch(dir.path(), &["init", "--systemd", "--user"]));
    assert_eq!(code, 0, "{out}{err}");
    let folder = dir.path().join(".config/systemd/user");
    let tick = std::fs::read_to_string(folder.join("orch-tick.service")).unwrap();
    let file = config(&dir.path().canonicalize().unwrap());
    assert!(tick.contains(&format!("--config {} tick -q\n", file.display())), "{tick}");
    let env = file.with_file_name("orch.env");
    assert!(tick.contains(&format!("\nEnvironmentFile={}\n", env.display())), "{tick}");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&env.metadata().unwrap().permissions()) & 0o777, 0o600);
    let set = std::fs::read_to_string(&env).unwrap();
    assert!(set.contains("\nPATH=/") && set.contains("\n#ANTHROPIC_API_KEY=\n") && !set.contains("/tmp"), "{set}");
    assert!(
        tick.contains(crate::support::ORCH) && !tick.contains("ProtectSystem") && !tick.contains("/etc/orch"),
        "{tick}"
    );
    assert!(out.contains("enable-linger"), "{out}");
    // The reaper's interval is the timer's.
    let timer = || std::fs::read_to_string(folder.join("orch-reap.timer")).unwrap();
    assert!(timer().contains("\nOnUnitInactiveSec=60s\n"), "{}", timer());
    std::fs::remove_file(folder.join("orch-reap.timer")).unwrap();
    let mut again = command(dir.path(), &["init", "--systemd", "--user"]);
    assert!(again.env("ORCH_REAPER_INTERVAL_S", "7").output().unwrap().status.success());
    assert!(timer().contains("\nOnUnitInactiveSec=7s\n") && timer().contains("reap, 7s after"), "{}", timer());
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/systemd");
    let mut units = Vec::new();
    for entry in std::fs::read_dir(&templates).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".service") || name.ends_with(".timer") {
            assert!(folder.join(&name).is_file(), "{name} is not written by init");
            // The template unchanged, except for a program that exists.
            let text = std::fs::read_to_string(entry.path()).unwrap().replace("/usr/bin/orch", "/bin/true");
            std::fs::write(dir.path().join(&name), text).unwrap();
            units.extend([dir.path().join(&name), folder.join(&name)]);
        }
    }
    assert_eq!(units.len(), 12);
    if which::which("systemd-analyze").is_err() {
        eprintln!("\n*** NOT TESTED: systemd-analyze is not here ***\n");
        return;
    }
    for unit in units {
        let done = Command::new("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        let name = unit.file_name().unwrap().to_str().unwrap();
        assert!(!said.lines().any(|l| l.contains(name) || l.contains("orch")), "{}: {said}", unit.display());
    }
}

/// A forge that answers like Gitea is found from the remote's address; the statuses of recent commits are proposed,
/// `orch`'s own never (RULE-2).
#[test]
fn rule_2_init_proposes_the_statuses_of_recent_commits() {
    let dir = checkout();
    git(dir.path(), &["init", "-q", "--bare", "-b", "main", "server.git"]);
    let forge = crate::support::gitea::FakeGitea::start(&dir.path().join("server.git"));
    forge.data().name = "my-shop".into();
    git(dir.path(), &["remote", "set-url", "origin", &format!("{}/team/my-shop.git", forge.url())]);
    let commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m"];
    git(dir.path(), &[&commit[..], &["old"]].concat());
    let old = crate::support::git::raw(dir.path(), &["rev-parse", "HEAD"]);
    git(dir.path(), &[&commit[..], &["new"]].concat());
    let new = crate::support::git::raw(dir.path(), &["rev-parse", "HEAD"]);
    git(dir.path(), &["push", "-q", "server.git", "HEAD:refs/heads/main"]);
    for (sha, context) in [(&old, "lint: all"), (&new, "ci/test"), (&new, "orch/review_verdict")] {
        forge.set_status(sha, context, "success");
    }
    let token = crate::support::gitea::TOKEN;
    let init = |env: &[(&str, &str)]| {
        let out = command(dir.path(), &["init"]).envs(env.iter().copied()).output().unwrap();
        let (code, out, err) = said(&out);
        assert_eq!(code, 0, "{out}{err}");
        assert!(!format!("{out}{err}").contains(token));
        let file = config(dir.path());
        let config = std::fs::read_to_string(&file).unwrap();
        assert!(
            config.contains("forge: {kind: gitea, url: ") && config.contains("owner: team, name: my-shop"),
            "{config}"
        );
        assert!(config.contains("token: {env: GITEA_TOKEN}") && !config.contains(token), "{config}");
        let (code, checked, err) = said(&orch(dir.path(), &["config", "check"]));
        assert_eq!(code, 0, "{checked}{err}");
        std::fs::remove_file(file).unwrap();
        (config, out)
    };
    let (config, _) = init(&[("GITEA_TOKEN", token)]);
    assert!(config.contains("ci: {contexts: [\"ci/test\",\"lint: all\"]}"), "{config}");
    // The remote's default branch is checked if it is known.
    git(dir.path(), &["update-ref", "refs/remotes/origin/main", &old]);
    git(dir.path(), &["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
    let (config, _) = init(&[("GITEA_TOKEN", token)]);
    assert!(config.contains("ci: {contexts: [\"lint: all\"]}") && config.contains("default_branch: main"), "{config}");
    // CI may post other statuses for a push than for a pull request: heads of pull requests are checked first.
    git(dir.path(), &["push", "-q", "server.git", "HEAD:refs/heads/feature/x"]);
    git(dir.path(), &["-C", "server.git", "update-ref", "refs/heads/main", &old]);
    let at = forge.url();
    let place = Place { url: &at, owner: "team", name: "my-shop", method: MergeMethod::Merge, via: MergeVia::Forge };
    let client = Gitea::new(&place, Token::new(token), Limits::default()).unwrap();
    client.open_pull("feature/x", "main", "x", "").unwrap();
    forge.set_status(&old, "CI / test (push)", "success");
    forge.set_status(&new, "CI / test (pull_request)", "success");
    let (config, _) = init(&[("GITEA_TOKEN", token)]);
    assert!(config.contains("ci: {contexts: [\"CI / test (pull_request)\",\"ci/test\"]}"), "{config}");
    // Without a token nobody is asked, and the output says what it may be.
    let before = forge.log().len();
    let out = said(&orch(dir.path(), &["init"])).1;
    assert!(out.contains("127.0.0.1: not a known forge") && out.contains("set GITEA_TOKEN"), "{out}");
    assert_eq!(forge.log().len(), before);
    assert_eq!(forge.writes().len(), 1, "the pull request of this test");
}

#[test]
fn what_is_proposed_is_written_and_said_in_json() {
    let dir = checkout();
    git(dir.path(), &["remote", "set-url", "origin", "git@gitlab.com:team/my-shop.git"]);
    std::fs::write(dir.path().join("package.json"), r#"{"scripts": {"build": "tsc", "test": "jest"}}"#).unwrap();
    std::fs::write(dir.path().join("package-lock.json"), "{}").unwrap();
    let (code, out, err) = said(&orch(dir.path(), &["init", "--key", "shop", "--json"]));
    assert_eq!(code, 0, "{out}{err}");
    let v: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((v["project"].as_str(), v["added"].as_bool()), (Some("SHOP"), Some(true)));
    assert_eq!(v["proposed"]["setup"], serde_json::json!(["npm", "ci"]));
    assert_eq!(v["proposed"]["ci"], serde_json::json!(["sh", "-ec", "npm run build && npm test"]));
    assert_eq!(v["tried"], serde_json::json!({"setup": "untried", "ci": "untried"}));
    assert!(v["notes"].to_string().contains("GitLab: orch pushes to main itself"), "{v}");
    let shown = said(&orch(dir.path(), &["config", "show"])).1;
    assert!(shown.contains("projects.SHOP.worktree.setup.command") && shown.contains("npm"), "{shown}");
    let (code, _, err) = said(&orch(dir.path(), &["init", "--key", "1x"]));
    assert!(code == 2 && err.contains("--key SHOP"), "{err}");
}

#[test]
fn an_empty_remote_is_named() {
    let dir = checkout();
    git(dir.path(), &["init", "-q", "--bare", "-b", "main", "server.git"]);
    git(dir.path(), &["remote", "set-url", "origin", "server.git"]);
    let (code, out, err) = said(&orch(dir.path(), &["init"]));
    assert!(code == 0 && out.contains("server.git is empty: push a first commit"), "{out}{err}");
    let (code, out, _) = said(&orch(dir.path(), &["doctor"]));
    assert!(code == 3 && out.contains("is empty: it has no branch") && out.contains("push a first commit"), "{out}");
}

#[test]
fn ord_4_doctor_compares_shell_and_units_and_uninstall_takes_back_what_init_put_there() {
    let dir = checkout();
    let home = dir.path().canonicalize().unwrap();
    // Not in a temporary folder, or `orch.env` leaves it out.
    let own = tempfile::tempdir_in("/var/tmp").unwrap();
    let program = own.path().join("only-here");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", own.path().display(), std::env::var("PATH").unwrap());
    let ok = |args: &[&str]| {
        let (code, out, err) = said(&command(&home, args).env("PATH", &path).output().unwrap());
        assert_eq!(code, 0, "{out}{err}");
        out
    };
    let said = ok(&["init", "--yes"]);
    let data = home.join(".local/share");
    let (script, page) = (data.join("bash-completion/completions/orch"), data.join("man/man1/orch-tick.1"));
    assert!(script.exists() && page.exists() && said.contains("manual pages in"), "{said}");
    let file = config(&home);
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("    # ci: {command: [\"./ci.sh\"]}", "    ci: {command: [only-here]}");
    std::fs::write(&file, text).unwrap();
    let timers = |path: &str| -> Vec<Value> {
        let out = command(&home, &["doctor", "--json"]).env("PATH", path).output().unwrap();
        let v: Value = serde_json::from_slice(&out.stdout).unwrap();
        v["checks"].as_array().unwrap().iter().filter(|c| c["area"] == "timers").cloned().collect()
    };
    assert!(timers(&path).is_empty(), "there are no units");
    let out = ok(&["init", "--systemd", "--user"]);
    assert!(out.contains("systemctl --user enable --now orch-tick.timer"), "{out}");
    let all = timers(&path);
    assert_eq!((all.len(), all[0]["level"].as_str()), (1, Some("ok")), "{all:?}");
    // Only the units find it, then only the shell: that fails, since CI needs it.
    let less = timers(&std::env::var("PATH").unwrap());
    assert!(less[0]["name"] == "only-here" && less[0]["level"] == "warning", "{less:?}");
    let env = file.with_file_name("orch.env");
    let set = std::fs::read_to_string(&env).unwrap();
    std::fs::write(&env, set.replace(&format!("{}:", own.path().display()), "")).unwrap();
    let more = timers(&path);
    assert!(more[0]["name"] == "only-here" && more[0]["level"] == "failed", "{more:?}");
    // A second installation has its own unit names in the same folder.
    let here = tempfile::tempdir().unwrap();
    git(here.path(), &["init", "-q", "-b", "main", "."]);
    git(here.path(), &["remote", "add", "origin", "/srv/other.git"]);
    let second = command(here.path(), &["init", "--here", "--systemd", "--user"]).env("HOME", &home).output().unwrap();
    assert!(second.status.success(), "{second:?}");
    let units = || {
        let all = std::fs::read_dir(home.join(".config/systemd/user")).unwrap();
        let mut names: Vec<String> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(
        (units().len(), units().iter().filter(|n| n.starts_with("orch-tick.")).count()),
        (12, 2),
        "{:?}",
        units()
    );
    // A changed orch.env stays, configuration and state stay, and a second call does nothing.
    let out = ok(&["init", "--uninstall"]);
    assert!(out.contains("removed") && out.contains("was changed by somebody"), "{out}");
    assert_eq!(units().len(), 6, "those of the other installation: {:?}", units());
    assert!(file.exists() && env.exists() && !script.exists() && !page.exists());
    assert!(ok(&["init", "--uninstall"]).contains("nothing is installed"));
    let out = command(here.path(), &["init", "--uninstall", "--json"]).env("HOME", &home).output().unwrap();
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((v["removed"].as_array().unwrap().len(), units().len()), (7, 0), "{v:#}");
}

/// An unwritable folder of units is an error before anything is written (ORD-4). Root may write everywhere.
#[test]
fn ord_4_a_folder_that_takes_no_units_changes_nothing() {
    let dir = checkout();
    let home = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(home.join(".config/systemd")).unwrap();
    // A file in its place: nobody can write below it.
    std::fs::write(home.join(".config/systemd/user"), "").unwrap();
    let (code, _, err) = said(&command(&home, &["init", "--systemd", "--user"]).output().unwrap());
    assert!(code == 3 && err.contains("units can't be written") && err.contains("--prefix DIR"), "{code} {err}");
    assert!(!config(&home).exists() && !home.join(".gitleaks.toml").exists());
}
