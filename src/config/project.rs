//! One project: the file's sections over the top-level ones, defaults, and the self-hosting rules over everything.

use super::error::ConfigError;
use super::github::RawBoardProject;
use super::parts::{Place, allowances, argv, health, http, missing, text};
use super::paths::{Remote, expand, remote, under};
use super::raw::{RawBoard, RawCi, RawDeploy, RawForge, RawGit, RawProject};
use super::settings::{RawFeeds, RawPostDeploy, RawSecurity, RawSlurm, RawStaging};
use super::types::{
    ArtefactsAfterMerge, Author, Ci, Confine, DegradedAction, Deploy, Git, Merge, PostDeploy, Project, Security,
    Staging, Worktree,
};
use super::vars::Vars;
use crate::model::protected::BUILT_IN;
use crate::model::sides::{
    Board, BoardKind, Forge, ForgeKind, GiteaForge, LocalBoard, Method, PlaneBoard, Update, Via,
};
use crate::model::stage::Stage;
use std::path::Path;

/// What a project is built from.
pub(super) struct Around<'a> {
    pub place: Place<'a>,
    pub state_dir: &'a Path,
    pub vars: &'a Vars<'a>,
    /// The effective top-level section.
    pub confine: &'a Confine,
    pub slurm: &'a RawSlurm,
    pub security: &'a RawSecurity,
    pub staging: &'a RawStaging,
    pub post_deploy: &'a RawPostDeploy,
}

/// `worktree.copy_max_mb`, if not set.
const COPY_MAX_MB: u64 = 512;

/// The default stages of a project.
const STAGES: [Stage; 7] = [
    Stage::Analysis,
    Stage::Architecture,
    Stage::Development,
    Stage::Review,
    Stage::Testing,
    Stage::DeployStaging,
    Stage::Deploy,
];

/// Builds and checks one project. `forced` collects the paths that the self-hosting rules changed.
pub(super) fn project(
    raw: &RawProject,
    n: usize,
    around: &Around<'_>,
    forced: &mut Vec<String>,
) -> Result<Project, ConfigError> {
    let key = text(raw.key.as_ref()).ok_or_else(|| missing(&format!("projects[{n}].key"), "a prefix such as ORCH"))?;
    if !crate::model::ids::is_prefix(&key) {
        return Err(ConfigError::new(format!(
            "projects[{n}].key is {key:?}, expected a capital letter and at most nine more capitals or digits"
        )));
    }
    let at = format!("projects.{key}");
    let self_hosting = raw.self_hosting.unwrap_or(false);
    let repo = text(raw.repo.as_ref()).unwrap_or_else(|| key.to_ascii_lowercase());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if repo.len() > 64 || !repo.chars().all(fits) || repo.starts_with(['.', '-']) || repo.ends_with(".git") {
        return Err(ConfigError::new(format!(
            "{at}.repo is {repo:?}, expected at most 64 letters, digits, -, _ or . (not .git at the end)"
        )));
    }
    let place = around.place;
    let worktree = raw.worktree.clone().unwrap_or_default();
    let setup = worktree.setup.map(|s| place.command(&s, 600.0, &format!("{at}.worktree.setup"))).transpose()?;
    let copy = worktree.copy.unwrap_or_default();
    let copy = copy.iter().map(|f| place.path(f, &format!("{at}.worktree.copy"))).collect::<Result<_, _>>()?;
    let merge = raw.merge.clone().unwrap_or_default();
    let staging = staging(raw.staging.clone().unwrap_or_default().over(around.staging.clone()), around, &at)?;
    let security = security(raw.security.clone().unwrap_or_default().over(around.security.clone()), around, &at)?;
    let post = raw.post_deploy.clone().unwrap_or_default().over(around.post_deploy.clone());
    let mut project = Project {
        git: git(raw.git.as_ref(), &place, &at)?,
        board: board(raw.board.clone().unwrap_or_default(), around, &at)?,
        forge: forge(raw.forge.clone().unwrap_or_default(), &place, &at)?,
        worktree: Worktree { setup, copy, copy_max_mb: worktree.copy_max_mb.unwrap_or(COPY_MAX_MB) },
        ci: ci(raw.ci.clone().unwrap_or_default(), &place, &at)?,
        merge: Merge {
            update: merge.update.unwrap_or(Update::Rebase),
            method: merge.method.unwrap_or(Method::Merge),
            via: merge.via.unwrap_or(Via::Forge),
            delete_branch: merge.delete_branch.unwrap_or(true),
        },
        security,
        staging,
        deploy: deploy(raw.deploy.clone().unwrap_or_default(), &place, &at)?,
        post_deploy: post_deploy(post, around, &at)?,
        stages: raw.stages.clone().unwrap_or_else(|| STAGES.to_vec()),
        confine: match &raw.confine {
            Some(own) => super::confine::inner(own, around.confine, &place, &at)?,
            None => around.confine.clone(),
        },
        slurm: super::slurm::inner(raw.slurm.as_ref(), around.slurm, around.vars, &at)?,
        paths: raw.paths.clone().unwrap_or_default(),
        repository_config: raw.repository_config.unwrap_or(false),
        fault: None,
        key,
        repo,
        self_hosting,
    };
    if self_hosting {
        if !project.deploy.confirm {
            project.deploy.confirm = true;
            forced.push(format!("{at}.deploy.confirm"));
        }
        if project.post_deploy.action != DegradedAction::AlertOnly {
            project.post_deploy.action = DegradedAction::AlertOnly;
            forced.push(format!("{at}.post_deploy.action"));
        }
    }
    protect(&mut project);
    super::check::project(&project, &at)?;
    Ok(project)
}

