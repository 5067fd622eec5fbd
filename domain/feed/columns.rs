//! What is counted of an event type, learnt from its first events.

use crate::drift::{Binning, MISSING};
use crate::event::LoggedEvent;
use crate::fixed_hash;
use crate::time::Timestamp;
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An entity key or text with at most this many values cuts the numbers into slices.
const SLICES: usize = 20;
/// Text with more different values than this share of its events is an id: its values are not counted.
const MANY: usize = 20;
/// Ids remembered of each key, to tell known from new ones.
const MAX_IDS: usize = 1 << 17;
/// Columns of one event type.
const MAX_COLUMNS: usize = 256;

/// One event, as column name to value; entity keys begin with `@`.
pub(super) type Row = BTreeMap<String, Value>;

const DELAY: &str = "(seconds until learnt)";
const HOUR: &str = "(hour)";
const DOOR: &str = "(taken)";

pub(super) fn row(e: &LoggedEvent) -> Row {
    let mut row: Row = e.event.properties.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    for (key, id) in &e.event.entities {
        row.insert(format!("@{key}"), id.as_deref().map_or(Value::Null, Value::text));
    }
    row.insert(DELAY.into(), Value::Float((e.ingested - e.event.time).as_secs_f64()));
    row.insert(HOUR.into(), Value::Int(e.event.time.0.div_euclid(crate::time::HOUR).rem_euclid(24)));
    row.insert(DOOR.into(), Value::text(if e.late { "late" } else { "accepted" }));
    row
}

pub(super) fn refused(code: &str) -> Row {
    Row::from([(DOOR.to_string(), Value::text(code))])
}

/// Events kept until they can be counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Learning(Vec<(Timestamp, Row)>);

impl Learning {
    pub fn push(&mut self, start: Timestamp, row: Row) {
        self.0.push((start, row));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn take(&mut self) -> Vec<(Timestamp, Row)> {
        std::mem::take(&mut self.0)
    }

    /// The columns that these events suggest.
    pub fn columns(&self) -> Columns {
        let taken = || self.0.iter().map(|(_, r)| r).filter(|r| r.len() > 1);
        let names: BTreeSet<&String> = taken().flat_map(|r| r.keys()).collect();
        let mut out = Columns { known: true, ..Columns::default() };
        let mut numbers = Vec::new();
        let values = |name: &str| taken().filter_map(|r| r.get(name).cloned()).collect::<Vec<Value>>();
        for name in names {
            let all = values(name);
            if all.iter().any(|v| v.as_str().is_some()) || name.starts_with('@') {
                let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
                all.iter().filter_map(Value::as_str).for_each(|t| *counts.entry(t).or_default() += 1);
                if counts.len() <= SLICES && name.starts_with('@') {
                    out.slices.extend(counts.keys().map(|v| (name.clone(), (*v).to_string())));
                }
                // An id: what matters is how many are new and how long they are.
                if counts.len() > all.len().max(MANY) / 4 {
                    out.ids.insert(name.clone(), BTreeSet::new());
                    out.add(name, Part::New, Binning::category(&BTreeMap::from([("known", 1), ("new", 1)])));
                    let lengths = counts.keys().map(|t| t.chars().count() as f64).collect();
                    out.add(name, Part::Length, Binning::numeric(lengths));
                } else {
                    out.add(name, Part::Value, Binning::category(&counts));
                }
            } else {
                let binning = Binning::numeric(all.iter().filter_map(Value::as_f64).collect());
                out.add(name, Part::Value, binning.clone());
                if name != HOUR {
                    numbers.push((name.clone(), binning));
                }
            }
        }
        for (name, binning) in numbers {
            for slice in 0..out.slices.len() {
                out.add(&name, Part::Slice(slice), binning.clone());
            }
        }
        out
    }
}

/// What of a row is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Value,
    /// The value, of rows of one slice only.
    Slice(usize),
    /// Whether the text was seen before.
    New,
    /// Characters.
    Length,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    known: bool,
    columns: Vec<(String, Part, Binning)>,
    /// (column, value): rows that are counted apart.
    slices: Vec<(String, String)>,
    /// Hashes of ids seen, by column.
    ids: BTreeMap<String, BTreeSet<u64>>,
}

impl Columns {
    fn add(&mut self, name: &str, part: Part, binning: Binning) {
        if self.columns.len() < MAX_COLUMNS {
            self.columns.push((name.into(), part, binning));
        }
    }

    pub fn known(&self) -> bool {
        self.known
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn binning(&self, i: usize) -> &Binning {
        &self.columns[i].2
    }

    /// All rows, then each slice.
    pub fn slices(&self) -> usize {
        1 + self.slices.len()
    }

    pub fn slice_name(&self, slice: usize) -> String {
        slice.checked_sub(1).map_or_else(String::new, |i| {
            let (key, value) = &self.slices[i];
            format!(" where {}={value}", key.trim_start_matches('@'))
        })
    }

    pub fn name(&self, i: usize) -> String {
        let (name, part, _) = &self.columns[i];
        let name = name.trim_start_matches('@');
        match part {
            Part::Value => name.to_string(),
            Part::Slice(s) => format!("{name}{}", self.slice_name(s + 1)),
            Part::New => format!("{name} (new)"),
            Part::Length => format!("{name} (length)"),
        }
    }

    pub fn blank(&self) -> Vec<Vec<u32>> {
        self.columns.iter().map(|(_, _, b)| vec![0; b.bins()]).collect()
    }

    pub fn count(&mut self, row: &Row, counts: &mut [Vec<u32>], volumes: &mut [u32]) {
        let taken = row.len() > 1;
        let inside = |(key, value): &(String, String)| row.get(key).and_then(Value::as_str) == Some(value.as_str());
        let slices: Vec<bool> = self.slices.iter().map(inside).collect();
        if taken {
            volumes[0] += 1;
            slices.iter().zip(&mut volumes[1..]).for_each(|(inside, n)| *n += u32::from(*inside));
        }
        let new: BTreeMap<&str, bool> = self
            .ids
            .iter_mut()
            .filter_map(|(name, known)| {
                let text = row.get(name)?.as_str()?;
                let hash = fixed_hash::of_parts([text.as_bytes()]) as u64;
                Some((name.as_str(), if known.len() < MAX_IDS { known.insert(hash) } else { !known.contains(&hash) }))
            })
            .collect();
        for ((name, part, binning), counts) in self.columns.iter().zip(counts) {
            // What was not taken says only that.
            if !taken && name != DOOR {
                continue;
            }
            let value = row.get(name);
            let bin = match part {
                Part::Slice(s) if !slices[*s] => continue,
                Part::Value | Part::Slice(_) => value.map_or(MISSING, |v| binning.of(v)),
                Part::New => match new.get(name.as_str()) {
                    Some(new) => binning.of(&Value::text(if *new { "new" } else { "known" })),
                    None => MISSING,
                },
                Part::Length => match value.and_then(Value::as_str) {
                    Some(t) => binning.of(&Value::Int(t.chars().count() as i64)),
                    None => MISSING,
                },
            };
            counts[bin] += 1;
        }
    }
}
