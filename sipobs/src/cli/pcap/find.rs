//! Which of the verdicts are shown. All that was captured is judged, whatever is asked for.

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValue, TypedValueParser};
use ipnet::IpNet;
use sipobs::export::{Report, has_failed};
use sipobs::privacy::dialled;
use sipobs::record::{Attempt, Fault, LegRole, Outcome, Output, Parties};
use sipobs::timestamp::Timestamp;

use super::write::Wanted;
use crate::cli::zone::Moment;

/// What is asked for: of each option one value must fit, and all options together.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which to show (everything is judged)")]
pub(super) struct Find {
    /// One verdict or call, with its whole ladder: by #17, id (or how that begins) or Call-ID as they are printed
    #[arg(long, value_name = "#N|ID|CALL-ID", value_parser = NonEmptyStringValueParser::new())]
    call: Option<String>,
    /// A party's number, or its last digits, however it is written (masked or not)
    #[arg(long, value_name = "NUMBER")]
    number: Vec<Number>,
    /// Call-ID of any leg, or a part of it
    #[arg(long, value_name = "CALL-ID", value_parser = NonEmptyStringValueParser::new())]
    call_id: Vec<String>,
    /// An address, or a network, that took part
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    ip: Vec<IpNet>,
    /// Not over before then: `2026-11-28 14:30`, `14:30`, `2026-11-28T14:30:05Z`; local time unless it has an offset
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Begun before then
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// What became of it
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',', value_parser = outcome(), hide_possible_values = true)]
    outcome: Vec<Outcome>,
    /// Who would have to change something
    #[arg(long, value_name = "FAULT", value_delimiter = ',', value_parser = fault(), hide_possible_values = true)]
    fault: Vec<Fault>,
    /// The peer's name in the configuration, or other
    #[arg(long, value_name = "TRUNK", value_delimiter = ',')]
    trunk: Vec<String>,
    /// Transfers that failed, or whose outcome is not known
    #[arg(long)]
    failed: bool,
    /// What is found is to be written, too.
    #[arg(skip)]
    pub(super) writes: bool,
    /// A report is made, which tells the whole call of whatever it tells in full.
    #[arg(skip)]
    pub(super) for_report: bool,
    /// Whatever is shown may be opened, and written.
    #[arg(skip)]
    pub(super) for_view: bool,
}

/// A number, or a user's name.
#[derive(Clone, Debug)]
pub(super) struct Number {
    text: String,
    digits: Option<String>,
}

/// What is to be known of an output before it is masked.
#[derive(Clone, Debug, Default)]
pub(super) struct Unmasked {
    number: bool,
    call_id: bool,
    call: bool,
    /// Of the one call that is asked for.
    pub(super) whole: Option<Whole>,
    /// What is to be written of it.
    pub(super) wanted: Option<Wanted>,
    /// Everyone who takes part, where what is shown may be opened.
    #[cfg_attr(
        not(any(feature = "mcp", feature = "view")),
        expect(dead_code, reason = "only a list is looked through")
    )]
    pub(super) users: Parties,
}

/// What it takes to find all messages of a call.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) legs: Vec<(String, LegRole)>,
    /// The frames that a verdict rests on, and which leg's messages they carry.
    pub(super) evidence: Vec<(u64, LegRole)>,
    pub(super) parties: Parties,
}

impl Find {
    /// The same, for a list: whatever it shows may be opened, and written.
    #[cfg(any(feature = "mcp", feature = "view"))]
    pub(super) fn for_list(&self) -> Self {
        Self { writes: true, for_view: true, ..self.clone() }
    }

