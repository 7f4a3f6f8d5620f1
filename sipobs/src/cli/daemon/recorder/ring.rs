//! The last frames, in memory: bounded by bytes and by time.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use sipobs::capture::file::Next;
use sipobs::evidence::{Bond, MARGIN, Selection};
use sipobs::frame::{Direction, Frame, LinkType};
use sipobs::timestamp::Timestamp;

use crate::cli::pcap::again::Frames;

/// Bytes and frames at which a batch is handed on.
const FULL_BYTES: usize = 64 << 10;
const FULL_FRAMES: usize = 512;
/// Few frames are longer.
const LONG_FRAME: usize = 2 << 10;
/// Bytes around calls that are looked through for others beside them, at most.
const MOST_AROUND: usize = 16 << 20;

/// Frames on their way to the ring, and in it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    heads: Vec<Head>,
    bytes: Vec<u8>,
}

/// A frame without its bytes.
#[derive(Clone, Copy, Debug)]
struct Head {
    time: Timestamp,
    number: u64,
    interface: u32,
    wire_len: u32,
    /// Where its bytes end; they begin where those before end.
    end: u32,
    direction: Direction,
    link: LinkType,
}

impl Batch {
    /// Copies a frame. It must not be full.
    pub(super) fn push(&mut self, frame: &Frame<'_>) {
        let Frame { time, number, interface, direction, link, wire_len, bytes } = *frame;
        let Ok(end) = u32::try_from(self.bytes.len() + bytes.len()) else { return };
        if self.heads.is_empty() {
            // What is not needed is given back where there is time for it.
            self.bytes.reserve(FULL_BYTES + LONG_FRAME);
            self.heads.reserve(FULL_FRAMES);
        }
        self.bytes.extend_from_slice(bytes);
        self.heads.push(Head { time, number, interface, wire_len, end, direction, link });
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL_BYTES || self.heads.len() >= FULL_FRAMES
    }

    /// How many frames there are.
    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    fn frame(&self, at: usize) -> Frame<'_> {
        let start = at.checked_sub(1).map_or(0, |before| self.heads[before].end);
        let Head { time, number, interface, wire_len, end, direction, link } = self.heads[at];
        let bytes = &self.bytes[start as usize..end as usize];
        Frame { time, number, interface, direction, link, wire_len, bytes }
    }

    /// The memory that it takes.
    fn size(&self) -> usize {
        self.heads.capacity() * size_of::<Head>() + self.bytes.capacity() + size_of::<(Instant, Self)>()
    }
}

/// The frames.
#[derive(Debug)]
pub(super) struct Ring {
    /// By when they came.
    batches: VecDeque<(Instant, Batch)>,
    frames: usize,
    bytes: usize,
    most: usize,
    history: Duration,
}

/// A frame's batch, and its place there.
type Place = (usize, usize);

impl Ring {
    /// One for `most` bytes, and for frames that came within `history`.
    pub(super) fn new(most: usize, history: Duration) -> Self {
        Self { batches: VecDeque::new(), frames: 0, bytes: 0, most, history }
    }

    /// Takes frames that came at `now`; the oldest make way.
    pub(super) fn take(&mut self, mut batch: Batch, now: Instant) {
        batch.heads.shrink_to_fit();
        batch.bytes.shrink_to_fit();
        self.frames += batch.len();
        self.bytes += batch.size();
        self.batches.push_back((now, batch));
        self.forget(now);
    }

    /// Lets go of what is too old at `now`, or too much.
    pub(super) fn forget(&mut self, now: Instant) {
        while let Some((came, batch)) = self.batches.front()
            && (self.bytes > self.most || now.saturating_duration_since(*came) > self.history)
        {
            self.frames -= batch.len();
            self.bytes -= batch.size();
            self.batches.pop_front();
        }
    }

