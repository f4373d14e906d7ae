//! The one HTTP client: Plane, Gitea, Telegram and probes use it, and every failure is classified here, once.
//!
//! Redirects are never followed (a followed 301 turns a PATCH into a GET that "succeeds"), every wait and every body is
//! bounded, and no error text contains a token or a full URL.

use super::net::{self, Route};
use crate::model::redact;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A secret as a request sends it. Never printed, wiped when dropped.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// The secret itself; only for building a request.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a request authenticates.
#[derive(Debug, Clone)]
pub enum Auth {
    None,
    /// `value` is the whole header value after `scheme` (`X-API-Key` has scheme `""`, Gitea's `Authorization` has `"token "`).
    Header {
        name: &'static str,
        scheme: &'static str,
        value: Token,
    },
    /// The token is part of the path: `prefix` + token, then the request's path (Telegram: prefix `/bot`).
    TokenInPath {
        prefix: &'static str,
        token: Token,
    },
}

/// Limits of every exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub connect: Duration,
    /// Total time for a GET, from connecting to the last byte.
    pub read: Duration,
    /// Total time for everything else.
    pub write: Duration,
    /// Largest reply in bytes.
    pub max_body: usize,
}

impl Limits {
    /// The usual ones, with another bound for connecting and reading where one is given.
    pub fn within(patience: Option<Duration>) -> Self {
        let usual = Self::default();
        Self { connect: patience.unwrap_or(usual.connect), read: patience.unwrap_or(usual.read), ..usual }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
            write: Duration::from_secs(60),
            max_body: 16 << 20,
        }
    }
}

/// The method. Everything but `Get` is a write, whose outcome is unknown if the reply is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether the server may have changed something.
    pub fn is_write(self) -> bool {
        match self {
            Self::Get => false,
            Self::Post | Self::Put | Self::Patch | Self::Delete => true,
        }
    }
}

/// One request; `path` starts with `/` and is already percent-encoded (see [`segment`]), `query` is encoded here.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub method: Method,
    pub path: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    pub body: Option<&'a Value>,
    /// Further headers, names in lower case. An `accept` among them replaces the usual one.
    pub headers: &'a [(&'a str, &'a str)],
    /// In place of the total in the limits.
    pub timeout: Option<Duration>,
}

impl<'a> Request<'a> {
    pub fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, query: &[], body: None, headers: &[], timeout: None }
    }

    pub fn query(mut self, query: &'a [(&'a str, &'a str)]) -> Self {
        self.query = query;
        self
    }

    pub fn json(mut self, body: &'a Value) -> Self {
        self.body = Some(body);
        self
    }

    pub fn headers(mut self, headers: &'a [(&'a str, &'a str)]) -> Self {
        self.headers = headers;
        self
    }

    pub fn timeout(mut self, total: Duration) -> Self {
        self.timeout = Some(total);
        self
    }
}

/// A complete reply with any status.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, without cookies.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// From the start of the exchange to its last byte, in milliseconds.
    pub elapsed_ms: u64,
    what: String,
    write: bool,
}

impl Response {
    /// A header's first value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A header whose value is a whole number.
    pub fn header_u64(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// The body as JSON. An empty body is `null`. Fails with `BadBody`, or `UnknownOutcome` after a write.
    pub fn json(&self) -> Result<Value, HttpError> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|e| self.bad_body(&format!("the reply is not JSON ({e})")))
    }

    /// The body decoded into a type. Fails as [`Response::json`] does.
    pub fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body)
            .map_err(|e| self.bad_body(&format!("the reply has an unexpected form ({e})")))
    }

    /// The body as text, undecodable bytes replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Seconds that the server asks to wait: `Retry-After` as a number, or as a date minus the server's own `Date`.
    pub fn retry_after_s(&self) -> Option<u64> {
        let text = self.header("retry-after")?.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(seconds);
        }
        let parse = |t: &str| jiff::fmt::rfc2822::parse(t).ok().map(|z| z.timestamp().as_second());
        let (until, now) = (parse(text)?, parse(self.header("date")?)?);
        u64::try_from(until.saturating_sub(now)).ok()
    }

    fn bad_body(&self, detail: &str) -> HttpError {
        HttpError {
            class: if self.write { Class::UnknownOutcome } else { Class::BadBody },
            fault: Fault::Body,
            status: Some(self.status),
            retry_after_s: None,
            what: self.what.clone(),
            detail: detail.to_owned(),
            body: Vec::new(),
            html: self.is_html(),
        }
    }

    fn is_html(&self) -> bool {
        self.header("content-type").is_some_and(|t| t.contains("html"))
    }
}

