//! Runs every command of the README, in its order there.

use crate::support::wait;
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The lines of the README's `sh` blocks, comments cut off.
fn commands() -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let mut inside = false;
    let mut all = Vec::new();
    for line in text.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => all.push(line.split("  #").next().unwrap().trim().to_owned()),
            _ => assert!(!line.starts_with("```"), "a block of another kind is not run: {line}"),
        }
    }
    all
}

/// A checkout with a remote, `orch` on PATH, and an agent without a model.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(home.path("bin")).unwrap();
        symlink(crate::support::ORCH, home.path("bin/orch")).unwrap();
        home.script("agent.sh", AGENT);
        home.ok(home.dir.path(), "git init -q --bare -b main orch.git && git init -q -b main checkout");
        let seed =
            "git config user.name a; git config user.email a@b; printf '#!/bin/sh\ntrue\n' > ci.sh; chmod +x ci.sh
            git add ci.sh && git commit -qm first && git remote add origin ../orch.git && git push -q origin main
            git remote set-head origin main";
        home.ok(&home.checkout(), seed);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn checkout(&self) -> PathBuf {
        self.path("checkout")
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn sh(&self, dir: &Path, line: &str) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut sh = Command::new("sh");
        sh.args(["-c", line]).current_dir(dir).env_clear().env("PATH", path).env("HOME", self.dir.path());
        sh.env("ORCH_SECURITY_GATE_ENABLED", "false").env("ORCH_MIN_FREE_MB", "1").env("ORCH_EXECUTOR", "detach");
        sh.output().unwrap()
    }

    fn ok(&self, dir: &Path, line: &str) -> String {
        let out = self.sh(dir, line);
        let (said, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "$ {line}\n{said}\n{err}");
        said.into_owned()
    }

    /// Ticks until the task waits for this (or is in this stage).
    fn until(&self, what: &str) {
        let task = || {
            self.ok(&self.checkout(), "orch tick");
            let text = self.ok(&self.checkout(), "orch status --json --all");
            serde_json::from_str::<Value>(&text).unwrap()["tasks"][0].clone()
        };
        let there = || {
            let task = task();
            (task["waiting_for"] == what || task["stage"] == what).then_some(())
        };
        wait::until(what, &[&self.checkout()], there, || format!("{:#}", task()));
    }
}

const AGENT: &str = r#"#!/bin/sh
set -e
cat > /dev/null; mkdir -p "$ORCH_ARTEFACTS/06-adr"
doc() { printf -- '---\nwork_item: %s\nstage: %s\nagent: %s\ncreated: 2026-01-01\n%s\n---\n\nText.\n' "$ORCH_TASK" "$ORCH_STAGE" "$ORCH_AGENT" "$2" > "$ORCH_ARTEFACTS/$1"; }
case $ORCH_STAGE in
analysis) for f in 01-brief 02-requirements 03-acceptance-criteria 04-test-plan; do doc $f.md "x: y"; done ;;
architecture) doc 06-adr/ADR-001-x.md "status: accepted" ;;
development) echo hello > greet ;;
review) doc 12-review.md "verdict: APPROVED" ;;
testing) doc 13-test-report.md "result: PASS" ;;
deploy-staging) doc 15-staging-log.md "staging_status: SUCCESS" ;;
esac
echo '{"cost_usd":0.01}'
"#;

#[test]
fn every_command_of_the_readme_works() {
    let home = Home::new();
    let dir = home.checkout();
    for line in commands() {
        match line.as_str() {
            // The builds have their own tests; here it only matters that the scripts exist and what they call.
            "scripts/demo" => {
                home.script("program", "#!/bin/sh\necho \"called $*\"\n");
                let program = home.path("program");
                let line = format!(
                    "DEMO_PROGRAM={} ORCH_TOOLS_CACHE=/nonexistent {ROOT}/scripts/demo --keep",
                    program.display()
                );
                assert_eq!(home.ok(&dir, &line).trim(), "called demo --keep");
            }
            "scripts/check" => {
                let out = home.sh(&dir, &format!("{ROOT}/scripts/check --nonsense"));
                assert_eq!(out.status.code(), Some(2));
            }
            // Something is wrong in such a place, and the doctor says what; it never fails to say it.
            line if line.starts_with("orch doctor") => {
                let out = home.sh(&dir, line);
                assert!(matches!(out.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&out.stderr));
                assert!(String::from_utf8_lossy(&out.stdout).contains("git"), "{line}");
            }
            line => {
                match line {
                    "orch explain ORCH-1" => home.until("approval"),
                    "orch advance ORCH-1 --confirm-deploy" => home.until("confirm_deploy"),
                    "orch timeline ORCH-1" => home.until("done"),
                    _ => {}
                }
                home.ok(&dir, line);
                if line == "orch init" {
                    let file = home.path(".config/orch/orch.yaml");
                    let config = std::fs::read_to_string(&file).unwrap();
                    let agent = home.path("agent.sh");
                    let config = config.replace("runtime: claude", "runtime: scripted").replace(
                        "  # scripted: {kind: command, command: [\"./agent.sh\"]}",
                        &format!("  scripted: {{kind: command, command: [{agent:?}]}}"),
                    );
                    // Its agent is a script of the test.
                    let line = config.lines().find(|l| l.starts_with("confine: ")).unwrap();
                    let config = config.replace(line, "confine: {mode: off}");
                    assert!(config.contains("ci: {command: [\"./ci.sh\"]}"), "{config}");
                    std::fs::write(file, config).unwrap();
                }
            }
        }
    }
    assert_eq!(home.ok(&home.path("orch.git"), "git show main:greet"), "hello\n");
    let board = home.ok(&dir, "cat ~/.local/state/orch/issues/ORCH-1.md");
    assert!(board.contains("status: Done"), "{board}");
}

#[test]
fn the_readme_fits_two_and_a_half_screens_and_links_to_what_is_there() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    assert!(text.lines().count() <= 100, "{} lines", text.lines().count());
    for link in text.split("](").skip(1).filter_map(|t| t.split(')').next()) {
        assert!(Path::new(ROOT).join(link).exists(), "{link} is not there");
    }
}
