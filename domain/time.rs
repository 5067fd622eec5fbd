//! Instants and spans, in whole microseconds.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// An instant: microseconds since 1970-01-01T00:00:00Z. RFC 3339 in JSON, an integer in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A length of time in microseconds. `"90s"`, `"1h"`, `"30d"`, `"250ms"` in TOML and JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub i64);

impl Timestamp {
    pub const MIN: Timestamp = Timestamp(i64::MIN);

    /// Whole milliseconds since the epoch, never negative (the time part of a ULID).
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.div_euclid(1000)).unwrap_or(0)
    }

    /// The start of the period of length `period` that holds this instant. Periods that are
    /// whole weeks start on Monday 00:00Z, all others divide the epoch evenly.
    pub fn floor(self, period: Span) -> Timestamp {
        const FIRST_MONDAY: i64 = 4 * DAY;
        let origin = if period.0 % (7 * DAY) == 0 { FIRST_MONDAY } else { 0 };
        Timestamp((self.0 - origin).div_euclid(period.0) * period.0 + origin)
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, s: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub(s.0))
    }
}
impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, s: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(s.0))
    }
}
impl Sub for Timestamp {
    type Output = Span;
    fn sub(self, o: Timestamp) -> Span {
        Span(self.0.saturating_sub(o.0))
    }
}

impl Span {
    pub const ZERO: Span = Span(0);
    pub const fn seconds(n: i64) -> Span {
        Span(n * SECOND)
    }
    pub const fn hours(n: i64) -> Span {
        Span(n * HOUR)
    }
    pub const fn days(n: i64) -> Span {
        Span(n * DAY)
    }
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / SECOND as f64
    }
    pub fn std(self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        s.parse::<jiff::Timestamp>()
            .map(|t| Timestamp(t.as_microsecond()))
            .map_err(|_| format!("`{s}` is not an RFC 3339 time such as 2013-04-01T12:00:00Z"))
    }
}

const UNITS: [(&str, i64); 6] = [("ms", 1_000), ("us", 1), ("s", SECOND), ("m", MINUTE), ("h", HOUR), ("d", DAY)];

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1_000)] {
            if self.0 % size == 0 {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}us", self.0)
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("`{s}` is not a duration such as 90s, 15m, 1h or 30d");
        let digits = s.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let n: i64 = s[..digits].parse().map_err(|_| wrong())?;
        let (_, size) = UNITS.iter().find(|(u, _)| *u == &s[digits..]).ok_or_else(wrong)?;
        n.checked_mul(*size).map(Span).ok_or_else(wrong)
    }
}

struct Parsed<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> de::Visitor<'_> for Parsed<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }
    fn visit_str<E: de::Error>(self, s: &str) -> Result<T, E> {
        s.parse().map_err(E::custom)
    }
}

macro_rules! text_or_integer {
    ($t:ident) => {
        impl Serialize for $t {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_i64(self.0) }
            }
        }
        impl<'de> Deserialize<'de> for $t {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    d.deserialize_str(Parsed(std::marker::PhantomData))
                } else {
                    i64::deserialize(d).map($t)
                }
            }
        }
    };
}
text_or_integer!(Timestamp);
text_or_integer!(Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_back_what_they_write() {
        for s in ["0s", "250ms", "90s", "15m", "1h", "30d"] {
            assert_eq!(s.parse::<Span>().unwrap().to_string().parse::<Span>().unwrap(), s.parse().unwrap());
        }
        for bad in ["", "h", "1", "1w", "-1h", "1.5h", "99999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn weeks_start_on_monday() {
        let t: Timestamp = "2013-04-03T12:00:00Z".parse().unwrap();
        assert_eq!(t.floor(Span::days(7)).to_string(), "2013-04-01T00:00:00Z");
        assert_eq!(t.floor(Span::days(1)).to_string(), "2013-04-03T00:00:00Z");
    }
}
