//! The OTLP client: gRPC or protobuf over HTTP, with TLS as configured.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{
    RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};

use super::OtlpError;
use super::queue::{Answer, Deliver};
use crate::config::{Compression, OtlpConfig, Protocol};
use crate::files;

/// Of a file with certificates: all authorities that a system trusts take less.
const MOST_BYTES: u64 = 1 << 20;

/// One exporter and what is needed to read its answers.
pub(super) struct Client {
    exporter: SpanExporter,
    /// The status of the last HTTP response, 0 if there was none: the exporter's errors do not tell.
    status: Option<Arc<AtomicU16>>,
    timeout: Duration,
}

impl Client {
    /// Must be called within the runtime that will use it.
    pub(super) fn new(config: &OtlpConfig, url: &str) -> Result<Self, OtlpError> {
        // reqwest is built without a choice of its own; if another part of the program has chosen, well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = Tls::read(config)?;
        let timeout = config.timeout;
        let (mut exporter, status) = match config.protocol {
            Protocol::Grpc => (grpc(config, url, timeout, &tls)?, None),
            Protocol::HttpProtobuf => {
                let status = Arc::new(AtomicU16::new(0));
                (http(config, url, timeout, &tls, Arc::clone(&status))?, Some(status))
            }
        };
        let attributes = super::resource(config).into_iter().map(|(name, value)| KeyValue::new(name, value));
        exporter.set_resource(&Resource::builder_empty().with_attributes(attributes).build());
        Ok(Self { exporter, status, timeout })
    }
}

impl Deliver for Client {
    async fn deliver(&self, batch: Vec<SpanData>) -> Answer {
        if let Some(status) = &self.status {
            status.store(0, Ordering::Relaxed);
        }
        // The exporter bounds a request, not the making of a connection.
        match tokio::time::timeout(self.timeout * 2, self.exporter.export(batch)).await {
            Ok(Ok(())) => Answer::Acknowledged,
            Ok(Err(error)) => match &self.status {
                Some(status) => http_answer(status.load(Ordering::Relaxed), &error),
                None => grpc_answer(&error),
            },
            Err(_) => Answer::TryLater(format!("no connection within {} ms", 2 * self.timeout.as_millis())),
        }
    }
}

/// OTLP/HTTP: 429, 502, 503 and 504 are to be tried again, and so is what never got an answer. Other 5xx
/// too: proxies send them while a collector restarts.
fn http_answer(status: u16, error: &OTelSdkError) -> Answer {
    match status {
        0 => Answer::TryLater(error.to_string()),
        408 | 429 | 500.. => Answer::TryLater(format!("HTTP status {status}")),
        _ => Answer::Refused(format!("HTTP status {status}")),
    }
}

/// OTLP/gRPC names the codes that are not to be tried again by leaving them out; a message that does not
/// tell its code is tried again, which the queue bounds.
fn grpc_answer(error: &OTelSdkError) -> Answer {
    const FINAL: [&str; 8] = [
        "InvalidArgument",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "FailedPrecondition",
        "Unimplemented",
        "Internal",
        "Unauthenticated",
    ];
    let text = error.to_string();
    let code = text.split_once("gRPC code: ").map_or("", |(_, rest)| rest);
    if FINAL.iter().any(|&word| code.starts_with(word)) {
        Answer::Refused(text)
    } else {
        Answer::TryLater(text)
    }
}

fn grpc(config: &OtlpConfig, url: &str, timeout: Duration, tls: &Tls) -> Result<SpanExporter, OtlpError> {
    let headers = headers(config)?;
    let mut builder = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(url)
        .with_timeout(timeout)
        .with_metadata(MetadataMap::from_headers(headers))
        .with_retry_policy(RetryPolicy::disabled());
    if url.starts_with("https:") {
        let mut settings = match &tls.authority {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_enabled_roots(),
        };
        if let Some((certificate, key)) = &tls.identity {
            settings = settings.identity(Identity::from_pem(certificate, key));
        }
        builder = builder.with_tls_config(settings);
    }
    if config.compression == Compression::Gzip {
        builder = builder.with_compression(opentelemetry_otlp::Compression::Gzip);
    }
    builder.build().map_err(|error| OtlpError::Value { field: "endpoint", reason: error.to_string() })
}

