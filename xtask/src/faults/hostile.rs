//! What anybody beside the daemon can do to it without any right: connect to its server, and use up what it needs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::peers::Peers;
use super::subject::{Plan, Subject};
use super::{END, Ground, Seen, holds};
use crate::children::{pause, wait_for};
use crate::daemon::{Frames, METRICS, exchange, get};
use crate::lab::{Lab, Side, address, ip};

/// The usual limit on open files.
const USUAL: [&str; 2] = ["prlimit", "--nofile=1024:1024"];
/// What a kubelet's probe waits for at most, unless told otherwise, is a second; this machine may be busy.
const PROBE: Duration = Duration::from_secs(5);

/// Connections that ask for nothing, more than the daemon may have files.
pub(super) fn idle(ground: &Ground) -> Result<Seen> {
    const COUNT: usize = 1100;
    allow_files(2 * COUNT as u64)?;
    let lab = Ground::lab("idle")?;
    let mut subject = ground.plan(&lab).impatient().behind(USUAL).start()?;
    let peers = Peers::new(&lab)?;
    let call = peers.call("beside")?;
    let held = connect(&lab, COUNT)?;
    for _ in 0..10 {
        answers(&lab)?;
        pause(Duration::from_millis(300))?;
    }
    call.refer()?;
    call.transferred()?;
    subject.wait("the verdict", END * 2, |subject| Ok((!subject.lines()?.is_empty()).then_some(())))?;
    let metrics = subject.metrics()?;
    let pushed_out = metrics.sum("sipobs_http_connections_pushed_out_total", &[])?;
    ensure!(pushed_out > COUNT as u64 / 2, "{pushed_out} made way");
    ensure!(metrics.sum("sipobs_housekeeping_failures_total", &[])? == 0, "{}", metrics.text);
    ensure!(Frames::accounted(&metrics)?.lost == 0, "frames were lost");
    drop(held);
    subject.stop(0, END)?;
    Ok(Seen::Passed(format!("{pushed_out} made way; probes are answered, a call is judged")))
}

/// Connections that send a byte now and then, as slow as they like, for ever.
pub(super) fn slow(ground: &Ground) -> Result<Seen> {
    const COUNT: usize = 500;
    allow_files(2 * COUNT as u64)?;
    let lab = Ground::lab("slow-clients")?;
    let subject = ground.plan(&lab).behind(USUAL).start()?;
    let start = Instant::now();
    let mut held = connect(&lab, COUNT)?;
    for stream in &mut held {
        stream.set_nonblocking(true)?;
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    }
    wait_for("all of them are closed", Duration::from_secs(30), || {
        held.retain_mut(|stream| stream.write_all(b"x").is_ok() && !is_closed(stream));
        answers(&lab)?;
        Ok(held.is_empty().then_some(()))
    })?;
    let took = start.elapsed();
    subject.stop(0, END)?;
    Ok(Seen::Passed(format!("after {:.1} s, and probes are answered meanwhile", took.as_secs_f32())))
}

