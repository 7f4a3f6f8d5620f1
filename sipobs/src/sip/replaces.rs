//! Headers that name another dialog: Replaces (RFC 3891), Join (RFC 3911), Target-Dialog (RFC 4538).

use super::text::{Params, trim};

/// A Replaces value: the dialog as its addressee knows it.
///
/// RFC 3891 §6.1 asks for both tags. Peers forget them, and their transfers fail for it: what such a value does name
/// is kept, to say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaces<'a> {
    /// Call-ID of the dialog.
    pub call_id: &'a [u8],
    /// The tag on the addressee's side.
    pub to_tag: Option<&'a [u8]>,
    /// The tag on the other side.
    pub from_tag: Option<&'a [u8]>,
    /// Only an early dialog may be replaced.
    pub early_only: bool,
}

impl<'a> Replaces<'a> {
    /// One value, escapes already undone; `None` if the Call-ID is missing.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (call_id, params) = dialog(value)?;
        Some(Self {
            call_id,
            to_tag: tag(params, "to-tag"),
            from_tag: tag(params, "from-tag"),
            early_only: params.has("early-only"),
        })
    }
}

/// A Join value: the dialog as its addressee knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join<'a> {
    /// Call-ID of the dialog.
    pub call_id: &'a [u8],
    /// The tag on the addressee's side.
    pub to_tag: &'a [u8],
    /// The tag on the other side.
    pub from_tag: &'a [u8],
}

impl<'a> Join<'a> {
    /// One value, escapes already undone; `None` if the Call-ID or a tag is missing.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (call_id, params) = dialog(value)?;
        Some(Self { call_id, to_tag: tag(params, "to-tag")?, from_tag: tag(params, "from-tag")? })
    }
}

/// A Target-Dialog value: a dialog its sender shares with the addressee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetDialog<'a> {
    /// Call-ID of the dialog.
    pub call_id: &'a [u8],
    /// The tag on the addressee's side: local is "from the perspective of the recipient" (RFC 4538 §7).
    pub local_tag: Option<&'a [u8]>,
    /// The tag on the sender's side.
    pub remote_tag: Option<&'a [u8]>,
}

impl<'a> TargetDialog<'a> {
    /// One value; `None` without a Call-ID.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (call_id, params) = dialog(value)?;
        let (local_tag, remote_tag) = (tag(params, "local-tag"), tag(params, "remote-tag"));
        Some(Self { call_id, local_tag, remote_tag })
    }
}

fn dialog(value: &[u8]) -> Option<(&[u8], Params<'_>)> {
    let semicolon = memchr::memchr(b';', value).unwrap_or(value.len());
    let call_id = trim(&value[..semicolon]);
    (!call_id.is_empty()).then(|| (call_id, Params::new(&value[semicolon..])))
}

fn tag<'a>(params: Params<'a>, name: &str) -> Option<&'a [u8]> {
    params.get(name).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_needed_to_join_and_missed_in_replaces() {
        let replaces = Replaces::parse(b"a@b ; From-Tag = 1;\r\n to-tag=2;early-only").unwrap();
        assert_eq!(
            (replaces.call_id, replaces.to_tag, replaces.from_tag),
            (&b"a@b"[..], Some(&b"2"[..]), Some(&b"1"[..]))
        );
        assert!(replaces.early_only);
        for (value, tags) in [
            ("a", [None, None]),
            ("a;to-tag=1", [Some("1"), None]),
            ("a;from-tag=1", [None, Some("1")]),
            ("a;to-tag=;from-tag=1", [None, Some("1")]),
        ] {
            let replaces = Replaces::parse(value.as_bytes()).unwrap();
            assert_eq!(
                [replaces.to_tag, replaces.from_tag],
                tags.map(|tag| tag.map(str::as_bytes)),
                "{value}"
            );
        }
        for value in ["", ";to-tag=1;from-tag=2"] {
            assert_eq!(Replaces::parse(value.as_bytes()), None, "{value}");
        }
        for value in ["", ";to-tag=1;from-tag=2", "a;to-tag=1", "a;from-tag=1", "a;to-tag=;from-tag=1"] {
            assert_eq!(Join::parse(value.as_bytes()), None, "{value}");
        }
        assert_eq!(Join::parse(b"a;to-tag=1;from-tag=2").unwrap().to_tag, b"1");
    }

    #[test]
    fn target_dialog_tags() {
        let target = TargetDialog::parse(b"a@b;local-tag=1;remote-tag=2").unwrap();
        assert_eq!((target.local_tag, target.remote_tag), (Some(&b"1"[..]), Some(&b"2"[..])));
        assert_eq!(TargetDialog::parse(b"a@b").unwrap().local_tag, None);
    }
}
