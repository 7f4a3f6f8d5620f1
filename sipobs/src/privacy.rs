//! What may leave the engine: numbers and users masked, credentials and bodies never.
