//! What a message must have for anyone to tell whose it is.

use super::LONGEST_ID;
use crate::sip::{CSeq, Message, Name, NameAddr};

/// What names a message's dialog and its place in it, read once.
pub(crate) struct Place<'a> {
    pub(super) cseq: CSeq,
    pub(super) call_id: &'a [u8],
    pub(super) from: NameAddr<'a>,
    pub(super) to: NameAddr<'a>,
}

impl<'a> Place<'a> {
    /// Reads it; or says what keeps `message` out of every dialog.
    pub(crate) fn of(message: &Message<'a>) -> Result<Self, Unplaced> {
        let lacks = |name| message.header(name).is_none_or(<[u8]>::is_empty);
        if [Name::CSeq, Name::From, Name::To].into_iter().any(lacks) {
            return Err(Unplaced::Missing);
        }
        let call_id = message.call_id().ok_or(Unplaced::Missing)?;
        let cseq = message.cseq().ok_or(Unplaced::CSeq)?;
        let (Some(from), Some(to)) = (message.from(), message.to()) else { return Err(Unplaced::Address) };
        if call_id.len() > LONGEST_ID {
            return Err(Unplaced::CallIdTooLong);
        }
        Ok(Self { cseq, call_id, from, to })
    }
}

/// Why a message belongs to no dialog that could be named (RFC 3261 §8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unplaced {
    /// No From, To, Call-ID or CSeq.
    Missing,
    /// The CSeq is no number below 2³² and a method.
    CSeq,
    /// The From or To is no address.
    Address,
    /// The Call-ID is longer than 1,024 bytes.
    CallIdTooLong,
}

impl Unplaced {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Missing, Self::CSeq, Self::Address, Self::CallIdTooLong];

    /// A short name for counters.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "header_missing",
            Self::CSeq => "bad_cseq",
            Self::Address => "bad_address",
            Self::CallIdTooLong => "call_id_too_long",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_dialog_must_be_there() {
        let whole = "BYE sip:b SIP/2.0\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>;tag=2\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n\r\n";
        let long = "c".repeat(LONGEST_ID + 1);
        for (old, new, reason) in [
            ("", "", None),
            ("Call-ID: c", "Call-Id:", Some(Unplaced::Missing)),
            ("CSeq", "XSeq", Some(Unplaced::Missing)),
            ("To: <sip:b>;tag=2\r\n", "", Some(Unplaced::Missing)),
            ("CSeq: 1 ", "CSeq: -1 ", Some(Unplaced::CSeq)),
            ("CSeq: 1 ", "CSeq: 99999999999 ", Some(Unplaced::CSeq)),
            ("<sip:a>", "<", Some(Unplaced::Address)),
            ("Call-ID: c", &format!("Call-ID: {long}"), Some(Unplaced::CallIdTooLong)),
        ] {
            let text = whole.replacen(old, new, 1);
            let message = Message::parse(text.as_bytes()).unwrap();
            assert_eq!(Place::of(&message).err(), reason, "{new}");
        }
    }
}
