//! The transactions of one leg, as far as their copies must be told from new messages (RFC 3261 §17).

use smallvec::SmallVec;

use crate::leg::{Branch, Leg, Transaction};
use crate::record::Side;
use crate::sip::{CSeq, Method};

/// Older transactions of a leg are forgotten: their last copies are long gone (64·T1 = 32 s).
const KEPT: usize = 24;

/// The latest transactions inside one leg, the initial INVITE's apart.
type Transactions = SmallVec<[Transaction; 1]>;

/// Takes a request sent `by` that side; whether it is the first copy of one.
///
/// A copy has the number and method of a known one (§12.2.1.1: numbers rise). Its branch may differ, for a
/// proxy shows every request twice; only after a challenge does a new branch mean a new try.
pub(super) fn request(known: &mut Transactions, by: Side, cseq: CSeq, branch: Branch) -> bool {
    if let Some(known) = find(known, by, cseq) {
        // Its answer was captured before it, and it is new all the same.
        if known.branch == Branch::default() && branch != known.branch {
            known.branch = branch;
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
    known.push(Transaction::new(by, cseq, branch));
    true
}

/// Takes an answer to a request sent `by` that side; whether it says more than those before it.
pub(super) fn response(known: &mut Transactions, by: Side, cseq: CSeq, status: u16) -> bool {
    match find(known, by, cseq) {
        Some(known) if known.status < 200 && known.status < status => {
            known.status = status;
            true
        }
        // Of a REFER's two final answers one may be no answer at all; which one, its attempt knows.
        Some(known) if cseq.method == Method::Refer && status >= 200 && known.status != status => {
            known.status = status;
            true
        }
        _ => false,
    }
}

/// The same, for a request that tells something even if it was not seen.
pub(super) fn response_or_unseen(known: &mut Transactions, by: Side, cseq: CSeq, status: u16) -> bool {
    if find(known, by, cseq).is_none() {
        request(known, by, cseq, Branch::default());
    }
    response(known, by, cseq, status)
}

/// How many copies of a request one hop has sent.
pub(crate) fn copies(leg: &Leg, by: Side, cseq: CSeq) -> u32 {
    let known = leg.transactions.iter().find(|known| known.is(by, cseq));
    known.map_or(1, |known| u32::from(known.copies))
}

/// 401 and 407: the request may come again with credentials (RFC 3261 §22).
pub(crate) const fn is_challenge(status: u16) -> bool {
    matches!(status, 401 | 407)
}

fn find(known: &mut Transactions, by: Side, cseq: CSeq) -> Option<&mut Transaction> {
    known.iter_mut().rev().find(|known| known.is(by, cseq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Method;

    const REFER: CSeq = CSeq { number: 2, method: Method::Refer };

    #[test]
    fn a_request_captured_after_its_answer_is_new_once() {
        let mut known = Transactions::new();
        assert!(response_or_unseen(&mut known, Side::Callee, REFER, 202));
        assert!(request(&mut known, Side::Callee, REFER, Branch(7)));
        assert!(!request(&mut known, Side::Callee, REFER, Branch(7)), "that is a copy");
        assert!(!response(&mut known, Side::Callee, REFER, 202), "so is that");
    }

    #[test]
    fn copies_merge_whatever_their_branch() {
        let mut known = Transactions::new();
        assert!(request(&mut known, Side::Caller, REFER, Branch(1)));
        assert!(!request(&mut known, Side::Caller, REFER, Branch(1)), "a retransmission");
        assert!(!request(&mut known, Side::Caller, REFER, Branch(9)), "the proxy's copy");
        assert!(request(&mut known, Side::Callee, REFER, Branch(1)), "the other side counts for itself");
        assert_eq!(known[0].copies, 2);
    }

    #[test]
    fn an_answer_counts_once_and_a_final_one_last() {
        let mut known = Transactions::new();
        assert!(!response(&mut known, Side::Caller, REFER, 202), "nothing asked");
        request(&mut known, Side::Caller, REFER, Branch(1));
        assert!(response(&mut known, Side::Caller, REFER, 100));
        assert!(response(&mut known, Side::Caller, REFER, 202));
        assert!(!response(&mut known, Side::Caller, REFER, 202));
        assert!(response(&mut known, Side::Caller, REFER, 500), "another says something else");
        assert!(!response(&mut known, Side::Caller, REFER, 500));
    }

    #[test]
    fn a_challenged_request_may_come_again_under_its_number() {
        let mut known = Transactions::new();
        request(&mut known, Side::Caller, REFER, Branch(1));
        response(&mut known, Side::Caller, REFER, 407);
        assert!(!request(&mut known, Side::Caller, REFER, Branch(1)), "a late retransmission");
        assert!(request(&mut known, Side::Caller, REFER, Branch(2)));
        assert!(response(&mut known, Side::Caller, REFER, 202));
    }
}
