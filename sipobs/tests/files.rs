//! What files come in, and what of them cannot be read: by the program itself, with its exit status.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// File, link type, frames, SIP messages, outcome. The messages are as many as tshark counts, but for what it exported
/// twice or in segments. `busy` is one call, in which the packets of the export from TLS are other ones.
const FILES: &[(&str, &str, u64, u64, &str)] = &[
    ("atm_bridged.pcap.zst", "atm_rfc1483", 13, 13, "busy"),
    ("c_hdlc.pcap.gz", "c_hdlc", 13, 13, "busy"),
    ("enc.pcap.zst", "enc", 13, 13, "busy"),
    ("erf_eth_ext.pcap.zst", "erf", 13, 13, "busy"),
    ("frelay.pcap.zst", "frelay", 13, 13, "busy"),
    ("frelay_bridged.pcap.zst", "frelay", 13, 13, "busy"),
    ("ipnet.pcap.zst", "ipnet", 13, 13, "busy"),
    ("juniper_ether_ext.pcap.zst", "juniper_ether", 13, 13, "busy"),
    ("linux_sll2.pcap.lz4", "linux_sll2", 13, 13, "busy"),
    ("modified.pcap.zst", "ethernet", 13, 13, "busy"),
    ("nanoseconds_big_endian.pcap.zst", "ethernet", 13, 13, "busy"),
    ("nflog.pcap.zst", "nflog", 13, 13, "busy"),
    ("nokia.pcap.zst", "ethernet", 13, 13, "busy"),
    ("pflog.pcap.zst", "pflog", 13, 13, "busy"),
    ("pktap.pcap.zst", "pktap", 13, 13, "busy"),
    ("pktap_user2.pcap.zst", "user2", 13, 13, "busy"),
    ("ppp.pcap.zst", "ppp", 13, 13, "busy"),
    ("ppp_ether.pcap.zst", "ppp_ether", 13, 13, "busy"),
    ("prism.pcap.zst", "ieee802_11_prism", 13, 13, "busy"),
    ("radiotap_pad.pcap.zst", "ieee802_11_radiotap", 13, 13, "busy"),
    ("redhat_6_1.pcap.zst", "ethernet", 13, 13, "busy"),
    ("snoop.snoop.zst", "ethernet", 13, 13, "busy"),
    ("suse_6_3.pcap.lz4", "ethernet", 13, 13, "busy"),
    ("wifi_amsdu.pcap.zst", "ieee802_11", 13, 13, "busy"),
    ("exported_from_tls.pcapng.zst", "wireshark_upper_pdu", 26, 13, "busy"),
    ("exported_segments.pcapng.zst", "wireshark_upper_pdu", 30, 18, "succeeded"),
    ("exported_sip_over_tcp.pcapng.zst", "wireshark_upper_pdu", 18, 18, "succeeded"),
    ("with_usb.pcapng.zst", "link_type_189", 18, 13, "busy"),
];

fn captures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)
}

fn run(args: &[&str], files: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sipobs")).arg("pcap").args(args).args(files).output().unwrap()
}

