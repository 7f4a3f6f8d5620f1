//! Records that the real logrotate rotates, as the package has it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peers::Peers;
use super::{END, Ground, Seen};
use crate::children::output;
use crate::daemon::json_lines;
use crate::lab::Lab;

/// What the package's rules have in the place of the daemon's file, and of the way to tell it.
const SHIPPED: &str = "/var/log/sipobs/*.jsonl";
const TELL: &str =
    "if [ -d /run/systemd/system ]; then systemctl reload sipobs.service 2>/dev/null || true; fi";
/// Calls, each of which is transferred; the file is rotated twice among them.
const CALLS: usize = 60;

/// No record is lost, torn or written twice while the file is rotated under calls.
pub(super) fn rotated(ground: &Ground) -> Result<Seen> {
    let lab: Lab = Ground::lab("rotation")?;
    let folder = lab.dir.join("records");
    fs::create_dir(&folder)?;
    let path = folder.join("records.jsonl");
    let plan = ground.plan(&lab).impatient().set("SIPOBS_JSONL__PATH", &path);
    let mut subject = plan.start()?;
    let rules = fs::read_to_string(crate::root().join("deploy/debian/logrotate"))?;
    ensure!(rules.contains(SHIPPED) && rules.contains(TELL), "the package's rules are others:\n{rules}");
    let tell = format!("kill -HUP {}", subject.pid());
    let own = lab.dir.join("logrotate.conf");
    fs::write(&own, rules.replace(SHIPPED, &path.display().to_string()).replace(TELL, &tell))?;

    let peers = Peers::new(&lab)?;
    for number in 0..CALLS {
        let call = peers.call(&format!("rotated-{number}"))?;
        call.refer()?;
        call.transferred()?;
        if [CALLS / 3, 2 * CALLS / 3].contains(&number) {
            // Some are written, and others are to come: an empty file is not rotated.
            subject.wait_count("sipobs_transfer_attempts_total", &[], 3 * number as u64 / 4)?;
            rotate(&own, &lab.dir.join("logrotate.state"))?;
            subject.wait("there is a new file", END, |_| Ok(path.exists().then_some(())))?;
        }
    }
    subject.wait_count("sipobs_transfer_attempts_total", &[], CALLS as u64)?;
    let (_, said) = subject.stop(0, END)?;
    ensure!(said.matches("records go on in a new ").count() == 2, "{said}");

    let mode = path.metadata()?.permissions().mode() & 0o777;
    ensure!(mode & 0o137 == 0, "everybody may read records: {mode:o}");
    let old = folder.join("records.jsonl.2.gz");
    let first = output(Command::new("gzip").arg("-dc").arg(&old))?;
    let texts = [first, fs::read_to_string(folder.join("records.jsonl.1"))?, fs::read_to_string(&path)?];
    let files: Vec<Vec<Value>> = texts.iter().map(|text| json_lines(text)).collect::<Result<_>>()?;
    let counts: Vec<usize> =
        files.iter().map(|lines| lines.iter().filter(|line| line["kind"] == "transfer").count()).collect();
    ensure!(counts.iter().all(|count| *count > 0), "{counts:?} transfers in the three files");
    for number in 0..CALLS {
        let id = format!("rotated-{number}");
        let of = files.iter().flatten().filter(|line| line["kind"] == "transfer" && line["call_id"] == *id);
        ensure!(of.count() == 1, "{id} is not there once");
    }
    let line = files[2].first().context("an empty file")?;
    ensure!(line["schema"] == 1 && line["host"].is_string(), "{line}");
    Ok(Seen::Passed(format!("{counts:?} transfers in the three files, {CALLS} in all, each once")))
}

fn rotate(rules: &Path, state: &Path) -> Result<()> {
    output(Command::new("logrotate").arg("--force").arg("--state").arg(state).arg(rules)).map(drop)
}
