use proptest::prelude::*;

use super::*;

/// Cuts `stream` at the given places.
fn cut(stream: &[u8], places: &[prop::sample::Index]) -> Vec<(usize, usize)> {
    let mut ends: Vec<usize> = places.iter().map(|place| place.index(stream.len())).collect();
    ends.extend([0, stream.len()]);
    ends.sort_unstable();
    ends.dedup();
    ends.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

proptest! {
    /// However a stream is cut, in whatever order the pieces come, how often, and how far they overlap:
    /// the messages are the same.
    #[test]
    fn any_segmentation_gives_the_messages(
        bodies in prop::collection::vec(0_usize..3_000, 1..8),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        order in prop::collection::vec((any::<u32>(), 0_usize..40, 0_usize..40, 0_u8..3), 61),
        start in any::<u32>(),
        syn_last in any::<bool>(),
    ) {
        let messages: Vec<_> = bodies.iter().enumerate().map(|(n, body)| message(n, *body)).collect();
        let stream = messages.concat();
        let mut segments = Vec::new();
        for ((from, to), (place, before, after, copies)) in cut(&stream, &places).into_iter().zip(&order) {
            for copy in 0..=*copies {
                let wider = (from.saturating_sub(*before), (to + after).min(stream.len()));
                segments.push((place.rotate_left(5 * u32::from(copy)), wider));
            }
        }
        segments.sort_unstable();

        let mut ear = Ear::new();
        let at = |offset: usize| start.wrapping_add(u32::try_from(offset).unwrap()).wrapping_add(1);
        ear.tcp(start, b"", SYN);
        for (_, (from, to)) in &segments {
            ear.tcp(at(*from), &stream[*from..*to], DATA);
        }
        if syn_last {
            ear.tcp(start, b"", SYN);
        }
        prop_assert_eq!(&ear.out, &messages);
        ear.tcp(at(stream.len()), b"", FIN);
        ear.finish();
        prop_assert_eq!(&ear.loss, &[]);
        prop_assert_eq!(&ear.out, &messages);
    }

    /// Segments of which each has other bytes in its bodies: of every byte the one counts that came first, as an
    /// oracle with one cell for each byte has it.
    #[test]
    fn of_every_byte_the_first_counts(
        bodies in prop::collection::vec(0_usize..300, 1..6),
        segments in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..400, any::<u8>()), 1..60),
        start in any::<u32>(),
    ) {
        let messages: Vec<_> = bodies.iter().enumerate().map(|(n, body)| message(n, *body)).collect();
        let stream = messages.concat();
        let mut in_body = Vec::new();
        for (message, body) in messages.iter().zip(&bodies) {
            in_body.extend((0..message.len()).map(|at| at >= message.len() - body));
        }
        let mut cells: Vec<Option<u8>> = vec![None; stream.len()];
        let mut ear = Ear::new();
        let at = |offset: usize| start.wrapping_add(u32::try_from(offset).unwrap()).wrapping_add(1);
        ear.tcp(start, b"", SYN);
        // At last all of it once more, so that nothing is missing.
        let drawn = segments.iter().map(|(from, len, fill)| (from.index(stream.len()), *len, *fill));
        for (from, len, fill) in drawn.chain([(0, stream.len(), b'.')]) {
            let to = (from + len).min(stream.len());
            let bytes: Vec<u8> =
                (from..to).map(|n| if in_body[n] { fill } else { stream[n] }).collect();
            for (cell, byte) in cells[from..to].iter_mut().zip(&bytes) {
                cell.get_or_insert(*byte);
            }
            ear.tcp(at(from), &bytes, DATA);
        }
        let oracle: Vec<u8> = cells.into_iter().map(Option::unwrap).collect();
        prop_assert_eq!(ear.out.concat(), oracle);
        prop_assert_eq!(ear.out.len(), messages.len());
        prop_assert_eq!(&ear.loss, &[]);
    }

    /// Whatever segment is lost, the messages that do not touch it come out whole, in order, and nothing
    /// that was never sent does.
    #[test]
    fn any_loss_costs_only_what_it_touches(
        bodies in prop::collection::vec((0_usize..20).prop_map(|n| n * FRAGMENT.len()), 2..10),
        places in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
        lost in any::<prop::sample::Index>(),
    ) {
        let messages: Vec<_> = bodies.iter().enumerate().map(|(n, body)| message(n, *body)).collect();
        let stream = messages.concat();
        let segments = cut(&stream, &places);
        let lost = segments[lost.index(segments.len())];
        let mut ear = Ear::new();
        ear.tcp(START, b"", SYN);
        ear.back(9, &message(0, 0), DATA);
        for (from, to) in segments.iter().filter(|segment| **segment != lost) {
            ear.tcp(seq(1 + from), &stream[*from..*to], DATA);
        }
        ear.finish();
        let mut at = 0;
        let mut whole = vec![message(0, 0)];
        for message in &messages {
            if at >= lost.1 || at + message.len() <= lost.0 {
                whole.push(message.clone());
            }
            at += message.len();
        }
        let given: Vec<_> =
            ear.out.iter().zip(&ear.cut).filter(|(_, cut)| !**cut).map(|(bytes, _)| bytes.clone()).collect();
        prop_assert_eq!(given, whole);
    }

    /// Nothing panics, and every packet is accounted for (which `work` checks).
    #[test]
    fn any_packets_are_survived(
        packets in prop::collection::vec(
            (any::<bool>(), prop_oneof![0_u32..3_000, any::<u32>()], prop::collection::vec(any::<u8>(), 0..60), 0_usize..6, any::<u8>(), 0_i64..2_000),
            1..60,
        ),
    ) {
        let mut ear = Ear::with(Config { max_bytes: 20_000, max_stream_bytes: 4_000, max_message_bytes: 2_000, ..Config::default() });
        for (forward, seq, noise, kind, bits, ms) in packets {
            ear.ms += ms;
            let payload = match kind {
                0 => noise,
                1 => Vec::new(),
                n => [message(n, noise.len()), noise].concat(),
            };
            let flags = Flags {
                syn: bits & 0x0f == 0,
                fin: bits & 0x1f == 1,
                rst: bits & 0x3f == 2,
                ack: (bits & 0x40 != 0).then_some(seq ^ 0x5a5),
                cut: if bits & 0x8f == 0x83 { u32::from(bits) << (seq % 24) } else { 0 },
            };
            if forward { ear.tcp(seq, &payload, flags) } else { ear.back(seq, &payload, flags) }
            if bits == 0xff {
                ear.udp(&payload, true);
            }
        }
        ear.finish();
    }
}
