//! What the two ends of a job send each other over srun's standard streams (CLU-2, CLU-3): JSON frames, each preceded
//! by its length, the version, and the nonce of the job. What a prologue or a shell prints in between is no frame.

use crate::adapters::confine::Bounds;
use crate::model::confine::Held;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// Of the frames below. Each version has its own program in `work_dir`, so both ends have the same one.
pub const VERSION: u32 = 2;
/// What a frame begins with.
const MAGIC: [u8; 4] = *b"orch";
/// The magic, the length of the JSON, the length of the data.
const HEAD: usize = 12;
/// The longest JSON of a frame.
const WORDS: usize = 16 << 20;
/// The longest data of a frame.
const DATA: usize = 256 << 20;

/// What the host sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToNode {
    /// First, and once. The data is the command's standard input.
    Order(Box<Order>),
    /// End the run: TERM, grace, KILL.
    Stop,
    /// The supervisor is alive.
    Alive,
}

/// One confined command, as the node needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub argv: Vec<OsString>,
    /// The whole environment, except for the mark.
    pub env: Vec<(OsString, OsString)>,
    pub mark: (String, String),
    pub cwd: PathBuf,
    /// Whether it has a standard input.
    pub fed: bool,
    pub wall_ms: u64,
    pub stall_ms: Option<u64>,
    pub grace_ms: u64,
    /// Without a frame for this long, the run is ended.
    pub silence_ms: u64,
    pub bounds: Bounds,
    /// Contains the run's three folders; belongs to the operator's account.
    pub root: PathBuf,
    /// Where the nodes keep their engines' answers.
    pub answers: PathBuf,
}

/// What the node sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToHost {
    /// The command runs: the run's clocks start.
    Started {
        job: u64,
        node: String,
        held: Held,
    },
    /// The data is its output.
    Stdout,
    Stderr,
    /// It ended, and so did all of its processes.
    Ended(Ended),
    /// Nothing of it ran.
    Refused {
        because: Because,
        held: Held,
        why: String,
    },
}

/// How a run ended on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub by: By,
    pub duration_ms: u64,
    /// What survived KILL there.
    pub left: Option<String>,
}

/// Who or what ended a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Itself,
    Wall,
    Stall,
    /// The stop frame.
    Stop,
    /// No frame came for too long, or none can come any more.
    Silence,
    /// Slurm's TERM.
    Slurm,
    /// A limit of the confinement; why.
    Bound(String),
}

/// Why nothing of it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// The order can't be read.
    Order,
    /// The node does not see the run's folders, or not as they were created.
    Folders,
    /// No engine can confine it there, or the engine failed.
    Confinement,
    NoProgram,
    NotStarted,
}

#[derive(Debug, Serialize, Deserialize)]
struct Words<T> {
    v: u32,
    nonce: String,
    #[serde(flatten)]
    say: T,
}

/// What one end sends. Fails if it is too long for a frame.
pub fn frame<T: Serialize>(nonce: &str, say: &T, data: &[u8]) -> io::Result<Vec<u8>> {
    let words = serde_json::to_vec(&Words { v: VERSION, nonce: nonce.to_owned(), say })?;
    let length = |n: usize, most: usize| {
        let n = if n <= most { u32::try_from(n).ok() } else { None };
        n.map(u32::to_be_bytes).ok_or_else(|| io::Error::other("too long for a frame"))
    };
    let (first, second) = (length(words.len(), WORDS)?, length(data.len(), DATA)?);
    let mut all = Vec::with_capacity(HEAD + words.len() + data.len());
    for part in [&MAGIC[..], &first, &second, &words, data] {
        all.extend_from_slice(part);
    }
    Ok(all)
}

/// Why the bytes are no frame of this job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    #[error("{0:?} where a frame should begin")]
    NoFrame(String),
    #[error("a frame of {0} bytes, which is too long")]
    TooLong(usize),
    #[error("a frame of version {0}, expected {VERSION}")]
    Version(u64),
    #[error("a frame with another job's nonce")]
    Nonce,
    #[error("a frame that can't be read: {0}")]
    Words(String),
}

/// Collects bytes as they arrive and returns frames.
#[derive(Debug, Default)]
pub struct Reader {
    held: Vec<u8>,
    nonce: Option<String>,
}

