//! Paths and remotes in the file: `~`, `$VAR`, what relative ones are relative to, and which remotes are the same.

use super::error::ConfigError;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Expands `~` at the start, `$NAME` and `${NAME}` anywhere. An unset variable is an error that names it; the message
/// continues the name of the setting.
pub(super) fn expand(text: &str, env: &BTreeMap<String, String>) -> Result<String, ConfigError> {
    let value = |name: &str| {
        env.get(name).filter(|v| !v.is_empty()).cloned().ok_or_else(|| {
            ConfigError::new(format!("is {text:?}, and the variable {name} is not set"))
                .hint("set it, or write the path out")
        })
    };
    let mut out = String::new();
    let mut rest = text;
    if rest == "~" || rest.starts_with("~/") {
        out.push_str(&value("HOME")?);
        rest = &rest[1..];
    }
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, tail) = if let Some(braced) = after.strip_prefix('{') {
            braced.split_once('}').ok_or_else(|| ConfigError::new(format!("is {text:?}: a `${{` without its `}}`")))?
        } else {
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            after.split_at(end)
        };
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&value(name)?);
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// Makes a path absolute under a folder and resolves `.` and `..` by name.
pub(super) fn under(folder: &Path, path: impl AsRef<Path>) -> PathBuf {
    let mut out = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(part),
        }
    }
    out
}

/// A git remote's parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remote<'a> {
    Path(&'a str),
    /// `user` may contain a password; `address` is host, port and path.
    Url {
        scheme: &'a str,
        user: Option<&'a str>,
        address: &'a str,
    },
}

pub(super) fn remote(text: &str) -> Remote<'_> {
    if let Some((scheme, rest)) = text.split_once("://") {
        if scheme.eq_ignore_ascii_case("file") {
            return Remote::Path(rest);
        }
        let host = rest.split('/').next().unwrap_or(rest);
        return match host.rfind('@') {
            Some(at) => Remote::Url { scheme, user: Some(&rest[..at]), address: &rest[at + 1..] },
            None => Remote::Url { scheme, user: None, address: rest },
        };
    }
    // git's own rule: `host:path` has its colon before any slash.
    match text.find(':') {
        Some(colon) if !text[..colon].contains('/') => match text[..colon].rfind('@') {
            Some(at) => Remote::Url { scheme: "ssh", user: Some(&text[..at]), address: &text[at + 1..] },
            None => Remote::Url { scheme: "ssh", user: None, address: text },
        },
        _ => Remote::Path(text),
    }
}

/// What all spellings of one remote have in common (RULE-29): scheme, user, default port, `.git` and the letter case of
/// the host are ignored; a path counts as what it leads to.
pub(super) fn identity(text: &str) -> String {
    let trimmed = |path: &str| {
        let path = path.trim_end_matches('/');
        path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/').to_owned()
    };
    match remote(text) {
        Remote::Path(path) => {
            let path = if path.starts_with('/') { under(Path::new("/"), path) } else { PathBuf::from(path) };
            let path = path.to_string_lossy().into_owned();
            let real = [path.clone(), format!("{path}.git")].iter().find_map(|p| std::fs::canonicalize(p).ok());
            trimmed(&real.map_or_else(|| path.clone(), |p| p.to_string_lossy().into_owned()))
        }
        Remote::Url { scheme, address, .. } => {
            let end = address.find('/').unwrap_or(address.len());
            let (host, path) = address.split_at(end);
            let host = host.to_ascii_lowercase();
            let scp_like = !text.contains("://");
            let (host, path) = match host.split_once(':') {
                Some((host, first)) if scp_like => (host.to_owned(), format!("{first}{path}")),
                Some((host, port))
                    if matches!(
                        (scheme.to_ascii_lowercase().as_str(), port),
                        ("http", "80") | ("https", "443") | ("ssh", _)
                    ) =>
                {
                    (host.to_owned(), path.to_owned())
                }
                _ => (host.clone(), path.to_owned()),
            };
            format!("//{host}/{}", trimmed(path.trim_start_matches('/')))
        }
    }
}

/// Whether two spellings name one remote (RULE-29).
pub fn same_remote(one: &str, other: &str) -> bool {
    identity(one) == identity(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_and_variables_expand_and_an_unset_one_is_named() {
        let env = BTreeMap::from([("HOME".to_owned(), "/h".to_owned()), ("X".to_owned(), "x".to_owned())]);
        let e = |t| expand(t, &env).unwrap();
        assert_eq!(
            (e("~/a"), e("~"), e("/$X/${X}y$"), e("a~b")),
            ("/h/a".into(), "/h".into(), "/x/xy$".into(), "a~b".into())
        );
        assert!(expand("/$NOPE", &env).unwrap_err().message.contains("NOPE"));
        assert!(expand("/${X", &env).is_err());
        assert_eq!(under(Path::new("/c"), "../a/./b"), Path::new("/a/b"));
    }

    #[test]
    fn spellings_of_one_remote_are_one() {
        let one = identity("https://git.example/team/x.git");
        for same in
            ["https://GIT.example:443/team/x", "ssh://git@git.example:22/team/x.git/", "git@git.example:team/x.git"]
        {
            assert_eq!(identity(same), one, "{same}");
        }
        for other in ["https://git.example/team/y.git", "https://git.example:3000/team/x.git", "/team/x.git"] {
            assert_ne!(identity(other), one, "{other}");
        }
        assert_eq!(identity("/a/b.git/"), identity("file:///a/b"));
        assert_eq!(identity("/a/./x/../b"), identity("/a/b"));
    }
}
