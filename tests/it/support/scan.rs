//! `orch security-scan` on a person's clone of a real remote, with a PATH chosen by the test.
#![allow(dead_code, reason = "each test uses its part")]

use super::git::{World, raw};
use super::tools::Bin;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A remote, a clone on branch `work`, and the folder for orch's key.
pub struct Bench {
    pub world: World,
}

impl Bench {
    pub fn new() -> Self {
        Self::with_base(&[])
    }

    /// The default branch has these files as well.
    pub fn with_base(files: &[(&str, &str)]) -> Self {
        let world = World::new();
        world.switch("main", "main");
        if !files.is_empty() {
            world.commit(files, "more of the base");
            world.push("main");
        }
        raw(&world.person(), &["fetch", "-q", "origin"]);
        raw(&world.person(), &["remote", "set-head", "origin", "main"]);
        world.switch("work", "main");
        Self { world }
    }

    pub fn clone(&self) -> PathBuf {
        self.world.person()
    }

    pub fn commit(&self, files: &[(&str, &str)]) {
        self.world.commit(files, "work");
    }

    pub fn git(&self, args: &[&str]) -> String {
        raw(&self.clone(), args)
    }

    pub fn command(&self, bin: &Bin, args: &[&str]) -> Command {
        let mut command = Command::new(crate::support::ORCH);
        command.current_dir(self.clone()).env_clear().env("PATH", bin.dir.path());
        command.env("HOME", self.world.folder.path()).args(["--state-dir"]).arg(self.world.path("orch-state"));
        command.arg("security-scan").args(args);
        command
    }

    pub fn scan(&self, bin: &Bin, args: &[&str]) -> Said {
        Said::of(self.command(bin, args).output().unwrap())
    }

    pub fn scan_with(&self, bin: &Bin, env: &[(&str, &str)], args: &[&str]) -> Said {
        Said::of(self.command(bin, args).envs(env.iter().copied()).output().unwrap())
    }
}

/// The program's output.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }

    pub fn all(&self) -> String {
        format!("exit {}\n{}{}", self.code, self.out, self.err)
    }

    /// Findings of the JSON document.
    pub fn findings(&self) -> Vec<Value> {
        self.json()["findings"].as_array().unwrap().clone()
    }
}

/// An advisory in the form of the public database of crates.
pub fn advisory(id: &str, package: &str, patched: &str) -> String {
    format!(
        "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{package}\"\ndate = \"2020-11-18\"\ncvss = \"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H\"\n\n[versions]\npatched = [\"{patched}\"]\n```\n\n# A hole in {package}\n\nText.\n"
    )
}

/// Writes one into a database folder.
pub fn write_advisory(db: &Path, id: &str, package: &str) {
    let dir = db.join("crates").join(package);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("{id}.md")), advisory(id, package, ">=0.2.23")).unwrap();
}