/// What a caller may do about a failure (services.md §0.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// The credential is missing, wrong or lacks the right: stop and alert a person.
    Auth,
    NotFound,
    /// Somebody else changed it first: read it again.
    Conflict,
    /// A bug or a wrong configuration: a retry changes nothing.
    Invalid,
    /// The server asks to wait; `None` when it does not say how long.
    Throttled {
        retry_after_s: Option<u64>,
    },
    /// Nothing changed; a later step may retry.
    Transient,
    /// A write that may or may not have happened: check before repeating it.
    UnknownOutcome,
    /// A 3xx: the address in the configuration is wrong.
    Redirect {
        to: String,
    },
    /// The reply is over the size limit.
    TooLarge,
    /// A 2xx whose body can't be read.
    BadBody,
}

/// Where an exchange failed; for probes and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A complete reply with a failing status.
    Status,
    /// No connection: refused, unknown host, TLS.
    Connect,
    Timeout,
    /// The connection broke after it was established.
    Lost,
    Body,
    /// The request could not be built.
    Request,
}

/// A failed exchange. Shows method and path, never host, query or token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {detail}")]
pub struct HttpError {
    pub class: Class,
    pub fault: Fault,
    /// The status, where a reply arrived.
    pub status: Option<u16>,
    /// `Retry-After`, also where the class is not `Throttled` (a write answered with 503).
    pub retry_after_s: Option<u64>,
    /// `GET /api/v1/users/me/`.
    pub what: String,
    pub detail: String,
    /// The reply's body, for an adapter that has to distinguish cases.
    pub body: Vec<u8>,
    /// The reply was an HTML page: something in between answered.
    pub html: bool,
}

impl HttpError {
    /// The body as JSON, `null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// The class of a status; `None` for 2xx. 5xx and 408 after a write leave its outcome unknown.
pub fn class_of(status: u16, write: bool, retry_after_s: Option<u64>, location: Option<&str>) -> Option<Class> {
    Some(match status {
        200..=299 => return None,
        300..=399 => Class::Redirect { to: location.unwrap_or("").to_owned() },
        401 | 403 => Class::Auth,
        404 | 410 => Class::NotFound,
        409 | 412 => Class::Conflict,
        429 => Class::Throttled { retry_after_s },
        408 | 425 | 500..=599 if write => Class::UnknownOutcome,
        503 if retry_after_s.is_some() => Class::Throttled { retry_after_s },
        408 | 425 | 500..=599 => Class::Transient,
        _ => Class::Invalid,
    })
}

/// One path segment, percent-encoded except for `A-Za-z0-9-._~`.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    // URL parsers would resolve a lone `.` or `..`.
    if out == "." || out == ".." { out.replace('.', "%2E") } else { out }
}

/// A client for one service.
#[derive(Debug, Clone)]
pub struct Client {
    /// Keeps connections open for further reads.
    reading: reqwest::blocking::Client,
    /// Uses a new connection for each request: a write must not go out on one that the server is closing, since nobody
    /// could know then whether it arrived. Built for the first write.
    writing: OnceLock<reqwest::blocking::Client>,
    route: Box<Route>,
    tls: bool,
    base: String,
    auth: Auth,
    limits: Limits,
}

static PROVIDER: Once = Once::new();

