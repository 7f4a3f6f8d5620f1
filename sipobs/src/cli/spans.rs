//! The OTLP sink with the runtime it needs; nothing where none is configured.

#[cfg(all(feature = "live", not(feature = "otlp")))]
pub(super) use disabled::Left;
#[cfg(not(feature = "otlp"))]
pub(super) use disabled::{Spans, WhenFull};
#[cfg(all(feature = "live", feature = "otlp"))]
pub(super) use enabled::Left;
#[cfg(feature = "otlp")]
pub(super) use enabled::{Spans, WhenFull};

#[cfg(feature = "otlp")]
mod enabled {
    use std::sync::Arc;
    #[cfg(feature = "live")]
    use std::time::Duration;

    use anyhow::Context as _;
    use sipobs::config::{Config, Endpoint};
    #[cfg(feature = "live")]
    pub(crate) use sipobs::export::otlp::Left;
    pub(crate) use sipobs::export::otlp::WhenFull;
    use sipobs::export::otlp::{Counters, Otlp};
    use sipobs::record::Output;
    use tokio::runtime::{Builder, Runtime};

    #[cfg(feature = "live")]
    use crate::cli::note;
    use crate::cli::say;

    /// Spans on their way out.
    pub(crate) struct Spans {
        otlp: Otlp,
        url: Endpoint,
        runtime: Runtime,
    }

    impl Spans {
        /// Starts the export if one is configured; each of its threads does `first` before anything else.
        pub(crate) fn start(
            config: &Config,
            when_full: WhenFull,
            first: impl Fn() + Send + Sync + 'static,
        ) -> anyhow::Result<Option<Self>> {
            let Some(url) = config.otlp.traces_url() else { return Ok(None) };
            let runtime = Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("otlp")
                .on_thread_start(first)
                .enable_all()
                .build()
                .context("cannot start the OTLP export")?;
            let otlp = Otlp::start(&config.otlp, url.expose(), when_full, runtime.handle())
                .map_err(|error| anyhow::anyhow!("{}", url.hide(&error.to_string())))?;
            Ok(Some(Self { otlp, url, runtime }))
        }

        /// Names the trace that an output's spans will be in.
        pub(crate) fn name(&self, output: &mut Output) {
            self.otlp.name(output);
        }

        pub(crate) fn output(&mut self, output: &Output) {
            self.otlp.output(output);
        }

        /// The end is near: what waits is tried again at once, and then every now and then.
        #[cfg(feature = "live")]
        pub(crate) fn hurry(&mut self) {
            self.otlp.hurry();
        }

        /// Only the last outputs come now: waits for room from now on, within the bound of a flush, and no longer than
        /// `silence` for a sign of life from the collector.
        #[cfg(feature = "live")]
        pub(crate) fn end(&mut self, silence: Duration) {
            self.otlp.end(silence);
        }

        /// Spans that wait, and those that have left the queue before them.
        #[cfg(feature = "live")]
        pub(crate) fn waiting(&self) -> (u64, u64) {
            let counters = self.otlp.counters();
            (counters.waiting(), counters.handed_over())
        }

        /// What has become of them so far.
        #[cfg(feature = "live")]
        pub(crate) fn counts(&self) -> Option<sipobs::export::metrics::SpanCounts> {
            Some((&*self.otlp.counters()).into())
        }

        /// A sentence about requests that have failed.
        #[cfg(feature = "live")]
        pub(crate) fn failure(&self) -> String {
            let (counters, url) = (self.otlp.counters(), &self.url);
            format!(
                "{url}: requests to the collector have failed ({} so far; the last: {}); {} spans wait, {} were dropped",
                counters.failed_requests(),
                url.hide(&counters.last_failure()),
                counters.waiting(),
                counters.drops().sum()
            )
        }

        /// Takes up what an earlier run has left. Gives how many spans that is.
        #[cfg(feature = "live")]
        pub(crate) fn take_up(&mut self, bytes: &[u8]) -> anyhow::Result<usize> {
            Ok(self.otlp.take_up(bytes)?)
        }

        /// No call of an earlier run goes on.
        #[cfg(feature = "live")]
        pub(crate) fn finish_calls(&mut self) {
            self.otlp.finish_calls();
        }

