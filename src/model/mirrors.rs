//! Which settings of the operator's npm, pip, cargo and uv reach a run (BND-3): package sources and whom to trust
//! there, by an allow-list of keys. Never a token, a program to start, or a value with user information in it.

use std::path::PathBuf;
use toml::{Table, Value};

/// One file for a run, and what is left out of it from the operator's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// The content of the run's file; empty: it needs none.
    pub text: String,
    /// Allowed keys with user information in their value.
    pub left_out: Vec<String>,
    /// Certificate files that are named.
    pub files: Vec<PathBuf>,
}

/// The dialect of a settings file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Npm,
    Pip,
    Cargo,
    Uv,
}

impl Dialect {
    /// The allowed part of one of the operator's files. A file that can't be parsed gives nothing.
    pub fn take(self, text: &str) -> Taken {
        let mut out = Taken::default();
        match self {
            Self::Npm => npm(text, &mut out),
            Self::Pip => pip(text, &mut out),
            Self::Cargo => table(text, cargo, &mut out),
            Self::Uv => table(text, uv, &mut out),
        }
        out
    }
}

/// Whether a value may carry a password or name a variable that does.
fn is_private(value: &str) -> bool {
    if value.contains("${") || value.contains("$(") {
        return true;
    }
    let Some((_, rest)) = value.split_once("://") else { return value.contains('@') && value.contains(':') };
    // A query may contain a token, as may a name before the host.
    rest.split('/').next().is_some_and(|authority| authority.contains('@')) || rest.contains('?')
}

impl Taken {
    /// Whether a value of an allowed key is let through.
    fn admits(&mut self, key: &str, value: &str) -> bool {
        if value.contains(['\n', '\r', '\0']) || is_private(value) {
            self.left_out.push(key.to_owned());
            return false;
        }
        true
    }

    fn line(&mut self, key: &str, value: &str) {
        self.text.push_str(&format!("{key}={value}\n"));
    }

    fn file(&mut self, value: &str) {
        self.files.extend(Some(PathBuf::from(value)).filter(|path| path.is_absolute()));
    }
}

fn npm(text: &str, out: &mut Taken) {
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with([';', '#', '['])) {
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim().trim_matches(['"', '\'']));
        let scoped = key.strip_prefix('@').and_then(|k| k.strip_suffix(":registry")).is_some_and(|k| !k.is_empty());
        if (key == "registry" || key == "cafile" || scoped) && out.admits(key, value) {
            out.line(key, value);
            if key == "cafile" {
                out.file(value);
            }
        }
    }
}

fn pip(text: &str, out: &mut Taken) {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut listens = false;
    for line in text.lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = bare.strip_prefix('[').and_then(|s| s.strip_suffix(']')) {
            listens = matches!(section.trim(), "global" | "install" | "download" | "wheel");
            found.push((String::new(), Vec::new()));
            continue;
        }
        // A continuation of the value above.
        if line.starts_with([' ', '\t']) {
            if let Some((_, values)) = found.last_mut() {
                values.push(bare.to_owned());
            }
            continue;
        }
        let Some((key, value)) = bare.split_once(['=', ':']) else { continue };
        let key = key.trim().to_ascii_lowercase().replace('_', "-");
        let known = listens && matches!(key.as_str(), "index-url" | "extra-index-url" | "cert");
        found.push((if known { key } else { String::new() }, vec![value.trim().to_owned()]));
    }
    let mut lines = Taken::default();
    for (key, values) in found.iter().filter(|(key, _)| !key.is_empty()) {
        let values: Vec<&str> = values.iter().flat_map(|v| v.split_whitespace()).collect();
        let open: Vec<&str> = values.into_iter().filter(|value| out.admits(key, value)).collect();
        if !open.is_empty() {
            lines.line(key, &open.join("\n    "));
        }
        if key == "cert" {
            open.iter().for_each(|value| out.file(value));
        }
    }
    if !lines.text.is_empty() {
        out.text = format!("[global]\n{}", lines.text);
    }
}

