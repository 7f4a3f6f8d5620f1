//! The flight recorder: failed transfers leave a file that says what the daemon said, and nothing else does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peers::Peers;
use super::{END, Ground, Seen, holds};
use crate::children::output;
use crate::daemon::{json_lines, transfer_of};
use crate::lab::Lab;

/// What must be the same when the file is read, whoever is named in it.
pub(crate) const VERDICT: &[&str] = &[
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
];
/// Digits of both parties of [`Peers`]' calls.
const NUMBERS: &str = "1510555013";
/// The verdicts of attempts that nobody tells of come soon.
const IMPATIENT: (&str, &str) = ("SIPOBS_TIMERS__NOTIFY", "3s");

/// A transfer that fails, one that nobody tells of, and one that works, masked and not.
pub(super) fn failed(ground: &Ground) -> Result<Seen> {
    for redact in ["parties", "nothing"] {
        failed_with(ground, redact).with_context(|| format!("redact = {redact:?}"))?;
    }
    Ok(Seen::Passed("each file gives the verdict that was said, from the INVITE on".into()))
}

fn failed_with(ground: &Ground, redact: &str) -> Result<()> {
    let lab = Ground::lab("recorder")?;
    let folder = lab.dir.join("evidence");
    let plan = ground.plan(&lab).impatient().set(IMPATIENT.0, IMPATIENT.1);
    let plan = plan.set("SIPOBS_RECORDER__FOLDER", &folder).set("SIPOBS_RECORDER__AFTER", "1s");
    let mut subject = plan.set("SIPOBS_RECORDER__REDACT", redact).start()?;
    let peers = Peers::new(&lab)?;
    let works = peers.call("works")?;
    works.refer()?;
    works.transferred()?;
    let busy = peers.call("busy")?;
    busy.refer()?;
    busy.busy()?;
    // Behind the verdict, and yet in its file.
    busy.hang_up()?;
    let silent = peers.call("silent")?;
    silent.refer()?;
    subject.wait_count("sipobs_recorder_files_written_total", &[], 2)?;
    let metrics = subject.metrics()?;
    for name in
        ["recorder_files_dropped_total", "recorder_files_differing_total", "recorder_files_incomplete_total"]
    {
        let count = metrics.sum(&format!("sipobs_{name}"), &[])?;
        ensure!(count == 0, "{name} is {count}");
    }
    ensure!(metrics.sum("sipobs_recorder_frames", &[])? >= 18, "frames are not kept:\n{}", metrics.text);
    let (lines, said) = subject.stop(0, END)?;
    ensure!(!said.contains("warning") && !said.contains("WARN"), "{said}");

    let works = transfer_of(&lines, "works").context("a transfer is missing")?;
    ensure!(works["outcome"] == "succeeded" && works.get("evidence_file").is_none(), "{works}");
    let mut named = BTreeSet::new();
    for (id, outcome) in [("busy", "busy"), ("silent", "notify_timeout")] {
        let told = transfer_of(&lines, id).with_context(|| format!("{id} is missing"))?;
        ensure!(told["outcome"] == outcome, "{id} is {}", told["outcome"]);
        let name = told["evidence_file"].as_str().with_context(|| format!("{id} names no file"))?;
        ensure!(name == format!("{}.pcapng", told["id"].as_str().unwrap_or_default()), "{name}");
        named.insert(name.to_owned());
        same(ground, &folder.join(name), told, redact)?;
    }
    let there: BTreeSet<String> = names(&folder)?.into_iter().collect();
    ensure!(there == named, "{there:?} in the folder, {named:?} in the records");
    Ok(())
}

/// The file gives the same verdict by itself, and names whom it may name.
fn same(ground: &Ground, file: &Path, told: &Value, redact: &str) -> Result<()> {
    let mut read = Command::new(&ground.sipobs);
    read.args(["pcap", "--format", "jsonl"]).arg(file).env(IMPATIENT.0, IMPATIENT.1);
    let read =
        json_lines(&output(read.env("SIPOBS_TIMERS__TARGET", "1s").env("SIPOBS_TIMERS__GRACE", "1s"))?)?;
    let transfers: Vec<_> = read.iter().filter(|line| line["kind"] == "transfer").collect();
    let [read] = transfers[..] else { anyhow::bail!("{} transfers in {}", transfers.len(), file.display()) };
    for field in VERDICT {
        let (now, then) = (&read[*field], &told[*field]);
        ensure!(now == then, "{}: {field} is {now}, and was told as {then}", file.display());
    }
    ensure!(read["quality"]["midcall"] == 0, "it does not begin with the INVITE: {}", read["quality"]);
    let bytes = fs::read(file)?;
    let holds = |text: &str| memmem(&bytes, text.as_bytes());
    let verdict = format!("this is the verdict of {}", told["id"].as_str().unwrap_or_default());
    ensure!(told["outcome"] != "busy" || holds(&verdict), "no packet says {verdict:?}");
    ensure!(holds("INVITE of the call"), "no packet says which call it is of");
    ensure!(told["outcome"] != "busy" || holds("BYE of the call"), "what came behind the verdict is missing");
    ensure!(holds(NUMBERS) == (redact == "nothing"), "numbers are there: {}", holds(NUMBERS));
    Ok(())
}

