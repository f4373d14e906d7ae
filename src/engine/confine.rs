//! What confines the processes of agents and branches (BND-2, BND-3): the policy of a project and runtime, this
//! machine's engine for it, and what a run may read.

use super::area::Folders;
use super::{Ctx, mirrors};
use crate::adapters::child::Elsewhere;
use crate::adapters::confine::{self, Boundary, Engine, NoEngine, Probe};
use crate::adapters::git::Mirror;
use crate::adapters::git::files::remove;
use crate::adapters::git::shared::Shared;
use crate::adapters::{accounts, net};
use crate::config::{Config, Project, RuntimeKind, SecretRef, UIDS, process_env};
use crate::model::confine::{Held, Mode, Network, Policy, RunConfinement};
use crate::model::ids::{RunId, Sha};
use crate::model::stage::Agent;
use crate::model::toolchain::{Offered, offered};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The key of the row of confinements: a step writes it, decisions and readers read it.
pub const META: &str = "confinement";

/// What confines the runs of one project and runtime now.
#[derive(Debug, Clone)]
pub struct Hold {
    pub engine: Engine,
    pub policy: Policy,
    probe: Probe,
    hidden: Vec<PathBuf>,
    tools: Offered,
    /// Certificates for the operator's package mirrors.
    certificates: Vec<PathBuf>,
    /// As root, with an engine: the run's own account.
    uid: Option<u32>,
    /// Where checkouts of the repository may read their history; `None` for a caller's own commands.
    history: Option<PathBuf>,
    /// What executes its commands on another machine; `None`: this machine.
    elsewhere: Option<Arc<dyn Elsewhere>>,
}

/// What one command of a run may use in addition to its folders.
#[derive(Debug, Clone, Default)]
pub struct Further {
    /// Further paths to read.
    pub read: Vec<PathBuf>,
    /// Paths below the checkout that it may not write.
    pub frozen: Vec<PathBuf>,
    /// Its runtime has a sandbox of its own.
    pub own_sandbox: bool,
}

fn probe(config: &Config) -> Result<Probe, NoEngine> {
    Probe::here(config.state_dir.join("confine")).map_err(no_program)
}

fn no_program(e: std::io::Error) -> NoEngine {
    NoEngine {
        why: format!("this program's own file can't be found: {e}"),
        way_out: "start orch by its path".to_owned(),
    }
}

/// The engine for a policy, or why nothing may start under it. `runtime`: the agent's runtime, `None` for a command.
pub fn engine(config: &Config, policy: &Policy, runtime: Option<&RuntimeKind>) -> Result<Engine, NoEngine> {
    // No probe is needed.
    if policy.mode == Mode::Off {
        return Ok(Engine::None);
    }
    let probe = probe(config)?;
    let engine = confine::engine(policy, &probe)?;
    let own = runtime.is_some_and(RuntimeKind::requires_its_sandbox);
    if own && engine == Engine::Landlock {
        return Err(NoEngine {
            why: "the runtime's own sandbox is required, but can't start under landlock".to_owned(),
            way_out: "install bubblewrap, or set the runtime's sandbox to auto".to_owned(),
        });
    }
    if probe.root && matches!(engine, Engine::Landlock | Engine::Command { .. }) {
        let tools = path_chains(&tools(config));
        match reachable(&config.area_dir, &tools, engine.held()) {
            // An engine that can't confine runs here does not count, and `auto` continues without one, shown as
            // unconfined.
            Err(no) if policy.mode == Mode::Auto && engine == Engine::Landlock => {
                tracing::debug!("unconfined: {no}");
                return Ok(Engine::None);
            }
            Err(no) => return Err(no),
            Ok(()) => {}
        }
    }
    if probe.root && engine != Engine::None && !policy.user.is_empty() && accounts::uid(&policy.user).is_none() {
        return Err(NoEngine {
            why: format!("confine.user names the account {:?}, which this machine does not have", policy.user),
            way_out: format!("useradd --system {}, or leave it out", policy.user),
        });
    }
    Ok(engine)
}

