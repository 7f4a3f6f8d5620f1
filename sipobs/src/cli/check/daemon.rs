//! `sipobs check --live`: a running daemon's accounts, as its `/metrics` tell. Takes no privilege, and no build with
//! live capture.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use sipobs::config::MetricsConfig;
use sipobs::export::accounting::{Accounts, Exposition};
use sipobs::export::clean;

use crate::cli::{Exit, Failure, written};

/// The longest that connecting may take, and the whole answer. A daemon waits up to 2 s for fresh counters.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(10);
/// Beyond what a daemon with as many trunks as there may be has to say.
const MOST_BYTES: usize = 64 << 20;

/// Whom to ask by the configuration, and what to show: its token and, by TLS, a certificate of our own with its key.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) config: &'a MetricsConfig,
    pub(super) identity: Option<[&'a Path; 2]>,
}

/// Asks at `address`, else where the configuration says that a daemon serves; by TLS and with the token if it says so.
pub(super) fn check(address: Option<&str>, asking: Asking<'_>) -> Result<Exit, Failure> {
    let (name, addresses) = match address {
        Some(text) => (text.to_owned(), resolve(text).map_err(Failure::usage)?),
        None => {
            let address = reachable(asking.config.listen);
            (format!("{address} (metrics.listen)"), vec![address])
        }
    };
    let (accounts, unwell) = ask(&addresses, asking)
        .map_err(|error| Failure { exit: Exit::Capture, error: error.context(absent(&name)) })?;
    let (text, exit) = report(&name, &accounts, unwell.as_deref());
    match written(io::stdout().write_all(text.as_bytes())) {
        Exit::Done => Ok(exit),
        failed => Ok(failed),
    }
}

/// What to print, and how to exit.
fn report(name: &str, accounts: &Accounts, unwell: Option<&str>) -> (String, Exit) {
    let mut text = format!("{name}: {accounts}\n");
    let residuals = accounts.residuals();
    // A String takes everything.
    if let Some(unwell) = unwell {
        let _ = writeln!(text, "The daemon is NOT well, and these counts may be old: {unwell}.");
    } else if residuals.is_empty() {
        text.push_str("Every frame, message, span and record is accounted for.\n");
        let gone = accounts.gone();
        if !gone.is_empty() {
            let _ = writeln!(text, "Lost so far: {gone}");
        }
        return (text, Exit::Done);
    }
    if !residuals.is_empty() {
        text.push_str("NOT accounted for, which is a bug in sipobs:\n");
    }
    for residual in &residuals {
        let _ = writeln!(text, "  {residual}");
    }
    (text, Exit::Partial)
}

fn absent(name: &str) -> String {
    format!(
        "no sipobs daemon answers at {name}; where it serves is metrics.listen of its configuration, or its \
         --metrics: sipobs check --live HOST:PORT"
    )
}

fn resolve(text: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let found = text
        .to_socket_addrs()
        .with_context(|| format!("--live {text}: not HOST:PORT ([::1]:9464), or no such host"))?;
    let found: Vec<_> = found.collect();
    ensure!(!found.is_empty(), "--live {text}: no such host");
    Ok(found)
}

/// Where one that listens on `address` can be reached from its own host.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Its accounts, and what ails it, if something does.
fn ask(addresses: &[SocketAddr], asking: Asking<'_>) -> anyhow::Result<(Accounts, Option<String>)> {
    let (status, text) = fetch(addresses, "/metrics", asking)?;
    ensure!(
        status != 401,
        "it serves its metrics to those alone who show its token, or a certificate: give this command the daemon's own \
         configuration (metrics.token, metrics.token_file), or --certificate and --key"
    );
    // None of what another says is shown: nobody knows who wrote it.
    ensure!(status == 200, "what answers there has no /metrics: HTTP status {status}");
    let read = Exposition::parse(&text).and_then(|metrics| Accounts::of(&metrics));
    let accounts = read.context("its /metrics cannot be understood")?;
    let (status, text) = fetch(addresses, "/healthz", asking).context("its /healthz")?;
    let unwell: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
    Ok((accounts, (status != 200).then(|| clean(&unwell))))
}

