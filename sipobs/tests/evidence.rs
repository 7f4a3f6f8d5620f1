//! `-w` writes the packets of calls: read again they give the same verdicts. With `--redact` nobody's number or name is left
//! in them.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Every capture of the tests, with the configuration that it is read with.
fn captures() -> Vec<(PathBuf, Option<PathBuf>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let list = |folder: &str| {
        let mut found: Vec<_> =
            std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found
    };
    let mut all: Vec<_> = list("golden")
        .into_iter()
        .filter(|case| case.is_dir())
        .map(|case| {
            (case.join("input.pcap"), Some(case.join("config.toml")).filter(|config| config.exists()))
        })
        .collect();
    for folder in ["captures/recorded", "captures/livekit", "captures/public", "captures/files"] {
        all.extend(list(folder).into_iter().map(|file| (file, None)));
    }
    assert!(all.len() > 200, "{}", all.len());
    all
}

fn sipobs(file: &Path, config: Option<&PathBuf>, args: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    program.args(["pcap", "--format", "jsonl", "--mask", "full"]).arg(file).args(args);
    if let Some(config) = config {
        program.arg("--config").arg(config);
    }
    program.env("TZ", "UTC").output().unwrap()
}

/// The records that something is written of.
fn records(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| match record["kind"].as_str().unwrap() {
            "transfer" => true,
            "call" => record["refer_absent"] != "no",
            _ => false,
        })
        .collect()
}

/// What must be the same, whoever the parties are: a verdict for each line.
fn verdicts(records: &[Value], fields: &[&str]) -> Vec<String> {
    let shown = |record: &Value| {
        let each = fields.iter().map(|field| format!("{field}={}", record[*field]));
        each.collect::<Vec<_>>().join(" ")
    };
    records.iter().map(shown).collect()
}

const VERDICT: &[&str] = &[
    "kind",
    "method",
    "type",
    "outcome",
    "evidence",
    "status",
    "fault",
    "started",
    "ended",
    "duration_ms",
    "unknown_reason",
    "refer_cseq",
    "ringing_ms",
    "answer_ms",
    "refer_absent",
];

/// Those that also stay where nothing is written over.
const NAMES: &[&str] = &[
    "id",
    "call_id",
    "target_call_id",
    "transferor",
    "transferee",
    "target",
    "reason",
    "diagnosis",
    "trunk",
];

/// What stands in a capture between these, of no more than one line.
fn between<'a>(bytes: &'a [u8], before: &'a str, ends: &'a [u8]) -> impl Iterator<Item = String> + 'a {
    memchr::memmem::find_iter(bytes, before.as_bytes()).map(move |at| {
        let rest = &bytes[at + before.len()..];
        let end = rest.iter().take(200).position(|byte| ends.contains(byte) || !(b' '..=b'~').contains(byte));
        String::from_utf8_lossy(&rest[..end.unwrap_or(0)]).into_owned()
    })
}

/// The parties' numbers as digits, and names and credentials.
fn secrets_of(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut numbers, mut words) = (Vec::new(), Vec::new());
    let users =
        ["sip:", "sips:", "tel:", "sip%3A"].into_iter().flat_map(|scheme| between(bytes, scheme, b"@;>\"% "));
    for user in users.chain(between(bytes, "username=\"", b"\"")) {
        let digits: String = user.chars().filter(char::is_ascii_digit).collect();
        let is_number = user.chars().all(|c| c.is_ascii_digit() || "+-.()".contains(c));
        if is_number && digits.len() >= 5 && user.parse::<std::net::Ipv4Addr>().is_err() {
            numbers.push(digits);
        }
    }
    for name in ["From: \"", "To: \"", "Contact: \"", "P-Asserted-Identity: \""] {
        let names = between(bytes, name, b"\"");
        words.extend(names.filter(|name| name.chars().filter(|c| c.is_alphabetic()).count() >= 4));
    }
    for credential in ["nonce=\"", "response=\"", "opaque=\"", "inline:"] {
        words.extend(between(bytes, credential, b"\"\r|").filter(|value| value.len() >= 6));
    }
    for list in [&mut numbers, &mut words] {
        list.sort();
        list.dedup();
    }
    (numbers, words)
}

