//! The demo's folder: a bare repository, a program with its tests, configuration, agent, production.

use crate::adapters::git::Git;
use crate::adapters::process;
use crate::cli::exit::Failure;
use crate::model::task::Actor;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The project's key prefix.
pub const PREFIX: &str = "TEA";
/// The variable set in every process of a demo, with the folder as its value.
const MARK: &str = "TEA_DEMO";
/// Marks a folder as a demo's own, and names the process that runs it.
const OWNED: &str = ".orch-demo.json";
const CONFIG: &str = include_str!("files/orch.yaml");
const AGENT: &str = include_str!("files/agent.sh");
const SEED: [(&str, &str); 5] = [
    ("tea", include_str!("files/seed/tea")),
    ("README.md", include_str!("files/seed/README.md")),
    ("ci.sh", include_str!("files/seed/ci.sh")),
    ("deploy.sh", include_str!("files/seed/deploy.sh")),
    ("tests/black.sh", include_str!("files/seed/black.sh")),
];

/// Where the demo runs, and with what.
pub struct World {
    pub dir: PathBuf,
    pub git: Git,
    /// The secret scanner, if installed.
    pub gitleaks: Option<PathBuf>,
    /// Made up for this run; never printed.
    pub key: String,
    pub shop: Shop,
    program: PathBuf,
}

/// The answer of one call of this program.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The server that acts as production; it ends with the demo.
pub struct Shop {
    pub address: String,
    child: Child,
}

impl World {
    /// Makes a new world. `dir`: the person's folder, which must be new or empty; else a temporary one.
    pub fn make(dir: Option<&Path>, keep: bool) -> Result<Self, Failure> {
        let git = Git::new("git").map_err(|e| Failure::from(anyhow::Error::from(e)))?;
        let program = own_program()?;
        let dir = match dir {
            Some(dir) => own(dir)?,
            None => temporary(keep)?,
        };
        claim(&dir, keep)?;
        let gitleaks = crate::adapters::toolbox::find("gitleaks");
        let key = format!("sk_live_{}", hex(12));
        std::fs::create_dir_all(dir.join("production")).context("creating the folder of production")?;
        let shop = Shop::open(&program, &dir.join("production"))?;
        let world = Self { dir, git, gitleaks, key, shop, program };
        world.fill()?;
        Ok(world)
    }

    fn fill(&self) -> Result<()> {
        let seed = self.dir.join("seed");
        for (name, text) in SEED {
            write(&seed.join(name), text, !name.ends_with(".md"))?;
        }
        let git = |dir: &Path, args: &[&str]| {
            let cmd = self.git.cmd(dir).config("user.name=A Person").config("user.email=person@localhost");
            cmd.config("init.defaultBranch=main").args(args).text().context("creating the demo's repository")
        };
        git(&self.dir, &["init", "-q", "--bare", "remote.git"])?;
        git(&seed, &["init", "-q"])?;
        git(&seed, &["add", "-A"])?;
        git(&seed, &["commit", "-q", "-m", "Say how to brew a black tea"])?;
        git(&seed, &["push", "-q", "../remote.git", "HEAD:refs/heads/main"])?;
        let first = git(&seed, &["rev-parse", "HEAD"])?;
        std::fs::remove_dir_all(&seed).context("deleting the seed")?;
        let production = self.dir.join("production");
        write(&production.join("tea"), SEED.first().map_or("", |(_, text)| text), true)?;
        write(&production.join("version"), &format!("{first}\n"), false)?;
        write(&self.dir.join("agent.sh"), AGENT, true)?;
        write(&self.dir.join("shop.key"), &self.key, false)?;
        let quoted = |path: &Path| serde_json::to_string(&path.to_string_lossy()).unwrap_or_default();
        let gitleaks = self.gitleaks.clone().unwrap_or_else(|| "gitleaks".into());
        let text = CONFIG
            .replace("{{dir}}", &quoted(&self.dir))
            .replace("{{production}}", &quoted(&production))
            .replace("{{key_file}}", &quoted(&self.dir.join("shop.key")))
            .replace("{{gitleaks}}", &quoted(&gitleaks))
            .replace("{{security}}", if self.gitleaks.is_some() { "true" } else { "false" })
            .replace("{{shop}}", &self.shop.address);
        write(&self.config(), &text, false)
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("orch.yaml")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn database(&self) -> PathBuf {
        self.state().join("orch.db")
    }

    /// The path of a work item's file on the board.
    pub fn item(&self, key: &str) -> PathBuf {
        self.dir.join("board").join(format!("{key}.md"))
    }

    /// Calls this program as a timer or a person does: as a separate process.
    pub fn orch(&self, args: &[&str]) -> Result<Said> {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.config()).args(args).current_dir(&self.dir).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            // The person's own settings and git must not affect it.
            if ["ORCH_", "GIT_", "GITLEAKS_"].iter().any(|p| name.to_string_lossy().starts_with(p)) {
                command.env_remove(name);
            }
        }
        let done = command.env(MARK, &self.dir).output().context("starting this program again")?;
        Ok(Said {
            code: done.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        })
    }

    /// How a person can call this program: by name if it is on PATH.
    pub fn shown(&self) -> String {
        let named = which::which("orch").and_then(|p| p.canonicalize().map_err(|_| which::Error::CannotFindBinaryPath));
        let same = named.is_ok_and(|p| self.program.canonicalize().is_ok_and(|own| own == p));
        if same { "orch".to_owned() } else { self.program.display().to_string() }
    }

    /// A git query of the remote.
    pub fn remote(&self, args: &[&str]) -> Result<String> {
        let cmd = self.git.cmd(&self.dir).git_dir(&self.dir.join("remote.git")).args(args);
        cmd.text().context("reading the demo's repository")
    }

    /// Every process of this demo that is still running, except the server.
    pub fn running(&self) -> Vec<Actor> {
        let shop = i32::try_from(self.shop.child.id()).unwrap_or(0);
        let all = process::marked(MARK, &self.dir.to_string_lossy());
        all.into_iter().filter(|a| a.pid != shop).collect()
    }
}

