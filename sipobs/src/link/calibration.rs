//! Whether confidence means what it says, on the generator's traffic.
//!
//! The plan of the traffic goes straight into the linker, as the stages before it would tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::plan::{Fate, Mix, Plan, Role};
use super::harness::{Ends, Harness};
use super::{Decision, LinkConfig};
use crate::leg::LegId;
use crate::record::Side;
use crate::timestamp::Timestamp;

// The generator lives with the project's chores; only its plan, plain data and dice, is needed here.
#[path = "../../../xtask/src/traffic/plan.rs"]
#[allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the generator's own: it uses more of it, and its numbers are small"
)]
mod plan;

/// For how long after its call's end a leg may go without a verdict.
const GONE: Duration = Duration::from_secs(35);

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
    let mut run = Run {
        harness: Harness::new(config),
        ids: BTreeMap::new(),
        asked: BTreeSet::new(),
        legs,
        report: Report::default(),
    };
    for (time, event, number) in events {
        run.ask_until(at(time));
        run.event(at(time), event, number);
    }
    run.ask_until(at(u64::MAX / 2000));
    run.report
}

struct Run {
    harness: Harness,
    ids: BTreeMap<u64, LegId>,
    /// Legs to ask about again, and when.
    asked: BTreeSet<(Timestamp, u64)>,
    legs: BTreeMap<u64, plan::Leg>,
    report: Report,
}

