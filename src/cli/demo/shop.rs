//! The demo's production: a loopback server for the folder that `deploy.sh` fills. It ends when its standard input
//! does, so that it never outlives the demo that started it.

use crate::cli::output::Output;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// The text of the health page; `orch.yaml` expects it.
const WELL: &str = "the kettle is on\n";
/// A longer request is not one of ours.
const MOST: usize = 8 << 10;

/// Serves until standard input ends. Prints the address first, on a line of its own.
pub fn serve(out: &Output, production: &Path) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("opening a port on 127.0.0.1")?;
    let address = listener.local_addr().context("asking for the port")?;
    out.raw(&format!("{address}\n"));
    let production = production.to_owned();
    std::thread::Builder::new()
        .name("serve".to_owned())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // One connection at a time is enough; a silent client is dropped after a second.
                let _ = answer(stream, &production);
            }
        })
        .context("starting the server's thread")?;
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    Ok(())
}

fn answer(mut stream: TcpStream, production: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut request = Vec::new();
    let mut chunk = [0_u8; 1024];
    while request.len() < MOST && !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => break,
            n => request.extend_from_slice(chunk.get(..n).unwrap_or(&[])),
        }
    }
    let line = String::from_utf8_lossy(&request);
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = match (method, path) {
        ("GET", path) => page(path, production),
        _ => ("405 Method Not Allowed", "text/plain", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

fn page(path: &str, production: &Path) -> (&'static str, &'static str, String) {
    let revision = std::fs::read_to_string(production.join("version")).unwrap_or_default();
    let revision = revision.trim();
    match path {
        "/health" if production.join("tea").is_file() && !revision.is_empty() => {
            ("200 OK", "text/plain", WELL.to_owned())
        }
        "/health" => ("503 Service Unavailable", "text/plain", "no tea today\n".to_owned()),
        "/version" => ("200 OK", "application/json", serde_json::json!({"revision": revision}).to_string()),
        _ => ("404 Not Found", "text/plain", "try /health or /version\n".to_owned()),
    }
}
