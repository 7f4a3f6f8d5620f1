//! The daemon that hears by HEP alone: no interface, no privilege. Recorded calls are sent to it over loopback at their own pace,
//! and it must say of them what reading the capture says.

#![cfg(all(feature = "live", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sipobs::hep::{Packet, encode};
use sipobs::packet::{Item as Piece, Packets};
use sipobs::stream::{Item, Streams, TransportKind};
use sipobs::timestamp::Timestamp;

mod common;

const KEY: &str = "q5ecret";
const PATIENCE: Duration = Duration::from_secs(20);

/// One message of a capture, as HEP.
struct Sent {
    time: Timestamp,
    hep: Vec<u8>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).join("input.pcap")
}

fn messages(file: &Path) -> Vec<Sent> {
    let (mut packets, mut streams) = (Packets::new(Default::default()), Streams::default());
    let mut sent = Vec::new();
    for frame in common::frames(file) {
        packets.push(&frame, &mut |piece| {
            let Piece::Packet(packet) = piece else { return };
            streams.push(&packet, &mut |item| {
                let Item::Message(message, _) = item else { return };
                let protocol = if message.transport == TransportKind::Udp { 17 } else { 6 };
                let packet = Packet {
                    version: 3,
                    src: message.src,
                    dst: message.dst,
                    protocol,
                    time: Some(message.time),
                    kind: Packet::SIP,
                    capture_id: Some(2001),
                    node: Some(b"edge"),
                    key: Some(KEY.as_bytes()),
                    correlation_id: None,
                    vlan: None,
                    payload: message.bytes.into(),
                };
                sent.push(Sent { time: message.time, hep: encode(&packet).unwrap() });
            });
        });
    }
    assert!(sent.len() > 5, "{}", file.display());
    sent
}

/// A daemon that is ended with the test.
struct Daemon {
    child: Child,
    hep: SocketAddr,
    metrics: SocketAddr,
}

impl Daemon {
    fn start(transport: &str) -> Self {
        Self::start_with(transport, &[])
    }