/// The records, the exit status, and what was said to standard error.
fn jsonl(files: &[&Path]) -> (Vec<Value>, i32, String) {
    let output = run(&["--format", "jsonl"], files);
    let text = String::from_utf8(output.stdout).unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (records, output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The text for a person, the exit status, and what was said to standard error.
fn text(files: &[&Path]) -> (String, i32, String) {
    let Output { status, stdout, stderr } = run(&[], files);
    (String::from_utf8(stdout).unwrap(), status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

/// A classic pcap of this link type with so many frames of 40 zeros.
fn pcap(link: u32, frames: usize) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let head = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link]);
    [head, [words(&[1_700_000_000, 0, 40, 40]), vec![0; 40]].concat().repeat(frames)].concat()
}

#[test]
fn what_a_call_came_in_makes_no_difference() {
    let (reference, ..) = jsonl(&[&captures("livekit/refer_busy.pcap")]);
    for &(name, link, frames, messages, outcome) in FILES {
        let path = captures("files").join(name);
        let (records, exit, said) = jsonl(&[&path]);
        let summary = records.last().unwrap();
        let file = &summary["files"][0];
        assert_eq!(file["name"], path.to_str().unwrap());
        assert_eq!((&file["frames"], &file["messages"]), (&json!(frames), &json!(messages)), "{name}");
        assert!(file["link_types"][link].as_u64() > Some(0), "{name}: {file}");
        assert_eq!(summary["transfers"], json!({ outcome: 1 }), "{name}");
        assert_eq!((&summary["packets"], &summary["messages"]), (&file["frames"], &file["messages"]));

        let read = link != "link_type_189";
        assert_eq!((exit, said.is_empty()), (i32::from(!read), read), "{name}: {said}");
        if outcome == "busy" && read && link != "wireshark_upper_pdu" {
            let told = |records: &[Value]| records.iter().map(story).collect::<Vec<_>>();
            assert_eq!(
                told(&records[..records.len() - 1]),
                told(&reference[..reference.len() - 1]),
                "{name}"
            );
        }
    }
    let here = fs::read_dir(captures("files")).unwrap().count();
    assert_eq!(here, FILES.len(), "every file has its line");
}

/// A record without its times, which those that were captured anew have other ones of.
fn story(record: &Value) -> Value {
    let lines = record["messages"].as_array().into_iter().flatten();
    let lines: Vec<_> = lines.map(|m| json!([m["from"], m["to"], m["line"], m["frame"]])).collect();
    json!([record["kind"], record["call_id"], record["outcome"], record["status"], lines])
}

#[test]
fn frames_of_unknown_link_types_are_counted_said_and_no_success() {
    let mixed = captures("files/with_usb.pcapng.zst");
    let (records, exit, said) = jsonl(&[&mixed]);
    let summary = records.last().unwrap();
    assert_eq!(exit, 1);
    assert!(
        said.contains("with_usb.pcapng.zst: 5 of 18 frames could not be read (5 link type 189)"),
        "{said}"
    );
    assert!(said.contains("-U 'OSI layer 7'"), "{said}");
    assert_eq!(summary["not_understood"], json!({ "link_type_189": 5 }));
    let file = &summary["files"][0];
    assert_eq!(file["unread"], json!({ "link_type_189": 5 }));
    assert_eq!(file["link_types"], json!({ "ethernet": 13, "link_type_189": 5 }));
    assert_eq!(file["error"], "5 of 18 frames could not be read (5 link type 189)");
    assert_eq!(file["last"], "2026-11-23T22:07:39.052187Z");

    // Nothing else in it; and behind a header that names it.
    let folder = tempfile::tempdir().unwrap();
    let usb = folder.path().join("usb.pcap");
    fs::write(&usb, pcap(189, 3)).unwrap();
    let (said, exit, _) = text(&[&usb]);
    assert!(!said.contains("No transfer was seen"), "{said}");
    assert!(said.contains("Whether there was a transfer cannot be told"), "{said}");
    assert!(said.contains("Not understood: 3 link type 189."), "{said}");
    assert_eq!(exit, 1);

    let mut user = pcap(258, 1);
    user[40..52].copy_from_slice(&[108, 0, 0, 0, 1, 0, 0, 0, 147, 0, 0, 0]);
    user.extend([0; 100]);
    (user[32], user[36]) = (140, 140);
    fs::write(&usb, user).unwrap();
    let (records, exit, said) = jsonl(&[&usb]);
    assert_eq!(exit, 1);
    assert!(said.contains("1 of 1 frames could not be read (1 link type)"), "{said}");
    assert_eq!(records[0]["not_understood"], json!({ "link_type": 1 }));
}

#[test]
fn a_file_that_was_not_read_to_its_end_proves_no_absence() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(captures("livekit/plain_bye_livekit.pcap")).unwrap();
    let path = folder.path().join("cut.pcap");
    fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    let (said, exit, complaint) = text(&[&path]);
    assert_eq!(exit, 1);
    assert!(complaint.contains("cut.pcap: cut short at offset"), "{complaint}");
    assert!(said.contains("Not all of") && said.contains("cut.pcap was read: cut short"), "{said}");
    assert!(!said.contains("No transfer was seen"), "{said}");

    // The whole of it does; an empty capture, too.
    let (said, exit, _) = text(&[&captures("livekit/plain_bye_livekit.pcap")]);
    assert!(said.contains("No transfer was seen in this capture."), "{said}");
    assert_eq!(exit, 0);
    fs::write(&path, pcap(1, 0)).unwrap();
    let (records, exit, _) = jsonl(&[&path]);
    assert_eq!(exit, 0);
    assert_eq!(
        (&records[0]["files"][0]["first"], &records[0]["files"][0]["frames"]),
        (&json!(null), &json!(0))
    );
}

