//! The project's own chores.

#[allow(dead_code, reason = "the generators to come use it")]
mod wire;

fn main() {}
