//! The daemon's HTTP server: `/metrics`, `/healthz`, `/readyz`, and the page where there is one.
//!
//! Whoever reaches it can't keep it from answering others: a connection carries one request, has little time, and
//! makes way for newer ones; and however many scrape, the capture is asked for its counters a few times a second.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower_service::Service as _;

use self::access::ShownCertificate;
use self::connections::{Connections, Place};
use self::host::Names;
use super::{Metrics, plain};
use crate::config::MetricsConfig;
use crate::export::page::Page;

mod access;
mod connections;
mod host;
mod page;

pub use self::access::{Access, AccessError};

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
#[error("metrics.listen: cannot listen on {address}: {error}{}", hint(.error))]
pub struct ServeError {
    /// Where it should listen.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process has the port; set another with --metrics)",
        _ => "",
    }
}

/// What the server asks of the process it speaks for.
pub trait Health: Send + Sync + 'static {
    /// Brings the counters up to date, if that can be had soon.
    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Says that the process is well, or why it should be restarted.
    fn liveness(&self) -> Result<String, String>;

    /// Says that it does what it is meant to, or why not (yet, or any more).
    fn readiness(&self) -> Result<String, String>;
}

/// Listens as configured and serves those who have `access` until the returned future is dropped.
///
/// # Errors
///
/// When the address can't be had.
pub async fn serve(
    config: &MetricsConfig,
    access: Access,
    metrics: Arc<Metrics>,
    health: Arc<dyn Health>,
    page: Option<Arc<Page>>,
) -> Result<impl Future<Output = ()> + Send + use<>, ServeError> {
    let address = config.listen;
    let listener = listen(address).map_err(|error| ServeError { address, error })?;
    let mut server = Server::new(config, access, metrics, health, Limits::default());
    server.page = page;
    Ok(Arc::new(server).run(listener))
}

/// Connections that may wait to be accepted: the kernel drops those beyond, which then are tried again a second later,
/// too late for a probe. It may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The time that others may take of ours.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For TLS and a request's head, from the connection's beginning.
    head: Duration,
    /// For a whole connection: fresh counters may take 2 s, a Prometheus waits for 10.
    whole: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: Duration::from_secs(5), whole: Duration::from_secs(15) }
    }
}

/// Bytes of a request's head at most.
const HEAD_BYTES: usize = 16 << 10;

/// After an error of accept(2) that is not one connection's.
const BREATH: Duration = Duration::from_millis(100);

struct Server {
    names: Names,
    access: Access,
    limits: Limits,
    metrics: Arc<Metrics>,
    health: Arc<dyn Health>,
    scrapes: Mutex<Scrape>,
    connections: Arc<Connections>,
    page: Option<Arc<Page>>,
}

type Served = State<Arc<Server>>;

impl Server {
    fn new(
        config: &MetricsConfig,
        access: Access,
        metrics: Arc<Metrics>,
        health: Arc<dyn Health>,
        limits: Limits,
    ) -> Self {
        let names = Names::new(config.listen.ip(), &config.hosts);
        let connections = Arc::new(Connections::new(metrics.pushed_out.clone()));
        Self { names, access, limits, metrics, health, scrapes: Mutex::default(), connections, page: None }
    }

