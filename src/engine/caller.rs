//! Determines where a subcommand is called from (BND-6): a call from inside a run of the second row changes nothing.

use super::paths::Paths;
use super::run_env::MARK;
use crate::adapters::process;
use crate::adapters::sentinel;
use crate::adapters::store::{Mode, Store};
use crate::decide::caller::{self, OpenRun};
use crate::model::act::Ancestor;
use crate::model::task::Run;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Longer than any proof.
const MOST: u64 = 256;

/// This process and its ancestors.
pub fn lineage() -> Vec<Ancestor> {
    process::lineage(MARK)
}

/// The run of the second row of this state directory that the caller belongs to, if any, using only the database's
/// runs. With `proves`, a proof on standard input identifies one of `orch`'s own steps.
///
/// # Errors
/// The database can't be read, so the caller is unknown.
pub fn inside(state_dir: &Path, lineage: &[Ancestor], proves: bool) -> Result<Option<String>> {
    let paths = Paths::new(state_dir);
    if let Some(what) = caller::run_of(lineage, &paths.installation()) {
        return Ok(Some(what.to_owned()));
    }
    if !paths.database().exists() {
        return Ok(None);
    }
    let mut store = Store::open(&paths.database(), Mode::ReadOnly)?;
    let open_runs = store.read(|tx| tx.open_runs())?;
    // An operator's command started by a build job is not a caller from the branch.
    let foreign = open_runs.iter().filter(|run| !paths.in_operators_hands(run.id).exists());
    let runs: Vec<OpenRun> = foreign.map(|run| open(&paths, run)).collect();
    let found = caller::inside(lineage, &runs);
    Ok(found.filter(|_| !(proves && proven(&paths))).map(|run| format!("run {run}")))
}

fn open(paths: &Paths, run: &Run) -> OpenRun {
    OpenRun {
        id: run.id,
        kind: run.kind,
        mark: paths.mark(run.id),
        units: vec![paths.unit(run.id, false), paths.unit(run.id, true)],
        owners: run.supervisor.iter().chain(&run.finalizer).cloned().collect(),
    }
}

/// The proof that one of `orch`'s own steps gets from its starter: a file that only the operator's account can create
/// or see, named on the step's standard input. It exists as long as this value.
#[derive(Debug)]
pub struct Proof {
    token: String,
    file: PathBuf,
}

impl Proof {
    pub fn new(paths: &Paths) -> Result<Self> {
        let token = random_token()?;
        let file = paths.own_step(&token);
        sentinel::put(&file, b"").with_context(|| format!("writing {}", file.display()))?;
        Ok(Self { token, file })
    }

    /// The standard input for the step.
    pub fn stdin(&self) -> Result<Stdio> {
        let (read, mut write) = std::io::pipe().context("making a pipe")?;
        // Far less than a pipe's capacity.
        write.write_all(self.token.as_bytes()).context("writing to a pipe")?;
        Ok(read.into())
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// 32 hex digits that nobody can guess.
pub fn random_token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).context("asking for randomness")?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn proven(paths: &Paths) -> bool {
    let mut text = String::new();
    let read = std::io::stdin().take(MOST).read_to_string(&mut text);
    let plain = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    read.is_ok() && plain && paths.own_step(&text).exists()
}
