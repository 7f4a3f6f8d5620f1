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
        let mut tap = Tap::with(LinkType::Raw, Config { copy_window_ms: 0, ..Config::default() });
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
