//! Addresses to listen on.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize as _, Deserializer};

/// `192.0.2.7:9464` or `[2001:db8::7]:9464`. Also `2001:db8::7:9464`, as it comes of an address that somebody else
/// put in (`$(HOST_IP):9464`): what stands behind the last colon is the port.
///
/// # Errors
///
/// A sentence that says what it should be.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bare = text.rsplit_once(':').and_then(|(ip, port)| {
        let (ip, port) = (ip.parse::<Ipv6Addr>().ok()?, port.parse::<u16>().ok()?);
        Some(SocketAddr::new(IpAddr::V6(ip), port))
    });
    bare.ok_or_else(|| {
        "not an IP address and a port, such as 127.0.0.1:9464 or [2001:db8::7]:9464".to_owned()
    })
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    socket_address(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_brackets() {
        for (text, address) in [
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("[2001:db8::7]:9464", "[2001:db8::7]:9464"),
            ("2001:db8::7:9464", "[2001:db8::7]:9464"),
            ("2001:db8:0:1:2:3:4:5:9464", "[2001:db8:0:1:2:3:4:5]:9464"),
            (":::9464", "[::]:9464"),
            ("::1:9464", "[::1]:9464"),
        ] {
            assert_eq!(socket_address(text).unwrap().to_string(), address, "{text}");
        }
        for text in [
            "",
            "9464",
            ":9464",
            "127.0.0.1",
            "[::1]",
            "2001:db8::1",
            "1:2:3:4:5:6:7:8",
            "host:1",
            "::1:70000",
        ] {
            let error = socket_address(text).unwrap_err();
            assert!(error.contains("not an IP address and a port"), "{text}: {error}");
        }
    }
}
