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
mod keys;
mod limits;
mod log;
mod metrics;
mod otlp;
#[cfg(test)]
mod reference;
mod renamed;
mod secret;
mod webhook;

pub use address::socket_address;
pub use change::Change;
pub use limits::{Limits, Size};
pub use log::{LogConfig, LogFormat, LogLevel};
pub use metrics::MetricsConfig;
pub use otlp::{CallSpans, Compression, Endpoint, OtlpConfig, Protocol};
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
        if let Some(fault) = self.webhook.fault().or_else(|| self.metrics.fault()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(file.path(), text).unwrap();
        let variables = variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
        Config::load(Some(file.path()), variables).map(|(config, _)| config)
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
            ("[webhook]\nurl = \"me:q5ecret@c\"", "webhook.url: ***@c: does not begin with http"),
            ("[webhook]\nurl = \"https://c\"", "needs webhook.secret"),
            ("[webhook]\nurl = \"https://c\"\nsecret = \"q5ecret\"", "of at least 16 bytes"),
            ("[metrics]\nlisten = \"0.0.0.0:9464\"", "metrics.listen: other hosts can reach 0.0.0.0:9464"),
            ("[identity]\nheaders = [\"X-A\", \"authorization\"]", "identity.headers: Authorization"),
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
        assert!(
            text.contains("2:12: otlp.protocol: unknown value, expected `grpc` or `http/protobuf`"),
            "{text}"
        );
    }

    /// Whatever stands in a field's place: a secret there is shown in no complaint.
    #[test]
    fn no_complaint_shows_a_value() {
        let everything = "[privacy]\nkey = \"0123456789abcdef\"\n[jsonl]\npath = \"x\"\n[state]\npath = \"x\"\n[diagnosis]\npath = \
                          \"x\"\n[otlp]\nendpoint = \"http://c\"\ntraces_endpoint = \"http://c\"\ncertificate = \"x\"\nclient_certificate = \
                          \"x\"\nclient_key = \"x\"\nheaders = { a = \"b\" }\n[[trunk]]\nname = \"t\"\nhost = [\"*\"]\ncidr = [\"::/0\"]\n\
                          header = [\"x\"]\nuser_agent = [\"x\"]\nexpect = \"refer\"\n";
        let config: Config = toml::from_str(everything).unwrap();
        let mut fields = 0;
        for (section, keys) in toml::Table::try_from(&config).unwrap() {
            let keys = keys.as_array().map_or(Some(&keys), |entries| entries.first());
            for key in keys.unwrap().as_table().unwrap().keys() {
                fields += 1;
                let header = if section == "trunk" { "[[trunk]]".to_owned() } else { format!("[{section}]") };
                for value in [
                    "\"q5553331234\"",
                    "5553331234",
                    "555.3331234",
                    "[\"q5553331234\"]",
                    "{ key = 5553331234 }",
                ] {
                    let variable = format!("SIPOBS_{section}__{key}").to_uppercase();
                    let results =
                        [load(&format!("{header}\n{key} = {value}\n"), &[]), load("", &[(&variable, value)])];
                    for error in results.into_iter().filter_map(Result::err).map(|error| error.to_string()) {
                        // A file that is named and can't be read is named.
                        let shown = error.contains("5553331234") || error.contains("555.333");
                        assert!(
                            !shown || key.ends_with("path") || error.contains("cannot be read"),
                            "{section}.{key} = {value}: {error}"
                        );
                    }
                }
            }
        }
        assert!(fields > 60, "{fields} fields");
    }

    #[test]
    fn a_key_of_digits_is_a_key() {
        let variables =
            [("SIPOBS_PRIVACY__KEY", "0x1234567890abcdef"), ("SIPOBS_OTLP__HEADERS__TOKEN", "12345678")];
        let config = load("", &variables).unwrap();
        assert_eq!(config.privacy.key.unwrap().expose(), "0x1234567890abcdef");
        assert_eq!(config.otlp.headers["token"].expose(), "12345678");
        let complaint = complaint("", &[("SIPOBS_OTLP__HEADERS", "12345678")]);
        assert!(complaint.contains("a table of names and secrets"), "{complaint}");
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_everybody_can_read_draws_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (file, key) = (dir.path().join("sipobs.toml"), dir.path().join("key.pem"));
        let warnings = |text: &str, mode, variables: &[(&str, &str)]| -> Vec<String> {
            for (file, text) in [(&file, text), (&key, "")] {
                std::fs::write(file, text).unwrap();
                std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            let variables = variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
            let (_, warnings) = Config::load(Some(&file), variables).unwrap();
            warnings.iter().map(ToString::to_string).collect()
        };
        let all = format!(
            "[privacy]\nkey = \"q5ecret\"\n[otlp]\nheaders = {{ a = \"q5ecret\" }}\nendpoint = \"http://q5ecret@c\"\nclient_key = {key:?}\n"
        );
        let found = warnings(&all, 0o644, &[]);
        for (warning, field) in
            found.iter().zip(["privacy.key", "otlp.headers", "otlp.endpoint", "otlp.client_key"])
        {
            assert!(
                warning.contains(field) && warning.contains("chmod o-r") && !warning.contains("q5"),
                "{warning}"
            );
        }
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(warnings(&all, 0o640, &[]), [""; 0]);
        let nothing_secret = "[otlp]\nendpoint = \"http://c\"";
        assert_eq!(warnings(nothing_secret, 0o644, &[("SIPOBS_PRIVACY__KEY", "q5ecret")]), [""; 0]);
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

    /// What the types take and nobody can mean; zero and endless numbers are tested key by key in `reference`.
    #[test]
    fn nonsense_is_refused_where_it_stands() {
        for (text, said) in [
            (
                "[capture]\nports = [5060, 0]\n",
                ".toml:2:16: capture.ports[1]: invalid value: integer, expected a port from 1 to 65535",
            ),
            (
                "[capture]\nports = \"0-5\"\n",
                ".toml:2:9: capture.ports: invalid value: string, expected a port from 1 to 65535",
            ),
            (
                "[stream]\nports = 0\n",
                ".toml:2:9: stream.ports: invalid value: integer, expected a port from 1 to 65535",
            ),
            ("[capture]\nvxlan_ports = [1, 2, 3]\n", "2:15: capture.vxlan_ports: must be at most 2 entries"),
            (
                "[capture]\ndrop_methods = [\"INVITE\"]\n",
                "2:16: capture.drop_methods: must be any of OPTIONS, REGISTER, PUBLISH",
            ),
            (
                "[capture]\nring_bytes = 2147483648\n",
                "2:14: capture.ring_bytes: must be from 1 to 1073741824",
            ),
            (
                "[metrics]\nlisten = \"127.0.0.1:0\"\n",
                "2:10: metrics.listen: must be an address with a port from 1",
            ),
            ("[ratio]\nwindow = \"32days\"\n", "2:10: ratio.window: must be whole days, from 1 to 31"),
            ("[ratio]\nwindow = \"36h\"\n", "2:10: ratio.window: must be whole days, from 1 to 31"),
            ("[ratio]\nchance = -0.1\n", "2:10: ratio.chance: must be from 0 to 1"),
            ("[link]\nlink_at = 1.5\n", "2:11: link.link_at: must be from 0 to 1"),
            ("[link]\nsettle = \"8s\"\n", "2:10: link.settle: must be more than 0 and less than 8s"),
            ("link.weights.hold = -1.0\n", "1:21: link.weights.hold: must be more than 0"),
            (
                "[[link.headers]]\nname = \"A\"\n[[link.headers]]\nname = \"B\"\nweight = nan\n",
                "5:10: link.headers[1].weight: must be more than 0",
            ),
            (
                "[[link.headers]]\nname = \"A\"\n[[link.headers]]\nname = \"B\"\nweight = inf\n",
                "5:10: link.headers[1].weight: must be more than 0",
            ),
            ("[otlp]\nservice_name = \"\"\n", "2:16: otlp.service_name: is empty"),
            ("[state]\npath = \"\"\n", "2:8: state.path: is empty"),
            ("[capture]\nexclude = [\"lo\", \"\"]\n", "2:18: capture.exclude[1]: is empty"),
            ("[[trunk]]\nname = \"\"\nhost = [\"*\"]\n", "2:8: trunk[0].name: is empty"),
            (
                "[[trunk]]\nname = \"a\"\nhost = \"*\"\n[[trunk]]\nname = \"a\"\nhost = [\"*\"]\n",
                "4:1: trunk[1]: the same as an entry before it",
            ),
        ] {
            let error = complaint(text, &[]);
            assert!(error.contains(said), "{text}: {error}");
        }
        for (name, value, said) in [
            ("SIPOBS_OTLP__QUEUE", "0", "must be more than 0"),
            ("SIPOBS_TIMERS__IDLE", "0s", "must be more than 0"),
            ("SIPOBS_LINK__LINK_AT", "nan", "must be from 0 to 1"),
            ("SIPOBS_JSONL__PATH", "", "is empty"),
        ] {
            assert_eq!(complaint("", &[(name, value)]), format!("environment variable {name}: {said}"));
        }
        let two_ways = "[[trunk]]\nname = \"a\"\nhost = \"*\"\n[[trunk]]\nname = \"a\"\nheader = \"X-A\"\n";
        load(two_ways, &[("SIPOBS_OTLP__NODE", "")]).unwrap().check().unwrap();
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
    }

    #[test]
    fn a_variable_that_is_none_draws_a_warning() {
        let warnings = |variables: &[(&str, &str)]| -> Vec<String> {
            let variables = variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
            let (config, warnings) = Config::load(None, variables).unwrap();
            assert_eq!(config, Config::default());
            warnings.iter().map(ToString::to_string).collect()
        };
        let found = warnings(&[
            ("SIPOBS_CAPTURE_PORTS", "5060"),
            ("SIPOBS_MTRICS__LISTEN", "5"),
            ("SIPOBS_WHATEVER", "q5ecret"),
        ]);
        let expected = [
            "environment variable SIPOBS_CAPTURE_PORTS: no such setting: is SIPOBS_CAPTURE__PORTS meant?",
            "environment variable SIPOBS_MTRICS__LISTEN: no such setting: is SIPOBS_METRICS__LISTEN meant?",
            "environment variable SIPOBS_WHATEVER: no such setting: `sipobs config` prints those that there are",
        ];
        assert_eq!(found.len(), 3, "{found:?}");
        for sentence in expected {
            assert!(found.iter().any(|it| it == sentence), "{found:?}");
        }
    }

    #[test]
    fn a_list_in_a_variable_takes_no_brackets() {
        let config = load(
            "[capture]\nexclude = \"lo, eth9\"\n[[trunk]]\nname = \"t\"\nheader = \"X-A\"\nuser_agent = \"A, B*\"\n",
            &[
                ("SIPOBS_CAPTURE__PORTS", "5060,5080-5082"),
                ("SIPOBS_CAPTURE__VXLAN_PORTS", "4789"),
                ("SIPOBS_CAPTURE__INTERFACES", "eth0,/^e{1,2}$/"),
                ("SIPOBS_IDENTITY__HEADERS", "X-A,X-B"),
                ("SIPOBS_METRICS__HOSTS", "a.example"),
                ("SIPOBS_CAPTURE__DROP_METHODS", "[\"OPTIONS\"]"),
            ],
        )
        .unwrap();
        assert_eq!(config.capture.ports, [5060, 5080, 5081, 5082]);
        assert_eq!(config.capture.vxlan_ports, [4789]);
        assert_eq!(config.capture.interfaces, ["eth0", "/^e{1,2}$/"]);
        assert_eq!(config.capture.exclude, ["lo", "eth9"]);
        assert_eq!(config.capture.drop_methods, ["OPTIONS"]);
        assert_eq!(
            (config.identity.headers.len(), &*config.metrics.hosts),
            (2, &["a.example".to_owned()][..])
        );
        assert_eq!((config.trunk[0].header.len(), &*config.trunk[0].user_agent[0]), (1, "A, B*"));
        let text = complaint("", &[("SIPOBS_CAPTURE__PORTS", "5060,sip")]);
        assert!(
            text.contains(
                "SIPOBS_CAPTURE__PORTS: invalid value: string, expected a port from 1 to 65535, or a range"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_name_may_look_like_a_number() {
        let config = load("", &[("SIPOBS_OTLP__NODE", "101"), ("SIPOBS_OTLP__QUEUE", "5")]).unwrap();
        assert_eq!((config.otlp.node.as_str(), config.otlp.queue), ("101", 5));
        let text = complaint("", &[("SIPOBS_OTLP__QUEUE", "-1")]);
        assert!(text.contains("SIPOBS_OTLP__QUEUE: invalid value: integer, expected"), "{text}");
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
        assert_eq!(otlp.timeout, Duration::from_millis(2500));
        assert_eq!(otlp.service_name, "right");
        assert_eq!(otlp.resource["deployment.environment.name"], "lab");
        assert!(!otlp.resource.contains_key("service.name"));
    }

    /// Each variable that the specification names for traces, alone and for all signals.
    #[test]
    fn every_standard_variable_sets_its_key() {
        for (name, value, key, set) in [
            ("PROTOCOL", "http/protobuf", "protocol", "\"http/protobuf\""),
            ("COMPRESSION", "gzip", "compression", "\"gzip\""),
            ("TIMEOUT", "2500", "timeout", "\"2s 500ms\""),
            ("CERTIFICATE", "/ca.pem", "certificate", "\"/ca.pem\""),
            ("CLIENT_CERTIFICATE", "/me.pem", "client_certificate", "\"/me.pem\""),
            ("CLIENT_KEY", "/me.key", "client_key", "\"/me.key\""),
            ("HEADERS", "a=1", "headers", "{ a = \"(hidden)\" }"),
        ] {
            let shown = |variables: &[(&str, &str)]| {
                let otlp = load("", variables).unwrap().otlp;
                toml::Table::try_from(&otlp).unwrap().get(key).map(ToString::to_string)
            };
            let all = format!("OTEL_EXPORTER_OTLP_{name}");
            let traces = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
            for variable in [&all, &traces] {
                assert_eq!(shown(&[(variable, value)]).as_deref(), Some(set), "{variable}");
                assert_eq!(shown(&[(variable, "")]), shown(&[]), "{variable} is empty, and so unset");
            }
            let ours = format!("SIPOBS_OTLP__{}", key.to_uppercase());
            let other = match key {
                "protocol" => "grpc",
                "compression" => "none",
                "timeout" => "7s",
                _ => "/other",
            };
            if key != "headers" {
                let over = shown(&[(&all, value), (&traces, value), (&ours, other)]);
                assert_eq!(over, Some(format!("\"{other}\"")), "{ours} wins");
            }
        }
        for (first, second) in [("", "TRACES_"), ("TRACES_", "")] {
            let [one, two] = [first, second].map(|it| format!("OTEL_EXPORTER_OTLP_{it}TIMEOUT"));
            let millis = |it: &str| if it.is_empty() { "1000" } else { "2000" };
            let otlp = load("", &[(&one, millis(first)), (&two, millis(second))]).unwrap().otlp;
            assert_eq!(otlp.timeout, Duration::from_secs(2), "that for traces wins, whatever their order");
        }
    }

    #[test]
    fn the_endpoint_for_traces_is_taken_as_it_stands() {
        let url = |variables: &[(&str, &str)]| load("", variables).unwrap().otlp.traces_url().unwrap();
        let (http, all) = (("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), "OTEL_EXPORTER_OTLP_ENDPOINT");
        assert_eq!(url(&[http, (all, "http://c:4318/x")]).expose(), "http://c:4318/x/v1/traces");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/own");
        assert_eq!(url(&[http, traces, (all, "http://c:4318")]).expose(), "https://t/own");
        assert_eq!(url(&[traces]).expose(), "https://t/own");
    }

    #[test]
    fn a_standard_variable_that_makes_no_sense_is_named() {
        for (name, value, said) in [
            ("ENDPOINT", "collector:4317", "does not begin with http:// or https://"),
            ("TRACES_ENDPOINT", "me:q5ecret@c", "does not begin with http:// or https://"),
            ("PROTOCOL", "http/json", "unknown value, expected `grpc` or `http/protobuf`"),
            ("COMPRESSION", "zstd", "unknown value, expected `none` or `gzip`"),
            ("TIMEOUT", "10s", "must be a whole number of milliseconds, more than 0"),
            ("TRACES_TIMEOUT", "0", "must be a whole number of milliseconds, more than 0"),
            ("TIMEOUT", "-1", "must be a whole number of milliseconds, more than 0"),
            ("HEADERS", "q5ecret", "an entry has no `=`"),
        ] {
            let name = format!("OTEL_EXPORTER_OTLP_{name}");
            assert_eq!(complaint("", &[(&name, value)]), format!("environment variable {name}: {said}"));
        }
        let error = complaint("", &[("OTEL_RESOURCE_ATTRIBUTES", "a")]);
        assert_eq!(error, "environment variable OTEL_RESOURCE_ATTRIBUTES: an entry has no `=`");
    }

    #[test]
    fn the_services_name_is_the_nearest_one() {
        let name = |text: &str, variables: &[(&str, &str)]| load(text, variables).unwrap().otlp.service_name;
        let file = "[otlp]\nservice_name = \"file\"";
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=attributes");
        assert_eq!(name("", &[]), "sipobs");
        assert_eq!(name(file, &[]), "file");
        assert_eq!(name(file, &[attributes]), "attributes");
        assert_eq!(name(file, &[("OTEL_SERVICE_NAME", "variable"), attributes]), "variable");
        assert_eq!(name(file, &[attributes, ("OTEL_SERVICE_NAME", "")]), "attributes");
        let ours = ("SIPOBS_OTLP__SERVICE_NAME", "ours");
        assert_eq!(name(file, &[ours, ("OTEL_SERVICE_NAME", "variable"), attributes]), "ours");
    }

    #[test]
    fn otel_can_be_switched_off() {
        for (value, is_off, warnings) in
            [("true", true, 0), ("TRUE", true, 0), ("false", false, 0), ("", false, 0), ("1", false, 1)]
        {
            let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_SDK_DISABLED", value)];
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let (config, said) = Config::load(None, variables).unwrap();
            assert_eq!((config.otlp.traces_url().is_none(), said.len()), (is_off, warnings), "{value}");
            assert!(
                said.iter().all(|it| it.to_string().contains("OTEL_SDK_DISABLED: neither true nor false"))
            );
        }
        assert!(
            complaint("", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")])
                .contains("OTEL_EXPORTER_OTLP_PROTOCOL")
        );
    }
}
