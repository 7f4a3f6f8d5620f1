//! Event and Subscription-State (RFC 6665 §8.2, RFC 3515 §2.4.6).

use memchr::memchr;

use super::text::{Params, number, trim};
use super::{Message, Name};

/// An Event value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event package, such as `refer`.
    pub package: &'a [u8],
    /// The `id` parameter: for `refer`, the CSeq number of the REFER (RFC 3515 §2.4.6).
    pub id: Option<&'a [u8]>,
}

impl<'a> Event<'a> {
    /// One value; `None` if it is empty.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (package, params) = head(value);
        let id = params.get("id").filter(|id| !id.is_empty());
        (!package.is_empty()).then_some(Self { package, id })
    }

    /// The Event of a message.
    pub fn of(message: &Message<'a>) -> Option<Self> {
        Self::parse(message.header(Name::Event)?)
    }

    /// Whether it is of the `refer` package. Case is ignored, though RFC 6665 §8.2.1 does not allow it.
    pub fn is_refer(&self) -> bool {
        self.package.eq_ignore_ascii_case(b"refer")
    }

    /// The `id` as the CSeq number of a REFER.
    pub fn refer_cseq(&self) -> Option<u32> {
        number(self.id?)
    }
}

/// The state of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subscription {
    /// `active`
    Active,
    /// `pending`
    Pending,
    /// `terminated`
    Terminated,
    /// Any other; RFC 6665 §4.1.3 has it taken for active.
    Other,
}

/// A Subscription-State value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionState<'a> {
    /// The state.
    pub state: Subscription,
    /// Why it was terminated, such as `noresource`.
    pub reason: Option<&'a [u8]>,
    /// Seconds left.
    pub expires: Option<u32>,
    /// Seconds after which to subscribe again.
    pub retry_after: Option<u32>,
}

impl<'a> SubscriptionState<'a> {
    /// One value; `None` if it is empty.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (state, params) = head(value);
        let known = [
            ("active", Subscription::Active),
            ("pending", Subscription::Pending),
            ("terminated", Subscription::Terminated),
        ];
        let found = known.into_iter().find(|(name, _)| state.eq_ignore_ascii_case(name.as_bytes()));
        (!state.is_empty()).then(|| Self {
            state: found.map_or(Subscription::Other, |(_, state)| state),
            reason: params.get("reason").filter(|reason| !reason.is_empty()),
            expires: params.get("expires").and_then(number),
            retry_after: params.get("retry-after").and_then(number),
        })
    }
}

fn head(value: &[u8]) -> (&[u8], Params<'_>) {
    let semicolon = memchr(b';', value).unwrap_or(value.len());
    (trim(&value[..semicolon]), Params::new(&value[semicolon..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events() {
        let event = Event::parse(b"Refer ; id = 93809824").unwrap();
        assert!(event.is_refer());
        assert_eq!(event.refer_cseq(), Some(93_809_824));
        assert_eq!(Event::parse(b"refer").unwrap().refer_cseq(), None);
        assert!(!Event::parse(b"dialog;id=x").unwrap().is_refer());
        assert_eq!(Event::parse(b" ;id=1"), None);
    }

    #[test]
    fn states() {
        let state = SubscriptionState::parse(b"TERMINATED;reason=noresource;retry-after=3").unwrap();
        assert_eq!((state.state, state.reason), (Subscription::Terminated, Some(&b"noresource"[..])));
        assert_eq!((state.expires, state.retry_after), (None, Some(3)));
        let state = SubscriptionState::parse(b"active;expires=99999999999").unwrap();
        assert_eq!((state.state, state.expires), (Subscription::Active, None));
        assert_eq!(SubscriptionState::parse(b"waiting").unwrap().state, Subscription::Other);
        assert_eq!(SubscriptionState::parse(b""), None);
    }
}