/// IPv4 addresses as they are written in texts.
fn addresses_in(bytes: &[u8]) -> std::collections::BTreeSet<std::net::Ipv4Addr> {
    let words = bytes.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'.' && *byte != b'-');
    let addresses =
        words.filter_map(|word| std::str::from_utf8(word).ok()?.parse::<std::net::Ipv4Addr>().ok());
    addresses.filter(|ip| !ip.is_unspecified() && !ip.is_loopback() && !ip.is_broadcast()).collect()
}

/// Places in a file where five digits of a number stand, whatever separates them on the wire.
fn places_of(bytes: &[u8], numbers: &[String]) -> std::collections::BTreeMap<usize, String> {
    let windows: std::collections::BTreeSet<&[u8]> = numbers
        .iter()
        .flat_map(|number| number.as_bytes().windows(5))
        // Zeros stay.
        .filter(|window| window.iter().filter(|digit| **digit != b'0').count() >= 3)
        .collect();
    let all = bytes.windows(5).enumerate().filter(|(_, window)| windows.contains(window));
    all.map(|(at, _)| {
        let around = &bytes[at.saturating_sub(40)..(at + 30).min(bytes.len())];
        (at, String::from_utf8_lossy(around).into_owned())
    })
    .collect()
}

/// What is wrong with what is written of a capture; `None` where there is nothing to write.
fn faults_of(file: &Path, config: Option<&PathBuf>, dir: &Path) -> Option<Vec<String>> {
    let to = dir.join("out.pcapng");
    let write = |args: &[&str]| {
        let _ = std::fs::remove_file(&to);
        let output = sipobs(file, config, &[&["-w", to.to_str().unwrap()], args].concat());
        (records(&output), std::fs::read(&to).unwrap_or_default(), output.stderr)
    };
    let mut wrong = Vec::new();
    let mut files = Vec::new();
    let all = [VERDICT, NAMES].concat();
    for (args, fields) in [(&[][..], &all[..]), (&["--redact"], VERDICT), (&["--redact=addresses"], VERDICT)]
    {
        let (before, bytes, said) = write(args);
        if before.is_empty() {
            assert!(bytes.is_empty());
            return None;
        }
        if bytes.is_empty() {
            wrong.push(format!("{args:?}: {}", String::from_utf8_lossy(&said)));
        }
        let again = records(&sipobs(&to, config, &[]));
        let (before, again) = (verdicts(&before, fields), verdicts(&again, fields));
        // A configuration names peers by their addresses.
        let is_known = config.is_none() || args != ["--redact=addresses"];
        if before != again && is_known {
            wrong.push(format!("{args:?}\n  {}\nnow\n  {}", before.join("\n  "), again.join("\n  ")));
        }
        files.push(bytes);
    }
    let told = addresses_in(&files[2]);
    for address in addresses_in(&files[0]).intersection(&told) {
        wrong.push(format!("address: {address}"));
    }
    let (numbers, words) = secrets_of(&files[0]);
    // Under another key, what is the same by chance is something else.
    let [one, other] = [1, 2].map(|file| places_of(&files[file], &numbers));
    for (at, around) in one.iter().filter(|(at, _)| other.contains_key(at)) {
        wrong.push(format!("digits at {at}: {around}"));
    }
    for word in &words {
        if files[1..].iter().all(|bytes| memchr::memmem::find(bytes, word.as_bytes()).is_some()) {
            wrong.push(format!("still there: {word}"));
        }
    }
    Some(wrong)
}

/// A quarter of the cases and all captures of real traffic, as each is read ten times; all, or those in whose path it is, with
/// `SIPOBS_EVIDENCE=.` or a part of the path.
#[test]
fn what_is_written_gives_the_same_verdicts_and_redacted_names_nobody() {
    let only = std::env::var("SIPOBS_EVIDENCE").unwrap_or_default();
    let mut captures = captures();
    if only.is_empty() {
        let mut case = 0;
        captures.retain(|(file, _)| {
            case += 1;
            !file.ends_with("input.pcap") || case % 4 == 0
        });
    }
    let half = captures.len().div_ceil(2);
    let (mut written, mut wrong) = (0, Vec::new());
    std::thread::scope(|scope| {
        let all: Vec<_> = captures
            .chunks(half)
            .map(|some| {
                let only = &only;
                scope.spawn(move || {
                    let dir = tempfile::tempdir().unwrap();
                    let wanted =
                        some.iter().filter(|(file, _)| file.to_str().unwrap().contains(only.as_str()));
                    let each = wanted.map(|(file, config)| {
                        let faults = faults_of(file, config.as_ref(), dir.path());
                        // At once: all of it takes its time.
                        faults.iter().flatten().for_each(|fault| eprintln!("{}: {fault}", file.display()));
                        (file, faults)
                    });
                    each.collect::<Vec<_>>()
                })
            })
            .collect();
        for (file, faults) in all.into_iter().flat_map(|some| some.join().unwrap()) {
            let name = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display();
            written += usize::from(faults.is_some());
            wrong.extend(faults.into_iter().flatten().map(|fault| format!("{name}: {fault}")));
        }
    });
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(written > 60 || !only.is_empty(), "{written}");
}