fn http(
    config: &OtlpConfig,
    url: &str,
    timeout: Duration,
    tls: &Tls,
    status: Arc<AtomicU16>,
) -> Result<SpanExporter, OtlpError> {
    let mut client = reqwest::Client::builder().timeout(timeout);
    let unusable = |field, error: reqwest::Error| OtlpError::Value { field, reason: error.to_string() };
    match &tls.authority {
        Some(pem) => {
            let authority =
                reqwest::Certificate::from_pem_bundle(pem).map_err(|error| unusable("certificate", error))?;
            client = client.tls_certs_only(authority);
        }
        // Without TLS the system's certificates are not looked for: in a container there may be none.
        None if url.starts_with("http:") => client = client.tls_certs_only([]),
        None => {}
    }
    if let Some((certificate, key)) = &tls.identity {
        let both = [certificate.as_slice(), b"\n", key.as_slice()].concat();
        let identity =
            reqwest::Identity::from_pem(&both).map_err(|error| unusable("client_certificate", error))?;
        client = client.identity(identity);
    }
    let client = client.build().map_err(|error| unusable("certificate", error))?;
    let headers: HashMap<String, String> =
        config.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    let mut builder = SpanExporter::builder()
        .with_http()
        .with_http_client(Watched { client, status })
        .with_endpoint(url)
        .with_timeout(timeout)
        .with_headers(headers)
        .with_retry_policy(RetryPolicy::disabled());
    if config.compression == Compression::Gzip {
        builder = builder.with_compression(opentelemetry_otlp::Compression::Gzip);
    }
    builder.build().map_err(|error| OtlpError::Value { field: "endpoint", reason: error.to_string() })
}

fn headers(config: &OtlpConfig) -> Result<http::HeaderMap, OtlpError> {
    let mut map = http::HeaderMap::new();
    for (name, value) in &config.headers {
        let bad = |what| OtlpError::Value { field: "headers", reason: format!("`{name}`: {what}") };
        let header = http::HeaderName::try_from(name.as_str()).map_err(|_| bad("not a header's name"))?;
        let mut value = http::HeaderValue::try_from(value.expose())
            .map_err(|_| bad("its value holds what a header can't"))?;
        value.set_sensitive(true);
        map.insert(header, value);
    }
    Ok(map)
}

/// A client that remembers the status of its last response.
#[derive(Debug)]
struct Watched {
    client: reqwest::Client,
    status: Arc<AtomicU16>,
}

#[async_trait::async_trait]
impl HttpClient for Watched {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.client.send_bytes(request).await?;
        self.status.store(response.status().as_u16(), Ordering::Relaxed);
        Ok(response)
    }
}

/// The files of the TLS settings, read.
struct Tls {
    authority: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    fn read(config: &OtlpConfig) -> Result<Self, OtlpError> {
        let read = |field: &'static str, path: Option<&Path>| {
            path.map(|path| {
                let bytes = files::read(path, MOST_BYTES).map_err(|error| OtlpError::File {
                    field,
                    path: path.display().to_string(),
                    reason: error.to_string(),
                });
                bytes.map(|(bytes, _)| bytes)
            })
            .transpose()
        };
        let authority = read("certificate", config.certificate.as_deref())?;
        let certificate = read("client_certificate", config.client_certificate.as_deref())?;
        let key = read("client_key", config.client_key.as_deref())?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (None, Some(_)) => return Err(half("client_certificate", "client_key")),
            (Some(_), None) => return Err(half("client_key", "client_certificate")),
        };
        Ok(Self { authority, identity })
    }
}

fn half(missing: &'static str, given: &str) -> OtlpError {
    OtlpError::Value { field: missing, reason: format!("is needed with otlp.{given}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_another_try() {
        let error = || OTelSdkError::InternalFailure("connection refused".into());
        for status in [0, 429, 500, 502, 503, 504] {
            assert!(matches!(http_answer(status, &error()), Answer::TryLater(_)), "{status}");
        }
        for status in [400, 401, 404, 413] {
            assert_eq!(http_answer(status, &error()), Answer::Refused(format!("HTTP status {status}")));
        }
        let grpc = |code: &str| {
            grpc_answer(&OTelSdkError::InternalFailure(format!(
                "TonicTracesClient export failed with gRPC code: {code}: tcp connect error"
            )))
        };
        assert!(matches!(grpc("Unavailable"), Answer::TryLater(why) if why.contains("tcp connect error")));
        assert!(matches!(grpc("Unauthenticated"), Answer::Refused(_)));
        let late = grpc_answer(&OTelSdkError::Timeout(Duration::ZERO));
        assert!(matches!(late, Answer::TryLater(_)));
    }
}
