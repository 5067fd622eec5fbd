//! A share of the traffic, in slots of the route table.

use crate::route::SLOTS;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// Slots out of 10,000, that is, basis points. In TOML and JSON: `5` or `"5%"` (percent), or `"500 slots"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(pub u32);

impl Share {
    pub const ZERO: Share = Share(0);
    pub const ALL: Share = Share(SLOTS as u32);

    pub const fn percent(n: u32) -> Share {
        Share(n * 100)
    }

    /// Between 0 and 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / SLOTS as f64
    }

    fn of_percent(percent: f64) -> Option<Share> {
        let slots = percent * 100.0;
        let whole = (slots - slots.round()).abs() < 1e-6 && (0.0..=SLOTS as f64).contains(&slots);
        whole.then(|| Share(slots.round() as u32))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

impl FromStr for Share {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("`{s}` is not a share such as 5%, 0.5% or \"250 slots\" (of {SLOTS})");
        if let Some(slots) = s.strip_suffix("slots") {
            let n: u32 = slots.trim().parse().map_err(|_| wrong())?;
            return if n <= Share::ALL.0 { Ok(Share(n)) } else { Err(wrong()) };
        }
        let percent: f64 = s.strip_suffix('%').unwrap_or(s).trim().parse().map_err(|_| wrong())?;
        Share::of_percent(percent).ok_or_else(wrong)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { s.serialize_u32(self.0) }
    }
}

struct Parsed;

impl de::Visitor<'_> for Parsed {
    type Value = Share;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share such as 5 (percent), \"5%\" or \"500 slots\"")
    }
    fn visit_str<E: de::Error>(self, s: &str) -> Result<Share, E> {
        s.parse().map_err(E::custom)
    }
    fn visit_f64<E: de::Error>(self, percent: f64) -> Result<Share, E> {
        Share::of_percent(percent)
            .ok_or_else(|| E::custom(format!("{percent} is not a percentage between 0 and 100 in steps of 0.01")))
    }
    fn visit_u64<E: de::Error>(self, percent: u64) -> Result<Share, E> {
        self.visit_f64(percent as f64)
    }
    fn visit_i64<E: de::Error>(self, percent: i64) -> Result<Share, E> {
        self.visit_f64(percent as f64)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() { d.deserialize_any(Parsed) } else { u32::deserialize(d).map(Share) }
    }
}
