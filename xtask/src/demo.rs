//! `cargo xtask demo`: transfers that fail and work, explained while they happen.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::calls::{self, Story};
use crate::children::run as run_command;
use crate::daemon::{self, Daemon, call_of, transfer_of};
use crate::lab::Lab;
use crate::recording;
use crate::setup::{self, Need};
use crate::{live, scratch, ui};

#[derive(Args)]
pub(crate) struct Options {
    /// Keep the traces open in a Jaeger page on loopback until Ctrl-C.
    #[arg(long)]
    ui: bool,
    /// Show the shipped capture, without capturing anything.
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.ui {
        setup::ensure(&[Need::Ui])?;
        ui::ensure_built_in()?;
    }
    let reason = if options.offline {
        Some("--offline was given".into())
    } else if !rustix::process::geteuid().is_root() {
        Some("capturing needs root".to_owned())
    } else {
        setup::ensure(&[Need::Live, Need::Lab])?;
        let sipobs = daemon::build(true, false)?;
        match live::impossible(&sipobs) {
            None => return captured(&sipobs, options.ui),
            reason => reason,
        }
    };
    let sipobs = daemon::build(false, false)?;
    println!("Nothing is captured here: {}.", reason.unwrap_or_default());
    println!("The same calls from a capture that was made before:\n");
    read(&sipobs, options.ui)
}

/// The calls live.
fn captured(sipobs: &Path, ui: bool) -> Result<()> {
    let lab = Lab::new(&scratch("demo")?)?;
    println!("Two network namespaces, a trunk and a voice agent, and these calls between them:\n");
    for story in Story::ALL {
        println!("  • {}", story.what());
    }
    println!("\nsipobs watches the agent's interface. Its verdicts, as they settle:\n");
    let page = ui.then(|| ui::Page::open(Some(&lab))).transpose()?;
    let daemon = Daemon::start(&lab, sipobs, page.as_ref().map(ui::Page::endpoint), true)?;
    calls::place(&lab, &Story::ALL)?;
    let attempts = Story::ALL.iter().filter(|story| story.expected().method.is_some()).count();
    println!("\nThe calls are over. What is not settled yet waits for messages that may still come.\n");
    daemon.wait_settled(attempts, "", live::SETTLE_LIMIT)?;
    let lines = daemon.stop()?;
    table(&lines);
    drop(lab);
    println!("\nThe namespaces are gone, and the programs with them.");
    page.map_or(Ok(()), ui::Page::stay)
}

/// The same from the shipped capture.
fn read(sipobs: &Path, ui: bool) -> Result<()> {
    let capture = recording::shipped();
    let page = ui.then(|| ui::Page::open(None)).transpose()?;
    let mut command = Command::new(sipobs);
    command.arg("pcap").arg(&capture);
    if let Some(page) = &page {
        command.args(["--otlp", page.endpoint()]);
    }
    run_command(&mut command, Duration::from_secs(60))?;
    table(&daemon::read_capture(sipobs, &capture)?);
    page.map_or(Ok(()), ui::Page::stay)
}

/// What happened beside what sipobs says.
fn table(lines: &[Value]) {
    let mut rows = vec![["what was done".to_owned(), "what sipobs says".into(), "likely because".into()]];
    for story in Story::ALL {
        let call_id = story.call_id();
        let (said, because) = if let Some(transfer) = transfer_of(lines, &call_id) {
            let said = format!(
                "{} {}{}",
                text(&transfer["method"]),
                text(&transfer["outcome"]),
                transfer["status"].as_u64().map(|status| format!(" ({status})")).unwrap_or_default()
            );
            (said, text(&transfer["diagnosis"][0]["cause"]))
        } else if let Some(call) = call_of(lines, &call_id) {
            (format!("no transfer; refer_absent: {}", text(&call["refer_absent"])), String::new())
        } else {
            ("nothing".into(), String::new())
        };
        rows.push([story.name().to_owned(), said, because]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    println!();
    for (index, [a, b, c]) in rows.iter().enumerate() {
        println!("{a:first$}  {b:second$}  {c}");
        if index == 0 {
            println!("{}", "─".repeat(first + second + 4 + width(2)));
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
