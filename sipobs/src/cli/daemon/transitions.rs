//! What the log tells once: that nothing is heard, that the collector is away and back.

use std::time::{Duration, Instant};

use sipobs::capture::live::{Counters, Hook};

/// The time between two words about one thing, such as a collector that goes away again and again: a flood must not become a
/// flood of lines.
pub(super) const BETWEEN: Duration = Duration::from_secs(60);

/// What is done now and then, and not more often.
#[derive(Debug)]
pub(super) struct Every {
    period: Duration,
    last: Option<Instant>,
}

impl Every {
    pub(super) const fn new(period: Duration) -> Self {
        Self { period, last: None }
    }

    /// Whether it is time again; then it counts as done.
    pub(super) fn is_due(&mut self, at: Instant) -> bool {
        let due = self.last.is_none_or(|last| at.duration_since(last) >= self.period);
        if due {
            self.last = Some(at);
        }
        due
    }
}

/// Whether the collector takes spans.
#[derive(Debug)]
pub(super) struct Collector {
    /// As of the last look.
    failed: u64,
    /// Since when it is known to be away: spans delivered and lost until then.
    away: Option<(u64, u64)>,
    told: Every,
}

/// What became of requests and spans so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    pub(super) failed_requests: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
}

/// What is to be told of the collector.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Requests fail.
    Away,
    /// It takes spans again: so many meanwhile, and so many were lost.
    Back { delivered: u64, lost: u64 },
}

impl Default for Collector {
    fn default() -> Self {
        Self { failed: 0, away: None, told: Every::new(BETWEEN) }
    }
}

impl Collector {
    /// Has a look. Away and back are told in turn, and away not again within a minute.
    pub(super) fn look(&mut self, at: Instant, now: Delivery) -> Option<News> {
        let Delivery { failed_requests, delivered, lost } = now;
        let fails = failed_requests > std::mem::replace(&mut self.failed, failed_requests);
        match self.away {
            None if fails && self.told.is_due(at) => {
                self.away = Some((delivered, lost));
                Some(News::Away)
            }
            Some((before, lost_before)) if !fails && delivered > before => {
                self.away = None;
                Some(News::Back { delivered: delivered - before, lost: lost - lost_before })
            }
            None | Some(_) => None,
        }
    }
}

/// Whether anything like SIP was seen at all.
#[derive(Debug)]
pub(super) enum Silence {
    /// Nothing yet, and it is told at this time.
    Until(Instant),
    /// It was told.
    Told,
    /// There is SIP, or nobody wants to know.
    Over,
}

impl Silence {
    /// From `start` on, for as long as `limit`; zero: never.
    pub(super) fn new(start: Instant, limit: Duration) -> Self {
        if limit.is_zero() { Self::Over } else { Self::Until(start + limit) }
    }

    /// Has a look at how many `messages` there were, and says what is to be said: nothing so far, or the first after that
    /// was told.
    pub(super) fn look(&mut self, at: Instant, messages: impl Fn() -> u64) -> Option<Heard> {
        match self {
            Self::Over => None,
            Self::Until(end) if at < *end => None,
            Self::Until(_) | Self::Told if messages() > 0 => {
                let told = matches!(self, Self::Told);
                *self = Self::Over;
                told.then_some(Heard::First)
            }
            Self::Until(_) => {
                *self = Self::Told;
                Some(Heard::Nothing)
            }
            Self::Told => None,
        }
    }
}

/// What is to be told of SIP.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing like it.
    Nothing,
    /// The first message, after all.
    First,
}

/// What the programs saw in its place.
pub(super) fn seen_instead(hooks: &[(Hook, Counters)]) -> String {
    let said = |what: &str, seen: u64, passed: u64, matched: u64| match seen {
        0 => format!("no frame {what}"),
        _ => format!("{seen} frames {what}, {passed} of them on other ports or no SIP, {matched} taken"),
    };
    let sum = |sent: bool| {
        let these = || hooks.iter().filter(move |(hook, _)| (*hook == Hook::TcEgress) == sent);
        let seen = these().map(|(_, counters)| counters.seen).sum::<u64>();
        let matched = these().map(|(_, counters)| counters.matched).sum::<u64>();
        (seen, seen.saturating_sub(matched), matched)
    };
    let ((seen, passed, matched), (seen_sent, passed_sent, matched_sent)) = (sum(false), sum(true));
    format!(
        "{}; {}",
        said("received", seen, passed, matched),
        said("sent", seen_sent, passed_sent, matched_sent)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a beginning to reckon from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn away_and_back_are_told_once_each() {
        let (start, mut collector) = (start(), Collector::default());
        let mut look = |second, failed_requests, delivered, lost| {
            let at = start + Duration::from_secs(second);
            collector.look(at, Delivery { failed_requests, delivered, lost })
        };
        assert_eq!(look(0, 0, 5, 0), None);
        assert_eq!(look(1, 1, 5, 0), Some(News::Away));
        assert_eq!(look(2, 3, 5, 1), None);
        assert_eq!(look(3, 3, 5, 1), None, "nothing was sent meanwhile");
        assert_eq!(look(4, 3, 15, 1), Some(News::Back { delivered: 10, lost: 1 }));
        assert_eq!(look(5, 4, 15, 1), None, "not twice within a minute");
        assert_eq!(look(70, 5, 15, 1), Some(News::Away));
        assert_eq!(look(71, 5, 16, 1), Some(News::Back { delivered: 1, lost: 0 }));
    }

    #[test]
    fn silence_is_told_once_and_its_end_too() {
        let start = start();
        let at = |second| start + Duration::from_secs(second);
        let mut silence = Silence::new(start, Duration::from_secs(300));
        assert_eq!(silence.look(at(299), || panic!("too early to count")), None);
        assert_eq!(silence.look(at(300), || 0), Some(Heard::Nothing));
        assert_eq!(silence.look(at(301), || 0), None);
        assert_eq!(silence.look(at(900), || 1), Some(Heard::First));
        assert_eq!(silence.look(at(901), || panic!("it is over")), None);

        let mut silence = Silence::new(start, Duration::from_secs(300));
        assert_eq!(silence.look(at(300), || 1), None, "there was some");
        assert_eq!(silence.look(at(301), || panic!("it is over")), None);
        assert_eq!(Silence::new(start, Duration::ZERO).look(at(900), || 0), None);
    }

    #[test]
    fn what_was_seen_is_told_by_direction() {
        let received = Counters { seen: 12, other: 9, noise: 1, matched: 2, ..Counters::default() };
        let hooks = [
            (Hook::Xdp, received),
            (Hook::TcIngress, Counters::default()),
            (Hook::TcEgress, Counters::default()),
        ];
        assert_eq!(
            seen_instead(&hooks),
            "12 frames received, 10 of them on other ports or no SIP, 2 taken; no frame sent"
        );
    }
}
