//! The messages of legs, kept for a restart.
//!
//! Within a bound: where there is no room, the oldest leg's messages go first, and those of legs that had to do with a
//! transfer last of all. The leg itself stays. And the messages of a leg that took part in a transfer stay for as long as
//! another does: what is known of that one comes of both.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::{LegId, Lost};
use crate::journal::{Entry, Kept};
use crate::sip::{Message, Method};
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;

/// Messages of one leg. Of more, those in the middle go: session refreshes, as a rule.
const MOST: usize = 128;
/// The first ones, which set the call up, are not among them, even if there was a challenge and every hop is seen.
const FIRST: usize = 24;
/// Losses that are told apart.
const MOST_LOSSES: usize = 1024;
/// Legs that one takes part in transfers with, as far as they are remembered.
const MOST_KIN: usize = 16;
/// What a leg's place takes up, about.
const PLACE: usize = 128;

/// The messages of all legs.
#[derive(Debug)]
pub(super) struct Logs {
    most: usize,
    bytes: usize,
    /// How much has been noted.
    noted: u64,
    plain: BTreeMap<LegId, Log>,
    transferring: BTreeMap<LegId, Log>,
    losses: VecDeque<Loss>,
}

/// The messages of a leg.
#[derive(Debug, Default)]
struct Log {
    noted: Vec<Noted>,
    /// Legs that take, or took, part in the same transfers.
    kin: Vec<LegId>,
}

#[derive(Debug)]
struct Noted {
    number: u64,
    is_refer: bool,
    message: Kept<'static>,
}

#[derive(Debug)]
struct Loss {
    number: u64,
    between: Option<(IpAddr, IpAddr)>,
    lost: Lost,
}

impl Logs {
    /// None yet, and never more than so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            bytes: 0,
            noted: 0,
            plain: BTreeMap::new(),
            transferring: BTreeMap::new(),
            losses: VecDeque::new(),
        }
    }

    /// Bytes that they take up, about.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// A leg got a message.
    pub(super) fn note(
        &mut self,
        leg: LegId,
        transfers: bool,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
    ) {
        let noted = Noted {
            number: self.next(),
            is_refer: message.method() == Some(Method::Refer),
            message: Kept::new(wire, message.essence()),
        };
        self.bytes += noted.bytes();
        if transfers && let Some(log) = self.plain.remove(&leg) {
            self.transferring.insert(leg, log);
        }
        let logs = match transfers || self.transferring.contains_key(&leg) {
            true => &mut self.transferring,
            false => &mut self.plain,
        };
        let log = logs.entry(leg).or_insert_with(|| {
            self.bytes += PLACE;
            Log::default()
        });
        self.bytes -= log.make_room();
        log.noted.push(noted);
        while self.bytes > self.most {
            let Some((_, log)) = self.plain.pop_first().or_else(|| self.transferring.pop_first()) else {
                break;
            };
            self.bytes -= log.bytes();
        }
    }

    /// So much was lost. Of too many losses, early ones count as if they had come later, and between anybody: rather doubt
    /// too much.
    pub(super) fn lost(&mut self, between: Option<(IpAddr, IpAddr)>, lost: Lost) {
        let number = self.next();
        self.losses.push_back(Loss { number, between, lost });
        if self.losses.len() > MOST_LOSSES
            && let Some(first) = self.losses.pop_front()
            && let Some(next) = self.losses.front_mut()
        {
            next.lost = next.lost.and(first.lost);
            next.between = next.between.filter(|between| first.between == Some(*between));
        }
    }

    /// Two legs have taken part in a transfer.
    pub(super) fn relate(&mut self, one: LegId, other: LegId) {
        for (leg, kin) in [(one, other), (other, one)] {
            if let Some(log) = self.get_mut(leg) {
                log.add_kin(kin);
            }
        }
    }

    /// A leg is gone. What one of its kin still needs is now that one's.
    pub(super) fn forget(&mut self, leg: LegId) {
        let Some(log) = self.plain.remove(&leg).or_else(|| self.transferring.remove(&leg)) else { return };
        self.bytes -= log.bytes();
        let Some(heir) = log.kin.iter().copied().find(|kin| self.get(*kin).is_some()) else { return };
        let mut added = 0;
        if let Some(heirs) = self.get_mut(heir) {
            added = log.noted.iter().map(Noted::bytes).sum();
            heirs.noted.extend(log.noted);
            log.kin.into_iter().filter(|kin| *kin != heir).for_each(|kin| heirs.add_kin(kin));
        }
        self.bytes += added;
    }

    /// When the first message came that is kept of a leg.
    pub(super) fn since(&self, leg: LegId) -> Option<Timestamp> {
        self.get(leg)?.noted.first().map(|noted| noted.message.time())
    }

    /// Takes it all out, in the order in which it was heard.
    pub(super) fn take(&mut self) -> Vec<Entry<'static>> {
        let logs = [&mut self.plain, &mut self.transferring].map(std::mem::take);
        let messages: Vec<_> =
            logs.into_iter().flat_map(BTreeMap::into_values).flat_map(|log| log.noted).collect();
        self.bytes = 0;
        // What was lost before the first message is nobody's loss any more.
        let first = messages.iter().map(|noted| noted.number).min().unwrap_or(u64::MAX);
        let losses = std::mem::take(&mut self.losses).into_iter().filter(|loss| loss.number > first);
        let losses = losses.map(|Loss { number, between, lost }| (number, Entry::Loss { between, lost }));
        let messages = messages.into_iter().map(|noted| (noted.number, Entry::Message(noted.message)));
        let mut all: Vec<_> = messages.chain(losses).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, entry)| entry).collect()
    }

    fn get(&self, leg: LegId) -> Option<&Log> {
        self.plain.get(&leg).or_else(|| self.transferring.get(&leg))
    }

    fn get_mut(&mut self, leg: LegId) -> Option<&mut Log> {
        self.plain.get_mut(&leg).or_else(|| self.transferring.get_mut(&leg))
    }

    fn next(&mut self) -> u64 {
        self.noted += 1;
        self.noted
    }
}

