//! The configuration: TOML, environment and flags, in that order.
