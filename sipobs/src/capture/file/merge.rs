//! Several files are one capture: their frames in the order of time, in whatever order the files are named.
//!
//! A file is opened when its first frame is due and closed behind its last one, so the pieces of a rotated capture take
//! one reader, and taps of one call as many as there are taps. Frames of one file keep their order, also where their
//! times go back: what such times mean is for [`crate::clock`] to judge. A frame whose time leaps ahead is placed by the
//! two behind it, so that one that lies holds up nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Contents, Fault, FileError, Progress, Reader, Stop};
use crate::frame::{Frame, Place};
use crate::stream::KeyLog;
use crate::timestamp::Timestamp;

/// Files that are read side by side, at most.
pub const MOST_OPEN: usize = 256;
/// Frames that tell when one that leaps was captured, itself among them.
const AROUND: usize = 3;
/// Time goes on by less than this from one frame to the next, or the next ones are asked.
const LEAP: Duration = Duration::from_secs(33);

/// When a file begins that holds no frame.
const NO_FRAME: Timestamp = Timestamp::from_nanos(i64::MIN);
/// Files that a copy is looked for among: those of its length that begin when it does.
const MOST_ALIKE: usize = 8;

/// Reads several files as one capture.
#[derive(Debug)]
pub struct Capture {
    /// By the time of their first frames.
    sources: Vec<Source>,
    /// Those that are not opened yet, the next one last.
    to_come: Vec<usize>,
    /// Those that are open, by the time of the frame that each has come to.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// The source whose frame was given last.
    lent: Option<usize>,
    /// Secrets that were read and not given yet.
    keys: KeyLog,
    repeated: Vec<(usize, String, String)>,
    /// Those that were not opened, as the end was asked for.
    left: Vec<usize>,
    stop: Stop,
}

/// What comes next in a capture.
#[derive(Debug)]
pub enum Next<'a> {
    /// A frame. Its number is a [`Place`], and its interface is told from those of other files.
    Frame(Frame<'a>),
    /// Secrets of TLS that a file holds: of sessions in whatever file.
    Secrets(KeyLog),
    /// A file was read as far as it can be.
    End(Box<End>),
}

/// A file that was read.
#[derive(Debug)]
pub struct End {
    /// Its index.
    pub file: usize,
    /// The file as it was named, and which of those on the command line it is.
    pub name: String,
    /// See `name`.
    pub named: usize,
    /// What it held.
    pub contents: Contents,
    /// Why not all of it could be read.
    pub error: Option<FileError>,
    /// No other file is open: the next one begins behind it.
    pub is_alone: bool,
}

/// Two files that hold frames of the same time: taps of one network, or a capture that was started twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The one that begins first.
    pub first: String,
    /// The one that begins before that ends.
    pub second: String,
    /// For how long both have frames.
    pub by: Duration,
}

impl Capture {
    /// Opens the files at `paths`; `-` is standard input. A file that is named twice, or copied whole, is read once.
    /// One that can't be opened, or is no capture, is told by [`Self::next`]; the others are read.
    ///
    /// # Errors
    ///
    /// When the first one can't be opened: nothing was read yet, and a name mistyped is told at once.
    pub fn open<P: AsRef<Path>>(paths: &[P], stop: &Stop) -> Result<Self, FileError> {
        let alone = paths.len() == 1;
        let mut sources: Vec<Source> = Vec::new();
        let mut repeated = Vec::new();
        let mut known = Known::default();
        for (named, path) in paths.iter().enumerate() {
            let mut source = Source::new(named, path.as_ref(), stop);
            if let Some(same) = known.same(&source) {
                repeated.push((named, source.name(), sources[same].name()));
                continue;
            }
            source.look(alone);
            match source.failed.take() {
                Some(error) if named == 0 && matches!(error.fault, Fault::Open(_)) => return Err(error),
                failed => source.failed = failed,
            }
            match known.copied(&source).iter().find(|&&other| source.is_copy_of(&sources[other], stop)) {
                Some(&other) => repeated.push((named, source.name(), sources[other].name())),
                None => {
                    known.add(&source, sources.len());
                    sources.push(source);
                }
            }
        }
        // By name where times are the same, so that the order on the command line changes nothing.
        sources.sort_by(|a, b| (a.start, &a.path).cmp(&(b.start, &b.path)));
        let to_come = (0..sources.len()).rev().collect();
        let mut keys = KeyLog::default();
        sources.iter_mut().for_each(|source| keys.join(&std::mem::take(&mut source.keys)));
        Ok(Self {
            sources,
            to_come,
            heads: BinaryHeap::new(),
            lent: None,
            keys,
            repeated,
            left: Vec::new(),
            stop: stop.clone(),
        })
    }

