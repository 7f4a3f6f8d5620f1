//! A daemon under test: with any arguments and any environment, behind any other program, and not always in
//! good health.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::children::{Running, wait_for};
use crate::daemon::{METRICS, Metrics, get, json_lines};
use crate::lab::{AGENT_INTERFACE, Lab, Side};

/// Longer than any start or end should take on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(30);

/// How a daemon is to be started.
pub(crate) struct Plan<'a> {
    lab: &'a Lab,
    sipobs: PathBuf,
    name: &'static str,
    listen: String,
    arguments: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    behind: Vec<String>,
}

impl<'a> Plan<'a> {
    /// On the agent's end of the wire, without spans, JSONL beside its log.
    pub(crate) fn new(lab: &'a Lab, sipobs: &Path) -> Self {
        Self {
            lab,
            sipobs: sipobs.into(),
            name: "sipobs",
            listen: METRICS.into(),
            arguments: vec!["-i".into(), AGENT_INTERFACE.into()],
            variables: Vec::new(),
            behind: Vec::new(),
        }
    }

    /// The arguments after `run`, in place of the agent's interface.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(Into::into).collect();
        self
    }

    /// A field of the configuration.
    pub(crate) fn set(mut self, variable: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((variable.into(), value.into()));
        self
    }

    /// A second daemon in the same lab: with log, records and port of its own.
    pub(crate) fn named(mut self, name: &'static str, port: u16) -> Self {
        self.name = name;
        self.listen = format!("127.0.0.1:{port}");
        self
    }

    /// Started by `words`, which end where the daemon's own command line begins.
    pub(crate) fn behind<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.behind = words.into_iter().map(Into::into).collect();
        self
    }

    /// Verdicts soon, for rows that need one before the end.
    pub(crate) fn impatient(self) -> Self {
        self.set("SIPOBS_TIMERS__TARGET", "1s").set("SIPOBS_TIMERS__GRACE", "1s")
    }

    /// Spans by HTTP to `url`.
    pub(crate) fn exporting(self, url: &str) -> Self {
        self.impatient().set("SIPOBS_OTLP__ENDPOINT", url).set("SIPOBS_OTLP__PROTOCOL", "http/protobuf")
    }

    /// Starts it and waits until it captures.
    pub(crate) fn start(self) -> Result<Subject<'a>> {
        let mut subject = self.start_unready()?;
        subject.wait_ready(200, LIMIT)?;
        Ok(subject)
    }

    /// Starts it and waits until its server answers.
    pub(crate) fn start_unready(self) -> Result<Subject<'a>> {
        let (lab, listen, jsonl) = (self.lab, self.listen.clone(), self.file("jsonl"));
        let running = Running::start(self.name, self.command("run"), &self.file("log"))?;
        let mut subject = Subject { lab, running, listen, jsonl };
        subject.wait("it serves", LIMIT, |subject| {
            Ok(get(subject.lab, &subject.listen, "/healthz").is_ok().then_some(()))
        })?;
        Ok(subject)
    }

    /// Runs `sipobs run` where it must not get far: it must end with `exit`. Gives what it said.
    pub(crate) fn fails(self, exit: i32) -> Result<String> {
        self.ends("run", exit)
    }

    /// Runs `sipobs check` and gives what it said.
    pub(crate) fn checks(self, exit: i32) -> Result<String> {
        self.ends("check", exit)
    }

    fn ends(self, command: &str, exit: i32) -> Result<String> {
        let mut running = Running::start(self.name, self.command(command), &self.file("log"))?;
        let status = running.wait(LIMIT)?;
        let said = running.output()?;
        ensure!(status.code() == Some(exit), "sipobs {command} ended with {status}, not {exit}:\n{said}");
        Ok(said)
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut words: Vec<OsString> = self.behind.iter().map(Into::into).collect();
        words.extend([self.sipobs.clone().into(), subcommand.into()]);
        words.extend(self.arguments.iter().cloned());
        if subcommand == "run" {
            words.extend(["--format".into(), "none".into()]);
        }
        let mut command = self.lab.inside(Side::Agent, &words[0]);
        command.args(&words[1..]);
        command.env("SIPOBS_JSONL__PATH", self.file("jsonl")).env("SIPOBS_METRICS__LISTEN", &self.listen);
        // The gate's own; it would be taken for a slip.
        command.env_remove("SIPOBS_TEST_FAULT").env_remove("SIPOBS_TEST_CPU");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.lab.dir.join(format!("{}.{ending}", self.name))
    }
}

