//! The habits of ordinary calls.

use super::Message;
use super::script::By::{Callee, Caller};
use super::script::{Dice, HOLD, Leg, OFFER, Party, party};

const TRUNK: &str = "192.0.2.1:5060";
const PLATFORM: &str = "192.0.2.2:5060";
const PBX: &str = "192.0.2.3:5060";
const PROXY: &str = "192.0.2.4:5060";

/// What one call put on the wire.
pub(super) struct Made {
    pub(super) messages: Vec<Message>,
    /// Legs: initial INVITEs, each with what followed.
    pub(super) legs: u64,
}

type Habit = fn(&str, u64, &mut Dice) -> Made;

const HABITS: [(&str, Habit); 26] = [
    ("plain", plain),
    ("plain, busy number", busy_number),
    ("challenged", challenged),
    ("refreshed", refreshed),
    ("held", held),
    ("glare", glare),
    ("cancelled", cancelled),
    ("failed", failed),
    ("forked", forked),
    ("answered twice", answered_twice),
    ("early media", early_media),
    ("voicemail", voicemail),
    ("talkative", talkative),
    ("other packages", other_packages),
    ("copies", copies),
    ("b2bua", b2bua),
    ("b2bua that answers first", b2bua_answers_first),
    ("proxied", proxied),
    ("outbound", outbound),
    ("called back", called_back),
    ("picked up", picked_up),
    ("byes cross", byes_cross),
    ("bye challenged", bye_challenged),
    ("unreachable", unreachable),
    ("registrations", registrations),
    ("late 200", late_200),
];

/// Any habit, as often as another.
pub(super) fn any(number: u32, at: u64, dice: &mut Dice) -> (&'static str, Made) {
    let (kind, habit) = HABITS[usize::try_from(dice.below(HABITS.len() as u64)).unwrap()];
    (kind, habit(&number.to_string(), at, dice))
}

/// Somebody calls one of the platform's numbers.
fn inbound(name: &str, at: u64, dice: &mut Dice) -> Leg {
    let called = 155_510_000 + dice.below(40);
    Leg::new(name, at, somebody(name), party(PLATFORM, format!("+1{called}")))
}

/// One of few people outside, so that they come again; never while they are in a call.
fn somebody(name: &str) -> Party {
    let number: u64 = name.parse().unwrap();
    party(TRUNK, format!("+1{}", 155_500_000 + number * 7 % 800))
}

/// One of the PBX's phones, the first or the second that a call needs; never while it is in a call.
fn phone(name: &str, nth: u64) -> Party {
    let number: u64 = name.parse().unwrap();
    let extension = (number * 2 + nth) % 800;
    party(
        &format!("192.0.{}.{}:5060", 100 + extension / 200, 1 + extension % 200),
        (1000 + extension).to_string(),
    )
}

/// A while of talk, then BYE from either side.
fn hang_up(leg: &mut Leg, dice: &mut Dice) {
    let by = if dice.once_in(2) { Caller } else { Callee };
    leg.wait(2000 + dice.below(180_000)).bye(by);
}

fn one(leg: Leg) -> Made {
    Made { messages: leg.messages, legs: 1 }
}

fn plain(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, REFER, NOTIFY").pick_up(dice.below(9000));
    hang_up(&mut leg, dice);
    one(leg)
}

fn busy_number(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    let called = party(PLATFORM, "+1155519999");
    leg = Leg::new(name, at, leg.caller, called);
    leg.ring("").pick_up(dice.below(3000));
    hang_up(&mut leg, dice);
    one(leg)
}

fn challenged(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    let status = if dice.once_in(2) { "401 Unauthorized" } else { "407 Proxy Authentication Required" };
    leg.request(Caller, "INVITE", "", OFFER).wait(30).fail(status).wait(10);
    leg.ring("Proxy-Authorization: Digest x").pick_up(2000);
    hang_up(&mut leg, dice);
    one(leg)
}

fn refreshed(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("Session-Expires: 90").pick_up(3000);
    for _ in 0..1 + dice.below(4) {
        leg.wait(45_000);
        match dice.below(3) {
            0 => leg.exchange(Caller, "UPDATE", "Session-Expires: 90", ""),
            1 => leg.exchange(Callee, "UPDATE", "Session-Expires: 90", ""),
            _ => leg.reinvite(Callee, OFFER),
        };
    }
    hang_up(&mut leg, dice);
    one(leg)
}

