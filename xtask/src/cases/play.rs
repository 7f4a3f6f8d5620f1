//! The text of a `play.txt` → hosts, legs, lines and orders.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const PORT: u16 = 5060;

/// One case, ready to be played.
#[derive(Debug, Default)]
pub(super) struct Play {
    pub(super) name: String,
    /// Its first comment.
    pub(super) about: Vec<String>,
    /// In the order of the file.
    pub(super) hosts: Vec<Host>,
    /// The host whose wire is recorded; else the switch.
    pub(super) tap: Option<String>,
    /// tcpdump asks for ports, as people do, and so gets of a fragmented message the first part alone.
    pub(super) first_fragments: bool,
    /// Of all interfaces.
    pub(super) mtu: Option<u16>,
    pub(super) legs: BTreeMap<String, Leg>,
    /// In the order of their times.
    pub(super) lines: Vec<Line>,
    pub(super) orders: Vec<Order>,
    /// Headers of all that a host says.
    pub(super) headers: BTreeMap<String, Vec<String>>,
    /// Header names in their one-letter forms.
    pub(super) compact: bool,
}

/// A network namespace with one address.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) address: IpAddr,
    /// What it stands for.
    pub(super) what: String,
    pub(super) stack: Stack,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stack {
    Sipp,
    /// The user it is.
    Baresip(String),
    /// The user it is.
    Linphone(String),
    /// Its configuration in `xtask/scenarios`.
    Kamailio(String),
}

/// What two hosts have to do with each other: one dialog, over one socket each.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) caller: End,
    pub(super) callee: End,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) tcp: bool,
    /// The leg whose dialog this one carries some messages of.
    pub(super) of: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) host: String,
    pub(super) port: u16,
}

/// One message.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) at: Duration,
    pub(super) leg: String,
    pub(super) src: String,
    pub(super) dst: String,
    /// Method, `again`, or status with perhaps `/METHOD`.
    pub(super) word: String,
    pub(super) rest: String,
    pub(super) headers: Vec<String>,
}

/// What a stack is told to do.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) at: Duration,
    pub(super) host: String,
    pub(super) command: String,
    pub(super) params: String,
}

impl Play {
    pub(super) fn read(text: &str, name: &str) -> Result<Self> {
        let mut play = Self { name: name.into(), ..Self::default() };
        play.about = text
            .lines()
            .map_while(|line| line.strip_prefix('#'))
            .map(|line| line.trim().to_owned())
            .collect();
        let mut now = Duration::ZERO;
        for (number, line) in text.lines().enumerate() {
            let line = line.split(" # ").next().unwrap_or_default().trim();
            if !line.is_empty() && !line.starts_with('#') {
                play.line(line, &mut now).with_context(|| format!("line {}: {line}", number + 1))?;
            }
        }
        ensure!(!play.about.is_empty(), "the first line must say, after a #, what this is about");
        Ok(play)
    }

