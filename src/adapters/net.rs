//! Certificate authorities and proxies, worked out here alone: for the HTTP clients, for git and for every child
//! (docs/network.md).

use super::files;
use super::git::Git;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Network variables of the operator's environment; every child gets them unchanged.
const VARIABLES: [&str; 17] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
];
/// Of these, the ones that name the only authorities a program trusts.
const BUNDLES: [&str; 6] =
    ["SSL_CERT_FILE", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CARGO_HTTP_CAINFO"];
/// Where systems keep their authorities in a single file.
const SYSTEM: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];
const CA_FILE: &str = "ORCH_TLS_CA_FILE";
/// A file of authorities is never larger.
const MAX_PEM: u64 = 16 << 20;

/// The settings of this process: `tls.ca_file` takes precedence over its environment.
#[derive(Debug, Clone, Default)]
pub struct Net {
    env: BTreeMap<&'static str, OsString>,
    ca_file: Option<PathBuf>,
    /// The system's authorities and `ca_file` in one file, for programs that accept only one.
    bundle: Option<PathBuf>,
    /// The git that is asked for the operator's own settings.
    git: PathBuf,
    /// Its answers, by address.
    asked: Arc<Mutex<BTreeMap<String, Settings>>>,
}

/// Keys of git in lower case, with their values.
type Settings = BTreeMap<String, String>;

/// How one address is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Files of authorities trusted in addition to the system's (or those of `SSL_CERT_FILE`), and what names each.
    pub extra: Vec<(PathBuf, &'static str)>,
    /// The one file and the one folder that git accepts.
    git_file: Option<PathBuf>,
    git_dir: Option<OsString>,
    pub proxy: Option<Proxy>,
    pub no_proxy: String,
}

/// A checked proxy address. `Debug` and `Display` show no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: String,
    /// The variable or key that names it.
    pub from: String,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", super::git::scrub(&self.url), self.from)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

static CURRENT: RwLock<Option<Arc<Net>>> = RwLock::new(None);

/// The settings of this process.
pub fn current() -> Arc<Net> {
    if let Some(net) = CURRENT.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
        return net.clone();
    }
    let mut place = CURRENT.write().unwrap_or_else(PoisonError::into_inner);
    place.get_or_insert_with(|| Arc::new(Net::of_process())).clone()
}

/// Sets the values from the configuration: the effective `tls.ca_file` and `tools.git`. Called once it is read.
pub fn configure(ca_file: Option<&Path>, git: &Path) {
    let mut net = Net::of_process();
    if let Some(file) = ca_file {
        net.ca_file = Some(file.to_owned());
    }
    git.clone_into(&mut net.git);
    *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(net));
}

/// Where `tls.ca_file` is set, writes `authorities.pem` (the system's and `tls.ca_file`'s) into the state directory,
/// for git and children; only if it changed. Fails if a file can't be read or written.
pub fn write_bundle(state_dir: &Path) -> Result<(), String> {
    let net = current();
    let Some(own) = net.ca_file.clone() else { return Ok(()) };
    let mut text = Vec::new();
    let given = net.path("SSL_CERT_FILE");
    if let Some(system) = given.or_else(|| SYSTEM.iter().map(PathBuf::from).find(|p| p.is_file())) {
        text = pem(&system, "SSL_CERT_FILE")?;
        text.push(b'\n');
    }
    text.extend(pem(&own, "tls.ca_file")?);
    let path = state_dir.join("authorities.pem");
    if std::fs::read(&path).ok().as_deref() != Some(&text) {
        files::replace(&path, &text, Some(0o644)).map_err(|e| format!("writing {}: {e}", path.display()))?;
    }
    let changed = Net { bundle: Some(path), ..Net::clone(&net) };
    *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(changed));
    Ok(())
}

/// The network settings that every child gets: the operator's variables unchanged and, where `tls.ca_file` is set,
/// those that name authorities.
pub fn child_env() -> Vec<(OsString, OsString)> {
    current().child_env()
}

