//! TLS 1.2 and 1.3 with its secrets known (RFC 5246, RFC 8446): the bytes of a connection → what was said in it.
//!
//! A session is named by its ClientHello and opened by the secrets that a key log has of it. It holds what is not a whole
//! record yet, and nothing else that grows.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};
use serde::Serialize;

use self::cipher::{Key, Suite, TAG};
pub use self::keys::KeyLog;
use self::keys::Label;
pub(crate) use self::keys::Random;

mod cipher;
mod keys;
mod suites;

/// RFC 5246 §6.2.3: no record is longer than this; those of TLS 1.3 are shorter still (2^14 + 256, RFC 8446 §5.2).
const LONGEST_RECORD: usize = (1 << 14) + 2048;
/// Handshake messages longer than this are not looked into: those that matter are short.
const LONGEST_HELLO: usize = 16 << 10;
/// Records that are passed over before a known key opens one: TLS 1.3's refused early data, or those before the secrets came.
const MOST_PASSED: u32 = 64;
/// Records that may be missing in a gap, for what is behind it to be read.
const MOST_MISSING: u64 = 64;
/// What may be a record behind a gap is looked at so often.
const MOST_LOOKS: u32 = 64;
/// The shortest record that says something: its header, a byte and what seals that.
const SHORTEST_RECORD: u64 = 22;
/// Cipher suites that are counted by name.
const MOST_SUITES: usize = 16;
/// What keys take up beside a session, about.
const KEYS: usize = 512;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const FINISHED: u8 = 20;
const KEY_UPDATE: u8 = 24;

/// A ServerHello with these random bytes is a HelloRetryRequest (RFC 8446 §4.1.3).
const RETRY: Random = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What became of TLS connections whose beginning was captured, where secrets are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TlsCounts"))]
pub struct Counts {
    /// Connections that began.
    pub sessions: u64,
    /// Those of them that were opened.
    pub opened: u64,
    /// Those of which no secret is known.
    pub no_key: u64,
    /// Those of which a file has the secrets behind what they open: that was not read.
    pub late_key: u64,
    /// Those whose version or cipher suite is none that is read.
    pub cipher_suite: u64,
    /// Those, by version and suite.
    pub suites: BTreeMap<String, u64>,
    /// Those of which bytes are missing that reading on takes.
    pub bytes_missing: u64,
    /// Gaps behind which reading went on.
    pub resumed: u64,
    /// Those with a record that the secrets do not open, or that breaks the rules.
    pub record_damaged: u64,
}

/// What it takes to read on.
pub(super) struct Work<'a> {
    pub(super) keys: &'a KeyLog,
    /// More secrets may come.
    pub(super) awaits_keys: bool,
    pub(super) counts: &'a mut Counts,
    /// What is said.
    pub(super) said: &'a mut Vec<u8>,
    /// Something was said before it, and could not be read.
    pub(super) missed: bool,
}

/// Why a session can't be read, or not any further. It is counted already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread;

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    /// Which end of the connection the client is.
    client: usize,
    random: Option<Random>,
    server_random: Random,
    suite: Option<Suite>,
    lanes: [Lane; 2],
    opened: bool,
    /// Counted as one without a secret, which may come yet.
    no_key: bool,
    /// Counted as one whose secret came late.
    late_key: bool,
    /// Counted as unread.
    broken: bool,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    /// What came of a record that is not whole yet.
    buffer: BytesMut,
    /// What came of a handshake message.
    message: Vec<u8>,
    /// Bytes of one that are passed over.
    skip: usize,
    state: State,
    seq: u64,
    passed: u32,
    /// Behind a gap in which so many records may be missing: where the next one begins is searched for.
    gap: Option<u64>,
    /// Bytes behind gaps that were taken for a record and were none.
    looks: u32,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing is encrypted yet.
    #[default]
    Clear,
    /// TLS 1.3's handshake.
    Handshake(Option<Key>),
    /// What TLS 1.2 says, of which no secret is known yet.
    Sealed,
    /// What is said.
    Open { key: Key, secret: Vec<u8> },
}

