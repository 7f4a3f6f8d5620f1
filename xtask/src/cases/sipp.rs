//! A play's lines → one SIPp scenario for each end of each leg.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::message::{self, Dialogs};
use super::play::{Line, Play, Stack};
use super::stage::Stage;
use crate::children::Running;

/// One SIPp: what one end of a leg sends and waits for.
#[derive(Debug)]
pub(super) struct Actor {
    leg: String,
    pub(super) host: String,
    /// It speaks first.
    pub(super) dials: bool,
    /// When it does.
    pub(super) starts: Duration,
    /// Of its last event.
    last: Duration,
    steps: String,
}

/// All of them, in the order of their first messages.
pub(super) fn actors(play: &Play) -> Result<Vec<Actor>> {
    let mut actors: BTreeMap<(String, String), Actor> = BTreeMap::new();
    let mut dialogs = Dialogs::new(play);
    for line in &play.lines {
        let template = dialogs.say(line)?;
        for (host, sends) in [(&line.src, true), (&line.dst, false)] {
            if play.host(host)?.stack != Stack::Sipp {
                continue;
            }
            let key = (line.leg.clone(), host.clone());
            let actor = actors.entry(key).or_insert_with(|| Actor::new(line, host, sends));
            if sends {
                actor.sends(line, &template, play.leg(&line.leg)?.tcp);
            } else {
                actor.receives(line);
            }
            actor.last = line.at;
        }
    }
    let mut actors: Vec<Actor> = actors.into_values().collect();
    actors.sort_by_key(|actor| actor.starts);
    Ok(actors)
}

impl Actor {
    fn new(line: &Line, host: &str, dials: bool) -> Self {
        Self {
            leg: line.leg.clone(),
            host: host.into(),
            dials,
            starts: line.at,
            last: line.at,
            steps: String::new(),
        }
    }

    fn sends(&mut self, line: &Line, template: &str, tcp: bool) {
        let wait = line.at.saturating_sub(self.last);
        if !wait.is_zero() {
            let _ = writeln!(self.steps, "<pause milliseconds=\"{}\"/>", wait.as_millis());
        }
        let request = !line.is_response() && !matches!(line.word.as_str(), "ACK" | "again");
        let retransmitted = request && !line.has("once") || line.word.starts_with('2') && line.has("sdp");
        let timer = if retransmitted && !tcp { " retrans=\"500\"" } else { "" };
        let _ = writeln!(self.steps, "<send{timer}><![CDATA[\n\n{template}\n]]></send>");
    }

    fn receives(&mut self, line: &Line) {
        if line.word == "again" {
            // SIPp knows a retransmission, and answers it as it did before.
            return;
        }
        let word = line.word.split('/').next().unwrap_or_default();
        let _ = if line.is_response() {
            let auth = if line.has("auth") { " auth=\"true\"" } else { "" };
            writeln!(self.steps, "<recv response=\"{word}\"{auth}/>")
        } else {
            writeln!(self.steps, "<recv request=\"{word}\"/>")
        };
    }

    /// What it listens on: `ip:port`.
    pub(super) fn listens(&self, play: &Play) -> Result<String> {
        Ok(format!("{}:{}", bracketed(play, &self.host)?, self.port(play)?))
    }

    pub(super) fn start(&self, stage: &Stage, play: &Play) -> Result<Running> {
        let leg = play.leg(&self.leg)?;
        let name = format!("{}.{}", self.leg, self.host);
        let file = stage.dir.join(format!("{name}.xml"));
        let scenario = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<scenario name=\"{name}\">\n{}<timewait milliseconds=\"400\"/>\n\
             </scenario>\n",
            self.steps
        );
        fs::write(&file, scenario).with_context(|| file.display().to_string())?;
        let port = self.port(play)?;
        let mut sipp = stage.on(&self.host, "sipp");
        sipp.arg("-sf").arg(&file).args(["-m", "1", "-nostdin", "-timeout", "100s", "-timeout_error"]);
        sipp.arg("-trace_err").arg("-error_file").arg(stage.dir.join(format!("{name}.errors")));
        sipp.args(["-i", &play.host(&self.host)?.address.to_string(), "-p", &port.to_string()]);
        // Two SIPp on one host must not share media ports; each takes a handful.
        sipp.args([
            "-mp",
            &(10_000 + 10 * (port - 5_000)).to_string(),
            "-t",
            if leg.tcp { "t1" } else { "u1" },
        ]);
        for host in &play.hosts {
            sipp.args(["-key", &format!("ip_{}", host.name), &bracketed(play, &host.name)?]);
        }
        if self.dials {
            let other = if leg.caller.host == self.host { &leg.callee } else { &leg.caller };
            sipp.args(["-cid_str", &message::call_id(play, &self.leg)?]);
            sipp.arg(format!("{}:{}", bracketed(play, &other.host)?, other.port));
        }
        Running::start(&name, sipp, &stage.dir.join(format!("{name}.log")))
    }

    fn port(&self, play: &Play) -> Result<u16> {
        let leg = play.leg(&self.leg)?;
        Ok(if leg.caller.host == self.host { leg.caller.port } else { leg.callee.port })
    }
}

fn bracketed(play: &Play, host: &str) -> Result<String> {
    let address = play.host(host)?.address;
    Ok(if address.is_ipv6() { format!("[{address}]") } else { address.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAY: &str = "# A race.
host T 10.88.0.10 trunk
host L 10.88.0.20 agent
leg a T L from=1 to=2
0     a T>L INVITE sdp
+0.3  a L>T 200 sdp
+     a T>L ACK
+2    a L>T REFER | Refer-To: <tel:3>
+     a T>L NOTIFY frag=100 Trying
+     a L>T 200
";

    #[test]
    fn each_end_sends_its_lines_and_waits_for_the_others() {
        let play = Play::read(PLAY, "case").unwrap();
        let actors = actors(&play).unwrap();
        let [agent, trunk] = &actors[..] else { panic!("{actors:?}") };
        assert!(trunk.dials && !agent.dials, "{actors:?}");
        let steps = |actor: &Actor| {
            let starts = ["<send", "<recv", "<pause", "INVITE ", "SIP/2.0 ", "ACK ", "REFER ", "NOTIFY "];
            let lines = actor.steps.lines().filter(|line| starts.iter().any(|start| line.starts_with(start)));
            lines.map(|line| line.split([' ', '>']).take(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            steps(agent),
            [
                "<recv request=\"INVITE\"/",
                "<pause milliseconds=\"300\"/",
                "<send retrans=\"500\"",
                "SIP/2.0 200",
                "<recv request=\"ACK\"/",
                "<pause milliseconds=\"2000\"/",
                "<send retrans=\"500\"",
                "REFER sip:1@[ip_T]",
                "<recv request=\"NOTIFY\"/",
                "<send <![CDATA[",
                "SIP/2.0 200",
            ]
        );
        assert!(trunk.steps.contains("CSeq: 2 NOTIFY") && trunk.steps.contains("SIP/2.0 100 Trying\n"));
        // What the agent answers is the NOTIFY, though its own REFER is the newer request of the dialog.
        assert!(agent.steps.contains("CSeq: 2 NOTIFY"), "{}", agent.steps);
    }
}