fn git(raw: Option<&RawGit>, place: &Place<'_>, at: &str) -> Result<Git, ConfigError> {
    let at = format!("{at}.git");
    let raw = raw.cloned().unwrap_or_default();
    let named = text(raw.remote.as_ref()).ok_or_else(|| missing(&format!("{at}.remote"), "a URL or a path"))?;
    let remote = match remote(&named) {
        Remote::Path(path) => place.path(path, &format!("{at}.remote"))?.to_string_lossy().into_owned(),
        Remote::Url { scheme, user, address } => {
            let http = scheme.to_ascii_lowercase().starts_with("http");
            if user.is_some_and(|u| http || u.contains(':')) {
                return Err(ConfigError::new(format!(
                    "{at}.remote must not hold a user or password (it is not repeated)"
                ))
                .hint(format!(
                    "write {scheme}://HOST/PATH and give the secret as git.credential: {{env: NAME}} or {{file: PATH}}"
                )));
            }
            if address.is_empty()
                || address.starts_with(['-', '/'])
                || named.chars().any(|c| c.is_whitespace() || c.is_control())
            {
                return Err(ConfigError::new(format!("{at}.remote is {named:?}, expected a URL or a path")));
            }
            named
        }
    };
    let author = raw.author.unwrap_or_default();
    let author = Author {
        name: text(author.name.as_ref()).unwrap_or_else(|| "orch".into()),
        email: text(author.email.as_ref()).unwrap_or_else(|| "orch@localhost".into()),
    };
    if [&author.name, &author.email].iter().any(|t| t.contains(|c: char| c.is_control() || matches!(c, '<' | '>'))) {
        return Err(ConfigError::new(format!("{at}.author: expected a name and an address without <, > or line ends")));
    }
    let branch_prefix = raw.branch_prefix.unwrap_or_else(|| "feature/".into());
    if branch_prefix.len() > 32 || !is_ref(&format!("{branch_prefix}A-1")) {
        return Err(ConfigError::new(format!(
            "{at}.branch_prefix is {branch_prefix:?}, expected at most 32 letters, digits, -, _, . or / that begin a branch name"
        )));
    }
    let default_branch = text(raw.default_branch.as_ref());
    if let Some(branch) = default_branch.as_ref().filter(|b| !is_ref(b)) {
        return Err(ConfigError::new(format!("{at}.default_branch is {branch:?}, expected a branch name")));
    }
    let credential = raw.credential.map(|c| place.secret(&c, &format!("{at}.credential"))).transpose()?;
    let built_in = BUILT_IN.iter().map(|p| (*p).to_owned());
    let protected_paths = built_in.chain(raw.protected_paths.unwrap_or_default()).collect();
    Ok(Git { remote, default_branch, branch_prefix, author, credential, protected_paths })
}

