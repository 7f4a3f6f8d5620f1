//! Nobody outside a call turns its verdict: into every capture whose truth is known, any one packet from a foreign host is
//! put, at any place, under the Call-ID of a call in it, with its tags, with others, or with none; or an INVITE of another
//! call that names this one, to whom it is transferred to. What is then said may be less sure; it never becomes another
//! sure verdict, and no alert and no attempt comes of it, but one of which nothing is known.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use common::{frames, recorded};
use sipobs::engine::{Config, Engine};
use sipobs::frame::Frame;
use sipobs::privacy::{Mask, Privacy};
use sipobs::record::{Attempt, Call, Outcome, Output, ReferAbsent};
use sipobs::sip::{Message, Method};
use sipobs::stream::{TransportKind, WireMessage};

/// At how many places of each capture every packet is put, beside the first.
const PLACES: u64 = 1;
/// Of all packets that could be put into a capture, one in so many is.
const EVERY: usize = 5;
/// Captures with more frames take too long.
const LONGEST: usize = 250;
const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66)), 5060);
/// Another, who is in none of the captures.
const CALLER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 67)), 5060);

#[test]
fn one_packet_from_outside_turns_nothing() {
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut packets, mut files, mut wrong) = (0, 0, Vec::new());
    for path in captures() {
        let frames = frames(&path);
        if frames.len() > LONGEST {
            continue;
        }
        let dialogs = dialogs(&frames);
        let whole = said(&frames, None);
        files += 1;
        for (number, forgery) in
            dialogs.iter().flat_map(forgeries).enumerate().skip(files % EVERY).step_by(EVERY)
        {
            let places = (0..PLACES).map(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (dice >> 33) as usize % frames.len()
            });
            let first = (number % 5 == 0).then_some(0);
            // What comes before the dialog is known is the word of one side, and told as such.
            let places = places
                .chain(first)
                .map(|place| if forgery.begins { place.max(forgery.since) } else { place });
            for place in places.collect::<Vec<_>>() {
                let mut after = said(&frames, Some((place, &forgery)));
                if !forgery.is_call {
                    after.attempts.retain(|attempt| {
                        attempt.outcome != Outcome::Unknown
                            || whole.attempts.iter().any(|known| known.id == attempt.id)
                    });
                }
                let name = format!("{} before frame {}: {}", path.display(), place + 1, forgery.text);
                wrong.extend(compare(&whole, &after).err().map(|why| format!("{why}: {name}")));
                packets += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} times, first {}", wrong.len(), wrong[..wrong.len().min(8)].join("\n\n"));
    assert!(files > 180 && packets > 2_000, "{packets} packets in {files} files");
}

/// What a capture gives.
struct Said {
    attempts: Vec<Attempt>,
    calls: Vec<Call>,
    alerts: usize,
}

/// A dialog that a stranger knows all about.
#[derive(Debug, Default, Clone)]
struct Dialog {
    call_id: String,
    /// URI and tag of the caller and of the callee.
    ends: [(String, String); 2],
    /// The place behind its first message.
    since: usize,
    /// Their addresses.
    hosts: [Option<SocketAddr>; 2],
    /// Its requests: by the caller or not, number, method.
    requests: BTreeSet<(bool, u32, Method)>,
    /// Whom its REFERs name.
    targets: BTreeSet<String>,
}

struct Forgery {
    from: SocketAddr,
    to: SocketAddr,
    /// The place behind the dialog's first message.
    since: usize,
    /// Its Call-ID is a call's. Of another nothing is kept but whom its NOTIFYs may come from: what one host says there is an
    /// attempt, and no verdict.
    is_call: bool,
    /// It could begin something, were it the first of its Call-ID.
    begins: bool,
    text: String,
}