impl Shop {
    fn open(program: &Path, production: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["demo", "serve"]).arg(production).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the demo's server")?;
        let mut address = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut address).context("asking the demo's server for its address")?;
        }
        let shop = Self { address: address.trim().to_owned(), child };
        anyhow::ensure!(!shop.address.is_empty(), "the demo's server did not start");
        Ok(shop)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program's file, even if it was replaced meanwhile.
fn own_program() -> Result<PathBuf> {
    let path = std::env::current_exe().context("finding this program's own file")?;
    Ok(path.to_string_lossy().strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}

/// The person's folder: new or empty, never one with content.
fn own(dir: &Path) -> Result<PathBuf, Failure> {
    let full = std::path::absolute(dir).map_err(|e| Failure::usage(format!("{}: {e}", dir.display())))?;
    match std::fs::read_dir(&full) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Failure::usage(format!("{} is not empty", full.display()))
                    .hint("name a new folder with --dir, or leave it out for a temporary one"));
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&full);
            made.map_err(|e| Failure::usage(format!("{} can't be made: {e}", full.display())))?;
        }
        Err(e) => return Err(Failure::usage(format!("{}: {e}", full.display()))),
    }
    canonical(&full)
}

fn temporary(keep: bool) -> Result<PathBuf, Failure> {
    if !keep {
        clear_away();
    }
    let dir = tempfile::Builder::new().prefix("orch-demo-").tempdir().context("creating a temporary folder")?;
    canonical(&dir.keep())
}

/// Without symbolic links: processes are recognised by this exact text.
fn canonical(dir: &Path) -> Result<PathBuf, Failure> {
    Ok(dir.canonicalize().with_context(|| format!("finding {}", dir.display()))?)
}

fn claim(dir: &Path, keep: bool) -> Result<()> {
    let body = serde_json::json!({"player": process::me()?, "keep": keep});
    write(&dir.join(OWNED), &body.to_string(), false)
}

/// Deletes what earlier demos left in the temporary folder: only folders of this user with the demo's mark, whose
/// process is gone and which were not meant to be kept.
fn clear_away() {
    use std::os::unix::fs::MetadataExt;
    let me = rustix::process::getuid().as_raw();
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("orch-demo-") {
            continue;
        }
        let path = entry.path();
        let mine = std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir() && m.uid() == me);
        let mark = std::fs::read_to_string(path.join(OWNED)).ok();
        let mark: Option<serde_json::Value> = mark.and_then(|t| serde_json::from_str(&t).ok());
        let Some(mark) = mark.filter(|m| mine && m["keep"] == false) else { continue };
        let player: Option<Actor> = serde_json::from_value(mark["player"].clone()).ok();
        if player.is_some_and(|p| process::life(&p) == process::Life::Dead)
            && process::marked(MARK, &path.to_string_lossy()).is_empty()
            && let Err(e) = std::fs::remove_dir_all(&path)
        {
            tracing::debug!("an earlier demo's {} could not be deleted: {e}", path.display());
        }
    }
}

fn write(path: &Path, text: &str, program: bool) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    let mode = std::fs::Permissions::from_mode(if program { 0o755 } else { 0o644 });
    std::fs::set_permissions(path, mode).with_context(|| format!("writing {}", path.display()))
}

fn hex(bytes: usize) -> String {
    let mut buffer = vec![0_u8; bytes];
    let _ = rustix::rand::getrandom(&mut buffer[..], rustix::rand::GetRandomFlags::empty());
    buffer.iter().map(|b| format!("{b:02x}")).collect()
}
