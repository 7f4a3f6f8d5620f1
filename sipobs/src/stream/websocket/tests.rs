//! Frames as RFC 6455 has them, however they are cut, and what breaks its rules.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;

const MAX: usize = 4096;
const OPTIONS: &[u8] = b"OPTIONS sip:a@example SIP/2.0\r\nCall-ID: 1\r\n\r\n";

fn request(extensions: &str) -> Vec<u8> {
    format!(
        "GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: sip\r\n\
         Sec-WebSocket-Extensions: {extensions}\r\n\r\n"
    )
    .into_bytes()
}

fn answer(extensions: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: sip\r\n\
         Sec-WebSocket-Extensions: {extensions}\r\n\r\n"
    )
    .into_bytes()
}

/// A frame with these first bits and opcode.
fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(bit | u8::try_from(len).unwrap()),
        len @ 126..=0xffff => {
            bytes.push(bit | 126);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            bytes.push(bit | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let key = mask.unwrap_or_default();
    bytes.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// As a sender with a window of its own packs messages.
fn packed(compress: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 64);
    compress.compress_vec(message, &mut bytes, FlushCompress::Sync).unwrap();
    assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]));
    bytes.truncate(bytes.len() - 4);
    bytes
}

#[derive(Default)]
struct Heard {
    web: Option<WebSocket>,
    counts: Counts,
    messages: Vec<Vec<u8>>,
}

impl Heard {
    fn push(&mut self, side: usize, bytes: &[u8]) -> Result<(), Unread> {
        let web = self.web.get_or_insert_with(|| WebSocket::new(side, bytes));
        let (came, read) = web.push(side, bytes, MAX, &mut self.counts, &mut |message| {
            self.messages.push(message.to_vec());
        });
        assert!(came.messages <= self.messages.len() as u64);
        // A frame, a message in fragments, a head, and a window.
        assert!(
            web.cost() <= size_of::<WebSocket>() + 2 * (4 * MAX + 2 * handshake::LONGEST + Inflate::COST)
        );
        read
    }

    fn open(extensions: &str) -> Self {
        let mut heard = Self::default();
        heard.push(0, &request(extensions)).unwrap();
        heard.push(1, &answer(extensions)).unwrap();
        heard
    }
}

#[test]
fn fragments_with_a_ping_between_are_one_message() {
    let mut heard = Heard::open("");
    let (a, b) = OPTIONS.split_at(20);
    let mut bytes = frame(0x01, a, Some([1, 2, 3, 4]));
    bytes.extend(frame(0x89, b"here?", Some([9; 4])));
    bytes.extend(frame(0x00, b"", Some([5; 4])));
    bytes.extend(frame(0x80, b, Some([0xff; 4])));
    for byte in bytes {
        heard.push(0, &[byte]).unwrap();
    }
    heard.push(1, &frame(0x82, &[OPTIONS, b"behind it"].concat(), None)).unwrap();
    assert_eq!(heard.messages[0], OPTIONS);
    assert_eq!(heard.messages.len(), 2);
    assert_eq!(heard.counts, Counts { connections: 1, ..Counts::default() });
}

#[test]
fn only_content_length_ends_a_message_early() {
    let mut heard = Heard::open("");
    let whole = b"OPTIONS sip:a@example SIP/2.0\r\nContent-Length: 2\r\n\r\nabcd";
    heard.push(1, &frame(0x81, whole, None)).unwrap();
    heard.push(1, &frame(0x81, b"\r\n\r\n", None)).unwrap();
    heard.push(1, &frame(0x81, b"hello", None)).unwrap();
    assert_eq!(heard.messages, [&whole[..whole.len() - 2]]);
    assert_eq!(heard.counts.not_sip, 1);
}

#[test]
fn compressed_messages_are_unpacked_with_and_without_their_window() {
    for (extension, anew) in
        [("permessage-deflate", false), ("permessage-deflate; server_no_context_takeover", true)]
    {
        let mut heard = Heard::open(extension);
        let mut compress = Compress::new(Compression::default(), false);
        for _ in 0..3 {
            if anew {
                compress.reset();
            }
            let bytes = packed(&mut compress, OPTIONS);
            let (a, b) = bytes.split_at(bytes.len() / 2);
            heard.push(1, &frame(0x41, a, None)).unwrap();
            heard.push(1, &frame(0x80, b, None)).unwrap();
        }
        assert_eq!(heard.messages, vec![OPTIONS; 3], "{extension}");
        // Not a compressed one.
        heard.push(1, &frame(0x81, OPTIONS, None)).unwrap();
        assert_eq!(heard.messages.len(), 4);
        assert_eq!(heard.push(1, &frame(0xc1, &[0xff; 40], None)), Err(Unread::Broken));
        assert_eq!(heard.counts.damaged, 1);
    }
}

