//! `[metrics]`: the daemon's HTTP server, and who may ask it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Secret, address};

/// A shorter token can be guessed.
const LEAST_TOKEN: usize = 16;

/// The daemon's HTTP server. Beyond loopback it serves `/metrics` only to those who show a token or a certificate, unless
/// `insecure` lets everybody have it; `/healthz` and `/readyz` say little and ask for nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where `/metrics`, `/healthz` and `/readyz` are served: an IP address and a port.
    #[serde(deserialize_with = "address::deserialize")]
    pub listen: SocketAddr,
    /// Names of this host that requests by loopback may be for, beside `localhost` and loopback addresses: a proxy's.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::list::parted")]
    pub hosts: Vec<String>,
    /// What those who ask for `/metrics` show, as `Authorization: Bearer …`: at least 16 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// A file that holds the token, in place of `token`. Blanks and line breaks around it are no part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// File of the server's own certificate and those between it and its authority (PEM): with it TLS is spoken, and
    /// nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// File of its private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// File of the authority (PEM) whose certificates let those who show one ask for `/metrics`, also without a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_authority: Option<PathBuf>,
    /// Whether everybody who reaches an address beyond loopback may ask for `/metrics` where neither a token nor a
    /// `client_authority` is set.
    pub insecure: bool,
    /// What `token_file` holds.
    #[serde(skip)]
    pub(super) read: Option<Secret>,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
            hosts: Vec::new(),
            token: None,
            token_file: None,
            certificate: None,
            key: None,
            client_authority: None,
            insecure: false,
            read: None,
        }
    }
}

impl MetricsConfig {
    /// The defaults, but for where it listens.
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, ..Self::default() }
    }

    /// The token, wherever it is from.
    pub fn token(&self) -> Option<&Secret> {
        self.token.as_ref().or(self.read.as_ref())
    }

    /// Whether other hosts can reach it, and nothing is asked of them.
    pub(super) fn is_open_to_others(&self) -> bool {
        let is_open = self.token().is_none() && self.client_authority.is_none();
        is_open && !self.listen.ip().to_canonical().is_loopback()
    }

    /// What makes no sense, if something does.
    pub(super) fn fault(&self) -> Option<String> {
        if self.token.is_some() && self.token_file.is_some() {
            return Some("metrics.token and metrics.token_file: one of them is enough".into());
        }
        let field = if self.read.is_some() { "metrics.token_file" } else { "metrics.token" };
        if self.token().is_some_and(|token| token.expose().len() < LEAST_TOKEN) {
            return Some(format!("{field}: must have at least {LEAST_TOKEN} bytes"));
        }
        let visible = |token: &Secret| token.expose().bytes().all(|byte| byte.is_ascii_graphic());
        if !self.token().is_none_or(visible) {
            return Some(format!("{field}: holds what a header can't: letters, digits and signs only"));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Some("metrics.certificate and metrics.key: both are needed, or none".into());
        }
        if self.client_authority.is_some() && self.certificate.is_none() {
            return Some("metrics.client_authority: needs metrics.certificate and metrics.key".into());
        }
        (self.is_open_to_others() && !self.insecure).then(|| {
            format!(
                "metrics.listen: other hosts can reach {}: give metrics.token_file (or metrics.token, \
                 metrics.client_authority), or let everybody read /metrics by metrics.insecure = true",
                self.listen
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<String> {
        toml::from_str::<MetricsConfig>(text).unwrap().fault()
    }

    #[test]
    fn beyond_loopback_it_is_open_to_nobody_by_default() {
        const TOKEN: &str = "token = \"0123456789abcdef\"\n";
        const TLS: &str = "certificate = \"a\"\nkey = \"b\"\n";
        for open in
            ["0.0.0.0:9464", "192.0.2.7:9464", "[::]:9464", "[2001:db8::7]:9464", "[::ffff:192.0.2.7]:9464"]
        {
            let listen = format!("listen = \"{open}\"\n");
            let said = fault(&listen).unwrap();
            assert!(
                said.contains("metrics.listen: other hosts can reach") && said.contains("insecure"),
                "{said}"
            );
            assert!(fault(&format!("{listen}{TLS}")).is_some(), "TLS alone asks nobody who he is");
            assert_eq!(fault(&format!("{listen}{TOKEN}")), None);
            assert_eq!(fault(&format!("{listen}{TLS}client_authority = \"c\"")), None);
            assert_eq!(fault(&format!("{listen}insecure = true")), None);
        }
        for local in ["127.0.0.1:9464", "127.9.9.9:1", "[::1]:9464", "[::ffff:127.0.0.1]:9464"] {
            assert_eq!(fault(&format!("listen = \"{local}\"")), None);
        }
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        for (text, said) in [
            ("token = \"q5ecret\"", "metrics.token: must have at least 16 bytes"),
            ("token = \"q5ecret q5ecret q5ecret\"", "metrics.token: holds what a header can't"),
            ("token = \"0123456789abcdef\"\ntoken_file = \"x\"", "one of them is enough"),
            ("certificate = \"a\"", "both are needed"),
            ("key = \"a\"", "both are needed"),
            ("client_authority = \"a\"", "metrics.client_authority: needs metrics.certificate"),
        ] {
            let fault = fault(text).unwrap();
            assert!(fault.contains(said) && !fault.contains("q5ecret"), "{fault}");
        }
    }
}
