//! Whatever the network may do to the order and the number of messages, the verdicts stay the same.

use proptest::prelude::*;

use super::*;
use crate::record::{Method, Outcome};

/// One message of a script, not yet sent.
#[derive(Clone, Debug)]
struct Step {
    from: &'static str,
    to: &'static str,
    text: String,
    /// Which script it is from.
    script: usize,
    /// What the transferee says of one REFER, in any order: its answer and its NOTIFYs.
    free: bool,
}

/// How one transfer goes.
#[derive(Clone, Copy, Debug)]
struct Story {
    progress: bool,
    /// The REFER's own answer, if that is a refusal.
    refused: Option<u16>,
    status: u16,
    /// The target's leg is seen.
    seen: bool,
    /// The transferee leaves right after its last word.
    bye: bool,
}

/// What must come out of it: Call-ID, CSeq of the REFER, outcome, status.
type Told = (Option<String>, Option<u32>, Outcome, Option<u16>);

fn stories() -> impl Strategy<Value = Story> {
    let refused =
        prop_oneof![4 => Just(None), 1 => prop_oneof![Just(403), Just(603), Just(481)].prop_map(Some)];
    let status = prop_oneof![Just(200), Just(486), Just(404), Just(603), Just(480), Just(503)];
    (any::<bool>(), refused, status, any::<bool>(), any::<bool>())
        .prop_map(|(progress, refused, status, seen, bye)| Story { progress, refused, status, seen, bye })
}

impl Story {
    fn outcome(self) -> (Outcome, u16) {
        match self.refused {
            Some(status) => (Outcome::of_refusal(status), status),
            None => (Outcome::of_status(self.status), self.status),
        }
    }

    /// The messages of this transfer by REFER `number` in `call`; `leg` is the target's.
    fn script(self, script: usize, call: Leg, leg: Leg, number: u32) -> Vec<Step> {
        let mut said = Vec::new();
        let mut say = |from: End, to: End, text: String, free| {
            said.push(Step { from: from.0, to: to.0, text, script, free });
        };
        let (agent, trunk) = (call.callee, call.caller);
        let head = |leg: Leg,
                    line: &str,
                    from: End,
                    to: End,
                    method: &str,
                    number: u32,
                    more: &str,
                    body: &str| {
            let tag = if method == "INVITE" && !line.starts_with("SIP") { "" } else { to.2 };
            let tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
            let more = if more.is_empty() { String::new() } else { format!("{more}\r\n") };
            format!(
                "{line}\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{number}{method}\r\nCall-ID: {}\r\nCSeq: {number} \
                 {method}\r\nFrom: <{}>;tag={}\r\nTo: <{}>{tag}\r\n{more}Content-Length: {}\r\n\r\n{body}",
                from.0,
                leg.call_id,
                from.1,
                from.2,
                to.1,
                body.len()
            )
        };
        let refer_to = format!("Refer-To: <{}>\r\nReferred-By: <{}>", leg.callee.1, agent.1);
        let refer = |line: &str| {
            head(
                call,
                line,
                agent,
                trunk,
                "REFER",
                number,
                if line.starts_with('R') { &refer_to } else { "" },
                "",
            )
        };
        say(agent, trunk, refer("REFER sip:x SIP/2.0"), false);
        if let Some(status) = self.refused {
            say(trunk, agent, refer(&format!("SIP/2.0 {status} No")), true);
            return said;
        }
        say(trunk, agent, refer("SIP/2.0 202 Accepted"), true);
        let notify = |n: u32, state: &str, frag: String| {
            let more = format!(
                "Event: refer;id={number}\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag"
            );
            head(call, "NOTIFY sip:x SIP/2.0", trunk, agent, "NOTIFY", number * 10 + n, &more, &frag)
        };
        if self.progress {
            say(trunk, agent, notify(1, "active;expires=60", "SIP/2.0 100 Trying\r\n".into()), true);
        }
        if self.seen {
            let by = format!("Referred-By: <{}>", agent.1);
            let invite = |line: &str| {
                let more = if line.starts_with('I') { &*by } else { "" };
                head(leg, line, leg.caller, leg.callee, "INVITE", 1, more, "")
            };
            let uri = format!("INVITE {} SIP/2.0", leg.callee.1);
            say(leg.caller, leg.callee, invite(&uri), false);
            say(leg.callee, leg.caller, invite("SIP/2.0 180 Ringing"), false);
            say(leg.callee, leg.caller, invite(&format!("SIP/2.0 {} Said", self.status)), false);
            let ack = head(leg, "ACK sip:x SIP/2.0", leg.caller, leg.callee, "ACK", 1, "", "");
            say(leg.caller, leg.callee, ack, false);
        }
        let frag = format!("SIP/2.0 {} Said\r\n", self.status);
        say(trunk, agent, notify(2, "terminated;reason=noresource", frag), true);
        if self.bye {
            say(trunk, agent, head(call, "BYE sip:x SIP/2.0", trunk, agent, "BYE", 900, "", ""), true);
        }
        said
    }
}

/// Two calls at the same hosts, with the legs that their transfers make.
const CALLS: [(Leg, Leg); 2] = [
    (A, C),
    (
        Leg {
            call_id: "b@t",
            caller: (T, "sip:+15550100146@t.example", "ta2"),
            callee: (L, "sip:+15550100101@l.example", "la2"),
        },
        Leg {
            call_id: "d@t",
            caller: (T, "sip:+15550100146@t.example", "tc2"),
            callee: (X, "sip:+15550100178@x.example", "xc2"),
        },
    ),
];

