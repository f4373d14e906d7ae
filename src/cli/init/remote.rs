//! Where a repository is, by its address alone: nobody is asked (ORD-2).

/// A remote on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// In lower case, without user and port.
    pub host: String,
    /// `http(s)://host[:port]` where its pages and its API probably are.
    pub web: String,
    /// May hold slashes (a GitLab group).
    pub owner: String,
    pub name: String,
}

/// What a host is known to be by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Gitea and its kin, which `orch` opens pull requests on.
    Gitea,
    GitHub,
    GitLab,
    Bitbucket,
    Azure,
    SourceHut,
    Unknown,
}

/// Takes `git@HOST:owner/name(.git)`, `ssh://`, `git://`, `http(s)://`, with user and port; `None`: a path on this machine.
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

/// Whether it is the address of a repository on another machine, whatever its path is like: `at` takes the usual ones apart.
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

/// By the parts of the host's name: `gitlab.example`, `git.gitea.io`.
pub fn service(host: &str) -> Service {
    let named = |word: &str| host.split(['.', '-']).any(|part| part == word);
    let of = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    if of("github.com") || of("ghe.com") || named("github") {
        Service::GitHub
    } else if of("gitlab.com") || named("gitlab") {
        Service::GitLab
    } else if of("bitbucket.org") || named("bitbucket") {
        Service::Bitbucket
    } else if of("dev.azure.com") || of("visualstudio.com") {
        Service::Azure
    } else if of("sr.ht") {
        Service::SourceHut
    } else if of("codeberg.org") || ["gitea", "forgejo", "codeberg"].iter().any(|w| named(w)) {
        Service::Gitea
    } else {
        Service::Unknown
    }
}

/// What it means that `orch` does not know such a forge, as one sentence; `None`: it does.
pub fn sentence(at: &At) -> Option<String> {
    let without = "orch pushes to main itself, opens no";
    Some(match service(&at.host) {
        Service::Gitea | Service::GitHub => return None,
        Service::GitLab => format!("GitLab: {without} merge request and reads no pipeline"),
        Service::Bitbucket => format!("Bitbucket: {without} pull request and reads no pipeline"),
        Service::Azure => format!("Azure DevOps: {without} pull request and reads no pipeline"),
        Service::SourceHut => format!("SourceHut: {without} patch and reads no build"),
        Service::Unknown => format!(
            "{}: not known as a forge by its name: {without} pull request and reads no CI; is it a Gitea or Forgejo, name it under forge (docs/connecting-gitea.md), or set GITEA_TOKEN before `orch init`",
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
        for (host, service_) in [
            ("github.com", Service::GitHub),
            ("notgithub.com", Service::Unknown),
            ("team.ghe.com", Service::GitHub),
            ("gitlab.company.example", Service::GitLab),
            ("gitea.company.example", Service::Gitea),
            ("codeberg.org", Service::Gitea),
            ("git.example", Service::Unknown),
            ("ssh.dev.azure.com", Service::Azure),
        ] {
            assert_eq!(service(host), service_, "{host}");
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