    async fn run(self: Arc<Self>, listener: TcpListener) {
        let router = Router::new()
            .route("/metrics", get(scrape))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .merge(page::routes(&self))
            .with_state(Arc::clone(&self));
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self
                    .connections
                    .admit(peer.ip(), |place| Arc::clone(&self).connection(stream, place, router.clone())),
                // Of descriptors there is none left, which one of ours may give back.
                Err(error) if !is_of_connection(&error) && !self.connections.push_out() => {
                    sleep(BREATH).await;
                }
                Err(_) => {}
            }
            // A connection that has sent its request is served before the next one can take its place.
            tokio::task::yield_now().await;
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, place: Place, router: Router) {
        let Ok(local) = stream.local_addr() else { return };
        let begun = Instant::now();
        let spoken = async {
            let Some(tls) = self.access.tls() else {
                return self.speak(stream, local.ip(), ShownCertificate(false), place, router, begun).await;
            };
            // Whoever it does not come about with hears why in TLS's own words.
            if let Ok(Ok(stream)) = timeout(self.limits.head, tls.accept(stream)).await {
                let shown = ShownCertificate(stream.get_ref().1.peer_certificates().is_some());
                self.speak(stream, local.ip(), shown, place, router, begun).await;
            }
        };
        // However it ends: the other side knows.
        let _ = timeout(self.limits.whole, spoken).await;
    }

    /// Reads one request and answers it, on a connection that began at `begun`.
    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        local: IpAddr,
        shown: ShownCertificate,
        place: Place,
        router: Router,
        begun: Instant,
    ) {
        let place = Arc::new(place);
        let answer = |mut request: Request<Incoming>| {
            place.asked();
            request.extensions_mut().insert(shown);
            let (place, router) = (Arc::clone(&place), router.clone());
            async move { Ok::<_, Infallible>(self.answer(request, local, place, router).await) }
        };
        let left = self.limits.head.saturating_sub(begun.elapsed());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(left);
        http.keep_alive(false).half_close(true).max_buf_size(HEAD_BYTES);
        let _ = http.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer)).await;
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        local: IpAddr,
        place: Arc<Place>,
        mut router: Router,
    ) -> Response {
        if let Some(status) = self.names.refuse(local, &request) {
            return (status, NOT_OURS).into_response();
        }
        request.extensions_mut().insert(place);
        match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

const NOT_OURS: &str =
    "By loopback sipobs answers to localhost and loopback addresses, and to the names in metrics.hosts.\n";

const NOT_YOURS: &str = "The metrics and the page take the token of metrics.token, or a certificate of metrics.client_authority.\n";

/// One connection failed, not the listener.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn scrape(
    State(server): Served,
    Extension(place): Extension<Arc<Place>>,
    Extension(shown): Extension<ShownCertificate>,
    headers: HeaderMap,
) -> Response {
    if !server.access.permits(&headers, shown) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], NOT_YOURS).into_response();
    }
    let (number, text) = server.scrape().await;
    place.is_sent(number);
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (kind, text) = if plain::wants_open_metrics(accept) {
        (plain::OPEN_METRICS, text)
    } else {
        (plain::PLAIN, plain::plain(&String::from_utf8_lossy(&text)).into())
    };
    ([(header::CONTENT_TYPE, kind), (header::VARY, "Accept")], text).into_response()
}

async fn healthz(State(server): Served) -> Response {
    said(server.health.liveness())
}

async fn readyz(State(server): Served) -> Response {
    said(server.readiness())
}

fn said(state: Result<String, String>) -> Response {
    match state {
        Ok(text) => (StatusCode::OK, format!("{text}\n")).into_response(),
        Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response(),
    }
}

/// The last scrape.
#[derive(Debug, Default)]
struct Scrape {
    number: u64,
    text: Bytes,
    /// When its counters were asked for.
    begun: Option<Instant>,
    /// When the next one may begin.
    next: Option<Instant>,
}

/// Least time from one scrape's beginning to the next one's; and so many times what writing it out took.
const PACE: Duration = Duration::from_millis(100);
const SHARE: u32 = 10;

impl Server {
    /// Whether all is as it should be, or what is not.
    fn readiness(&self) -> Result<String, String> {
        self.health.liveness().and_then(|_| self.health.readiness())
    }

    /// Counters from no earlier than now, and the scrape's number. Those who ask meanwhile share one.
    async fn scrape(&self) -> (u64, Bytes) {
        let asked = Instant::now();
        let mut last = self.scrapes.lock().await;
        if last.begun.is_some_and(|begun| begun >= asked) {
            return (last.number, last.text.clone());
        }
        if let Some(next) = last.next {
            sleep_until(next).await;
        }
        let begun = Instant::now();
        // Before the wait, at which whoever asked may go.
        last.next = Some(begun + PACE);
        self.health.refresh().await;
        let writing = Instant::now();
        let text = Bytes::from(self.metrics.text());
        let next = begun + PACE.max(writing.elapsed() * SHARE);
        *last = Scrape { number: last.number + 1, text, begun: Some(begun), next: Some(next) };
        (last.number, last.text.clone())
    }
}

#[cfg(test)]
mod tests;
