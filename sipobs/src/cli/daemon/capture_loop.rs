//! The capture thread: rings and HEP → engine → sinks. Nothing in here waits for anything but these.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use sipobs::capture::live::{AttachEvent, Error, Live};
use sipobs::config::Config;
use sipobs::discard::DiscardReason;
use sipobs::engine::Engine;
use sipobs::export::hep::HepOutHandle;
use sipobs::export::metrics::{Metrics, Snapshot};
use sipobs::journal::Journal;
use sipobs::record::Output;
use sipobs::stream::Loss;
use sipobs::timestamp::Timestamp;
use sipobs::transfer::Fullness;
use sipobs::transfer::ratio::RatioState;

use super::announce::Tally;
use super::counts::{came_instead, hep_counts, snapshot_of, trunks_seen};
use super::handover::{Gap, Handover};
use super::health::CaptureHealth;
use super::queued_sink::QueuedSink;
use super::recorder::{Order, Recorder};
use super::reload::Reload;
use super::signals::{Request, Signals, Stop};
use super::sources::{Heard as Source, Sources};
use super::state::State;
use super::transitions::{BETWEEN, Collector, Delivery, Every, Heard, News, Silence, seen_instead};
use super::{END, now, service};
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
    pub(super) sources: Sources,
    pub(super) engine: Engine,
    pub(super) spans: Option<Spans>,
    pub(super) sinks: Vec<QueuedSink>,
    pub(super) recorder: Option<Recorder>,
    /// What is sent on by HEP.
    pub(super) hep_out: Option<HepOutHandle>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<CaptureHealth>,
    pub(super) state: State,
    /// Where calls that are not over are left, if they are.
    pub(super) calls: Option<Handover>,
    pub(super) left_spans: Option<Handover>,
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
    pub(super) recorder: Option<Recorder>,
    pub(super) hep_out: Option<HepOutHandle>,
    pub(super) state: State,
    /// Where to leave spans that nobody takes: where the calls were left, too.
    pub(super) left_spans: Option<Handover>,
    /// What is to be kept for the next start.
    pub(super) ratio: RatioState,
    pub(super) tally: Tally,
    pub(super) started: Instant,
}

impl CaptureLoop {
    /// Takes up what a predecessor has left, and watches until told to stop or capture fails; hands over what waits while
    /// it still watches; then detaches, drains, and leaves what is open to a successor, or settles it.
    pub(super) fn run(mut self, signals: &Signals) -> Ended {
        self.take_up();
        let mut seen = Housekeeping::new(&self.config);
        let over = self.watch(signals, &mut seen);
        let over = over.and_then(|stop| self.hand_over(signals, stop, &mut seen));
        self.health.captures(false);
        // Where capture fails no successor waits, and nothing has been handed over yet.
        let (failure, silence, stop) = match over {
            Ok((silence, stop)) => (None, silence, stop),
            Err(error) => (Some(error), self.config.otlp.flush, Stop::Settle),
        };
        let (left, failure) = match self.finish(stop, &mut seen) {
            Ok(left) => (left, failure),
            Err(error) => (false, Some(error)),
        };
        let last = std::iter::from_fn(|| self.output(None)).collect();
        self.publish();
        let (tally, started) = (self.tally(&seen), seen.started);
        let Self { engine, spans, sinks, recorder, hep_out, state, left_spans, .. } = self;
        let left_spans = left_spans.filter(|_| left);
        let ratio = engine.transfers().ratio_state();
        Ended {
            failure,
            silence,
            last,
            spans,
            sinks,
            recorder,
            hep_out,
            state,
            left_spans,
            ratio,
            tally,
            started,
        }
    }

    /// Takes up what a predecessor has left. Frames wait meanwhile.
    fn take_up(&mut self) {
        self.take_up_spans();
        let goes_on = self.take_up_calls();
        self.drain(None);
        if let Some(spans) = self.spans.as_mut().filter(|_| !goes_on) {
            spans.finish_calls();
        }
    }

    fn take_up_spans(&mut self) {
        let (Some(left), Some(spans)) = (&self.left_spans, &mut self.spans) else { return };
        let Some(bytes) = left.take() else { return };
        match spans.take_up(&bytes) {
            Ok(0) => {}
            Ok(count) => note(format_args!("{count} spans of an earlier run are to be delivered")),
            Err(error) => left.refuse(&error),
        }
    }

