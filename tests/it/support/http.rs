//! A raw HTTP/1.1 server of plain threads for the fakes: a log of requests, scripted faults, and a list of unexpected
//! requests (they fail the test when the server is dropped).
#![allow(dead_code, reason = "each fake uses its part")]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Between two bytes of a slow answer.
const PACE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A request as received. `path` is still percent-encoded, `query` is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as JSON; `null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// `PATCH /a/b/`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The answer of a fake.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// If set, the request should never have been made, and the test fails.
    pub unexpected: Option<String>,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        let body = if status == 204 { Vec::new() } else { body.to_string().into_bytes() };
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body, unexpected: None }
    }

    pub fn html(status: u16, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "text/html".to_owned())];
        Self { status, headers, body: body.as_bytes().to_vec(), unexpected: None }
    }

    pub fn text(status: u16, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "text/plain; charset=utf-8".to_owned())];
        Self { status, headers, body: body.as_bytes().to_vec(), unexpected: None }
    }

    pub fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// A request that no test expects.
    pub fn unexpected(why: impl Into<String>) -> Self {
        let why = why.into();
        Self { unexpected: Some(why), ..Self::json(501, &Value::Null) }
    }
}

/// One scripted fault.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is reset before the request has an effect.
    Reset,
    /// The request is read but never answered; ends when the client leaves.
    Hang,
    /// Head, then one byte of the real reply every 50 ms, for ever.
    SlowBytes,
    /// The effect happens, then the connection ends without a reply.
    CutAfterEffect,
    /// The effect happens, half the body is sent, then the connection ends.
    CutMidBody,
    /// The effect happens, half the body is sent, then nothing more; ends when the client leaves.
    HangMidBody,
    /// The effect happens, the length is right, but the JSON is cut in half.
    TruncatedJson,
    /// A 200 whose body never ends.
    Endless,
    /// This reply and no effect.
    Answer(Reply),
    /// The effect happens, but this is answered.
    AnswerAfterEffect(Reply),
    /// 301 and no effect.
    Redirect(String),
}

impl Fault {
    pub fn status(status: u16) -> Self {
        Self::Answer(Reply::json(status, &serde_json::json!({"error": "scripted"})))
    }

    pub fn throttled(retry_after_s: u64) -> Self {
        Self::Answer(Reply::json(429, &serde_json::json!({})).header("Retry-After", retry_after_s))
    }

    pub fn bad_gateway() -> Self {
        Self::Answer(Reply::html(502, "<html><body>502 Bad Gateway</body></html>"))
    }
}

struct Planned {
    /// Start of `METHOD /path`.
    prefix: String,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Vec<Seen>>,
    plan: Mutex<Vec<Planned>>,
    unexpected: Mutex<Vec<String>>,
    stop: AtomicBool,
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A running fake; ends when dropped.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let handler: Arc<Handler> = Arc::new(handler);
        let inner = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if inner.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (shared, handler) = (Arc::clone(&inner), Arc::clone(&handler));
                std::thread::spawn(move || drop(serve(stream, &shared, &*handler)));
            }
        });
        Self { addr, shared, thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Every request so far, in order.
    pub fn log(&self) -> Vec<Seen> {
        self.shared.log.lock().unwrap().clone()
    }

    /// `METHOD /path` of every request so far.
    pub fn lines(&self) -> Vec<String> {
        self.log().iter().map(Seen::line).collect()
    }

    pub fn clear_log(&self) {
        self.shared.log.lock().unwrap().clear();
    }

    /// The next `times` requests whose `METHOD /path` starts with `prefix` get `fault` (`""`: any request).
    pub fn fault(&self, prefix: &str, fault: Fault, times: usize) {
        self.shared.plan.lock().unwrap().push(Planned { prefix: prefix.to_owned(), fault, times });
    }

    /// No further request gets a fault.
    pub fn calm(&self) {
        self.shared.plan.lock().unwrap().clear();
    }

    pub fn unexpected(&self) -> Vec<String> {
        self.shared.unexpected.lock().unwrap().clone()
    }

    /// For tests of the fake itself: clears the unexpected requests.
    pub fn forgive(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.unexpected.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.addr));
        if let Some(t) = self.thread.take() {
            drop(t.join());
        }
        let unexpected = self.unexpected();
        assert!(unexpected.is_empty() || std::thread::panicking(), "unexpected requests: {unexpected:#?}");
    }
}

/// An address where nothing listens.
pub fn refused_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Decodes `%41` and, in queries, `+`.
pub fn percent_decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let hex = text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[i], hex) {
            (b'%', Some(b)) => {
                out.push(b);
                i += 3;
                continue;
            }
            (b'+', _) if plus => out.push(b' '),
            (b, _) => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn read_request(stream: &TcpStream) -> std::io::Result<Option<Seen>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| p.split_once('=').unwrap_or((p, "")))
        .map(|(k, v)| (percent_decode(k, true), percent_decode(v, true)))
        .collect();
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap_or(0));
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Seen { method: method.to_owned(), path: path.to_owned(), query, headers, body }))
}

fn serve(mut stream: TcpStream, shared: &Shared, handler: &Handler) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    let Some(seen) = read_request(&stream)? else { return Ok(()) };
    shared.log.lock().unwrap().push(seen.clone());
    let line = seen.line();
    let fault = {
        let mut plan = shared.plan.lock().unwrap();
        let at = plan.iter_mut().find(|p| p.times > 0 && line.starts_with(&p.prefix));
        at.map(|p| {
            p.times -= 1;
            p.fault.clone()
        })
    };
    let effect = || {
        let reply = handler(&seen);
        if let Some(why) = &reply.unexpected {
            shared.unexpected.lock().unwrap().push(format!("{line} {}: {why}", String::from_utf8_lossy(&seen.body)));
        }
        reply
    };
    match fault {
        None => write_reply(&mut stream, &effect()),
        Some(Fault::Reset) => Ok(()),
        Some(Fault::Hang) => wait_for_client(&mut stream),
        Some(Fault::SlowBytes) => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")?;
            while !shared.stop.load(Ordering::SeqCst) {
                stream.write_all(b" ")?;
                // One byte and then another, or the client's end.
                let _ = poll(&mut [PollFd::new(&stream, PollFlags::RDHUP)], Some(&PACE));
            }
            Ok(())
        }
        Some(Fault::CutAfterEffect) => {
            drop(effect());
            Ok(())
        }
        Some(Fault::CutMidBody) => {
            let reply = effect();
            let head = head(&reply, reply.body.len().max(2));
            stream.write_all(head.as_bytes())?;
            stream.write_all(&reply.body[..reply.body.len() / 2])
        }
        Some(Fault::HangMidBody) => {
            let reply = effect();
            stream.write_all(head(&reply, reply.body.len().max(2)).as_bytes())?;
            stream.write_all(&reply.body[..reply.body.len() / 2])?;
            wait_for_client(&mut stream)
        }
        Some(Fault::TruncatedJson) => {
            let mut reply = effect();
            reply.body.truncate(reply.body.len() / 2);
            write_reply(&mut stream, &reply)
        }
        Some(Fault::Endless) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
            let chunk = vec![b' '; 1 << 16];
            while !shared.stop.load(Ordering::SeqCst) {
                stream.write_all(&chunk)?;
            }
            Ok(())
        }
        Some(Fault::Answer(reply)) => write_reply(&mut stream, &reply),
        Some(Fault::AnswerAfterEffect(reply)) => {
            drop(effect());
            write_reply(&mut stream, &reply)
        }
        Some(Fault::Redirect(to)) => write_reply(&mut stream, &Reply::html(301, "").header("Location", to)),
    }
}

fn wait_for_client(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut rest = [0; 64];
    while stream.read(&mut rest)? > 0 {}
    Ok(())
}

fn head(reply: &Reply, length: usize) -> String {
    let mut head = format!("HTTP/1.1 {} Scripted\r\nConnection: close\r\nContent-Length: {length}\r\n", reply.status);
    for (n, v) in &reply.headers {
        head.push_str(&format!("{n}: {v}\r\n"));
    }
    head.push_str("\r\n");
    head
}

fn write_reply(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    let head = if reply.status == 204 {
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned()
    } else {
        head(reply, reply.body.len())
    };
    stream.write_all(head.as_bytes())?;
    stream.write_all(&reply.body)
}
