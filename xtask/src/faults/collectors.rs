//! Collectors that are late, slow, or refuse: the spans' account comes out even, and the capture goes on.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::inside::{self, NameServer};
use super::peers::Peers;
use super::subject::Subject;
use super::{END, Ground, Seen, holds};
use crate::children::pause;
use crate::collector::Collector;
use crate::daemon::Metrics;
use crate::lab::{Lab, Side};

const URL: &str = "http://127.0.0.1:4900";

/// Nothing listens; then a collector does.
pub(super) fn late(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("collector-late")?;
    let mut subject = ground.plan(&lab).exporting(Collector::HTTP).start()?;
    let peers = Peers::new(&lab)?;
    transfers(&peers, "early")?;
    let metrics = subject.wait_count("sipobs_otlp_requests_failed_total", &[], 1)?;
    let early = Spans::accounted(&metrics)?;
    ensure!(early.made > 0 && early.waiting == early.made, "{early:?}");
    subject.wait_said("http://127.0.0.1:4318/v1/traces: ")?;
    let collector = Collector::start(&lab)?;
    subject.wait_count("sipobs_otlp_spans_acknowledged_total", &[], early.made)?;
    let received = collector.wait("every span", |spans| spans.len() as u64 >= early.made)?.len() as u64;
    let (_, said) = subject.stop(0, END)?;
    holds(&said, &["requests to the collector have failed"])?;
    Ok(Seen::Passed(format!("{} spans waited, {received} were received", early.made)))
}

/// A collector that takes longer than a request may.
pub(super) fn slow(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("collector-slow")?;
    let server = Server::start(&lab, 200, Duration::from_secs(5))?;
    let plan = ground.plan(&lab).exporting(URL).set("SIPOBS_OTLP__TIMEOUT", "300ms");
    let mut subject = plan.set("SIPOBS_OTLP__FLUSH", "1000ms").start()?;
    let peers = Peers::new(&lab)?;
    transfers(&peers, "slow")?;
    subject.wait_count("sipobs_otlp_requests_failed_total", &[], 1)?;
    let start = Instant::now();
    peers.flood(2000)?;
    let metrics = caught_up(&mut subject, 2000)?;
    let scraped = start.elapsed();
    let spans = Spans::accounted(&metrics)?;
    ensure!(spans.made > 0 && spans.acknowledged == 0 && spans.waiting == spans.made, "{spans:?}");
    ensure!(server.requests.load(Ordering::Relaxed) > 0, "the collector was never asked");
    let start = Instant::now();
    let (_, said) = subject.stop(1, END)?;
    ensure!(start.elapsed() < Duration::from_secs(7), "the end took {:?}", start.elapsed());
    holds(&said, &["spans were not delivered"])?;
    Ok(Seen::Passed(format!("2000 messages went by in {:.1} s meanwhile", scraped.as_secs_f32())))
}

/// 400: for good.
pub(super) fn refusing(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("collector-4xx")?;
    let _server = Server::start(&lab, 400, Duration::ZERO)?;
    let mut subject = ground.plan(&lab).exporting(URL).start()?;
    let peers = Peers::new(&lab)?;
    transfers(&peers, "refused")?;
    let metrics = subject.wait_count("sipobs_otlp_spans_dropped_total", &["reason=\"rejected\""], 1)?;
    let spans = Spans::accounted(&metrics)?;
    ensure!(spans.made == spans.dropped && spans.waiting == 0, "{spans:?}");
    subject.wait_said("requests to the collector have failed")?;
    let (_, said) = subject.stop(1, END)?;
    holds(&said, &["HTTP status 400", "spans were not delivered (queue full 0, refused "])?;
    Ok(Seen::Passed(format!("{} spans dropped as rejected, exit 1", spans.dropped)))
}

/// 503, then 200.
pub(super) fn failing(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("collector-5xx")?;
    let server = Server::start(&lab, 503, Duration::ZERO)?;
    let mut subject = ground.plan(&lab).exporting(URL).start()?;
    let peers = Peers::new(&lab)?;
    transfers(&peers, "failed")?;
    let metrics = subject.wait_count("sipobs_otlp_requests_failed_total", &[], 2)?;
    let before = Spans::accounted(&metrics)?;
    ensure!(before.made > 0 && before.waiting == before.made, "{before:?}");
    server.status.store(200, Ordering::Relaxed);
    let metrics = subject.wait_count("sipobs_otlp_spans_acknowledged_total", &[], before.made)?;
    let after = Spans::accounted(&metrics)?;
    ensure!(after.acknowledged == after.made && after.dropped == 0, "{after:?}");
    let (_, said) = subject.stop(0, END)?;
    holds(&said, &["HTTP status 503"])?;
    Ok(Seen::Passed(format!("{} spans delivered after two failures or more", after.made)))
}

