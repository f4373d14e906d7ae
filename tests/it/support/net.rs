//! A test's own certificate authority, servers with its certificates, and proxies, all on the loopback interface.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Terminates TLS for a plain server, serves a folder over TLS, or is a proxy that resolves every name to this machine.
/// Its first line is its port; a proxy then prints a line for each connection.
const SCRIPT: &str = r#"
import asyncio, functools, http.server, ssl, sys, threading
kind, what, cert, key = sys.argv[1:5]
async def copy(a, b):
    try:
        while data := await a.read(65536):
            b.write(data); await b.drain()
        b.write_eof() if b.can_write_eof() else b.close()
    except (OSError, ssl.SSLError): b.close()
async def both(r, w, port):
    r2, w2 = await asyncio.open_connection("127.0.0.1", int(port))
    await asyncio.gather(copy(r, w2), copy(r2, w)); w.close(); w2.close()
async def connect(r, w):
    while True:
        head = (await r.readuntil(b"\r\n\r\n")).decode()
        verb, target, _ = head.split("\r\n")[0].split(" ")
        if "proxy-authorization: basic" in head.lower(): break
        w.write(b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"); await w.drain()
    print(verb, target, flush=True)
    if verb != "CONNECT":
        w.write(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"); await w.drain(); w.close(); return
    w.write(b"HTTP/1.1 200 Connected\r\n\r\n"); await both(r, w, target.rsplit(":", 1)[1])
async def socks(r, w):
    n = (await r.readexactly(2))[1]; await r.readexactly(n); w.write(b"\x05\x00")
    _, _, _, form = await r.readexactly(4)
    size = {1: 4, 4: 16}.get(form) or (await r.readexactly(1))[0]
    host = await r.readexactly(size); port = int.from_bytes(await r.readexactly(2), "big")
    print("SOCKS", host.decode() if form == 3 else "address", port, flush=True)
    w.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00"); await both(r, w, port)
def tls():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(cert, key); return c
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *a): pass
async def main():
    if kind == "folder":
        s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=what))
        s.socket = tls().wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=s.serve_forever, daemon=True).start()
        print(s.server_address[1], flush=True); await asyncio.Event().wait()
    do = {"tls": lambda r, w: both(r, w, what), "connect": connect, "socks": socks}[kind]
    s = await asyncio.start_server(do, "127.0.0.1", 0, ssl=tls() if kind == "tls" else None)
    print(s.sockets[0].getsockname()[1], flush=True); await s.serve_forever()
asyncio.run(main())
"#;

/// Files of an authority that nobody else knows, and of a server with its certificate (`localhost`, `forge.test`).
pub struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    /// `None`, with a loud message, if openssl or python3 is missing.
    pub fn new() -> Option<Self> {
        if [super::tools::tool("openssl"), super::tools::tool("python3")].contains(&None) {
            return None;
        }
        let it = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(it.path("net.py"), SCRIPT).unwrap();
        let names = "subjectAltName=DNS:localhost,DNS:forge.test\nbasicConstraints=CA:FALSE\n";
        std::fs::write(it.path("names"), names).unwrap();
        let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let ca = [
            &["req", "-x509", "-subj", "/CN=Company CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"],
            &new[..],
        ];
        it.openssl(&ca.concat());
        it.openssl(
            &[&["req", "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr"], &new[..]].concat(),
        );
        let sign =
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem";
        it.openssl(&sign.split(' ').collect::<Vec<_>>());
        Some(it)
    }

    fn openssl(&self, args: &[&str]) {
        let out = Command::new("openssl").args(args).current_dir(self.dir.path()).output().unwrap();
        assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The authority's certificate.
    pub fn ca(&self) -> String {
        self.path("ca.pem").to_str().unwrap().to_owned()
    }

    fn start(&self, kind: &str, what: &str) -> Helper {
        let log = self.path(&format!("{kind}-{}.log", what.replace('/', "_")));
        let out = std::fs::File::create(&log).unwrap();
        let mut command = Command::new("python3");
        command.arg(self.path("net.py")).args([kind, what]).args([self.path("server.pem"), self.path("server.key")]);
        let child = command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).spawn().unwrap();
        let mut helper = Helper { child, port: 0, log };
        let port = || helper.lines(0).first().and_then(|l| l.parse().ok());
        helper.port = super::wait::until("the helper", &[self.dir.path()], port, String::new);
        helper
    }

    /// TLS in front of a plain server on this machine.
    pub fn tls(&self, port: u16) -> Helper {
        self.start("tls", &port.to_string())
    }

    /// A folder over TLS.
    pub fn folder(&self, dir: &Path) -> Helper {
        self.start("folder", dir.to_str().unwrap())
    }

    /// A proxy for CONNECT that requires a password, any; every name resolves to this machine.
    pub fn connect_proxy(&self) -> Helper {
        self.start("connect", "-")
    }

    /// A SOCKS 5 proxy; every name resolves to this machine.
    pub fn socks_proxy(&self) -> Helper {
        self.start("socks", "-")
    }
}

/// One of the servers; it ends with this value.
pub struct Helper {
    child: Child,
    pub port: u16,
    log: PathBuf,
}

impl Helper {
    fn lines(&self, from: usize) -> Vec<String> {
        let file = std::fs::File::open(&self.log).unwrap();
        BufReader::new(file).lines().map_while(Result::ok).skip(from).collect()
    }

    /// What a proxy was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.lines(1)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
