//! Any bytes as a message: the header index, and what it says of itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sipobs::sip::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::parse(data) else { return };
    for (name, spelling, value) in message.all_headers() {
        assert!(within(data, spelling) && within(data, value));
        assert!(message.headers(name).any(|known| std::ptr::eq(known, value)));
        assert!(!spelling.is_empty());
        let text = std::str::from_utf8(spelling).expect("a name is a token");
        assert!(message.other(text).is_some());
        let _ = message.values(name).count();
    }
    assert!(within(data, message.body()) && within(data, message.after_headers()));
    assert!(message.after_headers().starts_with(message.body()));
    assert!(message.defects().iter().count() <= 16);
    let _ = (message.junk_lines(), message.headers_ended(), message.headers_capped());
    for kind in ["application/sdp", "message/sipfrag"] {
        assert!(message.body_of(kind).is_none_or(|body| within(data, body)));
    }
});

fn within(data: &[u8], part: &[u8]) -> bool {
    let (outer, inner) = (data.as_ptr_range(), part.as_ptr_range());
    part.is_empty() || (outer.start <= inner.start && inner.end <= outer.end)
}
