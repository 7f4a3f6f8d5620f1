//! What may change while calls are up.

use super::config::{Config, ConfigError};
use super::diagnosis::Diagnoses;
use crate::trunk::Trunks;

/// Who is which trunk, and what the likely causes are.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) trunks: Trunks,
    pub(super) diagnoses: Diagnoses,
}

impl Rules {
    /// Those of `config`, checked.
    ///
    /// # Errors
    ///
    /// When a trunk, the diagnosis table or the list of headers makes no sense.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.identity.check()?;
        Ok(Self {
            trunks: Trunks::new(&config.trunk)?,
            diagnoses: Diagnoses::new(config.diagnosis.as_deref())?,
        })
    }
}
