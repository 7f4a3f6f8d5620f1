//! The configuration: defaults, then a TOML file, then the environment, then flags; each layer a plain merge
//! over the one before it.
//!
//! A file is read only where one is named (`--config` or `SIPOBS_CONFIG`), so that what a command prints
//! depends on nothing that its caller does not see. A variable `SIPOBS_SECTION__KEY` sets `key` in
//! `[section]`; the standard `OTEL_*` variables set `[otlp]`.

use std::fmt;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capture;
use crate::engine;
use crate::files;
use crate::link::LinkConfig;
use crate::packet;
use crate::privacy::{Mask, Privacy, PrivacyError};
use crate::stream;
use crate::toml_error;
use crate::transfer::absent::AbsentConfig;
use crate::transfer::identity::IdentityConfig;
use crate::transfer::ratio::RatioConfig;
use crate::transfer::{self, Timers};
use crate::trunk::TrunkConfig;

mod address;
mod bounds;
mod change;
mod env;
mod hep;
mod hep_url;
mod keys;
mod limits;
mod log;
mod metrics;
mod otlp;
mod page;
mod recorder;
#[cfg(test)]
mod reference;
mod renamed;
mod secret;
#[cfg(test)]
mod tests;
mod webhook;

pub use address::socket_address;
pub use change::Change;
pub use hep::{HepConfig, HepOutConfig};
pub use hep_url::{HepTransport, HepUrl};
pub use limits::{Limits, Size};
pub use log::{LogConfig, LogFormat, LogLevel};
pub use metrics::MetricsConfig;
pub use otlp::{CallSpans, Compression, Endpoint, OtlpConfig, Protocol};
pub use page::PageConfig;
pub use recorder::{RecorderConfig, Redact};
pub use secret::Secret;
pub use webhook::WebhookConfig;

pub use crate::list::{PortRange, entries};
pub use crate::toml_error::TomlError;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What the daemon captures, and how.
    pub capture: capture::Config,
    /// Messages that come by HEP.
    pub hep: HepConfig,
    /// Messages that are sent on by HEP.
    pub hep_out: HepOutConfig,
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
    /// What names a call elsewhere.
    pub identity: IdentityConfig,
    /// JSON lines.
    pub jsonl: JsonlConfig,
    /// Spans to an OpenTelemetry collector.
    pub otlp: OtlpConfig,
    /// Early words and verdicts to an HTTP server.
    pub webhook: WebhookConfig,
    /// The daemon's HTTP server.
    pub metrics: MetricsConfig,
    /// What the daemon finds, in a browser.
    pub page: PageConfig,
    /// The packets of transfers that failed.
    pub recorder: RecorderConfig,
    /// What the daemon keeps across restarts.
    pub state: StateConfig,
    /// Causes of your own.
    pub diagnosis: DiagnosisConfig,
    /// When the daemon reads all this anew.
    pub reload: ReloadConfig,
    /// What the daemon says of itself.
    pub log: LogConfig,
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
    /// The time between two looks at the configuration file and the causes. What has changed, and is the same at the next
    /// look, is taken up. 0: not looked at.
    #[serde(with = "crate::duration")]
    pub every: Duration,
}

impl Default for ReloadConfig {
    fn default() -> Self {
        Self { every: Duration::from_secs(5) }
    }
}

/// What the daemon keeps across restarts: each trunk's REFER ratio, which takes days to learn, and, in files beside it,
/// the calls that are not over and the spans that are not delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateConfig {
    /// The file. Without one, every start learns anew, and every end settles what is open. The files beside it hold
    /// numbers in full, whatever `privacy` says, for their owner alone; they are there from an end to the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The time between two writes.
    #[serde(with = "crate::duration")]
    pub every: Duration,
    /// Whether SIGTERM leaves what is open to the next start, which finds the file; else it is settled, as without one.
    pub handover: bool,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { path: None, every: Duration::from_secs(60), handover: true }
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
    #[error("{}:{error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Line, column, field, and what is wrong.
        error: TomlError,
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

impl Config {
    /// The longest file that is read, in bytes; as many trunks as there may be take no more.
    pub const MOST_BYTES: u64 = 4 << 20;

    /// The defaults, the file at `path` if one is given, and `variables` over it; and what its reader should know of
    /// the files and the variables.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with file, line, column and field, or with the variable's name.
    pub fn load(
        path: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut warnings = Vec::new();
        let (config, file) = match path {
            Some(path) => {
                let (text, metadata) = read(path)?;
                let wrong = |error: TomlError| {
                    let message = renamed::with_new_name(error.message);
                    ConfigError::File { path: path.to_owned(), error: TomlError { message, ..error } }
                };
                // Read once as it stands, so that an error points into the file; then as a table to lay the
                // environment over.
                let config: Self = toml_error::read(&text).map_err(wrong)?;
                if let Some(bounds::Fault { field, message }) = bounds::fault(&config) {
                    let (line, column) = toml_error::place(&text, &field);
                    return Err(wrong(TomlError { line, column, field, message }));
                }
                warnings.extend(config.secrets().filter_map(|field| Warning::of(path, &metadata, field)));
                (config, toml_error::read(&text).map_err(wrong)?)
            }
            None => Default::default(),
        };
        let (mut config, unknown) = env::over(config, file, variables)?;
        warnings.extend(unknown);
        if let Some(path) = &config.diagnosis.path {
            config.diagnosis.rows = Some(read(path)?.0);
        }
        if let Some(path) = &config.webhook.secret_file {
            let (text, metadata) = read(path)?;
            warnings.extend(Warning::of(path, &metadata, "webhook.secret_file"));
            config.webhook.read = Some(Secret::new(text.trim()));
        }
        if let Some(path) = &config.metrics.token_file {
            let (text, metadata) = read(path)?;
            warnings.extend(Warning::of(path, &metadata, "metrics.token_file"));
            config.metrics.read = Some(Secret::new(text.trim()));
        }
        // One that is missing is told where it is used.
        let keys = [("otlp.client_key", &config.otlp.client_key), ("metrics.key", &config.metrics.key)];
        warnings.extend(keys.into_iter().filter_map(|(field, key)| {
            let path = key.as_deref()?;
            Warning::of(path, &path.metadata().ok()?, field)
        }));
        Ok((config, warnings))
    }

