//! Any bytes as a sipfrag, and as a message that carries one.

#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use sipobs::sip::{Message, Name, Sipfrag};

fuzz_target!(|data: &[u8]| {
    look(Sipfrag::parse(data).ok());
    if let Ok(message) = Message::parse(data) {
        look(Sipfrag::of(&message).ok());
    }
    let carried = [b"NOTIFY sip:a SIP/2.0\r\nc: message/sipfrag\r\n\r\n", data].concat();
    let message = Message::parse(&carried).expect("its start line is sound");
    let (carried, bare) = (Sipfrag::of(&message), Sipfrag::parse(data));
    assert_eq!(carried.ok().map(|fragment| fragment.status), bare.ok().map(|fragment| fragment.status));
});

fn look(fragment: Option<Sipfrag<'_>>) {
    if let Some(fragment) = fragment {
        assert!((100..700).contains(&fragment.status));
        black_box((fragment.reasons().count(), fragment.warnings().count()));
        black_box((fragment.header(Name::Contact), fragment.other("X-Cause")));
    }
}
