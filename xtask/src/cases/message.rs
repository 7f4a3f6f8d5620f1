//! What a line says, as SIPp's template of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::play::{Leg, Line, Play, Stack};
use crate::wire;

/// RFC 3261 §7.3.3 and the RFCs of the later headers.
const COMPACT: &[(&str, &str)] = &[
    ("Via", "v"),
    ("From", "f"),
    ("To", "t"),
    ("Call-ID", "i"),
    ("Contact", "m"),
    ("Content-Type", "c"),
    ("Content-Length", "l"),
    ("Refer-To", "r"),
    ("Event", "o"),
];

/// The dialogs of a play as far as it was told.
pub(super) struct Dialogs<'a> {
    play: &'a Play,
    dialogs: BTreeMap<String, Dialog>,
    branches: u32,
}

#[derive(Default)]
struct Dialog {
    /// Both tags are known: later requests carry them.
    made: bool,
    cseq: BTreeMap<String, u32>,
    requests: Vec<Request>,
    /// What each side said last.
    last: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Request {
    sender: String,
    method: String,
    cseq: u32,
    via: String,
    to_tagged: bool,
}

impl<'a> Dialogs<'a> {
    pub(super) fn new(play: &'a Play) -> Self {
        Self { play, dialogs: BTreeMap::new(), branches: 0 }
    }

    /// The template of `line`, which is the next one.
    pub(super) fn say(&mut self, line: &Line) -> Result<String> {
        let play = self.play;
        let (id, leg) = dialog_of(play, &line.leg)?;
        let this = play.leg(&line.leg)?;
        let dialog = self.dialogs.entry(id.into()).or_default();
        let foreign = play.host(&line.dst)?.stack != Stack::Sipp;
        let mut text = if line.word == "again" {
            return dialog.last.get(&line.src).cloned().context("nothing to say again");
        } else if line.is_response() {
            dialog.response(id, leg, line, foreign)?
        } else {
            self.branches += 1;
            let protocol = if this.tcp { "TCP" } else { "UDP" };
            let port = if this.caller.host == line.src { this.caller.port } else { this.callee.port };
            let branch = format!("z9hG4bK{}{}", line.src.to_lowercase(), 7000 + self.branches);
            let via = format!("SIP/2.0/{protocol} [ip_{}]:{port};branch={branch}", line.src);
            dialog.request(id, leg, line, via, foreign)?
        };
        for header in play.headers.get(&line.src).into_iter().flatten().chain(&line.headers) {
            let _ = writeln!(text, "{header}");
        }
        if line.has("auth") && !line.is_response() {
            text.push_str("[authentication username=agent password=agent]\n");
        }
        text.push_str(&body(line));
        if play.compact {
            text = compacted(&text);
        }
        dialog.last.insert(line.src.clone(), text.clone());
        Ok(text)
    }
}

/// The Call-ID of a leg's dialog.
pub(super) fn call_id(play: &Play, leg: &str) -> Result<String> {
    let (id, leg) = dialog_of(play, leg)?;
    Ok(format!("{id}-{}@{}.example", play.name, play.host(&leg.caller.host)?.what))
}

fn dialog_of<'a>(play: &'a Play, name: &'a str) -> Result<(&'a str, &'a Leg)> {
    let leg = play.leg(name)?;
    match &leg.of {
        Some(other) => Ok((other, play.leg(other)?)),
        None => Ok((name, leg)),
    }
}

impl Dialog {
    fn request(&mut self, id: &str, leg: &Leg, line: &Line, via: String, foreign: bool) -> Result<String> {
        let method = line.word.as_str();
        let invite =
            self.requests.iter().rev().find(|r| r.method == "INVITE" && r.sender == line.src).cloned();
        let (cseq, via) = match (method, invite) {
            ("CANCEL", Some(invite)) => (invite.cseq, invite.via),
            // RFC 3261 §17.1.1.3: the ACK of a refusal belongs to its INVITE's transaction.
            ("ACK", Some(invite)) => (invite.cseq, if self.made { via } else { invite.via }),
            _ => {
                let next = self.cseq.entry(line.src.clone()).or_insert(0);
                *next += 1;
                (*next, via)
            }
        };
        let sides = Sides::of(id, leg, &line.src);
        let to_tagged = (self.made && method != "CANCEL") || method == "ACK";
        let tag = match to_tagged {
            // Another stack has a tag of its own.
            true if foreign => "[peer_tag_param]".into(),
            true => format!(";tag={}", sides.remote_tag),
            false => String::new(),
        };
        let contact = matches!(method, "INVITE" | "REFER" | "NOTIFY" | "SUBSCRIBE" | "UPDATE");
        let own = if leg.caller.host == line.src { &leg.caller } else { &leg.callee };
        let uri = line.given("uri").unwrap_or(&sides.remote).to_owned();
        let mut text = format!(
            "{method} {uri} SIP/2.0\nVia: {via}\nMax-Forwards: 70\nFrom: <{}>;tag={}\nTo: <{}>{tag}\n\
             Call-ID: [call_id]\nCSeq: {cseq} {method}\n",
            sides.local, sides.local_tag, sides.remote
        );
        if contact {
            let user = sides.local.trim_start_matches("sip:").split('@').next().unwrap_or_default();
            let _ = writeln!(text, "Contact: <sip:{user}@[ip_{}]:{}>", own.host, own.port);
        }
        let sender = line.src.clone();
        self.requests.push(Request { sender, method: method.into(), cseq, via, to_tagged });
        Ok(text)
    }