impl Log {
    /// Lets one go where there are too many; gives the bytes that it took up.
    fn make_room(&mut self) -> usize {
        if self.noted.len() < MOST {
            return 0;
        }
        let middle = self.noted.iter().skip(FIRST).position(|noted| !noted.is_refer).unwrap_or_default();
        self.noted.remove(FIRST + middle).bytes()
    }

    fn add_kin(&mut self, kin: LegId) {
        if self.kin.len() < MOST_KIN && !self.kin.contains(&kin) {
            self.kin.push(kin);
        }
    }

    fn bytes(&self) -> usize {
        PLACE + self.noted.iter().map(Noted::bytes).sum::<usize>()
    }
}

impl Noted {
    fn bytes(&self) -> usize {
        // A list is three quarters full, more or less, and each message is held by itself.
        size_of::<Self>() * 4 / 3 + 16 + self.message.held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slot;
    use crate::stream::TransportKind;

    const ROOM: usize = 1 << 20;

    fn leg(number: u32) -> LegId {
        LegId::new(u64::from(number), Slot::new(number).unwrap()).unwrap()
    }

    fn note(logs: &mut Logs, number: u32, transfers: bool, method: &str, second: u64) {
        let text =
            format!("{method} sip:b@h SIP/2.0\r\nCall-ID: {number}\r\nCSeq: {second} {method}\r\n\r\n");
        let message = Message::parse(text.as_bytes()).unwrap();
        let host = "192.0.2.1:5060".parse().unwrap();
        let time = Timestamp::from_nanos(0) + std::time::Duration::from_secs(second);
        let bytes = text.as_bytes();
        let wire = WireMessage {
            time,
            frame: 1,
            src: host,
            dst: host,
            transport: TransportKind::Udp,
            seq: None,
            bytes,
            cut: false,
            originated: false,
        };
        logs.note(leg(number), transfers, &wire, &message);
    }

    /// Call-ID, method and time of each message.
    fn taken(logs: &mut Logs) -> Vec<(String, String, u64)> {
        let entries = logs.take();
        let messages = entries.iter().filter_map(|entry| match entry {
            Entry::Message(kept) => Some(kept),
            _ => None,
        });
        let told = messages.map(|kept| {
            let wire = kept.as_wire();
            let message = Message::parse(wire.bytes).unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let (id, method) = (text(message.call_id().unwrap()), text(&message.first_line()[..3]));
            (id, method, u64::try_from(kept.time().as_nanos()).unwrap() / 1_000_000_000)
        });
        told.collect()
    }

    #[test]
    fn transfers_and_then_the_youngest_are_kept() {
        let mut logs = Logs::new(ROOM / 64);
        note(&mut logs, 0, true, "REFER", 0);
        for number in 1..1000 {
            note(&mut logs, number, false, "INVITE", u64::from(number));
            assert!(logs.bytes() <= ROOM / 64);
        }
        let kept = taken(&mut logs);
        assert!(kept.len() > 20 && kept.len() < 100, "{}", kept.len());
        assert_eq!((kept[0].0.as_str(), kept[1].2), ("0", 1001 - kept.len() as u64));
        assert_eq!((logs.bytes(), logs.since(leg(0))), (0, None));
    }

    #[test]
    fn of_many_messages_those_in_the_middle_go() {
        let mut logs = Logs::new(ROOM);
        for second in 0..1000 {
            note(&mut logs, 1, false, if second == 50 { "REFER" } else { "UPDATE" }, second);
        }
        let bytes = logs.bytes();
        let kept = taken(&mut logs);
        assert_eq!(kept.len(), MOST);
        assert!(kept.iter().take(FIRST).map(|it| it.2).eq(0..FIRST as u64));
        assert_eq!((kept[FIRST].1.as_str(), kept[FIRST].2, kept[MOST - 1].2), ("REF", 50, 999));
        assert!(bytes > MOST * 60 && bytes < MOST * 400);
    }

    #[test]
    fn what_one_of_a_transfer_needs_of_another_stays() {
        let mut logs = Logs::new(ROOM);
        for number in [1, 2, 3] {
            note(&mut logs, number, true, "INVITE", u64::from(number));
        }
        logs.relate(leg(1), leg(2));
        logs.forget(leg(3));
        logs.forget(leg(1));
        note(&mut logs, 2, true, "BYE", 9);
        let bytes = logs.bytes();
        logs.forget(leg(2));
        assert!(bytes > 0 && logs.bytes() == 0);
        for number in [1, 2] {
            note(&mut logs, number, true, "INVITE", u64::from(number));
        }
        logs.relate(leg(2), leg(1));
        logs.forget(leg(2));
        let kept = taken(&mut logs);
        assert!(kept.iter().map(|it| it.2).eq([1, 2]), "{kept:?}");
    }

    #[test]
    fn losses_are_never_forgotten_nor_moved_back() {
        let mut logs = Logs::new(ROOM);
        let gap = Lost { gaps: 1, ..Lost::default() };
        let pair = |n: u8| Some((IpAddr::from([192, 0, 2, n]), IpAddr::from([192, 0, 2, n + 1])));
        logs.lost(pair(1), gap);
        note(&mut logs, 1, false, "INVITE", 1);
        for n in 0..=MOST_LOSSES {
            logs.lost(pair(if n == 0 { 1 } else { 3 }), gap);
        }
        let entries = logs.take();
        let losses = entries.iter().filter_map(|entry| match entry {
            Entry::Loss { between, lost } => Some((*between, lost.gaps)),
            _ => None,
        });
        let losses: Vec<_> = losses.collect();
        // Those of two pairs have become one of anybody; the one before the first message came to nothing, but for that.
        assert_eq!((losses.len(), losses[0], losses[1]), (MOST_LOSSES, (None, 3), (pair(3), 1)));
    }
}