/// Requests in a stranger's name, as a page in a browser makes them that has its name resolved to 127.0.0.1.
pub(super) fn rebinding(ground: &Ground) -> Result<Seen> {
    const OURS: [&str; 6] =
        ["127.0.0.1:9464", "127.0.0.1", "localhost:9464", "LOCALHOST.", "[::1]:9464", "[::1]"];
    const FOREIGN: [&str; 8] = [
        "evil.example",
        "evil.example:9464",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0:9464",
        "[::]",
        "192.0.2.1",
        "sipobs.example",
    ];
    const ODD: [&str; 5] = [
        "",
        "::1",
        "localhost@evil.example",
        "evil.example\r\nHost: localhost",
        "localhost\r\nHost: evil.example",
    ];
    let lab = Ground::lab("rebinding")?;
    let ask = |to: &str, host: &str, wanted: u16| -> Result<()> {
        let (status, text) = exchange(
            &lab,
            to,
            &format!("GET /metrics HTTP/1.1\r\nConnection: close\r\nHost: {host}\r\n\r\n"),
        )?;
        ensure!(status == wanted, "{host:?} at {to} is answered {status}, not {wanted}");
        ensure!(text.contains("sipobs_") == (status == 200), "{host:?} is answered {status}: {text}");
        Ok(())
    };
    let subject = ground.plan(&lab).start()?;
    for (hosts, status) in [(&FOREIGN[..], 421), (&ODD, 400), (&OURS, 200)] {
        hosts.iter().try_for_each(|host| ask(METRICS, host, status))?;
    }
    let by_target = "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    ensure!(exchange(&lab, METRICS, by_target)?.0 == 421, "the request's target is not looked at");
    subject.stop(0, END)?;

    // From the network anybody may ask in any name: a scraper knows it by that of a Service, perhaps.
    let plan = ground.plan(&lab).set("SIPOBS_METRICS__LISTEN", "0.0.0.0:9464");
    let plan = plan.set("SIPOBS_METRICS__INSECURE", "true");
    let subject = plan.set("SIPOBS_METRICS__HOSTS", "[\"sipobs.example\"]").start()?;
    ask(&format!("{}:9464", address(Side::Agent, 0)), "sipobs.monitoring.svc", 200)?;
    ask(METRICS, "sipobs.example:80", 200)?;
    ask(METRICS, "sipobs.monitoring.svc", 421)?;
    subject.stop(0, END)?;
    let refused = FOREIGN.len() + ODD.len();
    Ok(Seen::Passed(format!("{refused} strangers' names are refused, {} of its own are not", OURS.len())))
}

/// Beyond loopback, and who asks has no token.
pub(super) fn token(ground: &Ground) -> Result<Seen> {
    const TOKEN: &str = "q5ecret-0123456789";
    let lab = Ground::lab("token")?;
    let everywhere = || ground.plan(&lab).set("SIPOBS_METRICS__LISTEN", "0.0.0.0:9464");
    let said = everywhere().fails(2)?;
    holds(&said, &["metrics.listen: other hosts can reach 0.0.0.0:9464", "metrics.insecure"])?;
    let subject = everywhere().set("SIPOBS_METRICS__TOKEN", TOKEN).start()?;
    let from_outside = format!("{}:9464", address(Side::Agent, 0));
    for at in [&*from_outside, METRICS] {
        for (path, header, wanted) in [
            ("/metrics", String::new(), 401),
            ("/metrics", "Authorization: Bearer q5ecret-0123456780\r\n".to_owned(), 401),
            ("/metrics", format!("Authorization: Bearer {TOKEN}\r\n"), 200),
            ("/healthz", String::new(), 200),
            ("/readyz", String::new(), 200),
        ] {
            let request =
                format!("GET {path} HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n{header}\r\n");
            let (status, text) = exchange(&lab, at, &request)?;
            ensure!(status == wanted, "{path} at {at} is answered {status}, not {wanted}: {text}");
            ensure!(text.contains("sipobs_") == (path == "/metrics" && status == 200), "{path}: {text}");
        }
    }
    let check = |plan: Plan<'_>, exit| plan.named("check", 9464).arguments(&["--live"]).checks(exit);
    holds(&check(everywhere().set("SIPOBS_METRICS__TOKEN", TOKEN), 0)?, &["is accounted for"])?;
    holds(&check(ground.plan(&lab), 3)?, &["to those alone who show its token"])?;
    let (_, said) = subject.stop(0, END)?;
    ensure!(!said.contains("q5ecret"), "the log tells the token:\n{said}");
    Ok(Seen::Passed("no start without one; probes take none, /metrics and check --live do".into()))
}

