//! Starts and ends, in order and not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use std::net::SocketAddrV4;

use super::inside::{self, Programs};
use super::peers::Peers;
use super::{END, Ground, Seen, holds};
use crate::children::{pause, wait_for};
use crate::collector::Collector;
use crate::daemon::{Metrics, transfer_of};
use crate::lab::{Side, address};

/// How often it is killed and started again.
const RESTARTS: usize = 100;
/// How often it attaches and detaches while packets are counted.
const ATTACHMENTS: usize = 8;
/// Between two of those packets.
const PACE: Duration = Duration::from_micros(300);
/// Holds them for seconds, if the receiver must wait for its CPU.
const BUFFER: usize = 64 << 20;

/// SIGTERM while an attempt is open.
pub(super) fn sigterm(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("sigterm")?;
    let collector = Collector::start(&lab)?;
    let mut subject = ground.plan(&lab).exporting(Collector::HTTP).start()?;
    let peers = Peers::new(&lab)?;
    peers.call("open")?.refer()?;
    subject.wait_count("sipobs_messages_total", &[], 5)?;
    let start = Instant::now();
    let (lines, said) = subject.stop(0, END)?;
    let took = start.elapsed();
    let transfer = transfer_of(&lines, "open").context("the open attempt was not settled")?;
    ensure!(transfer["outcome"] == "unknown", "it was settled as {}", transfer["outcome"]);
    ensure!(!said.contains("not delivered"), "{said}");
    collector.wait("its span", |spans| {
        spans.iter().any(|span| {
            span.attributes.get("sip.transfer.outcome").is_some_and(|outcome| outcome == "unknown")
        })
    })?;
    Ok(Seen::Passed(format!("exit 0 in {:.1} s", took.as_secs_f32())))
}

/// The same where nothing takes the spans.
pub(super) fn sigterm_without_collector(ground: &Ground) -> Result<Seen> {
    const FLUSH: Duration = Duration::from_millis(1500);
    let lab = Ground::lab("sigterm-dead")?;
    let plan = ground.plan(&lab).exporting("http://127.0.0.1:4999");
    let mut subject = plan.set("SIPOBS_OTLP__FLUSH", format!("{}ms", FLUSH.as_millis())).start()?;
    let peers = Peers::new(&lab)?;
    peers.call("open")?.refer()?;
    subject.wait_count("sipobs_messages_total", &[], 5)?;
    let start = Instant::now();
    let (lines, said) = subject.stop(1, END)?;
    let took = start.elapsed();
    ensure!(took < FLUSH + Duration::from_secs(5), "the end took {took:?}");
    ensure!(transfer_of(&lines, "open").is_some(), "the open attempt was not settled");
    let line = said.lines().find(|line| line.contains("not delivered")).context("it does not say so")?;
    let numbers: Vec<u64> =
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    holds(line, &["http://127.0.0.1:4999/v1/traces: ", " spans were not delivered", "left at the end"])?;
    // Behind the address: lost, of how many, and the last is what was left at the end.
    let (lost, made) = (numbers[numbers.len() - 6], numbers[numbers.len() - 5]);
    ensure!(lost > 0 && lost == made && numbers.last() == Some(&lost), "{line}");
    Ok(Seen::Passed(format!("exit 1 in {:.1} s, all {made} spans named as lost", took.as_secs_f32())))
}

/// What comes after SIGTERM, while a dead collector is waited for.
pub(super) fn watches_to_the_end(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("ends-watching")?;
    let plan = ground.plan(&lab).exporting("http://127.0.0.1:4999");
    let mut subject = plan.set("SIPOBS_OTLP__FLUSH", "4000ms").start()?;
    let peers = Peers::new(&lab)?;
    let early = peers.call("early")?;
    early.refer()?;
    early.transferred()?;
    subject.wait("a span waits", END, |subject| {
        Ok((subject.metrics()?.sum("sipobs_otlp_spans_waiting", &[])? > 0).then_some(()))
    })?;
    let before = subject.metrics()?.sum("sipobs_messages_total", &[])?;
    subject.signal(Signal::TERM)?;
    pause(Duration::from_millis(500))?;
    let late = peers.call("late")?;
    late.refer()?;
    late.transferred()?;
    // Its metrics are served until it is gone.
    subject.wait_count("sipobs_messages_total", &[], before + 9)?;
    ensure!(Programs::of(&lab)?.count() == 2, "detached before what waits was handed over");
    let (status, lines, said) = subject.over(END)?;
    ensure!(status.code() == Some(1), "sipobs ended with {status}:\n{said}");
    let late = transfer_of(&lines, "late").context("a call placed meanwhile was missed")?;
    ensure!(late["outcome"] == "succeeded", "it was settled as {}", late["outcome"]);

    let mut subject = ground.plan(&lab).exporting("http://127.0.0.1:4999").start()?;
    let call = peers.call("once more")?;
    call.refer()?;
    call.transferred()?;
    subject.wait("a span waits", END, |subject| {
        Ok((subject.metrics()?.sum("sipobs_otlp_spans_waiting", &[])? > 0).then_some(()))
    })?;
    subject.signal(Signal::TERM)?;
    pause(Duration::from_millis(500))?;
    let start = Instant::now();
    subject.stop(1, END)?;
    Ok(Seen::Passed(format!(
        "a call placed meanwhile is judged; a second SIGTERM ends it in {:.1} s",
        start.elapsed().as_secs_f32()
    )))
}

