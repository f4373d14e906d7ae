//! The operator's own proxy, if this machine's network is behind one: a run's proxy asks it for what the policy allows.
//! It knows the password so that the run does not have to (BND-2, BND-3).

use super::proxy::{HEAD, WAIT, read_head};
use crate::model::confine::Host;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};

/// Its address, and the hosts reached without it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Upstream {
    host: String,
    port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
    /// In the form of `no_proxy`.
    except: String,
}

impl Upstream {
    /// `url`: `http://[USER:PASSWORD@]HOST[:PORT]`. `None`: another scheme, or not such an address.
    pub fn new(url: &str, except: &str) -> Option<Self> {
        let url = reqwest::Url::parse(url).ok().filter(|u| u.scheme() == "http")?;
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let authorization = (!url.username().is_empty()).then(|| {
            let pair = [decoded(url.username()), b":".to_vec(), decoded(url.password().unwrap_or_default())].concat();
            format!("Basic {}", base64(&pair))
        });
        Some(Self { host, port: url.port_or_known_default()?, authorization, except: except.to_owned() })
    }

    /// Whether a host is reached without it.
    pub fn spares(&self, host: &Host) -> bool {
        let ip: Option<IpAddr> = host.name.parse().ok();
        if host.name == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
            return true;
        }
        self.except.split(',').map(str::trim).filter(|e| !e.is_empty()).any(|entry| {
            let (entry, port) = match entry.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') && port.parse() == Ok(host.port) => (name, true),
                Some((name, port)) if !name.contains(':') && port.parse::<u16>().is_ok() => return false,
                Some(_) | None => (entry, true),
            };
            let name = entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
            let within = |net: (IpAddr, u32)| ip.is_some_and(|ip| same_network(ip, net));
            port && (entry == "*"
                || host.name == name
                || host.name.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
                || network(entry).is_some_and(within))
        })
    }

    /// A connection to `host`, and any bytes already received on it.
    ///
    /// # Errors
    /// It is unreachable or refuses, in a sentence without its password.
    pub fn reach(&self, host: &Host) -> Result<(TcpStream, Vec<u8>), String> {
        let at = format!("the proxy {}:{}", self.host, self.port);
        let failed = |e: io::Error| format!("{at} can't be reached: {e}");
        let mut last = io::Error::other("its name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, WAIT) {
                Ok(server) => return self.ask(server, host).map_err(|why| format!("{at} {why}")),
                Err(e) => last = e,
            }
        }
        Err(failed(last))
    }

    fn ask(&self, mut server: TcpStream, host: &Host) -> Result<(TcpStream, Vec<u8>), String> {
        let failed = |e: io::Error| format!("does not answer: {e}");
        let authorization = self.authorization.iter().map(|a| format!("Proxy-Authorization: {a}\r\n"));
        let more: String = authorization.collect();
        write!(server, "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n").map_err(failed)?;
        let (head, rest) = read_head(&mut server, HEAD).map_err(failed)?.ok_or("gives no answer that can be read")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            return Err(format!("answers {}", crate::model::text::clip(head.lines().next().unwrap_or_default(), 100)));
        }
        server.set_read_timeout(None).map_err(failed)?;
        Ok((server, rest))
    }
}

/// `ADDRESS/BITS`.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (ip, bits) = text.split_once('/')?;
    Some((ip.parse().ok()?, bits.parse().ok()?))
}

fn same_network(ip: IpAddr, (net, bits): (IpAddr, u32)) -> bool {
    let (a, b, all) = match (ip, net) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    bits <= all && (a ^ b).checked_shr(all - bits).unwrap_or(0) == 0
}

/// The text with percent-encoding decoded.
fn decoded(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()).filter(|_| *first == b'%');
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let letter = LETTERS.get((word >> (18 - 6 * n)) as usize & 63).copied().unwrap_or(b'=');
            out.push(if n <= three.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_2_a_proxy_of_the_operator_s_is_read_with_its_password() {
        let of = |url| Upstream::new(url, "");
        let found = of("http://me:p%40ss@proxy.example:3128").unwrap();
        assert_eq!((found.host.as_str(), found.port), ("proxy.example", 3128));
        assert_eq!(found.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
        assert_eq!(of("http://proxy.example").unwrap().port, 80);
        assert_eq!(of("http://[fe80::1]:8080").unwrap().host, "fe80::1");
        for bad in ["https://p:1", "socks5://p:1", "p:1", ""] {
            assert_eq!(of(bad), None, "{bad}");
        }
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("\u{ff}", "w78=")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn bnd_2_what_the_operator_reaches_directly_a_run_does_too() {
        let up = Upstream::new("http://p:1", ".in.example, 10.0.0.0/8,a.example:8080,fd00::/8").unwrap();
        for (host, spared) in [
            ("x.in.example:443", true),
            ("in.example:443", true),
            ("plain.example:443", false),
            ("a.example:8080", true),
            ("a.example:443", false),
            ("10.1.2.3:443", true),
            ("11.1.2.3:443", false),
            ("[fd00::1]:443", true),
            ("[fe00::1]:443", false),
            ("localhost:1", true),
            ("127.0.0.1:1", true),
            ("badin.example:443", false),
        ] {
            assert_eq!(up.spares(&host.parse().unwrap()), spared, "{host}");
        }
        assert!(Upstream::new("http://p:1", "*").unwrap().spares(&"a:1".parse().unwrap()));
    }
}
