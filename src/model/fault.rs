//! What a failed call of a service means, whichever service it was.

/// The kind of access to a git remote: a readable remote may still reject a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Push,
}

impl Access {
    /// The part of a remote that it uses, as `status` names it: a fetch that works says nothing about pushes.
    pub fn part(self) -> &'static str {
        match self {
            Self::Read => "git",
            Self::Push => "git push",
        }
    }
}

/// Why a git remote could not be used although it refused nothing. The git adapter reads it from git's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreached {
    /// The connection was not established, or broke.
    NoConnection,
    /// The server's certificate is not trusted.
    Certificate,
    /// A sign-in page answered.
    SignIn,
    /// The proxy asks for a login.
    ProxyLogin,
    /// The server limits how often it is called.
    Limited,
    /// The server failed (5xx).
    ServerError,
    Other,
}

impl Unreached {
    /// What a person can do about it; `None`: only waiting helps.
    pub fn advice(self) -> Option<&'static str> {
        match self {
            Self::Certificate => {
                Some("name the authority of the remote's certificate in tls.ca_file (docs/network.md)")
            }
            Self::SignIn => {
                Some("a sign-in page answers instead of the remote: correct git.remote, or sign this machine in")
            }
            Self::ProxyLogin => Some("give the proxy's user and password in https_proxy and http_proxy"),
            Self::Limited => Some("nothing: the forge limits requests, and orch retries later"),
            Self::ServerError => Some("check whether the forge is up: it answers with a server error"),
            Self::NoConnection | Self::Other => None,
        }
    }
}

/// One class for each reaction to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceFault {
    /// It asks for a pause of this many seconds, if it says how many.
    Throttled {
        seconds: Option<u64>,
    },
    /// It does not answer, which says nothing about the work (RULE-8).
    Away,
    /// The request may or may not have been carried out.
    UnknownOutcome,
    /// It refuses this account.
    Denied,
    NotFound,
    /// What is there has changed since.
    Conflict,
    /// It will never accept this request.
    Invalid,
}
