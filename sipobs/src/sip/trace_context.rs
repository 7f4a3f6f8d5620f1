//! The trace that a message names: an application's own, which went along with the call.

use super::text::trim;

/// A trace, and the span in it that a message was sent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, not all zero.
    pub trace_id: u128,
    /// 8 bytes, not all zero; `None` where only the trace is named.
    pub span_id: Option<u64>,
    /// Whether the sender records it, as far as it knows.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` (W3C Trace Context, §3.2.2), strictly: lower case, no zero ids, nothing behind version 00.
    pub fn of_traceparent(value: &[u8]) -> Option<Self> {
        let (head, more) = value.split_at_checked(55)?;
        let mut fields = head.split(|byte| *byte == b'-');
        let mut hex = |digits: usize| number(fields.next()?, digits, false);
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        // A later version may add fields of its own behind these (§4.3).
        let ends = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.starts_with(b"-"),
        };
        let span_id = u64::try_from(span_id).ok().filter(|id| *id != 0)?;
        (ends && trace_id != 0 && fields.next().is_none()).then_some(Self {
            trace_id,
            span_id: Some(span_id),
            sampled: flags & 1 != 0,
        })
    }

    /// Reads an `X-Trace-ID`, which no document describes: 32 hexadecimal digits, or the same as a UUID (RFC 9562 §4).
    pub fn of_trace_id(value: &[u8]) -> Option<Self> {
        const DASHES: [usize; 4] = [8, 13, 18, 23];
        let value = trim(value);
        let is_uuid = value.len() == 36 && DASHES.iter().all(|at| value[*at] == b'-');
        let digits: Vec<u8> = match is_uuid {
            true => value.iter().copied().filter(|byte| *byte != b'-').collect(),
            false => value.iter().copied().take(33).collect(),
        };
        let trace_id = number(&digits, 32, true).filter(|id| *id != 0)?;
        Some(Self { trace_id, span_id: None, sampled: true })
    }
}

/// Exactly so many hexadecimal digits.
fn number(text: &[u8], digits: usize, upper_case: bool) -> Option<u128> {
    let fits =
        |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f') || upper_case && byte.is_ascii_hexdigit();
    let text = (text.len() == digits && text.iter().all(fits)).then_some(text)?;
    u128::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn what_the_specification_shows() {
        let context = TraceContext::of_traceparent(format!("00-{TRACE}-b7ad6b7169203331-01").as_bytes());
        let context = context.unwrap();
        assert_eq!(format!("{:032x}", context.trace_id), TRACE);
        assert_eq!(context.span_id, Some(0xb7ad_6b71_6920_3331));
        assert!(context.sampled);
        for (value, sampled) in [("00-{}-b7ad6b7169203331-00", false), ("00-{}-b7ad6b7169203331-03", true)] {
            let context = TraceContext::of_traceparent(value.replace("{}", TRACE).as_bytes());
            assert_eq!(context.unwrap().sampled, sampled, "{value}");
        }
        for later in ["cc-{}-b7ad6b7169203331-01", "01-{}-b7ad6b7169203331-01-what-the-future-will-be-like"] {
            assert!(TraceContext::of_traceparent(later.replace("{}", TRACE).as_bytes()).is_some(), "{later}");
        }
    }

    #[test]
    fn nothing_else_is_one() {
        for value in [
            "",
            "00",
            "00-{}-b7ad6b7169203331",
            "00-{}-b7ad6b7169203331-1",
            "00-{}-b7ad6b7169203331-01-more",
            "01-{}-b7ad6b7169203331-01more",
            "ff-{}-b7ad6b7169203331-01",
            "00-{}-B7AD6B7169203331-01",
            "00-{}-0000000000000000-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-{}-b7ad6b716920333g-01",
            "0-0{}-b7ad6b7169203331-01",
            "00_{}_b7ad6b7169203331_01",
            " 00-{}-b7ad6b7169203331-01",
            "00-{}-b7ad6b7169203331-0\u{e9}",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::of_traceparent(value.replace("{}", TRACE).as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_trace_alone() {
        let expected = u128::from_str_radix(TRACE, 16).unwrap();
        for value in [TRACE, "0AF7651916CD43DD8448EB211C80319C", "0af76519-16cd-43dd-8448-eb211c80319c"] {
            let context = TraceContext::of_trace_id(value.as_bytes()).unwrap();
            assert_eq!((context.trace_id, context.span_id), (expected, None), "{value}");
        }
        for value in
            ["", "1", "request-17", &TRACE[1..], &format!("{TRACE}0"), &"0".repeat(32), &"-".repeat(36)]
        {
            assert_eq!(TraceContext::of_trace_id(value.as_bytes()), None, "{value}");
        }
    }
}
