//! Spans over TLS to a server that asks for a certificate, by both protocols.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::otlp::{Otlp, WhenFull};

mod common;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn tls(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(file)
}

/// A server that takes who shows a certificate of the authority's. Gives the beginning of what each one says, or
/// nothing for whom it does not take.
fn server(alpn: &'static [u8]) -> (SocketAddr, Receiver<Vec<u8>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(tls("authority.pem")).unwrap()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_file(tls("server.pem")).unwrap()],
            PrivateKeyDer::from_pem_file(tls("server.key")).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, heard) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            let (mut beginning, mut chunk) = (Vec::new(), [0; 4096]);
            // As much of it as tells what it is: the head of a request, or HTTP/2's preface (RFC 9113 §3.4).
            while !beginning.windows(4).any(|at| at == b"\r\n\r\n") {
                match stream.read(&mut chunk) {
                    Ok(bytes @ 1..) => beginning.extend_from_slice(&chunk[..bytes]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if seen.send(beginning).is_err() {
                return;
            }
        }
    });
    (address, heard)
}

fn config(address: SocketAddr, variables: &[(&str, String)]) -> Config {
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{address}"))];
    all.extend_from_slice(variables);
    let all = all.into_iter().map(|(name, value)| (name.to_owned(), value));
    let (config, _) = Config::load(None, all).unwrap();
    config.check().unwrap();
    config
}

/// What the server hears first of a transfer that is exported so.
fn heard(variables: &[(&str, String)]) -> Vec<u8> {
    let is_http = variables.iter().any(|(_, value)| value == "http/protobuf");
    let (address, heard) = server(if is_http { b"http/1.1" } else { b"h2" });
    let config = config(address, variables);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = config.otlp.traces_url().unwrap();
    let mut otlp = Otlp::start(&config.otlp, url.expose(), WhenFull::Drop, runtime.handle()).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/06_trunk_success/input.pcap");
    let mut engine = Engine::new(config.engine(), config.privacy().unwrap()).unwrap();
    let frames = common::frames(&path);
    frames.iter().for_each(|frame| engine.frame(frame));
    engine.finish(frames.last().unwrap().time);
    std::iter::from_fn(|| engine.poll_output()).for_each(|output| otlp.output(&output));
    let first = heard.recv_timeout(PATIENCE).unwrap();
    runtime.shutdown_background();
    first
}

fn ours() -> Vec<(&'static str, String)> {
    [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "authority.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "client.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "client.key"),
    ]
    .map(|(name, file)| (name, tls(file).display().to_string()))
    .to_vec()
}

#[test]
fn by_http_with_a_certificate_of_our_own() {
    let mut variables = ours();
    variables.extend([
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".to_owned()),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "tenant=voice%20a".to_owned()),
    ]);
    let request = String::from_utf8_lossy(&heard(&variables)).to_ascii_lowercase();
    assert!(request.starts_with("post /v1/traces http/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/x-protobuf"), "{request}");
    assert!(request.contains("content-encoding: gzip") && request.contains("tenant: voice a"), "{request}");
}

#[test]
fn by_grpc_with_a_certificate_of_our_own() {
    assert!(heard(&ours()).starts_with(b"PRI * HTTP/2.0\r\n"));
}

#[test]
fn without_one_nothing_gets_through() {
    for protocol in ["grpc", "http/protobuf"] {
        let variables: Vec<_> = ours().into_iter().filter(|(name, _)| !name.contains("CLIENT")).collect();
        let variables = [variables, vec![("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned())]].concat();
        assert_eq!(heard(&variables), b"", "{protocol}");
    }
}

#[test]
fn files_that_are_none_are_named_at_the_start() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (name, value, said) in [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem", "otlp.certificate: /nowhere/ca.pem: "),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere/me.key", "otlp.client_key: /nowhere/me.key: "),
    ] {
        let config = config("127.0.0.1:9".parse().unwrap(), &[(name, value.to_owned())]);
        let error = Otlp::start(&config.otlp, "https://127.0.0.1:9", WhenFull::Drop, runtime.handle());
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    let only = [("OTEL_EXPORTER_OTLP_CLIENT_KEY", tls("client.key").display().to_string())];
    let config = config("127.0.0.1:9".parse().unwrap(), &only);
    let error =
        Otlp::start(&config.otlp, "https://127.0.0.1:9", WhenFull::Drop, runtime.handle()).unwrap_err();
    assert_eq!(error.to_string(), "otlp.client_certificate: is needed with otlp.client_key");
}
