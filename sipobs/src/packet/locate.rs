//! Where in its frames a packet lies: for whoever writes frames again, perhaps with other bytes in them.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use smallvec::SmallVec;

use super::fragment::{Fragments, Joined};
use super::{At, Config, Counters, Layer, MAX_LAYERS, Packet, Transport, Under, under};
use crate::frame::{Direction, Frame, LinkType};
use crate::timestamp::Timestamp;

/// Finds the packets in frames, copies at other taps among them, and all frames that each came in.
#[derive(Debug)]
pub(crate) struct Locator {
    fragments: Fragments,
    /// By what tells one datagram from another: addresses, identification and protocol.
    pieces: HashMap<Key, Pieces>,
    /// Those by the time of their first fragment, in the order of their coming.
    order: VecDeque<(Timestamp, Key)>,
    timeout: Duration,
    counters: Counters,
    vxlan_ports: Vec<u16>,
}

type Key = (IpAddr, IpAddr, u32, u8);

/// Fragments that came of a datagram.
#[derive(Debug, Default)]
struct Pieces {
    since: Timestamp,
    places: Vec<Piece>,
    /// The bytes of the first.
    head: Vec<u8>,
}

/// A UDP datagram of which not all fragments came.
#[derive(Debug)]
pub(crate) struct Lost<'a> {
    /// When the first of them came.
    pub(crate) time: Timestamp,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) pieces: &'a [Piece],
    /// The bytes of its beginning, if that came.
    pub(crate) head: &'a [u8],
}

/// Datagrams that wait for fragments, at most.
const MOST_WAITING: usize = 1 << 14;
/// Fragments of one of them whose places are known, at most.
const MOST_PIECES: usize = 1 << 10;
const UDP: u8 = 17;

/// A packet, and where it lies.
#[derive(Debug)]
pub(crate) struct Located<'a> {
    pub(crate) packet: Packet<'a>,
    /// What the packet was found in: the frame's own bytes, or what its datagram's fragments carry together.
    pub(crate) base: &'a [u8],
    /// Where the packet's payload lies in `base`.
    pub(crate) payload: Range<usize>,
    /// The frames that `base` is made of, in the order of their bytes; one for each fragment, repeated ones among them.
    pub(crate) pieces: &'a [Piece],
    /// The headers in `base`.
    pub(crate) layers: Layers,
    /// `base` is put together of fragments.
    pub(crate) is_joined: bool,
}

/// A part of a packet that one frame carries.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The frame's number.
    pub(crate) frame: u64,
    /// Where it belongs in the whole.
    pub(crate) at: usize,
    /// Where it lies in the frame.
    pub(crate) bytes: Range<usize>,
}

/// Where headers lie that a change of what is behind them, or in them, concerns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    /// Every Ethernet header, also within tunnels.
    pub(crate) ethernet: SmallVec<[usize; 2]>,
    /// Every IP header, outermost first.
    pub(crate) ip: SmallVec<[usize; 2]>,
    /// Every UDP and TCP header.
    pub(crate) transport: SmallVec<[Segment; 2]>,
}

/// A UDP datagram or a TCP segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Where it lies, as far as it was captured.
    pub(crate) bytes: Range<usize>,
    pub(crate) is_tcp: bool,
    /// Its end is missing.
    pub(crate) is_cut: bool,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
}

/// What is in a frame, by a look at it alone.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) layers: Layers,
    /// What lies behind the headers: a payload, or all of a fragment.
    pub(crate) inside: Range<usize>,
}

/// Looks into one frame; `None` where it holds no packet.
pub(crate) fn open(frame: &Frame<'_>, vxlan_ports: &[u16]) -> Option<Opened> {
    let mut layers = Layers::default();
    match descend(At::of(frame), frame.bytes, vxlan_ports, &mut layers)? {
        Under::Fragment(fragment) => Some(Opened { layers, inside: within(frame.bytes, fragment.bytes) }),
        Under::Packet(_, _, _, transport) => {
            Some(Opened { layers, inside: within(frame.bytes, transport.payload()) })
        }
        Under::More(_) => None,
    }
}

/// What a frame is a part of.
#[derive(Debug)]
pub(crate) enum Belongs<'a> {
    /// A datagram in fragments: addresses, identification and protocol.
    Fragment(IpAddr, IpAddr, u32, u8),
    /// A packet of its own, between these ends.
    Packet(SocketAddr, SocketAddr, Transport<'a>),
}

/// Looks at what one frame is a part of; `None` where it holds no packet.
pub(crate) fn belongs<'a>(frame: &Frame<'a>, vxlan_ports: &[u16]) -> Option<Belongs<'a>> {
    match descend(At::of(frame), frame.bytes, vxlan_ports, &mut Layers::default())? {
        Under::Fragment(it) => Some(Belongs::Fragment(it.ip.src, it.ip.dst, it.ip.id, it.protocol)),
        Under::Packet(_, src, dst, transport) => Some(Belongs::Packet(src, dst, transport)),
        Under::More(_) => None,
    }
}

