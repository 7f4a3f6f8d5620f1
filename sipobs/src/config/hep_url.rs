//! Where HEP comes in, and goes to.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use strum::VariantArray;

use super::socket_address;

/// How packets of HEP travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub enum HepTransport {
    /// One in each datagram.
    Udp,
    /// One behind the other, of version 3 alone: others do not say where they end.
    Tcp,
}

impl HepTransport {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

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
        let transport = HepTransport::ALL.iter().copied().find(of_scheme).ok_or(FORM)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = authority.rsplit_once(':').ok_or(FORM)?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]%".contains(c);
        let port: u16 = port.parse().map_err(|_| FORM)?;
        if host.is_empty() || !host.chars().all(is_host) || port == 0 {
            return Err(FORM);
        }
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
}
