//! How the ends of a call and of its second leg lie in time.
//!
//! Where nothing else ties a second leg to its call, their ends do: a platform that hears one leg's BYE sends the
//! other's, some half a second later. For each way a second leg can end there is a [`Shape`]: how likely its
//! call ends at which moment around that, and from which side. It starts as a broad guess and is sharpened by
//! what this platform is seen to do.

use strum::VariantArray;

use crate::record::Side;

/// Seconds before and after a second leg's end within which its call's end is told apart.
pub(super) const WINDOW: f64 = 8.0;

const BIN: f64 = 0.025;
const BINS: usize = 640; // 2 · WINDOW / BIN
/// How many observed pairs weigh as much as the guess.
const GUESS: f64 = 30.0;
/// An observation speaks for the bins around it as well, this many on each side: 50 ms.
const BLUR: usize = 2;

/// How a second leg came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub(super) enum Close {
    /// BYE by the platform that had placed it.
    Hangup,
    /// BYE by the target.
    TargetHangup,
    /// A final failure.
    Refused,
    /// CANCEL by the platform.
    Cancelled,
    /// CANCEL by the platform at a moment when ring timers run out: all but a few are theirs, and not a caller's
    /// who gave up just then.
    RangOut,
}

/// One piece of the guess: `mass` of all calls end between `from` and `to` seconds after the leg, by `side`.
struct Piece(Close, Side, f64, f64, f64);

/// Most platforms' lag is not known beforehand, only that half a second was seen of LiveKit. What a row of one
/// [`Close`] lacks to 1 are calls that go on as if nothing had been.
const PIECES: [Piece; 23] = [
    // The caller hung up, the platform followed; or it closed both legs at once.
    Piece(Close::Hangup, Side::Caller, -0.75, -0.25, 0.62),
    Piece(Close::Hangup, Side::Caller, -3.0, 0.0, 0.12),
    Piece(Close::Hangup, Side::Callee, -0.1, 0.1, 0.05),
    Piece(Close::Hangup, Side::Callee, -3.0, 3.0, 0.06),
    Piece(Close::Hangup, Side::Caller, -WINDOW, WINDOW, 0.03),
    // The target hung up, and the platform followed; or the caller soon did.
    Piece(Close::TargetHangup, Side::Callee, 0.25, 0.75, 0.62),
    Piece(Close::TargetHangup, Side::Callee, 0.0, 3.0, 0.12),
    Piece(Close::TargetHangup, Side::Caller, 0.0, 8.0, 0.06),
    Piece(Close::TargetHangup, Side::Callee, -WINDOW, WINDOW, 0.03),
    // The agent or the caller says goodbye after a while.
    Piece(Close::Refused, Side::Callee, 1.0, 7.0, 0.20),
    Piece(Close::Refused, Side::Caller, 1.0, WINDOW, 0.20),
    Piece(Close::Refused, Side::Caller, -WINDOW, WINDOW, 0.02),
    // The caller gave up while it rang; else as after a failure.
    Piece(Close::Cancelled, Side::Caller, -0.75, -0.25, 0.30),
    Piece(Close::Cancelled, Side::Caller, -3.0, 0.0, 0.06),
    // Or the platform closed both at once: a room was deleted, an agent gave up.
    Piece(Close::Cancelled, Side::Callee, -0.1, 0.1, 0.05),
    Piece(Close::Cancelled, Side::Callee, 1.0, 7.0, 0.15),
    Piece(Close::Cancelled, Side::Caller, 1.0, WINDOW, 0.15),
    // As after a refusal. A few CANCELs at such a moment are a caller's, who gives up at any: 200 ms of every 5 s.
    Piece(Close::RangOut, Side::Callee, 1.0, 7.0, 0.20),
    Piece(Close::RangOut, Side::Caller, 1.0, WINDOW, 0.20),
    Piece(Close::RangOut, Side::Caller, -WINDOW, WINDOW, 0.02),
    Piece(Close::RangOut, Side::Caller, -0.75, -0.25, 0.02),
    Piece(Close::RangOut, Side::Caller, -3.0, 0.0, 0.006),
    Piece(Close::RangOut, Side::Callee, -0.1, 0.1, 0.02),
];