fn table(text: &str, take: fn(&Table, &mut Taken) -> Table, out: &mut Taken) {
    let Ok(all) = text.parse::<Table>() else { return };
    let kept = take(&all, out);
    if !kept.is_empty() {
        out.text = kept.to_string();
    }
}

/// The strings of some keys of one table.
fn strings(from: Option<&Value>, at: &str, keys: &[&str], out: &mut Taken) -> Table {
    let mut kept = Table::new();
    for key in keys {
        if let Some(Value::String(value)) = from.and_then(|t| t.get(*key))
            && out.admits(&format!("{at}.{key}"), value)
        {
            kept.insert((*key).to_owned(), Value::String(value.clone()));
        }
    }
    kept
}

/// Tables by name below one key, each with some of its strings.
fn named(all: &Table, key: &str, keys: &[&str], out: &mut Taken) -> Table {
    let mut kept = Table::new();
    for (name, value) in all.get(key).and_then(Value::as_table).into_iter().flatten() {
        let own = strings(Some(value), &format!("{key}.{name}"), keys, out);
        if !own.is_empty() {
            kept.insert(name.clone(), Value::Table(own));
        }
    }
    kept
}

fn put(into: &mut Table, key: &str, table: Table) {
    if !table.is_empty() {
        into.insert(key.to_owned(), Value::Table(table));
    }
}

fn cargo(all: &Table, out: &mut Taken) -> Table {
    let mut kept = Table::new();
    let sources = named(all, "source", &["registry", "replace-with"], out);
    put(&mut kept, "source", sources);
    let registries = named(all, "registries", &["index", "protocol"], out);
    put(&mut kept, "registries", registries);
    let registry = strings(all.get("registry"), "registry", &["default", "index"], out);
    put(&mut kept, "registry", registry);
    let http = strings(all.get("http"), "http", &["cainfo"], out);
    if let Some(Value::String(file)) = http.get("cainfo") {
        out.file(file);
    }
    put(&mut kept, "http", http);
    kept
}

fn uv(all: &Table, out: &mut Taken) -> Table {
    let mut kept = urls(all, "", out);
    let indexes: Vec<Value> = all
        .get("index")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|index| {
            let mut own = strings(Some(index), "index", &["url", "name"], out);
            for key in ["default", "explicit"] {
                if let Some(Value::Boolean(is)) = index.get(key) {
                    own.insert(key.to_owned(), Value::Boolean(*is));
                }
            }
            own.contains_key("url").then_some(Value::Table(own))
        })
        .collect();
    if !indexes.is_empty() {
        kept.insert("index".to_owned(), Value::Array(indexes));
    }
    if let Some(pip) = all.get("pip").and_then(Value::as_table) {
        let pip = urls(pip, "pip.", out);
        put(&mut kept, "pip", pip);
    }
    kept
}