impl Client {
    /// `base_url` is `http(s)://host[:port][/prefix]`; a trailing slash is ignored. Fails with `Invalid`. Authorities
    /// and proxies come from [`net::Net::route`]: loopback addresses never go through a proxy.
    pub fn new(base_url: &str, auth: Auth, limits: Limits) -> Result<Self, HttpError> {
        PROVIDER.call_once(|| {
            // An error means that a provider is already installed, which is just as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        });
        let bad = |detail: String| HttpError {
            class: Class::Invalid,
            fault: Fault::Request,
            status: None,
            retry_after_s: None,
            what: "service address".to_owned(),
            detail,
            body: Vec::new(),
            html: false,
        };
        let base = base_url.trim_end_matches('/').to_owned();
        let url = reqwest::Url::parse(&base)
            .map_err(|e| bad(format!("expected http(s)://host, but this is not a URL ({e})")))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(bad(format!("expected http or https, got the scheme {other:?}"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("credentials in a URL are refused; configure the token as a reference".to_owned()));
        }
        let route = net::current().route(&base).map_err(&bad)?;
        let reading = built(&route, tls, &limits, false).map_err(bad)?;
        match &auth {
            Auth::None => {}
            Auth::Header { value: token, .. } | Auth::TokenInPath { token, .. } => {
                redact::learn("token", token.expose())
            }
        }
        Ok(Self { reading, writing: OnceLock::new(), route: Box::new(route), tls, base, auth, limits })
    }

    /// The client for reads or for writes.
    fn inner(&self, write: bool) -> Result<&reqwest::blocking::Client, String> {
        if !write {
            return Ok(&self.reading);
        }
        if let Some(made) = self.writing.get() {
            return Ok(made);
        }
        let made = built(&self.route, self.tls, &self.limits, true)?;
        Ok(self.writing.get_or_init(|| made))
    }

    /// The base address for messages to people; it never contains a token.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends and classifies: `Ok` is a 2xx with its whole body.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, HttpError> {
        let response = self.exchange(request)?;
        self.check(response)
    }

    /// Turns a reply that is not 2xx into its class.
    pub fn check(&self, r: Response) -> Result<Response, HttpError> {
        let retry_after_s = r.retry_after_s();
        let Some(class) = class_of(r.status, r.write, retry_after_s, r.header("location")) else { return Ok(r) };
        let mut detail = format!("HTTP {}", r.status);
        if let Class::Redirect { to } = &class {
            let to: String = to.split('?').next().unwrap_or("").chars().take(200).collect();
            detail.push_str(&format!(
                ", moved to {:?}; redirects are not followed, correct the address",
                self.redact(&to)
            ));
        } else {
            let text = self.excerpt(&r);
            if !text.is_empty() {
                detail.push_str(&format!(": {text}"));
            }
        }
        Err(HttpError {
            class,
            fault: Fault::Status,
            status: Some(r.status),
            retry_after_s,
            html: r.is_html(),
            what: r.what,
            detail,
            body: r.body,
        })
    }

    /// Sends, and returns any complete reply, whatever its status. Fails only if no complete reply arrived.
    pub fn exchange(&self, request: &Request<'_>) -> Result<Response, HttpError> {
        let write = request.method.is_write();
        let what = format!("{} {}", request.method.as_str(), request.path);
        let total = request.timeout.unwrap_or(if write { self.limits.write } else { self.limits.read });
        let fail = |class: Class, fault: Fault, status: Option<u16>, detail: String| HttpError {
            class,
            fault,
            status,
            retry_after_s: None,
            what: what.clone(),
            detail: self.redact(&detail),
            body: Vec::new(),
            html: false,
        };
        let lost = if write { Class::UnknownOutcome } else { Class::Transient };
        let url = self.url(request).map_err(|e| fail(Class::Invalid, Fault::Request, None, e))?;
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        };
        let inner = self.inner(write).map_err(|e| fail(Class::Invalid, Fault::Request, None, e))?;
        let mut builder = inner.request(method, url).timeout(total);
        if !request.headers.iter().any(|(name, _)| *name == "accept") {
            builder = builder.header("accept", "application/json, */*;q=0.5");
        }
        for (name, value) in request.headers {
            builder = builder.header(*name, *value);
        }
        if let Auth::Header { name, scheme, value } = &self.auth {
            let text = Zeroizing::new(format!("{scheme}{}", value.expose()));
            let mut header = reqwest::header::HeaderValue::from_str(&text).map_err(|_| {
                fail(
                    Class::Auth,
                    Fault::Request,
                    None,
                    "the token contains characters that are not allowed in a header".to_owned(),
                )
            })?;
            header.set_sensitive(true);
            builder = builder.header(*name, header);
        }
        if let Some(body) = request.body {
            builder = builder.header("content-type", "application/json").body(body.to_string());
        }
        let start = Instant::now();
        crate::failpoint::point("request");
        let mut reply = builder.send().map_err(|e| {
            let e = e.without_url();
            let detail = chain(&e);
            if e.is_connect() {
                let fault = if e.is_timeout() { Fault::Timeout } else { Fault::Connect };
                fail(Class::Transient, fault, None, format!("no connection ({detail})"))
            } else if e.is_builder() {
                fail(Class::Invalid, Fault::Request, None, format!("no request could be built ({detail})"))
            } else if e.is_timeout() {
                fail(lost.clone(), Fault::Timeout, None, format!("no reply within {} s", total.as_secs_f32()))
            } else {
                fail(lost.clone(), Fault::Lost, None, format!("the connection broke ({detail})"))
            }
        })?;
        crate::failpoint::point("answer");
        let status = reply.status().as_u16();
        let headers = reply
            .headers()
            .iter()
            .filter(|(n, _)| *n != "set-cookie")
            .map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect();
        let mut body = Vec::new();
        let mut chunk = vec![0_u8; 64 << 10];
        loop {
            match reply.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => body.extend_from_slice(chunk.get(..n).unwrap_or(&[])),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if start.elapsed() >= total || e.kind() == std::io::ErrorKind::TimedOut => {
                    let detail = format!("the reply did not end within {} s ({})", total.as_secs_f32(), e.kind());
                    return Err(fail(lost, Fault::Timeout, Some(status), detail));
                }
                Err(_) => {
                    return Err(fail(
                        lost,
                        Fault::Lost,
                        Some(status),
                        "the connection broke during the reply".to_owned(),
                    ));
                }
            }
            if body.len() > self.limits.max_body {
                let class = if write { Class::UnknownOutcome } else { Class::TooLarge };
                let detail = format!("the reply is larger than {} bytes", self.limits.max_body);
                return Err(fail(class, Fault::Body, Some(status), detail));
            }
            if start.elapsed() >= total {
                let detail = format!("the reply did not end within {} s", total.as_secs_f32());
                return Err(fail(lost, Fault::Timeout, Some(status), detail));
            }
        }
        let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Secrets are removed from whatever a service says (BND-4).
        let body = match redact::current().bytes(&body) {
            Cow::Borrowed(_) => body,
            Cow::Owned(clean) => clean,
        };
        Ok(Response { status, headers, body, elapsed_ms, what, write })
    }

