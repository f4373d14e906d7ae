//! `orch confine-proxy`: the only way out of a run's network (BND-2). A process without secrets. It accepts on a socket
//! that `confine-exec` made inside, connects outside to what the policy allows, and ends with its supervisor.

use super::address::{is_global, is_own, meant};
use super::exec::close_others;
use super::plan::{receive, send};
use super::upstream::Upstream;
use crate::adapters::net;
use crate::model::confine::{Host, Network};
use crate::model::text::clip;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::stdin;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The hidden subcommand.
const PROXY: &str = "confine-proxy";
/// Most connections at a time.
const MOST: usize = 256;
/// Longest head of a request.
pub(super) const HEAD: usize = 8 << 10;
/// Time limit for a whole head, and for a connection to the outside.
pub(super) const WAIT: Duration = Duration::from_secs(15);
/// Pause before accepting again after a failure.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Refusals that are reported one by one.
const REPORTED: usize = 200;

/// The proxy of one run; dropping this ends it.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    /// What it refused, one line each. The proxy ends when nobody reads this.
    pub said: Option<File>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    /// Starts it and returns the socket over which `confine-exec` sends the listener. Fails if it can't be started.
    pub(super) fn start(program: &Path, network: &Network) -> io::Result<(Self, UnixStream)> {
        let hosts = match network {
            Network::Hosts(hosts) => Some(hosts),
            Network::Internet | Network::Open | Network::Closed => None,
        };
        let (theirs, ours) = UnixStream::pair()?;
        let mut file = File::from(memfd_create("hosts", MemfdFlags::CLOEXEC)?);
        let upstream = net::proxy_of_runs().and_then(|(url, except)| Upstream::new(&url, &except));
        file.write_all(&serde_json::to_vec(&(hosts, upstream))?)?;
        let (said, reports) = pipe_with(PipeFlags::CLOEXEC)?;
        send(&ours, &[file.as_fd(), reports.as_fd()])?;
        let mut command = Command::new(program);
        command.arg(PROXY).env_clear().current_dir("/").process_group(0);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::null());
        Ok((Self { child: command.spawn()?, said: Some(File::from(said)) }, ours))
    }
}

/// The proxy variables for such a run, in every spelling that programs know.
pub(super) fn environment(env: &mut Vec<(std::ffi::OsString, std::ffi::OsString)>, port: u16) {
    let at = format!("http://127.0.0.1:{port}");
    let mut set = |name: &str, value: &str| {
        env.retain(|(n, _)| n != name);
        env.push((name.into(), value.into()));
    };
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        set(name, &at);
        set(&name.to_ascii_lowercase(), &at);
    }
    for name in ["NO_PROXY", "no_proxy"] {
        set(name, "localhost,127.0.0.1,::1");
    }
    set("NODE_USE_ENV_PROXY", "1");
    let mut java: String = ["http", "https"]
        .iter()
        .map(|scheme| format!(" -D{scheme}.proxyHost=127.0.0.1 -D{scheme}.proxyPort={port}"))
        .collect();
    java.push_str(" -Dhttp.nonProxyHosts=localhost|127.*|[::1]");
    let own = env.iter().find(|(name, _)| name == "JAVA_TOOL_OPTIONS").map(|(_, value)| value.clone());
    let mut value = own.unwrap_or_default();
    value.push(java);
    env.retain(|(name, _)| name != "JAVA_TOOL_OPTIONS");
    env.push(("JAVA_TOOL_OPTIONS".into(), value));
}

/// What may be reached.
struct Rules {
    /// `None`: everything global.
    hosts: Option<Vec<Host>>,
    /// The operator's own proxy.
    upstream: Option<Upstream>,
    /// Goes to the supervisor.
    reports: OwnedFd,
    open: AtomicUsize,
    reported: AtomicUsize,
}

