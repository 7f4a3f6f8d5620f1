//! Writes pcapng (draft-ietf-opsawg-pcapng): one section, times in nanoseconds, a comment for each packet.

use std::collections::HashMap;
use std::io::{self, Write};

use super::MAX_FRAME;
use crate::frame::{Direction, Frame, LinkType};
use crate::stream::KeyLog;
use crate::timestamp::Timestamp;

/// Writes packets to a capture file.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// By where frames were captured and how they begin.
    interfaces: HashMap<(u32, LinkType), u32>,
}

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;
/// The type of secrets that is a TLS key log.
const TLS_KEY_LOG: u32 = 0x544c_534b;
/// Options: a comment; an interface's description and its clock's resolution; a packet's flags; when a capture ended.
const COMMENT: u16 = 1;
const DESCRIPTION: u16 = 3;
const APPLICATION: u16 = 4;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const END_TIME: u16 = 3;
/// What an option's length can say.
const LONGEST_OPTION: usize = 60_000;

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    ///
    /// When it can't be written; so do the others.
    pub fn new(out: W) -> io::Result<Self> {
        Self::about(out, "")
    }

    /// The same, with a comment on all of it.
    pub fn about(out: W, comment: &str) -> io::Result<Self> {
        let mut writer = Self { out, interfaces: HashMap::new() };
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        // The section's length: not known yet.
        body.extend([0xff; 8]);
        if !comment.is_empty() {
            option(&mut body, COMMENT, comment.as_bytes());
        }
        option(&mut body, APPLICATION, concat!("sipobs ", env!("CARGO_PKG_VERSION")).as_bytes());
        end_options(&mut body);
        writer.block(SECTION_HEADER, &body)?;
        Ok(writer)
    }

    /// Writes secrets of TLS, before the frames that they open. Without any it does nothing.
    pub fn secrets(&mut self, keys: &KeyLog) -> io::Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let text = keys.text();
        let mut body = Vec::with_capacity(text.len() + 12);
        body.extend(TLS_KEY_LOG.to_le_bytes());
        body.extend(u32::try_from(text.len()).map_err(io::Error::other)?.to_le_bytes());
        body.extend(text.as_bytes());
        pad(&mut body);
        self.block(DECRYPTION_SECRETS, &body)
    }

    /// Writes a frame, with a comment; `source` names what it was captured in, once.
    pub fn frame(&mut self, frame: &Frame<'_>, comment: &str, source: &str) -> io::Result<()> {
        let interface = self.interface(frame, source)?;
        let bytes = &frame.bytes[..frame.bytes.len().min(MAX_FRAME)];
        let mut body = Vec::with_capacity(64 + bytes.len() + comment.len());
        body.extend(interface.to_le_bytes());
        body.extend(units(frame.time));
        body.extend(u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
        body.extend(frame.wire_len.to_le_bytes());
        body.extend(bytes);
        pad(&mut body);
        if !comment.is_empty() {
            option(&mut body, COMMENT, comment.as_bytes());
        }
        let flags: u32 = match frame.direction {
            Direction::Ingress => 1,
            Direction::Egress | Direction::Originated => 2,
            Direction::Unknown => 0,
        };
        if flags != 0 {
            option(&mut body, FLAGS, &flags.to_le_bytes());
        }
        end_options(&mut body);
        self.block(ENHANCED_PACKET, &body)
    }

    /// Says until when was captured, though no frame came any more.
    pub fn until(&mut self, time: Timestamp) -> io::Result<()> {
        if self.interfaces.is_empty() {
            return Ok(());
        }
        let mut body = Vec::new();
        body.extend(0_u32.to_le_bytes());
        body.extend(units(time));
        option(&mut body, END_TIME, &units(time));
        end_options(&mut body);
        self.block(INTERFACE_STATISTICS, &body)
    }

    /// Ends the file, and hands back where it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    /// The number of the interface that a frame is of; written before its first.
    fn interface(&mut self, frame: &Frame<'_>, source: &str) -> io::Result<u32> {
        let key = (frame.interface, frame.link);
        if let Some(known) = self.interfaces.get(&key) {
            return Ok(*known);
        }
        let mut body = Vec::new();
        body.extend(u16::try_from(frame.link.number()).unwrap_or(u16::MAX).to_le_bytes());
        body.extend([0; 2]);
        body.extend(u32::try_from(MAX_FRAME).unwrap_or(0).to_le_bytes());
        if !source.is_empty() {
            option(&mut body, DESCRIPTION, source.as_bytes());
        }
        option(&mut body, RESOLUTION, &[9]);
        end_options(&mut body);
        self.block(INTERFACE, &body)?;
        let number = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        self.interfaces.insert(key, number);
        Ok(number)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len() + 12).map_err(io::Error::other)?.to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&len)?;
        self.out.write_all(body)?;
        self.out.write_all(&len)
    }
}

/// A time of an interface whose clock counts nanoseconds: the upper half goes first.
fn units(time: Timestamp) -> [u8; 8] {
    let units = time.as_nanos().cast_unsigned();
    (units.rotate_left(32)).to_le_bytes()
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(LONGEST_OPTION)];
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn end_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let frame = Frame {
            time: Timestamp::from_nanos(1_700_000_000_123_456_789),
            number: 1,
            interface: 7,
            direction: Direction::Egress,
            link: LinkType::Sll2,
            wire_len: 90,
            bytes: b"some bytes of it",
        };
        let mut writer = Writer::about(Vec::new(), "what is missing").unwrap();
        writer.frame(&frame, "INVITE of the call", "a.pcap").unwrap();
        writer.frame(&Frame { link: LinkType::Ethernet, bytes: b"odd", ..frame }, "", "").unwrap();
        writer.frame(&frame, "again", "a.pcap").unwrap();
        let until = frame.time + std::time::Duration::from_secs(70);
        writer.until(until).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::from_read("x", None, io::Cursor::new(bytes)).unwrap();
        for (interface, link, bytes) in [
            (0, LinkType::Sll2, frame.bytes),
            (1, LinkType::Ethernet, b"odd"),
            (0, LinkType::Sll2, frame.bytes),
        ] {
            let read = reader.next().unwrap().unwrap();
            assert_eq!((read.time, read.wire_len, read.direction), (frame.time, 90, Direction::Egress));
            assert_eq!((read.interface, read.link, read.bytes), (interface, link, bytes));
        }
        assert!(reader.next().unwrap().is_none());
        assert_eq!((reader.contents().last, reader.contents().until), (Some(frame.time), Some(until)));
    }
}
