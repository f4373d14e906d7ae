//! Where a repository is and which forge serves it, from its address alone: no request is made (ORD-2), except by
//! [`ask`].

use super::{Forge, Manner, MergeVia, gitea, github, open};
use crate::adapters::git::{MergeMethod, Person};
use crate::model::secret::SecretRef;
use crate::model::sides::{Forge as Address, Opening};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A remote on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// In lower case, without user and port.
    pub host: String,
    /// `http(s)://host[:port]`, where its pages and its API probably are.
    pub web: String,
    /// May contain slashes (a GitLab group).
    pub owner: String,
    pub name: String,
}

/// Parses `git@HOST:owner/name(.git)`, `ssh://`, `git://`, `http(s)://`, with user and port; `None`: a path on this
/// machine.
pub fn at(remote: &str) -> Option<At> {
    let (scheme, rest) = match remote.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.split_once('/')?),
        // A colon after the first slash is part of a path.
        None => ("ssh".to_owned(), remote.split_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'))?),
    };
    let (authority, path) = rest;
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let is_port = |port: &str| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => authority,
    };
    let web = match scheme.as_str() {
        "http" | "https" => format!("{scheme}://{authority}"),
        "ssh" | "git" | "git+ssh" | "ssh+git" => format!("https://{host}"),
        _ => return None,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let (owner, name) = path.rsplit_once('/')?;
    let host = host.to_ascii_lowercase();
    (!host.is_empty() && !name.is_empty()).then(|| At { host, web, owner: owner.to_owned(), name: name.to_owned() })
}

/// Whether it is the address of a repository on another machine, whatever its path; `at` parses only the usual ones.
pub fn is_url(remote: &str) -> bool {
    let (host, path) = match remote.split_once("://") {
        Some((scheme, rest)) if ["http", "https", "ssh", "git"].contains(&scheme.to_ascii_lowercase().as_str()) => {
            rest.split_once('/').unwrap_or((rest, ""))
        }
        Some(_) => return false,
        None => remote.split_once(':').unwrap_or_default(),
    };
    !host.is_empty() && !host.contains('/') && !path.trim_matches('/').is_empty()
}

/// Whether a part of the host's name is this word: `gitlab.example`, `git.gitea.io`.
pub(super) fn named(host: &str, word: &str) -> bool {
    host.split(['.', '-']).any(|part| part == word)
}

/// Whether the host is this domain, or a subdomain.
pub(super) fn of(host: &str, domain: &str) -> bool {
    host == domain || host.ends_with(&format!(".{domain}"))
}

/// The name of a forge that `orch` does not support, with its words for a pull request and CI; `None`: the host's name
/// does not say.
fn foreign(host: &str) -> Option<(&'static str, &'static str)> {
    if of(host, "gitlab.com") || named(host, "gitlab") {
        Some(("GitLab", "merge request and reads no pipeline"))
    } else if of(host, "bitbucket.org") || named(host, "bitbucket") {
        Some(("Bitbucket", "pull request and reads no pipeline"))
    } else if of(host, "dev.azure.com") || of(host, "visualstudio.com") {
        Some(("Azure DevOps", "pull request and reads no pipeline"))
    } else if of(host, "sr.ht") {
        Some(("SourceHut", "patch and reads no build"))
    } else {
        None
    }
}

/// The forge at an address, from its host's name alone; `None`: unknown, or one that `orch` does not support.
pub fn known(at: &At) -> Option<Address> {
    github::at(at).or_else(|| gitea::at(at))
}

/// As [`known`]; a host of unknown name is asked what it is, if a token for it is at hand (`token` returns the value of
/// a variable). Waits `patience` at most.
pub fn ask(at: &At, token: &dyn Fn(&str) -> Option<String>, patience: Duration) -> Option<Address> {
    known(at).or_else(|| {
        if foreign(&at.host).is_some() {
            return None;
        }
        let guess = gitea::guess(at);
        let token = token(variable(&guess)?)?;
        let forge = at_hand(&guess, &token, patience)?;
        forge.version().is_ok().then_some(guess)
    })
}

/// The variable that is searched for the credential of an address from here.
pub fn variable(address: &Address) -> Option<&str> {
    match address.secret()? {
        (_, SecretRef::Env(name)) => Some(name),
        (_, SecretRef::File(_) | SecretRef::Command(_)) => None,
    }
}

