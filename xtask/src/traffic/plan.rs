//! What happens: calls to a voice-agent platform, some transferred by a second leg, and outbound calls that
//! have nothing to do with them. Times only, no messages; the same seed gives the same plan.
//!
//! Plain `std`, no other module: the linker's own test in `sipobs` includes this file and runs the plan without
//! the wire in between.

/// How much of what.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    /// Inbound calls.
    pub(crate) calls: u64,
    /// Inbound calls a second.
    pub(crate) rate: f64,
    /// Calls that the busy number has up at once.
    pub(crate) busy: f64,
    /// Share of answered calls that get transferred.
    pub(crate) transferred: f64,
    /// Share of transfers that show the caller's number instead of the platform's.
    pub(crate) caller_id: f64,
    /// Unrelated outbound calls for each transferred call.
    pub(crate) unrelated: f64,
    /// Spread of the lag between the two legs' ends around half a second, in seconds.
    pub(crate) spread: f64,
    /// Names the run.
    pub(crate) seed: u64,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            calls: 3600,
            rate: 1.0,
            busy: 50.0,
            transferred: 0.125,
            caller_id: 0.2,
            unrelated: 0.2,
            spread: 0.04,
            seed: 1,
        }
    }
}

/// Microseconds since the start of the traffic.
pub(crate) type Micros = u64;

/// One leg, from its first INVITE to its end.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    /// Unique; the order in which legs were planned.
    pub(crate) number: u64,
    /// What it is: the truth that a linker must find.
    pub(crate) role: Role,
    /// Number in From.
    pub(crate) from: String,
    /// Number in the request-URI.
    pub(crate) to: String,
    /// First INVITE.
    pub(crate) invited: Micros,
    /// The 407 to it is answered with a second INVITE.
    pub(crate) challenged: bool,
    /// First 180.
    pub(crate) ringing: Option<Micros>,
    /// What became of it.
    pub(crate) fate: Fate,
}

/// What a leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A call that comes in from the trunk.
    Inbound,
    /// The platform's leg to a transfer target.
    Second {
        /// Number of the inbound leg that was to be transferred.
        of: u64,
    },
    /// The platform calls someone, for another reason.
    Unrelated,
}

/// How a leg goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// 200, and later a BYE.
    Answered {
        /// The 200.
        at: Micros,
        /// The BYE.
        ended: Micros,
        /// Whether the leg's own caller sent the BYE.
        by_caller: bool,
    },
    /// A final failure.
    Refused {
        /// When.
        at: Micros,
        /// Its status.
        status: u16,
    },
    /// CANCEL, 487.
    Cancelled {
        /// When.
        at: Micros,
    },
}

impl Fate {
    /// When the leg was over.
    pub(crate) fn over(self) -> Micros {
        match self {
            Self::Answered { ended, .. } => ended,
            Self::Refused { at, .. } | Self::Cancelled { at } => at,
        }
    }

    /// Outcome of a transfer with this second leg, in the words of the output contract.
    pub(crate) fn outcome(self, abandoned: bool) -> &'static str {
        match self {
            Self::Answered { .. } => "succeeded",
            Self::Refused { status: 486, .. } => "busy",
            Self::Refused { status: 403, .. } => "forbidden",
            Self::Refused { .. } => "network_failure",
            Self::Cancelled { .. } if abandoned => "abandoned",
            Self::Cancelled { .. } => "no_answer",
        }
    }
}

/// The legs of one story, an inbound call with its transfers or an unrelated call, first leg first.
pub(crate) type Story = Vec<Leg>;

/// All stories in order of their first INVITE.
pub(crate) struct Plan {
    mix: Mix,
    dice: Dice,
    left: u64,
    number: u64,
    next_call: f64,
    next_unrelated: f64,
}

/// The busy number; quiet ones follow it.
const NUMBERS: u64 = 15_105_550_100;
/// Mean talking time of an inbound call, in seconds: what makes `busy` calls up of a rate.
const TALK: f64 = 50.0;
/// Calls up at once at each quiet number, on average.
const QUIET: f64 = 0.5;

