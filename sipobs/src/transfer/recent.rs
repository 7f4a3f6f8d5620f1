//! The latest legs, for the few look-ups that have no key.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::ladder;
use crate::leg::{Leg, LegId};
use crate::record::{LadderLine, LegRole};
use crate::sip::CSeq;
use crate::stream::{TransportKind, WireMessage};

/// Legs that are remembered: enough for the second or so that is asked for, and little to look through.
const MOST: usize = 256;

/// The latest of something that legs do.
#[derive(Debug)]
pub(super) struct Recent<T>(VecDeque<T>);

/// A leg that began, and where its INVITE was captured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) leg: LegId,
    frame: u64,
    src: SocketAddr,
    dst: SocketAddr,
    transport: TransportKind,
    cseq: CSeq,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Copy> Recent<T> {
    /// A leg has done it.
    pub(super) fn add(&mut self, leg: T) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(leg);
    }

    /// Those that did, the latest first; some may be gone.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.0.iter().rev().copied()
    }
}

impl Begun {
    pub(super) fn of(leg: LegId, wire: &WireMessage<'_>, cseq: CSeq) -> Self {
        let WireMessage { frame, src, dst, transport, .. } = *wire;
        Self { leg, frame, src, dst, transport, cseq }
    }

    /// The line of a ladder that shows the INVITE.
    pub(super) fn line(&self, leg: &Leg) -> LadderLine {
        LadderLine {
            transport: self.transport,
            t_ms: 0,
            from: self.src,
            to: self.dst,
            line: ladder::invite(leg.first_request()),
            frame: self.frame,
            file: None,
            copies: 1,
            doubted: false,
            time: leg.started,
            leg: LegRole::Target,
            cseq: self.cseq,
        }
    }
}