/// A plain branch name: a subset of what `git check-ref-format` accepts.
fn is_ref(name: &str) -> bool {
    let part = |p: &str| !p.is_empty() && !p.starts_with(['.', '-']) && !p.ends_with('.') && !p.ends_with(".lock");
    name.split('/').all(part)
        && !name.contains("..")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
}

fn board(raw: RawBoard, around: &Around<'_>, at: &str) -> Result<Board, ConfigError> {
    let at = format!("{at}.board");
    let statuses = raw.statuses.clone().unwrap_or_default();
    if let Some((key, _)) = statuses.iter().find(|(_, name)| name.trim().is_empty()) {
        return Err(missing(&format!("{at}.statuses.{key}"), "the status's name"));
    }
    let deciders = raw.deciders.clone().unwrap_or_default();
    if deciders.iter().any(|user| user.trim().is_empty()) {
        return Err(missing(&format!("{at}.deciders"), "the user's name"));
    }
    let kind = raw.kind.unwrap_or(BoardKind::Local);
    strangers(kind, &at, &board_keys(&raw))?;
    let full_scan_every_s = raw.full_scan_every_s.unwrap_or(86_400);
    if full_scan_every_s == 0 {
        return Err(ConfigError::new(format!("{at}.full_scan_every_s is 0, expected 1 or more")));
    }
    match kind {
        BoardKind::Local => {
            let dir = raw.dir.unwrap_or_else(|| "issues".into());
            let dir = under(around.state_dir, expand(&dir, around.place.env, &format!("{at}.dir"))?);
            Ok(Board::Local(LocalBoard { dir, statuses, deciders }))
        }
        BoardKind::Plane => {
            let need = |value: &Option<String>, key: &str, what: &str| {
                text(value.as_ref()).ok_or_else(|| missing(&format!("{at}.{key}"), what))
            };
            let key = raw.api_key.ok_or_else(|| missing(&format!("{at}.api_key"), "{env: NAME} or {file: PATH}"))?;
            let project = match &raw.project {
                Some(RawBoardProject::Plane(name)) => Some(name.clone()),
                Some(RawBoardProject::Github { .. }) | None => None,
            };
            Ok(Board::Plane(PlaneBoard {
                url: http(&need(&raw.url, "url", "where Plane is")?, &format!("{at}.url"))?,
                workspace: need(&raw.workspace, "workspace", "the workspace's slug")?,
                project: need(&project, "project", "the project's id or identifier")?,
                api_key: around.place.secret(&key, &format!("{at}.api_key"))?,
                statuses,
                full_scan_every_s,
                deciders,
            }))
        }
        BoardKind::Github => {
            let of = (statuses, deciders);
            Ok(Board::Github(super::github::board(&raw, of, full_scan_every_s, &around.place, &at)?))
        }
    }
}

/// The keys of a board that not every kind has: whether each is set, and which kinds have it.
fn board_keys(raw: &RawBoard) -> Vec<(&'static str, bool, &'static [BoardKind])> {
    use BoardKind::{Github, Local, Plane};
    vec![
        ("dir", raw.dir.is_some(), &[Local]),
        ("url", raw.url.is_some(), &[Plane]),
        ("workspace", raw.workspace.is_some(), &[Plane]),
        ("project", raw.project.is_some(), &[Plane, Github]),
        ("api_key", raw.api_key.is_some(), &[Plane]),
        ("full_scan_every_s", raw.full_scan_every_s.is_some(), &[Plane, Github]),
        ("api_base", raw.api_base.is_some(), &[Github]),
        ("owner", raw.owner.is_some(), &[Github]),
        ("name", raw.name.is_some(), &[Github]),
        ("token", raw.token.is_some(), &[Github]),
        ("app", raw.app.is_some(), &[Github]),
        ("labels", raw.labels.is_some(), &[Github]),
        ("comments", raw.comments.is_some(), &[Github]),
    ]
}