/// The files and folders named by [`child_env`]: a confined child must be able to read them.
pub fn files_of_children() -> Vec<PathBuf> {
    let named = |name: &OsStr| name.to_str().is_some_and(|n| !n.to_ascii_lowercase().ends_with("_proxy"));
    child_env().into_iter().filter(|(name, _)| named(name)).map(|(_, value)| value.into()).collect()
}

/// The operator's own https proxy with its password, and the hosts reached without it. `None`: there is no proxy.
pub fn proxy_of_runs() -> Option<(String, String)> {
    let net = current();
    let route = net.route("https://host.invalid").unwrap_or_default();
    route.proxy.map(|proxy| (proxy.url, route.no_proxy))
}

impl Net {
    fn of_process() -> Self {
        Self::of(&|name| std::env::var_os(name))
    }

    fn of(var: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| var(name).filter(|v| !v.is_empty());
        let env = VARIABLES.iter().filter_map(|name| Some((*name, set(name)?))).collect();
        Self { env, ca_file: set(CA_FILE).map(PathBuf::from), git: "git".into(), ..Self::default() }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.env.get(name).map(PathBuf::from)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.env.get(name).map(|v| v.to_string_lossy().into_owned())
    }

    fn child_env(&self) -> Vec<(OsString, OsString)> {
        let mut env: BTreeMap<&str, OsString> = self.env.clone();
        if let Some(own) = &self.ca_file {
            let bundle = self.bundle.iter().flat_map(|all| BUNDLES.iter().map(move |name| (*name, all)));
            for (name, file) in bundle.chain([("NODE_EXTRA_CA_CERTS", own)]) {
                env.entry(name).or_insert_with(|| file.into());
            }
        }
        env.into_iter().map(|(name, value)| (name.into(), value)).collect()
    }