/// Status and body of `path`, from the first of `addresses` that takes a connection.
fn fetch(addresses: &[SocketAddr], path: &str, asking: Asking<'_>) -> anyhow::Result<(u16, String)> {
    let token = asking.config.token().filter(|_| path == "/metrics");
    let shown =
        token.map(|token| format!("Authorization: Bearer {}\r\n", token.expose())).unwrap_or_default();
    let question = format!(
        "GET {path} HTTP/1.0\r\nConnection: close\r\nAccept: application/openmetrics-text\r\n{shown}\r\n"
    );
    let mut refused = anyhow!("no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT) {
            Ok(socket) => {
                let mut stream = wire(Timed::new(socket, ANSWER), asking)?;
                return understood(&answer(&mut *stream, &question, MOST_BYTES)?);
            }
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

/// A connection with a time in which all of it must be over, however little the other side says at a time.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) socket: TcpStream,
    time: Duration,
    end: Instant,
}

impl Timed {
    fn new(socket: TcpStream, time: Duration) -> Self {
        Self { socket, time, end: now() + time }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.end.saturating_duration_since(now());
        if left.is_zero() { Err(self.over()) } else { Ok(Some(left)) }
    }

    fn over(&self) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, format!("its answer takes longer than {:?}", self.time))
    }

    /// What the system calls a time that is over differs.
    fn said<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.over(),
            _ => error,
        })
    }
}

impl io::Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        let read = self.socket.read(into);
        self.said(read)
    }
}

impl io::Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        let written = self.socket.write(bytes);
        self.said(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

trait Wire: io::Read + io::Write {}
impl<T: io::Read + io::Write> Wire for T {}

/// `socket` as the daemon speaks by it.
fn wire(socket: Timed, asking: Asking<'_>) -> anyhow::Result<Box<dyn Wire>> {
    let Some(certificate) = &asking.config.certificate else { return Ok(Box::new(socket)) };
    #[cfg(feature = "daemon")]
    return Ok(Box::new(super::tls::over(socket, certificate, asking.identity)?));
    #[cfg(not(feature = "daemon"))]
    let _ = (socket, asking.identity);
    #[cfg(not(feature = "daemon"))]
    bail!("it speaks TLS (metrics.certificate: {}), and this build does not", certificate.display());
}

/// All that the other side says to `question` by `stream`, if it is no more than `most` bytes.
fn answer(stream: &mut dyn Wire, question: &str, most: usize) -> anyhow::Result<Vec<u8>> {
    stream.write_all(question.as_bytes())?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(answer),
            Ok(bytes) => answer.extend_from_slice(&chunk[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        ensure!(answer.len() <= most, "its answer is longer than {most} bytes");
    }
}

/// Status and body of an answer.
fn understood(answer: &[u8]) -> anyhow::Result<(u16, String)> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|at| at == END);
    // `HTTP/1.0 200 OK`; the phrase may be missing.
    let status = answer.strip_prefix(b"HTTP/1.").and_then(|head| head.get(2..)).and_then(|status| {
        let digits = status.split(|&byte| byte == b' ' || byte == b'\r').next()?;
        std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 3)?.parse::<u16>().ok()
    });
    let (Some(end), Some(status)) = (end, status) else {
        bail!("what answers there does not speak HTTP");
    };
    let body = answer[end + END.len()..].to_vec();
    Ok((status, String::from_utf8(body).context("what answers there gives no text")?))
}

