//! The recipes of `docs/your-project.md` and the jobs of `docs/ci.md` work (ORD-7): each marked block is extracted from
//! its page and run, if the program it needs is installed.

use crate::support::git::raw;
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The marked blocks of a page: the text after the mark's word, and the block.
fn blocks(page: &str, word: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)).unwrap();
    let mut all = Vec::new();
    for part in text.split(&format!("<!-- {word}: ")).skip(1) {
        let (mark, rest) = part.split_once(" -->\n```").unwrap();
        let (_, block) = rest.split_once('\n').unwrap();
        let (block, _) = block.split_once("\n```").unwrap();
        all.push((mark.to_owned(), format!("{block}\n")));
    }
    all
}

fn recipe(name: &str) -> String {
    let found = blocks("your-project.md", "recipe").into_iter().find(|(mark, _)| mark.split(';').next() == Some(name));
    found.unwrap_or_else(|| panic!("no recipe {name}")).1
}

fn script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The files of a repository that a recipe is for.
fn sample(name: &str) -> Vec<(&'static str, &'static str)> {
    match name {
        "rust" => vec![
            (
                "Cargo.toml",
                "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\npath = \"lib.rs\"\n",
            ),
            ("Cargo.lock", "version = 3\n\n[[package]]\nname = \"shop\"\nversion = \"0.1.0\"\n"),
            ("lib.rs", "#[test]\nfn adds() {\n    assert_eq!(1 + 1, 2);\n}\n"),
        ],
        "node" => vec![
            (
                "package.json",
                "{\"name\": \"shop\", \"version\": \"1.0.0\", \"scripts\": {\"test\": \"node check.js\"}}\n",
            ),
            (
                "package-lock.json",
                "{\"name\": \"shop\", \"version\": \"1.0.0\", \"lockfileVersion\": 3, \"requires\": true, \"packages\": {\"\": {\"name\": \"shop\", \"version\": \"1.0.0\"}}}\n",
            ),
            ("check.js", "if (process.env.CI !== '1') process.exit(1);\n"),
        ],
        "python" => vec![(
            "tests/test_shop.py",
            "import unittest\nclass T(unittest.TestCase):\n    def test_adds(self):\n        self.assertEqual(1 + 1, 2)\n",
        )],
        "go" => vec![
            ("go.mod", "module shop\n\ngo 1.20\n"),
            ("shop_test.go", "package shop\n\nimport \"testing\"\n\nfunc TestAdds(t *testing.T) {}\n"),
        ],
        "monorepo" => {
            vec![("services/api/check.sh", "#!/bin/sh\necho api\n"), ("services/web/check.sh", "#!/bin/sh\necho web\n")]
        }
        other => panic!("no sample for the recipe {other}"),
    }
}

