//! Classic pcap (draft-ietf-opsawg-pcap): a file header, then records. Also as Linux distributions and Nokia once
//! changed it.

use super::input::{BUFFER, Input};
use super::{Fault, LinkType, MAX_FRAME, Record, check_len};
use crate::work;

/// What the file header says of every record.
#[derive(Debug)]
pub(super) struct Header {
    order: Order,
    /// Nanoseconds in a unit of the records' second time field.
    unit: u32,
    link: LinkType,
    /// Length of a record's header.
    record: usize,
    /// Before version 2.4 the length on the wire came first, in some programs.
    old: bool,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    big_endian: bool,
}

/// A record's header as everybody writes it; those of others begin like it.
#[derive(Clone, Copy, Debug)]
struct Fields {
    seconds: u32,
    fraction: u32,
    captured: u32,
    wire_len: u32,
}

const PLAIN: usize = 16;
/// With an interface index, a protocol and a packet type.
const KUZNETZOV: usize = 24;
/// The same with the number of the CPU.
const KUZNETZOV_CPU: usize = 28;
const NOKIA: usize = 20;

impl Header {
    /// Reads the file header if `magic` says that there is one.
    pub(super) fn read(magic: [u8; 4], input: &mut Input) -> Result<Option<Self>, Fault> {
        // Some kept the magic number of what they changed: the lengths that a record can have, likeliest first.
        let (big_endian, unit, lengths): (_, _, &[usize]) = match u32::from_be_bytes(magic) {
            0xa1b2_c3d4 => (true, 1_000, &[PLAIN, NOKIA, KUZNETZOV]),
            0xa1b2_3c4d => (true, 1, &[PLAIN]),
            0xa1b2_cd34 => (true, 1_000, &[KUZNETZOV, KUZNETZOV_CPU]),
            0xd4c3_b2a1 => (false, 1_000, &[PLAIN, NOKIA, KUZNETZOV]),
            0x4d3c_b2a1 => (false, 1, &[PLAIN]),
            0x34cd_b2a1 => (false, 1_000, &[KUZNETZOV, KUZNETZOV_CPU]),
            _ => return Ok(None),
        };
        let order = Order { big_endian };
        let header: [u8; 24] = input.array("file header")?;
        let old = order.half(&header, 4) == 2 && order.half(&header, 6) < 4;
        // The upper bits tell of frame check sequences, which the length fields of IP cut off anyway.
        let link = LinkType::of(order.word(&header, 20) & 0xffff);
        let mut header = Self { order, unit, link, record: lengths[0], old };
        header.record = header.likeliest(lengths, input);
        Ok(Some(header))
    }

    /// The next record, `None` at the end of the file.
    pub(super) fn next(&self, input: &mut Input) -> Result<Option<Record>, Fault> {
        if input.at_end()? {
            return Ok(None);
        }
        let offset = input.offset() + 8;
        let header = input.take(self.record, "record header")?;
        let Fields { seconds, fraction, captured, wire_len } = self.fields(input.bytes(header));
        check_len(captured, offset)?;
        let nanos = i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * i64::from(self.unit);
        Record::take(input, self.link, nanos, wire_len, captured).map(Some)
    }

    /// The length with which the first records make most sense; in doubt the one that is named first.
    fn likeliest(&self, lengths: &[usize], input: &mut Input) -> usize {
        let (mut best, mut most) = (lengths[0], 0);
        for &len in lengths {
            let sense = self.sense(len, input);
            if sense > most {
                (best, most) = (len, sense);
            }
        }
        best
    }

    /// How much sense the first three records make with headers of this length: two points for one that is whole, one for
    /// a header whose frame is cut short; all of them where the file ends behind one of them.
    fn sense(&self, len: usize, input: &mut Input) -> usize {
        const RECORDS: usize = 3;
        let mut from = 0;
        for whole in 0..RECORDS {
            work::count(1);
            let ahead = input.ahead(from + len);
            if whole > 0 && ahead.len() == from {
                return 2 * RECORDS;
            }
            let Some(header) = ahead.get(from..from + len) else { return 2 * whole };
            let Fields { fraction, captured, wire_len, .. } = self.fields(header);
            let below_a_second = u64::from(fraction) * u64::from(self.unit) < 1_000_000_000;
            if !below_a_second || captured > wire_len || captured as usize > MAX_FRAME {
                return 2 * whole;
            }
            from += len + captured as usize;
            if from > BUFFER - KUZNETZOV_CPU || input.ahead(from).len() < from {
                return 2 * whole + 1;
            }
        }
        2 * RECORDS
    }

    fn fields(&self, header: &[u8]) -> Fields {
        let [seconds, fraction, captured, wire_len] = [0, 4, 8, 12].map(|at| self.order.word(header, at));
        let swapped = self.old && captured > wire_len;
        let (captured, wire_len) = if swapped { (wire_len, captured) } else { (captured, wire_len) };
        Fields { seconds, fraction, captured, wire_len }
    }
}

impl Order {
    fn half(self, bytes: &[u8], at: usize) -> u16 {
        let half = [bytes[at], bytes[at + 1]];
        if self.big_endian { u16::from_be_bytes(half) } else { u16::from_le_bytes(half) }
    }

    fn word(self, bytes: &[u8], at: usize) -> u32 {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }
}