fn held(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").pick_up(3000);
    let by = if dice.once_in(2) { Caller } else { Callee };
    leg.wait(9000).reinvite(by, HOLD).wait(20_000);
    // Some are never resumed.
    if !dice.once_in(3) {
        leg.reinvite(by, OFFER);
    }
    hang_up(&mut leg, dice);
    one(leg)
}

fn glare(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").pick_up(3000);
    leg.wait(9000).request(Caller, "INVITE", "", OFFER).wait(5).request(Callee, "INVITE", "", OFFER);
    for by in [Caller, Callee] {
        leg.wait(5).answer(by, "491 Request Pending", "INVITE", "").ack(by);
    }
    leg.wait(2100).reinvite(Caller, OFFER);
    hang_up(&mut leg, dice);
    one(leg)
}

fn cancelled(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").wait(dice.below(60_000)).cancel().wait(10).fail("487 Request Terminated");
    one(leg)
}

fn failed(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    let status = [
        "486 Busy Here",
        "404 Not Found",
        "480 Temporarily Unavailable",
        "503 Service Unavailable",
        "488 Not Acceptable Here",
        "603 Decline",
        "484 Address Incomplete",
    ][usize::try_from(dice.below(7)).unwrap()];
    leg.ring("").wait(dice.below(30_000)).fail(status);
    one(leg)
}

fn forked(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    let first = leg.to_tag.clone();
    leg.ring("");
    for n in 0..1 + dice.below(3) {
        leg.to_tag = format!("{first}-fork{n}");
        leg.wait(200).answer(Caller, "180 Ringing", "INVITE", "");
        leg.wait(100).answer(Caller, "183 Session Progress", "INVITE", OFFER);
    }
    leg.pick_up(4000);
    hang_up(&mut leg, dice);
    one(leg)
}

/// Two phones answer; the caller lets one go.
fn answered_twice(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    let kept = leg.to_tag.clone();
    leg.ring("").pick_up(4000);
    leg.to_tag = format!("{kept}-other");
    leg.wait(40).answer(Caller, "200 OK", "INVITE", OFFER).ack(Caller).wait(20).bye(Caller);
    leg.to_tag = kept;
    hang_up(&mut leg, dice);
    one(leg)
}

fn early_media(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.request(Caller, "INVITE", "Supported: 100rel, replaces, norefersub, tdialog", OFFER);
    leg.wait(400).answer_with(Caller, "183 Session Progress", "INVITE", "RSeq: 1\r\nRequire: 100rel", OFFER);
    // The INVITE's number must stay for its final answer.
    let mut side = Leg::new(name, leg.at, leg.caller.clone(), leg.callee.clone());
    side.exchange(Caller, "INFO", "", "").exchange(Caller, "PRACK", "RAck: 1 1 INVITE", "");
    leg.messages.extend(side.messages.split_off(2));
    leg.wait(9000);
    if dice.once_in(3) {
        leg.fail("486 Busy Here");
    } else {
        leg.pick_up(2000);
        hang_up(&mut leg, dice);
    }
    one(leg)
}

/// Rings out at the phone; the PBX's mailbox answers within the same dialog, diverted.
fn voicemail(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = Leg::new(name, at, somebody(name), party(PBX, phone(name, 0).user));
    leg.ring("").wait(20_000).answer(Caller, "181 Call Is Being Forwarded", "INVITE", "");
    leg.wait(200).answer_with(
        Caller,
        "200 OK",
        "INVITE",
        "History-Info: <sip:mailbox@192.0.2.3>;index=1.1",
        OFFER,
    );
    leg.ack(Caller).wait(dice.below(60_000)).bye(Caller);
    one(leg)
}

fn talkative(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").pick_up(2000);
    for _ in 0..6 {
        let (method, headers) = [
            ("INFO", "Content-Type: application/dtmf-relay"),
            ("MESSAGE", "Content-Type: text/plain"),
            ("OPTIONS", "Accept: application/sdp"),
            ("INFO", "Info-Package: transfer"),
        ][usize::try_from(dice.below(4)).unwrap()];
        let by = if dice.once_in(2) { Caller } else { Callee };
        leg.wait(3000).exchange(by, method, headers, "Signal=1\r\n");
    }
    hang_up(&mut leg, dice);
    one(leg)
}

