//! The transactions of one leg, as far as their copies must be told from new messages (RFC 3261 §17).

use smallvec::SmallVec;

use crate::leg::{Branch, Leg, Speaker, Transaction};
use crate::record::Side;
use crate::sip::{CSeq, Method};

/// Older transactions of a leg are forgotten: their last copies are long gone (64·T1 = 32 s).
const KEPT: usize = 24;

/// The latest transactions inside one leg, the initial INVITE's apart.
type Transactions = SmallVec<[Transaction; 1]>;

/// What tells a transaction from others of its leg.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// Who sent the request.
    pub(super) by: Side,
    pub(super) cseq: CSeq,
    pub(super) branch: Branch,
    pub(super) speaker: Speaker,
    /// It is in a fork of the call that its leg is not kept for.
    pub(super) in_fork: bool,
}

/// Takes a request; whether it is the first copy of one.
///
/// A copy has the number and method of a known one of its dialog (§12.2.1.1: numbers rise). Its branch may differ, for a
/// proxy shows every request twice; only after a challenge does a new branch mean a new try. Another fork, or a stranger,
/// counts for itself.
pub(super) fn request(known: &mut Transactions, exchange: Exchange) -> bool {
    let Exchange { branch, speaker, .. } = exchange;
    let unseen = |known: &Transaction| known.branch == Branch::default();
    if let Some(known) = find(known, exchange, unseen) {
        // Its answer was captured before it, and it is new all the same.
        if unseen(known) && branch != known.branch {
            (known.branch, known.speaker) = (branch, speaker);
            return true;
        }
        let retry = is_challenge(known.status) && known.branch != branch;
        if retry {
            (known.branch, known.status) = (branch, 0);
        }
        known.copies = known.copies.saturating_add(u16::from(known.branch == branch));
        return retry;
    }
    if known.len() == KEPT {
        known.remove(0);
    }
    known.push(Transaction::new(exchange.by, exchange.cseq, branch, speaker));
    true
}

/// Takes an answer; if it says more than those before it, who had asked.
pub(super) fn response(known: &mut Transactions, exchange: Exchange, status: u16) -> Option<Speaker> {
    let known = find(known, exchange, |_| true)?;
    // Of a REFER's two final answers one may be no answer at all; which one, its attempt knows.
    let another = exchange.cseq.method == Method::Refer && status >= 200 && known.status != status;
    let more = known.status < 200 && known.status < status;
    if !more && !another {
        return None;
    }
    known.status = status;
    Some(known.speaker)
}

/// The same, for a request that tells something even if it was not seen.
pub(super) fn response_or_unseen(
    known: &mut Transactions,
    exchange: Exchange,
    status: u16,
) -> Option<Speaker> {
    if find(known, exchange, |_| true).is_none() {
        request(known, Exchange { branch: Branch::default(), ..exchange });
    }
    response(known, exchange, status)
}

/// How many copies of a request one hop has sent.
pub(crate) fn copies(leg: &Leg, by: Side, cseq: CSeq) -> u32 {
    let known = leg.transactions.iter().find(|known| known.is(by, cseq));
    known.map_or(1, |known| u32::from(known.copies))
}

/// Numbers of the requests of a side that were captured themselves, and not only their answers.
pub(crate) fn captured(leg: &Leg, by: Side, method: Method) -> impl Iterator<Item = u32> {
    let captured = leg.transactions.iter().filter(|known| known.branch != Branch::default());
    captured.filter_map(move |known| known.number_of(by, method))
}

/// 401 and 407: the request may come again with credentials (RFC 3261 §22).
pub(crate) const fn is_challenge(status: u16) -> bool {
    matches!(status, 401 | 407)
}

/// The transaction with the same branch, else that of the same dialog, else one that will do.
fn find(
    known: &mut Transactions,
    exchange: Exchange,
    will_do: impl Fn(&Transaction) -> bool,
) -> Option<&mut Transaction> {
    let Exchange { by, cseq, branch, speaker, .. } = exchange;
    let latest = |fits: &dyn Fn(&Transaction) -> bool| {
        known.iter().rposition(|known| known.is(by, cseq) && fits(known))
    };
    let found = latest(&|known| branch != Branch::default() && known.branch == branch)
        .or_else(|| latest(&|known| known.speaker == speaker))
        .or_else(|| latest(&will_do))?;
    known.get_mut(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Method;

    const REFER: Exchange = Exchange {
        by: Side::Caller,
        cseq: CSeq { number: 2, method: Method::Refer },
        branch: Branch(1),
        speaker: Speaker::NOBODY,
        in_fork: false,
    };

    fn branch(branch: u32) -> Exchange {
        Exchange { branch: Branch(branch), ..REFER }
    }

    #[test]
    fn a_request_captured_after_its_answer_is_new_once() {
        let mut known = Transactions::new();
        assert!(response_or_unseen(&mut known, branch(7), 202).is_some());
        assert!(request(&mut known, branch(7)));
        assert!(!request(&mut known, branch(7)), "that is a copy");
        assert!(response(&mut known, branch(7), 202).is_none(), "so is that");
    }

    #[test]
    fn copies_merge_whatever_their_branch() {
        let mut known = Transactions::new();
        assert!(request(&mut known, REFER));
        assert!(!request(&mut known, REFER), "a retransmission");
        assert!(!request(&mut known, branch(9)), "the proxy's copy");
        assert!(
            request(&mut known, Exchange { by: Side::Callee, ..REFER }),
            "the other side counts for itself"
        );
        assert_eq!(known[0].copies, 2);
    }

    #[test]
    fn a_number_under_other_tags_is_another_request() {
        let mut known = Transactions::new();
        let other = Exchange { speaker: Speaker::of([None; 2], true), ..branch(3) };
        assert!(request(&mut known, other));
        assert!(request(&mut known, REFER), "a stranger was the first to use its number");
        assert!(!request(&mut known, Exchange { speaker: REFER.speaker, ..other }), "the branch tells");
        assert_eq!(response(&mut known, other, 200), Some(other.speaker));
        assert_eq!(response(&mut known, REFER, 486), Some(REFER.speaker));
    }

    #[test]
    fn an_answer_counts_once_and_a_final_one_last() {
        let mut known = Transactions::new();
        assert!(response(&mut known, REFER, 202).is_none(), "nothing asked");
        request(&mut known, REFER);
        assert!(response(&mut known, REFER, 100).is_some());
        assert!(response(&mut known, REFER, 202).is_some());
        assert!(response(&mut known, REFER, 202).is_none());
        assert!(response(&mut known, REFER, 500).is_some(), "another says something else");
        assert!(response(&mut known, REFER, 500).is_none());
    }

    #[test]
    fn a_challenged_request_may_come_again_under_its_number() {
        let mut known = Transactions::new();
        request(&mut known, REFER);
        response(&mut known, REFER, 407);
        assert!(!request(&mut known, REFER), "a late retransmission");
        assert!(request(&mut known, branch(2)));
        assert!(response(&mut known, branch(2), 202).is_some());
    }
}
