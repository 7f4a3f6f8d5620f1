//! What the daemon hears by: interfaces, HEP, or both, as one row in the order of time.

use std::time::{Duration, Instant};

use sipobs::capture;
use sipobs::capture::hep::{Hep, HepCounts, HepError, Received};
use sipobs::capture::live::{Clock, Error, Event, Hook, Live};
use sipobs::config::Config;
use sipobs::discard::DiscardReason;
use sipobs::frame::Frame;
use sipobs::stream::ByHep;
use sipobs::timestamp::Timestamp;

use super::now;

/// What is heard.
pub(super) enum Heard<'a> {
    /// A frame of an interface. Nobody asks what came of it.
    Frame(Frame<'a>),
    /// A message that came by HEP.
    Hep(ByHep<'a>),
}

/// Takes what is heard; of what came by HEP, says why it led to nothing, if it did.
pub(super) type Take<'a> = &'a mut dyn FnMut(Heard<'_>) -> Result<(), DiscardReason>;

/// Why a source can't be opened.
pub(super) enum SourceError {
    Live(Error),
    Hep(HepError),
}

/// All that is heard by. There is one at least.
pub(super) struct Sources {
    /// The interfaces, if any are watched.
    live: Option<Live>,
    hep: Option<Hep>,
    /// What time it is where no interface tells.
    clock: Clock,
    /// The number of the last that was given: frames and messages of HEP are numbered in one row.
    number: u64,
    /// The time of the last that was given: time must not run back.
    last: Timestamp,
}

impl Sources {
    /// Attaches to interfaces and listens for HEP, as far as `config` wants either.
    pub(super) fn open(config: &Config) -> Result<Self, SourceError> {
        // What takes no privilege comes first, and fails first.
        let hep = Hep::open(&config.hep, config.stream.max_message_bytes).map_err(SourceError::Hep)?;
        let watches = hep.is_none() || !config.capture.interfaces.is_empty();
        let live = watches.then(|| Live::open(&config.capture)).transpose().map_err(SourceError::Live)?;
        Ok(Self { live, hep, clock: Clock::new(), number: 0, last: Timestamp::from_nanos(i64::MIN) })
    }

    /// The interfaces, if any are watched.
    pub(super) const fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }

    /// The same.
    pub(super) const fn live_mut(&mut self) -> Option<&mut Live> {
        self.live.as_mut()
    }

    /// What became of packets of HEP, where it is listened for.
    pub(super) fn hep(&self) -> Option<HepCounts> {
        self.hep.as_ref().map(Hep::counts)
    }

    /// Waits for about `timeout` at most, and gives what has come. Gives the moment up to which that is all.
    pub(super) fn poll(&mut self, timeout: Duration, take: Take<'_>) -> Result<Timestamp, Error> {
        if self.live.is_none()
            && let Some(hep) = &mut self.hep
        {
            hep.wait(timeout);
        }
        self.row(|live, each| live.poll(timeout, each), take)
    }

    /// Ends all of it, and gives what has come until then.
    pub(super) fn finish(&mut self, take: Take<'_>) -> Result<Timestamp, Error> {
        if let Some(hep) = &mut self.hep {
            hep.stop();
        }
        self.row(Live::finish, take)
    }

    /// Gives what `read` reads of the interfaces, and what came by HEP before each frame, and before the moment up to which
    /// there are no more.
    fn row(
        &mut self,
        read: impl FnOnce(&mut Live, &mut dyn FnMut(Event<'_>)) -> Result<Timestamp, Error>,
        take: Take<'_>,
    ) -> Result<Timestamp, Error> {
        let Self { live, hep, clock, number, last } = self;
        let (at, time) = (now(), live.as_ref().map_or_else(|| clock.time(), Live::time));
        let mut row = Row { hep: hep.as_mut(), at, time, number, last };
        let until = match live {
            Some(live) => read(live, &mut |event| match event {
                Event::Frame(frame) => {
                    row.heard_until(frame.time, take);
                    let (time, number) = row.next(frame.time);
                    let _ = take(Heard::Frame(Frame { time, number, ..frame }));
                }
                // Counted from the kernel's own counters, which know more kinds of loss.
                Event::Lost { .. } => {}
            })?,
            None => time,
        };
        row.heard_until(until, take);
        Ok(until.max(*row.last))
    }

    /// The time that something has which comes now.
    pub(super) fn time(&mut self) -> Timestamp {
        self.live.as_ref().map_or_else(|| self.clock.time(), Live::time)
    }

    /// How far the wall clock is ahead of these times, in nanoseconds: see [`Live::clock_error`].
    pub(super) fn clock_error(&self) -> i64 {
        self.live.as_ref().map_or_else(|| self.clock.error(), Live::clock_error)
    }

    /// Follows a step of the wall clock. Call it while the engine has nothing open.
    pub(super) fn adopt_wall_clock(&mut self) {
        match &mut self.live {
            Some(live) => live.adopt_wall_clock(),
            None => self.clock.adopt(),
        }
        self.last = Timestamp::from_nanos(i64::MIN);
    }

    /// Goes by another configuration, as far as that goes: see [`Live::reconfigure`].
    pub(super) fn reconfigure(&mut self, config: &capture::Config) -> Result<(), Error> {
        match &mut self.live {
            Some(live) => live.reconfigure(config),
            None if config.interfaces.is_empty() => Ok(()),
            None => Err(Error::Config {
                field: "interfaces",
                reason: "there were none at the start: watching some takes a restart".to_owned(),
            }),
        }
    }

    /// What the kernel programs have counted; nothing where there are none.
    pub(super) fn counters(&self) -> Result<Vec<(Hook, capture::live::Counters)>, Error> {
        self.live.as_ref().map_or_else(|| Ok(Vec::new()), |live| live.counters().map(Vec::from))
    }
}

/// Messages of HEP between frames.
struct Row<'a> {
    hep: Option<&'a mut Hep>,
    /// One moment by both clocks.
    at: Instant,
    time: Timestamp,
    number: &'a mut u64,
    last: &'a mut Timestamp,
}

impl Row<'_> {
    /// Gives what came no later than `until`.
    fn heard_until(&mut self, until: Timestamp, take: Take<'_>) {
        let Some(hep) = &mut self.hep else { return };
        let ahead = until.as_nanos().saturating_sub(self.time.as_nanos());
        let by = Duration::from_nanos(ahead.unsigned_abs());
        let moment = if ahead < 0 { self.at.checked_sub(by) } else { self.at.checked_add(by) };
        while let Some(message) = moment.and_then(|moment| hep.take(moment)) {
            let since = message.at.saturating_duration_since(self.at);
            let before = self.at.saturating_duration_since(message.at);
            let nanos = |it: Duration| i64::try_from(it.as_nanos()).unwrap_or(i64::MAX);
            let came = self.time.as_nanos().saturating_add(nanos(since)).saturating_sub(nanos(before));
            let time = (*self.last).max(Timestamp::from_nanos(came));
            (*self.last, *self.number) = (time, *self.number + 1);
            let Received { src, dst, transport, ref bytes, .. } = message;
            let result = take(Heard::Hep(ByHep { time, frame: *self.number, src, dst, transport, bytes }));
            hep.done(message, result);
        }
    }

    /// Time and number of a frame of this time.
    fn next(&mut self, time: Timestamp) -> (Timestamp, u64) {
        (*self.last, *self.number) = (time.max(*self.last), *self.number + 1);
        (*self.last, *self.number)
    }
}
