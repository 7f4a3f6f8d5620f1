//! Q.850 causes as SIP carries them: `Reason: Q.850;cause=17;location=U` (RFC 3326, RFC 8606), and their SIP
//! statuses (RFC 3398 §7.2.4.1).

use super::ReasonHeader;

/// Cause, what it means, and the SIP status that a gateway makes of it.
const CAUSES: &[(u16, &str, Option<u16>)] = &[
    (1, "unallocated number", Some(404)),
    (2, "no route to network", Some(404)),
    (3, "no route to destination", Some(404)),
    (5, "misdialled trunk prefix", None),
    (8, "preemption", None),
    (14, "number ported", None),
    (16, "normal clearing", None),
    (17, "user busy", Some(486)),
    (18, "no user responding", Some(408)),
    (19, "no answer from the user", Some(480)),
    (20, "subscriber absent", Some(480)),
    (21, "call rejected", Some(403)),
    (22, "number changed", Some(410)),
    (23, "redirection to new destination", Some(410)),
    (25, "exchange routing error", None),
    (26, "non-selected user clearing", Some(404)),
    (27, "destination out of order", Some(502)),
    (28, "address incomplete", Some(484)),
    (29, "facility rejected", Some(501)),
    (31, "normal, unspecified", Some(480)),
    (34, "no circuit available", Some(503)),
    (38, "network out of order", Some(503)),
    (41, "temporary failure", Some(503)),
    (42, "switching equipment congestion", Some(503)),
    (44, "requested channel not available", None),
    (46, "precedence call blocked", None),
    (47, "resource unavailable", Some(503)),
    (50, "requested facility not subscribed", None),
    (52, "outgoing calls barred", None),
    (54, "incoming calls barred", None),
    (55, "incoming calls barred within the closed user group", Some(403)),
    (57, "bearer capability not authorized", Some(403)),
    (58, "bearer capability not available now", Some(503)),
    (63, "service or option not available", None),
    (65, "bearer capability not implemented", Some(488)),
    (69, "requested facility not implemented", None),
    (70, "only restricted digital information", Some(488)),
    (79, "service or option not implemented", Some(501)),
    (87, "user not member of the closed user group", Some(403)),
    (88, "incompatible destination", Some(503)),
    (95, "invalid message", None),
    (96, "mandatory element missing", None),
    (97, "message type unknown", None),
    (98, "message not compatible with the call's state", None),
    (99, "element unknown", None),
    (100, "invalid element contents", None),
    (101, "message not compatible with the call's state", None),
    (102, "recovery on timer expiry", Some(504)),
    (111, "protocol error", Some(500)),
    (127, "interworking, unspecified", Some(500)),
];

/// Where a cause was said (RFC 8606 §4.1).
const LOCATIONS: &[(&str, &str)] = &[
    ("U", "the user"),
    ("LPN", "the private network at the user's side"),
    ("LN", "the public network at the user's side"),
    ("TN", "a transit network"),
    ("RLN", "the public network at the far side"),
    ("RPN", "the private network at the far side"),
    ("INTL", "the international network"),
    ("BI", "a network beyond interworking"),
];

/// A Q.850 cause from a Reason header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Q850 {
    /// Its number.
    pub cause: u16,
    /// Its location, if it is one of RFC 8606's.
    pub location: Option<&'static str>,
}

impl Q850 {
    /// The first Q.850 value of a Reason header, which may hold several.
    pub fn parse(reason: &[u8]) -> Option<Self> {
        ReasonHeader::all(reason).find_map(|value| {
            let cause = value.q850()?;
            let is = |(token, _): &&(&str, &str)| {
                value.location.is_some_and(|location| location.eq_ignore_ascii_case(token.as_bytes()))
            };
            Some(Self { cause, location: LOCATIONS.iter().find(is).map(|(token, _)| *token) })
        })
    }

    /// What the cause means: `user busy`.
    pub fn meaning(self) -> Option<&'static str> {
        CAUSES.iter().find(|(cause, ..)| *cause == self.cause).map(|(_, meaning, _)| *meaning)
    }

    /// The SIP status that stands for it (RFC 3398 §7.2.4.1).
    pub fn status(self) -> Option<u16> {
        CAUSES.iter().find(|(cause, ..)| *cause == self.cause).and_then(|(.., status)| *status)
    }

    /// Who said it, in words.
    pub fn said_by(self) -> Option<&'static str> {
        let location = self.location?;
        LOCATIONS.iter().find(|(token, _)| *token == location).map(|(_, words)| *words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cause_and_location_among_other_values() {
        let q850 =
            Q850::parse(br#"SIP;cause=600;text="a,b;c", q.850 ;cause=17;text="User \"busy\"";location=u"#);
        assert_eq!(q850, Some(Q850 { cause: 17, location: Some("U") }));
        assert_eq!(Q850::parse(b"Q.850;cause=38"), Some(Q850 { cause: 38, location: None }));
        assert_eq!(Q850::parse(b"SIP;cause=200;text=\"Q.850;cause=17\""), None);
        assert_eq!(Q850::parse(b"Q.850;cause=x"), None);
        assert_eq!(Q850::parse(b""), None);
    }

    #[test]
    fn maps_to_sip_as_rfc_3398_does() {
        for (causes, status) in [
            (&[1, 2, 3][..], 404),
            (&[17], 486),
            (&[18], 408),
            (&[19, 20, 31], 480),
            (&[21], 403),
            (&[22], 410),
            (&[27], 502),
            (&[28], 484),
            (&[34, 38, 41, 42, 47, 58, 88], 503),
            (&[26], 404),
            (&[23], 410),
            (&[29, 79], 501),
            (&[55, 57, 87], 403),
            (&[65, 70], 488),
            (&[102], 504),
            (&[111, 127], 500),
        ] {
            for &cause in causes {
                assert_eq!(Q850 { cause, location: None }.status(), Some(status), "{cause}");
            }
        }
        assert_eq!(Q850 { cause: 16, location: None }.status(), None);
    }
}
