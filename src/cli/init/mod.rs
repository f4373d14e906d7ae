//! What `orch init` finds out, and the files it makes from it. It asks nothing that it can find out, and overwrites no
//! existing file.

pub mod ask;
pub mod confine;
pub mod edit;
pub mod envfile;
pub mod find;
pub mod install;
pub mod join;
pub mod labels;
pub mod propose;
pub mod shells;
pub mod summary;
pub mod try_base;
pub mod trying;
pub mod uninstall;
pub mod units;

use crate::adapters::forge;
use crate::cli::exit::Failure;
use crate::model::agent_prompt::builtin_text;
use crate::model::ci::is_of_push;
use crate::model::stage::Agent;
use anyhow::{Context, Result};
use find::{Ci, Found};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const CONFIG: &str = include_str!("orch.yaml");
const GITLEAKS: &str =
    "# The secret scan's configuration, read from the default branch: commit it. It uses the built-in rules and allows
# nothing. Waive single findings in orch.yaml (security.allow), which no branch can change.
[extend]
useDefault = true
";

/// What became of each file.
#[derive(Debug, Default)]
pub struct Done {
    pub written: Vec<PathBuf>,
    /// Existed already.
    pub left: Vec<PathBuf>,
    /// Existed, and has one project more.
    pub changed: Vec<PathBuf>,
}

impl Done {
    /// Writes a file unless something with that name exists.
    pub fn put(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
        match file {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
                self.written.push(path.to_owned());
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => self.left.push(path.to_owned()),
            Err(e) => Err(e).with_context(|| format!("writing {}", path.display()))?,
        }
        Ok(())
    }
}

/// The agents' prompts, next to the installation's file.
pub fn prompts(folder: &Path, done: &mut Done) -> Result<(), Failure> {
    for agent in Agent::ALL {
        done.put(&folder.join("agents").join(format!("{agent}.md")), builtin_text(*agent))?;
    }
    Ok(())
}

/// The scanner's rules, the only file that a checkout gets.
pub fn scanner(top: &Path, done: &mut Done) -> Result<(), Failure> {
    done.put(&top.join(".gitleaks.toml"), GITLEAKS)
}

/// A text that YAML reads back unchanged, whatever is in it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._~+@-".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '~');
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"];
    if starts && text.chars().all(plain) && !word.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    serde_json::to_string(text).unwrap_or_default()
}

/// The text of the configuration for what was found.
pub(super) fn config(found: &Found, state_dir: &str) -> String {
    let list = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
    let branch = match &found.branch {
        Some(name) => format!("      default_branch: {}", quoted(name)),
        None => "      # default_branch: main          # absent: the remote's HEAD".to_owned(),
    };
    let forge = forge::proposal(&found.forge, &quoted);
    let ci = match &found.ci {
        Ci::Command(argv) => {
            format!("    ci: {{command: {}}}          # run on each new head; exit 0 is green", list(argv))
        }
        Ci::Contexts(names) => {
            let seen = match names.iter().any(|name| is_of_push(name)) {
                true => "seen on a push: name those of a pull request; each must be green",
                false => "seen on recent commits; each must be green",
            };
            format!("    ci: {{contexts: {}}}          # {seen}", list(names))
        }
        Ci::UnknownContexts => {
            "    ci: {required: false}              # name the statuses that must be green: contexts: [ci/test]"
                .to_owned()
        }
        Ci::None if found.failed.ci.is_some() => found.failed.ci_line(),
        Ci::None => {
            "    # ci: {command: [\"./ci.sh\"]}       # no test command was found; without one, CI does not apply"
                .to_owned()
        }
    };
    let setup = match &found.setup {
        Some(argv) => {
            format!("    worktree: {{setup: {{command: {}}}}}     # before the commands of each checkout", list(argv))
        }
        None if found.failed.setup.is_some() => found.failed.setup_line(),
        None => {
            "    # worktree: {setup: {command: [\"./setup.sh\"]}}     # before the commands of each checkout".to_owned()
        }
    };
    let paths: Vec<String> = found.paths.iter().map(|p| quoted(p)).collect();
    let paths = match paths.as_slice() {
        [] => String::new(),
        parts => {
            format!("\n    paths: [{}]        # the part of the repository that is this project", parts.join(", "))
        }
    };
    CONFIG
        .replace("{{confine}}", &found.confine)
        .replace("{{setup}}", &setup)
        .replace("{{state_dir}}", &quoted(state_dir))
        .replace("{{key}}", &found.key)
        .replace("{{repo}}", &format!("{}{paths}", quoted(&found.repo)))
        .replace("{{remote}}", &quoted(&found.remote))
        .replace("{{branch}}", &branch)
        .replace("{{forge}}", &forge)
        .replace("{{ci}}", &ci)
        .replace("{{runtime}}", "claude")
        .replace("{{claude}}", &quoted(&found.claude.as_ref().map_or("claude".into(), |p| p.display().to_string())))
}

