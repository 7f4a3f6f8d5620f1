//! One call has one second leg at a time: legs that compete for calls, judged together.

/// How likely each of some calls is a leg's own, and how likely none of them is. The calls are the same, in the
/// same order, in all rows judged together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) none: f64,
    pub(super) calls: Vec<f64>,
}

const ROUNDS: usize = 12;

/// How likely each call is `own`'s, given that the others want theirs as well.
///
/// Belief propagation for data association, as multi-target tracking does it (J. Williams and R. Lau,
/// "Approximate evaluation of marginal association probabilities with belief propagation", 2014): each leg tells
/// each call how much it needs it, each call tells each leg how free it is.
pub(super) fn assign(own: &Row, others: &[Row]) -> Row {
    let rows: Vec<&Row> = std::iter::once(own).chain(others).collect();
    let mut need: Vec<Vec<f64>> = rows.iter().map(|row| vec![0.0; row.calls.len()]).collect();
    for _ in 0..ROUNDS {
        let wanted: Vec<f64> =
            (0..own.calls.len()).map(|call| need.iter().filter_map(|need| need.get(call)).sum()).collect();
        for (row, need) in rows.iter().zip(&mut need) {
            let shares = free_shares(row, need, &wanted);
            let all = row.none + shares.iter().sum::<f64>();
            for ((need, share), weight) in need.iter_mut().zip(shares).zip(&row.calls) {
                *need = weight / (all - share).max(1e-9);
            }
        }
    }
    let wanted: Vec<f64> =
        (0..own.calls.len()).map(|call| need.iter().filter_map(|need| need.get(call)).sum()).collect();
    let shares = need.first().map_or(Vec::new(), |need| free_shares(own, need, &wanted));
    let all = (own.none + shares.iter().sum::<f64>()).max(1e-9);
    Row { none: own.none / all, calls: shares.into_iter().map(|share| share / all).collect() }
}

/// The row's weights by how free each call is of the needs of all other rows.
fn free_shares(row: &Row, need: &[f64], wanted: &[f64]) -> Vec<f64> {
    let calls = row.calls.iter().zip(need).zip(wanted);
    calls.map(|((weight, own), wanted)| weight / (1.0 + (wanted - own).max(0.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(none: f64, calls: &[f64]) -> Row {
        Row { none, calls: calls.to_vec() }
    }

    #[test]
    fn alone_nothing_changes() {
        let alone = assign(&row(0.1, &[0.6, 0.3]), &[]);
        assert!((alone.none - 0.1).abs() < 1e-9 && (alone.calls[0] - 0.6).abs() < 1e-9);
    }

    #[test]
    fn what_another_surely_owns_is_not_free() {
        let both = assign(&row(0.02, &[0.49, 0.49]), &[row(0.01, &[0.99, 0.0])]);
        assert!(both.calls[1] > 0.9, "{both:?}");
    }

    #[test]
    fn two_that_want_the_same_two_stay_undecided() {
        let both = assign(&row(0.02, &[0.49, 0.49]), &[row(0.02, &[0.49, 0.49])]);
        assert!((both.calls[0] - both.calls[1]).abs() < 1e-6 && both.none < 0.1, "{both:?}");
    }
}