impl Plan {
    pub(crate) fn new(mix: Mix) -> Self {
        let mut dice = Dice(mix.seed);
        let next_unrelated = dice.wait(mix.rate * mix.transferred * mix.unrelated);
        Self { dice, left: mix.calls, number: 0, next_call: 0.0, next_unrelated, mix }
    }

    /// One of the platform's numbers, as its calls are spread over them.
    fn own_number(&mut self) -> u64 {
        let up = self.mix.rate * TALK;
        let busy = (self.mix.busy / up).min(0.9);
        if self.dice.chance(busy) {
            return NUMBERS;
        }
        let quiet = ((1.0 - busy) * up / QUIET).ceil().max(1.0);
        NUMBERS + 1 + (self.dice.unit() * quiet) as u64
    }

    fn leg(&mut self, role: Role, from: String, to: String, invited: f64) -> Leg {
        self.number += 1;
        Leg {
            number: self.number,
            role,
            from,
            to,
            invited: micros(invited),
            challenged: role != Role::Inbound && self.dice.chance(0.8),
            ringing: None,
            fate: Fate::Cancelled { at: 0 },
        }
    }

    fn call(&mut self, start: f64) -> Story {
        let called = self.own_number();
        let caller = format!("+1415{:07}", self.dice.below(10_000_000));
        let mut call = self.leg(Role::Inbound, caller.clone(), format!("+{called}"), start);
        call.ringing = Some(micros(start + 0.003));
        if self.dice.chance(0.03) {
            call.fate = Fate::Cancelled { at: micros(start + 1.0 + self.dice.wait(0.5)) };
            return vec![call];
        }
        let answered = start + 0.02 + 0.04 * self.dice.unit();
        let mut story = Vec::new();
        let (ended, by_caller) = if self.dice.chance(self.mix.transferred) {
            let from = if self.dice.chance(self.mix.caller_id) { caller } else { call.to.clone() };
            let start = answered + 4.0 + self.dice.wait(1.0 / 16.0);
            self.transfer(&mut story, call.number, &from, start)
        } else {
            (answered + 3.0 + self.dice.wait(1.0 / (TALK - 3.0)), self.dice.chance(0.6))
        };
        call.fate = Fate::Answered { at: micros(answered), ended: micros(ended), by_caller };
        story.insert(0, call);
        story
    }

    /// Adds the second legs tried from `start` on; when the call ends then, and whether by its caller.
    fn transfer(&mut self, story: &mut Story, of: u64, from: &str, start: f64) -> (f64, bool) {
        let target = format!("+1510555{:04}", 7000 + self.dice.below(20));
        let mut leg = self.leg(Role::Second { of }, from.to_owned(), target, start);
        let kind = self.dice.unit();
        let ring = start + 0.3 + 0.4 * self.dice.unit();
        let (failed, call_end) = if kind < 0.55 {
            let answered = ring + 1.5 + self.dice.wait(0.25);
            leg.ringing = Some(micros(ring));
            let hung_up = answered + 3.0 + self.dice.wait(1.0 / 40.0);
            let lag = self.lag();
            let (ended, by_caller, call_end) = match self.dice.unit() {
                // The caller hangs up, and the platform ends the leg.
                kind if kind < 0.55 => (hung_up + lag, true, (hung_up, true)),
                // The target hangs up, and the platform ends the call.
                kind if kind < 0.94 => (hung_up, false, (hung_up + lag, false)),
                // The target hangs up, and the call goes back to the agent.
                _ => (hung_up, false, (hung_up + 8.0 + self.dice.wait(1.0 / 20.0), self.dice.chance(0.5))),
            };
            leg.fate = Fate::Answered { at: micros(answered), ended: micros(ended), by_caller };
            story.push(leg);
            return call_end;
        } else if kind < 0.67 {
            let at = start + 0.05 + 0.3 * self.dice.unit();
            leg.fate = Fate::Refused { at: micros(at), status: 486 };
            (at, None)
        } else if kind < 0.72 {
            let at = ring + 2.0 + self.dice.wait(0.2);
            leg.ringing = Some(micros(ring));
            leg.fate = Fate::Refused { at: micros(at), status: 486 };
            (at, None)
        } else if kind < 0.80 {
            let at = start + 0.02 + 0.2 * self.dice.unit();
            leg.fate = Fate::Refused { at: micros(at), status: 403 };
            (at, None)
        } else if kind < 0.92 {
            let at = start + 30.0 + 0.02 * self.dice.unit();
            leg.ringing = Some(micros(ring));
            leg.fate = Fate::Cancelled { at: micros(at) };
            (at, None)
        } else {
            // The caller gives up while the target rings.
            let gave_up = ring + 1.0 + 20.0 * self.dice.unit();
            leg.ringing = Some(micros(ring));
            let at = gave_up + self.lag();
            leg.fate = Fate::Cancelled { at: micros(at) };
            (at, Some((gave_up, true)))
        };
        story.push(leg);
        if let Some(end) = call_end {
            return end;
        }
        match self.dice.unit() {
            // The agent tries again.
            kind if kind < 0.25 => {
                let again = failed + 1.0 + 3.0 * self.dice.unit();
                self.transfer(story, of, from, again)
            }
            // The agent says sorry and hangs up.
            kind if kind < 0.5 => (failed + 4.0 + 0.3 * self.dice.normal().abs(), false),
            // The caller does.
            kind if kind < 0.75 => (failed + 2.0 + 6.0 * self.dice.unit(), true),
            // The call goes on.
            _ => (failed + 5.0 + self.dice.wait(1.0 / 30.0), self.dice.chance(0.6)),
        }
    }

