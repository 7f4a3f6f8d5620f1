//! How a configuration names many things at once: networks of addresses, and globs.

use std::net::IpAddr;

use ipnet::IpNet;

/// A network, IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(IpNet);

impl Network {
    /// `192.0.2.0/24`, or one address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok().map(Self)
    }

    /// Whether `address` is in it. To both, an IPv4 address is the same as its IPv6 form (RFC 4291 §2.5.5.2).
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let other_form = match address {
            IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
            IpAddr::V6(_) => address.to_canonical(),
        };
        self.0.contains(&address) || self.0.contains(&other_form)
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any bytes and `?` for one. ASCII case is
/// ignored. Takes at most `pattern.len() * text.len()` steps; patterns are configuration, so short.
pub(crate) fn glob(pattern: &str, text: &[u8]) -> bool {
    let pattern = pattern.as_bytes();
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == b'?' || c.eq_ignore_ascii_case(&text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                // Let the last star take one byte more.
                Some((after_star, from)) => {
                    p = after_star;
                    t = from + 1;
                    retry = Some((after_star, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("a?c", "aBC", true),
            ("?", "", false),
            ("*ab*ab", "ababab", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text.as_bytes()), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn networks() {
        for (network, address, wanted) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.7/24", "192.0.2.1", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "255.0.0.1", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("::/0", "192.0.2.1", true),
        ] {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), wanted, "{network:?} {address}");
        }
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0", "10.0.0.0/", "x/8"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
