//! What tells a step of the clock from silence.
//!
//! Nothing goes on after a silence that would have ended in it. A transaction lives for 32 s (RFC 3261 §17): neither is
//! a request repeated or answered later, nor an answer acknowledged. An INVITE rings for some minutes at most (timer C,
//! §16.6), and who was referred tells of it before then. RTP counts time itself (RFC 3550 §5.1).
//!
//! A request inside a call that is up tells nothing: calls are on hold for hours. But not for longer than calls are
//! remembered, and where somebody waits for news of a transfer, whole hours are the clock's.

use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

use crate::dialog::{DialogKey, is_challenge};
use crate::frame::Frame;
use crate::hash::Keyed;
use crate::leg::Branch;
use crate::packet::{self, Transport};
use crate::sip::start_line::begins_like_sip;
use crate::sip::{Message, Method};
use crate::stream::Streams;
use crate::timestamp::Timestamp;
use crate::transfer::Transfers;

/// Transactions and RTP streams that are remembered: the latest of those that share a place.
const TRANSACTIONS: usize = 1024;
const STREAMS: usize = 64;
/// The longest life of a transaction, with something to spare (64·T1 and T4).
const TRANSACTION: Duration = Duration::from_secs(40);
/// The longest that an INVITE rings.
const RINGING: Duration = Duration::from_secs(200);
/// The longest that a REFER goes without news.
const NEWS: Duration = Duration::from_secs(900);
/// No answer is later than this.
const LATE: Duration = Duration::from_secs(90);
/// Clocks are set by whole hours.
const HOUR: u128 = 3_600_000_000_000;
const LITTLE: Duration = Duration::from_secs(60);
/// A call that has been silent for so long is believed to be over.
pub(super) const FORGOTTEN: Duration = Duration::from_secs(6 * 3600);
/// A stream that has been silent for this long may do so on purpose.
const FLOWS: Duration = Duration::from_secs(1);
/// Clock rates of RTP payloads in use, the lowest first (RFC 3551).
const RATES: [u32; 4] = [8_000, 16_000, 48_000, 90_000];
/// The lowest of them runs full after six days, the highest after 13 hours.
const FULL: Duration = Duration::from_secs(12 * 3600);

/// Who can say what a leap is.
pub(crate) trait Witness {
    /// Whether two frames are of one transaction.
    fn is_one(&self, frame: &Frame<'_>, other: &Frame<'_>) -> bool;
    /// Whether its message has been seen already, about at this time.
    fn knows(&self, frame: &Frame<'_>, time: Timestamp) -> bool;
    /// What it says of a silence before it.
    fn evidence(&self, look: &Look<'_>) -> Option<Evidence>;
}

/// A frame behind what may be a silence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) frame: Frame<'a>,
    /// When the last frame before it came.
    pub(crate) last: Timestamp,
    pub(crate) silence: Duration,
    /// Nothing is known to have come between the two.
    pub(crate) at_once: bool,
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It goes on with what would have ended in a silence.
    GoesOn,
    /// So much time did pass.
    TimePassed,
}

/// What was under way lately.
#[derive(Debug)]
pub(crate) struct Memory {
    hasher: Keyed,
    transactions: Box<[Option<Transaction>]>,
    streams: Box<[Option<Stream>]>,
    /// Nothing is remembered any more.
    retired: bool,
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    key: u64,
    branch: Branch,
    /// Its latest message.
    seen: Timestamp,
    /// It had a final answer.
    answered: bool,
    /// That asked for credentials.
    challenged: bool,
    /// It is over: answered, and an INVITE's answer acknowledged.
    done: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    key: u64,
    /// The RTP timestamp of its latest packet.
    count: u32,
    seen: Timestamp,
}

/// What the engine knows.
pub(crate) struct Sight<'a> {
    pub(crate) vxlan_ports: &'a [u16],
    pub(crate) streams: &'a Streams,
    pub(crate) memory: &'a Memory,
    pub(crate) transfers: &'a Transfers,
}

