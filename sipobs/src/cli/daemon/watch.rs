//! The capture thread: rings → engine → sinks. Nothing in here waits for anything but frames.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sipobs::capture::live::{Error, Event, Failure, Hook, Live};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::metrics::{Attached, HookCounts, Metrics, Snapshot};
use sipobs::stream::Damage;
use sipobs::timestamp::Timestamp;
use sipobs::transfer::Output;
use sipobs::transfer::ratio::RatioState;

use super::now;
use super::orders::{Order, Orders, Reload};
use super::outlet::Outlet;
use super::state::State;
use super::vitals::Vitals;
use crate::cli::note;
use crate::cli::spans::Spans;

/// The longest wait for frames: how soon a signal or a scrape is seen to.
const POLL: Duration = Duration::from_millis(50);

/// How often the kernel is asked for what it could not deliver.
const LOSSES: Duration = Duration::from_millis(250);

/// A wall clock this far from frame times was set, and has not just drifted.
const STEP: i64 = 1_000_000_000;

/// Everything the capture thread owns.
pub(super) struct Watch {
    /// What is in force.
    pub(super) config: Config,
    pub(super) live: Live,
    pub(super) engine: Engine,
    pub(super) spans: Option<Spans>,
    pub(super) outlets: Vec<Outlet>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) state: State,
}

/// What is left when it is over.
pub(super) struct Ended {
    /// Why, unless it was asked to.
    pub(super) failure: Option<Error>,
    /// What was said of all that was still open. The sinks do not have it yet.
    pub(super) last: Vec<Arc<Output>>,
    pub(super) spans: Option<Spans>,
    pub(super) outlets: Vec<Outlet>,
    pub(super) state: State,
    /// What is to be kept for the next start.
    pub(super) ratio: RatioState,
}

impl Watch {
    /// Watches until told to stop or capture fails; then detaches, drains, and settles what is open.
    pub(super) fn run(mut self, orders: &Orders) -> Ended {
        self.vitals.captures(true);
        let mut rounds = Rounds::default();
        let failure = loop {
            match orders.next() {
                Some(Order::Stop) => break None,
                Some(Order::Reload(reload)) => self.reload(*reload),
                None => {}
            }
            match self.poll() {
                Ok(now) => self.round(now, &mut rounds),
                Err(error) => break Some(error),
            }
        };
        self.vitals.captures(false);
        let failure = self.finish(&mut rounds).err().or(failure);
        let last = outputs(&mut self.engine, &self.metrics).collect();
        self.publish();
        let Self { engine, spans, outlets, state, .. } = self;
        Ended { failure, last, spans, outlets, state, ratio: engine.transfers().ratio_state() }
    }

    /// One wait for frames, and what they lead to.
    fn poll(&mut self) -> Result<Timestamp, Error> {
        let Self { live, engine, .. } = self;
        let now = live.poll(POLL, &mut |event| take(engine, event))?;
        engine.handle_timeout(now);
        self.drain();
        Ok(now)
    }

    /// What is to be seen to between waits.
    fn round(&mut self, now: Timestamp, rounds: &mut Rounds) {
        self.vitals.beat();
        if rounds.losses_due() {
            self.count_losses(now, rounds);
            self.follow_clock(rounds);
            self.tell_of_collector(rounds);
            self.live.log();
            self.tell_news();
        }
        self.state.keep(|| self.engine.transfers().ratio_state());
        if let Some(asked) = self.vitals.asked()
            && self.publish()
        {
            self.vitals.answered(asked);
        }
    }

    /// Goes by another configuration, as far as that goes; by all of that or by nothing.
    fn reload(&mut self, reload: Reload) {
        let Reload { config, rules, done } = reload;
        let result = self.live.reconfigure(&config.capture).map(|()| {
            self.engine.adopt(rules);
            self.engine.set_vxlan_ports(&config.capture.vxlan_ports);
            self.metrics.trunks(self.engine.transfers().trunks());
            self.config.adopt(&config)
        });
        self.tell_news();
        let _ = done.send(result);
    }

    /// Frames that matched and could not be handed over: every kind, as the kernel counts them, whichever of
    /// them the rings tell of.
    fn count_losses(&mut self, now: Timestamp, rounds: &mut Rounds) {
        let Ok(hooks) = self.live.counters() else { return };
        let lost = hooks.iter().map(|(_, counters)| counters.lost()).sum::<u64>() + self.live.damaged();
        let new = lost.saturating_sub(rounds.lost);
        if new == 0 {
            return;
        }
        rounds.lost = lost;
        self.engine.damage(now, Damage::RingLost(new));
        if rounds.complaints.is_due() {
            note(format_args!(
                "{lost} frames lost so far on their way from the kernel (capture.ring_bytes; /metrics tells why)"
            ));
        }
    }

    /// A collector that is away or refuses: the spans' end would be too late to hear of it.
    fn tell_of_collector(&self, rounds: &mut Rounds) {
        let Some(spans) = &self.spans else { return };
        let (failed, sentence) = spans.failures();
        if failed > rounds.failed_requests && rounds.collector.is_due() {
            rounds.failed_requests = failed;
            note(format_args!("{}", sentence()));
        }
    }

    /// What became of the interfaces.
    pub(super) fn tell_news(&mut self) {
        for news in self.live.news() {
            note(format_args!("{news}"));
        }
        self.vitals.attached(self.live.attachments().next().is_some());
    }