impl Session {
    /// Whether a stream that begins with these bytes is TLS: a record that holds a ClientHello.
    pub(super) fn begins(bytes: &[u8]) -> bool {
        matches!(bytes, [HANDSHAKE, 3, 0..=4, _, _, CLIENT_HELLO, ..])
    }

    /// One that `client` begins.
    pub(super) fn new(client: usize, counts: &mut Counts) -> Self {
        counts.sessions += 1;
        Self {
            client,
            random: None,
            server_random: [0; 32],
            suite: None,
            lanes: Default::default(),
            opened: false,
            no_key: false,
            late_key: false,
            broken: false,
        }
    }

    /// Bytes it takes up.
    pub(super) fn cost(&self) -> usize {
        let lanes = self.lanes.iter().map(|lane| lane.buffer.capacity() + lane.message.capacity());
        size_of::<Self>() + KEYS + lanes.sum::<usize>()
    }

    /// Whether a direction waits for the rest of a record.
    pub(super) fn is_partial(&self, side: usize) -> bool {
        !self.lanes[side].buffer.is_empty()
    }

    /// Whether what comes next may be read.
    pub(super) fn goes_on(&self) -> bool {
        !self.broken
    }

    /// What names it, once its ClientHello has come; after a handshake in its midst, that one's.
    pub(super) fn random(&self) -> Option<Random> {
        self.random
    }

    /// Whether anything of it was read.
    pub(super) fn is_opened(&self) -> bool {
        self.opened
    }

    /// Takes the next bytes of a direction, and adds what they say to `work`.
    ///
    /// # Errors
    ///
    /// When it can't be read from here on.
    pub(super) fn push(&mut self, side: usize, bytes: &[u8], work: &mut Work<'_>) -> Result<(), Unread> {
        if self.broken {
            return Err(Unread);
        }
        let mut buffer = std::mem::take(&mut self.lanes[side].buffer);
        buffer.extend_from_slice(bytes);
        if self.lanes[side].gap.is_some() && !self.find_record(side, &mut buffer, work)? {
            self.lanes[side].buffer = BytesMut::from(&buffer[..]);
            return Ok(());
        }
        while let Some(&head) = buffer.first_chunk() {
            let Some(len) = record_len(head) else { return self.give_up(&mut work.counts.record_damaged) };
            let Some(record) = buffer.get(5..5 + len) else { break };
            self.record(side, head, record, work)?;
            buffer.advance(5 + len);
        }
        // What is left is no more than one record: copied, so that the room is honest.
        self.lanes[side].buffer = BytesMut::from(&buffer[..]);
        Ok(())
    }

    /// So many bytes of a direction are missing. What is behind them is found by its seal.
    pub(super) fn gap(&mut self, side: usize, missing: u64, counts: &mut Counts) {
        if self.broken {
            return;
        }
        let lane = &mut self.lanes[side];
        let whole = lane.buffer.first_chunk().and_then(|head| record_len(*head)).map(|len| len as u64 + 5);
        let rest = whole.map(|whole| whole - lane.buffer.len() as u64);
        let more = if rest == Some(missing) { 0 } else { missing / SHORTEST_RECORD };
        let records = lane.gap.unwrap_or(0).saturating_add(1 + more);
        if matches!(lane.state, State::Clear | State::Sealed) || records > MOST_MISSING {
            let _ = self.give_up(&mut counts.bytes_missing);
            return;
        }
        (lane.buffer, lane.message, lane.skip) = Default::default();
        lane.gap = Some(records);
    }