    /// Whether anything is asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.call.is_some()
            || self.failed
            || !self.number.is_empty()
            || !self.call_id.is_empty()
            || !self.ip.is_empty()
            || self.since.is_some()
            || self.until.is_some()
            || !self.outcome.is_empty()
            || !self.fault.is_empty()
            || !self.trunk.is_empty()
    }

    /// Whether one call is asked for, with all that belongs to it.
    pub(super) fn is_of_one(&self) -> bool {
        self.call.is_some()
    }

    /// What was asked for by its name, where nothing has it: then nothing that was asked for is there.
    pub(super) fn missing(&self) -> Option<&'static str> {
        if self.call.is_some() {
            Some("--call: no verdict and no call has this number, id or Call-ID")
        } else if !self.number.is_empty() {
            Some("--number: no transfer and no call of this number is among what was asked for")
        } else if !self.call_id.is_empty() {
            Some("--call-id: no transfer and no call with this Call-ID is among what was asked for")
        } else {
            None
        }
    }

    /// Looks at an output before it is masked.
    pub(super) fn look(&self, output: &Output) -> Unmasked {
        let is_whole = self.call.is_some() || self.for_view || (self.for_report && Report::is_told(output));
        let wanted = self.writes.then(|| Wanted::of(output, self.is_asked() || self.for_view)).flatten();
        let users = if self.for_view { users(output).collect() } else { Parties::NONE };
        if !self.is_asked() {
            let whole = is_whole.then(|| Whole::of(output)).flatten();
            return Unmasked { whole, wanted, users, ..Unmasked::default() };
        }
        let legs = call_ids(output);
        Unmasked {
            number: self.number.is_empty() || self.number.iter().any(|number| number.is_in(output)),
            call_id: self.is_named(&legs),
            call: self.call.as_ref().is_some_and(|call| legs.contains(&call.as_str())),
            whole: is_whole.then(|| Whole::of(output)).flatten(),
            wanted,
            users,
        }
    }

    /// Whether an output, masked by now, is shown; the capture began at `start`.
    pub(super) fn shows(&self, output: &Output, unmasked: &Unmasked, start: Timestamp) -> bool {
        let Some((begun, over)) = times(output) else { return !self.is_asked() };
        let since = self.since.map(|since| since.of_capture(start));
        let until = self.until.map(|until| until.of_capture(start));
        (unmasked.number || self.number.is_empty())
            && (unmasked.call_id || self.is_named(&call_ids(output)))
            && since.is_none_or(|since| over >= since)
            && until.is_none_or(|until| begun < until)
            && (self.trunk.is_empty() || self.trunk.iter().any(|name| name == trunk(output)))
            && (self.ip.is_empty() || hosts(output).any(|host| self.ip.iter().any(|net| net.contains(&host))))
            && self.judges(output)
            && self.call.as_ref().is_none_or(|call| unmasked.call || is_called(output, call))
    }

    fn is_named(&self, legs: &[&str]) -> bool {
        let is_in = |part: &String| legs.iter().any(|leg| leg.contains(part.as_str()));
        self.call_id.is_empty() || self.call_id.iter().any(is_in)
    }

    /// What is asked of verdicts alone.
    fn judges(&self, output: &Output) -> bool {
        let Output::Transfer(attempt) = output else {
            return self.outcome.is_empty() && self.fault.is_empty() && !self.failed;
        };
        (self.outcome.is_empty() || self.outcome.contains(&attempt.outcome))
            && (self.fault.is_empty() || self.fault.contains(&attempt.fault))
            && (!self.failed || has_failed(attempt))
    }
}

impl Whole {
    fn of(output: &Output) -> Option<Self> {
        match output {
            Output::Transfer(attempt) => {
                let target = attempt.target_call_id.iter().map(|id| (id.clone(), LegRole::Target));
                // Who follows a redirection stays in the same call.
                let call = attempt.call_id.iter().map(|id| (id.clone(), LegRole::Call));
                Some(Self {
                    legs: target.chain(call).collect(),
                    evidence: attempt.messages.iter().map(|line| (line.frame, line.leg)).collect(),
                    parties: attempt.parties.clone(),
                })
            }
            Output::Call(call) => Some(Self {
                legs: vec![(call.call_id.clone(), LegRole::Call)],
                evidence: vec![],
                parties: call.parties.clone(),
            }),
            Output::Notice(_) | Output::Alert(_) => None,
        }
    }
}

impl std::str::FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As it is printed, so that it can be copied.
        let text = text.trim().trim_start_matches("***");
        if text.is_empty() {
            return Err("a number, or the end of one, is wanted".to_owned());
        }
        Ok(Self { text: text.to_owned(), digits: dialled(text) })
    }
}

impl Number {
    fn is_in(&self, output: &Output) -> bool {
        users(output).any(|user| self.is(user))
    }

    /// Whether a user is this one: one's digits end in the other's, but for what is dialled before a number.
    pub(super) fn is(&self, user: &str) -> bool {
        let Some(wanted) = &self.digits else { return user.eq_ignore_ascii_case(&self.text) };
        let Some(digits) = dialled(user) else { return false };
        let bare = |digits: &str| digits.trim_start_matches('0').to_owned();
        let (wanted_bare, bare) = (bare(wanted), bare(&digits));
        digits.ends_with(wanted.as_str())
            || (wanted_bare.len() >= LONG && digits.ends_with(&wanted_bare))
            || (bare.len() >= LONG && wanted.ends_with(&bare))
    }
}

/// Digits of a number that is more than an extension: it may be written with or without what is dialled before it.
const LONG: usize = 7;

