//! The view for a person: a verdict in one sentence for each attempt; for a failed one its ladder and what
//! to check; totals at the end.

use std::io::{self, Write};

use anstyle::Style;
use unicode_width::UnicodeWidthStr as _;

use super::style::{BAD, BOLD, DIM, DOUBT, GOOD, Look, PLAIN, clean, grouped};
use super::words::{self, Tone};
use super::{Sink, Summary, WholeCall, ladder};
use crate::engine::Surroundings;
use crate::record::{Alert, Attempt, Call, Method, Outcome, Output, ReferAbsent, Side};
use crate::timestamp::Timestamp;

/// Calls without any transfer that are shown one by one; the others are only counted.
const MOST_FACTS: u32 = 10;

/// Notes on files that overlap; the others are only counted.
const MOST_NOTES: usize = 8;

/// Writes outputs for a person.
#[derive(Debug)]
pub struct Terminal<W: Write> {
    out: W,
    look: Look,
    ladders: bool,
    asked: bool,
    whole: bool,
    facts: u32,
}

impl<W: Write> Terminal<W> {
    /// Writes to `out`; with `ladders`, successful attempts show theirs too.
    pub fn new(out: W, look: Look, ladders: bool) -> Self {
        Self { out, look, ladders, asked: false, whole: false, facts: 0 }
    }

    /// Attempts have no ladder of their own: the whole call is drawn behind them.
    #[must_use]
    pub fn whole(mut self, whole: bool) -> Self {
        self.whole = whole;
        self
    }

    /// Shows every call that it is given: somebody asked for these.
    #[must_use]
    pub fn asked(mut self, asked: bool) -> Self {
        self.asked = asked;
        self
    }
}

impl<W: Write> Sink for Terminal<W> {
    fn output(&mut self, output: &Output) -> io::Result<()> {
        let text = match output {
            Output::Notice(_) => return Ok(()),
            Output::Transfer(attempt) => verdict(self.look, attempt, self.ladders, !self.whole),
            Output::Call(call) => {
                let fact = matches!(call.refer_absent, ReferAbsent::Fact { .. });
                self.facts += u32::from(fact);
                let is_ordinary = match call.refer_absent {
                    // What a transfer did to a call is told with the transfer, unless all is to be seen.
                    ReferAbsent::No => !self.asked || (call.in_transfer && !self.ladders),
                    ReferAbsent::Fact { .. } => !self.asked && self.facts > MOST_FACTS,
                    ReferAbsent::Suspected { .. } | ReferAbsent::MethodSwitched => false,
                };
                if is_ordinary {
                    return Ok(());
                }
                ended_call(self.look, call)
            }
            Output::Alert(alert) => raised(self.look, alert),
        };
        self.out.write_all(text.as_bytes())
    }

    fn open_call(&mut self, call: &Call) -> io::Result<()> {
        // Of many their number is told, with the totals.
        if !self.asked {
            return Ok(());
        }
        self.out.write_all(still_up(self.look, call).as_bytes())
    }

