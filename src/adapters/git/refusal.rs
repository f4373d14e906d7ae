//! Classifies git's messages about a remote that refused.

use crate::model::fault::Unreached;
use crate::model::refusal::Refusal;

/// The class of a refusal over HTTP, which git gives only as text. `None`: there was no answer, or another one. What a
/// server prints (`remote: …`) counts only together with git's own message of a refusal.
pub fn read(stderr: &str) -> Option<Refusal> {
    let says = |text: &str| stderr.contains(text);
    let asked =
        ["Authentication failed for", "could not read Username", "could not read Password", "Permission denied ("];
    if asked.iter().any(|words| says(words)) {
        return Some(Refusal::BadCredential);
    }
    // Over ssh there is no status: a server's message counts if git says that it got nothing.
    let served = !says("fatal: Could not read from remote repository");
    let denied = ["ERROR: Permission to ", "marked as read only", "not allowed to push", "not authorized to write"];
    if !served && denied.iter().any(|words| says(words)) {
        return Some(Refusal::Denied { scope: None });
    }
    let (_, rest) = stderr.split_once("The requested URL returned error: ").unwrap_or(("", ""));
    let status = rest.get(..3).and_then(|n| n.parse::<u16>().ok());
    if status == Some(403) && says(" archived") {
        return Some(Refusal::Archived);
    }
    match status {
        // A proxy that asks for a login, and a sign-in page: neither is the forge's answer.
        Some(302 | 303 | 407) => None,
        Some(status) => Refusal::of_status(status, ""),
        None if stderr.lines().any(|l| l.starts_with("fatal: repository '") && l.ends_with("' not found")) => {
            Some(Refusal::Gone)
        }
        None => None,
    }
}

/// Why a remote that refused nothing could not be used.
pub fn unreached(stderr: &str) -> Unreached {
    let says = |words: &[&str]| words.iter().any(|w| stderr.contains(w));
    if says(&["certificate verification failed", "SSL certificate problem", "Problem with the SSL CA cert"]) {
        return Unreached::Certificate;
    }
    let (_, rest) = stderr.split_once("The requested URL returned error: ").unwrap_or_default();
    match rest.get(..3).and_then(|n| n.parse::<u16>().ok()) {
        Some(302 | 303) => return Unreached::SignIn,
        Some(407) => return Unreached::ProxyLogin,
        Some(429) => return Unreached::Limited,
        Some(500..=599) => return Unreached::ServerError,
        Some(_) | None => {}
    }
    let cut = says(&[
        "resolve host",
        "onnection refused",
        "onnection timed out",
        "onnection reset",
        "Failed to connect",
        "Couldn't connect",
        "Empty reply",
        "unreachable",
        "No route to host",
        "RPC failed",
        "unexpected disconnect",
        "Operation too slow",
    ]);
    if cut { Unreached::NoConnection } else { Unreached::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_no_over_http_has_its_class_and_what_never_answered_has_none() {
        let at = "fatal: unable to access 'http://h/team/app.git/': The requested URL returned error:";
        for (stderr, want) in [
            ("fatal: Authentication failed for 'http://h/team/app.git/'".to_owned(), Some(Refusal::BadCredential)),
            (
                "remote: Failed to authenticate user\nfatal: Authentication failed for 'http://h/x/'".to_owned(),
                Some(Refusal::BadCredential),
            ),
            (
                "git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.".to_owned(),
                Some(Refusal::BadCredential),
            ),
            (
                "ERROR: Permission to team/app.git denied to bot.\nfatal: Could not read from remote repository."
                    .to_owned(),
                Some(Refusal::Denied { scope: None }),
            ),
            ("remote: you are not allowed to push\nfatal: the remote end hung up".to_owned(), None),
            (format!("remote: Forbidden\n{at} 403"), Some(Refusal::Denied { scope: None })),
            (
                format!("remote: This repo is archived. You can view files and clone it, but cannot push.\n{at} 403"),
                Some(Refusal::Archived),
            ),
            (
                "remote: Repository not found\nfatal: repository 'http://h/team/app.git/' not found".to_owned(),
                Some(Refusal::Gone),
            ),
            (format!("{at} 301"), Some(Refusal::MovedTo { to: String::new() })),
            (format!("{at} 423"), Some(Refusal::Archived)),
            (format!("{at} 500"), None),
            (format!("{at} 502"), None),
            (format!("{at} 429"), None),
            (format!("{at} 302"), None),
            (format!("{at} 407"), None),
            (format!("{at} 308"), Some(Refusal::MovedTo { to: String::new() })),
            ("fatal: unable to access 'http://h/x/': Could not resolve host: h".to_owned(), None),
            // What a server prints is not git's own message.
            ("remote: fatal: repository 'x' not found\nfatal: the remote end hung up".to_owned(), None),
        ] {
            assert_eq!(read(&stderr), want, "{stderr}");
        }
        for (status, want) in [
            ("302", Unreached::SignIn),
            ("407", Unreached::ProxyLogin),
            ("429", Unreached::Limited),
            ("503", Unreached::ServerError),
            ("404", Unreached::Other),
        ] {
            assert_eq!(unreached(&format!("{at} {status}")), want, "{status}");
        }
        for (stderr, want) in [
            ("fatal: server certificate verification failed. CAfile: none", Unreached::Certificate),
            ("fatal: Could not resolve host: git.example", Unreached::NoConnection),
            ("error: RPC failed; curl 56 Recv failure", Unreached::NoConnection),
            ("fatal: repository not found", Unreached::Other),
        ] {
            assert_eq!(unreached(stderr), want, "{stderr}");
        }
    }
}
