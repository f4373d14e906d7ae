//! `orch config check` accepts every configuration that the documentation shows (DSK-5).

use std::path::Path;
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The YAML blocks of a page, without the indentation they have in a list.
fn blocks(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs").join(page)).unwrap();
    let mut all = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        open = match open.take() {
            None if line.trim_start() == "```yaml" => Some((indent, String::new())),
            Some((_, block)) if line.trim_start() == "```" => {
                all.push(block);
                None
            }
            Some((by, block)) => Some((by, format!("{block}{}\n", line.get(by..).unwrap_or_default()))),
            None => None,
        };
    }
    assert!(open.is_none() && !all.is_empty(), "{page}");
    all
}

/// A fragment as a whole file: the missing parts of a project are added.
fn whole(block: &str) -> String {
    let indented = |by: &str| block.lines().map(|l| format!("{by}{l}\n")).collect::<String>();
    match block.split(':').next().unwrap() {
        "- key" => format!("projects:\n{}    git: {{remote: /srv/shop.git}}\n", indented("  ")),
        "git" => format!("projects:\n  - key: SHOP\n{}", indented("    ")),
        _ => format!("projects: [{{key: SHOP, git: {{remote: /srv/shop.git}}}}]\n{block}"),
    }
}

fn orch(home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(crate::support::ORCH);
    command.args(args).current_dir(home).env_clear().env("HOME", home).env("PATH", std::env::var("PATH").unwrap());
    command.env("ORCH_TOOLS_CACHE", home).output().unwrap()
}

fn accepted(text: &str, page: &str) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("orch.yaml");
    std::fs::write(&file, text).unwrap();
    let out = orch(home.path(), &["config", "check", "--config", file.to_str().unwrap()]);
    let (said, why) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{page}:\n{text}\n{said}{why}");
}

#[test]
fn every_whole_configuration_of_docs_setups_is_accepted() {
    let mut files = Vec::new();
    for block in blocks("setups.md") {
        let name = block.lines().next().unwrap().trim_start_matches("# ").to_owned();
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(&name);
        std::fs::write(&file, &block).unwrap();
        let file = file.to_str().unwrap();
        match name.as_str() {
            "orch.yaml" => accepted(&block, "setups.md"),
            "staging.yaml" => {
                let out = orch(home.path(), &["staging-check", "--checks", file, "--dry-run"]);
                assert!(out.status.success(), "{block}\n{}", String::from_utf8_lossy(&out.stderr));
            }
            // The file does not depend on gitleaks being installed: a waiver that was read is named as unused.
            "waivers.yaml" => {
                let seed = "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x";
                assert!(Command::new("sh").args(["-c", seed]).current_dir(home.path()).status().unwrap().success());
                let out = orch(home.path(), &["security-scan", "--range", "HEAD..HEAD", "--waivers", file]);
                let said = String::from_utf8_lossy(&out.stdout);
                assert!(said.contains("waiver aws-access-token"), "{said}{}", String::from_utf8_lossy(&out.stderr));
            }
            other => panic!("{other}: a block of setups.md begins with the name of its file"),
        }
        files.push(name);
    }
    assert_eq!(files, ["orch.yaml", "orch.yaml", "orch.yaml", "staging.yaml", "waivers.yaml"]);
}

#[test]
fn every_fragment_of_a_configuration_in_the_guides_is_accepted() {
    let pages = [
        "connecting-claude",
        "connecting-gitea",
        "connecting-github",
        "connecting-plane",
        "connecting-telegram",
        "network",
        "runtimes",
    ];
    for page in pages.map(|p| format!("{p}.md")) {
        for block in blocks(&page) {
            accepted(&whole(&block), &page);
        }
    }
}
