//! Many repositories in one installation (ORD-3), on the binary with its own home.

use crate::support::rows::Db;
use crate::support::wait;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Home {
    dir: tempfile::TempDir,
}

fn said(out: &Output) -> (i32, String, String) {
    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(home.at("home")).unwrap();
        home
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn config(&self) -> PathBuf {
        self.at("home/.config/orch/orch.yaml")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.config()).unwrap()
    }

    /// A bare repository with a commit, and a checkout of it.
    fn repository(&self, name: &str) -> PathBuf {
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            git.current_dir(self.at("")).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args);
            let done = git.output().unwrap();
            assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        };
        let (bare, dir) = (format!("{name}.git"), format!("src/{name}"));
        git(&["init", "-q", "--bare", "-b", "main", &bare]);
        git(&["init", "-q", "-b", "main", &dir]);
        git(&["-C", &dir, "commit", "-q", "--allow-empty", "-m", "first"]);
        git(&["-C", &dir, "remote", "add", "origin", self.at(&bare).to_str().unwrap()]);
        git(&["-C", &dir, "push", "-q", "origin", "main"]);
        self.at(&dir)
    }

    fn command(&self, dir: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(crate::support::ORCH);
        command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.at("home")).env("ORCH_EXECUTOR", "detach").env("ORCH_MIN_FREE_MB", "0").args(args);
        command
    }

    fn orch(&self, dir: &Path, args: &[&str]) -> (i32, String, String) {
        said(&self.command(dir, args).output().unwrap())
    }

    fn ok(&self, dir: &Path, args: &[&str]) -> String {
        let (code, out, err) = self.orch(dir, args);
        assert_eq!(code, 0, "{args:?}\n{out}\n{err}");
        out
    }

    fn json(&self, dir: &Path, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(dir, &[args, &["--json"]].concat())).unwrap()
    }
}

#[test]
fn ord_3_one_installation_serves_many_repositories() {
    let home = Home::new();
    let (shop, api) = (home.repository("shop"), home.repository("api"));
    let out = home.ok(&shop, &["init"]);
    assert!(out.contains("commit .gitleaks.toml"), "{out}");
    let in_checkout = |dir: &Path| {
        let mut all: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n != ".git")
            .collect();
        all.sort();
        all
    };
    assert_eq!(in_checkout(&shop), [".gitleaks.toml"]);
    // What a person wrote stays, and the second project follows the first.
    let mine = home.text().replace("projects:\n", "projects:\n  # mine, all mine\n");
    std::fs::write(home.config(), &mine).unwrap();
    let v = home.json(&api, &["init"]);
    assert_eq!((v["project"].as_str(), v["added"].as_bool()), (Some("API"), Some(true)), "{v:#}");
    assert_eq!(in_checkout(&api), [".gitleaks.toml"]);
    let both = home.text();
    assert!(both.contains("# mine, all mine") && both.find("key: SHOP") < both.find("key: API"), "{both}");
    let kept: Vec<&str> = mine.lines().filter(|l| !both.contains(*l)).collect();
    assert!(kept.is_empty(), "{kept:?}");
    // Twice is the same as once, and two at the same time are both added.
    let v = home.json(&api, &["init"]);
    assert_eq!(v["added"], false);
    assert_eq!(home.text(), both);
    let more: Vec<PathBuf> = ["one", "two", "three"].iter().map(|n| home.repository(n)).collect();
    let running: Vec<_> = more.iter().map(|d| home.command(d, &["init"]).spawn().unwrap()).collect();
    assert!(running.into_iter().all(|mut c| c.wait().unwrap().success()));
    let v = home.json(&home.at(""), &["config", "check"]);
    assert_eq!(v["projects"].as_array().unwrap().len(), 5, "{}", home.text());
    // Keys are counted per project, and everything works from anywhere.
    for (key, first) in [("API", "API-1"), ("SHOP", "SHOP-1"), ("API", "API-2")] {
        assert_eq!(home.json(&home.at(""), &["new", "x", "--draft", "--project", key])["key"], first);
    }
    // In a checkout, it is that checkout's project.
    for (dir, first) in [(api.join("."), "API-3"), (shop.clone(), "SHOP-2")] {
        assert_eq!(home.json(&dir, &["new", "x", "--draft"])["key"], first);
    }
    assert_eq!(home.orch(&home.at(""), &["new", "x"]).0, 2, "elsewhere it has to be named");
    assert_eq!(home.ok(&home.at(""), &["tick", "-q"]), "");
    let rows = home.json(&home.at("home"), &["project", "list"])["projects"].clone();
    let row = rows.as_array().unwrap().iter().find(|r| r["key"] == "API").unwrap();
    assert_eq!(
        (row["repo"].as_str(), row["open"].as_i64(), row["paths"].clone()),
        (Some("api"), Some(0), Value::Array(vec![]))
    );
    // A removed project takes nothing with it but its entry; that is an event and no alert.
    home.ok(&home.at(""), &["project", "remove", "API"]);
    assert!(!home.text().contains("key: API") && home.text().contains("# mine, all mine"), "{}", home.text());
    assert!(home.at("home/.local/state/orch/issues/API-1.md").exists());
    let (code, _, err) = home.orch(&home.at(""), &["project", "remove", "API"]);
    assert!(code == 2 && err.contains("API"), "{err}");
    home.ok(&home.at(""), &["tick", "-q"]);
    let count = |what: &str| Db::of(&home.at("home/.local/state/orch")).table("audit").with("event", what).len();
    assert_eq!((count("project_removed"), count("guard_changed")), (1, 0));
    // Units alone don't restore it.
    let without = home.text();
    let out = home.ok(&api, &["init", "--systemd", "--user"]);
    assert!(out.contains("API was removed from") && out.contains("`orch init` in this checkout adds it"), "{out}");
    assert_eq!(home.text(), without);
    home.ok(&home.at(""), &["project", "add", api.to_str().unwrap(), "--key", "BACK"]);
    assert!(!home.text().contains("removed by"), "{}", home.text());
    assert_eq!((count("project_added"), count("guard_changed")), (1, 0));
    assert!(home.text().contains("key: BACK"));
}

