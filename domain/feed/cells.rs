//! One event as the values that are counted of it, without copying them.

use crate::drift::{Binning, MISSING};
use crate::event::LoggedEvent;
use crate::time::HOUR as AN_HOUR;
use crate::value::Value;

pub(super) const DELAY: &str = "(seconds until learnt)";
pub(super) const HOUR: &str = "(hour)";
pub(super) const DOOR: &str = "(taken)";

/// What an event has under a name; names of entity keys begin with `@`.
#[derive(Clone, Copy)]
pub(super) enum Cell<'a> {
    Absent,
    Text(&'a str),
    Number(f64),
    Value(&'a Value),
}

pub(super) fn cell<'a>(e: &'a LoggedEvent, name: &str) -> Cell<'a> {
    match name {
        DELAY => Cell::Number((e.ingested - e.event.time).as_secs_f64()),
        HOUR => Cell::Number(e.event.time.0.div_euclid(AN_HOUR).rem_euclid(24) as f64),
        DOOR => Cell::Text(if e.late { "late" } else { "accepted" }),
        _ => match name.strip_prefix('@') {
            Some(key) => e.event.entities.get(key).and_then(Option::as_deref).map_or(Cell::Absent, Cell::Text),
            None => e.event.properties.get(name).map_or(Cell::Absent, Cell::Value),
        },
    }
}

/// Names of all that an event has.
pub(super) fn names(e: &LoggedEvent) -> impl Iterator<Item = String> {
    let own = [DELAY, HOUR, DOOR].map(str::to_owned).into_iter();
    own.chain(e.event.entities.keys().map(|k| format!("@{k}"))).chain(e.event.properties.keys().cloned())
}

impl<'a> Cell<'a> {
    pub fn text(self) -> Option<&'a str> {
        match self {
            Cell::Text(t) => Some(t),
            Cell::Value(v) => v.as_str(),
            Cell::Absent | Cell::Number(_) => None,
        }
    }

    pub fn number(self) -> Option<f64> {
        match self {
            Cell::Number(x) => Some(x),
            Cell::Value(v) => v.as_f64(),
            Cell::Absent | Cell::Text(_) => None,
        }
    }

    pub fn bin(self, binning: &Binning) -> usize {
        match binning {
            Binning::Numeric { .. } => self.number().map_or(MISSING, |x| binning.of_number(x)),
            Binning::Category { .. } => self.text().map_or(MISSING, |t| binning.of_text(t)),
        }
    }
}
