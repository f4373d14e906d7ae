//! Tracks outages of boards, forges and git remotes (NTF-2): a failed call opens one, the next answered call closes it,
//! and each is reported once, however many projects it affects. An outage affects a host, or only one project or
//! account. `decide::outages` decides when one is reported, over or forgotten.

use super::{Ctx, messages};
use crate::adapters::board::BoardError;
use crate::adapters::forge::ForgeError;
use crate::adapters::git::GitError;
use crate::adapters::store::{Result as StoreResult, StoreError, Tx};
use crate::config::Project;
use crate::decide::outages::{self, GitFailed, Left, Outage, Scope};
use crate::model::card::AlertKind;
use crate::model::fault::Access;
use crate::model::refusal::Side;
use crate::model::status::ServiceRow;
use crate::model::time::rfc3339;
use anyhow::Result;

const PREFIX: &str = "down/";
/// The part for the check of rights before a task's first branch.
const RIGHTS: &str = "rights";

/// A place, and the part of it that an answer or failure concerns.
type Of = (String, &'static str);

/// The host with its port; `None` for a path of this machine.
fn host(address: &str) -> Option<&str> {
    match address.split_once("://") {
        Some(("file", _)) => None,
        Some((_, rest)) => {
            let authority = rest.split('/').next().unwrap_or(rest);
            Some(authority.rsplit_once('@').map_or(authority, |(_, host)| host))
        }
        // `git@host:path`, as ssh has it.
        None => {
            let (before, _) = address.split_once(':')?;
            (!before.contains('/')).then(|| before.rsplit_once('@').map_or(before, |(_, host)| host))
        }
    }
    .filter(|h| !h.is_empty())
}

fn forge_host(project: &Project) -> Option<&str> {
    host(project.forge.account()?.url)
}

fn board_host(project: &Project) -> Option<&str> {
    host(project.board.account()?.url)
}

/// The forge's own host if git uses the same one on another port: one outage, reported once.
fn git_host(project: &Project) -> Option<&str> {
    // Without the port; an IPv6 address has colons of its own, and brackets around it.
    let name = |h: &str| match h.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
        _ => h.to_owned(),
    };
    let own = host(&project.git.remote)?;
    Some(forge_host(project).filter(|forge| name(forge) == name(own)).unwrap_or(own))
}

fn forge_account(project: &Project) -> Option<Of> {
    let name = project.forge.account()?.name;
    Some((format!("the account of {name} at {}", forge_host(project)?), "forge"))
}

fn own(what: &str, project: &Project, part: &'static str) -> Of {
    (format!("{what} of {}", project.key), part)
}

/// The service of the project that an error shows to be unavailable; `None`: it shows no such thing.
fn failed(project: &Project, error: &anyhow::Error) -> Option<Of> {
    let shared = |host: Option<&str>, part| host.map(|h| (h.to_owned(), part));
    error.chain().find_map(|e| {
        if let Some(e) = e.downcast_ref::<ForgeError>() {
            forge_host(project)?;
            let scope = match e {
                ForgeError::Transient(_) | ForgeError::UnknownOutcome(_) => Some(Scope::Host),
                ForgeError::Refused { refusal, .. } => outages::of_refusal(refusal),
                ForgeError::NotFound(_)
                | ForgeError::Conflict(_)
                | ForgeError::Invalid(_)
                | ForgeError::Throttled { .. } => None,
            };
            return match scope? {
                Scope::Host => shared(forge_host(project), "forge"),
                Scope::Account => forge_account(project),
                Scope::Project => Some(own("forge", project, "forge")),
            };
        }
        let (access, how) = match e.downcast_ref::<GitError>()? {
            GitError::Timeout { access, .. } => (access, GitFailed::TimedOut),
            GitError::Unreachable { access, how, .. } => (access, GitFailed::Unreachable(*how)),
            GitError::Refused { access, .. } => (access, GitFailed::Refused),
            GitError::Missing { .. }
            | GitError::Conflict { .. }
            | GitError::Rejected { .. }
            | GitError::Incompatible { .. }
            | GitError::NotFound { .. }
            | GitError::Busy { .. }
            | GitError::Killed { .. }
            | GitError::Io { .. }
            | GitError::Broken { .. } => return None,
        };
        let part = access.part();
        let own = || Some(own("git remote", project, part));
        match (outages::of_git(how), how) {
            (Scope::Host, GitFailed::TimedOut) => shared(git_host(project), part),
            (Scope::Host, _) => shared(git_host(project), part).or_else(own),
            (Scope::Account | Scope::Project, _) => own(),
        }
    })
}

