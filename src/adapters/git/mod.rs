//! git as a program: calling it (`cmd`), the one mirror of a repository (`mirror`, `history`, `update`), checkouts of
//! runs (`checkout`), what a run left in one, read as data (`walk`) and made into one commit (`build`), and what a
//! build left to be deployed (`output`). git never runs with a repository, index, attribute, configuration or work tree
//! that a run could write to (BND-5).

pub mod build;
pub mod changes;
pub mod checkout;
pub mod cmd;
mod credential;
pub mod files;
mod fixed;
mod glance;
mod gone;
pub mod history;
pub mod large;
pub mod line;
mod lock;
pub mod mirror;
mod object;
pub mod output;
pub mod push;
mod reader;
mod refusal;
pub mod shared;
pub mod update;
pub mod walk;

pub use crate::model::sides::{Method as MergeMethod, Update as UpdateMode};
pub use changes::{ChangedPath, Object};
pub use checkout::{CheckedOut, CheckoutPlan, Documents};
pub(super) use cmd::scrub;
pub use cmd::{Git, GitError};
pub use credential::Credential;
pub use glance::{Answer, Heads, adopt, answers};
pub use history::{DiffForm, EntryKind, MAX_FILE, TreeEntry};
pub use mirror::Mirror;
pub use push::{DeleteOutcome, PushOutcome};
pub use reader::rest;

/// A name and address as git records them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub email: String,
}

impl Person {
    /// Takes both texts as they are; bytes that git's format can't contain are dropped when a commit is written.
    pub fn new(name: &str, email: &str) -> Self {
        Self { name: name.to_owned(), email: email.to_owned() }
    }

    /// `Name <address>` without bytes that would end the field early; never an empty name.
    fn line(&self) -> String {
        let clean = |text: &str| -> String {
            text.chars().filter(|c| !c.is_control() && *c != '<' && *c != '>').collect::<String>().trim().to_owned()
        };
        let name = clean(&self.name);
        format!("{} <{}>", if name.is_empty() { "orch".to_owned() } else { name }, clean(&self.email))
    }
}

/// Whether a text can be a branch: `git check-ref-format --branch` accepts it, and it can't be read as an option.
pub fn valid_branch(name: &str) -> bool {
    let bad_char = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\\u{7f}".contains(c);
    !name.is_empty()
        && name.len() <= 200
        && name != "HEAD"
        && name != "@"
        && !name.starts_with('-')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.chars().any(bad_char)
        && name
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with('.') && !part.ends_with(".lock"))
}

/// Splits NUL-terminated output into texts. Bytes that are not UTF-8 become U+FFFD, so that a hostile name stays
/// visible and still matches a glob of its folder.
fn nul_texts(bytes: &[u8]) -> Vec<String> {
    bytes.split(|b| *b == 0).filter(|p| !p.is_empty()).map(|p| String::from_utf8_lossy(p).into_owned()).collect()
}

/// Parses the bytes as what git prints (see `fuzzing`).
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    push::fuzz(&text);
    changes::fuzz(bytes);
    history::fuzz(bytes);
    update::fuzz(bytes);
    cmd::scrub(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_names_that_git_or_a_command_line_would_misread_are_refused() {
        for good in ["main", "feature/ORCH-1-x", "a/b.c"] {
            assert!(valid_branch(good), "{good}");
        }
        for bad in
            ["", "-d", "a..b", "a b", "a:b", "HEAD", "@", "a@{1}", "x.lock", "a//b", "/a", "a/", ".a", "a/.b", "a\nb"]
        {
            assert!(!valid_branch(bad), "{bad}");
        }
    }

    #[test]
    fn an_identity_can_not_break_out_of_its_field() {
        assert_eq!(Person::new("A <b>\nx", "e>\n@x").line(), "A bx <e@x>");
        assert_eq!(Person::new("", "").line(), "orch <>");
    }
}
