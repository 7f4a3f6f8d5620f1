//! A ladder's text → packets: parties, legs, and one SIP message for every line.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow, bail};

use crate::wire::{self, Around, Path, Sip, Tcp, Trace};

/// The capture file of the ladder `text`.
pub(crate) fn capture(text: &str, case: &str) -> Result<Vec<u8>> {
    let mut script = Script::new(case)?;
    for (number, line) in text.lines().enumerate() {
        let line = line.split(" # ").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("expect") {
            continue;
        }
        script.line(line).with_context(|| format!("line {}", number + 1))?;
    }
    script.finish()
}

/// Where a connection comes from that is not the party's usual one.
const EPHEMERAL: u16 = 40_001;

pub(super) struct Script {
    case: String,
    parties: BTreeMap<String, SocketAddr>,
    headers: BTreeMap<String, Vec<String>>,
    legs: BTreeMap<String, Leg>,
    trace: Trace<Vec<u8>>,
    /// Microseconds since the start.
    now: u64,
    /// When the case began: times in its lines count from there.
    base: u64,
    branches: u32,
    /// Largest TCP payload.
    segment: usize,
}

struct Leg {
    caller: String,
    call_id: String,
    from: String,
    to: String,
    from_tag: String,
    to_tag: String,
    /// The port of its media, at both ends: no two legs share one.
    media: u16,
    transport: Transport,
    path: Path,
    /// The dialog exists: later requests carry both tags.
    answered: bool,
    cseq: BTreeMap<String, u32>,
    requests: Vec<Request>,
    last: Option<Vec<u8>>,
}

enum Transport {
    Udp,
    /// Opened by the leg's first message, and by the first one said `elsewhere`; the address is that of who
    /// opened it.
    Tcp(Box<[Option<(SocketAddr, Tcp)>; 2]>),
}

#[derive(Clone)]
struct Request {
    sender: String,
    method: String,
    cseq: u32,
    vias: Vec<String>,
    to_tagged: bool,
    /// Its final answer was no 2xx.
    failed: bool,
    bytes: Vec<u8>,
}

struct Line<'a> {
    leg: &'a str,
    src: &'a str,
    dst: &'a str,
    word: &'a str,
    rest: &'a str,
    headers: Vec<&'a str>,
}

impl Script {
    pub(super) fn new(case: &str) -> Result<Self> {
        Ok(Self {
            case: case.into(),
            parties: BTreeMap::new(),
            headers: BTreeMap::new(),
            legs: BTreeMap::new(),
            trace: Trace::new(Vec::new())?,
            now: 0,
            base: 0,
            branches: 0,
            segment: 1460,
        })
    }

    /// Another case in the same capture, which begins at `base`.
    pub(super) fn next_case(&mut self, case: &str, base: u64) {
        self.case = case.into();
        (self.now, self.base) = (base, base);
        self.parties.clear();
        self.headers.clear();
        self.legs.clear();
    }

    /// Nothing is said until so much after the case began.
    pub(super) fn wait_until(&mut self, since_begin: u64) {
        self.now = self.base + since_begin;
    }

    pub(super) fn finish(self) -> Result<Vec<u8>> {
        Ok(self.trace.finish()?)
    }

    pub(super) fn line(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(' ').ok_or_else(|| anyhow!("one word alone"))?;
        match word {
            "party" => {
                let (name, address) = rest.trim().split_once(' ').context("party NAME ADDRESS:PORT")?;
                self.parties.insert(name.into(), address.trim().parse().context("address")?);
            }
            "header" => {
                let (name, header) = rest.trim().split_once(' ').context("header PARTY NAME: VALUE")?;
                self.headers.entry(name.into()).or_default().push(header.trim().into());
            }
            "segment" => self.segment = rest.trim().parse().context("segment BYTES")?,
            "snap" => self.trace.snap = rest.trim().parse().context("snap BYTES")?,
            "clock" => self.trace.ahead = rest.trim().parse().context("clock SECONDS")?,
            "leg" => self.leg(rest)?,
            time => {
                self.now = match time.strip_prefix('+') {
                    Some("") => self.now + 1_000,
                    Some(step) => self.now + micros(step)?,
                    None => self.base + micros(time)?,
                };
                self.say(rest)?;
            }
        }
        Ok(())
    }

