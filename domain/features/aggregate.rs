//! From the points (or the merged tile) of a window to the feature's value.
//! Points are always folded in (time, seq) order: the same events give the same bits.

use super::plan::WindowDef;
use super::series::Point;
use super::tiles::Tile;
use crate::project::Aggregate;
use crate::time::{Span, Timestamp};
use crate::value::Value;
use std::cmp::Ordering;

/// A value at some time: what time does to it is applied at the moment of use.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Folded {
    pub value: Value,
    pub count: u64,
    /// Event time of the newest and oldest event in the window.
    pub newest: Option<Timestamp>,
    pub oldest: Option<Timestamp>,
}

/// Total order of values of one type; ints exactly, numbers of different types as floats.
pub(super) fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Int(x), Value::Int(y)) => x.cmp(y),
        (Value::Text(x), Value::Text(y)) => x.cmp(y),
        _ => match (a.as_f64(), b.as_f64()) {
            // -0 and 0 are one value.
            (Some(x), Some(y)) => (x + 0.0).total_cmp(&(y + 0.0)),
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
        },
    }
}

fn number(x: f64) -> Value {
    if x.is_finite() { Value::Float(x) } else { Value::Null }
}

fn int(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn per_unit(count: u64, w: &WindowDef) -> Value {
    number(count as f64 / (w.window.0 as f64 / w.unit.0 as f64))
}

/// The value of a window without events.
pub(super) fn empty(a: Aggregate) -> Folded {
    let value = match a {
        Aggregate::Count | Aggregate::Distinct => Value::Int(0),
        Aggregate::Sum | Aggregate::Rate => Value::Float(0.0),
        _ => Value::Null,
    };
    Folded { value, count: 0, newest: None, oldest: None }
}

/// Folds the points of a window.
pub(super) fn exact<'a, I>(w: &WindowDef, points: I) -> Folded
where
    I: DoubleEndedIterator<Item = &'a Point> + ExactSizeIterator + Clone,
{
    let n = points.len();
    let (Some(first), Some(last)) = (points.clone().next(), points.clone().next_back()) else {
        return empty(w.aggregate);
    };
    let numbers = || points.clone().filter_map(|p| p.value.as_f64());
    let mean = || numbers().sum::<f64>() / n as f64;
    let value = match w.aggregate {
        Aggregate::Count => int(n),
        Aggregate::Rate => per_unit(n as u64, w),
        Aggregate::Sum => number(numbers().sum()),
        Aggregate::Mean | Aggregate::Share => number(mean()),
        Aggregate::Std => {
            let m = mean();
            number((numbers().map(|x| (x - m) * (x - m)).sum::<f64>() / n as f64).sqrt())
        }
        Aggregate::Min => extreme(points.clone(), Ordering::Less),
        Aggregate::Max => extreme(points.clone(), Ordering::Greater),
        Aggregate::First => first.value.clone(),
        Aggregate::Last => last.value.clone(),
        Aggregate::Distinct => {
            let mut all: Vec<&Value> = points.clone().map(|p| &p.value).collect();
            all.sort_unstable_by(|a, b| order(a, b));
            all.dedup_by(|a, b| order(a, b) == Ordering::Equal);
            int(all.len())
        }
        Aggregate::Quantile => quantile(numbers().collect(), w.q),
        Aggregate::Ewma => ewma(points.clone(), last.time, w.half_life),
        Aggregate::SecondsSinceLast => Value::Null, // depends on t: `at` derives it from `newest`
    };
    Folded { value, count: n as u64, newest: Some(last.time), oldest: Some(first.time) }
}

fn extreme<'a>(points: impl Iterator<Item = &'a Point>, wanted: Ordering) -> Value {
    let mut best = &Value::Null;
    for p in points {
        if best.is_null() || order(&p.value, best) == wanted {
            best = &p.value;
        }
    }
    best.clone()
}

/// Linear interpolation between order statistics (Hyndman and Fan 1996, type 7).
fn quantile(mut xs: Vec<f64>, q: f64) -> Value {
    if xs.is_empty() {
        return Value::Null;
    }
    xs.sort_unstable_by(f64::total_cmp);
    let h = q * (xs.len() - 1) as f64;
    let below = h.floor() as usize;
    let above = (below + 1).min(xs.len() - 1);
    number(xs[below] + (h - below as f64) * (xs[above] - xs[below]))
}

/// Weights halve with every `half_life` of age. Only ratios of weights matter, so ages are taken
/// from the newest point and the value does not depend on the time of asking.
fn ewma<'a>(points: impl Iterator<Item = &'a Point>, newest: Timestamp, half_life: Span) -> Value {
    let (mut sum, mut weights) = (0.0, 0.0);
    for p in points {
        let Some(x) = p.value.as_f64() else { continue };
        let weight = (-((newest - p.time).0 as f64) / half_life.0 as f64).exp2();
        sum += weight * x;
        weights += weight;
    }
    number(sum / weights)
}

/// The value of a window of tiles, merged.
pub(super) fn tiled(w: &WindowDef, tile: Option<&Tile>) -> Folded {
    let Some(t) = tile else { return empty(w.aggregate) };
    let value = match w.aggregate {
        Aggregate::Count => int(t.count as usize),
        Aggregate::Rate => per_unit(t.count, w),
        Aggregate::Sum => number(t.sum),
        Aggregate::Mean | Aggregate::Share => number(t.mean()),
        Aggregate::Std => number(t.std()),
        Aggregate::Min => t.min.clone(),
        Aggregate::Max => t.max.clone(),
        Aggregate::First => t.first.value.clone(),
        Aggregate::Last => t.last.value.clone(),
        Aggregate::Distinct => int(t.different()),
        Aggregate::Quantile => t.quantile(w.q).map_or(Value::Null, number),
        Aggregate::Ewma | Aggregate::SecondsSinceLast => Value::Null,
    };
    Folded { value, count: t.count, newest: Some(t.last.time), oldest: Some(t.first.time) }
}

impl Folded {
    /// The value as of t.
    pub fn at(&self, w: &WindowDef, t: Timestamp) -> Value {
        match (w.aggregate, self.newest) {
            (Aggregate::SecondsSinceLast, Some(newest)) => number((t - newest).0 as f64 / w.unit.0 as f64),
            _ => self.value.clone(),
        }
    }

    /// Seconds since the newest event behind the value.
    pub fn age(&self, t: Timestamp) -> Option<u32> {
        let age = (t - self.newest?).0.max(0) / crate::time::SECOND;
        Some(u32::try_from(age).unwrap_or(u32::MAX))
    }
}