/// Sends the steps a few milliseconds apart and gives the verdicts.
fn verdicts(steps: &[Step]) -> Vec<Told> {
    let mut world = World::new();
    world.up(CALLS[0].0).up(CALLS[1].0);
    for (n, step) in steps.iter().enumerate() {
        #[allow(clippy::cast_precision_loss)]
        world.at(5.0 + n as f64 * 0.004).wire(step.from, step.to, &step.text);
    }
    world.at(400.0);
    world.transfers.finish(world.now);
    let (attempts, _) = world.said();
    assert!(attempts.iter().all(|attempt| attempt.method == Method::Refer), "{attempts:#?}");
    let mut told: Vec<Told> =
        attempts.into_iter().map(|a| (a.call_id, a.refer_cseq, a.outcome, a.status)).collect();
    told.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    told
}

fn told(call: Leg, number: u32, (outcome, status): (Outcome, u16)) -> Told {
    (Some(call.call_id.to_owned()), Some(number), outcome, Some(status))
}

/// Both scripts' steps, those of each in their order; `picks` says from which the next one comes.
fn interleaved(scripts: [Vec<Step>; 2], picks: &[bool]) -> Vec<Step> {
    let [mut one, mut other] = scripts.map(|script| script.into_iter().peekable());
    let mut picks = picks.iter().copied().cycle();
    let mut steps = Vec::new();
    while one.peek().is_some() || other.peek().is_some() {
        let first = picks.next().unwrap_or(true);
        steps.extend(if first && one.peek().is_some() || other.peek().is_none() {
            one.next()
        } else {
            other.next()
        });
    }
    steps
}

/// Swaps neighbours that may overtake one another: of different calls, or what one side says of one REFER.
fn reordered(mut steps: Vec<Step>, swaps: &[usize]) -> Vec<Step> {
    for swap in swaps {
        let at = swap % (steps.len() - 1);
        let (one, other) = (&steps[at], &steps[at + 1]);
        if one.script != other.script || (one.free && other.free) {
            steps.swap(at, at + 1);
        }
    }
    steps
}

/// Every message at a second place as well: behind a proxy, or mirrored with other addresses.
fn twice(steps: &[Step], behind_proxy: bool) -> Vec<Step> {
    const PROXY: &str = "10.0.0.9:5060";
    const MIRRORED: [&str; 3] = ["172.16.0.1:5060", "172.16.0.2:5060", "172.16.0.3:5060"];
    let mirrored = |host: &str| MIRRORED[[T, L, X].iter().position(|known| *known == host).unwrap()];
    let twin = |step: &Step| {
        let onward = step.text.replacen("\r\nVia: ", "\r\nVia: SIP/2.0/UDP p;branch=z9hG4bKp\r\nVia: ", 1);
        let (first, second) = if step.text.starts_with("SIP") {
            (onward, step.text.clone())
        } else {
            (step.text.clone(), onward)
        };
        if behind_proxy {
            [
                Step { to: PROXY, text: first, ..step.clone() },
                Step { from: PROXY, text: second, ..step.clone() },
            ]
        } else {
            let (from, to) = (mirrored(step.from), mirrored(step.to));
            [step.clone(), Step { from, to, ..step.clone() }]
        }
    };
    steps.iter().flat_map(twin).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn two_attempts_in_one_dialog_interleaved(
        stories in [stories(), stories()],
        picks in prop::collection::vec(any::<bool>(), 1..24),
    ) {
        let stories = stories.map(|story| Story { bye: false, ..story });
        let [(call, leg), (_, other_leg)] = CALLS;
        let other_leg = Leg { caller: leg.caller, ..other_leg };
        let scripts = [stories[0].script(0, call, leg, 2), stories[1].script(1, call, other_leg, 3)];
        let steps = interleaved(scripts, &picks);
        let starts = |script| steps.iter().position(|step| step.script == script).unwrap();
        // The one whose REFER came first is overtaken by one that is accepted, unless it was done by then.
        let (first, second) = if starts(0) < starts(1) { (0, 1) } else { (1, 0) };
        // It is done once its outcome is told, or it is refused, and the other accepted once it is answered.
        let is = |script: usize, step: &Step, said: &str| step.script == script && step.text.contains(said);
        let done = |step: &Step| is(first, step, "terminated;reason") || is(first, step, " No\r\n");
        let accepted = steps.iter().position(|step| is(second, step, "SIP/2.0 202 Accepted"));
        let done = steps.iter().position(done) < accepted;
        let mut wanted = [told(call, 2, stories[0].outcome()), told(call, 3, stories[1].outcome())];
        let found = verdicts(&steps);
        if !done && stories[second].refused.is_none() {
            wanted[first].2 = Outcome::Superseded;
            wanted[first].3 = found[first].3;
        }
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn two_dialogs_interleaved_reordered_and_seen_twice(
        stories in [stories(), stories()],
        picks in prop::collection::vec(any::<bool>(), 1..24),
        swaps in prop::collection::vec(any::<usize>(), 0..40),
        again in prop::option::of(any::<bool>()),
    ) {
        let scripts = [0, 1].map(|n| stories[n].script(n, CALLS[n].0, CALLS[n].1, 2));
        let mut steps = reordered(interleaved(scripts, &picks), &swaps);
        if let Some(behind_proxy) = again {
            steps = twice(&steps, behind_proxy);
        }
        let wanted = [0, 1].map(|n| told(CALLS[n].0, 2, stories[n].outcome()));
        prop_assert_eq!(verdicts(&steps), wanted);
    }
}