    /// Fields that hold a secret.
    fn secrets(&self) -> impl Iterator<Item = &'static str> {
        let hides = |url: &Option<Endpoint>| url.as_ref().is_some_and(Endpoint::holds_secret);
        let fields = [
            ("privacy.key", self.privacy.key.is_some()),
            ("otlp.headers", !self.otlp.headers.is_empty()),
            ("otlp.endpoint", hides(&self.otlp.endpoint)),
            ("otlp.traces_endpoint", hides(&self.otlp.traces_endpoint)),
            ("hep.key", self.hep.key.is_some()),
            ("hep_out.key", self.hep_out.key.is_some()),
            ("webhook.secret", self.webhook.secret.is_some()),
            ("webhook.url", hides(&self.webhook.url)),
            ("metrics.token", self.metrics.token.is_some()),
        ];
        fields.into_iter().filter_map(|(field, is_there)| is_there.then_some(field))
    }

    /// The engine's part.
    pub fn engine(&self) -> engine::Config {
        let mut engine = engine::Config {
            packet: packet::Config { vxlan_ports: self.capture.vxlan_ports.clone(), ..self.packet.clone() },
            stream: self.stream.clone(),
            transfer: transfer::Config {
                notices: self.jsonl.notices || self.webhook.url.is_some(),
                timers: self.timers,
                limits: transfer::Limits::default(),
                link: self.link.clone(),
                trunk: self.trunk.clone(),
                absent: self.absent.clone(),
                ratio: self.ratio.clone(),
                identity: self.identity.clone(),
                diagnosis: self.diagnosis.rows.clone(),
            },
        };
        self.limits.divide(&mut engine, self.state.handover && self.state.path.is_some());
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
        transfer::Rules::new(&self.engine().transfer).map_err(|error| {
            match (&error, &self.diagnosis.path) {
                (transfer::ConfigError::Diagnosis(error), Some(path)) => {
                    together(&format_args!("diagnosis.path: {}: {error}", path.display()))
                }
                _ => together(&error),
            }
        })?;
        let faults = [
            self.hep.fault(),
            self.hep_out.fault(&self.hep),
            self.webhook.fault(),
            self.metrics.fault(),
            self.page.fault(&self.metrics),
        ];
        if let Some(fault) = faults.into_iter().flatten().next() {
            return Err(ConfigError::Together(fault));
        }
        match self.otlp.traces_url() {
            Some(url) if !otlp::is_http(url.expose()) => {
                Err(together(&format_args!("otlp.endpoint: {url}: does not begin with http:// or https://")))
            }
            _ => Ok(()),
        }
    }

    /// Every setting with its meaning and its default, as a file to begin one's own with; what has no default is there
    /// with an example, behind a `#`.
    pub const COMMENTED: &str = include_str!("commented.toml");

    /// As TOML, secrets hidden.
    ///
    /// # Errors
    ///
    /// When a value has no form in TOML; none of the fields is such.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

fn read(path: &Path) -> Result<(String, Metadata), ConfigError> {
    files::read_text(path, Config::MOST_BYTES)
        .map_err(|error| ConfigError::Read { path: path.to_owned(), error })
}

/// What is no error, and yet not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A secret stands where everybody can read it.
    #[error(
        "{}: everybody on this host can read it, and it holds a secret ({field}): chmod o-r",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// The secret's field.
        field: &'static str,
    },
    /// A variable that looks like one of ours.
    #[error("environment variable {name}: no such setting{}", meant(.near.as_deref()))]
    Unknown {
        /// The variable.
        name: String,
        /// The one that was probably meant.
        near: Option<String>,
    },
    /// A variable takes `true` or `false`, and holds neither.
    #[error("environment variable {name}: neither true nor false: taken for false")]
    NoBoolean {
        /// The variable.
        name: String,
    },
}

fn meant(near: Option<&str>) -> String {
    near.map_or_else(
        || ": `sipobs config` prints those that there are".into(),
        |near| format!(": is {near} meant?"),
    )
}

impl Warning {
    /// About a file that holds a secret.
    fn of(path: &Path, metadata: &Metadata, field: &'static str) -> Option<Self> {
        files::is_public(metadata).then(|| Self::Exposed { path: path.to_owned(), field })
    }
}
