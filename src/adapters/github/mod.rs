//! What GitHub's board and forge share: one client per credential, with GitHub's headers, limits and errors
//! (services-github §1 to §3). `app` logs in as a GitHub App; `pace` spreads the writes of one credential.

pub mod app;
mod failure;
mod pace;

pub use app::App;
pub use failure::{Failure, said};
pub use pace::Pace;

use crate::adapters::git::Credential;
use crate::adapters::http::{Auth, Class, Client, Fault, HttpError, Limits, Method, Request, Response, Token};
use crate::model::board::fold;
use crate::model::sides::{GithubLogin, GithubRepo, Opening};
use crate::model::text::digest;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use zeroize::Zeroizing;

/// The API version that every call is written for.
const VERSION: &str = "2022-11-28";
const ACCEPT: (&str, &str) = ("accept", "application/vnd.github+json");
const PER_PAGE: usize = 100;
/// More pages than this mean a server that pages in circles.
const MAX_PAGES: usize = 1_000;
/// How long calls that are not urgent wait when only the reserve is left.
const RESERVED_S: u64 = 60;

/// The page that says how it is connected.
pub const PAGE: &str = "docs/connecting-github.md";

type Result<T> = std::result::Result<T, Failure>;

/// How a request authenticates.
#[derive(Debug, Clone)]
pub enum Login {
    /// The token of a person or a machine account.
    Token(Token),
    /// A GitHub App, with an installation token that is renewed.
    App(App),
}

/// One credential on one server.
#[derive(Debug, Clone)]
pub struct Account<'a> {
    /// `https://api.github.com`, or `https://HOST/api/v3`.
    pub api_base: &'a str,
    pub login: Login,
    /// Spreads the writes of this credential over time.
    pub pace: Pace,
    /// Requests per hour reserved for intents and stops.
    pub reserve: u64,
    pub limits: Limits,
}

/// A client for one credential. Clones share what is known of the limits.
#[derive(Debug, Clone)]
pub struct Api {
    /// The API's address; part of the name of stored tokens.
    base: String,
    /// Prefix of requests: `base`, except for GraphQL on Enterprise Server.
    at: String,
    login: Login,
    limits: Limits,
    pace: Pace,
    reserve: u64,
    /// Built with the token that is currently valid.
    client: Arc<Mutex<Option<Client>>>,
    /// Requests left this hour, as last reported.
    left: Arc<Mutex<Option<u64>>>,
    /// Own login, once known.
    me: Arc<OnceLock<String>>,
}

/// Where the repository's id of the first contact is kept, for board and forge: another one under the same name is another
/// repository (GH-1).
pub fn id_key(key: &str) -> String {
    format!("github/id/{key}")
}

/// The repository's id at first contact; `None`: there was none yet.
pub fn first_id(with: &Opening<'_>) -> Option<u64> {
    with.known.get(&id_key(with.key))?.parse().ok()
}

impl Api {
    /// A client for a repository's credential, as configured. Nothing is asked yet.
    pub fn open(repo: &GithubRepo, with: &Opening<'_>) -> Result<Self> {
        let secret = with.secret.unwrap_or_default();
        let login = match &repo.login {
            GithubLogin::Token(_) => Login::Token(Token::new(secret.trim())),
            GithubLogin::App { id, installation, .. } => Login::App(App {
                id: id.clone(),
                installation: *installation,
                key: Arc::new(Zeroizing::new(secret.to_owned())),
                tokens: with.shared.to_owned(),
            }),
        };
        let from = serde_json::to_string(&repo.login).unwrap_or_default();
        let name = digest(&[&repo.api_base, &from]);
        Self::new(Account {
            api_base: &repo.api_base,
            login,
            pace: Pace::new(&with.shared.join(format!("{name}.writes")), with.write_gap),
            reserve: with.reserve,
            limits: Limits::within(with.patience),
        })
    }

    /// Sends nothing yet. Fails with `Invalid` if an address is malformed.
    pub fn new(account: Account<'_>) -> Result<Self> {
        let base = account.api_base.trim_end_matches('/').to_owned();
        let client = match &account.login {
            Login::Token(token) => Some(client(&base, token.clone(), &account.limits)?),
            // Its token is requested with the first call.
            Login::App(_) => {
                Client::new(&base, Auth::None, account.limits.clone())?;
                None
            }
        };
        Ok(Self {
            at: base.clone(),
            base,
            login: account.login,
            limits: account.limits,
            pace: account.pace,
            reserve: account.reserve,
            client: Arc::new(Mutex::new(client)),
            left: Arc::default(),
            me: Arc::default(),
        })
    }