/// A collector whose name server does not answer: the system asks it for many seconds.
pub(super) fn nameless(ground: &Ground) -> Result<Seen> {
    const FLUSH: Duration = Duration::from_millis(1000);
    let lab = Ground::lab("collector-dns")?;
    let names = NameServer::mute(&lab)?;
    let plan = ground.plan(&lab).exporting(NameServer::URL);
    let mut subject =
        names.asked_by(plan.set("SIPOBS_OTLP__FLUSH", format!("{}ms", FLUSH.as_millis()))).start()?;
    let peers = Peers::new(&lab)?;
    transfers(&peers, "unheard")?;
    subject.wait_count("sipobs_otlp_spans_waiting", &[], 1)?;
    let start = Instant::now();
    let (_, said) = subject.stop(1, END)?;
    let took = start.elapsed();
    // It takes two questions of five seconds.
    ensure!(took < FLUSH + Duration::from_secs(3), "the end took {took:?}");
    holds(&said, &["spans were not delivered"])?;
    Ok(Seen::Passed(format!("exit 1 in {:.1} s", took.as_secs_f32())))
}

/// A call that ends in a transfer, and its verdict.
fn transfers(peers: &Peers, id: &str) -> Result<()> {
    let call = peers.call(id)?;
    call.refer()?;
    call.transferred()
}

/// Waits until so many messages more than a few have been read.
fn caught_up(subject: &mut Subject<'_>, messages: u64) -> Result<Metrics> {
    let metrics = subject.wait_count("sipobs_messages_total", &[], messages)?;
    // The capture thread answered the scrape itself: it does not hang.
    pause(Duration::from_millis(20))?;
    Ok(metrics)
}

/// What became of spans.
#[derive(Clone, Copy, Debug)]
struct Spans {
    made: u64,
    acknowledged: u64,
    dropped: u64,
    waiting: u64,
}

impl Spans {
    /// `made = acknowledged + dropped + waiting`.
    fn accounted(metrics: &Metrics) -> Result<Self> {
        let spans = Self {
            made: metrics.sum("sipobs_otlp_spans_total", &[])?,
            acknowledged: metrics.sum("sipobs_otlp_spans_acknowledged_total", &[])?,
            dropped: metrics.sum("sipobs_otlp_spans_dropped_total", &[])?,
            waiting: metrics.sum("sipobs_otlp_spans_waiting", &[])?,
        };
        let sum = spans.acknowledged + spans.dropped + spans.waiting;
        ensure!(spans.made == sum, "{} spans made, {sum} accounted for: {spans:?}", spans.made);
        Ok(spans)
    }
}

/// A collector that answers as told.
struct Server {
    status: Arc<AtomicU16>,
    requests: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Server {
    /// Answers every request with `status`, after `delay`.
    fn start(lab: &Lab, status: u16, delay: Duration) -> Result<Self> {
        let listener = inside::listen(lab, Side::Agent, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4900))?;
        listener.set_nonblocking(true)?;
        let server =
            Self { status: Arc::new(AtomicU16::new(status)), requests: Arc::default(), over: Arc::default() };
        let (status, requests, over) =
            (Arc::clone(&server.status), Arc::clone(&server.requests), Arc::clone(&server.over));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let (status, requests) = (Arc::clone(&status), Arc::clone(&requests));
                thread::spawn(move || {
                    // A client that has gone away is no failure of the test's.
                    let _ = answer(stream, &status, &requests, delay);
                });
            }
        });
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// One request, one answer.
fn answer(
    mut stream: TcpStream,
    status: &AtomicU16,
    requests: &AtomicU64,
    delay: Duration,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..read]);
        if read == 0 || is_whole(&request) {
            break;
        }
    }
    requests.fetch_add(1, Ordering::Relaxed);
    thread::sleep(delay);
    let status = status.load(Ordering::Relaxed);
    let head = "Content-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close";
    write!(stream, "HTTP/1.1 {status} Told\r\n{head}\r\n\r\n")
}

/// Whether the body is there in full, as the head announces it.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}
