//! A capture is read once more, after it was judged.

use sipobs::capture::file::{Capture, End, Next};
use sipobs::engine::Engine;
use sipobs::timestamp::Timestamp;

/// Gives all of it to `engine`, to the end. What that has to say is for `drain`, after each frame; `ended` hears of files
/// that are over.
pub(super) fn run(
    mut capture: Capture,
    engine: &mut Engine,
    mut drain: impl FnMut(&mut Engine),
    mut ended: impl FnMut(&End),
) {
    let mut last = Timestamp::default();
    while let Some(next) = capture.next() {
        match next {
            Next::Frame(frame) => {
                last = frame.time;
                engine.frame(&frame);
            }
            Next::End(end) => {
                ended(&end);
                if end.is_alone {
                    engine.end_file();
                }
            }
        }
        drain(engine);
    }
    engine.finish(last);
    drain(engine);
}

/// Judged already.
pub(super) fn unheard(engine: &mut Engine) {
    while engine.poll_output().is_some() {}
}
