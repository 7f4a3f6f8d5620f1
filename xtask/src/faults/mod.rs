//! What can go wrong around the daemon, made to happen: each row in a lab of its own, with what the daemon must
//! say, count or exit with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::children::check_interrupt;
use crate::daemon::Frames;
use crate::lab::Lab;
pub(crate) use inside::NameServer;
pub(crate) use peers::Peers;
pub(crate) use recorder::VERDICT;
pub(crate) use subject::Plan;

mod accounting;
mod collectors;
mod files;
mod hostile;
mod identity;
pub(crate) mod inside;
mod interfaces;
mod life;
mod log;
mod machine;
mod peers;
mod privilege;
mod programs;
mod recorder;
mod reload;
mod restart;
mod rotation;
mod secrets;
mod subject;

/// The end of a daemon that has nothing to wait for; generous, as the machine may be busy.
const END: Duration = Duration::from_secs(15);

/// What became of a row that did not fail: what was seen, or why it can't be done here.
enum Seen {
    Passed(String),
    Skipped(String),
}

type Row = (&'static str, &'static str, fn(&Ground) -> Result<Seen>);

const ROWS: &[Row] = &[
    ("capabilities", "three capabilities are enough, and each one missing is named", privilege::capabilities),
    ("shed", "a daemon started by root keeps no more than it needs", privilege::shed),
    ("sigterm", "open attempts are settled as unknown and their spans delivered", life::sigterm),
    ("sigterm-dead", "a dead collector does not hold up the end", life::sigterm_without_collector),
    ("ends-watching", "what comes while it ends is not missed", life::watches_to_the_end),
    ("kill", "kill -9 leaves nothing, a restart one program each way", life::killed_and_restarted),
    ("kill-midcall", "a call that began before the restart is marked so", life::killed_midcall),
    ("restarts", "two restarts in the middle of a transfer: one attempt, trace, count", restart::midtransfer),
    ("restart-late", "what a successor comes too late for is settled once", restart::late),
    ("restart-kill", "after kill -9 a lone NOTIFY is told for what it is", restart::killed),
    ("restart-spans", "spans that nobody took are delivered by the next run", restart::spans),
    ("attach", "attaching and detaching cost no packet", life::attached_and_detached),
    ("reload", "SIGHUP takes up another configuration while a call is up", reload::reloaded),
    ("config-map", "a configuration that changes is taken up, a faulty one is not", reload::config_map),
    ("hangup", "but is the end where it means that the terminal is gone", reload::hung_up),
    ("appears", "an interface that fits is followed as it comes and goes", interfaces::followed),
    ("vanishes", "one that was named and goes is missed", interfaces::vanished),
    ("default-route", "a default route is followed, whichever way it is made", interfaces::default_route),
    ("missing", "a named interface that is missing is an error", interfaces::missing),
    ("exclude", "exclude wins", interfaces::excluded),
    ("collector-late", "a collector that comes late gets every span", collectors::late),
    ("collector-slow", "a collector that does not answer costs the capture nothing", collectors::slow),
    ("collector-4xx", "what the collector refuses is dropped and counted", collectors::refusing),
    ("collector-5xx", "what the collector fails at is tried again", collectors::failing),
    ("collector-dns", "a name that nobody resolves does not hold up the end", collectors::nameless),
    ("no-native-xdp", "a driver without XDP gets generic XDP", programs::generic),
    ("mtu-9001", "jumbo frames are seen whole", programs::jumbo),
    ("two-daemons", "another program is never displaced", programs::occupied),
    ("tc-before", "a tc filter that ends the chain does not blind ours", programs::behind_clsact),
    ("load", "every frame is accounted for under load", identity::load),
    ("overflow", "and when a ring overflows, which verdicts tell", identity::overflow),
    ("restart", "and after a restart", identity::restart),
    ("accounting", "sipobs check --live finds every frame, span and record, at any moment", accounting::even),
    ("cpu", "a CPU goes offline and comes back", machine::cpu),
    ("clock", "a step of the wall clock", machine::clock),
    ("old-kernel", "a kernel without tcx, by its number", machine::old_kernel),
    ("disk-full", "a full disk is said, counted, and got over", machine::disk_full),
    ("disk-hangs", "a disk that hangs does not hold up the end", machine::disk_hangs),
    ("config", "a malformed configuration is pointed at", machine::malformed_config),
    ("port", "a port in use is named", machine::port_in_use),
    ("idle", "1,100 idle connections do not end the capture, nor keep others out", hostile::idle),
    ("slow-clients", "500 connections that dawdle are closed in time", hostile::slow),
    ("token", "beyond loopback the metrics take a token, and there is no start without one", hostile::token),
    ("rebinding", "on loopback it answers in no name but its own", hostile::rebinding),
    ("few-files", "interfaces do not use up the files that all else takes", hostile::few_files),
    ("housekeeping", "a look around that fails does not end the capture", hostile::housekeeping),
    ("state-path", "what is no state file of ours is left as it is", files::state),
    ("jsonl-path", "and what holds no records of ours", files::records),
    ("config-path", "what is no file is not read, and does not hang the start", files::configuration),
    ("foreign-file", "of a file that is not ours nothing is quoted", files::foreign),
    ("closed", "the file system is closed, but for what a whole life takes", files::closed),
    ("recorder", "a failed transfer leaves its packets, which say what the daemon said", recorder::failed),
    ("recorder-room", "old files go, and those that are too much", recorder::retention),
    ("recorder-folder", "a folder that can't be written is told at the start", recorder::refused),
    ("recorder-gone", "and one that goes meanwhile costs no verdict", recorder::gone),
    ("rotation", "logrotate rotates the records, and none is lost", rotation::rotated),
    ("log", "the log tells each change once, in JSON if asked", log::told_once),
    ("secrets", "no complaint shows a secret, and one that all can read is told", secrets::hidden),
];

