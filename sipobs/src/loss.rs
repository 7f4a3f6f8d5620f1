//! What is known to be missing. Every stage before the verdicts may find some, and the kernel's rings do.

use std::net::IpAddr;

/// Evidence that is known to be missing. It spoils verdicts that would have rested on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The capture's clock was set, or the time of a frame lied: what passed between two frames is not known for sure.
    ClockStep,
    /// sipobs was restarted: nobody watched for a moment, anywhere on this node.
    Restart,
    /// Frames that the kernel's ring had no room for, anywhere on this node; or packets of HEP that nobody had time for.
    RingLost(u64),
    /// Bytes missing in the TCP stream between these hosts.
    TcpGap {
        /// Sender of the missing bytes.
        src: IpAddr,
        /// Receiver of the missing bytes.
        dst: IpAddr,
    },
    /// A message between these hosts that the capture cut off before what it says.
    MessageCut {
        /// Its sender.
        src: IpAddr,
        /// Its receiver.
        dst: IpAddr,
    },
    /// A datagram between these hosts of which fragments never came.
    MissingFragment {
        /// Sender of the datagram.
        src: IpAddr,
        /// Receiver of the datagram.
        dst: IpAddr,
    },
}