fn memmem(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// What is old goes, what is too much goes, and what is somebody else's stays.
pub(super) fn retention(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("recorder-retention")?;
    let folder = lab.dir.join("evidence");
    fs::create_dir(&folder)?;
    let make = |name: &str, bytes: usize, age: u64| -> Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, vec![0; bytes])?;
        #[allow(clippy::disallowed_methods, reason = "of a file")]
        let then = std::time::SystemTime::now() - Duration::from_secs(age);
        File::options().write(true).open(&path)?.set_modified(then)?;
        Ok(path)
    };
    let old = make("00000000000000aa.pcapng", 10, 3 * 86_400)?;
    let large = make("00000000000000bb.pcapng", 900 << 10, 7200)?;
    let larger = make("00000000000000cc.pcapng", 900 << 10, 3600)?;
    let others = make("somebody's.pcapng", 2 << 20, 300 * 86_400)?;
    let plan = ground.plan(&lab).set("SIPOBS_RECORDER__FOLDER", &folder);
    let plan = plan.set("SIPOBS_RECORDER__MOST_AGE", "1day").set("SIPOBS_RECORDER__MOST_BYTES", "1MiB");
    let mut subject = plan.start()?;
    subject.wait_count("sipobs_recorder_files_removed_total", &["reason=\"age\""], 1)?;
    subject.wait_count("sipobs_recorder_files_removed_total", &["reason=\"bytes\""], 1)?;
    subject.stop(0, END)?;
    ensure!(!old.exists() && !large.exists(), "what is old or too much is still there");
    ensure!(larger.exists() && others.exists(), "more was removed than was to be: {:?}", names(&folder)?);
    Ok(Seen::Passed("the old one and the oldest are gone".into()))
}

/// A folder that can't be one.
pub(super) fn refused(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("recorder-folder")?;
    let file = lab.dir.join("file");
    fs::write(&file, "precious")?;
    let nowhere = lab.dir.join("no/where");
    for (folder, why) in [
        (&*file, "is a regular file, not a directory"),
        (&*nowhere, "cannot be made: No such file or directory"),
        (Path::new("/sys/kernel"), "cannot be written, so no evidence would be kept"),
    ] {
        let said = ground.plan(&lab).set("SIPOBS_RECORDER__FOLDER", folder).fails(2)?;
        holds(&said, &[&format!("recorder.folder: {}", folder.display()), why])?;
    }
    ensure!(fs::read_to_string(&file)? == "precious", "it was touched");
    Ok(Seen::Passed("three kinds refused with exit 2".into()))
}

/// A folder that is gone meanwhile.
pub(super) fn gone(ground: &Ground) -> Result<Seen> {
    let lab: Lab = Ground::lab("recorder-gone")?;
    let folder = lab.dir.join("evidence");
    fs::create_dir(&folder)?;
    let plan = ground.plan(&lab).impatient().set("SIPOBS_RECORDER__FOLDER", &folder);
    let mut subject = plan.set("SIPOBS_RECORDER__AFTER", "0s").start()?;
    fs::remove_dir(&folder)?;
    let peers = Peers::new(&lab)?;
    let fails = |id: &str| -> Result<()> {
        let call = peers.call(id)?;
        call.refer()?;
        call.busy()?;
        call.hang_up()
    };
    fails("one")?;
    fails("two")?;
    subject.wait_count("sipobs_recorder_files_dropped_total", &["reason=\"failed\""], 2)?;
    let (lines, said) = subject.stop(0, END)?;
    ensure!(said.matches("evidence cannot be written").count() == 1, "{said}");
    ensure!(lines.iter().filter(|line| line["kind"] == "transfer").count() == 2, "verdicts are missing");
    Ok(Seen::Passed("said once, counted, and the verdicts are there".into()))
}

fn names(folder: &Path) -> Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
