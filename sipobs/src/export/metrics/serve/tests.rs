use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::Runtime;

use super::*;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// For tests that wait for the end of it.
const HASTY: Limits = Limits { head: Duration::from_millis(300), whole: Duration::from_millis(1500) };

#[derive(Default)]
struct Daemon {
    ready: bool,
    refreshed: AtomicU32,
}

impl Health for Daemon {
    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.refreshed.fetch_add(1, Ordering::Relaxed);
        // As long as the capture thread may take to come round.
        Box::pin(sleep(Duration::from_millis(50)))
    }
    fn liveness(&self) -> Result<String, String> {
        Ok("ok".into())
    }
    fn readiness(&self) -> Result<String, String> {
        if self.ready { Ok("ok".into()) } else { Err("nothing is attached".into()) }
    }
}

struct Started {
    address: SocketAddr,
    daemon: Arc<Daemon>,
    connections: Arc<Connections>,
    _runtime: Runtime,
}

/// As the daemon starts it: one thread does it all.
fn start(limits: Limits, metrics: Metrics) -> Started {
    start_for(Access::default(), limits, metrics)
}

fn start_for(access: Access, limits: Limits, metrics: Metrics) -> Started {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let daemon = Arc::new(Daemon::default());
    let config = MetricsConfig::at(SocketAddr::from(([127, 0, 0, 1], 0)));
    let server = Arc::new(Server::new(&config, access, Arc::new(metrics), Arc::clone(&daemon) as _, limits));
    let connections = Arc::clone(&server.connections);
    let listener = runtime.block_on(async { listen(config.listen) }).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(server.run(listener));
    Started { address, daemon, connections, _runtime: runtime }
}

impl Started {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = self.connect();
        match stream.write_all(request.as_bytes()) {
            // It may be refused before all of it is sent.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
            result => result.unwrap(),
        }
        stream
    }

    /// What comes back, up to the end of the connection.
    fn ask(&self, request: &str) -> String {
        let mut answer = String::new();
        let _ = self.send(request).read_to_string(&mut answer);
        answer
    }

    fn is_well(&self) -> bool {
        self.ask("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").starts_with("HTTP/1.1 200")
    }
}

/// Whether the other side has closed it.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1024]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn serves_and_says_when_the_port_is_taken() {
    let server = start(Limits::default(), Metrics::new(["t"]));
    assert!(server.ask("GET /metrics HTTP/1.0\r\n\r\n").contains("sipobs_build_info{version="));
    assert!(server.ask("GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200"));
    let unready = server.ask("GET /readyz HTTP/1.0\r\n\r\n");
    assert!(unready.starts_with("HTTP/1.0 503") && unready.ends_with("nothing is attached\n"), "{unready}");

    let config = MetricsConfig::at(server.address);
    let again = serve(&config, Access::default(), Arc::new(Metrics::new([])), Arc::<Daemon>::default(), None);
    let error = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(again);
    let error = error.err().unwrap().to_string();
    let port = server.address;
    assert!(error.contains(&format!("cannot listen on {port}")) && error.contains("--metrics"), "{error}");
}

#[test]
fn idle_connections_make_way() {
    let server = start(Limits { head: PATIENCE, whole: PATIENCE }, Metrics::new([]));
    let mut idle: Vec<_> = (0..400).map(|_| server.connect()).collect();
    assert!(server.is_well());
    let scrape = server.ask("GET /metrics HTTP/1.0\r\n\r\n");
    let pushed_out =
        scrape.lines().find_map(|line| line.strip_prefix("sipobs_http_connections_pushed_out_total "));
    assert!(pushed_out.is_some_and(|count| count.parse::<u32>().unwrap() >= 380), "{scrape}");
    assert!(idle[..380].iter_mut().all(is_closed));
}

#[test]
fn slow_connections_are_closed_in_time() {
    let server = start(HASTY, Metrics::new([]));
    for beginning in ["", "G", "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let mut slow = server.send(beginning);
        // More now and then does not help.
        let mut more = slow.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            while more.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert!(is_closed(&mut slow) || is_closed(&mut slow), "{beginning:?}");
        drop(slow);
        writer.join().unwrap();
    }
    // A body that does not come; an answer that nobody reads.
    let posted =
        server.ask("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx");
    assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
    let trunks: Vec<String> = (0..400).map(|number| format!("trunk{number}")).collect();
    let large = start(HASTY, Metrics::new(trunks.iter().map(String::as_str)));
    let _unread = large.send("GET /metrics HTTP/1.0\r\n\r\n");
    let begun = Instant::now();
    while large.connections.open() == 0 {
        assert!(begun.elapsed() < PATIENCE, "it does not come");
    }
    while large.connections.open() > 0 {
        assert!(begun.elapsed() < PATIENCE, "it does not go");
        std::thread::sleep(HASTY.head);
    }
    assert!(large.is_well());
}

