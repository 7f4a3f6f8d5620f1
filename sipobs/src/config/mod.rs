//! The configuration: defaults, then a TOML file, then the environment, then flags; each layer a plain merge
//! over the one before it.
//!
//! A file is read only where one is named (`--config` or `SIPOBS_CONFIG`), so that what a command prints
//! depends on nothing that its caller does not see. A variable `SIPOBS_SECTION__KEY` sets `key` in
//! `[section]`; the standard `OTEL_*` variables set `[otlp]`.

use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use crate::capture;
use crate::engine;
use crate::link::LinkConfig;
use crate::packet;
use crate::privacy::{Mask, Privacy, PrivacyError};
use crate::stream;
use crate::transfer::absent::AbsentConfig;
use crate::transfer::ratio::RatioConfig;
use crate::transfer::{self, Timers};
use crate::trunk::TrunkConfig;

mod address;
mod change;
mod env;
mod limits;
mod otlp;

pub use address::socket_address;
pub use change::Change;
pub use limits::{Limits, Size};
pub use otlp::{Endpoint, OtlpConfig, Protocol};

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What the daemon captures, and how.
    pub capture: capture::Config,
    /// From frames to packets.
    pub packet: packet::Config,
    /// From packets to messages.
    pub stream: stream::Config,
    /// What may leave the engine.
    pub privacy: PrivacyConfig,
    /// The clocks of dialogs and transfers.
    pub timers: Timers,
    /// Bounds of their tables.
    pub limits: Limits,
    /// How a second leg is tied to its call.
    pub link: LinkConfig,
    /// When the absence of a REFER is worth a word.
    pub absent: AbsentConfig,
    /// The watch over each trunk's share of transferred calls.
    pub ratio: RatioConfig,
    /// JSON lines.
    pub jsonl: JsonlConfig,
    /// Spans to an OpenTelemetry collector.
    pub otlp: OtlpConfig,
    /// The daemon's HTTP server.
    pub metrics: MetricsConfig,
    /// What the daemon keeps across restarts.
    pub state: StateConfig,
    /// Causes of your own.
    pub diagnosis: DiagnosisConfig,
    /// When the daemon reads all this anew.
    pub reload: ReloadConfig,
    /// The peers that have names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trunk: Vec<TrunkConfig>,
}

/// What may leave the engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrivacyConfig {
    /// How numbers and users are shown.
    pub mask: Mask,
    /// The secret of `mask = "hash"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
}

/// JSON lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JsonlConfig {
    /// Where the daemon appends them; `-` is standard output. Without it, it writes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Whether early notices are written too.
    pub notices: bool,
}

/// The daemon's HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where `/metrics`, `/healthz` and `/readyz` are served: an IP address and a port.
    #[serde(deserialize_with = "address::deserialize")]
    pub listen: SocketAddr,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

/// Causes of your own, put before those that sipobs knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiagnosisConfig {
    /// A file of the same form as sipobs's own table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What it holds.
    #[serde(skip)]
    rows: Option<String>,
}

/// When the daemon reads its configuration anew. SIGHUP always asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// Seconds between two looks at the configuration file and the causes. What has changed, and is the same at the next
    /// look, is taken up. 0: not looked at.
    pub every_s: u32,
}

impl Default for ReloadConfig {
    fn default() -> Self {
        Self { every_s: 5 }
    }
}

/// What the daemon keeps across restarts: each trunk's REFER ratio, which takes days to learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateConfig {
    /// The file. Without one, every start learns anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Seconds between two writes.
    pub every_s: u32,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { path: None, every_s: 60 }
    }
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(String);

/// What is shown in its place, and so is none.
const HIDDEN: &str = "(hidden)";

impl TryFrom<String> for Secret {
    type Error = &'static str;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        if value == HIDDEN {
            return Err("`(hidden)` is what `sipobs config` shows in place of a secret");
        }
        Ok(Self(value))
    }
}

