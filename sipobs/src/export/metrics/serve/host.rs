//! Which names a request may be for. A page in a browser on this host can have its own name resolved to 127.0.0.1
//! and ask in that name (DNS rebinding); what it then reads would be its own.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderValue, Request, StatusCode, Version, header};

/// The names that a daemon goes by on its own host.
#[derive(Debug)]
pub(super) struct Names {
    listen: IpAddr,
    others: Vec<String>,
}

impl Names {
    /// For a server that listens on `listen` and is known by `others` too.
    pub(super) fn new(listen: IpAddr, others: &[String]) -> Self {
        Self { listen, others: others.to_vec() }
    }

    /// Looks at a request that came in at our address `local`. Gives what to answer if it is not for us. Whatever
    /// does not come by loopback comes from the network, where anybody can ask in any name.
    pub(super) fn refuse<B>(&self, local: IpAddr, request: &Request<B>) -> Option<StatusCode> {
        let mut lines = request.headers().get_all(header::HOST).iter();
        let (first, more) = (lines.next(), lines.next());
        // RFC 9112 §3.2
        if more.is_some() || first.is_none() && request.version() == Version::HTTP_11 {
            return Some(StatusCode::BAD_REQUEST);
        }
        let header = match first.map(authority) {
            Some(None) => return Some(StatusCode::BAD_REQUEST),
            Some(header) => header,
            None => None,
        };
        let foreign = |authority: &Authority| !self.is_ours(authority.host());
        let of_uri = request.uri().authority().cloned();
        let by_loopback = local.to_canonical().is_loopback();
        let is_foreign = by_loopback && [header, of_uri].iter().flatten().any(foreign);
        is_foreign.then_some(StatusCode::MISDIRECTED_REQUEST)
    }

    fn is_ours(&self, host: &str) -> bool {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = literal.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            return ip.is_loopback() || ip == self.listen.to_canonical() && !ip.is_unspecified();
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // RFC 6761 §6.3: names below it are nobody else's either.
        name == "localhost"
            || name.ends_with(".localhost")
            || self.others.iter().any(|other| other.eq_ignore_ascii_case(&name))
    }
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), without user information.
fn authority(value: &HeaderValue) -> Option<Authority> {
    let authority: Authority = value.to_str().ok()?.parse().ok()?;
    (!authority.as_str().contains('@')).then_some(authority)
}

#[cfg(test)]
mod tests {
    use axum::http::request::Builder;

    use super::*;

    fn answer(listen: &str, local: &str, request: Builder) -> Option<StatusCode> {
        let names = Names::new(listen.parse().unwrap(), &["Metrics.example".to_owned()]);
        names.refuse(local.parse().unwrap(), &request.body(()).unwrap())
    }

    fn host(value: &str) -> Builder {
        Request::builder().uri("/metrics").header("Host", value)
    }

    #[test]
    fn on_loopback_only_its_own_names_are_taken() {
        for ours in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "127.9.9.9:1",
            "[::1]",
            "[::1]:9464",
            "[::ffff:127.0.0.1]:9464",
            "localhost",
            "LOCALHOST:9464",
            "localhost.",
            "a.localhost:9464",
            "metrics.EXAMPLE:80",
        ] {
            assert_eq!(answer("127.0.0.1", "127.0.0.1", host(ours)), None, "{ours}");
            assert_eq!(answer("::1", "::1", host(ours)), None, "{ours}");
        }
        for foreign in [
            "evil.example",
            "evil.example:9464",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "0.0.0.0:9464",
            "[::]:9464",
            "192.0.2.1",
            "[2001:db8::1]",
            "0x7f.1",
            "2130706433",
            "evil.metrics.example",
        ] {
            let misdirected = Some(StatusCode::MISDIRECTED_REQUEST);
            assert_eq!(answer("127.0.0.1", "127.0.0.1", host(foreign)), misdirected, "{foreign}");
            // Listening everywhere, and asked by loopback all the same.
            assert_eq!(answer("0.0.0.0", "127.0.0.1", host(foreign)), misdirected, "{foreign}");
            assert_eq!(answer("::", "::ffff:127.0.0.1", host(foreign)), misdirected, "{foreign}");
            assert_eq!(answer("0.0.0.0", "192.0.2.1", host(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_bad_request() {
        let bad = Some(StatusCode::BAD_REQUEST);
        for odd in ["", "a b", "127.0.0.1@evil.example", "evil@localhost", "[::1", "::1", "/", "é"] {
            assert_eq!(answer("127.0.0.1", "127.0.0.1", host(odd)), bad, "{odd:?}");
            assert_eq!(answer("192.0.2.1", "192.0.2.1", host(odd)), bad, "{odd:?}");
        }
        assert_eq!(answer("::1", "::1", host("localhost").header("Host", "localhost")), bad);
        assert_eq!(answer("::1", "::1", Request::builder().version(Version::HTTP_11)), bad, "RFC 9112 §3.2");
        assert_eq!(answer("::1", "::1", Request::builder().version(Version::HTTP_10)), None);
    }

    #[test]
    fn the_request_target_counts_as_well() {
        let absolute = |uri: &str| host("localhost").uri(uri);
        let misdirected = Some(StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(answer("::1", "::1", absolute("http://evil.example/metrics")), misdirected);
        assert_eq!(answer("::1", "::1", absolute("http://127.0.0.1:9464/metrics")), None);
    }
}