/// What a person can do about a failed call of forge or remote, by its class and with the same words everywhere.
/// `None`: only waiting helps, or the error is not from either.
pub fn advice(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|e| match e.downcast_ref::<ForgeError>() {
        Some(e) => e.refusal().map(|r| r.advice(Side::Forge)),
        None => match e.downcast_ref::<GitError>()? {
            GitError::Refused { refusal, .. } => Some(refusal.advice(Side::Git)),
            GitError::Unreachable { how, .. } => how.advice().map(str::to_owned),
            GitError::Missing { .. }
            | GitError::Timeout { .. }
            | GitError::Conflict { .. }
            | GitError::Rejected { .. }
            | GitError::Incompatible { .. }
            | GitError::NotFound { .. }
            | GitError::Busy { .. }
            | GitError::Killed { .. }
            | GitError::Io { .. }
            | GitError::Broken { .. } => None,
        },
    })
}

/// Records a failed call of forge or remote if it shows that one of them is unavailable.
pub fn noted(ctx: &mut Ctx, project: &Project, error: &anyhow::Error) -> Result<()> {
    match failed(project, error) {
        Some(of) => down(ctx, of, error),
        None => Ok(()),
    }
}

/// Records that no branch can be created, whatever the remote's reason: the project does not move until a person has
/// checked. A fault of this machine alone (a lock, the disk, the database) is not an outage of the remote.
pub fn no_start(ctx: &mut Ctx, project: &Project, error: &anyhow::Error) -> Result<()> {
    let ours = error.chain().any(|e| {
        let git = matches!(e.downcast_ref::<GitError>(), Some(GitError::Busy { .. } | GitError::Io { .. }));
        git || e.downcast_ref::<StoreError>().is_some()
    });
    // A right that the token lacks stays recorded until a branch is created: the forge answers everything else
    // (RULE-44).
    let rights = error.chain().any(|e| e.downcast_ref::<ForgeError>().is_some());
    let other = || if rights { own("forge", project, RIGHTS) } else { own("git remote", project, Access::Push.part()) };
    let of = failed(project, error).or_else(|| (!ours).then(other));
    of.map_or(Ok(()), |of| down(ctx, of, error))
}

/// Records that the forge answered.
pub fn forge_answered(ctx: &mut Ctx, project: &Project) {
    let Some(host) = forge_host(project) else { return };
    let of = [Some((host.to_owned(), "forge")), forge_account(project), Some(own("forge", project, "forge"))];
    over(ctx, of.into_iter().flatten().collect());
}

/// Records that the remote was read and, with `pushed`, written, which happens only after the check of rights.
pub fn git_answered(ctx: &mut Ctx, project: &Project, pushed: bool) {
    let places = git_host(project).map(str::to_owned).into_iter().chain([format!("git remote of {}", project.key)]);
    let parts = if pushed { &[Access::Read, Access::Push][..] } else { &[Access::Read][..] };
    let mut all: Vec<Of> = places.flat_map(|place| parts.iter().map(move |a| (place.clone(), a.part()))).collect();
    all.extend(pushed.then(|| own("forge", project, RIGHTS)));
    over(ctx, all);
}

/// Records how a scan of the board ended.
pub fn board(ctx: &mut Ctx, project: &Project, error: Option<&anyhow::Error>) -> Result<()> {
    let shared = board_host(project).map(|h| (h.to_owned(), "board"));
    let own = own("board", project, "board");
    let Some(error) = error else {
        over(ctx, shared.into_iter().chain([own]).collect());
        return Ok(());
    };
    let away = error.chain().filter_map(|e| e.downcast_ref::<BoardError>());
    let away = away
        .into_iter()
        .any(|e| matches!(e, BoardError::Transient(_) | BoardError::Silent(_) | BoardError::UnknownOutcome(_)));
    down(ctx, shared.filter(|_| away).unwrap_or(own), error)
}

fn read(tx: &Tx<'_>, place: &str) -> StoreResult<Option<Outage>> {
    Ok(tx.meta(&format!("{PREFIX}{place}"))?.and_then(|t| serde_json::from_str(&t).ok()))
}

