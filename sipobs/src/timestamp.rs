//! The one notion of time in the engine: it comes with the frame.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

/// A moment in nanoseconds since the Unix epoch, as the capture recorded it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `nanos` nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later (clocks step).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// What a clock shows that is ahead by so many nanoseconds.
    pub(crate) const fn ahead_by(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Whole milliseconds from `earlier` to `self`, negative when `earlier` is later.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Saturates at the end of time.
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    /// Saturates at the start of time.
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&self.rfc3339()))
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text(&self.rfc3339()))
    }
}

/// `1970-01-01T00:00:00.000000Z`.
type Rfc3339 = [u8; 27];

impl Timestamp {
    /// Only the calendar is the library's. Every record holds several timestamps: its formatter took 3 % of the
    /// instructions of a whole run, eight times as many as this.
    fn rfc3339(self) -> Rfc3339 {
        const A_SECOND: i64 = 1_000_000_000;
        let (seconds, nanos) = (self.0.div_euclid(A_SECOND), self.0.rem_euclid(A_SECOND));
        let moment = OffsetDateTime::from_unix_timestamp(seconds)
            .expect("every i64 of nanoseconds lies within the years 1677 to 2262");
        let (date, time) = (moment.date(), moment.time());
        let (year, month, day) = date.to_calendar_date();
        let (hour, minute, second) = time.as_hms();
        let mut out = *b"0000-00-00T00:00:00.000000Z";
        write(&mut out[..4], year.into());
        write(&mut out[5..7], u8::from(month).into());
        write(&mut out[8..10], day.into());
        write(&mut out[11..13], hour.into());
        write(&mut out[14..16], minute.into());
        write(&mut out[17..19], second.into());
        write(&mut out[20..26], nanos / 1_000);
        out
    }
}

/// Writes `number` with as many digits as there is room for.
fn write(room: &mut [u8], mut number: i64) {
    for place in room.iter_mut().rev() {
        // A digit, so nothing is cut off.
        *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

fn text(ascii: &Rfc3339) -> &str {
    std::str::from_utf8(ascii).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_rfc3339_with_microseconds() {
        assert_eq!(Timestamp::from_nanos(1_500_000).to_string(), "1970-01-01T00:00:00.001500Z");
        assert_eq!(Timestamp::from_nanos(-1).to_string(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn prints_what_a_date_library_prints() {
        let format = time::macros::format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
        );
        let check = |nanos: i64| {
            let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos.into()).unwrap();
            assert_eq!(Timestamp(nanos).to_string(), moment.format(format).unwrap(), "{nanos}");
        };
        // Every day that there is, at a time of its own.
        let step = 86_400_000_000_000 + 1_234_567_891;
        let mut moment = i64::MIN;
        while let Some(next) = moment.checked_add(step) {
            check(moment);
            moment = next;
        }
        // The ends of days and of time.
        for day in -106_751..=106_751 {
            check(day * 86_400_000_000_000 - 1);
            check(day * 86_400_000_000_000);
        }
        check(i64::MAX);
    }

    #[test]
    fn a_clock_stepped_back_gives_no_time() {
        let (early, late) = (Timestamp::from_nanos(5), Timestamp::from_nanos(9));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_nanos(4));
    }
}