impl Witness for Sight<'_> {
    fn is_one(&self, frame: &Frame<'_>, other: &Frame<'_>) -> bool {
        let transaction = |frame| {
            let message = self.message(frame)?;
            message.call_id().zip(message.cseq())
        };
        transaction(frame).is_some_and(|one| transaction(other) == Some(one))
    }

    fn knows(&self, frame: &Frame<'_>, time: Timestamp) -> bool {
        let Some(message) = self.message(frame) else { return false };
        let known = DialogKey::of(&message).ok().and_then(|key| self.memory.transaction(&message, &key));
        known.is_some_and(|known| known.seen.since(time).max(time.since(known.seen)) <= TRANSACTION)
    }

    fn evidence(&self, look: &Look<'_>) -> Option<Evidence> {
        let (src, dst, transport) = packet::peek(&look.frame, self.vxlan_ports)?;
        // Over TCP nobody repeats a request, and some answer late.
        if look.silence < LATE && !matches!(transport, Transport::Udp { .. }) {
            return None;
        }
        // Nobody stops for long in the middle of a message.
        if matches!(transport, Transport::Tcp { rst: false, .. }) && self.streams.is_mid_message(src, dst) {
            return Some(Evidence::GoesOn);
        }
        let payload = payload(transport);
        match sip(payload) {
            Some(message) => self.goes_on(&message, look).then_some(Evidence::GoesOn),
            None => self.memory.counted(src, dst, payload, look),
        }
    }
}

impl Sight<'_> {
    fn message<'a>(&self, frame: &Frame<'a>) -> Option<Message<'a>> {
        let (.., transport) = packet::peek(frame, self.vxlan_ports)?;
        sip(payload(transport))
    }

    fn goes_on(&self, message: &Message<'_>, look: &Look<'_>) -> bool {
        let Ok(key) = DialogKey::of(message) else { return false };
        let long = look.silence >= NEWS;
        let whole = look.silence.as_nanos() % HOUR <= LITTLE.as_nanos();
        match message.method() {
            _ if self.memory.goes_on(message, &key, look) => true,
            _ if look.silence >= FORGOTTEN && self.transfers.is_up(key.call_id) => true,
            Some(Method::Notify) if long && self.transfers.awaits_news(key.call_id) => true,
            Some(Method::Bye) => long && whole && self.transfers.awaits_news(key.call_id),
            Some(Method::Invite | Method::Notify | Method::Refer) => {
                long && whole && self.transfers.awaits_leg()
            }
            _ => false,
        }
    }
}

impl Memory {
    /// Somebody vouches for the time: nothing need be remembered.
    pub(crate) fn retire(&mut self) {
        self.retired = true;
    }

    /// A message came.
    pub(crate) fn message(&mut self, message: &Message<'_>, dialog: &DialogKey<'_>, time: Timestamp) {
        if self.retired || is_repeated(dialog.cseq.method) {
            return;
        }
        if message.method() == Some(Method::Ack) {
            return self.acknowledged(message, dialog);
        }
        let key = self.key(message, dialog, dialog.cseq.number);
        let branch = dialog.branch;
        let slot = &mut self.transactions[place(key, TRANSACTIONS)];
        let known = slot.filter(|known| known.key == key && known.branch == branch);
        let is_final = message.status().is_some_and(|status| status >= 200);
        let answered = is_final || known.is_some_and(|known| known.answered);
        let challenged = message.status().map_or(known.is_some_and(|known| known.challenged), is_challenge);
        let done = known.is_some_and(|known| known.done) || is_final && dialog.cseq.method != Method::Invite;
        *slot = Some(Transaction { key, branch, seen: time, answered, challenged, done });
    }

    fn acknowledged(&mut self, message: &Message<'_>, dialog: &DialogKey<'_>) {
        let key = self.key(message, dialog, dialog.cseq.number);
        if let Some(known) = self.transactions[place(key, TRANSACTIONS)].as_mut() {
            known.done |= known.key == key && known.answered;
        }
    }

    /// A packet came that is no SIP.
    pub(crate) fn packet(&mut self, packet: &packet::Packet<'_>) {
        if self.retired {
            return;
        }
        if let Some((ssrc, count)) = rtp(payload(packet.transport)) {
            let key = self.hasher.hash_one((packet.src, packet.dst, ssrc));
            self.streams[place(key, STREAMS)] = Some(Stream { key, count, seen: packet.time });
        }
    }

