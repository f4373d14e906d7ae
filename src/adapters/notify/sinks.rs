//! The sinks other than chats: files, a command, a webhook.

use super::{AlertMessage, CardMessage, Notifier, Outcome};
use crate::adapters::http::{Auth, Class, Client, Fault, HttpError, Limits, Method, Request, Token};
use crate::adapters::modes;
use crate::model::card::Delivered;
use crate::short::{self, Bounds, End, Whom};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Size limit of `cards/alerts.txt`; beyond it the file becomes `alerts.1.txt`.
const ALERTS_MAX: u64 = 1 << 20;
/// How much of a command's error output is kept.
const COMPLAINT: usize = 4 << 10;
/// The wait for a throttled reply that does not say how long.
const DEFAULT_WAIT_S: u64 = 60;

fn not_now(why: String) -> Outcome {
    Outcome::new(Delivered::NotNow { why })
}

fn off(why: String) -> Outcome {
    Outcome { sink_off: Some(why.clone()), ..Outcome::new(Delivered::Refused { why }) }
}

/// The state directory: `cards/<KEY>.txt` and `cards/alerts.txt`.
#[derive(Debug, Clone)]
pub struct Files {
    pub dir: PathBuf,
}

impl Notifier for Files {
    fn show(&self, message: &CardMessage<'_>, _deadline: Instant) -> Outcome {
        card_file(&self.dir, message)
    }

    fn alert(&self, message: &AlertMessage<'_>, _deadline: Instant) -> Outcome {
        alert_file(&self.dir, message)
    }

    fn shows_again(&self) -> bool {
        true
    }
}

/// Gets each message as one JSON object on stdin. Exit 0 means delivered; anything else is retried.
#[derive(Debug, Clone)]
pub struct Program {
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    pub timeout: Duration,
}

impl Program {
    fn tell(&self, event: &Value, deadline: Instant) -> Outcome {
        command(&self.argv, &self.env, event, deadline.min(Instant::now() + self.timeout))
    }
}

impl Notifier for Program {
    fn show(&self, message: &CardMessage<'_>, deadline: Instant) -> Outcome {
        self.tell(&card_event(message), deadline)
    }

    fn alert(&self, message: &AlertMessage<'_>, deadline: Instant) -> Outcome {
        self.tell(&alert_event(message), deadline)
    }
}

/// A card as a command or webhook gets it.
fn card_event(message: &CardMessage<'_>) -> Value {
    json!({
        "version": 1,
        "kind": "card",
        "id": message.id,
        "key": message.key.as_str(),
        "text": message.card.plain,
        "html": message.card.html,
        "silent": true,
        "repeated": false,
    })
}

/// An alert as a command or webhook gets it.
fn alert_event(message: &AlertMessage<'_>) -> Value {
    let text = message.text();
    json!({
        "version": 1,
        "kind": "alert",
        "alert": message.kind.as_str(),
        "id": message.id,
        "key": message.key,
        "text": text.plain,
        "html": text.html,
        "silent": !message.kind.asks_a_person(),
        "repeated": message.unknown_before,
    })
}

/// Writes `cards/<KEY>.txt`, whole or not at all.
fn card_file(dir: &Path, message: &CardMessage<'_>) -> Outcome {
    let folder = dir.join("cards");
    let path = folder.join(format!("{}.txt", message.key.as_str()));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        let mut file = tempfile::Builder::new().prefix(".card-").tempfile_in(&folder)?;
        writeln!(file, "{}", message.card.plain)?;
        file.as_file().sync_data()?;
        file.persist(&path).map_err(|e| e.error)?;
        Ok(())
    };
    match write() {
        Ok(()) => Outcome::new(Delivered::Yes),
        Err(e) => not_now(format!("{} can't be written: {e}", path.display())),
    }
}

/// Appends the alert to `cards/alerts.txt`, newest last, under its outbox key.
fn alert_file(dir: &Path, message: &AlertMessage<'_>) -> Outcome {
    let folder = dir.join("cards");
    let path = folder.join("alerts.txt");
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        if std::fs::symlink_metadata(&path).is_ok_and(|m| m.len() > ALERTS_MAX) {
            std::fs::rename(&path, folder.join("alerts.1.txt"))?;
        }
        let entry = format!("[{}]\n{}\n\n", message.id, message.text().plain);
        // A single write to an appended file, so that entries of two processes never mix.
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?.write_all(entry.as_bytes())
    };
    match write() {
        Ok(()) => Outcome::new(Delivered::Yes),
        Err(e) => not_now(format!("{} can't be written: {e}", path.display())),
    }
}

