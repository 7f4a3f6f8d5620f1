//! The lab's calls: each a story of a failed or working transfer, told by SIPp and baresip.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::children::{Running, output, pause};
use crate::lab::{Lab, Side, address};

/// A platform would wait 30 s; the lab has less patience.
pub(crate) const RING_TIMER: Duration = Duration::from_secs(6);

/// When the second leg, or the REFER, follows the answer of the call.
const TRANSFER_AFTER: Duration = Duration::from_secs(2);
/// Between the beginnings of two stories.
const STAGGER: Duration = Duration::from_millis(700);
/// No story is longer.
const LIMIT: Duration = Duration::from_secs(60);
const BARESIP_CONTROL: u16 = 4444;

/// One story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Story {
    /// The second leg is refused with 486 at once, without ringing.
    BusyAtOnce,
    /// The second leg rings until the platform's own timer.
    NoAnswer,
    /// The second leg is refused with 403 and the provider's error number.
    Forbidden,
    /// The trunk hangs up; no REFER was ever sent.
    NoRefer,
    /// A REFER over TCP that works.
    ReferTcp,
    /// The same by a real user agent, over UDP.
    ReferBaresip,
}

/// What sipobs must say about a story.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// `refer` or `invite`; `None` where there is no attempt.
    pub(crate) method: Option<&'static str>,
    /// Outcome of the attempt, or `refer_absent` of the call.
    pub(crate) outcome: &'static str,
    /// The deciding status.
    pub(crate) status: Option<u64>,
    /// A word that the likeliest diagnosis must hold.
    pub(crate) diagnosis: Option<&'static str>,
}

impl Story {
    /// All of them, in the order they begin.
    pub(crate) const ALL: [Self; 6] = [
        Self::NoRefer,
        Self::NoAnswer,
        Self::BusyAtOnce,
        Self::Forbidden,
        Self::ReferTcp,
        Self::ReferBaresip,
    ];

    /// Names its files and its call.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BusyAtOnce => "busy-at-once",
            Self::NoAnswer => "no-answer",
            Self::Forbidden => "forbidden",
            Self::NoRefer => "no-refer",
            Self::ReferTcp => "refer-tcp",
            Self::ReferBaresip => "refer-baresip",
        }
    }

    /// What happens, in one line.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::BusyAtOnce => "the agent dials a second leg; the trunk says 486 at once, without ringing",
            Self::NoAnswer => {
                "the second leg rings until the agent's ring timer (6 s here, 30 s in the field)"
            }
            Self::Forbidden => "the second leg is refused: 403 with X-Twilio-Error 32201",
            Self::NoRefer => "a call of 11 s that the trunk ends with BYE; no REFER was ever sent",
            Self::ReferTcp => "the agent sends a REFER over TCP and the trunk reports 200",
            Self::ReferBaresip => "the same over UDP, the REFER sent by baresip",
        }
    }

    /// What sipobs must say.
    pub(crate) fn expected(self) -> Expected {
        let attempt = |method, outcome, status, diagnosis| Expected {
            method: Some(method),
            outcome,
            status: Some(status),
            diagnosis,
        };
        match self {
            Self::BusyAtOnce => attempt("invite", "busy", 486, Some("policy")),
            Self::NoAnswer => attempt("invite", "no_answer", 487, Some("timer")),
            Self::Forbidden => attempt("invite", "forbidden", 403, Some("32201")),
            Self::NoRefer => Expected { method: None, outcome: "fact", status: Some(200), diagnosis: None },
            Self::ReferTcp | Self::ReferBaresip => attempt("refer", "succeeded", 200, None),
        }
    }

    /// Call-ID of the call that is to be transferred.
    pub(crate) fn call_id(self) -> String {
        format!("lab-{}@trunk.example", self.name())
    }

    /// Call-ID of the second leg: as LiveKit's, it names no host.
    pub(crate) fn leg_call_id(self) -> String {
        format!("{:x<27}", format!("leg{}", self.name().replace('-', "")))
    }

    // Numbers from the range that is kept for fiction.
    fn caller(self) -> String {
        format!("+1510555013{}", self.number())
    }

    fn called(self) -> String {
        format!("+1510555010{}", self.number())
    }

    fn target(self) -> String {
        format!("+1510555017{}", self.number())
    }

    /// Its pair of addresses.
    fn number(self) -> u8 {
        Self::ALL.iter().position(|story| *story == self).map_or(0, |at| u8::try_from(at).unwrap_or(0))
    }

    /// Who listens on 5060 before anything is dialled.
    fn listeners(self) -> Vec<Actor> {
        let agent = |scenario| Actor::new(self, Side::Agent, scenario);
        let trunk = |scenario| Actor::new(self, Side::Trunk, scenario);
        match self {
            Self::BusyAtOnce => {
                vec![agent("agent-answers-hangs-up").lasting(5_000), trunk("trunk-refuses-486")]
            }
            Self::NoAnswer => vec![agent("agent-answers-hangs-up").lasting(12_000), trunk("trunk-rings")],
            Self::Forbidden => {
                vec![agent("agent-answers-hangs-up").lasting(5_000), trunk("trunk-refuses-403")]
            }
            Self::NoRefer => vec![agent("agent-answers")],
            Self::ReferTcp => vec![agent("agent-answers-refers").over_tcp().lasting(2_000)],
            Self::ReferBaresip => Vec::new(),
        }
    }

    /// Who dials, and when, counted from the story's beginning.
    fn dialers(self) -> Vec<(Duration, Actor)> {
        let first = |scenario| Actor::new(self, Side::Trunk, scenario).dialling(self.call_id());
        let second = |scenario| {
            (
                TRANSFER_AFTER,
                Actor::new(self, Side::Agent, scenario).on_port(5070).dialling(self.leg_call_id()),
            )
        };
        let at_once = |actor| (Duration::ZERO, actor);
        match self {
            Self::BusyAtOnce | Self::Forbidden => {
                vec![at_once(first("trunk-calls").on_port(5070)), second("agent-dials-refused")]
            }
            Self::NoAnswer => {
                let (at, leg) = second("agent-dials-gives-up");
                let leg = leg.lasting(RING_TIMER.as_millis());
                vec![at_once(first("trunk-calls").on_port(5070)), (at, leg)]
            }
            Self::NoRefer => vec![at_once(first("trunk-calls-hangs-up").lasting(11_000))],
            Self::ReferTcp => vec![at_once(first("trunk-calls-accepts-refer").over_tcp())],
            Self::ReferBaresip => vec![at_once(first("trunk-calls-accepts-refer"))],
        }
    }
}