/// The shapes of all ways to end.
#[derive(Debug)]
pub(super) struct EndLag {
    shapes: [Shape; Close::VARIANTS.len()],
}

#[derive(Debug)]
struct Shape {
    /// Mass a bin, from either side; guess and observations together.
    bins: [Vec<f64>; 2],
    /// All mass before each bin, from both sides: kept, as it is asked for far oftener than it changes.
    before: Vec<f64>,
    /// All mass: [`GUESS`] and one for each observation.
    total: f64,
}

impl EndLag {
    pub(super) fn new() -> Self {
        let mut shapes = [(); Close::VARIANTS.len()].map(|()| Shape {
            bins: [vec![0.0; BINS], vec![0.0; BINS]],
            before: vec![0.0; BINS + 1],
            total: GUESS,
        });
        for Piece(close, side, from, to, mass) in PIECES {
            let (first, end) = (bin(from), bin(to));
            let bins = &mut shapes[close as usize].bins[side as usize][first..end];
            let each = GUESS * mass / (to - from) * BIN;
            bins.iter_mut().for_each(|bin| *bin += each);
        }
        shapes.iter_mut().for_each(Shape::add_up);
        Self { shapes }
    }

    /// Of pairs whose leg ended like that: the share a second whose call ends `lag` seconds later, by `side`.
    pub(super) fn density(&self, close: Close, side: Side, lag: f64) -> f64 {
        let shape = &self.shapes[close as usize];
        shape.bins[side as usize].get(bin(lag)).map_or(0.0, |mass| mass / shape.total / BIN)
    }

    /// The share whose call goes on for more than `lag` seconds.
    pub(super) fn later(&self, close: Close, lag: f64) -> f64 {
        let shape = &self.shapes[close as usize];
        let until = shape.before.get(bin(lag)).copied().unwrap_or_default();
        (1.0 - until / shape.total).max(0.01)
    }

    /// A pair was seen: its call ended `lag` seconds after the leg by that side, or went on. `weight` is how
    /// sure it is that they are a pair.
    pub(super) fn learn(&mut self, close: Close, end: Option<(Side, f64)>, weight: f64) {
        let shape = &mut self.shapes[close as usize];
        shape.total += weight;
        let Some((side, lag)) = end else { return };
        let (at, bins) = (bin(lag), &mut shape.bins[side as usize]);
        let around = at.saturating_sub(BLUR)..(at + BLUR + 1).min(BINS);
        let each = weight / around.len().max(1) as f64;
        if let Some(bins) = bins.get_mut(around) {
            bins.iter_mut().for_each(|bin| *bin += each);
        }
        shape.add_up();
    }
}

impl Shape {
    fn add_up(&mut self) {
        let mut sum = 0.0;
        let [caller, callee] = &self.bins;
        for ((before, caller), callee) in self.before.iter_mut().skip(1).zip(caller).zip(callee) {
            sum += caller + callee;
            *before = sum;
        }
    }
}

/// The bin of a lag; past the last one for lags outside the window.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within 0 and BINS")]
fn bin(lag: f64) -> usize {
    if (-WINDOW..WINDOW).contains(&lag) { ((lag + WINDOW) / BIN) as usize } else { BINS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_the_platforms_own_lag() {
        let mut end_lag = EndLag::new();
        let before = end_lag.density(Close::Hangup, Side::Caller, -0.52);
        for _ in 0..100 {
            end_lag.learn(Close::Hangup, Some((Side::Caller, -0.52)), 1.0);
        }
        assert!(end_lag.density(Close::Hangup, Side::Caller, -0.52) > 3.0 * before);
        assert!(end_lag.density(Close::Hangup, Side::Caller, -0.30) < before / 2.0);
    }

    #[test]
    fn no_shape_holds_more_than_all() {
        let end_lag = EndLag::new();
        for close in Close::VARIANTS.iter().copied() {
            let (start, end) = (end_lag.later(close, -7.99), end_lag.later(close, 7.99));
            assert!(start > 0.99 && start <= 1.0 && end > 0.05 && end < start, "{close:?}: {start} {end}");
        }
    }
}
