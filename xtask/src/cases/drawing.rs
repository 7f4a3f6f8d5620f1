//! A recorded capture → its ladder as text, for a case's README.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};

use super::play::Play;

/// Between two lifelines.
const WIDTH: usize = 30;
/// Before the first one.
const MARGIN: usize = 14;

/// The ladder of `capture`, a pcap file of Ethernet frames in which each message begins in a packet of its own
/// or right behind another.
pub(super) fn ladder(capture: &[u8], play: &Play) -> Result<String> {
    let mut out = String::new();
    let mut heads = " ".repeat(MARGIN - 4);
    for host in &play.hosts {
        let _ = write!(heads, "{:<WIDTH$}", format!("{:^9}", host.what));
    }
    let _ = writeln!(out, "{}", heads.trim_end());
    let mut start = None;
    for packet in packets(capture)? {
        let first = *start.get_or_insert(packet.micros);
        let column = |ip: IpAddr| play.hosts.iter().position(|host| host.address == ip);
        let (src, dst) = (column(packet.src), column(packet.dst));
        let (src, dst) = (src.context("an unknown sender")?, dst.context("an unknown receiver")?);
        for label in labels(packet.payload) {
            let seconds = (packet.micros - first) / 1_000;
            let time = format!("{}.{:03}", seconds / 1_000, seconds % 1_000);
            let rung = rung(src, dst, play.hosts.len(), &label);
            let _ = writeln!(out, "{time:>9}{:pad$}{rung}", "", pad = MARGIN - 9);
        }
    }
    ensure!(start.is_some(), "the capture is empty");
    Ok(out)
}

/// `|--- label --->|` between two of `count` lifelines.
fn rung(src: usize, dst: usize, count: usize, label: &str) -> String {
    let (left, right) = (src.min(dst), src.max(dst));
    let room = (right - left) * WIDTH - 1;
    let label: String = label.chars().take(room - 6).collect();
    let line = if src < dst {
        format!("-- {label} {:-<fill$}>", "", fill = room - 5 - label.chars().count())
    } else {
        format!("<- {label} {:-<fill$}", "", fill = room - 4 - label.chars().count())
    };
    let blank = format!("{:WIDTH$}", "|");
    let mut text = blank.repeat(left) + "|" + &line;
    text.push_str(&blank.repeat(count - right));
    text.trim_end().to_owned()
}

struct Packet<'a> {
    micros: u64,
    src: IpAddr,
    dst: IpAddr,
    payload: &'a [u8],
}

/// The datagrams and segments that carry something.
fn packets(capture: &[u8]) -> Result<Vec<Packet<'_>>> {
    ensure!(
        capture.starts_with(&0xa1b2_c3d4_u32.to_le_bytes()),
        "not a pcap file of this machine's byte order"
    );
    let mut rest = capture.get(24..).context("no pcap header")?;
    let mut packets = Vec::new();
    while rest.len() >= 16 {
        let word = |at: usize| {
            rest[at..at + 4].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let micros = word(0) * 1_000_000 + word(4);
        let length = usize::try_from(word(8))?;
        let frame = rest.get(16..16 + length).context("the capture is cut off")?;
        packets.extend(packet(micros, frame));
        rest = &rest[16 + length..];
    }
    Ok(packets)
}

fn packet(micros: u64, frame: &[u8]) -> Option<Packet<'_>> {
    let ip = frame.get(14..)?;
    let (protocol, src, dst, transport): (u8, IpAddr, IpAddr, &[u8]) = match *frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = usize::from(ip.first()? & 15) * 4;
            if u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x1fff != 0 {
                return None; // a fragment behind the first
            }
            let end = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
            (*ip.get(9)?, address(12)?.into(), address(16)?.into(), ip.get(header..end)?)
        }
        [0x86, 0xdd] => {
            let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?));
            (*ip.get(6)?, address(8)?.into(), address(24)?.into(), ip.get(40..)?)
        }
        _ => return None,
    };
    let header = match protocol {
        17 => 8,
        6 => usize::from(transport.get(12)? >> 4) * 4,
        _ => return None,
    };
    let payload = transport.get(header..)?;
    (!payload.is_empty()).then_some(Packet { micros, src, dst, payload })
}