#[test]
fn ord_3_a_taken_key_gets_a_proposal_and_a_broken_file_is_left_alone() {
    let home = Home::new();
    let (shop, other) = (home.repository("shop"), home.repository("Shop!"));
    home.ok(&shop, &["init"]);
    let (code, _, err) = home.orch(&other, &["init", "--key", "shop"]);
    assert!(code == 2 && err.contains("--key SHOP2"), "{err}");
    let out = home.ok(&other, &["init"]);
    assert!(out.contains("the key SHOP is taken: this project is SHOP2"), "{out}");
    home.ok(&home.at(""), &["config", "check"]);
    let before = home.text();
    let third = home.repository("third");
    std::fs::set_permissions(&third, std::fs::Permissions::from_mode(0o700)).unwrap();
    for broken in [format!("{before}nonsense: 1\n"), before.replace("projects:\n", "projects: &all\n") + "x: *all\n"] {
        std::fs::write(home.config(), &broken).unwrap();
        let (code, out, err) = home.orch(&third, &["init"]);
        assert!(code == 2 && out.is_empty() && err.contains("orch.yaml"), "{out}{err}");
        assert_eq!(home.text(), broken);
        assert!(!third.join(".gitleaks.toml").exists());
    }
    // Text edits can't handle anchors, but they can handle a list in brackets.
    std::fs::write(
        home.config(),
        format!("projects: [{{key: SHOP, git: {{remote: {}}}}}]   # mine\n", home.at("shop.git").display()),
    )
    .unwrap();
    home.ok(&third, &["init"]);
    let keys = home.json(&third, &["config", "check"])["projects"].clone();
    assert_eq!(keys, serde_json::json!(["SHOP", "THIRD"]));
    assert!(home.text().contains("# mine"));
}