    /// Goes on with the calls that a predecessor has left, or settles them as they stood then. Gives whether they go on.
    fn take_up_calls(&mut self) -> bool {
        let Some((calls, bytes)) = self.calls.as_ref().and_then(|calls| Some((calls, calls.take()?))) else {
            return false;
        };
        let journal = match Journal::read(&bytes) {
            Ok(journal) => journal,
            Err(error) => {
                calls.refuse(&error);
                return false;
            }
        };
        let gap = Gap::between(journal.until(), self.sources.time());
        if let Gap::Short(gap) = gap {
            self.engine.resume(&journal);
            let Fullness { legs, attempts, .. } = self.engine.transfers().fullness();
            if legs > 0 {
                let gap = gap.as_secs_f64();
                note(format_args!(
                    "{legs} calls of the run that ended {gap:.1} s ago go on, {attempts} transfers under way"
                ));
            }
            return true;
        }
        self.engine.settle(&journal);
        note(format_args!("the calls that an earlier run left are settled as they stood: {gap}"));
        false
    }

    fn watch(&mut self, signals: &Signals, seen: &mut Housekeeping) -> Result<Stop, Error> {
        loop {
            match signals.next() {
                Some(Request::Stop(stop)) => return Ok(stop),
                Some(Request::Reload(reload)) => self.reload(*reload),
                None => {}
            }
            self.poll()?;
            self.housekeeping(seen);
        }
    }

    /// Watches on while spans and records that wait are handed over, so that nothing is missed meanwhile, for as long
    /// as that may take. A second request to stop cuts it short. Gives how long to wait for the collector afterwards:
    /// one that has not taken what waited gets no more time; and how to end, as last asked for.
    fn hand_over(
        &mut self,
        signals: &Signals,
        mut stop: Stop,
        seen: &mut Housekeeping,
    ) -> Result<(Duration, Stop), Error> {
        service(&[NotifyState::Stopping]);
        let start = now();
        let flush = self.config.otlp.flush;
        self.sinks.iter_mut().for_each(QueuedSink::start_hand_over);
        let goal = self.spans.as_mut().map_or(0, |spans| {
            spans.hurry();
            let (waiting, before) = spans.waiting();
            before + waiting
        });
        loop {
            let spans_taken = self.spans.as_ref().is_none_or(|spans| spans.waiting().1 >= goal);
            let sinks_done = self.sinks.iter().all(QueuedSink::has_handed_over);
            let hurried = if let Some(Request::Stop(again)) = signals.next() {
                stop = again;
                true
            } else {
                false
            };
            let took = start.elapsed();
            if hurried || (spans_taken || took >= flush) && (sinks_done || took >= HAND_OVER) {
                self.sinks.iter_mut().for_each(QueuedSink::give_up_if_stuck);
                return Ok((if spans_taken { SILENCE } else { Duration::ZERO }, stop));
            }
            self.poll()?;
            self.housekeeping(seen);
        }
    }

    /// One wait for frames, and what they lead to.
    fn poll(&mut self) -> Result<(), Error> {
        let Self { sources, engine, recorder, .. } = self;
        let now = sources.poll(POLL, &mut |heard| take(engine, recorder.as_mut(), &heard))?;
        engine.handle_timeout(now);
        self.drain(Some(now));
        Ok(())
    }