/// Everyone who takes part.
fn users(output: &Output) -> impl Iterator<Item = &str> {
    let (parties, uris) = match output {
        Output::Transfer(attempt) => {
            let uris = [&attempt.transferor, &attempt.transferee, &attempt.target];
            (&attempt.parties, uris.map(Option::as_deref))
        }
        Output::Call(call) => (&call.parties, [None; 3]),
        Output::Alert(alert) => (&alert.parties, [None; 3]),
        Output::Notice(notice) => (&notice.parties, [None; 3]),
    };
    parties.iter().chain(uris.into_iter().flatten().map(user))
}

/// The user of a URI.
fn user(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    rest.split_once('@').map_or(rest, |(user, _)| user)
}

fn network(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse().map(|ip: std::net::IpAddr| ip.into()));
    parsed.map_err(|_| {
        format!("`{text}` is no address and no network: 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32 is wanted")
    })
}

fn outcome() -> impl TypedValueParser<Value = Outcome> {
    word(Outcome::ALL.iter().map(|word| word.as_str()))
}

fn fault() -> impl TypedValueParser<Value = Fault> {
    word(Fault::ALL.iter().map(|word| word.as_str()))
}

/// One of the words of the output.
fn word<T>(words: impl Iterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr + Clone + Send + Sync + 'static,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let words: Vec<_> = words.map(PossibleValue::new).collect();
    clap::builder::PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

pub(super) fn call_ids(output: &Output) -> Vec<&str> {
    match output {
        Output::Transfer(attempt) => attempt_call_ids(attempt).collect(),
        Output::Call(call) => vec![&call.call_id],
        Output::Alert(alert) => alert.call_id.as_deref().into_iter().collect(),
        Output::Notice(notice) => notice.call_id.as_deref().into_iter().collect(),
    }
}

fn attempt_call_ids(attempt: &Attempt) -> impl Iterator<Item = &str> {
    let candidates = attempt.link.iter().flat_map(|link| &link.candidates).map(String::as_str);
    attempt.call_id.as_deref().into_iter().chain(attempt.target_call_id.as_deref()).chain(candidates)
}

/// When it began, and when it was over. Early words are never shown where something is asked for.
fn times(output: &Output) -> Option<(Timestamp, Timestamp)> {
    match output {
        Output::Notice(_) => None,
        Output::Transfer(attempt) => Some((attempt.started, attempt.ended)),
        Output::Call(call) => Some((call.started, call.ended)),
        Output::Alert(alert) => Some((alert.time, alert.time)),
    }
}

fn trunk(output: &Output) -> &str {
    match output {
        Output::Notice(_) => "",
        Output::Transfer(attempt) => &attempt.trunk,
        Output::Call(call) => &call.trunk,
        Output::Alert(alert) => &alert.trunk,
    }
}

fn hosts(output: &Output) -> Box<dyn Iterator<Item = std::net::IpAddr> + '_> {
    match output {
        Output::Transfer(attempt) => {
            Box::new(attempt.messages.iter().flat_map(|line| [line.from.ip(), line.to.ip()]))
        }
        Output::Call(call) => Box::new(call.hosts.into_iter()),
        Output::Notice(_) | Output::Alert(_) => Box::new(std::iter::empty()),
    }
}

/// Whether `name` is an output's number, its id or a Call-ID of it as it is printed.
pub(super) fn is_called(output: &Output, name: &str) -> bool {
    let of_attempt = match output {
        Output::Transfer(attempt) => {
            let seq = name.strip_prefix('#').unwrap_or(name).parse().ok();
            attempt.id == name || begins(&attempt.id, name) || (seq.is_some() && attempt.seq == seq)
        }
        Output::Notice(_) | Output::Call(_) | Output::Alert(_) => false,
    };
    of_attempt || call_ids(output).contains(&name)
}

/// Whether an id begins so: with enough of it that it is no number of a verdict.
fn begins(id: &str, with: &str) -> bool {
    let enough = if with.bytes().all(|byte| byte.is_ascii_digit()) { 8 } else { 4 };
    with.len() >= enough && id.starts_with(with)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_however_it_is_written() {
        let is = |wanted: &str, user: &str| wanted.parse::<Number>().unwrap().is(user);
        for (wanted, user) in [
            ("+49 (30) 123-4567", "+49301234567"),
            ("030 1234567", "+49301234567"),
            ("+49301234567", "0301234567"),
            ("0049301234567", "+49301234567"),
            ("4567", "+49301234567"),
            ("***4567", "+49301234567"),
            ("+15550100", "%2B1-555-0100;phone-context=example.com"),
            ("1007", "1007"),
            ("Alice", "alice"),
        ] {
            assert!(is(wanted, user), "{wanted} {user}");
        }
        for (wanted, user) in
            [("4567", "45670"), ("0301234567", "0401234567"), ("1007", "alice"), ("bob", "alice")]
        {
            assert!(!is(wanted, user), "{wanted} {user}");
        }
    }
}
