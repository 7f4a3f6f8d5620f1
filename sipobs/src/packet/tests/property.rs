use proptest::prelude::*;

use super::*;

proptest! {
    /// However a datagram is cut and whatever comes in whatever order and how often: it comes out once.
    #[test]
    fn any_fragmentation_gives_the_datagram(
        len in 100_usize..9_000,
        unit in 1_usize..180,
        shuffle in prop::collection::vec((any::<u32>(), 0_u8..3), 1_200),
    ) {
        let payload: Vec<u8> = [SIP, &vec![b'x'; len]].concat();
        let pieces = fragments(9, &udp(5060, 5061, &payload), unit * 8);
        let mut order: Vec<(u32, usize)> = Vec::new();
        for (n, (place, copies)) in (0..pieces.len()).zip(shuffle.iter().cycle()) {
            order.extend((0..=*copies).map(|copy| (place.rotate_left(7 * u32::from(copy)), n)));
        }
        order.sort_unstable();
        let mut tap = Tap::with(LinkType::Raw, Config { copy_window: Duration::ZERO, ..Config::default() });
        let mut whole_at = None;
        let mut seen = vec![false; pieces.len()];
        for (at, (_, n)) in order.iter().enumerate() {
            tap.push(0, &pieces[*n]);
            seen[*n] = true;
            if whole_at.is_none() && seen.iter().all(|seen| *seen) {
                whole_at = Some(at);
                prop_assert_eq!(tap.out.len(), 1);
            }
        }
        prop_assert_eq!(&tap.out[0].2, &payload);
    }

    /// Fragments of either version that repeat and overlap anyhow, against an oracle that keeps them in a list and
    /// follows RFC 5722 §4 to the letter.
    #[test]
    fn overlaps_are_as_an_oracle_has_them(
        v6 in any::<bool>(),
        units in 20_usize..60,
        drawn in prop::collection::vec((0_usize..60, 1_usize..30, any::<bool>()), 1..25),
    ) {
        let payload: Vec<u8> = [SIP, &vec![b'x'; units * 8 - 8 - SIP.len()]].concat();
        let datagram = udp(5060, 5061, &payload);
        let mut tap = Tap::with(LinkType::Raw, Config { copy_window: Duration::ZERO, ..Config::default() });
        let mut oracle = Oracle::default();
        for (from, len, even) in drawn {
            // Mostly at multiples of ten, so that some fit together.
            let from = if even { from / 10 * 10 } else { from } * 8;
            let to = (from + if even { 80 } else { len * 8 }).min(datagram.len());
            let more = to < datagram.len();
            // All of it at once is no fragment.
            if from >= to || (from == 0 && !more) {
                continue;
            }
            tap.push(0, &piece(v6, from, more, &datagram[from..to]));
            oracle.push(from, to, more);
            prop_assert_eq!(tap.out.len(), oracle.whole, "{:?}", oracle);
            prop_assert_eq!(tap.unused(DiscardReason::FragmentRepeated), oracle.repeated);
            prop_assert_eq!(tap.unused(DiscardReason::FragmentOverlap), oracle.overlapping);
        }
        for (.., given, _) in &tap.out {
            prop_assert_eq!(given, &payload);
        }
    }

    /// Nothing panics, and every frame is accounted for (which `push` checks).
    #[test]
    fn any_bytes_are_survived(
        link in prop::sample::select(vec![LinkType::Null, LinkType::Ethernet, LinkType::Raw, LinkType::Sll, LinkType::Sll2]),
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        flips in prop::collection::vec((0_usize..132, any::<u8>(), any::<bool>()), 40),
        cut in 0_usize..3_000,
    ) {
        let mut tap = Tap::new(link);
        noise.iter().for_each(|bytes| tap.push_cut(0, bytes, cut));
        tap.link = LinkType::Ethernet;
        let inner = ethernet(0x0800, &v4(17, &udp(5060, 5060, SIP)));
        let vxlan = udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat());
        let mut frame = ethernet(0x8100, &[&[0, 5, 8, 0][..], &v4(17, &vxlan)].concat());
        for (at, value, fragment) in flips {
            if fragment {
                frame[24] = value & 0x3f;
            }
            frame[at] = value;
            tap.push_cut(0, &frame, cut);
            tap.push_cut(0, &frame[..at], cut);
        }
        tap.timeout(1_000_000);
        prop_assert_eq!(tap.packets.counters.fragments_waiting, 0);
    }
}

fn piece(v6_: bool, from: usize, more: bool, bytes: &[u8]) -> Vec<u8> {
    let at = u16::try_from(from).unwrap();
    if v6_ {
        let at = (at | u16::from(more)).to_be_bytes();
        v6(44, &[&[17, 0, at[0], at[1], 0, 0, 0, 9][..], bytes].concat())
    } else {
        v4_piece(9, (at / 8) | if more { 0x2000 } else { 0 }, 17, bytes)
    }
}

/// The fragments of one datagram at a time, in a list.
#[derive(Debug, Default)]
struct Oracle {
    held: Vec<(usize, usize)>,
    end: Option<usize>,
    discarded: bool,
    whole: usize,
    repeated: u64,
    overlapping: u64,
}

impl Oracle {
    fn push(&mut self, from: usize, to: usize, more: bool) {
        if self.held.iter().any(|(start, end)| *start <= from && to <= *end) && !self.discarded {
            self.repeated += 1;
            return;
        }
        let overlaps = self.held.iter().any(|(start, end)| from < *end && *start < to);
        let beyond = self.end.is_some_and(|end| to > end || (!more && to != end));
        if self.discarded || overlaps || beyond {
            self.overlapping += 1 + std::mem::take(&mut self.held).len() as u64;
            self.discarded = true;
            return;
        }
        self.held.push((from, to));
        if !more {
            self.end = Some(to);
        }
        if self.end == Some(self.held.iter().map(|(start, end)| end - start).sum()) {
            *self = Self {
                whole: self.whole + 1,
                repeated: self.repeated,
                overlapping: self.overlapping,
                ..Self::default()
            };
        }
    }
}