/// Serves until the supervisor is gone. Fails if nothing can be accepted.
pub fn proxy() -> io::Result<()> {
    close_others(None)?;
    let mut fds = receive(stdin())?.into_iter();
    let (Some(hosts), Some(reports)) = (fds.next(), fds.next()) else {
        return Err(io::Error::other("no hosts came on standard input"));
    };
    let (mut file, mut text) = (File::from(hosts), String::new());
    file.rewind()?;
    file.read_to_string(&mut text)?;
    let (hosts, upstream) = serde_json::from_str(&text)?;
    // Nothing arrives if the run did not start.
    let Some(listener) = receive(stdin())?.into_iter().next().map(TcpListener::from) else { return Ok(()) };
    listener.set_nonblocking(true)?;
    let rules = Arc::new(Rules { hosts, upstream, reports, open: AtomicUsize::new(0), reported: AtomicUsize::new(0) });
    loop {
        let none = PollFlags::empty();
        let mut fds = [PollFd::new(&listener, PollFlags::IN), PollFd::new(&rules.reports, none)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        let [_, supervisor] = &fds;
        if !supervisor.revents().is_empty() {
            return Ok(());
        }
        match listener.accept() {
            Ok((client, _)) => serve(client, &rules),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // A fault of one connection, or too many open files: wait for other connections, or the supervisor, to end.
            Err(_) => {
                let _ = poll(&mut [PollFd::new(&rules.reports, none)], Some(&PAUSE));
            }
        }
    }
}

/// Serves in a thread of its own, if there is a free slot.
fn serve(mut client: TcpStream, rules: &Arc<Rules>) {
    if rules.open.fetch_add(1, Ordering::SeqCst) >= MOST {
        rules.open.fetch_sub(1, Ordering::SeqCst);
        let _ = client.set_nonblocking(true);
        let _ = client.write_all(b"HTTP/1.1 503 Too many connections\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    let own = Arc::clone(rules);
    let started = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
        let _ = own.connection(&mut client);
        own.open.fetch_sub(1, Ordering::SeqCst);
    });
    if started.is_err() {
        rules.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Why a request is not served: the status for the client, the text for both sides.
struct Refusal {
    status: &'static str,
    why: String,
}

impl Refusal {
    fn unreached(why: String) -> Self {
        Self { status: "502 Not reached", why }
    }
}

impl Rules {
    fn connection(&self, client: &mut TcpStream) -> io::Result<()> {
        let Some((head, rest)) = read_head(client, HEAD)? else { return Ok(()) };
        let mut line = head.lines().next().unwrap_or_default().split(' ');
        let (method, target) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
        let served = if method == "CONNECT" {
            self.reach(target)
        } else {
            Err(Refusal { status: "405 CONNECT only", why: "only CONNECT is served, so use https".to_owned() })
        };
        let (mut server, early) = match served {
            Ok(reached) => reached,
            Err(refusal) => {
                self.tell(&format!("refused {method} {target}: {}", refusal.why));
                let text = format!("orch: {}\n", clip(&refusal.why, 300));
                let (status, length) = (refusal.status, text.len());
                write!(client, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}")?;
                return client.shutdown(Shutdown::Write);
            }
        };
        client.set_read_timeout(None)?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        client.write_all(&early)?;
        server.write_all(&rest)?;
        let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
        let back = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })?;
        let _ = io::copy(client, &mut server);
        let _ = server.shutdown(Shutdown::Write);
        let _ = back.join();
        Ok(())
    }

    /// A connection to the address that was checked, and any bytes already received on it. Behind the operator's own
    /// proxy, that proxy resolves the name and connects; what this machine knows of the name is still checked here.
    fn reach(&self, target: &str) -> Result<(TcpStream, Vec<u8>), Refusal> {
        let no = |why: String| Refusal { status: "403 Refused by orch", why };
        let mut host: Host = target.parse().map_err(no)?;
        host.name.truncate(host.name.trim_end_matches('.').len());
        let known = self.hosts.as_ref().is_none_or(|hosts| hosts.contains(&host) || self.names(&host.name, host.port));
        // Do not even resolve it: the name itself can carry data to whoever answers for it.
        if !known {
            return Err(no("it is not in confine.hosts".to_owned()));
        }
        let upstream = self.upstream.as_ref().filter(|up| !up.spares(&host));
        let all: Vec<SocketAddr> = match ((host.name.as_str(), host.port).to_socket_addrs(), upstream) {
            (Ok(all), _) => all.collect(),
            // Behind a company's proxy, often only the proxy can resolve outside names.
            (Err(_), Some(up)) => return up.reach(&host).map_err(Refusal::unreached),
            (Err(e), None) => {
                return Err(Refusal { status: "502 Name not found", why: format!("the name has no address: {e}") });
            }
        };
        let open: Vec<IpAddr> = all.iter().map(SocketAddr::ip).filter(|ip| self.may(*ip, host.port)).collect();
        if open.is_empty() {
            let which: Vec<String> = all.iter().map(|a| a.ip().to_string()).collect();
            return Err(no(format!("{} is this machine, or not on the internet", which.join(", "))));
        }
        if let Some(up) = upstream.filter(|_| open.iter().all(|ip| is_global(*ip))) {
            return up.reach(&host).map_err(Refusal::unreached);
        }
        let mut last = String::new();
        for ip in open {
            match TcpStream::connect_timeout(&SocketAddr::new(ip, host.port), WAIT) {
                Ok(server) => return Ok((server, Vec::new())),
                Err(e) => last = e.to_string(),
            }
        }
        Err(Refusal::unreached(format!("it can't be reached: {last}")))
    }

    fn may(&self, ip: IpAddr, port: u16) -> bool {
        self.names(&ip.to_string(), port) || (is_global(ip) && !is_own(ip))
    }

    /// Whether `hosts` names exactly this address.
    fn names(&self, text: &str, port: u16) -> bool {
        let Ok(ip) = text.parse::<IpAddr>() else { return false };
        let is = |host: &Host| host.port == port && host.name.parse().is_ok_and(|own: IpAddr| meant(own) == meant(ip));
        self.hosts.iter().flatten().any(is)
    }

    /// Adds one line to the run's `stderr.log`.
    fn tell(&self, line: &str) {
        let before = self.reported.fetch_add(1, Ordering::SeqCst);
        let line = match before.cmp(&REPORTED) {
            std::cmp::Ordering::Less => clip(line, 400),
            std::cmp::Ordering::Equal => "further refusals are not logged".to_owned(),
            std::cmp::Ordering::Greater => return,
        };
        let _ = rustix::io::write(&self.reports, format!("orch: {line}\n").as_bytes());
    }
}

/// A head of at most `most` bytes, and what followed it, all within [`WAIT`]: a client that sends a byte now and then
/// keeps its slot no longer than others. `None`: not a head.
pub(super) fn read_head(stream: &mut TcpStream, most: usize) -> io::Result<Option<(String, Vec<u8>)>> {
    let end = Instant::now() + WAIT;
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let n = stream.read(&mut buffer)?;
        bytes.extend_from_slice(buffer.get(..n).unwrap_or_default());
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok(String::from_utf8(bytes).ok().map(|head| (head, rest)));
        }
        if n == 0 || bytes.len() > most {
            return Ok(None);
        }
    }
}