        /// Hands over what it can, and the rest to `keep`, for another run; says so if some was lost. Gives how many
        /// arrived, and how many were lost.
        #[cfg(feature = "live")]
        pub(crate) fn leave(self, keep: impl FnOnce(Left) -> anyhow::Result<()>) -> (u64, u64) {
            let (counters, left) = self.otlp.leave();
            self.runtime.shutdown_background();
            let spans = left.spans() as u64;
            if left.is_empty() {
                return report(&self.url, &counters, 0);
            }
            match keep(left) {
                Ok(()) => {
                    if spans > 0 {
                        note(format_args!("{spans} spans are left to the next start"));
                    }
                    report(&self.url, &counters, spans)
                }
                Err(error) => {
                    say(&error);
                    report(&self.url, &counters, 0)
                }
            }
        }

        /// Hands over what is left; says so if some was lost. Gives how many arrived, and how many were lost.
        pub(crate) fn finish(self) -> (u64, u64) {
            let counters: Arc<Counters> = self.otlp.shutdown();
            // A name that nobody resolves keeps a thread of the runtime waiting for long.
            self.runtime.shutdown_background();
            report(&self.url, &counters, 0)
        }
    }

    /// Says which spans were lost; `kept` of those that were left at the end are not. Gives how many arrived, and how many
    /// were lost.
    fn report(url: &Endpoint, counters: &Counters, kept: u64) -> (u64, u64) {
        let mut drops = counters.drops();
        drops.shutdown = drops.shutdown.saturating_sub(kept);
        let came_to = (counters.acknowledged(), drops.sum());
        if drops.sum() == 0 {
            return came_to;
        }
        let why = counters.last_failure();
        let why = if why.is_empty() { why } else { format!("; the last failure: {}", url.hide(&why)) };
        say(&anyhow::anyhow!(
            "{}: {} of {} spans were not delivered (queue full {}, refused {}, collector away {}, \
             left at the end {}){why}",
            url,
            drops.sum(),
            counters.spans(),
            drops.queue_full,
            drops.rejected,
            drops.gave_up,
            drops.shutdown,
        ));
        came_to
    }
}

#[cfg(not(feature = "otlp"))]
mod disabled {
    use sipobs::config::Config;
    use sipobs::record::Output;

    /// This build exports no spans.
    pub(crate) enum Spans {}

    /// And leaves none.
    #[cfg(feature = "live")]
    pub(crate) enum Left {}

    #[cfg(feature = "live")]
    impl Left {
        pub(crate) const MARK: &'static [u8] = b"sipobs spans\n";

        pub(crate) fn write(self, _to: impl std::io::Write) -> std::io::Result<()> {
            match self {}
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) enum WhenFull {
        #[cfg(feature = "live")]
        Drop,
        Wait,
    }

    impl Spans {
        pub(crate) fn start(
            config: &Config,
            _when_full: WhenFull,
            _first: impl Fn() + Send + Sync + 'static,
        ) -> anyhow::Result<Option<Self>> {
            match config.otlp.traces_url() {
                None => Ok(None),
                Some(_) => anyhow::bail!("this build exports no spans: build it with the feature `otlp`"),
            }
        }

        pub(crate) fn name(&self, _output: &mut Output) {
            match *self {}
        }

        pub(crate) fn output(&mut self, _output: &Output) {
            match *self {}
        }

        #[cfg(feature = "live")]
        pub(crate) fn hurry(&mut self) {
            match *self {}
        }

        #[cfg(feature = "live")]
        pub(crate) fn end(&mut self, _silence: std::time::Duration) {
            match *self {}
        }

        #[cfg(feature = "live")]
        pub(crate) fn waiting(&self) -> (u64, u64) {
            match *self {}
        }

        #[cfg(feature = "live")]
        pub(crate) fn counts(&self) -> Option<sipobs::export::metrics::SpanCounts> {
            match *self {}
        }

        #[cfg(feature = "live")]
        pub(crate) fn failure(&self) -> String {
            match *self {}
        }

        #[cfg(feature = "live")]
        pub(crate) fn take_up(&mut self, _bytes: &[u8]) -> anyhow::Result<usize> {
            match *self {}
        }

        #[cfg(feature = "live")]
        pub(crate) fn finish_calls(&mut self) {
            match *self {}
        }

        #[cfg(feature = "live")]
        pub(crate) fn leave(self, _keep: impl FnOnce(Left) -> anyhow::Result<()>) -> (u64, u64) {
            match self {}
        }

        pub(crate) fn finish(self) -> (u64, u64) {
            match self {}
        }
    }
}