#[test]
fn each_of_several_files_has_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let text_file = folder.path().join("notes.txt");
    fs::write(&text_file, "no capture").unwrap();
    let missing = folder.path().join("missing.pcap");
    let (good, usb) = (captures("recorded/pjsua_blind_ok.pcap"), captures("files/with_usb.pcapng.zst"));
    let (records, exit, said) = jsonl(&[&good, &text_file, &missing, &usb]);
    assert_eq!(exit, 1);
    assert_eq!(said.lines().count(), 3, "{said}");
    let summary = records.last().unwrap();
    let files = summary["files"].as_array().unwrap();
    let counts: Vec<_> = files.iter().map(|file| [&file["frames"], &file["messages"]]).collect();
    assert_eq!(counts, [[18, 18], [0, 0], [0, 0], [18, 13]]);
    assert_eq!(files[0]["error"], json!(null));
    assert!(files[1]["error"].as_str().unwrap().starts_with("not a pcap, pcapng or snoop file"));
    assert!(files[2]["error"].as_str().unwrap().starts_with("cannot be opened"));
    assert_eq!((&summary["packets"], &summary["messages"]), (&json!(36), &json!(31)));

    // A name mistyped, before anything was read, is a mistake in the arguments.
    let (records, exit, _) = jsonl(&[&missing, &good]);
    assert_eq!((records.len(), exit), (0, 2));
}

/// The beginning of a call whose NOTIFY never comes, up to the silence, in a file of sipobs's own that says that it went on for
/// so many seconds.
fn silence(file: &Path, went_on: Option<u64>) {
    use sipobs::capture::file::{Reader, Writer};

    let silence = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/10_silence/input.pcap");
    let mut reader = Reader::open(&silence).unwrap();
    let mut writer = Writer::new(fs::File::create(file).unwrap()).unwrap();
    let mut last = None;
    // All before the BYE.
    for _ in 0..6 {
        let frame = reader.next().unwrap().unwrap();
        writer.frame(&frame, "", "").unwrap();
        last = Some(frame.time);
    }
    if let Some((seconds, last)) = went_on.zip(last) {
        writer.until(last + std::time::Duration::from_secs(seconds)).unwrap();
    }
    writer.finish().unwrap();
}

/// A capture that says until when it was made: what was waited for until then did not come, unless it says what nobody
/// believes.
#[test]
fn a_capture_is_believed_that_it_went_on_without_a_frame() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("silence.pcapng");
    for (seconds, outcome) in
        [(None, "unknown"), (Some(170), "unknown"), (Some(200), "notify_timeout"), (Some(200_000), "unknown")]
    {
        silence(&file, seconds);
        let (records, status, said) = jsonl(&[&file]);
        assert_eq!((status, said.as_str()), (0, ""));
        let told: Vec<_> = records.iter().filter(|line| line["kind"] == "transfer").collect();
        assert_eq!(told.len(), 1, "{seconds:?}");
        assert_eq!(told[0]["outcome"], outcome, "{seconds:?}");
    }
}

/// A program that cuts a capture to pieces may keep what the whole says of its end: only what sipobs wrote is believed.
#[test]
fn a_slice_is_not_believed_that_it_went_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("slice.pcapng");
    silence(&file, Some(200));
    let mut bytes = fs::read(&file).unwrap();
    let name = bytes.windows(7).position(|bytes| bytes == b"sipobs ").unwrap();
    bytes[name..name + 7].copy_from_slice(b"tshark ");
    fs::write(&file, bytes).unwrap();
    let (records, ..) = jsonl(&[&file]);
    let told = records.iter().find(|line| line["kind"] == "transfer").unwrap();
    assert_eq!(told["outcome"], "unknown");
}