/// What to write on the rungs of the messages that begin in `payload`.
fn labels(payload: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(payload);
    let mut labels = Vec::new();
    let mut rest = text.as_ref();
    while !rest.is_empty() {
        // The headers of a fragment may go on in the next.
        let (head, behind) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
        let header = |name: &str, short: &str| {
            head.lines().skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim().eq_ignore_ascii_case(name) || key.trim() == short).then(|| value.trim())
            })
        };
        let length = header("Content-Length", "l").and_then(|value| value.parse().ok()).unwrap_or(0);
        let body = behind.get(..length).unwrap_or(behind);
        labels.extend(label(head.lines().next().unwrap_or_default(), header, body));
        rest = behind.get(length..).unwrap_or_default();
    }
    labels
}

fn label<'a>(start: &str, header: impl Fn(&str, &str) -> Option<&'a str>, body: &str) -> Option<String> {
    let cseq = header("CSeq", "").unwrap_or_default();
    let method = cseq.split_whitespace().last().unwrap_or_default();
    if let Some(status) = start.strip_prefix("SIP/2.0 ") {
        return Some(if method == "INVITE" { status.to_owned() } else { format!("{status} ({method})") });
    }
    let method = start.strip_suffix(" SIP/2.0")?.split(' ').next()?;
    let detail = match method {
        "NOTIFY" if header("Content-Length", "l") == Some("0") => "(no body)".into(),
        "NOTIFY" => body.lines().next().unwrap_or_default().trim_start_matches("SIP/2.0 ").to_owned(),
        "REFER" => match header("Refer-To", "r").unwrap_or_default() {
            to if to.to_ascii_lowercase().contains("replaces=") => "with Replaces".into(),
            to => {
                let to = to.trim_matches(|c| c == '<' || c == '>');
                format!(
                    "to {}",
                    to.split_once(':').map_or(to, |(_, rest)| rest.split('@').next().unwrap_or(rest))
                )
            }
        },
        "INVITE" if header("Replaces", "").is_some() => "with Replaces".into(),
        "INVITE" if header("To", "t").is_some_and(|to| to.contains("tag=")) => {
            let hold =
                ["a=sendonly", "a=inactive", "c=IN IP4 0.0.0.0"].iter().any(|line| body.contains(line));
            if hold { "(hold)".into() } else { "(again)".into() }
        }
        _ => String::new(),
    };
    Some(format!("{method} {detail}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_reach_from_lifeline_to_lifeline() {
        let there = rung(0, 1, 2, "INVITE");
        assert_eq!(there, "|-- INVITE ------------------>|");
        assert_eq!(rung(1, 0, 2, "200 OK"), "|<- 200 OK -------------------|");
        // Across the one between, and past the one behind.
        assert_eq!(rung(2, 0, 4, "BYE").find('B'), Some(4));
        assert_eq!(rung(2, 0, 4, "BYE").matches('|').count(), 3);
        let long = rung(0, 1, 2, "407 Proxy Authentication Required");
        assert_eq!(long.len(), there.len());
    }

    #[test]
    fn several_messages_in_one_packet() {
        let text = "SIP/2.0 202 Accepted\r\nCSeq: 2 REFER\r\nContent-Length: 0\r\n\r\n\
                    NOTIFY sip:a SIP/2.0\r\nCSeq: 1 NOTIFY\r\nl: 16\r\n\r\nSIP/2.0 200 OK\r\n\
                    BYE sip:a SIP/2.0\r\nCSeq: 2 BYE\r\n\r\n";
        assert_eq!(labels(text.as_bytes()), ["202 Accepted (REFER)", "NOTIFY 200 OK", "BYE"]);
    }
}