/// A configuration that a clone's author wrote is ignored, and not even git runs there.
#[test]
fn ord_3_a_clones_own_configuration_counts_only_by_this_accounts_word() {
    let home = Home::new();
    let clone = home.repository("clone");
    let trap = home.at("trap");
    let hook = home.at("hook.sh");
    std::fs::write(&hook, format!("#!/bin/sh\necho ran >> {}\n", trap.display())).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = format!(
        "state_dir: ./state\nprojects: [{{key: EVIL, git: {{remote: {}, credential: {{command: [{}]}}}}}}]\n",
        home.at("clone.git").display(),
        hook.display()
    );
    let file = clone.join("orch.yaml");
    std::fs::write(&file, text).unwrap();
    let set = format!("[core]\nfsmonitor = {}\n", hook.display());
    let config = std::fs::read_to_string(clone.join(".git/config")).unwrap();
    std::fs::write(clone.join(".git/config"), config + &set).unwrap();
    std::fs::create_dir_all(clone.join("deep/er")).unwrap();
    for args in [&["doctor"][..], &["status"], &["tick"], &["config", "check"], &["project", "list"]] {
        for dir in [&clone, &clone.join("deep/er")] {
            let (code, out, err) = home.orch(dir, args);
            assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
            assert!(err.contains(&format!("orch config trust {}", file.display())), "{err}");
        }
    }
    assert!(!trap.exists(), "the clone's own commands ran");
    // Commands that need no configuration ignore it with one warning, on stderr.
    for args in [&["completions", "bash"][..], &["config", "schema"], &["--help"], &["--version"]] {
        let (code, out, err) = home.orch(&clone, args);
        assert!(code == 0 && !out.contains("is ignored"), "{args:?}: {out}");
        assert_eq!(err.matches("orch.yaml is ignored").count(), 1, "{args:?}: {err}");
    }
    let (code, _, err) = home.orch(&clone, &["init"]);
    assert!(code == 0 && err.contains("is ignored"), "{err}");
    assert!(home.text().contains("key: CLONE"));
    let (code, _, err) = home.orch(&clone, &["init", "--here"]);
    assert!(code == 2 && err.contains("does not trust it"), "{err}");
    // This account's trust makes it count; the state directory stays its own.
    home.ok(&home.at(""), &["config", "trust", file.to_str().unwrap()]);
    assert_eq!(home.json(&clone, &["config", "check"])["projects"], serde_json::json!(["EVIL"]));
    let list = home.at("home/.config/orch/known");
    assert_eq!(std::fs::read_to_string(&list).unwrap(), format!("{}\n", file.display()));
    assert_eq!(list.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, err) = home.orch(&home.at(""), &["config", "trust", "nothing.yaml"]);
    assert!(code == 2 && err.contains("nothing.yaml"), "{err}");
}

#[test]
fn ord_3_here_is_an_installation_of_its_own_and_a_state_directory_belongs_to_one() {
    let home = Home::new();
    let (shop, api) = (home.repository("shop"), home.repository("api"));
    home.ok(&shop, &["init", "--here"]);
    home.ok(&api, &["init", "--here"]);
    assert!(shop.join("orch.yaml").is_file() && shop.join("agents/tester.md").is_file());
    for dir in [&shop, &api] {
        home.ok(dir, &["tick", "-q"]);
    }
    let state = |dir: &Path| {
        let shown = home.json(dir, &["config", "show"]);
        let set =
            shown["settings"].as_array().unwrap().iter().find(|s| s["path"] == "state_dir").unwrap()["value"].clone();
        PathBuf::from(set.as_str().unwrap())
    };
    assert_ne!(state(&shop), state(&api));
    // Another file on the same directory is refused with both paths, whoever runs it.
    let moved = home.at("moved.yaml");
    let text = std::fs::read_to_string(shop.join("orch.yaml")).unwrap();
    std::fs::write(&moved, &text).unwrap();
    let other = moved.to_str().unwrap();
    for args in [&["tick"][..], &["status"], &["doctor"], &["audit", "verify"], &["tick", "--dry-run"]] {
        let (code, out, err) = home.orch(&home.at(""), &[&["--config", other], args].concat());
        let both = err.contains(other) && err.contains(shop.join("orch.yaml").to_str().unwrap());
        assert!(code == 2 && out.is_empty() && both && err.contains("config adopt"), "{args:?}: {out}{err}");
    }
    let count = || {
        let state = state(&api).parent().unwrap().join(state_name(&moved, &home));
        Db::of(&state).table("audit").with("event", "configuration_adopted").len()
    };
    home.ok(&home.at(""), &["--config", other, "config", "adopt"]);
    assert_eq!(count(), 1);
    home.ok(&home.at(""), &["--config", other, "status"]);
    assert_eq!(home.orch(&shop, &["status"]).0, 2);
    // If the recorded file is gone, readers use the new one, and the next step records it once.
    std::fs::remove_file(&moved).unwrap();
    home.ok(&shop, &["status"]);
    assert_eq!(count(), 1);
    for _ in 0..2 {
        home.ok(&shop, &["tick", "-q"]);
    }
    assert_eq!(count(), 2);
}