/// Places the calls of `stories`, all at about the same time, and waits for their ends. Every peer must have
/// seen just what its scenario expects.
pub(crate) fn place(lab: &Lab, stories: &[Story]) -> Result<()> {
    let mut peers = Vec::new();
    let mut timeline = Vec::new();
    let mut baresip = None;
    for (index, story) in stories.iter().enumerate() {
        for actor in story.listeners() {
            peers.push(actor.start(lab)?);
            lab.wait_listening(actor.side, &format!("{}:5060", address(actor.side, story.number())))?;
        }
        if *story == Story::ReferBaresip {
            baresip = Some(start_baresip(lab, *story)?);
        }
        let begin = STAGGER * u32::try_from(index)?;
        timeline.extend(story.dialers().into_iter().map(|(at, actor)| (begin + at, Event::Dial(actor))));
        if *story == Story::ReferBaresip {
            timeline.push((begin + TRANSFER_AFTER, Event::Refer));
        }
    }
    timeline.sort_by_key(|(at, _)| *at);
    let start = Instant::now();
    for (at, event) in timeline {
        pause(at.saturating_sub(start.elapsed()))?;
        match event {
            Event::Dial(actor) => peers.push(actor.start(lab)?),
            Event::Refer => refer_by_baresip(lab)?,
        }
    }
    for peer in &mut peers {
        let errors = lab.dir.join(format!("{}.errors", peer.name()));
        peer.succeed(LIMIT).with_context(|| fs::read_to_string(errors).unwrap_or_default())?;
    }
    if let Some(mut baresip) = baresip
        && baresip.ended()?.is_some()
    {
        bail!("baresip ended before its call did:\n{}", baresip.tail(20));
    }
    Ok(())
}

enum Event {
    Dial(Actor),
    Refer,
}

/// One SIPp process.
#[derive(Clone, Debug)]
struct Actor {
    story: Story,
    side: Side,
    scenario: &'static str,
    port: u16,
    tcp: bool,
    pause_ms: u128,
    call_id: Option<String>,
}

impl Actor {
    fn new(story: Story, side: Side, scenario: &'static str) -> Self {
        Self { story, side, scenario, port: 5060, tcp: false, pause_ms: 0, call_id: None }
    }

    fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    fn over_tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    fn lasting(mut self, milliseconds: u128) -> Self {
        self.pause_ms = milliseconds;
        self
    }

    fn dialling(mut self, call_id: String) -> Self {
        self.call_id = Some(call_id);
        self
    }

    fn start(&self, lab: &Lab) -> Result<Running> {
        let number = self.story.number();
        let name = format!("{}.{}", self.story.name(), self.scenario);
        let mut sipp = lab.inside(self.side, "sipp");
        sipp.arg("-sf").arg(scenarios().join(format!("{}.xml", self.scenario)));
        sipp.args(["-m", "1", "-nostdin", "-timeout", "60s", "-timeout_error"]);
        // Its standard error tells less than this.
        sipp.arg("-trace_err").arg("-error_file").arg(lab.dir.join(format!("{name}.errors")));
        sipp.args(["-i", &address(self.side, number).to_string(), "-p", &self.port.to_string()]);
        // Two SIPp on one address must not share a media port.
        sipp.args(["-mp", &(self.port + 1_000).to_string()]);
        sipp.args(["-t", if self.tcp { "t1" } else { "u1" }, "-d", &self.pause_ms.to_string()]);
        sipp.args(["-key", "caller", &self.story.caller(), "-key", "called", &self.story.called()]);
        sipp.args(["-key", "target", &self.story.target()]);
        if let Some(call_id) = &self.call_id {
            let other = if self.side == Side::Trunk { Side::Agent } else { Side::Trunk };
            sipp.args(["-cid_str", call_id, &format!("{}:5060", address(other, number))]);
        }
        Running::start(&name, sipp, &lab.dir.join(format!("{name}.log")))
    }
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn start_baresip(lab: &Lab, story: Story) -> Result<Running> {
    let host = address(Side::Agent, story.number());
    let dir = lab.dir.join("baresip");
    fs::create_dir_all(&dir)?;
    let config = [
        format!("sip_listen {host}:5060"),
        format!("module_path {}", baresip_modules()?.display()),
        "module g711.so".into(),
        "module_app account.so".into(),
        "module_app menu.so".into(),
        "module_app ctrl_tcp.so".into(),
        format!("ctrl_tcp_listen 127.0.0.1:{BARESIP_CONTROL}\n"),
    ];
    fs::write(dir.join("config"), config.join("\n"))?;
    fs::write(dir.join("accounts"), format!("<sip:{}@{host}>;regint=0;answermode=auto\n", story.called()))?;
    let mut baresip = lab.inside(Side::Agent, "baresip");
    baresip.args(["-4", "-v", "-f"]).arg(&dir);
    let running = Running::start("baresip", baresip, &lab.dir.join("baresip.log"))?;
    for address in [format!("{host}:5060"), format!("127.0.0.1:{BARESIP_CONTROL}")] {
        lab.wait_listening(Side::Agent, &address).with_context(|| running.tail(20))?;
    }
    Ok(running)
}

/// Tells baresip to transfer its call. It hangs up by itself at the final NOTIFY.
fn refer_by_baresip(lab: &Lab) -> Result<()> {
    let target = format!("sip:{}@trunk.example", Story::ReferBaresip.target());
    let order = serde_json::json!({"command": "transfer", "params": target}).to_string();
    // The order is a netstring; baresip listens on the namespace's own loopback.
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{BARESIP_CONTROL}; printf %s '{}:{order},' >&3; IFS= read -r -t 5 -d , answer <&3; \
         printf %s \"$answer\"",
        order.len()
    );
    let answer = output(lab.inside(Side::Agent, "bash").args(["-c", &script]))?;
    if !answer.contains("response") {
        bail!("baresip did not take the order to transfer: {answer:?}");
    }
    Ok(())
}

/// Where its modules are.
pub(crate) fn baresip_modules() -> Result<PathBuf> {
    // Debian before 13 keeps them in /usr/lib/baresip, later ones in the multiarch directory.
    let mut candidates = vec![PathBuf::from("/usr/lib/baresip/modules")];
    if let Ok(entries) = fs::read_dir("/usr/lib") {
        candidates.extend(entries.flatten().map(|entry| entry.path().join("baresip/modules")));
    }
    candidates
        .into_iter()
        .find(|path| path.join("ctrl_tcp.so").exists())
        .context("baresip's modules are not where Debian puts them")
}
