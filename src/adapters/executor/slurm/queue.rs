//! Bounded requests to Slurm's own clients: who is in the queue, how a job ended, and cancelling one (CLU-3c). Only
//! exit 0 is an answer: an unavailable controller says nothing about a job.

use super::super::{Answer, ExecutorError, ask};
use std::ffi::OsString;

/// One job in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub job: u64,
    pub name: String,
    /// `PENDING`, `RUNNING`, `COMPLETING` …
    pub state: String,
    /// Why it is pending: `Resources`, `Priority` …
    pub reason: String,
}

/// This account's jobs of these names that are still in the queue; no names, no request.
///
/// # Errors
/// Nothing is known.
pub fn list(names: &[String]) -> Result<Vec<Row>, ExecutorError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut words: Vec<OsString> = vec!["--noheader".into(), "--format=%i|%T|%j|%r".into()];
    words.push(format!("--name={}", names.join(",")).into());
    words.push(format!("--user={}", me()).into());
    said("squeue", &words).map(|text| rows(&text))
}

fn rows(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut parts = line.trim().splitn(4, '|');
        Some(Row {
            job: parts.next()?.trim().parse().ok()?,
            state: parts.next()?.trim().to_owned(),
            name: parts.next()?.trim().to_owned(),
            reason: parts.next()?.trim().to_owned(),
        })
    };
    text.lines().filter_map(row).collect()
}

/// Has Slurm end every job of this name and account; that there is none is no error.
///
/// # Errors
/// The request failed.
pub fn cancel(name: &str) -> Result<(), ExecutorError> {
    said("scancel", &[format!("--name={name}").into(), format!("--user={}", me()).into()]).map(drop)
}

/// Slurm's state of a job that ended, which is completing for a moment. `None`: Slurm does not know the job (any more),
/// or can't be asked.
pub fn last_state(job: u64) -> Option<State> {
    let mut found = state(job)?;
    for _ in 0..5 {
        if !matches!(found.word.as_str(), "COMPLETING" | "RUNNING") {
            break;
        }
        // Nothing signals that the controller has heard the node; a second is enough, or the state stays unknown.
        std::thread::sleep(std::time::Duration::from_millis(200));
        found = state(job)?;
    }
    Some(found)
}

fn state(job: u64) -> Option<State> {
    let text = said("scontrol", &["-o".into(), "show".into(), "job".into(), job.to_string().into()]).ok()?;
    State::read(&text)
}

/// What `scontrol -o show job` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// `COMPLETED`, `NODE_FAIL`, `OUT_OF_MEMORY` …
    pub word: String,
    pub reason: String,
}

impl State {
    fn read(text: &str) -> Option<Self> {
        let value = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        Some(Self { word: value("JobState=")?, reason: value("Reason=").unwrap_or_default() })
    }
}

/// One of Slurm's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
}

/// The controller's settings, including cgroup's. Fails if it does not answer.
pub fn settings() -> Result<Vec<Setting>, ExecutorError> {
    said("scontrol", &["show".into(), "config".into()]).map(|text| read_settings(&text))
}

fn read_settings(text: &str) -> Vec<Setting> {
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some(Setting { name: name.trim().to_owned(), value: value.trim().to_owned() })
    };
    text.lines().filter_map(pair).collect()
}

/// The nodes of a partition and their states; empty: of the default one. Fails if it does not answer.
pub fn nodes(partition: &str) -> Result<Vec<(String, String)>, ExecutorError> {
    let mut words: Vec<OsString> = vec!["--noheader".into(), "--Node".into(), "--format=%N|%T|%P".into()];
    if !partition.is_empty() {
        words.push(format!("--partition={partition}").into());
    }
    said("sinfo", &words).map(|text| read_nodes(&text, partition.is_empty()))
}

/// The default partition has a star.
fn read_nodes(text: &str, default: bool) -> Vec<(String, String)> {
    let row = |line: &str| {
        let mut parts = line.trim().splitn(3, '|');
        let (node, state, of) = (parts.next()?, parts.next()?, parts.next()?);
        (!default || of.ends_with('*')).then(|| (node.to_owned(), state.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// A client's answer, if it gave one.
pub(super) fn said(program: &'static str, words: &[OsString]) -> Result<String, ExecutorError> {
    let answer: Answer = ask(program, words)?;
    match answer.code {
        Some(0) => Ok(answer.stdout),
        Some(_) | None => Err(ExecutorError::Manager { program, reason: answer.reason() }),
    }
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clu_3_what_slurms_clients_print_is_read() {
        let text = "7|RUNNING|orch-a-run-1|None\n 12|PENDING|orch-a-run-2|Resources\nnonsense\n13|PENDING|orch-a|(ReqNodeNotAvail, UnavailableNodes:n1)\n";
        let all = rows(text);
        let short: Vec<_> = all.iter().map(|r| (r.job, r.state.as_str(), r.name.as_str(), r.reason.as_str())).collect();
        assert_eq!(
            short,
            [
                (7, "RUNNING", "orch-a-run-1", "None"),
                (12, "PENDING", "orch-a-run-2", "Resources"),
                (13, "PENDING", "orch-a", "(ReqNodeNotAvail, UnavailableNodes:n1)")
            ]
        );
        assert!(rows("").is_empty());
        let config = "Configuration data as of x\nProctrackType           = proctrack/linuxproc\nSlurmdTimeout = 300 sec\n\nCgroup Support Configuration:\nConstrainRAMSpace       = no\n";
        let of = |name: &str| read_settings(config).into_iter().find(|s| s.name == name).map(|s| s.value);
        assert_eq!(of("ProctrackType").as_deref(), Some("proctrack/linuxproc"));
        assert_eq!((of("SlurmdTimeout").as_deref(), of("ConstrainRAMSpace").as_deref()), (Some("300 sec"), Some("no")));
        let nodes = "n1|idle|work*\nn2|mixed|work*\nn1|idle|long\n";
        let pair = |node: &str, state: &str| (node.to_owned(), state.to_owned());
        assert_eq!(read_nodes(nodes, true), [pair("n1", "idle"), pair("n2", "mixed")]);
        assert_eq!(read_nodes("n1|idle|long\n", false), [pair("n1", "idle")]);
        let shown =
            "JobId=7 JobName=orch-a UserId=root(0) JobState=NODE_FAIL Reason=NodeDown Dependency=(null) ExitCode=0:0";
        assert_eq!(State::read(shown), Some(State { word: "NODE_FAIL".into(), reason: "NodeDown".into() }));
        assert_eq!(State::read("slurm_load_jobs error: Invalid job id specified"), None);
    }
}