    /// How `url` (http or https) is reached. A service on this machine is reached directly. Fails with a sentence that
    /// names the setting that can't be followed.
    pub fn route(&self, url: &str) -> Result<Route, String> {
        let Some((scheme, rest)) = url.split_once("://") else { return Ok(Route::default()) };
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Ok(Route::default());
        }
        let local = is_loopback(rest);
        // Plain http to this machine needs neither.
        let mine = if local && scheme == "http" { Settings::new() } else { self.git_settings(url) };
        let mut route = Route { no_proxy: self.no_proxy(), ..Route::default() };
        if !local {
            route.proxy = self.proxy(&scheme, &mine)?;
        }
        if scheme == "https" {
            let of_git = self.path("GIT_SSL_CAINFO").map(|p| (p, "GIT_SSL_CAINFO"));
            let of_git = of_git.or_else(|| mine.get("http.sslcainfo").map(|p| (p.into(), "git's http.sslCAInfo")));
            let own = self.ca_file.clone().map(|p| (p, "tls.ca_file"));
            route.git_file = match (&own, &of_git) {
                (Some(_), _) => self.bundle.clone().or(self.ca_file.clone()),
                (None, Some((file, _))) => Some(file.clone()),
                (None, None) => self.path("SSL_CERT_FILE"),
            };
            let dir = self.env.get("GIT_SSL_CAPATH").cloned();
            let dir = dir.or_else(|| mine.get("http.sslcapath").map(OsString::from));
            route.git_dir = dir.or_else(|| self.env.get("SSL_CERT_DIR").cloned());
            route.extra = own.into_iter().chain(of_git).collect();
        }
        Ok(route)
    }

    /// Whom https trusts, for a person. Fails with a sentence if a named file can't be used.
    pub fn authorities(&self) -> Result<String, String> {
        let route = self.route("https://host.invalid").unwrap_or_default();
        let mut named = match (self.text("SSL_CERT_FILE"), self.text("SSL_CERT_DIR")) {
            (None, None) => vec!["the system's".to_owned()],
            (file, dir) => file.into_iter().map(|f| format!("{f} (SSL_CERT_FILE)")).chain(dir).collect(),
        };
        if let Some(file) = self.path("SSL_CERT_FILE") {
            certificates(&file, "SSL_CERT_FILE")?;
        }
        for (path, from) in &route.extra {
            certificates(path, from)?;
            named.push(format!("{} ({from})", path.display()));
        }
        Ok(named.join(", "))
    }

    /// Names of settings in the operator's git and environment that only git understands.
    pub fn not_followed(&self) -> Vec<&'static str> {
        let variables = ["GIT_SSL_NO_VERIFY", "GIT_SSL_CERT", "GIT_SSL_KEY", "GIT_PROXY_SSL_CAINFO"];
        let set = |name: &&&str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let mine = self.git_settings("https://host.invalid");
        let keys = [
            ("http.sslverify", "git's http.sslVerify=false", Some("false")),
            ("http.sslcert", "git's http.sslCert", None),
            ("http.proxysslcainfo", "git's http.proxySSLCAInfo", None),
            ("http.extraheader", "git's http.extraHeader", None),
            ("http.cookiefile", "git's http.cookieFile", None),
        ];
        let found = keys.iter().filter(|(key, _, value)| {
            mine.get(*key).is_some_and(|v| value.is_none_or(|wanted| v.eq_ignore_ascii_case(wanted)))
        });
        variables.iter().filter(set).copied().chain(found.map(|(_, name, _)| *name)).collect()
    }

    fn no_proxy(&self) -> String {
        self.text("no_proxy").or_else(|| self.text("NO_PROXY")).unwrap_or_default()
    }

    fn proxy(&self, scheme: &str, mine: &Settings) -> Result<Option<Proxy>, String> {
        let lower = format!("{scheme}_proxy");
        let of_git = mine.get("http.proxy").map(|url| (url.clone(), "git's http.proxy".to_owned()));
        // Set but empty: git is to use no proxy.
        if of_git.as_ref().is_some_and(|(url, _)| url.is_empty()) {
            return Ok(None);
        }
        let named = [lower.clone(), lower.to_uppercase(), "all_proxy".to_owned(), "ALL_PROXY".to_owned()];
        let of_env = || named.into_iter().find_map(|name| self.text(&name).map(|url| (url, name)));
        let Some((url, from)) = of_git.or_else(of_env) else { return Ok(None) };
        let url = if url.contains("://") { url } else { format!("http://{url}") };
        let kind = url.split("://").next().unwrap_or_default().to_ascii_lowercase();
        let known = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
        let parsed = reqwest::Url::parse(&url).ok().filter(|u| u.host_str().is_some());
        if !known.contains(&kind.as_str()) || parsed.is_none() {
            let shown = super::git::scrub(&url);
            return Err(format!(
                "{from} is {shown:?}, expected http://HOST:PORT, https://…, socks5://… or socks5h://…"
            ));
        }
        Ok(Some(Proxy { url, from }))
    }

    /// What the operator's own git would use for this address (`http.*` of the user's and the system's files). Empty if
    /// git can't be asked.
    fn git_settings(&self, url: &str) -> Settings {
        if let Some(known) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(url) {
            return known.clone();
        }
        let git = Git::unchecked(&self.git);
        let cmd = git.cmd(Path::new("/")).with_operators_files();
        let out = cmd.args(["config", "--null", "--type=path", "--get-urlmatch", "http", url]).ok().unwrap_or_default();
        let text = String::from_utf8_lossy(&out).into_owned();
        let pairs = text.split('\0').filter_map(|entry| entry.split_once('\n'));
        let settings: Settings = pairs.map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned())).collect();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned(), settings.clone());
        settings
    }
}

