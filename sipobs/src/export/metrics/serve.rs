//! The daemon's HTTP server: `/metrics`, `/healthz`, `/readyz`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Metrics;

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

/// Listens on `address` and serves until the returned future is dropped.
///
/// # Errors
///
/// When the address can't be had.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    health: Arc<dyn Health>,
) -> Result<impl Future<Output = ()> + Send, ServeError> {
    let listener =
        tokio::net::TcpListener::bind(address).await.map_err(|error| ServeError { address, error })?;
    let app = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state((metrics, health));
    Ok(async move {
        // It ends only with an error of accept(2) that axum does not retry, and it retries all of them.
        let _ = axum::serve(listener, app).await;
    })
}

type Served = (Arc<Metrics>, Arc<dyn Health>);

async fn scrape(State((metrics, health)): State<Served>) -> Response {
    health.refresh().await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.text()).into_response()
}

async fn healthz(State((_, health)): State<Served>) -> Response {
    said(health.liveness())
}

async fn readyz(State((_, health)): State<Served>) -> Response {
    said(health.liveness().and_then(|_| health.readiness()))
}

fn said(state: Result<String, String>) -> Response {
    match state {
        Ok(text) => (StatusCode::OK, format!("{text}\n")).into_response(),
        Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    struct Ready(bool);

    impl Health for Ready {
        fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(async {})
        }
        fn liveness(&self) -> Result<String, String> {
            Ok("ok".into())
        }
        fn readiness(&self) -> Result<String, String> {
            if self.0 { Ok("ok".into()) } else { Err("nothing is attached".into()) }
        }
    }

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn serves_and_says_when_the_port_is_taken() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let start = |ready| serve(port, Arc::new(Metrics::new(["t"])), Arc::new(Ready(ready)));
        let server = runtime.block_on(start(false)).map(|server| runtime.spawn(server)).unwrap();

        assert!(ask(port, "/metrics").contains("sipobs_build_info{version="));
        assert!(ask(port, "/healthz").starts_with("HTTP/1.0 200"));
        let unready = ask(port, "/readyz");
        assert!(
            unready.starts_with("HTTP/1.0 503") && unready.ends_with("nothing is attached\n"),
            "{unready}"
        );

        let error = runtime.block_on(start(true)).err().unwrap().to_string();
        assert!(
            error.contains(&format!("cannot listen on {port}")) && error.contains("--metrics"),
            "{error}"
        );
        server.abort();
    }
}