/// The tool chains that a run's account must be able to reach: those on `PATH`. Any other may never be used, so it is
/// no reason to hold anything.
fn path_chains(tools: &Offered) -> Vec<PathBuf> {
    let path = process_env().remove("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = path.split(':').map(PathBuf::from).collect();
    tools.read.iter().filter(|chain| folders.iter().any(|folder| folder.starts_with(chain))).cloned().collect()
}

/// The tool chains of this account that a run may use.
fn tools(config: &Config) -> Offered {
    let vars = process_env();
    match vars.get("HOME").filter(|h| h.starts_with('/') && h.len() > 1) {
        Some(home) => offered(Path::new(home), &vars, &|p| p.is_dir(), &hidden(config)),
        None => Offered::default(),
    }
}

/// Whether another account can reach the area and the tool chains with ordinary rights.
fn reachable(area: &Path, tools: &[PathBuf], held: Held) -> Result<(), NoEngine> {
    let closed = |dir: &&Path| std::fs::metadata(dir).is_ok_and(|m| m.mode() & 0o001 == 0);
    // We can open the area itself.
    match area.ancestors().skip(1).find(closed) {
        Some(dir) => Err(NoEngine {
            why: format!("under {} the run's account can't traverse {}", held.as_str(), dir.display()),
            way_out: "set area_dir to a folder that every account reaches, such as /var/lib/orch-area".to_owned(),
        }),
        None => tools.iter().try_for_each(|chain| match chain.ancestors().find(closed) {
            // Otherwise its programs would fail with "Permission denied", which would count against the branch.
            Some(dir) => Err(NoEngine {
                why: format!(
                    "under {} the run's account can't traverse {} to the tool chain {} of PATH",
                    held.as_str(),
                    dir.display(),
                    chain.display()
                ),
                way_out: format!(
                    "install bubblewrap, install the tool chain where every account reaches it (below /opt, say), take it out of PATH, or chmod o+x {}",
                    dir.display()
                ),
            }),
            None => Ok(()),
        }),
    }
}

/// What confines a run of this project. `runtime`: the name of its agent's runtime.
pub fn hold(ctx: &Ctx, project: &Project, runtime: Option<&str>, run: RunId) -> Result<Hold, NoEngine> {
    of(&ctx.config, project, runtime, run)
}

/// As [`hold`], for callers that have only a configuration.
pub fn of(config: &Config, project: &Project, runtime: Option<&str>, run: RunId) -> Result<Hold, NoEngine> {
    let policy = config.confinement(project, runtime);
    let kind = runtime.and_then(|name| config.runtimes.get(name)).map(|r| &r.kind);
    let engine = engine(config, &policy, kind)?;
    let history = config.area_dir.join(&project.repo).join("history");
    Ok(Hold { history: Some(history), ..held(config, policy, engine, probe(config)?, run) })
}

/// What confines the caller's own commands in the caller's own folder, without a state directory: the engines' answers
/// are written below `answers`. `None`: nothing does, and the policy still lets them start. As root nothing can, since
/// a run's account does not own the caller's folder.
///
/// # Errors
/// [`NoEngine`] if the policy demands an engine.
pub fn of_caller(config: &Config, policy: &Policy, answers: PathBuf) -> Result<Option<Hold>, NoEngine> {
    let probe = Probe::here(answers).map_err(no_program)?;
    if probe.root && policy.mode == Mode::Required {
        return Err(NoEngine {
            why: "root can't confine checks in its own folder".to_owned(),
            way_out: "run it as another account, or set confine.mode to auto".to_owned(),
        });
    }
    let engine = if probe.root { Engine::None } else { confine::engine(policy, &probe)? };
    if engine == Engine::None {
        return Ok(None);
    }
    let run = RunId(std::process::id().into());
    Ok(Some(held(config, policy.clone(), engine, probe, run)))
}

fn held(config: &Config, policy: Policy, engine: Engine, probe: Probe, run: RunId) -> Hold {
    let uid = (probe.root && engine != Engine::None).then(|| match accounts::uid(&policy.user) {
        Some(uid) if !policy.user.is_empty() => uid,
        Some(_) | None => policy.uid_base + u32::try_from(run.0.rem_euclid(i64::from(UIDS))).unwrap_or(0),
    });
    let hidden = hidden(config);
    let tools = if engine == Engine::None { Offered::default() } else { tools(config) };
    for left in &tools.left_out {
        tracing::debug!("not offered to runs: {left}");
    }
    Hold {
        engine,
        policy,
        probe,
        hidden,
        tools,
        certificates: mirrors::certificates(),
        uid,
        history: None,
        elsewhere: None,
    }
}

/// What no run may see, whatever else is opened to it.
fn hidden(config: &Config) -> Vec<PathBuf> {
    let secrets = config.secrets().into_iter().filter_map(|(_, from)| match from {
        SecretRef::File(path) => Some(path.clone()),
        SecretRef::Env(_) | SecretRef::Command(_) => None,
    });
    // Without a configuration there is no configuration file.
    let own = [config.state_dir.clone(), config.file.clone()].into_iter().filter(|p| !p.as_os_str().is_empty());
    own.chain(secrets).collect()
}

impl Hold {
    /// The account that owns the run's files.
    pub fn owner(&self) -> u32 {
        self.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw())
    }

    /// Where a checkout at or ahead of the default branch's `tip` reads its history if the repository is too large to
    /// be copied each time (BND-3). `None`: it is copied. That is always so if nothing keeps a run from writing there,
    /// and for a wrapper, which may not expose it.
    pub fn shared(&self, project: &Project, mirror: &Mirror, tip: &Sha) -> Result<Option<Shared>> {
        let most = project.worktree.copy_max_mb.saturating_mul(1 << 20);
        let holds = matches!(self.engine, Engine::Bubblewrap { .. } | Engine::Landlock);
        let Some(root) = self.history.as_ref().filter(|_| holds) else { return Ok(None) };
        if most > 0 && mirror.packed_bytes()? <= most {
            return Ok(None);
        }
        mirror.shared(root, tip).map(Some).context("keeping the history for checkouts to read (worktree.copy_max_mb)")
    }

    /// How it is shown and recorded.
    pub fn held(&self) -> Held {
        self.engine.held()
    }

    /// The variables of the tool chains.
    pub fn env(&self) -> Vec<(OsString, OsString)> {
        self.tools.env.iter().map(|(name, value)| ((*name).into(), value.as_os_str().to_owned())).collect()
    }

    /// Gives the folders to the run's account once `orch` has written everything into them. No process of the run may
    /// be alive. A regular file with a second hard link keeps its owner.
    pub fn hand_over(&self, folders: &Folders) -> Result<()> {
        let Some(uid) = self.uid else { return Ok(()) };
        // The parent folders: searchable, not listable.
        for dir in folders.root.ancestors().take(5) {
            if dir.starts_with(folders.area()) {
                std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))
                    .with_context(|| format!("opening the way through {}", dir.display()))?;
            }
        }
        for dir in [&folders.checkout, &folders.home, &folders.tmp] {
            give(dir, uid).with_context(|| format!("handing {} over to the run's account", dir.display()))?;
        }
        Ok(())
    }

    /// The boundary that a command of the run is started in.
    pub fn boundary(&self, folders: &Folders, further: Further) -> Boundary {
        let mut read = self.tools.read.clone();
        read.extend(net::files_of_children());
        read.extend(self.certificates.iter().cloned());
        read.extend(further.read);
        // A missing path is skipped.
        read.extend(self.history.clone());
        let run = Box::new(confine::Run {
            engine: self.engine.clone(),
            probe: self.probe.clone(),
            bounds: confine::Bounds {
                policy: self.policy.clone(),
                checkout: folders.checkout.clone(),
                home: folders.home.clone(),
                tmp: folders.tmp.clone(),
                read,
                hidden: self.hidden.clone(),
                frozen: further.frozen,
                uid: self.uid,
                own_sandbox: further.own_sandbox,
            },
        });
        match &self.elsewhere {
            Some(elsewhere) => Boundary::Away(run, Arc::clone(elsewhere)),
            None => Boundary::Run(run),
        }
    }

    /// The same, with its commands executed on another machine.
    pub fn elsewhere(self, elsewhere: Arc<dyn Elsewhere>) -> Self {
        Self { elsewhere: Some(elsewhere), ..self }
    }

    /// Whether its commands are executed on another machine.
    pub fn is_away(&self) -> bool {
        self.elsewhere.is_some()
    }
}