    pub(super) fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.iter().find(|host| host.name == name).with_context(|| format!("no host `{name}`"))
    }

    pub(super) fn leg(&self, name: &str) -> Result<&Leg> {
        self.legs.get(name).with_context(|| format!("no leg `{name}`"))
    }

    fn line(&mut self, line: &str, now: &mut Duration) -> Result<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "host" => {
                let [name, address, what] = words(rest, "host NAME ADDRESS WHAT")?;
                let address = address.parse().context("address")?;
                self.hosts.push(Host { name: name.into(), address, what: what.into(), stack: Stack::Sipp });
            }
            "baresip" => self.stack(rest, Stack::Baresip)?,
            "linphone" => self.stack(rest, Stack::Linphone)?,
            "kamailio" => self.stack(rest, Stack::Kamailio)?,
            "tap" => self.tap = Some(self.host(rest)?.name.clone()),
            "first-fragments" => self.first_fragments = true,
            "mtu" => self.mtu = Some(rest.parse().context("bytes")?),
            "compact" => self.compact = true,
            "header" => {
                let (host, header) = rest.split_once(' ').context("header HOST NAME: VALUE")?;
                self.headers.entry(self.host(host)?.name.clone()).or_default().push(header.trim().into());
            }
            "leg" => self.add_leg(rest)?,
            time => {
                *now = match time.strip_prefix('+') {
                    Some("") => *now,
                    Some(step) => *now + seconds(step)?,
                    None => seconds(time)?,
                };
                self.say(*now, rest)?;
            }
        }
        Ok(())
    }

    fn stack(&mut self, rest: &str, stack: fn(String) -> Stack) -> Result<()> {
        let [name, what] = words(rest, "STACK HOST USER-OR-FILE")?;
        let host = self.hosts.iter_mut().find(|host| host.name == name).context("no such host")?;
        host.stack = stack(what.into());
        Ok(())
    }

    fn add_leg(&mut self, rest: &str) -> Result<()> {
        let mut words = rest.split_whitespace();
        let mut next = || words.next().context("leg NAME CALLER CALLEE …");
        let name = next()?;
        let (caller, callee) = (self.end(next()?)?, self.end(next()?)?);
        let mut leg =
            Leg { from: caller.host.clone(), to: callee.host.clone(), caller, callee, tcp: false, of: None };
        for word in words {
            match word.split_once('=') {
                Some(("from", user)) => leg.from = user.into(),
                Some(("to", user)) => leg.to = user.into(),
                Some(("of", other)) => leg.of = Some(other.into()),
                _ if word == "tcp" => leg.tcp = true,
                _ => bail!("what is `{word}`?"),
            }
        }
        self.legs.insert(name.into(), leg);
        Ok(())
    }

    fn end(&self, text: &str) -> Result<End> {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().context("port")?),
            None => (text, PORT),
        };
        Ok(End { host: self.host(host)?.name.clone(), port })
    }

    fn say(&mut self, at: Duration, rest: &str) -> Result<()> {
        let (first, order) = rest.split_once(' ').context("one word alone")?;
        if let Some(host) = first.strip_suffix(':') {
            let (command, params) = order.split_once(' ').unwrap_or((order, ""));
            let host = self.host(host)?.name.clone();
            self.orders.push(Order { at, host, command: command.into(), params: params.trim().into() });
            return Ok(());
        }
        let mut parts = rest.split(" | ").map(str::trim);
        let message = parts.next().unwrap_or_default();
        let headers = parts.map(str::to_owned).collect();
        let mut words = message.splitn(4, ' ');
        let mut next = || words.next().context("TIME LEG FROM>TO MESSAGE");
        let (leg, way, word) = (next()?.to_owned(), next()?, next()?.to_owned());
        let (src, dst) = way.split_once('>').context("FROM>TO")?;
        let ends = self.leg(&leg)?;
        for end in [src, dst] {
            ensure!(end == ends.caller.host || end == ends.callee.host, "{end} has no part in leg {leg}");
        }
        let (src, dst) = (src.to_owned(), dst.to_owned());
        let rest = words.next().unwrap_or_default().to_owned();
        self.lines.push(Line { at, leg, src, dst, word, rest, headers });
        Ok(())
    }
}

impl Line {
    /// The value of a word `key=value`.
    pub(super) fn given(&self, key: &str) -> Option<&str> {
        self.rest.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether the word is there.
    pub(super) fn has(&self, word: &str) -> bool {
        self.rest.split_whitespace().any(|other| other == word)
    }

    pub(super) fn is_response(&self) -> bool {
        self.word.starts_with(|c: char| c.is_ascii_digit())
    }
}

fn words<'a, const N: usize>(text: &'a str, usage: &str) -> Result<[&'a str; N]> {
    let words: Vec<&str> = text.splitn(N, ' ').map(str::trim).collect();
    words.try_into().map_err(|_| anyhow::anyhow!("{usage}"))
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse().with_context(|| format!("`{text}` is not a time in seconds"))?;
    Duration::try_from_secs_f64(seconds).with_context(|| format!("`{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str =
        "# What it is about.\n# In two lines.\nhost T 10.88.0.10 trunk\nhost L fd88::1 agent\n";

    #[test]
    fn times_are_absolute_or_after_the_line_before() {
        let lines =
            "leg a T:5070 L from=1 tcp\n2 a T>L INVITE sdp | X: y\n+0.5 a L>T 486 Busy Here\n+ L: hangup\n";
        let play = Play::read(&format!("{HOSTS}{lines}"), "case").unwrap();
        assert_eq!(play.about, ["What it is about.", "In two lines."]);
        assert_eq!(play.lines.iter().map(|line| line.at.as_millis()).collect::<Vec<_>>(), [2_000, 2_500]);
        assert!(play.lines[0].has("sdp") && play.lines[0].headers == ["X: y"]);
        assert_eq!((play.lines[1].word.as_str(), play.lines[1].rest.as_str()), ("486", "Busy Here"));
        assert_eq!((play.orders[0].at.as_millis(), play.orders[0].command.as_str()), (2_500, "hangup"));
        let leg = play.leg("a").unwrap();
        assert_eq!((leg.caller.port, leg.callee.port, leg.tcp), (5070, 5060, true));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (line, wrong) in [
            ("0 b T>L INVITE", "no leg `b`"),
            ("leg a T X", "no host `X`"),
            ("leg a T L upside=down", "what is `upside=down`?"),
            ("soon T: dial", "`soon` is not a time in seconds"),
        ] {
            let error = format!("{:#}", Play::read(&format!("{HOSTS}{line}\n"), "case").unwrap_err());
            assert!(error.starts_with("line 5: ") && error.contains(wrong), "{error}");
        }
        assert!(Play::read("host T 10.88.0.10 trunk\n", "case").is_err(), "nothing said what it is about");
    }
}
