//! Whether confidence means what it says, on the generator's traffic.
//!
//! The plan of the traffic goes straight into the linker, as the dialog stage would tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use self::plan::{Fate, Mix, Plan, Role};
use super::{Decision, LegFacts, LegId, LinkConfig, Links};
use crate::timestamp::Timestamp;
use crate::transfer::attempt::Side;

// The generator lives with the project's chores; only its plan, plain data and dice, is needed here.
#[path = "../../../../xtask/src/traffic/plan.rs"]
#[allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the generator's own: it uses more of it, and its numbers are small"
)]
mod plan;

/// What became of all outbound legs of a run.
#[derive(Debug, Default)]
struct Report {
    second_legs: u32,
    unrelated: u32,
    /// Links by confidence in hundredths: given, right.
    links: BTreeMap<u32, (u32, u32)>,
    ambiguous: u32,
    /// Of those, with the right call among the candidates.
    ambiguous_named: u32,
    missed: u32,
    unrelated_linked: u32,
    unrelated_ambiguous: u32,
}

impl Report {
    /// Links given in a range of confidence, and how many were right.
    fn between(&self, from: u32, to: u32) -> (u32, u32) {
        self.links.range(from..to).fold((0, 0), |sum, (_, one)| (sum.0 + one.0, sum.1 + one.1))
    }
}

fn run(mix: Mix) -> Report {
    run_with(LinkConfig::default(), mix)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Started,
    Answered,
    Over,
}

fn run_with(config: LinkConfig, mix: Mix) -> Report {
    let legs: BTreeMap<u64, plan::Leg> = Plan::new(mix).flatten().map(|leg| (leg.number, leg)).collect();
    let mut events: Vec<(u64, Event, u64)> = Vec::new();
    for leg in legs.values() {
        events.push((leg.invited, Event::Started, leg.number));
        events.push((leg.fate.over(), Event::Over, leg.number));
        if let Fate::Answered { at, .. } = leg.fate {
            events.push((at, Event::Answered, leg.number));
        }
    }
    events.sort();
    let mut run = Run { links: Links::new(config), asked: BTreeSet::new(), legs, report: Report::default() };
    for (time, event, number) in events {
        run.ask_until(at(time));
        run.event(at(time), event, number);
    }
    run.ask_until(at(u64::MAX / 2000));
    assert_eq!(run.links.counts(), super::LinkCounts::default());
    run.report
}

struct Run {
    links: Links,
    /// Legs to ask about again, and when.
    asked: BTreeSet<(Timestamp, u64)>,
    legs: BTreeMap<u64, plan::Leg>,
    report: Report,
}

impl Run {
    fn event(&mut self, now: Timestamp, event: Event, number: u64) {
        let (leg, id) = (self.legs[&number].clone(), LegId(number));
        match (event, leg.fate) {
            (Event::Started, _) => {
                self.links.started(facts(&leg));
                match leg.role {
                    Role::Inbound => {}
                    Role::Second { .. } => self.report.second_legs += 1,
                    Role::Unrelated => self.report.unrelated += 1,
                }
                assert!(leg.role != Role::Inbound || !self.links.could_be_second_leg(id));
                if leg.role != Role::Inbound {
                    self.ask(now, number);
                }
                return;
            }
            (Event::Answered, _) => self.links.answered(id, now, None),
            (Event::Over, Fate::Answered { by_caller, .. }) => {
                self.links.ended(id, now, if by_caller { Side::Caller } else { Side::Callee });
            }
            (Event::Over, Fate::Refused { status, .. }) => self.links.failed(id, now, Some(status)),
            (Event::Over, Fate::Cancelled { .. }) => self.links.failed(id, now, Some(487)),
        }
        let asked = self.asked.iter().find(|(_, other)| *other == number).copied();
        if let Some(asked) = asked {
            self.asked.remove(&asked);
            self.ask(now, number);
        } else if leg.role == Role::Inbound && event == Event::Over {
            self.links.forget(id);
        }
    }

    fn ask_until(&mut self, end: Timestamp) {
        while let Some((due, number)) = self.asked.first().copied().filter(|(due, _)| *due <= end) {
            self.asked.remove(&(due, number));
            self.ask(due, number);
        }
    }

    fn ask(&mut self, now: Timestamp, number: u64) {
        let truth = self.legs[&number].role;
        match (self.links.decide(LegId(number), now), truth) {
            (Decision::NotYet { until }, _) => {
                assert!(until > now);
                self.asked.insert((until, number));
            }
            (Decision::Linked { call, link, .. }, truth) => {
                let right = truth == Role::Second { of: call.0 };
                let count = self.report.links.entry((link.confidence * 100.0).round() as u32).or_default();
                count.0 += 1;
                count.1 += u32::from(right);
                self.report.unrelated_linked += u32::from(truth == Role::Unrelated);
            }
            (Decision::Ambiguous { .. }, Role::Unrelated) => self.report.unrelated_ambiguous += 1,
            (Decision::Ambiguous { link }, truth) => {
                self.report.ambiguous += 1;
                let right =
                    link.candidates.iter().any(|call| truth == Role::Second { of: call.parse().unwrap() });
                self.report.ambiguous_named += u32::from(right);
            }
            (Decision::No, Role::Second { .. }) => self.report.missed += 1,
            (Decision::No, _) => {}
        }
    }
}

fn facts(leg: &plan::Leg) -> LegFacts {
    let host = |n: u8| IpAddr::from([10, 78, 0, n]);
    let (caller_host, callee_host) = match leg.role {
        Role::Inbound => (host(1), host(2)),
        _ => (host(2), host(3)),
    };
    LegFacts {
        id: LegId(leg.number),
        call_id: leg.number.to_string(),
        invited: at(leg.invited),
        caller_host,
        callee_host,
        from: Some(leg.from.clone()),
        to: Some(leg.to.clone()),
        request: Some(leg.to.clone()),
        asserted: Vec::new(),
        diverted: Vec::new(),
        referred_by: None,
        replaces: None,
        join: None,
        target_dialog: None,
        session_id: None,
        keys: Vec::new(),
        media: None,
    }
}

fn at(micros: u64) -> Timestamp {
    Timestamp::default() + Duration::from_micros(micros)
}

#[test]
fn shows_the_table() {
    for mix in [
        Mix::default(),
        Mix { seed: 2, ..Mix::default() },
        Mix { unrelated: 1.0, ..Mix::default() },
        Mix { unrelated: 0.0, ..Mix::default() },
        Mix { spread: 0.15, ..Mix::default() },
        Mix { spread: 0.0, ..Mix::default() },
        Mix { rate: 0.05, busy: 0.0, ..Mix::default() },
        Mix { rate: 0.1, busy: 5.0, ..Mix::default() },
        Mix { rate: 0.1, busy: 5.0, unrelated: 1.0, ..Mix::default() },
    ] {
        let r = run(mix.clone());
        println!("{mix:?}");
        println!(
            "  second {} ambiguous {} (named {}) missed {} | unrelated {} linked {} ambiguous {}",
            r.second_legs,
            r.ambiguous,
            r.ambiguous_named,
            r.missed,
            r.unrelated,
            r.unrelated_linked,
            r.unrelated_ambiguous
        );
        for (a, b) in [(0, 80), (80, 85), (85, 90), (90, 95), (95, 99), (99, 101), (80, 101)] {
            let (given, right) = r.between(a, b);
            if given > 0 {
                println!("  {a}..{b}: {given} right {right} = {:.3}", f64::from(right) / f64::from(given));
            }
        }
    }
}
