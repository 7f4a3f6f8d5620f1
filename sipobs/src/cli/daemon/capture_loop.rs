//! The capture thread: rings → engine → sinks. Nothing in here waits for anything but frames.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use sipobs::capture::live::{AttachEvent, Coverage, Error, Event, Failure, Hook, Live};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::metrics::{Attached, HookCounts, Metrics, Snapshot};
use sipobs::record::Output;
use sipobs::stream::Loss;
use sipobs::timestamp::Timestamp;
use sipobs::transfer::ratio::RatioState;

use super::announce::Tally;
use super::health::CaptureHealth;
use super::queued_sink::QueuedSink;
use super::reload::Reload;
use super::signals::{Request, Signals};
use super::state::State;
use super::transitions::{Collector, Delivery, Heard, News, Silence, seen_instead};
use super::{now, service};
use crate::cli::spans::Spans;
use crate::cli::{note, warn};

/// The longest wait for frames: how soon a signal or a scrape is seen to.
const POLL: Duration = Duration::from_millis(50);

/// The longest that sinks may take to write what waits, while capture goes on. Spans have a bound of their own
/// (`otlp.flush`).
const HAND_OVER: Duration = Duration::from_secs(5);

/// Once nothing is captured any more, the longest wait for a sign of life from the collector: whoever comes next, in a
/// rollout, attaches only when this process is gone.
const SILENCE: Duration = Duration::from_millis(300);

/// How often the kernel is asked for what it could not deliver.
const LOSSES: Duration = Duration::from_millis(250);

/// A wall clock this far from frame times was set, and has not just drifted.
const STEP: i64 = 1_000_000_000;

/// Everything the capture thread owns.
pub(super) struct CaptureLoop {
    /// What is in force.
    pub(super) config: Config,
    pub(super) live: Live,
    pub(super) engine: Engine,
    pub(super) spans: Option<Spans>,
    pub(super) sinks: Vec<QueuedSink>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<CaptureHealth>,
    pub(super) state: State,
}

/// What is left when it is over.
pub(super) struct Ended {
    /// Why, unless it was asked to.
    pub(super) failure: Option<Error>,
    /// The longest wait for a sign of life from the collector.
    pub(super) silence: Duration,
    /// What was said of all that was still open. The sinks do not have it yet.
    pub(super) last: Vec<Arc<Output>>,
    pub(super) spans: Option<Spans>,
    pub(super) sinks: Vec<QueuedSink>,
    pub(super) state: State,
    /// What is to be kept for the next start.
    pub(super) ratio: RatioState,
    pub(super) tally: Tally,
    pub(super) started: Instant,
}

impl CaptureLoop {
    /// Watches until told to stop or capture fails; hands over what waits while it still watches; then detaches,
    /// drains, and settles what is open.
    pub(super) fn run(mut self, signals: &Signals) -> Ended {
        self.health.captures(true);
        let mut seen = Housekeeping::new(&self.config);
        let over = self.watch(signals, &mut seen).and_then(|()| self.hand_over(signals, &mut seen));
        self.health.captures(false);
        // Where capture fails no successor waits, and nothing has been handed over yet.
        let (failure, silence) = match over {
            Ok(silence) => (None, silence),
            Err(error) => (Some(error), self.config.otlp.flush),
        };
        let failure = self.finish(&mut seen).err().or(failure);
        let last =
            std::iter::from_fn(|| output(&mut self.engine, &self.metrics, self.spans.as_ref())).collect();
        self.publish();
        let (tally, started) = (self.tally(&seen), seen.started);
        let Self { engine, spans, sinks, state, .. } = self;
        let ratio = engine.transfers().ratio_state();
        Ended { failure, silence, last, spans, sinks, state, ratio, tally, started }
    }

    fn watch(&mut self, signals: &Signals, seen: &mut Housekeeping) -> Result<(), Error> {
        loop {
            match signals.next() {
                Some(Request::Stop) => return Ok(()),
                Some(Request::Reload(reload)) => self.reload(*reload),
                None => {}
            }
            let now = self.poll()?;
            self.housekeeping(now, seen);
        }
    }