fn compare(whole: &Said, after: &Said) -> Result<(), String> {
    let key = |attempt: &Attempt| {
        (attempt.call_id.clone(), attempt.method, attempt.refer_cseq, attempt.started, attempt.target.clone())
    };
    if after.attempts.len() > whole.attempts.len() || after.alerts > whole.alerts {
        return Err("an attempt or an alert more".into());
    }
    for attempt in &after.attempts {
        let known = whole.attempts.iter().find(|known| key(known) == key(attempt));
        let known = known.ok_or_else(|| format!("{:?} is new", key(attempt)))?;
        let sure = [known, attempt].iter().all(|attempt| attempt.outcome != Outcome::Unknown);
        if sure && known.outcome != attempt.outcome {
            return Err(format!("{:?} is {:?}", known.outcome, attempt.outcome));
        }
    }
    for call in &after.calls {
        let known =
            whole.calls.iter().find(|known| known.call_id == call.call_id && known.answered == call.answered);
        let absent = known.map_or(&ReferAbsent::No, |known| &known.refer_absent);
        if call.refer_absent != ReferAbsent::No && *absent != call.refer_absent {
            return Err(format!("{absent:?} is {:?}", call.refer_absent));
        }
    }
    Ok(())
}

/// Every packet that a stranger may send to either end of a dialog.
fn forgeries(dialog: &Dialog) -> Vec<Forgery> {
    let mut forged = Vec::new();
    for (by, tags) in [0, 1].into_iter().flat_map(|by| [(by, "right"), (by, "wrong"), (by, "none")]) {
        let Some(to) = dialog.hosts[1 - by].or(dialog.hosts[by]) else { continue };
        let ends = [&dialog.ends[by], &dialog.ends[1 - by]].map(|(uri, tag)| match tags {
            "right" if !tag.is_empty() => format!("<{uri}>;tag={tag}"),
            "wrong" => format!("<{uri}>;tag=other"),
            _ => format!("<{uri}>"),
        });
        let head = |line: &str, ends: [&String; 2], cseq: &str, more: &str| Forgery {
            from: STRANGER,
            to,
            since: dialog.since,
            is_call: true,
            begins: ["INVITE", "REFER", "NOTIFY"].iter().any(|method| line.starts_with(method)),
            text: format!(
                "{line}\r\nVia: SIP/2.0/UDP 203.0.113.66;branch=z9hG4bKforged\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
                 CSeq: {cseq}\r\nContact: <sip:203.0.113.66>\r\n{more}",
                ends[0], ends[1], dialog.call_id
            ),
        };
        let next = dialog.requests.iter().map(|(_, number, _)| number + 1).max().unwrap_or(1);
        let frag = |status: &str| {
            format!(
                "Event: refer\r\nSubscription-State: terminated\r\nContent-Type: message/sipfrag\r\n\r\nSIP/2.0 {status}\r\n"
            )
        };
        for (method, more) in [
            ("BYE", "\r\n".to_owned()),
            ("INVITE", "\r\n".to_owned()),
            ("UPDATE", "\r\n".to_owned()),
            ("NOTIFY", frag("200 OK")),
            ("NOTIFY", frag("603 Decline")),
            ("SUBSCRIBE", "Event: refer\r\nExpires: 60\r\n\r\n".to_owned()),
            ("REFER", "Refer-To: <sip:+15105550199@203.0.113.66>\r\n\r\n".to_owned()),
        ] {
            let line = format!("{method} {} SIP/2.0", dialog.ends[1 - by].0);
            forged.push(head(&line, [&ends[0], &ends[1]], &format!("{next} {method}"), &more));
        }
        for (by_caller, number, method) in &dialog.requests {
            let (method, same) = (method.as_str(), usize::from(!by_caller) == by);
            // Under the numbers of requests that are there: CANCEL and copies as if by their sender, …
            if same && method == "INVITE" {
                let uri = &dialog.ends[1 - by].0;
                let to = format!("<{uri}>");
                for (method, cseq) in
                    [("CANCEL", *number), ("INVITE", *number), ("INVITE", number + 1), ("ACK", *number)]
                {
                    let line = format!("{method} {uri} SIP/2.0");
                    forged.push(head(&line, [&ends[0], &to], &format!("{cseq} {method}"), "\r\n"));
                }
            }
            // … and answers as if by their receiver.
            if !same && matches!(method, "INVITE" | "REFER" | "BYE") {
                for status in
                    ["180 Ringing", "200 OK", "302 Moved", "403 Forbidden", "481 Gone", "486 Busy Here"]
                {
                    let line = format!("SIP/2.0 {status}");
                    forged.push(head(&line, [&ends[1], &ends[0]], &format!("{number} {method}"), "\r\n"));
                }
            }
        }
    }
    // Under a Call-ID of no call anybody may begin one.
    let is_call = dialog.requests.iter().any(|(.., method)| *method == Method::Invite);
    forged.retain(|forgery| is_call || !forgery.text.starts_with("INVITE "));
    let forged = forged.into_iter().map(|forgery| Forgery { is_call, ..forgery });
    forged.chain(calls_that_name(dialog).into_iter().filter(|_| is_call)).collect()
}

