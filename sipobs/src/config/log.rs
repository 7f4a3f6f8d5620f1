//! `[log]`: what the daemon says of itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The daemon's log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Who reads it.
    pub format: LogFormat,
    /// What is left out: all that matters less.
    pub level: LogLevel,
    /// From the start on: if nothing like SIP was seen for so long, the log says so, with what was seen. 0: never.
    #[serde(with = "crate::duration")]
    pub silence: Duration,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: LogLevel::default(), silence: Duration::from_secs(300) }
    }
}

/// Who reads the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A person: a sentence a line. In systemd's journal with its priority, elsewhere with time and level.
    #[default]
    Text,
    /// A program: a JSON object a line.
    Json,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something is not done that should be.
    Error,
    /// Somebody should look at it.
    Warn,
    /// What happens.
    #[default]
    Info,
}