/// Refuses keys that belong to another kind: no key may be set and do nothing.
fn strangers<K: Copy + PartialEq + std::fmt::Display>(
    kind: K,
    at: &str,
    keys: &[(&str, bool, &[K])],
) -> Result<(), ConfigError> {
    let Some((key, _, of)) = keys.iter().find(|(_, set, of)| *set && !of.contains(&kind)) else { return Ok(()) };
    let of = of.iter().map(ToString::to_string).collect::<Vec<_>>();
    Err(ConfigError::new(format!("{at}.{key} is a key of kind {}, and this is {kind}", of.join(" and ")))
        .hint(format!("say kind: {}", of.join(" or kind: "))))
}

fn forge(raw: RawForge, place: &Place<'_>, at: &str) -> Result<Forge, ConfigError> {
    let at = format!("{at}.forge");
    let need = |value: &Option<String>, key: &str, what: &str| {
        text(value.as_ref()).ok_or_else(|| missing(&format!("{at}.{key}"), what))
    };
    let kind = raw.kind.unwrap_or(ForgeKind::Local);
    strangers(kind, &at, &forge_keys(&raw))?;
    match kind {
        ForgeKind::Local => Ok(Forge::Local),
        ForgeKind::Gitea => {
            let token = raw.token.clone();
            let token = token.ok_or_else(|| missing(&format!("{at}.token"), "{env: NAME} or {file: PATH}"))?;
            Ok(Forge::Gitea(GiteaForge {
                url: http(&need(&raw.url, "url", "where Gitea is")?, &format!("{at}.url"))?,
                owner: need(&raw.owner, "owner", "the repository's owner")?,
                name: need(&raw.name, "name", "the repository's name")?,
                token: place.secret(&token, &format!("{at}.token"))?,
                post_statuses: raw.post_statuses.unwrap_or(false),
            }))
        }
        ForgeKind::Github => Ok(Forge::Github(super::github::forge(&raw, place, &at)?)),
    }
}

/// As [`board_keys`], for a forge.
fn forge_keys(raw: &RawForge) -> Vec<(&'static str, bool, &'static [ForgeKind])> {
    use ForgeKind::{Gitea, Github};
    vec![
        ("url", raw.url.is_some(), &[Gitea]),
        ("owner", raw.owner.is_some(), &[Gitea, Github]),
        ("name", raw.name.is_some(), &[Gitea, Github]),
        ("token", raw.token.is_some(), &[Gitea, Github]),
        ("post_statuses", raw.post_statuses.is_some(), &[Gitea, Github]),
        ("api_base", raw.api_base.is_some(), &[Github]),
        ("app", raw.app.is_some(), &[Github]),
        ("draft", raw.draft.is_some(), &[Github]),
        ("reviewers", raw.reviewers.is_some(), &[Github]),
        ("team_reviewers", raw.team_reviewers.is_some(), &[Github]),
    ]
}

fn ci(raw: RawCi, place: &Place<'_>, at: &str) -> Result<Ci, ConfigError> {
    let at = format!("{at}.ci");
    Ok(Ci {
        required: raw.required.unwrap_or(true),
        command: argv(raw.command.as_ref(), &at)?,
        timeout_s: limit(raw.timeout_s, 3600, &at)?,
        env: place.env(raw.env.as_ref(), &at)?,
        contexts: raw.contexts.unwrap_or_default(),
        accept: raw.accept.unwrap_or_default(),
    })
}

/// The default time limit, in seconds, of a build and of the command that takes it to staging.
const BUILD_S: f64 = 900.0;

