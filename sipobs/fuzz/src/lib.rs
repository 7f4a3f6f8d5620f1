//! What the targets share: how an input is cut into records, and an engine that is quickly full.
//!
//! Every target holds what it drives to more than not panicking: accounts that balance, and an oracle where
//! there is one.

use sipobs::engine::{Config, Engine};
use sipobs::privacy::{Mask, Privacy};

/// Reads an input from its beginning; zeros after its end.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// The next two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from(self.u8()) | u16::from(self.u8()) << 8
    }

    /// The next `len` bytes, or as many as there are.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A record: its length, then its bytes.
    pub fn record(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.bytes(usize::from(len))
    }
}

/// An engine with limits that an input of a few kilobytes reaches.
pub fn small_engine() -> Engine {
    let mut config = Config::default();
    config.packet.max_fragment_bytes = 8_000;
    config.stream.max_bytes = 16_000;
    config.stream.max_stream_bytes = 3_000;
    config.stream.max_message_bytes = 2_500;
    config.transfer.limits.bytes = 50_000;
    config.transfer.limits.ladder = 8;
    Engine::new(config, Privacy::new(Mask::Last3, None).expect("needs no key"))
        .expect("the defaults are valid")
}

/// Panics if a frame or message is not accounted for.
pub fn check_books(engine: &Engine) {
    let counters = engine.counters();
    let balance = counters.balance();
    assert_eq!((balance.residual(), balance.residual_messages()), (0, 0), "{counters:#?}");
}
