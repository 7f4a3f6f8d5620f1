//! The texts of a leg, in one allocation.

/// Call-ID and URIs of a leg as they came on the wire, one behind the other.
pub(crate) struct Texts(Box<[u8]>);

/// The texts there are, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// The Call-ID.
    CallId,
    /// URI of the caller: From of its requests.
    Caller,
    /// URI of the callee: To of the caller's requests.
    Callee,
    /// Request-URI of the first INVITE; empty for a leg that began otherwise.
    Request,
}

/// How many there are.
const COUNT: usize = 4;
/// Bytes before the texts: where each ends, but for the last.
const HEAD: usize = 2 * (COUNT - 1);
/// No text is longer, so that ends fit in 16 bits.
const LONGEST: usize = 16 << 10;

impl Texts {
    /// These texts, each cut to 16 KiB.
    pub(crate) fn new(texts: [&[u8]; COUNT]) -> Self {
        let texts = texts.map(|text| &text[..text.len().min(LONGEST)]);
        let mut bytes = Vec::with_capacity(HEAD + texts.iter().map(|text| text.len()).sum::<usize>());
        let mut end = 0u16;
        for text in &texts[..COUNT - 1] {
            end += u16::try_from(text.len()).unwrap_or_default();
            bytes.extend(end.to_le_bytes());
        }
        texts.iter().for_each(|text| bytes.extend_from_slice(text));
        Self(bytes.into())
    }

    /// One of them.
    pub(crate) fn get(&self, text: Text) -> &[u8] {
        let index = text as usize;
        let start = if index == 0 { 0 } else { self.end(index - 1) };
        let end = if index == COUNT - 1 { self.0.len() - HEAD } else { self.end(index) };
        &self.0[HEAD + start..HEAD + end]
    }

    /// Bytes that they take up.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    fn end(&self, index: usize) -> usize {
        usize::from(u16::from_le_bytes([self.0[2 * index], self.0[2 * index + 1]]))
    }
}

/// Only how much it is: no wire bytes in logs.
impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Texts({} bytes)", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_given_back() {
        let long = vec![b'x'; LONGEST + 1];
        let texts = Texts::new([b"id", b"", &long, b"sip:c"]);
        assert_eq!(texts.get(Text::CallId), b"id");
        assert_eq!(texts.get(Text::Caller), b"");
        assert_eq!(texts.get(Text::Callee).len(), LONGEST);
        assert_eq!(texts.get(Text::Request), b"sip:c");
        assert_eq!(Texts::new([b"", b"", b"", b""]).get(Text::Request), b"");
    }
}
