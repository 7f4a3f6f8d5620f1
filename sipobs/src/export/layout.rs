//! What a ladder shows, however it is drawn: who stands where, what goes from whom to whom, and where it is silent.
//! [`super::ladder`] draws it in characters, [`super::report`] in a page.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::style::shorten;
use super::words::start_line;
use crate::record::{LadderLine, LegRole};
use crate::stream::TransportKind;

/// A silence at least this long is drawn.
const SILENCE_MS: i64 = 1_000;

/// A ladder, laid out.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    /// Its columns, in order of appearance.
    pub(super) parties: Vec<Party>,
    /// Its messages.
    pub(super) rows: Vec<Row<'a>>,
}

/// One message.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) line: &'a LadderLine,
    /// The columns that it goes from and to.
    pub(super) from: usize,
    pub(super) to: usize,
    /// It in few words.
    pub(super) label: String,
    /// The status that it tells.
    pub(super) status: Option<u16>,
    /// Nothing was sent for long before it.
    pub(super) after_silence: bool,
}

impl<'a> Layout<'a> {
    pub(super) fn of(lines: &'a [LadderLine]) -> Self {
        let parties = parties(lines);
        let column = |end| parties.iter().position(|party| party.is(end)).unwrap_or_default();
        let mut before = None;
        let row = |line: &'a LadderLine| {
            let (label, status) = label(line);
            let after_silence = before.is_some_and(|before| line.t_ms - before >= SILENCE_MS);
            before = Some(line.t_ms);
            Row { line, from: column(line.from), to: column(line.to), label, status, after_silence }
        };
        let rows = lines.iter().map(row).collect();
        Self { parties, rows }
    }
}

impl LegRole {
    /// The letter that tells it in a ladder.
    pub(super) const fn letter(self) -> &'static str {
        match self {
            Self::Call => "a",
            Self::Target => "b",
            Self::Consultation => "c",
        }
    }
}

/// Who takes part, in order of appearance. A party is a host, since a dialog may use many ports of one; where a host talks
/// to itself (loopback), or several legs have ports of their own at one host (behind a NAT), a party is a socket.
fn parties(lines: &[LadderLine]) -> Vec<Party> {
    let mut parties: Vec<Party> = vec![];
    for line in lines {
        for end in [line.from, line.to] {
            let party = if is_shared(end.ip(), lines) { Party::Socket(end) } else { Party::Host(end.ip()) };
            if !parties.contains(&party) {
                parties.push(party);
            }
        }
    }
    parties
}

/// Whether a host is several parties: it talks to itself; or it has a port of its own in each leg, and the same host at
/// the other end of all. What is in the middle of two hosts is one party at whatever port.
fn is_shared(host: IpAddr, lines: &[LadderLine]) -> bool {
    let ends = |line: &LadderLine| [(line.leg, line.from, line.to), (line.leg, line.to, line.from)];
    let here = || lines.iter().flat_map(ends).filter(|(_, end, _)| end.ip() == host);
    if here().any(|(.., other)| other.ip() == host) {
        return true;
    }
    let one_peer = only(here().map(|(.., other)| other.ip())).is_some();
    let is_udp = lines.iter().all(|line| line.transport == TransportKind::Udp);
    // Some send each message from another port.
    let port = |leg| only(here().filter(move |(of, ..)| *of == leg).map(|(_, end, _)| end.port()));
    let mut ports = [LegRole::Call, LegRole::Target, LegRole::Consultation].into_iter().filter_map(port);
    let first = ports.next();
    is_udp && one_peer && ports.any(|port| Some(port) != first)
}

/// What all of them are, if that is one.
fn only<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.all(|next| next == first).then_some(first)
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Host(IpAddr),
    Socket(SocketAddr),
}

impl Party {
    fn is(self, end: SocketAddr) -> bool {
        match self {
            Self::Host(ip) => ip == end.ip(),
            Self::Socket(socket) => socket == end,
        }
    }

    /// Its address with the ports that it uses, where they are few.
    pub(super) fn with_ports(self, lines: &[LadderLine]) -> String {
        const FEW: usize = 2;
        let Self::Host(ip) = self else { return self.name(usize::MAX) };
        let ends = lines.iter().flat_map(|line| [line.from, line.to]).filter(|end| end.ip() == ip);
        let ports: BTreeSet<u16> = ends.map(|end| end.port()).collect();
        let listed: Vec<_> = ports.iter().take(FEW).map(u16::to_string).collect();
        let more = if ports.len() > FEW { ",…" } else { "" };
        match ip {
            IpAddr::V4(_) => format!("{ip}:{}{more}", listed.join(",")),
            IpAddr::V6(_) => format!("[{ip}]:{}{more}", listed.join(",")),
        }
    }

    pub(super) fn name(self, room: usize) -> String {
        match self {
            Self::Host(ip) => shorten(&ip.to_string(), room),
            Self::Socket(socket) => shorten(&socket.to_string(), room),
        }
    }
}

/// A line in few words, and the status it tells. A 2xx says what it answers, since they look alike and several
/// requests may be under way; a request, how often it was sent.
fn label(line: &LadderLine) -> (String, Option<u16>) {
    let (label, status) = start_line(&line.line);
    let label = match status {
        Some(200..300) if line.is_answer() => {
            format!("{label} ({})", line.cseq.method.as_str())
        }
        _ if line.copies > 1 => format!("{label} ×{}", line.copies),
        _ => label,
    };
    (label, status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples;

    #[test]
    fn a_host_that_talks_to_itself_is_two_parties() {
        let mut lines = samples::busy().messages;
        assert_eq!(parties(&lines).len(), 2);
        for line in &mut lines {
            line.from.set_ip(IpAddr::from([127, 0, 0, 1]));
            line.to.set_ip(IpAddr::from([127, 0, 0, 1]));
            line.to.set_port(5062);
        }
        assert_eq!(parties(&lines).len(), 2);
    }

    #[test]
    fn parties_behind_one_address_have_columns_of_their_own() {
        let mut lines = samples::second_leg().messages;
        let nat = IpAddr::from([192, 0, 2, 1]);
        let pbx = lines.iter().find(|line| line.leg == LegRole::Target).unwrap().from.ip();
        for line in &mut lines {
            let port = if line.leg == LegRole::Target { 40_002 } else { 40_001 };
            for end in [&mut line.from, &mut line.to].into_iter().filter(|end| end.ip() != pbx) {
                *end = (nat, port).into();
            }
        }
        assert_eq!(parties(&lines).len(), 3);
        // What is between two hosts is one, at whatever port.
        for line in lines.iter_mut().filter(|line| line.leg == LegRole::Target) {
            for end in [&mut line.from, &mut line.to] {
                if end.ip() == nat { end.set_ip([192, 0, 2, 2].into()) } else { end.set_port(5080) }
            }
        }
        assert_eq!(parties(&lines).len(), 3);
    }
}
