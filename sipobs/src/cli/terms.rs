//! Headers, methods and terms of call transfer, and where they are defined.

/// A name, the RFC's section, and what it is for.
pub(super) const TERMS: &[(&str, &str, &str)] = &[
    (
        "INVITE",
        "RFC 3261 §13",
        "begins a call, or changes it where it is up; a second one may be how a platform transfers",
    ),
    ("BYE", "RFC 3261 §15", "ends a call that was answered"),
    ("CANCEL", "RFC 3261 §9", "takes back an INVITE that has no final answer yet; that is then 487"),
    (
        "ACK",
        "RFC 3261 §13.2.2.4",
        "confirms the final answer to an INVITE; without it a 200 is repeated, and the call ends",
    ),
    ("REFER", "RFC 3515", "asks the other end of a call to call somebody; NOTIFYs tell what came of that"),
    ("NOTIFY", "RFC 3515 §2.4.4", "tells, in a sipfrag, what became of the call that a REFER asked for"),
    ("SUBSCRIBE", "RFC 6665", "asks for NOTIFYs; a REFER does so by itself, unless it says otherwise"),
    (
        "Refer-To",
        "RFC 3515 §2.1",
        "whom a REFER asks to be called; with Replaces in it, the transfer is an attended one",
    ),
    (
        "Referred-By",
        "RFC 3892",
        "who asked for the call, passed on in its INVITE: ties the new leg to the REFER",
    ),
    (
        "Refer-Sub",
        "RFC 4488",
        "false: the REFER is to have no subscription, so that no NOTIFY tells the outcome",
    ),
    ("norefersub", "RFC 4488", "in Supported: REFER without a subscription is understood"),
    ("Refer-Events-At", "RFC 7614", "in the answer to a REFER: where its outcome can be subscribed to"),
    (
        "Replaces",
        "RFC 3891",
        "names, by Call-ID and both tags, the call whose place an INVITE takes: an attended transfer",
    ),
    ("Join", "RFC 3911", "names the call that an INVITE joins, for a conference"),
    ("Target-Dialog", "RFC 4538", "names the call that a request outside of it is about"),
    ("Session-ID", "RFC 7989", "one id for a call across all its legs, whatever is between them"),
    (
        "Subscription-State",
        "RFC 6665 §8.2.3",
        "of a NOTIFY: active, or terminated, with a reason; after that none comes",
    ),
    ("Event", "RFC 6665 §8.2.1", "what a NOTIFY is about: refer, with the REFER's CSeq as its id"),
    (
        "sipfrag",
        "RFC 3420",
        "a part of a SIP message as a body: the status line of the call that a REFER asked for",
    ),
    (
        "message/sipfrag",
        "RFC 3420",
        "a part of a SIP message as a body: the status line of the call that a REFER asked for",
    ),
    ("Reason", "RFC 3326", "why a request was sent, or an answer given: a SIP status or a Q.850 cause"),
    (
        "Q.850",
        "ITU-T Q.850; RFC 3326",
        "causes of the telephone network: `sipobs explain q.850 17` says what one means",
    ),
    ("Also", "draft-ietf-sip-cc-01", "of a BYE: whom to call instead, before there was REFER"),
    (
        "Contact",
        "RFC 3261 §20.10",
        "where a party can be reached for the rest of the call; of a 3xx, where to try instead",
    ),
    ("Diversion", "RFC 5806", "who the call was meant for before it was diverted, and why"),
    ("History-Info", "RFC 7044", "whom the call was meant for, one after the other, and why it went on"),
    ("P-Asserted-Identity", "RFC 3325", "who calls, as a network vouches for it"),
    (
        "Identity",
        "RFC 8224",
        "the signed caller's number (STIR); `sipobs explain 438` for one that is not believed",
    ),
    ("Retry-After", "RFC 3261 §20.33", "when to try again, in seconds"),
    ("Warning", "RFC 3261 §20.43", "a code and a sentence on why a request failed"),
    (
        "Allow",
        "RFC 3261 §20.5",
        "the methods that its sender takes: without REFER in it, a transfer by REFER is refused",
    ),
    ("Call-ID", "RFC 3261 §20.8", "names a call, together with the tags of both ends; each leg has its own"),
    ("CSeq", "RFC 3261 §20.16", "number and method of a request: its answers repeat it"),
    ("Via", "RFC 3261 §20.42", "the way that an answer goes back"),
    ("Record-Route", "RFC 3261 §20.30", "a proxy that wants to see the rest of the call"),
    ("Max-Forwards", "RFC 3261 §20.22", "how many hops are left; 483 where none is"),
    ("blind transfer", "RFC 5589 §6", "a REFER to somebody who was not spoken to before"),
    ("attended transfer", "RFC 5589 §7", "a REFER to somebody who is spoken to in another call, by Replaces"),
    ("redirect", "RFC 3261 §21.3", "a 3xx: the call was sent elsewhere before it was answered"),
    ("B2BUA", "RFC 3261 §6", "answers a call and makes another: it transfers by a second leg"),
    ("64*T1", "RFC 3261 §17", "32 s: how long a request is repeated before it counts as unanswered"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_where_it_is_defined_and_is_there_once() {
        for (at, (name, place, meaning)) in TERMS.iter().enumerate() {
            assert!(place.contains("RFC ") || place.contains("draft-"), "{name}");
            assert!(meaning.len() > 20 && !meaning.ends_with('.'), "{name}");
            assert!(TERMS[..at].iter().all(|(other, ..)| !other.eq_ignore_ascii_case(name)), "{name}");
        }
    }
}
