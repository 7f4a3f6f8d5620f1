//! `cargo xtask record-cases`: places the call of a golden case between real SIP stacks and records it.
//!
//! A case that has a `play.txt` is recorded, not written. It names the hosts, each a network namespace on one
//! switch, and says who says what to whom, when:
//!
//! ```text
//! # 202, then silence                        the first comment is what the case is about
//! host T 10.88.0.10 trunk                    a host, and what the drawing calls it
//! host L 10.88.0.20 agent
//! host C 10.88.0.30 target
//! mtu 600                                    smaller packets than Ethernet's
//! first-fragments                            record no others
//! tap L                                      record what L sees; without it, what crosses the switch
//! leg a T L from=+15105550138 to=+15105550100
//! leg b T:5070 C from=+15105550138 to=+15105550177
//! leg r L T of=a tcp                         a connection of its own for some messages of a's dialog
//! 0     a T>L INVITE sdp                     at 0 s, from T to L
//! +     a L>T 200 sdp                        as soon as L has received what is before
//! +0.4  a T>L ACK                            0.4 s after the line before
//! ```
//!
//! Each end of a leg is one SIPp, whose scenario is what that end sends and waits for. Words after a request:
//! `sdp`, `sdp=sendonly`, `frag=100 Trying` (to the end, before `|`), `uri=…`, `again` (the same bytes once
//! more), `auth` (with credentials), `once` (SIPp does not retransmit it; else it says
//! nothing more before the answer). After `|` come headers. A host can be another stack instead, which plays no lines but takes orders:
//!
//! ```text
//! baresip A +15105550138                     a user agent that accepts every call
//! linphone B +15105550100                    another one
//! kamailio P proxy.cfg                       with that file of xtask/scenarios
//! 2     A: dial sip:+15105550100@10.88.0.12  an order of that stack's own
//! ```
//!
//! Beside `input.pcap`, the chore writes the case's `README.md` with the ladder as it was recorded. What it
//! should be is said by a person, in `expect.txt`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::children::pause;
use crate::setup::{self, Need};

mod drawing;
pub(crate) mod hep;
mod message;
mod peers;
mod play;
mod sipp;
mod stage;

use play::{Order, Play};
use stage::Stage;

/// Larger captures say no more.
const SIZE_LIMIT: usize = 40_000;
/// How long to go on recording after the last event.
const REST: Duration = Duration::from_millis(1_500);
/// No case is longer.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Args)]
pub(crate) struct Options {
    /// Only cases whose names begin so.
    names: Vec<String>,
    /// Record nothing; only write the READMEs anew from the captures that are there.
    #[arg(long)]
    draw: bool,
}

/// Records the cases below `root` that `options` names.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if !options.draw {
        setup::ensure(&[Need::Lab, Need::Checks, Need::Peers])?;
    }
    let mut cases = Vec::new();
    for entry in fs::read_dir(root).with_context(|| root.display().to_string())? {
        cases.push(entry?.path());
    }
    cases.retain(|case| case.join("play.txt").is_file() && options.names(&name_of(case)));
    cases.sort();
    ensure!(!cases.is_empty(), "no case of that name has a play.txt");
    for case in &cases {
        let name = name_of(case);
        make(case, &name, options.draw).with_context(|| name)?;
    }
    Ok(())
}

impl Options {
    fn names(&self, case: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| case.starts_with(name.as_str()))
    }
}

fn name_of(case: &Path) -> String {
    case.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn make(case: &Path, name: &str, draw: bool) -> Result<()> {
    let play = Play::read(&fs::read_to_string(case.join("play.txt"))?, name)?;
    let input = case.join("input.pcap");
    let capture = if draw { fs::read(&input)? } else { record(&play)? };
    let readme = readme(&play, &drawing::ladder(&capture, &play)?)?;
    fs::write(input, &capture)?;
    fs::write(case.join("README.md"), readme)?;
    println!("{}: {} bytes", case.display(), capture.len());
    Ok(())
}

fn record(play: &Play) -> Result<Vec<u8>> {
    let stage = Stage::build(&crate::scratch(&format!("cases/{}", play.name))?, play)?;
    let file = stage.dir.join("input.pcap");
    perform(&stage, play, &file)?;
    let capture = fs::read(&file)?;
    ensure!(capture.len() <= SIZE_LIMIT, "{} bytes; a case should be smaller", capture.len());
    Ok(capture)
}

/// Starts all peers, then dials and gives orders in their time, and waits for the ends of all SIPp.
fn perform(stage: &Stage, play: &Play, capture: &Path) -> Result<()> {
    let tap = stage.tap(play, capture)?;
    let mut stacks = peers::start(stage, play)?;
    let mut sipps = Vec::new();
    let mut timeline = Vec::new();
    for actor in sipp::actors(play)? {
        if actor.dials {
            timeline.push((actor.starts, Event::Dial(actor)));
        } else {
            sipps.push(actor.start(stage, play)?);
            stage.wait_listening(&actor.host, &actor.listens(play)?)?;
        }
    }
    timeline.extend(play.orders.iter().map(|order| (order.at, Event::Order(order))));
    timeline.sort_by_key(|(at, _)| *at);
    let start = Instant::now();
    for (at, event) in timeline {
        pause(at.saturating_sub(start.elapsed()))?;
        match event {
            Event::Dial(actor) => sipps.push(actor.start(stage, play)?),
            Event::Order(order) => peers::give(stage, play, order)?,
        }
    }
    for running in &mut sipps {
        let errors = stage.dir.join(format!("{}.errors", running.name()));
        running.succeed(LIMIT).with_context(|| fs::read_to_string(errors).unwrap_or_default())?;
    }
    for stack in &mut stacks {
        if stack.ended()?.is_some() {
            bail!("{} ended before the case did:\n{}", stack.name(), stack.tail(20));
        }
    }
    // What the stacks still have to say after the last order.
    pause(REST)?;
    tap.stop()
}

enum Event<'a> {
    Dial(sipp::Actor),
    Order(&'a Order),
}

fn readme(play: &Play, ladder: &str) -> Result<String> {
    let name = &play.name;
    let stacks: Vec<String> = peers::versions(play)?.into_iter().collect();
    let tap = match &play.tap {
        Some(host) => format!("what the {} sends and receives", play.host(host)?.what),
        None => "all that the parties send each other".into(),
    };
    let (about, stacks) = (play.about.join("\n"), stacks.join(", "));
    Ok(format!(
        "# {name}\n\n{about}\n\nRecorded between network namespaces: {stacks}; tcpdump saw {tap}.\nMedia is left out. \
         `cargo xtask record-cases {name}` plays `play.txt` again, records it and writes this file;\n\
         `expect.txt` says what it must come to.\n\n```text\n{ladder}```\n"
    ))
}
