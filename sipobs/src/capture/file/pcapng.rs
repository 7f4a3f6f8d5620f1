//! pcapng (draft-ietf-opsawg-pcapng): blocks. Those that hold frames, describe interfaces or bring secrets of TLS are
//! read, all others are passed over.

use super::input::{Input, Span};
use super::{Direction, Fault, LinkType, MAX_FRAME, Record, Secrets};
use crate::stream::KeyLog;
use crate::timestamp::Timestamp;
use crate::work;

/// The type of a Section Header Block, the same in either byte order.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;

/// What wrote a section (shb_userappl).
const APPLICATION: u16 = 4;

/// Secrets are read by pieces of so many bytes.
const PIECE: usize = 64 << 10;
/// No line of a key log is as long: such a one is cut off there, and none then.
const LONGEST_LINE: usize = 1024;

/// More than any real capture has; keeps a hostile file from growing the table.
const MAX_INTERFACES: usize = 65_536;
/// The longest block that is read as a whole: a frame, its header and generous options.
const MAX_BLOCK: usize = MAX_FRAME + 65_536;

/// What the current section has said so far.
#[derive(Debug, Default)]
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// This program wrote it.
    is_own: bool,
    /// The secrets that it holds, and those of them that nobody has taken yet.
    pub(super) secrets: Secrets,
    pub(super) keys: KeyLog,
    /// The latest time until which something was captured, in any section that this program wrote: others keep what their source
    /// says of that when they cut a capture to pieces.
    pub(super) until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    snaplen: u32,
    resolution: Resolution,
    /// Seconds to add to every time (if_tsoffset).
    offset: i64,
}

/// Units of a time field in a second (if_tsresol).
#[derive(Clone, Copy, Debug)]
enum Resolution {
    /// 10 to the power of this.
    Ten(u32),
    /// 2 to the power of this.
    Two(u32),
}

impl Section {
    /// The next frame, `None` at the end of the file.
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, Fault> {
        loop {
            if input.at_end()? {
                return Ok(None);
            }
            let start = input.offset();
            let header: [u8; 8] = input.array("block header")?;
            if header[..4] == SECTION_HEADER {
                self.section(start, [header[4], header[5], header[6], header[7]], input)?;
                continue;
            }
            let (kind, len) = (self.u32(&header), self.u32(&header[4..]));
            check_length(start, len)?;
            let body = match kind {
                INTERFACE_DESCRIPTION | PACKET | SIMPLE_PACKET | ENHANCED_PACKET => {
                    self.body(start, len, input)?
                }
                DECRYPTION_SECRETS => {
                    self.secrets(start, len, input)?;
                    continue;
                }
                INTERFACE_STATISTICS if self.is_own && len as usize <= MAX_BLOCK => {
                    let body = self.body(start, len, input)?;
                    self.until = self.until.max(self.statistics(input.bytes(body)));
                    continue;
                }
                _ => {
                    input.skip(u64::from(len - 12), "block")?;
                    self.trailer(len, input)?;
                    continue;
                }
            };
            if kind == INTERFACE_DESCRIPTION {
                let interface = self.interface(start, input.bytes(body))?;
                self.interfaces.push(interface);
                continue;
            }
            return self.packet(kind, start, body, input).map(Some);
        }
    }

    /// A new section: its own byte order, its own interfaces.
    fn section(&mut self, start: u64, len: [u8; 4], input: &mut Input) -> Result<(), Fault> {
        let magic: [u8; 4] = input.array("byte-order magic")?;
        self.big_endian = match u32::from_be_bytes(magic) {
            0x1a2b_3c4d => true,
            0x4d3c_2b1a => false,
            other => {
                let value = u64::from(other);
                return Err(Fault::Value { offset: start + 8, field: "byte-order magic", value });
            }
        };
        self.interfaces.clear();
        let len = self.u32(&len);
        check_length(start, len)?;
        if len < 28 {
            return Err(Fault::Value { offset: start + 4, field: "block length", value: u64::from(len) });
        }
        self.is_own = false;
        if len as usize > MAX_BLOCK {
            input.skip(u64::from(len - 16), "section header")?;
            return self.trailer(len, input);
        }
        let rest = input.take(len as usize - 12, "section header")?;
        let (rest, trailer) = rest.split(len as usize - 16);
        self.check_trailer(input.offset() - 4, len, input.bytes(trailer))?;
        // Behind the version and the section's length.
        let options = input.bytes(rest).get(12..).unwrap_or_default();
        let is_own = |(code, value): (u16, &[u8])| code == APPLICATION && value.starts_with(b"sipobs ");
        let is_own = self.options(options).any(is_own);
        self.is_own = is_own;
        Ok(())
    }