impl Secret {
    /// Keeps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is not TOML, or holds what no field takes.
    #[error("{}:{line}:{column}: {}{message}", path.display(), Field(field))]
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// The field by its path, or empty.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// A variable holds what its field does not take, or names none.
    #[error("environment variable {name}: {message}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// Fields that are right one by one do not fit together.
    #[error("configuration: {0}")]
    Together(String),
}

struct Field<'a>(&'a str);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

impl Config {
    /// The longest file that is read, in bytes; as many trunks as there may be take no more.
    pub const MOST_BYTES: u64 = 4 << 20;

    /// The defaults, the file at `path` if one is given, and `variables` over it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with file, line, column and field, or with the variable's name.
    pub fn load(
        path: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = match path {
            Some(path) => read(path)?,
            None => String::new(),
        };
        // Read once as it stands, so that an error points into the file; then as a table to lay the
        // environment over.
        let config = parse(path.unwrap_or(Path::new("")), &text)?;
        let mut config = env::over(config, toml::from_str(&text).unwrap_or_default(), variables)?;
        if let Some(path) = &config.diagnosis.path {
            config.diagnosis.rows = Some(read(path)?);
        }
        Ok(config)
    }

    /// The engine's part.
    pub fn engine(&self) -> engine::Config {
        let mut engine = engine::Config {
            packet: packet::Config { vxlan_ports: self.capture.vxlan_ports.clone(), ..self.packet.clone() },
            stream: self.stream.clone(),
            transfer: transfer::Config {
                notices: self.jsonl.notices,
                timers: self.timers,
                limits: transfer::Limits::default(),
                link: self.link.clone(),
                trunk: self.trunk.clone(),
                absent: self.absent.clone(),
                ratio: self.ratio.clone(),
                diagnosis: self.diagnosis.rows.clone(),
            },
        };
        self.limits.divide(&mut engine);
        engine
    }

    /// What masks the engine's outputs.
    ///
    /// # Errors
    ///
    /// When `mask = "hash"` comes without a key.
    pub fn privacy(&self) -> Result<Privacy, PrivacyError> {
        let key = self.privacy.key.as_ref().map(|key| key.expose().as_bytes());
        Privacy::new(self.privacy.mask, key)
    }

    /// Looks for what makes no sense, though each field by itself may: what any command would stumble over.
    ///
    /// # Errors
    ///
    /// With the field, or the trunk, that is at fault.
    pub fn check(&self) -> Result<(), ConfigError> {
        let together = |error: &dyn fmt::Display| ConfigError::Together(error.to_string());
        self.privacy().map_err(|error| together(&error))?;
        transfer::Rules::new(&self.engine().transfer).map_err(|error| together(&error))?;
        match self.otlp.traces_url() {
            Some(url) if !["http://", "https://"].iter().any(|scheme| url.expose().starts_with(scheme)) => {
                Err(together(&format_args!("otlp.endpoint: {url}: does not begin with http:// or https://")))
            }
            _ => Ok(()),
        }
    }

    /// As TOML, secrets hidden.
    ///
    /// # Errors
    ///
    /// When a value has no form in TOML; none of the fields is such.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(Config::MOST_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > Config::MOST_BYTES {
            return Err(std::io::Error::other(format!("longer than {} KiB", Config::MOST_BYTES >> 10)));
        }
        Ok(text)
    };
    read().map_err(|error| ConfigError::Read { path: path.to_owned(), error })
}

fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let fail = |field: String, error: &toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        ConfigError::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().unwrap_or("").chars().count() + 1,
            field,
            message: discreet(error.message()),
        }
    };
    let deserializer = toml::Deserializer::parse(text).map_err(|error| fail(String::new(), &error))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let field = error.path().to_string();
        fail(if field == "." { String::new() } else { field }, error.inner())
    })
}