/// A daemon that was started.
pub(crate) struct Subject<'a> {
    lab: &'a Lab,
    running: Running,
    listen: String,
    jsonl: PathBuf,
}

impl Subject<'_> {
    /// Waits until `/readyz` answers so.
    pub(crate) fn wait_ready(&mut self, status: u16, limit: Duration) -> Result<()> {
        self.wait(&format!("/readyz answers {status}"), limit, |subject| {
            Ok((subject.readiness()?.0 == status).then_some(()))
        })
    }

    /// What `/readyz` answers now: status and text.
    pub(crate) fn readiness(&self) -> Result<(u16, String)> {
        get(self.lab, &self.listen, "/readyz")
    }

    /// What `/healthz` answers now.
    pub(crate) fn alive(&self) -> Result<u16> {
        Ok(get(self.lab, &self.listen, "/healthz")?.0)
    }

    /// Waits until it has said `text`.
    pub(crate) fn wait_said(&mut self, text: &str) -> Result<()> {
        self.wait(&format!("it says {text:?}"), LIMIT, |subject| {
            Ok(subject.running.output()?.contains(text).then_some(()))
        })
    }

    /// Waits until a counter has at least this value, and gives the scrape.
    pub(crate) fn wait_count(&mut self, name: &str, labels: &[&str], least: u64) -> Result<Metrics> {
        self.wait(&format!("{name}{labels:?} comes to {least}"), LIMIT, |subject| {
            let metrics = subject.metrics()?;
            Ok((metrics.sum(name, labels).unwrap_or(0) >= least).then_some(metrics))
        })
    }

    /// Waits for an answer to `question`; fails with the daemon's own words if it ends meanwhile.
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut question: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let answer = wait_for(what, limit, || {
            if let Some(status) = self.running.ended()? {
                bail!("sipobs ended with {status}");
            }
            question(self)
        });
        answer.with_context(|| format!("sipobs said:\n{}", self.running.tail(20)))
    }

    /// A scrape.
    pub(crate) fn metrics(&self) -> Result<Metrics> {
        let (status, text) = get(self.lab, &self.listen, "/metrics")?;
        ensure!(status == 200, "/metrics answers {status}");
        Metrics::parse(text)
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> Result<String> {
        self.running.output()
    }

    /// What it has found so far.
    pub(crate) fn lines(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.jsonl).unwrap_or_default();
        json_lines(text.rfind('\n').map_or("", |end| &text[..end]))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.running.signal(signal)
    }

    /// Ends it in order: it must exit with `exit` within `limit`. Gives what it has found and said.
    pub(crate) fn stop(self, exit: i32, limit: Duration) -> Result<(Vec<Value>, String)> {
        self.signal(Signal::TERM)?;
        let (status, lines, said) = self.over(limit)?;
        ensure!(status.code() == Some(exit), "sipobs ended with {status}, not {exit}:\n{said}");
        Ok((lines, said))
    }

    /// Waits for the end that it was told to come to. Gives what it has found and said.
    pub(crate) fn over(mut self, limit: Duration) -> Result<(ExitStatus, Vec<Value>, String)> {
        let status = self.running.wait(limit)?;
        Ok((status, self.lines()?, self.said()?))
    }

    /// Ends it without a word.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        let status = self.running.wait(LIMIT)?;
        ensure!(status.signal() == Some(9), "sipobs ended with {status} before it was killed");
        Ok(())
    }
}
