//! The `sipobs` program.
fn main() {}