/// Runs the command with the event on stdin until `deadline`, then ends its process group.
fn command(argv: &[String], env: &[(OsString, OsString)], event: &Value, deadline: Instant) -> Outcome {
    let Some((program, args)) = argv.split_first() else {
        return off("the notify command is empty; name a program and its arguments".to_owned());
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return not_now("no time left in this step".to_owned());
    }
    let mut child = Command::new(program);
    child.args(args).env_clear().process_group(0).stdout(Stdio::null()).stdin(Stdio::piped()).stderr(Stdio::piped());
    child.envs(env.iter().map(|(name, value)| (name, value)));
    let child = match modes::spawn_public(&mut child) {
        Ok(child) => child,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied) => {
            return off(format!("the notify command {program} can't be started: {e}"));
        }
        Err(e) => return not_now(format!("the notify command {program} can't be started: {e}")),
    };
    let input = format!("{event}\n");
    let bounds = Bounds {
        input: input.as_bytes(),
        limit: left,
        out: 0,
        err: COMPLAINT,
        strict: false,
        grace: Duration::ZERO,
        whom: Whom::Family,
    };
    let said = match short::follow(child, &bounds) {
        Ok(said) => said,
        Err(e) => return not_now(format!("waiting for the notify command {program} failed: {e}")),
    };
    let End::Itself(status) = said.end else {
        let why = format!("the notify command {program} did not end within {} s", left.as_secs_f32());
        return Outcome { strays: 1, ..Outcome::new(Delivered::Unknown { why }) };
    };
    if status.success() {
        return Outcome::new(Delivered::Yes);
    }
    let text = String::from_utf8_lossy(&said.err);
    let line = text.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no message");
    let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    not_now(format!("the notify command {program} ended with {status}: {line}"))
}

/// One address that gets each message as a JSON POST; its `id` is the same in a repeat. Often the whole secret is its path, so only the host is ever shown.
#[derive(Clone)]
pub struct Webhook {
    http: Client,
    /// Path and query.
    path: String,
    timeout: Duration,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({}/***)", self.http.base())
    }
}

impl Webhook {
    /// `token` is sent as `Authorization: Bearer`; `timeout` is the total of one delivery. Fails with `Invalid` if the
    /// address is malformed.
    pub fn new(url: &str, token: Option<Token>, timeout: Duration) -> Result<Self, HttpError> {
        let start = url.find("://").map_or(0, |at| at + 3);
        let (origin, path) = match url.get(start..).and_then(|rest| rest.find(['/', '?', '#'])) {
            Some(at) => url.split_at(start + at),
            None => (url, ""),
        };
        let path = path.split('#').next().unwrap_or("").to_owned();
        let limits = Limits {
            connect: Duration::from_secs(5).min(timeout / 2),
            read: timeout,
            write: timeout,
            max_body: 1 << 20,
        };
        let auth = match token {
            Some(value) => Auth::Header { name: "authorization", scheme: "Bearer ", value },
            None => Auth::None,
        };
        Ok(Self { http: Client::new(origin, auth, limits)?, path, timeout })
    }

    fn post(&self, event: &Value, deadline: Instant) -> Outcome {
        let left = deadline.saturating_duration_since(Instant::now()).min(self.timeout);
        if left < Duration::from_secs(1).min(self.timeout) {
            return not_now("no time left in this step".to_owned());
        }
        match self.http.send(&Request::new(Method::Post, &self.path).json(event).timeout(left)) {
            Ok(_) => Outcome::new(Delivered::Yes),
            Err(e) => self.failed(&e),
        }
    }

    fn failed(&self, e: &HttpError) -> Outcome {
        // A server's reply may repeat all or part of the path, so only the status is shown.
        let detail = match (e.status, &e.class) {
            (Some(status), Class::Redirect { .. }) => {
                format!("HTTP {status}, a redirect, which is not followed; correct the address")
            }
            (Some(status), _) if e.fault == Fault::Status => format!("HTTP {status}"),
            (Some(_) | None, _) => e.detail.clone(),
        };
        let why = format!("the webhook at {}: {detail}", self.http.base());
        match &e.class {
            Class::Auth | Class::NotFound | Class::Redirect { .. } => off(why),
            Class::Throttled { retry_after_s } => {
                Outcome::new(Delivered::Throttled { retry_after_s: retry_after_s.unwrap_or(DEFAULT_WAIT_S) })
            }
            Class::Conflict | Class::Transient => not_now(why),
            // Asked to wait after a 5xx: it may have arrived.
            Class::UnknownOutcome | Class::TooLarge | Class::BadBody => {
                Outcome { strays: 1, ..Outcome::new(Delivered::Unknown { why }) }
            }
            Class::Invalid => Outcome::new(Delivered::Refused { why }),
        }
    }
}

impl Notifier for Webhook {
    fn show(&self, message: &CardMessage<'_>, deadline: Instant) -> Outcome {
        self.post(&card_event(message), deadline)
    }

    fn alert(&self, message: &AlertMessage<'_>, deadline: Instant) -> Outcome {
        self.post(&alert_event(message), deadline)
    }
}
