//! The values of `git` and `worktree`, and what is checked of them.

use super::paths::{Remote, remote as parts};
use super::types::Author;
use crate::model::reading;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::path::PathBuf;

/// A URL without a credential in it, or a path, absolute afterwards.
pub(super) fn remote<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let named: String = reading::remote(from)?;
    let Remote::Url { scheme, user, address } = parts(&named) else { return Ok(named) };
    let http = scheme.to_ascii_lowercase().starts_with("http");
    if user.is_some_and(|u| http || u.contains(':')) {
        return Err(D::Error::custom(format!(
            "a remote must not hold a user or password (it is not repeated)\nwrite {scheme}://HOST/PATH and give the secret as git.credential: {{env: NAME}} or {{file: PATH}}"
        )));
    }
    let odd = named.chars().any(|c| c.is_whitespace() || c.is_control());
    if address.is_empty() || address.starts_with(['-', '/']) || odd {
        return Err(D::Error::custom(format!("is {named:?}, expected a URL or a path")));
    }
    Ok(named)
}

/// A branch's name; blank: none.
pub(super) fn branch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let branch = reading::maybe_text(from)?;
    match branch.as_deref().is_none_or(is_ref) {
        true => Ok(branch),
        false => Err(D::Error::custom(format!("is {:?}, expected a branch name", branch.unwrap_or_default()))),
    }
}

/// `git.branch_prefix`, if not set.
pub(super) fn feature() -> String {
    "feature/".into()
}

/// The beginning of a branch's name.
pub(super) fn branch_prefix<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let prefix = String::deserialize(from)?;
    match prefix.len() <= 32 && is_ref(&format!("{prefix}A-1")) {
        true => Ok(prefix),
        false => Err(D::Error::custom(format!(
            "is {prefix:?}, expected at most 32 letters, digits, -, _, . or / that begin a branch name"
        ))),
    }
}

/// A plain branch name: a subset of what `git check-ref-format` accepts.
fn is_ref(name: &str) -> bool {
    let part = |p: &str| !p.is_empty() && !p.starts_with(['.', '-']) && !p.ends_with('.') && !p.ends_with(".lock");
    name.split('/').all(part)
        && !name.contains("..")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
}

/// Who commits; a blank name or address is the default's.
pub(super) fn author<'de, D: Deserializer<'de>>(from: D) -> Result<Author, D::Error> {
    let (read, default) = (Author::deserialize(from)?, Author::default());
    let or = |text: String, default: String| Some(text.trim().to_owned()).filter(|t| !t.is_empty()).unwrap_or(default);
    let author = Author { name: or(read.name, default.name), email: or(read.email, default.email) };
    let odd = |text: &str| text.contains(|c: char| c.is_control() || matches!(c, '<' | '>'));
    if odd(&author.name) || odd(&author.email) {
        return Err(D::Error::custom("expected a name and an address without <, > or line ends"));
    }
    Ok(author)
}

/// Files of the operator's machine.
pub(super) fn files<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    struct Located(#[serde(deserialize_with = "reading::path")] PathBuf);
    Ok(Vec::<Located>::deserialize(from)?.into_iter().map(|file| file.0).collect())
}