    /// What is to be seen to between waits.
    fn housekeeping(&mut self, seen: &mut Housekeeping) {
        self.health.beat();
        if seen.looks.is_due(now()) {
            self.count_losses(seen);
            self.follow_clock(seen);
            self.tell_of_collector(seen);
            self.tell_of_hep_out(seen);
            self.tell_of_silence(seen);
            if let Some(live) = self.sources.live_mut() {
                live.log();
            }
            self.report_attach_events();
            if let Some(recorder) = &mut self.recorder {
                recorder.hand_on();
            }
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
        let result = self.sources.reconfigure(&config.capture).map(|()| {
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
    fn count_losses(&mut self, seen: &mut Housekeeping) {
        let Ok(hooks) = self.sources.counters() else { return };
        let damaged = self.sources.live().map_or(0, Live::damaged);
        let lost = hooks.iter().map(|(_, counters)| counters.lost()).sum::<u64>() + damaged;
        let by_hep = self.sources.hep().map_or(0, |counts| counts.lost());
        let new = (lost + by_hep).saturating_sub(seen.lost + seen.lost_by_hep);
        if new == 0 {
            return;
        }
        self.engine.note_loss(Loss::RingLost(new));
        if lost > seen.lost && seen.complaints.is_due(now()) {
            warn(format_args!(
                "{lost} frames lost so far on their way from the kernel (capture.ring_bytes; /metrics tells why)"
            ));
        }
        if by_hep > seen.lost_by_hep && seen.complaints_of_hep.is_due(now()) {
            warn(format_args!(
                "{by_hep} packets of HEP lost so far, as they came faster than they are read (net.core.rmem_max; over TCP \
                 their sender waits)"
            ));
        }
        (seen.lost, seen.lost_by_hep) = (lost, by_hep);
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

    /// The same of whoever takes HEP.
    fn tell_of_hep_out(&self, seen: &mut Housekeeping) {
        let (Some(out), Some(to)) = (&self.hep_out, &self.config.hep_out.to) else { return };
        let counts = out.counts();
        let delivery = Delivery {
            failed_requests: counts.failures,
            delivered: counts.sent,
            lost: counts.dropped.iter().map(|(_, lost)| lost).sum(),
        };
        match seen.hep_out.look(now(), delivery) {
            Some(News::Away) => warn(format_args!("hep_out.to: {to}: {}", out.failure())),
            Some(News::Back { delivered, lost }) => {
                note(format_args!("{to} takes HEP again, {delivered} packets sent, {lost} lost"));
            }
            None => {}
        }
    }

    /// A capture that sees no SIP looks the wrong way.
    fn tell_of_silence(&self, seen: &mut Housekeeping) {
        match seen.silence.look(now(), || self.engine.counters().messages) {
            Some(Heard::Nothing) => {
                if self.sources.live().is_some() {
                    let counted = self.sources.counters();
                    let instead = counted.map_or_else(|error| error.to_string(), |it| seen_instead(&it));
                    let ports = &self.config.capture.ports;
                    warn(format_args!(
                        "nothing like SIP was seen so far on {ports:?} (capture.ports): {instead}; SIP over TLS, on port \
                         5061 as a rule, cannot be read"
                    ));
                }
                if let Some(counts) = self.sources.hep() {
                    warn(format_args!("no SIP came by HEP so far (hep.listen): {}", came_instead(&counts)));
                }
            }
            Some(Heard::First) => note(format_args!("the first SIP message was seen")),
            None => {}
        }
    }

    fn tally(&self, seen: &Housekeeping) -> Tally {
        let counters = self.engine.counters();
        let transfers = self.engine.transfers().counts().transfers.into_iter().collect();
        let frames =
            self.sources.live().and_then(|live| live.account().ok()).map_or(0, |account| account.read);
        Tally { frames, messages: counters.messages, lost: seen.lost + seen.lost_by_hep, transfers }
    }

    /// What became of the interfaces.
    pub(super) fn report_attach_events(&mut self) {
        let Some(live) = self.sources.live_mut() else { return };
        for event in live.attach_events() {
            match event {
                AttachEvent::Attached(_) | AttachEvent::Detached(_) | AttachEvent::Ring(_) => {
                    note(format_args!("{event}"));
                }
                AttachEvent::Refused { .. } | AttachEvent::Failed { .. } => warn(format_args!("{event}")),
            }
        }
        self.health.covers(live.coverage());
    }

    /// A step of the wall clock: frame times follow when no timer runs, so that none fires early or hangs.
    fn follow_clock(&mut self, seen: &mut Housekeeping) {
        let error = self.sources.clock_error();
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
            self.sources.adopt_wall_clock();
            seen.stepped = false;
        }
    }

    /// Detaches, hands over what the rings still hold, and leaves all that is open to a successor, or settles it as it stands.
    /// Gives whether it was left.
    fn finish(&mut self, stop: Stop, seen: &mut Housekeeping) -> Result<bool, Error> {
        let Self { sources, engine, recorder, .. } = self;
        let now = sources.finish(&mut |heard| take(engine, recorder.as_mut(), &heard))?;
        self.count_losses(seen);
        let left = stop == Stop::Leave && self.leave_calls(now);
        if !left {
            self.engine.finish(now);
        }
        Ok(left)
    }

    /// Leaves the calls that are not over to a successor, if that can be.
    fn leave_calls(&mut self, now: Timestamp) -> bool {
        // By whose clock should a successor tell how long ago that was?
        let Some(calls) = self.calls.as_ref().filter(|_| self.sources.clock_error().abs() < STEP) else {
            return false;
        };
        let Fullness { legs, attempts, .. } = self.engine.transfers().fullness();
        let (bytes, cut) = self.engine.transfers().kept();
        let journal = self.engine.take_journal(now);
        let left = calls.leave(move |to| journal.write(to), END);
        match &left {
            Ok(()) if legs == 0 => {}
            Ok(()) if cut == 0 => note(format_args!(
                "left to the next start: {legs} calls that are not over, {attempts} transfers under way"
            )),
            Ok(()) => note(format_args!(
                "left to the next start: {legs} calls that are not over, {attempts} transfers under way; {cut} calls \
                 without their beginning, as limits.memory has room for {bytes} bytes of them"
            )),
            Err(error) => note(format_args!("{error:#}; what is open is settled as it stands")),
        }
        left.is_ok()
    }

    /// Hands on what the engine has to say at `now`, which is not known where a predecessor's calls were taken up.
    fn drain(&mut self, now: Option<Timestamp>) {
        while let Some(output) = self.output(now) {
            if let Some(spans) = &mut self.spans {
                spans.output(&output);
            }
            for sink in &mut self.sinks {
                sink.output(&output);
            }
        }
    }

    /// The next that the engine has to say, counted; with the name of its trace where spans are exported, and of its
    /// evidence where that is written.
    fn output(&mut self, now: Option<Timestamp>) -> Option<Arc<Output>> {
        let Self { engine, metrics, spans, recorder, .. } = self;
        let since = recorder.as_ref().map(Recorder::since);
        let (mut output, request) = engine.poll_output_seen(|output| Order::of(output, since?))?;
        if let Some(spans) = spans {
            spans.name(&mut output);
        }
        if let Some((recorder, request)) = recorder.as_mut().zip(request) {
            recorder.write(request, &mut output, now);
        }
        metrics.output(&output, now);
        Some(Arc::new(output))
    }

    /// All counters as of now, for the next scrape. Gives whether they could be had; else it gets the old ones, and
    /// `/healthz` says so.
    pub(super) fn publish(&self) -> bool {
        let account = match self.sources.live().map(Live::account).transpose() {
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
        let of_interfaces = self
            .sources
            .live()
            .zip(account)
            .map_or_else(Snapshot::default, |(live, account)| snapshot_of(live, &account));
        self.metrics.publish(Snapshot {
            hep_out: self.hep_out.as_ref().map(HepOutHandle::counts),
            hep: self.sources.hep().map(|counts| hep_counts(&counts)),
            #[allow(clippy::cast_precision_loss, reason = "seconds for a gauge")]
            clock_error: self.sources.clock_error() as f64 / 1e9,
            engine: Some(self.engine.counters()),
            last_message: self.engine.last_message(),
            trunks: trunks_seen(self.engine.transfers()),
            spans: self.spans.as_ref().and_then(Spans::counts),
            sinks: self.sinks.iter().map(QueuedSink::counts).collect(),
            recorder: self.recorder.as_ref().map(Recorder::counts),
            state_failures: self.state.failures(),
            ..of_interfaces
        });
        true
    }
}

fn take(
    engine: &mut Engine,
    recorder: Option<&mut Recorder>,
    heard: &Source<'_>,
) -> Result<(), DiscardReason> {
    match heard {
        Source::Frame(frame) => {
            if let Some(recorder) = recorder {
                recorder.frame(frame);
            }
            engine.frame(frame);
            Ok(())
        }
        Source::Hep(message) => engine.by_hep(message),
    }
}

/// What one round of housekeeping leaves to the next.
struct Housekeeping {
    started: Instant,
    /// Frames lost as of the last look, and packets of HEP.
    lost: u64,
    lost_by_hep: u64,
    stepped: bool,
    looks: Every,
    complaints: Every,
    complaints_of_hep: Every,
    collector: Collector,
    hep_out: Collector,
    silence: Silence,
}

impl Housekeeping {
    fn new(config: &Config) -> Self {
        let started = now();
        Self {
            started,
            lost: 0,
            lost_by_hep: 0,
            stepped: false,
            looks: Every::new(LOSSES),
            complaints: Every::new(BETWEEN),
            complaints_of_hep: Every::new(BETWEEN),
            collector: Collector::default(),
            hep_out: Collector::default(),
            silence: Silence::new(started, config.log.silence),
        }
    }
}