    /// Takes the rest of a block of `len` bytes; what is between its header and its trailer.
    fn body(&self, start: u64, len: u32, input: &mut Input) -> Result<Span, Fault> {
        if len as usize > MAX_BLOCK {
            return Err(Fault::Value { offset: start + 4, field: "block length", value: u64::from(len) });
        }
        let span = input.take(len as usize - 8, "block")?;
        let (body, trailer) = span.split(len as usize - 12);
        self.check_trailer(input.offset() - 4, len, input.bytes(trailer))?;
        Ok(body)
    }

    /// A block of secrets; those of TLS are in the key log format.
    fn secrets(&mut self, start: u64, len: u32, input: &mut Input) -> Result<(), Fault> {
        let Some(room) = len.checked_sub(20) else {
            return Err(Fault::Value { offset: start + 4, field: "block length", value: u64::from(len) });
        };
        let head: [u8; 8] = input.array("secrets header")?;
        let (kind, secrets_len) = (self.u32(&head), self.u32(&head[4..]));
        if secrets_len > room {
            let value = u64::from(secrets_len);
            return Err(Fault::Value { offset: start + 12, field: "secrets length", value });
        }
        let mut left = secrets_len as usize;
        if self.secrets.count(kind) {
            let mut lines = Lines { keys: &mut self.keys, line: Vec::new(), bad: 0 };
            while left > 0 {
                let piece = input.take(left.min(PIECE), "secrets")?;
                lines.push(input.bytes(piece));
                left -= piece.len();
            }
            lines.end();
            if lines.bad > 0 {
                self.secrets.first_bad.get_or_insert(start);
                self.secrets.bad_lines += lines.bad;
            }
        }
        input.skip(left as u64 + u64::from(room - secrets_len), "secrets")?;
        self.trailer(len, input)
    }

    fn trailer(&self, len: u32, input: &mut Input) -> Result<(), Fault> {
        let offset = input.offset();
        let trailer: [u8; 4] = input.array("block trailer")?;
        self.check_trailer(offset, len, &trailer)
    }

    fn check_trailer(&self, offset: u64, len: u32, trailer: &[u8]) -> Result<(), Fault> {
        match self.u32(trailer) {
            value if value == len => Ok(()),
            value => Err(Fault::Value { offset, field: "block length (trailing)", value: u64::from(value) }),
        }
    }

