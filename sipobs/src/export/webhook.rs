//! Early words and verdicts, signed, to an HTTP server of one's own.
//!
//! One record a request, as it stands in JSON lines, one after another: a notice comes before the record that it
//! announces. What the server does not take is tried again for a while, and then given up. All of this waits: the sink
//! belongs behind a queue of its own.
//!
//! A request is signed as
//!
//! ```text
//! X-Sipobs-Signature: t=1790000000,v1=HEX
//! ```
//!
//! where HEX is the HMAC-SHA-256, under the configured secret, of the digits behind `t=`, a full stop, and the body. `t` is
//! the time of this try in seconds since 1970: a server that compares it with its clock can't be told old news again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, USER_AGENT};
use sha2::Sha256;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use super::{Sink, Summary};
use crate::config::{Endpoint, WebhookConfig};
use crate::error_chain::chain;
use crate::files;
use crate::record::Output;

/// Before the second try; each further one is twice as far away, …
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// … up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Of a file with certificates.
const MOST_BYTES: u64 = 1 << 20;

/// The header with time and signature.
pub const SIGNATURE: &str = "X-Sipobs-Signature";

/// Why records can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The file of the authority can't be used.
    #[error("webhook.certificate: {path}: {reason}")]
    Certificate {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address can't be used.
    #[error("webhook.url: {0}")]
    Url(String),
    /// There is nothing to sign with.
    #[error("webhook.secret is missing")]
    Secret,
}

/// The sink. It waits until a record is taken or given up.
#[derive(Debug)]
pub struct Webhook {
    sender: Arc<Sender>,
    /// Where it captures.
    host: String,
    /// There until the end.
    runtime: Option<Runtime>,
}

impl Webhook {
    /// Sends to `url` what is found on `host`, by `runtime`, whose threads do all that concerns the network.
    ///
    /// # Errors
    ///
    /// When the configuration can't be used. A server that is not there is no error: it may come.
    pub fn new(
        config: &WebhookConfig,
        url: &Endpoint,
        host: String,
        runtime: Runtime,
    ) -> Result<Self, WebhookError> {
        Ok(Self { sender: Arc::new(Sender::new(config, url)?), host, runtime: Some(runtime) })
    }

    /// Looks for what can't be used.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn check(config: &WebhookConfig, url: &Endpoint) -> Result<(), WebhookError> {
        Sender::new(config, url).map(drop)
    }

    /// Whether an output is sent: early words of more than silence, attempts and alerts.
    pub fn wants(output: &Output) -> bool {
        match output {
            Output::Notice(notice) => notice.is_of_news(),
            Output::Transfer(_) | Output::Alert(_) => true,
            Output::Call(_) => false,
        }
    }
}

impl Sink for Webhook {
    fn output(&mut self, output: &Output) -> io::Result<()> {
        if !Self::wants(output) {
            return Ok(());
        }
        let body = serde_json::to_vec(&output.line(Some(&self.host)))?;
        let sender = Arc::clone(&self.sender);
        // Not in this thread, which may have no right to resolve a name.
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let sent = runtime.spawn(async move { sender.deliver(body).await });
        runtime.block_on(sent).map_err(io::Error::other)?.map_err(io::Error::other)
    }

    fn summary(&mut self, _summary: &Summary) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        // A name that nobody resolves keeps a thread of the runtime waiting for long.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Sends one record after another.
struct Sender {
    client: reqwest::Client,
    url: Endpoint,
    key: Hmac<Sha256>,
    retry: Duration,
}

impl std::fmt::Debug for Sender {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sender({})", self.url)
    }
}

/// Why a record was not taken.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// It may be taken later.
    TryLater(String),
    /// It will never be.
    Refused(String),
}