    /// What comes next; `None` after the end of the last file.
    #[allow(clippy::should_implement_trait, reason = "the frame borrows from the capture")]
    pub fn next(&mut self) -> Option<Next<'_>> {
        if let Some(file) = self.lent.take()
            && let Some(end) = self.advance(file)
        {
            return Some(Next::End(Box::new(end)));
        }
        if self.stop.is_asked()
            && let Some(file) = self.take_regular()
        {
            let error = FileError { file: self.sources[file].name(), fault: Fault::Interrupted };
            return Some(Next::End(Box::new(self.close(file, Some(error)))));
        }
        if self.stop.is_asked() {
            self.leave_unopened();
        }
        while let Some(&file) = self.to_come.last()
            && self.heads.peek().is_none_or(|Reverse((time, _))| self.sources[file].start <= *time)
        {
            self.to_come.pop();
            if let Some(end) = self.begin(file) {
                return Some(Next::End(Box::new(end)));
            }
        }
        if !self.keys.is_empty() {
            return Some(Next::Secrets(std::mem::take(&mut self.keys)));
        }
        let Reverse((_, file)) = self.heads.pop()?;
        self.lent = Some(file);
        Some(Next::Frame(self.sources[file].frame(file)?))
    }

    /// How far it has come, over all files.
    pub fn progress(&self) -> Progress {
        let all = self.sources.iter().map(Source::progress);
        all.reduce(|a, b| Progress { read: a.read + b.read, total: a.total.zip(b.total).map(|(a, b)| a + b) })
            .unwrap_or(Progress { read: 0, total: None })
    }

    /// Whether all of it is in files, so that it can be read another time.
    pub fn can_be_read_again(&self) -> bool {
        self.sources.iter().all(|source| source.identity.is_file() || source.failed.is_some())
    }

    /// Files that are another one again, named twice or copied, and read once: which on the command line, its name, and
    /// that of the other.
    pub fn repeated(&self) -> &[(usize, String, String)] {
        &self.repeated
    }

    /// Files that were not opened, as the end was asked for before: which on the command line, and its name.
    pub fn left(&self) -> impl Iterator<Item = (usize, String)> {
        self.left.iter().map(|&file| (self.sources[file].named, self.sources[file].name()))
    }

    /// The files as they were named, by their index.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.sources.iter().map(Source::name)
    }

    /// Files that begin before one that began earlier ends, as far as they were read.
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut overlaps = Vec::new();
        let mut latest: Option<(&Source, Timestamp)> = None;
        for source in &self.sources {
            let Some(end) = source.end else { continue };
            if let Some((first, until)) = latest
                && source.start < until
            {
                let by = until.min(end).since(source.start);
                overlaps.push(Overlap { first: first.name(), second: source.name(), by });
            }
            if latest.is_none_or(|(_, until)| until < end) {
                latest = Some((source, end));
            }
        }
        overlaps
    }

    /// A file that is not at its end and can be read another time. What comes through a pipe is read to its end.
    fn take_regular(&mut self) -> Option<usize> {
        let is_regular = |file: usize| self.sources[file].identity.is_file();
        let file = self.heads.iter().map(|Reverse((_, file))| *file).find(|&file| is_regular(file))?;
        self.heads.retain(|Reverse((_, other))| *other != file);
        Some(file)
    }

    /// Leaves the files that were not opened yet where they are.
    fn leave_unopened(&mut self) {
        let (left, pipes) = self.to_come.iter().partition(|&&file| self.sources[file].identity.is_file());
        self.to_come = pipes;
        self.left.extend::<Vec<usize>>(left);
    }

    fn begin(&mut self, file: usize) -> Option<End> {
        let open = self.heads.len();
        let source = &mut self.sources[file];
        if open >= MOST_OPEN && source.failed.is_none() {
            source.failed = Some(FileError { file: source.name(), fault: Fault::Beside { most: MOST_OPEN } });
        }
        if let Err(error) = source.open() {
            return Some(self.close(file, Some(error)));
        }
        self.advance(file)
    }

    /// Goes on in a file; what it came to where that was its end.
    fn advance(&mut self, file: usize) -> Option<End> {
        let advanced = self.sources[file].advance();
        let keys = std::mem::take(&mut self.sources[file].keys);
        if !keys.is_empty() {
            self.keys.join(&keys);
        }
        match advanced {
            Ok(Some(time)) => {
                self.heads.push(Reverse((time, file)));
                None
            }
            Ok(None) => Some(self.close(file, None)),
            Err(error) => Some(self.close(file, Some(error))),
        }
    }

    fn close(&mut self, file: usize, error: Option<FileError>) -> End {
        let source = &mut self.sources[file];
        let contents = source.close();
        let is_alone = self.heads.is_empty();
        End { file, name: source.name(), named: source.named, contents, error, is_alone }
    }
}

