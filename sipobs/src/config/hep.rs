//! `[hep]`: messages that agents and proxies send by HEP. `[hep_out]`: those that are sent on by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{HepTransport, HepUrl, Secret};

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

    /// Whether what this very host sends to an address of its own comes in here.
    pub fn hears(&self, transport: HepTransport, to: SocketAddr) -> bool {
        let to_ip = to.ip().to_canonical();
        self.sockets().any(|(listens, listen)| {
            let fits = match listen.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => to_ip.is_ipv4(),
                // Of both versions, unless the system was told otherwise.
                IpAddr::V6(ip) if ip.is_unspecified() => true,
                ip => ip.to_canonical() == to_ip,
            };
            listens == transport && listen.port() == to.port() && fits
        })
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

/// Every message on, from whatever source, by HEP of version 3: to Homer, or to another sipobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HepOutConfig {
    /// Where the daemon sends each SIP message, `udp://homer:9060` or `tcp://homer:9060`, whole and as it is, whatever `privacy`
    /// says. Without it, nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<HepUrl>,
    /// What to show in each packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// The number that tells this agent from others.
    pub id: u32,
}

impl Default for HepOutConfig {
    fn default() -> Self {
        Self { to: None, key: None, id: 2001 }
    }
}

impl HepOutConfig {
    /// What makes no sense, if something does.
    pub(crate) fn fault(&self, hep: &HepConfig) -> Option<String> {
        if self.key.as_ref().is_some_and(|key| key.expose().is_empty()) {
            return Some("hep_out.key is empty".to_owned());
        }
        // Each message would come back, and go out again, for ever.
        let (to, address) = self.to.as_ref().and_then(|to| Some((to, to.socket()?)))?;
        // Where no address is given, the system takes the loopback one.
        let ip = match address.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        // Of any other, whether it is one of this host's, a socket tells.
        let is_own = ip.is_loopback() || hep.sockets().any(|(_, listen)| listen.ip().to_canonical() == ip);
        let returns = is_own && hep.hears(to.transport, SocketAddr::new(ip, address.port()));
        returns.then(|| format!("hep_out.to: {to} is where hep.listen listens: each message would come back"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> HepConfig {
        toml::from_str(text).unwrap()
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
    fn what_goes_out_does_not_come_back() {
        let out = |to: &str| toml::from_str::<HepOutConfig>(&format!("to = \"{to}\"")).unwrap();
        let hep = config("listen = \"udp://0.0.0.0:9060,tcp://192.0.2.1:9060\"");
        for to in [
            "udp://127.0.0.1:9060",
            "udp://[::ffff:127.0.0.1]:9060",
            "udp://0.0.0.0:9060",
            "udp://192.0.2.1:9060",
            "tcp://192.0.2.1:9060",
            "tcp://[::ffff:192.0.2.1]:9060",
        ] {
            assert!(out(to).fault(&hep).unwrap().contains("would come back"), "{to}");
        }
        for to in [
            "tcp://127.0.0.1:9060",
            "udp://127.0.0.1:9061",
            "udp://192.0.2.7:9060",
            "udp://[::1]:9060",
            "udp://homer:9060",
        ] {
            assert_eq!(out(to).fault(&hep), None, "{to}");
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
