//! Calls through a real Kamailio that sends all it handles by HEP: what sipobs hears of them by HEP alone must be judged as what
//! tcpdump saw on the wire. What sipobs sends on goes to another sipobs, which must say the same, and each message of it by the HEP
//! reader of another Kamailio (sipcapture), which must be what tshark reads on the wire.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::play::Play;
use super::stage::Stage;
use super::{REST, perform};
use crate::children::{Running, output, pause, wait_for};
use crate::root;

/// Golden cases that have a Kamailio in the middle, all of whose messages go by it.
const CASES: [&str; 2] = ["r_kamailio_proxy_blind_ok", "r_kamailio_proxy_blind_busy"];
/// The host that Kamailio is on, in these.
const PROXY: &str = "P";
const KEY: &str = "lab-key";
/// Where what was sent on is read.
const READER: &str = "127.0.0.1:9062";

/// Plays the cases.
pub(crate) fn run(sipobs: &Path) -> Result<()> {
    for name in CASES {
        case(sipobs, name).with_context(|| name)?;
    }
    Ok(())
}

fn case(sipobs: &Path, name: &str) -> Result<()> {
    let text = fs::read_to_string(root().join("sipobs/tests/golden").join(name).join("play.txt"))?;
    let text = text.replace("kamailio-proxy.cfg", "kamailio-hep.cfg").replace("tap B", "tap P");
    let play = Play::read(&text, name)?;
    let stage = Stage::build(&crate::scratch(&format!("hep/{name}"))?, &play)?;
    let reader = start_reader(&stage)?;
    // Kamailio → first → second → the other Kamailio.
    let second = Listener::start(sipobs, &stage, "second", [9061, 9062], 9465)?;
    let first = Listener::start(sipobs, &stage, "first", [9060, 9061], 9464)?;
    let capture = stage.dir.join("input.pcap");
    perform(&stage, &play, &capture)?;
    let (heard, heard_on) = (first.end()?, second.end()?);
    pause(REST)?;
    let read = reader.output()?;
    drop(reader);

    let mut pcap = Command::new(sipobs);
    let on_the_wire = judged(&records(&output(pcap.args(["pcap", "--format", "jsonl"]).arg(&capture))?)?);
    ensure!(!on_the_wire.is_empty(), "tcpdump saw no transfer");
    for (whose, records) in [("Kamailio's HEP", &heard), ("HEP that was sent on", &heard_on)] {
        let by_hep = judged(records);
        ensure!(on_the_wire == by_hep, "on the wire {on_the_wire:#?}, by {whose} {by_hep:#?}");
    }
    let (plain, wrapped) = (by_tshark(&capture)?, by_kamailio(&read));
    ensure!(plain == wrapped, "on the wire {plain:#?}, in what was sent on {wrapped:#?}");
    println!("   {name}: {} messages by HEP, judged and read as on the wire", wrapped.len());
    Ok(())
}

/// A Kamailio that reads HEP.
fn start_reader(stage: &Stage) -> Result<Running> {
    let runtime = stage.dir.join("reader");
    fs::create_dir_all(&runtime)?;
    let mut kamailio = stage.on(PROXY, "kamailio");
    kamailio.args(["-DD", "-E", "-n", "1", "-m", "16", "-M", "4", "-f"]);
    kamailio.arg(root().join("xtask/scenarios/kamailio-hep-reader.cfg"));
    kamailio.arg("-Y").arg(&runtime).args(["-l", &format!("udp:{READER}")]);
    let running = Running::start("reader", kamailio, &stage.dir.join("reader.log"))?;
    stage.wait_listening(PROXY, READER).with_context(|| running.tail(20))?;
    Ok(running)
}

/// A sipobs that hears by HEP alone, on Kamailio's host.
struct Listener {
    running: Running,
    records: PathBuf,
}

impl Listener {
    fn start(sipobs: &Path, stage: &Stage, name: &str, ports: [u16; 2], metrics: u16) -> Result<Self> {
        let [hep, to] = ports.map(|port| format!("udp://127.0.0.1:{port}"));
        let records = stage.dir.join(format!("{name}.jsonl"));
        let mut command = stage.on(PROXY, &sipobs.to_string_lossy());
        command.args(["run", "--format", "none", "--metrics", &format!("127.0.0.1:{metrics}")]);
        command.args(["--hep", &hep, "--hep-out", &to]);
        command.env("SIPOBS_HEP__KEY", KEY).env("SIPOBS_HEP_OUT__KEY", KEY);
        command.env("SIPOBS_JSONL__PATH", &records);
        let running = Running::start(name, command, &stage.dir.join(format!("{name}.log")))?;
        wait_for("sipobs listens", Duration::from_secs(20), || {
            Ok(running.output()?.contains("ready: HEP on").then_some(()))
        })
        .with_context(|| running.tail(20))?;
        Ok(Self { running, records })
    }

    /// Ends it, which settles what is open. Gives what it has said.
    fn end(mut self) -> Result<Vec<Value>> {
        // What is on its way.
        pause(REST)?;
        self.running.signal(Signal::INT)?;
        self.running.succeed(Duration::from_secs(20))?;
        let log = self.running.output()?;
        ensure!(log.contains(" 0 lost,"), "something was lost:\n{log}");
        records(&fs::read_to_string(&self.records)?)
    }
}

fn records(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// What is said of each transfer, but for what only the moment of its capture decides.
fn judged(records: &[Value]) -> Vec<String> {
    let fields = [
        "call_id",
        "method",
        "type",
        "outcome",
        "evidence",
        "fault",
        "status",
        "reason",
        "target_call_id",
        "visibility",
        "transferor",
        "transferee",
        "target",
    ];
    let transfers = records.iter().filter(|record| record["kind"] == "transfer");
    transfers
        .map(|record| {
            let said = fields.map(|field| format!("{field} {}", record[field]));
            let causes =
                record["diagnosis"].as_array().map(|all| all.iter().map(|it| it["code"].clone()).collect());
            let lines = record["messages"].as_array().map(|all| {
                let lines = all.iter().map(|it| format!("{} {} {}", it["from"], it["to"], it["line"]));
                // Kamailio comes to what waits in its socket when it is done with what it does: messages of two legs may
                // change places.
                let mut lines: Vec<String> = lines.collect();
                lines.sort();
                lines
            });
            format!("{} {:?} {lines:?}", said.join(", "), causes.unwrap_or_else(Vec::new))
        })
        .collect()
}

/// Who sent which message, as tshark reads a capture: address, port, first line, Call-ID, CSeq.
fn by_tshark(capture: &Path) -> Result<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture).args(["-Y", "sip", "-T", "fields", "-E", "separator=|"]);
    for field in ["ip.src", "udp.srcport", "sip.Request-Line", "sip.Status-Line", "sip.Call-ID", "sip.CSeq"] {
        tshark.args(["-e", field]);
    }
    let text = output(&mut tshark)?;
    let mut lines: Vec<String> = text.lines().map(|line| line.replacen("||", "|", 1)).collect();
    lines.sort();
    Ok(lines)
}

/// The same as Kamailio's sipcapture reads HEP.
fn by_kamailio(log: &str) -> Vec<String> {
    let told = log.lines().filter_map(|line| line.split_once("HEP|")?.1.strip_suffix('|'));
    let mut lines: Vec<String> = told.map(Into::into).collect();
    lines.sort();
    lines
}
