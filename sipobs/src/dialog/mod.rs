//! Messages → transactions and dialogs (RFC 3261 §12, §17).
