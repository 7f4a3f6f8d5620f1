//! Who may ask for `/metrics`: whoever shows the token, or a certificate of the authority that is named. Where neither
//! is set, anybody.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use subtle::ConstantTimeEq as _;
use tokio_rustls::TlsAcceptor;

use crate::config::{MetricsConfig, Secret};
use crate::files;

/// Of a file with certificates.
const MOST_BYTES: u64 = 1 << 20;

/// A file of the server's TLS that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("metrics.{field}: {}: {reason}", path.display())]
pub struct AccessError {
    /// Its key.
    pub field: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What is asked of those who ask, with all files read.
#[derive(Clone, Default)]
pub struct Access {
    token: Option<Secret>,
    tls: Option<TlsAcceptor>,
    /// Whether a certificate is enough.
    by_certificate: bool,
}

/// Whether the other side has shown a certificate of the authority's.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShownCertificate(pub(super) bool);

impl Access {
    /// As configured.
    ///
    /// # Errors
    ///
    /// When a certificate or key can't be read, or is none.
    pub fn read(config: &MetricsConfig) -> Result<Self, AccessError> {
        let tls = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => {
                Some(acceptor(certificate, key, config.client_authority.as_deref())?)
            }
            _ => None,
        };
        let by_certificate = config.client_authority.is_some();
        Ok(Self { token: config.token().cloned(), tls, by_certificate })
    }

    /// What speaks TLS, where it is spoken.
    pub(super) fn tls(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref()
    }

    /// Whether who sends `headers` may have the metrics.
    pub(super) fn permits(&self, headers: &HeaderMap, ShownCertificate(shown): ShownCertificate) -> bool {
        let is_open = self.token.is_none() && !self.by_certificate;
        is_open
            || self.by_certificate && shown
            || self.token.as_ref().is_some_and(|token| shows(headers, token))
    }
}

/// Whether `headers` hold the token (RFC 6750 §2.1), or hold it as a password, found out in a time that tells nothing of where it differs.
fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Some((scheme, shown)) = line.to_str().ok().and_then(|line| line.split_once(' ')) else {
        return false;
    };
    let token = token.expose().as_bytes();
    if scheme.eq_ignore_ascii_case("bearer") {
        return shown.trim().as_bytes().ct_eq(token).into();
    }
    // A browser asks for a user and a password (RFC 7617 §2).
    let Ok(pair) = base64::engine::general_purpose::STANDARD.decode(shown.trim()) else { return false };
    let colon = pair.iter().position(|byte| *byte == b':');
    scheme.eq_ignore_ascii_case("basic") && colon.is_some_and(|colon| pair[colon + 1..].ct_eq(token).into())
}

fn acceptor(certificate: &Path, key: &Path, authority: Option<&Path>) -> Result<TlsAcceptor, AccessError> {
    let wrong = |field: &'static str, path: &Path| {
        let path = path.to_owned();
        move |reason: String| AccessError { field, path, reason }
    };
    let chain = certificates(certificate).map_err(wrong("certificate", certificate))?;
    let private = pem(key)
        .and_then(|pem| {
            PrivateKeyDer::from_pem_slice(&pem).map_err(|_| "holds no private key (PEM)".to_owned())
        })
        .map_err(wrong("key", key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| wrong("certificate", certificate)(error.to_string()))?;
    let builder = match authority {
        Some(path) => {
            let wrong = wrong("client_authority", path);
            let mut roots = RootCertStore::empty();
            let found = certificates(path).and_then(|found| {
                let (added, _) = roots.add_parsable_certificates(found);
                (added > 0).then_some(()).ok_or_else(|| "holds no authority's certificate".to_owned())
            });
            // Kubelet's probes show none.
            let verifier = found.and_then(|()| {
                let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.allow_unauthenticated().build().map_err(|error| error.to_string())
            });
            builder.with_client_cert_verifier(verifier.map_err(wrong)?)
        }
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(chain, private);
    let config =
        config.map_err(|error| wrong("key", key)(format!("does not go with the certificate: {error}")))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(path)?).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| "holds no certificate (PEM)".to_owned())
}

fn pem(path: &Path) -> Result<Vec<u8>, String> {
    files::read_text(path, MOST_BYTES).map(|(text, _)| text.into_bytes()).map_err(|error| error.to_string())
}