    fn unrelated(&mut self, start: f64) -> Story {
        let (own, target) = (self.own_number(), self.dice.below(10_000_000));
        let mut leg = self.leg(Role::Unrelated, format!("+{own}"), format!("+1212{target:07}"), start);
        let ring = start + 0.3 + 0.4 * self.dice.unit();
        leg.ringing = Some(micros(ring));
        leg.fate = match self.dice.unit() {
            kind if kind < 0.7 => {
                let answered = ring + 2.0 + self.dice.wait(0.2);
                let ended = answered + 3.0 + self.dice.wait(1.0 / 40.0);
                let by_caller = self.dice.chance(0.5);
                Fate::Answered { at: micros(answered), ended: micros(ended), by_caller }
            }
            kind if kind < 0.85 => Fate::Cancelled { at: micros(start + 30.0) },
            _ => {
                leg.ringing = None;
                Fate::Refused { at: micros(start + 0.4), status: 486 }
            }
        };
        vec![leg]
    }

    /// From one leg's BYE to the other's: half a second; in one of twenty the platform is slower.
    fn lag(&mut self) -> f64 {
        let lag = 0.5 + self.mix.spread * self.dice.normal();
        lag.max(0.05) + if self.dice.chance(0.05) { self.dice.unit() } else { 0.0 }
    }
}

impl Iterator for Plan {
    type Item = Story;

    fn next(&mut self) -> Option<Story> {
        if self.left == 0 {
            return None;
        }
        if self.next_unrelated < self.next_call {
            let start = self.next_unrelated;
            self.next_unrelated += self.dice.wait(self.mix.rate * self.mix.transferred * self.mix.unrelated);
            return Some(self.unrelated(start));
        }
        self.left -= 1;
        let start = self.next_call;
        self.next_call += self.dice.wait(self.mix.rate);
        Some(self.call(start))
    }
}

fn micros(seconds: f64) -> Micros {
    (seconds * 1e6) as Micros
}

/// SplitMix64: small, seeded, and good enough for traffic.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 up to but not 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 0 up to but not `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of a list that is not empty.
    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }

    /// True that often.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Seconds to the next of events that come `rate` times a second (exponential).
    pub(crate) fn wait(&mut self, rate: f64) -> f64 {
        -(1.0 - self.unit()).ln() / rate
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.wait(0.5).sqrt(), std::f64::consts::TAU * self.unit());
        radius * angle.cos()
    }
}
