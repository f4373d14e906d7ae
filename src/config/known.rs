//! What the redactor has to know from a configuration (BND-4).

use super::secret::{SecretRef, variable};
use super::types::Config;
use crate::model::redact::{LEAST, Secrets};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest copied file whose lines are treated as secrets.
const COPY_BYTES: u64 = 256 << 10;

impl Config {
    /// Reads every secret that is free to read: variables, files, and the lines of files copied into checkouts. The
    /// output of a command becomes known once something asks for it.
    pub fn known(&self) -> impl FnOnce() -> Secrets + Send + 'static {
        let of = self.secrets().into_iter();
        let references: Vec<(String, SecretRef)> = of.map(|(at, from)| (at, from.clone())).collect();
        let copies = self.copies();
        move || {
            let mut all = Secrets::new();
            for (at, from) in references {
                match from {
                    SecretRef::Env(_) | SecretRef::File(_) => {}
                    SecretRef::Command(_) => continue,
                }
                if let Ok(secret) = from.read() {
                    all.push((at, Zeroizing::new(secret.expose().to_owned())));
                }
            }
            copies.iter().for_each(|path| lines(path, &mut all));
            all
        }
    }

    /// The existing variables that references name, with their values: what is passed to the next process.
    pub fn variables(&self) -> BTreeMap<String, Zeroizing<String>> {
        let named = self.secrets().into_iter().filter_map(|(_, from)| match from {
            SecretRef::Env(name) => Some((name.clone(), variable(name).ok()?)),
            SecretRef::File(_) | SecretRef::Command(_) => None,
        });
        named.collect()
    }

    fn copies(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = self.projects.iter().flat_map(|p| p.worktree.copy.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// What of a configuration the redactor can't hide: secrets that are too short, copied files that are too large.
    /// One sentence each, without a value.
    pub fn not_hidden(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (at, from) in self.secrets() {
            let short = match from {
                SecretRef::Env(_) | SecretRef::File(_) => from.read().is_ok_and(|s| s.expose().len() < LEAST),
                SecretRef::Command(_) => false,
            };
            if short {
                all.push(format!(
                    "{at}: the secret {from} is shorter than {LEAST} bytes and can't be kept out of logs and prompts"
                ));
            }
        }
        for path in self.copies() {
            if std::fs::metadata(&path).is_ok_and(|m| m.len() > COPY_BYTES) {
                all.push(format!(
                    "worktree.copy: of {} only the first {} KiB are kept out of logs and prompts",
                    path.display(),
                    COPY_BYTES >> 10
                ));
            }
        }
        all
    }
}

/// The lines of a copied file. Of a `NAME=value` line, also the value alone if it looks like a secret: programs print
/// it without its name.
fn lines(path: &Path, all: &mut Secrets) {
    let mut bytes = Zeroizing::new(Vec::new());
    let Ok(file) = std::fs::File::open(path) else { return };
    if file.take(COPY_BYTES).read_to_end(&mut bytes).is_err() {
        return;
    }
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut add = |text: &str| all.push((format!("{name}:{}", n + 1), Zeroizing::new(text.to_owned())));
        if line.trim().len() >= LEAST {
            add(line);
        }
        if let Some(value) = value_of(line) {
            add(value);
        }
    }
}

/// The value of an assignment, unless it looks like an ordinary word or address.
fn value_of(line: &str) -> Option<&str> {
    let (name, value) = line.split_once(['=', ':'])?;
    let value = value.trim().trim_matches(['"', '\'', ',']);
    let plain = name.trim().chars().all(|c| c.is_ascii_alphanumeric() || "_-.\"' ".contains(c));
    let address = value.starts_with("http") && !value.contains('@');
    let mixed = value.bytes().any(|b| b.is_ascii_digit()) && value.bytes().any(|b| b.is_ascii_alphabetic());
    (plain && !address && mixed && value.len() >= 2 * LEAST && !value.contains(char::is_whitespace)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_4_each_line_of_a_copied_file_is_known_and_a_value_that_looks_like_a_secret_on_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        let text = "MODE=production\nshort=1\n\nAPI_KEY=\"zq81-hd72-mm10-xx\"\r\nURL=http://localhost:3000/\nDB=pg://u:p4ss@host/db\n";
        std::fs::write(&path, [text.as_bytes(), b"\xff\xfe binary line\n"].concat()).unwrap();
        let mut all = Secrets::new();
        lines(&path, &mut all);
        let found: Vec<(&str, &str)> = all.iter().map(|(n, v)| (n.as_str(), v.trim())).collect();
        assert_eq!(
            found,
            [
                (".env:1", "MODE=production"),
                (".env:4", "API_KEY=\"zq81-hd72-mm10-xx\""),
                (".env:4", "zq81-hd72-mm10-xx"),
                (".env:5", "URL=http://localhost:3000/"),
                (".env:6", "DB=pg://u:p4ss@host/db"),
                (".env:6", "pg://u:p4ss@host/db"),
            ]
        );
    }
}
