//! The reader's time zone, and times that a person writes.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use sipobs::timestamp::Timestamp;

/// Seconds that the local clock is east of UTC at a time.
pub(super) fn offset(time: Timestamp) -> i32 {
    jiff::Timestamp::from_nanosecond(time.as_nanos().into())
        .map_or(0, |time| TimeZone::system().to_offset(time).seconds())
}

/// A time on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// A day and a time.
    At(Timestamp),
    /// A time of the day on which the capture begins.
    OfDay(Time),
}

impl std::str::FromStr for Moment {
    type Err = String;

    /// Local time, unless an offset from UTC is given.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let normal = with_t(text);
        if let Ok(time) = normal.parse::<jiff::Timestamp>() {
            return at(time).map(Self::At).ok_or_else(|| format!("`{text}` is out of range"));
        }
        if let Ok(time) = normal.parse::<Time>().or_else(|_| Time::strptime("%H:%M", text))
            && !text.contains(['-', 'T', 'Z', '+'])
        {
            return Ok(Self::OfDay(time));
        }
        let civil = normal.parse::<DateTime>().or_else(|_| normal.parse::<Date>().map(Date::into));
        let civil = civil.map_err(|_| {
            format!("`{text}` is no time: 2026-11-28 14:30, 2026-11-28T14:30:05+01:00 or 14:30 is wanted")
        })?;
        local(civil).map(Self::At).ok_or_else(|| format!("`{text}` is out of range"))
    }
}

impl Moment {
    /// The time itself, of a capture that begins at `start`.
    pub(super) fn of_capture(self, start: Timestamp) -> Timestamp {
        let time = match self {
            Self::At(time) => return time,
            Self::OfDay(time) => time,
        };
        let day = jiff::Timestamp::from_nanosecond(start.as_nanos().into());
        let day = day.map(|day| TimeZone::system().to_datetime(day).date());
        day.ok().and_then(|day| local(day.to_datetime(time))).unwrap_or(start)
    }
}

/// With a `T` between day and time, and none before an offset.
fn with_t(text: &str) -> String {
    let mut parts = text.split_ascii_whitespace();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(day), Some(time), offset) => format!("{day}T{time}{}", offset.unwrap_or_default()),
        _ => text.to_owned(),
    }
}

fn at(time: jiff::Timestamp) -> Option<Timestamp> {
    i64::try_from(time.as_nanosecond()).ok().map(Timestamp::from_nanos)
}

fn local(civil: DateTime) -> Option<Timestamp> {
    at(TimeZone::system().to_timestamp(civil).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_taken_at_its_word() {
        for text in [
            "2023-11-14T22:13:20Z",
            "2023-11-14 23:13:20+01:00",
            "2023-11-14 23:13:20 +01:00",
            "2023-11-14T18:43:20-03:30",
        ] {
            assert_eq!(
                text.parse(),
                Ok(Moment::At(Timestamp::from_nanos(1_700_000_000_000_000_000))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_day_or_a_time_may_stand_alone() {
        let day: Moment = "2023-11-14".parse().unwrap();
        assert_eq!(Ok(day), "2023-11-14 00:00".parse());
        let noon: Moment = "12:00".parse().unwrap();
        assert!(matches!(noon, Moment::OfDay(_)), "{noon:?}");
        let Moment::At(start) = day else { panic!("{day:?}") };
        assert_eq!(Ok(Moment::At(noon.of_capture(start))), "2023-11-14 12:00".parse());
        assert!("yesterday".parse::<Moment>().unwrap_err().contains("is wanted"));
    }
}