    fn start_with(transport: &str, more: &[&str]) -> Self {
        let [hep, metrics] = [free(), free()];
        let child = Command::new(env!("CARGO_BIN_EXE_sipobs"))
            .args(["run", "--format", "jsonl", "--hep", &format!("{transport}://{hep}")])
            .args(["--metrics", &metrics.to_string()])
            .args(more)
            .env("SIPOBS_HEP__KEY", KEY)
            .env("SIPOBS_HEP_OUT__KEY", KEY)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let daemon = Self { child, hep, metrics };
        let start = now();
        while !daemon.get("/readyz").contains("200 OK") {
            assert!(start.elapsed() < PATIENCE, "it does not come up");
            thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(self.metrics) {
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }

    /// A counter, once it is what it should be, or as it is in the end.
    fn until(&self, series: &str, wanted: u64) -> u64 {
        let start = now();
        loop {
            let text = self.get("/metrics");
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            let count = line.map_or(0, |count| count.trim_end_matches(".0").parse().unwrap());
            if count == wanted || start.elapsed() > PATIENCE {
                return count;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its accounts, which must add up.
    fn accounts(&self) -> String {
        let check = Command::new(env!("CARGO_BIN_EXE_sipobs"))
            .args(["check", "--live", &self.metrics.to_string()])
            .output()
            .unwrap();
        let text = String::from_utf8(check.stdout).unwrap();
        assert!(check.status.success(), "{text}");
        text
    }

    /// Ends it: its records, and its log.
    fn end(mut self) -> (Vec<Value>, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let (mut out, mut log) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{log}");
        (out.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nothing listens on, by TCP nor, most likely, by UDP.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends all of it at the pace of the capture.
fn play(daemon: &Daemon, transport: &str, sent: &[Sent]) {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut tcp = (transport == "tcp").then(|| TcpStream::connect(daemon.hep).unwrap());
    let (start, first) = (now(), sent[0].time);
    for message in sent {
        let at = u64::try_from(message.time.as_nanos() - first.as_nanos()).unwrap();
        thread::sleep(Duration::from_nanos(at).saturating_sub(start.elapsed()));
        match &mut tcp {
            Some(stream) => stream.write_all(&message.hep).unwrap(),
            None => drop(udp.send_to(&message.hep, daemon.hep).unwrap()),
        }
    }
}

/// What is said of each transfer, without what only the moment of its capture decides.
fn transfers(records: &[Value]) -> Vec<Value> {
    let all = records.iter().filter(|record| record["kind"] == "transfer");
    let mut all: Vec<Value> = all
        .map(|record| {
            let mut said = serde_json::Map::new();
            for field in [
                "call_id",
                "target_call_id",
                "method",
                "type",
                "trunk",
                "transferor",
                "transferee",
                "target",
                "outcome",
                "evidence",
                "fault",
                "unknown_reason",
                "status",
                "reason",
                "refer_cseq",
                "visibility",
                "quality",
            ] {
                said.insert(field.into(), record[field].clone());
            }
            said.insert("link".into(), record["link"]["method"].clone());
            let lines = |list: &str, of: &str| {
                record[list].as_array().unwrap().iter().map(|entry| entry[of].clone()).collect::<Vec<_>>()
            };
            said.insert("causes".into(), lines("diagnosis", "code").into());
            for of in ["from", "to", "line"] {
                said.insert(of.into(), lines("messages", of).into());
            }
            said.into()
        })
        .collect();
    all.sort_by_key(Value::to_string);
    all
}

fn of_file(file: &Path) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_sipobs"))
        .args(["pcap", "--format", "jsonl"])
        .arg(file)
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn calls_that_come_by_hep_are_judged_as_in_the_clear() {
    let cases = [
        ("udp", "r_baresip_blind_busy"),
        ("tcp", "r_baresip_blind_ok"),
        ("udp", "r_kamailio_proxy_blind_ok"),
        ("tcp", "r_tcp_two_connections"),
        ("udp", "r_linphone_blind_by_caller"),
        ("tcp", "r_number_rewritten"),
        ("udp", "r_baresip_fragmented"),
        ("tcp", "r_kamailio_302_followed"),
        ("udp", "r_ipv6"),
    ];
    let judged: BTreeMap<_, _> = thread::scope(|scope| {
        let running = cases.map(|(transport, name)| {
            scope.spawn(move || {
                let sent = messages(&golden(name));
                let daemon = Daemon::start(transport);
                play(&daemon, transport, &sent);
                let all = sent.len() as u64;
                let series = format!("sipobs_hep_packets_total{{transport=\"{transport}\"}}");
                assert_eq!(daemon.until(&series, all), all, "{name}");
                assert_eq!(daemon.until("sipobs_hep_packets_used_total", all), all, "{name}");
                daemon.accounts();
                (name, daemon.end())
            })
        });
        running.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let mut seen = 0;
    for (name, (records, log)) in judged {
        let (by_hep, in_the_clear) = (transfers(&records), transfers(&of_file(&golden(name))));
        assert_eq!(by_hep, in_the_clear, "{name}: {log}");
        assert!(!log.contains(KEY) && log.contains("ready: HEP on "), "{log}");
        seen += by_hep.len();
    }
    assert!(seen >= cases.len() - 1, "{seen}");
}

/// From one daemon to the next, to the next.
#[test]
fn what_is_sent_on_is_judged_alike() {
    let file = golden("r_kamailio_proxy_blind_ok");
    let sent = messages(&file);
    let last = Daemon::start("tcp");
    let middle = Daemon::start_with("udp", &["--hep-out", &format!("tcp://{}", last.hep)]);
    let first = Daemon::start_with("tcp", &["--hep-out", &format!("udp://{}", middle.hep)]);
    play(&first, "tcp", &sent);
    let all = sent.len() as u64;
    for daemon in [&first, &middle] {
        assert_eq!(daemon.until("sipobs_hep_out_packets_sent_total", all), all);
    }
    for daemon in [&middle, &last] {
        assert_eq!(daemon.until("sipobs_hep_packets_used_total", all), all);
    }
    assert!(middle.accounts().contains("hep out\n  packets made"));
    let expected = transfers(&of_file(&file));
    for daemon in [first, middle, last] {
        let (records, log) = daemon.end();
        assert_eq!(transfers(&records), expected, "{log}");
        assert!(!log.contains(KEY), "{log}");
    }
}

/// It would send for ever.
#[test]
fn sending_to_oneself_is_refused() {
    let run = Command::new(env!("CARGO_BIN_EXE_sipobs"))
        .args(["run", "--hep", "udp://0.0.0.0:9060", "--hep-out", "udp://127.0.0.1:9060"])
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.code() == Some(2) && said.contains("each message would come back"), "{said}");
}

#[test]
fn nonsense_is_counted_and_stops_nothing() {
    let daemon = Daemon::start("udp");
    let sent = messages(&golden("r_baresip_blind_busy"));
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let good = &sent[0].hep;
    let wrong_key = good.windows(KEY.len()).position(|part| part == KEY.as_bytes()).unwrap();
    let mut forged = good.clone();
    forged[wrong_key] ^= 1;
    let mut hostile =
        vec![vec![0; 1], b"HEP3".to_vec(), b"HEP3\xff\xff".to_vec(), vec![0xff; 65_000], forged];
    // Every octet of a good one damaged, and the same cut there: the key and what it carries may well be whole in some.
    hostile.extend((0..good.len()).flat_map(|at| {
        let mut damaged = good.clone();
        damaged[at] ^= 0xff;
        [damaged, good[..at].to_vec()]
    }));
    for bytes in &hostile {
        sender.send_to(bytes, daemon.hep).unwrap();
    }
    let all = hostile.len() as u64;
    assert_eq!(daemon.until("sipobs_hep_packets_total{transport=\"udp\"}", all), all);
    assert_eq!(daemon.until("sipobs_hep_packets_waiting", 0), 0);
    let accounts = daemon.accounts();
    for reason in ["hep_length", "hep_chunk", "hep_missing", "hep_key", "hep_other"] {
        assert!(accounts.contains(&format!("not used: {reason}")), "{accounts}");
    }
    sender.send_to(good, daemon.hep).unwrap();
    assert_eq!(daemon.until("sipobs_hep_packets_total{transport=\"udp\"}", all + 1), all + 1);
    let (_, log) = daemon.end();
    assert!(log.contains(" 0 lost"), "{log}");
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", taken.local_addr().unwrap());
    let run = Command::new(env!("CARGO_BIN_EXE_sipobs"))
        .args(["run", "--hep", &url, "--metrics", &free().to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("hep.listen: {url}: cannot listen: Address already in use")), "{said}");
}

#[allow(clippy::disallowed_methods, reason = "paces what is sent")]
fn now() -> Instant {
    Instant::now()
}