    fn interface(&self, start: u64, body: &[u8]) -> Result<Interface, Fault> {
        if body.len() < 8 {
            return Err(Fault::Value {
                offset: start + 4,
                field: "block length",
                value: body.len() as u64 + 12,
            });
        }
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(Fault::Value {
                offset: start,
                field: "number of interfaces",
                value: MAX_INTERFACES as u64,
            });
        }
        let mut interface = Interface {
            link: LinkType::of(u32::from(self.u16(body))),
            snaplen: self.u32(&body[4..]),
            resolution: Resolution::Ten(6),
            offset: 0,
        };
        for (code, value) in self.options(&body[8..]) {
            match (code, value) {
                (9, [resolution, ..]) => {
                    let exponent = u32::from(resolution & 0x7f);
                    interface.resolution = if resolution & 0x80 == 0 {
                        Resolution::Ten(exponent)
                    } else {
                        Resolution::Two(exponent)
                    };
                }
                (14, &[a, b, c, d, e, f, g, h]) => {
                    let bytes = [a, b, c, d, e, f, g, h];
                    interface.offset =
                        if self.big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
                }
                _ => {}
            }
        }
        Ok(interface)
    }

    /// Until when an interface was captured from: isb_endtime, else the time of the block. What makes no sense says nothing.
    fn statistics(&self, body: &[u8]) -> Option<Timestamp> {
        let interface = self.interfaces.get(self.u32(body.get(..4)?) as usize)?;
        let units =
            |at: &[u8]| Some(u64::from(self.u32(at.get(..4)?)) << 32 | u64::from(self.u32(at.get(4..8)?)));
        let ended = self.options(body.get(12..)?).find(|(code, value)| *code == 3 && value.len() == 8);
        Some(interface.time(units(ended.map_or(&body[4..], |(_, value)| value))?))
    }

    fn packet(&self, kind: u32, start: u64, body: Span, input: &Input) -> Result<Record, Fault> {
        let bytes = input.bytes(body);
        let fixed = if kind == SIMPLE_PACKET { 4 } else { 20 };
        if bytes.len() < fixed {
            return Err(Fault::Value {
                offset: start + 4,
                field: "block length",
                value: bytes.len() as u64 + 12,
            });
        }
        // The obsolete Packet Block has a 16-bit interface and a drop count where the Enhanced one has 32 bits.
        let id = match kind {
            SIMPLE_PACKET => 0,
            PACKET => u32::from(self.u16(bytes)),
            _ => self.u32(bytes),
        };
        let interface = self.interfaces.get(id as usize).ok_or(Fault::Value {
            offset: start + 8,
            field: "interface id",
            value: u64::from(id),
        })?;
        let wire_len = self.u32(&bytes[fixed - 4..]);
        let captured = match (kind, interface.snaplen) {
            (SIMPLE_PACKET, 0) => wire_len,
            (SIMPLE_PACKET, snaplen) => wire_len.min(snaplen),
            _ => self.u32(&bytes[12..]),
        };
        let (_, data) = body.split(fixed);
        if captured as usize > data.len() || captured as usize > MAX_FRAME {
            let offset = start + if kind == SIMPLE_PACKET { 8 } else { 20 };
            return Err(Fault::Value { offset, field: "captured length", value: u64::from(captured) });
        }
        let (frame, options) = data.split(captured as usize);
        let (mut time, mut direction) = (None, Direction::Unknown);
        if kind != SIMPLE_PACKET {
            let units = u64::from(self.u32(&bytes[4..])) << 32 | u64::from(self.u32(&bytes[8..]));
            time = Some(interface.time(units));
            let padding = captured.next_multiple_of(4) as usize - captured as usize;
            let options = input.bytes(options);
            direction = self.direction(options.get(padding..).unwrap_or_default());
        }
        Ok(Record {
            time,
            interface: id,
            direction,
            link: interface.link,
            wire_len: wire_len.max(captured),
            bytes: frame,
        })
    }

    /// The epb_flags option, bits 0 and 1.
    fn direction(&self, options: &[u8]) -> Direction {
        let flags = self.options(options).find(|(code, value)| *code == 2 && value.len() == 4);
        match flags.map(|(_, value)| self.u32(value) & 3) {
            Some(1) => Direction::Ingress,
            Some(2) => Direction::Egress,
            _ => Direction::Unknown,
        }
    }

    /// Codes and values up to the end, or to the first option that does not fit.
    fn options<'a>(&self, mut bytes: &'a [u8]) -> impl Iterator<Item = (u16, &'a [u8])> {
        let big_endian = self.big_endian;
        std::iter::from_fn(move || {
            work::count(1);
            let (code, len) = (half(bytes.get(..2)?, big_endian), half(bytes.get(2..4)?, big_endian));
            let value = bytes.get(4..4 + usize::from(len))?;
            bytes = bytes.get(4 + usize::from(len).next_multiple_of(4)..).unwrap_or_default();
            (code != 0).then_some((code, value))
        })
    }

    fn u16(&self, bytes: &[u8]) -> u16 {
        half(bytes, self.big_endian)
    }

    fn u32(&self, bytes: &[u8]) -> u32 {
        let word = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }
}

impl Interface {
    fn time(&self, units: u64) -> Timestamp {
        let nanos = match self.resolution {
            Resolution::Ten(n @ 0..=9) => u128::from(units) * 10_u128.pow(9 - n),
            Resolution::Ten(n) => 10_u128.checked_pow(n - 9).map_or(0, |unit| u128::from(units) / unit),
            Resolution::Two(n) => (u128::from(units) * 1_000_000_000) >> n,
        };
        let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
        Timestamp::from_nanos(nanos.saturating_add(self.offset.saturating_mul(1_000_000_000)))
    }
}

/// Lines out of pieces of a key log.
struct Lines<'a> {
    keys: &'a mut KeyLog,
    /// What came of the line that is not over yet.
    line: Vec<u8>,
    bad: u64,
}

impl Lines<'_> {
    fn push(&mut self, piece: &[u8]) {
        work::count(piece.len());
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        self.bad += u64::from(!self.keys.add_line(&self.line));
        self.line.clear();
    }
}

fn check_length(start: u64, len: u32) -> Result<(), Fault> {
    if len < 12 || !len.is_multiple_of(4) {
        return Err(Fault::Value { offset: start + 4, field: "block length", value: u64::from(len) });
    }
    Ok(())
}

fn half(bytes: &[u8], big_endian: bool) -> u16 {
    let half = [bytes[0], bytes[1]];
    if big_endian { u16::from_be_bytes(half) } else { u16::from_le_bytes(half) }
}