/// Gives a folder and everything below it to an account; links are not followed.
fn give(root: &Path, uid: u32) -> std::io::Result<()> {
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let meta = match path.symlink_metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            // Deeper than a path can express: not real work, and nothing that a later command could use.
            Err(e) if e.kind() == std::io::ErrorKind::InvalidFilename => {
                if let Some(parent) = path.parent() {
                    remove(parent).map_err(std::io::Error::other)?;
                }
                continue;
            }
            found => found?,
        };
        let foreign = meta.uid() != uid && (meta.is_dir() || meta.nlink() == 1);
        if meta.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
        if foreign {
            lchown(&path, Some(uid), Some(uid))?;
        }
    }
    Ok(())
}

/// What confines the runs of one project: those of its commands, or of one agent.
#[derive(Debug, Clone)]
pub struct Answer {
    pub project: String,
    pub agent: Option<Agent>,
    pub policy: Policy,
    pub engine: Result<Engine, NoEngine>,
}

/// Which engine confines the commands and each agent of each project. Probes the machine if an answer is due.
pub fn answers(config: &Config) -> Vec<Answer> {
    let mut asked: Vec<((Policy, bool), Result<Engine, NoEngine>)> = Vec::new();
    let mut all = Vec::new();
    for project in &config.projects {
        let agents = Agent::ALL.iter().map(|a| Some(*a));
        for agent in std::iter::once(None).chain(agents) {
            let runtime = agent.map(|a| config.agent(a).runtime);
            let policy = config.confinement(project, runtime.as_deref());
            let kind = runtime.as_ref().and_then(|r| config.runtimes.get(r)).map(|r| &r.kind);
            let key = (policy.clone(), kind.is_some_and(RuntimeKind::requires_its_sandbox));
            let answer = match asked.iter().find(|(k, _)| *k == key) {
                Some((_, answer)) => answer.clone(),
                None => {
                    let answer = engine(config, &policy, kind);
                    asked.push((key, answer.clone()));
                    answer
                }
            };
            all.push(Answer { project: project.key.clone(), agent, policy, engine: answer });
        }
    }
    all
}

