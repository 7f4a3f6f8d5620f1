//! The flight recorder: the last frames in memory, and a file with the packets of each attempt that failed and of each call
//! that lacks a REFER.
//!
//! The capture thread copies each frame once, into a batch. Batches, and what is to be written, go through a bounded queue to a
//! thread of its own, which has all the rest: the frames, the folder, and the time that files take. The capture waits for
//! nothing; what finds no room is counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use rustix::process::setpriority_process;
use sipobs::capture::file::Stop;
use sipobs::config::{self, Config};
use sipobs::evidence::Selection;
use sipobs::export::has_failed;
use sipobs::export::metrics::RecorderCounts;
use sipobs::frame::Frame;
use sipobs::record::Output;
use sipobs::timestamp::Timestamp;

pub(super) use self::folder::Folder;
use self::ring::{Batch, Ring, Search};
use super::now;
use crate::cli::pcap::write::{About, Packets, Redact, Wanted, Wants, Written};
use crate::cli::{note, warn};

mod folder;
mod ring;

/// Batches and requests that may wait for the recorder's thread: some 90 KiB each.
const QUEUE: usize = 256;
/// Files that may wait for what follows their verdict.
const MOST_WAITING: usize = 1024;
/// Once so many wait, one whose calls were seen from one side alone is dropped: anybody can forge such calls.
const CROWDED: usize = MOST_WAITING / 2;
/// Files whose calls are remembered for others of the same calls.
const MOST_RECENT: usize = 256;
/// Of these, so many go into one file.
const MOST_RELATED: usize = 8;
/// How nice the recorder's thread is (setpriority(2)): as nice as can be.
const LAST_TURN: i32 = 19;
/// The longest wait for frames: how soon old ones go.
const IDLE: Duration = Duration::from_secs(1);

/// The near end: the capture thread's.
pub(super) struct Recorder {
    /// When it began to keep frames.
    since: Timestamp,
    batch: Batch,
    queue: SyncSender<Item>,
    counts: Counts,
    over: Receiver<usize>,
}

/// What goes to the recorder's thread.
enum Item {
    Frames(Batch),
    File(Box<Order>),
}

/// A file that is to be written.
#[derive(Debug)]
pub(super) struct Order {
    id: String,
    wants: Wants,
    is_one_sided: bool,
    /// When the verdict was said: nothing else came until then.
    until: Timestamp,
}

impl Order {
    /// What an output asks for, before it is masked: an attempt that failed, or a call that lacks a REFER by more than the
    /// plain fact. Frames are numbered anew by each run, so what messages before `since` say of theirs, which another run captured,
    /// is left out.
    pub(super) fn of(output: &Output, since: Timestamp) -> Option<Self> {
        let (id, until) = match output {
            Output::Transfer(attempt) if has_failed(attempt) => (attempt.id.clone(), attempt.ended),
            Output::Call(call) if call.is_flagged() => (call.id(), call.ended),
            Output::Transfer(_) | Output::Call(_) | Output::Alert(_) | Output::Notice(_) => return None,
        };
        let mut wanted = Wanted::of(output, true)?;
        if let Output::Transfer(attempt) = output {
            let before = attempt.messages.iter().filter(|line| line.time < since);
            wanted.forget(&before.map(|line| line.frame).collect());
        }
        let wants = Wants::one(wanted, &id);
        Some(Self { id, wants, is_one_sided: output.is_one_sided(), until })
    }
}

impl Recorder {
    /// Starts the thread that keeps frames and writes to `folder`, and that may take so long at the end for what is left.
    pub(super) fn start(folder: Folder, config: &Config, last: Duration) -> anyhow::Result<Self> {
        let (queue, items) = sync_channel(QUEUE);
        let (done, over) = sync_channel(1);
        let counts = Counts::new();
        note(format_args!("packets of failed transfers go to {}", folder.path().display()));
        let keeper = Keeper::new(folder, config.clone(), counts.clone());
        thread::Builder::new()
            .name("recorder".into())
            .spawn(move || {
                let _ = done.send(keeper.run(&items, last));
            })
            .context("cannot start the recorder")?;
        let since = Timestamp::from_nanos(i64::try_from(run()).unwrap_or_default());
        Ok(Self { since, batch: Batch::default(), queue, counts, over })
    }