#[test]
fn a_connection_carries_one_request() {
    let server = start(Limits::default(), Metrics::new([]));
    let one = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n";
    let answer = server.ask(&one.repeat(50));
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[test]
fn a_client_that_has_said_all_is_answered() {
    let server = start(Limits::default(), Metrics::new([]));
    let accept = "Accept: application/openmetrics-text";
    let mut stream = server.send(&format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n\r\n"));
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("# EOF\n"), "{answer}");
}

#[test]
fn who_does_not_ask_for_openmetrics_gets_the_text_format() {
    let server = start(Limits::default(), Metrics::new(["t"]));
    let answer = server.ask("GET /metrics HTTP/1.0\r\n\r\n");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4") && !answer.contains("# EOF"),
        "{answer}"
    );
    assert!(answer.contains("\n# TYPE sipobs_transfer_attempts_total counter\n"), "{answer}");
    assert!(answer.contains("\n# TYPE sipobs_build_info gauge\n"), "{answer}");
}

#[test]
fn nonsense_is_refused() {
    let server = start(Limits::default(), Metrics::new([]));
    let huge = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: x\r\n".repeat(2000));
    let foreign = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned();
    let twice = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".to_owned();
    let absolute = "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
    for (request, status) in [
        (huge, "431"),
        (many, "431"),
        (foreign, "421"),
        (twice, "400"),
        (absolute, "421"),
        ("\r\n\0\x16".into(), "400"),
    ] {
        let answer = server.ask(&request);
        let head: String = request.chars().take(60).collect();
        // What is sent on after an answer may cost the answer: then the connection is just gone.
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{head:?}: {answer}");
        assert!(!answer.contains("sipobs_") && !answer.contains("evil"), "{answer}");
    }
    assert!(server.is_well());
}

#[test]
fn who_scrapes_at_the_same_time_shares_a_scrape() {
    let server = start(Limits::default(), Metrics::new([]));
    let begun = Instant::now();
    for _ in 0..5 {
        let scrape = "GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n";
        let scrapes: Vec<_> = (0..15).map(|_| server.send(scrape)).collect();
        for mut scrape in scrapes {
            let mut text = String::new();
            scrape.read_to_string(&mut text).unwrap();
            assert!(text.ends_with("# EOF\n"), "{text}");
        }
    }
    let most = begun.elapsed().as_millis() / PACE.as_millis() + 1;
    let refreshed = server.daemon.refreshed.load(Ordering::Relaxed);
    assert!((5..=most).contains(&u128::from(refreshed)), "{refreshed} of 75, {most} at most");
}

const TOKEN: &str = "0123456789abcdef";

fn access(text: &str) -> Result<Access, AccessError> {
    Access::read(&toml::from_str(text).unwrap())
}

#[test]
fn the_metrics_take_the_token_and_probes_take_none() {
    let access = access(&format!("token = \"{TOKEN}\"")).unwrap();
    let server = start_for(access, Limits::default(), Metrics::new(["t"]));
    let ask = |path: &str, header: &str| server.ask(&format!("GET {path} HTTP/1.0\r\n{header}\r\n"));
    for right in
        [format!("Authorization: Bearer {TOKEN}\r\n"), format!("authorization: bearer  {TOKEN} \r\n")]
    {
        assert!(ask("/metrics", &right).contains("sipobs_build_info{"), "{right}");
    }
    for wrong in [
        "",
        "Authorization: \r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer 0123456789abcdeg\r\n",
        "Authorization: Bearer 0123456789abcde\r\n",
        "Authorization: Bearer 0123456789abcdef0\r\n",
        "Authorization: Basic 0123456789abcdef\r\n",
        "Authorization: 0123456789abcdef\r\n",
        "Authorization: Bearer 0123456789abcdef\r\nAuthorization: Bearer 0123456789abcdef\r\n",
        "X-Authorization: Bearer 0123456789abcdef\r\n",
    ] {
        let refused = ask("/metrics", wrong);
        assert!(refused.starts_with("HTTP/1.0 401") && !refused.contains("sipobs_"), "{wrong}: {refused}");
        assert!(refused.to_ascii_lowercase().contains("www-authenticate: bearer"), "{refused}");
    }
    assert!(ask("/healthz", "").starts_with("HTTP/1.0 200"));
    assert!(ask("/readyz", "").starts_with("HTTP/1.0 503"));
}