    /// Searches for the record that goes on behind a gap, and takes off what is before it; `false` if it is not there yet.
    /// No other bytes are taken for one: it must open.
    fn find_record(
        &mut self,
        side: usize,
        buffer: &mut BytesMut,
        work: &mut Work<'_>,
    ) -> Result<bool, Unread> {
        let mut at = 0;
        while let Some(&head) = buffer.get(at..).and_then(|rest| rest.first_chunk::<5>()) {
            let may_be = head[0] >= ALERT && head[1..3] == [3, 3] && record_len(head) > Some(TAG);
            let Some(len) = record_len(head).filter(|_| may_be) else {
                at += 1;
                continue;
            };
            let Some(record) = buffer.get(at + 5..at + 5 + len) else {
                buffer.advance(at);
                return Ok(false);
            };
            if self.lanes[side].looks >= MOST_LOOKS {
                return self.give_up(&mut work.counts.bytes_missing).map(|()| false);
            }
            let traffic = match &self.lanes[side].state {
                State::Handshake(_) => self.traffic_key(side, work.keys),
                _ => None,
            };
            let key = match (&self.lanes[side].state, &traffic) {
                (State::Open { key, .. }, _) | (State::Handshake(_), Some((_, key))) => key,
                _ => return self.give_up(&mut work.counts.bytes_missing).map(|()| false),
            };
            let seq = if traffic.is_some() { 0 } else { self.lanes[side].seq };
            let most = seq.saturating_add(self.lanes[side].gap.unwrap_or(0));
            let found = (seq..=most).find(|seq| key.open(*seq, head, record).is_some());
            if let Some(seq) = found {
                if let Some((secret, key)) = traffic {
                    self.begin(side, key, secret, work.counts);
                }
                (self.lanes[side].seq, self.lanes[side].gap) = (seq, None);
                work.counts.resumed += 1;
                buffer.advance(at);
                return Ok(true);
            }
            self.lanes[side].looks += 1;
            at += 1;
        }
        buffer.advance(at);
        Ok(false)
    }

    /// No secret is known. More may come; until then records are passed over.
    fn without_key(&mut self, side: usize, work: &mut Work<'_>) -> Result<(), Unread> {
        work.counts.no_key += u64::from(!std::mem::replace(&mut self.no_key, true));
        self.lanes[side].passed += 1;
        if !work.awaits_keys || self.lanes[side].passed > MOST_PASSED {
            return self.give_up(&mut 0);
        }
        Ok(())
    }

    fn give_up(&mut self, why: &mut u64) -> Result<(), Unread> {
        *why += u64::from(!self.no_key);
        self.broken = true;
        self.lanes = Default::default();
        Err(Unread)
    }

    fn record(
        &mut self,
        side: usize,
        head: [u8; 5],
        record: &[u8],
        work: &mut Work<'_>,
    ) -> Result<(), Unread> {
        let kind = head[0];
        let is_13 = self.suite.is_some_and(Suite::is_13);
        if kind == CHANGE_CIPHER_SPEC {
            // TLS 1.3 sends it for the eyes of middleboxes alone (RFC 8446 §D.4).
            if !is_13 && self.suite.is_some() {
                self.lanes[side].state = State::Sealed;
                self.lanes[side].seq = 0;
            }
            return Ok(());
        }
        match &self.lanes[side].state {
            State::Clear if kind == HANDSHAKE => self.messages(side, record, work),
            // Alerts; and early data, before it is known whether the server takes it.
            State::Clear => Ok(()),
            State::Sealed => {
                let Some(key) = self.key_12(side, work.keys) else {
                    self.lanes[side].seq += 1;
                    return self.without_key(side, work);
                };
                let seq = self.lanes[side].seq;
                self.begin(side, key, Vec::new(), work.counts);
                self.lanes[side].seq = seq;
                // The first one ends the handshake.
                self.note_missed(seq > 1, work);
                self.record(side, head, record, work)
            }
            State::Handshake(key) => {
                let lane = &self.lanes[side];
                if kind != APPLICATION_DATA {
                    return Ok(());
                }
                let opened = key.as_ref().and_then(|key| key.open(lane.seq, head, record));
                if let Some(text) = opened.and_then(inner) {
                    self.lanes[side].seq += 1;
                    return if text.1 == HANDSHAKE { self.messages(side, &text.0, work) } else { Ok(()) };
                }
                // The secrets of the handshake may be unknown, or its end out of sight.
                let Some((secret, key)) = self.traffic_key(side, work.keys) else {
                    return self.without_key(side, work);
                };
                let tried = if self.no_key { u64::from(self.lanes[side].passed) } else { 0 };
                let found =
                    (0..=tried).find_map(|seq| Some((seq, key.open(seq, head, record).and_then(inner)?)));
                match found {
                    Some((seq, (text, inner))) => {
                        self.begin(side, key, secret, work.counts);
                        self.lanes[side].seq = seq + 1;
                        self.note_missed(seq > 0, work);
                        self.open(side, inner, &text, work)
                    }
                    None => {
                        self.lanes[side].passed += 1;
                        if self.lanes[side].passed > MOST_PASSED {
                            return self.give_up(&mut work.counts.record_damaged);
                        }
                        Ok(())
                    }
                }
            }
            State::Open { key, .. } => {
                let opened = key.open(self.lanes[side].seq, head, record);
                let opened = if is_13 { opened.and_then(inner) } else { opened.map(|text| (text, kind)) };
                let Some((text, inner)) = opened else {
                    return self.give_up(&mut work.counts.record_damaged);
                };
                self.lanes[side].seq += 1;
                if inner == HANDSHAKE && !is_13 {
                    // A handshake in the midst of a session (RFC 5246 §7.4.1.1).
                    return self.messages(side, &text, work);
                }
                self.open(side, inner, &text, work)
            }
        }
    }