fn down(ctx: &mut Ctx, (place, part): Of, error: &anyhow::Error) -> Result<()> {
    if ctx.dry {
        return Ok(());
    }
    let at = ctx.now().stamp.wall_ms;
    Ok(ctx.store.write(|tx| {
        let cause = crate::model::text::clip(&format!("{error:#}"), 400);
        let (outage, report) = outages::failed(read(tx, &place)?, part, cause, at);
        if let Some(minutes) = report {
            let parts: Vec<&str> = outage.parts.keys().map(String::as_str).collect();
            let why = format!("unavailable ({}) for {minutes} minutes: {error:#}", parts.join(", "));
            messages::alert_named(tx, AlertKind::ServiceDown, &place, outage.number(), &why, at)?;
        }
        tx.set_meta(&format!("{PREFIX}{place}"), &serde_json::json!(outage).to_string())
    })?)
}

/// Ends the outages of these parts. The call itself succeeded, even if this record fails.
fn over(ctx: &mut Ctx, of: Vec<Of>) {
    if ctx.dry {
        return;
    }
    let done = (|| {
        let noted = ctx.store.read(|tx| {
            let mut noted = false;
            for (place, part) in &of {
                noted |= read(tx, place)?.is_some_and(|o| o.parts.contains_key(*part));
            }
            Ok::<_, StoreError>(noted)
        })?;
        if !noted {
            return Ok(());
        }
        let at = ctx.now().stamp.wall_ms;
        ctx.store.write(|tx| {
            for (place, part) in &of {
                let Some(outage) = read(tx, place)? else { continue };
                let number = outage.number();
                match outages::answered(outage, part, at) {
                    Left::Other(outage) => {
                        tx.set_meta(&format!("{PREFIX}{place}"), &serde_json::json!(outage).to_string())?;
                    }
                    Left::Nothing { reported } => {
                        tx.drop_meta(&format!("{PREFIX}{place}"))?;
                        if let Some(minutes) = reported {
                            let why = format!("it answers again, after {minutes} minutes");
                            messages::alert_named(tx, AlertKind::ServiceBack, place, number, &why, at)?;
                        }
                    }
                }
            }
            Ok::<_, StoreError>(())
        })
    })();
    if let Err(e) = done {
        tracing::warn!("recording that a service answered: {e}");
    }
}

/// The services that are unavailable now, for `status`, without those that have not been called for long.
pub fn rows(tx: &Tx<'_>, now_ms: i64) -> StoreResult<Vec<ServiceRow>> {
    let row = |(key, text): (String, String)| {
        let outage: Outage = serde_json::from_str(&text).ok().filter(|o: &Outage| o.is_current(now_ms))?;
        let why: Vec<String> = outage.parts.iter().map(|(part, why)| format!("{part}: {why}")).collect();
        let name = key.strip_prefix(PREFIX).unwrap_or(&key).to_owned();
        Some(ServiceRow { name, since: rfc3339(outage.since), why: why.join("; "), alerted: outage.alerted })
    };
    Ok(tx.metas(PREFIX)?.into_iter().filter_map(row).collect())
}

/// Those of them that a project uses, for `explain`.
pub fn of_project(tx: &Tx<'_>, project: &Project, now_ms: i64) -> StoreResult<Vec<ServiceRow>> {
    let mine = |name: &str| {
        [forge_host(project), git_host(project), board_host(project)].into_iter().flatten().any(|h| h == name)
            || forge_account(project).is_some_and(|(place, _)| place == name)
            || ["forge", "git remote", "board"].iter().any(|what| own(what, project, "").0 == name)
    };
    Ok(rows(tx, now_ms)?.into_iter().filter(|row| mine(&row.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_named_by_its_host() {
        for (address, want) in [
            ("https://git.example/team/shop.git", Some("git.example")),
            ("http://orch:x@127.0.0.1:3000/team/shop.git", Some("127.0.0.1:3000")),
            ("ssh://git@git.example:2222/team/shop.git", Some("git.example:2222")),
            ("git@git.example:team/shop.git", Some("git.example")),
            ("/srv/shop.git", None),
            ("./remote.git", None),
            ("file:///srv/shop.git", None),
            ("dir/a:b.git", None),
        ] {
            assert_eq!(host(address), want, "{address}");
        }
    }
}
