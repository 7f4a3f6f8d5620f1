//! The transactions of one leg, as far as their copies must be told from new messages (RFC 3261 §17).

use std::collections::VecDeque;

use super::Side;
use crate::sip::CSeq;

/// Older transactions of a leg are forgotten: their last copies are long gone (64·T1 = 32 s).
const KEPT: usize = 24;

/// The latest transactions inside one leg, the initial INVITE's apart.
#[derive(Debug, Default)]
pub(crate) struct Transactions(VecDeque<Transaction>);

#[derive(Debug)]
struct Transaction {
    by: Side,
    cseq: CSeq,
    branch: u64,
    copies: u32,
    status: u16,
}

impl Transactions {
    /// Takes a request sent `by` that side; whether it is the first copy of one.
    ///
    /// A copy has the number and method of a known one (§12.2.1.1: numbers rise). Its branch may differ, for a
    /// proxy shows every request twice; only after a challenge does a new branch mean a new try.
    pub(crate) fn request(&mut self, by: Side, cseq: CSeq, branch: u64) -> bool {
        if let Some(known) = self.find(by, cseq) {
            let retry = is_challenge(known.status) && known.branch != branch;
            if retry {
                (known.branch, known.status) = (branch, 0);
            }
            known.copies += u32::from(known.branch == branch);
            return retry;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Transaction { by, cseq, branch, copies: 1, status: 0 });
        true
    }

    /// Takes an answer to a request sent `by` that side; whether it says more than those before it.
    pub(crate) fn response(&mut self, by: Side, cseq: CSeq, status: u16) -> bool {
        match self.find(by, cseq) {
            Some(known) if known.status < 200 && known.status < status => {
                known.status = status;
                true
            }
            _ => false,
        }
    }

    /// How many copies of a request one hop has sent.
    pub(crate) fn copies(&self, by: Side, cseq: CSeq) -> u32 {
        self.0.iter().find(|known| known.by == by && known.cseq == cseq).map_or(1, |known| known.copies)
    }

    fn find(&mut self, by: Side, cseq: CSeq) -> Option<&mut Transaction> {
        self.0.iter_mut().rev().find(|known| known.by == by && known.cseq == cseq)
    }
}

/// 401 and 407: the request may come again with credentials (RFC 3261 §22).
pub(crate) const fn is_challenge(status: u16) -> bool {
    matches!(status, 401 | 407)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Method;

    const REFER: CSeq = CSeq { number: 2, method: Method::Refer };

    #[test]
    fn copies_merge_whatever_their_branch() {
        let mut known = Transactions::default();
        assert!(known.request(Side::Caller, REFER, 1));
        assert!(!known.request(Side::Caller, REFER, 1), "a retransmission");
        assert!(!known.request(Side::Caller, REFER, 9), "the proxy's copy");
        assert!(known.request(Side::Callee, REFER, 1), "the other side counts for itself");
        assert_eq!(known.copies(Side::Caller, REFER), 2);
    }

    #[test]
    fn an_answer_counts_once_and_a_final_one_last() {
        let mut known = Transactions::default();
        assert!(!known.response(Side::Caller, REFER, 202), "nothing asked");
        known.request(Side::Caller, REFER, 1);
        assert!(known.response(Side::Caller, REFER, 100));
        assert!(known.response(Side::Caller, REFER, 202));
        assert!(!known.response(Side::Caller, REFER, 202));
        assert!(!known.response(Side::Caller, REFER, 500));
    }

    #[test]
    fn a_challenged_request_may_come_again_under_its_number() {
        let mut known = Transactions::default();
        known.request(Side::Caller, REFER, 1);
        known.response(Side::Caller, REFER, 407);
        assert!(!known.request(Side::Caller, REFER, 1), "a late retransmission");
        assert!(known.request(Side::Caller, REFER, 2));
        assert!(known.response(Side::Caller, REFER, 202));
    }
}