    /// When it began to keep frames.
    pub(super) fn since(&self) -> Timestamp {
        self.since
    }

    /// Keeps a frame.
    pub(super) fn frame(&mut self, frame: &Frame<'_>) {
        self.batch.push(frame);
        if self.batch.is_full() {
            self.hand_on();
        }
    }

    /// Hands on the frames that came.
    pub(super) fn hand_on(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let frames = batch.len() as u64;
        if frames > 0 && self.queue.try_send(Item::Frames(batch)).is_err() {
            self.counts.frames_dropped.fetch_add(frames, Ordering::Relaxed);
        }
    }

    /// Has a file written, and names it in the output that asks for it, which was said at `now` if that is known.
    pub(super) fn write(&mut self, mut request: Order, output: &mut Output, now: Option<Timestamp>) {
        self.hand_on();
        request.until = request.until.max(now.unwrap_or(request.until));
        let name = folder::name(&request.id);
        if self.queue.try_send(Item::File(Box::new(request))).is_err() {
            self.counts.files_refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match output {
            Output::Transfer(attempt) => attempt.evidence_file = name,
            Output::Call(call) => call.evidence_file = name,
            Output::Alert(_) | Output::Notice(_) => {}
        }
    }

    /// What has become of frames and files so far.
    pub(super) fn counts(&self) -> RecorderCounts {
        self.counts.all()
    }

    /// Waits until what is asked for is written, at most for `limit`.
    pub(super) fn finish(mut self, limit: Duration) -> anyhow::Result<()> {
        self.hand_on();
        drop(self.queue);
        match self.over.recv_timeout(limit) {
            Ok(0) => Ok(()),
            Ok(left) => anyhow::bail!("recorder.folder: {left} files were not written: the end came first"),
            Err(_) => anyhow::bail!("recorder.folder: takes no more: what was left of it is lost"),
        }
    }
}

/// Why a file was not written.
#[derive(Clone, Copy, Debug)]
enum Dropped {
    /// The recorder's thread was behind.
    QueueFull,
    /// Too many waited.
    Crowded,
    /// It could not be written.
    Failed,
    /// The daemon ended first.
    Shutdown,
}

impl Dropped {
    const ALL: [(Self, &'static str); 4] = [
        (Self::QueueFull, "queue_full"),
        (Self::Crowded, "crowded"),
        (Self::Failed, "failed"),
        (Self::Shutdown, "shutdown"),
    ];
}

/// What both ends count.
#[derive(Clone)]
struct Counts(Arc<Counted>);

/// What the near end counts needs no lock: the far end, which is nice, might hold it.
struct Counted {
    frames_dropped: AtomicU64,
    /// Files that found no room in the queue.
    files_refused: AtomicU64,
    far: Mutex<RecorderCounts>,
}

impl std::ops::Deref for Counts {
    type Target = Counted;

    fn deref(&self) -> &Counted {
        &self.0
    }
}

impl Counts {
    fn new() -> Self {
        let files_dropped = Dropped::ALL.iter().map(|(_, reason)| (*reason, 0)).collect();
        let files_removed = vec![("bytes", 0), ("age", 0)];
        let far = RecorderCounts { files_dropped, files_removed, ..RecorderCounts::default() };
        let (frames_dropped, files_refused) = Default::default();
        Self(Arc::new(Counted { frames_dropped, files_refused, far: Mutex::new(far) }))
    }

    fn dropped(&self, why: Dropped, files: u64) {
        self.lock().files_dropped[why as usize].1 += files;
    }