    /// The client with a valid token. `renew`: the current one was refused.
    fn client(&self, renew: bool) -> Result<Client> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(client), false) = (held.as_ref(), renew) {
            return Ok(client.clone());
        }
        let token = match &self.login {
            Login::Token(token) => token.clone(),
            Login::App(app) => app.token(&self.base, &self.limits, renew)?,
        };
        Ok(held.insert(client(&self.at, token, &self.limits)?).clone())
    }

    /// Sends and returns a 2xx or 304. A write waits for its turn. An App's token that is refused is renewed once.
    pub fn send(&self, request: &Request<'_>) -> Result<Response> {
        let client = self.client(false)?;
        match self.once(&client, request) {
            Err(e) if e.http.status == Some(401) && matches!(self.login, Login::App(_)) => {
                self.once(&self.client(true)?, request)
            }
            done => done,
        }
    }

    fn once(&self, client: &Client, request: &Request<'_>) -> Result<Response> {
        let turn = if request.method.is_write() { Some(self.pace.turn().map_err(own)?) } else { None };
        let mut headers = vec![ACCEPT, ("x-github-api-version", VERSION)];
        headers.extend_from_slice(request.headers);
        let reply = client.exchange(&request.clone().headers(&headers));
        drop(turn);
        let reply = reply?;
        if let Some(left) = reply.header_u64("x-ratelimit-remaining") {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        }
        if reply.status == 304 {
            return Ok(reply);
        }
        let wait = failure::asks_to_wait(&reply);
        let lacks = reply.header("x-accepted-github-permissions").map(|t| t.chars().take(100).collect::<String>());
        client.check(reply).map_err(|mut http| {
            if let Some(retry_after_s) = wait {
                http.class = Class::Throttled { retry_after_s };
                http.retry_after_s = retry_after_s;
            }
            Failure { lacks: lacks.filter(|_| http.status == Some(403)), http: Box::new(http), reserved: false }
        })
    }

    /// Fails like a limit if only the reserve is left; for calls that are less urgent than intents and stops.
    pub fn spare(&self) -> Result<()> {
        let left = *self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.filter(|left| *left < self.reserve) {
            None => Ok(()),
            Some(left) => {
                let why =
                    format!("{left} requests are left in this hour, of which github.reserve keeps {}", self.reserve);
                let class = Class::Throttled { retry_after_s: Some(RESERVED_S) };
                Err(Failure { reserved: true, ..refused(class, &why) })
            }
        }
    }

    /// The credential for git over HTTPS, with the currently valid token.
    pub fn git_credential(&self) -> Result<Credential> {
        let token = match &self.login {
            Login::Token(token) => token.clone(),
            Login::App(app) => app.token(&self.base, &self.limits, false)?,
        };
        Ok(Credential::new("x-access-token", token.expose()))
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        Ok(self.send(&Request::new(Method::Get, path))?.json()?)
    }

    pub fn write(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        Ok(self.send(&Request::new(method, path).json(body))?.json()?)
    }

    /// Every item of a list, page by page up to a short one. `within`: the list's key if the answer is an object; empty
    /// if the answer is the list itself.
    pub fn all(&self, path: &str, query: &[(&str, &str)], within: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        for page in 1..=MAX_PAGES {
            let rows = self.page(path, query, page, &[])?.json()?;
            let rows = if within.is_empty() { rows } else { rows.get(within).cloned().unwrap_or(Value::Null) };
            let Value::Array(rows) = rows else {
                return Err(refused(Class::Invalid, &format!("GET {path}: expected a list, got something else")));
            };
            let short = rows.len() < PER_PAGE;
            items.extend(rows);
            if short {
                return Ok(items);
            }
        }
        Err(refused(Class::Invalid, &format!("the pages of GET {path} form a cycle")))
    }

    /// One page of a list, as received.
    pub fn page(&self, path: &str, query: &[(&str, &str)], page: usize, headers: &[(&str, &str)]) -> Result<Response> {
        let (size, page) = (PER_PAGE.to_string(), page.to_string());
        let mut query = query.to_vec();
        query.extend([("per_page", size.as_str()), ("page", page.as_str())]);
        self.send(&Request::new(Method::Get, path).query(&query).headers(headers))
    }

    /// Whether a page with this many items is the last.
    pub fn is_last(rows: usize) -> bool {
        rows < PER_PAGE
    }

    /// A GraphQL call. Errors arrive with status 200; the first one's message becomes the failure's.
    pub fn graphql(&self, query: &str, variables: &Value) -> Result<Value> {
        let body = json!({"query": query, "variables": variables});
        let request = Request::new(Method::Post, "/graphql").json(&body);
        let reply = match self.base.strip_suffix("/v3").filter(|base| base.ends_with("/api")) {
            // Enterprise Server has GraphQL next to `v3`, not below it.
            Some(base) => {
                let api = Self { at: base.to_owned(), client: Arc::default(), ..self.clone() };
                api.send(&request)?
            }
            None => self.send(&request)?,
        };
        let answer = reply.json()?;
        let Some(error) = answer.get("errors").and_then(Value::as_array).and_then(|list| list.first()) else {
            return Ok(answer.get("data").cloned().unwrap_or(Value::Null));
        };
        let word = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or("");
        let (class, status) = match word("type") {
            "RATE_LIMITED" => (Class::Throttled { retry_after_s: None }, None),
            "NOT_FOUND" => (Class::NotFound, None),
            // As REST answers it: the credential is good, and lacks a right.
            "FORBIDDEN" | "INSUFFICIENT_SCOPES" => (Class::Auth, Some(403)),
            _ => (Class::Invalid, None),
        };
        let said: String = word("message").chars().filter(|c| !c.is_control()).take(300).collect();
        let mut failure = refused(class, &format!("POST /graphql: {said}"));
        failure.http.status = status;
        Err(failure)
    }

    /// The login that others see for this credential. Requested once.
    pub fn me(&self) -> Result<String> {
        if let Some(me) = self.me.get() {
            return Ok(me.clone());
        }
        let login = match &self.login {
            Login::Token(_) => text(&self.get("/user")?, "login"),
            Login::App(app) => format!("{}[bot]", app.slug(&self.base, &self.limits)?),
        };
        if login.is_empty() || login == "[bot]" {
            return Err(refused(Class::Invalid, "GET /user: an answer without a login; is this GitHub's address?"));
        }
        Ok(self.me.get_or_init(|| login).clone())
    }

    /// Whether this login is this credential itself.
    pub fn is_me(&self, login: &str) -> Result<bool> {
        Ok(fold(&self.me()?) == fold(login))
    }

    /// The text without any secret.
    pub fn redact(&self, text: &str) -> String {
        crate::model::redact::current().text(text).into_owned()
    }

    /// Whether the credential is an App.
    pub fn is_app(&self) -> bool {
        matches!(self.login, Login::App(_))
    }
}

