//! `[otlp]`, which the standard `OTEL_*` variables set as well.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use toml::{Table, Value};

use super::Secret;
use crate::record::Call;

/// Spans to an OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// Switches the export off whatever else is set (`OTEL_SDK_DISABLED`).
    pub disabled: bool,
    /// The collector, `http://host:4317`. Without it nothing is exported. Over HTTP, `/v1/traces` is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// The collector's address for traces alone, taken as it stands; wins over `endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces_endpoint: Option<Endpoint>,
    /// `grpc` or `http/protobuf`.
    pub protocol: Protocol,
    /// How requests are packed.
    pub compression: Compression,
    /// Which calls get a span of their own, `sip.call`.
    pub calls: CallSpans,
    /// Longest time for one request.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// Spans waiting at most; those beyond are dropped and counted.
    pub queue: usize,
    /// Spans in one request at most.
    pub batch: usize,
    /// Longest time to hand over what is left when sipobs ends.
    #[serde(with = "crate::duration")]
    pub flush: Duration,
    /// File of the authority that signed the collector's certificate (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// File of our own certificate (PEM), for mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// File of its private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// `service.name`.
    pub service_name: String,
    /// Name of this node; part of the span ids, so that two nodes that see one call join one trace without
    /// a clash. The host name if empty.
    pub node: String,
    /// Headers of each request.
    #[serde(deserialize_with = "super::secret::by_name")]
    pub headers: BTreeMap<String, Secret>,
    /// Further resource attributes.
    pub resource: BTreeMap<String, String>,
}

/// How spans travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// gRPC.
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf over HTTP.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// How requests are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// By gzip.
    Gzip,
}

/// Which calls get a span of their own. An attempt's spans are sent whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallSpans {
    /// None: an attempt's span is on top of its trace.
    None,
    /// Those that a transfer concerns: the call that was to be transferred, and the legs to its target.
    #[default]
    Transferred,
    /// Every call.
    All,
}

impl CallSpans {
    /// Whether a call has a span.
    pub fn include(self, call: &Call) -> bool {
        match self {
            Self::None => false,
            Self::Transferred => call.in_transfer,
            Self::All => true,
        }
    }
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            disabled: false,
            endpoint: None,
            traces_endpoint: None,
            protocol: Protocol::default(),
            compression: Compression::default(),
            calls: CallSpans::default(),
            timeout: Duration::from_secs(10),
            queue: 16_384,
            batch: 512,
            flush: Duration::from_secs(5),
            certificate: None,
            client_certificate: None,
            client_key: None,
            service_name: "sipobs".into(),
            node: String::new(),
            headers: BTreeMap::new(),
            resource: BTreeMap::new(),
        }
    }
}

impl OtlpConfig {
    /// The configured name of this node, else its host name; empty where it has none.
    pub fn host(&self) -> String {
        if !self.node.is_empty() {
            return self.node.clone();
        }
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .or_else(|| std::env::var("HOSTNAME").ok())
            .map(|name| name.trim().to_owned())
            .unwrap_or_default()
    }

    /// Where spans go, `None` if nowhere.
    pub fn traces_url(&self) -> Option<Endpoint> {
        if self.disabled {
            return None;
        }
        if let Some(as_it_stands) = &self.traces_endpoint {
            return Some(as_it_stands.clone());
        }
        let base = self.endpoint.as_ref()?;
        match self.protocol {
            Protocol::HttpProtobuf => {
                let query = base.0.find(['?', '#']).unwrap_or(base.0.len());
                let (path, query) = base.0.split_at(query);
                let path = path.trim_end_matches('/').trim_end_matches("/v1/traces");
                Some(Endpoint(format!("{path}/v1/traces{query}")))
            }
            Protocol::Grpc => Some(base.clone()),
        }
    }
}

/// A collector's address. Its user information (RFC 3986 §3.2.1), its query and its fragment may hold a secret, and are
/// never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint(String);

impl TryFrom<String> for Endpoint {
    type Error = &'static str;

    fn try_from(url: String) -> Result<Self, Self::Error> {
        if url.contains("***") {
            return Err("`***` is what `sipobs config` shows in place of a secret");
        }
        Ok(Self(url))
    }
}