/// Event packages other than refer, in a call's own dialog and outside.
fn other_packages(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").pick_up(2000);
    leg.wait(900).exchange(Callee, "SUBSCRIBE", "Event: dialog\r\nExpires: 60", "");
    let body = "<dialog-info state=\"full\"><dialog id=\"1\"><state>confirmed</state></dialog></dialog-info>";
    let headers =
        "Event: dialog\r\nSubscription-State: active;expires=60\r\nContent-Type: application/dialog-info+xml";
    leg.exchange(Caller, "NOTIFY", headers, body);
    leg.exchange(
        Caller,
        "NOTIFY",
        "Event: conference\r\nSubscription-State: terminated;reason=noresource",
        "",
    );
    hang_up(&mut leg, dice);
    let mut out = Leg::new(&format!("{name}s"), at + 500, phone(name, 0), party(PBX, "1000"));
    out.exchange(Caller, "SUBSCRIBE", "Event: presence\r\nExpires: 600", "");
    for event in ["presence", "message-summary", "reg", "check-sync"] {
        let headers = format!("Event: {event}\r\nSubscription-State: active;expires=600");
        out.wait(700).exchange(Callee, "NOTIFY", &headers, "<presence/>");
    }
    leg.messages.extend(out.messages);
    one(leg)
}

/// Retransmissions of everything.
fn copies(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.request(Caller, "INVITE", "", OFFER).wait(500).again().wait(1000).again();
    leg.answer(Caller, "180 Ringing", "INVITE", "").again();
    leg.wait(3000).answer(Caller, "200 OK", "INVITE", OFFER).wait(500).again().wait(1000).again();
    leg.ack(Caller).again();
    leg.wait(20_000 + dice.below(9000)).request(Callee, "BYE", "", "").wait(500).again().wait(1000).again();
    leg.answer(Callee, "200 OK", "BYE", "").again();
    one(leg)
}

/// A call through the PBX, on to a phone: two legs, one call. Phones talk to one another all day.
fn b2bua(name: &str, at: u64, dice: &mut Dice) -> Made {
    let (from, to) = (phone(name, 0), phone(name, 1));
    let mut inner = Leg::new(name, at, from.clone(), party(PBX, &*to.user));
    let mut outer = Leg::new(&format!("{name}o"), at + 9000, party(PBX, from.user), to);
    inner.ring("");
    outer.ring("").pick_up(4000);
    inner.at = outer.at;
    inner.pick_up(5);
    hang_up(&mut inner, dice);
    outer.at = inner.at + 4000;
    outer.bye(Caller);
    both(inner, outer)
}

/// The same, with an announcement before the phone is called.
fn b2bua_answers_first(name: &str, at: u64, dice: &mut Dice) -> Made {
    let (from, to) = (somebody(name), phone(name, 0));
    let mut inner = Leg::new(name, at, from.clone(), party(PBX, &*to.user));
    inner.ring("").pick_up(50);
    let mut outer = Leg::new(&format!("{name}o"), inner.at + 40_000, party(PBX, from.user), to);
    outer.ring("").pick_up(4000);
    inner.at = outer.at;
    hang_up(&mut inner, dice);
    outer.at = inner.at + 4000;
    outer.bye(Caller);
    both(inner, outer)
}

fn both(mut one: Leg, other: Leg) -> Made {
    one.messages.extend(other.messages);
    Made { messages: one.messages, legs: 2 }
}

/// Every message twice, on both sides of a proxy.
fn proxied(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").pick_up(3000).wait(9000).reinvite(Caller, HOLD).wait(9000).reinvite(Caller, OFFER);
    hang_up(&mut leg, dice);
    let proxy = PROXY.parse().unwrap();
    let hops = leg.messages.into_iter().flat_map(|message| {
        let Message { at, from, to, text } = message;
        let via = format!("\r\nVia: SIP/2.0/UDP {PROXY};branch=z9hG4bKp{at}\r\nVia: ");
        let onward = text.replacen("\r\nVia: ", &via, 1);
        let (first, second) = if text.starts_with("SIP/2.0") { (onward, text) } else { (text, onward) };
        [
            Message { at, from, to: proxy, text: first },
            Message { at: at + 400, from: proxy, to, text: second },
        ]
    });
    Made { messages: hops.collect(), legs: 1 }
}

