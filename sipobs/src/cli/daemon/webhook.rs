//! The webhook with the runtime it needs, behind a queue of its own; nothing where none is configured.

#[cfg(not(feature = "webhook"))]
pub(super) use disabled::{queued, start};
#[cfg(feature = "webhook")]
pub(super) use enabled::{queued, start};

#[cfg(feature = "webhook")]
mod enabled {
    use anyhow::Context as _;
    use sipobs::config::Config;
    use sipobs::export::webhook::Webhook;
    use tokio::runtime::Builder;

    use crate::cli::daemon::queued_sink::QueuedSink;

    /// Makes the sink if one is configured; each thread that talks to the server does `first` before anything else.
    pub(in crate::cli::daemon) fn start(
        config: &Config,
        first: impl Fn() + Send + Sync + 'static,
    ) -> anyhow::Result<Option<Webhook>> {
        let Some(url) = &config.webhook.url else { return Ok(None) };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("webhook")
            .on_thread_start(first)
            .enable_all()
            .build()
            .context("cannot start the webhook")?;
        Ok(Some(Webhook::new(&config.webhook, url, config.otlp.host(), runtime)?))
    }

    /// Behind a queue, for the outputs that are sent.
    pub(in crate::cli::daemon) fn queued(webhook: Webhook) -> anyhow::Result<QueuedSink> {
        QueuedSink::start_for(Webhook::wants, "webhook", Box::new(webhook))
    }
}

#[cfg(not(feature = "webhook"))]
mod disabled {
    use sipobs::config::Config;

    use crate::cli::daemon::queued_sink::QueuedSink;

    /// This build has no webhook.
    #[derive(Clone, Copy)]
    pub(in crate::cli::daemon) enum Webhook {}

    pub(in crate::cli::daemon) fn start(
        config: &Config,
        _first: impl Fn() + Send + Sync + 'static,
    ) -> anyhow::Result<Option<Webhook>> {
        match config.webhook.url {
            None => Ok(None),
            Some(_) => anyhow::bail!("this build has no webhook: build it with the feature `webhook`"),
        }
    }

    pub(in crate::cli::daemon) fn queued(webhook: Webhook) -> anyhow::Result<QueuedSink> {
        match webhook {}
    }
}