    /// Frames, and the memory that they take.
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.frames, self.bytes)
    }

    /// When the oldest frame was captured.
    pub(super) fn since(&self) -> Option<Timestamp> {
        Some(self.batches.front()?.1.heads.first()?.time)
    }

    /// Where the frames are that a selection may need: those of its calls with all of their TCP connections and fragments,
    /// or, where calls beside them are looked for, all around them.
    fn places(&self, selection: &Selection, vxlan_ports: &[u16]) -> Vec<Place> {
        let calls: Vec<_> = selection.call_ids().filter(|id| !id.is_empty()).map(Finder::new).collect();
        let own: Vec<(Place, Frame<'_>)> = self
            .all()
            .filter(|(_, frame)| {
                selection.rests_on(frame.number) || calls.iter().any(|call| names(call, frame.bytes))
            })
            .collect();
        let around = selection.is_wide().then(|| self.around(&own)).flatten();
        around.unwrap_or_else(|| self.whole(&own, vxlan_ports))
    }

    /// All frames around these, unless there are too many.
    fn around(&self, own: &[(Place, Frame<'_>)]) -> Option<Vec<Place>> {
        let times = || own.iter().map(|(_, frame)| frame.time);
        let (first, last) = (times().min()? - MARGIN, times().max()? + MARGIN);
        let mut bytes = 0;
        let mut places = Vec::new();
        for (place, frame) in self.all().filter(|(_, frame)| (first..=last).contains(&frame.time)) {
            bytes += frame.bytes.len();
            if bytes > MOST_AROUND {
                return None;
            }
            places.push(place);
        }
        Some(places)
    }

    /// These with what they can't be read without.
    fn whole(&self, own: &[(Place, Frame<'_>)], vxlan_ports: &[u16]) -> Vec<Place> {
        let bonds: BTreeSet<Bond> =
            own.iter().filter_map(|(_, frame)| Bond::of(frame, vxlan_ports)).collect();
        let own: Vec<Place> = own.iter().map(|(place, _)| *place).collect();
        if bonds.is_empty() {
            return own;
        }
        let is_bound = |frame: &Frame<'_>| Bond::of(frame, vxlan_ports).is_some_and(|it| bonds.contains(&it));
        let all = self.all().filter(|(place, frame)| own.binary_search(place).is_ok() || is_bound(frame));
        all.map(|(place, _)| place).collect()
    }

    fn all(&self) -> impl Iterator<Item = (Place, Frame<'_>)> {
        self.batches
            .iter()
            .enumerate()
            .flat_map(|(number, (_, batch))| (0..batch.len()).map(move |at| ((number, at), batch.frame(at))))
    }
}

/// Whether a header of a message may name this call: its Call-ID stands there between what a value stands between.
fn names(call_id: &Finder<'_>, bytes: &[u8]) -> bool {
    let len = call_id.needle().len();
    call_id.find_iter(bytes).any(|at| {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        let behind = bytes.get(at + len);
        before.is_none_or(|byte| b" \t:\n".contains(byte))
            && behind.is_none_or(|byte| b" \t\r\n;,".contains(byte))
    })
}

/// Looks for the frames of one file, for as many readings as that takes.
#[derive(Debug)]
pub(super) struct Search<'a> {
    ring: &'a Ring,
    vxlan_ports: &'a [u16],
    last: RefCell<Option<Found>>,
}

/// What was found.
#[derive(Debug)]
struct Found {
    /// Of which calls, and whether others beside them were looked for.
    calls: Vec<String>,
    is_wide: bool,
    places: Vec<Place>,
}

impl<'a> Search<'a> {
    pub(super) fn new(ring: &'a Ring, vxlan_ports: &'a [u16]) -> Self {
        Self { ring, vxlan_ports, last: RefCell::new(None) }
    }

    /// The frames that a selection may need; selections differ by their calls alone.
    pub(super) fn read(&self, selection: &Selection) -> Reading<'a> {
        let calls: Vec<String> = selection.call_ids().map(Into::into).collect();
        let is_wide = selection.is_wide();
        let known = self.last.take().filter(|last| last.calls == calls && last.is_wide == is_wide);
        let places = known.map_or_else(|| self.ring.places(selection, self.vxlan_ports), |last| last.places);
        self.last.replace(Some(Found { calls, is_wide, places: places.clone() }));
        Reading { ring: self.ring, places: places.into_iter() }
    }
}

/// Some of the frames, in the order in which they came.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    ring: &'a Ring,
    places: std::vec::IntoIter<Place>,
}

impl Frames for Reading<'_> {
    fn next(&mut self) -> Option<Next<'_>> {
        let (batch, at) = self.places.next()?;
        Some(Next::Frame(self.ring.batches[batch].1.frame(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::now;
    use super::*;
    use sipobs::record::LegRole;

    fn frame(number: u64, bytes: &[u8]) -> Frame<'_> {
        Frame {
            time: Timestamp::from_nanos(1_700_000_000_000_000_000) + Duration::from_secs(number),
            number,
            interface: 2,
            direction: Direction::Egress,
            link: LinkType::Ethernet,
            wire_len: 1500,
            bytes,
        }
    }

    fn batch(numbers: std::ops::Range<u64>, bytes: &[u8]) -> Batch {
        let mut batch = Batch::default();
        numbers.for_each(|number| batch.push(&frame(number, bytes)));
        batch
    }

    fn numbers(mut reading: Reading<'_>) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(Next::Frame(frame)) = reading.next() {
            numbers.push(frame.number);
        }
        numbers
    }

    fn of_call(call_id: &str) -> Selection {
        let mut selection = Selection::default();
        selection.add_leg(call_id, LegRole::Call);
        selection
    }

    #[test]
    fn it_grows_no_larger_than_it_may_and_keeps_the_last() {
        let most = 1 << 20;
        let mut ring = Ring::new(most, Duration::from_secs(60));
        for round in 0..1000 {
            ring.take(batch(round * 10..round * 10 + 10, &[b'x'; 700]), now());
            assert!(ring.kept().1 <= most, "{:?}", ring.kept());
        }
        let (frames, bytes) = ring.kept();
        assert!(frames > 1000 && bytes > most * 9 / 10, "{frames} in {bytes}");
        let counted = ring.all().count();
        assert_eq!(counted, frames);
        assert_eq!(ring.all().last().map(|(_, frame)| frame.number), Some(9_999));
        assert_eq!(ring.since(), Some(frame(10_000 - frames as u64, b"").time));
    }

    #[test]
    fn what_is_too_old_is_gone_without_new_frames_too() {
        let mut ring = Ring::new(1 << 20, Duration::from_secs(60));
        let start = now();
        ring.take(batch(0..5, b"old"), start);
        ring.take(batch(5..7, b"new"), start + Duration::from_secs(40));
        ring.forget(start + Duration::from_secs(61));
        assert_eq!(ring.all().map(|(_, frame)| frame.number).collect::<Vec<_>>(), [5, 6]);
        ring.forget(start + Duration::from_secs(200));
        assert_eq!(ring.kept(), (0, 0));
    }

    #[test]
    fn frames_are_as_they_came() {
        let mut ring = Ring::new(1 << 20, Duration::from_secs(60));
        let mut batch = Batch::default();
        let all = [frame(7, b"one"), frame(8, b""), frame(9, b"three")];
        all.iter().for_each(|frame| batch.push(frame));
        ring.take(batch, now());
        for ((_, kept), frame) in ring.all().zip(all) {
            assert_eq!(format!("{kept:?}"), format!("{frame:?}"));
        }
    }

    #[test]
    fn a_call_is_found_by_its_id_and_by_nothing_like_it() {
        let mut ring = Ring::new(1 << 20, Duration::from_secs(60));
        let texts: [&[u8]; 5] = [
            b"BYE\r\nCall-ID: abc\r\n",
            b"BYE\r\nCall-ID: xabc\r\n",
            b"BYE\r\ni:abc\r\n",
            b"BYE\r\nCall-ID: abcd\r\n",
            b"BYE\r\nReplaces: abc;to-tag=1\r\n",
        ];
        let mut batch = Batch::default();
        (0..).zip(texts).for_each(|(number, bytes)| batch.push(&frame(number, bytes)));
        ring.take(batch, now());
        let search = Search::new(&ring, &[]);
        assert_eq!(numbers(search.read(&of_call("abc"))), [0, 2, 4]);
        assert_eq!(numbers(search.read(&of_call("abc"))), [0, 2, 4], "once more");
        assert_eq!(numbers(search.read(&of_call("abcd"))), [3]);
        let mut selection = of_call("abc");
        selection.add_evidence(3, LegRole::Call);
        assert_eq!(numbers(Search::new(&ring, &[]).read(&selection)), [0, 2, 3, 4], "a verdict rests on it");
    }
}
