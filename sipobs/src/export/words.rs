//! The verdicts in plain language.

use strum::VariantArray;

use crate::record::{Attempt, Evidence, LadderLine, LinkMethod, Method, Outcome, Quality, Seen};
use crate::sip;

use super::WholeCall;
use super::style::clean;

/// How a verdict strikes its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub(super) enum Tone {
    Good,
    Bad,
    Doubt,
    Neutral,
}

/// Nobody may be told of a success that may be no transfer.
pub(super) fn tone(attempt: &Attempt) -> Tone {
    match tone_of(attempt.outcome) {
        Tone::Good if is_ambiguous(attempt) => Tone::Doubt,
        tone => tone,
    }
}

fn is_ambiguous(attempt: &Attempt) -> bool {
    attempt.link.as_ref().is_some_and(|link| link.method == LinkMethod::Ambiguous)
}

pub(super) const fn tone_of(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Succeeded => Tone::Good,
        Outcome::Superseded | Outcome::Redirected => Tone::Neutral,
        Outcome::Unknown | Outcome::NotifyTimeout => Tone::Doubt,
        Outcome::Busy
        | Outcome::NoAnswer
        | Outcome::Declined
        | Outcome::Forbidden
        | Outcome::NotFound
        | Outcome::Media
        | Outcome::NetworkFailure
        | Outcome::ReferRefused
        | Outcome::ReferUnanswered
        | Outcome::AuthFailed
        | Outcome::DialogGone
        | Outcome::Abandoned => Tone::Bad,
    }
}

/// Whether an attempt failed, or nobody knows.
pub fn has_failed(attempt: &Attempt) -> bool {
    matches!(tone(attempt), Tone::Bad | Tone::Doubt)
}

/// The verdict in one sentence.
pub(super) fn headline(attempt: &Attempt) -> String {
    // Its parameters say how to route to it, not who it is.
    let bare = |uri: &str| clean(uri.split(';').next().unwrap_or(uri));
    let target = attempt.target.as_deref().map_or_else(|| "the target".to_owned(), bare);
    let answer = answer(attempt);
    let failed = |why: &str| format!("Transfer to {target} failed: {why}{answer}");
    match attempt.outcome {
        Outcome::Succeeded => {
            let done = if is_ambiguous(attempt) { "Perhaps transferred" } else { "Transferred" };
            match attempt.answer_ms {
                Some(0) => format!("{done} to {target}{answer}, answered at once"),
                Some(ms) => format!("{done} to {target}{answer}, answered after {}", seconds(ms)),
                None => format!("{done} to {target}{answer}"),
            }
        }
        Outcome::Busy => failed("busy"),
        Outcome::NoAnswer => failed("nobody answered"),
        Outcome::Declined => failed("declined"),
        Outcome::Forbidden => failed("the far side forbids this call"),
        Outcome::NotFound => failed("no such number"),
        Outcome::Media => failed("no media both sides can use"),
        Outcome::NetworkFailure => failed("the network could not place the call"),
        Outcome::ReferRefused => failed("the REFER was refused"),
        Outcome::ReferUnanswered => failed("the REFER was never answered"),
        Outcome::AuthFailed => failed("credentials were asked for, and none that served came"),
        Outcome::DialogGone => failed("the call it named no longer existed"),
        Outcome::Abandoned => failed("given up before it was decided"),
        Outcome::Superseded => format!("Transfer to {target} was replaced by a newer one"),
        Outcome::NotifyTimeout => {
            format!("Transfer to {target} was accepted{answer}, its outcome never told")
        }
        Outcome::Redirected => {
            let followed = match attempt.followed_outcome {
                None => "not followed here".to_owned(),
                Some(Outcome::Succeeded) => "where it was answered".to_owned(),
                Some(outcome) => format!("where it came to {}", outcome.as_str().replace('_', " ")),
            };
            format!("Call redirected to {target}{answer}, {followed}")
        }
        Outcome::Unknown => match &attempt.unknown_because {
            Some(why) => format!("What became of the transfer to {target} is unknown: {}", clean(why)),
            None => format!("What became of the transfer to {target} is unknown{answer}"),
        },
    }
}

/// Who was to be handed to whom, and by whom.
pub(super) fn who(attempt: &Attempt) -> String {
    let name = |uri: &Option<String>| uri.as_deref().map_or_else(|| "somebody".to_owned(), user);
    let by = attempt.transferor.as_deref().map(|uri| format!(", by {}", user(uri))).unwrap_or_default();
    format!("{} → {}{by}", name(&attempt.transferee), name(&attempt.target))
}