    fn lock(&self) -> MutexGuard<'_, RecorderCounts> {
        self.far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> RecorderCounts {
        let mut counts = self.lock().clone();
        counts.frames_dropped = self.frames_dropped.load(Ordering::Relaxed);
        counts.files_dropped[Dropped::QueueFull as usize].1 = self.files_refused.load(Ordering::Relaxed);
        counts
    }
}

/// The far end: keeps frames, and writes files.
struct Keeper {
    config: Config,
    ring: Ring,
    folder: Folder,
    /// Calls of the last files that were asked for.
    recent: VecDeque<Selection>,
    /// Files by when they are due.
    waiting: VecDeque<(Instant, Box<Order>)>,
    counts: Counts,
    /// Not before then: files take half of one CPU's time at most.
    rests_until: Instant,
    /// The last file could not be written, and that was said.
    has_complained: bool,
    /// That files find no room was said.
    is_crowded: bool,
    /// Files that had found no room in the queue when it was last looked at.
    refused: u64,
    /// Its folder's oldest file could not be removed, and that was said.
    is_stuck: bool,
}

impl Keeper {
    fn new(folder: Folder, config: Config, counts: Counts) -> Self {
        let ring = Ring::new(config.recorder.memory.bytes(), config.recorder.history);
        let (recent, waiting, rests_until) = (VecDeque::new(), VecDeque::new(), now());
        Self {
            config,
            ring,
            folder,
            recent,
            waiting,
            counts,
            rests_until,
            has_complained: false,
            is_crowded: false,
            refused: 0,
            is_stuck: false,
        }
    }

    /// Goes on until the near end is gone, and then for `last` at most; gives how many files were left.
    fn run(mut self, items: &Receiver<Item>, last: Duration) -> usize {
        // The capture, and what else runs here, goes first. Where that is forbidden it goes on as it is.
        let _ = setpriority_process(None, LAST_TURN);
        loop {
            let due = self.waiting.front().map(|(due, _)| (*due).max(self.rests_until));
            let wait = due.map_or(IDLE, |due| due.saturating_duration_since(now()));
            match items.recv_timeout(wait.min(IDLE)) {
                Ok(item) => {
                    self.take(item);
                    // Before a file takes its time.
                    items.try_iter().take(QUEUE).for_each(|item| self.take(item));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(last),
            }
            self.tidy();
            let start = now();
            if due.is_some_and(|due| due <= start)
                && let Some((_, request)) = self.waiting.pop_front()
            {
                self.write(&request);
                let end = now();
                self.rests_until = end + end.saturating_duration_since(start);
            }
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Frames(batch) => self.ring.take(batch, now()),
            Item::File(mut request) => {
                // A call that lacks a REFER has second legs of which its attempts tell.
                let own = request.wants.selection().clone();
                // Those alone that it shares a call with itself, or one call that many are in would chain them all.
                let related = self.recent.iter().filter(|before| before.shares(&own)).take(MOST_RELATED);
                related.for_each(|before| request.wants.join(before));
                self.recent.push_back(own);
                if self.recent.len() > MOST_RECENT {
                    self.recent.pop_front();
                }
                let waiting = self.waiting.len();
                if waiting >= MOST_WAITING || waiting >= CROWDED && request.is_one_sided {
                    self.counts.dropped(Dropped::Crowded, 1);
                    return self.complain_of_room();
                }
                self.waiting.push_back((now() + self.config.recorder.after, request));
            }
        }
    }

    /// Says once that files find no room, until none waits any more.
    fn complain_of_room(&mut self) {
        if !std::mem::replace(&mut self.is_crowded, true) {
            warn(format_args!(
                "recorder.folder: more failures than can be written: {} files wait, and others are dropped (sipobs_recorder_files_dropped_total counts them)",
                self.waiting.len()
            ));
        }
    }

    /// Lets go of what is too old, and counts what there is.
    fn tidy(&mut self) {
        let refused = self.counts.files_refused.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.refused, refused) < refused {
            self.complain_of_room();
        }
        self.is_crowded &= !self.waiting.is_empty();
        self.ring.forget(now());
        let removed = self.folder.retire(wall_clock());
        self.removed(removed);
        let (frames, bytes) = self.ring.kept();
        let (files, folder_bytes) = self.folder.holds();
        let mut counts = self.counts.lock();
        (counts.frames, counts.bytes) = (frames as u64, bytes as u64);
        (counts.files, counts.folder_bytes) = (files as u64, folder_bytes);
        counts.waiting = self.waiting.len() as u64;
    }