/// INVITEs of a call of the stranger's own that say what a second leg of this one would say.
fn calls_that_name(dialog: &Dialog) -> Vec<Forgery> {
    let Dialog { call_id, ends: [(caller, caller_tag), (callee, callee_tag)], since, hosts, .. } = dialog;
    let Some(to) = hosts[0].or(hosts[1]) else { return Vec::new() };
    let nobody = "sip:+15105550177@203.0.113.1".to_owned();
    let targets: Vec<&String> = dialog.targets.iter().take(1).chain([&nobody]).collect();
    let names = [
        String::new(),
        format!("X-Call-ID: {call_id}\r\n"),
        format!("Referred-By: <{caller}>\r\n"),
        format!("Referred-By: <{callee}>\r\n"),
        format!("Diversion: <{callee}>\r\n"),
        format!("Replaces: {call_id};from-tag={caller_tag};to-tag={callee_tag}\r\n"),
    ];
    let mut forged = Vec::new();
    for ((target, from), name) in targets
        .iter()
        .flat_map(|target| [(target, caller), (target, callee)])
        .flat_map(|ends| names.iter().map(move |name| (ends, name)))
    {
        let text = format!(
            "INVITE {target} SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.67;branch=z9hG4bKforged\r\nFrom: <{from}>;tag=forged\r\n\
             To: <{target}>\r\nCall-ID: forged@203.0.113.67\r\nCSeq: 1 INVITE\r\nContact: <sip:203.0.113.67>\r\n{name}\r\n"
        );
        forged.push(Forgery { from: CALLER, to, since: *since, is_call: false, begins: true, text });
    }
    forged
}