/// `index-url` and `extra-index-url`, which is one or several.
fn urls(all: &Table, at: &str, out: &mut Taken) -> Table {
    let mut kept = Table::new();
    for key in ["index-url", "extra-index-url"] {
        match all.get(key) {
            Some(Value::String(value)) if out.admits(&format!("{at}{key}"), value) => {
                kept.insert(key.to_owned(), Value::String(value.clone()));
            }
            Some(Value::Array(values)) => {
                let open = values.iter().filter_map(Value::as_str).filter(|v| out.admits(&format!("{at}{key}"), v));
                let open: Vec<Value> = open.map(|v| Value::String(v.to_owned())).collect();
                kept.insert(key.to_owned(), Value::Array(open));
            }
            Some(_) | None => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_3_npm_s_registries_are_taken_and_its_tokens_are_not() {
        let taken = Dialect::Npm.take(
            "; mine\nregistry = \"https://npm.example/\"\n@team:registry=https://npm.example/team/\n\
             //npm.example/:_authToken=secret\n_auth=c2VjcmV0\n@other:registry=https://u:secret@npm.example/\n\
             cafile=/etc/own.pem\nscript-shell=/tmp/evil\nregistry2=x\n@x:registry=https://h/${TOKEN}\n",
        );
        assert_eq!(
            taken.text,
            "registry=https://npm.example/\n@team:registry=https://npm.example/team/\ncafile=/etc/own.pem\n"
        );
        assert_eq!(taken.left_out, ["@other:registry", "@x:registry"]);
        assert_eq!(taken.files, [PathBuf::from("/etc/own.pem")]);
    }

    #[test]
    fn bnd_3_pip_s_indexes_are_taken_on_one_line_or_several() {
        let taken = Dialect::Pip.take(
            "[global]\nindex_url = https://pypi.example/simple\nextra-index-url =\n    https://a.example/simple\n    \
             https://u:secret@b.example/simple\npassword = x\n[install]\ncert: /etc/own.pem\n[list]\nindex-url = no\n",
        );
        assert_eq!(
            taken.text,
            "[global]\nindex-url=https://pypi.example/simple\nextra-index-url=https://a.example/simple\ncert=/etc/own.pem\n"
        );
        assert_eq!((taken.left_out, taken.files.len()), (vec!["extra-index-url".to_owned()], 1));
    }

    #[test]
    fn bnd_3_cargo_s_sources_are_taken_and_nothing_that_starts_a_program() {
        let taken = Dialect::Cargo.take(
            "[source.crates-io]\nreplace-with = 'mirror'\n[source.mirror]\nregistry = 'sparse+https://crates.example/'\n\
             [registries.own]\nindex = 'https://u:secret@crates.example/'\ntoken = 'secret'\ncredential-provider = 'evil'\n\
             [build]\nrustc-wrapper = '/tmp/evil'\n[http]\ncainfo = '/etc/own.pem'\nproxy = 'u:secret@p:1'\n\
             [target.x86_64-unknown-linux-gnu]\nrunner = 'true'\n",
        );
        let table: Table = taken.text.parse().unwrap();
        assert_eq!(table["source"]["crates-io"]["replace-with"].as_str(), Some("mirror"));
        assert_eq!(table["source"]["mirror"]["registry"].as_str(), Some("sparse+https://crates.example/"));
        assert_eq!(table.keys().collect::<Vec<_>>(), ["http", "source"]);
        assert!(!taken.text.contains("secret") && !taken.text.contains("evil"), "{}", taken.text);
        assert_eq!(taken.left_out, ["registries.own.index"]);
    }

    #[test]
    fn bnd_3_uv_s_indexes_are_taken() {
        let taken = Dialect::Uv.take(
            "index-url = 'https://pypi.example/simple'\nextra-index-url = ['https://a.example', 'https://t@b.example']\n\
             keyring-provider = 'subprocess'\n[[index]]\nname = 'own'\nurl = 'https://own.example'\ndefault = true\n\
             [[index]]\nurl = 'https://u:secret@own.example'\n[pip]\nindex-url = 'https://pip.example'\n",
        );
        let table: Table = taken.text.parse().unwrap();
        assert_eq!(table["index"].as_array().unwrap().len(), 1);
        assert_eq!(table["index"][0]["default"].as_bool(), Some(true));
        assert_eq!(table["extra-index-url"].as_array().unwrap().len(), 1);
        assert_eq!(table["pip"]["index-url"].as_str(), Some("https://pip.example"));
        assert_eq!(taken.left_out, ["extra-index-url", "index.url"]);
        assert!(!table.contains_key("keyring-provider"));
    }

    #[test]
    fn what_is_no_settings_file_gives_nothing() {
        for dialect in [Dialect::Npm, Dialect::Pip, Dialect::Cargo, Dialect::Uv] {
            for text in ["", "[", "\u{0}=\u{0}", "= = =", "[source]\nx = 1", "index = 3", "[global]\n x\nindex-url"] {
                assert_eq!(dialect.take(text).text, "", "{dialect:?} {text:?}");
            }
        }
    }
}