/// The same in the form that decisions and readers use.
pub fn confinements(config: &Config) -> Vec<RunConfinement> {
    let confinement_of = |a: Answer| RunConfinement {
        project: a.project,
        agent: a.agent,
        held: a.engine.as_ref().ok().map(Engine::held),
        why: a.engine.err().map(|e| e.to_string()),
        open: a.policy.network == Network::Open,
    };
    answers(config).into_iter().map(confinement_of).collect()
}

/// Records changes of what confines whom, and reports a machine without an engine once (NTF-2).
pub fn observe(ctx: &mut Ctx) -> Result<()> {
    if ctx.dry {
        return Ok(());
    }
    let now = confinements(&ctx.config);
    let text = serde_json::to_string(&now).context("recording what confines runs")?;
    let before = ctx.store.read(|tx| tx.meta(META))?;
    if before.as_deref() == Some(&text) {
        return Ok(());
    }
    let held_up = |list: &[RunConfinement]| list.iter().find_map(|s| s.why.clone());
    let was = before.and_then(|t| serde_json::from_str::<Vec<RunConfinement>>(&t).ok()).and_then(|l| held_up(&l));
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        tx.set_meta(META, &text)?;
        if let (None, Some(why)) = (was, held_up(&now)) {
            let n = tx.count_up("confinement/held", 1)?;
            let kind = crate::model::card::AlertKind::Confinement;
            super::messages::alert_named(tx, kind, "confine", n, &why, at)?;
        }
        Ok::<_, crate::adapters::store::StoreError>(())
    })?;
    Ok(())
}

/// What a step last recorded; empty before the first.
pub fn noted(tx: &crate::adapters::store::Tx<'_>) -> crate::adapters::store::Result<Vec<RunConfinement>> {
    Ok(tx.meta(META)?.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_2_a_folder_that_other_accounts_cannot_pass_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        let held = reachable(&closed.join("x/area"), &[], Held::Landlock).unwrap_err();
        assert!(held.why.contains(closed.to_str().unwrap()) && held.way_out.contains("area_dir"), "{held}");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o711)).unwrap();
        assert!(reachable(&closed.join("x/area"), &[], Held::Landlock).is_ok());
        // A tool chain in a closed home.
        let bin = closed.join("home/.cargo/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::set_permissions(closed.join("home"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let held = reachable(&closed.join("x/area"), std::slice::from_ref(&bin), Held::Landlock).unwrap_err();
        assert!(held.why.contains("home to the tool chain") && held.way_out.contains("bubblewrap"), "{held}");
        std::fs::set_permissions(closed.join("home"), std::fs::Permissions::from_mode(0o711)).unwrap();
        assert!(reachable(&closed.join("x/area"), &[bin], Held::Landlock).is_ok());
    }

    #[test]
    fn a_folder_that_is_too_deep_for_a_path_is_deleted_and_the_rest_is_given() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kept"), "x").unwrap();
        // Built from the inside out, since each single name fits.
        let name = "d".repeat(200);
        std::fs::create_dir(dir.path().join("top")).unwrap();
        for _ in 0..25 {
            let outer = dir.path().join("outer");
            std::fs::create_dir(&outer).unwrap();
            std::fs::rename(dir.path().join("top"), outer.join(&name)).unwrap();
            std::fs::rename(&outer, dir.path().join("top")).unwrap();
        }
        give(dir.path(), rustix::process::geteuid().as_raw()).unwrap();
        assert!(dir.path().join("kept").exists());
        let mut depth = 0;
        let mut at = dir.path().join("top");
        while at.is_dir() {
            depth += 1;
            at.push(&name);
        }
        assert!(depth < 21, "{depth}");
    }

    #[test]
    fn a_file_with_another_name_elsewhere_is_not_given_away() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (mine, run) = (dir.path().join("mine"), dir.path().join("run"));
        std::fs::write(&mine, "x").unwrap();
        std::fs::create_dir_all(run.join("a")).unwrap();
        std::fs::write(run.join("a/own"), "y").unwrap();
        std::fs::hard_link(&mine, run.join("a/link")).unwrap();
        std::os::unix::fs::symlink(&mine, run.join("soft")).unwrap();
        give(&run, 2_000_000_007).unwrap();
        let of = |p: &Path| p.symlink_metadata().unwrap().uid();
        assert_eq!(
            (of(&run), of(&run.join("a/own")), of(&run.join("soft"))),
            (2_000_000_007, 2_000_000_007, 2_000_000_007)
        );
        assert_eq!(of(&mine), 0);
    }
}