impl Sender {
    fn new(config: &WebhookConfig, url: &Endpoint) -> Result<Self, WebhookError> {
        // reqwest is built without a choice of its own; if another part of the program has chosen, well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let secret = config.secret().ok_or(WebhookError::Secret)?;
        let key = Hmac::new_from_slice(secret.expose().as_bytes()).map_err(|_| WebhookError::Secret)?;
        let unusable = |error: &dyn std::fmt::Display| WebhookError::Url(url.hide(&error.to_string()));
        let parsed = reqwest::Url::parse(url.expose()).map_err(|error| unusable(&error))?;
        // A signed record is for this server, and for no other that it names.
        let client =
            reqwest::Client::builder().timeout(config.timeout).redirect(reqwest::redirect::Policy::none());
        let client = match &config.certificate {
            Some(path) => client.tls_certs_only(authorities(path)?),
            // Without TLS the system's certificates are not looked for: in a container there may be none.
            None if parsed.scheme() == "http" => client.tls_certs_only([]),
            None => client,
        };
        let client = client.build().map_err(|error| unusable(&error))?;
        Ok(Self { client, url: url.clone(), key, retry: config.retry })
    }

    /// Sends a record until it is taken, or given up.
    async fn deliver(&self, body: Vec<u8>) -> Result<(), String> {
        let end = now() + self.retry;
        let mut pause = FIRST_PAUSE;
        loop {
            let why = match self.send(body.clone()).await {
                Ok(()) => return Ok(()),
                Err(Failure::Refused(why)) => return Err(format!("{}: {why}", self.url)),
                Err(Failure::TryLater(why)) => why,
            };
            if now() + pause > end {
                return Err(format!("{}: {why}; given up after {} s", self.url, self.retry.as_secs()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn send(&self, body: Vec<u8>) -> Result<(), Failure> {
        let request = self.client.post(self.url.expose());
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = request.header(USER_AGENT, concat!("sipobs/", env!("CARGO_PKG_VERSION")));
        let request = request.header(SIGNATURE, signature(&self.key, wall_clock(), &body)).body(body);
        match request.send().await {
            Ok(response) => answer(response.status()),
            Err(error) => Err(Failure::TryLater(chain(&error.without_url()))),
        }
    }
}

/// What a status means: a proxy sends 5xx while a server restarts, and what a server will never take it says by another.
fn answer(status: StatusCode) -> Result<(), Failure> {
    let why = format!("HTTP status {}", status.as_u16());
    match status.as_u16() {
        200..300 => Ok(()),
        408 | 425 | 429 | 500.. => Err(Failure::TryLater(why)),
        _ => Err(Failure::Refused(why)),
    }
}

/// Time and signature of a body.
fn signature(key: &Hmac<Sha256>, time: u64, body: &[u8]) -> String {
    let mut hmac = key.clone();
    hmac.update(format!("{time}.").as_bytes());
    hmac.update(body);
    let sum = hmac.finalize().into_bytes();
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={time},v1={hex}")
}

fn authorities(path: &std::path::Path) -> Result<Vec<reqwest::Certificate>, WebhookError> {
    let unusable = |reason: String| WebhookError::Certificate { path: path.display().to_string(), reason };
    let (pem, _) = files::read(path, MOST_BYTES).map_err(|error| unusable(error.to_string()))?;
    reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))
}

#[allow(clippy::disallowed_methods, reason = "paces tries, judges nothing")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the server compares it with its own clock")]
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_others_compute() {
        // printf '1790000000.{"kind":"notice"}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let key = Hmac::new_from_slice(b"0123456789abcdef").unwrap();
        assert_eq!(
            signature(&key, 1_790_000_000, br#"{"kind":"notice"}"#),
            "t=1790000000,v1=6ee3c447eceb2befff0a0f821726353e746de217b48da59be1543c0bd3ce2c01"
        );
    }

    #[test]
    fn what_is_worth_another_try() {
        let of = |status: u16| answer(StatusCode::from_u16(status).unwrap());
        for status in [200, 202, 204] {
            assert_eq!(of(status), Ok(()), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503] {
            assert!(matches!(of(status), Err(Failure::TryLater(_))), "{status}");
        }
        for status in [301, 307, 400, 401, 404, 410, 413] {
            assert!(matches!(of(status), Err(Failure::Refused(_))), "{status}");
        }
    }
}
