//! Logs in as a GitHub App (services-github §3): a JWT signed with its key buys an installation token for one hour. All
//! processes share the token, since a new one invalidates every ETag.

use super::{Failure, pace::private, refused, text};
use crate::adapters::http::{Auth, Class, Client, Limits, Method, Request, Token};
use crate::adapters::{files, locks};
use crate::model::redact;
use crate::model::time::parse_rfc3339;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// How long before its end a token is renewed.
const EARLY_MS: i64 = 5 * 60_000;
/// GitHub accepts ten minutes at most. Starting a minute ago allows for clocks that differ.
const JWT_FROM_S: i64 = 60;
const JWT_FOR_S: i64 = 540;
/// One process renews; the others wait this long for it.
const TURN: Duration = Duration::from_secs(60);

/// An App's installation.
#[derive(Clone)]
pub struct App {
    /// The App's id or its client id.
    pub id: String,
    pub installation: u64,
    /// The private key, PEM.
    pub key: Arc<Zeroizing<String>>,
    /// Where installation tokens are stored, 0700.
    pub tokens: PathBuf,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("id", &self.id).field("installation", &self.installation).finish_non_exhaustive()
    }
}

impl App {
    /// An installation token that is valid for at least five minutes. `renew`: the stored one was refused. Fails with
    /// `Invalid` if the key is malformed, and as the exchange does.
    pub(super) fn token(&self, base: &str, limits: &Limits, renew: bool) -> Result<Token, Failure> {
        let kept = |e: io::Error| refused(Class::Transient, &format!("{}: {e}", self.tokens.display()));
        private(&self.tokens).map_err(kept)?;
        let name = self.name(base);
        let path = self.tokens.join(format!("{name}.json"));
        let seen = std::fs::read(&path).unwrap_or_default();
        if let Some(token) = good(&seen).filter(|_| !renew) {
            return Ok(token);
        }
        let lock = self.tokens.join(format!("{name}.lock"));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock).map_err(kept)?;
        let held = locks::within(lock, TURN).map_err(kept)?;
        let _held = held.ok_or_else(|| refused(Class::Transient, "another process is renewing the App's token"))?;
        // Another process may have renewed it in the meantime.
        let now = std::fs::read(&path).unwrap_or_default();
        if let Some(token) = good(&now).filter(|_| !renew || now != seen) {
            return Ok(token);
        }
        let made = self.made(base, limits)?;
        files::replace(&path, made.to_string().as_bytes(), Some(0o600)).map_err(kept)?;
        learned(&made).ok_or_else(|| refused(Class::Invalid, "an installation token without `token`"))
    }

    /// The App's slug: it acts as `SLUG[bot]`.
    pub(super) fn slug(&self, base: &str, limits: &Limits) -> Result<String, Failure> {
        let client = self.as_app(base, limits)?;
        Ok(text(&client.send(&self.request(Method::Get, "/app"))?.json()?, "slug"))
    }

    fn made(&self, base: &str, limits: &Limits) -> Result<Value, Failure> {
        let path = format!("/app/installations/{}/access_tokens", self.installation);
        let answer = self.as_app(base, limits)?.send(&self.request(Method::Post, &path))?.json()?;
        let (token, until) = (text(&answer, "token"), text(&answer, "expires_at"));
        if token.is_empty() || parse_rfc3339(&until).is_none() {
            return Err(refused(Class::Invalid, "an installation token without `token` and `expires_at`"));
        }
        Ok(json!({"token": token, "expires_at": until}))
    }

    fn request<'a>(&self, method: Method, path: &'a str) -> Request<'a> {
        Request::new(method, path).headers(&[super::ACCEPT, ("x-github-api-version", super::VERSION)])
    }

    fn as_app(&self, base: &str, limits: &Limits) -> Result<Client, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let jwt = self.jwt(i64::try_from(now).unwrap_or(0)).map_err(|why| refused(Class::Invalid, &why))?;
        let auth = Auth::Header { name: "authorization", scheme: "Bearer ", value: Token::new(jwt) };
        Ok(Client::new(base, auth, limits.clone())?)
    }

    /// A token for the App itself, signed RS256. `now`: seconds since the epoch. Fails with the reason the key can't
    /// sign.
    pub fn jwt(&self, now: i64) -> Result<String, String> {
        let claims = json!({"iat": now - JWT_FROM_S, "exp": now + JWT_FOR_S, "iss": self.id});
        let head = json!({"alg": "RS256", "typ": "JWT"});
        let body = format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(head.to_string()),
            BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let expected = "app.key contains no RSA private key, expected the PEM file that GitHub created for the App";
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| expected.to_owned())?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| expected.to_owned())?;
        let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or_else(|| expected.to_owned())?;
        let signature = signer.sign(body.as_bytes()).map_err(|_| "app.key could not sign".to_owned())?;
        Ok(format!("{body}.{}", BASE64_URL_SAFE_NO_PAD.encode(&signature)))
    }

    /// The file name for server, App and installation.
    fn name(&self, base: &str) -> String {
        let text = format!("{base} {} {}", self.id, self.installation);
        Sha256::digest(text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
    }
}

/// The stored token, if it is valid long enough by this machine's clock.
fn good(bytes: &[u8]) -> Option<Token> {
    let kept: Value = serde_json::from_slice(bytes).ok()?;
    let until = parse_rfc3339(kept.get("expires_at")?.as_str()?)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis();
    (until - i64::try_from(now).ok()? > EARLY_MS).then(|| learned(&kept)).flatten()
}

/// The token. From here on, the redactor knows it.
fn learned(kept: &Value) -> Option<Token> {
    let token = kept.get("token")?.as_str().filter(|t| !t.is_empty())?;
    redact::learn("GitHub App token", token);
    Some(Token::new(token))
}