    fn response(&mut self, id: &str, leg: &Leg, line: &Line, foreign: bool) -> Result<String> {
        let (status, method) = match line.word.split_once('/') {
            Some((status, method)) => (status, Some(method)),
            None => (line.word.as_str(), None),
        };
        let phrase: Vec<&str> = line
            .rest
            .split_whitespace()
            .take_while(|word| !word.starts_with("sdp") && *word != "auth")
            .collect();
        let phrase = if phrase.is_empty() { wire::phrase(status)?.to_owned() } else { phrase.join(" ") };
        let sides = Sides::of(id, leg, &line.dst);
        let request = self
            .requests
            .iter()
            .rev()
            .filter(|request| request.sender == line.dst && request.method != "ACK")
            .find(|request| method.is_none_or(|method| request.method == method))
            .with_context(|| format!("`{}` answers nothing", line.word))?;
        let tagged = status != "100" || request.to_tagged;
        let dialog = matches!(request.method.as_str(), "INVITE" | "REFER" | "SUBSCRIBE");
        self.made |= dialog && status.starts_with('2');
        let mut text = if foreign {
            // Another stack made the request: its own headers are sent back.
            let tag = if request.to_tagged || !tagged { "" } else { &format!(";tag={}", sides.remote_tag) };
            let route = if dialog { "[last_Record-Route:]\n" } else { "" };
            format!(
                "SIP/2.0 {status} {phrase}\n[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n{route}"
            )
        } else {
            let tag = if tagged { format!(";tag={}", sides.remote_tag) } else { String::new() };
            format!(
                "SIP/2.0 {status} {phrase}\nVia: {}\nFrom: <{}>;tag={}\nTo: <{}>{tag}\nCall-ID: [call_id]\n\
                 CSeq: {} {}\n",
                request.via, sides.local, sides.local_tag, sides.remote, request.cseq, request.method
            )
        };
        if dialog && status.starts_with('2') || request.method == "INVITE" && status == "180" {
            let own = if leg.caller.host == line.src { &leg.caller } else { &leg.callee };
            let _ = writeln!(text, "Contact: <sip:[ip_{}]:{}>", own.host, own.port);
        }
        Ok(text)
    }
}

/// A dialog as the sender of a request sees it.
struct Sides {
    local: String,
    local_tag: String,
    remote: String,
    remote_tag: String,
}

impl Sides {
    fn of(id: &str, leg: &Leg, sender: &str) -> Self {
        let caller = format!("sip:{}@[ip_{}]", leg.from, leg.caller.host);
        let callee = format!("sip:{}@[ip_{}]", leg.to, leg.callee.host);
        let (caller_tag, callee_tag) = (format!("{id}4c17f0"), format!("{id}b2d96e"));
        if leg.caller.host == sender {
            Self { local: caller, local_tag: caller_tag, remote: callee, remote_tag: callee_tag }
        } else {
            Self { local: callee, local_tag: callee_tag, remote: caller, remote_tag: caller_tag }
        }
    }
}

/// The rest of a message, from Content-Type on.
fn body(line: &Line) -> String {
    if let Some((_, frag)) = line.rest.split_once("frag=") {
        return format!(
            "Content-Type: message/sipfrag;version=2.0\nContent-Length: [len]\n\nSIP/2.0 {frag}\n"
        );
    }
    let direction = line.rest.split_whitespace().find_map(|word| match word {
        "sdp" => Some("sendrecv"),
        _ => word.strip_prefix("sdp="),
    });
    let Some(direction) = direction else { return "Content-Length: 0\n\n".into() };
    format!(
        "Content-Type: application/sdp\nContent-Length: [len]\n\nv=0\no=- 4417 1 IN IP[media_ip_type] [media_ip]\n\
         s=-\nc=IN IP[media_ip_type] [media_ip]\nt=0 0\nm=audio [media_port] RTP/AVP 0 101\n\
         a=rtpmap:101 telephone-event/8000\na={direction}\n"
    )
}

fn compacted(text: &str) -> String {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut out = String::new();
    for line in head.lines() {
        let short = COMPACT
            .iter()
            .find_map(|(name, short)| Some((short, line.strip_prefix(name)?.strip_prefix(": ")?)));
        match short {
            Some((short, value)) => writeln!(out, "{short}: {value}"),
            None => writeln!(out, "{line}"),
        }
        .expect("a string takes everything");
    }
    format!("{out}\n{body}")
}
