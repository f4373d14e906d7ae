//! Reads from a checkout: remote, default branch, forge, what tests it, which agent program is here.

use super::propose::{Proposal, Root, propose};
use super::try_base::Failed;
use crate::adapters::forge::address;
use crate::adapters::git::Git;
use crate::adapters::toolbox;
use crate::cli::exit::Failure;
use crate::config::{Config, Forge, Project, locate, same_remote};
use crate::model::ci::is_own;
use crate::model::ids::Sha;
use crate::model::protected::glob;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a service on the network may take to identify itself.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many commits' statuses are read for `ci.contexts`.
const RECENT: &str = "10";

/// What a checkout shows.
#[derive(Debug, Clone)]
pub struct Found {
    pub key: String,
    pub repo: String,
    /// The part of the repository that is the project; empty: all of it.
    pub paths: Vec<String>,
    /// Without a credential.
    pub remote: String,
    pub branch: Option<String>,
    pub forge: Forge,
    /// What every checkout needs before its commands; `None`: nothing was found.
    pub setup: Option<Vec<String>>,
    pub ci: Ci,
    /// What was proposed and tried, and did not pass.
    pub failed: super::try_base::Failed,
    pub claude: Option<PathBuf>,
    /// The line `confine` of the configuration.
    pub confine: String,
    /// What a person should know.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ci {
    Command(Vec<String>),
    Contexts(Vec<String>),
    /// A forge that did not say which statuses exist.
    UnknownContexts,
    None,
}

/// Examines `dir`. Fails with exit 2 where there is no remote to work on.
pub fn around(dir: &Path) -> Result<Found, Failure> {
    let git = Git::new("git").map_err(|e| Failure::from(anyhow::Error::from(e)))?;
    let ask = |args: &[&str]| git.cmd(dir).args(args).text().ok().filter(|t| !t.is_empty());
    let top = ask(&["rev-parse", "--show-toplevel"]).map(PathBuf::from);
    let names = ask(&["remote"]).unwrap_or_default();
    let names: Vec<&str> = names.lines().collect();
    let Some(name) = chosen(&names) else {
        let why = match (&top, names.len()) {
            (None, _) => format!("{} is not in a git checkout", dir.display()),
            (Some(top), 0) => format!("the checkout {} has no remote", top.display()),
            (Some(_), _) => format!("none of the remotes {} is named origin", names.join(", ")),
        };
        return Err(Failure::usage(why).hint(
            "run it in a checkout whose remote `origin` is the repository to work on: `git remote add origin URL`",
        ));
    };
    let mut notes = Vec::new();
    let url = ask(&["remote", "get-url", name]).unwrap_or_default();
    let remote = plain(&url, top.as_deref().unwrap_or(dir));
    if remote != url && url.contains('@') {
        notes.push(
            "the remote's URL contained a credential, which was left out; name it under git.credential".to_owned(),
        );
    }
    let branch = ask(&["symbolic-ref", "--short", &format!("refs/remotes/{name}/HEAD")])
        .and_then(|b| b.strip_prefix(&format!("{name}/")).map(str::to_owned));
    let repo = repo_name(&remote);
    let key = key_of(&repo);
    let (forge, note) = forge_of(&remote);
    notes.extend(note);
    if is_empty(&git, &remote) {
        notes.push(format!("{remote} is empty: push a first commit"));
    }
    // A part of a repository is a project of its own (ORD-3).
    let Proposal { setup, ci: tests } = propose(&Root::read(dir));
    let ci = if forge.is_remote() {
        let log = |from: &str| ask(&["log", "--format=%H", "-n", RECENT, from]);
        // A checkout that was not cloned has no HEAD of its remote.
        let commits = log(&format!("refs/remotes/{name}/HEAD")).or_else(|| log("HEAD"));
        let seen = contexts(&forge, branch.as_deref(), commits.as_deref().unwrap_or_default());
        if seen.is_empty() { Ci::UnknownContexts } else { Ci::Contexts(seen) }
    } else {
        tests.map_or(Ci::None, Ci::Command)
    };
    match &ci {
        Ci::None => notes.push("no test command was found, so no CI is written: set ci.command".to_owned()),
        Ci::UnknownContexts => notes.push(format!(
            "the required CI statuses could not be read: set {} and run `orch doctor`, then set ci.contexts",
            address::variable(&forge).unwrap_or_default()
        )),
        Ci::Command(_) | Ci::Contexts(_) => {}
    }
    let claude = which::which("claude").ok();
    if is_absent(&remote) {
        notes.push(format!("{remote} does not exist: create the repository, and push a first commit"));
    }
    if toolbox::find("gitleaks").is_none() {
        notes.push(
            "gitleaks is neither on PATH nor in the tools cache: the security gate fails closed without it (`orch doctor --fix` installs it)"
                .to_owned(),
        );
    }
    let (confine, note) = super::confine::line();
    notes.extend(note);
    let (paths, failed) = (super::install::part_of(dir), Failed::default());
    Ok(Found { key, repo, paths, remote, branch, forge, setup, ci, failed, claude, confine, notes })
}