/// The forge, for a single check with this token; nothing of it is kept. `None`: not an address of a forge.
pub fn at_hand(address: &Address, token: &str, patience: Duration) -> Option<Box<dyn Forge>> {
    let known = BTreeMap::new();
    let with = Opening {
        key: "",
        secret: Some(token),
        known: &known,
        seen: None,
        contact: false,
        shared: Path::new(""),
        write_gap: Duration::ZERO,
        reserve: 0,
        patience: Some(patience),
    };
    let identity = Person::new("orch", "orch@localhost");
    open(address, &with, Manner { base: None, method: MergeMethod::Merge, via: MergeVia::Forge, identity }).ok()
}

/// One sentence on what it means that `orch` does not support this forge; `None`: it does.
pub fn sentence(at: &At) -> Option<String> {
    if known(at).is_some() {
        return None;
    }
    let without = "orch pushes to main itself, opens no";
    Some(match foreign(&at.host) {
        Some((name, lacks)) => format!("{name}: {without} {lacks}"),
        None => format!(
            "{}: not a known forge: {without} pull request and reads no CI; if it is a Gitea or Forgejo, configure it under forge (docs/connecting-gitea.md), or set GITEA_TOKEN before `orch init`",
            at.host
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_taken_apart_in_every_spelling() {
        for (remote, web, owner, name) in [
            ("git@git.example:team/app.git", "https://git.example", "team", "app"),
            ("git.example:team/app", "https://git.example", "team", "app"),
            ("ssh://git@Git.Example:2222/team/app.git/", "https://Git.Example", "team", "app"),
            ("https://git.example/team/app", "https://git.example", "team", "app"),
            ("https://ann@git.example:8443/team/app.git", "https://git.example:8443", "team", "app"),
            ("http://127.0.0.1:3000/team/app.git", "http://127.0.0.1:3000", "team", "app"),
            ("https://gitlab.com/group/sub/app.git", "https://gitlab.com", "group/sub", "app"),
            ("git@github.com:/team/app.git", "https://github.com", "team", "app"),
        ] {
            let found = at(remote).unwrap_or_else(|| panic!("{remote}"));
            assert_eq!((found.web.as_str(), found.owner.as_str(), found.name.as_str()), (web, owner, name), "{remote}");
        }
        for path in ["/srv/app.git", "../app.git", "./a:b/c", "file:///srv/app.git", "C", "", "https://h", "h:app"] {
            assert_eq!(at(path), None, "{path}");
        }
    }

    #[test]
    fn a_url_is_one_whatever_its_path_is_like() {
        for url in ["https://h/x.git", "ssh://git@h:22/srv/x.git", "h:app", "git@h:team/app.git", "git://h/x"] {
            assert!(is_url(url), "{url}");
        }
        for other in
            ["/srv/app.git", "../app.git", "./a:b/c", "file:///srv/app.git", "C", "", "https://h", "https://h/", ":x"]
        {
            assert!(!is_url(other), "{other}");
        }
    }

    #[test]
    fn a_service_is_known_by_its_hosts_name_alone() {
        for (host, kind) in [
            ("github.com", "github"),
            ("notgithub.com", ""),
            ("team.ghe.com", "github"),
            ("gitlab.company.example", "GitLab"),
            ("gitea.company.example", "gitea"),
            ("codeberg.org", "gitea"),
            ("git.example", ""),
            ("ssh.dev.azure.com", "Azure DevOps"),
        ] {
            let at = at(&format!("https://{host}/team/app")).unwrap();
            let known = known(&at).map(|address| serde_json::to_value(address).unwrap()["kind"].clone());
            let told = known.as_ref().and_then(|k| k.as_str()).or(foreign(host).map(|(name, _)| name));
            assert_eq!(told.unwrap_or_default(), kind, "{host}");
        }
        let said = |remote: &str| at(remote).and_then(|at| sentence(&at)).unwrap_or_default();
        assert_eq!(
            said("git@gitlab.com:team/app.git"),
            "GitLab: orch pushes to main itself, opens no merge request and reads no pipeline"
        );
        assert_eq!(said("https://codeberg.org/team/app"), "");
        assert_eq!(said("git@github.com:team/app"), "");
        assert!(said("https://git.example/team/app").starts_with("git.example: "));
    }
}