    fn leg(&mut self, rest: &str) -> Result<()> {
        let mut words = rest.split_whitespace();
        let mut next = || words.next().context("leg NAME CALLER CALLEE …");
        let (name, caller, callee) = (next()?.to_owned(), next()?.to_owned(), next()?.to_owned());
        let (mut from, mut to) = (caller.clone(), callee.clone());
        let mut call_id = format!("{name}-{}@ladder.example", self.case);
        let (mut from_tag, mut to_tag) = (format!("{name}-from"), format!("{name}-to"));
        let (mut tcp, mut confirmed, mut midcall) = (false, None, false);
        let mut path = Path::default();
        for word in words {
            match word.split_once('=') {
                Some(("from", user)) => from = user.into(),
                Some(("to", user)) => to = user.into(),
                Some(("id", id)) => call_id = id.into(),
                Some(("fromtag", tag)) => from_tag = tag.into(),
                Some(("totag", tag)) => to_tag = tag.into(),
                Some(("mtu", bytes)) => path.mtu = bytes.parse().context("mtu=BYTES")?,
                Some((around @ ("802.1q" | "802.1ad" | "vxlan"), number)) => {
                    path.around.push(match around {
                        "802.1q" => Around::Tag(Around::CUSTOMER, number.parse()?),
                        "802.1ad" => Around::Tag(Around::PROVIDER, number.parse()?),
                        _ => Around::Vxlan(number.parse()?),
                    });
                }
                _ if word == "reversed" => path.reversed = true,
                _ if word == "tcp" => tcp = true,
                _ if word == "midcall" => midcall = true,
                _ if word == "confirmed" => confirmed = Some(0),
                _ => match word.strip_prefix("confirmed@") {
                    Some(at) => confirmed = Some(micros(at)?),
                    None => bail!("leg: what is `{word}`?"),
                },
            }
        }
        let leg = Leg {
            from: format!("sip:{from}@{}", host(self.address(&caller)?)),
            to: format!("sip:{to}@{}", host(self.address(&callee)?)),
            from_tag,
            to_tag,
            media: 20_000 + 2 * u16::try_from(self.legs.len()).context("too many legs")?,
            caller: caller.clone(),
            call_id,
            path,
            transport: if tcp { Transport::Tcp(Box::default()) } else { Transport::Udp },
            answered: midcall,
            cseq: BTreeMap::new(),
            requests: Vec::new(),
            last: None,
        };
        self.legs.insert(name.clone(), leg);
        if let Some(at) = confirmed {
            self.now = self.base + at;
            for step in [
                format!("{name} {caller}>{callee} INVITE sdp"),
                format!("{name} {callee}>{caller} 180"),
                format!("{name} {callee}>{caller} 200 OK sdp"),
                format!("{name} {caller}>{callee} ACK"),
            ] {
                self.say(&step)?;
                self.now += 20_000;
            }
        }
        Ok(())
    }

    fn address(&self, party: &str) -> Result<SocketAddr> {
        self.parties.get(party).copied().ok_or_else(|| anyhow!("no party `{party}`"))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        let line = parse(text)?;
        let (src, dst) = (self.address(line.src)?, self.address(line.dst)?);
        let extra = self.headers.get(line.src).cloned().unwrap_or_default();
        let leg = self.legs.get_mut(line.leg).ok_or_else(|| anyhow!("no leg `{}`", line.leg))?;
        let bytes = if line.word == "again" {
            leg.last.clone().context("nothing to say again")?
        } else if let Some(method) = line.word.strip_prefix("again/") {
            leg.again(method, line.src)?
        } else if line.word.starts_with(|c: char| c.is_ascii_digit()) {
            leg.response(&line, &extra, src)?
        } else {
            self.branches += 1;
            leg.request(&line, &extra, src, self.branches)?
        };
        if line.rest.split_whitespace().any(|word| word == "lost") {
            return Ok(());
        }
        self.trace.path.clone_from(&leg.path);
        match &mut leg.transport {
            Transport::Udp => self.trace.udp(self.now, src, dst, &bytes),
            Transport::Tcp(connections) => {
                let elsewhere = line.rest.ends_with("elsewhere");
                let (client, tcp) = connections[usize::from(elsewhere)].get_or_insert_with(|| {
                    let port = if elsewhere { EPHEMERAL } else { src.port() };
                    let client = SocketAddr::new(src.ip(), port);
                    let mut tcp = Tcp::open(&mut self.trace, self.now, client, dst);
                    tcp.mss = tcp.mss.min(self.segment);
                    (src, tcp)
                });
                let side = if *client == src { wire::From::Client } else { wire::From::Server };
                tcp.send(&mut self.trace, self.now + 300, side, &bytes);
            }
        }
        leg.last = Some(bytes);
        Ok(())
    }
}