/// The program on a recorded call, which is to write to `to`.
fn write_of(file: &Path, to: &Path, args: &[&str]) -> Output {
    sipobs(file, None, &[&["-w", to.to_str().unwrap()], args].concat())
}

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)
}

#[test]
fn a_file_is_there_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let left = || std::fs::read_dir(dir.path()).unwrap().count();
    let call = recorded("recorded/pjsua_blind_busy486.pcap");
    let own = dir.path().join("own.pcap");
    std::fs::copy(&call, &own).unwrap();
    let link = dir.path().join("link.pcap");
    std::fs::hard_link(&own, &link).unwrap();
    for to in [&own, &link] {
        let refused = write_of(&own, to, &[]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("a capture that is to be read"),
            "{refused:?}"
        );
    }
    assert_eq!(std::fs::read(&own).unwrap(), std::fs::read(&call).unwrap());
    for to in ["/dev/full", "/nowhere/to/be.pcapng"] {
        let refused = write_of(&call, Path::new(to), &[]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(&format!("-w {to}: ")), "{refused:?}");
    }
    // Nothing to write leaves nothing behind.
    let none = write_of(&call, &dir.path().join("none.pcapng"), &["--number", "999999999"]);
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    assert_eq!(left(), 2);
    let piped = Command::new(env!("CARGO_BIN_EXE_sipobs"))
        .args(["-", "-w", dir.path().join("out.pcapng").to_str().unwrap()])
        .stdin(std::fs::File::open(&call).unwrap())
        .output()
        .unwrap();
    assert_eq!(piped.status.code(), Some(2), "{piped:?}");
    assert!(String::from_utf8_lossy(&piped.stderr).contains("a pipe can be read only once"), "{piped:?}");
    assert_eq!(left(), 2);
    // To standard output goes the file alone.
    let to = dir.path().join("out.pcapng");
    assert_eq!(write_of(&call, &to, &[]).status.code(), Some(0));
    assert_eq!(left(), 3);
    let alone = Command::new(env!("CARGO_BIN_EXE_sipobs")).arg(&call).args(["-w", "-"]).output().unwrap();
    assert_eq!(alone.stdout, std::fs::read(&to).unwrap());
    let both = write_of(&call, Path::new("-"), &[]);
    assert_eq!((both.status.code(), both.stdout.len()), (Some(2), 0));
}

/// What did not come leaves no packet: the file says how long the capture went on.
#[test]
fn a_verdict_that_waited_stays() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("waited.pcapng");
    let input = |case: &str| recorded(&format!("../golden/{case}/input.pcap"));
    let case = "33_capture_ends_mid_transfer";
    let later = input("63_pbx_second_call_out");
    let args = ["--call-id", case, "-w", to.to_str().unwrap()];
    let all = sipobs(&input(case), None, &[&[later.to_str().unwrap()], &args[..]].concat());
    let again = sipobs(&to, None, &[]);
    let outcomes = [&all, &again].map(|output| verdicts(&records(output), &["outcome", "ended"]));
    assert_eq!(outcomes[0], outcomes[1], "{all:?}");
    assert!(outcomes[0][0].contains("notify_timeout"), "{outcomes:?}");
}

/// Packets of one call, and what is said of each.
fn comments(file: &Path) -> Vec<String> {
    let bytes = std::fs::read(file).unwrap();
    let (mut at, mut found) = (0, Vec::new());
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let half = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
    while at < bytes.len() {
        let (kind, len) = (word(at), word(at + 4) as usize);
        if kind == 6 {
            let option = at + 28 + (word(at + 20) as usize).next_multiple_of(4);
            assert_eq!(half(option), 1, "opt_comment");
            let text = &bytes[option + 4..option + 4 + half(option + 2)];
            found.push(String::from_utf8(text.to_vec()).unwrap());
        }
        at += len;
    }
    found
}