/// The name of the state directory that a configuration's text names.
fn state_name(file: &Path, home: &Home) -> String {
    let text =
        std::fs::read_to_string(file).or_else(|_| std::fs::read_to_string(home.at("src/shop/orch.yaml"))).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("state_dir: ")).unwrap().to_owned();
    line.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn ord_3_a_folder_of_a_monorepo_is_a_project() {
    let home = Home::new();
    let mono = home.repository("mono");
    for part in ["services/api", "services/web"] {
        std::fs::create_dir_all(mono.join(part)).unwrap();
    }
    home.ok(&mono.join("services/api"), &["init"]);
    let v = home.json(&mono.join("services/web"), &["init", "--key", "WEB"]);
    assert_eq!(v["added"], true, "{v:#}");
    let rows = home.json(&home.at(""), &["project", "list"])["projects"].clone();
    let of = |n: usize, what: &str| rows[n][what].clone();
    assert_eq!((of(0, "key"), of(1, "key")), ("MONO".into(), "WEB".into()));
    assert_eq!(
        (of(0, "paths"), of(1, "paths")),
        (serde_json::json!(["services/api/**"]), serde_json::json!(["services/web/**"]))
    );
    assert_eq!(
        (of(0, "repo"), of(0, "remote")),
        (of(1, "repo"), of(1, "remote")),
        "gate, lease and mirror are the remote's"
    );
    assert_eq!(home.json(&mono.join("services/web"), &["init"])["added"], false);
    assert!(mono.join(".gitleaks.toml").exists() && !mono.join("services/api/.gitleaks.toml").exists());
    // RULE-29 applies where they overlap.
    std::fs::write(home.config(), home.text().replace("services/web/**", "services/**")).unwrap();
    let (code, _, err) = home.orch(&home.at(""), &["config", "check"]);
    assert!(code == 2 && err.contains("one remote"), "{err}");
}

const AGENT: &str = r#"#!/bin/sh
cat > /dev/null; mkdir -p "$ORCH_ARTEFACTS" services/web; echo x > services/web/taken
for f in 01-brief 02-requirements 03-acceptance-criteria 04-test-plan; do
printf -- '---\nwork_item: %s\nstage: %s\nagent: %s\ncreated: 2026-01-01\n---\n\nText.\n' "$ORCH_TASK" "$ORCH_STAGE" "$ORCH_AGENT" > "$ORCH_ARTEFACTS/$f.md"
done
"#;

impl Home {
    fn push(&self, dir: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.join(name), text).unwrap();
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        crate::support::git::raw(dir, &["add", "-A"]);
        crate::support::git::raw(dir, &["commit", "-q", "-m", "more"]);
        crate::support::git::raw(dir, &["push", "-q", "origin", "HEAD:main"]);
    }

    /// Ticks until there is an answer.
    fn until<T>(&self, look: impl Fn(&Home) -> Option<T>) -> T {
        let ticked = || {
            self.orch(&self.at(""), &["tick", "-q"]);
            look(self)
        };
        wait::until("the answer", &[&self.at("")], ticked, || self.orch(&self.at(""), &["status", "--json"]).1)
    }
}