impl Route {
    /// Sets up an HTTP client for this route. `tls`: whether the address is https. Fails with a sentence.
    pub fn client(
        &self,
        builder: reqwest::blocking::ClientBuilder,
        tls: bool,
    ) -> Result<reqwest::blocking::ClientBuilder, String> {
        // The environment was read above, by the same rules as for git.
        let mut builder = builder.no_proxy();
        if let Some(Proxy { url, from }) = &self.proxy {
            let proxy = reqwest::Proxy::all(url).map_err(|e| format!("{from} is not a proxy's address ({e})"))?;
            builder = builder.proxy(proxy.no_proxy(reqwest::NoProxy::from_string(&self.no_proxy)));
        }
        let mut extra = Vec::new();
        for (path, from) in &self.extra {
            extra.extend(certificates(path, from)?);
        }
        // Plain http needs no certificates: reading the system's store costs time and fails where there is none.
        Ok(if tls { builder.tls_certs_merge(extra) } else { builder.tls_certs_only([]) })
    }

    /// Settings (`-c`) and variables for a git that talks to this address.
    pub fn git(&self) -> (Vec<String>, Vec<(&'static str, OsString)>) {
        let mut config = Vec::new();
        if let Some(file) = &self.git_file {
            config.push(format!("http.sslCAInfo={}", file.display()));
        }
        if let Some(dir) = &self.git_dir {
            config.push(format!("http.sslCAPath={}", dir.to_string_lossy()));
        }
        let mut env = Vec::new();
        if let Some(Proxy { url, .. }) = &self.proxy {
            // Through variables: a password on a command line is visible to everybody on the machine.
            env.extend(["http_proxy", "https_proxy"].map(|name| (name, OsString::from(url))));
            env.push(("no_proxy", OsString::from(&self.no_proxy)));
        }
        (config, env)
    }
}

fn certificates(path: &Path, from: &str) -> Result<Vec<reqwest::Certificate>, String> {
    let found = reqwest::Certificate::from_pem_bundle(&pem(path, from)?).unwrap_or_default();
    if found.is_empty() { Err(format!("{} ({from}) contains no PEM certificate", path.display())) } else { Ok(found) }
}

fn pem(path: &Path, from: &str) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let fail = |why: String| format!("the certificates in {} ({from}) can't be read: {why}", path.display());
    let meta = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?;
    if !meta.is_file() {
        return Err(fail("it is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| fail(e.to_string()))?;
    file.take(MAX_PEM + 1).read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
    if bytes.len() as u64 > MAX_PEM { Err(fail(format!("it is larger than {MAX_PEM} bytes"))) } else { Ok(bytes) }
}

/// Whether `authority/path` names this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(vars: &[(&str, &str)]) -> Net {
        let find = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        // A missing git has no settings of its own.
        Net { git: "/nonexistent/git".into(), ..Net::of(&find) }
    }

    #[test]
    fn proxies_are_found_in_either_case_and_by_scheme() {
        for (vars, url, proxy) in [
            (vec![("http_proxy", "http://a:1")], "http://h/x", Some("http://a:1 (http_proxy)")),
            (vec![("HTTP_PROXY", "http://a:1")], "http://h/x", Some("http://a:1 (HTTP_PROXY)")),
            (vec![("HTTP_PROXY", "http://a:1")], "https://h/x", None),
            (vec![("HTTPS_PROXY", "a:1")], "https://h/x", Some("http://a:1 (HTTPS_PROXY)")),
            (
                vec![("https_proxy", "http://b:2"), ("HTTPS_PROXY", "a:1")],
                "https://h",
                Some("http://b:2 (https_proxy)"),
            ),
            (vec![("all_proxy", "socks5h://s:9")], "https://h", Some("socks5h://s:9 (all_proxy)")),
            (vec![("ALL_PROXY", "socks5://u:p@s:9")], "http://h", Some("socks5://s:9 (ALL_PROXY)")),
            (vec![("https_proxy", "")], "https://h", None),
            (vec![("http_proxy", "http://a:1")], "http://127.0.0.1:3000/x", None),
            (vec![("http_proxy", "http://a:1")], "http://[::1]:3000/x", None),
            (vec![("http_proxy", "http://a:1")], "http://localhost/x", None),
            (vec![("http_proxy", "http://a:1")], "http://127.evil.example/x", Some("http://a:1 (http_proxy)")),
            (vec![("all_proxy", "http://a:1")], "ssh://git@h/x", None),
        ] {
            let route = net(&vars).route(url).unwrap();
            assert_eq!(route.proxy.map(|p| p.to_string()).as_deref(), proxy, "{vars:?} {url}");
        }
    }

    #[test]
    fn a_proxy_that_can_not_be_used_is_named_without_its_password() {
        for bad in ["ftp://u:secret@p:1", "http://", "gopher://p", "http://u:secret@:1"] {
            let why = net(&[("https_proxy", bad)]).route("https://h").unwrap_err();
            assert!(why.starts_with("https_proxy is ") && !why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn authorities_reach_both_clients_and_git() {
        let named = |vars: &[(&str, &str)], ca: Option<&str>| {
            let net = Net { ca_file: ca.map(PathBuf::from), ..net(vars) };
            let route = net.route("https://h/x").unwrap();
            let extra: Vec<String> = route.extra.iter().map(|(p, _)| p.display().to_string()).collect();
            (extra.join(" "), route.git().0.join(" "))
        };
        for (vars, ca, clients, git) in [
            (vec![], None, "", ""),
            (vec![("SSL_CERT_FILE", "/s")], None, "", "http.sslCAInfo=/s"),
            (vec![("SSL_CERT_DIR", "/d")], None, "", "http.sslCAPath=/d"),
            (vec![("GIT_SSL_CAINFO", "/g"), ("SSL_CERT_FILE", "/s")], None, "/g", "http.sslCAInfo=/g"),
            (vec![("GIT_SSL_CAPATH", "/p")], Some("/c"), "/c", "http.sslCAInfo=/c http.sslCAPath=/p"),
            (vec![("SSL_CERT_FILE", "/s")], Some("/c"), "/c", "http.sslCAInfo=/c"),
        ] {
            assert_eq!(named(&vars, ca), (clients.to_owned(), git.to_owned()), "{vars:?} {ca:?}");
        }
        // Plain http needs no authority.
        assert_eq!(net(&[("GIT_SSL_CAINFO", "/g")]).route("http://h").unwrap().extra, []);
    }

    #[test]
    fn children_get_what_the_operator_set_and_the_bundle_where_nothing_is() {
        let mut net = net(&[("PIP_CERT", "/own"), ("HTTPS_PROXY", "http://p:1")]);
        assert_eq!(net.child_env().len(), 2);
        net.ca_file = Some("/c".into());
        net.bundle = Some("/b".into());
        let env: BTreeMap<OsString, OsString> = net.child_env().into_iter().collect();
        for (name, value) in [
            ("PIP_CERT", "/own"),
            ("SSL_CERT_FILE", "/b"),
            ("NODE_EXTRA_CA_CERTS", "/c"),
            ("HTTPS_PROXY", "http://p:1"),
        ] {
            assert_eq!(env.get(OsStr::new(name)).map(|v| v.to_str().unwrap()), Some(value));
        }
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pem");
        let say = |net: &Net| {
            let route = net.route("https://h").unwrap();
            route.client(reqwest::blocking::Client::builder(), true).unwrap_err()
        };
        let own = Net { ca_file: Some(path.clone()), ..net(&[]) };
        assert!(say(&own).contains("tls.ca_file") && say(&own).contains("x.pem"), "{}", say(&own));
        std::fs::write(&path, "nothing").unwrap();
        assert!(say(&own).contains("no PEM certificate"), "{}", say(&own));
        let folder = Net { ca_file: Some(dir.path().to_owned()), ..net(&[]) };
        assert!(say(&folder).contains("no file"));
    }
}