impl Endpoint {
    /// The address `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole of it, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether its host is an IP address, and no name to be resolved.
    pub fn is_numeric(&self) -> bool {
        let rest = self.0.split_once("://").map_or(&*self.0, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let host = authority.rsplit('@').next().unwrap_or(authority);
        host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    }

    /// Whether there is something in it that is not shown.
    pub(super) fn holds_secret(&self) -> bool {
        self.hide(&self.0) != self.0
    }

    /// `text` without what is not shown of this address.
    pub fn hide(&self, text: &str) -> String {
        let from = self.0.find("://").map_or(0, |at| at + 3);
        let rest = &self.0[from..];
        let (user, query) = (rest.rfind('@'), rest.find(['?', '#']));
        let secrets = match (user, query) {
            // Which of the two it is can't be told.
            (Some(user), Some(query)) if query < user => [Some((rest.to_owned(), "***")), None],
            _ => [
                user.map(|at| (rest[..=at].to_owned(), "***@")),
                query.map(|at| {
                    (rest[at..].to_owned(), if rest[at..].starts_with('#') { "#***" } else { "?***" })
                }),
            ],
        };
        let secrets = secrets.into_iter().flatten().filter(|(secret, _)| secret.len() > 1);
        secrets.fold(text.to_owned(), |text, (secret, shown)| text.replace(&secret, shown))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hide(&self.0))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Lays the standard variable `name` over the `table` of `[otlp]`; others are left alone.
pub(super) fn variable(table: &mut Table, name: &str, value: &str) -> Result<(), String> {
    // "The value of an empty environment variable is treated as unset" (OpenTelemetry specification).
    if value.is_empty() {
        return Ok(());
    }
    let field = name.strip_prefix("OTEL_EXPORTER_OTLP_").unwrap_or(name);
    // The variables for traces come after those for all signals, and so win.
    let (key, value) = match field.strip_prefix("TRACES_").unwrap_or(field) {
        "ENDPOINT" if !is_http(value) => return Err("does not begin with http:// or https://".into()),
        "ENDPOINT" if field == "ENDPOINT" => ("endpoint", value.into()),
        "ENDPOINT" => ("traces_endpoint", value.into()),
        "PROTOCOL" => ("protocol", value.into()),
        "COMPRESSION" => ("compression", value.into()),
        "TIMEOUT" => match value.parse::<i64>() {
            Ok(ms) if ms > 0 => ("timeout", format!("{ms}ms").into()),
            _ => return Err("must be a whole number of milliseconds, more than 0".into()),
        },
        "CERTIFICATE" => ("certificate", value.into()),
        "CLIENT_CERTIFICATE" => ("client_certificate", value.into()),
        "CLIENT_KEY" => ("client_key", value.into()),
        "HEADERS" => return merge(table, "headers", pairs(value)?),
        "OTEL_SDK_DISABLED" => ("disabled", value.eq_ignore_ascii_case("true").into()),
        "OTEL_TRACES_EXPORTER" if value == "none" => ("disabled", true.into()),
        "OTEL_SERVICE_NAME" => ("service_name", value.into()),
        "OTEL_RESOURCE_ATTRIBUTES" => {
            let (service, others): (Vec<_>, Vec<_>) =
                pairs(value)?.into_iter().partition(|(name, _)| name == "service.name");
            if let Some((_, name)) = service.into_iter().next_back() {
                table.insert("service_name".into(), name.into());
            }
            return merge(table, "resource", others);
        }
        _ => return Ok(()),
    };
    table.insert(key.into(), value);
    Ok(())
}

/// Whether `name` takes a boolean and `value` is none. "Any value that is not explicitly defined … MUST be interpreted as
/// false", and a warning should say so (OpenTelemetry specification).
pub(super) fn is_no_boolean(name: &str, value: &str) -> bool {
    let is_one = ["", "true", "false"].iter().any(|it| value.eq_ignore_ascii_case(it));
    name == "OTEL_SDK_DISABLED" && !is_one
}

/// Whether it is an address that a collector can be at.
pub(super) fn is_http(url: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
}

fn merge(table: &mut Table, key: &str, entries: Vec<(String, String)>) -> Result<(), String> {
    let into = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
    let into = into.as_table_mut().ok_or_else(|| format!("`{key}` is not a table"))?;
    into.extend(entries.into_iter().map(|(name, value)| (name, Value::String(value))));
    Ok(())
}

/// `a=1,b=2` with percent-encoded values (W3C Baggage). Values may be secrets: errors do not show them.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or("an entry has no `=`")?;
            Ok((name.trim().to_owned(), percent_decoded(value.trim())))
        })
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let (mut bytes, mut at) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, rest)) = at.split_first() {
        let escaped = (first == b'%')
            .then(|| rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                at = &rest[2..];
            }
            None => {
                bytes.push(first);
                at = rest;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_goes_before_the_query() {
        for (url, traces) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c/base/", "http://c/base/v1/traces"),
            ("http://c/v1/traces", "http://c/v1/traces"),
            ("http://c?key=1", "http://c/v1/traces?key=1"),
            ("http://c/v1/traces?key=1/", "http://c/v1/traces?key=1/"),
        ] {
            let endpoint = Some(Endpoint::new(url));
            let config = OtlpConfig { endpoint, protocol: Protocol::HttpProtobuf, ..OtlpConfig::default() };
            assert_eq!(config.traces_url().unwrap().expose(), traces);
        }
    }

    #[test]
    fn an_address_takes_no_resolver() {
        for numeric in
            ["http://127.0.0.1:4317", "https://me:x@[::1]:4317/v1?a", "192.0.2.1", "http://[2001:db8::1]/"]
        {
            assert!(Endpoint::new(numeric).is_numeric(), "{numeric}");
        }
        for name in ["http://localhost:4317", "https://127.0.0.1.example", "http://127.0.0.1@c:4317", "c", ""]
        {
            assert!(!Endpoint::new(name).is_numeric(), "{name}");
        }
    }

    #[test]
    fn what_may_be_secret_in_an_address_is_not_shown() {
        for (url, shown) in [
            ("http://collector:4317", "http://collector:4317"),
            ("https://me:pass@word@collector/v1/traces?key=1", "https://***@collector/v1/traces?***"),
            ("https://collector?key=a@b", "https://***"),
            ("https://collector#key", "https://collector#***"),
            ("https://me:pass?word@collector", "https://***"),
            ("https://me:pass/word@collector/v1/traces", "https://***@collector/v1/traces"),
            ("me:secret@collector:4317", "***@collector:4317"),
        ] {
            let endpoint = Endpoint::new(url);
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(format!("{endpoint:?}"), format!("\"{shown}\""));
            assert_eq!(serde_json::to_value(&endpoint).unwrap(), shown);
            assert_eq!(
                endpoint.hide(&format!("error for url ({url}): refused")),
                format!("error for url ({shown}): refused")
            );
        }
    }
}
