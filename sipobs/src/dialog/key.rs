//! What names the dialog of a message, and what a message must have to be given one.

use std::hash::BuildHasher;

use foldhash::quality::FixedState;
use strum::VariantArray;

use super::LONGEST_ID;
use crate::leg::Branch;
use crate::sip::{CSeq, Message, Name, NameAddr, Via};

/// What names a message's dialog and its place in it, read once.
pub(crate) struct DialogKey<'a> {
    pub(crate) cseq: CSeq,
    pub(crate) call_id: &'a [u8],
    pub(crate) from: NameAddr<'a>,
    pub(crate) to: NameAddr<'a>,
    /// Their tags; an empty one is none.
    pub(crate) from_tag: Option<&'a [u8]>,
    pub(crate) to_tag: Option<&'a [u8]>,
    /// Of its topmost Via.
    pub(crate) branch: Branch,
}

impl<'a> DialogKey<'a> {
    /// Reads it; or says what keeps `message` out of every dialog.
    pub(crate) fn of(message: &Message<'a>) -> Result<Self, NoDialogKey> {
        let header =
            |name| message.header(name).filter(|value| !value.is_empty()).ok_or(NoDialogKey::Missing);
        let (from, to, call_id) = (header(Name::From)?, header(Name::To)?, header(Name::CallId)?);
        header(Name::CSeq)?;
        let cseq = message.cseq().ok_or(NoDialogKey::CSeq)?;
        let address = |value| NameAddr::parse(value).ok_or(NoDialogKey::Address);
        let (from, to) = (address(from)?, address(to)?);
        if call_id.len() > LONGEST_ID {
            return Err(NoDialogKey::CallIdTooLong);
        }
        let [from_tag, to_tag] = [&from, &to].map(tag);
        Ok(Self { cseq, call_id, from, to, from_tag, to_tag, branch: branch(message.top_via()) })
    }
}

fn tag<'a>(party: &NameAddr<'a>) -> Option<&'a [u8]> {
    party.tag().filter(|tag| !tag.is_empty() && tag.len() <= LONGEST_ID)
}

/// A number for a Via's branch and sent-by (§17.2.3). Only equality within one transaction is asked for: its keys need not be
/// secret.
pub(super) fn branch(via: Option<Via<'_>>) -> Branch {
    let branch = via.and_then(|via| via.branch()).unwrap_or_default();
    let host = via.map(|via| via.host).unwrap_or_default();
    let port = via.and_then(|via| via.port);
    #[allow(clippy::cast_possible_truncation, reason = "half of a hash tells few branches apart")]
    Branch(FixedState::default().hash_one((branch, host, port)) as u32)
}

/// Why a message belongs to no dialog that could be named (RFC 3261 §8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub enum NoDialogKey {
    /// No From, To, Call-ID or CSeq.
    Missing,
    /// The CSeq is no number below 2³² and a method.
    CSeq,
    /// The From or To is no address.
    Address,
    /// The Call-ID is longer than 1,024 bytes.
    CallIdTooLong,
}

impl NoDialogKey {
    /// Every reason.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// A short name for counters.
    pub const fn as_str(self) -> &'static str {
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
            ("Call-ID: c", "Call-Id:", Some(NoDialogKey::Missing)),
            ("CSeq", "XSeq", Some(NoDialogKey::Missing)),
            ("To: <sip:b>;tag=2\r\n", "", Some(NoDialogKey::Missing)),
            ("CSeq: 1 ", "CSeq: -1 ", Some(NoDialogKey::CSeq)),
            ("CSeq: 1 ", "CSeq: 99999999999 ", Some(NoDialogKey::CSeq)),
            ("<sip:a>", "<", Some(NoDialogKey::Address)),
            ("Call-ID: c", &format!("Call-ID: {long}"), Some(NoDialogKey::CallIdTooLong)),
        ] {
            let text = whole.replacen(old, new, 1);
            let message = Message::parse(text.as_bytes()).unwrap();
            assert_eq!(DialogKey::of(&message).err(), reason, "{new}");
        }
    }
}