/// More interfaces than it has files for.
pub(super) fn few_files(ground: &Ground) -> Result<Seen> {
    const PAIRS: usize = 60;
    let lab = Ground::lab("few-files")?;
    let few = ["prlimit", "--nofile=200:200"];
    let mut subject = ground.plan(&lab).arguments(&["-i", "*"]).behind(few).start()?;
    let agent = lab.namespace_file(Side::Agent);
    let agent = agent.file_name().and_then(|name| name.to_str()).context("no name")?;
    for number in 0..PAIRS {
        let (one, other) = (format!("a{number}"), format!("b{number}"));
        ip(&["-n", agent, "link", "add", &one, "type", "veth", "peer", "name", &other])?;
        ip(&["-n", agent, "link", "set", &one, "up"])?;
    }
    subject.wait_said("RLIMIT_NOFILE")?;
    let held = connect(&lab, 300)?;
    for _ in 0..10 {
        answers(&lab)?;
        pause(Duration::from_millis(300))?;
    }
    let metrics = subject.metrics()?;
    let attached = metrics.sum("sipobs_capture_attached", &[])?;
    ensure!((2..4 * PAIRS as u64).contains(&attached), "{attached} programs are attached");
    ensure!(metrics.sum("sipobs_housekeeping_failures_total", &[])? == 0, "{}", metrics.text);
    drop(held);
    // The configuration is read all the same.
    subject.signal(Signal::HUP)?;
    subject.wait_said("configuration reloaded: nothing changed")?;
    subject.stop(0, END)?;
    Ok(Seen::Passed(format!("{attached} programs attached, the rest refused; nothing else fails")))
}

/// What the daemon looks at four times a second can't be looked at for a while.
pub(super) fn housekeeping(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("housekeeping")?;
    let watched = "/sys/devices/system/cpu/online";
    let failing = "inject=openat:error=EMFILE:when=12..40";
    let behind =
        ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", watched, "-e", "trace=openat", "-e", failing];
    let mut subject = ground.plan(&lab).impatient().behind(behind).start()?;
    let metrics = subject.wait_count("sipobs_housekeeping_failures_total", &[], 3)?;
    ensure!(metrics.sum("sipobs_capture_attached", &[])? == 2, "{}", metrics.text);
    let call = Peers::new(&lab)?;
    let call = call.call("meanwhile")?;
    call.refer()?;
    call.transferred()?;
    subject.wait("the verdict", END * 2, |subject| Ok((!subject.lines()?.is_empty()).then_some(())))?;
    ensure!(subject.readiness()?.0 == 200, "it is not ready");
    settled(&mut subject)?;
    let (_, said) = subject.stop(0, END)?;
    holds(&said, &["Too many open files (os error 24): the capture goes on, and it is tried again"])?;
    ensure!(said.matches("Too many open files").count() == 1, "it repeats itself:\n{said}");
    Ok(Seen::Passed("said once, counted, tried again until it goes; a call is judged meanwhile".into()))
}

/// Waits until two scrapes half a second apart tell of no further failure.
fn settled(subject: &mut Subject<'_>) -> Result<()> {
    let mut before = u64::MAX;
    subject.wait("it can be looked at again", END * 2, |subject| {
        let failures = subject.metrics()?.sum("sipobs_housekeeping_failures_total", &[])?;
        let is_over = std::mem::replace(&mut before, failures) == failures;
        pause(Duration::from_millis(600))?;
        Ok(is_over.then_some(()))
    })
}

/// `/healthz` and `/readyz` answer as to a probe.
fn answers(lab: &Lab) -> Result<()> {
    for path in ["/healthz", "/readyz"] {
        let start = Instant::now();
        let (status, text) = get(lab, METRICS, path)?;
        ensure!(status == 200, "{path} answers {status}: {text}");
        ensure!(start.elapsed() < PROBE, "{path} takes {:?}", start.elapsed());
    }
    Ok(())
}

/// So many connections to the daemon, which may close them.
fn connect(lab: &Lab, count: usize) -> Result<Vec<TcpStream>> {
    lab.enter(Side::Agent, move || {
        (0..count).map(|_| TcpStream::connect(METRICS).context("connecting to /metrics")).collect()
    })
}

fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 512]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// Lets this process have as many files open.
fn allow_files(count: u64) -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < count) {
        let current = Some(maximum.map_or(count, |maximum| maximum.min(count)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).context("more open files (ulimit -n)")?;
    }
    Ok(())
}
