//! `[webhook]`: early words and verdicts to an HTTP server of one's own.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Endpoint, Secret};

/// A shorter secret can be guessed.
const LEAST_SECRET: usize = 16;

/// Early words and verdicts to an HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Where the daemon sends notices, attempts and alerts: `https://host/path`. Without it, nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Endpoint>,
    /// What requests are signed with: at least 16 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// A file that holds the secret, in place of `secret`. Blanks and line breaks around it are no part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Longest time for one request.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// How long a record is tried again, after which it is dropped and counted.
    #[serde(with = "crate::duration")]
    pub retry: Duration,
    /// File of the authority that signed the server's certificate (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// What `secret_file` holds.
    #[serde(skip)]
    pub(super) read: Option<Secret>,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            secret_file: None,
            timeout: Duration::from_secs(5),
            retry: Duration::from_secs(300),
            certificate: None,
            read: None,
        }
    }
}

impl WebhookConfig {
    /// The secret, wherever it is from.
    pub fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref().or(self.read.as_ref())
    }

    /// What makes no sense, if something does.
    pub(super) fn fault(&self) -> Option<String> {
        let url = self.url.as_ref()?;
        if !super::otlp::is_http(url.expose()) {
            return Some(format!("webhook.url: {url}: does not begin with http:// or https://"));
        }
        if self.secret.is_some() && self.secret_file.is_some() {
            return Some("webhook.secret and webhook.secret_file: one of them is enough".into());
        }
        let length = self.secret().map_or(0, |secret| secret.expose().len());
        (length < LEAST_SECRET).then(|| {
            format!(
                "webhook.url needs webhook.secret or webhook.secret_file, of at least {LEAST_SECRET} bytes"
            )
        })
    }
}
