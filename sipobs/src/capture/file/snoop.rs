//! Solaris's snoop (RFC 1761): a file header, then records, all in network order.

use super::input::Input;
use super::{Fault, LinkType, Record, check_len};

/// What a file begins with.
pub(super) const MAGIC: [u8; 8] = *b"snoop\0\0\0";

/// What the file header says, and what is left to pass over.
#[derive(Debug)]
pub(super) struct Header {
    link: LinkType,
    padding: u64,
}

impl Header {
    /// Reads the file header, which is known to be there.
    pub(super) fn read(input: &mut Input) -> Result<Self, Fault> {
        let offset = input.offset();
        let header: [u8; 16] = input.array("file header")?;
        let [version, datalink] = [8, 12].map(|at| word(&header, at));
        if version != 2 {
            let value = u64::from(version);
            return Err(Fault::Value { offset: offset + 8, field: "version", value });
        }
        // Numbers of its own; the last but one are Solaris's. What it calls "other" begins with an address family.
        let link = match datalink {
            0 | 4 => LinkType::Ethernet,
            9 | 14 => LinkType::Null,
            0x8000_0005 => LinkType::Ipnet,
            _ => return Err(Fault::Foreign { what: format!("a snoop capture of datalink type {datalink}") }),
        };
        Ok(Self { link, padding: 0 })
    }

    /// The next record, `None` at the end of the file.
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, Fault> {
        input.skip(std::mem::take(&mut self.padding), "padding")?;
        if input.at_end()? {
            return Ok(None);
        }
        let start = input.offset();
        let header: [u8; 24] = input.array("record header")?;
        let [wire_len, captured, record, _drops, seconds, micros] =
            [0, 4, 8, 12, 16, 20].map(|at| word(&header, at));
        check_len(captured, start + 4)?;
        let padding = u64::from(record).checked_sub(24 + u64::from(captured));
        let value = u64::from(record);
        self.padding = padding.ok_or(Fault::Value { offset: start + 8, field: "record length", value })?;
        let nanos = i64::from(seconds) * 1_000_000_000 + i64::from(micros) * 1_000;
        Record::take(input, self.link, nanos, wire_len, captured).map(Some)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