    /// A step of the wall clock: frame times follow when no timer runs, so that none fires early or hangs.
    fn follow_clock(&mut self, rounds: &mut Rounds) {
        let error = self.live.clock_error();
        if error.abs() < STEP {
            rounds.stepped = false;
            return;
        }
        if !rounds.stepped {
            rounds.stepped = true;
            #[allow(clippy::cast_precision_loss, reason = "for a person")]
            let seconds = error as f64 / 1e9;
            note(format_args!(
                "the wall clock was set by {seconds:+.0} s; times follow once no call is open"
            ));
        }
        if self.engine.poll_timeout().is_none() {
            self.live.adopt_wall_clock();
            rounds.stepped = false;
        }
    }

    /// Detaches, hands over what the rings still hold, and settles all that is open as it stands.
    fn finish(&mut self, rounds: &mut Rounds) -> Result<(), Error> {
        let Self { live, engine, .. } = self;
        let now = live.finish(&mut |event| take(engine, event))?;
        self.count_losses(now, rounds);
        self.engine.finish(now);
        Ok(())
    }

    fn drain(&mut self) {
        let Self { engine, metrics, spans, outlets, .. } = self;
        for output in outputs(engine, metrics) {
            if let Some(spans) = spans {
                spans.output(&output);
            }
            for outlet in outlets.iter_mut() {
                outlet.output(&output);
            }
        }
    }

    /// All counters as of now, for the next scrape. Gives whether they could be had; else it gets the old ones, and
    /// `/healthz` says so.
    pub(super) fn publish(&self) -> bool {
        let account = match self.live.account() {
            Ok(account) => account,
            Err(error) => {
                if self.vitals.counts(false) {
                    note(format_args!(
                        "the kernel's counters cannot be read, those of /metrics are old: {error}"
                    ));
                }
                return false;
            }
        };
        if self.vitals.counts(true) {
            note(format_args!("the kernel's counters can be read again"));
        }
        let rings = self.live.rings();
        self.metrics.publish(Snapshot {
            hooks: account.hooks.iter().map(|(hook, counters)| hook_counts(*hook, counters)).collect(),
            attached: self
                .live
                .attachments()
                .map(|a| Attached { interface: a.interface.clone(), how: a.how.name() })
                .collect(),
            lost_by_cpu: account.failed.iter().map(|(cpu, failed)| (*cpu, by_reason(failed))).collect(),
            lost_told: account.told,
            frames: account.read,
            damaged: account.damaged,
            in_rings: account.in_rings,
            ring_kind: rings.kind.name(),
            ring_bytes: rings.bytes as u64,
            ring_memory: rings.memory,
            #[allow(clippy::cast_precision_loss, reason = "seconds for a gauge")]
            clock_error: self.live.clock_error() as f64 / 1e9,
            engine: Some(self.engine.counters()),
            spans: self.spans.as_ref().and_then(Spans::counts),
            sinks: self.outlets.iter().map(Outlet::counts).collect(),
            state_failures: self.state.failures(),
        });
        true
    }
}

/// What the engine has to say, counted.
fn outputs(engine: &mut Engine, metrics: &Metrics) -> impl Iterator<Item = Arc<Output>> {
    std::iter::from_fn(|| engine.poll_output()).inspect(|output| metrics.output(output)).map(Arc::new)
}

fn take(engine: &mut Engine, event: Event<'_>) {
    match event {
        Event::Frame(frame) => engine.frame(&frame),
        // Counted from the kernel's own counters, which know more kinds of loss.
        Event::Lost { .. } => {}
    }
}

fn hook_counts(hook: Hook, counters: &sipobs::capture::live::Counters) -> HookCounts {
    HookCounts {
        hook: match hook {
            Hook::Xdp => "xdp",
            Hook::TcIngress => "tc_ingress",
            Hook::TcEgress => "tc_egress",
        },
        seen: counters.seen,
        passed: vec![
            ("other", counters.other),
            ("malformed", counters.malformed),
            ("keep_alive", counters.keep_alive),
            ("noise", counters.noise),
        ],
        matched: counters.matched,
        delivered: counters.delivered,
        truncated: counters.truncated,
        lost: by_reason(&counters.failed),
    }
}

fn by_reason(failed: &[u64; Failure::COUNT]) -> Vec<(&'static str, u64)> {
    Failure::ALL.map(|failure| (failure.name(), failed[failure as usize])).to_vec()
}

/// What the rounds remember of one another.
#[derive(Default)]
struct Rounds {
    /// Frames lost as of the last look.
    lost: u64,
    stepped: bool,
    looked: Option<Instant>,
    complaints: Complaints,
    /// Failed requests to the collector as of the last complaint.
    failed_requests: u64,
    collector: Complaints,
}

impl Rounds {
    fn losses_due(&mut self) -> bool {
        let now = now();
        let due = self.looked.is_none_or(|looked| now.duration_since(looked) >= LOSSES);
        if due {
            self.looked = Some(now);
        }
        due
    }
}

/// One complaint a minute: a flood must not become a flood of lines.
#[derive(Default)]
struct Complaints(Option<Instant>);

impl Complaints {
    fn is_due(&mut self) -> bool {
        let now = now();
        let due = self.0.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(60));
        if due {
            self.0 = Some(now);
        }
        due
    }
}