/// Who calls whom, by a call's first INVITE.
pub(super) fn ends_of(whole: &WholeCall) -> Option<String> {
    let is_invite = |line: &LadderLine| line.line.starts_with("INVITE ");
    let at = whole.lines.iter().position(is_invite)?;
    let from = whole.headers.get(at)?.iter().find(|header| header.name == sip::Name::From)?;
    let uri = from.value.split_once('<').map_or(&*from.value, |(_, uri)| uri);
    let from = user(uri.split(['>', ';']).next().unwrap_or(uri));
    let to = user(whole.lines.get(at)?.line.split(' ').nth(1)?);
    Some(format!("{from} → {to}"))
}

/// Who was to be called, as [`who`] has it.
pub(super) fn target(attempt: &Attempt) -> String {
    attempt.target.as_deref().map_or_else(|| "somebody".to_owned(), user)
}

/// The user of a URI, else its host.
fn user(uri: &str) -> String {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let user = rest.split_once('@').map_or(rest, |(user, _)| user);
    clean(user.split([';', '?']).next().unwrap_or(user))
}

/// The deciding answer in parentheses, or nothing.
fn answer(attempt: &Attempt) -> String {
    match (attempt.status, attempt.reason.as_deref()) {
        (Some(status), Some(reason)) if !reason.is_empty() => format!(" ({status} {})", clean(reason)),
        (Some(status), _) => format!(" ({status})"),
        (None, _) => String::new(),
    }
}

pub(super) const fn method(method: Method) -> &'static str {
    match method {
        Method::Refer => "REFER",
        Method::Invite => "second leg",
        Method::Redirect => "redirect",
        Method::Also => "BYE/Also",
        Method::ReferBye => "REFER-to-BYE",
    }
}

pub(super) const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Busy => "busy",
        Outcome::NoAnswer => "no answer",
        Outcome::Declined => "declined",
        Outcome::Forbidden => "forbidden",
        Outcome::NotFound => "not found",
        Outcome::Media => "no common media",
        Outcome::NetworkFailure => "network failure",
        Outcome::ReferRefused => "REFER refused",
        Outcome::ReferUnanswered => "REFER unanswered",
        Outcome::AuthFailed => "authentication failed",
        Outcome::DialogGone => "dialog gone",
        Outcome::Abandoned => "abandoned",
        Outcome::Superseded => "superseded",
        Outcome::NotifyTimeout => "outcome never told",
        Outcome::Redirected => "redirected",
        Outcome::Unknown => "unknown",
    }
}

pub(super) const fn evidence(attempt: &Attempt) -> &'static str {
    match attempt.evidence {
        Evidence::Confirmed => "confirmed on the wire",
        Evidence::Reported => "as the transferee reported",
        Evidence::ReportedOptimistic => "reported so fast that it may mean nothing",
        Evidence::Inferred if matches!(tone_of(attempt.outcome), Tone::Doubt) => {
            "no message tells the outcome"
        }
        Evidence::Inferred => "inferred: no message says so itself",
    }
}

/// What ties a target leg to its call.
pub(super) const fn tie(method: LinkMethod) -> &'static str {
    match method {
        LinkMethod::ReferTo => "by the number in Refer-To",
        LinkMethod::ReferredBy => "by Referred-By",
        LinkMethod::Replaces => "by Replaces",
        LinkMethod::Join => "by Join",
        LinkMethod::TargetDialog => "by Target-Dialog",
        LinkMethod::SessionId => "by Session-ID",
        LinkMethod::Header => "by a shared header",
        LinkMethod::Diverted => "by the number it was diverted from",
        LinkMethod::Caller => "by the caller's number",
        LinkMethod::HostNumber => "by host and number",
        LinkMethod::HostNumberTime => "by host, number and time",
        LinkMethod::Ambiguous => "to no one call",
    }
}

/// A cause and the word before it, the `at`-th of an attempt: a cause that hedges by itself is not hedged twice.
pub(super) fn cause(at: usize, cause: &str) -> (&'static str, String) {
    let hedges: &[(&str, &str)] = match at {
        0 => &[("Likely ", "likely"), ("Perhaps ", "perhaps")],
        _ => &[("Or ", "or"), ("Also: ", "also")],
    };
    for (hedge, word) in hedges {
        if let Some(rest) = cause.strip_prefix(hedge) {
            let mut letters = rest.chars();
            let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
            return (word, first + letters.as_str());
        }
    }
    (if at == 0 { "likely" } else { "or" }, cause.to_owned())
}