/// The forge's line, and those that use an App and the issues: an App can read checks, and is not a person.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_github_remote_are_read_each() {
        for (remote, read) in [
            ("https://github.com/a-team/no", "https://api.github.com"),
            ("https://github.example/a-team/no", "https://github.example/api/v3"),
        ] {
            let at = forge::address::at(remote).unwrap();
            let lines = forge::proposal(&forge::address::known(&at).unwrap(), &quoted);
            let plain = lines.replace("# forge:", "forge:").replace("# board:", "board:");
            for line in plain.lines().filter(|l| !l.trim_start().starts_with('#')) {
                let text =
                    format!("projects:\n  - key: A\n    git: {{remote: /a}}\n    ci: {{required: false}}\n{line}\n");
                let dir = tempfile::tempdir().unwrap();
                std::fs::write(dir.path().join("orch.yaml"), text).unwrap();
                let env = [("HOME".to_owned(), "/h".to_owned())].into();
                let config = crate::config::load(Some(&dir.path().join("orch.yaml")), None, &env, dir.path()).unwrap();
                let p = config.projects.first().unwrap();
                let of = p.forge.account().or(p.board.account()).unwrap();
                assert_eq!(of.url, read, "{line}");
            }
        }
    }

    #[test]
    fn what_is_found_makes_a_file_that_is_read() {
        let found = Found {
            key: "SHOP".into(),
            repo: "shop".into(),
            paths: vec!["services/api/**".into()],
            remote: "https://git.example/a-team/shop.git".into(),
            branch: Some("trunk".into()),
            forge: forge::address::known(&forge::address::at("https://gitea.example/no/shop").unwrap()).unwrap(),
            setup: Some(vec!["sh".into(), "-ec".into(), "npm ci; echo 'x: {y}'".into()]),
            ci: Ci::Contexts(vec!["ci/test".into(), "lint: all".into()]),
            failed: try_base::Failed::default(),
            confine: "confine: {network: open}".into(),
            claude: None,
            notes: vec![],
        };
        for ci in [found.ci.clone(), Ci::UnknownContexts] {
            let dir = tempfile::tempdir().unwrap();
            let text = config(&Found { ci, ..found.clone() }, "~/.local/state/orch");
            std::fs::write(dir.path().join("orch.yaml"), text).unwrap();
            let env = [("HOME".to_owned(), "/h".to_owned())].into();
            let config = crate::config::load(Some(&dir.path().join("orch.yaml")), None, &env, dir.path()).unwrap();
            let p = config.projects.first().unwrap();
            assert_eq!((p.key.as_str(), p.git.remote.as_str()), ("SHOP", "https://git.example/a-team/shop.git"));
            assert_eq!(p.git.default_branch.as_deref(), Some("trunk"));
            assert_eq!(p.paths, ["services/api/**"], "what is tried runs where the project's commands run");
            assert!(config.security_gate(p) && config.serial(p));
            assert_eq!(p.worktree.setup.as_ref().unwrap().command.last().unwrap(), "npm ci; echo 'x: {y}'");
            // The cost is bounded from the first day.
            let caps =
                (config.limits.max_cost_usd_per_task, config.limits.max_cost_usd_per_day, config.agents.max_cost_usd);
            assert_eq!(caps, (20.0, 100.0, 5.0));
        }
    }

    #[test]
    fn a_word_that_yaml_reads_otherwise_is_quoted() {
        assert_eq!(quoted("main"), "main");
        assert_eq!(quoted("~/.local/state/orch"), "~/.local/state/orch");
        for text in ["no", "2024", "a: b", "- x", "", "null", "a #b"] {
            assert!(quoted(text).starts_with('"'), "{text}");
        }
    }
}
