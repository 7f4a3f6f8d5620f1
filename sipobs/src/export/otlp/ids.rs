//! Trace and span ids that follow from the call: whoever sees a message of it computes the same.

use md5::{Digest, Md5};
use opentelemetry::{SpanId, TraceId};

/// The trace of a call: MD5 of its Call-ID, as OpenSIPS has it, so that both end up in one trace.
pub(super) fn trace(call_id: &str) -> TraceId {
    TraceId::from_bytes(Md5::digest(call_id.as_bytes()).into())
}

/// A span of that trace. The node is part of it: two nodes that see one call give spans side by side.
pub(super) fn span(node: &str, call_id: &str, role: &str, which: &str) -> SpanId {
    let mut hash = Md5::new();
    for part in [node, call_id, role, which] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest: [u8; 16] = hash.finalize().into();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    SpanId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_the_md5_of_the_call_id() {
        // md5sum of "a84b4c76e66710@pc33.atlanta.com"
        assert_eq!(trace("a84b4c76e66710@pc33.atlanta.com").to_string(), "01e6229af3eb63b332ae8c608decb0a4");
    }

    #[test]
    fn spans_differ_by_node_call_role_and_number() {
        let one = span("n", "c", "transfer", "1");
        assert_eq!(one, span("n", "c", "transfer", "1"));
        for other in
            [span("m", "c", "transfer", "1"), span("n", "d", "transfer", "1"), span("n", "c", "call", "1")]
        {
            assert_ne!(one, other);
        }
        assert_ne!(span("n", "ca", "l", ""), span("n", "c", "al", ""), "parts do not run into each other");
    }
}
