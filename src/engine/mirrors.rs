//! The operator's package mirrors, in a run's home (BND-3): read from their own settings by an allow-list.

use crate::adapters::git::files::remove;
use crate::config::process_env;
use crate::model::mirrors::{Dialect, Taken};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The largest settings file that is read.
const MOST: u64 = 1 << 20;

/// Where each file is below a home: the operator's (the first that exists) and a run's.
const FILES: &[(Dialect, &[&str], &str)] = &[
    (Dialect::Npm, &[".npmrc"], ".npmrc"),
    (Dialect::Pip, &[".config/pip/pip.conf", ".pip/pip.conf"], ".config/pip/pip.conf"),
    (Dialect::Cargo, &[".cargo/config.toml", ".cargo/config"], ".cargo/config.toml"),
    (Dialect::Uv, &[".config/uv/uv.toml"], ".config/uv/uv.toml"),
];

/// What is taken from one file.
#[derive(Debug)]
pub struct Mirror {
    /// The operator's file.
    pub from: PathBuf,
    /// Where a run finds it, below its home.
    to: &'static str,
    pub taken: Taken,
}

/// The operator's settings, file by file; empty without a home.
pub fn of_operator() -> Vec<Mirror> {
    let home = process_env().remove("HOME").filter(|h| h.starts_with('/') && h.len() > 1);
    home.map(|home| below(Path::new(&home))).unwrap_or_default()
}

fn below(home: &Path) -> Vec<Mirror> {
    let read = |(dialect, names, to): &(Dialect, &[&str], &'static str)| {
        let from = names.iter().map(|name| home.join(name)).find(|path| path.is_file())?;
        let mut text = String::new();
        std::fs::File::open(&from).ok()?.take(MOST).read_to_string(&mut text).ok()?;
        Some(Mirror { taken: dialect.take(&text), from, to })
    };
    FILES.iter().filter_map(read).collect()
}

/// The certificate files that they name: only files that contain nothing else.
pub fn certificates() -> Vec<PathBuf> {
    let is_public = |path: &PathBuf| {
        let mut text = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        read.is_ok() && text.contains("BEGIN CERTIFICATE") && !text.contains("PRIVATE KEY")
    };
    of_operator().into_iter().flat_map(|m| m.taken.files).filter(is_public).collect()
}

/// Writes them into a home that was just created and in which nothing has run. Skips a file that can't be written.
pub fn write(home: &Path) {
    put(home, &of_operator());
}

fn put(home: &Path, all: &[Mirror]) {
    for mirror in all.iter().filter(|m| !m.taken.text.is_empty()) {
        let path = home.join(mirror.to);
        let made =
            path.parent().map_or(Ok(()), |dir| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir));
        let written = made.and_then(|()| {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o600).open(&path)?.write_all(mirror.taken.text.as_bytes())
        });
        if let Err(e) = written {
            tracing::debug!("{} is not written: {e}", path.display());
            drop(remove(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_3_a_run_s_home_has_the_mirrors_of_the_operator_s() {
        let dir = tempfile::tempdir().unwrap();
        let (own, run) = (dir.path().join("own"), dir.path().join("run"));
        for name in ["own/.pip", "own/.cargo", "run"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::fs::write(own.join(".npmrc"), "registry=https://npm.example\n_authToken=secret\n").unwrap();
        std::fs::write(own.join(".pip/pip.conf"), "[global]\nindex-url=https://pypi.example\n").unwrap();
        std::fs::write(own.join(".cargo/config"), "[registry]\ndefault='own'\n").unwrap();
        put(&run, &below(&own));
        let text = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
        assert_eq!(text(".npmrc"), "registry=https://npm.example\n");
        assert!(text(".config/pip/pip.conf").contains("index-url=https://pypi.example"));
        assert!(text(".cargo/config.toml").contains("default = \"own\""));
        assert!(!run.join(".config/uv").exists());
    }
}