/// Killed and started again, over and over.
pub(super) fn killed_and_restarted(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("kill")?;
    ensure!(Programs::of(&lab)? == Programs::default(), "programs before there was a daemon");
    let mut before = Programs::default();
    for round in 0..RESTARTS {
        let subject = ground.plan(&lab).start()?;
        let programs = Programs::of(&lab)?;
        ensure!(
            programs.xdp.is_some() && programs.egress.len() == 1 && programs.count() == 2,
            "start {round}: {programs:?}"
        );
        ensure!(programs != before, "start {round}: the same programs as before");
        subject.kill()?;
        // The kernel takes links down as it takes the process down: at once, but not before the exit is seen.
        wait_for("the programs go", Duration::from_secs(2), || {
            Ok((Programs::of(&lab)?.count() == 0).then_some(()))
        })
        .with_context(|| format!("start {round}: {:?}", Programs::of(&lab)))?;
        before = programs;
    }
    Ok(Seen::Passed(format!("{RESTARTS} times over")))
}

/// Killed while a call is up.
pub(super) fn killed_midcall(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("kill-midcall")?;
    let peers = Peers::new(&lab)?;
    let mut subject = ground.plan(&lab).start()?;
    let call = peers.call("across")?;
    subject.wait_count("sipobs_messages_total", &[], 3)?;
    subject.kill()?;
    let mut subject = ground.plan(&lab).start()?;
    call.refer()?;
    call.transferred()?;
    subject.wait_count("sipobs_messages_total", &[], 6)?;
    let (lines, _) = subject.stop(0, END)?;
    let transfer = transfer_of(&lines, "across").context("the attempt was not found")?;
    ensure!(transfer["quality"]["midcall"].as_u64() > Some(0), "quality is {}", transfer["quality"]);
    ensure!(transfer["outcome"] == "succeeded", "it was settled as {}", transfer["outcome"]);
    Ok(Seen::Passed(format!("quality.midcall is {}", transfer["quality"]["midcall"])))
}

/// Numbered packets through the interface while programs come and go.
pub(super) fn attached_and_detached(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("attach")?;
    let to = SocketAddrV4::new(address(Side::Agent, 1), 7000);
    let receiver = inside::udp(&lab, Side::Agent, to)?;
    let sender = inside::udp(&lab, Side::Trunk, SocketAddrV4::new(address(Side::Trunk, 1), 7000))?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, BUFFER)?;
    receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
    let over = Arc::new(AtomicBool::new(false));
    let (stop, done) = (Arc::clone(&over), Arc::clone(&over));
    let sending = thread::spawn(move || -> std::io::Result<u32> {
        let mut number = 0_u32;
        while !stop.load(Ordering::Relaxed) {
            sender.send_to(&number.to_be_bytes(), to)?;
            number += 1;
            thread::sleep(PACE);
        }
        Ok(number)
    });
    let receiving = thread::spawn(move || {
        let mut numbers = Vec::new();
        let mut buffer = [0; 4];
        loop {
            match receiver.recv(&mut buffer) {
                Ok(_) => numbers.push(u32::from_be_bytes(buffer)),
                // Nothing has come for a while, and nothing more will.
                Err(_) if done.load(Ordering::Relaxed) => return numbers,
                Err(_) => {}
            }
        }
    });
    let cycles = || -> Result<Metrics> {
        let mut last = None;
        for _ in 0..ATTACHMENTS {
            let subject = ground.plan(&lab).start()?;
            pause(Duration::from_millis(100))?;
            last = Some(subject.metrics()?);
            subject.stop(0, END)?;
        }
        last.context("no scrape")
    };
    let metrics = cycles();
    over.store(true, Ordering::Relaxed);
    let panicked = |_| anyhow!("a thread panicked");
    let sent = sending.join().map_err(panicked)??;
    let numbers = receiving.join().map_err(panicked)?;
    let seen = metrics?.sum("sipobs_capture_frames_seen_total", &["hook=\"xdp\""])?;
    ensure!(seen > 0, "the programs saw none of the packets");
    let missing: Vec<u32> = (0..sent).filter(|number| numbers.binary_search(number).is_err()).collect();
    ensure!(
        missing.is_empty(),
        "{} of {sent} packets were lost, from {:?} on",
        missing.len(),
        missing.first()
    );
    ensure!(numbers.len() == sent as usize, "{sent} packets were sent and {} received", numbers.len());
    Ok(Seen::Passed(format!("{sent} packets sent and received over {ATTACHMENTS} attachments")))
}