    fn whole_call(&mut self, call: &WholeCall) -> io::Result<()> {
        self.out.write_all(call.draw(self.look).as_bytes())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.out.write_all(totals(self.look, summary).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// How a verdict strikes its reader, at a glance.
pub(super) fn sign(attempt: &Attempt) -> (&'static str, Style) {
    match words::tone(attempt) {
        Tone::Good => ("✓", GOOD),
        Tone::Bad => ("✗", BAD),
        Tone::Doubt => ("?", DOUBT),
        Tone::Neutral => ("↪", BOLD),
    }
}

fn verdict(look: Look, attempt: &Attempt, ladders: bool, own_ladder: bool) -> String {
    let (mark, style) = sign(attempt);
    let mut out = String::new();
    look.paint(&mut out, style, mark);
    out.push(' ');
    look.paragraph(&mut out, style.bold(), 2, &words::headline(attempt));
    about(look, attempt, &mut out);

    let failed = words::has_failed(attempt);
    if own_ladder && (failed || ladders) {
        out.push('\n');
        out.push_str(&ladder::draw(look, &attempt.messages));
    }
    if failed {
        out.push('\n');
        for (at, candidate) in attempt.diagnosis.iter().enumerate() {
            let (word, cause) = words::cause(at, &candidate.cause);
            point(look, &mut out, word, BOLD, &cause);
            point(look, &mut out, "because", PLAIN, &candidate.because);
            point(look, &mut out, "check", PLAIN, &candidate.check);
        }
        if let Some(spots) = words::blind_spots(attempt) {
            point(look, &mut out, "unseen", PLAIN, &spots);
        }
    }
    out.push('\n');
    out
}

/// When, how, how fast, and on what evidence.
pub(super) fn facts(look: Look, attempt: &Attempt) -> String {
    let kind = match attempt.kind {
        // Nobody is consulted before a redirection.
        _ if attempt.method == Method::Redirect => "",
        crate::record::Kind::Blind => ", blind",
        crate::record::Kind::Attended => ", attended",
    };
    let took = match attempt.quality.refer_unseen {
        true => "its REFER was not captured".to_owned(),
        false => format!("took {}", words::seconds(attempt.duration_ms)),
    };
    format!(
        "{} · {}{kind} · {took} · {}",
        look.moment(attempt.started),
        words::method(attempt.method),
        words::evidence(attempt),
    )
}

/// The facts, and in which call.
fn about(look: Look, attempt: &Attempt, out: &mut String) {
    let seq = attempt.seq.map(|seq| format!("#{seq} · ")).unwrap_or_default();
    out.push_str("  ");
    look.paragraph(out, PLAIN, 2, &format!("{seq}{} · {}", attempt.id, words::who(attempt)));
    out.push_str("  ");
    look.paragraph(out, DIM, 2, &facts(look, attempt));

    out.push_str("  ");
    look.paragraph(out, DIM, 2, &in_which_call(attempt));
}

/// The Call-IDs, what ties them, and whose trunk it is.
pub(super) fn in_which_call(attempt: &Attempt) -> String {
    let mut call = match &attempt.call_id {
        Some(call_id) => format!("call (a) {}", clean(call_id)),
        None => "call (a) not known".to_owned(),
    };
    // Who follows a redirection stays in the same call.
    if let Some(target) = attempt.target_call_id.as_ref().filter(|id| attempt.call_id.as_ref() != Some(id)) {
        call.push_str(&format!(", leg to the target (b) {}", clean(target)));
    }
    if let Some(link) = &attempt.link {
        call.push_str(&format!(" (tied {}, confidence {:.2})", words::tie(link.method), link.confidence));
        for (at, candidate) in link.candidates.iter().enumerate() {
            call.push_str(if at == 0 { "; could belong to " } else { " or " });
            call.push_str(&clean(candidate));
        }
    }
    if &*attempt.trunk != "other" {
        call.push_str(&format!(" · trunk {}", clean(&attempt.trunk)));
    }
    call
}

fn point(look: Look, out: &mut String, word: &str, style: Style, text: &str) {
    if text.is_empty() {
        return;
    }
    out.push_str("  ");
    look.paint(out, DIM, &format!("{word:<9}"));
    look.paragraph(out, style, 11, &clean(text));
}

fn ended_call(look: Look, call: &Call) -> String {
    let (mark, style) = match &call.refer_absent {
        ReferAbsent::No | ReferAbsent::Fact { .. } => ("·", PLAIN),
        ReferAbsent::Suspected { .. } | ReferAbsent::MethodSwitched => ("!", DOUBT),
    };
    told(look, (mark, style), &call_in_a_sentence(call), call.ended, call)
}

/// A call that has not ended.
fn still_up(look: Look, call: &Call) -> String {
    let up = words::seconds(call.ended.millis_since(call.started));
    told(
        look,
        ("·", PLAIN),
        &format!("A call that is still up at the end, {up} after it began"),
        call.started,
        call,
    )
}

fn told(look: Look, (mark, style): (&str, Style), sentence: &str, time: Timestamp, call: &Call) -> String {
    let mut out = String::new();
    look.paint(&mut out, style, mark);
    out.push(' ');
    look.paragraph(&mut out, style, 2, sentence);
    let facts = format!("{} · call {}", look.moment(time), clean(&call.call_id));
    out.push_str("  ");
    look.paragraph(&mut out, DIM, 2, &facts);
    out.push('\n');
    out
}

/// What is to be said of a call that ended.
pub(super) fn call_in_a_sentence(call: &Call) -> String {
    let by = match call.ended_by {
        Some(Side::Caller) => "the caller's BYE",
        Some(Side::Callee) => "the callee's BYE",
        None => "a failure answer",
    };
    let lasted = words::seconds(call.ended.millis_since(call.answered.unwrap_or(call.started)));
    match &call.refer_absent {
        ReferAbsent::No => ordinary(call, &lasted, by),
        ReferAbsent::Fact { invite_unknown } => {
            let unseen = if *invite_unknown { " that could be seen from here" } else { "" };
            format!("No transfer{unseen} in a call of {lasted}, ended by {by}")
        }
        ReferAbsent::Suspected { score, signals } => {
            let signals: Vec<_> = signals
                .iter()
                .map(|s| format!("{} {:+}", s.name.as_str().replace('_', " "), s.weight))
                .collect();
            format!(
                "A transfer seems to have been wanted, but no REFER was sent: call of {lasted}, ended by {by} \
                 (score {score}: {})",
                signals.join(", ")
            )
        }
        ReferAbsent::MethodSwitched => format!(
            "The transfer method has changed: a second leg was dialled where REFER used to be \
             (call of {lasted}, ended by {by})"
        ),
    }
}

fn ordinary(call: &Call, lasted: &str, by: &str) -> String {
    match (call.answered, call.status) {
        (Some(_), _) => format!("A call of {lasted}, ended by {by}"),
        (None, Some(status)) => format!("A call that was not answered ({status})"),
        (None, None) => "A call that was not answered".to_owned(),
    }
}

fn raised(look: Look, alert: &Alert) -> String {
    let mut out = String::new();
    look.paint(&mut out, BAD.bold(), "!! ");
    look.paragraph(&mut out, BAD.bold(), 3, &clean(&alert.message));
    let numbers: Vec<_> =
        alert.numbers.iter().map(|(name, n)| format!("{} {n}", name.replace('_', " "))).collect();
    out.push_str("   ");
    let facts =
        format!("{} · trunk {} · {}", look.moment(alert.time), clean(&alert.trunk), numbers.join(", "));
    look.paragraph(&mut out, DIM, 3, &facts);
    out.push('\n');
    out
}

fn totals(look: Look, summary: &Summary) -> String {
    let mut out = String::new();
    let attempts: u64 = summary.transfers.values().sum();
    if attempts > 0 {
        table(look, summary, &mut out);
    } else if summary.all_read() {
        look.paint(&mut out, BOLD, "No transfer was seen in this capture.\n");
        look.paragraph(&mut out, PLAIN, 0, &what_was_there(summary));
    } else {
        let said = "Whether there was a transfer cannot be told: not all of the capture could be read.";
        look.paragraph(&mut out, BAD.bold(), 0, said);
    }
    out.push('\n');
    let read = format!(
        "Read {}, {}, {}.",
        counted(summary.packets, "packet"),
        counted(summary.messages, "SIP message"),
        counted(summary.calls, "ended call"),
    );
    look.paragraph(&mut out, PLAIN, 0, &read);
    for file in &summary.files {
        if let Some(error) = &file.error {
            look.paragraph(&mut out, BAD, 0, &clean(&format!("Not all of {} was read: {error}.", file.name)));
        }
    }
    look_at_files(look, summary, &mut out);
    if let Some(shown) = &summary.shown {
        let said = format!("Shown: {} of {}.", grouped(shown.transfers), counted(attempts, "transfer"));
        look.paragraph(&mut out, BOLD, 0, &said);
    }
    if summary.refer_absent > 0 {
        let said = format!(
            "{} of {} s or more without any transfer.",
            counted(summary.refer_absent, "answered call"),
            summary.min_call.as_secs_f64()
        );
        look.paragraph(&mut out, PLAIN, 0, &said);
    }
    if summary.open_calls > 0 {
        let were = if summary.open_calls == 1 { "was" } else { "were" };
        let said = format!("{} {were} still up at the end.", counted(summary.open_calls, "call"));
        look.paragraph(&mut out, PLAIN, 0, &said);
    }
    let not_understood = summary.not_understood.iter().map(|(name, &n)| (&**name, n)).collect::<Vec<_>>();
    let lost = summary.lost.iter().map(|(name, &n)| (*name, n)).collect();
    for (what, counts, style) in [("Not understood", not_understood, DOUBT), ("Lost", lost, BAD)] {
        let named: Vec<_> = counts
            .iter()
            .filter(|&&(_, n)| n > 0)
            .map(|&(name, n)| format!("{} {}", grouped(n), name.replace('_', " ")))
            .collect();
        if named.is_empty() {
            look.paragraph(&mut out, PLAIN, 0, &format!("{what}: nothing."));
        } else {
            look.paragraph(&mut out, style, 0, &format!("{what}: {}.", named.join(", ")));
        }
    }
    if let Some(tls) = &summary.tls {
        let suites: Vec<_> = tls.suites.keys().map(String::as_str).collect();
        let suites = format!("of a version or cipher suite that is not read ({})", suites.join(", "));
        let unread = [
            (tls.no_key, "without a secret that is known"),
            (
                tls.late_key,
                "whose secrets stand behind what they open (--keylog takes them from beside the file)",
            ),
            (tls.cipher_suite, &suites),
            (tls.bytes_missing, "with bytes missing"),
            (tls.record_damaged, "with a record that the secrets do not open"),
        ];
        let named = unread.iter().filter(|(n, _)| *n > 0).map(|(n, why)| format!(", {} {why}", grouped(*n)));
        let said = format!(
            "TLS: {}, {} opened{}.",
            counted(tls.sessions, "connection"),
            grouped(tls.opened),
            named.collect::<String>()
        );
        look.paragraph(&mut out, PLAIN, 0, &said);
    }
    if let Some(web) = &summary.websocket {
        let unread = [
            (web.refused, "refused by the server"),
            (web.extension, "with an extension that is not read"),
            (web.damaged, "with a frame that breaks the rules"),
            (web.bytes_missing, "with bytes missing"),
        ];
        let named = unread.iter().filter(|(n, _)| *n > 0).map(|(n, why)| format!(", {} {why}", grouped(*n)));
        let said = format!(
            "WebSocket for SIP: {}{}.",
            counted(web.connections, "connection"),
            named.collect::<String>()
        );
        look.paragraph(&mut out, PLAIN, 0, &said);
    }
    let mut others: Vec<_> = summary.files.iter().flat_map(|file| file.secrets.keys()).collect();
    others.retain(|kind| **kind != "tls");
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(|kind| kind.replace('_', " ")).collect();
        let said = format!("Secrets that nothing here is opened by: {}.", others.join(", "));
        look.paragraph(&mut out, PLAIN, 0, &said);
    }
    if let Some(since) = summary.evicted_since {
        let said = format!(
            "From {since} on there was not room for every call: transfers may be missing, or told without their \
             calls. More memory helps: [limits] memory."
        );
        look.paragraph(&mut out, BAD, 0, &said);
    }
    out
}

/// Files that are no pieces of one capture one behind the other.
fn look_at_files(look: Look, summary: &Summary, out: &mut String) {
    let mut notes: Vec<String> = Vec::new();
    for file in &summary.files {
        if let Some(same) = &file.same_as {
            notes.push(format!("{} is {same} again, and was read once.", file.name));
        }
        if let (Some(other), Some(ms)) = (&file.overlaps, file.overlap_ms) {
            notes.push(format!(
                "{} begins before {other} ends: they overlap by {} and were read side by side.",
                file.name,
                words::seconds(ms)
            ));
        }
    }
    for note in notes.iter().take(MOST_NOTES) {
        look.paragraph(out, PLAIN, 0, &clean(note));
    }
    if let Some(more) = notes.len().checked_sub(MOST_NOTES).filter(|more| *more > 0) {
        look.paragraph(out, PLAIN, 0, &format!("{more} more notes of this kind are left out."));
    }
}

/// What a capture without a transfer holds, and what to do about it.
pub(super) fn what_was_there(summary: &Summary) -> String {
    const MOST_PORTS: usize = 4;
    let Surroundings { rtp, tls, sip_ports } = &summary.surroundings;
    let mut said = match (summary.messages, summary.calls) {
        (0, _) => "It holds no SIP that could be read.".to_owned(),
        (_, 0) => "No call ended in it.".to_owned(),
        (_, calls) => {
            format!("{} ended in it, {} of them answered.", counted(calls, "call"), grouped(summary.answered))
        }
    };
    let mut ports: Vec<_> = sip_ports.iter().map(|(port, messages)| (*messages, *port)).collect();
    ports.sort_unstable_by(|a, b| b.cmp(a));
    if !ports.is_empty() {
        let listed: Vec<_> = ports.iter().take(MOST_PORTS).map(|(_, port)| port.to_string()).collect();
        let more = if ports.len() > MOST_PORTS { " and others" } else { "" };
        said.push_str(&format!(" SIP was sent to port {}{more}.", listed.join(", ")));
    }
    if *tls > 0 {
        let what_to_do = match &summary.tls {
            None => "may carry SIP: --keylog FILE opens it, if its secrets were logged (docs/tls.md)",
            Some(counts) if counts.sessions == 0 => {
                "can't be opened: no connection's first bytes were captured (docs/tls.md)"
            }
            Some(counts) if counts.opened == 0 => "can't be opened by the secrets at hand (docs/tls.md)",
            Some(_) => "were there; what the secrets open was read",
        };
        said.push_str(&format!(" {} of TLS on port 5061 {what_to_do}.", counted(*tls, "packet")));
    }
    if *rtp > 0 && summary.messages == 0 {
        said.push_str(&format!(
            " {} look like RTP: the signalling of these calls goes another way, or was not captured.",
            counted(*rtp, "packet")
        ));
    }
    if summary.messages == 0 && *tls == 0 && *rtp == 0 {
        said.push_str(
            " Capture where the calls pass: both directions, the port that the trunk uses, and fragments.",
        );
    }
    said
}

/// Outcomes down, methods across; only those that occurred.
fn table(look: Look, summary: &Summary, out: &mut String) {
    let columns: Vec<Method> =
        Method::ALL.iter().copied().filter(|m| summary.by_method.keys().any(|(_, seen)| seen == m)).collect();
    let of = |outcome: Outcome, method: Method| summary.by_method.get(&(outcome, method)).copied();

    let mut head = format!("{:<24}", "Outcome");
    for method in &columns {
        head.push_str(&format!("{:>14}", words::method(*method)));
    }
    look.paint(out, BOLD, &head);
    out.push('\n');
    look.paint(out, DIM, &"─".repeat(head.width()));
    out.push('\n');
    for &outcome in summary.transfers.keys() {
        let style = match words::tone_of(outcome) {
            Tone::Good => GOOD,
            Tone::Bad => BAD,
            Tone::Doubt => DOUBT,
            Tone::Neutral => PLAIN,
        };
        look.paint(out, style, &format!("{:<24}", words::outcome(outcome)));
        for &method in &columns {
            match of(outcome, method) {
                Some(n) => out.push_str(&format!("{:>14}", grouped(n))),
                None => look.paint(out, DIM, &format!("{:>14}", "·")),
            }
        }
        out.push('\n');
    }
}

pub(super) fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples;

    fn shown(outputs: &[Output]) -> String {
        let mut bytes = Vec::new();
        let mut summary = Summary {
            packets: 1204,
            messages: 96,
            min_call: std::time::Duration::from_secs(10),
            ..Summary::default()
        };
        let mut sink = Terminal::new(&mut bytes, Look::default(), false);
        for output in outputs {
            summary.count(output);
            sink.output(output).unwrap();
        }
        sink.summary(&summary).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_busy_refer() {
        insta::assert_snapshot!(shown(&[Output::Transfer(Box::new(samples::busy()))]));
    }

    #[test]
    fn a_refused_second_leg() {
        insta::assert_snapshot!(shown(&[Output::Transfer(Box::new(samples::second_leg()))]));
    }

    #[test]
    fn a_success_is_short() {
        insta::assert_snapshot!(shown(&[Output::Transfer(Box::new(samples::succeeded()))]));
    }

    #[test]
    fn calls_and_alerts() {
        insta::assert_snapshot!(shown(&[samples::call(), samples::alert()]));
    }

    #[test]
    fn ordinary_calls_are_counted_not_listed() {
        let text = shown(&vec![samples::call(); 25]);
        assert_eq!(text.matches("No transfer in a call").count(), MOST_FACTS as usize);
        assert!(text.contains("25 answered calls of 10 s or more without any transfer."), "{text}");
    }
}
