//! What is counted of an event type, learnt from its first events.

use super::cells::{Cell, DELAY, DOOR, HOUR, cell, names};
use crate::drift::{Binning, MISSING};
use crate::event::LoggedEvent;
use crate::fixed_hash;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An entity key or text with at most this many values cuts the numbers into slices.
const SLICES: usize = 20;
/// Text with more different values than a quarter of its events is an id: its values are not counted.
const MANY: usize = 20;
/// Ids remembered of each key, to tell known from new ones.
const MAX_IDS: usize = 1 << 16;
/// Columns of one event type.
const MAX_COLUMNS: usize = 256;
/// Stands for the id of an entity that was erased.
const ERASED: &str = "(erased)";

/// An event before its type's columns are known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Kept {
    Taken(Box<LoggedEvent>),
    /// Why it was not.
    Refused(String),
}

/// Events kept until they can be counted, with the start of their window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Learning(Vec<(Timestamp, Kept)>);

impl Learning {
    pub fn push(&mut self, start: Timestamp, kept: Kept) {
        self.0.push((start, kept));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn take(&mut self) -> Vec<(Timestamp, Kept)> {
        std::mem::take(&mut self.0)
    }

    /// Drops what names the entity.
    pub fn forget(&mut self, keys: &[String], ids: &[String]) {
        let named = |e: &LoggedEvent| {
            keys.iter().zip(ids).all(|(k, id)| e.event.entities.get(k).and_then(Option::as_deref) == Some(id))
        };
        self.0.retain(|(_, kept)| !matches!(kept, Kept::Taken(e) if named(e)));
    }

    /// The columns that these events suggest.
    pub fn columns(&self) -> Columns {
        let taken: Vec<&LoggedEvent> = self
            .0
            .iter()
            .filter_map(|(_, kept)| match kept {
                Kept::Taken(e) => Some(&**e),
                Kept::Refused(_) => None,
            })
            .collect();
        let fields: BTreeSet<String> = taken.iter().flat_map(|e| names(e)).collect();
        let mut out = Columns { known: true, ..Columns::default() };
        let mut numbers = Vec::new();
        for name in fields {
            let texts: Vec<&str> = taken.iter().filter_map(|e| cell(e, &name).text()).collect();
            if texts.is_empty() && !name.starts_with('@') {
                let values: Vec<f64> = taken.iter().filter_map(|e| cell(e, &name).number()).collect();
                numbers.push((name, Binning::whole(&values).unwrap_or_else(|| Binning::numeric(values))));
                continue;
            }
            let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
            texts.iter().for_each(|t| *counts.entry(t).or_default() += 1);
            if counts.len() <= SLICES && name.starts_with('@') {
                out.slices.extend(counts.keys().map(|v| (name.clone(), (*v).to_string())));
            }
            // An id: what matters is how many are new and how long they are.
            if counts.len() > texts.len().max(MANY) / 4 {
                out.ids.insert(name.clone(), BTreeSet::new());
                out.add(&name, Part::New, Binning::category(&BTreeMap::from([("known", 1), ("new", 1)])));
                let lengths = counts.keys().map(|t| t.chars().count() as f64).collect();
                out.add(&name, Part::Length, Binning::numeric(lengths));
            } else {
                out.add(&name, Part::Value, Binning::category(&counts));
            }
        }
        // Whole columns first: where there are too many, slices are left out.
        let sliced = |name: &str| if name == HOUR { 0 } else { out.slices.len() };
        let room = (MAX_COLUMNS.saturating_sub(out.columns.len() + numbers.len())) / numbers.len().max(1);
        let slices: Vec<usize> = numbers.iter().map(|(name, _)| sliced(name).min(room)).collect();
        for ((name, binning), slices) in numbers.into_iter().zip(slices) {
            out.add(&name, Part::Value, binning.clone());
            for slice in 0..slices {
                out.add(&name, Part::Slice(slice as u16), binning.clone());
            }
        }
        out
    }
}

/// What of an event is counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Part {
    Value,
    /// The value, of events of one slice only.
    Slice(u16),
    /// Whether the text was seen before.
    New,
    /// Characters.
    Length,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Column {
    pub name: String,
    pub part: Part,
    pub binning: Binning,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Columns {
    known: bool,
    /// A field's slices follow it.
    columns: Vec<Column>,
    /// (field, value): events that are counted apart.
    slices: Vec<(String, String)>,
    /// Hashes of ids seen, by field.
    ids: BTreeMap<String, BTreeSet<u64>>,
}

impl Columns {
    fn add(&mut self, name: &str, part: Part, binning: Binning) {
        if self.columns.len() < MAX_COLUMNS {
            self.columns.push(Column { name: name.into(), part, binning });
        }
    }

    pub fn known(&self) -> bool {
        self.known
    }

    pub fn all(&self) -> &[Column] {
        &self.columns
    }

    /// All events, then each slice.
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
        let Column { name, part, .. } = &self.columns[i];
        let name = name.trim_start_matches('@');
        match part {
            Part::Value => name.to_string(),
            Part::Slice(s) => format!("{name}{}", self.slice_name(usize::from(*s) + 1)),
            Part::New => format!("{name} (new)"),
            Part::Length => format!("{name} (length)"),
        }
    }

    /// A number that the world moves; not a category, an id, or its delay.
    pub fn is_measure(&self, i: usize) -> bool {
        let Column { name, part, binning } = &self.columns[i];
        let value = matches!(part, Part::Value | Part::Slice(_)) && matches!(binning, Binning::Numeric { .. });
        value && name != DELAY
    }

    /// The length of an id; whether the id is new stands in the column before.
    pub fn is_length(&self, i: usize) -> bool {
        self.columns[i].part == Part::Length
    }

    /// The column of all events, for that of a slice.
    pub fn whole(&self, i: usize) -> Option<usize> {
        let column = &self.columns[i];
        let of = |c: &Column| c.name == column.name && c.part == Part::Value;
        if matches!(column.part, Part::Slice(_)) { self.columns.iter().position(of) } else { None }
    }

    pub fn blank(&self) -> Vec<Vec<u32>> {
        self.columns.iter().map(|c| vec![0; c.binning.bins()]).collect()
    }

    /// Counts a taken event: `counts` by column, `volumes` by slice.
    pub fn count(&mut self, e: &LoggedEvent, counts: &mut [Vec<u32>], volumes: &mut [u32]) {
        volumes[0] += 1;
        let mut inside = vec![false; self.slices.len()];
        for (i, (key, value)) in self.slices.iter().enumerate() {
            inside[i] = cell(e, key).text() == Some(value);
            volumes[i + 1] += u32::from(inside[i]);
        }
        let new: BTreeMap<&str, bool> = self
            .ids
            .iter_mut()
            .filter_map(|(name, known)| {
                let hash = fixed_hash::of_parts([cell(e, name).text()?.as_bytes()]) as u64;
                Some((name.as_str(), if known.len() < MAX_IDS { known.insert(hash) } else { !known.contains(&hash) }))
            })
            .collect();
        // Slices follow their field: value and bin are looked up once for all of them.
        let (mut field, mut value, mut binned) = ("", Cell::Absent, None);
        for (Column { name, part, binning }, counts) in self.columns.iter().zip(counts) {
            if name != field {
                (field, value, binned) = (name, cell(e, name), None);
            }
            let bin = match part {
                Part::Slice(s) if !inside[usize::from(*s)] => continue,
                Part::Value | Part::Slice(_) => *binned.get_or_insert_with(|| value.bin(binning)),
                Part::New => match new.get(name.as_str()) {
                    Some(new) => binning.of_text(if *new { "new" } else { "known" }),
                    None => MISSING,
                },
                Part::Length => value.text().map_or(MISSING, |t| binning.of_number(t.chars().count() as f64)),
            };
            counts[bin] += 1;
        }
    }

    /// Counts an event that was not taken: it says only that.
    pub fn count_refused(&self, code: &str, counts: &mut [Vec<u32>]) {
        let door = self.columns.iter().zip(counts).find(|(c, _)| c.name == DOOR);
        if let Some((column, counts)) = door {
            counts[column.binning.of_text(code)] += 1;
        }
    }

    /// Takes the ids of an erased entity out of the names that are counted by.
    pub fn forget(&mut self, keys: &[String], ids: &[String]) {
        for (key, id) in keys.iter().zip(ids) {
            let name = format!("@{key}");
            self.slices.iter_mut().filter(|(k, v)| *k == name && v == id).for_each(|(_, v)| *v = ERASED.into());
            for column in self.columns.iter_mut().filter(|c| c.name == name || c.name == *key) {
                if let Binning::Category { names } = &mut column.binning {
                    names.iter_mut().filter(|n| *n == id).for_each(|n| *n = ERASED.into());
                }
            }
        }
    }
}