impl Run {
    fn event(&mut self, now: Timestamp, event: Event, number: u64) {
        let leg = self.legs[&number].clone();
        if event == Event::Started {
            let id = self.harness.invite(now, &number.to_string(), &ends(&leg), "");
            self.ids.insert(number, id);
        }
        let id = self.ids[&number];
        match (event, leg.fate) {
            (Event::Started, _) => {
                match leg.role {
                    Role::Inbound => {}
                    Role::Second { .. } => self.report.second_legs += 1,
                    Role::Unrelated => self.report.unrelated += 1,
                }
                assert!(leg.role != Role::Inbound || !self.harness.could_be_second_leg(id));
                if leg.role != Role::Inbound {
                    self.ask(now, number);
                }
                return;
            }
            (Event::Answered, _) => self.harness.answered(id, now),
            (Event::Over, Fate::Answered { by_caller, .. }) => {
                self.harness.ended(id, now, if by_caller { Side::Caller } else { Side::Callee });
            }
            (Event::Over, Fate::Refused { status, .. }) => self.harness.failed(id, now, Some(status)),
            (Event::Over, Fate::Cancelled { .. }) => self.harness.failed(id, now, Some(487)),
        }
        if leg.role == Role::Inbound && event == Event::Over {
            let waiting = self.harness.links.waiting_for(&self.harness.legs, id);
            let waits = |(_, number): &(Timestamp, u64)| waiting.contains(&self.ids[number]);
            for (due, number) in self.asked.iter().copied().filter(waits).collect::<Vec<_>>() {
                self.asked.remove(&(due, number));
                self.asked.insert((due.min(now + GONE), number));
            }
        }
        let asked = self.asked.iter().find(|(_, other)| *other == number).copied();
        if let Some(asked) = asked {
            self.asked.remove(&asked);
            self.ask(now, number);
        } else if leg.role == Role::Inbound && event == Event::Over {
            self.harness.forget(id);
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
        match (self.harness.decide(self.ids[&number], now), truth) {
            (Decision::NotYet { until }, _) => {
                assert!(until > now);
                self.asked.insert((until, number));
            }
            (Decision::Linked { call, link, .. }, truth) => {
                let right = matches!(truth, Role::Second { of } if self.ids.get(&of) == Some(&call));
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
                let hundredths = (link.confidence * 100.0).round() as u32;
                let count = self.report.links.entry(hundredths).or_default();
                count.0 += 1;
                count.1 += u32::from(right);
                self.report.unrelated_linked += u32::from(truth == Role::Unrelated);
            }
            (Decision::Ambiguous { .. }, Role::Unrelated) => self.report.unrelated_ambiguous += 1,
            (Decision::Ambiguous { link, .. }, truth) => {
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

fn ends(leg: &plan::Leg) -> Ends {
    let hosts = if leg.role == Role::Inbound { (1, 2) } else { (2, 3) };
    Ends { hosts, from: leg.from.clone(), to: leg.to.clone() }
}

fn at(micros: u64) -> Timestamp {
    Timestamp::default() + Duration::from_micros(micros)
}

/// Runs a mix with several seeds and holds confidence to its word; gives the sum.
fn calibrated(mix: &Mix) -> Report {
    let mut sum = Report::default();
    for seed in 1..=3 {
        sum.add(&run(Mix { seed, ..mix.clone() }));
    }
    println!("{mix:?}\n{sum}");
    let (given, right) = sum.between(80, 101);
    assert!(right * 100 >= given * 98, "of {given} links at 0.8 and more only {right} are right");
    for (from, to) in BUCKETS {
        let (given, right) = sum.between(from, to);
        // A handful proves nothing.
        assert!(
            given < 40 || right * 100 >= given * from,
            "at {from}..{to} only {right} of {given} are right"
        );
    }
    assert!(sum.missed * 100 <= sum.second_legs * 6, "{} of {} not seen", sum.missed, sum.second_legs);
    sum
}

const BUCKETS: [(u32, u32); 6] = [(60, 70), (70, 80), (80, 90), (90, 95), (95, 99), (99, 101)];

impl Report {
    fn add(&mut self, other: &Self) {
        self.second_legs += other.second_legs;
        self.unrelated += other.unrelated;
        self.ambiguous += other.ambiguous;
        self.ambiguous_named += other.ambiguous_named;
        self.missed += other.missed;
        self.unrelated_linked += other.unrelated_linked;
        self.unrelated_ambiguous += other.unrelated_ambiguous;
        for (confidence, (given, right)) in &other.links {
            let count = self.links.entry(*confidence).or_default();
            *count = (count.0 + given, count.1 + right);
        }
    }

    fn linked(&self) -> f64 {
        f64::from(self.between(0, 101).0 - self.unrelated_linked) / f64::from(self.second_legs)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { second_legs, ambiguous, ambiguous_named, missed, .. } = self;
        let Self { unrelated, unrelated_linked, unrelated_ambiguous, .. } = self;
        writeln!(
            f,
            "{second_legs} second legs: {ambiguous} ambiguous ({ambiguous_named} named), {missed} missed"
        )?;
        writeln!(f, "{unrelated} unrelated: {unrelated_linked} linked, {unrelated_ambiguous} ambiguous")?;
        for (from, to) in BUCKETS {
            let (given, right) = self.between(from, to);
            writeln!(f, "  {from}..{to}: {right} of {given}")?;
        }
        Ok(())
    }
}

#[test]
fn a_busy_number() {
    let report = calibrated(&Mix::default());
    assert!(report.linked() > 0.55, "{}", report.linked());
}

#[test]
fn a_busy_number_that_calls_out_as_much() {
    let report = calibrated(&Mix { unrelated: 1.0, ..Mix::default() });
    assert!(report.linked() > 0.35, "{}", report.linked());
}

#[test]
fn a_busy_number_with_nothing_else() {
    let report = calibrated(&Mix { unrelated: 0.0, ..Mix::default() });
    assert!(report.linked() > 0.55, "{}", report.linked());
}

#[test]
fn a_platform_that_takes_its_time() {
    let report = calibrated(&Mix { spread: 0.15, ..Mix::default() });
    assert!(report.linked() > 0.45, "{}", report.linked());
}

#[test]
fn a_few_calls_at_once() {
    let report = calibrated(&Mix { rate: 0.1, busy: 5.0, ..Mix::default() });
    assert!(report.linked() > 0.65, "{}", report.linked());
}

#[test]
fn quiet_numbers() {
    let report = calibrated(&Mix { rate: 0.05, busy: 0.0, ..Mix::default() });
    assert!(report.linked() > 0.7, "{}", report.linked());
}

#[test]
fn quiet_numbers_with_nothing_else() {
    let report = calibrated(&Mix { rate: 0.02, busy: 0.0, unrelated: 0.0, ..Mix::default() });
    assert!(report.linked() > 0.9, "{}", report.linked());
}

#[test]
fn many_numbers_at_ten_calls_a_second() {
    calibrated(&Mix { rate: 10.0, busy: 100.0, ..Mix::default() });
}