    /// The text without the token or any other secret.
    pub fn redact(&self, text: &str) -> String {
        redact::current().text(text).into_owned()
    }

    /// The start of a reply's body on one line, without the token.
    fn excerpt(&self, r: &Response) -> String {
        if r.is_html() {
            return "an HTML page (a proxy in between?)".to_owned();
        }
        let text = String::from_utf8_lossy(&r.body);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.redact(&line).chars().filter(|c| !c.is_control()).take(300).collect()
    }

    fn url(&self, request: &Request<'_>) -> Result<reqwest::Url, String> {
        let text = match &self.auth {
            Auth::TokenInPath { prefix, token } => {
                Zeroizing::new(format!("{}{prefix}{}{}", self.base, token.expose(), request.path))
            }
            Auth::None | Auth::Header { .. } => Zeroizing::new(format!("{}{}", self.base, request.path)),
        };
        let mut url = reqwest::Url::parse(&text).map_err(|e| format!("no URL ({e})"))?;
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(request.query);
        }
        Ok(url)
    }
}

/// `fresh`: no connection is kept open for another request.
fn built(route: &Route, tls: bool, limits: &Limits, fresh: bool) -> Result<reqwest::blocking::Client, String> {
    let mut builder = reqwest::blocking::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits.connect)
        .timeout(limits.read.max(limits.write))
        .user_agent(concat!("orch/", env!("CARGO_PKG_VERSION")));
    if fresh {
        builder = builder.pool_max_idle_per_host(0);
    }
    let builder = route.client(builder, tls)?;
    builder.build().map_err(|e| format!("no HTTP client ({})", chain(&e.without_url())))
}

/// An error with its causes on one line.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(c) = cause {
        text.push_str(&format!(": {c}"));
        cause = c.source();
    }
    // A proxy's address may contain a password.
    super::git::scrub(&text)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