/// One of the files.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    named: usize,
    identity: Identity,
    /// It is the only one: its frames need no place among those of others.
    alone: bool,
    reader: Option<Reader>,
    /// Why it can't be read.
    failed: Option<FileError>,
    /// What is wrong behind the frames that were read ahead.
    broken: Option<FileError>,
    /// When its first frame was captured, and the last one so far.
    start: Timestamp,
    end: Option<Timestamp>,
    /// Frames that were read ahead, the next one first; empty where the reader has come to the next one.
    ahead: VecDeque<Kept>,
    /// Secrets that it has read.
    keys: KeyLog,
    /// What a reader that is closed had read.
    progress: Progress,
    stop: Stop,
}

/// A frame that was read ahead.
#[derive(Debug)]
struct Kept {
    frame: Frame<'static>,
    bytes: Vec<u8>,
}

impl Source {
    fn new(named: usize, path: &Path, stop: &Stop) -> Self {
        let identity = Identity::of(path);
        let progress = Progress { read: 0, total: identity.length };
        Self {
            path: path.to_owned(),
            named,
            identity,
            alone: false,
            reader: None,
            failed: None,
            broken: None,
            start: NO_FRAME,
            end: None,
            ahead: VecDeque::new(),
            keys: KeyLog::default(),
            progress,
            stop: stop.clone(),
        }
    }

    /// Finds out when it begins. What can be opened again is closed until its time comes.
    fn look(&mut self, alone: bool) {
        self.alone = alone;
        if let Err(error) = self.open() {
            self.failed = Some(error);
            return;
        }
        if alone {
            return;
        }
        self.read_ahead();
        if let Some(start) = self.placed(None) {
            self.start = start;
        }
        if self.identity.is_file() {
            (self.reader, self.broken) = (None, None);
            self.ahead.clear();
        }
    }

    fn open(&mut self) -> Result<(), FileError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.reader.is_none() {
            self.reader = Some(Reader::open_until(&self.path, &self.stop)?);
        }
        Ok(())
    }

    /// Goes on to the next frame; its place in time, `None` after the last.
    fn advance(&mut self) -> Result<Option<Timestamp>, FileError> {
        let before = self.end;
        // Those that were read ahead before the first was asked for stay.
        if before.is_some() {
            self.ahead.pop_front();
        }
        if self.ahead.is_empty() {
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            if let Some(reader) = &mut self.reader {
                let advanced = reader.advance();
                self.keys = reader.take_keys();
                advanced?;
            }
        }
        let Some(mut time) = self.coming().map(|frame| frame.time) else { return Ok(None) };
        let leaps = before.is_none_or(|before| time.since(before) >= LEAP);
        if leaps && !self.alone {
            self.keep();
            self.read_ahead();
            time = self.placed(before).unwrap_or(time);
        }
        if before.is_none() {
            self.start = time;
        }
        self.end = Some(before.map_or(time, |before| before.max(time)));
        Ok(Some(time))
    }

    /// The frame that it has come to, as its reader gives it.
    fn coming(&self) -> Option<Frame<'_>> {
        match self.ahead.front() {
            Some(kept) => Some(Frame { bytes: &kept.bytes, ..kept.frame }),
            None => self.reader.as_ref()?.frame(),
        }
    }

    /// The same as one of the file with this index.
    fn frame(&self, file: usize) -> Option<Frame<'_>> {
        let frame = self.coming()?;
        let number = Place { file, number: frame.number }.in_capture();
        // A file has no more than 65,536 interfaces.
        let interface = frame.interface ^ u32::try_from(file).unwrap_or(u32::MAX) << 16;
        Some(Frame { number, interface, ..frame })
    }

    /// Keeps the frame that the reader has come to, unless it is kept.
    fn keep(&mut self) {
        if self.ahead.is_empty()
            && let Some(frame) = self.reader.as_ref().and_then(Reader::frame)
        {
            self.ahead.push_back(Kept::of(&frame));
        }
    }

    /// Reads as many frames as it takes to tell when the next one was captured.
    fn read_ahead(&mut self) {
        let Some(reader) = &mut self.reader else { return };
        while self.ahead.len() < AROUND && self.broken.is_none() {
            let advanced = reader.advance();
            self.keys.join(&reader.take_keys());
            match advanced {
                Ok(true) => self.ahead.extend(reader.frame().as_ref().map(Kept::of)),
                Ok(false) => return,
                Err(error) => self.broken = Some(error),
            }
        }
    }

    /// When the first of those that were read ahead was captured: the one in the middle of three is no lie.
    fn placed(&self, before: Option<Timestamp>) -> Option<Timestamp> {
        let mut times: Vec<Timestamp> = self.ahead.iter().take(AROUND).map(|kept| kept.frame.time).collect();
        let own = *times.first()?;
        times.sort_unstable();
        let middle = times[(times.len() - 1) / 2];
        let lies = middle.since(own) >= LEAP || own.since(middle) >= LEAP;
        Some(if lies { before.map_or(middle, |before| before.max(middle)) } else { own })
    }

    fn close(&mut self) -> Contents {
        self.progress = self.progress();
        self.ahead.clear();
        self.reader.take().map(|reader| reader.contents).unwrap_or_default()
    }

    fn progress(&self) -> Progress {
        self.reader.as_ref().map_or(self.progress, Reader::progress)
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether it holds the same bytes as another.
    fn is_copy_of(&self, other: &Self, stop: &Stop) -> bool {
        are_equal(&self.path, &other.path, stop).unwrap_or(false)
    }
}

