//! The webhook against a server that takes, fails, hangs, and is not there.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use sha2::Sha256;
use sipobs::config::{Config, Endpoint};
use sipobs::engine::Engine;
use sipobs::export::Sink as _;
use sipobs::export::webhook::{SIGNATURE, Webhook};
use sipobs::record::Output;

const SECRET: &str = "0123456789abcdef";

/// What a server does with a request.
#[derive(Clone, Copy)]
enum Reaction {
    Status(u16),
    /// Reads it, and says nothing.
    Hang,
    /// Closes the connection at once.
    Close,
}
use Reaction::{Close, Hang, Status};

mod common;

/// A connection, in the clear or not.
trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// A request as the server got it.
struct Request {
    head: String,
    body: Vec<u8>,
}

#[test]
fn an_early_word_comes_first_and_the_verdict_has_the_same_id() {
    let (address, requests) = server(TcpListener::bind("127.0.0.1:0").unwrap(), vec![Status(204); 64]);
    let outputs = outputs("06_trunk_success");
    let mut webhook = webhook(address, "");
    for output in &outputs {
        webhook.output(output).unwrap();
    }
    let sent: Vec<Value> = requests.try_iter().map(|request| read(&request)).collect();
    let kinds: Vec<&str> = sent.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["notice", "transfer"], "no news, no word; and no ordinary call");
    assert_eq!(sent[0]["id"], sent[1]["id"]);
    assert_eq!((&sent[0]["outcome"], &sent[1]["outcome"]), (&"succeeded".into(), &"succeeded".into()));
    assert!(sent.iter().all(|record| !record.to_string().contains("5105550177")), "masked");
}

#[test]
fn what_fails_for_a_while_is_tried_again_with_a_fresh_signature() {
    let reactions = vec![Status(503), Close, Hang, Status(429), Status(200)];
    let (address, requests) = server(TcpListener::bind("127.0.0.1:0").unwrap(), reactions);
    webhook(address, "").output(&transfer()).unwrap();
    let tries: Vec<Value> = requests.try_iter().map(|request| read(&request)).collect();
    // The connection that was closed at once carried no request.
    assert_eq!(tries.len(), 4);
    assert!(tries.iter().all(|record| *record == tries[0]));
}

#[test]
fn over_tls_it_is_signed_and_tried_again_too() {
    let reactions = vec![Status(503), Close, Hang, Status(200)];
    let (address, requests) = tls_server(reactions);
    over_tls(address, "authority.pem", "").output(&transfer()).unwrap();
    let tries: Vec<Value> = requests.try_iter().map(|request| read(&request)).collect();
    assert_eq!(tries.len(), 3, "one connection carried none");
    assert!(tries.iter().all(|record| *record == tries[0]));
}

#[test]
fn a_server_that_cannot_show_who_it_is_gets_nothing() {
    // Of another authority; and in the clear, where TLS was asked for.
    let (address, requests) = tls_server(vec![Status(200); 64]);
    let (clear, in_clear) = server(TcpListener::bind("127.0.0.1:0").unwrap(), vec![Hang; 64]);
    for (address, authority) in [(address, "stranger.pem"), (clear, "authority.pem")] {
        let error =
            over_tls(address, authority, "retry = \"2s\"").output(&transfer()).unwrap_err().to_string();
        assert!(error.contains("given up after 2 s") && !error.contains("q5ecret"), "{error}");
    }
    assert_eq!(requests.try_iter().chain(in_clear.try_iter()).count(), 0);
}

#[test]
fn a_server_that_comes_late_gets_it_all_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let sending = thread::spawn(move || webhook(address, "").output(&transfer()));
    thread::sleep(Duration::from_millis(700));
    let (_, requests) = server(TcpListener::bind(address).unwrap(), vec![Status(200)]);
    sending.join().unwrap().unwrap();
    assert_eq!(requests.try_iter().count(), 1);
}

#[test]
fn what_is_refused_or_never_taken_is_given_up_and_no_secret_is_told() {
    let (address, requests) = server(TcpListener::bind("127.0.0.1:0").unwrap(), vec![Status(401)]);
    let error = webhook(address, "").output(&transfer()).unwrap_err().to_string();
    assert!(error.contains("HTTP status 401") && !error.contains("q5ecret"), "{error}");
    assert_eq!(requests.try_iter().count(), 1, "not tried again");

    let (address, requests) = server(TcpListener::bind("127.0.0.1:0").unwrap(), vec![Status(302)]);
    webhook(address, "").output(&transfer()).unwrap_err();
    assert_eq!(requests.try_iter().count(), 1, "not sent elsewhere");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = webhook(address, "retry = \"1s\"").output(&transfer()).unwrap_err().to_string();
    assert!(error.contains("given up after 1 s") && !error.contains("q5ecret"), "{error}");
}

#[test]
fn what_cannot_be_used_is_told() {
    let config = config("127.0.0.1:9".parse().unwrap(), "certificate = \"/nowhere/ca.pem\"");
    let url = config.webhook.url.clone().unwrap();
    let error = Webhook::check(&config.webhook, &url).unwrap_err().to_string();
    assert!(error.starts_with("webhook.certificate: /nowhere/ca.pem: "), "{error}");
    let url = Endpoint::new("http://:q5ecret@/");
    let error = Webhook::check(&Config::default().webhook, &url).unwrap_err().to_string();
    assert_eq!(error, "webhook.secret is missing");
}