/// What `doctor` reports of the base of a project that this recipe configures.
fn base(name: &str, lines: &str, break_it: bool) -> Value {
    let dir = tempfile::tempdir().unwrap();
    raw(dir.path(), &["init", "-q", "--bare", "-b", "main", "shop.git"]);
    raw(dir.path(), &["clone", "-q", "shop.git", "work"]);
    let work = dir.path().join("work");
    raw(&work, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    for (file, text) in sample(name) {
        std::fs::create_dir_all(work.join(file).parent().unwrap()).unwrap();
        script(&work.join(file), text);
    }
    if break_it {
        script(&work.join("services/api/check.sh"), "#!/bin/sh\nexit 3\n");
    }
    raw(&work, &["add", "-A"]);
    raw(&work, &["commit", "-q", "-m", "first"]);
    raw(&work, &["push", "-q", "origin", "main"]);
    let project: String = lines.lines().map(|l| format!("    {l}\n")).collect();
    let config = format!(
        "state_dir: ./state\nconfine: {{mode: auto}}\nprojects:\n  - key: SHOP\n    repo: shop\n    git: {{remote: ./shop.git}}\n{project}"
    );
    std::fs::write(dir.path().join("orch.yaml"), config).unwrap();
    let home = std::env::var_os("HOME").unwrap();
    let out = Command::new(crate::support::ORCH)
        .args(["doctor", "--json", "--config", "orch.yaml"])
        .current_dir(dir.path())
        .env("HOME", home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let message: Value = serde_json::from_slice(&out.stdout).unwrap();
    message["checks"].as_array().unwrap().iter().find(|c| c["name"] == "base").unwrap().clone()
}

#[test]
fn ord_7_each_recipe_for_setup_and_ci_passes_on_a_project_of_its_kind() {
    let mut run = 0;
    for (mark, block) in blocks("your-project.md", "recipe") {
        let (name, needs) = mark.split_once("; needs: ").unwrap();
        if needs == "sh" {
            continue;
        }
        if which::which(needs).is_err() {
            eprintln!("*** NOT TESTED: the recipe {name}, for {needs} is not here ***");
            continue;
        }
        let message = base(name, &block, false);
        assert_eq!(message["level"], "ok", "{name}: {message}");
        run += 1;
    }
    assert!(run > 0, "no recipe was run");
    let broken = base("monorepo", &recipe("monorepo"), true);
    assert_eq!(broken["level"], "failed", "the first part fails, the second passes: {broken}");
}

#[test]
fn ord_7_the_scripts_of_the_recipes_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let run = |name: &str, stdin: &str| {
        script(&at("script"), &recipe(name));
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        let mut child = Command::new(at("script"))
            .current_dir(dir.path())
            .env_clear()
            .envs([("PATH", path.as_str()), ("HOME", dir.path().to_str().unwrap())])
            .envs([("ORCH_TASK", "SHOP-1"), ("ORCH_REVISION", "abc123")])
            .env("ORCH_ARTEFACTS", at("docs/SHOP-1"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that does not read may have exited by now.
        drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
        let out = child.wait_with_output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, said) = run("agent", "the prompt");
    assert_eq!(code, 0);
    assert!(serde_json::from_str::<Value>(said.lines().last().unwrap()).unwrap()["cost_usd"].is_number());
    assert_eq!(std::fs::read_to_string(at("CHANGES.txt")).unwrap(), "SHOP-1\n");
    assert_eq!(run("notify", "{\"text\": \"x\"}").0, 0);
    assert_eq!(std::fs::read_to_string(at("orch-messages.jsonl")).unwrap(), "{\"text\": \"x\"}\n");
    script(&at("docker"), "#!/bin/sh\necho \"$*\" >> \"$HOME/calls\"\ntest ! -e \"$HOME/broken-$1\"\n");
    let calls = || std::fs::read_to_string(at("calls")).unwrap_or_default();
    assert_eq!(run("docker-deploy", "").0, 0);
    assert!(calls().contains("build -t shop:abc123 .") && calls().contains("run -d --name shop"), "{}", calls());
    std::fs::write(at("broken-run"), "").unwrap();
    assert_eq!(run("docker-deploy", "").0, 2, "production may be another one by then");
    std::fs::write(at("broken-build"), "").unwrap();
    assert_eq!(run("docker-deploy", "").0, 1, "production is as before");
    std::fs::remove_file(at("broken-run")).unwrap();
    assert_eq!(run("docker-rollback", "").0, 0);
    assert!(calls().contains("shop:previous"));
}

#[test]
fn ord_7_the_jobs_for_each_ci_system_are_yaml_with_commands_that_exist() {
    let jobs = blocks("ci.md", "ci");
    assert_eq!(jobs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["github", "gitea", "gitlab"]);
    for (name, block) in jobs {
        let read: Value = orch::yaml::from_str(&block).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(read.is_object(), "{name}");
        let commands: Vec<&str> = block.lines().filter_map(|l| l.split_once("orch s")).map(|(_, rest)| rest).collect();
        assert!(commands.len() >= 2, "{name}: {commands:?}");
        for rest in commands {
            let line = format!("s{rest}");
            let words: Vec<&str> = line.split(' ').map(|w| w.trim_matches('"')).collect();
            let out = Command::new(crate::support::ORCH).args(&words).arg("--help").output().unwrap();
            assert!(out.status.success(), "{name}: {words:?} {}", String::from_utf8_lossy(&out.stderr));
        }
    }
}