/// `origin`, or the only remote.
fn chosen<'n>(names: &[&'n str]) -> Option<&'n str> {
    names.iter().copied().find(|n| *n == "origin").or(match names {
        [only] => Some(only),
        _ => None,
    })
}

/// The remote of the checkout that contains a folder, as [`around`] returns it.
fn remote_of(dir: &Path) -> Option<String> {
    let git = Git::new("git").ok()?;
    let ask = |args: &[&str]| git.cmd(dir).args(args).text().ok().filter(|t| !t.is_empty());
    let names = ask(&["remote"])?;
    let url = ask(&["remote", "get-url", chosen(&names.lines().collect::<Vec<_>>())?])?;
    Some(plain(&url, locate::top(dir)?))
}

/// The one project of which the working folder is a checkout, or a part of one; `None`: none, or several.
pub fn project_here(config: &Config) -> Option<String> {
    let dir = std::env::current_dir().ok().filter(|_| config.projects.len() > 1)?;
    let dir = std::fs::canonicalize(&dir).unwrap_or(dir);
    let remote = remote_of(&dir)?;
    let top = locate::top(&dir)?;
    let within = dir.strip_prefix(top).unwrap_or(&dir).join("a");
    let part = |p: &&Project| {
        let holds = |path: &String| glob(path).is_ok_and(|g| g.compile_matcher().is_match(&within));
        same_remote(&p.git.remote, &remote) && (p.paths.is_empty() || p.paths.iter().any(holds))
    };
    let mut all = config.projects.iter().filter(part);
    all.next().filter(|_| all.next().is_none()).map(|p| p.key.clone())
}

impl Found {
    /// Uses what the files of the default branch propose, where there was no checkout to read it from. `root`: or why
    /// they were not read.
    pub fn read(&mut self, root: Result<Root, String>) {
        let (Proposal { setup, ci }, unread) = match root {
            Ok(root) => (propose(&root), None),
            Err(why) => (Proposal::default(), Some(why)),
        };
        self.setup = setup;
        if !self.forge.is_remote() {
            self.ci = ci.map_or(Ci::None, Ci::Command);
        }
        self.notes.extend(match (&self.ci, unread) {
            (_, Some(why)) => Some(format!("no setup and no CI is written: {why}")),
            (Ci::None, None) => Some("no test command was found, so no CI is written: set ci.command".to_owned()),
            (Ci::UnknownContexts, None) => Some("list the required CI statuses in ci.contexts".to_owned()),
            (Ci::Command(_) | Ci::Contexts(_), None) => None,
        });
    }

    /// The note for the first project, whose new file names Claude Code; what an existing file names is for doctor to
    /// judge.
    pub fn runtime_note(&self, file: &Path, written: &[PathBuf]) -> Option<String> {
        let missing = self.claude.is_none() && written.iter().any(|path| path == file);
        let name = file.display();
        missing.then(|| format!("claude is not on PATH: install Claude Code, or name another runtime in {name}"))
    }
}

/// What a URL alone shows: there is no checkout to propose commands from, and nobody is asked (ORD-2); see
/// [`Found::read`].
pub fn of_url(url: &str) -> Found {
    let remote = plain(url, Path::new("/"));
    let repo = repo_name(&remote);
    let (forge, note) = forge_of(&remote);
    let mut notes: Vec<String> = note.into_iter().collect();
    let ci = if forge.is_remote() { Ci::UnknownContexts } else { Ci::None };
    let (confine, note) = super::confine::line();
    notes.extend(note);
    let claude = which::which("claude").ok();
    Found {
        key: key_of(&repo),
        repo,
        paths: Vec::new(),
        remote,
        branch: None,
        forge,
        setup: None,
        ci,
        claude,
        confine,
        failed: super::try_base::Failed::default(),
        notes,
    }
}

