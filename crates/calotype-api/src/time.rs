//! A [`Time`] is a moment in whole milliseconds, written as the service writes it: `2016-08-25T21:10:29.600Z`.

use std::fmt;
use std::str::FromStr;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde::{Deserialize, Serialize};

/// A moment. What is finer than a millisecond is cut off when it is made, so that a stored time reads back equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(Timestamp);

/// A text that is no RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a time such as 2016-08-25T21:10:29.600Z")]
pub struct NotATime;

impl Time {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn as_millisecond(self) -> i64 {
        self.0.as_millisecond()
    }

    /// The same moment as a timestamp.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl From<Timestamp> for Time {
    fn from(timestamp: Timestamp) -> Self {
        let round = TimestampRound::new().smallest(Unit::Millisecond).mode(RoundMode::Floor);
        // Rounding down fails only next to the smallest timestamp there is, which stays as it is.
        Self(timestamp.round(round).unwrap_or(timestamp))
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for Time {
    type Error = NotATime;

    fn try_from(text: String) -> Result<Self, NotATime> {
        text.parse()
    }
}

impl FromStr for Time {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        text.parse::<Timestamp>().map(Self::from).map_err(|_| NotATime)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_milliseconds_even_when_they_are_zero() {
        let check = |written: &str, expected: &str| {
            assert_eq!(written.parse::<Time>().unwrap().to_string(), expected);
        };
        check("2016-08-25T21:10:29.600Z", "2016-08-25T21:10:29.600Z");
        check("2016-08-25T21:10:29Z", "2016-08-25T21:10:29.000Z");
        check("2016-08-25T23:10:29.6009+02:00", "2016-08-25T21:10:29.600Z");
    }

    #[test]
    fn reads_back_equal_to_what_was_written() {
        let time = Time::from(Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap());
        assert_eq!(time.to_string().parse::<Time>().unwrap(), time);
        assert!("yesterday".parse::<Time>().is_err());
    }
}