#[test]
fn every_packet_says_what_it_is_for_the_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out.pcapng");
    write_of(&recorded("livekit/invite_second_leg_486_fast.pcap"), &to, &[]);
    let said = comments(&to);
    for what in [
        "INVITE of the call",
        "INVITE of the second leg",
        "486 to INVITE of the second leg: this is the verdict of #1",
    ] {
        assert!(said.iter().any(|said| said == what), "{what}: {said:#?}");
    }
    // One call of several files, and nothing of the others.
    let all = [
        "recorded/pjsua_blind_ok.pcap",
        "recorded/pjsua_blind_tcp_segmented.pcap",
        "livekit/refer_busy.pcap",
    ];
    let args = |call: &str| -> Vec<String> {
        let files = all.map(|file| recorded(file).to_str().unwrap().to_owned());
        let more = ["--format", "jsonl", "--mask", "full", "--call", call, "-w", to.to_str().unwrap()];
        files.into_iter().chain(more.map(str::to_owned)).collect()
    };
    for call in ["#1", "#2", "#3"] {
        let first = Command::new(env!("CARGO_BIN_EXE_sipobs")).args(args(call)).output().unwrap();
        let before = records(&first);
        assert_eq!(before.len(), 1, "{first:?}");
        let again = records(&sipobs(&to, None, &[]));
        let fields = [VERDICT, NAMES].concat();
        assert_eq!(verdicts(&before, &fields), verdicts(&again, &fields));
    }
}

/// What a file's summary says of losses.
fn lost(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()["lost"].clone()
}

