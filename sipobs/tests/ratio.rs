//! A trunk whose transfers stop, as `sipobs pcap` tells it: 200 calls of which every fifth holds a REFER, then 31
//! without one.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const TRUNK: [u8; 4] = [192, 0, 2, 1];
const PLATFORM: [u8; 4] = [192, 0, 2, 2];

#[test]
fn thirty_one_calls_without_a_refer_alert_once() {
    let alerts = alerts_after(&[Call::Plain; 31]);
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    let alert = &alerts[0];
    assert_eq!((&alert["alert"], &alert["trunk"]), (&"refer_ratio".into(), &"other".into()));
    assert_eq!(alert["verdict"], "attempts_vanished");
    assert_eq!(alert["numbers"]["calls_without_refer"], 31.0);
    assert_eq!(alert["numbers"]["baseline_ratio"], 0.2);
    assert_eq!(
        alert["message"],
        "Trunk other: none of the last 31 answered calls held a REFER, where 20.0 % used to (40 of 200). Nothing \
         took their place: the attempts vanished."
    );
}

#[test]
fn thirty_do_not_and_a_hundred_alert_no_oftener() {
    assert!(alerts_after(&[Call::Plain; 30]).is_empty());
    assert_eq!(alerts_after(&[Call::Plain; 100]).len(), 1);
}

#[test]
fn second_legs_in_their_place_are_a_switched_method() {
    let calls: Vec<Call> = (0..40).map(|n| if n % 5 == 4 { Call::SecondLeg } else { Call::Plain }).collect();
    let alerts = alerts_after(&calls);
    let kinds: Vec<&Value> = alerts.iter().map(|alert| &alert["alert"]).collect();
    assert_eq!(kinds, ["method_switched", "refer_ratio"]);
    assert_eq!(alerts[1]["verdict"], "method_switched");
}

/// What a call to the platform holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Plain,
    Refer,
    SecondLeg,
}

/// The alerts that the program prints for 200 calls as usual and then these.
fn alerts_after(calls: &[Call]) -> Vec<Value> {
    let usual = (1..=200).map(|n| if n % 5 == 0 { Call::Refer } else { Call::Plain });
    let mut capture = Capture::new();
    for (number, call) in (0..).zip(usual.chain(calls.iter().copied())) {
        capture.call(number, call);
    }
    let file = tempfile::NamedTempFile::with_suffix(".pcap").unwrap();
    std::fs::write(file.path(), &capture.bytes).unwrap();
    read(file.path()).into_iter().filter(|line| line["kind"] == "alert").collect()
}

fn read(file: &Path) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_sipobs"))
        .args(["pcap", "--format", "jsonl"])
        .arg(file)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A pcap file of raw IP packets.
struct Capture {
    bytes: Vec<u8>,
}

impl Capture {
    fn new() -> Self {
        let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101];
        Self { bytes: header.into_iter().flat_map(u32::to_le_bytes).collect() }
    }

    /// One call of 15 s, a minute after the one before.
    fn call(&mut self, number: u32, call: Call) {
        let at = f64::from(number) * 60.0;
        let leg = |line: &str, cseq: &str, from: &str, to: &str, more: &str| {
            format!(
                "{line}\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK{cseq}\r\nCall-ID: {number}\r\nCSeq: {cseq}\r\nFrom: \
                 <sip:{from}\r\nTo: <sip:{to}\r\n{more}\r\n"
            )
        };
        let (caller, callee) = (format!("1{number}@t>;tag=t"), "100@l>;tag=l");
        let (trunk, platform) = (TRUNK, PLATFORM);
        self.udp(at, trunk, platform, &leg("INVITE sip:100@l SIP/2.0", "1 INVITE", &caller, "100@l>", ""));
        self.udp(at + 0.1, platform, trunk, &leg("SIP/2.0 200 OK", "1 INVITE", &caller, callee, ""));
        self.udp(at + 0.2, trunk, platform, &leg("ACK sip:100@l SIP/2.0", "1 ACK", &caller, callee, ""));
        if call == Call::Refer {
            let refer = "Refer-To: <tel:+15105550177>\r\n";
            self.udp(
                at + 9.0,
                platform,
                trunk,
                &leg("REFER sip:1@t SIP/2.0", "1 REFER", callee, &caller, refer),
            );
            self.udp(at + 9.1, trunk, platform, &leg("SIP/2.0 603 Decline", "1 REFER", callee, &caller, ""));
        }
        if call == Call::SecondLeg {
            let second = |line: &str, cseq: &str, to: &str| {
                leg(line, cseq, "100@l>;tag=s", to, "").replace("Call-ID: ", "Call-ID: s")
            };
            let uri = "INVITE sip:177@t SIP/2.0";
            self.udp(at + 2.0, platform, trunk, &second(uri, "1 INVITE", "177@t>"));
            self.udp(at + 2.1, trunk, platform, &second("SIP/2.0 200 OK", "1 INVITE", "177@t>;tag=x"));
            self.udp(at + 2.2, platform, trunk, &second("ACK sip:177@t SIP/2.0", "1 ACK", "177@t>;tag=x"));
            self.udp(at + 15.5, platform, trunk, &second("BYE sip:177@t SIP/2.0", "2 BYE", "177@t>;tag=x"));
        }
        self.udp(at + 15.0, trunk, platform, &leg("BYE sip:100@l SIP/2.0", "2 BYE", &caller, callee, ""));
        self.udp(at + 15.1, platform, trunk, &leg("SIP/2.0 200 OK", "2 BYE", &caller, callee, ""));
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers")]
    fn udp(&mut self, at: f64, from: [u8; 4], to: [u8; 4], text: &str) {
        let length = (28 + text.len()) as u16;
        let micros = (at * 1e6) as u64;
        let record = [1_767_603_600 + (micros / 1_000_000) as u32, (micros % 1_000_000) as u32];
        let record = record.into_iter().chain([u32::from(length); 2]).flat_map(u32::to_le_bytes);
        self.bytes.extend(record);
        self.bytes.extend([0x45, 0]);
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        self.bytes.extend(from.into_iter().chain(to));
        self.bytes.extend([0x13, 0xc4, 0x13, 0xc4]);
        self.bytes.extend((length - 20).to_be_bytes());
        self.bytes.extend([0, 0]);
        self.bytes.extend(text.as_bytes());
    }
}