/// The remote as the configuration needs it: a path is absolute, a URL contains no credential.
fn plain(url: &str, top: &Path) -> String {
    if let Some((scheme, rest)) = url.split_once("://") {
        let host = rest.split('/').next().unwrap_or(rest);
        // An ssh user is not a secret, and is needed.
        if let Some((who, _)) = host.rsplit_once('@').filter(|_| scheme.starts_with("http")) {
            return format!("{scheme}://{}", rest.get(who.len() + 1..).unwrap_or(rest));
        }
        return url.to_owned();
    }
    let scp = url.split_once(':').is_some_and(|(host, _)| !host.contains('/'));
    if scp { url.to_owned() } else { top.join(url).display().to_string() }
}

fn repo_name(remote: &str) -> String {
    let last = remote.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or("repo");
    let name: String = last
        .trim_end_matches(".git")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .collect();
    let name = name.trim_start_matches(['.', '-']).to_owned();
    if name.is_empty() { "repo".to_owned() } else { name }
}

/// `my-shop` becomes MYSHOP: letters and digits, at most ten, a letter first.
fn key_of(repo: &str) -> String {
    let all = repo.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase());
    let key: String = all.skip_while(char::is_ascii_digit).take(10).collect();
    if key.is_empty() { "ORCH".to_owned() } else { key }
}

/// The forge of a remote by its address, and what to know about it. A host of unknown name is asked what it is only if
/// a token for one is available (ORD-2).
fn forge_of(remote: &str) -> (Forge, Option<String>) {
    let Some(at) = address::at(remote) else { return (Forge::default(), None) };
    match address::ask(&at, &variable, TIMEOUT) {
        Some(forge) => (forge, None),
        None => (Forge::default(), address::sentence(&at)),
    }
}

/// The value of a variable that contains a token.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|t| !t.is_empty())
}

/// Whether a repository on this machine has no branch yet; a remote one is not asked.
fn is_empty(git: &Git, remote: &str) -> bool {
    let path = Path::new(remote);
    path.is_dir() && git.cmd(path).args(["for-each-ref", "--count=1", "refs/heads"]).text().is_ok_and(|t| t.is_empty())
}

/// Whether the remote is a path of this machine at which nothing exists.
fn is_absent(remote: &str) -> bool {
    let path = Path::new(remote);
    path.is_absolute() && matches!(path.try_exists(), Ok(false))
}

/// The names of statuses that the branch's rules require, or that the heads of recent pull requests have, or else those
/// of recent commits, without `orch`'s own (RULE-2).
fn contexts(forge: &Forge, branch: Option<&str>, commits: &str) -> Vec<String> {
    let token = address::variable(forge).and_then(variable);
    let Some(forge) = token.and_then(|token| address::at_hand(forge, &token, TIMEOUT)) else { return Vec::new() };
    if let Some(branch) = branch.filter(|_| forge.asks_by_name())
        && let Ok(rule) = forge.protection(branch)
        && !rule.required_contexts.is_empty()
    {
        return rule.required_contexts;
    }
    let posted = |shas: Vec<Sha>| -> Vec<String> {
        let seen = shas.iter().filter_map(|sha| forge.statuses(sha).ok()).flatten().map(|s| s.context);
        let seen: BTreeSet<String> = seen.filter(|c| !is_own(c)).collect();
        seen.into_iter().collect()
    };
    // What runs for a push to the default branch need not run for a pull request, which is what waits for it.
    let of_pulls = posted(forge.recent_heads().unwrap_or_default());
    if of_pulls.is_empty() { posted(commits.lines().filter_map(|l| Sha::parse(l).ok()).collect()) } else { of_pulls }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_named_without_its_credential() {
        let top = Path::new("/home/ann/shop");
        for (given, plainly) in [
            ("https://ann:secret@git.example/t/x.git", "https://git.example/t/x.git"),
            ("https://git.example/t/x.git", "https://git.example/t/x.git"),
            ("ssh://git@git.example/t/x.git", "ssh://git@git.example/t/x.git"),
            ("git@git.example:t/x.git", "git@git.example:t/x.git"),
            ("/srv/x.git", "/srv/x.git"),
            ("../x.git", "/home/ann/shop/../x.git"),
        ] {
            assert_eq!(plain(given, top), plainly, "{given}");
        }
    }

    #[test]
    fn keys_are_keys_whatever_the_name() {
        for (name, key) in [
            ("my-shop", "MYSHOP"),
            ("2048", "ORCH"),
            ("7zip", "ZIP"),
            ("a-very-long-name", "AVERYLONGN"),
            ("…", "ORCH"),
        ] {
            assert_eq!(key_of(name), key);
            assert!(crate::model::ids::Key::parse(&format!("{key}-1")).is_ok());
        }
        assert_eq!(repo_name("git@h:team/My.Repo.git"), "My.Repo");
        assert_eq!(repo_name("/srv/.git"), "repo");
    }
}