#[allow(clippy::disallowed_methods, reason = "bounds the wait for an answer")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A daemon of ours, by what it says.
    const METRICS: &str = include_str!("../../export/accounting/sample.txt");

    fn by(config: &MetricsConfig) -> Asking<'_> {
        Asking { config, identity: None }
    }

    /// One that gives these answers, one after another.
    fn server(answers: Vec<Vec<u8>>) -> (SocketAddr, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let asked = stream.read(&mut request).unwrap();
                assert!(request[..asked].starts_with(b"GET /"));
                // The other side may have heard enough.
                let _ = answer.chunks(1000).try_for_each(|piece| stream.write_all(piece));
            }
        };
        (address, thread::spawn(serve))
    }

    #[test]
    fn a_daemon_is_believed_if_its_accounts_add_up() {
        let ask = |text: &str, health: &str| {
            let metrics = format!("HTTP/1.0 200 OK\r\nx: y\r\n\r\n{text}");
            let (address, server) = server(vec![metrics.into(), format!("HTTP/1.0 {health}").into()]);
            let (accounts, unwell) = ask(&[address], by(&MetricsConfig::default())).unwrap();
            server.join().unwrap();
            report("here", &accounts, unwell.as_deref())
        };
        const WELL: &str = "200 OK\r\n\r\nok\n";
        let (text, exit) = ask(METRICS, WELL);
        assert_eq!(exit, Exit::Done);
        assert!(text.starts_with("here: sipobs 0.1.0\n\nkernel\n"), "{text}");
        let end =
            "\nEvery frame, message, span and record is accounted for.\nLost so far: frames on their way";
        assert!(text.contains(end), "{text}");
        let (text, exit) = ask(&METRICS.replace("frames_read_total 37", "frames_read_total 36"), WELL);
        assert_eq!(exit, Exit::Partial);
        let end =
            "\n  kernel: matched: 1 in none of its parts\n  engine: frames read: its parts are 1 too many\n";
        assert!(text.ends_with(end), "{text}");
        let (text, exit) = ask(METRICS, "503 No\r\n\r\nthe capture thread hangs\n");
        assert_eq!(exit, Exit::Partial);
        assert!(text.ends_with("counts may be old: the capture thread hangs.\n"), "{text}");
        let (text, _) = ask(METRICS, "503 No\r\n\r\n\u{202e}it\x1b[2J\nhangs");
        assert!(text.ends_with("counts may be old: \u{fffd}it\u{fffd}[2J.\n"), "{text:?}");
    }

    #[test]
    fn who_is_no_daemon_of_ours_is_told() {
        for (answer, words) in [
            (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "does not speak HTTP"),
            (b"", "does not speak HTTP"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "does not speak HTTP"),
            (b"HTTP/1.1 204\r\n\r\n", "no /metrics: HTTP status 204"),
            (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "who show its token"),
            (b"HTTP/1.1 404 Not Found\r\n\r\nno", "no /metrics: HTTP status 404"),
            (b"HTTP/1.1 200 OK\r\n\r\n<html></html>", "no series of sipobs"),
            (b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe", "gives no text"),
            (b"HTTP/1.1 200 OK\r\n\r\nsipobs_state_write_failures_total 0\n", "cut short"),
            (b"HTTP/1.1 200 OK\r\n\r\nsipobs_x 0\n# EOF\n", "another version"),
        ] {
            let (address, server) = server(vec![answer.to_vec()]);
            let failure = check(Some(&address.to_string()), by(&MetricsConfig::default())).unwrap_err();
            server.join().unwrap();
            assert_eq!(failure.exit, Exit::Capture);
            let text = format!("{:#}", failure.error);
            assert!(text.starts_with("no sipobs daemon answers at 127.0.0.1:"), "{text}");
            assert!(text.contains(words) && text.contains("metrics.listen"), "{text}");
        }
    }

    #[test]
    fn an_answer_without_an_end_ends() {
        let (address, server) = server(vec![vec![b'x'; 1 << 20]]);
        let asked = |address, time| {
            let socket = TcpStream::connect(address).unwrap();
            answer(&mut Timed::new(socket, time), "GET / HTTP/1.0\r\n\r\n", 4096)
        };
        let error = asked(address, ANSWER).unwrap_err().to_string();
        server.join().unwrap();
        assert!(error.contains("longer than 4096 bytes"), "{error}");
        // One that is connected, and says nothing.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = asked(listener.local_addr().unwrap(), Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("takes longer than 50ms"), "{error}");
    }

    #[test]
    fn one_that_says_little_at_a_time_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dripping = thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                // The head of a TLS record of the greatest length, whose bytes come one by one; and they are no HTTP.
                let _ = stream.write_all(&[22, 3, 3, 0x40, 0]);
                while stream.write_all(&[2]).is_ok() {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
        let certificate = format!("{}/tests/tls/server.pem", env!("CARGO_MANIFEST_DIR"));
        let mut config = MetricsConfig::default();
        config.certificate = Some(certificate.into());
        let in_the_clear = MetricsConfig::default();
        for config in [&in_the_clear, &config] {
            if !cfg!(feature = "daemon") && config.certificate.is_some() {
                drop(TcpStream::connect(address).unwrap());
                continue;
            }
            let socket = Timed::new(TcpStream::connect(address).unwrap(), Duration::from_millis(100));
            let mut stream = wire(socket, by(config)).unwrap();
            let error = answer(&mut *stream, "GET / HTTP/1.0\r\n\r\n", MOST_BYTES).unwrap_err();
            assert!(error.to_string().contains("takes longer than 100ms"), "{error}");
        }
        dripping.join().unwrap();
    }

    #[cfg(feature = "daemon")]
    #[test]
    fn by_tls_the_daemon_is_known_by_its_certificate() {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let file = |name: &str| format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(std::sync::Arc::clone(&provider));
        let server = server.with_safe_default_protocol_versions();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file("authority.pem")).unwrap()).unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(std::sync::Arc::new(roots), provider);
        let server = server.unwrap().with_client_cert_verifier(verifier.build().unwrap()).with_single_cert(
            vec![CertificateDer::from_pem_file(file("server.pem")).unwrap()],
            PrivateKeyDer::from_pem_file(file("server.key")).unwrap(),
        );
        let server = std::sync::Arc::new(server.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in [
                format!("HTTP/1.0 200 OK\r\n\r\n{METRICS}"),
                "HTTP/1.0 200 OK\r\n\r\nok\n".into(),
                String::new(),
                String::new(),
            ] {
                let connection = rustls::ServerConnection::new(server.clone()).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, listener.accept().unwrap().0);
                let mut request = [0; 1024];
                let bytes = stream.read(&mut request).unwrap_or(0);
                asked.push(String::from_utf8_lossy(&request[..bytes]).into_owned());
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
            asked
        });
        let with = |certificate: &str| -> MetricsConfig {
            let text =
                format!("token = \"0123456789abcdef\"\ncertificate = {:?}\nkey = \"k\"", file(certificate));
            toml::from_str(&text).unwrap()
        };
        let [certificate, key] =
            ["client.pem", "client.key"].map(|name| std::path::PathBuf::from(file(name)));
        let config = with("server.pem");
        let asking = Asking { config: &config, identity: Some([&certificate, &key]) };
        let (_, unwell) = ask(&[address], asking).unwrap();
        assert_eq!(unwell, None);
        let error = format!("{:#}", ask(&[address], by(&with("stranger.pem"))).unwrap_err());
        assert!(error.contains("another certificate than metrics.certificate"), "{error}");
        let error = format!("{:#}", ask(&[address], by(&config)).unwrap_err());
        assert!(!error.contains("metrics.certificate"), "it asks for a certificate: {error}");
        let asked = serving.join().unwrap();
        assert!(asked[0].contains("Authorization: Bearer 0123456789abcdef\r\n"), "{asked:?}");
        assert!(!asked[1].contains("Authorization"), "/healthz takes none: {asked:?}");
        assert_eq!(asked[2], "", "nothing is said to another");
        assert_eq!(asked[3], "", "nor to one without a certificate");
    }

    #[test]
    fn nobody_there_is_told() {
        // Where nobody listens any more, and nobody else can: what was accepted there holds the port.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = listener.local_addr().unwrap();
        let _asker = TcpStream::connect(free).unwrap();
        let _held = listener.accept().unwrap();
        drop(listener);
        let failure = check(None, by(&MetricsConfig::at(free))).unwrap_err();
        let text = format!("{:#}", failure.error);
        assert_eq!(failure.exit, Exit::Capture);
        assert!(text.contains(&format!("{free} (metrics.listen)")) && text.contains("refused"), "{text}");
        let failure = check(Some("nowhere"), by(&MetricsConfig::default())).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }

    #[test]
    fn a_wildcard_is_reached_at_home() {
        for (listen, reached) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.1:1", "192.0.2.1:1")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), reached);
        }
    }
}