/// What the rows stand on.
struct Ground {
    sipobs: PathBuf,
}

impl Ground {
    fn lab(name: &str) -> Result<Lab> {
        Lab::new(&crate::scratch(&format!("faults/{name}"))?)
    }

    fn plan<'a>(&self, lab: &'a Lab) -> Plan<'a> {
        Plan::new(lab, &self.sipobs)
    }
}

/// Goes through the rows, all of them even if some fail. With `only`, through that one.
pub(crate) fn run(sipobs: &Path, only: Option<&str>) -> Result<()> {
    let ground = Ground { sipobs: sipobs.into() };
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    for (name, what, row) in ROWS.iter().filter(|(name, ..)| only.is_none_or(|only| only == *name)) {
        let start = Instant::now();
        let seen = row(&ground);
        let seconds = start.elapsed().as_secs_f32();
        match seen {
            Ok(Seen::Passed(facts)) => println!("   {name:15} {what}: {facts} ({seconds:.1} s)"),
            Ok(Seen::Skipped(reason)) => {
                println!("   {name:15} {what}: NOT TESTED: {reason}");
                skipped.push(*name);
            }
            Err(error) => {
                println!("   {name:15} {what}: FAILED after {seconds:.1} s: {error:#}");
                failed.push(*name);
            }
        }
        check_interrupt()?;
    }
    if !skipped.is_empty() {
        println!("   not tested: {}", skipped.join(", "));
    }
    if !failed.is_empty() {
        bail!("these rows failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Fails unless `text` holds every one of `words`.
fn holds(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "{word:?} is not said:\n{text}");
    }
    Ok(())
}

/// A folder that every user can reach, wherever the project lies.
struct Open(PathBuf);

impl Open {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("sipobs-faults-{}-{name}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let open = Self(path);
        fs::set_permissions(&open.0, fs::Permissions::from_mode(0o777))?;
        Ok(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
