//! An HTTP server inside the lab that takes what the daemon's webhook sends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lab::{Lab, Side};

/// The server, on the loopback of the agent's namespace, for as long as this process lives.
pub(crate) struct Hook {
    taken: Arc<Mutex<Vec<Taken>>>,
    /// The daemon's configuration for it.
    pub(crate) config: PathBuf,
}

/// What it has taken, and when.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) record: Value,
    pub(crate) at: SystemTime,
    signed: bool,
}

impl Hook {
    /// Starts it. It refuses its first visitor, who has to come again.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let listener = lab.enter(Side::Agent, || Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let url = format!("http://{}/calls", listener.local_addr()?);
        let (secret, config) = (lab.dir.join("webhook.secret"), lab.dir.join("webhook.toml"));
        std::fs::write(&secret, "a secret of the lab's\n")?;
        std::fs::write(
            &config,
            format!("[webhook]\nurl = \"{url}\"\nsecret_file = \"{}\"\n", secret.display()),
        )?;
        let taken = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming().skip(1).flatten() {
                if let Ok(one) = take(stream) {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
            }
        });
        Ok(Self { taken, config })
    }

    /// Each attempt came with the id that it has elsewhere, and what its messages decided was there within two seconds.
    pub(crate) fn has_told(&self, lines: &[Value]) -> Result<()> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(taken.iter().all(|one| one.signed), "requests without a signature");
        let mut early = 0;
        for line in lines.iter().filter(|line| line["kind"] == "transfer") {
            let of = |kind: &str| {
                taken
                    .iter()
                    .filter(|one| one.record["id"] == line["id"] && one.record["kind"] == kind)
                    .collect::<Vec<_>>()
            };
            let finals = of("transfer");
            ensure!(finals.len() == 1 && finals[0].record == *line, "{}: {finals:?}", line["call_id"]);
            let notices = of("notice");
            let first = notices.iter().find(|one| one.record["outcome"] == line["outcome"]);
            let Some(first) = first else { continue };
            let said: &str = first.record["time"].as_str().context("no time")?;
            ensure!(first.at <= finals[0].at, "{}: the early word came last", line["call_id"]);
            early += u32::from(said <= line["ended"].as_str().unwrap_or_default());
        }
        ensure!(early >= 2, "{early} attempts were told of early: {taken:?}");
        Ok(())
    }
}

fn take(mut stream: TcpStream) -> Result<Taken> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(reader.read_line(&mut head)? > 0, "cut short");
    }
    let head = head.to_ascii_lowercase();
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
    let mut body = vec![0; value("content-length:").context("no length")?.parse()?];
    reader.read_exact(&mut body)?;
    let signed = value("x-sipobs-signature:").is_some_and(|value| value.contains("v1="));
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")?;
    Ok(Taken { record: serde_json::from_slice(&body)?, at: SystemTime::now(), signed })
}