#[test]
fn only_what_the_server_grants_is_agreed_on() {
    let small = frame(0xc1, &packed(&mut Compress::new(Compression::best(), false), OPTIONS), Some([7; 4]));
    // Offered, and not granted yet.
    let mut heard = Heard::default();
    heard.push(0, &request("permessage-deflate")).unwrap();
    assert_eq!(heard.push(0, &small), Err(Unread::Broken));
    assert_eq!((heard.counts.damaged, heard.counts.bytes_missing), (0, 1));
    // Offered, and not granted.
    let mut heard = Heard::default();
    heard.push(0, &request("permessage-deflate")).unwrap();
    heard.push(1, &answer("")).unwrap();
    assert_eq!(heard.push(0, &small), Err(Unread::Broken));
    // An offer that is read behind the answer to it changes nothing.
    for offer in ["permessage-deflate; server_no_context_takeover", ""] {
        let mut heard = Heard::default();
        heard.push(1, &answer("permessage-deflate")).unwrap();
        heard.push(0, &request(offer)).unwrap();
        let mut compress = Compress::new(Compression::default(), false);
        for _ in 0..3 {
            let bytes = packed(&mut compress, OPTIONS);
            heard.push(1, &frame(0xc1, &bytes, None)).unwrap();
        }
        assert_eq!(heard.messages, vec![OPTIONS; 3], "{offer}");
    }
}

#[test]
fn a_client_whose_request_was_missed_is_read_as_behind_a_gap() {
    let plain = frame(0x81, OPTIONS, Some([7; 4]));
    let mut heard = Heard::default();
    heard.push(1, &answer("")).unwrap();
    heard.push(0, &plain[9..]).unwrap();
    heard.push(0, &plain).unwrap();
    assert_eq!((heard.messages.len(), heard.counts.resumed, heard.counts.connections), (1, 1, 1));
    assert!(heard.web.as_ref().unwrap().is_up());
    let mut heard = Heard::default();
    heard.push(1, &answer("permessage-deflate")).unwrap();
    assert_eq!(heard.push(0, &plain), Err(Unread::Broken));
    assert_eq!(heard.counts.bytes_missing, 1);
}

#[test]
fn where_messages_are_compressed_nothing_is_read_behind_a_gap() {
    let mut heard = Heard::open("permessage-deflate");
    heard.web.as_mut().unwrap().gap(1, 9, &mut heard.counts);
    for _ in 0..2 {
        assert_eq!(heard.push(1, &frame(0x81, OPTIONS, None)), Err(Unread::Broken), "each is told of");
    }
    assert_eq!(heard.counts.bytes_missing, 1);
}

#[test]
fn what_unpacks_to_more_than_the_limit_is_not_unpacked() {
    let mut compress = Compress::new(Compression::best(), false);
    let bomb = packed(&mut compress, &vec![b'a'; 100 * MAX]);
    assert!(bomb.len() < MAX);
    let mut heard = Heard::open("permessage-deflate; client_no_context_takeover");
    heard.push(0, &frame(0xc1, &bomb, Some([7; 4]))).unwrap();
    let small = packed(&mut Compress::new(Compression::best(), false), OPTIONS);
    heard.push(0, &frame(0xc1, &small, Some([7; 4]))).unwrap();
    assert_eq!((heard.counts.too_large, heard.messages.len()), (1, 1));
    let mut heard = Heard::open("permessage-deflate");
    assert_eq!(heard.push(0, &frame(0xc1, &bomb, Some([7; 4]))), Err(Unread::Broken));
}

#[test]
fn what_is_larger_than_the_limit_is_passed_over() {
    let mut heard = Heard::open("");
    for first in [0x81, 0x01] {
        heard.push(1, &frame(first, &[b'x'; MAX + 1], None)).unwrap();
    }
    heard.push(1, &frame(0x00, &[b'x'; MAX], None)).unwrap();
    heard.push(1, &frame(0x80, OPTIONS, None)).unwrap();
    heard.push(1, &frame(0x81, OPTIONS, None)).unwrap();
    assert_eq!((heard.counts.too_large, heard.messages.len()), (2, 1));
}

