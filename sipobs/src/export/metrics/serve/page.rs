//! The page's part of the server: the page, its events, one verdict, a file of evidence.

use std::fs::File;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, middleware};
use hyper::body::{Frame, SizeHint};
use tokio::time::timeout;

use super::access::ShownCertificate;
use super::{NOT_YOURS, Served, Server};
use crate::export::accounting::{Accounts, Exposition};
use crate::export::page::{self, Page};
use crate::files::{self, Kind, Links};

/// How long an answer waits for news: a connection has no more than 15 s.
const WAIT: Duration = Duration::from_secs(10);
/// Events that come close together go in one answer.
const GATHER: Duration = Duration::from_millis(100);
/// What is read of a file at once.
const PIECE: usize = 64 << 10;

/// What the page answers to, for those who have access.
pub(super) fn routes(server: &Arc<Server>) -> Router<Arc<Server>> {
    if server.page.is_none() {
        return Router::new();
    }
    Router::new()
        .route("/", get(whole))
        .route("/now", get(now))
        .route("/now/{trunk}", get(now_of))
        .route("/events", get(events))
        .route("/verdict/{id}", get(verdict))
        .route("/evidence/{name}", get(evidence))
        .layer(middleware::from_fn_with_state(Arc::clone(server), permitted))
}

async fn permitted(
    State(server): Served,
    Extension(shown): Extension<ShownCertificate>,
    request: Request,
    next: Next,
) -> Response {
    if !server.access.permits(request.headers(), shown) {
        let ask = (header::WWW_AUTHENTICATE, "Basic realm=\"sipobs: metrics.token as the password\"");
        return (StatusCode::UNAUTHORIZED, [ask], NOT_YOURS).into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

fn of(server: &Server) -> Result<&Arc<Page>, StatusCode> {
    server.page.as_ref().ok_or(StatusCode::NOT_FOUND)
}

const HTML: &str = "text/html; charset=utf-8";

async fn whole(State(server): Served) -> Result<Response, StatusCode> {
    let head = [(header::CONTENT_TYPE, HTML.to_owned()), (header::CONTENT_SECURITY_POLICY, Page::policy())];
    let state = state(&server).await;
    Ok((head, of(&server)?.html(&state)).into_response())
}

/// How the capture is, by what `/readyz` says and what `/metrics` counts.
async fn state(server: &Server) -> page::State {
    let (_, text) = server.scrape().await;
    let accounts =
        Exposition::parse(&String::from_utf8_lossy(&text)).and_then(|metrics| Accounts::of(&metrics));
    let lost = accounts.map_or_else(|error| format!("not known: {error}"), |accounts| accounts.gone());
    page::State { readiness: server.readiness(), lost }
}

/// What of the page changes, but for the list.
async fn now(State(server): Served) -> Result<Response, StatusCode> {
    changes(&server, None).await
}

/// The same, with the picture of one trunk.
async fn now_of(State(server): Served, Path(trunk): Path<String>) -> Result<Response, StatusCode> {
    changes(&server, Some(&trunk)).await
}

async fn changes(server: &Server, trunk: Option<&str>) -> Result<Response, StatusCode> {
    let state = state(server).await;
    Ok(([(header::CONTENT_TYPE, HTML)], of(server)?.now(&state, trunk).into_string()).into_response())
}

/// What is new since the event that the browser has read last. It waits a while where nothing is; then the answer ends,
/// and the browser asks anew: nobody is sent more than one answer at a time, however slowly he reads.
async fn events(State(server): Served, headers: HeaderMap) -> Result<Response, StatusCode> {
    let page = of(&server)?;
    let last =
        headers.get("last-event-id").and_then(|last| last.to_str().ok()).filter(|last| !last.is_empty());
    let mut newest = page.newest();
    if !page.has_more(last) && timeout(WAIT, newest.changed()).await.is_ok() {
        tokio::time::sleep(GATHER).await;
    }
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], page.events(last)).into_response())
}

async fn verdict(
    State(server): Served,
    Path(id): Path<String>,
) -> Result<Response, (StatusCode, &'static str)> {
    let gone = (StatusCode::NOT_FOUND, "It is not kept any more; a file of records has it ([jsonl] path).\n");
    let text = of(&server).ok().and_then(|page| page.one(&id)).ok_or(gone)?;
    Ok(([(header::CONTENT_TYPE, HTML)], text).into_response())
}

async fn evidence(
    State(server): Served,
    Path(name): Path<String>,
) -> Result<Response, (StatusCode, &'static str)> {
    let none = (StatusCode::NOT_FOUND, "There is no such file: it is yet to be written, or has made way.\n");
    let id = name.strip_suffix(".pcapng").unwrap_or_default();
    let is_name = id.len() == 16 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let folder = of(&server).ok().and_then(|page| page.evidence()).filter(|_| is_name).ok_or(none)?;
    let file = files::open(&folder.join(&name), File::options().read(true), Links::Refuse, &[Kind::Regular]);
    let file = file.map_err(|_| none)?;
    let left = file.metadata().map_err(|_| none)?.len();
    let head = [
        (header::CONTENT_TYPE, "application/x-pcapng".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((head, Body::new(Pieces { file, left })).into_response())
}

/// A file in pieces, of which one at a time is in memory.
struct Pieces {
    file: File,
    left: u64,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let most = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; most];
        let read = match self.file.read(&mut piece) {
            // It was cut off meanwhile.
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        };
        Poll::Ready(Some(read.map(|read| {
            piece.truncate(read);
            self.left -= read as u64;
            Frame::data(piece.into())
        })))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