#[test]
fn a_secret_in_a_file_of_its_own() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
    let variables = [
        ("SIPOBS_WEBHOOK__URL", "http://127.0.0.1:9/"),
        ("SIPOBS_WEBHOOK__SECRET_FILE", file.path().to_str().unwrap()),
    ];
    let variables = || variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (config, warnings) = Config::load(None, variables()).unwrap();
    config.check().unwrap();
    assert_eq!(config.webhook.secret().unwrap().expose(), SECRET);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(!config.to_toml().unwrap().contains(SECRET));
    std::fs::write(file.path(), "short\n").unwrap();
    let error = Config::load(None, variables()).unwrap().0.check().unwrap_err().to_string();
    assert!(error.contains("at least 16 bytes") && !error.contains("short"), "{error}");
}

fn webhook(address: SocketAddr, more: &str) -> Webhook {
    webhook_of(&config(address, more))
}

/// Believes a server that one of the authorities in `tests/tls` signed.
fn over_tls(address: SocketAddr, authority: &str, more: &str) -> Webhook {
    let more = format!("certificate = \"{}\"\n{more}", tls(authority).display());
    webhook_of(&config_at(&format!("https://{address}"), &more))
}

fn tls(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(file)
}

fn webhook_of(config: &Config) -> Webhook {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    Webhook::new(&config.webhook, config.webhook.url.as_ref().unwrap(), "node".into(), runtime).unwrap()
}

fn config(address: SocketAddr, more: &str) -> Config {
    config_at(&format!("http://{address}"), more)
}

fn config_at(server: &str, more: &str) -> Config {
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = format!("{server}/hook?token=q5ecret");
    let text = format!("[webhook]\nurl = \"{url}\"\nsecret = \"{SECRET}\"\ntimeout = \"300ms\"\n{more}");
    std::fs::write(file.path(), text).unwrap();
    let (config, _) = Config::load(Some(file.path()), []).unwrap();
    config.check().unwrap();
    config
}

/// All that a golden case leads to, in time order, notices among it.
fn outputs(case: &str) -> Vec<Output> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case).join("input.pcap");
    let mut config = Config::default();
    config.webhook.url = Some(Endpoint::new("http://127.0.0.1:9"));
    let mut engine = Engine::new(config.engine(), config.privacy().unwrap()).unwrap();
    let frames = common::frames(&path);
    frames.iter().for_each(|frame| engine.frame(frame));
    engine.finish(frames.last().unwrap().time);
    std::iter::from_fn(|| engine.poll_output()).collect()
}

fn transfer() -> Output {
    let mut outputs = outputs("06_trunk_success").into_iter();
    outputs.find(|output| matches!(output, Output::Transfer(_))).unwrap()
}

/// What a request holds, if its signature is right.
fn read(request: &Request) -> Value {
    assert!(request.head.starts_with("POST /hook?token=q5ecret HTTP/1.1\r\n"), "{}", request.head);
    let header = |name: &str| {
        let mut lines = request.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).unwrap()
    };
    assert_eq!(header("Content-Type"), "application/json");
    let signature = header(SIGNATURE);
    let (time, signature) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let mut hmac: Hmac<Sha256> = Hmac::new_from_slice(SECRET.as_bytes()).unwrap();
    hmac.update(time.as_bytes());
    hmac.update(b".");
    hmac.update(&request.body);
    let sum: String = hmac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(signature, sum);
    let ours = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(time.parse::<u64>().unwrap().abs_diff(ours) < 60, "signed at {time}, read at {ours}");
    serde_json::from_slice(&request.body).unwrap()
}

/// A server in a thread of its own, which reacts to one connection after another.
fn server(listener: TcpListener, reactions: Vec<Reaction>) -> (SocketAddr, Receiver<Request>) {
    serve(listener, reactions, |stream| Box::new(stream))
}

/// The same over TLS, with the certificate in `tests/tls`.
fn tls_server(reactions: Vec<Reaction>) -> (SocketAddr, Receiver<Request>) {
    let chain = vec![CertificateDer::from_pem_file(tls("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(tls("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    serve(TcpListener::bind("127.0.0.1:0").unwrap(), reactions, move |stream| {
        Box::new(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream))
    })
}

fn serve(
    listener: TcpListener,
    reactions: Vec<Reaction>,
    wrap: impl Fn(TcpStream) -> Box<dyn Wire> + Send + 'static,
) -> (SocketAddr, Receiver<Request>) {
    let address = listener.local_addr().unwrap();
    let (seen, requests) = channel();
    thread::spawn(move || {
        let mut hung = Vec::new();
        for reaction in reactions {
            let Ok((stream, _)) = listener.accept() else { return };
            hung.extend(react(wrap(stream), reaction, &seen));
        }
    });
    (address, requests)
}

/// Takes what comes over one connection, which may be nothing that it understands.
fn react(mut stream: Box<dyn Wire>, reaction: Reaction, seen: &Sender<Request>) -> Option<Box<dyn Wire>> {
    if matches!(reaction, Close) {
        return None;
    }
    let mut reader = BufReader::new(&mut *stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        // Who does not trust the server says nothing but that.
        if reader.read_line(&mut head).is_ok_and(|read| read > 0) {
            continue;
        }
        assert!(head.is_empty(), "cut short: {head}");
        return None;
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).unwrap();
    let _ = seen.send(Request { head, body });
    match reaction {
        Status(status) => {
            let more = "Location: http://127.0.0.1:9/\r\nContent-Length: 0\r\nConnection: close\r\n";
            write!(stream, "HTTP/1.1 {status} Any\r\n{more}\r\n").unwrap();
            None
        }
        Hang => Some(stream),
        Close => None,
    }
}
