//! Whether a run could reach a service (BND-2): through the same proxy that runs get, up to a TLS handshake. No request
//! is sent.

use super::plan::send;
use super::proxy::{HEAD, Proxy, WAIT, read_head};
use crate::model::confine::{Host, Network};
use crate::model::text::clip;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Connects to `host` through a proxy of `program` (`orch` itself) that applies `network`.
///
/// # Errors
/// What prevents it, in a sentence.
pub fn reaches(program: &Path, network: &Network, host: &Host) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
    let (_proxy, way) = Proxy::start(program, network).map_err(text)?;
    send(&way, &[listener.as_fd()]).map_err(text)?;
    let mut stream = TcpStream::connect(listener.local_addr().map_err(text)?).map_err(text)?;
    write!(stream, "CONNECT {host} HTTP/1.1\r\n\r\n").map_err(text)?;
    let (head, rest) = read_head(&mut stream, HEAD).map_err(text)?.ok_or("the proxy gave no answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        // The proxy's reason is short and arrives at once.
        let mut said = rest;
        let _ = std::io::copy(&mut std::io::Read::take(&stream, 400), &mut said);
        return Err(clip(&String::from_utf8_lossy(&said), 300));
    }
    handshake(&mut stream, host)
}

fn handshake(stream: &mut TcpStream, host: &Host) -> Result<(), String> {
    stream.set_read_timeout(Some(WAIT)).map_err(|e| e.to_string())?;
    let provider = Arc::new(ring::default_provider());
    let name = ServerName::try_from(host.name.clone()).map_err(|e| e.to_string())?;
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let config = config.map_err(|e| e.to_string())?.dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth();
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())?;
    while session.is_handshaking() {
        session.complete_io(stream).map_err(|e| format!("TLS with {host} fails: {e}"))?;
    }
    Ok(())
}

/// Accepts any certificate: trust is the runtime's own business, and nothing is sent to the service.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