/// The dialogs that INVITEs make, and SUBSCRIBEs.
fn dialogs(frames: &[Frame<'_>]) -> Vec<Dialog> {
    let mut dialogs = BTreeMap::<String, Dialog>::new();
    for (number, frame) in frames.iter().enumerate() {
        let Some(message) = text(frame.bytes).and_then(|text| Message::parse(text).ok()) else { continue };
        let (Some(call_id), Some(cseq), Some(from), Some(to)) =
            (message.call_id(), message.cseq(), message.from(), message.to())
        else {
            continue;
        };
        let (string, hosts) =
            (|bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned(), hosts(frame.bytes));
        let [from_tag, to_tag] = [from.tag(), to.tag()].map(|tag| string(tag.unwrap_or_default()));
        let dialog = dialogs.entry(string(call_id)).or_default();
        if dialog.call_id.is_empty() {
            dialog.call_id = string(call_id);
            dialog.ends = [(string(from.uri), from_tag.clone()), (string(to.uri), to_tag.clone())];
            (dialog.hosts, dialog.since) = (hosts, (number + 1).min(frames.len() - 1));
        }
        let by_caller = from_tag == dialog.ends[0].1;
        if by_caller
            && message.status().is_some_and(|status| (200..300).contains(&status))
            && dialog.ends[1].1.is_empty()
        {
            dialog.ends[1].1 = to_tag;
        }
        let referred = message.header(sipobs::sip::Name::ReferTo).and_then(sipobs::sip::NameAddr::parse);
        dialog.targets.extend(referred.map(|to| string(to.uri.split(|byte| *byte == b'?').next().unwrap())));
        if message.is_request() {
            dialog.requests.insert((by_caller, cseq.number, cseq.method));
        }
    }
    let mut dialogs: Vec<Dialog> = dialogs.into_values().collect();
    let makes = |method: &Method| matches!(method, Method::Invite | Method::Subscribe);
    dialogs.retain(|dialog| dialog.requests.iter().any(|(.., method)| makes(method)));
    // Of files with many calls, a few.
    dialogs.truncate(3);
    dialogs
}

/// The SIP message in a frame that holds nothing else.
fn text(frame: &[u8]) -> Option<&[u8]> {
    let marker = b"SIP/2.0";
    let found = frame.windows(marker.len()).position(|bytes| bytes == marker)?;
    let start = frame[..found].iter().rposition(|byte| !(b' '..=b'~').contains(byte)).map_or(0, |at| at + 1);
    // A port's byte may look like a letter.
    let start = (start..=found).find(|at| frame[*at].is_ascii_uppercase())?;
    Some(&frame[start..])
}

/// Sender and receiver of an Ethernet frame with IPv4.
fn hosts(frame: &[u8]) -> [Option<SocketAddr>; 2] {
    let address = |at: usize| {
        let bytes: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
        Some(SocketAddr::new(bytes.into(), 5060))
    };
    match frame.get(12..15) {
        Some([8, 0, 0x45]) => [address(26), address(30)],
        _ => [None; 2],
    }
}

fn said(frames: &[Frame<'_>], forged: Option<(usize, &Forgery)>) -> Said {
    let privacy = Privacy::new(Mask::Full, None).unwrap();
    let mut engine = Engine::new(Config::default(), privacy).unwrap();
    for (number, frame) in frames.iter().enumerate() {
        if let Some((_, forgery)) = forged.filter(|(place, _)| *place == number) {
            engine.message(&WireMessage {
                time: frame.time,
                frame: frame.number,
                src: forgery.from,
                dst: forgery.to,
                transport: TransportKind::Udp,
                seq: None,
                bytes: forgery.text.as_bytes(),
                cut: false,
                originated: false,
            });
        }
        engine.frame(frame);
    }
    engine.finish(frames.last().unwrap().time);
    let mut said = Said { attempts: Vec::new(), calls: Vec::new(), alerts: 0 };
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Transfer(attempt) => said.attempts.push(*attempt),
            Output::Call(call) => said.calls.push(*call),
            Output::Alert(_) => said.alerts += 1,
            Output::Notice(_) => {}
        }
    }
    said
}

fn captures() -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let inside = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let golden =
        inside(tests.join("golden")).filter(|path| path.is_dir()).map(|case| case.join("input.pcap"));
    let mut files: Vec<PathBuf> = golden.chain(recorded()).collect();
    // Its calls' first messages are lost: nobody knows who takes part.
    files.retain(|path| !path.ends_with("r_fragments_lost/input.pcap"));
    // A stranger has sent a REFER in these: with one packet more, that would be a call of his, and its transfer.
    let refers =
        |part: &std::ffi::OsStr| ["65c_", "65t_"].iter().any(|case| part.to_string_lossy().starts_with(case));
    files.retain(|path| !path.iter().any(refers));
    // A clock lies in these, and the time of a message that is given whole is believed.
    let lies =
        |part: &std::ffi::OsStr| ["66", "94g"].iter().any(|case| part.to_string_lossy().starts_with(case));
    files.retain(|path| !path.iter().any(lies));
    files.sort();
    files
}
