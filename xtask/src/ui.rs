//! A Jaeger page for the demo's traces. Only with the feature `ui`; [`ensure_built_in`] sees to it.

use anyhow::Result;

#[cfg(feature = "ui")]
pub(crate) use page::Page;

/// Returns if the page is part of this build. If not, starts a build of which it is, in our place.
pub(crate) fn ensure_built_in() -> Result<()> {
    #[cfg(feature = "ui")]
    return Ok(());
    #[cfg(not(feature = "ui"))]
    {
        use std::os::unix::process::CommandExt;

        println!("Building the Jaeger page …");
        let mut cargo = std::process::Command::new("cargo");
        cargo.args(["run", "--quiet", "--locked", "--package", "xtask", "--features", "ui", "--"]);
        cargo.args(std::env::args_os().skip(1));
        let error = cargo.env("PATH", crate::setup::search_path()).current_dir(crate::root()).exec();
        Err(anyhow::Error::new(error).context("cargo run --package xtask --features ui"))
    }
}

#[cfg(not(feature = "ui"))]
pub(crate) use none::Page;

#[cfg(not(feature = "ui"))]
mod none {
    use anyhow::Result;

    use crate::lab::Lab;

    /// Never made: [`super::ensure_built_in`] has left this build by then.
    pub(crate) enum Page {}

    impl Page {
        pub(crate) fn open(_lab: Option<&Lab>) -> Result<Self> {
            anyhow::bail!("built without the feature ui")
        }

        pub(crate) fn endpoint(&self) -> &'static str {
            match *self {}
        }

        pub(crate) fn stay(self) -> Result<()> {
            match self {}
        }
    }
}

#[cfg(feature = "ui")]
mod page {
    use std::net::{SocketAddr, TcpListener};
    use std::time::Duration;

    use anyhow::Result;
    use otlp_embedded::{Config, State, TraceServiceImpl, TraceServiceServer, ui_app};
    use tokio::runtime::Runtime;
    use tokio::task::JoinHandle;

    use crate::children::pause;
    use crate::lab::{Lab, Side};

    /// Jaeger's own.
    const PAGE_PORT: u16 = 16686;

    /// The page, and a collector that feeds it.
    pub(crate) struct Page {
        runtime: Runtime,
        collector: JoinHandle<()>,
        endpoint: String,
        address: SocketAddr,
    }

    impl Page {
        /// Serves the page on our own loopback, and takes spans on that of the lab's agent, or on our own.
        pub(crate) fn open(lab: Option<&Lab>) -> Result<Self> {
            let runtime = Runtime::new()?;
            let spans = match lab {
                Some(lab) => bind_inside(lab)?,
                None => TcpListener::bind(("127.0.0.1", 0))?,
            };
            let endpoint = format!("http://{}", spans.local_addr()?);
            let page = TcpListener::bind(("127.0.0.1", PAGE_PORT))
                .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
            let address = page.local_addr()?;
            spans.set_nonblocking(true)?;
            page.set_nonblocking(true)?;
            let state = State::new(Config { max_length: 1_000, max_memory_usage: 64 << 20 });
            let service = TraceServiceServer::new(TraceServiceImpl::new(state.clone()));
            let _inside = runtime.enter();
            let page = tokio::net::TcpListener::from_std(page)?;
            let spans = tokio::net::TcpListener::from_std(spans)?;
            runtime.spawn(async move {
                if let Err(error) = axum::serve(page, ui_app(state, "/")).await {
                    eprintln!("the page: {error}");
                }
            });
            let collector = runtime.spawn(async move {
                let incoming = tonic::transport::server::TcpIncoming::from(spans);
                if let Err(error) = tonic::transport::Server::builder()
                    .add_service(service)
                    .serve_with_incoming(incoming)
                    .await
                {
                    eprintln!("the collector: {error}");
                }
            });
            drop(_inside);
            Ok(Self { runtime, collector, endpoint, address })
        }

        /// Where spans are to be sent, by gRPC.
        pub(crate) fn endpoint(&self) -> &str {
            &self.endpoint
        }

        /// Keeps the page open until Ctrl-C.
        pub(crate) fn stay(self) -> Result<()> {
            // Nothing more comes, and the socket would keep the lab's namespace alive.
            self.collector.abort();
            println!("\nThe traces: http://{}/search?service=sipobs — until Ctrl-C.", self.address);
            while pause(Duration::from_secs(1)).is_ok() {}
            self.runtime.shutdown_background();
            Ok(())
        }
    }

    /// A socket stays in the namespace it was made in, so a thread goes there to make it.
    fn bind_inside(lab: &Lab) -> Result<TcpListener> {
        lab.enter(Side::Agent, || Ok(TcpListener::bind(("127.0.0.1", 4317))?))
    }
}