impl Leg {
    fn request(
        &mut self,
        line: &Line<'_>,
        extra: &[String],
        src: SocketAddr,
        branch: u32,
    ) -> Result<Vec<u8>> {
        let method = line.word;
        let words: Vec<&str> = line.rest.split_whitespace().collect();
        let given = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
        let invite =
            self.requests.iter().rev().find(|r| r.method == "INVITE" && r.sender == line.src).cloned();
        // The same request at the next hop: everything as before but one more Via.
        let relayed = words.contains(&"relay");
        let earlier = self.requests.iter().rev().find(|r| r.method == method).cloned();
        let mut vias = vec![format!(
            "SIP/2.0/{} {src};branch=z9hG4bK-{branch:08}",
            match self.transport {
                Transport::Udp => "UDP",
                Transport::Tcp(_) => "TCP",
            }
        )];
        let cseq = match (method, &invite, &earlier) {
            (_, _, Some(earlier)) if relayed => {
                vias.extend(earlier.vias.clone());
                earlier.cseq
            }
            ("ACK", Some(invite), _) => {
                // RFC 3261 §17.1.1.3: the ACK to a failure belongs to the INVITE's transaction.
                if invite.failed {
                    vias.clone_from(&invite.vias);
                }
                invite.cseq
            }
            ("CANCEL", Some(invite), _) => {
                vias.clone_from(&invite.vias);
                invite.cseq
            }
            _ => {
                let next = self.cseq.entry(line.src.into()).or_insert(0);
                *next = match given("cseq=") {
                    Some(number) => number.parse().context("cseq")?,
                    None => *next + 1,
                };
                *next
            }
        };
        let by_caller = self.by_caller(line.src, relayed, earlier.as_ref());
        let (from, from_tag, to, to_tag) = if by_caller {
            (&self.from, &self.from_tag, &self.to, &self.to_tag)
        } else {
            (&self.to, &self.to_tag, &self.from, &self.from_tag)
        };
        let to_tagged = (self.answered && method != "CANCEL" || method == "ACK" || words.contains(&"tagged"))
            && !words.contains(&"untagged");
        let uri = given("uri=").unwrap_or(to);
        let to_tag = given("tag=").unwrap_or(to_tag);
        let tag = if to_tagged { format!(";tag={to_tag}") } else { String::new() };
        let contact = matches!(method, "INVITE" | "REFER" | "NOTIFY" | "SUBSCRIBE" | "UPDATE");
        let mut sip = Sip::request(method, uri);
        for via in &vias {
            sip = sip.header("Via", via);
        }
        sip = sip
            .header("From", format!("<{from}>;tag={from_tag}"))
            .header("To", format!("<{to}>{tag}"))
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{cseq} {method}"))
            .header("Max-Forwards", "70")
            .maybe("Contact", contact.then(|| format!("<sip:{src}>")));
        let bytes = finish(sip, line, extra, src, self.media)?;
        let (sender, method) = (line.src.into(), method.into());
        self.requests.push(Request {
            sender,
            method,
            cseq,
            vias,
            to_tagged,
            failed: false,
            bytes: bytes.clone(),
        });
        Ok(bytes)
    }

    /// A party's newest request by a method, once more; of another party after an `@`.
    fn again(&self, method: &str, sender: &str) -> Result<Vec<u8>> {
        let (method, sender) = method.split_once('@').unwrap_or((method, sender));
        let mut newest = self.requests.iter().rev();
        let request = newest.find(|request| request.method == method && request.sender == sender);
        Ok(request.with_context(|| format!("{sender} has sent no {method}"))?.bytes.clone())
    }

    /// A request relayed by a proxy speaks for its first sender.
    fn by_caller(&self, sender: &str, relayed: bool, earlier: Option<&Request>) -> bool {
        match earlier {
            Some(earlier) if relayed => self.requests.iter().any(|request| {
                let same = (&request.method, request.cseq) == (&earlier.method, earlier.cseq);
                same && request.sender == self.caller
            }),
            _ => sender == self.caller,
        }
    }

