//! Two SIP peers on real sockets, one at each end of the wire, that say what they are told to, when they are
//! told to. SIPp would go on by itself.

use std::net::{SocketAddrV4, UdpSocket};

use anyhow::Result;

use super::inside;
use crate::lab::{Lab, Side, address};
use crate::wire::Sip;

/// The peers.
pub(crate) struct Peers {
    trunk: UdpSocket,
    agent: UdpSocket,
    at: [SocketAddrV4; 2],
}

impl Peers {
    /// Binds both on the SIP port.
    pub(crate) fn new(lab: &Lab) -> Result<Self> {
        Self::at(lab, [Side::Trunk, Side::Agent].map(|side| SocketAddrV4::new(address(side, 0), 5060)))
    }

    /// Binds the trunk and the agent at other addresses of theirs.
    pub(crate) fn at(lab: &Lab, at: [SocketAddrV4; 2]) -> Result<Self> {
        Ok(Self {
            trunk: inside::udp(lab, Side::Trunk, at[0])?,
            agent: inside::udp(lab, Side::Agent, at[1])?,
            at,
        })
    }

    /// A call from the trunk to the agent, answered.
    pub(crate) fn call(&self, id: &str) -> Result<Call<'_>> {
        let call = Call { peers: self, id: id.into() };
        let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
        call.request(Side::Trunk, "INVITE", 1, |sip| sip.body("application/sdp", sdp))?;
        call.answer(Side::Agent, 200, "OK", "INVITE", 1)?;
        call.request(Side::Trunk, "ACK", 1, |sip| sip)?;
        Ok(call)
    }

    /// So many OPTIONS from the trunk, as fast as they go.
    pub(crate) fn flood(&self, count: u32) -> Result<()> {
        let call = Call { peers: self, id: "flood".into() };
        for number in 0..count {
            call.request(Side::Trunk, "OPTIONS", number, |sip| sip)?;
        }
        Ok(())
    }

    /// One message from the trunk, of at least so many bytes.
    pub(crate) fn large(&self, bytes: usize) -> Result<()> {
        let call = Call { peers: self, id: "large".into() };
        call.request(Side::Trunk, "OPTIONS", 1, |sip| sip.body("text/plain", "x".repeat(bytes)))
    }

    fn send(&self, from: Side, sip: &Sip) -> Result<()> {
        let (socket, to) = match from {
            Side::Trunk => (&self.trunk, self.at[1]),
            Side::Agent => (&self.agent, self.at[0]),
        };
        socket.send_to(&sip.bytes(), to)?;
        Ok(())
    }
}

/// One call of theirs.
pub(crate) struct Call<'a> {
    peers: &'a Peers,
    pub(crate) id: String,
}

impl Call<'_> {
    /// The agent asks the trunk to transfer the call, which it accepts.
    pub(crate) fn refer(&self) -> Result<()> {
        self.request(Side::Agent, "REFER", 101, |sip| {
            sip.header("Refer-To", "<sip:+15105550170@10.77.0.10>")
        })?;
        self.answer(Side::Trunk, 202, "Accepted", "REFER", 101)
    }

    /// The trunk reports that the target's phone rings.
    pub(crate) fn rings(&self) -> Result<()> {
        self.notify(1, "active;expires=60", "SIP/2.0 180 Ringing\r\n")
    }

    /// The trunk reports that the target answered, and the agent hangs up.
    pub(crate) fn transferred(&self) -> Result<()> {
        self.notify(2, "terminated;reason=noresource", "SIP/2.0 200 OK\r\n")?;
        self.hang_up()
    }

    /// The trunk reports that the target is busy.
    pub(crate) fn busy(&self) -> Result<()> {
        self.notify(2, "terminated;reason=noresource", "SIP/2.0 486 Busy Here\r\n")
    }

    fn notify(&self, cseq: u32, state: &str, sipfrag: &str) -> Result<()> {
        self.request(Side::Trunk, "NOTIFY", cseq, |sip| {
            sip.header("Event", "refer")
                .header("Subscription-State", state)
                .body("message/sipfrag;version=2.0", sipfrag.to_owned())
        })?;
        self.answer(Side::Agent, 200, "OK", "NOTIFY", cseq)
    }

    /// The agent ends the call.
    pub(crate) fn hang_up(&self) -> Result<()> {
        self.request(Side::Agent, "BYE", 102, |sip| sip)?;
        self.answer(Side::Trunk, 200, "OK", "BYE", 102)
    }

    fn request(&self, from: Side, method: &str, cseq: u32, rest: impl FnOnce(Sip) -> Sip) -> Result<()> {
        let sip = Sip::request(method, &format!("sip:x@{}", self.peers.at[usize::from(from == Side::Trunk)]));
        let sip = self.head(sip, from, method, cseq, method != "INVITE").header("Max-Forwards", "70");
        let sip = self.contact(sip, from);
        self.peers.send(from, &rest(sip))
    }

    fn answer(&self, from: Side, status: u16, reason: &str, method: &str, cseq: u32) -> Result<()> {
        let asker = if from == Side::Trunk { Side::Agent } else { Side::Trunk };
        let sip = self.head(Sip::response(status, reason), asker, method, cseq, true);
        self.peers.send(from, &self.contact(sip, from))
    }

    fn contact(&self, sip: Sip, from: Side) -> Sip {
        sip.header("Contact", format!("<sip:x@{}>", self.peers.at[usize::from(from == Side::Agent)]))
    }

    /// Via to CSeq, as the request's sender `from` wrote them.
    fn head(&self, sip: Sip, from: Side, method: &str, cseq: u32, to_tag: bool) -> Sip {
        let (own, other) = if from == Side::Trunk { (0, 1) } else { (1, 0) };
        let (id, at) = (&self.id, &self.peers.at);
        let party = |index: usize| format!("<sip:+1510555013{index}@{}>", at[index].ip());
        let to = if to_tag { format!("{};tag={id}{other}", party(other)) } else { party(other) };
        sip.header("Via", format!("SIP/2.0/UDP {};branch=z9hG4bK{id}{method}{cseq}", at[own]))
            .header("From", format!("{};tag={id}{own}", party(own)))
            .header("To", to)
            .header("Call-ID", id)
            .header("CSeq", format!("{cseq} {method}"))
    }
}