    /// Whether a message belongs to a transaction that would have ended in a silence.
    fn goes_on(&self, message: &Message<'_>, dialog: &DialogKey<'_>, look: &Look<'_>) -> bool {
        let Some(known) = self.transaction(message, dialog) else {
            return self.takes_up(message, dialog, look);
        };
        // What is over may come once more, from wherever it was stuck.
        if known.done {
            return false;
        }
        let age = look.last.since(known.seen);
        let rings = matches!(dialog.cseq.method, Method::Invite | Method::Cancel) && !known.answered;
        match message.method() {
            Some(Method::Ack) => known.answered && age <= TRANSACTION,
            Some(Method::Invite) => age <= TRANSACTION,
            _ if rings => age <= RINGING && look.silence > RINGING,
            _ => age <= TRANSACTION,
        }
    }

    /// Whether it is the next try of a request that was challenged (RFC 3261 §22.2).
    fn takes_up(&self, message: &Message<'_>, dialog: &DialogKey<'_>, look: &Look<'_>) -> bool {
        let before = dialog.cseq.number.checked_sub(1).map(|number| self.key(message, dialog, number));
        let known = before
            .and_then(|key| self.transactions[place(key, TRANSACTIONS)].filter(|known| known.key == key));
        message.is_request()
            && known.is_some_and(|known| known.challenged && look.last.since(known.seen) <= TRANSACTION)
    }

    fn transaction(&self, message: &Message<'_>, dialog: &DialogKey<'_>) -> Option<Transaction> {
        let key = self.key(message, dialog, dialog.cseq.number);
        let known = self.transactions[place(key, TRANSACTIONS)].filter(|known| known.key == key)?;
        // The ACK of a 2xx has a branch of its own (RFC 3261 §13.2.2.4).
        let is_ack = message.method() == Some(Method::Ack);
        (is_ack || known.branch == dialog.branch).then_some(known)
    }

    /// A number for the transaction of a message, if its CSeq had this number. A CANCEL and an ACK are about the INVITE.
    fn key(&self, message: &Message<'_>, dialog: &DialogKey<'_>, number: u32) -> u64 {
        let method = match dialog.cseq.method {
            Method::Ack => Method::Invite,
            Method::Cancel if message.is_request() => Method::Invite,
            method => method,
        };
        self.hasher.hash_one((dialog.call_id, dialog.from_tag, number, method))
    }

    /// What a stream's own clock says of a silence.
    fn counted(&self, src: SocketAddr, dst: SocketAddr, payload: &[u8], look: &Look<'_>) -> Option<Evidence> {
        let (ssrc, count) = rtp(payload)?;
        let key = self.hasher.hash_one((src, dst, ssrc));
        let known = self.streams[place(key, STREAMS)].filter(|known| known.key == key)?;
        let counted = count.wrapping_sub(known.count);
        let at = |rate: u32| Duration::from_secs((counted / rate).into());
        let near = |time: Duration| time.abs_diff(look.silence) <= look.silence / 20;
        if look.silence < FULL && RATES.into_iter().map(at).any(near) {
            return Some(Evidence::TimePassed);
        }
        // While a call is on hold some stop counting.
        let flowed = look.at_once && look.last.since(known.seen) <= FLOWS;
        (flowed && at(RATES[0]) < look.silence / 4).then_some(Evidence::GoesOn)
    }
}

impl Default for Memory {
    fn default() -> Self {
        let (transactions, streams) = (Box::new([None; TRANSACTIONS]), Box::new([None; STREAMS]));
        Self { hasher: Keyed::default(), transactions, streams, retired: false }
    }
}

/// Requests that some send under ever the same CSeq: to see who is there.
const fn is_repeated(method: Method) -> bool {
    matches!(method, Method::Options | Method::Register)
}

fn place(key: u64, places: usize) -> usize {
    usize::try_from(key % places as u64).unwrap_or(0)
}

fn payload(transport: Transport<'_>) -> &[u8] {
    match transport {
        Transport::Udp { payload, .. }
        | Transport::Tcp { payload, .. }
        | Transport::Exported { payload, .. } => payload,
    }
}

fn sip(payload: &[u8]) -> Option<Message<'_>> {
    begins_like_sip(payload).then(|| Message::parse(payload).ok()).flatten()
}

/// Source and timestamp of what looks like RTP (RFC 3550 §5.1), and not like RTCP.
fn rtp(payload: &[u8]) -> Option<(u32, u32)> {
    let header: &[u8; 12] = payload.first_chunk()?;
    let is_rtp = header[0] >> 6 == 2 && !(192..=223).contains(&header[1]);
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    is_rtp.then(|| (word(8), word(4)))
}