impl Reader {
    /// For frames with this nonce only. `None`: that of the first frame.
    pub fn new(nonce: Option<&str>) -> Self {
        Self { held: Vec::new(), nonce: nonce.map(str::to_owned) }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The nonce, once it is known.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// The next whole frame and its data; `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`Odd`]: nothing after it can be read either.
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<u8>)>, Odd> {
        let begun = self.held.get(..self.held.len().min(MAGIC.len())).unwrap_or_default();
        if !MAGIC.starts_with(begun) {
            let shown: Vec<u8> = self.held.iter().copied().take(80).collect();
            return Err(Odd::NoFrame(String::from_utf8_lossy(&shown).into_owned()));
        }
        let length = |at: usize| -> Option<usize> {
            let four: [u8; 4] = self.held.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_be_bytes(four)).ok()
        };
        let (Some(words), Some(data)) = (length(4), length(8)) else { return Ok(None) };
        if words > WORDS || data > DATA {
            return Err(Odd::TooLong(words.max(data)));
        }
        let (from, to) = (HEAD + words, HEAD + words + data);
        if self.held.len() < to {
            return Ok(None);
        }
        let (Some(text), Some(data)) = (self.held.get(HEAD..from), self.held.get(from..to)) else { return Ok(None) };
        // The version first: another version's fields may differ from ours.
        let value: serde_json::Value = serde_json::from_slice(text).map_err(|e| Odd::Words(e.to_string()))?;
        let version = value["v"].as_u64().unwrap_or(0);
        if version != u64::from(VERSION) {
            return Err(Odd::Version(version));
        }
        let nonce = value["nonce"].as_str().unwrap_or_default();
        if nonce.is_empty() || self.nonce.as_deref().is_some_and(|own| own != nonce) {
            return Err(Odd::Nonce);
        }
        let nonce = nonce.to_owned();
        let data = data.to_vec();
        let whole: Words<T> = serde_json::from_value(value).map_err(|e| Odd::Words(e.to_string()))?;
        self.nonce.get_or_insert(nonce);
        self.held.drain(..to);
        Ok(Some((whole.say, data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::confine::{Network, Policy};

    fn order() -> Order {
        use std::os::unix::ffi::OsStringExt;
        Order {
            argv: vec!["sh".into(), OsString::from_vec(vec![0xff, b'x'])],
            env: vec![("KEY".into(), "s3cret".into())],
            mark: ("ORCH_RUN".into(), "1".into()),
            cwd: "/w".into(),
            fed: true,
            wall_ms: 1000,
            stall_ms: None,
            grace_ms: 5,
            silence_ms: 6,
            bounds: Bounds {
                policy: Policy { network: Network::Internet, ..Policy::default() },
                checkout: "/r/checkout".into(),
                home: "/r/home".into(),
                tmp: "/r/tmp".into(),
                read: vec![],
                hidden: vec!["/state".into()],
                frozen: vec![],
                uid: Some(7),
                own_sandbox: false,
            },
            root: "/r".into(),
            answers: "/a".into(),
        }
    }

    #[test]
    fn clu_3_frames_come_through_however_they_are_cut() {
        let all: Vec<u8> = [
            frame("n", &ToNode::Order(Box::new(order())), b"the prompt\0\xff").unwrap(),
            frame("n", &ToNode::Alive, b"").unwrap(),
            frame("n", &ToNode::Stop, b"").unwrap(),
        ]
        .concat();
        for step in [1, 7, 4096] {
            let mut reader = Reader::new(None);
            let mut got = Vec::new();
            for part in all.chunks(step) {
                reader.push(part);
                while let Some(frame) = reader.next::<ToNode>().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(reader.nonce(), Some("n"));
            assert_eq!(
                got,
                [
                    (ToNode::Order(Box::new(order())), b"the prompt\0\xff".to_vec()),
                    (ToNode::Alive, vec![]),
                    (ToNode::Stop, vec![])
                ]
            );
        }
    }

    #[test]
    fn clu_3_frames_of_another_job_are_recognised() {
        let ended = Ended { code: Some(3), signal: None, by: By::Itself, duration_ms: 1, left: None };
        let good = frame("n", &ToHost::Ended(ended.clone()), b"").unwrap();
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(Some("n"));
            reader.push(bytes);
            reader.next::<ToHost>()
        };
        assert_eq!(read(&good), Ok(Some((ToHost::Ended(ended), vec![]))));
        assert_eq!(read(b"orc"), Ok(None));
        assert!(matches!(read(b"Welcome to n1\n"), Err(Odd::NoFrame(said)) if said.starts_with("Welcome")));
        assert_eq!(read(&frame("other", &ToHost::Stdout, b"x").unwrap()), Err(Odd::Nonce));
        assert_eq!(read(&frame("", &ToHost::Stdout, b"x").unwrap()), Err(Odd::Nonce));
        let long = [&MAGIC[..], &u32::MAX.to_be_bytes(), &0_u32.to_be_bytes()].concat();
        assert!(matches!(read(&long), Err(Odd::TooLong(_))));
        let words = br#"{"v":9,"nonce":"n","say":"sing"}"#;
        let other = [&MAGIC[..], &u32::try_from(words.len()).unwrap().to_be_bytes(), &[0; 4], words].concat();
        assert_eq!(read(&other), Err(Odd::Version(9)));
        let unknown = String::from_utf8_lossy(&frame("n", &ToHost::Stdout, b"").unwrap()).replace("stdout", "stduot");
        assert!(matches!(read(unknown.as_bytes()), Err(Odd::Words(_))));
    }
}
