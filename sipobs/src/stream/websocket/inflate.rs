//! Messages that are compressed (permessage-deflate, RFC 7692).

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use crate::work;

/// What a message is unpacked by so many bytes at once.
const PIECE: usize = 4 << 10;
/// What the sender left out at its end (RFC 7692 §7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// One direction's window.
pub(super) struct Inflate(Decompress);

/// Why a message can't be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooLarge,
    Damaged,
}

impl Default for Inflate {
    fn default() -> Self {
        Self(Decompress::new(false))
    }
}

impl fmt::Debug for Inflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflate")
    }
}

impl Inflate {
    /// Bytes that it takes up, about: a window and tables.
    pub(super) const COST: usize = 48 << 10;

    /// Unpacks a message to no more than `max` bytes; `anew` if its sender began with an empty window.
    pub(super) fn message(&mut self, packed: &[u8], max: usize, anew: bool) -> Result<Vec<u8>, Fault> {
        if anew {
            self.0.reset(false);
        }
        let mut whole = Vec::new();
        for mut input in [packed, &TAIL] {
            loop {
                let (read, given) = (self.0.total_in(), whole.len());
                whole.reserve(PIECE);
                let status = self.0.decompress_vec(input, &mut whole, FlushDecompress::None);
                let read = usize::try_from(self.0.total_in() - read).unwrap_or(usize::MAX);
                work::count(whole.len() - given + read);
                input = input.get(read..).unwrap_or_default();
                if whole.len() > max {
                    return Err(Fault::TooLarge);
                }
                match status {
                    // A block that says it is the last one is followed by an empty one (RFC 7692 §7.2.3.4).
                    Ok(Status::StreamEnd) => {
                        self.0.reset(false);
                        return if input.is_empty() || input == [0] {
                            Ok(whole)
                        } else {
                            Err(Fault::Damaged)
                        };
                    }
                    Ok(_) if read == 0 && whole.len() == given => break,
                    Ok(_) => {}
                    Err(_) => return Err(Fault::Damaged),
                }
            }
            if !input.is_empty() {
                return Err(Fault::Damaged);
            }
        }
        Ok(whole)
    }
}