impl Locator {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            fragments: Fragments::new(config.max_fragment_bytes, config.fragment_timeout),
            pieces: HashMap::new(),
            order: VecDeque::new(),
            timeout: config.fragment_timeout,
            counters: Counters::default(),
            vxlan_ports: config.vxlan_ports.clone(),
        }
    }

    /// Takes a frame, and gives the packet that it completes.
    pub(crate) fn push(&mut self, frame: &Frame<'_>, sink: &mut dyn FnMut(&Located<'_>)) {
        let mut layers = Layers::default();
        let Some(found) = descend(At::of(frame), frame.bytes, &self.vxlan_ports, &mut layers) else { return };
        let fragment = match found {
            Under::Fragment(fragment) => fragment,
            found => {
                let own = [Piece { frame: frame.number, at: 0, bytes: 0..frame.bytes.len() }];
                return give(&found, frame, frame.bytes, &own, layers, false, sink);
            }
        };
        let ip = fragment.ip;
        let key = (ip.src, ip.dst, ip.id, fragment.protocol);
        let order = &mut self.order;
        let pieces = self.pieces.entry(key).or_insert_with(|| {
            order.push_back((frame.time, key));
            Pieces { since: frame.time, ..Pieces::default() }
        });
        if pieces.places.len() < MOST_PIECES {
            let bytes = within(frame.bytes, fragment.bytes);
            pieces.places.push(Piece { frame: frame.number, at: fragment.offset, bytes });
        }
        if fragment.offset == 0 {
            pieces.head = fragment.bytes.to_vec();
        }
        let joined = self.fragments.push(frame.time, &fragment, false, &mut self.counters, &mut |_| {});
        let Joined::Whole(whole) = joined else { return };
        let mut pieces = self.pieces.remove(&key).unwrap_or_default().places;
        pieces.sort_by_key(|piece| piece.at);
        let at = At { layer: Layer::Payload(fragment.protocol, ip), bytes: &whole.bytes, missing: 0 };
        let mut layers = Layers::default();
        let Some(found) = descend(at, &whole.bytes, &self.vxlan_ports, &mut layers) else { return };
        give(&found, frame, &whole.bytes, &pieces, layers, true, sink);
    }

    /// Gives up on what has waited too long at `now`, and tells of it.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp, sink: &mut dyn FnMut(&Lost<'_>)) {
        self.fragments.handle_timeout(now, &mut self.counters, &mut |_| {});
        while let Some(&(time, key)) = self.order.front()
            && (time + self.timeout <= now || self.order.len() > MOST_WAITING)
        {
            self.order.pop_front();
            self.give_up(time, key, sink);
        }
    }

    /// The capture is over: gives up on what still waits.
    pub(crate) fn finish(&mut self, sink: &mut dyn FnMut(&Lost<'_>)) {
        for (time, key) in std::mem::take(&mut self.order) {
            self.give_up(time, key, sink);
        }
    }

    fn give_up(&mut self, time: Timestamp, key: Key, sink: &mut dyn FnMut(&Lost<'_>)) {
        let (src, dst, _, protocol) = key;
        // Of one that got whole the time may still stand in the row.
        if self.pieces.get(&key).is_none_or(|pieces| pieces.since != time) {
            return;
        }
        if let Some(Pieces { places, head, .. }) = self.pieces.remove(&key).filter(|_| protocol == UDP) {
            sink(&Lost { time, src, dst, pieces: &places, head: &head });
        }
    }
}

fn give(
    found: &Under<'_>,
    frame: &Frame<'_>,
    base: &[u8],
    pieces: &[Piece],
    layers: Layers,
    is_joined: bool,
    sink: &mut dyn FnMut(&Located<'_>),
) {
    let &Under::Packet(_, src, dst, transport) = found else { return };
    let originated = frame.direction == Direction::Originated;
    let packet = Packet { time: frame.time, frame: frame.number, src, dst, originated, transport };
    let payload = within(base, transport.payload());
    sink(&Located { packet, base, payload, pieces, layers, is_joined });
}

/// Takes headers off until there are no more, and notes where they lie in `base`.
fn descend<'a>(mut at: At<'a>, base: &[u8], vxlan_ports: &[u16], layers: &mut Layers) -> Option<Under<'a>> {
    for _ in 0..MAX_LAYERS {
        let bytes = within(base, at.bytes);
        match at.layer {
            Layer::Ip => layers.ip.push(bytes.start),
            Layer::Payload(protocol @ (6 | 17), ip) => layers.transport.push(Segment {
                bytes,
                is_tcp: protocol == 6,
                is_cut: at.missing > 0,
                src: ip.src,
                dst: ip.dst,
            }),
            Layer::Link(LinkType::Ethernet) => layers.ethernet.push(bytes.start),
            Layer::Link(_) | Layer::EtherType(_) | Layer::Pdu | Layer::Payload(..) => {}
        }
        match under(at, vxlan_ports).ok()? {
            Under::More(inside) => at = inside,
            found => return Some(found),
        }
    }
    None
}

/// Where `part` of `base` lies in it.
fn within(base: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(base.as_ptr().addr()).min(base.len());
    start..(start + part.len()).min(base.len())
}

/// Where `part` of a packet's payload lies in what the packet was found in.
pub(crate) fn place_of(located: &Located<'_>, part: &[u8]) -> Range<usize> {
    within(located.base, part)
}

impl Located<'_> {
    /// The frames that bytes of `base` lie in, and where: a place in the frame for each place in `base`.
    pub(crate) fn frames_of(
        &self,
        bytes: Range<usize>,
    ) -> impl Iterator<Item = (u64, usize, Range<usize>)> + '_ {
        self.pieces.iter().filter_map(move |piece| {
            let from = bytes.start.max(piece.at);
            let to = bytes.end.min(piece.at + piece.bytes.len());
            (from < to).then(|| (piece.frame, piece.bytes.start + from - piece.at, from..to))
        })
    }
}
