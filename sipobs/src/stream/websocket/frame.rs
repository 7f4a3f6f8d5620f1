//! The header of a frame (RFC 6455 §5.2).

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first of a message.
    Data,
    Continuation,
    /// Close, ping or pong: between those of a message, too.
    Control,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: Kind,
    /// The last of its message.
    pub(super) is_last: bool,
    /// RSV1 (RFC 7692 §6).
    pub(super) compressed: bool,
    /// Bytes of the header, and of what is behind it.
    pub(super) size: usize,
    pub(super) len: u64,
    mask: Option<[u8; 4]>,
}

impl FrameHead {
    /// The header that bytes begin with; `None` if not all of it is there.
    ///
    /// # Errors
    ///
    /// When it can be none.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, ()> {
        let Some(&[first, second]) = bytes.first_chunk() else { return Ok(None) };
        let kind = match first & 0x0f {
            0 => Kind::Continuation,
            1 | 2 => Kind::Data,
            8..=10 => Kind::Control,
            _ => return Err(()),
        };
        let (is_last, short) = (first & 0x80 != 0, second & 0x7f);
        if first & 0x30 != 0 || (kind == Kind::Control && (!is_last || short > 125)) {
            return Err(());
        }
        let rest = &bytes[2..];
        let (wide, len) = match short {
            126 => (2, rest.first_chunk().map(|len| u64::from(u16::from_be_bytes(*len)))),
            127 => (8, rest.first_chunk().map(|len| u64::from_be_bytes(*len))),
            len => (0, Some(u64::from(len))),
        };
        let Some(len) = len else { return Ok(None) };
        if len > u64::MAX >> 1 {
            return Err(());
        }
        let masked = second & 0x80 != 0;
        let mask = rest.get(wide..).and_then(|rest| rest.first_chunk()).copied().filter(|_| masked);
        if masked && mask.is_none() {
            return Ok(None);
        }
        let size = 2 + wide + if masked { 4 } else { 0 };
        Ok(Some(Self { kind, is_last, compressed: first & 0x40 != 0, size, len, mask }))
    }

    /// Takes the mask off the beginning of what is behind it (RFC 6455 §5.3).
    pub(super) fn unmask(&self, payload: &mut [u8]) {
        if let Some(mask) = self.mask {
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
    }
}
