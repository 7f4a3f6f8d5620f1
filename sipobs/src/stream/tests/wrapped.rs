//! Connections whose bytes can't be read without those before them.

use super::*;

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: sip\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: sip\r\n\r\n";

/// One frame of a client.
fn masked(sip: &[u8]) -> Vec<u8> {
    assert!(sip.len() < 126);
    let head = [0x81, 0x80 | u8::try_from(sip.len()).unwrap(), 1, 2, 3, 4];
    let payload = sip.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask);
    head.into_iter().chain(payload).collect()
}

/// Both heads. Where the next byte of the client is.
fn up(ear: &mut Ear) -> usize {
    ear.open();
    ear.tcp(seq(1), REQUEST, DATA);
    ear.back(100, ANSWER, DATA);
    1 + REQUEST.len()
}

#[test]
fn a_websocket_that_is_up_may_be_quiet_for_long() {
    let (mut ear, sip) = (Ear::new(), message(0, 0));
    let (mut at, frame) = (up(&mut ear), masked(&sip));
    // Longer than a handshake may take, and than a connection of SIP may be quiet.
    for ms in [120_000, 3_600_000] {
        ear.wait(ms);
        ear.tcp(seq(at), &frame, DATA);
        at += frame.len();
    }
    assert_eq!(ear.out, [sip.clone(), sip]);
    assert!(ear.loss.is_empty());
    ear.finish();
}
