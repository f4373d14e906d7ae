//! A small real HTTP server as the target of probes: a script decides what each request gets.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What one request gets.
#[derive(Debug, Clone)]
pub enum Turn {
    /// Status and body.
    Say(u16, &'static str),
    /// A status, with a `Location`.
    Redirect(u16, &'static str),
    /// The answer comes only after this time.
    Slow(Duration, u16),
    /// The connection is cut without an answer.
    Cut,
    /// The server stops: this and every later connection is refused.
    Die,
}

/// Runs until it is dropped or dies.
pub struct Web {
    pub address: SocketAddr,
    hits: Arc<AtomicUsize>,
    paths: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// `script` gets the request's number (from 1) and its path with query.
    pub fn serve(script: impl Fn(usize, &str) -> Turn + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (hits, paths) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, log, end) = (hits.clone(), paths.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let Some(path) = request(&mut reader) else { continue };
                let n = seen.fetch_add(1, Ordering::SeqCst) + 1;
                log.lock().unwrap().push(path.clone());
                match script(n, &path) {
                    Turn::Say(status, body) => answer(stream, status, "", body),
                    Turn::Redirect(status, to) => answer(stream, status, &format!("Location: {to}\r\n"), ""),
                    Turn::Slow(time, status) => {
                        std::thread::spawn(move || {
                            std::thread::sleep(time);
                            answer(stream, status, "", "late");
                        });
                    }
                    Turn::Cut => drop(stream),
                    Turn::Die => return,
                }
            }
        });
        Self { address, hits, paths, stop, thread: Some(thread) }
    }

    /// Every request gets the same.
    pub fn always(turn: Turn) -> Self {
        Self::serve(move |_, _| turn.clone())
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    pub fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }

    /// An address on which nothing listens.
    pub fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 && line.trim() != "" {
        line.clear();
    }
    first.split_whitespace().nth(1).map(str::to_owned)
}

fn answer(mut stream: TcpStream, status: u16, headers: &str, body: &str) {
    let text =
        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes());
}