fn client(base: &str, token: Token, limits: &Limits) -> std::result::Result<Client, HttpError> {
    Client::new(base, Auth::Header { name: "authorization", scheme: "Bearer ", value: token }, limits.clone())
}

/// A failure found here: nothing was sent, or the answer was unusable.
pub(crate) fn refused(class: Class, detail: &str) -> Failure {
    let retry_after_s = if let Class::Throttled { retry_after_s } = class { retry_after_s } else { None };
    let http = HttpError {
        class,
        fault: Fault::Body,
        status: None,
        retry_after_s,
        what: "GitHub".to_owned(),
        detail: detail.to_owned(),
        body: Vec::new(),
        html: false,
    };
    Failure { http: Box::new(http), lacks: None, reserved: false }
}

fn own(e: std::io::Error) -> Failure {
    refused(Class::Transient, &format!("waiting to write: {e}"))
}

/// A text field; empty if it is missing or not a text.
pub fn text(v: &Value, name: &str) -> String {
    v.get(name).and_then(Value::as_str).unwrap_or("").to_owned()
}

pub fn flag(v: &Value, name: &str) -> Option<bool> {
    v.get(name).and_then(Value::as_bool)
}

/// The host git connects to, for an API address: `github.com` for `api.github.com`.
pub fn git_host(api_base: &str) -> Option<String> {
    let rest = api_base.split_once("://")?.1;
    let host = rest.split('/').next().filter(|h| !h.is_empty())?;
    Some(host.strip_prefix("api.").unwrap_or(host).to_owned())
}

/// Whether a credential for this API is also what git shows this remote: over HTTP, and to its own host alone.
pub fn is_for(api_base: &str, remote: &str) -> bool {
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

    #[test]
    fn git_is_on_the_host_of_the_pages() {
        for (api, host) in [
            ("https://api.github.com", Some("github.com")),
            ("https://git.example:8443/api/v3", Some("git.example:8443")),
            ("https://api.team.ghe.com", Some("team.ghe.com")),
            ("nothing", None),
        ] {
            assert_eq!(git_host(api).as_deref(), host, "{api}");
        }
    }
}
