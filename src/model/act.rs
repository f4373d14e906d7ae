//! Who acted (BND-6), as each release, stop, retry, unfreeze and halt records it, and from where a subcommand was
//! called.

use super::stage::words;
use super::task::Actor;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who gave an answer or an order, and through which channel. Always an object in JSON:
/// `{"via": "board", "user": "ann"}`. A field that the channel does not know is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "via", rename_all = "lowercase")]
pub enum By {
    /// A subcommand of `orch`.
    Command {
        /// The account's uid.
        uid: u32,
        /// The terminal, such as `/dev/pts/3`.
        tty: Option<String>,
        /// The name of the program that called it.
        parent: Option<String>,
        host: Option<String>,
    },
    /// A message or button of a Telegram chat.
    Telegram {
        /// The user's number there.
        user: String,
    },
    /// A status set on the board.
    Board {
        /// The board's name for its user; on the local board the file's owner.
        user: Option<String>,
    },
    /// A label of the work item.
    Label {
        /// Its name; `None` in records of older versions.
        #[serde(default)]
        label: Option<String>,
        /// Who set it.
        user: Option<String>,
    },
}

words! {
    /// Where the audit table's last hash is published outside this machine (BND-6).
    AuditAnchor { None = "none", Forge = "forge" }
}

/// A process between the caller and the machine's first process; the first of a lineage is the caller itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestor {
    pub actor: Actor,
    /// Values of the run's mark in the environment it was started with.
    pub marks: Vec<String>,
    /// The services in its control group's path, without `.service`.
    pub units: Vec<String>,
    /// Whether its command line is a supervisor's. A process that only claims to be one is refused for it and gains
    /// nothing.
    pub supervises: bool,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (way, user) = match self {
            Self::Command { uid, tty, .. } => {
                write!(f, "the command line, uid {uid}")?;
                return tty.as_ref().map_or(Ok(()), |tty| write!(f, " at {tty}"));
            }
            Self::Telegram { user } => ("Telegram", Some(user)),
            Self::Board { user } => ("the board", user.as_ref()),
            Self::Label { label, user } => {
                match label {
                    Some(label) => write!(f, "the label {label:?}")?,
                    None => f.write_str("a label")?,
                }
                return user.as_ref().map_or(Ok(()), |user| write!(f, ", {user}"));
            }
        };
        f.write_str(way)?;
        user.map_or(Ok(()), |user| write!(f, ", {user}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_way_is_an_object_that_names_it() {
        let tty = Some("/dev/pts/3".to_owned());
        let command = By::Command { uid: 1000, tty, parent: Some("bash".to_owned()), host: None };
        let table = [
            (
                command,
                json!({"via": "command", "uid": 1000, "tty": "/dev/pts/3", "parent": "bash", "host": null}),
                "the command line, uid 1000 at /dev/pts/3",
            ),
            (By::Telegram { user: "42".to_owned() }, json!({"via": "telegram", "user": "42"}), "Telegram, 42"),
            (By::Board { user: Some("ann".to_owned()) }, json!({"via": "board", "user": "ann"}), "the board, ann"),
            (By::Label { label: None, user: None }, json!({"via": "label", "label": null, "user": null}), "a label"),
            (
                By::Label { label: Some("yes".to_owned()), user: Some("ann".to_owned()) },
                json!({"via": "label", "label": "yes", "user": "ann"}),
                "the label \"yes\", ann",
            ),
        ];
        for (by, document, text) in table {
            assert_eq!(json!(by), document);
            assert_eq!(serde_json::from_value::<By>(document).unwrap(), by);
            assert_eq!(by.to_string(), text);
        }
    }
}
