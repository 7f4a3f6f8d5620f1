//! Classic pcap (draft-ietf-opsawg-pcap): a file header, then records.

use super::input::Input;
use super::{Direction, Fault, LinkType, MAX_FRAME, Record, link_type};
use crate::timestamp::Timestamp;

/// What the file header says of every record.
#[derive(Debug)]
pub(super) struct Header {
    big_endian: bool,
    /// Nanoseconds in a unit of the records' second time field.
    unit: i64,
    link: LinkType,
}

impl Header {
    /// Reads the file header if `magic` says that there is one.
    pub(super) fn read(magic: [u8; 4], input: &mut Input) -> Result<Option<Self>, Fault> {
        let (big_endian, unit) = match u32::from_be_bytes(magic) {
            0xa1b2_c3d4 => (true, 1_000),
            0xa1b2_3c4d => (true, 1),
            0xd4c3_b2a1 => (false, 1_000),
            0x4d3c_b2a1 => (false, 1),
            _ => return Ok(None),
        };
        let offset = input.offset() + 20;
        let header: [u8; 24] = input.array("file header")?;
        // The upper bits tell of frame check sequences, which the length fields of IP cut off anyway.
        let value = word(&header, 20, big_endian) & 0xffff;
        let link = link_type(value).ok_or(Fault::LinkType { offset, value })?;
        Ok(Some(Self { big_endian, unit, link }))
    }

    /// The next record, `None` at the end of the file.
    pub(super) fn next(&self, input: &mut Input) -> Result<Option<Record>, Fault> {
        if input.at_end()? {
            return Ok(None);
        }
        let offset = input.offset() + 8;
        let header: [u8; 16] = input.array("record header")?;
        let [seconds, fraction, captured, wire_len] =
            [0, 4, 8, 12].map(|at| word(&header, at, self.big_endian));
        let len = captured as usize;
        if len > MAX_FRAME {
            let value = u64::from(captured);
            return Err(Fault::Value { offset, field: "captured length", value });
        }
        let nanos = i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * self.unit;
        Ok(Some(Record {
            time: Some(Timestamp::from_nanos(nanos)),
            interface: 0,
            direction: Direction::Unknown,
            link: Some(self.link),
            wire_len: wire_len.max(captured),
            bytes: input.take(len, "frame")?,
        }))
    }
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}