    fn removed(&mut self, removed: folder::Removed) {
        if removed.is_stuck && !std::mem::replace(&mut self.is_stuck, true) {
            warn(format_args!(
                "recorder.folder: its oldest file cannot be removed, so it takes up more than recorder.most_bytes or recorder.most_age say"
            ));
        }
        self.is_stuck &= removed.is_stuck;
        let mut counts = self.counts.lock();
        counts.files_removed[0].1 += removed.for_bytes;
        counts.files_removed[1].1 += removed.for_age;
    }

    /// Writes what is left, at once, while there is time; gives how many files were not.
    fn end(mut self, limit: Duration) -> usize {
        let end = now() + limit;
        while now() < end
            && let Some((_, request)) = self.waiting.pop_front()
        {
            self.write(&request);
        }
        self.counts.dropped(Dropped::Shutdown, self.waiting.len() as u64);
        self.waiting.len()
    }

    fn write(&mut self, request: &Order) {
        match self.file(request) {
            Ok(written) => {
                self.has_complained = false;
                let mut counts = self.counts.lock();
                counts.written += 1;
                let missing = written.without_beginning as u64 + written.left_out + written.sealed;
                counts.incomplete += u64::from(missing > 0);
                counts.differing += u64::from(written.others > 0);
            }
            Err(error) => {
                self.counts.dropped(Dropped::Failed, 1);
                if !std::mem::replace(&mut self.has_complained, true) {
                    warn(format_args!("recorder.folder: evidence cannot be written: {error:#}"));
                }
            }
        }
    }

    fn file(&mut self, request: &Order) -> anyhow::Result<Written> {
        let Self { config, ring, folder, counts, .. } = self;
        let mut part = folder.begin(&request.id)?;
        let vxlan_ports = config.engine().packet.vxlan_ports;
        let search = Search::new(ring, &vxlan_ports);
        let lost = counts.frames_dropped.load(Ordering::Relaxed);
        let redact = match config.recorder.redact {
            config::Redact::Nothing => None,
            config::Redact::Parties => Some(Redact::Parties),
            config::Redact::Addresses => Some(Redact::Addresses),
        };
        let packets = Packets { config, wants: &request.wants, redact, names: &[], stop: &Stop::never() };
        let about = |written: &Written| About {
            comment: comment(&request.id, ring.since(), written, lost),
            until: Some(request.until),
        };
        let written =
            packets.write(&mut part.file, &part.place, |selection| Ok(search.read(selection)), about)?;
        let removed = folder.finish(&part, wall_clock())?;
        self.removed(removed);
        // Only a request to stop, of which there is none, leaves nothing.
        Ok(written.unwrap_or_default())
    }
}

/// What a file says of itself: whose it is, and what is missing.
fn comment(id: &str, since: Option<Timestamp>, written: &Written, lost: u64) -> String {
    let since =
        since.map_or_else(String::new, |since| format!(", of the frames that are kept, since {since}"));
    let mut comment = format!("The packets of {id}{since}.");
    if written.without_beginning > 0 {
        comment += &format!(
            " Missing: the INVITE that began {} of its calls, which was before that, or was not captured.",
            written.without_beginning
        );
    }
    if written.sealed > 0 {
        comment += &format!(
            " Missing: the packets of {} messages that came over WebSocket, which can't be written over.",
            written.sealed
        );
    }
    if lost > 0 {
        comment += &format!(" {lost} frames of this run, of whatever calls, found no room in the recorder.");
    }
    comment
}

/// Nanoseconds since 1970: a number that no other run has, unless the clock was set back.
pub(super) fn run() -> u64 {
    let since = wall_clock().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

/// By which files grow old.
#[allow(clippy::disallowed_methods, reason = "files are dated by it; it judges nothing")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
