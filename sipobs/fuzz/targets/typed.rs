//! Any bytes as each of the typed values, and rsip's view of a message.

#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use sipobs::sip::{
    Event, Join, Message, NameAddr, ReasonHeader, Replaces, SubscriptionState, TargetDialog, Uri, Via,
    Warning, line, lossy, percent_decode, sdp, typed, unescape,
};

fuzz_target!(|data: &[u8]| {
    values(data);
    if let Ok(message) = Message::parse(data) {
        black_box((message.cseq(), message.call_id(), message.content_length()));
        black_box((message.top_via(), message.bottom_via(), message.contact(), message.event()));
        black_box((
            message.replaces(),
            message.join(),
            message.target_dialog(),
            message.subscription_state(),
        ));
        black_box((message.reasons().count(), message.warnings().count()));
        for address in [message.from(), message.to(), message.refer_to(), message.referred_by()] {
            address.iter().for_each(name_addr);
        }
        message.all_headers().for_each(|(_, _, value)| values(value));
        sdp::Session::of(&message).iter().for_each(session);
        black_box(typed(&message));
    }
});

fn values(value: &[u8]) {
    black_box((
        Event::parse(value),
        Join::parse(value),
        Replaces::parse(value),
        SubscriptionState::parse(value),
    ));
    black_box((TargetDialog::parse(value), Warning::parse(value)));
    if let Some(reason) = ReasonHeader::parse(value) {
        black_box((reason.q850(), reason.sip()));
    }
    if let Some(via) = Via::parse(value) {
        black_box((via.branch(), via.received(), via.rport(), via.params().iter().count()));
    }
    NameAddr::parse(value).iter().for_each(name_addr);
    uri(value);
    sdp::Session::parse(value).iter().for_each(session);
    assert!(percent_decode(value).len() <= value.len());
    assert!(unescape(value).len() <= value.len());
    assert!(!line(value).contains(['\r', '\n']));
    black_box(lossy(value));
}

fn name_addr(address: &NameAddr<'_>) {
    black_box((address.tag(), address.param("q"), address.params().iter().count(), address.display_text()));
    uri(address.uri);
}

fn uri(value: &[u8]) {
    if let Some(uri) = Uri::parse(value) {
        black_box((uri.user_part(), uri.header("Replaces"), uri.params.get("user")));
        // A number that is one reads back as itself.
        if let Some(number) = uri.number() {
            assert_eq!(sipobs::sip::Number::parse(number.digits().as_bytes()), Some(number));
        }
    }
}

fn session(session: &sdp::Session<'_>) {
    black_box((session.media(), session.is_hold()));
}