#[test]
fn what_breaks_the_rules_is_not_read_on() {
    for bytes in [
        frame(0x80, OPTIONS, None),
        [frame(0x01, OPTIONS, None), frame(0x81, OPTIONS, None)].concat(),
        frame(0x83, OPTIONS, None),
        frame(0xc1, OPTIONS, None),
        frame(0xa1, OPTIONS, None),
        frame(0x09, b"", None),
        frame(0x89, &[0; 126], None),
        vec![0x81, 127, 0xff, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut heard = Heard::open("");
        assert_eq!(heard.push(1, &bytes), Err(Unread::Broken), "{:x?}", &bytes[..2]);
        assert_eq!((heard.counts.damaged, heard.messages.len()), (1, 0));
        assert_eq!(heard.push(0, &frame(0x81, OPTIONS, None)), Err(Unread::Broken));
    }
}

#[test]
fn what_does_not_ask_for_sip_is_let_go() {
    for (side, head) in [
        (0, "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (0, "GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n".to_owned()),
        (1, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_owned()),
        (0, format!("GET /{}", "a".repeat(handshake::LONGEST))),
    ] {
        let mut heard = Heard::default();
        assert_eq!(heard.push(side, head.as_bytes()), Err(Unread::Foreign), "{head:.40}");
        assert_eq!(heard.counts, Counts::default());
    }
    let mut heard = Heard::default();
    heard.push(0, &request("")).unwrap();
    assert_eq!(heard.push(1, b"HTTP/1.1 403 Forbidden\r\n\r\n"), Err(Unread::Foreign));
    assert_eq!((heard.counts.connections, heard.counts.refused), (1, 1));
    let mut heard = Heard::default();
    heard.push(0, &request("x-webkit-deflate-frame")).unwrap();
    assert_eq!(heard.push(1, &answer("x-webkit-deflate-frame")), Err(Unread::Broken));
    assert_eq!(heard.counts.extension, 1);
}

#[test]
fn behind_a_gap_a_frame_with_sip_is_found() {
    let mut heard = Heard::open("");
    let whole = frame(0x81, OPTIONS, Some([1, 2, 3, 4]));
    heard.push(0, &whole[..30]).unwrap();
    heard.web.as_mut().unwrap().gap(0, 7, &mut heard.counts);
    heard.push(0, &whole[37..]).unwrap();
    assert!(heard.messages.is_empty());
    heard.push(0, &whole).unwrap();
    assert_eq!((heard.messages.len(), heard.counts.resumed), (1, 1));
    // Within what is passed over, nothing is lost by it.
    heard.push(0, &frame(0x81, &[b'x'; MAX + 9], None)[..100]).unwrap();
    heard.web.as_mut().unwrap().gap(0, (MAX + 9 + 4 - 100) as u64 - 1, &mut heard.counts);
    heard.push(0, &[&b"x"[..], &whole].concat()).unwrap();
    assert_eq!((heard.messages.len(), heard.counts.resumed), (2, 1));
}

proptest! {
    #[test]
    fn however_frames_are_cut_the_messages_are_the_same(
        cuts in prop::collection::vec(1_usize..200, 1..20),
        sizes in prop::collection::vec(0_usize..2000, 1..6),
        mask in any::<Option<[u8; 4]>>(),
        deflate in any::<bool>(),
    ) {
        let mut heard = Heard::open(if deflate { "permessage-deflate" } else { "" });
        let mut compress = Compress::new(Compression::fast(), false);
        let (mut bytes, mut sent) = (Vec::new(), Vec::new());
        for size in sizes {
            let message = [OPTIONS, &vec![b'b'; size]].concat();
            let payload = if deflate { packed(&mut compress, &message) } else { message.clone() };
            let (a, b) = payload.split_at(payload.len() / 3);
            bytes.extend(frame(if deflate { 0x41 } else { 0x01 }, a, mask));
            bytes.extend(frame(0x8a, b"", mask));
            bytes.extend(frame(0x80, b, mask));
            sent.push(message);
        }
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (now, behind) = rest.split_at((*cut).min(rest.len()));
            heard.push(1, now).unwrap();
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(heard.messages, sent);
    }

    #[test]
    fn any_bytes_are_survived(
        pieces in prop::collection::vec((0_usize..2, prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..20),
        deflate in any::<bool>(),
    ) {
        let mut heard = Heard::open(if deflate { "permessage-deflate" } else { "" });
        for (side, bytes, gap) in pieces {
            if gap {
                heard.web.as_mut().unwrap().gap(side, 9, &mut heard.counts);
            }
            let _ = heard.push(side, &bytes);
        }
        let counts = &heard.counts;
        prop_assert!(counts.damaged + counts.bytes_missing <= 1);
    }
}
