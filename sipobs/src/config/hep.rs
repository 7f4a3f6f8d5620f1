//! `[hep]`: messages that agents and proxies send by HEP.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use super::{Secret, socket_address};

/// Messages that Homer's agents and SIP proxies send by HEP: beside what is captured, or in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HepConfig {
    /// Where the daemon takes HEP, `udp://0.0.0.0:9060` or `tcp://[::]:9060`. Without any, nowhere.
    #[serde(deserialize_with = "crate::list::parted")]
    pub listen: Vec<HepUrl>,
    /// What agents have to show in each packet. Versions 1 and 2 of HEP can't, and are refused where it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
}

impl HepConfig {
    /// How many addresses may be listened on.
    const MOST: usize = 16;

    /// Where to listen.
    pub fn sockets(&self) -> impl Iterator<Item = (HepTransport, SocketAddr)> {
        self.listen.iter().filter_map(|url| Some((url.transport, url.socket()?)))
    }

    /// Whether somebody on another host can send here without a key.
    pub fn is_open_to_others(&self) -> bool {
        self.key.is_none() && self.sockets().any(|(_, address)| !address.ip().to_canonical().is_loopback())
    }

    /// What makes no sense, if something does.
    pub(super) fn fault(&self) -> Option<String> {
        if self.listen.len() > Self::MOST {
            return Some(format!("hep.listen: at most {} addresses", Self::MOST));
        }
        for (index, url) in self.listen.iter().enumerate() {
            if url.socket().is_none() {
                return Some(format!(
                    "hep.listen: {url}: not an IP address and a port, such as udp://0.0.0.0:9060"
                ));
            }
            if self.listen[..index].contains(url) {
                return Some(format!("hep.listen: {url} is given twice"));
            }
        }
        let is_empty = self.key.as_ref().is_some_and(|key| key.expose().is_empty());
        is_empty.then(|| "hep.key is empty".to_owned())
    }
}

/// How packets of HEP travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HepTransport {
    /// One in each datagram.
    Udp,
    /// One behind the other, of version 3 alone: others do not say where they end.
    Tcp,
}

impl HepTransport {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Udp, Self::Tcp];

    /// As in an address, and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Where HEP comes in, or goes to: `udp://host:port`, `tcp://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HepUrl {
    /// How.
    pub transport: HepTransport,
    /// Host and port: a name, or an address, of IPv6 in brackets.
    pub authority: String,
}

impl HepUrl {
    /// The address, where there is no name in its place.
    pub fn socket(&self) -> Option<SocketAddr> {
        socket_address(&self.authority).ok()
    }
}

/// What it should be.
const FORM: &str = "not udp://HOST:PORT or tcp://HOST:PORT, such as udp://0.0.0.0:9060";

impl FromStr for HepUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        let of_scheme = |it: &HepTransport| it.as_str().eq_ignore_ascii_case(scheme);
        let transport = HepTransport::ALL.into_iter().find(of_scheme).ok_or(FORM)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = authority.rsplit_once(':').ok_or(FORM)?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]%".contains(c);
        if host.is_empty() || !host.chars().all(is_host) || port.parse::<u16>().is_ok_and(|port| port == 0) {
            return Err(FORM);
        }
        port.parse::<u16>().map_err(|_| FORM)?;
        Ok(Self { transport, authority: authority.to_owned() })
    }
}

impl TryFrom<String> for HepUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for HepUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.transport.as_str(), self.authority)
    }
}

impl Serialize for HepUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> HepConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn an_address_says_how_and_where() {
        for (text, authority, is_address) in [
            ("udp://0.0.0.0:9060", "0.0.0.0:9060", true),
            ("TCP://[::]:9060/", "[::]:9060", true),
            ("udp://homer.example:9060", "homer.example:9060", false),
        ] {
            let url: HepUrl = text.parse().unwrap();
            assert_eq!((&*url.authority, url.socket().is_some()), (authority, is_address), "{text}");
            assert_eq!(url.to_string().parse::<HepUrl>().unwrap(), url);
        }
        for text in [
            "",
            "9060",
            "0.0.0.0:9060",
            "http://h:9060",
            "udp://",
            "udp://h",
            "udp://:9060",
            "udp://h:0",
            "udp://h:99999",
            "udp://user@h:9060",
            "udp://h:9060/path",
            "udp://h\n:9060",
        ] {
            assert!(text.parse::<HepUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        assert_eq!(HepConfig::default().fault(), None);
        assert_eq!(config("listen = \"udp://[::]:9060,tcp://[::]:9060\"\nkey = \"q5ecret\"").fault(), None);
        for (text, said) in [
            ("listen = [\"udp://homer:9060\"]", "hep.listen: udp://homer:9060: not an IP address"),
            ("listen = [\"udp://[::1]:1\", \"udp://[::1]:1\"]", "given twice"),
            ("key = \"\"", "hep.key is empty"),
        ] {
            let fault = config(text).fault().unwrap();
            assert!(fault.contains(said), "{text}: {fault}");
        }
    }

    #[test]
    fn whoever_can_send_without_a_key_is_known() {
        for (text, open) in [
            ("listen = \"udp://127.0.0.1:1\"", false),
            ("listen = \"tcp://[::ffff:127.0.0.1]:1\"", false),
            ("listen = \"udp://127.0.0.1:1,udp://0.0.0.0:2\"", true),
            ("listen = \"udp://0.0.0.0:2\"\nkey = \"k\"", false),
        ] {
            assert_eq!(config(text).is_open_to_others(), open, "{text}");
        }
    }
}