/// A complaint without the value that it is about, where that may be a secret put in the wrong place.
fn discreet(message: &str) -> String {
    for (before, after) in [("string \"", "\", expected"), ("unknown variant `", "`, expected")] {
        if let (Some(from), Some(to)) = (message.find(before), message.rfind(after)) {
            let value = from + before.len()..to;
            let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.');
            if message.get(value.clone()).is_some_and(|it| it.len() > 20 || !it.chars().all(harmless)) {
                return format!("{}***{}", &message[..value.start], &message[to..]);
            }
        }
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())))
    }

    fn complaint(text: &str, variables: &[(&str, &str)]) -> String {
        load(text, variables).unwrap_err().to_string()
    }

    #[test]
    fn what_is_printed_reads_back() {
        let config = load(
            "[[trunk]]\nname = \"t\"\ncidr = [\"192.0.2.0/24\"]\nexpect = \"refer\"\n[otlp]\nendpoint = \"http://c:4317\"",
            &[],
        )
        .unwrap();
        assert_eq!(load(&config.to_toml().unwrap(), &[]).unwrap(), config);
        let default = Config::default();
        assert_eq!(load(&default.to_toml().unwrap(), &[]).unwrap(), default);
    }

    #[test]
    fn what_any_command_would_stumble_over_is_found() {
        for (text, complaint) in [
            ("[privacy]\nmask = \"hash\"", "privacy.key: "),
            ("[[trunk]]\nname = \"t\"", "trunk \"t\": "),
            (
                "[otlp]\nendpoint = \"me:q5ecret@c:4317\"",
                "otlp.endpoint: ***@c:4317: does not begin with http",
            ),
        ] {
            let error = load(text, &[]).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
        load("[otlp]\nendpoint = \"https://c\"", &[]).unwrap().check().unwrap();
    }

    #[test]
    fn what_is_shown_in_place_of_a_secret_is_none() {
        for text in ["[privacy]\nkey = \"(hidden)\"", "[otlp]\nendpoint = \"http://***@c:4317\""] {
            let error = complaint(text, &[]);
            assert!(error.contains("shows in place of a secret"), "{error}");
        }
    }

    #[test]
    fn errors_show_no_secret() {
        for (text, variable) in [
            ("[otlp]\nheaders = \"Authorization=Bearer q5ecret\"", ("SIPOBS_OTLP__HEADERS", "a=q5ecret")),
            ("[otlp]\nprotocol = \"http://me:q5ecret@c\"", ("OTEL_EXPORTER_OTLP_PROTOCOL", "//me:q5ecret@c")),
            ("[privacy]\nkey = [\"q5ecret\"]", ("SIPOBS_PRIVACY__MASK", "a \\\", expected q5ecret")),
        ] {
            for complaint in [complaint(text, &[]), complaint("", &[variable])] {
                assert!(!complaint.contains("q5ecret"), "{complaint}");
            }
        }
        let text = complaint("[otlp]\nprotocol = \"gprc\"", &[]);
        assert!(text.contains("unknown variant `gprc`, expected `grpc` or `http/protobuf`"), "{text}");
    }

    #[test]
    fn errors_name_file_line_column_and_field() {
        let text = complaint("[privacy]\nmask = \"last5\"\n", &[]);
        assert!(text.contains(".toml:2:8: privacy.mask: "), "{text}");
        let text = complaint("\n[privacy]\ncolour = 1\n", &[]);
        assert!(text.contains(".toml:3:1: privacy.colour: unknown field `colour`"), "{text}");
        let text = complaint("[metrics\n", &[]);
        assert!(text.contains(".toml:1:9: "), "{text}");
        let text = complaint("[[trunk]]\nname = \"a\"\n[[trunk]]\nname = 5\n", &[]);
        assert!(text.contains(".toml:4:8: trunk[1].name: "), "{text}");
    }

    #[test]
    fn causes_of_ones_own_are_read_from_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let rows = dir.path().join("causes.toml");
        std::fs::write(&rows, "# none yet\n").unwrap();
        let text = format!("[diagnosis]\npath = {rows:?}");
        assert_eq!(load(&text, &[]).unwrap().engine().transfer.diagnosis.as_deref(), Some("# none yet\n"));
        std::fs::remove_file(&rows).unwrap();
        assert!(complaint(&text, &[]).contains("causes.toml: cannot be read"));
    }

    #[test]
    fn the_engine_looks_into_the_tunnels_that_are_captured() {
        let engine = load("[capture]\nvxlan_ports = [4790]", &[]).unwrap().engine();
        assert_eq!(engine.packet.vxlan_ports, [4790]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = load("[privacy]\nmask = \"hash\"\nkey = \"correct horse battery\"", &[]).unwrap();
        assert!(!format!("{config:?}{}", config.to_toml().unwrap()).contains("horse"));
        assert_eq!(config.privacy.key.unwrap().expose(), "correct horse battery");
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let config = load(
            "[privacy]\nmask = \"last3\"\n[metrics]\nlisten = \"127.0.0.1:1\"",
            &[("SIPOBS_PRIVACY__MASK", "full"), ("SIPOBS_JSONL__NOTICES", "true")],
        )
        .unwrap();
        assert_eq!(config.privacy.mask, Mask::Full);
        assert!(config.jsonl.notices);
        assert_eq!(config.metrics.listen.port(), 1);
    }

    #[test]
    fn a_variable_that_does_not_fit_is_named() {
        let text = complaint("", &[("SIPOBS_METRICS__LISTEN", "here")]);
        assert!(text.starts_with("environment variable SIPOBS_METRICS__LISTEN: not an IP address"), "{text}");
        let config = load("", &[("SIPOBS_METRICS__LISTEN", "2001:db8::7:9464")]).unwrap();
        assert_eq!(config.metrics.listen.to_string(), "[2001:db8::7]:9464");
        let text = complaint("", &[("SIPOBS_METRICS__PORT", "5")]);
        assert!(text.contains("SIPOBS_METRICS__PORT: unknown field `port`"), "{text}");
    }

    #[test]
    fn a_name_may_look_like_a_number() {
        let config = load("", &[("SIPOBS_OTLP__NODE", "101"), ("SIPOBS_OTLP__QUEUE", "5")]).unwrap();
        assert_eq!((config.otlp.node.as_str(), config.otlp.queue), ("101", 5));
        let text = complaint("", &[("SIPOBS_OTLP__QUEUE", "-1")]);
        assert!(text.contains("SIPOBS_OTLP__QUEUE: invalid value: integer `-1`"), "{text}");
    }

    #[test]
    fn kubernetes_service_variables_are_not_ours() {
        // Kubernetes sets these in every pod of a namespace that holds a Service named `sipobs`.
        let variables = [("SIPOBS_SERVICE_HOST", "10.0.0.1"), ("SIPOBS_PORT_9464_TCP_PORT", "9464")];
        assert_eq!(load("", &variables).unwrap(), Config::default());
    }

    #[test]
    fn otel_variables_set_otlp() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, tenant = a"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2500"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=wrong,deployment.environment.name=lab"),
            ("OTEL_SERVICE_NAME", "right"),
        ];
        let otlp = load("", &variables).unwrap().otlp;
        assert_eq!(otlp.traces_url(), Some(Endpoint::new("http://c:4318/v1/traces")));
        assert_eq!(otlp.protocol, Protocol::HttpProtobuf);
        assert_eq!(otlp.headers["authorization"].expose(), "Bearer x");
        assert_eq!(otlp.headers["tenant"].expose(), "a");
        assert_eq!(otlp.timeout_ms, 2500);
        assert_eq!(otlp.service_name, "right");
        assert_eq!(otlp.resource["deployment.environment.name"], "lab");
        assert!(!otlp.resource.contains_key("service.name"));
    }

    #[test]
    fn otel_can_be_switched_off() {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_SDK_DISABLED", "true")];
        assert_eq!(load("", &variables).unwrap().otlp.traces_url(), None);
        assert!(
            complaint("", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")])
                .contains("OTEL_EXPORTER_OTLP_PROTOCOL")
        );
    }
}
