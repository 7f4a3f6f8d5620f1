//! Outputs → the outside: JSONL, terminal, OTLP, metrics.