    fn response(&mut self, line: &Line<'_>, extra: &[String], src: SocketAddr) -> Result<Vec<u8>> {
        let (status, method) = match line.word.split_once('/') {
            Some((status, method)) => (status, Some(method)),
            None => (line.word, None),
        };
        let request = self
            .requests
            .iter_mut()
            .rev()
            .filter(|request| request.sender != line.src && request.method != "ACK")
            .find(|request| method.is_none_or(|method| request.method == method))
            .ok_or_else(|| anyhow!("`{}` answers nothing", line.word))?;
        request.failed |= matches!(status.as_bytes(), [b'3'..=b'6', ..]);
        let request = request.clone();
        let words = || line.rest.split_whitespace();
        let is_own = |word: &str| {
            word == "sdp"
                || word.starts_with("sdp=")
                || word.starts_with("tag=")
                || word == "elsewhere"
                || word == "lost"
        };
        let phrase: Vec<&str> = words().filter(|word| !is_own(word)).collect();
        let phrase = if phrase.is_empty() { wire::phrase(status)?.to_owned() } else { phrase.join(" ") };
        let by_caller = request.sender == self.caller
            || self
                .requests
                .iter()
                .any(|r| r.cseq == request.cseq && r.method == request.method && r.sender == self.caller);
        let (from, from_tag, to, to_tag) = if by_caller {
            (&self.from, &self.from_tag, &self.to, &self.to_tag)
        } else {
            (&self.to, &self.to_tag, &self.from, &self.from_tag)
        };
        let to_tag = words().find_map(|word| word.strip_prefix("tag=")).unwrap_or(to_tag);
        let tagged = status != "100" || request.to_tagged;
        let tag = if tagged { format!(";tag={to_tag}") } else { String::new() };
        let answers = request.method == "INVITE" && status.starts_with('2');
        let makes_dialog = matches!(request.method.as_str(), "INVITE" | "REFER" | "SUBSCRIBE");
        self.answered |= makes_dialog && status.starts_with('2');
        let mut sip = Sip::response(status.parse().context("status")?, &phrase);
        for via in &request.vias {
            sip = sip.header("Via", via);
        }
        sip = sip
            .header("From", format!("<{from}>;tag={from_tag}"))
            .header("To", format!("<{to}>{tag}"))
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{} {}", request.cseq, request.method))
            .maybe("Contact", answers.then(|| format!("<sip:{src}>")));
        finish(sip, line, extra, src, self.media)
    }
}

/// Extra headers, and the body that the line asks for.
fn finish(mut sip: Sip, line: &Line<'_>, extra: &[String], src: SocketAddr, media: u16) -> Result<Vec<u8>> {
    for header in extra.iter().map(String::as_str).chain(line.headers.iter().copied()) {
        let (name, value) = header.split_once(':').context("a header needs a colon")?;
        sip = sip.header(name.trim(), value.trim());
    }
    let direction = line.rest.split_whitespace().find_map(|word| match word {
        "sdp" => Some("sendrecv"),
        _ => word.strip_prefix("sdp="),
    });
    if let Some((_, body)) = line.rest.split_once("rawfrag=") {
        sip = sip.body("message/sipfrag", body.replace("\\n", "\r\n"));
    } else if let Some((_, uris)) = line.rest.split_once("list=") {
        let entries: String = uris.split(',').map(|uri| format!("<entry uri=\"{uri}\"/>")).collect();
        let list = format!("<resource-lists><list>{entries}</list></resource-lists>\r\n");
        sip = sip.body("application/resource-lists+xml", list);
    } else if let Some((_, body)) = line.rest.split_once("body=") {
        let (media, text) = body.split_once(' ').context("body=MEDIA/TYPE TEXT")?;
        sip = sip.body(media, format!("{}\r\n", text.replace("\\n", "\r\n")));
    } else if let Some((_, frag)) = line.rest.split_once("frag=") {
        sip = sip.body("message/sipfrag;version=2.0", format!("SIP/2.0 {frag}\r\n"));
    } else if let Some(direction) = direction {
        let family = if src.is_ipv4() { "IP4" } else { "IP6" };
        let ip = if direction == "0.0.0.0" { "0.0.0.0".to_owned() } else { src.ip().to_string() };
        let direction = if direction == "0.0.0.0" { "sendrecv" } else { direction };
        let lines = [
            "v=0",
            &format!("o=- 1 1 IN {family} {ip}"),
            "s=-",
            &format!("c=IN {family} {ip}"),
            "t=0 0",
            &format!("m=audio {media} RTP/AVP 0"),
            &format!("a={direction}"),
            "",
        ];
        sip = sip.body("application/sdp", lines.join("\r\n"));
    }
    Ok(sip.bytes())
}

/// The host part of a URI.
fn host(address: SocketAddr) -> String {
    if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() }
}

fn parse(text: &str) -> Result<Line<'_>> {
    let mut parts = text.split(" | ");
    let message = parts.next().unwrap_or_default().trim();
    let headers = parts.map(str::trim).collect();
    let mut words = message.splitn(4, ' ').map(str::trim);
    let mut next = || words.next().context("TIME LEG FROM>TO MESSAGE");
    let (leg, way, word) = (next()?, next()?, next()?);
    let (src, dst) = way.split_once('>').context("FROM>TO")?;
    Ok(Line { leg, src, dst, word, rest: words.next().unwrap_or_default(), headers })
}

fn micros(text: &str) -> Result<u64> {
    let seconds: f64 = text.parse().with_context(|| format!("`{text}` is not a time in seconds"))?;
    if !(0.0..1e7).contains(&seconds) {
        bail!("`{text}` is out of range");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above")]
    Ok((seconds * 1e6).round() as u64)
}