/// Ended calls by their times, and the Call-IDs.
fn calls(output: &Output) -> Vec<(Value, Value, String)> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|record| record["kind"] == "call")
        .map(|call| {
            (call["started"].clone(), call["ended"].clone(), call["call_id"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn of_a_tcp_connection_a_reader_stays_in_step() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out.pcapng");
    for args in [&[][..], &["--redact"]] {
        write_of(&recorded("recorded/pjsua_blind_tcp_segmented.pcap"), &to, args);
        let said = comments(&to);
        assert!(said.iter().any(|said| said.contains("(a part of it)")), "{said:#?}");
        assert!(said.iter().any(|said| said == "opens the TCP connection"), "{said:#?}");
        assert_eq!(lost(&sipobs(&to, None, &[])), serde_json::json!({}));
    }
    // Five calls between two servers.
    let file = recorded("public/nextcaller_sip-capture__sip-tcp_sll_5calls.pcap");
    let whole = sipobs(&file, None, &[]);
    let all = calls(&whole);
    assert!(all.len() >= 5, "{all:?}");
    for (started, ended, id) in &all {
        for args in [&["--call-id", id.as_str()][..], &["--call-id", id, "--redact"]] {
            write_of(&file, &to, args);
            let again = sipobs(&to, None, &[]);
            let found = calls(&again);
            let one = found.iter().find(|call| (&call.0, &call.1) == (started, ended));
            assert!(one.is_some(), "{args:?}: {found:?}");
            assert_eq!(lost(&again), serde_json::json!({}), "{args:?}");
            if args.len() == 3 {
                // Of the others nothing is left.
                assert_eq!(found.len(), 1, "{found:?}");
            }
        }
    }
}

/// The sum over a header or a payload is all ones where its checksum is right (RFC 1071).
fn sums_up(parts: &[&[u8]]) -> bool {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

#[test]
fn checksums_are_right_again() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out.pcapng");
    let mut checked = 0;
    for name in [
        "recorded/pjsua_blind_tcp_segmented.pcap",
        "recorded/pjsua_attended_ok.pcap",
        "livekit/refer_busy.pcap",
    ] {
        for args in [&["--redact"][..], &["--redact=addresses"]] {
            write_of(&recorded(name), &to, args);
            let mut reader = sipobs::capture::file::Reader::open(&to).unwrap();
            while let Some(frame) = reader.next().unwrap() {
                let at = memchr::memmem::find(frame.bytes, &[0x45, 0])
                    .filter(|at| [0, 4, 14, 16, 20].contains(at));
                let ip = &frame.bytes[at.unwrap_or_else(|| panic!("{name}: {:?}", frame.link))..];
                let ip = &ip[..usize::from(u16::from_be_bytes([ip[2], ip[3]]))];
                assert!(sums_up(&[&ip[..20]]), "{name}: IP");
                let (protocol, payload) = (ip[9], &ip[20..]);
                let pseudo = [0, protocol, 0, 0];
                let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
                assert!(sums_up(&[&ip[12..20], &pseudo, &len, payload]), "{name}: {protocol}");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "{checked}");
}

/// A capture's packets within VXLAN (RFC 7348 §5), with a checksum outside.
fn in_vxlan(file: &Path, to: &Path) {
    const HARDWARE: [u8; 14] = [2, 0xaa, 0xbb, 0xcc, 0xdd, 1, 2, 0xaa, 0xbb, 0xcc, 0xdd, 2, 8, 0];
    let word = |value: usize| u16::try_from(value).unwrap().to_be_bytes();
    let mut bytes = Vec::new();
    for field in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        bytes.extend(field.to_le_bytes());
    }
    let mut reader = sipobs::capture::file::Reader::open(file).unwrap();
    let mut second = 0_u32;
    while let Some(frame) = reader.next().unwrap() {
        let at = memchr::memmem::find(frame.bytes, &[0x45, 0]).unwrap();
        let inner = [&[8, 0, 0, 0, 0, 0, 0x7b, 0], &HARDWARE[..], &frame.bytes[at..]].concat();
        let udp = [&word(33333)[..], &word(4789), &word(8 + inner.len()), &[0x12, 0x34], &inner].concat();
        let ip =
            [&[0x45, 0][..], &word(20 + udp.len()), &[0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]];
        let packet = [&HARDWARE[..], &ip.concat(), &udp].concat();
        let len = u32::try_from(packet.len()).unwrap();
        for field in [second, 0, len, len] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(packet);
        second += 1;
    }
    std::fs::write(to, bytes).unwrap();
}

#[test]
fn in_a_tunnel_all_checksums_are_right_and_no_hardware_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("in.pcap"), dir.path().join("out.pcapng"));
    in_vxlan(&recorded("livekit/refer_busy.pcap"), &from);
    for args in ["--redact", "--redact=addresses"] {
        write_of(&from, &to, &[args]);
        let mut reader = sipobs::capture::file::Reader::open(&to).unwrap();
        let mut checked = 0;
        while let Some(frame) = reader.next().unwrap() {
            for ip in [&frame.bytes[14..], &frame.bytes[14 + 20 + 8 + 8 + 14..]] {
                let ip = &ip[..usize::from(u16::from_be_bytes([ip[2], ip[3]]))];
                let len = u16::try_from(ip.len() - 20).unwrap().to_be_bytes();
                assert!(sums_up(&[&ip[..20]]), "{args}: IP");
                assert!(sums_up(&[&ip[12..20], &[0, ip[9], 0, 0], &len, &ip[20..]]), "{args}: {}", ip[9]);
            }
            let is_named = memchr::memmem::find(frame.bytes, &[0xaa, 0xbb, 0xcc, 0xdd]).is_some();
            assert_eq!(is_named, args == "--redact");
            checked += 1;
        }
        assert!(checked > 5, "{checked}");
    }
}

/// Whatever a capture holds: no panic, and what is written can be read.
#[test]
fn arbitrary_bytes_are_written_and_redacted() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("in.pcap"), dir.path().join("out.pcapng"));
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    let files = [
        "livekit/refer_busy.pcap",
        "recorded/pjsua_blind_tcp_segmented.pcap",
        "public/nextcaller_sip-capture__sip-i_multipart.pcap",
    ];
    for round in 0..30 {
        let mut bytes = std::fs::read(recorded(files[round % files.len()])).unwrap();
        for _ in 0..=next(40) {
            // Behind the file's header: that it is a capture stays.
            let at = 24 + next(bytes.len() - 24);
            match next(3) {
                0 => bytes[at] = u8::try_from(next(256)).unwrap(),
                1 => bytes[at] = b"<>\"@:;%\r\n=,+0 "[next(14)],
                _ => bytes[at] ^= 0x80,
            }
        }
        std::fs::write(&from, &bytes).unwrap();
        let _ = std::fs::remove_file(&to);
        let args: &[&str] = if round % 2 == 0 { &["--redact"] } else { &["--redact=addresses"] };
        let output = write_of(&from, &to, args);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        if to.exists() {
            let again = sipobs(&to, None, &[]);
            assert!(!String::from_utf8_lossy(&again.stderr).contains("block"), "{again:?}");
            assert!(matches!(again.status.code(), Some(0 | 1)), "{again:?}");
        }
    }
}