/// The default branch's `.orch.yaml` says how its part is tested; agents write in that part alone.
#[test]
fn ord_3_a_repository_says_how_its_part_is_tried_and_no_more() {
    let home = Home::new();
    let mono = home.repository("mono");
    let out = home.at("tried");
    let own = format!(
        "paths: [services/api/**]\nci: {{command: [./ci.sh], env: {{OUT: {}}}}}\nworktree: {{setup: {{command: [./ci.sh], env: {{OUT: {}}}}}}}\n",
        out.display(),
        out.display()
    );
    home.push(
        &mono,
        &[
            (".orch.yaml", &own),
            ("services/api/ci.sh", "#!/bin/sh\npwd >> \"$OUT\"\n"),
            ("ci.sh", "#!/bin/sh\nexit 1\n"),
        ],
    );
    std::fs::write(home.at("agent.sh"), AGENT).unwrap();
    std::fs::set_permissions(home.at("agent.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(home.config().parent().unwrap()).unwrap();
    let text = format!(
        "confine: {{mode: off}}\nprojects: [{{key: API, repository_config: true, git: {{remote: {}}}}}]\nsecurity: {{gate_enabled: false}}\nagents: {{runtime: scripted, run_retries: 0}}\nruntimes: {{scripted: {{kind: command, command: [{}]}}}}\n",
        home.at("mono.git").display(),
        home.at("agent.sh").display()
    );
    std::fs::write(home.config(), text).unwrap();
    home.ok(&home.at(""), &["new", "one"]);
    let why = home.until(|home| {
        let status = home.json(&home.at(""), &["status"]);
        status["tasks"][0]["blocked_reason"].as_str().map(str::to_owned)
    });
    assert!(why.contains("services/web/taken") && why.contains("outside the `paths` of this project"), "{why}");
    let tried = std::fs::read_to_string(&out).unwrap();
    assert!(tried.lines().count() >= 2 && tried.lines().all(|l| l.ends_with("/services/api")), "{tried}");
    // A key that does not belong there holds the project, and is named; the last valid file does not count.
    home.push(&mono, &[(".orch.yaml", &format!("{own}deploy: {{command: [./x]}}\n"))]);
    home.ok(&home.at(""), &["stop", "API-1"]);
    home.ok(&home.at(""), &["new", "two"]);
    let held = home.until(|home| {
        let status = home.json(&home.at(""), &["status"]);
        let task = status["tasks"].as_array().unwrap().iter().find(|t| t["key"] == "API-2")?.clone();
        (task["held_by"]["rule"] == "configuration").then(|| task["held_by"]["why"].to_string())
    });
    assert!(held.contains(".orch.yaml") && held.contains("deploy"), "{held}");
    home.push(&mono, &[(".orch.yaml", &own.replace("./ci.sh", "/bin/true"))]);
    home.until(|home| {
        let status = home.json(&home.at(""), &["status"]);
        let task = status["tasks"].as_array().unwrap().iter().find(|t| t["key"] == "API-2")?.clone();
        (task["stage"] != "created").then_some(())
    });
}

/// A faulty file of one repository leaves the only slot to another, which then is read as well.
#[test]
fn ord_3_a_faulty_file_holds_no_other_repository() {
    let home = Home::new();
    for (name, own) in [("api", "deploy: {command: [./x]}\n"), ("web", "ci: {command: [/bin/true]}\n")] {
        let dir = home.repository(name);
        home.push(&dir, &[(".orch.yaml", own)]);
    }
    std::fs::write(home.at("agent.sh"), AGENT).unwrap();
    std::fs::set_permissions(home.at("agent.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(home.config().parent().unwrap()).unwrap();
    let of = |key: &str, name: &str| {
        format!("{{key: {key}, repository_config: true, git: {{remote: {}}}}}", home.at(name).display())
    };
    let text = format!(
        "confine: {{mode: off}}\nbase: {{enabled: false}}\nlimits: {{max_concurrency: 1}}\nserial_gate: {{enabled: false}}\nprojects: [{}, {}]\nsecurity: {{gate_enabled: false}}\nagents: {{runtime: scripted}}\nruntimes: {{scripted: {{kind: command, command: [{}]}}}}\n",
        of("API", "api.git"),
        of("WEB", "web.git"),
        home.at("agent.sh").display()
    );
    std::fs::write(home.config(), text).unwrap();
    for key in ["API", "WEB"] {
        home.ok(&home.at(""), &["new", "one", "--project", key]);
    }
    let said = home.json(&home.at(""), &["tick"]);
    let started: Vec<_> = said["actions"].as_array().unwrap().iter().filter(|a| a["kind"] == "job_started").collect();
    assert!(started.len() == 1 && started[0]["task"] == "WEB-1", "{said}");
    let held = said["skipped"].as_array().unwrap().iter().find(|h| h["task"] == "API-1").unwrap();
    assert_eq!(held["rule"], "configuration", "{said}");
}

/// A red base of one part holds that part alone, even if the same command tests both.
#[test]
fn ord_3_a_red_base_of_one_part_holds_only_that_one() {
    let home = Home::new();
    let mono = home.repository("mono");
    let out = home.at("tried");
    let red = format!("#!/bin/sh\necho broken; echo tried >> {}; exit 1\n", out.display());
    home.push(&mono, &[("services/api/ci.sh", &red), ("services/web/ci.sh", "#!/bin/sh\necho whole\n")]);
    std::fs::write(home.at("agent.sh"), AGENT).unwrap();
    std::fs::set_permissions(home.at("agent.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(home.config().parent().unwrap()).unwrap();
    let remote = home.at("mono.git");
    let part = |key: &str, folder: &str| {
        format!(
            "{{key: {key}, repo: mono, git: {{remote: {}}}, paths: ['{folder}/**'], ci: {{command: [./ci.sh]}}}}",
            remote.display()
        )
    };
    let text = format!(
        "confine: {{mode: off}}\nserial_gate: {{enabled: false}}\nprojects: [{}, {}]\nsecurity: {{gate_enabled: false}}\nagents: {{runtime: scripted, run_retries: 0}}\nruntimes: {{scripted: {{kind: command, command: [{}]}}}}\n",
        part("API", "services/api"),
        part("WEB", "services/web"),
        home.at("agent.sh").display()
    );
    std::fs::write(home.config(), text).unwrap();
    for key in ["API", "WEB"] {
        home.ok(&home.at(""), &["new", "one", "--project", key]);
    }
    let task = |home: &Home, key: &str| {
        let status = home.json(&home.at(""), &["status"]);
        status["tasks"].as_array().unwrap().iter().find(|t| t["key"] == key).cloned()
    };
    home.until(|home| {
        let held = task(home, "API-1")?["held_by"]["rule"] == "base_red";
        (held && task(home, "WEB-1")?["stage"] != "created").then_some(())
    });
    assert_eq!(task(&home, "API-1").unwrap()["stage"], "created");
    let status = home.json(&home.at(""), &["status"]);
    let bases: Vec<_> = status["base"].as_array().unwrap().iter().map(|b| (&b["repo"], &b["state"])).collect();
    assert_eq!(format!("{bases:?}"), r#"[(String("API"), String("red")), (String("WEB"), String("green"))]"#);
    // Everywhere it is named by its key; the repository's name matches neither.
    let explained = home.json(&home.at(""), &["explain", "API-1"]);
    assert_eq!(explained["command"], "orch logs --base API");
    assert!(explained["base"].to_string().contains("broken"), "{explained}");
    for (name, said) in [("API", "broken"), ("WEB", "whole")] {
        assert!(home.json(&home.at(""), &["logs", "--base", name])["logs"].to_string().contains(said), "{name}");
    }
    let (code, _, err) = home.orch(&home.at(""), &["logs", "--base", "mono"]);
    assert!(code == 2 && err.contains("API, WEB"), "{err}");
    // A retry of the task tries the base that holds it.
    let tried = || std::fs::read_to_string(&out).unwrap().lines().count();
    assert_eq!(tried(), 1);
    home.ok(&home.at(""), &["retry", "API-1"]);
    home.until(|_| (tried() == 2).then_some(()));
}
