//! One call has one second leg at a time: legs that compete for calls, judged together.

use super::LegId;

/// What one leg would say if it were alone: how likely each call is its own, and none of them.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) none: f64,
    pub(super) calls: Vec<(LegId, f64)>,
}

const ROUNDS: usize = 12;

/// How likely each call of the first row is its own, given that the others want theirs as well.
///
/// Belief propagation for data association, as multi-target tracking does it (J. Williams and R. Lau,
/// "Approximate evaluation of marginal association probabilities with belief propagation", 2014): each leg tells
/// each call how much it needs it, each call tells each leg how free it is.
pub(super) fn assign(rows: &[Row]) -> Row {
    let free = |need: &[Vec<f64>], own: usize, call: LegId| {
        let others = rows.iter().zip(need).enumerate().filter(|(row, _)| *row != own);
        let wanted: f64 = others.map(|(_, (row, need))| need_of(row, need, call)).sum();
        1.0 / (1.0 + wanted)
    };
    let mut need: Vec<Vec<f64>> = rows.iter().map(|row| vec![0.0; row.calls.len()]).collect();
    for _ in 0..ROUNDS {
        need = rows
            .iter()
            .enumerate()
            .map(|(own, row)| {
                let shares: Vec<f64> =
                    row.calls.iter().map(|(call, weight)| weight * free(&need, own, *call)).collect();
                let all: f64 = row.none + shares.iter().sum::<f64>();
                let rest = |share: f64| (all - share).max(1e-9);
                row.calls.iter().zip(shares).map(|((_, weight), share)| weight / rest(share)).collect()
            })
            .collect();
    }
    let Some(first) = rows.first() else { return Row { none: 1.0, calls: Vec::new() } };
    let shares: Vec<_> =
        first.calls.iter().map(|(call, weight)| (*call, weight * free(&need, 0, *call))).collect();
    let all = (first.none + shares.iter().map(|(_, share)| share).sum::<f64>()).max(1e-9);
    Row {
        none: first.none / all,
        calls: shares.into_iter().map(|(call, share)| (call, share / all)).collect(),
    }
}

fn need_of(row: &Row, need: &[f64], call: LegId) -> f64 {
    row.calls.iter().zip(need).find(|((own, _), _)| *own == call).map_or(0.0, |(_, need)| *need)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(none: f64, calls: &[(u64, f64)]) -> Row {
        Row { none, calls: calls.iter().map(|(call, weight)| (LegId(*call), *weight)).collect() }
    }

    #[test]
    fn alone_nothing_changes() {
        let alone = assign(&[row(0.1, &[(1, 0.6), (2, 0.3)])]);
        assert!((alone.none - 0.1).abs() < 1e-9 && (alone.calls[0].1 - 0.6).abs() < 1e-9);
    }

    #[test]
    fn what_another_surely_owns_is_not_free() {
        let both = assign(&[row(0.02, &[(1, 0.49), (2, 0.49)]), row(0.01, &[(1, 0.99)])]);
        assert!(both.calls[1].1 > 0.9, "{both:?}");
    }

    #[test]
    fn two_that_want_the_same_two_stay_undecided() {
        let both = assign(&[row(0.02, &[(1, 0.49), (2, 0.49)]), row(0.02, &[(1, 0.49), (2, 0.49)])]);
        assert!((both.calls[0].1 - both.calls[1].1).abs() < 1e-6 && both.none < 0.1, "{both:?}");
    }
}
