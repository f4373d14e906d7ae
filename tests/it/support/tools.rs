//! The real scanners, if this machine has or can get them, and folders that replace PATH.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Where `scripts/tools/*.sh` install things.
fn cache() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("ORCH_TOOLS_CACHE").unwrap_or_else(|| {
        let base = var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|h| h.join(".cache")));
        base.unwrap_or_else(std::env::temp_dir).join("orch/tools")
    })
}

static ASKED: Mutex<BTreeMap<String, Option<PathBuf>>> = Mutex::new(BTreeMap::new());

/// A scanner, installed if it is missing. `None`, with a loud message, only if it can't be installed; under
/// `ORCH_TOOLS_REQUIRED` (the gate) that is a failure.
pub fn tool(name: &str) -> Option<PathBuf> {
    let mut asked = ASKED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = asked.get(name) {
        return known.clone();
    }
    let found = find(name);
    asked.insert(name.to_owned(), found.clone());
    assert!(
        found.is_some() || std::env::var_os("ORCH_TOOLS_REQUIRED").is_none(),
        "{name} could not be installed, and ORCH_TOOLS_REQUIRED is set"
    );
    if found.is_none() {
        eprintln!("\n*** NOT TESTED: {name} is not here and can't be installed; scripts/check says why ***\n");
    }
    found
}

fn find(name: &str) -> Option<PathBuf> {
    let place = cache().join("bin").join(name);
    if place.exists() {
        return Some(place);
    }
    let (script, args): (&str, &[&str]) = match name {
        "gitleaks" => ("install-gitleaks.sh", &[]),
        "pip-audit" | "cargo-audit" => ("install-audits.sh", &[name]),
        _ => return which::which(name).ok(),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/tools").join(script);
    let ended = Command::new("sh").arg(script).args(args).status();
    (ended.is_ok_and(|s| s.success()) && place.exists()).then_some(place)
}

/// A folder that is the whole PATH: git and what the test adds.
pub struct Bin {
    pub dir: tempfile::TempDir,
}

impl Bin {
    pub fn new() -> Self {
        let bin = Self { dir: tempfile::tempdir().unwrap() };
        bin.link("git", &which::which("git").unwrap());
        bin
    }

    /// With the real gitleaks; `None` if it is not available.
    pub fn with_gitleaks() -> Option<Self> {
        let bin = Self::new();
        bin.link("gitleaks", &tool("gitleaks")?);
        Some(bin)
    }

    pub fn link(&self, name: &str, to: &Path) {
        symlink(to, self.dir.path().join(name)).unwrap();
    }

    /// Adds a real tool under its own name; returns whether it is available.
    pub fn add(&self, name: &str) -> bool {
        let found = tool(name);
        if let Some(path) = &found {
            self.link(name, path);
        }
        found.is_some()
    }

    /// Adds a shell script under a name.
    pub fn script(&self, name: &str, body: &str) {
        let path = self.dir.path().join(name);
        // It may be a link to the machine's own program, which writing through the link would destroy.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}