fn tls(file: &str) -> String {
    format!("{}/tests/tls/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// What the server says to one who believes its authority and shows `identity`, a certificate and a key, if he has them.
fn over_tls(server: &Started, identity: Option<[&str; 2]>, request: &str) -> String {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(tls("authority.pem")).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots);
    let config = match identity {
        Some([certificate, key]) => config.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(tls(certificate)).unwrap()],
            PrivateKeyDer::from_pem_file(tls(key)).unwrap(),
        ),
        None => Ok(config.with_no_client_auth()),
    };
    let name = "127.0.0.1".try_into().unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config.unwrap()), name).unwrap();
    let mut stream = rustls::StreamOwned::new(client, server.connect());
    let mut answer = String::new();
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
    answer
}

#[test]
fn by_tls_a_certificate_of_the_authority_is_enough() {
    const SCRAPE: &str = "GET /metrics HTTP/1.0\r\n\r\n";
    const OURS: Option<[&str; 2]> = Some(["client.pem", "client.key"]);
    // One that is for servers.
    const OTHER: Option<[&str; 2]> = Some(["server.pem", "server.key"]);
    let (certificate, key) = (tls("server.pem"), tls("server.key"));
    let with = |more: &str| access(&format!("certificate = {certificate:?}\nkey = {key:?}\n{more}")).unwrap();
    let authority = |name| format!("client_authority = {:?}", tls(name));

    let server = start_for(with(&authority("authority.pem")), Limits::default(), Metrics::new(["t"]));
    assert!(over_tls(&server, OURS, SCRAPE).contains("sipobs_build_info{"));
    assert!(over_tls(&server, None, SCRAPE).starts_with("HTTP/1.0 401"));
    assert_eq!(over_tls(&server, OTHER, SCRAPE), "");
    // Kubelet shows no certificate.
    assert!(over_tls(&server, None, "GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200"));
    assert!(!server.ask(SCRAPE).contains("HTTP"), "nothing in the clear");

    let server = start_for(with(&authority("stranger.pem")), Limits::default(), Metrics::new(["t"]));
    assert_eq!(over_tls(&server, OURS, SCRAPE), "", "of another authority");

    let server = start_for(with(&format!("token = \"{TOKEN}\"")), HASTY, Metrics::new(["t"]));
    assert!(over_tls(&server, None, SCRAPE).starts_with("HTTP/1.0 401"));
    let with_token = format!("GET /metrics HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    assert!(over_tls(&server, None, &with_token).contains("sipobs_build_info{"));
    // Whoever connects and says nothing is let go.
    assert!(is_closed(&mut server.connect()));
}

#[test]
fn tls_is_part_of_a_connections_whole_time() {
    let (certificate, key) = (tls("server.pem"), tls("server.key"));
    let access = access(&format!("certificate = {certificate:?}\nkey = {key:?}")).unwrap();
    let limits = Limits { head: PATIENCE * 10, whole: HASTY.whole };
    let server = start_for(access, limits, Metrics::new([]));
    assert!(is_closed(&mut server.connect()), "it has said nothing, and may go on so");
}

#[test]
fn files_of_tls_that_are_none_are_told() {
    let (certificate, key) = (tls("server.pem"), tls("server.key"));
    let (other, stranger) = (tls("client.key"), tls("stranger.pem"));
    for (text, said) in [
        (format!("certificate = \"/nowhere\"\nkey = {key:?}"), "metrics.certificate: /nowhere: No such file"),
        (format!("certificate = {key:?}\nkey = {key:?}"), "holds no certificate (PEM)"),
        (format!("certificate = {certificate:?}\nkey = {certificate:?}"), "holds no private key (PEM)"),
        (format!("certificate = {certificate:?}\nkey = {other:?}"), "metrics.key: "),
        (format!("certificate = {stranger:?}\nkey = {key:?}"), "does not go with the certificate"),
        (
            format!("certificate = {certificate:?}\nkey = {key:?}\nclient_authority = {key:?}"),
            "metrics.client_authority: ",
        ),
    ] {
        let error = access(&text).err().unwrap().to_string();
        assert!(error.contains(said), "{error}");
    }
}
