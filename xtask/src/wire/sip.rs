//! The text of SIP messages.

use anyhow::{Result, bail};

/// The text of a SIP message, its headers in the order given.
#[derive(Clone)]
pub(crate) struct Sip {
    head: String,
    body: String,
}

impl Sip {
    /// A request.
    pub(crate) fn request(method: &str, uri: &str) -> Self {
        Self { head: format!("{method} {uri} SIP/2.0\r\n"), body: String::new() }
    }

    /// An answer.
    pub(crate) fn response(status: u16, reason: &str) -> Self {
        Self { head: format!("SIP/2.0 {status} {reason}\r\n"), body: String::new() }
    }

    /// One header line.
    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.head.extend([name, ": ", value.as_ref(), "\r\n"]);
        self
    }

    /// A header line if there is a value.
    #[must_use]
    pub(crate) fn maybe(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    /// The body with its Content-Type. Content-Length follows by itself, last, unless [`Self::length_here`]
    /// placed it earlier.
    #[must_use]
    pub(crate) fn body(mut self, content_type: &str, body: impl Into<String>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    /// Places Content-Length at this point of the header, where a stack does so.
    #[must_use]
    pub(crate) fn length_here(self) -> Self {
        self.header("Content-Length", LENGTH)
    }

    /// The message as sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = self.body.len().to_string();
        let head = if self.head.contains(LENGTH) {
            self.head.replacen(LENGTH, &length, 1)
        } else {
            format!("{}Content-Length: {length}\r\n", self.head)
        };
        format!("{head}\r\n{}", self.body).into_bytes()
    }
}

/// The reason phrase that RFC 3261 §21, or the RFC that added the status, gives it.
pub(crate) fn phrase(status: &str) -> Result<&'static str> {
    Ok(match status {
        "100" => "Trying",
        "180" => "Ringing",
        "183" => "Session Progress",
        "200" => "OK",
        "202" => "Accepted",
        "302" => "Moved Temporarily",
        "400" => "Bad Request",
        "401" => "Unauthorized",
        "403" => "Forbidden",
        "404" => "Not Found",
        "405" => "Method Not Allowed",
        "407" => "Proxy Authentication Required",
        "408" => "Request Timeout",
        "410" => "Gone",
        "420" => "Bad Extension",
        "480" => "Temporarily Unavailable",
        "481" => "Call/Transaction Does Not Exist",
        "484" => "Address Incomplete",
        "486" => "Busy Here",
        "487" => "Request Terminated",
        "488" => "Not Acceptable Here",
        "489" => "Bad Event",
        "500" => "Server Internal Error",
        "501" => "Not Implemented",
        "503" => "Service Unavailable",
        "600" => "Busy Everywhere",
        "603" => "Decline",
        "604" => "Does Not Exist Anywhere",
        "606" => "Not Acceptable",
        "607" => "Unwanted",
        "608" => "Rejected",
        _ => bail!("{status} needs a phrase"),
    })
}

/// Stands for the length until the body is known.
const LENGTH: &str = "\u{0}length";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_stands_where_it_was_placed() {
        let early =
            Sip::request("INVITE", "sip:b").length_here().header("To", "x").body("text/plain", "hallo");
        assert_eq!(
            early.bytes(),
            b"INVITE sip:b SIP/2.0\r\nContent-Length: 5\r\nTo: x\r\nContent-Type: text/plain\r\n\r\nhallo"
        );
        assert_eq!(Sip::response(200, "OK").bytes(), b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}