impl Kept {
    fn of(frame: &Frame<'_>) -> Self {
        Self { bytes: frame.bytes.to_vec(), frame: Frame { bytes: &[], ..*frame } }
    }
}

/// Files that were named so far, by what tells that another is the same.
#[derive(Debug, Default)]
struct Known {
    inodes: BTreeMap<(u64, u64), usize>,
    standard_input: Option<usize>,
    /// By the first time and the length.
    contents: BTreeMap<(Timestamp, u64), Vec<usize>>,
}

impl Known {
    /// The one that is the very same.
    fn same(&self, source: &Source) -> Option<usize> {
        match source.identity.inode {
            Some(inode) => self.inodes.get(&inode).copied(),
            None => self.standard_input.filter(|_| source.path.as_os_str() == "-"),
        }
    }

    /// Those that it may be a copy of.
    fn copied(&self, source: &Source) -> &[usize] {
        let key = source.identity.length.map(|length| (source.start, length));
        key.and_then(|key| self.contents.get(&key)).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, source: &Source, index: usize) {
        if let Some(inode) = source.identity.inode {
            self.inodes.insert(inode, index);
        }
        if source.path.as_os_str() == "-" {
            self.standard_input = Some(index);
        }
        // One without frames is no copy of another without.
        let holds = source.failed.is_none() && source.start != NO_FRAME;
        if let Some(length) = source.identity.length.filter(|_| holds) {
            let alike = self.contents.entry((source.start, length)).or_default();
            if alike.len() < MOST_ALIKE {
                alike.push(index);
            }
        }
    }
}

/// What tells one file from another.
#[derive(Clone, Copy, Debug, Default)]
struct Identity {
    /// Device and inode, where there are such.
    inode: Option<(u64, u64)>,
    /// Bytes, of a regular file.
    length: Option<u64>,
}

impl Identity {
    fn of(path: &Path) -> Self {
        let metadata =
            Some(path).filter(|path| path.as_os_str() != "-").and_then(|path| path.metadata().ok());
        metadata.filter(Metadata::is_file).map_or_else(Self::default, |metadata| Self {
            inode: inode(&metadata),
            length: Some(metadata.len()),
        })
    }

    /// Whether it can be opened again.
    fn is_file(self) -> bool {
        self.length.is_some()
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Whether two files hold the same bytes, as far as nobody asks for the end before.
fn are_equal(a: &Path, b: &Path, stop: &Stop) -> io::Result<bool> {
    const PIECE: usize = 64 << 10;
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut of_a, mut of_b) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    loop {
        of_a.clear();
        of_b.clear();
        a.by_ref().take(PIECE as u64).read_to_end(&mut of_a)?;
        b.by_ref().take(PIECE as u64).read_to_end(&mut of_b)?;
        if of_a != of_b || of_a.is_empty() || stop.is_asked() {
            return Ok(of_a == of_b && !stop.is_asked());
        }
    }
}
