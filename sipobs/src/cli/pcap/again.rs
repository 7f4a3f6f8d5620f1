//! A capture is read once more, after it was judged.

use std::time::Duration;

use sipobs::capture::file::{Capture, End, Next};
use sipobs::engine::Engine;
use sipobs::timestamp::Timestamp;

/// What gives frames as often as they are asked for anew.
pub(in crate::cli) trait Frames {
    /// What comes next; `None` behind the last.
    fn next(&mut self) -> Option<Next<'_>>;
}

impl Frames for Capture {
    fn next(&mut self) -> Option<Next<'_>> {
        Self::next(self)
    }
}

/// Gives all of it to `engine`, to the end. What that has to say is for `drain`, after each frame; `ended` hears of files
/// that are over.
pub(in crate::cli) fn run(
    mut capture: impl Frames,
    engine: &mut Engine,
    mut drain: impl FnMut(&mut Engine),
    mut ended: impl FnMut(&End),
) {
    let mut last = Timestamp::default();
    let mut until = None;
    while let Some(next) = capture.next() {
        match next {
            Next::Frame(frame) => {
                last = frame.time;
                engine.frame(&frame);
            }
            Next::Secrets(keys) => engine.add_keys(&keys),
            Next::End(end) => {
                ended(&end);
                until = until.max(end.contents.until);
                if end.is_alone {
                    engine.end_file();
                }
            }
        }
        drain(engine);
    }
    finish(engine, last, until);
    drain(engine);
}

/// The longest that a capture is believed to have gone on without a frame.
pub(super) const LONGEST_SILENCE: Duration = Duration::from_secs(86_400);

/// Settles all, at the time of the `last` frame, or where a file says `until` when it was captured, then: what was waited
/// for until then did not come.
pub(super) fn finish(engine: &mut Engine, last: Timestamp, until: Option<Timestamp>) {
    let until = until.filter(|until| *until > last && until.since(last) <= LONGEST_SILENCE);
    if let Some(until) = until {
        engine.handle_timeout(until);
    }
    engine.finish(until.unwrap_or(last));
}

/// Judged already.
pub(super) fn unheard(engine: &mut Engine) {
    while engine.poll_output().is_some() {}
}