    /// The secret came behind records that it opens.
    fn note_missed(&mut self, missed: bool, work: &mut Work<'_>) {
        if missed {
            work.missed = true;
            work.counts.late_key += u64::from(!std::mem::replace(&mut self.late_key, true));
        }
    }

    /// Takes what an opened record says.
    fn open(&mut self, side: usize, kind: u8, text: &[u8], work: &mut Work<'_>) -> Result<(), Unread> {
        match kind {
            APPLICATION_DATA => work.said.extend_from_slice(text),
            // A KeyUpdate ends its record (RFC 8446 §5.1), and other messages are not of interest.
            HANDSHAKE if matches!(text, [.., KEY_UPDATE, 0, 0, 1, 0 | 1]) => {
                let lane = &mut self.lanes[side];
                if let (Some(suite), State::Open { secret, .. }) = (self.suite, &lane.state) {
                    let next =
                        suite.next_secret(secret).and_then(|secret| Some((suite.key_13(&secret)?, secret)));
                    let Some((key, secret)) = next else {
                        return self.give_up(&mut work.counts.record_damaged);
                    };
                    (lane.state, lane.seq) = (State::Open { key, secret }, 0);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes a part of the handshake, whose messages go over the borders of records.
    fn messages(&mut self, side: usize, mut bytes: &[u8], work: &mut Work<'_>) -> Result<(), Unread> {
        loop {
            let lane = &mut self.lanes[side];
            let skipped = lane.skip.min(bytes.len());
            lane.skip -= skipped;
            bytes = &bytes[skipped..];
            let needed = match lane.message.first_chunk() {
                Some(&[_, a, b, c]) => {
                    4 + usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX)
                }
                None => 4,
            };
            if lane.message.len() >= 4 && needed > LONGEST_HELLO {
                lane.skip = needed - lane.message.len();
                lane.message = Vec::new();
                continue;
            }
            if lane.message.len() >= 4 && lane.message.len() == needed {
                let message = std::mem::take(&mut lane.message);
                self.message(side, message[0], &message[4..], work)?;
                continue;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let (now, rest) = bytes.split_at(bytes.len().min(needed - lane.message.len()));
            lane.message.extend_from_slice(now);
            bytes = rest;
        }
    }

    fn message(&mut self, side: usize, kind: u8, body: &[u8], work: &mut Work<'_>) -> Result<(), Unread> {
        match kind {
            CLIENT_HELLO if side == self.client => {
                self.random = body.get(2..34).and_then(|random| random.try_into().ok());
                Ok(())
            }
            SERVER_HELLO if side != self.client => self.server_hello(body, work),
            FINISHED if self.suite.is_some_and(Suite::is_13) => {
                match self.traffic_key(side, work.keys) {
                    Some((secret, key)) => self.begin(side, key, secret, work.counts),
                    None => self.lanes[side].state = State::Handshake(None),
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn server_hello(&mut self, body: &[u8], work: &mut Work<'_>) -> Result<(), Unread> {
        let Some((random, suite, version)) = read_server_hello(body) else {
            return self.give_up(&mut work.counts.record_damaged);
        };
        if random == RETRY {
            return Ok(());
        }
        let known = Suite::of(suite).filter(|suite| version == if suite.is_13() { 0x0304 } else { 0x0303 });
        let Some(suite) = known else {
            let name = suites::name(version, suite);
            let suites = &mut work.counts.suites;
            if suites.len() < MOST_SUITES || suites.contains_key(&name) {
                *suites.entry(name).or_default() += 1;
            }
            return self.give_up(&mut work.counts.cipher_suite);
        };
        (self.suite, self.server_random) = (Some(suite), random);
        if suite.is_13() {
            for (side, lane) in self.lanes.iter_mut().enumerate() {
                let label = if side == self.client { Label::ClientHandshake } else { Label::ServerHandshake };
                let secret = self.random.as_ref().and_then(|random| work.keys.get(random, label));
                lane.state = State::Handshake(secret.and_then(|secret| suite.key_13(secret)));
                lane.seq = 0;
            }
        }
        Ok(())
    }

    /// The key of a direction of TLS 1.2.
    fn key_12(&self, side: usize, keys: &KeyLog) -> Option<Key> {
        let (suite, random) = self.suite.zip(self.random)?;
        let master = keys.get(&random, Label::Master)?;
        let [client, server] = suite.keys_12(master, &random, &self.server_random)?;
        Some(if side == self.client { client } else { server })
    }

    /// What a direction says is opened by this key from here on.
    fn begin(&mut self, side: usize, key: Key, secret: Vec<u8>, counts: &mut Counts) {
        let lane = &mut self.lanes[side];
        (lane.state, lane.seq) = (State::Open { key, secret }, 0);
        counts.opened += u64::from(!std::mem::replace(&mut self.opened, true));
        counts.no_key -= u64::from(std::mem::take(&mut self.no_key));
    }

    fn traffic_key(&self, side: usize, keys: &KeyLog) -> Option<(Vec<u8>, Key)> {
        let label = if side == self.client { Label::ClientTraffic } else { Label::ServerTraffic };
        let secret = keys.get(self.random.as_ref()?, label)?;
        Some((secret.to_vec(), self.suite?.key_13(secret)?))
    }
}

/// How long a record is behind this header; `None` if it is none.
fn record_len([kind, major, _, high, low]: [u8; 5]) -> Option<usize> {
    let len = usize::from(u16::from_be_bytes([high, low]));
    let is_record = (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind) && major == 3;
    (is_record && len <= LONGEST_RECORD).then_some(len)
}

/// A record of TLS 1.3 without its padding, and its type (RFC 8446 §5.2).
fn inner(mut text: Vec<u8>) -> Option<(Vec<u8>, u8)> {
    let end = text.iter().rposition(|byte| *byte != 0)?;
    let kind = text[end];
    text.truncate(end);
    Some((text, kind))
}

/// Random bytes, cipher suite and version (RFC 8446 §4.1.3, §4.2.1).
fn read_server_hello(body: &[u8]) -> Option<(Random, u16, u16)> {
    let half = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    let random = body.get(2..34)?.try_into().ok()?;
    let at = 35 + usize::from(*body.get(34)?);
    let (suite, mut version) = (half(at)?, half(0)?);
    let mut at = at + 5;
    while let (Some(kind), Some(len)) = (half(at), half(at + 2)) {
        if kind == 43 {
            version = half(at + 4)?;
        }
        at += 4 + usize::from(len);
    }
    Some((random, suite, version))
}
