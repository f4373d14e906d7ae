//! `orch.env`, the environment of the timers' units on top of their manager's own (ORD-4): timers see what `doctor`
//! saw.

use super::Done;
use crate::cli::exit::Failure;
use crate::config::{Config, SecretRef};
use anyhow::Context;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Precedes the digest of what follows: an unchanged file is `orch`'s own, and `init --uninstall` removes it.
const MARK: &str = "# Written by `orch init --systemd`. Unchanged while this is the digest of the rest: ";

/// Where the file of an installation is.
pub fn place(config: &Path) -> PathBuf {
    config.with_file_name("orch.env")
}

/// Writes the file, readable by its owner only. An existing one is kept, and what it lacks is named. Returns whether it
/// was written.
pub fn write(config: &Config, done: &mut Done, notes: &mut Vec<String>) -> Result<bool, Failure> {
    let path = place(&config.file);
    let text = text(config, &search_path(&std::env::var_os("PATH").unwrap_or_default()));
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    match made {
        Ok(mut file) => {
            file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
            done.written.push(path);
            Ok(true)
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let there = std::fs::read_to_string(&path).unwrap_or_default();
            let lacks = lacking(config, &there);
            if !lacks.is_empty() {
                notes.push(format!("{} is kept; it does not set {}", path.display(), lacks.join(", ")));
            }
            done.left.push(path);
            Ok(false)
        }
        Err(e) => Err(e).with_context(|| format!("writing {}", path.display()))?,
    }
}

/// The folders of a search path that a unit may use: absolute, existing, each once, none that `/tmp` may lose.
fn search_path(path: &OsStr) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for dir in std::env::split_paths(path) {
        let real = std::fs::canonicalize(&dir);
        let passing = |p: &Path| p.starts_with("/tmp");
        let plain = dir.to_str().is_some_and(|t| !t.chars().any(char::is_control));
        let fit = dir.is_absolute() && plain && dir.is_dir() && !passing(&dir) && !real.is_ok_and(|r| passing(&r));
        if fit && !all.contains(&dir) {
            all.push(dir);
        }
    }
    all
}

/// The variables that references in the configuration name, with the place.
fn references(config: &Config) -> BTreeMap<String, String> {
    let named = config.secrets().into_iter().filter_map(|(at, from)| match from {
        SecretRef::Env(name) => Some((name.clone(), at)),
        SecretRef::File(_) | SecretRef::Command(_) => None,
    });
    // The first place that names it.
    let mut all = BTreeMap::new();
    for (name, at) in named {
        all.entry(name).or_insert(at);
    }
    all
}

fn text(config: &Config, path: &[PathBuf]) -> String {
    let folders: Vec<String> = path.iter().map(|p| p.display().to_string()).collect();
    let mut rest = String::from(
        "# This file may contain secrets: no other account can read it. All variables: docs/configuration.md\n",
    );
    rest.push_str(&format!("PATH={}\n", value(&folders.join(":"))));
    for (name, at) in references(config) {
        rest.push_str(&format!("# {at}\n#{name}=\n"));
    }
    format!("{MARK}{}\n{rest}", digest(&rest))
}

/// A value as `EnvironmentFile=` parses it.
fn value(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=~".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Whether nobody has changed the file since it was written.
pub fn is_unchanged(text: &str) -> bool {
    let first = text.split_once('\n').and_then(|(first, rest)| Some((first.strip_prefix(MARK)?, rest)));
    first.is_some_and(|(is, rest)| is == digest(rest))
}

/// What a file with this text sets.
pub fn settings(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (name, value) = line.trim().split_once('=')?;
        let sound = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        sound.then(|| (name.to_owned(), unquoted(value.trim())))
    };
    text.lines().filter_map(pair).collect()
}

fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
        return text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or(text).to_owned();
    };
    let mut out = String::new();
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    out
}

/// `PATH` and the referenced variables that the file does not set.
pub fn lacking(config: &Config, text: &str) -> Vec<String> {
    let set = settings(text);
    let wanted = std::iter::once("PATH".to_owned()).chain(references(config).into_keys());
    wanted.filter(|name| set.get(name).is_none_or(String::is_empty)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ord_4_the_path_is_what_is_there_and_stays() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let bin = dir.path().join("my bin");
        std::fs::create_dir(&bin).unwrap();
        let gone = dir.path().join("gone");
        std::os::unix::fs::symlink("/tmp", dir.path().join("link")).unwrap();
        let path = std::env::join_paths([
            PathBuf::from("/usr/bin"),
            bin.clone(),
            gone,
            "relative".into(),
            "/tmp".into(),
            dir.path().join("link"),
            "/usr/bin".into(),
        ]);
        let found = search_path(&path.unwrap());
        assert_eq!(found, [PathBuf::from("/usr/bin"), bin]);
    }

    #[test]
    fn ord_4_what_is_written_is_read_again_and_a_change_is_seen() {
        let env: BTreeMap<String, String> = [("HOME".to_owned(), "/h".to_owned())].into();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orch.yaml");
        std::fs::write(&file, "projects: [{key: A, git: {remote: /a, credential: {env: GIT_TOKEN}}}]\n").unwrap();
        let config = crate::config::load(Some(&file), None, &env, dir.path()).unwrap();
        let made = text(&config, &["/usr/bin".into(), "/opt/a \"b\"".into()]);
        assert!(made.contains("#GIT_TOKEN=\n") && made.contains("# projects.A.git.credential\n"), "{made}");
        assert_eq!(settings(&made), [("PATH".to_owned(), "/usr/bin:/opt/a \"b\"".to_owned())].into());
        assert!(is_unchanged(&made) && !is_unchanged(&format!("{made}X=1\n")) && !is_unchanged(""));
        assert_eq!(lacking(&config, &made), ["GIT_TOKEN"]);
        assert_eq!(lacking(&config, "GIT_TOKEN=x\n"), ["PATH"]);
    }
}