/// What the capture could not see of the attempt, in one sentence; nothing if all was there.
pub(super) fn blind_spots(attempt: &Attempt) -> Option<String> {
    let mut spots = vec![];
    match attempt.visibility.call {
        Seen::Both => {}
        Seen::OneWay => spots.push("only one direction of the call is in this capture".to_owned()),
        Seen::None => spots.push("the call itself is not in this capture".to_owned()),
    }
    match attempt.visibility.target {
        Seen::Both => {}
        Seen::OneWay => spots.push("only one direction of the leg to the target".to_owned()),
        // A REFER that nobody took up has no such leg: what the REFER itself was answered is confirmed.
        Seen::None if attempt.evidence == Evidence::Confirmed => {}
        Seen::None if matches!(attempt.outcome, Outcome::ReferRefused | Outcome::ReferUnanswered) => {}
        Seen::None => spots.push("the leg to the target is not in this capture".to_owned()),
    }
    let Quality {
        ring_lost,
        tcp_gaps,
        missing_fragments,
        evicted_calls,
        clock_steps,
        restarts,
        refer_unseen,
        midcall,
        hearsay,
    } = attempt.quality;
    if refer_unseen {
        spots.push("the REFER itself is not in this capture".to_owned());
    }
    if midcall {
        spots.push("the call was up before the capture began".to_owned());
    }
    if hearsay {
        spots.push("an outcome was told by somebody outside the call, who may have made it up".to_owned());
    }
    for (count, what) in [
        (ring_lost, "frames lost in the kernel's ring"),
        (tcp_gaps, "gaps in its TCP streams"),
        (missing_fragments, "datagrams short of fragments"),
        (evicted_calls, "calls between its hosts let go of for want of memory"),
        (restarts, "times that nobody watched, as sipobs was restarted"),
        (clock_steps, "leaps of the capture's clock, which no outcome rests on"),
    ] {
        if count > 0 {
            spots.push(format!("{count} {what}"));
        }
    }
    (!spots.is_empty()).then(|| spots.join("; "))
}

/// `ms` as a person says it.
pub(super) fn seconds(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// A ladder's start line in few words, and the status in it if it has one. A NOTIFY's sipfrag stands behind
/// an arrow and is what matters.
pub(super) fn start_line(line: &str) -> (String, Option<u16>) {
    let (first, sipfrag) = line.split_once(" → ").or_else(|| line.split_once(" -> ")).unwrap_or((line, ""));
    let (mut label, mut status) = match first.strip_prefix("SIP/2.0 ") {
        Some(answer) => (clean(answer), leading_status(answer)),
        None => {
            let mut words = first.split(' ');
            let method = words.next().unwrap_or(first);
            match words.next() {
                Some(uri) if sip::Method::of(method.as_bytes()) == sip::Method::Invite => {
                    // Whom it calls; at which host, the arrow says.
                    let user = uri.split(['@', ';']).next().unwrap_or(uri);
                    (format!("{method} {}", clean(user.split_once(':').map_or(user, |(_, user)| user))), None)
                }
                _ => (clean(method), None),
            }
        }
    };
    if !sipfrag.is_empty() {
        let told = sipfrag.strip_prefix("SIP/2.0 ").unwrap_or(sipfrag);
        status = leading_status(told);
        label = format!("{label}: {}", clean(told));
    }
    (label, status)
}

fn leading_status(text: &str) -> Option<u16> {
    text.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_lines_in_few_words() {
        assert_eq!(start_line("SIP/2.0 486 Busy Here"), ("486 Busy Here".into(), Some(486)));
        assert_eq!(start_line("REFER sip:a@b;x SIP/2.0"), ("REFER".into(), None));
        assert_eq!(start_line("INVITE sip:a@b;x SIP/2.0"), ("INVITE a".into(), None));
        assert_eq!(
            start_line("NOTIFY sip:a@b SIP/2.0 → SIP/2.0 200 OK"),
            ("NOTIFY: 200 OK".into(), Some(200))
        );
    }

    #[test]
    fn nothing_is_hedged_twice() {
        assert_eq!(cause(0, "Likely the caller hung up."), ("likely", "The caller hung up.".into()));
        assert_eq!(cause(0, "Perhaps the caller hung up."), ("perhaps", "The caller hung up.".into()));
        assert_eq!(cause(0, "The target is busy."), ("likely", "The target is busy.".into()));
        assert_eq!(cause(1, "Or the trunk left."), ("or", "The trunk left.".into()));
        assert_eq!(cause(2, "Also: it rained."), ("also", "It rained.".into()));
        assert_eq!(cause(1, "Likely not busy."), ("or", "Likely not busy.".into()));
    }

    #[test]
    fn times_as_said() {
        assert_eq!(
            [0, 999, 1000, 31_567, 61_000].map(seconds),
            ["0 ms", "999 ms", "1.0 s", "31.5 s", "1 min 1 s"]
        );
    }
}