fn deploy(raw: RawDeploy, place: &Place<'_>, at: &str) -> Result<Deploy, ConfigError> {
    let at = format!("{at}.deploy");
    Ok(Deploy {
        confirm: raw.confirm.unwrap_or(true),
        command: argv(raw.command.as_ref(), &at)?,
        timeout_s: limit(raw.timeout_s, 1800, &at)?,
        env: place.env(raw.env.as_ref(), &at)?,
        build: raw.build.map(|b| place.command(&b, BUILD_S, &format!("{at}.build"))).transpose()?,
        artefacts_after_merge: raw.artefacts_after_merge.unwrap_or(ArtefactsAfterMerge::State),
        report: raw.report.unwrap_or(false),
        environment: text(raw.environment.as_ref()).unwrap_or_else(|| "production".to_owned()),
    })
}

fn limit(value: Option<u64>, default: u64, at: &str) -> Result<u64, ConfigError> {
    match value.unwrap_or(default) {
        n @ 1..=604_800 => Ok(n),
        n => Err(ConfigError::new(format!("{at}.timeout_s is {n}, expected 1 to 604800 seconds"))),
    }
}

/// A `security` section; for the top-level one `at` is empty.
pub(super) fn security(raw: RawSecurity, around: &Around<'_>, at: &str) -> Result<Security, ConfigError> {
    let mut section = raw.effective(around.vars)?;
    let feeds: RawFeeds = raw.feeds.unwrap_or_default();
    section.feeds = feeds.effective(around.vars)?;
    section.allow = raw.allow.unwrap_or_default();
    super::check::waivers(&section, &inside(at, "security"))?;
    Ok(section)
}

/// A `staging` section.
pub(super) fn staging(raw: RawStaging, around: &Around<'_>, at: &str) -> Result<Staging, ConfigError> {
    let at = inside(at, "staging");
    let place = around.place;
    let mut section = raw.effective(around.vars)?;
    section.checks = place.checks(raw.checks.as_deref().unwrap_or_default(), &format!("{at}.checks"))?;
    section.sandbox_infra =
        allowances(raw.sandbox_infra.as_deref().unwrap_or_default(), &format!("{at}.sandbox_infra"))?;
    section.revision = raw.revision.map(|r| place.revision(&r, &format!("{at}.revision"))).transpose()?;
    section.build = raw.build.map(|b| place.command(&b, BUILD_S, &format!("{at}.build"))).transpose()?;
    section.deploy = raw.deploy.map(|d| place.command(&d, BUILD_S, &format!("{at}.deploy"))).transpose()?;
    section.sandbox = raw.sandbox.and_then(|s| text(s.project.as_ref()));
    Ok(section)
}

/// A `post_deploy` section.
pub(super) fn post_deploy(raw: RawPostDeploy, around: &Around<'_>, at: &str) -> Result<PostDeploy, ConfigError> {
    let at = inside(at, "post_deploy");
    let place = around.place;
    let mut section = raw.effective(around.vars)?;
    section.health = health(raw.health.as_deref().unwrap_or_default(), &format!("{at}.health"))?;
    section.revision = raw.revision.map(|r| place.revision(&r, &format!("{at}.revision"))).transpose()?;
    let control = raw.control.map(|c| http(c.url.as_deref().unwrap_or_default(), &format!("{at}.control.url")));
    section.control = control.transpose()?;
    section.errors = raw.errors.map(|e| place.errors(&e, &format!("{at}.errors"))).transpose()?.unwrap_or_default();
    section.rollback = raw.rollback.map(|r| place.command(&r, 600.0, &format!("{at}.rollback"))).transpose()?;
    super::check::post_deploy(&section, &format!("{at}.5xx_threshold"))?;
    Ok(section)
}

fn inside(at: &str, section: &str) -> String {
    if at.is_empty() { section.to_owned() } else { format!("{at}.{section}") }
}

/// Adds the scripts that configured commands name to the protected paths (RULE-23) and, for `orch`'s own repository,
/// the prompts.
fn protect(project: &mut Project) {
    let mut more: Vec<String> = project.scripts().iter().map(|path| globset::escape(path)).collect();
    if project.self_hosting {
        more.push("agents/**".to_owned());
    }
    for path in more {
        if !project.git.protected_paths.contains(&path) {
            project.git.protected_paths.push(path);
        }
    }
}