    /// Watches on while spans and records that wait are handed over, so that nothing is missed meanwhile, for as long
    /// as that may take. A second request to stop cuts it short. Gives how long to wait for the collector afterwards:
    /// one that has not taken what waited gets no more time.
    fn hand_over(&mut self, signals: &Signals, seen: &mut Housekeeping) -> Result<Duration, Error> {
        service(&[NotifyState::Stopping]);
        let start = now();
        let flush = self.config.otlp.flush;
        let goal = self.spans.as_mut().map_or(0, |spans| {
            spans.hurry();
            let (waiting, before) = spans.waiting();
            before + waiting
        });
        loop {
            let spans_taken = self.spans.as_ref().is_none_or(|spans| spans.waiting().1 >= goal);
            let behind = self.sinks.iter_mut().map(QueuedSink::has_caught_up).filter(|it| !it).count();
            let hurried = matches!(signals.next(), Some(Request::Stop));
            let took = start.elapsed();
            if hurried || (spans_taken || took >= flush) && (behind == 0 || took >= HAND_OVER) {
                self.sinks.iter_mut().for_each(QueuedSink::give_up_if_stuck);
                return Ok(if spans_taken { SILENCE } else { Duration::ZERO });
            }
            let now = self.poll()?;
            self.housekeeping(now, seen);
        }
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
    fn housekeeping(&mut self, now: Timestamp, seen: &mut Housekeeping) {
        self.health.beat();
        if seen.losses_due() {
            self.count_losses(now, seen);
            self.follow_clock(seen);
            self.tell_of_collector(seen);
            self.tell_of_silence(seen);
            self.live.log();
            self.report_attach_events();
        }
        self.state.keep(|| self.engine.transfers().ratio_state());
        if let Some(asked) = self.health.asked()
            && self.publish()
        {
            self.health.answered(asked);
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
        self.report_attach_events();
        let _ = done.send(result);
    }

    /// Frames that matched and could not be handed over: every kind, as the kernel counts them, whichever of
    /// them the rings tell of.
    fn count_losses(&mut self, now: Timestamp, seen: &mut Housekeeping) {
        let Ok(hooks) = self.live.counters() else { return };
        let lost = hooks.iter().map(|(_, counters)| counters.lost()).sum::<u64>() + self.live.damaged();
        let new = lost.saturating_sub(seen.lost);
        if new == 0 {
            return;
        }
        seen.lost = lost;
        self.engine.note_loss(now, Loss::RingLost(new));
        if seen.complaints.is_due() {
            warn(format_args!(
                "{lost} frames lost so far on their way from the kernel (capture.ring_bytes; /metrics tells why)"
            ));
        }
    }

    /// A collector that is away or refuses: the spans' end would be too late to hear of it.
    fn tell_of_collector(&self, seen: &mut Housekeeping) {
        let Some(spans) = &self.spans else { return };
        let Some(counts) = spans.counts() else { return };
        let delivery = Delivery {
            failed_requests: counts.failed_requests,
            delivered: counts.acknowledged,
            lost: counts.dropped.iter().map(|(_, lost)| lost).sum(),
        };
        match seen.collector.look(now(), delivery) {
            Some(News::Away) => warn(format_args!("{}", spans.failure())),
            Some(News::Back { delivered, lost }) => {
                note(format_args!("collector reachable again, {delivered} spans delivered, {lost} lost"));
            }
            None => {}
        }
    }

    /// A capture that sees no SIP looks the wrong way.
    fn tell_of_silence(&self, seen: &mut Housekeeping) {
        match seen.silence.look(now(), || self.engine.counters().messages) {
            Some(Heard::Nothing) => {
                let instead =
                    self.live.counters().map_or_else(|error| error.to_string(), |it| seen_instead(&it));
                let ports = &self.config.capture.ports;
                warn(format_args!(
                    "nothing like SIP was seen so far on {ports:?} (capture.ports): {instead}; SIP over TLS, on port 5061 \
                     as a rule, cannot be read"
                ));
            }
            Some(Heard::First) => note(format_args!("the first SIP message was seen")),
            None => {}
        }
    }

    fn tally(&self, seen: &Housekeeping) -> Tally {
        let counters = self.engine.counters();
        let transfers = self.engine.transfers().counts().transfers.into_iter().collect();
        let frames = self.live.account().map_or(0, |account| account.read);
        Tally { frames, messages: counters.messages, lost: seen.lost, transfers }
    }

    /// What became of the interfaces.
    pub(super) fn report_attach_events(&mut self) {
        for event in self.live.attach_events() {
            match event {
                AttachEvent::Attached(_) | AttachEvent::Detached(_) | AttachEvent::Ring(_) => {
                    note(format_args!("{event}"));
                }
                AttachEvent::Refused { .. } | AttachEvent::Failed { .. } => warn(format_args!("{event}")),
            }
        }
        self.health.covers(self.live.coverage());
    }

    /// A step of the wall clock: frame times follow when no timer runs, so that none fires early or hangs.
    fn follow_clock(&mut self, seen: &mut Housekeeping) {
        let error = self.live.clock_error();
        if error.abs() < STEP {
            seen.stepped = false;
            return;
        }
        if !seen.stepped {
            seen.stepped = true;
            #[allow(clippy::cast_precision_loss, reason = "for a person")]
            let seconds = error as f64 / 1e9;
            warn(format_args!(
                "the wall clock was set by {seconds:+.0} s; times follow once no call is open"
            ));
        }
        if self.engine.poll_timeout().is_none() {
            self.live.adopt_wall_clock();
            seen.stepped = false;
        }
    }

    /// Detaches, hands over what the rings still hold, and settles all that is open as it stands.
    fn finish(&mut self, seen: &mut Housekeeping) -> Result<(), Error> {
        let Self { live, engine, .. } = self;
        let now = live.finish(&mut |event| take(engine, event))?;
        self.count_losses(now, seen);
        self.engine.finish(now);
        Ok(())
    }

    fn drain(&mut self) {
        let Self { engine, metrics, spans, sinks, .. } = self;
        while let Some(output) = output(engine, metrics, spans.as_ref()) {
            if let Some(spans) = spans {
                spans.output(&output);
            }
            for sink in sinks.iter_mut() {
                sink.output(&output);
            }
        }
    }

    /// All counters as of now, for the next scrape. Gives whether they could be had; else it gets the old ones, and
    /// `/healthz` says so.
    pub(super) fn publish(&self) -> bool {
        let account = match self.live.account() {
            Ok(account) => account,
            Err(error) => {
                if self.health.counts(false) {
                    warn(format_args!(
                        "the kernel's counters cannot be read, those of /metrics are old: {error}"
                    ));
                }
                return false;
            }
        };
        if self.health.counts(true) {
            note(format_args!("the kernel's counters can be read again"));
        }
        let rings = self.live.rings();
        self.metrics.publish(Snapshot {
            hooks: account.hooks.iter().map(|(hook, counters)| hook_counts(*hook, counters)).collect(),
            attached: self
                .live
                .attachments()
                .map(|a| Attached { interface: a.interface.clone(), how: a.how.as_str() })
                .collect(),
            interfaces: interface_counts(&self.live.coverage()),
            lost_by_cpu: account.failed.iter().map(|(cpu, failed)| (*cpu, by_reason(failed))).collect(),
            lost_told: account.told,
            frames: account.read,
            damaged: account.damaged,
            in_rings: account.in_rings,
            ring_kind: rings.kind.as_str(),
            ring_bytes: rings.bytes as u64,
            ring_memory: rings.memory,
            #[allow(clippy::cast_precision_loss, reason = "seconds for a gauge")]
            clock_error: self.live.clock_error() as f64 / 1e9,
            engine: Some(self.engine.counters()),
            spans: self.spans.as_ref().and_then(Spans::counts),
            sinks: self.sinks.iter().map(QueuedSink::counts).collect(),
            state_failures: self.state.failures(),
            housekeeping_failures: self.live.failures(),
        });
        true
    }
}

/// The next that the engine has to say, counted; with the name of its trace where spans are exported.
fn output(engine: &mut Engine, metrics: &Metrics, spans: Option<&Spans>) -> Option<Arc<Output>> {
    let mut output = engine.poll_output()?;
    if let Some(spans) = spans {
        spans.name(&mut output);
    }
    metrics.output(&output);
    Some(Arc::new(output))
}

fn take(engine: &mut Engine, event: Event<'_>) {
    match event {
        Event::Frame(frame) => engine.frame(&frame),
        // Counted from the kernel's own counters, which know more kinds of loss.
        Event::Lost { .. } => {}
    }
}

fn interface_counts(coverage: &Coverage) -> Vec<(&'static str, usize)> {
    let Coverage { watched, refused, missing } = coverage;
    vec![("watched", watched.len()), ("refused", refused.len()), ("missing", missing.len())]
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
    Failure::ALL.map(|failure| (failure.as_str(), failed[failure as usize])).to_vec()
}

/// What one round of housekeeping leaves to the next.
struct Housekeeping {
    started: Instant,
    /// Frames lost as of the last look.
    lost: u64,
    stepped: bool,
    looked: Option<Instant>,
    complaints: Complaints,
    collector: Collector,
    silence: Silence,
}

impl Housekeeping {
    fn new(config: &Config) -> Self {
        let started = now();
        Self {
            started,
            lost: 0,
            stepped: false,
            looked: None,
            complaints: Complaints::default(),
            collector: Collector::default(),
            silence: Silence::new(started, config.log.silence),
        }
    }

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