/// The platform calls somebody, from a number of its own that it takes no calls on.
fn outbound(name: &str, at: u64, dice: &mut Dice) -> Made {
    let from = party(PLATFORM, format!("+1{}", 155_520_000 + dice.below(5)));
    let to = party(TRUNK, format!("+1{}", 155_530_000 + dice.below(900)));
    let mut leg = Leg::new(name, at, from, to);
    leg.ring("");
    match dice.below(4) {
        0 => drop(leg.wait(30_000).cancel().wait(10).fail("487 Request Terminated")),
        1 => drop(leg.fail("486 Busy Here")),
        _ => hang_up(leg.pick_up(5000), dice),
    }
    one(leg)
}

/// The platform calls somebody who calls it at other times.
fn called_back(name: &str, at: u64, dice: &mut Dice) -> Made {
    let from = party(PLATFORM, "+1155520009");
    let to = somebody(name);
    let mut leg = Leg::new(name, at, from, to);
    leg.ring("").pick_up(5000);
    hang_up(&mut leg, dice);
    one(leg)
}

/// Directed pick-up: somebody else takes a call that rings (RFC 3891 §7.1).
fn picked_up(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").wait(4000).cancel();
    let taker = party("192.0.2.77:5060", "1077");
    let early = if dice.once_in(2) { ";early-only" } else { "" };
    let mut pick = Leg::new(&format!("{name}p"), leg.at - 9000, taker, party(TRUNK, leg.caller.user.clone()));
    let replaces = format!("Replaces: {};to-tag=f{name};from-tag=t{name}{early}", leg.call_id);
    pick.request(Caller, "INVITE", &replaces, OFFER).pick_up(4);
    leg.wait(10).fail("487 Request Terminated");
    hang_up(&mut pick, dice);
    both(leg, pick)
}

fn byes_cross(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").pick_up(5000).wait(5000 + dice.below(60_000)).request(Caller, "BYE", "", "");
    leg.wait(3).request(Callee, "BYE", "Reason: Q.850;cause=16;text=\"Normal call clearing\"", "");
    leg.wait(9).answer(Caller, "481 Call/Transaction Does Not Exist", "BYE", "");
    leg.wait(2).answer(Callee, "200 OK", "BYE", "");
    one(leg)
}

fn bye_challenged(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").pick_up(5000).wait(5000 + dice.below(60_000)).request(Callee, "BYE", "", "");
    leg.wait(9).answer(Callee, "407 Proxy Authentication Required", "BYE", "").wait(9);
    leg.request(Callee, "BYE", "Proxy-Authorization: Digest x", "")
        .wait(9)
        .answer(Callee, "200 OK", "BYE", "");
    one(leg)
}

/// Nothing answers.
fn unreachable(name: &str, at: u64, dice: &mut Dice) -> Made {
    let from = party(PLATFORM, format!("+1{}", 155_520_000 + dice.below(5)));
    let mut leg = Leg::new(name, at, from, party("192.0.2.250:5060", "+1155530001"));
    leg.request(Caller, "INVITE", "", OFFER);
    for wait in [500, 1000, 2000, 4000, 8000, 16_000] {
        leg.wait(wait).again();
    }
    one(leg)
}

/// No call at all but what surrounds one.
fn registrations(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").pick_up(1000);
    let mut around = Leg::new(&format!("{name}r"), at, phone(name, 0), party(PBX, "registrar"));
    around.request(Caller, "REGISTER", "", "").wait(9).answer(Caller, "401 Unauthorized", "REGISTER", "");
    around.exchange(Caller, "REGISTER", "Authorization: Digest x", "").exchange(Callee, "OPTIONS", "", "");
    around
        .exchange(Caller, "PUBLISH", "Event: presence", "<presence/>")
        .exchange(Caller, "MESSAGE", "", "hallo");
    leg.messages.extend(around.messages);
    hang_up(&mut leg, dice);
    one(leg)
}

/// The CANCEL crosses the 200, so the caller hangs up at once.
fn late_200(name: &str, at: u64, dice: &mut Dice) -> Made {
    let mut leg = inbound(name, at, dice);
    leg.ring("").wait(dice.below(20_000)).cancel().pick_up(2).wait(5).bye(Caller);
    one(leg)
}
