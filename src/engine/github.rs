//! GitHub's board and forge as a project names them: one credential, its pace and its tokens, and the repository's id from
//! the first contact on (GH-1).

use super::paths::Paths;
use super::{Ctx, boards, projects, throttle};
use crate::adapters::board::BoardError;
use crate::adapters::board::github::{self as issues, Issues};
use crate::adapters::forge::Github;
use crate::adapters::forge::github::Place;
use crate::adapters::git::Credential;
use crate::adapters::github::{Account, Api, App, Login, Pace, git_host};
use crate::adapters::http::{Limits, Token};
use crate::config::{Board, Config, Forge, GithubBoard, GithubForge, GithubLogin, GithubRepo, Project};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// A client for a repository's credential. Nothing is asked yet.
pub fn api(config: &Config, project: &Project, repo: &GithubRepo) -> Result<Api> {
    let tokens = Paths::new(&config.state_dir).tokens();
    let secret = |from: &crate::config::SecretRef| {
        from.resolve().with_context(|| format!("the GitHub credential of {}", project.key))
    };
    let login = match &repo.login {
        GithubLogin::Token(token) => Login::Token(Token::new(secret(token)?.expose().trim())),
        GithubLogin::App { id, installation, key } => Login::App(App {
            id: id.clone(),
            installation: *installation,
            key: Arc::new(Zeroizing::new(secret(key)?.expose().to_owned())),
            tokens: tokens.clone(),
        }),
    };
    let from = serde_json::to_string(&repo.login).unwrap_or_default();
    let name = throttle::digest(&[&repo.api_base, &from]);
    let gap = Duration::from_millis(config.github.write_gap_ms.min(60_000));
    let account = Account {
        api_base: &repo.api_base,
        login,
        pace: Pace::new(&tokens.join(format!("{name}.writes")), gap),
        reserve: config.github.reserve,
        limits: Limits::default(),
    };
    Ok(Api::new(account)?)
}

/// The project's forge. At first contact the repository is asked for its id.
pub fn forge(ctx: &mut Ctx, project: &Project, forge: &GithubForge) -> Result<Github> {
    let known = known_id(ctx, project)?;
    let place = Place {
        owner: &forge.repo.owner,
        name: &forge.repo.name,
        id: known,
        base: project.git.default_branch.as_deref(),
        method: projects::method(project),
        via: projects::via(project),
        draft: forge.draft,
        reviewers: &forge.reviewers,
        team_reviewers: &forge.team_reviewers,
    };
    let api = api(&ctx.config, project, &forge.repo)?;
    let opened = Github::new(&place, api.clone())?;
    if known.is_some() || ctx.dry {
        return Ok(opened);
    }
    let id = opened.id()?;
    remember_id(ctx, project, id)?;
    Ok(Github::new(&Place { id: Some(id), ..place }, api)?)
}

/// The project's board.
pub fn board(ctx: &mut Ctx, project: &Project, board: &GithubBoard) -> Result<Issues> {
    let seen = ctx.store.read(|tx| tx.meta(&seen_key(project)))?;
    open_issues(&ctx.config, project, board, seen)
}

fn open_issues(config: &Config, project: &Project, board: &GithubBoard, seen: Option<String>) -> Result<Issues> {
    let place = issues::Place {
        owner: &board.repo.owner,
        name: &board.repo.name,
        key: &project.key,
        prefix: &board.labels.prefix,
        priority: &board.labels.priority,
        statuses: &board.statuses,
        seen,
    };
    Ok(Issues::new(place, api(config, project, &board.repo)?))
}

/// Makes the labels that a project's board lacks, and gives their names; none where its statuses are no labels. For
/// `orch init`.
pub fn make_labels(config: &Config, project: &Project) -> Result<Vec<String>> {
    let Board::Github(board) = &project.board else { return Ok(Vec::new()) };
    Ok(open_issues(config, project, board, None)?.make_labels()?)
}

/// That the repository of a board is the one of the first contact: a stranger can take the name of one that moved (GH-1).
/// Fails with `Auth` where it is another. Asked before a whole look.
pub fn same_repository(ctx: &mut Ctx, project: &Project, board: &boards::Seat) -> Result<()> {
    let crate::adapters::board::Board::Github(issues) = &board.board else { return Ok(()) };
    let id = issues.id()?;
    match known_id(ctx, project)? {
        Some(known) if known != id => Err(BoardError::Auth(format!(
            "the repository has the id {id} and had {known}: another one took its name; correct board.owner and board.name"
        ))
        .into()),
        Some(_) => Ok(()),
        None if ctx.dry => Ok(()),
        None => remember_id(ctx, project, id),
    }
}

/// Where it is kept what the newest list was known by.
pub fn seen_key(project: &Project) -> String {
    format!("github/seen/{}", project.key)
}

/// Where a person finds an issue; `None`: the board is another one.
pub fn issue_url(project: &Project, number: &str) -> Option<String> {
    let Board::Github(board) = &project.board else { return None };
    let scheme = board.repo.api_base.split_once("://")?.0;
    let host = git_host(&board.repo.api_base)?;
    Some(format!("{scheme}://{host}/{}/{}/issues/{number}", board.repo.owner, board.repo.name))
}

fn id_key(project: &Project) -> String {
    format!("github/id/{}", project.key)
}

/// The repository's id at first contact.
pub fn known_id(ctx: &mut Ctx, project: &Project) -> Result<Option<u64>> {
    Ok(ctx.store.read(|tx| tx.meta(&id_key(project)))?.and_then(|text| text.parse().ok()))
}

/// Keeps the repository's id.
pub fn remember_id(ctx: &mut Ctx, project: &Project, id: u64) -> Result<()> {
    Ok(ctx.store.write(|tx| tx.set_meta(&id_key(project), &id.to_string()))?)
}

/// What git shows a GitHub remote where `git.credential` says nothing: the forge's own credential, and only to the host
/// that it is for.
pub fn git_credential(ctx: &Ctx, project: &Project) -> Result<Option<Credential>> {
    let Forge::Github(forge) = &project.forge else { return Ok(None) };
    if !is_for(&forge.repo.api_base, &project.git.remote) {
        return Ok(None);
    }
    Ok(Some(api(&ctx.config, project, &forge.repo)?.git_credential()?))
}

fn is_for(api_base: &str, remote: &str) -> bool {
    let scheme = |text: &str| text.split_once("://").map(|(scheme, _)| scheme.to_owned());
    let own = remote.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    scheme(remote).is_some_and(|s| s.starts_with("http"))
        && scheme(remote) == scheme(api_base)
        && own.is_some_and(|own| git_host(api_base).is_some_and(|host| host.eq_ignore_ascii_case(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_shown_to_its_own_host_alone() {
        let (cloud, server) = ("https://api.github.com", "https://git.example:8443/api/v3");
        for (api, remote, own) in [
            (cloud, "https://github.com/team/app.git", true),
            (cloud, "https://GitHub.com/team/app", true),
            (cloud, "http://github.com/team/app.git", false),
            (cloud, "https://github.com.evil.example/team/app.git", false),
            (cloud, "https://evil.example/github.com/app.git", false),
            (cloud, "git@github.com:team/app.git", false),
            (cloud, "ssh://git@github.com/team/app.git", false),
            (cloud, "/srv/app.git", false),
            (server, "https://git.example:8443/team/app.git", true),
            (server, "https://git.example/team/app.git", false),
        ] {
            assert_eq!(is_for(api, remote), own, "{api} {remote}");
        }
    }
}
