//! The stages in a row: frames in, outputs out. The only place that knows them all.

use crate::capture::Frame;
use crate::packet::{self, Packets};
use crate::sip::Message;
use crate::stream::{self, Damage, Streams, WireMessage};
use crate::timestamp::Timestamp;
use crate::transfer::{Output, Transfers};

/// The sans-IO engine. Give it frames in time order, or whole messages; drain [`Self::poll_output`]; call
/// [`Self::handle_timeout`] no later than [`Self::poll_timeout`] says.
#[derive(Debug, Default)]
pub struct Engine {
    packets: Packets,
    streams: Streams,
    inner: Inner,
}

/// The half of the engine that takes whole messages: split off so that the stages before it can lend it
/// their bytes.
#[derive(Debug, Default)]
struct Inner {
    transfers: Transfers,
}

impl Engine {
    /// Takes one frame.
    pub fn frame(&mut self, frame: &Frame<'_>) {
        self.handle_timeout(frame.time);
        let (streams, inner) = (&mut self.streams, &mut self.inner);
        self.packets.push(frame, &mut |item| forward(streams, inner, frame.time, &item));
    }

    /// Takes one SIP message that some other tool already framed.
    pub fn message(&mut self, message: &WireMessage<'_>) {
        self.handle_timeout(message.time);
        self.inner.message(message);
    }

    /// Takes note of evidence lost before it reached the engine.
    pub fn damage(&mut self, now: Timestamp, damage: Damage) {
        self.inner.transfers.damage(now, damage);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        [self.packets.poll_timeout(), self.streams.poll_timeout(), self.inner.transfers.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Fires every timer due at `now`.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let (streams, inner) = (&mut self.streams, &mut self.inner);
        self.packets.handle_timeout(now, &mut |item| forward(streams, inner, now, &item));
        self.streams.handle_timeout(now, &mut |item| inner.stream_item(now, &item));
        self.inner.transfers.handle_timeout(now);
    }

    /// The capture is over at `now`: settles all that is open as it stands.
    pub fn finish(&mut self, now: Timestamp) {
        self.handle_timeout(now);
        let inner = &mut self.inner;
        self.streams.finish(&mut |item| inner.stream_item(now, &item));
        self.inner.transfers.finish(now);
    }

    /// The next output, in time order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.inner.transfers.poll_output()
    }
}

impl Inner {
    fn stream_item(&mut self, now: Timestamp, item: &stream::Item<'_>) {
        match item {
            stream::Item::Message(message) => self.message(message),
            stream::Item::Damage(damage) => self.transfers.damage(now, *damage),
        }
    }

    fn message(&mut self, wire: &WireMessage<'_>) {
        if let Ok(message) = Message::parse(wire.bytes) {
            self.transfers.message(wire, &message);
        }
    }
}

fn forward(streams: &mut Streams, inner: &mut Inner, now: Timestamp, item: &packet::Item<'_>) {
    match item {
        packet::Item::Packet(packet) => streams.push(packet, &mut |item| inner.stream_item(now, &item)),
        packet::Item::Damage(damage) => inner.transfers.damage(now, *damage),
    }
}
